"""HDF5 files (MAT files of version 7.3 too), opened by h5py, with errors that name the file.

h5py comes with the extra ``datasets`` and is imported when a file is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autohr.errors import AutoHRError, BadRecording
from autohr.types import Float


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an ``h5py.File`` for reading.

    Raises
    ------
    AutoHRError
        h5py is not installed.
    BadRecording
        The file is missing, cut short or no HDF5; also when it fails while it is being read.
    """
    try:
        import h5py
    except ImportError:
        raise AutoHRError(
            f"{str(path)!r} needs h5py to be read. Install it with: pip install 'autohr[datasets]'"
        ) from None
    if not path.is_file():
        raise BadRecording(f"{str(path)!r} is missing; copy it again.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadRecording(f"{str(path)!r} is damaged or no HDF5 file ({reason}); copy it again.") from error


def dataset_of(file: Any, name: str, path: Path) -> Any:
    """Return the ``h5py.Dataset`` called ``name``, not yet read.

    Raises
    ------
    BadRecording
        There is none; the message lists what there is.
    """
    import h5py

    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise BadRecording(f"{str(path)!r} holds no {name!r}, only {', '.join(sorted(file)) or 'nothing'}.")
    return found


def wave_of(file: Any, name: str, path: Path) -> Float:
    """Read the dataset ``name`` as (N,) float64, without its axes of length one.

    Raises
    ------
    BadRecording
        There is none, or it is not one row of at least two finite numbers.
    """
    dataset = dataset_of(file, name, path)
    if dataset.dtype.kind not in "fiu":
        raise BadRecording(f"{name!r} in {str(path)!r} holds {dataset.dtype}, not numbers.")
    values = np.asarray(dataset[()], dtype=np.float64)
    if max(values.shape, default=0) != values.size or values.size < 2:
        raise BadRecording(f"{name!r} in {str(path)!r} has shape {values.shape}; one row of numbers was expected.")
    values = values.ravel()
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise BadRecording(f"{name!r} in {str(path)!r} is {values[at]} at sample {at}; copy it again.")
    return values
