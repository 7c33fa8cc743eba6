"""Was it the search, or luck? Searched cells, random cells and reconstructions, each trained anew under one budget.

    OUT/s0-seed0/            the training of cell s0 with training seed 0, as ``autohr train`` leaves it
    OUT/random_0-seed0/ ...
    OUT/results/comparison.json      what is returned; a table and a page can be made of it alone

All trainings follow one recipe: the same data, steps, learning rate and held-out subjects. They differ in the genotype
and the seed, and in nothing else. Judged are the weights of the last step, so the held-out subjects choose nothing.

The unit is the cell, not the training: two seeds of one cell say how much training differs, and nothing about other
cells. So the seeds of a cell are averaged first, and groups are compared by the means of their cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autohr.errors import AutoHRError, BadRecipe, Stopped, UnknownName
from autohr.files import make_folder, read_json, write_json
from autohr.lab.datasets.folds import subject_key
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure
from autohr.lab.experiments.folds import has_ended, train_to_end
from autohr.lab.nets import NETS, make_config
from autohr.lab.nets._genotype import GENOTYPES, SPACE, SPACE_WITHOUT_TDC, Genotype, Op, read_genotype
from autohr.lab.nets.autohr import AutoHRConfig
from autohr.lab.recipes.files import find_recipe
from autohr.lab.search.optimiser import GENOTYPE
from autohr.lab.search.optimiser import RESULT as SEARCH
from autohr.lab.search.recipe import search as run_search
from autohr.lab.search.space import SpaceConfig, cost_of, measure_costs, random_genotype
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import DATA, Recipe, open_recordings, read_recipe

KIND = "comparison"
NOT_YET = "not trained yet"
"""Reason of a cell whose training was not asked for."""
RESULT = "comparison.json"
GROUPS: dict[str, str] = {
    "searched": "found by a search",
    "random": "drawn by chance from the same space",
    "reconstruction": "made to fit what the paper says of its own",
    "given": "a genotype file of somebody's",
}
"""Group of cells -> what its cells are."""

SIGNIFICANT = 0.05
"""One-sided. Three cells against three can reach it only if each of the three beats each of the others."""

SCORES = ("mae_bpm", "rmse_bpm", "within_5_bpm", "pearson_r")
"""Of a validation, as ``train.fit`` logs it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """A cell to be trained."""

    label: str
    group: str
    """One of ``GROUPS``."""
    source: str
    """Name, file or folder that it was given as, or how it was drawn."""
    genotype: Genotype
    seen: frozenset[str] = frozenset()
    """Ids of the recordings by which a search chose it."""


@dataclass(frozen=True)
class Training:
    """One training as it ended."""

    seed: int
    run: str
    """Name of its folder."""
    n_steps: int
    mae_bpm: float | None
    rmse_bpm: float | None
    within_5_bpm: float | None
    pearson_r: float | None
    chance_mae_bpm: float | None
    """Of always saying the mean rate of the training recordings."""
    wall_s: float
    """Of all calls that worked on it and were not killed."""


@dataclass(frozen=True)
class CellResult:
    """One cell, and what came of it."""

    label: str
    group: str
    source: str
    genotype: dict[str, Any]
    """As ``Genotype.as_dict``."""
    parameters: int
    gflop_per_s: float
    """Of the whole network for a second of video, 1e9, two to a multiplication with addition."""
    trainings: tuple[Training, ...]
    why_not: str | None
    """Why it is not, or not fully, trained; it is then left out of the groups."""


@dataclass(frozen=True)
class Group:
    """Cells of one kind. Means and standard deviations (n - 1) are over cells, each the mean of its trainings."""

    name: str
    n: int
    mean: dict[str, float | None]
    """Score -> mean."""
    sd: dict[str, float | None]
    """Score -> SD; None of a single cell."""


@dataclass(frozen=True)
class Comparison:
    """Searched cells against another group, by the MAE."""

    other: str
    n_searched: int
    n_other: int
    difference_bpm: float
    """Mean of the searched cells minus mean of the others; negative: searched cells err less."""
    spread_bpm: float | None
    """SD within the two groups, pooled; None where both hold one cell."""
    p: float
    """Exact permutation test, one-sided: share of all ways to call so many of these cells searched in which they would
    come out at least as well."""
    least_p: float
    """The smallest p that so few cells can give."""
    beats: bool
    """p at most ``SIGNIFICANT``, and a difference above the spread."""
    words: str


@dataclass(frozen=True)
class ComparisonResult:
    """All of it, as comparison.json holds it."""

    recipe: str
    overrides: tuple[str, ...]
    n_steps: int | None
    batch_size: int
    seeds: tuple[int, ...]
    held_out: tuple[str, ...]
    """Subjects on which all are judged, as dataset/subject."""
    n_held_out: int
    """Recordings of theirs."""
    n_windows: int | None
    """Windows of those recordings on which all are judged: every one, or as many as the recipe's ``fit.val_windows``.
    None before any training has ended, and in files that were written before it was counted."""
    cells: tuple[CellResult, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


# ---------------------------------------------------------------------------------------------------------------------
# The experiment
# ---------------------------------------------------------------------------------------------------------------------


def compare_genotypes(
    cells: Sequence[str],
    recipe_path: Path,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    n_random: int = 3,
    random_seed: int = 0,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = print_progress,
    say: Say | None = None,
) -> ComparisonResult:
    """Train every cell from its beginning under one budget, and compare the groups. What ``out`` has is not made again.

    Args:
        cells: names of ``GENOTYPES``, run folders of searches, genotype files.
        recipe_path, overrides: of all trainings, as ``train`` takes them; the net must be autohr.
        n_random: cells drawn by ``random_seed`` from the space of the searches among ``cells``, of all nine
            operations and one shared cell where there are none. None is drawn twice, and none that was given.
        seeds: of the trainings; every cell is trained with each.
        only: labels of the cells to train now; the others are read if they have ended. So two processes can share
            the work.

    Raises:
        AutoHRError: no such cell, two of one label, a search without a result; or no cell could be trained: the error
            of the first. Where only some fail, their ``why_not`` says why, and the others are trained.
        Stopped: training was stopped by a signal; the same call goes on.
        BadRecipe: another net, or a run in ``out`` of another recipe.
    """
    say = say or (lambda line: None)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={tuple(seeds)} must be different from each other, at least one.")
    if n_random < 0:
        raise ValueError(f"n_random={n_random} must not be negative.")
    recipe = read_recipe(recipe_path, overrides)
    if recipe.net != "autohr":
        raise BadRecipe(f"{recipe_path}: cells are for net 'autohr', not {recipe.net!r}; name another recipe.")
    candidates = [*map(find_cell, cells)]
    candidates += draw_cells(candidates, n_random, random_seed)
    _refuse_twins(candidates)
    labels = [one.label for one in candidates]
    for label in only:
        if label not in labels:
            raise UnknownName("cell", label, labels)
    config = _net_config(recipe, recipe_path)
    results: list[CellResult] = []
    failures: list[AutoHRError] = []
    for one in candidates:
        trainings: list[Training] = []
        why = None
        for seed in seeds:
            folder = out / f"{one.label}-seed{seed}"
            changes = [*overrides, f"net_config.genotype={toml_inline(one.genotype.as_dict())}", f"fit.seed={seed}"]
            if only and one.label not in only and not has_ended(folder):
                why = why or NOT_YET
                continue
            say(f"{one.label} ({one.group}), seed {seed}: {folder}")
            try:
                trainings.append(_train(recipe_path, changes, folder, seed, progress))
            except Stopped:
                raise
            except AutoHRError as error:
                why = f"seed {seed}: {error}"
                failures.append(error)
                say(f"{one.label}: FAILED: {error}")
        parameters, gflop_per_s = cost(one.genotype, config, recipe)
        results.append(
            CellResult(
                label=one.label,
                group=one.group,
                source=one.source,
                genotype=one.genotype.as_dict(),
                parameters=parameters,
                gflop_per_s=gflop_per_s,
                trainings=tuple(trainings),
                why_not=why,
            )
        )
    if failures and not any(cell.trainings for cell in results):
        raise failures[0]
    result = _summarise(recipe_path, recipe, overrides, seeds, candidates, results, out)
    make_folder(out / "results")
    write_json(out / "results" / RESULT, {"kind": KIND, **dataclasses.asdict(result)})
    return result


def read_comparison(out: Path) -> ComparisonResult:
    """What ``compare_genotypes`` left in a folder.

    Raises:
        AutoHRError: nothing, or a damaged file.
    """
    file = out / "results" / RESULT
    said = read_json(file)
    try:
        said = {"n_windows": None, **said}
        fields = {field.name: said[field.name] for field in dataclasses.fields(ComparisonResult)}
        fields |= {name: tuple(said[name]) for name in ("overrides", "seeds", "held_out", "notes")}
        fields["cells"] = tuple(
            CellResult(**cell | {"trainings": tuple(Training(**one) for one in cell["trainings"])})
            for cell in said["cells"]
        )
        fields["groups"] = tuple(Group(**one) for one in said["groups"])
        fields["comparisons"] = tuple(Comparison(**one) for one in said["comparisons"])
        return ComparisonResult(**fields)
    except (KeyError, TypeError) as error:
        raise AutoHRError(f"{str(file)!r} is damaged ({error}); run the comparison again.") from None


def find_cell(text: str) -> Candidate:
    """A cell by what a user calls it: a name of ``GENOTYPES``, the run folder of a search, or a genotype file.

    Raises:
        AutoHRError: it is none of them, or the search has not ended.
        BadRecipe: a file that is no genotype.
    """
    path = Path(text)
    if text in GENOTYPES:
        genotype = GENOTYPES[text]
        group = "reconstruction" if genotype.origin.startswith("Reconstruction") else "searched"
        return Candidate(text, group, text, genotype)
    if path.is_dir():
        file = path / "results" / GENOTYPE
        if not file.is_file():
            raise AutoHRError(
                f"The search in {text!r} has not ended: it holds no results/{GENOTYPE}. The command that began it goes "
                "on with it."
            )
        return Candidate(path.resolve().name, "searched", text, read_genotype(file), _seen(path))
    if path.is_file():
        return Candidate(path.stem, "given", text, read_genotype(path))
    raise AutoHRError(
        f"There is no cell {text!r}. Give the run folder of a search, a genotype file, or one of: "
        f"{', '.join(GENOTYPES)}."
    )


def search_cell(
    recipe_path: Path,
    overrides: Sequence[str],
    out: Path,
    *,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Say | None = None,
) -> Genotype:
    """The cell that a search finds. One that has ended is not repeated, one that was stopped goes on.

    Raises:
        BadRecipe: see ``search.recipe.search``; also where ``out`` holds a search of another recipe.
        Stopped: the search was stopped by a signal; the same call goes on.
    """
    found = run_search(recipe_path, overrides, out=out, progress=progress, say=say)
    if found.search.genotype is None or not found.genotype.exists():
        raise Stopped(
            f"Stopped by {found.search.stopped_by} after step {found.search.step} of {str(out)!r}; the same command "
            "goes on from there."
        )
    return read_genotype(found.genotype)


def draw_cells(beside: Sequence[Candidate], n: int, seed: int) -> list[Candidate]:
    """``n`` random cells of the space that the searched ones among ``beside`` came from."""
    searched = [one for one in beside if one.group == "searched"]
    kind = "varied" if searched and all(one.genotype.kind == "varied" for one in searched) else "shared"
    known_ops = [_ops_of(Path(one.source)) for one in searched]
    plain = bool(known_ops) and all(ops == SPACE_WITHOUT_TDC for ops in known_ops)
    space = SPACE_WITHOUT_TDC if plain else SPACE
    rng = np.random.default_rng(seed)
    taken = {one.genotype.cells for one in beside}
    drawn: list[Candidate] = []
    while len(drawn) < n:
        label = f"random_{len(drawn)}"
        genotype = random_genotype(space, kind, rng, label)  # type: ignore[arg-type]
        if genotype.cells in taken:
            continue
        taken.add(genotype.cells)
        source = f"draw {len(drawn) + 1} of seed {seed}, {kind}, {len(space)} operations"
        drawn.append(Candidate(label, "random", source, genotype))
    return drawn


def _ops_of(run: Path) -> tuple[Op, ...]:
    """The operations that a search chose from; all where its run does not say."""
    file = run / "results" / SEARCH
    names = tuple(read_json(file).get("ops") or ()) if file.is_file() else ()
    return next((ops for ops in (SPACE, SPACE_WITHOUT_TDC) if tuple(map(str, ops)) == names), SPACE)


def _seen(run: Path) -> frozenset[str]:
    """Ids of the recordings in a search's results/data.json, but for those that it only validated on or left out."""
    file = run / "results" / DATA
    if not file.is_file():
        return frozenset()
    said = read_json(file)
    return frozenset(
        str(one)
        for part, ids in said.items()
        if part not in ("val", "left_out") and isinstance(ids, list)
        for one in ids
    )


def _refuse_twins(candidates: Sequence[Candidate]) -> None:
    labels: dict[str, Candidate] = {}
    for one in candidates:
        if one.label in labels:
            raise AutoHRError(
                f"Two cells would be called {one.label!r}: {labels[one.label].source!r} and {one.source!r}. Rename one."
            )
        labels[one.label] = one


def _net_config(recipe: Recipe, recipe_path: Path) -> AutoHRConfig:
    try:
        config: AutoHRConfig = make_config(NETS["autohr"], recipe.net_config)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{recipe_path}: [net_config] {error}") from None
    return config


def cost(genotype: Genotype, config: AutoHRConfig, recipe: Recipe) -> tuple[int, float]:
    """(parameters, GFLOP per second of video) of the network that a recipe trains with this genotype."""
    space = SpaceConfig(
        stem_channels=config.stem_channels,
        channels=config.channels,
        cells_per_block=config.cells_per_block,
        stem_stride=config.stem_stride,
        input=config.input,
        partial=1,
        widen=1,
    )
    costs = cost_of(genotype, measure_costs(space, recipe.data.size_px, recipe.data.n_frames))
    return int(costs["parameters"]), float(costs["gflop_per_s"])


def _train(
    recipe_path: Path,
    overrides: Sequence[str],
    folder: Path,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> Training:
    clock = folder / "results" / "wall.json"
    before_s = float(read_json(clock)["wall_s"]) if clock.exists() else 0.0
    ended = folder / "results" / "fit.json"
    was = read_json(ended) if ended.exists() else None
    began_s = time.monotonic()
    try:
        train_to_end(recipe_path, overrides, folder, progress)
    finally:
        # A training that had ended already took no time now.
        if clock.parent.is_dir() and not (ended.exists() and read_json(ended) == was and clock.exists()):
            write_json(clock, {"wall_s": before_s + time.monotonic() - began_s})
    said = read_json(ended)
    last = said["last"]
    return Training(
        seed=seed,
        run=folder.name,
        n_steps=int(said["n_steps"]),
        chance_mae_bpm=last.get("chance_mae_bpm"),
        wall_s=float(read_json(clock)["wall_s"]),
        **{name: last.get(name) for name in SCORES},
    )


def toml_inline(value: Any) -> str:
    """Plain values on one line of TOML, as ``--set`` takes them. Raises ValueError for what TOML cannot hold."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_inline, value)) + "]"
    if isinstance(value, (str, bool, int)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    raise ValueError(f"{value!r} cannot be written as TOML.")


# ---------------------------------------------------------------------------------------------------------------------
# What it says
# ---------------------------------------------------------------------------------------------------------------------


def _summarise(
    recipe_path: Path,
    recipe: Recipe,
    overrides: Sequence[str],
    seeds: Sequence[int],
    candidates: Sequence[Candidate],
    results: Sequence[CellResult],
    out: Path,
) -> ComparisonResult:
    runs = [out / one.run for cell in results for one in cell.trainings]
    judged = {
        (
            tuple(read_json(run / "results" / DATA)["val"]),
            read_json(run / "results" / "fit.json")["last"]["n_windows"],
        )
        for run in runs
    }
    if len(judged) > 1:
        raise AutoHRError(
            f"The trainings in {str(out)!r} were judged on different windows; the cache has changed. Name another "
            "folder and begin anew."
        )
    held_out, n_windows = judged.pop() if judged else ((), None)
    groups = group_cells(results)
    means = {name: [_mean(cell, "mae_bpm") for cell in _complete(results, name)] for name in GROUPS}
    searched = [value for value in means["searched"] if value is not None]
    comparisons = []
    for name in GROUPS:
        others = [value for value in means[name] if value is not None]
        if name != "searched" and searched and others:
            comparisons.append(compare_groups(searched, others, name))
    return ComparisonResult(
        recipe=find_recipe(recipe_path).name,
        overrides=tuple(overrides),
        n_steps=max((one.n_steps for cell in results for one in cell.trainings), default=None),
        batch_size=recipe.fit.batch_size,
        seeds=tuple(seeds),
        held_out=tuple(_subjects(recipe, held_out)),
        n_held_out=len(set(held_out)),
        n_windows=n_windows,
        cells=tuple(results),
        groups=tuple(groups),
        comparisons=tuple(comparisons),
        notes=tuple(_notes(recipe, candidates, results, held_out)),
    )


def _subjects(recipe: Recipe, ids: Sequence[str]) -> list[str]:
    chosen = set(ids)
    return sorted({subject_key(one) for one in open_recordings(recipe) if one.recording_id in chosen})


def _notes(
    recipe: Recipe, candidates: Sequence[Candidate], results: Sequence[CellResult], held_out: Sequence[str]
) -> list[str]:
    notes = []
    if set(recipe.data.datasets) == {"synthetic"}:
        notes.append("Trained and judged on synthetic recordings; what holds there need not hold on people.")
    for one in candidates:
        n = len(one.seen & set(held_out))
        if n:
            notes.append(
                f"The search of {one.label} saw {n} of the {len(set(held_out))} recordings on which all are judged "
                "here, which favours it. Search and compare with one split."
            )
    if any(one.group == "searched" and not one.seen for one in candidates):
        notes.append("Of some searched cells it is not known here which recordings chose them.")
    chance = [one.chance_mae_bpm for cell in results for one in cell.trainings if one.chance_mae_bpm is not None]
    if chance:
        notes.append(f"Always the mean rate: MAE {np.mean(chance):.2f} bpm.")
    return notes


def _complete(cells: Sequence[CellResult], group: str) -> list[CellResult]:
    return [cell for cell in cells if cell.group == group and cell.trainings and cell.why_not is None]


def _mean(cell: CellResult, name: str) -> float | None:
    """Of a cell over its trainings; None where one of them has no such score."""
    values = [getattr(one, name) for one in cell.trainings]
    return None if not values or None in values else float(np.mean(values))


def group_cells(cells: Sequence[CellResult]) -> list[Group]:
    """The groups that have a cell whose trainings have all ended, in the order of ``GROUPS``."""
    groups = []
    for name in GROUPS:
        own = _complete(cells, name)
        if not own:
            continue
        mean: dict[str, float | None] = {}
        sd: dict[str, float | None] = {}
        for score in SCORES:
            values = [value for value in (_mean(cell, score) for cell in own) if value is not None]
            whole = len(values) == len(own)
            mean[score] = float(np.mean(values)) if whole else None
            sd[score] = float(np.std(values, ddof=1)) if whole and len(values) > 1 else None
        groups.append(Group(name, len(own), mean, sd))
    return groups


def compare_groups(searched: Sequence[float], others: Sequence[float], other: str) -> Comparison:
    """Mean absolute errors of cells, one value for each, smaller being better: does the first group win?

    Raises:
        ValueError: an empty group.
    """
    if not searched or not others:
        raise ValueError(f"{len(searched)} searched cell(s) and {len(others)} other(s): give one of each at least.")
    n, values = len(searched), np.array([*searched, *others], dtype=np.float64)
    difference = float(np.mean(searched) - np.mean(others))
    # With the sizes fixed, the sum of the first group orders all arrangements as the difference of means does.
    arranged = [sum(chosen) for chosen in itertools.combinations(values.tolist(), n)]
    own = sum(searched)
    p = float(np.mean([total <= own + 1e-9 * max(1.0, abs(own)) for total in arranged]))
    least_p = 1 / len(arranged)
    within = [np.asarray(side) for side in (searched, others)]
    freedom = sum(len(side) - 1 for side in within)
    spread = float(np.sqrt(sum(((side - side.mean()) ** 2).sum() for side in within) / freedom)) if freedom else None
    beats = difference < 0 and p <= SIGNIFICANT and spread is not None and -difference > spread
    words = _verdict(other, len(searched), len(others), difference, spread, p, least_p, beats)
    return Comparison(other, len(searched), len(others), difference, spread, p, least_p, beats, words)


PLURAL = {"random": "random cells", "reconstruction": "reconstructions", "given": "the given cells"}


def _verdict(
    other: str, n: int, m: int, difference: float, spread: float | None, p: float, least_p: float, beats: bool
) -> str:
    sense = "less" if difference < 0 else "more"
    spread_words = "with no spread known" if spread is None else f"where cells of one group spread by {spread:.2f} bpm"
    facts = (
        f"Searched cells err {abs(difference):.2f} bpm {sense} than {PLURAL[other]} on average, {spread_words} "
        f"({n} against {m}; exact permutation test, one-sided: p = {p:.3g}, of which {least_p:.3g} is the smallest "
        "that so few cells can give)."
    )
    if beats:
        return f"{facts} So here search beats {PLURAL[other]} beyond the spread."
    if difference >= 0:
        return f"{facts} So here search does not beat {PLURAL[other]}."
    if least_p > SIGNIFICANT:
        return f"{facts} So few cells cannot show that search beats {PLURAL[other]}, whatever they give."
    return f"{facts} That search beats {PLURAL[other]} is not shown: the difference is within what chance gives."


def comparison_sheet(result: ComparisonResult) -> Sheet:
    """One row for each cell, one for each group."""
    rows = []
    for cell in result.cells:
        wall_s = sum(one.wall_s for one in cell.trainings)
        rows.append(
            (
                cell.label,
                cell.group,
                f"{cell.parameters:,}",
                figure(cell.gflop_per_s),
                *(_with_spread(_scores(cell, name), name) for name in ("mae_bpm", "rmse_bpm", "within_5_bpm")),
                str(len(cell.trainings)),
                f"{wall_s / 60:.1f}" if cell.trainings else NOTHING,
                cell.why_not or "",
            )
        )
    for group in result.groups:
        rows.append(
            (
                f"all {group.name}",
                group.name,
                "",
                "",
                *(_said(group.mean[name], group.sd[name], name) for name in ("mae_bpm", "rmse_bpm", "within_5_bpm")),
                f"{group.n} cells" if group.n > 1 else "1 cell",
                "",
                "",
            )
        )
    windows = "windows" if result.n_windows is None else f"{result.n_windows} windows"
    steps = "no step yet" if result.n_steps is None else f"{result.n_steps} steps of {result.batch_size} clips"
    return Sheet(
        title=f"Cells under one budget: {result.recipe}, {steps} each",
        columns=(
            "cell",
            "group",
            "parameters",
            "GFLOP/s",
            "MAE",
            "RMSE",
            "within 5 bpm, %",
            "trainings",
            "minutes",
            "remark",
        ),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 9}),
        notes=(
            *(one.words for one in result.comparisons),
            f"bpm, on {windows} of {result.n_held_out} recordings of {len(result.held_out)} held-out subjects; the "
            "weights of the last step. GFLOP/s: of the network for a second of video. A cell's +- is the SD over its "
            "trainings, a group's over its cells, each the mean of its trainings.",
            *result.notes,
        ),
    )


def _scores(cell: CellResult, name: str) -> list[float | None]:
    return [getattr(one, name) for one in cell.trainings]


def _with_spread(values: Sequence[float | None], name: str) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NOTHING
    return _said(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None, name)


def _said(mean: float | None, sd: float | None, name: str) -> str:
    scale, digits = (100.0, 0) if name == "within_5_bpm" else (1.0, 2)
    if mean is None:
        return NOTHING
    return figure(scale * mean, digits) + ("" if sd is None else f" +- {scale * sd:.{digits}f}")
