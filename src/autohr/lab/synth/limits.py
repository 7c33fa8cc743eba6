"""Checks that a config makes of its own fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args


def check_numbers(config: object, limits: Mapping[str, tuple[float, float]], note: str = "") -> None:
    """Raise ValueError where a field is no number or lies outside its limits; ``note`` ends the message."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not (isinstance(value, int | float) and low <= value <= high):
            raise ValueError(f"{name}={value!r} is outside {low:g}..{high:g}{note}.")


def check_choice(name: str, value: object, literal: object) -> None:
    """Raise ValueError where a value is not one of a Literal type."""
    if value not in get_args(literal):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(get_args(literal))}.")
