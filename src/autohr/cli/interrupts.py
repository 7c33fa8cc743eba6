"""Signals that ask the process to stop, held back while results are saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.exit_code = 128 + number
        """Exit code of a process that this signal ends, as shells count it."""

    @property
    def name(self) -> str:
        """Name of the signal in messages."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


class Interrupts:
    """Context in which Ctrl-C, SIGTERM and SIGHUP raise ``Interrupted``, but not while results are saved.

    A second signal during saving ends that too. Signals that the caller ignores (nohup) stay ignored. Outside the main
    thread nothing is changed.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._is_held = False
        self._pending: int | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self._is_held and self._pending is None:
            self._pending = number
            return
        raise Interrupted(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block before a signal that comes during it is raised; within another such block, finish that."""
        if self._is_held:
            yield
            return
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise Interrupted(number)
