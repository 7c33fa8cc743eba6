"""iBVP (Joshi and Cho 2024): 31 people, 4 conditions of 3 minutes, RGB beside thermal pictures, a pulse from the ear.

    ROOT/p01_a/p01_a_rgb/*.bmp      640x480, 30 a second, in the order of their names
               p01_a_t/*.raw        thermal, not read (uint16 640x512; degrees Celsius are 0.04 v - 273.15)
               p01_a_bvp.csv        header BVP,SQPhysMD,SQ1,SQ2,Perfusion_Value; one line for each picture
    ROOT/Confidential_No-media-use/p08_a/...      people who agreed to less; as the archive unpacks

Conditions: a slow breathing and rest, b easy arithmetic, c hard arithmetic, d head movement.

Access: University College London (J. Joshi, Y. Cho); licence signed by an academic supervisor.

Clocks. 30 frames per second, the wave one value for each; neither has a clock of its own. No rate is recorded.

Where the annotators found the wave bad (SQ2 of 0.3 or less, the loaders' bound) it is unknown here and the segment
ends; rPPG-Toolbox cuts those frames out and joins what is left, which makes jumps.

Known defects. p08, p10, p13, p16, p29, p31 and p33 must not be shown. Which numbers up to p33 do not exist is not
published, so a person of whom nothing is here shows in the count alone; 124 recordings are 31 people.

Sources: the dataset's readme, which gives folders and columns; others' loaders (rPPG-Toolbox) for their order; names of
the pictures are not known.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import read_columns, read_lines
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing

FPS = 30.0
SCENARIOS = {"a": "rest", "b": "easy arithmetic", "c": "hard arithmetic", "d": "head movement"}
CONFIDENTIAL = "Confidential_No-media-use"
NO_MEDIA = ("p08", "p10", "p13", "p16", "p29", "p31", "p33")
N_RECORDINGS = 124
LEAST_QUALITY = 0.3
WAVE, QUALITY = 0, 3
"""Columns of the wave and of SQ2."""


def list_recordings(root: Path) -> Listing:
    """List the four conditions of every person of whom there is anything.

    Raises
    ------
    BadRecording
        It is not iBVP.
    """
    pattern = r"(p\d\d)_[abcd]"

    def people(folder: Path) -> set[str]:
        return {match[1] for match, path in matching(folder, pattern) if path.is_dir()}

    home = find_home(root, "iBVP", "folder such as 'p01_a'", lambda folder: bool(people(folder)), ("iBVP_Dataset",))
    homes = [folder for folder in (home, home / CONFIDENTIAL) if folder.is_dir()]
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for subject in sorted(set().union(*map(people, homes))):
        for condition, scenario in SCENARIOS.items():
            name = f"{subject}_{condition}"
            folder = next((h / name for h in homes if (h / name).is_dir()), home / name)
            pictures = folder / f"{name}_rgb"
            if not pictures.is_dir() or next(pictures.glob("*.bmp"), None) is None:
                absent.append(missing(f"ibvp/{subject}/{condition}", pictures / "*.bmp"))
                continue
            recordings.append(
                Recording(
                    "ibvp",
                    subject,
                    condition,
                    pictures,
                    functools.partial(_read_wave, folder / f"{name}_bvp.csv"),
                    video_fps=FPS,
                    groups={"scenario": scenario},
                    notes=("This person's pictures must not be shown.",) if subject in NO_MEDIA else (),
                )
            )
    unseen = N_RECORDINGS - len(recordings) - len(absent)
    notes = (f"Nothing is here of {unseen // 4} of the 31 people; their numbers are not known.",) if unseen > 0 else ()
    return Listing(tuple(recordings), tuple(absent), notes)


def _read_wave(path: Path) -> Reference:
    header = [cell.strip() for cell in read_lines(path)[0].split(",")]
    if len(header) <= QUALITY or (header[WAVE].upper(), header[QUALITY].upper()) != ("BVP", "SQ2"):
        raise BadRecording(
            f"{str(path)!r}, line 1: the header is {','.join(header)[:80]!r}; "
            "its first column must be BVP and its fourth SQ2. This is another file, or its first line was cut off."
        )
    columns = read_columns(path, header, header=True)
    if len(columns) < 2:
        raise BadRecording(f"{str(path)!r} holds {len(columns)} sample; copy it again.")
    bvp = np.where(columns[:, QUALITY] > LEAST_QUALITY, columns[:, WAVE], np.nan)
    if np.isfinite(bvp).sum() < 2:
        raise BadRecording(f"The annotators found all of {str(path)!r} bad (SQ2); there is nothing to judge by.")
    unknown_s = float(np.isnan(bvp).sum()) / FPS
    notes = (f"{unknown_s:.1f} s of the wave left out: the annotators found it bad (SQ2).",) if unknown_s else ()
    return Reference(np.arange(len(bvp)) / FPS, bvp, None, notes)


SPEC = DatasetSpec(
    name="ibvp",
    title="iBVP",
    list_recordings=list_recordings,
    access="licence of University College London, signed by an academic supervisor",
    n_recordings=N_RECORDINGS,
    basis="readme and other people's loaders",
)
