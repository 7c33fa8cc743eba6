"""The search: weights learn from one half of the subjects, the architecture from the other.

AutoHR, Eq. 2: the architecture shall be the one whose trained weights do best on recordings that they were not trained
on. Step by step, as in DARTS and PC-DARTS: a step of the architecture (``SearchNet.architecture``) on the loss of one
half, then a step of the weights on that of the other. The architecture rests during the first epochs, for otherwise the
operations that learn fastest win before any other has learned.

The steps are taken by the loop of ``train/loop.py``, so a resumed search equals an uninterrupted one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from autohr.files import replacing, write_json
from autohr.lab.nets._genotype import Genotype, write_genotype
from autohr.lab.recipes.parsing import STRICT
from autohr.lab.runs import Run
from autohr.lab.search.selection import select_by_perturbation
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
    entropy_penalty,
    strengths,
)
from autohr.lab.train.batches import Source
from autohr.lab.train.loop import Loop, LoopConfig, Progress, Taken, copy_buffers, restore_buffers
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.processes import average_gradients, mean_over_processes
from autohr.lab.train.steps import STEPS, Batch, Moment

if sys.platform == "win32":
    resource = None
else:
    import resource

KIND = "search"
"""Kind of run in the config.json of a search."""
RESULT = "search.json"
"""File in the run's results; like ``GENOTYPE`` there only when the search is over."""
GENOTYPE = "genotype.json"

ALPHA_BETAS = (0.5, 0.999)
"""Betas of the architecture's Adam (PC-DARTS; AutoHR does not say, but has PC-DARTS's other numbers)."""
UNROLLED_STEP = 0.01
"""Length of the finite difference of the second order, over the gradient's norm (DARTS, Sec. 2.3, footnote)."""


@checked(frozen=True, config=STRICT)
class SearchConfig(LoopConfig):
    """Settings of a search. The defaults are the paper's where it states them (Appendix B), else PC-DARTS's."""

    epochs: PositiveInt = 12
    steps_per_epoch: PositiveInt | None = None
    """Steps of an epoch; None: as many as it takes to see as many clips as lie side by side in the half that weights
    learn from."""
    warmup_epochs: NonNegativeInt = 5
    """Epochs during which the architecture rests."""
    batch_size: PositiveInt = 2
    """Clips of each half per step, over all processes together."""
    clip_norm: NonNegativeFloat = 5.0
    """Largest norm of the weights' gradient (PC-DARTS); 0 leaves it alone."""
    alpha_lr: PositiveFloat = 6e-4
    """Learning rate of alphas and betas; constant."""
    alpha_weight_decay: NonNegativeFloat = 1e-3
    order: Literal[1, 2] = 1
    """Order of the architecture's gradient. 2 goes through one step of the weights, as DARTS does at first
    (``unrolled_gradient``); four times the work."""
    budget_parameters: PositiveFloat | None = None
    """Largest number of weights of the derived network."""
    budget_gflop_per_s: PositiveFloat | None = None
    """Largest work of the derived network for a second of video, in 1e9 FLOP."""
    budget_latency_ms_per_s: PositiveFloat | None = None
    """Largest time on this machine for a second of video, in milliseconds."""
    budget_weight: NonNegativeFloat = 1.0
    """Addition to the architecture's loss at an expected cost of twice its budget. Chosen by us: about the difference
    in loss between a network that reads every clip and one that reads none."""
    collapse: Literal["stop", "warn"] = "stop"
    """Action when the cell is unsound (``find_collapse``); "stop" keeps the last sound one."""
    most_skips: NonNegativeInt = 2
    """Largest number of skips in a sound cell, of its six edges (DARTS+: two of eight)."""
    most_none: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest mean share of ``none`` on a sound cell's edges. Chosen by us."""
    patience: PositiveInt = 2
    """Unsound epochs in a row after which "stop" stops. Chosen by us: the first epoch after the rest is near chance,
    and one random cell in forty has three skips."""
    entropy_weight: NonNegativeFloat = 0.0
    """Addition to the architecture's loss for undecided operations and edges (``entropy_penalty``, 0 to 2), risen to
    in a straight line after the rest. PC-DARTS has none."""
    beta_decay: NonNegativeFloat = 0.0
    """Addition to the architecture's loss for large alphas (the mean over edges of log sum exp alpha), risen to in the
    same way; up to 50 in beta-DARTS (Ye et al., CVPR 2022)."""
    bypass_end: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Factor, at the last step, of the channels that pass beside the operations, gone down to in a straight line after
    the rest. PC-DARTS leaves it at 1, but a derived cell has no such path; 0 closes it."""
    select: Literal["strength", "perturbation"] = "strength"
    """Choice of the cell at the end: by softmax(alpha) * softmax(beta), or of the operations and edges without which
    the supernet loses most (``search.selection``, DARTS-PT)."""
    select_batches: PositiveInt = 4
    """Batches of the architecture's half on which "perturbation" measures a loss."""
    val_windows: NonNegativeInt = 0
    """Windows of the architecture's half on which the supernet is validated after each epoch; 0 for none."""

    def __post_init__(self) -> None:
        if not self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be 0 to {self.epochs - 1}, under epochs.")
        if self.precision == "fp16":
            raise ValueError("precision='fp16' is for trainings: a search does not scale its losses. Use bf16 or fp32.")
        if self.order == 2 and self.precision != "fp32":
            raise ValueError("order=2 takes differences of gradients, which bf16 rounds away. Use precision='fp32'.")
        if self.select == "perturbation" and self.most:
            raise ValueError("select='perturbation' knows no budget. Use select='strength', or set no budget.")

    @property
    def most(self) -> dict[str, float]:
        """Metric of ``METRICS`` -> budget."""
        limits = {metric: getattr(self, f"budget_{metric}") for metric in METRICS}
        return {metric: float(limit) for metric, limit in limits.items() if limit is not None}


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a call of ``search``."""

    step: int
    n_steps: int
    epochs: int
    """Number of epochs that have ended."""
    genotype: Genotype | None
    """The cell; None where a signal ended the search before its end."""
    stopped_by: str | None
    """Name of a signal, or "collapse"; None where the search ran to its end."""
    collapse: str | None
    """Reason why the cell was unsound at the end, if it was."""
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
    its entropies and its cell, and that cell as results/genotype_epoch_NN.json; and, when it is over,
    results/genotype.json and results/search.json.

    Parameters
    ----------
    weight_half, alpha_half
        Clips of different subjects.
    costs
        Costs of the derived network, for the budget and the log.
    name, origin
        Fields of the genotype; the epoch is added to the origin.
    guess_bpm
        As for ``fit``; needed with ``val_windows``.
    say
        Called with a description of the cell after each epoch.

    Raises
    ------
    ValueError
        The config does not fit the machine.
    AutoHRError
        The search diverged, see ``Loop.go``; or no cell is within the budget.
    BadWeights
        The run's resume.safetensors is damaged or belongs to another supernet.
    """
    per_epoch = config.steps_per_epoch or max(1, math.ceil(weight_half.n_windows / config.batch_size))
    loop = _Search(net, config, run, config.epochs * per_epoch, STEPS["autohr"], loss or LossConfig(), progress)
    loop.weight_half, loop.alpha_half, loop.per_epoch = weight_half, alpha_half, per_epoch
    loop.budget, loop.guess_bpm = Budget(config.most, costs, net.space.n_inputs), guess_bpm
    loop.name, loop.origin, loop.say = name, origin, say
    loop.derive_cell("A check that any cell is within the budget.")
    loop.prepare()
    stopped_by = loop.go()
    state, kept = loop.state, loop.kept
    epochs = state.step // per_epoch
    ending = (kept["why"], loop.precision, state.n_skipped)
    if state.step < loop.n_steps and not kept["over"]:
        return SearchResult(state.step, loop.n_steps, epochs, None, stopped_by, *ending)
    chosen = kept["sound"] if config.collapse == "stop" and kept["why"] and kept["sound"] else kept["now"]
    genotype = Genotype.from_dict(chosen["genotype"])
    if config.select == "perturbation" and not kept["over"]:
        genotype = loop.select_cell()
    stopped_by = "collapse" if kept["over"] else None
    if loop.rank == 0:
        with replacing(run.results / GENOTYPE) as aside:
            write_genotype(aside, genotype)
        content = {
            "genotype": genotype.as_dict(),
            "kind": net.space.kind,
            "ops": [str(op) for op in net.space.ops],
            "edges": [list(edge) for edge in EDGES],
            "epochs": epochs,
            "wall_s": max((record.get("wall_s", 0.0) for record in run.read_log()), default=0.0),
            "peak_memory_mib": peak_memory_mib(loop.device),
            "stopped_by": stopped_by,
            "collapse": kept["why"],
            "notes": _notes(config, kept, chosen, net.space.n_sets),
            "seed": config.seed,
            "n_parameters_supernet": sum(weight.numel() for weight in loop.weights),
            "cost": cost_of(genotype, costs),
            "n_processes": loop.world,
            "precision": loop.precision,
            "n_skipped": state.n_skipped,
        }
        write_json(run.results / RESULT, content)
    return SearchResult(state.step, loop.n_steps, epochs, genotype, stopped_by, *ending)


# Steps -----------------------------------------------------------------------------------------------------------


class _Search(Loop):
    """Steps of a search: one of the architecture, once it no longer rests, and one of the weights.

    ``state.best`` holds what a search keeps of its epochs: the last cell, the last sound one, and what is wrong.
    """

    section, subject = "search", "The search"
    config: SearchConfig
    net: SearchNet
    weight_half: Source
    alpha_half: Source
    per_epoch: int
    budget: Budget
    guess_bpm: float
    name: str
    origin: str
    say: Callable[[str], None] | None

    def prepare(self) -> None:
        """Make the optimiser, and load the checkpoint."""
        net, config = self.net, self.config
        self.weights, self.architecture = net.weights(), net.architecture()
        # One optimiser, for one state to save: each group has its own numbers, and rests where it has no gradient.
        alphas = {"lr": config.alpha_lr, "weight_decay": config.alpha_weight_decay, "betas": ALPHA_BETAS}
        self.optimiser = torch.optim.Adam(
            [
                {"params": self.weights, "lr": config.lr, "weight_decay": config.weight_decay},
                {"params": self.architecture, **alphas},
            ]
        )
        self.load()
        if self.state.best is None:
            self.state.best = {"now": None, "sound": None, "why": None, "unsound_epochs": 0, "over": False}
        if self.world > 1:
            for value in (*net.parameters(), *net.buffers()):
                dist.broadcast(value.data, 0)

    @property
    def kept(self) -> dict[str, Any]:
        """Memory of the epochs so far."""
        assert self.state.best is not None
        return self.state.best

    def derive_cell(self, after: str) -> Genotype:
        """Return the cell that the architecture stands for now; ``after`` ends its origin."""
        net, space = self.net, self.net.space
        origin = f"{self.origin} {after}"
        return derive(net.alphas, net.betas, space.ops, space.kind, self.name, origin, self.budget, space.n_inputs)

    def pressure(self, step: int) -> float:
        """Return how far the search is past its rest, 0 to 1."""
        rest = self.config.warmup_epochs * self.per_epoch
        return min(1.0, max(0.0, (step - rest) / max(1, self.n_steps - 1 - rest)))

    def select_cell(self) -> Genotype:
        """Return the cell of the operations and edges without which the supernet loses most."""
        net, config = self.net, self.config
        net.passing = config.bypass_end
        # Steps that no training has: the batches are the same for all operations, and new to the supernet.
        batches = [self.draw_from(self.alpha_half, self.n_steps + i, 1) for i in range(config.select_batches)]

        def loss() -> float:
            with torch.inference_mode():
                return float(np.mean([float(self.learn(self.forward, batch, Moment(1, 1)).total) for batch in batches]))

        buffers = copy_buffers(net)
        cells = select_by_perturbation(net, loss, np.random.default_rng(config.seed))
        restore_buffers(net, buffers)
        return Genotype(self.name, net.space.kind, cells, f"{self.origin} Selected by perturbation at its end.")

    def draw(self, step: int) -> tuple[Batch, Batch | None]:
        """Draw a batch of each half; none for the architecture while it rests."""
        rests = step < self.config.warmup_epochs * self.per_epoch
        of_weights = self.draw_from(self.weight_half, step, 0)
        return of_weights, None if rests else self.draw_from(self.alpha_half, step, 1)

    def take_step(self, batch: Batch, other: Batch | None, moment: Moment, lr: float) -> Taken:
        """Make a step of the architecture, if it does not rest, and one of the weights."""
        self.optimiser.param_groups[0]["lr"] = lr
        pressure = self.pressure(moment.step)
        self.net.passing = 1 - pressure * (1 - self.config.bypass_end)
        buffers = copy_buffers(self.net)
        alpha_total, alpha_norm = torch.zeros(()), 0.0
        if other is not None:
            alpha_total, gradients = self._architecture_gradient(batch, other, moment, lr)
            # The running means of batch norm are those of the half that weights learn from.
            restore_buffers(self.net, buffers)
            alpha_norm = float(nn.utils.get_total_norm(gradients))
            self._set_gradients(self.architecture, gradients)
            if math.isfinite(alpha_norm):
                self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)

        learned = self.learn(self.forward, batch, moment)
        self._set_gradients(self.weights, average_gradients(torch.autograd.grad(learned.total, self.weights)))
        grad_norm = float(nn.utils.clip_grad_norm_(self.weights, self.config.clip_norm or math.inf))
        # Means over the processes, so that all of them leave out the same steps.
        is_bad = float(not math.isfinite(grad_norm))
        names = self.learning.parts
        total, alpha_loss, n_bad, *values = mean_over_processes(
            [learned.total, alpha_total, is_bad, *(learned.parts[name] for name in names)], self.device
        )
        weights_fit = n_bad == 0 and math.isfinite(total)
        if weights_fit:
            self.optimiser.step()
        else:
            restore_buffers(self.net, buffers)
        self.optimiser.zero_grad(set_to_none=True)
        skipped = not (weights_fit and math.isfinite(alpha_loss) and math.isfinite(alpha_norm))
        parts = {"alpha_loss": None if other is None else alpha_loss, **dict(zip(names, values, strict=True))}
        summary = f"loss {total:g}, of the architecture {alpha_loss:g}, gradients {grad_norm:g} and {alpha_norm:g}"
        return Taken(total, parts, grad_norm, skipped, summary)

    def _architecture_gradient(
        self, batch: Batch, other: Batch, moment: Moment, lr: float
    ) -> tuple[Tensor, list[Tensor]]:
        def weight_loss() -> Tensor:
            return self.learn(self.forward, batch, moment).total

        def alpha_loss() -> Tensor:
            config, (alphas, betas) = self.config, self.architecture
            total = self.learn(self.forward, other, moment).total
            if self.budget.most:
                total = total + config.budget_weight * self.budget.penalty(alphas, betas)
            rising, n_inputs = self.pressure(moment.step), self.net.space.n_inputs
            if config.entropy_weight:
                total = total + rising * config.entropy_weight * entropy_penalty(alphas, betas, n_inputs)
            if config.beta_decay:
                total = total + rising * config.beta_decay * torch.logsumexp(alphas, -1).mean()
            return total

        if self.config.order == 2:
            decay = self.config.weight_decay
            total, gradients = unrolled_gradient(
                weight_loss, alpha_loss, self.weights, self.architecture, lr=lr, weight_decay=decay
            )
        else:
            total = alpha_loss()
            gradients = list(torch.autograd.grad(total, self.architecture))
        return total, average_gradients(gradients)

    @staticmethod
    def _set_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    def is_due(self, step: int) -> bool:
        """Return whether an epoch has ended."""
        return step % self.per_epoch == 0

    def is_over(self) -> bool:
        """Return whether the search has stopped because its cells were unsound."""
        return bool(self.kept["over"])

    def review(self, where: Progress) -> None:
        """Derive the cell after an epoch, judge it, and log both."""
        config, net, kept = self.config, self.net, self.kept
        epoch = self.state.step // self.per_epoch
        val = self.validate(net, self.alpha_half, config.val_windows, self.guess_bpm) if config.val_windows else None
        genotype = self.derive_cell(f"Its cell after epoch {epoch} of {config.epochs}.")
        is_awake = epoch > config.warmup_epochs
        why = find_collapse(genotype, net, config) if is_awake else None
        now = {"epoch": epoch, "genotype": genotype.as_dict()}
        unsound_epochs = kept["unsound_epochs"] + 1 if why else 0
        self.state.best = {
            "now": now,
            "sound": now if is_awake and not why else kept["sound"],
            "why": why,
            "unsound_epochs": unsound_epochs,
            "over": config.collapse == "stop" and unsound_epochs >= config.patience,
        }
        if self.rank != 0:
            return
        ops, edges = strengths(net.alphas.detach().double(), net.betas.detach().double(), net.space.n_inputs)
        alpha_entropy, beta_entropy = entropies(net.alphas, net.betas, net.space.n_inputs)
        cost = cost_of(genotype, self.budget.costs)
        self.log(
            {
                "epoch": epoch,
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
        )
        with replacing(self.run.results / f"genotype_epoch_{epoch:02d}.json") as aside:
            write_genotype(aside, genotype)
        if self.say is not None:
            rests = "" if is_awake else " (the architecture rests)"
            first = f"undecided {alpha_entropy:.3f} in operations, {beta_entropy:.3f} in edges"
            lines = [
                f"epoch {epoch}/{config.epochs}{rests}: {first}",
                *(f"  {line}" for line in describe_cell(genotype)),
            ]
            self.say("\n".join([*lines, f"  unsound: {why}"] if why else lines))


def unrolled_gradient(
    weight_loss: Callable[[], Tensor],
    alpha_loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    *,
    lr: float,
    weight_decay: float,
) -> tuple[Tensor, list[Tensor]]:
    """Return the architecture's loss after one step of the weights, and its gradient through that step.

    DARTS, Eq. 6 to 8. The step is one of plain gradient descent with ``lr`` and ``weight_decay``, whatever optimiser
    takes the real ones. The second derivatives are a finite difference of gradients at weights moved to both sides,
    ``UNROLLED_STEP`` far. The weights are as before on return. ``weight_loss`` and ``alpha_loss`` compute the losses
    from the parameters as they are then.
    """
    before = [weight.detach().clone() for weight in weights]
    slopes = average_gradients(torch.autograd.grad(weight_loss(), weights))

    def place(direction: Sequence[Tensor], times: float) -> None:
        with torch.no_grad():
            for weight, was, along in zip(weights, before, direction, strict=True):
                weight.copy_(was + times * along)

    try:
        decayed = [slope + weight_decay * was for slope, was in zip(slopes, before, strict=True)]
        place(decayed, -lr)
        total = alpha_loss()
        both = average_gradients(torch.autograd.grad(total, [*architecture, *weights]))
        direct, towards = both[: len(architecture)], both[len(architecture) :]
        length = float(nn.utils.get_total_norm(towards))
        if length == 0 or not math.isfinite(length):
            return total.detach(), direct
        epsilon = UNROLLED_STEP / length
        sides = []
        for sign in (1, -1):
            place(towards, sign * epsilon)
            sides.append(average_gradients(torch.autograd.grad(weight_loss(), architecture)))
    finally:
        place(before, 0.0)
    mixed = [(above - below) / (2 * epsilon) for above, below in zip(*sides, strict=True)]
    return total.detach(), [one - lr * two for one, two in zip(direct, mixed, strict=True)]


def find_collapse(genotype: Genotype, net: SearchNet, config: SearchConfig) -> str | None:
    """Return why the cell is unsound, in words; None for a sound one.

    ``skip`` and ``none`` need no learning, and so tend to win early or late (DARTS+, Liang et al. 2019). A cell is
    unsound with more than ``most_skips`` skips, or where ``none`` has more than ``most_none`` of an edge on average.
    """
    skips = count_skips(genotype)
    if skips > config.most_skips:
        n_edges = sum(map(len, genotype.cells[0]))
        return f"{skips} of the {n_edges} edges of a cell are skips; at most {config.most_skips} are sound"
    shares = torch.softmax(net.alphas.detach().double(), -1)[:, net.space.rows]
    nothing = next(index for index, op in enumerate(net.space.ops) if op.op == "none")
    share = float(shares[:, :, nothing].mean(1).max())
    if share > config.most_none:
        return f"'none' has {share:.2f} of an edge on average; at most {config.most_none:g} is sound"
    return None


def _notes(config: SearchConfig, kept: Mapping[str, Any], chosen: Mapping[str, Any], n_sets: int) -> list[str]:
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
    """Return the largest memory that this process has held: of the GPU where one is used, else in all.

    The latter includes pages of mapped recordings, which the system takes back when it needs them. None on Windows.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    if resource is None:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (2**20 if sys.platform == "darwin" else 2**10), 1)
