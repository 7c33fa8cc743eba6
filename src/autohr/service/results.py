"""Results that a page may fetch: a limited number in memory, for a limited time."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MEDIA_TYPES = {
    "report.html": "text/html; charset=utf-8",
    "measurement.json": "application/json",
    "session.json": "application/json",
    "readings.csv": "text/csv; charset=utf-8",
}
"""Files that a result may hold, with their media types."""


@dataclass(frozen=True)
class Result:
    """The files of one measurement: text, never video."""

    files: Mapping[str, str]
    """Name, of ``MEDIA_TYPES`` -> text."""
    kept_since_s: float = field(default_factory=time.monotonic)


class Results:
    """Store of at most ``max_kept`` results, none older than ``keep_s`` seconds, for one thread."""

    def __init__(self, keep_s: float, max_kept: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._max_kept, self._clock = keep_s, max_kept, clock
        self._kept: OrderedDict[str, Result] = OrderedDict()

    def keep(self, result: Result) -> str:
        """Store a result in place of the oldest; return its id, which cannot be guessed."""
        key = secrets.token_urlsafe(16)
        self._kept[key] = result
        while len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)
        return key

    def find(self, key: str) -> Result | None:
        """Return the result of an id, None if it is forgotten."""
        self.forget_old()
        return self._kept.get(key)

    def forget(self, key: str) -> bool:
        """Remove a result; return True if there was one."""
        return self._kept.pop(key, None) is not None

    def forget_old(self) -> None:
        """Remove the results that are too old."""
        now_s = self._clock()
        for key in [key for key, one in self._kept.items() if now_s - one.kept_since_s > self._keep_s]:
            del self._kept[key]

    def __len__(self) -> int:
        self.forget_old()
        return len(self._kept)
