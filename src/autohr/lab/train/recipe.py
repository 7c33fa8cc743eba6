"""A recipe is a TOML file that says how a net is trained; ``train`` follows it from cached recordings to weights.

    net = "autohr"            name in NETS
    [net_config]              what differs from the net's defaults; may hold preset = "small"
    [data]                    which recordings, how long the clips, who validates
    [crop] [augment]          how faces were cropped, how clips are varied
    [loss] [fit]              what is minimised, and how

A recipe states only what differs from the defaults. An unknown key is refused with the known ones listed.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import math
import os
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from torch import nn

import autohr
from autohr.errors import BadRecipe, BadRecording, UnknownName
from autohr.files import read_json, write_json
from autohr.frontend import CropConfig
from autohr.lab.datasets.augment import AugmentConfig
from autohr.lab.datasets.cache import CachedRecording, open_cached
from autohr.lab.datasets.clips import ClipSource, at_clock
from autohr.lab.datasets.folds import holdout, k_folds, subject_key
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._checkpoint import load_net, save_weights
from autohr.lab.nets._genotype import read_genotype
from autohr.lab.recipes.files import read_recipe_table
from autohr.lab.runs import Run, create_run, open_run
from autohr.lab.train.curves import draw_curves
from autohr.lab.train.fit import BEST, LAST, FitConfig, FitResult, Progress, fit, join_processes, print_progress
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.steps import STEPS
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS

T = TypeVar("T")

REPLACES: dict[str, tuple[str, ...]] = {
    "fit.steps": ("fit.epochs",),
    "fit.epochs": ("fit.steps",),
    "data.val_share": ("data.fold", "data.val_subjects"),
    "data.fold": ("data.val_subjects",),
}
"""Key of an override -> keys of the file that it replaces: those that contradict it, or that would win over it."""

DATA = "data.json"
"""In a run's results: which recordings trained, which validated, and which did neither and why."""


@dataclass(frozen=True)
class DataConfig:
    """Which recordings a net learns from, and which judge it on the way."""

    datasets: tuple[str, ...] = ("synthetic",)
    """Names of ``autohr list datasets``; they must have been prepared with the recipe's [crop]."""
    cache: str = "cache"
    """Folder that ``autohr prepare`` wrote to."""
    n_frames: int = 160
    """Length of a clip (the paper's; a multiple of 4)."""
    size_px: int = 112
    """Side of a clip (the paper's); at most the crop's."""
    least_fps: float | None = None
    """Between the frames of slower recordings others are put, in training and in use (``data.clips.at_clock``)."""
    most_fps: float | None = None
    """Of faster recordings some frames are left out, likewise."""
    val_share: float = 0.2
    """Share of the subjects that validate; no subject is on both sides."""
    fold: int | None = None
    """Instead of ``val_share``: this fold of ``n_folds`` validates, counted from 1."""
    n_folds: int = 5
    split_seed: int = 0
    """Decides who validates."""
    val_subjects: tuple[str, ...] = ()
    """If given, these validate and nobody else, each as dataset/subject; ``fold`` then only says which fold they are.
    ``lab/folds.py`` names them, so that training and testing agree on the folds."""
    licence: str | None = None
    """Under which the weights may be used, given what they saw. Written into them."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty; name at least one.")
        if self.n_frames < 4 or self.n_frames % 4:
            raise ValueError(f"n_frames={self.n_frames} must be a positive multiple of 4.")
        if self.size_px < 16:
            raise ValueError(f"size_px={self.size_px} must be at least 16.")
        least, most = self.least_fps or 0.0, self.most_fps or math.inf
        if not (0 <= least and 0 < most and least <= most):
            raise ValueError(
                f"least_fps={self.least_fps} and most_fps={self.most_fps} must be positive, in this order."
            )
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share={self.val_share} must lie between 0 and 1.")
        if self.fold is not None and not 1 <= self.fold <= self.n_folds:
            raise ValueError(f"fold={self.fold} must be 1 to {self.n_folds}.")


@dataclass(frozen=True)
class Recipe:
    """One training, as its TOML file has it."""

    net: str
    """Name of ``autohr list nets``."""
    title: str = ""
    """One line: what this trains, and why."""
    net_config: dict[str, Any] = field(default_factory=dict)
    """Fields of the net's config, and "preset"; checked when the net is made."""
    init: str | None = None
    """Weights to begin with, a file of the same net and config; None begins by chance. Its training data are named
    beside this recipe's own in what comes out."""
    data: DataConfig = field(default_factory=DataConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=15))

    def __post_init__(self) -> None:
        if self.data.size_px > self.crop.size_px:
            raise ValueError(f"data.size_px={self.data.size_px} is larger than crop.size_px={self.crop.size_px}.")


@dataclass(frozen=True)
class TrainResult:
    """Where a training left what."""

    run: Path
    weights: Path
    """The best weights by validation."""
    curves: Path
    """The picture of losses and errors, SVG."""
    fit: FitResult


# Reading ---------------------------------------------------------------------------------------------------------


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a TOML file, after ``overrides``.

    Args:
        path: the file, or the name of a shipped recipe. A genotype in it may be given as the path of a .json file; the
            recipe then holds what is in that file.
        overrides: such as "fit.lr=3e-4", with a value in TOML or else plain text. An override of one of two fields that
            contradict each other, such as fit.steps and fit.epochs, removes the other one of the file (``REPLACES``).

    Raises BadRecipe, one line, for a file that is missing or no TOML, an unknown key, a wrong type, a contradiction.
    """
    table = read_table(path, overrides)
    net_config = table.get("net_config")
    if isinstance(net_config, dict):
        genotype = net_config.get("genotype")
        if isinstance(genotype, str) and genotype.endswith(".json"):
            net_config["genotype"] = read_genotype(Path(genotype)).as_dict()
    return parse_recipe(table, str(path))


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the TOML file of a recipe holds, after ``overrides`` as of ``read_recipe``.

    Args:
        path: as ``find_recipe`` takes it, a file or the name of a shipped recipe.

    Raises:
        BadRecipe: no such recipe, or a file that cannot be read or is not TOML; or an override that is malformed.
    """
    table = read_recipe_table(path)
    given = [_override(table, override) for override in overrides]
    for key in given:
        for other in REPLACES.get(key, ()):
            section, _, name = other.partition(".")
            if other not in given and section not in given and isinstance(table.get(section), dict):
                table[section].pop(name, None)
    return table


def parse_recipe(table: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """The recipe in a parsed TOML table; ``name`` is how errors call it. Raises BadRecipe as ``read_recipe``."""
    return parse_as(Recipe, table, name)


def parse_as(kind: type[T], table: Mapping[str, Any], name: str) -> T:
    """A frozen dataclass from a parsed TOML table, its sections dataclasses of their own. BadRecipe, one line."""
    _refuse_unknown(kind, table, name, "")
    try:
        # A name of a file that is no UTF-8 would be refused below as if its JSON were wrong.
        json.dumps(table, ensure_ascii=False).encode()
        # Through JSON because only there does strict mean: tables become dataclasses, lists tuples, and nothing else
        # is converted ("4" is no number).
        return TypeAdapter(kind).validate_json(json.dumps(table), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] in ("value_error", "missing") else f" (given {first['input']!r})"
        raise BadRecipe(f"{name}: {where + ': ' if where else ''}{said}{given}") from None
    except UnicodeEncodeError:
        raise BadRecipe(f"{name}: a value is not UTF-8 text. Rename the file or folder that it names.") from None
    except (TypeError, ValueError) as error:
        raise BadRecipe(f"{name}: {error}; use numbers, text, lists and tables.") from None


def _override(table: dict[str, Any], override: str) -> str:
    """Put one "a.b=value" into the table, and return its key, "a.b"."""
    keys, equals, text = override.partition("=")
    *parents, last = [key.strip() for key in keys.split(".")]
    if not equals or not last or not all(parents):
        raise BadRecipe(f"--set {override!r} is not of the form section.key=value, such as fit.lr=3e-4.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise BadRecipe(f"--set {override!r}: {parent!r} is a value, not a section.")
    table[last] = value
    return ".".join((*parents, last))


def _refuse_unknown(kind: type[Any], table: Mapping[str, Any], name: str, section: str) -> None:
    types = typing.get_type_hints(kind)
    known = [each.name for each in dataclasses.fields(kind)]
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            place = f"[{section}]" if section else "a recipe"
            raise BadRecipe(f"{name}: {place} has no field {key!r}. Fields: {', '.join(known)}.{hint}")
        if dataclasses.is_dataclass(types[key]) and isinstance(value, Mapping):
            nested = typing.cast(type[Any], types[key])
            _refuse_unknown(nested, value, name, f"{section}.{key}" if section else key)


# Following -------------------------------------------------------------------------------------------------------


def train(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = print_progress,
) -> TrainResult:
    """Train the net of a recipe; alone, or as one of the processes that torchrun started.

    A run that was stopped or killed goes on by the same call. See ``fit`` for what it writes into the run folder.

    Args:
        out: the run folder; runs/<name of the recipe> if None.
        resume: the run must exist already.
        overwrite: a run made with another recipe, or this one, is removed first.

    Raises:
        BadRecipe: see ``read_recipe`` and ``create_run``; also a net or a loss that does not fit.
        BadRecording: the recordings are not there; the message names the command that makes them.
        AutoHRError: training diverged, or ``resume`` found no run.
        ValueError: ``resume`` together with ``overwrite``.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other; give one of them.")
    recipe = read_recipe(recipe_path, overrides)
    _refuse_unfit(recipe, recipe_path)
    torch.manual_seed(recipe.fit.seed)
    net, before = _make(recipe, recipe_path)
    recordings = open_recordings(recipe)
    training, validating = split_recordings(recipe, recordings)
    size = (recipe.data.n_frames, recipe.data.size_px)
    learning = STEPS[recipe.net]
    needs_bvp = _needs_bvp(recipe)
    clock = (recipe.data.least_fps or 0.0, recipe.data.most_fps or math.inf)
    training, validating = ([at_clock(one, *clock) for one in part] for part in (training, validating))
    train_clips = ClipSource(training, *size, recipe.augment, needs_bvp=needs_bvp)
    judged, too_short = long_enough(validating, recipe.data.n_frames)
    val_clips = ClipSource(judged, *size, needs_bvp=needs_bvp)
    folder = out or Path("runs") / recipe_path.stem
    config = run_config(recipe)

    with join_processes(recipe.fit.device) as rank:
        if rank == 0:
            if resume:
                open_run(folder)
            run = create_run(folder, config, overwrite=overwrite)
        if dist.is_initialized():
            dist.barrier()
        if rank != 0:
            run = open_run(folder)

        if rank == 0:
            data = {
                "train": [recording.recording_id for recording in train_clips.recordings],
                "val": [recording.recording_id for recording in val_clips.recordings],
                "left_out": {**train_clips.left_out, **val_clips.left_out, **too_short},
            }
            refuse_other_data(run, data)
            write_json(run.results / DATA, data)

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
            learning=learning,
            guess_bpm=float(np.mean([np.nanmean(recording.hr_bpm) for recording in training])),
            save_weights=save,
            progress=progress,
        )
        curves = run.results / "curves.svg"
        if rank == 0:
            curves, _ = draw_curves(run)
            write_json(run.results / "fit.json", dataclasses.asdict(result))
    best = run.checkpoints / BEST
    return TrainResult(folder, best if best.exists() else run.checkpoints / LAST, curves, result)


def run_config(recipe: Recipe) -> dict[str, Any]:
    """What config.json of a recipe's run holds. Without ``val_subjects`` where there are none, so that a run that was
    begun before recipes had them can go on."""
    said = dataclasses.asdict(recipe)
    if not recipe.data.val_subjects:
        del said["data"]["val_subjects"]
    return {"recipe": said}


def open_recordings(recipe: Recipe) -> list[CachedRecording]:
    """The cached recordings that a recipe names.

    Raises:
        BadRecording: none were prepared; the message names the commands that make them.
        BadRecipe: the loss needs a wave that some recordings do not have.
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
    if without and _needs_bvp(recipe):
        own = STEPS[recipe.net].own_loss
        raise BadRecipe(
            f"{len(without)} of {len(recordings)} recordings have no reference wave (such as {without[0]!r}), which "
            f"{own or 'the time loss'} compares with. "
            f"{'Leave' if own else 'Set loss.time_weight = 0, or leave'} their dataset out."
        )
    return recordings


def _needs_bvp(recipe: Recipe) -> bool:
    own = STEPS[recipe.net].needs_bvp
    return recipe.loss.time_weight > 0 if own is None else own


_PARTS = {
    "train": "to train",
    "val": "to validate",
    "weights": "for the weights",
    "architecture": "for the architecture",
}


def refuse_other_data(run: Run, data: dict[str, Any]) -> None:
    """A run that goes on must see what it saw before, or its validation subjects may have been trained on."""
    if (run.results / DATA).exists() and (before := read_json(run.results / DATA)) != data:
        parts = [part for part in before if part != "left_out"]
        then = " and ".join(f"{len(before[part])} {_PARTS.get(part, part)}" for part in parts)
        now = " and ".join(str(len(data.get(part, ()))) for part in parts)
        raise BadRecipe(
            f"{str(run.root)!r} began with other recordings than the cache holds now ({then} then, {now} now). "
            "Name another run folder, or ask to overwrite this one."
        )


def _refuse_unfit(recipe: Recipe, recipe_path: Path) -> None:
    """What this machine, or this number of processes, cannot do."""
    if recipe.fit.device == "cuda" and not torch.cuda.is_available():
        raise BadRecipe(f"{recipe_path}: fit.device is 'cuda', but torch sees no GPU here. Set fit.device=cpu.")
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.fit.batch_size % n_processes:
        raise BadRecipe(
            f"{recipe_path}: fit.batch_size={recipe.fit.batch_size} cannot be shared evenly by {n_processes} processes."
        )


def _make(recipe: Recipe, recipe_path: Path) -> tuple[nn.Module, dict[str, Any] | None]:
    """The net, and the header of the weights it begins with."""
    if recipe.net not in NETS:
        raise UnknownName("net", recipe.net, NETS)
    own_loss = STEPS[recipe.net].own_loss
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


def split_recordings(
    recipe: Recipe, recordings: list[CachedRecording]
) -> tuple[list[CachedRecording], list[CachedRecording]]:
    """(to learn from, held out), as [data] says; no subject is on both sides. Raises BadRecipe."""
    data = recipe.data
    if data.val_subjects:
        return _named_split(recordings, set(data.val_subjects))
    try:
        if data.fold is not None:
            return k_folds(recordings, data.n_folds, data.split_seed)[data.fold - 1]
        return holdout(recordings, data.val_share, data.split_seed)
    except ValueError as error:
        raise BadRecipe(f"[data] {error}") from None


def _named_split(
    recordings: list[CachedRecording], chosen: set[str]
) -> tuple[list[CachedRecording], list[CachedRecording]]:
    known = {subject_key(recording) for recording in recordings}
    if chosen - known or chosen == known:
        wrong = f"no recording is of {min(chosen - known)!r}" if chosen - known else "nobody is left to train on"
        raise BadRecipe(f"[data] val_subjects: {wrong}. Subjects: {', '.join(sorted(known))}.")
    training = [recording for recording in recordings if subject_key(recording) not in chosen]
    return training, [recording for recording in recordings if subject_key(recording) in chosen]


def long_enough(validating: list[CachedRecording], n_frames: int) -> tuple[list[CachedRecording], dict[str, str]]:
    """The recordings whose windows the estimator can judge, and the others with the reason: a clip has a number of
    frames, not of seconds, and at 60 frames per second 160 of them hold too few beats. (They can be learned from.)"""
    least_s = LEAST_PERIODS * 60 / BAND_BPM[0]
    judged = [recording for recording in validating if n_frames >= math.ceil(least_s * recording.fps)]
    too_short = {
        f"{recording.recording_id} (segment {recording.segment})": f"cannot validate: {n_frames} frames are "
        f"{n_frames / recording.fps:.2f} s at {recording.fps:.4g} frames per second; a rate needs {least_s:g} s"
        for recording in validating
        if n_frames < math.ceil(least_s * recording.fps)
    }
    if not judged:
        raise BadRecipe(
            f"[data] n_frames={n_frames} is too short to validate: no validation recording has {least_s:g} s in that "
            f"many frames. Use at least {math.ceil(least_s * min(recording.fps for recording in validating))}."
        )
    return judged, too_short


def _header(
    recipe: Recipe,
    run: Run,
    training: Sequence[CachedRecording],
    measured: dict[str, Any],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    """The header of DESIGN 3, but for what save_weights adds itself; ``before`` is that of the first weights."""
    fps = sorted({round(recording.fps, 1) for recording in training})
    subjects = {(recording.dataset, recording.subject) for recording in training}
    minutes = sum(recording.n_frames / recording.fps for recording in training) / 60
    return {
        "input": {
            **dataclasses.asdict(recipe.crop),
            "size_px": recipe.data.size_px,
            "crop_size_px": recipe.crop.size_px,
            "n_frames": recipe.data.n_frames,
        },
        "fps": fps[0] if len(fps) == 1 else None,
        "training_data": {
            "datasets": list(recipe.data.datasets),
            "n_subjects": len(subjects),
            "n_recordings": len(training),
            "minutes": round(minutes, 1),
            "fps_from": recipe.data.least_fps or fps[0],
            "fps_to": recipe.data.most_fps or fps[-1],
            **({} if before is None else {"before": before["training_data"]}),
        },
        "licence": recipe.data.licence,
        "provenance": {
            "autohr": autohr.__version__,
            "torch": torch.__version__,
            "date": datetime.date.today().isoformat(),
            "run": run.root.name,
            "recipe": dataclasses.asdict(recipe),
        },
        "measured_accuracy": {"on": "validation subjects of the same datasets", **measured} if measured else None,
    }
