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
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autohr.errors import BadRecipe
from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import Entry
from autohr.lab.evaluate.protocols import Protocol
from autohr.lab.evaluate.results import Account, Results
from autohr.lab.evaluate.run import evaluate_dataset, find_protocol
from autohr.lab.recipes.files import read_recipe_table
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

    Raises:
        BadRecipe: in one line, for a file that is missing or not TOML, an unknown key, or a wrong type.
    """
    table = read_recipe_table(path)
    known = [each.name for each in dataclasses.fields(EvaluateRecipe)]
    for key in table:
        if key not in known:
            raise BadRecipe(f"{str(path)!r} has no field {key!r}. Fields: {', '.join(known)}.")
    try:
        return TypeAdapter(EvaluateRecipe).validate_json(json.dumps(table), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRecipe(f"{str(path)!r}: {where}: {first['msg']}.") from None
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{str(path)!r}: {error}; use text, lists and tables.") from None


def protocol_of(recipe: EvaluateRecipe) -> Protocol:
    """Raises UnknownName for a protocol that is none, BadRecipe for a field that it lacks or a contradiction."""
    protocol = find_protocol(recipe.protocol)
    changes = dict(recipe.protocol_config)
    if not changes:
        return protocol
    known = [each.name for each in dataclasses.fields(Protocol) if each.name not in ("name", "split", "datasets")]
    for key in changes:
        if key not in known:
            raise BadRecipe(f"protocol_config has no field {key!r}. Fields: {', '.join(known)}.")
    try:
        if "crop" in changes:
            changes["crop"] = CropConfig(**changes["crop"])
        return dataclasses.replace(protocol, **changes, name=f"{protocol.name}-changed")
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"protocol_config: {error}") from None


def load_methods(recipe: EvaluateRecipe) -> list[Method]:
    """Return the recipe's methods, ready, in order of the table.

    A network with the shipped weights and the same network with weights of the recipe are two methods.

    Raises:
        UnknownName, BadWeights: as ``load_method``.
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
    overwrite: bool = False,
    preparing: Callable[[int, int, Entry], None] | None = None,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Results, ...]:
    """Prepare and evaluate what the recipe says; see ``run.evaluate_dataset``.

    Raises AutoHRError as its parts do.
    """
    return evaluate_dataset(
        recipe.dataset,
        Path(recipe.root),
        load_methods(recipe),
        protocol_of(recipe),
        out,
        cache=Path(recipe.cache),
        workers=workers,
        overwrite=overwrite,
        preparing=preparing,
        judging=judging,
        failing=failing,
        say=say,
    )
