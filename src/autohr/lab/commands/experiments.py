"""``autohr table``, ``ablate``, ``compare-methods``, ``compare-cells``, ``table-cells``: experiments of all kinds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from autohr.cli.options import completing, method_names
from autohr.cli.output import Count, print_progress, print_text
from autohr.cli.outputs import check_writable
from autohr.lab.commands.options import (
    ClusterOption,
    FormatOption,
    OnlyMethodOption,
    RecipesOption,
    SetOption,
    SideBySideOption,
    VerifyOption,
    WorkersOption,
    raise_failures,
    recipe_names,
    scoring_names,
    verified,
)

Panel = Literal["loss", "theta", "nas", "augmentation"]
"""Panels of Fig. 4 of the AutoHR paper."""

TableName = Literal["1", "2", "3", "mcd", "mcd-vipl", "mcd-mmse", "mcd-ubfc", "mcd-pure"]
"""Tables of ``experiments.tables``."""


def table(
    name: Annotated[
        TableName,
        typer.Argument(
            metavar="1|2|3|mcd...", help="Table of the AutoHR paper; or of MCD-rPPG, also as training data."
        ),
    ],
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluation to print; repeatable. Default: those in OUT.", show_default=False),
    ] = None,
    make: Annotated[
        bool, typer.Option("--make", help="Train and evaluate first what is missing. Continues if repeated.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of --make. Default: runs/tableN, runs/table_mcd.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder that `autohr prepare` wrote to.")] = Path("cache"),
    recipes: RecipesOption = None,
    overrides: SetOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--method", help="Make only this row; repeatable.", autocompletion=completing(method_names)),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Scoring. Default: the table's own.", autocompletion=completing(scoring_names)),
    ] = None,
    verify: VerifyOption = False,
    workers: SideBySideOption = None,
    cluster: ClusterOption = None,
    form: FormatOption = "text",
) -> None:
    """Print a table of the paper with the results measured here beside it. Rows that cannot be made say why.

    mcd is MCD-rPPG by five folds; mcd-vipl, mcd-mmse, mcd-ubfc and mcd-pure test nets that were trained on all of it.
    """
    from autohr.lab.evaluate.tables import render_sheet
    from autohr.lab.experiments.tables import default_folder, evaluation_folder, make_table, table_sheet, why_not

    number = int(name) if name in ("1", "2", "3") else name
    if runs and make:
        raise typer.BadParameter("--make writes into --out; give --runs without it.", param_hint="--runs")
    if verify and not make:
        raise typer.BadParameter("Only --make reads the cache; leave it out, or add --make.", param_hint="--verify")
    folder = out or default_folder(number)
    why: dict[str, str] = {}
    if make:
        with verified(verify):
            why = make_table(
                number,
                folder,
                cache=cache,
                recipes=recipes,
                overrides=overrides or (),
                only=only or (),
                workers=workers or 1,
                cluster=cluster,
                say=print_progress,
            )
    found = runs or [path for path in [evaluation_folder(folder, number)] if path.exists()]
    print_text(render_sheet(table_sheet(number, found, why=why, preset=preset), form))
    raise_failures("row", {row: reason for row, reason in why.items() if why_not(number, row) is None})


def ablate(
    name: Annotated[Panel, typer.Argument(help="Panel of Fig. 4 of the AutoHR paper.")],
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe in place of the panel's own, of the same network.",
            show_default=False,
            autocompletion=completing(lambda: recipe_names("train")),
        ),
    ] = None,
    recipes: RecipesOption = None,
    overrides: SetOption = None,
    search_recipe: Annotated[
        Path | None,
        typer.Option(
            help="For nas: recipe of the searches in place of its own.",
            show_default=False,
            autocompletion=completing(lambda: recipe_names("search")),
        ),
    ] = None,
    search_overrides: Annotated[
        list[str] | None,
        typer.Option("--search-set", metavar="KEY=VALUE", help="For nas: change one field of the searches' recipe."),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="A small version on prepared synthetic recordings, not the paper's."),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--bar", help="Run only this bar, as in 0.2 or da1; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs. Default: runs/ablate_NAME.")] = None,
    verify: VerifyOption = False,
    workers: SideBySideOption = None,
    cluster: ClusterOption = None,
    form: FormatOption = "text",
) -> None:
    """Train and test every bar of Fig. 4 (a) to (d), and draw it beside the paper's. Continues if repeated.

    The bars of nas need searched cells; where none is shipped, the search is run first.
    """
    from autohr.files import make_folder, write_text
    from autohr.lab.evaluate.tables import render_sheet
    from autohr.lab.experiments.ablations import NOT_ASKED, ablation_sheet
    from autohr.lab.experiments.ablations import ablate as run_ablation
    from autohr.lab.reports.ablation import ablation_svg, render_ablation_page

    folder = out or Path("runs") / f"ablate_{name}{'_synthetic' if synthetic else ''}"
    check_writable(folder / "ablation.json", "--out")
    make_folder(folder)
    with verified(verify):
        result = run_ablation(
            name,
            folder,
            recipes=recipes,
            recipe=recipe,
            overrides=overrides or (),
            search_recipe=search_recipe,
            search_overrides=search_overrides or (),
            synthetic=synthetic,
            only=only or (),
            workers=workers or 1,
            cluster=cluster,
            say=print_progress,
        )
    write_text(folder / "ablation.svg", ablation_svg(folder))
    write_text(folder / "ablation.html", render_ablation_page(folder, made_at=time.strftime("%Y-%m-%d %H:%M")))
    print_text(render_sheet(ablation_sheet(result), form))
    print_progress(f"Picture: {folder / 'ablation.svg'}   (page {folder / 'ablation.html'})")
    raise_failures("bar", {bar.key: bar.why_not for bar in result.bars if bar.why_not not in (None, NOT_ASKED)})


def compare_methods(
    root: Annotated[
        Path, typer.Argument(help="Folder of synthetic recordings to test on.", exists=True, file_okay=False)
    ],
    train_cache: Annotated[
        Path, typer.Option(help="Folder that `autohr prepare` wrote to: recordings of other people, to train on.")
    ] = Path("cache"),
    out: Annotated[Path, typer.Option(help="Folder of all trainings, results and costs.")] = Path("runs/equal"),
    test_cache: Annotated[
        Path | None, typer.Option(help="Folder of the test's crops. Default: OUT/cache.", show_default=False)
    ] = None,
    recipes: RecipesOption = None,
    overrides: SetOption = None,
    only: OnlyMethodOption = None,
    workers: WorkersOption = None,
    verify: VerifyOption = False,
    cluster: ClusterOption = None,
    form: FormatOption = "text",
) -> None:
    """Train every network with one budget, judge all methods on new people, and print accuracy and cost of each.

    Continues if repeated. The tables are also written to OUT/results/standings.md.
    """
    from autohr.lab.evaluate.tables import render_sheet
    from autohr.lab.experiments.standings import PAGE
    from autohr.lab.experiments.standings import compare_methods as run_comparison

    check_writable(out / "results" / PAGE)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    counts: dict[str, Count] = {}
    failed: dict[str, str] = {}
    with verified(verify):
        sheets = run_comparison(
            root,
            out,
            train_cache=train_cache,
            test_cache=test_cache,
            recipes=recipes,
            overrides=overrides or (),
            only=only or (),
            workers=workers,
            cluster=cluster,
            judging=lambda label, done, total, _: counts.setdefault(label, Count(f"Asking {label}"))(done, total),
            failing=failed.__setitem__,
            say=print_progress,
        )
    for sheet in sheets:
        print_text(render_sheet(sheet, form) + "\n")
    print_progress(f"Tables: {out / 'results' / PAGE}   (page: autohr report {out / 'evaluation'})")
    raise_failures("method", failed)


def compare_cells(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CELL...]",
            help="Run folders of searches, names such as fig5_plausible_v2, or genotype files.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path,
        typer.Option(
            help="Recipe by which every cell is trained; its net is autohr.",
            autocompletion=completing(lambda: recipe_names("train")),
        ),
    ] = Path("equal_autohr"),
    overrides: SetOption = None,
    random: Annotated[int, typer.Option(min=0, max=100, help="Number of randomly drawn cells, as the control.")] = 3,
    random_seed: Annotated[int, typer.Option(min=0, help="Seed of the random cells.")] = 0,
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds with which every cell is trained.")] = "0",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CELL", help="Train only this cell now, as the table names it; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all trainings and of the result.")] = Path("runs/cells"),
    verify: VerifyOption = False,
    form: FormatOption = "text",
) -> None:
    """Compare searched cells with random ones, all trained with one budget, to see if the search beats chance.

    autohr compare-cells runs/s0 runs/s1 runs/s2 fig5_plausible_v2 --random 3 --seeds 0,1. Continues if repeated.
    """
    from autohr.lab.evaluate.tables import render_sheet
    from autohr.lab.experiments.searches import NOT_YET, compare_genotypes, comparison_sheet
    from autohr.lab.reports.run import write_run_page

    try:
        numbers = [int(one) for one in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{seeds!r} is not of the form 0,1,2.", param_hint="--seeds") from None
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise typer.BadParameter(f"{seeds!r}: give each seed once, none below 0.", param_hint="--seeds")
    if not cells and not random:
        raise typer.BadParameter("There is no cell to train; name some, or give --random.")
    with verified(verify):
        result = compare_genotypes(
            cells or (),
            recipe,
            out,
            overrides=overrides or (),
            n_random=random,
            random_seed=random_seed,
            seeds=numbers,
            only=only or (),
            say=print_progress,
        )
    print_text(render_sheet(comparison_sheet(result), form))
    print_progress(f"Page: {write_run_page(out, made_at=time.strftime('%Y-%m-%d %H:%M'))}")
    raise_failures("cell", {cell.label: cell.why_not for cell in result.cells if cell.why_not not in (None, NOT_YET)})


def table_cells(
    caches: Annotated[
        list[Path], typer.Argument(metavar="CACHE...", help="Folders that `autohr prepare` wrote to.", exists=True)
    ],
    out: Annotated[Path, typer.Option(help="CSV file; trainings that it has are not made again.")] = Path("cells.csv"),
    second: Annotated[
        Path | None,
        typer.Option(help="Prepared recordings of another world, to test on as well.", exists=True, show_default=False),
    ] = None,
    random: Annotated[int, typer.Option(min=0, help="Number of randomly drawn cells.")] = 100,
    extra: Annotated[
        list[Path] | None,
        typer.Option("--cell", help="Genotype file of a further cell, trained first; repeatable.", exists=True),
    ] = None,
    workers: WorkersOption = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Make only every N-th training, from number I on.")] = "0/1",
    merge: Annotated[
        list[Path] | None, typer.Option(help="Take over the lines of this table first; repeatable.", exists=True)
    ] = None,
) -> None:
    """Train many cells with one budget, for strategies of search to be compared on. Continues if repeated.

    Machines share the work by --shard 0/2 and --shard 1/2, each with its own --out, and --merge joins their tables.
    """
    from autohr.lab.nets._genotype import read_genotype
    from autohr.lab.search.table import make_table, place
    from autohr.lab.search.table import merge as merge_tables

    number, _, n = shard.partition("/")
    if not (number.isdecimal() and n.isdecimal() and int(number) < int(n)):
        raise typer.BadParameter(f"{shard!r} is not of the form 0/3, the first number smaller.", param_hint="--shard")
    if merge:
        print_progress(f"{merge_tables(out, merge)} line(s) taken over.")
    given = [read_genotype(path) for path in extra or ()]
    rows = make_table(
        caches,
        out,
        second=second,
        n_random=random,
        extra=given,
        workers=workers or os.cpu_count() or 1,
        shard=(int(number), int(n)),
        say=print_progress,
    )
    print_text(f"{out}: {len(rows)} trainings of {len({row['cell'] for row in rows})} cells")
    for genotype in given:
        at, n_cells = place(rows, genotype.name)
        print_text(f"{genotype.name}: place {at} of {n_cells}, beside {n_cells - 1} random cells")
