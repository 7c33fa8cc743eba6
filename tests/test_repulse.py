"""A new pulse in a clip: the old one is gone, the new one is in the skin and is the label, the rest stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from autohr.lab.datasets.clips import LABEL_BAND_HZ, ClipSource
from autohr.lab.datasets.repulse import lay_in, new_pulse, skin_of, take_out
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from test_augment import NOTHING, rate_of, rendered, wave_of

RENEWED = dataclasses.replace(NOTHING, pulse=True, pulse_p=1.0)


def test_what_follows_the_pulse_is_taken_out_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    bvp = simulate_pulse(10, 30, 80, seed=1).bvp
    rest = 100 + rng.standard_normal((300, 4, 4, 3)).cumsum(axis=0)
    late = np.roll(bvp, 1)
    frames = (
        rest + 2 * np.where(np.arange(4)[:, None] < 2, 1, 0)[None, :, :, None] * late[:, None, None, None]
    ).astype(np.float32)
    take_out(frames, bvp)
    left = frames - frames.mean(axis=0)
    follows = np.abs(np.einsum("t,txyc->xyc", bvp, left)) / (np.linalg.norm(bvp) * np.linalg.norm(left, axis=0))
    assert follows.max() < 1e-3
    kept = np.linalg.norm(left, axis=0) / np.linalg.norm(rest - rest.mean(axis=0), axis=0)
    assert np.median(kept) > 0.95


def test_skin_is_the_face_and_neither_its_eyes_nor_the_background() -> None:
    size = 48
    y, x = np.mgrid[:size, :size]
    face = np.hypot((x - 24) / 18, (y - 24) / 22) < 1
    eyes = (np.abs(y - 19) < 3) & ((np.abs(x - 16) < 4) | (np.abs(x - 32) < 4))
    picture = np.full((size, size, 3), (60, 90, 140), np.float32)
    picture[face] = (190, 140, 115)
    picture[eyes] = (30, 25, 25)
    noise = np.random.default_rng(0).normal(0, 2, (5, size, size, 3))
    skin = skin_of((picture + noise).astype(np.float32)).mean(axis=0)
    inner = face & (np.hypot((x - 24) / 15, (y - 24) / 19) < 1) & ~((np.abs(y - 19) < 6) & (np.abs(x - 24) < 15))
    assert skin[inner].min() > 0.7
    assert skin[(np.abs(y - 19) < 1) & (np.abs(x - 16) < 2)].max() < 0.1
    assert skin[np.hypot((x - 24) / 21, (y - 24) / 25) > 1].max() < 0.1


def test_a_picture_without_light_has_no_skin() -> None:
    assert skin_of(np.zeros((3, 16, 16, 3), np.float32)).max() == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_wave_and_its_label_have_the_rate_that_is_told(seed: int) -> None:
    wave, label, hr_bpm = new_pulse(450, 30.0, LABEL_BAND_HZ, np.random.default_rng(seed))
    assert wave.shape == label.shape == (450,)
    assert label.mean() == pytest.approx(0, abs=1e-9)
    assert label.std() == pytest.approx(1)
    assert np.ptp(wave) < 1.3
    assert estimate_heart_rate(label, 30.0).hr_bpm == pytest.approx(hr_bpm, abs=3)
    assert np.corrcoef(wave, label)[0, 1] > 0.8


def test_more_blood_is_darker_skin_most_of_all_in_green() -> None:
    frames = np.full((90, 32, 32, 3), (190, 140, 115), np.float32)
    wave = np.sin(np.arange(90) / 5)
    before = frames.copy()
    lay_in(frames, wave, np.random.default_rng(3))
    change = (frames / before - 1)[:, 8:24, 8:24].mean(axis=(1, 2))
    assert all(np.corrcoef(change[:, channel], wave)[0, 1] < -0.99 for channel in range(3))
    red, green, blue = change.std(axis=0)
    assert green > blue > red > 0


@pytest.mark.slow
def test_a_clip_beats_at_the_new_rate_and_no_longer_at_the_old() -> None:
    strong = dataclasses.replace(RENEWED, pulse_depth=(0.012, 0.016))  # so that POS can read it from 40 pixels
    recording = rendered(75.0, duration_s=9.0)
    found_new = found_old = 0
    for k in range(12):
        clip = ClipSource([recording], 240, 40, augment=strong).draw([k])
        read = rate_of(wave_of(clip), clip.fps)
        found_new += abs(read - clip.hr_bpm) < 4
        found_old += abs(read - 75) < 4 < abs(clip.hr_bpm - 75)
        assert rate_of(clip.bvp, clip.fps) == pytest.approx(clip.hr_bpm, abs=4)
    assert found_new >= 9
    assert found_old == 0


def test_the_same_seed_draws_the_same_clip() -> None:
    source = ClipSource([rendered(75.0, duration_s=9.0)], 60, 16, augment=RENEWED)
    one, again, other = source.draw([1]), source.draw([1]), source.draw([2])
    assert (one.frames == again.frames).all()
    assert (one.bvp == again.bvp).all()
    assert one.hr_bpm == again.hr_bpm != other.hr_bpm
