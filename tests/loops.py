"""Made clips, and ways to stop or upset a loop, for the tests of training and search."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autohr.lab.runs import Run, create_run, open_run
from autohr.lab.train import precision
from autohr.lab.train.loop import Progress
from autohr.lab.train.processes import join_processes
from autohr.types import Float


@dataclass(frozen=True)
class MadeClip:
    frames: NDArray[np.uint8]
    bvp: Float
    hr_bpm: float
    fps: float


class MadeSource:
    """Source of clips; a subclass says how they are drawn."""

    n_windows = 2

    def draw(self, seed: Sequence[int], /) -> MadeClip:
        raise NotImplementedError

    def window(self, i: int, /) -> MadeClip:
        return self.draw([99, i])


def made_clip(
    rng: np.random.Generator, hr_bpm: float, fps: float, look: Callable[[Float], Float], n_frames: int
) -> MadeClip:
    """A clip whose pulse is a sine of random phase; ``look`` makes its frames."""
    bvp = np.sqrt(2) * np.sin(2 * np.pi * hr_bpm / 60 * np.arange(n_frames) / fps + rng.uniform(0, 6))
    return MadeClip(np.clip(np.rint(look(bvp)), 0, 255).astype(np.uint8), bvp, hr_bpm, fps)


class Killed(BaseException):
    """A kill of the process, as far as the code can notice it."""


def kill_at(step: int) -> Callable[[Progress], None]:
    """Progress that kills when ``step`` steps are made, before their checkpoint."""

    def kill(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return kill


def state_bytes(run: Run) -> bytes:
    return (run.checkpoints / "resume.safetensors").read_bytes()


def timeless_log(run: Run) -> list[dict[str, Any]]:
    return [{**record, "clips_per_s": 0, "wall_s": 0} for record in run.read_log()]


def wrong_convolutions(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Let convolutions give weight gradients of bf16 that are wrong by ``factor``."""

    def run_operation(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        values = sound(func, args, kwargs)
        if "convolution_backward" in func.name() and args[0].dtype == torch.bfloat16:
            values[1] = values[1] * factor
        return values

    sound = precision.run_operation
    monkeypatch.setattr(precision, "run_operation", run_operation)


def run_in_two_processes(
    work: Callable[[Run], nn.Module], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, nn.Module]:
    """Call work(run) here as the first of two processes, and return its run and net. ``work`` must pickle."""
    run = create_run(folder, {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    other = multiprocessing.get_context("spawn").Process(target=_be_the_other, args=(work, folder, port))
    other.start()
    with monkeypatch.context() as here:
        # Remembered by monkeypatch, so that no later test takes itself for one of two.
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            here.setenv(name, "")
        net = _be_one_of_two(work, 0, run, port)
    other.join()
    assert other.exitcode == 0
    return run, net


def _be_one_of_two(work: Callable[[Run], nn.Module], rank: int, run: Run, port: int) -> nn.Module:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_processes("cpu") as joined:
        assert joined == rank
        return work(run)


def _be_the_other(work: Callable[[Run], nn.Module], folder: Path, port: int) -> None:
    """The second process. It leaves without torch's own ending, which on a full machine was once seen to abort
    ("terminate called without an active exception") after all work was done."""
    _be_one_of_two(work, 1, open_run(folder), port)
    os._exit(0)
