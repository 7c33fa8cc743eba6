"""Small made things that several test modules need: recordings in memory, a detector that costs nothing, a recipe, and
a call of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from autohr.cli.main import main
from autohr.lab.datasets.cache import CachedRecording
from autohr.types import Float, Frame
from autohr.video.detector import Detection

Shares = tuple[float, float, float, float]
"""Left, top, width and height of a box, as shares of the picture's."""

FACE_OF_SCENE: Shares = (0.32, 0.15, 0.36, 0.66)
"""A drawn face in a picture of 4 to 3 with some room about it."""
FACE_OF_TREE: Shares = (0.2, 0.15, 0.6, 0.7)
"""A drawn face that fills its picture, as in the videos of trees.py."""


@dataclass
class MiddleDetector:
    """Finds a face in the middle of any frame that is not black."""

    box: Shares = FACE_OF_SCENE
    n_asked: int = 0

    def detect(self, frame: Frame) -> list[Detection]:
        self.n_asked += 1
        if frame.mean() < 8:
            return []
        height, width = frame.shape[:2]
        box_xywh = np.array(self.box) * (width, height, width, height)
        eyes_nose_mouth = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        return [Detection(box_xywh, 0.999, box_xywh[:2] + eyes_nose_mouth * box_xywh[2:])]


def in_memory(frames: Frame, bvp: Float, hr_bpm: Float, fps: float, recording_id: str = "made/up/0") -> CachedRecording:
    """A recording as the cache hands it out, face found throughout: frames (T, S, S, 3), bvp and hr_bpm (T,)."""
    dataset, subject, session = recording_id.split("/")
    return CachedRecording(
        recording_id=recording_id,
        dataset=dataset,
        subject=subject,
        session=session,
        segment=0,
        start_s=0.0,
        fps=fps,
        frames=frames,
        bvp=bvp,
        hr_bpm=hr_bpm,
        found=np.ones(len(frames), dtype=bool),
    )


def made_recording(subject: int, n_frames: int = 80, fps: float = 16.0, *, has_bvp: bool = True) -> CachedRecording:
    """Grey noise of 32 px that darkens with each beat, 10 bpm faster from subject to subject."""
    rng = np.random.default_rng(subject)
    hr_bpm = 60.0 + 10 * subject
    bvp = np.sin(2 * np.pi * hr_bpm / 60 * np.arange(n_frames) / fps)
    frames = 120 + rng.normal(0, 3, (n_frames, 32, 32, 3)) - 6 * bvp[:, None, None, None]
    return in_memory(
        frames.astype(np.uint8),
        bvp if has_bvp else np.full(n_frames, np.nan),
        np.full(n_frames, hr_bpm),
        fps,
        f"synthetic/{subject}/a",
    )


def pretend_cached(monkeypatch: pytest.MonkeyPatch, recordings: Sequence[CachedRecording]) -> None:
    """Recipes of trainings and searches find ``recordings`` in their cache; its folder need only exist.

    No ONNX file is written at the end, which takes seconds.
    """
    monkeypatch.setattr("autohr.lab.train.recipe.export_beside", lambda weights: None)
    monkeypatch.setattr("autohr.lab.train.recipe.open_cached", lambda *_, **__: list(recordings))


def write_recipe(folder: Path) -> Path:
    """A recipe of a training of two steps with a tiny AutoHR; its cache is a folder beside it."""
    path = folder / "tiny.toml"
    path.write_text(
        f"""
        net = "autohr"
        [net_config]
        preset = "small"
        stem_channels = 2
        channels = 2
        [data]
        cache = '{folder / "cache"}'
        n_frames = 64
        size_px = 16
        licence = "Apache-2.0"
        [crop]
        size_px = 32
        [loss]
        variant = "nll"
        [fit]
        steps = 2
        batch_size = 2
        """
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``autohr ARGUMENTS``, run in this process."""
    before, sys.argv = sys.argv, ["autohr", *(str(argument) for argument in arguments)]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    output = capsys.readouterr()
    return code, output.out, output.err
