"""The loop under ``fit`` and ``search``: one ``while`` in plain torch, killable at any moment.

What a step does depends only on the parameters before it and on (seed, step): clips are drawn from seeds
[seed, step, i], the learning rate is a function of the step, and torch's own generator (dropout) is seeded anew each
step. So a resumed run equals an uninterrupted one, and n processes under torchrun, each with its part of every batch,
see the clips that one would have seen.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from autohr.errors import AutoHRError
from autohr.lab.metrics import score_rates
from autohr.lab.nets._inference import as_channels_last
from autohr.lab.recipes.parsing import STRICT
from autohr.lab.runs import Run
from autohr.lab.train.batches import Source, ahead, collate, draw_batch, net_input
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.precision import Precision, find_bf16_fault, in_precision
from autohr.lab.train.processes import any_process, pick_device, rank_and_world, stop_signals, wait_for_all
from autohr.lab.train.state import RESUME, TrainingState, load_state, save_state
from autohr.lab.train.steps import Batch, Forward, Learned, Moment, Step
from autohr.signals.rate import estimate_heart_rate

MAX_SKIPPED_IN_ROW = 10
"""Steps in a row without a finite gradient that end a run. Chosen by us: the fault of bf16 that ``find_bf16_fault``
looks for gave infinity in about one step of ten, so ten in a row by chance are one in 1e10; a net that has diverged
gives it in every step."""

SCALE_GROWS_AFTER, MAX_LOSS_SCALE = 2000, 2.0**24
"""Good steps in fp16 after which the factor of the loss is doubled (torch's GradScaler), and its largest value (ours:
the largest whole number up to which float32 counts each)."""

Share = Annotated[float, Field(ge=0, lt=1)]


@checked(frozen=True, config=STRICT)
class LoopConfig:
    """Settings of the loop: [fit] and [search] of a recipe share these."""

    batch_size: PositiveInt = 4
    """Clips per step, over all processes together."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate of the weights."""
    weight_decay: NonNegativeFloat = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate after the warm-up; cosine ends at zero."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the weights' gradient, above which it is scaled down; 0 leaves it alone."""
    precision: Precision = "fp32"
    """bf16 and fp16: autocast; weights, optimiser and loss stay in float32. On a CPU whose gradients in bf16 are wrong
    (``find_bf16_fault``) the steps are made in fp32 all the same, and a line of the log says so. fp16 is for GPUs
    without bf16, and for trainings, not searches: its loss is multiplied by a factor, and a step that overflows is left
    out and halves the factor."""
    seed: NonNegativeInt = 0
    """Seed of the initial weights and of every clip."""
    device: str = "cpu"
    """cpu, cuda or mps. Under torchrun, cuda means one GPU per process."""
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints to resume from; also written at every validation and at the end."""
    log_every: PositiveInt = 1
    """Steps between lines of losses in the log."""
    workers: NonNegativeInt = 1
    """Background threads that draw clips; 0 draws them in the loop. Never changes the result."""
    prefetch: NonNegativeInt = 4
    """Batches drawn ahead."""


@dataclass(frozen=True)
class Progress:
    """Position of a training, for a progress display."""

    step: int
    n_steps: int
    loss: float
    clips_per_s: float
    eta_s: float
    val: dict[str, float | None] | None = None
    """Validation that was just made, if one was."""
    note: str | None = None
    """Sentence to show in place of the numbers: a step that was left out, or a change of precision."""


@dataclass(frozen=True)
class Taken:
    """Result of one step, the same in all processes."""

    loss: float
    parts: dict[str, float | None]
    """Further values for the log."""
    grad_norm: float
    skipped: bool
    """True where a loss or a gradient was not finite, and the step was left out."""
    summary: str
    """Losses and gradients in words, for the message about a step that was left out."""


class Loop(abc.ABC):
    """Steps of a training with all that surrounds them; ``fit`` and ``search`` fill in what a step does.

    The loop draws batches ahead, logs, writes checkpoints, resumes from them, ends at SIGTERM and SIGINT after the
    current step (a second one kills), leaves out steps that are not finite, and decides the precision.
    """

    section: ClassVar[str]
    """Section of the recipe, for messages: "fit" or "search"."""
    subject: ClassVar[str]
    """Beginning of the message of a run that diverged."""
    optimiser: torch.optim.Optimizer
    forward: Forward
    """The net in the precision of the steps."""

    def __init__(
        self,
        net: nn.Module,
        config: LoopConfig,
        run: Run,
        n_steps: int,
        learning: Step,
        loss: LossConfig,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.config, self.run, self.n_steps = config, run, n_steps
        self.learning, self.loss = learning, loss
        self.rank, self.world = rank_and_world()
        if config.batch_size % self.world:
            raise ValueError(f"batch_size={config.batch_size} cannot be shared evenly by {self.world} processes.")
        self.device = pick_device(config.device)
        self.precision = config.precision
        self.state = TrainingState()
        # The layout in which frames arrive (net_input), and the one that convolutions on CPUs want for bf16.
        net.to(device=self.device)
        as_channels_last(net)
        self.net = self.model = net
        self.averaged: nn.Module | None = None
        self._progress = progress if self.rank == 0 else None

    @abc.abstractmethod
    def draw(self, step: int) -> tuple[Batch, Batch | None]:
        """Draw the batch of the weights, and another one if the step needs it. Called in background threads."""

    @abc.abstractmethod
    def take_step(self, batch: Batch, other: Batch | None, moment: Moment, lr: float) -> Taken:
        """Make the step, or leave it out where its gradient is not finite."""

    @abc.abstractmethod
    def is_due(self, step: int) -> bool:
        """Return whether ``review`` and a checkpoint follow ``step`` steps."""

    @abc.abstractmethod
    def review(self, where: Progress) -> None:
        """Validate, or derive an architecture, and log it."""

    def is_over(self) -> bool:
        """Return whether the run has ended before its last step."""
        return False

    def learn(self, forward: Forward, batch: Batch, moment: Moment) -> Learned:
        """Return the losses of the weights on a batch."""
        return self.learning.learn(forward, net_input(batch.frames, self.device), batch, self.loss, moment)

    def draw_from(self, source: Source, step: int, *more_seed: int) -> Batch:
        """Draw this process's clips of a step from one source."""
        config, pin = self.config, self.config.device == "cuda"
        share = {"rank": self.rank, "world": self.world}
        return draw_batch(source, config.batch_size, config.seed, step, more_seed, **share, pin=pin)

    def load(self) -> None:
        """Continue from the run's checkpoint, if it has one; to be called when the optimiser is there."""
        path = self.run.checkpoints / RESUME
        if path.exists():
            self.state = load_state(path, self.net, self.averaged, self.optimiser)
        wait_for_all()

    def go(self) -> str | None:
        """Take the steps that are left.

        Returns
        -------
        Name of the signal that ended the steps early, or None.

        Raises
        ------
        AutoHRError
            The weights are not finite, or ``MAX_SKIPPED_IN_ROW`` steps in a row, or all, were left out.
        """
        config, state, run = self.config, self.state, self.run
        if self.rank == 0:
            run.keep_log(lambda record: record.get("step", 0) <= state.step)
        earlier_s = max((record.get("wall_s", 0.0) for record in run.read_log()), default=0.0)
        self._decide_precision()
        self.forward = in_precision(self.model, self.precision, self.device)
        first_step, started_s = state.step, time.monotonic()
        jobs = (partial(self.draw, step) for step in range(state.step, self.n_steps))
        with stop_signals() as stop, contextlib.closing(ahead(jobs, config.workers, config.prefetch)) as batches:
            stopped = False
            while state.step < self.n_steps and not stopped and not self.is_over():
                batch, other = next(batches)
                torch.manual_seed(self._step_seed(state.step))
                lr = self.learning_rate(state.step)
                self.model.train()
                taken = self.take_step(batch, other, Moment(state.step, self.n_steps), lr)
                state.step += 1
                if taken.skipped:
                    self._count_skipped(taken, lr)
                else:
                    state.n_skipped_in_row = 0
                    self._raise_loss_scale()

                # Every process must leave the loop at the same step, or the others would wait for it for ever.
                stopped = any_process(bool(stop), self.device)
                due = self.is_due(state.step)
                gone_s = time.monotonic() - started_s
                clips_per_s = (state.step - first_step) * config.batch_size / max(gone_s, 1e-9)
                eta_s = (self.n_steps - state.step) * config.batch_size / clips_per_s
                where = Progress(state.step, self.n_steps, taken.loss, clips_per_s, eta_s)
                times = {"clips_per_s": round(clips_per_s, 3), "wall_s": round(earlier_s + gone_s, 3)}
                if taken.skipped:
                    self.log({"skipped": state.n_skipped, "note": taken.summary, **times})
                    note = f"left out, as it is not finite: {taken.summary}; {state.n_skipped} left out so far"
                    self.show(dataclasses.replace(where, note=note))
                elif state.step % config.log_every == 0 or due or stopped:
                    self.log({"loss": taken.loss, **taken.parts, "grad_norm": taken.grad_norm, "lr": lr, **times})
                    self.show(where)
                if due:
                    self.review(where)
                # A signal that came during a long validation; alone, no other process need agree.
                stopped = stopped or (self.world == 1 and bool(stop))
                if self.rank == 0 and (due or stopped or state.step % config.checkpoint_every == 0):
                    save_state(run.checkpoints / RESUME, self.net, self.averaged, self.optimiser, state)
        return stop[0] if stop else ("another process" if stopped else None)

    def log(self, record: dict[str, object]) -> None:
        """Append a line of the current step to the run's log."""
        if self.rank == 0:
            self.run.log({"step": self.state.step, **record})

    def show(self, progress: Progress) -> None:
        """Show a position to the caller."""
        if self._progress is not None:
            self._progress(progress)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., n_steps - 1."""
        return learning_rate(step, self.n_steps, self.config.lr, self.config.schedule)

    def validate(
        self, net: nn.Module, source: Source, n_windows: int | None, guess_bpm: float
    ) -> dict[str, float | None]:
        """Return ``score_rates`` of the net's rates on fixed windows, and their mean loss.

        Waves are read by the one estimator. The processes share the windows. ``n_windows`` is the largest number of
        them, evenly spread; None for all.
        """
        config, forward = self.config, in_precision(net, self.precision, self.device)
        windows = np.arange(source.n_windows)
        if n_windows is not None and n_windows < len(windows):
            windows = np.linspace(0, len(windows) - 1, n_windows).round().astype(int)
        # Columns: predicted rate (0 where there is none), true rate, loss. Each process fills its rows.
        table = torch.zeros(len(windows), 3, dtype=torch.float64)
        own = list(range(self.rank, len(windows), self.world))
        jobs = (partial(source.window, int(windows[row])) for row in own)
        net.eval()
        if self.world > 1:
            # Each process kept its own running means of batch norm; rank 0's are the ones that are saved.
            for buffer in net.buffers():
                dist.broadcast(buffer, 0)
        with torch.inference_mode(), contextlib.closing(ahead(jobs, config.workers, config.prefetch)) as clips:
            for row, clip in zip(own, clips, strict=True):
                learned = self.learn(forward, collate([clip]), Moment(1, 1))
                pred = learned.pred.cpu()
                if not torch.isfinite(pred).all():
                    raise AutoHRError(
                        f"The net's {self.learning.kind} is not finite on validation window {windows[row]}. "
                        f"{advice(config, self.precision, config.lr, self.section)}"
                    )
                if self.learning.kind == "wave":
                    table[row, 0] = estimate_heart_rate(pred[0].double().numpy(), clip.fps).hr_bpm or 0.0
                else:
                    table[row, 0] = pred[0].double()
                table[row, 1] = clip.hr_bpm
                table[row, 2] = learned.total
        if self.world > 1:
            table = table.to(self.device)
            dist.all_reduce(table)
        pred_bpm, true_bpm, losses = table.cpu().numpy().T
        score = score_rates(np.where(pred_bpm > 0, pred_bpm, np.nan), true_bpm, guess_bpm)
        return {**score, "loss": float(losses.mean())}

    def _step_seed(self, step: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, step, self.rank]).generate_state(1, np.uint32)[0])

    def _count_skipped(self, taken: Taken, lr: float) -> None:
        state = self.state
        state.n_skipped += 1
        if self.precision == "fp16" and state.loss_scale > 1:
            # An overflow is how the right factor is found, and no sign that the net diverges.
            state.loss_scale, state.n_at_scale = state.loss_scale / 2, 0
        else:
            state.n_skipped_in_row += 1
        are_finite = all(bool(torch.isfinite(value).all()) for value in self.net.parameters())
        if state.n_skipped_in_row >= MAX_SKIPPED_IN_ROW or state.n_skipped == self.n_steps or not are_finite:
            raise AutoHRError(
                f"{self.subject} stopped at step {state.step - 1}: {taken.summary}; {state.n_skipped_in_row} in a row "
                f"could not be used. {advice(self.config, self.precision, lr, self.section)} "
                "The last checkpoint stands."
            )

    def _raise_loss_scale(self) -> None:
        """Count a good step, and double the factor of the loss in fp16 after ``SCALE_GROWS_AFTER`` of them."""
        state = self.state
        if self.precision == "fp16":
            state.n_at_scale += 1
            if state.n_at_scale == SCALE_GROWS_AFTER:
                state.loss_scale, state.n_at_scale = min(2 * state.loss_scale, MAX_LOSS_SCALE), 0

    def _decide_precision(self) -> None:
        """Check bf16 on a CPU with a batch of each stage to come, also when resuming on what may be another machine.

        fp32 and fp16 stay. All processes decide alike: for fp32 where one of them finds a fault.
        """
        state, n_steps = self.state, self.n_steps
        self.precision = state.precision or self.config.precision
        starts = {math.ceil(share * n_steps) for share in self.learning.stages}
        steps = [step for step in sorted({state.step} | {one for one in starts if state.step < one}) if step < n_steps]
        if self.precision == "bf16" and self.device.type == "cpu" and steps and not self.is_over():

            def work(step: int, net: nn.Module, in_bf16: bool) -> Tensor:
                torch.manual_seed(self._step_seed(step))
                forward = in_precision(net, "bf16" if in_bf16 else "fp32", self.device)
                return self.learn(forward, self.draw(step)[0], Moment(step, n_steps)).total

            faults = (find_bf16_fault(self.net, partial(work, step)) for step in steps)
            fault = next((found for found in faults if found is not None), None)
            if any_process(fault is not None, self.device):
                self.precision = "fp32"
                why = fault or "another process found it"
                note = f"bf16 is wrong on this processor ({why}); going on with {self.section}.precision = 'fp32'"
                # Logged for the step to come, so that a run that begins again does not keep the line.
                self.log({"step": state.step + 1, "precision": "fp32", "note": note})
                self.show(Progress(state.step, n_steps, math.nan, 0.0, 0.0, note=note))
        state.precision = self.precision


def advice(config: LoopConfig, precision: Precision, lr: float, section: str) -> str:
    """Return what to do about gradients that are not finite: the options of the recipe that are not yet set so."""
    ways = [f"Lower {section}.lr (now {lr:g}), such as --set {section}.lr={lr / 10:g}"]
    if config.clip_norm == 0:
        ways.append(f"use --set {section}.clip_norm=1")
    if precision != "fp32":
        ways.append(f"use --set {section}.precision=fp32")
    return f"{', or '.join(ways)}."


def learning_rate(step: int, n_steps: int, lr: float, schedule: str, warmup_steps: int = 0) -> float:
    """Return the learning rate of step 0, 1, ..., n_steps - 1: a function of the step alone, so no state is needed."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "constant":
        return lr * warm
    through = max(0, step - warmup_steps) / max(1, n_steps - warmup_steps)
    return lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


def copy_buffers(net: nn.Module) -> list[Tensor]:
    """Return a copy of the net's buffers, such as the running means of its batch norms."""
    return [buffer.clone() for buffer in net.buffers()]


def restore_buffers(net: nn.Module, before: Sequence[Tensor]) -> None:
    """Put back the buffers that ``copy_buffers`` returned."""
    with torch.no_grad():
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)


def print_progress(progress: Progress) -> None:
    """Print a plain line on stderr: about twenty for the losses of a run, and one for each validation."""
    every = max(1, progress.n_steps // 20)
    if progress.note is not None:
        line = progress.note
    elif progress.val is not None:
        val = progress.val
        r = "-" if val["pearson_r"] is None else f"{val['pearson_r']:.2f}"
        line = (
            f"validation: MAE {val['mae_bpm']:.2f} bpm (chance {val['chance_mae_bpm']:.2f}), "
            f"RMSE {val['rmse_bpm']:.2f}, r {r}, within 5 bpm {100 * (val['within_5_bpm'] or 0):.0f} %"
        )
    elif progress.step % every == 0 or progress.step == 1:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        line = f"loss {progress.loss:.4f}, {progress.clips_per_s:.2f} clips/s, {minutes}:{seconds:02d} left"
    else:
        return
    print(f"step {progress.step}/{progress.n_steps}  {line}", file=sys.stderr, flush=True)
