"""``autohr evaluate`` and ``autohr report``: methods judged by one protocol, and pages of saved runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autohr.cli.options import Device, DeviceOption, completing, method_names, weights_names
from autohr.cli.output import Count, print_line, print_progress, print_text
from autohr.cli.outputs import check_writable
from autohr.errors import BadRecording, UnknownName, WindowsTooShort
from autohr.lab.commands.options import (
    ClusterOption,
    FormatOption,
    OverwriteOption,
    VerifyOption,
    WorkersOption,
    check_dataset,
    dataset_names,
    protocol_names,
    raise_failures,
    scoring_names,
    verified,
)

if TYPE_CHECKING:
    from autohr.lab.evaluate.results import Results


def evaluate(
    ctx: typer.Context,
    what: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RECIPE|RUN...]",
            help="A TOML recipe; or the folder of a finished evaluation, whose saved waves are scored again. Several "
            "folders make one table.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Without a recipe: one of `autohr list datasets`; `folder` for your own videos.",
            autocompletion=completing(dataset_names),
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset.", exists=True, file_okay=False)] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME|all",
            help="Methods to judge. Default: all that need no weights of yours, or none beside --weights.",
            show_default=False,
            autocompletion=completing(method_names, several=True),
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Judge a network with these weights too; repeatable.",
            autocompletion=completing(weights_names),
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="One of `autohr list protocols`.", autocompletion=completing(protocol_names))
    ] = "reference",
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME|all",
            help="Scoring, of `autohr list scoring`. Default: the protocol's own.",
            autocompletion=completing(scoring_names, several=True),
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="Method that the others are tested against.", autocompletion=completing(method_names))
    ] = "pos",
    by: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Print one more table for each method, by this group.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/evaluation"),
    cache: Annotated[Path, typer.Option(help="Folder of the face crops, which are made once.")] = Path("cache"),
    form: FormatOption = "text",
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv|.parquet", help="Write every sample of every wave with its time.", show_default=False
        ),
    ] = None,
) -> None:
    """Judge methods by one protocol and print one table. Every recording and every window is accounted for.

    Your own videos with a CSV of rates: autohr evaluate --dataset folder --root MY_VIDEOS. The same command continues
    an evaluation that was stopped; autohr report makes a page of it.
    """
    from autohr.lab.evaluate.presets import PRESETS, find_preset
    from autohr.lab.evaluate.results import read_side_by_side
    from autohr.lab.evaluate.scoring import check_protocol

    if export is not None:
        from autohr.lab.evaluate.export import FORMATS

        if export.suffix.lower() not in FORMATS:
            raise typer.BadParameter(f"{str(export)!r} ends in neither of {', '.join(FORMATS)}.", param_hint="--export")
        check_writable(export, "--export")
    failed: dict[str, str] = {}
    presets = list(PRESETS) if preset == "all" else preset.split(",") if preset else []
    for name in presets:
        find_preset(name)
    if what and (len(what) > 1 or what[0].is_dir()):
        _refuse_given(ctx, "A stored evaluation is scored as it is", "method")
        stored = {one.method.label: one for one in read_side_by_side(what)}
        chosen = list(stored) if method in (None, "all") else method.split(",")
        strangers = [label for label in chosen if label not in stored]
        if strangers:
            raise UnknownName("method of this evaluation", strangers[0], stored)
        results = tuple(stored[label] for label in chosen)
        run = what[0]
    else:
        from autohr.lab.evaluate.recipe import EvaluateRecipe, evaluate_recipe, protocol_of, read_recipe

        if what:
            _refuse_given(ctx, "A recipe says what is evaluated", "out", "workers", "cluster", "overwrite", "verify")
            recipe = read_recipe(what[0])
        elif dataset is None or root is None:
            raise typer.BadParameter("Give a recipe, a stored evaluation, or --dataset and --root.")
        else:
            recipe = EvaluateRecipe(
                check_dataset(dataset),
                str(root),
                methods=() if method is None else tuple(method.split(",")),
                weights=tuple(weights or ()),
                protocol=protocol,
                cache=str(cache),
                device=device,
            )
        check_writable(out / "config.json")
        presets = presets or ([recipe.preset] if recipe.preset else [])
        for name in presets if preset != "all" else ():
            check_protocol(protocol_of(recipe), name)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        counts: dict[str, Count] = {}
        with Count("Looking for faces") as faces, verified(verify):
            results = evaluate_recipe(
                recipe,
                out,
                workers=workers,
                cluster=cluster,
                overwrite=overwrite,
                preparing=lambda done, total, _: faces(done, total),
                judging=lambda label, done, total, _: counts.setdefault(label, Count(f"Asking {label}"))(done, total),
                failing=failed.__setitem__,
                say=print_progress,
            )
        run = out
    _print_scores(results, presets, baseline, by, form, skip_unfit=preset == "all")
    if export is not None:
        from autohr.lab.evaluate.export import write_waves

        print_progress(f"Waves: {write_waves(results, export)} rows in {export}")
    print_progress(f"Page: autohr report {run}")
    raise_failures("method", failed)
    if not any(one.counts["scored_windows"] for one in results):
        raise BadRecording("Not one window could be scored; the reasons are in the table.")


def _refuse_given(ctx: typer.Context, reason: str, *allowed: str) -> None:
    """Refuse options that would be ignored."""
    names = "dataset root method weights protocol out cache workers cluster device overwrite verify".split()
    sources = {name: ctx.get_parameter_source(name) for name in names if name not in allowed}
    given = [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]
    if given:
        raise typer.BadParameter(f"{reason}; leave --{', --'.join(given)} out.")


def _print_scores(
    results: Sequence[Results], presets: Sequence[str], baseline: str, by: str | None, form: str, *, skip_unfit: bool
) -> None:
    """Print one table for each preset and, by a group, one for each method.

    ``skip_unfit`` leaves out the presets that need longer windows, with a line on stderr, in place of refusing them.
    """
    from autohr.lab.evaluate.scoring import check_windows, score
    from autohr.lab.evaluate.summary import groups_sheet, scores_sheet
    from autohr.lab.evaluate.tables import render_sheet

    names = list(presets) or [str(results[0].protocol["preset"])]
    for name in list(names):
        try:
            for one in results:
                check_windows(one, name)
        except WindowsTooShort as short:
            if not skip_unfit:
                raise
            names.remove(name)
            print_progress(f"Left out: {short}")
    for name in names:
        scores = [score(one, name) for one in results]
        print_text(render_sheet(scores_sheet(scores, baseline), form) + "\n")
        if by is None:
            continue
        for scored in scores:
            if by not in scored.groups:
                known = ", ".join(scored.groups) or "none"
                raise typer.BadParameter(f"There is no group {by!r} with several values. Groups: {known}.")
            print_text(render_sheet(groups_sheet(scored, by), form) + "\n")


def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of an evaluation, training, search, comparison of cells, ablation, or activations.",
            show_default=False,
        ),
    ] = None,
    activations: Annotated[
        str | None,
        typer.Option(
            metavar="VIDEO",
            help="Show what networks look at in this video, on a page. The person in it must have agreed.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="With --activations: a network to show; give two to compare them.",
            autocompletion=completing(weights_names),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="With --activations: the dataset that VIDEO belongs to, for the true wave.",
            autocompletion=completing(dataset_names),
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that dataset. Default: the video's.")] = None,
    start_s: Annotated[float, typer.Option(min=0.0, help="With --activations: where to begin, in seconds.")] = 0.0,
    end_s: Annotated[float | None, typer.Option(min=0.0, help="With --activations: where to stop, in seconds.")] = None,
    device: Annotated[Device, typer.Option(help="With --activations: device that the networks run on.")] = "cpu",
    preset: Annotated[
        str | None,
        typer.Option(
            help="Scoring of an evaluation. Default: the protocol's.", autocompletion=completing(scoring_names)
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page. Default: report.html in the run's results. With --activations: the run."),
    ] = None,
) -> None:
    """Make one self-contained page from the folder of a run, without running any network."""
    if (run is None) == (activations is None):
        raise typer.BadParameter("Give a run directory, or --activations VIDEO.")
    if out is not None:
        check_writable(out / "config.json" if activations is not None else out, "--out")
    from autohr.lab.reports.run import write_run_page

    if activations is not None:
        from autohr.lab.experiments.activations import find_truth, record_activations

        if not weights:
            raise typer.BadParameter("--activations needs --weights, once for each net.", param_hint="--weights")
        video = Path(activations)
        run, out = out or Path("runs") / f"activations_{video.stem}", None
        truth = find_truth(video, dataset, root)
        record_activations(
            video, weights, run, truth=truth, start_s=start_s, end_s=end_s, device=device, say=print_progress
        )
    assert run is not None
    print_line(f"Page: {write_run_page(run, out, preset=preset, made_at=time.strftime('%Y-%m-%d %H:%M'))}")
