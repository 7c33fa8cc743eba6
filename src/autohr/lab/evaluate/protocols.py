"""How methods are judged, as data: who is tested, on which windows, and what counts as one reading.

``PROTOCOLS`` is the visible table. A protocol says nothing of the method and nothing of the scoring: the same stored
waves can be scored by any preset (``evaluate.scoring``).

Windows. A recording lasts from its first frame to its last. Either ``n_windows`` of ``window_s`` are spread evenly over
it, or one begins every ``stride_s``; without ``window_s`` each stretch without a gap is one window. They are laid out
before anybody looks for the face, so a lost face costs windows and does not move them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from autohr.confidence.verdict import LEAST_S
from autohr.errors import BadRecipe
from autohr.frontend import PAPER_CROP, CropConfig
from autohr.lab.datasets.folds import HasFold, check_official_folds, holdout, split_subjects, subject_key


@dataclass(frozen=True)
class AllTested:
    """Every recording is tested: formulas, and nets that were trained on other data."""

    kind: Literal["all"] = "all"


@dataclass(frozen=True)
class KFold:
    """Every recording is tested once, by a net that never saw its subject."""

    k: int = 5
    seed: int = 0
    """Decides the folds of a dataset that has no official ones."""
    official: bool = True
    """Take the dataset's own folds where all of its recordings have one."""
    only: int | None = None
    """Test this fold alone, counted from 1; the others are only trained on."""
    kind: Literal["k-fold"] = "k-fold"

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ValueError(f"k={self.k} must be 2 or more.")
        if self.only is not None and not 1 <= self.only <= self.k:
            raise ValueError(f"only={self.only} must be 1 to {self.k}.")


@dataclass(frozen=True)
class FixedSplit:
    """Some subjects are tested, the others trained on."""

    test_subjects: tuple[str, ...] = ()
    """Subjects tested, as the recordings name them; if empty, ``test_share`` of them by ``seed``."""
    test_share: float = 0.3
    seed: int = 0
    kind: Literal["fixed"] = "fixed"

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share={self.test_share} must lie between 0 and 1.")


@dataclass(frozen=True)
class CrossDataset:
    """Every recording is tested, by nets trained on all of other datasets."""

    trained_on: tuple[str, ...]
    kind: Literal["cross-dataset"] = "cross-dataset"


Split = AllTested | KFold | FixedSplit | CrossDataset


@dataclass(frozen=True)
class Protocol:
    """One way to judge. What is inferred, and not read in a source, is said in ``sure``."""

    name: str
    title: str
    datasets: tuple[str, ...] = ()
    """Datasets that it is for; empty for any."""
    split: Split = field(default_factory=AllTested)
    window_s: float | None = 10.0
    """None: a whole stretch without a gap."""
    stride_s: float | None = 5.0
    """Time from one window to the next; None where ``n_windows`` says how many there are."""
    n_windows: int | None = None
    """So many windows spread evenly over the recording; they overlap where it is shorter than all of them."""
    least_s: float = LEAST_S
    """Shortest window: a recording that lasts less than ``window_s``, but so long, is one window."""
    keep_rest: bool = False
    """What remains behind the last whole window is a window too if it lasts ``least_s``."""
    unit: Literal["window", "recording"] = "window"
    """What a reading is: each window, or the mean over a recording's windows."""
    crop: CropConfig = field(default_factory=CropConfig)
    """Of the cache; a net brings its own instead (``crop_of``)."""
    preset: str = "reference"
    """The scoring it is meant for."""
    source: str = "ours"
    sure: str = "ours"
    """How sure each choice is."""

    def __post_init__(self) -> None:
        if self.window_s is None:
            if self.n_windows is not None or self.stride_s is not None:
                raise ValueError("Whole stretches have no stride and no number; set both to None.")
        elif (self.stride_s is None) == (self.n_windows is None):
            raise ValueError(f"Give one of stride_s={self.stride_s} and n_windows={self.n_windows}.")
        if self.window_s is not None and not LEAST_S <= self.window_s <= 3600:
            raise ValueError(f"window_s={self.window_s:g} must lie between {LEAST_S:g} and 3600 seconds, or be None.")
        if self.stride_s is not None and not self.stride_s > 0:
            raise ValueError(f"stride_s={self.stride_s:g} must be positive.")
        if self.n_windows is not None and self.n_windows < 1:
            raise ValueError(f"n_windows={self.n_windows} must be 1 or more.")
        if not self.least_s >= LEAST_S:
            raise ValueError(f"least_s={self.least_s:g} must be at least {LEAST_S:g}, what any method needs.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return dataclasses.asdict(self)


def layout(protocol: Protocol, duration_s: float) -> list[tuple[float, float]]:
    """(start_s, end_s) of each window of a recording of ``duration_s``, counted from its first frame.

    [] where ``window_s`` is None, since only the gaps then decide, and where the recording is shorter than ``least_s``.

    A twentieth of a second is forgiven: a "30 s" file of 29.97 frames per second ends some milliseconds early.
    """
    window_s = protocol.window_s
    if window_s is None:
        return []
    slack_s = 0.05
    if duration_s < window_s - slack_s:
        return [(0.0, duration_s)] if duration_s >= protocol.least_s - slack_s else []
    last_s = max(0.0, duration_s - window_s)
    if protocol.n_windows is not None:
        steps = max(1, protocol.n_windows - 1)
        starts_s = [last_s * k / steps for k in range(protocol.n_windows)] if protocol.n_windows > 1 else [last_s / 2]
        return [(start_s, start_s + window_s) for start_s in starts_s]
    assert protocol.stride_s is not None
    n_whole = int((duration_s - window_s + slack_s) / protocol.stride_s) + 1
    windows = [(k * protocol.stride_s, k * protocol.stride_s + window_s) for k in range(n_whole)]
    rest_s = n_whole * protocol.stride_s
    if protocol.keep_rest and duration_s - rest_s >= protocol.least_s and duration_s > windows[-1][1] + slack_s:
        windows.append((rest_s, duration_s))
    return windows


def folds_of(protocol: Protocol, recordings: Mapping[str, HasFold]) -> dict[str, int | None]:
    """recording id -> fold in which it is tested, counted from 1; None where the split has no folds, 0 for one that is
    only trained on.

    Args:
        recordings: id -> ``Recording``, ``CachedRecording`` or ``Entry``.

    Raises:
        BadRecording: a subject in two official folds.
        BadRecipe: fewer subjects than folds, or a test subject whom the recordings do not know.
    """
    split = protocol.split
    ids = sorted(recordings)
    if isinstance(split, (AllTested, CrossDataset)):
        return dict.fromkeys(ids)
    if isinstance(split, FixedSplit):
        return _fixed(split, recordings, ids)
    folds = {one: recordings[one].fold for one in ids}
    if split.official and ids and all(fold is not None for fold in folds.values()):
        check_official_folds(recordings.values())
    else:
        folds = dict(_folds_of_ours(split, recordings, ids))
    if split.only is not None:
        folds = {one: fold if fold == split.only else 0 for one, fold in folds.items()}
    return folds


def _folds_of_ours(split: KFold, recordings: Mapping[str, HasFold], ids: Sequence[str]) -> dict[str, int]:
    try:
        sets = split_subjects((subject_key(recordings[one]) for one in ids), split.k, split.seed)
    except ValueError as error:
        raise BadRecipe(
            f"{split.k} subject-exclusive folds cannot be made: {error} Choose a protocol without folds, such as "
            "reference, for methods that learn nothing from these recordings."
        ) from None
    numbers = {key: number for number, keys in enumerate(sets, 1) for key in keys}
    return {one: numbers[subject_key(recordings[one])] for one in ids}


def _fixed(split: FixedSplit, recordings: Mapping[str, HasFold], ids: Sequence[str]) -> dict[str, int | None]:
    if split.test_subjects:
        known = {recordings[one].subject for one in ids}
        strangers = sorted(set(split.test_subjects) - known)
        if strangers:
            raise BadRecipe(
                f"Test subjects {strangers} are in no recording. Subjects here: {', '.join(sorted(known))}."
            )
        tested = {one for one in ids if recordings[one].subject in split.test_subjects}
    else:
        try:
            _, chosen = holdout([recordings[one] for one in ids], split.test_share, split.seed)
        except ValueError as error:
            raise BadRecipe(
                f"No split can be made: {error} Choose a protocol without one, such as reference."
            ) from None
        keys = {subject_key(one) for one in chosen}
        tested = {one for one in ids if subject_key(recordings[one]) in keys}
    return {one: 1 if one in tested else 0 for one in ids}


_VIPL_SURE = (
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
            sure="ours; 10 s is what the live meter shows",
        ),
        Protocol(
            name="reference-30s",
            title="30 s windows, one every 15 s, every recording tested",
            window_s=30.0,
            stride_s=15.0,
            sure="ours",
        ),
        Protocol(
            name="reference-whole",
            title="each recording as one window",
            window_s=None,
            stride_s=None,
            sure="ours",
        ),
        Protocol(
            name="reference-folds",
            title="10 s windows, one every 5 s, 5 subject-exclusive folds",
            split=KFold(),
            sure="ours: reference, for nets that are trained on the same dataset",
        ),
        Protocol(
            name="fixed-split",
            title="10 s windows, one every 5 s, 30 % of the subjects tested",
            split=FixedSplit(),
            sure="ours; published splits (UBFC 30/12, PURE 6:4, MMPD 7:1:2) do not name their subjects",
        ),
        Protocol(
            name="vipl-hr",
            title="VIPL-HR, Table I: 5 folds, video = mean of three 10 s clips",
            datasets=("vipl_hr",),
            split=KFold(5),
            n_windows=3,
            stride_s=None,
            unit="recording",
            crop=PAPER_CROP,
            preset="paper",
            source="Yu et al. 2020 (AutoHR), III and appendices A, B",
            sure=_VIPL_SURE,
        ),
        Protocol(
            name="vipl-hr-fold1",
            title="VIPL-HR, Fig. 4: tested on fold 1 only",
            datasets=("vipl_hr",),
            split=KFold(5, only=1),
            n_windows=3,
            stride_s=None,
            unit="recording",
            crop=PAPER_CROP,
            preset="paper",
            source="Yu et al. 2020 (AutoHR), III C",
            sure=_VIPL_SURE + "; that fold 1 is the one tested: the author's file names",
        ),
        Protocol(
            name="mahnob-hci",
            title="MAHNOB-HCI, Table II: 5 folds, frames 306 to 2135 as three 10 s clips",
            datasets=("mahnob_hci",),
            split=KFold(5, official=False),
            n_windows=3,
            stride_s=None,
            unit="recording",
            crop=PAPER_CROP,
            preset="paper",
            source="Yu et al. 2020 (AutoHR), III and appendices A, B",
            sure="527 clips of 30 s and 5 folds: the paper. Inferred: the folds themselves (by seed; none are "
            "published); three clips as on VIPL-HR; all 61 frames per second for formulas (nets thin them by what they "
            "learned from)",
        ),
        Protocol(
            name="mmse-hr",
            title="MMSE-HR, Table III: trained on VIPL-HR, every video tested",
            datasets=("mmse_hr",),
            split=CrossDataset(("vipl_hr",)),
            stride_s=10.0,
            least_s=5.0,
            keep_rest=True,
            unit="recording",
            crop=PAPER_CROP,
            preset="paper",
            source="Yu et al. 2020 (AutoHR), III D",
            sure="trained on VIPL-HR, all 102 videos: the paper. Inferred: pieces of 10 s, a rest under 5 s left out, "
            "and their mean",
        ),
        Protocol(
            name="toolbox",
            title="whole videos, as rPPG-Toolbox does by default",
            window_s=None,
            stride_s=None,
            preset="toolbox-2024",
            source="rPPG-Toolbox, evaluation/post_process.py",
            sure="whole video: read in the source. Ours: face boxes, crops and clocks are this package's own",
        ),
        Protocol(
            name="physformer",
            title="whole videos in three parts, as PhysFormer's evaluation does",
            window_s=None,
            stride_s=None,
            unit="recording",
            preset="physformer",
            source="PhysFormer, Inference_HRevaluation.m",
            sure="three parts: read in the source. Ours: no frames are cut at the start (theirs begins at frame 61), "
            "and a net is fed overlapping pieces in place of the middle 160 of 220",
        ),
    )
}
