"""One page from any run directory: what kind of run it is decides which."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from autohr.errors import AutoHRError
from autohr.files import read_json_object
from autohr.lab.reports.charts import damage_is_named
from autohr.lab.runs import CONFIG
from autohr.reports.page import write_page


def write_run_page(
    run_dir: Path, out: Path | None = None, *, preset: str | None = None, made_at: str | None = None
) -> Path:
    """Write the page of a run directory, and return where it lies.

    ``out`` is ``report.html`` in the run's results if None, or in the folder of an ablation; ``preset`` is the scoring
    of an evaluation. Raises AutoHRError where there is no run directory, one of a kind that has no page, or a damaged
    file; ValueError where ``out`` is a folder.
    """
    page, place = render_run_page(run_dir, preset=preset, made_at=made_at)
    out = out or place
    write_page(page, out)
    return out


def render_run_page(run_dir: Path, *, preset: str | None = None, made_at: str | None = None) -> tuple[str, Path]:
    """Return the page, and where it belongs; AutoHRError as ``write_run_page``."""
    kind = _kind_of(run_dir)
    # The pages are imported when one is wanted: only an evaluation's needs the scoring.
    render = getattr(import_module(f"autohr.lab.reports.{kind}"), f"render_{kind}_page")
    more = {"preset": preset} if kind == "evaluation" else {}
    place = run_dir if kind == "ablation" else run_dir / "results"
    with damage_is_named(run_dir, "make the run"):
        return render(run_dir, made_at=made_at, **more), place / "report.html"


def _kind_of(run_dir: Path) -> str:
    if (run_dir / "ablation.json").is_file():
        return "ablation"
    if (run_dir / "results" / "comparison.json").is_file():
        return "comparison"
    if not (run_dir / CONFIG).is_file():
        raise AutoHRError(f"{str(run_dir)!r} is no run folder: it holds neither {CONFIG} nor ablation.json.")
    config = read_json_object(run_dir / CONFIG)
    if config.get("kind") in ("search", "activations"):
        return str(config["kind"])
    if "recipe" in config:
        return "training"
    if "protocol" in config:
        return "evaluation"
    raise AutoHRError(
        f"{str(run_dir)!r} is a run of a kind that has no page; trainings, searches, evaluations and others have one."
    )
