"""Published figures: each stands once, in docs/results/NAME.json, and every page that states it is filled from there.

    python benchmarks/results.py            fill README, the model card and the pages of docs/
    python benchmarks/results.py --check    change nothing; name the places that differ and exit 1

A page marks the place with two comments; what stands between them is written by this command:

    <!-- result: transfer.headline --> ... <!-- /result -->

``transfer`` is the file, ``headline`` the name of one of its texts, tables or values. A file holds

    question, command, date   the question, the command that answers it, the day it was run
    made_by                   commit of that command, or "transcribed from ..." where no command wrote the file
    values                    {name: number}
    tables                    {name: {columns, formats: {column: format}, rows}} or {name: {csv: file beside it}}
    texts                     {name: sentence}, with figures as {file[table][first cell of the row][column]:.1f}
    notes                     [sentences that the reader of the figures must know]

A benchmark writes its file with ``save_result`` (option ``--out-result docs/results/NAME.json``); texts and notes,
which people write, are kept when it is written again.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = ("README.md", "src/autohr/weights/README.md", "docs/*.md", "docs/background/*.md")
MARK = re.compile(r"(<!-- result: (?P<name>[\w-]+\.[\w-]+) -->)(?P<old>.*?)(<!-- /result -->)", re.DOTALL)


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return every result file by its name, tables that lie in a CSV file included."""
    results: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        for table in results[path.stem].get("tables", {}).values():
            if "csv" in table:
                with (folder / table["csv"]).open(encoding="utf-8", newline="") as lines:
                    table["columns"], *table["rows"] = csv.reader(lines)
    return results


def figures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the figures as texts address them: file, then a value, or a table, row (by its first cell) and column."""
    return {
        name: {
            **result.get("values", {}),
            **{
                key: {str(row[0]): dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
                for key, table in result.get("tables", {}).items()
            },
        }
        for name, result in results.items()
    }


def render(name: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text, table or value called FILE.NAME as Markdown. Raises KeyError where there is none."""
    file, key = name.split(".", 1)
    if key in results[file].get("texts", {}):
        return str(results[file]["texts"][key]).format_map(figures(results))
    if key in results[file].get("tables", {}):
        return markdown_table(**results[file]["tables"][key])
    return str(results[file]["values"][key])


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], formats: Mapping[str, str] | None = None, **_: Any
) -> str:
    """Return a Markdown table; columns of numbers are aligned to the right, None is a dash."""
    shown = [
        [
            "-" if cell is None else _cell(cell, (formats or {}).get(column, ""))
            for column, cell in zip(columns, row, strict=True)
        ]
        for row in rows
    ]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    rule = ["---:" if number else "---" for number in numeric]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(columns), rule, *shown])


def _cell(cell: Any, form: str) -> str:
    return str(cell) if isinstance(cell, str) else format(cell, form)


def fill(text: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a page with every marked place written anew. A place that began with a line break keeps its own lines."""

    def place(match: re.Match[str]) -> str:
        new = render(match["name"], results)
        own_lines = match["old"].startswith("\n") or "\n" in new
        return match[1] + (f"\n\n{new}\n\n" if own_lines else new) + match[4]

    return MARK.sub(place, text)


def pages(root: Path = ROOT) -> Iterator[Path]:
    """Yield the pages that may hold marked places."""
    for pattern in PAGES:
        yield from sorted(root.glob(pattern))


def save_result(
    path: Path, *, question: str, values: Mapping[str, Any], tables: Mapping[str, Any], notes: Sequence[str] = ()
) -> None:
    """Write a result file from the running command, keeping the texts and notes of the file that stood there."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    record = {
        "question": question,
        "command": shlex.join(["python", *(_portable(argument) for argument in sys.argv)]),
        "date": datetime.date.today().isoformat(),
        "made_by": f"commit {commit.stdout.strip() or 'unknown'}",
        "values": {**old.get("values", {}), **_rounded(dict(values))},
        "tables": {**old.get("tables", {}), **_rounded(dict(tables))},
        "texts": old.get("texts", {}),
        "notes": [*notes, *(note for note in old.get("notes", []) if note not in notes)],
    }
    path.write_text(dump(record), encoding="utf-8")


def _portable(argument: str) -> str:
    """Return an argument without the folders of this machine: a path outside the repository is only its name."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _rounded(figure: Any) -> Any:
    """Return figures with at most four decimals, which is more than any page states."""
    if isinstance(figure, dict):
        return {key: _rounded(value) for key, value in figure.items()}
    if isinstance(figure, list | tuple):
        return [_rounded(value) for value in figure]
    return round(figure, 4) if isinstance(figure, float) else figure


def dump(record: Mapping[str, Any]) -> str:
    """Return JSON with every innermost list, such as a row of a table, on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s*([^\[\]{}]*?)\s*\]", lambda row: "[" + re.sub(r"\n\s*", " ", row[1]) + "]", text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a page differs")
    options = parser.parse_args()
    results = read_results()
    differing = []
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = fill(old, results)
        if new != old:
            differing.append(page.relative_to(ROOT).as_posix())
            if not options.check:
                page.write_text(new, encoding="utf-8")
    remark = "differs from docs/results; run python benchmarks/results.py" if options.check else "filled"
    for name in differing:
        print(f"{name}: {remark}")
    return 1 if options.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
