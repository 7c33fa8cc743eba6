"""``autohr page``: the page that measures in the tab, as a folder for any file server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autohr.cli.output import print_line


def page(
    out: Annotated[Path, typer.Argument(help="Folder to write: a new or empty one, or that of an earlier page.")],
    runtime: Annotated[
        Path, typer.Option(help="Folder of the npm package onnxruntime-web, which runs the network.")
    ] = Path("node_modules/onnxruntime-web"),
) -> None:
    """Write the page that measures in the browser's tab, without a server: pictures never leave it.

    The folder needs no internet; hand it out with any file server, such as `python -m http.server -d OUT`. The network
    runs in onnxruntime-web, which npm brings once: `npm install onnxruntime-web`.
    """
    from autohr.tab.folder import write_page

    size = write_page(out, runtime)
    print_line(f"Wrote {out} ({size / 1e6:.1f} MB). Show it with: python -m http.server -d {out} --bind 127.0.0.1")
