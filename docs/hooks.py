"""Fill pages of the site from the installed command: `<!-- list: methods -->` and `<!-- help: measure -->`.

So the tables of methods, datasets and options cannot differ from what the version at hand prints.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- (?P<kind>list|help): (?P<name>[\w-]+) -->")


@functools.cache
def output_of(*command: str, columns: int) -> str:
    """Return what ``autohr COMMAND`` prints on a terminal of so many columns."""
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-m", "autohr", *command], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.replace("python -m autohr", "autohr").strip()


def table(text: str) -> str:
    """Return a Markdown table of text whose columns are two or more spaces apart, as far as the first empty line."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.split("\n\n")[0].splitlines()]
    head, *rows = lines
    body = [row for row in rows if len(row) == len(head)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [head, ["---"] * len(head), *body]]
    return "\n".join("| " + " | ".join(row) + " |" for row in escaped)


def commands() -> list[str]:
    """Return the names of all commands, in the order of ``autohr --help``."""
    return re.findall(r"^\W ([a-z][\w-]*) {2,}", output_of("--help", columns=120), flags=re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page (called by mkdocs)."""

    def fill(match: re.Match[str]) -> str:
        if match["kind"] == "list":
            return table(output_of("list", match["name"], columns=2000))
        names = commands() if match["name"] == "all" else [match["name"]]
        parts = [f"## autohr {name}\n\n```text\n{output_of(name, '--help', columns=110)}\n```" for name in names]
        return "\n\n".join(parts)

    return MARK.sub(fill, markdown)
