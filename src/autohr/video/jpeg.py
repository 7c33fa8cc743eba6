"""Decode one JPEG picture, as a browser's canvas makes it. Its size is read before anything is decoded.

Only baseline JPEG is taken: every canvas writes it, and its cost is settled by the size in its header. A progressive
file may hide hundreds of scans behind the same size.
"""

from __future__ import annotations

import av
import av.error

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video.colour import ToRgb

# Marker bytes of ISO/IEC 10918-1, table B.1.
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_BASELINE = (0xC0, 0xC1)
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels, from the header alone.

    Raises
    ------
    VideoError
        The data are no JPEG, cut short, or not baseline.
    """
    if data[:2] != bytes((0xFF, _START)):
        raise VideoError("The picture is no JPEG: it does not begin with FF D8.")
    # A picture cut short would be decoded with its lower part grey, and grey has no pulse.
    if data.rstrip(b"\0")[-2:] != bytes((0xFF, _END)):
        raise VideoError("The JPEG is cut short: its end mark FF D9 is missing.")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise VideoError(f"The JPEG is damaged: byte {at} of its header is no marker.")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _BASELINE and at + 9 <= len(data):
            height, width = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            return width, height
        if marker in _OTHER_FRAMES:
            raise VideoError(f"The JPEG is of kind SOF{marker - 0xC0}; only baseline pictures are taken (a canvas's).")
        if marker == _SCAN or length < 2:
            break
        at += 2 + length
    raise VideoError("The JPEG is damaged: its header does not say how large it is.")


def decode_jpeg(data: bytes, max_pixels: int) -> Frame:
    """Decode the picture to (H, W, 3) uint8, RGB.

    Raises
    ------
    VideoError
        ``jpeg_size`` refuses it, it has more than ``max_pixels``, or it cannot be decoded.
    """
    width, height = jpeg_size(data)
    if not 0 < width * height <= max_pixels:
        raise VideoError(f"The JPEG is {width}x{height}; at most {max_pixels} pixels are taken. Send smaller pictures.")
    # FFmpeg and not OpenCV, which prints a line on stderr for every damaged picture: a client could flood a terminal.
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    codec.options = {"err_detect": "explode"}
    try:
        pictures = codec.decode(av.Packet(data)) or codec.decode(None)
        rgb = ToRgb()(pictures[0]) if pictures and not pictures[0].is_corrupt else None
    except (av.error.FFmpegError, ValueError):
        rgb = None
    if rgb is None or rgb.shape != (height, width, 3):
        raise VideoError(f"The JPEG of {width}x{height} cannot be decoded, or is damaged.")
    return rgb
