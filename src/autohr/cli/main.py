"""The command line: parse, call one function, print.

Exit codes: 0 measured; 1 one of our errors, one line on stderr; 2 wrong usage; 128 + N stopped by signal N, what there
was is written; anything else is our bug and keeps its traceback. Rooms are imported inside the commands, so that
``autohr --help`` answers at once.

Everything printed goes through ``_print``, ``_console`` or ``_say_error``, which escape control characters in names and
whatever the terminal's encoding cannot show.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autohr import __version__
from autohr.errors import (
    AutoHRError,
    BadRecording,
    UnknownName,
    VideoError,
    WindowsTooShort,
    escape_controls,
)

if TYPE_CHECKING:
    from rich.console import Console

    from autohr.lab.evaluate.results import Results
    from autohr.methods import Method
    from autohr.types import FaceMeasurement, Measurement, Refusal

NOT_MEDICAL = "Not a medical device: do not base a diagnosis or a treatment on it."

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Heart rate from the video of a face.\n\n" + NOT_MEDICAL,
)


_SYSTEM_ERRORS = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EROFS EIO EMFILE ENFILE EFBIG ESTALE ENXIO ENOMEM ETIMEDOUT ENOTCONN EBUSY".split()
    if hasattr(errno, name)
)
"""Errors of a read or write that only the machine causes, never a mistake in our code."""
_PATH_ERRORS = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""Errors of a path that a user gave. Reported in one line if the error names the path."""


def main() -> None:
    """Entry point: our own errors become one line, everything else keeps its traceback."""
    _prepare_streams()
    code: int | str | None = 0
    try:
        try:
            app()
        except SystemExit as stop:
            code = stop.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except AutoHRError as error:
        _say_error(str(error))
        code = 1
    except BrokenPipeError:
        # The reader of our output (head, less) went away; nothing is left to be said, not even at exit.
        _drop_output()
        code = code or 1
    except OSError as error:
        is_ours = error.errno in _SYSTEM_ERRORS or (error.errno in _PATH_ERRORS and error.filename is not None)
        if not is_ours:
            raise
        where = "The output" if error.filename is None else repr(os.fsdecode(str(error.filename)))
        _say_error(f"{where} cannot be read or written: {error.strerror}. Check the path and the room on the disk.")
        # What could not be flushed would fail once more at exit.
        _drop_output()
        code = code or 1
    raise SystemExit(code)


def _prepare_streams() -> None:
    """Open streams that the caller closed, and let none of them refuse a character."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file that is opened would get this number, and prints would go into it.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_error(message: str) -> None:
    # Where even stderr is gone there is nobody to tell.
    with contextlib.suppress(OSError):
        print(f"autohr: {escape_controls(message)}", file=sys.stderr, flush=True)


def _print(line: str) -> None:
    print(escape_controls(line), flush=True)


def _print_lines(text: str) -> None:
    print(escape_controls(text, keep_newlines=True))


def _print_version(wanted: bool) -> None:
    if wanted:
        _print(f"autohr {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class SplitName(StrEnum):
    """People of a synthetic data set."""

    all = "all"
    train = "train"
    test = "test"


class Box(StrEnum):
    tracked = "tracked"
    first = "first"


def _known_method(name: str | None) -> str | None:
    from autohr.methods import METHODS

    if name is not None and name not in METHODS:
        raise typer.BadParameter(str(UnknownName("method", name, METHODS)))
    return name


# What measure, live and serve ask alike.
MethodOption = Annotated[
    str | None,
    typer.Option(
        help="One of `autohr list methods`. Default: autohr; without weights of it, pos.",
        callback=_known_method,
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="What a network learned: one of `autohr list weights`, or a .safetensors file.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    Device, typer.Option(help="Where a network runs. Classic methods run on the processor whatever it says.")
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="OUT|-", help="Write JSON to a file, or to the terminal with '-'.")
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="Write one row for each reading.")]


def _load_method(name: str | None, weights: str | None, device: str) -> Method:
    """The method, and a line on stderr where it is not the one that the help promises."""
    from autohr.methods import DEFAULT_METHOD, load_method

    # Read when torch is loaded: its threads then sleep while they wait for each other. Beside other busy programs,
    # spinning took three times the processor time (docs/LOG.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    method = load_method(name, weights, device)
    if name is None and weights is None and method.name != DEFAULT_METHOD:
        _say_error(
            f"this installation has no weights of {DEFAULT_METHOD}, so {method.name} measures. "
            f"Give some with --weights, or say --method {method.name} to be spared this line."
        )
    return method


def _known_dataset(name: str) -> str:
    from autohr.lab.datasets import DATASETS

    if name not in DATASETS:
        raise typer.BadParameter(str(UnknownName("dataset", name, DATASETS)))
    return name


@app.command()
def measure(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Video files, folders with videos (searched with the folders inside), a folder of images (with "
            "--fps), a camera index such as 0, or an address.",
            show_default=False,
        ),
    ],
    method: MethodOption = None,
    weights: WeightsOption = None,
    window_s: Annotated[float, typer.Option(min=4.0, max=120.0, help="Seconds of video behind each reading.")] = 10.0,
    stride_s: Annotated[float, typer.Option(min=0.1, max=120.0, help="Seconds from one reading to the next.")] = 1.0,
    max_faces: Annotated[int, typer.Option(min=1, max=20, help="People to follow at a time, the largest first.")] = 1,
    box: Annotated[
        Box | None,
        typer.Option(
            help="Follow the face, or keep the enlarged box of its first frame as the paper does. Default: as a "
            "network was trained; else tracked.",
            show_default=False,
        ),
    ] = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="Where to begin, in seconds.")] = 0.0,
    end_s: Annotated[
        float | None, typer.Option(min=0.0, help="Where to stop, in seconds. A camera stops after 30 s by default.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=1.0, max=1000.0, help="Frames per second of a folder of images, which has no clock of its own."
        ),
    ] = None,
    json_out: JsonOption = None,
    csv_out: CsvOption = None,
    html_out: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page with pictures that needs no internet.")
    ] = None,
    device: DeviceOption = Device.cpu,
) -> None:
    """Measure the heart rate of the face in a video, or refuse with the reason.

    A face must be followed for 4 s to get a number and for 8 s to get one that can be called reliable. For several
    files every one is measured, one that fails does not stop the others, and the exit code is 1 if any failed.
    Results are saved as they come: Ctrl-C keeps what was measured. OUT may be - for the terminal."""
    if stride_s > window_s:
        raise typer.BadParameter(
            f"{stride_s:g} s must not be longer than --window-s {window_s:g}.", param_hint="--stride-s"
        )
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter(f"{end_s:g} s must lie after --start-s {start_s:g}.", param_hint="--end-s")
    outputs = _Outputs.check(json_out, csv_out, html_out)
    batch = _list_batch(paths, has_fps=fps is not None)
    outputs.refuse_inputs([*(item.source for item in batch.items), *([] if weights is None else [weights])])
    for remark in batch.remarks:
        _say_error(remark)

    from autohr.measure import measure as measure_one
    from autohr.reports.outputs import ResultFiles
    from autohr.video.folders import local_path

    loaded = _load_method(method, weights, device.value)
    many = len(batch.items) > 1
    files = ResultFiles(
        json_out=outputs.json,
        csv_out=outputs.csv,
        html_out=outputs.html,
        is_array=many or len(paths) > 1 or _is_folder(local_path(paths[0])),
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        command=shlex.join(["autohr", *sys.argv[1:]]),
    )

    def measure_item(item: _Item, progress: _Progress) -> Measurement:
        return measure_one(
            item.source,
            loaded,
            window_s=window_s,
            stride_s=stride_s,
            max_faces=max_faces,
            box=None if box is None else box.value,
            start_s=start_s,
            end_s=end_s,
            fps=fps if item.uses_fps else None,
            progress=progress,
        )

    screen = _Screen(is_quiet=outputs.has_stdout)
    n_done = n_refused = 0
    errors: list[str] = []
    ended_by: BaseException | None = None
    with _Stops() as stops:
        try:
            for item in batch.items:
                result, kind, bug = _attempt(item, measure_item, is_batch=many)
                # Saved before it is shown, so that no name and no closed terminal can lose it.
                with stops.held():
                    files.add(result, kind)
                    n_done += 1
                    n_refused += bool(kind)
                screen.show(result, bug)
        except BaseException as ended:
            # Whatever ends the batch, the results until then are written.
            ended_by = ended
        try:
            with stops.held():
                errors = files.finish()
        except _Stopped as stopped:
            ended_by = ended_by or stopped
    for error in errors:
        _say_error(error)
    if isinstance(ended_by, _Stopped):
        _say_error(f"Stopped by {ended_by.name} after {n_done} of {len(batch.items)} files; what was done is written.")
        raise typer.Exit(ended_by.exit_code)
    if ended_by is not None:
        raise ended_by
    if many:
        screen.print(f"Measured {n_done - n_refused} of {n_done} files; {n_refused} refused.")
    if n_refused < n_done:
        screen.print(NOT_MEDICAL)
    if n_refused or errors or screen.has_failed or outputs.has_failed:
        raise typer.Exit(1)


def _attempt(
    item: _Item, measure_item: Callable[[_Item, _Progress], Measurement], *, is_batch: bool
) -> tuple[Measurement | Refusal, str, str | None]:
    """Measure one item; return its result, the class of the error or "", and the traceback of a bug of ours.

    A bug is raised where there is no other item that it would cost.
    """
    from autohr.types import Refusal

    try:
        if item.refusal is not None:
            raise VideoError(item.refusal)
        with _Progress(str(item.source), shown=sys.stderr.isatty()) as progress:
            return measure_item(item, progress), "", None
    except AutoHRError as error:
        return Refusal(str(item.source), str(error)), type(error).__name__, None
    except Exception as bug:
        if not is_batch:
            raise
        reason = f"autohr itself failed: {type(bug).__name__}: {bug}"
        return Refusal(str(item.source), reason), type(bug).__name__, traceback.format_exc()


@app.command()
def live(
    camera: Annotated[
        str, typer.Option(metavar="INDEX|FILE|URL", help="A camera, an address, or a video file in a camera's place.")
    ] = "0",
    method: MethodOption = None,
    weights: WeightsOption = None,
    max_faces: Annotated[
        int, typer.Option(min=1, max=20, help="People to follow; the largest is shown, all are in the summary.")
    ] = 1,
    duration_s: Annotated[
        float | None, typer.Option(min=1.0, help="Stop after so many seconds. Default: Ctrl-C, or the file's end.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Of a file: every frame, as quickly as can be; none is dropped.")
    ] = False,
    json_out: JsonOption = None,
    csv_out: CsvOption = None,
    device: DeviceOption = Device.cpu,
) -> None:
    """Show the pulse of who sits in front of the camera. Ctrl-C ends it and prints the summary.

    A first number comes after 4 s of face, a reliable one after 8 s at the earliest, then one each second."""
    outputs = _Outputs.check(json_out, csv_out, None)
    source = _live_source(camera)
    outputs.refuse_inputs([source, *([] if weights is None else [weights])])
    if fast and isinstance(source, int):
        raise typer.BadParameter("a camera cannot be played faster; give a file with --camera.", param_hint="--fast")

    from autohr.live.session import LiveConfig, LiveSession
    from autohr.live.terminal import watch
    from autohr.meter import MeterConfig
    from autohr.reports.outputs import ResultFiles
    from autohr.video.decode import open_video

    screen = _Screen(is_quiet=outputs.has_stdout)
    loaded = _load_method(method, weights, device.value)
    config = LiveConfig(
        meter=MeterConfig(max_faces=max_faces), source=f"camera {source}" if isinstance(source, int) else str(source)
    )
    files = ResultFiles(json_out=outputs.json, csv_out=outputs.csv)
    stopped: _Stopped | None = None
    with _Stops() as stops, open_video(source, end_s=duration_s) as video, LiveSession(loaded, config) as session:
        frames = ((frame.rgb, frame.t_s, frame.whole) for frame in video)
        try:
            watch(
                session,
                frames,
                paced=not isinstance(source, int),
                fast=fast,
                out=sys.stderr if screen.is_quiet else sys.stdout,
            )
        except _Stopped as stop:
            stopped = stop
        except OSError:
            # The terminal went away: what was measured until then is saved all the same.
            screen.has_failed = True
        with stops.held():
            video.close()
            result = session.close(video.notes)
            files.add(result)
            errors = files.finish()
    for error in errors:
        _say_error(error)
    screen.show(result)
    screen.print(NOT_MEDICAL)
    if stopped is not None and stopped.number != signal.SIGINT:
        _say_error(f"Stopped by {stopped.name}; what was measured is written.")
        raise typer.Exit(stopped.exit_code)
    if errors or screen.has_failed or outputs.has_failed:
        raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs a token; one is made.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="AUTOHR_TOKEN", help="What the page asks of everybody, 16 characters or more."),
    ] = None,
    method: MethodOption = None,
    weights: WeightsOption = None,
    max_sessions: Annotated[int, typer.Option(min=1, max=64, help="Cameras measured at the same time.")] = 2,
    max_uploads: Annotated[int, typer.Option(min=1, max=64, help="Files measured at the same time.")] = 2,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=100_000, help="Size of one file.")] = 500,
    max_session_s: Annotated[float, typer.Option(min=20.0, max=86_400.0, help="Length of one camera session.")] = 600.0,
    device: DeviceOption = Device.cpu,
) -> None:
    """Serve a page on this machine: look into the camera and watch your pulse, or measure a file.

    The page needs no internet, and nothing of a video is kept. Ctrl-C stops it."""
    with _extra("The page", "serve"):
        from autohr.service.config import ServiceConfig
        from autohr.service.server import serve as serve_page
        from autohr.service.server import token_for

    try:
        config = ServiceConfig(
            host=host,
            port=port,
            token=token_for(host, token),
            method=method,
            weights=weights,
            device=device.value,
            max_sessions=max_sessions,
            max_uploads=max_uploads,
            max_upload_bytes=max_upload_mb * 1_000_000,
            max_session_s=max_session_s,
        )
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    serve_page(config, _load_method(method, weights, device.value), say=_print)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the video, its truth, the measurement and the report.")] = Path(
        "demo"
    ),
    hr_bpm: Annotated[float, typer.Option(min=45.0, max=170.0, help="Heart rate of the face that is made.")] = 72.0,
    duration_s: Annotated[float, typer.Option(min=10.0, max=600.0, help="Length of the video in seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Another number makes another face.")] = 1,
) -> None:
    """Make a synthetic face video of known pulse, measure it, and write its report."""
    from autohr.files import make_folder
    from autohr.lab.synth.video import SceneConfig, write_scene
    from autohr.measure import measure as measure_one
    from autohr.reports.outputs import ResultFiles

    video, report, answer = out / "face.mp4", out / "report.html", out / "measurement.json"
    for one in (video, report, answer):
        _check_writable(one, "--out")
    make_folder(out)
    _print(f"Making {video}: a drawn face of {hr_bpm:g} bpm, {duration_s:g} s, 640x480, moving, in changing light ...")
    # As deep a pulse as the real face of the checks shows, at the bit rate of a phone's video.
    scene = SceneConfig(duration_s=duration_s, hr_bpm=hr_bpm, seed=seed, pulse_depth=0.02, noise_sd=1.5)
    truth = write_scene(scene, video, crf=8)
    method = _load_method(None, None, Device.cpu)
    with _Progress(str(video), shown=sys.stderr.isatty()) as progress:
        result = measure_one(video, method, progress=progress)
    _print_measurement(result)
    files = ResultFiles(json_out=answer, html_out=report)
    files.add(result)
    errors = files.finish()
    measured = result.face.hr_bpm
    said = "nothing" if measured is None else f"{measured:.1f} bpm"
    _print(f"True rate {truth.mean_hr_bpm:.1f} bpm, measured {said}.")
    for error in errors:
        _say_error(error)
    if errors:
        raise typer.Exit(1)
    _print(f"Report: {report}   (video {video}, numbers {answer})")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the recordings; what is there already is kept.")],
    subjects: Annotated[int, typer.Option(min=1, max=100_000, help="How many people.")] = 10,
    per_subject: Annotated[int, typer.Option(min=1, max=1000, help="Recordings of each of them.")] = 2,
    duration_s: Annotated[float, typer.Option(min=4.0, max=3600.0, help="Length of each in seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Another number makes other people.")] = 0,
    portraits: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs with landmarks.npz, to bring to life.", exists=True, file_okay=False),
    ] = None,
    split: Annotated[
        SplitName, typer.Option(help="No person, drawn or portrait, is in both train and test.")
    ] = SplitName.all,
    hard: Annotated[
        bool, typer.Option("--hard", help="More nodding, talking, flicker, screens and odd frame rates, for training.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; one for each core if not given.")
    ] = None,
) -> None:
    """Make recordings of faces with known pulse, drawn or from portraits, as a dataset named `synthetic`."""
    from autohr.lab.synth.recordings import HARD, USUAL, write_recordings

    _check_writable(out / "dataset.json")
    with _Count("Making recordings") as count:
        made = write_recordings(
            out,
            n_subjects=subjects,
            per_subject=per_subject,
            duration_s=duration_s,
            seed=seed,
            portraits=portraits,
            split=split.value,
            conditions=HARD if hard else USUAL,
            workers=workers,
            progress=lambda done, total, _: count(done, total),
        )
    _print(f"{len(made.recordings)} recordings in {out}, {made.n_made} of them made now.")
    _print(f"Next: autohr prepare synthetic {out} --out cache")


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="One of `autohr list datasets`.", callback=_known_dataset)],
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the cache; it may hold several datasets.")] = Path("cache"),
    size_px: Annotated[int, typer.Option(min=16, max=1024, help="Side of the stored crops.")] = 128,
    box: Annotated[
        Box, typer.Option(help="Follow the face, or the paper's fixed box of the first frame.")
    ] = Box.tracked,
    margin: Annotated[float, typer.Option(min=0.0, max=1.0, help="Added on each side of the box, as a share.")] = 0.1,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; one for each core if not given.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Do not fail where recordings are missing or damaged.")
    ] = False,
) -> None:
    """Read, check, crop and cache a dataset. Every recording that it should have is named in a manifest and its page.

    Exit code 1 where something expected is missing or damaged; whatever can be used is in the cache all the same."""
    from autohr.frontend import CropConfig
    from autohr.lab.datasets import DATASETS
    from autohr.lab.datasets.manifest import KINDS, manifest_path, prepare_dataset

    _check_writable(out / "manifest.json")
    crop = CropConfig(size_px=size_px, box=box.value, margin=margin)
    with _Count("Preparing") as count:
        manifest = prepare_dataset(
            DATASETS[dataset], root, out, crop, workers=workers, progress=lambda done, total, _: count(done, total)
        )
    from autohr.lab.reports.manifest import write_manifest_page

    page = manifest_path(out, crop, dataset).with_suffix(".html")
    write_manifest_page(manifest.as_dict(), page)
    for entry in manifest.excluded:
        _print(f"Excluded {entry.id}: {entry.reason}")
    for one in manifest.absent:
        _print(f"Absent {one.id}: {one.reason}")
    for finding in manifest.findings:
        if not finding.ids:
            _print(f"{KINDS[finding.kind].title}: {finding.says}")
    for note in manifest.notes:
        _print(f"Note: {note}")
    for kind, n in manifest.counts().items():
        _print(f"{KINDS[kind].title}: {n}")
    gone = f", {len(manifest.absent)} absent" if manifest.absent else ""
    _print(
        f"{len(manifest.kept)} of {len(manifest.entries)} recordings kept, {len(manifest.excluded)} excluded{gone}; "
        f"cache {out}."
    )
    _print(f"Every recording: {page}")
    if not manifest.kept:
        told = manifest.excluded or manifest.absent
        why = "the reasons are above" if told else f"it holds none that the reader of {manifest.title} knows"
        raise BadRecording(f"Not one recording of {str(root)!r} could be used; {why}.")
    refusal = manifest.refusal()
    if refusal is not None and not allow_missing:
        raise BadRecording(f"{refusal} (--allow-missing accepts it; what is there was prepared.)")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="One of `autohr list recipes`, or a TOML file of your own.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field, as in fit.lr=3e-4; may be given often."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME_OF_THE_RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that must be there already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another run lies.")] = False,
) -> None:
    """Train a network from prepared recordings. A run that was killed goes on by the same command."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite contradict each other.")
    with _extra("Training", "train"):
        from autohr.lab.train.recipe import train as train_recipe

    result = train_recipe(recipe, overrides or (), out=out, resume=resume, overwrite=overwrite)
    _print(f"Run {result.run}")
    _print(f"Best weights {result.weights}")
    _print(f"Curves {result.curves}")
    if result.fit.stopped_by is not None:
        raise AutoHRError(
            f"Stopped by {result.fit.stopped_by} after step {result.fit.step}; the same command goes on from there."
        )


@app.command("search")
def search_command(
    recipe: Annotated[Path, typer.Argument(help="One of `autohr list recipes`, or a TOML file of your own.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field, as in search.lr=3e-4; may be given often."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set search.seed=SEED.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME_OF_THE_RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that must be there already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another run lies.")] = False,
) -> None:
    """Search a cell from prepared recordings. A run that was killed goes on by the same command."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite contradict each other.")
    with _extra("Training", "train"):
        from autohr.lab.search.recipe import say_epoch
        from autohr.lab.search.recipe import search as search_cell
        from autohr.lab.search.space import describe_cell

    changes = [*(overrides or ()), *([] if seed is None else [f"search.seed={seed}"])]
    found = search_cell(recipe, changes, out=out, resume=resume, overwrite=overwrite, say=say_epoch)
    result = found.search
    _print(f"Run {found.run}")
    if result.genotype is None:
        raise AutoHRError(
            f"Stopped by {result.stopped_by} after step {result.step}; the same command goes on from there."
        )
    for line in describe_cell(result.genotype):
        _print(line)
    if result.collapse is not None:
        done = "stopped" if result.stopped_by == "collapse" else "ended"
        _print(f"The search {done} unsound: {result.collapse}. See notes in {found.run / 'results' / 'search.json'}.")
    _print(f"Genotype {found.genotype}")
    _print(f"Train it: autohr train RECIPE --set net_config.genotype={found.genotype}")


class Format(StrEnum):
    text = "text"
    markdown = "markdown"
    latex = "latex"
    html = "html"


class AblationName(StrEnum):
    """Panels of Fig. 4."""

    loss = "loss"
    theta = "theta"
    nas = "nas"
    augmentation = "augmentation"


@app.command("table")
def table_command(
    number: Annotated[int, typer.Argument(min=1, max=3, help="Table I, II or III of the paper.")],
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluation to print, may be given often. Default: OUT/evaluation.", show_default=False),
    ] = None,
    make: Annotated[
        bool, typer.Option("--make", help="Evaluate first what is missing; nets are trained. Goes on if repeated.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of --make; runs/tableN if not given.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder that `autohr prepare` wrote to.")] = Path("cache"),
    recipes: Annotated[
        Path | None,
        typer.Option(help="Folder of recipes in place of the shipped ones.", show_default=False, file_okay=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of every recipe, as in fit.device=cuda."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--method", help="Make only this row; may be given often.")] = None,
    preset: Annotated[str | None, typer.Option(help="Scoring; the table's own if not given.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.text,
) -> None:
    """Print a table of the paper with what was measured here beside it. Rows that cannot be made say why."""
    from autohr.lab.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.experiments.tables import make_table, table_sheet, why_not

    if runs and make:
        raise typer.BadParameter("--make writes into --out; give --runs without it.", param_hint="--runs")
    folder = out or Path("runs") / f"table{number}"
    why: dict[str, str] = {}
    if make:
        why = make_table(
            number, folder, cache=cache, recipes=recipes, overrides=overrides or (), only=only or (), say=_say_progress
        )
    found = runs or [path for path in [folder / "evaluation"] if path.exists()]
    _print_lines(render_sheet(table_sheet(number, found, why=why, preset=preset), form.value))
    _refuse_failed("row", {name: reason for name, reason in why.items() if why_not(number, name) is None})


@app.command()
def ablate(
    name: Annotated[AblationName, typer.Argument(help="Which panel of Fig. 4.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe in place of the panel's own, of the same net.", show_default=False)
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(help="Folder of recipes in place of the shipped ones.", show_default=False, file_okay=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe, as in fit.device=cuda."),
    ] = None,
    search_recipe: Annotated[
        Path | None, typer.Option(help="Of nas: recipe of the searches in place of its own.", show_default=False)
    ] = None,
    search_overrides: Annotated[
        list[str] | None,
        typer.Option("--search-set", metavar="KEY=VALUE", help="Of nas: change one field of the searches' recipe."),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic", help="Of nas: on prepared synthetic recordings, small; not the paper's experiment."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--bar", help="Run only this bar, as in 0.2 or da1; may be given often.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of it all; runs/ablate_NAME (_synthetic) if not given.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.text,
) -> None:
    """Train and test every bar of Fig. 4 (a) to (d), and draw it beside the paper's. Goes on if repeated.

    The bars of nas need searched cells: where none is shipped, the search is run first."""
    from autohr.lab.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.experiments.ablations import NOT_ASKED, ablation_sheet
        from autohr.lab.experiments.ablations import ablate as run_ablation
    from autohr.files import make_folder

    folder = out or Path("runs") / f"ablate_{name.value}{'_synthetic' if synthetic else ''}"
    _check_writable(folder / "ablation.json", "--out")
    make_folder(folder)
    result = run_ablation(
        name.value,
        folder,
        recipes=recipes,
        recipe=recipe,
        overrides=overrides or (),
        search_recipe=search_recipe,
        search_overrides=search_overrides or (),
        synthetic=synthetic,
        only=only or (),
        say=_say_progress,
    )
    from autohr.lab.reports.ablation import ablation_svg, render_ablation_page

    _write(folder / "ablation.svg", ablation_svg(folder))
    _write(folder / "ablation.html", render_ablation_page(folder, made_at=time.strftime("%Y-%m-%d %H:%M")))
    _print_lines(render_sheet(ablation_sheet(result), form.value))
    _say_progress(f"Picture: {folder / 'ablation.svg'}   (page {folder / 'ablation.html'})")
    _refuse_failed("bar", {bar.key: bar.why_not for bar in result.bars if bar.why_not not in (None, NOT_ASKED)})


@app.command("compare-methods")
def compare_methods_command(
    root: Annotated[
        Path, typer.Argument(help="Folder of synthetic recordings to test on.", exists=True, file_okay=False)
    ],
    train_cache: Annotated[
        Path, typer.Option(help="Folder that `autohr prepare` wrote to: the recordings to train on, of other people.")
    ] = Path("cache"),
    out: Annotated[Path, typer.Option(help="Folder of all trainings, results and costs.")] = Path("runs/equal"),
    test_cache: Annotated[
        Path | None, typer.Option(help="Folder for the crops of the test; OUT/cache if not given.", show_default=False)
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(
            help="Folder of recipes equal_NET.toml in place of the shipped ones.", show_default=False, file_okay=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of every recipe, as in fit.steps=2000."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--method", help="Only this one; may be given often.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that look for faces; one for each core if not given.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How the tables are printed.")] = Format.text,
) -> None:
    """Train every network under one budget, judge all methods on new people, and print one table with what each costs.

    Goes on if repeated. The tables are also left in OUT/results/standings.md."""
    from autohr.lab.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.experiments.standings import PAGE, compare_methods

    _check_writable(out / "results" / PAGE)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    counts: dict[str, _Count] = {}
    failed: dict[str, str] = {}
    sheets = compare_methods(
        root,
        out,
        train_cache=train_cache,
        test_cache=test_cache,
        recipes=recipes,
        overrides=overrides or (),
        only=only or (),
        workers=workers,
        judging=lambda label, done, total, _: counts.setdefault(label, _Count(f"Asking {label}"))(done, total),
        failing=failed.__setitem__,
        say=_say_progress,
    )
    for sheet in sheets:
        _print_lines(render_sheet(sheet, form.value) + "\n")
    _say_progress(f"Tables: {out / 'results' / PAGE}   (page: autohr report {out / 'evaluation'})")
    _refuse_failed("method", failed)


@app.command("compare-cells")
def compare_cells(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CELL...]",
            help="Run folders of searches, names such as fig5_plausible_v2, or genotype files.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[Path, typer.Option(help="Recipe by which every cell is trained; its net is autohr.")] = Path(
        "equal_autohr"
    ),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe, as in fit.steps=500."),
    ] = None,
    random: Annotated[int, typer.Option(min=0, max=100, help="Cells drawn by chance, as the control.")] = 3,
    random_seed: Annotated[int, typer.Option(min=0, help="Another number draws other cells.")] = 0,
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Every cell is trained with each of these seeds.")] = "0",
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CELL", help="Train only this cell now, as the table calls it; may be repeated."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all trainings and of the result.")] = Path("runs/cells"),
    form: Annotated[Format, typer.Option("--format", help="How to print the table.")] = Format.text,
) -> None:
    """Was it the search, or luck? Train searched, random and other cells under one budget, and compare them.

    autohr compare-cells runs/s0 runs/s1 runs/s2 fig5_plausible_v2 --random 3 --seeds 0,1. Goes on if repeated."""
    from autohr.lab.evaluate.tables import render_sheet

    try:
        numbers = [int(one) for one in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{seeds!r} is not of the form 0,1,2.", param_hint="--seeds") from None
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise typer.BadParameter(f"{seeds!r}: give each seed once, none below 0.", param_hint="--seeds")
    if not cells and not random:
        raise typer.BadParameter("There is no cell to train; name some, or give --random.")
    with _extra("Training", "train"):
        from autohr.lab.experiments.searches import NOT_YET, compare_genotypes, comparison_sheet

    result = compare_genotypes(
        cells or (),
        recipe,
        out,
        overrides=overrides or (),
        n_random=random,
        random_seed=random_seed,
        seeds=numbers,
        only=only or (),
        say=_say_progress,
    )
    from autohr.lab.reports.run import write_run_page

    _print_lines(render_sheet(comparison_sheet(result), form.value))
    page = write_run_page(out, made_at=time.strftime("%Y-%m-%d %H:%M"))
    _say_progress(f"Page: {page}")
    _refuse_failed("cell", {cell.label: cell.why_not for cell in result.cells if cell.why_not not in (None, NOT_YET)})


@app.command()
def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of an evaluation, training, search, comparison of cells, ablation, or activations.",
            show_default=False,
        ),
    ] = None,
    activations: Annotated[
        str | None,
        typer.Option(
            metavar="VIDEO",
            help="Watch what nets look at in this video, and make that page. The person's consent is your duty.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="With --activations: a net to watch; give two to compare them."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="With --activations: the dataset whose recording VIDEO is, for the true wave.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that dataset; the video's if not given.")] = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="With --activations: where to begin, in seconds.")] = 0.0,
    end_s: Annotated[float | None, typer.Option(min=0.0, help="With --activations: where to stop.")] = None,
    device: Annotated[Device, typer.Option(help="With --activations: where the nets run.")] = Device.cpu,
    preset: Annotated[str | None, typer.Option(help="Of an evaluation: scoring; the protocol's if not given.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the run's results if not given. With --activations: the run."),
    ] = None,
) -> None:
    """Make one self-contained page from a run directory, with no model and no video."""
    if (run is None) == (activations is None):
        raise typer.BadParameter("Give a run directory, or --activations VIDEO.")
    if out is not None:
        _check_writable(out / "config.json" if activations is not None else out, "--out")
    from autohr.lab.reports.run import write_run_page

    made_at = time.strftime("%Y-%m-%d %H:%M")
    if activations is not None:
        from autohr.lab.experiments.activations import find_truth, watch_video

        if not weights:
            raise typer.BadParameter("--activations needs --weights, once for each net.", param_hint="--weights")
        video = Path(activations)
        run = out or Path("runs") / f"activations_{video.stem}"
        truth = find_truth(video, dataset, root)
        watch_video(
            video,
            weights,
            run,
            truth=truth,
            start_s=start_s,
            end_s=end_s,
            device=device.value,
            say=_say_progress,
        )
        out = None
    assert run is not None
    _print(f"Page: {write_run_page(run, out, preset=preset, made_at=made_at)}")


@app.command("evaluate")
def evaluate_command(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RECIPE|RUN]",
            help="A TOML recipe; or the folder of an evaluation, to score its stored waves again.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Without a recipe: one of `autohr list datasets`; `folder` for your own videos.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset.", exists=True, file_okay=False)] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME|all",
            help="Methods; all are those that need no weights of yours. Default: all, or none beside --weights.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="One more row: a network by its weights; may be given often."),
    ] = None,
    protocol: Annotated[str, typer.Option(help="One of `autohr list protocols`.")] = "reference",
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME|all", help="Of `autohr list scoring`; the protocol's own if not given."),
    ] = None,
    baseline: Annotated[str, typer.Option(help="The method that the others are tested against.")] = "pos",
    by: Annotated[
        str | None, typer.Option(metavar="GROUP", help="One more table for each method, by this group.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/evaluation"),
    cache: Annotated[Path, typer.Option(help="Folder for the face crops; made once.")] = Path("cache"),
    form: Annotated[Format, typer.Option("--format", help="How the table is printed.")] = Format.text,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that look for faces; one for each core if not given.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where networks run.")] = Device.cpu,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another evaluation lies.")] = False,
) -> None:
    """Judge methods under one protocol, and print one table. Every recording and every window is accounted for.

    A folder of your own videos with a CSV of rates: autohr evaluate --dataset folder --root MY_VIDEOS. An evaluation
    that was killed goes on by the same command; autohr report makes a page of it."""
    from autohr.lab.evaluate.results import read_results
    from autohr.lab.evaluate.scoring import PRESETS, check_protocol, find_preset

    failed: dict[str, str] = {}
    presets = list(PRESETS) if preset == "all" else preset.split(",") if preset else []
    for name in presets:
        find_preset(name)
    if what is not None and what.is_dir():
        if dataset is not None or root is not None:
            raise typer.BadParameter("A stored evaluation is scored as it is; leave --dataset and --root out.")
        stored = {one.method.label: one for one in read_results(what)}
        chosen = list(stored) if method in (None, "all") else method.split(",")
        strangers = [label for label in chosen if label not in stored]
        if strangers:
            raise UnknownName("method of this evaluation", strangers[0], stored)
        results = tuple(stored[label] for label in chosen)
    else:
        from autohr.lab.evaluate.recipe import EvaluateRecipe, evaluate_recipe, protocol_of, read_recipe

        if what is not None:
            if dataset is not None or root is not None:
                raise typer.BadParameter("Give a recipe, or --dataset and --root.")
            recipe = read_recipe(what)
        elif dataset is None or root is None:
            raise typer.BadParameter("Give a recipe, a stored evaluation, or --dataset and --root.")
        else:
            names = () if method is None else tuple(method.split(","))
            recipe = EvaluateRecipe(
                _known_dataset(dataset),
                str(root),
                methods=names,
                weights=tuple(weights or ()),
                protocol=protocol,
                cache=str(cache),
                device=device.value,
            )
        _check_writable(out / "config.json")
        presets = presets or ([recipe.preset] if recipe.preset else [])
        for name in presets if preset != "all" else ():
            check_protocol(protocol_of(recipe), name)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        counts: dict[str, _Count] = {}
        with _Count("Looking for faces") as faces:
            results = evaluate_recipe(
                recipe,
                out,
                workers=workers,
                overwrite=overwrite,
                preparing=lambda done, total, _: faces(done, total),
                judging=lambda label, done, total, _: counts.setdefault(label, _Count(f"Asking {label}"))(done, total),
                failing=failed.__setitem__,
                say=_say_progress,
            )
    _print_scores(results, presets, baseline, by, form.value, every=preset == "all")
    _say_progress(f"Page: autohr report {what if what is not None and what.is_dir() else out}")
    _refuse_failed("method", failed)
    if not any(one.counts["scored_windows"] for one in results):
        raise BadRecording("Not one window could be scored; the reasons are in the table.")


def _print_scores(
    results: tuple[Results, ...], presets: list[str], baseline: str, by: str | None, form: str, *, every: bool = False
) -> None:
    """Print one table for each preset and, by a group, one for each method.

    Args:
        every: leave out the presets that need longer windows, and say so, in place of refusing them.
    """
    from autohr.lab.evaluate.scoring import check_windows, score
    from autohr.lab.evaluate.summary import groups_sheet, scores_sheet
    from autohr.lab.evaluate.tables import render_sheet

    names = presets or [str(results[0].protocol["preset"])]
    for name in list(names):
        try:
            for stored in results:
                check_windows(stored, name)
        except WindowsTooShort as short:
            if not every:
                raise
            names.remove(name)
            _say_progress(f"Left out: {short}")
    for name in names:
        scores = [score(one, name) for one in results]
        _print_lines(render_sheet(scores_sheet(scores, baseline), form) + "\n")
        if by is None:
            continue
        for one in scores:
            if by not in one.groups:
                known = ", ".join(one.groups) or "none"
                raise typer.BadParameter(f"There is no group {by!r} with several values. Groups: {known}.")
            _print_lines(render_sheet(groups_sheet(one, by), form) + "\n")


def _refuse_failed(kind: str, failed: Mapping[str, str | None]) -> None:
    """Raise AutoHRError that names the rows, bars, methods or cells that failed while others were made, if any."""
    if failed:
        raise AutoHRError(
            f"{len(failed)} {kind}{'s' if len(failed) > 1 else ''} failed: "
            + "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        )


def _say_progress(line: str) -> None:
    with contextlib.suppress(OSError):
        print(escape_controls(line), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _extra(what: str, name: str) -> Iterator[None]:
    """A library of the extra ``name`` that is missing, in one line; a module of ours that is missing is our bug."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("autohr"):
            raise
        raise AutoHRError(f"{what} needs {missing.name}: pip install 'autohr[{name}]'.") from None


@app.command("export")
def export_command(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS", help="What a network learned: one of `autohr list weights`, or a .safetensors file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write; one of that name is replaced.")],
) -> None:
    """Write a network with its weights as one ONNX file, for programs without torch.

    The file is run by onnxruntime and kept only if it gives what torch gives. Its metadata, JSON under the key
    `autohr`, say how the input is made, what the output is, what was measured, and the licence."""
    with _extra("Exporting", "export"):
        from autohr.lab.nets._export import export_onnx
    from autohr.methods import find_weights

    made = export_onnx(find_weights(None, weights)[0], out)
    _print(f"{made.path}: {made.n_bytes / 1e6:.1f} MB, {made.header['net']} of {weights}")
    for put, named in (("Input", made.inputs), ("Output", made.outputs)):
        for name, said in named.items():
            _print(f"  {put} {name} {said}")
    clips = " and ".join(f"{n_clips} of {n_frames} frames" for n_clips, n_frames in made.clips)
    _print(f"  Largest difference to torch: {made.difference:.1e} of {made.unit} (clips: {clips})")
    _print(f"  Licence: {_in_words(made.header['licence'])}")


class Table(StrEnum):
    methods = "methods"
    nets = "nets"
    datasets = "datasets"
    weights = "weights"
    presets = "presets"
    protocols = "protocols"
    scoring = "scoring"
    recipes = "recipes"


@app.command("list")
def list_table(table: Annotated[Table, typer.Argument(help="Which table to print.")]) -> None:
    """List what this version knows."""
    from rich.table import Table as RichTable

    if table is Table.datasets:
        from autohr.lab.datasets import DATASETS

        view = RichTable("name", "title", "recordings", "access", "how sure", box=None, pad_edge=False)
        for spec in DATASETS.values():
            total = "any number" if spec.n_recordings is None else str(spec.n_recordings)
            view.add_row(spec.name, spec.title, total, spec.access, spec.sure)
        _console().print(view)
        return
    if table is Table.nets or table is Table.presets:
        from autohr.lab.nets import NETS

        if table is Table.nets:
            view = RichTable("name", "system", "gives", box=None, pad_edge=False)
            for name, net in NETS.items():
                view.add_row(name, net.title, "a pulse wave" if net.kind == "wave" else "a rate")
        else:
            view = RichTable("net", "preset", "frames", "side", "what", box=None, pad_edge=False)
            for name, net in NETS.items():
                for preset_name, preset in net.presets.items():
                    view.add_row(name, preset_name, str(preset.n_frames), f"{preset.size_px} px", preset.what)
        _console().print(view)
        return
    if table is Table.weights:
        _list_weights()
        return
    if table is Table.protocols:
        from autohr.lab.evaluate.protocols import PROTOCOLS

        view = RichTable("name", "what", "scoring", "source", "how sure", box=None, pad_edge=False)
        for protocol in PROTOCOLS.values():
            view.add_row(protocol.name, protocol.title, protocol.preset, protocol.source, protocol.sure)
        _console().print(view)
        return
    if table is Table.scoring:
        from autohr.lab.evaluate.scoring import PRESETS

        view = RichTable("name", "what", "limits", "source", "how sure", box=None, pad_edge=False)
        for rule in PRESETS.values():
            least = f" Windows of {rule.least_s:g} s or more: {rule.least_why}." if rule.least_s else ""
            view.add_row(rule.name, rule.title, f"{rule.limits}.{least}", rule.source, rule.sure)
        _console().print(view)
        return
    if table is Table.recipes:
        from autohr.lab.recipes.files import read_recipe_table, shipped_recipes

        view = RichTable("name", "command", "what", box=None, pad_edge=False)
        for name in shipped_recipes():
            content = read_recipe_table(shipped_recipes()[name])
            view.add_row(name, "train" if "net" in content else "search", content["title"])
        _console().print(view)
        return
    from autohr.methods import METHODS, default_method, ready_methods

    default, ready = default_method(), ready_methods()
    view = RichTable("name", "system", "reads", "source", "how sure", box=None, pad_edge=False)
    for method in METHODS.values():
        mark = " (default)" if method.name == default else "" if method.name in ready else " (give --weights)"
        view.add_row(method.name + mark, method.title, method.reads, method.source, method.sure)
    _console().print(view)


def _list_weights() -> None:
    """The weights in this installation, by what their headers say."""
    from rich.table import Table as RichTable

    from autohr.methods import shipped_weights

    shipped = shipped_weights()
    if not shipped:
        _print(f"This installation of autohr {__version__} has no weights. Give a file: autohr measure --weights FILE")
        return
    from autohr.lab.nets._checkpoint import read_header

    view = RichTable("name", "net", "size", "trained on", "licence", "measured accuracy", box=None, pad_edge=False)
    for name, path in shipped.items():
        header = read_header(path)
        trained = _in_words(header["training_data"], ("datasets", "n_subjects", "minutes"))
        measured = _in_words(header["measured_accuracy"], ("mae_bpm", "within_3_bpm", "within_5_bpm", "on"))
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        view.add_row(_shown(name), header["net"], size, *map(_shown, (trained, _in_words(header["licence"]), measured)))
    _console().print(view)


def _in_words(value: Any, first: tuple[str, ...] = ()) -> str:
    """What a field of a header says, in one cell: "datasets synthetic, n_subjects 48". Of an object with some of the
    keys ``first`` only those are shown."""
    if isinstance(value, dict):
        shown = [key for key in first if key in value] or list(value)
        return ", ".join(f"{key} {_in_words(value[key])}" for key in shown)
    if isinstance(value, list):
        return " ".join(_in_words(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not said" if value is None else str(value)


@dataclass(frozen=True)
class _Item:
    """One thing to measure, or the reason why it is refused without being looked at."""

    source: str | int
    uses_fps: bool = True
    """True where --fps is meant for it."""
    refusal: str | None = None


@dataclass(frozen=True)
class _Batch:
    items: Sequence[_Item]
    remarks: Sequence[str]
    """Sentences about what is not measured."""


def _list_batch(paths: Sequence[str], *, has_fps: bool) -> _Batch:
    """List what to measure: folders are searched, digits name cameras, each file is taken once.

    Raises:
        typer.BadParameter: an empty path, or "-", which no file is called.
    """
    from autohr.video.folders import local_path

    found: list[_Item] = []
    remarks: list[str] = []
    for path in paths:
        _refuse_no_path(path)
        place = local_path(path)
        if _is_camera(path):
            found.append(_Item(int(path)))
        elif "://" not in path and _is_folder(place):
            inside, about = _list_folder(path, place, has_fps=has_fps)
            found += inside
            remarks += about
        else:
            found.append(_Item(path))
    items: list[_Item] = []
    repeated: list[str] = []
    places: dict[str, int] = {}
    for item in found:
        if isinstance(item.source, str) and "://" not in item.source:
            place = local_path(item.source)
            at = places.setdefault(os.path.realpath(place), len(items))
            if at < len(items):
                # A link gives way to the file itself, so that results are named as the file is.
                if not place.is_symlink() and Path(str(items[at].source)).is_symlink():
                    items[at], item = item, items[at]
                repeated.append(str(item.source))
                continue
        items.append(item)
    if repeated:
        remarks.append(f"Given more than once and measured once: {_listed_names(repeated)}.")
    with_clock = [item for item in items if not (isinstance(item.source, str) and _is_folder(local_path(item.source)))]
    if has_fps and with_clock and len(with_clock) < len(items):
        remarks.append(
            f"--fps is taken for the folders of pictures; the other {len(with_clock)} keep their own clocks. "
            "Measure them in a run of their own to give them another rate."
        )
        items = [_Item(item.source, item not in with_clock, item.refusal) for item in items]
    return _Batch(items, remarks)


def _list_folder(path: str, folder: Path, *, has_fps: bool) -> tuple[list[_Item], list[str]]:
    """List what to measure in a folder, and sentences about what is left out."""
    from autohr.video.folders import IMAGE_SUFFIXES, find_videos, is_image_folder

    content = find_videos(folder)
    items = [_Item(str(video)) for video in content.videos]
    items += [
        _Item(str(inside), refusal=f"The folder {str(inside)!r} cannot be listed: {reason}.")
        for inside, reason in content.unreadable
    ]
    remarks = []
    image_folders, left_out = list(content.image_folders), list(content.left_out)
    if not content.videos and not content.unreadable and is_image_folder(folder):
        # The folder itself is the video; without --fps it is refused with what to do.
        items.append(_Item(path))
        image_folders = [inside for inside in image_folders if inside != folder]
        left_out = [file for file in left_out if file.parent != folder or file.suffix.lower() not in IMAGE_SUFFIXES]
    if has_fps:
        items += [_Item(str(inside)) for inside in image_folders]
    elif image_folders and items:
        names = _listed_names([str(inside.relative_to(folder)) for inside in image_folders])
        remarks.append(
            f"Left out of {path!r}, folders of pictures: {names}; say their rate with --fps to measure them."
        )
    elif image_folders:
        names = _listed_names([str(inside.relative_to(folder)) for inside in image_folders])
        reason = f"No video in folder {path!r}, but folders of pictures: {names}. Say their frames per second: --fps."
        items.append(_Item(path, refusal=reason))
    if not items:
        reason = f"No video in folder {path!r}. Give a video file, or a folder that holds some."
        items.append(_Item(path, refusal=reason))
    if left_out:
        counts = Counter(file.suffix.lower() for file in left_out).most_common()
        kinds = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in counts[:10])
        more = f" and {sum(n for _, n in counts[10:])} of other suffixes" if len(counts) > 10 else ""
        names = _listed_names([str(file.relative_to(folder)) for file in left_out])
        remarks.append(f"Left out of {path!r}, no video by suffix: {kinds}{more} ({names}).")
    if content.videos_by_content:
        names = _listed_names([str(file.relative_to(folder)) for file in content.videos_by_content])
        remarks.append(f"Left out of {path!r}, but video by content: {names}; give it by name to measure it.")
    return items, remarks


def _listed_names(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _live_source(camera: str) -> str | int:
    from autohr.video.folders import local_path

    _refuse_no_path(camera)
    if _is_camera(camera):
        return int(camera)
    if "://" not in camera and _is_folder(local_path(camera)):
        raise VideoError(f"{camera!r} is a folder. Give a camera, an address, or one video file.")
    return camera


def _refuse_no_path(path: str) -> None:
    if not path:
        raise typer.BadParameter("A path is empty. Name a file, a folder, a camera or an address.", param_hint="PATH")
    if path == "-" and not os.path.lexists(path):
        raise typer.BadParameter("Standard input is not read. Save the video to a file first.", param_hint="PATH")


def _is_camera(path: str) -> bool:
    return re.fullmatch(r"[0-9]{1,4}", path) is not None and not os.path.lexists(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_device(path: Path) -> bool:
    return _exists(path) and not path.is_file()


@dataclass(frozen=True)
class _Outputs:
    """Where results go. Standard output is ``STDOUT``."""

    json: Path | None
    csv: Path | None
    html: Path | None
    has_failed: bool = False
    """True where an output that was asked for cannot be written; the others are."""

    @classmethod
    def check(cls, json_out: str | None, csv_out: Path | None, html_out: Path | None) -> _Outputs:
        """Check every output before minutes are spent on measuring.

        One that the system refuses is said and left out, so that the others are written all the same.

        Raises:
            typer.BadParameter: one can be no file, or two are the same file.
        """
        given = {"--json": json_out, "--csv": csv_out, "--html": html_out}
        outs = {
            option: STDOUT if str(out) in ("-", STDOUT.as_posix()) else Path(out)
            for option, out in given.items()
            if out is not None
        }
        has_failed = False
        for option, out in list(outs.items()):
            try:
                _check_writable(out, option)
            except AutoHRError as error:
                _say_error(str(error))
                has_failed = True
                del outs[option]
        for option, out in outs.items():
            for other, another in outs.items():
                if option < other and _same_file(out, another) and (out == STDOUT or not _is_device(out)):
                    what = "standard output" if out == STDOUT else repr(str(out))
                    raise typer.BadParameter(f"{other} and {option} both name {what}. Give each its own file.")
        return cls(outs.get("--json"), outs.get("--csv"), outs.get("--html"), has_failed)

    @property
    def has_stdout(self) -> bool:
        return STDOUT in (self.json, self.csv, self.html)

    def refuse_inputs(self, inputs: Sequence[str | int]) -> None:
        """Refuse outputs that would overwrite an input, or any other video or picture.

        Raises:
            typer.BadParameter: naming the output.
        """
        from autohr.video.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, local_path

        for option, out in (("--json", self.json), ("--csv", self.csv), ("--html", self.html)):
            if out is None or out == STDOUT or not out.is_file():
                continue
            what = None
            if any(_same_file(out, local_path(given)) for given in inputs if isinstance(given, str)):
                what = "an input of this command"
            elif out.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES and out.stat().st_size:
                what = "a video or a picture"
            if what is not None:
                raise typer.BadParameter(
                    f"{str(out)!r} is {what} and would be overwritten. Name another file.", param_hint=option
                )


STDOUT = Path("/dev/stdout")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        # One of them is not there yet.
        return os.path.realpath(one) == os.path.realpath(other)


def _check_writable(out: Path, option: str | None = None) -> None:
    """Refuse an output that cannot be written before minutes are spent on measuring.

    Raises:
        typer.BadParameter: it names something that can be no file, such as a folder.
        AutoHRError: the system refuses it: no permission, a read-only place, a name that is too long.
    """
    from autohr.files import cannot_write, own_stream

    reason = None
    if own_stream(out) is None:
        try:
            reason = _why_not_writable(out)
        except NotADirectoryError as error:
            reason = error.strerror
        except OSError as error:
            raise cannot_write(out, error) from None
        except ValueError as error:
            reason = str(error)
    if reason is not None:
        raise typer.BadParameter(
            f"Cannot write {str(out)!r}: {reason}. Name a file in a folder that you may write to.", param_hint=option
        )


def _why_not_writable(out: Path) -> str | None:
    """Return why a path can be no file, None if nothing speaks against it.

    Raises:
        OSError: the system's reason.
    """
    try:
        out.stat()
    except FileNotFoundError:
        pass
    else:
        if out.is_dir():
            return "it is a folder"
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "it may not be written")
        if not out.is_file():
            return None
    place = Path(os.path.realpath(out))
    folder = next(parent for parent in place.parents if parent.exists())
    if not folder.is_dir():
        return f"{str(folder)!r} is a file"
    most = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if any(len(os.fsencode(part)) > most for part in place.parts):
        raise OSError(errno.ENAMETOOLONG, f"a name in it is longer than {most} bytes")
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, f"the folder {str(folder)!r} may not be written")
    try:
        # Where permissions are not the whole truth (root, network and immutable folders), only trying tells.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return None


def _write(out: Path, text: str) -> None:
    """Whole or not at all; a missing folder is made."""
    from autohr.files import make_folder, write_text

    make_folder(out.parent)
    write_text(out, text)


class _Stopped(KeyboardInterrupt):
    """The process was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def name(self) -> str:
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells count."""
        return 128 + self.number


class _Stops:
    """Makes Ctrl-C, SIGTERM and SIGHUP raise ``_Stopped`` inside the block, and not in the middle of saving.

    A second signal during saving ends that too. Signals that the caller ignores (nohup) stay ignored; outside the main
    thread nothing is changed.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._is_held = False
        self._pending: int | None = None

    def __enter__(self) -> _Stops:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._is_held and self._pending is None:
            self._pending = number
            return
        raise _Stopped(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block before the signal that came during it is raised."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise _Stopped(number)


class _Screen:
    """Standard output of a command whose results are saved elsewhere: that it fails is no reason to stop."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_quiet = is_quiet
        self.has_failed = False

    def show(self, result: Measurement | Refusal, bug: str | None = None) -> None:
        """Print a measurement; a refusal, or the traceback of a bug, goes to stderr."""
        from autohr.types import Refusal

        if bug is not None:
            with contextlib.suppress(OSError):
                print(escape_controls(bug, keep_newlines=True), file=sys.stderr, flush=True)
        elif isinstance(result, Refusal):
            _say_error(result.reason)
        else:
            self._try(lambda: _print_measurement(result))

    def print(self, text: str) -> None:
        self._try(lambda: _print(text))

    def _try(self, do: Callable[[], None]) -> None:
        if self.is_quiet or self.has_failed:
            return
        try:
            do()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except SystemExit as gone:
            # This is how rich says that the reader of a pipe went away.
            raise BrokenPipeError from gone
        except OSError as error:
            self.has_failed = True
            _say_error(f"The output cannot be printed: {error.strerror}. Files are still written.")
            _drop_output()


def _print_measurement(result: Measurement) -> None:
    """What a person wants to read: the rate, whether to believe it, and what was done to the video."""
    from rich.table import Table as RichTable

    console = _console()
    console.print(
        f"[bold]{_shown(result.path)}[/bold]  {result.duration_s:.1f} s, {result.fps_mean:.1f} frames per second, "
        f"method {result.method}" + ("" if result.weights is None else f", weights {_shown(result.weights)}")
    )
    table = RichTable("face", "heart rate", "confidence", "signal/noise", "time", "readings", box=None, pad_edge=False)
    for face in result.faces:
        good = sum(window.reliable for window in face.windows)
        table.add_row(
            str(face.id),
            "none" if face.hr_bpm is None else f"{face.hr_bpm:.1f} bpm",
            f"{100 * face.confidence:.0f} %, "
            + ("[green]reliable[/green]" if face.reliable else "[red]NOT reliable[/red]"),
            "" if face.snr_db is None else f"{face.snr_db:.1f} dB",
            f"{face.start_s:.1f} to {face.end_s:.1f} s",
            f"{good} of {len(face.windows)} reliable",
        )
    console.print(table)
    for face in result.faces:
        for line in _remarks(face):
            console.print(f"  {_shown(line)}")
    frames = result.frames
    console.print(
        f"  Frames: {frames.read} read, {frames.face} with a face, "
        f"{frames.repaired} repaired, {frames.dropped} dropped."
    )
    for note in result.notes:
        console.print(f"  {_shown(note)}")


def _shown(text: str) -> str:
    """Return the text as markup of rich that shows it as it is, control characters escaped."""
    from rich.markup import escape

    return escape(escape_controls(text))


def _console() -> Console:
    """The terminal as wide as it is; a file or pipe wide enough that no cell is broken over two lines."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _remarks(face: FaceMeasurement) -> list[str]:
    lines = []
    if face.why_unreliable is not None:
        lines.append(f"Face {face.id}: do not trust this rate: {face.why_unreliable}.")
    if face.hrv is not None:
        hrv = face.hrv
        figures = [
            f"{name} {value:.0f} ± {error:.0f} {unit}"
            for name, value, error, unit in (
                ("SDNN", hrv.sdnn_ms, hrv.sdnn_error_ms, "ms"),
                ("RMSSD", hrv.rmssd_ms, hrv.rmssd_error_ms, "ms"),
                ("pNN50", hrv.pnn50_pct, hrv.pnn50_error_pct, "%"),
            )
            if value is not None and error is not None
        ]
        lines.append(f"Face {face.id}: variability over {hrv.duration_s:.0f} s: {', '.join(figures)}.")
        if hrv.withheld is not None:
            lines.append(f"Face {face.id}: too uncertain to be given: {hrv.withheld}.")
    elif face.reliable and face.why_no_hrv is not None and face.measured_s >= 60:
        lines.append(f"Face {face.id}: no variability: {face.why_no_hrv.rstrip('.')}.")
    return lines


class _Count:
    """A line on stderr, ten at most for a pipe, that counts what is done; callable with (done, total)."""

    def __init__(self, what: str) -> None:
        self._what, self._tty = escape_controls(what), sys.stderr.isatty()
        # The last ones tell the pace: what was there already counts at once.
        self._stamps = deque([(0, time.monotonic())], maxlen=30)

    def __enter__(self) -> _Count:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            self._say("\r\033[K", end="")

    def __call__(self, done: int, total: int) -> None:
        if done < self._stamps[-1][0]:
            # The same work begins again, with other crops: what came before tells nothing of its pace.
            self._stamps.clear()
        self._stamps.append((done, time.monotonic()))
        (before, then_s), (_, now_s) = self._stamps[0], self._stamps[-1]
        line = f"{self._what}: {done} of {total}"
        if done > before:
            line += f", {(now_s - then_s) / (done - before) * (total - done):.0f} s left"
        if self._tty:
            self._say(f"\r\033[K{line}", end="")
        elif done == total or done % max(1, total // 10) == 0:
            self._say(line)

    @staticmethod
    def _say(text: str, end: str = "\n") -> None:
        # A terminal that went away is no reason to stop the work.
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)


class _Progress:
    """A bar on stderr for what takes longer than a second; callable with (done_s, total_s)."""

    def __init__(self, name: str, shown: bool) -> None:
        self._name, self._shown = name, shown
        self._began = time.monotonic()
        self._last = 0.0
        self._bar: Any = None
        self._update: Callable[..., None] | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()

    def __call__(self, done_s: float, total_s: float | None) -> None:
        now = time.monotonic()
        if not self._shown or now - self._began < 1.0 or now - self._last < 0.1:
            return
        self._last = now
        try:
            self._draw(done_s, total_s)
        except OSError:
            # A terminal that went away is no reason to stop the work.
            self._shown = False

    def _draw(self, done_s: float, total_s: float | None) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.markup import escape
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f} s" if total_s else "{task.completed:.0f} s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(escape(escape_controls(Path(self._name).name)), total=total_s)
            self._bar.start()
        self._bar.update(self._task, completed=min(done_s, total_s) if total_s else done_s)
