"""Every kind of page in a real browser: nothing wider than the screen, nothing cut, nothing asked of anybody.

Skipped where Debian's chromium or Playwright is absent: apt-get install chromium; pip install playwright.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import CHROMIUM

pytest.importorskip("playwright", reason="driving a browser needs pip install playwright")

from playwright.sync_api import sync_playwright

from autohr.lab.evaluate.stored import CellResult, ComparisonResult, Training
from autohr.lab.experiments.searches import compare_groups, group_cells
from autohr.lab.nets._genotype import GENOTYPES
from autohr.lab.reports.manifest import render_manifest_page
from autohr.lab.reports.run import render_run_page
from autohr.reports.measurement import render_measurement_page
from autohr.types import Measurement, Refusal
from test_report_pages import ablation, activations, evaluation, training
from test_reports import A_HRV, make_face, make_measurement
from test_search_report import search_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]

KINDS = ("measurement", "manifest", "training", "evaluation", "ablation", "activations", "search", "comparison")
LONG = "clips/" + "a_name_without_any_place_to_break_" * 3 + "face.mp4"


def comparison(folder: Path) -> Path:
    """Two searched cells against a reconstruction."""
    genotypes = [one.as_dict() for one in GENOTYPES.values()]
    cells = tuple(
        CellResult(
            f"{group}_with_a_long_name_{number}",
            group,
            "runs/search/s0",
            genotypes[number % len(genotypes)],
            1_240_000,
            30.0 + 9 * number,
            tuple(Training(s, f"c{number}", 2000, 6.5 + s, 9.9, 0.6, 0.7, 12.0, 1800.0) for s in (0, 1)),
            None,
        )
        for number, group in enumerate(("searched", "searched", "reconstruction"))
    )
    result = ComparisonResult(
        recipe="cells.toml",
        overrides=("fit.steps=2000",),
        n_steps=2000,
        batch_size=8,
        seeds=(0, 1),
        held_out=("made/0", "made/1"),
        n_held_out=40,
        n_windows=25,
        cells=cells,
        groups=tuple(group_cells(cells)),
        comparisons=(compare_groups([6.2, 6.4], [7.1], "reconstruction"),),
        notes=("A note.",),
    )
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "comparison.json").write_text(json.dumps(dataclasses.asdict(result)))
    return folder


def manifest() -> dict[str, Any]:
    def row(name: str, hr_bpm: float) -> dict[str, Any]:
        return {
            "id": f"made/{name}/{'session_' * 6}1",
            "state": "ok",
            "findings": ["odd"] if name == "1" else [],
            "notes": ["The label is late."] if name == "1" else [],
            "video_s": 30.2,
            "label_minus_video_s": -0.4,
            "fps": 29.43,
            "fps_nominal": 25.0,
            "found_share": 0.98,
            "kept_s": 29.5,
            "hr_mean_bpm": hr_bpm,
            "hr_min_bpm": hr_bpm - 8,
            "hr_max_bpm": hr_bpm + 14,
            "lag_s": 0.12,
            "lag_r": 0.81,
        }

    absent = {"id": "made/2/1", "state": "absent", "known_gap": False, "reason": f"No file {LONG!r}.", "findings": []}
    kind = {"title": "Odd", "about": "Something is.", "n": 1, "refused": False}
    return {
        "schema": "autohr.manifest/1",
        "title": "Made recordings",
        "counts": {
            "ok": 2,
            "expected": 3,
            "excluded": 0,
            "missing": 1,
            "known_gaps": 0,
            "subjects": 2,
            "kept_s": 59.0,
        },
        "crop": {"size_px": 80, "box": "tracked", "margin": 0.1},
        "notes": [],
        "explained": "Lag: how much later the label is.",
        "kinds": {"odd": kind},
        "findings": [{"kind": "odd", "says": f"{LONG}: odd."}],
        "recordings": [row("0", 61.0), row("1", 104.0), absent],
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("runs")
    search_run(root / "search")
    made = {
        "training": training(root / "training").root,
        "evaluation": evaluation(root / "evaluation").root,
        "ablation": ablation(root / "ablation"),
        "activations": activations(root / "activations").root,
        "search": root / "search",
        "comparison": comparison(root / "comparison"),
    }
    measured = make_measurement(make_face(hrv=A_HRV), make_face(1, reliable=False, why="too dark"), path=LONG)
    pages = {kind: render_run_page(folder)[0] for kind, folder in made.items()}
    pages["measurement"] = render_measurement_page([measured, Refusal(LONG, f"No face in any frame of {LONG!r}.")])
    pages["manifest"] = render_manifest_page(manifest())
    return pages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


# What is wrong with the page as it is shown now, in words.
LOOK = """() => {
  const wrong = [], root = document.documentElement, width = root.clientWidth;
  const shown = (e) => e.getClientRects().length > 0 && e.checkVisibility();
  if (root.scrollWidth > width) wrong.push(`the page is ${root.scrollWidth} wide`);
  for (const card of document.querySelectorAll('.card')) {
    if (shown(card) && card.scrollWidth > card.clientWidth + 1) wrong.push('cut: ' + card.innerText.slice(0, 60));
    if (shown(card) && !card.innerText.trim()) wrong.push('an empty box');
  }
  for (const box of document.querySelectorAll('.scroll')) {
    const caption = box.querySelector('caption');
    if (shown(caption) && caption.getBoundingClientRect().width > box.clientWidth + 1)
      wrong.push('a caption is cut: ' + caption.innerText);
    if (shown(box) && width > 1000 && box.scrollWidth > box.clientWidth)
      wrong.push('a table is cut on a desktop: ' + box.getAttribute('aria-label'));
  }
  for (const svg of document.querySelectorAll('svg')) {
    if (!shown(svg)) continue;
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll('text')) {
      const at = text.getBoundingClientRect();
      const beside = at.left < frame.left - 1 || at.right > frame.right + 1;
      if (beside || at.top < frame.top - 1 || at.bottom > frame.bottom + 1)
        wrong.push(`a label is outside: ${text.textContent} of ${svg.getAttribute('aria-label').slice(0, 40)}`);
    }
  }
  return wrong;
}"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_and_nobody_is_asked(
    kind: str, width: int, pages: dict[str, str], browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(pages[kind], encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 844})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    try:
        page.goto(file.as_uri())
        folded = page.evaluate(LOOK)
        page.evaluate("document.querySelectorAll('details').forEach((e) => (e.open = true))")
        opened = page.evaluate(LOOK)
        # A4 less 15 mm on each side, at 96 points an inch.
        page.set_viewport_size({"width": 680, "height": 1000})
        page.emulate_media(media="print")
        printed = page.evaluate(LOOK)
    finally:
        page.close()
    assert (folded, opened, printed) == ([], [], [])
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()] and said == []


@pytest.mark.parametrize("with_script", [True, False])
def test_a_page_of_many_files_is_sorted_and_opens(browser: Any, tmp_path: Path, with_script: bool) -> None:
    rates = (72.4, None, 101.3, 58.0)
    results: list[Measurement | Refusal] = [
        make_measurement(make_face(0, rate, rate is not None, n_windows=3), path=f"s/{k}.mp4")
        for k, rate in enumerate(rates)
    ]
    file = tmp_path / "page.html"
    file.write_text(render_measurement_page([*results, Refusal("s/4.mp4", "No face.")]), encoding="utf-8")
    context = browser.new_context(java_script_enabled=with_script)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    names = page.locator("table.sortable tbody:first-of-type th")
    assert names.all_inner_texts() == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    heads = page.locator("table.sortable thead button")
    sections = page.locator("details.video")
    assert sections.count() == 4 and page.locator("details.video[open]").count() == 0
    if with_script:
        heads.nth(1).click()
        assert names.all_inner_texts() == ["3.mp4", "0.mp4", "2.mp4", "1.mp4"]
        heads.nth(1).click()
        assert names.all_inner_texts() == ["2.mp4", "0.mp4", "3.mp4", "1.mp4"]
        heads.nth(0).click()
        assert names.all_inner_texts() == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
        names.nth(2).locator("a").click()
        page.wait_for_selector("details.video[open]")
    else:
        assert heads.count() == 0
        sections.nth(2).locator("summary").first.click()
    assert page.locator("details.video[open]").get_attribute("id") == "file-3"
    assert sections.nth(2).locator("svg.wide").first.is_visible()
    context.close()
    assert said == []
