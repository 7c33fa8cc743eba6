"""Simulated signals: pulse waves with known beats, and the skin colours that a camera would see of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autohr.types import Float

CHANNEL_RATIO = (0.33, 0.77, 0.53)
"""Relative strength of the pulse in R, G, B of a white-balanced camera (de Haan & van Leest 2014, the blood-volume
signature [0.33 0.77 0.53])."""


@dataclass(frozen=True)
class SimulatedPulse:
    """A pulse wave whose beats are known exactly."""

    bvp: Float
    """(N,) zero mean, unit standard deviation; positive means more blood."""
    fs: float
    beats_s: Float
    """Times of the systolic peaks, in seconds from the first sample."""
    hr_bpm: Float
    """(N,) instantaneous rate."""
    mean_hr_bpm: float
    """Beats passed (fractions counted) over the duration."""


SYSTOLIC_PHASE = 0.25
"""Phase of the systolic peak within a beat, in cycles."""


def pulse_shape(phase: Float, dicrotic: float = 0.3) -> Float:
    """Return the height of a PPG at a phase (cycles) of the beat: a systolic wave and a dicrotic one behind it.

    Two periodic Gaussians; positions and widths chosen by eye from contact PPG (systole at a quarter of the cycle,
    dicrotic wave 0.35 cycles later). ``dicrotic`` is the height of the second relative to the first, 0..1.
    """

    def bump(centre: float, width: float) -> Float:
        distance = (phase - centre + 0.5) % 1.0 - 0.5
        return np.exp(-0.5 * (distance / width) ** 2)

    return bump(SYSTOLIC_PHASE, 0.11) + dicrotic * bump(SYSTOLIC_PHASE + 0.35, 0.13)


def simulate_pulse(
    duration_s: float,
    fs: float,
    hr_bpm: float | Float,
    *,
    seed: int = 0,
    hrv: float = 0.03,
    resp_bpm: float = 15.0,
    dicrotic: float = 0.3,
) -> SimulatedPulse:
    """Simulate a pulse wave of ``duration_s`` seconds at ``fs`` samples per second.

    Parameters
    ----------
    hr_bpm
        The rate, one number or one per sample (N,).
    hrv
        Standard deviation of the rate relative to itself; two thirds of it follow respiration (respiratory
        sinus arrhythmia), the rest wanders slowly. 0 gives a metronome.
    resp_bpm
        Breaths per minute of that modulation.

    Raises
    ------
    ValueError
        A duration, rate or sampling rate that is not positive, or one ``hr_bpm`` per sample with another
        length than N.
    """
    if not (duration_s > 0 and fs > 0):
        raise ValueError(f"duration_s={duration_s} and fs={fs} must be positive.")
    n_samples = round(duration_s * fs)
    rate_bpm = np.asarray(hr_bpm, dtype=np.float64)
    if rate_bpm.ndim and rate_bpm.shape != (n_samples,):
        raise ValueError(
            f"hr_bpm has shape {rate_bpm.shape}; give one number or {n_samples} of them (duration_s * fs)."
        )
    if not (rate_bpm > 0).all():
        raise ValueError("hr_bpm must be positive.")
    rng = np.random.default_rng(seed)

    # Computed on a clock of at least 240 Hz so that the beats do not snap to the samples.
    fine = max(1, int(np.ceil(240.0 / fs)))
    t_fine_s = np.arange(n_samples * fine) / (fs * fine)
    slow = _slow_noise(rng, t_fine_s, cutoff_hz=0.05)
    respiration = np.sqrt(2.0) * np.sin(2 * np.pi * (resp_bpm / 60.0 * t_fine_s + rng.uniform()))
    variation = hrv * (np.sqrt(2 / 3) * respiration + np.sqrt(1 / 3) * slow)
    base_bpm = np.interp(t_fine_s, np.arange(n_samples) / fs, np.broadcast_to(rate_bpm, (n_samples,)))
    rate_fine_bpm = base_bpm * np.clip(1 + variation, 0.5, 1.5)
    phase = rng.uniform() + np.concatenate([[0.0], np.cumsum(rate_fine_bpm[:-1] / 60.0 / (fs * fine))])

    first, last = np.ceil(phase[0] - SYSTOLIC_PHASE), np.floor(phase[-1] - SYSTOLIC_PHASE)
    beats_s = np.interp(np.arange(first, last + 1) + SYSTOLIC_PHASE, phase, t_fine_s)
    wave = pulse_shape(phase[::fine] % 1.0, dicrotic)
    wave = (wave - wave.mean()) / max(float(wave.std()), 1e-12)
    cycles = phase[-1] - phase[0]
    return SimulatedPulse(
        bvp=wave,
        fs=fs,
        beats_s=beats_s,
        hr_bpm=rate_fine_bpm[::fine],
        mean_hr_bpm=float(60.0 * cycles / t_fine_s[-1]),
    )


def simulate_rgb(
    bvp: Float,
    fs: float,
    *,
    seed: int = 0,
    depth: float = 0.005,
    noise: float = 0.0005,
    motion: float = 0.0,
    flicker: float = 0.0,
    flicker_hz: float = 1.0,
    skin_rgb: tuple[float, float, float] = (190.0, 140.0, 115.0),
) -> Float:
    """Simulate the mean skin colour (N, 3), 0..255, that a camera sees when ``bvp`` (N,) runs under the skin.

    Parameters
    ----------
    depth
        Standard deviation of green's relative change by the pulse; 0.001 to 0.01 on real faces.
    noise
        White noise of each channel, relative.
    motion
        Slow wander of brightness (all channels alike), relative standard deviation.
    flicker
        Amplitude of a sine at ``flicker_hz`` in all channels alike, relative.
    """
    rng = np.random.default_rng(seed)
    n_samples = len(bvp)
    t_s = np.arange(n_samples) / fs
    absorbed = depth * np.asarray(CHANNEL_RATIO) / CHANNEL_RATIO[1]
    light = 1 + motion * _slow_noise(rng, t_s, cutoff_hz=0.8) + flicker * np.sin(2 * np.pi * flicker_hz * t_s)
    skin = np.asarray(skin_rgb) * (1 - np.asarray(bvp)[:, None] * absorbed)
    return light[:, None] * skin * (1 + noise * rng.standard_normal((n_samples, 3)))


def _slow_noise(rng: np.random.Generator, t_s: Float, cutoff_hz: float) -> Float:
    """Simulate slow noise of unit variance as a sum of sines below ``cutoff_hz``.

    It is smooth, and free of the edge effects of filtered white noise.
    """
    n_sines = 12
    freqs_hz = cutoff_hz * (np.arange(n_sines) + rng.uniform(size=n_sines)) / n_sines
    phases = 2 * np.pi * rng.uniform(size=n_sines)
    sum_of_sines: Float = np.sin(2 * np.pi * t_s[:, None] * freqs_hz + phases).sum(axis=1)
    return np.asarray(sum_of_sines * np.sqrt(2.0 / n_sines), dtype=np.float64)
