"""VIPL-HR, MAHNOB-HCI, MMSE-HR and BP4D+: what is listed, which clock the frames are on, what damage is named."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from autohr.errors import AutoHRError, BadRecording
from autohr.frontend import CropConfig
from autohr.lab.datasets import DATASETS, mahnob_hci, mmse_hr, vipl_hr
from autohr.lab.datasets.cache import prepare
from autohr.lab.datasets.recording import Listing, Recording, Reference
from autohr.signals.filters import bandpass
from autohr.types import Float
from made import FACE_OF_TREE, MiddleDetector
from test_readers_other import check_pulse, frames_of
from trees import bp4d_plus_tree, made_ecg, mahnob_hci_tree, mmse_hr_tree, vipl_hr_tree, write_bdf

VIPL_TAKES = ("v1/source1", "v1/source3", "v1/source2", "v4-2/source1")


Trees = dict[str, tuple[Path, dict[str, float]]]
"""Dataset -> its folder, and the true rate of each recording."""


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    root = {name: tmp_path_factory.mktemp(name) for name in ("vipl_hr", "mahnob_hci", "mmse_hr", "bp4d_plus")}
    return {
        "vipl_hr": (root["vipl_hr"], vipl_hr_tree(root["vipl_hr"], n_subjects=1, takes=VIPL_TAKES)),
        "mahnob_hci": (root["mahnob_hci"], mahnob_hci_tree(root["mahnob_hci"])),
        "mmse_hr": (root["mmse_hr"], mmse_hr_tree(root["mmse_hr"])),
        "bp4d_plus": (root["bp4d_plus"], bp4d_plus_tree(root["bp4d_plus"])),
    }


def copied(dataset: str, fixture: str) -> Callable[[Trees, Path], Path]:
    """Make the fixture of a copy of a tree that a test may damage."""

    @pytest.fixture(name=fixture)
    def copy(trees: Trees, tmp_path: Path) -> Path:
        return Path(shutil.copytree(trees[dataset][0], tmp_path / dataset))

    return copy


_vipl, _mahnob = copied("vipl_hr", "vipl_root"), copied("mahnob_hci", "mahnob_root")
_mmse, _bp4d = copied("mmse_hr", "mmse_root"), copied("bp4d_plus", "bp4d_root")


def listed(root: Path, dataset: str) -> Listing:
    return DATASETS[dataset].list_recordings(root)


def by_id(root: Path, dataset: str, ending: str = "") -> Recording:
    return next(one for one in listed(root, dataset).recordings if one.id.endswith(ending))


# --- all of them


every = pytest.mark.parametrize("dataset", ["vipl_hr", "mahnob_hci", "mmse_hr", "bp4d_plus"])


@every
def test_what_is_there_is_listed_and_beats_as_it_should(dataset: str, trees: Trees) -> None:
    root, known = trees[dataset]
    listing = listed(root, dataset)
    assert {one.id for one in listing.recordings} == set(known)
    for recording in listing.recordings:
        # Wave and skin would be off by 20 % on a wrong clock.
        _, t_s, green = check_pulse(recording, known[recording.id], within_bpm=2.0)
        reference = recording.read_reference()
        assert reference is not None and reference.hr_bpm is not None and reference.bvp is not None
        inside = (reference.t_s >= t_s[0]) & (reference.t_s <= t_s[-1])
        assert np.isfinite(reference.hr_bpm[inside]).mean() > 0.95
        # They rise together, so their clocks begin together.
        both = np.stack([-green, np.interp(t_s, reference.t_s, np.nan_to_num(reference.bvp))])
        fps = (len(t_s) - 1) / (t_s[-1] - t_s[0])
        assert np.asarray(np.corrcoef(bandpass(both, fps)))[0, 1] > 0.8, recording.id


@every
def test_what_is_prepared_has_the_known_rate(dataset: str, trees: Trees, tmp_path: Path) -> None:
    root, known = trees[dataset]
    recording = listed(root, dataset).recordings[0]
    manifest = prepare([recording], tmp_path, CropConfig(size_px=16), workers=1, detector=MiddleDetector(FACE_OF_TREE))
    (entry,) = manifest.entries
    assert entry.state == "ok", entry.reason
    assert [segment.hr_bpm for segment in entry.segments] == [pytest.approx(known[recording.id], abs=0.5)]


@every
def test_another_folder_is_refused(dataset: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadRecording, match="Give the folder"):
            listed(root, dataset)


@every
def test_listing_reads_no_wave(dataset: str, trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> Any:
        raise AssertionError("read while listing")

    for module, name in (
        (vipl_hr, "read_columns"),
        (vipl_hr, "open_video"),
        (mahnob_hci, "_open_bdf"),
        (mmse_hr, "_read_kilohertz"),
    ):
        monkeypatch.setattr(module, name, no)
    assert listed(trees[dataset][0], dataset).recordings


# --- VIPL-HR


def test_vipl_accounts_for_every_recording(vipl_root: Path) -> None:
    shutil.rmtree(vipl_root / "data" / "p1" / "v1" / "source3")
    (vipl_root / "data" / "p1" / "v2" / "source4").mkdir(parents=True)
    (vipl_root / "data" / "p1" / "v3" / "source1").mkdir(parents=True)
    (vipl_root / "data" / "p1" / "v2" / "source1x").mkdir()
    listing = listed(vipl_root, "vipl_hr")
    absent = {one.id: one for one in listing.absent}
    assert len(listing.recordings) + len(absent) == 107 * (7 * 3 + 2) + 1, "every place, and one second take"
    assert len(listing.recordings) == 3
    assert not absent["vipl_hr/p1/v1-source3"].known_gap
    assert absent["vipl_hr/p1/v7-source1"].known_gap
    assert "no video.avi" in absent["vipl_hr/p1/v3-source1"].reason
    assert any("source1x" in note for note in listing.notes)
    assert not any("source4" in one for one in absent)
    groups = by_id(vipl_root, "vipl_hr", "v4-2-source1").groups
    assert groups == {"scenario": "dark", "source": "web camera", "take": "2"}


def test_vipl_without_its_lists(vipl_root: Path) -> None:
    for name in ("Missing_data.txt", "Additional_data.txt"):
        (vipl_root / name).unlink()
    shutil.rmtree(vipl_root / "fold")
    listing = listed(vipl_root, "vipl_hr")
    assert sum(one.known_gap for one in listing.absent) == 103, "2358 of 2461 first takes were recorded"
    assert [one.fold for one in listing.recordings] == [None] * 4
    assert len([note for note in listing.notes if "fold" in note or ".txt" in note]) == 4
    bare = vipl_root / "data"
    assert {one.id for one in listed(bare, "vipl_hr").recordings} == {one.id for one in listing.recordings}


def test_vipl_folds_are_the_official_ones(vipl_root: Path) -> None:
    fold = vipl_root / "fold" / "fold3.mat"
    assert by_id(vipl_root, "vipl_hr").fold == 1
    for spoil, words in (
        (lambda: savemat(fold, {"fold3": np.array([[1], [3]], dtype=float)}), r"p1 stands in fold1\.mat and in .*"),
        (lambda: savemat(fold, {"other": np.array([3.0])}), r"fold3\.mat' holds no variable 'fold3', only other"),
        (lambda: fold.write_bytes(b"no mat"), r"fold3\.mat' cannot be read as a MAT file"),
        (fold.unlink, r"fold3\.mat' is missing"),
    ):
        spoil()
        with pytest.raises(BadRecording, match=words):
            listed(vipl_root, "vipl_hr")


def write(text: str) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.write_text(text)

    return put


def cut_to(n_lines: int) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        path.write_text("\n".join(path.read_text().splitlines()[:n_lines]) + "\n")

    return cut


def changed(line: int, text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[line - 1] = text
        path.write_text("\n".join(lines) + "\n")

    return change


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("time.txt", Path.unlink, r"time\.txt' is missing"),
        ("time.txt", write(""), r"time\.txt' is empty"),
        ("time.txt", write("0\n"), r"time\.txt' holds one time"),
        ("time.txt", changed(7, "x"), r"time\.txt', line 7: 'x' is not a number"),
        ("time.txt", changed(9, "2"), r"time\.txt', line 9: 2 ms lies before"),
        ("wave.csv", write("Wave\n"), r"wave\.csv' holds a header and no row"),
        ("wave.csv", changed(1, "HR"), r"wave\.csv', line 1: the header is 'HR'"),
        ("wave.csv", changed(33, "6?"), r"wave\.csv', line 33: '6\?' is not a number"),
        ("gt_HR.csv", write(""), r"gt_HR\.csv' is empty"),
        ("gt_HR.csv", changed(3, "71,72"), r"gt_HR\.csv', line 3: 2 column"),
    ],
)
def test_vipl_damage_is_named(name: str, spoil: Callable[[Path], None], words: str, vipl_root: Path) -> None:
    spoil(vipl_root / "data" / "p1" / "v1" / "source1" / name)
    recording = by_id(vipl_root, "vipl_hr", "v1-source1")
    with pytest.raises(BadRecording, match=words):
        recording.read_frame_times()
        recording.read_reference()


def all_unknown(path: Path) -> None:
    path.write_text("HR\n" + "255\n" * 8)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("wave.csv", cut_to(300), "wave.csv has 299 rows for 7.0 s of video, 43.0 a second"),
        ("wave.csv", Path.unlink, "There is no wave.csv"),
        ("gt_HR.csv", Path.unlink, "There is no gt_HR.csv"),
        ("gt_HR.csv", cut_to(4), "gt_HR.csv is 3 s long, the video 7.0 s"),
        ("gt_HR.csv", changed(4, "255"), "gt_HR.csv knows nothing in 1 of 8 s (255)"),
        ("gt_HR.csv", all_unknown, "gt_HR.csv knows nothing in 8 of 8 s (255)"),
    ],
)
def test_vipl_oddities_are_noted(name: str, spoil: Callable[[Path], None], words: str, vipl_root: Path) -> None:
    folder = vipl_root / "data" / "p1" / "v1" / "source1"
    spoil(folder / name)
    reference = by_id(vipl_root, "vipl_hr", "v1-source1").read_reference()
    assert reference is not None
    assert any(words in note for note in reference.notes), reference.notes
    if "3 s" in words or "1 of 8" in words:
        assert reference.hr_bpm is not None
        unknown_s = reference.t_s[np.isnan(reference.hr_bpm)]
        assert len(unknown_s) and (unknown_s > 1.0).all()
    if words.startswith("wave.csv has"):
        assert reference.t_s[-1] == pytest.approx(298 / 60), "not stretched over the video"


def test_vipl_with_neither_wave_nor_rate(vipl_root: Path) -> None:
    folder = vipl_root / "data" / "p1" / "v1" / "source1"
    (folder / "wave.csv").unlink()
    all_unknown(folder / "gt_HR.csv")
    with pytest.raises(BadRecording, match="holds no rate of a heart"):
        by_id(vipl_root, "vipl_hr", "v1-source1").read_reference()
    (folder / "gt_HR.csv").unlink()
    with pytest.raises(BadRecording, match="neither"):
        by_id(vipl_root, "vipl_hr", "v1-source1").read_reference()


def test_vipl_two_frames_of_one_millisecond(vipl_root: Path) -> None:
    path = vipl_root / "data" / "p1" / "v1" / "source1" / "time.txt"
    stamps = path.read_text().split()
    changed(12, stamps[10])(path)
    times_s = by_id(vipl_root, "vipl_hr", "v1-source1").read_frame_times()
    assert times_s is not None
    assert (np.diff(times_s) > 0).all()
    assert times_s[11] - times_s[10] == pytest.approx(0.0005)
    changed(13, stamps[10])(path)
    with pytest.raises(BadRecording, match="line 13: three frames of one time"):
        by_id(vipl_root, "vipl_hr", "v1-source1").read_frame_times()


def test_vipl_the_phones_clock(vipl_root: Path) -> None:
    folder = vipl_root / "data" / "p1" / "v1" / "source2"

    def clock() -> tuple[float, str]:
        recording = by_id(vipl_root, "vipl_hr", "v1-source2")
        times_s, reference = recording.read_frame_times(), recording.read_reference()
        assert times_s is not None and isinstance(reference, Reference)
        assert reference.t_s[-1] == pytest.approx(times_s[-1], abs=0.2)
        return 1 / float(np.diff(times_s).mean()), reference.notes[0]

    fps, note = clock()
    assert fps == pytest.approx(30) and "nominal 30" in note
    # A phone that slowed down in the dark: both files of the oximeter are 10.5 s long for 210 frames.
    wave = (folder / "wave.csv").read_text().splitlines()
    (folder / "wave.csv").write_text("\n".join(wave + wave[1:211]) + "\n")
    (folder / "gt_HR.csv").write_text("HR\n" + "70\n" * 11)
    fps, note = clock()
    assert fps == pytest.approx(20) and "210 frames over the 10.5 s of wave.csv are 20.00 a second" in note
    (folder / "gt_HR.csv").write_text("HR\n" + "70\n" * 8)
    recording = by_id(vipl_root, "vipl_hr", "v1-source2")
    times_s, reference = recording.read_frame_times(), recording.read_reference()
    assert times_s is not None and reference is not None
    assert np.diff(times_s).mean() == pytest.approx(1 / 30)
    assert "although" in reference.notes[0]


# --- MAHNOB-HCI


def test_mahnob_knows_the_527() -> None:
    assert len(set(mahnob_hci.SESSIONS)) == 527
    by_person = Counter((number - 2) // 130 + 1 for number in mahnob_hci.SESSIONS)
    assert len(by_person) == 27 and max(by_person) == 30
    # Everybody saw 20 films but three people, whose recordings break off.
    assert {person: n for person, n in by_person.items() if n != 20} == {3: 17, 9: 14, 16: 16}


def test_mahnob_accounts_for_every_session(mahnob_root: Path) -> None:
    listing = listed(mahnob_root, "mahnob_hci")
    assert len(listing.recordings) + len(listing.absent) == 527
    assert any("1 session" in note for note in listing.notes)
    recording = listing.recordings[0]
    assert recording.span == (75, 180), "5 s at 15 frames per second, to the end of a short video"
    assert "ends at frame 180" in recording.notes[0]
    assert {one.id for one in listed(mahnob_root / "Sessions", "mahnob_hci").recordings} == {
        one.id for one in listing.recordings
    }


def test_mahnob_frames_306_to_2135_at_61(mahnob_root: Path) -> None:
    path = mahnob_root / "Sessions" / "2" / "session.xml"
    text = path.read_text().replace('vidRate="15.0"', 'vidRate="60.9708"').replace('"2010.0"', '"8000.0"')
    path.write_text(text)
    recording = by_id(mahnob_root, "mahnob_hci", "/2")
    assert recording.span == (305, 2135)
    assert recording.video_fps == pytest.approx(60.9708)
    assert not recording.notes


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        path = folder / "session.xml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return replace


def without(pattern: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(pattern)).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without("session.xml"), "no session.xml"),
        (without("*.avi"), r"no P1-Rec1.*\.avi, which session.xml names"),
        (without("*.bdf"), r"no Part_1_S_Trial1_emotion\.bdf"),
        (replaced("</session>", ""), "cannot be read"),
        (replaced('vidRate="15.0"', 'vidRate="quick"'), "vidRate='quick', which is not a number"),
        (replaced('vidRate="15.0"', ""), "vidRate=None"),
        (replaced('vidRate="15.0"', 'vidRate="0"'), "vidRate='0', which is no frame rate"),
        (replaced('color="1"', 'color="2"'), "names no colour video"),
        (replaced('"Physiological"', '"Other"'), "names no physiological file"),
        (replaced('filename="Part_1', 'filename="../Part_1'), "names a file elsewhere"),
    ],
)
def test_mahnob_a_session_that_cannot_be_used_is_named(
    spoil: Callable[[Path], None], words: str, mahnob_root: Path
) -> None:
    spoil(mahnob_root / "Sessions" / "2")
    listing = listed(mahnob_root, "mahnob_hci")
    assert len(listing.recordings) == 1
    absent = next(one for one in listing.absent if one.id == "mahnob_hci/P1/2")
    assert not absent.known_gap
    assert re.search(words, absent.reason), absent.reason


def test_mahnob_files_of_another_participant_are_noted(mahnob_root: Path) -> None:
    shutil.rmtree(mahnob_root / "Sessions" / "132")
    shutil.copytree(mahnob_root / "Sessions" / "2", mahnob_root / "Sessions" / "132")
    assert any("participant 1, not 2" in note for note in by_id(mahnob_root, "mahnob_hci", "/132").notes)


SECONDS = 25
FLAT = np.zeros(SECONDS * 256)
RUNS = np.where((np.arange(SECONDS * 256) >= 6 * 256) & (np.arange(SECONDS * 256) < 19 * 256), 16.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "waves", "words"),
    [
        (("EXG1", "EXG2"), {"EXG2": FLAT}, "no channel 'Status', only EXG1, EXG2"),
        (("EXG1", "Status"), {"Status": RUNS}, "no channel 'EXG2'"),
        (("EXG2", "Status"), {"EXG2": FLAT}, "is zero throughout"),
        (("EXG2", "Status"), {"EXG2": FLAT, "Status": RUNS}, "regular beats in only 0 %"),
    ],
)
def test_mahnob_a_useless_bdf_is_named(
    labels: tuple[str, ...], waves: dict[str, Float], words: str, mahnob_root: Path
) -> None:
    write_bdf(next((mahnob_root / "Sessions" / "2").glob("*.bdf")), waves, 256, labels)
    with pytest.raises(BadRecording, match=words):
        by_id(mahnob_root, "mahnob_hci", "/2").read_reference()


@pytest.mark.parametrize("n_bytes", [0, 100, 20_000])
def test_mahnob_a_bdf_cut_short_is_named(n_bytes: int, mahnob_root: Path) -> None:
    path = next((mahnob_root / "Sessions" / "2").glob("*.bdf"))
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(BadRecording, match="cannot be read as a BDF file"):
        by_id(mahnob_root, "mahnob_hci", "/2").read_reference()


def test_mahnob_channels_that_disagree_and_clocks_that_do(mahnob_root: Path) -> None:
    ecg, other = (made_ecg(np.arange(0.5, SECONDS - 0.5, 60 / bpm), 256, SECONDS) for bpm in (70.0, 90.0))
    path = next((mahnob_root / "Sessions" / "2").glob("*.bdf"))
    write_bdf(path, {"EXG1": ecg, "EXG2": ecg, "EXG3": other, "Status": np.roll(RUNS, -6 * 256)}, 256)
    replaced('"2010.0"', '"1900.0"')(mahnob_root / "Sessions" / "2")
    reference = by_id(mahnob_root, "mahnob_hci", "/2").read_reference()
    assert reference is not None
    notes = " ".join(reference.notes)
    assert "EXG2 beats at 70 bpm, EXG3 at 90." in notes and "EXG1" not in notes
    assert "Status marks 13.0 s, session.xml a video of 4.7 s" in notes
    assert "Status is not zero from the first sample on" in notes


def test_mahnob_without_pyedflib_says_what_to_install(mahnob_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = by_id(mahnob_root, "mahnob_hci", "/2")
    monkeypatch.setitem(sys.modules, "pyedflib", None)
    with pytest.raises(AutoHRError, match=r"pip install 'autohr\[datasets\]'"):
        recording.read_reference()


# --- MMSE-HR and BP4D+


def test_mmse_accounts_for_every_recording(mmse_root: Path) -> None:
    shutil.rmtree(mmse_root / "first10subjects_2D" / "F001")
    (mmse_root / "T10_T11_30Subjects" / "F009" / "T10").mkdir(parents=True)
    shutil.copy(
        next((mmse_root / "T10_T11_30Subjects").rglob("*.jpg")), mmse_root / "T10_T11_30Subjects" / "F009" / "T10"
    )
    listing = listed(mmse_root, "mmse_hr")
    reasons = {one.id: one for one in listing.absent}
    assert [one.id for one in listing.recordings] == ["mmse_hr/M002/T11"]
    assert "no pictures" in reasons["mmse_hr/F001/T1"].reason
    assert "no physiology" in reasons["mmse_hr/F009/T10"].reason
    assert reasons["mmse_hr/F042/T11"].known_gap
    assert reasons["mmse_hr/unnamed"].reason.startswith("99 of 102")


def test_mmse_pictures_and_physiology_may_share_a_folder(mmse_root: Path, tmp_path: Path) -> None:
    both = shutil.copytree(mmse_root / "first10subjects_2D", tmp_path / "both")
    shutil.copytree(mmse_root / "first10subjects_Phydatareleased" / "Phydata", both, dirs_exist_ok=True)
    assert [one.id for one in listed(tmp_path / "both", "mmse_hr").recordings] == ["mmse_hr/F001/T1"]


def test_mmse_the_pictures_numbers_are_the_clock(mmse_root: Path) -> None:
    folder = mmse_root / "first10subjects_2D" / "F001" / "T1"
    (folder / "020.jpg").unlink()
    (folder / "021.jpg").unlink()
    recording = by_id(mmse_root, "mmse_hr", "T1")
    times_s = recording.read_frame_times()
    assert times_s is not None
    assert times_s[20] == pytest.approx(22 / 25)
    assert len(list(frames_of(recording))) == len(times_s)
    shutil.copy(folder / "030.jpg", folder / "0030.jpg")
    with pytest.raises(BadRecording, match="two with one number"):
        recording.read_frame_times()
    (folder / "030.jpg").rename(folder / "face.jpg")
    with pytest.raises(BadRecording, match=r"'face\.jpg' .* has no number"):
        recording.read_frame_times()


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        (mmse_hr.RATE, write(""), r"Rate_BPM\.txt' is empty"),
        (mmse_hr.RATE, changed(40, "seven"), r"Rate_BPM\.txt', line 40: 'seven' is not a number"),
        (mmse_hr.PRESSURE, changed(9, ""), r"BP_mmHg\.txt', line 9: '' is not a number"),
        (mmse_hr.PRESSURE, write("nan\nnan\n"), r"BP_mmHg\.txt' holds no number"),
        (mmse_hr.PRESSURE, lambda path: path.write_bytes(b"\xff\xfe\x00\x81" * 9), "is not a text file"),
    ],
)
def test_mmse_damage_is_named(name: str, spoil: Callable[[Path], None], words: str, mmse_root: Path) -> None:
    spoil(mmse_root / "first10subjects_Phydatareleased" / "Phydata" / "F001" / "T1" / name)
    with pytest.raises(BadRecording, match=words):
        by_id(mmse_root, "mmse_hr", "T1").read_reference()


def test_mmse_oddities_are_noted(mmse_root: Path) -> None:
    folder = mmse_root / "first10subjects_Phydatareleased" / "Phydata" / "F001" / "T1"
    lines = (folder / mmse_hr.RATE).read_text().splitlines()
    true_bpm = float(lines[0])
    (folder / mmse_hr.RATE).write_text("\n".join(["Pulse Rate", *["0"] * 2000, *lines[2000:5000]]) + "\n")
    reference = by_id(mmse_root, "mmse_hr", "T1").read_reference()
    assert reference is not None and reference.hr_bpm is not None and reference.bvp is not None
    notes = " ".join(reference.notes)
    assert "line 1: 'Pulse Rate' was taken for a header" in notes
    assert "knows nothing in 2.0 of 5.0 s" in notes
    assert "has 7000 lines, Pulse Rate_BPM.txt 5000" in notes
    assert np.isnan(reference.hr_bpm[:150]).all() and np.isnan(reference.hr_bpm[551:]).all()
    assert np.nanmean(reference.hr_bpm) == pytest.approx(true_bpm, abs=3)
    assert np.isfinite(reference.bvp).all()
    (folder / mmse_hr.PRESSURE).unlink()
    without_wave = by_id(mmse_root, "mmse_hr", "T1").read_reference()
    assert without_wave is not None and without_wave.bvp is None
    (folder / mmse_hr.RATE).write_text("0\n" * 3000)
    with pytest.raises(BadRecording, match="holds no rate of a heart"):
        by_id(mmse_root, "mmse_hr", "T1").read_reference()


def test_bp4d_zips_are_read_as_they_are(bp4d_root: Path) -> None:
    path = bp4d_root / "2D+3D" / "F001.zip"
    recording = by_id(bp4d_root, "bp4d_plus", "F001/T4")
    assert recording.video == path
    shutil.copytree(bp4d_root / "2D+3D" / "M001", bp4d_root / "2D+3D" / "F001")
    assert any("F001/T4 has pictures in" in note for note in listed(bp4d_root, "bp4d_plus").notes)
    shutil.rmtree(bp4d_root / "2D+3D" / "F001")

    with zipfile.ZipFile(path, "a") as file:
        file.writestr("F001/T4/999.jpg", b"no picture")
    with pytest.raises(AutoHRError, match=r"'999\.jpg' .* is no picture"):
        list(frames_of(by_id(bp4d_root, "bp4d_plus", "F001/T4")))
    assert len(list(itertools.islice(frames_of(by_id(bp4d_root, "bp4d_plus", "F001/T4")), 5))) == 5, "one at a time"
    path.write_bytes(path.read_bytes()[:5000])
    listing = listed(bp4d_root, "bp4d_plus")
    assert any("F001.zip' cannot be opened" in note for note in listing.notes)
    assert [one.id for one in listing.recordings] == ["bp4d_plus/M001/T4"]
    assert "no pictures" in next(one.reason for one in listing.absent if one.id == "bp4d_plus/F001/T4")
