"""Golden answers, kept in ``golden/*.json``: a change of structure must not change any of what autohr answers today.

Each file holds one made clip (or one part of the laboratory). Numbers are compared with tolerances that rounding and
processors keep to (``TOLERANCES``), texts word by word. When an answer is meant to change, make the files anew with

    python tests/test_golden.py --write            # all of them
    python tests/test_golden.py --write gap wall   # some

and read what ``git diff`` says before committing it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autohr
from autohr.errors import AutoHRError
from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import open_cached, prepare
from autohr.lab.datasets.recording import Recording, Reference
from autohr.lab.evaluate.protocols import Protocol
from autohr.lab.evaluate.run import run as evaluate
from autohr.lab.evaluate.scoring import score
from autohr.lab.evaluate.summary import scores_sheet
from autohr.lab.evaluate.tables import render_sheet
from autohr.lab.synth.face import Identity
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.measure import summarise
from autohr.meter import Meter
from autohr.methods import METHODS, load_method
from autohr.types import Float, Frame, Frames, Measurement, Reading
from autohr.video.encode import write_video
from made import MiddleDetector, made_recording, pretend_cached, write_recipe
from test_measure import readings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

GOLDEN = Path(__file__).parent / "golden"
FORMULAS = tuple(name for name, method in METHODS.items() if not method.is_net)
Record = dict[str, Any]


# What is compared, and how closely ---------------------------------------------------------------------------------

RELATIVE: Mapping[str, float] = {"": 1e-3, "on_skin": 0.05}
"""Tolerance of a number under this key, relative to itself; of every other one under ""."""
TOLERANCES: Mapping[str, float] = {
    "hr_bpm": 0.3,
    "mean_hr_bpm": 0.3,
    "confidence": 0.02,
    "snr_db": 0.3,
    "beats_s": 0.02,
    "beat_error_ms": 2.0,
    "sdnn_ms": 2.0,
    "sdnn_error_ms": 2.0,
    "rmssd_ms": 2.0,
    "rmssd_error_ms": 2.0,
    "pnn50_pct": 3.0,
    "pnn50_error_pct": 3.0,
    "lf_ms2": 50.0,
    "lf_error_ms2": 50.0,
    "hf_ms2": 50.0,
    "hf_error_ms2": 50.0,
    "halves_bpm": 1.0,
    "witness_bpm": 0.3,
    "on_skin": 0.3,
    "agreement": 0.02,
    "background": 0.02,
    "motion": 0.02,
    "redrawn": 0.02,
    "runner_up": 0.05,
    "gradients": 1e-3,
    "mae_bpm": 0.05,
    "sd_bpm": 0.05,
    "rmse_bpm": 0.05,
    "mape_pct": 0.05,
    "pearson_r": 0.03,
    "bias_bpm": 0.05,
    "loa_low_bpm": 0.1,
    "loa_high_bpm": 0.1,
    "macc": 0.01,
    "reliable_mae_bpm": 0.05,
}
"""Largest difference of a number under this key, or in a list under it, in the unit of the key.

Most of it is for other processors: numpy without AVX-512 rounds one pixel in ten thousand of a drawn face to the next
grey level, and a few of those change what counts as skin (measured: up to 0.13 dB and 0.2 bpm where nothing is to be
read). On one machine nothing differs."""
WAVE_TOLERANCE, WAVES = 0.15, ("bvp", "colour")
"""Root mean square difference of waves of unit SD."""
TEXT_TOLERANCE = 1.0
"""Largest difference of a number in a sentence."""
FOUND_BY_DETECTOR = 4.0
"""Factor on all of them where the shipped detector finds the face: its box, too, differs a little (measured: 0.06 of
``background``, 0.6 bpm of ``witness_bpm``)."""
STRICTNESS = float(os.environ.get("AUTOHR_GOLDEN_FACTOR", "1"))
"""Factor on all of them: 0.02 for a change of structure that is checked on the machine that wrote the files."""
SIGNED: Mapping[str, float] = {"alphas": 5e-3, "betas": 5e-3}
"""Values that Adam moves by the sign of a gradient at first: where that is next to nothing, rounding decides. One in
twenty may differ by more than this."""
NUMBER = re.compile(r"[-+\u2212]?\d+(?:\.\d+)?")


def differences(was: Any, now: Any, place: str = "", key: str = "", factor: float = 1.0) -> Iterator[str]:
    """Yield one line for each value that differs: its place, the golden value, today's value."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted(was.keys() | now.keys()):
            missing = "(nothing)"
            yield from differences(was.get(name, missing), now.get(name, missing), f"{place}.{name}", name, factor)
    elif key in SIGNED and isinstance(was, list) and isinstance(now, list) and np.shape(was) == np.shape(now):
        share = np.mean(np.abs(np.subtract(was, now)) > SIGNED[key])
        if share > 0.05:
            yield f"{place}: {share:.0%} of the values differ by more than {SIGNED[key]:g}: golden {was}, now {now}"
    elif key in WAVES and isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        waves = np.array(was, dtype=np.float64), np.array(now, dtype=np.float64)
        rms = float(np.sqrt(np.nanmean((waves[0] - waves[1]) ** 2)))
        if rms > factor * WAVE_TOLERANCE or not np.array_equal(*np.isnan(waves)):
            yield f"{place}: differs by {rms:.3f} SD: golden {was}, now {now}"
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for index, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from differences(one, other, f"{place}[{index}]", key, factor)
    elif isinstance(was, float | int) and isinstance(now, float | int) and not isinstance(was, bool):
        tolerance = max(TOLERANCES.get(key, 1e-9), RELATIVE.get(key, RELATIVE[""]) * abs(was))
        exact = isinstance(was, int) and isinstance(now, int) and key not in TOLERANCES
        if abs(was - now) > (0 if exact else factor * tolerance):
            yield f"{place}: golden {was}, now {now}"
    elif isinstance(was, str) and isinstance(now, str) and key != "refused":
        # "The halves of the window differ by 12 bpm": the words exactly, the figure nearly.
        if NUMBER.sub("#", was) != NUMBER.sub("#", now):
            yield f"{place}: golden {was!r}, now {now!r}"
        else:
            pairs = zip(
                *([float(n.replace("\u2212", "-")) for n in NUMBER.findall(text)] for text in (was, now)), strict=True
            )
            if any(abs(one - other) > TEXT_TOLERANCE for one, other in pairs):
                yield f"{place}: golden {was!r}, now {now!r}"
    elif was != now:
        yield f"{place}: golden {was!r}, now {now!r}"


def plain(value: Any) -> Any:
    """Return ``value`` as strict JSON holds it: lists, and numbers of six significant digits."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def thinned(wave: Sequence[float | None], every: int = 10) -> list[float | None]:
    """Return every tenth value of a wave of zero mean and unit SD."""
    values = np.array([math.nan if value is None else value for value in wave])
    values = (values - np.nanmean(values)) / (np.nanstd(values) + 1e-12)
    return [round(float(value), 3) if math.isfinite(value) else None for value in values[::every]]


# Measuring -----------------------------------------------------------------------------------------------------------

BASE = SceneConfig(duration_s=11, width=240, height=180, fps=15, face_px=90, pulse_depth=0.03, background="room")
FAIR = Identity(seed=1, melanin=0.15, redness=0.6, freckles=0.5, hair_style="long")
DARK_AND_OLD = Identity(seed=2, melanin=0.9, age=0.9, beard="full", glasses="thick", smile=0.5)
STATUE = HeadMotion(0, 0, 0, 0, 0)
FACE_OF_CLIP = (0.35, 0.22, 0.30, 0.50)


@dataclass(frozen=True)
class Clip:
    """A made video, and the methods that measure it."""

    methods: tuple[str, ...]
    scene: SceneConfig
    change: Callable[[int, Frame], Frame] | None = None
    """Function (index, frame) -> frame, applied to what was drawn."""
    gop: int | None = None
    by_detector: bool = False
    """True where the shipped detector finds the face; else it is taken where it was drawn."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of ``autohr.measure``."""


def scene(**changes: Any) -> SceneConfig:
    return dataclasses.replace(BASE, **changes)


def dark_between(first: int, last: int) -> Callable[[int, Frame], Frame]:
    return lambda index, frame: np.zeros_like(frame) if first <= index < last else frame


def redrawn(every: int) -> Callable[[int, Frame], Frame]:
    """Return a change that darkens the picture a little until the next key frame draws it anew."""
    return lambda index, frame: np.clip(frame.astype(np.int16) - index % every // 3, 0, 255).astype(np.uint8)


CLIPS: Mapping[str, Clip] = {
    "fair": Clip((*FORMULAS, "autohr"), scene(seed=1, identity=FAIR, hr_bpm=72)),
    "dark_and_old": Clip(("pos", "mvdr", "autohr"), scene(seed=2, fps=25, identity=DARK_AND_OLD, hr_bpm=(94, 98))),
    "talking": Clip(("pos", "mvdr"), scene(seed=3, hr_bpm=84, head=HeadMotion(sway=1.0, talk=1.0, turn_deg=6))),
    "slow_camera": Clip(("chrom", "autohr"), scene(seed=4, fps=10, hr_bpm=66, pulse_depth=0.08)),
    "too_slow_camera": Clip(("pos",), scene(seed=4, fps=5, hr_bpm=66)),
    "gap": Clip(("pos", "autohr"), scene(seed=6, duration_s=18, hr_bpm=78), dark_between(75, 120)),
    "blink_of_darkness": Clip(("green", "omit"), scene(seed=7, hr_bpm=70), dark_between(60, 66)),
    "uneven_clock": Clip(("green", "autohr"), scene(seed=8, fps=20, hr_bpm=75, jitter_s=0.012, drop_share=0.05)),
    "flicker": Clip(
        ("green", "pos", "autohr"),
        scene(seed=9, pulse_depth=0, head=HeadMotion(sway=0.2), flicker_hz=1.3, flicker_depth=0.03),
    ),
    "redrawn": Clip(("green", "pos"), scene(seed=10, pulse_depth=0), redrawn(15), gop=15),
    "photograph": Clip(("pos", "mvdr"), scene(seed=11, kind="photo", pulse_depth=0, head=HeadMotion(sway=1.0))),
    "still": Clip(("mvdr",), scene(seed=12, pulse_depth=0, head=STATUE, light_drift=0, noise_sd=0)),
    "part": Clip(("pos",), scene(seed=1, identity=FAIR, hr_bpm=72), options={"start_s": 3.0, "end_s": 9.0}),
    "short": Clip(("pos",), scene(seed=13, duration_s=3)),
    "found": Clip(("pos", "autohr"), scene(seed=1, identity=FAIR, hr_bpm=72, pulse_depth=0.06), by_detector=True),
    "found_dark": Clip(("chrom",), scene(seed=2, identity=DARK_AND_OLD, pulse_depth=0.06), by_detector=True),
    "found_two": Clip(
        ("chrom",),
        scene(seed=5, n_faces=2, width=320, hr_bpm=62, other_hr_bpm=(88.0,), pulse_depth=0.06),
        by_detector=True,
        options={"max_faces": 2},
    ),
    "wall": Clip(("pos",), scene(seed=14, duration_s=4, kind="wall"), by_detector=True),
}


def film(clip: Clip, path: Path) -> None:
    """Write a clip without loss, so that the frames that are read are those that were drawn."""
    change = clip.change or (lambda index, frame: frame)
    frames = (change(index, frame) for index, (frame, _) in enumerate(render(clip.scene)))
    uneven = clip.scene.jitter_s or clip.scene.drop_share
    clock: dict[str, Any] = {"t_s": truth(clip.scene).t_s} if uneven else {"fps": clip.scene.fps}
    write_video(path, frames, codec="ffv1", pix_fmt="bgr0", gop=clip.gop, **clock)


def measured(path: Path, method: str, options: Mapping[str, Any], by_detector: bool = True) -> Record:
    """Return the JSON of a measurement, waves thinned out, with the evidence of each face's first window."""
    readings: list[Reading] = []

    def noted(function: Callable[..., list[Reading]]) -> Callable[..., list[Reading]]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> list[Reading]:
            new = function(*arguments, **named)
            readings.extend(new)
            return new

        return call

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Meter, "read", noted(Meter.read))
            patch.setattr(Meter, "finish", noted(Meter.finish))
            if not by_detector:
                middle = MiddleDetector(FACE_OF_CLIP)
                patch.setattr(Meter, "__init__", functools.partialmethod(Meter.__init__, detector=middle))
            answer = autohr.measure(path, method, **options).as_dict()
    except (AutoHRError, ValueError) as error:
        return {"error": type(error).__name__, "refused": str(error).replace(str(path), "CLIP")}
    del answer["path"]
    for face in answer["faces"]:
        wave = face["bvp"]
        face["bvp"] = wave and {**wave, "n": len(wave["values"]), "values": None, "bvp": thinned(wave["values"])}
        first = next(one.estimate for one in readings if one.face_id == face["id"])
        face["evidence"] = first.evidence and dataclasses.asdict(first.evidence)
    return answer


def measured_clip(name: str, folder: Path) -> Record:
    clip, path = CLIPS[name], folder / f"{name}.mkv"
    film(clip, path)
    return {method: measured(path, method, clip.options, clip.by_detector) for method in clip.methods}


def refusals(folder: Path) -> Record:
    """Return what is said of files, names and arguments that cannot be used."""
    empty, text, wall = (folder / name for name in ("empty.mp4", "text.mp4", "wall.mkv"))
    empty.touch()
    text.write_text("not a video\n" * 100)
    film(CLIPS["wall"], wall)
    calls: dict[str, tuple[Path, dict[str, Any]]] = {
        "no file": (folder / "absent.mp4", {"method": "pos"}),
        "empty file": (empty, {"method": "pos"}),
        "text file": (text, {"method": "pos"}),
        "unknown method": (wall, {"method": "posh"}),
        "unknown weights": (wall, {"method": "autohr", "weights": "nothing"}),
        "net without weights": (wall, {"method": "i3d"}),
        "formula with weights": (wall, {"method": "pos", "weights": "autohr"}),
        "short window": (wall, {"method": "pos", "window_s": 1.0}),
        "long window": (wall, {"method": "pos", "window_s": 1000.0}),
        "no stride": (wall, {"method": "pos", "stride_s": 0.0}),
        "no faces": (wall, {"method": "pos", "max_faces": 0}),
        "start after the end": (wall, {"method": "pos", "start_s": 3.0, "end_s": 2.0}),
        "start after the video": (wall, {"method": "pos", "start_s": 30.0}),
    }
    return {name: measured(path, options.pop("method"), options) for name, (path, options) in calls.items()}


def a_minute(folder: Path) -> Record:
    """Return the answer to made windows of 89 s, which has beats and variability."""
    face = summarise(readings(80))
    answer = Measurement("CLIP", "pos", None, 89.0, 30.0, Frames(), (face,)).as_dict()
    wave = answer["faces"][0]["bvp"]
    answer["faces"][0]["bvp"] = {**wave, "values": None, "bvp": thinned(wave["values"])}
    return answer


# The laboratory ------------------------------------------------------------------------------------------------------


def training(folder: Path) -> Record:
    """Return the gradients of each loss in a small AutoHR, and what a recipe of two steps logs."""
    import torch

    from autohr.lab.nets import make_net
    from autohr.lab.runs import open_run
    from autohr.lab.train.losses import LossConfig, overall_loss
    from autohr.lab.train.recipe import train

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net = make_net("autohr", {"preset": "small", "stem_channels": 2, "channels": 2})
    clip = torch.from_numpy(rng.uniform(0.2, 0.8, (2, 3, 64, 16, 16)).astype(np.float32))
    hr_bpm = torch.tensor([80.0, 110.0])
    bvp = torch.sin(2 * torch.pi * hr_bpm[:, None] / 60 * torch.arange(64) / 16)
    record: Record = {}
    for variant in ("author", "nll", "snr"):
        net.zero_grad()
        torch.manual_seed(1)
        losses = overall_loss(net(clip), bvp, hr_bpm, torch.full((2,), 16.0), LossConfig(variant=variant))
        losses.total.backward()  # type: ignore[no-untyped-call]
        gradients = [one.grad.norm().item() for _, one in sorted(net.named_parameters()) if one.grad is not None]
        length = float(np.linalg.norm(gradients))
        record[variant] = {
            **{part: getattr(losses, part).item() for part in ("total", "time", "frequency")},
            "gradient_norm": length,
            "gradients": [one / length for one in gradients],
        }
    (folder / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        pretend_cached(patch, [made_recording(subject) for subject in range(5)])
        train(write_recipe(folder), out=folder / "run", progress=None)
    return {**record, "recipe": timeless(open_run(folder / "run").read_log())}


def timeless(log: Sequence[Record]) -> list[Record]:
    return [{name: value for name, value in line.items() if name not in ("clips_per_s", "wall_s")} for line in log]


@dataclass(frozen=True)
class MadeClip:
    frames: Frame
    bvp: Float
    hr_bpm: float
    fps: float = 8.0


class MadeSource:
    """Clips of noise that darkens with each beat."""

    n_windows = 4

    def draw(self, seed: Sequence[int]) -> MadeClip:
        rng = np.random.default_rng(list(seed))
        hr_bpm = float(rng.uniform(45, 75))
        bvp = np.sqrt(2) * np.sin(2 * np.pi * hr_bpm / 60 * np.arange(32) / 8 + rng.uniform(0, 6))
        frames = 128 - 10 * bvp[:, None, None, None] + rng.normal(0, 4, (32, 16, 16, 3))
        return MadeClip(np.rint(frames).astype(np.uint8), bvp, hr_bpm)

    def window(self, i: int) -> MadeClip:
        return self.draw([99, i])


def searching(folder: Path) -> Record:
    """Return losses and the architecture after a step of the weights and two of both, first and second order."""
    import torch

    from autohr.lab.nets._genotype import SPACE
    from autohr.lab.runs import create_run
    from autohr.lab.search.optimiser import SearchConfig, search
    from autohr.lab.search.space import SearchNet, SpaceConfig, cost_of, derive, measure_costs
    from autohr.lab.train.losses import LossConfig

    space = SpaceConfig(stem_channels=2, channels=4, partial=2, cells_per_block=1, stem_stride=2)
    costs = measure_costs(space, 16, 32)
    record: Record = {}
    for order in (1, 2):
        config = SearchConfig(
            epochs=3,
            steps_per_epoch=1,
            warmup_epochs=1,
            workers=0,
            collapse="warn",
            lr=1e-2,
            alpha_lr=1e-1,
            order=order,
        )
        torch.manual_seed(7)
        net = SearchNet(space)
        run = create_run(folder / str(order), {"kind": "search"})
        search(net, MadeSource(), MadeSource(), config, run, costs=costs, loss=LossConfig(time_weight=1.0))
        steps = [line for line in run.read_log() if "loss" in line]
        record[f"order {order}"] = {
            "steps": timeless(steps),
            "alphas": net.alphas.tolist(),
            "betas": net.betas.tolist(),
        }
    rng = np.random.default_rng(5)
    alphas, betas = (torch.from_numpy(rng.normal(size=shape)) for shape in ((1, 9, len(SPACE)), (1, 9)))
    genotype = derive(alphas, betas, SPACE, "shared", "golden", "A test.")
    return {**record, "genotype": genotype.as_dict(), "cost": cost_of(genotype, costs)}


def evaluation(folder: Path) -> Record:
    """Return what is prepared of two recordings, and the tables of three formulas over them."""
    crop = CropConfig(size_px=40)
    recordings = []
    for subject in ("fair", "dark_and_old"):
        clip = dataclasses.replace(CLIPS[subject], scene=dataclasses.replace(CLIPS[subject].scene, fps=12))
        path, known = folder / f"{subject}.mkv", truth(clip.scene)
        film(clip, path)
        reference = Reference(known.t_s, known.bvp, known.hr_bpm)
        recordings.append(Recording("made", subject, "1", path, reference, groups={"skin": subject.split("_")[0]}))
    manifest = prepare(recordings, folder / "cache", crop, workers=1, detector=MiddleDetector(FACE_OF_CLIP))
    cached = open_cached(folder / "cache", crop)
    protocol = Protocol(name="short", title="6 s windows", window_s=6.0, stride_s=2.0, crop=crop)
    scores = [
        score(evaluate(protocol, load_method(name), cached, folder / "run", entries=manifest.entries))
        for name in ("green", "chrom", "pos")
    ]
    prepared = {
        one.subject: {
            "fps": one.fps,
            "n_frames": one.n_frames,
            "n_found": int(one.found.sum()),
            "colour": thinned(one.frames.mean(axis=(1, 2))[:, 1].tolist()),
            "bvp": thinned(one.bvp.tolist()),
            "notes": list(one.notes),
        }
        for one in cached
    }
    figures = {one.method.label: {**dataclasses.asdict(one.overall), "intervals": None} for one in scores}
    table = render_sheet(scores_sheet(scores), "text").splitlines()
    return {"prepared": prepared, "figures": figures, "table": [" ".join(line.split()) for line in table]}


# The files -----------------------------------------------------------------------------------------------------------

MAKERS: Mapping[str, Callable[[Path], Record]] = {
    **{f"measure_{name}": functools.partial(measured_clip, name) for name in CLIPS},
    "measure_a_minute": a_minute,
    "measure_refusals": refusals,
    "lab_training": training,
    "lab_search": searching,
    "lab_evaluation": evaluation,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_answer_is_the_golden_one(name: str, tmp_path: Path) -> None:
    was = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    clip = CLIPS.get(name.removeprefix("measure_"))
    factor = FOUND_BY_DETECTOR if clip is not None and clip.by_detector else 1.0
    wrong = list(differences(was, plain(MAKERS[name](tmp_path)), name, factor=STRICTNESS * factor))
    assert not wrong, f"{len(wrong)} values differ; if they are meant to: see the top of this file\n" + "\n".join(
        wrong[:40]
    )


def test_a_difference_is_named() -> None:
    was: Record = {"hr_bpm": 70.0, "bvp": [0.1, 0.2], "n": 3, "why": "differ by 12 bpm", "refused": "1 of 2", "x": None}
    assert list(differences(was, was | {"hr_bpm": 70.04, "why": "differ by 12.4 bpm", "bvp": [0.12, 0.2]})) == []
    changes: Record = {
        "hr_bpm": 70.4,
        "bvp": [0.1, 0.5],
        "n": 4,
        "why": "differ by 15 bpm",
        "refused": "1 of 3",
        "x": 0.0,
        "new": 1,
    }
    for key, other in changes.items():
        (line,) = differences(was, {**was, key: other}, "clip")
        assert line.startswith(f"clip.{key}") and "golden" in line and "now" in line


def write(names: Sequence[str]) -> None:
    """Make the golden files anew, all or those whose name holds one of ``names``."""
    import torch

    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        if not names or any(part in name for part in names):
            with tempfile.TemporaryDirectory() as folder:
                text = json.dumps(plain(make(Path(folder))), indent=1, ensure_ascii=False, allow_nan=False)
            # Lists of numbers on one line each: a page of them says less than a line.
            text = re.sub(r"\[\s+([^\[\]{}\"]*?)\s+\]", lambda one: "[" + " ".join(one[1].split()) + "]", text)
            (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(f"{name} written", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        sys.exit(f"usage: python {sys.argv[0]} --write [NAME...]")
    write(sys.argv[2:])
