"""Processes of one training, their device, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[int]:
    """Join the processes that torchrun started, and give this one's rank; 0 when there is only this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) outside ``join_processes``."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def mean_over_processes(values: Sequence[Tensor | float], device: torch.device) -> list[float]:
    """Return scalars, each averaged over the processes, in one message."""
    together = torch.stack([torch.as_tensor(value).detach().float().to(device) for value in values])
    _, world = rank_and_world()
    if world > 1:
        dist.all_reduce(together)
    return [float(value) for value in (together / world).tolist()]


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether ``flag`` is true in any process; to be called in all of them."""
    return mean_over_processes([float(flag)], device)[0] > 0 if dist.is_initialized() else flag


def average_gradients(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients averaged over the processes, in one message."""
    _, world = rank_and_world()
    if world == 1:
        return list(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat / world, [gradient.numel() for gradient in gradients])
    return [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]


def pick_device(name: str) -> torch.device:
    """Return the device cpu, cuda or mps; of several GPUs, this process's own."""
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device='cuda', but this machine shows no CUDA device. Use device='cpu'.")
        # Set by join_processes to this process's own GPU.
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Give a list that receives the name of a SIGTERM or SIGINT; a second signal acts as without this.

    Outside the main thread Python has no signal handlers, and the list stays empty.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        restore()

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()
