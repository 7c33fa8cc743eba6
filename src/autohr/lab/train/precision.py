"""A check that bf16 gives right gradients on this processor, made before a training uses it.

torch 2.13 on processors with AVX512-BF16 returns wrong weight gradients of a 1x5x5 convolution whose input is one pixel
wide and high: it reads memory that nothing has written. Usually the result is finite, and training would go on with it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from autohr.lab.train.steps import Forward

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

_aten = torch.ops.aten
COMPARED_OPERATIONS = frozenset(
    {
        _aten.convolution.default,
        _aten.convolution_backward.default,
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
    }
)
"""Operations of torch that autocast runs in bf16 and that have kernels of their own for it."""
MAX_OPERATION_ERROR = 0.2
"""Largest difference of one operation's results in bf16 and float32 from the same inputs, as a share of the norm in
float32. Measured at 16, 32 and 64 pixels: up to 0.0041 over all nets with AVX512-BF16, and up to 0.055 (long sums)
over autohr, physnet, deepphys and rppgnet where oneDNN emulates bf16; results of the fault from 0.44 to infinity."""
MAX_GRADIENT_ERROR = 1000.0
"""Largest difference of one parameter's gradient in bf16 and float32, as a share of the norm of the whole gradient.
Loose, because rounding changes the gradient of a fresh net by as much as its norm: it is for faults of operations that
are not compared one by one."""
N_REPEATS = 2
"""Times that each operation is repeated, each time after large values were left in freed memory."""
_SPOILT_BITS = 0x7149
"""Bits of about 1e30, read as bf16 or, in pairs, as float32."""

Work = Callable[[nn.Module, bool], Tensor]
"""Computes the scalar loss with the net, in bf16 where the second argument is true."""


def in_precision(net: nn.Module, precision: Precision, device: torch.device) -> Forward:
    """Return the net as a function that computes in ``precision`` and returns float32."""

    def forward(*values: Any, **more: Any) -> Any:
        with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            out = net(*values, **more)
        return tuple(one.float() for one in out) if isinstance(out, tuple) else out.float()

    return forward


def find_bf16_fault(net: nn.Module, work: Work) -> str | None:
    """Return what is wrong with a backward pass in bf16 on this CPU, or None.

    Two passes are made with a copy of ``net``, one in bf16 and one in float32. In the first, each convolution and
    matrix product, forward and backward, is repeated with the same inputs in float32; shapes that come again are
    compared once. ``net``, its gradients and buffers, and torch's random state stay as they are.

    Measured on an AMD processor with AVX512-BF16 with three nets that have the fault, 40 fresh inputs each: found in
    120 of 120 checks with one repeat, in each of the 160 faulty operations.

    Parameters
    ----------
    net
        The net as it is trained, on the CPU.
    work
        Computes the loss of one batch.
    """
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        tried = copy.deepcopy(net).train()
        with _Comparison() as comparison:
            gradients = _gradients(tried, work, True)
        fault: str | None = comparison.fault
        if fault is not None:
            return fault
        torch.set_rng_state(state)
        tried = copy.deepcopy(net).train()
        true = _gradients(tried, work, False)
    length = math.sqrt(sum(float(value.double().square().sum()) for value in true.values()))
    if not math.isfinite(length):
        # Nothing to compare with. The first step will say so.
        return None
    for name, value in gradients.items():
        error = float((value.double() - true[name].double()).norm()) / max(length, 1e-30)
        if not error <= MAX_GRADIENT_ERROR:
            return f"the gradient of {name!r} differs from float32 by {error:.3g} of the gradient's norm"
    return None


def _gradients(net: nn.Module, work: Work, in_bf16: bool) -> dict[str, Tensor]:
    parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(work(net, in_bf16), list(parameters.values()), allow_unused=True)
    return {name: value for name, value in zip(parameters, found, strict=True) if value is not None}


class _Comparison(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which operations with inputs of bf16 are compared with float32; ``fault`` holds the first mismatch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fault: str | None = None
        self._compared: set[Any] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.fault is None and func in COMPARED_OPERATIONS:
            leaves = tree_leaves((args, kwargs))
            kind = (func, *((value.shape, value.stride()) if _is_tensor(value) else repr(value) for value in leaves))
            if kind not in self._compared and any(_is_bf16(value) for value in leaves):
                self._compared.add(kind)
                self.fault = _compare(func, args, kwargs)
        return func(*args, **kwargs)


def _compare(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    wide_args, wide_kwargs = tree_map(lambda value: value.float() if _is_bf16(value) else value, (args, kwargs))
    true = run_operation(func, wide_args, wide_kwargs)
    if not all(bool(torch.isfinite(value).all()) for value in true):
        return None
    for _ in range(N_REPEATS):
        _spoil_free_memory([value.numel() for value in true])
        for found, right in zip(run_operation(func, args, kwargs), true, strict=True):
            difference = float((found.double() - right.double()).norm())
            # Below this the numbers are too small for bf16's own steps.
            norm = max(float(right.double().norm()), 1e-30)
            if not difference <= MAX_OPERATION_ERROR * norm:
                shapes = " and ".join("x".join(map(str, value.shape)) for value in args if _is_tensor(value))
                name = func.name().removeprefix("aten::")
                return f"{name} of {shapes} differs from float32 by {difference / norm:.3g} of its norm"
    return None


def run_operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation gives."""
    return [value for value in tree_leaves(func(*args, **kwargs)) if _is_tensor(value)]


def _spoil_free_memory(sizes: Sequence[int]) -> None:
    """Leave large values in freed memory of ``sizes`` numbers of two and of four bytes each."""
    spoilt = [torch.full((width * size,), _SPOILT_BITS, dtype=torch.int16) for size in sizes for width in (1, 2)]
    del spoilt


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_bf16(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16
