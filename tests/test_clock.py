"""Fewer or more frames per second: what is put between, what is left out; frames and reference stay together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.clips import at_clock
from autohr.types import Frame
from autohr.video.pace import clock_change, denser
from test_augment import rendered


@pytest.mark.parametrize(
    ("fps", "change"),
    [(12.0, (2, 1)), (7.5, (3, 1)), (21.9, (2, 1)), (22.0, (1, 1)), (30.0, (1, 1)), (50.0, (1, 2)), (60.0, (1, 2))],
)
def test_the_change_brings_a_video_to_what_a_net_knows(fps: float, change: tuple[int, int]) -> None:
    assert clock_change(fps, 22.0, 33.0) == change
    times, every = change
    assert 22.0 <= fps * times / every <= 44.0
    assert clock_change(fps, 0.0, np.inf) == (1, 1)


def frames(n: int) -> Frame:
    return np.random.default_rng(n).integers(0, 256, (n, 3, 2, 3)).astype(np.uint8)


def test_frames_between_are_faded_and_the_others_stay() -> None:
    given = frames(5)
    out = denser(given, 3)
    assert out.shape == (13, 3, 2, 3) and (out[::3] == given).all()
    assert out[1] == pytest.approx(given[0] * (2 / 3) + given[1] / 3, abs=0.51)


def slower(recording: CachedRecording, every: int) -> CachedRecording:
    names = ("frames", "bvp", "hr_bpm", "found")
    return dataclasses.replace(
        recording, fps=recording.fps / every, **{name: getattr(recording, name)[::every] for name in names}
    )


@pytest.mark.parametrize("every", [2, 3])
def test_a_slow_recording_is_read_as_if_it_were_denser(every: int) -> None:
    slow = slower(rendered(75.0, duration_s=9.0), every)
    dense = at_clock(slow, 22.0, 33.0)
    whole = denser(np.asarray(slow.frames), dense.n_frames // (slow.n_frames - 1))
    assert dense.fps == pytest.approx(slow.fps * round(dense.fps / slow.fps)) and 22 <= dense.fps <= 44
    assert dense.n_frames == len(whole) == len(dense.bvp) == len(dense.hr_bpm) == len(dense.found)
    # Made while they are read: any part is the part of the whole.
    for part in (slice(0, 1), slice(1, 2), slice(3, 20), slice(4, 31, 2), slice(len(whole) - 7, len(whole))):
        assert (dense.frames[part] == whole[part]).all()
    assert (dense.frames[5] == whole[5]).all()
    step = round(dense.fps / slow.fps)
    assert dense.bvp[::step] == pytest.approx(slow.bvp) and dense.hr_bpm[::step] == pytest.approx(slow.hr_bpm)


def test_a_fast_recording_is_thinned_and_a_usual_one_stays() -> None:
    usual = rendered(75.0, duration_s=9.0)
    assert at_clock(usual, 22.0, 33.0) is usual
    thin = at_clock(usual, 5.0, 15.0)
    assert thin.fps == 15.0 and (thin.frames == usual.frames[::2]).all() and (thin.bvp == usual.bvp[::2]).all()
