"""Write RGB frames with true times to a video file that says truly how its colours are coded.

``write_video(path, frames, fps=30)`` for a whole video, ``VideoWriter`` for one frame at a time. The container goes by
the suffix. The file is written under a temporary name beside the target and renamed at the end, so a file with the
asked name is always whole.

Colours: BT.601 below 720 lines and BT.709 from 720 up unless ``matrix`` says otherwise, as ``decode`` takes untagged
files; matrix and range are tagged in the stream wherever the codec or container has a place for them. Odd sizes are
refused, not padded, where the pixel format halves the chroma: padding would move every box by what it added.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack, cast

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
_GIF = Fraction(1, 100)
_LIMITED, _FULL = 1, 2  # AVColorRange
_BT709, _SMPTE170M, _RGB = 1, 6, 0  # AVColorSpace, and the first two also AVColorPrimaries and AVColorTransfer...
_SWS_BT709, _SWS_BT601 = 1, 5
_EXACT = int(
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.FULL_CHR_H_INT
)
_UNTAGGED = frozenset({(".avi", "ffv1"), (".avi", "rawvideo"), (".avi", "huffyuv"), (".avi", "ffvhuff")})
"""Pairs of container and codec that cannot say which matrix and range the colours are in."""


class WriterOptions(TypedDict, total=False):
    """Arguments of ``VideoWriter`` that ``write_video`` hands on."""

    codec: str
    crf: int
    pix_fmt: str
    full_range: bool
    preset: str
    gop: int | None
    matrix: Literal["bt601", "bt709"] | None
    rotation_deg: int


class VideoWriter:
    """Writer of one video, frame by frame, with a time for each. A context manager; the file appears when it is left.

    The suffix of ``path`` chooses the container (.mp4 .mov .mkv .webm .avi .gif); ``codec`` is an encoder of FFmpeg
    (libx264, libx265, mjpeg, ffv1, libvpx-vp9, gif, ...) and ``pix_fmt`` its name of a pixel format, but for gif, which
    always has a palette of each frame's 256 best colours. ``crf`` is 0 (best) to 51, or 63 for vp9; for mjpeg the
    quantiser is crf / 6, a mapping of ours. ``rate_fps`` is the nominal rate, by default that of the first two times;
    .avi, which knows no other clock, needs it. ``full_range`` is luma 0..255 in place of 16..235, as RGB, gray and
    mjpeg always are. ``preset`` is the speed of libx264 and libx265, ``gop`` the greatest distance of key frames in
    frames, ``rotation_deg`` a turn counterclockwise that players are asked for.

    Raises
    ------
    ValueError
        An argument is out of its range, or the codec or container cannot hold the combination.
    VideoError
        The file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        codec: str = "libx264",
        crf: int = 18,
        rate_fps: float | None = None,
        pix_fmt: str = "yuv420p",
        full_range: bool = False,
        preset: str = "veryfast",
        gop: int | None = None,
        matrix: Literal["bt601", "bt709"] | None = None,
        rotation_deg: int = 0,
    ) -> None:
        self.path = Path(path)
        self._suffix = self.path.suffix.lower()
        self._width, self._height = width, height
        self._codec, self._crf, self._preset, self._gop = codec, crf, preset, gop
        self._pix_fmt = _pixel_format(codec, pix_fmt, width, height)
        in_range = rate_fps is None or (math.isfinite(rate_fps) and 0 < rate_fps <= 10_000)
        for is_allowed, message in (
            (self._suffix, f"path is {str(path)!r}; its suffix must name the container, such as .mp4 or .mkv."),
            (0 <= crf <= 63, f"crf is {crf}; it must be 0 (best) to 51, or to 63 for vp9."),
            (in_range, f"rate_fps is {rate_fps}; it must be above 0 and at most 10000."),
            (gop is None or gop >= 1, f"gop is {gop}; it must be 1 or more frames."),
            (rotation_deg in (0, 90, 180, 270), f"rotation_deg is {rotation_deg}; it must be 0, 90, 180 or 270."),
            (matrix in (None, "bt601", "bt709"), f"matrix is {matrix!r}; it must be 'bt601', 'bt709' or None."),
        ):
            if not is_allowed:
                raise ValueError(message)
        self._rate = None if rate_fps is None else Fraction(rate_fps).limit_denominator(1_000_000)
        self._rotation_deg = rotation_deg
        usual = "bt709" if height >= 720 and codec != "mjpeg" else "bt601"
        self._is_bt709 = (matrix or usual) == "bt709"
        if codec == "mjpeg" and self._is_bt709:
            raise ValueError("matrix is 'bt709'; mjpeg is bt601 by its standard (JFIF). Leave matrix out.")
        self._is_rgb = av.VideoFormat(self._pix_fmt).is_rgb or self._pix_fmt == "pal8"
        self._is_full = full_range or self._is_rgb or self._pix_fmt.startswith("gray") or codec == "mjpeg"
        if (self._suffix, codec) in _UNTAGGED and not self._is_rgb and (full_range or matrix not in (None, usual)):
            raise ValueError(f"{codec} in {self._suffix} cannot say that it is full range or {matrix}; use .mkv.")
        self._constant = self._suffix in CONSTANT_RATE_SUFFIXES
        if self._constant and self._rate is None:
            raise ValueError(f"{self._suffix} has no time stamps, only a rate: give rate_fps, or use .mkv or .mp4.")
        self._reformatter = VideoReformatter()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._palette: av.filter.Graph | None = None
        self._time_base = _FINE
        self._held: tuple[Frame, float] | None = None
        self._last_tick: int | None = None
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.{id(self):x}.part{self.path.suffix}")
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, frame_rgb: Frame, t_s: float) -> None:
        """Append a frame (H, W, 3) uint8, RGB, at ``t_s`` seconds.

        Raises
        ------
        ValueError
            Its shape or type is wrong, or its time is below 0 or not later than the last one.
        VideoError
            The disk or the encoder failed.
        """
        if self._closed:
            raise ValueError(f"The writer of {str(self.path)!r} is closed; make a new one.")
        if frame_rgb.shape != (self._height, self._width, 3) or frame_rgb.dtype != np.uint8:
            raise ValueError(
                f"The frame is {frame_rgb.dtype} {frame_rgb.shape}; "
                f"it must be uint8 ({self._height}, {self._width}, 3), RGB."
            )
        if not (math.isfinite(t_s) and t_s >= 0):
            raise ValueError(f"t_s is {t_s}; it must be 0 or more seconds.")
        if self._container is not None:
            self._encode(frame_rgb, t_s)
        elif self._rate is not None:
            self._open(self._rate)
            self._encode(frame_rgb, t_s)
        elif self._held is None:
            self._held = (frame_rgb.copy(), t_s)  # the rate is known when the second frame comes
        else:
            gap_s = t_s - self._held[1]
            if gap_s <= 0:
                raise ValueError(f"t_s is {t_s}; it must be later than the frame before, {self._held[1]}.")
            self._open(Fraction(min(max(1 / gap_s, 0.01), 10_000)).limit_denominator(1001))
            self._encode(*self._held)
            self._held = None
            self._encode(frame_rgb, t_s)

    def close(self) -> None:
        """Finish the file and give it its name. Harmless when called twice.

        Raises
        ------
        ValueError
            Not one frame was written.
        VideoError
            The disk or the encoder failed.
        """
        if self._closed:
            return
        if self._held is not None:
            self._open(Fraction(1))
            self._encode(*self._held)
            self._held = None
        if self._container is None:
            self._closed = True
            raise ValueError(f"No frame was written to {str(self.path)!r}; a video needs at least one.")
        try:
            if self._palette is not None:
                self._palette.push(None)
                self._drain_palette()
            assert self._stream is not None
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._closed = True
            self._part.replace(self.path)
        except (av.FFmpegError, OSError) as error:
            self.discard()
            raise VideoError(f"{str(self.path)!r} cannot be finished: {error_reason(error)}.") from None

    def discard(self) -> None:
        """Stop and leave nothing behind. Harmless after ``close``."""
        self._closed = True
        if self._container is not None:
            try:
                self._container.close()
            except (av.FFmpegError, OSError):
                self._container = None  # a trailer that cannot be written, of a file that is deleted next
        self._part.unlink(missing_ok=True)

    def _open(self, rate: Fraction) -> None:
        if self._constant:
            self._time_base = 1 / rate
        elif self._codec == "gif":
            self._time_base = _GIF
        try:
            container = av.open(str(self._part.absolute()), "w")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{str(self.path)!r} cannot be written: {error_reason(error)}. Does its folder exist?"
            ) from None
        except ValueError as error:
            raise ValueError(f"{self._suffix!r} is no container of FFmpeg ({error}); use .mp4, .mkv or .avi.") from None
        self._container = container
        options, quality = _codec_options(self._codec, self._crf, self._preset)
        try:
            stream = cast(VideoStream, container.add_stream(self._codec, rate=rate, options=options))
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            raise ValueError(f"{self._suffix} cannot hold {self._codec} ({error_reason(error)}); use .mkv.") from None
        self._stream = stream
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, self._pix_fmt
        context = stream.codec_context
        context.time_base = self._time_base
        stream.time_base = self._time_base
        if self._gop is not None:
            context.gop_size = self._gop
        if self._constant:
            context.max_b_frames = 0  # avi has no way to say that frames are shown in another order
        if quality is not None:
            context.qscale = True
            context.global_quality = quality * 118  # FF_QP2LAMBDA
            context.qmin = context.qmax = quality
        context.color_range = _FULL if self._is_full else _LIMITED
        context.colorspace = _RGB if self._is_rgb else _BT709 if self._is_bt709 else _SMPTE170M
        context.color_primaries = context.color_trc = _BT709 if self._is_bt709 else _SMPTE170M
        if self._rotation_deg:
            stream.set_display_rotation(self._rotation_deg)
        if self._codec == "gif":
            self._palette = _palette_graph(self._width, self._height)

    def _encode(self, frame_rgb: Frame, t_s: float) -> None:
        assert self._container is not None and self._stream is not None
        exact = t_s / float(self._time_base)
        tick = round(exact)
        if self._constant and abs(exact - tick) * float(self._time_base) > GRID_TOLERANCE_S:
            raise ValueError(f"t_s is {t_s}; {self._suffix} holds only a constant rate. Use .mkv or .mp4.")
        if self._last_tick is not None and tick <= self._last_tick:
            raise ValueError(
                f"t_s is {t_s}; it must be later than the frame before by {float(self._time_base):.6g} s or more."
            )
        self._last_tick = tick
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_rgb), format="rgb24")
        rgb.pts, rgb.time_base = tick, self._time_base
        try:
            if self._palette is not None:
                self._palette.push(rgb)
                self._drain_palette()
            else:
                self._container.mux(self._stream.encode(self._converted(rgb)))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{str(self.path)!r} cannot be written: {error_reason(error)}.") from None

    def _converted(self, rgb: av.VideoFrame) -> av.VideoFrame:
        """Convert a frame to the pixel format, matrix and range of the stream, and tag it so."""
        out = self._reformatter.reformat(
            rgb,
            format=self._pix_fmt,
            interpolation=_EXACT,
            dst_colorspace=_SWS_BT709 if self._is_bt709 else _SWS_BT601,
            dst_color_range=_FULL if self._is_full else _LIMITED,
        )
        out.color_range = _FULL if self._is_full else _LIMITED
        out.colorspace = _RGB if self._is_rgb else _BT709 if self._is_bt709 else _SMPTE170M
        out.pts, out.time_base = rgb.pts, rgb.time_base
        return out

    def _drain_palette(self) -> None:
        assert self._container is not None and self._stream is not None and self._palette is not None
        while True:
            try:
                frame = self._palette.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._container.mux(self._stream.encode(cast(av.VideoFrame, frame)))


def write_video(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    fps: float | None = None,
    t_s: Sequence[float] | NDArray[np.float64] | None = None,
    **options: Unpack[WriterOptions],
) -> None:
    """Write all frames to a video file; further arguments as in ``VideoWriter``.

    Parameters
    ----------
    frames
        (H, W, 3) uint8 RGB frames, all of one size; read one at a time.
    fps
        Frames per second; frame i is at ``i / fps``. Needed if ``t_s`` is not given, and for .avi.
    t_s
        Time of each frame in seconds, increasing; as many as there are frames.

    Raises
    ------
    ValueError
        Neither ``fps`` nor ``t_s``, no frames, times that do not match, or an argument out of its range.
    VideoError
        The file cannot be written.
    """
    if fps is None and t_s is None:
        raise ValueError("Neither fps nor t_s is given; say when the frames are shown by one of them.")
    writer: VideoWriter | None = None
    n = 0
    try:
        for n, frame in enumerate(frames, start=1):
            if t_s is not None and n > len(t_s):
                raise ValueError(f"There are more frames than times: t_s holds {len(t_s)}.")
            if writer is None:
                height, width = frame.shape[:2]
                writer = VideoWriter(path, width=width, height=height, rate_fps=fps, **options)
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


def _pixel_format(codec: str, pix_fmt: str, width: int, height: int) -> str:
    """Return the pixel format that will be written, after checks against the codec and the size."""
    try:
        known = [item.name for item in av.codec.Codec(codec, "w").video_formats or []]
    except (av.FFmpegError, ValueError):
        raise ValueError(
            f"codec is {codec!r}; it must be an encoder of FFmpeg: libx264, libx265, mjpeg, ffv1, libvpx-vp9, gif."
        ) from None
    if codec == "gif":
        pix_fmt = "pal8"
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


def _palette_graph(width: int, height: int) -> Any:
    """Return a filter from RGB to each frame's own best 256 colours; no dither, which would add noise to the pulse."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=_GIF)
    split = graph.add("split")
    make = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", "new=1:dither=none")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(make, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
