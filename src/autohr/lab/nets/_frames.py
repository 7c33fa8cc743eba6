"""A network's 3D layers as 2D layers of the same output, which onnxruntime runs about twice as fast on a processor.

Its 3D convolutions copy the neighbourhood of every pixel and multiply matrices. Its 2D convolutions work in place on
blocks of channels ("NCHWc": 16 channels with AVX-512, 8 with AVX2), and blocks are kept from layer to layer. So every
tensor (B, C, T, H, W) is held in one of two layouts, and is turned into the other where a layer asks for it:

    FRAMES   (B T, C, H, W)    layers over the picture
    TIMES    (B, C, T, H W)    layers over time

A convolution over both is the sum of convolutions over the picture, one for each frame that its kernel reads. Zeros
take the place of frames before the first and after the last of each clip, so clips do not run into one another. A
layer that has no such form stays as it is. All sizes but the number of channels stay free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLIP, FRAMES, TIMES = "clip", "frames", "times"
"""Layouts. CLIP is (B, C, T, H, W), as torch has it."""
PLAIN = "plain"
"""FRAMES that are not in blocks, of a tensor whose FRAMES are."""

BLOCK = 16
"""Channels of onnxruntime's largest block."""
WIDE = 5
"""Least width of a kernel that is split (``_Writer.conv_2d``). Measured with 16 channels of 300 frames, one core with
AVX-512: 5x5 took 9 to 17 ms whole and 7.3 ms split on 16x16 pixels, 3.7 and 2.1 ms on 8x8. 3x3 gained a tenth by
itself and nothing in a network, where the sums cost as much."""

ELEMENTWISE = ("Relu", "Elu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Sub", "Mul", "Div")
"""Operations on the values at one place, for which any layout will do."""

Array = NDArray[Any]
Attributes = dict[str, Any]


def in_frames(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the 3D layers of a model in place, and return it. Its inputs, outputs and weights keep their meaning."""
    if not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        _Writer(model.graph).rewrite()
    return model


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a tensor: all but C by the names of the numbers int64 (1,) that hold them when the net is run."""

    channels: int
    batch: str
    n_frames: str
    height: str
    width: str


@dataclass
class _Tensor:
    """A tensor (B, C, T, H, W), in the layouts in which it was written so far."""

    sizes: _Sizes
    used_once: bool
    layouts: dict[str, str] = field(default_factory=dict)
    """Layout -> name in the new graph. Empty as long as nobody asks for the tensor, if it is one of these:"""
    terms: tuple[str, list[str]] | None = None
    """The sum of these, in this layout. All terms of a sum of sums are added one after the other, for onnxruntime adds
    what came before to the output of a convolution in place."""
    pieces: list[_Tensor] | None = None
    """These side by side, channels after channels."""
    pooled: tuple[_Window, _Tensor] | None = None
    """The largest values of this one."""


@dataclass(frozen=True)
class _Window:
    """The places that a convolution or a pool reads: three numbers each, for T, H and W."""

    kernel: list[int]
    steps: list[int]
    gaps: list[int]
    before: list[int]
    after: list[int]

    @property
    def of_time(self) -> bool:
        """True where it reads or leaves out other frames."""
        return [self.kernel[0], self.steps[0], self.before[0], self.after[0]] != [1, 1, 0, 0]

    @property
    def of_picture(self) -> bool:
        """True where it reads or leaves out other pixels."""
        return self.kernel[1:] + self.steps[1:] + self.before[1:] + self.after[1:] != [1] * 4 + [0] * 4

    def over_picture(self) -> Attributes:
        """Return the attributes of the 2D layer in FRAMES."""
        pads = self.before[1:] + self.after[1:]
        return {"kernel_shape": self.kernel[1:], "strides": self.steps[1:], "dilations": self.gaps[1:], "pads": pads}

    def over_time(self) -> Attributes:
        """Return the attributes of the 2D layer in TIMES."""
        kernel, steps, gaps = ([numbers[0], 1] for numbers in (self.kernel, self.steps, self.gaps))
        return {
            "kernel_shape": kernel,
            "strides": steps,
            "dilations": gaps,
            "pads": [self.before[0], 0, self.after[0], 0],
        }


def _window(attributes: Attributes, kernel: Sequence[int]) -> _Window | None:
    """Return what a node with a 3D kernel reads; None for another kernel, and where sizes decide on its padding."""
    if len(kernel) != 3 or attributes.get("ceil_mode") or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    steps, gaps, pads = (attributes.get(key, [few] * n) for key, few, n in _DEFAULTS)
    return _Window(list(kernel), list(steps), list(gaps), list(pads[:3]), list(pads[3:]))


_DEFAULTS = (("strides", 1, 3), ("dilations", 1, 3), ("pads", 0, 6))


class _Writer:
    """The new graph while it is written."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.tensors: dict[str, _Tensor] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.written: dict[Any, str] = {}
        self.shapes: dict[str, onnx.ValueInfoProto] = {}
        self.relus: set[str] = set()
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(one.name for one in graph.output)

    def rewrite(self) -> None:
        """Replace the graph's nodes, weights and known shapes."""
        writers: dict[str, Callable[[onnx.NodeProto, Attributes], _Tensor | None]] = {
            "Conv": self.conv,
            "ConvTranspose": self.conv_transpose,
            "MaxPool": self.max_pool,
            "AveragePool": self.average_pool,
            "Concat": self.concat,
            **dict.fromkeys(ELEMENTWISE, self.elementwise),
        }
        for node in self.graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            made = writers[node.op_type](node, attributes) if node.op_type in writers else None
            if made is None:
                for place, name in enumerate(node.input):
                    if name in self.tensors:
                        node.input[place] = self.named(self.tensors[name], CLIP)
                self.nodes.append(node)
            else:
                self.tensors[node.output[0]] = made
        for one in self.graph.output:
            if one.name in self.tensors:
                name = self.named(self.tensors[one.name], CLIP)
                self.nodes.append(helper.make_node("Identity", [name], [one.name]))
        used = {name for node in self.nodes for name in node.input}
        weights = [numpy_helper.from_array(values, name) for name, values in self.constants.items() if name in used]
        for key, values in (("node", self.nodes), ("initializer", weights), ("value_info", self.shapes.values())):
            self.graph.ClearField(key)
            getattr(self.graph, key).extend(values)

    # -- layers: the tensor that a node makes, or None where the node stays as it is

    def conv(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Write a convolution: over time alone, or as one over the picture for each frame that it reads."""
        weights = [self.constants.get(name) for name in node.input[1:]]
        kernel, bias = weights[0], weights[-1] if len(weights) > 1 else None
        window = _window(attributes, kernel.shape[2:]) if kernel is not None else None
        if kernel is None or window is None or weights[-1] is None:
            return None
        groups = attributes.get("group", 1)
        x = self.tensor(node.input[0], kernel.shape[1] * groups)
        terms: list[str] = []
        if not window.of_picture and (window.of_time or self.settled(x).layouts.keys() == {TIMES}):
            layout = TIMES
            terms += self.conv_2d(self.named(x, TIMES), kernel[..., 0], bias, groups, window.over_time())
        else:
            layout = FRAMES
            for place in range(window.kernel[0]):
                before = window.before[0] - place * window.gaps[0]
                after = window.after[0] - (window.kernel[0] - 1 - place) * window.gaps[0]
                frames = self.shifted(x, before, after, window.steps[0])
                once = bias if place == 0 else None
                terms += self.conv_2d(frames, kernel[:, :, place], once, groups, window.over_picture())
        sizes = self.sizes_after(x.sizes, window, kernel.shape[0])
        for term in terms:
            self.note_sizes(term, layout, sizes)
        return self.new(node, sizes, terms=(layout, terms))

    def conv_2d(self, x: str, kernel: Array, bias: Array | None, groups: int, over: Attributes) -> list[str]:
        """Write a 2D convolution with a kernel (out, in, height, width), and return the terms of its sum.

        A wide kernel is split into its middle column and pairs of columns, as far to the left as to the right. The
        weights of a block then fit a level-1 cache together with the pixels; and the pixels at the border, which
        onnxruntime computes one by one, take fewer steps.
        """
        (_, n_channels, _, width), middle, pads = kernel.shape, kernel.shape[3] // 2, over["pads"]
        plain = groups == 1 and over["strides"] == over["dilations"] == [1, 1] and pads[1] == pads[3] == middle
        parts = [(kernel, over)]
        if plain and width >= WIDE and width % 2 and n_channels >= BLOCK:
            parts = [(kernel[..., middle : middle + 1], {"pads": [pads[0], 0, pads[2], 0]})]
            for far in range(1, middle + 1):
                columns = kernel[..., [middle - far, middle + far]]
                parts.append((columns, {"dilations": [1, 2 * far], "pads": [pads[0], far, pads[2], far]}))
        terms = []
        for place, (columns, changes) in enumerate(parts):
            more = [self.constant(bias)] if bias is not None and place == 0 else []
            geometry = {**over, **changes, "kernel_shape": columns.shape[2:], "group": groups}
            terms.append(self.write("Conv", x, self.constant(columns), *more, **geometry))
        return terms

    def conv_transpose(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Write a transposed convolution over time."""
        kernel = self.constants.get(node.input[1])
        window = _window(attributes, kernel.shape[2:]) if kernel is not None else None
        if kernel is None or window is None or window.of_picture or window.gaps[0] != 1:
            return None
        if attributes.get("group", 1) != 1 or any(attributes.get("output_padding", [])) or "output_shape" in attributes:
            return None
        x = self.tensor(node.input[0], kernel.shape[0])
        step = window.steps[0]
        more = window.kernel[0] - step - window.before[0] - window.after[0]
        n_frames = self.count(self.count(x.sizes.n_frames, "Mul", step), "Add", more)
        weights = (self.constant(kernel[..., 0]), *node.input[2:])
        made = self.write("ConvTranspose", self.named(x, TIMES), *weights, **window.over_time())
        sizes = replace(x.sizes, channels=kernel.shape[1], n_frames=n_frames)
        return self.new(node, sizes, layouts={TIMES: made})

    def max_pool(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Write a max-pool, later: a ReLU after it may go before it, which gives the same."""
        x, window = self.tensors.get(node.input[0]), _window(attributes, attributes["kernel_shape"])
        if x is None or window is None or window.gaps != [1, 1, 1] or len(node.output) > 1:
            return None
        return self.pool_of(x, window, self.uses[node.output[0]] == 1)

    def pool_of(self, x: _Tensor, window: _Window, used_once: bool) -> _Tensor:
        """Return the max-pool of x, of each of its pieces by itself."""
        sizes = self.sizes_after(x.sizes, window)
        if x.pieces and x.used_once:
            return _Tensor(sizes, used_once, pieces=[self.pool_of(piece, window, True) for piece in x.pieces])
        return _Tensor(sizes, used_once, pooled=(window, x))

    def average_pool(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Write a mean-pool over the picture."""
        x, window = self.tensors.get(node.input[0]), _window(attributes, attributes["kernel_shape"])
        if x is None or window is None or window.of_time or window.gaps != [1, 1, 1]:
            return None
        counted = {"count_include_pad": attributes.get("count_include_pad", 0)}
        made = self.write("AveragePool", self.named(x, FRAMES), **window.over_picture(), **counted)
        return self.new(node, self.sizes_after(x.sizes, window), layouts={FRAMES: made})

    def concat(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Put tensors side by side, later: a ReLU or a pool after it may be of each of them."""
        pieces = [self.tensors[name] for name in node.input if name in self.tensors]
        if attributes["axis"] != 1 or len(pieces) < len(node.input):
            return None
        sizes = replace(pieces[0].sizes, channels=sum(piece.sizes.channels for piece in pieces))
        if any(replace(piece.sizes, channels=sizes.channels) != sizes for piece in pieces):
            return None
        return self.new(node, sizes, pieces=pieces)

    def elementwise(self, node: onnx.NodeProto, attributes: Attributes) -> _Tensor | None:
        """Write what is done to the values at each place, in a layout in which they are."""
        known = [self.tensors[name] for name in node.input if name in self.tensors]
        numbers = [name for name in node.input if name in self.constants and self.constants[name].shape in ((), (1,))]
        if not known or len(known) + len(numbers) < len(node.input):
            return None
        sizes = known[0].sizes
        if any(one.sizes != sizes for one in known):
            return None
        if node.op_type == "Relu":
            return self.relu_of(known[0], self.uses[node.output[0]] == 1)
        if node.op_type == "Add" and len(known) == 2:
            return self.new(node, sizes, terms=self.sum_of(known))
        layout = self.common_layout(known)
        names = [self.named(self.tensors[name], layout) if name in self.tensors else name for name in node.input]
        return self.new(node, sizes, layouts={layout: self.write(node.op_type, *names, **attributes)})

    def sum_of(self, known: list[_Tensor]) -> tuple[str, list[str]]:
        """Return the terms of a sum, in one layout: of a sum that nobody else asks for, its own terms."""
        sums = [one.terms if one.used_once and not one.layouts else None for one in known]
        layouts = {one[0] for one in sums if one}
        layout = layouts.pop() if len(layouts) == 1 else FRAMES
        terms: list[str] = []
        for one, its in zip(known, sums, strict=True):
            if its and its[0] == layout:
                terms += its[1]
            else:
                terms.insert(0, self.named(one, layout))
        return layout, terms

    def relu_of(self, x: _Tensor, used_once: bool) -> _Tensor:
        """Return the ReLU of x, before a pool and of each piece: there it becomes part of a convolution."""
        if x.pieces and x.used_once:
            return _Tensor(x.sizes, used_once, pieces=[self.relu_of(piece, True) for piece in x.pieces])
        if x.pooled and x.used_once:
            window, before = x.pooled
            return self.pool_of(self.relu_of(before, True), window, used_once)
        layout = self.common_layout([x])
        name = self.named(x, layout)
        if name not in self.relus:
            name = self.write("Relu", name)
            self.relus.add(name)
            self.note_sizes(name, layout, x.sizes)
        return _Tensor(x.sizes, used_once, {layout: name})

    # -- tensors and their layouts

    def tensor(self, name: str, n_channels: int) -> _Tensor:
        """Return a tensor by its name in the old graph; the sizes of one that was not written here are read off it."""
        if name not in self.tensors:
            sizes = (self.write("Shape", name, start=axis, end=axis + 1) for axis in (0, 2, 3, 4))
            self.tensors[name] = _Tensor(_Sizes(n_channels, *sizes), self.uses[name] == 1, {CLIP: name})
        return self.tensors[name]

    def new(self, node: onnx.NodeProto, sizes: _Sizes, **how: Any) -> _Tensor:
        """Return the tensor that takes the place of a node's output."""
        made = _Tensor(sizes, self.uses[node.output[0]] == 1, **how)
        for layout, name in made.layouts.items():
            self.note_sizes(name, layout, sizes)
        return made

    def settled(self, x: _Tensor) -> _Tensor:
        """Write x in a layout, if it is not yet in one, and return it."""
        if x.layouts:
            return x
        if x.terms:
            layout, (name, *others) = x.terms
            for other in others:
                name = self.write("Add", name, other)
                self.note_sizes(name, layout, x.sizes)
        elif x.pieces:
            layout = self.common_layout(x.pieces)
            name = self.write("Concat", *(self.named(piece, layout) for piece in x.pieces), axis=1)
        else:
            assert x.pooled is not None
            layout, name = self.written_pool(*x.pooled)
        x.layouts[layout] = name
        self.note_sizes(name, layout, x.sizes)
        return x

    def written_pool(self, window: _Window, x: _Tensor) -> tuple[str, str]:
        """Write a max-pool and return its layout and name: over the picture, and of what that gives, over time."""
        if window.of_picture:
            name = self.write("MaxPool", self.named(x, FRAMES), **window.over_picture())
            pooled = self.sizes_after(x.sizes, window)
            x = _Tensor(replace(pooled, n_frames=x.sizes.n_frames), True, {FRAMES: name})
            self.note_sizes(name, FRAMES, x.sizes)
        if window.of_time:
            return TIMES, self.write("MaxPool", self.named(x, TIMES), **window.over_time())
        layout = self.common_layout([x])
        return layout, self.named(x, layout)

    def common_layout(self, tensors: Sequence[_Tensor]) -> str:
        """Return a layout in which all of them are; FRAMES, if there is none."""
        present = [self.settled(one).layouts for one in tensors]
        return next((one for one in (FRAMES, TIMES, CLIP) if all(one in layouts for layouts in present)), FRAMES)

    def named(self, x: _Tensor, layout: str) -> str:
        """Return the name of x in a layout, into which it is brought if need be."""
        names = self.settled(x).layouts
        if layout not in names:
            n_channels, batch, n_frames, height, width = astuple(x.sizes)
            if layout == TIMES and FRAMES in names:
                name = self.reshape(names[FRAMES], batch, n_frames, n_channels, -1)
                name = self.write("Transpose", name, perm=[0, 2, 1, 3])
            elif layout == FRAMES and TIMES in names:
                name = self.write("Transpose", names[TIMES], perm=[0, 2, 1, 3])
                name = self.reshape(name, -1, n_channels, height, width)
                if n_channels % BLOCK == 0:
                    # A pool that changes nothing. Only convolutions and pools bring a tensor into blocks, and only
                    # what is in blocks is added to the output of a convolution in place.
                    names[PLAIN] = name
                    self.note_sizes(name, FRAMES, x.sizes)
                    name = self.write("MaxPool", name, kernel_shape=[1, 1])
            elif layout == FRAMES:
                name = self.write("Transpose", names[CLIP], perm=[0, 2, 1, 3, 4])
                name = self.reshape(name, -1, n_channels, height, width)
            elif layout == TIMES:
                name = self.reshape(names[CLIP], 0, 0, 0, -1)
            elif TIMES in names:
                name = self.reshape(names[TIMES], 0, 0, 0, height, width)
            else:
                name = self.reshape(names[FRAMES], batch, n_frames, n_channels, height, width)
                name = self.write("Transpose", name, perm=[0, 2, 1, 3, 4])
            names[layout] = name
            self.note_sizes(name, layout, x.sizes)
        return names[layout]

    def shifted(self, x: _Tensor, before: int, after: int, step: int) -> str:
        """Return x in FRAMES, with so many frames of zeros before and after, of which every ``step``-th is kept.

        A negative number leaves out as many frames.
        """
        name, sizes = self.named(x, FRAMES), x.sizes
        if before or after or step > 1:
            name = self.reshape(x.layouts.get(PLAIN, name), sizes.batch, sizes.n_frames, -1)
            if before or after:
                name = self.write("Pad", name, self.constant([0, before, 0, 0, after, 0]))
            if step > 1:
                limits = (self.constant([value]) for value in (0, np.iinfo(np.int64).max, 1, step))
                name = self.write("Slice", name, *limits)
            name = self.reshape(name, -1, sizes.channels, sizes.height, sizes.width)
        return name

    # -- nodes, constants and sizes

    def write(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write a node, unless there is one like it, and return the name of its output."""
        node = helper.make_node(kind, inputs, ["?"], **attributes)
        key = node.SerializeToString(deterministic=True)
        if key not in self.written:
            node.output[0] = self.written[key] = f"{kind}.{len(self.written)}"
            self.nodes.append(node)
        return self.written[key]

    def constant(self, values: Array | Sequence[int]) -> str:
        """Return the name of a constant: weights, or numbers int64."""
        array = np.ascontiguousarray(values, dtype=values.dtype if isinstance(values, np.ndarray) else np.int64)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self.written:
            self.written[key] = f"constant.{len(self.written)}"
            self.constants[self.written[key]] = array
        return self.written[key]

    def reshape(self, name: str, *shape: int | str) -> str:
        """Write a Reshape to numbers and sizes."""
        numbers = [size for size in shape if isinstance(size, int)]
        if len(numbers) == len(shape):
            return self.write("Reshape", name, self.constant(numbers))
        sizes = [size if isinstance(size, str) else self.constant([size]) for size in shape]
        return self.write("Reshape", name, self.write("Concat", *sizes, axis=0))

    def count(self, size: str, operation: str, number: int) -> str:
        """Write a size after an operation with a number; nothing where that changes nothing."""
        if number == (0 if operation == "Add" else 1):
            return size
        return self.write(operation, size, self.constant([number]))

    def sizes_after(self, sizes: _Sizes, window: _Window, n_channels: int | None = None) -> _Sizes:
        """Return the sizes after a convolution or a pool."""
        after = []
        for axis, size in enumerate((sizes.n_frames, sizes.height, sizes.width)):
            step, reach = window.steps[axis], window.gaps[axis] * (window.kernel[axis] - 1)
            places = self.count(size, "Add", window.before[axis] + window.after[axis] - reach - (step > 1))
            after.append(places if step == 1 else self.count(self.count(places, "Div", step), "Add", 1))
        return _Sizes(n_channels or sizes.channels, sizes.batch, *after)

    def note_sizes(self, name: str, layout: str, sizes: _Sizes) -> None:
        """State the sizes of a tensor: onnxruntime adds in place only where it knows that sizes are the same."""
        n_channels, batch, n_frames, height, width = astuple(sizes)
        shape = {
            CLIP: (batch, n_channels, n_frames, height, width),
            FRAMES: (f"{batch}*{n_frames}", n_channels, height, width),
            TIMES: (batch, n_channels, n_frames, f"{height}*{width}"),
        }[layout]
        self.shapes[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
