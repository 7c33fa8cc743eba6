"""Data sets of synthetic recordings: decided by the seed alone, resumable, read back by their reader."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from autohr.errors import BadRecording
from autohr.lab.datasets import DATASETS
from autohr.lab.synth import recordings as making
from autohr.lab.synth.face import Identity
from autohr.lab.synth.recordings import (
    CODECS,
    FACE_PX,
    HARD,
    HR_BPM,
    PORTRAIT_SHARE,
    PULSE_DEPTH,
    ROOM,
    TEST_EVERY,
    USUAL,
    Conditions,
    Encoding,
    SyntheticRecording,
    plan_recordings,
    usable_portraits,
    write_recordings,
)
from autohr.lab.synth.video import SceneConfig, read_truth, truth_path, write_scene
from autohr.types import Float
from autohr.video.decode import open_video
from made_faces import STATUE, photograph, save_portraits

TINY: dict[str, Any] = {"duration_s": 1.0}


def decoded(path: Path) -> Float:
    """(T, H, W, 3)"""
    with open_video(path) as video:
        return np.stack([frame.rgb for frame in video]).astype(np.float64)


@pytest.fixture
def small_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest of all sizes: these tests are about files."""
    monkeypatch.setattr(making, "FACE_PX", (40.0, 41.0))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photographs of one drawn face, brighter and darker; the last one covered."""
    folder = tmp_path_factory.mktemp("portraits")
    pictures = {f"p{n:02d}": photograph(face_px=48, light=0.5 + 0.05 * n)[0] for n in range(11)}
    drawn = photograph(face_px=48)[1]
    x, y, width, height = (round(v) for v in drawn.box_xywh)
    pictures["p10"][y : y + height, x : x + width] = np.random.default_rng(0).integers(0, 255, (height, width, 3))
    save_portraits(folder, pictures, drawn.mesh_xyz)
    return folder


def test_a_person_keeps_face_and_skin_and_a_larger_set_holds_the_smaller() -> None:
    small, large = plan_recordings(n_subjects=3, seed=4), plan_recordings(n_subjects=20, per_subject=3, seed=4)
    assert set(small) <= set(large)
    identities: dict[str, Identity | None] = {}
    for one in large:
        assert identities.setdefault(one.subject, one.scene.identity) == one.scene.identity
    assert len(set(identities.values())) == 20
    assert plan_recordings(n_subjects=3, seed=5) != small


def test_conditions_vary_over_the_stated_ranges() -> None:
    scenes = [one.scene for one in plan_recordings(n_subjects=150, seed=1)]
    rates_bpm = np.array([scene.hr_bpm for scene in scenes])
    face_px = np.array([scene.height_of_faces for scene in scenes])
    depths = np.array([scene.pulse_depth for scene in scenes])
    room = np.array([scene.height for scene in scenes]) / face_px
    for values, (low, high), margin in (
        *((rates_bpm, HR_BPM, 0), (depths, PULSE_DEPTH, 0), (face_px, FACE_PX, 0), (room, ROOM, 0.05)),
    ):
        assert low - margin <= values.min() <= values.max() <= high + margin
    assert np.histogram(rates_bpm[:, 0], bins=6, range=HR_BPM)[0].min() > 25, "no rate is rare"
    assert np.histogram(np.log(face_px), bins=4, range=tuple(np.log(FACE_PX)))[0].min() > 40
    assert 0.3 < (rates_bpm[:, 0] != rates_bpm[:, 1]).mean() < 0.7
    fps = np.array([scene.fps for scene in scenes])
    assert 14 < fps.min() < 20 and 40 < fps.max() <= 60
    assert ((fps > 23) & (fps <= 30)).mean() > 0.75
    for name in ("flicker_depth", "screen_depth", "auto_exposure", "background_motion", "jitter_s", "drop_share"):
        assert 0.03 < np.mean([getattr(scene, name) > 0 for scene in scenes]) < 0.5, name
    assert 0.4 < np.mean([scene.head.talk > 0 for scene in scenes]) < 0.7
    assert {scene.head.rhythm for scene in scenes if scene.head.rhythm_amplitude} == {"nod", "shake", "rock"}


def test_encodings_have_the_shares_and_qualities_of_the_table() -> None:
    encodings = [one.encoding for one in plan_recordings(n_subjects=400, seed=2)]
    for codec, share, (low, high) in CODECS:
        own = [encoding for encoding in encodings if encoding.codec == codec]
        assert len(own) / len(encodings) == pytest.approx(share, abs=0.06)
        assert low <= min(one.crf for one in own) <= max(one.crf for one in own) <= high
    assert 0.3 < np.mean([encoding.gop is None for encoding in encodings]) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("codec", [row[0] for row in CODECS])
def test_every_codec_writes_a_file_that_can_be_read_and_its_truth(codec: str, tmp_path: Path) -> None:
    crf = next(low for name, _, (low, _) in CODECS if name == codec)
    scene = SceneConfig(duration_s=3, fps=20, width=96, height=72, face_px=48, pulse_depth=0.06, head=STATUE)
    scene = replace(scene, light_drift=0.0)
    one = SyntheticRecording("anna", "session_0", scene, Encoding(codec, crf, "veryfast", 15))
    making._make(tmp_path, one)
    assert making._is_made(tmp_path, one)
    assert {path.name for path in (tmp_path / "anna").iterdir()} == {one.path.name, "session_0.truth.json"}
    encoding = json.loads(truth_path(tmp_path / one.path).read_text())["encoding"]
    assert (encoding["codec"], encoding["gop"]) == (codec, 15)
    (known,) = read_truth(tmp_path / one.path)
    with open_video(tmp_path / one.path) as video:
        frames = list(video)
    assert [frame.t_s for frame in frames] == pytest.approx(known.t_s, abs=0.002)
    x, y, width, height = known.box_xywh.mean(axis=0)
    patch = np.s_[round(y + 0.3 * height) : round(y + 0.7 * height), round(x + 0.25 * width) : round(x + 0.75 * width)]
    green = np.array([frame.rgb[patch][..., 1].mean() for frame in frames])
    waves = [wave - np.polynomial.Polynomial.fit(known.t_s, wave, 3)(known.t_s) for wave in (green, known.bvp)]
    assert np.corrcoef(waves)[0, 1] < -0.8


# --- portraits


def test_covered_faces_are_left_out(portraits: Path) -> None:
    assert [picture.path.stem for picture in usable_portraits(portraits)] == [f"p{number:02d}" for number in range(10)]


def test_most_people_are_portraits_each_as_often_as_another(portraits: Path) -> None:
    planned = plan_recordings(n_subjects=80, per_subject=1, seed=3, portraits=portraits)
    made = [one for one in planned if one.scene.portrait is not None]
    assert len(made) / len(planned) == pytest.approx(PORTRAIT_SHARE, abs=0.12)
    assert len({one.subject for one in made}) == 10
    for one in made:
        assert one.scene.portrait is not None
        assert one.subject == f"portrait_{Path(one.scene.portrait).stem}"
    assert len({one.path for one in planned}) == len(planned), "no recording in the place of another"
    assert any(one.scene.cut_out for one in made) and not all(one.scene.cut_out for one in made)
    assert not any(one.scene.cut_out for one in planned if one.scene.portrait is None)


def test_a_larger_set_holds_the_smaller_with_portraits_too(portraits: Path) -> None:
    small, large = (plan_recordings(n_subjects=n, seed=4, portraits=portraits, split="train") for n in (7, 30))
    assert small == large[: len(small)]


def test_splits_share_no_portrait_and_no_drawn_person(portraits: Path) -> None:
    train, test = (
        [one.scene for one in plan_recordings(n_subjects=40, per_subject=1, seed=5, portraits=portraits, split=split)]
        for split in ("train", "test")
    )
    pictures = [{scene.portrait for scene in scenes} - {None} for scenes in (train, test)]
    assert not pictures[0] & pictures[1]
    assert [len(names) for names in pictures] == [10 - 10 // TEST_EVERY, 10 // TEST_EVERY]
    people = [{scene.identity for scene in scenes if scene.portrait is None} for scenes in (train, test)]
    assert people[0] and people[1] and not people[0] & people[1]
    assert not {scene.seed for scene in train} & {scene.seed for scene in test}
    with pytest.raises(ValueError, match="split='both' is not one of all, train, test"):
        plan_recordings(n_subjects=1, split="both")  # type: ignore[arg-type]


@pytest.mark.slow
def test_recordings_of_portraits_are_written_and_read_back(
    portraits: Path, tmp_path: Path, small_faces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "PORTRAIT_SHARE", 1.0)
    options: dict[str, Any] = {"n_subjects": 2, "per_subject": 2, "portraits": portraits, "split": "test", **TINY}
    written = write_recordings(tmp_path, workers=1, **options)
    assert written.n_made == 4
    listed = DATASETS["synthetic"].list_recordings(tmp_path).recordings
    assert {recording.subject for recording in listed} == {"portrait_p04", "portrait_p09"}
    assert all(recording.reference is not None for recording in listed)
    assert write_recordings(tmp_path, workers=1, **options).n_made == 0


@pytest.mark.slow
def test_workers_do_not_change_what_is_made_and_a_second_run_makes_what_is_missing(tmp_path: Path) -> None:
    # This seed draws small pictures.
    asked: dict[str, Any] = {"n_subjects": 2, "per_subject": 1, "seed": 64, **TINY}
    calls: list[tuple[int, int]] = []
    written = write_recordings(
        tmp_path, workers=2, progress=lambda done, n_all, _: calls.append((done, n_all)), **asked
    )
    assert written.n_made == 2 and calls == [(1, 2), (2, 2)] and not list(tmp_path.rglob(".tmp*"))
    videos = [tmp_path / made.path for made in written.recordings]
    films, truths = [decoded(path) for path in videos], [truth_path(path).read_bytes() for path in videos]

    # As after a kill: the truth of one is missing, of the other half written.
    truth_path(tmp_path / written.recordings[0].path).unlink()
    truth_path(tmp_path / written.recordings[1].path).write_text('{"schema": "autohr')
    assert write_recordings(tmp_path, workers=1, **asked).n_made == 2
    assert [truth_path(path).read_bytes() for path in videos] == truths
    # Not to the bit: x264 at its preset medium codes the same frames a little differently from call to call.
    for path, before in zip(videos, films, strict=True):
        assert np.abs(decoded(path) - before).mean() < 0.5
    assert write_recordings(tmp_path, workers=1, **asked).n_made == 0

    index = json.loads((tmp_path / "dataset.json").read_text())
    assert [entry["video"] for entry in index["recordings"]] == [r.path.as_posix() for r in written.recordings]

    listed = DATASETS["synthetic"].list_recordings(tmp_path).recordings
    assert [recording.id for recording in listed] == [f"synthetic/subject_{k:04d}/session_0" for k in (0, 1)]
    for recording, plan in zip(listed, written.recordings, strict=True):
        reference = recording.read_reference()
        assert reference is not None and reference.bvp is not None and reference.hr_bpm is not None
        with open_video(recording.video) as video:
            times = [frame.t_s for frame in video]
        assert times == pytest.approx(reference.t_s, abs=0.002)
        assert abs(reference.hr_bpm - np.mean(plan.scene.hr_bpm)).max() < 45


def test_a_killed_writer_leaves_no_half_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_faces: None
) -> None:
    real = write_scene

    def killed(config: SceneConfig, path: Path, **options: Any) -> None:
        real(config, path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "write_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        write_recordings(tmp_path, n_subjects=1, per_subject=1, workers=1, **TINY)
    with pytest.raises(BadRecording, match="no video"):
        DATASETS["synthetic"].list_recordings(tmp_path)
    monkeypatch.setattr(making, "write_scene", real)
    assert write_recordings(tmp_path, n_subjects=1, per_subject=1, workers=1, **TINY).n_made == 1
    assert len(DATASETS["synthetic"].list_recordings(tmp_path).recordings) == 1
    assert not list(tmp_path.rglob(".tmp*"))


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """A killed parent cannot tell its workers; they must notice, or they wait for ever."""
    script = tmp_path / "wait.py"
    script.write_text(
        "import time\n"
        "from autohr.workers import in_workers\n"
        "if __name__ == '__main__':\n"
        "    list(in_workers(time.sleep, [600.0, 601.0], 2))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    workers: list[psutil.Process] = []
    try:
        while len(workers) < 3 and parent.poll() is None:  # two, and Python's own tracker of resources
            workers = psutil.Process(parent.pid).children()
            time.sleep(0.1)
    finally:
        parent.kill()
        parent.wait()
    assert len(workers) == 3
    assert not psutil.wait_procs(workers, timeout=60)[1]


@pytest.mark.parametrize("wrong", [{"n_subjects": 0}, {"per_subject": 0}, {"workers": 0}])
def test_counts_that_make_nothing_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        write_recordings(tmp_path / "out", **{"n_subjects": 1, **wrong})


def test_recordings_outlive_a_move_of_the_portraits() -> None:
    scene = SceneConfig()
    here, there, other = (replace(scene, portrait=path) for path in ("/a/033.jpg", "/b/033.jpg", "/a/034.jpg"))
    written = json.loads(json.dumps(asdict(here)))
    assert making._comparable(written) == making._comparable(there)
    assert making._comparable(written) != making._comparable(other)
    assert making._comparable(written) != making._comparable(scene)


def test_hard_recordings_show_more_of_what_is_hard() -> None:
    def shares(conditions: Conditions) -> list[float]:
        scenes = [one.scene for one in plan_recordings(n_subjects=200, per_subject=1, seed=5, conditions=conditions)]
        hard = [(s.head.rhythm_hz, s.head.talk, s.flicker_depth, s.screen_depth, s.fps < 23) for s in scenes]
        return [float(share) for share in np.mean(np.array(hard) > 0, axis=0)]

    usual, hard = shares(USUAL), shares(HARD)
    assert all(more > less for more, less in zip(hard, usual, strict=True)), (usual, hard)
    wanted = [HARD.rhythm, HARD.talk, HARD.flicker, HARD.screen]
    assert hard[:4] == pytest.approx(wanted, abs=0.12)
