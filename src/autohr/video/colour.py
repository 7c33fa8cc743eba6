"""Convert decoded pictures of any pixel format to upright RGB in true colours.

Untagged colour is BT.601 below 720 lines and BT.709 from 720 up, limited range, as in players; tagged colour is taken
at its word. Pictures are turned and mirrored as the container, the stream or EXIF asks.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import NamedTuple, cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.sidedata import sidedata
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from autohr.types import Frame

MIN_ODD_TURN_DEG = 1.0
"""Smallest turn left out that is noted; a matrix in fixed point is exact to a hundredth of this."""

_UNSPECIFIED, _BT709, _BT470BG, _SMPTE170M, _BT2020_NCL = 2, 1, 5, 6, 9  # AVColorSpace
_BT601 = (_BT470BG, _SMPTE170M)
_RED_BLUE = {
    _BT470BG: (0.299, 0.114),
    _SMPTE170M: (0.299, 0.114),
    _BT709: (0.2126, 0.0722),
    _BT2020_NCL: (0.2627, 0.0593),
}
"""Weights of red and blue in luma (ITU-R BT.601, BT.709, BT.2020); the equations of a colour space follow from them."""
_LIMITED, _FULL = 1, 2  # AVColorRange
_MATRIX_BYTES = 36  # of AV_FRAME_DATA_DISPLAYMATRIX
# Without ACCURATE_RND swscale takes a quick path that is up to 2.6 of 255 too dark, green most (measured on flat
# colours, by the equations of BT.601); exact planes are right to 0.5 and cost 1 ms a frame at 640x480.
_EXACT = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
_GRAY_FROM_LIMITED: NDArray[np.uint8] = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def _unnamed_side_data(cls: type[sidedata.Type], value: int) -> sidedata.Type:
    """Return a member for a kind of side data that PyAV has no name for."""
    member = object.__new__(cls)
    member._name_ = f"UNNAMED_{value}"
    member._value_ = value  # type: ignore[assignment]
    return member


# PyAV 18 raises ValueError for all side data of a frame, its display matrix too, where one kind is newer than its list:
# FFmpeg 8 attaches EXIF to pictures, and views to stereo video.
sidedata.Type._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment, method-assign]


class Orientation(NamedTuple):
    """The way a picture is brought upright: exchange rows and columns, then reverse rows, then columns."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False
    turn_deg: float = 0.0
    """Further turn counterclockwise that the file asks for: 0 but for damaged or odd files."""

    def upright_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Return width and height of a decoded frame after turning."""
        return (frame.height, frame.width) if self.transposed else (frame.width, frame.height)

    def apply(self, rgb: Frame) -> Frame:
        """Turn and mirror a picture (H, W, 3)."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        if self.rows_reversed:
            rgb = rgb[::-1]
        return rgb[:, ::-1] if self.columns_reversed else rgb


class ToRgb:
    """Converter of decoded pictures to upright RGB. Keeps its scalers: one per frame takes twice as long."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._thumbnailer = VideoReformatter()
        self._planes = np.zeros((0, 0), np.uint8)
        """Room for the planes of a 4:2:0 picture. Kept: memory asked for anew for each frame costs more than the
        conversion."""

    def orientation(self, frame: av.VideoFrame) -> Orientation:
        """Return the orientation that the container, the stream or EXIF asks for; FFmpeg makes a matrix of each."""
        # PyAV's side data and their frame hold each other, so the picture would stay in memory until Python looks for
        # cycles: gigabytes of 4K. A copy of a few pixels has the same side data, and takes 0.03 ms.
        try:
            small = self._thumbnailer.reformat(
                frame, width=16, height=16, format="gray8", interpolation="POINT", threads=1
            )
            side = small.side_data.get("DISPLAYMATRIX")
        except (av.FFmpegError, ValueError):
            return Orientation()
        matrix = b"" if side is None else bytes(cast(Buffer, side))
        return matrix_orientation(matrix) if len(matrix) == _MATRIX_BYTES else Orientation()

    def __call__(self, frame: av.VideoFrame, orientation: Orientation | None = None) -> Frame:
        """Return a decoded frame as upright RGB (H, W, 3); ``orientation`` is its own if it is known already."""
        if orientation is None:
            orientation = self.orientation(frame)
        if frame.colorspace == _UNSPECIFIED:
            frame.colorspace = _BT709 if frame.height >= 720 else _BT470BG
        if frame.format.name in ("yuv420p", "yuvj420p") and frame.colorspace in _RED_BLUE:
            rgb = self._from_420(frame)
        else:
            planar = self._reformatter.reformat(frame, format="gbrp", interpolation=_EXACT, threads=1)
            green, blue, red = plane_arrays(planar)
            rgb = np.asarray(cv2.merge([red, green, blue]), dtype=np.uint8)
            if frame.format.name.startswith("gray") and frame.color_range == _LIMITED:
                rgb = _GRAY_FROM_LIMITED[rgb]  # swscale takes all gray as full range, whatever its tag
        return np.ascontiguousarray(orientation.apply(np.asarray(rgb, dtype=np.uint8)))

    def _from_420(self, frame: av.VideoFrame) -> Frame:
        """Convert a picture with half the colour resolution in both directions, by OpenCV.

        Three to five times as fast as exact planes by swscale, and as exact: right to 0.6 of the equations.
        """
        is_full = frame.format.name == "yuvj420p" or frame.color_range == _FULL
        luma, *chroma = plane_arrays(frame)
        height, width = luma.shape
        if not is_full and frame.colorspace in _BT601 and height % 4 == width % 2 == 0:
            # Its planes one after the other are what OpenCV calls I420.
            room = self._room(height * 3 // 2, width)
            room[:height] = luma
            room[height:].reshape(2, height // 2, width // 2)[:] = chroma
            return np.asarray(cv2.cvtColor(room, cv2.COLOR_YUV2RGB_I420), dtype=np.uint8)
        room = self._room(height, width, 3)
        cv2.merge([luma, *(cv2.resize(plane, (width, height)) for plane in chroma)], dst=room)
        return np.asarray(cv2.transform(room, _yuv_to_rgb(frame.colorspace, is_full)), dtype=np.uint8)

    def _room(self, *shape: int) -> NDArray[np.uint8]:
        if self._planes.shape != shape:
            self._planes = np.empty(shape, np.uint8)
        return self._planes


def plane_arrays(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Return the planes of a frame of 8 bits, (H, W) each, without a copy."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


@functools.lru_cache
def _yuv_to_rgb(colour_space: int, is_full: bool) -> NDArray[np.float32]:
    """Return the equations (3, 4) from Y, U, V, 1 to red, green, blue, all 0..255."""
    red, blue = _RED_BLUE[colour_space]
    green = 1 - red - blue
    y, uv, black = (1.0, 1.0, 0.0) if is_full else (255 / 219, 255 / 224, 16.0)
    matrix = np.array(
        [
            [y, 0.0, 2 * (1 - red) * uv],
            [y, -2 * blue * (1 - blue) / green * uv, -2 * red * (1 - red) / green * uv],
            [y, 2 * (1 - blue) * uv, 0.0],
        ]
    )
    return np.column_stack([matrix, -matrix @ [black, 128.0, 128.0]]).astype(np.float32)


@functools.lru_cache(maxsize=64)
def matrix_orientation(matrix: bytes) -> Orientation:
    """Return the orientation nearest to a display matrix; of a turn by an odd angle, the nearest of the eight.

    Parameters
    ----------
    matrix
        Nine int32 as FFmpeg keeps them, in the byte order of the machine: a b u, c d v, x y w. A point (x, y) of the
        picture is shown at (a x + c y, b x + d y), y downwards. Scales and shifts are left out.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    if not any((a, b, c, d)):
        return Orientation()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    rows_reversed, columns_reversed = (b < 0, c < 0) if transposed else (d < 0, a < 0)
    # The direction in which the first pixel row runs, against that of the orientation chosen.
    along, across = (b * (-1 if rows_reversed else 1), a) if transposed else (a * (-1 if columns_reversed else 1), b)
    return Orientation(transposed, rows_reversed, columns_reversed, math.degrees(math.atan2(abs(across), along)))
