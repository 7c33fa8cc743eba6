"""Put methods on the same people of both worlds into tables, from the rows of two other benchmarks.

    python benchmarks/transfer.py TEST --methods A,B,... --workers 2 --out TEST.jsonl
    python benchmarks/real.py CLIPS --methods A,B,... --workers 2 --rows CLIPS.jsonl
    python benchmarks/both_worlds.py --synthetic TEST.jsonl ... --second CLIPS CLIPS.jsonl ...
                                     [--cost VIDEO] [--out-result docs/results/methods.json]

Each of the two may be measured in parts, a few methods at a time: give all files of rows. Only recordings that every
method has are counted, and of the second world only clips whose pulse an oracle can read. A rate that is missing counts
as not within any bound, and is left out of mean errors. Intervals are of 95 % and made by drawing people. ``--cost``
times every method on the first ten seconds of a video.

"Alone" is the median of a method's rates of all windows; the answer of ``measure`` for a net that is not reliable has
MVDR's voice in it.

"Against POS" compares the errors of the recordings that both answer, people drawn in the same way: "worse" where the
interval of the mean difference lies above 0, "better" where it lies below, "same" where it holds 0.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autohr.lab.experiments.costs import Cost, TimedMethod, measure_costs
from autohr.lab.synth.strata import Facts, strata
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS, load_method, shipped_weights
from autohr.types import Estimate, FaceClip, Float
from autohr.video.decode import open_video
from results import markdown_table, save_result
from second_world import read_clips

WITHIN_BPM = (3.0, 5.0)
N_DRAWS = 2000
BASELINE = "pos"
STRATA_SHOWN = ("rate", "depth of pulse", "motion", "light", "skin tone", "frames per second", "bits per pixel")


@dataclass(frozen=True)
class Answer:
    """A recording as one method measured it."""

    person: str
    true_bpm: float
    hr_bpm: float | None
    reliable: bool
    alone_bpm: float | None
    """Median of the rates of all windows, in which no other method has a voice."""

    @property
    def error_bpm(self) -> float:
        """Absolute error; NaN without a rate."""
        return float("nan") if self.hr_bpm is None else abs(self.hr_bpm - self.true_bpm)


@dataclass(frozen=True)
class World:
    """Answers by method, in the same order of recordings."""

    answers: dict[str, list[Answer]]
    alarms: dict[str, tuple[int, int]]
    """Method -> clips without a pulse that were called reliable, and all of them. Empty where there are none."""
    groups: list[set[str]]
    """Strata of each recording."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of rows, without its first line, which says how they were made."""
    with path.open(encoding="utf-8") as lines:
        next(lines)
        return [row for line in lines for row in json.loads(line)]


def read_synthetic(files: Sequence[Path]) -> World:
    """Return the rows of ``benchmarks/transfer.py``."""
    recordings: dict[str, dict[str, Answer]] = {}
    groups: dict[str, set[str]] = {}
    for row in (row for path in files for row in read_lines(path)):
        name = row["name"]
        for method, one in row["answers"].items():
            alone_bpm = one.get("alone_bpm", one["hr_bpm"])
            answer = Answer(name.split("/")[0], one["true_bpm"], one["hr_bpm"], one["reliable"], alone_bpm)
            recordings.setdefault(name, {})[method] = answer
        true_bpm = next(iter(row["answers"].values()))["true_bpm"]
        found = strata(Facts(row["scene"], row["encoding"], row["bits_per_pixel"], true_bpm, row["skin"]))
        groups[name] = {f"{key}: {value}" for key, value in found.items() if key in STRATA_SHOWN}
    methods = {method for answers in recordings.values() for method in answers}
    kept = sorted(name for name, answers in recordings.items() if set(answers) == methods)
    by_method = {method: [recordings[name][method] for name in kept] for method in methods}
    return World(by_method, {}, [groups[name] for name in kept])


def read_second(folder: Path, files: Sequence[Path]) -> World:
    """Return the rows of ``benchmarks/real.py`` of clips whose pulse any tool could read, with and without it."""
    clips = {clip.video: clip for clip in read_clips(folder)}
    chosen = {clip.seed for clip in clips.values() if clip.pulse and clip.readable}
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for path in files for row in read_lines(path)):
        if row["video"] in clips and clips[row["video"]].seed in chosen:
            rows.setdefault(row["video"], {})[row["method"]] = row
    methods = {method for found in rows.values() for method in found}
    kept = sorted(video for video, found in rows.items() if set(found) == methods)
    with_pulse = [clips[video] for video in kept if clips[video].pulse]
    without = [video for video in kept if not clips[video].pulse]
    answers = {
        method: [
            Answer(
                clip.source,
                float(clip.hr_bpm or 0.0),
                rows[clip.video][method]["hr_bpm"],
                rows[clip.video][method]["reliable"],
                median_rate(rows[clip.video][method]["windows"]),
            )
            for clip in with_pulse
        ]
        for method in methods
    }
    alarms = {method: (sum(rows[video][method]["reliable"] for video in without), len(without)) for method in methods}
    return World(answers, alarms, [set() for _ in with_pulse])


def median_rate(windows: Sequence[dict[str, Any]]) -> float | None:
    """Return the median rate of a row's windows, None where none has a rate."""
    rates = [one["hr_bpm"] for one in windows if one["hr_bpm"] is not None]
    return float(np.median(rates)) if rates else None


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the correlation of rates and truths; None where it has no meaning."""
    rates, truths = np.array(pairs).T if len(pairs) > 2 else (np.zeros(1), np.zeros(1))
    return float(np.corrcoef(rates, truths)[0, 1]) if np.ptp(rates) > 0 else None


def interval(people: Sequence[str], value: Callable[[list[int]], float]) -> tuple[float, float]:
    """Return the 95 % interval of a value of recordings, people drawn with replacement."""
    by_person: dict[str, list[int]] = {}
    for number, person in enumerate(people):
        by_person.setdefault(person, []).append(number)
    groups = list(by_person.values())
    rng = np.random.default_rng(0)
    draws = [
        value([number for group in rng.integers(len(groups), size=len(groups)) for number in groups[group]])
        for _ in range(N_DRAWS)
    ]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)


def guess_bpm(answers: Sequence[Answer]) -> Float:
    """Return the errors of always giving the median rate, the best that a constant can do."""
    truth = np.array([one.true_bpm for one in answers])
    errors: Float = np.abs(truth - np.median(truth))
    return errors


def figures_of(method: str, world: World) -> dict[str, Any]:
    """Return the figures of one method in one world."""
    answers = world.answers[method]
    people = [one.person for one in answers]
    errors = np.array([one.error_bpm for one in answers])
    known = [one for one in answers if one.hr_bpm is not None]
    alone = [(one.alone_bpm, one.true_bpm) for one in answers if one.alone_bpm is not None]
    alone_errors = np.abs(np.array([rate - true for rate, true in alone]))
    low, high = interval(people, lambda chosen: float(np.nanmean(errors[chosen])))
    trusted = [one for one in answers if one.reliable]
    found: dict[str, Any] = {
        "recordings": len(answers),
        "no rate": len(answers) - len(known),
        "MAE (bpm)": float(np.nanmean(errors)),
        "95 %": f"{low:.1f} to {high:.1f}",
        "of guess": float(np.nanmean(errors) / guess_bpm(answers).mean()),
        "r": correlation([(one.hr_bpm or 0.0, one.true_bpm) for one in known]),
        **{f"within {bound:g} bpm": float((errors <= bound).mean()) for bound in WITHIN_BPM},
        "alone: of guess": float(alone_errors.mean() / guess_bpm(answers).mean()),
        "alone: r": correlation(alone),
        "alone: within 5 bpm": float((alone_errors <= WITHIN_BPM[1]).sum() / len(answers)),
        "reliable": len(trusted),
        "of these wrong": sum(one.error_bpm > WITHIN_BPM[1] for one in trusted),
    }
    if world.alarms:
        false, total = world.alarms[method]
        found["without a pulse reliable"] = f"{false} of {total}"
    if method != BASELINE and BASELINE in world.answers:
        worse = errors - np.array([one.error_bpm for one in world.answers[BASELINE]])
        low, high = interval(people, lambda chosen: float(np.nanmean(worse[chosen])))
        found["against POS"] = "worse" if low > 0 else "better" if high < 0 else "same"
    else:
        found["against POS"] = None
    return found


FORMATS = {"MAE (bpm)": ".1f", "of guess": ".2f", "r": ".2f", "within 3 bpm": ".0%", "within 5 bpm": ".0%"} | {
    "alone: of guess": ".2f",
    "alone: r": ".2f",
    "alone: within 5 bpm": ".0%",
}


def table_of(world: World, methods: Sequence[str]) -> dict[str, Any]:
    """Return the table of one world (columns, formats, rows), best first, and the guess last."""
    found = {method: figures_of(method, world) for method in methods if method in world.answers}
    columns = ["method", *next(iter(found.values()))]
    ordered = sorted(found, key=lambda method: float(found[method]["MAE (bpm)"]))
    rows: list[list[Any]] = [[METHODS[method].title, *found[method].values()] for method in ordered]
    guess = guess_bpm(next(iter(world.answers.values())))
    constant: dict[str, Any] = {
        "recordings": len(guess),
        "no rate": 0,
        "MAE (bpm)": float(guess.mean()),
        "of guess": 1.0,
        **{f"within {bound:g} bpm": float((guess <= bound).mean()) for bound in WITHIN_BPM},
    }
    rows.append(["always the median rate", *(constant.get(column) for column in columns[1:])])
    return {"columns": columns, "formats": FORMATS, "rows": rows}


def strata_table(world: World, methods: Sequence[str]) -> dict[str, Any]:
    """Return the share within 5 bpm of every method in every stratum (columns, formats, rows)."""
    labels = sorted(set().union(*world.groups)) if world.groups else []
    rows: list[list[Any]] = []
    for label in labels:
        inside = [number for number, groups in enumerate(world.groups) if label in groups]
        shares = [
            float(np.mean([world.answers[method][number].error_bpm <= WITHIN_BPM[1] for number in inside]))
            for method in methods
        ]
        key, _, value = label.partition(": ")
        rows.append([f"{key}: {value.split(' ', 1)[1] if value[:1].isdigit() else value}", len(inside), *shares])
    titles = [METHODS[method].title for method in methods]
    return {"columns": ["recordings", "n", *titles], "formats": dict.fromkeys(titles, ".0%"), "rows": rows}


class _Keep:
    """A method that keeps the first window it is given, with its crops."""

    name, weights, stream = "keep", None, None

    def __init__(self, size_px: int) -> None:
        mvdr = METHODS["mvdr"]
        assert mvdr.crop is not None
        self.crop = mvdr.crop if size_px == mvdr.crop.size_px else type(mvdr.crop)(80, size_px, "tracked", 0.1)
        self.clip: FaceClip | None = None

    def __call__(self, clip: FaceClip) -> Estimate:
        self.clip = self.clip or clip
        return Estimate(None, 0.0, False, None, "not measured")


def costs_of(video: Path, methods: Sequence[str]) -> dict[str, Cost]:
    """Return what every method costs on the first window of a video's face."""
    clips: dict[int, FaceClip] = {}
    timed = []
    for name in methods:
        crop = load_method(name).crop
        size_px = 64 if crop is None else crop.size_px
        if size_px not in clips:
            keep = _Keep(size_px)
            meter = Meter(keep, MeterConfig())  # type: ignore[arg-type]
            with open_video(video) as frames:
                for frame in frames:
                    meter.push(frame.rgb, frame.t_s, whole=frame.whole)
                    if keep.clip is not None:
                        break
            assert keep.clip is not None, "the video shows no face for ten seconds"
            clips[size_px] = keep.clip
        timed.append(TimedMethod(name, name, None, clips[size_px]))
    return {one.label: one for one in measure_costs(timed, print)}


def cost_table(costs: dict[str, Cost]) -> dict[str, Any]:
    """Return the table of costs (columns, formats, rows)."""
    files = shipped_weights(".onnx")
    rows = [
        [
            METHODS[name].title,
            one.parameters,
            files[name].stat().st_size / 1e6 if name in files and METHODS[name].is_net else None,
            one.gflop,
            one.ms,
        ]
        for name, one in costs.items()
    ]
    columns = ["method", "parameters", "file (MB)", "GFLOP", "ms"]
    return {"columns": columns, "formats": {"parameters": ",", **dict.fromkeys(columns[2:], ".1f")}, "rows": rows}


def card_table(worlds: dict[str, World], methods: Sequence[str]) -> dict[str, Any]:
    """Return the table of the model card: every net that gives what it reads alone, in both worlds."""
    columns = [
        "network",
        "synthetic: r",
        "within 5 bpm",
        "of guess",
        "second world, readable: r",
        "within 5 bpm ",
        "of guess ",
    ]
    rows: list[list[Any]] = []
    for method in methods:
        if METHODS[method].is_net and all(method in world.answers for world in worlds.values()):
            cells: list[Any] = [METHODS[method].title]
            for name in ("synthetic", "second"):
                found = figures_of(method, worlds[name])
                cells += [found[f"alone: {key}"] for key in ("r", "within 5 bpm", "of guess")]
            rows.append(cells)
    formats = {name: ".0%" if "within" in name else ".2f" for name in columns[1:]}
    return {"columns": columns, "formats": formats, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", type=Path, nargs="+", required=True, help="rows of benchmarks/transfer.py")
    parser.add_argument("--second", type=Path, nargs="+", required=True, help="folder of clips, then rows of real.py")
    parser.add_argument("--cost", type=Path, metavar="VIDEO", help="time every method on it")
    parser.add_argument("--out-result", type=Path)
    options = parser.parse_args()
    folder, *files = options.second
    if not files:
        parser.error("--second needs the folder of the clips and at least one file of rows.")
    worlds = {
        "synthetic": read_synthetic(options.synthetic),
        "second": read_second(folder, files),
    }
    methods = [name for name in METHODS if name in worlds["synthetic"].answers]
    tables = {name: table_of(world, methods) for name, world in worlds.items()}
    tables["strata"] = strata_table(worlds["synthetic"], methods)
    tables["card"] = card_table(worlds, methods)
    if options.cost is not None:
        tables["cost"] = cost_table(costs_of(options.cost, methods))
    for name, table in tables.items():
        print(f"\n{name}\n\n{markdown_table(**table)}")
    if options.out_result is not None:
        save_result(
            options.out_result,
            question="How do all methods compare on the same people of both worlds?",
            values={"methods": len(methods)},
            tables=tables,
        )


if __name__ == "__main__":
    main()
