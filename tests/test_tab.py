"""The page that runs in the tab (``web/``), held to Python room by room: the same functions on the same numbers.

Its bundle runs in node, and needs nothing but that; skipped where there is none.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import autohr
from autohr.classic.colour import pos
from autohr.classic.mvdr import mvdr
from autohr.confidence import evidence, keyframes
from autohr.signals import filters, rate
from autohr.signals.simulate import simulate_pulse, simulate_rgb
from autohr.types import Float, Frame
from autohr.video import regions

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node to run the page's rooms in")
BUNDLE = Path(autohr.__file__).parent / "tab" / "page" / "autohr.js"


class Rooms:
    """The page's rooms in a node process."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("tab_rooms.mjs")
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([str(NODE), str(script), str(BUNDLE)], **pipes)

    def __call__(self, room: str, name: str, *args: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"room": room, "name": name, "args": [_plain(one) for one in args]}
        self.process.stdin.write(json.dumps(request, allow_nan=False) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["stack"]
        return _revived(answer["value"])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray) and value.dtype in (np.uint8, np.float32):
        return {"$": base64.b64encode(value.tobytes()).decode(), "float": value.dtype == np.float32}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _revived(value: Any) -> Any:
    if isinstance(value, dict) and "$" in value:
        return np.frombuffer(base64.b64decode(value["$"]), np.float32 if value.get("float") else np.uint8)
    if isinstance(value, dict):
        return {name: _revived(one) for name, one in value.items()}
    return [_revived(one) for one in value] if isinstance(value, list) else value


def array(value: Any) -> Float:
    return np.array(value, dtype=np.float64)


@pytest.fixture(scope="module")
def rooms() -> Iterator[Rooms]:
    one = Rooms()
    yield one
    one.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


MODULES = (
    "classic.colour",
    "classic.mvdr",
    "classic.projection",
    "confidence.evidence",
    "confidence.model",
    "confidence.verdict",
    "measure",
    "meter",
    "runtime",
    "signals.clock",
    "signals.filters",
    "signals.rate",
    "video.detector",
    "video.regions",
    "video.tracker",
)


@pytest.mark.parametrize("module", MODULES)
def test_constants_are_those_of_python(module: str) -> None:
    """Every constant of a room of the page has the name and the value of Python's."""
    assert NODE is not None
    listing = (
        f"const r = (await import({json.dumps(BUNDLE.as_uri())}))[{json.dumps(module.replace('.', '_'))}];"
        "console.log(JSON.stringify(Object.fromEntries(Object.entries(r).filter(([, v]) => typeof v !== 'function'))))"
    )
    printed = subprocess.run([NODE, "--input-type=module", "-e", listing], capture_output=True, text=True, check=True)
    constants = json.loads(printed.stdout)
    assert constants
    for name, value in constants.items():
        python = getattr(importlib.import_module(f"autohr.{module}"), name)
        assert value == json.loads(json.dumps(_plain(python))), name


@pytest.mark.parametrize("fs", [10.0, 12.5, 29.97, 60.0])
def test_filters(rooms: Rooms, rng: np.random.Generator, fs: float) -> None:
    x = rng.normal(size=round(10 * fs) + 1).cumsum() + 100
    assert np.allclose(array(rooms("signals_filters", "bandpass", x, fs)), filters.bandpass(x, fs), atol=1e-9)
    assert np.allclose(array(rooms("signals_filters", "detrend", x, fs)), filters.detrend(x, fs), atol=1e-7)
    assert np.allclose(array(rooms("signals_filters", "standardise", x)), filters.standardise(x), atol=1e-12)
    turned = rooms("signals_filters", "analytic", x)
    assert np.allclose(array(turned["re"]) + 1j * array(turned["im"]), filters.analytic(x), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_rate(rooms: Rooms, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fs = float(rng.uniform(15, 60))
    true = simulate_pulse(duration_s=10, fs=fs, hr_bpm=float(rng.uniform(45, 170)), seed=seed)
    wave = filters.bandpass(true.bvp + rng.normal(0, 1, len(true.bvp)), fs)
    page, python = rooms("signals_rate", "estimateHeartRate", wave, fs), rate.estimate_heart_rate(wave, fs)
    assert page == pytest.approx(vars(python), rel=1e-6)
    waves = [wave, wave[: len(wave) // 2], rng.normal(size=len(wave))]
    pooled = rooms("signals_rate", "pooledHeartRate", waves, [fs] * 3, [1.0, 1.5, 1.0])
    assert pooled == pytest.approx(rate.pooled_heart_rate(waves, [fs] * 3, [1.0, 1.5, 1.0]))


def cells_with_pulse(seed: int, fs: float = 25.0) -> tuple[Float, Float]:
    """Return colours (R, T, 3) of a raster, of which some cells beat, and the share of skin (R,)."""
    rng = np.random.default_rng(seed)
    true = simulate_pulse(duration_s=10, fs=fs, hr_bpm=float(rng.uniform(50, 120)), seed=seed)
    skin = np.clip(rng.normal(0.5, 0.5, 64), 0, 1)
    beat = simulate_rgb(true.bvp, fs=fs)
    cells = np.stack([120 + share * (beat - beat.mean(axis=0)) + rng.normal(0, 0.5, beat.shape) for share in skin])
    return cells, skin


def pictures() -> list[Frame]:
    """Return a smooth and a noisy picture (H, W, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (91, 123, 3)).astype(np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    return [noise, np.asarray(smooth, dtype=np.uint8)]


def as_picture(pixels: NDArray[Any]) -> dict[str, Any]:
    height, width, *channels = pixels.shape
    return {"data": pixels.ravel(), "width": width, "height": height, "channels": channels[0] if channels else 1}


def assert_alike(page: dict[str, Any], python: NDArray[Any], share: float = 0.005) -> None:
    """Whole pictures of bytes may differ by one grey level in a few pixels, where OpenCV rounds in other steps."""
    pixels = page["data"].reshape(python.shape).astype(np.float64)
    off = np.abs(pixels - python)
    assert off.max() <= (1 if python.dtype == np.uint8 else 0.01)
    assert np.mean(off > 0.01) <= share


def test_pictures_are_reduced_and_cut_as_by_opencv(rooms: Rooms) -> None:
    room, area, linear = "video_opencv", cv2.INTER_AREA, cv2.INTER_LINEAR
    for picture in pictures():
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        assert_alike(rooms(room, "toGrey", as_picture(picture)), grey)
        for size in ((100, 77), (61, 45), (41, 13), (24, 24), (130, 91), (150, 120)):
            resized = cv2.resize(picture, size, interpolation=area)
            assert_alike(rooms(room, "resizeArea", as_picture(picture), *size), resized)
        crop = picture[:80, :80].astype(np.float32)
        for side in (64, 8):
            resized = cv2.resize(crop, (side, side), interpolation=area)
            assert_alike(rooms(room, "resizeArea", as_picture(crop), side, side), resized)
        for scale in (1.05, 1.37, 2.0):
            larger = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=linear)
            page = rooms(room, "resizeLinear", as_picture(grey), larger.shape[1], larger.shape[0], 1 / scale)
            assert_alike(page, larger)
        to_picture = np.array([[1.37, 0.2, -10.3], [-0.2, 1.21, 15.2]])
        flags = linear | cv2.WARP_INVERSE_MAP
        exact = picture.astype(np.float32)
        turned = cv2.warpAffine(exact, to_picture, (64, 64), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        # OpenCV before 5 takes the nearest of 32 places between two pixels.
        page = rooms(room, "warpAffine", as_picture(exact), to_picture.ravel(), 64, True)
        assert np.abs(page["data"].reshape(turned.shape) - turned).mean() < 1.5


def test_points_are_chosen_and_followed_as_by_opencv(rooms: Rooms) -> None:
    room = "video_opencv"
    for picture in pictures():
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        mask = np.zeros(grey.shape, np.uint8)
        cv2.ellipse(mask, (60, 45), (40, 31), 0.0, 0.0, 360.0, 255, -1)
        drawn = rooms(room, "ellipseMask", grey.shape[1], grey.shape[0], [60, 45], [40, 31]).reshape(mask.shape)
        assert np.mean(drawn != mask) < 0.005
        corners = cv2.goodFeaturesToTrack(grey, 60, 0.01, 5.0, mask=mask).reshape(-1, 2)
        chosen = array(rooms(room, "goodFeaturesToTrack", as_picture(grey), 60, 0.01, 5.0, mask.ravel())).reshape(-1, 2)
        assert np.array_equal(chosen, corners)
        to_next = np.array([[1.01, 0.01, 1.3], [-0.01, 1.01, -2.2]])
        after = cv2.warpAffine(grey, to_next, grey.shape[::-1], borderMode=cv2.BORDER_REFLECT)
        for levels in (0, 3):
            settings: dict[str, Any] = {"winSize": (13, 13), "maxLevel": levels}
            points = corners.astype(np.float32)[:, None]
            there, found, _ = cv2.calcOpticalFlowPyrLK(grey, after, points, np.zeros_like(points), **settings)
            page = rooms(room, "flowForTest", as_picture(grey), as_picture(after), points.ravel(), levels)
            good = found.ravel() == 1
            assert np.mean(page["found"] == found.ravel()) >= 0.98
            assert np.abs(page["points"].reshape(-1, 2) - there[:, 0])[good].max() < 0.01


def test_colours_of_a_face_are_those_of_python(rooms: Rooms) -> None:
    frame, box = pictures()[1], np.array([30.3, 20.7, 50.0, 60.0])
    given = {"data": frame.ravel(), "width": frame.shape[1], "height": frame.shape[0]}
    thin = regions.thinned(frame)
    page = rooms("video_regions", "thinned", given)
    assert page["step"] == thin.step and np.array_equal(page["pixels"]["data"], thin.pixels.ravel())
    pixels = {"pixels": as_picture(thin.pixels), "step": thin.step}
    background = regions.background_colour(thin, [box])
    assert np.allclose(array(rooms("video_regions", "backgroundColour", pixels, [box])), background, equal_nan=True)
    cells = regions.cells_of(frame[None, :64, :64], 8)[:, 0]
    assert np.allclose(array(rooms("video_regions", "cellsOf", as_picture(frame[:64, :64]), 8)), cells, atol=1e-4)
    assert np.allclose(array(rooms("video_regions", "skinOfCells", cells)), regions.skin_of_cells(cells))
    for last in (None, 0, 1):
        assert rooms("video_regions", "nHalvings", box * 3, 64, last) == regions.n_halvings(box * 3, 64, last)


@pytest.mark.parametrize("seed", range(3))
def test_waves_of_formulas(rooms: Rooms, seed: int) -> None:
    fs = 25.0
    cells, skin = cells_with_pulse(seed)
    rgb = cells.mean(axis=0)
    assert np.allclose(array(rooms("classic_colour", "pos", rgb, fs)), pos(rgb, fs), atol=1e-9)
    others = np.random.default_rng(seed).normal(size=(4, cells.shape[1]))
    page, python = array(rooms("classic_mvdr", "mvdr", cells, fs, skin, others)), mvdr(cells, fs, skin, others)
    assert np.allclose(page, python, atol=1e-6 * np.abs(python).max())


@pytest.mark.parametrize("seed", range(3))
def test_evidence(rooms: Rooms, seed: int) -> None:
    fs, rng = 25.0, np.random.default_rng(seed)
    cells, skin = cells_with_pulse(seed)
    rgb = cells.mean(axis=0)
    wave = pos(rgb, fs)
    hr_bpm = rate.estimate_heart_rate(wave, fs).hr_bpm
    assert hr_bpm is not None
    others = rng.normal(size=(3, len(wave)))
    whole = np.arange(len(wave)) % 25 == 0
    relative = (rgb / rgb.mean(axis=0) - 1).T
    room, close = "confidence_evidence", pytest.approx
    waves = pos(cells[:16], fs)
    assert rooms(room, "agreementOfRegions", waves, fs, hr_bpm) == close(
        evidence.agreement_of_regions(waves, fs, hr_bpm)
    )
    scale = np.full(3, 0.3)
    assert rooms(room, "sharedWith", wave, others, fs, scale) == close(evidence.shared_with(wave, others, fs, scale))
    line = evidence.shared_line(relative, relative + 0.001 * others, fs, hr_bpm)
    assert rooms(room, "sharedLine", relative, relative + 0.001 * others, fs, hr_bpm) == close(line)
    on_skin = evidence.skin_over_light(cells, skin, fs, hr_bpm)
    assert rooms(room, "skinOverLight", cells, skin, fs, hr_bpm) == close(on_skin)
    assert rooms(room, "bloodOverLight", rgb, fs, hr_bpm) == close(evidence.blood_over_light(rgb, fs, hr_bpm))
    late = np.roll(wave, 2) + 0.3 * others[0]
    step = evidence.in_step(wave, late, fs, hr_bpm, 0.03)
    assert rooms(room, "inStep", wave, late, fs, hr_bpm, 0.03) == close(step)
    assert rooms(room, "halvesDifferBpm", wave, fs) == close(evidence.halves_differ_bpm(wave, fs), abs=1e-5)
    stepped = rgb - 0.02 * (np.arange(len(rgb)) % 25)[:, None]
    room = "confidence_keyframes"
    steps = keyframes.key_frame_steps(stepped, whole, fs)
    assert steps > 0
    assert rooms(room, "keyFrameSteps", stepped, whole, fs) == close(steps)
    comb = keyframes.key_frame_comb(stepped, whole, wave, fs, 120.0)
    assert rooms(room, "keyFrameComb", stepped, whole, wave, fs, 120.0) == close(comb)
    assert rooms(room, "atKeyFrames", whole, fs, 120.0) is keyframes.at_key_frames(whole, fs, 120.0) is True


WEB = Path(__file__).parents[1] / "web"


@pytest.mark.skipif(not (WEB / "node_modules" / "esbuild").exists(), reason="there is no esbuild: npm install in web/")
def test_bundle_is_that_of_the_sources(tmp_path: Path) -> None:
    assert NODE is not None
    subprocess.run([NODE, "build.mjs", str(tmp_path)], cwd=WEB, check=True)
    for made in tmp_path.iterdir():
        assert (BUNDLE.parent / made.name).read_bytes() == made.read_bytes(), f"run: npm run build, for {made.name}"
