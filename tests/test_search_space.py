"""The supernet and what is derived from it: shapes, both forms, shuffle, cost, budget, chance."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autohr.errors import AutoHRError
from autohr.lab.nets._genotype import GENOTYPES, N_BLOCKS, SPACE, SPACE_WITHOUT_TDC, Edge, Genotype, Op
from autohr.lab.nets._operations import OPS
from autohr.lab.nets.autohr import AutoHR
from autohr.lab.search.space import (
    EDGES,
    N_NODES,
    READINGS,
    Budget,
    Costs,
    SearchCell,
    SearchNet,
    SpaceConfig,
    _Reader,
    cost_of,
    count_skips,
    derive,
    describe_cell,
    entropies,
    expected_cost,
    measure_costs,
    random_genotype,
    shuffle_channels,
    strengths,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SpaceConfig(stem_channels=2, channels=4, partial=2, cells_per_block=1, stem_stride=2)


def small(seed: int = 0, **changes: Any) -> SearchNet:
    torch.manual_seed(seed)
    net = SearchNet(SpaceConfig(**{**vars(SMALL), **changes}))
    with torch.no_grad():
        net.alphas.normal_()
        net.betas.normal_()
    return net


def form(net: SearchNet, *, fused: bool) -> SearchNet:
    for cell in net.modules():
        if isinstance(cell, SearchCell):
            cell.fused = fused
    return net


# Supernet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "n_sets"), [("shared", 1), ("varied", N_BLOCKS)])
@pytest.mark.parametrize(("tdc", "n_ops"), [(True, 9), (False, 7)])
def test_shapes(kind: str, n_sets: int, tdc: bool, n_ops: int) -> None:
    net = small(kind=kind, tdc=tdc)
    assert net.alphas.shape == (n_sets, 9, n_ops) and net.betas.shape == (n_sets, 9)
    assert {"alphas", "betas"} <= set(net.state_dict())
    assert len(net.weights()) + 2 == len(list(net.parameters()))
    for n_frames in (8, 10):
        assert net(torch.rand(2, 3, n_frames, 16, 20)).shape == (2, n_frames)
    assert len(EDGES) == 9 and [source for pair in READINGS for source in pair] == [0, 1, 2, 3]


def test_the_papers_supernet_has_as_many_parameters_as_the_figure_gives() -> None:
    net = SearchNet()
    # About 0.17 M with K=4, C=16 (docs/background/autohr.md).
    assert 0.165e6 < sum(weight.numel() for weight in net.weights()) < 0.175e6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes", [{}, {"partial": 1}, {"partial": 4}, {"kind": "varied"}, {"tdc": False}])
def test_fused_equals_plain(changes: dict[str, Any], training: bool) -> None:
    """Output in float32; in float64 also gradients and running means, whose last digits batch norms of few numbers
    would shake."""
    net = small(**changes)
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if "mean_" in name or "var_" in name:
                buffer.add_(torch.rand_like(buffer))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    clip = torch.rand(2, 3, 12, 16, 16)
    pull = torch.randn(2, 12)
    for dtype, atol in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        found = []
        for fused in (False, True):
            net.load_state_dict(state)
            form(net.to(dtype), fused=fused).train(training)
            bvp = net(clip.to(dtype))
            gradients = torch.autograd.grad((bvp * pull).sum(), list(net.parameters()))
            found.append((bvp.detach(), [*gradients, *(buffer.clone() for buffer in net.buffers())]))
        (plain, plain_values), (fused_bvp, fused_values) = found
        torch.testing.assert_close(fused_bvp, plain, rtol=atol, atol=atol)
    for one, two in zip(plain_values, fused_values, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-8)


def test_a_mixed_edge_is_the_sum_of_the_operations_that_a_network_is_built_of() -> None:
    """Against ``nets/operations.py``, with the same weights."""
    torch.manual_seed(1)
    channels, rows = 3, [row for row, (_, source) in enumerate(EDGES) if source in (0, 1)]
    reader = _Reader(SPACE, rows, channels)
    shares = torch.rand(len(rows), len(SPACE))
    states = torch.randn(2, 2 * channels, 6, 7, 7)
    sums = [torch.zeros(2, channels, 6, 7, 7) for _ in range(N_NODES)]
    for place, row in enumerate(rows):
        node, source = EDGES[row]
        x = states[:, source * channels : (source + 1) * channels]
        for index, op in enumerate(SPACE):
            built = OPS[op.op](channels, op.theta, False)
            if isinstance(built, nn.Sequential):
                weight = built[1].get_parameter("weight")
                name = next(name for name in reader.weights if _op_of(name) == op)
                with torch.no_grad():
                    weight.copy_(reader.weights[name][place])
            sums[node] = sums[node] + shares[place, index] * built(x)
    for out in (reader.plain(states, shares), reader.fused(states, shares)):
        torch.testing.assert_close(out, torch.cat(sums, 1), rtol=1e-4, atol=1e-5)


def _op_of(name: str) -> Op:
    return next(op for op in SPACE if name == op.op or (op.theta and name == f"{op.op}_{op.theta:g}".replace(".", "_")))


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (4, 2), (16, 2), (16, 4), (32, 4), (8, 8)])
def test_the_shuffle_brings_channels_of_every_group_to_the_operations(channels: int, groups: int) -> None:
    """A permutation, and what operations see next has a share of all that passed them and of what they made."""
    x = torch.arange(float(channels)).view(1, channels, 1, 1, 1)
    order = shuffle_channels(x, groups).flatten().int().tolist()
    seen = channels // groups
    assert order == [g * seen + i for i in range(seen) for g in range(groups)]
    assert {channel // seen for channel in order[:seen]} == set(range(min(seen, groups)))


def test_the_operations_of_a_node_see_channels_that_passed_those_before() -> None:
    """Without the shuffle, what passes once would pass for ever: only the first channels would ever be worked on."""
    torch.manual_seed(0)
    cell = SearchCell(SpaceConfig(channels=16, partial=4), (16, 16), (1, 1, 1), fused=True)
    cell.from_before_last, cell.from_last = nn.Sequential(), nn.Sequential()
    before_last, last = torch.randn(2, 1, 16, 4, 6, 6).requires_grad_().unbind()
    seen: list[Tensor] = []
    reader = cell.readers[1]
    assert isinstance(reader, _Reader)
    fused = reader.fused
    reader.fused = lambda active, shares: fused(seen.append(active) or active, shares)  # type: ignore[method-assign,func-returns-value]
    cell(before_last, last, torch.rand(9, 9), torch.rand(9))
    for state in (before_last, last):
        (slope,) = torch.autograd.grad(seen[0].square().sum(), state, retain_graph=True)
        reached = {channel for channel in range(16) if float(slope[:, channel].abs().max()) > 0}
        assert reached == {0, 1, 2, 3, 4, 8, 12}


def test_shares_add_up_and_entropy_runs_from_one_to_zero() -> None:
    torch.manual_seed(0)
    alphas, betas = torch.randn(4, 9, 9), torch.randn(4, 9)
    ops, edges = strengths(alphas, betas)
    torch.testing.assert_close(ops.sum(-1), torch.ones(4, 9))
    for node in range(N_NODES):
        rows = [row for row, (n, _) in enumerate(EDGES) if n == node]
        torch.testing.assert_close(edges[:, rows].sum(-1), torch.ones(4))
    assert entropies(0 * alphas, 0 * betas) == pytest.approx((1.0, 1.0))
    assert entropies(1e4 * alphas, 1e4 * betas) == pytest.approx((0.0, 0.0), abs=1e-6)


# Derivation ------------------------------------------------------------------------------------------------------


def planted() -> tuple[Tensor, Tensor, Genotype]:
    """alphas and betas by hand, and the cell that the rule gives, also by hand."""
    alphas, betas = torch.zeros(1, 9, 9), torch.zeros(1, 9)
    names = [str(op) for op in SPACE]
    for row, op in enumerate(
        (
            "conv_3x1x1",  # node 0 from 0
            "tdc_3x3x3 theta=0.2",  # node 0 from 1
            "skip",  # node 1 from 0
            "conv_1x5x5",  # node 1 from 1
            "conv_5x1x1",  # node 1 from 2
            "tdc_3x3x3 theta=1",  # node 2 from 0
            "conv_1x3x3",  # node 2 from 1
            "conv_3x3x3",  # node 2 from 2
            "skip",  # node 2 from 3
        )
    ):
        alphas[0, row, names.index(op)] = 2.0
    betas[0, [3, 4]] = 1.0
    betas[0, [5, 8]] = 1.0
    cell = (
        (Edge("conv_3x1x1", 0), Edge("tdc_3x3x3", 1, 0.2)),
        (Edge("conv_1x5x5", 1), Edge("conv_5x1x1", 2)),
        (Edge("tdc_3x3x3", 0, 1.0), Edge("skip", 3)),
    )
    return alphas, betas, Genotype("hand", "shared", (cell,), "by hand")


def test_derived_equals_hand_derived_and_builds() -> None:
    alphas, betas, by_hand = planted()
    found = derive(alphas, betas, SPACE, "shared", "hand", "by hand")
    assert found == by_hand
    with torch.device("meta"):
        assert AutoHR(SMALL.net_config(found))(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 8)
    assert describe_cell(found)[1] == "node 1: conv_1x5x5 of c_k-1 + conv_5x1x1 of node 0"


def test_betas_change_the_derivation() -> None:
    """Left out, this would be DARTS: an edge that is strong in its operation alone would win."""
    alphas, betas, by_hand = planted()
    without = derive(alphas, torch.zeros_like(betas), SPACE, "shared", "hand", "by hand")
    assert without != by_hand
    betas[0, 2] = 5.0
    assert 0 in {edge.source for edge in derive(alphas, betas, SPACE, "shared", "x", "").cells[0][1]}


def test_none_takes_its_share_and_is_never_kept() -> None:
    alphas, betas, by_hand = planted()
    alphas[..., 0] = 9.0
    assert derive(alphas, betas, SPACE, "shared", "hand", "by hand") == by_hand
    # On one edge alone it weakens that edge.
    alphas[..., 0] = 0.0
    alphas[0, 3, 0] = 9.0
    assert {edge.source for edge in derive(alphas, betas, SPACE, "shared", "x", "").cells[0][1]} == {0, 2}


def test_ties_go_to_the_first() -> None:
    found = derive(torch.zeros(1, 9, 7), torch.zeros(1, 9), SPACE_WITHOUT_TDC, "shared", "x", "")
    # At each node two equal edges, each with the first operation after none.
    assert found.cells[0] == ((Edge("skip", 0), Edge("skip", 1)),) * 3
    assert count_skips(found) == 6


def test_varied_derives_one_cell_for_each_block() -> None:
    alphas, betas, by_hand = planted()
    four = torch.cat([alphas, torch.zeros(3, 9, 9)])
    found = derive(four, betas.repeat(4, 1), SPACE, "varied", "x", "")
    assert found.cells[0] == by_hand.cells[0] != found.cells[1]
    with pytest.raises(ValueError, match=r"\(1, 9, 9\)"):
        derive(four, betas, SPACE, "shared", "x", "")


@pytest.mark.parametrize("space", [SPACE, SPACE_WITHOUT_TDC], ids=["nine", "seven"])
def test_random_cells_are_valid_and_of_all_kinds(space: tuple[Op, ...]) -> None:
    rng = np.random.default_rng(0)
    drawn = [random_genotype(space, "shared", rng, f"r{i}") for i in range(200)]
    ops = {Op(edge.op, edge.theta) for one in drawn for node in one.cells[0] for edge in node}
    assert ops == set(space) - {Op("none")}
    pairs = [tuple(edge.source for edge in one.cells[0][2]) for one in drawn]
    assert len(set(pairs)) == 6 and max(pairs.count(pair) for pair in set(pairs)) < 60
    assert random_genotype(space, "varied", rng, "v").kind == "varied"


# Cost ------------------------------------------------------------------------------------------------------------

SIZE_PX, N_FRAMES = 20, 16


@pytest.fixture(scope="module")
def costs() -> Costs:
    return measure_costs(SMALL, SIZE_PX, N_FRAMES)


@pytest.mark.parametrize("kind", ["shared", "varied"])
def test_counted_cost_is_that_of_the_network(kind: Any, costs: Costs) -> None:
    genotype = random_genotype(SPACE, kind, np.random.default_rng(3), "x")
    with torch.device("meta"):
        net = AutoHR(SMALL.net_config(genotype)).eval()
        clip = torch.zeros(1, 3, N_FRAMES, SIZE_PX, SIZE_PX)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(clip)
    content = cost_of(genotype, costs)
    assert content["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    assert content["gflop_per_s"] == pytest.approx(counter.get_total_flops() * 30 / N_FRAMES / 1e9, rel=1e-9)
    assert Costs(**json.loads(json.dumps(asdict(costs)))) == costs


def test_expected_cost_is_the_cost_where_all_is_decided(costs: Costs) -> None:
    """Both edges of a node by equal betas, one operation each; and it leads gradients to cheaper ones."""
    genotype = GENOTYPES["fig5_plausible_v1"]
    alphas, betas = torch.zeros(1, 9, 9), torch.full((1, 9), -60.0)
    for node, edges in enumerate(genotype.cells[0]):
        for edge in edges:
            row = EDGES.index((node, edge.source))
            alphas[0, row, SPACE.index(Op(edge.op, edge.theta))] = 60.0
            betas[0, row] = 0.0
    for metric in ("parameters", "gflop_per_s"):
        expected = expected_cost(alphas, betas, costs, metric)
        assert float(expected) == pytest.approx(cost_of(genotype, costs)[metric], rel=1e-5)
    free = torch.zeros(1, 9, 9, requires_grad=True)
    (slope,) = torch.autograd.grad(Budget({"parameters": 1.0}, costs).penalty(free, torch.zeros(1, 9)), free)
    names = [op.op for op in SPACE]
    assert bool((slope[..., names.index("conv_3x3x3")] > slope[..., names.index("conv_3x1x1")]).all())
    assert bool((slope[..., names.index("skip")] < 0).all())
    assert float(Budget({"parameters": 1e9}, costs).penalty(free.detach(), torch.zeros(1, 9))) == 0


@pytest.mark.parametrize("metric", ["parameters", "gflop_per_s"])
def test_over_budget_the_cell_is_cheapened_and_says_so(metric: str, costs: Costs) -> None:
    alphas, betas, by_hand = planted()
    full, least = cost_of(by_hand, costs)[metric], costs.fixed[metric]
    before = by_hand
    for share in (0.8, 0.5, 0.1):
        limit = least + share * (full - least)
        found = derive(alphas, betas, SPACE, "shared", "x", "Of a test.", Budget({metric: limit}, costs))
        assert cost_of(found, costs)[metric] <= limit < cost_of(before, costs)[metric]
        assert found.origin.startswith("Of a test. Cheapened") and f"at most {limit:.4g}" in found.origin
        before = found
    enough = derive(alphas, betas, SPACE, "shared", "hand", "by hand", Budget({metric: full}, costs))
    assert enough == by_hand
    with pytest.raises(AutoHRError, match="No cell is within the budget"):
        derive(alphas, betas, SPACE, "shared", "x", "", Budget({metric: 0.9 * least}, costs))


def test_cheapening_takes_the_change_that_loses_least(costs: Costs) -> None:
    """Two equal dear edges, of one of which a cheap operation is nearly as good: that one changes."""
    alphas, betas, by_hand = planted()
    names = [op.op for op in SPACE]
    alphas[0, 5, names.index("conv_3x1x1")] = 1.99
    limit = cost_of(by_hand, costs)["parameters"] - 1
    found = derive(alphas, betas, SPACE, "shared", "x", "", Budget({"parameters": limit}, costs))
    assert found.cells[0][2][0] == Edge("conv_3x1x1", 0) and found.cells[0][:2] == by_hand.cells[0][:2]


def test_latency_is_measured_on_this_machine() -> None:
    measured = measure_costs(SMALL, SIZE_PX, N_FRAMES, latency=True)
    table = measured.per_op["latency_ms_per_s"]
    assert measured.fixed["latency_ms_per_s"] > 0
    for row in table:
        assert row[0] == row[1] == 0 and all(value > 0 and math.isfinite(value) for value in row[2:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 6, "partial": 4}, "multiple of partial=4"),
        ({"kind": "both"}, "'shared' or 'varied'"),
        ({"input": "grey"}, "Known: rgb"),
        ({"widen": 0}, "widen\n.*greater than"),
    ],
)
def test_spaces_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpaceConfig(**changes)


# One input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_cell_with_one_input_reads_the_last_cell_alone(training: bool) -> None:
    """Six edges, none from c_k-2; both forms agree; what is derived is such a cell and can be built."""
    net = small(n_inputs=1)
    net.train(training)
    clip = torch.rand(2, 3, 8, 16, 16)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = []
    for fused in (False, True):
        net.load_state_dict(state)
        found.append(form(net, fused=fused)(clip))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)

    assert [EDGES[row] for row in net.space.rows] == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    _, edges = strengths(net.alphas, net.betas, 1)
    absent = [row for row in range(len(EDGES)) if row not in net.space.rows]
    assert not bool(edges[:, absent].any()) and float(edges.detach()[:, 1]) == 1
    found[1].sum().backward()
    assert net.betas.grad is not None and bool(torch.isfinite(net.betas.grad).all())
    assert not bool(net.betas.grad[:, absent].any())
    assert entropies(0 * net.alphas, 0 * net.betas, 1) == pytest.approx((1.0, 1.0))

    genotype = derive(net.alphas, net.betas, net.space.ops, "shared", "one", "A test.", n_inputs=1)
    drawn = random_genotype(SPACE, "shared", np.random.default_rng(1), "drawn", n_inputs=1)
    for one in (genotype, drawn):
        assert one.n_inputs == 1 and [len(node) for node in one.cells[0]] == [1, 2, 2]
        assert Genotype.from_dict(one.as_dict()) == one
        built = AutoHR(net.space.net_config(one))
        assert built(clip).shape == (2, 8)
        assert not any("before_last" in name for name, _ in built.named_parameters())
        assert describe_cell(one)[0].count("c_k-1") == 1


def test_the_budget_of_one_input_counts_five_edges() -> None:
    space = SpaceConfig(n_inputs=1, channels=4, stem_channels=2)
    costs = measure_costs(space, 16, 8)
    genotype = random_genotype(space.ops, "shared", np.random.default_rng(3), "x", 1)
    net = AutoHR(space.net_config(genotype))
    assert cost_of(genotype, costs)["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    # Decided architecture parameters cost what their cell costs.
    alphas, betas = torch.full((1, 9, 9), -40.0), torch.full((1, 9), -40.0)
    for node, edges in enumerate(genotype.cells[0]):
        for edge in edges:
            row = EDGES.index((node, edge.source))
            alphas[0, row, space.ops.index(Op(edge.op, edge.theta))] = betas[0, row] = 40.0
    expected = float(expected_cost(alphas, betas, costs, "parameters", 1))
    assert expected == pytest.approx(cost_of(genotype, costs)["parameters"], rel=1e-5)
    cheap = derive(alphas, betas, space.ops, "shared", "x", "", Budget({"parameters": 0.9 * expected}, costs, 1), 1)
    assert cost_of(cheap, costs)["parameters"] <= 0.9 * expected and cheap.n_inputs == 1


def test_a_cell_may_not_mix_one_input_and_two() -> None:
    one = random_genotype(SPACE, "shared", np.random.default_rng(1), "drawn", n_inputs=1).as_dict()
    one["cells"][0][1][0]["source"] = 0
    with pytest.raises(ValueError, match="source 0 must be a whole number from 1 to 2"):
        Genotype.from_dict(one)
    two = random_genotype(SPACE, "shared", np.random.default_rng(1), "drawn").as_dict()
    two["cells"][0][1] = two["cells"][0][1][:1]
    with pytest.raises(ValueError, match="node 1 has 1 edge"):
        Genotype.from_dict(two)
