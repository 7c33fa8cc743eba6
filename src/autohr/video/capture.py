"""Read the rate at which a video was filmed, where its file says that it is not the one at which it plays.

Slow motion is often stored with stretched time stamps: filmed at 240 frames per second, stamped at 30, and the true
rate in a tag. A pulse read from such stamps is too slow by that factor, and looks perfectly good. Time lapse is the
same the other way round. ``read_capture`` finds the tag, and ``time_factor`` decides whether it means anything.

* ``com.android.capture.fps`` in mp4 and mov, frames per second of the camera, written by Android's ``MPEG4Writer``.
  Files of ordinary recordings carry it too, and some phones (Xiaomi) write it beside true stamps of 240 frames per
  second, so it counts only against the stamps themselves. Tags of like names (``CaptureFrameRate``, ``SensorFps`` of
  film cameras) are read in the same way.
* Samsung's box ``moov/udta/smta/saut``: a recording mode. By the source of androidx.media3, 12, 13 and 21 are slow
  motion stamped at 30 and filmed at 240, at 120, and at the rate of the box ``srfr``; 7, 9, 22 and 23 are super slow
  motion, whose parts play at different speeds by the phones' manuals.
* Sony's ``NonRealTimeMeta``, XML in a box of the file: ``captureFps`` beside ``formatFps`` (seen in many published
  files; its place in the file is not documented, so it is looked for in all boxes of metadata).
* ``com.xiaomi.slow_moment`` and ``com.xiaomi.fast_moment``: 1 marks slow and fast motion; newer phones write the rate
  (seen in published programs, not documented).
* iPhones keep the true stamps of slow motion, and a slow-motion video exported at 30 frames per second has no tag at
  all. ``com.apple.quicktime.full-frame-rate-playback-intent`` is 0 in ordinary recordings too, so it is not used.
  No documented tag of GoPro and Huawei was found.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_CAPTURE_FPS = 1000.0
"""Largest meaningful tag: phones and cameras film at 960 at most (what is above is interpolated)."""
MIN_SLOW_FPS = 45.0
"""Lowest rate of slow motion. A tag of 30 over slower stamps is an ordinary camera in dim light."""
FACTOR_SLACK = 1.5
"""Factor between the tagged rate and that of the stamps from which the stamps are called stretched: a variable rate
sinks to two thirds in dim light, and the weakest slow motion, 50 over 25 or 60 over 30, has factor 2."""
MIN_LAPSE_FPS = 5.0
"""Frames per second below which a time lapse holds no pulse: 5 are just twice the fastest one, 150 bpm."""

_FPS_TAG = re.compile(r"(capture|sensor|shooting|recording)[ ._-]?(fps|frame[ ._-]?rate)$")
_MODE_TAGS = ("com.xiaomi.slow_moment", "com.xiaomi.fast_moment")
_SAMSUNG_FPS = {12: 240.0, 13: 120.0}
_SAMSUNG_HEVC = 21
_SAMSUNG_MIXED = (7, 9, 22, 23)
_SONY_RATES = re.compile(rb"captureFps=[\"']([0-9.]+)[pi]?[\"'][^>]*formatFps=[\"']([0-9.]+)[pi]?[\"']")
_MAX_BOXES = 10_000
_MAX_BYTES = 2**20
_CONTAINERS = (b"moov", b"udta", b"meta", b"smta")


@dataclass(frozen=True)
class Capture:
    """The rate at which a video was filmed, as its file states it."""

    fps: float | None = None
    """Frames per second of the camera; None where only the kind of recording is known."""
    stored_fps: float | None = None
    """Rate at which the file plays, where the same place states it."""
    tag: str = ""
    """Name of the tag, for notes."""
    is_mixed: bool = False
    """True where parts of the video were filmed at different rates."""


def read_capture(tags: Sequence[Mapping[str, str]], path: Path | None) -> Capture | None:
    """Return the rate at which a file says that it was filmed; None if it has no tag that can be meant.

    Parameters
    ----------
    tags
        Metadata of the container and of the stream, in this order; names in any case.
    path
        The file, for the boxes of mp4 and mov that FFmpeg does not show; None for an address.
    """
    boxed = None if path is None else _read_boxes(path)
    if boxed is not None:
        return boxed
    plain = [{name.casefold(): value for name, value in some.items()} for some in tags]
    for some in plain:
        for name, value in some.items():
            fps = _rate(value) if _FPS_TAG.search(name) else None
            if fps is not None:
                return Capture(fps, tag=name)
    for name in _MODE_TAGS:
        for some in plain:
            fps = _rate(some.get(name))
            if fps is not None:
                return Capture(fps if fps >= MIN_SLOW_FPS else None, tag=name)
    return None


def time_factor(capture: Capture, stored_fps: float | None) -> float:
    """Return the factor by which the stamps are too long: 8 for 240 frames a second stored at 30, 1 if they are right.

    ``stored_fps`` is the rate by the stamps, None if unknown.

    Examples
    --------
    >>> time_factor(Capture(240.0), 30.0), time_factor(Capture(30.0), 24.0)
    (8.0, 1.0)
    """
    stored = capture.stored_fps or stored_fps
    if capture.fps is None or stored is None or not stored > 0:
        return 1.0
    factor = capture.fps / stored
    if factor > FACTOR_SLACK and capture.fps >= MIN_SLOW_FPS:
        return factor
    return factor if factor < 1 / FACTOR_SLACK else 1.0


def _rate(text: str | None) -> float | None:
    """Return the text as a rate in frames per second; None if it is none that a camera could have."""
    try:
        fps = float(text or "")
    except ValueError:
        return None
    return fps if math.isfinite(fps) and 0 < fps <= MAX_CAPTURE_FPS else None


def _read_boxes(path: Path) -> Capture | None:
    """Read the rate from Samsung's and Sony's boxes of an mp4 or mov; None if there are none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(4)
            if file.read(4) not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
                return None
            for kind, start, end in _boxes(file, 0, size):
                capture = _read_box(file, kind, start, end)
                if capture is not None:
                    return capture
    except (OSError, struct.error):
        return None
    return None


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield the leaves among the boxes from ``start`` to ``end``: kind, start and end of their content."""
    n_boxes = 0
    while start + 8 <= end and n_boxes < _MAX_BOXES:
        n_boxes += 1
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        inside = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            inside += 8
        after = end if size == 0 else start + size
        if after <= start or inside > after or after > end:
            return
        if kind in _CONTAINERS and depth < 5:
            yield from _boxes(file, inside + _n_flags(file, kind, inside), after, depth + 1)
        else:
            yield kind, inside, after
        start = after


def _n_flags(file: BinaryIO, kind: bytes, inside: int) -> int:
    """Return the number of bytes of version and flags before the boxes inside a box."""
    if kind == b"smta":
        return 4
    if kind != b"meta":
        return 0
    # In mp4 a meta box has them, in QuickTime it has none.
    file.seek(inside + 4)
    return 0 if file.read(4) == b"hdlr" else 4


def _read_box(file: BinaryIO, kind: bytes, start: int, end: int) -> Capture | None:
    if kind not in (b"saut", b"xml "):
        return None
    file.seek(start)
    if kind == b"xml ":
        content = file.read(min(end - start, _MAX_BYTES))
        found = _SONY_RATES.search(content)
        fps, stored_fps = (_rate(text.decode()) for text in found.groups()) if found else (None, None)
        return Capture(fps, stored_fps, "captureFps of Sony's XML") if fps and stored_fps else None
    # The author, then pairs of a number and a value: 0 is the recording mode. The box srfr comes after them.
    content = file.read(20)
    pairs = [content[k : k + 2] for k in (4, 6)]
    mode = next((pair[1] for pair in pairs if len(pair) == 2 and pair[0] == 0), 0)
    fps = _SAMSUNG_FPS.get(mode)
    if mode == _SAMSUNG_HEVC and content[12:16] == b"srfr" and len(content) >= 20:
        fps = _rate(str(int.from_bytes(content[16:20], "big") / 65536))
    if fps is None and mode not in _SAMSUNG_MIXED:
        return None
    return Capture(fps, tag="Samsung's recording mode", is_mixed=mode in _SAMSUNG_MIXED)
