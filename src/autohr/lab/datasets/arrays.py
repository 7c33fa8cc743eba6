"""Arrays as files of the cache: opened with their form checked, and compared with checksums.

A checksum is the CRC-32 of a whole file, header included. It notices every damage of up to 32 bits in a row and all
but one in four thousand million others; it is no protection from people. On 100 MB in memory it was 2.2 GB/s, beside
1.2 of SHA-256 and 0.9 of BLAKE2b, so checking a cache takes as long as reading it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from autohr.errors import BadRecording

_PIECE_BYTES = 2**20


def checksum(path: Path) -> str:
    """Return the checksum of a file as 8 hexadecimal digits. Raises OSError where it cannot be read."""
    total, piece = 0, memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(piece):
            total = zlib.crc32(piece[:n_bytes], total)
    return f"{total:08x}"


def checksums_of(folder: Path) -> dict[str, str]:
    """Return name -> checksum of the arrays in a recording's folder, in order of their names."""
    return {file.name: checksum(file) for file in sorted(folder.glob("*.np[yz]"))}


def damage_of(folder: Path, checksums: Mapping[str, str]) -> str | None:
    """Return which array differs from its checksum, in one sentence; None where all are as they were written."""
    for name, expected in checksums.items():
        try:
            found = checksum(folder / name)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})."
        if found != expected:
            return f"{name} is damaged: its checksum is {found}, and was {expected} when it was written."
    return None


def map_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a ``.npy`` file of this type and shape into memory, read-only.

    Raises
    ------
    BadRecording
        The file is missing or cut, or its header is damaged or tells of another array.
    """
    try:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
        left_over = path.stat().st_size - array.offset - array.nbytes
    except Exception as error:  # numpy's errors on a damaged header have no common base
        raise _damaged(path, error) from error
    _check_form(path, array, dtype, shape)
    if left_over:
        # The length of the header was altered, and the data seem to begin elsewhere.
        raise _damaged(path, f"{left_over} bytes of it belong to no array")
    return array


def read_labels(path: Path, n_frames: int) -> dict[str, NDArray[Any]]:
    """Read a ``labels_N.npz`` file: bvp, hr_bpm and found, each (n_frames,).

    Raises
    ------
    BadRecording
        As ``map_array``; or its data are damaged, which the format itself notices.
    """
    try:
        # Opened here, for numpy leaves a file open that it finds to be damaged.
        with path.open("rb") as opened, np.load(opened) as file:
            labels = {name: file[name] for name in ("bvp", "hr_bpm", "found")}
    except Exception as error:  # nor have those of a damaged archive
        raise _damaged(path, error) from error
    for name, array in labels.items():
        _check_form(path, array, np.bool_ if name == "found" else np.float64, (n_frames,))
    return labels


def _check_form(path: Path, array: NDArray[Any], dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise _damaged(path, f"its header tells of {array.dtype} {array.shape}")


def _damaged(path: Path, why: Exception | str) -> BadRecording:
    state = "cannot be read" if isinstance(why, OSError) else "is damaged"
    reason = (" ".join(str(why).split()) or type(why).__name__)[:200]
    return BadRecording(f"{str(path)!r} {state} ({reason}). Run autohr prepare again, which makes it anew.")
