"""Outputs of ``autohr live`` while it runs: a signal, a kill, a full disk and a reader that leaves cost no reading.

The command runs in a process of its own, with a drawn face that plays at its own speed, and real signals.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autohr.errors import VideoError
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.live import record as live_record
from autohr.live.session import LiveConfig, LiveSession
from autohr.meter import MeterConfig
from autohr.reports.live_outputs import LINES_SCHEMA, LiveFiles
from autohr.reports.readings import CSV_COLUMNS
from autohr.video import decode
from autohr.video.decode import open_video
from made import run
from test_meter import Knows, video

unix = pytest.mark.skipif(os.name != "posix", reason="ends processes by signal")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face of 25 s: readings are left to come for a while after the second one."""
    path = tmp_path_factory.mktemp("long") / "face.mp4"
    scene = SceneConfig(seed=5, duration_s=25, fps=15, width=240, height=180, hr_bpm=72, pulse_depth=0.025)
    write_scene(scene, path, crf=12)
    return path


@pytest.fixture
def start(face: Path, tmp_path: Path) -> Iterator[Start]:
    """Start ``autohr live`` of the face at its own speed, with CSV and JSON in ``tmp_path``."""
    begun: list[subprocess.Popen[str]] = []

    def command(*words: object, table: object = "live.csv", json_out: object = "live.json") -> subprocess.Popen[str]:
        outs = ("--csv", str(table), "--json", str(json_out))
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "autohr", "live", "--camera", str(face), "--method", "green", *outs]
                + [str(word) for word in words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                cwd=tmp_path,
            )
        )
        return begun[-1]

    yield command
    for process in begun:
        process.kill()
        process.communicate()


def rows_of(table: Path) -> list[list[str]]:
    return list(csv.reader(table.read_text().splitlines())) if table.exists() else []


def wait_for_rows(table: Path, n_rows: int = 2) -> None:
    deadline_s = time.monotonic() + 60
    while len(rows_of(table)) < 1 + n_rows:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@unix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_both_outputs_whole(start: Start, tmp_path: Path, name: str) -> None:
    table = tmp_path / "live.csv"
    process = start()
    wait_for_rows(table)
    assert process.poll() is None and not (tmp_path / "live.json").exists(), "rows come while it runs"
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == (0 if name == "SIGINT" else 128 + getattr(signal, name)), err
    assert "heart rate" in out and "Traceback" not in err
    result = json.loads((tmp_path / "live.json").read_text())
    windows = [window for one in result["faces"] for window in one["windows"]]
    rows = rows_of(table)[1:]
    assert len(rows) == len(windows) >= 2
    assert [float(row[3]) for row in rows] == pytest.approx([window["end_s"] for window in windows], abs=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"live.csv", "live.json"}


@unix
@pytest.mark.slow
def test_a_kill_leaves_the_readings_until_then(start: Start, tmp_path: Path) -> None:
    table = tmp_path / "live.csv"
    process = start()
    wait_for_rows(table)
    process.kill()
    process.communicate()
    rows = rows_of(table)
    assert {len(row) for row in rows} == {len(rows[0])} and tuple(rows[0]) == CSV_COLUMNS
    (kept,) = tmp_path.glob(".live.json.*.live.jsonl")
    header, *lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert header["schema"] == LINES_SCHEMA and header["method"] == "green"
    assert len(lines) >= len(rows) - 1
    assert f"{lines[0]['estimate']['hr_bpm']:.2f}" == rows[1][4]


@unix
@pytest.mark.slow
@pytest.mark.parametrize("bad", ["csv", "json"])
def test_an_output_that_fails_costs_not_the_other(start: Start, tmp_path: Path, bad: str) -> None:
    full = {"table" if bad == "csv" else "json_out": "/dev/full"}
    process = start("--fast", **full)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "/dev/full" in err and "heart rate" in out and "Traceback" not in err
    if bad == "csv":
        assert json.loads((tmp_path / "live.json").read_text())["faces"]
    else:
        assert len(rows_of(tmp_path / "live.csv")) > 1


@unix
@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_session_and_costs_no_file(start: Start, tmp_path: Path) -> None:
    process = start(table="-")
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("path,")
    process.stdout.close()
    assert process.wait(60) != 0
    assert json.loads((tmp_path / "live.json").read_text())["duration_s"] < 20


@pytest.mark.slow
@pytest.mark.parametrize("bug", [False, True])
def test_a_camera_that_breaks_costs_nothing_of_before(
    face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: bool
) -> None:
    class Breaking:
        def __init__(self, source: str, **options: Any) -> None:
            self.video = open_video(source, **options)
            self.notes: tuple[str, ...] = ()

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            self.video.close()

        def __iter__(self) -> Iterator[Any]:
            yield from itertools.islice(self.video, 180)
            raise ZeroDivisionError("ours") if bug else VideoError("The camera went away.")

    monkeypatch.setattr(decode, "open_video", Breaking)
    table, out = tmp_path / "live.csv", tmp_path / "live.json"
    words = ("live", "--camera", face, "--fast", "--method", "green", "--csv", table, "--json", out)
    if bug:
        with pytest.raises(ZeroDivisionError):
            run(capsys, *words)
    else:
        code, text, err = run(capsys, *words)
        assert code == 1 and "heart rate" in text and err.splitlines()[-1] == "autohr: The camera went away."
    windows = json.loads(out.read_text())["faces"][0]["windows"]
    assert len(windows) == len(rows_of(table)) - 1 >= 2


def test_readings_that_memory_lets_go_of_are_in_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(live_record, "MAX_READINGS", 2)
    monkeypatch.setattr(live_record, "MAX_WAVES", 2)
    out = tmp_path / "out.json"
    files = LiveFiles(
        json_out=out, csv_out=tmp_path / "out.csv", source="camera", method="green", weights=None, started_at="t"
    )
    config = LiveConfig(meter=MeterConfig(window_s=5, stride_s=1))
    with LiveSession("green", config, Knows(), files.add) as session:
        for frame, t_s in video(9.5, 15):
            session.take(frame, t_s)
        assert (tmp_path / ".out.json.t.live.jsonl").exists()
        result = session.close(first=files.first)
    assert len(result.faces[0].windows) == 6 and not any("are gone" in note for note in result.notes)
    assert files.finish(result) == ([], None)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result.as_dict()))
    assert len(rows_of(tmp_path / "out.csv")) == 7
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "out.csv"}
