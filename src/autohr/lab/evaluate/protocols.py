"""Evaluation protocols as data: who is tested, on which windows, and what counts as one reading.

``PROTOCOLS`` is the visible table. A protocol says nothing of the method and nothing of the scoring: the same stored
waves can be scored by any preset (``evaluate.scoring``).

A recording lasts from its first frame to its last. Either ``n_windows`` of ``window_s`` are spread evenly over it, or
one begins every ``stride_s``; without ``window_s`` each stretch without a gap is one window. Windows are laid out
before the face is looked for, so a lost face costs windows and does not move them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from autohr.confidence.verdict import LEAST_S
from autohr.errors import BadRecipe
from autohr.frontend import PAPER_CROP, CropConfig
from autohr.lab.datasets.folds import (
    HasFold,
    HasGroups,
    check_official_folds,
    holdout,
    left_out_folds,
    split_subjects,
    subject_key,
)


@dataclass(frozen=True)
class AllTested:
    """Every recording is tested: formulas, and nets that were trained on other data."""

    kind: Literal["all"] = "all"


@dataclass(frozen=True)
class KFold:
    """Every recording is tested once, by a net that never saw its subject."""

    k: Annotated[int, Field(ge=2)] = 5
    seed: int = 0
    """Seed of the folds of a dataset that has no official ones."""
    official: bool = True
    """True takes the dataset's own folds where all of its recordings have one."""
    only: Annotated[int, Field(ge=1)] | None = None
    """Only fold that is tested, counted from 1; the others are only trained on."""
    kind: Literal["k-fold"] = "k-fold"

    @model_validator(mode="after")
    def _only_is_a_fold(self) -> KFold:
        if self.only is not None and self.only > self.k:
            raise ValueError(f"only={self.only} must be 1 to {self.k}")
        return self


@dataclass(frozen=True)
class FixedSplit:
    """Some subjects are tested, the others trained on."""

    test_subjects: tuple[str, ...] = ()
    """Subjects tested, as the recordings name them; if empty, ``test_share`` of them by ``seed``."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    seed: int = 0
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True)
class CrossDataset:
    """Every recording is tested, by nets trained on all of other datasets."""

    trained_on: tuple[str, ...]
    kind: Literal["cross-dataset"] = "cross-dataset"


@dataclass(frozen=True)
class LeaveOut:
    """Every recording is tested by a net that was trained on the others' sites: one value of a group is left out."""

    by: str = "dataset"
    """Group of the recordings, such as site, or "dataset"."""
    kind: Literal["leave-out"] = "leave-out"


Split = Annotated[AllTested | KFold | FixedSplit | CrossDataset | LeaveOut, Field(discriminator="kind")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Protocol:
    """One way to evaluate."""

    name: str
    title: str
    datasets: tuple[str, ...] = ()
    """Datasets that it is for; empty for any."""
    split: Split = Field(default_factory=AllTested)
    window_s: Annotated[float, Field(ge=LEAST_S, le=3600)] | None = 10.0
    """Length of a window; None for a whole stretch without a gap."""
    stride_s: Annotated[float, Field(gt=0)] | None = 5.0
    """Time from one window to the next; None where ``n_windows`` says how many there are."""
    n_windows: Annotated[int, Field(ge=1)] | None = None
    """Number of windows spread evenly over the recording; they overlap where it is shorter than all of them."""
    least_s: Annotated[float, Field(ge=LEAST_S)] = LEAST_S
    """Shortest window: a recording that lasts less than ``window_s``, but so long, is one window."""
    keep_rest: bool = False
    """True makes what remains behind the last whole window a window too if it lasts ``least_s``."""
    unit: Literal["window", "recording"] = "window"
    """Size of a reading: each window, or the mean over a recording's windows."""
    crop: CropConfig = Field(default_factory=CropConfig)
    """Crop of the cache; a net brings its own instead (``crop_of``)."""
    preset: str = "reference"
    """Scoring that it is meant for."""
    source: str = "ours"
    basis: str = "ours"
    """Choices that its source states, and choices that are inferred or ours."""

    @model_validator(mode="after")
    def _windows_are_laid_out_in_one_way(self) -> Protocol:
        if self.window_s is None:
            if self.n_windows is not None or self.stride_s is not None:
                raise ValueError("Whole stretches have no stride and no number; set both to None")
        elif (self.stride_s is None) == (self.n_windows is None):
            raise ValueError(f"Give one of stride_s={self.stride_s} and n_windows={self.n_windows}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as config.json holds them, where ``basis`` is called "sure" since the first version."""
        return {"sure" if key == "basis" else key: value for key, value in dataclasses.asdict(self).items()}


SLACK_S = 0.05
"""Seconds that a recording may lack of its length: a "30 s" file of 29.97 frames per second ends some milliseconds
early."""


def layout(protocol: Protocol, duration_s: float) -> list[tuple[float, float]]:
    """Return (start_s, end_s) of each window of a recording of ``duration_s``, counted from its first frame.

    The list is empty where ``window_s`` is None, since only the gaps then decide, and where the recording is shorter
    than ``least_s``.

    Examples
    --------
    >>> layout(PROTOCOLS["reference"], 20.0)
    [(0.0, 10.0), (5.0, 15.0), (10.0, 20.0)]
    """
    window_s = protocol.window_s
    if window_s is None:
        return []
    if duration_s < window_s - SLACK_S:
        return [(0.0, duration_s)] if duration_s >= protocol.least_s - SLACK_S else []
    last_s = max(0.0, duration_s - window_s)
    if protocol.n_windows is not None:
        steps = max(1, protocol.n_windows - 1)
        starts_s = [last_s * k / steps for k in range(protocol.n_windows)] if protocol.n_windows > 1 else [last_s / 2]
        return [(start_s, start_s + window_s) for start_s in starts_s]
    assert protocol.stride_s is not None
    n_whole = int((duration_s - window_s + SLACK_S) / protocol.stride_s) + 1
    windows = [(k * protocol.stride_s, k * protocol.stride_s + window_s) for k in range(n_whole)]
    rest_s = n_whole * protocol.stride_s
    if protocol.keep_rest and duration_s - rest_s >= protocol.least_s and duration_s > windows[-1][1] + SLACK_S:
        windows.append((rest_s, duration_s))
    return windows


def folds_of(protocol: Protocol, recordings: Mapping[str, HasGroups]) -> dict[str, int | None]:
    """Return the fold in which each recording (id -> recording or entry) is tested, counted from 1.

    A recording that is only trained on has 0, and every one has None where the split has no folds. Raises BadRecording
    for a subject in two official folds, BadRecipe for fewer subjects than folds, an unknown test subject, or a group by
    which none can be left out.
    """
    split = protocol.split
    known = {one: recordings[one] for one in sorted(recordings)}
    if isinstance(split, (AllTested, CrossDataset)):
        return dict.fromkeys(known)
    if isinstance(split, FixedSplit):
        return _fixed(split, known)
    if isinstance(split, LeaveOut):
        try:
            return {**left_out_folds(known, split.by)}
        except ValueError as error:
            raise BadRecipe(f"Nothing can be left out by {split.by!r}: {error}") from None
    folds = {one: recording.fold for one, recording in known.items()}
    if split.official and known and None not in folds.values():
        check_official_folds(recordings.values())
    else:
        try:
            sets = split_subjects(map(subject_key, known.values()), split.k, split.seed)
        except ValueError as error:
            raise BadRecipe(
                f"{split.k} subject-exclusive folds cannot be made: {error} Choose a protocol without folds, such as "
                "reference, for methods that learn nothing from these recordings."
            ) from None
        numbers = {key: number for number, keys in enumerate(sets, 1) for key in keys}
        folds = {one: numbers[subject_key(recording)] for one, recording in known.items()}
    if split.only is not None:
        folds = {one: fold if fold == split.only else 0 for one, fold in folds.items()}
    return folds


def _fixed(split: FixedSplit, recordings: Mapping[str, HasFold]) -> dict[str, int | None]:
    if split.test_subjects:
        subjects = {one.subject for one in recordings.values()}
        strangers = sorted(set(split.test_subjects) - subjects)
        if strangers:
            raise BadRecipe(
                f"Test subjects {strangers} are in no recording. Subjects here: {', '.join(sorted(subjects))}."
            )
        return {one: int(recording.subject in split.test_subjects) for one, recording in recordings.items()}
    try:
        _, chosen = holdout(list(recordings.values()), split.test_share, split.seed)
    except ValueError as error:
        raise BadRecipe(f"No split can be made: {error} Choose a protocol without one, such as reference.") from None
    keys = {subject_key(one) for one in chosen}
    return {one: int(subject_key(recording) in keys) for one, recording in recordings.items()}


_WHOLE: dict[str, Any] = {"window_s": None, "stride_s": None}
_PAPER: dict[str, Any] = {"unit": "recording", "crop": PAPER_CROP, "preset": "paper"}
_PAPER_CLIPS: dict[str, Any] = {"n_windows": 3, "stride_s": None, **_PAPER}
_MMSE: dict[str, Any] = {"stride_s": 10.0, "least_s": 5.0, "keep_rest": True, **_PAPER}
_TOOLBOX: dict[str, Any] = {**_WHOLE, "preset": "toolbox-2024"}
MCD_CROP = CropConfig(size_px=80)
"""Crops of mcd_rppg.toml, for all that is trained on MCD-rPPG or compared with it."""
_VIPL_BASIS = (
    "folds and three 10 s clips: the paper, appendix B. Inferred: sources 1 to 3 (the paper counts 3130 videos, with "
    "the near-infrared ones, which have no colour); the release's own folds; clips spread evenly, so that they overlap "
    "in videos under 30 s; truth as the mean of gt_HR; the box enlarged by half"
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="reference",
            title="10 s windows, one every 5 s, every recording tested",
            basis="ours; 10 s is what the live meter shows",
        ),
        Protocol(
            name="reference-30s",
            title="30 s windows, one every 15 s, every recording tested",
            window_s=30.0,
            stride_s=15.0,
        ),
        Protocol(
            name="reference-whole",
            title="each recording as one window",
            **_WHOLE,
        ),
        Protocol(
            name="reference-folds",
            title="10 s windows, one every 5 s, 5 subject-exclusive folds",
            split=KFold(),
            basis="ours: reference, for nets that are trained on the same dataset",
        ),
        Protocol(
            name="fixed-split",
            title="10 s windows, one every 5 s, 30 % of the subjects tested",
            split=FixedSplit(),
            basis="ours; published splits (UBFC 30/12, PURE 6:4, MMPD 7:1:2) do not name their subjects",
        ),
        Protocol(
            name="vipl-hr",
            title="VIPL-HR, Table I: 5 folds, video = mean of three 10 s clips",
            datasets=("vipl_hr",),
            split=KFold(5),
            **_PAPER_CLIPS,
            source="Yu et al. 2020 (AutoHR), III and appendices A, B",
            basis=_VIPL_BASIS,
        ),
        Protocol(
            name="vipl-hr-fold1",
            title="VIPL-HR, Fig. 4: tested on fold 1 only",
            datasets=("vipl_hr",),
            split=KFold(5, only=1),
            **_PAPER_CLIPS,
            source="Yu et al. 2020 (AutoHR), III C",
            basis=_VIPL_BASIS + "; that fold 1 is the one tested: the author's file names",
        ),
        Protocol(
            name="mahnob-hci",
            title="MAHNOB-HCI, Table II: 5 folds, frames 306 to 2135 as three 10 s clips",
            datasets=("mahnob_hci",),
            split=KFold(5, official=False),
            **_PAPER_CLIPS,
            source="Yu et al. 2020 (AutoHR), III and appendices A, B",
            basis="527 clips of 30 s and 5 folds: the paper. Inferred: the folds themselves (by seed; none are "
            "published); three clips as on VIPL-HR; all 61 frames per second for formulas (nets thin them by what they "
            "learned from)",
        ),
        Protocol(
            name="mmse-hr",
            title="MMSE-HR, Table III: trained on VIPL-HR, every video tested",
            datasets=("mmse_hr",),
            split=CrossDataset(("vipl_hr",)),
            **_MMSE,
            source="Yu et al. 2020 (AutoHR), III D",
            basis="trained on VIPL-HR, all 102 videos: the paper. Inferred: pieces of 10 s, a rest under 5 s left out, "
            "and their mean",
        ),
        Protocol(
            name="mcd-rppg",
            title="MCD-rPPG: 5 subject-exclusive folds, 20 s windows side by side, all three cameras",
            datasets=("mcd_rppg",),
            split=KFold(5),
            window_s=20.0,
            stride_s=20.0,
            crop=MCD_CROP,
            source="Egorov et al. 2025 for the folds",
            basis="5 folds by patient: the authors' list, where it lies in the folder, else by seed. Ours: windows ("
            "they list the front camera's first 600 frames), and all cameras: evaluate --by view parts them",
        ),
        *(
            Protocol(
                name=f"{title.lower()}-from-mcd",
                title=f"{title}, trained on MCD-rPPG, {windows}",
                datasets=(dataset,),
                split=CrossDataset(("mcd_rppg",)),
                **{**way, "crop": MCD_CROP},
                basis=basis,
            )
            for dataset, title, windows, way, basis in (
                (
                    "vipl_hr",
                    "VIPL-HR",
                    "video = mean of three 10 s clips",
                    _PAPER_CLIPS,
                    "windows of Table I; rest ours",
                ),
                ("mmse_hr", "MMSE-HR", "video = mean of its 10 s pieces", _MMSE, "windows of Table III; rest ours"),
                ("ubfc_rppg_2", "UBFC-rPPG", "whole videos", _TOOLBOX, "whole videos as rPPG-Toolbox; rest ours"),
                ("pure", "PURE", "whole videos", _TOOLBOX, "whole videos as rPPG-Toolbox; rest ours"),
            )
        ),
        Protocol(
            name="toolbox",
            title="whole videos, as rPPG-Toolbox does by default",
            **_TOOLBOX,
            source="rPPG-Toolbox, evaluation/post_process.py",
            basis="whole video: read in the source. Ours: face boxes, crops and clocks are this package's own",
        ),
        Protocol(
            name="physformer",
            title="whole videos in three parts, as PhysFormer's evaluation does",
            **_WHOLE,
            unit="recording",
            preset="physformer",
            source="PhysFormer, Inference_HRevaluation.m",
            basis="three parts: read in the source. Ours: no frames are cut at the start (theirs begins at frame 61), "
            "and a net is fed overlapping pieces in place of the middle 160 of 220",
        ),
    )
}
