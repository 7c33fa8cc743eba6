"""Videos that are not files: frames in memory or from an iterator (``FrameReader``), and file objects (``as_file``)."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video.decode import MAX_PIXELS, MAX_SIDE_PX, MIN_SIDE_PX, FramesOnce, VideoFrame, check_part
from autohr.video.folders import error_reason

NAME = "frames"
"""Path that a measurement of frames has."""
FILE_NAME = "file"
"""Path that a measurement of a file object without a name has."""


class FrameReader(FramesOnce):
    """Frames of the caller's, with their times, as ``VideoReader`` gives those of a file: once, in order.

    Nothing but the frame that is asked for is held, so memory does not grow with their number.

    Parameters
    ----------
    frames
        An array (T, H, W, 3), or an iterable of arrays (H, W, 3); uint8, RGB.
    fps
        Frame number i has the time ``i / fps``.
    t_s
        Time of each frame in seconds, in place of ``fps``; the first one becomes time 0.
    start_s, end_s
        Frames at ``start_s <= t_s < end_s`` are given, in seconds from the first one.

    Raises
    ------
    ValueError
        Here or while reading: the frames, their number or their times are not as above.
    """

    def __init__(
        self,
        frames: Iterable[Any],
        *,
        fps: float | None = None,
        t_s: ArrayLike | Iterable[float] | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
    ) -> None:
        if (fps is None) == (t_s is None):
            given = "neither" if fps is None else "both"
            raise ValueError(
                f"Frames need a clock: either fps (frames per second) or t_s (the time of each in seconds); {given} "
                "was given."
            )
        check_part(start_s, end_s, fps)
        self.path = NAME
        self.duration_s: float | None = None
        self.n_read = self.n_repaired = self.n_dropped = 0
        self.notes: list[str] = []
        self._start_s, self._end_s = start_s, math.inf if end_s is None else end_s
        n_frames: int | None = None
        self._is_array = isinstance(frames, np.ndarray)
        if isinstance(frames, np.ndarray):
            if frames.ndim != 4:
                raise ValueError(
                    f"An array of frames must have the shape (T, H, W, 3); this one has {frames.shape}. "
                    "Give one frame as frames[None], gray ones as RGB."
                )
            n_frames = len(frames)
            if n_frames:
                _check_picture(frames[0], 0)
        elif isinstance(frames, (list, tuple)):
            n_frames = len(frames)
        if n_frames == 0:
            raise ValueError("There are 0 frames; at least 4 seconds of them are needed.")
        self._times: Iterator[float]
        self._n_times: int | None = None
        if fps is not None:
            self._times = (n / fps for n in itertools.count())
            self.duration_s = None if n_frames is None else n_frames / fps
        elif isinstance(t_s, Iterator):
            self._times = t_s
        else:
            times_s = _checked_times(t_s)
            if n_frames is not None and len(times_s) != n_frames:
                raise ValueError(f"There are {n_frames} frames and {len(times_s)} times t_s; give one for each frame.")
            self._times, self._n_times = iter(times_s.tolist()), len(times_s)
            self.duration_s = float(times_s[-1] - times_s[0])
        self._frames = self._read(iter(frames))

    def _read(self, frames: Iterator[Any]) -> Generator[VideoFrame, None, None]:
        size: tuple[int, int] | None = None
        zero_s = last_s = 0.0
        n_seen = 0
        for n_seen, given in enumerate(frames, 1):
            frame = _check_picture(given, n_seen - 1)
            size = size or (frame.shape[1], frame.shape[0])
            if (frame.shape[1], frame.shape[0]) != size:
                raise ValueError(
                    f"Frame {n_seen - 1} is {frame.shape[1]}x{frame.shape[0]} and the first one {size[0]}x{size[1]}; "
                    "all must have one size."
                )
            try:
                at_s = float(next(self._times))
            except StopIteration:
                raise ValueError(
                    f"There are more frames than times t_s ({n_seen - 1}); give one for each frame."
                ) from None
            if not math.isfinite(at_s) or (n_seen > 1 and at_s <= last_s):
                raise _bad_time(n_seen - 1, at_s, None if n_seen == 1 else last_s)
            zero_s, last_s = (at_s if n_seen == 1 else zero_s), at_s
            t_s = at_s - zero_s
            if t_s >= self._end_s:
                break
            if t_s >= self._start_s:
                # A copy: iterators often write each frame into the same memory, and some frames wait in a queue.
                own = frame if self._is_array else frame.copy()
                self.n_read += 1
                yield VideoFrame(np.ascontiguousarray(own), t_s, self.n_read - 1, repaired=False, whole=True)
        else:
            if n_seen == 0:
                raise ValueError("The iterator gave 0 frames; at least 4 seconds of them are needed.")
            if self._n_times is not None and self._n_times != n_seen:
                raise ValueError(f"There are {n_seen} frames and {self._n_times} times t_s; give one for each frame.")
        if self.n_read == 0:
            raise VideoError(
                f"There is no frame between {self._start_s:g} and {self._end_s:g} s: the last of the {n_seen} frames "
                f"is at {last_s - zero_s:.2f} s."
            )


def _check_picture(given: Any, index: int) -> Frame:
    """Return a frame as an array; ValueError for one that is not uint8 (H, W, 3) of a size that can be measured."""
    if isinstance(given, (str, bytes, os.PathLike)) or np.isscalar(given):
        raise ValueError(f"Frame {index} is {type(given).__name__} {given!r:.60}; {_ALLOWED}")
    frame = np.asarray(given)
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"Frame {index} has the shape {frame.shape}; {_ALLOWED}")
    if frame.dtype != np.uint8:
        hint = " Multiply values in 0..1 by 255 and round them." if frame.dtype.kind == "f" else ""
        raise ValueError(f"Frame {index} has the type {frame.dtype}; {_ALLOWED}{hint}")
    height, width = frame.shape[:2]
    if min(height, width) < MIN_SIDE_PX or max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise ValueError(
            f"Frame {index} is {width}x{height}; each side must have {MIN_SIDE_PX} to {MAX_SIDE_PX} px, and a frame at "
            f"most {MAX_PIXELS // 10**6} million pixels. Scale the frames."
        )
    return cast(Frame, frame)


_ALLOWED = "each frame must be a uint8 array (H, W, 3), RGB, 0..255."


def _checked_times(t_s: Any) -> NDArray[np.float64]:
    try:
        times_s = np.asarray(t_s if hasattr(t_s, "__array__") else list(t_s), dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"t_s={t_s!r:.80} must be the times of the frames in seconds, one number for each.") from None
    if times_s.ndim != 1 or len(times_s) == 0:
        raise ValueError(f"t_s has the shape {times_s.shape}; it must be (T,), the time of each frame in seconds.")
    bad = np.flatnonzero(~np.isfinite(times_s))
    if len(bad):
        raise _bad_time(int(bad[0]), float(times_s[bad[0]]), None)
    late = np.flatnonzero(np.diff(times_s) <= 0)
    if len(late):
        raise _bad_time(int(late[0]) + 1, float(times_s[late[0] + 1]), float(times_s[late[0]]))
    return times_s


def _bad_time(index: int, at_s: float, before_s: float | None) -> ValueError:
    after = "" if before_s is None or not math.isfinite(at_s) else f", greater than the {before_s} of the frame before"
    return ValueError(
        f"t_s[{index}] is {at_s}; it must be a finite time in seconds{after}. Sort the frames by time, and leave out "
        "those without one."
    )


@contextlib.contextmanager
def as_file(file: BinaryIO) -> Iterator[tuple[Path, str]]:
    """Give the path of a file with the content of a file object, and the name that results give to it.

    A video's index may stand at its end and some are read twice, which sockets and pipes cannot do: the content is
    copied into a temporary file, that of a file on the disk is read at its place. An object that can seek is read from
    its start, wherever it stands.

    Raises
    ------
    ValueError
        The object is closed, or gives text.
    VideoError
        It cannot be read, or the disk is full.
    """
    if getattr(file, "closed", False):
        raise ValueError(f"{file!r:.80} is closed; open it again.")
    given = getattr(file, "name", None)
    name = given if isinstance(given, str) and given else FILE_NAME
    on_disk = _path_of(file)
    if on_disk is not None:
        yield on_disk, name
        return
    with tempfile.TemporaryDirectory(prefix="autohr-") as folder:
        path = Path(folder) / ("video" + Path(name).suffix[:10])
        _copy(file, path, name)
        try:
            yield path, name
        except VideoError as error:
            raise VideoError(str(error).replace(repr(str(path)), repr(name))) from None


def _path_of(file: Any) -> Path | None:
    """Return the path of a file that was opened for reading by name and still is the one of that name."""
    if not isinstance(file, (io.BufferedReader, io.FileIO)) or not isinstance(getattr(file, "name", None), str):
        return None
    path = Path(str(file.name)).absolute()
    try:
        is_same = path.is_file() and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (OSError, ValueError):
        return None
    return path if is_same else None


def _copy(file: BinaryIO, path: Path, name: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        file.seek(0)
    try:
        start = file.read(2**16)
    except (OSError, ValueError) as error:
        raise VideoError(f"{name!r} cannot be read: {error_reason(error)}. Open it again, for reading.") from None
    if not isinstance(start, (bytes, bytearray, memoryview)):
        raise ValueError(f"{name!r} gives {type(start).__name__} and not bytes; open it in binary mode ('rb').")
    try:
        with path.open("wb") as out:
            out.write(start)
            shutil.copyfileobj(file, out, 2**20)
    except OSError as error:
        raise VideoError(
            f"{name!r} cannot be copied into a temporary file: {error_reason(error)}. Make room, or give the path of a "
            "file."
        ) from None
