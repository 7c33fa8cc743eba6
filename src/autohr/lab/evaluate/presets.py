"""Rules by which stored pulse waves are scored, each as in one publication or tool.

``PRESETS`` is the table of rules: how a wave becomes a rate, what counts as the true rate, and how SNR and MACC are
defined. The same stored waves get other figures under another preset. No preset reads every rate right in every window:
``Preset.limits`` says where it fails, and ``check_rule`` shows it on simulated waves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from autohr.errors import SignalTooShort, UnknownName
from autohr.lab import metrics
from autohr.signals.filters import bandpass, detrend
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float

Truth = Literal["device", "wave"]
"""Kind of true rate. device: mean of the reference's rate over the window (the rate of its wave where the device gave
none). wave: the preset's own reading of the reference wave."""


def _lagged_macc(wave: Float, true: Float, fps: float) -> float:
    return metrics.macc(bandpass(wave, fps), bandpass(true, fps), fps)[0]


@dataclass(frozen=True)
class Preset:
    """Rule by which stored waves are scored."""

    name: str
    title: str
    source: str
    basis: str
    """Parts of the rule that its source states, and parts that are inferred or ours."""
    rate: Callable[[Float, float], float | None]
    """Function (wave (T,), fps) -> bpm; None where the wave shows no rate."""
    truth: Truth
    snr: Callable[[Float, float, float], float] = metrics.snr
    """Function (wave, fps, true bpm) -> dB; NaN where it is not defined."""
    macc: Callable[[Float, Float, float], float] = _lagged_macc
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


def find_preset(preset: str | Preset) -> Preset:
    """Return a preset by its name; UnknownName where ``PRESETS`` has none of that name."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    return PRESETS[preset]


# ---------------------------------------------------------------------------------------------------------------------
# Checks of a rule on simulated waves

MAX_CHECKED_S = 60.0
"""Longest simulated wave of ``check_rule``, in seconds. Chosen by us: no preset reads a longer one otherwise."""
CHECKED_BPM = tuple(range(45, 151, 5))
CHECKED_SEEDS = (0, 1)
"""Seeds of the phases of the simulated waves at ``CHECKED_BPM``: resting and exercising adults. Chosen by us."""
MAX_NAMED = 6
"""Number of misread rates that the note of ``check_rule`` names one by one."""


@lru_cache(maxsize=256)
def misread_rates(rule: Preset, duration_s: float, fps: float) -> tuple[tuple[float, float | None], ...]:
    """Read simulated pulse waves of known rate, and return (true bpm, bpm as read) of those that the rule gets wrong.

    The waves beat evenly at ``CHECKED_BPM``, as far as ``rule.band_bpm`` reaches, and have a dicrotic wave of 0.3 of
    the systolic one (``simulate_pulse``). A reading is wrong, in one of the phases ``CHECKED_SEEDS``, that differs by
    more than one step of the rule's grid and 1 bpm, or is None.
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
        for true_bpm, read_bpm in wrong[:MAX_NAMED]
    ]
    more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
    return f"{about}: {rule.name} misreads {', '.join(named)}{more}."


def _grid_bpm(rule: Preset, n_samples: int, fps: float) -> float:
    return 0.0 if rule.grid_bpm is None else rule.grid_bpm(n_samples, fps)


# ---------------------------------------------------------------------------------------------------------------------
# Rules


def _reference_rate(wave: Float, fps: float) -> float | None:
    return estimate_heart_rate(wave, fps).hr_bpm


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


def _toolbox(name: str, title: str, band_hz: tuple[float, float], decade_db: float, source: str, basis: str) -> Preset:
    return Preset(
        name=name,
        title=title,
        source=source,
        basis=basis,
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


# PhysFormer, by the paper's first author

PHYSFORMER_BAND_HZ = (0.8, 3.0)
PHYSFORMER_SEARCH_HZ = (0.7, 4.0)
PHYSFORMER_N_FFT = 2**13


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

_PHYSFORMER: dict[str, Any] = {
    "band_bpm": (60 * PHYSFORMER_SEARCH_HZ[0], 60 * PHYSFORMER_SEARCH_HZ[1]),
    "grid_bpm": _physformer_grid,
}
_PAPER_BASIS = (
    "mean of three clips of 10 s: the paper. SD with N - 1 is inferred; SNR and MACC are not in the paper and ours"
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="reference",
            title="autohr's own estimator (grid of 0.1 bpm, refined) against the device's rate",
            source="ours: signals/rate.py; SNR of iPhys; MACC within 1 s",
            basis="ours",
            rate=_reference_rate,
            truth="device",
            limits="clean pulses of 45 to 150 bpm are read right to 0.2 bpm in windows of 5 s and more; "
            "nothing outside 40 to 180 bpm is read",
        ),
        Preset(
            name="paper",
            title="video = mean of the rates of its 10 s clips, each the peak of the frequency loss's spectrum, "
            "against the device's mean; SD, MAE, RMSE, r",
            source="Yu et al. 2020 (AutoHR), III A, Eq. 4 and appendix B",
            basis=f"{_PAPER_BASIS}. How a clip's wave becomes a rate is not in the paper: inferred from Eq. 4 as the "
            "peak of the spectrum that its frequency loss trains (Hann window, whole rates of 40 to 179 bpm). Read so, "
            "300 clean simulated clips have an MAE of 0.34 bpm; by PhysFormer's filter (paper-filter) it is 9.1",
            rate=_paper_rate,
            truth="device",
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
            basis=f"{_PAPER_BASIS}. How a clip's wave becomes a rate is not in the paper: here as PhysFormer reads the "
            "thirds of a whole video",
            rate=partial(_physformer_rate, n_parts=1),
            truth="device",
            unit="recording",
            **_PHYSFORMER,
            limits="Its filter spans a tenth of the clip: in 10 s it takes 6.5 dB off 60 bpm and 0.1 dB off 120 bpm, "
            "so that a clean pulse of 60 bpm or less with a dicrotic wave is read as its double",
            least_s=8.0,
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
            basis="read in the source; SNR and MACC are not in it and ours",
            rate=partial(_physformer_rate, n_parts=3),
            truth="device",
            unit="recording",
            whole=True,
            **_PHYSFORMER,
            limits="Its filter spans a tenth of the video: a clean pulse with a dicrotic wave is read as its double at "
            "60 bpm or less in 20 s, at 55 or less in 30 s and at 50 or less in 60 s",
            least_s=20.0,
            least_why="measured on simulated waves: it cuts a window into three parts of eight pieces each. From 20 s "
            "on a sine of 45 to 150 bpm is read right to 1 bpm; in 18 s 45 bpm is read 2 bpm too low, in 10 s 55 bpm "
            "is read 13 bpm too low. The source reads videos of about 30 s (VIPL-HR)",
        ),
        Preset(
            name="physbench",
            title="causal band-pass 0.5 to 3 Hz, Welch, 30 to 180 bpm, label likewise",
            source="PhysBench's evaluation code",
            basis="band, causal filter, grid and search range: read in the source. Inferred: Butterworth of order 3 "
            "(as in open-rppg, of the same author), Welch pieces of at most 256 samples (as in code that copies it), "
            "the label through the same path; SNR and MACC are ours",
            rate=_physbench_rate,
            truth="wave",
            unit="window",
            band_bpm=(30.0, 180.0),
            grid_bpm=_physbench_grid,
            limits="Rates lie 60 fps^2 / 1e5 bpm apart: 0.5 bpm at 30 frames per second, 2.2 at 61 and 8.6 at 120. "
            "Nothing above 180 bpm can be read",
        ),
    )
}
