"""Read frames: a file, a folder of pictures, a camera or an address becomes RGB frames with true times.

``open_video(source)`` gives a ``VideoReader``; iterating it gives ``VideoFrame`` one at a time, so memory does not grow
with the length of the video. PyAV reads files, pictures and addresses; OpenCV reads cameras.

* Time 0 is the stamp of the first frame that the decoder gives. A camera's clock starts at its first grab.
* Stamps come from the container. A missing or stray one is filled from decoding times or the spacing of its neighbours
  and the frame is marked ``repaired``; a frame whose stamp was already taken, or lies behind, is dropped and counted. A
  clock that falls back by more than a second was restarted, and goes on where it was; one that leaps forward by more
  than an hour in all does too (``stamps.py``).
* Slow motion and time lapse that say so are put on the clock by which they were filmed (``capture.py``).
* Colours and orientation are those of ``colour.py``. Transfer curves (HDR) are not undone; a note says so.
* A picture size that changes for good is followed. Smaller frames of the same shape are scaled up to that before, so
  that a face is not lost where a stream is given less room; a few frames of another shape are dropped and counted.
* Of several picture streams the real film is read (``_choose_stream``).
"""

from __future__ import annotations

import functools
import itertools
import math
import queue
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar, cast

import av
import av.codec
import av.container
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from autohr.errors import VideoError, with_notes
from autohr.types import Frame
from autohr.video.capture import MIN_LAPSE_FPS, Capture, read_capture, time_factor
from autohr.video.colour import MIN_ODD_TURN_DEG, ToRgb
from autohr.video.folders import IMAGE_SUFFIXES, error_reason, files_with_suffix, list_videos, local_path
from autohr.video.stamps import NoClock, StampClock, Timed

Item = TypeVar("Item")

MIN_SIDE_PX = 32
"""Smallest side of a picture: the face detector's smallest face is 20 px, and a face needs room around it."""
MAX_SIDE_PX = 16384
MAX_PIXELS = 8192 * 8192
"""Largest picture. Larger headers are damage or an attack, and are refused before a picture is allocated."""
MAX_IMAGE_BYTES = 512 * 2**20
"""Largest file taken as one picture: 64 million pixels of 16-bit RGB, uncompressed, fit in."""

URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")
URL_TIMEOUT_S = 10.0

SEEK_FORMATS = frozenset({"mov", "matroska"})
"""Containers with an index, in which a seek lands on the key frame before the time asked for."""
SEEK_FROM_S = 2.0
"""Start from which seeking is quicker than decoding and skipping."""
NOT_VIDEO_FORMATS = frozenset({"tty", "concat", "hls", "dash", "image2", "bin", "xbin", "adf", "idf", "lavfi"})
"""Formats that FFmpeg would open as a video from a local file and are none: text, play lists, single pictures."""

SAME_SHAPE = 0.01
"""Largest difference of the ratios of width to height of one picture at two scales."""
CONFIRMING_SIZE = 3
"""Frames in a row of another size and shape that are believed; fewer are strays (a thumbnail among pictures)."""
MIN_STREAM_SHARE = 0.5
"""Share of the longest picture stream's frames, or time, below which another one is a cover or preview."""
PROBED_PACKETS = 600
"""Packets counted to tell films from previews where the header does not say how long they are: some seconds."""
RATE_PACKETS = 120
"""Packets from whose stamps the rate of a file with a tag of slow motion is taken."""
MIN_BYTES_PER_S = 100
"""Bytes per second below which the duration in a header is not believed: the emptiest frames take 10 bytes."""
MAX_NOTED_CHANGES = 5
"""Largest number of changes of the size of the picture that are noted one by one."""
MAX_FPS = 1000.0
"""Rate by the stamps above which a note says that the clock went wrong."""
MAX_BAD_PACKETS = 1000
"""Packets in a row without one frame that end the reading; the longest usual key frame distance is 250."""
GAP_S = 0.5
"""Distance of frames that is reported as a gap if it is also over three nominal frames: a beat or so fits in."""
TRUNCATED_SLACK_S = 0.5
"""Time by which the header may exceed the frames before the file is called truncated."""

_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_HDR_CURVES = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
_WEBP_ANIMATED = 0x02  # in the flags of VP8X (RFC 9649, 2.7)
_IMAGE_CODECS = (  # first bytes -> decoder; the suffix of a picture is not trusted
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "mjpeg"),
    (b"BM", "bmp"),
    (b"RIFF", "webp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video."""

    rgb: Frame
    """(H, W, 3) uint8, RGB, contiguous; belongs to the caller."""
    t_s: float
    """Seconds since the first frame of the video."""
    index: int
    """Number of the frame among those that this reader gave: 0, 1, 2, ..."""
    repaired: bool
    """True where the container's stamp was missing or impossible, and ``t_s`` was filled in."""
    whole: bool
    """True for a frame coded by itself (a key frame, a picture, a camera's), not as a change of others."""


@dataclass(slots=True)
class _RawFrame:
    """A frame not yet converted (``rgb`` is called only if it is wanted); None marks a damaged one."""

    rgb: Callable[[], Frame] | None
    size: tuple[int, int] = (0, 0)
    stamp_s: float | None = None
    dts_s: float | None = None
    step_s: float | None = None
    whole: bool = True
    t_s: float | None = None
    """Seconds since the first frame, by the reader; None where the time was already taken."""
    repaired: bool = False


class _Source:
    """A place where frames come from. What cuts ``raw_frames`` short is a sentence in ``ended_by``."""

    is_live = False
    """True where frames are stamped by this machine as they come, so that none may be held back."""
    width: int
    height: int

    def __init__(self, path: str) -> None:
        self.path = path
        self.duration_s: float | None = None
        self.fps_nominal: float | None = None
        self.ended_by: str | None = None
        self.notes: list[str] = []

    def raw_frames(self) -> Iterator[_RawFrame]:
        raise NotImplementedError

    def seek(self, start_s: float) -> float | None:
        """Go to a key frame at or before this time and return the stamp of time 0; None where that is not safe."""
        return None

    def rewind(self) -> None:
        """Begin again at the first frame, after a seek."""

    def close(self) -> None: ...


def open_video(
    source: str | Path | int, *, start_s: float = 0.0, end_s: float | None = None, fps: float | None = None
) -> VideoReader:
    """Open a video of any kind and check that it gives a first frame.

    Parameters
    ----------
    source
        A file; a folder of pictures (png, jpg, bmp, webp, tif; in natural order); the index of a camera (an int, or
        digits where no such file exists); or an address (``http://``, ``rtsp://``, ...).
    start_s, end_s
        Frames at ``start_s <= t_s < end_s`` are given, in seconds of the video; None is to the end.
    fps
        Frame number i is stamped ``i / fps``, whatever the container's stamps. Folders of pictures and raw streams
        (``.h264``) carry no clock and need it; cameras refuse it.

    Raises
    ------
    VideoError
        The source is missing, unreadable, no video, too small or too large, has no frame that can be decoded, or needs
        ``fps`` and did not get it.
    ValueError
        A time, a rate or a camera index is out of its range.
    """
    check_part(start_s, end_s, fps)
    found = _open_source(source, fps)
    try:
        return VideoReader(found, start_s=start_s, end_s=end_s, fps=fps)
    except BaseException:
        found.close()
        raise


def check_part(start_s: float, end_s: float | None, fps: float | None) -> None:
    """Raise ValueError for a part of a video, or frames per second, that cannot be."""
    if not (math.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s is {start_s}; it must be 0 or more seconds.")
    if end_s is not None and not end_s > start_s:
        raise ValueError(f"end_s is {end_s}; it must be greater than start_s ({start_s}).")
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= 10_000):
        raise ValueError(f"fps is {fps}; it must be a rate in frames per second above 0 and at most 10000.")


def _open_source(source: str | Path | int, fps: float | None) -> _Source:
    if isinstance(source, int):
        return _CameraSource(source, fps)
    if isinstance(source, str) and "://" in source:
        return _FileSource(source, is_url=True, fps=fps)
    path = local_path(source)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if isinstance(source, str) and re.fullmatch(r"[0-9]{1,4}", source):
            return _CameraSource(int(source), fps)
        raise VideoError(
            f"There is no file {str(source)!r}. Check the path, or give a camera index or address."
        ) from None
    except (OSError, ValueError) as error:
        raise VideoError(f"{str(source)!r} cannot be looked at: {error_reason(error)}. Check the path.") from None
    if stat.S_ISDIR(mode):
        return _FolderSource(path, fps)
    if not stat.S_ISREG(mode):
        raise VideoError(f"{str(source)!r} is not a regular file (a pipe, socket or device). Save the video first.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise VideoError(f"{str(source)!r} cannot be read: {error_reason(error)}. Check its permissions.") from None
    if not head:
        raise VideoError(f"{str(source)!r} is empty (0 bytes). Copy or record it again.")
    if path.suffix.lower() in IMAGE_SUFFIXES or _is_webp(head):
        _check_is_moving(str(source), head)
    return _FileSource(str(path), is_url=False, fps=fps)


def _check_is_moving(name: str, head: bytes) -> None:
    """Refuse a single picture, and an animated one that cannot be read; GIF and animated PNG are read as videos."""
    if _is_webp(head):
        if head[12:16] == b"VP8X" and head[20] & _WEBP_ANIMATED:
            raise VideoError(
                f"{name!r} is an animated WebP, which FFmpeg here cannot read. Convert it to mp4, gif or animated png."
            )
    elif head.startswith(b"\x89PNG"):
        # The chunk that says how many frames there are stands before the first picture.
        if b"acTL" in head.split(b"IDAT")[0]:
            return
    elif not any(head.startswith(magic) for magic, _ in _IMAGE_CODECS):
        return
    raise VideoError(f"{name!r} is a single picture; a pulse needs a video or a folder of pictures.")


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) > 20


def read_ahead(items: Iterable[Item], n_items: int = 8) -> Generator[Item, None, None]:
    """Yield ``items``, made in another thread up to ``n_items`` before they are asked for, in their order.

    Decoding and reading faces release Python's lock, so on two cores they cost the caller little. Errors are raised
    here; a caller that stops early (closing this generator) stops the thread, and closes ``items`` if they come from a
    generator, before anything that they read from is closed.
    """
    ready: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(n_items)
    stop = threading.Event()

    def put(item: tuple[Item] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item,)):
                    break
            put(None)
        except BaseException as error:
            put(error)
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = threading.Thread(target=make, name="autohr-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------------------------------------------------------------
# The reader


class FramesOnce:
    """Frames that are given once, in order; a context manager."""

    _frames: Generator[VideoFrame, None, None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """Return the next frame.

        Raises
        ------
        VideoError
            At the end, if not one frame lay in the part asked for; or there is no clock.
        """
        return next(self._frames)

    def close(self) -> None:
        """End the reading. Harmless when called twice."""
        self._frames.close()


class VideoReader(FramesOnce):
    """The frames of one video, once, in order. Made by ``open_video``; closed also at the end.

    The counts run while frames are read; ``notes`` is complete once the iteration has ended.
    """

    path: str
    """Source as it was named."""
    width: int
    """Pixels, after the frame was turned upright."""
    height: int
    """Pixels, after the frame was turned upright."""
    duration_s: float | None
    """Duration by the header, None where it has none. For progress bars only: on a truncated file it is wrong."""
    fps_nominal: float | None
    """Rate by the header, None where it has none. Use ``t_s`` of the frames instead."""
    n_read: int
    """Frames given."""
    n_repaired: int
    """Frames given whose time was filled in."""
    n_dropped: int
    """Frames between ``start_s`` and ``end_s`` that were damaged or whose time was already taken."""
    notes: list[str]
    """One sentence for each kind of thing that was repaired, dropped or cut short."""

    def __init__(self, source: _Source, *, start_s: float, end_s: float | None, fps: float | None) -> None:
        self.path = source.path
        self.width, self.height = self._size = source.width, source.height
        self.duration_s = source.duration_s
        self.fps_nominal = fps if fps is not None else source.fps_nominal
        self.n_read = self.n_repaired = self.n_dropped = 0
        self.notes = []
        self._source = source
        self._start_s, self._end_s = start_s, math.inf if end_s is None else end_s
        self._fps = fps
        self._odd: list[_RawFrame] = []
        self._changes: list[str] = []
        self._n_damaged = self._n_late = self._n_resized = self._n_scaled = 0
        self._gaps_s: list[float] = []
        self._first_t_s = self._last_t_s = self._emitted_t_s = 0.0
        self._clock: StampClock[_RawFrame] | None = None
        self._has_noted = False
        self._frames = self._read()

    def close(self) -> None:
        """Close the file or camera; iterating ends. Harmless when called twice."""
        super().close()
        self._source.close()

    def _read(self) -> Generator[VideoFrame, None, None]:
        try:
            end_t_s = yield from self._wanted_frames()
        except VideoError as error:
            self._source.close()
            self._write_notes(None)
            raise VideoError(with_notes(str(error), self.notes)) from None
        except BaseException:
            # The caller has seen enough: what was noticed so far still holds.
            self._write_notes(None)
            raise
        self._source.close()
        self._write_notes(end_t_s)
        if self.n_read == 0:
            end = "its end" if self._end_s == math.inf else f"{self._end_s:g} s"
            reason = (
                f"{self.path!r} has no usable frame between {self._start_s:g} s and {end}: "
                f"frames were seen up to {self._last_t_s:.2f} s."
            )
            raise VideoError(with_notes(reason, self.notes))

    def _wanted_frames(self) -> Generator[VideoFrame, None, float | None]:
        """Yield the frames wanted; return the end of the last frame of the file, None where reading stopped before."""
        end_t_s = 0.0
        for raw in self._timed_frames():
            t_s = raw.t_s
            if t_s is None or raw.rgb is None:
                if (self._last_t_s if t_s is None else t_s) >= self._start_s:
                    self._n_late += t_s is None
                    self._n_damaged += t_s is not None
                    self._count_dropped()
                continue
            self._last_t_s, end_t_s = t_s, t_s + (raw.step_s or 0.0)
            if t_s >= self._end_s:
                yield from map(self._emit, self._settle_odd_sizes())
                return None
            if t_s >= self._start_s:
                yield from map(self._emit, self._at_common_size(raw))
        yield from map(self._emit, self._settle_odd_sizes())
        return end_t_s

    def _emit(self, raw: _RawFrame) -> VideoFrame:
        """Convert a frame, and count it."""
        assert raw.rgb is not None and raw.t_s is not None
        frame = VideoFrame(raw.rgb(), raw.t_s, self.n_read, raw.repaired, raw.whole)
        if self.n_read == 0:
            self._first_t_s = raw.t_s
        elif raw.t_s - self._emitted_t_s > max(GAP_S, 3 / (self.fps_nominal or math.inf)):
            self._gaps_s.append(raw.t_s - self._emitted_t_s)
        self._emitted_t_s = raw.t_s
        self.n_read += 1
        self.n_repaired += raw.repaired
        return frame

    def _at_common_size(self, frame: _RawFrame) -> list[_RawFrame]:
        """Return the frames that can be given now that this one has come, at the size of the picture."""
        size = frame.size
        if size == self._size:
            return [*self._settle_odd_sizes(), frame]
        if self._is_same_shape(size) and size[0] < self._size[0]:
            return [*self._settle_odd_sizes(), self._scaled(frame)]
        settled = self._settle_odd_sizes() if self._odd and self._odd[-1].size != size else []
        if not _is_size_allowed(*size):
            # What cannot be measured is dropped at once: of many such frames none is kept.
            settled += self._settle_odd_sizes()
            self._n_resized += 1
            self._count_dropped()
            return settled
        self._odd.append(frame)
        if len(self._odd) < CONFIRMING_SIZE:
            return settled
        (width, height), (new_width, new_height) = self._size, size
        self._changes.append(
            f"From {self._odd[0].t_s:.2f} s on the picture is {new_width}x{new_height} and no longer {width}x{height}; "
            "faces are looked for anew."
        )
        self._size = size
        odd, self._odd = self._odd, []
        return [*settled, *odd]

    def _settle_odd_sizes(self) -> list[_RawFrame]:
        """Return the frames whose size did not last: scaled where they have the shape of the others, else dropped."""
        odd, self._odd = self._odd, []
        kept = [self._scaled(frame) for frame in odd if self._is_same_shape(frame.size)]
        self._n_resized += len(odd) - len(kept)
        self._count_dropped()
        return kept

    def _is_same_shape(self, size: tuple[int, int]) -> bool:
        (width, height), (new_width, new_height) = self._size, size
        return abs(new_width * height - width * new_height) <= SAME_SHAPE * width * new_height

    def _scaled(self, frame: _RawFrame) -> _RawFrame:
        """Return the frame scaled to the present size: means of pixels where it shrinks, linear where it grows."""
        self._n_scaled += 1
        size, convert = self._size, frame.rgb
        assert convert is not None

        def scaled_rgb() -> Frame:
            picture = convert()
            how = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_LINEAR
            return np.ascontiguousarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)

        frame.rgb = scaled_rgb
        return frame

    def _count_dropped(self) -> None:
        self.n_dropped = self._n_late + self._n_damaged + self._n_resized

    def _timed_frames(self) -> Iterator[_RawFrame]:
        """Yield every frame with its time."""
        if self._fps is not None:
            for n, raw in enumerate(self._source.raw_frames()):
                raw.t_s = n / self._fps
                yield raw
            return
        if self._source.is_live:
            yield from self._timed_live()
            return
        zero_s = self._source.seek(self._start_s) if self._start_s >= SEEK_FROM_S else None
        yield from self._timed_by_stamps(zero_s)
        if zero_s is not None and self._last_t_s < self._start_s:
            # The index led past a clock that fell back: begin again and skip frame by frame.
            self._source.rewind()
            yield from self._timed_by_stamps(None)

    def _timed_by_stamps(self, zero_s: float | None) -> Iterator[_RawFrame]:
        nominal_s = 1 / self._source.fps_nominal if self._source.fps_nominal else None
        self._clock = clock = StampClock[_RawFrame](zero_s=zero_s, nominal_step_s=nominal_s)

        def settled() -> Iterator[list[Timed[_RawFrame]]]:
            for raw in self._source.raw_frames():
                if raw.rgb is None and raw.stamp_s is None and raw.dts_s is None:
                    yield [Timed(raw, clock.last_t_s or 0.0, False)]
                else:
                    yield clock.push(raw, raw.stamp_s, raw.dts_s, raw.step_s)
            yield clock.flush()

        try:
            for timed in itertools.chain.from_iterable(settled()):
                raw = timed.item
                raw.t_s, raw.repaired = timed.t_s, timed.repaired
                yield raw
        except NoClock as why:
            raise VideoError(f"{self.path!r} has no usable clock: {why}. Say its frames per second: --fps.") from None

    def _timed_live(self) -> Iterator[_RawFrame]:
        """Yield frames that this machine stamped itself, by a clock that only goes forward: none is held."""
        zero_s = last_t_s = None
        for raw in self._source.raw_frames():
            stamp_s = raw.stamp_s or 0.0
            zero_s = stamp_s if zero_s is None else zero_s
            if last_t_s is None or stamp_s - zero_s > last_t_s + 1e-6:
                raw.t_s = last_t_s = stamp_s - zero_s
            yield raw

    def _write_notes(self, end_t_s: float | None) -> None:
        """Complete ``notes``; ``end_t_s`` is the end of the file's last frame, None when reading stopped before."""
        if self._has_noted:
            return
        self._has_noted = True
        note = self.notes.append
        self.notes.extend(self._source.notes)
        clock = self._clock or StampClock[_RawFrame]()
        n_filled = self.n_repaired - clock.n_crawling
        if n_filled > 0:
            note(f"{_n_frames(n_filled)} had no usable time stamp; the times were filled in from the neighbours.")
        if clock.n_crawling:
            note(
                f"The time stamps of {_n_frames(clock.n_crawling)} crawled at a fraction of the usual distance; the "
                "usual one was put in their place. If the rate is not right, give it with --fps."
            )
        if clock.n_restarts:
            note(f"The clock of the video fell back {clock.n_restarts} time(s); it was carried on where it was.")
        if clock.n_taken_out:
            note(
                f"The clock of the video leapt forward {clock.n_taken_out} time(s), by {clock.taken_out_s:.0f} s in "
                "all; it was carried on where it was. If the times are not right, give the rate with --fps."
            )
        if self._n_late:
            hint = " If the times are not right, give the rate with --fps." if self._n_late > self.n_read else ""
            note(f"{_n_frames(self._n_late)} dropped: the time stamp was already taken or ran backwards.{hint}")
        if self._n_damaged:
            note(f"{_n_frames(self._n_damaged)} dropped: damaged (corrupt), or not decodable.")
        if self._n_resized:
            note(f"{_n_frames(self._n_resized)} dropped: not of the size of the others, {self.width}x{self.height}.")
        if self._n_scaled:
            note(f"{_n_frames(self._n_scaled)} of another size were scaled to {self._size[0]}x{self._size[1]}.")
        self.notes.extend(self._changes[:MAX_NOTED_CHANGES])
        if len(self._changes) > MAX_NOTED_CHANGES:
            note(f"The size of the picture changed {len(self._changes)} times in all.")
        if self._gaps_s:
            note(f"Between frames there are {len(self._gaps_s)} gap(s), the longest of {max(self._gaps_s):.2f} s.")
        span_s = self._last_t_s - self._first_t_s
        if self._fps is None and self.n_read > 30 and self.n_read - 1 > MAX_FPS * span_s:
            note(
                f"By its time stamps the video has {self.n_read} frames in {span_s:.3f} s. "
                "If that is not its rate, give it with --fps."
            )
        if end_t_s is None:
            return
        if self._source.ended_by is not None:
            note(self._source.ended_by)
        promised_s, there_s = self.duration_s, end_t_s + clock.taken_out_s
        if self._fps is None and promised_s is not None and there_s < promised_s - TRUNCATED_SLACK_S:
            note(
                f"The header says {promised_s:.2f} s but the last frame ends at {end_t_s:.2f} s: "
                "the file is truncated, or its sound is longer than its picture."
            )


def _is_size_allowed(width: int, height: int) -> bool:
    return min(width, height) >= MIN_SIDE_PX and max(width, height) <= MAX_SIDE_PX and width * height <= MAX_PIXELS


def _check_size(path: str, width: int, height: int) -> None:
    """Refuse sizes out of bounds; from the header this comes before any picture is allocated."""
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise VideoError(
            f"{path!r} says its pictures are {width}x{height}; at most {MAX_SIDE_PX} px a side and "
            f"{MAX_PIXELS // 10**6} million pixels are read. The file is damaged, or must be made smaller."
        )
    if min(width, height) < MIN_SIDE_PX:
        raise VideoError(
            f"{path!r} has pictures of {width}x{height}; each side must be at least {MIN_SIDE_PX} px, or no face fits."
        )


def _n_frames(n: int) -> str:
    return "1 frame" if n == 1 else f"{n} frames"


# ---------------------------------------------------------------------------------------------------------------------
# Files and addresses


class _FileSource(_Source):
    """A file or an address, through PyAV."""

    def __init__(self, path: str, *, is_url: bool, fps: float | None = None) -> None:
        super().__init__(path)
        self._is_url = is_url
        self._fps = fps
        self._to_rgb = ToRgb()
        self._pending: deque[_RawFrame] = deque()
        self._open()
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._container = self._opened()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self._open_error(error)) from None

    def _opened(self) -> InputContainer:
        options = {"max_pixels": str(MAX_PIXELS)}
        if self._is_url:
            scheme = self.path.split("://")[0].lower()
            if scheme not in URL_SCHEMES:
                raise VideoError(
                    f"{self.path!r}: addresses of kind {scheme!r} are not read; {', '.join(URL_SCHEMES)} are."
                )
            if scheme.startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # over UDP, lost packets come out as smeared frames
            name, timeout = self.path, (URL_TIMEOUT_S, URL_TIMEOUT_S)
        else:
            # Absolute, so that a colon in a name is no protocol; files only, so that a play list cannot call out.
            name, timeout = str(Path(self.path).absolute()), None
            options["protocol_whitelist"] = "file"
        return av.open(name, "r", options=options, timeout=timeout, metadata_errors="replace")

    def _read_header(self) -> None:
        """Choose the stream, check the header, decode up to the first sound frame."""
        container = self._container
        formats = set(container.format.name.split(","))
        if not self._is_url and (formats & NOT_VIDEO_FORMATS or any(name.endswith("_pipe") for name in formats)):
            raise VideoError(f"{self.path!r} is no video: its content is of kind {container.format.name!r}.")
        self._stream = stream = self._choose_stream()
        if stream.codec_context is None:
            raise VideoError(f"{self.path!r} is in a format that this FFmpeg cannot decode. Convert it to mp4 (h264).")
        if stream.width and stream.height:
            _check_size(self.path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        # Formats without stamps (.h264) get invented ones, at 25 frames per second, from the demuxer.
        self._has_stamps = not container.format.flags & _NO_TIMESTAMPS
        self.fps_nominal = _nominal_fps(stream) if self._has_stamps else None
        self.duration_s = self._header_duration_s() if self._has_stamps else None
        self._set_time_factor()
        self._decoding = self._decoded()
        for raw in self._decoding:
            self._pending.append(raw)
            if raw.rgb is not None:
                break
        else:
            reason = f"{self.path!r} has a picture stream, but no frame of it can be decoded."
            raise VideoError(with_notes(reason, [*self.notes, *([self.ended_by] if self.ended_by else [])]))
        self.width, self.height = raw.size
        _check_size(self.path, self.width, self.height)
        if not self._is_url and _is_truncated(Path(self.path)):
            self.notes.append("The file is truncated: bytes are missing at its end.")

    def _header_duration_s(self) -> float | None:
        """Return the duration by the header; None where it has none, or one that the file has not the bytes for."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration:
            duration_s = container.duration / av.time_base
        else:
            return None
        if not self._is_url and not 0 <= duration_s * MIN_BYTES_PER_S <= Path(self.path).stat().st_size:
            return None
        return duration_s

    def _choose_stream(self) -> VideoStream:
        """Choose the film among the picture streams.

        Covers, still pictures and thumbnails are left out where the file marks them so, and so are streams much shorter
        than the longest one. Of the rest, that with the most pixels; of equal ones the default, then the first.
        """
        container = self._container
        pictures = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
        streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise VideoError(f"{self.path!r} has no moving picture; it holds: {kinds}.")
        if len(streams) == 1:
            return streams[0]
        lengths = self._stream_lengths(streams)
        films = [stream for stream in streams if lengths[stream.index] >= MIN_STREAM_SHARE * max(lengths.values())]
        films = [stream for stream in films if stream.codec_context is not None] or films

        def rank(stream: VideoStream) -> tuple[int, bool, int]:
            return stream.width * stream.height, bool(stream.disposition & Disposition.default), -stream.index

        chosen = max(films, key=rank)
        others = ", ".join(f"{stream.width}x{stream.height}" for stream in streams if stream is not chosen)
        self.notes.append(
            f"The file has {len(streams)} picture streams; number {chosen.index} of {chosen.width}x{chosen.height} is "
            f"measured (left out: {others})."
        )
        return chosen

    def _stream_lengths(self, streams: list[VideoStream]) -> dict[int, float]:
        """Return the length of each stream by its index: frames or seconds by the header, or packets."""
        for length in (lambda stream: float(stream.frames or 0), _header_seconds):
            by_header = {stream.index: length(stream) for stream in streams}
            if all(by_header.values()):
                return by_header
        counts = dict.fromkeys((stream.index for stream in streams), 0.0)
        if self._is_url:
            return dict.fromkeys(counts, 1.0)
        try:
            with self._opened() as probe:
                for packet in itertools.islice(probe.demux([probe.streams[k] for k in counts]), PROBED_PACKETS):
                    counts[packet.stream.index] += packet.size > 0
        except (av.FFmpegError, OSError, ValueError, IndexError):
            pass  # what was counted until then is what there is
        return counts

    def _set_time_factor(self) -> None:
        """Find out by which factor the stamps are stretched (slow motion, time lapse), and note it.

        Raises
        ------
        VideoError
            A time lapse that no pulse can be read from, or parts filmed at different rates.
        """
        self._time_factor = 1.0
        if self._fps is not None or not self._has_stamps:
            return
        tags = (self._container.metadata, self._stream.metadata)
        capture = read_capture(tags, None if self._is_url else Path(self.path))
        if capture is None:
            return
        if capture.is_mixed:
            raise VideoError(
                f"{self.path!r} is super slow motion ({capture.tag}): its parts were filmed at different rates, so "
                "it has no one clock. Film at normal speed, or give the true frames per second: --fps."
            )
        factor = time_factor(capture, self._stored_fps() or self.fps_nominal)
        if capture.fps is None:
            self.notes.append(
                f"The file is marked as slow or fast motion ({capture.tag}), but does not say its rate; its time "
                "stamps were taken as they are. If they are not right, give the true frames per second: --fps."
            )
        elif factor != 1.0:
            self._stretch(capture, capture.fps, factor)

    def _stretch(self, capture: Capture, fps: float, factor: float) -> None:
        stored = f"stored at {fps / factor:.4g}"
        if fps < MIN_LAPSE_FPS:
            raise VideoError(
                f"{self.path!r} is a time lapse, filmed at {fps:g} frames per second and {stored} ({capture.tag}): no "
                "pulse is left in it. Film at normal speed, or, if the tag is wrong, give the true rate: --fps."
            )
        self._time_factor = factor
        if self.duration_s is not None:
            self.duration_s /= factor
        if self.fps_nominal is not None:
            self.fps_nominal *= factor
        self.notes.append(
            f"{'Slow motion' if factor > 1 else 'Time lapse'}: filmed at {fps:g} frames per second and {stored} "
            f"({capture.tag}); its times were put right. If the tag is wrong, give the true rate: --fps."
        )

    def _stored_fps(self) -> float | None:
        """Return the rate of the first stamps, None if they have none: the header's mean counts pauses too."""
        base = self._stream.time_base
        if self._is_url or base is None:
            return None
        try:
            with self._opened() as probe:
                packets = itertools.islice(probe.demux(probe.streams[self._stream.index]), RATE_PACKETS)
                stamps_s = [float(packet.pts * base) for packet in packets if packet.pts is not None]
        except (av.FFmpegError, OSError, ValueError, IndexError):
            return None
        steps_s = np.diff(np.sort(stamps_s))
        usual_s = float(np.median(steps_s)) if len(steps_s) else 0.0
        # The mean of the usual steps: in milliseconds, the median of 30 frames per second is 33.
        near = steps_s[(steps_s > 0.5 * usual_s) & (steps_s < 1.5 * usual_s)]
        return float(1 / near.mean()) if usual_s > 0 else None

    def _open_error(self, error: BaseException) -> str:
        if self._is_url:
            return f"{self.path!r} cannot be opened: {error_reason(error)}. Check the address and the network."
        try:
            with Path(self.path).open("rb") as file:
                head = file.read(4096)
        except OSError as failure:
            return f"{self.path!r} cannot be read: {error_reason(failure)}. Check its permissions."
        if head[4:8] == b"ftyp":
            why = "its index (moov) is missing or damaged: the recording was cut short or the copy is incomplete"
        elif head.isascii() and b"\0" not in head:
            why = "it holds text"
        else:
            why = error_reason(error)
        return f"{self.path!r} cannot be opened as a video: {why}."

    def raw_frames(self) -> Iterator[_RawFrame]:
        while self._pending:
            yield self._pending.popleft()
        yield from self._decoding

    def _decoded(self) -> Generator[_RawFrame, None, None]:
        n_bad = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:
                # PyAV's loop ends so when a stream begins after the header (.ts); ours goes on in a new loop.
                packets = self._container.demux(self._stream)
                continue
            except (av.FFmpegError, OSError) as error:
                self.ended_by = f"Reading stopped early, the file or stream is damaged or gone: {error_reason(error)}."
                return
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                frames = []
                reason = error_reason(error)
                yield _RawFrame(None)
            else:
                reason = "packets give no frame"
            n_bad = 0 if frames else n_bad + 1
            if n_bad >= MAX_BAD_PACKETS:
                self.ended_by = f"Decoding stopped early after {n_bad} packets without a frame: {reason}."
                return
            yield from map(self._raw_frame, frames)

    def _raw_frame(self, frame: av.VideoFrame) -> _RawFrame:
        raw = _RawFrame(None)
        base = self._stream.time_base
        if self._has_stamps and base is not None:

            def seconds(ticks: int | None) -> float | None:
                return None if ticks is None else ticks * base.numerator / base.denominator / self._time_factor

            raw.stamp_s, raw.dts_s, raw.step_s = seconds(frame.pts), seconds(frame.dts), seconds(frame.duration or None)
        if frame.is_corrupt:
            return raw
        if frame.color_trc in _HDR_CURVES:
            self._note_once(f"The video is HDR ({_HDR_CURVES[frame.color_trc]}); its transfer curve is not undone.")
        orientation = self._to_rgb.orientation(frame)
        if orientation.turn_deg >= MIN_ODD_TURN_DEG:
            self._note_once(
                f"The file asks for a turn by {orientation.turn_deg:.0f} degrees more than was done: only quarters are."
            )
        raw.rgb, raw.size = functools.partial(self._to_rgb, frame, orientation), orientation.upright_size(frame)
        raw.whole = frame.pict_type in (PictureType.I, PictureType.SI, PictureType.NONE)
        return raw

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def seek(self, start_s: float) -> float | None:
        first_s = self._pending[0].stamp_s if self._pending else None
        base = self._stream.time_base
        formats = set(self._container.format.name.split(","))
        if self._is_url or first_s is None or base is None or not formats & SEEK_FORMATS:
            return None
        target_s = first_s + start_s
        try:
            self._container.seek(math.floor(target_s * self._time_factor / base), stream=self._stream, backward=True)
            self._decoding = self._decoded()
            landed = next((raw for raw in self._decoding if raw.stamp_s is not None and raw.rgb is not None), None)
        except (av.FFmpegError, OSError):
            landed = None
        if landed is not None and landed.stamp_s is not None and landed.stamp_s <= target_s:
            self._pending = deque([landed])
            return first_s
        # A bad index threw us past the start, or out of the file: begin again and skip frame by frame.
        self.rewind()
        return None

    def rewind(self) -> None:
        self.close()
        self.ended_by = None
        self.notes.clear()
        self._pending.clear()
        self._open()
        self._read_header()

    def close(self) -> None:
        self._container.close()


def _nominal_fps(stream: VideoStream) -> float | None:
    """Return the rate by the header: the mean, or FFmpeg's guess where the mean is that of a clock gone wrong."""
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in rates if 1 <= rate <= MAX_FPS), rates[0] if rates else None)


def _header_seconds(stream: VideoStream) -> float:
    """Return the length by the stream's tag, as mkv has it, or by the header; 0 if neither has it."""
    tag = next((value for name, value in stream.metadata.items() if name.upper().startswith("DURATION")), "")
    found = re.fullmatch(r"([0-9]+):([0-9]+):([0-9]+(?:[.][0-9]*)?)", tag.strip())
    if found is not None:
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    # After the tag: FFmpeg gives a stream of one picture the length of the whole mkv.
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _is_truncated(path: Path) -> bool:
    """Return True for an avi shorter than its first chunk says, and for a gif without its last byte.

    Other formats tell by their duration; in these two FFmpeg counts again what is there, and so hides the loss.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"GIF8":
            file.seek(max(0, size - 64))
            return not file.read().rstrip(b"\0").endswith(b"\x3b")
    return head[:4] == b"RIFF" and head[8:12] == b"AVI " and int.from_bytes(head[4:8], "little") + 8 > size


# ---------------------------------------------------------------------------------------------------------------------
# Folders of pictures and cameras


class _FolderSource(_Source):
    """A folder of pictures in natural order, one frame each, ``fps`` of them a second."""

    def __init__(self, folder: Path, fps: float | None) -> None:
        super().__init__(str(folder))
        self._to_rgb = ToRgb()
        self._pictures = files_with_suffix(folder, IMAGE_SUFFIXES)
        if not self._pictures:
            n_videos = len(list_videos(folder))
            hint = f" It holds {n_videos} video file(s): open them one by one." if n_videos else ""
            raise VideoError(f"The folder {self.path!r} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}).{hint}")
        if fps is None:
            raise VideoError(f"The folder of pictures {self.path!r} has no clock. Say its frames per second: --fps.")
        self.fps_nominal = fps
        self.duration_s = len(self._pictures) / fps
        first = next((raw for raw in self.raw_frames() if raw.rgb is not None), None)
        if first is None:
            raise VideoError(f"The folder {self.path!r} has {len(self._pictures)} pictures, and none can be decoded.")
        self.width, self.height = first.size
        _check_size(self.path, self.width, self.height)

    def raw_frames(self) -> Iterator[_RawFrame]:
        for path in self._pictures:
            frame = _decode_picture(path)
            if frame is None:
                yield _RawFrame(None)
            else:
                orientation = self._to_rgb.orientation(frame)
                rgb = functools.partial(self._to_rgb, frame, orientation)
                yield _RawFrame(rgb, size=orientation.upright_size(frame))

    def close(self) -> None:
        self._pictures = []


def _decode_picture(path: Path) -> av.VideoFrame | None:
    """Decode one picture file; None if it cannot be read or decoded."""
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    codec = next((name for magic, name in _IMAGE_CODECS if data.startswith(magic)), None)
    if codec is None:
        return None
    # A fresh decoder for each: the png decoder adds a picture to the one before it.
    context = cast(VideoCodecContext, av.codec.CodecContext.create(codec, "r"))
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "SLICE"
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except (av.FFmpegError, OSError):
        return None
    return frames[0] if frames and not frames[0].is_corrupt else None


class _CameraSource(_Source):
    """A camera, through OpenCV, stamped when the picture was grabbed. It ends when the camera stops."""

    is_live = True

    def __init__(self, index: int, fps: float | None) -> None:
        if isinstance(index, bool) or index < 0:
            raise ValueError(f"The camera index is {index}; it must be 0 or more.")
        if fps is not None:
            raise VideoError(f"Camera {index} has a clock of its own; leave out --fps.")
        super().__init__(str(index))
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(index)
        finally:
            cv2.utils.logging.setLogLevel(level)
        try:
            if not self._capture.isOpened():
                raise VideoError(
                    f"Camera {index} cannot be opened. Check that it is plugged in, allowed, and not in use."
                )
            camera_fps = self._capture.get(cv2.CAP_PROP_FPS)
            self.fps_nominal = camera_fps if math.isfinite(camera_fps) and camera_fps > 0 else None
            self._pending = self._grab()
            if self._pending is None:
                raise VideoError(f"Camera {index} opens but gives no picture. Check that no other program uses it.")
            self.width, self.height = self._pending.size
            _check_size(f"camera {index}", self.width, self.height)
        except VideoError:
            self.close()
            raise

    def _grab(self) -> _RawFrame | None:
        if not self._capture.grab():
            return None
        stamp_s = time.monotonic()
        got, bgr = self._capture.retrieve()
        if not got or bgr is None:
            return None
        bgr = np.asarray(bgr, dtype=np.uint8)
        height, width = bgr.shape[:2]
        code = cv2.COLOR_GRAY2RGB if bgr.ndim == 2 else cv2.COLOR_BGR2RGB
        rgb = functools.partial(cv2.cvtColor, bgr, code)
        return _RawFrame(lambda: np.asarray(rgb(), dtype=np.uint8), size=(width, height), stamp_s=stamp_s)

    def raw_frames(self) -> Iterator[_RawFrame]:
        raw, self._pending = self._pending, None
        while raw is not None:
            yield raw
            raw = self._grab()
        self.ended_by = "The camera stopped giving pictures."

    def close(self) -> None:
        self._capture.release()
