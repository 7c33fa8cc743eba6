"""Activations of nets over a video, and the waves they read from it, beside the true one (AutoHR, Appendix D, Fig. 6).

    RUN/config.json                     the video, the weights, the truth
    RUN/results/activations.npz         the arrays (``autohr.lab.reports.activations`` says which)
    RUN/results/activations.json        one object for each net

The page is made from these files. The pictures show the person: their consent is the user's duty, and the page says so.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording, UnknownName
from autohr.files import write_bytes, write_json
from autohr.lab.datasets import DATASETS
from autohr.lab.datasets.recording import Reference
from autohr.lab.metrics import macc
from autohr.lab.nets._activations import LEVELS, Maps, load_activations
from autohr.lab.runs import Run, create_run
from autohr.measure import measure
from autohr.methods import METHODS, Method, load_method, shipped_weights
from autohr.types import FaceClip, Float, Pulse

KIND = "activations"

WINDOW_S = 10.0
"""Length of what the nets are fed at a time, as when they measure and are evaluated."""

KEEP_S = 0.5
"""Time between the maps and crops that are kept: 60 in half a minute are some megabytes, and no head moves far in
less."""


class _KeptMaps:
    """Maps and crops of one net, kept window by window."""

    def __init__(self) -> None:
        self.t_s: list[float] = []
        self.crops: list[NDArray[np.uint8]] = []
        self.maps: dict[str, list[NDArray[np.float32]]] = {level: [] for level in LEVELS}

    def take(self, clip: FaceClip, maps: Maps) -> None:
        assert clip.clip is not None
        for frame in range(0, clip.n_frames, max(1, round(KEEP_S * clip.fps))):
            t_s = clip.start_s + frame / clip.fps
            # The last window of a video reaches back into the one before it.
            if self.t_s and t_s < self.t_s[-1] + KEEP_S / 2:
                continue
            self.t_s.append(t_s)
            self.crops.append(clip.clip[frame])
            for level in LEVELS:
                self.maps[level].append(maps[level][frame])


def record_activations(
    video: Path,
    weights: Sequence[str],
    out: Path,
    *,
    truth: Reference | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> Run:
    """Run the nets of ``weights`` over a video and save activations, waves and head motion into a run directory.

    A net is fed the same crops as when it measures, in windows of ``WINDOW_S``; its maps are of the frames as they are,
    also where ``load_method`` would thin a very fast video for it. ``weights`` are names of shipped weights or files,
    one for each net; ``truth`` is the reference on the video's clock; ``say`` is called with one line before each pass.

    Raises VideoError, NoFace and SignalTooShort as ``measure``; BadWeights and UnknownName for weights that are
    damaged, or of a net whose layers are not known here; BadRecipe where the folder holds another run.
    """
    if not weights:
        raise ValueError("weights is empty; name the weights of at least one net.")
    files = [shipped_weights(".safetensors").get(name, Path(name)) for name in weights]
    readers = [load_activations(file, device) for file in files]
    methods = [load_method(None, name, device) for name in weights]
    config = {
        "kind": KIND,
        "video": str(video),
        "weights": list(weights),
        "start_s": start_s,
        "end_s": end_s,
        "window_s": WINDOW_S,
        "has_truth": truth is not None and truth.bvp is not None,
    }
    run = create_run(out, config)
    say = say or (lambda line: None)
    arrays: dict[str, Any] = {}
    nets: list[dict[str, Any]] = []
    true_t_s, true_bvp = _true_wave(truth, start_s, end_s)
    for number, (method, read_maps) in enumerate(zip(methods, readers, strict=True)):
        say(f"Watching {method.title} ({method.weights}) ...")
        kept = _KeptMaps()
        measured = measure(
            video,
            _keeping_maps(method, read_maps, kept),
            window_s=WINDOW_S,
            stride_s=WINDOW_S,
            start_s=start_s,
            end_s=end_s,
        )
        face = measured.face
        assert face.bvp is not None
        arrays[f"net{number}_t_s"] = np.array(kept.t_s)
        arrays[f"net{number}_crops"] = np.stack(kept.crops)
        for level in LEVELS:
            arrays[f"net{number}_{level}"] = np.stack(kept.maps[level]).astype(np.float16)
        arrays[f"net{number}_bvp"] = face.bvp.bvp.astype(np.float32)
        arrays[f"net{number}_bvp_t_s"] = face.bvp.start_s + np.arange(len(face.bvp.bvp)) / face.bvp.fps
        nets.append(
            {
                "title": method.title,
                "weights": method.weights,
                "hr_bpm": face.hr_bpm,
                "reliable": face.reliable,
                "likeness": _likeness(face.bvp, true_t_s, true_bvp),
            }
        )
    say("Following the head ...")
    arrays["motion_t_s"], arrays["motion"] = head_motion(video, start_s, end_s)
    arrays["true_t_s"], arrays["true_bvp"] = true_t_s, true_bvp
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(run.results / "activations.npz", content.getvalue())
    write_json(run.results / "activations.json", {"nets": nets})
    return run


def find_truth(video: Path, dataset: str | None, root: Path | None) -> Reference | None:
    """Return the reference of a video: that of the recording of a dataset whose video it is.

    Without a dataset, a ``.truth.json`` beside the video is read, as ``autohr synth`` writes it; else None. Raises
    UnknownName where there is no such dataset, BadRecording where it has no recording of this video.
    """
    if dataset is None:
        if not video.with_suffix(".truth.json").exists():
            return None
        dataset = "synthetic"
    if dataset not in DATASETS:
        raise UnknownName("dataset", dataset, DATASETS)
    root = root or video.parent
    for recording in DATASETS[dataset].list_recordings(root).recordings:
        if recording.video.absolute() == video.absolute():
            return recording.read_reference()
    raise BadRecording(f"{str(video)!r} is no recording of {dataset} in {str(root)!r}; look at --dataset and --root.")


def head_motion(video: Path, start_s: float = 0.0, end_s: float | None = None) -> tuple[Float, Float]:
    """Return (t_s (N,), speed (N,)) of the tracked face, in face widths per second.

    Speed is of moving and growing, smoothed over 0.2 s, for a tracked box trembles. It is taken from the tracked box
    also where a net keeps the first one.
    """
    stretches: list[tuple[Float, Float]] = []

    def wave(clip: FaceClip) -> Pulse:
        x, y, width, height = clip.box_xywh.T
        # Place and size as one vector, in face widths; its speed is the motion.
        place = np.stack([x + width / 2, y + height / 2, width]) / width.mean()
        speed = np.linalg.norm(np.gradient(place, 1 / clip.fps, axis=1), axis=0)
        n = max(1, round(0.2 * clip.fps))
        stretches.append(
            (clip.start_s + np.arange(clip.n_frames) / clip.fps, np.convolve(speed, np.full(n, 1 / n), mode="same"))
        )
        return pos.wave(clip)

    pos = METHODS["pos"]
    measure(video, replace(pos, wave=wave), window_s=WINDOW_S, stride_s=WINDOW_S, start_s=start_s, end_s=end_s)
    t_s, speed = (np.concatenate(parts) for parts in zip(*stretches, strict=True))
    order = np.unique(np.round(t_s, 4), return_index=True)[1]
    return t_s[order], speed[order]


def _keeping_maps(method: Method, read_maps: Callable[[NDArray[np.float32]], Maps], kept: _KeptMaps) -> Method:
    def wave(clip: FaceClip) -> Pulse:
        kept.take(clip, read_maps(clip.as_net_input()))
        return method.wave(clip)

    return replace(method, wave=wave, stream=None)


def _true_wave(truth: Reference | None, start_s: float, end_s: float | None) -> tuple[Float, Float]:
    if truth is None or truth.bvp is None:
        return np.zeros(0), np.zeros(0)
    inside = (truth.t_s >= start_s) & (truth.t_s <= (np.inf if end_s is None else end_s)) & np.isfinite(truth.bvp)
    return truth.t_s[inside], truth.bvp[inside]


def _likeness(pulse: Pulse, true_t_s: Float, true_bvp: Float) -> float | None:
    """Return the MACC of the predicted and the true wave: the best correlation within a second of lag.

    Skin and finger are not in phase, and neither are their sensors' filters; a lag is no error of the net. None where
    the waves have less than two seconds in common.
    """
    t_s = pulse.start_s + np.arange(len(pulse.bvp)) / pulse.fps
    if len(true_t_s) < 2:
        return None
    both = np.isfinite(pulse.bvp) & (t_s >= true_t_s[0]) & (t_s <= true_t_s[-1])
    if both.sum() < pulse.fps * 2:
        return None
    r, _lag_s = macc(pulse.bvp[both], np.interp(t_s[both], true_t_s, true_bvp), pulse.fps)
    return r if np.isfinite(r) else None
