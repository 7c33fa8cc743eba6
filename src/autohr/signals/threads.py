"""Limit on the threads of numpy's linear algebra."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from threadpoolctl import ThreadpoolController


class _OneBlasThread:
    """A context in which numpy's linear algebra works in the thread that asks, in any number of threads at a time.

    The matrices of a window are not worth threads of their own: those of OpenBLAS wait for the next product by
    spinning, which took a quarter more processor time and made nothing faster (``benchmarks/measure.py``). The limit
    holds for the whole process; when the last context ends, the number of threads is what it was before the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._limit.restore_original_limits()


@functools.cache
def _controller() -> ThreadpoolController:
    # Made once: it searches all libraries of the process, of which numpy's are there.
    return ThreadpoolController()


one_blas_thread = _OneBlasThread()


def _begin_anew() -> None:
    """Forget, in a forked child, the lock and the count that threads of the parent hold."""
    one_blas_thread.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
