"""``autohr demo``: a video of a drawn face with known pulse, measured, with its report."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from autohr.cli.options import load_chosen_method, needs_extra
from autohr.cli.output import ProgressBar, print_error, print_line, print_measurement
from autohr.cli.outputs import check_writable
from autohr.plugins import find_plugins


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the video and all results.")] = Path("demo"),
    hr_bpm: Annotated[
        float | None, typer.Option(min=45.0, max=170.0, help="Draw a face with this heart rate.", show_default=False)
    ] = None,
    duration_s: Annotated[
        float | None, typer.Option(min=10.0, max=600.0, help="Draw a video of this length.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw another face.", show_default=False)] = None,
) -> None:
    """Measure a video of a drawn face whose heart rate is known, and write its report.

    The video is part of autohr. With --hr-bpm, --duration-s or --seed another one is drawn, which takes longer.
    """
    from autohr.files import make_folder, write_bytes
    from autohr.measure import measure as measure_video
    from autohr.reports.journal import Outcome
    from autohr.reports.outputs import ResultFiles

    video, report, answer = out / "face.mp4", out / "report.html", out / "measurement.json"
    for path in (video, report, answer):
        check_writable(path, "--out")
    make_folder(out)
    if (hr_bpm, duration_s, seed) == (None, None, None):
        truth = out / "face.truth.json"
        for copy in (video, truth):
            write_bytes(copy, (resources.files("autohr") / "demo" / copy.name).read_bytes())
        true_hr_bpm = json.loads(truth.read_text(encoding="utf-8"))["faces"][0]["mean_hr_bpm"]
    else:
        hr_bpm, duration_s, seed = hr_bpm or 72.0, duration_s or 20.0, 1 if seed is None else seed
        print_line(f"Making {video}: a drawn face of {hr_bpm:g} bpm, {duration_s:g} s, moving, in changing light ...")
        with needs_extra("Drawing another face", "lab"):
            make_video = find_plugins("autohr.demo")["make_video"].load()
            true_hr_bpm = make_video(video, hr_bpm, duration_s, seed)
    method = load_chosen_method(None, None, "cpu")
    with ProgressBar(str(video)) as progress:
        result = measure_video(video, method, progress=progress)
    print_measurement(result)
    files = ResultFiles(json_out=answer, html_out=report)
    files.add(Outcome(result))
    errors, _ = files.finish()
    measured = "nothing" if result.face.hr_bpm is None else f"{result.face.hr_bpm:.1f} bpm"
    print_line(f"True rate {true_hr_bpm:.1f} bpm, measured {measured}.")
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(1)
    print_line(f"Report: {report}   (video {video}, numbers {answer})")
