"""Recipes of trainings: a TOML file that says how a net is trained; ``train`` follows it from recordings to weights.

    net = "autohr"            name in NETS
    [net_config]              what differs from the net's defaults; may hold preset = "small"
    [data]                    which recordings, how long the clips, who validates
    [crop] [augment]          how faces were cropped, how clips are varied
    [loss] [fit]              what is minimised, and how

A recipe states only what differs from the defaults. An unknown key is refused with the known ones listed.
``DataRecipe`` and the functions that take one serve recipes of searches as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass as checked
from torch import nn

import autohr
from autohr.errors import AutoHRError, BadRecipe, BadRecording, UnknownName
from autohr.files import read_json, write_json
from autohr.frontend import CropConfig
from autohr.lab.datasets.augment import AugmentConfig
from autohr.lab.datasets.cache import CachedRecording, open_cached
from autohr.lab.datasets.clips import ClipSource, at_clock
from autohr.lab.datasets.folds import holdout, k_folds, subject_key
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._checkpoint import load_net, save_weights
from autohr.lab.nets._export import export_beside
from autohr.lab.nets._genotype import read_genotype
from autohr.lab.recipes.files import read_recipe_table
from autohr.lab.recipes.parsing import STRICT, parse_as
from autohr.lab.runs import OnLog, Run, create_run, open_run
from autohr.lab.train.curves import draw_curves
from autohr.lab.train.fit import BEST, LAST, FitConfig, FitResult, fit
from autohr.lab.train.loop import LoopConfig, Progress, print_progress
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.processes import join_processes, wait_for_all
from autohr.lab.train.steps import STEPS, Step
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS

DATA = "data.json"
"""File in a run's results: which recordings trained, which validated, and which did neither and why."""


@checked(frozen=True, config=STRICT)
class DataConfig:
    """Recordings that a net learns from, and those that validate it on the way."""

    datasets: Annotated[tuple[str, ...], Field(min_length=1)] = ("synthetic",)
    """Names of ``autohr list datasets``; they must have been prepared with the recipe's [crop]."""
    cache: str = "cache"
    """Folder that ``autohr prepare`` wrote to."""
    n_frames: Annotated[int, Field(ge=4, multiple_of=4)] = 160
    """Length of a clip (the paper's)."""
    size_px: Annotated[int, Field(ge=16)] = 112
    """Side of a clip (the paper's); at most the crop's."""
    least_fps: PositiveFloat | None = None
    """Lowest frame rate; frames are inserted between those of slower recordings, in training and in use
    (``datasets.clips.at_clock``)."""
    most_fps: PositiveFloat | None = None
    """Highest frame rate; of faster recordings some frames are left out, likewise."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the subjects that validate; no subject is on both sides."""
    fold: int | None = None
    """Fold of ``n_folds`` that validates, counted from 1, instead of ``val_share``."""
    n_folds: int = 5
    split_seed: int = 0
    """Seed of the choice of who validates."""
    val_subjects: tuple[str, ...] = ()
    """Subjects that validate, and nobody else, each as dataset/subject; ``fold`` then only says which fold they are.
    The laboratory names them, so that training and testing agree on the folds."""
    licence: str | None = None
    """Licence under which the weights may be used, given what they were trained on. Written into them."""

    def __post_init__(self) -> None:
        if not self.clock[0] <= self.clock[1]:
            raise ValueError(f"least_fps={self.least_fps} must not be above most_fps={self.most_fps}.")
        if self.fold is not None and not 1 <= self.fold <= self.n_folds:
            raise ValueError(f"fold={self.fold} must be 1 to {self.n_folds}.")

    @property
    def clock(self) -> tuple[float, float]:
        """Lowest and highest frame rate."""
        return self.least_fps or 0.0, self.most_fps or math.inf


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Base of the recipes of trainings and searches: recordings, and what is minimised on them."""

    title: str = ""
    """One line: what this trains or searches, and why."""
    data: DataConfig = field(default_factory=DataConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.data.size_px > self.crop.size_px:
            raise ValueError(f"data.size_px={self.data.size_px} is larger than crop.size_px={self.crop.size_px}.")

    @property
    def learning(self) -> Step:
        """Way of learning of the net."""
        return STEPS["autohr"]

    @property
    def needs_bvp(self) -> bool:
        """True where the loss compares with a reference wave."""
        own = self.learning.needs_bvp
        return self.loss.time_weight > 0 if own is None else own


@dataclass(frozen=True, kw_only=True)
class Recipe(DataRecipe):
    """One training, as in its TOML file."""

    net: str
    """Name of ``autohr list nets``."""
    net_config: dict[str, Any] = field(default_factory=dict)
    """Fields of the net's config, and "preset"; checked when the net is made."""
    init: str | None = None
    """Weights to begin with, a file of the same net and config; None begins with random ones. Its training data are
    named beside this recipe's own in the weights that result."""
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=15))

    @property
    def learning(self) -> Step:
        """Way of learning of the net."""
        return STEPS[self.net]


@dataclass(frozen=True)
class TrainResult:
    """Files that a training left."""

    run: Path
    weights: Path
    """The best weights by validation; a file NAME.onnx lies beside NAME.safetensors when the training is over."""
    curves: Path
    """Plot of losses and errors, SVG."""
    fit: FitResult


# Reading ---------------------------------------------------------------------------------------------------------


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a TOML file, after ``overrides``; both as in ``read_recipe_table``.

    A genotype in it may be given as the path of a .json file; the recipe then holds what is in that file.
    """
    table = read_recipe_table(path, overrides)
    net_config = table.get("net_config")
    if isinstance(net_config, dict):
        genotype = net_config.get("genotype")
        if isinstance(genotype, str) and genotype.endswith(".json"):
            net_config["genotype"] = read_genotype(Path(genotype)).as_dict()
    return parse_recipe(table, str(path))


def parse_recipe(table: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Return the recipe in a parsed TOML table; errors begin with ``name``."""
    return parse_as(Recipe, table, name)


# What trainings and searches share -------------------------------------------------------------------------------


def open_recordings(recipe: DataRecipe) -> list[CachedRecording]:
    """Return the cached recordings that a recipe names.

    Raises
    ------
    BadRecording
        None were prepared; the message names the commands that make them.
    BadRecipe
        The loss needs a wave that some recordings do not have.
    """
    root = Path(recipe.data.cache)
    recordings: list[CachedRecording] = []
    for dataset in recipe.data.datasets:
        make = "autohr synth RECORDINGS, then " if dataset == "synthetic" else ""
        how = f"Make them: {make}autohr prepare {dataset} RECORDINGS --out {root}"
        if not root.is_dir():
            raise BadRecording(f"There are no cached recordings in {str(root)!r}. {how}")
        try:
            found = open_cached(root, recipe.crop, datasets=[dataset])
        except BadRecording as error:
            raise BadRecording(f"{error} {how}") from None
        if not found:
            raise BadRecording(f"{str(root)!r} holds no usable recording of {dataset!r}. {how}")
        recordings += found
    without = [recording.recording_id for recording in recordings if not recording.has_bvp]
    if without and recipe.needs_bvp:
        own = recipe.learning.own_loss
        raise BadRecipe(
            f"{len(without)} of {len(recordings)} recordings have no reference wave (such as {without[0]!r}), which "
            f"{own or 'the time loss'} compares with. "
            f"{'Leave' if own else 'Set loss.time_weight = 0, or leave'} their dataset out."
        )
    return recordings


def split_recordings(
    recipe: DataRecipe, recordings: list[CachedRecording]
) -> tuple[list[CachedRecording], list[CachedRecording]]:
    """Return the recordings to learn from and those held out, as [data] says, on the recipe's clock.

    No subject is on both sides.
    """
    data = recipe.data
    recordings = [at_clock(recording, *data.clock) for recording in recordings]
    if not data.val_subjects:
        try:
            if data.fold is not None:
                return k_folds(recordings, data.n_folds, data.split_seed)[data.fold - 1]
            return holdout(recordings, data.val_share, data.split_seed)
        except ValueError as error:
            raise BadRecipe(f"[data] {error}") from None
    known, chosen = {subject_key(recording) for recording in recordings}, set(data.val_subjects)
    if chosen - known or chosen == known:
        wrong = f"no recording is of {min(chosen - known)!r}" if chosen - known else "nobody is left to train on"
        raise BadRecipe(f"[data] val_subjects: {wrong}. Subjects: {', '.join(sorted(known))}.")
    training = [recording for recording in recordings if subject_key(recording) not in chosen]
    return training, [recording for recording in recordings if subject_key(recording) in chosen]


def clips_of(recipe: DataRecipe, recordings: Sequence[CachedRecording], augment: AugmentConfig | None) -> ClipSource:
    """Return a source of the clips of these recordings, in the recipe's size."""
    data = recipe.data
    return ClipSource(recordings, data.n_frames, data.size_px, augment, needs_bvp=recipe.needs_bvp)


def split_by_length(
    recordings: Sequence[CachedRecording], n_frames: int
) -> tuple[list[CachedRecording], dict[str, str]]:
    """Return the recordings whose windows the estimator can read, and the others with the reason.

    A clip has a number of frames, not of seconds: at 60 frames per second 160 of them hold too few beats for a rate,
    although a net can learn from them.
    """
    least_s = LEAST_PERIODS * 60 / BAND_BPM[0]
    readable = [recording for recording in recordings if n_frames >= math.ceil(least_s * recording.fps)]
    too_short = {
        f"{recording.recording_id} (segment {recording.segment})": f"cannot validate: {n_frames} frames are "
        f"{n_frames / recording.fps:.2f} s at {recording.fps:.4g} frames per second; a rate needs {least_s:g} s"
        for recording in recordings
        if n_frames < math.ceil(least_s * recording.fps)
    }
    if not readable:
        raise BadRecipe(
            f"[data] n_frames={n_frames} is too short to validate: no validation recording has {least_s:g} s in that "
            f"many frames. Use at least {math.ceil(least_s * min(recording.fps for recording in recordings))}."
        )
    return readable, too_short


def mean_rate(recordings: Sequence[CachedRecording]) -> float:
    """Return the mean of the recordings' mean rates, in bpm."""
    return float(np.mean([np.nanmean(recording.hr_bpm) for recording in recordings]))


def check_machine(config: LoopConfig, section: str, recipe_path: Path) -> None:
    """Check that this machine, and this number of processes, can do what the recipe says."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise BadRecipe(
            f"{recipe_path}: {section}.device is 'cuda', but torch sees no GPU here. Set {section}.device=cpu."
        )
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % n_processes:
        raise BadRecipe(
            f"{recipe_path}: {section}.batch_size={config.batch_size} cannot be shared evenly by {n_processes} "
            "processes."
        )


@contextlib.contextmanager
def begin_run(
    folder: Path,
    config: Mapping[str, Any],
    data: dict[str, Any],
    device: str,
    *,
    resume: bool,
    overwrite: bool,
    on_log: OnLog | None = None,
) -> Iterator[tuple[Run, int]]:
    """Join the processes of torchrun, and give the run folder, begun or found again, and this process's rank.

    Parameters
    ----------
    data
        Recordings by their use, for ``DATA``. A run that continues must see what it saw before, or its validation
        subjects may have been trained on.
    on_log
        Called with each line of the log.

    Raises
    ------
    BadRecipe
        The run began with other recordings; see also ``create_run``.
    AutoHRError
        ``resume`` found no run.
    """
    with join_processes(device) as rank:
        if rank == 0:
            if resume:
                open_run(folder)
            run = create_run(folder, config, overwrite=overwrite)
            before = read_json(run.results / DATA) if (run.results / DATA).exists() else data
            if before != data:
                uses = {"val": "to validate", "train": "to train", "weights": "for the weights"}
                parts = [part for part in before if part != "left_out"]
                then = " and ".join(f"{len(before[part])} {uses.get(part, f'for the {part}')}" for part in parts)
                now = " and ".join(str(len(data.get(part, ()))) for part in parts)
                raise BadRecipe(
                    f"{str(folder)!r} began with other recordings than the cache holds now ({then} then, {now} now). "
                    "Name another run folder, or ask to overwrite this one."
                )
            write_json(run.results / DATA, data)
        wait_for_all()
        yield (dataclasses.replace(run, on_log=on_log) if rank == 0 else open_run(folder)), rank


# Following -------------------------------------------------------------------------------------------------------


def train(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = print_progress,
    on_log: OnLog | None = None,
) -> TrainResult:
    """Train the net of a recipe; alone, or as one of the processes that torchrun started.

    A run that was stopped or killed goes on by the same call. See ``fit`` for what it writes into the run folder.

    Parameters
    ----------
    out
        The run folder; runs/<name of the recipe> if None.
    resume
        The run must exist already.
    overwrite
        A run made with another recipe, or this one, is removed first.
    on_log
        Called with each line of the run's log: the hook for TensorBoard (``train.tensorboard``) and the like.

    Raises
    ------
    BadRecipe
        See ``read_recipe`` and ``create_run``; also a net or a loss that does not fit.
    BadRecording
        The recordings are not there; the message names the command that makes them.
    AutoHRError
        Training diverged, or ``resume`` found no run.
    ValueError
        ``resume`` together with ``overwrite``.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other; give one of them.")
    recipe = read_recipe(recipe_path, overrides)
    check_machine(recipe.fit, "fit", recipe_path)
    torch.manual_seed(recipe.fit.seed)
    net, before = _make(recipe, recipe_path)
    training, validating = split_recordings(recipe, open_recordings(recipe))
    train_clips = clips_of(recipe, training, recipe.augment)
    readable, too_short = split_by_length(validating, recipe.data.n_frames)
    val_clips = clips_of(recipe, readable, None)
    data = {
        "train": [recording.recording_id for recording in train_clips.recordings],
        "val": [recording.recording_id for recording in val_clips.recordings],
        "left_out": {**train_clips.left_out, **val_clips.left_out, **too_short},
    }
    folder = out or Path("runs") / recipe_path.stem
    how = {"resume": resume, "overwrite": overwrite}
    begun = begin_run(folder, run_config(recipe), data, recipe.fit.device, **how, on_log=on_log)
    with begun as (run, rank):

        def save(path: Path, trained: nn.Module, measured: dict[str, Any]) -> None:
            header = _header(recipe, run, training, measured, before)
            save_weights(path, trained, name=recipe.net, header=header)

        result = fit(
            net,
            train_clips,
            val_clips,
            recipe.fit,
            run,
            loss=recipe.loss,
            learning=recipe.learning,
            guess_bpm=mean_rate(training),
            save_weights=save,
            progress=progress,
        )
        curves = run.results / "curves.svg"
        if rank == 0:
            curves, _ = draw_curves(run)
            write_json(run.results / "fit.json", dataclasses.asdict(result))
        best = run.checkpoints / BEST
        weights = best if best.exists() else run.checkpoints / LAST
        if rank == 0 and result.stopped_by is None:
            try:
                _export(weights)
            except AutoHRError as error:
                run.log({"note": f"No ONNX file: {error}"})
                if progress is not None:
                    done = (result.n_steps, result.n_steps, math.nan, 0.0, 0.0)
                    progress(Progress(*done, note=f"No ONNX file: {error}"))
    return TrainResult(folder, weights, curves, result)


def _export(weights: Path) -> None:
    """Write the weights as ONNX too, unless a repeated call finds that done."""
    onnx = weights.with_suffix(".onnx")
    if not onnx.exists() or onnx.stat().st_mtime < weights.stat().st_mtime:
        export_beside(weights)


def run_config(recipe: Recipe) -> dict[str, Any]:
    """Return the content of config.json in a recipe's run.

    ``val_subjects`` and ``accumulate`` are left out where they change nothing, so that a run that was begun before
    recipes had them can go on.
    """
    fields = dataclasses.asdict(recipe)
    if not recipe.data.val_subjects:
        del fields["data"]["val_subjects"]
    if recipe.fit.accumulate == 1:
        del fields["fit"]["accumulate"]
    return {"recipe": fields}


def _make(recipe: Recipe, recipe_path: Path) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return the net, and the header of the weights that it begins with."""
    if recipe.net not in NETS:
        raise UnknownName("net", recipe.net, NETS)
    own_loss = recipe.learning.own_loss
    if own_loss is not None and recipe.loss != LossConfig():
        raise BadRecipe(f"{recipe_path}: {recipe.net} is trained by {own_loss}; leave [loss] out, it would do nothing.")
    try:
        net = make_net(recipe.net, recipe.net_config)
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{recipe_path}: [net_config] {error}") from None
    if recipe.init is None:
        return net, None
    first, header = load_net(Path(recipe.init))
    if header["net"] != recipe.net or first.config != net.config:
        raise BadRecipe(f"{recipe_path}: init={recipe.init!r} does not hold {recipe.net} of the recipe's [net_config].")
    net.load_state_dict(first.state_dict())
    return net, header


def _header(
    recipe: Recipe,
    run: Run,
    training: Sequence[CachedRecording],
    measured: dict[str, Any],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the weights' header, but for what save_weights adds; ``before`` is that of the first weights."""
    fps = sorted({round(recording.fps, 1) for recording in training})
    data = recipe.data
    return {
        "input": {
            **dataclasses.asdict(recipe.crop),
            "size_px": data.size_px,
            "crop_size_px": recipe.crop.size_px,
            "n_frames": data.n_frames,
        },
        "fps": fps[0] if len(fps) == 1 else None,
        "training_data": {
            "datasets": list(data.datasets),
            "n_subjects": len({subject_key(recording) for recording in training}),
            "n_recordings": len(training),
            "minutes": round(sum(recording.n_frames / recording.fps for recording in training) / 60, 1),
            "fps_from": data.least_fps or fps[0],
            "fps_to": data.most_fps or fps[-1],
            **({} if before is None else {"before": before["training_data"]}),
        },
        "licence": data.licence,
        "provenance": {
            "autohr": autohr.__version__,
            "torch": torch.__version__,
            "date": datetime.date.today().isoformat(),
            "run": run.root.name,
            "recipe": dataclasses.asdict(recipe),
        },
        "measured_accuracy": {"on": "validation subjects of the same datasets", **measured} if measured else None,
    }
