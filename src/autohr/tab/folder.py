"""Writer of the folder that any file server can hand out as the page that measures in the tab."""

from __future__ import annotations

import json
from pathlib import Path

from autohr.errors import AutoHRError
from autohr.files import make_folder, read_json, write_bytes
from autohr.methods import DEFAULT_METHOD, WEIGHTS_DIR
from autohr.runtime import trained_crop, trained_fps
from autohr.video.detector import WEIGHTS_DIR as DETECTOR_DIR
from autohr.weights.header import read_header

RUNTIME = "onnxruntime-web"
RUNTIME_VERSION = "1.30.0"
"""Version of the npm package that the page was held to Python with; ``web/package.json`` has the same."""

RUNTIME_FILES = {
    "ort.js": "ort.wasm.min.mjs",
    "ort-wasm.js": "ort-wasm-simd-threaded.mjs",
    "ort-wasm.wasm": "ort-wasm-simd-threaded.wasm",
}
"""Name in the page's folder -> name in the package; .js, since not every file server knows .mjs."""

FETCH_IT = f"Run: npm install {RUNTIME}@{RUNTIME_VERSION}, and give --runtime node_modules/{RUNTIME}."

PAGE_DIR = Path(__file__).parent / "page"
SERVICE_DIR = Path(__file__).parents[1] / "service" / "page"

NOTICES = """\
autohr: Apache-2.0.
ort/: onnxruntime-web {version}, MIT License, Copyright (c) Microsoft Corporation.
model/pnet.onnx, rnet.onnx, onet.onnx: converted from the package mtcnn, MIT License:

{mtcnn}"""


def find_runtime(folder: Path) -> dict[str, bytes]:
    """Return name in the page -> content of the files of onnxruntime-web.

    Parameters
    ----------
    folder
        The unpacked npm package.

    Raises
    ------
    AutoHRError
        The folder is not that package, or holds another version of it.
    """
    about = folder / "package.json"
    found = read_json(about) if about.is_file() else None
    if not isinstance(found, dict) or found.get("name") != RUNTIME:
        raise AutoHRError(f"{str(folder)!r} is not the npm package {RUNTIME}. {FETCH_IT}")
    if found.get("version") != RUNTIME_VERSION:
        raise AutoHRError(
            f"{str(folder)!r} holds {RUNTIME} {str(found.get('version'))[:40]!r}; the page needs {RUNTIME_VERSION}. "
            f"{FETCH_IT}"
        )
    missing = [name for name in RUNTIME_FILES.values() if not (folder / "dist" / name).is_file()]
    if missing:
        raise AutoHRError(f"{str(folder)!r} lacks dist/{missing[0]}. {FETCH_IT}")
    return {name: (folder / "dist" / source).read_bytes() for name, source in RUNTIME_FILES.items()}


def page_files(runtime: Path) -> dict[str, bytes]:
    """Return path in the page's folder -> content of every file of the page.

    ``runtime`` as in ``find_runtime``, which also says what it raises.
    """
    weights = WEIGHTS_DIR / f"{DEFAULT_METHOD}.onnx"
    header = read_header(weights)
    crop = trained_crop(weights, header)
    fps_from, fps_to = trained_fps(header)
    settings = {
        "crop": {"stored_px": crop.stored_px, "size_px": crop.size_px, "margin": crop.margin},
        "fps_from": fps_from,
        "fps_to": fps_to,
    }
    mtcnn = (DETECTOR_DIR / "LICENSE").read_text(encoding="utf-8")
    return {
        **{path.name: path.read_bytes() for path in sorted(PAGE_DIR.iterdir())},
        **{name: (SERVICE_DIR / name).read_bytes() for name in ("app.css", "icon.svg")},
        **{f"ort/{name}": content for name, content in find_runtime(runtime).items()},
        f"model/{DEFAULT_METHOD}.onnx": weights.read_bytes(),
        **{f"model/{name}.onnx": (DETECTOR_DIR / f"{name}.onnx").read_bytes() for name in ("pnet", "rnet", "onet")},
        "model/model.json": json.dumps(settings).encode(),
        "LICENSES.txt": NOTICES.format(version=RUNTIME_VERSION, mtcnn=mtcnn).encode(),
    }


def write_page(out: Path, runtime: Path) -> int:
    """Write the page into the folder ``out`` and return its size in bytes.

    Parameters
    ----------
    out
        A folder that is empty, does not exist, or holds an earlier page.
    runtime
        As in ``find_runtime``.

    Raises
    ------
    AutoHRError
        ``out`` holds other files; or as in ``find_runtime``.
    OSError
        A file cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "model" / "model.json").is_file():
        raise AutoHRError(f"{str(out)!r} is not empty and holds no page of autohr. Choose another folder, or empty it.")
    files = page_files(runtime)
    for name, content in files.items():
        make_folder((out / name).parent)
        write_bytes(out / name, content)
    return sum(map(len, files.values()))
