"""The meter: windows, segments, gaps and memory, on drawn patches with a detector that knows where they are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from autohr.confidence.verdict import LEAST_S
from autohr.errors import UnknownName
from autohr.frontend import BRIDGE_S
from autohr.measure import join_waves
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS, load_method
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse
from autohr.types import Frame, Reading
from autohr.video.detector import Detection

BOX = np.array([50.0, 25.0, 60.0, 70.0])
LANDMARKS = BOX[:2] + np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.58], [0.36, 0.76], [0.64, 0.76]]) * BOX[2:]


class Knows:
    """A detector that finds the face wherever the drawn patch is there at all."""

    def detect(self, frame: Frame, /) -> Sequence[Detection]:
        skin = frame[60, 80].astype(int)
        return [Detection(BOX, 0.99, LANDMARKS)] if skin[0] > skin[2] + 30 else []


def video(
    duration_s: float,
    fps: float = 30.0,
    hr_bpm: float = 75.0,
    depth: float = 0.006,
    hidden: tuple[float, float] | None = None,
    seed: int = 0,
) -> Iterator[tuple[Frame, float]]:
    """A textured skin patch with a pulse on a noisy grey wall; gone between the two times of ``hidden``."""
    rng = np.random.default_rng(seed)
    truth = simulate_pulse(duration_s, fps, hr_bpm, seed=seed, hrv=0.01)
    texture = cv2.GaussianBlur(rng.uniform(0.6, 1.2, (120, 160)).astype(np.float32), (0, 0), 2)[..., None]
    skin = np.zeros((120, 160, 1), np.float32)
    cv2.ellipse(skin, (80, 60), (36, 44), 0, 0, 360, 1.0, -1)
    absorbed = depth * np.array(CHANNEL_RATIO) / CHANNEL_RATIO[1]
    for k, blood in enumerate(truth.bvp):
        t_s = k / fps
        there = hidden is None or not hidden[0] <= t_s < hidden[1]
        colour = np.array([190, 140, 115]) * (1 - absorbed * blood)
        scene = 90 * texture + 0 * colour
        if there:
            scene = skin * texture * colour + (1 - skin) * scene
        noisy = scene + 1.5 * rng.standard_normal(scene.shape, dtype=np.float32)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8), t_s


def run(meter: Meter, frames: Iterator[tuple[Frame, float]]) -> list[Reading]:
    readings = [reading for frame, t_s in frames for reading in meter.push(frame, t_s)]
    return readings + meter.finish()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.is_net])
def test_every_formula_of_the_table_measures(name: str) -> None:
    readings = run(Meter(name, detector=Knows()), video(11))
    assert len(readings) == 2
    for reading in readings:
        assert reading.estimate.hr_bpm == pytest.approx(75, abs=2.5)
        assert reading.estimate.reliable, reading.estimate
        assert reading.estimate.pulse is not None
        assert len(reading.estimate.pulse.bvp) == 300


@pytest.mark.slow
@pytest.mark.parametrize("fps", [12.5, 29.97, 60.0])
def test_windows_come_when_they_are_full_and_lie_a_stride_apart(fps: float) -> None:
    meter = Meter("green", MeterConfig(window_s=5, stride_s=2), detector=Knows())
    came: list[tuple[float, Reading]] = []
    for frame, t_s in video(10, fps):
        came += [(t_s, reading) for reading in meter.push(frame, t_s)]
    for t_s, reading in came:
        assert abs(t_s - reading.end_s) < 2.1 / fps
        assert reading.end_s - reading.start_s == pytest.approx(5, abs=1 / fps)
    starts = [reading.start_s for _, reading in came]
    np.testing.assert_allclose(starts, [0, 2, 4], atol=2.5 / fps)
    last = meter.finish()
    assert len(last) == 1 and last[0].end_s == pytest.approx(10, abs=1.5 / fps)


def test_memory_is_bounded_by_the_window() -> None:
    meter = Meter("green", MeterConfig(window_s=4, stride_s=1), detector=Knows())
    most = 0
    for frame, t_s in video(14, 15):
        meter.push(frame, t_s)
        most = max(most, *(len(segment.rows) for segment in meter._open.values()), 0)
    assert most <= (4 + 2 * 1 + 1) * 15


@pytest.mark.parametrize("bad_s", [float("nan"), float("inf"), -float("inf"), 0.2, 0.1, -1e300])
def test_a_time_that_cannot_be_is_the_callers_mistake(bad_s: float) -> None:
    meter = Meter("green", detector=Knows())
    frames = list(video(0.4, 10))
    for frame, t_s in frames[:3]:
        meter.push(frame, t_s)
    with pytest.raises(ValueError, match="finite time in seconds"):
        meter.push(frames[3][0], bad_s)
    meter.push(*frames[3])
    assert meter.n_frames == 4


def test_times_that_leap_begin_a_new_segment_and_take_no_memory() -> None:
    meter = Meter("green", MeterConfig(window_s=4, stride_s=2), detector=Knows())
    leaps_s = [0.0, 47_721.9, 1.7e9, 1e12]
    readings: list[Reading] = []
    tracemalloc.start()
    for leap_s in leaps_s:
        for frame, t_s in video(4.2, 8):
            readings += meter.push(frame, leap_s + t_s)
    readings += meter.finish()
    wave = join_waves(readings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {reading.segment for reading in readings} == {0, 1, 2, 3}
    assert all(reading.end_s - reading.start_s < 4.3 for reading in readings)
    assert wave is not None and len(wave.bvp) < 47_800 * 10 * 1.1
    assert peak < 40e6


@pytest.mark.parametrize(("height", "width"), [(240, 320), (160, 120)])
def test_frames_of_another_size_are_measured_as_another_scene(height: int, width: int) -> None:
    class Everywhere:
        """A detector that knows the face at any size of the picture."""

        def detect(self, frame: Frame, /) -> Sequence[Detection]:
            scale = np.array([frame.shape[1] / 160, frame.shape[0] / 120])
            return [Detection(BOX * np.tile(scale, 2), 0.99, LANDMARKS * scale)]

    meter = Meter("green", MeterConfig(window_s=4, stride_s=2), detector=Everywhere())
    readings: list[Reading] = []
    for frame, t_s in video(4.2, 8):
        readings += meter.push(frame, t_s)
    for frame, t_s in video(4.2, 8):
        sized = np.asarray(cv2.resize(frame, (width, height)), dtype=np.uint8)
        readings += meter.push(sized, 4.2 + t_s)
        x, y, w, h = meter.faces[0].box_xywh
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    readings += meter.finish()
    assert meter.n_face == meter.n_frames == 68
    assert any(reading.start_s < 0.1 for reading in readings) and any(reading.start_s > 4.1 for reading in readings)
    assert all(reading.end_s < 4.3 or reading.start_s > 4.1 for reading in readings), "a window reached over the change"


@pytest.mark.slow
def test_a_short_loss_is_bridged_and_counted() -> None:
    meter = Meter("pos", detector=Knows())
    readings = run(meter, video(11, hidden=(4.0, 4.5)))
    assert {reading.segment for reading in readings} == {0}
    assert readings[0].found_share == pytest.approx(0.95, abs=0.03)
    assert 10 <= meter.n_filled <= 20
    assert readings[0].estimate.hr_bpm == pytest.approx(75, abs=3)


@pytest.mark.slow
def test_a_long_loss_ends_the_segment_and_no_window_reaches_over_it() -> None:
    gap = (6.0, 6.0 + BRIDGE_S + 2)
    meter = Meter("pos", MeterConfig(window_s=5), detector=Knows())
    readings = run(meter, video(16, hidden=gap))
    assert {reading.segment for reading in readings} == {0, 1}
    assert {reading.face_id for reading in readings} == {0}
    for reading in readings:
        assert reading.end_s <= gap[0] + 0.1 or reading.start_s >= gap[1] - 0.1


def test_what_is_too_short_is_said_and_not_measured() -> None:
    meter = Meter("pos", detector=Knows())
    assert run(meter, video(LEAST_S - 0.5)) == []
    assert len(meter.too_short) == 1
    assert "at least 4 s" in meter.too_short[0].why
    assert meter.crops == {}


def test_a_window_under_eight_seconds_is_never_reliable() -> None:
    readings = run(Meter("pos", detector=Knows()), video(6))
    assert len(readings) == 1
    estimate = readings[0].estimate
    assert estimate.hr_bpm == pytest.approx(75, abs=4)
    assert not estimate.reliable and "8 s" in str(estimate.why_unreliable)


def test_too_few_frames_per_second_are_refused() -> None:
    meter = Meter("pos", MeterConfig(window_s=6), detector=Knows())
    assert run(meter, video(8, fps=6)) == []
    assert "frames per second" in meter.too_short[0].why


def test_frames_that_come_fast_enough_later_are_measured_from_then_on() -> None:
    slow = [(frame, t_s) for k, (frame, t_s) in enumerate(video(17, 15)) if t_s >= 7 or k % 3 == 0]
    meter = Meter("pos", MeterConfig(window_s=6), detector=Knows())
    readings = run(meter, iter(slow))
    assert readings and readings[0].start_s == pytest.approx(7, abs=0.7)
    assert readings[0].estimate.hr_bpm == pytest.approx(75, abs=4)
    (left_out,) = meter.too_short
    assert left_out.start_s == 0 and left_out.end_s == readings[0].start_s and "5.0 frames per second" in left_out.why


def test_no_face_no_reading() -> None:
    meter = Meter("pos", detector=Knows())
    assert run(meter, video(3, hidden=(0, 99))) == []
    assert meter.n_face == 0 and meter.too_short == []


@pytest.mark.slow
def test_a_patch_without_a_pulse_is_not_called_reliable() -> None:
    readings = run(Meter("pos", detector=Knows()), video(13, depth=0.0))
    assert readings and not any(reading.estimate.reliable for reading in readings)


def test_the_papers_box_is_enlarged_and_never_moves() -> None:
    meter = Meter("pos", MeterConfig(box="first"), detector=Knows())
    boxes = []
    for frame, t_s in video(1.5):
        meter.push(frame, t_s)
        boxes += [face.box_xywh for face in meter.faces]
    assert len(boxes) == 45
    np.testing.assert_allclose(np.ptp(boxes, axis=0), 0)
    np.testing.assert_allclose(boxes[0][2:], 1.5 * BOX[2:])
    np.testing.assert_allclose(boxes[0][:2] + boxes[0][2:] / 2, BOX[:2] + BOX[2:] / 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"window_s": 3.0},
        {"window_s": 500.0},
        {"stride_s": 0.0},
        {"stride_s": 11.0},
        {"max_faces": 0},
        {"box": "moving"},
    ],
)
def test_contradictions_are_refused_by_name(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        MeterConfig(**bad)  # type: ignore[arg-type]


def test_unknown_methods_list_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="green, ica, chrom, pos.*Did you mean 'pos'"):
        load_method("poss")
