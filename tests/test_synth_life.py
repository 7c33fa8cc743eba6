"""Life: curves that a head could follow, and nothing that was not asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from autohr.lab.synth.life import BLINK_S, HeadMotion, HeadPose, move_head, wander
from autohr.types import Float
from made_faces import STATUE

FPS = 60.0
T_S = np.arange(round(40 * FPS)) / FPS
LIVELY = HeadMotion(sway=1.0, turn_deg=9.0, talk=1.2, expression=1.0, blinks_per_min=35.0)
CURVES = [field.name for field in dataclasses.fields(HeadPose)]


def moved(motion: HeadMotion, seed: int = 0, t_s: Float = T_S) -> HeadPose:
    return move_head(motion, t_s, np.random.default_rng(seed))


def strongest_hz(values: Float) -> float:
    power = np.abs(np.fft.rfft((values - values.mean()) * np.hanning(len(values)), 8 * len(values)))
    return float(np.fft.rfftfreq(8 * len(values), 1 / FPS)[power.argmax()])


def test_a_statue_does_nothing() -> None:
    pose = moved(STATUE)
    assert len(pose) == len(T_S)
    for name in CURVES:
        assert np.array_equal(getattr(pose, name), np.full(len(T_S), 1.0 if name == "scale" else 0.0)), name


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_smooth_and_bounded(seed: int) -> None:
    pose = moved(LIVELY, seed)
    most = {"x": 0.15, "y": 0.12, "scale": 1.08, "roll_rad": 0.20, "yaw_rad": 0.3142, "pitch_rad": 0.3142}
    most |= {"jaw": 0.08, "lips": 0.12, "smile": 1.0, "brows": 1.0, "lids": 1.0}
    for name in CURVES:
        values = getattr(pose, name)
        assert np.isfinite(values).all(), name
        assert np.abs(values).max() <= most[name] + 1e-12, name
        if name not in ("x", "y", "roll_rad", "yaw_rad", "pitch_rad", "lips"):
            assert values.min() >= (0.9 if name == "scale" else 0.0), name
        # No jump: the quickest are a blink and a syllable, which take a tenth of a second each way.
        assert 0 < np.abs(np.diff(values)).max() < 0.21 * np.ptp(values), name


def test_the_same_chance_gives_the_same_life_and_another_one_another() -> None:
    first, again, other = moved(LIVELY, 3), moved(LIVELY, 3), moved(LIVELY, 4)
    for name in CURVES:
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
        assert not np.array_equal(getattr(first, name), getattr(other, name)), name


def test_life_does_not_depend_on_the_frame_rate() -> None:
    fast, slow = moved(LIVELY, 5), moved(LIVELY, 5, T_S[::3])
    for name in CURVES:
        at = getattr(fast, name)[::3]
        assert np.abs(at - getattr(slow, name)).max() < 0.06 * np.ptp(at) + 1e-12, name


def test_who_does_not_talk_keeps_the_mouth_shut() -> None:
    pose = moved(dataclasses.replace(LIVELY, talk=0.0))
    assert not pose.jaw.any()
    assert not pose.lips.any()
    louder, softer = (moved(dataclasses.replace(LIVELY, talk=talk)).jaw for talk in (1.0, 0.3))
    assert softer == pytest.approx(0.3 * louder), "the same words, less wide"


def test_speech_is_syllables_in_phrases_with_pauses() -> None:
    jaw = moved(HeadMotion(talk=1.0), 1).jaw
    peaks = int(((jaw[1:-1] > jaw[:-2]) & (jaw[1:-1] >= jaw[2:]) & (jaw[1:-1] > 0.005)).sum())
    assert 1.5 < peaks / T_S[-1] < 6, "syllables a second, pauses included"
    assert 0.05 < (jaw < 1e-3).mean() < 0.6, "pauses"
    assert jaw.max() > 0.03
    # What makes talking hard for a meter of pulse: a good part of it moves at a heart's rate.
    power = np.abs(np.fft.rfft(jaw - jaw.mean())) ** 2
    freqs_hz = np.fft.rfftfreq(len(jaw), 1 / FPS)
    assert power[(freqs_hz > 0.7) & (freqs_hz < 3)].sum() > 0.2 * power.sum()


def test_who_talks_moves_the_head() -> None:
    quiet, talking = (moved(HeadMotion(sway=0, turn_deg=5, talk=talk), 2) for talk in (0.0, 1.0))
    assert not quiet.y.any()
    assert talking.y.std() > 0.001
    for name in ("yaw_rad", "pitch_rad"):
        assert np.diff(getattr(talking, name)).std() > 1.2 * np.diff(getattr(quiet, name)).std(), name


def test_blinks_close_the_lids_and_come_as_often_as_asked() -> None:
    long_s = np.arange(600 * 30) / 30
    lids = moved(HeadMotion(0, 0, 0, 0, blinks_per_min=20), t_s=long_s).lids
    shut = lids > 0.5
    n_blinks = int((shut[1:] & ~shut[:-1]).sum())
    assert n_blinks / 10 == pytest.approx(20, abs=4)
    assert lids.max() > 0.95
    assert 0.4 * BLINK_S < shut.sum() / 30 / n_blinks < 0.7 * BLINK_S
    assert (lids < 1e-6).mean() > 0.8


@pytest.mark.parametrize(
    ("rhythm", "curve", "per_amplitude", "still"),
    [
        ("nod", "y", 1.0, ("x", "yaw_rad", "roll_rad")),
        ("shake", "yaw_rad", 1.5, ("y", "pitch_rad", "roll_rad")),
        ("rock", "roll_rad", 1.5, ("x", "y", "yaw_rad", "pitch_rad")),
    ],
)
def test_a_rhythm_has_the_rate_and_the_size_asked_for(
    rhythm: Any, curve: str, per_amplitude: float, still: tuple[str, ...]
) -> None:
    pose = moved(dataclasses.replace(STATUE, rhythm=rhythm, rhythm_hz=1.3, rhythm_amplitude=0.04))
    assert strongest_hz(getattr(pose, curve)) == pytest.approx(1.3, abs=0.01)
    assert np.ptp(getattr(pose, curve)) / 2 == pytest.approx(0.04 * per_amplitude, rel=0.01)
    assert not any(getattr(pose, name).any() for name in still)


def test_a_head_turns_by_18_degrees_and_no_more() -> None:
    pose = moved(HeadMotion(turn_deg=15, talk=1.5, rhythm="shake", rhythm_hz=1.0, rhythm_amplitude=0.3), 7)
    far = np.degrees(np.hypot(pose.yaw_rad, pose.pitch_rad))
    assert 17.5 < far.max() <= 18 + 1e-9
    modest = moved(HeadMotion(sway=0, turn_deg=4, talk=0), 7)
    assert np.degrees(modest.yaw_rad).std() == pytest.approx(4, rel=0.35)
    assert np.degrees(modest.pitch_rad).std() == pytest.approx(2, rel=0.35)


def test_two_frames_are_enough() -> None:
    assert len(moved(LIVELY, t_s=np.array([0.0, 0.04]))) == 2


def test_wandering_has_unit_size_and_stays_in_its_band() -> None:
    rng = np.random.default_rng(0)
    curves = [wander(rng, np.arange(4000) / 10, 0.05, 0.5) for _ in range(20)]
    assert np.mean([curve.std() for curve in curves]) == pytest.approx(0.9, abs=0.1)
    assert max(np.abs(curve).max() for curve in curves) <= 2.2
    for curve in curves:
        power = np.abs(np.fft.rfft(curve - curve.mean())) ** 2
        freqs_hz = np.fft.rfftfreq(len(curve), 0.1)
        assert power[(freqs_hz > 0.04) & (freqs_hz < 0.55)].sum() > 0.9 * power.sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sway": -1}, "sway=-1"),
        ({"sway": float("nan")}, "sway=nan"),
        ({"turn_deg": 40}, r"turn_deg=40 is outside 0\.\.15"),
        ({"talk": 2}, "talk=2"),
        ({"expression": 3}, "expression=3"),
        ({"blinks_per_min": 100}, "blinks_per_min=100"),
        ({"rhythm": "jump"}, "rhythm='jump' is not one of nod, shake, rock"),
        ({"rhythm_amplitude": 0.1}, "needs a rhythm_hz"),
    ],
)
def test_impossible_motions_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HeadMotion(**change)
