"""Compare a step of the search with mixed operations computed together and one at a time.

    python benchmarks/search.py [--device cpu] [--threads 1] [--repeats 5] [--channels 16] [--partial 4] [--batch 4]
        [--frames 128] [--size 48] [--stem-stride 2] [--input difference] [--out-result docs/results/search_speed.json]

A step is what ``autohr search`` does for every pair of batches: a gradient of the architecture on one, a gradient of
the weights on the other, and Adam for both. The plain supernet computes one operation on one edge at a time. Both forms
have the same parameters and take turns in every repeat, so that other work of the machine slows both; processor time
is counted on CPUs, and the result is the median of the ratios of the repeats.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from autohr.lab.nets._inference import as_channels_last
from autohr.lab.search.space import SearchCell, SearchNet, SpaceConfig
from results import save_result


def seconds(device: torch.device) -> float:
    """Return the time: of the processor on CPUs, else of the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def main() -> None:
    """Print times and ratios of both forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--partial", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--stem-stride", type=int, default=2)
    parser.add_argument("--input", default="difference")
    parser.add_argument("--out-result", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    torch.manual_seed(0)

    space = SpaceConfig(
        channels=asked.channels, partial=asked.partial, stem_stride=asked.stem_stride, input=asked.input
    )
    fused = SearchNet(space).to(device)
    plain = copy.deepcopy(fused)
    for cell in plain.modules():
        if isinstance(cell, SearchCell):
            cell.fused = False
    nets = {"plain": plain, "fused": fused}
    clips = torch.rand(2, asked.batch, asked.frames, asked.size, asked.size, 3, device=device)
    weight_clips, alpha_clips = clips.permute(0, 1, 5, 2, 3, 4)
    pull = torch.randn(asked.batch, asked.frames, device=device)
    with torch.no_grad():
        difference = float((plain(weight_clips) - fused(weight_clips)).abs().max())
    print(
        f"clips (B, 3, T, H, W) {tuple(weight_clips.shape)}, {space.channels} channels, K={space.partial}, {device}, ",
        end="",
    )
    print(f"{asked.threads} thread(s)\nfused against plain, float32: largest difference {difference:.1e}\n")
    heads = "".join(f" {part:>13} {'ratio':>6}" for part in ("architecture", "weights", "whole step"))
    print(f"{'':6} {'type':9}{heads}")

    for net in nets.values():
        as_channels_last(net)
    optimisers = {
        name: torch.optim.Adam([{"params": net.weights()}, {"params": net.architecture()}], lr=1e-4)
        for name, net in nets.items()
    }

    def step(name: str, dtype: torch.dtype) -> tuple[float, float, float]:
        net, optimiser = nets[name], optimisers[name]
        stamps = [seconds(device)]
        for parameters, clip in ((net.architecture(), alpha_clips), (net.weights(), weight_clips)):
            with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                out: Tensor = net(clip)
            gradients = torch.autograd.grad((out.float() * pull).sum(), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            stamps.append(seconds(device))
        return stamps[1] - stamps[0], stamps[2] - stamps[1], stamps[2] - stamps[0]

    rows: list[list[str | float]] = []
    for dtype in (torch.float32, torch.bfloat16):
        times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in nets}
        for repeat in range(asked.repeats + 1):  # one to warm up
            for name in nets:
                taken = step(name, dtype)
                if repeat:
                    times[name].append(taken)
        for name in nets:
            print(f"{name:6} {str(dtype).split('.')[1]:9}", end="")
            for part in range(3):
                ratio = statistics.median(a[part] / b[part] for a, b in zip(times["plain"], times[name], strict=True))
                ms = 1000 * statistics.median(each[part] for each in times[name])
                print(f" {ms:10.0f} ms {ratio:6.2f}", end="")
                if part == 2 and name == "fused":
                    rows.append([str(dtype).split(".")[1], ms, ratio])
            print()
    if asked.out_result:
        save_result(
            asked.out_result,
            question="How much faster is a step of the search with mixed operations computed together?",
            values={"difference": difference, **{f"ratio {row[0]}": row[2] for row in rows}},
            tables={
                "step": {
                    "columns": ["type", "ms of a step", "times as fast as plain PC-DARTS"],
                    "formats": {"ms of a step": ".0f", "times as fast as plain PC-DARTS": ".2f"},
                    "rows": rows,
                }
            },
        )


if __name__ == "__main__":
    main()
