"""Text of strangers (file names, headers, notes) in the terminal, in CSV and in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
from pathlib import Path

import pytest

from autohr.cli.output import as_markup, in_words, print_error, print_line, print_measurement, print_table
from autohr.errors import csv_cell, escape_controls
from autohr.live.record import ROW_COLUMNS, as_csv
from autohr.live.session import LiveState
from autohr.live.terminal import drawn
from autohr.reports.readings import readings_csv
from autohr.types import FaceMeasurement, Frames, Measurement, Refusal, Window
from made import run

NASTY = (
    "=HYPERLINK(1).mp4",
    "+1+1.mp4",
    "-2+3.mp4",
    "@SUM(A1).mp4",
    "\t=1.mp4",
    "\r=1.mp4",
    "\n=1.mp4",
    "\uff1d1.mp4",
    "\x1b[31mred\x1b[0m.mp4",
    "\x1b]0;title\x07.mp4",
    "\x9b31m.mp4",
    "a\x08\x08b.mp4",
    "a\rb.mp4",
    "evil\u202egpj.mp4",
    "caf\udce9.mp4",
    "[bold]x[/bold].mp4",
    "[/].mp4",
    ":heart:.mp4",
    "end\\",
    "\ufeffmark\u061c.mp4",
)
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Characters that must not reach a terminal; a line feed ends lines, a tab only moves."""


def made(name: str) -> Measurement:
    window = Window(70.0, 0.9, False, -3.25, name, start_s=0.0, end_s=10.0)
    face = FaceMeasurement(70.0, 0.9, False, -3.25, name, id=0, start_s=0.0, end_s=10.0, windows=(window,))
    return Measurement(name, "pos", name, 10.0, 30.0, Frames(300, 300), (face,), (name,))


@pytest.mark.parametrize("name", NASTY)
def test_nothing_raw_reaches_the_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_line(name)
    print_error(name)
    print_table(("name", "licence"), [(name, in_words({"licence": name}))])
    print_measurement(made(name))
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not RAW.search(text) and text.encode()
    assert escape_controls(name).split("\t")[-1] in shown.out

    from rich.console import Console

    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    screen.print(drawn(LiveState(), name, name, width=200))
    assert not RAW.search(screen.file.getvalue())  # type: ignore[attr-defined]


def test_markup_of_a_name_is_shown_and_not_followed() -> None:
    from rich.text import Text

    for name in NASTY:
        assert Text.from_markup(f"[bold]{as_markup(name)}[/bold]", emoji=False).plain == escape_controls(name)


@pytest.mark.parametrize("name", NASTY)
def test_no_cell_is_a_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(readings_csv([made(name), Refusal(name, name)]), newline="")))
    live = dict.fromkeys(ROW_COLUMNS, None) | {"reliable": False, "why": name, "hr_bpm": -1.5}
    rows += list(csv.reader(io.StringIO(as_csv([live]), newline="")))
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n", "\uff1d")), cell
        assert not cell.startswith("-") or math.isfinite(float(cell))
    assert rows[1][0].removeprefix("'") == escape_controls(name) and rows[1][7] == "-3.25"
    assert len({len(row) for row in rows[:3]}) == 1 and rows[-1][ROW_COLUMNS.index("hr_bpm")] == "-1.5"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *((value, value) for value in (-3.2, 0, True, "-3.20", "-1e-5", "+7", "1=2", "")),
        (None, ""),
        ("-", "'-"),
        ("-3.2 dB", "'-3.2 dB"),
        ("-inf", "'-inf"),
        ("-3\n", "'-3\\n"),
    ],
)
def test_numbers_stay_numbers(value: object, cell: object) -> None:
    assert csv_cell(value) == cell and type(csv_cell(value)) is type(cell)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_nasty_names_go_through_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    names = [name for name in NASTY if name.endswith(".mp4") and "/" not in name]
    for name in names:
        (folder / name).write_text("no video")
    outs = [part for kind in ("csv", "json", "html") for part in (f"--{kind}", tmp_path / f"o.{kind}")]
    code, out, err = run(capsys, "measure", folder, *outs)
    assert code == 1 and "Traceback" not in err and not RAW.search(out + err)
    entries = json.loads((tmp_path / "o.json").read_bytes().decode("utf-8"))
    assert {Path(entry["path"]).name for entry in entries} == set(names)
    cells = list(csv.reader(io.StringIO((tmp_path / "o.csv").read_bytes().decode("utf-8"), newline="")))
    assert len(cells) == 1 + len(names)
    (tmp_path / "o.html").read_bytes().decode("utf-8")
    # Named from within their folder, names begin the cell.
    before = Path.cwd()
    os.chdir(folder)
    try:
        code, out, err = run(capsys, "measure", "--csv", "-", "--", *names)
    finally:
        os.chdir(before)
    assert code == 1 and "Traceback" not in err
    assert not re.search(r"^[=+@-]", out, re.MULTILINE)
    code, _, err = run(capsys, "measure", "=\x1b[31m.mp4", "--window-s", "\x1b[31m")
    assert code == 2 and not RAW.search(err)
