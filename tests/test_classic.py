"""Classic methods, over their table: each finds the rate of a clean trace; each holds its own promise on a hard one."""

from __future__ import annotations

import numpy as np
import pytest

from autohr.classic import CLASSIC
from autohr.classic.colour import chrom, green, pos
from autohr.classic.ica import ica, jade
from autohr.classic.mvdr import mvdr
from autohr.classic.projection import BLOOD_SIGNATURE, lgi, omit, pbv
from autohr.classic.ssr import ssr
from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse, simulate_rgb
from autohr.types import Float

ALL = pytest.mark.parametrize("name", CLASSIC)

HIGHEST_BPM = {"li2014": 130.0}
"""The moving average of this one, as published, takes 25 dB off 165 bpm (tests/test_li2014.py). Others find all."""


@ALL
@pytest.mark.parametrize("fps", [12.5, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("hr_bpm", [45.0, 72.0, 110.0, 165.0])
def test_the_rate_of_a_clean_trace_is_found(name: str, fps: float, hr_bpm: float) -> None:
    hr_bpm = min(hr_bpm, HIGHEST_BPM.get(name, hr_bpm))
    truth = simulate_pulse(12, fps, hr_bpm, seed=3, hrv=0.01)
    bvp = CLASSIC[name](simulate_rgb(truth.bvp, fps, seed=4), fps)
    assert bvp.shape == truth.bvp.shape
    assert estimate_heart_rate(bvp, fps).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=1.5)


@ALL
def test_the_wave_is_centred_and_positive_where_there_is_more_blood(name: str) -> None:
    truth = simulate_pulse(12, 30, 72, seed=3)
    bvp = CLASSIC[name](simulate_rgb(truth.bvp, 30, seed=4, noise=0.0002), 30)
    assert abs(bvp.mean()) < 0.05 * bvp.std()
    assert np.corrcoef(bvp, truth.bvp)[0, 1] > 0.8


@ALL
def test_brightness_does_not_matter(name: str) -> None:
    truth = simulate_pulse(12, 30, 72, seed=3)
    rgb = simulate_rgb(truth.bvp, 30, seed=4)
    one, other = CLASSIC[name](rgb, 30), CLASSIC[name](0.3 * rgb, 30)
    assert np.corrcoef(one, other)[0, 1] > 0.999


@ALL
def test_black_constant_and_grey_traces_give_finite_waves(name: str) -> None:
    rng = np.random.default_rng(0)
    grey = 100 + rng.standard_normal((300, 1)) * np.ones(3)
    for rgb in (np.zeros((300, 3)), np.full((300, 3), 128.0), grey):
        assert np.isfinite(CLASSIC[name](rgb, 30)).all()


@ALL
def test_bad_traces_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="rgb must be"):
        CLASSIC[name](np.zeros((300, 4)), 30)
    with pytest.raises(ValueError, match="finite"):
        CLASSIC[name](np.full((300, 3), np.nan), 30)
    with pytest.raises(SignalTooShort):
        CLASSIC[name](np.ones((20, 3)), 30)


@pytest.mark.parametrize("method", [chrom, pos], ids=["chrom", "pos"])
def test_chrominance_beats_green_when_the_light_wanders(method) -> None:  # type: ignore[no-untyped-def]
    def error(function, seed: int) -> float:  # type: ignore[no-untyped-def]
        truth = simulate_pulse(10, 30, 90, seed=seed)
        rgb = simulate_rgb(truth.bvp, 30, seed=seed, depth=0.002, motion=0.02)
        return abs((estimate_heart_rate(function(rgb, 30), 30).hr_bpm or 0) - truth.mean_hr_bpm)

    ours, plain = [error(method, seed) for seed in range(10)], [error(green, seed) for seed in range(10)]
    assert max(ours) < 3
    assert np.mean(plain) > 10


@pytest.mark.parametrize("method", [lgi, omit, pbv, ssr], ids=["lgi", "omit", "pbv", "ssr"])
def test_projections_lose_what_all_channels_share(method) -> None:  # type: ignore[no-untyped-def]
    """Ten times as strong as the pulse, inside the band, and beside it."""
    truth = simulate_pulse(10, 30, 75, seed=2)
    rgb = simulate_rgb(truth.bvp, 30, seed=2, depth=0.003, flicker=0.03, flicker_hz=1.9)
    assert estimate_heart_rate(green(rgb, 30), 30).hr_bpm == pytest.approx(114, abs=1)
    assert estimate_heart_rate(method(rgb, 30), 30).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=1)


def test_lgi_and_omit_are_orthogonal_to_their_direction() -> None:
    """Colour that only moves along the mean one is nothing; a move at right angles to it comes through in green."""
    t_s, skin = np.arange(300) / 30, np.array([190.0, 140.0, 115.0])
    wave = np.sin(2 * np.pi * 1.2 * t_s)[:, None]
    across = np.cross(skin, [0.0, 0.0, 1.0])
    across *= 0.5 / np.linalg.norm(across)
    for method in (lgi, omit):
        brighter, moved = method(skin * (1 + 0.01 * wave), 30), method(skin + across * wave, 30)
        assert np.abs(brighter).max() < 1e-3 * np.abs(moved).max()
        np.testing.assert_allclose(moved[30:-30], -across[1] * wave[30:-30, 0], atol=0.02)


def test_pbv_passes_its_signature_with_gain_one() -> None:
    truth = simulate_pulse(10, 30, 75, seed=2)
    rgb = simulate_rgb(truth.bvp, 30, seed=2, noise=0.0001)
    # The simulator's depth is green's, the signature's unit is that of 0.77 in green.
    expected = bandpass(truth.bvp, 30) * 0.005 / BLOOD_SIGNATURE[1]
    np.testing.assert_allclose(pbv(rgb, 30)[30:-30], expected[30:-30], atol=0.2 * expected.std())


@pytest.mark.parametrize("seed", range(3))
def test_ssr_sees_the_tone_turn_in_parts_of_many_colours(seed: int) -> None:
    """Each part has its own tone and brightness, and all are lit by one light that changes far more than the pulse."""
    rng = np.random.default_rng(seed)
    truth = simulate_pulse(10, 30, 75, seed=seed)
    lamp = 1 + 0.05 * np.sin(2 * np.pi * 1.9 * np.arange(300) / 30)[:, None]
    tones = rng.uniform(0.8, 1.2, (16, 1, 1)) * rng.uniform(0.95, 1.05, (16, 1, 3))
    parts = tones * lamp * np.stack([simulate_rgb(truth.bvp, 30, seed=k, depth=0.003) for k in range(16)])
    assert estimate_heart_rate(green(parts.mean(axis=0), 30), 30).hr_bpm == pytest.approx(114, abs=1)
    wave = ssr(parts, 30)
    assert estimate_heart_rate(wave, 30).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=1)
    assert np.corrcoef(wave, bandpass(truth.bvp, 30))[0, 1] > 0.8, "with its sign"
    np.testing.assert_allclose(ssr(parts[::-1], 30), wave, atol=1e-9 * wave.std(), err_msg="the parts have no order")


def test_regions_are_computed_together_as_one_by_one() -> None:
    truth = simulate_pulse(10, 30, 90)
    regions = np.stack([simulate_rgb(truth.bvp, 30, seed=seed, motion=0.01) for seed in range(4)])
    for function in (green, chrom, pos):
        together = function(regions, 30)
        for k in range(4):
            np.testing.assert_allclose(together[k], function(regions[k], 30), atol=1e-12)


def test_pos_equals_the_papers_algorithm_written_with_loops() -> None:
    """Wang 2017, algorithm 1, without the band-pass that is added at the end: compared before it."""
    fs, rng = 20.0, np.random.default_rng(0)
    rgb = 100 + rng.standard_normal((200, 3)).cumsum(axis=0)
    length = 32
    total, count = np.zeros(200), np.zeros(200)
    for n in range(length - 1, 200):
        window = rgb[n - length + 1 : n + 1]
        c = (window / window.mean(axis=0)).T
        s = np.array([[0, 1, -1], [-2, 1, 1]]) @ c
        h = s[0] + s[0].std() / s[1].std() * s[1]
        total[n - length + 1 : n + 1] += h - h.mean()
        count[n - length + 1 : n + 1] += 1
    np.testing.assert_allclose(pos(rgb, fs), -bandpass(total / count, fs), atol=1e-12)


def test_jade_separates_what_is_independent() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(4000)
    sources = np.stack([np.sign(np.sin(0.05 * t)), rng.uniform(-1, 1, 4000), np.sin(0.31 * t)])
    found = jade(rng.standard_normal((3, 3)) @ sources)
    alike = np.abs(np.corrcoef(found, sources)[:3, 3:])
    assert sorted(alike.argmax(axis=1)) == [0, 1, 2]
    assert alike.max(axis=1).min() > 0.98
    np.testing.assert_allclose(found @ found.T / 4000, np.eye(3), atol=1e-9)


def test_ica_does_not_take_what_wanders_below_the_band() -> None:
    truth = simulate_pulse(15, 30, 72, seed=1, hrv=0.01)
    rgb = simulate_rgb(truth.bvp, 30, noise=0.0005)
    rgb = rgb * (1 + 0.03 * np.sin(2 * np.pi * 0.15 * np.arange(450) / 30))[:, None]
    assert estimate_heart_rate(ica(rgb, 30), 30).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=2)


# -- MVDR


def face_of_cells(seed: int, depth: float = 0.002, noise: float = 0.002) -> tuple[Float, Float, float]:
    """(R, T, 3) colours of 64 cells of which every fourth is no skin, how much skin each is, and the true rate."""
    rng = np.random.default_rng(seed)
    truth = simulate_pulse(10, 30, 72, seed=seed)
    skin = np.where(np.arange(64) % 4 == 3, 0.0, rng.uniform(0.5, 1.0, 64))
    change = -depth * skin[:, None, None] * truth.bvp[:, None] * np.array(BLOOD_SIGNATURE)
    change += noise * rng.standard_normal((64, 300, 3))
    return rng.uniform(60, 200, (64, 1, 3)) * (1 + change), skin, truth.mean_hr_bpm


def rate_of(bvp: Float) -> float:
    return estimate_heart_rate(bvp, 30).hr_bpm or 0.0


@pytest.mark.parametrize("seed", range(4))
def test_mvdr_avoids_what_shows_in_other_places_than_the_pulse(seed: int) -> None:
    cells, skin, hr_bpm = face_of_cells(seed)
    rng = np.random.default_rng(seed)
    t_s = np.arange(300) / 30
    # Three movements ten times as strong as the pulse and of its colour, each in its own pattern over the face.
    for bpm in (55.0, 96.0, 121.0):
        pattern = rng.normal(0.3, 1, (64, 1, 1)) * np.array(BLOOD_SIGNATURE)
        cells = cells * (1 + 0.02 * np.sin(2 * np.pi * bpm / 60 * t_s + rng.uniform(0, 6))[:, None] * pattern)
    assert abs(rate_of(pos(cells[skin > 0].mean(axis=0), 30)) - hr_bpm) > 5
    assert rate_of(mvdr(cells, 30, skin)) == pytest.approx(hr_bpm, abs=1.5)


@pytest.mark.parametrize("seed", range(4))
def test_mvdr_takes_out_what_it_is_told_holds_no_pulse(seed: int) -> None:
    cells, skin, hr_bpm = face_of_cells(seed)
    lamp = np.sin(2 * np.pi * 1.7 * np.arange(300) / 30)
    # The pulse's own shares: nothing but the reference tells them apart.
    lit = cells * (1 + 0.01 * skin[:, None, None] * lamp[:, None] * np.array(BLOOD_SIGNATURE))
    assert rate_of(mvdr(lit, 30, skin)) == pytest.approx(102, abs=1.5)
    absent = np.full(300, np.nan)
    assert rate_of(mvdr(lit, 30, skin, np.stack([lamp, absent, 0 * lamp]))) == pytest.approx(hr_bpm, abs=1.5)


def test_a_strong_pulse_is_not_taken_for_something_to_avoid() -> None:
    cells, skin, hr_bpm = face_of_cells(1, depth=0.03)
    wrong_shares = skin * np.random.default_rng(5).uniform(0.3, 1.0, 64)
    found = estimate_heart_rate(mvdr(cells, 30, wrong_shares), 30)
    assert found.hr_bpm == pytest.approx(hr_bpm, abs=1) and found.snr_db is not None and found.snr_db > 5


def test_mvdr_of_no_skin_takes_all_cells_and_refuses_what_does_not_fit() -> None:
    cells, skin, _ = face_of_cells(0)
    np.testing.assert_allclose(mvdr(cells, 30, np.zeros(64)), mvdr(cells, 30))
    with pytest.raises(ValueError, match=r"skin must be \(64,\)"):
        mvdr(cells, 30, skin[:60])
    with pytest.raises(ValueError, match=r"references \(K, 300\)"):
        mvdr(cells, 30, skin, np.zeros((2, 299)))
    with pytest.raises(ValueError, match="rgb must be"):
        mvdr(np.zeros((0, 300, 3)), 30)


def test_prism_takes_the_mix_and_the_trend_that_show_most_pulse() -> None:
    """A flicker of the light that POS lets through is what another mix takes out."""
    truth = simulate_pulse(duration_s=20, fs=30, hr_bpm=96, hrv=0)
    t_s = np.arange(600) / 30
    rgb = simulate_rgb(truth.bvp, 30, seed=1, noise=0.0005)
    # A reddish light that swings at 48 a minute, with the plane of POS turned away from it.
    flicker = np.sin(2 * np.pi * 0.8 * t_s)[:, None] * np.array([0.02, 0.012, 0.004])
    swung = rgb * (1 + flicker)
    found = estimate_heart_rate(CLASSIC["prism"](swung, 30), 30)
    plain = estimate_heart_rate(CLASSIC["pos"](swung, 30), 30)
    assert found.hr_bpm == pytest.approx(96, abs=1)
    assert found.snr_db is not None and plain.snr_db is not None and found.snr_db > plain.snr_db - 0.5
    with pytest.raises(SignalTooShort):
        CLASSIC["prism"](rgb[:100], 30)
