"""Give the clips of the second world the form of a data set that ``autohr prepare folder`` reads.

    python benchmarks/search_second.py CLIPS OUT          CLIPS as made by benchmarks/real.py --make
    autohr prepare folder OUT --out second --size-px 80
    autohr table-cells CACHE --second second --out runs/cells.csv

Only clips whose pulse an oracle can read are taken. A photograph has the name that ``autohr synth`` gives the person on
it, so that ``table-cells`` sees who was learned from.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from pathlib import Path

from autohr.files import make_folder, write_text
from second_world import read_clips


def write_dataset(clips: Path, out: Path) -> int:
    """Copy the readable clips to ``out`` beside a rates.csv, and return their number."""
    make_folder(out)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["video", "hr_bpm", "subject"])
    chosen = [clip for clip in read_clips(clips) if clip.pulse and clip.readable and clip.hr_bpm is not None]
    for clip in chosen:
        name = Path(clip.source).stem
        subject = f"portrait_{name}" if clip.kind == "portrait" else name
        rows.writerow([clip.video, f"{clip.hr_bpm:.3f}", subject])
        if not (out / clip.video).exists():
            shutil.copyfile(clips / clip.video, out / clip.video)
    write_text(out / "rates.csv", text.getvalue())
    return len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(f"{write_dataset(options.clips, options.out)} clips in {options.out}")


if __name__ == "__main__":
    main()
