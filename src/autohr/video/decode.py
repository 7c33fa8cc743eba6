"""How frames enter autohr: a file, a folder of pictures, a camera or an address becomes RGB frames with true times.

``open_video(source)`` gives a ``VideoReader``; iterating it gives ``VideoFrame`` one at a time, so memory does not grow
with the length of the video. PyAV reads files, pictures and addresses; OpenCV reads cameras, and joins colour planes.

Conventions, all of them ours unless said otherwise:

* Time 0 is the stamp of the first frame that the decoder gives. A camera's clock starts at its first grab.
* Stamps come from the container. A missing or stray one is filled from decoding times or the spacing of its neighbours
  and the frame is marked ``repaired``; a frame whose stamp was already taken, or lies behind, is dropped and counted. A
  clock that falls back by more than a second was restarted, and goes on where it was; one that leaps forward by more
  than an hour in all does too (``stamps.py``).
* Slow motion and time lapse that say so are put on the clock by which they were filmed (``capture.py``).
* Untagged colour is BT.601 below 720 lines and BT.709 from 720 up, limited range: what players do. Tagged colour is
  taken at its word. Transfer curves (HDR) are not undone; a note says so.
* Frames are turned and mirrored as the file asks; ``width`` and ``height`` are those after turning.
* A picture size that changes for good is followed. Smaller frames of the same shape are scaled up to that before, so
  that a face is not lost where a stream is given less room; a few frames of another shape are dropped and counted.
* Of several picture streams the real film is read (``_choose_stream``).
"""

from __future__ import annotations

import functools
import itertools
import math
import mimetypes
import os
import queue
import re
import stat
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self, cast

import av
import av.codec
import av.container
import cv2
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.sidedata import sidedata
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autohr.errors import VideoError, with_notes
from autohr.types import Frame
from autohr.video.capture import LEAST_LAPSE_FPS, Capture, read_capture, time_factor
from autohr.video.stamps import NoClock, StampClock, Timed

VIDEO_SUFFIXES = frozenset(
    (
        # MPEG-4 and QuickTime, with the names that phones, action cameras and players gave them
        ".mp4 .m4v .mp4v .mpg4 .m4s .mov .qt .movie .f4v .3gp .3gpp .3gp2 .3g2 .3gpp2 .k3g .skm .ismv .mj2 .mjp2 .psp"
        " .insv .lrv .360"
        # Matroska, AVI, Windows, Flash, Real, Ogg
        " .mkv .mk3d .webm .avi .divx .xvid .amv .wmv .asf .wtv .dvr-ms .flv .kux .rm .rmvb .rv .ivr .ogv .ogm .ogx"
        # MPEG-1 and MPEG-2: elementary, program and transport streams; camcorders and television
        " .mpg .mpeg .mpe .mpv .mpv2 .mp2v .m1v .m2v .m2p .vob .vro .evo .evob .mod .tod .ts .mts .m2ts .m2t .tp .trp"
        " .pva .ty .ty+ .nsv .nuv"
        # tape, studio and security cameras
        " .dv .dif .mxf .gxf .lxf .nut .y4m .cine .mlv .dav .ifv .mxg"
        # raw streams
        " .mjpeg .mjpg .h261 .h263 .h264 .264 .h26l .avc .hevc .h265 .265 .vvc .h266 .266 .evc .av1 .ivf .obu .vc1 .rcv"
        " .avs2 .avs3"
        # animations
        " .gif .apng .flc .fli .viv .smk .bik"
    ).split()
)
"""Suffixes by which a folder's videos are found, in small letters: those of FFmpeg's demuxers for moving pictures, and
common other names of the same formats. Left out are suffixes that mostly name something else (.dat, .avs, .ogg) and
raw pictures without a header (.yuv)."""
IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .webp .tif .tiff".split())

MIN_SIDE_PX = 32
"""Least side of a picture: the face detector's smallest face is 20 px, and a face needs room around it."""
MAX_SIDE_PX = 16384
MAX_PIXELS = 8192 * 8192
"""Larger headers are damage or an attack, and are refused before a picture is allocated: 64 Mpx are 200 MB as RGB."""
MAX_IMAGE_BYTES = 512 * 2**20
"""Largest file taken as one picture: 64 Mpx of 16-bit RGB, uncompressed, fit in."""

URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")
URL_TIMEOUT_S = 10.0

SEEK_FORMATS = frozenset({"mov", "matroska"})
"""Containers with an index, in which a seek lands on the key frame before the time asked for."""
SEEK_FROM_S = 2.0
"""Below this start, decoding and skipping is as quick as seeking."""
NOT_VIDEO_FORMATS = frozenset({"tty", "concat", "hls", "dash", "image2", "bin", "xbin", "adf", "idf", "lavfi"})
"""What FFmpeg would open as a video from a local file and is none: text, play lists, single pictures."""

SAME_SHAPE = 0.01
"""Sizes whose ratios of width to height differ by less than this are one picture at two scales."""
CONFIRMING_SIZE = 3
"""Frames in a row of another size and shape that are believed; fewer are strays (a thumbnail among pictures)."""
STREAM_SHARE = 0.5
"""A picture stream with fewer frames, or less time, than this share of the longest is no film: a cover or preview."""
PROBED_PACKETS = 600
"""Packets counted to tell films from previews where the header does not say how long they are: some seconds."""
RATE_PACKETS = 120
"""Packets from whose stamps the rate of a file with a tag of slow motion is taken."""
LEAST_BYTES_PER_S = 100
"""A header that promises more time than the file has bytes for is not believed: the emptiest frames take 10 bytes."""
MOST_CHANGES = 5
"""Changes of the size of the picture that are noted one by one."""
FASTEST_FPS = 1000.0
"""A file whose stamps say more frames per second than this has a clock that went wrong; a note says so."""
MAX_BAD_PACKETS = 1000
"""So many packets in a row without one frame end the reading; the longest usual key frame distance is 250."""
GAP_S = 0.5
"""Frames further apart than this, and than three nominal frames, are reported as a gap: a beat or so fits in."""
TRUNCATED_SLACK_S = 0.5
"""The header may promise this much more than the frames hold before the file is called cut short."""

_UNSPECIFIED, _BT709, _BT470BG = 2, 1, 5  # AVColorSpace
_LIMITED = 1  # AVColorRange
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_MATRIX_BYTES = 36  # of AV_FRAME_DATA_DISPLAYMATRIX
_HDR_CURVES = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
# Without ACCURATE_RND swscale takes a quick path that is up to 2.6 of 255 too dark, green most (measured on flat
# colours, by the equations of BT.601); exact planes are right to 0.5 and cost 0.5 ms more a frame at 640x480.
_EXACT = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
_GRAY_FROM_LIMITED: NDArray[np.uint8] = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)

_WEBP_ANIMATED = 0x02  # in the flags of VP8X (RFC 9649, 2.7)

_IMAGE_CODECS = (  # first bytes -> decoder; the suffix of a picture is not trusted
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "mjpeg"),
    (b"BM", "bmp"),
    (b"RIFF", "webp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


def _unnamed_side_data(cls: type[sidedata.Type], value: int) -> sidedata.Type:
    """Return a member for a kind of side data that PyAV has no name for."""
    member = object.__new__(cls)
    member._name_ = f"UNNAMED_{value}"
    member._value_ = value  # type: ignore[assignment]
    return member


# PyAV 18 raises ValueError for all side data of a frame, its display matrix too, where one kind is newer than its list:
# FFmpeg 8 attaches EXIF to pictures, and views to stereo video.
sidedata.Type._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment, method-assign]


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video."""

    rgb: Frame
    """(H, W, 3) uint8, RGB, contiguous; belongs to the caller."""
    t_s: float
    """Seconds since the first frame of the video."""
    index: int
    """Counts the frames that this reader gave: 0, 1, 2, ..."""
    repaired: bool
    """Whether the container's stamp was missing or impossible, and ``t_s`` was filled in."""
    whole: bool
    """Whether the frame was coded by itself (a key frame, a picture, a camera's), not as a change of others."""


@dataclass(slots=True)
class _Raw:
    """What a source gives: a frame not yet converted (``rgb`` is called only if it is wanted), or None for damage."""

    rgb: Callable[[], Frame] | None
    size: tuple[int, int] = (0, 0)
    stamp_s: float | None = None
    dts_s: float | None = None
    step_s: float | None = None
    whole: bool = True


class _Source(Protocol):
    """Where frames come from. ``raws`` ends quietly; what cut it short is a sentence in ``ended_by``."""

    path: str
    width: int
    height: int
    duration_s: float | None
    fps_nominal: float | None
    ended_by: str | None
    notes: list[str]
    is_live: bool
    """True where frames are stamped by this machine as they come, so that none may be held back."""

    def raws(self) -> Iterator[_Raw]: ...

    def seek(self, start_s: float) -> float | None:
        """Go to a key frame at or before this time and return the stamp of time 0; None where that is not safe."""
        ...

    def rewind(self) -> None:
        """Begin again at the first frame, after a seek."""
        ...

    def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------------------------------
# The door


def open_video(
    source: str | Path | int, *, start_s: float = 0.0, end_s: float | None = None, fps: float | None = None
) -> VideoReader:
    """Open a video of any kind and check that it gives a first frame.

    Args:
        source: a file; a folder of pictures (png, jpg, bmp, webp, tif; in natural order); the index of a camera (an
            int, or digits where no such file exists); or an address (``http://``, ``rtsp://``, ...).
        start_s: first time wanted, in seconds of the video.
        end_s: frames at ``start_s <= t_s < end_s`` are given; None is to the end.
        fps: stamps frame number i with ``i / fps`` and ignores the container's stamps. Folders of pictures and raw
            streams (``.h264``) carry no clock and need it; cameras refuse it.

    Raises:
        VideoError: it is missing, unreadable, no video, too small or too large, has no frame that can be
            decoded, or needs ``fps`` and did not get it.
        ValueError: a time, a rate or a camera index out of its range.
    """
    if not (math.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s is {start_s}; it must be 0 or more seconds.")
    if end_s is not None and not end_s > start_s:
        raise ValueError(f"end_s is {end_s}; it must be greater than start_s ({start_s}).")
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= 10_000):
        raise ValueError(f"fps is {fps}; it must be a rate in frames per second above 0 and at most 10000.")
    found = _open_source(source, fps)
    try:
        return VideoReader(found, start_s=start_s, end_s=end_s, fps=fps)
    except BaseException:
        found.close()
        raise


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
        raise VideoError(f"{str(source)!r} cannot be looked at: {_reason(error)}. Check the path.") from None
    if stat.S_ISDIR(mode):
        return _FolderSource(path, fps)
    if not stat.S_ISREG(mode):
        raise VideoError(f"{str(source)!r} is not a regular file (a pipe, socket or device). Save the video first.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise VideoError(f"{str(source)!r} cannot be read: {_reason(error)}. Check its permissions.") from None
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


def read_ahead(video: VideoReader, n_frames: int = 8) -> Generator[VideoFrame, None, None]:
    """The frames of ``video``, decoded in a thread of their own up to ``n_frames`` before they are asked for.

    Decoding leaves Python's lock, so on two cores it costs the caller nothing. Errors of the reader are raised here; a
    caller that stops early (closing this generator) stops the thread before the video is closed.
    """
    ready: queue.Queue[VideoFrame | BaseException | None] = queue.Queue(n_frames)
    stop = threading.Event()

    def put(item: VideoFrame | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def decode() -> None:
        try:
            for frame in video:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=decode, name="autohr-decode", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def list_videos(folder: Path) -> list[Path]:
    """The video files directly inside a folder, by suffix (``VIDEO_SUFFIXES``), in natural order (v2 before v10).

    Raises:
        VideoError: the folder cannot be listed.
    """
    return _listed(folder, VIDEO_SUFFIXES)


def is_image_folder(folder: Path) -> bool:
    """Whether a folder is one video kept as pictures: it holds pictures directly inside, and no video file."""
    try:
        if not folder.is_dir():
            return False
    except OSError:
        return False
    return bool(_listed(folder, IMAGE_SUFFIXES)) and not list_videos(folder)


@dataclass(frozen=True)
class FolderContent:
    """The videos in a folder and in the folders inside it, and everything that is not taken for one.

    Every tuple is in natural order of the path below the folder. Hidden files and folders (a leading dot) are in none
    of them.
    """

    videos: tuple[Path, ...]
    """Files with a suffix of ``VIDEO_SUFFIXES``, readable or not."""
    image_folders: tuple[Path, ...]
    """Folders that hold no video, and at least ``MIN_FOLDER_IMAGES`` pictures."""
    left_out: tuple[Path, ...]
    """All other files."""
    videos_by_content: tuple[Path, ...]
    """The files of ``left_out`` that begin as a video does."""
    unreadable: tuple[tuple[Path, str], ...]
    """Folders that could not be listed, with the reason."""


def find_videos(folder: Path) -> FolderContent:
    """Find the videos in a folder and in all folders inside it.

    Links to folders are followed, each folder is entered once. No file is opened but the first
    ``MAX_CONTENT_CHECKS`` ones whose suffix does not say what they are, and those of ``TEXT_SUFFIXES``.
    """
    videos: list[Path] = []
    image_folders: list[Path] = []
    left_out: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            inside = [path for path in here.iterdir() if path.name[0] != "."]
        except OSError as error:
            unreadable.append((here, _reason(error)))
            continue
        images: list[Path] = []
        n_videos = len(videos)
        for path in inside:
            suffix = path.suffix.lower()
            if _is_folder(path):
                waiting.append(path)
            elif suffix in VIDEO_SUFFIXES and not (suffix in TEXT_SUFFIXES and _is_text(_head(path))):
                videos.append(path)
            elif suffix in IMAGE_SUFFIXES:
                images.append(path)
            else:
                left_out.append(path)
        if len(videos) == n_videos and len(images) >= MIN_FOLDER_IMAGES:
            image_folders.append(here)
        else:
            left_out += images

    def order(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
        return [_natural_key(Path(part)) for part in path.relative_to(folder).parts]

    left_out.sort(key=order)
    unclear = [path for path in left_out if not _suffix_says_no_video(path)][:MAX_CONTENT_CHECKS]
    return FolderContent(
        videos=tuple(sorted(videos, key=order)),
        image_folders=tuple(sorted(image_folders, key=order)),
        left_out=tuple(left_out),
        videos_by_content=tuple(path for path in unclear if _begins_as_video(_head(path))),
        unreadable=tuple(sorted(unreadable, key=lambda pair: order(pair[0]))),
    )


MIN_FOLDER_IMAGES = 2
"""Pictures that make a folder inside another one a video; one alone is a cover or a thumbnail."""
MAX_CONTENT_CHECKS = 1000
"""Files of unknown suffix whose first bytes are read: 1000 take some milliseconds on a local disk (chosen by us)."""
TEXT_SUFFIXES = frozenset({".ts", ".mod"})
"""Video suffixes that also name program text (TypeScript, modules of Go)."""
_NOT_VIDEO_BRANDS = frozenset(
    {b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"crx "}
)
_VIDEO_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG video
    b"FLV\1",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b".RMF",
    b"GIF8",
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"nut/multimedia container",
    b"\x06\x0e\x2b\x34",  # MXF
    b"DHAV",
)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _head(path: Path, n_bytes: int = 512) -> bytes:
    """The first bytes of a regular file; nothing of what cannot be read, or would wait for a writer."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(n_bytes)
    except OSError:
        return b""


def _is_text(head: bytes) -> bool:
    """Return True where the first bytes of a file are lines of UTF-8 text."""
    if b"\n" not in head or re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head):
        return False
    try:
        head[: head.rindex(b"\n")].decode()
    except UnicodeDecodeError:
        return False
    return True


def _suffix_says_no_video(path: Path) -> bool:
    kind, packed = mimetypes.guess_type(f"x{path.suffix.lower()}")
    if packed is not None:
        return True
    is_open = kind in ("audio/ogg", "image/png")  # these may hold moving pictures
    return kind is not None and not is_open and kind.split("/")[0] in ("audio", "image", "text")


def _begins_as_video(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in _NOT_VIDEO_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if head[:4] == b"OggS":
        return b"theora" in head or b"OVP80" in head
    if head[:4] == b"\x89PNG":
        return b"acTL" in head
    if head[4:8] in (b"moov", b"mdat") or head.startswith(_VIDEO_MAGIC):
        return True
    # Transport streams: a sync byte at the start of each packet, of 188 bytes or, from cameras, 4 + 188.
    return any(
        len(head) > at + 2 * step and head[at : at + 2 * step + 1 : step] == b"GGG" for at, step in ((0, 188), (4, 192))
    )


def local_path(source: str | Path) -> Path:
    """The path of a file or folder as a user gave it; a leading ``~`` is a home folder if no such file is there.

    ``~name`` of a user whom the system does not know stays as it is.
    """
    path = Path(source)
    if not str(source).startswith("~"):
        return path
    try:
        return path if os.path.lexists(path) else path.expanduser()
    except (RuntimeError, ValueError):  # no such user; a zero byte in the path
        return path


def _listed(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of these suffixes directly inside. Names with a leading dot are left out: macOS writes ``._x.png``."""
    try:
        inside = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "." and p.is_file()]
    except OSError as error:
        raise VideoError(f"The folder {str(folder)!r} cannot be listed: {_reason(error)}.") from None
    return sorted(inside, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name


# ---------------------------------------------------------------------------------------------------------------------
# The reader


class VideoReader:
    """The frames of one video, once, in order. Made by ``open_video``; a context manager; closed also at the end.

    The counts run while frames are read; ``notes`` is complete once the iteration has ended.
    """

    path: str
    """The source as it was named."""
    width: int
    """Pixels, after the frame was turned upright."""
    height: int
    """Pixels, after the frame was turned upright."""
    duration_s: float | None
    """What the header says, None when it says nothing. For progress bars only: on a file cut short it is wrong."""
    fps_nominal: float | None
    """What the header says, None when it says nothing. Use ``t_s`` of the frames instead."""
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
        self.width = source.width
        self.height = source.height
        self.duration_s = source.duration_s
        self.fps_nominal = fps if fps is not None else source.fps_nominal
        self.n_read = 0
        self.n_repaired = 0
        self.n_dropped = 0
        self.notes = []
        self._source = source
        self._start_s = start_s
        self._end_s = math.inf if end_s is None else end_s
        self._fps = fps
        self._size = (self.width, self.height)
        self._odd: list[_Sized] = []
        self._changes: list[str] = []
        self._n_damaged = 0
        self._n_late = 0
        self._n_resized = 0
        self._n_scaled = 0
        self._gaps_s: list[float] = []
        self._first_t_s = self._last_t_s = self._given_t_s = 0.0
        self._clock: StampClock[_Raw] | None = None
        self._has_noted = False
        self._frames = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """The next frame.

        Raises:
            VideoError: at the end, if not one frame lay between ``start_s`` and ``end_s``; or the video has no clock.
        """
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file or camera; iterating ends. Harmless when called twice."""
        self._frames.close()
        self._source.close()

    def _read(self) -> Generator[VideoFrame, None, None]:
        try:
            end_t_s = yield from self._given()
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

    def _given(self) -> Generator[VideoFrame, None, float | None]:
        """The frames wanted; returns the end of the last frame of the file, None where reading stopped before."""
        end_t_s = 0.0
        for raw, t_s, repaired in self._timed():
            if t_s is None or raw.rgb is None:
                if (self._last_t_s if t_s is None else t_s) >= self._start_s:
                    self._n_late += t_s is None
                    self._n_damaged += t_s is not None
                    self._count_dropped()
                continue
            self._last_t_s, end_t_s = t_s, t_s + (raw.step_s or 0.0)
            if t_s >= self._end_s:
                yield from map(self._give, self._settle_odd())
                return None
            if t_s >= self._start_s:
                yield from map(self._give, self._sized(_Sized(raw.rgb, raw, t_s, repaired)))
        yield from map(self._give, self._settle_odd())
        return end_t_s

    def _give(self, sized: _Sized) -> VideoFrame:
        """Convert a frame, and count it."""
        frame = VideoFrame(sized.rgb(), sized.t_s, self.n_read, sized.repaired, sized.raw.whole)
        if self.n_read == 0:
            self._first_t_s = sized.t_s
        elif sized.t_s - self._given_t_s > max(GAP_S, 3 / (self.fps_nominal or math.inf)):
            self._gaps_s.append(sized.t_s - self._given_t_s)
        self._given_t_s = sized.t_s
        self.n_read += 1
        self.n_repaired += sized.repaired
        return frame

    def _sized(self, frame: _Sized) -> list[_Sized]:
        """Return the frames that can be given now that this one has come, at the size of the picture."""
        size = frame.raw.size
        if size == self._size:
            return [*self._settle_odd(), frame]
        if self._is_same_shape(size) and size[0] < self._size[0]:
            return [*self._settle_odd(), self._at_size(frame)]
        settled = self._settle_odd() if self._odd and self._odd[-1].raw.size != size else []
        if not _is_size_allowed(*size):
            # What cannot be measured is dropped at once: of many such frames none is kept.
            settled += self._settle_odd()
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

    def _settle_odd(self) -> list[_Sized]:
        """Give the frames whose size did not last: scaled where they have the shape of the others, else dropped."""
        odd, self._odd = self._odd, []
        kept = [self._at_size(frame) for frame in odd if self._is_same_shape(frame.raw.size)]
        self._n_resized += len(odd) - len(kept)
        self._count_dropped()
        return kept

    def _is_same_shape(self, size: tuple[int, int]) -> bool:
        (width, height), (new_width, new_height) = self._size, size
        return abs(new_width * height - width * new_height) <= SAME_SHAPE * width * new_height

    def _at_size(self, frame: _Sized) -> _Sized:
        """Return the frame scaled to the present size."""
        self._n_scaled += 1
        return frame._replace(rgb=functools.partial(_scaled, frame.rgb, self._size))

    def _count_dropped(self) -> None:
        self.n_dropped = self._n_late + self._n_damaged + self._n_resized

    def _timed(self) -> Iterator[tuple[_Raw, float | None, bool]]:
        """Every frame with its time and whether that was filled in; the time is None where it was already taken."""
        if self._fps is not None:
            for n, raw in enumerate(self._source.raws()):
                yield raw, n / self._fps, False
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

    def _timed_by_stamps(self, zero_s: float | None) -> Iterator[tuple[_Raw, float | None, bool]]:
        nominal_s = 1 / self._source.fps_nominal if self._source.fps_nominal else None
        self._clock = clock = StampClock[_Raw](zero_s=zero_s, nominal_step_s=nominal_s)

        def settled(frames: list[Timed[_Raw]]) -> Iterator[tuple[_Raw, float | None, bool]]:
            for timed in frames:
                yield timed.item, timed.t_s, timed.repaired

        try:
            for raw in self._source.raws():
                if raw.rgb is None and raw.stamp_s is None and raw.dts_s is None:
                    yield raw, clock.last_t_s or 0.0, False
                    continue
                yield from settled(clock.push(raw, raw.stamp_s, raw.dts_s, raw.step_s))
            yield from settled(clock.flush())
        except NoClock as why:
            raise VideoError(f"{self.path!r} has no usable clock: {why}. Say its frames per second: --fps.") from None

    def _timed_live(self) -> Iterator[tuple[_Raw, float | None, bool]]:
        """Frames that this machine stamped itself, by a clock that only goes forward: none is held."""
        zero_s = last_t_s = None
        for raw in self._source.raws():
            stamp_s = raw.stamp_s or 0.0
            zero_s = stamp_s if zero_s is None else zero_s
            t_s = stamp_s - zero_s
            if last_t_s is not None and t_s <= last_t_s + 1e-6:
                yield raw, None, False
                continue
            last_t_s = t_s
            yield raw, t_s, False

    def _write_notes(self, end_t_s: float | None) -> None:
        """``end_t_s`` is the end of the last frame of the file; None when reading stopped before."""
        if self._has_noted:
            return
        self._has_noted = True
        say = self.notes.append
        self.notes.extend(self._source.notes)
        clock = self._clock
        n_filled = self.n_repaired - (clock.n_crawling if clock is not None else 0)
        if n_filled > 0:
            say(f"{_frames(n_filled)} had no usable time stamp; the times were filled in from the neighbours.")
        if clock is not None and clock.n_crawling:
            say(
                f"The time stamps of {_frames(clock.n_crawling)} crawled at a fraction of the usual distance; the "
                "usual one was put in their place. If the rate is not right, give it with --fps."
            )
        if clock is not None and clock.n_restarts:
            say(f"The clock of the video fell back {clock.n_restarts} time(s); it was carried on where it was.")
        if clock is not None and clock.n_taken_out:
            say(
                f"The clock of the video leapt forward {clock.n_taken_out} time(s), by {clock.taken_out_s:.0f} s in "
                "all; it was carried on where it was. If the times are not right, give the rate with --fps."
            )
        if self._n_late:
            hint = " If the times are not right, give the rate with --fps." if self._n_late > self.n_read else ""
            say(f"{_frames(self._n_late)} dropped: the time stamp was already taken or ran backwards.{hint}")
        if self._n_damaged:
            say(f"{_frames(self._n_damaged)} dropped: damaged (corrupt), or not decodable.")
        if self._n_resized:
            say(f"{_frames(self._n_resized)} dropped: not of the size of the others, {self.width}x{self.height}.")
        if self._n_scaled:
            say(f"{_frames(self._n_scaled)} of another size were scaled to {self._size[0]}x{self._size[1]}.")
        self.notes.extend(self._changes[:MOST_CHANGES])
        if len(self._changes) > MOST_CHANGES:
            say(f"The size of the picture changed {len(self._changes)} times in all.")
        if self._gaps_s:
            say(f"Between frames there are {len(self._gaps_s)} gap(s), the longest of {max(self._gaps_s):.2f} s.")
        span_s = self._last_t_s - self._first_t_s
        if self._fps is None and self.n_read > 30 and self.n_read - 1 > FASTEST_FPS * span_s:
            say(
                f"By its time stamps the video has {self.n_read} frames in {span_s:.3f} s. "
                "If that is not its rate, give it with --fps."
            )
        if end_t_s is None:
            return
        if self._source.ended_by is not None:
            say(self._source.ended_by)
        promised_s = self.duration_s
        there_s = end_t_s + (clock.taken_out_s if clock is not None else 0.0)
        if self._fps is None and promised_s is not None and there_s < promised_s - TRUNCATED_SLACK_S:
            say(
                f"The header says {promised_s:.2f} s but the last frame ends at {end_t_s:.2f} s: "
                "the file is truncated, or its sound is longer than its picture."
            )


class _Sized(NamedTuple):
    """A frame whose size is being looked at."""

    rgb: Callable[[], Frame]
    raw: _Raw
    t_s: float
    repaired: bool


def _scaled(rgb: Callable[[], Frame], size: tuple[int, int]) -> Frame:
    """The picture at another size (width, height): means of pixels where it shrinks, linear where it grows."""
    picture = rgb()
    how = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Colour


class _ToRgb:
    """Decoded pictures of any pixel format to upright RGB. Keeps its scalers: one per frame takes twice as long."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._thumbnailer = VideoReformatter()

    def orientation(self, frame: av.VideoFrame) -> _Orientation:
        """Return the orientation that the container, the stream or EXIF asks for; FFmpeg makes a matrix of each."""
        # PyAV's side data and their frame hold each other, so the picture would stay in memory until Python looks for
        # cycles: gigabytes of 4K. A copy of a few pixels has the same side data, and takes 0.03 ms.
        try:
            small = self._thumbnailer.reformat(frame, width=16, height=16, format="gray8", interpolation="POINT")
            side = small.side_data.get("DISPLAYMATRIX")
        except (av.FFmpegError, ValueError):
            return _AS_IT_IS
        matrix = b"" if side is None else bytes(cast(Buffer, side))
        return _orientation_of(matrix) if len(matrix) == _MATRIX_BYTES else _AS_IT_IS

    def upright_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Return width and height after turning."""
        return (frame.height, frame.width) if self.orientation(frame).transposed else (frame.width, frame.height)

    def __call__(self, frame: av.VideoFrame) -> Frame:
        is_gray = frame.format.name.startswith("gray")
        if frame.colorspace == _UNSPECIFIED:
            frame.colorspace = _BT709 if frame.height >= 720 else _BT470BG
        planar = self._reformatter.reformat(frame, format="gbrp", interpolation=_EXACT)
        green, blue, red = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in planar.planes
        )
        rgb = cv2.merge([red, green, blue])
        if is_gray and frame.color_range == _LIMITED:
            rgb = _GRAY_FROM_LIMITED[rgb]  # swscale takes all gray as full range, whatever its tag
        return np.ascontiguousarray(_upright(np.asarray(rgb, dtype=np.uint8), self.orientation(frame)))


class _Orientation(NamedTuple):
    """How a picture is brought upright: first rows and columns are exchanged, then rows, then columns are reversed."""

    transposed: bool
    rows_reversed: bool
    columns_reversed: bool
    turn_deg: float
    """What the file asks for beyond that, in degrees counterclockwise: 0 but for damaged or odd files."""


_AS_IT_IS = _Orientation(False, False, False, 0.0)
_LEAST_ODD_DEG = 1.0
"""Turns that are left out are noted from here on; a matrix in fixed point is exact to a hundredth of this."""


@functools.lru_cache(maxsize=64)
def _orientation_of(matrix: bytes) -> _Orientation:
    """Return the orientation nearest to a display matrix.

    Args:
        matrix: nine int32 as FFmpeg keeps them, in the byte order of the machine: a b u, c d v, x y w. A point (x, y)
            of the picture is shown at (a x + c y, b x + d y), y downwards. Scales and shifts are left out.

    Returns:
        one of the eight orientations, the nearest one where the matrix is none of them (a turn by an odd angle).
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    if not any((a, b, c, d)):
        return _AS_IT_IS
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    rows_reversed, columns_reversed = (b < 0, c < 0) if transposed else (d < 0, a < 0)
    # The direction in which the first pixel row runs, against that of the orientation chosen.
    along, across = (b * (-1 if rows_reversed else 1), a) if transposed else (a * (-1 if columns_reversed else 1), b)
    return _Orientation(transposed, rows_reversed, columns_reversed, math.degrees(math.atan2(abs(across), along)))


def _upright(rgb: Frame, how: _Orientation) -> Frame:
    if how.transposed:
        rgb = rgb.transpose(1, 0, 2)
    if how.rows_reversed:
        rgb = rgb[::-1]
    return rgb[:, ::-1] if how.columns_reversed else rgb


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


# ---------------------------------------------------------------------------------------------------------------------
# Files and addresses


class _FileSource:
    """A file or an address, through PyAV."""

    is_live = False

    def __init__(self, path: str, *, is_url: bool, fps: float | None = None) -> None:
        self.path = path
        self.ended_by: str | None = None
        self.notes: list[str] = []
        self._is_url = is_url
        self._fps = fps
        self._to_rgb = _ToRgb()
        self._pending: deque[_Raw] = deque()
        self._open()
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            self._container = self._opened()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self._why_not(error)) from None

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

    def _look(self) -> None:
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
        self.duration_s: float | None = None
        if stream.duration and stream.time_base and self._has_stamps:
            self.duration_s = float(stream.duration * stream.time_base)
        elif container.duration and self._has_stamps:
            self.duration_s = container.duration / av.time_base
        if self.duration_s is not None and not self._is_url:
            n_bytes = Path(self.path).stat().st_size
            if not 0 <= self.duration_s * LEAST_BYTES_PER_S <= n_bytes:
                self.duration_s = None
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
        if not self._is_url and _is_cut(Path(self.path)):
            self.notes.append("The file is truncated: bytes are missing at its end.")

    def _choose_stream(self) -> VideoStream:
        """The film among the picture streams.

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
        films = [stream for stream in streams if lengths[stream.index] >= STREAM_SHARE * max(lengths.values())]
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
        """How much film each stream holds, by index, all in one unit: frames or seconds by the header, or packets."""
        for length in (_n_frames_said, _seconds_said):
            said = {stream.index: length(stream) for stream in streams}
            if all(said.values()):
                return said
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
        """Find out whether the stamps are stretched (slow motion, time lapse), and say so.

        Raises:
            VideoError: a time lapse that no pulse can be read from, or parts filmed at different rates.
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
        stored_fps = self._stored_fps() or self.fps_nominal
        factor = time_factor(capture, stored_fps)
        if capture.fps is None:
            self.notes.append(
                f"The file is marked as slow or fast motion ({capture.tag}), but does not say its rate; its time "
                "stamps were taken as they are. If they are not right, give the true frames per second: --fps."
            )
        elif factor != 1.0:
            self._stretched(capture, capture.fps, factor)

    def _stretched(self, capture: Capture, fps: float, factor: float) -> None:
        stored = f"stored at {fps / factor:.4g}"
        if fps < LEAST_LAPSE_FPS:
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
        """Frames per second by the first stamps: the header's mean counts pauses too. None if they do not say."""
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

    def _why_not(self, error: BaseException) -> str:
        if self._is_url:
            return f"{self.path!r} cannot be opened: {_reason(error)}. Check the address and the network."
        try:
            with Path(self.path).open("rb") as file:
                head = file.read(4096)
        except OSError as failure:
            return f"{self.path!r} cannot be read: {_reason(failure)}. Check its permissions."
        if head[4:8] == b"ftyp":
            why = "its index (moov) is missing or damaged: the recording was cut short or the copy is incomplete"
        elif head.isascii() and b"\0" not in head:
            why = "it holds text"
        else:
            why = _reason(error)
        return f"{self.path!r} cannot be opened as a video: {why}."

    def raws(self) -> Iterator[_Raw]:
        while self._pending:
            yield self._pending.popleft()
        yield from self._decoding

    def _decoded(self) -> Generator[_Raw, None, None]:
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
                self.ended_by = f"Reading stopped early, the file or stream is damaged or gone: {_reason(error)}."
                return
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                frames = []
                reason = _reason(error)
                yield _Raw(None)
            else:
                reason = "packets give no frame"
            n_bad = 0 if frames else n_bad + 1
            if n_bad >= MAX_BAD_PACKETS:
                self.ended_by = f"Decoding stopped early after {n_bad} packets without a frame: {reason}."
                return
            for frame in frames:
                yield self._raw(frame)

    def _raw(self, frame: av.VideoFrame) -> _Raw:
        stamp_s = dts_s = step_s = None
        base = self._stream.time_base
        if self._has_stamps and base is not None:
            num, den = base.numerator, base.denominator
            stamp_s = None if frame.pts is None else frame.pts * num / den
            dts_s = None if frame.dts is None else frame.dts * num / den
            step_s = frame.duration * num / den if frame.duration else None
            if self._time_factor != 1.0:
                stamp_s, dts_s, step_s = (
                    None if value is None else value / self._time_factor for value in (stamp_s, dts_s, step_s)
                )
        if frame.is_corrupt:
            return _Raw(None, stamp_s=stamp_s, dts_s=dts_s, step_s=step_s)
        self._note_look(frame)
        rgb = functools.partial(self._to_rgb, frame)
        whole = frame.pict_type in (PictureType.I, PictureType.SI, PictureType.NONE)
        return _Raw(
            rgb, size=self._to_rgb.upright_size(frame), stamp_s=stamp_s, dts_s=dts_s, step_s=step_s, whole=whole
        )

    def _note_look(self, frame: av.VideoFrame) -> None:
        """Note, once each, what the picture asks for that is not done."""
        if frame.color_trc in _HDR_CURVES:
            self._note_once(f"The video is HDR ({_HDR_CURVES[frame.color_trc]}); its transfer curve is not undone.")
        turn_deg = self._to_rgb.orientation(frame).turn_deg
        if turn_deg >= _LEAST_ODD_DEG:
            self._note_once(
                f"The file asks for a turn by {turn_deg:.0f} degrees more than was done: only quarters are."
            )

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
        self._look()

    def close(self) -> None:
        self._container.close()


def _nominal_fps(stream: VideoStream) -> float | None:
    """Frames per second by the header: the mean, or FFmpeg's guess where the mean is that of a clock gone wrong."""
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in rates if 1 <= rate <= FASTEST_FPS), rates[0] if rates else None)


def _n_frames_said(stream: VideoStream) -> float:
    return float(stream.frames or 0)


def _seconds_said(stream: VideoStream) -> float:
    """Return the length by the stream's tag, as mkv has it, or by the header; 0 if neither says it."""
    said = next((value for name, value in stream.metadata.items() if name.upper().startswith("DURATION")), "")
    found = re.fullmatch(r"([0-9]+):([0-9]+):([0-9]+(?:[.][0-9]*)?)", said.strip())
    if found is not None:
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    # After the tag: FFmpeg gives a stream of one picture the length of the whole mkv.
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _is_cut(path: Path) -> bool:
    """Whether an avi is shorter than its first chunk says, or a gif lacks its last byte.

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
# Folders of pictures


class _FolderSource:
    """A folder of pictures in natural order, one frame each, ``fps`` of them a second."""

    is_live = False

    def __init__(self, folder: Path, fps: float | None) -> None:
        self.path = str(folder)
        self.ended_by: str | None = None
        self.notes: list[str] = []
        self._to_rgb = _ToRgb()
        self._pictures = _listed(folder, IMAGE_SUFFIXES)
        if not self._pictures:
            n_videos = len(list_videos(folder))
            hint = f" It holds {n_videos} video file(s): open them one by one." if n_videos else ""
            raise VideoError(f"The folder {self.path!r} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}).{hint}")
        if fps is None:
            raise VideoError(f"The folder of pictures {self.path!r} has no clock. Say its frames per second: --fps.")
        self.fps_nominal: float | None = fps
        self.duration_s: float | None = len(self._pictures) / fps
        first = next((raw for raw in self.raws() if raw.rgb is not None), None)
        if first is None:
            raise VideoError(f"The folder {self.path!r} has {len(self._pictures)} pictures, and none can be decoded.")
        self.width, self.height = first.size
        _check_size(self.path, self.width, self.height)

    def raws(self) -> Iterator[_Raw]:
        for path in self._pictures:
            frame = _decode_picture(path)
            if frame is None:
                yield _Raw(None)
            else:
                yield _Raw(functools.partial(self._to_rgb, frame), size=self._to_rgb.upright_size(frame))

    def seek(self, start_s: float) -> float | None:
        return None

    def rewind(self) -> None:
        """Nothing to do: this source cannot seek."""

    def close(self) -> None:
        self._pictures = []


def _decode_picture(path: Path) -> av.VideoFrame | None:
    """One picture file; None if it cannot be read or decoded."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Cameras


class _CameraSource:
    """A camera, through OpenCV, stamped when the picture was grabbed. It ends when the camera stops."""

    is_live = True

    def __init__(self, index: int, fps: float | None) -> None:
        if isinstance(index, bool) or index < 0:
            raise ValueError(f"The camera index is {index}; it must be 0 or more.")
        if fps is not None:
            raise VideoError(f"Camera {index} has a clock of its own; leave out --fps.")
        self.path = str(index)
        self.duration_s: float | None = None
        self.ended_by: str | None = None
        self.notes: list[str] = []
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(index)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            self._capture.release()
            raise VideoError(f"Camera {index} cannot be opened. Check that it is plugged in, allowed, and not in use.")
        fps_said = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps_nominal: float | None = fps_said if math.isfinite(fps_said) and fps_said > 0 else None
        first = self._grab()
        if first is None:
            self.close()
            raise VideoError(f"Camera {index} opens but gives no picture. Check that no other program uses it.")
        self._pending: _Raw | None = first
        self.width, self.height = first.size
        try:
            _check_size(f"camera {index}", self.width, self.height)
        except VideoError:
            self.close()
            raise

    def _grab(self) -> _Raw | None:
        if not self._capture.grab():
            return None
        stamp_s = time.monotonic()
        got, bgr = self._capture.retrieve()
        if not got or bgr is None:
            return None
        bgr = np.asarray(bgr, dtype=np.uint8)
        height, width = bgr.shape[:2]
        code = cv2.COLOR_GRAY2RGB if bgr.ndim == 2 else cv2.COLOR_BGR2RGB
        return _Raw(lambda: np.asarray(cv2.cvtColor(bgr, code), dtype=np.uint8), size=(width, height), stamp_s=stamp_s)

    def raws(self) -> Iterator[_Raw]:
        raw = self._pending
        self._pending = None
        while raw is not None:
            yield raw
            raw = self._grab()
        self.ended_by = "The camera stopped giving pictures."

    def seek(self, start_s: float) -> float | None:
        return None

    def rewind(self) -> None:
        """Nothing to do: this source cannot seek."""

    def close(self) -> None:
        self._capture.release()


def _reason(error: BaseException) -> str:
    """The short reason inside an error of the system or of FFmpeg."""
    return str(getattr(error, "strerror", None) or error).rstrip(".").replace("\n", " ")


def _frames(n: int) -> str:
    return "1 frame" if n == 1 else f"{n} frames"
