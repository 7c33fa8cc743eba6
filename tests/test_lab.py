"""The paper's tables and ablations, end to end at miniature size, on made copies of VIPL-HR, MAHNOB-HCI, MMSE-HR."""

from __future__ import annotations

import dataclasses
import functools
import html
import json
from pathlib import Path

import numpy as np
import pytest

from autohr.errors import AutoHRError, BadRecipe, BadRecording, Stopped, UnknownName, WindowsTooShort
from autohr.files import write_json
from autohr.frontend import PAPER_CROP, CropConfig
from autohr.lab.datasets import DATASETS, cache, mahnob_hci, mmse_hr, vipl_hr
from autohr.lab.datasets.cache import open_cached
from autohr.lab.datasets.folds import subject_key
from autohr.lab.evaluate.protocols import MCD_CROP, PROTOCOLS
from autohr.lab.evaluate.published import OTHER_TABLES, PANELS, TABLES, PublishedRow
from autohr.lab.evaluate.results import read_results
from autohr.lab.evaluate.scoring import ORACLE, score
from autohr.lab.evaluate.stored import read_ablation
from autohr.lab.evaluate.tables import FORMATS, NOTHING, Sheet, figure, render_sheet
from autohr.lab.experiments import ablations, tables
from autohr.lab.experiments.ablations import ABLATIONS, Variant, ablate, ablation_sheet
from autohr.lab.experiments.folds import evaluate_net, has_ended, open_prepared
from autohr.lab.experiments.tables import (
    NET_TRAININGS,
    PROTOCOL_OF,
    evaluation_folder,
    make_table,
    table_sheet,
    why_not,
)
from autohr.lab.nets import make_net
from autohr.lab.nets._checkpoint import read_header
from autohr.lab.nets._genotype import GENOTYPES
from autohr.lab.reports.ablation import ablation_svg, render_ablation_page
from autohr.lab.reports.run import write_run_page
from autohr.lab.train.loop import Progress
from autohr.lab.train.recipe import read_recipe, run_config, train
from autohr.methods import METHODS
from made import FACE_OF_TREE, MiddleDetector
from made import run as autohr
from trees import mahnob_hci_tree, mmse_hr_tree, vipl_hr_tree
from trees_other import TREES

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPES = Path(__file__).parents[1] / "src" / "autohr" / "lab" / "recipes"
SMALL = (
    *("data.n_frames=64", "data.size_px=16", "fit.epochs=0.5", "fit.batch_size=2", "fit.val_windows=1"),
    *("fit.workers=0", "fit.lr=1e-3"),
)
"""Two steps of two clips; everything else is the recipe's."""
FACE_OF_TAKE = (0.22, 0.125, 0.56, 0.75)
"""Place of the face in the pictures of trees_other.py, as shares of their width and height."""
EVERYBODY = str([f"vipl_hr/p{number}" for number in range(1, 6)])
TINY = (*SMALL, "net_config.preset=tiny")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of five people of VIPL-HR, one in each official fold, and two of MMSE-HR."""
    root = tmp_path_factory.mktemp("lab")
    vipl_hr_tree(root / "vipl", 5, fps=12.0, duration_s=11.0)
    mmse_hr_tree(root / "mmse", 2, duration_s=10.5)
    for spec, folder in ((vipl_hr.SPEC, "vipl"), (mmse_hr.SPEC, "mmse")):
        recordings = spec.list_recordings(root / folder).recordings
        manifest = cache.prepare(
            recordings, root / "cache", PAPER_CROP, workers=1, detector=MiddleDetector(FACE_OF_TREE)
        )
        assert not manifest.excluded, manifest.excluded
    return root / "cache"


# What the paper printed ------------------------------------------------------------------------------------------


def test_published_rows_have_the_printed_columns_and_no_others() -> None:
    for table in TABLES.values():
        for row in table.rows:
            for column in ("sd_bpm", "mae_bpm", "rmse_bpm", "pearson_r"):
                if column not in table.columns:
                    assert getattr(row, column) is None, (table.roman, row.title, column)
            assert any(getattr(row, column) is not None for column in table.columns)
        assert [row.method for row in table.rows].count("autohr") == 1


def test_a_row_that_cannot_be_is_marked() -> None:
    rows = {(table.roman, row.title): row for table in TABLES.values() for row in table.rows}
    assert {key for key, row in rows.items() if row.contradicts_itself} == {("III", "Tulyakov2016")}
    assert PublishedRow("x", "X", "learned", 9.0, None, 8.0, None).contradicts_itself


def test_the_figure_agrees_with_what_the_text_says_of_it() -> None:
    loss, theta, nas, augmentation = (PANELS[name] for name in ("loss", "theta", "nas", "augmentation"))
    assert loss.bar("time").rmse_bpm - loss.bar("frequency").rmse_bpm == pytest.approx(4.3)
    assert loss.bar("overall").rmse_bpm == theta.bar("0.0").rmse_bpm == nas.bar("none").rmse_bpm
    assert nas.bar("shared_tdc").rmse_bpm == augmentation.bar("none").rmse_bpm
    assert augmentation.bar("da1").rmse_bpm - augmentation.bar("none").rmse_bpm == pytest.approx(0.5, abs=0.05)
    gain = 1 - augmentation.bar("both").rmse_bpm / augmentation.bar("none").rmse_bpm
    assert gain == pytest.approx(0.05, abs=0.005)


# Tables as text --------------------------------------------------------------------------------------------------

SHEET = Sheet(
    "A & B", ("method", "MAE"), (("x|y_1", "1.00"), ("<z>", NOTHING)), frozenset({0}), ("Half of 100 %, a note.",)
)


def test_every_format_holds_every_cell() -> None:
    shown = {form: render_sheet(SHEET, form) for form in FORMATS}
    assert all("1.00" in text for text in shown.values())
    assert r"x\|y_1" in shown["markdown"] and "|---:|" in shown["markdown"].replace(" ", "")
    assert r"x|y\_1" in shown["latex"] and r"A \& B" in shown["latex"] and r"100 \%" in shown["latex"]
    assert "&lt;z&gt;" in shown["html"] and "<z>" not in shown["html"]
    widths = {len(line) for line in shown["text"].splitlines() if line.startswith("-")}
    assert len(widths) == 1 and shown["text"].splitlines()[3 + 1].startswith("x|y_1")
    with pytest.raises(UnknownName, match="markdown"):
        render_sheet(SHEET, "word")


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells"):
        Sheet("t", ("a", "b"), (("c",),), frozenset())
    assert figure(None) == figure(float("nan")) == NOTHING and figure(8.404) == "8.40"


# The tables of the paper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", TABLES)
def test_without_results_every_row_says_why(number: int) -> None:
    sheet = table_sheet(number, [])
    assert len(sheet.rows) == len(TABLES[number].rows)
    for row, published in zip(sheet.rows, TABLES[number].rows, strict=True):
        assert published.title in row[0] and row[-1]
        reason = "does not have it" if published.method not in METHODS else f"autohr table {number} --make"
        assert reason in row[-1] or why_not(number, published.method) in row[-1:]
    assert any(TABLES[number].source in note for note in sheet.notes)


@pytest.mark.parametrize("number", TABLES)
def test_the_tables_protocol_is_for_its_dataset(number: int) -> None:
    protocol = PROTOCOLS[PROTOCOL_OF[number]]
    assert protocol.datasets == (TABLES[number].tested_on,) and protocol.preset == "paper"
    for name, way in NET_TRAININGS[number].items():
        recipe = read_recipe(RECIPES / way.recipe, way.overrides)
        assert recipe.net == name and recipe.data.datasets == (TABLES[number].trained_on,)
        assert recipe.crop == protocol.crop
        make_net(recipe.net, recipe.net_config)


@pytest.mark.slow
def test_table_1_from_prepared_recordings_to_rows(prepared: Path, tmp_path: Path) -> None:
    """Formulas and a net of five folds; each fold's net is tested on the person that it never saw."""
    lines: list[str] = []
    why = make_table(1, tmp_path, cache=prepared, recipes=RECIPES, only=["pos", "chrom", "green"], say=lines.append)
    why |= make_table(
        1, tmp_path, cache=prepared, recipes=RECIPES, only=["autohr"], overrides=TINY, progress=None, say=lines.append
    )
    assert why == {} and any("fold 5 of 5" in line for line in lines)
    results = {one.method.name: one for one in read_results(tmp_path / "evaluation")}
    assert set(results) == {"pos", "chrom", "green", "autohr"}
    for one in results.values():
        assert {window.fold for window in one.windows} == {1, 2, 3, 4, 5}
    for fold in range(1, 6):
        data = json.loads((tmp_path / "autohr" / f"fold_{fold}" / "results" / "data.json").read_text())
        tested = {window.recording_id for window in results["autohr"].windows if window.fold == fold}
        assert tested == set(data["val"]) and not tested & set(data["train"]) and len(data["train"]) == 4
        weights = {window.weights for window in results["autohr"].windows if window.fold == fold}
        assert weights == {str(tmp_path / "autohr" / f"fold_{fold}" / "checkpoints" / "last.safetensors")}

    sheet = table_sheet(1, [tmp_path / "evaluation"])
    rows = {row[0]: row for row in sheet.rows}
    assert rows["POS"][2:6] == ("15.3", "11.5", "17.2", "0.30")
    mae = score(results["pos"], "paper").overall.mae_bpm
    assert mae is not None and rows["POS"][7] == figure(mae)
    finer = {row[0]: row for row in table_sheet(1, [tmp_path / "evaluation"], preset="reference").rows}
    assert float(finer["POS"][7]) < 1.0 and float(finer["POS"][8]) < 1.0
    assert rows["AutoHR"][8] != NOTHING and "5 of 5" in rows["AutoHR"] and "nets of 5 fold(s)" in rows["AutoHR"][-1]
    assert rows["GREEN"][2] == NOTHING and rows["GREEN"][7] != NOTHING
    assert "not in these runs" in rows["I3D"][-1] and "not in these runs" in rows["PhysNet"][-1]
    assert any("5 of the 2378 recordings" in note for note in sheet.notes)
    (oracle,) = sheet.foot
    assert oracle[0] == ORACLE.title and "5 of 5" in oracle and float(oracle[8]) < 1.0, "the rule reads the truth right"
    assert "reads them all right" in " ".join(sheet.notes)
    with pytest.raises(WindowsTooShort, match="20 s"):
        table_sheet(1, [tmp_path / "evaluation"], preset="physformer")
    for form in FORMATS:
        assert figure(mae) in render_sheet(sheet, form)

    page = write_run_page(tmp_path / "evaluation").read_text()
    assert "AutoHR" in page and "POS" in page and "By fold" in page

    other = table_sheet(2, [tmp_path / "evaluation"])
    assert all(row[-1] for row in other.rows) and any("judged by protocol vipl-hr" in note for note in other.notes)


@pytest.mark.slow
def test_table_2_from_a_copy_of_mahnob_to_rows(tmp_path: Path) -> None:
    known = mahnob_hci_tree(tmp_path / "mahnob", 5, fps=12.0, duration_s=16.0)
    recordings = mahnob_hci.SPEC.list_recordings(tmp_path / "mahnob").recordings
    manifest = cache.prepare(
        recordings, tmp_path / "cache", PAPER_CROP, workers=1, detector=MiddleDetector(FACE_OF_TREE)
    )
    assert not manifest.excluded, manifest.excluded
    make = functools.partial(make_table, 2, tmp_path / "out", cache=tmp_path / "cache", recipes=RECIPES)
    assert make(only=["ica", "chrom"]) == {}
    assert make(only=["autohr"], overrides=TINY, progress=None) == {}
    results = {one.method.name: one for one in read_results(tmp_path / "out" / "evaluation")}
    for one in results.values():
        assert {window.recording_id for window in one.windows} == set(known)
        assert {window.fold for window in one.windows} == {1, 2, 3, 4, 5}
    rows = {row[0]: row for row in table_sheet(2, [tmp_path / "out" / "evaluation"]).rows}
    assert rows["AutoHR"][2:6] == ("4.73", "3.78", "5.10", "0.86")
    assert all("5 of 5" in rows[title] for title in ("Poh2011", "CHROM", "AutoHR"))
    finer = score(results["chrom"], "reference").overall.mae_bpm
    assert finer is not None and finer < 3


@pytest.mark.slow
def test_table_3_trains_on_one_dataset_and_tests_on_another(prepared: Path, tmp_path: Path) -> None:
    make_table(3, tmp_path, cache=prepared, recipes=RECIPES, only=["chrom"])
    make_table(3, tmp_path, cache=prepared, recipes=RECIPES, only=["physnet"], overrides=SMALL, progress=None)
    make_table(3, tmp_path, cache=prepared, recipes=RECIPES, only=["autohr"], overrides=TINY, progress=None)
    results = {one.method.name: one for one in read_results(tmp_path / "evaluation")}
    assert {window.dataset for one in results.values() for window in one.windows} == {"mmse_hr"}
    header = read_header(tmp_path / "physnet" / "all" / "checkpoints" / "last.safetensors")
    assert header["training_data"]["datasets"] == ["vipl_hr"] and header["training_data"]["n_subjects"] == 4
    assert header["provenance"]["recipe"]["loss"]["frequency_weight"] == 0.0
    rows = {row[0]: row for row in table_sheet(3, [tmp_path / "evaluation"]).rows}
    assert all(rows[title][6] != NOTHING for title in ("PhysNet", "CHROM", "AutoHR"))


@pytest.mark.slow
def test_tables_of_mcd_train_once_for_all_other_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folds of MCD-rPPG; then one net, trained on all of it, is tested on UBFC-rPPG and on PURE."""
    monkeypatch.setattr("autohr.lab.train.recipe.export_beside", lambda weights: None)
    for dataset in ("mcd_rppg", "ubfc_rppg_2", "pure"):
        TREES[dataset](tmp_path / dataset)
        recordings = DATASETS[dataset].list_recordings(tmp_path / dataset).recordings
        face = MiddleDetector(FACE_OF_TAKE)
        manifest = cache.prepare(recordings, tmp_path / "cache", MCD_CROP, workers=1, detector=face)
        assert not manifest.excluded, manifest.excluded
    out = tmp_path / "out"
    make = functools.partial(make_table, out=out, cache=tmp_path / "cache", recipes=RECIPES, progress=None)
    small = [
        *SMALL,
        "net_config.preset=tiny",
        "fit.steps=1",
        "fit.warmup_steps=0",
        "data.n_frames=100",
        "fit.precision=fp32",
    ]
    small.remove("fit.epochs=0.5")
    assert make("mcd", only=["pos", "autohr"], overrides=small) == {}
    of_mcd = {one.method.name: one for one in read_results(evaluation_folder(out, "mcd"))}
    for fold, subject in ((1, "1020"), (2, "1021")):
        data = json.loads((out / "autohr" / f"fold_{fold}" / "results" / "data.json").read_text())
        assert [one.split("/")[1] for one in data["val"]] == [subject] and len(data["train"]) == 1
        assert {w.subject for w in of_mcd["autohr"].windows if w.fold == fold} == {subject}
    rows = {row[0]: row for row in table_sheet("mcd", [evaluation_folder(out, "mcd")]).rows}
    assert rows["POS"][2] == "3.80" and float(rows["POS"][4]) < 1.0 and "2 of 2" in rows["AutoHR"]

    for name in ("mcd-ubfc", "mcd-pure"):
        trained: list[object] = []
        assert make(name, only=["autohr"], overrides=small, say=trained.append) == {}
        (made,) = read_results(evaluation_folder(out, name))
        assert {window.dataset for window in made.windows} == {OTHER_TABLES[name].tested_on}
        row = next(row for row in table_sheet(name, [evaluation_folder(out, name)]).rows if row[0] == "AutoHR")
        assert row[3] != NOTHING
    weights = out / "autohr" / "all" / "checkpoints" / "last.safetensors"
    assert read_header(weights)["licence"] == "CC-BY-4.0" and {window.weights for window in made.windows} == {
        str(weights)
    }


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_other_tables_have_one_protocol_and_one_crop(name: str) -> None:
    table, protocol = OTHER_TABLES[name], PROTOCOLS[PROTOCOL_OF[name]]
    assert protocol.datasets == (table.tested_on,) and protocol.crop == MCD_CROP
    for net, way in NET_TRAININGS[name].items():
        recipe = read_recipe(RECIPES / way.recipe, way.overrides)
        assert recipe.net == net and recipe.data.datasets == (table.trained_on,) and recipe.crop == protocol.crop
        make_net(recipe.net, recipe.net_config)
    sheet = table_sheet(name, [])
    assert sheet.title == table.title and all(len(row) == len(sheet.columns) for row in sheet.rows)
    assert all(row[-1] for row in sheet.rows) and any(table.source in note for note in sheet.notes)


def test_datasets_that_are_not_prepared_are_a_reason_with_the_command(prepared: Path, tmp_path: Path) -> None:
    why = make_table(2, tmp_path, cache=prepared, recipes=RECIPES, overrides=TINY, progress=None)
    assert set(why) == {row.method for row in TABLES[2].rows}
    for name in ("ica", "chrom", "autohr"):
        assert "autohr prepare mahnob_hci FOLDER" in why[name] and "--box first --margin 0.25" in why[name]
    rows = {row[0]: row for row in table_sheet(2, [], why=why).rows}
    assert all("autohr prepare mahnob_hci" in row[-1] for row in rows.values())
    with pytest.raises(UnknownName, match="Unknown method 'possum'"):
        make_table(1, tmp_path, cache=prepared, only=["possum"])
    with pytest.raises(UnknownName, match="Unknown table"):
        table_sheet(4, [])


def test_a_row_that_fails_does_not_end_the_others(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_short(*_: object, **__: object) -> object:
        raise BadRecipe("n_frames=40 is too short to validate.")

    def stopped(*_: object, **__: object) -> object:
        raise Stopped("Stopped by SIGTERM after step 3.")

    monkeypatch.setattr(tables, "evaluate_net", too_short)
    words = ["table", "1", "--make", "--cache", prepared, "--out", tmp_path, "--method", "physnet", "--method", "pos"]
    code, out, err = autohr(capsys, *words)
    rows = {line.split()[0]: line for line in out.splitlines() if line[:1].isalpha()}
    assert code == 1 and "1 row failed: physnet: n_frames=40 is too short" in err
    assert "n_frames=40 is too short" in rows["PhysNet"] and "5 of 5" in rows["POS"]

    monkeypatch.setattr(tables, "evaluate_net", stopped)
    with pytest.raises(Stopped):
        make_table(1, tmp_path, cache=prepared, only=["physnet", "pos"])


def test_a_bar_that_fails_does_not_end_the_others(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(1, tmp_path, cache=prepared, only=["pos"])
    (results,) = read_results(tmp_path / "evaluation")

    def judge(*_: object, label: str, **__: object) -> object:
        if label == "loss-time":
            raise BadRecipe("too short")
        return results

    monkeypatch.setattr(ablations, "evaluate_net", judge)
    bars = {bar.key: bar for bar in ablate("loss", tmp_path, preset="paper").bars}
    assert bars["time"].why_not == "too short" and bars["time"].rmse_bpm is None
    assert bars["frequency"].rmse_bpm is not None and bars["overall"].rmse_bpm is not None
    with pytest.raises(BadRecipe, match="too short"):
        ablate("loss", tmp_path, only=["time"])


# Folds -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stopped_fold_goes_on_and_ends_as_if_it_had_not_been_stopped(prepared: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    overrides = [*TINY, f"data.cache='{prepared}'", "fit.checkpoint_every=1"]

    def judge(root: Path, progress: object = None) -> bytes:
        evaluate_net(
            RECIPES / "autohr_paper.toml",
            overrides,
            PROTOCOLS["vipl-hr"],
            root / "autohr",
            root / "evaluation",
            label="autohr",
            folds=[1, 2],
            progress=progress,  # type: ignore[arg-type]
        )
        files = sorted((root / "evaluation" / "results" / "autohr").glob("vipl*.npy"))
        return b"".join(file.read_bytes() for file in files)

    def stop_in_fold_2(progress: Progress) -> None:
        if (tmp_path / "b" / "autohr" / "fold_2").exists() and progress.step == 1:
            raise Killed

    whole = judge(tmp_path / "a")
    with pytest.raises(Killed):
        judge(tmp_path / "b", stop_in_fold_2)
    first = (tmp_path / "b" / "autohr" / "fold_1" / "checkpoints" / "last.safetensors").stat().st_mtime_ns
    assert judge(tmp_path / "b") == whole and len(whole) > 1000
    again = (tmp_path / "b" / "autohr" / "fold_1" / "checkpoints" / "last.safetensors").stat().st_mtime_ns
    assert again == first, "a fold that has ended is not trained again"
    pending = [a for one in read_results(tmp_path / "b" / "evaluation") for a in one.accounts if a.state == "pending"]
    assert len(pending) == 3
    with pytest.raises(BadRecipe, match=r"fit\.lr"):
        overrides.append("fit.lr=2e-3")
        judge(tmp_path / "b")


def test_named_subjects_that_cannot_be_are_refused(prepared: Path, tmp_path: Path) -> None:
    for subjects, message in (("['vipl_hr/p9']", "no recording is of 'vipl_hr/p9'"), (EVERYBODY, "nobody is left")):
        with pytest.raises(BadRecipe, match=message):
            overrides = [*TINY, f"data.cache='{prepared}'", f"data.val_subjects={subjects}"]
            train(RECIPES / "autohr_paper.toml", overrides, out=tmp_path / "run")
    recipe = read_recipe(RECIPES / "autohr_paper.toml")
    assert "val_subjects" not in run_config(recipe)["recipe"]["data"]


def test_folds_that_cannot_be_are_refused(prepared: Path, tmp_path: Path) -> None:
    def judge(protocol: str, *more: str, folds: list[int] | None = None) -> None:
        evaluate_net(
            RECIPES / "autohr_paper.toml",
            [*TINY, f"data.cache='{prepared}'", *more],
            PROTOCOLS[protocol],
            tmp_path / "nets",
            tmp_path / "evaluation",
            label="autohr",
            folds=folds,
            progress=None,
        )

    with pytest.raises(BadRecipe, match=r"Folds \[7\] are not all"):
        judge("vipl-hr", folds=[7])
    with pytest.raises(BadRecipe, match="trains on vipl_hr"):
        judge("vipl-hr", "data.datasets=['mmse_hr']")
    with pytest.raises(BadRecipe, match="has no folds"):
        judge("reference")
    with pytest.raises(BadRecording, match="VIPL-HR is not prepared.*--size-px 64"):
        open_prepared(prepared, ["vipl_hr"], CropConfig(size_px=64))
    assert not (tmp_path / "nets").exists()


# Ablations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_has_the_papers_bars_and_recipes_that_parse(name: str) -> None:
    ablation = ABLATIONS[name]
    of_paper = [variant.key for variant in ablation.variants if not variant.label]
    assert of_paper == [bar.key for bar in PANELS[name].bars]
    assert [variant.key for variant in ablation.variants if variant.label] == (["snr"] if name == "loss" else [])
    recipes = [
        read_recipe(RECIPES / ablation.recipe, variant.overrides)
        for variant in ablation.variants
        if variant.why_not is None
    ]
    for recipe in recipes:
        make_net(recipe.net, recipe.net_config)
    plain = [dataclasses.replace(recipe, loss=recipes[0].loss, augment=recipes[0].augment) for recipe in recipes]
    if name in ("loss", "augmentation"):
        assert all(one == plain[0] for one in plain), "bars differ in nothing else"
        assert len({(recipe.loss, recipe.augment) for recipe in recipes}) == len(recipes)


def test_bars_are_what_the_paper_says() -> None:
    def recipe(name: str, key: str) -> object:
        variant = next(variant for variant in ABLATIONS[name].variants if variant.key == key)
        return read_recipe(RECIPES / ABLATIONS[name].recipe, variant.overrides)

    time, frequency, overall = (recipe("loss", key) for key in ("time", "frequency", "overall"))
    weights = [(one.loss.time_weight, one.loss.frequency_weight) for one in (time, frequency, overall)]  # type: ignore[attr-defined]
    assert weights == [(1, 0), (0, 1), (0.2, 1)]
    thetas = [recipe("theta", bar.key).net_config["theta"] for bar in PANELS["theta"].bars]  # type: ignore[attr-defined]
    assert thetas == pytest.approx(np.arange(11) / 10)
    shown = {key: recipe("augmentation", key).augment for key in ("none", "da1", "da2", "both")}  # type: ignore[attr-defined]
    assert {key: (one.erase, one.tempo) for key, one in shown.items()} == {
        "none": (False, False),
        "da1": (True, False),
        "da2": (False, True),
        "both": (True, True),
    }


@pytest.mark.slow
def test_ablate_runs_its_bars_on_fold_1_and_draws_them(prepared: Path, tmp_path: Path) -> None:
    overrides = [*SMALL, f"data.cache='{prepared}'"]
    result = ablate("theta", tmp_path, recipes=RECIPES, overrides=overrides, only=["0.0", "0.2"], progress=None)
    made = {bar.key: bar for bar in result.bars if bar.rmse_bpm is not None}
    assert set(made) == {"0.0", "0.2"} and all((bar.n_scored, bar.n) == (1, 1) for bar in made.values())
    assert all(bar.why_not == "not asked for" for bar in result.bars if bar.key not in made)
    for key, theta in (("0.0", 0.0), ("0.2", 0.2)):
        header = read_header(tmp_path / key / "fold_1" / "checkpoints" / "last.safetensors")
        assert header["config"]["theta"] == theta
    windows = [window for one in read_results(tmp_path / "evaluation") for window in one.windows]
    assert {window.fold for window in windows} == {1} and {window.subject for window in windows} == {"p1"}
    people = {subject_key(one) for one in open_cached(prepared, PAPER_CROP, datasets=["vipl_hr"])}
    assert len(people) == 5

    assert read_ablation(tmp_path) == result
    sheet = ablation_sheet(result)
    assert [row[1] for row in sheet.rows][:3] == ["9.90 *", "9.63 *", "9.07"]
    assert result.oracle is not None and result.oracle.rmse_bpm is not None and result.oracle.rmse_bpm < 1.0
    assert [row[0] for row in sheet.foot] == [ORACLE.title] and sheet.foot[0][4] == "1 of 1"
    assert any("reads them all right" in note for note in sheet.notes)
    svg = ablation_svg(tmp_path)
    assert svg.startswith("<svg xmlns=") and svg.rstrip().endswith("</svg>") and "not run" in svg
    page = render_ablation_page(tmp_path)
    assert ORACLE.title in html.unescape(page)
    assert "2 of 11 bars were run here" in page and write_run_page(tmp_path) == tmp_path / "report.html"

    again = ablate("theta", tmp_path, recipes=RECIPES, overrides=overrides, only=["0.0", "0.2"], progress=None)
    assert again == result


@pytest.mark.slow
def test_the_augmentation_panel_trains_autohr_with_and_without(prepared: Path, tmp_path: Path) -> None:
    changes = [f"data.cache={prepared.as_posix()!r}", *TINY]
    result = ablate("augmentation", tmp_path, recipes=RECIPES, overrides=changes, only=["none", "both"], progress=None)
    bars = {bar.key: bar for bar in result.bars}
    assert bars["none"].rmse_bpm is not None and bars["both"].rmse_bpm is not None
    assert (bars["none"].published_bpm, bars["both"].published_bpm) == (8.59, 8.16)
    recipes = [
        json.loads(path.read_text())["recipe"]["augment"] for path in sorted(tmp_path.rglob("fold_1/config.json"))
    ]
    assert sorted((one["erase"], one["tempo"]) for one in recipes) == [(False, False), (True, True)]


def test_a_bar_that_needs_a_search_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a genotype of that name is there; then the bar runs."""
    seen: list[str] = []

    def pretend(recipe_path: Path, overrides: list[str], *_: object, label: str, **__: object) -> object:
        seen.append(label)
        raise KeyboardInterrupt

    monkeypatch.setattr(ablations, "evaluate_net", pretend)
    with pytest.raises(KeyboardInterrupt):
        ablate("nas", tmp_path, recipes=RECIPES)
    assert seen == ["nas-none"]
    waiting = [variant for variant in ABLATIONS["nas"].variants if variant.why_not is not None]
    assert all("no search" in str(variant.why_not) for variant in waiting)
    found = Variant("shared_tdc", genotype="searched_shared_tdc")
    monkeypatch.setitem(GENOTYPES, "searched_shared_tdc", GENOTYPES["fig5_plausible_v1"])
    assert found.why_not is None


def test_errors_of_an_ablation_name_the_mistake(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown ablation 'los'"):
        ablate("los", tmp_path)
    with pytest.raises(UnknownName, match=r"Unknown bar of loss 'tim'.*Did you mean 'time'"):
        ablate("loss", tmp_path, only=["tim"])
    with pytest.raises(WindowsTooShort, match=r"needs windows of 20 s.*vipl-hr-fold1 has 10 s"):
        ablate("loss", tmp_path, preset="physformer")
    with pytest.raises(AutoHRError, match=r"no .*ablation\.json"):
        read_ablation(tmp_path)
    earlier = {
        "name": "nas", "panel": "c", "title": "t", "source": "s", "note": "n", "protocol": "p", "preset": "paper",
    }  # fmt: skip
    (tmp_path / "ablation.json").write_text(json.dumps(earlier | {"bars": []}))
    assert read_ablation(tmp_path).oracle is None, "versions before the oracle"
    (tmp_path / "ablation.json").write_text('{"bars": []}')
    with pytest.raises(AutoHRError, match="damaged"):
        read_ablation(tmp_path)
    with pytest.raises(AutoHRError, match="damaged"):
        render_ablation_page(tmp_path)


@pytest.mark.slow
def test_the_commands_do_the_same(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [part for change in (*SMALL, f"data.cache='{prepared}'") for part in ("--set", change)]
    out = tmp_path / "loss"
    _, output, _ = autohr(capsys, "ablate", "loss", "--recipes", RECIPES, "--bar", "frequency", *changes, "--out", out)
    bar = next(line for line in output.splitlines() if line.startswith("L_fre"))
    assert "10.50 *" in bar and "1 of 1" in bar
    assert (out / "ablation.svg").stat().st_size > 2000 and "1 of 4 bars" in (out / "ablation.html").read_text()

    table = ["table", "1", "--cache", prepared, "--recipes", RECIPES, "--out", tmp_path / "table"]
    _, made, _ = autohr(capsys, *table, "--make", "--method", "pos")
    row = next(line for line in made.splitlines() if line.startswith("POS"))
    assert "17.2" in row and "5 of 5" in row
    assert row in autohr(capsys, *table)[1].splitlines(), "printed again from the files alone"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_scheduler_makes_the_rows_and_bars_of_one_process(
    cluster: tuple[str, str], prepared: Path, tmp_path: Path
) -> None:
    """A formula's row is tested, and a bar's net is trained and tested, on its workers, to the same waves."""
    changes = [*SMALL, f"data.cache={str(prepared)!r}"]
    for name, address in (("alone", None), ("many", cluster[0])):
        out = tmp_path / name
        assert make_table(1, out / "table", cache=prepared, only=["pos"], cluster=address) == {}
        own = {"recipes": RECIPES, "overrides": changes, "only": ["frequency"], "progress": None}
        result = ablate("loss", out / "loss", cluster=address, **own)  # type: ignore[arg-type]
        assert [bar.n_scored for bar in result.bars if bar.key == "frequency"] == [1]
    for part in ("table/evaluation", "loss/evaluation"):
        for one, other in zip(*(read_results(tmp_path / name / part) for name in ("alone", "many")), strict=True):
            assert one.method.label == other.method.label and one.windows
            for mine, theirs in zip(one.windows, other.windows, strict=True):
                assert (mine.recording_id, mine.fold, mine.hr_bpm) == (theirs.recording_id, theirs.fold, theirs.hr_bpm)
                assert mine.bvp is not None and np.array_equal(mine.bvp, theirs.bvp)


@pytest.mark.slow
def test_any_recipe_is_trained_by_folds_and_without_one_dataset(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autohr.lab.train.recipe.export_beside", lambda weights: None)
    changes = [part for change in (*TINY, f"data.cache='{prepared}'") for part in ("--set", change)]
    own = ("train", RECIPES / "autohr_paper.toml", *changes)
    code, out, _ = autohr(capsys, *own, "--folds", 2, "--out", tmp_path / "folds")
    assert code == 0 and "autohr by fold" in out and "reference-2-folds" in out
    both = ("--set", "data.datasets=['vipl_hr', 'mmse_hr']", "--leave-out", "dataset", "--out", tmp_path / "sites")
    # Long enough for a rate at the 25 frames per second of the second dataset.
    code, out, err = autohr(capsys, *own, *both, "--set", "data.n_frames=128")
    assert code == 0 and "autohr by dataset" in out and "\nmmse_hr" in out and "\nvipl_hr" in out, err
    for name, n in (("folds", 2), ("sites", 2)):
        (results,) = read_results(tmp_path / name / "evaluation")
        tested: dict[int | None, set[str]] = {}
        for window in results.windows:
            tested.setdefault(window.fold, set()).add(f"{window.dataset}/{window.subject}")
        assert len(tested) == n and not set.intersection(*tested.values())
        for fold, subjects in tested.items():
            data = json.loads((tmp_path / name / f"fold_{fold}" / "results" / "data.json").read_text())
            learned = {"/".join(one.split("/")[:2]) for one in data["train"]}
            assert learned and not learned & subjects
    assert autohr(capsys, *own, "--folds", 2, "--leave-out", "dataset")[0] == 2
    assert autohr(capsys, *own, "--workers", 2)[0] == 2
    code, _, err = autohr(capsys, *own, "--leave-out", "site", "--out", tmp_path / "x")
    assert code == 1 and "no group 'site'" in err and err.count("\n") == 1


def test_a_training_that_was_stopped_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert not has_ended(tmp_path)
    (tmp_path / "checkpoints" / "last.safetensors").write_bytes(b"")
    write_json(tmp_path / "results" / "fit.json", {"step": 19, "n_steps": 150})
    assert not has_ended(tmp_path)
    write_json(tmp_path / "results" / "fit.json", {"step": 150, "n_steps": 150})
    assert has_ended(tmp_path)
