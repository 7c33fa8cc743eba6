"""Batches of ``autohr measure``: side by side, interrupted, killed and resumed, always with the same outputs.

The command runs in a process of its own, with a method of another package (an entry point) whose import puts a
measurement in place that costs nothing: the words in a file say what becomes of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from autohr.cli.inputs import short_names
from autohr.cli.output import BatchProgress
from autohr.errors import AutoHRError
from autohr.reports.journal import FileState, Journal, Outcome
from autohr.types import HRV, FaceMeasurement, Frames, Measurement, Pulse, Refusal, Window
from made import run

FAKE = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path

import numpy as np

import autohr.measure
from autohr.errors import NoFace, VideoError
from autohr.methods import METHODS
from autohr.types import FaceMeasurement, Frames, Measurement, Pulse, Window

RECORD = replace(METHODS["pos"], name="fake")

def note(words):
    with Path("log").open("a") as log:
        log.write(words + "\\n")

def measure(source, method, *, progress, window_s, **options):
    words = Path(source).read_text().split()
    note(f"begin {Path(source).name} {os.getpid()}")
    progress(0.0, 10.0)
    for word in words:
        if word == "bug":
            raise ZeroDivisionError("ours")
        if word == "noface":
            raise NoFace(f"No face in {source!r}.")
        if word == "damaged":
            raise VideoError(f"{source!r} is damaged.")
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word[0].isdigit():
            time.sleep(float(word))
    note(f"end {source}")
    rng = np.random.default_rng(list(source.encode()))
    rates = rng.uniform(50, 100, 3)
    windows = tuple(Window(rate, 0.9, np.bool_(True), rate / 7, start_s=float(k), end_s=k + 10.0)
                    for k, rate in enumerate(rates))
    wave = rng.normal(size=360)
    wave[100:130] = np.nan
    face = FaceMeasurement(rates.mean(), 0.9, True, rates.std(), id=0, start_s=0.0, end_s=12.0, windows=windows,
                           bvp=Pulse(wave, 30.0), beats_s=(1.0, 2.1), beat_error_ms=1 / 3, why_no_hrv="too short",
                           crop=rng.integers(0, 255, (64, 48, 3), dtype=np.uint8))
    return Measurement(source, "fake", None, 12.0, 29.97, Frames(360, 355), (face,), ("A note.",))

sys.modules["autohr.measure"].measure = measure
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start ``autohr measure WORDS --method fake`` as a terminal does; videos are in the folder ``v``."""
    package = tmp_path / "package"
    info = package / "fake_method-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "fake_method.py").write_text(FAKE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-method\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[autohr.methods]\nfake = fake_method:RECORD\n")
    (tmp_path / "work" / "v").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])

    def command(*words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "autohr", "measure", *map(str, words), "--method", "fake"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        )

    return command


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def write(**files: str) -> None:
    for name, words in files.items():
        Path(f"v/{name}.mp4").write_text(words)


def begun() -> list[str]:
    """Names of the files that were begun, in order, each as often as it was."""
    lines = Path("log").read_text().splitlines() if Path("log").exists() else []
    return [line.split()[1] for line in lines if line.startswith("begin")]


def workers() -> set[int]:
    return {int(line.split()[2]) for line in Path("log").read_text().splitlines() if line.startswith("begin")}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def outputs(stem: str) -> tuple[bytes, ...]:
    return tuple(Path(f"{stem}.{kind}").read_bytes() for kind in ("json", "csv", "summary.csv"))


def page(stem: str) -> str:
    """The page without the lines that name the command and the time."""
    return re.sub(r"<p class=\"muted small\">.*", "", Path(f"{stem}.html").read_text())


def outs(stem: str) -> tuple[str, ...]:
    return "--json", f"{stem}.json", "--csv", f"{stem}.csv", "--summary-csv", f"{stem}.summary.csv"


def last_line(text: str) -> str:
    assert "Traceback" not in text, text
    return text.strip().splitlines()[-1]


JOURNAL = Path(".out.json.resume.jsonl")


def n_journal() -> int:
    """Number of finished files in the journal."""
    return JOURNAL.read_bytes().count(b"\n") - 1 if JOURNAL.exists() else 0


posix = pytest.mark.skipif(os.name != "posix", reason="ends processes by signal")


@posix
@pytest.mark.slow
def test_outputs_are_the_same_side_by_side_and_after_a_kill(start: Start) -> None:
    """SIGKILL cannot be caught: only what is in the journal by then stands."""
    write(a="1", b="", c="noface", d="damaged", e="bug", f="600")
    killed = start("v", *outs("out"), "--html", "out.html", "--jobs", 2)
    wait_until(lambda: n_journal() == 5)
    # Not that it is the last: the worker of the first file may be slow to start.
    wait_until(lambda: "f.mp4" in begun())
    killed.kill()
    assert finish(killed)[0] == -signal.SIGKILL
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers()))
    assert len(workers()) == 2 and killed.pid not in workers()
    assert sorted(begun()) == [f"{name}.mp4" for name in "abcdef"]
    with JOURNAL.open("a") as journal:
        journal.write('{"file": {"path": "f.mp4", "si')

    write(f="")
    Path("log").unlink()
    code, resumed_out, err = finish(start("v", *outs("out"), "--html", "out.html", "--jobs", 2, "--resume"))
    assert code == 1 and "3 of 6 files were finished" in err.splitlines()[0]
    # A damaged file may have been mended, and a fault may have been the machine's.
    assert sorted(begun()) == ["d.mp4", "e.mp4", "f.mp4"] and not JOURNAL.exists()

    code, one_out, err = finish(start("v", *outs("one"), "--html", "one.html"))
    assert code == 1 and "ZeroDivisionError" in err and one_out == resumed_out
    assert outputs("one") == outputs("out") and page("one") == page("out")
    code, two_out, _ = finish(start("v", *outs("two"), "--html", "two.html", "--jobs", 3))
    assert code == 1 and two_out == one_out
    assert outputs("one") == outputs("two") and page("one") == page("two")
    assert [one["path"] for one in json.loads(outputs("one")[0])] == [f"v/{name}.mp4" for name in "abcdef"]
    assert {path.name for path in Path().iterdir() if path.name[0] == "."} == set()


@posix
@pytest.mark.slow
def test_a_file_that_kills_its_worker_is_refused_and_costs_no_other(start: Start) -> None:
    write(a="1", b="kill", c="", d="0.2")
    code, out, err = finish(start("v", "--json", "out.json", "--jobs", 2))
    assert (
        code == 1 and "Measured 3 of 4 files: 3 reliable, 0 not reliable; 1 refused." in out and "Traceback" not in err
    )
    again, refused = err.splitlines()
    assert again == (
        "autohr: 'v/b.mp4' is measured once more, alone: its worker process was killed by signal 9 (SIGKILL)."
    )
    assert refused.startswith("autohr: 'v/b.mp4' was not measured: its worker process was killed by signal 9 (SIGKILL)")
    results = json.loads(Path("out.json").read_text())
    assert [one["path"] for one in results] == [f"v/{name}.mp4" for name in "abcd"]
    assert results[1]["error"] == {"kind": "WorkerDied", "message": refused.removeprefix("autohr: ")}
    assert [len(one.get("faces", [])) for one in results] == [1, 0, 1, 1]


@posix
@pytest.mark.slow
@pytest.mark.parametrize(("name", "jobs"), [("SIGINT", 2), ("SIGTERM", 2), ("SIGHUP", 2), ("SIGINT", 1)])
def test_a_stopped_batch_writes_all_that_is_done_and_goes_on(start: Start, name: str, jobs: int) -> None:
    """The signal goes to the whole group, as that of a terminal does."""
    write(**({"a": "600", "b": "", "c": "", "d": ""} if jobs > 1 else {"a": "", "b": "600", "c": "", "d": ""}))
    batch = start("v", *outs("out"), "--jobs", jobs)
    n_done = 3 if jobs > 1 else 1
    wait_until(lambda: n_journal() == n_done)
    wait_until(lambda: len(begun()) == n_done + 1)
    os.killpg(batch.pid, getattr(signal, name))
    code, _, err = finish(batch)
    assert code == 128 + getattr(signal, name)
    assert f"after {n_done} of 4 files" in last_line(err) and "--resume" in err and len(err.splitlines()) == 1
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers()))
    done = ["b.mp4", "c.mp4", "d.mp4"] if jobs > 1 else ["a.mp4"]
    assert [line.split(",")[0] for line in outputs("out")[2].decode().splitlines()] == ["name", *done]
    assert [Path(one["path"]).name for one in json.loads(outputs("out")[0])] == done

    write(**{"a": ""} if jobs > 1 else {"b": ""})
    Path("log").unlink()
    code, _, err = finish(start("v", *outs("out"), "--resume"))
    assert code == 0 and f"{n_done} of 4 files were finished" in last_line(err)
    assert begun() == [f"{name}.mp4" for name in "abcd" if f"{name}.mp4" not in done]
    finish(start("v", *outs("one")))
    assert outputs("out") == outputs("one")


@posix
@pytest.mark.slow
def test_what_cannot_be_resumed_is_one_line(start: Start) -> None:
    write(a="", b="600")
    batch = start("v", "--json", "out.json")
    wait_until(lambda: n_journal() == 1)
    batch.kill()
    finish(batch)
    write(b="")

    code, out, err = finish(start("v", "--json", "out.json", "--resume", "--window-s", 8))
    assert code == 1 and out == ""
    assert "results of other options: --window-s 10 (now 8)" in last_line(err) and len(err.splitlines()) == 1
    whole = JOURNAL.read_bytes()
    header, *lines = whole.splitlines(keepends=True)
    for damaged in (b"[]\n" + lines[0], header + lines[0][:50] + b"\n", b"\xff\n", header + b'{"file": null}\n'):
        JOURNAL.write_bytes(damaged)
        code, out, err = finish(start("v", "--json", "out.json", "--resume"))
        assert code == 1 and "damaged" in last_line(err) and JOURNAL.read_bytes() == damaged
    JOURNAL.write_bytes(whole)

    # Without --resume nothing of it is taken, and a line says so.
    Path("log").unlink()
    code, out, err = finish(start("v", "--json", "out.json"))
    assert code == 0 and "(files: 1)" in last_line(err) and "--resume" in err and begun() == ["a.mp4", "b.mp4"]
    assert not JOURNAL.exists()
    code, out, err = finish(start("v", "--json", "out.json", "--resume"))
    assert code == 0 and "There is no" in last_line(err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a.mp4", "--resume"), "--json, --csv, --html or --summary-csv"),
        (("a.mp4", "--resume", "--json", "-"), "--json, --csv, --html or --summary-csv"),
        (("a.mp4", "--jobs", 0), "--jobs"),
        (("a.mp4", "--jobs", -2), "--jobs"),
        (("a.mp4", "--jobs", "many"), "--jobs"),
        (("a.mp4", "0", "--jobs", 2), "Cameras and addresses"),
        (("rtsp://nowhere/x", "a.mp4", "--jobs", 2), "Cameras and addresses"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], words: tuple[object, ...], says: str
) -> None:
    code, out, err = run(capsys, "measure", *words, "--method", "pos")
    assert code == 2 and out == "" and says in " ".join(err.replace("│", "").split())


# -- the journal


def full_measurement(path: str = "caf\udce9.mp4") -> Measurement:
    """A measurement in which every field holds something, with figures that no rounding leaves as they are."""
    window = Window(np.float64(200 / 3), 1 / 3, True, None, start_s=0.1, end_s=10.1)
    figures: dict[str, Any] = {name: 1 / (3 + k) for k, name in enumerate(HRV.__dataclass_fields__)}
    hrv = HRV(**figures | {"n_beats": 70, "withheld": "RMSSD 24 ± 15 ms"})
    face = FaceMeasurement(
        71.23456789012345,
        2 / 3,
        False,
        -0.1,
        "it moved",
        id=3,
        start_s=0.1,
        end_s=10.1,
        windows=(window, window),
        bvp=Pulse(np.array([1 / 3, np.nan, -0.0, np.inf]), 29.97, 0.1),
        beats_s=(1 / 7, 2 / 7),
        beat_error_ms=1 / 9,
        why_no_beats="none",
        hrv=hrv,
        why_no_hrv="too short",
        resp_bpm=12.3,
        crop=np.random.default_rng(1).integers(0, 255, (5, 4, 3), dtype=np.uint8),
    )
    bare = FaceMeasurement(None, 0.0, False, None, id=4, start_s=0.0, end_s=1.0)
    return Measurement(path, "fake", "w", 10.0, 29.97, Frames(1, 2, 3, 4), (face, bare), ("One.", "Two."), "FAKE")


def same(one: Any, other: Any) -> bool:
    """Equal in every bit and, but for numpy's numbers, in type."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__
        )
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_journal_gives_back_every_bit(tmp_path: Path) -> None:
    outcomes = [
        Outcome(full_measurement()),
        Outcome(Refusal("b", "No face."), "NoFace"),
        Outcome(Refusal("c", "It broke."), "OSError", "Traceback ...\n"),
        Outcome(full_measurement("d")),
    ]
    states = [FileState("caf\udce9.mp4", 10, 20), FileState("b", 1, 2, 25.0), FileState("c", 1, 2), None]
    first = Journal(tmp_path / "out.json", {"--window-s": 10.0})
    places = [first.add(outcome, state) for outcome, state in zip(outcomes, states, strict=True)]
    assert all(same(first.read(place), outcome) for place, outcome in zip(places, outcomes, strict=True))
    path = first.keep()
    assert path == tmp_path / ".out.json.resume.jsonl" and Journal(tmp_path / "out.json").count_old() == 4

    second = Journal(tmp_path / "out.json", {"--window-s": 10})
    assert second.resume()
    found = [second.find(state) for state in states]
    assert [place is not None for place in found] == [True, True, False, False]
    assert found[0] is not None and same(second.read(found[0]), outcomes[0])
    for changed in (FileState("caf\udce9.mp4", 10, 21), FileState("caf\udce9.mp4", 11, 20), FileState("b", 1, 2)):
        assert second.find(changed) is None
    place = second.add(outcomes[3], FileState("d", 5, 5))
    assert same(second.read(place), outcomes[3])
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_new_batch_does_not_write_into_the_journal_of_one_at_work(tmp_path: Path) -> None:
    old, new = (Journal(tmp_path / "out.json") for _ in range(2))
    place = old.add(Outcome(full_measurement("a")))
    new.add(Outcome(full_measurement("b")))
    assert same(old.read(place), Outcome(full_measurement("a")))
    old.remove()
    assert new.keep() is not None
    third = Journal(tmp_path / "out.json", {"--window-s": 3})
    with pytest.raises(AutoHRError, match="--window-s not given \\(now 3\\)"):
        third.resume()


# -- what is shown meanwhile


def shown(progress: BatchProgress) -> list[Any]:
    return list(progress._bars.tasks)


def test_bars_show_each_file_and_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr("autohr.cli.output.time.monotonic", lambda: clock[0])
    quiet = BatchProgress(3)
    with quiet:
        clock[0] = 100.0
        quiet.update("a.mp4", 1.0, 10.0)
        clock[0] = 159.0
        quiet.update("a.mp4", 2.0, 10.0)
        clock[0] = 160.0
        quiet.finish("a.mp4")
        quiet.update("b.mp4")
    # A log gets a line a minute.
    assert capsys.readouterr() == ("", "0 of 3 files, 48 min left\n1 of 3 files, 5 min left\n")

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    clock[0] = 0.0
    with BatchProgress(12, n_done=2) as progress:
        progress.update("[red]a\x1b.mp4")
        progress.update("b.mp4")
        progress.finish("b.mp4")
        clock[0] = 60.0
        progress.update("[red]a\x1b.mp4", 5.0, 10.0)
        assert [(task.description, task.fields["note"]) for task in shown(progress)] == [
            (r"\[red]a\x1b.mp4", "5 of 10 s, 60 s left"),
            ("3 of 12 files", "6 min left"),
        ]
        with progress.hidden():
            assert progress._bars is None
        clock[0] = 61.0
        progress.update("c.mp4", 5.0, None)
        assert [task.fields["note"] for task in shown(progress)][1] == "5 s"


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["v/a/1.mp4", "w/a/1.mp4", "1.mp4", "v/2.mp4"], ["v/a/1.mp4", "w/a/1.mp4", "1.mp4", "2.mp4"]),
        (["/a/1.mp4", "a/1.mp4"], ["/a/1.mp4", "a/1.mp4"]),
        (["0", "0"], ["0", "0"]),
        ([], []),
    ],
)
def test_bars_of_files_with_one_base_name_can_be_told_apart(sources: list[str], names: list[str]) -> None:
    assert short_names(sources) == names
