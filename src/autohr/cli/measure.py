"""``autohr measure``: files, folders and cameras in, results out."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autohr.cli.batch import Measurer, measure_alone, measure_in_turn, measure_side_by_side
from autohr.cli.inputs import list_inputs, names_of
from autohr.cli.interrupts import Interrupted, Interrupts
from autohr.cli.options import (
    Box,
    CsvOption,
    DeviceOption,
    JsonOption,
    MaxFacesOption,
    MethodOption,
    SummaryOption,
    WeightsOption,
    load_chosen_method,
)
from autohr.cli.output import NOT_MEDICAL, BatchProgress, ResultPrinter, print_error, waiting
from autohr.cli.outputs import OutputPaths

if TYPE_CHECKING:
    from autohr.reports.journal import FileState, Journal
    from autohr.reports.outputs import ResultFiles

MAX_JOBS = 256
"""Largest number of worker processes. Chosen by us: one took 330 MB with the default method and 640x480 pixels."""


def measure(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Video files; folders, which are searched for videos; a folder of images (with --fps); a camera, by "
            "its number (0); an address such as rtsp://...",
            show_default=False,
        ),
    ],
    method: MethodOption = None,
    weights: WeightsOption = None,
    window_s: Annotated[
        float, typer.Option(min=4.0, max=120.0, help="Length of the window behind each reading, in seconds.")
    ] = 10.0,
    stride_s: Annotated[
        float, typer.Option(min=0.1, max=120.0, help="Time from one reading to the next, in seconds.")
    ] = 1.0,
    max_faces: MaxFacesOption = 1,
    box: Annotated[
        Box | None,
        typer.Option(
            help="Crop of the face: follow it (tracked), or keep the enlarged box of the first frame, as the AutoHR "
            "paper does (first). Default: as the network was trained, otherwise tracked.",
            show_default=False,
        ),
    ] = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Time in the video at which to begin, in seconds.")] = 0.0,
    end_s: Annotated[
        float | None,
        typer.Option(min=0.0, help="Time in the video at which to stop, in seconds. Default of a camera: 30."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=1.0, max=1000.0, help="Frames per second of a folder of images.")
    ] = None,
    json_out: JsonOption = None,
    csv_out: CsvOption = None,
    summary_out: SummaryOption = None,
    html_out: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page with charts; it needs no internet.")
    ] = None,
    device: DeviceOption = "cpu",
    jobs: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_JOBS, help="Files measured side by side, each in a process of its own of about 0.3 GB."
        ),
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|FILE",
            help="Let the workers of a dask scheduler measure: tcp://HOST:8786, or its scheduler file.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with an interrupted batch: files that it has finished are not measured again."
        ),
    ] = False,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive/--no-recursive", help="Search the folders inside folders too. No loop of links is followed."
        ),
    ] = True,
    fail_unreliable: Annotated[
        bool,
        typer.Option("--fail-unreliable", help="Exit with code 1 also where the rate of a file is not reliable."),
    ] = False,
) -> None:
    """Measure the heart rate of the face in a video, or say why it cannot be measured.

    A face must be visible for 4 s to get a rate, and for 8 s to get a reliable one. Of several files, one that fails
    does not stop the others; the exit code is then 1, with --fail-unreliable also where a rate is not reliable. Results
    are saved as they come, and Ctrl-C keeps them; the same command with --resume goes on. OUT may be - for standard
    output.
    """
    if stride_s > window_s:
        raise typer.BadParameter(
            f"{stride_s:g} s must not be longer than --window-s {window_s:g}.", param_hint="--stride-s"
        )
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter(f"{end_s:g} s must lie after --start-s {start_s:g}.", param_hint="--end-s")
    outputs = OutputPaths.check(json_out, csv_out, html_out, summary_out)
    if resume and outputs.first_file is None and not outputs.has_failed:
        raise typer.BadParameter(
            "Results of an interrupted batch are kept beside its output file, and no output is a file here. "
            "Name the same --json, --csv, --html or --summary-csv as before.",
            param_hint="--resume",
        )
    inputs, remarks = list_inputs(paths, has_fps=fps is not None, is_recursive=recursive)
    if (jobs > 1 or cluster is not None) and not all(one.is_file for one in inputs):
        raise typer.BadParameter(
            "Cameras and addresses are not measured side by side. Measure them in a command of their own.",
            param_hint="--jobs" if cluster is None else "--cluster",
        )
    outputs.refuse_inputs([*(one.source for one in inputs), weights])
    for remark in remarks:
        print_error(remark)

    from autohr.reports.journal import Journal
    from autohr.reports.outputs import ResultFiles
    from autohr.video.folders import is_folder, local_path

    measurer = Measurer(method, weights, device, window_s, stride_s, max_faces, box, start_s, end_s, fps)
    measurer.loaded = load_chosen_method(method, weights, device)
    journal = Journal(outputs.first_file, measurer.options())
    is_batch = len(inputs) > 1
    files = ResultFiles(
        json_out=outputs.json,
        csv_out=outputs.csv,
        html_out=outputs.html,
        summary_out=outputs.summary,
        is_array=is_batch or len(paths) > 1 or is_folder(local_path(paths[0])),
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        command=shlex.join(["autohr", *sys.argv[1:]]),
        names=names_of(inputs, from_one_folder=len(paths) == 1),
        journal=journal,
    )
    states = [one.state(fps) for one in inputs]
    _take_over(journal, files, states, resume=resume)
    to_measure = [number for number in range(len(inputs)) if not files.has(number)]
    progress = BatchProgress(len(inputs), files.n_done)
    left = [inputs[number] for number in to_measure]
    if cluster is not None:
        outcomes = measure_side_by_side(left, measurer, progress, jobs, cluster)
    elif not is_batch:
        outcomes = measure_alone(left, measurer)
    elif jobs == 1:
        outcomes = measure_in_turn(left, measurer, progress)
    else:
        outcomes = measure_side_by_side(left, measurer, progress, jobs)

    screen = ResultPrinter(is_quiet=outputs.has_stdout)
    counts: Counter[str] = Counter()
    errors: list[str] = []
    kept: Path | None = None
    ended_by: BaseException | None = None

    def show_ready() -> None:
        """Write and print the outcomes whose turn it is."""
        while True:
            # Saved before it is shown, so that no name and no closed terminal can lose it.
            with interrupts.held():
                outcome = files.write_next()
            if outcome is None:
                return
            counts[outcome.verdict] += 1
            with progress.hidden():
                screen.print_result(outcome.result, outcome.bug)

    with Interrupts() as interrupts:
        try:
            with progress, contextlib.closing(outcomes):
                show_ready()
                for index, outcome in outcomes:
                    number = to_measure[index]
                    with interrupts.held():
                        files.add(outcome, number, states[number])
                    show_ready()
        except BaseException as error:
            # Whatever ends the batch, the results until then are written.
            ended_by = error
        try:
            with interrupts.held(), waiting("Writing the results"):
                errors, kept = files.finish(len(inputs))
        except Interrupted as interrupt:
            ended_by = ended_by or interrupt
    if errors and kept is not None:
        errors[-1] += f" All that was measured is in {str(kept)!r}: with --resume it is not measured again."
    for line in errors:
        print_error(line)
    if isinstance(ended_by, Interrupted):
        go_on = "" if kept is None else "; with --resume the same command goes on"
        print_error(
            f"Stopped by {ended_by.name} after {files.n_done} of {len(inputs)} files; what was done is written{go_on}."
        )
        raise typer.Exit(ended_by.exit_code)
    if ended_by is not None:
        raise ended_by
    n_reliable, n_unreliable, n_refused = (counts[one] for one in ("reliable", "not reliable", "refused"))
    if is_batch:
        screen.print_line(
            f"Measured {n_reliable + n_unreliable} of {len(inputs)} files: {n_reliable} reliable, {n_unreliable} not "
            f"reliable; {n_refused} refused."
        )
    if n_reliable + n_unreliable:
        screen.print_line(NOT_MEDICAL)
    if n_refused or errors or screen.has_failed or outputs.has_failed or (fail_unreliable and n_unreliable):
        raise typer.Exit(1)


def _take_over(journal: Journal, files: ResultFiles, states: Sequence[FileState | None], *, resume: bool) -> None:
    """Take from the journal of an interrupted batch what it has finished, and report on stderr how much that is."""
    if not resume:
        n_old = journal.count_old()
        if n_old:
            print_error(
                f"An interrupted batch has left results in {str(journal.path)!r} (files: {n_old}). All are measured "
                "again; to keep them, stop and give --resume."
            )
        return
    if not journal.resume():
        print_error(f"There is no {str(journal.path)!r} of an interrupted batch; all files are measured.")
        return
    for number, state in enumerate(states):
        place = journal.find(state)
        if place is not None:
            files.keep(number, place)
    print_error(f"{files.n_done} of {len(states)} files were finished by the interrupted batch; they are kept.")
