"""Li2014: its published figures, its steps one by one, and the two things that it promises: light and restlessness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autohr.classic.li2014 import (
    DETREND_HZ,
    PAPER_FPS,
    SMOOTH_S,
    _moving_average,
    calm,
    li2014,
    rectify,
    without_jumps,
)
from autohr.methods import METHODS
from autohr.signals.filters import detrend
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse, simulate_rgb
from autohr.types import FaceClip, Float
from autohr.video.regions import REGIONS


def face_and_wall(fps: float, flicker_hz: float, seed: int) -> tuple[Float, Float, float]:
    """(T, 3) face and wall under one lamp that flickers seven times as strongly as the pulse, and the rate."""
    truth = simulate_pulse(10, fps, 75, seed=seed)
    t_s = np.arange(len(truth.bvp)) / fps
    light = 1 + 0.02 * np.sin(2 * np.pi * flicker_hz * t_s + 1)[:, None]
    face = light * simulate_rgb(truth.bvp, fps, seed=seed, depth=0.003)
    wall = light * [90.0, 80, 70] * (1 + 0.0003 * np.random.default_rng(seed).standard_normal((len(t_s), 3)))
    return face, wall, truth.mean_hr_bpm


@pytest.mark.parametrize("fps", [12.5, 25.0, 30.0, 61.0])
@pytest.mark.parametrize("flicker_hz", [1.3, 2.2])
def test_a_flicker_that_the_wall_shows_is_taken_off_the_face(fps: float, flicker_hz: float) -> None:
    for seed in range(3):
        face, wall, true_bpm = face_and_wall(fps, flicker_hz, seed)
        assert estimate_heart_rate(li2014(face, fps, wall), fps).hr_bpm == pytest.approx(true_bpm, abs=2.5)
        alone = estimate_heart_rate(li2014(face, fps), fps).hr_bpm
        assert alone == pytest.approx(60 * flicker_hz, abs=1.5), "without the wall the lamp wins, or nothing is shown"


def test_the_method_reads_the_lower_face_and_the_wall_of_a_clip() -> None:
    face, wall, true_bpm = face_and_wall(30.0, 1.3, 0)
    n_frames = len(face)
    traces = np.full((n_frames, len(REGIONS), 3), np.nan)
    traces[:, :8] = 100 + 50 * np.sin(np.arange(n_frames))[:, None, None]  # eyes and hair
    traces[:, 9] = traces[:, 14] = face
    clip = FaceClip(
        30.0, 2.0, traces[:, 0], traces, wall, np.tile([10.0, 10, 80, 90], (n_frames, 1)), np.ones(n_frames, bool)
    )
    pulse = METHODS["li2014"].wave(clip)
    assert (pulse.fps, pulse.start_s) == (30.0, 2.0)
    np.testing.assert_allclose(pulse.bvp, li2014(face, 30.0, wall), atol=1e-9)
    assert METHODS["li2014"](clip).hr_bpm == pytest.approx(true_bpm, abs=2.5)
    unseen = replace(clip, rgb=face, traces=np.full_like(traces, np.nan))
    np.testing.assert_allclose(METHODS["li2014"].wave(unseen).bvp, pulse.bvp, atol=1e-9)


@pytest.mark.parametrize("wall_level", [np.nan, 0.0, 2.0])
def test_a_wall_that_tells_nothing_is_left_out(wall_level: float) -> None:
    face, _, _ = face_and_wall(30.0, 1.3, 0)
    np.testing.assert_array_equal(li2014(face, 30.0, np.full_like(face, wall_level)), li2014(face, 30.0))
    with pytest.raises(ValueError, match="background_rgb must be"):
        li2014(face, 30.0, face[:-1])


def test_rectification_learns_the_share_of_the_light_and_shortens_by_the_history() -> None:
    rng = np.random.default_rng(0)
    light = 80 + rng.standard_normal(600).cumsum() * 0.05
    left = rectify(1.7 * light, light, n_taps=3, step=0.05)
    assert left.shape == (598,)
    # The three taps end up alike, so what stays is the face less 1.7 times the mean of three frames of the light.
    smooth = np.convolve(light, np.full(3, 1 / 3), mode="valid")
    difference = left - 1.7 * (light[2:] - smooth)
    np.testing.assert_allclose(difference - difference.mean(), 0, atol=0.01)
    assert abs(difference.mean()) < 0.1 and left.std() < 0.2 * light.std()


def test_one_tap_and_one_step_are_the_normalised_least_mean_squares() -> None:
    """Two samples, worked out by hand: w = mu e x / (x x + 0.001), then once more, then frozen."""
    w = 0.5 * 6 * 2 / 4.001
    w += 0.5 * (9 - 3 * w) * 3 / 9.001
    np.testing.assert_allclose(
        rectify(np.array([6.0, 9.0]), np.array([2.0, 3.0]), n_taps=1, step=0.5), [6 - 2 * w, 9 - 3 * w]
    )


@pytest.mark.parametrize(
    ("n_seconds", "n_restless", "n_dropped"), [(4, 1, 0), (10, 0, 0), (10, 1, 1), (10, 3, 1), (60, 9, 3)]
)
def test_a_twentieth_is_dropped_and_only_where_it_stands_out(n_seconds: int, n_restless: int, n_dropped: int) -> None:
    x = np.sin(2 * np.pi * 1.1 * np.arange(30 * n_seconds + 7) / 30)
    for k in range(n_restless):
        x[30 * k : 30 * k + 30] *= 5 + k
    keep = calm(x, 30)
    assert (~keep).sum() == 30 * n_dropped
    assert (~keep).any() == (not keep[30 * (n_restless - 1)] if n_restless and n_dropped else False), "the worst first"


def test_a_gap_leaves_no_jump() -> None:
    x, keep = np.arange(10.0) ** 2, np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
    np.testing.assert_allclose(without_jumps(x, keep), [0, 1, 4, 4, 17, 32, 49])


def test_a_second_of_movement_does_not_take_the_rate_and_the_beats_keep_their_times() -> None:
    fps = 30.0
    truth = simulate_pulse(10, fps, 66, seed=2, hrv=0.0)
    rgb = simulate_rgb(truth.bvp, fps, seed=2)
    rgb[120:150] *= 1 + 0.2 * np.sin(np.arange(30) / 3)[:, None]
    bvp = li2014(rgb, fps)
    assert estimate_heart_rate(bvp, fps).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=1.5)
    assert (bvp[120:150] == 0).all() and (bvp[:119] != 0).all() and (bvp[151:] != 0).all()
    for part in (slice(15, 115), slice(155, 285)):
        assert np.corrcoef(bvp[part], truth.bvp[part])[0, 1] > 0.75


def test_the_published_detrending_and_smoothing_at_61_frames() -> None:
    """lambda 300 at 61 per second is DETREND_HZ; 21 frames; and what the docstring says that they do to fast hearts."""
    lambda_ = np.sqrt(1 + np.sqrt(2.0)) / (2 * np.sin(np.pi * DETREND_HZ / PAPER_FPS)) ** 2
    assert lambda_ == pytest.approx(300, rel=0.01)
    assert round(SMOOTH_S * PAPER_FPS) == 21
    t_s = np.arange(1220) / PAPER_FPS
    for bpm, least_db, most_db in ((53, -1.6, -1.2), (110, -7.0, -6.4), (165, -26.0, -24.0)):
        sine = np.sin(2 * np.pi * bpm / 60 * t_s)
        gain = _moving_average(sine, 21)[100:-100].std() / sine[100:-100].std()
        assert least_db < 20 * np.log10(gain) < most_db
    slow = detrend(np.sin(2 * np.pi * DETREND_HZ * t_s), PAPER_FPS, DETREND_HZ)[200:-200]
    assert slow.std() * np.sqrt(2) == pytest.approx(np.sqrt(0.5), abs=0.02)
