"""``autohr live`` and ``autohr serve``: the pulse of a camera, in the terminal and on a page."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autohr.cli.inputs import live_source
from autohr.cli.interrupts import Interrupted, Interrupts
from autohr.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    MaxFacesOption,
    MethodOption,
    WeightsOption,
    load_chosen_method,
    needs_extra,
)
from autohr.cli.output import NOT_MEDICAL, ResultPrinter, print_error, print_line, waiting
from autohr.cli.outputs import OutputPaths

if TYPE_CHECKING:
    from autohr.types import Measurement, Reading


def live(
    camera: Annotated[
        str, typer.Option(metavar="NUMBER|FILE|URL", help="A camera, an address, or a video file in its place.")
    ] = "0",
    method: MethodOption = None,
    weights: WeightsOption = None,
    max_faces: MaxFacesOption = 1,
    duration_s: Annotated[
        float | None, typer.Option(min=1.0, help="Stop after this many seconds. Default: Ctrl-C, or the file's end.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Read a file as quickly as possible, without leaving out frames.")
    ] = False,
    json_out: JsonOption = None,
    csv_out: CsvOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Show the pulse of the person in front of the camera. Ctrl-C ends it and prints the summary.

    Each reading is in OUT as soon as it is there: the rows of --csv, and for --json lines beside OUT until the end.

    The first number comes after 4 s, a reliable one after 10 s at the earliest, then a new one every three seconds
    (each second with a formula).
    """
    outputs = OutputPaths.check(json_out, csv_out)
    source = live_source(camera)
    outputs.refuse_inputs([source, weights])
    if fast and isinstance(source, int):
        raise typer.BadParameter("a camera cannot be played faster; give a file with --camera.", param_hint="--fast")

    from autohr.live.session import LiveConfig, LiveSession
    from autohr.live.terminal import watch
    from autohr.meter import MeterConfig
    from autohr.reports.live_outputs import LiveFiles
    from autohr.video.decode import open_video

    screen = ResultPrinter(is_quiet=outputs.has_stdout)
    loaded = load_chosen_method(method, weights, device)
    config = LiveConfig(
        meter=MeterConfig(max_faces=max_faces), source=f"camera {source}" if isinstance(source, int) else source
    )
    ended_by: BaseException | None = None
    result: Measurement | None = None
    errors: list[str] = []
    kept: Path | None = None
    with Interrupts() as interrupts, contextlib.ExitStack() as stack:
        with waiting(f"Opening {config.source}"):
            video = stack.enter_context(open_video(source, end_s=duration_s))
        session = LiveSession(loaded, config, on_readings=lambda readings: keep(readings))
        files = LiveFiles(
            json_out=outputs.json,
            csv_out=outputs.csv,
            source=config.source,
            method=loaded.name,
            weights=loaded.weights,
            started_at=session.started_at,
        )

        def keep(readings: Sequence[Reading]) -> None:
            # A signal comes into the main thread, which is the one that measures only with --fast.
            with interrupts.held() if fast else contextlib.nullcontext():
                files.add(readings)

        frames = ((frame.rgb, frame.t_s, frame.whole) for frame in video)
        try:
            watch(
                session,
                itertools.takewhile(lambda _: files.broken is None, frames),
                paced=not isinstance(source, int),
                fast=fast,
                out=sys.stderr if screen.is_quiet else sys.stdout,
            )
        except OSError:
            # The terminal went away: what was measured until then is saved all the same.
            screen.has_failed = True
        except BaseException as error:
            # Whatever ends the session, what was measured until then is written.
            ended_by = error
        try:
            with interrupts.held():
                try:
                    video.close()
                    result = session.close(video.notes, first=files.first)
                except Exception as error:
                    # Where nothing was measured this says more than the signal that ended it.
                    ended_by = error if ended_by is None or isinstance(ended_by, Interrupted) else ended_by
                finally:
                    errors, kept = files.finish(result)
        except Interrupted as interrupt:
            ended_by = ended_by or interrupt
        finally:
            session.stop()
    for line in errors:
        print_error(line)
    if kept is not None:
        print_error(f"The readings until then are in {str(kept)!r}.")
    if result is not None:
        screen.print_result(result)
        screen.print_line(NOT_MEDICAL)
    if isinstance(ended_by, Interrupted) and ended_by.number != signal.SIGINT:
        print_error(f"Stopped by {ended_by.name}; what was measured is written.")
        raise typer.Exit(ended_by.exit_code)
    if ended_by is not None and not isinstance(ended_by, Interrupted):
        raise ended_by
    if errors or screen.has_failed or outputs.has_failed:
        raise typer.Exit(1)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. An address that others can reach needs a token; one is made.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="AUTOHR_TOKEN", help="Password that the page asks for, 16 characters or more."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Another page that may use this server, as https://a.example. Repeat it for more.",
            show_default="none",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt, with a certificate made now, of which browsers warn once.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypt, with this certificate (PEM).", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key of --tls-cert. Default: it is in the same file.", show_default=False),
    ] = None,
    method: MethodOption = None,
    weights: WeightsOption = None,
    max_sessions: Annotated[int, typer.Option(min=1, max=64, help="Cameras measured at the same time.")] = 2,
    max_uploads: Annotated[int, typer.Option(min=1, max=64, help="Files measured at the same time.")] = 2,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=100_000, help="Largest file, in megabytes.")] = 500,
    max_session_s: Annotated[
        float, typer.Option(min=20.0, max=86_400.0, help="Longest camera session, in seconds.")
    ] = 600.0,
    device: DeviceOption = "cpu",
) -> None:
    """Serve a page on this machine that measures a camera or a file.

    The page needs no internet, and no video is kept. Ctrl-C stops it.
    """
    with needs_extra("The page", "serve"):
        from autohr.service.config import ServiceConfig
        from autohr.service.server import serve as serve_page
        from autohr.service.server import token_for
        from autohr.service.tls import load_certificate, make_certificate

    if tls_cert is None and tls_key is not None:
        raise typer.BadParameter("give the certificate too, with --tls-cert.", param_hint="--tls-key")
    if tls and tls_cert is not None:
        raise typer.BadParameter("give either this or --tls-cert.", param_hint="--tls")
    try:
        config = ServiceConfig(
            host=host,
            port=port,
            token=token_for(host, token),
            allowed_origins=tuple(allow_origin or ()),
            method=method,
            weights=weights,
            device=device,
            max_sessions=max_sessions,
            max_uploads=max_uploads,
            max_upload_bytes=max_upload_mb * 1_000_000,
            max_session_s=max_session_s,
        )
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    context = None
    if tls_cert is not None:
        context = load_certificate(tls_cert, tls_key)
    elif tls:
        with needs_extra("--tls", "phone"):
            context, fingerprint = make_certificate(host)
        print_line(f"Browsers warn of a certificate that they do not know. Its SHA-256 is {fingerprint}")
    serve_page(
        config,
        load_chosen_method(method, weights, device),
        say=print_line,
        tls=context,
        has_screen=sys.stdout.isatty(),
    )
