"""Memory of a process that runs for days: few heaps, and what a session needed goes back to the system at its end.

glibc gives each thread a heap of its own, up to eight for a core, and keeps in each what was freed there. Sessions
decode, measure and make pages in several threads, so that a server held many times what it used.
"""

from __future__ import annotations

import ctypes
import functools
import platform

MAX_HEAPS = 2
"""Heaps that the threads share. Most of the work holds Python's lock, so that they seldom wait for each other."""

_M_ARENA_MAX = -8
"""Number of the option in glibc's malloc.h."""


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc; None elsewhere, where nothing has to be done or can be."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def share_heaps() -> None:
    """Have all threads that are not yet there share ``MAX_HEAPS`` heaps."""
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_M_ARENA_MAX, MAX_HEAPS)


def release_memory() -> None:
    """Give the system back what was freed, in all heaps. It takes some milliseconds."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)
