"""The training loop: one ``while`` in plain torch that trains every net of this package, killable at any moment.

What a step does depends only on the parameters before it and on (seed, step): the clips are drawn from seeds
[seed, step, i], the learning rate is a function of the step, and torch's own generator (dropout) is seeded anew each
step. So a resumed run equals an uninterrupted one, and n processes see the clips that one would have seen.

Under torchrun, inside ``join_processes``, each process takes its part of every batch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autohr.errors import AutoHRError, BadWeights
from autohr.files import replacing
from autohr.lab.nets._inference import as_channels_last
from autohr.lab.runs import Run
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.precision import find_bf16_fault
from autohr.lab.train.steps import STEPS, Batch, Forward, Learned, Moment, Step
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float

RESUME = "resume.safetensors"
BEST = "best.safetensors"
LAST = "last.safetensors"
RESUME_FORMAT = "autohr.resume/1"

MAX_SKIPPED_IN_ROW = 10
"""Steps in a row without a finite gradient that end a run. Chosen by us: the fault of bf16 that ``find_bf16_fault``
looks for gave infinity in about one step of ten, so ten in a row by chance are one in 1e10; a net that has diverged
gives it in every step."""

T = TypeVar("T")

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adadelta": torch.optim.Adadelta,
}


class TrainingClip(Protocol):
    """One clip with its truth, as autohr.lab.datasets.clips.Clip."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(T, H, W, 3), RGB."""

    @property
    def bvp(self) -> Float:
        """(T,) z-scored."""

    @property
    def hr_bpm(self) -> float: ...

    @property
    def fps(self) -> float: ...


class Source(Protocol):
    """Where clips come from, as autohr.lab.datasets.clips.ClipSource."""

    @property
    def n_windows(self) -> int:
        """Clips that lie side by side in all recordings: one epoch."""

    def draw(self, seed: Sequence[int], /) -> TrainingClip:
        """A random clip that is decided by ``seed`` alone."""

    def window(self, i: int, /) -> TrainingClip:
        """The i-th fixed clip, not augmented."""


@dataclass(frozen=True)
class FitConfig:
    """How a net is trained. The defaults are the paper's where it states them (Appendix B)."""

    epochs: float | None = None
    """Length of training in epochs; one epoch is as many clips as lie side by side in the training recordings.
    Give this or ``steps``."""
    steps: int | None = None
    """Length of training in steps (batches)."""
    batch_size: int = 4
    """Clips per step, over all processes together."""
    optimiser: Literal["adam", "adamw", "adadelta"] = "adam"
    """adam adds the weight decay to the gradient (the paper's), adamw shrinks the weights beside it; adadelta is
    DeepPhys's, with a learning rate of 1."""
    lr: float = 1e-4
    """Peak learning rate."""
    weight_decay: float = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after the warm-up; cosine ends at zero."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from near zero."""
    clip_norm: float = 0.0
    """Longest allowed gradient (2-norm over all parameters); 0 leaves it alone."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; weights, optimiser and loss stay in float32. On a CPU whose gradients in bf16 are wrong
    (``find_bf16_fault``) the training is in fp32 all the same, and says so."""
    ema: float = 0.0
    """Decay of a running mean of the weights, which is then what is validated and saved; 0 for none."""
    seed: int = 0
    """Decides the initial weights and every clip."""
    device: str = "cpu"
    """cpu, cuda or mps. Under torchrun, cuda means one GPU per process."""
    sync_batch_norm: bool = True
    """On several GPUs, batch norm over the whole batch. On CPUs each process keeps to its own part: torch has no
    other."""
    val_every: int = 200
    """Steps between validations; the last step is always validated."""
    val_windows: int | None = None
    """Validate on at most this many windows, evenly spread; None for all."""
    checkpoint_every: int = 200
    """Steps between checkpoints to resume from; also written at every validation and at the end."""
    log_every: int = 1
    """Steps between lines of losses in the log."""
    workers: int = 1
    """Background threads that draw clips; 0 draws them in the loop. Never changes the result."""
    prefetch: int = 4
    """Batches drawn ahead."""

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"epochs={self.epochs} and steps={self.steps}: give exactly one of them.")
        for name in ("epochs", "steps", "batch_size", "lr", "val_every", "checkpoint_every", "log_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive.")
        for name in ("weight_decay", "warmup_steps", "clip_norm", "workers", "prefetch", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
        if self.val_windows is not None and self.val_windows < 1:
            raise ValueError(f"val_windows={self.val_windows} must be at least 1, or left out for all.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema} must be in [0, 1); 0.999 remembers about 1000 steps.")
        for name, allowed in (
            ("optimiser", tuple(OPTIMISERS)),
            ("schedule", ("constant", "cosine")),
            ("precision", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}.")


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it."""

    step: int
    n_steps: int
    loss: float
    clips_per_s: float
    eta_s: float
    val: dict[str, float | None] | None = None
    """The validation that was just made, if one was."""
    note: str | None = None
    """A sentence to show in place of the numbers: a step that was left out, or a change of precision."""


@dataclass(frozen=True)
class FitResult:
    """What came of a call of ``fit``."""

    step: int
    n_steps: int
    last: dict[str, float | None] | None
    """The last validation, see ``score_rates``; None without validation clips."""
    best: dict[str, float | None] | None
    """The validation of the best weights, with its ``step``."""
    stopped_by: str | None
    """Name of the signal that ended training early; None where it ran to its end."""
    precision: str = "fp32"
    """Precision of the steps: fp32 or bf16."""
    n_skipped: int = 0
    """Steps that were left out because their gradient was not finite."""


@dataclass(frozen=True)
class TrainingState:
    """Numbers that a run goes on from, beside its tensors."""

    step: int = 0
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    precision: Literal["fp32", "bf16"] | None = None
    """Precision of the steps so far; None in files that were written before it was kept."""
    n_skipped: int = 0
    n_skipped_in_row: int = 0
    """Steps left out just before ``step``, without one between that was not."""


def fit(
    net: nn.Module,
    train: Source,
    val: Source | None,
    config: FitConfig,
    run: Run,
    *,
    loss: LossConfig | None = None,
    learning: Step | None = None,
    guess_bpm: float | None = None,
    save_weights: Callable[[Path, nn.Module, dict[str, Any]], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train ``net`` in place, from where ``run`` left off.

    Writes to ``run``: a log line of losses every ``log_every`` steps and of each validation; resume.safetensors;
    and, through ``save_weights(path, net, measured)``, best.safetensors (lowest validation MAE; of a net that learns in
    stages, in the last stage) and last.safetensors. A step whose loss or gradient is not finite is left out and logged.
    SIGTERM and SIGINT end training after the current step, with a checkpoint; a second one kills.

    Args:
        learning: what the net learns from a batch, a line of ``STEPS``; AutoHR's if None.
        guess_bpm: the training recordings' mean rate; its error is reported as chance. None: mean of 64 drawn clips.
        save_weights: must write the whole file or none; None keeps only resume.safetensors.
        progress: called at every log line and validation; ``print_progress`` prints plain lines.

    Raises:
        ValueError: a config that does not fit the machine or the data.
        AutoHRError: the weights are not finite, or ``MAX_SKIPPED_IN_ROW`` steps in a row, or all, were left out.
        BadWeights: the run's resume.safetensors is damaged or belongs to another net.
    """
    loss = loss or LossConfig()
    learning = learning or STEPS["autohr"]
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.batch_size % world:
        raise ValueError(f"batch_size={config.batch_size} cannot be shared evenly by {world} processes.")
    n_steps = config.steps or max(1, math.ceil(float(config.epochs or 0) * train.n_windows / config.batch_size))
    device = pick_device(config.device)
    if guess_bpm is None:
        guess_bpm = float(np.mean([train.draw([config.seed, 0, i]).hr_bpm for i in range(64)]))

    # The layout in which pictures arrive (net_input), and the one that convolutions on CPUs want for bf16.
    net.to(device=device)
    as_channels_last(net)
    if world > 1 and device.type == "cuda" and config.sync_batch_norm:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    groups = parameter_groups(net, learning, n_steps)
    make: Callable[..., torch.optim.Optimizer] = OPTIMISERS[config.optimiser]
    optimiser = make([{"params": group} for group in groups.values()], lr=config.lr, weight_decay=config.weight_decay)
    averaged = copy.deepcopy(net).requires_grad_(False) if config.ema else None
    judged = averaged if averaged is not None else net

    state = TrainingState()
    resume_path = run.checkpoints / RESUME
    if resume_path.exists():
        state = load_state(resume_path, net, averaged, optimiser)
    step, best, last, n_skipped, in_row = state.step, state.best, state.last, state.n_skipped, state.n_skipped_in_row
    if best is not None and not counts_for_best(learning, best["step"], n_steps):
        # Written before the rule that only the last stage counts.
        best = None
    if world > 1:
        dist.barrier()
    if rank == 0:
        run.keep_log(lambda record: record.get("step", 0) <= step)
    model: nn.Module = net
    if world > 1:
        # Where parts rest, DDP must look which; elsewhere that would cost time.
        rests = learning.rates is not None
        model = DistributedDataParallel(net, [device] if device.type == "cuda" else None, find_unused_parameters=rests)

    def work(moment: Moment, tried: nn.Module, in_bf16: bool) -> Tensor:
        torch.manual_seed(_step_seed(config.seed, moment.step, rank))
        batch = draw_batch(train, config, moment.step, rank, world)
        as_said = in_precision(tried, dataclasses.replace(config, precision="bf16" if in_bf16 else "fp32"), device)
        return learning.learn(as_said, net_input(batch.frames, device), batch, loss, moment).total

    starts = {math.ceil(share * n_steps) for share in learning.stages}
    moments = [Moment(at, n_steps) for at in sorted({step} | {at for at in starts if step < at}) if at < n_steps]
    precision, note = decide_precision(
        state.precision or config.precision, net, [partial(work, at) for at in moments], device, world, "fit"
    )
    config = dataclasses.replace(config, precision=precision)
    if note is not None and rank == 0:
        # Of the step to come, so that a run that begins again does not keep the line.
        run.log({"step": step + 1, "precision": precision, "note": note})
        if progress is not None:
            progress(Progress(step, n_steps, math.nan, 0.0, 0.0, note=note))
    forward = in_precision(model, config, device)

    first_step, started_s = step, time.monotonic()
    jobs = (partial(draw_batch, train, config, s, rank, world) for s in range(step, n_steps))
    with stop_signals() as stop, contextlib.closing(ahead(jobs, config.workers, config.prefetch)) as batches:
        stopped = False
        while step < n_steps and not stopped:
            batch = next(batches)
            torch.manual_seed(_step_seed(config.seed, step, rank))
            lr = learning_rate(step, n_steps, config)
            moment = Moment(step, n_steps)
            factors = {"": 1.0} if learning.rates is None else learning.rates(moment)
            for prefix, group in zip(groups, optimiser.param_groups, strict=True):
                group["lr"] = lr * factors[prefix]

            buffers = [buffer.clone() for buffer in net.buffers()]
            model.train()
            learned: Learned = learning.learn(forward, net_input(batch.frames, device), batch, loss, moment)
            optimiser.zero_grad(set_to_none=True)
            learned.total.backward()  # type: ignore[no-untyped-call]
            for prefix, parameters in groups.items():
                # Without a gradient an optimiser leaves them, and its memory of them, alone.
                if factors[prefix] == 0:
                    for parameter in parameters:
                        parameter.grad = None
            grad_norm = nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm or math.inf)
            is_bad = not math.isfinite(float(grad_norm))
            total, n_stop, n_bad, *values = mean_over_processes(
                [
                    learned.total,
                    torch.tensor(float(bool(stop))),
                    torch.tensor(float(is_bad)),
                    *(learned.parts[name] for name in learning.parts),
                ],
                device,
                world,
            )
            parts = dict(zip(learning.parts, values, strict=True))
            # From sums over the processes, so that all of them leave out the same steps.
            skipped = n_bad > 0 or not math.isfinite(total)
            step += 1
            if skipped:
                n_skipped, in_row = n_skipped + 1, in_row + 1
                with torch.no_grad():
                    for buffer, before in zip(net.buffers(), buffers, strict=True):
                        buffer.copy_(before)
                said = ", ".join(f"{name} {value:g}" for name, value in parts.items())
                said = f"loss {total:g} ({said}), gradient {float(grad_norm):g}"
                if in_row >= MAX_SKIPPED_IN_ROW or n_skipped == n_steps or not weights_are_finite(net):
                    raise AutoHRError(
                        f"Training stopped at step {step - 1}: {said}; {in_row} in a row could not be "
                        f"used. {advice(config, lr, 'fit')} The last checkpoint stands."
                    )
            else:
                in_row = 0
                optimiser.step()
                if averaged is not None:
                    update_average(averaged, net, config.ema, step)

            # Every process must leave the loop at the same step, or the others would wait for it for ever.
            stopped = n_stop > 0
            at_end = step == n_steps
            clips_per_s = (step - first_step) * config.batch_size / max(time.monotonic() - started_s, 1e-9)
            where = Progress(step, n_steps, total, clips_per_s, (n_steps - step) * config.batch_size / clips_per_s)
            if rank == 0 and skipped:
                run.log({"step": step, "skipped": n_skipped, "note": said})
                if progress is not None:
                    note = f"left out, as it is not finite: {said}; {n_skipped} left out so far"
                    progress(dataclasses.replace(where, note=note))
            elif rank == 0 and (step % config.log_every == 0 or at_end or stopped):
                run.log(
                    {
                        "step": step,
                        "loss": total,
                        **parts,
                        "grad_norm": float(grad_norm),
                        "lr": lr,
                        "clips_per_s": round(clips_per_s, 3),
                    }
                )
                if progress is not None:
                    progress(where)

            # Also when stopping: a resumed run would not come back to this step.
            due = step % config.val_every == 0 or at_end
            if val is not None and due:
                last = {
                    "step": step,
                    **validate(judged, val, config, loss, guess_bpm, device, rank, world, learning=learning),
                }
                is_best = counts_for_best(learning, step, n_steps) and (best is None or _mae(last) < _mae(best))
                best = last if is_best else best
                if rank == 0:
                    run.log({"step": step, "val": last})
                    if is_best and save_weights is not None:
                        save_weights(run.checkpoints / BEST, judged, last)
                    if progress is not None:
                        progress(Progress(step, n_steps, total, where.clips_per_s, where.eta_s, last))
            # A signal that came during a long validation; alone, nobody else need agree.
            stopped = stopped or (world == 1 and bool(stop))
            if rank == 0 and (due or stopped or step % config.checkpoint_every == 0):
                state = TrainingState(step, best, last, config.precision, n_skipped, in_row)
                save_state(resume_path, net, averaged, optimiser, state)
        stopped_by = stop[0] if stop else ("another process" if stopped else None)

    if rank == 0 and save_weights is not None:
        save_weights(run.checkpoints / LAST, judged, last or {})
    return FitResult(step, n_steps, last, best, stopped_by, config.precision, n_skipped)


def counts_for_best(learning: Step, step: int, n_steps: int) -> bool:
    """Return whether a validation after ``step`` steps may choose the best weights.

    Of a net that learns in stages only those of the last stage do, for the net is not whole before. The end of training
    always counts, so that a run too short for its last stage has best weights as well.
    """
    return step == n_steps or Moment(step - 1, n_steps).share >= max(learning.stages, default=0.0)


# A gradient that is not finite -----------------------------------------------------------------------------------


def decide_precision(
    precision: Literal["fp32", "bf16"],
    net: nn.Module,
    works: Sequence[Callable[[nn.Module, bool], Tensor]],
    device: torch.device,
    world: int,
    section: str,
) -> tuple[Literal["fp32", "bf16"], str | None]:
    """Return the precision to train in, and a line that says so where it is not the one asked for.

    bf16 on a CPU is checked with ``find_bf16_fault``, at resuming too, because a run may be moved to another processor;
    fp32 stays fp32. All processes decide alike: for fp32 where one of them finds a fault.

    Args:
        works: compute the loss, see ``find_bf16_fault``; one for each stage that is to come.
        section: of the recipe, for the line.
    """
    if precision == "fp32" or device.type != "cpu" or not works:
        return precision, None
    faults = (find_bf16_fault(net, work) for work in works)
    fault = next((found for found in faults if found is not None), None)
    (share,) = mean_over_processes([torch.tensor(float(fault is not None))], device, world)
    if share == 0:
        return "bf16", None
    why = fault or "another process found it"
    return "fp32", f"bf16 is wrong on this processor ({why}); going on with {section}.precision = 'fp32'"


def weights_are_finite(net: nn.Module) -> bool:
    """Return whether every parameter is finite."""
    return all(bool(torch.isfinite(value).all()) for value in net.parameters())


def advice(config: FitConfig, lr: float, section: str) -> str:
    """Return what to do about gradients that are not finite: the options of the recipe that are not yet set so."""
    ways = [f"Lower {section}.lr (now {lr:g}), such as --set {section}.lr={lr / 10:g}"]
    if config.clip_norm == 0:
        ways.append(f"use --set {section}.clip_norm=1")
    if config.precision == "bf16":
        ways.append(f"use --set {section}.precision=fp32")
    return f"{', or '.join(ways)}."


def parameter_groups(net: nn.Module, learning: Step, n_steps: int) -> dict[str, list[nn.Parameter]]:
    """Beginning of the names -> the parameters that share a learning rate, see ``Step.rates``.

    Raises:
        ValueError: a parameter that belongs to no group, or to two.
    """
    if learning.rates is None:
        return {"": list(net.parameters())}
    groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in learning.rates(Moment(0, n_steps))}
    for name, parameter in net.named_parameters():
        homes = [prefix for prefix in groups if name.startswith(prefix)]
        if len(homes) != 1:
            raise ValueError(f"Parameter {name!r} fits {homes} of the groups {list(groups)}; it must fit one.")
        groups[homes[0]].append(parameter)
    return groups


def in_precision(net: nn.Module, config: FitConfig, device: torch.device) -> Forward:
    """The net in the precision of the training; what comes out is float32."""

    def forward(*values: Any, **more: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            out = net(*values, **more)
        return tuple(one.float() for one in out) if isinstance(out, tuple) else out.float()

    return forward


def learning_rate(step: int, n_steps: int, config: FitConfig) -> float:
    """The learning rate of step 0, 1, ..., n_steps - 1: a function of the step alone, so resuming needs no state."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return config.lr * warm
    through = max(0, step - config.warmup_steps) / max(1, n_steps - config.warmup_steps)
    return config.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


def update_average(averaged: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the running mean towards ``net``. Young means forget faster, so the initial weights soon leave."""
    decay = min(decay, step / (step + 9))
    with torch.no_grad():
        mine = averaged.state_dict()
        for name, theirs in net.state_dict().items():
            if theirs.is_floating_point():
                mine[name].lerp_(theirs, 1 - decay)
            else:
                mine[name].copy_(theirs)


# Clips -----------------------------------------------------------------------------------------------------------


def draw_batch(
    source: Source, config: FitConfig, step: int, rank: int = 0, world: int = 1, *, half: Sequence[int] = ()
) -> Batch:
    """The clips of this process for ``step``: numbers rank * n to (rank + 1) * n - 1 of the step's batch.

    ``half``: more numbers for the seed, where a step draws several batches.
    """
    n = config.batch_size // world
    batch = collate([source.draw([config.seed, step, i, *half]) for i in range(rank * n, (rank + 1) * n)])
    # Pinned in the background, so that the copy to the GPU runs beside the step before.
    return dataclasses.replace(batch, frames=batch.frames.pin_memory()) if config.device == "cuda" else batch


def collate(clips: Sequence[TrainingClip]) -> Batch:
    return Batch(
        frames=torch.from_numpy(np.stack([clip.frames for clip in clips])),
        bvp=torch.from_numpy(np.stack([clip.bvp for clip in clips])).float(),
        hr_bpm=torch.tensor([float(clip.hr_bpm) for clip in clips]),
        fps=torch.tensor([float(clip.fps) for clip in clips]),
    )


def net_input(frames: Tensor, device: torch.device) -> Tensor:
    """frames (B, T, H, W, 3) uint8 -> (B, 3, T, H, W) float32 in [0, 1] on ``device``; as FaceClip.as_net_input.

    Pictures lie in memory as channels_last_3d already, and travel to the device as bytes.
    """
    return frames.to(device, non_blocking=True).permute(0, 4, 1, 2, 3).float() / 255.0


def ahead(jobs: Iterable[Callable[[], T]], workers: int, depth: int) -> Generator[T]:
    """The results of ``jobs`` in their order, worked out in threads up to ``depth`` results in advance.

    Threads and not processes: drawing a clip is numpy and OpenCV, which run beside Python, and nothing is copied.
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


# Validation ------------------------------------------------------------------------------------------------------


def validate(
    net: nn.Module,
    val: Source,
    config: FitConfig,
    loss: LossConfig,
    guess_bpm: float,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    *,
    learning: Step | None = None,
) -> dict[str, float | None]:
    """``score_rates`` of the net's rates on the validation windows, and their mean loss. Waves are read by the one
    estimator.

    The processes share the windows. Raises SignalTooShort where windows are too short for the estimator.
    """
    learning = learning or STEPS["autohr"]
    forward = in_precision(net, config, device)
    n_all = val.n_windows
    windows = np.arange(n_all)
    if config.val_windows is not None and config.val_windows < n_all:
        windows = np.linspace(0, n_all - 1, config.val_windows).round().astype(int)
    # Columns: predicted rate (0 where there is none), true rate, loss. Filled by each process in its rows, then added.
    table = torch.zeros(len(windows), 3, dtype=torch.float64)
    mine = list(range(rank, len(windows), world))
    jobs = (partial(val.window, int(windows[row])) for row in mine)
    net.eval()
    if world > 1:
        # Each process kept its own running means of batch norm; rank 0's are the ones that are saved.
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)
    with torch.inference_mode(), contextlib.closing(ahead(jobs, config.workers, config.prefetch)) as clips:
        for row, clip in zip(mine, clips, strict=True):
            batch = collate([clip])
            learned = learning.learn(forward, net_input(batch.frames, device), batch, loss, Moment(1, 1))
            pred = learned.pred.cpu()
            if not torch.isfinite(pred).all():
                raise AutoHRError(
                    f"The net's {learning.kind} is not finite on validation window {windows[row]}. "
                    f"{advice(config, config.lr, 'fit')}"
                )
            if learning.kind == "wave":
                table[row, 0] = estimate_heart_rate(pred[0].double().numpy(), clip.fps).hr_bpm or 0.0
            else:
                table[row, 0] = pred[0].double()
            table[row, 1] = clip.hr_bpm
            table[row, 2] = learned.total
    if world > 1:
        table = table.to(device)
        dist.all_reduce(table)
    pred_bpm, true_bpm, losses = table.cpu().numpy().T
    score = score_rates(np.where(pred_bpm > 0, pred_bpm, np.nan), true_bpm, guess_bpm)
    return {**score, "loss": float(losses.mean())}


def score_rates(hr_pred_bpm: Float, hr_true_bpm: Float, guess_bpm: float) -> dict[str, float | None]:
    """MAE, RMSE, Pearson r and share within 5 bpm of the rates (N,), beside the errors of always saying ``guess_bpm``.

    A window without a rate (NaN) is not left out: it is scored as the guess in the errors, and as a miss in the share.
    Pearson r is over the windows with a rate; None where it is not defined.
    """
    missing = np.isnan(hr_pred_bpm)
    error = np.where(missing, guess_bpm, hr_pred_bpm) - hr_true_bpm
    chance = guess_bpm - hr_true_bpm
    pred, true = hr_pred_bpm[~missing], hr_true_bpm[~missing]
    has_r = len(pred) > 1 and pred.std() > 0 and true.std() > 0
    return {
        "n_windows": len(error),
        "n_missing": int(missing.sum()),
        "mae_bpm": float(np.abs(error).mean()),
        "rmse_bpm": float(np.sqrt((error**2).mean())),
        "pearson_r": float(np.corrcoef(pred, true)[0, 1]) if has_r else None,
        "within_5_bpm": float(((np.abs(error) <= 5) & ~missing).mean()),
        "chance_mae_bpm": float(np.abs(chance).mean()),
        "chance_rmse_bpm": float(np.sqrt((chance**2).mean())),
    }


# State to resume from --------------------------------------------------------------------------------------------


def save_state(
    path: Path,
    net: nn.Module,
    averaged: nn.Module | None,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
) -> None:
    """All that ``load_state`` needs, in one safetensors file that replaces the one before at once.

    Tensors: net.*, average.* and optimiser.<parameter>.*; the numbers are JSON in the header. No pickle.
    """
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    if averaged is not None:
        tensors |= {f"average.{name}": value for name, value in averaged.state_dict().items()}
    for index, memory in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in memory.items()}
    # A copy each: safetensors refuses tensors that share memory, and those of channels_last layout.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    # One entry, because safetensors writes several in random order and equal states should make equal files.
    header = {"autohr": json.dumps({"format": RESUME_FORMAT, **dataclasses.asdict(state)})}
    try:
        with replacing(path) as aside:
            save_file(tensors, aside, header)
    except SafetensorError as error:
        raise AutoHRError(f"Cannot write {str(path)!r}: {error}. Make room, and run again to go on.") from None


def load_state(
    path: Path, net: nn.Module, averaged: nn.Module | None, optimiser: torch.optim.Optimizer
) -> TrainingState:
    """Put the tensors of ``save_state`` back in place, bit for bit, and return its numbers.

    Raises BadWeights where the file is damaged, or belongs to another net or config.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = json.loads((file.metadata() or {}).get("autohr", "{}"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadWeights(f"{str(path)!r} is damaged ({error}); remove it to start again.") from None
    if state.get("format") != RESUME_FORMAT:
        raise BadWeights(f"{str(path)!r} is no {RESUME_FORMAT} file; remove it to start again.")
    expected = {f"net.{name}" for name in net.state_dict()}
    expected |= {f"average.{name}" for name in averaged.state_dict()} if averaged is not None else set()
    held = {name for name in tensors if not name.startswith("optimiser.")}
    if held != expected:
        odd = min(held ^ expected)
        raise BadWeights(f"{str(path)!r} is the state of another net: {odd!r} is on one side only. Use another run.")
    with torch.no_grad():
        for prefix, module in (("net.", net), ("average.", averaged)):
            for name, value in module.state_dict().items() if module is not None else ():
                if value.shape != tensors[prefix + name].shape:
                    raise BadWeights(
                        f"{str(path)!r} is the state of another net: {prefix + name!r} is "
                        f"{tuple(tensors[prefix + name].shape)} there and {tuple(value.shape)} here. Use another run."
                    )
                value.copy_(tensors[prefix + name])
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        prefix = f"optimiser.{index}."
        for name in [name for name in tensors if name.startswith(prefix)]:
            value = tensors[name]
            # In the parameter's own memory layout, as the optimiser itself would have made it.
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimiser.state[parameter][name.removeprefix(prefix)] = value
    # Files of before lack the newer fields.
    known = {field.name for field in dataclasses.fields(TrainingState)}
    return TrainingState(**{name: value for name, value in state.items() if name in known})


# Around the loop -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[int]:
    """This process's rank among those that torchrun started, joined for as long as the block lasts; 0 when alone."""
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


def print_progress(progress: Progress) -> None:
    """One plain line on stderr: about twenty for the losses of a run, and one for each validation."""
    every = max(1, progress.n_steps // 20)
    if progress.note is not None:
        said = progress.note
    elif progress.val is not None:
        val = progress.val
        r = "-" if val["pearson_r"] is None else f"{val['pearson_r']:.2f}"
        said = (
            f"validation: MAE {val['mae_bpm']:.2f} bpm (chance {val['chance_mae_bpm']:.2f}), "
            f"RMSE {val['rmse_bpm']:.2f}, r {r}, within 5 bpm {100 * (val['within_5_bpm'] or 0):.0f} %"
        )
    elif progress.step % every == 0 or progress.step == 1:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        said = f"loss {progress.loss:.4f}, {progress.clips_per_s:.2f} clips/s, {minutes}:{seconds:02d} left"
    else:
        return
    print(f"step {progress.step}/{progress.n_steps}  {said}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that receives the name of a SIGTERM or SIGINT; the handlers before come back on leaving.

    A second signal acts as if nobody listened. Outside the main thread Python lets nobody listen, and the list stays
    empty.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pick_device(name: str) -> torch.device:
    """cpu, cuda or mps; of several GPUs, this process's own. Raises ValueError where the machine has none."""
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device='cuda', but this machine shows no CUDA device. Use device='cpu'.")
        # Set by join_processes to this process's own GPU.
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0])


def mean_over_processes(values: Sequence[Tensor], device: torch.device, world: int) -> list[float]:
    """Scalars as the processes have them, each averaged."""
    together = torch.stack([value.detach().float().to(device) for value in values])
    if world > 1:
        dist.all_reduce(together)
    return [float(value) for value in (together / world).tolist()]


def _mae(score: dict[str, float | None]) -> float:
    mae_bpm = score["mae_bpm"]
    return math.inf if mae_bpm is None else mae_bpm
