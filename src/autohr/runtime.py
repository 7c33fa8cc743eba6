"""A network at run time: an ONNX file in, waves or heart rates of face clips out (onnxruntime)."""

from __future__ import annotations

import ctypes
import math
import os
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autohr.confidence.verdict import LEAST_FPS
from autohr.errors import BadWeights, in_short
from autohr.frontend import Crop
from autohr.signals.filters import bandpass
from autohr.types import FaceClip, Float, Frame, Pulse, as_net_input
from autohr.video.pace import clock_change, denser
from autohr.weights.header import read_onnx

if TYPE_CHECKING:
    import onnxruntime

Run = Callable[[NDArray[np.float32], float], Float]
"""Clips (B, 3, T, H, W) in [0, 1] and their frames per second to waves (B, T) or to heart rates in bpm (B,)."""

DEVICES = ("cpu", "cuda", "mps")

PIECE_S, OVERLAP_S = 4.0, 1.0
"""Seconds of a face that a network is fed at once as they come, and seconds of them that the piece before had too.

Every three seconds a piece is full, which is how long a reading waits, and a third of the frames go through the
network twice. Chosen for AutoHR ``small`` on 60 clips of the scenes of ``benchmarks/confidence.py`` with people of the
training: of the 10 s windows that one pass over the whole window reads right, 98 % are within 0.3 bpm of it; with
pieces of 4 s that overlap by 2 s 96 %, of 3 s by 1 s 94 %, of 2 s by 1 s 92 %. All are right equally often.
"""

LONG_PIECE_S, LONG_OVERLAP_S = 20.0, 5.0
"""The same for a clip that is given as a whole, as in training and evaluation: longer than the clips of any protocol
that is trained on, and 0.3 GB of memory with AutoHR ``small`` at 30 frames per second."""

MAX_OUTPUT = 1e100
"""Size from which on a network's output is no number: far above any float32, and its square is still a float64."""

DEFAULT_FPS = 30.0
"""Frames per second that weights were trained at if their header does not say."""

DEFAULT_THREADS = 1
"""Threads for one network where OMP_NUM_THREADS does not ask for more: two did the work of one in more processor time,
and decoding and face reading need the other core (``benchmarks/measure.py``)."""


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

    return Net(described["weights"], gives, partial(_run_onnx, path, session, gives))


def _run_onnx(
    path: Path, session: _Session, gives: Literal["wave", "rate"], clips: NDArray[np.float32], fps: float
) -> Float:
    """Return the waves or rates of clips, as ``Run``."""
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


class _Session:
    """An onnxruntime session that can also be used in a process forked after it was made, or sent to another one."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._session: onnxruntime.InferenceSession | None = _make_session(content, thread_count())
        _SESSIONS.add(self)

    def __reduce__(self) -> tuple[type[_Session], tuple[bytes]]:
        """Return what a pickle holds: the file's content, so that the other process needs no file."""
        return _Session, (self._content,)

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
    """Return how many threads one network uses: OMP_NUM_THREADS, or ``DEFAULT_THREADS``."""
    asked = re.match(r"\s*0*([1-9][0-9]{0,3})", os.environ.get("OMP_NUM_THREADS", ""))
    return int(asked[1]) if asked else DEFAULT_THREADS


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


class NetStream:
    """A network's answers to the crops of one face, made once: crops in as they come, the wave of any stretch out.

    Crops are fed to the network in pieces of ``piece_s`` that overlap by ``overlap_s``, where they are cross-faded. The
    last piece so far is not faded at its end until the next one comes. A network that gives rates gives a wave here
    whose level is the rate, so that its mean over a stretch is the mean of its pieces, as in the papers of these
    networks; its pieces are as long as the clips of its training, and overlap by half, the last one by as much as it
    takes to be as long as the others.

    Parameters
    ----------
    net
        The network.
    fps
        Frames per second of the crops. Videos faster than those of the network's training are thinned; frames are put
        between those of slower ones.
    piece_s, overlap_s
        Of networks that give waves; ``PIECE_S`` and ``OVERLAP_S`` say how they were chosen.
    """

    def __init__(self, net: Net, fps: float, piece_s: float = PIECE_S, overlap_s: float = OVERLAP_S) -> None:
        self._net, self._fps = net, fps
        self._times, self._every = clock_change(fps, *trained_fps(net.header))
        self._length = math.ceil(piece_s * fps)
        self._overlap = math.ceil(overlap_s * fps)
        n_frames = net.header["input"].get("n_frames")
        if net.gives == "rate" and isinstance(n_frames, int) and n_frames >= 2:
            self._length = math.ceil(n_frames * self._every / self._times)
            self._overlap = self._length // 2
        self._n_kept = self._length if net.gives == "rate" else self._overlap
        """Crops and waves that are kept after a piece, for the next one to reach back to."""
        self._crops: list[Frame] = []
        self._n_new = 0
        """Number of crops that no piece has had yet."""
        self._wave: Float | None = None
        """(N,) from frame ``_first`` to ``n_known``."""
        self._first = 0
        self.n_known = 0
        """Number of frames, from the first one, of which the wave is known."""
        self.delay_s = (self._length - self._overlap) / fps
        """Longest time for which a crop waits for its piece."""

    def push(self, crop: Frame) -> None:
        """Take the next crop (S, S, 3); every few of them the network runs.

        Raises
        ------
        BadWeights
            The network fails.
        """
        self._crops.append(crop)
        self._n_new += 1
        if self._n_new == self._length - (0 if self._wave is None else self._overlap):
            self._run()

    def end(self) -> None:
        """Run the network on what is left over: no more crops will come."""
        if self._wave is None or self._n_new:
            self._run()

    def wave(self, first: int, n_frames: int) -> Float:
        """Return the wave (n_frames,) from frame ``first``."""
        assert self._wave is not None and self._first <= first and first + n_frames <= self.n_known
        return self._wave[first - self._first : first - self._first + n_frames]

    def forget(self, first: int) -> None:
        """Let go of the wave before frame ``first``. What that the next piece overlaps stay."""
        if self._wave is not None:
            n_gone = min(first, self.n_known - self._n_kept) - self._first
            if n_gone > 0:
                self._wave = self._wave[n_gone:].copy()
                self._first += n_gone

    def _run(self) -> None:
        """Run the network on the last crops and join its wave to that before."""
        piece = self._crops[-self._length :]
        new = self._read(np.stack(piece))
        if self._wave is None:
            self._wave = new
        else:
            n_shared = len(piece) - self._n_new
            rise = np.sin(np.pi / 2 * (np.arange(n_shared) + 0.5) / n_shared) ** 2
            shared = self._wave[-n_shared:] * (1 - rise) + new[:n_shared] * rise
            self._wave = np.concatenate([self._wave[:-n_shared], shared, new[n_shared:]])
        self.n_known = self._first + len(self._wave)
        self._n_new = 0
        del self._crops[: -self._n_kept]

    def _read(self, crops: Frame) -> Float:
        """Return the wave (N,) of one piece of crops (N, S, S, 3)."""
        n_frames = len(crops)
        if self._times > 1:
            return self._feed(denser(crops, self._times))[:: self._times]
        if self._every == 1:
            return self._feed(crops)
        shown = range(0, n_frames, self._every)
        return np.interp(np.arange(n_frames), shown, self._feed(crops[:: self._every]))

    def _feed(self, crops: Frame) -> Float:
        whole = as_net_input(crops)
        if self._net.gives == "rate":
            rate = _finite_or_nan(self._net.run(whole, self._fps * self._times / self._every))
            return np.full(len(crops), rate[0])
        return _finite_or_nan(self._net.run(whole, self._fps)[0])


def _finite_or_nan(values: Float) -> Float:
    """Return NaN for infinities and what would be one when squared; weights can be finite and their waves not."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(values) < MAX_OUTPUT, values, np.nan)


def read_wave(net: Net, clip: FaceClip) -> Float:
    """Return a network's wave (T,) of a clip: that which was read as its crops came or, without, of its crops.

    Raises
    ------
    ValueError
        The clip has neither.
    """
    if clip.net_wave is not None:
        return clip.net_wave
    if clip.clip is None:
        raise ValueError("This FaceClip holds colours only; ask the meter for crops (Method.crop).")
    stream = NetStream(net, clip.fps, LONG_PIECE_S, LONG_OVERLAP_S)
    for crop in clip.clip:
        stream.push(crop)
    stream.end()
    return stream.wave(0, clip.n_frames)


def wave_function(net: Net) -> Callable[[FaceClip], Pulse]:
    """Return the function that reads the pulse wave of a face clip with a network."""
    return partial(_net_wave, net)


def _net_wave(net: Net, clip: FaceClip) -> Pulse:
    return Pulse(bandpass(read_wave(net, clip), clip.fps), clip.fps, clip.start_s)


def rate_function(net: Net) -> Callable[[FaceClip], float]:
    """Return the function that reads the heart rate of a face clip with a network that gives no wave."""
    return partial(_net_rate, net)


def _net_rate(net: Net, clip: FaceClip) -> float:
    return float(read_wave(net, clip).mean())


def trained_fps(header: Mapping[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest number of frames per second in a network's training data."""
    data = header["training_data"]
    ends = (data.get("fps_from"), data.get("fps_to")) if isinstance(data, dict) else (None, None)
    slowest, fastest = (
        next((float(fps) for fps in (end, header["fps"]) if isinstance(fps, (int, float)) and fps >= LEAST_FPS), None)
        for end in ends
    )
    return slowest or 0.0, fastest or DEFAULT_FPS
