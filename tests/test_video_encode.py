"""Frames that are written can be read back: number of frames, times, colours; and nothing half-written is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from autohr.errors import VideoError
from autohr.types import Frame
from autohr.video.decode import open_video
from autohr.video.encode import write_video

HEIGHT, WIDTH = 64, 96
COLOURS: NDArray[np.uint8] = np.array([[200, 120, 80], [90, 60, 40], [30, 90, 160], [235, 200, 185]], np.uint8)
UNEVEN_S = [0.0, 0.0333, 0.0717, 0.1, 0.1501, 0.2, 0.2104, 0.3, 0.36, 0.45]

TABLE = [  # suffix, codec, pix_fmt
    (".mp4", "libx264", "yuv420p"),
    (".mov", "libx264", "yuv444p"),
    (".avi", "libx264", "yuv420p"),
    (".mov", "libx265", "yuv420p"),
    (".mp4", "libx265", "yuv420p10le"),
    (".mkv", "ffv1", "yuv420p"),
    (".avi", "ffv1", "bgr0"),
    (".avi", "mjpeg", "yuv420p"),
    (".mkv", "mjpeg", "yuvj444p"),
    (".webm", "libvpx-vp9", "yuv420p"),
]


def _flat(colour: NDArray[np.uint8], height: int = HEIGHT, width: int = WIDTH) -> Frame:
    return np.full((height, width, 3), colour, np.uint8)


def _quadrants(turn: int = 0) -> Frame:
    """Four flat colours; ``turn`` moves them on by one place, so that every frame differs from the next."""
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    order = np.roll(COLOURS, turn, axis=0)
    frame[:32, :48], frame[:32, 48:], frame[32:, :48], frame[32:, 48:] = order
    return frame


def _centres(frame: Frame) -> NDArray[np.int64]:
    return np.array([frame[y, x] for y in (16, 48) for x in (24, 72)], np.int64)


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt"), TABLE)
def test_count_times_and_colours_come_back(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    path = tmp_path / f"video{suffix}"
    constant = suffix == ".avi"
    times = np.arange(10) / 12.5 if constant else np.array(UNEVEN_S)
    frames = [_quadrants(i) for i in range(10)]
    write_video(path, frames, codec=codec, pix_fmt=pix_fmt, t_s=times, fps=12.5 if constant else None, crf=10)
    with open_video(path) as video:
        back = list(video)
    assert len(back) == 10
    assert (video.n_repaired, video.n_dropped, video.notes) == (0, 0, [])
    assert np.abs(np.array([f.t_s for f in back]) - times).max() <= 0.001
    worst = max(np.abs(_centres(f.rgb) - _centres(frames[i])).max() for i, f in enumerate(back))
    assert worst <= 3  # flat patches beside each other: the codec's own loss; the conversion's is tested below


@pytest.mark.parametrize("height", [HEIGHT, 720])
@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "ffv1"), (".webm", "libvpx-vp9"), (".mkv", "mjpeg")]
)
def test_flat_colours_come_back_by_the_usual_matrix(tmp_path: Path, suffix: str, codec: str, height: int) -> None:
    path = tmp_path / f"flat{suffix}"
    frames = [_flat(colour, height) for colour in COLOURS]
    write_video(path, frames, fps=25, codec=codec, gop=1, crf=5)
    with open_video(path) as video:
        for got, wanted in zip(video, frames, strict=True):
            assert np.abs(got.rgb.astype(int) - wanted).max() <= 2


def test_rgb_in_ffv1_is_lossless(tmp_path: Path) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (47, 61, 3), dtype=np.uint8) for i in range(5)]
    write_video(tmp_path / "a.mkv", frames, fps=30, codec="ffv1", pix_fmt="bgr0")
    with open_video(tmp_path / "a.mkv") as video:
        for got, wanted in zip(video, frames, strict=True):
            assert np.array_equal(got.rgb, wanted)


def test_gray_is_written_full_range(tmp_path: Path) -> None:
    frames = [np.full((HEIGHT, WIDTH, 3), v, np.uint8) for v in (0, 20, 128, 255)]
    write_video(tmp_path / "a.mp4", frames, fps=30, pix_fmt="gray", crf=0)
    with open_video(tmp_path / "a.mp4") as video:
        for got, wanted in zip(video, frames, strict=True):
            assert np.abs(got.rgb.astype(int) - wanted).max() <= 1


def test_a_video_takes_its_rate_from_the_first_two_times(tmp_path: Path) -> None:
    reused = np.empty((HEIGHT, WIDTH, 3), np.uint8)

    def frames() -> Iterator[Frame]:
        for turn in range(3):
            reused[:] = _quadrants(turn)
            yield reused

    write_video(tmp_path / "a.mkv", frames(), t_s=[0.0, 0.05, 0.10], codec="ffv1")
    with open_video(tmp_path / "a.mkv") as video:
        back = list(video)
    assert video.fps_nominal == pytest.approx(20)
    assert np.abs(_centres(back[0].rgb) - _centres(_quadrants())).max() <= 3


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mkv", [_quadrants()], t_s=[0.5])
    with open_video(tmp_path / "one.mkv") as video:
        assert [f.t_s for f in video] == [0.0]


def test_gop_is_the_distance_of_key_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [_quadrants()] * 20, fps=25, gop=5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert [i for i, key in enumerate(keys) if key] == [0, 5, 10, 15]


def test_encoders_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for codec in ("libx264", "libx265", "libvpx-vp9"):
        write_video(tmp_path / "a.mkv", [_quadrants()] * 3, fps=25, codec=codec)
    assert capfd.readouterr() == ("", "")


def test_frames_are_taken_one_at_a_time(tmp_path: Path) -> None:
    given = 0

    def frames() -> Iterator[Frame]:
        nonlocal given
        for i in range(5):
            given += 1
            yield _quadrants(i)

    write_video(tmp_path / "a.mkv", frames(), fps=25)
    assert given == 5


def test_nothing_half_written_is_left_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def broken() -> Iterator[Frame]:
        yield from [_quadrants()] * 5
        raise RuntimeError("the camera fell")

    with pytest.raises(RuntimeError, match="fell"):
        write_video(path, broken(), fps=25)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"old"


REFUSED = {  # name -> (arguments of write_video, size, what the message says)
    "odd width": ({"fps": 25}, (64, 95), "even"),
    "odd height": ({"fps": 25}, (63, 96), "even"),
    "no clock": ({}, (64, 96), "fps"),
    "unknown codec": ({"fps": 25, "codec": "libx999"}, (64, 96), "libx264"),
    "unknown pixels": ({"fps": 25, "pix_fmt": "rgb99"}, (64, 96), "yuv420p"),
    "crf": ({"fps": 25, "crf": 99}, (64, 96), "crf is 99"),
    "rate": ({"fps": 0.0}, (64, 96), "fps"),
    "gop": ({"fps": 25, "gop": 0}, (64, 96), "gop is 0"),
    "times too few": ({"t_s": [0.0]}, (64, 96), "more frames than times"),
    "times too many": ({"t_s": [0.0, 0.1, 0.2, 0.3, 0.4]}, (64, 96), "5 times"),
    "times back": ({"t_s": [0.0, 0.2, 0.1, 0.3]}, (64, 96), "later"),
    "times equal": ({"t_s": [0.1, 0.1, 0.2, 0.3]}, (64, 96), "later"),
    "time below 0": ({"t_s": [-1.0, 0.1, 0.2, 0.3]}, (64, 96), "0 or more"),
    "time nan": ({"t_s": [0.0, float("nan"), 0.2, 0.3]}, (64, 96), "0 or more"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    arguments, (height, width), message = REFUSED[name]
    frames = [np.zeros((height, width, 3), np.uint8)] * 4
    with pytest.raises(ValueError, match=message) as caught:
        write_video(tmp_path / "a.mp4", frames, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_more_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], fps=25)
    with pytest.raises(ValueError, match="suffix"):
        write_video(tmp_path / "a", [_quadrants()], fps=25)
    with pytest.raises(ValueError, match="container"):
        write_video(tmp_path / "a.nothing", [_quadrants()], fps=25)
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "a.mp4", [_quadrants(), _quadrants()[:32]], fps=25)
    with pytest.raises(ValueError, match=r"cannot hold libx264.*use \.mkv"):
        write_video(tmp_path / "a.webm", [_quadrants()], fps=25)
    assert list(tmp_path.iterdir()) == []


def test_avi_takes_only_a_constant_rate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give fps"):
        write_video(tmp_path / "a.avi", [_quadrants()] * 3, t_s=[0.0, 0.1, 0.2])
    with pytest.raises(ValueError, match="constant rate"):
        write_video(tmp_path / "a.avi", [_quadrants()] * 3, fps=10, t_s=[0.0, 0.1, 0.25])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="folder"):
        write_video(tmp_path / "nowhere" / "a.mp4", [_quadrants()] * 3, fps=25)
