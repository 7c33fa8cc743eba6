"""Recipes by name or path: the one place where a command's recipe becomes a file, and the file a table."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from autohr.errors import BadRecipe
from autohr.files import read_limited_text

FOLDER = Path(__file__).parent
"""Folder of the shipped recipes, which is installed with the package."""

MAX_RECIPE_BYTES = 1_000_000
"""Largest recipe that is read. The largest shipped one has 3 kB."""


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file of every recipe of this installation, in order of name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def find_recipe(recipe: str | Path, folder: Path | None = None) -> Path:
    """Return the file of a recipe that is named or given by path.

    Args:
        recipe: a path, or the name of a shipped recipe, also written NAME.toml or recipes/NAME.toml. A file under that
            very path wins over a shipped recipe.
        folder: folder in which the recipe must lie instead; the shipped recipes and the current folder are then not
            looked at.

    Raises:
        BadRecipe: there is neither such a file nor such a name; the message lists the names.
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
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise BadRecipe(
        f"There is no recipe {str(recipe)!r}. Give the path of a TOML file or one of: {', '.join(shipped)}.{hint}"
    )


def read_recipe_table(recipe: str | Path) -> dict[str, Any]:
    """Return what the TOML file of a recipe holds; ``recipe`` as in ``find_recipe``.

    Raises:
        BadRecipe: no such recipe; or a file that is not a regular one, too large, not UTF-8, or not TOML.
    """
    path = find_recipe(recipe)
    text = read_limited_text(path, "recipe", MAX_RECIPE_BYTES, BadRecipe)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise BadRecipe(f"{str(path)!r} is not a recipe: its lists or tables are nested too deeply.") from None
    except ValueError as error:
        raise BadRecipe(f"{str(path)!r} is not TOML: {error}") from None
