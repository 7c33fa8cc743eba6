"""Movements of a living head, apart from its pulse: sway, turn, talk, blink, smile.

    HeadMotion, times, rng -> move_head -> HeadPose: (T,) curves in face heights, radians and shares

Nothing here is drawn; ``warp.py`` applies a pose to a face. Speech is what breaks methods that read a pulse from
video: syllables come 3 to 8 times a second, but in words and phrases, whose rhythm lies in the heart's band. All sizes
were chosen by us, by eye, beside videos of people who talk to a camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from autohr.lab.synth.limits import check_choice, check_numbers
from autohr.types import Float

Rhythm = Literal["nod", "shake", "rock"]
"""Kind of a periodic movement: up and down, turning left and right, tilting."""

SYLLABLE_S = (0.12, 0.32)
"""Range of the time from one syllable to the next: 3 to 8 a second, as in conversation."""
PHRASE_S, PAUSE_S = (0.8, 4.0), (0.15, 1.2)
EMPHASIS_S = 0.3
"""Time over which loudness is averaged to move the head: heads move with words, not with syllables."""
BLINK_S = 0.25
"""Duration of a blink from open to open."""

_LIMITS = {
    "sway": (0, 4),
    "turn_deg": (0, 15),
    "talk": (0, 1.5),
    "expression": (0, 2),
    "blinks_per_min": (0, 60),
    "rhythm_hz": (0, 10),
    "rhythm_amplitude": (0, 0.3),
}


@dataclass(frozen=True)
class HeadMotion:
    """Strength of each movement of a head; all 0 is a statue."""

    sway: float = 0.5
    """Sway: 1 is a restless person, with a standard deviation of 5 % of the face's height sideways, 3 degrees of roll
    and 3 % of scale."""
    turn_deg: float = 3.0
    """Standard deviation of yaw, and twice that of pitch. The sum of both is kept within 18 degrees, beyond which a
    picture on a mesh shows its seams."""
    talk: float = 0.0
    """Movement of the mouth: 0 is silent, 1 an excited speaker, whose head and brows move along."""
    expression: float = 0.3
    """Strength of smiles and raised brows."""
    blinks_per_min: float = 12.0
    rhythm: Rhythm = "nod"
    rhythm_hz: float = 0.0
    rhythm_amplitude: float = 0.0
    """Amplitude of the periodic movement, as a share of the face's height."""

    def __post_init__(self) -> None:
        check_choice("rhythm", self.rhythm, Rhythm)
        check_numbers(self, _LIMITS)
        if self.rhythm_amplitude and not self.rhythm_hz:
            raise ValueError(f"rhythm_amplitude={self.rhythm_amplitude} needs a rhythm_hz above 0.")


@dataclass(frozen=True)
class HeadPose:
    """Pose and expression of a head over time, relative to rest, as curves (T,)."""

    x: Float
    """Shift sideways, in face heights."""
    y: Float
    scale: Float
    """Size, 1 at rest."""
    roll_rad: Float
    yaw_rad: Float
    """Turn, positive to the right of the picture."""
    pitch_rad: Float
    """Nod, positive downwards."""
    jaw: Float
    """Drop of the chin, in face heights."""
    lips: Float
    """Relative widening of the mouth."""
    smile: Float
    """Strength of a smile, 0..1."""
    brows: Float
    """Height of the brows, 0..1."""
    lids: Float
    """Closing of the eyes, 0 is open, 1 closed."""

    def __len__(self) -> int:
        return len(self.x)


def wander(rng: np.random.Generator, t_s: Float, low_hz: float, high_hz: float) -> Float:
    """Return a sway (T,) of unit variance: five sines, slower ones larger, within 2.2 standard deviations in sum."""
    n_sines = 5
    freqs_hz = low_hz * (high_hz / low_hz) ** ((np.arange(n_sines) + rng.uniform(size=n_sines)) / n_sines)
    size = freqs_hz**-0.7
    size *= np.sqrt(2 / (size**2).sum())
    phases = rng.uniform(0, 2 * np.pi, n_sines)
    return np.asarray(2.2 * np.tanh((size * np.sin(2 * np.pi * t_s[:, None] * freqs_hz + phases)).sum(axis=1) / 2.2))


def move_head(motion: HeadMotion, t_s: Float, rng: np.random.Generator) -> HeadPose:
    """Draw the movements of a head at the times ``t_s`` (T,), in seconds.

    Examples
    --------
    >>> import numpy as np
    >>> pose = move_head(HeadMotion(talk=1.0), np.arange(90) / 30, np.random.default_rng(0))
    >>> len(pose), bool(pose.jaw.max() > 0)
    (90, True)
    """
    slow = [wander(rng, t_s, 0.04, 0.6) for _ in range(6)]
    # Who speaks moves in the rhythm of words as well.
    quick = [wander(rng, t_s, 0.5, 3.0) for _ in range(4)]
    voice, wide = _speak(motion.talk, t_s, rng)
    speaking = motion.talk * _running_mean(voice, t_s, EMPHASIS_S)
    beat = motion.rhythm_amplitude * np.sin(2 * np.pi * (motion.rhythm_hz * t_s + rng.uniform()))
    nod, shake, rock = (beat * (motion.rhythm == kind) for kind in ("nod", "shake", "rock"))
    turn = np.radians(motion.turn_deg)
    yaw = turn * slow[4] + 0.4 * turn * quick[0] * speaking + 1.5 * shake + 0.04 * motion.sway * slow[0]
    pitch = 0.5 * turn * slow[5] + 0.5 * turn * quick[1] * speaking + 1.2 * nod
    keep = 1 / np.maximum(1.0, np.hypot(yaw, pitch) / np.radians(18.0))
    smile = motion.expression * _events(rng, t_s, every_s=6.0, length_s=(1.0, 4.0))
    brows = motion.expression * _events(rng, t_s, every_s=5.0, length_s=(0.4, 1.5))
    every_s = 60 / motion.blinks_per_min if motion.blinks_per_min else np.inf
    blinks = _events(rng, t_s, every_s=every_s, length_s=(BLINK_S, BLINK_S), least=1.0)
    return HeadPose(
        x=0.05 * motion.sway * slow[0] + 0.006 * speaking * quick[2] + 0.5 * shake,
        y=0.03 * motion.sway * slow[1] + 0.010 * speaking * quick[1] + nod,
        scale=np.exp(0.03 * motion.sway * slow[2]),
        roll_rad=np.radians(3.0) * motion.sway * slow[3] + np.radians(1.2) * speaking * quick[3] + 1.5 * rock,
        yaw_rad=yaw * keep,
        pitch_rad=pitch * keep,
        jaw=0.055 * motion.talk * voice,
        lips=0.10 * motion.talk * wide,
        smile=np.clip(smile, 0, 1),
        brows=np.clip(brows + 0.3 * speaking * np.clip((quick[0] - 0.4) / 1.2, 0, 1), 0, 1),
        lids=np.clip(blinks, 0, 1),
    )


def _speak(talk: float, t_s: Float, rng: np.random.Generator) -> tuple[Float, Float]:
    """Return the opening (T,), 0..1, and the width (T,), -1..1, of a mouth: syllables in phrases, with pauses."""
    opened, wide = np.zeros(len(t_s)), np.zeros(len(t_s))
    if not talk:
        return opened, wide
    now_s, end_s = float(rng.uniform(-1.0, 1.0)), float(t_s[-1])
    while now_s < end_s:
        phrase_end_s = now_s + rng.uniform(*PHRASE_S)
        loud = rng.uniform(0.6, 1.2)
        while now_s < phrase_end_s and now_s < end_s:
            length_s = rng.uniform(*SYLLABLE_S)
            height, sideways = loud * rng.beta(2, 2.5), rng.normal(0, 0.5)
            syllable = np.exp(-0.5 * ((t_s - now_s) / (0.42 * length_s)) ** 2)
            opened += height * syllable
            wide += sideways * syllable
            now_s += length_s
        now_s += rng.uniform(*PAUSE_S)
    return np.clip(opened, 0, 1.2), np.clip(wide, -1, 1)


def _running_mean(values: Float, t_s: Float, width_s: float) -> Float:
    """Return the (T,) running mean over ``width_s`` seconds, whatever the frame rate."""
    n = 2 * round(width_s * (len(t_s) - 1) / (2 * max(float(t_s[-1] - t_s[0]), 1e-9))) + 1 if len(t_s) > 1 else 1
    n = min(n, 2 * ((len(t_s) - 1) // 2) + 1)
    return np.convolve(np.pad(values, n // 2, mode="edge"), np.ones(n) / n, mode="valid")


def _events(
    rng: np.random.Generator, t_s: Float, every_s: float, length_s: tuple[float, float], least: float = 0.3
) -> Float:
    """Return smooth humps (T,) of height least..1 at random times, ``every_s`` seconds apart on average."""
    out = np.zeros(len(t_s))
    now_s = float(rng.exponential(every_s))
    while now_s < t_s[-1]:
        length = float(rng.uniform(*length_s))
        phase = np.clip((t_s - now_s) / length, 0, 1)
        np.maximum(out, rng.uniform(least, 1.0) * np.sin(np.pi * phase) ** 2, out=out)
        now_s += length + float(rng.exponential(every_s))
    return out
