"""Was it the search? The experiment in small, and what may be concluded from it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autohr.errors import AutoHRError, BadRecipe, UnknownName
from autohr.files import write_json
from autohr.frontend import PAPER_CROP
from autohr.lab.datasets import cache, vipl_hr
from autohr.lab.evaluate.published import PANELS
from autohr.lab.evaluate.stored import AblationResult, CellResult, ComparisonResult, Training, read_comparison
from autohr.lab.evaluate.tables import render_sheet
from autohr.lab.experiments import ablations
from autohr.lab.experiments.ablations import ABLATIONS, ablate
from autohr.lab.experiments.searches import (
    compare_genotypes,
    compare_groups,
    comparison_sheet,
    cost,
    draw_cells,
    find_cell,
    group_cells,
)
from autohr.lab.nets import make_net
from autohr.lab.nets._checkpoint import read_header
from autohr.lab.nets._genotype import (
    GENOTYPES,
    SPACE,
    SPACE_WITHOUT_TDC,
    Genotype,
    as_genotype,
    read_genotype,
    write_genotype,
)
from autohr.lab.nets.autohr import PRESETS, AutoHR
from autohr.lab.recipes.files import toml_inline
from autohr.lab.reports.comparison import render_comparison_page
from autohr.lab.reports.run import write_run_page
from autohr.lab.runs import create_run
from autohr.lab.train.loop import Progress
from autohr.lab.train.recipe import Recipe, read_recipe
from made import FACE_OF_TREE, MiddleDetector
from made import run as autohr
from test_reports import read, words_of
from test_search_report import random_cell, search_run
from trees import vipl_hr_tree

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPES = Path(__file__).parents[1] / "src" / "autohr" / "lab" / "recipes"
V1, V2 = "fig5_plausible_v1", "fig5_plausible_v2"


def found_search(folder: Path, seed: int, seen: Sequence[str] = ()) -> Path:
    """Write what a search that has ended leaves behind."""
    run = create_run(folder, {"kind": "search"})
    genotype = Genotype.from_dict(random_cell(seed) | {"origin": "Search of a test."})
    write_genotype(run.results / "genotype.json", genotype)
    write_json(run.results / "search.json", {"ops": [str(op) for op in SPACE]})
    write_json(run.results / "data.json", {"weights": list(seen), "architecture": [], "val": ["x"], "left_out": {}})
    return folder


# The experiment --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_cell_is_trained_alike_and_only_once(small_recipe: Path, tmp_path: Path) -> None:
    cells = [str(found_search(tmp_path / "s0", 1)), str(found_search(tmp_path / "s1", 2)), V2]
    out = tmp_path / "out"

    def compare(*overrides: str, **more: Any) -> ComparisonResult:
        three_held_out = ["data.val_share=0.6", "fit.val_windows=2", *overrides]
        return compare_genotypes(cells, small_recipe, out, overrides=three_held_out, n_random=2, progress=None, **more)

    first = compare(only=["s0", "random_0"])
    assert [cell.why_not is None for cell in first.cells] == [True, False, False, True, False]
    assert {group.name: group.n for group in first.groups} == {"searched": 1, "random": 1}
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoints/last.safetensors")}
    assert len(stamps) == 2

    result = compare()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "what has ended is not repeated"
    assert [(cell.label, cell.group) for cell in result.cells] == [
        ("s0", "searched"),
        ("s1", "searched"),
        (V2, "reconstruction"),
        ("random_0", "random"),
        ("random_1", "random"),
    ]
    recipes = [json.loads(path.read_text())["recipe"] for path in sorted(out.glob("*/config.json"))]
    genotypes = [json.dumps(one["net_config"].pop("genotype")) for one in recipes]
    assert len(set(genotypes)) == 5 and all(one == recipes[0] for one in recipes), "they differ in nothing else"
    held_out = {tuple(json.loads(path.read_text())["val"]) for path in out.glob("*/results/data.json")}
    assert len(held_out) == 1 and result.n_held_out == len(result.held_out) == 3 == len(held_out.pop())
    assert result.n_windows == 2, "as many as fit.val_windows, not one of each recording"
    for cell in result.cells:
        (training,) = cell.trainings
        fit = json.loads((out / training.run / "results" / "fit.json").read_text())
        assert training.mae_bpm == fit["last"]["mae_bpm"] and training.n_steps == 2 and training.wall_s > 0
        assert fit["last"]["n_windows"] == result.n_windows
    assert first.cells[0].trainings == result.cells[0].trainings, "its time is not counted twice"
    assert {(one.other, one.n_searched, one.n_other) for one in result.comparisons} == {
        ("random", 2, 2),
        ("reconstruction", 2, 1),
    }
    assert all(not one.beats and one.least_p > 0.05 for one in result.comparisons)

    assert read_comparison(out) == result
    sheet = comparison_sheet(result)
    assert [row[0] for row in sheet.rows[-3:]] == ["all searched", "all random", "all reconstruction"]
    assert all(one.words in render_sheet(sheet, "markdown") for one in result.comparisons)
    html = write_run_page(out).read_text()
    read(html)
    assert "It is not shown that search beats random cells" in words_of(html) and html.count("<svg") == 2 * 7
    held_out_words = "2 windows of 3 recordings of 3 held-out subjects"
    assert f"bpm, on {held_out_words}; " in render_sheet(
        sheet, "markdown"
    ) and f"bpm, on {held_out_words}. " in words_of(html)

    # A file of before windows were counted: it is read, and does not say more than it knows.
    file = out / "results" / "comparison.json"
    write_json(file, {key: value for key, value in json.loads(file.read_text()).items() if key != "n_windows"})
    old = read_comparison(out)
    assert old == dataclasses.replace(result, n_windows=None)
    for words in (render_sheet(comparison_sheet(old), "markdown"), words_of(render_comparison_page(out))):
        assert "bpm, on windows of 3 recordings of 3 held-out subjects" in words
    # A file that lost what only the template shows.
    write_json(file, {key: value for key, value in json.loads(file.read_text()).items() if key != "n_held_out"})
    with pytest.raises(AutoHRError, match="damaged"):
        render_comparison_page(out)

    with pytest.raises(BadRecipe, match=r"fit\.lr"):
        compare("fit.lr=0.5")
    fit_file = out / "s0-seed0" / "results" / "fit.json"
    record = json.loads(fit_file.read_text())
    write_json(fit_file, record | {"last": record["last"] | {"n_windows": 3}})
    with pytest.raises(AutoHRError, match="judged on different windows"):
        compare()


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_and_seeds_are_counted(small_recipe: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 1 and (tmp_path / "out" / f"{V2}-seed7").exists():
            raise Killed

    def compare(progress: Any = None) -> ComparisonResult:
        return compare_genotypes(
            [V2],
            small_recipe,
            tmp_path / "out",
            overrides=["fit.checkpoint_every=1"],
            n_random=0,
            seeds=(3, 7),
            progress=progress,
        )

    with pytest.raises(Killed):
        compare(kill)
    result = compare()
    (cell,) = result.cells
    assert [one.seed for one in cell.trainings] == [3, 7] and result.comparisons == ()
    assert result.n_windows == result.n_held_out == 1, "without fit.val_windows, every window there is"
    seeds = [json.loads(path.read_text())["recipe"]["fit"]["seed"] for path in (tmp_path / "out").glob("*/config.json")]
    assert sorted(seeds) == [3, 7]
    (row, group) = comparison_sheet(result).rows
    assert "+-" in row[4] and "+-" not in group[4], "two trainings of one cell say nothing of other cells"
    assert "Nothing to compare yet" in words_of(render_comparison_page(tmp_path / "out"))


@pytest.mark.slow
def test_a_note_names_a_search_that_saw_the_held_out_recordings(small_recipe: Path, tmp_path: Path) -> None:
    everybody = [f"synthetic/{subject}/a" for subject in range(5)]
    cell = found_search(tmp_path / "s0", 1, seen=everybody)
    result = compare_genotypes([str(cell)], small_recipe, tmp_path / "out", n_random=0, progress=None)
    assert any("search of s0 saw 1 of the 1 recordings" in note for note in result.notes)
    assert any("synthetic recordings" in note for note in result.notes)


def test_random_cells_come_from_the_searches_space(tmp_path: Path) -> None:
    drawn = draw_cells([], 12, seed=4)
    assert drawn == draw_cells([], 12, seed=4) != draw_cells([], 12, seed=5)
    assert len({one.genotype.cells for one in drawn}) == 12 and {one.genotype.kind for one in drawn} == {"shared"}
    assert any(edge.op.startswith("tdc") for one in drawn for node in one.genotype.cells[0] for edge in node)
    search_run(tmp_path / "plain", kind="varied", ops=SPACE_WITHOUT_TDC)
    write_genotype(
        tmp_path / "plain" / "results" / "genotype.json",
        varied := Genotype("v", "varied", GENOTYPES[V2].cells * 4, "Search of a test."),
    )
    plain = find_cell(str(tmp_path / "plain"))
    assert plain.genotype == varied and plain.group == "searched"
    beside = draw_cells([plain], 3, seed=0)
    assert {one.genotype.kind for one in beside} == {"varied"}
    ops = {edge.op for one in beside for cell in one.genotype.cells for node in cell for edge in node}
    assert not any(op.startswith("tdc") for op in ops)


def test_what_a_cell_may_be_given_as(tmp_path: Path) -> None:
    assert find_cell(V1).group == "reconstruction"
    write_genotype(tmp_path / "mine.json", GENOTYPES[V2])
    assert (find_cell(str(tmp_path / "mine.json")).group, find_cell(str(tmp_path / "mine.json")).label) == (
        "given",
        "mine",
    )
    create_run(tmp_path / "going", {"kind": "search"})
    with pytest.raises(AutoHRError, match="has not ended"):
        find_cell(str(tmp_path / "going"))
    with pytest.raises(AutoHRError, match=f"There is no cell 'fig5'.*{V1}"):
        find_cell("fig5")


def test_mistakes_are_found_before_anything_is_trained(small_recipe: Path, tmp_path: Path) -> None:
    def compare(cells: list[str], recipe: Path = small_recipe, **more: Any) -> None:
        compare_genotypes(cells, recipe, tmp_path / "out", progress=None, **{"n_random": 0} | more)

    with pytest.raises(BadRecipe, match="'physnet'"):
        compare([V1], RECIPES / "equal_physnet.toml")
    with pytest.raises(AutoHRError, match="Two cells would be called"):
        compare([V1, V1])
    with pytest.raises(UnknownName, match=f"Unknown cell 'v1'.*{V1}"):
        compare([V1], only=["v1"])
    with pytest.raises(ValueError, match="different from each other"):
        compare([V1], seeds=(1, 1))
    with pytest.raises(BadRecipe, match="no_such"):
        compare([V1], overrides=["net_config.no_such=1"])
    assert not (tmp_path / "out").exists()


def test_cost_is_that_of_the_network(small_recipe: Path) -> None:
    recipe = read_recipe(RECIPES / "autohr_cpu.toml")
    for name in (V1, V2):
        config = dataclasses.replace(PRESETS["small"].config, genotype=GENOTYPES[name])
        parameters, gflop_per_s = cost(GENOTYPES[name], config, recipe)
        assert parameters == sum(parameter.numel() for parameter in AutoHR(config).parameters())
    assert gflop_per_s == pytest.approx(1.0, abs=0.05), "as the preset says of itself"


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_genotype_goes_through_toml_unchanged(name: str) -> None:
    genotype = dataclasses.replace(GENOTYPES[name], origin='Quotes " and \\ and é.')
    text = toml_inline(genotype.as_dict())
    assert "\n" not in text
    assert Genotype.from_dict(tomllib.loads(f"value = {text}")["value"]) == genotype
    with pytest.raises(ValueError, match="None"):
        toml_inline({"a": None})


# What may be concluded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("searched", "others", "p", "beats"),
    [
        ((5.0, 5.1, 5.2), (7.0, 7.1, 7.2), 1 / 20, True),
        ((7.0, 7.1, 7.2), (5.0, 5.1, 5.2), 1.0, False),
        ((5.0, 7.1, 5.2), (7.0, 5.1, 7.2), 7 / 20, False),
        # Each is better than each, but on average by less than the cells of a group differ.
        ((1.0, 6.8, 6.9), (7.0, 7.1, 7.2), 1 / 20, False),
        ((5.0, 5.1), (9.0, 9.1), 1 / 6, False),
        ((5.0,), (9.0,), 1 / 2, False),
        ((6.0, 6.0, 6.0), (6.0, 6.0, 6.0), 1.0, False),
    ],
)
def test_the_verdict_is_as_strong_as_the_numbers(
    searched: tuple[float, ...], others: tuple[float, ...], p: float, beats: bool
) -> None:
    found = compare_groups(searched, others, "random")
    assert found.p == pytest.approx(p) and found.beats is beats
    assert found.difference_bpm == pytest.approx(np.mean(searched) - np.mean(others))
    assert ("search beats random cells beyond the spread" in found.words) is beats
    n = len(searched)
    assert found.least_p == pytest.approx(1 / len(list(itertools.combinations(range(n + len(others)), n))))
    if n == 2:
        assert "So few cells cannot show" in found.words
    if found.difference_bpm > 0:
        assert "does not beat" in found.words


def test_without_a_difference_the_test_is_calm() -> None:
    """At most one in twenty experiments without a difference comes out at p <= 0.05."""
    rng = np.random.default_rng(0)
    values = rng.normal(8, 1, (2000, 6))
    share = np.mean([compare_groups(row[:3].tolist(), row[3:].tolist(), "random").p <= 0.05 for row in values])
    assert 0.03 < share < 0.07


def made_cell(label: str, group: str, maes: Sequence[float | None]) -> CellResult:
    trainings = tuple(
        Training(seed, f"{label}-seed{seed}", 10, mae, mae, 0.5, None, 9.0, 60.0) for seed, mae in enumerate(maes)
    )
    return CellResult(label, group, label, GENOTYPES[V1].as_dict(), 1000, 1.0, trainings, None)


def test_seeds_are_averaged_before_cells_are_compared() -> None:
    cells = [
        made_cell("a", "searched", (4.0, 6.0)),
        made_cell("b", "searched", (7.0, 9.0)),
        made_cell("c", "random", (8.0, None)),
        dataclasses.replace(made_cell("d", "given", (1.0,)), why_not="not trained yet"),
    ]
    searched, random = group_cells(cells)
    assert searched.mean["mae_bpm"] == 6.5 and searched.sd["mae_bpm"] == pytest.approx(np.sqrt(4.5))
    assert random.mean["mae_bpm"] is None and random.sd["mae_bpm"] is None


# Panel (c) of Fig. 4 ---------------------------------------------------------------------------------------------


class NoFigures:
    """Scores of an evaluation that was not made."""

    overall = None
    oracle = None
    notes = ()


def test_each_searched_bar_has_the_space_that_its_name_says() -> None:
    spaces = {one.key: one.space for one in ABLATIONS["nas"].variants if one.genotype}
    assert spaces == {
        "shared_tdc": ("space.kind=shared", "space.tdc=true"),
        "shared": ("space.kind=shared", "space.tdc=false"),
        "varied_tdc": ("space.kind=varied", "space.tdc=true"),
        "varied": ("space.kind=varied", "space.tdc=false"),
    }


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_bars_of_a_stand_in_differ_in_what_the_panel_is_about(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ABLATIONS[name].stand_in
    ours = {one.key for one in ABLATIONS[name].variants if one.label}
    assert set(stand_in.recipes) == {bar.key for bar in PANELS[name].bars} | ours
    fits = {file: read_recipe(RECIPES / file).fit for file in stand_in.recipes.values()}
    budgets = {(fit.steps, fit.batch_size) for fit in fits.values()}
    assert len(budgets) == 1 and "NOT the paper's experiment" in stand_in.note
    if ABLATIONS[name].search_recipe is not None:
        return
    trained: dict[str, Recipe] = {}

    def pretend_evaluate(recipe_path: Path, overrides: Sequence[str], *_: object, label: str, **__: object) -> object:
        trained[label.removeprefix(f"{name}-")] = read_recipe(recipe_path, overrides)
        return None

    monkeypatch.setattr(ablations, "evaluate_net", pretend_evaluate)
    monkeypatch.setattr(ablations, "score", lambda *_: NoFigures)
    result = ablate(name, tmp_path, recipes=RECIPES, overrides=["fit.steps=7"], synthetic=True)
    assert (
        "synthetic" in result.title and result.protocol == "synthetic-fold1" and list(trained) == list(stand_in.recipes)
    )
    varied = {"loss": "loss", "theta": "net_config", "augmentation": "augment"}[name]
    assert len({str(getattr(one, varied)) for one in trained.values()}) == len(trained)
    same = {
        str(dataclasses.replace(one, **{varied: getattr(read_recipe(RECIPES / "equal_physnet.toml"), varied)}))
        for one in trained.values()
    }
    assert len(same) == 1 and all(one.fit.steps == 7 for one in trained.values())
    for one in trained.values():
        make_net(one.net, one.net_config)


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_bar_without_a_cell_is_searched_on_those_it_may_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synthetic: bool
) -> None:
    """Searched first, on the training's recordings but for the fold that is tested, then trained with what came out."""
    asked: dict[str, tuple[Path, list[str]]] = {}
    trained: dict[str, Recipe] = {}

    def pretend_search(recipe_path: Path, overrides: Sequence[str], out: Path, **_: object) -> Genotype:
        key = out.parent.name
        asked[key] = (recipe_path, list(overrides))
        kind = "varied" if "space.kind=varied" in overrides else "shared"
        return Genotype(f"found_{key}", kind, GENOTYPES[V2].cells * (4 if kind == "varied" else 1), "A test.")

    def pretend_evaluate(recipe_path: Path, overrides: Sequence[str], *_: object, label: str, **__: object) -> object:
        trained[label.removeprefix("nas-")] = read_recipe(recipe_path, overrides)
        return None

    monkeypatch.setattr(ablations, "search_cell", pretend_search)
    monkeypatch.setattr(ablations, "evaluate_net", pretend_evaluate)
    monkeypatch.setattr(ablations, "score", lambda *_: NoFigures)
    monkeypatch.setattr(ablations, "open_prepared", lambda *_: None)
    monkeypatch.setattr(ablations, "subjects_of_folds", lambda *_: {1: ["d/one", "d/two"], 2: ["d/three"]})
    result = ablate(
        "nas",
        tmp_path,
        recipes=RECIPES,
        overrides=["data.cache='elsewhere'"],
        search_overrides=["data.cache='mine'", "search.epochs=1"],
        synthetic=synthetic,
    )
    keys = ["shared_tdc", "shared", "varied_tdc", "varied"]
    assert list(asked) == keys and list(trained) == ["none", *keys]
    for key in keys:
        path, overrides = asked[key]
        assert path.name == ("search_cpu.toml" if synthetic else "search_paper.toml")
        assert overrides.index('data.cache="elsewhere"') > overrides.index("data.cache='mine'"), "the training's wins"
        assert 'data.val_subjects=["d/one", "d/two"]' in overrides and "search.epochs=1" in overrides
        assert trained[key].net == "autohr" and trained[key].data.cache == "elsewhere"
        assert trained[key].net_config["genotype"]["name"] == f"found_{key}"
        assert (
            trained[key].fit.steps == trained["none"].fit.steps
            and trained[key].fit.epochs == trained["none"].fit.epochs
        )
    assert trained["none"].net == "physnet"
    assert ("NOT the paper's" in result.note, "synthetic" in result.title) == (synthetic, synthetic)
    assert result.protocol == ("synthetic-fold1" if synthetic else "vipl-hr-fold1")


@pytest.mark.slow
def test_a_bar_from_prepared_recordings_to_a_number_beside_the_papers(tmp_path: Path) -> None:
    """A real search of two steps, its cell trained for one and tested on a person that neither has seen."""
    vipl_hr_tree(tmp_path / "vipl", 5, fps=12.0, duration_s=11.0)
    recordings = vipl_hr.SPEC.list_recordings(tmp_path / "vipl").recordings
    cache.prepare(recordings, tmp_path / "cache", PAPER_CROP, workers=1, detector=MiddleDetector(FACE_OF_TREE))
    recipe = tmp_path / "search.toml"
    recipe.write_text(
        """
        [space]
        stem_channels = 2
        channels = 2
        partial = 2
        stem_stride = 4
        [data]
        n_frames = 64
        size_px = 16
        [search]
        epochs = 2
        steps_per_epoch = 1
        warmup_epochs = 1
        workers = 0
        """
    )

    def run() -> AblationResult:
        return ablate(
            "nas",
            tmp_path / "out",
            recipes=RECIPES,
            overrides=[
                *(
                    f"data.cache='{tmp_path / 'cache'}'",
                    "data.n_frames=64",
                    "data.size_px=16",
                    "net_config.preset=tiny",
                ),
                *("fit.epochs=0.1", "fit.batch_size=1", "fit.val_windows=1", "fit.workers=0"),
            ],
            search_recipe=recipe,
            only=["shared"],
            progress=None,
        )

    result = run()
    bar = {bar.key: bar for bar in result.bars}["shared"]
    assert bar.rmse_bpm is not None and (bar.published_bpm, bar.n_scored, bar.n) == (8.67, 1, 1)
    home = tmp_path / "out" / "shared"
    seen = json.loads((home / "search" / "results" / "data.json").read_text())
    searched_on = {one.split("/")[1] for part in ("weights", "architecture") for one in seen[part]}
    assert searched_on == {"p2", "p3", "p4", "p5"}, "p1 is fold 1, which is tested"
    header = read_header(home / "fold_1" / "checkpoints" / "last.safetensors")
    found = read_genotype(home / "search" / "results" / "genotype.json")
    assert as_genotype(header["config"]["genotype"]) == found and header["config"]["channels"] == 8
    ops = json.loads((home / "search" / "results" / "search.json").read_text())["ops"]
    assert len(ops) == 7, "without TDC"
    assert "A search for a cell" in write_run_page(home / "search").read_text()
    assert run() == result


# The command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_the_page(
    small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--recipe", small_recipe, "--random", 1, "--out", tmp_path / "out", "--format", "markdown"]
    code, printed, errors = autohr(capsys, "compare-cells", V2, *options)
    assert code == 0 and f"| {V2} | reconstruction |" in printed and "random_0" in printed, errors
    assert (tmp_path / "out" / "results" / "report.html").is_file() and "report.html" in errors
    assert autohr(capsys, "compare-cells", V2, "--seeds", "0,x")[0] == 2
    assert autohr(capsys, "compare-cells", "--random", "0")[0] == 2
