"""The manifest: damage of every kind is found, and undamaged recordings have no findings."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autohr.errors import AutoHRError, BadRecording
from autohr.frontend import CropConfig
from autohr.lab.datasets import folder
from autohr.lab.datasets.cache import Entry, open_cached
from autohr.lab.datasets.checks import Checks, lag_between, rate_jumps_s
from autohr.lab.datasets.manifest import (
    KINDS,
    DatasetManifest,
    Finding,
    check_needs,
    judge,
    manifest_path,
    prepare_dataset,
)
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording
from autohr.lab.reports.manifest import render_manifest_page, write_manifest_page
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, truth, write_scene
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float
from made import MiddleDetector

SMALL = CropConfig(size_px=32)


def scene(seed: int, hr_bpm: float = 84.0, duration_s: float = 8.0) -> SceneConfig:
    return SceneConfig(
        seed=seed,
        duration_s=duration_s,
        width=160,
        height=120,
        fps=20.0,
        face_px=80,
        hr_bpm=hr_bpm,
        hrv=0.06,
        pulse_depth=0.04,
        head=HeadMotion(0, 0, 0, 0, 0),
        light_drift=0.0,
    )


def write_label(
    path: Path,
    one: SceneConfig,
    n_frames: int | None = None,
    later_s: float = 0.0,
    pace: float = 1.0,
    extra_bpm: Callable[[Float], Any] = lambda t_s: 0.0,
) -> None:
    """Write a video's own CSV; the options make it wrong."""
    known = truth(one)
    columns = (pace * known.t_s + later_s, known.bvp, known.hr_bpm + extra_bpm(known.t_s))
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time_s", "bvp", "hr_bpm"])
        table.writerows(zip(*(column[:n_frames].tolist() for column in columns), strict=True))


def cut_in_half(path: Path, and_then: bytes = b"") -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + and_then)


Damage = Callable[[Path, Path, SceneConfig], object]
"""Takes a recording's video, its label and the scene that they show."""

DAMAGES: dict[str, tuple[Damage, str]] = {
    "removed": (lambda video, label, one: video.unlink(), "missing"),
    "unlabelled": (lambda video, label, one: label.unlink(), "missing"),
    "overwritten": (lambda video, label, one: video.write_text("not a video"), "damaged"),
    "cut_file": (lambda video, label, one: cut_in_half(video), "damaged"),
    "cut_video": (lambda video, label, one: write_scene(scene(17, duration_s=5.5), video, crf=3), "length"),
    "three_seconds": (lambda video, label, one: write_scene(scene(18, duration_s=3.0), video, crf=3), "damaged"),
    "cut_label": (lambda video, label, one: write_label(label, one, n_frames=110), "length"),
    "broken_label": (lambda video, label, one: cut_in_half(label, b"\n1.0,one\n"), "damaged"),
    "wrong_clock": (lambda video, label, one: write_label(label, one, pace=30 / 24), "length"),
    "mislabelled": (lambda video, label, one: write_label(label, one, extra_bpm=lambda t_s: 40.0), "contradiction"),
    "of_another": (lambda video, label, one: write_label(label, scene(3, 130.0)), "face"),
    "shifted": (lambda video, label, one: write_label(label, one, later_s=1.0), "lag"),
    "jumping": (
        lambda video, label, one: write_label(label, one, extra_bpm=lambda t_s: 30.0 * ((t_s > 3) & (t_s < 5))),
        "jump",
    ),
    "copied": (lambda video, label, one: shutil.copy(video.with_name("whole_2.mp4"), video), "duplicate"),
}
"""Recording -> what is done to it, and the kind of finding that must name it."""
WHOLE = ("whole_1", "whole_2")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetManifest, Path]:
    """A folder of videos with waves and rates, most of them damaged, and the cache that was made of it."""
    root, out = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("cache")
    for seed, name in enumerate([*WHOLE, *DAMAGES]):
        # In 8 s a shift by a second cannot be told from one by a second and a beat.
        one = scene(100 + seed, duration_s=20.0 if name == "shifted" else 8.0)
        video, label = root / f"{name}.mp4", root / f"{name}.csv"
        write_scene(one, video, crf=3)
        write_label(label, one)
        if name in DAMAGES:
            DAMAGES[name][0](video, label, one)
    rows = "".join(f"{name},{name}_person\n" for name in [*WHOLE, *DAMAGES])
    (root / "rates.csv").write_text(f"video,subject\n{rows}")
    return prepare_dataset(folder.SPEC, root, out, SMALL, workers=1, detector=MiddleDetector()), out


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(damaged: tuple[DatasetManifest, Path], name: str) -> None:
    manifest, _ = damaged
    kind = DAMAGES[name][1]
    said = [finding.says for finding in manifest.findings if finding.kind == kind and name in str(finding.ids)]
    assert len(said) == 1, [finding for finding in manifest.findings if name in str(finding.ids)]
    assert name in said[0]


@pytest.mark.slow
def test_whole_recordings_are_left_in_peace(damaged: tuple[DatasetManifest, Path]) -> None:
    manifest, _ = damaged
    whole = [entry for entry in manifest.entries if entry.session in WHOLE]
    assert [entry.state for entry in whole] == ["ok", "ok"]
    named = [f for f in manifest.findings if any(name in str(f.ids) for name in WHOLE)]
    assert [finding.kind for finding in named] == ["duplicate"], "and that one is the copy's doing"
    for entry in whole:
        checks = entry.checks
        assert checks.lag_s == pytest.approx(0, abs=0.05)
        assert checks.wave_bpm == pytest.approx(checks.label_bpm, abs=4)
        assert checks.hr_min_bpm is not None and checks.hr_mean_bpm is not None and checks.hr_max_bpm is not None
        assert checks.hr_min_bpm < checks.hr_mean_bpm < checks.hr_max_bpm
        assert (checks.label_start_s, checks.label_end_s) == (0.0, 7.95)


@pytest.mark.slow
def test_nobody_is_lost_between_folder_and_page(damaged: tuple[DatasetManifest, Path], tmp_path: Path) -> None:
    manifest, out = damaged
    said = json.loads(manifest_path(out, SMALL, "folder").read_text())
    names = [row["id"].split("/")[-1] for row in said["recordings"]]
    assert sorted(names) == sorted([*WHOLE, *DAMAGES])
    counts = said["counts"]
    assert counts["expected"] == counts["ok"] + counts["excluded"] + counts["missing"] + counts["known_gaps"]
    assert counts["ok"] == len(open_cached(out, SMALL))
    assert all(row["reason"] for row in said["recordings"] if row["state"] != "ok")
    write_manifest_page(said, tmp_path / "manifest.html")
    page = (tmp_path / "manifest.html").read_text()
    for row in said["recordings"]:
        assert row["id"] in page
    for kind in manifest.counts():
        assert KINDS[kind].title in page
    assert "http" not in page.replace("http-equiv", "")
    assert page == render_manifest_page(said)
    with pytest.raises(ValueError, match="schema"):
        render_manifest_page(said | {"schema": "other"})


@pytest.mark.slow
def test_an_incomplete_copy_is_refused_in_one_line(damaged: tuple[DatasetManifest, Path]) -> None:
    refusal = damaged[0].refusal()
    assert refusal is not None and "\n" not in refusal
    for said in ("2 missing", "4 excluded: damaged", "1 the same video twice"):
        assert said in refusal


def test_a_subject_in_two_official_folds_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    takes = [
        Recording("made", subject, str(fold), tmp_path / "none.mp4", None, fold=fold)
        for subject, fold in (("a", 1), ("b", 1), ("b", 2))
    ]
    spec = DatasetSpec("made", "Made", lambda _: Listing(tuple(takes)), access="none")
    with pytest.raises(BadRecording, match=r"made/b .*\(1, 2\)"):
        prepare_dataset(spec, tmp_path, tmp_path / "cache", SMALL, workers=1)
    assert not list(tmp_path.rglob("*.json"))


def entry(name: str, **changed: object) -> Entry:
    whole = Entry(
        id=f"made/{name}/1",
        dataset="made",
        subject=name,
        session="1",
        has_bvp=True,
        state="ok",
        duration_s=30.0,
        fps=30.0,
        n_frames=900,
        found_share=1.0,
        checks=Checks(label_start_s=0.0, label_end_s=30.0),
    )
    return dataclasses.replace(whole, **changed)  # type: ignore[arg-type]


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.kind for finding in findings]


@pytest.mark.parametrize(
    ("start_s", "end_s", "is_part", "odd"),
    [
        (0.0, 30.0, False, False),
        (1.0, 29.0, False, False),  # a rate once a second
        (0.0, 26.0, False, True),
        (0.0, 36.0, False, True),  # the video was cut, or 30 frames per second taken for 25
        (-30.0, 60.0, False, True),
        (-30.0, 60.0, True, False),  # a span is meant to lie inside
        (3.0, 60.0, True, True),
    ],
)
def test_lengths(start_s: float, end_s: float, is_part: bool, odd: bool) -> None:
    checks = Checks(label_start_s=start_s, label_end_s=end_s, is_part=is_part)
    assert kinds(judge([entry("a", checks=checks)], [])) == ["length"] * odd


def test_absent_recordings_and_their_weight() -> None:
    gap, gone = Absent("made/a/2", "its authors lost it", True), Absent("made/a/3", "no file", False)
    assert kinds(judge([entry("a")], [gap])) == ["gap"]
    assert kinds(judge([entry("a")], [gap, gone], n_recordings=9)) == ["missing", "gap"]
    assert kinds(judge([entry("a")], [], n_recordings=2)) == ["missing"], "not even the reader knows which"
    assert kinds(judge([entry("a")], [], n_recordings=1)) == []
    no_face = entry("a", state="excluded", reason="No face in 900 of 900 frames.")
    found = judge([no_face], [gap])
    assert kinds(found) == ["unusable", "gap"]
    assert not any(KINDS[kind].refused for kind in kinds(found)), "a copy of a dataset can be whole without a face"


def test_other_recordings_in_the_same_cache_are_said(tmp_path: Path) -> None:
    one = scene(1, duration_s=6.0)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_scene(one, tmp_path / name / f"{name}.mp4", crf=3)
        (tmp_path / name / "rates.csv").write_text(f"video,subject,hr_bpm\n{name},p,84\n")
    made = [
        prepare_dataset(folder.SPEC, tmp_path / name, tmp_path / "cache", SMALL, workers=1, detector=MiddleDetector())
        for name in ("first", "second")
    ]
    assert made[0].notes == ()
    assert len(made[1].notes) == 1 and "folder/p/first" in made[1].notes[0]


def test_a_missing_module_names_its_pip_line() -> None:
    spec = dataclasses.replace(folder.SPEC, needs=("json", "no_such_module_anywhere"))
    with pytest.raises(AutoHRError, match=r"no_such_module_anywhere.*pip install 'autohr\[datasets\]'"):
        check_needs(spec)
    check_needs(folder.SPEC)


@pytest.mark.parametrize("shift_s", [-2.0, -0.51, 0.0, 0.123, 1.0, 3.0])
def test_lag_is_found_with_its_sign(shift_s: float) -> None:
    fps, pulse = 30.0, simulate_pulse(40.0, 30.0, 70.0, hrv=0.06, seed=4).bvp
    t_s = np.arange(len(pulse)) / fps
    face = np.interp(np.arange(5.0, 35.0, 1 / fps), t_s, pulse)
    late = np.interp(np.arange(5.0, 35.0, 1 / fps) - shift_s, t_s, pulse)
    lag_s, r = lag_between(late, face + np.random.default_rng(0).normal(0, 0.3 * face.std(), len(face)), fps)
    assert lag_s == pytest.approx(shift_s, abs=0.02)
    assert r is not None and r > 0.8


def test_noise_has_no_lag_to_believe_and_a_flat_wave_none() -> None:
    rng = np.random.default_rng(3)
    best = [lag_between(rng.normal(size=600), rng.normal(size=600), 30.0)[1] for _ in range(10)]
    assert all(r is not None and r < 0.4 for r in best)
    assert lag_between(np.zeros(600), rng.normal(size=600), 30.0) == (None, None)


def test_rate_jumps_are_counted_once_each() -> None:
    t_s = np.arange(0, 60, 0.05)
    breathing = 70 + 12 * np.sin(2 * np.pi * 0.25 * t_s)
    assert rate_jumps_s(breathing, 20.0) == [], "breathing is no jump"
    assert rate_jumps_s(np.where(t_s < 30, 70.0, 110.0), 20.0) == pytest.approx([30.0], abs=0.6)
    assert rate_jumps_s(breathing + 50 * ((t_s > 20) & (t_s < 24)), 20.0) == pytest.approx([20, 24], abs=0.6)
