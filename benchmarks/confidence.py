"""Does the confidence mean something? Clips without a pulse must not be called reliable, reliable rates must be right.

    python benchmarks/confidence.py                    measure: 400 clips, two tables (about 15 minutes on two cores)
    python benchmarks/confidence.py --fit              make other clips, fit the weights of signals/quality.py, print
    them python benchmarks/confidence.py --portraits DIR    also photographs of real people as clips without a pulse

Every clip is rendered, encoded to a file, and measured by the same ``Meter`` as any user's. Clips without a pulse, in
equal parts: still photographs with sensor noise, moving photographs (swaying, nodding), photographs under flickering
light, living faces with the pulse switched off, walls. Clips with one: 45..165 bpm, green's linear light modulated by
0.4..3 % peak to peak (the one real face at hand shows 2.2 %), still to restless, steady to drifting or flickering
light, 15..60 frames per second, h264 at crf 3..20 (0.05 to 15 Mbit/s) with key frames every half second to never, or
mjpeg. The clips of ``--fit`` and those of the measurement come from different seeds, so from different faces, rates
and lights."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from scipy.optimize import minimize

from autohr.measure import summarise
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS, Method
from autohr.signals.quality import RELIABLE_CONFIDENCE, TRUSTED_S, confidence, features, impostor
from autohr.synth.video import SceneConfig, SceneTruth, write_scene
from autohr.types import Estimate, Evidence, FaceClip, Frame
from autohr.video.decode import open_video
from autohr.video.encode import write_video

WITHIN_BPM = 5.0
FIT_SEED, TEST_SEED = 100_000, 500_000
DURATION_S = 12.0
KINDS = ("still photo", "moving photo", "flickering photo", "no pulse", "wall", "portrait")


@dataclass(frozen=True)
class Row:
    """One clip, as measured."""

    seed: int
    kind: str
    method: str
    hr_true_bpm: float | None
    hr_bpm: float | None
    confidence: float
    reliable: bool
    windows: list[dict[str, Any]]
    """Evidence of every reading with its own truth, for the fit."""


def scene(seed: int, pulse: bool) -> tuple[str, SceneConfig, dict[str, Any]]:
    """A random scene with its kind and how it is encoded."""
    rng = np.random.default_rng(seed)
    width, height = [(320, 240), (480, 360), (640, 480)][rng.choice(3, p=[0.55, 0.3, 0.15])]
    fps = float(rng.choice([15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0], p=[0.1, 0.1, 0.2, 0.15, 0.3, 0.05, 0.1]))
    common: dict[str, Any] = {
        "seed": seed,
        "duration_s": DURATION_S,
        "width": width,
        "height": height,
        "fps": fps,
        "noise_sd": float(np.exp(rng.uniform(np.log(0.4), np.log(4.0)))),
        "light_drift": float(rng.choice([0.0, 0.02, 0.06])),
        "exposure": float(rng.uniform(0.5, 1.1)),
        "background": str(rng.choice(["plain", "room", "clutter"])),
        "jitter_s": float(rng.choice([0.0, 0.1 / fps])),
        "drop_share": float(rng.choice([0.0, 0.0, 0.05])),
    }
    flicker: dict[str, Any] = {
        "flicker_hz": float(rng.uniform(0.7, 2.9)),
        "flicker_depth": float(np.exp(rng.uniform(np.log(0.003), np.log(0.08)))),
        "flicker_rgb": tuple(float(v) for v in (rng.uniform(0.3, 1.0, 3) if rng.uniform() < 0.5 else np.ones(3))),
    }
    nod: dict[str, Any] = {"nod_hz": float(rng.uniform(0.7, 2.5)), "nod_amplitude": float(rng.uniform(0.005, 0.05))}
    encoding = {
        "codec": str(rng.choice(["libx264", "libx264", "libx264", "mjpeg"])),
        "crf": int(rng.integers(3, 21)),
        "gop": [None, round(fps), 2 * round(fps), 15][rng.integers(4)],
    }
    if pulse:
        chosen: dict[str, Any] = {
            "hr_bpm": float(rng.uniform(45, 165)),
            "hrv": float(rng.uniform(0.0, 0.04)),
            "pulse_depth": float(np.exp(rng.uniform(np.log(0.004), np.log(0.03)))),
            "motion": float(rng.choice([0.0, 0.2, 0.5, 1.0])),
        }
        if rng.uniform() < 0.15:
            chosen |= flicker
        if rng.uniform() < 0.15:
            chosen |= nod
        return "pulse", SceneConfig(**common, **chosen), encoding
    kind = ["still photo", "moving photo", "flickering photo", "no pulse", "wall"][seed % 5]
    chosen = {"pulse_depth": 0.0, "motion": 0.0}
    if kind == "wall":
        chosen |= {"kind": "wall"}
    elif kind == "no pulse":
        chosen |= {"motion": float(rng.uniform(0, 1.0))} | (flicker if rng.uniform() < 0.3 else {})
    else:
        chosen |= {"kind": "photo"}
        if kind == "still photo":
            common["light_drift"] = 0.0
        if kind == "moving photo":
            chosen |= {"motion": float(rng.uniform(0.2, 1.5))} | (nod if rng.uniform() < 0.5 else {})
        if kind == "flickering photo":
            chosen |= flicker | {"motion": float(rng.choice([0.0, 0.3]))}
    return kind, SceneConfig(**common, **chosen), encoding


class Panel:
    """All methods on the same clip, so that faces are found once: a ``Method`` to the meter, a record to us."""

    name, crop_px = "panel", None

    def __init__(self, methods: tuple[str, ...]) -> None:
        self.methods = {name: METHODS[name] for name in methods}
        self.estimates: list[dict[str, Estimate]] = []

    def __call__(self, clip: FaceClip) -> Estimate:
        self.estimates.append({name: method(clip) for name, method in self.methods.items()})
        return next(iter(self.estimates[-1].values()))


def judge(video: Path, seed: int, kind: str, methods: tuple[str, ...], known: SceneTruth | None) -> list[Row]:
    """What the meter says of the clip with each method, and the evidence of every reading."""
    panel = Panel(methods)
    meter = Meter(cast(Method, panel), MeterConfig())
    with open_video(video) as frames:
        readings = [
            reading for frame in frames for reading in meter.push(frame.rgb, frame.t_s, whole=frame.whole)
        ] + meter.finish()
    true_bpm = None if known is None else known.mean_hr_bpm
    if not readings:
        return [Row(seed, kind, method, true_bpm, None, 0.0, False, []) for method in methods]
    rows = []
    for method in methods:
        own = [replace(r, estimate=e[method]) for r, e in zip(readings, panel.estimates, strict=True)]
        windows = []
        for reading in own:
            estimate = reading.estimate
            if estimate.evidence is None or estimate.hr_bpm is None:
                continue
            error_bpm = None
            if known is not None and true_bpm is not None:
                inside = (known.t_s >= reading.start_s) & (known.t_s <= reading.end_s)
                error_bpm = estimate.hr_bpm - float(known.hr_bpm[inside].mean())
            windows.append({"error_bpm": error_bpm, "hr_bpm": estimate.hr_bpm, "evidence": asdict(estimate.evidence)})
        face = summarise([reading for reading in own if reading.face_id == own[0].face_id])
        rows.append(Row(seed, kind, method, true_bpm, face.hr_bpm, face.confidence, face.reliable, windows))
    return rows


def run_scene(seed: int, pulse: bool, methods: tuple[str, ...]) -> list[Row]:
    kind, config, encoding = scene(seed, pulse)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mkv"
        known = write_scene(config, video, **encoding)
        return judge(video, seed, kind, methods, known if pulse else None)


def run_portrait(picture: Path, seed: int, methods: tuple[str, ...]) -> list[Row]:
    """A photograph of a real person before a noisy camera: still, or swaying, or under flickering light."""
    rng = np.random.default_rng(seed)
    picture_bgr = cv2.imread(str(picture))
    assert picture_bgr is not None, picture
    photo = cv2.resize(cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2RGB), (288, 288)).astype(np.float32)
    fps, noise_sd = 30.0, float(rng.uniform(0.5, 4))
    sway_px, flicker = float(rng.choice([0.0, 3.0])), float(rng.choice([0.0, 0.02]))
    hz = float(rng.uniform(0.7, 2.5))
    colour = rng.uniform(0.5, 1.0, 3) if rng.uniform() < 0.5 else np.ones(3)

    def frames() -> Iterator[Frame]:
        for k in range(int(DURATION_S * fps)):
            t_s = k / fps
            x_px = sway_px * np.sin(0.9 * t_s)
            y_px = sway_px * (np.sin(0.4 * t_s + 1) + 0.3 * np.sin(2 * np.pi * hz * t_s))
            place = np.array([[1, 0, 16 + x_px], [0, 1, 16 + y_px]])
            moved = cv2.warpAffine(photo, place, (320, 320), borderMode=cv2.BORDER_REFLECT)
            lit = moved * (1 + flicker * np.sin(2 * np.pi * hz * t_s) * colour)
            noise = rng.standard_normal(moved.shape, dtype=np.float32) * noise_sd
            yield np.clip(np.rint(lit + noise), 0, 255).astype(np.uint8)

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, frames(), fps=fps, crf=int(rng.integers(3, 21)), gop=[None, 30][rng.integers(2)])
        return judge(video, seed, "portrait", methods, None)


def measure_all(n_each: int, first_seed: int, methods: tuple[str, ...], portraits: Path | None, out: Path) -> list[Row]:
    """Rows of n_each clips without a pulse and n_each with one (and each portrait once), kept in ``out`` as they come:
    a run that was cut off goes on where it was."""
    rows = [Row(**json.loads(line)) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(row.seed, row.kind == "pulse") for row in rows}
    jobs: list[tuple[Callable[..., list[Row]], tuple[Any, ...]]] = []
    for k in range(n_each):
        for pulse in (False, True):
            if (first_seed + k, pulse) not in done:
                jobs.append((run_scene, (first_seed + k, pulse, methods)))
    for k, picture in enumerate(sorted(portraits.glob("*.jpg")) if portraits is not None else []):
        if (first_seed + 50_000 + k, False) not in done:
            jobs.append((run_portrait, (picture, first_seed + 50_000 + k, methods)))
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        ProcessPoolExecutor(os.cpu_count(), initializer=cv2.setNumThreads, initargs=(1,)) as pool,
        out.open("a") as log,
    ):
        futures = [pool.submit(function, *arguments) for function, arguments in jobs]
        for number, future in enumerate(as_completed(futures), 1):
            for row in future.result():
                rows.append(row)
                log.write(json.dumps(asdict(row)) + "\n")
            log.flush()
            print(f"\r{number} of {len(jobs)} clips", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def print_tables(rows: list[Row], methods: tuple[str, ...]) -> None:
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    print("Without a pulse: clips called reliable / clips")
    print(f"{'method':8}" + "".join(f"{kind:>18}" for kind in kinds) + f"{'all':>18}")
    for method in methods:
        cells = []
        for group in [[kind] for kind in kinds] + [kinds]:
            mine = [row for row in rows if row.method == method and row.kind in group]
            wrong = sum(row.reliable for row in mine)
            cells.append(f"{wrong} / {len(mine)}" + (f" = {100 * wrong / len(mine):.1f} %" if len(group) > 1 else ""))
        print(f"{method:8}" + "".join(f"{cell:>18}" for cell in cells))
    print()
    print(f"With a pulse: right means within {WITHIN_BPM:g} bpm")
    print(f"{'method':8}{'clips':>8}{'right':>10}{'reliable':>10}{'right of reliable':>20}{'reliable of right':>20}")
    for method in methods:
        mine = [row for row in rows if row.method == method and row.kind == "pulse"]
        right = [r for r in mine if r.hr_bpm is not None and abs(r.hr_bpm - (r.hr_true_bpm or 0)) <= WITHIN_BPM]
        trusted = [row for row in mine if row.reliable]
        both = sum(row.reliable for row in right)
        print(
            f"{method:8}{len(mine):>8}{len(right) / len(mine):>10.1%}{len(trusted) / len(mine):>10.1%}"
            f"{f'{both} / {len(trusted)} = {both / max(1, len(trusted)):.1%}':>20}"
            f"{f'{both} / {len(right)} = {both / max(1, len(right)):.1%}':>20}"
        )
    print()
    print("Calibration: of the readings (not vetoed) with a confidence in ..., this share is within 5 bpm")
    for method in methods:
        evidence = [(Evidence(**w["evidence"]), is_right(w)) for r in rows if r.method == method for w in r.windows]
        scored = [(confidence(given), right) for given, right in evidence if impostor(given) is None]
        edges = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
        cells = []
        for low, high in pairwise(edges):
            inside = [right for sure, right in scored if low <= sure < high or (high == 1.0 and sure == 1.0)]
            cells.append(f"{low:g}-{high:g}: " + (f"{np.mean(inside):.0%} of {len(inside)}" if inside else "none"))
        print(f"{method:8}" + "   ".join(cells))


def is_right(window: dict[str, Any]) -> bool:
    return window["error_bpm"] is not None and abs(window["error_bpm"]) <= WITHIN_BPM


def fit(rows: list[Row]) -> None:
    """Print the weights of signals/quality.py: logistic regression on all readings, weights held at 0 or above.

    Held so because evidence may only speak for a rate in its own direction: a weight below 0 is chance.
    """
    readings = [window for row in rows for window in row.windows]
    windows = [window for window in readings if impostor(Evidence(**window["evidence"])) is None]
    print(f"{len(readings) - len(windows)} of {len(readings)} readings are vetoed by an impostor and take no part.")
    x = np.array([features(Evidence(**window["evidence"])) for window in windows])
    y = np.array([is_right(window) for window in windows], dtype=np.float64)
    design = np.column_stack([x, np.ones(len(x))])

    def loss(weights: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        score = design @ weights
        value = np.logaddexp(0, score) - y * score
        slope = design.T @ (1 / (1 + np.exp(-score)) - y)
        ridge = 1e-3 * len(y)
        return float(value.sum() + ridge * (weights[:-1] ** 2).sum() / 2), slope + ridge * np.append(weights[:-1], 0)

    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    best = minimize(loss, np.zeros(design.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B")
    sure = 1 / (1 + np.exp(-design @ best.x))
    print(f"{len(y)} readings, {y.mean():.1%} right. Mean loss {best.fun / len(y):.4f}.")
    for threshold in (0.5, 0.75, 0.8, 0.9, 0.95):
        trusted = sure >= threshold
        share = f"{y[trusted].mean():.1%} of {trusted.sum()} right"
        print(f"  at {threshold}: {share}; {trusted[y == 1].mean():.1%} of the right ones trusted")
    print("WEIGHTS = np.array([" + ", ".join(f"{weight:.3f}" for weight in best.x) + "])")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200, help="clips without a pulse, and as many with one")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--portraits", type=Path, help="folder of photographs (*.jpg)")
    parser.add_argument("--seed", type=int, help="first seed, to make clips that neither fit nor measurement has seen")
    parser.add_argument("--methods", default="pos,chrom,ica,green")
    parser.add_argument("--out", type=Path, default=Path("runs/confidence"), help="folder for the rows of every clip")
    options = parser.parse_args()
    methods = tuple(options.methods.split(","))
    name, seed = ("fit.jsonl", FIT_SEED) if options.fit else ("test.jsonl", TEST_SEED)
    rows = measure_all(options.clips, options.seed or seed, methods, options.portraits, options.out / name)
    if options.fit:
        fit(rows)
    print(f"Reliable means a confidence of at least {RELIABLE_CONFIDENCE} over at least {TRUSTED_S:g} s.")
    print_tables(rows, methods)


if __name__ == "__main__":
    main()
