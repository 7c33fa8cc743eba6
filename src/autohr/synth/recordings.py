"""A data set of synthetic recordings: people with a fixed face and skin, recorded under varied conditions.

    OUT/
        dataset.json                        what was asked for and what was made
        subject_000/session_0.mp4           frames WIDTHxHEIGHT, the face 130 to 170 px high
        subject_000/session_0.truth.json    times, pulse wave, rate (synth/video.py: read_truth)

Every recording follows from (seed, subject, session) alone: neither the number of workers nor that of subjects
changes it, so a larger set holds the smaller one. A recording is written beside its place and moved there when whole;
a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from autohr.errors import AutoHRError
from autohr.synth.face import Identity, random_identity
from autohr.synth.video import Background, SceneConfig, truth_path, write_scene

Job = TypeVar("Job")
Result = TypeVar("Result")

DATASET_SCHEMA = "autohr.synthetic/1"

HR_BPM = (45.0, 165.0)
"""Rates are uniform in this range, the part of the estimator's 40..180 that leaves room on both sides."""
PULSE_DEPTH = (0.004, 0.03)
"""Log-uniform. Of linear light: a real face measured here shows 0.022, and its darkest and coldest neighbours less."""
CRF = (3, 15)
"""x264's quality, uniform. From 18 on the encoder flattens the pulse of these smooth faces away."""
FACE_PX = (130.0, 170.0)
"""Height of the face at 320x240; scaled with the frame's height."""
USUAL_FPS = (25.0, 30.0, 29.97)
OTHER_FPS = (15.0, 20.0, 24.0, 50.0, 60.0)
USUAL_FPS_SHARE = 0.8


@dataclass(frozen=True)
class SyntheticRecording:
    """One recording to be made: its place and its config."""

    subject: str
    session: str
    scene: SceneConfig
    crf: int

    @property
    def path(self) -> Path:
        """Of the video, relative to the data set."""
        return Path(self.subject) / f"{self.session}.mp4"


@dataclass(frozen=True)
class Written:
    """What ``write_recordings`` did."""

    out: Path
    recordings: tuple[SyntheticRecording, ...]
    n_made: int
    """The others were there already."""


def plan_recordings(
    *,
    n_subjects: int,
    per_subject: int = 2,
    seed: int = 0,
    duration_s: float = 20.0,
    width: int = 320,
    height: int = 240,
) -> list[SyntheticRecording]:
    """The recordings of a data set; nothing is drawn yet.

    A person has a face, a skin tone (uniform from fair to dark) and a depth of pulse that varies little; each of the
    recordings has its own rate, steady or slowly changing, motion, light, camera and encoding.

    Raises:
        ValueError: a count below 1, or a size or duration that ``SceneConfig`` refuses.
    """
    for name, value in (("n_subjects", n_subjects), ("per_subject", per_subject)):
        if value < 1:
            raise ValueError(f"{name}={value} must be 1 or more.")
    planned = []
    for subject in range(n_subjects):
        rng = np.random.default_rng([seed, subject])
        identity = random_identity(rng)
        depth = float(np.exp(rng.uniform(*np.log(PULSE_DEPTH))))
        for session in range(per_subject):
            rng = np.random.default_rng([seed, subject, 1 + session])
            scene, crf = _scene(rng, identity, depth, duration_s, width, height)
            planned.append(SyntheticRecording(f"subject_{subject:03d}", f"session_{session}", scene, crf))
    return planned


def _scene(
    rng: np.random.Generator, identity: Identity, depth: float, duration_s: float, width: int, height: int
) -> tuple[SceneConfig, int]:
    """One recording of a person, by chance, and its crf."""

    def sometimes(share: float, low: float, high: float) -> float:
        drawn, value = rng.uniform() < share, float(rng.uniform(low, high))
        return value if drawn else 0.0

    # Cameras with a drifting clock have rates like 23.85; a tenth of them here.
    fps = float(rng.choice(USUAL_FPS) if rng.uniform() < USUAL_FPS_SHARE else rng.choice(OTHER_FPS))
    if rng.uniform() < 0.1:
        fps = round(fps * float(rng.uniform(0.94, 1.0)), 2)
    start_bpm = float(rng.uniform(*HR_BPM))
    # A heart that calms down or speeds up by a third of a beat per minute and second at most.
    slope_bpm = sometimes(0.5, -1, 1) * min(20.0, duration_s / 3)
    end_bpm = float(np.clip(start_bpm + slope_bpm, *HR_BPM))
    flicker_depth = sometimes(0.15, 0.001, 0.006)
    nod_amplitude = sometimes(0.1, 0.005, 0.02)
    backgrounds: tuple[Background, ...] = ("plain", "room", "clutter")
    scene = SceneConfig(
        seed=int(rng.integers(2**31)),
        duration_s=duration_s,
        width=width,
        height=height,
        fps=fps,
        identity=identity,
        face_px=round(float(rng.uniform(*FACE_PX)) * min(height / 240, width / 320), 2),
        hr_bpm=(round(start_bpm, 2), round(end_bpm, 2)),
        hrv=round(float(rng.uniform(0.01, 0.06)), 4),
        resp_bpm=round(float(rng.uniform(10, 22)), 2),
        pulse_depth=round(float(np.clip(depth * np.exp(rng.normal(0, 0.15)), *PULSE_DEPTH)), 5),
        # Mostly people who sit and look at a screen; some who are restless.
        motion=round(float(rng.beta(1.2, 2.5)) * 1.2, 3),
        nod_hz=round(float(rng.uniform(0.3, 2.0)), 3) if nod_amplitude else 0.0,
        nod_amplitude=round(nod_amplitude, 4),
        exposure=round(float(rng.uniform(0.6, 1.15)), 3),
        light_drift=round(float(rng.uniform(0.0, 0.06)), 4),
        flicker_hz=round(float(rng.uniform(0.5, 4.0)), 3) if flicker_depth else 0.0,
        flicker_depth=round(flicker_depth, 5),
        # Noise under a quarter of a grey level would let 8 bits swallow the pulse; cameras have more.
        noise_sd=round(float(rng.uniform(0.5, 2.5)), 3),
        background=backgrounds[int(rng.choice(3, p=(0.2, 0.6, 0.2)))],
        jitter_s=round(sometimes(0.15, 0.05, 0.25) / fps, 6),
        drop_share=round(sometimes(0.1, 0.005, 0.03), 4),
    )
    return scene, int(rng.integers(CRF[0], CRF[1] + 1))


def write_recordings(
    out: Path,
    *,
    n_subjects: int,
    per_subject: int = 2,
    seed: int = 0,
    duration_s: float = 20.0,
    width: int = 320,
    height: int = 240,
    workers: int | None = None,
    progress: Callable[[int, int, SyntheticRecording], None] | None = None,
) -> Written:
    """Make a data set of ``n_subjects * per_subject`` recordings in ``out``; what is there already is kept.

    Args:
        workers: processes; one for each processor if None. 1 works in this process. The frames are the same.
        progress: called with (done, total, recording) after each.

    Raises:
        ValueError: as ``plan_recordings``, or workers below 1.
        VideoError: the encoder failed.
        AutoHRError: ``out`` cannot be written, or a worker was killed; whole recordings stay.
    """
    out = Path(out)
    planned = plan_recordings(
        n_subjects=n_subjects,
        per_subject=per_subject,
        seed=seed,
        duration_s=duration_s,
        width=width,
        height=height,
    )
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        to_make = []
        n_done = 0
        for one in planned:
            if _is_made(out, one):
                n_done += 1
                if progress is not None:
                    progress(n_done, len(planned), one)
            else:
                to_make.append(one)
        make = functools.partial(_make, out)
        for one, _ in in_workers(make, to_make, workers if workers is not None else os.cpu_count() or 1):
            n_done += 1
            if progress is not None:
                progress(n_done, len(planned), one)
        _write_index(out, planned, seed)
    except OSError as error:
        raise AutoHRError(
            f"Recordings cannot be written to {str(out)!r}: {error.strerror or error}. "
            "Make room or choose another folder, and run again; whole recordings are kept."
        ) from error
    return Written(out, tuple(planned), len(to_make))


def in_workers(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """(job, work(job)) for each of ``jobs``, in the order in which they end, by up to ``workers`` processes.

    One worker or one job is done in this process. ``work`` and what it takes and gives must pickle.

    Raises:
        AutoHRError: a worker was killed.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    # Spawned, not forked: a fork copies locks that other threads (torch's) may hold, and waits for them for ever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        tasks = {pool.submit(work, job): job for job in jobs}
        for task in as_completed(tasks):
            yield tasks[task], task.result()
    except BrokenProcessPool:
        raise AutoHRError(
            f"One of {workers} worker processes was killed, perhaps for want of memory. "
            "Run again, with fewer workers; what was finished is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """One OpenCV thread for each process; and an end when the parent is killed, for the pool would wait for ever."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent_sentinel: int) -> None:
    multiprocessing.connection.wait([parent_sentinel])
    os._exit(1)


def _make(out: Path, one: SyntheticRecording) -> None:
    place = out / one.path
    desk = place.parent / f".tmp-{one.session}"
    desk.mkdir(parents=True, exist_ok=True)
    made = desk / place.name
    write_scene(one.scene, made, crf=one.crf)
    # The truth goes last: a recording is whole when it is there. An outdated one must not vouch for the new video.
    truth_path(place).unlink(missing_ok=True)
    made.replace(place)
    truth_path(made).replace(truth_path(place))
    desk.rmdir()


def _is_made(out: Path, one: SyntheticRecording) -> bool:
    """Whether the recording is there whole, and made from just this config."""
    place = out / one.path
    try:
        record = json.loads(truth_path(place).read_text(encoding="utf-8"))
        same = bool(record["config"] == _as_json(one.scene) and record["encoding"]["crf"] == one.crf)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    return same and place.exists()


def _as_json(scene: SceneConfig) -> Any:
    """A config as it comes back from JSON: tuples are lists."""
    return json.loads(json.dumps(dataclasses.asdict(scene)))


def _write_index(out: Path, planned: list[SyntheticRecording], seed: int) -> None:
    index = {
        "schema": DATASET_SCHEMA,
        "seed": seed,
        "n_subjects": len({one.subject for one in planned}),
        "recordings": [
            {
                "subject": one.subject,
                "session": one.session,
                "video": one.path.as_posix(),
                "crf": one.crf,
                "scene": dataclasses.asdict(one.scene),
            }
            for one in planned
        ],
    }
    neighbour = out / ".tmp-dataset.json"
    neighbour.write_text(json.dumps(index, indent=1, allow_nan=False), encoding="utf-8")
    neighbour.replace(out / "dataset.json")
