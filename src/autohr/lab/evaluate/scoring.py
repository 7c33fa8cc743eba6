"""Scores of stored pulse waves under named rules, with no model and no video.

``PRESETS`` is the table of rules: how a wave becomes a rate, what counts as the true rate, and how SNR and MACC are
defined, each as in one publication or tool. The same stored waves get other figures under another preset.

A preset scores the windows of the protocol that the results were made under. No preset reads every rate right in every
window, so three things are reported with the scores: ``Preset.limits``, the known faults of the rule; a note of
``check_rule``, which reads simulated waves of the same length and frame rate; and ``Scores.oracle``, the score of the
reference's own wave, whose error is that of the rule and of the reference themselves. ``Preset.least_s`` is the
shortest window that the rule may read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autohr.errors import AutoHRError, SignalTooShort, UnknownName, WindowsTooShort
from autohr.lab import metrics
from autohr.lab.evaluate.results import MethodInfo, Results, WindowResult
from autohr.lab.metrics import Paired, paired_test
from autohr.signals.filters import bandpass, detrend
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float

if TYPE_CHECKING:
    from autohr.lab.evaluate.protocols import Protocol

Truth = Literal["device", "wave"]
"""Kind of true rate. device: mean of the reference's rate over the window (the rate of its wave where the device gave
none). wave: the preset's own reading of the reference wave."""

LEAST_RELIABLE = 0.5
"""Share of a recording's windows that must be reliable for the recording to be called so, as in ``measure``."""

WITHIN_BPM = 5.0

LENGTH_SLACK_S = 0.5
"""Seconds that a window may lack of ``Preset.least_s``. Chosen by us: windows are cut to whole frames and moved by up
to half a second to fit what was kept of a recording."""

ORACLE = MethodInfo("oracle", "oracle", "oracle (the reference's own wave)")
"""Method of the oracle's scores."""


@dataclass(frozen=True)
class Preset:
    """Rule by which stored waves are scored."""

    name: str
    title: str
    source: str
    sure: str
    """Part of the rule that its source does not say, and what was taken instead."""
    rate: Callable[[Float, float], float | None]
    """Function (wave (T,), fps) -> bpm; None where the wave shows no rate."""
    truth: Truth
    snr: Callable[[Float, float, float], float]
    """Function (wave, fps, true bpm) -> dB; NaN where it is not defined."""
    macc: Callable[[Float, Float, float], float]
    """Function (wave, true wave, fps) -> correlation; NaN where it is not defined."""
    unit: Literal["window", "recording"] | None = None
    """Size of one reading; None leaves it to the protocol."""
    whole: bool = False
    """True for a rule that is meant for windows that are whole videos."""
    band_bpm: tuple[float, float] = (40.0, 180.0)
    """Slowest and fastest rate that the rule can give."""
    grid_bpm: Callable[[int, float], float] | None = None
    """Function (samples, fps) -> step in bpm between the rates that the rule can give; None for a rule that does not
    round."""
    limits: str = ""
    """Known faults of the rule, on slow rates first. Each figure was measured on simulated waves (``check_rule``)."""
    least_s: float = 0.0
    """Shortest window in seconds whose wave may be read by the rule; 0 for any that the rule itself accepts."""
    least_why: str = ""
    """Source of ``least_s``."""


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
        return self.hr_bpm is not None and self.true_hr_bpm is not None

    @property
    def error_bpm(self) -> float:
        """Estimate minus truth.

        Raises:
            ValueError: the unit is not scored.
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
    oracle: Scores | None = None
    """Scores of the reference's own wave under the same preset, always against the device's rate: against its own
    reading it would be right by definition. None in the oracle's scores themselves."""

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

    A window that is shorter than the preset's ``least_s`` is not scored, and says so (``check_windows``).

    Args:
        preset: a name of ``PRESETS``, or one of your own.
        truth: in place of the preset's.
        n_draws: draws of the bootstrap over subjects; 0 leaves intervals out. The oracle never has any.

    Raises:
        UnknownName: no such preset.
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
        reasons=dict(Counter(r.why or "not said" for r in readings if not r.scored).most_common()),
        notes=tuple(notes),
    )


def _oracle_window(window: WindowResult) -> WindowResult:
    """Return the window with the reference's wave in place of the method's."""
    why = None if window.true_bvp is not None else "no reference wave"
    return replace(window, bvp=window.true_bvp, hr_bpm=None, reliable=False, why=why)


def check_windows(results: Results, preset: str | Preset, truth: Truth | None = None) -> None:
    """Check that a preset can score results at all, before a table is made of them.

    Raises:
        UnknownName: no such preset.
        WindowsTooShort: not one of the windows whose wave would be read is as long as the preset needs.
    """
    rule = find_preset(preset)
    truth = truth or rule.truth
    lasts_s = [w.duration_s for w in results.windows if _reads_wave(w, truth)]
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

    Raises:
        UnknownName: no such preset.
        WindowsTooShort: the protocol's windows are shorter than the preset needs.
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
    return [check_rule(rule, round(min(seconds, MOST_CHECKED_S), 1), round(fps, 1))]


def find_preset(preset: str | Preset) -> Preset:
    """Return a preset by its name.

    Raises:
        UnknownName: ``PRESETS`` has none of that name.
    """
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    return PRESETS[preset]


MOST_CHECKED_S = 60.0
"""Longest simulated wave of ``check_rule``, in seconds. Chosen by us: no preset reads a longer one otherwise."""
CHECKED_BPM = tuple(range(45, 151, 5))
CHECKED_SEEDS = (0, 1)
"""Rates and phases of the simulated waves of ``check_rule``. Chosen by us: resting and exercising adults."""
MOST_NAMED = 6
"""Misread rates that the note of ``check_rule`` names one by one."""


@lru_cache(maxsize=256)
def misread_rates(rule: Preset, duration_s: float, fps: float) -> tuple[tuple[float, float | None], ...]:
    """Read simulated pulse waves of known rate, and return those that the rule gets wrong.

    The waves beat evenly at ``CHECKED_BPM``, as far as ``rule.band_bpm`` reaches, and have a dicrotic wave of 0.3 of
    the systolic one (``simulate_pulse``). A reading is wrong that differs by more than one step of the rule's grid and
    1 bpm.

    Returns:
        (true bpm, bpm as read, None for no rate) of each rate that is misread at one of the phases ``CHECKED_SEEDS``.
    """
    wrong: list[tuple[float, float | None]] = []
    for true_bpm in CHECKED_BPM:
        if not rule.band_bpm[0] <= true_bpm <= rule.band_bpm[1]:
            continue
        for seed in CHECKED_SEEDS:
            wave = simulate_pulse(duration_s, fps, float(true_bpm), seed=seed, hrv=0.0).bvp
            try:
                read_bpm = rule.rate(wave, fps)
            except (SignalTooShort, ValueError):
                read_bpm = None
            if read_bpm is None or abs(read_bpm - true_bpm) > _grid_bpm(rule, len(wave), fps) + 1.0:
                wrong.append((float(true_bpm), read_bpm))
                break
    return tuple(wrong)


def check_rule(rule: Preset, duration_s: float, fps: float) -> str:
    """Return one sentence on which rates the rule misreads in windows of this length and frame rate.

    The waves are those of ``misread_rates``: simulated, without noise, and so right to the last digit.
    """
    wrong = misread_rates(rule, duration_s, fps)
    grid_bpm = _grid_bpm(rule, round(duration_s * fps), fps)
    step = f" (rates lie {grid_bpm:.2g} bpm apart)" if grid_bpm else ""
    about = f"Checked on simulated pulse waves of 45 to 150 bpm, {duration_s:g} s at {fps:g} frames per second{step}"
    if not wrong:
        return f"{about}: {rule.name} reads them all right."
    named = [
        f"{true_bpm:g} as " + ("no rate" if read_bpm is None else f"{read_bpm:.0f}")
        for true_bpm, read_bpm in wrong[:MOST_NAMED]
    ]
    more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    return f"{about}: {rule.name} misreads {', '.join(named)}{more}."


def _grid_bpm(rule: Preset, n_samples: int, fps: float) -> float:
    return 0.0 if rule.grid_bpm is None else rule.grid_bpm(n_samples, fps)


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
    """Return whether a wave (T,) varies by no more than the rounding of its values.

    A filter turns that rounding into a wave of its own, which would be read as a rate.
    """
    return bool(np.ptp(wave) <= 1e-9 * max(float(np.abs(wave).max()), 1e-300)) if len(wave) else True


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
# The paper

PAPER_BAND_BPM = (40, 180)
"""Rates 40, 41, ... 179 bpm: the classes of the paper's frequency loss, as in ``train.losses``."""
LEAST_PERIODS = 2.5
"""Periods of the slowest rate that a clip must hold: with fewer, the main lobe of the Hann window (two periods of the
clip wide) reaches down to zero frequency. The same as in ``signals.rate``."""


def _paper_rate(wave: Float, fps: float) -> float | None:
    """Return the whole rate of 40 to 179 bpm at which the Hann-windowed wave has most power.

    The spectrum is that of the paper's frequency loss: a sum of sines and cosines at exactly these rates on the clip's
    own frame rate, without zero padding. The mean is taken off first, which the author's code does not do.
    """
    from scipy.signal import zoom_fft

    low_bpm, high_bpm = PAPER_BAND_BPM
    _refuse_slow(fps, (high_bpm - 1) / 60)
    least_s = LEAST_PERIODS * 60 / low_bpm
    if len(wave) < least_s * fps:
        raise SignalTooShort(f"{len(wave) / fps:.1f} s are too short for {low_bpm} bpm; {least_s:g} s are needed.")
    windowed = (wave - wave.mean()) * np.hanning(len(wave))
    spectrum = zoom_fft(windowed, [low_bpm / 60, high_bpm / 60], m=high_bpm - low_bpm, fs=fps, endpoint=False)
    power: Float = np.abs(spectrum) ** 2
    return float(low_bpm + np.argmax(power)) if power.max() > 0 else None


# ---------------------------------------------------------------------------------------------------------------------
# rPPG-Toolbox

TOOLBOX_LAMBDA = 100.0
"""Parameter of its smoothness priors, whatever the frame rate."""


def _toolbox_filter(wave: Float, fps: float, band_hz: tuple[float, float]) -> Float:
    """Detrend by smoothness priors, then filter by a zero-phase Butterworth band-pass of order 1."""
    from scipy.signal import butter, filtfilt

    _refuse_slow(fps, band_hz[1])
    cutoff_hz = fps / np.pi * math.asin(0.5 * ((1 + math.sqrt(2.0)) / TOOLBOX_LAMBDA**2) ** 0.25)
    b, a = butter(1, band_hz, btype="bandpass", fs=fps)
    filtered: Float = filtfilt(b, a, detrend(wave, fps, cutoff_hz))
    return filtered


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _toolbox_grid(n_samples: int, fps: float) -> float:
    return 60 * fps / _next_power_of_2(n_samples)


def _toolbox_rate(wave: Float, fps: float, band_hz: tuple[float, float]) -> float | None:
    """Return the highest line of a rectangular periodogram padded to the next power of two."""
    filtered = _toolbox_filter(wave, fps, band_hz)
    n_fft = _next_power_of_2(len(filtered))
    power = np.abs(np.fft.rfft(filtered, n_fft)) ** 2
    freqs_hz: Float = np.asarray(np.fft.rfftfreq(n_fft, 1 / fps), dtype=np.float64)
    return _highest(freqs_hz, power, *band_hz)


def _toolbox_snr(wave: Float, fps: float, true_hr_bpm: float, band_hz: tuple[float, float], decade_db: float) -> float:
    """Return the power within 6 bpm of the rate and of its double over the rest of the band.

    NaN where no line of the coarse grid lies that near, which happens at 60 frames per second in windows under 4.3 s.
    """
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
        band_bpm=(60 * band_hz[0], 60 * band_hz[1]),
        grid_bpm=_toolbox_grid,
        limits="Its detrending weakens slow rates, the more the higher the frame rate: a clean pulse with a dicrotic "
        "wave is read as its double at 50 bpm or less at 30 frames per second (30 s), at 60 bpm or less at 61. "
        "The label is read by the same rule, so that such an error does not show against it. Rates lie 60 fps / n_fft "
        f"apart: 3.5 bpm in 10 s at 30 frames per second. Nothing above {60 * band_hz[1]:g} bpm can be read",
    )


# ---------------------------------------------------------------------------------------------------------------------
# PhysFormer, by the paper's first author

PHYSFORMER_BAND_HZ = (0.8, 3.0)
PHYSFORMER_SEARCH_HZ = (0.7, 4.0)
PHYSFORMER_N_FFT = 2**13
PHYSFORMER_LEAST_S = 20.0
PAPER_FILTER_LEAST_S = 8.0


def _physformer_filter(wave: Float, fps: float) -> Float:
    """Filter as MATLAB's filtfilt with fir1(round(N / 10), [0.8 3] Hz), then scale to zero mean and unit SD.

    The order grows with the clip and not with the frame rate, so the filter spans a tenth of the clip. On a clip of
    10 s it takes 6.5 dB off 60 bpm and 0.1 dB off 120 bpm, forth and back: a second harmonic then outweighs its
    fundamental, and the rate is read as its double.
    """
    from scipy.signal import filtfilt, firwin

    _refuse_slow(fps, PHYSFORMER_SEARCH_HZ[1])
    order = math.floor(len(wave) / 10 + 0.5)
    taps = firwin(order + 1, PHYSFORMER_BAND_HZ, pass_zero=False, window="hamming", fs=fps)
    filtered = filtfilt(taps, [1.0], wave, padlen=3 * order)
    sd = float(filtered.std(ddof=1))
    scaled: Float = (filtered - filtered.mean()) / sd if sd > 0 else filtered
    return scaled


def _pwelch_rate(wave: Float, fps: float) -> float | None:
    """Return the peak in 0.7 to 4 Hz of MATLAB's pwelch(wave, [], [], 2^13, fps).

    MATLAB cuts the wave into eight Hamming pieces that overlap by half, each of 2 / 9 of the wave.
    """
    from scipy.signal import welch

    length = int(len(wave) / 4.5)
    if length < 4:
        raise SignalTooShort(f"{len(wave)} samples cannot be cut into eight pieces.")
    window: Any = np.hamming(length)
    freqs_hz, power = welch(wave, fps, window, noverlap=length // 2, nfft=max(PHYSFORMER_N_FFT, length), detrend=False)
    low_hz, high_hz = PHYSFORMER_SEARCH_HZ
    return _highest(freqs_hz, power, np.nextafter(low_hz, high_hz), np.nextafter(high_hz, low_hz))


def _physformer_rate(wave: Float, fps: float, n_parts: int) -> float | None:
    """Return the mean of the rates of ``n_parts`` equal parts of the filtered wave."""
    filtered = _physformer_filter(wave, fps)
    length = len(filtered) // n_parts
    rates = []
    for k in range(n_parts):
        # Counted as the source does: each later part begins with the last sample of the one before.
        part = filtered[max(0, k * length - 1) : (k + 1) * length if k < n_parts - 1 else None]
        rates.append(_pwelch_rate(part, fps))
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if len(known) == n_parts else None


def _physformer_grid(n_samples: int, fps: float) -> float:
    return 60 * fps / max(PHYSFORMER_N_FFT, int(n_samples / 4.5))


# ---------------------------------------------------------------------------------------------------------------------
# PhysBench


def _physbench_rate(wave: Float, fps: float) -> float | None:
    """Return the peak in 30 to 180 bpm of a Welch spectrum behind a causal Butterworth of order 3, 0.5 to 3 Hz."""
    from scipy.signal import butter, lfilter, welch

    _refuse_slow(fps, 3.0)
    b, a = butter(3, (0.5, 3.0), btype="bandpass", fs=fps)
    filtered = lfilter(b, a, wave)
    n_segment = min(len(filtered) - 1, 256)
    freqs_hz, power = welch(filtered, fps, nperseg=n_segment, nfft=_physbench_n_fft(len(filtered), fps))
    return _highest(freqs_hz, power, np.nextafter(0.5, 1), np.nextafter(3.0, 1))


def _physbench_n_fft(n_samples: int, fps: float) -> int:
    return max(min(n_samples - 1, 256), int(1e5 / fps))


def _physbench_grid(n_samples: int, fps: float) -> float:
    return 60 * fps / _physbench_n_fft(n_samples, fps)


def _highest(freqs_hz: Float, power: Float, low_hz: float, high_hz: float) -> float | None:
    """Return 60 times the frequency of the highest power within low_hz..high_hz, ends included; None in silence."""
    inside = np.flatnonzero((freqs_hz >= low_hz) & (freqs_hz <= high_hz))
    if not len(inside) or not power[inside].max() > 0:
        return None
    return float(60 * freqs_hz[inside[np.argmax(power[inside])]])


def _refuse_slow(fps: float, high_hz: float) -> None:
    if fps <= 2 * high_hz:
        raise ValueError(f"{fps:.1f} frames per second do not reach its upper edge of {high_hz:.3g} Hz.")


# ---------------------------------------------------------------------------------------------------------------------

_PAPER_SURE = (
    "mean of three clips of 10 s: the paper. SD with N - 1 is inferred; SNR and MACC are not in the paper and ours"
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="reference",
            title="autohr's own estimator (grid of 0.1 bpm, refined) against the device's rate",
            source="ours: signals/rate.py; SNR of iPhys; MACC within 1 s",
            sure="ours",
            rate=_reference_rate,
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            limits="clean pulses of 45 to 150 bpm are read right to 0.2 bpm in windows of 5 s and more; "
            "nothing outside 40 to 180 bpm is read",
        ),
        Preset(
            name="paper",
            title="video = mean of the rates of its 10 s clips, each the peak of the frequency loss's spectrum, "
            "against the device's mean; SD, MAE, RMSE, r",
            source="Yu et al. 2020 (AutoHR), III A, Eq. 4 and appendix B",
            sure=f"{_PAPER_SURE}. How a clip's wave becomes a rate is not in the paper: inferred from Eq. 4 as the "
            "peak of the spectrum that its frequency loss trains (Hann window, whole rates of 40 to 179 bpm). Read so, "
            "300 clean simulated clips have an MAE of 0.34 bpm; by PhysFormer's filter (paper-filter) it is 9.1",
            rate=_paper_rate,
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="recording",
            band_bpm=(float(PAPER_BAND_BPM[0]), PAPER_BAND_BPM[1] - 1.0),
            grid_bpm=lambda n_samples, fps: 1.0,
            limits="Rates are whole numbers of 40 to 179 bpm. The strongest line is taken, so a wave whose second "
            "harmonic is stronger than its fundamental is read as its double",
        ),
        Preset(
            name="paper-filter",
            title="as paper, but clips are read by PhysFormer's filter and pwelch, which doubles slow rates (60 bpm "
            "and less in 10 s)",
            source="Yu et al. 2020 (AutoHR), III A and appendix B; Inference_HRevaluation.m and bpfilter64.m of "
            "PhysFormer, by the same author",
            sure=f"{_PAPER_SURE}. How a clip's wave becomes a rate is not in the paper: here as PhysFormer reads the "
            "thirds of a whole video",
            rate=partial(_physformer_rate, n_parts=1),
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="recording",
            band_bpm=(60 * PHYSFORMER_SEARCH_HZ[0], 60 * PHYSFORMER_SEARCH_HZ[1]),
            grid_bpm=_physformer_grid,
            limits="Its filter spans a tenth of the clip: in 10 s it takes 6.5 dB off 60 bpm and 0.1 dB off 120 bpm, "
            "so that a clean pulse of 60 bpm or less with a dicrotic wave is read as its double",
            least_s=PAPER_FILTER_LEAST_S,
            least_why="measured on simulated waves: from 8 s on a sine of 45 to 150 bpm is read right to 1 bpm; in 6 s "
            "45 bpm is read 3 bpm too low, in 4 s 50 bpm 7 bpm too low",
        ),
        _toolbox(
            "toolbox-2023",
            "rPPG-Toolbox as in its NeurIPS 2023 paper: 0.75 to 2.5 Hz, FFT on a coarse grid, label likewise",
            (0.75, 2.5),
            20.0,
            "rPPG-Toolbox evaluation/post_process.py before PR #288",
            "read in the source: band of the paper, 20 log10 of a ratio of powers in the SNR (twice the decibels). "
            "Order 1 of the filter: one stored state has 2. MACC came later and is that of toolbox-2024. No wave here "
            "is a difference, so none is summed up",
        ),
        _toolbox(
            "toolbox-2024",
            "rPPG-Toolbox after December 2024: 0.6 to 3.3 Hz, FFT on a coarse grid, label likewise, SNR corrected",
            (0.6, 3.3),
            10.0,
            "rPPG-Toolbox evaluation/post_process.py after PR #344",
            "read in the source. Its HR by peaks in place of FFT is not offered. No wave here is a difference, so none "
            "is summed up",
        ),
        Preset(
            name="physformer",
            title="three parts of the whole video, pwelch each, mean against the device's mean",
            source="PhysFormer Inference_HRevaluation.m and bpfilter64.m",
            sure="read in the source; SNR and MACC are not in it and ours",
            rate=partial(_physformer_rate, n_parts=3),
            truth="device",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="recording",
            whole=True,
            band_bpm=(60 * PHYSFORMER_SEARCH_HZ[0], 60 * PHYSFORMER_SEARCH_HZ[1]),
            grid_bpm=_physformer_grid,
            limits="Its filter spans a tenth of the video: a clean pulse with a dicrotic wave is read as its double at "
            "60 bpm or less in 20 s, at 55 or less in 30 s and at 50 or less in 60 s",
            least_s=PHYSFORMER_LEAST_S,
            least_why="measured on simulated waves: it cuts a window into three parts of eight pieces each. From 20 s "
            "on a sine of 45 to 150 bpm is read right to 1 bpm; in 18 s 45 bpm is read 2 bpm too low, in 10 s 55 bpm "
            "is read 13 bpm too low. The source reads videos of about 30 s (VIPL-HR)",
        ),
        Preset(
            name="physbench",
            title="causal band-pass 0.5 to 3 Hz, Welch, 30 to 180 bpm, label likewise",
            source="PhysBench's evaluation code",
            sure="band, causal filter, grid and search range: read in the source. Inferred: Butterworth of order 3 (as "
            "in open-rppg, of the same author), Welch pieces of at most 256 samples (as in code that copies it), the "
            "label through the same path; SNR and MACC are ours",
            rate=_physbench_rate,
            truth="wave",
            snr=metrics.snr,
            macc=_lagged_macc,
            unit="window",
            band_bpm=(30.0, 180.0),
            grid_bpm=_physbench_grid,
            limits="Rates lie 60 fps^2 / 1e5 bpm apart: 0.5 bpm at 30 frames per second, 2.2 at 61 and 8.6 at 120. "
            "Nothing above 180 bpm can be read",
        ),
    )
}
