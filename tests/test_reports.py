"""The page of a measurement: it says the number and the judgement, loads nothing, trusts no file name, and is small."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from autohr.errors import AutoHRError
from autohr.reports import measurement as reports
from autohr.reports.measurement import render_measurement_page, write_measurement_page
from autohr.types import HRV, FaceMeasurement, Frame, Frames, Measurement, Pulse, Refusal, Window

VOID = {"meta", "img", "br", "hr", "input", "link", "path", "use"}
EVIL = "clips/<script>alert(1)</script>\"' onload=x &amp;.mp4"


def _crop(seed: int = 0, height: int = 300, width: int = 260) -> Frame:
    """A smooth picture with noise: about as hard to compress as a face."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    base = 120 + 80 * np.stack([np.cos(3 * x) * y, np.sin(2 * y) * x, x * y], axis=-1)
    return np.clip(base + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8)


def _wave(hr_bpm: float, duration_s: float, gap_s: tuple[float, float] | None = None, fps: float = 30.0) -> Pulse:
    t_s = np.arange(round(duration_s * fps)) / fps
    phase = 2 * np.pi * hr_bpm / 60 * t_s
    bvp = np.sin(phase) + 0.4 * np.sin(2 * phase + 1) + 0.05 * np.random.default_rng(1).normal(size=t_s.size)
    if gap_s is not None:
        bvp[(t_s >= gap_s[0]) & (t_s < gap_s[1])] = np.nan
    return Pulse(bvp, fps)


def make_face(
    face_id: int = 0,
    hr_bpm: float | None = 72.4,
    reliable: bool = True,
    n_windows: int = 21,
    gap_s: tuple[float, float] | None = None,
    hrv: HRV | None = None,
    why: str | None = None,
    with_wave: bool = True,
    n_bad: int = 2,
) -> FaceMeasurement:
    rng = np.random.default_rng(face_id)
    duration_s = n_windows + 9.0
    windows = []
    for i in range(n_windows):
        start_s, end_s = float(i), i + 10.0
        if gap_s is not None and start_s < gap_s[1] and end_s > gap_s[0]:
            continue
        good = reliable and i >= n_bad
        rate = None if hr_bpm is None else hr_bpm + float(rng.normal(0, 1.0 if good else 6.0))
        confidence = float(rng.uniform(0.75, 0.98) if good else rng.uniform(0.1, 0.5))
        reason = None if good else f"the signal-to-noise is {-3 - i / 10:.1f} dB, under -2 dB"
        windows.append(Window(rate, confidence, good, float(rng.normal(4, 1)), reason, start_s=start_s, end_s=end_s))
    beats_s = () if hr_bpm is None else tuple(float(b) for b in np.arange(13 / hr_bpm, duration_s, 60 / hr_bpm))
    return FaceMeasurement(
        id=face_id,
        hr_bpm=hr_bpm,
        confidence=0.93 if reliable else 0.31,
        reliable=reliable,
        snr_db=None if hr_bpm is None else 4.1,
        why_unreliable=why,
        start_s=0.0,
        end_s=duration_s,
        windows=tuple(windows),
        bvp=_wave(hr_bpm or 90.0, duration_s, gap_s) if with_wave else None,
        beats_s=beats_s,
        hrv=hrv,
        why_no_hrv=None if hrv else "Fewer than 60 s of beats were accepted.",
        crop=_crop(face_id),
    )


def make_measurement(
    *faces: FaceMeasurement, path: str = "clips/face.mp4", notes: tuple[str, ...] = (), duration_s: float = 30.7
) -> Measurement:
    longest_s = max([duration_s, *(face.end_s for face in faces)])
    n_read = round(longest_s * 29.5)
    frames = Frames(read=n_read, face=n_read - 2, repaired=2, dropped=0)
    return Measurement(path, "pos", None, longest_s, 29.5, frames, faces, notes)


A_HRV = HRV(
    duration_s=62.0,
    n_beats=75,
    mean_hr_bpm=72.6,
    sdnn_ms=48.2,
    sdnn_error_ms=3.0,
    rmssd_ms=39.9,
    rmssd_error_ms=7.1,
    pnn50_pct=None,
    pnn50_error_pct=None,
    lf_ms2=812.0,
    lf_error_ms2=80.0,
    hf_ms2=645.0,
    hf_error_ms2=90.0,
    lf_hf=1.26,
    lf_hf_error=0.3,
    withheld="pNN50 17 ± 15 %",
)

CASES: dict[str, list[Measurement | Refusal]] = {
    "reliable": [make_measurement(make_face())],
    "unreliable": [make_measurement(make_face(reliable=False, why="The head moved in 14 of 21 windows."))],
    "no rate": [make_measurement(make_face(hr_bpm=None, reliable=False, why="no rhythm stood out"))],
    "no face": [make_measurement(notes=("No face was found in 903 of 905 frames.",))],
    "two faces": [make_measurement(make_face(0), make_face(1, hr_bpm=95.2, reliable=False, why="too dark"))],
    "second is the one": [
        make_measurement(make_face(0, hr_bpm=95.2, reliable=False, why="too dark"), make_face(1, hr_bpm=71.3))
    ],
    "same id twice": [make_measurement(make_face(0), make_face(0))],
    "hrv": [make_measurement(make_face(n_windows=60, hrv=A_HRV))],
    "gaps": [make_measurement(make_face(n_windows=50, gap_s=(18.0, 24.0)))],
    "one window": [make_measurement(make_face(n_windows=1, n_bad=0))],
    "no windows": [make_measurement(make_face(n_windows=0))],
    "no wave": [make_measurement(make_face(with_wave=False))],
    "long": [make_measurement(make_face(n_windows=591))],
    "refused": [Refusal("clips/notes.txt", "This is not a video.")],
    "evil name": [make_measurement(make_face(), path=EVIL, notes=("<script>bad</script>",)), Refusal(EVIL, "<b>no")],
    "folder": [
        make_measurement(make_face(), path="a/one.mp4"),
        make_measurement(make_face(hr_bpm=None, reliable=False), path="a/two.mp4"),
        Refusal("a/three.mp4", "It holds no frames."),
    ],
}


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order, ids once, inner links that lead somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words += data


def read(page: str) -> Page:
    return Page(page)


def words_of(page: str) -> str:
    return " ".join(read(page).words.replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_measurement_page(results) for name, results in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_page_is_sound_and_loads_nothing(name: str, pages: dict[str, str]) -> None:
    text = pages[name]
    page = read(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False)), "a heading level is skipped"
    assert text.count("<script>") == (len(CASES[name]) > 1) and "<script " not in text.lower()
    for needle in ("http:", "https:", "@import", "<link", "<iframe", "xmlns", "javascript:"):
        assert needle not in text.lower()
    assert not re.search(r"url\((?!#)", text)
    for tag, attrs in page.tags:
        assert not any(attr.startswith("on") for attr in attrs), (tag, attrs)
        assert attrs.get("src", "data:").startswith("data:")
        href = attrs.get("href", "")
        assert not href or (href[0] == "#" and href[1:] in page.ids), href
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags)


@pytest.mark.parametrize("name", CASES)
def test_charts_use_only_colours_of_the_style_sheet(name: str, pages: dict[str, str]) -> None:
    for svg in re.findall(r"<svg.*?</svg>", pages[name], re.DOTALL):
        body = svg[svg.index(">") :]
        assert not re.search(r"#[0-9a-fA-F]{6}\b", body)
        for style in re.findall(r'style="([^"]*)"', body):
            for colour in re.findall(r"(?:fill|stroke): ([^;]+)", style):
                assert colour in ("none", "currentColor") or re.fullmatch(r"var\(--\w+\)", colour), colour


def test_every_variable_of_the_style_sheet_is_set(pages: dict[str, str]) -> None:
    text = pages["reliable"]
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--\w+):", text))


def test_answers_in_words(pages: dict[str, str]) -> None:
    said = {name: words_of(page) for name, page in pages.items()}
    assert "72.4 bpm" in said["reliable"]
    assert "Reliable: the pulse was clear in 19 of 21 windows." in said["reliable"]
    assert "Confidence 93 %" in said["reliable"]
    assert "Not reliable: the head moved in 14 of 21 windows. Do not use this number." in said["unreliable"]
    assert "No heart rate: no rhythm stood out." in said["no rate"]
    assert "No heart rate: no face was measured in this video." in said["no face"]
    assert "No face was found in 903 of 905 frames." in said["no face"]
    assert "No heart rate: this is not a video." in said["refused"]
    assert "Do not use this number" not in said["reliable"]
    for text in said.values():
        assert "not a medical device" in text
        assert "autohr.measurement/1" in text


def test_no_rate_shows_no_number(pages: dict[str, str]) -> None:
    assert not re.search(r'class="number">\s*\d', pages["no rate"])
    assert "the answer, " not in words_of(pages["no rate"])


def test_hrv_is_shown_or_explained(pages: dict[str, str]) -> None:
    words = words_of(pages["hrv"])
    assert "40 ms ± 7 ms" in words and "Too uncertain to be given: pNN50 17 ± 15 %" in words
    assert "not measured: fewer than 60 s of beats were accepted" in words_of(pages["reliable"])


def test_gaps_are_said(pages: dict[str, str]) -> None:
    assert "no rate for 6.0 s in all" in words_of(pages["gaps"])
    assert "no rate for" not in words_of(pages["reliable"])


def test_reasons_are_grouped_with_counts(pages: dict[str, str]) -> None:
    said = words_of(pages["reliable"])
    assert "2 \u00d7 the signal-to-noise is -3.0 dB, under -2 dB" in said


def test_one_row_per_window_and_frames_with_shares(pages: dict[str, str]) -> None:
    assert pages["long"].count("<tr><td") == 591
    assert "over 99.9 %" in words_of(pages["long"])


def test_the_face_to_take_comes_first(pages: dict[str, str]) -> None:
    words = words_of(pages["second is the one"])
    assert 0 < words.index("71.3") < words.index("95.2")


def test_two_faces_have_a_section_and_a_line_each(pages: dict[str, str]) -> None:
    page = read(pages["two faces"])
    assert {"file-1-face-1", "file-1-face-2"} <= set(page.ids)
    assert sum(attrs.get("href") in ("#file-1-face-1", "#file-1-face-2") for tag, attrs in page.tags if tag == "a") == 2


def test_folder_has_a_summary_and_loses_no_file(pages: dict[str, str]) -> None:
    said = words_of(pages["folder"])
    for name, n_times in (("one.mp4", 2), ("two.mp4", 2), ("three.mp4", 1)):
        assert said.count(name) >= n_times
    assert "3 files: 1 reliable, 0 not reliable, 1 without a rate, 1 refused." in said
    assert "Refused, 1 file: it holds no frames" in said


def test_many_files_are_one_table_with_sections_that_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_DRAWN_FACES", 2)
    paths = [f"study/s{k}/face.mp4" for k in range(6)]
    results: list[Measurement | Refusal] = [make_measurement(make_face(), path=path) for path in paths[:3]]
    results += [Refusal(path, f"No face in any of the {k} frames of {path!r}.") for k, path in enumerate(paths[3:])]
    text = render_measurement_page(results)
    page, said = read(text), words_of(text)
    names = [f"s{k}/face.mp4" for k in range(6)]
    assert [attrs["id"] for tag, attrs in page.tags if tag == "details" and "id" in attrs] == [
        "file-1",
        "file-2",
        "file-3",
    ]
    assert sum(attrs.get("role") == "img" for tag, attrs in page.tags if tag == "svg") == 2 * 3 * 2
    assert said.count("Charts and pictures are of the first 2 faces") == 1
    assert all(name in said for name in names) and "study/s0/face.mp4" in said
    assert "Refused, 3 files: no face in any of the 0 frames of this file (the figures are those of the first)" in said
    # The content policy names the script by its checksum, over its very bytes.
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    named = words_of(render_measurement_page(results, names=[f"n{k}" for k in range(6)]))
    assert all(f"n{k}" in named for k in range(6))


def test_a_file_name_is_only_text(pages: dict[str, str]) -> None:
    text = pages["evil name"]
    assert text.lower().count("<script") == 1 and "<b>no" not in text
    assert "alert(1)</script>" not in text
    assert "<script>bad</script>" in words_of(text)


@pytest.mark.parametrize(
    "name", ["bad\udcff.mp4", "turn\u202egpj.mp4", "bell\x07\x00.mp4", "\u5fc3 \u2764\ufe0f.mp4", "/"]
)
def test_any_file_name_can_be_written(name: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write_measurement_page([Refusal(name, f"cannot read {name}")], out)
    text = out.read_text(encoding="utf-8")
    assert not re.search("[\x00\x07\u202e]", text)
    read(text)


def test_passwords_of_cameras_are_hidden() -> None:
    text = render_measurement_page([Refusal("rtsp://me:secret@cam.local/1", "rtsp://me:secret@cam.local/1 is off.")])
    assert "secret" not in text and "rtsp://***@cam.local/1" in text


def test_numbers_that_are_not_finite_do_no_harm() -> None:
    nan = float("nan")
    wave = Pulse(np.full(300, nan), 30.0)
    window = Window(nan, nan, False, nan, start_s=0.0, end_s=10.0)
    face = FaceMeasurement(nan, nan, False, nan, id=0, start_s=0.0, end_s=10.0, windows=(window,), bvp=wave)
    text = render_measurement_page([make_measurement(face)])
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert "No heart rate" in text


def test_a_flat_or_tiny_wave_does_no_harm() -> None:
    for bvp in (np.zeros(600), np.array([0.5]), np.zeros(40)):
        face = FaceMeasurement(
            60.0, 0.2, False, None, "flat", id=0, start_s=0.0, end_s=20.0, bvp=Pulse(bvp, 30.0), beats_s=(0.0, 1.0)
        )
        text = render_measurement_page([make_measurement(face)])
        read(text)
        assert "60.0" in text and "Do not use this number" in text


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("two faces", "gaps"):
        write_measurement_page(CASES[name], tmp_path / "a.html")
        write_measurement_page(CASES[name], tmp_path / "b.html")
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_sizes(pages: dict[str, str]) -> None:
    assert len(pages["hrv"].encode()) < 300_000
    assert len(pages["reliable"].encode()) < 300_000
    assert len(pages["long"].encode()) < 1_000_000


def test_hours_of_video_stay_small_and_say_what_is_not_listed() -> None:
    text = render_measurement_page([make_measurement(make_face(n_windows=7200))])
    assert len(text.encode()) < 1_500_000
    assert "the first 1200 of 7200" in text
    assert "one mark in 12 is drawn" in text


def test_date_and_command_come_only_from_the_caller(pages: dict[str, str]) -> None:
    text = render_measurement_page(CASES["refused"], made_at="2001-02-03", command="autohr measure <x>")
    assert "2001-02-03" in text and "autohr measure <x>" in words_of(text) and "<x>" not in text
    assert "autohr measure --method pos --html report.html -- clips/face.mp4" in words_of(pages["reliable"])


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "page.html"
    write_measurement_page(CASES["refused"], out)
    before = out.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AutoHRError, match="Cannot write .*page.html.*disk full"):
        write_measurement_page(CASES["reliable"], out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_refuses_nothing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="results is empty"):
        write_measurement_page([], tmp_path / "page.html")
    with pytest.raises(ValueError, match="is a folder"):
        write_measurement_page(CASES["refused"], tmp_path)


def test_settings_of_matplotlib_are_left_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    render_measurement_page(CASES["reliable"])
    assert dict(matplotlib.rcParams) == before
