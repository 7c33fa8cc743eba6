"""Data sets of synthetic recordings: decided by the seed alone, resumable, read back by their reader."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from autohr.data import DATASETS
from autohr.errors import BadRecording
from autohr.synth import recordings as making
from autohr.synth.face import Identity
from autohr.synth.recordings import HR_BPM, PULSE_DEPTH, plan_recordings, write_recordings
from autohr.synth.video import SceneConfig, truth_path, write_scene
from autohr.video.decode import open_video

TINY: dict[str, Any] = {"duration_s": 1.0, "width": 96, "height": 64}


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
    assert rates_bpm.min() >= HR_BPM[0]
    assert rates_bpm.max() <= HR_BPM[1]
    assert np.histogram(rates_bpm[:, 0], bins=6, range=HR_BPM)[0].min() > 25, "no rate is rare"
    assert 0.3 < (rates_bpm[:, 0] != rates_bpm[:, 1]).mean() < 0.7
    depths = np.array([scene.pulse_depth for scene in scenes])
    assert depths.min() >= PULSE_DEPTH[0]
    assert depths.max() <= PULSE_DEPTH[1]
    fps = np.array([scene.fps for scene in scenes])
    assert 14 < fps.min() < 20
    assert 40 < fps.max() <= 60
    assert ((fps > 23) & (fps <= 30)).mean() > 0.75


@pytest.mark.slow
def test_workers_do_not_change_what_is_made_and_a_second_run_makes_what_is_missing(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    written = write_recordings(
        tmp_path,
        n_subjects=2,
        per_subject=1,
        workers=2,
        progress=lambda done, n_all, _: seen.append((done, n_all)),
        **TINY,
    )
    assert written.n_made == 2
    assert seen == [(1, 2), (2, 2)]
    assert not list(tmp_path.rglob(".tmp*"))
    files = [path for made in written.recordings for path in (made.path, truth_path(made.path))]
    before = [(tmp_path / path).read_bytes() for path in files]

    # As after a kill: the truth of one is missing, of the other half written.
    truth_path(tmp_path / written.recordings[0].path).unlink()
    truth_path(tmp_path / written.recordings[1].path).write_text('{"schema": "autohr')
    assert write_recordings(tmp_path, n_subjects=2, per_subject=1, workers=1, **TINY).n_made == 2
    assert [(tmp_path / path).read_bytes() for path in files] == before
    assert write_recordings(tmp_path, n_subjects=2, per_subject=1, workers=1, **TINY).n_made == 0

    index = json.loads((tmp_path / "dataset.json").read_text())
    assert [entry["video"] for entry in index["recordings"]] == [r.path.as_posix() for r in written.recordings]

    listed = DATASETS["synthetic"](tmp_path)
    assert [recording.id for recording in listed] == [
        "synthetic/subject_000/session_0",
        "synthetic/subject_001/session_0",
    ]
    for recording, plan in zip(listed, written.recordings, strict=True):
        assert recording.reference is not None
        assert recording.reference.bvp is not None
        assert recording.reference.hr_bpm is not None
        with open_video(recording.video) as video:
            times = [frame.t_s for frame in video]
        assert times == pytest.approx(recording.reference.t_s, abs=0.002)
        assert abs(recording.reference.hr_bpm - np.mean(plan.scene.hr_bpm)).max() < 45


def test_a_killed_writer_leaves_no_half_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = write_scene

    def killed(config: SceneConfig, path: Path, **options: Any) -> None:
        real(config, path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "write_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        write_recordings(tmp_path, n_subjects=1, per_subject=1, workers=1, **TINY)
    with pytest.raises(BadRecording, match="no video"):
        DATASETS["synthetic"](tmp_path)
    monkeypatch.setattr(making, "write_scene", real)
    assert write_recordings(tmp_path, n_subjects=1, per_subject=1, workers=1, **TINY).n_made == 1
    assert len(DATASETS["synthetic"](tmp_path)) == 1
    assert not list(tmp_path.rglob(".tmp*"))


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """A killed parent cannot tell its workers; they must notice, or they wait for ever."""
    script = tmp_path / "wait.py"
    script.write_text(
        "import time\n"
        "from autohr.synth.recordings import in_workers\n"
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


def test_counts_that_make_nothing_are_refused(tmp_path: Path) -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"n_subjects": 0},
        {"n_subjects": 1, "per_subject": 0},
        {"n_subjects": 1, "workers": 0},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="must be 1 or more"):
            write_recordings(tmp_path / "out", **wrong)
