"""The command line as a user meets it: good input, bad input, no input. Exit codes, one line each, nothing hanging."""

from __future__ import annotations

import csv
import errno
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import autohr
from autohr.cli.interrupts import Interrupts
from autohr.cli.main import app, main
from autohr.cli.options import completing
from autohr.cli.output import Count, ProgressBar
from autohr.errors import VideoError
from autohr.lab.datasets import DATASETS
from autohr.lab.evaluate.presets import PRESETS
from autohr.lab.nets import make_net
from autohr.lab.nets._checkpoint import save_weights
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, decoys, truth, write_scene
from autohr.methods import DEFAULT_METHOD, METHODS, load_method, shipped_weights
from autohr.reports.readings import CSV_COLUMNS, SUMMARY_COLUMNS
from autohr.types import MEASUREMENT_SCHEMA, FaceMeasurement, Frames, Measurement, Window
from made import run

Command = Callable[..., tuple[int, str, str]]
SCENE = SceneConfig(
    seed=5, duration_s=12, width=320, height=240, hr_bpm=72, pulse_depth=0.025, head=HeadMotion(sway=0.2)
)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn face of 72 bpm, 12 s."""
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    write_scene(SCENE, path, crf=6)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of a face before a noisy camera, 12 s."""
    path = tmp_path_factory.mktemp("photo") / "photo.mp4"
    write_scene(decoys(12.0, seed=3)["still_photo"], path, crf=12)
    return path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call of ``autohr WORDS`` in this process; returns exit code, stdout and stderr."""
    return lambda *words: run(capsys, *words)


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


# -- good input


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.is_net])
def test_a_face_is_measured_and_the_text_says_all(cli: Command, face: Path, method: str) -> None:
    code, out, err = cli("measure", face, "--method", method)
    assert code == 0 and err == ""
    for word in ("heart rate", "reliable", "bpm", "confidence", "12.0 s", "360 read", "Not a medical device", method):
        assert word in out, out


@pytest.mark.slow
def test_json_csv_and_page_tell_the_same(cli: Command, face: Path, tmp_path: Path) -> None:
    table, page = tmp_path / "new" / "out.csv", tmp_path / "out.html"
    code, out, err = cli("measure", face, "--method", "pos", "--json", "-", "--csv", table, "--html", page)
    assert code == 0 and err == ""
    answer = json.loads(out)
    assert answer["schema"] == MEASUREMENT_SCHEMA
    assert set(answer) == {
        *("schema", "path", "method", "method_title", "weights", "duration_s", "fps_mean", "frames", "faces", "notes"),
        "main_face_id",
    }
    assert (answer["method"], answer["method_title"], answer["weights"]) == ("pos", "POS", None)
    assert set(answer["frames"]) == {"read", "face", "repaired", "dropped"}
    (person,) = answer["faces"]
    assert {"id", "hr_bpm", "confidence", "reliable", "snr_db", "why_unreliable", "windows"} <= set(person)
    assert {"bvp", "beats_s", "hrv", "resp_bpm"} <= set(person)
    assert person["hr_bpm"] == pytest.approx(72, abs=2.5) and person["reliable"]
    assert len(person["bvp"]["values"]) == pytest.approx(360, abs=2)
    assert person["hrv"] is None and person["why_no_hrv"]
    assert bool(person["beats_s"]) == (person["why_no_beats"] is None) == (person["beat_error_ms"] is not None)
    # The median, since a beat of POS's wave may be missed.
    if person["beats_s"]:
        assert 60 / np.median(np.diff(person["beats_s"])) == pytest.approx(72, abs=4)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [float(row["hr_bpm"]) for row in rows] == pytest.approx(
        [window["hr_bpm"] for window in person["windows"]], abs=0.01
    )
    HTMLParser().feed(page.read_text())
    assert f"{person['hr_bpm']:.1f}" in page.read_text()


@pytest.mark.slow
def test_python_and_the_command_agree(cli: Command, face: Path) -> None:
    answer = autohr.measure(face, "pos")
    assert isinstance(answer, autohr.Measurement)
    assert callable(autohr.load_method("pos"))
    code, out, _ = cli("measure", face, "--method", "pos", "--json", "-")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(answer.as_dict()))


@pytest.mark.slow
def test_a_part_and_two_people(cli: Command, face: Path, tmp_path: Path) -> None:
    code, out, _ = cli("measure", face, "--start-s", 1, "--end-s", 11.2, "--json", "-")
    answer = json.loads(out)
    assert code == 0 and answer["duration_s"] == pytest.approx(10.2, abs=0.1)
    assert answer["faces"][0]["start_s"] == pytest.approx(1, abs=0.1)

    two = tmp_path / "two.mp4"
    scene = SceneConfig(
        seed=2,
        duration_s=11,
        width=480,
        height=240,
        n_faces=2,
        hr_bpm=60,
        other_hr_bpm=(95.0,),
        head=HeadMotion(sway=0.1),
    )
    write_scene(SceneConfig(**{**scene.__dict__, "pulse_depth": 0.03}), two, crf=4)
    _, out, _ = cli("measure", two, "--max-faces", 2, "--json", "-")
    rates = sorted(person["hr_bpm"] for person in json.loads(out)["faces"])
    assert rates == pytest.approx([60, 95], abs=4)


@pytest.mark.slow
def test_a_photograph_gets_no_reliable_rate(cli: Command, photo: Path) -> None:
    code, out, _ = cli("measure", photo)
    assert code == 0
    assert "NOT reliable" in out and "do not trust" in out


@pytest.mark.slow
def test_a_folder_is_measured_file_by_file(cli: Command, face: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(face.read_bytes())
    (folder / "b.mp4").write_text("no video")
    (folder / "notes.txt").write_text("not looked at")
    code, out, err = cli(
        "measure", folder, "--method", "pos", "--html", tmp_path / "all.html", "--json", tmp_path / "all.json"
    )
    assert code == 1
    left_out, refused = err.strip().splitlines()
    assert "1 .txt ('notes.txt')" in left_out and "b.mp4" in refused
    assert "Measured 1 of 2 files: 1 reliable, 0 not reliable; 1 refused." in out
    good, bad = json.loads((tmp_path / "all.json").read_text())
    assert good["faces"][0]["reliable"] and bad["error"]["kind"] == "VideoError"
    assert "b.mp4" in (tmp_path / "all.html").read_text()


# -- outputs, names and signals, with a measurement that costs nothing


def measured(path: str) -> Measurement:
    window = Window(72.0, 0.9, True, 5.0, start_s=0.0, end_s=10.0)
    face = FaceMeasurement(72.0, 0.9, True, 5.0, id=0, start_s=0.0, end_s=10.0, windows=(window,))
    return Measurement(path, "pos", None, 10.0, 30.0, Frames(300, 300), (face,))


Fake = Callable[..., Measurement]
Quick = Callable[[Fake], None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    """``measure`` replaced by a function of the source; at first one that gives 72 bpm for all but missing files."""

    def replace(fake: Fake) -> None:
        monkeypatch.setattr(sys.modules["autohr.measure"], "measure", fake)

    def always(source: str | int, *_: object, **__: object) -> Measurement:
        if not os.path.exists(str(source)):  # noqa: PTH110 (a name that is too long is missing too)
            raise VideoError(f"There is no file {source!r}.")
        return measured(str(source))

    importlib.import_module("autohr.measure")
    replace(always)
    return replace


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three files in it."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"video")
    monkeypatch.chdir(folder)
    return folder


ODD_NAMES = (b"caf\xe9.mp4", b"esc\x1b[31m.mp4", b"line\nbreak.mp4", b"[red].mp4", "\u202egpj.mp4".encode())
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are no bytes there")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_name_ends_a_batch(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(b"video")
    (folder / "\u5fc3.mp4").write_bytes(b"video")
    (folder / "[").mkdir()
    (folder / "[" / "b].mp4").write_bytes(b"video")
    (folder / os.fsdecode(b"note\xff\x1b[2J.txt")).touch()
    (folder / os.fsdecode(b"gone\xff.mp4")).symlink_to("nowhere")
    outs = [tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    words = ("measure", folder, "--method", "pos", "--json", outs[0], "--csv", outs[1], "--html", outs[2])
    monkeypatch.setattr(sys, "argv", ["autohr", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in flushed(streams))
    assert "Measured 7 of 8 files: 7 reliable, 0 not reliable; 1 refused." in out
    assert not CONTROLS.search(out.replace("\n", "")) and not CONTROLS.search(err.replace("\n", ""))
    assert "caf\\udce9.mp4" in out and "esc\\x1b[31m.mp4" in out and "line\\nbreak.mp4" in out and "[red].mp4" in out
    assert "[/b].mp4" in out
    assert "gone\\udcff.mp4" in err and "note\\udcff" in err

    results = json.loads(outs[0].read_text(encoding="ascii"))
    names = {os.fsencode(Path(one["path"]).name) for one in results}
    assert names == {*ODD_NAMES, "\u5fc3.mp4".encode(), b"gone\xff.mp4", b"b].mp4"}
    rows = list(csv.DictReader(io.StringIO(outs[1].read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 8 and any(row["path"].endswith("caf\\udce9.mp4") for row in rows)
    assert "caf\ufffd.mp4" in outs[2].read_text(encoding="utf-8")


def flushed(streams: Sequence[Any]) -> Sequence[Any]:
    for stream in streams:
        stream.flush()
    return streams


def test_progress_shows_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = [0.0]
    monkeypatch.setattr("autohr.cli.output.time.monotonic", lambda: clock[0])
    with ProgressBar("x/[red]caf\udce9\x1b[31m.mp4") as progress:
        clock[0] = 2.0
        progress(1.0, 10.0)
        assert progress._bar is not None
        assert progress._bar.tasks[0].description == r"\[red]caf\udce9\x1b[31m.mp4"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.skipif(os.name != "posix", reason="stops by signal")
def test_a_stopped_batch_keeps_what_was_measured(cli: Command, quick: Quick, videos: Path, name: str) -> None:
    seen: list[tuple[int, int]] = []

    def fake(source: str, *_: object, **__: object) -> Measurement:
        if source == "b.mp4":
            journal = videos / ".out.json.resume.jsonl"
            seen.append((len(journal.read_text().splitlines()), len((videos / "out.csv").read_text().splitlines())))
            os.kill(os.getpid(), getattr(signal, name))
        return measured(source)

    quick(fake)
    before = signal.getsignal(getattr(signal, name))
    outs = ("--json", "out.json", "--csv", "out.csv", "--html", "out.html")
    code, out, err = cli("measure", "a.mp4", "b.mp4", "c.mp4", "--method", "pos", *outs)
    assert code == 128 + getattr(signal, name)
    assert seen == [(2, 2)], "the first result is saved before the second file is measured"
    assert "after 1 of 3 files" in one_line(err) and "Measured" not in out
    assert [one["path"] for one in json.loads((videos / "out.json").read_text())] == ["a.mp4"]
    assert [row["path"] for row in csv.DictReader((videos / "out.csv").read_text().splitlines())] == ["a.mp4"]
    assert "a.mp4" in (videos / "out.html").read_text()
    assert sorted(path.name for path in videos.iterdir() if path.name.startswith("out")) == [
        *("out.csv", "out.html", "out.json")
    ]
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_stop_before_the_first_result_leaves_old_outputs(cli: Command, quick: Quick, videos: Path) -> None:
    def fake(*_: object, **__: object) -> Measurement:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    quick(fake)
    (videos / "out.json").write_text("old")
    code, _, err = cli("measure", "a.mp4", "--method", "pos", "--json", "out.json")
    assert code == 130 and "Ctrl-C" in one_line(err)
    assert (videos / "out.json").read_text() == "old"


def test_a_signal_while_saving_waits_for_its_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as stops:
        with stops.held():
            signal.raise_signal(signal.SIGINT)
            done.append("saved")
        done.append("went on")
    assert done == ["saved"]
    with pytest.raises(KeyboardInterrupt), Interrupts() as stops, stops.held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("second one waited too")
    assert done == ["saved"]


def test_a_bug_in_one_file_costs_no_other(cli: Command, quick: Quick, videos: Path) -> None:
    def fake(source: str, *_: object, **__: object) -> Measurement:
        if source == "b.mp4":
            raise ZeroDivisionError("ours")
        return measured(source)

    quick(fake)
    code, out, err = cli("measure", ".", "--method", "pos", "--json", "out.json", "--csv", "out.csv")
    assert (
        code == 1
        and "Measured 2 of 3 files: 2 reliable, 0 not reliable; 1 refused." in out
        and "ZeroDivisionError" in err
    )
    kinds = [one.get("error", {}).get("kind") for one in json.loads((videos / "out.json").read_text())]
    assert kinds == [None, "ZeroDivisionError", None]
    with pytest.raises(ZeroDivisionError):
        cli("measure", "b.mp4", "--method", "pos")


full = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")


@full
@pytest.mark.parametrize("bad", ["--json", "--csv", "--html"])
def test_an_output_that_fails_costs_no_other(cli: Command, quick: Quick, videos: Path, bad: str) -> None:
    outs = {"--json": "out.json", "--csv": "out.csv", "--html": "out.html"} | {bad: "/dev/full"}
    words = [word for pair in outs.items() for word in pair]
    code, out, err = cli("measure", "a.mp4", "b.mp4", "--method", "pos", *words)
    assert code == 1 and "Measured 2 of 2 files" in out
    assert "Cannot write '/dev/full': No space left on device" in one_line(err)
    assert sorted(path.name for path in videos.glob("out*")) == sorted(
        name for name in outs.values() if name != "/dev/full"
    )


@pytest.mark.parametrize("step", ["pathlib.Path.replace", "autohr.reports.outputs.textwrap.indent"])
def test_results_of_a_json_that_cannot_be_written_are_kept_for_resume(
    cli: Command, quick: Quick, videos: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The disk may be full at the end of writing, or in the middle."""

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    words = ("measure", "a.mp4", "b.mp4", "--method", "pos", "--json", "out.json")
    with monkeypatch.context() as full_disk:
        full_disk.setattr(step, no_room)
        code, _, err = cli(*words)
    journal = videos / ".out.json.resume.jsonl"
    assert code == 1 and "No space left" in err and repr(journal.name) in one_line(err) and journal.exists()

    def never(*_: object, **__: object) -> Measurement:
        raise AssertionError

    quick(never)
    code, _, err = cli(*words, "--resume")
    assert code == 0 and "2 of 2 files were finished" in one_line(err) and not journal.exists()
    assert [one["path"] for one in json.loads((videos / "out.json").read_text())] == ["a.mp4", "b.mp4"]


def test_a_folder_that_vanishes_is_made_again(cli: Command, quick: Quick, videos: Path) -> None:
    def fake(source: str, *_: object, **__: object) -> Measurement:
        if source == "c.mp4":
            shutil.rmtree("out")
        return measured(source)

    quick(fake)
    outs = ("--json", "out/x.json", "--csv", "out/x.csv", "--html", "out/x.html")
    code, _, err = cli("measure", "a.mp4", "b.mp4", "c.mp4", "--method", "pos", *outs)
    assert (code, err) == (0, "")
    assert [one["path"] for one in json.loads((videos / "out" / "x.json").read_text())] == ["a.mp4", "b.mp4", "c.mp4"]
    assert len((videos / "out" / "x.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("error", "paths"),
    [
        (OSError(28, "No space left on device"), ["a.mp4", "b.mp4"]),
        (BrokenPipeError(32, "Broken pipe"), ["a.mp4"]),
        (SystemExit(1), ["a.mp4"]),  # how rich reports a broken pipe
    ],
    ids=["full", "pipe", "rich"],
)
def test_a_screen_that_is_gone_costs_no_result(
    quick: Quick,
    videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    paths: list[str],
) -> None:
    def gone(_: object) -> None:
        raise error

    monkeypatch.setattr("autohr.cli.output.print_measurement", gone)
    monkeypatch.setattr("autohr.cli.main.drop_output", lambda: None)
    monkeypatch.setattr(sys, "argv", ["autohr", *"measure a.mp4 b.mp4 --method pos --json out.json".split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    # Nobody reads on after a broken pipe: the batch ends, and what was done is kept.
    assert [one["path"] for one in json.loads((videos / "out.json").read_text())] == paths


@pytest.mark.parametrize("option", ["--json", "--csv", "--html"])
def test_no_output_overwrites_a_video(cli: Command, quick: Quick, videos: Path, option: str) -> None:
    (videos / "link").symlink_to("b.mp4")
    (videos / "hard").hardlink_to("a.mp4")
    (videos / "pictures").mkdir()
    for name in ("1.png", "2.png"):
        (videos / "pictures" / name).write_bytes(b"picture")
    for out in ("a.mp4", "./b.mp4", str(videos / "a.mp4"), "link", "hard", "c.mp4", "pictures/1.png"):
        code, _, err = cli("measure", "a.mp4", "b.mp4", "pictures", "--fps", 9, "--method", "pos", option, out)
        assert code == 2 and "would be overwritten" in " ".join(err.replace("│", "").split()), out
    code, _, err = cli("measure", ".", "--method", "pos", option, "b.mp4")
    assert code == 2
    assert {(videos / name).read_bytes() for name in ("a.mp4", "b.mp4", "c.mp4")} == {b"video"}


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "x", "--csv", "./x"),
        ("--json", "-", "--csv", "/dev/stdout"),
        ("--csv", "-", "--html", "-"),
        ("--csv", "a.mp4/x.csv"),
        ("--csv", ""),
        ("--html", "."),
    ],
    ids=" ".join,
)
def test_outputs_that_cannot_be_are_refused_before_the_work(
    cli: Command, quick: Quick, videos: Path, words: tuple[str, ...]
) -> None:
    code, out, err = cli("measure", "a.mp4", "--method", "pos", *words)
    assert code == 2 and out == "" and "Traceback" not in err
    assert sorted(path.name for path in videos.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]


@pytest.mark.parametrize("out", ["y" * 300 + ".json", "new/" + "y" * 300])
def test_a_name_that_is_too_long_costs_no_other_output(cli: Command, quick: Quick, videos: Path, out: str) -> None:
    code, _, err = cli("measure", "a.mp4", "b.mp4", "--method", "pos", "--json", out, "--csv", "out.csv")
    assert code == 1 and "Cannot write" in one_line(err)
    assert len((videos / "out.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs /dev/null")
def test_streams_and_devices_are_outputs(cli: Command, quick: Quick, videos: Path) -> None:
    nowhere = ("--json", "/dev/null", "--csv", "/dev/null", "--html", "/dev/null")
    code, _, err = cli("measure", "a.mp4", "b.mp4", "--method", "pos", *nowhere)
    assert (code, err) == (0, "") and Path("/dev/null").is_char_device()
    for out in ("-", "/dev/stdout"):
        code, said, err = cli("measure", "a.mp4", "b.mp4", "--method", "pos", "--csv", out)
        assert code == 0 and [row["path"] for row in csv.DictReader(said.splitlines())] == ["a.mp4", "b.mp4"]
        code, said, err = cli("measure", "a.mp4", "b.mp4", "--method", "pos", "--json", out)
        assert code == 0 and [one["path"] for one in json.loads(said)] == ["a.mp4", "b.mp4"]
        assert len(said.splitlines()) == 1
    cli("measure", "a.mp4", "b.mp4", "--method", "pos", "--json", "out.json")
    objects = [measured(name).as_dict() for name in ("a.mp4", "b.mp4")]
    assert (videos / "out.json").read_text() == json.dumps(objects, indent=1) + "\n"
    cli("measure", "a.mp4", "--method", "pos", "--json", "out.json")
    assert (videos / "out.json").read_text() == json.dumps(objects[0], indent=1) + "\n"


# -- which files a batch holds


def test_a_folder_is_searched_and_says_what_it_leaves_out(cli: Command, quick: Quick, videos: Path) -> None:
    (videos / "inside").mkdir()
    (videos / "inside" / "v10.3gpp").write_bytes(b"video")
    (videos / "inside" / "v9.f4v").write_bytes(b"video")
    (videos / "inside" / "loop").symlink_to(videos, target_is_directory=True)
    (videos / "also.foo").write_bytes(b"\0\0\0\x18ftypisom")
    for number in range(1, 13):
        (videos / f"n{number}.txt").touch()
    code, _, err = cli("measure", ".", "inside", "a.mp4", "./a.mp4", "--method", "pos", "--json", "o.json")
    paths = ["a.mp4", "b.mp4", "c.mp4", "inside/v9.f4v", "inside/v10.3gpp"]
    assert code == 0 and [one["path"] for one in json.loads((videos / "o.json").read_text())] == paths
    said = err.splitlines()
    names = ", ".join(repr(f"n{number}.txt") for number in range(1, 10))
    assert said[0] == f"autohr: Left out of '.', no video by suffix: 12 .txt, 1 .foo ('also.foo', {names} and 3 more)."
    assert said[1] == "autohr: Left out of '.', but video by content: 'also.foo'; give it by name to measure it."
    assert "Given more than once and measured once: " in said[-1] and "'./a.mp4'" in said[-1]


def test_folders_of_pictures_inside_need_their_rate(cli: Command, quick: Quick, videos: Path) -> None:
    rates: dict[str, float | None] = {}

    def fake(source: str, *_: object, fps: float | None = None, **__: object) -> Measurement:
        rates[source] = fps
        return measured(source)

    quick(fake)
    (videos / "take").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (videos / "take" / name).write_bytes(b"picture")
    code, _, err = cli("measure", ".", "--method", "pos")
    assert code == 0 and list(rates) == ["a.mp4", "b.mp4", "c.mp4"]
    assert one_line(err) == (
        "autohr: Left out of '.', folders of pictures: 'take'; say their rate with --fps to measure them."
    )
    rates.clear()
    code, _, err = cli("measure", ".", "--fps", 25, "--method", "pos")
    assert code == 0 and "keep their own clocks" in one_line(err)
    assert rates == {"a.mp4": None, "b.mp4": None, "c.mp4": None, "take": 25.0}
    rates.clear()
    code, _, err = cli("measure", "a.mp4", "--fps", 25, "--method", "pos")
    assert rates == {"a.mp4": 25.0} and err == ""


def test_pictures_beside_the_folders_of_a_study_make_no_video_of_it(
    cli: Command, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as: list[str] = []

    def fake(source: str, *_: object, **__: object) -> Measurement:
        measured_as.append(source)
        return measured(source)

    quick(fake)
    monkeypatch.chdir(tmp_path)
    names = "thumb.jpg map.png s1/take/1.png s1/take/2.png s2/face.jpg s2/take/1.png s2/take/2.png"
    for name in names.split():
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).write_bytes(b"picture")
    code, _, _ = cli("measure", "study", "--fps", 25, "--method", "pos")
    assert code == 0 and measured_as == ["study/s1/take", "study/s2/take"]
    code, _, err = cli("measure", "study", "--method", "pos")
    assert code == 1 and "folders of pictures: 's1/take', 's2/take'" in err
    code, _, err = cli("measure", "study", "--no-recursive", "--method", "pos")
    assert code == 1 and "not searched, with --no-recursive: 2." in err


def test_a_study_has_a_row_for_each_face_and_refusal(
    cli: Command, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(source: str, *_: object, **__: object) -> Measurement:
        one = measured(source)
        if "s1" in source:
            raise VideoError(f"{source!r} is damaged.")
        face = one.faces[0]
        low = Window(60.0, 0.1, True, 5.0, start_s=0.0, end_s=8.0)
        doubtful = Window(170.0, 0.1, False, -5.0, "too dark", start_s=5.0, end_s=12.0)
        weak = replace(face, id=1, reliable=False, why_unreliable="too dark", windows=())
        faces = (replace(face, windows=(low, *face.windows, doubtful)), weak)
        return replace(one, faces=faces[:1] if "s2" in source else faces[1:] if "s3" in source else faces)

    quick(fake)
    monkeypatch.chdir(tmp_path)
    for name in ("s1", "s2", "s3", "s4"):
        (tmp_path / "study" / name).mkdir(parents=True)
        (tmp_path / "study" / name / "face.mp4").write_bytes(b"video")
    (tmp_path / "study" / "s4" / "loop").symlink_to(tmp_path / "study", target_is_directory=True)
    words = ("measure", "study", "--method", "pos", "--html", "o.html", "--summary-csv")
    code, out, _ = cli(*words, "o.csv")
    assert code == 1 and "Measured 3 of 4 files: 2 reliable, 1 not reliable; 1 refused." in out
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert tuple(rows[0]) == SUMMARY_COLUMNS
    seen = [(row["name"], row["face_id"], row["main_face"], row["reliable"]) for row in rows]
    assert seen == [
        ("s1/face.mp4", "", "true", "false"),
        ("s2/face.mp4", "0", "true", "true"),
        ("s3/face.mp4", "1", "true", "false"),
        ("s4/face.mp4", "0", "true", "true"),
        ("s4/face.mp4", "1", "false", "false"),
    ]
    assert (rows[0]["error_kind"], rows[0]["reason"]) == ("VideoError", "'study/s1/face.mp4' is damaged.")
    assert (rows[1]["lowest_bpm"], rows[1]["highest_bpm"], rows[1]["measured_s"]) == ("60.00", "72.00", "12.000")
    assert (rows[1]["hr_bpm"], rows[1]["confidence"], rows[1]["duration_s"]) == ("72.00", "0.900", "10.000")
    assert rows[2]["reason"] == "too dark" and rows[2]["lowest_bpm"] == ""
    assert "s2/face.mp4" in (tmp_path / "o.html").read_text()
    code, out, _ = cli(*words, "-")
    assert code == 1 and out == (tmp_path / "o.csv").read_text()

    unreliable = ("measure", "study/s3/face.mp4", "--method", "pos")
    assert cli(*unreliable)[0] == 0 and cli(*unreliable, "--fail-unreliable")[0] == 1
    assert cli("measure", "study/s2/face.mp4", "--method", "pos", "--fail-unreliable")[0] == 0


def test_what_is_missing_or_empty_costs_no_other(cli: Command, quick: Quick, videos: Path) -> None:
    (videos / "empty").mkdir()
    (videos / "-dash.mp4").write_bytes(b"video")
    long, home = "y" * 300 + ".mp4", "~nobody-of-this-name.mp4"
    words = ("--method", "pos", "--json", "o.json", "--", "gone.mp4", "empty", long, home, "-dash.mp4", "a.mp4")
    code, out, err = cli("measure", *words)
    assert (
        code == 1
        and "Measured 2 of 6 files: 2 reliable, 0 not reliable; 4 refused." in out
        and len(err.splitlines()) == 4
    )
    kinds = [one.get("error", {}).get("kind") for one in json.loads((videos / "o.json").read_text())]
    assert kinds == ["VideoError"] * 4 + [None, None]


@pytest.mark.parametrize("path", ["", "-"])
def test_no_path_is_wrong_usage(cli: Command, quick: Quick, videos: Path, path: str) -> None:
    for command in (("measure", "--method", "pos", path, "a.mp4"), ("live", "--camera", path)):
        code, out, err = cli(*command)
        assert code == 2 and out == "" and "PATH" in err


def test_errors_of_the_machine_are_one_line_and_others_are_bugs(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_with(error: OSError) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("autohr.methods.default_method", fail)

    for error, says in (
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.EROFS, "Read-only file system", "x.json"), "'x.json'"),
        (PermissionError(errno.EACCES, "Permission denied", "y\x1b.json"), r"'y\x1b.json'"),
    ):
        fails_with(error)
        code, _, err = cli("list", "methods")
        assert code == 1 and says in one_line(err)
    for bug in (
        OSError("no number"),
        FileNotFoundError(errno.ENOENT, "No such file", "ours"),
        OSError(errno.EINVAL, ""),
    ):
        fails_with(bug)
        with pytest.raises(OSError):
            cli("list", "methods")


# -- nets


HEADER = {
    "input": {"size_px": 32, "crop_size_px": 40, "box": "tracked", "margin": 0.1},
    "training_data": {"datasets": ["synthetic"], "n_subjects": 7, "minutes": 12.34567, "fps_to": 30.0},
    "licence": "Apache-2.0",
    "measured_accuracy": {"mae_bpm": 3.21987, "on": "nobody [yet]"},
}


def fresh(path: Path) -> Path:
    """Weights that have learned nothing: what they measure is noise, how they are used is the same."""
    torch.manual_seed(0)
    save_weights(path, make_net("autohr", {"preset": "tiny"}), name="autohr", header=HEADER)
    return path


@pytest.mark.slow
def test_a_net_measures_and_every_output_names_it_and_its_weights(
    cli: Command, face: Path, shelf: Path, tmp_path: Path
) -> None:
    path, table, page = fresh(tmp_path / "mine.safetensors"), tmp_path / "out.csv", tmp_path / "out.html"
    few = ("--stride-s", 5)
    code, out, err = cli("measure", face, "--weights", path, "--csv", table, "--html", page, *few)
    assert code == 0 and err == ""
    # A long path is wrapped.
    assert f"method autohr, weights {path}" in out.replace("\n", "")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows and {(row["method"], row["weights"]) for row in rows} == {("autohr", str(path))}
    assert "autohr (AutoHR)" in page.read_text() and str(path) in page.read_text()

    fresh(shelf / "autohr.safetensors")
    code, out, err = cli("measure", face, "--json", "-", *few)
    answer = json.loads(out)
    assert code == 0 and err == ""
    assert (answer["method"], answer["method_title"], answer["weights"]) == ("autohr", "AutoHR", "autohr")
    assert len(answer["faces"][0]["bvp"]["values"]) == pytest.approx(360, abs=2)
    python = autohr.measure(face, method="autohr", weights=path, stride_s=5, device="cpu")
    assert python.weights == str(path) and python.faces[0].bvp is not None
    np.testing.assert_allclose(python.faces[0].bvp.bvp, answer["faces"][0]["bvp"]["values"], atol=1e-3)


@pytest.mark.slow
def test_without_weights_pos_measures_and_one_line_says_so(cli: Command, face: Path, shelf: Path) -> None:
    code, out, err = cli("measure", face, "--json", "-")
    assert code == 0 and json.loads(out)["method"] == "pos"
    assert "no weights of autohr, so pos measures" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "autohr"], "no weights of autohr"),
        (["--weights", "best"], "this installation has none"),
        (["--weights", "gone.safetensors"], "no weights file 'gone.safetensors'"),
        (["--method", "pos", "--weights", "x.safetensors"], "takes no weights"),
        (["--method", "physnet", "--weights", "FRESH"], "of autohr, not of physnet"),
        (["--box", "first", "--weights", "FRESH"], "trained with box='tracked'"),
        (["--device", "cuda", "--weights", "FRESH"], "'cuda' is not there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_net_cannot_do_is_one_clear_line(
    cli: Command, shelf: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has what the case must not find")
    if "FRESH" in arguments:
        fresh(tmp_path / "mine.safetensors")
    given = [str(tmp_path / "mine.safetensors") if word == "FRESH" else word for word in arguments]
    code, out, err = cli("measure", "video.mp4", *given)
    assert code == 1 and out == "" and says in one_line(err)


def test_weights_are_listed_by_their_headers(cli: Command, shelf: Path) -> None:
    code, out, _ = cli("list", "weights")
    assert code == 0 and "no weights" in out
    fresh(shelf / "autohr.safetensors")
    code, out, _ = cli("list", "weights")
    assert code == 0
    for word in ("autohr", "datasets synthetic, n_subjects 7, minutes 12.35", "Apache-2.0", "mae_bpm 3.22", "[yet]"):
        assert word in out, out
    code, out, _ = cli("list", "methods")
    assert "autohr (default)" in out and "physnet (give --weights)" in out


@pytest.mark.slow
@pytest.mark.skipif(DEFAULT_METHOD not in shipped_weights(), reason="this checkout ships no weights of the default")
def test_the_shipped_net_finds_the_rate_and_the_beats_of_a_drawn_face(face: Path) -> None:
    answer = autohr.measure(face)
    (person,) = answer.faces
    assert (answer.method, answer.weights) == (DEFAULT_METHOD, DEFAULT_METHOD)
    assert person.hr_bpm == pytest.approx(72, abs=2.5) and person.reliable and person.bvp is not None
    # The sign too: a peak of the wave is where the skin holds most blood.
    known = truth(SCENE)
    at_s = person.bvp.start_s + np.arange(person.bvp.bvp.size) / person.bvp.fps
    assert np.corrcoef(np.interp(at_s, known.t_s, known.bvp), person.bvp.bvp)[0, 1] > 0.5


# -- bad input: each one clear line, exit 1 (what else is no video: test_video_decode.py)


def faceless(path: Path) -> None:
    write_scene(SceneConfig(kind="wall", duration_s=5, width=160, height=120, pulse_depth=0.0), path)


def short(path: Path) -> None:
    write_scene(SceneConfig(**{**SCENE.__dict__, "duration_s": 2.4}), path)


def empty_folder(path: Path) -> None:
    path.mkdir()


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty file": ("empty.mp4", lambda path: path.write_bytes(b""), "empty"),
    "missing": ("missing.mp4", lambda path: None, "missing.mp4"),
    "folder with no video": ("folder", empty_folder, "No video"),
    "no face": ("wall.mp4", faceless, "No face"),
    "too short": ("short.mp4", short, "at least 4 s"),
    "fifo": ("pipe.mp4", lambda path: os.mkfifo(path), "file"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_broken_input_is_one_clear_line(cli: Command, tmp_path: Path, case: str) -> None:
    name, make, says = BROKEN[case]
    path = tmp_path / name
    make(path)
    code, out, err = cli("measure", path, "--method", "pos")
    assert code == 1 and out == ""
    line = one_line(err)
    assert line.startswith("autohr: ") and name in line and says in line


@pytest.mark.slow
def test_a_cut_off_file_gives_what_decodes_and_says_so(cli: Command, face: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    write_scene(SCENE, cut, crf=6)
    data = cut.read_bytes()
    cut.write_bytes(data[: int(0.8 * len(data))])
    code, out, _ = cli("measure", cut)
    assert code == 0
    assert "ends" in out or "truncated" in out or "cut" in out
    whole = tmp_path / "cut.mp4"
    whole.write_bytes(face.read_bytes()[:5000])
    code, _, err = cli("measure", whole, "--method", "pos")
    assert code == 1 and one_line(err)


def test_errors_are_json_too_when_json_is_asked_for(cli: Command, tmp_path: Path) -> None:
    code, out, err = cli("measure", tmp_path / "gone.mp4", "--method", "pos", "--json", "-")
    assert code == 1 and one_line(err)
    answer = json.loads(out)
    assert answer["error"]["kind"] == "VideoError" and "gone.mp4" in answer["error"]["message"]


# -- wrong usage: exit 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["measure"], "PATH"),
        (["measure", "x.mp4", "--method", "poss"], "'pos'"),
        (["measure", "x.mp4", "--window-s", "2"], "window-s"),
        (["measure", "x.mp4", "--stride-s", "20"], "stride-s"),
        (["measure", "x.mp4", "--start-s", "5", "--end-s", "4"], "end-s"),
        (["measure", "x.mp4", "--max-faces", "0"], "max-faces"),
        (["measure", "x.mp4", "--csv", "."], "Cannot write"),
        (["measure", "x.mp4", "--json", "/dev/null/x.json"], "Cannot write"),
        (["demo", "--hr-bpm", "400"], "hr-bpm"),
        (["list", "planets"], "planets"),
        (["dance"], "dance"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_2(cli: Command, arguments: list[str], says: str) -> None:
    code, out, err = cli(*arguments)
    assert code == 2 and says in err + out
    assert "Traceback" not in err


@pytest.mark.slow
def test_synth_prepare_and_two_steps_of_training(cli: Command, tmp_path: Path) -> None:
    recordings, cache = tmp_path / "recordings", tmp_path / "cache"
    code, out, _ = cli(*("synth", recordings, "--subjects", 2, "--per-subject", 1, "--duration-s", 7, "--workers", 1))
    assert code == 0 and "2 recordings" in out
    code, out, _ = cli(*("prepare", "synthetic", recordings, "--out", cache, "--size-px", 40, "--workers", 1))
    assert code == 0 and "2 of 2 recordings kept" in out
    fit = ("fit.steps=2", "fit.batch_size=1", "fit.val_every=2", "fit.val_windows=1")
    data = ("data.n_frames=160", "data.size_px=32", "crop.size_px=40", "data.val_share=0.5", f"data.cache={cache}")
    tiny = (*fit, *data, "net_config.preset=tiny")
    changes = [word for change in tiny for word in ("--set", change)]
    code, out, err = cli("train", "autohr_cpu", "--out", tmp_path / "run", *changes)
    assert code == 0, err
    assert "Best weights" in out and (tmp_path / "run" / "results" / "curves.svg").exists()
    assert load_method(weights=next((tmp_path / "run" / "checkpoints").glob("*.onnx"))).name == "autohr"


def test_training_without_recordings_names_the_commands(cli: Command, tmp_path: Path) -> None:
    code, _, err = cli("train", "autohr_cpu", "--out", tmp_path / "run", "--set", f"data.cache={tmp_path / 'none'}")
    assert code == 1 and "autohr prepare" in one_line(err)
    code, _, err = cli("train", "autohr_cpu", "--set", "fit.learning_rate=1")
    assert code == 1 and "learning_rate" in one_line(err) and "lr" in err
    code, _, err = cli("prepare", "synthetic", tmp_path, "--out", tmp_path / "cache")
    assert code == 1 and one_line(err)


def test_every_dataset_is_listed_with_how_to_get_it(cli: Command) -> None:
    code, out, _ = cli("list", "datasets")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    for name, spec in DATASETS.items():
        assert spec.title in lines[name] and spec.access.split()[0] in lines[name]


@pytest.mark.slow
def test_prepare_refuses_a_copy_with_holes_unless_told(cli: Command, face: Path, tmp_path: Path) -> None:
    (tmp_path / "face.mp4").write_bytes(face.read_bytes())
    (tmp_path / "rates.csv").write_text("video,hr_bpm\nface,72\nlost,80\n")
    words = ("prepare", "folder", tmp_path, "--out", tmp_path / "cache", "--size-px", 32, "--workers", 1)
    code, out, err = cli(*words)
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert "1 missing" in last and "'lost'" in last and "--allow-missing" in last
    assert "1 of 1 recordings kept" in out and "Missing: 1" in out
    code, out, _ = cli(*words, "--allow-missing")
    assert code == 0
    page = Path(out.strip().splitlines()[-1].removeprefix("Every recording: "))
    assert "folder/lost/lost" in page.read_text() and page.with_suffix(".json").exists()


def test_a_count_that_begins_again_forgets_its_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("autohr.cli.output.time.monotonic", lambda: clock[0])
    with Count("Looking") as count:
        for done, now_s in ((1, 1.0), (2, 2.0), (10, 10.0), (1, 1000.0), (2, 1001.0), (3, 1002.0)):
            clock[0] = now_s
            count(done, 10)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "Looking: 1 of 10, 9 s left",
        "Looking: 2 of 10, 8 s left",
        "Looking: 10 of 10, 0 s left",
        "Looking: 1 of 10",
        "Looking: 2 of 10, 8 s left",
        "Looking: 3 of 10, 7 s left",
    ]


# -- help, lists, plugins and what needs the laboratory


def test_without_input_there_is_help(cli: Command) -> None:
    code, out, err = cli()
    assert code == 2 and "Usage" in out + err
    assert cli("--version")[1].strip() == f"autohr {autohr.__version__}"


COMMANDS = (
    "measure",
    "live",
    "serve",
    "demo",
    "list",
    "schema",
    "page",
    *sorted(entry_points(group="autohr.commands").names),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Command, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0 and "Usage" in out


def test_methods_are_listed_with_their_source(cli: Command) -> None:
    code, out, _ = cli("list", "methods")
    assert code == 0 and all(name in out and method.source in out for name, method in METHODS.items())


def python(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with folders in front of its path."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", "import sys\nfrom autohr.cli.main import main\n" + code]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})


def test_help_names_all_commands_and_loads_no_heavy_library() -> None:
    code = """
    sys.argv = ["autohr", "--help"]
    try:
        main()
    finally:
        print([name for name in ("torch", "onnxruntime", "scipy", "cv2", "av", "pydantic") if name in sys.modules])
    """
    out = python(textwrap.dedent(code)).stdout
    assert out.splitlines()[-1] == "[]" and all(f" {command} " in out for command in COMMANDS)


def test_without_the_laboratory_its_commands_name_the_extra(tmp_path: Path) -> None:
    """One line and exit code 1; what needs no torch works all the same."""
    refused = ["train autohr_cpu", "search search_cpu", "table 1", "list nets", "compare-cells", "export autohr x.onnx"]
    working = ["list recipes", "list protocols", "list methods", "list weights"]
    code = f"""
    sys.modules.update(dict.fromkeys(["torch", "safetensors", "onnx"]))
    for words in {[*refused, *working]}:
        sys.argv = ["autohr", *words.split()]
        try:
            main()
        except SystemExit as stop:
            print("exit", stop.code, file=sys.stderr)
    """
    lines = python(textwrap.dedent(code)).stderr.splitlines()
    for number, words in enumerate(refused):
        line, end = lines[2 * number : 2 * number + 2]
        command = words if words.startswith("list") else words.split()[0]
        assert line.startswith(f"autohr: `autohr {command}` needs ") and line.endswith("pip install 'autohr[lab]'.")
        assert end == "exit 1"
    assert lines[2 * len(refused) :] == ["exit 0"] * len(working)


PLUGIN = """
from autohr.lab.datasets.recording import DatasetSpec, Listing

SPEC = DatasetSpec("rooms", "Rooms", lambda root: Listing(()), "none needed")

def hello(name: str) -> None:
    "Greet."
    print("hello", name)
"""
ENTRY_POINTS = """
[autohr.commands]
hello = mine:hello
broken = mine:nothing
measure = mine:hello
[autohr.datasets]
rooms = mine:SPEC
"""


def test_a_package_adds_commands_and_datasets(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    info = tmp_path / "my_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)

    def answer(*words: object) -> subprocess.CompletedProcess[str]:
        return python(f"sys.argv = {['autohr', *map(str, words)]}\nmain()", tmp_path)

    assert answer("hello", "you").stdout == "hello you\n"
    listed = answer("--help").stdout
    assert "From my-plugin 1.2" in listed and "Greet." in listed and "Measure the heart rate" in listed
    broken = answer("broken")
    assert broken.returncode == 1 and "'broken' of my-plugin 1.2 cannot be loaded" in one_line(broken.stderr)
    assert re.search(r"rooms +Rooms \(package my-plugin 1.2\)", answer("list", "datasets").stdout)
    assert "the reader of Rooms knows" in answer("prepare", "rooms", tmp_path, "--out", tmp_path / "cache").stderr


def test_a_recipe_of_another_command_names_that_command(cli: Command) -> None:
    for command, recipe, other in (("train", "search_cpu", "search"), ("search", "autohr_cpu", "train")):
        code, _, err = cli(command, recipe)
        assert code == 1 and f"autohr {other} {recipe}" in one_line(err)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "true_bpm"), [((), 73.2), (("--duration-s", 12, "--hr-bpm", 66), 66)])
def test_demo_measures_and_reports(cli: Command, tmp_path: Path, words: tuple[object, ...], true_bpm: float) -> None:
    code, out, err = cli("demo", "--out", tmp_path, *words)
    assert code == 0 and err == ""
    answer = json.loads((tmp_path / "measurement.json").read_text())
    assert answer["faces"][0]["hr_bpm"] == pytest.approx(true_bpm, abs=3) and answer["faces"][0]["reliable"]
    found = re.search(r"True rate ([\d.]+) bpm, measured ([\d.]+) bpm", out)
    assert found and float(found[1]) == pytest.approx(true_bpm, abs=1.5)
    assert str(tmp_path / "report.html") in out and (tmp_path / "report.html").stat().st_size > 10_000
    assert json.loads((tmp_path / "face.truth.json").read_text())["video"] == "face.mp4"


# -- completion


def completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """The words that a shell is offered for the last word of a line, by the interface that shells use."""
    monkeypatch.setenv("_AUTOHR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit):
        app(prog_name="autohr")
    out, err = capsys.readouterr()
    assert err == ""
    return list(out.split())


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("autohr measure --method po", {"pos"}),
        ("autohr live --method ", set(METHODS)),
        ("autohr serve --weights au", {"autohr"}),
        ("autohr list pro", {"protocols"}),
        ("autohr evaluate --method pos,chr", {"pos,chrom"}),
        ("autohr evaluate --protocol reference-w", {"reference-whole"}),
        ("autohr evaluate --dataset ubfc_p", {"ubfc_phys"}),
        ("autohr evaluate --preset ", set(PRESETS)),
        ("autohr prepare coh", {"cohface"}),
        ("autohr train release_ph", {"release_physnet"}),
        ("autohr search search_c", {"search_cpu"}),
        ("autohr export au", {"autohr"}),
        ("autohr compare-methods --method chr", {"chrom"}),
        ("autohr measure --method nothing", set()),
        ("autohr train search_", set()),
    ],
)
def test_a_shell_completes_the_values_of_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, some: set[str]
) -> None:
    assert set(completed(capsys, monkeypatch, line)) == some


def test_nothing_is_offered_where_an_extra_is_missing() -> None:
    def names() -> dict[str, str]:
        raise ModuleNotFoundError

    assert completing(names)("a") == []
