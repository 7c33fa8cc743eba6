"""Parts of a list of jobs, for schedulers that know nothing of Python: job number I of an array of N does part I/N."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of about equal size, that share nothing and are together everything."""

    number: int
    """Counts from 1."""
    count: int

    def part(self, jobs: Sequence[T]) -> list[T]:
        """Return every ``count``-th job, from the ``number``-th on: neighbours, often of one length, come apart."""
        return list(jobs[self.number - 1 :: self.count])


def read_shard(text: str) -> Shard:
    """Return the part that "3/50" names; ValueError, in one line, for anything else.

    Examples
    --------
    >>> read_shard("2/3").part("abcdefg")
    ['b', 'e']
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is not of the form I/N with I from 1 to N, as in 3/50.")
    return Shard(int(match[1]), int(match[2]))
