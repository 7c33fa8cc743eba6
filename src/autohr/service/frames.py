"""Messages of the camera page: a head of 20 bytes, then the picture.

    offset  type      content
    0       float64   time of capture in milliseconds, on any clock that only goes forward
    8       uint32    number of the message, sent back when the frame was accepted
    12      uint16    width in pixels
    14      uint16    height in pixels
    16      uint8     1: baseline JPEG; 2: RGB, 3 bytes a pixel, row by row
    17      3 bytes   zero

All little-endian. ``page/autohr-meter.js`` writes it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video.decode import MIN_SIDE_PX
from autohr.video.jpeg import decode_jpeg, jpeg_size

HEAD = struct.Struct("<dIHHB3x")
JPEG, RGB = 1, 2

MAX_TIME_MS = 1e15
"""Latest time of capture that is accepted: 31 thousand years, at which float64 still resolves 0.125 ms."""


@dataclass(frozen=True)
class FrameMessage:
    """One picture as it was received, not yet decoded."""

    t_ms: float
    number: int
    width: int
    height: int
    kind: int
    payload: bytes

    def decode(self) -> Frame:
        """Return the picture (H, W, 3) uint8, RGB.

        Raises
        ------
        VideoError
            A JPEG cannot be decoded.
        """
        if self.kind == JPEG:
            return decode_jpeg(self.payload, self.width * self.height)
        return np.frombuffer(self.payload, np.uint8).reshape(self.height, self.width, 3)


def pack_frame(picture: Frame | bytes, t_ms: float, number: int, size: tuple[int, int] | None = None) -> bytes:
    """Return the message of an RGB picture (H, W, 3), or of the bytes of a JPEG of ``size`` (width, height)."""
    if isinstance(picture, bytes):
        width, height = size or jpeg_size(picture)
        return HEAD.pack(t_ms, number, width, height, JPEG) + picture
    height, width, _ = picture.shape
    return HEAD.pack(t_ms, number, width, height, RGB) + picture.tobytes()


def parse_frame(message: bytes, max_pixels: int) -> FrameMessage:
    """Check a message and take it apart; the picture is not decoded yet.

    Raises
    ------
    VideoError
        It is too short, its time or kind is invalid, or its size is out of range or contradicts the picture.
    """
    if len(message) <= HEAD.size:
        raise VideoError(f"A message of {len(message)} bytes holds no picture: its head alone has {HEAD.size}.")
    t_ms, number, width, height, kind = HEAD.unpack_from(message)
    if message[HEAD.size - 3 : HEAD.size] != b"\0\0\0":
        raise VideoError("The last 3 bytes of the head must be zero.")
    if not (math.isfinite(t_ms) and 0 <= t_ms <= MAX_TIME_MS):
        raise VideoError(f"The time of capture is {t_ms} ms; it must lie between 0 and {MAX_TIME_MS:g}.")
    if min(width, height) < MIN_SIDE_PX or width * height > max_pixels:
        raise VideoError(
            f"The picture is {width}x{height}; sides of {MIN_SIDE_PX} pixels or more and at most {max_pixels} pixels "
            "in all are taken."
        )
    payload = message[HEAD.size :]
    if kind == JPEG:
        if jpeg_size(payload) != (width, height):
            raise VideoError(f"The head says {width}x{height}, the JPEG something else.")
    elif kind == RGB:
        if len(payload) != 3 * width * height:
            raise VideoError(f"{len(payload)} bytes of RGB are not {width}x{height} pixels of 3 bytes.")
    else:
        raise VideoError(f"There is no kind of picture {kind}; 1 is JPEG, 2 is RGB.")
    return FrameMessage(t_ms, number, width, height, kind, payload)
