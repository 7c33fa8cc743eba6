"""The house: which room may import which, and which library enters by which door. Read from the source, not run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "autohr"

# Rooms from ground to roof, each with the rooms below it that it may import (DESIGN 1). A room may import itself.
FLOORS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (room, frozenset(allowed.split()))
    for room, allowed in (
        ("errors", ""),
        ("metrics", "errors"),
        ("runs", "errors"),
        ("types", "errors"),
        ("recipes", "errors runs"),
        ("nets", "errors runs"),
        ("signals", "errors types"),
        ("video", "errors types"),
        ("classic", "errors types signals"),
        ("synth", "errors types signals video"),
        ("methods", "errors types signals video classic nets"),
        ("data", "errors runs types signals video classic synth"),
        ("meter", "errors types signals video methods"),
        ("train", "errors metrics runs recipes types signals data nets"),
        ("evaluate", "errors metrics runs recipes types signals data methods"),
        ("measure", "errors types signals video methods meter"),
        ("live", "errors types signals video methods meter measure"),
        ("terminal", "errors types live"),
        ("search", "errors metrics runs data nets train"),
        ("reports", "errors runs types evaluate"),
        ("lab", "errors metrics runs recipes types data methods nets train evaluate measure search reports"),
        ("service", "errors types video methods measure reports live"),
        ("cli", "*"),
    )
)
ALLOWED = dict(FLOORS)
ORDER = [room for room, _ in FLOORS]

# A heavy library enters by one door (DESIGN 4).
DOORS: dict[str, frozenset[str]] = {
    library: frozenset(rooms.split())
    for library, rooms in {
        "av": "video",
        "cv2": "video synth data",
        "torch": "nets train search methods data",
        "mtcnn": "",
        "joblib": "video/faces",
        "lz4": "video/faces",
        "threadpoolctl": "video/faces",
        "scipy": "signals classic metrics synth video/faces evaluate data",
        "matplotlib": "reports train",
        "jinja2": "reports",
        "markupsafe": "reports",
        "typer": "cli",
        "rich": "cli terminal",
        "fastapi": "service",
        "uvicorn": "service",
        "starlette": "service",
        "websockets": "service",
        "safetensors": "nets train",
        "zarr": "data",
        "h5py": "data",
        "pyedflib": "data",
        "pydantic": "train search evaluate data",
        "onnx": "nets",
        "onnxruntime": "nets",
        "onnxscript": "nets",
    }.items()
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
# The package's own face and `python -m` may reach any room, as the CLI does, but only when asked (not on import).
FACE = {"__init__", "__main__"}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted name) of every import, wherever it stands, relative ones included as "."."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append((node.lineno, "."))
            elif node.module == "autohr":
                found += [(node.lineno, f"autohr.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module or ""))
    return found


def forbidden(file: Path, source: str) -> list[str]:
    """Every import of ``source``, as it would stand in ``file``, that the house forbids."""
    room = room_of(file)
    place = file.relative_to(PACKAGE).with_suffix("").as_posix()
    wrong = []
    for line, name in imports(ast.parse(source)):
        where = f"{file.relative_to(ROOT)}:{line}: "
        top = name.split(".")[0]
        if name == ".":
            wrong.append(where + "relative import; write the room's name")
        elif top == "autohr":
            target = name.split(".")[1] if "." in name else "__version__"
            if room in FACE or target in (room, "__version__") or "*" in ALLOWED.get(room, ()):
                continue
            if target not in ALLOWED.get(room, frozenset()):
                wrong.append(where + f"{room} may not import {target} (allowed: {', '.join(sorted(ALLOWED[room]))})")
        elif top in DOORS and not DOORS[top] & {room, place}:
            wrong.append(where + f"{top} does not enter here (its doors: {', '.join(sorted(DOORS[top])) or 'none'})")
    return wrong


def test_every_room_is_in_the_plan() -> None:
    rooms = {room_of(file) for file in modules()} - FACE
    assert rooms <= set(ORDER), f"rooms without a floor: {sorted(rooms - set(ORDER))}"


def test_every_arrow_of_the_plan_points_down() -> None:
    for at, (room, allowed) in enumerate(FLOORS):
        upward = [target for target in allowed - {"*"} if target not in ORDER[:at]]
        assert not upward, f"the plan lets {room} import {upward}, which does not lie below it"


@pytest.mark.parametrize("file", modules(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_keep_to_the_plan(file: Path) -> None:
    wrong = forbidden(file, file.read_text())
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("signals/new.py", "import torch"),
        ("signals/new.py", "def f():\n    from autohr.video import decode"),
        ("video/new.py", "from autohr.nets import autohr"),
        ("measure.py", "from autohr import data"),
        ("reports/new.py", "from autohr.video.decode import open_video"),
        ("classic/new.py", "from .colour import pos"),
        ("meter.py", "import av"),
    ],
)
def test_a_forbidden_import_is_seen(file: str, source: str) -> None:
    wrong = forbidden(PACKAGE / file, source)
    assert len(wrong) == 1
    assert wrong[0].startswith(f"src/autohr/{file}:")


def test_no_nameless_rooms_and_one_level_of_folders() -> None:
    for file in modules():
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        assert not NAMELESS & set(parts), f"{file}: a helper lives in the room of its noun"
        assert len(parts) <= 2, f"{file}: folders are one level deep"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_init_is_empty_or_a_table(file: Path) -> None:
    """Empty, the visible table of its room, or the package's face: never functions with work in them."""
    if file.parent == PACKAGE:
        return
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    odd = [node for node in ast.parse(file.read_text()).body if not isinstance(node, kinds)]
    assert not odd, f"{file}:{odd[0].lineno}"


def test_no_path_of_a_machine_and_no_address_of_a_registry() -> None:
    pattern = re.compile(r"/(work|root|home)/\w|py" + r"pi\.org|python" + r"hosted|registry\.np" + r"mjs")
    for folder in ("src", "tests", "benchmarks", "docs", ".ci"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".md", ".toml", ".j2", ".txt"} or file.name == "run":
                hit = pattern.search(file.read_text())
                assert hit is None, f"{file}: {hit.group(0) if hit else ''}"
