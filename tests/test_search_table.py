"""The table of cells: clips made once, rows that are only ever added, and the replay of strategies on it."""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autohr.errors import AutoHRError
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.nets._genotype import GENOTYPES, Genotype, Op, read_genotype
from autohr.lab.recipes.files import FOLDER
from autohr.lab.search import table as tables
from autohr.lab.search.cells import CellConfig, make_pack, orders, read_pack, train_cell
from autohr.lab.search.proxies import proxies
from autohr.lab.search.recipe import read_search_recipe
from autohr.lab.search.selection import score_cell
from autohr.lab.search.space import EDGES, SearchNet, strengths
from autohr.lab.search.table import (
    COLUMNS,
    append_rows,
    format_cell,
    key_of,
    make_table,
    merge,
    parse_cell,
    plan,
    random_cells,
    read_rows,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import search_gradient as gradient
import search_replay as replay
import search_second as second

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = CellConfig(size_px=16, n_frames=64, test_frames=128, n_train=6, n_val=2, n_test=2, steps=4, batch_size=2)


def recordings(n: int, prefix: str = "person", *, with_wave: bool = True) -> list[CachedRecording]:
    """People whose faces are noise around one colour."""
    rng = np.random.default_rng(0)
    n_frames, wave = 150, np.sin(2 * np.pi * 1.2 * np.arange(150) / 30)
    return [
        CachedRecording(
            recording_id=f"synthetic/{prefix}_{i}/s",
            dataset="synthetic",
            subject=f"{prefix}_{i}",
            session="s",
            segment=0,
            start_s=0.0,
            fps=30.0,
            frames=np.clip(rng.normal((190, 140, 120), 6, (n_frames, 24, 24, 3)), 0, 255).astype(np.uint8),
            bvp=wave if with_wave else np.full(n_frames, np.nan),
            hr_bpm=np.full(n_frames, 72.0),
            found=np.ones(n_frames, bool),
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_pack(
        recordings(6), [*recordings(6, with_wave=False), *recordings(2, "stranger", with_wave=False)], SMALL, folder
    )
    return folder


def test_nobody_is_learned_from_and_tested_on(tmp_path: Path) -> None:
    second = [*recordings(6, with_wave=False), *recordings(2, "stranger", with_wave=False)]
    pack = make_pack(recordings(6), second, SMALL, tmp_path)
    assert {part: len(clips) for part, clips in pack.items()} | {"second_val": 0, "second_test": 0} == {
        "train": 6, "val": 2, "test": 2, "second_val": 0, "second_test": 0,
    }  # fmt: skip
    # Of six people in five parts, at most two validate and two test; four or fewer of the second world are known.
    assert 2 <= len(pack["second_val"]) + len(pack["second_test"]) <= 6
    assert pack["second_val"].frames.shape[1:] == (128, 16, 16, 3)
    # A pulse was laid in: other rates than that of the recordings.
    assert len(set(pack["test"].rates[:, 0].tolist())) == 2


def test_clips_are_made_once(pack_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_pack(pack_folder / f"pack-{SMALL.digest}")
    again = make_pack([], [], SMALL, pack_folder)
    np.testing.assert_array_equal(before["train"].frames, again["train"].frames)


def test_a_training_is_the_same_twice_and_differs_by_seed(pack_folder: Path) -> None:
    pack = read_pack(pack_folder / f"pack-{SMALL.digest}")
    cell = GENOTYPES["fig5_plausible_v2"]
    timeless = [
        {name: value for name, value in train_cell(cell, pack, SMALL, seed=seed, steps=4).items() if "_s" != name[-2:]}
        for seed in (0, 0, 1)
    ]
    assert timeless[0] == timeless[1]
    assert timeless[0]["val_loss"] != timeless[2]["val_loss"]
    assert {"val_loss_10", "train_loss_30", "test_mae_bpm", "second_test_loss"} <= set(timeless[0])


def test_every_clip_is_seen_once_in_an_epoch() -> None:
    order = orders(6, 6, 2, 3)
    assert sorted(order[:3].ravel()) == sorted(order[3:].ravel()) == list(range(6))
    assert (order[:3] != order[3:]).any()


@pytest.mark.parametrize("genotype", [*GENOTYPES.values(), *random_cells(3)], ids=lambda one: one.name)
def test_cells_are_read_as_they_were_written(genotype: Genotype) -> None:
    assert parse_cell(format_cell(genotype.cells[0])) == genotype.cells[0]


def test_a_word_that_is_no_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="not of the form operation@source"):
        parse_cell("skip|skip")


def test_random_cells_are_the_same_in_every_table() -> None:
    few, many = random_cells(3), random_cells(12)
    assert few == many[:3]
    assert len({one.cells for one in many}) == 12


def test_the_plan_has_every_training_once_and_the_useful_ones_first() -> None:
    jobs = plan(30, 100, extra=[random_cells(31)[30]])
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    assert keys[0][0] == "random_030"
    by_budget = [{key[0] for key in keys if key[2] == steps} for steps in (100, 200, 400)]
    assert by_budget[1] == by_budget[2] and len(by_budget[1]) == 10 and len(by_budget[0]) == 34
    assert sum(key[1] == 2 for key in keys) == 20
    # A third of it holds some of everything.
    assert {key[2] for key in keys[:30]} == {100, 200} and {key[1] for key in keys[:30]} == {0, 1, 2}


def row(cell: str, seed: int = 0, steps: int = 4, **values: float) -> dict[str, str]:
    return {
        **dict.fromkeys(COLUMNS, "0"),
        "cell": cell, "seed": str(seed), "steps": str(steps), "settings": SMALL.digest,
        **{name: str(value) for name, value in values.items()},
    }  # fmt: skip


def test_lines_are_only_added_and_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    append_rows(path, [row("a")])
    with path.open("a") as file:
        file.write("b,0,4")  # killed amid a line
    append_rows(path, [row("c")])
    assert [one["cell"] for one in read_rows(path)] == ["a", "c"]
    assert read_rows(path, "other settings") == []


def test_tables_of_two_machines_are_joined(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    append_rows(one, [row("a"), row("b")])
    append_rows(other, [row("b"), row("b", seed=1)])
    assert merge(one, [other]) == 1
    assert [key_of(each) for each in read_rows(one)] == [("a", 0, 4), ("b", 0, 4), ("b", 1, 4)]
    assert merge(one, [other]) == 0


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,value\na,1\n")
    with pytest.raises(AutoHRError, match="not a table of cells: it has no column cell, seed, steps"):
        read_rows(tmp_path / "x.csv")


def test_a_table_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, int, int]] = []

    def train(job: tables.Job, **_: object) -> dict[str, str]:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(job.key)
        return row(*job.key, val_loss=1, val_mae_bpm=2, cpu_s=3)

    monkeypatch.setattr(tables, "_train", train)
    monkeypatch.setattr(tables, "open_any", lambda _: recordings(6))
    out = tmp_path / "cells.csv"
    with pytest.raises(KeyboardInterrupt):
        make_table([tmp_path], out, config=SMALL, n_random=1)
    assert [key_of(one) for one in read_rows(out)] == trained
    before = list(trained)
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        make_table([tmp_path], out, config=SMALL, n_random=1)
    assert not set(before) & set(trained)


def test_a_cell_has_a_place_among_random_ones_of_its_budget() -> None:
    rows = [row("x", test_loss=2), row("random_0", test_loss=1), row("random_1", test_loss=3)]
    others = [row("random_2", seed=1, test_loss=0), row("random_3", steps=8, test_loss=0), row("y", test_loss=0)]
    assert tables.place([*rows, *others], "x") == (2, 3)
    assert tables.place(rows, "random_0") == (1, 2)
    with pytest.raises(AutoHRError, match="no training of 'z' yet"):
        tables.place(rows, "z")


def test_the_default_search_mends_what_a_small_budget_breaks() -> None:
    recipe = read_search_recipe(FOLDER / "search_budget.toml")
    paper = read_search_recipe(FOLDER / "search_paper.toml").search
    assert recipe.search.select == "perturbation" and recipe.search.bypass_end == 0
    assert (paper.select, paper.bypass_end, paper.beta_decay, paper.entropy_weight) == ("strength", 1, 0, 0)


def test_shards_make_every_training_once() -> None:
    jobs = plan(5, 4)
    parts = [jobs[i::3] for i in range(3)]
    assert sorted(job.key for part in parts for job in part) == sorted(job.key for job in jobs)


def test_proxies_differ_between_cells_and_not_between_calls(pack_folder: Path) -> None:
    clips = read_pack(pack_folder / f"pack-{SMALL.digest}")["train"]
    one, again, other = (proxies(cell, clips, SMALL) for cell in (*random_cells(1) * 2, random_cells(2)[1]))
    assert one == again
    assert all(np.isfinite(value) for value in one.values())
    assert all(one[name] != other[name] for name in one)


# Replay ----------------------------------------------------------------------------------------------------------


def made_table(n: int = 40, noise: float = 0.0, seed: int = 0) -> replay.Table:
    """A table whose loss is a sum over operations, so that good cells lie near good cells."""
    rng = np.random.default_rng(seed)
    cells = random_cells(n)
    worth = {
        op: value
        for value, op in enumerate(sorted({edge.op for cell in cells for node in cell.cells[0] for edge in node}))
    }
    losses = [sum(worth[edge.op] for node in cell.cells[0] for edge in node) for cell in cells]
    lines = []
    for cell, loss in zip(cells, losses, strict=True):
        early = loss + noise * rng.normal()
        lines.append(
            row(
                cell.name,
                parameters=1,
                gflop_per_s=1,
                val_loss=loss,
                test_loss=loss,
                val_loss_10=early,
                val_loss_30=early,
            )
            | {"genotype": format_cell(cell.cells[0])}
        )
    return replay.make_table(lines, {})


def test_strategies_pay_for_what_they_see() -> None:
    table, rng = made_table(), np.random.default_rng(0)
    for name, strategy in replay.STRATEGIES.items():
        for budget in (1, 3, 7.5, 20):
            path = strategy(table, budget, rng)
            costs = [cost for cost, _ in path]
            assert costs == sorted(costs) and costs[-1] <= max(1.0, budget) + 1e-9, name
    # All cells paid for: all strategies that train each to the end give the best one.
    for name in ("random", "evolution", "predictor"):
        assert table.seen[replay.STRATEGIES[name](table, len(table), rng)[-1][1]] == table.seen.min()


def test_true_early_losses_make_halving_better_than_random_and_a_true_model_the_predictor() -> None:
    curves = replay.replay(made_table(), [8], n_tables=10, n_orders=10)
    means = {name: float(values.mean()) for name, values in curves.items()}
    assert means["halving"] < means["random"]
    assert means["predictor"] < means["random"]


def test_useless_early_losses_make_halving_no_better_than_random() -> None:
    curves = replay.replay(made_table(noise=1e6), [8], n_tables=20, n_orders=10)
    assert curves["halving"].mean() > curves["random"].mean()


def test_kendall_knows_order_and_chance() -> None:
    x = np.arange(30.0)
    assert replay.kendall(x, x**3) == 1.0 and replay.kendall(x, -x) == -1.0
    assert replay.kendall(x, np.zeros(30)) == 0.0
    rng = np.random.default_rng(0)
    low, high = replay.interval(x, rng.normal(size=30), rng, 200)
    assert low < 0.35 and high > -0.35 and low < high


def test_noise_between_seeds_is_told_from_cells() -> None:
    rng = np.random.default_rng(0)
    rows = [row(f"c{i}", seed, val_loss=10 * i + rng.normal()) for i, seed in itertools.product(range(20), range(3))]
    within, between, n = replay.spread_of(rows, "val_loss")
    assert n == 20 and 0.6 < within < 1.5 and 50 < between < 70


def test_the_committed_table_can_be_read() -> None:
    rows = read_rows(replay.TABLE)
    assert all(parse_cell(one["genotype"]) for one in rows)
    keys = [(one["settings"], *key_of(one)) for one in rows]
    assert len(set(keys)) == len(keys)
    with replay.TABLE.open(encoding="utf-8", newline="") as lines:
        assert next(csv.reader(lines)) == list(COLUMNS)


# Gradient searches -----------------------------------------------------------------------------------------------


def test_a_gradient_search_gives_two_cells_at_their_cost_and_scores_the_table(
    pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = read_pack(pack_folder / f"pack-{SMALL.digest}")
    for name in ("SEARCHES", "SUPERNET", "TABLE"):
        monkeypatch.setattr(gradient, name, tmp_path / f"{name}.csv")
    monkeypatch.setattr(gradient, "EPOCHS", 3)
    monkeypatch.setattr(gradient, "N_BATCHES", 1)
    gradient.search_once(pack, SMALL, "mended", 0, tmp_path, 1)
    by_alphas, perturbed = replay.read_csv(tmp_path / "SEARCHES.csv")
    assert float(perturbed["cpu_s"]) > float(by_alphas["cpu_s"]) > 0
    for one in (by_alphas, perturbed):
        assert read_genotype(tmp_path / f"{one['cell']}.json").cells[0] == parse_cell(one["genotype"])

    cells = {cell.name: format_cell(cell.cells[0]) for cell in random_cells(2)}
    append_rows(tmp_path / "TABLE.csv", [row(name) | {"genotype": word} for name, word in cells.items()])
    for _ in range(2):  # what is there is not scored again
        gradient.score_table(pack, SMALL, "mended_0", tmp_path)
    scores = replay.read_supernet(tmp_path / "SUPERNET.csv")
    assert set(scores) == set(cells) and len(replay.read_csv(tmp_path / "SUPERNET.csv")) == 2
    assert len({value["supernet mended_0"] for value in scores.values()}) == 2


def test_a_cell_is_scored_with_its_operations_alone() -> None:
    torch.manual_seed(0)
    net = SearchNet(SMALL.space(4))
    cell = random_cells(1)[0]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss() -> float:
        seen.append(strengths(net.alphas.detach().clone(), net.betas.detach().clone()))
        return 1.5

    before = net.alphas.tolist(), net.betas.tolist()
    assert score_cell(net, cell, loss) == 1.5
    assert (net.alphas.tolist(), net.betas.tolist()) == before
    ops, edges = seen[0]
    for n, node in enumerate(cell.cells[0]):
        for edge in node:
            at = EDGES.index((n, edge.source))
            assert edges[0, at].item() == pytest.approx(0.5)
            assert ops[0, at, net.space.ops.index(Op(edge.op, edge.theta))].item() == pytest.approx(1.0)
    assert edges[0].count_nonzero() == 6


def test_clips_of_the_second_world_become_a_folder_of_known_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clip(video: str, kind: str, source: str, *, pulse: bool = True, readable: bool = True) -> SimpleNamespace:
        (tmp_path / video).write_bytes(b"video")
        rate = 71.5 if pulse else None
        return SimpleNamespace(video=video, kind=kind, source=source, pulse=pulse, readable=readable, hr_bpm=rate)

    clips = [
        clip("0_with.mp4", "portrait", "021.jpg"),
        clip("0_without.mp4", "portrait", "021.jpg", pulse=False),
        clip("1_with.mkv", "video", "s29.mp4"),
        clip("2_with.mp4", "video", "s30.mp4", readable=False),
    ]
    monkeypatch.setattr(second, "read_clips", lambda _: clips)
    assert second.write_dataset(tmp_path, tmp_path / "out") == 2
    assert replay.read_csv(tmp_path / "out" / "rates.csv") == [
        {"video": "0_with.mp4", "hr_bpm": "71.500", "subject": "portrait_021"},
        {"video": "1_with.mkv", "hr_bpm": "71.500", "subject": "s29"},
    ]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["0_with.mp4", "1_with.mkv", "rates.csv"]
