"""Batches of clips, drawn ahead in threads."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autohr.lab.train.steps import Batch
from autohr.types import Float

T = TypeVar("T")


class TrainingClip(Protocol):
    """One clip with its reference, as ``autohr.lab.datasets.clips.Clip``."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(T, H, W, 3), RGB."""

    @property
    def bvp(self) -> Float:
        """(T,), z-scored."""

    @property
    def hr_bpm(self) -> float:
        """Mean rate of the clip."""

    @property
    def fps(self) -> float:
        """Frames per second."""


class Source(Protocol):
    """A source of clips, as ``autohr.lab.datasets.clips.ClipSource``."""

    @property
    def n_windows(self) -> int:
        """Number of clips that lie side by side in all recordings: one epoch."""

    def draw(self, seed: Sequence[int], /) -> TrainingClip:
        """Return a random clip that depends on ``seed`` alone."""

    def window(self, i: int, /) -> TrainingClip:
        """Return the i-th fixed clip, not augmented."""


def draw_batch(
    source: Source,
    n_clips: int,
    seed: int,
    step: int,
    more_seed: Sequence[int] = (),
    *,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Batch:
    """Draw one process's share of the ``n_clips`` clips of a step.

    Clip i has the seed [seed, step, i, *more_seed], so n processes see the clips that one would have seen.
    ``pin`` keeps the frames in pinned memory, so that the copy to the GPU runs beside the step before.
    """
    n = n_clips // world
    batch = collate([source.draw([seed, step, i, *more_seed]) for i in range(rank * n, (rank + 1) * n)])
    return dataclasses.replace(batch, frames=batch.frames.pin_memory()) if pin else batch


def collate(clips: Sequence[TrainingClip]) -> Batch:
    """Return clips of one size as a batch."""
    return Batch(
        frames=torch.from_numpy(np.stack([clip.frames for clip in clips])),
        bvp=torch.from_numpy(np.stack([clip.bvp for clip in clips])).float(),
        hr_bpm=torch.tensor([float(clip.hr_bpm) for clip in clips]),
        fps=torch.tensor([float(clip.fps) for clip in clips]),
    )


def net_input(frames: Tensor, device: torch.device) -> Tensor:
    """Return frames (B, T, H, W, 3) uint8 as (B, 3, T, H, W) float32 in [0, 1] on ``device``.

    The values are those of ``FaceClip.as_net_input``. Frames lie in memory as channels_last_3d already, and travel to
    the device as bytes.
    """
    return frames.to(device, non_blocking=True).permute(0, 4, 1, 2, 3).float() / 255.0


def ahead(jobs: Iterable[Callable[[], T]], workers: int, depth: int) -> Generator[T]:
    """Yield the results of ``jobs`` in their order, computed by threads up to ``depth`` results in advance.

    Threads and not processes: drawing a clip is numpy and OpenCV, which run beside Python, and nothing is copied.
    With no workers each job is done when its result is asked for.
    """
    if workers == 0:
        for job in jobs:
            yield job()
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="clips") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
