"""Signals: known truth in, the same truth out. Truth comes from formulas and from signals/simulate.py."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from scipy.interpolate import CubicSpline
from scipy.linalg import solveh_banded
from threadpoolctl import threadpool_info, threadpool_limits

from autohr.confidence.evidence import (
    agreement_of_regions,
    blood_over_light,
    halves_differ_bpm,
    in_step,
    shared_line,
    shared_with,
    skin_over_light,
)
from autohr.confidence.keyframes import at_key_frames, key_frame_comb, key_frame_steps
from autohr.confidence.model import WEIGHTS, confidence, features, is_trusted
from autohr.confidence.verdict import impostor, is_refused, why_unreliable
from autohr.errors import SignalTooShort
from autohr.signals.filters import analytic, bandpass, detrend, remove_line, resample, standardise
from autohr.signals.hrv import (
    MAX_BEAT_ERROR_MS,
    accepted_intervals,
    cubic_spline,
    detect_beats,
    find_tops,
    heart_rate_variability,
    timed_beats,
    welch_density,
)
from autohr.signals.rate import (
    BAND_BPM,
    GRID_BPM,
    estimate_heart_rate,
    pooled_heart_rate,
    power_spectrum,
    snr_db,
)
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse, simulate_rgb
from autohr.signals.threads import one_blas_thread
from autohr.types import Evidence, Float

RATES_FPS = (20.0, 25.0, 29.97, 30.0, 50.0, 60.0)


def sine(hr_bpm: float, fs: float, duration_s: float, phase: float = 0.0) -> Float:
    t_s = np.arange(round(duration_s * fs)) / fs
    return np.sin(2 * np.pi * hr_bpm / 60 * t_s + phase)


# -- filters


@pytest.mark.parametrize("cutoff_hz", [0.2, 0.4, 1.0])
def test_detrend_has_its_cutoff_where_it_says(cutoff_hz: float) -> None:
    fs, n_samples = 30.0, 6000
    tone = np.sin(2 * np.pi * cutoff_hz * np.arange(n_samples) / fs)
    inside = slice(2000, 4000)
    gain = detrend(tone, fs, cutoff_hz)[inside].std() / tone[inside].std()
    assert gain == pytest.approx(np.sqrt(0.5), abs=1e-3)


def test_detrend_removes_a_line_exactly() -> None:
    assert np.abs(detrend(np.linspace(3.0, 43.0, 200), 30.0)).max() < 1e-8


def test_bandpass_has_no_delay_and_keeps_the_band() -> None:
    tone = sine(75, 30, 20)
    kept = bandpass(tone, 30)
    middle = slice(150, 450)
    assert np.corrcoef(kept[middle], tone[middle])[0, 1] > 0.9999
    assert kept[middle].std() / tone[middle].std() == pytest.approx(1, abs=0.03)
    assert bandpass(sine(6, 30, 20), 30).std() < 0.05
    assert bandpass(np.sin(2 * np.pi * 9 * np.arange(600) / 30), 30).std() < 0.05


def test_bandpass_of_no_signals_is_no_signals() -> None:
    assert bandpass(np.zeros((0, 300)), 30).shape == (0, 300)


@pytest.mark.parametrize("fs", [10.0, 29.97, 250.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_bandpass_equals_scipys(fs: float, order: int) -> None:
    x = 50 + np.cumsum(np.random.default_rng(order).standard_normal((2, 3, round(10 * fs) + 1)), axis=-1)
    for band_hz in ((0.6, 4.0), (1.0, 1.5)):
        sos = signal.butter(order, band_hz, btype="bandpass", fs=fs, output="sos")
        theirs = signal.sosfiltfilt(sos, x, axis=-1, padtype="even", padlen=int(np.ceil(fs / band_hz[0])))
        np.testing.assert_allclose(bandpass(x, fs, band_hz, order), theirs, atol=1e-7)


@pytest.mark.parametrize(("fs", "cutoff_hz"), [(7.0, 0.4), (30.0, 0.4), (30.0, 0.5), (60.0, 0.4)])
@pytest.mark.parametrize("n_samples", [3, 4, 50, 1001])
def test_detrend_solves_the_equation_of_its_paper(n_samples: int, fs: float, cutoff_hz: float) -> None:
    x = 100 + np.cumsum(np.random.default_rng(n_samples).standard_normal((2, n_samples)), axis=-1)
    smoothness = (1 + np.sqrt(2)) / (2 * np.sin(np.pi * cutoff_hz / fs)) ** 4
    difference = np.diff(np.eye(n_samples), n=2, axis=0)
    matrix = np.eye(n_samples) + smoothness * difference.T @ difference
    bands = np.stack([np.concatenate([np.zeros(k), np.diagonal(matrix, k)]) for k in (2, 1, 0)])
    np.testing.assert_allclose(detrend(x, fs, cutoff_hz), x - solveh_banded(bands, x.T).T, atol=1e-6)


def test_the_spectrum_of_intervals_is_scipys() -> None:
    rng = np.random.default_rng(0)
    t_s = np.sort(rng.uniform(0, 100, 120))
    x, at_s = rng.standard_normal((120, 2)), np.linspace(t_s[0], t_s[-1], 777)
    np.testing.assert_allclose(cubic_spline(t_s, x, at_s), CubicSpline(t_s, x)(at_s), atol=1e-10)
    for n_samples, length in ((800, 240), (333, 240), (200, 200)):
        wave = rng.standard_normal((2, n_samples))
        theirs = signal.welch(wave, 4.0, nperseg=length, nfft=1024)
        for ours, wanted in zip(welch_density(wave, 4.0, length, 1024), theirs, strict=True):
            np.testing.assert_allclose(ours, wanted, atol=1e-12)


@pytest.mark.parametrize("n_samples", [2, 9, 300])
def test_analytic_and_remove_line_equal_scipys(n_samples: int) -> None:
    x = 5 + np.random.default_rng(n_samples).standard_normal((2, n_samples))
    np.testing.assert_allclose(analytic(x), signal.hilbert(x), atol=1e-12)
    np.testing.assert_allclose(remove_line(x), signal.detrend(x), atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_signal_shorter_than_a_period_is_refused(length: int) -> None:
    with pytest.raises(SignalTooShort, match="at least"):
        bandpass(np.zeros(length), 30)


def test_bands_and_cutoffs_outside_the_clock_are_refused() -> None:
    with pytest.raises(ValueError, match="fs=30"):
        bandpass(np.zeros(300), 30, (2.0, 1.0))
    with pytest.raises(ValueError, match="fs=30"):
        detrend(np.zeros(300), 30, 15.0)


def test_resample_follows_uneven_times_and_bridges_what_is_missing() -> None:
    rng = np.random.default_rng(1)
    t_s = np.sort(rng.uniform(0, 10, 600))
    x = np.stack([np.sin(2 * np.pi * t_s), np.cos(2 * np.pi * t_s)], axis=1)
    x[rng.uniform(size=600) < 0.1] = np.nan
    at_s = np.arange(0.5, 9.5, 1 / 30)
    out = resample(t_s, x, at_s)
    np.testing.assert_allclose(out[:, 0], np.sin(2 * np.pi * at_s), atol=0.06)
    np.testing.assert_allclose(out[:, 1], np.cos(2 * np.pi * at_s), atol=0.06)


def test_resample_refuses_a_clock_that_runs_backwards() -> None:
    with pytest.raises(ValueError, match="increase"):
        resample(np.array([0.0, 1.0, 0.5]), np.zeros(3), np.zeros(2))
    with pytest.raises(SignalTooShort, match="Only 1 of 2"):
        resample(np.array([0.0, 1.0]), np.array([np.nan, 1.0]), np.zeros(2))


def test_standardise_leaves_constants_at_zero() -> None:
    out = standardise(np.stack([np.full(50, 7.3), np.arange(50.0)]))
    assert (out[0] == 0).all()
    assert out[1].std() == pytest.approx(1)


# -- the estimator


@pytest.mark.parametrize("fps", RATES_FPS)
def test_a_sine_is_found_within_a_fifth_of_a_beat(fps: float) -> None:
    """Any rate in 40..180 bpm, ten seconds, 20 to 60 frames per second."""
    errors = [
        abs((estimate_heart_rate(sine(hr_bpm, fps, 10, phase), fps).hr_bpm or 0) - hr_bpm)
        for hr_bpm in np.arange(40, 180.1, 3.5)
        for phase in (0.0, 1.3, 2.9)
    ]
    assert max(errors) < 0.2


@pytest.mark.parametrize("fps", RATES_FPS)
def test_a_realistic_pulse_with_uneven_stamps_is_found(fps: float) -> None:
    """Beats that vary, a dicrotic wave, jittered and dropped frames: within 1.5 bpm of the beats really passed, since
    the rate itself moves by 2 % inside the window."""
    rng = np.random.default_rng(int(fps * 100))
    for hr_bpm in (48.0, 66.0, 95.0, 140.0, 172.0):
        truth = simulate_pulse(10, fps, hr_bpm, seed=int(hr_bpm), hrv=0.02, dicrotic=0.4)
        t_s = np.arange(len(truth.bvp)) / fps
        seen_s = t_s + rng.uniform(-0.3, 0.3, len(t_s)) / fps
        seen = np.interp(seen_s, t_s, truth.bvp)
        keep = rng.uniform(size=len(t_s)) > 0.1
        keep[[0, -1]] = True
        wave = resample(seen_s[keep], seen[keep], t_s)
        found = estimate_heart_rate(bandpass(wave, fps), fps).hr_bpm
        assert found == pytest.approx(truth.mean_hr_bpm, abs=1.5)


@settings(max_examples=40)
@given(
    hr_bpm=st.floats(42, 178),
    fps=st.sampled_from(RATES_FPS),
    scale=st.floats(1e-4, 1e4),
    offset=st.floats(-1e3, 1e3),
    slope=st.floats(-1, 1),
)
def test_scale_offset_and_slope_do_not_matter(
    hr_bpm: float, fps: float, scale: float, offset: float, slope: float
) -> None:
    tone = sine(hr_bpm, fps, 12, 0.7)
    wave = scale * (tone + slope * np.arange(len(tone)) / len(tone) + offset)
    assert estimate_heart_rate(wave, fps).hr_bpm == pytest.approx(hr_bpm, abs=0.2)


def test_a_pooled_rate_is_the_line_that_all_waves_share() -> None:
    waves = [sine(bpm, fps, 10) + 0.7 * sine(88, fps, 10, 0.3) for bpm, fps in ((50, 30.0), (133, 25.0), (71, 60.0))]
    fs = [30.0, 25.0, 60.0]
    assert pooled_heart_rate(waves, fs, [1, 1, 1]) == pytest.approx(88, abs=0.5)
    assert pooled_heart_rate(waves, fs, [1, 0, 0]) == pytest.approx(50, abs=0.5)
    assert pooled_heart_rate([np.zeros(300)], [30.0], [1]) is None
    for hr_bpm in (41, 62.3, 179):
        alone = pooled_heart_rate([sine(hr_bpm, 30, 10)], [30.0], [1])
        assert alone == pytest.approx(hr_bpm, abs=1)
    with pytest.raises(ValueError, match="one for each"):
        pooled_heart_rate(waves, fs, [1])


@pytest.mark.parametrize("hr_bpm", [45.0, 60.0, 72.0, 88.0])
def test_a_strong_second_harmonic_does_not_double_the_rate(hr_bpm: float) -> None:
    wave = sine(hr_bpm, 30, 10) + 1.5 * sine(2 * hr_bpm, 30, 10, 0.8)
    assert estimate_heart_rate(wave, 30).hr_bpm == pytest.approx(hr_bpm, abs=1.0)


@pytest.mark.parametrize("hr_bpm", [90.0, 120.0, 160.0])
def test_a_weak_line_at_half_the_rate_does_not_win(hr_bpm: float) -> None:
    """Alternating beats and breathing leave such a line; a third of the amplitude is more than either gives."""
    wave = sine(hr_bpm, 30, 10) + 0.33 * sine(hr_bpm / 2, 30, 10, 0.8)
    assert estimate_heart_rate(wave, 30).hr_bpm == pytest.approx(hr_bpm, abs=1.0)


def test_noise_around_a_pulse_seldom_halves_its_rate() -> None:
    rng = np.random.default_rng(3)
    halved = 0
    for trial in range(200):
        hr_bpm = rng.uniform(90, 170)
        wave = bandpass(sine(hr_bpm, 30, 10) + 1.0 * rng.standard_normal(300), 30)
        halved += abs((estimate_heart_rate(wave, 30).hr_bpm or 0) - hr_bpm / 2) < 5
        assert trial >= 0
    assert halved <= 4


def test_drift_below_the_band_is_not_taken_for_a_rate() -> None:
    drift = 20 * sine(20, 30, 10) + sine(100, 30, 10)
    assert estimate_heart_rate(drift, 30).hr_bpm == pytest.approx(100, abs=1)


@pytest.mark.parametrize("wave", [np.zeros(300), np.full(300, 1e6)], ids=["zeros", "constant"])
def test_a_constant_wave_has_no_rate(wave: Float) -> None:
    rate = estimate_heart_rate(wave, 30)
    assert rate.hr_bpm is None and rate.snr_db is None


def test_bad_waves_are_refused_with_what_to_do() -> None:
    with pytest.raises(SignalTooShort, match="at least 3.8 s"):
        estimate_heart_rate(np.zeros(60), 30)
    with pytest.raises(ValueError, match="finite"):
        estimate_heart_rate(np.full(300, np.nan), 30)
    with pytest.raises(ValueError, match="frames per second"):
        estimate_heart_rate(np.zeros(60), 5)
    with pytest.raises(ValueError, match="band_bpm"):
        estimate_heart_rate(np.zeros(300), 30, (180, 40))


def test_the_grid_is_fine_enough_and_power_does_not_depend_on_length() -> None:
    for fs, duration_s in ((7.0, 4.0), (30.0, 10.0), (60.0, 40.0)):
        freqs_hz, power = power_spectrum(2 * sine(90, fs, duration_s), fs)
        assert 60 * np.diff(freqs_hz).max() <= GRID_BPM
        assert power.max() == pytest.approx(1.0, rel=0.05)


def test_snr_falls_with_noise_and_knows_the_harmonic() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(900)
    clean = sine(70, 30, 30) + 0.4 * sine(140, 30, 30)
    levels = [snr_db(clean + sigma * noise, 30, 70) for sigma in (0.1, 1.0, 4.0)]
    assert levels[0] > levels[1] + 3 > levels[2] + 6
    assert snr_db(clean, 30, 70) > snr_db(clean, 30, 100) + 20


# -- quality


def test_regions_agree_on_a_pulse_and_not_on_noise() -> None:
    rng = np.random.default_rng(0)
    pulse = sine(80, 30, 10)
    together = pulse + 0.5 * rng.standard_normal((12, 300))
    apart = rng.standard_normal((12, 300))
    assert agreement_of_regions(together, 30, 80) > 0.95
    assert np.mean([agreement_of_regions(rng.standard_normal((12, 300)), 30, hr) for hr in range(50, 170, 3)]) < 0.4
    assert agreement_of_regions(apart[:2], 30, 80) == 0
    assert agreement_of_regions(np.full((5, 300), np.nan), 30, 80) == 0


def test_what_the_background_shares_is_seen_whatever_the_delay() -> None:
    pulse = sine(80, 30, 10)
    scale = np.array([0.005])
    assert shared_with(pulse, 0.01 * sine(80, 30, 10, 1.0)[None], 30, scale) > 0.95
    assert shared_with(pulse, 0.01 * sine(130, 30, 10)[None], 30, scale) < 0.2
    assert shared_with(pulse, 1e-5 * sine(80, 30, 10)[None], 30, scale) < 0.01
    assert shared_with(pulse, np.full((1, 300), np.nan), 30, scale) == 0


def test_a_flicker_under_noise_is_seen_on_the_wall() -> None:
    rng = np.random.default_rng(0)
    flicker = 0.01 * sine(100, 30, 10)
    skin = flicker + 0.004 * rng.standard_normal((3, 300))
    assert shared_line(skin, flicker + 0.004 * rng.standard_normal((3, 300)), 30, 100) > 0.8
    assert shared_line(skin, 0.1 * flicker + 0.0001 * rng.standard_normal((3, 300)), 30, 100) < 0.2
    assert shared_line(skin, np.full((3, 300), np.nan), 30, 100) == 0
    chance = [shared_line(skin, 0.004 * rng.standard_normal((3, 300)), 30, 100) > 0 for _ in range(300)]
    assert np.mean(chance) < 0.05


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.33, 0.77, 0.53), (0.2, 0.3, 1.0)])
def test_a_beat_of_the_skin_alone_is_told_from_one_of_everything(colour: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    skin = np.repeat([1.0, 0.7, 0.1, 0.0], 16)
    level = np.where(skin[:, None] > 0.5, [180.0, 130, 110], [60.0, 70, 90])
    beat = np.multiply.outer(sine(100, 30, 10), colour)

    def likelier(depth: Float, noise_sd: float = 0.01) -> float:
        noise = noise_sd * rng.standard_normal((64, 300, 3))
        return skin_over_light(level[:, None] * (1 + depth[:, None, None] * beat + noise), skin, 30, 100)

    assert likelier(0.01 * skin) > 50
    assert likelier(np.full(64, 0.01)) < -50
    # Fainter than the noise of any cell.
    assert np.mean([likelier(0.002 * skin) > 0 for _ in range(20)]) > 0.8
    assert np.mean([likelier(np.full(64, 0.002)) < 0 for _ in range(20)]) > 0.8
    assert np.mean([abs(likelier(0 * skin)) > 10 for _ in range(50)]) < 0.1
    all_skin = level[:, None] * (1 + 0.01 * beat[None])
    assert skin_over_light(all_skin, np.ones(64), 30, 100) == 0
    assert skin_over_light(0.01 * all_skin, skin, 30, 100) == 0, "nothing is seen in the dark"


def test_steps_in_key_frames_are_told_from_a_flow() -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(300) / 30
    flow = np.stack([100 + size * np.sin(2 * np.pi * 1.2 * t_s) for size in (0.3, 0.8, 0.5)], axis=1)
    noise = 0.2 * rng.standard_normal((300, 3))
    every_half_second = np.arange(300) % 15 == 0
    frozen = flow[np.arange(300) // 15 * 15]
    sawtooth = flow + 0.8 * (np.arange(300) % 15)[:, None] / 15 * np.array([0.3, 1, -0.5])
    for colour in (flow, flow + noise, 100 + noise):
        assert key_frame_steps(colour, every_half_second, 30) < 0.25
    assert key_frame_steps(frozen + 0.02 * noise, every_half_second, 30) > 0.8
    assert key_frame_steps(sawtooth + noise, every_half_second, 30) > 0.4
    assert key_frame_steps(frozen, np.ones(300, dtype=bool), 30) == 0
    assert key_frame_steps(frozen, np.zeros(300, dtype=bool), 30) == 0
    assert key_frame_steps(np.full((300, 3), np.nan), every_half_second, 30) == 0


def test_a_rate_that_is_the_key_frames_is_told_from_one_that_is_not() -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(300) / 30
    once_a_second = np.arange(300) % 30 == 0
    decay = np.exp(-(np.arange(300) % 30) / 6)[:, None] * np.array([0.1, 0.4, -0.4])
    noise = 0.05 * rng.standard_normal((300, 3))

    def seen(hr_bpm: float, depth: float, comb: float) -> float:
        beat = np.sin(2 * np.pi * hr_bpm / 60 * t_s)[:, None] * np.array([0.3, 0.8, 0.5])
        rgb = 100 + depth * beat + comb * decay + noise
        wave = bandpass(-rgb[:, 1], 30)
        rate = estimate_heart_rate(wave, 30).hr_bpm or 0.0
        return key_frame_comb(rgb, once_a_second, wave, 30, rate)

    assert seen(75, 0.0, 1.0) > 0.7  # the comb alone: 60 bpm
    assert seen(60, 1.0, 0.0) < 0.1  # a real pulse at the key frames' rate, and no comb
    assert seen(60, 1.0, 0.1) < 0.4
    assert seen(75, 1.0, 0.3) < 0.1  # a comb, but another rate


def test_rates_of_key_frames_are_known() -> None:
    every_second = np.arange(300) % 30 == 0
    for hr_bpm, said in ((60, True), (64, True), (67, False), (90, False), (116, True), (180, True)):
        assert at_key_frames(every_second, 30, hr_bpm) == said
    assert not at_key_frames(np.zeros(300, dtype=bool), 30, 60)
    assert not at_key_frames(np.ones(300, dtype=bool), 30, 60), "of mjpeg every frame is whole"


def test_halves_tell_a_steady_rate_from_a_wandering_one() -> None:
    assert halves_differ_bpm(sine(80, 30, 10), 30) < 1
    assert halves_differ_bpm(np.concatenate([sine(60, 30, 6), sine(120, 30, 6)]), 30) > 40


def test_two_waves_are_in_step_only_where_they_beat_together_all_through() -> None:
    rng = np.random.default_rng(5)
    beat, noise = sine(72, 30, 10), rng.standard_normal((400, 2, 300))
    assert in_step(beat + 0.3 * noise[0, 0], 5 * beat + noise[1, 0], 30, 72) > 0.9
    late = np.roll(beat, 3)
    assert in_step(beat, late, 30, 72) < in_step(beat, late, 30, 72, lead_s=0.1) == pytest.approx(1, abs=0.02)
    half_turned = np.concatenate([beat[:150], -beat[150:]])
    assert abs(in_step(beat, half_turned, 30, 72)) < 0.05 and in_step(beat, half_turned, 30, 72, None) < 0.05
    chances = [in_step(first, second, 30, 72) for first, second in noise]
    assert abs(np.mean(chances)) < 0.1 and np.mean(np.array(chances) > 0.8) < 0.03
    assert in_step(beat, np.zeros(300), 30, 72) == 0


def test_colours_tell_blood_from_a_lamp() -> None:
    rng = np.random.default_rng(3)
    beat = sine(100, 30, 10)[:, None]

    def beating(colours: tuple[float, ...], depth: float = 0.01) -> float:
        """Return the evidence where the colours have more noise in common than of a beat."""
        noise = 0.02 * np.cumsum(rng.standard_normal((300, 1)), axis=0) / 10 + 0.002 * rng.standard_normal((300, 3))
        return blood_over_light(np.array([150.0, 110, 90]) * (1 + depth * np.array(colours) * beat + noise), 30, 100)

    assert all(beating(colours) > 0.3 for colours in [(0.33, 0.77, 0.53), (0.25, 0.8, 0.6), (0.4, 0.8, 0.5)])
    assert beating((1, 1, 1)) < -0.3 and beating((0.9, 0.8, 0.7)) < 0
    assert np.mean([abs(beating((1, 1, 1), depth=0)) for _ in range(20)]) < 0.2, "noise is no evidence"
    assert blood_over_light(np.full((300, 3), 2.0), 30, 100) == 0, "nothing is seen in the dark"
    assert blood_over_light(np.full((300, 3), np.nan), 30, 100) == 0


GOOD = Evidence(
    snr_db=8,
    agreement=0.95,
    background=0.02,
    motion=0.02,
    redrawn=0.0,
    at_key_frames=False,
    halves_bpm=0.5,
    witness_bpm=0.0,
    runner_up=0.1,
    on_skin=60.0,
    witness_snr_db=6.0,
    in_step=0.95,
    blood=0.4,
)


def test_confidence_grows_with_every_piece_of_evidence() -> None:
    worse: list[dict[str, Any]] = [
        {"snr_db": -6.0},
        {"agreement": 0.3},
        {"background": 0.9},
        {"halves_bpm": 40.0},
        {"witness_bpm": 40.0},
        {"runner_up": 0.95},
        {"on_skin": -8.0},
        {"witness_snr_db": -6.0},
        {"in_step": 0.0},
        {"redrawn": 0.9, "at_key_frames": True},
        {"blood": 0.0},
        {"blood": -0.3},
    ]
    assert len(features(GOOD)) == len(worse)
    for kind in WEIGHTS:
        good = replace(GOOD, kind=kind)
        assert is_trusted(good)
        for change in worse:
            changed = replace(good, **change)
            assert confidence(changed) <= confidence(good)
            assert why_unreliable(changed)
        assert not is_trusted(replace(good, **{name: value for change in worse for name, value in change.items()}))
    assert impostor(GOOD) is None
    for change in ({"background": 0.9}, {"motion": 0.9}, {"redrawn": 0.9, "on_skin": 4.0}, {"on_skin": -50.0}):
        assert impostor(Evidence(**{**GOOD.__dict__, **change}))
    jumping = {**GOOD.__dict__, "redrawn": 0.9}
    assert not impostor(Evidence(**jumping)), "key frames jump on hair too"
    assert impostor(Evidence(**{**jumping, "at_key_frames": True})), "but at their own rate nothing clears it"


def test_what_no_other_evidence_outweighs() -> None:
    assert not is_refused(GOOD)
    assert is_refused(replace(GOOD, on_skin=-30)) and is_refused(replace(GOOD, blood=-0.5))
    redrawn = replace(GOOD, redrawn=0.9, at_key_frames=True, on_skin=0)
    assert is_refused(redrawn), "mean colours cannot tell the skin from hair that the file redraws"
    assert not is_refused(replace(redrawn, kind="net"))


def test_linear_algebra_keeps_to_one_thread_while_anything_is_read() -> None:
    def n_threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with threadpool_limits(3, user_api="blas"):
        before = n_threads()
        with one_blas_thread:
            assert n_threads() == {1}
            with pytest.raises(RuntimeError, match="luck"), one_blas_thread:
                raise RuntimeError("luck")
            assert n_threads() == {1}, "the outer one still reads"
        assert n_threads() == before


# -- beats and variability


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_beats_are_found_where_they_are(fps: float) -> None:
    truth = simulate_pulse(40, fps, 70, seed=2, hrv=0.04)
    found_s = detect_beats(truth.bvp, fs=fps, hr_bpm=70)
    inner = truth.beats_s[1:-1]
    assert abs(len(found_s) - len(truth.beats_s)) <= 1
    assert max(np.abs(found_s - beat_s).min() for beat_s in inner) < 0.012


@given(st.integers(0, 10_000), st.integers(3, 800), st.integers(1, 40), st.floats(0, 3))
def test_tops_are_scipys(seed: int, n_samples: int, distance: int, prominence: float) -> None:
    random = np.random.default_rng(seed)
    curve = np.convolve(random.standard_normal(n_samples), np.hanning(random.integers(3, 20)), mode="same")
    theirs, _ = signal.find_peaks(curve, distance=distance, prominence=prominence)
    np.testing.assert_array_equal(find_tops(curve, distance, prominence), theirs)


def test_no_beat_is_found_in_a_gap() -> None:
    truth = simulate_pulse(30, 30, 70, seed=2)
    wave = truth.bvp.copy()
    wave[300:450] = np.nan
    found_s = detect_beats(wave, 30, 70)
    assert not ((found_s > 10) & (found_s < 15)).any()
    assert (found_s > 15).sum() >= 15


def test_hrv_agrees_with_neurokit() -> None:
    """An independent oracle on the same beats. neurokit2 rounds beats to its clock, hence 1 kHz and the tolerance."""
    neurokit2 = pytest.importorskip("neurokit2")
    truth = simulate_pulse(200, 30, 65, seed=5, hrv=0.05)
    ours = heart_rate_variability(truth.beats_s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peaks = neurokit2.intervals_to_peaks(1000 * np.diff(truth.beats_s), sampling_rate=1000)
        time = neurokit2.hrv_time(peaks, 1000)
        frequency = neurokit2.hrv_frequency(peaks, 1000, normalize=False)
    assert ours.sdnn_ms == pytest.approx(time["HRV_SDNN"].item(), rel=0.02)
    assert ours.rmssd_ms == pytest.approx(time["HRV_RMSSD"].item(), rel=0.02)
    assert ours.pnn50_pct == pytest.approx(time["HRV_pNN50"].item(), abs=2.5)
    assert ours.hf_ms2 == pytest.approx(frequency["HRV_HF"].item(), rel=0.15)
    assert ours.mean_hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=0.3)


def test_hrv_of_a_metronome_is_nought() -> None:
    hrv = heart_rate_variability(np.arange(0, 130, 0.8))
    assert hrv.sdnn_ms == pytest.approx(0, abs=1e-6) and hrv.rmssd_ms == pytest.approx(0, abs=1e-6)
    assert hrv.pnn50_pct == 0
    assert hrv.mean_hr_bpm == pytest.approx(75)
    assert hrv.lf_ms2 is not None


def test_hrv_is_refused_when_short_or_unclean() -> None:
    with pytest.raises(SignalTooShort, match="at least 60 s"):
        heart_rate_variability(np.arange(0, 50, 0.8))
    with pytest.raises(SignalTooShort, match="at least 60 s"):
        heart_rate_variability(np.empty(0))
    rng = np.random.default_rng(0)
    with pytest.raises(SignalTooShort, match="agree"):
        heart_rate_variability(np.sort(rng.uniform(0, 90, 110)))
    assert heart_rate_variability(np.arange(0, 90, 0.8)).lf_ms2 is None


def test_a_missed_beat_is_left_out() -> None:
    beats_s = np.delete(np.arange(0, 90, 0.8), 40)
    ibi_ms, ok = accepted_intervals(beats_s)
    assert (~ok).sum() == 1 and ibi_ms[~ok] == pytest.approx(1600)
    assert heart_rate_variability(beats_s).sdnn_ms == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("pause_s", [5.0, 100.0, 50_000.0])
def test_a_pause_counts_neither_as_time_nor_as_variation(pause_s: float) -> None:
    """Only seconds with beats count, and no curve is drawn across a pause."""
    rng = np.random.default_rng(3)
    beats_s = np.cumsum(0.8 + 0.02 * rng.standard_normal(50))
    with pytest.raises(SignalTooShort, match="3[89] s of beats"):
        heart_rate_variability(np.concatenate([beats_s[:25], beats_s[25:] + pause_s]))
    longer = np.cumsum(0.8 + 0.02 * rng.standard_normal(180))
    whole = heart_rate_variability(longer)
    parted = heart_rate_variability(np.concatenate([longer[:90], longer[90:] + pause_s]))
    assert parted.duration_s == pytest.approx(whole.duration_s, abs=2)
    assert parted.sdnn_ms == pytest.approx(whole.sdnn_ms, rel=0.05)
    assert parted.rmssd_ms == pytest.approx(whole.rmssd_ms, rel=0.05)
    assert parted.lf_ms2 == pytest.approx(whole.lf_ms2, rel=0.5)
    assert parted.hf_ms2 == pytest.approx(whole.hf_ms2, rel=0.3)


@pytest.mark.parametrize("jitter_ms", [2.0, 5.0, 10.0])
def test_what_noise_adds_to_variability_is_taken_off_or_said(jitter_ms: float) -> None:
    """Beats of a pulse that hardly varies, timed with error: RMSSD is never given as what the noise alone makes."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        true_s = np.cumsum(0.85 + 0.003 * rng.standard_normal(90))
        first_s, second_s = (true_s + 0.001 * jitter_ms * rng.standard_normal(90) for _ in range(2))
        raw_ms = heart_rate_variability(first_s).rmssd_ms
        true_ms = heart_rate_variability(true_s).rmssd_ms
        hrv = heart_rate_variability(*timed_beats(first_s, second_s + 0.1)[:2])
        assert raw_ms is not None and true_ms is not None
        if hrv.rmssd_ms is None:
            assert jitter_ms >= 5 and "RMSSD" in str(hrv.withheld)
        else:
            assert hrv.rmssd_error_ms is not None and hrv.rmssd_ms < 0.7 * raw_ms
            assert abs(hrv.rmssd_ms - true_ms) <= hrv.rmssd_error_ms


def test_variability_above_the_noise_is_given_with_its_error() -> None:
    rng = np.random.default_rng(0)
    true_s = np.cumsum(0.85 + 0.06 * rng.standard_normal(160))
    first_s, second_s = (true_s + 0.004 * rng.standard_normal(160) for _ in range(2))
    hrv, true = heart_rate_variability(first_s, second_s), heart_rate_variability(true_s)
    for name, error in (("sdnn_ms", "sdnn_error_ms"), ("rmssd_ms", "rmssd_error_ms"), ("pnn50_pct", "pnn50_error_pct")):
        assert getattr(hrv, error) < 0.2 * getattr(hrv, name)
        assert abs(getattr(hrv, name) - getattr(true, name)) <= getattr(hrv, error)


def test_beats_are_given_only_where_a_second_reading_confirms_them() -> None:
    rng = np.random.default_rng(1)
    true_s = np.cumsum(0.8 + 0.01 * rng.standard_normal(60))
    close_s = true_s + 0.005 * rng.standard_normal(60)
    beats_s, same_s, error_ms = timed_beats(true_s, close_s + 0.12)
    assert len(beats_s) == 60 and 5 < error_ms < 10
    assert np.abs(beats_s - same_s).max() < 0.03
    missed, _, _ = timed_beats(np.delete(true_s, 20), np.delete(close_s, [30, 31]))
    assert len(missed) == 57
    with pytest.raises(SignalTooShort, match=f"{MAX_BEAT_ERROR_MS:.0f} ms or less"):
        timed_beats(true_s, true_s + 0.05 * rng.standard_normal(60))
    with pytest.raises(SignalTooShort, match="confirms only"):
        timed_beats(true_s, close_s[:40])
    for few in (np.empty(0), true_s[:1], true_s[:5]):
        with pytest.raises(SignalTooShort, match="could be checked"):
            timed_beats(few, few)


# -- the simulator


@pytest.mark.parametrize("fs", [15.0, 30.0, 64.0])
def test_simulated_beats_rate_and_wave_tell_the_same(fs: float) -> None:
    truth = simulate_pulse(60, fs, 75, seed=1)
    assert truth.mean_hr_bpm == pytest.approx(75, rel=0.03)
    assert 60 / np.diff(truth.beats_s).mean() == pytest.approx(truth.mean_hr_bpm, rel=0.02)
    assert truth.hr_bpm.mean() == pytest.approx(truth.mean_hr_bpm, rel=0.01)
    assert truth.bvp.mean() == pytest.approx(0, abs=1e-9) and truth.bvp.std() == pytest.approx(1)
    again = simulate_pulse(60, fs, 75, seed=1)
    assert (again.bvp == truth.bvp).all()
    assert (simulate_pulse(60, fs, 75, seed=2).bvp != truth.bvp).any()


def test_simulated_rates_may_change() -> None:
    ramp = np.linspace(60, 120, 1800)
    truth = simulate_pulse(60, 30, ramp, hrv=0)
    np.testing.assert_allclose(truth.hr_bpm, ramp, rtol=1e-6)
    with pytest.raises(ValueError, match="1800"):
        simulate_pulse(60, 30, ramp[:-1])
    with pytest.raises(ValueError, match="positive"):
        simulate_pulse(60, 30, -5.0)


def test_simulated_colours_carry_the_pulse_in_the_stated_ratio() -> None:
    truth = simulate_pulse(20, 30, 75)
    rgb = simulate_rgb(truth.bvp, 30, depth=0.01, noise=0.0)
    sd = (rgb / rgb.mean(axis=0)).std(axis=0)
    np.testing.assert_allclose(sd / sd[1], np.asarray(CHANNEL_RATIO) / CHANNEL_RATIO[1], rtol=0.01)
    assert np.corrcoef(rgb[:, 1], truth.bvp)[0, 1] < -0.99
    assert BAND_BPM == (40.0, 180.0)
