"""Stored waves scored by named rules, with no model and no video.

``PRESETS`` is the visible table: how a wave becomes a rate, what counts as the truth, and how SNR and MACC are defined
in a publication or a tool. One stored run can be scored by all of them; that the same waves give other figures is the
point. ``reference`` is ours and the only one whose rate is not rounded to a coarse grid.

A preset scores the windows that the protocol laid out. Several are meant for whole videos, and say so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from autohr import metrics
from autohr.errors import AutoHRError, SignalTooShort, UnknownName
from autohr.evaluate.results import MethodInfo, Results, WindowResult
from autohr.metrics import Paired, paired_test
from autohr.signals.filters import bandpass, detrend
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float

Truth = Literal["device", "wave"]
"""device: mean of the reference's rate over the window (of its wave where the device gave none). wave: the preset's own
rate of the reference wave."""

LEAST_RELIABLE = 0.5
"""Share of a recording's windows that must be reliable for the recording to be called so, as in ``measure``."""

WITHIN_BPM = 5.0


@dataclass(frozen=True)
class Preset:
    """One way to score."""

    name: str
    title: str
    source: str
    sure: str
    """What its source does not say, and what we took instead."""
    rate: Callable[[Float, float], float | None]
    """(wave (T,), fps) -> bpm; None where the wave shows no rate."""
    truth: Truth
    snr: Callable[[Float, float, float], float]
    """(wave, fps, true bpm) -> dB."""
    macc: Callable[[Float, Float, float], float]
    """(wave, true wave, fps) -> correlation."""
    unit: Literal["window", "recording"] | None = None
    """What a reading is; None leaves it to the protocol."""
    whole: bool = False
    """Meant for windows that are whole videos."""


@dataclass(frozen=True)
class Unit:
    """One reading: a window, or a recording as the mean of its windows."""

    recording_id: str
    subject: str
    """``dataset/subject``: the person, unique over datasets."""
    start_s: float
    end_s: float
    groups: Mapping[str, str]
    hr_bpm: float | None
    true_hr_bpm: float | None
    reliable: bool
    snr_db: float | None
    macc: float | None
    n_windows: int
    n_scored: int
    why: str | None
    """Why it is not scored."""

    @property
    def scored(self) -> bool:
        return self.hr_bpm is not None and self.true_hr_bpm is not None

    @property
    def error_bpm(self) -> float:
        """Estimate minus truth.

        Raises:
            ValueError: it is not scored.
        """
        if self.hr_bpm is None or self.true_hr_bpm is None:
            raise ValueError(f"{self.recording_id} at {self.start_s:g} s is not scored: {self.why}.")
        return self.hr_bpm - self.true_hr_bpm


@dataclass(frozen=True)
class Figures:
    """One row of a table. None where the readings do not tell."""

    n: int
    """All readings that the protocol laid out."""
    n_scored: int
    """Those with a rate and a truth; all figures but coverage are over these."""
    n_reliable: int
    n_subjects: int
    """Of the scored ones."""
    sd_bpm: float | None = None
    mae_bpm: float | None = None
    rmse_bpm: float | None = None
    pearson_r: float | None = None
    mape_pct: float | None = None
    bias_bpm: float | None = None
    loa_low_bpm: float | None = None
    loa_high_bpm: float | None = None
    """Bland-Altman limits of agreement."""
    within_5: float | None = None
    """Share, 0..1, of scored readings within 5 bpm of the truth."""
    snr_db: float | None = None
    macc: float | None = None
    coverage: float | None = None
    """Share, 0..1, of ALL readings that were scored and called reliable: what was refused or lost counts against it."""
    reliable_mae_bpm: float | None = None
    reliable_within_5: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Field -> 95 % interval by drawing subjects; absent where there are fewer than two."""


@dataclass(frozen=True)
class Scores:
    """One method under one protocol and one preset."""

    method: MethodInfo
    protocol: str
    preset: str
    truth: Truth
    unit: Literal["window", "recording"]
    rate_only: bool
    """The method gives rates and no wave: the preset's own rate, SNR and MACC are not its; tables mark it."""
    overall: Figures
    groups: Mapping[str, Mapping[str, Figures]]
    """Group -> its value -> figures: {"scenario": {"talking": ...}}."""
    units: tuple[Unit, ...]
    counts: Mapping[str, int]
    """Recordings by state, windows, and scored windows (``Results.counts``)."""
    reasons: Mapping[str, int]
    """Why windows are not scored -> how many."""
    notes: tuple[str, ...] = ()

    @property
    def scored(self) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.scored)


def score(
    results: Results,
    preset: str | Preset = "reference",
    *,
    truth: Truth | None = None,
    n_draws: int = metrics.N_BOOTSTRAP,
    seed: int = 0,
) -> Scores:
    """Score stored results.

    Args:
        preset: a name of ``PRESETS``, or one of your own.
        truth: in place of the preset's.
        n_draws: of the bootstrap over subjects; 0 leaves intervals out.

    Raises:
        UnknownName: no such preset.
    """
    rule = find_preset(preset)
    truth = truth or rule.truth
    notes = []
    readings = [_read(window, rule, truth) for window in results.windows]
    unit = rule.unit or ("recording" if results.protocol.get("unit") == "recording" else "window")
    if unit == "recording":
        by_recording: dict[str, list[Unit]] = {}
        for reading in readings:
            by_recording.setdefault(reading.recording_id, []).append(reading)
        readings = [_join(parts) for parts in by_recording.values()]
        short = sum(reading.scored and reading.n_scored < reading.n_windows for reading in readings)
        if short:
            notes.append(f"{short} recording(s) are means of fewer windows than the protocol laid out.")
    if rule.whole and results.protocol.get("window_s") is not None:
        notes.append(f"{rule.name} is meant for whole videos; these windows are of {results.protocol['window_s']:g} s.")
    if results.rate_only:
        notes.append(f"{results.method.label} gives rates and no wave: its rates are scored as they are.")
    return Scores(
        method=results.method,
        protocol=str(results.protocol.get("name", "")),
        preset=rule.name,
        truth=truth,
        unit=unit,
        rate_only=results.rate_only,
        overall=_figures(readings, n_draws, seed),
        groups=_by_group(readings, n_draws, seed),
        units=tuple(readings),
        counts=results.counts,
        reasons=dict(Counter(r.why or "not said" for r in readings if not r.scored).most_common()),
        notes=tuple(notes),
    )


def find_preset(preset: str | Preset) -> Preset:
    """Raises UnknownName where ``PRESETS`` has none of that name."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    return PRESETS[preset]


def compare(scores: Scores, baseline: Scores, *, n_draws: int = metrics.N_BOOTSTRAP) -> Paired | None:
    """``metrics.paired_test`` of two methods on the readings that both scored; None where there is none.

    Raises:
        AutoHRError: scores of different protocols, presets or truths.
    """
    for name in ("protocol", "preset", "truth", "unit"):
        ours, theirs = getattr(scores, name), getattr(baseline, name)
        if ours != theirs:
            raise AutoHRError(
                f"{scores.method.label} was scored with {name} {ours!r}, {baseline.method.label} with {theirs!r}; "
                "score both alike to compare them."
            )
    theirs = {(unit.recording_id, unit.start_s): unit for unit in baseline.scored}
    both = [
        (unit, theirs[(unit.recording_id, unit.start_s)])
        for unit in scores.scored
        if (unit.recording_id, unit.start_s) in theirs
    ]
    if not both:
        return None
    first = np.array([abs(unit.error_bpm) for unit, _ in both])
    second = np.array([abs(unit.error_bpm) for _, unit in both])
    return paired_test([unit.subject for unit, _ in both], first, second, n_draws=n_draws)


def _read(window: WindowResult, rule: Preset, truth: Truth) -> Unit:
    """One window by the preset's rules."""
    why = window.why
    hr_bpm, true_hr_bpm = window.hr_bpm, window.true_hr_bpm
    snr_db: float | None = None
    macc: float | None = None
    try:
        if window.bvp is not None:
            hr_bpm = rule.rate(window.bvp, window.fps)
            if hr_bpm is None:
                why = why or "the wave shows no rate"
        elif hr_bpm is None:
            why = why or "no rate"
        if truth == "wave":
            true_hr_bpm = None if window.true_bvp is None else rule.rate(window.true_bvp, window.fps)
        if true_hr_bpm is None:
            why = "no reference wave" if truth == "wave" and window.true_bvp is None and hr_bpm is not None else why
            why = why or "no reference rate"
        if window.bvp is not None and true_hr_bpm is not None:
            snr_db = _finite(rule.snr(window.bvp, window.fps, true_hr_bpm))
            if window.true_bvp is not None:
                macc = _finite(rule.macc(window.bvp, window.true_bvp, window.fps))
    except (SignalTooShort, ValueError) as error:
        hr_bpm, why = None, f"{rule.name} cannot read this window: {error}"
    scored = hr_bpm is not None and true_hr_bpm is not None
    return Unit(
        recording_id=window.recording_id,
        subject=f"{window.dataset}/{window.subject}",
        start_s=window.start_s,
        end_s=window.end_s,
        groups=_groups(window),
        hr_bpm=hr_bpm,
        true_hr_bpm=true_hr_bpm,
        reliable=window.reliable and scored,
        snr_db=snr_db if scored else None,
        macc=macc if scored else None,
        n_windows=1,
        n_scored=int(scored),
        why=None if scored else why,
    )


def _groups(window: WindowResult) -> dict[str, str]:
    groups = {"dataset": window.dataset, **window.groups}
    return groups if window.fold is None else groups | {"fold": str(window.fold)}


def _join(parts: Sequence[Unit]) -> Unit:
    """A recording: the mean of its windows' rates against the mean of its windows' truths."""
    rates = [part.hr_bpm for part in parts if part.hr_bpm is not None]
    truths = [part.true_hr_bpm for part in parts if part.true_hr_bpm is not None]
    reasons = Counter(part.why for part in parts if part.why is not None).most_common(1)
    scored = bool(rates and truths)
    return Unit(
        recording_id=parts[0].recording_id,
        subject=parts[0].subject,
        start_s=min(part.start_s for part in parts),
        end_s=max(part.end_s for part in parts),
        groups=parts[0].groups,
        hr_bpm=float(np.mean(rates)) if rates else None,
        true_hr_bpm=float(np.mean(truths)) if truths else None,
        reliable=scored and sum(part.reliable for part in parts) >= LEAST_RELIABLE * len(parts),
        snr_db=_mean([part.snr_db for part in parts]),
        macc=_mean([part.macc for part in parts]),
        n_windows=len(parts),
        n_scored=sum(part.scored for part in parts),
        why=None if scored else (reasons[0][0] if reasons else "not said"),
    )


def _by_group(readings: Sequence[Unit], n_draws: int, seed: int) -> dict[str, dict[str, Figures]]:
    """Figures of each value of each group; a group with one value for all says nothing and is left out."""
    names = sorted({name for reading in readings for name in reading.groups})
    table: dict[str, dict[str, Figures]] = {}
    for name in names:
        values: dict[str, list[Unit]] = {}
        for reading in readings:
            values.setdefault(reading.groups.get(name, "not said"), []).append(reading)
        if len(values) > 1:
            table[name] = {value: _group(values[value], n_draws, seed) for value in sorted(values)}
    return table


def _group(readings: Sequence[Unit], n_draws: int, seed: int) -> Figures:
    """Of one value of a group, with an interval of the mean error alone: tables show no other, and there are many."""
    figures = _figures(readings, 0, seed)
    scored = [reading for reading in readings if reading.scored]
    if not (n_draws and scored):
        return figures
    errors = np.array([abs(reading.error_bpm) for reading in scored])
    low_high = metrics.bootstrap_mean_interval([r.subject for r in scored], errors, n_draws=n_draws, seed=seed)
    return replace(figures, intervals={"mae_bpm": low_high} if np.isfinite(low_high).all() else {})


_RATE_FIGURES: dict[str, Callable[[Float, Float], float]] = {
    "sd_bpm": metrics.sd,
    "mae_bpm": metrics.mae,
    "rmse_bpm": metrics.rmse,
    "pearson_r": metrics.pearson,
    "mape_pct": metrics.mape,
    "bias_bpm": metrics.bias,
    "within_5": partial(metrics.within, limit_bpm=WITHIN_BPM),
}


def _figures(readings: Sequence[Unit], n_draws: int, seed: int) -> Figures:
    scored = [reading for reading in readings if reading.scored]
    reliable = [reading for reading in scored if reading.reliable]
    counted = Figures(
        n=len(readings),
        n_scored=len(scored),
        n_reliable=len(reliable),
        n_subjects=len({reading.subject for reading in scored}),
        coverage=len(reliable) / len(readings) if readings else None,
    )
    if not scored:
        return counted
    predicted, true = _pairs(scored)
    said = {name: _finite(figure(predicted, true)) for name, figure in _RATE_FIGURES.items()}
    limits = metrics.bland_altman(predicted, true)
    intervals: dict[str, tuple[float, float]] = {}
    if n_draws:
        found = metrics.bootstrap_intervals(
            list(_RATE_FIGURES.values()), [r.subject for r in scored], predicted, true, n_draws=n_draws, seed=seed
        )
        intervals = {
            name: interval for name, interval in zip(_RATE_FIGURES, found, strict=True) if np.isfinite(interval).all()
        }
    sure = _pairs(reliable) if reliable else None
    return Figures(
        n=counted.n,
        n_scored=counted.n_scored,
        n_reliable=counted.n_reliable,
        n_subjects=counted.n_subjects,
        coverage=counted.coverage,
        loa_low_bpm=_finite(limits.low),
        loa_high_bpm=_finite(limits.high),
        snr_db=_mean([reading.snr_db for reading in scored]),
        macc=_mean([reading.macc for reading in scored]),
        reliable_mae_bpm=None if sure is None else metrics.mae(*sure),
        reliable_within_5=None if sure is None else metrics.within(*sure, WITHIN_BPM),
        intervals=intervals,
        **said,
    )


def _pairs(scored: Sequence[Unit]) -> tuple[Float, Float]:
    predicted = np.array([reading.hr_bpm for reading in scored], dtype=np.float64)
    return predicted, np.array([reading.true_hr_bpm for reading in scored], dtype=np.float64)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


# ---------------------------------------------------------------------------------------------------------------------
# reference


def _reference_rate(wave: Float, fps: float) -> float | None:
    return estimate_heart_rate(wave, fps).hr_bpm


def _lagged_macc(wave: Float, true: Float, fps: float) -> float:
    return metrics.macc(bandpass(wave, fps), bandpass(true, fps), fps)[0]


# ---------------------------------------------------------------------------------------------------------------------
# rPPG-Toolbox

TOOLBOX_LAMBDA = 100.0
"""Of its smoothness priors, whatever the frame rate."""


def _toolbox_filter(wave: Float, fps: float, band_hz: tuple[float, float]) -> Float:
    """Detrended by smoothness priors, then a zero-phase Butterworth band-pass of order 1."""
    from scipy.signal import butter, filtfilt

    _refuse_slow(fps, band_hz[1])
    cutoff_hz = fps / np.pi * math.asin(0.5 * ((1 + math.sqrt(2.0)) / TOOLBOX_LAMBDA**2) ** 0.25)
    b, a = butter(1, band_hz, btype="bandpass", fs=fps)
    filtered: Float = filtfilt(b, a, detrend(wave, fps, cutoff_hz))
    return filtered


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _toolbox_rate(wave: Float, fps: float, band_hz: tuple[float, float]) -> float | None:
    """Highest line of a rectangular periodogram padded to the next power of two: a grid of 60 fps / n_fft bpm."""
    filtered = _toolbox_filter(wave, fps, band_hz)
    n_fft = _next_power_of_2(len(filtered))
    power = np.abs(np.fft.rfft(filtered, n_fft)) ** 2
    freqs_hz: Float = np.asarray(np.fft.rfftfreq(n_fft, 1 / fps), dtype=np.float64)
    return _highest(freqs_hz, power, *band_hz)


def _toolbox_snr(wave: Float, fps: float, true_hr_bpm: float, band_hz: tuple[float, float], decade_db: float) -> float:
    """6 bpm on each side of the rate and of its double, over the rest of the band."""
    filtered = _toolbox_filter(wave, fps, band_hz)
    ten_logs = metrics.snr(
        filtered,
        fps,
        true_hr_bpm,
        band_hz=band_hz,
        half_width_hz=(0.1, 0.1),
        window=np.ones,
        n_fft=_next_power_of_2(len(filtered)),
    )
    return ten_logs * decade_db / 10


def _toolbox_macc(wave: Float, true: Float, fps: float, band_hz: tuple[float, float]) -> float:
    return metrics.circular_macc(_toolbox_filter(wave, fps, band_hz), _toolbox_filter(true, fps, band_hz))


def _toolbox(name: str, title: str, band_hz: tuple[float, float], decade_db: float, source: str, sure: str) -> Preset:
    return Preset(
        name=name,
        title=title,
        source=source,
        sure=sure,
        rate=partial(_toolbox_rate, band_hz=band_hz),
        truth="wave",
        snr=partial(_toolbox_snr, band_hz=band_hz, decade_db=decade_db),
        macc=partial(_toolbox_macc, band_hz=band_hz),
        unit="window",
        whole=True,
    )


# ---------------------------------------------------------------------------------------------------------------------
# PhysFormer, and the paper, which is of the same hand

PHYSFORMER_BAND_HZ = (0.8, 3.0)
PHYSFORMER_SEARCH_HZ = (0.7, 4.0)


def _physformer_filter(wave: Float, fps: float) -> Float:
    """MATLAB's filtfilt with fir1(round(N / 10), [0.8 3] Hz), a Hamming window, then zero mean and unit SD."""
    from scipy.signal import filtfilt, firwin

    _refuse_slow(fps, PHYSFORMER_SEARCH_HZ[1])
    order = math.floor(len(wave) / 10 + 0.5)
    taps = firwin(order + 1, PHYSFORMER_BAND_HZ, pass_zero=False, window="hamming", fs=fps)
    filtered = filtfilt(taps, [1.0], wave, padlen=3 * order)
    sd = float(filtered.std(ddof=1))
    scaled: Float = (filtered - filtered.mean()) / sd if sd > 0 else filtered
    return scaled


def _pwelch_rate(wave: Float, fps: float) -> float | None:
    """MATLAB's pwelch(wave, [], [], 2^13, fps): eight Hamming pieces that overlap by half; its peak in 0.7..4 Hz."""
    from scipy.signal import welch

    length = int(len(wave) / 4.5)
    if length < 4:
        raise SignalTooShort(f"{len(wave)} samples cannot be cut into eight pieces.")
    window: Any = np.hamming(length)
    freqs_hz, power = welch(wave, fps, window, noverlap=length // 2, nfft=max(2**13, length), detrend=False)
    low_hz, high_hz = PHYSFORMER_SEARCH_HZ
    return _highest(freqs_hz, power, np.nextafter(low_hz, high_hz), np.nextafter(high_hz, low_hz))


def _physformer_rate(wave: Float, fps: float, n_parts: int) -> float | None:
    """Mean of the rates of ``n_parts`` equal parts of the filtered wave."""
    filtered = _physformer_filter(wave, fps)
    length = len(filtered) // n_parts
    rates = []
    for k in range(n_parts):
        # Counted as the source does: each later part begins with the last sample of the one before.
        part = filtered[max(0, k * length - 1) : (k + 1) * length if k < n_parts - 1 else None]
        rates.append(_pwelch_rate(part, fps))
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if len(known) == n_parts else None


# ---------------------------------------------------------------------------------------------------------------------
# PhysBench


def _physbench_rate(wave: Float, fps: float) -> float | None:
    """A causal Butterworth of order 3, 0.5 to 3 Hz, then Welch on a grid of fps^2 / 1e5 Hz; its peak in 30..180 bpm."""
    from scipy.signal import butter, lfilter, welch

    _refuse_slow(fps, 3.0)
    b, a = butter(3, (0.5, 3.0), btype="bandpass", fs=fps)
    filtered = lfilter(b, a, wave)
    n_segment = min(len(filtered) - 1, 256)
    freqs_hz, power = welch(filtered, fps, nperseg=n_segment, nfft=max(n_segment, int(1e5 / fps)))
    return _highest(freqs_hz, power, np.nextafter(0.5, 1), np.nextafter(3.0, 1))


def _highest(freqs_hz: Float, power: Float, low_hz: float, high_hz: float) -> float | None:
    """60 times the frequency of the highest power within low_hz..high_hz, ends included; None in silence."""
    inside = np.flatnonzero((freqs_hz >= low_hz) & (freqs_hz <= high_hz))
    if not len(inside) or not power[inside].max() > 0:
        return None
    return float(60 * freqs_hz[inside[np.argmax(power[inside])]])


def _refuse_slow(fps: float, high_hz: float) -> None:
    if fps <= 2 * high_hz:
        raise ValueError(f"{fps:.1f} frames per second do not reach its upper edge of {high_hz:g} Hz.")


# ---------------------------------------------------------------------------------------------------------------------

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="reference",
            title="THE estimator (grid of 0.1 bpm, refined) against the device's rate",
            source="ours: signals/rate.py; SNR of iPhys; MACC within 1 s",
            sure="ours",
            rate=_reference_rate,
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
        ),
        Preset(
            name="paper",
            title="video = mean of the rates of its 10 s clips, against the device's mean; SD, MAE, RMSE, r",
            source="Yu et al. 2020 (AutoHR), III A and appendix B",
            sure="mean of three clips: the paper. Inferred: how a clip's wave becomes a rate (as in PhysFormer, by the "
            "same author, on each clip); SD with N - 1; SNR and MACC are not in the paper and ours",
            rate=partial(_physformer_rate, n_parts=1),
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="recording",
        ),
        _toolbox(
            "toolbox-2023",
            "rPPG-Toolbox as in its NeurIPS 2023 paper: 0.75 to 2.5 Hz, FFT on a coarse grid, label likewise",
            (0.75, 2.5),
            20.0,
            "rPPG-Toolbox evaluation/post_process.py before PR #288 (EVALUATION 4a)",
            "read in the source: band of the paper, 20 log10 of a ratio of powers in the SNR (twice the decibels). "
            "Order 1 of the filter: one stored state has 2. MACC came later and is that of toolbox-2024. No wave here "
            "is a difference, so none is summed up",
        ),
        _toolbox(
            "toolbox-2024",
            "rPPG-Toolbox after December 2024: 0.6 to 3.3 Hz, FFT on a coarse grid, label likewise, SNR corrected",
            (0.6, 3.3),
            10.0,
            "rPPG-Toolbox evaluation/post_process.py after PR #344 (EVALUATION 4a)",
            "read in the source. Its HR by peaks in place of FFT is not offered. No wave here is a difference, so none "
            "is summed up",
        ),
        Preset(
            name="physformer",
            title="three parts of the whole video, pwelch each, mean against the device's mean",
            source="PhysFormer Inference_HRevaluation.m and bpfilter64.m (EVALUATION 4b)",
            sure="read in the source; SNR and MACC are not in it and ours",
            rate=partial(_physformer_rate, n_parts=3),
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="recording",
            whole=True,
        ),
        Preset(
            name="physbench",
            title="causal band-pass 0.5 to 3 Hz, Welch, 30 to 180 bpm, label likewise",
            source="PhysBench (EVALUATION 4e)",
            sure="band, causal filter, grid and search range: EVALUATION 4e. Inferred: Butterworth of order 3 (as in "
            "open-rppg, of the same author), Welch pieces of at most 256 samples (as in code that copies it), the "
            "label through the same path; SNR and MACC are ours",
            rate=_physbench_rate,
            truth="wave",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="window",
        ),
    )
}
