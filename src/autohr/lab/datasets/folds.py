"""Folds that never cut a subject: a net must not be tested on a face that it was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from autohr.errors import BadRecording


class HasSubject(Protocol):
    """A recording as folds see it; ``Recording`` and ``CachedRecording`` both fit."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""

    @property
    def subject(self) -> str:
        """The person, unique within the dataset."""


class HasFold(HasSubject, Protocol):
    """A recording that may belong to an official fold."""

    @property
    def fold(self) -> int | None:
        """Official fold; None where there is none."""


class HasGroups(HasFold, Protocol):
    """A recording that belongs to groups of its dataset."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Name -> value, such as camera -> phone."""


R = TypeVar("R", bound=HasSubject)


def subject_key(recording: HasSubject) -> str:
    """Return ``dataset/subject``: two datasets may both have a subject "1", who are two people."""
    return f"{recording.dataset}/{recording.subject}"


def check_official_folds(recordings: Iterable[HasFold]) -> None:
    """Raise BadRecording for official folds that cut a subject, or leave some recordings of a subject in none."""
    folds: dict[str, set[int | None]] = {}
    for recording in recordings:
        folds.setdefault(subject_key(recording), set()).add(recording.fold)
    for subject, found in sorted(folds.items()):
        if len(found) > 1:
            listed = ", ".join("none" if fold is None else str(fold) for fold in sorted(found, key=lambda f: f or 0))
            raise BadRecording(
                f"{subject} is in several official folds ({listed}): a net would be tested on a face that it was "
                "trained on. Correct the list of folds."
            )


def left_out_folds(recordings: Mapping[str, HasGroups], by: str) -> dict[str, int]:
    """Return the fold of each recording (id -> recording), counted from 1: one fold for each value of a group.

    ``by`` is the name of a group that every recording has, or "dataset". Raises ValueError for one that some lack or
    that has one value for all, and for a subject in two of them, whom a net would be tested on after training on him.
    """
    values = {one: known.dataset if by == "dataset" else known.groups.get(by) for one, known in recordings.items()}
    without = sorted(one for one, value in values.items() if value is None)
    if without:
        known_groups = ", ".join(["dataset", *sorted({name for one in recordings.values() for name in one.groups})])
        raise ValueError(f"{without[0]} has no group {by!r}. Groups of these recordings: {known_groups}.")
    numbers = {value: number for number, value in enumerate(sorted(set(map(str, values.values()))), 1)}
    if len(numbers) < 2:
        raise ValueError(f"All recordings have one {by}, {', '.join(numbers)}; two are needed to leave one out.")
    home: dict[str, str] = {}
    for one, value in values.items():
        subject = subject_key(recordings[one])
        if home.setdefault(subject, str(value)) != value:
            raise ValueError(f"{subject} is in two of them by {by!r}, {home[subject]} and {value}: take another group.")
    return {one: numbers[str(value)] for one, value in values.items()}


def split_subjects(subjects: Iterable[str], k: int, seed: int = 0) -> list[set[str]]:
    """Split subjects into ``k`` sets that do not overlap.

    Give a subject once for each of its recordings and the sets hold about equally many recordings: the subjects
    are shuffled by ``seed``, then, those with most recordings first, each goes to the set with fewest recordings (of
    those, with fewest subjects). The order in which they are given does not matter.
    Raises ValueError for ``k`` below 2 or above the number of subjects.

    Examples
    --------
    >>> sorted(len(fold) for fold in split_subjects(["anna", "ben", "cleo", "dan"], 2))
    [2, 2]
    """
    weight = Counter(subjects)
    if not 2 <= k <= len(weight):
        raise ValueError(f"k={k} must lie between 2 and the number of subjects, {len(weight)}.")
    names = sorted(weight)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    folds: list[set[str]] = [set() for _ in range(k)]
    loads = [0] * k
    for name in sorted(shuffled, key=lambda name: -weight[name]):
        lightest = min(range(k), key=lambda i: (loads[i], len(folds[i]), i))
        folds[lightest].add(name)
        loads[lightest] += weight[name]
    return folds


def k_folds(recordings: Sequence[R], k: int, seed: int = 0) -> list[tuple[list[R], list[R]]]:
    """Return (train, test) recordings of each of ``k`` folds by ``split_subjects``, each in the order given."""
    keys = [subject_key(recording) for recording in recordings]
    return [_parted(recordings, fold) for fold in split_subjects(keys, k, seed)]


def holdout(recordings: Sequence[R], share: float, seed: int = 0) -> tuple[list[R], list[R]]:
    """Return (train, val) recordings: about ``share`` of the subjects, drawn at random, are in val.

    At least one subject stays on each side. Raises ValueError for a share outside 0..1, or fewer than two subjects.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must lie between 0 and 1, both excluded.")
    names = sorted({subject_key(recording) for recording in recordings})
    if len(names) < 2:
        raise ValueError(
            f"{len(names)} subject(s) cannot be split into training and validation; at least 2 are needed."
        )
    n_val = int(np.clip(round(share * len(names)), 1, len(names) - 1))
    chosen = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:n_val]}
    return _parted(recordings, chosen)


def _parted(recordings: Sequence[R], keys: set[str]) -> tuple[list[R], list[R]]:
    """Return the recordings of other subjects, and those of the subjects with these keys."""
    others = [one for one in recordings if subject_key(one) not in keys]
    return others, [one for one in recordings if subject_key(one) in keys]
