"""Recordings in, training clips out. ``DATASETS`` is the visible table of readers: name ->
``list_recordings(root)``."""

from collections.abc import Callable
from pathlib import Path

from autohr.data import synthetic
from autohr.data.recording import Recording

DATASETS: dict[str, Callable[[Path], list[Recording]]] = {
    "synthetic": synthetic.list_recordings,
}
