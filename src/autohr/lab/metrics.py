"""Errors of estimates, and intervals and tests of them. numpy in, numbers out.

Rates are ``predicted`` and ``true``, (N,) each, in bpm and finite; an error is predicted minus true. Waves are (T,) on
one uniform clock. A value that is not defined (the SD of one error, the correlation of constants) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

CONFIDENCE = 0.95
"""Level of intervals."""
N_BOOTSTRAP = 1000
"""Draws of a bootstrap. Chosen by us: the ends of a 95 % interval then move by 3 % of its width from seed to seed."""


def errors(predicted: Float, true: Float) -> Float:
    """Return predicted - true, (N,).

    Raises
    ------
    ValueError
        Shapes differ, there are no values, or one is not finite: the caller counts and leaves out what is unknown.
    """
    predicted, true = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape or not len(predicted):
        raise ValueError(f"predicted {predicted.shape} and true {true.shape} must be (N,) both, with N >= 1.")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("predicted and true must be finite; leave out, and count, what is not known.")
    difference: Float = predicted - true
    return difference


def mae(predicted: Float, true: Float) -> float:
    """Return the mean absolute error.

    Examples
    --------
    >>> mae(np.array([62.0, 75.0]), np.array([60.0, 80.0]))
    3.5
    """
    return float(np.abs(errors(predicted, true)).mean())


def rmse(predicted: Float, true: Float) -> float:
    """Return the root of the mean squared error: RMSE^2 = bias^2 + (N - 1) / N * SD^2."""
    return float(np.sqrt((errors(predicted, true) ** 2).mean()))


def sd(predicted: Float, true: Float) -> float:
    """Return the standard deviation (N - 1) of the error about its own mean, which the paper's SD is taken to be.

    It does not show a bias: a method that is always 20 bpm too high has an SD of 0.
    """
    error = errors(predicted, true)
    return float(error.std(ddof=1)) if len(error) > 1 else float("nan")


def bias(predicted: Float, true: Float) -> float:
    """Return the mean error; positive where rates are read too high."""
    return float(errors(predicted, true).mean())


def mape(predicted: Float, true: Float) -> float:
    """Return the mean absolute error in percent of each true value."""
    error, true = errors(predicted, true), np.asarray(true, dtype=np.float64)
    if not (true > 0).all():
        raise ValueError(f"A share of {true.min():g} is not defined; true values must be positive.")
    return float(100 * (np.abs(error) / true).mean())


def pearson(predicted: Float, true: Float) -> float:
    """Return Pearson's r, -1..1; NaN for fewer than two values, or where one side is constant."""
    errors(predicted, true)
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    return float(_correlation(x, y))


def within(predicted: Float, true: Float, limit_bpm: float = 5.0) -> float:
    """Return the share, 0..1, of errors of at most ``limit_bpm``."""
    return float((np.abs(errors(predicted, true)) <= limit_bpm).mean())


def score_rates(predicted: Float, true: Float, guess_bpm: float) -> dict[str, float | None]:
    """Return MAE, RMSE, Pearson's r and share within 5 bpm of rates (N,), beside the errors of a constant guess.

    A window without a rate (NaN) is not left out: it is scored as the guess in the errors, and as a miss in the share.
    Pearson's r is over the windows with a rate; None where it is not defined.
    """
    known = ~np.isnan(predicted)
    filled = np.where(known, predicted, guess_bpm)
    guess = np.full(len(true), guess_bpm)
    r = pearson(predicted[known], true[known]) if known.any() else float("nan")
    return {
        "n_windows": len(true),
        "n_missing": int((~known).sum()),
        "mae_bpm": mae(filled, true),
        "rmse_bpm": rmse(filled, true),
        "pearson_r": r if np.isfinite(r) else None,
        "within_5_bpm": float(((np.abs(filled - true) <= 5) & known).mean()),
        "chance_mae_bpm": mae(guess, true),
        "chance_rmse_bpm": rmse(guess, true),
    }


@dataclass(frozen=True)
class Agreement:
    """Bias and limits between which 95 % of errors lie if they are normal (Bland & Altman 1986)."""

    bias: float
    low: float
    high: float


def bland_altman(predicted: Float, true: Float) -> Agreement:
    """Return the limits of agreement, bias -+ 1.96 SD; plotted over the mean of both rates, not over the true one."""
    middle, spread = bias(predicted, true), 1.96 * sd(predicted, true)
    return Agreement(middle, middle - spread, middle + spread)


# Waves -----------------------------------------------------------------------------------------------------------


def macc(wave: Float, true: Float, fs: float, max_lag_s: float = 1.0) -> tuple[float, float]:
    """Return the greatest correlation of two waves (T,) over lags of at most ``max_lag_s``, and that lag in s.

    r is signed (a wave upside down does not count as right), and at each lag it is Pearson's over the samples that
    overlap: nothing wraps around. The lag is positive where ``wave`` comes later than ``true``. rPPG-Toolbox takes the
    modulus over all circular shifts instead (``circular_macc``). Waves are filtered by the caller. Any two periodic
    waves of one rate agree at some lag of half a period, so r measures shape and steadiness, not polarity, once a half
    period is shorter than ``max_lag_s``. (NaN, 0) where a wave is constant.
    """
    wave, true = np.asarray(wave, dtype=np.float64), np.asarray(true, dtype=np.float64)
    most = int(max_lag_s * fs)
    if wave.ndim != 1 or wave.shape != true.shape or len(wave) < 2 * most + 2:
        raise ValueError(
            f"waves {wave.shape} and {true.shape} must be (T,) both and longer than twice {max_lag_s:g} s at {fs:g}/s."
        )
    best = (float("nan"), 0.0)
    for lag in sorted(range(-most, most + 1), key=abs):
        x = wave[max(0, lag) : len(wave) + min(0, lag)]
        y = true[max(0, -lag) : len(true) + min(0, -lag)]
        r = _correlation(x, y)
        if np.isfinite(r) and not r <= best[0]:
            best = (float(r), lag / fs)
    return best


def circular_macc(wave: Float, true: Float) -> float:
    """Return rPPG-Toolbox's MACC, the greatest |r| of two waves (T,) over all circular shifts; NaN for a constant."""
    x, y = np.asarray(wave, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"waves {x.shape} and {y.shape} must be (T,) both.")
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    if scale == 0:
        return float("nan")
    products = np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(y).conj(), len(x))
    return float(np.abs(products).max() / scale)


def snr(
    wave: Float,
    fs: float,
    true_hr_bpm: float,
    *,
    band_hz: tuple[float, float] = (0.5, 4.0),
    half_width_hz: tuple[float, float] = (0.1, 0.2),
    window: Callable[[int], Float] = np.hamming,
    n_fft: int | None = None,
) -> float:
    """Return the signal-to-noise ratio in dB of wave (T,) around the TRUE rate (de Haan & Jeanne 2013).

    10 log10 of the power within ``half_width_hz`` of the rate and of its double, over the rest of ``band_hz``. The
    defaults are those of iPhys: a Hamming periodogram on a grid of at most 0.5 bpm. Tools differ in every one of them,
    so an SNR can only be compared under one definition. NaN where ``n_fft`` is so coarse that no line of the spectrum
    lies within ``half_width_hz`` of the rate.
    """
    if not true_hr_bpm > 0:
        raise ValueError(f"true_hr_bpm={true_hr_bpm} must be positive.")
    wave = np.asarray(wave, dtype=np.float64)
    if n_fft is None:
        n_fft = max(len(wave), int(np.ceil(60 * fs / 0.5)))
    power = np.abs(np.fft.rfft((wave - wave.mean()) * window(len(wave)), n_fft)) ** 2
    freqs_hz = np.fft.rfftfreq(n_fft, 1 / fs)
    hr_hz = true_hr_bpm / 60
    signal = (np.abs(freqs_hz - hr_hz) <= half_width_hz[0]) | (np.abs(freqs_hz - 2 * hr_hz) <= half_width_hz[1])
    if not (np.abs(freqs_hz - hr_hz) <= half_width_hz[0]).any():
        return float("nan")
    rest = (freqs_hz >= band_hz[0]) & (freqs_hz <= band_hz[1]) & ~signal
    inside, outside = float(power[signal].sum()), float(power[rest].sum())
    # A trillionth keeps silence and pure tones finite: -120 and 120 dB.
    tiny = 1e-12 * (inside + outside) + 1e-300
    return float(10 * np.log10((inside + tiny) / (outside + tiny)))


def _correlation(x: Float, y: Float) -> float:
    x, y = x - x.mean(), y - y.mean()
    # A constant leaves rounding errors of its mean, which correlate with anything.
    scale_x, scale_y = np.linalg.norm(x), np.linalg.norm(y)
    floor = 1e-12 * np.sqrt(len(x))
    if len(x) < 2 or scale_x <= floor or scale_y <= floor:
        return float("nan")
    return float(np.clip((x @ y) / (scale_x * scale_y), -1.0, 1.0))


# Intervals and tests ---------------------------------------------------------------------------------------------


def bootstrap_interval(
    statistic: Callable[..., float],
    subjects: Sequence[str],
    *values: Float,
    n_draws: int = N_BOOTSTRAP,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of ``statistic(*values)`` from draws of SUBJECTS with replacement, with all their rows.

    Windows of one person are alike, so drawing windows, or dividing by the root of their number, makes intervals far
    too narrow. With fewer than two subjects nothing can be drawn: (NaN, NaN). With few (under about ten) the interval
    is still too narrow; state how many there were.

    Parameters
    ----------
    statistic
        Function of ``values``. Draws for which it is NaN are left out.
    subjects
        Subject of each row, (N,).
    values
        Arrays (N,).
    """
    (interval,) = bootstrap_intervals([statistic], subjects, *values, n_draws=n_draws, seed=seed)
    return interval


def bootstrap_intervals(
    statistics: Sequence[Callable[..., float]],
    subjects: Sequence[str],
    *values: Float,
    n_draws: int = N_BOOTSTRAP,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """Return ``bootstrap_interval`` of several statistics of the same rows, from the same draws."""
    unknown = (float("nan"), float("nan"))
    rows = _rows_of(subjects)
    if len(rows) < 2:
        return [unknown] * len(statistics)
    rng = np.random.default_rng(seed)
    drawn = np.empty((n_draws, len(statistics)))
    for draw in range(n_draws):
        chosen = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        sample = [value[chosen] for value in values]
        drawn[draw] = [statistic(*sample) for statistic in statistics]
    tails = [100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2]
    intervals = []
    for column in drawn.T:
        known = column[np.isfinite(column)]
        low, high = np.percentile(known, tails) if len(known) else unknown
        intervals.append((float(low), float(high)))
    return intervals


def bootstrap_mean_interval(
    subjects: Sequence[str], values: Float, *, n_draws: int = N_BOOTSTRAP, seed: int = 0
) -> tuple[float, float]:
    """Return ``bootstrap_interval`` of the mean of values (N,), a hundred times faster, from sums of each subject."""
    rows = _rows_of(subjects)
    if len(rows) < 2:
        return float("nan"), float("nan")
    sums, sizes = np.array([values[row].sum() for row in rows]), np.array([len(row) for row in rows], dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(0, len(rows), (n_draws, len(rows)))
    means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.percentile(means, [100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Comparison of the errors of two methods on the same people."""

    n_subjects: int
    difference_bpm: float
    """Mean over subjects of the first's mean absolute error minus the second's; negative: the first is better."""
    low_bpm: float
    high_bpm: float
    """95 % interval of the difference, by drawing subjects."""
    p: float
    """Wilcoxon's signed-rank test of the subjects' differences, two-sided. NaN where no subject differs."""


def paired_test(
    subjects: Sequence[str], first: Float, second: Float, *, n_draws: int = N_BOOTSTRAP, seed: int = 0
) -> Paired:
    """Compare absolute errors ``first`` and ``second`` (N,) of the same rows, subject by subject.

    Wilcoxon's signed-rank test (two-sided, exact without ties) on the subjects' mean errors: a subject counts once
    however many windows it has, and one outlier does not decide. Under six subjects p cannot fall below 0.05.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or len(subjects) != len(first) or not len(first):
        raise ValueError(f"{len(subjects)} subjects, errors {first.shape} and {second.shape}: give one row to each.")
    rows = _rows_of(subjects)
    # Rounded, so that subjects who are as much better as worse are a tie and not two ranks by the last digit.
    differences = np.round([first[own].mean() - second[own].mean() for own in rows], 9)
    names = [str(k) for k in range(len(rows))]
    low, high = bootstrap_interval(lambda x: float(x.mean()), names, differences, n_draws=n_draws, seed=seed)
    p = float("nan")
    if differences.any():
        # Not at the top: scipy.stats takes half a second to import.
        from scipy.stats import wilcoxon

        outcome: Any = wilcoxon(differences)
        p = float(outcome.pvalue)
    return Paired(len(rows), float(differences.mean()), low, high, p)


def _rows_of(subjects: Sequence[str]) -> list[NDArray[np.intp]]:
    """Return the row numbers of each subject, in order of name, so that the order of rows decides nothing."""
    names, place = np.unique(np.asarray(subjects, dtype=object).astype(str), return_inverse=True)
    return [np.flatnonzero(place == k) for k in range(len(names))]
