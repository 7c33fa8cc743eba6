"""Inputs of ``autohr measure``, measured one after the other in this process or side by side in several."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autohr import __version__
from autohr.cli.inputs import Input, short_names
from autohr.cli.output import BatchProgress, ProgressBar, print_error
from autohr.errors import AutoHRError, VideoError, WorkerDied

if TYPE_CHECKING:
    from autohr.measure import Progress
    from autohr.methods import Method
    from autohr.reports.journal import Outcome
    from autohr.workers import Report

REPORT_EVERY_S = 0.2
"""Shortest time between two reports of a worker on how far its file is."""


@dataclass(eq=False)
class Measurer:
    """The options of a batch that change its results, and what measures an input by them.

    Called in a worker with an input and ``report``, by which it tells (seconds done, seconds in all).
    """

    method: str | None
    weights: str | None
    device: str
    window_s: float
    stride_s: float
    max_faces: int
    box: str | None
    start_s: float
    end_s: float | None
    fps: float | None

    @functools.cached_property
    def loaded(self) -> Method:
        """The method, loaded when it is first needed, once in each process."""
        from autohr.methods import load_method

        return load_method(self.method, self.weights, self.device)

    def for_workers(self) -> Measurer:
        """Return one without the loaded method, which a worker loads for itself."""
        return dataclasses.replace(self)

    def options(self) -> dict[str, Any]:
        """Return what results depend on, by the names that users know."""
        import hashlib

        from autohr.methods import find_weights

        digest = None
        if self.loaded.is_net:
            suffix = None if self.device == "cpu" else ".safetensors"
            path, _ = find_weights(self.loaded.name if self.weights is None else self.method, self.weights, suffix)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "autohr": __version__,
            "--method": self.loaded.name,
            "package": self.loaded.package,
            "--weights": self.loaded.weights,
            "SHA-256 of the weights": digest,
            "--device": self.device,
            "--window-s": self.window_s,
            "--stride-s": self.stride_s,
            "--max-faces": self.max_faces,
            "--box": self.box,
            "--start-s": self.start_s,
            "--end-s": self.end_s,
            "--fps": self.fps,
        }

    def measure(self, one: Input, progress: Progress | None) -> Outcome:
        """Return the measurement of an input, or the refusal where one of our errors stands against it."""
        from autohr.reports.journal import Outcome
        from autohr.types import Refusal

        try:
            if one.refusal is not None:
                raise VideoError(one.refusal)
            loaded = self.loaded
            from autohr.measure import measure

            result = measure(
                one.source,
                loaded,
                window_s=self.window_s,
                stride_s=self.stride_s,
                max_faces=self.max_faces,
                box=self.box,
                start_s=self.start_s,
                end_s=self.end_s,
                fps=self.fps if one.uses_fps else None,
                progress=progress,
            )
        except AutoHRError as error:
            return Outcome(Refusal(str(one.source), str(error)), type(error).__name__)
        return Outcome(result)

    def attempt(self, one: Input, progress: Progress | None) -> Outcome:
        """Do as ``measure``; a fault of ours is a refusal too, for it must not cost the other inputs."""
        from autohr.reports.journal import Outcome
        from autohr.types import Refusal

        try:
            return self.measure(one, progress)
        except Exception as bug:
            reason = f"autohr itself failed: {type(bug).__name__}: {bug}"
            return Outcome(Refusal(str(one.source), reason), type(bug).__name__, traceback.format_exc())

    def __call__(self, one: Input, report: Report) -> Outcome:
        """Measure an input in a worker."""
        last_s = 0.0

        def progress(done_s: float, total_s: float | None) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s >= REPORT_EVERY_S:
                last_s = now_s
                report((done_s, total_s))

        return self.attempt(one, progress)


def measure_alone(inputs: Sequence[Input], measurer: Measurer) -> Generator[tuple[int, Outcome], None, None]:
    """Yield (0, outcome) for the only input of a command; a fault of ours is raised."""
    for number, one in enumerate(inputs):
        with ProgressBar(str(one.source)) as progress:
            outcome = measurer.measure(one, progress)
        yield number, outcome


def measure_in_turn(
    inputs: Sequence[Input], measurer: Measurer, progress: BatchProgress
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield (index of the input, its outcome), one after the other, measured in this process."""
    for number, (one, name) in enumerate(zip(inputs, short_names([str(one.source) for one in inputs]), strict=True)):
        progress.update(name)
        outcome = measurer.attempt(one, functools.partial(progress.update, name))
        progress.finish(name)
        yield number, outcome


def measure_side_by_side(
    inputs: Sequence[Input],
    measurer: Measurer,
    progress: BatchProgress,
    workers: int,
    cluster: str | None = None,
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield (index of the input, its outcome) in the order in which they end, measured by worker processes.

    They are those of a dask scheduler where ``cluster`` is its address (``autohr.cluster``).

    A file that kills its worker twice, the second time while no other is measured, is a refusal.
    """
    from autohr.cluster import on_cluster
    from autohr.reports.journal import Outcome
    from autohr.types import Refusal
    from autohr.workers import side_by_side

    names = [str(one.source) for one in inputs]
    shown = short_names(names)

    def tried_again(number: int, death: WorkerDied) -> None:
        with progress.hidden():
            print_error(f"{names[number]!r} is measured once more, alone: {death}.")

    if cluster is not None:
        outcomes = on_cluster(measurer.for_workers(), inputs, cluster, on_death=tried_again)
    else:
        outcomes = side_by_side(
            measurer.for_workers(),
            inputs,
            workers,
            on_report=lambda number, done: progress.update(shown[number], *done),
            on_death=tried_again,
        )
    with contextlib.closing(outcomes):
        for number, outcome in outcomes:
            progress.finish(shown[number])
            if isinstance(outcome, WorkerDied):
                reason = (
                    f"{names[number]!r} was not measured: {outcome}, at the second try too. Memory may not suffice, or "
                    "a library fails on this file. Measure a part of it with --start-s and --end-s, or convert it."
                )
                outcome = Outcome(Refusal(names[number], reason), type(outcome).__name__)
            yield number, outcome
