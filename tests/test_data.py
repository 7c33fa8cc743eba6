"""From recordings to clips: folds, the cache and what it refuses, labels on the frames' clock."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autohr.errors import AutoHRError, BadRecording, SignalTooShort
from autohr.frontend import PAPER_CROP, Crop, CropConfig
from autohr.lab.datasets import DATASETS, cache
from autohr.lab.datasets.cache import (
    CachedRecording,
    Entry,
    Manifest,
    open_cached,
    read_manifest,
)
from autohr.lab.datasets.clips import ClipSource, at_clock
from autohr.lab.datasets.folds import holdout, k_folds, split_subjects
from autohr.lab.datasets.recording import Recording, Reference, file_stem
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth, write_scene
from autohr.lab.train.batches import collate, net_input
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import FaceClip, Float, Frame, Pulse
from autohr.video.decode import VideoFrame, open_video
from autohr.video.detector import Detects
from autohr.video.encode import write_video
from autohr.video.regions import grown
from made import MiddleDetector, in_memory, run

SMALL = CropConfig(size_px=32)
SCENE = SceneConfig(
    seed=11,
    duration_s=7.0,
    width=160,
    height=120,
    fps=20.0,
    face_px=80,
    hr_bpm=84.0,
    hrv=0.02,
    pulse_depth=0.03,
    head=HeadMotion(sway=0.2),
    light_drift=0.0,
)


def prepare(
    recordings: Sequence[Recording],
    root: Path,
    config: CropConfig,
    detector: Detects | None = None,
    **options: Any,
) -> Manifest:
    """With a detector that costs nothing; one test below uses the real one."""
    return cache.prepare(
        recordings,
        root,
        config,
        detector=MiddleDetector() if detector is None else detector,
        **{"workers": 1} | options,
    )


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "clip.mp4"
    write_scene(SCENE, path, crf=3)
    return path


def reference(scene: SceneConfig = SCENE) -> Reference:
    known = truth(scene)
    return Reference(known.t_s, known.bvp, known.hr_bpm)


def recording(video: Path, subject: str = "a", session: str = "1", **changed: Any) -> Recording:
    return dataclasses.replace(Recording("made", subject, session, video, reference()), **changed)


# --- recordings and folds


def test_a_recording_is_named_by_dataset_subject_and_session() -> None:
    assert recording(Path("x.mp4"), "s7", "2").id == "made/s7/2"


def test_a_reference_must_have_a_clock_and_something_to_say() -> None:
    t_s = np.arange(5.0)
    with pytest.raises(BadRecording, match="increasing"):
        Reference(t_s[::-1], t_s, None)
    with pytest.raises(BadRecording, match="one value for each time"):
        Reference(t_s, t_s[:4], None)
    with pytest.raises(BadRecording, match="neither"):
        Reference(t_s, None, None)


def test_folds_share_no_subject_and_hold_equally_many_recordings() -> None:
    subjects = [f"p{i}" for i in range(23) for _ in range(1 + i % 4)]
    folds = split_subjects(subjects, 5, seed=3)
    assert sorted(name for fold in folds for name in fold) == sorted(set(subjects))
    loads = [sum(name in fold for name in subjects) for fold in folds]
    assert max(loads) - min(loads) <= 1
    assert split_subjects(reversed(subjects), 5, seed=3) == folds, "the order given does not matter"
    assert split_subjects(subjects, 5, seed=4) != folds
    with pytest.raises(ValueError, match="number of subjects, 23"):
        split_subjects(subjects, 24)


def test_folds_and_holdout_of_recordings() -> None:
    recordings = [recording(Path("x.mp4"), f"p{i}", str(j)) for i in range(10) for j in range(3)]
    # A namesake in another data set is another person.
    recordings += [dataclasses.replace(one, dataset="other") for one in recordings[:6]]
    for train, val in [*k_folds(recordings, 4), holdout(recordings, 0.25, seed=1)]:
        assert len(train) + len(val) == len(recordings)
        people = [{(one.dataset, one.subject) for one in part} for part in (train, val)]
        assert not people[0] & people[1]
        assert len(people[1]) == 3
    assert holdout(recordings, 0.25, seed=1) == holdout(recordings, 0.25, seed=1)
    assert len(holdout(recordings, 0.01)[1]) == 3, "one subject at least"
    with pytest.raises(ValueError, match="at least 2"):
        holdout(recordings[:3], 0.5)


# --- the cache


def test_every_setting_changes_the_key() -> None:
    configs = [CropConfig(), CropConfig(size_px=64), CropConfig(box="first"), CropConfig(margin=0.2), PAPER_CROP]
    assert len({cache.cache_folder(Path(), config) for config in configs}) == len(configs)


@pytest.mark.slow
def test_the_real_detector_and_a_synthetic_data_set(tmp_path: Path) -> None:
    """Videos and truths in a folder -> reader -> cache -> clips whose colour beats with their label."""
    (tmp_path / "raw" / "anna").mkdir(parents=True)
    write_scene(SCENE, tmp_path / "raw" / "anna" / "first.mp4", crf=3)
    wall = dataclasses.replace(SCENE, kind="wall", pulse_depth=0.0)
    write_scene(wall, tmp_path / "raw" / "anna" / "wall.mp4", crf=3)
    recordings = list(DATASETS["synthetic"].list_recordings(tmp_path / "raw").recordings)
    assert [one.id for one in recordings] == ["synthetic/anna/first", "synthetic/anna/wall"]
    recordings[1] = dataclasses.replace(recordings[1], reference=recordings[0].reference)
    manifest = cache.prepare(recordings, tmp_path / "cache", CropConfig(), workers=1)
    first, no_face = manifest.entries
    assert first.state == "ok"
    assert first.found_share > 0.95
    assert no_face.reason is not None
    assert no_face.reason.startswith("No face in 140 of 140 frames")

    (one,) = open_cached(tmp_path / "cache")
    clip = ClipSource([one], 120, 64).draw([0])
    green = clip.frames[..., 1].mean(axis=(1, 2))
    rate_bpm = estimate_heart_rate(-green, clip.fps).hr_bpm
    assert rate_bpm == pytest.approx(clip.hr_bpm, abs=4)
    assert np.corrcoef(-green, clip.bvp)[0, 1] > 0.7


def test_frames_and_reference_come_on_the_videos_own_clock(scene_file: Path, tmp_path: Path) -> None:
    manifest = prepare([recording(scene_file)], tmp_path, SMALL)
    (entry,) = manifest.entries
    assert (entry.state, entry.fps, entry.n_frames, entry.found_share) == ("ok", 20.0, 140, 1.0)
    (one,) = open_cached(tmp_path, SMALL)
    assert one.frames.shape == (140, 32, 32, 3)
    assert isinstance(one.frames, np.memmap)
    assert not one.frames.flags.writeable
    assert one.bvp == pytest.approx(truth(SCENE).bvp)
    assert one.hr_bpm == pytest.approx(truth(SCENE).hr_bpm)
    green = one.frames[..., 1].mean(axis=(1, 2))
    lags = [float(np.roll(-(green - green.mean()), lag) @ (one.bvp - one.bvp.mean())) for lag in range(-4, 5)]
    assert abs(int(np.argmax(lags)) - 4) <= 1, "more blood, darker green, in the same frame"


def test_an_uneven_clock_shows_the_nearest_frame_and_the_reference_at_that_time(tmp_path: Path) -> None:
    scene = dataclasses.replace(SCENE, jitter_s=0.01, drop_share=0.05)
    path = tmp_path / "uneven.mp4"
    write_scene(scene, path, crf=3)
    known = reference(scene)
    # The sensor's own, faster clock, which ends a second before the video.
    t_s = np.arange(0, 6.0, 1 / 64)
    other = Reference(t_s, np.interp(t_s, known.t_s, np.sin(5 * known.t_s)), None)
    prepare([recording(path, reference=other)], tmp_path, SMALL)
    (one,) = open_cached(tmp_path, SMALL)
    assert one.fps == pytest.approx((len(known.t_s) - 1) / known.t_s[-1], rel=1e-3)
    assert one.n_frames == pytest.approx(6.0 * one.fps, abs=2)
    clock_s = np.arange(one.n_frames) / one.fps
    assert one.bvp == pytest.approx(np.sin(5 * clock_s), abs=0.1)
    assert one.hr_bpm == pytest.approx(np.full(one.n_frames, 60 * 5 / (2 * np.pi)), abs=0.5), "the estimator's"


def blinking(path: Path, lost_s: tuple[float, float], duration_s: float) -> Recording:
    """A face that is blacked out for a while."""
    scene = dataclasses.replace(SCENE, duration_s=duration_s)
    frames = [np.zeros_like(frame) if lost_s[0] <= t_s < lost_s[1] else frame.copy() for frame, t_s in render(scene)]
    write_video(path, frames, fps=scene.fps, crf=10)
    return recording(path, reference=reference(scene))


def test_a_short_loss_is_filled_and_marked(tmp_path: Path) -> None:
    prepare([blinking(tmp_path / "a.mp4", (3.0, 3.5), 7.0)], tmp_path, SMALL)
    (one,) = open_cached(tmp_path, SMALL)
    assert one.n_frames == 140
    lost = np.flatnonzero(~one.found)
    assert 8 <= len(lost) <= 20
    assert one.frames.mean(axis=(1, 2, 3)).min() > 30, "the nearest crop, not black"
    for k in lost:
        assert any((one.frames[k] == one.frames[edge]).all() for edge in (lost[0] - 1, lost[-1] + 1))


def test_a_long_loss_ends_the_segment(tmp_path: Path) -> None:
    manifest = prepare([blinking(tmp_path / "a.mp4", (6.0, 8.0), 14.0)], tmp_path, SMALL)
    before, after = open_cached(tmp_path, SMALL)
    assert (before.segment, after.segment) == (0, 1)
    assert before.n_frames == pytest.approx(120, abs=2)
    assert after.start_s == pytest.approx(8.0, abs=0.5)
    assert after.bvp == pytest.approx(
        np.interp(
            after.start_s + np.arange(after.n_frames) / 20,
            truth(dataclasses.replace(SCENE, duration_s=14.0)).t_s,
            truth(dataclasses.replace(SCENE, duration_s=14.0)).bvp,
        )
    )
    assert "left out" in manifest.entries[0].notes[-1]
    source = ClipSource([before, after], 100, 32)
    for k in range(20):
        assert source.draw([k]).frames.mean(axis=(1, 2, 3)).min() > 30


def test_every_recording_is_accounted_for(scene_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    flat = Reference(np.arange(0, 7, 0.05), np.zeros(140), np.full(140, 70.0))
    late = Reference(np.arange(100, 107, 0.05), np.ones(140), np.full(140, 70.0))
    wrong_rate = dataclasses.replace(reference(), hr_bpm=np.full(140, 130.0))
    short = dataclasses.replace(reference(), t_s=reference().t_s * 0.5)
    manifest = prepare(
        [
            recording(scene_file, "ok"),
            recording(tmp_path / "text.mp4", "text"),
            recording(tmp_path / "gone.mp4", "gone"),
            recording(scene_file, "nothing_known", reference=None),
            recording(scene_file, "flat", reference=flat),
            recording(scene_file, "late", reference=late),
            recording(scene_file, "short", reference=short),
            recording(scene_file, "odd", reference=wrong_rate),
        ],
        tmp_path / "cache",
        SMALL,
        workers=1,
    )
    why = {entry.subject: entry.reason for entry in manifest.entries}
    assert [entry.subject for entry in manifest.kept] == ["ok", "odd"]
    for subject, said in {
        "text": "text.mp4",
        "gone": "no file",
        "nothing_known": "No reference",
        "flat": "flat",
        "late": "look at both clocks",
        "short": "3.5 s",
    }.items():
        reason = why[subject]
        assert reason is not None
        assert said in reason, reason
    assert "130" in manifest.entries[-1].notes[-1]
    assert [one.subject for one in open_cached(tmp_path / "cache", SMALL)] == ["odd", "ok"]
    assert {entry.id for entry in read_manifest(tmp_path / "cache", SMALL).entries} == {
        entry.id for entry in manifest.entries
    }
    assert not list(cache.cache_folder(tmp_path / "cache", SMALL).glob("*text*/frames*"))


def test_a_killed_run_leaves_whole_recordings_and_goes_on(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = MiddleDetector()
    recordings = [recording(scene_file, name) for name in "abc"]
    real = cache._write_segments

    def killed(one: Recording, *rest: Any) -> Any:
        segments = real(one, *rest)
        if one.subject == "b":
            raise KeyboardInterrupt
        return segments

    monkeypatch.setattr(cache, "_write_segments", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(recordings, tmp_path, SMALL, detector)
    assert [one.subject for one in open_cached(tmp_path, SMALL)] == ["a"]
    monkeypatch.setattr(cache, "_write_segments", real)

    asked = detector.n_asked
    seen: list[str] = []

    def progress(done: int, n_all: int, entry: Entry) -> None:
        assert (done, n_all) == (len(seen) + 1, 3)
        seen.append(entry.subject)

    prepare(recordings, tmp_path, SMALL, detector, progress=progress)
    assert seen == ["a", "b", "c"]
    assert detector.n_asked > asked
    assert [one.subject for one in open_cached(tmp_path, SMALL)] == ["a", "b", "c"]
    assert not list(tmp_path.rglob(".tmp*"))

    asked = detector.n_asked
    prepare(recordings, tmp_path, SMALL, detector)
    assert detector.n_asked == asked, "nothing is made twice"
    # A label that has changed since is made again.
    recordings[1] = dataclasses.replace(recordings[1], reference=dataclasses.replace(reference(), hr_bpm=None))
    prepare(recordings, tmp_path, SMALL, detector)
    assert detector.n_asked > asked
    assert len(open_cached(tmp_path, SMALL)) == 3


@pytest.mark.slow
def test_a_second_prepare_into_the_same_cache_works_beside_the_first(scene_file: Path, tmp_path: Path) -> None:
    def meanwhile(*_: object) -> None:
        assert len(prepare([recording(scene_file, name) for name in "ab"], tmp_path, SMALL).kept) == 2

    assert len(prepare([recording(scene_file)], tmp_path, SMALL, progress=meanwhile).kept) == 1
    assert [one.subject for one in open_cached(tmp_path, SMALL)] == ["a", "b"]


def test_two_workers_make_the_same(scene_file: Path, tmp_path: Path) -> None:
    recordings = [recording(scene_file, name) for name in "ab"]
    alone = prepare(recordings[:1], tmp_path / "one", SMALL)
    both = prepare(recordings, tmp_path / "two", SMALL, workers=2)
    assert both.entries[0] == alone.entries[0]
    (one,) = open_cached(tmp_path / "one", SMALL)
    for two in open_cached(tmp_path / "two", SMALL):
        assert (two.frames == one.frames).all()


def test_the_papers_box_is_enlarged_and_cut_at_the_border() -> None:
    frame: Frame = np.zeros((100, 200, 3), np.uint8)
    assert grown(np.array([80.0, 30, 40, 40]), 0.25, frame) == pytest.approx([70, 20, 60, 60])
    assert grown(np.array([0.0, 60, 40, 40]), 0.25, frame) == pytest.approx([0, 50, 50, 50])


def test_what_cannot_be_prepared_or_opened_is_said(scene_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unique"):
        prepare([recording(scene_file), recording(scene_file)], tmp_path, SMALL)
    with pytest.raises(ValueError, match="workers=0"):
        prepare([recording(scene_file)], tmp_path, SMALL, workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoHRError, match="cannot be written"):
        prepare([recording(scene_file)], tmp_path / "file", SMALL)
    prepare([recording(scene_file)], tmp_path, SMALL)
    with pytest.raises(BadRecording, match="size_px=32"):
        open_cached(tmp_path, CropConfig(size_px=64))
    frames = next(tmp_path.rglob("frames_0.npy"))
    frames.write_bytes(frames.read_bytes()[:1000])
    with pytest.raises(BadRecording, match="damaged"):
        open_cached(tmp_path, SMALL)


def lost_for_a_while(folder: Path) -> Recording:
    return blinking(folder / "a.mp4", (3.0, 3.5), 7.0)


def of_two_sizes() -> Iterator[VideoFrame]:
    for index, (rgb, t_s) in enumerate(render(dataclasses.replace(SCENE, duration_s=14.0))):
        if t_s >= 7:
            rgb = np.pad(rgb, ((0, 20), (0, 40), (0, 0)))
        yield VideoFrame(rgb=rgb, t_s=t_s, index=index, repaired=False, whole=index % 12 == 0)


def resized(folder: Path) -> Recording:
    """A camera that changes the size of its picture: another scene."""
    label = reference(dataclasses.replace(SCENE, duration_s=14.0))
    return recording(folder / "none", reference=label, open_frames=of_two_sizes)


@pytest.mark.parametrize(("make", "n_segments"), [(lost_for_a_while, 1), (resized, 2)])
@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(PAPER_CROP, size_px=32)], ids=["tracked", "first"])
def test_training_and_measuring_give_a_net_the_very_same_pixels(
    tmp_path: Path, config: CropConfig, make: Callable[[Path], Recording], n_segments: int
) -> None:
    """A recording through prepare and its clips, and the same frames through a meter: pixels, colours, boxes, marks."""
    one = make(tmp_path)
    prepare([one], tmp_path / "cache", config)
    segments = open_cached(tmp_path / "cache", config)
    assert len(segments) == n_segments
    given: list[FaceClip] = []

    def wave(clip: FaceClip) -> Pulse:
        given.append(clip)
        return Pulse(bvp=clip.rgb[:, 1] - clip.rgb[:, 1].mean(), fps=clip.fps)

    method = dataclasses.replace(METHODS["green"], wave=wave, crop=Crop(32, 24, config.box, config.margin))
    meter = Meter(method, MeterConfig(window_s=5.0, stride_s=0.5), detector=MiddleDetector())
    for frame in one.open_frames() if one.open_frames else open_video(one.video):
        meter.push(frame.rgb, frame.t_s, whole=frame.whole)
    meter.finish()
    trained = ClipSource(segments, n_frames=100, size_px=24, stride=10)
    assert len(given) == trained.n_windows == 5 * n_segments
    for k, clip in enumerate(given):
        cached = segments[k // 5]
        mine = cached.face_clip(round((clip.start_s - cached.start_s) * cached.fps), clip.n_frames, crop=24)
        assert (mine.fps, mine.start_s) == pytest.approx((clip.fps, clip.start_s))
        for name in ("rgb", "traces", "background_rgb", "box_xywh"):
            assert getattr(mine, name) == pytest.approx(getattr(clip, name), abs=2e-5, nan_ok=True), name
        assert clip.whole is not None and mine.whole is not None and mine.clip is not None and clip.clip is not None
        assert (mine.found == clip.found).all() and (mine.whole == clip.whole).all() and mine.whole.any()
        assert mine.found.all() == (make is resized)
        assert (mine.clip == clip.clip).all() and (trained.window(k).frames == clip.clip).all()
        fed = net_input(collate([trained.window(k)]).frames, torch.device("cpu"))
        np.testing.assert_allclose(fed.numpy(), clip.as_net_input(), atol=1e-7)
    assert cached.face_clip(0, 100).clip is None


def test_a_face_clip_outside_its_segment_is_refused(scene_file: Path, tmp_path: Path) -> None:
    prepare([recording(scene_file)], tmp_path, SMALL)
    (one,) = open_cached(tmp_path, SMALL)
    for first, n_frames in ((-1, 100), (0, 141), (100, 41), (0, 1)):
        with pytest.raises(ValueError, match="140 frames"):
            one.face_clip(first, n_frames)
    with pytest.raises(ValueError, match="cache alone"):
        at_clock(one, 5, 10).face_clip(0, 20)


def shifted_times(n_frames: int) -> Float:
    """A camera whose frames come at 16 a second, though the file says 20."""
    return 2.0 + np.arange(n_frames) / 16


@pytest.mark.parametrize(
    ("n_times", "state", "said"),
    [
        (140, "ok", None),
        (142, "ok", "142 times, its video 140 frames"),
        (138, "ok", "138 times, its video 140 frames"),
        (143, "excluded", "143 times"),
        (100, "excluded", "100 times"),
    ],
)
def test_a_frame_clock_beside_the_video(
    scene_file: Path, tmp_path: Path, n_times: int, state: str, said: str | None
) -> None:
    t_s = shifted_times(n_times)
    label = Reference(np.arange(0, 12, 0.05), np.sin(np.arange(0, 12, 0.05) * 8), None)
    one = recording(scene_file, reference=label, frame_times_s=functools.partial(shifted_times, n_times))
    (entry,) = prepare([one], tmp_path, SMALL).entries
    assert entry.state == state
    assert said is None or said in str(entry.reason if state == "excluded" else entry.notes)
    if state == "ok":
        assert entry.fps == pytest.approx(16)
        assert entry.checks.fps_nominal == pytest.approx(20)
        (cached,) = open_cached(tmp_path, SMALL)
        assert cached.n_frames == min(140, n_times)
        assert cached.start_s == pytest.approx(t_s[0])
        assert cached.bvp == pytest.approx(np.sin(8 * t_s[: cached.n_frames]), abs=0.03)
    else:
        assert entry.damaged


def test_only_the_span_is_used_and_keeps_the_videos_clock(scene_file: Path, tmp_path: Path) -> None:
    whole, part, beyond = prepare(
        [
            recording(scene_file, "whole"),
            recording(scene_file, "part", span=(20, 130)),
            recording(scene_file, "beyond", span=(30, 200)),
        ],
        tmp_path,
        SMALL,
    ).entries
    assert part.n_frames == 110
    assert part.duration_s == pytest.approx(109 / 20)
    cached = {one.subject: one for one in open_cached(tmp_path, SMALL)}
    assert cached["part"].start_s == pytest.approx(1.0)
    assert cached["part"].bvp == pytest.approx(cached["whole"].bvp[20:130])
    assert beyond.checks.frames_missing == 60 and "200" in str(beyond.notes)
    assert len({whole.checks.digest, part.checks.digest, beyond.checks.digest}) == 3


def stored_frames(path: Path) -> Iterator[VideoFrame]:
    with np.load(path) as held:
        for index, rgb in enumerate(held["rgb"]):
            yield VideoFrame(rgb=rgb, t_s=index / 20, index=index, repaired=False, whole=True)


def test_frames_that_lie_in_no_video_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", rgb=np.stack([frame for frame, _ in render(SCENE)]))
    read = functools.partial(stored_frames, tmp_path / "frames.npz")
    (entry,) = prepare([recording(tmp_path / "frames.npz", open_frames=read)], tmp_path / "cache", SMALL).entries
    assert (entry.state, entry.n_frames) == ("ok", 140)
    assert entry.fps == pytest.approx(20)
    (one,) = open_cached(tmp_path / "cache", SMALL)
    assert one.face_clip(0, 100).whole is not None


def lost_label() -> Reference:
    raise BadRecording("label.csv, line 3: 'x' is not a number.")


def test_a_label_that_cannot_be_read_excludes_its_recording_alone(scene_file: Path, tmp_path: Path) -> None:
    bad = recording(scene_file, "bad", reference=lost_label)
    late = recording(scene_file, "late", reference=functools.partial(reference, SCENE))
    first, second = prepare([bad, late], tmp_path, SMALL).entries
    assert (first.state, first.damaged) == ("excluded", True)
    assert first.reason is not None and "line 3" in first.reason
    assert second.state == "ok"


def test_what_the_reader_says_is_kept_and_renewed_without_work(scene_file: Path, tmp_path: Path) -> None:
    one = recording(scene_file, groups={"light": "dark"}, fold=2, notes=("A second take.",))
    detector = MiddleDetector()
    prepare([one], tmp_path, SMALL, detector)
    (cached,) = open_cached(tmp_path, SMALL)
    assert (dict(cached.groups), cached.fold, cached.notes) == ({"light": "dark"}, 2, ("A second take.",))
    asked = detector.n_asked
    told = dataclasses.replace(one, groups={"light": "bright"}, fold=3, notes=())
    (entry,) = prepare([told], tmp_path, SMALL, detector).entries
    (cached,) = open_cached(tmp_path, SMALL)
    assert (dict(cached.groups), cached.fold, cached.notes) == ({"light": "bright"}, 3, ())
    assert entry.groups == {"light": "bright"}
    assert detector.n_asked == asked


# --- clips


def pulsing(n_frames: int = 300, fps: float = 30.0, subject: str = "a", bvp: Float | None = None) -> CachedRecording:
    rng = np.random.default_rng(len(subject) + n_frames)
    pulse = simulate_pulse(n_frames / fps, fps, 80.0, hrv=0.05, seed=n_frames)
    return in_memory(
        rng.integers(0, 256, (n_frames, 8, 8, 3)).astype(np.uint8),
        40 + 7 * pulse.bvp if bvp is None else bvp,
        pulse.hr_bpm,
        fps,
        f"made/{subject}/1",
    )


@pytest.fixture
def source() -> Iterator[ClipSource]:
    yield ClipSource([pulsing(300, 30.0, "a"), pulsing(210, 25.0, "bb"), pulsing(90, 30.0, "ccc")], 100, 8)


def test_a_draw_is_decided_by_its_seed(source: ClipSource) -> None:
    first, again = source.draw([1, 2, 3]), source.draw([1, 2, 3])
    assert (first.frames == again.frames).all()
    assert (first.bvp == again.bvp).all()
    drawn = [source.draw([0, k]) for k in range(60)]
    assert {clip.recording_id for clip in drawn} == {"made/a/1", "made/bb/1"}
    assert {clip.fps for clip in drawn} == {30.0, 25.0}
    assert len({round(clip.hr_bpm, 6) for clip in drawn}) > 40


def test_labels_are_cut_with_their_frames(source: ClipSource) -> None:
    by_id = {one.recording_id: one for one in source.recordings}
    for k in range(10):
        clip = source.draw([k])
        one = by_id[clip.recording_id]
        start = next(i for i in range(one.n_frames) if (one.frames[i] == clip.frames[0]).all())
        assert (one.frames[start : start + 100] == clip.frames).all()
        assert clip.hr_bpm == pytest.approx(one.hr_bpm[start : start + 100].mean())
        assert clip.bvp.mean() == pytest.approx(0, abs=1e-9)
        assert clip.bvp.std() == pytest.approx(1)
        assert np.corrcoef(clip.bvp, one.bvp[start : start + 100])[0, 1] > 0.9


def test_windows_lie_side_by_side(source: ClipSource) -> None:
    assert len(source) == 2
    assert source.n_windows == 5
    assert list(source.left_out) == ["made/ccc/1 (segment 0)"]
    clips = list(source.windows())
    assert [clip.recording_id for clip in clips] == ["made/a/1"] * 3 + ["made/bb/1"] * 2
    assert (clips[1].frames == source.recordings[0].frames[100:200]).all()
    assert (source.window(4).frames == source.recordings[1].frames[100:200]).all()
    assert ClipSource(source.recordings, 100, 8, stride=50).n_windows == 5 + 3
    with pytest.raises(IndexError):
        source.window(5)


def test_recordings_that_cannot_teach_are_refused() -> None:
    with pytest.raises(SignalTooShort, match="longest has 90"):
        ClipSource([pulsing(90)], 100, 8)
    mute = pulsing(300, bvp=np.full(300, np.nan))
    with pytest.raises(ValueError, match="no pulse wave"):
        ClipSource([mute], 100, 8)
    clip = ClipSource([mute], 100, 8, needs_bvp=False).draw([0])
    assert np.isnan(clip.bvp).all()
    assert np.isfinite(clip.hr_bpm)


def test_a_cached_recording_pickles_by_its_path(scene_file: Path, tmp_path: Path) -> None:
    prepare([recording(scene_file)], tmp_path, SMALL)
    (one,) = open_cached(tmp_path, SMALL)
    packed = pickle.dumps(one)
    assert len(packed) < one.frames.nbytes / 20
    assert (pickle.loads(packed).frames == one.frames).all()


def test_a_full_disk_is_noticed_before_an_array_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write into a mapped file without room on the disk would end the process by a signal."""

    def refuse(number: int) -> None:
        def reserve(*_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", reserve, raising=False)

    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        cache._new_array(tmp_path / "a.npy", np.dtype(np.uint8), (4, 2))
    # A file system that cannot reserve.
    refuse(errno.EINVAL)
    assert cache._new_array(tmp_path / "b.npy", np.dtype(np.uint8), (4, 2)).shape == (4, 2)


def test_names_that_are_no_utf_8_have_folders_of_their_own(scene_file: Path, tmp_path: Path) -> None:
    one, other = (file_stem(f"folder/caf{mark}/x") for mark in ("\udce9", "\udce8"))
    assert one != other and one.isascii()
    entry = prepare([recording(scene_file, subject="caf\udce9")], tmp_path, SMALL).entries[0]
    assert entry.state == "ok" and [found.subject for found in open_cached(tmp_path, SMALL)] == ["caf\udce9"]


# --- damage


@pytest.fixture(scope="module")
def stored(scene_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of one recording, to be copied and damaged."""
    root = tmp_path_factory.mktemp("stored")
    prepare([recording(scene_file)], root, SMALL)
    return root


def damaged(stored: Path, to: Path, array: str, damage: Callable[[bytearray], object]) -> Path:
    root = to / "cache"
    shutil.copytree(stored, root)
    file = next(root.rglob(array))
    content = bytearray(file.read_bytes())
    damage(content)
    file.write_bytes(content)
    return root


def flip_a_bit(content: bytearray) -> None:
    content[len(content) // 2] ^= 4


def cut(content: bytearray) -> None:
    del content[len(content) * 3 // 4 :]


def empty(content: bytearray) -> None:
    content.clear()


def shorten(content: bytearray) -> None:
    content[:] = content.replace(b"140", b"139", 1)


def retype(content: bytearray) -> None:
    content[:] = content.replace(b"|u1", b"|i1").replace(b"<f4", b"<i4").replace(b"<f8", b"<i8")


def strip_checksums(root: Path) -> None:
    """Make a cache look as it did before there were checksums."""
    for file in root.rglob("recording.json"):
        content = json.loads(file.read_text())
        del content["entry"]["checksums"]
        file.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty, shorten, retype], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("array", ["frames_0.npy", "colours_0.npy", "labels_0.npz"])
def test_a_damaged_array_is_refused_by_verify_and_made_anew_by_prepare(
    stored: Path, scene_file: Path, tmp_path: Path, array: str, damage: Callable[[bytearray], object]
) -> None:
    root = damaged(stored, tmp_path, array, damage)
    with pytest.raises(BadRecording) as refused:
        cache.verify(root, SMALL, read_manifest(root, SMALL).entries)
    assert "made/a/1" in str(refused.value) and array in str(refused.value) and "\n" not in str(refused.value)
    entry = prepare([recording(scene_file)], root, SMALL).entries[0]
    assert entry.made_anew is not None and array in entry.made_anew
    assert prepare([recording(scene_file)], root, SMALL).entries[0].made_anew is None
    for file in stored.rglob("*.np[yz]"):
        assert (root / file.relative_to(stored)).read_bytes() == file.read_bytes()
    assert cache.verify(root, SMALL, read_manifest(root, SMALL).entries).startswith("1 of 1 recordings")


@pytest.mark.parametrize("damage", [cut, empty, shorten, retype], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("array", ["frames_0.npy", "colours_0.npy", "labels_0.npz"])
def test_a_damaged_header_ends_in_one_line_without_checksums_too(
    stored: Path, scene_file: Path, tmp_path: Path, array: str, damage: Callable[[bytearray], object]
) -> None:
    root = damaged(stored, tmp_path, array, damage)
    strip_checksums(root)
    with pytest.raises(BadRecording, match=f"{array}.*autohr prepare") as refused:
        open_cached(root, SMALL)[0].face_clip(0, 100)
    assert "\n" not in str(refused.value)
    entry = prepare([recording(scene_file)], root, SMALL).entries[0]
    assert entry.made_anew is not None and array in entry.made_anew
    assert len(open_cached(root, SMALL)) == 1


def test_no_bit_of_a_header_ends_in_a_traceback(stored: Path, tmp_path: Path) -> None:
    root = damaged(stored, tmp_path, "frames_0.npy", lambda content: None)
    frames, colours = next(root.rglob("frames_0.npy")), next(root.rglob("colours_0.npy"))

    def content() -> tuple[Float, Frame]:
        stored = open_cached(root, SMALL)[0]
        return stored.face_clip(0, 100).rgb, np.array(stored.frames)

    rgb, pixels = content()
    dice = np.random.default_rng(0)
    n_refused = 0
    for file in (frames, colours):
        whole = file.read_bytes()
        for at in dice.integers(0, 128, 80):
            bent = bytearray(whole)
            bent[at] ^= 1 << int(dice.integers(8))
            file.write_bytes(bent)
            try:
                found = content()
            except BadRecording:
                n_refused += 1
                continue
            assert np.array_equal(found[0], rgb) and np.array_equal(found[1], pixels)
        file.write_bytes(whole)
    assert n_refused > 0


def test_a_cache_of_before_checksums_is_read_and_gets_them(stored: Path, scene_file: Path, tmp_path: Path) -> None:
    root = damaged(stored, tmp_path, "frames_0.npy", lambda content: None)
    strip_checksums(root)
    assert len(open_cached(root, SMALL)) == 1
    found = cache.verify(root, SMALL, read_manifest(root, SMALL).entries)
    assert found.startswith("0 of 1 recordings") and "1 cannot be verified, such as made/a/1" in found
    detector = MiddleDetector()
    prepare([recording(scene_file)], root, SMALL, detector, repair=False)
    assert not read_manifest(root, SMALL).entries[0].checksums, "an evaluation does not read the whole cache"
    entry = prepare([recording(scene_file)], root, SMALL, detector).entries[0]
    assert detector.n_asked == 0 and entry.made_anew is None
    assert set(entry.checksums) == {"frames_0.npy", "colours_0.npy", "labels_0.npz"}
    assert cache.verify(root, SMALL, read_manifest(root, SMALL).entries).startswith("1 of 1 recordings")


def test_the_commands_verify_and_repair(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, raw = tmp_path / "cache", tmp_path / "raw"
    raw.mkdir()
    shutil.copy(scene_file, raw / "clip.mp4")
    (raw / "rates.csv").write_text("video,hr_bpm,subject\nclip.mp4,84,anna\n")
    monkeypatch.setattr(cache, "_detector", MiddleDetector)
    make = ("prepare", "folder", raw, "--out", root, "--workers", 1, "--allow-missing")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'net = "physnet"\n[data]\ndatasets = ["folder"]\ncache = "{root}"\nsize_px = 32\n[fit]\nsteps = 2\n'
    )
    evaluate = ("evaluate", "--dataset", "folder", "--root", raw, "--cache", root, "--method", "pos,chrom")
    assert run(capsys, *make)[0] == 0

    _, _, err = run(capsys, *evaluate, "--out", tmp_path / "whole", "--verify")
    assert "1 of 1 recordings" in err
    colours = next(root.rglob("colours_0.npy"))
    content = bytearray(colours.read_bytes())
    flip_a_bit(content)
    colours.write_bytes(content)
    monkeypatch.setattr("autohr.lab.experiments.tables.PROTOCOL_OF", {1: "reference"})
    recipes = ("--recipes", tmp_path, "--set", 'data.datasets=["folder"]')
    (tmp_path / "physnet_paper.toml").write_text(recipe.read_text())
    (tmp_path / "cells.toml").write_text(recipe.read_text().replace("physnet", "autohr"))
    for command in (
        evaluate,
        ("train", recipe),
        ("table", 1, "--make", "--cache", root, "--method", "physnet", *recipes),
        ("compare-cells", "--random", 1, "--recipe", tmp_path / "cells.toml"),
    ):
        code, out, err = run(capsys, *command, "--out", tmp_path / "run", "--verify")
        assert code == 1 and "Traceback" not in err, command
        refusal = err.splitlines()[-1]
        assert "folder/anna/clip" in refusal and "colours_0.npy is damaged" in refusal and "prepare" in refusal
    _, out, _ = run(capsys, *make)
    assert "Made anew folder/anna/clip: colours_0.npy is damaged" in out
    (manifest,) = root.glob("*/folder/manifest.json")
    assert "Made anew: colours_0.npy" in json.loads(manifest.read_text())["recordings"][0]["notes"][-1]
    _, _, err = run(capsys, *evaluate, "--out", tmp_path / "again", "--verify")
    assert "1 of 1 recordings" in err
    code, _, err = run(capsys, "evaluate", tmp_path / "again", "--verify")
    assert code == 2 and "--verify" in err, "a stored evaluation reads no cache"
