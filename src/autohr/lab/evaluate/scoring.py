"""Scores of stored pulse waves under a preset, with no model and no video.

A preset (``evaluate.presets``) scores the windows of the protocol that the results were made under. Three things are
reported with the scores, since no preset reads every rate right: ``Preset.limits``, the known faults of the rule; a
note of ``check_rule``, which reads simulated waves of the same length and frame rate; and ``Scores.oracle``, the score
of the reference's own wave, whose error is that of the rule and of the reference themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autohr.errors import AutoHRError, SignalTooShort, WindowsTooShort
from autohr.lab import metrics
from autohr.lab.evaluate.presets import MAX_CHECKED_S, PRESETS, Preset, Truth, check_rule, find_preset
from autohr.lab.evaluate.results import MethodInfo, Results, WindowResult
from autohr.lab.metrics import Paired, paired_test
from autohr.types import Float

if TYPE_CHECKING:
    from autohr.lab.evaluate.protocols import Protocol

LEAST_RELIABLE = 0.5
"""Share of a recording's windows that must be reliable for the recording to be called so, as in ``measure``."""

WITHIN_BPM = 5.0
"""Largest error of a reading that ``Figures.within_5`` counts."""

LENGTH_SLACK_S = 0.5
"""Seconds that a window may lack of ``Preset.least_s``. Chosen by us: windows are cut to whole frames and moved by up
to half a second to fit what was kept of a recording."""

ORACLE = MethodInfo("oracle", "oracle", "oracle (the reference's own wave)")
"""Method of the oracle's scores."""


@dataclass(frozen=True)
class Unit:
    """Reading of one window, or of one recording as the mean of its windows."""

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
    """Reason for which it is not scored."""

    @property
    def scored(self) -> bool:
        """True where there is a rate and a truth."""
        return self.hr_bpm is not None and self.true_hr_bpm is not None

    @property
    def error_bpm(self) -> float:
        """Estimate minus truth; ValueError where the unit is not scored."""
        if self.hr_bpm is None or self.true_hr_bpm is None:
            raise ValueError(f"{self.recording_id} at {self.start_s:g} s is not scored: {self.why}.")
        return self.hr_bpm - self.true_hr_bpm


@dataclass(frozen=True)
class Figures:
    """One row of a table. None where the readings do not determine a figure."""

    n: int
    """Number of readings that the protocol laid out."""
    n_scored: int
    """Number with a rate and a truth; all figures but coverage are over these."""
    n_reliable: int
    n_subjects: int
    """Number of subjects of the scored readings."""
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
    """True for a method that gives rates and no wave: the preset's rate, SNR and MACC are not its; tables mark it."""
    overall: Figures
    groups: Mapping[str, Mapping[str, Figures]]
    """Group -> its value -> figures: {"scenario": {"talking": ...}}."""
    units: tuple[Unit, ...]
    counts: Mapping[str, int]
    """Recordings by state, windows, and scored windows (``Results.counts``)."""
    reasons: Mapping[str, int]
    """Reason for which windows are not scored -> number of windows."""
    notes: tuple[str, ...] = ()
    oracle: Scores | None = None
    """Scores of the reference's own wave under the same preset, always against the device's rate: against its own
    reading it would be right by definition. None in the oracle's scores themselves."""

    @property
    def scored(self) -> tuple[Unit, ...]:
        """Units with a rate and a truth."""
        return tuple(unit for unit in self.units if unit.scored)


def score(
    results: Results,
    preset: str | Preset = "reference",
    *,
    truth: Truth | None = None,
    n_draws: int = metrics.N_BOOTSTRAP,
    seed: int = 0,
) -> Scores:
    """Score stored results by a preset, a name of ``PRESETS`` or one of your own.

    A window that is shorter than the preset's ``least_s`` is not scored, and says so (``check_windows``). ``truth`` is
    in place of the preset's. Intervals are of ``n_draws`` of subjects, 0 leaves them out; the oracle never has any.
    """
    rule = find_preset(preset)
    truth = truth or rule.truth
    scores = _score(results, rule, truth, n_draws, seed)
    known = [_oracle_window(window) for window in results.windows]
    oracle = _score(replace(results, method=ORACLE, windows=tuple(known)), rule, "device", 0, seed)
    groups = {
        name: {value: _without_reliable(figures) for value, figures in values.items()}
        for name, values in oracle.groups.items()
    }
    oracle = replace(oracle, overall=_without_reliable(oracle.overall), groups=groups, notes=())
    return replace(scores, notes=(*scores.notes, *_rule_notes(results, rule)), oracle=oracle)


def _without_reliable(figures: Figures) -> Figures:
    """Return the figures without those of what a method calls reliable: a reference makes no such call."""
    return replace(figures, n_reliable=0, coverage=None, reliable_mae_bpm=None, reliable_within_5=None)


def _score(results: Results, rule: Preset, truth: Truth, n_draws: int, seed: int) -> Scores:
    """Return the scores of one method, without an oracle."""
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
        reasons=dict(Counter(r.why or "not stated" for r in readings if not r.scored).most_common()),
        notes=tuple(notes),
    )


def _oracle_window(window: WindowResult) -> WindowResult:
    """Return the window with the reference's wave in place of the method's."""
    why = None if window.true_bvp is not None else "no reference wave"
    return replace(window, bvp=window.true_bvp, hr_bpm=None, reliable=False, why=why)


def check_windows(results: Results, preset: str | Preset) -> None:
    """Check that a preset can score results at all, before a table is made of them.

    Raises WindowsTooShort where not one of the windows whose wave would be read is as long as the preset needs.
    """
    rule = find_preset(preset)
    lasts_s = [w.duration_s for w in results.windows if _reads_wave(w, rule.truth)]
    if not lasts_s or max(lasts_s) >= rule.least_s - LENGTH_SLACK_S:
        return
    # Not at the top: the protocols bring in the data sets and the methods, and no stored wave needs them.
    from autohr.lab.evaluate.protocols import PROTOCOLS

    presets = [one.name for one in PRESETS.values() if max(lasts_s) >= one.least_s - LENGTH_SLACK_S]
    protocols = [
        one.name
        for one in PROTOCOLS.values()
        if not one.datasets and (one.window_s is None or one.window_s >= rule.least_s)
    ]
    raise WindowsTooShort(
        f"Scoring {rule.name} needs windows of {rule.least_s:g} s or more; the longest of {results.method.label} has "
        f"{max(lasts_s):.1f} s. Score these with {_in_words(presets)}, or evaluate recordings that last as "
        f"long with protocol {_in_words(protocols)}."
    )


def check_protocol(protocol: Protocol, preset: str | Preset) -> None:
    """Check that a preset can score what a protocol gives, before anything is evaluated.

    Raises WindowsTooShort where the protocol's windows are shorter than the preset needs.
    """
    rule = find_preset(preset)
    if protocol.window_s is not None and protocol.window_s < rule.least_s - LENGTH_SLACK_S:
        raise WindowsTooShort(
            f"Scoring {rule.name} needs windows of {rule.least_s:g} s or more; protocol {protocol.name} has "
            f"{protocol.window_s:g} s. Score by {protocol.preset}, which it is meant for, or choose a protocol of "
            "whole videos, such as reference-whole."
        )


def _in_words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _reads_wave(window: WindowResult, truth: Truth) -> bool:
    return window.bvp is not None or (truth == "wave" and window.true_bvp is not None)


def _rule_notes(results: Results, rule: Preset) -> list[str]:
    """Return the note of ``check_rule`` on windows of the most usual length and frame rate of these results."""
    lasts = [(w.duration_s, w.fps) for w in results.windows if w.bvp is not None or w.true_bvp is not None]
    lasts = [(seconds, fps) for seconds, fps in lasts if seconds >= rule.least_s - LENGTH_SLACK_S and fps > 0]
    if not lasts:
        return []
    seconds, fps = (float(np.median([one[k] for one in lasts])) for k in (0, 1))
    return [check_rule(rule, round(min(seconds, MAX_CHECKED_S), 1), round(fps, 1))]


def compare(scores: Scores, baseline: Scores) -> Paired | None:
    """Return ``metrics.paired_test`` of two methods on the readings that both scored; None where there is none.

    Raises AutoHRError for scores of different protocols, presets or truths.
    """
    for name in ("protocol", "preset", "truth", "unit"):
        if getattr(scores, name) != getattr(baseline, name):
            raise AutoHRError(
                f"{scores.method.label} was scored with {name} {getattr(scores, name)!r}, {baseline.method.label} "
                f"with {getattr(baseline, name)!r}; score both alike to compare them."
            )
    theirs = {(unit.recording_id, unit.start_s): unit for unit in baseline.scored}
    keyed = ((unit, (unit.recording_id, unit.start_s)) for unit in scores.scored)
    both = [(unit, theirs[key]) for unit, key in keyed if key in theirs]
    if not both:
        return None
    first = np.array([abs(unit.error_bpm) for unit, _ in both])
    second = np.array([abs(unit.error_bpm) for _, unit in both])
    return paired_test([unit.subject for unit, _ in both], first, second)


def _read(window: WindowResult, rule: Preset, truth: Truth) -> Unit:
    """Return the reading of one window by the preset's rule."""
    why = window.why
    if _reads_wave(window, truth) and window.duration_s < rule.least_s - LENGTH_SLACK_S:
        why = f"shorter than the {rule.least_s:g} s that scoring {rule.name} needs"
        window = replace(window, bvp=None, hr_bpm=None, true_bvp=None, true_hr_bpm=None)
    hr_bpm, true_hr_bpm = window.hr_bpm, window.true_hr_bpm
    snr_db: float | None = None
    macc: float | None = None
    try:
        if window.bvp is not None:
            hr_bpm = None if _is_constant(window.bvp) else rule.rate(window.bvp, window.fps)
            if hr_bpm is None:
                why = why or "the wave shows no rate"
        elif hr_bpm is None:
            why = why or "no rate"
        if truth == "wave":
            flat = window.true_bvp is None or _is_constant(window.true_bvp)
            true_hr_bpm = None if flat or window.true_bvp is None else rule.rate(window.true_bvp, window.fps)
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


def _is_constant(wave: Float) -> bool:
    """Return True for a wave (T,) that varies by no more than the rounding of its values.

    A filter turns that rounding into a wave of its own, which would be read as a rate.
    """
    return bool(np.ptp(wave) <= 1e-9 * max(float(np.abs(wave).max()), 1e-300)) if len(wave) else True


def _groups(window: WindowResult) -> dict[str, str]:
    groups = {"dataset": window.dataset, **window.groups}
    return groups if window.fold is None else groups | {"fold": str(window.fold)}


def _join(parts: Sequence[Unit]) -> Unit:
    """Return a recording's reading: the mean of its windows' rates against the mean of its windows' truths."""
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
        why=None if scored else (reasons[0][0] if reasons else "not stated"),
    )


def _by_group(readings: Sequence[Unit], n_draws: int, seed: int) -> dict[str, dict[str, Figures]]:
    """Return the figures of each value of each group, but for groups with one value for all."""
    names = sorted({name for reading in readings for name in reading.groups})
    table: dict[str, dict[str, Figures]] = {}
    for name in names:
        values: dict[str, list[Unit]] = {}
        for reading in readings:
            values.setdefault(reading.groups.get(name, "not stated"), []).append(reading)
        if len(values) > 1:
            table[name] = {value: _group(values[value], n_draws, seed) for value in sorted(values)}
    return table


def _group(readings: Sequence[Unit], n_draws: int, seed: int) -> Figures:
    """Return the figures of one value of a group, with an interval of the mean error alone, as tables show it."""
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
    limits = metrics.bland_altman(predicted, true)
    intervals: dict[str, tuple[float, float]] = {}
    if n_draws:
        found = metrics.bootstrap_intervals(
            list(_RATE_FIGURES.values()), [r.subject for r in scored], predicted, true, n_draws=n_draws, seed=seed
        )
        intervals = {
            name: interval for name, interval in zip(_RATE_FIGURES, found, strict=True) if np.isfinite(interval).all()
        }
    rates: dict[str, Any] = {name: _finite(function(predicted, true)) for name, function in _RATE_FIGURES.items()}
    of_reliable = _pairs(reliable) if reliable else None
    return replace(
        counted,
        loa_low_bpm=_finite(limits.low),
        loa_high_bpm=_finite(limits.high),
        snr_db=_mean([reading.snr_db for reading in scored]),
        macc=_mean([reading.macc for reading in scored]),
        reliable_mae_bpm=None if of_reliable is None else metrics.mae(*of_reliable),
        reliable_within_5=None if of_reliable is None else metrics.within(*of_reliable, WITHIN_BPM),
        intervals=intervals,
        **rates,
    )


def _pairs(scored: Sequence[Unit]) -> tuple[Float, Float]:
    predicted = np.array([reading.hr_bpm for reading in scored], dtype=np.float64)
    return predicted, np.array([reading.true_hr_bpm for reading in scored], dtype=np.float64)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
