"""Time of ``prepare`` on one and on two workers, and what sharing the work out costs the processors.

python benchmarks/cluster.py            kills.py is the other half: bytes after SIGKILL at random moments
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import prepare
from autohr.lab.datasets.recording import Recording, Reference
from autohr.lab.synth.video import SceneConfig, truth, write_scene

CROP = CropConfig(size_px=64)


def recordings(folder: Path, n: int, duration_s: float) -> list[Recording]:
    """Make ``n`` videos of different people, or take those that are there."""
    found = []
    for seed in range(n):
        scene = SceneConfig(seed=seed, duration_s=duration_s, width=320, height=240, fps=25.0, face_px=150)
        path = folder / f"{seed}.mp4"
        if not path.exists():
            write_scene(scene, path)
        known = truth(scene)
        reference = Reference(np.asarray(known.t_s), np.asarray(known.bvp), np.asarray(known.hr_bpm))
        found.append(Recording("made", f"s{seed}", "1", path, reference))
    return found


def speed(n: int, duration_s: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = recordings(folder, n, duration_s)
        # In turn and again, for other processes come and go.
        for turn in range(2):
            for workers in (1, 2):
                before, begun_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                process = multiprocessing.get_context("spawn").Process(
                    target=prepare, args=(found, folder / f"{turn}-{workers}", CROP), kwargs={"workers": workers}
                )
                process.start()
                process.join()
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(
                    f"{workers} worker(s): {time.monotonic() - begun_s:.1f} s, {cpu_s:.1f} s of processors", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=6)
    parser.add_argument("--duration-s", type=float, default=8.0)
    args = parser.parse_args()
    speed(args.recordings, args.duration_s)


if __name__ == "__main__":
    main()
