"""``autohr measure``: files, folders and cameras in, results out."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autohr.cli.inputs import Input, is_folder, list_inputs
from autohr.cli.interrupts import Interrupted, Interrupts
from autohr.cli.options import (
    Box,
    CsvOption,
    DeviceOption,
    JsonOption,
    MaxFacesOption,
    MethodOption,
    WeightsOption,
    load_chosen_method,
)
from autohr.cli.output import NOT_MEDICAL, ProgressBar, ResultPrinter, print_error
from autohr.cli.outputs import OutputPaths
from autohr.errors import AutoHRError, VideoError

if TYPE_CHECKING:
    from autohr.types import Measurement, Refusal


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
    html_out: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page with charts; it needs no internet.")
    ] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Measure the heart rate of the face in a video, or say why it cannot be measured.

    A face must be visible for 4 s to get a rate, and for 8 s to get a reliable one. Of several files, one that fails
    does not stop the others; the exit code is then 1. Results are saved as they come, and Ctrl-C keeps them. OUT may
    be - for standard output.
    """
    if stride_s > window_s:
        raise typer.BadParameter(
            f"{stride_s:g} s must not be longer than --window-s {window_s:g}.", param_hint="--stride-s"
        )
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter(f"{end_s:g} s must lie after --start-s {start_s:g}.", param_hint="--end-s")
    outputs = OutputPaths.check(json_out, csv_out, html_out)
    inputs, remarks = list_inputs(paths, has_fps=fps is not None)
    outputs.refuse_inputs([*(one.source for one in inputs), weights])
    for remark in remarks:
        print_error(remark)

    from autohr.measure import measure as measure_video
    from autohr.reports.outputs import ResultFiles
    from autohr.video.folders import local_path

    loaded = load_chosen_method(method, weights, device)
    is_batch = len(inputs) > 1
    files = ResultFiles(
        json_out=outputs.json,
        csv_out=outputs.csv,
        html_out=outputs.html,
        is_array=is_batch or len(paths) > 1 or is_folder(local_path(paths[0])),
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        command=shlex.join(["autohr", *sys.argv[1:]]),
    )

    def measure_input(one: Input, progress: ProgressBar) -> Measurement:
        return measure_video(
            one.source,
            loaded,
            window_s=window_s,
            stride_s=stride_s,
            max_faces=max_faces,
            box=box,
            start_s=start_s,
            end_s=end_s,
            fps=fps if one.uses_fps else None,
            progress=progress,
        )

    screen = ResultPrinter(is_quiet=outputs.has_stdout)
    n_done = n_refused = 0
    errors: list[str] = []
    ended_by: BaseException | None = None
    with Interrupts() as interrupts:
        try:
            for one in inputs:
                result, error_kind, bug = _attempt(one, measure_input, is_batch=is_batch)
                # Saved before it is shown, so that no name and no closed terminal can lose it.
                with interrupts.held():
                    files.add(result, error_kind)
                    n_done += 1
                    n_refused += bool(error_kind)
                screen.print_result(result, bug)
        except BaseException as error:
            # Whatever ends the batch, the results until then are written.
            ended_by = error
        try:
            with interrupts.held():
                errors = files.finish()
        except Interrupted as interrupt:
            ended_by = ended_by or interrupt
    for line in errors:
        print_error(line)
    if isinstance(ended_by, Interrupted):
        print_error(f"Stopped by {ended_by.name} after {n_done} of {len(inputs)} files; what was done is written.")
        raise typer.Exit(ended_by.exit_code)
    if ended_by is not None:
        raise ended_by
    if is_batch:
        screen.print_line(f"Measured {n_done - n_refused} of {n_done} files; {n_refused} refused.")
    if n_refused < n_done:
        screen.print_line(NOT_MEDICAL)
    if n_refused or errors or screen.has_failed or outputs.has_failed:
        raise typer.Exit(1)


def _attempt(
    one: Input, measure_input: Callable[[Input, ProgressBar], Measurement], *, is_batch: bool
) -> tuple[Measurement | Refusal, str, str | None]:
    """Measure one input; return its result, the class of the error or "", and the traceback of a bug of ours.

    A bug is raised unless there are other inputs, which it must not cost.
    """
    from autohr.types import Refusal

    try:
        if one.refusal is not None:
            raise VideoError(one.refusal)
        with ProgressBar(str(one.source)) as progress:
            return measure_input(one, progress), "", None
    except AutoHRError as error:
        return Refusal(str(one.source), str(error)), type(error).__name__, None
    except Exception as bug:
        if not is_batch:
            raise
        reason = f"autohr itself failed: {type(bug).__name__}: {bug}"
        return Refusal(str(one.source), reason), type(bug).__name__, traceback.format_exc()
