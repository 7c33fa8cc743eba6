"""The cache of faces: each video is decoded and its face found once, then read at the speed of memory.

    recordings -> prepare -> ROOT/<key of the crop settings>/<recording>/...  -> open_cached -> CachedRecording

    ROOT/3f0c9a5be1d2/
        config.json                     the crop settings behind the key
        synthetic/manifest.json         every recording that a dataset should have (manifest.py), and a page of it
        synthetic-s1-0-9c41d2aa/        one recording
            recording.json              its entry: kept or excluded, why, and what was found out about it
            frames_0.npy                (T, S, S, 3) uint8 RGB: one segment, memory-mapped when read
            colours_0.npy               (T,) of ``COLOURS``: what classic methods read, from the full picture
            labels_0.npz                bvp (T,), hr_bpm (T,), found (T,)

A recording is made in a folder whose name starts with ``.tmp-`` and renamed when it is whole. So whenever the work is
killed, only whole recordings are there, and the same call goes on where it stopped. A video or a reference that has
changed since is made again; so is one whose reader now gives other numbers. Any number of ``prepare`` on any machines
may work on one cache: each recording is claimed by the one that makes it (``lab.claims``), and the others wait for it.

Each array has a checksum in ``recording.json`` (``arrays.py``). ``prepare`` compares them and makes a damaged recording
anew; ``verify`` refuses it. Opening does neither unless ``verifying``, so that training maps only the frames it draws.

The clock. Frames are put on a uniform clock of the video's own mean rate (gaps over ``BRIDGE_S`` not counted): each
moment shows the nearest frame, by its real time stamp; nothing is blended, nothing brought to 30. On a video of steady
rate these are the frames as they are. Colours and the reference are interpolated to it.

What is missing. A face that is lost, or frames that are missing, for up to ``BRIDGE_S`` are filled with the nearest
crop and marked in ``found``. A longer gap ends the segment, and so does another face; what follows is the next one.
Where the reference knows nothing the segment ends too. Segments under ``MIN_SEGMENT_S`` are left out; a recording
without any is excluded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import mmap
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from autohr.cluster import share_out
from autohr.confidence.verdict import LEAST_FPS
from autohr.errors import AutoHRError, BadRecording, NoFace, SignalTooShort, VideoError, WorkerDied
from autohr.files import host_name, read_json, write_json
from autohr.frontend import BRIDGE_S, CropConfig, FaceReader, shrink
from autohr.lab.claims import Owner, claimed, tidy
from autohr.lab.datasets.arrays import checksums_of, damage_of, map_array, read_labels
from autohr.lab.datasets.checks import Checks, compare_pulse, rate_jumps_s
from autohr.lab.datasets.folds import check_official_folds
from autohr.lab.datasets.recording import Recording, Reference, file_stem
from autohr.signals.clock import FaceRows, nearest, on_clock
from autohr.signals.filters import resample
from autohr.signals.rate import estimate_heart_rate
from autohr.types import FaceClip, Float, Frame
from autohr.video.decode import VideoFrame, open_video
from autohr.video.detector import Detects, FaceDetector
from autohr.video.regions import REGIONS
from autohr.workers import Report

SCHEMA = "autohr.cache/2"
"""Part of the key: a change of what is stored makes a new cache and never mixes with an old one."""

WAIT_S = 2.0
"""Time between two looks at recordings that another ``prepare`` is making, in seconds. Ours."""
MIN_SEGMENT_S = 5.0
"""Shortest segment that is kept. Ours: a little under the paper's clip of 160 frames at 30 frames per second."""
MIN_FOUND_SHARE = 0.5
"""A recording whose face was seen in less than this share of its frames is excluded. Ours."""
MAX_WAVE_STEP_S, MAX_RATE_STEP_S = 0.25, 5.0
"""A reference is unknown between two of its values further apart: a wave of which a quarter second is missing has lost
a beat's shape; a rate, given about once a second, may miss a few."""
RATE_WINDOW_S = 10.0
"""Where the reference has a wave but no rate, the rate is the estimator's over this much of the wave, every second."""
CONTRADICTION_BPM = 10.0
"""A rate and a wave that differ by more over a segment are noted in the manifest. Ours."""
CLOCK_SLACK = 2
"""A frame clock may have this many times more or fewer than the video has frames: recorders stop their files one after
the other. More, and nobody knows which frame each time belongs to. Ours."""

COLOURS = np.dtype(
    [
        ("rgb", np.float32, (3,)),
        ("traces", np.float32, (len(REGIONS), 3)),
        ("background_rgb", np.float32, (3,)),
        ("box_xywh", np.float32, (4,)),
        ("found", np.bool_),
        ("whole", np.bool_),
    ]
)
"""A ``frontend.FaceRow`` without its crop; NaN where the face was not seen. Single precision rounds colours to a
hundred thousandth of a grey level."""


def cache_folder(root: Path, crop: CropConfig) -> Path:
    """Return where in a cache the recordings with these crops lie; its name differs for different settings."""
    settings = json.dumps([SCHEMA, dataclasses.asdict(crop)], sort_keys=True)
    return Path(root) / hashlib.sha256(settings.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Segment:
    """One stretch of a recording without a gap."""

    start_s: float
    """Time of its first frame in the video."""
    n_frames: int
    found_share: float
    hr_bpm: float
    """Mean rate of the reference."""


@dataclass(frozen=True)
class Entry:
    """The record of one recording: kept or excluded, and what was found out about it."""

    id: str
    dataset: str
    subject: str
    session: str
    has_bvp: bool
    state: Literal["ok", "excluded"] = "excluded"
    reason: str | None = None
    """Why it was excluded."""
    damaged: bool = False
    """Excluded because a file is missing or damaged, or contradicts another; not for want of a face or of length."""
    start_s: float = 0.0
    """Time of the first frame that was used."""
    duration_s: float = 0.0
    """Time from there to the last frame, by the video's time stamps."""
    fps: float = 0.0
    """Frames per second of the uniform clock."""
    n_frames: int = 0
    """Frames read from the video."""
    found_share: float = 0.0
    """Share of them in which the face was seen."""
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences on what was repaired, cut out or looks odd."""
    checks: Checks = dataclasses.field(default_factory=Checks)
    """Comparison of video and label."""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fold: int | None = None
    reader_notes: tuple[str, ...] = ()
    """Remarks of the reader; these, ``groups`` and ``fold`` are those of the ``Recording``."""
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of each file of arrays -> its checksum; empty for a recording that was stored before there were any."""
    made_anew: str | None = None
    """Damage because of which this call of ``prepare`` made it again; not stored."""

    @property
    def kept_s(self) -> float:
        """Seconds in the cache."""
        return sum(segment.n_frames for segment in self.segments) / self.fps if self.segments else 0.0


@dataclass(frozen=True)
class Manifest:
    """Every recording that was asked for, in that order, kept or not."""

    crop: CropConfig
    entries: tuple[Entry, ...]

    @property
    def kept(self) -> list[Entry]:
        """The recordings that are in the cache."""
        return [entry for entry in self.entries if entry.state == "ok"]

    @property
    def excluded(self) -> list[Entry]:
        """The recordings that are not, and why."""
        return [entry for entry in self.entries if entry.state == "excluded"]


@dataclass(frozen=True)
class CachedRecording:
    """One segment of a recording, ready to be read. Pickles by path, not by content: workers map the same file."""

    recording_id: str
    dataset: str
    subject: str
    session: str
    segment: int
    """Counts from 0 within the recording."""
    start_s: float
    """Time of the first frame in the video."""
    fps: float
    frames: Frame
    """(T, S, S, 3) uint8 RGB, memory-mapped, read-only."""
    bvp: Float
    """(T,) reference wave as recorded, not filtered; NaN throughout where the reference has none."""
    hr_bpm: Float
    """(T,) reference rate."""
    found: NDArray[np.bool_]
    """(T,) False where the crop was filled in from another frame."""
    colours: Path | None = None
    """File with (T,) of ``COLOURS``; None where the clock was changed since."""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values that tables may be split by."""
    fold: int | None = None
    """Official fold, counted from 1."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader and of the preparation."""

    @property
    def n_frames(self) -> int:
        """Frames of the segment."""
        return int(self.frames.shape[0])

    @property
    def has_bvp(self) -> bool:
        """True if the reference has a wave, and not the rate alone."""
        return bool(np.isfinite(self.bvp).all())

    def face_clip(self, first: int, n_frames: int, crop: int | None = None) -> FaceClip:
        """Return frames ``first`` .. ``first + n_frames - 1`` as the meter gives them to a method.

        On a steady clock they equal the meter's within the rounding of ``COLOURS``. On an uneven one the meter's clock
        is that of its first window, this one the whole recording's.

        ``crop`` is the side in pixels of the face crops wanted, made of the stored ones; None for colours only. Raises
        ValueError for frames that the segment does not have, or a recording without colours; SignalTooShort where the
        face was seen in fewer than two of the frames; BadRecording for a damaged file.
        """
        if not (first >= 0 and n_frames >= 2 and first + n_frames <= self.n_frames):
            raise ValueError(
                f"first={first}, n_frames={n_frames}: {self.recording_id} (segment {self.segment}) has "
                f"{self.n_frames} frames, and a clip at least 2."
            )
        if self.colours is None:
            raise ValueError(f"{self.recording_id} is not as the cache has it; face clips come from the cache alone.")
        # The meter too sees one frame beyond each end.
        part = slice(max(0, first - 1), first + n_frames + 1)
        read = map_array(self.colours, COLOURS, (self.n_frames,))[part]
        colours = {name: read[name].astype(np.float64) for name in ("rgb", "traces", "background_rgb", "box_xywh")}
        t_s = self.start_s + (part.start + np.arange(len(read))) / self.fps
        rows = FaceRows(t_s, **colours, found=np.array(read["found"]), whole=np.array(read["whole"]))
        clip = on_clock(rows, self.fps, self.start_s + first / self.fps, n_frames)
        if crop is None:
            return clip
        shown = [shrink(frame, crop) for frame in self.frames[first : first + n_frames]]
        return dataclasses.replace(clip, clip=np.stack(shown))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        # A part of a mapped file has the file's name too, but not all of it.
        if isinstance(self.frames, np.memmap) and isinstance(self.frames.base, mmap.mmap):
            state["frames"] = Path(str(self.frames.filename)), self.frames.shape
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["frames"], tuple):
            path, shape = state["frames"]
            state["frames"] = map_array(path, np.uint8, shape)
        self.__dict__.update(state)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def prepare(
    recordings: Sequence[Recording],
    root: Path,
    config: CropConfig | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[int, int, Entry], None] | None = None,
    detector: Detects | None = None,
    repair: bool = True,
) -> Manifest:
    """Read, check, crop and cache recordings. What is already there, unchanged and undamaged, is kept.

    Memory does not grow with the length of a video. The disk needs about twice a recording's crops while it is made.
    ``root`` holds any number of datasets and crop settings. ``workers`` counts processes, one for each processor if
    None; 1 works in this process. ``cluster`` is the address of a scheduler or its file, whose workers do the work
    (``autohr.cluster``). ``progress`` is called with (done, total, entry) after each recording, in the order
    in which they end. ``detector`` finds faces, the shipped one if None; another one needs another root. ``repair``
    reads every array that is there, makes those recordings anew that differ from their checksums
    (``Entry.made_anew``), and adds checksums where there are none; False takes what is there as it is.

    A recording whose worker died is tried once more; one whose worker dies again is excluded, with the reason, and
    the next call tries it anew. One that another ``prepare`` is making is waited for.

    Raises
    ------
    ValueError
        For two recordings with one id, or workers below 1.
    BadRecording
        A subject is in two official folds; nothing is prepared.
    AutoHRError
        The cache cannot be written, or there is no such cluster. What was finished stays.
    """
    config = config or CropConfig()
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more.")
    ids = [recording.id for recording in recordings]
    twice, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise ValueError(f"Two recordings have the id {twice!r}; ids must be unique.")
    check_official_folds(recordings)
    home = cache_folder(root, config)
    entries: dict[str, Entry] = {}

    def note(entry: Entry) -> None:
        entries[entry.id] = entry
        if progress is not None:
            progress(len(entries), len(recordings), entry)

    try:
        home.mkdir(parents=True, exist_ok=True)
        settings = {"schema": SCHEMA, "crop": dataclasses.asdict(config)}
        write_json(home / "config.json", settings)
        begun_ns = (home / "config.json").stat().st_mtime_ns
        prepare_one = functools.partial(
            _attempt, home=home, config=config, detector=detector, repair=repair, begun_ns=begun_ns
        )
        waiting = list(recordings)
        while waiting:
            in_use: list[Recording] = []
            outcomes = share_out(prepare_one, waiting, workers=workers, cluster=cluster)
            with contextlib.closing(outcomes):
                for number, outcome in outcomes:
                    if isinstance(outcome, Owner):
                        in_use.append(waiting[number])
                    elif isinstance(outcome, WorkerDied):
                        note(_entry_of_death(waiting[number], outcome))
                    elif isinstance(outcome, Exception):
                        raise outcome
                    else:
                        note(outcome)
            if in_use and len(in_use) == len(waiting):
                time.sleep(WAIT_S)
            waiting = in_use
        _remove_left_overs(recordings, home)
    except OSError as error:
        raise AutoHRError(
            f"The cache {str(home)!r} cannot be written: {error.strerror or error}. "
            "Make room or choose another folder, and run again; finished recordings are kept."
        ) from error
    return Manifest(config, tuple(entries[one] for one in ids))


def _remove_left_overs(recordings: Sequence[Recording], home: Path) -> None:
    """Remove what killed processes left of these recordings, and their claims."""
    left_over = [path.name for path in home.glob(".tmp-*")]
    for stem in {file_stem(one.id) for one in recordings} if left_over else ():
        if any(name.endswith(f"-{stem}") for name in left_over):
            with claimed(home, stem) as owner:
                for path in home.glob(f".tmp-*-{stem}") if owner is None else ():
                    shutil.rmtree(path, ignore_errors=True)
    tidy(home)


def _attempt(recording: Recording, report: Report, **options: Any) -> Entry | Owner | Exception:
    """Do as ``_prepare_one`` in a worker, which an exception would end."""
    try:
        return _prepare_one(recording, **options)
    except Exception as error:
        return error


def _entry_of_death(recording: Recording, death: WorkerDied) -> Entry:
    """Return the entry of a recording that killed its worker twice; it is in the manifest and not in the cache."""
    return Entry(
        id=recording.id,
        dataset=recording.dataset,
        subject=recording.subject,
        session=recording.session,
        has_bvp=False,
        reason=f"Not prepared: {death}, twice. Memory may not suffice, or a library fails on this file.",
        damaged=True,
        groups=dict(recording.groups),
        fold=recording.fold,
        reader_notes=recording.notes,
    )


def _prepare_one(
    recording: Recording,
    home: Path,
    config: CropConfig,
    detector: Detects | None,
    repair: bool,
    begun_ns: int,
) -> Entry | Owner:
    """Return a recording's entry; where it is missing, changed or damaged, make it in a temporary folder, move it in.

    ``repair`` looks for damage in what was there when the call began, at ``begun_ns`` by the file system's clock. Where
    another process is making the recording, its owner is returned.
    """
    folder = home / file_stem(recording.id)
    label = _read_label(recording)
    source, reader_fields = _source(recording, label), _reader_fields(recording, label)

    def write_entry(place: Path, entry: Entry) -> None:
        write_json(place / ENTRY_FILE, {"schema": SCHEMA, "source": source, "entry": dataclasses.asdict(entry)})

    def is_new() -> bool:
        try:
            return (folder / ENTRY_FILE).stat().st_mtime_ns >= begun_ns
        except OSError:
            return False

    entry = _read_entry(folder / ENTRY_FILE, source)
    damage = None if entry is None or not repair or is_new() else _damage(folder, entry, config)
    if entry is not None and damage is None:
        renewed = dataclasses.replace(entry, **reader_fields)
        if repair and not entry.checksums:
            renewed = dataclasses.replace(renewed, checksums=checksums_of(folder))
        if renewed != entry:
            write_entry(folder, renewed)
        return renewed
    with claimed(home, folder.name) as owner:
        if owner is not None:
            return owner
        # Made by another one while this one read the reference.
        made = _read_entry(folder / ENTRY_FILE, source) if damage is None or is_new() else None
        if made is not None:
            return dataclasses.replace(made, **reader_fields)
        for left_over in home.glob(f".tmp-*-{folder.name}"):
            shutil.rmtree(left_over, ignore_errors=True)
        here = f"{host_name()}-{os.getpid()}"
        staging = home / f".tmp-{here}-{folder.name}"
        staging.mkdir()
        entry = _crop_recording(recording, label, staging, config, detector)
        entry = dataclasses.replace(entry, **reader_fields, checksums=checksums_of(staging))
        write_entry(staging, entry)
        if folder.exists():
            # An outdated recording. It goes out of sight by a rename, for a half-removed one would look whole.
            outdated = home / f".tmp-{here}-old-{folder.name}"
            folder.rename(outdated)
            shutil.rmtree(outdated, ignore_errors=True)
        staging.rename(folder)
    return dataclasses.replace(entry, made_anew=damage)


def _damage(folder: Path, entry: Entry, config: CropConfig) -> str | None:
    """Return what is wrong with a stored recording, in one sentence; None where nothing is.

    Without checksums only what cannot be read is found.
    """
    if entry.checksums or not entry.segments:
        return damage_of(folder, entry.checksums)
    try:
        for number, segment in enumerate(entry.segments):
            _map_frames(folder, number, segment, config)
            map_array(folder / f"colours_{number}.npy", COLOURS, (segment.n_frames,))
            read_labels(folder / f"labels_{number}.npz", segment.n_frames)
    except BadRecording as error:
        return str(error)
    return None


@functools.cache
def _detector() -> Detects:
    """Return the detector of this process: its weights take a second to load."""
    return FaceDetector()


@dataclass
class _VideoScan:
    """Facts about one video, frame by frame; grows by some bytes a frame."""

    t_s: list[float] = dataclasses.field(default_factory=list)
    face_id: list[int] = dataclasses.field(default_factory=list)
    """The face that was seen; -1 where none was."""
    crop_row: list[int] = dataclasses.field(default_factory=list)
    """Place of the frame's crop in the raw file; -1 where there is none."""
    notes: list[str] = dataclasses.field(default_factory=list)
    checks: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ``Checks`` as they become known."""


def _crop_recording(
    recording: Recording,
    label: Reference | BadRecording | None,
    staging: Path,
    config: CropConfig,
    detector: Detects | None,
) -> Entry:
    """Crop one recording into ``staging``; a recording that cannot be used leaves nothing there."""
    scan = _VideoScan(checks={"is_part": recording.span is not None})
    outcome: dict[str, Any] = {}
    raw_crops, raw_colours = staging / "crops.raw", staging / "colours.raw"
    try:
        if isinstance(label, BadRecording):
            raise label
        if label is None:
            raise BadRecording(f"No reference for {str(recording.video)!r}; there is nothing to learn or judge by.")
        known_s = label.t_s[np.isfinite(np.stack([v for v in (label.bvp, label.hr_bpm) if v is not None])).any(axis=0)]
        if len(known_s):
            scan.checks |= {"label_start_s": round(float(known_s[0]), 3), "label_end_s": round(float(known_s[-1]), 3)}
        with raw_crops.open("wb") as crops, raw_colours.open("wb") as colours:
            reader = FaceReader(config, detector=detector or _detector())
            _read_faces(_frames(recording, scan), reader, crops, colours, scan)
        outcome = {"state": "ok", "segments": tuple(_write_segments(recording, label, staging, config, scan))}
    except (VideoError, NoFace, SignalTooShort, BadRecording) as error:
        outcome = {"reason": str(error), "damaged": isinstance(error, (VideoError, BadRecording))}
        for begun in staging.iterdir():
            begun.unlink()
    finally:
        raw_crops.unlink(missing_ok=True)
        raw_colours.unlink(missing_ok=True)
    t_s = np.array(scan.t_s)
    if len(t_s):
        outcome |= {
            "start_s": round(scan.t_s[0], 6),
            "duration_s": round(scan.t_s[-1] - scan.t_s[0], 3),
            "fps": _mean_fps(t_s),
            "n_frames": len(t_s),
            "found_share": round(float((np.array(scan.face_id) >= 0).mean()), 4),
        }
    return Entry(
        id=recording.id,
        dataset=recording.dataset,
        subject=recording.subject,
        session=recording.session,
        has_bvp=isinstance(label, Reference) and label.bvp is not None,
        notes=tuple(scan.notes),
        checks=Checks(**scan.checks),
        **outcome,
    )


def _frames(recording: Recording, scan: _VideoScan) -> Iterator[VideoFrame]:
    """Read the frames that the protocol uses, with their times, and note what is odd.

    Raises BadRecording where the frame clock does not fit the video.
    """
    times_s = recording.read_frame_times()
    first, end = recording.span or (0, None)
    n_there = n_late = 0
    last_s = -np.inf
    for number, frame in _numbered(recording, times_s is not None, scan):
        n_there = number + 1
        if number < first or (end is not None and number >= end):
            if end is not None and number >= end and times_s is None:
                break
            continue
        if times_s is not None:
            if number >= len(times_s):
                continue
            frame = dataclasses.replace(frame, t_s=float(times_s[number]))
        if frame.t_s <= last_s:
            n_late += 1
            continue
        last_s = frame.t_s
        yield frame
    path = str(recording.video)
    if n_late:
        scan.notes.append(f"{n_late} frame(s) dropped: their time was already taken or ran backwards.")
    if times_s is not None and len(times_s) != n_there:
        counts = f"The frame clock of {path!r} has {len(times_s)} times, its video {n_there} frames"
        if abs(len(times_s) - n_there) > CLOCK_SLACK:
            scan.checks["frames_missing"] = max(0, len(times_s) - n_there)
            raise BadRecording(f"{counts}; at most {CLOCK_SLACK} may be left over. Copy both files again.")
        scan.notes.append(f"{counts}; what is left over at the end was cut.")
    if end is not None and n_there < end:
        scan.checks["frames_missing"] = end - n_there
        scan.notes.append(f"The video has {n_there} frames; the protocol uses those up to {end}.")
        if n_there <= first:
            raise BadRecording(f"{path!r} has {n_there} frames; the protocol begins with frame {first}. Copy it again.")


def _numbered(recording: Recording, has_clock: bool, scan: _VideoScan) -> Iterator[tuple[int, VideoFrame]]:
    """Read every frame with its number in the file, counted from 0."""
    if recording.open_frames is not None:
        yield from enumerate(recording.open_frames())
        return
    fps = recording.video_fps
    if has_clock and fps is None:
        if not recording.video.is_dir():
            with open_video(recording.video) as video:
                scan.checks["fps_nominal"] = video.fps_nominal
        # The container's stamps would drop frames that it believes late, and so shift all that follow; this counts.
        fps = 30.0
    with open_video(recording.video, fps=fps) as video:
        if fps is None:
            scan.checks["fps_nominal"] = video.fps_nominal
        for frame in video:
            yield (round(frame.t_s * fps) if has_clock and fps is not None else frame.index), frame
        scan.notes += video.notes


def _read_faces(
    frames: Iterator[VideoFrame], reader: FaceReader, crops: BinaryIO, colours: BinaryIO, scan: _VideoScan
) -> None:
    """Follow the face through the video and append its crops and colours to the files."""
    digest = hashlib.sha256()
    n_crops = 0
    for frame in frames:
        step = max(1, min(frame.rgb.shape[:2]) // 32)
        digest.update(np.ascontiguousarray(frame.rgb[::step, ::step]).tobytes())
        row = next(iter(reader.push(frame.rgb, frame.t_s, whole=frame.whole)), None)
        record = np.full(1, np.nan, COLOURS)
        record["found"], record["whole"] = False, frame.whole
        crop = None
        if row is not None:
            crop = row.crop
            for name in record.dtype.names or ():
                record[name] = getattr(row, name)
        colours.write(record.tobytes())
        scan.t_s.append(frame.t_s)
        scan.face_id.append(row.face_id if row is not None and row.found else -1)
        scan.crop_row.append(-1 if crop is None else n_crops)
        if crop is not None:
            crops.write(crop.tobytes())
            n_crops += 1
    if reader.n_cuts:
        scan.notes.append(f"{reader.n_cuts} scene cut(s).")
    followed = [face_id for face_id in scan.face_id if face_id >= 0]
    n_changes = int(np.count_nonzero(np.diff(followed)))
    if n_changes:
        scan.notes.append(f"The followed face was lost and another one taken {n_changes} time(s).")
    scan.checks["digest"] = digest.hexdigest()[:32] if scan.t_s else None


def _mean_fps(t_s: Float) -> float:
    """Return the frames per second, times without frames (over ``BRIDGE_S``) not counted; 0 where it is not known."""
    steps_s = np.diff(t_s)
    steps_s = steps_s[steps_s <= BRIDGE_S]
    return float(len(steps_s) / steps_s.sum()) if len(steps_s) else 0.0


def _new_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Make a ``.npy`` file of zeros with its room on the disk reserved, and return it mapped into memory.

    Without the reservation a disk that fills up while the array is written ends the process by SIGBUS.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            except OSError as error:
                # Other errors say that this file system cannot reserve.
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
    return cast(np.memmap[Any, Any], array)


def _write_segments(
    recording: Recording, reference: Reference, staging: Path, config: CropConfig, scan: _VideoScan
) -> list[Segment]:
    """Put the crops, the colours and the reference on one clock, cut at gaps, and write each segment."""
    t_s, face_ids, crop_rows = np.array(scan.t_s), np.array(scan.face_id), np.array(scan.crop_row)
    path = str(recording.video)
    if not len(t_s):
        raise VideoError(f"{path!r} gives no frame. Copy it again.")
    fps = _mean_fps(t_s)
    if fps < LEAST_FPS:
        raise SignalTooShort(f"{path!r} has {fps:.1f} frames per second; at least {LEAST_FPS:.1f} are needed.")
    if (face_ids >= 0).mean() < MIN_FOUND_SHARE:
        raise NoFace(
            f"No face in {(face_ids < 0).sum()} of {len(face_ids)} frames of {path!r} "
            f"(at least {100 * MIN_FOUND_SHARE:.0f} % must show one)."
        )
    clock_s = t_s[0] + np.arange(int((t_s[-1] - t_s[0]) * fps + 0.5) + 1) / fps
    at = nearest(t_s, clock_s)
    there = np.abs(t_s[at] - clock_s) <= 1 / fps + 1e-9
    shown_ids = np.where(there, face_ids[at], -1)
    bvp, hr_bpm = _at_clock(reference, clock_s)
    known = np.isfinite(bvp) if reference.bvp is not None else np.ones(len(clock_s), dtype=bool)
    if reference.hr_bpm is not None:
        known &= np.isfinite(hr_bpm)
    if not known.any():
        raise BadRecording(f"The reference of {path!r} knows no heart rate while the video runs; look at both clocks.")

    runs = [
        (first, end, face_id)
        for face_id in np.unique(shown_ids[shown_ids >= 0])
        for first, end in _runs(_bridged(shown_ids == face_id, int(BRIDGE_S * fps)) & known)
    ]
    long_enough = sorted(run for run in runs if run[1] - run[0] >= MIN_SEGMENT_S * fps)
    if not long_enough:
        longest_s = max((end - first for first, end, _ in runs), default=0) / fps
        raise SignalTooShort(
            f"The longest stretch of {path!r} with a face and a reference is {longest_s:.1f} s; "
            f"at least {MIN_SEGMENT_S:g} s are needed."
        )
    left_out_s = (len(clock_s) - sum(end - first for first, end, _ in long_enough)) / fps
    if left_out_s > 2 / fps:
        scan.notes.append(f"{left_out_s:.1f} s left out: no face, no frames, or no reference there.")

    crops: NDArray[np.uint8] = np.memmap(staging / "crops.raw", np.uint8, mode="r").reshape(
        -1, config.size_px, config.size_px, 3
    )
    read = np.memmap(staging / "colours.raw", COLOURS, mode="r")
    segments: list[Segment] = []
    rates: list[Float] = []
    jumps_s: list[float] = []
    longest = max(long_enough, key=lambda run: run[1] - run[0])
    for number, (first, end, face_id) in enumerate(long_enough):
        part = slice(first, end)
        rate_bpm = hr_bpm[part] if reference.hr_bpm is not None else _rates(bvp[part], fps, path)
        if reference.bvp is not None:
            _note_contradiction(bvp[part], rate_bpm, fps, path, number, scan)
        of_face = (face_ids == face_id) | (face_ids < 0)
        has_crop = np.flatnonzero((crop_rows >= 0) & of_face)
        shown = crop_rows[has_crop[nearest(t_s[has_crop], clock_s[part])]]
        frames = _new_array(staging / f"frames_{number}.npy", np.dtype(np.uint8), (end - first, *crops.shape[1:]))
        for begin in range(0, end - first, 256):
            frames[begin : begin + 256] = crops[shown[begin : begin + 256]]
        frames.flush()
        found = shown_ids[part] == face_id
        colours = _new_array(staging / f"colours_{number}.npy", np.dtype(COLOURS), (end - first,))
        _write_colours(read, of_face, t_s, clock_s[part], at[part], there[part], colours)
        colours["found"] = found
        colours.flush()
        np.savez(staging / f"labels_{number}.npz", bvp=bvp[part], hr_bpm=rate_bpm, found=found)
        segments.append(
            Segment(
                start_s=round(float(clock_s[first]), 6),
                n_frames=end - first,
                found_share=round(float(found.mean()), 4),
                hr_bpm=round(float(rate_bpm.mean()), 2),
            )
        )
        rates.append(rate_bpm)
        jumps_s += [round(float(clock_s[first]) + jump_s, 1) for jump_s in rate_jumps_s(rate_bpm, fps)]
        if (first, end, face_id) == longest:
            rgb = resample(clock_s[part], colours["rgb"].astype(np.float64), clock_s[part])
            scan.checks |= compare_pulse(rgb, bvp[part] if reference.bvp is not None else None, rate_bpm, fps)
    all_rates = np.concatenate(rates)
    scan.checks |= {
        "jumps_s": tuple(jumps_s),
        "hr_mean_bpm": round(float(all_rates.mean()), 2),
        "hr_min_bpm": round(float(all_rates.min()), 2),
        "hr_max_bpm": round(float(all_rates.max()), 2),
    }
    return segments


def _write_colours(
    read: NDArray[Any],
    of_face: NDArray[np.bool_],
    t_s: Float,
    clock_s: Float,
    at: NDArray[np.intp],
    there: NDArray[np.bool_],
    out: NDArray[Any],
) -> None:
    """Put what was read at the frames' times t_s (N,) on the clock (T,).

    Linear between two frames ``of_face`` (N,), and unknown where the nearest frame, number ``at`` (T,), did not show it
    or is not ``there``. One column at a time, so that memory stays small.
    """
    for name in ("rgb", "traces", "background_rgb", "box_xywh"):
        # Views, a column for each number.
        given, taken = read[name].reshape(len(read), -1), out[name].reshape(len(out), -1)
        for k in range(given.shape[1]):
            values = given[:, k].astype(np.float64)
            use = np.isfinite(values) & of_face
            known = use[at] & there
            taken[:, k] = np.where(known, np.interp(clock_s, t_s[use], values[use]), np.nan) if use.any() else np.nan
    marks = np.rint((t_s[read["whole"]] - clock_s[0]) * (len(clock_s) - 1) / (clock_s[-1] - clock_s[0])).astype(int)
    out["whole"][marks[(marks >= 0) & (marks < len(clock_s))]] = True


def _at_clock(reference: Reference, clock_s: Float) -> tuple[Float, Float]:
    """Return the wave and the rate (T,) at the times of the clock; NaN where the reference does not know them."""

    def at_clock(values: Float | None, max_step_s: float) -> Float:
        out = np.full(len(clock_s), np.nan)
        if values is None:
            return out
        use = np.isfinite(values)
        t_s, values = reference.t_s[use], values[use]
        if len(t_s) < 2:
            return out
        right = np.clip(np.searchsorted(t_s, clock_s), 1, len(t_s) - 1)
        # Half a millisecond: stamps rounded by a container must not cut off the first and the last frame.
        inside = (clock_s >= t_s[0] - 5e-4) & (clock_s <= t_s[-1] + 5e-4)
        inside &= t_s[right] - t_s[right - 1] <= max_step_s
        out[inside] = np.interp(clock_s[inside], t_s, values)
        return out

    return at_clock(reference.bvp, MAX_WAVE_STEP_S), at_clock(reference.hr_bpm, MAX_RATE_STEP_S)


def _bridged(found: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Return found (T,) with the holes of up to ``longest`` frames between found ones closed."""
    closed = found.copy()
    for first, end in _runs(~found):
        if first > 0 and end < len(found) and end - first <= longest:
            closed[first:end] = True
    return closed


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _rates(bvp: Float, fps: float, path: str) -> Float:
    """Return the rate (T,) of a reference wave by THE estimator, over windows of ``RATE_WINDOW_S`` a second apart."""
    length = min(len(bvp), round(RATE_WINDOW_S * fps))
    firsts = np.unique(np.append(np.arange(0, len(bvp) - length + 1, max(1, round(fps))), len(bvp) - length))
    rates = [estimate_heart_rate(bvp[first : first + length], fps).hr_bpm for first in firsts]
    if any(rate is None for rate in rates):
        raise BadRecording(f"The reference wave of {path!r} is flat for {RATE_WINDOW_S:g} s; its sensor was off.")
    return np.interp(np.arange(len(bvp)), firsts + (length - 1) / 2, np.array(rates, dtype=np.float64))


def _note_contradiction(bvp: Float, hr_bpm: Float, fps: float, path: str, number: int, scan: _VideoScan) -> None:
    """Note it when a reference's wave and rate contradict each other; refuse a wave that does not move at all."""
    wave_bpm = estimate_heart_rate(bvp, fps).hr_bpm
    if wave_bpm is None:
        raise BadRecording(f"The reference wave of {path!r} is flat; its sensor was off.")
    mean_bpm = float(hr_bpm.mean())
    if abs(wave_bpm - mean_bpm) > CONTRADICTION_BPM:
        scan.notes.append(
            f"Segment {number}: the reference wave beats at {wave_bpm:.0f} bpm, its rate says {mean_bpm:.0f}."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def open_cached(
    root: Path, config: CropConfig | None = None, *, datasets: Collection[str] | None = None
) -> list[CachedRecording]:
    """Return the segments in a cache, in order of recording id; ``datasets`` names those wanted, None takes all.

    Raises BadRecording where nothing was prepared with these settings, or a file is damaged; ``verifying`` finds more
    of that.
    """
    config = config or CropConfig()
    home = cache_folder(root, config)
    if not home.is_dir():
        there = [_describe_settings(path) for path in sorted(Path(root).glob("*/config.json"))]
        raise BadRecording(
            f"{str(root)!r} holds no crops for {config}; it holds {'; '.join(there) or 'none at all'}. "
            "Run autohr prepare with these settings."
        )
    wanted = [one for one in _entries(home) if one.state == "ok" and (datasets is None or one.dataset in datasets)]
    check = _CHECK.get()
    if check is not None:
        check(Path(root), config, wanted)
    opened = []
    for entry in wanted:
        folder = home / file_stem(entry.id)
        for number, segment in enumerate(entry.segments):
            opened.append(
                CachedRecording(
                    recording_id=entry.id,
                    dataset=entry.dataset,
                    subject=entry.subject,
                    session=entry.session,
                    segment=number,
                    start_s=segment.start_s,
                    fps=entry.fps,
                    frames=_map_frames(folder, number, segment, config),
                    **read_labels(folder / f"labels_{number}.npz", segment.n_frames),
                    colours=folder / f"colours_{number}.npy",
                    groups=entry.groups,
                    fold=entry.fold,
                    notes=(*entry.reader_notes, *entry.notes),
                )
            )
    return opened


@contextlib.contextmanager
def verifying(
    progress: Callable[[int, int, Entry], None] | None = None, say: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Have ``open_cached`` verify in this block what it opens, each recording once, and ``say`` the line of that.

    Parameters and errors are those of ``verify``, raised by ``open_cached``.
    """
    known: set[tuple[Path, CropConfig, str]] = set()

    def check(root: Path, config: CropConfig, entries: Sequence[Entry]) -> None:
        new = {(root, config, entry.id): entry for entry in entries if (root, config, entry.id) not in known}
        if new:
            line = verify(root, config, new.values(), progress)
            known.update(new)
            if say is not None:
                say(line)

    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


_CHECK: ContextVar[Callable[[Path, CropConfig, Sequence[Entry]], None] | None] = ContextVar("check", default=None)


def verify(
    root: Path,
    config: CropConfig,
    entries: Iterable[Entry],
    progress: Callable[[int, int, Entry], None] | None = None,
) -> str:
    """Read every array of these recordings, compare it with its checksum, and say in one line what was verified.

    Recordings that were stored before there were checksums cannot be; ``prepare`` adds theirs. ``progress`` is called
    with (done, total, entry) after each recording.

    Raises
    ------
    BadRecording
        An array is damaged or missing; the message names it and its recording.
    """
    home, kept = cache_folder(root, config), [entry for entry in entries if entry.state == "ok"]
    for done, entry in enumerate(kept, 1):
        damage = damage_of(home / file_stem(entry.id), entry.checksums)
        if damage is not None:
            raise BadRecording(f"{entry.id} in {str(root)!r}: {damage} Run autohr prepare again, which makes it anew.")
        if progress is not None:
            progress(done, len(kept), entry)
    unknown = [entry.id for entry in kept if not entry.checksums]
    verified = f"{len(kept) - len(unknown)} of {len(kept)} recordings in {str(root)!r} are as they were written."
    if unknown:
        verified += (
            f" {len(unknown)} cannot be verified, such as {unknown[0]}: they have no checksums. Run autohr prepare "
            "again, which adds them."
        )
    return verified


def _map_frames(folder: Path, number: int, segment: Segment, config: CropConfig) -> NDArray[Any]:
    side = config.size_px
    return map_array(folder / f"frames_{number}.npy", np.uint8, (segment.n_frames, side, side, 3))


def read_manifest(root: Path, config: CropConfig | None = None) -> Manifest:
    """Return every recording that was ever prepared with these settings, in order of id."""
    config = config or CropConfig()
    return Manifest(config, tuple(_entries(cache_folder(root, config))))


def _describe_settings(config_file: Path) -> str:
    try:
        return str(CropConfig(**read_json(config_file)["crop"]))
    except (AutoHRError, ValueError, KeyError, TypeError):
        return f"{config_file.parent.name} (settings not readable)"


def _entries(home: Path) -> list[Entry]:
    entries = []
    for file in home.glob(f"*/{ENTRY_FILE}"):
        if file.parent.name.startswith("."):
            continue
        entry = _read_entry(file)
        if entry is None:
            raise BadRecording(f"{str(file)!r} is damaged; remove its folder and prepare again.")
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.id)


def _read_entry(file: Path, source: dict[str, Any] | None = None) -> Entry | None:
    """Read a finished recording's entry; None where it is missing, damaged, or made from another ``source``."""
    try:
        record = read_json(file)
        return None if source not in (None, record["source"]) else _ENTRY.validate_python(record["entry"])
    except (AutoHRError, ValueError, KeyError, TypeError):
        return None


def stored_entry(recording: Recording, root: Path, config: CropConfig) -> Entry | None:
    """Return a recording's entry if it was made from the files that are there now; no video is read."""
    folder = cache_folder(root, config) / file_stem(recording.id)
    if not (folder / ENTRY_FILE).exists():
        return None
    label = _read_label(recording)
    entry = _read_entry(folder / ENTRY_FILE, _source(recording, label))
    return None if entry is None else dataclasses.replace(entry, **_reader_fields(recording, label))


def entry_of(fields: Any) -> Entry:
    """Return the entry with these fields; ValueError where they are of none."""
    return _ENTRY.validate_python(fields)


def _read_label(recording: Recording) -> Reference | BadRecording | None:
    try:
        return recording.read_reference()
    except BadRecording as error:
        return error


def _reader_fields(recording: Recording, label: Reference | BadRecording | None) -> dict[str, Any]:
    """Return what an entry takes over from the reader; a change of these makes nothing anew."""
    label_notes = label.notes if isinstance(label, Reference) else ()
    return {"groups": dict(recording.groups), "fold": recording.fold, "reader_notes": (*recording.notes, *label_notes)}


ENTRY_FILE = "recording.json"
_ENTRY = TypeAdapter(Entry)


def _source(recording: Recording, label: Reference | BadRecording | None) -> dict[str, Any]:
    """Return what crops and labels are made from, so that a change is noticed; where it lies does not matter."""
    video = recording.video
    files = sorted(video.iterdir()) if video.is_dir() else [video] if video.exists() else []
    stats = [file.stat() for file in files]
    try:
        times_s = recording.read_frame_times()
        clock = "none" if times_s is None else _digest([times_s])
    except BadRecording as error:
        clock = str(error)
    reference = str(label) if isinstance(label, BadRecording) else "none"
    return {
        "n_files": len(files),
        "n_bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        "video_fps": recording.video_fps,
        "span": None if recording.span is None else list(recording.span),
        "frame_times": clock,
        "reference": _digest([label.t_s, label.bvp, label.hr_bpm]) if isinstance(label, Reference) else reference,
    }


def _digest(arrays: Sequence[Float | None]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(b"none" if values is None else np.ascontiguousarray(values, np.float64).tobytes())
    return digest.hexdigest()[:16]
