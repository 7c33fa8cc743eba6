"""Every method in one table: nets trained under one budget, formulas as they are, all tested on the same new people.

    OUT/physnet/ ...          the trainings, as ``autohr train`` leaves them
    OUT/evaluation/           the results of all methods (``evaluate.results``)
    OUT/costs.json            the cost of each on this machine
    OUT/results/standings.md  the tables

The people of the test are in no training: a subject who is in both is refused (drawn people have numbers and no names;
for them the caller takes another seed). The weights of the best validation are tested, on part of the training
recordings. Everything goes on where it was stopped, by the same call.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autohr.errors import BadRecipe, BadRecording, UnknownName
from autohr.files import make_folder, read_json, read_json_object, write_json, write_text
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.cache import open_cached
from autohr.lab.evaluate.results import Account, Results
from autohr.lab.evaluate.rows import make_rows
from autohr.lab.evaluate.run import crop_of, evaluate_dataset, find_protocol
from autohr.lab.evaluate.scoring import ORACLE, Scores, score
from autohr.lab.evaluate.summary import scores_sheet
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure, render_sheet
from autohr.lab.experiments.costs import Cost, TimedMethod, measure_costs
from autohr.lab.experiments.folds import train_to_end
from autohr.lab.recipes.files import FOLDER, find_recipe, toml_inline
from autohr.lab.train.fit import BEST
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import DATA
from autohr.methods import METHODS, Method, load_method, shipped_weights

RECIPE = "equal_{net}.toml"
"""Recipe by which each net is trained. They differ in the net, its loss and its learning rate alone."""
SHIPPED = "{net}-shipped"
"""Label of a net with the weights of this installation, which saw more than the budget."""
DRAWN = re.compile(r"subject_\d+")
"""Name of a person that ``autohr synth`` draws: a number, which stands for somebody else under another seed."""
COSTS = "costs.json"
PAGE = "standings.md"
PROTOCOL = "reference"
DATASET = "synthetic"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Entrant:
    """Method of one row, with the weights that it is evaluated with."""

    label: str
    name: str
    weights: Path | None = None
    run: Path | None = None
    """Folder of its training under the budget."""


def compare_methods(
    root: Path,
    out: Path,
    *,
    train_cache: Path,
    test_cache: Path | None = None,
    recipes: Path | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    workers: int | None = None,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Say | None = None,
) -> tuple[Sheet, ...]:
    """Train every net that has a recipe, evaluate all methods on the recordings in ``root``, and measure their costs.

    Returns the tables of all methods with their cost, of their mean errors by group, and of the trainings.

    Parameters
    ----------
    root
        Folder of synthetic recordings (``autohr synth``) of people that nobody was trained on.
    train_cache, test_cache
        Cache of the training recordings; and cache of the crops of the test, ``out/cache`` if None.
    recipes, overrides
        Folder of the recipes, the shipped ones if None; and changes of every recipe.
    only
        Names of ``METHODS``; all if empty.
    failing
        Called with (label, reason) for each method that failed. The others are evaluated all the same, and a note of
        the first table names those that failed.

    Raises
    ------
    BadRecipe
        A person of the test is in the training.
    AutoHRError
        Every method failed: the error of the first.
    """
    say = say or (lambda line: None)
    for name in only:
        if name not in METHODS:
            raise UnknownName("method", name, METHODS)
    names = list(only) or list(METHODS)
    people = {one.subject for one in DATASETS[DATASET].list_recordings(Path(root)).recordings}

    def enter(name: str) -> Entrant:
        if not METHODS[name].is_net:
            return Entrant(name, name)
        recipe = find_recipe(RECIPE.format(net=name), recipes or FOLDER)
        say(f"{name}: training")
        train_to_end(recipe, [f"data.cache={toml_inline(str(train_cache))}", *overrides], out / name, progress)
        return Entrant(name, name, out / name / "checkpoints" / BEST, out / name)

    entered, errors = make_rows(names, enter, say=say)
    failures = {label: str(error) for label, error in errors.items()}
    for entrant in entered.values():
        _refuse_same_people(entrant, people)
    shipped = [name for name in names if METHODS[name].is_net and name in shipped_weights()]
    entrants = [*entered.values(), *(Entrant(SHIPPED.format(net=name), name) for name in shipped)]
    methods = {one.label: replace(load_method(one.name, one.weights), title=one.label) for one in entrants}
    cache = test_cache or out / "cache"
    results = evaluate_dataset(
        DATASET,
        Path(root),
        list(methods.values()),
        PROTOCOL,
        out / "evaluation",
        cache=cache,
        labels=list(methods),
        workers=workers,
        cluster=cluster,
        judging=judging,
        failing=failures.__setitem__,
        say=say,
    )
    evaluated = {one.method.label for one in results}
    entrants = [one for one in entrants if one.label in evaluated]
    costs = _costs(entrants, methods, cache, out / COSTS, say)
    first, strata = standing_sheets(results, costs)
    failed = (f"{label}: FAILED: {reason}" for label, reason in failures.items())
    sheets = (replace(first, notes=(*failed, *first.notes)), strata, training_sheet(entrants))
    make_folder(out / "results")
    write_text(out / "results" / PAGE, "\n\n".join(render_sheet(sheet, "markdown") for sheet in sheets) + "\n")
    if failing is not None:
        for label, reason in failures.items():
            failing(label, reason)
    return sheets


def _refuse_same_people(entrant: Entrant, people: set[str]) -> None:
    if entrant.run is None:
        return
    data = read_json_object(entrant.run / "results" / DATA, "train", "val")
    # dataset/subject/session
    learned = {one.split("/")[1] for one in (*data["train"], *data["val"])}
    both = sorted(one for one in learned & people if not DRAWN.fullmatch(one))
    if both:
        raise BadRecipe(
            f"{len(both)} people of the test were in the training of {entrant.label}, such as {both[0]!r}. Test on "
            "others: autohr synth --split test, and drawn people of another seed."
        )


def _costs(
    entrants: Sequence[Entrant], methods: Mapping[str, Method], cache: Path, file: Path, say: Say
) -> tuple[Cost, ...]:
    """Measure what was not measured before, on a window of the first recording that is long enough."""
    known = {one["label"]: Cost(**one) for one in read_json(file)} if file.exists() else {}
    protocol = find_protocol(PROTOCOL)
    seconds = protocol.window_s or 10.0
    timed = []
    for entrant in entrants:
        if entrant.label in known:
            continue
        method = methods[entrant.label]
        for one in open_cached(cache, crop_of(protocol, method), datasets=[DATASET]):
            n_frames = round(seconds * one.fps)
            if one.n_frames >= n_frames and 25 <= one.fps <= 32:
                clip = one.face_clip(0, n_frames, None if method.crop is None else method.crop.size_px)
                timed.append(TimedMethod(entrant.label, entrant.name, entrant.weights, clip))
                break
        else:
            raise BadRecording(
                f"No recording of {seconds:g} s at about 30 frames per second, on which to time methods."
            )
    known |= {one.label: one for one in measure_costs(timed, say)}
    write_json(file, [dataclasses.asdict(one) for one in known.values()])
    return tuple(known[one.label] for one in entrants)


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def standing_sheets(results: Sequence[Results], costs: Sequence[Cost]) -> tuple[Sheet, ...]:
    """Return the table of all methods with their cost, and that of the mean error in every group of recordings.

    Raises ValueError for no results, or not one cost for each of them.
    """
    scores = [score(one, str(one.protocol["preset"])) for one in results]
    by_label = {one.label: one for one in costs}
    if not scores or set(by_label) != {one.method.label for one in scores}:
        raise ValueError("There must be results, and one cost for each of them.")
    whole = scores_sheet(scores)
    columns = ("parameters", "GFLOP/s", "ms/s", "MiB")
    rows = tuple((*row, *_cost_cells(by_label[one.method.label])) for row, one in zip(whole.rows, scores, strict=True))
    foot = tuple((*row, *[NOTHING] * len(columns)) for row in whole.foot)
    notes = (
        *whole.notes,
        "parameters: that training changed. GFLOP/s: billions of operations of one pass of the net, for a second of "
        "video. ms/s: milliseconds for a second of video from the face clip to the estimate with its confidence, on "
        "this machine's processor; finding the face is not in it. MiB: largest memory of a process that does this "
        "alone, libraries included.",
        *(
            f"{METHODS[name].title}: {METHODS[name].basis}."
            for name in dict.fromkeys(one.method.name for one in scores)
        ),
    )
    first = Sheet(
        title="Every method, judged on people whom no training has seen",
        columns=(*whole.columns, *columns),
        rows=rows,
        text_columns=whole.text_columns,
        notes=notes,
        foot=foot,
    )
    return (first, strata_sheet(scores))


def strata_sheet(scores: Sequence[Scores]) -> Sheet:
    """Return the mean error of every method in every group, the smallest of a row marked, and that of the oracle."""
    rows = []
    oracle = scores[0].oracle
    for group, values in scores[0].groups.items():
        for value in values:
            figures = [one.groups.get(group, {}).get(value) for one in scores]
            errors = [None if one is None else one.mae_bpm for one in figures]
            n = max((one.n for one in figures if one is not None), default=0)
            best = min((error for error in errors if error is not None), default=None)
            cells = (figure(error, 1) + ("*" if error is not None and error == best else "") for error in errors)
            shown = value.split(" ", 1)[1] if value[:1].isdigit() and " " in value else value
            known = None if oracle is None else oracle.groups.get(group, {}).get(value)
            rows.append((f"{group}: {shown}", str(n), *cells, figure(None if known is None else known.mae_bpm, 1)))
    return Sheet(
        title="Mean absolute error in bpm, by group",
        columns=("group", "n", *(one.method.label for one in scores), ORACLE.label),
        rows=tuple(rows),
        text_columns=frozenset({0}),
        notes=(
            "n: readings laid out. *: the smallest of the row. oracle: the reference's own wave, read by the same "
            "rule.",
        ),
    )


def training_sheet(entrants: Sequence[Entrant]) -> Sheet:
    """Return a table of the trainings, from their recipes and results."""
    rows, notes = [], []
    for entrant in entrants:
        if entrant.run is None:
            continue
        recipe = read_json_object(entrant.run / "config.json", "recipe")["recipe"]
        ended = read_json_object(entrant.run / "results" / "fit.json", "step", "best")
        data = read_json_object(entrant.run / "results" / DATA, "train", "val")
        fit, best = recipe["fit"], ended["best"]
        rows.append(
            (
                entrant.label,
                str(recipe["net_config"] or NOTHING),
                f"{ended['step']} x {fit['batch_size']}",
                f"{recipe['data']['n_frames']} x {recipe['data']['size_px']}",
                f"{fit['lr']:g}",
                f"{len(data['train'])} + {len(data['val'])}",
                figure(None if best is None else best["mae_bpm"]),
                figure(None if best is None else best["chance_mae_bpm"]),
            )
        )
        notes.append(f"{entrant.label}: {recipe['title']}.")
    return Sheet(
        title="The trainings",
        columns=("net", "changes", "steps x clips", "frames x px", "lr", "recordings", "MAE", "of chance"),
        rows=tuple(rows),
        text_columns=frozenset({0, 1}),
        notes=(
            "recordings: to learn from + to validate on. MAE: in bpm, of the best validation, whose weights are "
            "tested; of chance: of always saying the mean rate. No learning rate was tuned.",
            *notes,
        ),
    )


def _cost_cells(cost: Cost) -> tuple[str, ...]:
    return (
        NOTHING if cost.parameters is None else f"{cost.parameters:,}",
        figure(cost.gflop, 2),
        figure(cost.ms, 1),
        figure(cost.peak_mib, 0),
    )
