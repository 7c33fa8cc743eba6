"""Compare the tracked face box with the paper's fixed box of the first frame: rate and signal-to-noise ratio.

    python benchmarks/box.py VIDEO [VIDEO]
    python benchmarks/box.py                  drawn faces that sway

The drawn faces differ in how much they move (see HeadMotion.sway); five seeds each. ``right`` is within 5 bpm.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.measure import measure
from autohr.methods import METHODS

BOXES = ("tracked", "first")
MOTIONS = (0.0, 0.25, 0.5, 1.0)
SEEDS = range(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    options = parser.parse_args()
    for video in options.videos:
        print(video.name)
        for method in (name for name, method in METHODS.items() if not method.is_net):  # a net has its training's box
            cells = []
            for box in BOXES:
                face = measure(video, method, box=box).face
                rate = "none" if face.hr_bpm is None else f"{face.hr_bpm:6.1f} bpm"
                cells.append(f"{box}: {rate}, {face.snr_db or 0:5.1f} dB, confidence {face.confidence:.2f}")
            print(f"  {method:6} " + "   ".join(cells))
    if options.videos:
        return
    for motion in MOTIONS:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for seed in SEEDS:
            scene = SceneConfig(
                seed=1000 + seed,
                duration_s=12,
                width=480,
                height=360,
                hr_bpm=55.0 + 20 * seed,
                pulse_depth=0.015,
                head=HeadMotion(sway=motion),
            )
            with tempfile.TemporaryDirectory() as folder:
                video = Path(folder) / "clip.mp4"
                true_bpm = write_scene(scene, video, crf=6).mean_hr_bpm or 0.0
                for box in BOXES:
                    for method in ("pos", "chrom", "green"):
                        face = measure(video, method, box=box).face
                        error_bpm = abs((face.hr_bpm or 0.0) - true_bpm)
                        found.setdefault((box, method), []).append((error_bpm, face.snr_db or 0.0))
        print(f"motion {motion:g}: right of {len(SEEDS)}, mean SNR")
        for method in ("pos", "chrom", "green"):
            cells = []
            for box in BOXES:
                errors, snr = np.array(found[box, method]).T
                cells.append(f"{box}: {(errors <= 5).sum()} right, {snr.mean():5.1f} dB")
            print(f"  {method:6} " + "   ".join(cells))


if __name__ == "__main__":
    main()
