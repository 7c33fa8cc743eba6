"""A net under a protocol: trained by a recipe for each fold, tested on the subjects of that fold.

    OUT/fold_1/             the training of fold 1, as ``autohr train`` leaves it
    OUT/fold_2/ ...
    EVALUATION/results/     the results of all folds' nets on their test subjects (``evaluate.results``)

Training and testing take their folds from one place, ``evaluate.protocols.folds_of``, so no net is tested on a face
that it was trained on. The fold's subjects validate the training, but they choose nothing: the weights of the last step
are tested, not the best by validation, which would be the best by test.

Everything goes on where it was stopped, by the same call: a training in its steps, an evaluation in its recordings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autohr.cluster import share_out
from autohr.errors import AutoHRError, BadRecipe, BadRecording, Stopped, WorkerDied
from autohr.files import read_json_object
from autohr.frontend import CropConfig
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.cache import CachedRecording, Entry, cache_folder, open_cached, read_manifest
from autohr.lab.datasets.folds import subject_key
from autohr.lab.datasets.manifest import manifest_path
from autohr.lab.datasets.recording import Absent
from autohr.lab.evaluate.protocols import CrossDataset, KFold, LeaveOut, Protocol, folds_of
from autohr.lab.evaluate.results import Results
from autohr.lab.evaluate.run import crop_of, find_protocol, run
from autohr.lab.recipes.files import toml_inline
from autohr.lab.runs import create_run
from autohr.lab.train.fit import LAST
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import Recipe, read_recipe, run_config, train
from autohr.methods import Method, load_method
from autohr.workers import Report

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Recordings of a protocol's datasets that a cache holds, and recordings that it lacks."""

    recordings: tuple[CachedRecording, ...]
    entries: tuple[Entry, ...]
    absent: tuple[Absent, ...]


def open_prepared(cache: Path, datasets: Collection[str], crop: CropConfig) -> Prepared:
    """Open everything that ``autohr prepare`` left of some datasets, excluded and absent recordings included.

    Raises BadRecording where one of them was not prepared with this crop, when the message names the command that does
    it, or is damaged.
    """
    recordings: list[CachedRecording] = []
    entries: list[Entry] = []
    absent: list[Absent] = []
    for name in datasets:
        found = open_cached(cache, crop, datasets=[name]) if cache_folder(cache, crop).is_dir() else []
        if not found:
            title = DATASETS[name].title if name in DATASETS else name
            raise BadRecording(
                f"{title} is not prepared in {str(cache)!r}: autohr prepare {name} FOLDER --out {cache} "
                f"--size-px {crop.size_px} --box {crop.box} --margin {crop.margin:g}"
            )
        recordings += found
        entries += [entry for entry in read_manifest(cache, crop).entries if entry.dataset == name]
        absent += _absent(cache, crop, name)
    return Prepared(tuple(recordings), tuple(entries), tuple(absent))


def _absent(cache: Path, crop: CropConfig, dataset: str) -> list[Absent]:
    path = manifest_path(cache, crop, dataset)
    if not path.exists():
        return []
    rows = read_json_object(path, "recordings")["recordings"]
    return [Absent(row["id"], row["reason"], row["known_gap"]) for row in rows if row["state"] == "absent"]


def evaluate_formula(
    method: Method,
    protocol: Protocol,
    evaluation: Path,
    *,
    cache: Path,
    workers: int = 1,
    cluster: str | None = None,
) -> Results:
    """Evaluate a method that learns nothing on every recording of the protocol.

    ``workers`` and ``cluster`` are as for ``run``. Raises BadRecording where the protocol's datasets are not prepared.
    """
    prepared = open_prepared(cache, protocol.datasets, crop_of(protocol, method))
    return run(
        protocol,
        method,
        prepared.recordings,
        evaluation,
        entries=prepared.entries,
        absent=prepared.absent,
        workers=workers,
        cluster=cluster,
    )


def evaluate_net(
    recipe_path: Path,
    overrides: Sequence[str],
    protocol: Protocol,
    out: Path,
    evaluation: Path,
    *,
    label: str,
    folds: Collection[int] | None = None,
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Say | None = None,
) -> Results:
    """Train and test a net as a protocol has it.

    Parameters
    ----------
    recipe_path, overrides
        As ``train`` takes them. Their fold and their share of validation subjects are replaced by the protocol's; the
        cache is the recipe's.
    out, evaluation
        Folder of the trainings, and run directory of the results, which several methods of one protocol may share.
    folds
        Folds to train and test now, of a protocol with folds; all if None. The others stay pending.
    workers, cluster
        Processes, or a scheduler whose workers train the folds side by side, each a process of its own, and then test
        (``autohr.cluster``). With one process the folds are trained in turn, in this one.

    Raises
    ------
    BadRecording, BadRecipe
        A dataset is not prepared; see ``train``, or a recipe whose datasets are not those that the protocol trains on.
    Stopped
        Training was stopped; the same call goes on.
    """
    recipe = read_recipe(recipe_path, overrides)
    say = say or (lambda line: None)
    _refuse_other_data(recipe, protocol, recipe_path)
    tested = open_prepared(Path(recipe.data.cache), protocol.datasets or recipe.data.datasets, recipe.crop)
    if isinstance(protocol.split, CrossDataset):
        say(f"{label}: training on {', '.join(recipe.data.datasets)}")
        changes = [*overrides, *_last_subject_validates(recipe)]
        if cluster is not None:
            train_side_by_side([Training(recipe_path, tuple(changes), out / "all")], cluster=cluster, say=say)
        weights = train_to_end(recipe_path, changes, out / "all", progress)
        method: Method | dict[int, Method] = _load(recipe, weights)
    else:
        subjects_of = subjects_of_folds(protocol, tested)
        numbers = sorted(subjects_of)
        chosen = numbers if folds is None else sorted(folds)
        if set(chosen) - set(numbers):
            raise BadRecipe(f"Folds {chosen} are not all among those of these recordings, {numbers}.")
        trainings = {}
        for fold in chosen:
            subjects = subjects_of[fold]
            if not subjects:
                raise BadRecording(f"Fold {fold} of {protocol.name} has no recording that could be used.")
            changes = [*overrides, *fold_overrides(fold, len(numbers), protocol, subjects)]
            trainings[fold] = Training(recipe_path, tuple(changes), out / f"fold_{fold}")
            say(f"{label}: training for fold {fold} of {len(numbers)}, tested on {len(subjects)} subject(s)")
            if workers == 1 and cluster is None:
                train_to_end(recipe_path, changes, out / f"fold_{fold}", progress)
        train_side_by_side(list(trainings.values()), workers=workers, cluster=cluster, say=say)
        method = {fold: _load(recipe, one.folder / "checkpoints" / LAST) for fold, one in trainings.items()}
    say(f"{label}: testing")
    return run(
        protocol,
        method,
        tested.recordings,
        evaluation,
        entries=tested.entries,
        absent=tested.absent,
        crop=recipe.crop,
        label=label,
        workers=workers,
        cluster=cluster,
    )


def cross_validate(
    recipe_path: Path,
    overrides: Sequence[str],
    out: Path,
    *,
    n_folds: int | None = None,
    leave_out: str | None = None,
    protocol: str = "reference",
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Say | None = None,
) -> Results:
    """Train the net of a recipe once for each fold of its own datasets, and test each on who it never saw.

    Parameters
    ----------
    recipe_path, overrides
        As for ``evaluate_net``.
    out
        Folder of the trainings (``fold_1`` ...) and of the results (``evaluation``).
    n_folds
        Number of folds of subjects: the dataset's own where it has as many, else drawn by seed.
    leave_out
        In place of ``n_folds``: the group of which one value is tested and the others are trained on, or "dataset".
    protocol
        Windows and scoring are those of this one.

    Raises
    ------
    ValueError
        Neither or both of ``n_folds`` and ``leave_out``.
    UnknownName, BadRecipe, BadRecording, Stopped
        There is no such protocol; else see ``evaluate_net`` and ``folds_of``.
    """
    if (n_folds is None) == (leave_out is None):
        raise ValueError(f"n_folds={n_folds} and leave_out={leave_out}: give exactly one of them.")
    recipe, base = read_recipe(recipe_path, overrides), find_protocol(protocol)
    split: KFold | LeaveOut
    if n_folds is not None:
        found = open_prepared(Path(recipe.data.cache), recipe.data.datasets, recipe.crop).recordings
        split = KFold(n_folds, official=len({one.fold for one in found} - {None}) == n_folds)
        ending = f"{n_folds} folds"
    else:
        split = LeaveOut(str(leave_out))
        ending = f"one {leave_out} left out"
    rule = replace(
        base,
        name=f"{base.name}-{ending.replace(' ', '-')}",
        title=f"{base.title}; nets by {ending}",
        datasets=recipe.data.datasets,
        split=split,
    )
    return evaluate_net(
        recipe_path,
        overrides,
        rule,
        out,
        out / "evaluation",
        label=recipe.net,
        workers=workers,
        cluster=cluster,
        progress=progress,
        say=say,
    )


def _refuse_other_data(recipe: Recipe, protocol: Protocol, recipe_path: Path) -> None:
    split = protocol.split
    wanted = split.trained_on if isinstance(split, CrossDataset) else protocol.datasets
    if wanted and set(recipe.data.datasets) != set(wanted):
        raise BadRecipe(
            f"{recipe_path}: data.datasets are {', '.join(recipe.data.datasets)}, but protocol {protocol.name} trains "
            f"on {', '.join(wanted)}. Change the recipe, or choose another protocol."
        )


def subjects_of_folds(protocol: Protocol, prepared: Prepared) -> dict[int, list[str]]:
    """Return fold -> the subjects that are tested in it and have a recording that can be used, as dataset/subject.

    Raises BadRecipe where the protocol has no folds.
    """
    known = {one.recording_id: one for one in prepared.recordings} | {one.id: one for one in prepared.entries}
    home = folds_of(protocol, known)
    usable = {one.recording_id for one in prepared.recordings}
    # None where the protocol has no folds; 0 is only trained on.
    numbers = sorted({fold for fold in home.values() if fold})
    if not numbers:
        raise BadRecipe(f"Protocol {protocol.name} has no folds, so it cannot train a net; choose another one.")
    return {
        fold: sorted({subject_key(known[one]) for one, its in home.items() if its == fold and one in usable})
        for fold in numbers
    }


def fold_overrides(fold: int, n_folds: int, protocol: Protocol, subjects: Sequence[str]) -> list[str]:
    """Return the changes of a recipe by which nobody of ``subjects``, whom ``fold`` tests, is learned from."""
    k = max(n_folds, protocol.split.k if isinstance(protocol.split, KFold) else 1)
    return [f"data.fold={fold}", f"data.n_folds={k}", f"data.val_subjects={toml_inline(subjects)}"]


def _last_subject_validates(recipe: Recipe) -> list[str]:
    """Return the changes of a recipe by which a net that is tested elsewhere learns from all subjects but one.

    The paper trains on all of VIPL-HR. Our trainings need validation: the last subject by name, one of 107.
    """
    found = open_prepared(Path(recipe.data.cache), recipe.data.datasets, recipe.crop).recordings
    return [f"data.val_subjects={toml_inline([max(subject_key(one) for one in found)])}"]


def train_to_end(
    recipe_path: Path, overrides: Sequence[str], folder: Path, progress: Callable[[Progress], None] | None
) -> Path:
    """Train, unless the training in ``folder`` has ended already, and return the weights of the last step.

    Raises BadRecipe as ``train``, also where ``folder`` holds a run of another recipe; Stopped where training was
    stopped: the same call goes on.
    """
    weights = folder / "checkpoints" / LAST
    recipe = read_recipe(recipe_path, overrides)
    if has_ended(folder):
        # Refuses a run of another recipe.
        create_run(folder, run_config(recipe))
        return weights
    result = train(recipe_path, overrides, out=folder, progress=progress)
    if result.fit.stopped_by is not None:
        raise Stopped(
            f"Stopped by {result.fit.stopped_by} after step {result.fit.step} of {str(folder)!r}; "
            "the same command goes on from there."
        )
    return weights


@dataclass(frozen=True)
class Training:
    """Arguments of ``train_to_end``, to be sent to a worker."""

    recipe_path: Path
    overrides: tuple[str, ...]
    folder: Path

    @property
    def has_ended(self) -> bool:
        """True where it ended already, so that nothing is left but to compare its recipe."""
        return has_ended(self.folder)


def train_side_by_side(
    trainings: Sequence[Training], *, workers: int = 1, cluster: str | None = None, say: Say | None = None
) -> None:
    """Train those that have not ended, each in a worker of its own.

    Each worker uses one thread of a processor; on a GPU it has it for itself only where the scheduler gives it one.

    Raises
    ------
    AutoHRError
        A training failed, or its worker died twice: the first of them, when all others have ended. The same call goes
        on from their checkpoints.
    """
    left = [one for one in trainings if not one.has_ended]
    say = say or (lambda line: None)
    failed: dict[str, str] = {}
    outcomes = share_out(_train_in_worker, left, workers=workers, cluster=cluster)
    with contextlib.closing(outcomes):
        for number, outcome in outcomes:
            folder = str(left[number].folder)
            if isinstance(outcome, WorkerDied):
                failed[folder] = f"{outcome}, twice"
            elif isinstance(outcome, AutoHRError):
                failed[folder] = str(outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                say(f"{folder}: trained")
    if failed:
        folder, reason = next(iter(failed.items()))
        raise AutoHRError(f"{len(failed)} of {len(trainings)} trainings failed, first {folder!r}: {reason}")


def _train_in_worker(training: Training, report: Report) -> Exception | None:
    try:
        train_to_end(training.recipe_path, training.overrides, training.folder, None)
    except Exception as error:
        return error
    return None


def has_ended(folder: Path) -> bool:
    """Return True for a training that came to its last step; one that was stopped has results too."""
    ended = folder / "results" / "fit.json"
    if not (ended.exists() and (folder / "checkpoints" / LAST).exists()):
        return False
    fit = read_json_object(ended, "step", "n_steps")
    return bool(fit["step"] >= fit["n_steps"])


def _load(recipe: Recipe, weights: Path) -> Method:
    return load_method(recipe.net, weights, recipe.fit.device)
