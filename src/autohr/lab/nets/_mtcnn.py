"""Convert the three networks of the ``mtcnn`` package (MIT) to the ONNX files that the product ships.

    python -m autohr.lab.nets._mtcnn src/autohr/weights/detector

The weights are those of the paper's authors (Zhang et al., IEEE SPL 2016) as released in mtcnn 1.0.0. Each network
takes ``images`` (N, H, W, 3) uint8 RGB and gives ``scores`` (N,), ``shifts`` (N, 4) of the box in shares of its sides
and, from O-Net, ``landmarks`` (N, 5, 2) in shares of the window; P-Net gives a map of both over its 12 x 12 windows.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from autohr.errors import BadWeights
from autohr.files import replacing

Array = NDArray[np.float32]

WEIGHTS_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
"""Hashes of the files of mtcnn 1.0.0. They are pickles, which can run code when loaded: no others are ever loaded."""
OPSET, IR_VERSION = 17, 8
"""Versions of 2022, which every onnxruntime since 1.12 reads."""


def find_weights() -> Path:
    """Return the folder of the weights in the mtcnn package without importing it, as that would need TensorFlow."""
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Converting the detector needs its released weights: pip install 'mtcnn==1.0.0'.")
    return Path(spec.origin).parent / "assets" / "weights"


def read_weights(path: Path, name: str) -> list[Array]:
    """Read the weights of network ``name`` (pnet, rnet or onet), in the order of its layers.

    Kernels are (height, width, in, out), dense layers (in, out), biases and slopes (out,).

    Raises
    ------
    BadWeights
        The file is any but the released one; it was not interpreted.
    """
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != WEIGHTS_SHA256[name]:
        raise BadWeights(
            f"{path.name} has sha256 {sha256[:12]}..., not the known {WEIGHTS_SHA256[name][:12]}...; it is a pickle "
            "and is not loaded. Run: pip install --force-reinstall mtcnn==1.0.0"
        )
    import joblib  # needs lz4 beside it

    # Slopes of the PReLUs on maps are stored as (1, 1, out).
    return [array.reshape(-1) if array.ndim == 3 else array for array in joblib.load(io.BytesIO(content))]


class _Graph:
    """An ONNX graph under construction: each method appends a layer and returns the name of its output."""

    def __init__(self, weights: list[Array]) -> None:
        self.weights = list(weights)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[np.generic] | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def weight(self, *axes: int) -> str:
        """Take the next array of the network's weights, its axes permuted."""
        array = self.weights.pop(0)
        return self.constant(array.transpose(axes) if axes else array)

    def conv(self, x: str) -> str:
        return self.add("Conv", x, self.weight(3, 2, 0, 1), self.weight())

    def dense(self, x: str) -> str:
        return self.add("Gemm", x, self.weight(), self.weight())

    def prelu(self, x: str, *, is_map: bool = True) -> str:
        slope = self.weights.pop(0)
        return self.add("PRelu", x, self.constant(slope.reshape(-1, 1, 1) if is_map else slope))

    def pool(self, x: str, side: int, *, whole_only: bool = False) -> str:
        """Take the largest of each side x side window; windows over the border count with what they have."""
        return self.add("MaxPool", x, kernel_shape=[side, side], strides=[2, 2], ceil_mode=int(not whole_only))

    def face_score(self, pair: str) -> None:
        """Softmax over axis 1 (no face, face); the second is the output ``scores``."""
        self.add("Gather", self.add("Softmax", pair, axis=1), self.constant(np.int64(1)), axis=1, out="scores")


def build(name: str, weights: list[Array]) -> onnx.ModelProto:
    """Build network ``name`` as an ONNX model from its weights, as ``read_weights`` gives them."""
    g = _Graph(weights)
    x = g.add("Sub", g.add("Cast", "images", to=TensorProto.FLOAT), g.constant(np.float32(127.5)))
    x = g.add("Transpose", g.add("Div", x, g.constant(np.float32(128))), perm=[0, 3, 1, 2])
    sides: tuple[str | int, str | int] = ("height", "width")
    outputs: dict[str, list[str | int]] = {"scores": ["batch"], "shifts": ["batch", 4]}
    if name == "pnet":
        x = g.pool(g.prelu(g.conv(x)), 2)
        x = g.prelu(g.conv(g.prelu(g.conv(x))))
        g.add("Transpose", g.conv(x), perm=[0, 2, 3, 1], out="shifts")
        g.face_score(g.conv(x))
        outputs = {"scores": ["batch", "rows", "columns"], "shifts": ["batch", "rows", "columns", 4]}
    else:
        x = g.pool(g.prelu(g.conv(x)), 3)
        x = g.prelu(g.conv(g.pool(g.prelu(g.conv(x)), 3, whole_only=True)))
        if name == "onet":
            x = g.prelu(g.conv(g.pool(x, 2)))
        # The dense weights run over the columns, then the rows, then the channels.
        x = g.prelu(g.dense(g.add("Flatten", g.add("Transpose", x, perm=[0, 3, 2, 1]))), is_map=False)
        g.add("Identity", g.dense(x), out="shifts")
        if name == "onet":  # five x, then five y
            points = g.add("Reshape", g.dense(x), g.constant(np.array([-1, 2, 5])))
            g.add("Transpose", points, perm=[0, 2, 1], out="landmarks")
            outputs["landmarks"] = ["batch", 5, 2]
        g.face_score(g.dense(x))
        sides = (24, 24) if name == "rnet" else (48, 48)
    graph = helper.make_graph(
        g.nodes,
        f"MTCNN {name}",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *sides, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape) for output, shape in outputs.items()],
        g.constants,
        doc_string="Zhang et al., IEEE SPL 2016; weights of the Python package mtcnn 1.0.0, MIT licence",
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="autohr"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main(folder: Path) -> None:
    """Write pnet.onnx, rnet.onnx and onet.onnx to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in WEIGHTS_SHA256:
        model = build(name, read_weights(find_weights() / f"{name}.lz4", name))
        with replacing(folder / f"{name}.onnx") as path:
            path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m autohr.lab.nets._mtcnn FOLDER")
    main(Path(sys.argv[1]))
