"""Measure what the confidence is worth: false alarms without a pulse, errors of rates that are called reliable.

    python benchmarks/confidence.py [--weights FILE]      measure: 400 clips, two tables
    python benchmarks/confidence.py --fit --clips 477 [--more ROWS]
                                                          make other clips, fit the weights of confidence/model.py
    python benchmarks/confidence.py --attacks 1000        measure clips without a pulse that are meant to look like one
    python benchmarks/confidence.py --portraits DIR       half of the people are brought to life from photographs

Every clip is rendered, encoded to a file, tracked once, and measured with every method by the same ``Meter`` as any
user's. Clips without a pulse, in equal parts: still photographs with sensor noise, moving photographs (swaying,
nodding), photographs under flickering light, living faces with the pulse switched off, talking ones too, walls; and,
with ``--portraits``, photographs of real people moved as a whole. Clips with one: 45..165 bpm, green's linear light
modulated by 0.4..3 % peak to peak (the one real face at hand shows 2.2 %), still to restless, half of them talking,
steady light to a screen's or a flicker, 15..60 frames per second, h264 at crf 3..20 with key frames every half second
to never, or mjpeg. The clips of ``--fit`` and of ``--attacks`` are harder: h264 up to crf 30, lamps that beat on the
face alone, and photographs that sway, are moved by a hand or both under a lamp (``hard_clip``). Clips of the fit and of
measurements come from different seeds, so from different faces, rates and lights, and from different portraits (every
fifth is for measuring, as in ``synth/recordings.py``).
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from autohr.confidence.model import RELIABLE_CONFIDENCE, WEIGHTS, confidence, features
from autohr.confidence.verdict import TRUSTED_S, is_refused
from autohr.frontend import Crop, shrink
from autohr.lab.synth import portrait
from autohr.lab.synth.life import HeadMotion, Rhythm
from autohr.lab.synth.recordings import TEST_EVERY, Picture, usable_portraits
from autohr.lab.synth.video import SceneConfig, SceneTruth, write_scene
from autohr.measure import summarise
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS, Method, Stream, load_method, shipped_weights
from autohr.types import Estimate, Evidence, EvidenceKind, FaceClip, Float, Frame, Reading
from autohr.video.decode import open_video
from autohr.video.encode import write_video
from autohr.workers import in_workers
from results import markdown_table, save_result

Job = TypeVar("Job")

CLASSICS = ("pos", "chrom", "ica", "green", "mvdr")
WITHIN_BPM = 5.0
FIT_SEED, TEST_SEED, ATTACK_SEED = 7_000_000, 500_000, 8_000_000
DURATION_S = 12.0
NO_PULSE = ("still photo", "moving photo", "flickering photo", "no pulse", "talking face", "wall")
MOVES = ("still", "sway", "hand", "flicker", "hand and flicker")
KINDS = (*NO_PULSE, "portrait", "lamp on the face", *(f"photo: {move}" for move in MOVES))
PULSE_SHARE, LAMP_SHARE, PHOTO_SHARE = 0.46, 0.1, 0.14
"""Shares of the clips of the fit that have a pulse, are lamps on the face alone, and are photographs moved as a whole;
the rest are the other kinds without a pulse."""
PHOTOS_PER_CLIP = 0.4
"""Photographs moved as a whole, for each clip without a pulse of the other kinds."""


# ---------------------------------------------------------------------------------------------------------------------
# One tracking, many methods (benchmarks/transfer.py uses this too)


class Streams:
    """Streams of several nets over the same stored crops: one ``Stream``, whose rows are those of all of them."""

    def __init__(self, streams: Sequence[Stream], sizes_px: Sequence[int]) -> None:
        self.streams, self.sizes_px = streams, sizes_px
        self.delay_s = max(one.delay_s for one in streams)

    @property
    def n_known(self) -> int:
        return min(one.n_known for one in self.streams)

    def push(self, crop: Frame) -> None:
        shrunk = {size_px: shrink(crop, size_px) for size_px in set(self.sizes_px)}
        for one, size_px in zip(self.streams, self.sizes_px, strict=True):
            one.push(shrunk[size_px])

    def end(self) -> None:
        for one in self.streams:
            one.end()

    def wave(self, first: int, n_frames: int) -> Float:
        return np.stack([one.wave(first, n_frames) for one in self.streams])

    def forget(self, first: int) -> None:
        for one in self.streams:
            one.forget(first)


class Panel:
    """Methods on the same clip, so that faces are found once: a ``Method`` to the meter, a record to us."""

    name, weights = "panel", None

    def __init__(self, methods: Sequence[Method], crop: Crop | None) -> None:
        self.methods, self.crop = methods, crop
        self.nets = [one for one in methods if one.stream is not None]
        self.stream = self._make_streams if self.nets else None
        self.estimates: list[dict[str, Estimate]] = []

    def _make_streams(self, fps: float) -> Streams:
        streams = [one.stream(fps) for one in self.nets if one.stream is not None]
        return Streams(streams, [one.crop.size_px for one in self.nets if one.crop is not None])

    def __call__(self, clip: FaceClip) -> Estimate:
        # A formula gets no more than the meter would give it alone, and a net its own waves.
        bare = replace(clip, clip=None, cells=None, net_wave=None)
        seen = {one.name: replace(clip, net_wave=None) if one.crop else bare for one in self.methods}
        if clip.net_wave is not None:
            for one, wave in zip(self.nets, clip.net_wave, strict=True):
                seen[one.name] = replace(clip, net_wave=wave)
        self.estimates.append({one.name: one(seen[one.name]) for one in self.methods})
        return next(iter(self.estimates[-1].values()))


def default_methods(weights: str | None) -> tuple[str, ...]:
    """Return the net of ``weights``, or AutoHR if its weights are shipped, and the formulas."""
    if weights is not None:
        return (load_method(None, Path(weights)).name, *CLASSICS)
    return (*(("autohr",) if "autohr" in shipped_weights() else ()), *CLASSICS)


@functools.lru_cache(maxsize=2)
def load_methods(names: tuple[str, ...], weights: str | None) -> tuple[Method, ...]:
    given = None if weights is None else Path(weights)
    return tuple(load_method(name, given if name in METHODS and METHODS[name].is_net else None) for name in names)


def read_video(video: Path, methods: Sequence[Method]) -> dict[str, list[Reading]]:
    """Return the readings of every method, by name. Faces are tracked once for all, but for nets with other crops."""
    # Each method's crops as they are stored, before they are shrunk to the size that it wants.
    stored = {method.name: replace(crop, size_px=crop.stored_px) for method in methods if (crop := method.crop)}
    shared = next((crop for crop in stored.values() if crop.box == "tracked"), None)
    groups: dict[Crop | None, list[Method]] = {}
    for method in methods:
        groups.setdefault(stored.get(method.name, shared), []).append(method)
    found: dict[str, list[Reading]] = {}
    for crop, group in groups.items():
        panel = Panel(group, crop)
        meter = Meter(cast(Method, panel), MeterConfig())
        with open_video(video) as frames:
            readings = [
                reading for frame in frames for reading in meter.push(frame.rgb, frame.t_s, whole=frame.whole)
            ] + meter.finish()
        for method in group:
            found[method.name] = [
                replace(reading, estimate=estimates[method.name])
                for reading, estimates in zip(readings, panel.estimates, strict=True)
            ]
    return found


def first_face(readings: list[Reading]) -> list[Reading]:
    """Return the readings of the face that ``measure`` lists first."""
    first = min(reading.face_id for reading in readings)
    return [reading for reading in readings if reading.face_id == first]


def true_rate_bpm(known: SceneTruth, start_s: float, end_s: float) -> float:
    """Mean of the true rate over a stretch."""
    inside = (known.t_s >= start_s) & (known.t_s <= end_s)
    return float(known.hr_bpm[inside].mean())


def pictures_of(folder: Path, test: bool) -> list[Picture]:
    """Return the usable portraits for testing, or those for training, as ``autohr synth --split`` deals them.

    Which are usable takes half a second for each, so it is kept under runs/ until a picture or the analysis changes.
    """
    parts = [path.name.encode() + path.read_bytes() for path in [*sorted(folder.iterdir()), Path(portrait.__file__)]]
    kept = Path("runs") / f"portraits-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.json"
    if kept.exists():
        pictures = [Picture(folder.resolve() / name, cut_out) for name, cut_out in json.loads(kept.read_text())]
    else:
        pictures = list(usable_portraits(folder))
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps([(one.path.name, one.cut_out) for one in pictures]))
    return [one for place, one in enumerate(pictures) if (place % TEST_EVERY == TEST_EVERY - 1) == test]


def fingerprint(methods: tuple[str, ...], weights: str | None) -> dict[str, Any]:
    """Methods and weights of a run: rows of another net must not be mixed with these."""
    files = {} if weights is None else {"given": Path(weights)}
    files |= {name: path for name, path in shipped_weights().items() if weights is None and name in methods}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()}
    return {"methods": list(methods), "weights": digests}


def resume(out: Path, setup: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that a run cut off before has left in ``out``; its first line says of what setup they are."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(setup) + "\n")
        return []
    lines = out.read_text().splitlines(keepends=True)
    if json.loads(lines[0]) != setup:
        sys.exit(f"{out} holds rows of another setup ({lines[0]}); this is {json.dumps(setup)}. Choose another --out.")
    if not lines[-1].endswith("\n"):
        # Killed in the middle of a line: this clip is made again.
        out.write_text("".join(lines := lines[:-1]))
    return [row for line in lines[1:] for row in json.loads(line)]


def run_jobs(
    work: Callable[[Job], list[dict[str, Any]]], jobs: Sequence[Job], workers: int, out: Path
) -> list[dict[str, Any]]:
    """Run all jobs and return their rows, each kept in ``out`` as it comes."""
    if workers > 1:
        # Threads of one process wait for those of the others; read when a worker imports its libraries.
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    rows = []
    with out.open("a") as log:
        for number, (_, made) in enumerate(in_workers(work, jobs, workers), 1):
            rows += made
            # One line for all methods of a clip, so that a clip is there whole or not at all.
            log.write(json.dumps(made) + "\n")
            log.flush()
            print(f"\r{number} of {len(jobs)} clips", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Clips


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


@dataclass(frozen=True)
class Clip:
    """One clip to be made and measured: a scene, or a photograph that is moved as a whole."""

    seed: int
    pulse: bool
    methods: tuple[str, ...]
    weights: str | None
    pictures: tuple[Picture, ...] = ()
    photo: Path | None = None
    is_hard: bool = False
    """True for ``hard_clip``, of which ``pulse`` says whether it may be one with a pulse."""


def scene(seed: int, pulse: bool, pictures: Sequence[Picture]) -> tuple[str, SceneConfig, dict[str, Any]]:
    """Return a random kind, scene and encoding; half of the people are from ``pictures``, if there are any."""
    rng = np.random.default_rng(seed)
    width, height = [(320, 240), (480, 360), (640, 480)][rng.choice(3, p=[0.55, 0.3, 0.15])]
    fps = float(rng.choice([15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0], p=[0.1, 0.1, 0.2, 0.15, 0.3, 0.05, 0.1]))
    common: dict[str, Any] = {
        "seed": seed,
        "duration_s": DURATION_S,
        "width": width,
        "height": height,
        "fps": fps,
        "face_px": round(height * float(rng.uniform(0.38, 0.6))),
        "noise_sd": float(np.exp(rng.uniform(np.log(0.4), np.log(4.0)))),
        "light_drift": float(rng.choice([0.0, 0.02, 0.06])),
        "exposure": float(rng.uniform(0.5, 1.1)),
        "background": str(rng.choice(["plain", "room", "clutter"])),
        "jitter_s": float(rng.choice([0.0, 0.1 / fps])),
        "drop_share": float(rng.choice([0.0, 0.0, 0.05])),
        "auto_exposure": float(rng.uniform(0.2, 0.9)) if rng.uniform() < 0.3 else 0.0,
    }
    flicker: dict[str, Any] = {
        "flicker_hz": float(rng.uniform(0.7, 2.9)),
        "flicker_depth": float(np.exp(rng.uniform(np.log(0.003), np.log(0.08)))),
        "flicker_rgb": tuple(float(v) for v in (rng.uniform(0.3, 1.0, 3) if rng.uniform() < 0.5 else np.ones(3))),
    }
    screen: dict[str, Any] = {
        "screen_depth": float(rng.uniform(0.005, 0.05)),
        "room_light": float(rng.uniform(0.2, 1.0)),
    }
    nod: dict[str, Any] = {
        "rhythm_hz": float(rng.uniform(0.7, 2.5)),
        "rhythm_amplitude": float(rng.uniform(0.005, 0.05)),
    }
    rhythms: tuple[Rhythm, ...] = ("nod", "shake", "rock")
    rhythm = rhythms[int(rng.integers(3))]
    talk = float(rng.uniform(0.4, 1.2))
    living = HeadMotion(
        sway=float(rng.choice([0.0, 0.2, 0.5, 1.0])),
        turn_deg=float(rng.uniform(0, 7)),
        expression=float(rng.uniform(0, 1)),
        blinks_per_min=float(rng.uniform(3, 30)),
    )
    encoding = {
        "codec": str(rng.choice(["libx264", "libx264", "libx264", "mjpeg"])),
        "crf": int(rng.integers(3, 21)),
        "gop": [None, round(fps), 2 * round(fps), 15][rng.integers(4)],
    }
    by_portrait, place, cut_out = rng.uniform() < 0.5, rng.uniform(), rng.uniform() < 0.4
    if pictures and by_portrait:
        picture = pictures[int(place * len(pictures))]
        common |= {"portrait": str(picture.path), "cut_out": bool(cut_out and picture.cut_out)}
    chance = rng.uniform(size=4)
    if pulse:
        head = replace(living, talk=talk if chance[0] < 0.5 else 0.0)
        if chance[1] < 0.15:
            head = replace(head, rhythm=rhythm, **nod)
        chosen: dict[str, Any] = {
            "hr_bpm": float(rng.uniform(45, 165)),
            "hrv": float(rng.uniform(0.0, 0.04)),
            "pulse_depth": float(np.exp(rng.uniform(np.log(0.004), np.log(0.03)))),
            "head": head,
        }
        if chance[2] < 0.15:
            chosen |= flicker
        if chance[3] < 0.2:
            chosen |= screen
        return "pulse", SceneConfig(**common, **chosen), encoding
    kind = NO_PULSE[seed % len(NO_PULSE)]
    statue = HeadMotion(0, 0, 0, 0, 0)
    chosen = {"pulse_depth": 0.0, "head": statue}
    if kind == "wall":
        for name in ("portrait", "cut_out"):
            common.pop(name, None)
        chosen |= {"kind": "wall"}
    elif kind in ("no pulse", "talking face"):
        chosen |= {"head": replace(living, talk=talk if kind == "talking face" else 0.0)}
        chosen |= (flicker if chance[2] < 0.3 else {}) | (screen if chance[3] < 0.3 else {})
    else:
        chosen |= {"kind": "photo"}
        if kind == "still photo":
            common["light_drift"] = 0.0
        if kind == "moving photo":
            rocking = {"rhythm": rhythm, **nod} if chance[1] < 0.5 else {}
            chosen |= {"head": replace(statue, sway=float(rng.uniform(0.2, 1.5)), **rocking)}
        if kind == "flickering photo":
            chosen |= flicker | {"head": replace(statue, sway=float(rng.choice([0.0, 0.3])))}
    return kind, SceneConfig(**common, **chosen), encoding


def measure_clip(video: Path, seed: int, kind: str, methods: Sequence[Method], known: SceneTruth | None) -> list[Row]:
    """Measure a clip with each method; return the rates with the evidence of every reading."""
    true_bpm = None if known is None else known.mean_hr_bpm
    rows = []
    for name, readings in read_video(video, methods).items():
        if not readings:
            rows.append(Row(seed, kind, name, true_bpm, None, 0.0, False, []))
            continue
        windows = []
        for reading in readings:
            estimate = reading.estimate
            if estimate.evidence is None or estimate.hr_bpm is None:
                continue
            error_bpm = None
            if known is not None and true_bpm is not None:
                error_bpm = estimate.hr_bpm - true_rate_bpm(known, reading.start_s, reading.end_s)
            windows.append({"error_bpm": error_bpm, "hr_bpm": estimate.hr_bpm, "evidence": asdict(estimate.evidence)})
        face = summarise(first_face(readings))
        rows.append(Row(seed, kind, name, true_bpm, face.hr_bpm, face.confidence, face.reliable, windows))
    return rows


def run_clip(clip: Clip) -> list[dict[str, Any]]:
    methods = load_methods(clip.methods, clip.weights)
    with tempfile.TemporaryDirectory() as folder:
        if clip.is_hard:
            video, kind, known = hard_clip(clip.seed, clip.pictures, Path(folder), clip.pulse)
            rows = measure_clip(video, clip.seed, kind, methods, known)
        elif clip.photo is not None:
            video = Path(folder) / "clip.mp4"
            move_photo(clip.photo, clip.seed, video)
            rows = measure_clip(video, clip.seed, "portrait", methods, None)
        else:
            kind, config, encoding = scene(clip.seed, clip.pulse, clip.pictures)
            video = Path(folder) / "clip.mkv"
            known = write_scene(config, video, **encoding)
            rows = measure_clip(video, clip.seed, kind, methods, known if clip.pulse else None)
    return [asdict(row) for row in rows]


def move_photo(picture: Path, seed: int, video: Path) -> None:
    """Write a video of a photograph of a real person before a noisy camera: still, swaying, or under a flicker."""
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

    write_video(video, frames(), fps=fps, crf=int(rng.integers(3, 21)), gop=[None, 30][rng.integers(2)])


def hard_clip(seed: int, pictures: Sequence[Picture], folder: Path, pulse: bool) -> tuple[Path, str, SceneTruth | None]:
    """Make a clip of the fit, or an attack if it may have no ``pulse``; return file, kind and truth."""
    rng = np.random.default_rng([seed, 99])
    # An attack is a photograph moved as a whole (half of them), a lamp on the face, or one of the other kinds.
    a_lamp = PHOTO_SHARE + PULSE_SHARE + 0.5 * LAMP_SHARE
    draw = rng.uniform() if pulse else rng.choice([0.0, 1.0, a_lamp], p=[0.5, 0.3, 0.2])
    if draw < PHOTO_SHARE and pictures:
        video = folder / "clip.mp4"
        return video, wave_photo(pictures[int(rng.integers(len(pictures)))].path, seed, video), None
    has_pulse = pulse and draw < PHOTO_SHARE + PULSE_SHARE
    kind, config, encoding = scene(seed, has_pulse, pictures)
    if rng.uniform() < 0.6:
        encoding["crf"] = int(rng.integers(14, 31))
    if not has_pulse and draw < PHOTO_SHARE + PULSE_SHARE + LAMP_SHARE:
        kind, head = "lamp on the face", config.head
        if config.kind != "face":
            head = HeadMotion(
                sway=float(rng.choice([0, 0.2, 0.5])),
                turn_deg=float(rng.uniform(0, 5)),
                blinks_per_min=float(rng.uniform(3, 30)),
            )
        config = replace(
            config,
            kind="face",
            head=head,
            flicker_hz=float(rng.uniform(0.7, 2.9)),
            flicker_depth=float(np.exp(rng.uniform(np.log(0.003), np.log(0.05)))),
            flicker_rgb=cast(Any, tuple(map(float, rng.uniform(0.3, 1, 3) if rng.uniform() < 0.5 else np.ones(3)))),
            room_light=float(rng.choice([0, 0, 0.1, 0.3])),
            screen_depth=0.0,
        )
    video = folder / "clip.mkv"
    known = write_scene(config, video, **encoding)
    return video, kind, known if has_pulse else None


def wave_photo(picture: Path, seed: int, video: Path) -> str:
    """Write a video of a photograph that sways in time, is moved by a hand, or beats under a lamp; return its kind."""
    rng = np.random.default_rng([seed, 7])
    picture_bgr = cv2.imread(str(picture))
    assert picture_bgr is not None, picture
    photo = cv2.resize(cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2RGB), (288, 288)).astype(np.float32)
    fps = float(rng.choice([15, 25, 30, 30]))
    t_s = np.arange(int(DURATION_S * fps)) / fps
    move = str(rng.choice(MOVES))
    hz, reach_px = rng.uniform(0.7, 2.7), rng.uniform(1, 8)
    place = np.zeros((len(t_s), 3))  # right, down, logarithm of the size
    swing = 2 * np.pi * hz * t_s
    if move == "sway":
        place[:, 0], place[:, 1] = reach_px * np.sin(swing), 0.3 * reach_px * np.sin(swing + 1)
    if "hand" in move:
        walk = np.cumsum(rng.standard_normal((len(t_s), 3)), axis=0)
        walk -= np.linspace(0, 1, len(t_s))[:, None] * walk[-1]
        sigma = fps * rng.uniform(0.1, 0.4)
        bell = np.exp(-0.5 * (np.arange(-int(4 * sigma), int(4 * sigma) + 1) / sigma) ** 2)
        walk = np.array([np.convolve(one, bell / bell.sum(), "same") for one in walk.T]).T
        place += walk / (walk.std(axis=0) + 1e-9) * [0.7 * reach_px, 0.7 * reach_px, rng.uniform(0.002, 0.02)]
        if rng.uniform() < 0.5:
            place[:, 0] += rng.uniform(0.3, 3) * np.sin(swing)
    depth = float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))) if "flicker" in move else 0.0
    colour = rng.uniform(0.3, 1, 3) if rng.uniform() < 0.6 else np.ones(3)
    shade = rng.uniform(0, 0.004) * place[:, 0] / max(1.0, reach_px)
    noise_sd = rng.uniform(0.4, 3.5)

    def frames() -> Iterator[Frame]:
        for (x_px, y_px, growth), beat, dark in zip(place, np.sin(swing), shade, strict=True):
            size = np.exp(growth)
            corner = 16 + 144 * (1 - size)
            to_frame = np.array([[size, 0, corner + x_px], [0, size, corner + y_px]])
            moved = cv2.warpAffine(photo, to_frame, (320, 320), borderMode=cv2.BORDER_REFLECT)
            lit = moved * (1 + depth * beat * colour + dark)
            noise = rng.standard_normal(moved.shape, dtype=np.float32) * noise_sd
            yield np.clip(np.rint(lit + noise), 0, 255).astype(np.uint8)

    gop = [None, round(fps), round(fps / 2), 2 * round(fps)]
    write_video(video, frames(), fps=fps, crf=int(rng.integers(3, 31)), gop=gop[rng.integers(4)])
    return f"photo: {move}"


def measure_hard(
    n_clips: int,
    first_seed: int,
    pulse: bool,
    methods: tuple[str, ...],
    weights: str | None,
    pictures: tuple[Picture, ...],
    workers: int,
    out: Path,
) -> list[Row]:
    """Measure clips of ``hard_clip``; rows are kept in ``out`` as they come."""
    kept = resume(out, {**fingerprint(methods, weights), "portraits": [one.path.name for one in pictures]})
    done = {row["seed"] for row in kept}
    asked = range(first_seed, first_seed + n_clips)
    clips = [Clip(seed, pulse, methods, weights, pictures, is_hard=True) for seed in asked if seed not in done]
    made = run_jobs(run_clip, clips, workers, out)
    return [Row(**row) for row in kept + made if row["seed"] in asked]


def measure_all(
    n_each: int,
    first_seed: int,
    methods: tuple[str, ...],
    weights: str | None,
    pictures: tuple[Picture, ...],
    workers: int,
    out: Path,
) -> list[Row]:
    """Measure n_each clips without a pulse, n_each with one, and some photographs.

    Rows are kept in ``out`` as they come: a run that was stopped goes on where it was.
    """
    kept = resume(out, {**fingerprint(methods, weights), "portraits": [one.path.name for one in pictures]})
    done = {(row["seed"], row["kind"] == "pulse") for row in kept}
    clips = [
        Clip(first_seed + k, pulse, methods, weights, pictures) for k in range(n_each) for pulse in (False, True)
    ] + [
        Clip(first_seed + 50_000 + k, False, methods, weights, (), pictures[k % len(pictures)].path)
        for k in range(round(PHOTOS_PER_CLIP * n_each) if pictures else 0)
    ]
    made = run_jobs(run_clip, [clip for clip in clips if (clip.seed, clip.pulse) not in done], workers, out)
    asked = {(clip.seed, clip.pulse) for clip in clips}
    return [Row(**row) for row in kept + made if (row["seed"], row["kind"] == "pulse") in asked]


def false_alarms(rows: list[Row], methods: tuple[str, ...]) -> dict[str, Any]:
    """Return the table of clips without a pulse that were called reliable, by kind (columns, rows)."""
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    table: list[list[Any]] = []
    for method in methods:
        groups = [[row for row in rows if row.method == method and row.kind == kind] for kind in kinds]
        groups.append([row for group in groups for row in group])
        table.append([method, *(f"{sum(row.reliable for row in group)} of {len(group)}" for group in groups)])
    return {"columns": ["method", *kinds, "all"], "rows": table}


def overall(rows: list[Row], methods: tuple[str, ...]) -> dict[str, Any]:
    """Return the table of what the confidence is worth (columns, formats, rows)."""
    table: list[list[Any]] = []
    for method in methods:
        mine = [row for row in rows if row.method == method]
        pulses = [row for row in mine if row.kind == "pulse"]
        right = [r for r in pulses if r.hr_bpm is not None and abs(r.hr_bpm - (r.hr_true_bpm or 0)) <= WITHIN_BPM]
        alarms = sum(row.reliable for row in mine if row.kind != "pulse")
        both, reliable = sum(row.reliable for row in right), sum(row.reliable for row in pulses)
        table.append([method, alarms, len(right) / max(1, len(pulses)), reliable, both, both / max(1, len(right))])
    shares = ["right", "of the right ones called reliable"]
    counts = ["called reliable", f"of these within {WITHIN_BPM:g} bpm"]
    return {
        "columns": ["method", "without a pulse: called reliable", shares[0], *counts, shares[1]],
        "formats": dict.fromkeys(shares, ".1%"),
        "rows": table,
    }


def print_tables(rows: list[Row], methods: tuple[str, ...]) -> None:
    """Print false alarms, what the confidence is worth, and its calibration."""
    print("Without a pulse: clips called reliable\n\n" + markdown_table(**false_alarms(rows, methods)))
    print(f"\nWith a pulse: right means within {WITHIN_BPM:g} bpm\n\n" + markdown_table(**overall(rows, methods)))
    print()
    print("Calibration: of the readings (not vetoed) with a confidence in ..., this share is within 5 bpm")
    for method in methods:
        evidence = [(Evidence(**w["evidence"]), is_right(w)) for r in rows if r.method == method for w in r.windows]
        scored = [(confidence(given), right) for given, right in evidence if not is_refused(given)]
        edges = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
        cells = []
        for low, high in pairwise(edges):
            inside = [right for trust, right in scored if low <= trust < high or (high == 1.0 and trust == 1.0)]
            cells.append(f"{low:g}-{high:g}: " + (f"{np.mean(inside):.0%} of {len(inside)}" if inside else "none"))
        print(f"{method:8}" + "   ".join(cells))


def is_right(window: dict[str, Any]) -> bool:
    return window["error_bpm"] is not None and abs(window["error_bpm"]) <= WITHIN_BPM


def fit(rows: list[Row]) -> None:
    """Print the weights of confidence/model.py: logistic regression on all readings, weights held at 0 or above.

    Held so because evidence may only speak for a rate in its own direction: a weight below 0 is chance.
    """
    readings = [(row, window) for row in rows for window in row.windows]
    for kind in WEIGHTS:
        mine = [(row, window) for row, window in readings if window["evidence"]["kind"] == kind]
        kept = [(row, window) for row, window in mine if not is_refused(Evidence(**window["evidence"]))]
        print(f"Fit of {kind}: {len(mine) - len(kept)} of {len(mine)} readings are refused for sure and take no part.")
        if kept:
            fit_kind(kept, kind)


def fit_kind(readings: list[tuple[Row, dict[str, Any]]], kind: EvidenceKind) -> None:
    """Print the weights of one kind of method, and what they are worth for clips that they were not fitted on."""
    windows = [window for _, window in readings]
    x = np.array([features(Evidence(**window["evidence"])) for window in windows])
    y = np.array([is_right(window) for window in windows], dtype=np.float64)
    if len(set(y)) < 2:
        print("  All right or all wrong: nothing to fit. Make more clips.")
        return
    design = np.column_stack([x, np.ones(len(x))])
    seeds = np.array([row.seed for row, _ in readings])
    is_lamp = np.array([row.kind == "lamp on the face" for row, _ in readings])
    probability = np.zeros(len(y))
    for fold in range(N_FOLDS):
        out = seeds % N_FOLDS == fold
        if out.any() and len(set(y[~out])) == 2:
            probability[out] = 1 / (1 + np.exp(-design[out] @ minimum(design[~out], y[~out])))
    best = minimum(design, y)
    print(f"  {len(y)} readings, {y.mean():.1%} right. Each judged by weights fitted without its clip:")
    for threshold in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        trusted = probability >= threshold
        wrong, lamps = (trusted & (y == 0) & ~is_lamp).sum(), (trusted & is_lamp).sum()
        print(
            f"  at {threshold}: {trusted[y == 1].mean():.1%} of the right ones trusted, {wrong} wrong of "
            f"{trusted.sum() - lamps}, and {lamps} of {is_lamp.sum()} under a lamp on the face"
        )
    print(f'  "{kind}": np.array([' + ", ".join(f"{weight:.2f}" for weight in best) + "]),")


N_FOLDS = 8


def minimum(design: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights (F,) of a logistic regression of y (N,) on design (N, F), the last column the constant."""

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        score = design @ weights
        value = np.logaddexp(0, score) - y * score
        slope = design.T @ (1 / (1 + np.exp(-score)) - y)
        ridge = 1e-3 * len(y)
        return float(value.sum() + ridge * (weights[:-1] ** 2).sum() / 2), slope + ridge * np.append(weights[:-1], 0)

    bounds = [(0.0, None)] * (design.shape[1] - 1) + [(None, None)]
    best = minimize(loss, np.zeros(design.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return np.asarray(best, dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200, help="without a pulse, and as many with one; of --fit in all")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--more", type=Path, help="for --fit: a file of rows of other clips, which are fitted too")
    parser.add_argument("--attacks", type=int, default=0, help="so many clips without a pulse that look like one")
    parser.add_argument("--portraits", type=Path, help="folder of photographs with landmarks")
    parser.add_argument("--seed", type=int, help="first seed, to make clips that neither fit nor measurement has seen")
    parser.add_argument("--methods", help="default: the net, if it has weights, and " + ",".join(CLASSICS))
    parser.add_argument("--weights", help="a .safetensors file for the net; the shipped ones if none is given")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/confidence"), help="folder for the rows of every clip")
    parser.add_argument("--out-result", type=Path, help="result file, docs/results/confidence.json")
    options = parser.parse_args()
    methods = tuple(options.methods.split(",")) if options.methods else default_methods(options.weights)
    if options.out_result is not None and (options.fit or options.attacks):
        parser.error("--out-result is for the usual clips: leave out --fit and --attacks")
    load_methods(methods, options.weights)
    pictures = tuple(pictures_of(options.portraits, test=not options.fit)) if options.portraits else ()
    name, seed = "test.jsonl", TEST_SEED
    if options.fit:
        name, seed = "fit.jsonl", FIT_SEED
    elif options.attacks:
        name, seed = "attacks.jsonl", ATTACK_SEED
    seed, out = seed if options.seed is None else options.seed, options.out / name
    rest = (methods, options.weights, pictures, options.workers, out)
    if options.fit or options.attacks:
        rows = measure_hard(options.attacks or options.clips, seed, options.fit, *rest)
    else:
        rows = measure_all(options.clips, seed, *rest)
    if options.fit:
        more = [] if options.more is None else options.more.read_text().splitlines()[1:]
        fit(rows + [Row(**row) for line in more for row in json.loads(line)])
    words = ", ".join(f"{least:g} ({kind})" for kind, least in RELIABLE_CONFIDENCE.items())
    print(f"Reliable means a confidence of at least {words} over at least {TRUSTED_S:g} s.")
    print_tables(rows, methods)
    if options.out_result is not None:
        n_pulses = len({row.seed for row in rows if row.kind == "pulse"})
        n_others = len({(row.seed, row.kind) for row in rows if row.kind != "pulse"})
        save_result(
            options.out_result,
            question="Is a rate that is called reliable right, and is a clip without a pulse never called reliable?",
            values={"clips without a pulse": n_others, "clips with a pulse": n_pulses},
            tables={"methods": overall(rows, methods), "false alarms": false_alarms(rows, methods)},
        )


if __name__ == "__main__":
    main()
