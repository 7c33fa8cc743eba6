"""Weights on disk: equal after a round trip, and one clear line for every way in which a file can be wrong."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autohr.errors import BadWeights
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._checkpoint import _checksum, load_net, save_weights
from autohr.lab.nets._inference import as_channels_last, fold
from autohr.weights.header import HEADER, read_header

QUICK: dict[str, Any] = {"hrcnn": {"channels": [1, 2, 2, 2]}, "rhythmnet": {"hidden": 8}}
"""Nets whose full size is too slow for a test -> a config."""
TINY = {"channels": 3, "stem_channels": 3, "input": "difference"}
HEADER_GIVEN = {
    "input": {"size_px": 64, "n_frames": 160},
    "fps": 30.0,
    "training_data": ["synthetic, seed 1"],
    "licence": "Apache-2.0",
    "provenance": {"run": "test"},
    "measured_accuracy": None,
}


def tiny_net() -> nn.Module:
    torch.manual_seed(0)
    net = make_net("autohr", TINY)
    net(torch.rand(2, 3, 8, 16, 16))  # one step of training moves the batch norms' means
    return net.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_net(), name="autohr", header=HEADER_GIVEN)
    return path


def parts_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safetensors.safe_open(path, "pt") as file:
        return load_file(path), dict(file.metadata())


def refusal(path: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        load_net(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 400
    return message


@pytest.mark.parametrize("name", NETS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = as_channels_last(make_net(name, QUICK.get(name)))
    # Two clips: of one, the last batch norms would see a single number.
    clip = torch.rand(2, 3, 8, 32, 32)
    net(clip)
    path = tmp_path / "net.safetensors"
    save_weights(path, net, name=name, header=HEADER_GIVEN)
    random_before = torch.get_rng_state()
    again, header = load_net(path)
    assert torch.equal(torch.get_rng_state(), random_before), "loading must not disturb a seeded run"
    assert not again.training and again.config == net.config and type(again) is type(net)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    with torch.inference_mode():
        assert torch.allclose(again(clip), net.eval()(clip), atol=1e-5)
    assert header == read_header(path)
    assert [path] == list(tmp_path.iterdir()), "nothing but the file is left"


def test_header_says_everything(saved: Path) -> None:
    header = read_header(saved)
    assert set(header) == {"schema", *HEADER}
    assert header["net"] == "autohr" and header["genotype"] == "fig5_plausible_v1"
    assert header["config"]["channels"] == 3 and header["config"]["genotype"]["kind"] == "shared"
    assert {key: header[key] for key in HEADER_GIVEN} == HEADER_GIVEN


def test_a_file_of_weights_may_be_read_like_any_other(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("x")
    assert saved.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_short_type_halves_the_file_and_keeps_running_statistics(
    saved: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    path = tmp_path / "half.safetensors"
    net = tiny_net()
    save_weights(path, net, name="autohr", header={}, dtype=dtype)
    again, header = load_net(path)
    assert header["licence"] is None
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    for key, value in again.state_dict().items():
        original = net.state_dict()[key]
        is_parameter = key in dict(net.named_parameters())
        assert torch.equal(value, original.to(dtype).float() if is_parameter else original), key
    tensors, _ = parts_of(path)
    assert {tensors[key].dtype for key, _ in net.named_parameters()} == {dtype}
    assert path.stat().st_size < saved.stat().st_size


def test_any_changed_byte_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    size_of_table = 8 + int.from_bytes(whole[:8], "little")
    licence = whole.index(b"Apache-2.0")
    for at in (size_of_table + 5, len(whole) - 1, licence):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "altered after it was saved" in refusal(saved)
    for at in range(8, size_of_table, 499):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refusal(saved)


def test_truncated(saved: Path) -> None:
    whole = saved.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 8, 3, 0):
        saved.write_bytes(whole[:size])
        assert "not a whole safetensors file" in refusal(saved), size


class Runs:
    """A pickle that would create a file if it were loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    proof = tmp_path / "it_ran"
    torch.save({"weight": Runs(proof)}, tmp_path / "a.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(Runs(proof), protocol=4))
    (tmp_path / "d.pkl").write_bytes(pickle.dumps(Runs(proof), protocol=0))
    for name in ("a.pt", "b.pt", "c.pkl"):
        assert "is a pickle" in refusal(tmp_path / name)
    assert "not a whole safetensors file" in refusal(tmp_path / "d.pkl")
    assert not proof.exists()


def test_a_sound_file_that_starts_like_a_pickle(tmp_path: Path) -> None:
    """The first byte is the low one of the table's length: 0x80 for one header in 32."""
    path, net = tmp_path / "x.safetensors", tiny_net()
    for length in range(0, 260, 8):
        save_weights(path, net, name="autohr", header={"provenance": "x" * length})
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header of that length was made")
    loaded, header = load_net(path)
    assert header["net"] == "autohr" and loaded.state_dict().keys() == net.state_dict().keys()


def test_foreign(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("these are no weights at all, only text")
    assert "not a whole safetensors file" in refusal(tmp_path / "a.txt")
    save_file({"weight": torch.ones(2)}, tmp_path / "b.safetensors")
    assert "not of autohr" in refusal(tmp_path / "b.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "c.safetensors", metadata={"format": "pt"})
    assert "not of autohr" in refusal(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"net": "physnet", "config": {}}, "does not fit physnet: lacks"),
        ({"net": "transformer"}, "cannot build: Unknown net 'transformer'. Known: autohr"),
        ({"net": ["autohr"]}, "cannot build"),
        (
            {"config": {"channels": 4, "stem_channels": 3, "input": "difference"}},
            "does not fit autohr: blocks.*float32",
        ),
        ({"config": {"channels": 10**12}}, "cannot build: channels=1000000000000"),
        ({"config": {"colour": 1}}, "cannot build: autohr has no field 'colour'"),
        ({"config": {"genotype": {"name": "x"}}}, "cannot build: A genotype has the fields"),
        ({"config": 3}, "cannot build"),
        ({"schema": "autohr.weights/2"}, "schema 'autohr.weights/2'; this version reads"),
    ],
)
def test_a_header_that_does_not_fit(saved: Path, change: dict[str, Any], said: str) -> None:
    """With a checksum that does: whoever edits a header can write that too."""
    tensors, metadata = parts_of(saved)
    write_signed(saved, tensors, {**json.loads(metadata["autohr"]), **change})
    message = refusal(saved)
    assert re.search(said, message), message


def write_signed(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    text = json.dumps(header)
    save_file(tensors, path, metadata={"autohr": text, "sha256": _checksum(text, tensors)})


def test_tensors_that_do_not_fit(saved: Path) -> None:
    tensors, metadata = parts_of(saved)
    header = json.loads(metadata["autohr"])
    write_signed(saved, {key: value for key, value in tensors.items() if key != "head.bias"}, header)
    assert "lacks 1 tensors (head.bias), has 0 unknown" in refusal(saved)
    write_signed(saved, {**tensors, "tail": torch.ones(1)}, header)
    assert "has 1 unknown (tail)" in refusal(saved)
    write_signed(saved, {**tensors, "head.bias": torch.ones(1, dtype=torch.int64)}, header)
    assert "head.bias is torch.int64" in refusal(saved)
    write_signed(saved, {**tensors, "head.bias": torch.tensor([float("nan")])}, header)
    assert "head.bias holds numbers that are not finite" in refusal(saved)
    del header["licence"]
    write_signed(saved, tensors, header)
    assert "header lacks licence" in refusal(saved)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    net, path = tiny_net(), tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="no key 'license'. Keys: input, fps, training_data, licence"):
        save_weights(path, net, name="autohr", header={"license": "x"})
    with pytest.raises(ValueError, match="plain JSON"):
        save_weights(path, net, name="autohr", header={"fps": float("nan")})
    with pytest.raises(ValueError, match="torch.float64 is not a storage type"):
        save_weights(path, net, name="autohr", header={}, dtype=torch.float64)
    with pytest.raises(ValueError, match="physnet"):
        save_weights(path, net, name="physnet", header={})
    with pytest.raises(ValueError, match="folded"):
        save_weights(path, fold(net), name="autohr", header={})
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        save_weights(path, net, name="autohr", header={})
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved.read_bytes()

    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autohr.lab.nets._checkpoint.save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_weights(saved, tiny_net(), name="autohr", header={})
    assert saved.read_bytes() == whole and [saved] == list(saved.parent.iterdir())
