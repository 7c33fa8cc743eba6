"""Datasets of synthetic recordings: people, drawn or from portraits, recorded under varied conditions.

    OUT/
        dataset.json                        seed and configs of all recordings
        subject_0000/session_0.mp4          a drawn person
        subject_0000/session_0.truth.json   times, pulse wave, rate (video.read_truth)
        portrait_033/session_7_0.mp4        a person from a photograph: the portrait's name, the subject's number

The frames and the truth of a recording follow from (seed, split, subject, session) and the portraits alone: neither the
number of workers nor that of subjects changes them, so a larger set holds the smaller one. (The file does vary: x264 at
its preset medium codes the same frames a little differently from call to call, even on one thread.) A recording is
written beside its place and moved there when whole; a run that was killed goes on where it stopped.

No person is in two splits: every fifth portrait, sorted by name, is for testing, and drawn people differ by split.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, Unpack, get_args

import numpy as np

from autohr.errors import AutoHRError
from autohr.files import read_json_object, write_text
from autohr.lab.synth.face import Identity, random_identity
from autohr.lab.synth.life import HeadMotion, Rhythm
from autohr.lab.synth.limits import check_choice
from autohr.lab.synth.portrait import LEAST_SKIN, PICTURES, load_portraits
from autohr.lab.synth.video import Background, SceneConfig, truth_path, write_scene
from autohr.workers import in_workers

DATASET_SCHEMA = "autohr.synthetic/1"
"""Name and version of the layout of ``dataset.json``."""

Split = Literal["all", "train", "test"]
TEST_EVERY = 5
"""Distance of the portraits that are for testing: every fifth."""
PORTRAIT_SHARE = 0.75
"""Share of the people who are made from portraits, where there are any: real skin and hair teach more than drawn ones,
but there are few of them."""

HR_BPM = (42.0, 175.0)
"""Range of the heart rates (uniform), nearly all of the estimator's 40..180."""
PULSE_DEPTH = (0.006, 0.04)
"""Range of the pulse's depth in linear light (log-uniform). A real face measured here shows 0.022, and its darkest and
coldest neighbours less."""
FACE_PX = (76.0, 180.0)
"""Range of the face's height (log-uniform): from a far webcam to a telephone held near."""
ROOM = (1.4, 2.1)
"""Range of the picture's height, in face heights."""
USUAL_FPS = (25.0, 30.0, 29.97)
OTHER_FPS = (15.0, 20.0, 24.0, 50.0, 60.0)


@dataclass(frozen=True)
class Conditions:
    """Shares of the recordings of a dataset that show what makes a pulse hard to read."""

    usual_fps: float = 0.8
    """Recordings at one of ``USUAL_FPS``; the others are at one of ``OTHER_FPS``."""
    rhythm: float = 0.15
    """Heads that nod, shake or rock in rhythm."""
    talk: float = 0.55
    flicker: float = 0.15
    screen: float = 0.2
    """Faces that are lit by a screen."""


USUAL = Conditions()
HARD = Conditions(usual_fps=0.55, rhythm=0.4, talk=0.7, flicker=0.35, screen=0.3)
"""Conditions for training with more of what weights trained on ``USUAL`` read wrongly (docs/log/2026-11.md, "first
weights")."""


@dataclass(frozen=True)
class Encoding:
    """Settings of the encoder for one recording; see ``write_video``."""

    codec: str
    crf: int
    preset: str
    gop: int | None

    @property
    def suffix(self) -> str:
        """Ending of the file's name."""
        return {"libvpx-vp9": ".webm", "mjpeg": ".mkv"}.get(self.codec, ".mp4")


CODECS: tuple[tuple[str, float, tuple[int, int]], ...] = (
    ("libx264", 0.78, (4, 24)),
    ("libx265", 0.05, (8, 22)),
    ("libvpx-vp9", 0.05, (12, 32)),
    ("mjpeg", 0.12, (6, 36)),
)
"""Codec, share, range of crf (uniform). The upper ends are what the web does to a video, and take half of the pulses
away: a network must know what is left of them. The quantiser of mjpeg is a sixth of its ``crf``."""


@dataclass(frozen=True)
class SyntheticRecording:
    """Place and config of one recording."""

    subject: str
    session: str
    scene: SceneConfig
    encoding: Encoding

    @property
    def path(self) -> Path:
        """Path of the video, relative to the dataset."""
        return Path(self.subject) / f"{self.session}{self.encoding.suffix}"


@dataclass(frozen=True)
class Written:
    """Result of ``write_recordings``."""

    out: Path
    recordings: tuple[SyntheticRecording, ...]
    n_made: int
    """Number of recordings made now; the others were there already."""


class PlanOptions(TypedDict, total=False):
    """Arguments of ``plan_recordings``."""

    n_subjects: Required[int]
    per_subject: int
    seed: int
    duration_s: float
    portraits: Path | None
    split: Split
    conditions: Conditions


def plan_recordings(
    *,
    n_subjects: int,
    per_subject: int = 2,
    seed: int = 0,
    duration_s: float = 20.0,
    portraits: Path | None = None,
    split: Split = "all",
    conditions: Conditions = USUAL,
) -> list[SyntheticRecording]:
    """Plan the recordings of a dataset; no frame is drawn yet.

    A person has a face, a skin tone (drawn people: uniform from fair to dark) and a depth of pulse that varies little;
    each recording has its own rate, steady or slowly changing, movement, light, camera and encoding.

    Parameters
    ----------
    portraits
        Folder of photographs with landmarks (``portrait.py``); None draws everybody. Several subjects may be made of
        one portrait; they share one folder, and so one place in any split by folder.
    split
        People to take; "all" makes no difference between training and testing.

    Raises
    ------
    ValueError
        A count is below 1, or ``SceneConfig`` refuses the duration.
    BadRecording
        The portraits cannot be used.
    """
    _check_count("n_subjects", n_subjects)
    _check_count("per_subject", per_subject)
    check_choice("split", split, Split)
    pictures = _of_split(usable_portraits(portraits), split) if portraits is not None else []
    planned = []
    for subject in range(n_subjects):
        rng = np.random.default_rng([seed, get_args(Split).index(split), subject])
        identity = random_identity(rng)
        depth = float(np.exp(rng.uniform(*np.log(PULSE_DEPTH))))
        folder, prefix, picture = f"subject_{subject:04d}", "session_", None
        if pictures and rng.uniform() < PORTRAIT_SHARE:
            turn, place = divmod(subject, len(pictures))
            order = np.random.default_rng([seed, turn]).permutation(len(pictures))
            picture = pictures[int(order[place])]
            folder, prefix = f"portrait_{picture.path.stem}", f"session_{subject}_"
        for session in range(per_subject):
            rng = np.random.default_rng([seed, get_args(Split).index(split), subject, 1 + session])
            scene = _scene(rng, identity, picture, depth, duration_s, conditions)
            planned.append(SyntheticRecording(folder, f"{prefix}{session}", scene, _encoding(rng)))
    return planned


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be 1 or more.")


@dataclass(frozen=True)
class Picture:
    """A photograph of which recordings can be made."""

    path: Path
    cut_out: bool
    """True where the person can be told from the background."""


@functools.lru_cache(maxsize=2)
def usable_portraits(folder: Path) -> tuple[Picture, ...]:
    """Return the pictures of a folder with landmarks and enough bare skin, sorted by name; takes 0.5 s for each."""
    portraits = load_portraits(folder)
    paths = {path.stem: path.resolve() for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
    return tuple(Picture(paths[one.name], one.cut_out) for one in portraits if one.skin_share >= LEAST_SKIN)


def _of_split(pictures: Sequence[Picture], split: Split) -> list[Picture]:
    if split == "all":
        return list(pictures)
    return [one for place, one in enumerate(pictures) if (place % TEST_EVERY == TEST_EVERY - 1) == (split == "test")]


def _scene(
    rng: np.random.Generator,
    identity: Identity,
    picture: Picture | None,
    depth: float,
    duration_s: float,
    conditions: Conditions,
) -> SceneConfig:
    """Draw the conditions of one recording of a person."""

    def sometimes(share: float, low: float, high: float) -> float:
        drawn, value = rng.uniform() < share, float(rng.uniform(low, high))
        return value if drawn else 0.0

    # Cameras with a drifting clock have rates like 23.85; a tenth of them here.
    fps = float(rng.choice(USUAL_FPS) if rng.uniform() < conditions.usual_fps else rng.choice(OTHER_FPS))
    if rng.uniform() < 0.1:
        fps = round(fps * float(rng.uniform(0.94, 1.0)), 2)
    start_bpm = float(rng.uniform(*HR_BPM))
    # A heart that calms down or speeds up by a third of a beat per minute and second at most.
    slope_bpm = sometimes(0.5, -1, 1) * min(20.0, duration_s / 3)
    end_bpm = float(np.clip(start_bpm + slope_bpm, *HR_BPM))
    face_px = float(np.exp(rng.uniform(*np.log(FACE_PX))))
    height = 2 * round(face_px * rng.uniform(*ROOM) / 2)
    width = 2 * round(height * float(rng.choice((1.0, 4 / 3))) / 2)
    flicker_depth = sometimes(conditions.flicker, 0.001, 0.01)
    rhythm_amplitude = sometimes(conditions.rhythm, 0.004, 0.03)
    rhythms: tuple[Rhythm, ...] = ("nod", "shake", "rock")
    head = HeadMotion(
        # Mostly people who sit and look at a screen; some who are restless. Half of them talk.
        sway=round(float(rng.beta(1.2, 2.5)) * 1.4, 3),
        turn_deg=round(float(rng.beta(1.2, 2.0)) * 9, 2),
        talk=round(sometimes(conditions.talk, 0.2, 1.2), 3),
        expression=round(float(rng.uniform(0, 1)), 3),
        blinks_per_min=round(float(rng.uniform(3, 35)), 1),
        rhythm=rhythms[int(rng.integers(len(rhythms)))],
        rhythm_hz=round(float(rng.uniform(0.3, 3.0)), 3) if rhythm_amplitude else 0.0,
        rhythm_amplitude=round(rhythm_amplitude, 4),
    )
    cut_out = bool(rng.uniform() < 0.4)
    backgrounds: tuple[Background, ...] = ("plain", "room", "clutter")
    return SceneConfig(
        seed=int(rng.integers(2**31)),
        duration_s=duration_s,
        width=width,
        height=height,
        fps=fps,
        identity=identity,
        portrait=None if picture is None else str(picture.path),
        cut_out=picture is not None and picture.cut_out and cut_out,
        face_px=round(face_px, 2),
        hr_bpm=(round(start_bpm, 2), round(end_bpm, 2)),
        hrv=round(float(rng.uniform(0.01, 0.06)), 4),
        resp_bpm=round(float(rng.uniform(10, 22)), 2),
        pulse_depth=round(float(np.clip(depth * np.exp(rng.normal(0, 0.25)), *PULSE_DEPTH)), 5),
        head=head,
        exposure=round(float(rng.uniform(0.6, 1.15)), 3),
        light_drift=round(float(rng.uniform(0.0, 0.06)), 4),
        flicker_hz=round(float(rng.uniform(0.5, 4.0)), 3) if flicker_depth else 0.0,
        flicker_depth=round(flicker_depth, 5),
        screen_depth=round(sometimes(conditions.screen, 0.005, 0.05), 4),
        room_light=round(float(rng.uniform(0.2, 1.0)), 3),
        auto_exposure=round(sometimes(0.3, 0.2, 0.9), 3),
        gamma=round(float(rng.uniform(1.7, 2.5)), 3),
        # Noise under a quarter of a grey level would let 8 bits swallow the pulse; cameras have more.
        noise_sd=round(float(rng.uniform(0.5, 3.0)), 3),
        background=backgrounds[int(rng.choice(3, p=(0.2, 0.6, 0.2)))],
        background_motion=round(sometimes(0.3, 0.1, 1.0), 3),
        jitter_s=round(sometimes(0.15, 0.05, 0.25) / fps, 6),
        drop_share=round(sometimes(0.1, 0.005, 0.03), 4),
    )


def _encoding(rng: np.random.Generator) -> Encoding:
    share = np.array([codec[1] for codec in CODECS])
    codec, _, (low, high) = CODECS[int(rng.choice(len(CODECS), p=share / share.sum()))]
    # Phones code a key frame every second or half, the web every two to eight.
    gop = int(rng.choice((15, 25, 30, 60, 120))) if rng.uniform() < 0.6 else None
    return Encoding(codec, int(rng.integers(low, high + 1)), str(rng.choice(("veryfast", "medium"))), gop)


def write_recordings(
    out: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int, SyntheticRecording], None] | None = None,
    **options: Unpack[PlanOptions],
) -> Written:
    """Make a dataset of ``n_subjects * per_subject`` recordings in ``out``; recordings that are there are kept.

    Parameters
    ----------
    workers
        Number of processes; None is one for each processor, 1 works in this process. The frames are the same.
    progress
        Called with (done, total, recording) after each recording.
    **options
        Arguments of ``plan_recordings``.

    Raises
    ------
    ValueError
        As ``plan_recordings``, or workers is below 1.
    VideoError
        The encoder failed.
    AutoHRError
        ``out`` cannot be written, or a worker was killed; whole recordings stay.
    """
    out = Path(out)
    planned = plan_recordings(**options)
    workers = workers if workers is not None else os.cpu_count() or 1
    _check_count("workers", workers)
    try:
        out.mkdir(parents=True, exist_ok=True)
        is_made = [_is_made(out, one) for one in planned]
        to_make = [one for one, there in zip(planned, is_made, strict=True) if not there]
        made_now = (one for one, _ in in_workers(functools.partial(_make, out), to_make, workers))
        for n_done, one in enumerate(itertools.chain(itertools.compress(planned, is_made), made_now), start=1):
            if progress is not None:
                progress(n_done, len(planned), one)
        _write_index(out, planned, options.get("seed", 0))
    except OSError as error:
        raise AutoHRError(
            f"Recordings cannot be written to {str(out)!r}: {error.strerror or error}. "
            "Make room or choose another folder, and run again; whole recordings are kept."
        ) from error
    return Written(out, tuple(planned), len(to_make))


def _make(out: Path, one: SyntheticRecording) -> None:
    place = out / one.path
    staging_dir = place.parent / f".tmp-{one.session}"
    staging_dir.mkdir(parents=True, exist_ok=True)
    video = staging_dir / place.name
    write_scene(one.scene, video, **dataclasses.asdict(one.encoding))
    # The truth goes last: a recording is whole when it is there. An outdated one must not vouch for the new video.
    truth_path(place).unlink(missing_ok=True)
    video.replace(place)
    truth_path(video).replace(truth_path(place))
    staging_dir.rmdir()


def _is_made(out: Path, one: SyntheticRecording) -> bool:
    """Return True where the recording is there whole, and made from just this config."""
    place = out / one.path
    try:
        record = read_json_object(truth_path(place))
        kept = {name: record["encoding"][name] for name in dataclasses.asdict(one.encoding)}
        same = _comparable(record["config"]) == _comparable(one.scene) and kept == dataclasses.asdict(one.encoding)
    except (AutoHRError, ValueError, KeyError, TypeError):
        return False
    return same and place.exists()


def _comparable(scene: SceneConfig | dict[str, Any]) -> dict[str, Any]:
    """Return a config as it comes back from JSON, with tuples as lists, and without the folder of the portrait."""
    fields = dataclasses.asdict(scene) if isinstance(scene, SceneConfig) else scene
    portrait = fields["portrait"]
    plain: dict[str, Any] = json.loads(json.dumps({**fields, "portrait": portrait and Path(portrait).name}))
    return plain


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
                "encoding": dataclasses.asdict(one.encoding),
                "scene": dataclasses.asdict(one.scene),
            }
            for one in planned
        ],
    }
    write_text(out / "dataset.json", json.dumps(index, indent=1, allow_nan=False))
