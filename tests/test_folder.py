"""Anyone's own videos with a CSV: what is read, and what is complained about, with file and line."""

from __future__ import annotations

import dataclasses
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from autohr.cli.main import main
from autohr.errors import BadRecording
from autohr.lab import datasets as data
from autohr.lab.datasets import DATASETS, csv_table
from autohr.lab.datasets.csv_table import read_table
from autohr.lab.datasets.recording import Absent, Listing, Reference, file_stem
from autohr.video.encode import write_video

list_recordings = DATASETS["folder"].list_recordings


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three seconds of grey, 20 frames per second."""
    path = tmp_path_factory.mktemp("video") / "grey.mp4"
    write_video(path, [np.full((48, 64, 3), 90 + k % 3, np.uint8) for k in range(60)], fps=20.0)
    return path.read_bytes()


def tree(root: Path, video: bytes, videos: str, **texts: str) -> Listing:
    """Videos by name, and text files by name without ".csv"."""
    for name in videos.split():
        (root / name).write_bytes(video)
    for name, text in texts.items():
        (root / f"{name}.csv").write_text(text)
    return list_recordings(root)


def label(listing: Listing, number: int = 0) -> Reference:
    reference = listing.recordings[number].read_reference()
    assert reference is not None
    return reference


def rates(listing: Listing) -> list[list[float]]:
    """Return the rates that occur in each recording's reference, sorted."""
    references = [label(listing, number) for number in range(len(listing.recordings))]
    return [sorted({float(rate) for rate in one.hr_bpm}) for one in references if one.hr_bpm is not None]


def test_one_rate_for_each_video(tmp_path: Path, video: bytes) -> None:
    listing = tree(
        *(tmp_path, video, "anna.mp4 ben.mov"),
        rates="Video, HR_bpm ,subject,light\nanna.mp4,72,s1,dark\nben,90.5,s2,\n",
    )
    anna, ben = listing.recordings
    assert (anna.id, ben.id) == ("folder/s1/anna", "folder/s2/ben")
    assert (dict(anna.groups), dict(ben.groups)) == ({"light": "dark"}, {})
    assert listing.absent == () and listing.notes == ()
    reference = label(listing, 1)
    assert reference.bvp is None and reference.hr_bpm is not None
    assert set(reference.hr_bpm) == {90.5}
    assert reference.t_s[0] == 0 and reference.t_s[-1] == pytest.approx(3, abs=0.1)
    assert np.diff(reference.t_s).max() <= 1, "no longer step than a rate may take"


def test_a_wave_of_its_own(tmp_path: Path, video: bytes) -> None:
    t_s = np.arange(0, 3, 0.05)
    rows = "".join(f"{t:.3f},{np.sin(8 * t):.6f},{'' if 1 < t < 2 else 76}\n" for t in t_s)
    listing = tree(tmp_path, video, "anna.mp4", anna="time_s,bvp,hr_bpm\n" + rows)
    assert [one.id for one in listing.recordings] == ["folder/anna/anna"]
    assert listing.notes and "subject" in listing.notes[0]
    reference = label(listing)
    assert reference.bvp == pytest.approx(np.sin(8 * t_s), abs=1e-6)
    assert reference.hr_bpm is not None
    assert np.isnan(reference.hr_bpm).sum() == ((t_s > 1) & (t_s < 2)).sum()


def test_a_dense_wave_loses_what_the_video_cannot_show(tmp_path: Path, video: bytes) -> None:
    t_s = np.arange(0, 3, 0.002)
    slow = np.sin(2 * np.pi * 1.2 * t_s)
    wave = slow + np.sin(2 * np.pi * 19.0 * t_s)  # would be seen as 1 Hz at 20 frames per second
    rows = "".join(f"{t:.3f},{value:.6f}\n" for t, value in zip(t_s, wave, strict=True))
    bvp = label(tree(tmp_path, video, "anna.mp4", anna="time_s,bvp\n" + rows)).bvp
    assert bvp is not None and bvp[100:-100] == pytest.approx(slow[100:-100], abs=0.1)


def test_both_files_may_speak_of_one_video(tmp_path: Path, video: bytes) -> None:
    listing = tree(
        *(tmp_path, video, "anna.mp4 ben.mp4"),
        rates="video,hr_bpm,subject\nanna,70,p\nben,80,p\n",
        anna="time_s,bvp\n0,1\n1,2\n2,1\n",
        ben="time_s,hr_bpm\n0,75\n2,76\n",
    )
    assert {one.subject for one in listing.recordings} == {"p"}
    assert rates(listing) == [[70], [75, 76]] and label(listing, 0).bvp is not None
    assert "80 bpm" in str(label(listing, 1).notes), "the rate that was not used is named"


def test_whoever_stands_alone_is_absent_with_the_reason(tmp_path: Path, video: bytes) -> None:
    listing = tree(
        *(tmp_path, video, "anna.mp4 alone.mp4 empty.mp4"),
        rates="video,hr_bpm,subject\nanna,70,a\nempty,,e\ngone.mp4,80,g\n",
        stray="time_s,hr_bpm\n0,75\n2,76\n",
    )
    assert [one.id for one in listing.recordings] == ["folder/a/anna"]
    reasons = {one.id: one.reason for one in listing.absent}
    assert set(reasons) == {"folder/alone/alone", "folder/e/empty", "folder/g/gone", "folder/stray/stray"}
    assert "no line in rates.csv" in reasons["folder/alone/alone"]
    assert "line 3" in reasons["folder/e/empty"]
    assert "line 4" in reasons["folder/g/gone"] and "no video" in reasons["folder/g/gone"]
    assert not any(one.known_gap for one in listing.absent)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("hr_bpm\n70\n", r"rates.csv', line 1: no column video"),
        ("video,video\nanna,70\n", r"line 1: two columns"),
        ("video,hr_bpm\nanna,seventy\n", r"rates.csv', line 2: 'seventy' is not a number"),
        ("video,hr_bpm\n\nanna,1.2\n", r"line 3: hr_bpm 1.2 must lie between"),
        ("video,hr_bpm\nanna,nan\n", r"line 2: 'nan' is not a number"),
        ("video,hr_bpm\nanna,70\nanna.mp4,71\n", r"line 3: 'anna.mp4' has a line already, number 2"),
        ("video,hr_bpm\nanna,70,5\n", r"line 2: 3 cells where the header has 2"),
        ("video,hr_bpm\n,70\n", r"line 2: no video is named"),
        ("video,hr_bpm\n", r"header and nothing else"),
        ("", r"empty"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, video: bytes, table: str, words: str) -> None:
    with pytest.raises(BadRecording, match=words):
        tree(tmp_path, video, "anna.mp4", rates=table)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("bvp\n1\n", r"anna.csv', line 1: no column time_s"),
        ("time_s,wave\n0,1\n", r"anna.csv', line 1: neither bvp nor hr_bpm"),
        ("time_s,bvp\n0,1\n1,x\n", r"anna.csv', line 3: 'x' is not a number"),
        ("time_s,bvp\n0,1\n,2\n", r"line 3: '' is not a number"),
        ("time_s,bvp\n0,1\n1,2\n1,3\n", r"line 4: time_s 1 does not follow 1"),
        ("time_s,hr_bpm\n0,70\n1,7000\n", r"line 3: hr_bpm 7000"),
        ("time_s,bvp\n0,1\n", r"anna.csv' has one line.*at least two"),
    ],
)
def test_a_bad_wave_is_named_with_its_line_when_it_is_read(tmp_path: Path, video: bytes, own: str, words: str) -> None:
    listing = tree(tmp_path, video, "anna.mp4", anna=own)
    with pytest.raises(BadRecording, match=words):
        label(listing)


def test_a_folder_that_is_none_or_cannot_be_told(tmp_path: Path, video: bytes) -> None:
    with pytest.raises(BadRecording, match="no folder"):
        list_recordings(tmp_path / "none")
    with pytest.raises(BadRecording, match="no video"):
        list_recordings(tmp_path)
    with pytest.raises(BadRecording, match=r"anna.avi.*anna.mp4"):
        tree(tmp_path, video, "anna.mp4 anna.avi")


# ---------------------------------------------------------------------------------------------------------------------
# CSVs as spreadsheet programs save them


def rows_of(path: Path, content: bytes) -> list[dict[str, str]]:
    path.write_bytes(content)
    return [cells for _, cells in read_table(path, needed=("video",), known=("video", "hr_bpm", "subject")).rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_separator_and_end_of_line_is_read(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    lines = ("Video , HR (bpm),Subject", "J\u00fcrgen.mp4,73,J\u00f6rg", '"b.mp4",80,"Mia"', "")
    text = end.join(lines).replace(",", separator)
    assert rows_of(tmp_path / "rates.csv", text.encode(encoding)) == [
        {"video": "J\u00fcrgen.mp4", "hr_bpm": "73", "subject": "J\u00f6rg"},
        {"video": "b.mp4", "hr_bpm": "80", "subject": "Mia"},
    ]


def test_a_name_in_utf_16_without_a_mark_need_not_be_latin(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be", "utf-8"):
        text = "video,hr_bpm\n\u6d4b\u8bd5\u89c6\u9891.mp4,73\n"
        assert rows_of(tmp_path / "rates.csv", text.encode(encoding))[0]["video"] == "\u6d4b\u8bd5\u89c6\u9891.mp4"


def test_windows_1252_is_a_guess_and_noted(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "J\u00fcrgen.mp4").write_bytes(video)
    (tmp_path / "rates.csv").write_bytes("video,hr_bpm,subject\r\nJ\u00fcrgen.mp4,73,j\r\n".encode("cp1252"))
    listing = list_recordings(tmp_path)
    assert len(listing.recordings) == 1 and not listing.absent
    assert [note for note in listing.notes if "Windows-1252" in note]


@pytest.mark.parametrize(
    "text",
    [
        "video,hr_bpm,,\r\na.mp4,73,,\r\n,,,\r\n,,,\r\n",
        "video,hr_bpm\na.mp4,73,,,\n",
        "\n\nvideo;hr_bpm;light\na.mp4;73\n",
        "sep=;\r\nvideo;hr_bpm\r\na.mp4;73\r\n",
        '"sep=,"\nVIDEO,"HR bpm"\n" a.mp4 ","73"\n',
        "video\thr-bpm\na.mp4\t73\n",
        'hr_bpm;video;note\n73;a.mp4;"one, two; ""three"""\n',
    ],
)
def test_what_spreadsheets_add_or_leave_out_does_not_count(tmp_path: Path, text: str) -> None:
    (row,) = rows_of(tmp_path / "rates.csv", text.encode())
    assert (row["video"], row["hr_bpm"]) == ("a.mp4", "73")
    assert "note" not in row or row["note"] == 'one, two; "three"'


def test_lines_are_counted_as_an_editor_does(tmp_path: Path, video: bytes) -> None:
    for text in ("sep=;\nvideo;hr_bpm\n\na;x\n", 'video,hr_bpm,note\nb,70,"two\nlines"\na,x,\n'):
        with pytest.raises(BadRecording, match=r"line 4: 'x' is not a number"):
            tree(tmp_path, video, "a.mp4 b.mp4", rates=text)


@pytest.mark.parametrize(
    ("text", "bpm"),
    [
        ("video;hr_bpm\na;72,5\n", 72.5),
        ("video\thr_bpm\na\t72,5\n", 72.5),
        ('video,hr_bpm\na,"72,5"\n', 72.5),
        ("video;hr_bpm\na;72.5\n", 72.5),
        ("video;hr_bpm\na;72,125\n", 72.125),
    ],
)
def test_a_decimal_comma_is_one(tmp_path: Path, video: bytes, text: str, bpm: float) -> None:
    assert rates(tree(tmp_path, video, "a.mp4", rates=text)) == [[bpm]]


def test_a_wave_with_decimal_commas(tmp_path: Path, video: bytes) -> None:
    own = "Time (s);BVP;HR bpm\n" + "".join(f"{k / 20:.3f};{-k / 7:.4f};70,5\n".replace(".", ",") for k in range(60))
    reference = label(tree(tmp_path, video, "a.mp4", a=own))
    assert reference.t_s == pytest.approx(np.arange(60) / 20, abs=1e-3)
    assert reference.bvp == pytest.approx(-np.arange(60) / 7, abs=1e-3)
    assert reference.hr_bpm is not None and set(reference.hr_bpm) == {70.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('video,hr_bpm\na,"1,072"\n', r"line 2: hr_bpm '1,072' may be a thousand or a decimal comma"),
        ("video;hr_bpm;x\na;1,072;\nb;70;1.5\n", r"line 2: hr_bpm '1,072' may be"),
        ("video;hr_bpm\na;7_2\n", r"line 2: '7_2' is not a number"),
        ("video;hr_bpm\na;inf\n", r"line 2: 'inf' is not a number"),
        ("video;hr_bpm\na;72 bpm\n", r"line 2: '72 bpm' is not a number"),
        ("video,hr_bpm,\na,72,x\n", r"line 2: 'x' stands in column 3, which has no name"),
        ('video,hr_bpm\n"a,72\n', r"line 2: .*quotation mark"),
        (
            "video:hr_bpm\na:72\n",
            r"line 1: no column video; the columns are video:hr_bpm.*commas or semicolons or tabs",
        ),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(tmp_path: Path, video: bytes, text: str, words: str) -> None:
    with pytest.raises(BadRecording, match=words):
        tree(tmp_path, video, "a.mp4", rates=text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04rest", "is a spreadsheet"),
        (b"\xd0\xcf\x11\xe0rest", "is a spreadsheet"),
        (bytes(range(256)), "is not a text file"),
        (b"\xff\xfevideo", "is not a text file in UTF-8"),
        (b"video,hr_bpm\na\x81,70\n", "is not a text file in UTF-8"),
        (b"video,hr_bpm\na\x1b[2J,70\n", "is not a text file"),
        ("\ufeff \r\n".encode(), "is empty"),
    ],
)
def test_a_table_that_is_no_text_is_named(tmp_path: Path, video: bytes, content: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(video)
    (tmp_path / "rates.csv").write_bytes(content)
    with pytest.raises(BadRecording, match=rf"rates.csv' {words}") as error:
        list_recordings(tmp_path)
    assert "\n" not in str(error.value)


def test_a_table_that_is_too_large_or_no_file_is_not_read(
    tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "MAX_TABLE_BYTES", 20)
    with pytest.raises(BadRecording, match="rates.csv"):
        tree(tmp_path, video, "a.mp4", rates="video,hr_bpm\na,70.00001\n")
    (tmp_path / "rates.csv").unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "rates.csv")
        with pytest.raises(BadRecording, match="rates.csv"):
            list_recordings(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Which file a line means


@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("ANNA.MP4", "anna.mp4"),
        ("anna.mp4", "Anna.MP4"),
        ("Anna.MOV", "ANNA"),
        (unicodedata.normalize("NFD", "J\u00fcrgen.mp4"), "J\u00fcrgen.mp4"),
        (unicodedata.normalize("NFC", "J\u00fcrgen.mp4"), unicodedata.normalize("NFD", "J\u00dcRGEN.mp4")),
        ("take 1.mp4", "take\u202f1.mp4"),
        ("a.mp4", "C:\\data\\a.mp4"),
        ("a.mp4", "\\\\server\\share\\a.mp4"),
        ("a.mp4", "videos/A.mp4"),
        ("a.mp4", "videos\\sub/a"),
        ("a.mp4", "/media/disc/a.mp4"),
        ("a.mp4", "../../elsewhere/a.mp4"),
        ("a.mp4", "./a.mp4"),
        ("v1.2.mp4", "v1.2"),
    ],
)
def test_a_line_finds_its_file(tmp_path: Path, video: bytes, file: str, written: str) -> None:
    (tmp_path / file).write_bytes(video)
    (tmp_path / "rates.csv").write_text(f"video,hr_bpm,subject\n{written},73,s\n", encoding="utf-8")
    listing = list_recordings(tmp_path)
    (found,) = listing.recordings
    assert found.video == tmp_path / file and not listing.absent and not listing.notes
    assert found.session == unicodedata.normalize("NFC", Path(file).stem)


def test_a_path_leads_into_folders_inside_and_never_out(tmp_path: Path, video: bytes) -> None:
    root = tmp_path / "root"
    for home in (root / "s1", root / "S2 x", tmp_path / "out"):
        home.mkdir(parents=True)
        (home / "a.mp4").write_bytes(video)
    (root / "s1" / "A.csv").write_text("time_s,hr_bpm\n0,71\n2,71\n")
    (root / "rates.csv").write_text("video,hr_bpm\ns1/a.mp4,\nD:\\study\\s2 X\\a,72\n../out/a.mp4,73\n")
    listing = list_recordings(root)
    assert [(one.id, one.video.parent.name) for one in listing.recordings] == [
        ("folder/s1/a/s1/a", "s1"),
        ("folder/S2 x/a/S2 x/a", "S2 x"),
    ]
    assert rates(listing) == [[71], [72]]
    (gone,) = listing.absent
    assert "line 4" in gone.reason and "'../out/a.mp4'" in gone.reason and "looked for 'a.mp4'" in gone.reason


def skip_without_capitals(folder: Path) -> None:
    (folder / "probe").touch()
    if (folder / "PROBE").exists():
        pytest.skip("this file system has no two names that differ in capitals")
    (folder / "probe").unlink()


@pytest.mark.parametrize(
    ("videos", "table", "words"),
    [
        ("anna.mp4 ANNA.MP4", "Anna.mp4,70\n", r"line 2: 'Anna.mp4' fits 'ANNA.MP4' and 'anna.mp4'"),
        ("anna.mp4 ANNA.avi", "Anna,70\n", r"line 2: 'Anna' fits '(anna.mp4|ANNA.avi)' and '(anna.mp4|ANNA.avi)'"),
        ("a.mp4", "x\\a.mp4,70\ny/a.mp4,71\n", r"line 3: 'y/a.mp4' has a line already, number 2 \('x.*a.mp4'\)"),
        ("a.mp4", "a.mp4,70\nA,71\n", r"line 3: 'A' has a line already, number 2"),
        ("a.mp4", "gone.mp4,70\nGone.MP4,71\n", r"line 3: 'Gone.MP4' has a line already, number 2"),
    ],
)
def test_what_fits_twice_is_refused_with_both(
    tmp_path: Path, video: bytes, videos: str, table: str, words: str
) -> None:
    if len({name.casefold() for name in videos.split()}) < len(videos.split()):
        skip_without_capitals(tmp_path)
    with pytest.raises(BadRecording, match=words):
        tree(tmp_path, video, videos, rates="video,hr_bpm\n" + table)


def test_exact_names_tell_apart_what_differs_in_capitals(tmp_path: Path, video: bytes) -> None:
    skip_without_capitals(tmp_path)
    listing = tree(tmp_path, video, "a.mp4 A.mp4", rates="video,hr_bpm\na.mp4,70\nA.mp4,80\n")
    found = {one.session: rate for one, rate in zip(listing.recordings, rates(listing), strict=True)}
    assert found == {"a": [70], "A": [80]}
    assert any("'A' and 'a'" in note or "'a' and 'A'" in note for note in listing.notes), "two people, or one?"


def test_tables_are_found_whatever_their_capitals(tmp_path: Path, video: bytes) -> None:
    for name, text in (("Rates.CSV", "video,hr_bpm\na,70\n"), ("B.CSV", "time_s,hr_bpm\n0,75\n2,75\n")):
        (tmp_path / name).write_text(text)
    listing = tree(tmp_path, video, "a.mp4 b.mp4")
    assert rates(listing) == [[70], [75]] and not listing.absent


def test_every_file_and_line_without_a_counterpart_is_named_with_the_closest(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "notes.docx").touch()
    (tmp_path / "clip.xyz").touch()
    (tmp_path / "dir").mkdir()
    listing = tree(
        *(tmp_path, video, "anna_01.mp4 ben.mp4"),
        rates="video,hr_bpm\nanna_1.mp4,70\nben.avi,71\nclip.xyz,72\ndir,73\nC:\\x\\q.mp4,74\n",
        anna01="time_s,hr_bpm\n0,75\n2,76\n",
    )
    reasons = {one.id: one.reason for one in listing.absent}
    assert len(reasons) == len(listing.absent) == 8 and not listing.recordings
    text = " ".join(reasons.values())
    for words in (
        "anna_01.mp4 has no label: no line in rates.csv and there is no anna_01.csv; the closest name in rates.csv is "
        "'anna_1.mp4' in line 2",
        "line 2 of rates.csv names 'anna_1.mp4', which is no video in the folder: the closest name there is "
        "'anna_01.mp4'",
        "line 3 of rates.csv names 'ben.avi', which is no video in the folder: the closest name there is 'ben.mp4'",
        "'clip.xyz' is there, but .xyz is not known as a video",
        "'dir' is a folder",
        "looked for 'q.mp4'; no name there is like it",
        "anna01.csv has no video of its name beside it; the closest is 'anna_01'",
    ):
        assert words in text, words
    assert any("Not read" in note and "notes.docx" in note and "clip.xyz" not in note for note in listing.notes)


def test_a_table_and_a_line_without_their_video_are_one_absence(tmp_path: Path, video: bytes) -> None:
    own = "time_s,hr_bpm\n0,75\n2,76\n"
    (absent,) = tree(tmp_path, video, "a.mp4", rates="video,hr_bpm\na,70\ngone.mp4,71\n", gone=own).absent
    assert absent.id == "folder/gone/gone" and absent.reason.endswith("; gone.csv is there")


def test_a_folder_with_another_table_than_rates_csv_says_so(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "rates.txt").write_text("video,hr_bpm\na,70\n")
    (absent,) = tree(tmp_path, video, "a.mp4").absent
    assert "there is no rates.csv, only 'rates.txt', and there is no a.csv" in absent.reason


def test_subjects_are_people_and_no_paths(tmp_path: Path, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    composed, decomposed = (unicodedata.normalize(form, "J\u00f6rg") for form in ("NFC", "NFD"))
    names = ["../../escape", "..\\..\\escape", "/etc/x", composed, decomposed, "two  words", "two words"]
    lines = "".join(f"v{k},70,{name}\n" for k, name in enumerate(names))
    for k in range(len(names)):
        (tmp_path / f"v{k}.mp4").write_bytes(video)
    (tmp_path / "rates.csv").write_text("video,hr_bpm,subject\n" + lines, encoding="utf-8")
    listing = list_recordings(tmp_path)
    assert len({one.subject for one in listing.recordings}) == 5, "a name is one person in any form"
    for one in listing.recordings:
        name = file_stem(one.id)
        assert Path(name).name == name and "\\" not in name and ":" not in name and name.strip(".") == name


# ---------------------------------------------------------------------------------------------------------------------
# What the command says


def prepare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["autohr", "prepare", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    words = capsys.readouterr()
    return words.out, words.err


@pytest.mark.parametrize("name", DATASETS)
def test_prepare_prints_every_absence_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    absent = tuple(Absent(f"{name}/p{k}/1", f"reason {k}", known_gap=k == 2) for k in range(3))
    spec = dataclasses.replace(DATASETS[name], list_recordings=lambda root: Listing((), absent, ("A note.",)), needs=())
    monkeypatch.setattr(data, "DATASETS", {**DATASETS, name: spec})
    out, err = prepare(monkeypatch, capsys, name, tmp_path, "--out", tmp_path / "cache")
    assert all(f"Absent {name}/p{k}/1: reason {k}" in out.splitlines() for k in range(3))
    assert "Note: A note." in out and "the reasons are above" in err
    (manifest,) = (tmp_path / "cache").glob("*/*/manifest.json")
    assert all(f"reason {k}" in manifest.read_text() for k in range(3))


def test_prepare_of_nothing_known_does_not_point_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = dataclasses.replace(DATASETS["synthetic"], list_recordings=lambda root: Listing(()))
    monkeypatch.setattr(data, "DATASETS", {**DATASETS, "synthetic": spec})
    _, err = prepare(monkeypatch, capsys, "synthetic", tmp_path, "--out", tmp_path / "cache")
    assert "above" not in err and "holds none that the reader" in err
