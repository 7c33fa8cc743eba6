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
    """Make each row, and return those that were made and the errors of the others.

    Parameters
    ----------
    keys
        What ``make`` is called with, one for each row.
    name
        Name of a row in the line "NAME: FAILED: reason" that ``say`` is called with.
    all_may_fail
        Return even where every row failed, in place of raising the first error.

    Raises
    ------
    Stopped
        A signal ended the work of a row; none after it is made.
    AutoHRError
        Every row failed: the error of the first.
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
