"""The search: one ``while`` in which weights learn from one half of the subjects and the architecture from the other.

AutoHR, Eq. 2: the architecture shall be the one whose trained weights do best on recordings that they were not trained
on. Step by step, as DARTS and PC-DARTS do it: a step of the architecture (``SearchNet.architecture``) on the loss of
one half, then a step of the weights on that of the other. The architecture rests during the first epochs, for what
learns fastest would otherwise win before anything else has learned.

What a step does depends only on the parameters before it and on (seed, step), so a resumed search equals an
uninterrupted one; n processes under torchrun see the clips that one would have seen, and average their gradients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from autohr.errors import AutoHRError
from autohr.files import replacing, write_json
from autohr.lab.nets._genotype import Genotype, write_genotype
from autohr.lab.nets._inference import as_channels_last
from autohr.lab.runs import Run
from autohr.lab.search.space import (
    EDGES,
    METRICS,
    Budget,
    Costs,
    SearchNet,
    cost_of,
    count_skips,
    derive,
    describe_cell,
    entropies,
    strengths,
)
from autohr.lab.train.fit import (
    MAX_SKIPPED_IN_ROW,
    RESUME,
    FitConfig,
    Progress,
    Source,
    TrainingState,
    advice,
    ahead,
    decide_precision,
    draw_batch,
    in_precision,
    learning_rate,
    load_state,
    mean_over_processes,
    net_input,
    pick_device,
    save_state,
    stop_signals,
    validate,
    weights_are_finite,
)
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.steps import STEPS, Batch, Moment

if sys.platform == "win32":
    resource = None
else:
    import resource

KIND = "search"
"""In the config.json of a search's run."""
RESULT = "search.json"
GENOTYPE = "genotype.json"
"""Both in the run's results, and there only when the search is over."""

ALPHA_BETAS = (0.5, 0.999)
"""Of the architecture's Adam (PC-DARTS; AutoHR does not say, but has PC-DARTS's other numbers)."""
UNROLLED_STEP = 0.01
"""Length of the finite difference of the second order, over the gradient's (DARTS, Sec. 2.3, footnote)."""


@dataclass(frozen=True)
class SearchConfig:
    """How is searched. The defaults are the paper's where it states them (Appendix B), else PC-DARTS's."""

    epochs: int = 12
    steps_per_epoch: int | None = None
    """None: as many as it takes to see as many clips as lie side by side in the half that weights learn from."""
    warmup_epochs: int = 5
    """In which the architecture rests."""
    batch_size: int = 2
    """Clips of each half per step, over all processes together."""
    lr: float = 1e-4
    weight_decay: float = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the weights' learning rate; the architecture's is constant."""
    clip_norm: float = 5.0
    """Longest allowed gradient of the weights (PC-DARTS); 0 leaves it alone."""
    alpha_lr: float = 6e-4
    """Of alphas and betas."""
    alpha_weight_decay: float = 1e-3
    order: Literal[1, 2] = 1
    """2: through one step of the weights, as DARTS does at first (``unrolled_gradient``); four times the work."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """See ``FitConfig.precision``."""
    seed: int = 0
    """Decides the initial weights, alphas and betas, and every clip."""
    device: str = "cpu"
    budget_parameters: float | None = None
    """Most weights of the derived network."""
    budget_gflop_per_s: float | None = None
    """Most of its work for a second of video, in 1e9 FLOP."""
    budget_latency_ms_per_s: float | None = None
    """Most milliseconds of this machine for a second of video."""
    budget_weight: float = 1.0
    """What an expected cost of twice its budget adds to the architecture's loss. Ours: about what a network that reads
    every clip has over one that reads none."""
    collapse: Literal["stop", "warn"] = "stop"
    """What is done when the search falls for skips or for nothing (``find_collapse``); "stop" keeps the last cell
    before."""
    most_skips: int = 2
    """Skips that a sound cell has at most, of its six edges (DARTS+: two of eight)."""
    most_none: float = 0.5
    """Mean share of ``none`` on a sound cell's edges, at most. Ours."""
    patience: int = 2
    """Epochs in a row that must be unsound before "stop" stops. Ours: the first epoch after the rest is near chance,
    and one cell in forty that is drawn by chance has three skips."""
    val_windows: int = 0
    """Judge the supernet after each epoch on so many windows of the architecture's half; 0 does not."""
    checkpoint_every: int = 200
    """Steps between checkpoints to resume from; also written after each epoch."""
    log_every: int = 1
    workers: int = 1
    """Background threads that draw clips. Never changes the result."""
    prefetch: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be 0 to {self.epochs - 1}, under epochs.")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch={self.steps_per_epoch} must be at least 1, or left out.")
        if self.order == 2 and self.precision != "fp32":
            raise ValueError("order=2 takes differences of gradients, which bf16 rounds away. Use precision='fp32'.")
        for name in ("alpha_lr", "patience", *(f"budget_{metric}" for metric in METRICS)):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive.")
        for name in ("alpha_weight_decay", "budget_weight", "most_skips", "val_windows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
        if not 0 < self.most_none <= 1:
            raise ValueError(f"most_none={self.most_none} must lie in (0, 1].")
        for name, allowed in (("order", (1, 2)), ("collapse", ("stop", "warn"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(map(str, allowed))}.")
        self.as_fit(1)

    def as_fit(self, n_steps: int) -> FitConfig:
        """What the parts of the training loop want to know. Raises ValueError for what they refuse."""
        names = (
            "batch_size lr weight_decay schedule clip_norm precision seed device checkpoint_every log_every workers "
            "prefetch"
        )
        return FitConfig(
            steps=n_steps,
            val_windows=self.val_windows or None,
            **{name: getattr(self, name) for name in names.split()},
        )

    @property
    def most(self) -> dict[str, float]:
        """Metric of ``METRICS`` -> budget."""
        limits = {metric: getattr(self, f"budget_{metric}") for metric in METRICS}
        return {metric: float(limit) for metric, limit in limits.items() if limit is not None}


@dataclass(frozen=True)
class SearchResult:
    """What came of a call of ``search``."""

    step: int
    n_steps: int
    epochs: int
    """That have ended."""
    genotype: Genotype | None
    """None where a signal ended the search before its end."""
    stopped_by: str | None
    """Name of a signal, or "collapse"; None where the search ran to its end."""
    collapse: str | None
    """What was unsound at the end, if something was."""
    precision: str = "fp32"
    """Precision of the steps: fp32 or bf16."""
    n_skipped: int = 0
    """Steps that were left out because a gradient was not finite."""


def search(
    net: SearchNet,
    weight_half: Source,
    alpha_half: Source,
    config: SearchConfig,
    run: Run,
    *,
    costs: Costs,
    loss: LossConfig | None = None,
    name: str = "searched",
    origin: str = "A search.",
    guess_bpm: float = math.nan,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> SearchResult:
    """Search with ``net`` in place, from where ``run`` left off.

    Writes to ``run``: a log line of losses every ``log_every`` steps; after each epoch a line with the architecture,
    its entropies and the cell that it stands for, and that cell as results/genotype_epoch_NN.json; and, when it is
    over, results/genotype.json and results/search.json. SIGTERM and SIGINT end it after the current step, with a
    checkpoint; a second one kills. A step of the weights or of the architecture whose gradient is not finite is left
    out and logged.

    Args:
        weight_half, alpha_half: clips of different subjects.
        costs: of the derived network, for the budget and the log.
        name, origin: of the genotype, see ``Genotype``; the epoch is added.
        guess_bpm: for ``val_windows``, see ``fit``.
        say: told in words of the cell after each epoch.

    Raises:
        ValueError: a config that does not fit the machine.
        AutoHRError: the weights are not finite, or ``MAX_SKIPPED_IN_ROW`` steps in a row, or all, were left out; or no
            cell is within the budget.
        BadWeights: the run's resume.safetensors is damaged or belongs to another supernet.
    """
    loss, learning, space = loss or LossConfig(), STEPS["autohr"], net.space
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.batch_size % world:
        raise ValueError(f"batch_size={config.batch_size} cannot be shared evenly by {world} processes.")
    per_epoch = config.steps_per_epoch or max(1, math.ceil(weight_half.n_windows / config.batch_size))
    n_steps = config.epochs * per_epoch
    as_fit = config.as_fit(n_steps)
    device = pick_device(config.device)
    budget = Budget(config.most, costs)
    op_names = [str(op) for op in space.ops]

    def cell(after: str) -> Genotype:
        return derive(net.alphas, net.betas, space.ops, space.kind, name, f"{origin} {after}", budget)

    cell("To learn at once whether any cell is within the budget.")
    net.to(device=device)
    as_channels_last(net)
    weights, architecture = net.weights(), net.architecture()
    # One optimiser, for one state to save: each group has its own numbers, and rests where it has no gradient.
    optimiser = torch.optim.Adam(
        [
            {"params": weights, "lr": config.lr, "weight_decay": config.weight_decay},
            {
                "params": architecture,
                "lr": config.alpha_lr,
                "weight_decay": config.alpha_weight_decay,
                "betas": ALPHA_BETAS,
            },
        ]
    )
    state = TrainingState()
    resume_path = run.checkpoints / RESUME
    if resume_path.exists():
        state = load_state(resume_path, net, None, optimiser)
    step, n_skipped, in_row = state.step, state.n_skipped, state.n_skipped_in_row
    kept = state.best or dict[str, Any](_NOTHING_KEPT)
    if world > 1:
        dist.barrier()
        for value in (*net.parameters(), *net.buffers()):
            dist.broadcast(value.data, 0)
    if rank == 0:
        run.keep_log(lambda record: record.get("step", 0) <= step)
    earlier_s = max((record.get("wall_s", 0.0) for record in run.read_log()), default=0.0)

    def work(tried: nn.Module, in_bf16: bool) -> Tensor:
        batch = draw_batch(weight_half, as_fit, step, rank, world, half=[0])
        as_said = in_precision(tried, dataclasses.replace(as_fit, precision="bf16" if in_bf16 else "fp32"), device)
        return learning.learn(as_said, net_input(batch.frames, device), batch, loss, Moment(step, n_steps)).total

    works = [work] if step < n_steps and not kept["over"] else []
    precision, note = decide_precision(state.precision or config.precision, net, works, device, world, "search")
    as_fit = dataclasses.replace(as_fit, precision=precision)
    if note is not None and rank == 0:
        # Of the step to come, so that a run that begins again does not keep the line.
        run.log({"step": step + 1, "precision": precision, "note": note})
        if progress is not None:
            progress(Progress(step, n_steps, math.nan, 0.0, 0.0, note=note))
    forward = in_precision(net, as_fit, device)
    first_step, started_s = step, time.monotonic()

    def total_loss(batch: Batch, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        learned = learning.learn(forward, net_input(batch.frames, device), batch, loss, moment)
        return learned.total, dict(learned.parts)

    def alpha_loss(batch: Batch, moment: Moment) -> Tensor:
        total, _ = total_loss(batch, moment)
        return total + config.budget_weight * budget.penalty(*architecture) if budget.most else total

    jobs = (
        partial(_draw_both, weight_half, alpha_half, as_fit, s, s >= config.warmup_epochs * per_epoch, rank, world)
        for s in range(step, n_steps)
    )
    with stop_signals() as stop, contextlib.closing(ahead(jobs, config.workers, config.prefetch)) as batches:
        stopped = False
        while step < n_steps and not stopped and not kept["over"]:
            weight_batch, alpha_batch = next(batches)
            moment = Moment(step, n_steps)
            lr = learning_rate(step, n_steps, as_fit)
            optimiser.param_groups[0]["lr"] = lr
            buffers = [buffer.clone() for buffer in net.buffers()]
            net.train()

            alpha_total = None
            if alpha_batch is not None:
                # The running means of batch norm are those of the half that weights learn from.
                with keeping_buffers(net):
                    if config.order == 1:
                        alpha_total = alpha_loss(alpha_batch, moment)
                        gradients = list(torch.autograd.grad(alpha_total, architecture))
                    else:
                        alpha_total, gradients = unrolled_gradient(
                            lambda batch=weight_batch, at=moment: total_loss(batch, at)[0],  # type: ignore[misc]
                            partial(alpha_loss, alpha_batch, moment),
                            weights,
                            architecture,
                            lr=lr,
                            weight_decay=config.weight_decay,
                            average=partial(_average, world=world),
                        )
                gradients = _average(gradients, world)
                alpha_norm = float(nn.utils.get_total_norm(gradients))
                _take(architecture, gradients)
                if math.isfinite(alpha_norm):
                    optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            else:
                alpha_norm = 0.0

            total_of, parts_of = total_loss(weight_batch, moment)
            _take(weights, _average(torch.autograd.grad(total_of, weights), world))
            grad_norm = float(nn.utils.clip_grad_norm_(weights, config.clip_norm or math.inf))
            total, of_alphas, n_stop, n_bad, *values = mean_over_processes(
                [
                    total_of,
                    torch.zeros(()) if alpha_total is None else alpha_total,
                    torch.tensor(float(bool(stop))),
                    torch.tensor(float(not math.isfinite(grad_norm))),
                    *(parts_of[part] for part in learning.parts),
                ],
                device,
                world,
            )
            # From sums over the processes, so that all of them leave out the same steps.
            weights_fit = n_bad == 0 and math.isfinite(total)
            step += 1
            if weights_fit:
                optimiser.step()
            else:
                with torch.no_grad():
                    for buffer, before in zip(net.buffers(), buffers, strict=True):
                        buffer.copy_(before)
            optimiser.zero_grad(set_to_none=True)
            skipped = not (weights_fit and math.isfinite(of_alphas) and math.isfinite(alpha_norm))
            in_row = in_row + 1 if skipped else 0
            said = f"loss {total:g}, of the architecture {of_alphas:g}, gradients {grad_norm:g} and {alpha_norm:g}"
            if skipped:
                n_skipped += 1
                if in_row >= MAX_SKIPPED_IN_ROW or n_skipped == n_steps or not weights_are_finite(net):
                    raise AutoHRError(
                        f"The search stopped at step {step - 1}: {said}; {in_row} in a row could not be "
                        f"used. {advice(as_fit, lr, 'search')} The last checkpoint stands."
                    )

            stopped = n_stop > 0
            at_epoch = step % per_epoch == 0
            gone_s = time.monotonic() - started_s
            clips_per_s = (step - first_step) * config.batch_size / max(gone_s, 1e-9)
            where = Progress(step, n_steps, total, clips_per_s, (n_steps - step) * config.batch_size / clips_per_s)
            if rank == 0 and skipped:
                run.log({"step": step, "skipped": n_skipped, "note": said, "wall_s": round(earlier_s + gone_s, 3)})
                if progress is not None:
                    note = f"left out, as it is not finite: {said}; {n_skipped} left out so far"
                    progress(dataclasses.replace(where, note=note))
            elif rank == 0 and (step % config.log_every == 0 or at_epoch or stopped):
                run.log(
                    {
                        "step": step,
                        "loss": total,
                        "alpha_loss": None if alpha_total is None else of_alphas,
                        **dict(zip(learning.parts, values, strict=True)),
                        "grad_norm": grad_norm,
                        "lr": lr,
                        "clips_per_s": round(clips_per_s, 3),
                        "wall_s": round(earlier_s + gone_s, 3),
                    }
                )
                if progress is not None:
                    progress(where)

            if at_epoch:
                epoch = step // per_epoch
                val = None
                if config.val_windows:
                    val = validate(net, alpha_half, as_fit, loss, guess_bpm, device, rank, world)
                genotype = cell(f"Its cell after epoch {epoch} of {config.epochs}.")
                why = find_collapse(genotype, net, config) if epoch > config.warmup_epochs else None
                kept = _judged(kept, epoch, genotype, why, config)
                if rank == 0:
                    run.log(_epoch_record(epoch, step, net, genotype, why, costs, val))
                    with replacing(run.results / f"genotype_epoch_{epoch:02d}.json") as aside:
                        write_genotype(aside, genotype)
                    if say is not None:
                        say(_in_words(epoch, config, net, genotype, why))
            # A signal that came during a long validation; alone, nobody else need agree.
            stopped = stopped or (world == 1 and bool(stop))
            if rank == 0 and (at_epoch or stopped or step % config.checkpoint_every == 0):
                state = TrainingState(step, kept, None, as_fit.precision, n_skipped, in_row)
                save_state(resume_path, net, None, optimiser, state)
        stopped_by = stop[0] if stop else ("another process" if stopped else None)

    epochs = step // per_epoch
    if step < n_steps and not kept["over"]:
        return SearchResult(step, n_steps, epochs, None, stopped_by, kept["why"], as_fit.precision, n_skipped)
    chosen = kept["sound"] if config.collapse == "stop" and kept["why"] and kept["sound"] else kept["now"]
    genotype = Genotype.from_dict(chosen["genotype"])
    over = "collapse" if kept["over"] else None
    result = SearchResult(step, n_steps, epochs, genotype, over, kept["why"], as_fit.precision, n_skipped)
    if rank == 0:
        wall_s = max((record.get("wall_s", 0.0) for record in run.read_log()), default=0.0)
        with replacing(run.results / GENOTYPE) as aside:
            write_genotype(aside, genotype)
        write_json(
            run.results / RESULT,
            {
                "genotype": genotype.as_dict(),
                "kind": space.kind,
                "ops": op_names,
                "edges": [list(edge) for edge in EDGES],
                "epochs": epochs,
                "wall_s": wall_s,
                "peak_memory_mib": peak_memory_mib(device),
                "stopped_by": result.stopped_by,
                "collapse": result.collapse,
                "notes": _notes(config, kept, chosen, space.n_sets),
                "seed": config.seed,
                "n_parameters_supernet": sum(weight.numel() for weight in weights),
                "cost": cost_of(genotype, costs),
                "n_processes": world,
                "precision": as_fit.precision,
                "n_skipped": n_skipped,
            },
        )
    return result


# Steps -----------------------------------------------------------------------------------------------------------


def unrolled_gradient(
    weight_loss: Callable[[], Tensor],
    alpha_loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    *,
    lr: float,
    weight_decay: float,
    average: Callable[[Sequence[Tensor]], list[Tensor]] = list,
) -> tuple[Tensor, list[Tensor]]:
    """The architecture's loss after one step of the weights, and its gradient through that step (DARTS, Eq. 6 to 8).

    The step is one of plain gradient descent with ``lr`` and ``weight_decay``, whatever optimiser takes the real ones.
    The second derivatives are a finite difference of gradients at weights moved to both sides, ``UNROLLED_STEP`` far.
    The weights are as before on return.

    Args:
        weight_loss, alpha_loss: work out the losses from the parameters as they are then.
        average: over processes.
    """
    before = [weight.detach().clone() for weight in weights]
    slopes = average(torch.autograd.grad(weight_loss(), weights))

    def place(direction: Sequence[Tensor], times: float) -> None:
        with torch.no_grad():
            for weight, was, along in zip(weights, before, direction, strict=True):
                weight.copy_(was + times * along)

    try:
        decayed = [slope + weight_decay * was for slope, was in zip(slopes, before, strict=True)]
        place(decayed, -lr)
        total = alpha_loss()
        both = average(torch.autograd.grad(total, [*architecture, *weights]))
        direct, towards = both[: len(architecture)], both[len(architecture) :]
        length = float(nn.utils.get_total_norm(towards))
        if length == 0 or not math.isfinite(length):
            return total.detach(), direct
        epsilon = UNROLLED_STEP / length
        sides = []
        for sign in (1, -1):
            place(towards, sign * epsilon)
            sides.append(average(torch.autograd.grad(weight_loss(), architecture)))
    finally:
        place(before, 0.0)
    mixed = [(ahead_ - behind) / (2 * epsilon) for ahead_, behind in zip(*sides, strict=True)]
    return total.detach(), [one - lr * two for one, two in zip(direct, mixed, strict=True)]


@contextlib.contextmanager
def keeping_buffers(net: nn.Module) -> Iterator[None]:
    """Buffers are afterwards what they were before."""
    before = [buffer.clone() for buffer in net.buffers()]
    try:
        yield
    finally:
        for buffer, was in zip(net.buffers(), before, strict=True):
            buffer.copy_(was)


def _draw_both(
    weight_half: Source, alpha_half: Source, config: FitConfig, step: int, awake: bool, rank: int, world: int
) -> tuple[Batch, Batch | None]:
    of_weights = draw_batch(weight_half, config, step, rank, world, half=[0])
    return of_weights, draw_batch(alpha_half, config, step, rank, world, half=[1]) if awake else None


def _take(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _average(gradients: Sequence[Tensor], world: int) -> list[Tensor]:
    """Of all processes, in one message."""
    if world == 1:
        return list(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat / world, [gradient.numel() for gradient in gradients])
    return [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]


# Epochs ----------------------------------------------------------------------------------------------------------

_NOTHING_KEPT: dict[str, Any] = {"now": None, "sound": None, "why": None, "unsound_epochs": 0, "over": False}
"""What a search remembers of its epochs, beside parameters: the last cell, the last sound one, and what is wrong."""


def find_collapse(genotype: Genotype, net: SearchNet, config: SearchConfig) -> str | None:
    """Why the cell is unsound, in words; None of a sound one.

    Skips and nothing learn without learning, and so tend to win early or late (DARTS+, Liang et al. 2019). A cell is
    unsound with more than ``most_skips`` skips, or where ``none`` has more than ``most_none`` of an edge on average.
    """
    skips = count_skips(genotype)
    if skips > config.most_skips:
        return f"{skips} of the 6 edges of a cell are skips; at most {config.most_skips} are sound"
    shares, _ = strengths(net.alphas.detach().double(), net.betas.detach().double())
    nothing = next(index for index, op in enumerate(net.space.ops) if op.op == "none")
    share = float(shares[:, :, nothing].mean(1).max())
    if share > config.most_none:
        return f"'none' has {share:.2f} of an edge on average; at most {config.most_none:g} is sound"
    return None


def _judged(
    kept: dict[str, Any], epoch: int, genotype: Genotype, why: str | None, config: SearchConfig
) -> dict[str, Any]:
    now = {"epoch": epoch, "genotype": genotype.as_dict()}
    awake = epoch > config.warmup_epochs
    unsound = kept["unsound_epochs"] + 1 if why else 0
    return {
        "now": now,
        "sound": now if awake and not why else kept["sound"],
        "why": why,
        "unsound_epochs": unsound,
        "over": config.collapse == "stop" and unsound >= config.patience,
    }


def _epoch_record(
    epoch: int,
    step: int,
    net: SearchNet,
    genotype: Genotype,
    why: str | None,
    costs: Costs,
    val: dict[str, float | None] | None,
) -> dict[str, Any]:
    ops, edges = strengths(net.alphas.detach().double(), net.betas.detach().double())
    alpha_entropy, beta_entropy = entropies(net.alphas, net.betas)
    cost = cost_of(genotype, costs)
    return {
        "epoch": epoch,
        "step": step,
        "alphas": net.alphas.tolist(),
        "betas": net.betas.tolist(),
        "op_strengths": ops.tolist(),
        "edge_strengths": edges.tolist(),
        "alpha_entropy": alpha_entropy,
        "beta_entropy": beta_entropy,
        "genotype": genotype.as_dict(),
        "skips": sum(edge.op == "skip" for cell in genotype.cells for node in cell for edge in node),
        "collapsed": why is not None,
        "collapse": why,
        "cost": {**cost, "parameters": round(cost["parameters"])},
        "val": val,
    }


def _in_words(epoch: int, config: SearchConfig, net: SearchNet, genotype: Genotype, why: str | None) -> str:
    of_ops, of_edges = entropies(net.alphas, net.betas)
    rests = " (the architecture rests)" if epoch <= config.warmup_epochs else ""
    lines = [
        f"epoch {epoch}/{config.epochs}{rests}: undecided {of_ops:.3f} in operations, {of_edges:.3f} in edges",
        *(f"  {line}" for line in describe_cell(genotype)),
    ]
    return "\n".join([*lines, f"  unsound: {why}"] if why else lines)


def _notes(config: SearchConfig, kept: dict[str, Any], chosen: dict[str, Any], n_sets: int) -> list[str]:
    notes = []
    if kept["why"]:
        notes.append(f"Unsound at the end: {kept['why']}.")
        if chosen is not kept["now"]:
            notes.append(f"The cell is that of epoch {chosen['epoch']}, the last sound one.")
        elif config.collapse == "stop":
            notes.append("No epoch after the rest was sound, so the cell is that of the end.")
    if config.order == 2:
        notes.append("Second order: through one step of plain gradient descent with the weights' learning rate.")
    if config.val_windows:
        notes.append("Validation is of the supernet, on the half that the architecture learned from.")
    if n_sets > 1:
        notes.append("Four cells, one for each block.")
    return notes


def peak_memory_mib(device: torch.device) -> float | None:
    """Most memory that this process has held: of the GPU where one is used, else of all; None on Windows.

    Of all counts the pages of mapped recordings, too, which the system takes back when it needs them.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if resource is None:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (2**20 if sys.platform == "darwin" else 2**10), 1)
