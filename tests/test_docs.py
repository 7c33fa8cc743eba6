"""Published figures, README, log, citations and the site: every page states what docs/results holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import autohr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from results import dump, figures, fill, read_results, render, save_result  # noqa: E402

RESULTS = read_results()
WEIGHTS = ROOT / "src" / "autohr" / "weights"
FIELDS = {"question", "command", "date", "made_by", "values", "tables", "texts", "notes"}


def test_every_page_states_what_the_results_hold() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/results.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", RESULTS)
def test_result_says_how_it_was_made_and_every_text_renders(name: str) -> None:
    result = RESULTS[name]
    assert set(result) <= FIELDS and result["question"].endswith("?") and result["command"] and result["made_by"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    for key in [*result["texts"], *result["tables"], *result["values"]]:
        assert render(f"{name}.{key}", RESULTS)


def test_a_changed_figure_is_filled_in_and_seen_by_the_check() -> None:
    results = {
        "speed": {
            "values": {"fps": 30},
            "tables": {"t": {"columns": ["a", "b"], "formats": {"b": ".1f"}, "rows": [["x", 1.25]]}},
        }
    }
    results["speed"]["texts"] = {"line": "{speed[t][x][b]:.1f} at {speed[fps]}"}
    page = "It is <!-- result: speed.line -->old<!-- /result -->.\n<!-- result: speed.t -->\nold\n<!-- /result -->\n"
    filled = fill(page, results)
    assert "-->1.2 at 30<!--" in filled and "| x | 1.2 |" in filled and "| --- | ---: |" in filled
    assert fill(filled, results) == filled != page
    with pytest.raises(KeyError):
        fill("<!-- result: speed.none --><!-- /result -->", results)


def test_a_command_replaces_figures_and_keeps_texts_and_notes(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    path.write_text(dump({"values": {"a": 1}, "tables": {}, "texts": {"line": "{speed[a]}"}, "notes": ["Two cores."]}))
    save_result(path, question="Fast?", values={"a": 2.00001}, tables={"t": {"columns": ["a"], "rows": [["[x]"]]}})
    saved = json.loads(path.read_text())
    assert saved["texts"] == {"line": "{speed[a]}"} and saved["notes"] == ["Two cores."]
    assert figures({"speed": saved})["speed"]["a"] == 2 and render("speed.line", {"speed": saved}) == "2.0"
    assert set(saved) == FIELDS and saved["made_by"].startswith("commit ")


OTHER_WEIGHTS = sorted(path.name for path in WEIGHTS.glob("*.*") if path.suffix in (".onnx", ".safetensors"))


@pytest.mark.parametrize("weights", [name for name in OTHER_WEIGHTS if not name.startswith("autohr.")])
def test_headers_of_the_other_weights_state_the_figures_of_the_table_of_methods(weights: str) -> None:
    from autohr.methods import METHODS
    from autohr.weights.header import read_header

    header = read_header(WEIGHTS / weights)
    found = figures(RESULTS)["methods"]["synthetic"][METHODS[header["net"]].title]
    stated = header["measured_accuracy"]
    assert stated["mae_bpm"] == pytest.approx(found["MAE (bpm)"], abs=1e-3)
    assert stated["within_5_bpm"] == pytest.approx(found["within 5 bpm"], abs=1e-4)
    assert f"r {found['alone: r']:.2f}" in stated["on"]
    assert (WEIGHTS / weights).stat().st_size < 3e6


@pytest.mark.parametrize("weights", ["autohr.onnx", "autohr.safetensors"])
def test_header_of_the_shipped_weights_states_the_published_figures(weights: str) -> None:
    """``autohr list weights`` prints the header, so it must not say anything else than README and card."""
    from autohr.weights.header import read_header

    stated = read_header(ROOT / "src" / "autohr" / "weights" / weights)["measured_accuracy"]
    published = figures(RESULTS)
    ours, best = published["transfer"]["methods"]["AutoHR"], published["transfer"]["methods"]["POS"]
    alone = published["standings"]["methods"]["autohr-shipped"]["MAE"]
    assert (stated["mae_bpm"], stated["within_3_bpm"]) == (ours["MAE (bpm)"], ours["within 3 bpm"])
    assert (stated["best_formula_mae_bpm"], stated["best_formula_within_3_bpm"]) == (
        best["MAE (bpm)"],
        best["within 3 bpm"],
    )
    assert stated["pearson_r"] == ours["r"]
    assert stated["on"].startswith(f"{ours['recordings']} synthetic recordings of {published['transfer']['people']} ")
    assert stated["network_alone_mae_bpm"] == alone and f"{alone} bpm" in stated["on"]


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    newest = re.search(r"^## \[(.+?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert newest is not None and newest[1] == version == autohr.__version__
    assert f"\nversion: {version}\n" in citation and f"\ndate-released: {newest[2]}\n" in citation


def test_readme_is_short_and_has_one_picture() -> None:
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(text.split()) <= 600
    assert text.count("![") == 1
    assert "Not a medical device" in text


def test_texts_render_with_the_tables_that_the_benchmarks_write() -> None:
    """A text names rows and columns; the commands must keep both."""
    import confidence
    import transfer

    answer = transfer.Answer(60.2, 60.0, 0.9, True)
    methods = ("autohr", "pos", "mvdr")
    row = transfer.Row("p/0", "dataset", {}, {}, 0.2, 0.5, dict.fromkeys(methods, answer))
    clips = [
        confidence.Row(seed, kind, method, 60.0, 60.2, 0.9, True, [])
        for method in ("autohr", "mvdr", "pos")
        for seed, kind in ((1, "pulse"), (2, "wall"))
    ]
    talkers = [transfer.overall([row] * 2, methods, f"{group}, ") for group in transfer.GROUPS]
    written = {
        "transfer": transfer.overall([row] * 2, methods),
        "talkers": {**talkers[0], "rows": talkers[0]["rows"] + talkers[1]["rows"]},
        "confidence": confidence.overall(clips, ("autohr", "mvdr", "pos")),
    }
    results = {
        name: {**result, "tables": {**result["tables"], **({"methods": written[name]} if name in written else {})}}
        for name, result in RESULTS.items()
    }
    for name in written:
        for text in RESULTS[name]["texts"]:
            assert render(f"{name}.{text}", results)
    assert "2 rates reliable, and 2 of these" in render("transfer.headline", results)


def test_tables_of_a_page_become_a_result_and_print_as_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import page_tables

    page = "\n| method | MAE | within 5 | weights |\n| --- | ---: | ---: | ---: |\n"
    page += "| pos | 21.89 | 62 % | - |\n| net* | 9.50 | 85 % | 1,037,681 |\n"
    (tmp_path / "page.md").write_text(f"**Every method**\n{page}\n{page}")
    out = tmp_path / "standings.json"
    out.write_text(dump({"question": "Which?", "tables": {"groups": {"csv": "groups.csv"}}}))
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "page.md"), "methods", "groups", "--out-result", str(out)])
    page_tables.main()
    results = read_results(tmp_path)
    assert render("standings.methods", results).splitlines()[2:] == [
        "| pos | 21.89 | 62% | - |",
        "| net* | 9.50 | 85% | 1,037,681 |",
    ]
    assert results["standings"]["tables"]["groups"]["rows"][0][0] == "pos" and (tmp_path / "groups.csv").exists()


@pytest.mark.parametrize("log", sorted((ROOT / "docs" / "log").glob("*.md")), ids=lambda path: path.name)
def test_log_entries_have_four_parts_and_short_tables(log: Path) -> None:
    _, *entries = log.read_text(encoding="utf-8").split("\n## ")
    assert entries
    for entry in entries:
        heading = entry.splitlines()[0]
        assert re.match(rf"{log.stem}-\d\d: \S", heading), heading
        parts = re.findall(r"^\*\*(\w+)\.\*\*", entry, re.MULTILINE)
        assert parts == ["Question", "Command", "Result", "Decision"], heading
        # A table's heading and rule come before its rows.
        tables = [len(block[0].splitlines()) - 2 for block in re.finditer(r"(?:^\|.*\n)+", entry, re.MULTILINE)]
        assert max(tables, default=0) <= 12, f"{heading}: put the full table into a CSV file"


ABSENT = re.compile(
    r"\b(?:SYSTEMS|EVALUATION|AUTOHR|DEPENDENCIES|DATASETS)(?:\.md| \d+[a-z]?\b| [A-H]\d?\b)"
    r"|\b(?:DESIGN|STYLE|ANCHORS|USERS|TRANSFER)\b|\bissue #?\d+|\bthe issue\b"
)
"""Documents and issues that were cited while the package was built and are not in the repository."""
CITED = re.compile(r"\b(?:docs|benchmarks|tests|examples|src)/[\w./-]*\.(?:md|py|json|csv|ipynb|toml)\b")
TEXTS = [
    file
    for folder in ("src", "docs", "benchmarks", "tests", "examples")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in {".py", ".md", ".toml", ".j2", ".js", ".json", ".ipynb"} and file != Path(__file__)
]


def test_no_citation_of_absent_documents() -> None:
    """A source names the paper and its equation, or a page of docs/background, and every file named exists."""
    found = []
    for file in [*TEXTS, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            cited = [match[0] for match in ABSENT.finditer(line)]
            cited += [
                name for name in CITED.findall(line) if not re.search("NAME|YEAR", name) and not (ROOT / name).exists()
            ]
            found += [f"{file.relative_to(ROOT)}:{number}: {name}" for name in cited]
    assert not found, "\n".join(found)
