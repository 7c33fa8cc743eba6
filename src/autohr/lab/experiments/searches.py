"""Comparison of searched cells with random ones and reconstructions, each trained anew under one budget.

    OUT/s0-seed0/            the training of cell s0 with training seed 0, as ``autohr train`` leaves it
    OUT/random_0-seed0/ ...
    OUT/results/comparison.json      what is returned; a table and a page can be made of it alone

All trainings follow one recipe: the same data, steps, learning rate and held-out subjects. They differ in the genotype
and the seed, and in nothing else. The weights of the last step are evaluated, so the held-out subjects choose nothing.

The unit is the cell, not the training: two seeds of one cell say how much training differs, and nothing about other
cells. So the seeds of a cell are averaged first, and groups are compared by the means of their cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autohr.errors import AutoHRError, BadRecipe, Stopped, UnknownName
from autohr.files import make_folder, read_json, read_json_object, write_json
from autohr.lab.datasets.folds import subject_key
from autohr.lab.evaluate.rows import make_rows
from autohr.lab.evaluate.stored import COMPARISON, CellResult, Comparison, ComparisonResult, Group, Training, mean_sd
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure
from autohr.lab.experiments.folds import has_ended, train_to_end
from autohr.lab.nets import NETS, make_config
from autohr.lab.nets._genotype import GENOTYPES, N_INPUTS, SPACE, SPACE_WITHOUT_TDC, Genotype, Op, read_genotype
from autohr.lab.nets.autohr import AutoHRConfig
from autohr.lab.recipes.files import find_recipe, toml_inline
from autohr.lab.search.optimiser import GENOTYPE
from autohr.lab.search.optimiser import RESULT as SEARCH
from autohr.lab.search.recipe import search as run_search
from autohr.lab.search.space import SpaceConfig, cost_of, measure_costs, random_genotype
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import DATA, Recipe, open_recordings, read_recipe

NOT_YET = "not trained yet"
"""Reason of a cell whose training was not asked for."""
GROUPS: dict[str, str] = {
    "searched": "found by a search",
    "random": "drawn by chance from the same space",
    "reconstruction": "made to fit what the paper says of its own",
    "given": "a genotype file of somebody's",
}
"""Group of cells -> what its cells are."""

SIGNIFICANT = 0.05
"""Largest significant p, one-sided. Three cells against three reach it only if each of the three beats each other."""

SCORES = ("mae_bpm", "rmse_bpm", "within_5_bpm", "pearson_r")
"""Scores of a validation, as ``train.fit`` logs them."""
SHOWN_SCORES = SCORES[:3]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """Cell to be trained."""

    label: str
    group: str
    """Key of ``GROUPS``."""
    source: str
    """Name, file or folder that it was given as, or how it was drawn."""
    genotype: Genotype
    seen: frozenset[str] = frozenset()
    """Ids of the recordings by which a search chose it."""


# ---------------------------------------------------------------------------------------------------------------------
# The experiment


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
    """Train every cell from its beginning under one budget, and compare the groups.

    What ``out`` has already is not made again.

    Parameters
    ----------
    cells
        Names of ``GENOTYPES``, run folders of searches, genotype files.
    recipe_path, overrides
        Recipe of all trainings, as ``train`` takes it; the net must be autohr.
    n_random, random_seed
        Number of cells drawn from the space of the searches among ``cells``, of all nine operations and one shared cell
        where there are none. None is drawn twice, and none that was given.
    seeds
        Seeds of the trainings; every cell is trained with each.
    only
        Labels of the cells to train now; the others are read if they have ended. So two processes can share the work.

    Raises
    ------
    BadRecipe
        Another net, or a run in ``out`` of another recipe.
    AutoHRError
        No such cell, two of one label, a search without a result; or no cell could be trained: the error of the first.
        Where only some fail, their ``why_not`` says why, and the others are trained.
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
    by_label: dict[str, Candidate] = {}
    for one in candidates:
        twin = by_label.setdefault(one.label, one)
        if twin is not one:
            raise AutoHRError(
                f"Two cells would be called {one.label!r}: {twin.source!r} and {one.source!r}. Rename one."
            )
    for label in only:
        if label not in by_label:
            raise UnknownName("cell", label, by_label)
    try:
        config: AutoHRConfig = make_config(NETS["autohr"], recipe.net_config)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{recipe_path}: [net_config] {error}") from None

    def folder_of(key: tuple[str, int]) -> Path:
        return out / f"{key[0]}-seed{key[1]}"

    def train_cell(key: tuple[str, int]) -> Training:
        cell, folder = by_label[key[0]], folder_of(key)
        say(f"{cell.label} ({cell.group}), seed {key[1]}: {folder}")
        genotype = f"net_config.genotype={toml_inline(cell.genotype.as_dict())}"
        return _train(recipe_path, [*overrides, genotype, f"fit.seed={key[1]}"], folder, key[1], progress)

    asked = list(itertools.product(by_label, seeds))
    chosen = [key for key in asked if not only or key[0] in only or has_ended(folder_of(key))]
    trainings, failures = make_rows(chosen, train_cell, name=lambda key: key[0], say=say)
    results = []
    for one in candidates:
        reasons = {
            key: f"seed {key[1]}: {failures[key]}" if key in failures else NOT_YET
            for key in asked
            if key[0] == one.label and key not in trainings
        }
        failed = [reason for key, reason in reasons.items() if key in failures]
        parameters, gflop_per_s = cost(one.genotype, config, recipe)
        results.append(
            CellResult(
                label=one.label,
                group=one.group,
                source=one.source,
                genotype=one.genotype.as_dict(),
                parameters=parameters,
                gflop_per_s=gflop_per_s,
                trainings=tuple(training for key, training in trainings.items() if key[0] == one.label),
                why_not=failed[-1] if failed else next(iter(reasons.values()), None),
            )
        )
    result = _summarise(recipe_path, recipe, overrides, seeds, candidates, results, out)
    make_folder((out / COMPARISON).parent)
    write_json(out / COMPARISON, {"kind": "comparison", **dataclasses.asdict(result)})
    return result


def find_cell(text: str) -> Candidate:
    """Return the cell of a name in ``GENOTYPES``, of the run folder of a search, or of a genotype file.

    Raises AutoHRError where it is none of them or the search has not ended, BadRecipe for a file that is no genotype.
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
        return Candidate(path.resolve().name, "searched", text, read_genotype(file), _recordings_of_search(path))
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
    """Search for a cell. A search that has ended is not repeated, one that was stopped goes on.

    Raises BadRecipe as ``search.recipe.search``, also where ``out`` holds a search of another recipe; Stopped where a
    signal ended the search.
    """
    found = run_search(recipe_path, overrides, out=out, progress=progress, say=say)
    if found.search.genotype is None or not found.genotype.exists():
        raise Stopped(
            f"Stopped by {found.search.stopped_by} after step {found.search.step} of {str(out)!r}; the same command "
            "goes on from there."
        )
    return read_genotype(found.genotype)


def draw_cells(beside: Sequence[Candidate], n: int, seed: int) -> list[Candidate]:
    """Draw ``n`` random cells of the space that the searched ones among ``beside`` came from."""
    searched = [one for one in beside if one.group == "searched"]
    kind = "varied" if searched and all(one.genotype.kind == "varied" for one in searched) else "shared"
    is_plain = bool(searched) and all(_ops_of(Path(one.source)) == SPACE_WITHOUT_TDC for one in searched)
    space = SPACE_WITHOUT_TDC if is_plain else SPACE
    n_inputs = max((one.genotype.n_inputs for one in searched), default=N_INPUTS)
    rng = np.random.default_rng(seed)
    taken = {one.genotype.cells for one in beside}
    drawn: list[Candidate] = []
    while len(drawn) < n:
        label = f"random_{len(drawn)}"
        genotype = random_genotype(space, kind, rng, label, n_inputs)  # type: ignore[arg-type]
        if genotype.cells in taken:
            continue
        taken.add(genotype.cells)
        source = f"draw {len(drawn) + 1} of seed {seed}, {kind}, {len(space)} operations"
        drawn.append(Candidate(label, "random", source, genotype))
    return drawn


def _ops_of(run: Path) -> tuple[Op, ...]:
    """Return the operations that a search chose from; all where its run does not say."""
    file = run / "results" / SEARCH
    names = tuple(read_json_object(file).get("ops") or ()) if file.is_file() else ()
    return next((ops for ops in (SPACE, SPACE_WITHOUT_TDC) if tuple(map(str, ops)) == names), SPACE)


def _recordings_of_search(run: Path) -> frozenset[str]:
    """Return the ids of the recordings by which a search chose, without those that it only validated on or left out."""
    file = run / "results" / DATA
    parts = read_json_object(file) if file.is_file() else {}
    lists = [ids for part, ids in parts.items() if part not in ("val", "left_out") and isinstance(ids, list)]
    return frozenset(map(str, itertools.chain(*lists)))


def cost(genotype: Genotype, config: AutoHRConfig, recipe: Recipe) -> tuple[int, float]:
    """Return (parameters, GFLOP per second of video) of the network that a recipe trains with this genotype."""
    same = ("stem_channels", "channels", "cells_per_block", "stem_stride", "input")
    space = SpaceConfig(**{name: getattr(config, name) for name in same}, partial=1, widen=1)
    costs = cost_of(genotype, measure_costs(space, recipe.data.size_px, recipe.data.n_frames))
    return int(costs["parameters"]), float(costs["gflop_per_s"])


def _train(
    recipe_path: Path,
    overrides: Sequence[str],
    folder: Path,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> Training:
    clock, ended = folder / "results" / "wall.json", folder / "results" / "fit.json"
    before_s = float(read_json_object(clock, "wall_s")["wall_s"]) if clock.exists() else 0.0
    was = read_json(ended) if ended.exists() else None
    began_s = time.monotonic()
    try:
        train_to_end(recipe_path, overrides, folder, progress)
    finally:
        # A training that had ended already took no time now.
        if clock.parent.is_dir() and not (ended.exists() and read_json(ended) == was and clock.exists()):
            write_json(clock, {"wall_s": before_s + time.monotonic() - began_s})
    fit = read_json_object(ended, "n_steps", "last")
    return Training(
        seed=seed,
        run=folder.name,
        n_steps=int(fit["n_steps"]),
        chance_mae_bpm=fit["last"].get("chance_mae_bpm"),
        wall_s=float(read_json_object(clock, "wall_s")["wall_s"]),
        **{name: fit["last"].get(name) for name in SCORES},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Conclusions


def _summarise(
    recipe_path: Path,
    recipe: Recipe,
    overrides: Sequence[str],
    seeds: Sequence[int],
    candidates: Sequence[Candidate],
    results: Sequence[CellResult],
    out: Path,
) -> ComparisonResult:
    trainings = [one for cell in results for one in cell.trainings]
    folders = [out / one.run / "results" for one in trainings]
    windows = {
        (
            tuple(read_json_object(folder / DATA, "val")["val"]),
            read_json_object(folder / "fit.json", "last")["last"]["n_windows"],
        )
        for folder in folders
    }
    if len(windows) > 1:
        raise AutoHRError(
            f"The trainings in {str(out)!r} were judged on different windows; the cache has changed. Name another "
            "folder and begin anew."
        )
    held_out, n_windows = windows.pop() if windows else ((), None)
    means = {name: [cell.score("mae_bpm")[0] for cell in _complete(results, name)] for name in GROUPS}
    known = {name: [value for value in values if value is not None] for name, values in means.items()}
    searched = known.pop("searched")
    return ComparisonResult(
        recipe=find_recipe(recipe_path).name,
        overrides=tuple(overrides),
        n_steps=max((one.n_steps for one in trainings), default=None),
        batch_size=recipe.fit.batch_size,
        seeds=tuple(seeds),
        held_out=tuple(sorted({subject_key(one) for one in open_recordings(recipe) if one.recording_id in held_out})),
        n_held_out=len(set(held_out)),
        n_windows=n_windows,
        cells=tuple(results),
        groups=tuple(group_cells(results)),
        comparisons=tuple(
            compare_groups(searched, others, name) for name, others in known.items() if searched and others
        ),
        notes=tuple(_notes(recipe, candidates, trainings, set(held_out))),
    )


def _notes(
    recipe: Recipe, candidates: Sequence[Candidate], trainings: Sequence[Training], held_out: set[str]
) -> list[str]:
    notes = []
    if set(recipe.data.datasets) == {"synthetic"}:
        notes.append("Trained and judged on synthetic recordings; what holds there need not hold on people.")
    for one in candidates:
        n = len(one.seen & held_out)
        if n:
            notes.append(
                f"The search of {one.label} saw {n} of the {len(held_out)} recordings on which all are judged "
                "here, which favours it. Search and compare with one split."
            )
    if any(one.group == "searched" and not one.seen for one in candidates):
        notes.append("Of some searched cells it is not known here which recordings chose them.")
    chance = [one.chance_mae_bpm for one in trainings if one.chance_mae_bpm is not None]
    if chance:
        notes.append(f"Always the mean rate: MAE {np.mean(chance):.2f} bpm.")
    return notes


def _complete(cells: Sequence[CellResult], group: str) -> list[CellResult]:
    return [cell for cell in cells if cell.group == group and cell.trainings and cell.why_not is None]


def group_cells(cells: Sequence[CellResult]) -> list[Group]:
    """Return the groups that have a cell whose trainings have all ended, in the order of ``GROUPS``."""
    groups = []
    for name in GROUPS:
        own = _complete(cells, name)
        if own:
            both = {score: mean_sd([cell.score(score)[0] for cell in own]) for score in SCORES}
            mean, sd = ({score: values[k] for score, values in both.items()} for k in (0, 1))
            groups.append(Group(name, len(own), mean, sd))
    return groups


def compare_groups(searched: Sequence[float], others: Sequence[float], other: str) -> Comparison:
    """Compare the mean absolute errors of two groups of cells, one value for each cell, smaller being better.

    ``other`` is the name of the second group. Raises ValueError for an empty group.
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
    words = _verdict(other, n, len(others), difference, spread, p, least_p, beats)
    return Comparison(other, n, len(others), difference, spread, p, least_p, beats, words)


PLURAL = {"random": "random cells", "reconstruction": "reconstructions", "given": "the given cells"}
"""Group -> its cells in words."""


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
    """Return a table with one row for each cell and one for each group."""
    rows = []
    for cell in result.cells:
        wall_s = sum(one.wall_s for one in cell.trainings)
        rows.append(
            (
                cell.label,
                cell.group,
                f"{cell.parameters:,}",
                figure(cell.gflop_per_s),
                *(_score_cell(*cell.score(name), name) for name in SHOWN_SCORES),
                str(len(cell.trainings)),
                f"{wall_s / 60:.1f}" if cell.trainings else NOTHING,
                cell.why_not or "",
            )
        )
    for group in result.groups:
        scores = (_score_cell(group.mean[name], group.sd[name], name) for name in SHOWN_SCORES)
        n_cells = f"{group.n} cells" if group.n > 1 else "1 cell"
        rows.append((f"all {group.name}", group.name, "", "", *scores, n_cells, "", ""))
    windows = "windows" if result.n_windows is None else f"{result.n_windows} windows"
    steps = "no step yet" if result.n_steps is None else f"{result.n_steps} steps of {result.batch_size} clips"
    columns = "cell|group|parameters|GFLOP/s|MAE|RMSE|within 5 bpm, %|trainings|minutes|remark"
    return Sheet(
        title=f"Cells under one budget: {result.recipe}, {steps} each",
        columns=tuple(columns.split("|")),
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


def _score_cell(mean: float | None, sd: float | None, score: str) -> str:
    scale, digits = (100.0, 0) if score == "within_5_bpm" else (1.0, 2)
    if mean is None:
        return NOTHING
    return figure(scale * mean, digits) + ("" if sd is None else f" +- {scale * sd:.{digits}f}")
