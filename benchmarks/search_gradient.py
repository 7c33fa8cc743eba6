"""Search by gradient on the clips of a table of cells, and keep what it costs: cells for its rows ``searched_*``.

    python benchmarks/search_gradient.py CLIPS --out FOLDER --form pc_darts --seed 0    one search; repeat for others
    autohr table-cells CACHE --out runs/cells.csv --cell FOLDER/searched_pc_darts_0.json ...
    python benchmarks/search_gradient.py CLIPS --out FOLDER --form pc_darts --seed 0 --score    the supernet as a proxy

CLIPS is the folder beside the table that holds its clips (cells.clips/pack-...). The supernet has the size of the
table's networks; its weights learn from every second clip to learn from and its alphas from the others, so that neither
validation nor test has a part in it. Each search gives two cells: by its alphas, and by perturbation (DARTS-PT) of the
same supernet, at the cost of both. A line of ``searches.csv`` beside the table is a cell with the processor's time
that it cost, which ``search_replay.py`` turns into trainings of one cell by the table's ``train_cpu_s``. With
``--score`` the supernet of a search that has ended gives its loss with every cell of the table: ``supernet.csv``.

Forms: ``pc_darts`` has what the paper's search has, but for learning rates and length that fit the budget;
``beta_decay``, ``entropy`` and ``no_bypass`` mend one thing each, and ``mended`` all three.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from autohr.files import read_json, write_json
from autohr.lab.nets._genotype import Genotype, write_genotype
from autohr.lab.runs import create_run, open_run
from autohr.lab.search.cells import CellConfig, Clips, PackSource, batch_of, read_pack
from autohr.lab.search.optimiser import SearchConfig, search
from autohr.lab.search.selection import score_cell, select_by_perturbation
from autohr.lab.search.space import SearchNet, entropies, measure_costs
from autohr.lab.search.table import format_cell, parse_cell, read_rows
from autohr.lab.train.loop import print_progress
from autohr.lab.train.losses import LossConfig, overall_loss
from search_replay import SEARCHES, SUPERNET, TABLE

WEIGHTS = "supernet.safetensors"
COLUMNS = ("cell", "form", "select", "seed", "steps", "genotype", "entropy_ops", "entropy_edges", "cpu_s")
FORMS: dict[str, dict[str, Any]] = {
    "pc_darts": {},
    "beta_decay": {"beta_decay": 0.5},
    "entropy": {"entropy_weight": 1.0},
    "no_bypass": {"bypass_end": 0.0},
    "mended": {"beta_decay": 0.5, "entropy_weight": 1.0, "bypass_end": 0.0},
}
"""Form -> fields of ``SearchConfig``. Strengths are ours: at full strength each weighs about as much as the loss."""
PARTIAL = 4
EPOCHS, STEPS_PER_EPOCH, REST = 8, 30, 2
N_BATCHES = 4
"""Batches on which a supernet's loss is measured, of 16 clips each."""


def loss_on(net: SearchNet, clips: Clips, which: list[int]) -> float:
    """Return the loss of the supernet on clips, batch norms on the batch as in its training."""
    net.train()
    losses = []
    with torch.inference_mode():
        for first in range(0, len(which), 16):
            x, bvp, hr_bpm, fps = batch_of(clips, np.array(which[first : first + 16]))
            losses.append(float(overall_loss(net(x), bvp, hr_bpm, fps, LossConfig(variant="nll")).total))
    return float(np.mean(losses))


def search_once(pack: dict[str, Clips], config: CellConfig, form: str, seed: int, out: Path, steps: int) -> None:
    """Search, write both cells to ``out``, and add a line for each to ``SEARCHES``; goes on where it was stopped."""
    clips = pack["train"]
    of_weights, of_alphas = (list(range(first, len(clips), 2)) for first in (0, 1))
    settings = SearchConfig(
        epochs=EPOCHS, steps_per_epoch=steps, warmup_epochs=REST, batch_size=config.batch_size, lr=config.lr,
        schedule="cosine", alpha_lr=3e-2, collapse="warn", seed=seed, workers=0, checkpoint_every=20, **FORMS[form],
    )  # fmt: skip
    torch.manual_seed(seed)
    net = SearchNet(config.space(PARTIAL))
    name = f"{form}_{seed}"
    clock = out / name / "results" / "cpu.json"
    before_s = float(read_json(clock)["cpu_s"]) if clock.exists() else 0.0
    began_s = time.process_time() - before_s
    run = open_run(out / name) if (out / name).exists() else create_run(out / name, {})
    result = search(
        net,
        PackSource(clips, of_weights),
        PackSource(clips, of_alphas),
        settings,
        run,
        costs=measure_costs(net.space, config.size_px, config.n_frames),
        loss=LossConfig(variant="nll"),
        name=f"searched_{name}",
        origin=f"Found on the clips of a table of cells by benchmarks/search_gradient.py, form {form}, seed {seed}.",
        progress=print_progress,
    )
    searched_s = time.process_time() - began_s
    write_json(clock, {"cpu_s": searched_s})
    if result.genotype is None:
        raise SystemExit(f"Stopped by {result.stopped_by}; the same command goes on.")
    shown = of_alphas[: 16 * N_BATCHES]
    cells = select_by_perturbation(net, lambda: loss_on(net, clips, shown), np.random.default_rng(seed))
    both_s = time.process_time() - began_s
    origin = f"{result.genotype.origin} Selected by perturbation."
    perturbed = Genotype(f"searched_{name}_pt", "shared", cells, origin)
    # A copy each: safetensors refuses those of channels_last layout.
    save_file({key: value.contiguous().clone() for key, value in net.state_dict().items()}, out / name / WEIGHTS)
    entropy = entropies(net.alphas, net.betas)
    for genotype, select, cpu_s in ((result.genotype, "alphas", searched_s), (perturbed, "perturbation", both_s)):
        write_genotype(out / f"{genotype.name}.json", genotype)
        values = [f"{value:.4f}" for value in entropy]
        line = [genotype.name, form, select, seed, EPOCHS * steps, format_cell(genotype.cells[0]), *values]
        add_line(SEARCHES, COLUMNS, [*line, f"{cpu_s:.1f}"])
        print(f"{genotype.name}: {format_cell(genotype.cells[0])}, {cpu_s:.0f} s")


def add_line(path: Path, columns: Sequence[str], line: Sequence[Any]) -> None:
    """Add a line to a CSV file; a new one gets its heading."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([columns, line] if is_new else [line])


def score_table(pack: dict[str, Clips], config: CellConfig, name: str, out: Path) -> None:
    """Write the loss of a supernet with each cell of the table to ``SUPERNET``, but for those that it has."""
    net = SearchNet(config.space(PARTIAL))
    net.load_state_dict(load_file(out / name / WEIGHTS))
    net.passing = FORMS[name.rpartition("_")[0]].get("bypass_end", 1.0)
    shown = list(range(1, len(pack["train"]), 2))[-16 * N_BATCHES :]
    known = set()
    if SUPERNET.exists():
        with SUPERNET.open(encoding="utf-8", newline="") as lines:
            known = {(row["cell"], row["supernet"]) for row in csv.DictReader(lines)}
    for cell, word in {row["cell"]: row["genotype"] for row in read_rows(TABLE, config.digest)}.items():
        if (cell, name) not in known:
            genotype = Genotype(cell, "shared", (parse_cell(word),), "")
            loss = score_cell(net, genotype, lambda: loss_on(net, pack["train"], shown))
            add_line(SUPERNET, ("cell", "supernet", "loss"), [cell, name, f"{loss:.5g}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--form", choices=FORMS, default="pc_darts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS_PER_EPOCH, help=f"steps of an epoch, of which {EPOCHS}")
    parser.add_argument("--score", action="store_true", help="score the table's cells with the supernet that was found")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pack, config = read_pack(options.clips), CellConfig()
    if options.score:
        score_table(pack, config, f"{options.form}_{options.seed}", options.out)
    else:
        search_once(pack, config, options.form, options.seed, options.out, options.steps)


if __name__ == "__main__":
    main()
