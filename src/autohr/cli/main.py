"""The program ``autohr``: its commands, its exit codes.

Exit codes: 0 success; 1 one of our errors, in one line on stderr; 2 wrong usage; 128 + N stopped by signal N, with all
finished results written. Any other failure is a bug of ours and keeps its traceback.

Every command parses its options, calls one function and prints. Rooms are imported inside the commands, so that
``autohr --help`` answers at once. The commands of the laboratory, as those of other packages, come by entry point
(``autohr.plugins``).
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from autohr import __version__
from autohr.cli.demo import demo
from autohr.cli.listing import list_command
from autohr.cli.live import live, serve
from autohr.cli.measure import measure
from autohr.cli.options import needs_extra
from autohr.cli.output import NOT_MEDICAL, drop_output, prepare_streams, print_error, print_line
from autohr.cli.page import page
from autohr.cli.schema import schema
from autohr.errors import AutoHRError
from autohr.plugins import OWN, find_plugins, package_of

PLUGIN_PANEL = "Laboratory: train, search and evaluate (pip install 'autohr\\[lab]')"

MACHINE_ERRORS = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EROFS EIO EMFILE ENFILE EFBIG ESTALE ENXIO ENOMEM ETIMEDOUT ENOTCONN EBUSY".split()
    if hasattr(errno, name)
)
"""Errors of reading and writing that only the machine causes, never a mistake in our code."""
PATH_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""Errors of a path that a user gave. Reported in one line if the error names the path."""


class CommandGroup(TyperGroup):
    """The commands of this package, and those of entry points, which are imported when they are asked for."""

    @functools.cached_property
    def plugins(self) -> dict[str, EntryPoint]:
        """Commands by entry point; a name of this package's own cannot be taken."""
        return {name: entry for name, entry in find_plugins("autohr.commands").items() if name not in self.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [*super().list_commands(ctx), *self.plugins]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, None if there is none."""
        if cmd_name in self.plugins and cmd_name not in self.commands:
            self.commands[cmd_name] = load_command(self.plugins[cmd_name])
        return super().get_command(ctx, cmd_name)


def help_text(function: Callable[..., Any]) -> str:
    """Return the docstring of a command with each paragraph in one line, which typer then wraps.

    Examples
    --------
    >>> print(help_text(help_text).splitlines()[0])
    Return the docstring of a command with each paragraph in one line, which typer then wraps.
    """
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(function) or "")


def load_command(entry: EntryPoint) -> Any:
    """Return the command of an entry point. One that cannot be imported says so when it is called, not before."""
    package = package_of(entry)

    def fail() -> None:
        raise AutoHRError(f"The command {entry.name!r} of {package} cannot be loaded: {problem}.")

    try:
        function: Callable[..., Any] = entry.load()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        fail.__doc__ = f"Unusable: {problem}."
        function = fail

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        if package != OWN:
            return function(*arguments, **options)
        with needs_extra(f"`autohr {entry.name}`", "lab"):
            return function(*arguments, **options)

    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    panel = f"From {package}" if package else PLUGIN_PANEL
    one.command(entry.name, rich_help_panel=panel, help=help_text(function))(run)
    return typer.main.get_command(one)


app = typer.Typer(
    cls=CommandGroup,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure the heart rate of a person from a video of the face.\n\n" + NOT_MEDICAL,
)
for command, name in (
    (measure, "measure"),
    (live, "live"),
    (serve, "serve"),
    (demo, "demo"),
    (list_command, "list"),
    (schema, "schema"),
    (page, "page"),
):
    app.command(name, help=help_text(command))(command)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print_line(f"autohr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _keep_to_few_threads() -> None:
    """Tell libraries, none of which is imported yet, to work in the thread that asks.

    Frames are decoded, faces read and the network run in a thread each. The small pictures and matrices of a face are
    not worth threads of their own: on two cores these took a quarter more processor time and were no faster.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")
    # Read when torch is loaded: idle threads then sleep. Beside other busy programs, spinning took three times the
    # processor time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the program; print our own errors in one line, and let all others keep their traceback."""
    _keep_to_few_threads()
    prepare_streams()
    code: int | str | None = 0
    try:
        try:
            app()
        except SystemExit as stop:
            code = stop.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except AutoHRError as error:
        print_error(str(error))
        code = 1
    except BrokenPipeError:
        # The reader of our output (head, less) went away; nothing is left to be printed, not even at exit.
        drop_output()
        code = code or 1
    except OSError as error:
        if error.errno not in MACHINE_ERRORS and (error.errno not in PATH_ERRORS or error.filename is None):
            raise
        where = "The output" if error.filename is None else repr(os.fsdecode(str(error.filename)))
        print_error(f"{where} cannot be read or written: {error.strerror}. Check the path and the room on the disk.")
        drop_output()
        code = code or 1
    raise SystemExit(code)
