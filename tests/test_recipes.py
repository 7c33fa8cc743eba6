"""Recipes: every file parses, mistakes are explained, and ``train`` follows one from recordings to weights."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from autohr.errors import AutoHRError, BadRecipe, BadRecording, BadWeights, UnknownName
from autohr.frontend import PAPER_CROP
from autohr.lab.datasets import augment
from autohr.lab.evaluate.recipe import read_recipe as read_evaluation
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._checkpoint import load_net, read_header
from autohr.lab.nets._export import export_beside
from autohr.lab.recipes.files import FOLDER, find_recipe, shipped_recipes
from autohr.lab.runs import open_run
from autohr.lab.search.recipe import read_search_recipe
from autohr.lab.train.loop import Progress
from autohr.lab.train.recipe import parse_recipe, read_recipe, train
from autohr.lab.train.tensorboard import tensorboard_writer
from autohr.runtime import load_onnx
from made import made_recording, pretend_cached

pytestmark = pytest.mark.usefixtures("one_thread")

# Those of searches are of another kind (test_search.py).
RECIPES = [path for name, path in shipped_recipes().items() if not name.startswith("search_")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_its_net_can_be_made(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.title
    make_net(recipe.net, recipe.net_config)
    again = parse_recipe(json.loads(json.dumps(dataclasses.asdict(recipe))))
    assert again == recipe


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_key_of_a_recipe_says_why(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    silent = [line for line in lines if "  # " not in line and not line.startswith("title")]
    # Augmentations that are off share the comment above them.
    assert {line.split()[0] for line in silent} <= {"tempo", "flip", "reverse", "crop", "colour", "gamma"}


def test_the_equal_budget_is_equal() -> None:
    """All nets have one, and they differ in nothing but the net, its loss and its learning rate."""
    recipes = {
        path.stem.removeprefix("equal_"): read_recipe(path) for path in RECIPES if path.stem.startswith("equal_")
    }
    assert {name: recipe.net for name, recipe in recipes.items()} == {name: name for name in NETS}
    first = recipes["autohr"]
    for recipe in recipes.values():
        assert (recipe.data, recipe.crop, recipe.augment) == (first.data, first.crop, first.augment)
        assert dataclasses.replace(recipe.fit, lr=first.fit.lr) == first.fit


def test_a_loss_that_would_do_nothing_is_refused(small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="i3d is trained by the absolute error of the rate; leave .loss. out"):
        train(small_recipe, ["net=i3d", "net_config={}"], out=tmp_path / "run")


def test_the_papers_recipe_is_the_papers() -> None:
    """Appendix B of the paper, and what docs/background/autohr.md reads from its other parts."""
    recipe = read_recipe(FOLDER / "autohr_paper.toml")
    fit = recipe.fit
    assert (fit.optimiser, fit.lr, fit.weight_decay, fit.batch_size, fit.epochs) == ("adam", 1e-4, 5e-5, 4, 15)
    assert (fit.schedule, fit.warmup_steps, fit.clip_norm, fit.ema) == ("constant", 0, 0, 0)
    assert (recipe.loss.variant, recipe.loss.time_weight, recipe.loss.frequency_weight) == ("author", 0.2, 1)
    assert (recipe.data.n_frames, recipe.data.size_px) == (160, 112)
    assert recipe.crop == PAPER_CROP and recipe.augment == augment.PAPER_AUGMENT
    assert make_net(recipe.net, recipe.net_config).config == make_net("autohr").config


MISTAKES: dict[Callable[[Path], object], list[tuple[str, str]]] = {
    read_recipe: [
        ('net = "autohr"\n[fit]\nsteps = 1\nlearning_rate = 1', r"\[fit\] has no field 'learning_rate'.*lr, "),
        ('net = "autohr"\n[fit]\nbatchsize = 1', "Did you mean 'batch_size'"),
        ('net = "autohr"\nlos = 1', "a recipe has no field 'los'.*Did you mean 'loss'"),
        ('net = "autohr"\n[fit]\nsteps = 1\nlr = "fast"', r"fit\.lr.*'fast'"),
        ('net = "autohr"\n[fit]\nsteps = 1\nbatch_size = 2.5', r"fit\.batch_size.*2\.5"),
        ('net = "autohr"\n[fit]\nsteps = 1\nbatch_size = true', r"fit\.batch_size"),
        ('net = "autohr"\n[fit]\nsteps = 1\nepochs = 2', "fit: .*exactly one"),
        ('net = "autohr"\n[loss]\nvariant = "papers"', r"loss\.variant.*'author', 'nll' or 'snr'"),
        ('net = "autohr"\n[data]\nsize_px = 200', "larger than crop"),
        ('net = "autohr"\n[data]\nn_frames = 158', "multiple of 4"),
        ('net = "autohr"\nfit = 3', "fit: "),
        ("title = 'x'", "net.*required"),
        ("net = ", "is not TOML"),
        ('net = "autohr"\ntitle = 2020-01-01', "use numbers, text"),
    ],
    read_search_recipe: [
        ("[search]\nalpha_ler = 1", r"\[search\] has no field 'alpha_ler'.*Did you mean 'alpha_lr'"),
        ("[space]\nkind = 'both'", "space.*'shared' or 'varied'"),
        ("[search]\norder = 3", "order"),
        ("[search]\nbatch_size = 2.5", r"search\.batch_size.*2\.5"),
        ("[data]\nsize_px = 200", "larger than crop"),
        ("[fit]\nsteps = 3", "no field 'fit'"),
    ],
    read_evaluation: [
        ("dataset = 3\nroot = 'x'", "dataset"),
        ("dataset = 'folder'", "root"),
        ("dataset = 'folder'\nroot = 'x'\nmethod = ['pos']", "Fields: dataset"),
        ("dataset =", "TOML"),
    ],
}


@pytest.mark.parametrize(
    ("read", "text", "message"), [(read, *case) for read, cases in MISTAKES.items() for case in cases]
)
def test_mistakes_are_explained_in_one_line(
    tmp_path: Path, read: Callable[[Path], object], text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value) and "mine.toml" in str(caught.value)


def test_a_recipe_changes_some_of_its_base(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('base = "_equal"\nnet = "physnet"\n[fit]\nlr = 0.5\n')
    recipe, equal = read_recipe(path), read_recipe(FOLDER / "equal_physnet.toml")
    assert recipe.fit == dataclasses.replace(equal.fit, lr=0.5) and recipe.data == equal.data
    (tmp_path / "_equal.toml").write_text("[fit]\nsteps = 7\n")
    assert read_recipe(path).fit.steps == 7
    path.write_text('base = "none"\n')
    with pytest.raises(BadRecipe, match="There is no recipe .*none"):
        read_recipe(path)


def test_overrides_change_one_field_and_are_checked_alike() -> None:
    path = FOLDER / "autohr_cpu.toml"
    changes = ["fit.lr=3e-4", "data.cache=some/where", "augment.erase=false", "net_config.channels=12", "title='t'"]
    recipe = read_recipe(path, changes)
    assert (recipe.fit.lr, recipe.data.cache, recipe.augment.erase) == (3e-4, "some/where", False)
    assert recipe.net_config["channels"] == 12 and recipe.title == "t"
    assert recipe.fit.steps == read_recipe(path).fit.steps
    for wrong, message in (("fit.lr", "section.key=value"), ("fit.ler=1", "mean 'lr'"), ("net.x=1", "not a section")):
        with pytest.raises(BadRecipe, match=message):
            read_recipe(path, [wrong])


# Following -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_leaves_weights_that_load_curves_and_a_log(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autohr.lab.train.recipe.export_beside", export_beside)
    seen: list[Progress] = []
    result = train(small_recipe, ["fit.seed=3"], out=tmp_path / "run", progress=seen.append)
    net, header = load_net(result.weights)
    assert net(torch.rand(1, 3, 64, 16, 16)).shape == (1, 64)
    assert header["net"] == "autohr" and header["licence"] == "Apache-2.0" and header["fps"] == 16.0
    assert header["training_data"]["n_subjects"] == 4
    assert header["provenance"]["recipe"]["fit"]["seed"] == 3
    assert header["measured_accuracy"]["n_windows"] == 1
    assert header["input"]["size_px"] == 16 and header["input"]["n_frames"] == 64
    assert result.curves.exists() and seen[-1].val is not None
    assert load_onnx(result.weights.with_suffix(".onnx")).header["net"] == "autohr"
    data = json.loads((tmp_path / "run" / "results" / "data.json").read_text())
    assert len(data["train"]) == 4 and len(data["val"]) == 1 and not set(data["train"]) & set(data["val"])

    def fail(weights: Path) -> None:
        raise AutoHRError("Not today.")

    monkeypatch.setattr("autohr.lab.train.recipe.export_beside", fail)
    again = train(small_recipe, ["fit.seed=3"], out=tmp_path / "run", resume=True, progress=None)
    assert again.fit == result.fit
    with pytest.raises(BadRecipe, match=r"recipe\.fit\.seed: 3 there, 4 now"):
        train(small_recipe, ["fit.seed=4"], out=tmp_path / "run", progress=None)
    train(small_recipe, ["fit.seed=4", "fit.steps=1"], out=tmp_path / "run", overwrite=True, progress=seen.append)
    assert seen[-1].note == "No ONNX file: Not today."
    assert read_header(result.weights)["provenance"]["recipe"]["fit"]["steps"] == 1


def test_the_log_goes_to_tensorboard_as_well(small_recipe: Path, tmp_path: Path) -> None:
    """Every number of the log; what is made again replaces what was there, and a hook of one's own sees the same."""
    scalars = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = tmp_path / "board"
    seen: list[Mapping[str, Any]] = []
    run = train(small_recipe, out=tmp_path / "run", progress=None, on_log=tensorboard_writer(board)).run
    train(small_recipe, out=tmp_path / "run", overwrite=True, progress=None, on_log=tensorboard_writer(board))
    train(small_recipe, out=tmp_path / "other", progress=None, on_log=seen.append)
    found = scalars.EventAccumulator(str(board))
    found.Reload()
    assert {"loss", "lr", "grad_norm", "val/mae_bpm", "val/loss"} <= set(found.Tags()["scalars"])
    log = open_run(run).read_log()
    assert [(one.step, one.value) for one in found.Scalars("loss")] == [
        (record["step"], pytest.approx(record["loss"])) for record in log if "loss" in record
    ]
    assert [record["loss"] for record in seen if "loss" in record] == [
        record["loss"] for record in log if "loss" in record
    ]


def test_tensorboard_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(AutoHRError, match=r"pip install 'autohr\[tensorboard\]'"):
        tensorboard_writer(tmp_path)


def test_resume_needs_a_run(small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(AutoHRError, match="no run folder"):
        train(small_recipe, out=tmp_path / "none", resume=True)
    with pytest.raises(ValueError, match="contradict"):
        train(small_recipe, out=tmp_path / "none", resume=True, overwrite=True)
    assert not (tmp_path / "none").exists()


def test_what_this_machine_cannot_do_is_reported(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadRecipe, match=r"no GPU here. Set fit.device=cpu"):
        train(small_recipe, ["fit.device=cuda"], out=tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BadRecipe, match=r"batch_size=2 .* 3 processes"):
        train(small_recipe, out=tmp_path / "run")


def test_what_a_net_cannot_be_is_reported(small_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Known: autohr"):
        train(small_recipe, ["net=autohrr"], out=tmp_path / "run")
    with pytest.raises(BadRecipe, match=r"\[net_config\].*no field 'chanels'"):
        train(small_recipe, ["net_config.chanels=3"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recordings_without_a_wave_need_another_loss(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = [made_recording(i, has_bvp=i > 0) for i in range(5)]
    pretend_cached(monkeypatch, mute)
    with pytest.raises(BadRecipe, match=r"1 of 5 recordings.*synthetic/0/a.*time_weight = 0"):
        train(small_recipe, out=tmp_path / "run")
    result = train(small_recipe, ["loss.time_weight=0"], out=tmp_path / "run", progress=None)
    assert result.fit.step == 2


def test_recordings_too_fast_to_judge_are_left_out_with_the_reason(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = [made_recording(i, fps=16.0 if i < 3 else 60.0) for i in range(6)]
    pretend_cached(monkeypatch, fast)
    train(small_recipe, ["data.val_share=0.9", "fit.steps=1"], out=tmp_path / "run", progress=None)
    data = json.loads((tmp_path / "run" / "results" / "data.json").read_text())
    assert len(data["train"]) == 1 and len(data["val"]) + len(data["left_out"]) == 5
    assert all("a rate needs 3.75 s" in reason for reason in data["left_out"].values()) and len(data["left_out"]) > 1

    pretend_cached(monkeypatch, fast[3:])
    with pytest.raises(BadRecipe, match="Use at least 225"):
        train(small_recipe, out=tmp_path / "other", progress=None)


def test_a_run_does_not_go_on_with_other_recordings(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_recipe, ["fit.steps=1"], out=tmp_path / "run", progress=None)
    pretend_cached(monkeypatch, [made_recording(i) for i in range(6)])
    with pytest.raises(BadRecipe, match="4 to train and 1 to validate then, 5 and 1 now"):
        train(small_recipe, ["fit.steps=1"], out=tmp_path / "run", progress=None)


def test_missing_recordings_name_the_command_that_makes_them(tmp_path: Path) -> None:
    path = FOLDER / "autohr_cpu.toml"
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(BadRecording, match=r"autohr synth .* autohr prepare synthetic .* --out"):
            train(path, [f"data.cache={root}"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_training_begins_with_the_weights_it_is_given(small_recipe: Path, tmp_path: Path) -> None:
    first = train(small_recipe, out=tmp_path / "first", progress=None)
    # A step of no size: what comes out is what went in.
    still = ["fit.lr=1e-30", "fit.weight_decay=0.0", "fit.steps=1", f"init='{first.weights}'"]
    second = train(small_recipe, still, out=tmp_path / "second", progress=None)
    (before, _), (after, header) = load_net(first.weights), load_net(second.weights)
    for (name, a), (_, b) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.allclose(a, b), name
    assert header["training_data"]["before"]["n_subjects"] == 4
    with pytest.raises(BadRecipe, match="does not hold autohr of the recipe"):
        train(small_recipe, [*still, "net_config.channels=4"], out=tmp_path / "third", progress=None)
    with pytest.raises(BadWeights, match="nothing.safetensors"):
        train(small_recipe, ["init='nothing.safetensors'"], out=tmp_path / "fourth", progress=None)


# Finding and reading the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["release", "release.toml", "recipes/release.toml", "recipes/release"])
def test_a_shipped_recipe_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "release").mkdir()
    assert find_recipe(text) == FOLDER / "release.toml"
    own = tmp_path / text
    if not own.is_dir():
        own.parent.mkdir(exist_ok=True)
        own.write_text("net = 'physnet'")
        assert find_recipe(text) == Path(text) and read_recipe(Path(text)).net == "physnet"


def test_an_unknown_recipe_names_the_known_ones_and_the_closest() -> None:
    with pytest.raises(BadRecipe, match=r"no recipe 'relaese'.*autohr_cpu, .*search_cpu.*Did you mean 'release'\?"):
        find_recipe("relaese")
    with pytest.raises(BadRecipe, match=r"no recipe 'elsewhere/release.toml'"):
        find_recipe("elsewhere/release.toml")


@pytest.mark.parametrize("read", [read_recipe, read_search_recipe])
@pytest.mark.parametrize(
    "value",
    ["[" * 5000, "[" * 300 + "]" * 300, "{a=" * 300 + "1" + "}" * 300, "9" * 6000, "x" * 6000, "[" * 90 + "]" * 90],
)
def test_an_override_that_cannot_be_is_one_short_line(value: str, read: Callable[[Path, list[str]], object]) -> None:
    recipe = Path("autohr_cpu" if read is read_recipe else "search_cpu")
    with pytest.raises(BadRecipe) as refused:
        read(recipe, [f"fit.lr={value}"])
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700


# Overrides that replace ------------------------------------------------------------------------------------------


def test_an_override_replaces_what_contradicts_it(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("net = 'physnet'\n[fit]\nepochs = 3.0\n[data]\nfold = 2\nval_subjects = ['a/1']\nval_share = 0.3\n")
    plain, stepped = read_recipe(path), read_recipe(path, ["fit.steps=7"])
    assert (plain.fit.epochs, plain.fit.steps) == (3.0, None)
    assert (stepped.fit.epochs, stepped.fit.steps) == (None, 7)
    path.write_text(path.read_text().replace("epochs = 3.0", "steps = 9"))
    assert read_recipe(path, ["fit.epochs=2"]).fit == dataclasses.replace(stepped.fit, epochs=2.0, steps=None)
    with pytest.raises(BadRecipe, match="exactly one of them"):
        read_recipe(path, ["fit.epochs=2", "fit.steps=3"])
    # A share is not silently overruled by the fold or the names of the file, nor a fold by the names.
    shared = read_recipe(path, ["data.val_share=0.4"]).data
    assert (shared.val_share, shared.fold, shared.val_subjects) == (0.4, None, ())
    folded = read_recipe(path, ["data.fold=3"]).data
    assert (folded.fold, folded.val_subjects) == (3, ())
    named = read_recipe(path, ["data.fold=3", "data.val_subjects=['b/2']"]).data
    assert (named.fold, named.val_subjects) == (3, ("b/2",))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_takes_steps_and_epochs(path: Path) -> None:
    assert read_recipe(path, ["fit.steps=2"]).fit.steps == 2
    assert read_recipe(path, ["fit.epochs=2"]).fit.epochs == 2.0
