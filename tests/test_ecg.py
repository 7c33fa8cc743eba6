"""R peaks against beats that are known, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from autohr.errors import SignalTooShort
from autohr.lab.datasets.ecg import PULSE_DELAY_S, detect_r_peaks, pulse_of_beats, rate_between
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float
from trees import made_ecg


def beats(mean_bpm: float, duration_s: float = 30.0, spread: float = 0.04, seed: int = 1) -> Float:
    ibi_s = 60 / mean_bpm * (1 + spread * np.random.default_rng(seed).standard_normal(400))
    beats_s = 0.4 + np.cumsum(ibi_s)
    return beats_s[beats_s < duration_s - 0.3]


@pytest.mark.parametrize("fs", [128.0, 256.0, 1000.0])
@pytest.mark.parametrize("mean_bpm", [42.0, 75.0, 170.0])
def test_every_r_peak_is_found_where_it_is(mean_bpm: float, fs: float) -> None:
    true_s = beats(mean_bpm)
    found_s = detect_r_peaks(made_ecg(true_s, fs, 30.0), fs)
    assert len(found_s) == len(true_s)
    assert np.abs(found_s - true_s).max() < 0.008


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("upside down", lambda ecg, t_s: -ecg),
        ("wandering", lambda ecg, t_s: ecg + 3000 * np.sin(2 * np.pi * 0.3 * t_s)),
        ("mains", lambda ecg, t_s: ecg + 300 * np.sin(2 * np.pi * 50 * t_s)),
        ("an offset as in a BDF", lambda ecg, t_s: ecg - 17_000),
        ("noise", lambda ecg, t_s: ecg + 60 * np.random.default_rng(0).standard_normal(len(ecg))),
        ("a moved electrode", lambda ecg, t_s: ecg + 8000 * (np.abs(t_s - 14.2) < 0.02)),
        ("breathing", lambda ecg, t_s: ecg * (1 + 0.35 * np.sin(2 * np.pi * 0.25 * t_s))),
    ],
)
def test_what_spoils_an_ecg_does_not_move_its_rate(what: str, spoil: object) -> None:
    assert callable(spoil)
    true_s, fs = beats(66.0), 256.0
    ecg = spoil(made_ecg(true_s, fs, 30.0), np.arange(round(30 * fs)) / fs)
    found_s = detect_r_peaks(ecg, fs)
    t_s = np.arange(2, 28, 0.02)
    assert abs(np.nanmean(rate_between(found_s, t_s)) - np.nanmean(rate_between(true_s, t_s))) < 0.2, what


@pytest.mark.parametrize("mean_bpm", [50, 110])
def test_as_neurokit_finds_them(mean_bpm: int) -> None:
    neurokit = pytest.importorskip("neurokit2")
    fs = 256
    ecg = neurokit.ecg_simulate(duration=20, sampling_rate=fs, heart_rate=mean_bpm, method="ecgsyn", random_state=2)
    theirs = neurokit.ecg_findpeaks(neurokit.ecg_clean(ecg, sampling_rate=fs), sampling_rate=fs)["ECG_R_Peaks"] / fs
    ours = detect_r_peaks(ecg, fs)
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs).max() < 0.005


def test_the_mean_rate_is_the_number_of_beats_passed() -> None:
    true_s = beats(88.0, spread=0.08)
    t_s = np.arange(true_s[3], true_s[20], 0.001)
    passed_bpm = 60 * 17 / (true_s[20] - true_s[3])
    assert np.mean(rate_between(true_s, t_s)) == pytest.approx(passed_bpm, abs=0.05)
    # The mean of the rates themselves is another number, always larger.
    assert np.mean(60 / np.diff(true_s[3:21])) > passed_bpm + 0.1


def test_a_missed_beat_is_no_slow_heart() -> None:
    true_s = beats(60.0, spread=0.01)
    rate_bpm = rate_between(np.delete(true_s, 12), np.arange(0, 30, 0.05))
    known = rate_bpm[np.isfinite(rate_bpm)]
    assert known.min() > 55
    assert np.isnan(rate_between(true_s, np.array([0.0, 29.99]))).all(), "before the first beat and after the last"
    assert np.isnan(rate_between(np.empty(0), np.arange(3.0))).all()


def test_a_flat_line_has_no_beats_and_a_scrap_is_refused() -> None:
    assert len(detect_r_peaks(np.full(2560, 7.0), 256.0)) == 0
    with pytest.raises(SignalTooShort, match=r"2\.0 s"):
        detect_r_peaks(np.zeros(512), 256.0)
    with pytest.raises(ValueError, match="fs=25"):
        detect_r_peaks(np.zeros(512), 25.0)


def test_the_reconstructed_pulse_beats_with_the_heart() -> None:
    true_s, fs = beats(72.0, spread=0.02), 50.0
    t_s = np.arange(1.5, 28, 1 / fs)
    wave = pulse_of_beats(true_s, t_s)
    assert np.isfinite(wave).all()
    tops_s = true_s[2:-3] + PULSE_DELAY_S
    assert all(wave[np.abs(t_s - one).argmin()] > 0.9 * wave.max() for one in tops_s)
    assert estimate_heart_rate(wave, fs).hr_bpm == pytest.approx(np.mean(rate_between(true_s, t_s)), abs=1.0)
