"""A table of cells: random and named ones, each trained by one budget, so that strategies can be replayed on it.

    autohr table-cells CACHE --out cells.csv --workers 2

One line of the CSV is one training (cell, seed, steps). Lines are only ever added, each when its training has ended,
and the file is replaced whole: the command may be killed at any moment and goes on by itself. Machines share the work
by ``--shard 0/3`` and so on, each with a file of its own; ``--merge`` takes their lines over.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autohr.errors import AutoHRError, BadRecording
from autohr.files import locked, make_folder, read_json_object, write_bytes
from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import CachedRecording, open_cached
from autohr.lab.nets._genotype import GENOTYPES, SPACE, Cell, Edge, Genotype
from autohr.lab.recipes.parsing import parse_as
from autohr.lab.search.cells import CellConfig, make_pack, read_pack, train_cell
from autohr.lab.search.space import cost_of, measure_costs, random_genotype
from autohr.workers import in_workers

KEY = ("cell", "seed", "steps")
"""Columns that tell one training from another."""
SCORES = tuple(
    f"{part}_{name}"
    for part in ("val", "test", "second_val", "second_test")
    for name in ("loss", "mae_bpm", "within_5")
)
COLUMNS = (
    "cell", "seed", "steps", "settings", "genotype", "parameters", "gflop_per_s",
    "train_loss_10", "val_loss_10", "train_loss_30", "val_loss_30", "train_loss", *SCORES,
    "train_cpu_s", "cpu_s", "wall_s",
)  # fmt: skip
"""Columns of the CSV. ``settings`` is ``CellConfig.digest``; losses are of ``cells.Score``; gflop_per_s is the work for
a second of video; train_cpu_s the processor's time without the tests at the end."""
RANDOM_SEED = 22
"""Seed of the random cells: cell number i is the same in every table."""
BUDGETS = (1, 2, 4)
"""Multiples of the steps whose rankings are compared, on the first ``N_RANKED`` cells."""
N_RANKED = 10
N_SEEDED = 20
"""Cells that are trained with three seeds: the first ones."""

Row = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One training."""

    genotype: Genotype
    seed: int
    steps: int

    @property
    def key(self) -> tuple[str, int, int]:
        """Values of ``KEY``."""
        return self.genotype.name, self.seed, self.steps


# ---------------------------------------------------------------------------------------------------------------------
# Cells as text


def format_cell(cell: Cell) -> str:
    """Return a cell as one word: its nodes with "|" between them, edges with "+", each operation@source.

    Examples
    --------
    >>> format_cell(GENOTYPES["fig5_plausible_v2"].cells[0])
    'conv_3x1x1@1+conv_5x1x1@0|conv_5x1x1@1+tdc_3x3x3:0.2@2|conv_1x5x5@3+conv_1x5x5@2'
    """

    def one(edge: Edge) -> str:
        theta = "" if edge.theta is None else f":{edge.theta:g}"
        return f"{edge.op}{theta}@{edge.source}"

    return "|".join("+".join(map(one, node)) for node in cell)


def parse_cell(text: str) -> Cell:
    """Return the cell that ``format_cell`` wrote; ValueError for anything else."""

    def one(word: str) -> Edge:
        op, at, source = word.partition("@")
        name, colon, theta = op.partition(":")
        if not at:
            raise ValueError(f"{word!r} is not of the form operation@source, such as conv_3x1x1@1.")
        return Edge(name, int(source), float(theta) if colon else None)

    return tuple(tuple(map(one, node.split("+"))) for node in text.split("|"))


def random_cells(n: int) -> list[Genotype]:
    """Return the first ``n`` random cells of all tables, no two alike and none that has a name."""
    rng = np.random.default_rng(RANDOM_SEED)
    taken, drawn = {genotype.cells for genotype in GENOTYPES.values()}, list[Genotype]()
    while len(drawn) < n:
        genotype = random_genotype(SPACE, "shared", rng, f"random_{len(drawn):03d}")
        if genotype.cells not in taken:
            taken.add(genotype.cells)
            drawn.append(genotype)
    return drawn


# ---------------------------------------------------------------------------------------------------------------------
# Jobs


def plan(n_random: int, steps: int, extra: Sequence[Genotype] = ()) -> list[Job]:
    """Return all trainings of a table, those first that a part of a table needs most.

    First ``extra`` cells (found by searches) and the first ten, which include those with names, with one seed. Then by
    turns: two random cells, a further seed of one of the first twenty, one of the first ten at 2x the steps; likewise
    with 4x the steps; then whatever is left.
    """
    cells = [*GENOTYPES.values(), *random_cells(n_random)]
    once = [Job(cell, 0, steps) for cell in cells]
    longer = [Job(cell, 0, steps * times) for times in BUDGETS[1:] for cell in cells[:N_RANKED]]
    seeded = [Job(cell, seed, steps) for cell in cells[:N_SEEDED] for seed in (1, 2)]
    further = once[N_RANKED:]
    turns = itertools.zip_longest(further[::2], further[1::2], seeded, longer)
    return [
        *(Job(cell, 0, steps) for cell in extra),
        *once[:N_RANKED],
        *(job for turn in turns for job in turn if job is not None),
    ]


def read_rows(path: Path, settings: str | None = None) -> list[Row]:
    """Return the lines of a table; those of other settings are left out, and a line that a kill cut short too.

    Raises AutoHRError where the file is no table of cells.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            columns, *rows = csv.reader(lines)
    except (OSError, ValueError) as error:
        raise AutoHRError(f"{str(path)!r} is not a table of cells ({error}). Name another file.") from None
    if not set(KEY) <= set(columns):
        raise AutoHRError(
            f"{str(path)!r} is not a table of cells: it has no column {', '.join(sorted(set(KEY) - set(columns)))}. "
            "Name another file."
        )
    whole = [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]
    return [row for row in whole if settings is None or row["settings"] == settings]


def key_of(row: Row) -> tuple[str, int, int]:
    """Return the values of ``KEY`` of a line."""
    return row["cell"], int(row["seed"]), int(row["steps"])


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add lines to a table, all or none; a file that is new gets its heading, one that ends amid a line a new line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="", extrasaction="ignore")
    before = path.read_bytes() if path.exists() else b""
    if not before:
        writer.writeheader()
    elif not before.endswith(b"\n"):
        text.write("\n")
    writer.writerows(rows)
    make_folder(path.parent)
    write_bytes(path, before + text.getvalue().encode())


def place(rows: Sequence[Row], cell: str) -> tuple[int, int]:
    """Return the place of a cell by its test loss among it and the random cells of one seed and the least steps.

    Raises AutoHRError where the table does not have the cell.
    """
    least = min((int(row["steps"]) for row in rows), default=0)
    losses = {row["cell"]: float(row["test_loss"]) for row in rows if key_of(row)[1:] == (0, least)}
    if cell not in losses:
        raise AutoHRError(f"The table has no training of {cell!r} yet; run autohr table-cells with its --cell.")
    others = [loss for name, loss in losses.items() if name.startswith("random_") and name != cell]
    return 1 + sum(loss < losses[cell] for loss in others), 1 + len(others)


def merge(path: Path, others: Sequence[Path]) -> int:
    """Take the lines of other tables that ``path`` lacks over into it, and return their number."""
    with locked(path.with_suffix(".lock"), f"{str(path)!r} is being written by another process; wait for it."):
        there, taken = {(row["settings"], *key_of(row)) for row in read_rows(path)}, list[Row]()
        for row in itertools.chain(*map(read_rows, others)):
            key = (row["settings"], *key_of(row))
            if key not in there:
                there.add(key)
                taken.append(row)
        append_rows(path, taken)
    return len(taken)


# ---------------------------------------------------------------------------------------------------------------------
# The experiment


def make_table(
    caches: Sequence[Path],
    out: Path,
    *,
    second: Path | None = None,
    config: CellConfig | None = None,
    n_random: int = 100,
    extra: Sequence[Genotype] = (),
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] | None = None,
) -> list[Row]:
    """Train every cell that the table ``out`` lacks, and return the table's lines.

    Parameters
    ----------
    caches
        Folders that ``autohr prepare`` wrote to, recordings of the first world.
    second
        Such a folder of another world, whose recordings need a rate alone.
    extra
        Further cells, trained before all others.
    shard
        (i, n): make every n-th training, beginning with number i, and leave the others to other machines.

    Raises
    ------
    AutoHRError
        Another process writes this table, or ``out`` is not one.
    BadRecording
        Nothing was prepared in a cache.
    """
    say, config = say or (lambda line: None), config or CellConfig()
    folder = out.parent / f"{out.stem}.clips"
    with locked(out.with_suffix(".lock"), f"{str(out)!r} is being written by another process; give another --out."):
        there = {key_of(row) for row in read_rows(out, config.digest)}
        jobs = [job for job in plan(n_random, config.steps, extra)[shard[0] :: shard[1]] if job.key not in there]
        if jobs:
            say(f"{len(there)} trainings are there, {len(jobs)} to be made; clips in {str(folder)!r}")
            recordings = [one for cache in caches for one in open_any(cache)]
            make_pack(recordings, open_any(second) if second else [], config, folder)
        work = functools.partial(_train, config=config, folder=folder)
        for number, (_, row) in enumerate(in_workers(work, jobs, workers), 1):
            append_rows(out, [row])
            say(
                f"{number} of {len(jobs)}: {row['cell']} seed {row['seed']}, {row['steps']} steps: loss "
                f"{float(row['val_loss']):.2f}, error {float(row['val_mae_bpm']):.1f} bpm, {float(row['cpu_s']):.0f} s"
            )
    return read_rows(out, config.digest)


def open_any(cache: Path) -> list[CachedRecording]:
    """Return the recordings of a cache, whatever the settings of its crops; BadRecording where there are none."""
    recordings: list[CachedRecording] = []
    for path in sorted(cache.glob("*/config.json")):
        crop = parse_as(CropConfig, read_json_object(path, "crop")["crop"], str(path))
        recordings += open_cached(cache, crop)
    if not recordings:
        raise BadRecording(f"{str(cache)!r} holds no prepared recordings. Make them with autohr prepare.")
    return recordings


def _train(job: Job, *, config: CellConfig, folder: Path) -> Row:
    """Make one line of the table."""
    torch.set_num_threads(1)
    pack = read_pack(folder / f"pack-{config.digest}")
    found = train_cell(job.genotype, pack, config, seed=job.seed, steps=job.steps)
    head = dict(zip(KEY, job.key, strict=True)) | {
        "settings": config.digest,
        "genotype": format_cell(job.genotype.cells[0]),
        "parameters": round(cell_cost(job.genotype, config)["parameters"]),
        "gflop_per_s": f"{cell_cost(job.genotype, config)['gflop_per_s']:.5g}",
    }
    return {name: str(value) for name, value in head.items()} | {name: f"{value:.5g}" for name, value in found.items()}


def cell_cost(genotype: Genotype, config: CellConfig) -> dict[str, float]:
    """Return the costs (``space.METRICS``) of the network of a row."""
    return cost_of(genotype, measure_costs(config.space(), config.size_px, config.n_frames))
