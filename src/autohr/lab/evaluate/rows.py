"""Rows of a table that fail alone: one that cannot be made leaves its reason, and the others are made all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from autohr.errors import AutoHRError, Stopped

Key = TypeVar("Key")
Row = TypeVar("Row")


def make_rows(
    keys: Iterable[Key],
    make: Callable[[Key], Row],
    *,
    name: Callable[[Key], str] = str,
    say: Callable[[str], None] | None = None,
    all_may_fail: bool = False,
) -> tuple[dict[Key, Row], dict[Key, AutoHRError]]:
    """Make the row of each key, and return those that were made and the errors of the others.

    ``say`` is called with the line "NAME: FAILED: reason", in which ``name`` gives a row's name. Where every row fails
    the error of the first is raised, unless ``all_may_fail``. Stopped, of work that a signal ended, is always raised.
    """
    rows: dict[Key, Row] = {}
    failures: dict[Key, AutoHRError] = {}
    for key in keys:
        try:
            rows[key] = make(key)
        except Stopped:
            raise
        except AutoHRError as error:
            failures[key] = error
            if say is not None:
                say(f"{name(key)}: FAILED: {error}")
    if failures and not rows and not all_may_fail:
        raise next(iter(failures.values()))
    return rows, failures
