"""Every example runs as it stands, on a made clip, and gives that clip's rate."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the notebook, which makes a clip of 72 bpm, in an empty folder."""
    folder = tmp_path_factory.mktemp("examples")
    notebook = json.loads((EXAMPLES / "measure_a_clip.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MPLBACKEND", "Agg")
        names: dict[str, object] = {}
        for source in code:
            exec(source, names)
    face = names["face"]
    assert abs(face.hr_bpm - 72.0) < 2.0  # type: ignore[attr-defined]
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "Clear the notebook's outputs before committing."
    return folder / "clip.mp4"


def test_own_camera_loop(clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["own_camera_loop.py", str(clip)])
    runpy.run_path(str(EXAMPLES / "own_camera_loop.py"), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert abs(float(last.split()[2]) - 72.0) < 2.0, last


def test_folder_to_dataframe(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clip.parent / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "rates.csv"
    monkeypatch.setattr(sys, "argv", ["folder_to_dataframe.py", str(clip.parent), str(out)])
    runpy.run_path(str(EXAMPLES / "folder_to_dataframe.py"), run_name="__main__")
    broken, measured = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    assert broken["video"] == "broken.mp4" and broken["remark"] and not broken["hr_bpm"]
    assert abs(float(measured["hr_bpm"]) - 72.0) < 2.0
