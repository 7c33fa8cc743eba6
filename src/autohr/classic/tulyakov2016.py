"""Tulyakov2016 (SAMC): self-adaptive matrix completion for heart rate from face videos (Tulyakov et al. 2016).

rgb (R, T, 3), the mean colours of R parts of a face, -> bvp (T,). Each part's chrominance (as in CHROM) is a row of a
matrix. A pulse makes all rows alike, so the matrix should have rank one; where a face moves or shines it has not. Which
entries to believe, and the matrix of low rank that agrees with those, are found together.

    min over E and M in {0, 1}:  nu |E|_* + |M o (E - C)|^2 - beta |M|_1 + mu |M - Mp|^2

with C the chrominance, |.|_* the sum of singular values, and the prior Mp = 1 where a row varies little for a while.
Solved by alternating directions with a copy F of E. The wave is E's first right singular vector.

Differs from the paper, and why:

- Parts: the paper warps cheeks and nose to a rectangle by 66 landmarks and lays a fine grid on it. Here the caller
  gives the parts; ``methods.py`` gives those of the 4 x 4 raster of the face box that show skin (eyes and mouth too:
  they are what the mask is for).
- A last band-pass, as for all methods here; the rate is signals/rate.py's and not a Welch spectrum's.

Fidelity: the objective is the paper's from memory, not re-read; the update rules were derived again. The paper's nu,
beta, mu, rho, the number of parts and the window of the prior are not known to us: the values below are ours, chosen on
a synthetic matrix (36 x 900, 43 % corrupted; tests/test_tulyakov2016.py), so this is a reconstruction. Where noise, and
not movement, hides the pulse, it finds fewer rates than the mean of the same chrominances, which averages the noise
away: 33 against 50 of 50 simulated clips of 10 s in which 16 parts had a pulse of 0.08 % under 0.2 % of noise each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autohr.classic.colour import checked_rgb, ratio_of_sd
from autohr.signals.filters import bandpass
from autohr.types import Float


@dataclass(frozen=True)
class CompletionConfig:
    """Parameters of the completion, without unit because C is first brought to a robust deviation of 1."""

    nu: float = 0.33
    """Weight of low rank, times sqrt(R T): the largest singular value of a common wave grows so. From 0.5 to 0.8 on,
    by how much is corrupted, nothing is left of E; under 0.25 the corrupted entries enter it."""
    beta: float = 1.0
    """Square of the deviation below which an entry is believed."""
    mu: float = 0.5
    """Weight of the prior."""
    rho: float = 1.0
    """Penalty of the alternating directions."""
    prior_s: float = 1.0
    """Window of the local deviation: 31 frames at 30 per second."""
    prior_quantile: float = 0.7
    """Share of the entries that the prior believes."""
    tolerance: float = 1e-6
    most_rounds: int = 200


LEAST_NU = 0.02
"""Smallest ``nu``. Where ``nu`` leaves nothing of E (a weak pulse under noise) it is lowered by a quarter until
something stays, at most down to this. Ours: the first that leaves something has the lowest rank."""


@dataclass(frozen=True)
class Completion:
    """Result of the completion of a matrix C (R, T)."""

    wave: Float
    """(T,) unit length; zero if E is."""
    low_rank: Float
    """(R, T) E, in units of C."""
    mask: NDArray[np.bool_]
    """(R, T) the entries that were believed."""
    rank: int
    n_rounds: int


def samc(rgb: Float, fs: float) -> Float:
    """Return the pulse wave bvp (T,) of the parts' colours rgb (R, T, 3), or of one part (T, 3); 0..255, fs in Hz.

    Positive where the skin holds more blood.

    Raises
    ------
    SignalTooShort
        Less than one period of the heart band's lower edge.
    ValueError
        Rgb of another shape, or not finite: leave out parts that were not seen.
    """
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim not in (2, 3) or rgb.shape[0] == 0:
        raise ValueError(f"rgb must be (R, T, 3) or (T, 3), not {rgb.shape}.")
    rows = chrominance(rgb if rgb.ndim == 3 else rgb[None], fs)
    config = CompletionConfig()
    found = complete(rows, fs, config)
    while found.rank == 0 and config.nu > LEAST_NU:
        config = replace(config, nu=0.75 * config.nu)
        found = complete(rows, fs, config)
    wave = bandpass(found.wave, fs)
    return np.asarray(wave - wave.mean())


def chrominance(rgb: Float, fs: float) -> Float:
    """Return CHROM's X - (sd X / sd Y) Y (R, T) of rgb (R, T, 3), with one ratio for each region.

    Colour over its mean, X = 3R - 2G, Y = 1.5R + G - 1.5B, band-passed; positive where there is more blood.
    """
    red, green, blue = np.moveaxis(rgb / rgb.mean(axis=-2, keepdims=True) - 1, -1, 0)
    x = bandpass(3 * red - 2 * green, fs)
    y = bandpass(1.5 * red + green - 1.5 * blue, fs)
    return np.asarray(x - ratio_of_sd(x, y) * y)


def complete(c: Float, fs: float, config: CompletionConfig | None = None) -> Completion:
    """Complete c (R, T) from the entries that are believed; the sign of the wave is that of most rows."""
    config = config or CompletionConfig()
    n_rows, n_frames = c.shape
    scale = 1.4826 * float(np.median(np.abs(c)))
    if scale <= 1e-12:
        return Completion(np.zeros(n_frames), np.zeros_like(c), np.zeros(c.shape, dtype=bool), 0, 0)
    c = c / scale
    restless = _local_sd(c, round(config.prior_s * fs) | 1)
    prior = restless <= np.quantile(restless, config.prior_quantile)
    believed_below = config.beta + config.mu * (2.0 * prior - 1)
    threshold = config.nu * np.sqrt(n_rows * n_frames) / config.rho

    # Begun with all of C, parts that move throughout are believed first, and stay believed.
    f, z = prior * c, np.zeros_like(c)
    e, mask, rank, n_rounds = f, prior, 0, 0
    while n_rounds < config.most_rounds:
        n_rounds += 1
        e, rank = _shrink(f - z / config.rho, threshold)
        mask = (f - c) ** 2 < believed_below
        before, f = f, (config.rho * e + z + 2 * mask * c) / (2 * mask + config.rho)
        z = z + config.rho * (e - f)
        if np.abs(f - before).max() < config.tolerance:
            break
    if rank == 0:
        return Completion(np.zeros(n_frames), np.zeros_like(c), mask, 0, n_rounds)
    left, _, right = np.linalg.svd(e, full_matrices=False)
    wave = right[0] if left[:, 0].sum() >= 0 else -right[0]
    return Completion(wave, scale * e, mask, rank, n_rounds)


def _shrink(x: Float, threshold: float) -> tuple[Float, int]:
    """Lower the singular values of x (R, T) by ``threshold``; return it and the number of those left.

    It uses the eigenvectors of x x' (R, R), at a tenth of the cost of an SVD where T is long.
    """
    squares, left = np.linalg.eigh(x @ x.T)
    sizes = np.sqrt(np.maximum(squares, 0.0))
    use = sizes > threshold
    share = 1 - threshold / sizes[use]
    return np.asarray((left[:, use] * share) @ (left[:, use].T @ x)), int(use.sum())


def _local_sd(x: Float, length: int) -> Float:
    """Return the deviation of ``length`` (odd) neighbours in each row of x (R, T), of fewer at the ends."""
    n_frames = x.shape[-1]
    at = np.arange(n_frames)
    first, last = np.maximum(at - length // 2, 0), np.minimum(at + length // 2 + 1, n_frames)
    sums, squares = (np.cumsum(np.pad(v, [(0, 0), (1, 0)]), axis=-1) for v in (x, x * x))
    mean = (sums[:, last] - sums[:, first]) / (last - first)
    return np.asarray(np.sqrt(np.maximum((squares[:, last] - squares[:, first]) / (last - first) - mean**2, 0.0)))
