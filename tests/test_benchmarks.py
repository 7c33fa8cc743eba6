"""The benchmark of speed follows the engine: each of its parts finds what it measures. Nothing here is timed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from autohr.lab.synth.video import SceneConfig, write_scene

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import measure


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed") / "face.mp4"
    write_scene(SceneConfig(seed=3, duration_s=11.0, width=320, height=240, pulse_depth=0.02), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["autohr", "pos"])
def test_every_stage_of_a_method_is_found(video: Path, method: str) -> None:
    name, costs = measure.stage_costs(video, method, None, runs=1)
    assert name == method and [*costs] == [*measure.STAGES]
    is_net = method == "autohr"
    for stage, cost in costs.items():
        needs_crops = stage == "crops" or stage.startswith("net")
        assert (cost is not None and cost > 0) if is_net or not needs_crops else cost is None


@pytest.mark.slow
def test_a_fresh_process_tells_when_its_first_frame_was_decoded_and_its_face_read(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    given = ["measure", str(video), "--method", "pos", "--json", str(out)]
    done = measure.run([sys.executable, "-c", measure.FIRST_FRAME, str(time.monotonic()), *given])
    assert [line.split()[0] for line in done.stderr.splitlines() if line.split()[1:2]][:2] == ["decoded", "read"]
    assert json.loads(out.read_text())["frames"]["read"] == 330
    assert 0 < done.cpu_s and done.peak_mib >= max(mib for _, mib in done.rss_mib) > 0
    assert len(measure.in_tenths(done)) == 10


@pytest.mark.slow
def test_the_long_video_is_the_short_one_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autohr.video.decode import open_video

    monkeypatch.setattr(measure, "SHORT_S", 2.0)
    measure.make_videos(tmp_path / "short.mp4", tmp_path / "long.mp4", 6.0)
    frames = {}
    for name in ("short", "long"):
        with open_video(tmp_path / f"{name}.mp4") as reader:
            frames[name] = list(reader)
        assert not reader.notes and reader.n_repaired == reader.n_dropped == 0
    assert len(frames["long"]) == 180
    for k, frame in enumerate(frames["long"]):
        assert frame.t_s == pytest.approx(k / 30, abs=1e-3)
        assert (frame.rgb == frames["short"][k % 60].rgb).all()


def test_a_wrong_rate_is_no_measurement_of_speed() -> None:
    measure.check_rate(71.0, 72.0, "pos")
    for rate_bpm in (None, float("nan"), 90.0):
        with pytest.raises(SystemExit, match="pos answers"):
            measure.check_rate(rate_bpm, 72.0, "pos")
