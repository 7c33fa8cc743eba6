"""Find the videos in folders: by suffix, and where the suffix says nothing by the first bytes of a file."""

from __future__ import annotations

import mimetypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import VideoError

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
TEXT_SUFFIXES = frozenset({".ts", ".mod"})
"""Video suffixes that also name program text (TypeScript, modules of Go)."""
MIN_FOLDER_IMAGES = 2
"""Number of pictures that make a folder inside another one a video; one alone is a cover or a thumbnail."""
MAX_CONTENT_CHECKS = 1000
"""Largest number of files of unknown suffix whose first bytes are read: 1000 take some milliseconds on a local disk."""

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


@dataclass(frozen=True)
class FolderContent:
    """The videos in a folder and in the folders inside it, and everything that is not taken for one.

    Every tuple is in natural order of the path below the folder. Hidden files and folders (a leading dot) are in none.
    """

    videos: tuple[Path, ...]
    """Files with a suffix of ``VIDEO_SUFFIXES``, readable or not."""
    image_folders: tuple[Path, ...]
    """Folders with at least ``MIN_FOLDER_IMAGES`` pictures, and no video or other such folder in them or below."""
    left_out: tuple[Path, ...]
    """All other files."""
    videos_by_content: tuple[Path, ...]
    """Files of ``left_out`` that begin as a video does."""
    unreadable: tuple[tuple[Path, str], ...]
    """Folders that could not be listed, with the reason."""
    n_not_searched: int = 0
    """Folders directly inside that were not entered, because they were not to be."""


def find_videos(folder: Path, *, is_recursive: bool = True) -> FolderContent:
    """Find the videos in a folder, and if ``is_recursive`` in all folders inside it.

    Links to folders are followed, each folder is entered once. No file is opened but the first ``MAX_CONTENT_CHECKS``
    whose suffix does not say what they are, and those of ``TEXT_SUFFIXES``.
    """
    videos: list[Path] = []
    pictures: dict[Path, list[Path]] = {}
    left_out: list[Path] = []
    n_not_searched = 0
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
            unreadable.append((here, error_reason(error)))
            continue
        for path in inside:
            suffix = path.suffix.lower()
            if is_folder(path):
                if is_recursive:
                    waiting.append(path)
                else:
                    n_not_searched += 1
            elif suffix in VIDEO_SUFFIXES and not (suffix in TEXT_SUFFIXES and _is_text(_head(path))):
                videos.append(path)
            elif suffix in IMAGE_SUFFIXES:
                pictures.setdefault(here, []).append(path)
            else:
                left_out.append(path)
    # Thumbnails beside the folders of a study do not make a video of it: a folder above another video is none.
    candidates = [here for here, images in pictures.items() if len(images) >= MIN_FOLDER_IMAGES]
    above = {parent for one in (*videos, *candidates) for parent in one.parents}
    image_folders = [here for here in candidates if here not in above]
    left_out += [image for here, images in pictures.items() if here not in image_folders for image in images]

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
        n_not_searched=n_not_searched,
    )


def list_videos(folder: Path) -> list[Path]:
    """Return the video files directly inside a folder, by suffix, in natural order (v2 before v10).

    Raises
    ------
    VideoError
        The folder cannot be listed.
    """
    return files_with_suffix(folder, VIDEO_SUFFIXES)


def is_image_folder(folder: Path) -> bool:
    """Return True for a folder that is one video kept as pictures: pictures directly inside, and no video file."""
    return is_folder(folder) and bool(files_with_suffix(folder, IMAGE_SUFFIXES)) and not list_videos(folder)


def files_with_suffix(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the files of these suffixes directly inside, but for names with a leading dot (macOS writes ``._x.png``).

    Raises
    ------
    VideoError
        The folder cannot be listed.
    """
    try:
        inside = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "." and p.is_file()]
    except OSError as error:
        raise VideoError(f"The folder {str(folder)!r} cannot be listed: {error_reason(error)}.") from None
    return sorted(inside, key=_natural_key)


def local_path(source: str | Path) -> Path:
    """Return the path of a file or folder as a user gave it; a leading ``~`` is a home if no such file is there.

    ``~name`` of a user whom the system does not know stays as it is.
    """
    path = Path(source)
    if not str(source).startswith("~"):
        return path
    try:
        return path if os.path.lexists(path) else path.expanduser()
    except (RuntimeError, ValueError):  # no such user; a zero byte in the path
        return path


def is_folder(path: Path) -> bool:
    """Return True for a folder; False also for a path that no file system takes."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def error_reason(error: BaseException) -> str:
    """Return the short reason inside an error of the system or of FFmpeg."""
    return str(getattr(error, "strerror", None) or error).rstrip(".").replace("\n", " ")


def _head(path: Path, n_bytes: int = 512) -> bytes:
    """Read the first bytes of a regular file; nothing of one that cannot be read, or would wait for a writer."""
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


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name
