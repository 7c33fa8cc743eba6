"""Measure the cost of a second of video: parameters, FLOPs, milliseconds; fp32 and bf16, as trained and folded.

    python benchmarks/net.py [--device cpu] [--threads 1] [--repeats 5] [--only small ...]

Every preset of every net at the size of its clips (a net without presets: 128 frames of 128x128), one clip at a time,
30 frames to the second. FLOPs are counted by torch, two to a multiplication with addition. Milliseconds are medians of
wall time; "cpu" is processor time, which other programs on the machine disturb less. "off" is the largest difference to
fp32 eager, of a net with fresh weights: it says that the arithmetic is sound, not what it does to a trained net. On
"cpu" the last line is the file of ``autohr export`` in onnxruntime.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autohr.lab.nets import NETS, Preset, make_net
from autohr.lab.nets._checkpoint import save_weights
from autohr.lab.nets._export import export_onnx
from autohr.lab.nets._inference import fold

FPS = 30.0


def timed(work: Callable[[], object], repeats: int, device: torch.device) -> tuple[float, float]:
    """(wall, processor) median seconds, the first run left out."""
    wall, processor = [], []
    for _ in range(repeats + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return statistics.median(wall[1:]), statistics.median(processor[1:])


class OnnxNet(nn.Module):
    """The net's ONNX file in onnxruntime, called like the net."""

    def __init__(self, name: str, net: nn.Module, preset: Preset, threads: int) -> None:
        super().__init__()
        cut = {"size_px": preset.size_px, "crop_size_px": preset.size_px, "box": "tracked", "margin": 0.1}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with tempfile.TemporaryDirectory() as folder:
            weights, out = Path(folder) / "net.safetensors", Path(folder) / "net.onnx"
            save_weights(weights, net, name=name, header={"input": {**cut, "n_frames": preset.n_frames}})
            export_onnx(weights, out)
            self.session = onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
        self.takes_fps = len(self.session.get_inputs()) > 1

    def forward(self, clip: Tensor) -> Tensor:
        fed = {"clip": clip.numpy()}
        if self.takes_fps:
            fed["fps"] = torch.full((len(clip),), FPS).numpy()
        return torch.from_numpy(self.session.run(None, fed)[0])


def call(net: nn.Module, clip: Tensor, autocast: bool) -> None:
    with torch.inference_mode(), torch.autocast(clip.device.type, torch.bfloat16, enabled=autocast):
        net(clip)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="presets, or nets without presets")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)

    print(f"{device}, {asked.threads} thread(s), torch {torch.__version__}; per second of video\n")
    for name, spec in NETS.items():
        presets = spec.presets or {name: Preset(spec.config(), 128, 128, "")}
        for label, preset in presets.items():
            if asked.only and label not in asked.only:
                continue
            torch.manual_seed(0)
            net = make_net(name, preset.config).to(device).eval()
            clip = torch.rand(1, 3, preset.n_frames, preset.size_px, preset.size_px, device=device)
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                exact = net(clip)
            flops, video_s = counter.get_total_flops(), preset.n_frames / FPS
            print(
                f"{name} {label}: {preset.n_frames} frames of {preset.size_px}x{preset.size_px}, "
                f"{sum(p.numel() for p in net.parameters()):,} parameters, {flops / 1e9:.2f} GFLOP a clip, "
                f"{flops / 1e9 / video_s:.2f} GFLOP a second"
            )
            forms: dict[str, tuple[nn.Module, bool]] = {
                "fp32 eager": (net, False),
                "fp32 folded": (fold(net), False),
                "bf16 eager": (net, True),
                "bf16 folded": (fold(net, torch.bfloat16), False),
            }
            if device.type == "cpu":
                forms["fp32 onnx"] = (OnnxNet(name, net, preset, asked.threads), False)
            for form, (module, autocast) in forms.items():
                wall, processor = timed(
                    lambda module=module, autocast=autocast, clip=clip: call(module, clip, autocast),  # type: ignore[misc]
                    asked.repeats,
                    device,
                )
                with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    off = float((module(clip) - exact).abs().max() / exact.std())
                print(
                    f"    {form:12} {wall / video_s * 1000:8.1f} ms  (cpu {processor / video_s * 1000:8.1f} ms), "
                    f"off by {off:.0e} of the wave's sd"
                )
            print()


if __name__ == "__main__":
    main()
