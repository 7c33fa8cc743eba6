"""Measure videos of real faces whose rate is known, with every method that needs no weights of the caller's.

    python benchmarks/real.py VIDEO=BPM ... [--out-result docs/results/real_video.json]

A rate within ``WITHIN_BPM`` counts as right. The videos are not part of the project, and nothing is tuned on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autohr.errors import AutoHRError
from autohr.measure import measure
from autohr.methods import METHODS, load_method, ready_methods
from results import markdown_table, save_result

WITHIN_BPM = 3.0


def main() -> None:
    """Measure the videos named on the command line and print a table; with ``--out-result`` save it too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", metavar="VIDEO=BPM")
    parser.add_argument("--out-result", type=Path)
    options = parser.parse_args()
    known = [(Path(path), float(bpm)) for path, bpm in (one.rsplit("=", 1) for one in options.videos)]
    columns = ["method", *(f"{path.stem} (bpm)" for path, _ in known), "right", "reliable", "reliable and right"]
    rows: list[list[str | int | float | None]] = [["known rate", *(bpm for _, bpm in known), None, None, None]]
    for name in sorted(ready_methods(), key=lambda name: name != "autohr"):
        method = load_method(name)
        rates: list[float | None] = []
        n_right = n_reliable = n_both = 0
        for path, bpm in known:
            try:
                face = measure(path, method).face
            except AutoHRError as refusal:
                print(f"{name}, {path.name}: {refusal}")
                rates.append(None)
                continue
            is_right = face.hr_bpm is not None and abs(face.hr_bpm - bpm) <= WITHIN_BPM
            rates.append(face.hr_bpm)
            n_right += is_right
            n_reliable += face.reliable
            n_both += is_right and face.reliable
        rows.append([METHODS[name].title, *rates, n_right, n_reliable, n_both])
        print(markdown_table(columns, rows[-1:], dict.fromkeys(columns[1:-3], ".1f")).splitlines()[-1])
    if options.out_result is not None:
        save_result(
            options.out_result,
            question=f"Which rates are read from {len(known)} videos of real faces whose rate is known?",
            values={"videos": len(known), "within_bpm": WITHIN_BPM},
            tables={"methods": {"columns": columns, "formats": dict.fromkeys(columns[1:-3], ".1f"), "rows": rows}},
        )


if __name__ == "__main__":
    main()
