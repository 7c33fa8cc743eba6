"""Folders of datasets: find the right one, list what is numbered, name what is missing. No file is read here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from autohr.errors import BadRecording
from autohr.lab.datasets.recording import Absent


def find_home(root: Path, title: str, looks: str, is_home: Callable[[Path], bool], inside: Sequence[str] = ()) -> Path:
    """Return ``root``, or the first of its folders ``inside``, for which ``is_home`` holds.

    Raises
    ------
    BadRecording
        There is no such folder, or neither it nor those inside are the dataset. ``looks`` says what was
        looked for.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadRecording(f"There is no folder {str(root)!r}; give the folder of {title}, which holds {looks}.")
    for folder in (root, *(root / name for name in inside)):
        if folder.is_dir() and is_home(folder):
            return folder
    raise BadRecording(f"{str(root)!r} is not {title}: it holds no {looks}. Give the folder that does.")


def matching(folder: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """Return what lies directly inside and whose whole name matches, numbers in names sorted as numbers."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.findall(r"[0-9]+|[^0-9]+", name)]

    found = [(match, path) for path in folder.iterdir() if (match := re.fullmatch(pattern, path.name))]
    return sorted(found, key=lambda one: natural(one[1].name))


def missing(id: str, path: Path) -> Absent:
    """Return the entry of an expected recording whose video is not in this copy."""
    return Absent(id, f"{str(path)!r} is missing; copy it again.", known_gap=False)
