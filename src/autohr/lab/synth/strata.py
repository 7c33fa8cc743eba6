"""What a synthetic recording is an example of: the groups by which results on such recordings are divided.

``STRATA`` is the visible table. Where a threshold parts recordings it is written in the group's name; thresholds are
ours, and stand still, so that the groups of two data sets are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autohr.types import Float, Frame

DARK_SKIN, LIGHT_SKIN = 0.24, 0.43
"""Of ``skin_luminance``: the thirds of the 161 recordings of photographs that the shipped weights were tested on."""


@dataclass(frozen=True)
class Facts:
    """What the groups are made of."""

    scene: Mapping[str, Any]
    """``synth.video.SceneConfig`` as a dict."""
    encoding: Mapping[str, Any]
    """codec and crf."""
    bits_per_pixel: float
    """Of the file, for each pixel of each frame."""
    hr_bpm: float | None
    """Mean over the recording; None without a pulse."""
    skin_luminance: float | None
    """See the function; None where it is not known."""


def strata(facts: Facts) -> dict[str, str]:
    """Group -> value, for every line of ``STRATA`` that the facts tell."""
    said = {name: of(facts) for name, of in STRATA.items()}
    return {name: value for name, value in said.items() if value is not None}


def skin_luminance(frame: Frame, box_xywh: Float, gamma: float, exposure: float) -> float:
    """Median luminance of the middle of a face, from brows to mouth, where most is skin: in linear light, 0..1, the
    exposure taken off; NaN where it lies outside the picture. ``frame``: (H, W, 3) RGB."""
    left, top, width, height = box_xywh
    rows = slice(max(0, round(top + 0.35 * height)), max(0, round(top + 0.7 * height)))
    columns = slice(max(0, round(left + 0.25 * width)), max(0, round(left + 0.75 * width)))
    linear = (frame[rows, columns].reshape(-1, 3) / 255.0) ** gamma / exposure
    if not len(linear):
        return math.nan
    return float(np.median(linear @ np.array([0.2126, 0.7152, 0.0722])))


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
    if facts.scene["portrait"] is None:
        identity = facts.scene["identity"]
        if identity is None:
            # Drawn by the scene's seed, which does not tell here.
            return None
        return _third(identity["melanin"], 1 / 3, 2 / 3, ("1 drawn, light", "2 drawn, medium", "3 drawn, dark"))
    names = ("6 portrait, dark", "5 portrait, medium", "4 portrait, light")
    return None if facts.skin_luminance is None else _third(facts.skin_luminance, DARK_SKIN, LIGHT_SKIN, names)


def _compression(facts: Facts) -> str:
    if facts.encoding["codec"] != "libx264":
        return str(facts.encoding["codec"])
    return _third(facts.encoding["crf"], 10.5, 17.5, ("1 h264, crf to 10", "2 h264, crf 11 to 17", "3 h264, crf 18 on"))


def _rhythm(facts: Facts) -> str:
    head = facts.scene["head"]
    return str(head["rhythm"]) if head["rhythm_amplitude"] else "1 none"


def _rate(facts: Facts) -> str | None:
    names = ("1 under 70 bpm", "2 to 120", "3 above 120")
    return None if facts.hr_bpm is None else _third(facts.hr_bpm, 70, 120, names)


STRATA: dict[str, Callable[[Facts], str | None]] = {
    "motion": _motion,
    "speech": lambda facts: "talking" if facts.scene["head"]["talk"] else "silent",
    "rhythmic movement": _rhythm,
    "light": _light,
    "automatic exposure": lambda facts: "on" if facts.scene["auto_exposure"] else "off",
    "skin tone": _tone,
    "compression": _compression,
    "bits per pixel": lambda facts: _third(
        facts.bits_per_pixel, 0.05, 0.2, ("1 under 0.05", "2 to 0.2", "3 above 0.2")
    ),
    "frames per second": lambda facts: _third(facts.scene["fps"], 22, 33, ("1 under 22", "2 to 33", "3 above 33")),
    "person": lambda facts: "drawn" if facts.scene["portrait"] is None else "portrait",
    "depth of pulse": lambda facts: _third(
        facts.scene["pulse_depth"], 0.0113, 0.0213, ("1 weak, under 1.13 %", "2 medium", "3 strong, above 2.13 %")
    ),
    "rate": _rate,
}
"""Group -> its value; None where the facts do not tell. The number that a value begins with puts it in its place."""


def _third(value: float, low: float, high: float, names: tuple[str, str, str]) -> str:
    """The name of the part that ``value`` lies in: under ``low``, below ``high``, or from there on."""
    return names[int(value >= low) + int(value >= high)]
