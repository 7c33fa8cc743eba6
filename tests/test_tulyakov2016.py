"""Tulyakov2016 (SAMC): the synthetic matrix on which its parameters were chosen, and faces that move in parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autohr.classic.tulyakov2016 import CompletionConfig, _shrink, chrominance, complete, samc
from autohr.methods import METHODS
from autohr.signals.filters import bandpass, standardise
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse, simulate_rgb
from autohr.types import FaceClip, Float
from autohr.video.regions import REGIONS


def corrupted_matrix(seed: int, n_rows: int = 36, n_frames: int = 900) -> tuple[Float, Float, NDArray[np.bool_]]:
    """C (R, T) in which 43 % of the entries, in blocks, shake eight times as strongly as the pulse that all rows share;
    the pulse (T,); and where C is sound."""
    fs, rng = 30.0, np.random.default_rng(seed)
    pulse = standardise(bandpass(simulate_pulse(n_frames / fs, fs, 72, seed=seed).bvp, fs))
    noise = standardise(bandpass(rng.standard_normal((n_rows, n_frames)), fs))
    c = rng.uniform(0.5, 1.5, (n_rows, 1)) * pulse + 0.7 * noise
    sound = np.ones(c.shape, dtype=bool)
    while sound.mean() > 0.57:
        row, frame = rng.integers(n_rows), rng.integers(n_frames)
        block = np.zeros_like(sound)
        block[row : row + rng.integers(1, 12), frame : frame + rng.integers(20, 120)] = True
        shake = standardise(bandpass(rng.standard_normal(n_frames), fs))
        c += (block & sound) * 8 * rng.uniform(0.5, 1.5, (n_rows, 1)) * shake
        sound &= ~block
    return c, pulse, sound


def alike(a: Float, b: Float) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_the_synthetic_case_is_completed(seed: int) -> None:
    """Stated in the project's notes for such a matrix: 54 rounds, rank 1, 0.94 (row mean 0.43), F1 of the mask 0.90."""
    c, pulse, sound = corrupted_matrix(seed)
    found = complete(c, 30.0)
    assert (found.rank, found.low_rank.shape) == (1, c.shape) and 30 < found.n_rounds < 100
    assert alike(found.wave, pulse) > 0.92, "with its sign"
    assert alike(c.mean(axis=0), pulse) < 0.6
    assert abs(alike(np.linalg.svd(c, full_matrices=False)[2][0], pulse)) < 0.6
    hits = (found.mask & sound).sum()
    assert 2 * hits / (found.mask.sum() + sound.sum()) > 0.88
    assert np.linalg.matrix_rank(found.low_rank) == 1


def test_too_much_weight_on_low_rank_leaves_nothing() -> None:
    c, _, _ = corrupted_matrix(0)
    found = complete(c, 30.0, CompletionConfig(nu=0.85))
    assert found.rank == 0 and not found.low_rank.any() and not found.wave.any()


def test_scale_does_not_matter_and_the_sign_is_that_of_the_rows() -> None:
    c, _, _ = corrupted_matrix(1)
    found = complete(c, 30.0)
    np.testing.assert_allclose(complete(0.001 * c, 30.0).wave, found.wave, atol=1e-9)
    np.testing.assert_allclose(complete(-c, 30.0).wave, -found.wave, atol=1e-9)


def test_what_was_found_is_where_the_directions_meet() -> None:
    """At the end E minimises its own step: E = shrink(F - Z), and F = E, so |M o (E - C)| pulls as strongly as nu."""
    c, _, _ = corrupted_matrix(2)
    found = complete(c, 30.0)
    scale = 1.4826 * np.median(np.abs(c))
    e, c = found.low_rank / scale, c / scale
    pull = 2 * found.mask * (c - e)  # = nu u v' for the one singular pair that is left
    left, sizes, right = np.linalg.svd(e, full_matrices=False)
    nu = CompletionConfig().nu * np.sqrt(c.size)
    assert float(left[:, 0] @ pull @ right[0]) == pytest.approx(nu, rel=1e-3)
    assert np.linalg.norm(pull, 2) == pytest.approx(nu, rel=1e-3), "no other pair may pull more"
    assert sizes[0] > 1


def test_shrinking_lowers_singular_values() -> None:
    x = np.random.default_rng(0).standard_normal((5, 40))
    left, sizes, right = np.linalg.svd(x, full_matrices=False)
    threshold = float(sizes[2] + sizes[3]) / 2
    shrunk, rank = _shrink(x, threshold)
    assert rank == 3
    np.testing.assert_allclose(shrunk, (left * np.maximum(sizes - threshold, 0)) @ right, atol=1e-10)


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("hr_bpm", [50.0, 80.0, 140.0])
def test_parts_that_move_are_left_out(fps: float, hr_bpm: float) -> None:
    """Five of sixteen parts talk: each channel changes in its own way, so that no chrominance takes it off, and far
    more than by the pulse."""
    truth = simulate_pulse(10, fps, hr_bpm, seed=5, hrv=0.01)
    rng = np.random.default_rng(6)
    parts = np.stack([simulate_rgb(truth.bvp, fps, seed=k, motion=0.003) for k in range(16)])
    talk = standardise(bandpass(rng.standard_normal((3, len(truth.bvp))), fps, (1.6, 2.1))).T
    parts[11:] *= 1 + 0.02 * rng.uniform(0.5, 1.5, (5, 1, 1)) * talk
    assert estimate_heart_rate(samc(parts, fps), fps).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=2)
    mean = estimate_heart_rate(chrominance(parts, fps).mean(axis=0), fps).hr_bpm
    assert mean is not None and abs(mean - truth.mean_hr_bpm) > 10


def test_a_pulse_that_the_first_weight_loses_is_looked_for_with_less() -> None:
    truth = simulate_pulse(10, 30, 80, seed=1)
    parts = np.stack([simulate_rgb(truth.bvp, 30, seed=100 + k, depth=0.0006, noise=0.002) for k in range(16)])
    assert complete(chrominance(parts, 30), 30).rank == 0
    assert estimate_heart_rate(samc(parts, 30), 30).hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=3)


def test_the_method_reads_the_raster_of_a_clip_without_what_was_not_seen() -> None:
    truth = simulate_pulse(10, 30, 80, seed=1)
    n_frames = len(truth.bvp)
    traces = np.stack([simulate_rgb(truth.bvp, 30, seed=k) for k in range(len(REGIONS))], axis=1)
    traces[:, [0, 3]] = np.nan
    box = np.tile([10.0, 10, 80, 90], (n_frames, 1))
    clip = FaceClip(30.0, 2.0, traces[:, 5], traces, np.full((n_frames, 3), np.nan), box, np.ones(n_frames, bool))
    pulse = METHODS["samc"].wave(clip)
    assert (pulse.fps, pulse.start_s) == (30.0, 2.0)
    seen = [k for k in range(16) if k not in (0, 3)]
    np.testing.assert_allclose(pulse.bvp, samc(traces[:, seen].transpose(1, 0, 2), 30.0), atol=1e-12)
    alone = METHODS["samc"](replace(clip, traces=np.full_like(traces, np.nan)))
    assert alone.hr_bpm == pytest.approx(truth.mean_hr_bpm, abs=1)


def test_shapes_that_are_no_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="rgb must be"):
        samc(np.ones((2, 3, 300, 3)), 30)
    with pytest.raises(ValueError, match="rgb must be"):
        samc(np.ones((0, 300, 3)), 30)
