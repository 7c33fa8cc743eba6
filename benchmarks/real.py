"""Measure faces of real people: videos whose rate is known, and the clips of a second world.

    python benchmarks/real.py VIDEO=BPM ... [--out-result docs/results/real_video.json]
        every method that needs no weights of the caller's, on videos of known rate; nothing is tuned on them

    python benchmarks/real.py --make FOLDER --clips 200 --talkers DIR --videos DIR ... --portraits DIR --workers 2
        make 200 clips with a known pulse and the same 200 without (benchmarks/second_world.py); goes on where it was

    python benchmarks/real.py FOLDER [VIDEO=BPM ...] [--traces DIR] --methods autohr,pos,mvdr [--workers 2]
                              [--out-result OUT.json]
        measure the clips of FOLDER, faces tracked once for all methods; rows are kept as they come in FOLDER/rows.jsonl

A rate within ``WITHIN_BPM`` counts as right. The videos are not part of the project. ``--traces`` names a folder of
``webcam_*.npz``: mean colours of two people with a contact sensor's beats.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autohr
from autohr.errors import AutoHRError
from autohr.measure import measure, summarise
from autohr.methods import METHODS, load_method, ready_methods
from autohr.types import Reading
from autohr.workers import in_workers
from confidence import fingerprint, first_face, load_methods, read_video, resume, run_jobs
from results import markdown_table, save_result
from second_world import READABLE_BPM, READABLE_DB, Clip, Material, load_material, make_pair, read_clips, video_files
from traces import webcam_rates

WITHIN_BPM = 3.0
METHODS_MEASURED = "autohr,pos,chrom,green,ica,mvdr"


# ---------------------------------------------------------------------------------------------------------------------
# Videos of known rate


def measure_known(known: list[tuple[Path, float]], names: Sequence[str]) -> dict[str, Any]:
    """Measure videos of known rate with each method; return the table (columns, formats, rows), printed as it grows."""
    columns = ["method", *(f"{path.stem} (bpm)" for path, _ in known), "right", "reliable", "reliable and right"]
    rows: list[list[str | int | float | None]] = [["known rate", *(bpm for _, bpm in known), None, None, None]]
    formats = dict.fromkeys(columns[1:-3], ".1f")
    for name in names:
        method = load_method(name)
        rates: list[float | None] = []
        n_right = n_reliable = n_both = 0
        for path, bpm in known:
            try:
                face = measure(path, method).face
            except AutoHRError as refusal:
                print(f"{name}, {path.name}: {refusal}")
                rates.append(None)
                continue
            is_right = face.hr_bpm is not None and abs(face.hr_bpm - bpm) <= WITHIN_BPM
            rates.append(face.hr_bpm)
            n_right += is_right
            n_reliable += face.reliable
            n_both += is_right and face.reliable
        rows.append([METHODS[name].title, *rates, n_right, n_reliable, n_both])
        print(markdown_table(columns, rows[-1:], formats).splitlines()[-1])
    return {"columns": columns, "formats": formats, "rows": rows}


# ---------------------------------------------------------------------------------------------------------------------
# Making the clips


@functools.cache
def material_of(portraits: Path, videos: tuple[Path, ...], cache: Path) -> Material:
    """Return the material of clips, read once in each process."""
    return load_material(portraits, videos, cache)


def make_clip(job: tuple[Path, tuple[Path, ...], Path, int]) -> list[Clip]:
    """Make the pair of clips of one seed."""
    portraits, videos, out, seed = job
    return make_pair(material_of(portraits, videos, out / "performances"), seed, out)


def make(out: Path, n_clips: int, first_seed: int, portraits: Path, folders: Sequence[Path], workers: int) -> None:
    """Make ``n_clips`` clips with a pulse and as many without, but for those that are there."""
    out.mkdir(parents=True, exist_ok=True)
    videos = tuple(video_files(folders))
    material_of(portraits, videos, out / "performances")
    there = Counter(clip.seed for clip in read_clips(out))
    seeds = [seed for seed in range(first_seed, first_seed + n_clips) if there[seed] < 2]
    jobs = [(portraits, videos, out, seed) for seed in seeds]
    for number, (_, clips) in enumerate(in_workers(make_clip, jobs, workers), 1):
        one = next(clip for clip in clips if clip.pulse)
        print(f"{number} of {len(jobs)}: {one.video}, {one.kind} of {one.source}, {one.coding}, {one.oracle_snr_db} dB")
    clips = [clip for clip in read_clips(out) if clip.pulse]
    print(f"{len(clips)} clips with a pulse and as many without; an oracle reads {sum(c.readable for c in clips)}.")


# ---------------------------------------------------------------------------------------------------------------------
# Measuring the clips


@dataclass(frozen=True)
class Row:
    """One clip as one method measured it."""

    video: str
    method: str
    hr_bpm: float | None
    confidence: float
    reliable: bool
    why: str | None
    """The reason of most of the windows that are not reliable; None if none is, or the rate is reliable."""
    windows: list[dict[str, Any]]
    """Rate, verdict and evidence of every reading, with its error, as ``benchmarks/confidence.py --fit`` takes them."""


def measure_clip(job: tuple[Path, Clip, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Measure one clip with every method, as a worker does."""
    folder, clip, names = job
    found = read_video(folder / clip.video, load_methods(names, None))
    return [asdict(row_of(clip, name, readings)) for name, readings in found.items()]


def row_of(clip: Clip, method: str, readings: list[Reading]) -> Row:
    """Return the row of a clip's readings by one method."""
    if not readings:
        return Row(clip.video, method, None, 0.0, False, "no face was found for long enough", [])
    mine = first_face(readings)
    windows = []
    for reading in mine:
        rate = reading.estimate
        error_bpm = None
        if clip.pulse and rate.hr_bpm is not None:
            error_bpm = rate.hr_bpm - clip.rate_bpm(reading.start_s, reading.end_s)
        evidence = None if rate.evidence is None else asdict(rate.evidence)
        windows.append({"error_bpm": error_bpm, **rate.rate_fields(), "evidence": evidence})
    face = summarise(mine)
    reasons = Counter(reason_of(window["why_unreliable"]) for window in windows if not window["reliable"])
    why = None if face.reliable or not reasons else reasons.most_common(1)[0][0]
    return Row(clip.video, method, face.hr_bpm, face.confidence, face.reliable, why, windows)


def reason_of(why: str | None) -> str:
    """Return a reason without its numbers, so that equal reasons count as one."""
    return re.sub(r"\d+(\.\d+)?", "N", why or "no reason given")


def engine_digest() -> str:
    """Return a digest of the product's code: rows of another engine must not be mixed with these."""
    root = Path(autohr.__file__).parent
    files = [path for path in sorted(root.rglob("*.py")) if "lab" not in path.relative_to(root).parts]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def measure_folder(folder: Path, names: tuple[str, ...], workers: int, rows_path: Path) -> list[tuple[Clip, Row]]:
    """Measure the clips of a folder; return each with its rows. Rows that are there are not measured again."""
    clips = read_clips(folder)
    if not clips:
        sys.exit(f"{folder} holds no clips with their truth; make some with --make {folder}.")
    load_methods(names, None)
    kept = resume(rows_path, {**fingerprint(names, None), "engine": engine_digest()})
    done = {row["video"] for row in kept}
    jobs = [(folder, clip, names) for clip in clips if clip.video not in done]
    rows = kept + run_jobs(measure_clip, jobs, workers, rows_path)
    by_name = {clip.video: clip for clip in clips}
    return [(by_name[row["video"]], Row(**row)) for row in rows if row["video"] in by_name]


# ---------------------------------------------------------------------------------------------------------------------
# Tables


Measured = Sequence[tuple[Clip, Row]]


def is_near(row: Row, bpm: float | None) -> bool:
    """Return True if the row's rate is within ``WITHIN_BPM`` of ``bpm``."""
    return row.hr_bpm is not None and bpm is not None and abs(row.hr_bpm - bpm) <= WITHIN_BPM


def figures_of(measured: Measured) -> list[Any]:
    """Return the figures of ``FIGURES`` for the rows of one method."""
    with_pulse = [(clip, row) for clip, row in measured if clip.pulse]
    without = [(clip, row) for clip, row in measured if not clip.pulse]
    right = [row for clip, row in with_pulse if is_near(row, clip.hr_bpm)]
    trusted = [(clip, row) for clip, row in with_pulse if row.reliable]
    wrong = [row for clip, row in trusted if not is_near(row, clip.hr_bpm)]
    both = len(trusted) - len(wrong)
    locks = [
        sum(is_near(row, times * (clip.hr_bpm or 0)) and not is_near(row, clip.hr_bpm) for clip, row in with_pulse)
        for times in (0.5, 2)
    ]
    alarms = [(clip, row) for clip, row in without if row.reliable]
    return [
        len(with_pulse),
        len(right) / len(with_pulse) if with_pulse else None,
        len(trusted),
        both / len(right) if right else None,
        len(wrong),
        *locks,
        len(without),
        len(alarms),
        sum(is_near(row, clip.nod_bpm) for clip, row in alarms),
    ]


FIGURES = (
    "clips with a pulse",
    "right",
    "reliable",
    "of the right ones reliable",
    "reliable and wrong",
    "half the rate",
    "double the rate",
    "clips without",
    "without: reliable",
    "of these at the nod's rate",
)
SHARES = ("right", "of the right ones reliable")
COUNTS = ("reliable and wrong", "half the rate", "double the rate", "without: reliable")
BIAS = ("mean error (bpm)", "median")


def overall(measured: Measured, methods: Sequence[str]) -> dict[str, Any]:
    """Return the table of all clips and of the readable ones, for each method (columns, formats, rows)."""
    table = []
    for method in methods:
        mine = [(clip, row) for clip, row in measured if row.method == method]
        readable = {clip.seed for clip, _ in mine if clip.readable}
        table.append([method, *figures_of(mine)])
        table.append([f"{method}, readable", *figures_of([(c, row) for c, row in mine if c.seed in readable])])
    return {"columns": ["method", *FIGURES], "formats": dict.fromkeys(SHARES, ".1%"), "rows": table}


def _bins(value: float, edges: Sequence[float], unit: str) -> str:
    """Return the bin of a value in words, such as "50-75 bpm"."""
    at = int(np.searchsorted(edges, value, side="right"))
    if at == 0:
        return f"under {edges[0]:g} {unit}"
    return f"{edges[-1]:g} {unit} and more" if at == len(edges) else f"{edges[at - 1]:g}-{edges[at]:g} {unit}"


STRATA: dict[str, Callable[[Clip], str]] = {
    "kind": lambda clip: clip.kind,
    "movement of": lambda clip: clip.motion.split(".")[0],
    "skin": lambda clip: clip.tone,
    "wearing": lambda clip: clip.wearing,
    "rate": lambda clip: _bins(clip.nod_bpm, (55, 75, 100, 140), "bpm"),
    "pulse": lambda clip: _bins(clip.skin_pulse_pct, (0.75, 1.5, 2.5), "%"),
    "coding": lambda clip: clip.coding,
    "compression": lambda clip: _bins(clip.bits_per_pixel, (0.02, 0.05, 0.15), "bits per pixel"),
    "frames per second": lambda clip: f"{clip.fps:g}",
    "time stamps": lambda clip: clip.timing,
    "light": lambda clip: clip.light,
    "face": lambda clip: _bins(clip.face_px, (100, 160, 240), "px"),
    "movement": lambda clip: _bins(clip.movement, (0.01, 0.03, 0.1), "widths a second"),
    "length": lambda clip: _bins(clip.duration_s, (12, 20), "s"),
    "nod": lambda clip: _bins(clip.nod_px, (0.05, 0.2), "px"),
    "oracle": lambda clip: _bins(clip.oracle_snr_db, (-6, -3, 0, 3, 6), "dB"),
}
"""Strata of clips. A clip without a pulse stands where the same clip with one does."""


def by_strata(measured: Measured, method: str) -> dict[str, Any]:
    """Return the table of one method's figures by strata (columns, formats, rows)."""
    mine = [(clip, row) for clip, row in measured if row.method == method]
    pulses = {clip.seed: clip for clip, _ in mine if clip.pulse}
    table = []
    for name, stratum in STRATA.items():
        values = sorted({stratum(clip) for clip in pulses.values()}, key=_in_order)
        for value in values:
            seeds = {seed for seed, clip in pulses.items() if stratum(clip) == value}
            of_them = [(clip, row) for clip, row in mine if clip.seed in seeds]
            readable = [(clip, row) for clip, row in of_them if pulses[clip.seed].readable]
            whole, best = (dict(zip(FIGURES, figures_of(rows), strict=True)) for rows in (of_them, readable))
            errors = [row.hr_bpm - clip.hr_bpm for clip, row in of_them if row.hr_bpm and clip.hr_bpm]
            bias = [float(np.mean(errors)), float(np.median(errors))] if errors else [None, None]
            cells = [whole[key] for key in ("clips with a pulse", *SHARES, *COUNTS)]
            table.append([f"{name}: {value}", *cells, *bias, *(best[key] for key in ("clips with a pulse", *SHARES))])
    columns = ["stratum", "clips", *SHARES, *COUNTS, *BIAS, "readable", *(f"readable: {share}" for share in SHARES)]
    formats = dict.fromkeys([*SHARES, *(f"readable: {share}" for share in SHARES)], ".0%")
    return {"columns": columns, "formats": {**formats, **dict.fromkeys(BIAS, "+.1f")}, "rows": table}


def _in_order(value: str) -> tuple[float, str]:
    """Sort bins by their first number; "under N" comes first."""
    number = re.search(r"-?\d+(\.\d+)?", value)
    if number is None:
        return 0.0, value
    return float(number[0]) - (1e-6 if value.startswith("under") else 0), value


def refusals(measured: Measured, methods: Sequence[str]) -> dict[str, Any]:
    """Return the table of right rates that were not called reliable, by the reason given (columns, rows)."""
    counts: dict[str, Counter[str]] = {}
    for clip, row in measured:
        if clip.pulse and is_near(row, clip.hr_bpm) and not row.reliable:
            counts.setdefault(row.why or "", Counter())[row.method] += 1
            if clip.readable:
                counts[row.why or ""][f"{row.method}, readable"] += 1
    names = [name for method in methods for name in (method, f"{method}, readable")]
    ordered = sorted(counts.items(), key=lambda item: -item[1][names[0]])
    return {
        "columns": ["right but refused because", *names],
        "rows": [[why, *(n[m] for m in names)] for why, n in ordered],
    }


# ---------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", metavar="FOLDER | VIDEO=BPM")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make clips there")
    parser.add_argument("--clips", type=int, default=200, help="clips with a pulse to make, and as many without")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the clips to make")
    parser.add_argument("--talkers", type=Path, help="folder of videos of people who talk and move")
    parser.add_argument("--videos", type=Path, nargs="+", default=[], help="further folders of videos of faces")
    parser.add_argument("--portraits", type=Path, help="folder of photographs with landmarks.npz")
    parser.add_argument("--methods", default=METHODS_MEASURED, help=f"default: {METHODS_MEASURED}")
    parser.add_argument("--traces", type=Path, help="folder of webcam_*.npz")
    parser.add_argument("--rows", type=Path, help="default: FOLDER/rows.jsonl")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out-result", type=Path)
    options = parser.parse_args()
    if options.make is not None:
        if options.talkers is None or options.portraits is None:
            parser.error("--make needs --talkers and --portraits, and takes --videos")
        folders = [options.talkers, *options.videos]
        make(options.make, options.clips, options.seed, options.portraits, folders, options.workers)
        return
    known = [(Path(path), float(bpm)) for path, bpm in (one.rsplit("=", 1) for one in options.sources if "=" in one)]
    folders = [Path(one) for one in options.sources if "=" not in one]
    if len(folders) > 1 or not (known or folders):
        parser.error("give one FOLDER of clips, or VIDEO=BPM ..., or both; or --make FOLDER")
    if not folders:
        table = measure_known(known, sorted(ready_methods(), key=lambda name: name != "autohr"))
        if options.out_result is not None:
            save_result(
                options.out_result,
                question=f"Which rates are read from {len(known)} videos of real faces whose rate is known?",
                values={"videos": len(known), "within_bpm": WITHIN_BPM},
                tables={"methods": table},
            )
        return
    methods = tuple(options.methods.split(","))
    rows_path = options.rows or folders[0] / "rows.jsonl"
    measured = measure_folder(folders[0], methods, options.workers, rows_path)
    tables = {
        "methods": overall(measured, methods),
        "strata": by_strata(measured, methods[0]),
        "refusals": refusals(measured, methods),
    }
    for name, table in tables.items():
        print(f"\n{name}\n\n{markdown_table(**table)}")
    if known:
        print("\nvideos of known rate\n")
        tables["known"] = measure_known(known, methods)
    if options.traces is not None:
        names = tuple(name for name in methods if not METHODS[name].is_net and name != "mvdr")
        tables["traces"] = webcam_rates(options.traces, names, WITHIN_BPM)
        print("\n" + markdown_table(**tables["traces"]))
    if options.out_result is not None:
        pulses = {clip.seed: clip for clip, _ in measured if clip.pulse}
        save_result(
            options.out_result,
            question="What is a rate worth on real faces with a pulse laid in by code that nothing was fitted on?",
            values={
                "clips with a pulse": len(pulses),
                "clips without": len({clip.seed for clip, _ in measured if not clip.pulse}),
                "readable": sum(clip.readable for clip in pulses.values()),
                "within_bpm": WITHIN_BPM,
                "readable_db": READABLE_DB,
                "readable_bpm": READABLE_BPM,
            },
            tables=tables,
        )


if __name__ == "__main__":
    main()
