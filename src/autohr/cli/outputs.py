"""Outputs of a command, checked before minutes are spent on measuring."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from autohr.cli.output import print_error
from autohr.errors import AutoHRError

STDOUT = Path("/dev/stdout")


@dataclass(frozen=True)
class OutputPaths:
    """Files that results are written to; standard output is ``STDOUT``."""

    json: Path | None
    csv: Path | None
    html: Path | None
    summary: Path | None = None
    has_failed: bool = False
    """True where an output that was asked for cannot be written; the others are."""

    @classmethod
    def check(
        cls,
        json_out: str | None,
        csv_out: Path | None,
        html_out: Path | None = None,
        summary_out: Path | None = None,
    ) -> OutputPaths:
        """Check all outputs. One that the system refuses is reported and left out; the others are still written.

        Raises
        ------
        typer.BadParameter
            One can be no file, or two are the same file.
        """
        given = {"--json": json_out, "--csv": csv_out, "--html": html_out, "--summary-csv": summary_out}
        outs = {
            option: STDOUT if str(out) in ("-", STDOUT.as_posix()) else Path(out)
            for option, out in given.items()
            if out is not None
        }
        has_failed = False
        for option, out in list(outs.items()):
            try:
                check_writable(out, option)
            except AutoHRError as error:
                print_error(str(error))
                has_failed = True
                del outs[option]
        for option, out in outs.items():
            for other, another in outs.items():
                if option < other and _is_same_file(out, another) and (out == STDOUT or not _is_device(out)):
                    what = "standard output" if out == STDOUT else repr(str(out))
                    raise typer.BadParameter(f"{other} and {option} both name {what}. Give each its own file.")
        json, csv, html, summary = (outs.get(option) for option in given)
        return cls(json, csv, html, summary, has_failed)

    @property
    def by_option(self) -> dict[str, Path]:
        """The outputs that are written, by their options."""
        outs = {"--json": self.json, "--csv": self.csv, "--html": self.html, "--summary-csv": self.summary}
        return {option: out for option, out in outs.items() if out is not None}

    @property
    def has_stdout(self) -> bool:
        """True if results go to standard output."""
        return STDOUT in self.by_option.values()

    @property
    def first_file(self) -> Path | None:
        """The first output that is a file, and no stream or device."""
        from autohr.files import is_plain

        return next((out for out in self.by_option.values() if is_plain(out)), None)

    def refuse_inputs(self, inputs: Sequence[str | int | None]) -> None:
        """Refuse outputs that would overwrite an input, or any other video or picture.

        Raises
        ------
        typer.BadParameter
            Names the output.
        """
        from autohr.video.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, local_path

        for option, out in self.by_option.items():
            if out == STDOUT or not out.is_file():
                continue
            if any(_is_same_file(out, local_path(one)) for one in inputs if isinstance(one, str)):
                what = "an input of this command"
            elif out.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES and out.stat().st_size:
                what = "a video or a picture"
            else:
                continue
            raise typer.BadParameter(
                f"{str(out)!r} is {what} and would be overwritten. Name another file.", param_hint=option
            )


def check_writable(out: Path, option: str | None = None) -> None:
    """Refuse an output that cannot be written.

    Raises
    ------
    typer.BadParameter
        It names something that can be no file, such as a folder.
    AutoHRError
        The system refuses it: no permission, a read-only place, a name that is too long.
    """
    from autohr.files import cannot_write, own_stream

    reason = None
    if own_stream(out) is None:
        try:
            reason = _find_obstacle(out)
        except NotADirectoryError as error:
            reason = error.strerror
        except OSError as error:
            raise cannot_write(out, error) from None
        except ValueError as error:
            reason = str(error)
    if reason is not None:
        raise typer.BadParameter(
            f"Cannot write {str(out)!r}: {reason}. Name a file in a folder that you may write to.", param_hint=option
        )


def _find_obstacle(out: Path) -> str | None:
    """Return why a path can be no file, None if nothing speaks against it; raise the OSError of the system."""
    try:
        out.stat()
    except FileNotFoundError:
        pass
    else:
        if out.is_dir():
            return "it is a folder"
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "it may not be written")
        if not out.is_file():
            return None
    place = Path(os.path.realpath(out))
    folder = next(parent for parent in place.parents if parent.exists())
    if not folder.is_dir():
        return f"{str(folder)!r} is a file"
    max_bytes = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if any(len(os.fsencode(part)) > max_bytes for part in place.parts):
        raise OSError(errno.ENAMETOOLONG, f"a name in it is longer than {max_bytes} bytes")
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"the folder {str(folder)!r} may not be written")
    try:
        # For root, and in network and immutable folders, permissions do not decide: only trying tells.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return None


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        # One of them is not there yet.
        return os.path.realpath(one) == os.path.realpath(other)


def _is_device(path: Path) -> bool:
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):
        return False
