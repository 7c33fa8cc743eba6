"""Take over the tables of a Markdown page, in their order, into a result file.

    python benchmarks/page_tables.py RUN/results/standings.md methods groups trainings
        --out-result docs/results/standings.json
    autohr compare-cells ... --format markdown > cells.md
    python benchmarks/page_tables.py cells.md cells --out-result docs/results/search.json

A name of ``-`` leaves its table out. A table that the result file holds as CSV is written as CSV again.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path
from typing import Any

from results import save_result


def number(cell: str) -> float | int | str | None:
    """Return what a cell holds: 38.31, 1,037,681, 57 % as 0.57, - as None, anything else as it stands."""
    if cell == "-":
        return None
    found = re.fullmatch(r"(-?[\d,]+(?:\.\d+)?)( ?%)?", cell)
    if found is None:
        return cell
    value = float(found[1].replace(",", ""))
    if found[2]:
        return round(value / 100, 6)
    return value if "." in found[1] else int(value)


def column_format(cells: list[str]) -> str:
    """Return the format with which the numbers of a column print as they did, "" for whole numbers and words."""
    numeric = [cell for cell in cells if isinstance(number(cell), int | float)]
    digits = max((len(cell.partition(".")[2].rstrip(" %")) for cell in numeric), default=0)
    if any(cell.endswith("%") for cell in numeric):
        return f".{digits}%"
    return f".{digits}f" if digits else "," * any("," in cell for cell in numeric) + ("d" if numeric else "")


def tables_of(page: str) -> list[dict[str, Any]]:
    """Return every table of a page (columns, formats, rows)."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE):
        columns, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
        formats = {name: column_format([row[i] for row in rows]) for i, name in enumerate(columns)}
        tables.append(
            {"columns": columns, "formats": formats, "rows": [[number(cell) for cell in row] for row in rows]}
        )
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("names", nargs="+", help="names for its tables, in order; - leaves one out")
    parser.add_argument("--out-result", type=Path, required=True, help="a file of docs/results")
    options = parser.parse_args()
    old = json.loads(options.out_result.read_text(encoding="utf-8"))
    taken: dict[str, Any] = {}
    for name, table in zip(options.names, tables_of(options.page.read_text(encoding="utf-8")), strict=True):
        if name == "-":
            continue
        taken[name] = table
        if file := old["tables"].get(name, {}).get("csv"):
            with (options.out_result.parent / file).open("w", encoding="utf-8", newline="") as lines:
                csv.writer(lines, lineterminator="\n").writerows([table["columns"], *table["rows"]])
            taken[name] = {"csv": file}
    save_result(options.out_result, question=old["question"], values={}, tables=taken)


if __name__ == "__main__":
    main()
