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
changed since is made again; so is one whose reader now gives other numbers. One ``prepare`` at a time may work on
one cache.

The clock. Frames are put on a uniform clock of the video's own mean rate (gaps over ``BRIDGE_S`` not counted): each
moment shows the nearest frame, by its real time stamp; nothing is blended, nothing brought to 30. On a video of steady
rate these are the frames as they are. Colours and the reference are interpolated to it.

What is missing. A face that is lost, or frames that are missing, for up to ``BRIDGE_S`` are filled with the nearest
crop and marked in ``found``. A longer gap ends the segment; what follows is the next one. Where the reference knows
nothing the segment ends too. Segments under ``LEAST_SEGMENT_S`` are left out; a recording without any is excluded.
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
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from autohr.errors import AutoHRError, BadRecording, NoFace, SignalTooShort, VideoError
from autohr.files import in_workers, read_json
from autohr.lab.datasets.checks import Checks, compare_pulse, rate_jumps_s
from autohr.lab.datasets.folds import check_official_folds
from autohr.lab.datasets.recording import Recording, Reference
from autohr.signals.clock import FaceRows, nearest, on_clock
from autohr.signals.filters import resample
from autohr.signals.rate import BAND_BPM, estimate_heart_rate
from autohr.types import FaceClip, Float, Frame
from autohr.video.decode import VideoFrame, open_video
from autohr.video.faces import Detects, FaceDetector, FaceTracker
from autohr.video.rois import REGIONS, UNSEEN, SkinReader, background_colour, face_patch, grown, scaled

if sys.platform != "win32":
    import fcntl
else:
    fcntl = None

SCHEMA = "autohr.cache/2"
"""Part of the key: a change of what is stored makes a new cache and never mixes with an old one."""

BRIDGE_S = 1.0
"""Longest time for which a missing face, or missing frames, are filled (the meter's, DESIGN 2, rule 6)."""
LEAST_SEGMENT_S = 5.0
"""Shortest segment that is kept. Ours: a little under the paper's clip of 160 frames at 30 frames per second."""
LEAST_FOUND = 0.5
"""A recording whose face was seen in less than this share of its frames is excluded. Ours."""
LEAST_FPS = 2.2 * BAND_BPM[1] / 60
"""Frames per second that can show the fastest rate looked for, with a tenth to spare."""
WAVE_STEP_S, RATE_STEP_S = 0.25, 5.0
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
"""What the meter knows of a face in one frame (``types.FaceClip``); NaN where it was not seen. Single precision rounds
colours to a hundred thousandth of a grey level."""

Box = Literal["tracked", "first"]


@dataclass(frozen=True)
class CropConfig:
    """What a crop shows. A net must be used with the crop that it was trained with, so checkpoints record this."""

    size_px: int = 128
    """Side of a stored crop; above the nets' 112 or 64 so that crops by chance can be cut from it."""
    box: Box = "tracked"
    """tracked: the followed, smoothed box of each frame. first: the paper's, the box of the first frame that shows a
    face, fixed for the whole video."""
    margin: float = 0.1
    """Added on each side of the box, in shares of its width and height. Beyond the border the picture's edge is
    repeated (tracked), or the box is clamped to the picture (first, as in the paper)."""

    def __post_init__(self) -> None:
        if not 16 <= self.size_px <= 1024:
            raise ValueError(f"size_px={self.size_px} must lie between 16 and 1024.")
        if self.box not in get_args(Box):
            raise ValueError(f"box={self.box!r} is not one of {', '.join(get_args(Box))}.")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin={self.margin} must lie between 0 and 1.")

    def key(self) -> str:
        """Twelve hexadecimal digits that differ for different settings; the folder's name in the cache."""
        said = json.dumps([SCHEMA, dataclasses.asdict(self)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]


PAPER_CROP = CropConfig(box="first", margin=0.25)
"""The paper's: MTCNN on the first frame, box enlarged and never moved. The factor 1.5 (0.25 on each side) is not
published for this paper; it is the default of rPPG-Toolbox and the upper end of the author's other work."""


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
    """What became of one recording."""

    id: str
    dataset: str
    subject: str
    session: str
    state: Literal["ok", "excluded"]
    reason: str | None
    """Why it was excluded."""
    duration_s: float
    """Of the video, as its time stamps say."""
    fps: float
    """Of the uniform clock."""
    n_frames: int
    """Read from the video."""
    found_share: float
    """Share of them in which the face was seen."""
    has_bvp: bool
    segments: tuple[Segment, ...]
    notes: tuple[str, ...]
    """What was repaired, cut out or looks odd, one sentence each."""
    damaged: bool = False
    """Excluded because a file is missing or damaged, or contradicts another; not for want of a face or of length."""
    checks: Checks = dataclasses.field(default_factory=Checks)
    """What video and label say about each other."""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fold: int | None = None
    reader_notes: tuple[str, ...] = ()
    """As ``Recording`` has them; so are ``groups`` and ``fold``."""
    start_s: float = 0.0
    """Time of the first frame that was used; ``duration_s`` counts from there."""

    @property
    def kept_s(self) -> float:
        """Seconds in the cache."""
        return sum(segment.n_frames for segment in self.segments) / self.fps if self.segments else 0.0


@dataclass(frozen=True)
class Manifest:
    """Every recording that was asked for, in that order, kept or not."""

    config: CropConfig
    entries: tuple[Entry, ...]

    @property
    def kept(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "ok"]

    @property
    def excluded(self) -> list[Entry]:
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
    """What tables may be split by."""
    fold: int | None = None
    """Official fold, counted from 1."""
    notes: tuple[str, ...] = ()
    """What the reader and the preparation noticed."""

    @property
    def n_frames(self) -> int:
        return int(self.frames.shape[0])

    @property
    def has_bvp(self) -> bool:
        return bool(np.isfinite(self.bvp).all())

    def face_clip(self, first: int, n_frames: int, crop: int | None = None) -> FaceClip:
        """Frames ``first`` .. ``first + n_frames - 1`` as the meter gives them to a method, without the video.

        On a steady clock they equal the meter's within the rounding of ``COLOURS``. On an uneven one the meter's clock
        is that of its first window, this one the whole recording's.

        Args:
            crop: side in pixels of the face crops wanted, made of the stored ones; None for colours only.

        Raises:
            ValueError: frames that the segment does not have, or a recording without colours.
            SignalTooShort: the face was seen in fewer than two of the frames.
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
        read = np.load(self.colours, mmap_mode="r")[part]
        colours = {name: read[name].astype(np.float64) for name in ("rgb", "traces", "background_rgb", "box_xywh")}
        t_s = self.start_s + (part.start + np.arange(len(read))) / self.fps
        rows = FaceRows(t_s, **colours, found=np.array(read["found"]), whole=np.array(read["whole"]))
        clip = on_clock(rows, self.fps, self.start_s + first / self.fps, n_frames)
        if crop is None:
            return clip
        shown = (np.rint(scaled(frame, crop)).astype(np.uint8) for frame in self.frames[first : first + n_frames])
        return dataclasses.replace(clip, clip=np.stack(list(shown)))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        # A part of a mapped file has the file's name too, but not all of it.
        if isinstance(self.frames, np.memmap) and isinstance(self.frames.base, mmap.mmap):
            state["frames"] = Path(str(self.frames.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["frames"], Path):
            state["frames"] = np.load(state["frames"], mmap_mode="r")
        self.__dict__.update(state)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def prepare(
    recordings: Sequence[Recording],
    root: Path,
    config: CropConfig | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int, Entry], None] | None = None,
    detector: Detects | None = None,
) -> Manifest:
    """Read, check, crop and cache recordings. What is already there and unchanged is kept.

    Memory does not grow with the length of a video. The disk needs about twice a recording's crops while it is made.

    Args:
        root: folder of the cache, for any number of datasets and crop settings.
        workers: processes; one for each processor if None. 1 works in this process.
        progress: called with (done, total, entry) after each recording, in the order in which they end.
        detector: finds faces; the shipped MTCNN if None. It is not part of the key: another one needs another root.

    Raises:
        ValueError: two recordings with one id, or workers below 1.
        BadRecording: a subject in two official folds; nothing is prepared.
        AutoHRError: the cache cannot be written, or a worker was killed. What was finished stays.
    """
    config = config or CropConfig()
    workers = min(workers if workers is not None else os.cpu_count() or 1, max(1, len(recordings)))
    if workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more.")
    ids = [recording.id for recording in recordings]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ValueError(f"Two recordings have the id {twice!r}; ids must be unique.")
    check_official_folds(recordings)
    home = Path(root) / config.key()
    entries: dict[str, Entry] = {}
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            for left in home.glob(".tmp-*"):
                _remove(left)
            write_json(home / "config.json", {"schema": SCHEMA, "crop": dataclasses.asdict(config)})
            make = functools.partial(_make, home=home, config=config, detector=detector)
            for _, entry in in_workers(make, recordings, workers):
                entries[entry.id] = entry
                if progress is not None:
                    progress(len(entries), len(recordings), entry)
    except OSError as error:
        raise AutoHRError(
            f"The cache {str(home)!r} cannot be written: {error.strerror or error}. "
            "Make room or choose another folder, and run again; finished recordings are kept."
        ) from error
    return Manifest(config, tuple(entries[one] for one in ids))


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Holds the cache for one ``prepare`` at a time: two would write into one another's folders.

    The lock is the system's and ends with the process, also when it is killed. Where there is none (Windows), nothing
    is held."""
    if fcntl is None:
        yield
        return
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AutoHRError(
                f"Another autohr prepare is writing into {str(home)!r}. Wait for it, or choose another --out."
            ) from None
        yield


def _make(recording: Recording, home: Path, config: CropConfig, detector: Detects | None) -> Entry:
    """The entry of a recording that is there and unchanged; else it is made in a temporary folder and moved in."""
    place = home / _folder_name(recording.id)
    try:
        label: Reference | BadRecording | None = recording.read_reference()
    except BadRecording as error:
        label = error
    source = _source(recording, label)
    entry = _read_entry(place / "recording.json", source)
    if entry is not None:
        told = dataclasses.replace(entry, **_told(recording, label))
        if told != entry:
            write_json(place / "recording.json", _record(source, told))
        return told
    # Named by process: a worker whose parent was killed must not move the folder of the next one.
    desk = home / f".tmp-{os.getpid()}-{place.name}"
    _remove(desk)
    desk.mkdir()
    entry = _crop(recording, label, desk, config, detector)
    write_json(desk / "recording.json", _record(source, entry))
    if place.exists():
        # An outdated recording. It goes out of sight by a rename, for a half-removed one would look whole.
        old = home / f".tmp-old-{place.name}"
        _remove(old)
        place.rename(old)
        _remove(old)
    desk.rename(place)
    return entry


def _record(source: dict[str, Any], entry: Entry) -> dict[str, Any]:
    return {"schema": SCHEMA, "source": source, "entry": dataclasses.asdict(entry)}


def _told(recording: Recording, label: Reference | BadRecording | None) -> dict[str, Any]:
    """What an entry takes over from the reader; a change of it makes nothing anew."""
    noticed = label.notes if isinstance(label, Reference) else ()
    return {"groups": dict(recording.groups), "fold": recording.fold, "reader_notes": (*recording.notes, *noticed)}


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


@functools.cache
def _detector() -> Detects:
    """One for each process: its weights take a second to load."""
    return FaceDetector()


def _crop(
    recording: Recording,
    label: Reference | BadRecording | None,
    desk: Path,
    config: CropConfig,
    detector: Detects | None,
) -> Entry:
    """Crop one recording into ``desk``; a recording that cannot be used leaves nothing there but its entry."""
    seen = _Seen(checks={"is_part": recording.span is not None})
    entry = Entry(
        id=recording.id,
        dataset=recording.dataset,
        subject=recording.subject,
        session=recording.session,
        state="excluded",
        reason=None,
        duration_s=0.0,
        fps=0.0,
        n_frames=0,
        found_share=0.0,
        has_bvp=False,
        segments=(),
        notes=(),
        **_told(recording, label),
    )
    raw_crops, raw_colours = desk / "crops.raw", desk / "colours.raw"
    try:
        if isinstance(label, BadRecording):
            raise label
        if label is None:
            raise BadRecording(f"No reference for {str(recording.video)!r}; there is nothing to learn or judge by.")
        known_s = label.t_s[np.isfinite(np.stack([v for v in (label.bvp, label.hr_bpm) if v is not None])).any(axis=0)]
        if len(known_s):
            seen.checks |= {"label_start_s": round(float(known_s[0]), 3), "label_end_s": round(float(known_s[-1]), 3)}
        entry = dataclasses.replace(entry, has_bvp=label.bvp is not None)
        with raw_crops.open("wb") as crops, raw_colours.open("wb") as colours:
            _watch(_frames(recording, seen), config, crops, colours, seen, detector or _detector())
        segments = _write_segments(recording, label, desk, config, seen)
        entry = dataclasses.replace(entry, state="ok", segments=tuple(segments))
    except (VideoError, NoFace, SignalTooShort, BadRecording) as error:
        entry = dataclasses.replace(entry, reason=str(error), damaged=isinstance(error, (VideoError, BadRecording)))
        for begun in desk.iterdir():
            begun.unlink()
    finally:
        raw_crops.unlink(missing_ok=True)
        raw_colours.unlink(missing_ok=True)
    n_frames = len(seen.t_s)
    return dataclasses.replace(
        entry,
        start_s=round(seen.t_s[0], 6) if seen.t_s else 0.0,
        duration_s=round(seen.t_s[-1] - seen.t_s[0], 3) if seen.t_s else 0.0,
        fps=_mean_fps(np.array(seen.t_s)),
        n_frames=n_frames,
        found_share=round(sum(seen.found) / n_frames, 4) if n_frames else 0.0,
        notes=tuple(seen.notes),
        checks=Checks(**seen.checks),
    )


@dataclass
class _Seen:
    """What was seen of one video, frame by frame; grows by some bytes a frame."""

    t_s: list[float] = dataclasses.field(default_factory=list)
    found: list[bool] = dataclasses.field(default_factory=list)
    row: list[int] = dataclasses.field(default_factory=list)
    """Of the frame's crop in the raw file; -1 where there is none."""
    notes: list[str] = dataclasses.field(default_factory=list)
    checks: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of ``Checks`` as they become known."""


def _frames(recording: Recording, seen: _Seen) -> Iterator[VideoFrame]:
    """The frames that the protocol uses, with their times; notes what is odd.

    Raises:
        VideoError: the video gives none.
        BadRecording: the frame clock does not fit the video.
    """
    times_s = recording.read_frame_times()
    first, end = recording.span or (0, None)
    n_there = n_late = 0
    last_s = -np.inf
    for number, frame in _numbered(recording, times_s is not None, seen):
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
        seen.notes.append(f"{n_late} frame(s) dropped: their time was already taken or ran backwards.")
    if times_s is not None and len(times_s) != n_there:
        said = f"The frame clock of {path!r} has {len(times_s)} times, its video {n_there} frames"
        if abs(len(times_s) - n_there) > CLOCK_SLACK:
            seen.checks["frames_missing"] = max(0, len(times_s) - n_there)
            raise BadRecording(f"{said}; at most {CLOCK_SLACK} may be left over. Copy both files again.")
        seen.notes.append(f"{said}; what is left over at the end was cut.")
    if end is not None and n_there < end:
        seen.checks["frames_missing"] = end - n_there
        seen.notes.append(f"The video has {n_there} frames; the protocol uses those up to {end}.")
        if n_there <= first:
            raise BadRecording(f"{path!r} has {n_there} frames; the protocol begins with frame {first}. Copy it again.")


def _numbered(recording: Recording, has_clock: bool, seen: _Seen) -> Iterator[tuple[int, VideoFrame]]:
    """Every frame with its number in the file, counted from 0."""
    if recording.open_frames is not None:
        yield from enumerate(recording.open_frames())
        return
    fps = recording.video_fps
    if has_clock and fps is None:
        if not recording.video.is_dir():
            with open_video(recording.video) as video:
                seen.checks["fps_nominal"] = video.fps_nominal
        # The container's stamps would drop frames that it believes late, and so shift all that follow; this counts.
        fps = 30.0
    with open_video(recording.video, fps=fps) as video:
        if fps is None:
            seen.checks["fps_nominal"] = video.fps_nominal
        for frame in video:
            yield (round(frame.t_s * fps) if has_clock and fps is not None else frame.index), frame
        seen.notes += video.notes


def _watch(
    frames: Iterator[VideoFrame],
    config: CropConfig,
    crops: BinaryIO,
    colours: BinaryIO,
    seen: _Seen,
    detector: Detects,
) -> None:
    """Follow the face through the video and append its crops and colours to the files."""
    tracker = FaceTracker(max_faces=1, bridge_s=BRIDGE_S, detector=detector)
    digest = hashlib.sha256()
    reader, last_id, last_seen_s = SkinReader(), -1, -np.inf
    fixed: Float | None = None
    n_rows = n_people = 0
    for frame in frames:
        picture, t_s = frame.rgb, frame.t_s
        step = max(1, min(picture.shape[:2]) // 32)
        digest.update(np.ascontiguousarray(picture[::step, ::step]).tobytes())
        faces = tracker.update(picture, t_s)
        face = faces[0] if faces and faces[0].seen else None
        if config.box == "first" and fixed is None and face is not None:
            fixed = grown(face.box_xywh, config.margin, picture)
        box = fixed if config.box == "first" else faces[0].box_xywh if faces else None
        read = UNSEEN
        if face is not None and box is not None:
            n_people += face.id != last_id
            if face.id != last_id or t_s - last_seen_s > BRIDGE_S:
                # As the meter: the skin mask of before the gap belongs to another light and another pose.
                reader = SkinReader()
            last_id, last_seen_s = face.id, t_s
            read = reader.read(picture, box, face.landmarks, t_s)
        row = np.zeros(1, COLOURS)
        row["rgb"], row["traces"], row["found"], row["whole"] = read.rgb, read.traces, face is not None, frame.whole
        row["box_xywh"] = np.nan if box is None else box
        row["background_rgb"] = np.nan if box is None or not faces else background_colour(picture, [box])
        colours.write(row.tobytes())
        seen.t_s.append(t_s)
        seen.found.append(face is not None)
        # A box that never moves shows something in every frame; a followed one is a guess where no face is seen.
        shown = box if face is not None or config.box == "first" else None
        seen.row.append(-1 if shown is None else n_rows)
        if shown is not None:
            crop = face_patch(picture, shown, config.size_px, config.margin if config.box == "tracked" else 0.0)
            crops.write(np.rint(crop).astype(np.uint8).tobytes())
            n_rows += 1
    if tracker.n_cuts:
        seen.notes.append(f"{tracker.n_cuts} scene cut(s).")
    if n_people > 1:
        seen.notes.append(f"The followed face was lost and another one taken {n_people - 1} time(s).")
    seen.checks["digest"] = digest.hexdigest()[:32] if seen.t_s else None


def _mean_fps(t_s: Float) -> float:
    """Frames per second, times without frames (over ``BRIDGE_S``) not counted; 0 where that is not known."""
    steps_s = np.diff(t_s)
    steps_s = steps_s[steps_s <= BRIDGE_S]
    return float(len(steps_s) / steps_s.sum()) if len(steps_s) else 0.0


def _new_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Make a ``.npy`` file of zeros with its room on the disk reserved, and return it mapped into memory.

    Without the reservation a disk that fills up while the array is written ends the process by SIGBUS.

    Raises:
        OSError: there is no room for it.
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
    recording: Recording, reference: Reference, desk: Path, config: CropConfig, seen: _Seen
) -> list[Segment]:
    """Put the crops, the colours and the reference on one clock, cut at gaps, and write each segment."""
    t_s, seen_in, row = np.array(seen.t_s), np.array(seen.found), np.array(seen.row)
    path = str(recording.video)
    if not len(t_s):
        raise VideoError(f"{path!r} gives no frame. Copy it again.")
    fps = _mean_fps(t_s)
    if fps < LEAST_FPS:
        raise SignalTooShort(f"{path!r} has {fps:.1f} frames per second; at least {LEAST_FPS:.1f} are needed.")
    if seen_in.mean() < LEAST_FOUND:
        raise NoFace(
            f"No face in {(~seen_in).sum()} of {len(seen_in)} frames of {path!r} "
            f"(at least {100 * LEAST_FOUND:.0f} % must show one)."
        )
    clock_s = t_s[0] + np.arange(int((t_s[-1] - t_s[0]) * fps + 0.5) + 1) / fps
    at = nearest(t_s, clock_s)
    there = np.abs(t_s[at] - clock_s) <= 1 / fps + 1e-9
    found = seen_in[at] & there
    bvp, hr_bpm = _on_clock(reference, clock_s)
    known = np.isfinite(bvp) if reference.bvp is not None else np.ones(len(clock_s), dtype=bool)
    if reference.hr_bpm is not None:
        known &= np.isfinite(hr_bpm)
    if not known.any():
        raise BadRecording(f"The reference of {path!r} knows no heart rate while the video runs; look at both clocks.")

    runs = _runs(_bridged(found, int(BRIDGE_S * fps)) & known)
    long_enough = [(first, end) for first, end in runs if end - first >= LEAST_SEGMENT_S * fps]
    if not long_enough:
        most_s = max((end - first for first, end in runs), default=0) / fps
        raise SignalTooShort(
            f"The longest stretch of {path!r} with a face and a reference is {most_s:.1f} s; "
            f"at least {LEAST_SEGMENT_S:g} s are needed."
        )
    left_out_s = (len(clock_s) - sum(end - first for first, end in long_enough)) / fps
    if left_out_s > 2 / fps:
        seen.notes.append(f"{left_out_s:.1f} s left out: no face, no frames, or no reference there.")

    has_crop = np.flatnonzero(row >= 0)
    shown = row[has_crop[nearest(t_s[has_crop], clock_s)]]
    crops: NDArray[np.uint8] = np.memmap(desk / "crops.raw", np.uint8, mode="r").reshape(
        -1, config.size_px, config.size_px, 3
    )
    read = np.memmap(desk / "colours.raw", COLOURS, mode="r")
    segments: list[Segment] = []
    rates: list[Float] = []
    longest = max(long_enough, key=lambda run: run[1] - run[0])
    for first, end in long_enough:
        number = len(segments)
        part = slice(first, end)
        rate_bpm = hr_bpm[part] if reference.hr_bpm is not None else _rates(bvp[part], fps, path)
        if reference.bvp is not None:
            _compare(bvp[part], rate_bpm, fps, path, number, seen)
        frames = _new_array(desk / f"frames_{number}.npy", np.dtype(np.uint8), (end - first, *crops.shape[1:]))
        for begin in range(first, end, 256):
            upto = min(end, begin + 256)
            frames[begin - first : upto - first] = crops[shown[begin:upto]]
        frames.flush()
        colours = _new_array(desk / f"colours_{number}.npy", np.dtype(COLOURS), (end - first,))
        _write_colours(read, t_s, clock_s[part], at[part], there[part], colours)
        colours.flush()
        np.savez(desk / f"labels_{number}.npz", bvp=bvp[part], hr_bpm=rate_bpm, found=found[part])
        segments.append(
            Segment(
                start_s=round(float(clock_s[first]), 6),
                n_frames=end - first,
                found_share=round(float(found[part].mean()), 4),
                hr_bpm=round(float(rate_bpm.mean()), 2),
            )
        )
        rates.append(rate_bpm)
        seen.checks["jumps_s"] = (
            *seen.checks.get("jumps_s", ()),
            *(round(float(clock_s[first]) + jump_s, 1) for jump_s in rate_jumps_s(rate_bpm, fps)),
        )
        if (first, end) == longest:
            rgb = resample(clock_s[part], colours["rgb"].astype(np.float64), clock_s[part])
            seen.checks |= compare_pulse(rgb, bvp[part] if reference.bvp is not None else None, rate_bpm, fps)
    for name, value in zip(("mean", "min", "max"), _mean_min_max(np.concatenate(rates)), strict=True):
        seen.checks[f"hr_{name}_bpm"] = round(value, 2)
    return segments


def _mean_min_max(values: Float) -> tuple[float, float, float]:
    return float(values.mean()), float(values.min()), float(values.max())


def _write_colours(
    read: NDArray[Any], t_s: Float, clock_s: Float, at: NDArray[np.intp], there: NDArray[np.bool_], out: NDArray[Any]
) -> None:
    """Put what was read at the frames' times t_s (N,) on the clock (T,): linear between two frames, and unknown where
    the nearest frame, number ``at`` (T,), did not show it or is not ``there``. One column at a time, so that memory
    stays small."""
    for name in ("rgb", "traces", "background_rgb", "box_xywh"):
        # Views, a column for each number.
        given, taken = read[name].reshape(len(read), -1), out[name].reshape(len(out), -1)
        for k in range(given.shape[1]):
            values = given[:, k].astype(np.float64)
            use = np.isfinite(values)
            known = use[at] & there
            taken[:, k] = np.where(known, np.interp(clock_s, t_s[use], values[use]), np.nan) if use.any() else np.nan
    out["found"] = read["found"][at] & there
    marks = np.rint((t_s[read["whole"]] - clock_s[0]) * (len(clock_s) - 1) / (clock_s[-1] - clock_s[0])).astype(int)
    out["whole"][marks[(marks >= 0) & (marks < len(clock_s))]] = True


def _on_clock(reference: Reference, clock_s: Float) -> tuple[Float, Float]:
    """Wave and rate (T,) each at the times of the clock; NaN where the reference does not know them."""

    def at_clock(values: Float | None, longest_step_s: float) -> Float:
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
        inside &= t_s[right] - t_s[right - 1] <= longest_step_s
        out[inside] = np.interp(clock_s[inside], t_s, values)
        return out

    return at_clock(reference.bvp, WAVE_STEP_S), at_clock(reference.hr_bpm, RATE_STEP_S)


def _bridged(found: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """found (T,) with the holes of up to ``longest`` frames between found ones closed."""
    closed = found.copy()
    for first, end in _runs(~found):
        if first > 0 and end < len(found) and end - first <= longest:
            closed[first:end] = True
    return closed


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _rates(bvp: Float, fps: float, path: str) -> Float:
    """The rate (T,) of a reference wave by THE estimator, over windows of ``RATE_WINDOW_S`` a second apart."""
    length = min(len(bvp), round(RATE_WINDOW_S * fps))
    firsts = np.unique(np.append(np.arange(0, len(bvp) - length + 1, max(1, round(fps))), len(bvp) - length))
    rates = [estimate_heart_rate(bvp[first : first + length], fps).hr_bpm for first in firsts]
    if any(rate is None for rate in rates):
        raise BadRecording(f"The reference wave of {path!r} is flat for {RATE_WINDOW_S:g} s; its sensor was off.")
    return np.interp(np.arange(len(bvp)), firsts + (length - 1) / 2, np.array(rates, dtype=np.float64))


def _compare(bvp: Float, hr_bpm: Float, fps: float, path: str, number: int, seen: _Seen) -> None:
    """Note it when a reference's wave and rate contradict each other.

    Raises:
        BadRecording: the wave does not move at all.
    """
    of_wave_bpm = estimate_heart_rate(bvp, fps).hr_bpm
    if of_wave_bpm is None:
        raise BadRecording(f"The reference wave of {path!r} is flat; its sensor was off.")
    mean_bpm = float(hr_bpm.mean())
    if abs(of_wave_bpm - mean_bpm) > CONTRADICTION_BPM:
        seen.notes.append(
            f"Segment {number}: the reference wave beats at {of_wave_bpm:.0f} bpm, its rate says {mean_bpm:.0f}."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def open_cached(
    root: Path, config: CropConfig | None = None, *, datasets: Collection[str] | None = None
) -> list[CachedRecording]:
    """The segments in a cache, in order of recording id; ``datasets`` names those wanted, None takes all.

    Raises:
        BadRecording: nothing was prepared with these settings, or a file is damaged.
    """
    config = config or CropConfig()
    home = Path(root) / config.key()
    if not home.is_dir():
        there = [_said(path) for path in sorted(Path(root).glob("*/config.json"))]
        raise BadRecording(
            f"{str(root)!r} holds no crops for {config}; it holds {'; '.join(there) or 'none at all'}. "
            "Run autohr prepare with these settings."
        )
    opened = []
    for entry in _entries(home):
        if entry.state != "ok" or (datasets is not None and entry.dataset not in datasets):
            continue
        folder = home / _folder_name(entry.id)
        for number, segment in enumerate(entry.segments):
            try:
                frames = np.load(folder / f"frames_{number}.npy", mmap_mode="r")
                with np.load(folder / f"labels_{number}.npz") as labels:
                    bvp, hr_bpm, found = labels["bvp"], labels["hr_bpm"], labels["found"]
            except (OSError, ValueError, KeyError) as error:
                raise BadRecording(f"{str(folder)!r} is damaged ({error}); remove it and prepare again.") from error
            opened.append(
                CachedRecording(
                    recording_id=entry.id,
                    dataset=entry.dataset,
                    subject=entry.subject,
                    session=entry.session,
                    segment=number,
                    start_s=segment.start_s,
                    fps=entry.fps,
                    frames=frames,
                    bvp=bvp,
                    hr_bpm=hr_bpm,
                    found=found,
                    colours=folder / f"colours_{number}.npy",
                    groups=entry.groups,
                    fold=entry.fold,
                    notes=(*entry.reader_notes, *entry.notes),
                )
            )
    return opened


def read_manifest(root: Path, config: CropConfig | None = None) -> Manifest:
    """Every recording that was ever prepared with these settings, in order of id."""
    config = config or CropConfig()
    return Manifest(config, tuple(_entries(Path(root) / config.key())))


def _said(config_file: Path) -> str:
    try:
        return str(CropConfig(**read_json(config_file)["crop"]))
    except (AutoHRError, ValueError, KeyError, TypeError):
        return f"{config_file.parent.name} (settings not readable)"


def _entries(home: Path) -> list[Entry]:
    entries = []
    for file in home.glob("*/recording.json"):
        if file.parent.name.startswith("."):
            continue
        entry = _read_entry(file)
        if entry is None:
            raise BadRecording(f"{str(file)!r} is damaged; remove its folder and prepare again.")
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.id)


def _read_entry(file: Path, source: dict[str, Any] | None = None) -> Entry | None:
    """The entry of a finished recording; None where it is missing, damaged, or made from another ``source``."""
    try:
        record = read_json(file)
        if source is not None and record["source"] != source:
            return None
        fields = dict(record["entry"])
        fields["segments"] = tuple(Segment(**one) for one in fields["segments"])
        fields["notes"], fields["reader_notes"] = tuple(fields["notes"]), tuple(fields["reader_notes"])
        checks = fields["checks"]
        fields["checks"] = Checks(**checks | {"jumps_s": tuple(checks["jumps_s"])})
        return Entry(**fields)
    except (AutoHRError, ValueError, KeyError, TypeError):
        return None


def _folder_name(recording_id: str) -> str:
    """A name that any file system takes; the digest keeps ids apart that differ only in what was replaced."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", recording_id).strip("-.")[:80]
    # Names of files that are no UTF-8 hold surrogates.
    digest = hashlib.sha256(recording_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain}-{digest[:8]}"


def _source(recording: Recording, label: Reference | BadRecording | None) -> dict[str, Any]:
    """What the crops and labels were made from, so that a change is noticed; where it lies does not matter."""
    video = recording.video
    files = sorted(video.iterdir()) if video.is_dir() else [video] if video.exists() else []
    stats = [file.stat() for file in files]
    try:
        times_s = recording.read_frame_times()
        clock = "none" if times_s is None else _digest([times_s])
    except BadRecording as error:
        clock = str(error)
    said = str(label) if isinstance(label, BadRecording) else "none"
    return {
        "n_files": len(files),
        "n_bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        "video_fps": recording.video_fps,
        "span": None if recording.span is None else list(recording.span),
        "frame_times": clock,
        "reference": _digest([label.t_s, label.bvp, label.hr_bpm]) if isinstance(label, Reference) else said,
    }


def _digest(arrays: Sequence[Float | None]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(b"none" if values is None else np.ascontiguousarray(values, np.float64).tobytes())
    return digest.hexdigest()[:16]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Written whole or not at all: into a neighbour that is renamed."""
    neighbour = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    neighbour.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    neighbour.replace(path)
