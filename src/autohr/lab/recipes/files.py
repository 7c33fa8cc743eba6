"""Recipes as files: found by name or path, read from TOML and changed by overrides."""

from __future__ import annotations

import difflib
import json
import math
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autohr.errors import BadRecipe
from autohr.files import MAX_DEPTH, is_too_deep, read_toml

FOLDER = Path(__file__).parent
"""Folder of the shipped recipes, which is installed with the package."""

MAX_RECIPE_BYTES = 1_000_000
"""Largest recipe that is read. The largest shipped one has 3 kB."""

REPLACES: dict[str, tuple[str, ...]] = {
    "fit.steps": ("fit.epochs",),
    "fit.epochs": ("fit.steps",),
    "data.val_share": ("data.fold", "data.val_subjects"),
    "data.fold": ("data.val_subjects",),
}
"""Key of an override -> keys of the file that it replaces: those that contradict it, or that would win over it."""


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file of every recipe of this installation, in order of name; bases (``_NAME.toml``) are none."""
    return {path.stem: path for path in sorted(FOLDER.glob("[!_]*.toml"))}


def find_recipe(recipe: str | Path, folder: Path | None = None) -> Path:
    """Return the file of a recipe that is named or given by path.

    Parameters
    ----------
    recipe
        A path, or the name of a shipped recipe, also written NAME.toml or recipes/NAME.toml. A file under that very
        path wins over a shipped recipe.
    folder
        Folder in which the recipe must lie instead; the shipped recipes and the current folder are then ignored.

    Raises
    ------
    BadRecipe
        There is neither such a file nor such a name; the message lists the names.
    """
    path = Path(recipe)
    if folder is not None:
        if not os.path.lexists(folder / path):
            raise BadRecipe(f"There is no recipe {str(folder / path)!r}; name another folder of recipes.")
        return folder / path
    shipped = shipped_recipes()
    name = path.name.removesuffix(".toml")
    is_name = name in shipped and path.parent in (Path(), Path("recipes"))
    # A folder is no recipe: it does not hide a shipped one of its name.
    if os.path.lexists(path) and not (is_name and path.is_dir()):
        return path
    if is_name:
        return shipped[name]
    raise BadRecipe(
        f"There is no recipe {str(recipe)!r}. Give the path of a TOML file or one of: {', '.join(shipped)}."
        f"{closest_name(name, shipped)}"
    )


def read_recipe_table(recipe: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the table in the TOML file of a recipe, after ``overrides``.

    A recipe with ``base = "NAME"`` has what NAME.toml has, beside it or among the shipped ones, and changes some of it.

    Parameters
    ----------
    recipe
        As in ``find_recipe``.
    overrides
        Such as "fit.lr=3e-4", with a value in TOML or else plain text. An override of one of two fields that
        contradict each other, such as fit.steps and fit.epochs, removes the other one of the file (``REPLACES``).

    Raises
    ------
    BadRecipe
        There is no such recipe; the file is not a regular one, too large, not UTF-8, or not TOML; or an override is
        malformed.
    """
    path = find_recipe(recipe)
    table = read_toml(path, "recipe", MAX_RECIPE_BYTES, BadRecipe)
    base = table.pop("base", None)
    if base is not None:
        beside = path.parent / f"{base}.toml"
        changes, table = (
            table,
            read_toml(beside if beside.exists() else FOLDER / f"{base}.toml", "recipe", MAX_RECIPE_BYTES, BadRecipe),
        )
        for key, value in changes.items():
            is_section = isinstance(value, dict) and isinstance(table.get(key), dict)
            table[key] = {**table[key], **value} if is_section else value
    given = [_override(table, override) for override in overrides]
    for key in given:
        for other in REPLACES.get(key, ()):
            section, _, name = other.partition(".")
            if other not in given and section not in given and isinstance(table.get(section), dict):
                table[section].pop(name, None)
    return table


def _override(table: dict[str, Any], override: str) -> str:
    """Put one "a.b=value" into the table, and return its key, "a.b"."""
    keys, equals, text = override.partition("=")
    *parents, last = [key.strip() for key in keys.split(".")]
    if not equals or not last or not all(parents):
        raise BadRecipe(f"--set {override!r:.200} is not of the form section.key=value, such as fit.lr=3e-4.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        is_deep = is_too_deep(value)
    except RecursionError:
        is_deep = True
    except ValueError:
        value, is_deep = text.strip(), False
    if is_deep:
        raise BadRecipe(f"--set {override:.60}... is nested too deeply, over {MAX_DEPTH} lists or tables.")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise BadRecipe(f"--set {override!r:.200}: {parent!r} is a value, not a section.")
    table[last] = value
    return ".".join((*parents, last))


def toml_inline(value: Any) -> str:
    """Return plain values on one line of TOML, as ``--set`` takes them; ValueError for what TOML cannot hold.

    Examples
    --------
    >>> toml_inline({"a": [1, 2.5, True]})
    '{"a" = [1, 2.5, true]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_inline, value)) + "]"
    if isinstance(value, (str, bool, int)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    raise ValueError(f"{value!r} cannot be written as TOML.")


def closest_name(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that is most like ``name``, if one is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
