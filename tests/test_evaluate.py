"""The judge: every method over one small cache by one protocol, every window accounted for, killed and gone on with."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autohr.errors import AutoHRError, BadRecipe, BadRecording, BadWeights, UnknownName
from autohr.frontend import CropConfig
from autohr.lab.datasets import cache
from autohr.lab.datasets.cache import CachedRecording, Entry, open_cached
from autohr.lab.datasets.recording import Absent, Recording, Reference
from autohr.lab.evaluate import run as evaluate_run
from autohr.lab.evaluate.presets import PRESETS
from autohr.lab.evaluate.protocols import PROTOCOLS, FixedSplit, KFold, LeaveOut, Protocol, folds_of, layout
from autohr.lab.evaluate.recipe import EvaluateRecipe, load_methods, protocol_of, read_recipe
from autohr.lab.evaluate.results import Account, MethodInfo, Results, method_folder, read_results, write_results
from autohr.lab.evaluate.run import crop_of, labels_of, run
from autohr.lab.evaluate.scoring import score
from autohr.lab.evaluate.summary import scores_sheet
from autohr.lab.evaluate.tables import render_sheet
from autohr.lab.nets import make_net
from autohr.lab.nets._checkpoint import save_weights
from autohr.lab.recipes.files import shipped_recipes
from autohr.lab.runs import create_run
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.methods import METHODS, Method, load_method
from autohr.types import Frame
from autohr.video.encode import write_video
from made import MiddleDetector
from made import run as autohr

CROP = CropConfig(size_px=40)
FPS = 12.0
SCENE = SceneConfig(
    seed=3,
    duration_s=9.0,
    width=96,
    height=72,
    fps=FPS,
    face_px=48,
    hrv=0.01,
    pulse_depth=0.04,
    noise_sd=1.0,
    head=HeadMotion(),
    light_drift=0.0,
)
RATES = {"ann": 58.0, "ben": 74.0, "cem": 93.0, "dia": 66.0}
INPUT = {"size_px": 32, "crop_size_px": 40, "n_frames": 160, "box": "tracked", "margin": 0.1}
SHORT = Protocol(name="short", title="6 s windows, one every 3 s", window_s=6.0, stride_s=3.0, crop=CROP)


@dataclasses.dataclass(frozen=True)
class Set:
    """A prepared data set."""

    recordings: tuple[CachedRecording, ...]
    entries: tuple[Entry, ...]
    root: Path
    """Folder with the videos."""
    absent: tuple[Absent, ...] = (Absent("made/eva/1", "there is no file", known_gap=False),)


def film(path: Path, scene: SceneConfig, dark_s: tuple[float, float] = (-1.0, -1.0)) -> Path:
    def frames() -> Iterator[Frame]:
        for k, (frame, _) in enumerate(render(scene)):
            dark = dark_s[0] <= k / scene.fps < dark_s[1]
            yield np.zeros_like(frame) if dark else frame

    write_video(path, frames(), fps=scene.fps, crf=4)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Five people. Dia's face is away for 3 s of 16; fay is only seen in the dark; gus has no reference."""
    root = tmp_path_factory.mktemp("evaluate")
    recordings = []
    for number, (subject, hr_bpm) in enumerate(RATES.items()):
        scene = dataclasses.replace(SCENE, seed=number, hr_bpm=hr_bpm)
        dark_s = (-1.0, -1.0)
        if subject == "dia":
            scene, dark_s = dataclasses.replace(scene, duration_s=16.0), (6.2, 9.2)
        known = truth(scene)
        video = film(root / f"{subject}.mp4", scene, dark_s)
        recordings.append(
            Recording(
                "made",
                subject,
                "1",
                video,
                Reference(known.t_s, None if subject == "cem" else known.bvp, known.hr_bpm),
                groups={"light": "lamp" if number % 2 else "sun"},
                fold=1 + number % 2,
            )
        )
    known = truth(SCENE)
    dark = film(root / "fay.mp4", dataclasses.replace(SCENE, duration_s=6.0), (0.0, 6.0))
    recordings.append(Recording("made", "fay", "1", dark, Reference(known.t_s, known.bvp, known.hr_bpm), fold=1))
    recordings.append(Recording("made", "gus", "1", recordings[0].video, None, fold=2))
    manifest = cache.prepare(recordings, root / "cache", CROP, workers=1, detector=MiddleDetector())
    return Set(tuple(open_cached(root / "cache", CROP)), manifest.entries, root)


SMALL_NETS: dict[str, dict[str, Any]] = {
    "autohr": {"preset": "tiny"},
    "hrcnn": {"channels": [1, 1, 1, 1], "estimator_channels": 4},
    "rhythmnet": {"hidden": 8},
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fresh weights of every net, small ones: they measure nothing, but they are fed and judged like others."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, method in METHODS.items():
        if method.is_net:
            torch.manual_seed(0)
            net = make_net(name, SMALL_NETS.get(name, {}))
            paths[name] = folder / f"{name}.safetensors"
            save_weights(paths[name], net, name=name, header={"input": INPUT, "training_data": {"fps_to": 30.0}})
    return paths


def load(name: str, weights: dict[str, Path]) -> Method:
    return load_method(name, weights.get(name))


def evaluate(
    method: Method | dict[int, Method], made: Set, out: Path, protocol: Protocol = SHORT, **more: Any
) -> Results:
    return run(protocol, method, made.recordings, out, **{"entries": made.entries, "absent": made.absent} | more)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# --- one protocol, every method


def test_every_method_goes_through_one_protocol_into_one_table(
    made: Set, weights: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for name in METHODS:
        evaluate(load(name, weights), made, out, label=name)
    everything = read_results(out)
    assert sorted(results.method.label for results in everything) == sorted(METHODS)
    assert len({json.dumps(results.counts) for results in everything}) == 1, "one protocol: the same windows for all"
    assert len({tuple((w.recording_id, w.start_s) for w in results.windows) for results in everything}) == 1
    for preset in PRESETS:
        sheet = scores_sheet([score(results, preset, n_draws=20) for results in everything])
        text = render_sheet(sheet, "text")
        assert all(name in text for name in METHODS) and preset in text
    mae = {results.method.label: score(results, n_draws=0).overall.mae_bpm for results in everything}
    assert all((mae[name] or 99.0) < 3 for name in ("green", "ica")), mae


def test_every_recording_and_window_is_accounted_for(made: Set, tmp_path: Path) -> None:
    results = evaluate(load_method("pos"), made, tmp_path)
    accounts = {one.recording_id.split("/")[1]: one for one in results.accounts}
    assert {name: one.state for name, one in accounts.items()} == {
        **dict.fromkeys(RATES, "scored"),
        "eva": "absent",
        "fay": "excluded",
        "gus": "excluded",
    }
    assert all((one.reason is None) == (one.state == "scored") for one in results.accounts)
    assert "No face" in str(accounts["fay"].reason) and "No reference" in str(accounts["gus"].reason)
    # 9 s: windows from 0 and 3 s; 16 s: from 0, 3, 6 and 9 s, of which the dark takes those that reach into it.
    assert {name: one.n_windows for name, one in accounts.items()} == {
        "ann": 2, "ben": 2, "cem": 2, "dia": 4, "eva": 0, "fay": 1, "gus": 0,
    }  # fmt: skip
    assert accounts["dia"].n_scored == 2
    assert results.counts == {"scored": 4, "absent": 1, "excluded": 2, "windows": 11, "scored_windows": 8}
    lost = [window for window in results.windows if not window.scored]
    assert len(lost) == 3 and all(window.why and window.bvp is None for window in lost)
    assert score(results, n_draws=0).overall.coverage is not None
    assert score(results, n_draws=0).overall.n == 11


def test_a_window_holds_its_wave_its_clock_and_its_truth(made: Set, tmp_path: Path) -> None:
    results = evaluate(load_method("pos"), made, tmp_path)
    for window in results.windows:
        if not window.scored:
            continue
        assert window.bvp is not None and window.hr_bpm is not None and window.true_hr_bpm is not None
        assert window.fps == pytest.approx(FPS, rel=0.01)
        assert len(window.bvp) == pytest.approx(window.duration_s * window.fps, abs=1.01)
        assert window.duration_s == pytest.approx(6.0, abs=0.51)
        assert window.true_hr_bpm == pytest.approx(RATES[window.subject], abs=3)
        assert (window.true_bvp is None) == (window.true_wave_hr_bpm is None) == (window.subject == "cem")
        assert window.groups == {"light": "sun" if window.subject in ("ann", "cem") else "lamp"}
        assert window.fold is None and window.method == "pos" and window.weights is None
        assert PRESETS["reference"].rate(window.bvp, window.fps) == pytest.approx(window.hr_bpm, abs=1e-3)
    starts = [window.start_s for window in results.windows if window.subject == "dia" and window.scored]
    assert starts[0] == 0.0 and starts[1] >= 9.0


def test_stored_estimates_are_those_of_the_method(made: Set, tmp_path: Path) -> None:
    method = load_method("chrom")
    (first, *_) = evaluate(method, made, tmp_path).windows
    estimate = method(made.recordings[0].face_clip(0, round(6 * made.recordings[0].fps)))
    assert (
        first.hr_bpm == estimate.hr_bpm
        and first.confidence == estimate.confidence
        and first.reliable == estimate.reliable
    )
    assert estimate.pulse is not None and first.bvp is not None
    np.testing.assert_allclose(first.bvp, estimate.pulse.bvp, rtol=1e-6, atol=1e-6)


# --- killed and gone on with


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_killed_evaluation_ends_with_the_same_bytes(made: Set, tmp_path: Path, after: int) -> None:
    evaluate(load_method("green"), made, tmp_path / "whole")

    def kill(done: int, total: int, account: Account) -> None:
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        evaluate(load_method("green"), made, tmp_path / "parts", progress=kill)
    folder = method_folder(tmp_path / "parts", "green")
    assert len(list(folder.glob("made-*.json"))) == after
    pending = [one for one in read_results(tmp_path / "parts")[0].accounts if one.state == "pending"]
    assert len(pending) == 7 - after
    # A kill between the two files of a recording, and one in the middle of writing.
    (folder / ".made-x.json.123.part").write_text("{")
    last = sorted(folder.glob("made-*.json"))[-1]
    last.unlink()
    calls: list[int] = []
    inner = load_method("green")
    counting = dataclasses.replace(inner, wave=lambda clip: calls.append(1) or inner.wave(clip))  # type: ignore[func-returns-value]
    kept = sum(one.n_scored for one in read_results(tmp_path / "parts")[0].accounts)
    evaluate(counting, made, tmp_path / "parts")
    assert len(calls) == 8 - kept, "finished recordings are not read again"
    assert content(tmp_path / "parts" / "results") == content(tmp_path / "whole" / "results")


def test_an_evaluation_goes_on_where_only_the_words_of_its_protocol_were_changed(made: Set, tmp_path: Path) -> None:
    evaluate(load_method("green"), made, tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    worded = dataclasses.replace(SHORT, title="Another title", source="another source", basis="other words")
    run(worded, load_method("pos"), made.recordings, tmp_path, entries=made.entries, absent=made.absent)
    assert (tmp_path / "config.json").read_bytes() == before
    assert [one.method.label for one in read_results(tmp_path)] == ["green", "pos"]
    with pytest.raises(BadRecipe, match="another config"):
        run(dataclasses.replace(worded, least_s=5.0), load_method("pos"), made.recordings, tmp_path)


def test_another_protocol_other_recordings_or_other_weights_are_refused(
    made: Set, weights: dict[str, Path], tmp_path: Path
) -> None:
    made = dataclasses.replace(made, recordings=made.recordings[:2], entries=(), absent=())
    evaluate(load_method("pos"), made, tmp_path)
    with pytest.raises(BadRecipe, match="stride_s"):
        evaluate(load_method("pos"), made, tmp_path, dataclasses.replace(SHORT, stride_s=2.0))
    with pytest.raises(BadRecipe, match="recordings"):
        run(SHORT, load_method("pos"), made.recordings[1:], tmp_path)
    evaluate(load("autohr", weights), made, tmp_path, label="net")
    other = tmp_path.parent / f"{tmp_path.name}-other.safetensors"
    torch.manual_seed(1)
    save_weights(
        other,
        make_net("autohr", {"preset": "tiny"}),
        name="autohr",
        header={"input": INPUT, "training_data": {"fps_to": 30.0}},
    )
    with pytest.raises(BadRecipe, match="other weights"):
        evaluate(load_method("autohr", other), made, tmp_path, label="net")
    assert evaluate(load_method("autohr", other), made, tmp_path).method.label.startswith("autohr-")
    assert evaluate(load_method("pos"), made, tmp_path, dataclasses.replace(SHORT, stride_s=2.0), overwrite=True)


def test_a_net_gets_the_crops_it_was_trained_with_or_nothing(
    made: Set, weights: dict[str, Path], tmp_path: Path
) -> None:
    net = load("autohr", weights)
    assert crop_of(dataclasses.replace(SHORT, crop=CropConfig(size_px=64)), net) == CROP
    with pytest.raises(BadWeights, match="open them with its crop"):
        evaluate(net, made, tmp_path, crop=CropConfig(size_px=64))
    evaluate(load_method("pos"), made, tmp_path, crop=CropConfig(size_px=64))


# --- folds


def test_each_fold_is_tested_by_its_own_net(made: Set, weights: dict[str, Path], tmp_path: Path) -> None:
    folds = dataclasses.replace(SHORT, name="folds", split=KFold(2))
    first = load("autohr", weights)
    second = dataclasses.replace(
        first, weights="second", wave=lambda clip: dataclasses.replace(first.wave(clip), bvp=-first.wave(clip).bvp)
    )
    half = evaluate({1: first}, made, tmp_path, folds)
    assert {w.fold for w in half.windows} == {1}
    assert sum(one.state == "pending" for one in half.accounts) == 3
    both = evaluate({1: first, 2: second}, made, tmp_path, folds)
    assert {(w.fold, w.weights) for w in both.windows} == {(1, str(weights["autohr"])), (2, "second")}
    assert both.method.folds == {"1": str(weights["autohr"]), "2": "second"}
    assert not any(one.state == "pending" for one in both.accounts)
    assert {one.subject: one.fold for one in both.windows}["ben"] == 2, "the official fold"
    with pytest.raises(BadRecipe, match="no folds"):
        evaluate({1: first}, made, tmp_path / "other")


def test_only_one_fold_is_tested_and_the_others_train(made: Set, tmp_path: Path) -> None:
    split = dataclasses.replace(SHORT, name="only", split=KFold(2, only=2))
    results = evaluate(load_method("pos"), made, tmp_path, split)
    states = {one.recording_id.split("/")[1]: one.state for one in results.accounts}
    assert states["ann"] == "training" and states["ben"] == "scored"
    assert {w.subject for w in results.windows} == {"ben", "dia"}


@dataclasses.dataclass(frozen=True)
class Person:
    dataset: str
    subject: str
    fold: int | None = None
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)


def people(n: int, folds: Sequence[int | None] = (None,)) -> dict[str, Person]:
    return {f"d/{k}/{j}": Person("d", str(k), folds[k % len(folds)]) for k in range(n) for j in range(2)}


def test_folds_are_official_where_there_are_some_and_never_cut_a_subject() -> None:
    five = dataclasses.replace(SHORT, split=KFold(5))
    official = folds_of(five, people(10, (3, 1, 2)))
    assert [official[f"d/{k}/0"] for k in range(4)] == [3, 1, 2, 3]
    made = folds_of(five, people(10))
    assert set(made.values()) == {1, 2, 3, 4, 5}
    assert all(made[f"d/{k}/0"] == made[f"d/{k}/1"] for k in range(10))
    ours = folds_of(dataclasses.replace(SHORT, split=KFold(5, official=False)), people(10, (3, 1, 2)))
    assert ours == made
    torn = people(10, (3, 1, 2))
    torn["d/0/1"] = Person("d", "0", 2)
    with pytest.raises(BadRecording, match="d/0"):
        folds_of(five, torn)
    with pytest.raises(BadRecipe, match="5 subject-exclusive folds"):
        folds_of(five, people(4))


def test_one_site_is_left_out_and_no_subject_is_cut() -> None:
    def by(group: str) -> Protocol:
        return dataclasses.replace(SHORT, split=LeaveOut(group))

    sites = {
        f"{d}/{k}/{j}": Person(d, str(k), None, {"site": "xyz"[k], "take": str(j)})
        for d in "ab"
        for k in range(3)
        for j in range(2)
    }
    by_site = folds_of(by("site"), sites)
    assert by_site == {one: 1 + int(person.subject) for one, person in sites.items()}
    by_dataset = folds_of(by("dataset"), sites)
    assert by_dataset == {one: 1 + "ab".index(person.dataset) for one, person in sites.items()}
    for group, reason in (
        ("take", "a/0 is in two of them"),
        ("camera", "Groups of these recordings: dataset, site, take"),
    ):
        with pytest.raises(BadRecipe, match=reason):
            folds_of(by(group), sites)
    with pytest.raises(BadRecipe, match="two are needed"):
        folds_of(by("dataset"), people(3))


def test_a_fixed_split_tests_whole_subjects() -> None:
    third = folds_of(dataclasses.replace(SHORT, split=FixedSplit(test_share=0.3)), people(10))
    assert sum(third.values()) == 6 and set(third.values()) == {0, 1}  # type: ignore[arg-type]
    assert all(third[f"d/{k}/0"] == third[f"d/{k}/1"] for k in range(10))
    named = folds_of(dataclasses.replace(SHORT, split=FixedSplit(("4", "7"))), people(10))
    assert {one for one, fold in named.items() if fold} == {"d/4/0", "d/4/1", "d/7/0", "d/7/1"}
    with pytest.raises(BadRecipe, match="no recording"):
        folds_of(dataclasses.replace(SHORT, split=FixedSplit(("99",))), people(10))


# --- windows


@pytest.mark.parametrize(
    ("protocol", "duration_s", "starts_s"),
    [
        ("reference", 30.0, [0, 5, 10, 15, 20]),
        ("reference", 29.97, [0, 5, 10, 15, 20]),
        ("reference", 29.0, [0, 5, 10, 15]),
        ("reference", 7.0, [0]),
        ("reference", 3.0, []),
        ("reference-30s", 61.0, [0, 15, 30]),
        ("vipl-hr", 30.0, [0, 10, 20]),
        ("vipl-hr", 28.0, [0, 9, 18]),
        ("vipl-hr", 40.0, [0, 15, 30]),
        ("mmse-hr", 26.0, [0, 10, 20]),
        ("mmse-hr", 24.0, [0, 10]),
        ("reference-whole", 24.0, []),
    ],
)
def test_windows_are_laid_out_by_the_clock(protocol: str, duration_s: float, starts_s: list[float]) -> None:
    windows = layout(PROTOCOLS[protocol], duration_s)
    assert [start_s for start_s, _ in windows] == pytest.approx(starts_s)
    assert all(end_s <= duration_s + 0.051 for _, end_s in windows)
    lengths = [end_s - start_s for start_s, end_s in windows]
    if protocol == "mmse-hr":
        assert lengths[-1] == pytest.approx(6.0 if duration_s == 26.0 else 10.0)
    elif duration_s >= 10:
        assert lengths == pytest.approx([PROTOCOLS[protocol].window_s] * len(windows))


def test_whole_recordings_are_windows_between_their_gaps(made: Set, tmp_path: Path) -> None:
    whole = dataclasses.replace(PROTOCOLS["reference-whole"], crop=CROP, least_s=4.0)
    results = evaluate(load_method("pos"), made, tmp_path, whole)
    dia = [window for window in results.windows if window.subject == "dia"]
    assert [window.scored for window in dia] == [True, True]
    assert dia[0].end_s == pytest.approx(6.2, abs=0.2) and dia[1].start_s == pytest.approx(9.2, abs=0.2)
    fay = [window for window in results.windows if window.subject == "fay"]
    assert len(fay) == 1 and not fay[0].scored and "No face" in str(fay[0].why)


def test_protocols_name_what_they_infer_and_refuse_contradictions() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.title and protocol.basis and protocol.preset in PRESETS
    for name in ("vipl-hr", "mahnob-hci", "mmse-hr"):
        assert "Inferred" in PROTOCOLS[name].basis and PROTOCOLS[name].preset == "paper"
    for wrong in ({"window_s": 2.0}, {"stride_s": None}, {"n_windows": 3}, {"window_s": None}, {"least_s": 1.0}):
        with pytest.raises(ValueError):
            dataclasses.replace(SHORT, **wrong)


def test_unknown_names_and_foreign_datasets_are_refused(made: Set, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="vipl-hr"):
        run("vipl", load_method("pos"), made.recordings, tmp_path)
    with pytest.raises(BadRecipe, match="is for vipl_hr"):
        run("vipl-hr", load_method("pos"), made.recordings, tmp_path)
    with pytest.raises(BadRecording, match="no recording"):
        run(SHORT, load_method("pos"), (), tmp_path)


# --- files


def test_results_come_back_as_they_were_written(made: Set, tmp_path: Path) -> None:
    results = evaluate(load_method("ica"), made, tmp_path / "run")
    create_run(tmp_path / "copy", json.loads((tmp_path / "run" / "config.json").read_text()))
    write_results(tmp_path / "copy", results)
    (again,) = read_results(tmp_path / "copy")
    assert again.accounts == results.accounts and again.method == results.method
    for ours, theirs in zip(again.windows, results.windows, strict=True):
        for field in dataclasses.fields(ours):
            mine, other = getattr(ours, field.name), getattr(theirs, field.name)
            if isinstance(mine, np.ndarray):
                np.testing.assert_array_equal(mine, other)
            else:
                assert mine == other, field.name


def test_damaged_results_are_named(made: Set, tmp_path: Path) -> None:
    evaluate(load_method("pos"), made, tmp_path)
    folder = method_folder(tmp_path, "pos")
    for file, wrong in (("npy", b"no array"), ("json", b'{"schema": "other"}')):
        (path,) = folder.glob(f"made-ann*.{file}")
        before = path.read_bytes()
        path.write_bytes(wrong)
        with pytest.raises(AutoHRError, match="made-ann"):
            read_results(tmp_path)
        path.write_bytes(before)
    record = json.loads(path.read_text())
    record["account"]["state"] = "lost"
    path.write_text(json.dumps(record))
    with pytest.raises(AutoHRError, match=r"account\.state='lost': input should be 'scored', 'unscored'"):
        read_results(tmp_path)
    path.write_bytes(before)
    assert read_results(tmp_path)
    with pytest.raises(AutoHRError, match="no results"):
        create_run(tmp_path / "empty", {"kind": "training"})
        read_results(tmp_path / "empty")


@pytest.mark.parametrize("label", ["", "a/b", "..", " pos", "x" * 90])
def test_a_label_names_a_folder(label: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        method_folder(tmp_path, label)


def test_a_method_without_windows_is_not_rate_only() -> None:
    info = MethodInfo("rhythm", "rhythm", "RhythmNet")
    assert not Results(info, {}, (), ()).rate_only


# --- the command, and the recipe


@pytest.fixture
def mine(made: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos of somebody's own with a CSV of rates, in the folder where the command is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "_detector", MiddleDetector)
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("ann", "ben", "cem"):
        shutil.copy(made.root / f"{name}.mp4", folder)
    lines = [
        "video,hr_bpm,light",
        *(f"{name}.mp4,{RATES[name]:g},{'dim' if name == 'ben' else 'sun'}" for name in ("ann", "ben", "cem")),
    ]
    (folder / "rates.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_three_videos_and_a_csv_are_evaluated_by_one_command(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("evaluate", "--dataset", "folder", "--root", mine, "--method", "green,pos", "--workers", 1)
    code, out, _ = autohr(capsys, *own)
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("green", "pos"))}
    assert rows["green"].endswith("3 of 3") and "100 %" in rows["green"]
    assert "3 recordings expected: 3 scored; 3 of 3 windows scored." in out
    again = autohr(capsys, *own, "--format", "markdown")
    assert again[0] == 0 and "| green |" in again[1]
    code, out, _ = autohr(capsys, "evaluate", "runs/evaluation", "--preset", "paper,physbench", "--by", "light")
    assert out.count("scored as") == 2 and out.count("oracle (the reference's own wave)") == 2
    assert code == 0 and "3 because no reference wave" in out, "rates alone cannot be scored by the reference wave"
    code, out, _ = autohr(capsys, "evaluate", "runs/evaluation", "--by", "light")
    assert code == 0 and "green by light" in out
    code, out, err = autohr(capsys, "evaluate", "runs/evaluation", "--preset", "physformer")
    assert code == 1 and not out and err.startswith("autohr: Scoring physformer needs windows of 20 s or more"), err
    assert "paper" in err and "reference-whole" in err and err.count("\n") == 1
    code, out, err = autohr(capsys, "evaluate", "runs/evaluation", "--preset", "all")
    assert code == 0 and "Left out: Scoring physformer" in err and out.count("scored as") == len(PRESETS) - 1
    code, _, err = autohr(capsys, "evaluate", "runs/evaluation", "--by", "skin")
    assert code == 2 and "light" in err
    code, out, _ = autohr(capsys, "evaluate", "runs/evaluation", "--method", "green")
    assert code == 0 and not any(line.startswith("pos") for line in out.splitlines())
    code, _, err = autohr(capsys, "evaluate", "runs/evaluation", "--method", "chrom")
    assert code == 1 and "green, pos" in err
    shutil.copytree("runs/evaluation", "runs/second")
    shutil.rmtree("runs/second/results/pos")
    code, out, _ = autohr(capsys, "evaluate", "runs/evaluation", "runs/second", "--baseline", "runs/second: green")
    assert code == 0 and all(name in out for name in ("runs/evaluation: green ", "runs/second: green ", "\npos "))
    code, _, err = autohr(capsys, "evaluate", "runs/evaluation", "no_such_run")
    assert code == 1 and "no_such_run" in err and err.count("\n") == 1
    autohr(capsys, *own, "--protocol", "reference-whole", "--out", "runs/whole")
    code, _, err = autohr(capsys, "evaluate", "runs/evaluation", "runs/whole")
    assert code == 1 and "protocol reference" in err and "reference-whole" in err and err.count("\n") == 1


def test_the_command_names_what_a_folder_lacks(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "ben.mp4").unlink()
    (mine / "dia.mp4").write_bytes(b"no video")
    own = ("evaluate", "--dataset", "folder", "--root", mine, "--method", "green", "--workers", 1)
    code, out, err = autohr(capsys, *own)
    assert code == 0
    assert "ben" in err and "dia" in err
    assert "4 recordings expected: 2 scored" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "--dataset"),
        (("nowhere.toml",), 1, "There is no recipe"),
        (("--dataset", "folders", "--root", "mine"), 2, "Did you mean 'folder'?"),
        (("--dataset", "folder", "--root", "mine", "--protocol", "referenc"), 1, "Did you mean 'reference'?"),
        (("--dataset", "folder", "--root", "mine", "--method", "poss"), 1, "Did you mean 'pos'?"),
        (("--dataset", "folder", "--root", "mine", "--preset", "toolbox"), 1, "toolbox-2024"),
        (("--dataset", "folder", "--root", "mine", "--preset", "physformer"), 1, "protocol reference has 10 s"),
        (("--dataset", "folder", "--root", "mine", "--protocol", "vipl-hr", "--method", "pos"), 1, "is for vipl_hr"),
        (("mine",), 1, "no run folder"),
        (("mine", "--weights", "x", "--device", "cpu"), 2, "leave --weights, --device out"),
        (("recipe.toml", "--method", "pos"), 2, "leave --method out"),
    ],
)
def test_wrong_usage_is_one_clear_answer(
    mine: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    got, _, err = autohr(capsys, "evaluate", *words)
    assert got == code and message in " ".join(err.replace("\u2502", " ").split()) and "Traceback" not in err


def test_shipped_recipes_are_listed_with_their_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = autohr(capsys, "list", "recipes")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:] if line.strip()}
    assert code == 0 and set(rows) == set(shipped_recipes())
    assert (rows["release"], rows["search_cpu"]) == ("train", "search")


@pytest.mark.parametrize("table", ["protocols", "scoring"])
def test_the_tables_are_listed(capsys: pytest.CaptureFixture[str], table: str) -> None:
    code, out, _ = autohr(capsys, "list", table)
    assert code == 0 and all(name in out for name in (PROTOCOLS if table == "protocols" else PRESETS))


def test_a_recipe_is_equal_to_the_options(weights: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'''dataset = "folder"
root = "mine"
methods = ["pos", "autohr", "chrom"]
weights = ["{weights["autohr"]}"]
protocol = "reference"
[protocol_config]
window_s = 8.0
crop = {{size_px = 64}}
'''
    )
    recipe = read_recipe(path)
    assert recipe == EvaluateRecipe(
        "folder",
        "mine",
        methods=("pos", "autohr", "chrom"),
        weights=(str(weights["autohr"]),),
        protocol_config={"window_s": 8.0, "crop": {"size_px": 64}},
    )
    protocol = protocol_of(recipe)
    assert (protocol.name, protocol.window_s, protocol.crop.size_px) == ("reference-changed", 8.0, 64)
    assert [(method.name, method.weights) for method in load_methods(recipe)] == [
        ("chrom", None),
        ("pos", None),
        ("autohr", "autohr"),
        ("autohr", str(weights["autohr"])),
    ]


def test_weights_of_ones_own_stand_beside_the_shipped_ones(weights: dict[str, Path], tmp_path: Path) -> None:
    """With distinct labels, also where two files have one name; weights named twice are one row."""
    files = [tmp_path / run / "checkpoints" / "best.safetensors" for run in ("s0", "s1")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(weights["autohr"].read_bytes())
    own = tuple(map(str, files))
    methods = load_methods(EvaluateRecipe("folder", "mine", methods=("all",), weights=(*own, own[0], "autohr")))
    labels = labels_of(methods)
    assert len(set(labels)) == len(labels) and {"pos", "chrom", "autohr"} < set(labels)
    assert labels[-3:] == ["autohr", "autohr-s0-checkpoints-best", "autohr-s1-checkpoints-best"]
    alone = load_methods(EvaluateRecipe("folder", "mine", weights=own[:1]))
    assert [(method.weights, label) for method, label in zip(alone, labels_of(alone), strict=True)] == [
        (own[0], "autohr-best")
    ]


def test_a_method_that_fails_does_not_end_the_others(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_run.run

    def run_but_green(protocol: Any, method: Any, *rest: Any, **options: Any) -> Any:
        if method.name == "green":
            raise BadRecording("All too short.")
        return whole(protocol, method, *rest, **options)

    monkeypatch.setattr(evaluate_run, "run", run_but_green)
    own = ("evaluate", "--dataset", "folder", "--root", mine, "--workers", 1, "--method")
    code, out, err = autohr(capsys, *own, "green,pos")
    assert code == 1 and "1 method failed: green: All too short." in err
    assert any(line.startswith("pos") for line in out.splitlines())
    code, _, err = autohr(capsys, *own, "green")
    assert code == 1 and "All too short." in err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"windows_s": 8.0}, "has no field 'windows_s'. Fields: title"),
        ({"window_s": 1.0}, "window_s.*equal to 4 .*given 1"),
        ({"window_s": "8"}, "window_s.*valid number.*given '8'"),
        ({"n_windows": 3}, "Give one of stride_s=5.0 and n_windows=3"),
        ({"crop": {"size": 3}}, "has no field 'size'. Fields: size_px"),
        ({"name": "x"}, "has no field 'name'"),
    ],
)
def test_a_wrong_change_of_a_protocol_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe, match=f"^protocol_config.*{message}"):
        protocol_of(EvaluateRecipe("folder", "x", protocol_config=config))
