"""Methods over prepared recordings, by a protocol; every window and every recording ends up in a file.

    results = run(PROTOCOLS["reference"], load_method("pos"), open_cached("cache"), Path("runs/mine"))

A run directory holds one protocol and one set of recordings, and any number of methods, one after the other. What is
there already is kept: a killed evaluation goes on by the same call and ends with the same bytes. Nets are not trained
here; the nets of a protocol's folds come in as ``{fold: Method}``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from autohr.errors import AutoHRError, BadRecipe, BadRecording, BadWeights, SignalTooShort, UnknownName
from autohr.files import read_json
from autohr.frontend import CropConfig
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.cache import CachedRecording, Entry, open_cached
from autohr.lab.datasets.manifest import DatasetManifest, prepare_dataset
from autohr.lab.datasets.recording import Absent
from autohr.lab.evaluate.protocols import PROTOCOLS, Protocol, folds_of, layout
from autohr.lab.evaluate.results import (
    SCHEMA,
    Account,
    MethodInfo,
    Results,
    State,
    WindowResult,
    method_folder,
    read_method,
    read_method_results,
    write_method,
    write_recording,
    written_account,
)
from autohr.lab.runs import CONFIG, Run, create_run
from autohr.methods import Method, shipped_weights
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float

SHIFT_S = 0.5
"""A window may be moved, or shortened, by so much to lie within what was kept of a recording: references begin and end
some frames away from their videos. Ours: half a second of ten changes a mean rate by less than a beat."""

Progress = Callable[[int, int, Account], None]
"""(recordings done, recordings there are, what became of the last one)."""


@dataclass(frozen=True)
class _Task:
    """One recording with all that is known of it."""

    id: str
    segments: tuple[CachedRecording, ...]
    entry: Entry | None
    fold: int | None


@dataclass(frozen=True)
class _Place:
    """One window of the protocol, and where it lies in the cache; or why it does not."""

    start_s: float
    end_s: float
    segment: CachedRecording | None = None
    first: int = 0
    n_frames: int = 0
    why: str | None = None


def crop_of(protocol: Protocol, method: Method | Mapping[int, Method]) -> CropConfig:
    """The crops that a method must be given: a net's own, the protocol's for a formula.

    Raises:
        BadWeights: the nets of the folds were trained with different crops.
    """
    methods = list(method.values()) if isinstance(method, Mapping) else [method]
    crops = {(one.crop.stored_px, one.crop.box, one.crop.margin) for one in methods if one.crop is not None}
    if not crops:
        return protocol.crop
    if len(crops) > 1:
        raise BadWeights(f"The folds' nets were trained with different crops, {sorted(crops)}; train them alike.")
    size_px, box, margin = crops.pop()
    return CropConfig(size_px=size_px, box=box, margin=margin)


def run(
    protocol: Protocol | str,
    method: Method | Mapping[int, Method],
    recordings: Sequence[CachedRecording],
    out: Path,
    *,
    entries: Iterable[Entry] = (),
    absent: Iterable[Absent] = (),
    crop: CropConfig | None = None,
    label: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Evaluate one method; what ``out`` already has of it is kept.

    Args:
        protocol: one of ``PROTOCOLS``, or your own.
        method: ready to be called (``load_method``); or one for each fold of a k-fold protocol, ``{1: ..., 2: ...}``.
            Folds that are not given stay pending, to be evaluated by a later call.
        recordings: from ``open_cached``, with the crops of ``crop_of(protocol, method)``.
        out: run directory, new or of the same protocol and recordings.
        entries: of the manifest: the excluded ones are accounted for too, and every recording's full length is known.
        absent: what the dataset's listing misses.
        crop: that the recordings were opened with; ``crop_of(protocol, method)`` if None.
        label: folder and name in tables; the method's name, with its weights unless they are the default ones, if None.
        overwrite: begin anew where ``out`` holds another run.

    Raises:
        UnknownName: no such protocol.
        BadRecipe: ``out`` holds a run of another protocol or of other recordings, or the label other weights; a split
            that cannot be made of these subjects.
        BadRecording: nothing to evaluate, or a subject in two official folds.
        BadWeights: a net that was trained with other crops than these.
    """
    protocol = find_protocol(protocol)
    _refuse_other_crop(protocol, method, crop)
    tasks, gone = _gather(protocol, recordings, list(entries), list(absent))
    expected = {task.id: _digest_of(task) for task in tasks} | {one.id: "absent" for one in gone}
    if not tasks:
        raise BadRecording("There is no recording to evaluate; prepare some with autohr prepare.")
    protocol = _as_stored(protocol, Path(out))
    config = {"schema": SCHEMA, "kind": "evaluation", "protocol": protocol.as_dict(), "recordings": expected}
    run_dir = create_run(Path(out), config, overwrite=overwrite)
    info = _begin(run_dir, method, label)
    folder = method_folder(run_dir.root, info.label)
    if isinstance(method, Mapping) and any(task.fold is None for task in tasks):
        raise BadRecipe(f"Protocol {protocol.name} has no folds, so it takes one {info.name}, not one for each fold.")
    todo = [task for task in tasks if not isinstance(method, Mapping) or task.fold in (0, *method)]
    total = len(todo) + len(gone)
    for done, task in enumerate(todo, 1):
        used = method[task.fold] if isinstance(method, Mapping) and task.fold else method
        weights = info.folds.get(str(task.fold), info.weights)
        stamp = _stamp(protocol, info, weights, expected[task.id])
        account = written_account(folder, task.id, stamp)
        if account is None:
            windows = _evaluate(protocol, task, None if isinstance(used, Mapping) else used, info.label, weights)
            account = _account(task, windows)
            write_recording(folder, account, windows, stamp)
        if progress is not None:
            progress(done, total, account)
    for done, one in enumerate(gone, len(todo) + 1):
        account = Account(one.id, "absent", one.reason, 0, 0, dataset=one.id.split("/")[0])
        stamp = _stamp(protocol, info, None, one.reason)
        if written_account(folder, one.id, stamp) is None:
            write_recording(folder, account, (), stamp)
        if progress is not None:
            progress(done, total, account)
    results = read_method_results(folder, run_dir.config)
    run_dir.log({"event": "evaluated", "method": info.label, **results.counts})
    return results


def evaluate_dataset(
    dataset: str,
    root: Path,
    methods: Sequence[Method],
    protocol: Protocol | str,
    out: Path,
    *,
    cache: Path = Path("cache"),
    labels: Sequence[str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    preparing: Callable[[int, int, Entry], None] | None = None,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Results, ...]:
    """Prepare a dataset as each method needs it, and evaluate them all: a folder in, results out.

    Args:
        dataset: a name of ``DATASETS``.
        cache: for the crops; what is there already is not made again.
        labels: of the methods in the results, one for each; if None, as ``run`` makes them, with folders of the weights
            where two would be alike.
        preparing: called with (done, total, entry) while faces are looked for.
        judging: called with (label, done, total, account) after each recording of each method.
        failing: called with (label, reason) for each method that fails; the others are evaluated all the same. If None,
            the first error ends it.
        say: called with one line for each recording that is left out or missing, and for each note on the copy.

    Raises:
        AutoHRError: as ``prepare_dataset`` and ``run``; with ``failing`` only where every method fails.
    """
    if dataset not in DATASETS:
        raise UnknownName("dataset", dataset, DATASETS)
    protocol = find_protocol(protocol)
    _refuse_foreign(protocol, [dataset])
    labels = labels_of(methods) if labels is None else labels
    prepared: dict[CropConfig, DatasetManifest] = {}

    def evaluate(method: Method, label: str, overwrite: bool) -> Results:
        crop = crop_of(protocol, method)
        if crop not in prepared:
            prepared[crop] = prepare_dataset(
                DATASETS[dataset], Path(root), cache, crop, workers=workers, progress=preparing
            )
            if say is not None and len(prepared) == 1:
                _say_what_is_missing(prepared[crop], say)
        manifest = prepared[crop]
        known = {entry.id for entry in manifest.entries}
        opened = open_cached(cache, crop, datasets={entry.dataset for entry in manifest.entries}) if known else []
        return run(
            protocol,
            method,
            [one for one in opened if one.recording_id in known],
            out,
            entries=manifest.entries,
            absent=manifest.absent,
            label=label,
            overwrite=overwrite,
            progress=None if judging is None else partial(judging, label),
        )

    results: list[Results] = []
    failures: dict[str, AutoHRError] = {}
    for method, label in zip(methods, labels, strict=True):
        try:
            results.append(evaluate(method, label, overwrite and not results))
        except AutoHRError as error:
            if failing is None:
                raise
            failures[label] = error
    if failures and not results:
        raise next(iter(failures.values()))
    for label, failure in failures.items():
        assert failing is not None
        failing(label, str(failure))
    return tuple(results)


def labels_of(methods: Sequence[Method]) -> list[str]:
    """Return the label of each method in results, no two alike.

    A network has its name and the stem of its weights, as in "autohr-best"; where two weights have one stem, folders
    of their paths precede it, as many as it takes: "autohr-s0-checkpoints-best" and "autohr-s1-checkpoints-best".
    """
    labels = [_label(method, False) for method in methods]
    for number, label in enumerate(list(labels)):
        twins = [k for k, other in enumerate(labels) if other == label]
        if len(twins) < 2 or methods[number].weights is None:
            continue
        parts = [Path(str(methods[k].weights)).resolve().with_suffix("").parts for k in twins]
        depth = next(
            (n for n in range(2, 1 + max(map(len, parts))) if len({one[-n:] for one in parts}) == len(parts)), 1
        )
        for k, one in zip(twins, parts, strict=True):
            labels[k] = _plain(f"{methods[k].name}-{'-'.join(one[-depth:])}")
    # Labels are cut to 80 characters, and files may differ in their suffix alone.
    seen: dict[str, int] = {}
    for k, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            labels[k] = f"{label[:76]}-{seen[label]}"
    return labels


def _say_what_is_missing(manifest: DatasetManifest, say: Callable[[str], None]) -> None:
    for entry in manifest.excluded:
        say(f"Excluded {entry.id}: {entry.reason}")
    for one in manifest.absent:
        say(f"Absent {one.id}: {one.reason}")
    for note in manifest.notes:
        say(f"Note: {note}")


def find_protocol(protocol: Protocol | str) -> Protocol:
    """Raises UnknownName where ``PROTOCOLS`` has none of that name."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]


def _refuse_other_crop(protocol: Protocol, method: Method | Mapping[int, Method], crop: CropConfig | None) -> None:
    needed = crop_of(protocol, method)
    methods = list(method.values()) if isinstance(method, Mapping) else [method]
    if crop is not None and crop != needed and any(one.crop is not None for one in methods):
        raise BadWeights(f"The net was trained with {needed}, these recordings have {crop}; open them with its crop.")


def _gather(
    protocol: Protocol, recordings: Sequence[CachedRecording], entries: list[Entry], absent: list[Absent]
) -> tuple[list[_Task], list[Absent]]:
    """Every recording of the protocol's datasets, in order of id, with its segments and its fold."""
    segments: dict[str, list[CachedRecording]] = {}
    for one in recordings:
        segments.setdefault(one.recording_id, []).append(one)
    known = {entry.id: entry for entry in entries}
    ids = sorted(set(segments) | set(known))
    _refuse_foreign(protocol, ((known[one] if one in known else segments[one][0]).dataset for one in ids))
    folds = folds_of(protocol, {one: known[one] if one in known else segments[one][0] for one in ids})
    tasks = [
        _Task(one, tuple(sorted(segments.get(one, ()), key=lambda part: part.segment)), known.get(one), folds[one])
        for one in ids
    ]
    return tasks, sorted(absent, key=lambda one: one.id)


def _refuse_foreign(protocol: Protocol, datasets: Iterable[str]) -> None:
    strangers = sorted(set(datasets) - set(protocol.datasets)) if protocol.datasets else []
    if strangers:
        raise BadRecipe(
            f"Protocol {protocol.name} is for {', '.join(protocol.datasets)}; these recordings are of "
            f"{', '.join(strangers)}. Choose another protocol, such as reference."
        )


def _as_stored(protocol: Protocol, out: Path) -> Protocol:
    """Return the protocol with the words of the run in ``out``, where they are all that differs.

    An evaluation that an earlier version began goes on although a title or a source is worded otherwise now.
    """
    stored = read_json(out / CONFIG).get("protocol") if (out / CONFIG).is_file() else None
    if not isinstance(stored, dict):
        return protocol
    words = {name: stored[name] for name in ("title", "source", "sure") if isinstance(stored.get(name), str)}
    worded = replace(protocol, **words)
    return worded if json.loads(json.dumps(worded.as_dict())) == stored else protocol


def _begin(run_dir: Run, method: Method | Mapping[int, Method], label: str | None) -> MethodInfo:
    """Write, or check, which method the folder is of."""
    methods = dict(sorted(method.items())) if isinstance(method, Mapping) else {0: method}
    if not methods:
        raise ValueError("method is an empty mapping; give at least one fold's net.")
    first = next(iter(methods.values()))
    if any(one.name != first.name for one in methods.values()):
        raise ValueError(f"The folds' methods differ: {sorted({one.name for one in methods.values()})}.")
    folds = {str(fold): one.weights for fold, one in methods.items()} if isinstance(method, Mapping) else {}
    digests = {one.weights: _file_digest(one.weights) for one in methods.values() if one.weights is not None}
    info = MethodInfo(
        label=label or _label(first, bool(folds)),
        name=first.name,
        title=first.title,
        weights=None if folds else first.weights,
        folds=folds,
        digests=digests,
    )
    folder = method_folder(run_dir.root, info.label)
    for litter in folder.glob(".*.part"):
        litter.unlink()
    if (folder / "method.json").exists():
        before = read_method(folder)
        if (before.name, before.weights, bool(before.folds)) != (info.name, info.weights, bool(info.folds)) or any(
            mine.get(key, value) != value
            for mine, theirs in ((folds, before.folds), (digests, before.digests))
            for key, value in theirs.items()
        ):
            raise BadRecipe(
                f"{str(folder)!r} holds results of {before.name} with other weights "
                f"({before.weights or dict(before.folds) or 'none'}). Give this method another label, "
                "or name another folder for the results."
            )
        info = replace(info, folds={**before.folds, **folds}, digests={**before.digests, **digests})
        if info == before:
            return info
    write_method(folder, info)
    return info


def _label(method: Method, of_folds: bool) -> str:
    if of_folds or method.weights in (None, method.name):
        return method.name
    return _plain(f"{method.name}-{Path(str(method.weights)).stem}")


def _plain(label: str) -> str:
    """The label as it can name a folder."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", label)[:80]


def _file_digest(weights: str) -> str:
    path = shipped_weights().get(weights, Path(weights))
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _digest_of(task: _Task) -> str:
    """Of the clock, the label and the place of what is kept of a recording; pictures are not read."""
    digest = hashlib.sha256()
    for part in task.segments:
        digest.update(f"{part.start_s:.6f} {part.fps:.9f} {part.n_frames}".encode())
        for values in (part.bvp, part.hr_bpm):
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
    if task.entry is not None:
        said = f"{task.entry.start_s} {task.entry.duration_s} {task.entry.reason}"
        digest.update(said.encode("utf-8", "surrogatepass"))
    groups = (task.entry or task.segments[0]).groups
    digest.update(json.dumps([task.fold, sorted(groups.items())]).encode())
    return digest.hexdigest()[:16]


def _stamp(protocol: Protocol, info: MethodInfo, weights: str | None, content: str) -> dict[str, str]:
    """What the results of one recording depend on."""
    said = [protocol.as_dict(), info.name, weights, info.digests.get(weights or "")]
    return {"content": content, "made_by": hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}


def _evaluate(
    protocol: Protocol, task: _Task, method: Method | None, label: str, weights: str | None
) -> list[WindowResult]:
    """Every window of one recording. None of a recording that is only trained on."""
    if task.fold == 0:
        return []
    assert method is not None
    return [_read(place, task, method, label, weights) for place in _places(protocol, task)]


def _places(protocol: Protocol, task: _Task) -> list[_Place]:
    """The protocol's windows of one recording, in order of time."""
    start_s, end_s = _extent(task)
    reason = task.entry.reason if task.entry is not None and task.entry.reason else None
    if protocol.window_s is None:
        kept = [
            _Place(part.start_s, part.start_s + part.n_frames / part.fps, part, 0, part.n_frames)
            for part in task.segments
        ]
        edges_s = [start_s, *(edge_s for place in kept for edge_s in (place.start_s, place.end_s)), end_s]
        why = reason or "no face, no frames or no reference here"
        lost = [
            _Place(from_s, to_s, why=why)
            for from_s, to_s in zip(edges_s[::2], edges_s[1::2], strict=True)
            if to_s - from_s >= protocol.least_s or (not kept and to_s > from_s)
        ]
        return sorted(kept + lost, key=lambda place: place.start_s)
    return [
        _place(start_s + from_s, start_s + to_s, task, reason) for from_s, to_s in layout(protocol, end_s - start_s)
    ]


def _place(start_s: float, end_s: float, task: _Task, reason: str | None) -> _Place:
    for part in task.segments:
        wanted, slack = round((end_s - start_s) * part.fps), SHIFT_S * part.fps
        n_frames = min(wanted, part.n_frames)
        first = round((start_s - part.start_s) * part.fps)
        moved = min(max(first, 0), part.n_frames - n_frames)
        if abs(moved - first) <= slack and wanted - n_frames <= slack:
            from_s = part.start_s + moved / part.fps
            return _Place(from_s, from_s + n_frames / part.fps, part, moved, n_frames)
    why = reason or "no face, no frames or no reference in part of it"
    return _Place(start_s, end_s, why=why)


def _extent(task: _Task) -> tuple[float, float]:
    """Time of the first frame, and of the end of the last one. Without an entry, of what was kept."""
    if task.entry is not None and (task.entry.duration_s > 0 or not task.segments):
        entry = task.entry
        return entry.start_s, entry.start_s + entry.duration_s + (1 / entry.fps if entry.fps else 0.0)
    return (
        min(part.start_s for part in task.segments),
        max(part.start_s + part.n_frames / part.fps for part in task.segments),
    )


def _read(place: _Place, task: _Task, method: Method, label: str, weights: str | None) -> WindowResult:
    """What the method says of one window."""
    known = task.entry or task.segments[0]
    blank = WindowResult(
        recording_id=task.id,
        dataset=known.dataset,
        subject=known.subject,
        session=known.session,
        fold=task.fold,
        groups=dict(known.groups),
        start_s=round(place.start_s, 6),
        end_s=round(place.end_s, 6),
        fps=place.segment.fps if place.segment is not None else task.entry.fps if task.entry is not None else 0.0,
        bvp=None,
        hr_bpm=None,
        confidence=0.0,
        reliable=False,
        snr_db=None,
        why=place.why,
        true_bvp=None,
        true_hr_bpm=None,
        true_wave_hr_bpm=None,
        method=label,
        weights=weights,
    )
    part = place.segment
    if part is None:
        return blank
    span = slice(place.first, place.first + place.n_frames)
    rates = part.hr_bpm[span]
    bvp = np.asarray(part.bvp[span], dtype=np.float64)
    has_wave = bool(np.isfinite(bvp).all())
    told = replace(
        blank,
        true_bvp=bvp if has_wave else None,
        true_hr_bpm=float(rates.mean()) if np.isfinite(rates).all() else None,
        true_wave_hr_bpm=_rate(bvp, part.fps) if has_wave else None,
    )
    try:
        clip = part.face_clip(place.first, place.n_frames, crop=None if method.crop is None else method.crop.size_px)
        said = method(clip)
    except SignalTooShort as short:
        return replace(told, why=str(short))
    why = said.why_unreliable
    if told.true_hr_bpm is None:
        why = "the reference rate is not known in part of it"
    return replace(
        told,
        bvp=said.pulse.bvp if said.pulse is not None else None,
        hr_bpm=said.hr_bpm,
        confidence=said.confidence,
        reliable=said.reliable,
        snr_db=said.snr_db,
        why=why,
    )


def _rate(bvp: Float, fps: float) -> float | None:
    try:
        return estimate_heart_rate(bvp, fps).hr_bpm
    except SignalTooShort:
        return None


def _account(task: _Task, windows: Sequence[WindowResult]) -> Account:
    known = task.entry or task.segments[0]
    n_scored = sum(window.scored for window in windows)
    reason: str | None = None
    state: State
    if task.fold == 0:
        state, reason = "training", "in a part of the split that is only trained on"
    elif task.entry is not None and task.entry.state == "excluded":
        state, reason = "excluded", task.entry.reason
    elif n_scored:
        state = "scored"
    else:
        state = "unscored"
        reason = next((window.why for window in windows if window.why is not None), None)
        reason = reason or "shorter than a window of the protocol"
    return Account(
        recording_id=task.id,
        state=state,
        reason=reason,
        n_windows=len(windows),
        n_scored=n_scored,
        dataset=known.dataset,
        subject=known.subject,
        groups=dict(known.groups),
    )
