"""Every reader of a file that a user names refuses, in one line, all but a small regular file of its kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autohr.errors import AutoHRError, BadRecipe, BadWeights
from autohr.lab.evaluate.recipe import read_recipe as read_evaluation
from autohr.lab.nets._checkpoint import load_net
from autohr.lab.nets._genotype import read_genotype
from autohr.lab.search.recipe import read_search_recipe
from autohr.lab.train.recipe import read_recipe
from autohr.runtime import load_onnx
from autohr.weights.header import read_header

READERS: dict[str, tuple[Callable[[Path], object], str, type[AutoHRError], str]] = {
    "training": (read_recipe, ".toml", BadRecipe, "not TOML"),
    "search": (read_search_recipe, ".toml", BadRecipe, "not TOML"),
    "evaluation": (read_evaluation, ".toml", BadRecipe, "not TOML"),
    "genotype": (read_genotype, ".json", BadRecipe, "not JSON"),
    "weights": (load_net, ".safetensors", BadWeights, "not a whole safetensors file"),
    "onnx": (load_onnx, ".onnx", BadWeights, "not a whole ONNX file"),
    "header of weights": (read_header, ".safetensors", BadWeights, "not a whole safetensors file"),
    "header of onnx": (read_header, ".onnx", BadWeights, "not a whole ONNX file"),
}
"""Reader, suffix of its files, error, and what it says of a file of another kind."""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", READERS)
def test_only_a_small_file_of_the_kind_is_read(tmp_path: Path, name: str) -> None:
    read, suffix, kind, other = READERS[name]
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with (tmp_path / f"sparse{suffix}").open("wb") as file:
        file.truncate(10_000_000_000)
    (tmp_path / f"text{suffix}").write_text("conv and conv")
    (tmp_path / f"junk{suffix}").write_bytes(bytes(range(1, 128)))
    (tmp_path / f"latin{suffix}").write_bytes("net = 'é'".encode("latin-1"))
    (tmp_path / f"deep{suffix}").write_text(("" if suffix == ".json" else "a = ") + "[" * 100_000)
    (tmp_path / f"folder{suffix}").mkdir()
    for stem, message in (
        ("pipe", "device, pipe or socket"),
        ("sparse", "10000000000 bytes"),
        ("text", other),
        ("junk", other),
        ("latin", f"not UTF-8|{other}"),
        ("deep", f"nested too deeply|{other}"),
        ("folder", "is a folder"),
        ("none", "There is no"),
    ):
        with pytest.raises(kind, match=message) as refused:
            read(tmp_path / f"{stem}{suffix}")
        assert "\n" not in str(refused.value)
