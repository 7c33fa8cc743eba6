"""Other packages that add a method or a net by an entry point: a folder with their metadata stands for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from autohr.errors import AutoHRError, UnknownName
from autohr.methods import METHODS, Method, load_method
from autohr.plugins import Table
from autohr.types import FaceClip
from made import run

MODULE = """
from dataclasses import dataclass, replace
from autohr.methods import METHODS, Method
from autohr.types import Pulse

def red_wave(clip):
    return Pulse(bvp=clip.rgb[:, 0], fps=clip.fps, start_s=clip.start_s)

RED = Method("red", "RED", "mean skin colour", "a test", "exact", red_wave)
GREEN = replace(RED, name="green")
NOT_A_METHOD = 3
"""
NET_MODULE = """
from dataclasses import dataclass
from torch import nn
from autohr.lab.nets import NetSpec

@dataclass(frozen=True)
class Config:
    channels: int = 2

class Mean(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, clip):
        return clip.mean((1, 3, 4))

MEAN = NetSpec("mean", "Mean", Config, Mean, "wave")
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a package with entry points, as an installer leaves it, and let the tables be read anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "red_package", None)
    monkeypatch.delitem(sys.modules, "red_package")

    def make(entries: dict[str, str], package: str = "red_package", group: str = "autohr.methods") -> None:
        (tmp_path / "red_package.py").write_text(NET_MODULE if group == "autohr.nets" else MODULE)
        folder = tmp_path / f"{package}-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))

    return make


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Method]:
    """The table of methods as a new process has it, in every place that uses it."""
    fresh = Table("autohr.methods", {name: METHODS[name] for name in ("green", "pos")})
    monkeypatch.setattr("autohr.methods.METHODS", fresh)
    return fresh


def clip() -> FaceClip:
    rgb = 100 + np.random.default_rng(0).normal(size=(200, 3))
    nothing = np.full((200, 1, 3), np.nan)
    return FaceClip(20.0, 0.0, rgb, nothing, nothing[:, 0], np.zeros((200, 4)), np.ones(200, dtype=bool))


def test_a_method_of_another_package_is_one_like_ours(install: Install, methods: Mapping[str, Method]) -> None:
    install({"red": "red_package:RED"})
    assert list(methods) == ["green", "pos", "red"] and len(methods) == 3 and "red" in methods
    assert "red_package" not in sys.modules, "imported before anybody asked for it"
    red = load_method("red")
    assert red is methods["red"] and (red.title, red.package) == ("RED", "red_package 1.5")
    assert methods["pos"].package == "autohr"
    np.testing.assert_array_equal(red.wave(clip()).bvp, clip().rgb[:, 0])
    with pytest.raises(UnknownName, match="Known: green, pos, red. Did you mean 'red'"):
        load_method("redd")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"red": "red_package:MISSING"}, "'red' of red_package 1.5 .*cannot be loaded: .*MISSING"),
        ({"red": "no_such_module:RED"}, "cannot be loaded: No module named 'no_such_module'"),
        ({"red": "red_package:NOT_A_METHOD"}, "is not a Method of that name"),
        ({"scarlet": "red_package:RED"}, "is not a Method of that name"),
        ({"green": "red_package:GREEN"}, "adds 'green' to autohr.methods, a name that autohr has already"),
    ],
)
def test_a_broken_plugin_is_named_and_ours_still_work(
    install: Install, methods: Mapping[str, Method], entries: dict[str, str], message: str
) -> None:
    install(entries)
    with pytest.raises(AutoHRError, match=message) as caught:
        list(methods.values())
    assert "\n" not in str(caught.value) and "ninstall it" in str(caught.value)
    assert load_method("pos").name == "pos" and load_method("green").package == "autohr"


def test_two_packages_with_one_name(install: Install, methods: Mapping[str, Method]) -> None:
    install({"red": "red_package:RED"})
    install({"red": "red_package:GREEN"}, package="other_package")
    with pytest.raises(AutoHRError, match="a name that .*_package 1.5 has already"):
        list(methods)


def test_the_command_line_knows_it(
    install: Install, methods: Mapping[str, Method], capsys: pytest.CaptureFixture[str]
) -> None:
    install({"red": "red_package:RED"})
    code, out, err = run(capsys, "list", "methods")
    assert code == 0 and err == "" and "RED" in out and "red_package 1.5" in out


def test_a_net_of_another_package_can_be_made_saved_and_measured_with(install: Install, tmp_path: Path) -> None:
    import torch

    from autohr.lab import nets

    install({"mean": "red_package:MEAN"}, group="autohr.nets")
    table = Table("autohr.nets", {"physnet": nets.NETS["physnet"]})
    assert list(table) == ["physnet", "mean"] and table["mean"].package == "red_package 1.5"
    net = table["mean"].build(nets.make_config(table["mean"], {"channels": 3}))
    assert net(torch.ones(1, 3, 8, 16, 16)).shape == (1, 8)
