"""Measure AutoHR and the formulas on the same recordings of people whom no training has seen.

    autohr synth ROOT --subjects 220 --per-subject 1 --duration-s 12 --portraits DIR --split test --seed 9000
    python benchmarks/transfer.py ROOT [--weights FILE] [--limit N]      tables, overall and by stratum
    python benchmarks/transfer.py --talkers N --portraits DIR [--weights FILE]      people who talk to a camera

Every recording is tracked once and measured with every method by the same ``Meter``; its rate is what ``measure``
would answer (``summarise``), its truth the mean of the true rate over the measured stretch. Rows are kept in
``--out`` as they come, with all that the tables need: a run that was cut off goes on, and one that is whole prints its
tables again at once.

``--talkers`` makes its own recordings from the portraits for testing, 25 frames per second, 8 to 34 s: continuous
speech, turning and swaying heads, weak pulses (0.6 to 1.5 % of green linear light). ``ordinary`` ones are written with
h264 at crf 10 to 18; ``hard`` ones are the same scenes with half the pulse at crf 23.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.recordings import Picture
from autohr.lab.synth.strata import STRATA, Facts, skin_luminance, strata
from autohr.lab.synth.video import SceneConfig, SceneTruth, read_truth, truth_path, write_scene
from autohr.measure import summarise
from autohr.methods import METHODS, Method
from autohr.types import Float
from autohr.video.decode import open_video
from confidence import (
    default_methods,
    fingerprint,
    first_face,
    load_methods,
    pictures_of,
    read_video,
    resume,
    run_jobs,
    true_rate_bpm,
)
from results import markdown_table, save_result

WITHIN_BPM = 3.0
EQUAL_BPM = 0.05
"""Mean errors closer than this print alike and count as equal."""
TALKER_SEED = 700_000
GROUPS = ("ordinary", "hard")
OWN = ("mvdr",)
"""Methods of ours, shown but not counted as published: ``measure`` averages MVDR into unreliable rates."""


@dataclass(frozen=True)
class Answer:
    """The answer of one method for one recording."""

    hr_bpm: float | None
    true_bpm: float
    confidence: float = 0.0
    reliable: bool = False
    why: str | None = None
    alone_bpm: float | None = None
    """Median of the method's rates of all windows; ``hr_bpm`` of a net that is not reliable has MVDR's voice in it."""


@dataclass(frozen=True)
class Row:
    """One recording, with how it was made and what was measured."""

    name: str
    group: str
    """"dataset", or of talkers "ordinary" or "hard"."""
    scene: dict[str, Any]
    encoding: dict[str, Any]
    bits_per_pixel: float
    """Size of the file, for each pixel of each frame."""
    skin: float
    """Median luminance of the middle of the face in the first frame, in linear light, 0..1, the exposure taken off."""
    answers: dict[str, Answer]


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


@dataclass(frozen=True)
class Recording:
    """A recording of a dataset to be measured."""

    name: str
    video: Path
    methods: tuple[str, ...]
    weights: str | None


@dataclass(frozen=True)
class Talker:
    """A talking head to be made and measured."""

    number: int
    hard: bool
    picture: Picture
    methods: tuple[str, ...]
    weights: str | None

    @property
    def group(self) -> str:
        return "hard" if self.hard else "ordinary"

    @property
    def name(self) -> str:
        return f"{self.number:03d} {self.picture.path.stem} {self.group}"


def measure_recording(one: Recording) -> list[dict[str, Any]]:
    return [asdict(measure_video(one.name, "dataset", one.video, load_methods(one.methods, one.weights)))]


def measure_talker(one: Talker) -> list[dict[str, Any]]:
    scene, encoding = talker_scene(one.number, one.picture)
    if one.hard:
        scene = replace(scene, pulse_depth=scene.pulse_depth / 2)
        encoding |= {"crf": 23, "preset": "medium"}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_scene(scene, video, **encoding)
        return [asdict(measure_video(one.name, one.group, video, load_methods(one.methods, one.weights)))]


def talker_scene(number: int, picture: Picture) -> tuple[SceneConfig, dict[str, Any]]:
    """Return a random scene of a portrait who talks to a camera, and its encoding; sizes as in web videos."""
    rng = np.random.default_rng([TALKER_SEED, number])
    side = 2 * round(float(rng.uniform(256, 512)) / 2)
    start_bpm = float(rng.uniform(48, 150))
    end_bpm = start_bpm + float(rng.uniform(-5, 5))
    scene = SceneConfig(
        seed=int(rng.integers(2**31)),
        duration_s=round(float(rng.uniform(8, 34)), 1),
        width=side,
        height=side,
        fps=25.0,
        portrait=str(picture.path),
        face_px=round(side / float(rng.uniform(1.6, 2.2))),
        hr_bpm=(round(start_bpm, 2), round(end_bpm, 2)),
        hrv=round(float(rng.uniform(0.01, 0.05)), 4),
        pulse_depth=round(float(np.exp(rng.uniform(np.log(0.006), np.log(0.015)))), 5),
        head=HeadMotion(
            sway=round(float(rng.uniform(0.3, 0.8)), 3),
            turn_deg=round(float(rng.uniform(3, 7)), 2),
            talk=round(float(rng.uniform(0.6, 1.1)), 3),
            expression=round(float(rng.uniform(0.1, 0.6)), 3),
            blinks_per_min=round(float(rng.uniform(8, 25)), 1),
        ),
        exposure=round(float(rng.uniform(0.8, 1.1)), 3),
        light_drift=round(float(rng.uniform(0.0, 0.03)), 4),
        noise_sd=round(float(rng.uniform(0.5, 1.5)), 3),
    )
    return scene, {"codec": "libx264", "crf": int(rng.integers(10, 19)), "preset": "veryfast", "gop": None}


def measure_video(name: str, group: str, video: Path, methods: Sequence[Method]) -> Row:
    record = json.loads(truth_path(video).read_text(encoding="utf-8"))
    known = read_truth(video)[0]
    scene, encoding = record["config"], record["encoding"]
    answers = {}
    for method, readings in read_video(video, methods).items():
        if not readings:
            whole_bpm = true_rate_bpm(known, float(known.t_s[0]), float(known.t_s[-1]))
            answers[method] = Answer(None, whole_bpm, why="no face was followed for long enough")
            continue
        face = summarise(first_face(readings))
        true_bpm = true_rate_bpm(known, face.start_s, face.end_s)
        rates = [one.hr_bpm for one in face.windows if one.hr_bpm is not None]
        alone_bpm = float(np.median(rates)) if rates else None
        answers[method] = Answer(face.hr_bpm, true_bpm, face.confidence, face.reliable, face.why_unreliable, alone_bpm)
    n_pixels = scene["width"] * scene["height"] * len(known.t_s)
    skin = skin_of_video(video, known, scene)
    return Row(name, group, scene, encoding, 8 * video.stat().st_size / n_pixels, skin, answers)


def skin_of_video(video: Path, known: SceneTruth, scene: dict[str, Any]) -> float:
    with open_video(video) as frames:
        rgb = next(iter(frames)).rgb
    return skin_luminance(rgb, known.box_xywh[0], scene["gamma"], scene["exposure"])


def recordings_of(root: Path, limit: int | None) -> list[tuple[str, Path]]:
    """Return names and videos of a dataset as ``autohr synth`` leaves them; ``limit`` takes so many, evenly spread."""
    found = []
    for truth in sorted(root.glob("*/*.truth.json")):
        video = truth.with_name(json.loads(truth.read_text(encoding="utf-8"))["video"])
        found.append((video.relative_to(root).as_posix(), video))
    if not found:
        raise SystemExit(f"{root} holds no recordings (*/*.truth.json). Make some: see this script's first lines.")
    if limit is None or limit >= len(found):
        return found
    return [found[round(place)] for place in np.linspace(0, len(found) - 1, limit)]


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def mean_truth_bpm(row: Row) -> float:
    return next(iter(row.answers.values())).true_bpm


def errors_bpm(rows: list[Row], method: str) -> Float:
    """Return the errors of the recordings that got a rate."""
    answers = [row.answers[method] for row in rows]
    return np.array([a.hr_bpm - a.true_bpm for a in answers if a.hr_bpm is not None], dtype=np.float64)


def overall(rows: list[Row], methods: tuple[str, ...], group: str = "") -> dict[str, Any]:
    """Return the table of all methods (columns, formats, rows); ``group`` goes before each method's title."""
    within = f"within {WITHIN_BPM:g} bpm"
    table: list[list[Any]] = []
    for method in methods:
        error = errors_bpm(rows, method)
        answered = [row.answers[method] for row in rows if row.answers[method].hr_bpm is not None]
        reliable = [a for a in answered if a.reliable]
        right = [a for a in reliable if abs((a.hr_bpm or 0.0) - a.true_bpm) <= WITHIN_BPM]
        rates, truths = [a.hr_bpm or 0.0 for a in answered], [a.true_bpm for a in answered]
        pearson = float(np.corrcoef(rates, truths)[0, 1]) if len(answered) > 2 else None
        hits = float((np.abs(error) <= WITHIN_BPM).sum() / len(rows))
        errors = [mae(error), float(np.sqrt(mae(error**2))), pearson, hits]
        counts = [len(rows), len(rows) - len(answered)]
        table.append([group + METHODS[method].title, *counts, *errors, len(reliable), len(right)])
    truth = np.array([mean_truth_bpm(row) for row in rows])
    guess = np.median(truth) - truth
    errors = [mae(guess), float(np.sqrt(mae(guess**2))), None, float((np.abs(guess) <= WITHIN_BPM).mean())]
    table.append([f"{group}always {np.median(truth):.0f}", len(rows), 0, *errors, None, None])
    counts_of = ["called reliable", f"of these {within}"]
    return {
        "columns": ["method", "recordings", "no rate", "MAE (bpm)", "RMSE (bpm)", "r", within, *counts_of],
        "formats": {"MAE (bpm)": ".2f", "RMSE (bpm)": ".2f", "r": ".3f", within: ".1%"},
        "rows": table,
    }


def mae(error: Float) -> float:
    return float(np.abs(error).mean()) if len(error) else float("nan")


def by_stratum(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of every stratum, named "motion: still" and the like."""
    facts = [Facts(row.scene, row.encoding, row.bits_per_pixel, mean_truth_bpm(row), row.skin) for row in rows]
    strata_of_rows = [strata(one) for one in facts]
    found: dict[str, list[Row]] = {}
    for name in STRATA:
        groups: dict[str, list[Row]] = {}
        for row, groups_of_row in zip(rows, strata_of_rows, strict=True):
            if name in groups_of_row:
                groups.setdefault(groups_of_row[name], []).append(row)
        for group, mine in sorted(groups.items()):
            found[f"{name}: {group.split(' ', 1)[1] if group[0].isdigit() else group}"] = mine
    return found


def strata_of(rows: list[Row], method: str) -> dict[str, Any]:
    """Return the table of one method's error, bias and coverage in every stratum (columns, formats, rows)."""
    within, mean, median, sure = f"within {WITHIN_BPM:g} bpm", "mean error (bpm)", "median", "of these reliable"
    table: list[list[Any]] = []
    for label, mine in by_stratum(rows).items():
        answers = [row.answers[method] for row in mine if row.answers[method].hr_bpm is not None]
        error, true_bpm = errors_bpm(mine, method), np.array([one.true_bpm for one in answers])
        reliable, right = np.array([one.reliable for one in answers]), np.abs(error) <= WITHIN_BPM
        half, double = ((np.abs(error + true_bpm * share) <= WITHIN_BPM) & ~right for share in (0.5, -1.0))
        shares = [float(right.sum() / len(mine)), float(reliable[right].mean()) if right.any() else None]
        bias = [float(error.mean()), float(np.median(error))] if len(error) else [None, None]
        counts = [int((reliable & ~right).sum()), int(half.sum()), int(double.sum())]
        table.append([label, len(mine), mae(error), *bias, *shares, *counts])
    return {
        "columns": [
            *("recordings", "n", "MAE (bpm)", mean, median, within, sure),
            *("reliable and wrong", "half the rate", "double the rate"),
        ],
        "formats": {"MAE (bpm)": ".1f", mean: "+.1f", median: "+.1f", within: ".0%", sure: ".0%"},
        "rows": table,
    }


def print_strata(rows: list[Row], methods: tuple[str, ...], net: str | None) -> None:
    """Print MAE and share within 3 bpm of every method in every stratum, and where a published one beats ``net``."""
    others = [method for method in methods if method != net and method not in OWN]
    lost = []
    print("| stratum | n | " + " | ".join(METHODS[method].title for method in methods) + " |")
    print("| --- | --- |" + " --- |" * len(methods))
    for label, mine in by_stratum(rows).items():
        errors = {method: errors_bpm(mine, method) for method in methods}
        cells = [f"{mae(e):.1f}, {(np.abs(e) <= WITHIN_BPM).sum() / len(mine):.0%}" for e in errors.values()]
        print(f"| {label} | {len(mine)} | " + " | ".join(cells) + " |")
        if net is None or not others:
            continue
        best = min(others, key=lambda method: mae(errors[method]))
        if mae(errors[net]) > mae(errors[best]) + EQUAL_BPM:
            lost.append(
                f"{label} (n={len(mine)}): {METHODS[best].title} {mae(errors[best]):.1f} bpm, "
                f"{METHODS[net].title} {mae(errors[net]):.1f}"
            )
    print()
    if net is None or not others:
        return
    best = min(others, key=lambda method: mae(errors_bpm(rows, method)))
    own, theirs = mae(errors_bpm(rows, net)), mae(errors_bpm(rows, best))
    print(
        f"{METHODS[net].title}: MAE {own:.2f} bpm, {own / theirs:.2f} of that of the best published formula, "
        f"{METHODS[best].title} ({theirs:.2f} bpm). Half or less: {'yes' if own <= theirs / 2 else 'no'}."
    )
    print(
        "Best of these or equal in every stratum: "
        + ("yes." if not lost else "no. Where not: " + "; ".join(lost) + ".")
    )
    print()


def print_worst(rows: list[Row], method: str, count: int = 10) -> None:
    """Print the recordings with the largest errors of a method, with what may explain them."""
    answered = [row for row in rows if row.answers[method].hr_bpm is not None]
    answered.sort(key=lambda row: -abs((row.answers[method].hr_bpm or 0.0) - row.answers[method].true_bpm))
    print(f"| worst of {METHODS[method].title} | true | found | depth | fps | talk | turn | codec | bits/pixel | why |")
    print("| --- |" + " --- |" * 9)
    for row in answered[:count]:
        one, scene, head = row.answers[method], row.scene, row.scene["head"]
        print(
            f"| {row.name} | {one.true_bpm:.1f} | {one.hr_bpm:.1f} | {scene['pulse_depth']:.4f} | {scene['fps']:g} "
            f"| {head['talk']:g} | {head['turn_deg']:g} | {row.encoding['codec']} {row.encoding['crf']} "
            f"| {row.bits_per_pixel:.3f} | {'called reliable' if one.reliable else one.why} |"
        )
    print()


def print_talkers(rows: list[Row], methods: tuple[str, ...]) -> None:
    print("* = called reliable")
    print("| clip | s | true | " + " | ".join(METHODS[method].title for method in methods) + " |")
    print("| --- | --- | --- |" + " --- |" * len(methods))
    for row in sorted(rows, key=lambda row: (row.group != "ordinary", row.name)):
        cells = []
        for method in methods:
            one = row.answers[method]
            cells.append("none" if one.hr_bpm is None else f"{one.hr_bpm:.1f}{' *' if one.reliable else ''}")
        print(f"| {row.name} | {row.scene['duration_s']:g} | {mean_truth_bpm(row):.1f} | " + " | ".join(cells) + " |")
    print()
    for group in GROUPS:
        mine = [row for row in rows if row.group == group]
        print(f"{group}:\n")
        print(markdown_table(**overall(mine, methods)) + "\n")
        for method in methods:
            wrong = [
                row.name
                for row in mine
                if row.answers[method].reliable
                and abs((row.answers[method].hr_bpm or 0.0) - row.answers[method].true_bpm) > WITHIN_BPM
            ]
            if wrong:
                print(f"{METHODS[method].title} called reliable and wrong: {', '.join(wrong)}.")
        print()


# ---------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", help="a folder that autohr synth made")
    parser.add_argument("--limit", type=int, help="measure only so many recordings, evenly spread")
    parser.add_argument("--talkers", type=int, help="make and measure so many talking heads, each ordinary and hard")
    parser.add_argument("--portraits", type=Path, help="folder of photographs with landmarks, for --talkers")
    parser.add_argument("--weights", help="a .safetensors file for the net; the shipped ones if none is given")
    parser.add_argument("--methods", help="default: the net, if it has weights, and the formulas")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="file of rows; default: beside ROOT, or in runs/transfer")
    parser.add_argument("--out-result", type=Path, help="result file, docs/results/transfer.json or talkers.json")
    options = parser.parse_args()
    if (options.root is None) == (options.talkers is None):
        parser.error("give a ROOT to measure or --talkers N to make, one of the two.")
    if options.talkers is not None and options.portraits is None:
        parser.error("--talkers needs --portraits DIR.")
    methods = tuple(options.methods.split(",")) if options.methods else default_methods(options.weights)
    loaded = load_methods(methods, options.weights)
    setup = fingerprint(methods, options.weights)
    net = next((method.name for method in loaded if method.is_net), None)
    label = "-".join(["transfer", *setup["weights"].values()])

    if options.root is not None:
        out = options.out or options.root.resolve().with_name(f"{options.root.resolve().name}.{label}.jsonl")
        jobs = [
            Recording(name, video, methods, options.weights)
            for name, video in recordings_of(options.root, options.limit)
        ]
        kept = {row["name"]: row for row in resume(out, setup)}
        fresh = [job for job in jobs if job.name not in kept or kept[job.name]["scene"] != _scene_of(job.video)]
        kept |= {row["name"]: row for row in run_jobs(measure_recording, fresh, options.workers, out)}
        rows = [_row(kept[job.name]) for job in jobs]
        print(f"{len(rows)} recordings of {len({row.name.split('/')[0] for row in rows})} people.\n")
        table = overall(rows, methods)
        print(markdown_table(**table) + "\n")
        if options.out_result is not None:
            people = len({row.name.split("/")[0] for row in rows})
            save_result(
                options.out_result,
                question="How accurate is `autohr measure` on people whom no training has seen?",
                values={"people": people, "without a face": table["rows"][0][2]},
                tables={"methods": table, **({"strata": strata_of(rows, net)} if net is not None else {})},
            )
        print("MAE in bpm, share within 3 bpm:\n")
        print_strata(rows, methods, net)
        if net is not None:
            print_worst(rows, net)
        return

    out = options.out or Path("runs/transfer") / f"talkers.{label}.jsonl"
    pictures = pictures_of(options.portraits, test=True)
    talkers = [
        Talker(number, hard, pictures[number % len(pictures)], methods, options.weights)
        for number in range(options.talkers)
        for hard in (False, True)
    ]
    kept = {row["name"]: row for row in resume(out, setup)}
    fresh_talkers = [talker for talker in talkers if talker.name not in kept]
    kept |= {row["name"]: row for row in run_jobs(measure_talker, fresh_talkers, options.workers, out)}
    rows = [_row(kept[talker.name]) for talker in talkers]
    print_talkers(rows, methods)
    if options.out_result is not None:
        tables = [overall([row for row in rows if row.group == group], methods, f"{group}, ") for group in GROUPS]
        save_result(
            options.out_result,
            question="Are people read who talk to the camera all the time, with a weak pulse?",
            values={},
            tables={"methods": {**tables[0], "rows": [row for table in tables for row in table["rows"]]}},
        )


def _scene_of(video: Path) -> dict[str, Any]:
    scene: dict[str, Any] = json.loads(truth_path(video).read_text(encoding="utf-8"))["config"]
    return scene


def _row(kept: dict[str, Any]) -> Row:
    return Row(**{**kept, "answers": {name: Answer(**answer) for name, answer in kept["answers"].items()}})


if __name__ == "__main__":
    main()
