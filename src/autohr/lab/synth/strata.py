"""Groups of synthetic recordings, by which results on them are divided (``STRATA``).

Thresholds are written in the groups' names. They were chosen by us and stay as they are, so that the groups of two
datasets are the same.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autohr.types import Float, Frame

DARK_SKIN, LIGHT_SKIN = 0.24, 0.43
"""Limits of ``skin_luminance``: thirds of the 161 recordings of photographs that the shipped weights were tested on."""


@dataclass(frozen=True)
class Facts:
    """Properties of a recording from which its groups follow."""

    scene: Mapping[str, Any]
    """Fields of ``video.SceneConfig``."""
    encoding: Mapping[str, Any]
    """Encoder settings: codec and crf."""
    bits_per_pixel: float
    """Bits of the file for each pixel of each frame."""
    hr_bpm: float | None
    """Mean over the recording; None without a pulse."""
    skin_luminance: float | None
    """Result of ``skin_luminance``; None where it is not known."""


def strata(facts: Facts) -> dict[str, str]:
    """Return group -> value, for every line of ``STRATA`` that the facts decide."""
    values = {name: find(facts) for name, find in STRATA.items()}
    return {name: value for name, value in values.items() if value is not None}


def skin_luminance(frame: Frame, box_xywh: Float, gamma: float, exposure: float) -> float:
    """Return the median luminance of the middle of a face, from brows to mouth, where most is skin.

    In linear light, 0..1, divided by the exposure; NaN where the middle lies outside the frame (H, W, 3).
    """
    left, top, width, height = box_xywh
    rows = slice(max(0, round(top + 0.35 * height)), max(0, round(top + 0.7 * height)))
    columns = slice(max(0, round(left + 0.25 * width)), max(0, round(left + 0.75 * width)))
    linear = (frame[rows, columns].reshape(-1, 3) / 255.0) ** gamma / exposure
    return float(np.median(linear @ np.array([0.2126, 0.7152, 0.0722]))) if len(linear) else math.nan


def _part(value: float | None, limits: Sequence[float], *names: str) -> str | None:
    """Return the name of the part that a value lies in, one more than limits: a part begins with its lower limit."""
    return None if value is None else names[bisect.bisect_right(limits, value)]


def _drawn(facts: Facts, name: str) -> Any:
    """Return a property of a face that was drawn; None of a photograph, and where it is not recorded."""
    # Without an identity the face was drawn by the scene's seed.
    is_drawn = facts.scene["portrait"] is None and facts.scene["identity"]
    return facts.scene["identity"][name] if is_drawn else None


def _motion(facts: Facts) -> str:
    head = facts.scene["head"]
    if head["sway"] >= 0.9 or head["turn_deg"] >= 6 or head["talk"] >= 0.9:
        return "3 strong"
    quiet = head["sway"] < 0.5 and head["turn_deg"] < 4 and not head["talk"] and not head["rhythm_amplitude"]
    return "1 still" if quiet else "2 moderate"


def _light(facts: Facts) -> str:
    if facts.scene["flicker_depth"]:
        return "flicker"
    if facts.scene["screen_depth"]:
        return "screen"
    return "drift over 3 %" if facts.scene["light_drift"] > 0.03 else "1 steady"


def _tone(facts: Facts) -> str | None:
    if facts.scene["portrait"] is not None:
        names = ("6 portrait, dark", "5 portrait, medium", "4 portrait, light")
        return _part(facts.skin_luminance, (DARK_SKIN, LIGHT_SKIN), *names)
    names = ("1 drawn, light", "2 drawn, medium", "3 drawn, dark")
    return _part(_drawn(facts, "melanin"), (1 / 3, 2 / 3), *names)


def _compression(facts: Facts) -> str | None:
    names = ("1 h264, crf to 10", "2 h264, crf 11 to 17", "3 h264, crf 18 on")
    codec = str(facts.encoding["codec"])
    return _part(facts.encoding["crf"], (10.5, 17.5), *names) if codec == "libx264" else codec


STRATA: dict[str, Callable[[Facts], str | None]] = {
    "motion": _motion,
    "speech": lambda facts: "talking" if facts.scene["head"]["talk"] else "silent",
    "rhythmic movement": lambda facts: (
        str(facts.scene["head"]["rhythm"]) if facts.scene["head"]["rhythm_amplitude"] else "1 none"
    ),
    "light": _light,
    "automatic exposure": lambda facts: "on" if facts.scene["auto_exposure"] else "off",
    "skin tone": _tone,
    "compression": _compression,
    "bits per pixel": lambda facts: _part(facts.bits_per_pixel, (0.05, 0.2), "1 under 0.05", "2 to 0.2", "3 above 0.2"),
    "frames per second": lambda facts: _part(facts.scene["fps"], (22, 33), "1 under 22", "2 to 33", "3 above 33"),
    "face": lambda facts: _part(facts.scene["face_px"], (110, 140), "1 under 110 px", "2 to 140 px", "3 above 140 px"),
    "person": lambda facts: "drawn" if facts.scene["portrait"] is None else "portrait",
    "glasses": lambda facts: _drawn(facts, "glasses"),
    "beard": lambda facts: _drawn(facts, "beard"),
    "age": lambda facts: _part(_drawn(facts, "age"), (1 / 3, 2 / 3), "1 young", "2 middle", "3 old"),
    "depth of pulse": lambda facts: _part(
        facts.scene["pulse_depth"], (0.0113, 0.0213), "1 weak, under 1.13 %", "2 medium", "3 strong, above 2.13 %"
    ),
    "rate": lambda facts: _part(
        facts.hr_bpm, (55, 70, 120, 140), "1 under 55 bpm", "2 to 70", "3 to 120", "4 to 140", "5 above 140"
    ),
}
"""Groups and the function that finds a recording's value, None where the facts do not decide. The number that a value
begins with gives its place in a table."""
