"""Recipes as dataclasses: a TOML table checked by pydantic, with errors of one line."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from autohr.errors import BadRecipe
from autohr.lab.recipes.files import closest_name

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid")
"""Configuration of the dataclasses of a recipe: no value is converted, no unknown field accepted."""


def parse_as(kind: type[T], table: Mapping[str, Any], name: str) -> T:
    """Return the dataclass ``kind`` from a TOML table whose sections are dataclasses of their own.

    Raises
    ------
    BadRecipe
        In one line that begins with ``name``: an unknown key (the known ones are listed), a wrong type, a value out of
        range or a contradiction.
    """
    _refuse_unknown(kind, table, name, "")
    try:
        # A name of a file that is no UTF-8 would be refused below as if its JSON were wrong.
        json.dumps(table, ensure_ascii=False).encode()
        # Through JSON because only there does strict mean: tables become dataclasses, lists tuples, and nothing else
        # is converted ("4" is no number).
        return TypeAdapter(kind).validate_json(json.dumps(table), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] in ("value_error", "missing") else f" (given {first['input']!r:.200})"
        raise BadRecipe(f"{name}: {where + ': ' if where else ''}{message}{given}") from None
    except UnicodeEncodeError:
        raise BadRecipe(f"{name}: a value is not UTF-8 text. Rename the file or folder that it names.") from None
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{name}: {error}; use numbers, text, lists and tables.") from None


def _refuse_unknown(kind: type[Any], table: Mapping[str, Any], name: str, section: str) -> None:
    types = typing.get_type_hints(kind)
    known = [each.name for each in dataclasses.fields(kind)]
    for key, value in table.items():
        if key not in known:
            place = f"[{section}]" if section else "a recipe"
            raise BadRecipe(
                f"{name}: {place} has no field {key!r}. Fields: {', '.join(known)}.{closest_name(key, known)}"
            )
        if dataclasses.is_dataclass(types[key]) and isinstance(value, Mapping):
            _refuse_unknown(typing.cast(type[Any], types[key]), value, name, f"{section}.{key}" if section else key)
