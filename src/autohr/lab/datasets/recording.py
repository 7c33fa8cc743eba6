"""A recording: one video of one person, with what a contact sensor knew at the same time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.types import Float
from autohr.video.decode import VideoFrame


@dataclass(frozen=True)
class Reference:
    """The pulse that a contact sensor recorded, on the video's clock: time 0 is the first frame.

    NaN is "not known here". A reader brings both sensors onto these times, and its wave below half the frame rate,
    before it builds one.
    """

    t_s: Float
    """(N,) increasing, N >= 2; any spacing, and not necessarily the frames' times."""
    bvp: Float | None
    """(N,) pulse wave, positive where the skin holds more blood; None where only rates were recorded."""
    hr_bpm: Float | None
    """(N,) rate at each time; None where only a wave was recorded."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader about its files, one sentence each, for the manifest."""

    def __post_init__(self) -> None:
        if self.t_s.ndim != 1 or len(self.t_s) < 2 or not (np.diff(self.t_s) > 0).all():
            raise BadRecording(
                f"A reference needs at least two increasing times; these are of shape {self.t_s.shape}. "
                "Sort them, or leave the recording without a reference."
            )
        for name in ("bvp", "hr_bpm"):
            values = getattr(self, name)
            if values is not None and values.shape != self.t_s.shape:
                raise BadRecording(
                    f"The reference's {name} has shape {values.shape} but its times {self.t_s.shape}; "
                    "give one value for each time."
                )
        if self.bvp is None and self.hr_bpm is None:
            raise BadRecording("A reference with neither bvp nor hr_bpm knows nothing; pass None in its place.")


@dataclass(frozen=True)
class Recording:
    """One video of a dataset, found but not yet read."""

    dataset: str
    subject: str
    """The person, unique within the dataset. Two recordings with one subject never come into different folds."""
    session: str
    """Name of the recording among those of that person."""
    video: Path
    """A file, or a folder of pictures (then ``video_fps`` or ``frame_times_s`` say when they were taken)."""
    reference: Reference | Callable[[], Reference] | None
    """The known pulse; a callable reads it when it is wanted (``read_reference``), so that listing a large dataset is
    quick. It must pickle: a ``functools.partial`` of a function of the reader's module."""
    video_fps: float | None = None
    """Frames per second where the video carries no clock of its own; None takes the container's time stamps."""
    frame_times_s: Float | Callable[[], Float] | None = None
    """(N,) time of each frame, where a file beside the video knows better than the container; also a callable."""
    span: tuple[int, int] | None = None
    """First frame, and the one after the last, that the protocol uses, counted from 0; None for all."""
    open_frames: Callable[[], Iterator[VideoFrame]] | None = None
    """Reads the frames where they lie in no video file (arrays of MAT or HDF5); must pickle. ``video`` then names the
    file that holds them."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Values that tables may be split by: {"scenario": "talking", "source": "phone"}."""
    fold: int | None = None
    """Official fold, counted from 1; None where the dataset has none."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader, one sentence each, for the manifest."""

    @property
    def id(self) -> str:
        """``dataset/subject/session``, unique."""
        return f"{self.dataset}/{self.subject}/{self.session}"

    def read_reference(self) -> Reference | None:
        """Return the reference, read now if need be; BadRecording where its file is missing or damaged."""
        return self.reference() if callable(self.reference) else self.reference

    def read_frame_times(self) -> Float | None:
        """Return the frames' times (N,), read now if need be; BadRecording where their file is missing or damaged."""
        return self.frame_times_s() if callable(self.frame_times_s) else self.frame_times_s


def file_stem(recording_id: str) -> str:
    """Return a file name for a recording; the digest keeps ids apart that differ only in what was replaced.

    Examples
    --------
    >>> file_stem("synthetic/s1/0")
    'synthetic-s1-0-3e2f01c7'
    """
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", recording_id).strip("-.")[:80]
    # Names of files that are no UTF-8 hold surrogates.
    digest = hashlib.sha256(recording_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain}-{digest[:8]}"


@dataclass(frozen=True)
class Absent:
    """A recording that the dataset should hold and this copy does not."""

    id: str
    reason: str
    known_gap: bool
    """The dataset itself lacks it (its papers or lists say so); otherwise it is missing from this copy."""


@dataclass(frozen=True)
class Listing:
    """Every recording of a dataset: found, or absent and why."""

    recordings: tuple[Recording, ...]
    absent: tuple[Absent, ...] = ()
    notes: tuple[str, ...] = ()
    """About the copy as a whole, such as stray files that belong to no recording."""


@dataclass(frozen=True)
class DatasetSpec:
    """One line of the table ``DATASETS``."""

    name: str
    title: str
    """Name as papers spell it."""
    list_recordings: Callable[[Path], Listing]
    """Lists a folder; raises BadRecording where it is not this dataset at all."""
    access: str
    """The way to get it, in one line; "none needed" where anybody may have it."""
    n_recordings: int | None = None
    """Number of recordings of the whole dataset that this reader reads; None where any number is right."""
    basis: str = "layout read in real files"
    """Source of the reader's knowledge: real files, or other people's loaders."""
    needs: tuple[str, ...] = ()
    """Python modules of the extra ``datasets`` that its files need."""
    package: str = "autohr"
    """Package it comes from; of another one also the version (``autohr.plugins``)."""
