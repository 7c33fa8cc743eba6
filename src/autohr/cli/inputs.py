"""Inputs of a command: which files, folders, cameras and addresses the given paths stand for."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from autohr.errors import VideoError

if TYPE_CHECKING:
    from autohr.reports.journal import FileState


@dataclass(frozen=True)
class Input:
    """One thing to measure, or the reason why it is refused without being opened."""

    source: str | int
    uses_fps: bool = True
    """True where ``--fps`` is meant for it."""
    refusal: str | None = None
    inside: str | None = None
    """Path below the folder in which it was found; None for what was given by name."""

    @property
    def is_file(self) -> bool:
        """True for a file or folder, False for a camera or an address."""
        return isinstance(self.source, str) and "://" not in self.source

    def state(self, fps: float | None) -> FileState | None:
        """Return the state of the file at this moment; None for a camera, an address, and a file that is not there."""
        from autohr.reports.journal import FileState
        from autohr.video.folders import IMAGE_SUFFIXES, files_with_suffix, is_folder, local_path

        if not self.is_file or self.refusal is not None:
            return None
        path = local_path(str(self.source))
        try:
            files = files_with_suffix(path, IMAGE_SUFFIXES) if is_folder(path) else [path]
            states = [file.stat() for file in files]
        except (OSError, ValueError, VideoError):
            return None
        if not states:
            return None
        n_bytes, newest_ns = sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)
        return FileState(str(self.source), n_bytes, newest_ns, fps if self.uses_fps else None)


def names_of(inputs: Sequence[Input], *, from_one_folder: bool) -> list[str]:
    """Return the names of inputs in tables: below the folder if one folder alone was given, else as they were given.

    Examples
    --------
    >>> names_of([Input("v/a/1.mp4", inside="a/1.mp4")], from_one_folder=True)
    ['a/1.mp4']
    """
    return [one.inside if from_one_folder and one.inside else str(one.source) for one in inputs]


def short_names(sources: Sequence[str]) -> list[str]:
    """Return the base name of each source, with as many folders before it as tell it from the others.

    Examples
    --------
    >>> short_names(["v/a/1.mp4", "v/b/1.mp4", "v/b/2.mp4"])
    ['a/1.mp4', 'b/1.mp4', '2.mp4']
    """
    names = [Path(source).name for source in sources]
    alike = {name for name, count in Counter(names).items() if count > 1}
    for n_parts in range(2, 1 + max((len(Path(source).parts) for source in sources), default=0)):
        if not alike:
            break
        for number, source in enumerate(sources):
            if names[number] in alike:
                names[number] = str(Path(*Path(source).parts[-n_parts:]))
        alike = {name for name, count in Counter(names).items() if count > 1}
    return names


def list_inputs(paths: Sequence[str], *, has_fps: bool, is_recursive: bool = True) -> tuple[list[Input], list[str]]:
    """List what to measure, and sentences on what is left out.

    Folders are searched, with the folders inside them if ``is_recursive``; numbers are cameras, and a file that is
    given twice is taken once.

    Raises
    ------
    typer.BadParameter
        A path is empty, or "-".
    """
    from autohr.video.folders import is_folder, local_path

    found: list[Input] = []
    remarks: list[str] = []
    for path in paths:
        _check_path(path)
        place = local_path(path)
        if _is_camera(path):
            found.append(Input(int(path)))
        elif "://" not in path and is_folder(place):
            inside, about = _search_folder(path, place, has_fps=has_fps, is_recursive=is_recursive)
            found += inside
            remarks += about
        else:
            found.append(Input(path))
    inputs: list[Input] = []
    repeated: list[str] = []
    indices: dict[str, int] = {}
    for one in found:
        if one.is_file:
            place = local_path(str(one.source))
            at = indices.setdefault(os.path.realpath(place), len(inputs))
            if at < len(inputs):
                # A link gives way to the file itself, so that results are named as the file is.
                if not place.is_symlink() and Path(str(inputs[at].source)).is_symlink():
                    inputs[at], one = one, inputs[at]
                repeated.append(str(one.source))
                continue
        inputs.append(one)
    if repeated:
        remarks.append(f"Given more than once and measured once: {_quoted(repeated)}.")
    with_clock = [one for one in inputs if not (isinstance(one.source, str) and is_folder(local_path(one.source)))]
    if has_fps and with_clock and len(with_clock) < len(inputs):
        remarks.append(
            f"--fps is taken for the folders of pictures; the other {len(with_clock)} keep their own clocks. "
            "Measure them in a run of their own to give them another rate."
        )
        inputs = [replace(one, uses_fps=one not in with_clock) for one in inputs]
    return inputs, remarks


def live_source(camera: str) -> str | int:
    """Return the camera, address or file that ``--camera`` names.

    Raises
    ------
    VideoError
        It is a folder.
    """
    from autohr.video.folders import is_folder, local_path

    _check_path(camera)
    if _is_camera(camera):
        return int(camera)
    if "://" not in camera and is_folder(local_path(camera)):
        raise VideoError(f"{camera!r} is a folder. Give a camera, an address, or one video file.")
    return camera


def _search_folder(path: str, folder: Path, *, has_fps: bool, is_recursive: bool) -> tuple[list[Input], list[str]]:
    from autohr.video.folders import IMAGE_SUFFIXES, find_videos, is_image_folder

    def names(files: Sequence[Path]) -> str:
        return _quoted([str(file.relative_to(folder)) for file in files])

    def found(inside: Path, refusal: str | None = None) -> Input:
        is_root = inside == folder
        return Input(str(inside), refusal=refusal, inside=None if is_root else inside.relative_to(folder).as_posix())

    content = find_videos(folder, is_recursive=is_recursive)
    inputs = [found(video) for video in content.videos]
    inputs += [
        found(inside, f"The folder {str(inside)!r} cannot be listed: {reason}.")
        for inside, reason in content.unreadable
    ]
    remarks = []
    if content.n_not_searched:
        remarks.append(f"Folders inside {path!r} are not searched, with --no-recursive: {content.n_not_searched}.")
    image_folders, left_out = list(content.image_folders), list(content.left_out)
    holds_videos = content.videos or content.unreadable or any(inside != folder for inside in image_folders)
    if not holds_videos and not content.n_not_searched and is_image_folder(folder):
        # The folder itself is the video; without --fps it is refused with what to do.
        inputs.append(Input(path))
        image_folders = [inside for inside in image_folders if inside != folder]
        left_out = [file for file in left_out if file.parent != folder or file.suffix.lower() not in IMAGE_SUFFIXES]
    if has_fps:
        inputs += [found(inside) for inside in image_folders]
    elif image_folders and inputs:
        remarks.append(
            f"Left out of {path!r}, folders of pictures: {names(image_folders)}; "
            "say their rate with --fps to measure them."
        )
    if not inputs:
        reason = f"No video in folder {path!r}. Give a video file, or a folder that holds some."
        if image_folders:
            reason = f"No video in folder {path!r}, but folders of pictures: {names(image_folders)}. "
            reason += "Say their frames per second: --fps."
        inputs.append(Input(path, refusal=reason))
    if left_out:
        counts = Counter(file.suffix.lower() for file in left_out).most_common()
        kinds = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in counts[:10])
        more = f" and {sum(n for _, n in counts[10:])} of other suffixes" if len(counts) > 10 else ""
        remarks.append(f"Left out of {path!r}, no video by suffix: {kinds}{more} ({names(left_out)}).")
    if content.videos_by_content:
        remarks.append(
            f"Left out of {path!r}, but video by content: {names(content.videos_by_content)}; "
            "give it by name to measure it."
        )
    return inputs, remarks


def _quoted(names: Sequence[str], max_shown: int = 10) -> str:
    more = f" and {len(names) - max_shown} more" if len(names) > max_shown else ""
    return ", ".join(map(repr, names[:max_shown])) + more


def _check_path(path: str) -> None:
    if not path:
        raise typer.BadParameter("A path is empty. Name a file, a folder, a camera or an address.", param_hint="PATH")
    if path == "-" and not os.path.lexists(path):
        raise typer.BadParameter("Standard input is not read. Save the video to a file first.", param_hint="PATH")


def _is_camera(path: str) -> bool:
    return re.fullmatch(r"[0-9]{1,4}", path) is not None and not os.path.lexists(path)
