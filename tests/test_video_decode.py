"""Frames come in once, in order, upright, in true colours and with true times; what is no video is refused."""

from __future__ import annotations

import gc
import http.server
import os
import resource
import socket
import struct
import threading
import time
import wave
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video import decode
from autohr.video.colour import ToRgb
from autohr.video.decode import VideoFrame, VideoReader, open_video, read_ahead
from autohr.video.encode import write_video
from autohr.video.folders import find_videos, is_image_folder, list_videos
from autohr.video.stamps import NoClock, StampClock

HEIGHT, WIDTH = 64, 96
SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "videos"


def _frames(n: int, height: int = HEIGHT, width: int = WIDTH) -> list[Frame]:
    """Noise, so that each frame fills some bytes of the file, with a flat patch that tells the frame's number."""
    frames = [np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8) for i in range(n)]
    for i, frame in enumerate(frames):
        frame[:16, :16] = 20 + 4 * (i % 50)
    return frames


def _gif(path: Path, frames: Sequence[Frame]) -> None:
    """Write a gif of 25 frames per second."""
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=40)


def _number(rgb: Frame) -> int:
    return round((float(rgb[4:12, 4:12].mean()) - 20) / 4)


def _read(source: Any, **options: Any) -> tuple[list[VideoFrame], VideoReader]:
    """Return all frames of a source, and its reader, closed."""
    with open_video(source, **options) as video:
        return list(video), video


def _timed(source: Any, **options: Any) -> tuple[list[float], VideoReader]:
    frames, video = _read(source, **options)
    return [frame.t_s for frame in frames], video


def _times(source: Any, **options: Any) -> list[float]:
    return _timed(source, **options)[0]


def _refused(source: Any, **options: Any) -> str:
    """Return the line with which a source is refused, at the latest when frames are asked for."""
    with pytest.raises(VideoError) as caught, open_video(source, **options) as video:
        list(video)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400
    return line


# ---- reading


def test_a_reader_counts_and_describes(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", _frames(25), fps=25)
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.width, video.height, video.n_read) == (WIDTH, HEIGHT, 0)
        assert video.duration_s == pytest.approx(1.0, abs=0.05)
        assert video.fps_nominal == pytest.approx(25, abs=0.1)
        first = next(video)
        assert video.n_read == 1
        assert first.rgb.shape == (HEIGHT, WIDTH, 3) and first.rgb.dtype == np.uint8
        assert first.rgb.flags.c_contiguous and first.rgb.flags.writeable
        rest = list(video)
    assert [f.index for f in [first, *rest]] == list(range(25))
    assert [f.t_s for f in [first, *rest]] == pytest.approx(np.arange(25) / 25, abs=1e-4)
    assert (video.n_read, video.n_repaired, video.n_dropped, video.notes) == (25, 0, 0, [])
    assert video.path == str(tmp_path / "a.mp4")
    assert list(video) == []
    with open_video(str(tmp_path / "a.mp4")) as video:
        next(video)
    assert list(video) == [], "a closed reader ends"
    video.close()


def test_time_starts_at_the_first_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", _frames(4), t_s=[5.0, 5.1, 5.25, 5.3])
    assert _times(tmp_path / "a.mkv") == pytest.approx([0.0, 0.1, 0.25, 0.3], abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".gif"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.0), (0.5, 1.0), (2.5, None), (3.95, 4.5), (4.0, 4.04)])
def test_start_and_end_give_the_same_frames_as_reading_all(
    tmp_path: Path, suffix: str, start_s: float, end_s: float | None
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".gif":
        _gif(path, _frames(125, 32, 32))
    else:
        write_video(path, _frames(125, 32, 32), fps=25, gop=30, crf=0)
    with open_video(path) as video:
        wanted = [f for f in video if start_s <= f.t_s and (end_s is None or f.t_s < end_s)]
    got, video = _read(path, start_s=start_s, end_s=end_s)
    assert [f.t_s for f in got] == [f.t_s for f in wanted]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(got, wanted, strict=True))
    assert got[0].index == 0
    assert video.notes == []


def test_a_start_after_the_end_is_refused(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".avi"):
        write_video(tmp_path / f"a{suffix}", _frames(25), fps=25)
        assert "no usable frame between 60 s" in _refused(tmp_path / f"a{suffix}", start_s=60.0)


@pytest.mark.parametrize(
    "options",
    [{"start_s": -1.0}, {"start_s": float("nan")}, {"end_s": 0.0}, {"start_s": 2.0, "end_s": 1.0}, {"fps": 0.0}],
)
def test_times_out_of_range_are_the_callers_mistake(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        open_video(tmp_path / "a.mp4", **options)


def test_fps_overrides_the_clock_of_a_file(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", _frames(6), t_s=[0.0, 0.1, 0.25, 0.3, 0.31, 0.5])
    assert _times(tmp_path / "a.mkv", fps=10.0) == pytest.approx(np.arange(6) / 10)
    assert _times(tmp_path / "a.mkv", fps=10.0, start_s=0.2, end_s=0.4) == pytest.approx([0.2, 0.3])


def test_reading_ahead_gives_the_same_frames_errors_and_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, _frames(40), fps=25.0)
    with open_video(path) as plain, open_video(path) as ahead:
        for one, other in zip(plain, read_ahead(ahead, 3), strict=True):
            assert one.t_s == other.t_s and (one.rgb == other.rgb).all()
    with open_video(path) as video:
        frames = read_ahead(video, 3)
        next(frames)
        frames.close()  # must not hang, though thirty frames are left
        assert video.n_read <= 6
    with open_video(path, start_s=50.0) as video, pytest.raises(VideoError):
        list(read_ahead(video))


def test_reading_is_lazy_and_memory_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", iter(_frames(300, 32, 32)), fps=30)
    n_converted = 0
    convert = ToRgb.__call__

    def counted(self: ToRgb, *given: Any) -> Frame:
        nonlocal n_converted
        n_converted += 1
        return convert(self, *given)

    monkeypatch.setattr(ToRgb, "__call__", counted)
    with open_video(tmp_path / "a.mp4") as video:
        for _ in range(3):
            next(video)
        assert n_converted == 3
    alive: list[weakref.ref[Any]] = []
    with open_video(tmp_path / "a.mp4") as video:
        for frame in video:
            alive.append(weakref.ref(frame.rgb))
            assert sum(ref() is not None for ref in alive[-10:]) <= 2
            assert len(cast(Any, video._source)._pending) <= 1


# ---- clocks


def test_equal_stamps_are_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        packets = [p for i, f in enumerate(_frames(8)) for p in stream.encode(_stamped(f, i))]
        packets += stream.encode(None)
        for packet, tick in zip(packets, [0, 40, 80, 80, 80, 120, 160, 200], strict=True):
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = tick
            container.mux(packet)
    times, video = _timed(path)
    assert times == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert (video.n_read, video.n_dropped) == (6, 2)
    assert len(video.notes) == 1 and "2 frames dropped" in video.notes[0]


def _stamped(rgb: Frame, tick: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(rgb).reformat(format="yuvj420p")
    frame.pts = tick
    return frame


def _clocked(stamps: list[tuple[float | None, float | None, float | None]], nominal_s: float | None = None) -> Any:
    """Return (time, repaired) of every stamp, in order, and the clock."""
    clock = StampClock[int](nominal_step_s=nominal_s)
    given = [timed for number, stamp in enumerate(stamps) for timed in clock.push(number, *stamp)] + clock.flush()
    assert [timed.item for timed in given] == list(range(len(stamps)))
    return [(timed.t_s, timed.repaired) for timed in given], clock


def test_missing_stamps_are_filled_and_marked() -> None:
    by_neighbours, _ = _clocked([(1.0, None, None), (1.1, None, None), (None, None, None), (1.3, None, None)])
    assert by_neighbours == [
        (0.0, False),
        (pytest.approx(0.1), False),
        (pytest.approx(0.2), True),
        (pytest.approx(0.3), False),
    ]
    by_duration, _ = _clocked([(0.0, None, 0.04), (None, None, 0.04), (None, None, 0.02), (None, None, 0.02)])
    assert [t for t, _ in by_duration] == pytest.approx([0.0, 0.04, 0.08, 0.10])
    by_decoding, _ = _clocked([(0.0, 7.0, None), (None, 7.03, None), (None, 7.08, None)])
    assert by_decoding == [(0.0, False), (pytest.approx(0.03), True), (pytest.approx(0.08), True)]
    first_missing, _ = _clocked([(None, None, 0.05), (0.35, None, 0.05), (0.40, None, 0.05)])
    assert first_missing == [(0.0, True), (pytest.approx(0.05), False), (pytest.approx(0.10), False)]
    by_header, _ = _clocked([(0.0, None, None), (None, None, None)], nominal_s=0.04)
    assert by_header == [(0.0, False), (0.04, True)]
    with pytest.raises(NoClock):
        _clocked([(None, None, None), (None, None, None)])


def test_backward_stamps_are_dropped_and_restarted_clocks_go_on() -> None:
    read, _ = _clocked([(0.0, None, None), (0.1, None, None), (0.05, None, None), (0.1, None, None), (0.2, None, None)])
    assert read == [(0.0, False), (0.1, False), (None, False), (None, False), (0.2, False)]
    read, clock = _clocked([(50.0, None, 0.1), (50.1, None, 0.1), (0.0, None, 0.1), (0.1, None, 0.1)])
    assert [t for t, _ in read] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert [repaired for _, repaired in read] == [False, False, True, False]
    assert clock.n_restarts == 1


FPS = 30
STEP_S = 1 / FPS
STAMPS_S = [number / FPS for number in range(90)]


def _settled(stamps_s: Sequence[float | None], nominal_s: float | None = STEP_S) -> tuple[list[float], Any]:
    """Return the times of all frames, none of which may be dropped, and the clock."""
    given, clock = _clocked([(stamp_s, None, None) for stamp_s in stamps_s], nominal_s)
    assert None not in [t_s for t_s, _ in given]
    return [t_s for t_s, _ in given], clock


@pytest.mark.parametrize("leap_s", [3700.0, 2**32 / 90_000, 1.7e9])
@pytest.mark.parametrize("at", [1, 2, 45, 85])
def test_a_clock_that_leaps_by_hours_goes_on_where_it_was(leap_s: float, at: int) -> None:
    times_s, clock = _settled([stamp_s + (leap_s if k >= at else 0) for k, stamp_s in enumerate(STAMPS_S)])
    assert times_s == pytest.approx(STAMPS_S, abs=1e-5)
    assert clock.n_taken_out == 1 and clock.taken_out_s == pytest.approx(leap_s)


@pytest.mark.parametrize("pause_s", [0.7, 5.0, 100.0, 3000.0])
def test_a_pause_that_the_next_frames_confirm_stays_a_pause(pause_s: float) -> None:
    wanted_s = [stamp_s + (pause_s if k >= 45 else 0) for k, stamp_s in enumerate(STAMPS_S)]
    times_s, clock = _settled(list(wanted_s))
    assert times_s == pytest.approx(wanted_s)
    assert (clock.n_taken_out, clock.n_restarts, clock.n_crawling) == (0, 0, 0)


def test_all_leaps_together_take_an_hour_at_most() -> None:
    times_s, clock = _settled([stamp_s + 1000.0 * (k // 10) for k, stamp_s in enumerate(STAMPS_S)])
    assert times_s[-1] == pytest.approx(STAMPS_S[-1] + 3000.0)
    assert (clock.n_taken_out, clock.taken_out_s) == (5, pytest.approx(5000.0))


@pytest.mark.parametrize("stray_s", [2e4, -2e4, 1.7e9, 1e300, -1e300, 61.5, float("nan"), float("inf"), None])
@pytest.mark.parametrize("at", [(0,), (1,), (45,), (89,), (45, 46), (45, 46, 47), (88, 89), (20, 40, 43)])
def test_stray_stamps_are_filled_in(stray_s: float | None, at: tuple[int, ...]) -> None:
    stamps_s: list[float | None] = list(STAMPS_S)
    for k in at:
        stamps_s[k] = stray_s
    given, _ = _clocked([(stamp_s, None, None) for stamp_s in stamps_s], STEP_S)
    assert [t_s for t_s, _ in given] == pytest.approx(STAMPS_S, abs=2e-5)
    repaired = [k for k, (_, is_repaired) in enumerate(given) if is_repaired]
    if at != (0,):
        assert repaired == list(at)
    else:
        assert repaired and max(repaired) < 10, "the first frame has no one before it to be measured by"


def test_a_stray_stamp_within_the_usual_distances_costs_no_other_frame() -> None:
    for stray_s in (0.6, -0.6):
        stamps_s = [stamp_s + (stray_s if k in (0, 45, 89) else 0) for k, stamp_s in enumerate(STAMPS_S)]
        given, _ = _clocked([(stamp_s, None, None) for stamp_s in stamps_s], STEP_S)
        assert sum(t_s is None for t_s, _ in given) <= 1
        inner = [t_s for t_s, _ in given[1:89]]
        assert np.diff(inner) == pytest.approx(STEP_S, abs=1e-6)


@pytest.mark.parametrize("step_s", [11e-6, 2e-5, 5e-5])
def test_stamps_that_crawl_get_the_usual_distance(step_s: float) -> None:
    crawling = [STAMPS_S[45] + step_s * k for k in range(1, 45)]
    for nominal_s in (STEP_S, None):
        times_s, clock = _settled(STAMPS_S[:46] + crawling, nominal_s)
        assert times_s == pytest.approx(STAMPS_S, abs=1e-3) and clock.n_crawling == 44
    times_s, clock = _settled([k * step_s for k in range(90)])
    assert times_s == pytest.approx(STAMPS_S, abs=1e-3) and clock.n_crawling == 89
    with pytest.raises(NoClock, match="microseconds"):
        _settled([k * step_s for k in range(90)], None)


@pytest.mark.parametrize("fps", [0.2, 1.0, 5.0, 24.0, 120.0, 240.0, 960.0])
def test_no_usual_rate_is_taken_for_a_fault(fps: float) -> None:
    wanted_s = [k / fps for k in range(90)]
    for nominal_s in (1 / fps, None):
        times_s, clock = _settled(list(wanted_s), nominal_s)
        assert times_s == pytest.approx(wanted_s)
        assert (clock.n_taken_out, clock.n_restarts, clock.n_crawling) == (0, 0, 0)


def test_usual_frames_are_given_at_once_and_few_are_ever_held() -> None:
    clock = StampClock[int]()
    rng = np.random.default_rng(0)
    stamp_s = 0.0
    for number in range(200):
        assert [timed.item for timed in clock.push(number, stamp_s)] == [number]
        stamp_s += float(rng.choice([0.033, 0.034, 0.066, 0.1, 0.02]))
    n_held = 0
    for number in range(2000):
        n_held += 1 - len(clock.push(number, float(rng.uniform(-1e9, 1e9))))
        assert 0 <= n_held <= 8
    n_held -= len(clock.flush())
    assert n_held == 0 and clock.last_t_s is not None and clock.last_t_s < 3700 + 2200


def _encoded(
    path: Path,
    ticks: list[int],
    *,
    frames: list[Frame] | None = None,
    bf: int = 0,
    rate: int = FPS,
    tags: dict[str, str] | None = None,
    stream_tags: dict[str, str] | None = None,
    turn_deg: int = 0,
) -> Path:
    """Write an h264 video with these stamps in ticks of 90 kHz, to be shown turned counterclockwise."""
    frames = frames or [np.full((HEIGHT, WIDTH, 3), 40 + 7 * k % 150, np.uint8) for k in range(len(ticks))]
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("libx264", rate=rate, options={"bf": str(bf), "g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.metadata.update(stream_tags or {})
        if turn_deg:
            stream.set_display_rotation(turn_deg)
        stream.codec_context.time_base = Fraction(1, 90_000)
        for rgb, tick in zip(frames, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts, frame.time_base = tick, Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "bf"), [(".mkv", 0), (".mkv", 2), (".ts", 2), (".flv", 0), (".mp4", 0), (".mov", 0)]
)
@pytest.mark.parametrize("leap", [2**32, 1_700_000_000 * 90_000])
def test_files_whose_clock_leaps_are_read_whole_and_noted(tmp_path: Path, suffix: str, bf: int, leap: int) -> None:
    path = _encoded(tmp_path / f"a{suffix}", [3000 * k + (leap if k >= 60 else 0) for k in range(120)], bf=bf)
    times_s, video = _timed(path)
    assert times_s == pytest.approx(np.arange(120) / 30, abs=2e-3)
    assert (video.n_read, video.n_dropped) == (120, 0) and video.n_repaired >= 1
    assert any("--fps" in note and ("leapt forward" in note or "crawled" in note) for note in video.notes)
    part_s = _times(path, start_s=3.0)
    assert part_s == pytest.approx(times_s[-len(part_s) :], abs=2e-3) and abs(len(part_s) - 30) <= 1
    assert _times(path, fps=30) == pytest.approx(np.arange(120) / 30)


def test_a_pause_of_a_file_is_kept_and_one_stray_stamp_repaired(tmp_path: Path) -> None:
    paused = _encoded(tmp_path / "a.mkv", [3000 * k + (9_000_000 if k >= 60 else 0) for k in range(120)])
    assert _times(paused)[-1] == pytest.approx(119 / 30 + 100, abs=2e-3)
    assert _times(paused, start_s=102.0) == pytest.approx(np.arange(60, 120) / 30 + 100, abs=2e-3)
    flv = _encoded(tmp_path / "b.flv", [3000 * k for k in range(60)])
    data = bytearray(flv.read_bytes())
    at, n = 13, 0
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 9 and data[at + 11] & 15 == 7 and data[at + 12] == 1:
            if n == 30:  # a stamp of 20,000,000 ms: its highest byte comes last
                data[at + 4 : at + 8] = struct.pack(">I", 20_000_000)[1:] + b"\x01"
            n += 1
        at += 11 + size + 4
    flv.write_bytes(data)
    with open_video(flv) as video:
        assert [frame.t_s for frame in video] == pytest.approx(np.arange(60) / 30, abs=2e-3)
    assert (video.n_repaired, video.n_dropped) == (1, 0)
    assert "1 frame had no usable time stamp" in video.notes[0]


# ---- slow motion and time lapse


@pytest.mark.parametrize(
    ("suffix", "tags", "stream_tags", "fps"),
    [
        (".mp4", {"com.android.capture.fps": "60.000000"}, {}, 60),
        (".mp4", {"com.android.capture.fps": "240"}, {}, 240),
        (".mkv", {}, {"COM.ANDROID.CAPTURE.FPS": "120.0"}, 120),
        (".mov", {"com.arri.camera.SensorFps": "96"}, {}, 96),
        (".mkv", {"CaptureFrameRate": "119.88"}, {}, 119.88),
        (".mp4", {"com.xiaomi.slow_moment": "120"}, {}, 120),
    ],
)
def test_slow_motion_is_put_on_the_clock_by_which_it_was_filmed(
    tmp_path: Path, suffix: str, tags: dict[str, str], stream_tags: dict[str, str], fps: float
) -> None:
    path = _encoded(tmp_path / f"a{suffix}", [3000 * k for k in range(90)], tags=tags, stream_tags=stream_tags)
    with open_video(path) as video:
        times_s = [frame.t_s for frame in video]
        assert video.fps_nominal == pytest.approx(fps, rel=2e-3)
    assert times_s == pytest.approx(np.arange(90) / fps, rel=2e-3, abs=5e-4)
    assert len(video.notes) == 1 and "Slow motion" in video.notes[0] and "--fps" in video.notes[0]
    assert _times(path, start_s=0.25) == [t_s for t_s in times_s if t_s >= 0.25]
    with open_video(path, fps=25.0) as video:
        assert [frame.t_s for frame in video] == pytest.approx(np.arange(90) / 25)
    assert video.notes == []


@pytest.mark.parametrize("value", ["30.0", "29.97", "nan", "inf", "0", "-60", "60,000", "1e9", "", "fast", "44", "24"])
def test_tags_that_cannot_be_meant_change_nothing(tmp_path: Path, value: str) -> None:
    path = _encoded(tmp_path / "a.mp4", [3030 * k for k in range(60)], tags={"com.android.capture.fps": value})
    with open_video(path) as video:
        assert [frame.t_s for frame in video] == pytest.approx(np.arange(60) * 3030 / 90_000, abs=1e-4)
    assert video.notes == []


def test_a_tag_that_the_stamps_agree_with_changes_nothing(tmp_path: Path) -> None:
    tags = {"com.android.capture.fps": "240.0"}
    path = _encoded(tmp_path / "a.mp4", [375 * k for k in range(60)], rate=240, tags=tags)
    with open_video(path) as video:
        assert [frame.t_s for frame in video] == pytest.approx(np.arange(60) / 240, abs=1e-4)
    assert video.notes == []


def test_a_time_lapse_is_refused_where_no_pulse_is_left(tmp_path: Path) -> None:
    path = _encoded(tmp_path / "a.mp4", [3000 * k for k in range(60)], tags={"com.android.capture.fps": "0.5"})
    line = _refused(path)
    assert "time lapse" in line and "0.5 frames per second" in line and "--fps" in line
    assert _times(path, fps=30.0) == pytest.approx(np.arange(60) / 30)
    path = _encoded(tmp_path / "b.mp4", [3000 * k for k in range(60)], tags={"com.android.capture.fps": "15"})
    assert _times(path) == pytest.approx(np.arange(60) / 15, abs=1e-3)


def _with_box(path: Path, kind: bytes, content: bytes) -> Path:
    """Write a video of 60 frames at 30 fps with one more box at its end."""
    _encoded(path, [3000 * k for k in range(60)])
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), kind) + content)
    return path


def _samsung(mode: int, srfr: float | None = None) -> bytes:
    """Return a udta box's content with Samsung's recording mode: author, then two pairs, then the rate."""
    saut = bytes(4) + bytes([0, mode, 1, 0])
    if srfr is not None:
        saut += struct.pack(">I4sI", 12, b"srfr", round(srfr * 65536))
    inner = struct.pack(">I4s", 8 + len(saut), b"saut") + saut
    return struct.pack(">I4sI", 12 + len(inner), b"smta", 0) + inner


@pytest.mark.parametrize(("mode", "srfr", "fps"), [(12, None, 240), (13, None, 120), (21, 480.0, 480), (0, None, 30)])
def test_samsungs_recording_mode_is_read(tmp_path: Path, mode: int, srfr: float | None, fps: float) -> None:
    path = _with_box(tmp_path / "a.mp4", b"udta", _samsung(mode, srfr))
    assert _times(path) == pytest.approx(np.arange(60) / fps, abs=1e-4)


def test_super_slow_motion_has_no_one_clock(tmp_path: Path) -> None:
    path = _with_box(tmp_path / "a.mp4", b"udta", _samsung(7))
    assert "super slow motion" in _refused(path) and "--fps" in _refused(path)
    assert len(_times(path, fps=30.0)) == 60


def test_sonys_capture_rate_is_read(tmp_path: Path) -> None:
    xml = b'<VideoFrame videoCodec="AVC" captureFps="119.88p" formatFps="29.97p"/>'
    path = _with_box(tmp_path / "a.mp4", b"meta", bytes(4) + struct.pack(">I4s", 8 + len(xml), b"xml ") + xml)
    with open_video(path) as video:
        assert [frame.t_s for frame in video] == pytest.approx(np.arange(60) / 120, abs=1e-4)
    assert "Sony" in video.notes[0]


def test_boxes_that_lie_do_no_harm(tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 40, struct.pack(">I4s", 2**31, b"smta"), struct.pack(">I4sQ", 1, b"saut", 2**63)):
        assert len(_times(_with_box(tmp_path / "a.mp4", b"udta", content))) == 60


# ---- gaps


def test_gaps_are_kept_and_noted(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", _frames(5), t_s=[0.0, 0.04, 0.08, 1.5, 1.54])
    with open_video(tmp_path / "a.mkv") as video:
        assert [f.t_s for f in video] == pytest.approx([0.0, 0.04, 0.08, 1.5, 1.54], abs=1e-3)
    assert video.notes == ["Between frames there are 1 gap(s), the longest of 1.42 s."]


def test_a_raw_stream_has_no_clock_and_asks_for_fps(tmp_path: Path) -> None:
    write_video(tmp_path / "a.h264", _frames(10), fps=25)
    assert "--fps" in _refused(tmp_path / "a.h264")
    assert _times(tmp_path / "a.h264", fps=20.0) == pytest.approx(np.arange(10) / 20)


# ---- turning and colour


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(tmp_path: Path, suffix: str, degrees: int) -> None:
    path = _encoded(tmp_path / f"a{suffix}", [0, 3600, 7200], frames=[_quadrants()] * 3, turn_deg=degrees)
    frames, video = _read(path)
    got = frames[0].rgb
    assert _is_alike(got, np.rot90(_quadrants(), degrees // 90))
    assert got.shape == (video.height, video.width, 3) and got.flags.c_contiguous
    capture = cv2.VideoCapture(str(path))
    _, bgr = capture.read()
    capture.release()
    assert bgr.shape == got.shape
    assert np.abs(bgr[..., ::-1].astype(int) - got).mean() < 8


def _quadrants(height: int = HEIGHT, width: int = WIDTH) -> Frame:
    """Return a picture of which all eight orientations differ."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = (200, 60, 60), (60, 200, 60)
    frame[height // 2 :, : width // 2] = (60, 60, 200)
    return frame


def _moved(frame: Frame, a: int, b: int, c: int, d: int) -> Frame:
    """Show the point (x, y) of a picture at (a x + c y, b x + d y), moved so that it begins at 0."""
    rows, columns = np.indices(frame.shape[:2])
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    out = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    out[y, x] = frame
    return out


def _with_matrix(path: Path, frames: list[Frame], *matrix: float) -> Path:
    """Write an mp4 or mov whose track has this display matrix: a b c d."""
    write_video(path, frames, fps=25, pix_fmt="yuv444p", crf=5)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def _is_alike(got: Frame, wanted: Frame) -> bool:
    difference = np.abs(got.astype(int) - wanted).max(axis=2) if got.shape == wanted.shape else np.full(1, 255)
    return bool(np.median(difference) <= 3 and np.mean(difference > 20) < 0.2)


MATRICES = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (-1, 0, 0, -1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
    (0, -1, 1, 0),
]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_are_mirrored_and_turned_as_the_matrix_says(
    tmp_path: Path, matrix: tuple[int, int, int, int], suffix: str
) -> None:
    path = _with_matrix(tmp_path / f"a{suffix}", [_quadrants()] * 2, *matrix)
    frames, video = _read(path)
    wanted = _moved(_quadrants(), *matrix)
    assert (video.height, video.width) == wanted.shape[:2] and frames[0].rgb.flags.c_contiguous
    assert all(_is_alike(frame.rgb, wanted) for frame in frames)
    others = [_moved(_quadrants(), *other) for other in MATRICES if other != matrix]
    assert not any(_is_alike(frames[0].rgb, other) for other in others)
    assert video.notes == []


def test_odd_angles_are_turned_to_the_nearest_quarter_and_noted(tmp_path: Path) -> None:
    for degrees, nearest in ((10, (1, 0, 0, 1)), (80, (0, 1, -1, 0)), (-170, (-1, 0, 0, -1))):
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        path = _with_matrix(tmp_path / "a.mp4", [_quadrants()] * 2, float(cos), float(sin), float(-sin), float(cos))
        with open_video(path) as video:
            assert all(_is_alike(frame.rgb, _moved(_quadrants(), *nearest)) for frame in video)
        assert len(video.notes) == 1 and "10 degrees" in video.notes[0]
    for matrix in ((0, 0, 0, 0), (2, 0, 0, 2)):
        path = _with_matrix(tmp_path / "b.mp4", [_quadrants()] * 2, *matrix)
        with open_video(path) as video:
            assert _is_alike(next(video).rgb, _quadrants())


def _exif(orientation: int) -> bytes:
    """Return the EXIF segment of a JPEG with its orientation: one entry of TIFF 6.0."""
    body = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_and_mirrored_by_exif(tmp_path: Path, orientation: int) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    data = cv2.imencode(".jpg", _quadrants()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(data[:2] + _exif(orientation) + data[2:])
    by_opencv = cv2.imread(str(folder / "0.jpg"))
    assert by_opencv is not None
    frames, video = _read(folder, fps=10)
    # EXIF 2.3 numbers the eight in the order of the table above.
    wanted = _moved(_quadrants(), *MATRICES[orientation - 1])
    assert (video.height, video.width) == wanted.shape[:2]
    pictures = [*(frame.rgb for frame in frames), np.asarray(by_opencv[..., ::-1], dtype=np.uint8)]
    assert all(_is_alike(rgb, wanted) for rgb in pictures)


def test_pictures_are_not_kept_by_looking_at_their_matrix(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", (np.full((720, 1280, 3), k % 200, np.uint8) for k in range(60)), fps=30)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells the memory in use")
    gc.disable()
    try:
        with open_video(tmp_path / "a.mp4") as video:
            for _ in range(20):
                next(video)
            before = resident()
            for _ in range(35):
                next(video)
            assert resident() - before < 20e6, "35 decoded frames are 48 MB"
    finally:
        gc.enable()


def _flat(path: Path, height: int, codec: str, tags: tuple[int, int] | None = None) -> None:
    """One flat colour, Y 130 U 100 V 160, tagged by the numbers of a colour space and a range if they are given."""
    frame = av.VideoFrame(WIDTH, height, "yuvj420p" if codec == "mjpeg" else "yuv420p")
    for plane, value in zip(frame.planes, (130, 100, 160), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=25))
        stream.width, stream.height, stream.pix_fmt = WIDTH, height, frame.format.name
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 1
        if tags is not None:
            frame.colorspace, frame.color_range = tags
            stream.codec_context.colorspace, stream.codec_context.color_range = tags
        for tick in range(3):
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


BT601, BT601_FULL = (183.8, 117.7, 76.3), (174.9, 116.8, 80.4)
BT709, BT709_FULL = (190.1, 121.7, 73.6), (180.4, 120.3, 78.0)
"""That colour by the equations, in limited and in full range."""


@pytest.mark.parametrize(
    ("height", "codec", "wanted"),
    [
        (64, "ffv1", BT601),
        (718, "ffv1", BT601),
        (720, "ffv1", BT709),
        (64, "mjpeg", BT601_FULL),
        (720, "mjpeg", BT601_FULL),  # by its standard, whatever its size
    ],
)
def test_colour_without_a_tag_follows_the_stated_convention(
    tmp_path: Path, height: int, codec: str, wanted: tuple[float, float, float]
) -> None:
    _flat(tmp_path / "a.avi", height, codec)  # avi keeps no tags
    with open_video(tmp_path / "a.avi") as video:
        got = next(video).rgb
    assert np.abs(got.reshape(-1, 3) - np.array(wanted)).max() <= (1.6 if codec == "mjpeg" else 0.6)


@pytest.mark.parametrize(
    ("tags", "wanted"), [((6, 1), BT601), ((6, 2), BT601_FULL), ((1, 1), BT709), ((1, 2), BT709_FULL)]
)
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "ffv1"), (".webm", "libvpx-vp9")])
def test_colour_follows_its_tags(
    tmp_path: Path, suffix: str, codec: str, tags: tuple[int, int], wanted: tuple[float, float, float]
) -> None:
    _flat(tmp_path / f"a{suffix}", HEIGHT, codec, tags)
    with open_video(tmp_path / f"a{suffix}") as video:
        assert np.abs(next(video).rgb.reshape(-1, 3) - np.array(wanted)).max() <= 2


@pytest.mark.parametrize("space", [1, 5, 6, 9])  # BT.709, BT.601 of two kinds, BT.2020
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("width", "height"), [(96, 64), (98, 66), (97, 65)])
def test_colours_of_half_the_resolution_follow_the_equations(space: int, full: bool, width: int, height: int) -> None:
    frame = av.VideoFrame(width, height, "yuv420p")
    frame.colorspace, frame.color_range = space, 2 if full else 1
    rng = np.random.default_rng(space)
    planes = [rng.integers(80, 160, (plane.height, plane.line_size), np.uint8) for plane in frame.planes]
    for array in planes[1:]:
        array[:, : array.shape[1] // 4], array[:, array.shape[1] // 4 :] = 100, 150  # an edge, else even
    for plane, array in zip(frame.planes, planes, strict=True):
        plane.update(array.tobytes())
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(space, (0.299, 0.114))
    y = planes[0][:height, :width].astype(float) if full else (planes[0][:height, :width] - 16.0) * 255 / 219
    u, v = (
        (plane.repeat(2, 0).repeat(2, 1)[:height, :width] - 128.0) * (1 if full else 255 / 224) for plane in planes[1:]
    )
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    wanted = np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)
    off = np.abs(ToRgb()(frame) - np.clip(wanted, 0, 255))
    edge = planes[1].shape[1] // 4 * 2
    assert np.delete(off, slice(edge - 3, edge + 3), axis=1).max() < 1.0


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = np.full((HEIGHT, WIDTH, 4), (200, 120, 80, 10), np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    with open_video(folder, fps=10) as video:
        assert next(video).rgb[0, 0].tolist() == [200, 120, 80]


def test_limited_gray_is_spread(tmp_path: Path) -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "gray")
    frame.planes[0].update(bytes([235]) * frame.planes[0].buffer_size)
    frame.color_range = 1
    assert int(ToRgb()(frame).min()) == 255
    frame.color_range = 2
    assert int(ToRgb()(frame).max()) == 235


# ---- broken and foreign inputs


def _audio(path: Path) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    return path


def _with_sound(path: Path, *, cover: bool) -> Path:
    """Sound first, then a video of ten frames, or a cover picture."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44100)
        video = container.add_stream("mjpeg" if cover else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuvj420p" if cover else "yuv420p"
        if cover:
            video.disposition = Disposition.attached_pic
        for i in range(10):
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1764), np.float32), format="fltp", layout="mono")
            part.sample_rate, part.pts = 44100, i * 1764
            container.mux(sound.encode(part))
        for i, rgb in enumerate(_frames(1 if cover else 10)):
            picture = av.VideoFrame.from_ndarray(rgb)
            picture.pts = i
            container.mux(video.encode(picture))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


def _patched(path: Path, codec: str, pix_fmt: str, marker: bytes, offset: int, size: bytes) -> Path:
    """Write a small real video whose header was made to claim another size."""
    write_video(path, _frames(3), fps=25, codec=codec, pix_fmt=pix_fmt)
    data = bytearray(path.read_bytes())
    at = data.find(marker)
    assert at >= 0
    data[at + offset : at + offset + len(size)] = size
    path.write_bytes(data)
    return path


def _blanked(path: Path) -> Path:
    """Write an mjpeg avi in which every picture is zeros."""
    write_video(path, _frames(5), fps=25, codec="mjpeg")
    data = bytearray(path.read_bytes())
    at = data.find(b"movi")
    while (at := data.find(b"00dc", at + 1)) >= 0 and at < data.find(b"idx1"):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + length] = bytes(length)
    path.write_bytes(data)
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _made(path: Path, make: Callable[[Path], object]) -> Path:
    make(path)
    return path


def _ffv1(path: Path, height: int, width: int) -> Path:
    frame = np.zeros((height, width, 3), np.uint8)
    write_video(path, [frame] * 3, fps=25, codec="ffv1", pix_fmt="bgr0")
    return path


def _cut(path: Path, share: float = 0.6, n: int = 60) -> Path:
    write_video(path, _frames(n), fps=25)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {  # name -> (maker in a folder, what the line says)
    "missing": (lambda d: d / "none.mp4", "no file"),
    "missing number": (lambda d: d / "0", "no file"),
    "name too long": (lambda d: d / ("x" * 260), "cannot be looked at"),
    "null byte": (lambda d: d / "a\0b", "cannot be looked at"),
    "empty folder": (lambda d: _made(d / "e", Path.mkdir), "holds no pictures"),
    "empty file": (lambda d: _written(d / "a.mp4", b""), "empty"),
    "text": (lambda d: _written(d / "a.mp4", b"hello world\n" * 50), "text"),
    "text as text": (lambda d: _written(d / "a.txt", b"hello world\n" * 50), "no video"),
    "noise": (lambda d: _written(d / "a.mp4", np.random.default_rng(0).bytes(5000)), "cannot be opened"),
    "play list": (lambda d: _written(d / "a.mp4", b"ffconcat version 1.0\nfile b.mp4\n"), "text"),
    "picture": (lambda d: _made(d / "a.png", lambda p: cv2.imwrite(str(p), _frames(1)[0])), "single picture"),
    "fifo": (lambda d: _made(d / "a.mp4", os.mkfifo), "not a regular file"),
    "device": (lambda d: Path("/dev/zero"), "not a regular file"),
    "sound only": (lambda d: _audio(d / "a.wav"), "no moving picture"),
    "cover picture": (lambda d: _with_sound(d / "a.m4a", cover=True), "no moving picture"),
    "1x1": (lambda d: _ffv1(d / "a.mkv", 1, 1), "at least 32 px"),
    "too low": (lambda d: _ffv1(d / "a.mkv", 31, 64), "at least 32 px"),
    "cut mp4": (lambda d: _cut(d / "a.mp4"), "index"),
    "no frame decodes": (lambda d: _blanked(d / "a.avi"), "no frame of it"),
    "huge avi": (
        lambda d: _patched(d / "a.avi", "ffv1", "bgr0", b"strf", 12, struct.pack("<II", 100_000, 100_000)),
        "no frame of it",
    ),
    "long avi": (
        lambda d: _patched(d / "a.avi", "ffv1", "bgr0", b"strf", 12, struct.pack("<II", 32, 20_000)),
        "16384 px a side",
    ),
    "huge mkv": (
        lambda d: _patched(d / "a.mkv", "ffv1", "bgr0", b"\xb0\x81\x60\xba\x81\x40", 0, b"\xb0\x40\x02\xff\xff\xba"),
        "",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_inputs_are_refused_in_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, message = BROKEN[name]
    path = make(tmp_path)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = _refused(path)
    assert message in line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 200_000
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "marker"),
    [(".mp4", "libx264", "yuv420p", b"avc1\0\0\0\0"), (".mov", "mjpeg", "yuvj420p", b"jpeg\0\0\0\0")],
)
def test_a_false_size_beside_a_true_one_does_no_harm(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, marker: bytes
) -> None:
    path = _patched(tmp_path / f"a{suffix}", codec, pix_fmt, marker, 28, struct.pack(">HH", 65000, 65000))
    with open_video(path) as video:  # these codecs say their size again in their own headers, and that one is used
        assert (video.width, video.height) == (WIDTH, HEIGHT)


def test_a_huge_png_is_not_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = folder / "a.png"
    cv2.imwrite(str(path), _frames(1)[0])
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    assert "none can be decoded" in _refused(folder, fps=10)


def test_an_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _frames(3), fps=25)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in _refused(path)


def test_odd_names_are_read(tmp_path: Path) -> None:
    for name in ("with space.mp4", "ü.mp4", "http:x.mp4", "%03d.mp4", "0", "-1.mp4"):
        write_video(tmp_path / "plain.mp4", _frames(3), fps=25)
        (tmp_path / "plain.mp4").rename(tmp_path / name)
        assert len(_times(tmp_path / name)) == 3


def test_a_name_of_digits_is_a_file_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", _frames(3), fps=25)
    (tmp_path / "a.mp4").rename(tmp_path / "0")
    assert len(_times("0")) == 3


def test_sound_before_picture_is_read(tmp_path: Path) -> None:
    assert len(_times(_with_sound(tmp_path / "a.mp4", cover=False))) == 10


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4", ".gif"])
def test_a_truncated_file_gives_what_is_there_with_a_note(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".gif":
        _gif(whole, _frames(100))
    else:
        write_video(whole, _frames(100), fps=25, codec="mjpeg" if suffix == ".avi" else "libx264")
    if suffix == ".mp4":  # the index first, as phones and web sites write it
        with (
            av.open(str(whole)) as source,
            av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": "faststart"}) as to,
        ):
            copy = to.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    to.mux(packet)
        whole = tmp_path / "f.mp4"
    data = whole.read_bytes()
    cut = _written(tmp_path / f"cut{suffix}", data[: int(len(data) * 0.6)])
    times, video = _timed(cut)
    assert 40 <= len(times) <= 70
    assert np.diff(times) == pytest.approx(0.04, abs=0.002)
    assert sum("truncated" in note for note in video.notes) >= 1


def _streams(path: Path, *streams: tuple[int, int, int, Disposition]) -> Path:
    """Write a file of several picture streams, each so many frames of a height and width with a disposition."""
    with av.open(str(path), "w") as container:
        made = []
        for n, height, width, disposition in streams:
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt, stream.disposition = width, height, "yuv420p", disposition
            made.append((stream, _frames(n, height, width)))
        for number in range(max(n for n, *_ in streams)):
            for stream, frames in made:
                if number < len(frames):
                    frame = av.VideoFrame.from_ndarray(frames[number])
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream, _ in made:
            container.mux(stream.encode(None))
    return path


NONE = Disposition(0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "streams",
    [
        ((30, 48, 64, NONE), (30, 96, 128, NONE)),
        ((30, 96, 128, NONE), (30, 48, 64, NONE)),
        ((1, 200, 200, NONE), (30, 96, 128, NONE)),
        ((30, 48, 64, Disposition.default), (30, 96, 128, NONE)),
    ],
)
def test_the_film_is_chosen_among_picture_streams_and_noted(
    tmp_path: Path, suffix: str, streams: tuple[tuple[int, int, int, Disposition], ...]
) -> None:
    with open_video(_streams(tmp_path / f"a{suffix}", *streams)) as video:
        assert [frame.rgb.shape for frame in video] == [(96, 128, 3)] * 30
    assert len(video.notes) == 1 and "2 picture streams" in video.notes[0] and "128x96" in video.notes[0]


def test_damage_in_the_middle_is_dropped_counted_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _frames(100), fps=25, gop=10)
    with av.open(str(path)) as container:
        at = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for start, size in at[33:36]:
        assert start is not None
        data[start + size // 3 : start + size] = np.random.default_rng(0).bytes(size - size // 3)
    path.write_bytes(data)
    frames, video = _read(path)
    assert 85 <= len(frames) < 100
    assert video.n_dropped == 100 - len(frames)
    assert any("damaged" in note for note in video.notes)
    assert frames[-1].t_s == pytest.approx(99 / 25, abs=1e-3)


def _joined(path: Path, *sizes: tuple[int, int, int]) -> Path:
    """Write a raw stream of parts, each so many frames of a height and width."""
    parts = []
    for n, height, width in sizes:
        write_video(path.with_name("part.h264"), _frames(n, height, width), fps=25)
        parts.append(path.with_name("part.h264").read_bytes())
    return _written(path, b"".join(parts))


def test_a_picture_size_that_changes_is_followed_and_noted(tmp_path: Path) -> None:
    frames, video = _read(_joined(tmp_path / "c.h264", (5, 64, 64), (5, 96, 128), (5, 64, 64)), fps=25)
    assert [frame.rgb.shape for frame in frames] == [(64, 64, 3)] * 5 + [(96, 128, 3)] * 5 + [(64, 64, 3)] * 5
    assert [_number(frame.rgb) for frame in frames] == [0, 1, 2, 3, 4] * 3
    assert [frame.t_s for frame in frames] == pytest.approx(np.arange(15) / 25)
    assert (video.n_read, video.n_dropped) == (15, 0)
    assert len(video.notes) == 2
    assert "From 0.20 s on the picture is 128x96 and no longer 64x64" in video.notes[0]


def test_a_larger_picture_of_the_same_shape_is_followed_and_a_smaller_one_scaled(tmp_path: Path) -> None:
    frames, video = _read(_joined(tmp_path / "c.h264", (5, 64, 96), (5, 128, 192), (5, 64, 96)), fps=25)
    assert [frame.rgb.shape for frame in frames] == [(64, 96, 3)] * 5 + [(128, 192, 3)] * 10
    assert [_number(frame.rgb[::2, ::2]) for frame in frames[10:]] == [0, 1, 2, 3, 4]
    assert (video.n_read, video.n_dropped) == (15, 0)
    assert len(video.notes) == 2 and "5 frames of another size were scaled to 192x128" in video.notes[0]


def test_strays_of_another_size_are_scaled_or_dropped_and_noted(tmp_path: Path) -> None:
    parts = ((5, 64, 96), (2, 128, 192), (5, 64, 96), (2, 96, 96), (5, 64, 96), (1, 128, 192))
    frames, video = _read(_joined(tmp_path / "c.h264", *parts), fps=25)
    assert {frame.rgb.shape for frame in frames} == {(64, 96, 3)}
    assert [round(frame.t_s * 25) for frame in frames] == [*range(12), *range(14, 20)]
    assert (video.n_read, video.n_dropped) == (18, 2)
    assert any("2 frames dropped: not of the size" in note for note in video.notes)
    assert any("3 frames of another size were scaled to 96x64" in note for note in video.notes)


# ---- animated pictures


def _png_frames(n: int) -> list[bytes]:
    return [cv2.imencode(".png", frame[..., ::-1])[1].tobytes() for frame in _frames(n, 48, 64)]


def _webp(flags: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + bytes([95, 0, 0, 63, 0, 0]) + bytes(60)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("name", ["a.png", "a.apng"])
def test_an_animated_png_is_a_video(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        for number, rgb in enumerate(_frames(10)):
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = _read(tmp_path / name)
    assert [_number(frame.rgb) for frame in frames] == list(range(10))
    assert [frame.t_s for frame in frames] == pytest.approx(np.arange(10) / 20, abs=1e-3)
    assert np.array_equal(frames[3].rgb, _frames(4)[3])


def test_an_animated_webp_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.webp", "a.mp4", "a"):
        line = _refused(_written(tmp_path / name, _webp(0x02)))
        assert "animated WebP" in line and "Convert it" in line
        assert "single picture" in _refused(_written(tmp_path / name, _webp(0x10)))


# ---- folders


def _pictures(folder: Path, suffix: str, n: int = 12) -> Path:
    folder.mkdir()
    for i, frame in enumerate(_frames(n)):
        frame[:16, :16] = 20 + 4 * i
        assert cv2.imwrite(str(folder / f"f{i}{suffix}"), frame[..., ::-1])
    return folder


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_folder_of_pictures_is_a_video_in_natural_order(tmp_path: Path, suffix: str) -> None:
    folder = _pictures(tmp_path / "p", suffix)
    with open_video(folder, fps=20) as video:
        assert (video.duration_s, video.fps_nominal) == (0.6, 20)
        frames = list(video)
    assert [_number(f.rgb) for f in frames] == list(range(12))
    assert [f.t_s for f in frames] == pytest.approx(np.arange(12) / 20)
    if suffix != ".jpg" and suffix != ".webp":
        assert np.array_equal(frames[5].rgb[20:], _frames(12)[5][20:])
    assert _times(folder, fps=20, start_s=0.1, end_s=0.2) == pytest.approx([0.1, 0.15])


def test_a_folder_needs_fps(tmp_path: Path) -> None:
    assert "--fps" in _refused(_pictures(tmp_path / "p", ".png", 2))


def test_damaged_pictures_keep_their_place_in_time(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "p", ".png")
    (folder / "f0.png").write_bytes(b"")
    (folder / "f3.png").write_bytes(b"no picture")
    (folder / "f7.png").write_bytes((folder / "f7.png").read_bytes()[:60])
    (folder / "._f1.png").write_bytes(b"written by a desktop")
    cv2.imwrite(str(folder / "f9.png"), _frames(1, 40, 40)[0])
    frames, video = _read(folder, fps=10)
    assert [_number(f.rgb) for f in frames] == [1, 2, 4, 5, 6, 8, 10, 11]
    assert [f.t_s for f in frames] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.1])
    assert video.n_dropped == 4
    assert len(video.notes) == 2


def test_folders_are_told_apart(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("v10.mp4", "v9.MOV", "V1.mkv", "notes.txt", "cover.jpg", ".hidden.mp4"):
        (videos / name).touch()
    (videos / "folder.mp4").mkdir()
    assert [p.name for p in list_videos(videos)] == ["V1.mkv", "v9.MOV", "v10.mp4"]
    assert not is_image_folder(videos)
    assert is_image_folder(_pictures(tmp_path / "p", ".png", 2))
    assert not is_image_folder(tmp_path)
    assert not is_image_folder(tmp_path / "none")
    (videos / "cover.jpg").unlink()
    assert "3 video file(s)" in _refused(videos, fps=10)
    with pytest.raises(VideoError, match="cannot be listed"):
        list_videos(tmp_path / "none")


def test_every_common_suffix_is_a_video(tmp_path: Path) -> None:
    suffixes = (
        ".3gpp .3gp2 .f4v .m1v .m2v .mpv .mpe .divx .xvid .mod .tod .m2t .trp .mp4v .mpg4 .mk3d .rm .rmvb .dv .amv"
    )
    suffixes += " .ogm .insv .lrv .dav .av1 .ivf .obu .apng .MOV .Ty+"
    for suffix in suffixes.split():
        (tmp_path / f"a{suffix}").write_bytes(b"x")
    assert {path.suffix for path in list_videos(tmp_path)} == set(suffixes.split())
    assert {path.suffix for path in find_videos(tmp_path).videos} == set(suffixes.split())


def test_videos_are_found_in_folders_inside_and_all_else_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("b10", "b9/deep", "pictures", ".hidden", "empty"):
        (root / folder).mkdir(parents=True)
    write_video(root / "b10" / "x.mp4", _frames(2), fps=25)
    video = (root / "b10" / "x.mp4").read_bytes()
    for name in ("b9/y2.3gpp", "b9/y10.f4v", "b9/deep/z.m2t", "._a.mp4", ".hidden/h.mp4", "same.foo", "bare"):
        (root / name).write_bytes(video)
    for name in ("pictures/1.png", "pictures/2.png", "cover.jpg", "notes.txt", "pictures/times.csv", "song.m4a"):
        (root / name).write_bytes(b"x")
    (root / "code.ts").write_text("export const x = 1;\n")
    (root / "go.mod").write_text("module x\n")
    (root / "stream.ts").write_bytes(b"G" + bytes(187) + b"G\n")
    (root / "gone.mp4").symlink_to("nowhere")
    (root / "b9" / "loop").symlink_to(root, target_is_directory=True)

    def names(paths: tuple[Path, ...]) -> list[str]:
        return [path.relative_to(root).as_posix() for path in paths]

    found = find_videos(root)
    expected = ["b9/deep/z.m2t", "b9/y2.3gpp", "b9/y10.f4v", "b10/x.mp4", "gone.mp4", "stream.ts"]
    assert names(found.videos) == expected
    assert names(found.image_folders) == ["pictures"]
    left_out = {"bare", "code.ts", "cover.jpg", "go.mod", "notes.txt", "pictures/times.csv", "same.foo", "song.m4a"}
    assert set(names(found.left_out)) == left_out
    assert names(found.videos_by_content) == ["bare", "same.foo"]
    assert found.unreadable == ()
    ((place, reason),) = find_videos(tmp_path / "none").unreadable
    assert place == tmp_path / "none" and "No such file" in reason


@pytest.mark.parametrize(
    ("head", "is_video"),
    [
        (b"\0\0\0\x18ftypisom", True),
        (b"\0\0\0\x18ftypM4A ", False),
        (b"\0\0\0\x18ftypheic", False),
        (b"\x1aE\xdf\xa3", True),
        (b"RIFF\0\0\0\0AVI LIST", True),
        (b"RIFF\0\0\0\0WAVEfmt ", False),
        (b"OggS" + bytes(24) + b"\x80theora", True),
        (b"OggS" + bytes(24) + b"OpusHead", False),
        ((b"G" + bytes(187)) * 3, True),
        (bytes(4) + (b"G" + bytes(191)) * 3, True),
        (b"G" * 20, False),
        (b"\x89PNG\r\n\x1a\n" + bytes(25) + b"\0\0\0\x08acTL", True),
        (b"\x89PNG\r\n\x1a\n" + bytes(25) + b"\0\0\0\x08IDAT", False),
        (b"hello", False),
    ],
)
def test_files_of_unknown_suffix_are_recognised_by_their_first_bytes(
    tmp_path: Path, head: bytes, is_video: bool
) -> None:
    (tmp_path / "a.unknown").write_bytes(head)
    assert bool(find_videos(tmp_path).videos_by_content) == is_video


def test_a_tilde_is_a_home_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_video(tmp_path / "~x.mp4", _frames(3), fps=25)
    assert len(_times("~x.mp4")) == len(_times("~/~x.mp4")) == 3
    assert "There is no file '~nobody-of-this-name.mp4'" in _refused("~nobody-of-this-name.mp4")
    assert "too long" in _refused("y" * 300 + ".mp4")


# ---- addresses


def test_addresses_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    write_video(tmp_path / "a.mp4", _frames(10), fps=25)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert _times(f"{base}/a.mp4") == pytest.approx(np.arange(10) / 25, abs=1e-4)
        assert "cannot be opened" in _refused(f"{base}/none.mp4")
        server.shutdown()
    assert "cannot be opened" in _refused(f"{base}/a.mp4")
    assert "'ftp' are not read" in _refused("ftp://127.0.0.1/a.mp4")


def test_a_silent_server_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setattr(decode, "URL_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for scheme in ("http", "rtsp"):
            started_s = time.monotonic()
            assert "cannot be opened" in _refused(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/a.mp4")
            assert time.monotonic() - started_s < 5


# ---- cameras


class _FakeCamera:
    """The part of cv2.VideoCapture that autohr uses."""

    opens = True
    frames: Iterator[Frame] = iter(())

    def __init__(self, index: int) -> None:
        self.index = index
        self.released = False

    def isOpened(self) -> bool:
        return self.opens

    def get(self, what: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.current = next(type(self).frames, None)
        return self.current is not None

    def retrieve(self) -> tuple[bool, Any]:
        return True, self.current

    def release(self) -> None:
        self.released = True


def test_a_camera_is_stamped_by_a_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 100.033, 100.066, 100.2])
    bgr = np.full((HEIGHT, WIDTH, 3), (80, 120, 200), np.uint8)
    _FakeCamera.frames = iter([bgr] * 4)
    monkeypatch.setattr(cv2, "VideoCapture", _FakeCamera)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    with open_video("0") as video:
        assert (video.width, video.height, video.duration_s, video.fps_nominal) == (WIDTH, HEIGHT, None, None)
        frames = list(video)
    assert [f.t_s for f in frames] == pytest.approx([0.0, 0.033, 0.066, 0.2])
    assert frames[0].rgb[0, 0].tolist() == [200, 120, 80]
    assert "camera stopped" in video.notes[0]
    assert cast(Any, video._source)._capture.released


def test_cameras_that_fail_are_refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert "Camera 77 cannot be opened" in _refused(77)
    assert "Camera 78 cannot be opened" in _refused("78")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="camera index is -1"):
        open_video(-1)
    monkeypatch.setattr(cv2, "VideoCapture", _FakeCamera)
    _FakeCamera.frames = iter(())
    assert "gives no picture" in _refused(0)
    assert "leave out --fps" in _refused(0, fps=30.0)


# ---- real files


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared videos are not here")
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("evm_face_53bpm.mp4", 301),
        ("face_noface.mov", 169),
        ("no_face.mp4", 95),
        ("single_face.mp4", 72),
        ("small_face_full_range.mkv", 109),
        ("two_faces.gif", 56),
    ],
)
def test_real_files_agree_with_opencv(name: str, n: int) -> None:
    capture = cv2.VideoCapture(str(SHARED / name))
    with open_video(SHARED / name) as video:
        for frame in video:
            got, bgr = capture.read()
            if got and frame.index % 20 == 0:
                difference = frame.rgb.reshape(-1, 3).mean(axis=0) - bgr[..., ::-1].reshape(-1, 3).mean(axis=0)
                assert np.abs(difference).max() < 3  # OpenCV's own conversion is up to 2.5 too dark
    capture.release()
    gc.collect()
    assert (video.n_read, video.n_repaired, video.n_dropped, video.notes) == (n, 0, 0, [])
