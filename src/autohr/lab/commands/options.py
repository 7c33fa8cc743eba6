"""Options that several commands of the laboratory share, and what they do with failures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autohr.cli.options import completing, method_names
from autohr.cli.output import Count, print_progress
from autohr.errors import AutoHRError, UnknownName

if TYPE_CHECKING:
    from autohr.lab.shards import Shard

Format = Literal["text", "markdown", "latex", "html"]

FormatOption = Annotated[Format, typer.Option("--format", help="Format of the printed table.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe, as in fit.lr=3e-4; repeatable."),
]
RecipesOption = Annotated[
    Path | None,
    typer.Option(help="Folder of recipes in place of the shipped ones.", show_default=False, file_okay=False),
]
WorkersOption = Annotated[int | None, typer.Option(min=1, max=256, help="Processes. Default: one for each core.")]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|FILE",
        help="Let a dask scheduler's workers do it: tcp://HOST:8786, or its scheduler file.",
        show_default=False,
    ),
]


def parse_shard(text: str | None) -> Shard | None:
    """Return the part that --shard names; refuse another text as wrong usage."""
    from autohr.lab.shards import read_shard

    try:
        return None if text is None else read_shard(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shard") from None


ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do only part I of N; then `autohr merge`.", show_default=False),
]
SideBySideOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Processes that train folds, and test, side by side. Default: 1."),
]
RECIPE_HELP = "One of `autohr list recipes`, or a TOML file of your own."
RunOption = Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/NAME_OF_THE_RECIPE.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue a run, which must exist.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is there and begin anew.")]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Compare what is read of the cache with its checksums first; refuse what is damaged."
    ),
]


@contextlib.contextmanager
def verified(is_wanted: bool) -> Iterator[None]:
    """Compare what is read of a cache in this block with its checksums, if wanted; one process of a training does."""
    if not is_wanted or os.environ.get("RANK", "0") != "0":
        yield
        return
    from autohr.lab.datasets.cache import verifying

    with Count("Verifying") as count, verifying(lambda done, total, _: count(done, total), print_progress):
        yield


def dataset_names() -> dict[str, str]:
    """Return name -> title of the datasets."""
    from autohr.lab.datasets import DATASETS

    return {name: spec.title for name, spec in DATASETS.items()}


def protocol_names() -> dict[str, str]:
    """Return name -> title of the protocols."""
    from autohr.lab.evaluate.protocols import PROTOCOLS

    return {name: protocol.title for name, protocol in PROTOCOLS.items()}


def scoring_names() -> dict[str, str]:
    """Return name -> title of the rules of scoring."""
    from autohr.lab.evaluate.presets import PRESETS

    return {name: preset.title for name, preset in PRESETS.items()}


def recipe_names(command: str) -> dict[str, str]:
    """Return name -> title of the shipped recipes that a command takes."""
    from autohr.lab.recipes.files import read_recipe_table, shipped_recipes

    tables = {name: read_recipe_table(path) for name, path in shipped_recipes().items()}
    return {name: str(table["title"]) for name, table in tables.items() if recipe_command(table) == command}


TrainRecipeArgument = Annotated[
    Path, typer.Argument(help=RECIPE_HELP, autocompletion=completing(lambda: recipe_names("train")))
]
SearchRecipeArgument = Annotated[
    Path, typer.Argument(help=RECIPE_HELP, autocompletion=completing(lambda: recipe_names("search")))
]
OnlyMethodOption = Annotated[
    list[str] | None,
    typer.Option("--method", help="Only this method; repeatable.", autocompletion=completing(method_names)),
]


def check_dataset(name: str) -> str:
    """Return the name of a dataset; refuse one that does not exist as wrong usage."""
    from autohr.lab.datasets import DATASETS

    if name not in DATASETS:
        raise typer.BadParameter(str(UnknownName("dataset", name, DATASETS)))
    return name


def recipe_command(table: Mapping[str, object]) -> str:
    """Return the command that takes a recipe of this content: train or search."""
    return "train" if "net" in table else "search"


def check_recipe(recipe: Path, command: str) -> None:
    """Refuse a recipe that another command takes, by the name of that command.

    Raises
    ------
    AutoHRError
        The recipe is of the other command, or cannot be read.
    """
    from autohr.lab.recipes.files import read_recipe_table

    other = recipe_command(read_recipe_table(recipe))
    if other != command:
        raise AutoHRError(f"{str(recipe)!r} is a recipe of another command: autohr {other} {recipe}")


def raise_failures(kind: str, failed: Mapping[str, str | None]) -> None:
    """Raise one AutoHRError that names the rows, bars, methods or cells that failed while others were made, if any."""
    if failed:
        raise AutoHRError(
            f"{len(failed)} {kind}{'s' if len(failed) > 1 else ''} failed: "
            + "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        )
