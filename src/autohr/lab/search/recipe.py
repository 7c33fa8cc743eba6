"""A search recipe is a TOML file that says what is searched and how; ``search`` follows it to a genotype.

    [space]                   which operations, one cell or four, how wide
    [data] [crop] [augment] [loss]    as in a recipe of training (``train/recipe.py``)
    [search]                  how long, how fast, within which budget

The subjects that [data] holds out take no part, so that what comes out can be judged on them. The others are cut in
two halves, subject by subject: weights learn from one, the architecture from the other.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from autohr.errors import BadRecipe
from autohr.files import read_json, write_json
from autohr.frontend import CropConfig
from autohr.lab.datasets.augment import AugmentConfig
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.clips import ClipSource, at_clock
from autohr.lab.datasets.folds import k_folds
from autohr.lab.runs import create_run, open_run
from autohr.lab.search import optimiser
from autohr.lab.search.optimiser import GENOTYPE, KIND, SearchConfig, SearchResult
from autohr.lab.search.space import Costs, SearchNet, SpaceConfig, measure_costs
from autohr.lab.train.fit import Progress, join_processes, print_progress
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.recipe import (
    DATA,
    DataConfig,
    Recipe,
    long_enough,
    open_recordings,
    parse_as,
    read_table,
    refuse_other_data,
    split_recordings,
)

COSTS = "costs.json"
"""In a run's results: what every operation costs. A search that goes on uses the times that it began with."""


@dataclass(frozen=True)
class SearchRecipe:
    """One search, as its TOML file has it."""

    title: str = ""
    """One line: what this searches, and why."""
    space: SpaceConfig = field(default_factory=SpaceConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(n_frames=128))
    crop: CropConfig = field(default_factory=CropConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        if self.data.size_px > self.crop.size_px:
            raise ValueError(f"data.size_px={self.data.size_px} is larger than crop.size_px={self.crop.size_px}.")

    def as_training(self) -> Recipe:
        """The recipe of a training on the same data, for what both read alike."""
        return Recipe(
            net="autohr", title=self.title, data=self.data, crop=self.crop, augment=self.augment, loss=self.loss
        )


@dataclass(frozen=True)
class Found:
    """Where a search left what."""

    run: Path
    genotype: Path
    """The file; it is there when the search is over."""
    search: SearchResult


def read_search_recipe(path: Path, overrides: Sequence[str] = ()) -> SearchRecipe:
    """The recipe in a TOML file, after ``overrides`` such as "search.lr=3e-4". Raises BadRecipe as ``read_recipe``."""
    return parse_as(SearchRecipe, read_table(path, overrides), str(path))


def search(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Search by a recipe; alone, or as one of the processes that torchrun started.

    A run that was stopped or killed goes on by the same call. See ``optimiser.search`` for what it writes there.

    Args:
        out: the run folder; runs/<name of the recipe> if None.
        resume: the run must exist already.
        overwrite: a run made with another recipe, or this one, is removed first.

    Raises:
        BadRecipe: see ``read_recipe`` and ``create_run``.
        BadRecording: the recordings are not there; the message names the command that makes them.
        AutoHRError: the search diverged, no cell is within the budget, or ``resume`` found no run.
        ValueError: ``resume`` together with ``overwrite``.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other; give one of them.")
    recipe = read_search_recipe(recipe_path, overrides)
    _refuse_unfit(recipe, recipe_path)
    config = recipe.search
    torch.manual_seed(config.seed)
    net = SearchNet(recipe.space)
    recordings = open_recordings(recipe.as_training())
    searching, held_out = split_recordings(recipe.as_training(), recordings)
    weight_clips, alpha_clips = (_clips(recipe, part) for part in halves(recipe, searching))
    too_short = long_enough(list(alpha_clips.recordings), recipe.data.n_frames)[1] if config.val_windows else {}
    if too_short:
        where, why = next(iter(too_short.items()))
        raise BadRecipe(f"{recipe_path}: search.val_windows={config.val_windows}, but {where} {why}. Set it to 0.")
    folder = out or Path("runs") / recipe_path.stem

    with join_processes(config.device) as rank:
        if rank == 0:
            if resume:
                open_run(folder)
            run = create_run(folder, {"kind": KIND, "recipe": dataclasses.asdict(recipe)}, overwrite=overwrite)
            data = {
                "weights": [recording.recording_id for recording in weight_clips.recordings],
                "architecture": [recording.recording_id for recording in alpha_clips.recordings],
                "left_out": {
                    **weight_clips.left_out,
                    **alpha_clips.left_out,
                    **{recording.recording_id: "held out by [data], to judge what comes out" for recording in held_out},
                },
            }
            refuse_other_data(run, data)
            write_json(run.results / DATA, data)
            if not (run.results / COSTS).exists():
                measured = measure_costs(
                    recipe.space,
                    recipe.data.size_px,
                    recipe.data.n_frames,
                    latency=config.budget_latency_ms_per_s is not None,
                )
                write_json(run.results / COSTS, measured.as_dict())
        if dist.is_initialized():
            dist.barrier()
        if rank != 0:
            run = open_run(folder)
        result = optimiser.search(
            net,
            weight_clips,
            alpha_clips,
            config,
            run,
            costs=Costs.from_dict(read_json(run.results / COSTS)),
            loss=recipe.loss,
            name=folder.resolve().name,
            origin=_origin(recipe, recipe_path),
            guess_bpm=float(np.mean([np.nanmean(recording.hr_bpm) for recording in weight_clips.recordings])),
            progress=progress,
            say=say if rank == 0 else None,
        )
    return Found(folder, folder / "results" / GENOTYPE, result)


def halves(
    recipe: SearchRecipe, searching: list[CachedRecording]
) -> tuple[list[CachedRecording], list[CachedRecording]]:
    """(for weights, for the architecture): about as many recordings on both sides, no subject on both.

    Decided by data.split_seed. Raises BadRecipe where there is only one subject.
    """
    try:
        return k_folds(searching, 2, recipe.data.split_seed)[0]
    except ValueError:
        raise BadRecipe(
            "[data] leaves one subject to search with; weights and architecture need different ones. Prepare more."
        ) from None


def say_epoch(line: str) -> None:
    """On stderr, beside the progress."""
    print(line, file=sys.stderr, flush=True)


def _clips(recipe: SearchRecipe, recordings: list[CachedRecording]) -> ClipSource:
    data = recipe.data
    clock = (data.least_fps or 0.0, data.most_fps or math.inf)
    return ClipSource(
        [at_clock(one, *clock) for one in recordings],
        data.n_frames,
        data.size_px,
        recipe.augment,
        needs_bvp=recipe.loss.time_weight > 0,
    )


def _origin(recipe: SearchRecipe, recipe_path: Path) -> str:
    space = recipe.space
    return (
        f"Found by a search of autohr, not the published cell: recipe {recipe_path.stem}, {space.kind}, "
        f"{'with' if space.tdc else 'without'} TDC, on {', '.join(recipe.data.datasets)}, seed {recipe.search.seed}."
    )


def _refuse_unfit(recipe: SearchRecipe, recipe_path: Path) -> None:
    """What this machine, or this number of processes, cannot do."""
    if recipe.search.device == "cuda" and not torch.cuda.is_available():
        raise BadRecipe(f"{recipe_path}: search.device is 'cuda', but torch sees no GPU here. Set search.device=cpu.")
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.search.batch_size % n_processes:
        raise BadRecipe(
            f"{recipe_path}: search.batch_size={recipe.search.batch_size} cannot be shared evenly by {n_processes} "
            "processes."
        )
