"""The pages of runs: evaluation, training, ablation, activations. Sound, self-contained, true to the run directory."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autohr.errors import AutoHRError, BadRecipe, BadRecording, UnknownName, WindowsTooShort
from autohr.lab.evaluate.protocols import PROTOCOLS
from autohr.lab.evaluate.published import PANELS
from autohr.lab.evaluate.results import Account, MethodInfo, Results, WindowResult, write_results
from autohr.lab.experiments.activations import find_truth, head_motion, record_activations
from autohr.lab.experiments.tables import table_sheet
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._activations import LEVELS, WATCHED, activation_maps, load_activations
from autohr.lab.nets._checkpoint import save_weights
from autohr.lab.reports.evaluation import render_evaluation_page
from autohr.lab.reports.run import render_run_page, write_run_page
from autohr.lab.runs import Run, create_run
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, write_scene
from made import run as autohr
from test_reports import read, words_of
from test_scoring import window as made_window

pytestmark = pytest.mark.usefixtures("one_thread")

EVIL = "made/<script>alert(1)</script>/1"
INPUT = {"size_px": 32, "crop_size_px": 40, "n_frames": 64, "box": "tracked", "margin": 0.1}
SMALL = {"autohr": {"preset": "tiny"}, "physnet": {}}


def window(subject: str, scenario: str, k: int, error_bpm: float | None, method: str) -> WindowResult:
    true_bpm = 60.0 + 6 * int(subject) + k
    changed: dict[str, Any] = {"recording_id": f"made/{subject}/{scenario}", "session": scenario, "start_s": 5.0 * k}
    changed |= {"groups": {"scenario": scenario}, "method": method}
    if error_bpm is None:
        lost = {"bvp": None, "hr_bpm": None, "confidence": 0.0, "reliable": False, "snr_db": None}
        return made_window(subject, true_bpm, why="no face in it", **changed, **lost)
    return made_window(subject, true_bpm, true_bpm + error_bpm, reliable=abs(error_bpm) < 3, **changed)


def evaluation(folder: Path) -> Run:
    """Four people, still and talking; GREEN errs by 8 bpm where POS errs by 1, and loses one window of each."""
    protocol = PROTOCOLS["reference"].as_dict()
    run = create_run(folder, {"kind": "evaluation", "protocol": protocol, "recordings": {}})
    for method in ("pos", "green"):
        windows, accounts = [], []
        for subject in "0123":
            for scenario in ("still", "talking"):
                errors_bpm = (-1.0, 1.0, -1.0) if method == "pos" else (None, 8.0, -8.0)
                own = [window(subject, scenario, k, error_bpm, method) for k, error_bpm in enumerate(errors_bpm)]
                windows += own
                n_scored = sum(one.scored for one in own)
                accounts.append(Account(own[0].recording_id, "scored", None, 3, n_scored, "made", subject))
        accounts.append(Account(EVIL, "excluded", "No face in 300 of 300 frames.", 0, 0, "made", "9"))
        # A word longer than a telephone is wide.
        weights = "runs/a_net_trained_on_synthetic_recordings/checkpoints/best.safetensors" if method == "pos" else None
        info = MethodInfo(method, method, method.upper(), weights=weights)
        write_results(folder, Results(info, protocol, tuple(windows), tuple(accounts)))
    return run


def training(folder: Path) -> Run:
    run = create_run(folder, {"recipe": {"title": "a <b>title</b>", "net": "autohr", "fit": {"lr": 1e-4, "steps": 40}}})
    for step in range(1, 41):
        run.log({"step": step, "loss": 5 - step / 40, "time": 0.5, "frequency": 4.5})
        if step % 20 == 0:
            val = {"loss": 4.5, "mae_bpm": 12.0 - step / 10, "rmse_bpm": 14.0, "pearson_r": None, "within_5_bpm": 0.4}
            run.log({"step": step, "val": val | {"step": step, "chance_mae_bpm": 15.0}})
    data = {"train": ["a", "b"], "val": ["c"], "left_out": {"made/x/1": "180 frames; a clip has 200"}}
    (run.results / "data.json").write_text(json.dumps(data))
    return run


def ablation(folder: Path) -> Path:
    panel = PANELS["nas"]
    run = {"rmse_bpm": 9.5, "low_bpm": 8.0, "high_bpm": 11.0, "n_scored": 4, "n": 5, "why_not": None}
    not_run = dict.fromkeys(run, None) | {"n_scored": 4, "n": 5, "why_not": "no <search> yet"}
    bars = [
        dataclasses.asdict(bar) | {"published_bpm": bar.rmse_bpm} | (not_run if k else run)
        for k, bar in enumerate(panel.bars)
    ]
    folder.mkdir()
    fields = {"name": "nas", "panel": "c", "title": panel.title, "source": panel.source, "note": "A note."}
    fields |= {"protocol": "vipl-hr-fold1", "preset": "paper"}
    (folder / "ablation.json").write_text(json.dumps(fields | {"bars": bars}))
    return folder


def activations(folder: Path) -> Run:
    run = create_run(folder, {"kind": "activations", "video": "a/<i>face</i>.mp4", "window_s": 10.0})
    rng = np.random.default_rng(0)
    t_s = np.arange(300) / 30
    arrays: dict[str, Any] = {
        "net0_t_s": np.arange(20) / 2,
        "net0_crops": rng.integers(0, 255, (20, 32, 32, 3)).astype(np.uint8),
        "net0_low": rng.uniform(size=(20, 16, 16)).astype(np.float16),
        "net0_high": np.zeros((20, 4, 4), np.float16),
        "net0_bvp": np.where(t_s < 2, np.nan, np.sin(8 * t_s)),
        "net0_bvp_t_s": t_s,
        "motion": np.abs(rng.normal(size=300)),
        "motion_t_s": t_s,
        "true_t_s": t_s,
        "true_bvp": np.sin(8 * t_s + 0.3),
    }
    np.savez(run.results / "activations.npz", **arrays)
    net = {"title": "PhysNet", "weights": "w.safetensors", "hr_bpm": None, "reliable": False, "likeness": 0.9}
    (run.results / "activations.json").write_text(json.dumps({"nets": [net]}))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "evaluation": evaluation(root / "evaluation").root,
        "training": training(root / "training").root,
        "ablation": ablation(root / "ablation"),
        "activations": activations(root / "activations").root,
    }


KINDS = ("evaluation", "training", "ablation", "activations")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_sound_and_loads_nothing(kind: str, runs: dict[str, Path]) -> None:
    text, _ = render_run_page(runs[kind])
    page = read(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False)), "a heading level is skipped"
    for needle in ("http:", "https:", "@import", "<script", "<link", "<iframe", "xmlns", "<b>", "<i>", "<search>"):
        assert needle not in text.lower(), needle
    for tag, attrs in page.tags:
        assert not any(attr.startswith("on") for attr in attrs), (tag, attrs)
        assert attrs.get("src", "data:").startswith("data:")
        href = attrs.get("href", "")
        assert not href or (href[0] == "#" and href[1:] in page.ids), href
        assert tag != "img" or attrs["alt"]
    assert sum(tag == "table" for tag, _ in page.tags) == sum(tag == "caption" for tag, _ in page.tags)
    assert not re.search(r"\bnan\b|\bnone\b", words_of(text), re.IGNORECASE) or kind == "training"
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--\w+):", text))
    if kind != "evaluation":
        assert text == render_run_page(runs[kind])[0], "same run, same bytes"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_page_is_written_beside_the_run_or_where_it_is_wanted(
    kind: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    where = write_run_page(runs[kind])
    assert where.is_relative_to(runs[kind]) and "<html" in where.read_text()
    mine = write_run_page(runs[kind], tmp_path / "new" / "mine.html", made_at="2001-02-03")
    assert mine == tmp_path / "new" / "mine.html" and "2001-02-03" in mine.read_text()


def test_an_evaluation_shows_scores_counts_groups_and_reasons(runs: dict[str, Path]) -> None:
    text = words_of(render_run_page(runs["evaluation"])[0])
    # Cells stand side by side: method, scored, MAE, and its interval below it.
    assert "POS24 of 241.001.00 to 1.00" in text and "GREEN16 of 248.008.00 to 8.00" in text
    assert "8 \u00d7 no face in it" in text
    assert "<script>alert(1)</script>/1: excluded: no face in 300 of 300 frames" in text
    assert "By scenario" in text and "still8.00 (8 of 12)1.00 (12 of 12)" in text
    assert "7.00 bpm more than that of POS" in text and "Wilcoxon over 4 subjects" in text
    assert "limits" in text and "24 readings scored of 24" in text
    assert text.count("oracle (the reference's own wave)") == 2 and "oracle: the reference's own wave in place" in text
    assert "Checked on simulated pulse waves" in text and "Its limits" in text
    with pytest.raises(WindowsTooShort, match="20 s"):
        render_evaluation_page(runs["evaluation"], preset="physformer")
    rescored = words_of(render_evaluation_page(runs["evaluation"], preset="toolbox-2023"))
    assert "0.75 to 2.5 Hz" in rescored and rescored != text
    with pytest.raises(UnknownName, match="Unknown preset"):
        render_evaluation_page(runs["evaluation"], preset="best")


def test_an_evaluation_of_thousands_of_windows_stays_small(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autohr.lab.reports.evaluation.MAX_POINTS", 10)
    text = words_of(render_run_page(runs["evaluation"])[0])
    assert "24 readings scored of 24; 8 of them drawn" in text


def test_a_training_shows_its_best_and_its_recipe(runs: dict[str, Path]) -> None:
    text = words_of(render_run_page(runs["training"])[0])
    assert "step 40: MAE 8.00 bpm" in text and "r not defined" in text
    assert "made/x/1: 180 frames; a clip has 200" in text and "a <b>title</b>" in text
    assert "lr0.0001" in text


def test_activations_ask_for_consent(runs: dict[str, Path]) -> None:
    text, _ = render_run_page(runs["activations"])
    words = words_of(text)
    assert "has to have the consent of the person" in words and "the best lag within one second" in words
    assert "low level (after block 1)" in words and "high level (after block 3)" in words
    assert text.count("<img") == 3 * 7


def test_errors_name_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(AutoHRError, match="no run folder"):
        render_run_page(tmp_path)
    create_run(tmp_path / "odd", {"something": "else"})
    with pytest.raises(AutoHRError, match="a kind that has no page"):
        render_run_page(tmp_path / "odd")
    create_run(tmp_path / "new", {"recipe": {}})
    with pytest.raises(AutoHRError, match="no training step yet"):
        render_run_page(tmp_path / "new")
    run = activations(tmp_path / "cut")
    (run.results / "activations.npz").write_bytes(b"PK")
    with pytest.raises(AutoHRError, match="missing or damaged"):
        render_run_page(run.root)


# Activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WATCHED)
def test_maps_are_of_the_layers_that_the_paper_names(name: str) -> None:
    torch.manual_seed(0)
    net = make_net(name, {}).eval()
    clip = torch.rand(1, 3, 10, 32, 32)
    maps = activation_maps(net, name, clip)
    assert set(maps) == set(LEVELS)
    assert maps["low"].shape == (10, 16, 16) and maps["high"].shape == (10, 4, 4)
    assert all(np.isfinite(one).all() and (one >= 0).all() for one in maps.values())
    # A bright corner is seen in that corner, at both levels.
    clip[:, :, :, :8, :8] = 1.0
    changed = activation_maps(net, name, clip)
    for level in LEVELS:
        change = np.abs(changed[level] - maps[level]).mean(0)
        half = change.shape[0] // 2
        assert change[:half, :half].mean() > change[half:, half:].mean()
    assert name in NETS and not any(module._forward_hooks for module in net.modules())


def test_a_map_stands_for_the_frames_that_its_moment_covers() -> None:
    net = make_net("physnet").eval()
    high = activation_maps(net, "physnet", torch.rand(1, 3, 16, 32, 32))["high"]
    assert (high[0] == high[3]).all() and (high[3] != high[4]).any()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fresh weights, small nets: they read nothing, but they are fed and shown like others."""
    folder = tmp_path_factory.mktemp("weights")
    for name, config in SMALL.items():
        torch.manual_seed(0)
        header = {"input": INPUT, "training_data": {"fps_to": 30.0}}
        save_weights(folder / f"{name}.safetensors", make_net(name, config), name=name, header=header)
    return {name: folder / f"{name}.safetensors" for name in SMALL}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn face, 6 s, that nods in the second half."""
    path = tmp_path_factory.mktemp("video") / "face.mp4"
    scene = SceneConfig(seed=5, duration_s=6.0, width=160, height=120, fps=12.0, face_px=80, head=HeadMotion(sway=0.2))
    write_scene(scene, path, crf=8)
    return path


@pytest.mark.slow
def test_activations_of_two_nets_over_a_video_become_a_page(
    video: Path, weights: dict[str, Path], tmp_path: Path
) -> None:
    names = [str(weights["physnet"]), str(weights["autohr"])]
    run = record_activations(video, names, tmp_path / "run", truth=find_truth(video, None, None))
    with np.load(run.results / "activations.npz") as arrays:
        for number in (0, 1):
            t_s = arrays[f"net{number}_t_s"]
            assert 10 <= len(t_s) <= 13 and (np.diff(t_s) > 0.4).all()
            assert arrays[f"net{number}_crops"].shape == (len(t_s), 32, 32, 3)
            assert len(arrays[f"net{number}_low"]) == len(arrays[f"net{number}_high"]) == len(t_s)
        assert len(arrays["motion"]) == len(arrays["motion_t_s"]) >= 70 and len(arrays["true_bvp"]) >= 70
    record = json.loads((run.results / "activations.json").read_text())["nets"]
    assert [net["title"] for net in record] == ["PhysNet", "AutoHR"] and all(
        net["likeness"] is not None for net in record
    )
    assert words_of(render_run_page(run.root)[0]).count("low level (after block 1)") == 2
    with pytest.raises(BadRecipe, match="weights"):
        record_activations(video, names[:1], tmp_path / "run")


@pytest.mark.slow
def test_a_moving_head_is_seen_to_move(tmp_path: Path) -> None:
    means = []
    for name, head in (("still", HeadMotion(0, 0, 0, 0, 0)), ("moving", HeadMotion(sway=3.0))):
        path = tmp_path / f"{name}.mp4"
        write_scene(SceneConfig(seed=5, duration_s=5.0, width=160, height=120, fps=12.0, face_px=80, head=head), path)
        t_s, speed = head_motion(path)
        assert len(t_s) == len(speed) and (speed >= 0).all()
        means.append(float(speed.mean()))
    assert means[1] > 2 * means[0]


def test_the_truth_of_a_video_is_that_of_its_recording(video: Path, tmp_path: Path) -> None:
    found = find_truth(video, None, None)
    assert found is not None and found.bvp is not None
    other = tmp_path / "other.mp4"
    other.write_bytes(b"")
    assert find_truth(other, None, None) is None
    with pytest.raises(BadRecording, match="no recording of synthetic"):
        find_truth(other, "synthetic", video.parent)
    with pytest.raises(UnknownName, match="Unknown dataset"):
        find_truth(video, "vipl", None)


def test_a_net_whose_layers_are_not_known_is_refused(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(WATCHED, "physnet")
    with pytest.raises(UnknownName, match="net with activations"):
        load_activations(weights["physnet"])
    with pytest.raises(ValueError, match="weights is empty"):
        record_activations(tmp_path / "x.mp4", [], tmp_path / "run")


# The command line ------------------------------------------------------------------------------------------------


def test_commands_print_tables_and_make_pages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runs: dict[str, Path], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for form, mark in (
        ("text", "AutoHR"),
        ("markdown", "| AutoHR |"),
        ("latex", r"\midrule"),
        ("html", "<td>AutoHR</td>"),
    ):
        code, out, _ = autohr(capsys, "table", "1", "--format", form)
        assert code == 0 and mark in out and "8.48" in out and "autohr table 1 --make" in out
    code, out, _ = autohr(capsys, "table", "1", "--runs", runs["evaluation"])
    assert code == 0 and "judged by protocol reference and not vipl-hr" in out.replace("\n  ", " ")
    again = shutil.copytree(runs["evaluation"], tmp_path / "again")
    rows = table_sheet(1, [runs["evaluation"], again], protocol="reference").rows
    named = [row[-1] for row in rows if row[-1].endswith((f"of {runs['evaluation']}", f"of {again}"))]
    assert named and len(set(named)) > 1, "rows of a method that two runs have name their run"
    code, out, _ = autohr(capsys, "report", runs["evaluation"], "--out", tmp_path / "page.html")
    assert code == 0 and "page.html" in out and (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("table", "4"), 2, "mcd-pure"),
        (("table", "1", "--runs", "x", "--make"), 2, "--make"),
        (("table", "1", "--runs", "none"), 1, "no run folder"),
        (("table", "1", "--make", "--method", "poss"), 1, "Did you mean 'pos'"),
        (("ablate", "los"), 2, "loss"),
        (("ablate", "loss", "--bar", "tim"), 1, "Did you mean 'time'"),
        (("ablate", "loss", "--recipe", "none.toml"), 1, "There is no recipe 'none.toml'"),
        (("report",), 2, "--activations VIDEO"),
        (("report", "none"), 1, "no run folder"),
        (("report", "--activations", "x.mp4"), 2, "--weights"),
        (("report", "--activations", "x.mp4", "--weights", "none.safetensors"), 1, "none.safetensors"),
    ],
)
def test_mistakes_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = autohr(capsys, *arguments)
    assert found == code and not out and "Traceback" not in err
    assert message.replace(" ", "") in re.sub(r"[\s│]+", "", err)
