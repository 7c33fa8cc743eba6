"""Options that several commands share, and the method that they choose."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autohr.cli.output import print_error, waiting
from autohr.errors import AutoHRError, UnknownName

if TYPE_CHECKING:
    from autohr.methods import Method

Device = Literal["cpu", "cuda", "mps"]
Box = Literal["tracked", "first"]


def completing(
    names: Callable[[], Mapping[str, str]], *, several: bool = False
) -> Callable[[str], list[tuple[str, str]]]:
    """Return the completion of a value that is one of these names, given with a line on each.

    ``names`` is called when a shell asks, and imports what it needs; where that is not installed, nothing is offered.
    ``several`` names may stand in one value, with commas between them.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        try:
            known = names()
        except (ImportError, AutoHRError):
            return []
        return [(f"{before}{comma}{name}", about) for name, about in known.items() if name.startswith(begun)]

    return complete


def method_names() -> dict[str, str]:
    """Return name -> title of the methods."""
    from autohr.methods import METHODS

    return {name: method.title for name, method in METHODS.items()}


def weights_names() -> dict[str, str]:
    """Return name -> file name of the shipped weights."""
    from autohr.methods import shipped_weights

    return {name: path.name for name, path in shipped_weights().items()}


def check_method(name: str | None) -> str | None:
    """Return the name of a method; refuse one that does not exist as wrong usage."""
    from autohr.methods import METHODS

    if name is not None and name not in METHODS:
        raise typer.BadParameter(str(UnknownName("method", name, METHODS)))
    return name


MethodOption = Annotated[
    str | None,
    typer.Option(
        help="Method, one of `autohr list methods`. Default: autohr, or pos if its weights are not installed.",
        callback=check_method,
        autocompletion=completing(method_names),
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Weights of a network: one of `autohr list weights`, or a file. Default: those of the method.",
        show_default=False,
        autocompletion=completing(weights_names),
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="Device that a network runs on. Other methods use the processor.")]
MaxFacesOption = Annotated[int, typer.Option(min=1, max=20, help="People to follow at a time, the largest first.")]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="OUT|-", help="Write the result as JSON to a file, or to stdout with -.")
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        "--summary-csv",
        metavar="OUT",
        help="Write one row for each video and face: rate, confidence, reliable or why not, seconds used, range.",
    ),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="Write one row for each reading.")]


def load_chosen_method(name: str | None, weights: str | None, device: str) -> Method:
    """Load the method, and report on stderr if it is not the one that ``--help`` promises."""
    from autohr.methods import DEFAULT_METHOD, load_method

    with waiting("Loading the method"):
        method = load_method(name, weights, device)
    if name is None and weights is None and method.name != DEFAULT_METHOD:
        print_error(
            f"this installation has no weights of {DEFAULT_METHOD}, so {method.name} measures. "
            f"Give weights with --weights, or choose --method {method.name} to silence this line."
        )
    return method


@contextlib.contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Turn a missing library into one line with the command that installs it; a missing module of ours is a bug.

    Raises
    ------
    AutoHRError
        A library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("autohr"):
            raise
        raise AutoHRError(f"{what} needs {missing.name}: pip install 'autohr[{extra}]'.") from None
