"""Genotypes as data: JSON there and back, every refusal, what the two reconstructions must agree with."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autohr.errors import BadRecipe
from autohr.lab.nets._genotype import (
    GENOTYPES,
    N_BLOCKS,
    OP_NAMES,
    SPACE,
    SPACE_WITHOUT_TDC,
    Genotype,
    Op,
    as_genotype,
    read_genotype,
    write_genotype,
)
from autohr.lab.nets._operations import OPS

V1 = GENOTYPES["fig5_plausible_v1"]
VARIED = Genotype(name="four", kind="varied", cells=V1.cells * N_BLOCKS, origin="a test")


@pytest.mark.parametrize("genotype", [*GENOTYPES.values(), VARIED], ids=lambda genotype: genotype.name)
def test_json_there_and_back(genotype: Genotype, tmp_path: Path) -> None:
    write_genotype(tmp_path / "g.json", genotype)
    assert read_genotype(tmp_path / "g.json") == genotype
    assert as_genotype(json.loads(json.dumps(dataclasses.asdict(genotype)))) == genotype


def test_no_shipped_cell_calls_itself_the_published_one() -> None:
    assert all("not the published cell" in genotype.origin for genotype in GENOTYPES.values())


@pytest.mark.parametrize("name", [name for name in GENOTYPES if name.startswith("fig5")])
def test_reconstructions_agree_with_the_papers_text(name: str) -> None:
    genotype = GENOTYPES[name]
    assert genotype.name == name and genotype.kind == "shared"
    assert "econstruction" in genotype.origin and "not the published cell" in genotype.origin
    (node_0, node_1, node_2) = genotype.cells[0]
    assert {"conv_3x1x1", "conv_5x1x1"} <= {edge.op for edge in (*node_0, *node_1)}
    assert "conv_1x5x5" in {edge.op for edge in node_2}
    assert any(edge.op == "tdc_3x3x3" for node in genotype.cells[0] for edge in node)
    assert all(a.source != b.source and "none" not in (a.op, b.op) for a, b in genotype.cells[0])


def test_the_nine_candidates() -> None:
    assert len(SPACE) == len(set(SPACE)) == 9 and len(SPACE_WITHOUT_TDC) == 7
    assert [op.theta for op in SPACE if op.op == "tdc_3x3x3"] == [0.2, 1.0]
    assert tuple(OPS) == OP_NAMES and {op.op for op in SPACE} == set(OPS)
    assert str(SPACE[3]) == "tdc_3x3x3 theta=0.2"


@pytest.mark.parametrize("op", SPACE, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_every_operation_keeps_the_shape(op: Op, affine: bool) -> None:
    module = OPS[op.op](4, op.theta, affine)
    assert module(torch.randn(2, 4, 6, 8, 8)).shape == (2, 4, 6, 8, 8)
    kernel = op.op.split("_")[-1]
    if "x" in kernel:
        volume = math.prod(int(size) for size in kernel.split("x"))
        assert sum(p.numel() for p in module.parameters()) == 16 * volume + (8 if affine else 0)


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    values = copy.deepcopy(V1.as_dict())
    change(values)
    return values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g["cells"][0][1].pop(), "cell 0 node 1 has 1 edge"),
        (lambda g: g["cells"][0][1][0].update(source=1), "node 1: both edges read source 1"),
        (lambda g: g["cells"][0][0][0].update(source=2), "node 0: source 2 must be .* 0 to 1"),
        (lambda g: g["cells"][0][0][0].update(source=True), "source True"),
        (lambda g: g["cells"][0][2][0].update(op="none"), "node 2: 'none'"),
        (lambda g: g["cells"][0][2][0].update(op="conv_7x7x7"), "node 2: Unknown op 'conv_7x7x7'. Known: none, skip"),
        (lambda g: g["cells"][0][2][0].update(theta=0.2), "conv_1x5x5 has no theta"),
        (lambda g: g["cells"][0][0][1].pop("theta"), "tdc_3x3x3 needs a theta"),
        (lambda g: g["cells"][0][0][1].update(theta="high"), "needs a theta.*'high'"),
        (lambda g: g["cells"][0][0][0].update(colour="red"), "An edge has op, source"),
        (lambda g: g["cells"].append(g["cells"][0]), "shared genotype has 1 cell.* not 2"),
        (lambda g: g.update(kind="varied"), "varied genotype has 4 cell"),
        (lambda g: g.update(kind="odd"), "kind='odd' must be one of shared, varied"),
        (lambda g: g.update(cells=3), "cells must be lists"),
        (lambda g: g.update(cells=[[]]), "no nodes"),
        (lambda g: g.update(name=""), "name=''"),
        (lambda g: g.update(schema="autohr.genotype/9"), "schema 'autohr.genotype/9'"),
        (lambda g: g.update(alpha=1), r"unknown \['alpha'\]"),
        (lambda g: g.pop("origin"), r"missing \['origin'\]"),
    ],
)
def test_refusals_name_the_place(change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path) -> None:
    values = edited(change)
    with pytest.raises(ValueError, match=said):
        Genotype.from_dict(values)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(values))
    with pytest.raises(BadRecipe, match="bad.json.*" + said):
        read_genotype(path)


def test_a_list_is_no_genotype() -> None:
    with pytest.raises(ValueError, match="not list"):
        Genotype.from_dict([])  # type: ignore[arg-type]


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match="Unknown genotype 'fig5'. Known: fig5_plausible_v1, fig5_plausible_v2"):
        as_genotype("fig5")
