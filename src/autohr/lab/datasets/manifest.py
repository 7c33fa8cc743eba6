"""The manifest of a dataset: every recording that it should have, what became of it, and what looks wrong.

    spec, folder -> prepare_dataset -> CACHE/<key>/<dataset>/manifest.json        a page of it: reports/manifest.py

The preparation measures (``checks``); this file judges, by the thresholds below. A finding names what looks wrong and
changes nothing: no label is shifted, scaled or left out because of it. Findings of the kinds that are marked as
``refused`` make ``autohr prepare`` fail unless it is told to go on.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError, BadRecording, in_short
from autohr.files import make_folder, read_json_object, write_json
from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import (
    CLOCK_SLACK,
    CONTRADICTION_BPM,
    Entry,
    Manifest,
    cache_folder,
    entry_of,
    prepare,
    read_manifest,
    stored_entry,
)
from autohr.lab.datasets.checks import LAG_RANGE_S, RATE_JUMP_BPM
from autohr.lab.datasets.folds import check_official_folds
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing
from autohr.lab.shards import Shard
from autohr.video.detector import Detects

MANIFEST_SCHEMA, SHARD_SCHEMA = "autohr.manifest/1", "autohr.shard/1"

LENGTH_SLACK_S, LENGTH_SLACK = 1.5, 0.02
"""Largest distance of a label's ends from the video's, in seconds and as a share of the video. Ours: a rate given
once a second lacks up to one at either end, and two clocks of one computer drift by far less than two in a hundred."""
LAG_NOTED_S = 0.5
"""Shift between label and face that is a finding. Ours: blood is in the finger 0.1 to 0.2 s after the face, and
sensors average over some tenths; half a second is most of a beat."""
LAG_MIN_R, LAG_MIN_S = 0.5, 15.0
"""Below this correlation, or from a shorter stretch, a shift is no finding. Ours: unrelated waves of 20 s
reach about 0.4 at the best of all shifts, and in 8 s a rhythm that hardly varies fits a beat later just as well."""
FACE_SNR_DB, FACE_R = 2.0, 0.3
"""A face whose pulse is at least this clear, and whose wave is at most this much like the label's, is believed against
a label of another rate. Ours: noise without a pulse reads about -4 dB, and 2 dB is what POS reads on 8 s of a still,
well lit face whose rate varies."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    title: str
    about: str
    refused: bool = False
    """True if ``autohr prepare`` fails because of it."""


KINDS: dict[str, Kind] = {
    "missing": Kind("Missing", "The dataset should hold it and this copy does not.", refused=True),
    "damaged": Kind(
        "Excluded: damaged", "A file is missing or damaged, or two files contradict each other.", refused=True
    ),
    "duplicate": Kind("The same video twice", "One of them is not the recording that it is called.", refused=True),
    "unusable": Kind("Excluded: not usable", "No face, or too little of it; the files are as they should be."),
    "frames": Kind("Frames missing", "The video ends before the protocol or the frame clock does."),
    "length": Kind(
        "Video and label differ in length",
        f"By more than {LENGTH_SLACK_S:g} s and {100 * LENGTH_SLACK:g} %: cut short, shifted, or a wrong clock.",
    ),
    "contradiction": Kind(
        "Wave and rate contradict each other",
        f"The label's wave beats at a rate that differs by more than {CONTRADICTION_BPM:g} bpm from the label's rate.",
    ),
    "face": Kind(
        "Face and label contradict each other",
        f"The face's pulse (POS) is clear and differs by more than {CONTRADICTION_BPM:g} bpm from its label.",
    ),
    "lag": Kind(
        "Label shifted",
        f"The label's wave fits the face's better when it is moved by more than {LAG_NOTED_S:g} s. It was not moved.",
    ),
    "jump": Kind(
        "Rate jumps", f"The label's rate changes by more than {RATE_JUMP_BPM:g} bpm within a second; no heart does."
    ),
    "gap": Kind("Known gaps", "The dataset itself does not have it."),
}
"""Kinds of findings, in the order in which they are listed."""


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong, or is missing, in one recording or between two."""

    kind: str
    """A key of ``KINDS``."""
    ids: tuple[str, ...]
    says: str
    """The finding in one sentence."""


@dataclass(frozen=True)
class DatasetManifest(Manifest):
    """Every recording that a dataset should have: in ``entries``, or in ``absent``."""

    dataset: str
    title: str
    absent: tuple[Absent, ...]
    notes: tuple[str, ...]
    """Remarks about the copy as a whole."""
    findings: tuple[Finding, ...]
    """Findings in the order of ``KINDS``."""

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind that has any."""
        return {kind: n for kind in KINDS if (n := sum(finding.kind == kind for finding in self.findings))}

    def refusal(self) -> str | None:
        """Return why this copy is not complete, in one line; None where it is."""
        wrong = [finding for finding in self.findings if KINDS[finding.kind].refused]
        if not wrong:
            return None
        counts = ", ".join(
            f"{n} {KINDS[kind].title.lower()}" for kind, n in self.counts().items() if KINDS[kind].refused
        )
        return f"{self.title} is not complete: {counts}. First: {wrong[0].says}"

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``manifest.json``: plain numbers, lists and None."""
        kinds: dict[str, list[str]] = {}
        for finding in self.findings:
            for one in finding.ids:
                kinds.setdefault(one, []).append(finding.kind)
        rows = [_row(entry, kinds.get(entry.id, [])) for entry in self.entries]
        rows += [
            {"id": one.id, "state": "absent", "reason": one.reason, "known_gap": one.known_gap} for one in self.absent
        ]
        return {
            "schema": MANIFEST_SCHEMA,
            "dataset": self.dataset,
            "title": self.title,
            "crop": dataclasses.asdict(self.crop),
            "counts": {
                "expected": len(rows),
                "ok": len(self.kept),
                "excluded": len(self.excluded),
                "missing": sum(not one.known_gap for one in self.absent),
                "known_gaps": sum(one.known_gap for one in self.absent),
                "subjects": len({entry.subject for entry in self.kept}),
                "kept_s": round(sum(entry.kept_s for entry in self.kept), 1),
            },
            "explained": LAG_EXPLAINED,
            "notes": list(self.notes),
            "kinds": {kind: dataclasses.asdict(KINDS[kind]) | {"n": n} for kind, n in self.counts().items()},
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "recordings": sorted(rows, key=lambda row: str(row["id"])),
        }


def _row(entry: Entry, kinds: list[str]) -> dict[str, Any]:
    fields = dataclasses.asdict(entry)
    checks, duration_s = fields.pop("checks"), fields.pop("duration_s")
    del fields["checksums"]
    repaired = [] if fields.pop("made_anew") is None else [f"Made anew: {entry.made_anew}"]
    label_s = entry.checks.label_s
    differ_s = None if label_s is None or not entry.n_frames else round(label_s - duration_s, 3)
    return {
        **fields,
        **checks,
        "findings": kinds,
        "video_s": duration_s,
        "label_s": None if label_s is None else round(label_s, 3),
        "label_minus_video_s": differ_s,
        "fps": round(entry.fps, 4),
        "kept_s": round(entry.kept_s, 3),
        "notes": [*entry.reader_notes, *entry.notes, *repaired],
    }


def manifest_path(out: Path, config: CropConfig, dataset: str) -> Path:
    """Return where the manifest of a dataset lies in a cache."""
    return cache_folder(out, config) / dataset / "manifest.json"


def prepare_dataset(
    spec: DatasetSpec,
    root: Path,
    out: Path,
    config: CropConfig | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int, Entry], None] | None = None,
    detector: Detects | None = None,
    repair: bool = True,
) -> DatasetManifest:
    """List a dataset, prepare every recording (``cache.prepare``), judge what was found, and write ``manifest.json``.

    ``root`` is the dataset's folder, ``out`` the cache's; the other arguments are as for ``cache.prepare``. Raises
    BadRecording where the folder is not this dataset, or a subject is in two official folds; AutoHRError where a module
    that its files need is not installed, or the cache cannot be written.
    """
    config = config or CropConfig()
    check_needs(spec)
    listing = spec.list_recordings(Path(root))
    entries = prepare(
        listing.recordings,
        out,
        config,
        workers=workers,
        cluster=cluster,
        progress=progress,
        detector=detector,
        repair=repair,
    ).entries
    return _write_manifest(spec, listing, entries, out, config)


def prepare_shard(
    spec: DatasetSpec,
    root: Path,
    out: Path,
    config: CropConfig,
    shard: Shard,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int, Entry], None] | None = None,
    detector: Detects | None = None,
) -> Manifest:
    """Prepare one part of a dataset, and write what became of it into ``shard_I_of_N.json`` beside the manifest.

    ``merge_dataset`` makes the manifest when all parts are there. Arguments and errors are those of
    ``prepare_dataset``.
    """
    check_needs(spec)
    listing = spec.list_recordings(Path(root))
    mine = shard.part(sorted(listing.recordings, key=lambda one: one.id))
    # The whole dataset's: a part need not show that a subject is in two folds.
    check_official_folds(listing.recordings)
    manifest = prepare(mine, out, config, workers=workers, cluster=cluster, progress=progress, detector=detector)
    folder = manifest_path(out, config, spec.name).parent
    make_folder(folder)
    entries = [dataclasses.asdict(entry) for entry in manifest.entries]
    write_json(folder / f"shard_{shard.number}_of_{shard.count}.json", {"schema": SHARD_SCHEMA, "entries": entries})
    return manifest


def merge_dataset(
    spec: DatasetSpec,
    root: Path,
    out: Path,
    config: CropConfig,
    progress: Callable[[int, int, Entry], None] | None = None,
) -> DatasetManifest:
    """Write the manifest of a dataset whose parts were prepared apart, by ``prepare_shard`` on any machines.

    Videos are not read. A recording is accounted for by an entry in the cache that was made from the files that are
    there now, or by the record of its part that says why it has none.

    Raises
    ------
    BadRecording
        A recording is not accounted for; the message says how many, and which part to run again.
    """
    listing = spec.list_recordings(Path(root))
    check_official_folds(listing.recordings)
    folder = manifest_path(out, config, spec.name).parent
    told: dict[str, Entry] = {}
    counts: set[int] = set()
    for file in sorted(folder.glob("shard_*_of_*.json")):
        counts.add(int(file.stem.rpartition("_")[2]))
        try:
            content = read_json_object(file, "schema", "entries")
            told |= {entry.id: entry for entry in map(entry_of, content["entries"])}
        except ValueError as error:
            raise BadRecording(
                f"{str(file)!r} is damaged ({in_short(error)}). Remove it and run its part again."
            ) from None
    entries, lacking = [], []
    for done, recording in enumerate(listing.recordings, 1):
        entry = stored_entry(recording, out, config)
        if entry is None:
            # What was stored, and is gone or of other files since, does not count.
            entry = told.get(recording.id)
            entry = None if entry is None or entry.state == "ok" or entry.n_frames else entry
        if entry is None:
            lacking.append(recording.id)
            continue
        entries.append(entry)
        if progress is not None:
            progress(done, len(listing.recordings), entry)
    if lacking:
        order = sorted(one.id for one in listing.recordings)
        parts = sorted({f"{order.index(one) % n + 1}/{n}" for n in counts for one in lacking[:1000]})
        advice = (
            f"Run --shard {', '.join(parts[:8])}{' ...' if len(parts) > 8 else ''} again" if parts else "Prepare them"
        )
        raise BadRecording(
            f"{len(lacking)} of {len(listing.recordings)} recordings of {spec.title} are not accounted for in "
            f"{str(out)!r}, first {lacking[0]}. {advice}, then merge."
        )
    return _write_manifest(spec, listing, tuple(entries), out, config)


def _write_manifest(
    spec: DatasetSpec, listing: Listing, entries: tuple[Entry, ...], out: Path, config: CropConfig
) -> DatasetManifest:
    listed = {entry.id for entry in entries}
    others = [
        entry.id
        for entry in read_manifest(out, config).kept
        if entry.dataset in {spec.name, *(one.dataset for one in listing.recordings)} and entry.id not in listed
    ]
    notes = list(listing.notes)
    if others:
        notes.append(
            f"{len(others)} other recording(s) of this dataset lie in the same cache and will be read from it too, "
            f"first {others[0]}. Choose another cache if they do not belong here."
        )
    manifest = DatasetManifest(
        dataset=spec.name,
        title=spec.title,
        crop=config,
        entries=entries,
        absent=listing.absent,
        notes=tuple(notes),
        findings=judge(entries, listing.absent, spec.n_recordings),
    )
    path = manifest_path(out, config, spec.name)
    make_folder(path.parent)
    write_json(path, manifest.as_dict())
    return manifest


def check_needs(spec: DatasetSpec) -> None:
    """Raise AutoHRError with the pip line where a module is missing that the files of a dataset need."""
    missing = [name for name in spec.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise AutoHRError(f"{spec.title} needs {', '.join(missing)} to be read: pip install 'autohr[datasets]'.")


def judge(entries: Sequence[Entry], absent: Sequence[Absent], n_recordings: int | None = None) -> tuple[Finding, ...]:
    """Return all findings, in the order of ``KINDS`` and, within one kind, of recording ids.

    ``n_recordings`` is how many the dataset has; a copy with fewer whose reader does not say which are absent is found
    incomplete as a whole.
    """
    findings = [Finding("gap" if one.known_gap else "missing", (one.id,), f"{one.id}: {one.reason}") for one in absent]
    if n_recordings is not None and not absent and len(entries) < n_recordings:
        findings.append(Finding("missing", (), f"The dataset has {n_recordings} recordings, this copy {len(entries)}."))
    for entry in entries:
        findings += _judge_one(entry)
    same: dict[str, list[str]] = {}
    for entry in entries:
        if entry.checks.digest is not None:
            same.setdefault(entry.checks.digest, []).append(entry.id)
    for ids in same.values():
        if len(ids) > 1:
            findings.append(
                Finding("duplicate", tuple(sorted(ids)), f"{' and '.join(sorted(ids))} show the same pictures.")
            )
    order = list(KINDS)
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.kind), finding.ids)))


def _judge_one(entry: Entry) -> list[Finding]:
    checks, found = entry.checks, []

    def add(kind: str, sentence: str) -> None:
        found.append(Finding(kind, (entry.id,), f"{entry.id}: {sentence}"))

    length = _length(entry)
    if entry.state == "excluded":
        # Too short while the label goes on: not a short recording but one that was cut.
        damaged = entry.damaged or (length is not None and "no face" not in str(entry.reason).lower())
        add("damaged" if damaged else "unusable", str(entry.reason))
    if checks.frames_missing > CLOCK_SLACK:
        add("frames", f"{checks.frames_missing} frames are missing at the end of the video.")
    if length is not None:
        add("length", length)
    label_bpm, wave_bpm, pulse_bpm, lag_s = checks.label_bpm, checks.wave_bpm, checks.pulse_bpm, checks.lag_s
    if label_bpm is not None and wave_bpm is not None and abs(wave_bpm - label_bpm) > CONTRADICTION_BPM:
        add("contradiction", f"the wave beats at {wave_bpm:.0f} bpm, the rate says {label_bpm:.0f}.")
    if (
        label_bpm is not None
        and pulse_bpm is not None
        and abs(pulse_bpm - label_bpm) > CONTRADICTION_BPM
        and (checks.pulse_snr_db or 0.0) >= FACE_SNR_DB
        and (checks.lag_r is None or checks.lag_r <= FACE_R)
    ):
        add("face", f"the face beats at {pulse_bpm:.0f} bpm, the label says {label_bpm:.0f}.")
    longest_s = max((segment.n_frames / entry.fps for segment in entry.segments), default=0.0)
    believed = (checks.lag_r or 0.0) >= LAG_MIN_R and longest_s >= LAG_MIN_S
    if lag_s is not None and abs(lag_s) > LAG_NOTED_S and believed:
        way = "after" if lag_s > 0 else "before"
        add("lag", f"the label shows each beat {abs(lag_s):.2f} s {way} the face (correlation {checks.lag_r:.2f}).")
    if checks.jumps_s:
        times = ", ".join(f"{jump_s:.0f}" for jump_s in checks.jumps_s[:5])
        more = f" and {len(checks.jumps_s) - 5} more" if len(checks.jumps_s) > 5 else ""
        add("jump", f"the rate jumps at {times}{more} s.")
    return found


def _length(entry: Entry) -> str | None:
    """Return what is wrong with where the label begins and ends; None where nothing is."""
    start_s, end_s = entry.checks.label_start_s, entry.checks.label_end_s
    if start_s is None or end_s is None or not entry.n_frames or not entry.fps:
        return None
    slack_s = max(LENGTH_SLACK_S, LENGTH_SLACK * entry.duration_s)
    early_s, late_s = start_s - entry.start_s, end_s - (entry.start_s + entry.duration_s)
    wrong = []
    if early_s > slack_s or (early_s < -slack_s and not entry.checks.is_part):
        wrong.append(f"the label begins {abs(early_s):.1f} s {'after' if early_s > 0 else 'before'} the video")
    if late_s < -slack_s or (late_s > slack_s and not entry.checks.is_part):
        wrong.append(f"the label ends {abs(late_s):.1f} s {'after' if late_s > 0 else 'before'} the video")
    if not wrong:
        return None
    lasts = f"the video lasts {entry.duration_s:.1f} s, the label {end_s - start_s:.1f} s"
    return f"{lasts}: {', '.join(wrong)}."


LAG_EXPLAINED = (
    "Lag: how much later the label's wave shows a beat than the face does (POS on the mean skin colour, both waves "
    f"band-passed, shifts up to {LAG_RANGE_S:g} s). Above 0 the label is late. A regular pulse fits itself again one "
    "beat later, so a lag is known only up to whole beats where the rhythm does not vary. Nothing was shifted."
)
