"""Measure speed and memory of ``autohr measure`` on a 30 s and a 10 min video of 640x480, h264, 30 fps.

    python benchmarks/measure.py [--method pos] [--weights FILE]

Without a method: POS, and AutoHR if there are weights of it, shipped or given.

Each measurement is a fresh process, as a user starts it: imports, decoding, faces, colours, rates and output are all in
the time. Memory is that process's peak resident size. The long video is the short one repeated, with its own time
stamps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.methods import METHODS, ready_methods
from autohr.video.decode import open_video
from autohr.video.encode import VideoWriter
from results import save_result

SHORT_S, LONG_S, FPS = 30.0, 600.0, 30.0
CRF = 14
"""About 4 Mbit/s here, as a good webcam or a phone at this size."""


def repeat(short: Path, long: Path, times: int) -> None:
    """Write ``short``, played ``times`` times, as one video."""
    with VideoWriter(long, width=640, height=480, rate_fps=FPS, crf=CRF) as writer:
        for turn in range(times):
            with open_video(short) as video:
                for frame in video:
                    writer.write(frame.rgb, turn * SHORT_S + frame.t_s)


def run(video: Path, method: str, weights: str | None) -> tuple[float, float, float, str]:
    """Return total seconds, seconds after loading libraries, peak MiB and table line of a fresh ``autohr measure``."""
    code = (
        "import resource, sys, time; from autohr.cli.main import main\n"
        "import autohr.measure; from autohr.video.detector import FaceDetector; FaceDetector()\n"
        + ("import autohr.lab.nets._inference\n" if METHODS[method].is_net else "")
        + "began = time.perf_counter()\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(time.perf_counter() - began, peak, file=sys.stderr)"
    )
    given = [] if weights is None else ["--weights", weights]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, "measure", str(video), "--method", method, *given],
        capture_output=True,
        text=True,
        check=True,
        # As the command sets it, which here comes after torch.
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
    )
    took_s = time.perf_counter() - began
    line = next(text for text in done.stdout.splitlines() if "bpm" in text)
    warm_s, peak_kib = done.stderr.split()[-2:]
    return took_s, float(warm_s), int(peak_kib) / 1024, line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method")
    parser.add_argument("--weights", help="for a net: a name of `autohr list weights` or a .safetensors file")
    parser.add_argument("--runs", type=int, default=3, help="of the short video; the fastest counts")
    parser.add_argument("--out-result", type=Path, help="result file, docs/results/speed.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        write_scene(SceneConfig(seed=3, duration_s=SHORT_S, pulse_depth=0.02, noise_sd=1.5), short, crf=CRF)
        repeat(short, long, int(LONG_S / SHORT_S))
        rate = short.stat().st_size * 8 / SHORT_S / 1e6
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; 640x480 h264, {rate:.1f} Mbit/s")
        has_net = options.weights is not None or "autohr" in ready_methods()
        table: list[list[object]] = []
        for method in [options.method] if options.method else ["pos", *(["autohr"] if has_net else [])]:
            weights = options.weights if METHODS[method].is_net else None
            for name, video, duration_s, runs in (("30 s", short, SHORT_S, options.runs), ("10 min", long, LONG_S, 1)):
                took_s, warm_s, peak_mib, line = min(run(video, method, weights) for _ in range(runs))
                speed = f"{duration_s / took_s:4.1f}x real time, {duration_s / warm_s:4.1f}x once libraries are loaded"
                table.append([method, name, round(duration_s / took_s, 2), round(peak_mib)])
                print(f"{method:7} {name:7} {took_s:5.1f} s = {speed}, peak {peak_mib:3.0f} MiB   {line}")
    if options.out_result is not None:
        columns = ["method", "video", "times real time", "peak memory (MiB)"]
        save_result(
            options.out_result,
            question="How fast is `autohr measure` on this machine, and how much memory does it take?",
            values={"cores": os.cpu_count()},
            tables={"measure": {"columns": columns, "formats": {columns[2]: ".1f"}, "rows": table}},
        )


if __name__ == "__main__":
    main()
