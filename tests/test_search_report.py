"""The page of a search, and the drawing of a cell: right, readable, and made from the run directory alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autohr.errors import AutoHRError
from autohr.files import write_json
from autohr.lab.nets._genotype import GENOTYPES, SPACE, SPACE_WITHOUT_TDC, Cell, Edge, Genotype, Node, Op
from autohr.lab.reports import cells, search
from autohr.lab.reports.cells import RADIUS, cell_words, draw_cells, find_layout
from autohr.lab.reports.run import write_run_page
from autohr.lab.reports.search import read_search, render_search_page
from autohr.lab.runs import create_run
from autohr.reports import page
from autohr.reports.page import standalone
from test_reports import read, words_of

EDGES = [(node, source) for node in range(3) for source in range(2 + node)]
N_EPOCHS = 4


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def by_node(betas: np.ndarray) -> np.ndarray:
    return np.concatenate([softmax(betas[..., 0:2]), softmax(betas[..., 2:5]), softmax(betas[..., 5:9])], axis=-1)


def derived(ops: tuple[Op, ...], op_strengths: np.ndarray, edge_strengths: np.ndarray) -> Cell:
    """By the rule of the paper, written anew: the two edges of a node whose best operation scores highest."""
    nodes: list[Node] = []
    for node in range(3):
        found: list[tuple[float, Edge]] = []
        for place, (its, source) in enumerate(EDGES):
            if its == node:
                scores = op_strengths[place] * edge_strengths[place]
                best = max(range(1, len(ops)), key=lambda k, scores=scores: float(scores[k]))  # type: ignore[misc]
                found.append((float(scores[best]), Edge(ops[best].op, source, ops[best].theta)))
        (_, first), (_, second) = sorted(found, key=lambda pair: -pair[0])[:2]
        nodes.append((first, second))
    return tuple(nodes)


def search_run(
    folder: Path, *, kind: str = "shared", ops: tuple[Op, ...] = SPACE, ended: bool = True, collapsed: bool = False
) -> Genotype:
    """A search of four epochs whose alphas grow apart; the architecture stands still in the first."""
    recipe = {"title": "a <b>search</b>", "space": {"kind": kind}, "search": {"epochs": N_EPOCHS, "lr": 1e-4}}
    run = create_run(folder, {"kind": "search", "recipe": recipe})
    rng = np.random.default_rng(3)
    n_sets = 1 if kind == "shared" else 4
    alphas, betas = rng.normal(size=(n_sets, 9, len(ops))), rng.normal(size=(n_sets, 9))
    if collapsed:
        alphas[..., 1] += 4
    genotypes = []
    for epoch in range(1, N_EPOCHS + 1):
        grown = 0.0 if epoch == 1 else (epoch - 1) / N_EPOCHS
        for step in range(10 * epoch - 9, 10 * epoch + 1):
            run.log({"step": step, "loss": 5 / step, "alpha_loss": None if epoch == 1 else 6 / step, "lr": 1e-4})
        mix, weights = softmax(grown * alphas), by_node(grown * betas)
        found = tuple(derived(ops, mix[k], weights[k]) for k in range(n_sets))
        genotype = Genotype(f"found_{epoch}", kind, found, f"Search of a test, epoch {epoch}.")
        genotypes.append(genotype)
        skips = sum(edge.op == "skip" for cell in found for node in cell for edge in node)
        run.log(
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "alphas": (grown * alphas).tolist(),
                "betas": (grown * betas).tolist(),
                "op_strengths": mix.tolist(),
                "edge_strengths": weights.tolist(),
                "alpha_entropy": 1 - 0.1 * grown,
                "beta_entropy": 1 - 0.05 * grown,
                "genotype": genotype.as_dict(),
                "skips": skips,
                "collapsed": collapsed and epoch == N_EPOCHS,
                "collapse": "6 of the 6 edges of a cell are skips" if collapsed and epoch == N_EPOCHS else None,
                "cost": {"parameters": 123456, "gflop_per_s": 1.25},
                "val": None if epoch < N_EPOCHS else {"mae_bpm": 7.5},
            }
        )
    result = genotypes[-2 if collapsed else -1]
    if ended:
        write_json(
            run.results / "search.json",
            {
                "genotype": result.as_dict(),
                "kind": kind,
                "ops": [str(op) for op in ops],
                "edges": EDGES,
                "epochs": N_EPOCHS,
                "wall_s": 61.0,
                "peak_memory_mib": 812.0,
                "stopped_by": "collapse" if collapsed else None,
                "collapse": "6 of the 6 edges of a cell are skips" if collapsed else None,
                "notes": ["A <i>note</i>."],
                "seed": 5,
                "n_parameters_supernet": 7890,
            },
        )
    return result


def random_cell(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    nodes = []
    for node in range(3):
        sources = rng.choice(2 + node, 2, replace=False)
        picked = [SPACE[k] for k in rng.integers(1, 9, 2)]
        nodes.append(tuple(Edge(op.op, int(s), op.theta) for op, s in zip(picked, sources, strict=True)))
    return Genotype(f"random_{seed}", "shared", (tuple(nodes),), "Drawn by a test.").as_dict()


# The drawing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*GENOTYPES, 1, 2, 3])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_no_label_lies_on_another_or_on_a_node_or_outside(name: str | int, size: str) -> None:
    genotype = random_cell(name) if isinstance(name, int) else GENOTYPES[name].as_dict()
    width, height, letters = cells.SIZES[size]
    edges = tuple((edge["source"], 2 + n) for n, node in enumerate(genotype["cells"][0]) for edge in node)
    lines = tuple(cells._label({"op": "tdc_3x3x3", "theta": 0.2}, 0.12, size == "wide") for _ in edges)
    layout = find_layout(edges, 3, lines, width, height, letters)
    half = np.array(cells._label_size(lines[0], letters)) / 2
    assert len(layout.labels) == 6 and len(layout.controls) == 9
    for k, label in enumerate(layout.labels):
        assert (label - half >= 0).all() and (label + half <= (width, height)).all()
        for other in layout.labels[:k]:
            assert (np.abs(label - other) >= 2 * half).any()
        for state in layout.states:
            assert (np.abs(label - state) >= half + RADIUS).any()
        # Its own curve passes below it: a label belongs to one line.
        source, target = edges[k]
        t = np.linspace(0, 1, 400)[:, None]
        a, c, b = layout.states[source], layout.controls[k], layout.states[target]
        curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
        assert np.hypot(*(curve - label).T).min() < 1
    assert (np.diff(layout.states[1:, 0]) > 0).all(), "left to right"


def test_strength_is_the_width_of_the_line_and_is_written() -> None:
    genotype = GENOTYPES["fig5_plausible_v1"].as_dict()
    strong, weak = 0.41, 0.07
    strengths = {(n, e["source"]): weak for n, node in enumerate(genotype["cells"][0]) for e in node}
    strengths[0, 1] = strong
    (chart,) = draw_cells(genotype, [strengths])
    widths = [float(w) for w in re.findall(r"stroke-width: ([\d.]+)", chart.wide)]
    assert max(widths) == pytest.approx(5.5) and widths.count(max(widths)) == 1
    assert str(chart.wide).count("0.41") == 2, "once on the line, once in words"
    assert "node 1 = conv_5x1x1 of node 0 (0.07) + tdc_3x3x3 θ=1 of c_k-1 (0.07)" in chart.caption
    assert chart.caption in str(chart.wide), "the drawing has its text alternative"


def test_a_genotype_alone_is_drawn_and_stands_alone() -> None:
    (chart,) = draw_cells(GENOTYPES["fig5_plausible_v2"].as_dict())
    svg = standalone(chart)
    assert svg.startswith("<svg xmlns=") and svg.count("conv_5x1x1") >= 3
    assert not re.search(r"\(0\.\d", chart.caption) and "softmax" not in chart.about
    for drawn, _ in page.ROLES.values():
        assert drawn not in svg, "every colour is one of the style sheet"


def test_varied_has_four_drawings_with_ids_of_their_own(tmp_path: Path) -> None:
    charts = draw_cells(search_run(tmp_path, kind="varied").as_dict())
    assert [chart.title[-7:] for chart in charts] == ["block 1", "block 2", "block 3", "block 4"]
    assert len({chart.caption for chart in charts}) > 1
    with pytest.raises(ValueError, match="2 cell"):
        draw_cells(GENOTYPES["fig5_plausible_v1"].as_dict(), [{}, {}])


def test_a_cell_in_words() -> None:
    words = cell_words(GENOTYPES["fig5_plausible_v2"].as_dict()["cells"][0])
    assert words.startswith("node 0 = conv_3x1x1 of c_k-1 + conv_5x1x1 of c_k-2; node 1 = ")


# The page --------------------------------------------------------------------------------------------------------


def test_names_of_operations_are_those_of_the_nets() -> None:
    assert {len(ops): tuple(map(str, ops)) for ops in (SPACE, SPACE_WITHOUT_TDC)} == search.OPS_OF


def test_the_page_shows_the_cell_and_its_figures(tmp_path: Path) -> None:
    genotype = search_run(tmp_path)
    html = write_run_page(tmp_path).read_text()
    read(html)
    text = words_of(html)
    assert cell_words(genotype.as_dict()["cells"][0]) in text
    for words in ("7,890", "812 MiB", "61.0 s", "123,456 parameters", "1.25 GFLOP", "7.50", "No collapse was seen"):
        assert words in text.replace("\u00a0", " "), words
    assert "<b>search</b>" not in html and "<i>note</i>" not in html and "a <b>search</b>" in text
    assert html.count("<svg") == 2 * 5 and len(set(re.findall(r' id="([^"]+)"', html))) == html.count(' id="')
    assert write_run_page(tmp_path).read_text() == html, "the same input, the same bytes"


def test_strengths_are_softmax_times_softmax_of_the_shown_epoch(tmp_path: Path) -> None:
    search_run(tmp_path)
    found = read_search(tmp_path)
    record = found.epochs[-1]
    mix, weights = softmax(np.array(record["alphas"])), by_node(np.array(record["betas"]))
    (strengths,) = found.strengths()
    assert len(strengths) == 6
    for (node, source), value in strengths.items():
        place = EDGES.index((node, source))
        assert value == pytest.approx((mix[0, place, 1:] * weights[0, place]).max())


def test_after_a_collapse_the_cell_of_the_last_sound_epoch_is_shown(tmp_path: Path) -> None:
    genotype = search_run(tmp_path, collapsed=True)
    found = read_search(tmp_path)
    text = words_of(render_search_page(tmp_path))
    assert found.genotype["name"] == genotype.name
    assert found.epochs[found.shown]["genotype"]["cells"] == genotype.as_dict()["cells"]
    assert "It collapsed" in text and "epoch 4 was unsound (the last: 6 of the 6 edges" in text
    assert "the cell above is of epoch 3" in text and "No collapse" not in text


@pytest.mark.parametrize("ops", [SPACE, SPACE_WITHOUT_TDC], ids=["nine", "seven"])
def test_a_search_that_goes_on_has_a_page(tmp_path: Path, ops: tuple[Op, ...]) -> None:
    search_run(tmp_path, ops=ops, ended=False)
    text = words_of(render_search_page(tmp_path))
    assert "Not ended." in text and f"{len(ops)} candidate operations" in text


def test_a_varied_search_has_maps_and_lines_for_each_block(tmp_path: Path) -> None:
    search_run(tmp_path, kind="varied")
    html = render_search_page(tmp_path)
    assert html.count("<svg") == 2 * (4 + 8 + 2) and "Strengths, block 3" in html
    assert len(html) < 3_000_000


def test_the_history_counts_what_changed(tmp_path: Path) -> None:
    search_run(tmp_path)
    found = read_search(tmp_path)
    rows = search._history(found)
    assert [row["is_result"] for row in rows] == [False, False, False, True]
    assert rows[0]["changed"] is None and all(0 <= row["changed"] <= 6 for row in rows[1:])
    assert rows[1]["changed"] > 0, "an even start and a decided cell differ"


def test_warm_up_is_where_the_architecture_has_no_loss(tmp_path: Path) -> None:
    search_run(tmp_path)
    assert read_search(tmp_path).frozen_epochs == 1


def test_errors_name_a_search_without_an_epoch_and_a_damaged_one(tmp_path: Path) -> None:
    create_run(tmp_path / "new", {"kind": "search", "recipe": {}})
    with pytest.raises(AutoHRError, match="first epoch"):
        render_search_page(tmp_path / "new")
    search_run(tmp_path / "odd")
    result = tmp_path / "odd" / "results" / "search.json"
    record = json.loads(result.read_text())
    result.write_text(json.dumps(record | {"ops": record["ops"][:-1]}))
    with pytest.raises(AutoHRError, match="damaged"):
        render_search_page(tmp_path / "odd")
