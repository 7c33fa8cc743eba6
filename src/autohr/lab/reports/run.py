"""One page from any run directory: what kind of run it is decides which."""

from __future__ import annotations

from pathlib import Path

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.lab.runs import CONFIG
from autohr.reports.page import write_page


def write_run_page(
    run_dir: Path, out: Path | None = None, *, preset: str | None = None, made_at: str | None = None
) -> Path:
    """Write the page of a run directory; returns where it lies.

    Args:
        out: the page; ``report.html`` in the run's results if None, or in the folder of an ablation.
        preset: of an evaluation, see ``render_evaluation_page``.

    Raises:
        AutoHRError: no run directory, one of a kind that has no page, or damaged files.
        ValueError: ``out`` is a folder.
    """
    page, place = render_run_page(run_dir, preset=preset, made_at=made_at)
    out = out or place
    write_page(page, out)
    return out


def render_run_page(run_dir: Path, *, preset: str | None = None, made_at: str | None = None) -> tuple[str, Path]:
    """The page as text, and where it belongs. Raises AutoHRError as ``write_run_page``."""
    # The pages are imported when one is wanted: only an evaluation's needs the scoring.
    if (run_dir / "ablation.json").is_file():
        from autohr.lab.reports.ablation import render_ablation_page

        return render_ablation_page(run_dir, made_at=made_at), run_dir / "report.html"
    if (run_dir / "results" / "comparison.json").is_file():
        from autohr.lab.reports.comparison import render_comparison_page

        return render_comparison_page(run_dir, made_at=made_at), run_dir / "results" / "report.html"
    if not (run_dir / CONFIG).is_file():
        raise AutoHRError(f"{str(run_dir)!r} is no run folder: it holds neither {CONFIG} nor ablation.json.")
    config = read_json(run_dir / CONFIG)
    place = run_dir / "results" / "report.html"
    if config.get("kind") == "search":
        from autohr.lab.reports.search import render_search_page

        return render_search_page(run_dir, made_at=made_at), place
    if "recipe" in config:
        from autohr.lab.reports.training import render_training_page

        return render_training_page(run_dir, made_at=made_at), place
    if config.get("kind") == "activations":
        from autohr.lab.reports.activations import render_activations_page

        return render_activations_page(run_dir, made_at=made_at), place
    if "protocol" in config:
        from autohr.lab.reports.evaluation import render_evaluation_page

        return render_evaluation_page(run_dir, preset=preset, made_at=made_at), place
    raise AutoHRError(
        f"{str(run_dir)!r} is a run of a kind that has no page; trainings, searches, evaluations and others have one."
    )
