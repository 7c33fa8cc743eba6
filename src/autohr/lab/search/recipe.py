"""Recipes of searches: a TOML file that says what is searched and how; ``search`` follows it to a genotype.

    [space]                   which operations, one cell or four, how wide
    [data] [crop] [augment] [loss]    as in a recipe of a training (``train/recipe.py``)
    [search]                  how long, how fast, within which budget

The subjects that [data] holds out take no part, so that the cell can be evaluated on them. The others are cut in two
halves, subject by subject: weights learn from one, the architecture from the other.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from autohr.errors import BadRecipe, escape_controls
from autohr.files import read_json, write_json
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.folds import k_folds
from autohr.lab.recipes.files import read_recipe_table
from autohr.lab.recipes.parsing import parse_as
from autohr.lab.search import optimiser
from autohr.lab.search.optimiser import GENOTYPE, KIND, SearchConfig, SearchResult
from autohr.lab.search.space import Costs, SearchNet, SpaceConfig, measure_costs
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.processes import wait_for_all
from autohr.lab.train.recipe import (
    DataConfig,
    DataRecipe,
    begin_run,
    check_machine,
    clips_of,
    mean_rate,
    open_recordings,
    split_by_length,
    split_recordings,
)

COSTS = "costs.json"
"""File in a run's results: the cost of every operation. A resumed search uses the times that it began with."""


@dataclass(frozen=True, kw_only=True)
class SearchRecipe(DataRecipe):
    """One search, as in its TOML file."""

    space: SpaceConfig = field(default_factory=SpaceConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(n_frames=128))
    search: SearchConfig = field(default_factory=SearchConfig)


@dataclass(frozen=True)
class Found:
    """Files that a search left."""

    run: Path
    genotype: Path
    """The cell's file; it is there when the search is over."""
    search: SearchResult


def read_search_recipe(path: Path, overrides: Sequence[str] = ()) -> SearchRecipe:
    """Return the recipe in a TOML file, after ``overrides`` such as "search.lr=3e-4"; see ``read_recipe``."""
    return parse_as(SearchRecipe, read_recipe_table(path, overrides), str(path))


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

    A run that was stopped or killed goes on by the same call. See ``optimiser.search`` for what it writes there, and
    ``train`` for the parameters and errors.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other; give one of them.")
    recipe = read_search_recipe(recipe_path, overrides)
    config = recipe.search
    check_machine(config, "search", recipe_path)
    torch.manual_seed(config.seed)
    net = SearchNet(recipe.space)
    searching, held_out = split_recordings(recipe, open_recordings(recipe))
    weight_clips, alpha_clips = (clips_of(recipe, half, recipe.augment) for half in halves(recipe, searching))
    if config.val_windows:
        _, too_short = split_by_length(alpha_clips.recordings, recipe.data.n_frames)
        for where, why in too_short.items():
            raise BadRecipe(f"{recipe_path}: search.val_windows={config.val_windows}, but {where} {why}. Set it to 0.")
    data = {
        "weights": [recording.recording_id for recording in weight_clips.recordings],
        "architecture": [recording.recording_id for recording in alpha_clips.recordings],
        "left_out": {
            **weight_clips.left_out,
            **alpha_clips.left_out,
            **{recording.recording_id: "held out by [data], to judge what comes out" for recording in held_out},
        },
    }
    folder = out or Path("runs") / recipe_path.stem
    run_config = {"kind": KIND, "recipe": dataclasses.asdict(recipe)}
    with begin_run(folder, run_config, data, config.device, resume=resume, overwrite=overwrite) as (run, rank):
        if rank == 0 and not (run.results / COSTS).exists():
            size, latency = (recipe.data.size_px, recipe.data.n_frames), config.budget_latency_ms_per_s is not None
            write_json(run.results / COSTS, dataclasses.asdict(measure_costs(recipe.space, *size, latency=latency)))
        wait_for_all()
        space = recipe.space
        origin = (
            f"Found by a search of autohr, not the published cell: recipe {recipe_path.stem}, {space.kind}, "
            f"{'with' if space.tdc else 'without'} TDC, on {', '.join(recipe.data.datasets)}, seed {config.seed}."
        )
        result = optimiser.search(
            net,
            weight_clips,
            alpha_clips,
            config,
            run,
            costs=Costs(**read_json(run.results / COSTS)),
            loss=recipe.loss,
            name=folder.resolve().name,
            origin=origin,
            guess_bpm=mean_rate(weight_clips.recordings),
            progress=progress,
            say=say if rank == 0 else None,
        )
    return Found(folder, folder / "results" / GENOTYPE, result)


def halves(
    recipe: SearchRecipe, searching: list[CachedRecording]
) -> tuple[list[CachedRecording], list[CachedRecording]]:
    """Return the recordings for the weights and those for the architecture: about as many, no subject on both sides.

    The split is decided by data.split_seed.
    """
    try:
        return k_folds(searching, 2, recipe.data.split_seed)[0]
    except ValueError:
        raise BadRecipe(
            "[data] leaves one subject to search with; weights and architecture need different ones. Prepare more."
        ) from None


def say_epoch(line: str) -> None:
    """Print the description of an epoch's cell on stderr, beside the progress."""
    print(escape_controls(line, keep_newlines=True), file=sys.stderr, flush=True)
