"""Augmentation: each kind does what it says to frames, label and rate, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from autohr.classic.colour import pos
from autohr.lab.datasets.augment import (
    GREY,
    PAPER_AUGMENT,
    AugmentConfig,
    Look,
    draw_look,
    erase_tubes,
    resample_tempo,
    show,
    tempo_factor,
    tempo_span,
)
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.clips import Clip, ClipSource
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float, Frame
from autohr.video.regions import face_patch
from made import in_memory

NOTHING = AugmentConfig(erase=False, tempo=False, flip=False, reverse=False, crop=False, colour=False, gamma=False)
DA2 = dataclasses.replace(NOTHING, tempo=True, tempo_p=1.0)


@functools.cache
def rendered(hr_bpm: float, duration_s: float = 17.0) -> CachedRecording:
    """A drawn face with a pulse, cropped at its true place."""
    scene = SceneConfig(
        seed=7,
        duration_s=duration_s,
        width=96,
        height=72,
        face_px=48,
        hr_bpm=hr_bpm,
        hrv=0.01,
        pulse_depth=0.02,
        head=HeadMotion(sway=0.2),
        light_drift=0.01,
    )
    known = truth(scene)
    frames = [
        np.rint(face_patch(frame, box, 40)).astype(np.uint8)
        for (frame, _), box in zip(render(scene), known.box_xywh, strict=True)
    ]
    return in_memory(np.stack(frames), known.bvp, known.hr_bpm, scene.fps)


def wave_of(clip: Clip) -> Float:
    """Return what POS finds in the mean colour of the crop."""
    return pos(clip.frames.mean(axis=(1, 2)), clip.fps)


def rate_of(wave: Float, fps: float) -> float:
    rate_bpm = estimate_heart_rate(wave, fps).hr_bpm
    assert rate_bpm is not None
    return rate_bpm


# --- DA2


@pytest.mark.slow
@pytest.mark.parametrize(("hr_bpm", "factor"), [(112.0, 0.5), (55.0, 2.0)])
def test_da2_halves_and_doubles_the_measured_rate_of_a_rendered_clip(hr_bpm: float, factor: float) -> None:
    recording = rendered(hr_bpm)
    before = ClipSource([recording], n_frames=240, size_px=32).draw([3])
    after = ClipSource([recording], n_frames=240, size_px=32, augment=DA2).draw([3])
    assert after.fps == before.fps
    assert rate_of(wave_of(before), before.fps) == pytest.approx(hr_bpm, abs=2)
    assert rate_of(wave_of(after), after.fps) == pytest.approx(factor * hr_bpm, abs=2)
    # The label tells the same story: rate, wave, and beat by beat.
    assert after.hr_bpm == pytest.approx(factor * hr_bpm, abs=1.5)
    assert rate_of(after.bvp, after.fps) == pytest.approx(factor * hr_bpm, abs=2)
    # 0.8: POS has its own wave form; a label that is off by a tenth of a beat would be below.
    assert np.corrcoef(wave_of(before), before.bvp)[0, 1] > 0.8
    assert np.corrcoef(wave_of(after), after.bvp)[0, 1] > 0.8


def numbered(n_frames: int, hr_bpm: float, fps: float = 30.0) -> CachedRecording:
    """Frame k is grey level k modulo 251: shows which source frames a clip was made of."""
    levels = (np.arange(n_frames) % 251).astype(np.uint8)
    pulse = simulate_pulse(n_frames / fps, fps, hr_bpm, hrv=0.0)
    return in_memory(np.tile(levels[:, None, None, None], (1, 8, 8, 3)), pulse.bvp, np.full(n_frames, hr_bpm), fps)


def test_slowing_puts_means_between_neighbours() -> None:
    clip = ClipSource([numbered(200, 120.0)], n_frames=60, size_px=8, augment=DA2).draw([1])
    level = clip.frames[:, 0, 0, 0].astype(float)
    assert (np.diff(level[::2]) == 1).all(), "every second frame is a source frame, one after the other"
    assert level[-1] - level[0] == pytest.approx(29.5, abs=0.51)
    assert clip.hr_bpm == 60.0


def test_doubling_keeps_every_second_frame_and_repeats_none() -> None:
    clip = ClipSource([numbered(200, 60.0)], n_frames=60, size_px=8, augment=DA2).draw([1])
    assert (np.diff(clip.frames[:, 0, 0, 0].astype(float)) == 2).all()
    assert clip.hr_bpm == 120.0


def test_a_recording_too_short_for_doubling_is_left_as_it_is() -> None:
    clip = ClipSource([numbered(100, 60.0)], n_frames=60, size_px=8, augment=DA2).draw([1])
    assert (np.diff(clip.frames[:, 0, 0, 0].astype(float)) == 1).all()
    assert clip.hr_bpm == 60.0


@pytest.mark.parametrize("n_frames", [2, 7, 160])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_resampled_time_is_a_line_again(n_frames: int, factor: float) -> None:
    line = np.arange(tempo_span(n_frames, factor), dtype=np.float64)
    assert resample_tempo(line, n_frames, factor) == pytest.approx(factor * np.arange(n_frames))
    with pytest.raises(ValueError, match="source frames do not make"):
        resample_tempo(np.append(line, 0), n_frames, factor)


def test_the_papers_two_thresholds() -> None:
    factors = [tempo_factor(hr_bpm, PAPER_AUGMENT) for hr_bpm in (45, 69.9, 70, 90, 90.1, 165)]
    assert factors == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]


# --- DA1


def test_tubes_stay_under_a_fifth_and_are_one_box_over_one_stretch() -> None:
    config = dataclasses.replace(NOTHING, erase=True, erase_tubes=(1, 1))
    sizes = []
    for seed in range(120):
        frames: Frame = np.zeros((100, 40, 30, 3), np.uint8)
        erase_tubes(frames, np.random.default_rng(seed), config)
        where = (frames == GREY).all(axis=-1)
        assert (frames[~where] == 0).all()
        spans = [int(np.ptp(hit)) + 1 for hit in np.nonzero(where)]
        assert where.sum() == np.prod(spans), "full, and the same box in each of its frames"
        sizes.append(np.array(spans) / where.shape)
    assert np.max(sizes) < 0.2
    assert np.min(sizes) < 0.06
    assert np.max(sizes, axis=0).min() > 0.15


def test_erasing_leaves_the_label_and_happens_as_often_as_asked() -> None:
    recording = numbered(200, 80.0)
    config = dataclasses.replace(NOTHING, erase=True, erase_p=0.3)
    plain, source = (ClipSource([recording], 100, 8, augment) for augment in (NOTHING, config))
    changed = 0
    for k in range(200):
        before, after = plain.draw([k]), source.draw([k])
        assert (before.bvp == after.bvp).all()
        changed += bool((before.frames != after.frames).any())
    assert 40 <= changed <= 80


# --- what must not touch the pulse


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flip", "crop", "colour", "gamma"])
def test_place_and_colour_leave_rate_and_phase(name: str) -> None:
    recording = rendered(75.0, duration_s=9.0)
    switched: dict[str, Any] = {name: True}
    source = ClipSource([recording], 240, 40, augment=dataclasses.replace(NOTHING, flip_p=1.0, **switched))
    changed = []
    for k in range(4):
        before, after = ClipSource([recording], 240, 40, augment=NOTHING).draw([k]), source.draw([k])
        changed.append((before.frames != after.frames).any())
        assert (before.bvp == after.bvp).all()
        assert before.hr_bpm == after.hr_bpm
        assert rate_of(wave_of(after), 30.0) == pytest.approx(rate_of(wave_of(before), 30.0), abs=0.5)
        lags = range(-4, 5)
        fits = [float(np.roll(wave_of(after), lag) @ wave_of(before)) for lag in lags]
        assert lags[int(np.argmax(fits))] == 0
    assert any(changed)


def test_reversing_runs_frames_and_label_backwards_together() -> None:
    recording = numbered(200, 60.0)
    source = ClipSource([recording], 60, 8, dataclasses.replace(NOTHING, reverse=True))
    reversed_ones = 0
    for k in range(40):
        plain, shown = (ClipSource([recording], 60, 8, NOTHING).draw([k]), source.draw([k]))
        backwards = bool((plain.frames != shown.frames).any())
        step = -1 if backwards else 1
        assert (plain.frames[::step] == shown.frames).all()
        assert (plain.bvp[::step] == shown.bvp).all()
        reversed_ones += backwards
    assert 10 <= reversed_ones <= 30


def test_switched_off_changes_nothing() -> None:
    recording = numbered(200, 60.0)
    for k in range(5):
        plain, off = (ClipSource([recording], 60, 8, augment).draw([k]) for augment in (None, NOTHING))
        assert (plain.frames == off.frames).all()
        assert (plain.bvp == off.bvp).all()


def test_brightening_does_not_burn_out() -> None:
    bright: Frame = np.full((16, 16, 3), (240, 200, 180), np.uint8)
    for seed in range(50):
        look = draw_look(np.random.default_rng(seed), AugmentConfig(colour_gain=0.5), bright)
        assert show(bright, look, 16).max() <= 250.5


def test_a_look_is_an_area_average_of_its_square() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = show(frame, Look(), 16)
    assert whole == pytest.approx(frame.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)), abs=0.01)
    corner = show(frame, Look(side=0.5, left=1.0, top=0.0), 32)
    assert (corner == frame[:32, 32:]).all()
    assert (show(frame, Look(flip=True), 64) == frame[:, ::-1]).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"erase_p": 1.5}, "erase_p"),
        ({"erase_side": (0.3, 0.1)}, "erase_side"),
        ({"erase_tubes": (0, 2)}, "erase_tubes"),
        ({"erase_fill": "red"}, "grey, mean"),
        ({"fast_below_bpm": 95.0}, "fast_below_bpm"),
        ({"crop_least": 0.1}, "crop_least"),
        ({"colour_gain": -1.0}, "colour_gain"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AugmentConfig(**wrong)
