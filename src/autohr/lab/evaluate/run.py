"""Methods over prepared recordings, by a protocol; every window and every recording ends up in a file.

    results = run(PROTOCOLS["reference"], load_method("pos"), open_cached("cache"), Path("runs/mine"))

A run directory holds one protocol and one set of recordings, and any number of methods, one after the other. What is
there already is kept: a killed evaluation goes on by the same call and ends with the same bytes. Nets are not trained
here; the nets of a protocol's folds come in as ``{fold: Method}``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from autohr.cluster import share_out
from autohr.errors import BadRecipe, BadRecording, BadWeights, SignalTooShort, UnknownName, WorkerDied
from autohr.files import read_json_object
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
from autohr.lab.evaluate.rows import make_rows
from autohr.lab.runs import CONFIG, Run, create_run
from autohr.methods import METHODS, Method, find_weights, load_method, shipped_weights
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float
from autohr.workers import Report

SHIFT_S = 0.5
"""Seconds by which a window may be moved, or shortened, to lie within what was kept of a recording: references begin
and end some frames away from their videos. Ours: half a second of ten changes a mean rate by less than a beat."""

Progress = Callable[[int, int, Account], None]
"""Function (recordings done, recordings there are, account of the last one)."""

Methods = Method | Mapping[int, Method]
"""One method, or one for each fold of a protocol with folds."""


@dataclass(frozen=True)
class _Task:
    """One recording with all that is known of it."""

    id: str
    segments: tuple[CachedRecording, ...]
    entry: Entry | None
    fold: int | None

    @property
    def known(self) -> Entry | CachedRecording:
        return self.entry or self.segments[0]


@dataclass(frozen=True)
class _Place:
    """One window of the protocol and its place in the cache, or the reason for which it has none."""

    start_s: float
    end_s: float
    segment: CachedRecording | None = None
    first: int = 0
    n_frames: int = 0
    why: str | None = None


@dataclass(frozen=True)
class _Job:
    """One recording to ask a method about, or one that is absent."""

    one: _Task | Absent
    weights: str | None
    stamp: Mapping[str, str]

    def lost(self, death: WorkerDied) -> Account:
        """Return the account of a recording that killed its worker twice; it is not written, so as to be tried anew."""
        assert isinstance(self.one, _Task)
        known = self.one.known
        reason = f"not evaluated: {death}, twice; memory may not suffice"
        return Account(self.one.id, "unscored", reason, 0, 0, known.dataset, known.subject, dict(known.groups))


@dataclass(frozen=True)
class _Judge:
    """Asks a method about recordings and writes what it says; called in workers."""

    protocol: Protocol
    folder: Path
    label: str
    method: Methods

    def __call__(self, job: _Job, report: Report) -> Account | Exception:
        try:
            return self.account(job)
        except Exception as error:
            return error

    def account(self, job: _Job) -> Account:
        one, windows = job.one, list[WindowResult]()
        if isinstance(one, Absent):
            account = Account(one.id, "absent", one.reason, 0, 0, dataset=one.id.split("/")[0])
        else:
            if one.fold != 0:
                used = self.method[one.fold or 0] if isinstance(self.method, Mapping) else self.method
                places = _places(self.protocol, one)
                windows = [_read(place, one, used, self.label, job.weights) for place in places]
            account = _account(one, windows)
        write_recording(self.folder, account, windows, job.stamp)
        return account

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: in place of a network that runs from a file, the file."""
        many = dict(self.method) if isinstance(self.method, Mapping) else {0: self.method}
        stored = {fold: _file_of(one) or one for fold, one in many.items()}
        return {**vars(self), "method": stored if isinstance(self.method, Mapping) else stored[0]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load such networks, each once in a process."""
        stored = state["method"]
        many = stored if isinstance(stored, dict) else {0: stored}
        loaded = {fold: _load_once(*one) if isinstance(one, tuple) else one for fold, one in many.items()}
        self.__dict__.update(state, method=loaded if isinstance(stored, dict) else loaded[0])


def _file_of(method: Method) -> tuple[str, str] | None:
    """Return name and weights of a network that runs from an .onnx file; None for all others, whose pickles are small.

    The weights alone have some megabytes, and would be sent with each job.
    """
    if method.weights is None or method.name not in METHODS or METHODS[method.name].package != method.package:
        return None
    path, _ = find_weights(method.name, method.weights)
    return (method.name, method.weights) if path.suffix.lower() == ".onnx" else None


@cache
def _load_once(name: str, weights: str) -> Method:
    return load_method(name, weights)


def crop_of(protocol: Protocol, method: Methods) -> CropConfig:
    """Return the crops that a method must be given: a net's own, the protocol's for a formula.

    Raises BadWeights where the nets of the folds were trained with different crops.
    """
    crops = {one.crop.stored for one in _each(method) if one.crop is not None}
    if len(crops) > 1:
        listed = ", ".join(sorted(str(crop) for crop in crops))
        raise BadWeights(f"The folds' nets were trained with different crops, {listed}; train them alike.")
    return crops.pop() if crops else protocol.crop


def find_protocol(protocol: Protocol | str) -> Protocol:
    """Return a protocol by its name; UnknownName where ``PROTOCOLS`` has none of that name."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]


def run(
    protocol: Protocol | str,
    method: Methods,
    recordings: Sequence[CachedRecording],
    out: Path,
    *,
    entries: Iterable[Entry] = (),
    absent: Iterable[Absent] = (),
    crop: CropConfig | None = None,
    label: str | None = None,
    overwrite: bool = False,
    workers: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Evaluate one method; what ``out`` already has of it is kept.

    Parameters
    ----------
    method
        Ready to be called (``load_method``); or one for each fold of a k-fold protocol, ``{1: ..., 2: ...}``. Folds
        that are not given stay pending, to be evaluated by a later call.
    recordings, crop
        From ``open_cached``, with the crops of ``crop_of(protocol, method)``, or with ``crop``.
    out, overwrite
        Run directory, new or of the same protocol and recordings; with ``overwrite`` another run in it is removed.
    entries, absent
        The manifest's entries, excluded ones included, and recordings that the dataset's listing misses.
    workers, cluster
        Processes of this machine that ask the method side by side, or the address of a scheduler whose workers do
        (``autohr.cluster``). A recording that kills its worker twice has no results, with the reason, and the next call
        tries it anew.
    label
        Folder, and name in tables; if None the method's name, with its weights unless they are the default ones.

    Raises
    ------
    BadRecipe
        ``out`` holds a run of another protocol or of other recordings, or the label other weights; or the split cannot
        be made of these subjects.
    BadRecording, BadWeights
        There is nothing to evaluate, or a subject is in two official folds; a net was trained with other crops.
    """
    protocol = find_protocol(protocol)
    needed = crop_of(protocol, method)
    if crop is not None and crop != needed and any(one.crop is not None for one in _each(method)):
        raise BadWeights(f"The net was trained with {needed}, these recordings have {crop}; open them with its crop.")
    tasks, gone = _tasks(protocol, recordings, entries), sorted(absent, key=lambda one: one.id)
    expected = {task.id: _content_digest(task) for task in tasks} | {one.id: "absent" for one in gone}
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
    everything: list[_Task | Absent] = [*todo, *gone]
    judge = _Judge(protocol, folder, info.label, method)
    jobs: list[_Job] = []
    n_done = 0

    def note(account: Account) -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(n_done, len(everything), account)

    for one in everything:
        weights = None if isinstance(one, Absent) else info.folds.get(str(one.fold), info.weights)
        stamp = _stamp(protocol, info, weights, one.reason if isinstance(one, Absent) else expected[one.id])
        account = written_account(folder, one.id, stamp)
        if account is None:
            jobs.append(_Job(one, weights, stamp))
        else:
            note(account)
    outcomes = share_out(judge, jobs, workers=workers, cluster=cluster)
    lost: list[Account] = []
    with contextlib.closing(outcomes):
        for number, outcome in outcomes:
            if isinstance(outcome, WorkerDied):
                outcome = jobs[number].lost(outcome)
                lost.append(outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            note(outcome)
    results = read_method_results(folder, run_dir.config)
    if lost:
        by_id = {one.recording_id: one for one in lost}
        accounts = tuple(by_id.get(one.recording_id, one) for one in results.accounts)
        results = replace(results, accounts=accounts)
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
    cluster: str | None = None,
    overwrite: bool = False,
    preparing: Callable[[int, int, Entry], None] | None = None,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Results, ...]:
    """Prepare a dataset as each method needs it, and evaluate them all: a folder in, results out.

    ``cache`` is the folder of the crops; what is there already is not made again. ``workers`` are processes that look
    for faces and ask the methods, for which there is one unless a number is given; ``cluster`` is a scheduler whose
    workers do both (``autohr.cluster``). The methods have ``labels`` in the
    results, ``labels_of(methods)`` if None. Called are: ``preparing`` with (done, total, entry) while faces are looked
    for; ``judging`` with (label, done, total, account) after each recording of each method; ``failing`` with (label,
    reason) for each method that fails, while the others are evaluated all the same (without it the first error ends the
    evaluation); ``say`` with one line for each recording that is left out or missing, and for each note on the copy.
    """
    if dataset not in DATASETS:
        raise UnknownName("dataset", dataset, DATASETS)
    protocol = find_protocol(protocol)
    _refuse_foreign(protocol, [dataset])
    by_label = dict(zip(labels_of(methods) if labels is None else labels, methods, strict=True))
    prepared: dict[CropConfig, DatasetManifest] = {}
    is_begun = False

    def prepare_crops(crop: CropConfig) -> DatasetManifest:
        if crop not in prepared:
            # Not repaired: that would read the whole cache each time.
            prepared[crop] = prepare_dataset(
                DATASETS[dataset],
                Path(root),
                cache,
                crop,
                workers=workers,
                cluster=cluster,
                progress=preparing,
                repair=False,
            )
            if say is not None and len(prepared) == 1:
                _say_what_is_missing(prepared[crop], say)
        return prepared[crop]

    def evaluate(label: str) -> Results:
        nonlocal is_begun
        crop = crop_of(protocol, by_label[label])
        manifest = prepare_crops(crop)
        known = {entry.id for entry in manifest.entries}
        opened = open_cached(cache, crop, datasets={entry.dataset for entry in manifest.entries}) if known else []
        results = run(
            protocol,
            by_label[label],
            [one for one in opened if one.recording_id in known],
            out,
            entries=manifest.entries,
            absent=manifest.absent,
            label=label,
            overwrite=overwrite and not is_begun,
            workers=workers or 1,
            cluster=cluster,
            progress=None if judging is None else partial(judging, label),
        )
        is_begun = True
        return results

    if failing is None:
        return tuple(map(evaluate, by_label))
    results, failures = make_rows(by_label, evaluate)
    for label, failure in failures.items():
        failing(label, str(failure))
    return tuple(results.values())


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
            labels[k] = _folder_name(f"{methods[k].name}-{'-'.join(one[-depth:])}")
    # Labels are cut to 80 characters, and files may differ in their suffix alone.
    counts: dict[str, int] = {}
    for k, label in enumerate(labels):
        counts[label] = counts.get(label, 0) + 1
        if counts[label] > 1:
            labels[k] = f"{label[:76]}-{counts[label]}"
    return labels


def _label(method: Method, of_folds: bool) -> str:
    if of_folds or method.weights in (None, method.name):
        return method.name
    return _folder_name(f"{method.name}-{Path(str(method.weights)).stem}")


def _folder_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", label)[:80]


def _each(method: Methods) -> Collection[Method]:
    return method.values() if isinstance(method, Mapping) else [method]


def _say_what_is_missing(manifest: DatasetManifest, say: Callable[[str], None]) -> None:
    for entry in manifest.excluded:
        say(f"Excluded {entry.id}: {entry.reason}")
    for one in manifest.absent:
        say(f"Absent {one.id}: {one.reason}")
    for note in manifest.notes:
        say(f"Note: {note}")


def _tasks(protocol: Protocol, recordings: Sequence[CachedRecording], entries: Iterable[Entry]) -> list[_Task]:
    """Return every recording of the protocol's datasets, in order of id, with its segments and its fold."""
    segments: dict[str, list[CachedRecording]] = {}
    for one in recordings:
        segments.setdefault(one.recording_id, []).append(one)
    by_id = {entry.id: entry for entry in entries}
    known = {one: by_id[one] if one in by_id else segments[one][0] for one in sorted({*segments, *by_id})}
    _refuse_foreign(protocol, (recording.dataset for recording in known.values()))
    folds = folds_of(protocol, known)
    return [
        _Task(one, tuple(sorted(segments.get(one, ()), key=lambda part: part.segment)), by_id.get(one), folds[one])
        for one in known
    ]


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
    stored = read_json_object(out / CONFIG).get("protocol") if (out / CONFIG).is_file() else None
    if not isinstance(stored, dict):
        return protocol
    keys = {"title": "title", "source": "source", "basis": "sure"}
    words = {name: stored[key] for name, key in keys.items() if isinstance(stored.get(key), str)}
    worded = replace(protocol, **words)
    return worded if json.loads(json.dumps(worded.as_dict())) == stored else protocol


def _begin(run_dir: Run, method: Methods, label: str | None) -> MethodInfo:
    """Write which method the folder is of, or check that it is this one."""
    methods = dict(sorted(method.items())) if isinstance(method, Mapping) else {0: method}
    if not methods:
        raise ValueError("method is an empty mapping; give at least one fold's net.")
    first = next(iter(methods.values()))
    if any(one.name != first.name for one in methods.values()):
        raise ValueError(f"The folds' methods differ: {sorted({one.name for one in methods.values()})}.")
    folds = {str(fold): one.weights for fold, one in methods.items()} if isinstance(method, Mapping) else {}
    info = MethodInfo(
        label=label or _label(first, bool(folds)),
        name=first.name,
        title=first.title,
        weights=None if folds else first.weights,
        folds=folds,
        digests={one.weights: _file_digest(one.weights) for one in methods.values() if one.weights is not None},
    )
    folder = method_folder(run_dir.root, info.label)
    for litter in folder.glob(".*.part"):
        litter.unlink(missing_ok=True)
    if (folder / "method.json").exists():
        before = read_method(folder)
        ours, theirs = {**folds, **info.digests}, {**before.folds, **before.digests}
        if (before.name, before.weights, bool(before.folds)) != (info.name, info.weights, bool(info.folds)) or any(
            ours.get(key, value) != value for key, value in theirs.items()
        ):
            raise BadRecipe(
                f"{str(folder)!r} holds results of {before.name} with other weights "
                f"({before.weights or dict(before.folds) or 'none'}). Give this method another label, "
                "or name another folder for the results."
            )
        info = replace(info, folds={**before.folds, **folds}, digests={**before.digests, **info.digests})
        if info == before:
            return info
    write_method(folder, info)
    return info


def _file_digest(weights: str) -> str:
    path = shipped_weights().get(weights, Path(weights))
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _content_digest(task: _Task) -> str:
    """Return a digest of the clock, the label and the place of what is kept of a recording; pictures are not read."""
    digest = hashlib.sha256()
    for part in task.segments:
        digest.update(f"{part.start_s:.6f} {part.fps:.9f} {part.n_frames}".encode())
        for values in (part.bvp, part.hr_bpm):
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
    if task.entry is not None:
        extent = f"{task.entry.start_s} {task.entry.duration_s} {task.entry.reason}"
        digest.update(extent.encode("utf-8", "surrogatepass"))
    digest.update(json.dumps([task.fold, sorted(task.known.groups.items())]).encode())
    return digest.hexdigest()[:16]


def _stamp(protocol: Protocol, info: MethodInfo, weights: str | None, content: str) -> dict[str, str]:
    """Return what the results of one recording depend on."""
    made_by = [protocol.as_dict(), info.name, weights, info.digests.get(weights or "")]
    return {"content": content, "made_by": hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]}


def _places(protocol: Protocol, task: _Task) -> list[_Place]:
    """Return the protocol's windows of one recording, in order of time."""
    start_s, end_s = _extent(task)
    reason = task.entry.reason if task.entry is not None and task.entry.reason else None
    if protocol.window_s is not None:
        windows = layout(protocol, end_s - start_s)
        return [_place(start_s + from_s, start_s + to_s, task, reason) for from_s, to_s in windows]
    kept = [
        _Place(part.start_s, part.start_s + part.n_frames / part.fps, part, 0, part.n_frames) for part in task.segments
    ]
    edges_s = [start_s, *(edge_s for place in kept for edge_s in (place.start_s, place.end_s)), end_s]
    lost = [
        _Place(from_s, to_s, why=reason or "no face, no frames or no reference here")
        for from_s, to_s in zip(edges_s[::2], edges_s[1::2], strict=True)
        if to_s - from_s >= protocol.least_s or (not kept and to_s > from_s)
    ]
    return sorted(kept + lost, key=lambda place: place.start_s)


def _place(start_s: float, end_s: float, task: _Task, reason: str | None) -> _Place:
    for part in task.segments:
        wanted, slack = round((end_s - start_s) * part.fps), SHIFT_S * part.fps
        n_frames = min(wanted, part.n_frames)
        first = round((start_s - part.start_s) * part.fps)
        moved = min(max(first, 0), part.n_frames - n_frames)
        if abs(moved - first) <= slack and wanted - n_frames <= slack:
            from_s = part.start_s + moved / part.fps
            return _Place(from_s, from_s + n_frames / part.fps, part, moved, n_frames)
    return _Place(start_s, end_s, why=reason or "no face, no frames or no reference in part of it")


def _extent(task: _Task) -> tuple[float, float]:
    """Return the times of the first frame and of the end of the last one; without an entry, of what was kept."""
    entry = task.entry
    if entry is not None and (entry.duration_s > 0 or not task.segments):
        return entry.start_s, entry.start_s + entry.duration_s + (1 / entry.fps if entry.fps else 0.0)
    return (
        min(part.start_s for part in task.segments),
        max(part.start_s + part.n_frames / part.fps for part in task.segments),
    )


def _read(place: _Place, task: _Task, method: Method, label: str, weights: str | None) -> WindowResult:
    """Return the method's estimate for one window, beside the truth."""
    part = place.segment
    blank = WindowResult(
        recording_id=task.id,
        dataset=task.known.dataset,
        subject=task.known.subject,
        session=task.known.session,
        fold=task.fold,
        groups=dict(task.known.groups),
        start_s=round(place.start_s, 6),
        end_s=round(place.end_s, 6),
        fps=part.fps if part is not None else task.entry.fps if task.entry is not None else 0.0,
        why=place.why,
        method=label,
        weights=weights,
    )
    if part is None:
        return blank
    span = slice(place.first, place.first + place.n_frames)
    rates = part.hr_bpm[span]
    bvp = np.asarray(part.bvp[span], dtype=np.float64)
    has_wave = bool(np.isfinite(bvp).all())
    with_truth = replace(
        blank,
        true_bvp=bvp if has_wave else None,
        true_hr_bpm=float(rates.mean()) if np.isfinite(rates).all() else None,
        true_wave_hr_bpm=_rate(bvp, part.fps) if has_wave else None,
    )
    try:
        clip = part.face_clip(place.first, place.n_frames, crop=None if method.crop is None else method.crop.size_px)
        estimate = method(clip)
    except SignalTooShort as short:
        return replace(with_truth, why=str(short))
    is_known = with_truth.true_hr_bpm is not None
    return replace(
        with_truth,
        bvp=estimate.pulse.bvp if estimate.pulse is not None else None,
        hr_bpm=estimate.hr_bpm,
        confidence=estimate.confidence,
        reliable=estimate.reliable,
        snr_db=estimate.snr_db,
        why=estimate.why_unreliable if is_known else "the reference rate is not known in part of it",
    )


def _rate(bvp: Float, fps: float) -> float | None:
    try:
        return estimate_heart_rate(bvp, fps).hr_bpm
    except SignalTooShort:
        return None


def _account(task: _Task, windows: Sequence[WindowResult]) -> Account:
    n_scored = sum(window.scored for window in windows)
    reason: str | None = None
    state: State = "scored"
    if task.fold == 0:
        state, reason = "training", "in a part of the split that is only trained on"
    elif task.entry is not None and task.entry.state == "excluded":
        state, reason = "excluded", task.entry.reason
    elif not n_scored:
        reasons = [window.why for window in windows if window.why is not None]
        state, reason = "unscored", next(iter(reasons), None) or "shorter than a window of the protocol"
    return Account(
        recording_id=task.id,
        state=state,
        reason=reason,
        n_windows=len(windows),
        n_scored=n_scored,
        dataset=task.known.dataset,
        subject=task.known.subject,
        groups=dict(task.known.groups),
    )
