"""The search: it finds what was planted, rests while it should, goes on bit for bit, and stops when it falls."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autohr.errors import AutoHRError, BadRecipe, BadWeights
from autohr.frontend import PAPER_CROP
from autohr.lab.datasets.folds import subject_key
from autohr.lab.nets._genotype import SPACE, Genotype, read_genotype, write_genotype
from autohr.lab.recipes.files import FOLDER
from autohr.lab.recipes.parsing import parse_as
from autohr.lab.runs import Run, create_run
from autohr.lab.search import recipe as following
from autohr.lab.search.optimiser import SearchConfig, SearchResult, find_collapse, search, unrolled_gradient
from autohr.lab.search.recipe import SearchRecipe, halves, read_search_recipe
from autohr.lab.search.selection import select_by_perturbation
from autohr.lab.search.space import (
    EDGES,
    SearchNet,
    SpaceConfig,
    cost_of,
    derive,
    edges_into,
    entropies,
    entropy_penalty,
    measure_costs,
    strengths,
)
from autohr.lab.train.loop import Progress
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.processes import rank_and_world
from autohr.lab.train.recipe import read_recipe, train
from autohr.types import Float
from loops import (
    Killed,
    MadeClip,
    MadeSource,
    kill_at,
    made_clip,
    run_in_two_processes,
    state_bytes,
    timeless_log,
    wrong_convolutions,
)
from made import made_recording, pretend_cached, write_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

FPS, N_FRAMES, SIZE_PX = 8.0, 32, 16
SPACE_OF_TEST = SpaceConfig(stem_channels=2, channels=4, partial=2, cells_per_block=1, stem_stride=2)
TIME_ONLY = LossConfig(time_weight=1.0, frequency_weight=0.0)
COSTS = measure_costs(SPACE_OF_TEST, SIZE_PX, N_FRAMES)


class FakeSource(MadeSource):
    """The brightness of a frame is a slow wave and, larger, noise that all its pixels share: no view of one frame,
    however wide, tells one from the other, and a view of several does."""

    n_windows = 4

    def __init__(self) -> None:
        self.drawn: list[tuple[int, ...]] = []

    def draw(self, seed: Sequence[int], /) -> MadeClip:
        self.drawn.append(tuple(seed))
        rng = np.random.default_rng(list(seed))

        def look(bvp: Float) -> Float:
            bright = 128 + 10 * bvp + 24 * rng.normal(size=N_FRAMES)
            return bright[:, None, None, None] + rng.normal(0, 4, (SIZE_PX, SIZE_PX, 3))

        return made_clip(rng, float(rng.uniform(45, 75)), FPS, look, N_FRAMES)


def config(**changes: Any) -> SearchConfig:
    base = SearchConfig(
        epochs=2, steps_per_epoch=2, warmup_epochs=1, batch_size=2, lr=1e-2, alpha_lr=1e-2, workers=0, collapse="warn"
    )
    return dataclasses.replace(base, **changes)


def net_of(space: SpaceConfig = SPACE_OF_TEST, seed: int = 7) -> SearchNet:
    torch.manual_seed(seed)
    return SearchNet(space)


def run_search(
    folder: Path | Run, settings: SearchConfig, net: SearchNet | None = None, **more: Any
) -> tuple[Run, SearchResult, SearchNet]:
    run = folder if isinstance(folder, Run) else create_run(folder, {})
    net = net or net_of()
    of_weights, of_alphas = more.pop("halves", (FakeSource(), FakeSource()))
    costs = more.pop("costs", COSTS)
    return run, search(net, of_weights, of_alphas, settings, run, costs=costs, loss=TIME_ONLY, **more), net


def epochs_of(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.read_log() if "epoch" in record]


# It finds what is there ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_where_only_time_helps_the_cell_is_temporal(tmp_path: Path) -> None:
    """Purely temporal operations, as strong as purely spatial ones at first, grow to 1.4 of them with each seed, and
    beyond (measured: 1.59 to 1.83), and more operations of the cells look at several frames than by chance (5 of 8).
    The strengths differ little from processor to processor; which operation comes out on top on each edge does."""
    space = dataclasses.replace(SPACE_OF_TEST, stem_channels=8, channels=8)
    costs = measure_costs(space, SIZE_PX, N_FRAMES)
    settings = config(epochs=5, steps_per_epoch=6, batch_size=8, lr=2e-2, alpha_lr=1e-1)
    names = [op.op for op in SPACE]
    n_temporal = []
    for seed in range(3):
        seeded = dataclasses.replace(settings, seed=seed)
        _, result, net = run_search(tmp_path / str(seed), seeded, net_of(space, seed), costs=costs)
        assert result.genotype is not None
        ops = [edge.op for node in result.genotype.cells[0] for edge in node]
        n_temporal.append(sum(op.startswith(("conv_3", "conv_5", "tdc_3")) for op in ops))
        shares = strengths(net.alphas.detach(), net.betas.detach())[0].mean((0, 1))
        in_time, in_space = (
            sum(float(shares[names.index(op)]) for op in pair)
            for pair in (("conv_3x1x1", "conv_5x1x1"), ("conv_1x3x3", "conv_1x5x5"))
        )
        assert in_time > 1.4 * in_space, result.genotype
    assert sum(n_temporal) > 18 * 5 / 8, n_temporal


@pytest.mark.parametrize("order", [1, 2])
def test_alphas_move_only_after_the_rest(tmp_path: Path, order: Any) -> None:
    net = net_of()
    first_alphas, first_betas = net.alphas.tolist(), net.betas.tolist()
    halves = (FakeSource(), FakeSource())
    run, result, _ = run_search(tmp_path, config(order=order, seed=5), net, halves=halves)
    rested, awake = epochs_of(run)
    assert rested["alphas"] == first_alphas and rested["betas"] == first_betas
    assert awake["alphas"] != first_alphas and awake["betas"] != first_betas
    assert [record["alpha_loss"] is None for record in run.read_log() if "loss" in record] == [True] * 2 + [False] * 2
    # Each half draws its own clips, and that of the architecture none while it rests.
    assert halves[0].drawn == [(5, step, i, 0) for step in range(4) for i in range(2)]
    assert halves[1].drawn == [(5, step, i, 1) for step in (2, 3) for i in range(2)]
    assert result.step == result.n_steps == 4 and result.stopped_by is None


def test_what_a_run_holds(tmp_path: Path) -> None:
    words: list[str] = []
    run, result, net = run_search(
        tmp_path, config(val_windows=2), guess_bpm=60.0, name="found", origin="A test.", say=words.append
    )
    assert result.genotype is not None
    assert read_genotype(run.results / "genotype.json") == result.genotype
    assert result.genotype.name == "found" and result.genotype.origin == "A test. Its cell after epoch 2 of 2."
    last = epochs_of(run)[-1]
    assert last["genotype"] == result.genotype.as_dict() and last["step"] == 4
    again = derive(torch.tensor(last["alphas"]), torch.tensor(last["betas"]), SPACE, "shared", "found", "")
    assert again.cells == result.genotype.cells
    ops, edges = strengths(net.alphas.detach().double(), net.betas.detach().double())
    assert last["op_strengths"] == ops.tolist() and last["edge_strengths"] == edges.tolist()
    assert 0 < last["alpha_entropy"] <= 1 and 0 < last["beta_entropy"] <= 1
    assert last["cost"]["parameters"] == cost_of(result.genotype, COSTS)["parameters"]
    assert last["val"]["n_windows"] == 2 and last["skips"] >= 0 and last["collapsed"] in (True, False)
    assert (
        read_genotype(run.results / "genotype_epoch_01.json").cells
        == Genotype.from_dict(epochs_of(run)[0]["genotype"]).cells
    )
    content = json.loads((run.results / "search.json").read_text())
    assert content["genotype"] == result.genotype.as_dict() and content["edges"] == [list(edge) for edge in EDGES]
    assert content["ops"] == [str(op) for op in SPACE] and content["kind"] == "shared" and content["epochs"] == 2
    assert content["n_parameters_supernet"] == sum(weight.numel() for weight in net.weights())
    assert content["wall_s"] > 0 and content["stopped_by"] is None
    assert len(words) == 2 and "the architecture rests" in words[0] and "node 2: " in words[1]


def test_the_budget_is_kept_and_draws_the_alphas_to_what_is_cheap(tmp_path: Path) -> None:
    limit = COSTS.fixed["parameters"] + 200
    spent = []
    for weight in (0.0, 1e3):
        settings = config(epochs=3, budget_parameters=limit, budget_weight=weight, alpha_lr=0.1)
        run, result, _ = run_search(tmp_path / str(weight), settings)
        assert result.genotype is not None and cost_of(result.genotype, COSTS)["parameters"] <= limit
        names = [op.op for op in SPACE]
        shares = np.mean(epochs_of(run)[-1]["op_strengths"], axis=(0, 1))
        spent.append(shares[names.index("conv_3x3x3")] / shares[names.index("conv_3x1x1")])
    assert spent[1] < spent[0]
    with pytest.raises(AutoHRError, match="No cell is within the budget"):
        run_search(tmp_path / "none", config(budget_parameters=1.0))


# The second order ------------------------------------------------------------------------------------------------


def test_second_order_is_the_gradient_through_one_step() -> None:
    """Against the exact one, by differentiating through the step; and against differences of the loss itself."""
    torch.manual_seed(0)
    lr, decay = 0.1, 0.02
    alpha = torch.randn(3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(2, 5, 2, dtype=torch.float64)

    def loss(w: Tensor, a: Tensor, at: Tensor) -> Tensor:
        return (torch.tanh(at @ w.T) @ torch.softmax(a, 0) - at.sum(1)).square().mean()

    def after(a: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(loss(weight, a, x), weight, create_graph=True)
        return loss(weight - lr * (slope + decay * weight), a, y)

    (exact,) = torch.autograd.grad(after(alpha), alpha)
    before = weight.detach().clone()
    total, (found,) = unrolled_gradient(
        lambda: loss(weight, alpha, x), lambda: loss(weight, alpha, y), [weight], [alpha], lr=lr, weight_decay=decay
    )
    (first_order,) = torch.autograd.grad(loss(weight, alpha, y), alpha)
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-6)
    assert float((first_order - exact).abs().max()) > 100 * float((found - exact).abs().max())
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(after(alpha + one) - after(alpha - one)).detach() / 2e-5 for one in step])
    torch.testing.assert_close(found, differences, rtol=1e-3, atol=1e-6)
    assert torch.equal(weight, before)
    torch.testing.assert_close(total, after(alpha).detach())


def test_second_order_leaves_weights_and_running_means_alone(tmp_path: Path) -> None:
    """An architecture that does not move leaves the weights the same, whatever its order."""
    states = []
    for order in (1, 2):
        settings = config(order=order, alpha_lr=1e-30, alpha_weight_decay=0.0)
        _, _, net = run_search(tmp_path / str(order), settings)
        states.append(net.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0 if name not in ("alphas", "betas") else 1e-6)


# It goes on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_step", [1, 3])
def test_killed_and_resumed_equals_never_killed(tmp_path: Path, at_step: int) -> None:
    settings = config(checkpoint_every=1, schedule="cosine", workers=1)
    whole, whole_result, whole_net = run_search(tmp_path / "whole", settings)

    with pytest.raises(Killed):
        run_search(tmp_path / "parts", settings, progress=kill_at(at_step + 1))
    parts, parts_result, parts_net = run_search(tmp_path / "parts", settings, net_of(seed=12345))
    assert torch.equal(parts_net.alphas, whole_net.alphas) and torch.equal(parts_net.betas, whole_net.betas)
    assert state_bytes(parts) == state_bytes(whole)
    assert parts_result == whole_result and timeless_log(parts) == timeless_log(whole)


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_signal_ends_the_search_with_a_checkpoint(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run, result, _ = run_search(tmp_path, config(), progress=stop)
    assert result.stopped_by == "SIGTERM" and result.genotype is None and result.step in (1, 2)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (run.results / "genotype.json").exists() and not (run.results / "search.json").exists()
    _, finished, _ = run_search(tmp_path, config())
    assert finished.step == 4 and finished.genotype is not None
    bytes_before = state_bytes(run)
    _, again, _ = run_search(tmp_path, config())
    assert again == finished and state_bytes(run) == bytes_before


def test_the_state_of_another_supernet_is_refused(tmp_path: Path) -> None:
    run_search(tmp_path, config())
    with pytest.raises(BadWeights, match="another net"):
        run_search(tmp_path, config(), net_of(dataclasses.replace(SPACE_OF_TEST, channels=6)))


def _search_as_one_of_two(run: Run) -> SearchNet:
    # Initial weights of its own, which the first process's replace.
    return run_search(run, config(), net_of(seed=7 + rank_and_world()[0]))[2]


@pytest.mark.slow
def test_two_processes_search_as_one_on_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms see half a batch each, so not to the last digit; the clips are the same, and so is the log."""
    two, net_of_two = run_in_two_processes(_search_as_one_of_two, tmp_path / "two", monkeypatch)
    assert isinstance(net_of_two, SearchNet)
    one, _, net_of_one = run_search(tmp_path / "one", config())
    assert [sorted(record) for record in two.read_log()] == [sorted(record) for record in one.read_log()]
    torch.testing.assert_close(net_of_two.alphas, net_of_one.alphas, rtol=0, atol=0.05)
    assert read_genotype(two.results / "genotype.json").kind == "shared"


# It falls --------------------------------------------------------------------------------------------------------


def fallen_net(op: str) -> SearchNet:
    net = net_of()
    with torch.no_grad():
        net.alphas[..., [each.op for each in SPACE].index(op)] = 5.0
    return net


@pytest.mark.parametrize(("op", "message"), [("skip", "6 of the 6 edges"), ("none", "'none' has 0.9")])
def test_collapse_is_seen(op: str, message: str) -> None:
    net = fallen_net(op)
    genotype = derive(net.alphas, net.betas, SPACE, "shared", "x", "")
    why = find_collapse(genotype, net, config())
    assert why is not None and why.startswith(message)
    sound = fallen_net("conv_3x1x1")
    assert find_collapse(derive(sound.alphas, sound.betas, SPACE, "shared", "x", ""), sound, config()) is None


def test_on_stop_the_search_ends_early_and_says_so(tmp_path: Path) -> None:
    settings = config(epochs=6, collapse="stop", patience=2)
    run, result, _ = run_search(tmp_path, settings, fallen_net("skip"))
    assert (result.stopped_by, result.epochs) == ("collapse", 3) and result.collapse is not None
    assert [record["collapsed"] for record in epochs_of(run)] == [False, True, True]
    content = json.loads((run.results / "search.json").read_text())
    assert content["stopped_by"] == "collapse" and "skips" in content["collapse"]
    assert any("No epoch after the rest was sound" in note for note in content["notes"])
    _, again, _ = run_search(tmp_path, settings, fallen_net("skip"))
    assert again == result


def test_on_stop_the_last_sound_cell_is_kept(tmp_path: Path) -> None:
    """Here it falls between the second epoch and the third."""
    net = net_of()

    def fall(progress: Progress) -> None:
        if progress.step == 5:
            with torch.no_grad():
                net.alphas[..., 1] = 5.0

    with torch.no_grad():
        net.alphas[..., 7] = 0.5
    run, result, _ = run_search(tmp_path, config(epochs=6, collapse="stop"), net, progress=fall)
    assert result.stopped_by == "collapse" and result.epochs == 4 and result.genotype is not None
    assert result.genotype.as_dict() == epochs_of(run)[1]["genotype"]
    notes = json.loads((run.results / "search.json").read_text())["notes"]
    assert any("epoch 2, the last sound one" in note for note in notes)
    warned, goes_on, _ = run_search(tmp_path / "warn", config(epochs=3), fallen_net("skip"))
    assert goes_on.stopped_by is None and goes_on.epochs == 3 and goes_on.collapse is not None
    assert epochs_of(warned)[-1]["collapsed"]


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path: Path) -> None:
    net = net_of()
    with torch.no_grad():
        net.head.weight.fill_(float("inf"))
    with pytest.raises(AutoHRError, match=r"step 0: loss nan.*Lower search\.lr"):
        run_search(tmp_path, config(), net)


def test_bf16_with_wrong_convolutions_searches_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, _, _ = run_search(tmp_path / "exact", config())
    wrong_convolutions(monkeypatch, 1e30)
    notes: list[str] = []
    run, result, _ = run_search(
        tmp_path / "bf16",
        config(precision="bf16"),
        progress=lambda progress: notes.append(progress.note) if progress.note else None,
    )
    assert result.precision == "fp32" and state_bytes(run) == state_bytes(exact)
    assert len(notes) == 1 and "search.precision = 'fp32'" in notes[0]


def upset(net: SearchNet, *bad: int) -> SearchNet:
    """Let the gradient be infinite at these passes in training: one a step, and two after the architecture's rest."""
    passes = iter(range(1000))

    def spoil(module: Any, inputs: Any, bvp: Tensor) -> None:
        if module.training and next(passes) in bad:
            bvp.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]

    net.register_forward_hook(spoil)
    return net


def test_steps_of_a_search_without_a_finite_gradient_are_left_out(tmp_path: Path) -> None:
    """Pass 1 is of the weights, pass 2 of the architecture."""
    run, result, net = run_search(tmp_path, config(), upset(net_of(), 1, 2))
    assert result.step == 4 and result.n_skipped == 2 and result.genotype is not None
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert [record["step"] for record in run.read_log() if "skipped" in record] == [2, 3]
    assert json.loads((run.results / "search.json").read_text())["n_skipped"] == 2


def test_many_steps_in_a_row_end_a_search_with_advice(tmp_path: Path) -> None:
    settings = config(steps_per_epoch=12)
    with pytest.raises(AutoHRError, match=r"step 10: .*10 in a row.*Lower search\.lr"):
        run_search(tmp_path, settings, upset(net_of(), *range(1, 100)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 2}, "0 to 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch\n.*greater than 0"),
        ({"order": 2, "precision": "bf16"}, "fp32"),
        ({"order": 3}, "order\n.*1 or 2"),
        ({"collapse": "ask"}, "'stop' or 'warn'"),
        ({"budget_parameters": 0.0}, "budget_parameters\n.*greater than 0"),
        ({"lr": -1.0}, "lr\n.*greater than 0"),
        ({"most_none": 0.0}, "most_none"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


# Recipes ---------------------------------------------------------------------------------------------------------

RECIPES = sorted(FOLDER.glob("search_*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(path: Path) -> None:
    recipe = read_search_recipe(path)
    assert recipe.title
    again = parse_as(SearchRecipe, json.loads(json.dumps(dataclasses.asdict(recipe))), "again")
    assert again == recipe


def test_the_papers_recipe_is_the_papers() -> None:
    """Sec. II-B, Appendix B, and what docs/background/autohr.md infers from PC-DARTS."""
    recipe = read_search_recipe(FOLDER / "search_paper.toml")
    how = recipe.search
    assert (how.lr, how.weight_decay, how.alpha_lr, how.alpha_weight_decay) == (1e-4, 5e-5, 6e-4, 1e-3)
    assert (how.epochs, how.warmup_epochs, how.batch_size, how.steps_per_epoch) == (12, 5, 2, None)
    assert (how.order, how.clip_norm, how.schedule, how.most) == (1, 5.0, "constant", {})
    assert (recipe.data.n_frames, recipe.data.size_px, recipe.data.fold) == (128, 112, 1)
    assert recipe.space == SpaceConfig() and recipe.crop == PAPER_CROP
    assert (recipe.space.channels, recipe.space.stem_channels, recipe.space.partial) == (16, 8, 4)
    assert (recipe.loss.variant, recipe.loss.time_weight, recipe.loss.frequency_weight) == ("author", 0.2, 1)


@pytest.fixture
def small_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of a search of two epochs, and five recordings in place of a cache on disk."""
    pretend_cached(monkeypatch, [made_recording(subject, fps=FPS) for subject in range(5)])
    (tmp_path / "cache").mkdir()
    path = tmp_path / "tiny.toml"
    path.write_text(
        f"""
        title = "A test"
        [space]
        stem_channels = 2
        channels = 4
        cells_per_block = 1
        stem_stride = 2
        [data]
        cache = '{tmp_path / "cache"}'
        n_frames = 32
        size_px = 16
        [crop]
        size_px = 32
        [loss]
        variant = "nll"
        [search]
        epochs = 2
        steps_per_epoch = 1
        warmup_epochs = 1
        collapse = "warn"
        """
    )
    return path


def test_a_recipe_is_followed_to_a_genotype_that_trains(small_search: Path, tmp_path: Path) -> None:
    found = following.search(small_search, ["search.seed=3"], out=tmp_path / "run", progress=None)
    assert found.search.genotype is not None and read_genotype(found.genotype) == found.search.genotype
    assert "recipe tiny, shared, with TDC, on synthetic, seed 3" in found.search.genotype.origin
    run_config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert run_config["kind"] == "search" and run_config["recipe"]["search"]["seed"] == 3
    data = json.loads((tmp_path / "run" / "results" / "data.json").read_text())
    assert len(data["weights"]) == len(data["architecture"]) == 2
    assert not set(data["weights"]) & set(data["architecture"])
    assert [why for why in data["left_out"].values() if "held out" in why] == [
        "held out by [data], to judge what comes out"
    ]

    again = following.search(small_search, ["search.seed=3"], out=tmp_path / "run", resume=True, progress=None)
    assert again == found
    with pytest.raises(BadRecipe, match=r"recipe\.search\.seed: 3 there, 4 now"):
        following.search(small_search, ["search.seed=4"], out=tmp_path / "run", progress=None)

    training = write_recipe(tmp_path)
    given = [f"net_config.genotype={found.genotype}", "fit.steps=1"]
    # The cell itself goes into the recipe, so that a run holds it when the file is gone.
    assert read_recipe(training, given).net_config["genotype"] == found.search.genotype.as_dict()
    result = train(training, given, out=tmp_path / "trained", progress=None)
    assert result.weights.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There is no genotype"), ("{}", "is not a genotype: .*missing"), ("[", "is not JSON")],
)
def test_a_genotype_file_that_is_none_is_explained(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "cell.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadRecipe, match=message):
        read_recipe(FOLDER / "autohr_cpu.toml", [f"net_config.genotype={file}"])


def test_a_recipe_with_a_genotype_file_is_the_recipe_with_the_genotype(tmp_path: Path) -> None:
    genotype = derive(torch.randn(1, 9, 9), torch.randn(1, 9), SPACE, "shared", "mine", "A test.")
    write_genotype(tmp_path / "cell.json", genotype)
    recipe = read_recipe(FOLDER / "autohr_cpu.toml", [f"net_config.genotype={tmp_path / 'cell.json'}"])
    assert Genotype.from_dict(recipe.net_config["genotype"]) == genotype


def test_halves_share_no_subject_and_hold_all() -> None:
    recordings = [dataclasses.replace(made_recording(i), subject=str(i // 2)) for i in range(12)]
    of_weights, of_alphas = halves(SearchRecipe(), recordings)
    assert len(of_weights) == len(of_alphas) == 6
    assert not {subject_key(one) for one in of_weights} & {subject_key(one) for one in of_alphas}
    assert halves(SearchRecipe(), recordings) == (of_weights, of_alphas)
    with pytest.raises(BadRecipe, match="one subject"):
        halves(SearchRecipe(), recordings[:2])


# Mended forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shared", "varied"])
def test_perturbation_keeps_what_the_supernet_needs_whatever_its_alphas_say(kind: Any) -> None:
    """The loss falls with the shares of planted operations and edges; alphas and betas favour others."""
    space = dataclasses.replace(SPACE_OF_TEST, kind=kind)
    net = net_of(space)
    rng = np.random.default_rng(1)
    planted = rng.integers(1, len(space.ops), (space.n_sets, len(EDGES)))
    worth = torch.from_numpy(rng.permutation(space.n_sets * len(EDGES)).reshape(space.n_sets, -1)).float() + 1
    with torch.no_grad():
        net.alphas[:, :, 0] += 2.0
    before = net.alphas.tolist(), net.betas.tolist()

    def loss() -> float:
        ops, edges = strengths(net.alphas.detach(), net.betas.detach())
        needed = torch.gather(ops, 2, torch.from_numpy(planted)[..., None])[..., 0]
        return -float((needed + worth * edges).sum())

    cells = select_by_perturbation(net, loss, np.random.default_rng(0))
    assert (net.alphas.tolist(), net.betas.tolist()) == before
    for number, cell in enumerate(cells):
        for n, node in enumerate(cell):
            rows = sorted(sorted(edges_into(n), key=lambda row: -float(worth[number, row]))[:2])
            ops = [space.ops[planted[number, row]] for row in rows]
            assert [(edge.op, edge.theta, edge.source) for edge in node] == [
                (op.op, op.theta, EDGES[row][1]) for op, row in zip(ops, rows, strict=True)
            ]
    Genotype("x", kind, cells, "")


def test_a_search_may_end_by_perturbation_and_resumes_to_the_same_cell(tmp_path: Path) -> None:
    settings = config(select="perturbation", select_batches=1)
    run, result, _ = run_search(tmp_path, settings)
    assert result.genotype is not None and "Selected by perturbation" in result.genotype.origin
    _, again, _ = run_search(run, settings)
    assert again.genotype == result.genotype


def test_penalties_decide_and_shrink_what_the_loss_leaves_open(tmp_path: Path) -> None:
    many = {"epochs": 6, "alpha_lr": 3e-2, "seed": 1}
    nets = {
        name: run_search(tmp_path / name, config(**many, **more))[2]
        for name, more in {"none": {}, "entropy": {"entropy_weight": 20.0}, "decay": {"beta_decay": 50.0}}.items()
    }
    left = {name: sum(entropies(net.alphas, net.betas)) for name, net in nets.items()}
    assert left["entropy"] < left["none"]
    sizes = {name: float(torch.logsumexp(net.alphas.detach(), -1).mean()) for name, net in nets.items()}
    assert sizes["decay"] < sizes["none"]


def test_the_entropy_penalty_is_the_sum_of_the_entropies() -> None:
    net = net_of()
    assert entropy_penalty(net.alphas, net.betas).item() == pytest.approx(sum(entropies(net.alphas, net.betas)), 1e-5)


def test_the_channels_that_pass_are_closed_step_by_step(tmp_path: Path) -> None:
    seen: list[float] = []
    net = net_of()
    net.register_forward_hook(lambda module, given, out: seen.append(module.passing))
    run_search(tmp_path, config(bypass_end=0.0, epochs=3), net)
    # Two epochs after a rest of one, of two steps each, an architecture's and a weights' forward in each.
    assert seen[:2] == [1.0, 1.0] and seen[-1] == 0.0 and seen == sorted(seen, reverse=True)


def test_perturbation_with_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="knows no budget"):
        config(select="perturbation", budget_parameters=1e5)
