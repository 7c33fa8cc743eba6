"""The command line: parse, call one function, print.

Exit codes: 0 measured; 1 one of our errors, one line on stderr; 2 wrong usage; anything else is our bug and keeps its
traceback. Rooms are imported inside the commands, so that ``autohr --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autohr import __version__
from autohr.errors import AutoHRError, BadRecording, UnknownName, VideoError, WindowsTooShort

if TYPE_CHECKING:
    from rich.console import Console

    from autohr.evaluate.results import Results
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


def main() -> None:
    """Entry point: our own errors become one line, everything else keeps its traceback."""
    try:
        app()
    except AutoHRError as error:
        _say_error(str(error))
        raise SystemExit(1) from None
    except BrokenPipeError:
        # The reader of our output (head, less) went away; nothing is left to be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _say_error(message: str) -> None:
    print(f"autohr: {message}", file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"autohr {__version__}")
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
    from autohr.data import DATASETS

    if name not in DATASETS:
        raise typer.BadParameter(str(UnknownName("dataset", name, DATASETS)))
    return name


@app.command()
def measure(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Video files, folders of videos, a folder of images (with --fps), a camera index such as 0, "
            "or an address.",
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
    files every one is measured, one that fails does not stop the others, and the exit code is 1 if any failed."""
    if stride_s > window_s:
        raise typer.BadParameter(
            f"{stride_s:g} s must not be longer than --window-s {window_s:g}.", param_hint="--stride-s"
        )
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter(f"{end_s:g} s must lie after --start-s {start_s:g}.", param_hint="--end-s")
    for out in (csv_out, html_out, None if json_out in (None, "-") else Path(str(json_out))):
        if out is not None:
            _check_writable(out)

    from autohr.measure import measure as measure_one
    from autohr.types import Refusal

    sources = _sources(paths)
    loaded = _load_method(method, weights, device.value)
    many = len(sources) > 1
    results: list[Measurement | Refusal] = []
    kinds: list[str] = []
    quiet = json_out == "-"
    for source in sources:
        try:
            with _Progress(str(source), shown=sys.stderr.isatty()) as progress:
                result = measure_one(
                    source,
                    loaded,
                    window_s=window_s,
                    stride_s=stride_s,
                    max_faces=max_faces,
                    box=None if box is None else box.value,
                    start_s=start_s,
                    end_s=end_s,
                    fps=fps,
                    progress=progress,
                )
        except AutoHRError as error:
            _say_error(str(error))
            results.append(Refusal(str(source), str(error)))
            kinds.append(type(error).__name__)
        except Exception as bug:
            if not many:
                raise
            traceback.print_exc()
            results.append(Refusal(str(source), f"autohr itself failed: {type(bug).__name__}: {bug}"))
            kinds.append(type(bug).__name__)
        else:
            results.append(result)
            kinds.append("")
            if not quiet:
                _print_measurement(result)
    n_refused = sum(isinstance(result, Refusal) for result in results)
    if not quiet:
        if many:
            print(f"Measured {len(results) - n_refused} of {len(results)} files; {n_refused} refused.")
        if n_refused < len(results):
            print(NOT_MEDICAL)
    if json_out is not None:
        objects = [_as_json(result, kind) for result, kind in zip(results, kinds, strict=True)]
        one = len(paths) == 1 and not many and not Path(paths[0]).is_dir()
        text = json.dumps(objects[0] if one else objects, indent=None if quiet else 1, allow_nan=False)
        if quiet:
            print(text)
        else:
            _write(Path(json_out), text + "\n")
    if csv_out is not None:
        from autohr.reports.readings import readings_csv

        _write(csv_out, readings_csv(results))
    if html_out is not None:
        # matplotlib takes half a second: only who wants the page waits for it.
        from autohr.reports.measurement import write_measurement_page

        command = shlex.join(["autohr", *sys.argv[1:]])
        write_measurement_page(results, html_out, made_at=time.strftime("%Y-%m-%d %H:%M"), command=command)
    if n_refused:
        raise typer.Exit(1)


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
    for out in (csv_out, None if json_out in (None, "-") else Path(str(json_out))):
        if out is not None:
            _check_writable(out)
    source = _sources([camera])[0]
    if fast and isinstance(source, int):
        raise typer.BadParameter("a camera cannot be played faster; give a file with --camera.", param_hint="--fast")

    from dataclasses import replace

    from autohr.live import LiveConfig, LiveSession
    from autohr.meter import MeterConfig
    from autohr.terminal import watch
    from autohr.video.decode import open_video

    quiet = json_out == "-"
    loaded = _load_method(method, weights, device.value)
    config = LiveConfig(
        meter=MeterConfig(max_faces=max_faces), source=f"camera {source}" if isinstance(source, int) else str(source)
    )
    with open_video(source, end_s=duration_s) as video, LiveSession(loaded, config) as session:
        frames = ((frame.rgb, frame.t_s, frame.whole) for frame in video)
        with contextlib.suppress(KeyboardInterrupt):
            watch(
                session, frames, paced=not isinstance(source, int), fast=fast, out=sys.stderr if quiet else sys.stdout
            )
        result = session.close()
        result = replace(result, notes=(*video.notes, *result.notes))
    if quiet:
        print(json.dumps(result.as_dict(), allow_nan=False))
    else:
        _print_measurement(result)
        print(NOT_MEDICAL)
        if json_out is not None:
            _write(Path(str(json_out)), json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    if csv_out is not None:
        from autohr.reports.readings import readings_csv

        _write(csv_out, readings_csv([result]))


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
    serve_page(config, _load_method(method, weights, device.value), say=lambda line: print(line, flush=True))


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
    from autohr.measure import measure as measure_one
    from autohr.reports.measurement import write_measurement_page
    from autohr.synth.video import SceneConfig, write_scene

    _check_writable(out / "report.html")
    video, report, answer = out / "face.mp4", out / "report.html", out / "measurement.json"
    out.mkdir(parents=True, exist_ok=True)
    print(f"Making {video}: a drawn face of {hr_bpm:g} bpm, {duration_s:g} s, 640x480, moving, in changing light ...")
    # As deep a pulse as the real face of the checks shows, at the bit rate of a phone's video.
    scene = SceneConfig(duration_s=duration_s, hr_bpm=hr_bpm, seed=seed, pulse_depth=0.02, noise_sd=1.5)
    truth = write_scene(scene, video, crf=8)
    method = _load_method(None, None, Device.cpu)
    with _Progress(str(video), shown=sys.stderr.isatty()) as progress:
        result = measure_one(video, method, progress=progress)
    _print_measurement(result)
    write_measurement_page([result], report)
    _write(answer, json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    measured = result.faces[0].hr_bpm
    said = "nothing" if measured is None else f"{measured:.1f} bpm"
    print(f"True rate {truth.mean_hr_bpm:.1f} bpm, measured {said}.")
    print(f"Report: {report}   (video {video}, numbers {answer})")


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
    from autohr.synth.recordings import HARD, USUAL, write_recordings

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
    print(f"{len(made.recordings)} recordings in {out}, {made.n_made} of them made now.")
    print(f"Next: autohr prepare synthetic {out} --out cache")


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
    from autohr.data import DATASETS
    from autohr.data.cache import CropConfig
    from autohr.data.manifest import KINDS, manifest_path, prepare_dataset

    _check_writable(out / "manifest.json")
    crop = CropConfig(size_px=size_px, box=box.value, margin=margin)
    with _Count("Preparing") as count:
        manifest = prepare_dataset(
            DATASETS[dataset], root, out, crop, workers=workers, progress=lambda done, total, _: count(done, total)
        )
    from autohr.reports.manifest import write_manifest_page

    page = manifest_path(out, crop, dataset).with_suffix(".html")
    write_manifest_page(manifest.as_dict(), page)
    for entry in manifest.excluded:
        print(f"Excluded {entry.id}: {entry.reason}")
    for one in manifest.absent:
        print(f"Absent {one.id}: {one.reason}")
    for finding in manifest.findings:
        if not finding.ids:
            print(f"{KINDS[finding.kind].title}: {finding.says}")
    for note in manifest.notes:
        print(f"Note: {note}")
    for kind, n in manifest.counts().items():
        print(f"{KINDS[kind].title}: {n}")
    gone = f", {len(manifest.absent)} absent" if manifest.absent else ""
    print(
        f"{len(manifest.kept)} of {len(manifest.entries)} recordings kept, {len(manifest.excluded)} excluded{gone}; "
        f"cache {out}.\nEvery recording: {page}"
    )
    if not manifest.kept:
        told = manifest.excluded or manifest.absent
        why = "the reasons are above" if told else f"it holds none that the reader of {manifest.title} knows"
        raise BadRecording(f"Not one recording of {str(root)!r} could be used; {why}.")
    refusal = manifest.refusal()
    if refusal is not None and not allow_missing:
        raise BadRecording(f"{refusal} (--allow-missing accepts it; what is there was prepared.)")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file such as recipes/autohr_cpu.toml.")],
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
        from autohr.train.recipe import train as train_recipe

    result = train_recipe(recipe, overrides or (), out=out, resume=resume, overwrite=overwrite)
    print(f"Run {result.run}\nBest weights {result.weights}\nCurves {result.curves}")
    if result.fit.stopped_by is not None:
        raise AutoHRError(
            f"Stopped by {result.fit.stopped_by} after step {result.fit.step}; the same command goes on from there."
        )


@app.command("search")
def search_command(
    recipe: Annotated[Path, typer.Argument(help="A TOML file such as recipes/search_cpu.toml.")],
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
        from autohr.search.recipe import say_epoch
        from autohr.search.recipe import search as search_cell
        from autohr.search.space import describe_cell

    changes = [*(overrides or ()), *([] if seed is None else [f"search.seed={seed}"])]
    found = search_cell(recipe, changes, out=out, resume=resume, overwrite=overwrite, say=say_epoch)
    result = found.search
    print(f"Run {found.run}")
    if result.genotype is None:
        raise AutoHRError(
            f"Stopped by {result.stopped_by} after step {result.step}; the same command goes on from there."
        )
    for line in describe_cell(result.genotype):
        print(line)
    if result.collapse is not None:
        done = "stopped" if result.stopped_by == "collapse" else "ended"
        print(f"The search {done} unsound: {result.collapse}. See notes in {found.run / 'results' / 'search.json'}.")
    print(f"Genotype {found.genotype}")
    print(f"Train it: autohr train RECIPE --set net_config.genotype={found.genotype}")


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
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes by which nets are trained.")] = Path("recipes"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of every recipe, as in fit.device=cuda."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--method", help="Make only this row; may be given often.")] = None,
    preset: Annotated[str | None, typer.Option(help="Scoring; the table's own if not given.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.text,
) -> None:
    """Print a table of the paper with what was measured here beside it. Rows that cannot be made say why."""
    from autohr.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.tables import make_table, table_sheet

    if runs and make:
        raise typer.BadParameter("--make writes into --out; give --runs without it.", param_hint="--runs")
    folder = out or Path("runs") / f"table{number}"
    why: dict[str, str] = {}
    if make:
        why = make_table(
            number, folder, cache=cache, recipes=recipes, overrides=overrides or (), only=only or (), say=_say_progress
        )
    found = runs or [path for path in [folder / "evaluation"] if path.exists()]
    print(render_sheet(table_sheet(number, found, why=why, preset=preset), form.value))


@app.command()
def ablate(
    name: Annotated[AblationName, typer.Argument(help="Which panel of Fig. 4.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file in place of the panel's own, of the same net.", show_default=False)
    ] = None,
    recipes: Annotated[Path, typer.Option(help="Folder of the panels' own recipes.")] = Path("recipes"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the recipe, as in fit.device=cuda."),
    ] = None,
    search_recipe: Annotated[
        Path | None, typer.Option(help="Of nas: TOML file of the searches in place of its own.", show_default=False)
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
    from autohr.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.ablations import ablate as run_ablation
        from autohr.lab.ablations import ablation_sheet

    folder = out or Path("runs") / f"ablate_{name.value}{'_synthetic' if synthetic else ''}"
    _check_writable(folder / "ablation.json")
    folder.mkdir(parents=True, exist_ok=True)
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
    from autohr.reports.ablation import ablation_svg, render_ablation_page

    _write(folder / "ablation.svg", ablation_svg(folder))
    _write(folder / "ablation.html", render_ablation_page(folder, made_at=time.strftime("%Y-%m-%d %H:%M")))
    print(render_sheet(ablation_sheet(result), form.value))
    print(f"Picture: {folder / 'ablation.svg'}   (page {folder / 'ablation.html'})", file=sys.stderr)


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
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes equal_NET.toml.")] = Path("recipes"),
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
    from autohr.evaluate.tables import render_sheet

    with _extra("Training", "train"):
        from autohr.lab.standings import PAGE, compare_methods

    _check_writable(out / "results" / PAGE)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    counts: dict[str, _Count] = {}
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
        say=_say_progress,
    )
    for sheet in sheets:
        print(render_sheet(sheet, form.value) + "\n")
    print(f"Tables: {out / 'results' / PAGE}   (page: autohr report {out / 'evaluation'})", file=sys.stderr)


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
    recipe: Annotated[Path, typer.Option(help="TOML file by which every cell is trained; its net is autohr.")] = Path(
        "recipes/equal_autohr.toml"
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
    from autohr.evaluate.tables import render_sheet

    try:
        numbers = [int(one) for one in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{seeds!r} is not of the form 0,1,2.", param_hint="--seeds") from None
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise typer.BadParameter(f"{seeds!r}: give each seed once, none below 0.", param_hint="--seeds")
    if not cells and not random:
        raise typer.BadParameter("There is no cell to train; name some, or give --random.")
    with _extra("Training", "train"):
        from autohr.lab.searches import compare_genotypes, comparison_sheet

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
    from autohr.reports.run import write_run_page

    print(render_sheet(comparison_sheet(result), form.value))
    page = write_run_page(out, made_at=time.strftime("%Y-%m-%d %H:%M"))
    print(f"Page: {page}", file=sys.stderr)


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
    from autohr.reports.run import write_run_page

    made_at = time.strftime("%Y-%m-%d %H:%M")
    if activations is not None:
        from autohr.lab.activations import find_truth, watch_video

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
    print(f"Page: {write_run_page(run, out, preset=preset, made_at=made_at)}")


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
        str, typer.Option(metavar="NAME,NAME|all", help="Methods; all are those that need no weights of yours.")
    ] = "all",
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="One more net, by its weights; may be given often."),
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
    from autohr.evaluate.results import read_results
    from autohr.evaluate.scoring import PRESETS, check_protocol, find_preset

    presets = list(PRESETS) if preset == "all" else preset.split(",") if preset else []
    for name in presets:
        find_preset(name)
    if what is not None and what.is_dir():
        if dataset is not None or root is not None:
            raise typer.BadParameter("A stored evaluation is scored as it is; leave --dataset and --root out.")
        stored = {one.method.label: one for one in read_results(what)}
        chosen = list(stored) if method == "all" else method.split(",")
        strangers = [label for label in chosen if label not in stored]
        if strangers:
            raise UnknownName("method of this evaluation", strangers[0], stored)
        results = tuple(stored[label] for label in chosen)
    else:
        from autohr.evaluate.recipe import EvaluateRecipe, evaluate_recipe, protocol_of, read_recipe

        if what is not None:
            if dataset is not None or root is not None:
                raise typer.BadParameter("Give a recipe, or --dataset and --root.")
            recipe = read_recipe(what)
        elif dataset is None or root is None:
            raise typer.BadParameter("Give a recipe, a stored evaluation, or --dataset and --root.")
        else:
            names = () if method == "all" else tuple(method.split(","))
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
                say=_say_progress,
            )
    _print_scores(results, presets, baseline, by, form.value, every=preset == "all")
    print(f"Page: autohr report {what if what is not None and what.is_dir() else out}", file=sys.stderr)
    if not any(one.counts["scored_windows"] for one in results):
        raise BadRecording("Not one window could be scored; the reasons are in the table.")


def _print_scores(
    results: tuple[Results, ...], presets: list[str], baseline: str, by: str | None, form: str, *, every: bool = False
) -> None:
    """Print one table for each preset and, by a group, one for each method.

    Args:
        every: leave out the presets that need longer windows, and say so, in place of refusing them.
    """
    from autohr.evaluate.scoring import check_windows, score
    from autohr.evaluate.summary import groups_sheet, scores_sheet
    from autohr.evaluate.tables import render_sheet

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
        print(render_sheet(scores_sheet(scores, baseline), form) + "\n")
        if by is None:
            continue
        for one in scores:
            if by not in one.groups:
                known = ", ".join(one.groups) or "none"
                raise typer.BadParameter(f"There is no group {by!r} with several values. Groups: {known}.")
            print(render_sheet(groups_sheet(one, by), form) + "\n")


def _say_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
        from autohr.nets.export import export_onnx
    from autohr.methods import find_weights

    made = export_onnx(find_weights(None, weights)[0], out)
    print(f"{made.path}: {made.n_bytes / 1e6:.1f} MB, {made.header['net']} of {weights}")
    for put, named in (("Input", made.inputs), ("Output", made.outputs)):
        for name, said in named.items():
            print(f"  {put} {name} {said}")
    clips = " and ".join(f"{n_clips} of {n_frames} frames" for n_clips, n_frames in made.clips)
    print(f"  Largest difference to torch: {made.difference:.1e} of {made.unit} (clips: {clips})")
    print(f"  Licence: {_in_words(made.header['licence'])}")


class Table(StrEnum):
    methods = "methods"
    nets = "nets"
    datasets = "datasets"
    weights = "weights"
    presets = "presets"
    protocols = "protocols"
    scoring = "scoring"


@app.command("list")
def list_table(table: Annotated[Table, typer.Argument(help="Which table to print.")]) -> None:
    """List what this version knows."""
    from rich.table import Table as RichTable

    if table is Table.datasets:
        from autohr.data import DATASETS

        view = RichTable("name", "title", "recordings", "access", "how sure", box=None, pad_edge=False)
        for spec in DATASETS.values():
            total = "any number" if spec.n_recordings is None else str(spec.n_recordings)
            view.add_row(spec.name, spec.title, total, spec.access, spec.sure)
        _console().print(view)
        return
    if table is Table.nets or table is Table.presets:
        from autohr.nets import NETS

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
        from autohr.evaluate.protocols import PROTOCOLS

        view = RichTable("name", "what", "scoring", "source", "how sure", box=None, pad_edge=False)
        for protocol in PROTOCOLS.values():
            view.add_row(protocol.name, protocol.title, protocol.preset, protocol.source, protocol.sure)
        _console().print(view)
        return
    if table is Table.scoring:
        from autohr.evaluate.scoring import PRESETS

        view = RichTable("name", "what", "limits", "source", "how sure", box=None, pad_edge=False)
        for rule in PRESETS.values():
            least = f" Windows of {rule.least_s:g} s or more: {rule.least_why}." if rule.least_s else ""
            view.add_row(rule.name, rule.title, f"{rule.limits}.{least}", rule.source, rule.sure)
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
    from rich.markup import escape
    from rich.table import Table as RichTable

    from autohr.methods import shipped_weights

    shipped = shipped_weights()
    if not shipped:
        print(f"This installation of autohr {__version__} has no weights. Give a file: autohr measure --weights FILE")
        return
    from autohr.nets.checkpoint import read_header

    view = RichTable("name", "net", "size", "trained on", "licence", "measured accuracy", box=None, pad_edge=False)
    for name, path in shipped.items():
        header = read_header(path)
        trained = _in_words(header["training_data"], ("datasets", "n_subjects", "minutes"))
        measured = _in_words(header["measured_accuracy"], ("mae_bpm", "within_3_bpm", "within_5_bpm", "on"))
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        view.add_row(name, header["net"], size, *map(escape, (trained, _in_words(header["licence"]), measured)))
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


def _sources(paths: list[str]) -> list[str | int]:
    """What to measure: folders opened, camera numbers as numbers. A folder with nothing in it is an error."""
    from autohr.video.decode import is_image_folder, list_videos

    sources: list[str | int] = []
    for path in paths:
        folder = Path(path)
        if path.isdecimal() and not folder.exists():
            sources.append(int(path))
        elif folder.is_dir() and not is_image_folder(folder):
            videos = list_videos(folder)
            if not videos:
                raise VideoError(f"No video in folder {path!r}. Give a video file, or a folder that holds some.")
            sources += [str(video) for video in videos]
        else:
            sources.append(path)
    return sources


def _check_writable(out: Path) -> None:
    """Refuse an output that cannot be written before minutes are spent on measuring."""
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"Cannot write {str(out)!r}. Name a file in a folder that you may write to.")


def _write(out: Path, text: str) -> None:
    """Whole or not at all; a missing folder is made."""
    from autohr.runs import write_bytes

    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode())


def _as_json(result: Measurement | Refusal, kind: str) -> dict[str, Any]:
    from autohr.types import MEASUREMENT_SCHEMA, Measurement

    if isinstance(result, Measurement):
        return result.as_dict()
    return {"schema": MEASUREMENT_SCHEMA, "path": result.path, "error": {"kind": kind, "message": result.reason}}


def _print_measurement(result: Measurement) -> None:
    """What a person wants to read: the rate, whether to believe it, and what was done to the video."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = _console()
    console.print(
        f"[bold]{escape(result.path)}[/bold]  {result.duration_s:.1f} s, {result.fps_mean:.1f} frames per second, "
        f"method {result.method}" + ("" if result.weights is None else f", weights {escape(result.weights)}")
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
            console.print(f"  {escape(line)}")
    frames = result.frames
    console.print(
        f"  Frames: {frames.read} read, {frames.face} with a face, "
        f"{frames.repaired} repaired, {frames.dropped} dropped."
    )
    for note in result.notes:
        console.print(f"  {escape(note)}")


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
        lines.append(
            f"Face {face.id}: variability over {hrv.duration_s:.0f} s: SDNN {hrv.sdnn_ms:.0f} ms, "
            f"RMSSD {hrv.rmssd_ms:.0f} ms, pNN50 {hrv.pnn50_pct:.0f} %."
        )
    return lines


class _Count:
    """A line on stderr, ten at most for a pipe, that counts what is done; callable with (done, total)."""

    def __init__(self, what: str) -> None:
        self._what, self._tty = what, sys.stderr.isatty()
        # The last ones tell the pace: what was there already counts at once.
        self._stamps = deque([(0, time.monotonic())], maxlen=30)

    def __enter__(self) -> _Count:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

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
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif done == total or done % max(1, total // 10) == 0:
            print(line, file=sys.stderr, flush=True)


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
            self._bar.stop()

    def __call__(self, done_s: float, total_s: float | None) -> None:
        now = time.monotonic()
        if not self._shown or now - self._began < 1.0 or now - self._last < 0.1:
            return
        self._last = now
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f} s" if total_s else "{task.completed:.0f} s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(Path(self._name).name, total=total_s)
            self._bar.start()
        self._bar.update(self._task, completed=min(done_s, total_s) if total_s else done_s)
