"""All methods in one table: trained, tested on other people, and what they cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from autohr.errors import BadRecipe, UnknownName
from autohr.files import read_json
from autohr.frontend import CropConfig
from autohr.lab.datasets import DATASETS, cache
from autohr.lab.evaluate.tables import render_sheet
from autohr.lab.experiments.costs import Cost
from autohr.lab.experiments.standings import COSTS, SHIPPED, Entrant, compare_methods, standing_sheets, training_sheet
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.methods import shipped_weights
from made import run as autohr

SCENE = SceneConfig(
    seed=11,
    duration_s=11.0,
    width=120,
    height=96,
    fps=26.0,
    face_px=70,
    hr_bpm=84.0,
    pulse_depth=0.03,
    head=HeadMotion(sway=0.2),
    light_drift=0.0,
)
TINY = ("fit.steps=1", "fit.batch_size=1", "fit.val_windows=1", "data.n_frames=100", "data.size_px=16")


def write_people(root: Path, names: tuple[str, ...]) -> Path:
    for seed, name in enumerate(names):
        (root / name).mkdir(parents=True)
        # The second moves more than the first.
        scene = dataclasses.replace(SCENE, seed=seed + len(name), head=HeadMotion(sway=0.2 + 0.8 * seed))
        write_scene(scene, root / name / "one.mp4", crf=6)
    return root


@pytest.mark.slow
def test_methods_are_trained_tested_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn = write_people(tmp_path / "learn", ("anna", "berta"))
    test = write_people(tmp_path / "test", ("carl", "dirk"))
    recordings = DATASETS["synthetic"].list_recordings(learn).recordings
    cache.prepare(recordings, tmp_path / "cache", CropConfig(size_px=80), workers=1)
    out = tmp_path / "out"

    standings, strata, trainings = compare_methods(
        test, out, train_cache=tmp_path / "cache", overrides=TINY, only=("pos", "physnet"), workers=1, progress=None
    )
    # The one trained here, and the one with shipped weights, which is smaller.
    assert [row[0] for row in standings.rows] == ["pos", "physnet", "physnet-shipped"]
    pos, physnet, shipped = (Cost(**one) for one in read_json(out / COSTS))
    assert shipped.parameters is not None and shipped.parameters < 768_577
    assert (pos.parameters, pos.gflop) == (None, None)
    assert physnet.parameters == 768_577
    # 3.5 GFLOP for a second of 64x64 (70 for 160 frames of 128x128), a sixteenth of it at 16.
    assert physnet.gflop is not None and 0.1 < physnet.gflop < 0.5
    assert 0 < pos.ms < physnet.ms
    assert any(row[0] == "motion: strong" for row in strata.rows)
    assert [row[0] for row in trainings.rows] == ["physnet"]
    page = (out / "results" / "standings.md").read_text()
    assert all(word in page for word in ("| pos |", "| physnet |", "768,577", "motion: still", "1 x 1"))

    # Everything is there: nothing is trained, tested or timed again.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    argv = ["compare-methods", str(test), "--out", str(out), "--train-cache", str(tmp_path / "cache")]
    argv += [part for one in TINY for part in ("--set", one)]
    code, printed, _ = autohr(capsys, *argv, "--method", "pos", "--method", "physnet")
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert "physnet" in printed

    # Who was trained on must not be tested on.
    with pytest.raises(BadRecipe, match="2 people of the test were in the training of physnet"):
        compare_methods(
            learn, out, train_cache=tmp_path / "cache", overrides=TINY, only=("physnet",), workers=1, progress=None
        )


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="posh"):
        compare_methods(tmp_path, tmp_path / "out", train_cache=tmp_path, only=("posh",))
    root = write_people(tmp_path / "test", ("dora",))
    with pytest.raises(BadRecipe, match="no recipe '.*equal_physnet.toml'"):
        compare_methods(root, tmp_path / "out", train_cache=tmp_path, recipes=tmp_path, only=("physnet",))


def test_a_table_needs_a_cost_for_each_method() -> None:
    with pytest.raises(ValueError, match="one cost for each"):
        standing_sheets((), ())


def test_the_table_of_trainings_is_made_from_their_files(tmp_path: Path) -> None:
    run = tmp_path / "physnet"
    (run / "results").mkdir(parents=True)
    recipe = {
        "title": "A title",
        "net_config": {},
        "fit": {"batch_size": 4, "lr": 0.001},
        "data": {"n_frames": 160, "size_px": 64},
    }
    (run / "config.json").write_text(json.dumps({"recipe": recipe}))
    (run / "results" / "fit.json").write_text(json.dumps({"step": 7, "best": {"mae_bpm": 3.0, "chance_mae_bpm": 30.0}}))
    (run / "results" / "data.json").write_text(json.dumps({"train": ["a/b/c"], "val": []}))
    words = render_sheet(
        training_sheet([Entrant("physnet", "physnet", None, run), Entrant("pos", "pos", None, None)]), "text"
    )
    assert all(word in words for word in ("7 x 4", "160 x 64", "1 + 0", "3.00", "30.00", "A title"))


def test_shipped_weights_have_their_own_row() -> None:
    assert SHIPPED.format(net="autohr") == "autohr-shipped"
    assert "autohr" in shipped_weights()
