"""Write RGB frames with true times to a video file that says truly how its colours are coded.

The file is written under a temporary name beside the target and renamed at the end, so a file with the asked name is
always whole.

Colours: BT.601 below 720 lines and BT.709 from 720 up, as ``decode`` takes untagged files, in limited range but for
RGB, gray and mjpeg; both are tagged in the stream wherever the codec or container has a place for them. Odd sizes are
refused, not padded, where the pixel format halves the chroma: padding would move every box by what it added.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.codec
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video.folders import error_reason

CONSTANT_RATE_SUFFIXES = frozenset({".avi"})
"""Suffixes of containers that hold no time stamps, only a rate."""
GRID_TOLERANCE_S = 0.001
"""Largest distance of a time from the grid of a constant-rate container."""

_FINE = Fraction(1, 90_000)  # the MPEG clock: divides 24, 25, 30, 50 and 60 fps exactly
_LIMITED, _FULL = 1, 2  # AVColorRange
_BT709, _SMPTE170M, _RGB = 1, 6, 0  # AVColorSpace, and the first two also AVColorPrimaries and AVColorTransfer...
_SWS_BT709, _SWS_BT601 = 1, 5
_EXACT = int(
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.FULL_CHR_H_INT
)


def write_video(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    fps: float | None = None,
    t_s: Sequence[float] | NDArray[np.float64] | None = None,
    codec: str = "libx264",
    crf: int = 18,
    pix_fmt: str = "yuv420p",
    preset: str = "veryfast",
    gop: int | None = None,
) -> None:
    """Write all frames to a video file.

    Parameters
    ----------
    path
        Its suffix chooses the container: .mp4 .mov .mkv .webm .avi.
    frames
        (H, W, 3) uint8 RGB frames, all of one size; read one at a time.
    fps
        Frames per second; frame i is at ``i / fps``. Needed if ``t_s`` is not given, and for .avi.
    t_s
        Time of each frame in seconds, increasing; as many as there are frames. The nominal rate is then ``fps``, or
        that of the first two.
    codec, pix_fmt
        Encoder of FFmpeg (libx264, libx265, mjpeg, ffv1, libvpx-vp9, ...) and its name of a pixel format.
    crf
        0 (best) to 51, or 63 for vp9; for mjpeg the quantiser is crf / 6, a mapping of ours.
    preset
        Speed of libx264 and libx265.
    gop
        Greatest distance of key frames, in frames.

    Raises
    ------
    ValueError
        Neither ``fps`` nor ``t_s``, no frames, frames or times that do not match, an argument out of its range, or a
        codec or container that cannot hold the combination.
    VideoError
        The file cannot be written.
    """
    if fps is None and t_s is None:
        raise ValueError("Neither fps nor t_s is given; say when the frames are shown by one of them.")
    writer: _Writer | None = None
    n = 0
    try:
        for n, frame in enumerate(frames, start=1):
            if t_s is not None and n > len(t_s):
                raise ValueError(f"There are more frames than times: t_s holds {len(t_s)}.")
            if writer is None:
                height, width = frame.shape[:2]
                rate = _nominal_rate(Path(path), fps, t_s)
                writer = _Writer(Path(path), width, height, rate, codec, crf, pix_fmt, preset, gop)
            writer.write(frame, float(t_s[n - 1]) if t_s is not None else (n - 1) / cast(float, fps))
        if t_s is not None and n < len(t_s):
            raise ValueError(f"There are {n} frames but {len(t_s)} times in t_s.")
        if writer is None:
            raise ValueError(f"There are no frames to write to {str(path)!r}.")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.discard()
        raise


def _nominal_rate(path: Path, fps: float | None, t_s: Sequence[float] | NDArray[np.float64] | None) -> Fraction:
    if fps is not None:
        if not (math.isfinite(fps) and 0 < fps <= 10_000):
            raise ValueError(f"fps is {fps}; it must be above 0 and at most 10000.")
        return Fraction(fps).limit_denominator(1_000_000)
    if path.suffix.lower() in CONSTANT_RATE_SUFFIXES:
        raise ValueError(f"{path.suffix} has no time stamps, only a rate: give fps, or use .mkv or .mp4.")
    assert t_s is not None
    gap_s = float(t_s[1] - t_s[0]) if len(t_s) > 1 else 1.0
    # A gap that cannot be is refused when its frame comes.
    return Fraction(min(max(1 / gap_s, 0.01), 10_000)).limit_denominator(1001) if gap_s > 0 else Fraction(1)


class _Writer:
    """A video file while it is written, frame by frame. It gets its name when it is closed."""

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: Fraction,
        codec: str,
        crf: int,
        pix_fmt: str,
        preset: str,
        gop: int | None,
    ) -> None:
        self._path, self._width, self._height = path, width, height
        self._pix_fmt = _pixel_format(codec, pix_fmt, width, height)
        for is_allowed, message in (
            (path.suffix, f"path is {str(path)!r}; its suffix must name the container, such as .mp4 or .mkv."),
            (0 <= crf <= 63, f"crf is {crf}; it must be 0 (best) to 51, or to 63 for vp9."),
            (gop is None or gop >= 1, f"gop is {gop}; it must be 1 or more frames."),
        ):
            if not is_allowed:
                raise ValueError(message)
        is_bt709, is_rgb = height >= 720 and codec != "mjpeg", av.VideoFormat(self._pix_fmt).is_rgb
        self._range = _FULL if is_rgb or self._pix_fmt.startswith("gray") or codec == "mjpeg" else _LIMITED
        self._space = _RGB if is_rgb else _BT709 if is_bt709 else _SMPTE170M
        self._matrix = _SWS_BT709 if is_bt709 else _SWS_BT601
        self._is_constant = path.suffix.lower() in CONSTANT_RATE_SUFFIXES
        self._time_base = 1 / rate if self._is_constant else _FINE
        self._reformatter = VideoReformatter()
        self._last_tick: int | None = None
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.{id(self):x}.part{path.suffix}")
        self._container: OutputContainer | None = _open(path, self._part)
        options, quality = _codec_options(codec, crf, preset)
        try:
            stream = cast(VideoStream, self._container.add_stream(codec, rate=rate, options=options))
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            raise ValueError(f"{path.suffix} cannot hold {codec} ({error_reason(error)}); use .mkv.") from None
        self._stream = stream
        stream.width, stream.height, stream.pix_fmt = width, height, self._pix_fmt
        context = stream.codec_context
        context.time_base = stream.time_base = self._time_base
        if gop is not None:
            context.gop_size = gop
        if self._is_constant:
            context.max_b_frames = 0  # avi has no way to say that frames are shown in another order
        if quality is not None:
            context.qscale = True
            context.global_quality = quality * 118  # FF_QP2LAMBDA
            context.qmin = context.qmax = quality
        context.color_range, context.colorspace = self._range, self._space
        context.color_primaries = context.color_trc = _BT709 if is_bt709 else _SMPTE170M

    def write(self, frame_rgb: Frame, t_s: float) -> None:
        """Append a frame (H, W, 3) uint8, RGB, at ``t_s`` seconds."""
        assert self._container is not None
        if frame_rgb.shape != (self._height, self._width, 3) or frame_rgb.dtype != np.uint8:
            raise ValueError(
                f"The frame is {frame_rgb.dtype} {frame_rgb.shape}; "
                f"it must be uint8 ({self._height}, {self._width}, 3), RGB."
            )
        if not (math.isfinite(t_s) and t_s >= 0):
            raise ValueError(f"t_s is {t_s}; it must be 0 or more seconds.")
        exact = t_s / float(self._time_base)
        tick = round(exact)
        if self._is_constant and abs(exact - tick) * float(self._time_base) > GRID_TOLERANCE_S:
            raise ValueError(f"t_s is {t_s}; {self._path.suffix} holds only a constant rate. Use .mkv or .mp4.")
        if self._last_tick is not None and tick <= self._last_tick:
            raise ValueError(
                f"t_s is {t_s}; it must be later than the frame before by {float(self._time_base):.6g} s or more."
            )
        self._last_tick = tick
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_rgb), format="rgb24")
        try:
            picture = self._reformatter.reformat(
                rgb,
                format=self._pix_fmt,
                interpolation=_EXACT,
                dst_colorspace=self._matrix,
                dst_color_range=self._range,
            )
            picture.color_range, picture.colorspace = self._range, self._space
            picture.pts, picture.time_base = tick, self._time_base
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{str(self._path)!r} cannot be written: {error_reason(error)}.") from None

    def close(self) -> None:
        """Finish the file and give it its name."""
        assert self._container is not None
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._part.replace(self._path)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{str(self._path)!r} cannot be finished: {error_reason(error)}.") from None

    def discard(self) -> None:
        """Stop and leave nothing behind."""
        if self._container is not None:
            try:
                self._container.close()
            except (av.FFmpegError, OSError):
                self._container = None  # a trailer that cannot be written, of a file that is deleted next
        self._part.unlink(missing_ok=True)


def _open(path: Path, part: Path) -> OutputContainer:
    try:
        return av.open(str(part.absolute()), "w")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{str(path)!r} cannot be written: {error_reason(error)}. Does its folder exist?") from None
    except ValueError as error:
        raise ValueError(f"{path.suffix!r} is no container of FFmpeg ({error}); use .mp4, .mkv or .avi.") from None


def _pixel_format(codec: str, pix_fmt: str, width: int, height: int) -> str:
    """Return the pixel format that will be written, after checks against the codec and the size."""
    try:
        known = [item.name for item in av.codec.Codec(codec, "w").video_formats or []]
    except (av.FFmpegError, ValueError):
        raise ValueError(
            f"codec is {codec!r}; it must be an encoder of FFmpeg: libx264, libx265, mjpeg, ffv1, libvpx-vp9."
        ) from None
    if codec == "mjpeg":
        pix_fmt = pix_fmt.replace("yuvj", "yuv")  # the j stood for full range, which mjpeg has anyway
    if known and pix_fmt not in known:
        raise ValueError(f"pix_fmt is {pix_fmt!r}; {codec} takes {', '.join(known[:12])}, ...")
    if min(width, height) < 1:
        raise ValueError(f"The frame size is {width}x{height}; both sides must be 1 px or more.")
    form = av.VideoFormat(pix_fmt, width, height)
    halves_x = form.chroma_width(1024) < 1024
    halves_y = form.chroma_height(1024) < 1024
    if (halves_x and width % 2) or (halves_y and height % 2):
        raise ValueError(
            f"The frame size is {width}x{height}; {pix_fmt} needs even sides. Crop a row or column, or use yuv444p."
        )
    return pix_fmt


def _codec_options(codec: str, crf: int, preset: str) -> tuple[dict[str, str], int | None]:
    """Return the options of the encoder, and a fixed quantiser for mjpeg, which knows no crf."""
    x264 = {"crf": str(crf), "preset": preset}
    vp9 = {"crf": str(crf), "b:v": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"}
    options = {"libx264": x264, "libx265": {**x264, "x265-params": "log-level=none"}, "libvpx-vp9": vp9, "libvpx": vp9}
    return options.get(codec, {}), max(1, round(crf / 6)) if codec == "mjpeg" else None
