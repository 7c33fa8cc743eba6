"""ONNX files: equal to torch for every net at sizes that it was not traced with, complete in what they say of
themselves, whole or not there; and one clear line where there is nothing to export."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import autohr
from autohr.errors import AutoHRError, BadWeights
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets import _export as export
from autohr.lab.nets._checkpoint import save_weights
from autohr.lab.nets._export import HALF_TOLERANCE, TOLERANCE, Exported, export_onnx
from autohr.lab.nets._frames import in_frames
from autohr.lab.nets._rates import SPREAD_BPM
from autohr.methods import load_method
from autohr.weights.header import HEADER, ONNX_SCHEMA, read_header
from made import run
from test_methods import clip as face_clip

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS: dict[str, dict[str, Any]] = {
    "autohr": {"preset": "tiny", "channels": 3, "stem_channels": 3},
    "hrcnn": {"channels": [1, 2, 2, 2], "estimator_channels": 4},
    "rhythmnet": {"window_frames": 30, "stride_frames": 7, "hidden": 20},
}
"""Small where the full size is slow, and windows so short that a clip has several."""
GIVEN = {
    "input": {"size_px": 24, "crop_size_px": 32, "box": "tracked", "margin": 0.1, "n_frames": 64},
    "fps": None,
    "training_data": {"datasets": ["synthetic"], "fps_from": 22.0, "fps_to": 33.0},
    "licence": "CC0-1.0",
    "provenance": {"run": "test"},
    "measured_accuracy": {"mae_bpm": 3.2, "on": "nobody"},
}
SIZES = ((1, 64, 24, 24), (3, 37, 24, 24), (2, 150, 33, 18), (1, 4, 16, 16))
"""(B, T, H, W): as trained; of odd length; oblong, and longer than HR-CNN's edges; the least."""


def clips(B: int, T: int, H: int, W: int) -> Tensor:
    """Noise around grey: (B, 3, T, H, W) in [0, 1]."""
    random = torch.Generator().manual_seed(T)
    return (0.5 + 0.1 * torch.randn(B, 3, T, H, W, generator=random)).clamp(0, 1)


def save(path: Path, name: str = "autohr", **changes: Any) -> nn.Module:
    """Weights that have learned nothing, in ``path``; batch norms have seen something, so that folding has work."""
    torch.manual_seed(0)
    net = make_net(name, CONFIGS.get(name))
    with torch.no_grad():
        net(clips(2, 32, 24, 24))
    save_weights(path, net, name=name, header={**GIVEN, **changes})
    return net.eval()


def about(path: Path) -> dict[str, Any]:
    first, last = onnx.load(path).metadata_props
    assert (first.key, last.key) == ("autohr", "sha256")
    said = json.loads(first.value)
    assert isinstance(said, dict)
    return said


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    """Weights of a small AutoHR, and their file."""
    folder = tmp_path_factory.mktemp("translated")
    save(folder / "tiny.safetensors")
    return folder / "tiny.safetensors", export_onnx(folder / "tiny.safetensors", folder / "tiny.onnx")


@pytest.fixture
def ready(translated: tuple[Path, Exported], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those weights; torch need not translate them again, which takes seconds."""
    weights, made = translated
    monkeypatch.setattr(export, "_translate", lambda net, kind: onnx.load(made.path))
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_every_net_gives_what_torch_gives(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights, out = tmp_path / "net.safetensors", tmp_path / "net.onnx"
    net = save(weights, name)
    made = export_onnx(weights, out)
    assert sorted(tmp_path.iterdir()) == [out, weights], "nothing but the one file is left"
    assert capfd.readouterr() == ("", ""), "libraries talk"
    assert made.path == out and made.n_bytes == out.stat().st_size and made.difference <= TOLERANCE

    wave = NETS[name].kind == "wave"
    said = about(out)
    assert set(said["inputs"]) == ({"clip"} if wave else {"clip", "fps"})
    assert set(said["outputs"]) == ({"bvp"} if wave else {"hr_bpm"})
    assert said["weights"] == read_header(weights) and said["weights"]["net"] == name

    onnx.checker.check_model(onnx.load(out), full_check=True)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    for put, real in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        assert {one.name: one.shape for one in real} == {key: one["axes"] for key, one in said[put].items()}
    for size in SIZES:
        fed = {"clip": clips(*size).numpy()}
        if not wave:
            fed["fps"] = np.linspace(20, 40, size[0], dtype=np.float32)
        with torch.inference_mode():
            exact = net(*map(torch.from_numpy, fed.values())).numpy()
        (found,) = session.run(None, fed)
        assert found.shape == exact.shape and found.dtype == np.float32
        assert np.abs(found - exact).max() < TOLERANCE * (max(exact.std(), 1e-3) if wave else SPREAD_BPM), size

    given = face_clip(4.0)
    by_onnx, by_torch = load_method(weights=out), load_method(weights=weights)
    assert by_onnx.name == by_torch.name == name and by_onnx.crop == by_torch.crop
    if by_torch.rate is not None:
        assert by_onnx.rate is not None and by_onnx.rate(given) == pytest.approx(by_torch.rate(given), abs=0.02)
    else:
        bvp = by_torch.wave(given).bvp
        np.testing.assert_allclose(by_onnx.wave(given).bvp, bvp, atol=2e-3 * bvp.std())


@pytest.mark.slow
def test_the_file_says_all_that_another_program_needs(translated: tuple[Path, Exported]) -> None:
    weights, made = translated
    said = about(made.path)
    assert said["schema"] == ONNX_SCHEMA and set(HEADER) <= set(said["weights"]) and said["licence"] == "CC0-1.0"
    clip, crop = said["inputs"]["clip"], load_method(weights=weights).crop
    assert crop is not None
    assert (clip["crop_size_px"], clip["size_px"], clip["box"], clip["margin"]) == (
        *(crop.stored_px, crop.size_px, crop.box, crop.margin),
    )
    assert clip["range"] == [0, 1] and clip["fps"] == {"from": 22.0, "to": 33.0, "only": None}
    steps = " ".join(clip["steps"])
    for word in ("every frame", "0.1 of", "32x32", "24x24", "round", "Divide by 255", "22 to 33 frames per second"):
        assert word in steps, word
    assert said["checked"]["largest_difference"] == made.difference <= said["checked"]["tolerance"]
    assert made.clips == ((1, 64), (2, 21)) and len(said["checked"]["clips"]) == 2
    assert "Not a medical device" in said["notice"]
    content = made.path.read_bytes()
    assert str(Path(export.__file__).parent).encode() not in content, "paths of this machine are in the file"


@pytest.mark.slow
def test_a_box_that_never_moves_is_described_as_such(ready: Path, tmp_path: Path) -> None:
    weights = tmp_path / "first.safetensors"
    save(weights, input={**GIVEN["input"], "box": "first"}, training_data=["a list, as old headers have it"])  # type: ignore[dict-item]
    export_onnx(weights, tmp_path / "x.onnx")
    clip = about(tmp_path / "x.onnx")["inputs"]["clip"]
    assert "first frame" in clip["steps"][0] and clip["fps"] == {"from": None, "to": None, "only": None}


@pytest.mark.slow
def test_what_differs_from_torch_is_not_kept(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights than those of the file stand for an exporter that is wrong."""
    other, out = tmp_path / "other.safetensors", tmp_path / "x.onnx"
    torch.manual_seed(1)
    save_weights(other, make_net("autohr", CONFIGS["autohr"]), name="autohr", header=GIVEN)
    out.write_bytes(b"what was there before")
    with pytest.raises(AutoHRError, match=r"differs from torch by .* of the wave's standard deviation, and 0.001 is"):
        export_onnx(other, out)
    assert out.read_bytes() == b"what was there before" and sorted(tmp_path.iterdir()) == [other, out]
    monkeypatch.setattr(export, "_translate", lambda net, kind: onnx.ModelProto())
    with pytest.raises(AutoHRError, match="cannot read what torch"):
        export_onnx(other, out)
    assert sorted(tmp_path.iterdir()) == [other, out]


@pytest.mark.slow
def test_parameters_may_take_half_the_place(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "HALF_FROM", 100)
    whole, half = (export_onnx(ready, tmp_path / f"{share}.onnx", half=share == "half") for share in ("whole", "half"))
    sizes = [len(one.raw_data) for one in onnx.load(whole.path).graph.initializer]
    assert whole.n_bytes - half.n_bytes > 0.4 * sum(size for size in sizes if size > 400)
    assert whole.difference < half.difference <= HALF_TOLERANCE
    assert about(half.path)["checked"]["tolerance"] == HALF_TOLERANCE


def refuse(*_: object) -> onnx.ModelProto:
    raise RuntimeError("no function found for\n\n aten::dance")


def test_what_torch_cannot_translate_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.safetensors")
    monkeypatch.setattr(export, "_translate", refuse)
    with pytest.raises(AutoHRError, match="cannot translate AutoHR into ONNX .no function found for aten::dance"):
        export_onnx(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    monkeypatch.setattr(export, "MAX_ONNX_BYTES", 1000)
    with pytest.raises(AutoHRError, match="an ONNX file that autohr runs has at most"):
        export_onnx(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    save(tmp_path / "b.safetensors", input=None)
    with pytest.raises(BadWeights, match="does not say how its faces were cropped"):
        export_onnx(tmp_path / "b.safetensors", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


# -- 3D layers as 2D ones


class Layers:
    """A model of a few layers, with weights by chance, of clips x (B, 3, T, H, W)."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(kind, inputs, [f"{kind}{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def constant(self, values: Any) -> str:
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values), f"constant{len(self.constants)}"))
        return str(self.constants[-1].name)

    def weights(self, *shape: int) -> str:
        return self.constant(self.random.normal(scale=np.prod(shape[1:]) ** -0.5, size=shape).astype(np.float32))

    def conv(self, x: str, n_in: int, n_out: int, *kernel: int, groups: int = 1, **attributes: Any) -> str:
        bias = self.weights(n_out) if "pads" in attributes else None
        parts = [self.weights(n_out, n_in // groups, *kernel), *([bias] if bias else [])]
        return self.add("Conv", x, *parts, kernel_shape=kernel, group=groups, **attributes)

    def model(self, out: str) -> onnx.ModelProto:
        shapes: dict[str, list[str | int | None]] = {"x": ["B", 3, "T", "H", "W"], out: [None] * 5}
        x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, it) for name, it in shapes.items())
        graph = onnx.helper.make_graph(self.nodes, "made", [x], [y], self.constants)
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def over_the_picture(net: Layers) -> str:
    x = net.conv("x", 3, 16, 1, 5, 5, pads=[0, 2, 2, 0, 2, 2], strides=[1, 2, 2])
    x = net.conv(x, 16, 16, 1, 5, 5, pads=[0, 2, 2, 0, 2, 2])
    x = net.conv(x, 16, 32, 1, 7, 7, pads=[0, 3, 3, 0, 3, 3])
    x = net.conv(x, 32, 16, 1, 5, 5, pads=[0, 1, 2, 0, 0, 2])
    return net.conv(x, 16, 16, 1, 5, 5, pads=[0, 2, 3, 0, 2, 1], groups=4)


def over_time(net: Layers) -> str:
    x = net.conv("x", 3, 16, 5, 1, 1, pads=[2, 0, 0, 2, 0, 0])
    x = net.conv(x, 16, 16, 3, 1, 1, pads=[1, 0, 0, 3, 0, 0], strides=[2, 1, 1])
    x = net.conv(net.add("Elu", x), 16, 16, 3, 1, 1, pads=[2, 0, 0, 2, 0, 0], dilations=[2, 1, 1], groups=2)
    x = net.add("ConvTranspose", x, net.weights(16, 8, 4, 1, 1), net.weights(8), strides=[2, 1, 1], pads=[1, 0, 0] * 2)
    return net.add("ConvTranspose", x, net.weights(8, 5, 3, 1, 1), kernel_shape=[3, 1, 1])


def over_both(net: Layers) -> str:
    x = net.conv("x", 3, 16, 3, 3, 3, pads=[1] * 6)
    x = net.conv(net.add("Relu", x), 16, 16, 3, 3, 3, pads=[1] * 6)
    x = net.conv(x, 16, 16, 3, 5, 5, pads=[2, 2, 2, 0, 2, 2], dilations=[1, 1, 1])
    x = net.conv(x, 16, 16, 3, 3, 1, pads=[2, 1, 0, 2, 1, 0], dilations=[2, 1, 1])
    x = net.conv(x, 16, 8, 2, 3, 3, pads=[1, 1, 1, 1, 1, 1], strides=[2, 2, 2], groups=2)
    return net.conv(x, 8, 8, 1, 1, 1, strides=[2, 2, 2])


def pools(net: Layers) -> str:
    x = net.conv("x", 3, 16, 1, 1, 1)
    both = net.add("MaxPool", x, kernel_shape=[3, 3, 3], strides=[2, 2, 2], pads=[1] * 6)
    picture = net.add("MaxPool", x, kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    x = net.add("MaxPool", picture, kernel_shape=[3, 1, 1], strides=[2, 1, 1], pads=[1, 0, 0, 1, 0, 0])
    x = net.add("AveragePool", net.add("Tanh", x), kernel_shape=[1, 3, 3], pads=[0, 1, 1, 0, 1, 1])
    x = net.add("Concat", x, x, axis=1)
    both = net.add("MaxPool", both, kernel_shape=[1, 1, 1])
    means = [net.add("ReduceMean", one, net.constant([2, 3, 4]), keepdims=1) for one in (x, both, picture)]
    return net.add("Concat", *means, axis=1)


def cells(net: Layers) -> str:
    """Sums of sums, of which some are used twice; ReLU after what it may go before, and where it may not."""
    x = net.conv("x", 3, 16, 1, 1, 1)
    relu = net.add("Relu", x)
    a = net.add(
        "Add", net.conv(relu, 16, 16, 3, 1, 1, pads=[1, 0, 0] * 2), net.conv(relu, 16, 16, 3, 1, 1, pads=[1, 0, 0] * 2)
    )
    b = net.add(
        "Add",
        net.conv(relu, 16, 16, 5, 1, 1, pads=[2, 0, 0] * 2),
        net.conv(net.add("Relu", a), 16, 16, 3, 3, 3, pads=[1] * 6),
    )
    c = net.add(
        "Add",
        net.conv(net.add("Relu", b), 16, 16, 1, 5, 5, pads=[0, 2, 2] * 2),
        net.add("Mul", x, net.constant(np.float32(3))),
    )
    d = net.add("Add", net.add("Add", a, c), net.add("Add", x, x))
    side = net.add("Concat", a, b, c, d, axis=1)
    pooled = net.add("Relu", net.add("MaxPool", side, kernel_shape=[1, 3, 3], strides=[1, 2, 2], pads=[0, 1, 1] * 2))
    last = net.conv(net.add("Relu", pooled), 64, 16, 1, 1, 1)
    again = net.conv(net.add("Relu", net.add("Concat", d, c, axis=1)), 32, 16, 1, 1, 1, strides=[1, 2, 2])
    return net.add("Sub", net.add("Sigmoid", last), net.add("Mul", again, last))


def what_stays(net: Layers) -> str:
    """Layers that have no such form, between others that have."""
    x = net.conv("x", 3, 16, 3, 3, 3, pads=[1] * 6)
    light = net.add("Sigmoid", net.conv(x, 16, 1, 1, 1, 1))
    x = net.add("Mul", x, light)
    x = net.conv(net.add("Relu", x), 16, 8, 1, 3, 3, pads=[0, 1, 1] * 2)
    x = net.add("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1)
    x = net.add("Conv", x, net.add("Neg", net.weights(8, 8, 1, 3, 3)), auto_pad="SAME_UPPER", kernel_shape=[1, 3, 3])
    x = net.conv(x, 8, 8, 2, 1, 1, auto_pad="SAME_LOWER")
    x = net.add("AveragePool", net.conv(x, 8, 16, 1, 1, 1), kernel_shape=[2, 1, 1])
    return net.add("Concat", x, x, axis=2)


@pytest.mark.parametrize(
    ("build", "n_left"),
    [(over_the_picture, 0), (over_time, 0), (over_both, 0), (pools, 0), (cells, 0), (what_stays, 4)],
)
def test_2d_layers_give_what_3d_layers_give(build: Callable[[Layers], str], n_left: int) -> None:
    """Several clips at once, too: none may see the frames of its neighbours."""
    net = Layers()
    before = net.model(build(net))
    after = in_frames(onnx.ModelProto.FromString(before.SerializeToString()))
    onnx.checker.check_model(after, full_check=True)
    assert solid_layers(before) > 0 and solid_layers(after) == n_left
    three_d, two_d = (onnxruntime.InferenceSession(one.SerializeToString()) for one in (before, after))
    for B, T, H, W in ((2, 7, 18, 21), (1, 12, 16, 16), (3, 9, 17, 16)):
        x = {"x": np.random.default_rng(T).normal(size=(B, 3, T, H, W)).astype(np.float32)}
        (exact,), (found,) = three_d.run(None, x), two_d.run(None, x)
        np.testing.assert_allclose(found, exact, atol=1e-5 * np.abs(exact).max())


def solid_layers(model: onnx.ModelProto) -> int:
    """Count the convolutions and pools over three axes."""
    kernels = [one for node in model.graph.node for one in node.attribute if one.name == "kernel_shape"]
    return sum(len(one.ints) == 3 for one in kernels)


@pytest.mark.slow
def test_no_layer_of_autohr_is_left_to_3d_kernels(translated: tuple[Path, Exported]) -> None:
    assert solid_layers(onnx.load(translated[1].path)) == 0
    shipped = onnx.load(Path(autohr.__file__).parent / "weights" / "autohr.onnx")
    assert solid_layers(shipped) == 0, "write it anew: autohr export autohr autohr.onnx"


def test_a_model_with_graphs_inside_stays_as_it_is() -> None:
    """A branch reads its tensors by name, which none has in another layout."""
    net = Layers()
    x = net.conv("x", 3, 8, 1, 3, 3)
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", [x], ["y"])], "branch", [], [onnx.helper.make_empty_tensor_value_info("y")]
    )
    before = net.model(net.add("If", net.constant(True), then_branch=branch, else_branch=branch))
    assert in_frames(onnx.ModelProto.FromString(before.SerializeToString())) == before


# -- the command


@pytest.mark.slow
def test_the_command_says_what_it_wrote(ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.onnx"
    out.write_bytes(b"what was there before")
    code, said, err = run(capsys, "export", ready, out)
    assert code == 0 and err == ""
    for word in (str(out), "MB", "autohr", "Input clip (B, 3, T, H, W)", "Output bvp (B, T)", "Largest", "CC0-1.0"):
        assert word in said, said
    assert about(out)["schema"] == ONNX_SCHEMA, "a file of that name is replaced"


@pytest.mark.parametrize(
    ("weights", "out", "says"),
    [
        ("gone.safetensors", "x.onnx", "There is no weights file"),
        ("noname", "x.onnx", "noname"),
        ("cut.safetensors", "x.onnx", "not a whole safetensors file"),
        ("good.safetensors", "x.pt", "does not end in .onnx"),
        ("good.safetensors", "none/x.onnx", "there is no folder"),
        ("good.safetensors", "good.safetensors/x.onnx", "there is no folder"),
        ("good.safetensors", "folder.onnx", "Cannot write"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: str, out: str, says: str
) -> None:
    save(tmp_path / "good.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:1000])
    (tmp_path / "folder.onnx").mkdir()
    there = sorted(tmp_path.iterdir())
    code, said, err = run(capsys, "export", tmp_path / weights if "." in weights else weights, tmp_path / out)
    assert code == 1 and said == "" and len(err.splitlines()) == 1
    assert err.startswith("autohr: ") and says in err
    assert sorted(tmp_path.iterdir()) == there


def test_without_the_extra_one_line_brings_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "autohr.lab.nets._export")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, said, err = run(capsys, "export", "autohr", tmp_path / "x.onnx")
    assert code == 1 and said == ""
    assert err == "autohr: `autohr export` needs onnxscript: pip install 'autohr[lab]'.\n"


def test_half_a_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("autohr",), ("autohr", "x.onnx", "y.onnx")):
        code, said, err = run(capsys, "export", *arguments)
        assert code == 2 and said == "" and "Usage" in err
