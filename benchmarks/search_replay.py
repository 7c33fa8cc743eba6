"""Replay strategies of architecture search on a table of cells: which finds better cells at equal cost, by how much.

    autohr table-cells CACHE --second OTHER_CACHE --merge docs/search/cells.csv --out runs/cells.csv
    cp runs/cells.csv docs/search/
    python benchmarks/search_replay.py --proxies runs/cells.clips
    python benchmarks/search_replay.py --out-result docs/results/search_table.json --plot runs/regret.svg

The third line makes ``proxies.csv`` beside the table, the last reads both tables. A strategy sees the
validation loss of the cells that it has paid for, and is judged by the test loss (other people) of the one that it
would give: regret is that loss minus the least of the table. Cost is counted in trainings of one cell by the table's
budget.

    random      cells in random order, the best so far
    halving     as many cells as the budget carries to 10 % of the steps, a third of them on to 30 %, a third of those
                to the end (the losses at 10 and 30 % are those of the same training)
    evolution   regularised evolution (Real et al., 2019): a child changes one edge; the nearest cell of the table that
                is not yet paid for stands for it
    predictor   ridge regression of the loss on the cell's operations and the proxies, after ``N_FIRST`` random cells;
                the cell of the least predicted loss comes next
    gradient    cells that a supernet gave (rows ``searched_*`` of the table), at the cost that their search had

Intervals are of 95 %, made by drawing the table's cells anew (``N_TABLES`` times) and replaying each strategy in
``N_ORDERS`` orders on each.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autohr.lab.nets._genotype import Edge
from autohr.lab.search.table import Row, parse_cell, read_rows
from results import markdown_table, save_result

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "search" / "cells.csv"
PROXIES = ROOT / "docs" / "search" / "proxies.csv"
SUPERNET = ROOT / "docs" / "search" / "supernet.csv"
SEARCHES = ROOT / "docs" / "search" / "searches.csv"
N_TABLES, N_ORDERS = 100, 10
N_FIRST = 5
N_BOOTSTRAP = 1000
EARLY = (0.1, 0.3)
"""Shares of the steps at which the table notes a loss."""
KEEP = 3
"""One cell in so many goes on to the next rung of successive halving."""
POPULATION, TOURNAMENT = 8, 3
RIDGE = 1.0
N_SHOWN = 12
"""Best cells that the page shows."""
JUDGED = "test_loss"
SEEN = "val_loss"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Cells with one training each, of one number of steps."""

    names: list[str]
    cells: list[tuple[tuple[Edge, ...], ...]]
    seen: Array
    """(N,) validation loss, by which strategies choose."""
    judged: Array
    """(N,) test loss."""
    early: Array
    """(2, N) validation loss at 10 and 30 % of the steps."""
    features: Array
    """(N, F) for the predictor."""
    distances: Array = field(repr=False)
    """(N, N) number of edges in which two cells differ."""

    def __len__(self) -> int:
        return len(self.names)

    def part(self, which: Sequence[int] | NDArray[np.int64]) -> Table:
        """Return some of the cells."""
        at = np.asarray(which)
        return Table(
            [self.names[i] for i in at], [self.cells[i] for i in at], self.seen[at], self.judged[at],
            self.early[:, at], self.features[at], self.distances[np.ix_(at, at)],
        )  # fmt: skip


def distance(one: tuple[tuple[Edge, ...], ...], other: tuple[tuple[Edge, ...], ...]) -> int:
    """Return the number of edges that one cell has and the other has not."""
    return sum(len(set(a) - set(b)) for a, b in zip(one, other, strict=True))


def features_of(cell: tuple[tuple[Edge, ...], ...]) -> list[float]:
    """Return what the predictor knows of a cell: how often each operation occurs, and how often each source."""
    edges = [edge for node in cell for edge in node]
    kinds = ("skip", "conv_3x3x3", "tdc_3x3x3", "conv_1x3x3", "conv_1x5x5", "conv_3x1x1", "conv_5x1x1")
    return [
        *(float(sum(edge.op == kind for edge in edges)) for kind in kinds),
        *(float(sum(edge.source == source for edge in edges)) for source in range(4)),
        float(sum(edge.theta == 1.0 for edge in edges)),
    ]


def make_table(rows: Sequence[Row], proxies: Mapping[str, Mapping[str, float]], judged: str = JUDGED) -> Table:
    """Return the table of the rows' cells; rows of one cell (seeds) must not be mixed in."""
    cells = [parse_cell(row["genotype"]) for row in rows]
    known = sorted({name for values in proxies.values() for name in values})
    features = [
        [
            *features_of(cell),
            np.log(float(row["parameters"])),
            float(row["gflop_per_s"]),
            *(proxies[row["cell"]][name] if row["cell"] in proxies else np.nan for name in known),
        ]
        for row, cell in zip(rows, cells, strict=True)
    ]
    table = np.array(features, dtype=np.float64)
    middle = np.nanmean(table, axis=0) if len(table) else 0.0
    table = np.where(np.isfinite(table), table, middle)
    spread = table.std(axis=0)
    return Table(
        [row["cell"] for row in rows],
        cells,
        np.array([float(row[SEEN]) for row in rows]),
        np.array([float(row[judged]) for row in rows]),
        np.array([[float(row[f"val_loss_{100 * share:.0f}"]) for row in rows] for share in EARLY]),
        (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1),
        np.array([[distance(a, b) for b in cells] for a in cells], dtype=np.float64),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Statistics


def kendall(x: Array, y: Array) -> float:
    """Return Kendall's tau-b; 0 where one of both is constant."""
    dx, dy = (np.sign(v[:, None] - v[None, :]) for v in (np.asarray(x), np.asarray(y)))
    scale = np.sqrt(float((dx * dx).sum()) * float((dy * dy).sum()))
    return float((dx * dy).sum() / scale) if scale > 0 else 0.0


def interval(x: Array, y: Array, rng: np.random.Generator, n: int = N_BOOTSTRAP) -> tuple[float, float]:
    """Return the 95 % interval of Kendall's tau, cells drawn with replacement."""
    drawn = [kendall(x[at], y[at]) for at in rng.integers(len(x), size=(n, len(x)))]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def spread_of(rows: Sequence[Row], column: str) -> tuple[float, float, int]:
    """Return (SD between seeds of one cell, SD between cells' means corrected for it, number of cells with seeds)."""
    by_cell: dict[str, list[float]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], []).append(float(row[column]))
    groups = [np.array(values) for values in by_cell.values() if len(values) > 1]
    if not groups:
        return float("nan"), float("nan"), 0
    freedom = sum(len(group) - 1 for group in groups)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    means = np.array([group.mean() for group in groups])
    each = float(np.mean([len(group) for group in groups]))
    between = max(0.0, float(means.var(ddof=1)) - within / each) if len(groups) > 1 else float("nan")
    return float(np.sqrt(within)), float(np.sqrt(between)), len(groups)


# ---------------------------------------------------------------------------------------------------------------------
# Strategies: each returns [(cost so far, number of the cell it would give)], the cost rising


Path_ = list[tuple[float, int]]


def _best_so_far(table: Table, order: Sequence[int]) -> Path_:
    """Return the path of a strategy that trains these cells to the end, one after the other."""
    best, path = order[0], Path_()
    for cost, i in enumerate(order, 1):
        best = i if table.seen[i] < table.seen[best] else best
        path.append((float(cost), best))
    return path


def random_search(table: Table, budget: float, rng: np.random.Generator) -> Path_:
    """Train cells in random order."""
    return _best_so_far(table, list(rng.permutation(len(table))[: max(1, int(budget))]))


def halving(table: Table, budget: float, rng: np.random.Generator) -> Path_:
    """Run successive halving with as many cells as the budget carries; more budget, more brackets of all cells."""
    per_cell = EARLY[0] + (EARLY[1] - EARLY[0]) / KEEP + (1 - EARLY[1]) / KEEP**2
    n = min(len(table), max(1, int(budget / per_cell)))
    drawn = rng.permutation(len(table))[:n]
    first = drawn[np.argsort(table.early[0, drawn])][: max(1, round(n / KEEP))]
    ranked = first[np.argsort(table.early[1, first])]
    spent = EARLY[0] * n + (EARLY[1] - EARLY[0]) * len(first)
    # What is left of the budget trains the best of the last rung, at least one of them.
    m = int(min(len(ranked), max(1, (budget - spent) / (1 - EARLY[1]))))
    finished = ranked[:m]
    best = int(finished[np.argmin(table.seen[finished])])
    return [(min(budget, spent + (1 - EARLY[1]) * m), best)]


def evolution(table: Table, budget: float, rng: np.random.Generator) -> Path_:
    """Run regularised evolution among the table's cells."""
    n = min(len(table), max(1, int(budget)))
    order = list(rng.permutation(len(table))[: min(POPULATION, n)])
    population = list(order)
    while len(order) < n:
        drawn = rng.choice(population, min(TOURNAMENT, len(population)), replace=False)
        parent = int(min(drawn, key=lambda i: table.seen[i]))
        free = np.setdiff1d(np.arange(len(table)), order)
        near = table.distances[parent, free] + 1e-3 * rng.uniform(size=len(free))
        child = int(free[np.argmin(near)])
        order.append(child)
        population = [*population[-(POPULATION - 1) :], child]
    return _best_so_far(table, order)


def predictor(table: Table, budget: float, rng: np.random.Generator) -> Path_:
    """Train the cell of least predicted loss, again and again."""
    n = min(len(table), max(1, int(budget)))
    order = list(rng.permutation(len(table))[: min(N_FIRST, n)])
    while len(order) < n:
        x, y = table.features[order], table.seen[order]
        centre, level = x.mean(axis=0), y.mean()
        away = x - centre
        weights = np.linalg.solve(away.T @ away + RIDGE * np.eye(x.shape[1]), away.T @ (y - level))
        free = np.setdiff1d(np.arange(len(table)), order)
        order.append(int(free[np.argmin((table.features[free] - centre) @ weights)]))
    return _best_so_far(table, order)


STRATEGIES: dict[str, Callable[[Table, float, np.random.Generator], Path_]] = {
    "random": random_search,
    "halving": halving,
    "evolution": evolution,
    "predictor": predictor,
}


def regrets(table: Table, strategy: str, budgets: Sequence[float], rng: np.random.Generator) -> Array:
    """Return the regret (len(budgets),) of one replay of a strategy at each budget."""
    least = table.judged.min()
    search = STRATEGIES[strategy]
    return np.array([table.judged[search(table, budget, rng)[-1][1]] - least for budget in budgets])


def replay(
    table: Table, budgets: Sequence[float], n_tables: int = N_TABLES, n_orders: int = N_ORDERS, seed: int = 0
) -> dict[str, Array]:
    """Return the mean regrets of each strategy on every drawn table, (n_tables, len(budgets))."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Array]] = {name: [] for name in STRATEGIES}
    for _ in range(n_tables):
        part = table.part(np.unique(rng.integers(len(table), size=len(table))))
        for name in STRATEGIES:
            found[name].append(np.mean([regrets(part, name, budgets, rng) for _ in range(n_orders)], axis=0))
    return {name: np.array(values) for name, values in found.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Tables and the picture


def proxy_rows(rows: Sequence[Row], proxies: Mapping[str, Mapping[str, float]]) -> list[list[Any]]:
    """Return a row for each proxy: tau with the test losses of both worlds, with intervals; best first.

    Signs are such that a positive tau means: the larger proxy (the smaller loss) belongs to the better cell.
    """
    rng = np.random.default_rng(0)
    values: dict[str, Array] = {
        "parameters": np.array([float(row["parameters"]) for row in rows]),
        "FLOPs": np.array([float(row["gflop_per_s"]) for row in rows]),
        "training loss at 10 %": -np.array([float(row["train_loss_10"]) for row in rows]),
        "validation loss at 10 %": -np.array([float(row["val_loss_10"]) for row in rows]),
        "validation loss at 30 %": -np.array([float(row["val_loss_30"]) for row in rows]),
        "validation loss at the end": -np.array([float(row["val_loss"]) for row in rows]),
    }
    for name in sorted({name for found in proxies.values() for name in found}):
        # A proxy that is known of some cells only would be compared on other cells than the rest.
        if all(name in proxies.get(row["cell"], {}) for row in rows):
            values[name] = np.array([proxies[row["cell"]][name] for row in rows])
    table = []
    for name, proxy in values.items():
        line: list[Any] = [name]
        for column in (JUDGED, "second_test_loss"):
            if not all(row.get(column) for row in rows):
                line += [None, None]
                continue
            truth = -np.array([float(row[column]) for row in rows])
            low, high = interval(proxy, truth, rng)
            line += [kendall(proxy, truth), f"{low:.2f} to {high:.2f}"]
        table.append(line)
    return sorted(table, key=lambda line: -line[1])


def budget_rows(rows: Sequence[Row]) -> list[list[Any]]:
    """Return a row for each pair of budgets: on how many cells, and tau between their rankings, for each column."""
    rng = np.random.default_rng(0)
    by_steps: dict[int, dict[str, Row]] = {}
    for row in rows:
        if row["seed"] == "0":
            by_steps.setdefault(int(row["steps"]), {})[row["cell"]] = row
    least = min(by_steps)
    table = []
    for steps in sorted(by_steps):
        common = sorted(set(by_steps[least]) & set(by_steps[steps]))
        if steps == least or len(common) < 4:
            continue
        line: list[Any] = [f"1x and {steps / least:g}x", len(common)]
        for column in (SEEN, JUDGED):
            one, other = (np.array([float(by_steps[n][cell][column]) for cell in common]) for n in (least, steps))
            low, high = interval(one, other, rng)
            line += [kendall(one, other), f"{low:.2f} to {high:.2f}"]
        table.append(line)
    return table


def noise_rows(rows: Sequence[Row]) -> list[list[Any]]:
    """Return a row for each score: SD between seeds and between cells, of the cells with several seeds."""
    table = []
    for column in ("val_loss", "test_loss", "test_mae_bpm", "second_test_loss", "second_test_mae_bpm"):
        having = [row for row in rows if row.get(column)]
        within, between, n = spread_of(having, column)
        if n:
            table.append([column, n, within, between])
    return table


def draw(curves: Mapping[str, Array], budgets: Sequence[float], path: Path) -> None:
    """Draw the regret curves with their bands."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "autohr"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    for name, values in curves.items():
        low, high = np.percentile(values, (2.5, 97.5), axis=0)
        (line,) = axes.plot(budgets, values.mean(axis=0), label=name)
        axes.fill_between(budgets, low, high, alpha=0.12, color=line.get_color())
    axes.set(xlabel="cost, in trainings of one cell", ylabel="regret in test loss", ylim=(0, None))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def read_proxies(path: Path) -> dict[str, dict[str, float]]:
    """Return cell -> proxy -> value; empty where there is no such file."""
    return {row.pop("cell"): {k: float(v) for k, v in row.items()} for row in read_csv(path)}


def read_supernet(path: Path) -> dict[str, dict[str, float]]:
    """Return cell -> supernet -> minus its loss with that cell."""
    found: dict[str, dict[str, float]] = {}
    for row in read_csv(path):
        found.setdefault(row["cell"], {})[f"supernet {row['supernet']}"] = -float(row["loss"])
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def gradient_rows(
    searches: Sequence[Mapping[str, str]],
    rows: Sequence[Row],
    curves: Mapping[str, Array],
    budgets: Sequence[float],
    table: Table,
) -> list[list[Any]]:
    """Return a row for each cell that a gradient search gave and the table has: its cost, loss and place.

    The place is among the random cells; the last column is the regret that successive halving has at the same cost.
    """
    by_cell = {row["cell"]: row for row in rows}
    unit_s = float(np.mean([float(row["train_cpu_s"]) for row in rows]))
    table_rows = []
    for one in searches:
        row = by_cell.get(one["cell"])
        if row is None:
            continue
        # Its own training is paid for too.
        cost, loss = float(one["cpu_s"]) / unit_s + 1, float(row[JUDGED])
        halving_regret = float(np.interp(cost, budgets, curves["halving"].mean(axis=0)))
        entropy = f"{float(one['entropy_ops']):.2f} / {float(one['entropy_edges']):.2f}"
        place = f"{1 + int((table.judged < loss).sum())} of {len(table) + 1}"
        regret = loss - float(table.judged.min())
        table_rows.append([one["cell"], entropy, cost, loss, float(row["test_mae_bpm"]), place, regret, halving_regret])
    return table_rows


def write_proxies(rows: Sequence[Row], folder: Path, path: Path) -> None:
    """Compute the proxies of the cells that ``path`` lacks, one line at a time."""
    from autohr.lab.nets._genotype import Genotype
    from autohr.lab.search.cells import CellConfig, read_pack
    from autohr.lab.search.proxies import proxies

    config = CellConfig()
    pack = read_pack(folder / f"pack-{config.digest}")
    known = read_proxies(path)
    for row in rows:
        if row["cell"] in known:
            continue
        genotype = Genotype(row["cell"], "shared", (parse_cell(row["genotype"]),), "")
        values = proxies(genotype, pack["train"], config)
        known[row["cell"]] = values
        is_new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if is_new:
                writer.writerow(["cell", *values])
            writer.writerow([row["cell"], *(f"{value:.6g}" for value in values.values())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--proxies", type=Path, metavar="CLIPS", help="compute the proxies with these clips, and stop")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out-result", type=Path)
    options = parser.parse_args()
    rows = read_rows(options.table)
    least = min(int(row["steps"]) for row in rows)
    plain = [row for row in rows if int(row["steps"]) == least]
    first = [row for row in plain if row["seed"] == "0"]
    chance = [row for row in first if re.match("random_", row["cell"])]
    if options.proxies:
        write_proxies(first, options.proxies, PROXIES)
        return
    known, supernets = read_proxies(PROXIES), read_supernet(SUPERNET)
    table = make_table(chance, known)
    budgets = [b for b in (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30) if b <= len(table) / 2]
    curves = replay(table, budgets)
    tables: dict[str, Any] = {
        "noise": {
            "columns": ["score", "cells", "SD between seeds", "SD between cells"],
            "formats": {"SD between seeds": ".3f", "SD between cells": ".3f"},
            "rows": noise_rows(plain),
        },
        "budgets": {
            "columns": ["budgets", "cells", "tau, validation", "95 %", "tau, test", "95 % "],
            "formats": {"tau, validation": ".2f", "tau, test": ".2f"},
            "rows": budget_rows(rows),
        },
        "proxies": {
            "columns": ["proxy", "tau", "95 %", "tau, second world", "95 % "],
            "formats": {"tau": ".2f", "tau, second world": ".2f"},
            "rows": proxy_rows(
                chance,
                {cell: known.get(cell, {}) | supernets.get(cell, {}) for cell in {*known, *supernets}},
            ),
        },
    }
    lines: list[list[Any]] = []
    for budget, column in zip(budgets, range(len(budgets)), strict=True):
        line: list[Any] = [budget]
        for name in STRATEGIES:
            line.append(float(curves[name][:, column].mean()))
        for name in STRATEGIES:
            if name != "halving":
                low, high = np.percentile(curves[name][:, column] - curves["halving"][:, column], (2.5, 97.5))
                line.append(f"{low:+.2f} to {high:+.2f}")
        lines.append(line)
    others = [f"{name} - halving, 95 %" for name in STRATEGIES if name != "halving"]
    tables["regret"] = {
        "columns": ["cost", *STRATEGIES, *others],
        "formats": dict.fromkeys(STRATEGIES, ".3f"),
        "rows": lines,
    }
    order = np.argsort([float(row[JUDGED]) for row in first])
    tables["best"] = {
        "columns": ["cell", "parameters", "GFLOP/s", "validation loss", "test loss", "test MAE", "second world MAE"],
        "formats": {
            "parameters": ",d", "GFLOP/s": ".3f", "validation loss": ".2f", "test loss": ".2f", "test MAE": ".1f",
            "second world MAE": ".1f",
        },
        "rows": [
            [
                row["cell"], int(row["parameters"]), float(row["gflop_per_s"]), float(row["val_loss"]),
                float(row["test_loss"]), float(row["test_mae_bpm"]), float(row["second_test_mae_bpm"] or "nan"),
            ]
            for row in (first[i] for i in order[:N_SHOWN])
        ],
    }  # fmt: skip
    tables["gradient"] = {
        "columns": ["cell", "entropy", "cost", "test loss", "test MAE", "place", "regret", "halving's regret"],
        "formats": {"cost": ".1f", "test loss": ".2f", "test MAE": ".1f", "regret": ".2f", "halving's regret": ".2f"},
        "rows": gradient_rows(read_csv(SEARCHES), first, curves, budgets, table),
    }
    for name, one in tables.items():
        print(f"{name}\n{markdown_table(**one)}\n")
    if options.plot:
        draw(curves, budgets, options.plot)
    if options.out_result:
        values = {
            "rows": len(rows),
            "cells": len(first),
            "random cells": len(chance),
            "steps": least,
            "minutes": float(sum(float(row["cpu_s"]) for row in rows)) / 60,
            "best": float(table.judged.min()),
            "mean": float(table.judged.mean()),
            "sd": float(table.judged.std(ddof=1)),
        }
        save_result(
            options.out_result,
            question="Which strategy finds better cells at equal cost, and by how much?",
            values=values,
            tables=tables,
        )


if __name__ == "__main__":
    main()
