"""Every figure by its definition, on numbers that can be checked by hand, and on the published oracle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autohr.lab import metrics

ORACLES = Path(__file__).parents[1].parent / "shared" / "data" / "oracles" / "pyvhr"

TRUE = np.array([60.0, 70.0, 80.0, 100.0])
PREDICTED = np.array([61.0, 68.0, 90.0, 100.0])  # errors 1, -2, 10, 0


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (metrics.mae, 13 / 4),
        (metrics.rmse, math.sqrt(105 / 4)),
        (metrics.bias, 9 / 4),
        (metrics.sd, math.sqrt((105 - 81 / 4) / 3)),
        (metrics.mape, 100 * (1 / 60 + 2 / 70 + 10 / 80) / 4),
        (metrics.within, 3 / 4),
        (metrics.pearson, np.corrcoef(TRUE, PREDICTED)[0, 1]),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_figures_by_hand(figure: Callable[..., float], value: float) -> None:
    assert figure(PREDICTED, TRUE) == pytest.approx(value, rel=1e-12)


def test_rmse_is_bias_and_sd_together() -> None:
    rng = np.random.default_rng(3)
    true, predicted = rng.uniform(50, 120, 37), rng.uniform(50, 120, 37)
    both = metrics.bias(predicted, true) ** 2 + 36 / 37 * metrics.sd(predicted, true) ** 2
    assert metrics.rmse(predicted, true) ** 2 == pytest.approx(both)
    limits = metrics.bland_altman(predicted, true)
    assert (limits.high - limits.low) / 2 == pytest.approx(1.96 * metrics.sd(predicted, true))
    assert (limits.high + limits.low) / 2 == pytest.approx(limits.bias)


def test_the_limit_itself_is_within() -> None:
    assert metrics.within(np.array([65.0, 65.1]), np.array([60.0, 60.0])) == 0.5


def test_what_is_not_defined_is_nan_and_what_is_wrong_is_refused() -> None:
    one = np.array([70.0])
    assert math.isnan(metrics.sd(one, one)) and math.isnan(metrics.pearson(one, one))
    assert math.isnan(metrics.pearson(np.full(9, 71.3), np.arange(9.0) + 60))
    for predicted, true in ((one, np.zeros(2)), (np.zeros(0), np.zeros(0)), (np.array([np.nan]), one)):
        with pytest.raises(ValueError, match="must be"):
            metrics.mae(predicted, true)
    with pytest.raises(ValueError, match="positive"):
        metrics.mape(one, np.zeros(1))


def test_macc_finds_a_lag_within_a_second_and_no_further() -> None:
    rng = np.random.default_rng(0)
    fs, noise = 30.0, np.convolve(rng.standard_normal(700), np.hanning(9), "same")
    true = noise[100:400]
    r, lag_s = metrics.macc(noise[88:388], true, fs)
    assert r == pytest.approx(1.0)
    assert lag_s == pytest.approx(12 / fs)
    assert metrics.macc(noise[112:412], true, fs)[1] == pytest.approx(-12 / fs)
    assert metrics.macc(noise[50:350], true, fs)[0] < 0.6, "a lag of 1.7 s lies beyond the limit"


def test_macc_is_signed_and_does_not_wrap_where_the_toolboxs_is_and_does() -> None:
    rng = np.random.default_rng(1)
    true = np.convolve(rng.standard_normal(600), np.hanning(9), "same")[100:400]
    wrapped = np.roll(true, 150)
    assert metrics.circular_macc(-true, true) == pytest.approx(1.0)
    assert metrics.circular_macc(wrapped, true) == pytest.approx(1.0)
    assert metrics.macc(-true, true, 30.0)[0] < 0.7
    assert metrics.macc(wrapped, true, 30.0)[0] < 0.7
    assert math.isnan(metrics.macc(np.full(300, 2.0), true, 30.0)[0])
    assert math.isnan(metrics.circular_macc(np.full(300, 2.0), true))


@pytest.mark.parametrize("hr_bpm", [50.0, 90.0, 150.0])
def test_snr_is_about_the_truth(hr_bpm: float) -> None:
    t = np.arange(900) / 30
    rng = np.random.default_rng(2)
    wave = np.sin(2 * np.pi * hr_bpm / 60 * t)
    assert metrics.snr(wave, 30.0, hr_bpm) > 20
    assert metrics.snr(wave, 30.0, hr_bpm + 20) < -15, "a clean wave at a wrong rate is all noise"
    louder = [metrics.snr(wave + sd * rng.standard_normal(900), 30.0, hr_bpm) for sd in (0.3, 1.0, 3.0)]
    assert louder == sorted(louder, reverse=True)


def test_snr_of_white_noise_is_the_share_of_the_band() -> None:
    """Signal bins are 0.2 + 0.4 Hz of 0.5..4 Hz: 10 log10(0.6 / 2.9) = -6.8 dB."""
    rng = np.random.default_rng(4)
    noise = [metrics.snr(rng.standard_normal(1800), 30.0, 72.0) for _ in range(60)]
    assert np.mean(noise) == pytest.approx(10 * np.log10(0.6 / 2.9), abs=0.4)


def test_bootstrap_draws_subjects_not_windows() -> None:
    """A hundred equal windows of each of five people hold five values: the interval must be theirs."""
    rng = np.random.default_rng(5)
    error = rng.normal(0, 10, 5)
    many, few = np.repeat(error, 100), error
    names = [str(k) for k in range(5)]
    mean = lambda x: float(x.mean())  # noqa: E731
    low, high = metrics.bootstrap_interval(mean, np.repeat(names, 100).tolist(), many)
    assert (low, high) == pytest.approx(metrics.bootstrap_interval(mean, names, few))
    assert high - low > 5
    windows = metrics.bootstrap_interval(mean, [str(k) for k in range(500)], many)
    assert windows[1] - windows[0] < (high - low) / 5


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    names = [str(k // 4) for k in range(120)]
    hits = 0
    for _ in range(60):
        person = np.repeat(rng.normal(3.0, 2.0, 30), 4)
        low, high = metrics.bootstrap_interval(
            lambda x: float(x.mean()), names, person + rng.normal(0, 1, 120), n_draws=200
        )
        hits += low <= 3.0 <= high
    assert 48 <= hits <= 60


def test_the_quick_interval_of_a_mean_is_that_of_the_slow_one() -> None:
    rng = np.random.default_rng(3)
    subjects = [str(k) for k in rng.integers(0, 30, 400)]
    values = rng.exponential(5.0, 400) + np.array([int(one) for one in subjects])
    slow = metrics.bootstrap_interval(lambda drawn: float(drawn.mean()), subjects, values, n_draws=4000)
    quick = metrics.bootstrap_mean_interval(subjects, values, n_draws=4000, seed=1)
    assert quick == pytest.approx(slow, rel=0.02)
    assert np.isnan(metrics.bootstrap_mean_interval(["a", "a"], values[:2])).all()


def test_bootstrap_of_one_subject_is_unknown_and_the_order_of_rows_does_not_matter() -> None:
    values = np.arange(6.0)
    mean = lambda x: float(x.mean())  # noqa: E731
    assert np.isnan(metrics.bootstrap_interval(mean, ["a"] * 6, values)).all()
    names = list("aabbcc")
    turned = metrics.bootstrap_interval(mean, names[::-1], values[::-1])
    assert turned == metrics.bootstrap_interval(mean, names, values)


def test_paired_test_sees_a_small_steady_difference_and_no_difference() -> None:
    rng = np.random.default_rng(7)
    names = [f"s{k % 12}" for k in range(120)]
    hardness = rng.exponential(5, 12)[np.arange(120) % 12]
    worse = hardness + 1 + 0.1 * rng.standard_normal(120)
    steady = metrics.paired_test(names, hardness, worse)
    assert steady.n_subjects == 12 and steady.p < 0.01
    assert steady.low_bpm < steady.difference_bpm < steady.high_bpm < 0
    assert math.isnan(metrics.paired_test(names, hardness, hardness).p)
    swapped = hardness + np.where(np.arange(120) % 12 < 6, 1.0, -1.0)
    assert metrics.paired_test(names, hardness, swapped).p > 0.5
    with pytest.raises(ValueError, match="one row"):
        metrics.paired_test(names, hardness, hardness[:-1])


@pytest.mark.skipif(not ORACLES.is_dir(), reason="the published results are not beside this checkout")
@pytest.mark.parametrize("name", ["LGI_PPGI_holistic", "PURE_holistic", "UBFC2_holistic"])
def test_mae_and_rmse_of_every_published_row(name: str) -> None:
    """pyVHR's results per video: with the truth nearest in time to each estimate, its MAE and RMSE come out."""
    rows = json.loads((ORACLES / f"{name}.json").read_text())
    assert len(rows) >= 90
    for row in rows:
        time_true, time_predicted = np.array(row["timeGT"]), np.array(row["timeES"])
        true = np.array(row["bpmGT"])[np.abs(time_true[None, :] - time_predicted[:, None]).argmin(axis=1)]
        predicted = np.array(row["bpmES"])
        assert metrics.mae(predicted, true) == pytest.approx(row["MAE"][0], abs=1e-6)
        assert metrics.rmse(predicted, true) == pytest.approx(row["RMSE"][0], abs=1e-6)
        r = metrics.pearson(predicted, true)
        assert math.isnan(r) or r == pytest.approx(row["PCC"][0], abs=1e-6)
