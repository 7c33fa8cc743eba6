"""Costs of a method on this machine: parameters, arithmetic, time and memory, each for a second of video.

Every method is measured in a process of its own, on the same seconds of a face that was found already: finding it costs
all of them the same. Times are of the machine at hand, so they compare with each other and not with elsewhere.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autohr.methods import load_method, shipped_weights
from autohr.types import FaceClip

ROUNDS = 4
"""Number of timed calls, of which the fastest counts: the others had to share the machine."""


@dataclass(frozen=True)
class TimedMethod:
    """Method to be measured, and the clip it is given: with face crops for a net."""

    label: str
    name: str
    weights: Path | None
    clip: FaceClip


@dataclass(frozen=True)
class Cost:
    """Cost of a method for one second of video. None where it does not apply."""

    label: str
    parameters: int | None
    gflop: float | None
    """Billions of operations of one pass of the net (``count_work``); formulas have few, and are not counted."""
    ms: float
    """Milliseconds from the face clip to the estimate with its confidence, for which nets also read four parts of the
    face; on all cores that numpy and torch take."""
    peak_mib: float
    """Largest memory of a process that does nothing else, libraries included."""


def measure_costs(methods: Sequence[TimedMethod], say: Callable[[str], None] | None = None) -> tuple[Cost, ...]:
    """Measure the costs of methods, one after the other; raises UnknownName and BadWeights as ``load_method``."""
    costs = []
    for one in methods:
        if say is not None:
            say(f"{one.label}: measuring its cost")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            costs.append(alone.submit(_measure, one).result())
    return tuple(costs)


def _measure(timed: TimedMethod) -> Cost:
    method = load_method(timed.name, timed.weights)
    clip = timed.clip if method.crop is not None else dataclasses.replace(timed.clip, clip=None)
    times = []
    # The first call also loads libraries and chooses kernels.
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        method(clip)
        times.append(time.perf_counter() - start)
    peak = _peak_mib()
    size: dict[str, Any] = {"parameters": None, "gflop": None}
    if method.is_net and method.crop is not None:
        # After the memory was read, for counting takes some itself.
        from autohr.lab.nets._inference import count_work

        path = timed.weights or shipped_weights(".safetensors")[timed.name]
        parameters, flop = count_work(path, clip.n_frames, method.crop.size_px)
        size = {"parameters": parameters, "gflop": flop / clip.duration_s / 1e9}
    return Cost(timed.label, ms=1000 * min(times[1:]) / clip.duration_s, peak_mib=peak, **size)


def _peak_mib() -> float:
    """Return the peak memory of this process alone; on Linux ``getrusage`` may give that of its parent."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        # Not at the top: Windows has no such module.
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
