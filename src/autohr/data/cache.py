"""The cache of face crops: each video is decoded and its face found once, then read at the speed of memory.

    recordings -> prepare -> ROOT/<key of the crop settings>/<recording>/...  -> open_cached -> CachedRecording

    ROOT/3f0c9a5be1d2/
        manifest.json                   every recording: kept or excluded, and why
        config.json                     the crop settings behind the key
        synthetic-s1-0-9c41d2aa/        one recording
            recording.json              its manifest entry
            frames_0.npy                (T, S, S, 3) uint8 RGB: one segment, memory-mapped when read
            labels_0.npz                bvp (T,), hr_bpm (T,), found (T,)

A recording is made in a folder whose name starts with ``.tmp-`` and renamed when it is whole. So whenever the work is
killed, only whole recordings are there, and the same call goes on where it stopped. A video or a reference that has
changed since is made again. One ``prepare`` at a time may work on one cache.

The clock. Frames are put on a uniform clock of the video's own mean rate (gaps over ``BRIDGE_S`` not counted): each
moment shows the nearest frame, by its real time stamp; nothing is blended, nothing brought to 30. On a video of steady
rate these are the frames as they are. The reference is interpolated to that clock.

What is missing. A face that is lost, or frames that are missing, for up to ``BRIDGE_S`` are filled with the nearest
crop and marked in ``found``. A longer gap ends the segment; what follows is the next one. Where the reference knows
nothing the segment ends too. Segments under ``LEAST_SEGMENT_S`` are left out; a recording without any is excluded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from autohr.data.recording import Recording, Reference
from autohr.errors import AutoHRError, BadRecording, NoFace, SignalTooShort, VideoError
from autohr.signals.rate import BAND_BPM, estimate_heart_rate
from autohr.synth.recordings import in_workers
from autohr.types import Float, Frame
from autohr.video.decode import VideoReader, open_video
from autohr.video.faces import Detects, FaceDetector, FaceTracker
from autohr.video.rois import face_patch

if sys.platform != "win32":
    import fcntl
else:
    fcntl = None

SCHEMA = "autohr.cache/1"
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

    @property
    def n_frames(self) -> int:
        return int(self.frames.shape[0])

    @property
    def has_bvp(self) -> bool:
        return bool(np.isfinite(self.bvp).all())

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.frames, np.memmap) and self.frames.filename is not None:
            state["frames"] = Path(self.frames.filename)
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
    home = Path(root) / config.key()
    entries: dict[str, Entry] = {}
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            _write_json(home / "config.json", {"schema": SCHEMA, "crop": dataclasses.asdict(config)})
            to_make = []
            for recording in recordings:
                entry = _finished(home, recording)
                if entry is None:
                    to_make.append(recording)
                    continue
                entries[recording.id] = entry
                if progress is not None:
                    progress(len(entries), len(recordings), entry)
            try:
                make = functools.partial(_make, home=home, config=config, detector=detector)
                for _, entry in in_workers(make, to_make, workers):
                    entries[entry.id] = entry
                    if progress is not None:
                        progress(len(entries), len(recordings), entry)
            finally:
                _write_manifest(home, config)
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
    """Make one recording in a temporary folder and put it in its place."""
    place = home / _folder_name(recording.id)
    desk = home / f".tmp-{place.name}"
    _remove(desk)
    desk.mkdir()
    source = _source(recording)
    entry = _crop(recording, desk, config, detector)
    record = {"schema": SCHEMA, "source": source, "entry": dataclasses.asdict(entry)}
    _write_json(desk / "recording.json", record)
    if place.exists():
        # An outdated recording. It goes out of sight by a rename, for a half-removed one would look whole.
        old = home / f".tmp-old-{place.name}"
        _remove(old)
        place.rename(old)
        _remove(old)
    desk.rename(place)
    return entry


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@functools.cache
def _detector() -> Detects:
    """One for each process: its weights take a second to load."""
    return FaceDetector()


def _crop(recording: Recording, desk: Path, config: CropConfig, detector: Detects | None) -> Entry:
    """Crop one recording into ``desk``; a recording that cannot be used leaves nothing there but its entry."""
    seen = _Seen()
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
    )
    raw = desk / "crops.raw"
    try:
        reference = recording.read_reference()
        if reference is None:
            raise BadRecording(f"No reference for {str(recording.video)!r}; there is nothing to learn or judge by.")
        entry = dataclasses.replace(entry, has_bvp=reference.bvp is not None)
        with raw.open("wb") as file, open_video(recording.video, fps=recording.video_fps) as video:
            _watch(video, config, file, seen, detector or _detector())
        segments = _write_segments(recording, reference, desk, raw, config, seen)
        entry = dataclasses.replace(entry, state="ok", segments=tuple(segments))
    except (VideoError, NoFace, SignalTooShort, BadRecording) as error:
        entry = dataclasses.replace(entry, reason=str(error))
        for begun in desk.iterdir():
            begun.unlink()
    finally:
        raw.unlink(missing_ok=True)
    n_frames = len(seen.t_s)
    return dataclasses.replace(
        entry,
        duration_s=round(seen.t_s[-1] - seen.t_s[0], 3) if seen.t_s else 0.0,
        fps=_mean_fps(np.array(seen.t_s)),
        n_frames=n_frames,
        found_share=round(sum(seen.found) / n_frames, 4) if n_frames else 0.0,
        notes=tuple(seen.notes),
    )


@dataclass
class _Seen:
    """What was seen of one video, frame by frame; grows by some bytes a frame."""

    t_s: list[float] = dataclasses.field(default_factory=list)
    found: list[bool] = dataclasses.field(default_factory=list)
    row: list[int] = dataclasses.field(default_factory=list)
    """Of the frame's crop in the raw file; -1 where there is none."""
    notes: list[str] = dataclasses.field(default_factory=list)


def _watch(video: VideoReader, config: CropConfig, file: BinaryIO, seen: _Seen, detector: Detects) -> None:
    """Follow the face through the video and append its crops to ``file``."""
    tracker = FaceTracker(max_faces=1, bridge_s=BRIDGE_S, detector=detector)
    fixed: Float | None = None
    n_rows = 0
    for frame in video:
        faces = tracker.update(frame.rgb, frame.t_s)
        face = faces[0] if faces and faces[0].seen else None
        crop = None
        if config.box == "first":
            if fixed is None and face is not None:
                fixed = enlarged(face.box_xywh, config.margin, frame.rgb)
            if fixed is not None:
                crop = face_patch(frame.rgb, fixed, config.size_px)
        elif face is not None:
            crop = face_patch(frame.rgb, face.box_xywh, config.size_px, config.margin)
        seen.t_s.append(frame.t_s)
        seen.found.append(face is not None)
        seen.row.append(-1 if crop is None else n_rows)
        if crop is not None:
            file.write(np.rint(crop).astype(np.uint8).tobytes())
            n_rows += 1
    seen.notes += video.notes
    if tracker.n_cuts:
        seen.notes.append(f"{tracker.n_cuts} scene cut(s).")


def enlarged(box_xywh: Float, margin: float, frame: Frame) -> Float:
    """box (4,) grown by ``margin`` of its sides on each side about its centre, clamped to the frame (H, W, 3)."""
    x, y, width, height = (float(v) for v in box_xywh)
    left, top = max(0.0, x - margin * width), max(0.0, y - margin * height)
    right = min(float(frame.shape[1]), x + (1 + margin) * width)
    bottom = min(float(frame.shape[0]), y + (1 + margin) * height)
    return np.array([left, top, right - left, bottom - top])


def _mean_fps(t_s: Float) -> float:
    """Frames per second, times without frames (over ``BRIDGE_S``) not counted; 0 where that is not known."""
    steps_s = np.diff(t_s)
    steps_s = steps_s[steps_s <= BRIDGE_S]
    return float(len(steps_s) / steps_s.sum()) if len(steps_s) else 0.0


def _write_segments(
    recording: Recording, reference: Reference, desk: Path, raw: Path, config: CropConfig, seen: _Seen
) -> list[Segment]:
    """Put the crops and the reference on one clock, cut at gaps, and write each segment."""
    t_s, seen_in, row = np.array(seen.t_s), np.array(seen.found), np.array(seen.row)
    path = str(recording.video)
    fps = _mean_fps(t_s)
    if fps < LEAST_FPS:
        raise SignalTooShort(f"{path!r} has {fps:.1f} frames per second; at least {LEAST_FPS:.1f} are needed.")
    if seen_in.mean() < LEAST_FOUND:
        raise NoFace(
            f"No face in {(~seen_in).sum()} of {len(seen_in)} frames of {path!r} "
            f"(at least {100 * LEAST_FOUND:.0f} % must show one)."
        )
    clock_s = t_s[0] + np.arange(int((t_s[-1] - t_s[0]) * fps + 0.5) + 1) / fps
    nearest = _nearest(t_s, clock_s)
    found = seen_in[nearest] & (np.abs(t_s[nearest] - clock_s) <= 1 / fps + 1e-9)
    bvp, hr_bpm = _on_clock(reference, clock_s)
    known = np.isfinite(bvp) if reference.bvp is not None else np.ones(len(clock_s), dtype=bool)
    if reference.hr_bpm is not None:
        known &= np.isfinite(hr_bpm)
    if not known.any():
        raise BadRecording(f"The reference of {path!r} knows no heart rate while the video runs; look at both clocks.")

    runs = _runs(_bridged(found, int(BRIDGE_S * fps)) & known)
    long_enough = [(first, end) for first, end in runs if end - first >= LEAST_SEGMENT_S * fps]
    if not long_enough:
        longest = max((end - first for first, end in runs), default=0) / fps
        raise SignalTooShort(
            f"The longest stretch of {path!r} with a face and a reference is {longest:.1f} s; "
            f"at least {LEAST_SEGMENT_S:g} s are needed."
        )
    left_out_s = (len(clock_s) - sum(end - first for first, end in long_enough)) / fps
    if left_out_s > 2 / fps:
        seen.notes.append(f"{left_out_s:.1f} s left out: no face, no frames, or no reference there.")

    has_crop = np.flatnonzero(row >= 0)
    shown = row[has_crop[_nearest(t_s[has_crop], clock_s)]]
    crops: NDArray[np.uint8] = np.memmap(raw, np.uint8, mode="r").reshape(-1, config.size_px, config.size_px, 3)
    segments: list[Segment] = []
    for first, end in long_enough:
        number = len(segments)
        part = slice(first, end)
        rate_bpm = hr_bpm[part] if reference.hr_bpm is not None else _rates(bvp[part], fps, path)
        if reference.bvp is not None:
            _compare(bvp[part], rate_bpm, fps, path, number, seen)
        frames = np.lib.format.open_memmap(
            desk / f"frames_{number}.npy", mode="w+", dtype=np.uint8, shape=(end - first, *crops.shape[1:])
        )
        for at in range(first, end, 256):
            upto = min(end, at + 256)
            frames[at - first : upto - first] = crops[shown[at:upto]]
        frames.flush()
        np.savez(desk / f"labels_{number}.npz", bvp=bvp[part], hr_bpm=rate_bpm, found=found[part])
        segments.append(
            Segment(
                start_s=round(float(clock_s[first]), 6),
                n_frames=end - first,
                found_share=round(float(found[part].mean()), 4),
                hr_bpm=round(float(rate_bpm.mean()), 2),
            )
        )
    return segments


def _nearest(t_s: Float, at_s: Float) -> NDArray[np.intp]:
    """For each of ``at_s`` the index of the nearest of the increasing ``t_s``."""
    right = np.clip(np.searchsorted(t_s, at_s), 1, max(1, len(t_s) - 1))
    if len(t_s) == 1:
        return np.zeros(len(at_s), dtype=np.intp)
    return np.asarray(right - (at_s - t_s[right - 1] <= t_s[right] - at_s), dtype=np.intp)


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
                )
            )
    return opened


def read_manifest(root: Path, config: CropConfig | None = None) -> Manifest:
    """Every recording that was ever prepared with these settings, in order of id."""
    config = config or CropConfig()
    return Manifest(config, tuple(_entries(Path(root) / config.key())))


def _said(config_file: Path) -> str:
    try:
        return str(CropConfig(**json.loads(config_file.read_text(encoding="utf-8"))["crop"]))
    except (ValueError, KeyError, TypeError):
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
        record = json.loads(file.read_text(encoding="utf-8"))
        if source is not None and record["source"] != source:
            return None
        fields = dict(record["entry"])
        fields["segments"] = tuple(Segment(**one) for one in fields["segments"])
        fields["notes"] = tuple(fields["notes"])
        return Entry(**fields)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _finished(home: Path, recording: Recording) -> Entry | None:
    return _read_entry(home / _folder_name(recording.id) / "recording.json", _source(recording))


def _folder_name(recording_id: str) -> str:
    """A name that any file system takes; the digest keeps ids apart that differ only in what was replaced."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", recording_id).strip("-.")[:80]
    return f"{plain}-{hashlib.sha256(recording_id.encode()).hexdigest()[:8]}"


def _source(recording: Recording) -> dict[str, Any]:
    """What the crops and labels were made from, so that a change is noticed; where it lies does not matter."""
    video = recording.video
    files = sorted(video.iterdir()) if video.is_dir() else [video] if video.exists() else []
    stats = [file.stat() for file in files]
    digest = hashlib.sha256()
    reference = recording.read_reference()
    if reference is not None:
        for values in (reference.t_s, reference.bvp, reference.hr_bpm):
            digest.update(b"none" if values is None else np.ascontiguousarray(values, np.float64).tobytes())
    return {
        "n_files": len(files),
        "n_bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        "video_fps": recording.video_fps,
        "reference": digest.hexdigest()[:16],
    }


def _write_manifest(home: Path, config: CropConfig) -> None:
    entries = _entries(home)
    whole = {
        "schema": SCHEMA,
        "crop": dataclasses.asdict(config),
        "n_kept": sum(entry.state == "ok" for entry in entries),
        "n_excluded": sum(entry.state == "excluded" for entry in entries),
        "kept_s": round(sum(entry.kept_s for entry in entries), 1),
        "recordings": [dataclasses.asdict(entry) for entry in entries],
    }
    _write_json(home / "manifest.json", whole)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Written whole or not at all: into a neighbour that is renamed."""
    neighbour = path.with_name(f".tmp-{path.name}")
    neighbour.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    neighbour.replace(path)
