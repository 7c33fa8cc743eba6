"""``autohr list``: tables of what this installation knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from autohr import __version__
from autohr.cli.options import completing, needs_extra
from autohr.cli.output import in_words, print_line, print_table
from autohr.errors import UnknownName
from autohr.plugins import find_plugins

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Column names, and the rows under them."""


def _list_methods() -> Rows:
    from autohr.methods import METHODS, default_method, ready_methods

    default, ready = default_method(), ready_methods()
    rows = []
    for name, method in METHODS.items():
        mark = " (default)" if name == default else "" if name in ready else " (give --weights)"
        source = method.source if method.package == "autohr" else f"{method.source} (package {method.package})"
        rows.append((name + mark, method.title, method.reads, source, method.basis))
    return ("name", "system", "reads", "source", "basis"), rows


def _list_weights() -> Rows:
    from autohr.methods import shipped_weights
    from autohr.weights.header import read_header

    rows = []
    for name, path in shipped_weights().items():
        header = read_header(path)
        trained_on = in_words(header["training_data"], ("datasets", "n_subjects", "minutes"))
        accuracy = in_words(header["measured_accuracy"], ("mae_bpm", "within_3_bpm", "within_5_bpm", "on"))
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        rows.append((name, str(header["net"]), size, trained_on, in_words(header["licence"]), accuracy))
    return ("name", "net", "size", "trained on", "licence", "measured accuracy"), rows


LISTS: dict[str, Callable[[], Rows]] = {"methods": _list_methods, "weights": _list_weights}
"""Tables of the product; the laboratory adds its own by entry points of the group ``autohr.lists``."""


def _table_names() -> dict[str, str]:
    return dict.fromkeys([*LISTS, *find_plugins("autohr.lists")], "")


def list_command(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="methods, nets, datasets, weights, presets, protocols, scoring or recipes.",
            autocompletion=completing(_table_names),
        ),
    ],
) -> None:
    """List the methods, networks, datasets, weights, ... of this installation."""
    plugins = find_plugins("autohr.lists")
    if table not in LISTS and table not in plugins:
        raise typer.BadParameter(str(UnknownName("table", table, [*LISTS, *plugins])))
    with needs_extra(f"`autohr list {table}`", "lab"):
        columns, rows = (LISTS[table] if table in LISTS else plugins[table].load())()
    if rows:
        print_table(columns, rows)
    else:
        print_line(
            f"This installation of autohr {__version__} has no {table}. Give a file: autohr measure --weights FILE"
        )
