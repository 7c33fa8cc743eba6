"""Validation of recipes and stored results by pydantic, with errors of one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def parse(kind: type[T], record: Mapping[str, Any]) -> T:
    """Return a dataclass from plain values as JSON holds them; fields that it does not know are left out.

    Raises ValueError in one line that names the field, the value and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(record)
    except ValidationError as error:
        raise ValueError(error_line(error)) from None


def error_line(error: ValidationError) -> str:
    """Return the first error of a validation in one line: the field, the value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if first["type"] in ("value_error", "missing"):
        return f"{field}: {message}" if field else message
    return f"{field}={first['input']!r:.200}: {message[0].lower()}{message[1:]}"
