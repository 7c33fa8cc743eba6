"""A network at run time: an ONNX file in, waves or heart rates of face clips out (onnxruntime)."""

from __future__ import annotations

import ctypes
import math
import os
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autohr.confidence.verdict import LEAST_FPS
from autohr.errors import BadWeights
from autohr.frontend import Crop
from autohr.signals.filters import bandpass
from autohr.types import FaceClip, Float, Pulse
from autohr.video.pace import clock_change, denser
from autohr.weights.header import in_short, read_onnx

if TYPE_CHECKING:
    import onnxruntime

Run = Callable[[NDArray[np.float32], float], Float]
"""Clips (B, 3, T, H, W) in [0, 1] and their frames per second to waves (B, T) or to heart rates in bpm (B,)."""

DEVICES = ("cpu", "cuda", "mps")

PIECE_FRAMES = 600
"""Largest number of frames that a network is fed at once: 20 s at 30 frames per second, and 0.3 GB of memory with
AutoHR ``small``. The 120 s that a window may have took 1.4 GB."""

MIN_PART_PX = 16
"""Smallest side of the quarters of a face that a network is fed, the smallest picture that it takes."""

DEFAULT_FPS = 30.0
"""Frames per second that weights were trained at if their header does not say."""

MAX_THREADS = 2
"""Largest number of threads for one network where OMP_NUM_THREADS does not ask for more. The shipped network is small:
a third thread would wait more than it works, and decoding and face tracking need a core too."""


@dataclass(frozen=True)
class Net:
    """A network that was loaded from a weights file."""

    header: Mapping[str, Any]
    gives: Literal["wave", "rate"]
    run: Run


def load_onnx(path: Path) -> Net:
    """Load the network of an .onnx file that autohr wrote, for the processor.

    Raises
    ------
    BadWeights
        One line: the file is missing, truncated, altered, not of autohr, or cannot be run.
    """
    content, described = read_onnx(path)
    try:
        session = _Session(content)
    except Exception as error:  # onnxruntime's errors have no common base
        raise BadWeights(f"{str(path)!r} cannot be run by onnxruntime ({in_short(error)}). Fetch it again.") from error
    named = session.names()
    if named not in ((["clip"], ["bvp"]), (["clip", "fps"], ["hr_bpm"])):
        raise BadWeights(f"{str(path)!r} has inputs and outputs {named}, which no net of autohr has. Export it again.")
    gives: Literal["wave", "rate"] = "wave" if named[1] == ["bvp"] else "rate"

    def run(clips: NDArray[np.float32], fps: float) -> Float:
        fed = {"clip": np.ascontiguousarray(clips)}
        if gives == "rate":
            fed["fps"] = np.full(len(clips), fps, dtype=np.float32)
        try:
            out = np.asarray(session.run(fed), dtype=np.float64)
        except Exception as error:
            raise BadWeights(f"{str(path)!r} failed in onnxruntime ({in_short(error)}). Export it again.") from error
        if out.shape != (clips.shape[0], clips.shape[2])[: 2 if gives == "wave" else 1]:
            raise BadWeights(f"{str(path)!r} gives an output of shape {out.shape} for a clip of {clips.shape}.")
        return out

    return Net(described["weights"], gives, run)


class _Session:
    """An onnxruntime session that can also be used in a process forked after it was made."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._session: onnxruntime.InferenceSession | None = _make_session(content, thread_count())
        _SESSIONS.add(self)

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the network's inputs and outputs."""
        assert self._session is not None
        return [one.name for one in self._session.get_inputs()], [one.name for one in self._session.get_outputs()]

    def run(self, fed: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the network's only output."""
        if self._session is None:
            # In a forked child. Programs that fork have a process for each core.
            self._session = _make_session(self._content, 1)
        out: NDArray[np.float32] = self._session.run(None, fed)[0]
        return out

    def abandon(self) -> None:
        """Give the session up in a forked child, in which its threads do not exist.

        It would wait for them for ever, in a run as in its end; so a reference is kept that nobody lets go.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None


_SESSIONS: weakref.WeakSet[_Session] = weakref.WeakSet()


def _abandon_sessions() -> None:
    for session in _SESSIONS:
        session.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_sessions)


def _make_session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # Threads that wait by spinning would take a core from decoding and face tracking.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def thread_count() -> int:
    """Return how many threads one network uses: OMP_NUM_THREADS, or at most ``MAX_THREADS`` of this process's cores."""
    asked = re.match(r"\s*0*([1-9][0-9]{0,3})", os.environ.get("OMP_NUM_THREADS", ""))
    if asked:
        return int(asked[1])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_THREADS, cores)


def trained_crop(path: Path, header: Mapping[str, Any]) -> Crop:
    """Return how the header of ``path`` says that faces were cropped.

    Raises
    ------
    BadWeights
        The header does not say.
    """
    crop_input = header["input"]
    if isinstance(crop_input, dict):
        stored_px, size_px, box, margin = (crop_input.get(key) for key in ("crop_size_px", "size_px", "box", "margin"))
        if (
            isinstance(stored_px, int)
            and isinstance(size_px, int)
            and 16 <= size_px <= stored_px <= 1024
            and box in ("tracked", "first")
            and isinstance(margin, (int, float))
            and 0 <= margin <= 1
        ):
            return Crop(stored_px, size_px, box, float(margin))
    raise BadWeights(
        f"{str(path)!r} does not say how its faces were cropped: input={crop_input!r} must have crop_size_px and "
        "size_px (16 to 1024), box (tracked or first) and margin (0 to 1). Save it again, as autohr train does."
    )


def wave_function(net: Net) -> Callable[[FaceClip], Pulse]:
    """Return the function that reads the pulse wave of a face clip with a network.

    Videos faster than those of the network's training are thinned; frames are put between those of slower ones.
    """
    min_fps, max_fps = trained_fps(net.header)

    def wave(clip: FaceClip) -> Pulse:
        times, every = clock_change(clip.fps, min_fps, max_fps)
        if times > 1 and clip.clip is not None:
            frames = denser(clip.clip, times)
            waves = in_pieces(replace(clip, clip=frames), range(len(frames)), net.run)[:, ::times]
        else:
            shown = range(0, clip.n_frames, every)
            waves = in_pieces(clip, shown, net.run)
            if every > 1:
                waves = np.stack([np.interp(np.arange(clip.n_frames), shown, wave) for wave in waves])
        waves = bandpass(waves, clip.fps)
        parts = waves[1:] if len(waves) > 1 else None
        return Pulse(bvp=waves[0], fps=clip.fps, start_s=clip.start_s, parts=parts)

    return wave


def rate_function(net: Net) -> Callable[[FaceClip], float]:
    """Return the function that reads the heart rate of a face clip with a network that gives no wave.

    The clip is cut into pieces as long as those of the training, which overlap if they must; the rate is their mean, as
    in the papers of these networks.
    """
    min_fps, max_fps = trained_fps(net.header)
    n_frames_trained = net.header["input"].get("n_frames")
    if not isinstance(n_frames_trained, int) or n_frames_trained < 2:
        n_frames_trained = PIECE_FRAMES

    def rate(clip: FaceClip) -> float:
        times, every = clock_change(clip.fps, min_fps, max_fps)
        frames = clip.clip
        if frames is not None:
            frames = denser(frames, times) if times > 1 else frames[::every]
        fed = replace(clip, clip=frames).as_net_input()
        n_frames, length = fed.shape[2], min(fed.shape[2], n_frames_trained)
        firsts = np.linspace(0, n_frames - length, math.ceil(n_frames / length)).astype(int)
        fps = clip.fps * times / every
        return float(np.mean([net.run(fed[:, :, first : first + length], fps)[0] for first in firsts]))

    return rate


def in_pieces(clip: FaceClip, shown: range, run: Run) -> Float:
    """Return a network's waves of the frames ``shown`` of a clip, of the whole face and of its four quarters.

    A long clip is fed in pieces that overlap and are cross-faded, so that memory does not grow with it. The quarters
    are evidence: what a network reads in noise or in a moving mouth differs from one to the other. They cost as much
    again as the whole.

    Returns
    -------
        Waves (5, N) of the N frames; (1, N) if the quarters would be smaller than ``MIN_PART_PX``.
    """
    n_frames, length = len(shown), min(len(shown), PIECE_FRAMES)
    n_pieces = 1 + math.ceil((n_frames - length) / (length - length // 4))
    fade = np.hanning(length + 2)[1:-1] + 1e-3
    total, weight = np.zeros((0, n_frames)), np.zeros(n_frames)
    for first in np.linspace(0, n_frames - length, n_pieces).astype(int):
        span = slice(first, first + length)
        frames = None if clip.clip is None else clip.clip[shown.start : shown.stop : shown.step][span]
        whole = replace(clip, clip=frames).as_net_input()
        waves = run(whole, clip.fps)
        half = whole.shape[-1] // 2
        if half >= MIN_PART_PX:
            sides = (slice(None, half), slice(-half, None))
            quarters = np.concatenate([whole[..., rows, columns] for rows in sides for columns in sides])
            waves = np.concatenate([waves, run(quarters, clip.fps)])
        if not len(total):
            total = np.zeros((len(waves), n_frames))
        total[:, span] += fade * waves
        weight[span] += fade
    joined: Float = total / weight
    return joined


def trained_fps(header: Mapping[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest number of frames per second in a network's training data."""
    data = header["training_data"]
    ends = (data.get("fps_from"), data.get("fps_to")) if isinstance(data, dict) else (None, None)
    slowest, fastest = (
        next((float(fps) for fps in (end, header["fps"]) if isinstance(fps, (int, float)) and fps >= LEAST_FPS), None)
        for end in ends
    )
    return slowest or 0.0, fastest or DEFAULT_FPS
