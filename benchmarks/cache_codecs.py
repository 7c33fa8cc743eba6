"""Lossless codecs for the crops of a cache: size beside the memory map, and the time to read a clip from any place.

    python benchmarks/cache_codecs.py CACHE/KEY --recordings 6

CACHE/KEY is a folder of `autohr prepare`. Frames are encoded in pieces that can be decoded alone, so that any clip can
be read; every frame is compared bit for bit. blosc2 is measured where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from autohr.types import Frame

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "FFV1": ("ffv1", "bgr0", {"level": "3", "coder": "range_tab", "context": "1", "slices": "4", "g": "1000"}),
    "FFV1, each frame alone": ("ffv1", "bgr0", {"level": "3", "coder": "range_tab", "slices": "4", "g": "1"}),
    "HEVC": ("libx265", "gbrp", {"preset": "slow", "x265-params": "lossless=1:log-level=none:pools=1:frame-threads=1"}),
    "H.264": ("libx264rgb", "rgb24", {"preset": "veryslow", "qp": "0"}),
    "VP9": ("libvpx-vp9", "gbrp", {"lossless": "1", "cpu-used": "1", "deadline": "good"}),
    "JPEG-LS, each frame alone": ("jpegls", "rgb24", {}),
}
"""Name -> encoder of FFmpeg, layout of its pixels, options. PyAV's FFmpeg has no encoder of JPEG XL."""
CLIP, N_CLIPS = 160, 20
"""Length of a clip of the paper, and clips that are read."""
Piece = Any


def encode(frames: Frame, name: str) -> tuple[list[bytes], bytes | None]:
    """Return the packets of frames (T, H, W, 3), and the codec's header."""
    encoder, layout, options = CODECS[name]
    context: Any = av.CodecContext.create(encoder, "w")
    context.height, context.width = frames.shape[1:3]
    context.pix_fmt, context.time_base, context.options = layout, Fraction(1, 30), options
    context.thread_count = 1
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24").reformat(format=layout)
        picture.pts = number
        packets += context.encode(picture)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets], context.extradata


def decode(piece: tuple[list[bytes], bytes | None], shape: tuple[int, ...], name: str) -> Frame:
    """Return the frames of ``encode``."""
    decoder = {"libx265": "hevc", "libx264rgb": "h264", "libvpx-vp9": "vp9"}.get(CODECS[name][0], CODECS[name][0])
    context: Any = av.CodecContext.create(decoder, "r")
    context.thread_count = 1
    if piece[1]:
        context.extradata = piece[1]
    if decoder == "ffv1":
        context.height, context.width = shape[1:3]
    pictures = [one for packet in piece[0] for one in context.decode(av.Packet(packet))]
    pictures += context.decode(None)
    return np.stack([one.to_ndarray(format="rgb24") for one in pictures])


def differences(frames: Frame) -> Frame:
    """Return the first frame, and of each later one its difference to the one before, modulo 256."""
    return np.concatenate([frames[:1], np.diff(frames, axis=0)])


def blosc(frames: Frame, blosc2: Any) -> bytes:
    """Return differences of frames, bits sorted by their weight, compressed by zstd."""
    packed, how = np.ascontiguousarray(differences(frames)), {"filters": [blosc2.Filter.BITSHUFFLE], "clevel": 9}
    kept: bytes = blosc2.compress2(packed, typesize=1, codec=blosc2.Codec.ZSTD, **how)
    return kept


def unblosc(piece: bytes, shape: tuple[int, ...], blosc2: Any) -> Frame:
    """Return the frames of ``blosc``."""
    steps = np.frombuffer(blosc2.decompress2(piece), dtype=np.uint8).reshape(-1, *shape[1:])
    return np.asarray(np.cumsum(steps, axis=0, dtype=np.uint8))


def judge(
    name: str,
    n: int,
    films: list[Frame],
    pack: Callable[[Frame], Piece],
    unpack: Callable[[Piece, tuple[int, ...]], Frame],
) -> None:
    """Print a codec's size as a share of the memory map, and its times, in pieces of ``n`` frames."""
    began = time.process_time()
    pieces = [[pack(film[first : first + n]) for first in range(0, len(film), n)] for film in films]
    encode_s = time.process_time() - began
    for film, its in zip(films, pieces, strict=True):
        whole = np.concatenate([unpack(piece, film.shape) for piece in its])
        assert np.array_equal(whole, film), f"{name} is not lossless"
    sizes = [
        sum(len(one) if isinstance(one, bytes) else sum(map(len, one[0])) + len(one[1] or b"") for one in its)
        for its in pieces
    ]
    shares = [size / film.nbytes for size, film in zip(sizes, films, strict=True)]
    rng = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(N_CLIPS):
        which = rng.integers(len(films))
        first = int(rng.integers(max(1, len(films[which]) - CLIP)))
        for number in range(first // n, min(len(pieces[which]), -(-(first + CLIP) // n))):
            unpack(pieces[which][number], films[which].shape)
    clip_ms = 1000 * (time.process_time() - began) / N_CLIPS
    n_frames = sum(map(len, films))
    print(
        f"{name:28} pieces of {n:3}: {min(shares):.3f} to {max(shares):.3f}, mean {np.mean(shares):.3f}; "
        f"clip {clip_ms:6.1f} ms; encoding {1000 * encode_s / n_frames:.2f} ms a frame",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="folder that holds the recordings' folders")
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--pieces", type=int, nargs="+", default=[160], help="frames of a piece")
    parser.add_argument("--codecs", nargs="+", default=[*CODECS, "blosc2"], help="default: all")
    given = parser.parse_args()
    found = sorted(given.cache.glob("*/frames_0.npy"))
    chosen = found[:: max(1, len(found) // given.recordings)][: given.recordings]
    maps = [np.load(path, mmap_mode="r") for path in chosen]
    rng = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(N_CLIPS):
        film = maps[rng.integers(len(maps))]
        first = int(rng.integers(max(1, len(film) - CLIP)))
        np.array(film[first : first + CLIP])
    print(f"memory map: clip {1000 * (time.process_time() - began) / N_CLIPS:.1f} ms, of {maps[0].shape}")
    films = [np.array(film) for film in maps]
    for n in given.pieces:
        for name in (name for name in CODECS if name in given.codecs):
            if n == given.pieces[0] or not name.endswith("alone"):
                judge(name, n, films, partial(encode, name=name), partial(decode, name=name))
        if "blosc2" not in given.codecs:
            continue
        try:
            blosc2 = importlib.import_module("blosc2")
        except ImportError:
            continue
        judge("blosc2, differences", n, films, partial(blosc, blosc2=blosc2), partial(unblosc, blosc2=blosc2))


if __name__ == "__main__":
    main()
