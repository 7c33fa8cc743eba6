"""The package as a library: its names, frames and file objects as sources, measurements as values, pickled methods."""

from __future__ import annotations

import doctest
import io
import json
import math
import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autohr
from autohr.errors import AutoHRError, NoFace, VideoError
from autohr.measure import answer, measure
from autohr.meter import Meter
from autohr.methods import load_method, ready_methods, shipped_weights
from autohr.schema import FRAMES, HRV, measurement_schema
from autohr.types import HRV as Variability
from autohr.types import FaceClip, FaceMeasurement, Frame, Frames, Measurement, Pulse, Window
from autohr.video.encode import write_video
from autohr.video.regions import REGIONS
from made import run
from test_meter import Knows, video

FPS = 30.0


@pytest.fixture(scope="module")
def scene() -> Frame:
    """A drawn patch of skin with a pulse, (T, H, W, 3)."""
    return np.stack([frame for frame, _ in video(9)])


@pytest.fixture(autouse=True)
def known_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the drawn patch without the network of the face detector."""
    monkeypatch.setattr("autohr.video.tracker.FaceDetector", Knows)


# -- names


def test_names_are_listed_and_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, autohr; assert set(autohr.__all__) <= set(dir(autohr)); "
        "heavy = {'numpy', 'scipy', 'cv2', 'onnxruntime', 'av'} & set(sys.modules); assert not heavy, heavy; "
        "from autohr import *; assert LiveSession and Meter and issubclass(AutoHRError, Exception) and measure; "
        "import pydoc; page = pydoc.render_doc(autohr); assert 'LiveSession' in page and 'AutoHRError' in page"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- frames


def test_frames_measure_as_the_meter_and_a_lossless_file_do(scene: Frame, tmp_path: Path) -> None:
    measurement = autohr.measure(scene, "pos", fps=FPS)
    assert measurement.path == "frames" and measurement.face.hr_bpm == pytest.approx(75, abs=3)
    assert measurement.frames.read == len(scene) and measurement.notes == ()

    meter = Meter("pos")
    readings = [reading for k, frame in enumerate(scene) for reading in meter.push(frame, k / FPS)]
    readings += meter.finish()
    duration_s = (len(scene) - 1) / FPS
    counts = Frames(read=len(scene), face=meter.n_face, repaired=meter.n_filled)
    by_meter = answer(meter, readings, path="frames", duration_s=duration_s, frames=counts, notes=[])
    assert measurement == by_meter

    times = 100 + np.arange(len(scene)) / FPS
    one_by_one = autohr.measure(iter(list(scene)), "pos", t_s=iter(times.tolist()))
    assert one_by_one.face.hr_bpm == pytest.approx(measurement.face.hr_bpm, abs=1e-3)
    assert one_by_one.face.start_s == 0.0

    path = tmp_path / "scene.mkv"
    write_video(path, scene, fps=FPS, codec="ffv1", pix_fmt="bgr0")
    by_file = autohr.measure(path, "pos", fps=FPS)
    assert replace(by_file, path="frames") == measurement
    for file in (io.BytesIO(path.read_bytes()), path.open("rb")):
        file.seek(0, io.SEEK_END)  # as after writing
        by_object = autohr.measure(file, "pos", fps=FPS)
        assert replace(by_object, path=str(path)) == by_file
        assert by_object.path == ("file" if isinstance(file, io.BytesIO) else str(path))
        file.close()


def test_frames_that_share_one_memory_are_copied(scene: Frame) -> None:
    def reused() -> Iterator[Frame]:
        buffer = np.empty_like(scene[0])
        for frame in scene:
            buffer[:] = frame
            yield buffer

    assert autohr.measure(reused(), "pos", fps=FPS) == autohr.measure(scene, "pos", fps=FPS)


def test_an_iterator_is_read_as_far_as_the_end_asked_for(scene: Frame) -> None:
    def endless() -> Iterator[Frame]:
        while True:
            yield from scene

    part = autohr.measure(endless(), "pos", fps=FPS, start_s=1.0, end_s=7.0)
    assert part.frames.read == 180 and part.face.start_s >= 1.0


def test_memory_does_not_grow_with_an_iterator() -> None:
    frame = np.full((256, 256, 3), 90, dtype=np.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(NoFace):
            autohr.measure((frame.copy() for _ in range(300)), "pos", fps=FPS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * frame.nbytes


GRAY = np.zeros((5, 128, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("frames", "clock", "words"),
    [
        (GRAY, {}, "neither was given"),
        (GRAY, {"fps": 30, "t_s": [0, 1, 2, 3, 4]}, "both was given"),
        (GRAY, {"fps": 0}, "fps is 0"),
        (GRAY, {"fps": math.nan}, "fps is nan"),
        (GRAY[0], {"fps": 30}, r"\(T, H, W, 3\)"),
        (GRAY[..., :1], {"fps": 30}, r"has the shape \(128, 128, 1\)"),
        (GRAY / 255, {"fps": 30}, "type float64.*Multiply"),
        (GRAY[:, :20], {"fps": 30}, "128x20; each side"),
        (GRAY[:0], {"fps": 30}, "0 frames"),
        ([], {"fps": 30}, "0 frames"),
        (iter([]), {"fps": 30}, "0 frames"),
        (["a.png"], {"fps": 30}, "'a.png'"),
        ([GRAY[0], GRAY[0, :100]], {"fps": 30}, "Frame 1 is 128x100 and the first one 128x128"),
        (GRAY, {"t_s": [0, 1, 2]}, "5 frames and 3 times"),
        (iter(GRAY), {"t_s": [0, 1, 2]}, "more frames than times"),
        (iter(GRAY), {"t_s": range(9)}, "5 frames and 9 times"),
        (GRAY, {"t_s": [0, 1, 1, 3, 4]}, r"t_s\[2\] is 1.0; .* greater than the 1.0 of"),
        (GRAY, {"t_s": [0, 1, math.inf, 3, 4]}, r"t_s\[2\] is inf"),
        (iter(GRAY), {"t_s": iter([0, 2, 1, 3, 4])}, r"t_s\[2\] is 1"),
        (GRAY, {"t_s": "now"}, "must be the times"),
        (GRAY, {"t_s": 3.0}, "must be the times"),
        (b"\0\0\0\x18ftyp", {"fps": 30}, "io.BytesIO"),
        (None, {"fps": 30}, "NoneType"),
        ("face.mp4", {"t_s": [0]}, "t_s is for frames"),
        (io.StringIO("text"), {}, "binary mode"),
    ],
)
def test_frames_that_are_not_frames_are_a_mistake_of_the_caller(frames: Any, clock: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measure(frames, "pos", **clock)


def test_a_file_object_that_is_no_video_is_named_by_its_name() -> None:
    file = io.BytesIO(b"not a video at all")
    file.name = "upload.mp4"
    with pytest.raises(VideoError, match=r"'upload\.mp4'"):
        measure(file, "pos")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        measure(file, "pos")


# -- measurements


def made_measurement(path: str = "face.mp4") -> Measurement:
    """A measurement with every field set."""
    wave = Pulse(np.array([0.1, math.nan, -0.2]), 30.0, 0.0)
    face = FaceMeasurement(
        72.123,
        0.9,
        True,
        5.5,
        id=0,
        start_s=0.0,
        end_s=10.0,
        windows=(
            Window(72.1, 0.9, True, 5.5, start_s=0.0, end_s=10.0),
            Window(None, 0.0, False, None, "dark", start_s=1.0, end_s=11.0),
        ),
        bvp=wave,
        beats_s=(0.5, 1.3),
        beat_error_ms=8.0,
        hrv=Variability(60.0, 70, 71.0, *(1.0,) * 6, None, None, None, None, None, None, "LF"),
        crop=np.zeros((4, 4, 3), np.uint8),
    )
    return Measurement(path, "pos", None, 11.0, 30.0, Frames(330, 330, 0, 0), (face,), ("a note",), "POS")


def test_measurements_are_values() -> None:
    one, same = made_measurement(), made_measurement()
    assert one == same and hash(one) == hash(same) and len({one, same}) == 1
    unknown = [replace(one, fps_mean=float("nan")) for _ in range(2)]
    assert unknown[0] == unknown[1] and hash(unknown[0]) == hash(unknown[1])
    face = one.faces[0]
    assert one != replace(one, faces=(replace(face, crop=None),)) and one != replace(one, method="chrom") and one != 3
    assert face.bvp is not None and face != replace(face, bvp=replace(face.bvp, bvp=np.zeros(2)))
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "Measurement('face.mp4', 72.1 bpm, reliable)"
    assert "\n" not in repr(face) and len(repr(face)) < 800
    assert repr(replace(one, faces=())) == "Measurement('face.mp4', no face)"


def test_a_measurement_becomes_json_a_table_and_a_page() -> None:
    one = made_measurement("<script>\udce9\x1b[31m.mp4")
    assert json.loads(one.to_json()) == one.as_dict() and one.to_json().isascii()
    page = one._repr_html_()
    assert "<script" not in page and "&lt;script&gt;\\udce9\\x1b[31m.mp4" in page and page.encode()
    pandas = pytest.importorskip("pandas")
    table = one.to_dataframe()
    assert list(table["hr_bpm"].isna()) == [False, True] and list(table["reliable"]) == [True, False]
    assert table["hr_bpm"].dtype == float and isinstance(table, pandas.DataFrame)
    assert len(replace(one, faces=()).to_dataframe()) == 0


def test_a_table_without_pandas_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AutoHRError, match="pip install pandas"):
        made_measurement().to_dataframe()


# -- the schema


def problems(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Return where a value is not as a JSON Schema says, of the keywords that ours uses."""
    if "anyOf" in schema:
        ways = [problems(value, one, where) for one in schema["anyOf"]]
        return [] if [] in ways else min(ways, key=len)
    if "const" in schema:
        return [] if value == schema["const"] else [f"{where} is {value!r}"]
    python: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int,
        "number": (int, float),
    }  # fmt: skip
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, python[name]) and (name == "boolean" or value is not True) for name in names):
        return [f"{where} is {type(value).__name__}, not {names}"]
    found = []
    if isinstance(value, dict):
        keys, allowed = set(value), set(schema["properties"])
        found += [f"{where} lacks or adds {sorted(keys ^ allowed)}"] if keys != allowed else []
        found += [
            p for key in keys & allowed for p in problems(value[key], schema["properties"][key], f"{where}.{key}")
        ]
    if isinstance(value, list):
        found += [p for k, item in enumerate(value) for p in problems(item, schema["items"], f"{where}[{k}]")]
    if isinstance(value, (int, float)) and not schema.get("minimum", -math.inf) <= value <= schema.get(
        "maximum", math.inf
    ):
        found.append(f"{where} is {value}")
    return found


def test_a_measurement_is_as_its_schema_says(scene: Frame, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schema")
    schema = json.loads(out)
    assert code == 0 and schema == measurement_schema() and schema["$id"] == "autohr.measurement/1"
    short = autohr.measure(scene, "pos", fps=FPS)
    for one in (short, made_measurement(), replace(short, faces=())):
        assert problems(json.loads(one.to_json()), schema) == []
    assert problems({**short.as_dict(), "more": 1}, schema) and problems({**short.as_dict(), "notes": [1]}, schema)
    assert set(FRAMES) == set(vars(Frames())) and list(HRV) == list(Variability.__dataclass_fields__)


def test_every_field_of_the_schema_is_described() -> None:
    def check(schema: dict[str, Any], where: str) -> None:
        for key, inner in schema.get("properties", {}).items():
            assert len(inner["description"]) > 8 and inner["description"][-1] == ".", f"{where}.{key}"
            check(inner, f"{where}.{key}")
        assert list(schema.get("properties", {})) == schema.get("required", [])
        for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
            check(inner, where)

    check(measurement_schema(), "$")


# -- pickled methods


def made_clip() -> FaceClip:
    rng = np.random.default_rng(0)
    n = 150
    return FaceClip(
        fps=30.0,
        start_s=0.0,
        rgb=rng.uniform(100, 120, (n, 3)),
        traces=rng.uniform(100, 120, (n, len(REGIONS), 3)),
        background_rgb=rng.uniform(90, 95, (n, 3)),
        box_xywh=np.tile([10.0, 10.0, 60.0, 60.0], (n, 1)),
        found=np.ones(n, dtype=bool),
        clip=rng.integers(90, 130, (n, 64, 64, 3), dtype=np.uint8),
    )


@pytest.mark.parametrize("name", ready_methods())
def test_every_method_can_be_pickled(name: str) -> None:
    method, clip = load_method(name), made_clip()
    again = pickle.loads(pickle.dumps(method))
    assert (again.name, again.weights, again.trusted, again.crop) == (
        method.name,
        method.weights,
        method.trusted,
        method.crop,
    )
    if name in ("pos", "samc", "mvdr", "rhythmnet"):
        assert again(clip) == method(clip)


def test_methods_measure_the_same_in_a_spawned_worker() -> None:
    clip, shipped = made_clip(), shipped_weights(".safetensors")
    methods = [load_method("pos"), load_method("autohr"), load_method(None, shipped["autohr"])]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for method in methods:
            assert pool.apply(method, (clip,)) == method(clip)


def test_examples_of_the_page_hold() -> None:
    pytest.importorskip("pandas")
    page = Path(__file__).parents[1] / "docs" / "python.md"
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_measure_itself_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(autohr.measure)) is measure
