"""The readers of the other datasets, over miniature copies of each (trees_other.py): what is found, that the clocks
fit, and that every kind of damage is named."""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from autohr.errors import AutoHRError, BadRecording
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.columns import below_half_rate, increasing, read_columns, read_lines
from autohr.lab.datasets.recording import Listing, Recording
from autohr.signals.filters import bandpass, resample
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float
from autohr.video.decode import VideoFrame, open_video
from trees_other import TREES, Take


@dataclass(frozen=True)
class Copy:
    root: Path
    takes: dict[str, Take]
    listing: Listing

    def recording(self, id: str | None = None) -> Recording:
        return next(one for one in self.listing.recordings if id in (None, one.id))


Copies = Callable[[str], Copy]
"""Dataset -> its miniature, made when it is first asked for."""


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    made: dict[str, Copy] = {}

    def copy_of(dataset: str) -> Copy:
        if dataset not in made:
            root = tmp_path_factory.mktemp(dataset)
            takes = TREES[dataset](root)
            made[dataset] = Copy(root, takes, DATASETS[dataset].list_recordings(root))
        return made[dataset]

    return copy_of


def frames_of(recording: Recording) -> Iterator[VideoFrame]:
    if recording.open_frames is not None:
        yield from recording.open_frames()
    else:
        # Pictures need some rate to be opened at all; the reader's clock takes its place.
        fps = recording.video_fps or (1.0 if recording.video.is_dir() else None)
        with open_video(recording.video, fps=fps) as video:
            yield from video


def rate_bpm(t_s: Float, wave: Float) -> float:
    even_s = np.arange(t_s[0], t_s[-1], 1 / 30)
    found = estimate_heart_rate(bandpass(resample(t_s, wave, even_s), 30.0), 30.0).hr_bpm
    assert found is not None
    return found


def check_pulse(recording: Recording, true_bpm: float, within_bpm: float) -> tuple[list[VideoFrame], Float, Float]:
    """Check that a recording's reference beats at the known rate, and so do its pixels on the reader's clock.

    Done as a worker does it, with a recording that was pickled. Returns its frames, their times and their green (T,).
    """
    recording = pickle.loads(pickle.dumps(recording))
    reference = recording.read_reference()
    assert reference is not None and reference.bvp is not None
    frames = list(frames_of(recording))
    read_s = recording.read_frame_times()
    t_s = np.array([frame.t_s for frame in frames]) if read_s is None else read_s
    assert len(t_s) == len(frames), "one time for each frame"
    first, end = recording.span or (0, len(frames))
    frames, t_s = frames[first:end], t_s[first:end]
    inside = (reference.t_s >= t_s[0]) & (reference.t_s <= t_s[-1])
    if reference.hr_bpm is not None:
        assert np.nanmean(reference.hr_bpm[inside]) == pytest.approx(true_bpm, abs=0.5), recording.id
    known = inside & np.isfinite(reference.bvp)
    assert rate_bpm(reference.t_s[known], reference.bvp[known]) == pytest.approx(true_bpm, abs=within_bpm), recording.id
    height, width = frames[0].rgb.shape[:2]
    face = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    green = np.array([frame.rgb[(*face, 1)].mean() for frame in frames])
    assert rate_bpm(t_s, -green) == pytest.approx(true_bpm, abs=within_bpm), recording.id
    return frames, t_s, green


every = pytest.mark.parametrize("dataset", sorted(TREES))


@every
def test_every_recording_is_found_and_every_other_is_accounted_for(dataset: str, copies: Copies) -> None:
    copy, spec = copies(dataset), DATASETS[dataset]
    assert spec.name == dataset and spec.title and spec.access and spec.basis and spec.n_recordings
    ids = [one.id for one in copy.listing.recordings]
    assert sorted(ids) == sorted(copy.takes)
    absent = [one.id for one in copy.listing.absent]
    assert len({*ids, *absent}) == len(ids) + len(absent)
    known_gaps = sum(one.known_gap for one in copy.listing.absent)
    if dataset in ("scamps", "ibvp"):  # the names of what is missing are not known; the listing says how many
        assert len(ids) + len(absent) < spec.n_recordings and copy.listing.notes
    else:
        assert len(ids) + len(absent) == spec.n_recordings + known_gaps
    assert all(one.reason for one in copy.listing.absent)


@every
def test_wave_rate_and_frames_tell_one_pulse_at_one_time(dataset: str, copies: Copies) -> None:
    copy = copies(dataset)
    for recording in copy.listing.recordings:
        one = copy.takes[recording.id]
        frames, t_s, green = check_pulse(recording, one.hr_bpm, within_bpm=0.5)
        # The stamps of some are whole milliseconds; containers round as well.
        np.testing.assert_allclose(t_s, one.t_s, atol=0.002)
        assert np.abs(frames[0].rgb.astype(int) - one.frames[0]).mean() < 8, "colours or axes are turned about"
        reference = recording.read_reference()
        assert reference is not None and reference.bvp is not None
        known = np.isfinite(reference.bvp)
        even_s = np.arange(max(t_s[0], reference.t_s[known][0]), min(t_s[-1], reference.t_s[known][-1]), 0.005)
        pulse = bandpass(np.interp(even_s, t_s, -green), 200.0)
        wave = bandpass(np.interp(even_s, reference.t_s[known], reference.bvp[known]), 200.0)
        shifts = np.arange(-50, 51)
        middle = slice(200, len(even_s) - 200)
        r = [np.corrcoef(pulse[middle], np.roll(wave, shift)[middle])[0, 1] for shift in shifts]
        assert abs(shifts[int(np.argmax(r))] * 0.005) <= 0.03, "wave and video are shifted"
        assert max(r) > 0.9


TRUTHS = (  # files with a reference of the first recording; text: a table; tree: JSON or XML; binary: HDF5 or MAT
    ("ubfc_rppg_1", "DATASET_1/7-gt/gtdump.xmp", "text"),
    ("ubfc_rppg_2", "DATASET_2/subject1/ground_truth.txt", "text"),
    ("pure", "01-01/01-01.json", "tree"),
    ("cohface", "1/0/data.hdf5", "binary"),
    ("ubfc_phys", "Data/s1/bvp_s1_T1.csv", "text"),
    ("lgi_ppgi", "alex/alex_gym/cms50_stream_handler.xml", "tree"),
    ("lgi_ppgi", "alex/alex_gym/cv_camera_sensor_timer_stream_handler.xml", "tree"),
    ("ecg_fitness", "00/01/viatom-raw.csv", "text"),
    ("ecg_fitness", "00/01/c920.csv", "text"),
    ("mmpd", "subject1/p1_0.mat", "binary"),
    ("scamps", "scamps_videos/P000001.mat", "binary"),
    ("ibvp", "p01_a/p01_a_bvp.csv", "text"),
    ("mcd_rppg", "ppg_sync/1020_FullHDwebcam_before.txt", "text"),
)


def beside(path: Path, listing: Listing) -> Recording:
    """Return the recording whose video is the file itself, lies beside it or above it, or has its name."""
    return next(
        one
        for one in listing.recordings
        if path.stem == one.video.stem
        or (path.parent in (one.video, one.video.parent) and (one.open_frames is None or one.video == path))
    )


@contextlib.contextmanager
def damaged(path: Path, content: bytes | None) -> Iterator[None]:
    """``path`` holds ``content``, or is not there, for a while."""
    whole = path.read_bytes()
    try:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        yield
    finally:
        path.write_bytes(whole)


def a_number_spoilt(whole: bytes) -> bytes:
    """Some number in the middle becomes a word."""
    lines = whole.split(b"\n")
    at = max(range(len(lines)), key=lambda i: (len(lines[i]) > 0) * (i <= len(lines) // 2) * (i + 1))
    lines[at] = re.sub(rb"[-+0-9.e]+(?=[^-+0-9.e]*$)", b"n/a", lines[at], count=1)
    return b"\n".join(lines)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes | None], tuple[str, ...], str]] = {
    "missing": (lambda whole: None, ("text", "tree", "binary"), "is missing"),
    "empty": (lambda whole: b"", ("text", "tree", "binary"), "empty|no element|damaged"),
    "only blanks": (lambda whole: b" \r\n\r\n", ("text", "tree"), "empty|no element"),
    "not text": (lambda whole: b"\xff\xfe\x00\x81" * 50, ("text", "tree"), "not a text file|not well-formed"),
    "another file": (lambda whole: b"Name;Age\nAnna;3\n", ("text", "tree", "binary"), "line|damaged"),
    "a word for a number": (a_number_spoilt, ("text",), r"line \d+: 'n/a.*not a number"),
    "cut in a line": (lambda whole: whole[: len(whole) * 3 // 5].rstrip(b"0123456789.\r\n-"), ("tree",), "line"),
    "cut short": (lambda whole: whole[: len(whole) * 3 // 5], ("binary",), "damaged|cut off"),
}


CASES = [
    pytest.param(dataset, truth, damage, id=f"{dataset}-{Path(truth).stem}-{damage}")
    for dataset, truth, kind in TRUTHS
    for damage, (_, kinds, _) in DAMAGES.items()
    # MMPD's and SCAMPS's file is the video, too: without it the recording is absent.
    if kind in kinds and not (damage == "missing" and truth.endswith(".mat"))
]


@pytest.mark.parametrize(("dataset", "truth", "damage"), CASES)
def test_damage_is_named_and_only_when_it_is_read(dataset: str, truth: str, damage: str, copies: Copies) -> None:
    spoil, _, words = DAMAGES[damage]
    copy = copies(dataset)
    path = copy.root / truth
    with damaged(path, spoil(path.read_bytes())):
        listing = DATASETS[dataset].list_recordings(copy.root)
        assert len(listing.recordings) == len(copy.takes)
        recording = beside(path, listing)
        with pytest.raises(BadRecording, match=words) as caught:
            recording.read_reference()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "video"),
    [
        ("ubfc_rppg_1", "DATASET_1/7-gt/vid-007.avi"),
        ("ubfc_rppg_2", "DATASET_2/subject1/vid.avi"),
        ("pure", "01-01/01-01"),
        ("cohface", "1/0/data.avi"),
        ("ubfc_phys", "Data/s1/vid_s1_T1.avi"),
        ("lgi_ppgi", "alex/alex_gym/cv_camera_sensor_stream_handler.avi"),
        ("ecg_fitness", "00/01/c920-1.avi"),
        ("mmpd", "subject1/p1_0.mat"),
        ("ibvp", "p01_a/p01_a_rgb"),
        ("mcd_rppg", "video/1020_FullHDwebcam_before.avi"),
    ],
)
def test_a_video_that_is_missing_is_absent_by_name(dataset: str, video: str, copies: Copies) -> None:
    copy = copies(dataset)
    path = copy.root / video
    path.rename(path.with_name("elsewhere"))
    try:
        listing = DATASETS[dataset].list_recordings(copy.root)
    finally:
        path.with_name("elsewhere").rename(path)
    gone = {one.id for one in listing.absent} & set(copy.takes)
    assert len(gone) == 1 and len(listing.recordings) == len(copy.takes) - 1
    reason = next(one for one in listing.absent if one.id in gone)
    assert not reason.known_gap and str(path.parent) in reason.reason and "missing" in reason.reason


@every
def test_another_folder_is_refused(dataset: str, tmp_path: Path) -> None:
    spec = DATASETS[dataset]
    (tmp_path / "subject1").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(BadRecording, match=re.escape(repr(str(tmp_path)))):
        spec.list_recordings(tmp_path)
    with pytest.raises(BadRecording, match="There is no folder"):
        spec.list_recordings(tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", [name for name in sorted(TREES) if "h5py" in DATASETS[name].needs])
def test_a_missing_module_names_the_pip_line(dataset: str, copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = copies(dataset).recording()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(AutoHRError, match=r"pip install 'autohr\[datasets\]'"):
        recording.read_reference()


def test_a_table_cut_in_its_last_line_is_named(copies: Copies) -> None:
    for dataset, name in (("ubfc_rppg_1", "DATASET_1/7-gt/gtdump.xmp"), ("ecg_fitness", "00/01/viatom-raw.csv")):
        path = copies(dataset).root / name
        lines = path.read_bytes().split(b"\n")
        with damaged(path, b"\n".join([*lines[:300], lines[300].rpartition(b",")[0]])):
            recording = beside(path, copies(dataset).listing)
            with pytest.raises(BadRecording, match=r"line 301: \d column\(s\), not"):
                recording.read_reference()


@pytest.mark.parametrize(
    ("dataset", "path", "change", "words"),
    [
        ("ubfc_rppg_2", "DATASET_2/subject1/ground_truth.txt", (rb"\n[^\n]*\n$", b"\n"), "2 line"),
        ("ubfc_rppg_2", "DATASET_2/subject1/ground_truth.txt", (rb" +\S+\n$", b"\n"), "as many of each"),
        ("ubfc_rppg_1", "DATASET_1/7-gt/gtdump.xmp", (rb"(?m)^\d+,", b"5,"), "does not go forward"),
        ("pure", "01-01/01-01.json", (rb'"waveform"', b'"wave"'), "waveform"),
        ("pure", "01-01/01-01.json", (rb'"/FullPackage"', b'"Package"'), "FullPackage"),
        ("lgi_ppgi", "alex/alex_gym/cms50_stream_handler.xml", (rb"<value1>114<", b"<value1>x<"), "'x', not a number"),
        ("ecg_fitness", "00/01/viatom-raw.csv", (rb"^milliseconds", b"seconds"), "line 1: the header"),
        ("ecg_fitness", "00/01/viatom-raw.csv", (rb"(?s)\A((?:[^\n]*\n){40}).*", rb"\1"), "one of the two was cut off"),
        ("ibvp", "p01_a/p01_a_bvp.csv", (rb"\A[^\n]*\n", b""), "line 1: the header"),
        ("ibvp", "p01_a/p01_a_bvp.csv", (rb",1,([\d.]+)\n", rb",0,\1\n"), "all of .* bad"),
    ],
)
def test_a_contradiction_is_named(
    dataset: str, path: str, change: tuple[bytes, bytes], words: str, copies: Copies
) -> None:
    copy = copies(dataset)
    file = copy.root / path
    whole = file.read_bytes()
    spoilt = re.sub(*change, whole)
    assert spoilt != whole
    with damaged(file, spoilt):
        with pytest.raises(BadRecording, match=words) as caught:
            beside(file, copy.listing).read_reference()
    assert str(file.parent) in str(caught.value)


# --- what each dataset has of its own


def test_one_man_of_ubfc_is_one_subject(copies: Copies) -> None:
    listing = copies("ubfc_rppg_1").listing
    subjects = {one.session: one.subject for one in listing.recordings}
    assert subjects["after-exercise"] == "subject42"
    assert {one.id for one in listing.absent} >= {"ubfc_rppg_1/subject42/8-gt", "ubfc_rppg_1/subject42/10-gt"}


def test_known_gaps_are_told_from_losses(copies: Copies) -> None:
    gaps = {
        dataset: sorted(one.id for one in copies(dataset).listing.absent if one.known_gap)
        for dataset in ("pure", "ecg_fitness")
    }
    assert gaps["pure"] == ["pure/06/02"]
    assert gaps["ecg_fitness"] == [f"ecg_fitness/{name}" for name in ("02/04-1", "02/04-2", "07/02-1", "07/02-2")]


def test_tables_can_be_split_by_what_the_dataset_says(copies: Copies) -> None:
    def groups(dataset: str, id: str) -> dict[str, str]:
        return dict(copies(dataset).recording(id).groups)

    assert groups("cohface", "cohface/40/3") == {"light": "natural"}
    assert groups("mmpd", "mmpd/subject33/19")["scenario"] == "Walking"
    assert groups("mmpd", "mmpd/subject1/0")["skin_color"] == "3"
    assert groups("ecg_fitness", "ecg_fitness/11/01-2") == {"scenario": "rowing", "light": "normal", "camera": "2"}
    assert groups("mcd_rppg", "mcd_rppg/1021/after-IriunWebcam") == {
        "state": "after exercise",
        "camera": "phone",
        "view": "right",
        "sex": "M",
        "age": "20 to 39",
    }
    assert groups("pure", "pure/10/06") == {"scenario": "medium rotation"}
    assert copies("ibvp").recording("ibvp/p08/d").notes


def test_mcd_has_the_authors_folds_and_an_ecg_that_is_no_reference(copies: Copies) -> None:
    copy = copies("mcd_rppg")
    recording = copy.recording("mcd_rppg/1021/after-IriunWebcam")
    assert recording.fold == 2
    reference = recording.read_reference()
    assert reference is not None and reference.hr_bpm is None
    assert reference.notes[0].startswith("meta/ has 2 line(s) more")
    assert "beats at 90 bpm" in reference.notes[1]
    with damaged(copy.root / "ecg" / "1021_after.json", b'{"frequency": 250, "data": [3]}'):
        other = recording.read_reference()
    assert other is not None and other.bvp is not None and reference.bvp is not None
    assert "was not read" in other.notes[1] and np.array_equal(other.bvp, reference.bvp)
    with damaged(copy.root / "mcd_rppg.csv", None):
        listing = DATASETS["mcd_rppg"].list_recordings(copy.root)
    assert {one.fold for one in listing.recordings} == {None} and "no official fold" in listing.notes[0]
    for content, words in (
        ("1020,7", "fold '7' is not 0 to 4"),
        ("1020,1\n1020,2", "line 3.*two folds"),
        ("1020", "line 2: no patient_id or fold"),
    ):
        with damaged(copy.root / "mcd_rppg.csv", f"patient_id,fold\n{content}\n".encode()):
            with pytest.raises(BadRecording, match=words):
                DATASETS["mcd_rppg"].list_recordings(copy.root)


def test_mcd_without_its_table_lists_what_lies_there(copies: Copies) -> None:
    copy = copies("mcd_rppg")
    table = copy.root / "db.csv"
    with damaged(table, None):
        listing = DATASETS["mcd_rppg"].list_recordings(copy.root)
    assert len(listing.recordings) == 2 and not listing.absent and "no db.csv" in listing.notes[0]
    for content, words in (
        ("patient_id,camera\n1,2\n", "no column step"),
        ("patient_id,camera,step\n1,2,\n", "line 2"),
    ):
        with damaged(table, content.encode()):
            with pytest.raises(BadRecording, match=words):
                DATASETS["mcd_rppg"].list_recordings(copy.root)
    with damaged(table, b"patient_id,camera,step\n1020,IriunWebcam,later\n"):
        with pytest.raises(BadRecording, match="step 'later'"):
            DATASETS["mcd_rppg"].list_recordings(copy.root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: None, "is missing"),
        (lambda whole: b"", "is empty"),
        (lambda whole: whole.replace(b"14:18:1", b"14:99:1", 1), r"line \d+: .*is not a frame's number and a time"),
        (lambda whole: b"".join(whole.splitlines(keepends=True)[:50]), "has 50 line.*there must be a time"),
        (lambda whole: re.sub(rb":1\d\.", b":09.", whole), "does not go forward"),
    ],
)
def test_a_damaged_clock_of_mcd_is_named(change: Callable[[bytes], bytes | None], words: str, copies: Copies) -> None:
    copy = copies("mcd_rppg")
    path = copy.root / "meta/1020_FullHDwebcam_before.txt"
    with damaged(path, change(path.read_bytes())):
        for read in (copy.recording().read_frame_times, copy.recording().read_reference):
            with pytest.raises(BadRecording, match=words) as caught:
                read()
            assert "1020_FullHDwebcam_before.txt" in str(caught.value) and "\n" not in str(caught.value)


VIATOM_ROW = rb"(?m)^(\d+),([-.\d]+),(-?\d+),(\d+),-1,-1,-1$"


@pytest.mark.parametrize(
    ("left", "wave", "rate", "note"),
    [
        (rb"\1,\2,\3,\4,-1,-1,-1", "recorded", "beats", None),
        (rb"\1,-1,\3,\4,-1,-1,-1", "recorded", "device", "The rate is the device's"),
        (rb"\1,\2,-1,-1,-1,-1,-1", "drawn", "beats", "drawn from the R peaks"),
        (rb"\1,\2,70,\4,-1,-1,-1", "recorded", "beats", r"\+62 bpm from the device's"),
        (rb"\1,-1,-1,\4,-1,-1,-1", "recorded", "none", "The rate is the device's"),
        (rb"\1,-1,\3,-1,-1,-1,-1", "none", "device", "The rate is the device's"),
    ],
)
def test_ecg_fitness_takes_what_the_device_recorded(
    left: bytes, wave: str, rate: str, note: str | None, copies: Copies
) -> None:
    copy = copies("ecg_fitness")
    path = copy.root / "00/01/viatom-raw.csv"
    with damaged(path, re.sub(VIATOM_ROW, left, path.read_bytes())):
        reference = copy.recording("ecg_fitness/00/01-1").read_reference()
    assert reference is not None
    assert (reference.bvp is None) == (wave == "none") and (reference.hr_bpm is None) == (rate == "none")
    if reference.bvp is not None:
        known = np.isfinite(reference.bvp)
        assert rate_bpm(reference.t_s[known], reference.bvp[known]) == pytest.approx(132.0, abs=0.5)
        assert (len(np.unique(reference.bvp)) > 1) and known.mean() > 0.8
    if reference.hr_bpm is not None:
        # The device's whole bpm lies in a signed byte, which ran over: -124.
        assert np.nanmean(reference.hr_bpm) == pytest.approx(132.0, abs=0.0 if rate == "device" else 0.5)
    words = " ".join(reference.notes)
    assert re.search(note, words) if note else not words


def test_ecg_fitness_without_anything_is_refused(copies: Copies) -> None:
    copy = copies("ecg_fitness")
    path = copy.root / "00/01/viatom-raw.csv"
    with damaged(path, re.sub(VIATOM_ROW, rb"\1,-1,-1,-1,-1,-1,-1", path.read_bytes())):
        with pytest.raises(BadRecording, match="device was off"):
            copy.recording("ecg_fitness/00/01-1").read_reference()


def test_what_was_dropped_is_noted(copies: Copies) -> None:
    for dataset, id, words in (
        ("lgi_ppgi", "lgi_ppgi/alex/gym", r"0\.8\d s of the oximeter dropped at the start"),
        ("ibvp", "ibvp/p01/a", r"0\.5 s of the wave left out"),
    ):
        reference = copies(dataset).recording(id).read_reference()
        assert reference is not None and re.search(words, " ".join(reference.notes))
    copy = copies("pure")
    picture = sorted((copy.root / "01-01/01-01").iterdir())[40]
    picture.rename(copy.root / "elsewhere.png")
    try:
        recording = copy.recording("pure/01/01")
        reference, t_s = recording.read_reference(), recording.read_frame_times()
    finally:
        (copy.root / "elsewhere.png").rename(picture)
    assert reference is not None and "pictures" in reference.notes[0]
    assert t_s is not None and np.diff(t_s).argmax() == 39


def test_where_the_sensor_knew_nothing_the_reference_says_so(copies: Copies) -> None:
    copy = copies("pure")
    path = copy.root / "01-01/01-01.json"
    whole = path.read_bytes()
    at = [m.start() for m in re.finditer(rb'"probeError": false', whole)][100]
    with damaged(path, whole[:at] + whole[at:].replace(b'"probeError": false', b'"probeError": true', 50)):
        reference = copy.recording("pure/01/01").read_reference()
    assert reference is not None and reference.bvp is not None and reference.hr_bpm is not None
    assert np.isnan(reference.bvp).sum() == np.isnan(reference.hr_bpm).sum() == 50
    distrusted = copies("ibvp").recording("ibvp/p01/a").read_reference()
    assert distrusted is not None and distrusted.bvp is not None
    assert np.isnan(distrusted.bvp).sum() == pytest.approx(15, abs=1)


def test_pictures_with_a_name_that_is_no_time_are_refused(copies: Copies) -> None:
    copy = copies("pure")
    stray = copy.root / "01-01/01-01/preview.png"
    stray.write_bytes(b"x")
    try:
        with pytest.raises(BadRecording, match=r"preview\.png"):
            copy.recording("pure/01/01").read_frame_times()
    finally:
        stray.unlink()


def test_frames_of_a_spoilt_array_are_refused(copies: Copies, tmp_path: Path) -> None:
    path = copies("scamps").recording("scamps/P000001/1").video
    spoilt = tmp_path / path.name
    spoilt.write_bytes(path.read_bytes())
    with h5py.File(spoilt, "r+") as file:
        file["RawFrames"][:] *= 255
    (listing,) = DATASETS["scamps"].list_recordings(tmp_path).recordings
    assert listing.open_frames is not None
    with pytest.raises(BadRecording, match="run from 0 to"):
        next(listing.open_frames())
    with h5py.File(spoilt, "r+") as file:
        del file["RawFrames"]
    with pytest.raises(BadRecording, match="holds no 'RawFrames', only d_br, d_ppg"):
        next(listing.open_frames())


def test_frames_come_a_block_at_a_time(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = copies("scamps").recording("scamps/P000001/1")
    assert recording.open_frames is not None
    at_once = [frame.rgb for frame in recording.open_frames()]
    monkeypatch.setattr("autohr.lab.datasets.scamps.BLOCK_BYTES", 96 * 72 * 3 * 4 * 7)
    by_seven = [frame.rgb for frame in recording.open_frames()]
    assert np.array_equal(at_once, by_seven)


# --- columns


def test_a_fast_wave_loses_what_the_video_cannot_show_and_nothing_else() -> None:
    t_s = np.arange(0, 10, 1 / 256)
    heart, mains = np.sin(2 * np.pi * 1.5 * t_s), np.sin(2 * np.pi * 19.0 * t_s)
    smooth = below_half_rate(t_s, heart + mains, 20.0)
    middle = slice(100, -100)
    assert np.abs(smooth - heart)[middle].max() < 0.05
    assert np.array_equal(below_half_rate(t_s[::13], heart[::13], 20.0), heart[::13])
    holed = np.where((t_s > 4) & (t_s < 5), np.nan, heart)
    assert np.array_equal(np.isnan(below_half_rate(t_s, holed, 20.0)), np.isnan(holed))


def test_a_clock_may_stumble_but_not_fall(tmp_path: Path) -> None:
    t_s = np.arange(100.0)
    t_s[50] = 3.0
    assert increasing(t_s, tmp_path).sum() == 99
    with pytest.raises(BadRecording, match="does not go forward at 99 of its 100"):
        increasing(np.zeros(100), tmp_path)


def test_columns_take_any_line_end(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for end in ("\n", "\r\n"):
        path.write_bytes(f"\ufeffa, b{end}1,2{end}3,4{end}{end}".encode())
        np.testing.assert_array_equal(read_columns(path, ("a", "b"), header=True), [[1, 2], [3, 4]])
    assert read_lines(path) == ["a, b", "1,2", "3,4"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n", "a header and no row"),
        (b"a,b\n1\n", "line 2: 1 column"),
        (b"a,b\n1,2\n3,nan\n", "line 3: 'nan' is not a number"),
        (b"a,b\n1,2\n\n3,4\n", "line 3: '' is not a number"),
        (b"a,c\n1,2\n", "line 1: the header is 'a,c'"),
    ],
)
def test_columns_name_the_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(BadRecording, match=words):
        read_columns(path, ("a", "b"), header=True)
