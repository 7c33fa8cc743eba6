"""The house: which room may import which, and which library enters by which door. Read from the source, not run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "autohr"

# Rooms from ground to roof, each with the rooms below it that it may import. A room may import itself. The product
# comes first: none of its rooms imports the laboratory (`lab.*`), but for one lazy door, `methods`, which opens
# `lab.nets` when a caller gives .safetensors weights or another device than the processor.
PRODUCT: tuple[tuple[str, str], ...] = (
    ("errors", ""),
    ("files", "errors"),
    ("workers", "errors"),
    ("cluster", "errors workers"),
    ("plugins", "errors"),
    ("weights", "errors files"),
    ("types", "errors"),
    ("schema", "types"),
    ("signals", "errors types"),
    ("video", "errors types"),
    ("classic", "errors types signals"),
    ("confidence", "errors types signals video classic"),
    ("frontend", "errors types signals video"),
    ("runtime", "errors types weights signals video confidence frontend"),
    ("methods", "errors plugins weights types signals video classic confidence frontend runtime"),
    ("tab", "errors files weights video runtime methods"),
    ("meter", "errors types signals video confidence frontend methods"),
    ("measure", "errors types signals video confidence frontend methods meter"),
    ("live", "errors types signals video confidence frontend methods meter measure"),
    ("reports", "errors files types"),
    ("service", "errors files types video methods measure live reports"),
    (
        "cli",
        "errors files workers cluster plugins weights types schema video methods tab meter measure live reports "
        "service",
    ),
)
LABORATORY: tuple[tuple[str, str], ...] = (
    ("lab.metrics", ""),
    ("lab.claims", ""),
    ("lab.shards", ""),
    ("lab.runs", ""),
    ("lab.recipes", ""),
    ("lab.nets", ""),
    ("lab.synth", ""),
    ("lab.datasets", "lab.claims lab.shards lab.runs lab.synth"),
    ("lab.train", "lab.metrics lab.runs lab.recipes lab.nets lab.datasets"),
    ("lab.search", "lab.metrics lab.runs lab.recipes lab.nets lab.datasets lab.train"),
    ("lab.evaluate", "lab.metrics lab.runs lab.recipes lab.datasets"),
    ("lab.experiments", "lab.metrics lab.runs lab.recipes lab.nets lab.datasets lab.train lab.search lab.evaluate"),
    ("lab.reports", "lab.runs lab.evaluate"),
    (
        "lab.commands",
        "cli lab.shards lab.recipes lab.nets lab.synth lab.datasets lab.train lab.search lab.evaluate lab.experiments "
        "lab.reports",
    ),
)
"""Rooms of the laboratory. The second column names others of it; each may also import the product, but for its roof."""
ROOF = {"live", "service", "cli"}

FLOORS: tuple[tuple[str, frozenset[str]], ...] = (
    *((room, frozenset(allowed.split())) for room, allowed in PRODUCT),
    *(
        (room, frozenset(allowed.split()) | {name for name, _ in PRODUCT if name not in ROOF})
        for room, allowed in LABORATORY
    ),
)
ALLOWED = dict(FLOORS)
ORDER = [room for room, _ in FLOORS]

# A heavy library enters by one door.
DOORS: dict[str, frozenset[str]] = {
    library: frozenset(rooms.split())
    for library, rooms in {
        "av": "video",
        "cv2": "video lab.synth lab.datasets",
        "torch": "lab.nets lab.train lab.search lab.datasets",
        "mtcnn": "",
        "joblib": "lab.nets",
        "tensorboard": "lab.train",
        "scipy": "lab.metrics lab.synth lab.evaluate lab.datasets",
        "matplotlib": "reports lab.reports lab.train",
        "jinja2": "reports",
        "markupsafe": "reports lab.reports",
        "typer": "cli lab.commands",
        "rich": "cli lab.commands live/terminal",
        "fastapi": "service",
        "uvicorn": "service",
        "starlette": "service",
        "websockets": "service",
        "cryptography": "service",
        "segno": "service",
        "safetensors": "lab.nets lab.train",
        "h5py": "lab.datasets",
        "pyedflib": "lab.datasets",
        "pydantic": "lab.train lab.search lab.evaluate lab.datasets lab.recipes",
        "filelock": "files",
        "dask": "cluster",
        "distributed": "cluster",
        "onnx": "lab.nets",
        "onnxruntime": "runtime video lab.nets",
        "onnxscript": "lab.nets",
    }.items()
}
LAZY_DOORS = {("methods", "lab.nets")}
"""(room, room above it) that may be imported inside a function, when a caller asks for what only the other has."""
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
# The package's own face and `python -m` may reach any room, as the CLI does, but only when asked (not on import).
FACE = {"__init__", "__main__", "lab.__init__"}


def room_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "lab" else parts[0]


def room_of_module(name: str) -> str:
    """The room of a dotted name such as autohr.lab.nets.autohr."""
    parts = name.split(".")[1:]
    return ".".join(parts[:2]) if parts[:1] == ["lab"] else parts[0] if parts else "__version__"


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> list[tuple[ast.stmt, str]]:
    """Return (statement, dotted name) of every import, wherever it stands, relative ones included as "."."""
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append((node, "."))
            elif node.module in ("autohr", "autohr.lab"):
                found += [(node, f"{node.module}.{alias.name}") for alias in node.names]
            else:
                found.append((node, node.module or ""))
    return found


def forbidden(file: Path, source: str) -> list[str]:
    """Every import of ``source``, as it would stand in ``file``, that the house forbids."""
    room = room_of(file)
    place = file.relative_to(PACKAGE).with_suffix("").as_posix()
    wrong = []
    for node, name in imports(ast.parse(source)):
        where = f"{file.relative_to(ROOT)}:{node.lineno}: "
        top = name.split(".")[0]
        if name == ".":
            wrong.append(where + "relative import; write the room's name")
        elif top == "autohr":
            target = room_of_module(name)
            is_lazy = node.col_offset > 0 and (room, target) in LAZY_DOORS
            if is_lazy or room in FACE or target in (room, "__version__") or "*" in ALLOWED.get(room, ()):
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
        ("video/new.py", "from autohr.lab.nets import autohr"),
        ("meter.py", "from autohr.lab.nets import autohr"),
        ("lab/nets/new.py", "from autohr.lab import train"),
        ("lab/evaluate/new.py", "from autohr.cli import main"),
        ("measure.py", "from autohr.lab import datasets"),
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
        assert len(parts) <= 2 + (parts[0] == "lab"), f"{file}: folders are one level deep"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_init_is_empty_or_a_table(file: Path) -> None:
    """Empty, the visible table of its room, or the package's face: never functions with work in them."""
    if file.parent == PACKAGE:
        return
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    odd = [node for node in ast.parse(file.read_text()).body if not isinstance(node, kinds)]
    assert not odd, f"{file}:{odd[0].lineno}"


FIRST_WORDS = {"Of", "What", "Whether", "As", "How"}
"""Words with which no docstring begins: it names the thing, or what the function does."""


def docstrings(source: str) -> list[tuple[int, str]]:
    """Return (line, text) of every string that stands alone, as docstrings of modules, functions and constants do."""
    found = []
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
                continue
            if isinstance(statement.value.value, str):
                found.append((statement.lineno, statement.value.value))
    return found


def test_docstrings_begin_with_the_thing_or_the_deed() -> None:
    riddles = [
        f"{file.relative_to(ROOT)}:{line}: {text.strip()[:60]}"
        for folder in ("src", "tests", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(file.read_text())
        if text.split() and text.split()[0].strip(",.:;") in FIRST_WORDS
    ]
    assert not riddles, "\n" + "\n".join(riddles)


def test_no_path_of_a_machine_and_no_address_of_a_registry() -> None:
    pattern = re.compile(r"/(work|root|home)/\w|py" + r"pi\.org|python" + r"hosted|registry\.np" + r"mjs")
    for folder in ("src", "tests", "benchmarks", "docs", ".ci"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".md", ".toml", ".j2", ".txt"} or file.name == "run":
                hit = pattern.search(file.read_text())
                assert hit is None, f"{file}: {hit.group(0) if hit else ''}"


WRITES = re.compile(r"\.(?:write_text|write_bytes)\(|\.open\(\"[wxa]|\bopen\([^)]*\"[wxa]b?\"")
READS = re.compile(r"\b(?:json\.loads?|tomllib\.loads?)\(")
ROUND_TRIP = "json.loads(json.dumps("
OWN_WRITERS = {
    "files.py",
    "cli/output.py",  # the null device
    "reports/outputs.py",  # into the file that `replacing` gives
    "reports/journal.py",
    "service/measuring.py",  # its own standard output
    "video/encode.py",
    "video/memory.py",  # a temporary file
    "service/tls.py",  # a temporary file
    "lab/datasets/cache.py",  # in a staging folder, renamed at the end
    "lab/runs.py",  # appends a line
    "lab/evaluate/export.py",  # row by row, into the file that replacing gives
    "lab/nets/_export.py",
    "lab/nets/_genotype.py",
    "lab/nets/_mtcnn.py",
}
OWN_READERS = {
    "files.py",
    "cli/demo.py",  # a file of this package
    "confidence/model.py",  # a file of this package
    "reports/journal.py",  # lines of its own, with a hook
    "reports/live_outputs.py",  # lines of its own
    "service/camera.py",  # a short message of the page
    "service/measuring.py",  # a line of the server
    "service/uploads.py",  # a line of its own process
    "lab/datasets/pure.py",  # text of read_lines
    "lab/nets/_genotype.py",
    "lab/recipes/files.py",
    "lab/train/state.py",
}


@pytest.mark.parametrize(("pattern", "allowed"), [(WRITES, OWN_WRITERS), (READS, OWN_READERS)], ids=["write", "read"])
def test_files_are_written_whole_and_read_within_limits(pattern: re.Pattern[str], allowed: set[str]) -> None:
    """A page on a full disk is the old one, and no file of JSON or TOML can stop a reader: autohr.files does both."""
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in modules()
        for line in file.read_text().splitlines()
        if pattern.search(line.replace(ROUND_TRIP, "")) and ">>>" not in line
    }
    assert not found - allowed, "use autohr.files: " + ", ".join(sorted(found - allowed))


def test_no_script_hides_a_module_of_python() -> None:
    """Benchmarks and tests are on the path of their neighbours: one called codecs broke mypy on everything."""
    names = {path.stem for folder in ("benchmarks", "tests") for path in (ROOT / folder).glob("*.py")}
    assert names and not names & sys.stdlib_module_names
