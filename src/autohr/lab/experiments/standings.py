"""Every method in one table: nets trained under one budget, formulas as they are, all judged on the same new people.

    OUT/physnet/ ...          the trainings, as ``autohr train`` leaves them
    OUT/evaluation/           what all methods say of every recording (``evaluate.results``)
    OUT/costs.json            what each costs on this machine
    OUT/results/standings.md  the tables

The people of the test are in no training: a subject who is in both is refused (drawn people have numbers and no names;
for them the caller takes another seed). The weights of the best validation are tested; who validates is of the training
recordings. Everything goes on where it was stopped, by the same call.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autohr.errors import AutoHRError, BadRecipe, BadRecording, Stopped, UnknownName
from autohr.files import make_folder, read_json, write_json, write_text
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.cache import Entry, open_cached
from autohr.lab.evaluate.results import Account, Results
from autohr.lab.evaluate.run import crop_of, evaluate_dataset, find_protocol
from autohr.lab.evaluate.scoring import ORACLE, Figures, Scores, score
from autohr.lab.evaluate.summary import scores_sheet
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure, render_sheet
from autohr.lab.experiments.costs import Asked, Cost, measure_costs
from autohr.lab.experiments.folds import train_to_end
from autohr.lab.recipes.files import FOLDER, find_recipe
from autohr.lab.train.fit import BEST
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import DATA
from autohr.methods import METHODS, Method, load_method, shipped_weights

RECIPE = "equal_{net}.toml"
"""In the folder of recipes: how each net is trained. They differ in the net, its loss and its learning rate alone."""
SHIPPED = "{net}-shipped"
"""Label of a net with the weights of this installation, which saw more than the budget."""
DRAWN = re.compile(r"subject_\d+")
"""What ``autohr synth`` calls people that it draws: a number, which stands for somebody else under another seed."""
COSTS = "costs.json"
PAGE = "standings.md"
PROTOCOL = "reference"
DATASET = "synthetic"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Entrant:
    """One row: a method, and the weights that it is judged with."""

    label: str
    name: str
    weights: Path | None
    run: Path | None
    """Of the training under the budget."""


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
    progress: Callable[[Progress], None] | None = print_progress,
    preparing: Callable[[int, int, Entry], None] | None = None,
    judging: Callable[[str, int, int, Account], None] | None = None,
    failing: Callable[[str, str], None] | None = None,
    say: Say | None = None,
) -> tuple[Sheet, ...]:
    """Train every net that has a recipe, judge all methods on the recordings in ``root``, and measure what they cost.

    Args:
        root: folder of synthetic recordings (``autohr synth``) of people that nobody was trained on.
        train_cache: that ``autohr prepare`` wrote of the training recordings.
        test_cache: for the crops of the test; ``out/cache`` if None.
        recipes: folder of the recipes; the shipped ones if None.
        overrides: of every recipe.
        only: names of ``METHODS``; all if empty.
        workers: processes that look for faces.
        failing: called with (label, reason) for each method that failed. The others are judged all the same, and a note
            of the first table names those that failed.

    Returns:
        All methods with their cost; their mean errors by group; the trainings.

    Raises:
        UnknownName: no such method.
        BadRecipe: a person of the test is in the training.
        Stopped: a training was stopped by a signal; the same call goes on.
        AutoHRError: every method failed: the error of the first.
    """
    say = say or (lambda line: None)
    for name in only:
        if name not in METHODS:
            raise UnknownName("method", name, METHODS)
    names = list(only) or list(METHODS)
    people = {one.subject for one in DATASETS[DATASET].list_recordings(Path(root)).recordings}
    failures: dict[str, AutoHRError] = {}
    entrants = []
    for name in names:
        try:
            entrants.append(_entrant(name, out, train_cache, recipes, overrides, progress, say))
        except Stopped:
            raise
        except AutoHRError as error:
            failures[name] = error
            say(f"{name}: FAILED: {error}")
    if failures and not entrants:
        raise next(iter(failures.values()))
    why = {label: str(error) for label, error in failures.items()}
    for entrant in entrants:
        _refuse_same_people(entrant, people)
    entrants += [
        Entrant(SHIPPED.format(net=name), name, None, None)
        for name in names
        if METHODS[name].is_net and name in shipped_weights()
    ]
    methods = [replace(load_method(one.name, one.weights), title=one.label) for one in entrants]
    cache = test_cache or out / "cache"
    results = evaluate_dataset(
        DATASET,
        Path(root),
        methods,
        PROTOCOL,
        out / "evaluation",
        cache=cache,
        labels=[one.label for one in entrants],
        workers=workers,
        preparing=preparing,
        judging=judging,
        failing=why.__setitem__,
        say=say,
    )
    judged = {one.method.label for one in results}
    ready = [(one, method) for one, method in zip(entrants, methods, strict=True) if one.label in judged]
    entrants = [one for one, _ in ready]
    costs = _costs(entrants, [method for _, method in ready], cache, out / COSTS, say)
    first, *others = standing_sheets(results, costs)
    sheets = (
        replace(first, notes=(*(f"{label}: FAILED: {said}" for label, said in why.items()), *first.notes)),
        *others,
    )
    sheets += (training_sheet(entrants),)
    page = "\n\n".join(render_sheet(sheet, "markdown") for sheet in sheets) + "\n"
    make_folder(out / "results")
    write_text(out / "results" / PAGE, page)
    if failing is not None:
        for label, said in why.items():
            failing(label, said)
    return sheets


def _entrant(
    name: str,
    out: Path,
    cache: Path,
    recipes: Path | None,
    overrides: Sequence[str],
    progress: Callable[[Progress], None] | None,
    say: Say,
) -> Entrant:
    """A formula as it is; a net trained to its end."""
    if not METHODS[name].is_net:
        return Entrant(name, name, None, None)
    recipe = find_recipe(RECIPE.format(net=name), recipes or FOLDER)
    say(f"{name}: training")
    run = out / name
    train_to_end(recipe, [f"data.cache='{cache}'", *overrides], run, progress)
    return Entrant(name, name, run / "checkpoints" / BEST, run)


def _refuse_same_people(entrant: Entrant, people: set[str]) -> None:
    if entrant.run is None:
        return
    said = read_json(entrant.run / "results" / DATA)
    # dataset/subject/session
    learned = {one.split("/")[1] for one in (*said["train"], *said["val"])}
    both = sorted(one for one in learned & people if not DRAWN.fullmatch(one))
    if both:
        raise BadRecipe(
            f"{len(both)} people of the test were in the training of {entrant.label}, such as {both[0]!r}. Test on "
            "others: autohr synth --split test, and drawn people of another seed."
        )


def _costs(
    entrants: Sequence[Entrant], methods: Sequence[Method], cache: Path, file: Path, say: Say
) -> tuple[Cost, ...]:
    """Of every entrant, on ten seconds of the first recording that is long enough; measured once."""
    known = {one["label"]: Cost(**one) for one in read_json(file)} if file.exists() else {}
    asked = []
    for entrant, method in zip(entrants, methods, strict=True):
        if entrant.label in known:
            continue
        crop = crop_of(find_protocol(PROTOCOL), method)
        seconds = find_protocol(PROTOCOL).window_s or 10.0
        for one in open_cached(cache, crop, datasets=[DATASET]):
            n_frames = round(seconds * one.fps)
            if one.n_frames >= n_frames and 25 <= one.fps <= 32:
                size_px = None if method.crop is None else method.crop.size_px
                asked.append(Asked(entrant.label, entrant.name, entrant.weights, one.face_clip(0, n_frames, size_px)))
                break
        else:
            raise BadRecording(
                f"No recording of {seconds:g} s at about 30 frames per second, on which to time methods."
            )
    known |= {one.label: one for one in measure_costs(asked, say)}
    write_json(file, [dataclasses.asdict(one) for one in known.values()])
    return tuple(known[one.label] for one in entrants)


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------


def standing_sheets(results: Sequence[Results], costs: Sequence[Cost]) -> tuple[Sheet, ...]:
    """The table of all methods with their cost, and one of the mean error in every group of recordings.

    Raises:
        ValueError: no results, or not one cost for each of them.
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
        *(f"{METHODS[name].title}: {METHODS[name].sure}." for name in dict.fromkeys(one.method.name for one in scores)),
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
            told = [one.groups.get(group, {}).get(value) for one in scores]
            errors = [None if one is None else one.mae_bpm for one in told]
            best = min((error for error in errors if error is not None), default=None)
            cells = (figure(error, 1) + ("*" if error is not None and error == best else "") for error in errors)
            shown = value.split(" ", 1)[1] if value[:1].isdigit() and " " in value else value
            known = None if oracle is None else oracle.groups.get(group, {}).get(value)
            rows.append(
                (f"{group}: {shown}", str(_most(told)), *cells, figure(None if known is None else known.mae_bpm, 1))
            )
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


def _most(told: Sequence[Figures | None]) -> int:
    return max((one.n for one in told if one is not None), default=0)


def training_sheet(entrants: Sequence[Entrant]) -> Sheet:
    """What every training was: from its recipe and its own results."""
    rows, notes = [], []
    for entrant in entrants:
        if entrant.run is None:
            continue
        recipe = read_json(entrant.run / "config.json")["recipe"]
        ended, data = read_json(entrant.run / "results" / "fit.json"), read_json(entrant.run / "results" / DATA)
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
