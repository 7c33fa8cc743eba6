"""``autohr train``, ``autohr search`` and ``autohr export``: from prepared recordings to weights in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from autohr.cli.options import completing, weights_names
from autohr.cli.output import in_words, print_line, print_progress, print_text
from autohr.errors import AutoHRError
from autohr.lab.commands.options import (
    ClusterOption,
    OverwriteOption,
    ResumeOption,
    RunOption,
    SearchRecipeArgument,
    SetOption,
    SideBySideOption,
    TrainRecipeArgument,
    VerifyOption,
    check_recipe,
    protocol_names,
    verified,
)


def train(
    recipe: TrainRecipeArgument,
    overrides: SetOption = None,
    out: RunOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the log for TensorBoard too, as it comes.", show_default=False),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, help="Train once for each of so many folds of subjects, and test.", show_default=False
        ),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="dataset|GROUP",
            help="Train once without each dataset of the recipe, or each value of a group (site), and test on it.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="With --folds or --leave-out: windows.", autocompletion=completing(protocol_names)),
    ] = "reference",
    workers: SideBySideOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Train a network on prepared recordings. The same command continues a run that was stopped.

    With --folds or --leave-out every training is in OUT/fold_N, and the tests of all are printed as one table.
    """
    _check_contradiction(resume, overwrite)
    from autohr.lab.train.recipe import train as train_recipe

    check_recipe(recipe, "train")
    if folds is not None or leave_out is not None:
        if (folds is not None and leave_out is not None) or resume or overwrite or tensorboard is not None:
            raise typer.BadParameter("--folds and --leave-out go on by themselves; give one of them, and no other way.")
        folder = out or Path("runs") / f"{recipe.stem}_{f'{folds}_folds' if leave_out is None else f'no_{leave_out}'}"
        with verified(verify):
            _cross_validate(recipe, overrides or (), folder, folds, leave_out, protocol, workers or 1, cluster)
        return
    if (protocol, workers, cluster) != ("reference", None, None):
        raise typer.BadParameter("--protocol, --workers and --cluster are for --folds and --leave-out.")
    on_log = None
    if tensorboard is not None:
        from autohr.lab.train.tensorboard import tensorboard_writer

        on_log = tensorboard_writer(tensorboard)
    with verified(verify):
        result = train_recipe(recipe, overrides or (), out=out, resume=resume, overwrite=overwrite, on_log=on_log)
    print_line(f"Run {result.run}")
    print_line(f"Best weights {result.weights}")
    print_line(f"Curves {result.curves}")
    if result.fit.stopped_by is not None:
        raise AutoHRError(
            f"Stopped by {result.fit.stopped_by} after step {result.fit.step}; the same command goes on from there."
        )
    if os.environ.get("RANK", "0") == "0":
        from autohr.lab.nets._export import export_beside

        try:
            print_line(f"To measure with, without torch: {export_beside(result.weights).path}")
        except AutoHRError as error:  # the weights are there, and measure too
            print_line(f"No ONNX file was written: {error}")


def _cross_validate(
    recipe: Path,
    overrides: Sequence[str],
    out: Path,
    folds: int | None,
    leave_out: str | None,
    protocol: str,
    workers: int,
    cluster: str | None,
) -> None:
    """Train and test every fold, and print a table, and one by fold."""
    from autohr.lab.evaluate.presets import find_preset
    from autohr.lab.evaluate.scoring import score
    from autohr.lab.evaluate.summary import groups_sheet, scores_sheet
    from autohr.lab.evaluate.tables import render_sheet
    from autohr.lab.experiments.folds import cross_validate
    from autohr.lab.recipes.files import find_recipe

    results = cross_validate(
        find_recipe(recipe),
        overrides,
        out,
        n_folds=folds,
        leave_out=leave_out,
        protocol=protocol,
        workers=workers,
        cluster=cluster,
        say=print_progress,
    )
    scores = score(results, find_preset(str(results.protocol["preset"])).name)
    print_text(render_sheet(scores_sheet([scores]), "text") + "\n")
    group = "fold" if leave_out is None else leave_out
    if group in scores.groups:
        print_text(render_sheet(groups_sheet(scores, group), "text"))
    print_progress(f"Page: autohr report {out / 'evaluation'}")


def search(
    recipe: SearchRecipeArgument = Path("search_budget"),
    overrides: SetOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; the same as --set search.seed=SEED.")] = None,
    out: RunOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
) -> None:
    """Search a cell (an architecture) on prepared recordings. The same command continues a run that was stopped."""
    _check_contradiction(resume, overwrite)
    from autohr.lab.search.recipe import say_epoch
    from autohr.lab.search.recipe import search as search_cell
    from autohr.lab.search.space import describe_cell

    check_recipe(recipe, "search")
    changes = [*(overrides or ()), *([] if seed is None else [f"search.seed={seed}"])]
    with verified(verify):
        found = search_cell(recipe, changes, out=out, resume=resume, overwrite=overwrite, say=say_epoch)
    result = found.search
    print_line(f"Run {found.run}")
    if result.genotype is None:
        raise AutoHRError(
            f"Stopped by {result.stopped_by} after step {result.step}; the same command goes on from there."
        )
    for line in describe_cell(result.genotype):
        print_line(line)
    if result.collapse is not None:
        end = "stopped" if result.stopped_by == "collapse" else "ended"
        notes = found.run / "results" / "search.json"
        print_line(f"The search {end} unsound: {result.collapse}. See notes in {notes}.")
    print_line(f"Genotype {found.genotype}")
    print_line(f"Train it: autohr train RECIPE --set net_config.genotype={found.genotype}")


def _check_contradiction(resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite contradict each other.")


def export(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="One of `autohr list weights`, or a .safetensors file.",
            autocompletion=completing(weights_names),
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="File to write; one of that name is replaced.")],
) -> None:
    """Write a network with its weights as one ONNX file, for programs without torch.

    The file is kept only if onnxruntime computes from it what torch computes. Its metadata, JSON under the key
    `autohr`, describe the input, the output, the measured accuracy and the licence.
    """
    from autohr.lab.nets._export import export_onnx
    from autohr.methods import find_weights

    made = export_onnx(find_weights(None, weights, ".safetensors")[0], out)
    print_line(f"{made.path}: {made.n_bytes / 1e6:.1f} MB, {made.header['net']} of {weights}")
    for end, tensors in (("Input", made.inputs), ("Output", made.outputs)):
        for name, description in tensors.items():
            print_line(f"  {end} {name} {description}")
    clips = " and ".join(f"{n_clips} of {n_frames} frames" for n_clips, n_frames in made.clips)
    print_line(f"  Largest difference to torch: {made.difference:.1e} of {made.unit} (clips: {clips})")
    print_line(f"  Licence: {in_words(made.header['licence'])}")
