"""An evaluation as a TOML file, or as the options of ``autohr evaluate``: which data, which methods, which protocol.

dataset = "folder"          name in DATASETS
root = "my_videos"
methods = ["pos", "chrom"]  names in METHODS; all that need no weights of yours if left out
weights = ["best.safetensors"]
protocol = "reference"      name in PROTOCOLS
[protocol_config]           fields of the protocol to change, such as window_s = 8.0
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autohr.errors import BadRecipe
from autohr.lab.datasets.cache import Entry
from autohr.lab.evaluate.protocols import Protocol
from autohr.lab.evaluate.results import Account, Results
from autohr.lab.evaluate.run import evaluate_dataset, find_protocol
from autohr.lab.recipes.files import read_recipe_table
from autohr.lab.recipes.parsing import parse_as
from autohr.methods import METHODS, Method, load_method, ready_methods


@dataclass(frozen=True)
class EvaluateRecipe:
    """One evaluation."""

    dataset: str
    root: str
    title: str = ""
    methods: tuple[str, ...] = ()
    """Names of ``METHODS``; "all" is every method that needs no weights of yours, as is () without ``weights``."""
    weights: tuple[str, ...] = ()
    """Files, or names of shipped weights; each is one more row."""
    protocol: str = "reference"
    protocol_config: dict[str, Any] = field(default_factory=dict)
    """Fields of the protocol that are changed; it is then called NAME-changed."""
    preset: str | None = None
    """Scoring; the protocol's own if None."""
    cache: str = "cache"
    device: str = "cpu"


def read_recipe(path: Path) -> EvaluateRecipe:
    """Return the recipe in a TOML file, which is found as ``recipes.files.find_recipe`` does.

    Raises BadRecipe, in one line, for a file that is missing or not TOML, an unknown key, or a wrong type.
    """
    return parse_as(EvaluateRecipe, read_recipe_table(path), repr(str(path)))


def protocol_of(recipe: EvaluateRecipe) -> Protocol:
    """Return the protocol of a recipe with the changes that the recipe makes in it.

    Raises UnknownName for a protocol that does not exist, BadRecipe for an unknown field or a contradiction.
    """
    protocol, changes = find_protocol(recipe.protocol), recipe.protocol_config
    if not changes:
        return protocol
    before = dataclasses.asdict(protocol)
    known = [key for key in before if key not in ("name", "split", "datasets")]
    for key in changes:
        if key not in known:
            raise BadRecipe(f"protocol_config has no field {key!r}. Fields: {', '.join(known)}.")
    return parse_as(Protocol, {**before, **changes, "name": f"{protocol.name}-changed"}, "protocol_config")


def load_methods(recipe: EvaluateRecipe) -> list[Method]:
    """Return the recipe's methods, ready, in order of the table.

    A network with the shipped weights and the same network with weights of the recipe are two methods. Raises
    UnknownName and BadWeights as ``load_method``.
    """
    names = list(recipe.methods) or ([] if recipe.weights else ["all"])
    names = [one for name in names for one in (ready_methods() if name == "all" else [name])]
    named = [load_method(name, None, recipe.device) for name in dict.fromkeys(names)]
    given = [load_method(None, weights, recipe.device) for weights in dict.fromkeys(recipe.weights)]
    # Weights that are named beside their method, such as autohr beside autohr, are one method.
    given = [one for one in given if (one.name, one.weights) not in {(each.name, each.weights) for each in named}]
    return sorted(named + given, key=lambda method: list(METHODS).index(method.name))


def evaluate_recipe(
    recipe: EvaluateRecipe,
    out: Path,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
    preparing: Callable[[int, int, Entry], None] | None = None,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Results, ...]:
    """Prepare and evaluate what the recipe says; see ``run.evaluate_dataset``."""
    return evaluate_dataset(
        recipe.dataset,
        Path(recipe.root),
        load_methods(recipe),
        protocol_of(recipe),
        out,
        cache=Path(recipe.cache),
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
        preparing=preparing,
        judging=judging,
        failing=failing,
        say=say,
    )
