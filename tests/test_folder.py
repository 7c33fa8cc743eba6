"""Anyone's own videos with a CSV: what is read, and what is complained about, with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autohr.data import DATASETS
from autohr.data.recording import Listing, Reference
from autohr.errors import BadRecording
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
    assert bvp is not None
    inner = slice(100, -100)
    assert bvp[inner] == pytest.approx(slow[inner], abs=0.1)


def test_both_files_may_speak_of_one_video(tmp_path: Path, video: bytes) -> None:
    listing = tree(
        *(tmp_path, video, "anna.mp4 ben.mp4"),
        rates="video,hr_bpm,subject\nanna,70,p\nben,80,p\n",
        anna="time_s,bvp\n0,1\n1,2\n2,1\n",
        ben="time_s,hr_bpm\n0,75\n2,76\n",
    )
    assert {one.subject for one in listing.recordings} == {"p"}
    anna, ben = label(listing, 0), label(listing, 1)
    assert anna.hr_bpm is not None and set(anna.hr_bpm) == {70.0} and anna.bvp is not None
    assert ben.hr_bpm is not None and list(ben.hr_bpm) == [75, 76]
    assert "80 bpm" in str(ben.notes), "the rate that was not used is said"


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
    ("rates", "said"),
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
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, video: bytes, rates: str, said: str) -> None:
    with pytest.raises(BadRecording, match=said):
        tree(tmp_path, video, "anna.mp4", rates=rates)


@pytest.mark.parametrize(
    ("own", "said"),
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
def test_a_bad_wave_is_named_with_its_line_when_it_is_read(tmp_path: Path, video: bytes, own: str, said: str) -> None:
    listing = tree(tmp_path, video, "anna.mp4", anna=own)
    with pytest.raises(BadRecording, match=said):
        label(listing)


def test_a_folder_that_is_none_or_cannot_be_told(tmp_path: Path, video: bytes) -> None:
    with pytest.raises(BadRecording, match="no folder"):
        list_recordings(tmp_path / "none")
    with pytest.raises(BadRecording, match="no video"):
        list_recordings(tmp_path)
    with pytest.raises(BadRecording, match=r"anna.avi.*anna.mp4"):
        tree(tmp_path, video, "anna.mp4 anna.avi")
