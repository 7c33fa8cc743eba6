"""Compare one folded TDC with the author's two convolutions and with a plain Conv3d.

    python benchmarks/tdc.py [--device cpu] [--threads 1] [--repeats 9] [--channels 32] [--frames 40] [--size 56]

Forward and backward of one 3x3x3 layer without bias. The three forms take turns in every repeat, so that what else the
machine does meets all of them; the median of the ratios to Conv3d, repeat by repeat, is what counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._tdc import TemporalDifferenceConv3d

THETA = 0.2


def two_convolutions(x: Tensor, weight: Tensor) -> Tensor:
    """TDC in the author's form: a convolution, minus theta times a 1x1x1 convolution with the neighbours' weights."""
    neighbours = (weight[:, :, 0] + weight[:, :, 2]).sum((2, 3))[:, :, None, None, None]
    return F.conv3d(x, weight, padding=1) - THETA * F.conv3d(x, neighbours)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=56)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)

    C = asked.channels
    tdc = TemporalDifferenceConv3d(C, C, 3, theta=THETA).to(device)
    conv = nn.Conv3d(C, C, 3, padding=1, bias=False).to(device)
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "Conv3d": conv,
        "TDC folded": tdc,
        "TDC as two": lambda x: two_convolutions(x, tdc.weight),
    }
    x = torch.randn(1, C, asked.frames, asked.size, asked.size, device=device, requires_grad=True)
    pull = torch.randn_like(x)
    with torch.inference_mode():
        difference = float((forms["TDC folded"](x) - forms["TDC as two"](x)).abs().max())
    print(f"clip (1, {C}, {asked.frames}, {asked.size}, {asked.size}), {device}, {asked.threads} thread(s)")
    print(f"folded against two: largest difference {difference:.1e}\n")
    print(f"{'':12} {'type':9} {'forward':>9} {'ratio':>6} {'forward and backward':>21} {'ratio':>6}")

    for dtype in (torch.float32, torch.bfloat16):
        forward: dict[str, list[float]] = {name: [] for name in forms}
        both: dict[str, list[float]] = {name: [] for name in forms}

        def only_forward(form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                form(x)

        def with_backward(form: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                out = form(x)
            torch.autograd.backward(out.float(), pull)

        for repeat in range(asked.repeats + 2):  # two to warm up
            for name, form in forms.items():
                forward_s = seconds(lambda form=form, dtype=dtype: only_forward(form, dtype), device)  # type: ignore[misc]
                both_s = seconds(lambda form=form, dtype=dtype: with_backward(form, dtype), device)  # type: ignore[misc]
                if repeat >= 2:
                    forward[name].append(forward_s)
                    both[name].append(both_s)
        for name in forms:
            ratios = [
                statistics.median(a / b for a, b in zip(times[name], times["Conv3d"], strict=True))
                for times in (forward, both)
            ]
            ms = [statistics.median(times[name]) * 1000 for times in (forward, both)]
            print(
                f"{name:12} {str(dtype).split('.')[1]:9} {ms[0]:6.1f} ms {ratios[0]:6.2f} {ms[1]:18.1f} ms "
                f"{ratios[1]:6.2f}"
            )


if __name__ == "__main__":
    main()
