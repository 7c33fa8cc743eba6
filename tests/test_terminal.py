"""The terminal: what is drawn, one plain line a second, and a clean end. In a real terminal of its own (a pty)."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from autohr.cli import output
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.live import terminal
from autohr.live.session import LiveConfig, LiveFace, LiveFrames, LiveSession, LiveState
from autohr.live.terminal import WAVE_SD, big, confidence_bar, drawn, plain_line, watch, wave_lines
from autohr.meter import MeterConfig
from autohr.types import FaceMeasurement, Frames, Measurement, Pulse
from made import run
from test_cli import one_line
from test_meter import Knows, video

WAVE = Pulse(np.sqrt(2) * np.sin(2 * np.pi * 1.2 * np.arange(240) / 30), 30.0)


def state(**changes: Any) -> LiveState:
    usual = LiveState(
        hr_bpm=72.4,
        confidence=0.93,
        reliable=True,
        why=None,
        snr_db=4.0,
        wave=WAVE,
        box=(1.0, 2.0, 30.0, 40.0),
        advice=(),
        frames=LiveFrames(offered=300, measured=290, dropped=7, refused=3),
        fps_in=30.0,
        fps_measured=28.9,
        delay_s=0.05,
        readings=4,
        end_s=12.0,
        since_s=12.4,
        first_reliable_s=8.1,
    )
    return LiveState(**{**usual.__dict__, **changes})


NOBODY = state(
    hr_bpm=None,
    confidence=0.0,
    reliable=False,
    why="no face is seen",
    wave=None,
    box=None,
    advice=("No face. Look at the camera.",),
)


def shown(drawn_state: LiveState, width: int = 80, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(drawn(drawn_state, "camera 0", "pos", width=width, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def dots(lines: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The dots (rows, columns) of braille lines, by Unicode's order of bits."""
    codes = np.array([[ord(character) - 0x2800 for character in line] for line in lines])
    bits = np.array([[0, 3], [1, 4], [2, 5], [6, 7]])
    cells = (codes[:, None, :, None] >> bits[None, :, None, :]) & 1
    return np.asarray(cells.reshape(4 * len(lines), -1), dtype=bool)


def test_the_wave_is_drawn_where_it_is() -> None:
    picture = dots(wave_lines(WAVE.bvp, 60, 8))
    assert picture.shape == (32, 120) and picture.any(axis=0).all(), "no column is empty"
    middle = np.array([np.flatnonzero(column).mean() for column in picture.T])
    height = (0.5 - middle / 31) * 2 * WAVE_SD
    truth = np.interp(np.linspace(0, 239, 120), np.arange(240), WAVE.bvp)
    assert np.corrcoef(height, truth)[0, 1] > 0.98
    assert np.abs(height - truth).max() < 0.4, "up is up"


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_missing_stays_empty_and_what_is_too_large_at_the_border(plain: bool) -> None:
    values = np.full(200, 99.0)
    values[100:] = np.nan
    lines = wave_lines(values, 40, 4, plain=plain)
    empty = " " if plain else "\u2800"
    assert [len(line) for line in lines] == [40] * 4
    assert lines[0][:19].count(empty) == 0 and set("".join(line[21:] for line in lines)) == {empty}
    assert set("".join(lines[1:])) == {empty}
    for nothing in (np.zeros(0), np.full(9, np.nan)):
        assert set("".join(wave_lines(nothing, 10, 2, plain=plain))) == {empty}


def test_digits_and_bar() -> None:
    assert big("18", plain=True)[0] == "##  ###" and len(big("18")) == 3
    assert len({tuple(big(digit)) for digit in "0123456789-"}) == 11
    assert confidence_bar(0.5).count("█") == 10 == confidence_bar(0.5, plain=True).count("#")
    assert {len(confidence_bar(value)) for value in (-1, 0, 0.33, 1, 7)} == {20}


@pytest.mark.parametrize("width", [30, 80, 200])
@pytest.mark.parametrize("what", [state(), NOBODY], ids=["rate", "nobody"])
def test_the_picture_fits_its_terminal_and_says_all(what: LiveState, width: int) -> None:
    text = shown(what, width)
    assert max(len(line) for line in text.splitlines()) <= width
    words = " ".join(text.split())
    for word in (
        "Not a medical device",
        "30.0 fps in",
        "28.9 measured",
        "7 of 300 dropped",
        "3 refused",
        "0.05 s late",
    ):
        assert word in words
    assert ("93 %" in words and "NOT" not in words) if what.reliable else "no face is seen" in words
    for sentence in what.advice:
        assert sentence in words


def test_others_are_named() -> None:
    several = state(
        face_id=3, faces=(LiveFace(3, 72.4, 0.9, True), LiveFace(5, 90.2, 0.4, False), LiveFace(6)), others=1
    )
    for text in (shown(several), plain_line(several)):
        words = " ".join(text.split())
        assert "Face 5: 90 bpm, NOT reliable" in words and "Face 6: no rate" in words and "Face 3:" not in words
        assert "--max-faces" in words


def test_the_verdict_stays_on_one_line_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    face = FaceMeasurement(101.4, 0.51, False, -12.3, "weak", id=0, start_s=100.0, end_s=119.9)
    monkeypatch.setattr(output, "console", lambda: Console(highlight=False, width=80))
    output.print_measurement(Measurement("face.mp4", "pos", None, 120.0, 30.0, Frames(), (face,)))
    assert any("101.4 bpm" in line and "51 %, NOT reliable" in line for line in capsys.readouterr().out.splitlines())


def test_the_plain_picture_is_ascii() -> None:
    assert shown(state(), plain=True).isascii() and not shown(state()).isascii()


def test_a_line_for_pipes() -> None:
    assert "72.4 bpm" in plain_line(state()) and "reliable" in plain_line(state())
    line = plain_line(NOBODY)
    assert "no rate" in line and "NOT reliable: no face is seen" in line and "Look at the camera." in line
    assert len(line.splitlines()) == 1


def frames(duration_s: float) -> Any:
    return ((frame, t_s, True) for frame, t_s in video(duration_s, 15))


def test_a_pipe_gets_one_line_a_second_and_no_control_characters() -> None:
    out = io.StringIO()
    with LiveSession("green", LiveConfig(MeterConfig(window_s=4)), Knows()) as session:
        watch(session, frames(6.5), fast=True, out=out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 6 and "\x1b" not in out.getvalue()
    assert "no rate" in lines[0] and float(lines[-1].split()[2]) == pytest.approx(75, abs=3)


def test_a_file_plays_at_its_own_speed() -> None:
    began_s = time.monotonic()
    with LiveSession("green", detector=Knows()) as session:
        watch(session, frames(1.0), paced=True, out=io.StringIO())
        assert 14 / 15 <= time.monotonic() - began_s
        assert session.state().frames.offered == 15


def test_a_long_pause_of_a_file_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = 50.0
    slept_s: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal clock_s
        slept_s.append(seconds)
        clock_s += seconds

    monkeypatch.setattr(terminal, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock_s))
    with LiveSession("green", detector=Knows()) as session:
        given = [(frame, t_s + (3000.0 if t_s > 0.45 else 0.0), True) for frame, t_s in video(1.0, 10)]
        watch(session, iter(given), paced=True, out=io.StringIO())
    assert max(slept_s) == terminal.MAX_WAIT_S
    assert sum(slept_s) == pytest.approx(0.9 + terminal.MAX_WAIT_S - 0.1)


@pytest.mark.parametrize("ends_by", [None, KeyboardInterrupt, RuntimeError])
def test_the_terminal_is_left_as_it_was(ends_by: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda file, highlight: Console(file=file, force_terminal=True, width=80))

    def some() -> Any:
        yield from frames(1.0)
        if ends_by is not None:
            raise ends_by

    with LiveSession("green", detector=Knows()) as session:
        try:
            watch(session, some(), out=out)
        except BaseException as error:
            assert type(error) is ends_by
    text = out.getvalue()
    for on, off in (("\x1b[?25l", "\x1b[?25h"), ("\x1b[?1049h", "\x1b[?1049l")):
        assert text.count(on) >= 1 and text.rindex(off) > text.rindex(on)


# -- the command


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    still = HeadMotion(sway=0.2)
    write_scene(
        SceneConfig(seed=5, duration_s=9, fps=15, width=240, height=180, hr_bpm=72, pulse_depth=0.025, head=still),
        path,
        crf=6,
    )
    return path


def test_the_command_gives_what_measure_gives(capsys: pytest.CaptureFixture[str], face: Path, tmp_path: Path) -> None:
    table = tmp_path / "live.csv"
    code, out, err = run(
        capsys, *("live", "--camera", face, "--method", "pos", "--fast", "--json", "-", "--csv", table)
    )
    assert code == 0 and len(err.splitlines()) == 8 and "fps in" in err
    measured = run(capsys, "measure", face, "--method", "pos", "--json", "-", "--csv", tmp_path / "m.csv")[1]
    assert json.loads(out) == json.loads(measured)
    assert table.read_text() == (tmp_path / "m.csv").read_text()


def test_no_camera_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "live", "--camera", "93", "--method", "pos")
    assert code == 1 and out == "" and "Camera 93" in one_line(err)
    code, out, err = run(capsys, "live", "--camera", "93", "--fast")
    assert code == 2 and "--fast" in err
    code, out, err = run(capsys, "live", "--camera", "nothing.mp4", "--method", "pos")
    assert code == 1 and "nothing.mp4" in one_line(err)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a pseudo terminal is a thing of Unix")
@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_ctrl_c_ends_it_cleanly(face: Path, is_terminal: bool) -> None:
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    command = [sys.executable, "-m", "autohr", "live", "--camera", str(face), "--method", "green"]
    process = subprocess.Popen(
        command,
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    text, stopped = "", False
    try:
        while chunk := _read(ours):
            text += chunk
            # Late enough for a first number.
            if not stopped and "Wait: 3" in text:
                stopped = True
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, text
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "Traceback" not in text and "Aborted" not in text
    summary = text[text.rindex("\x1b[?1049l") :] if is_terminal else text
    assert "heart rate" in summary and "bpm" in summary and "Not a medical device" in summary
    if is_terminal:
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    else:
        assert "\x1b" not in text


def _read(file: int) -> str:
    try:
        return os.read(file, 65536).decode(errors="replace")
    except OSError:
        return ""  # how a pseudo terminal says that its other side is gone
