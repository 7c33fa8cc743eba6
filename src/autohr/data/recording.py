"""What a recording is: one video of one person, with what a contact sensor knew at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.types import Float


@dataclass(frozen=True)
class Reference:
    """What was known of the heart, on the video's clock: time 0 is the first frame. NaN is "not known here".

    A reader brings both sensors onto these times, and its wave below half the frame rate, before it builds one.
    """

    t_s: Float
    """(N,) increasing, N >= 2; any spacing, and not necessarily the frames' times."""
    bvp: Float | None
    """(N,) pulse wave, positive where the skin holds more blood; None where only rates were recorded."""
    hr_bpm: Float | None
    """(N,) rate at each time; None where only a wave was recorded."""

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
    """Which recording of that person."""
    video: Path
    """A file, or a folder of pictures (then ``video_fps`` says how fast they were taken)."""
    reference: Reference | None
    video_fps: float | None = None
    """Frames per second where the video carries no clock of its own; None takes the container's time stamps."""

    @property
    def id(self) -> str:
        """``dataset/subject/session``, unique."""
        return f"{self.dataset}/{self.subject}/{self.session}"
