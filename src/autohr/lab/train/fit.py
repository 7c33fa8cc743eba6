"""Training of any net of this package, on the loop of ``loop.py``."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autohr.lab.recipes.parsing import STRICT
from autohr.lab.runs import Run
from autohr.lab.train.batches import Source
from autohr.lab.train.loop import (
    Loop,
    LoopConfig,
    Progress,
    Share,
    Taken,
    copy_buffers,
    learning_rate,
    restore_buffers,
)
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.processes import mean_over_processes
from autohr.lab.train.steps import STEPS, Batch, Moment, Step, simulated_batch

NORM_SEED = 1
"""Added to the seeds of clips, which are then others than those that are learned from."""

BEST = "best.safetensors"
LAST = "last.safetensors"

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adadelta": torch.optim.Adadelta,
}

SaveWeights = Callable[[Path, nn.Module, dict[str, Any]], None]
"""Writes (path, net, validation) as a whole file or not at all."""


@checked(frozen=True, config=STRICT)
class FitConfig(LoopConfig):
    """Settings of a training. The defaults are the paper's where it states them (Appendix B)."""

    epochs: PositiveFloat | None = None
    """Length of training in epochs; one epoch is as many clips as lie side by side in the training recordings.
    Give this or ``steps``."""
    steps: PositiveInt | None = None
    """Length of training in steps (batches)."""
    optimiser: Literal["adam", "adamw", "adadelta"] = "adam"
    """adam adds the weight decay to the gradient (the paper's), adamw shrinks the weights beside it; adadelta is
    DeepPhys's, with a learning rate of 1."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly from near zero."""
    ema: Share = 0.0
    """Decay of a running mean of the weights, which is then validated and saved; 0.999 averages about 1000 steps, 0
    none."""
    accumulate: PositiveInt = 1
    """Parts of a batch whose gradients are computed one after the other and added up, for a batch that does not fit
    into memory. The step is that of the whole batch, but batch norm sees one part at a time."""
    sync_batch_norm: bool = True
    """On several GPUs, batch norm over the whole batch. On CPUs each process normalises its own part: torch has no
    other."""
    val_every: PositiveInt = 200
    """Steps between validations; the last step is always validated."""
    val_windows: PositiveInt | None = None
    """Largest number of windows that are validated, evenly spread; None for all."""
    norm_batches: NonNegativeInt = 0
    """Batches, always the same, on which the running statistics of batch norm are made anew before each validation.
    The last few batches of a training decide them otherwise, and a net of few rates then swings from one validation
    to the next by up to 70 bpm. 0 leaves them."""
    rates: dict[str, PositiveFloat] = field(default_factory=dict)
    """Beginning of parameters' names, as the net's way of learning has them -> factor of their learning rate beside
    its own."""

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"epochs={self.epochs} and steps={self.steps}: give exactly one of them.")


@dataclass(frozen=True)
class FitResult:
    """Outcome of a call of ``fit``."""

    step: int
    n_steps: int
    last: dict[str, float | None] | None
    """The last validation, see ``score_rates``; None without validation clips."""
    best: dict[str, float | None] | None
    """Validation of the best weights, with its ``step``."""
    stopped_by: str | None
    """Name of the signal that ended training early; None where it ran to its end."""
    precision: str = "fp32"
    """Precision of the steps: fp32, bf16 or fp16."""
    n_skipped: int = 0
    """Steps that were left out because their gradient was not finite."""


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
    save_weights: SaveWeights | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train ``net`` in place, from where ``run`` left off.

    Writes to ``run``: a log line of losses every ``log_every`` steps and of each validation; resume.safetensors;
    and, through ``save_weights``, best.safetensors (lowest mean loss in validation; of a net that learns in stages, in
    the last one) and last.safetensors.

    Parameters
    ----------
    learning
        How the net learns from a batch, a line of ``STEPS``; AutoHR's if None.
    guess_bpm
        Mean rate of the training recordings, whose error is reported as chance; mean of 64 drawn clips if None.
    save_weights
        None keeps only resume.safetensors.
    progress
        Called at every log line and validation; ``print_progress`` prints plain lines.

    Raises
    ------
    ValueError
        The config does not fit the machine or the data.
    AutoHRError
        Training diverged, see ``Loop.go``.
    BadWeights
        The run's resume.safetensors is damaged or belongs to another net.
    """
    if guess_bpm is None:
        guess_bpm = float(np.mean([train.draw([config.seed, 0, i]).hr_bpm for i in range(64)]))
    n_steps = config.steps or max(1, math.ceil(float(config.epochs or 0) * train.n_windows / config.batch_size))
    loop = _Fit(net, config, run, n_steps, learning or STEPS["autohr"], loss or LossConfig(), progress)
    loop.train, loop.val, loop.guess_bpm, loop.save_weights = train, val, guess_bpm, save_weights
    loop.prepare()
    stopped_by = loop.go()
    state = loop.state
    if loop.rank == 0 and save_weights is not None:
        save_weights(run.checkpoints / LAST, loop.validated, state.last or {})
    return FitResult(state.step, n_steps, state.last, state.best, stopped_by, loop.precision, state.n_skipped)


class _Fit(Loop):
    """Steps of a training; under torchrun with DistributedDataParallel."""

    section, subject = "fit", "Training"
    config: FitConfig
    train: Source
    val: Source | None
    guess_bpm: float
    save_weights: SaveWeights | None
    n_frames: int
    """Length of a clip; known where examples as long as clips are simulated."""

    def prepare(self) -> None:
        """Make the optimiser and the running mean, and load the checkpoint."""
        config, learning = self.config, self.learning
        on_gpus = self.world > 1 and self.device.type == "cuda"
        if on_gpus and config.sync_batch_norm:
            self.net = self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)  # type: ignore[no-untyped-call]
        if learning.n_simulated is not None:
            self.n_frames = len(self.train.window(0).bvp)
        self.groups = parameter_groups(self.net, learning, self.n_steps)
        make: Callable[..., torch.optim.Optimizer] = OPTIMISERS[config.optimiser]
        groups = [{"params": group} for group in self.groups.values()]
        self.optimiser = make(groups, lr=config.lr, weight_decay=config.weight_decay)
        if config.ema:
            self.averaged = copy.deepcopy(self.net).requires_grad_(False)
        self.validated = self.net if self.averaged is None else self.averaged
        self.load()
        best = self.state.best
        if best is not None and not counts_for_best(learning, best["step"], self.n_steps):
            # Written before the rule that only the last stage counts.
            self.state.best = None
        if self.world > 1:
            # Where parts rest, DDP must find out which; elsewhere that would cost time.
            rests = learning.rates is not None
            devices = [self.device] if on_gpus else None
            self.model = DistributedDataParallel(self.net, devices, find_unused_parameters=rests)

    def draw(self, step: int) -> tuple[Batch, None]:
        """Draw the batch of a step."""
        simulates = self.learning.n_simulated
        n_simulated = 0 if simulates is None else simulates(Moment(step, self.n_steps))
        if n_simulated:
            return simulated_batch(max(1, n_simulated // self.world), self.n_frames), None
        return self.draw_from(self.train, step), None

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, with the warm-up."""
        config = self.config
        return learning_rate(step, self.n_steps, config.lr, config.schedule, config.warmup_steps)

    def take_step(self, batch: Batch, other: Batch | None, moment: Moment, lr: float) -> Taken:
        """Make a step of the weights."""
        factors = {"": 1.0} if self.learning.rates is None else self.learning.rates(moment)
        for prefix, group in zip(self.groups, self.optimiser.param_groups, strict=True):
            group["lr"] = lr * factors[prefix] * self.config.rates.get(prefix, 1.0)
        buffers = copy_buffers(self.net)
        self.optimiser.zero_grad(set_to_none=True)
        names = self.learning.parts
        losses = self._add_up_gradients(batch, moment, names)
        for prefix, parameters in self.groups.items():
            # Without a gradient an optimiser leaves them, and its memory of them, alone.
            if factors[prefix] == 0:
                for parameter in parameters:
                    parameter.grad = None
        grad_norm = float(nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm or math.inf))
        # Means over the processes, so that all of them leave out the same steps.
        is_bad = float(not math.isfinite(grad_norm))
        n_bad, total, *values = mean_over_processes([is_bad, *losses], self.device)
        skipped = n_bad > 0 or not math.isfinite(total)
        if skipped:
            restore_buffers(self.net, buffers)
        else:
            self.optimiser.step()
            if self.averaged is not None:
                update_average(self.averaged, self.net, self.config.ema, moment.step + 1)
        parts = dict(zip(names, values, strict=True))
        in_words = ", ".join(f"{name} {value:g}" for name, value in parts.items())
        return Taken(total, {**parts}, grad_norm, skipped, f"loss {total:g} ({in_words}), gradient {grad_norm:g}")

    def _add_up_gradients(self, batch: Batch, moment: Moment, names: Sequence[str]) -> list[Tensor]:
        """Leave the gradient of the batch in the parameters, and return its loss and the parts of it (``names``)."""
        parts = split_batch(batch, self.config.accumulate)
        scale = self.state.loss_scale if self.precision == "fp16" else 1.0
        sums: list[Tensor] = []
        for number, part in enumerate(parts, 1):
            share = len(part.bvp) / len(batch.bvp)
            # Processes exchange gradients once, with the last part.
            ddp = self.model if isinstance(self.model, DistributedDataParallel) and number < len(parts) else None
            with contextlib.nullcontext() if ddp is None else ddp.no_sync():
                learned = self.learn(self.forward, part, moment)
                (learned.total * (share * scale)).backward()  # type: ignore[no-untyped-call]
            found = [share * value.detach() for value in (learned.total, *(learned.parts[name] for name in names))]
            sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
        if scale != 1:
            for parameter in self.net.parameters():
                if parameter.grad is not None:
                    parameter.grad /= scale
        return sums

    def is_due(self, step: int) -> bool:
        """Return whether a validation follows."""
        return step % self.config.val_every == 0 or step == self.n_steps

    def review(self, where: Progress) -> None:
        """Validate, and keep the best weights.

        By the loss: the mean error of a few dozen windows hangs on how many of them are read at another beat. PhysNet
        had its least error after 100 of 1000 steps, by two windows of 60, and its least loss at the end.
        """
        if self.val is None:
            return
        state = self.state
        made = Moment(state.step - 1, self.n_steps)
        if self.config.norm_batches and made.share < self.learning.norms_stand_from:
            self._refresh_norms(made)
        val = self.validate(self.validated, self.val, self.config.val_windows, self.guess_bpm)
        state.last = {"step": state.step, **val}
        is_best = counts_for_best(self.learning, state.step, self.n_steps) and (
            state.best is None or state.last["loss"] < state.best["loss"]
        )
        if is_best:
            state.best = state.last
        self.log({"val": state.last})
        if self.rank == 0 and is_best and self.save_weights is not None:
            self.save_weights(self.run.checkpoints / BEST, self.validated, state.last)
        self.show(Progress(where.step, where.n_steps, where.loss, where.clips_per_s, where.eta_s, state.last))

    def _refresh_norms(self, made: Moment) -> None:
        """Make the running statistics of the validated net's batch norms anew, without dropout.

        They become the means over ``norm_batches`` batches, in float32, which the net reads as in a step of training:
        nets of rates at several paces. Those of parts that rested in the step that was made stay, for the parts that
        learned did so from what these give.
        """
        net, rates = self.validated.eval(), self.learning.rates
        rests = () if rates is None else tuple(prefix for prefix, factor in rates(made).items() if factor == 0)
        norms = [
            one
            for name, one in net.named_modules()
            if isinstance(one, nn.modules.batchnorm._BatchNorm) and not name.startswith(rests)
        ]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
            norm.train()
        with torch.no_grad():
            torch.manual_seed(NORM_SEED)  # of the paces; every step seeds anew
            for number in range(self.config.norm_batches):
                self.learn(net, self.draw_from(self.train, number, NORM_SEED), made)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def split_batch(batch: Batch, n: int) -> list[Batch]:
    """Return a batch in at most ``n`` parts of one size, the last of which may be smaller."""
    fields = [field.name for field in dataclasses.fields(batch)]
    size = math.ceil(len(batch.bvp) / n)
    parts = zip(*(getattr(batch, name).split(size) for name in fields), strict=True)
    return [Batch(**dict(zip(fields, part, strict=True))) for part in parts]


def counts_for_best(learning: Step, step: int, n_steps: int) -> bool:
    """Return whether a validation after ``step`` steps may choose the best weights.

    Of a net that learns in stages only those of the last stage do, for the net is not whole before. The end of training
    always counts, so that a run too short for its last stage has best weights as well.
    """
    return step == n_steps or Moment(step - 1, n_steps).share >= max(learning.stages, default=0.0)


def parameter_groups(net: nn.Module, learning: Step, n_steps: int) -> dict[str, list[nn.Parameter]]:
    """Return beginning of the names -> the parameters that share a learning rate, see ``Step.rates``."""
    if learning.rates is None:
        return {"": list(net.parameters())}
    groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in learning.rates(Moment(0, n_steps))}
    for name, parameter in net.named_parameters():
        homes = [prefix for prefix in groups if name.startswith(prefix)]
        if len(homes) != 1:
            raise ValueError(f"Parameter {name!r} fits {homes} of the groups {list(groups)}; it must fit one.")
        groups[homes[0]].append(parameter)
    return groups


def update_average(averaged: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the running mean towards ``net``, faster at first, so that the initial weights soon leave."""
    decay = min(decay, step / (step + 9))
    with torch.no_grad():
        means = averaged.state_dict()
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                means[name].lerp_(value, 1 - decay)
            else:
                means[name].copy_(value)
