"""The family of errors that the world causes, as opposed to a caller's mistake in an argument (``ValueError``).

    AutoHRError                 caught by the CLI and printed in one line, exit code 1
    +-- VideoError              a file, folder, camera or address that gives no usable frames
    +-- NoFace                  frames, but no face to measure
    +-- SignalTooShort          a face, but for too little time
    +-- UnknownName             a name that its table does not hold
    +-- BadRecording            a recording of a dataset that contradicts itself
    +-- BadWeights              a file of weights that is damaged, foreign or does not fit
    +-- BadRecipe               a recipe with an unknown key or a contradiction
    +-- WindowsTooShort         stored windows that are too short for a scoring

Every message names the value, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutoHRError(Exception):
    """Base of all errors of this package. The message is one line that a user can act on."""


class VideoError(AutoHRError):
    """The video cannot be opened, is not a video, or breaks a limit."""


class NoFace(AutoHRError):
    """No face was found, or in too few frames."""


class SignalTooShort(AutoHRError):
    """A signal shorter than the least length that the question needs."""


class UnknownName(AutoHRError):
    """A name that its table does not hold; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"Unknown {kind} {name!r}. Known: {', '.join(names)}.{hint}")


class BadRecording(AutoHRError):
    """A recording whose video, clock or reference contradict each other."""


class BadWeights(AutoHRError):
    """Weights that are damaged, foreign, or made for another net."""


class BadRecipe(AutoHRError):
    """A recipe with an unknown key, a wrong type or a contradiction."""


class WindowsTooShort(AutoHRError):
    """Stored windows that are all shorter than a scoring can read."""
