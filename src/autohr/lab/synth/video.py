"""Bring faces to life, drawn ones and portraits: a known pulse, a moving head, changing light, a noisy camera, a real
encoder.

    SceneConfig -> render -> (frame (H, W, 3) uint8 RGB, t_s) ...        SceneConfig -> truth -> SceneTruth

What a pixel of skin sends to the camera is

    light(t) * (albedo * (1 - depth * pulse(t) * blood * ratio) + specular)

in linear light, where ``depth`` is of green and ``ratio`` the share of it that red, green and blue get. The camera then
applies a power law, adds noise and rounds to 8 bits, in this order, so that a pulse far below one grey level
survives on average, as it does in a real camera.

Because the curve is a pure power, light is a factor after it as well, and a change of a few percent before it is
the same change divided by gamma after it. So everything is drawn once as the camera shows it; a frame costs one
weighted sum of pictures (the pulse), one warp with its change of light (``synth/warp.py``), and one pass of noise.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording, VideoError
from autohr.lab.synth.face import DISPLAY_GAMMA, FaceTexture, Identity, Illumination, Image, draw_face, random_identity
from autohr.lab.synth.life import HeadMotion, HeadPose, move_head, wander
from autohr.lab.synth.portrait import Portrait, load_portraits, portrait_texture
from autohr.lab.synth.strata import Facts, skin_luminance, strata
from autohr.lab.synth.warp import Rig, full_size, lid_outlines, make_rig, mouth_opening, pose_mesh, sampling
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse
from autohr.types import Float, Frame
from autohr.video.encode import write_video

SceneKind = Literal["face", "photo", "wall"]
Background = Literal["plain", "room", "clutter"]

T = TypeVar("T")

TRUTH_SCHEMA = "autohr.truth/1"
PULSE_FS = 240.0
"""Samples per second at which the pulse is simulated before it is read at the frames' times."""
NOISE_PLANES, NOISE_SHIFT_PX = 4, 64
"""Camera noise is cut from this many pictures of noise, each time at another place up to this far away and with a
random sign: 32 thousand different ones, drawn independently for every frame and channel. Fresh noise took 5 ms for
one channel of 640x480 where this takes 0.1 ms."""


@dataclass(frozen=True)
class SceneConfig:
    """One video, completely: the same config gives the same frames."""

    seed: int = 0
    duration_s: float = 10.0
    width: int = 640
    height: int = 480
    fps: float = 30.0
    kind: SceneKind = "face"
    """face: people. photo: a printed photograph of one, without pulse. wall: nobody."""
    n_faces: int = 1
    identity: Identity | None = None
    """Of the first face; None draws one by the seed, as for the others."""
    portrait: str | None = None
    """Path of a photograph that the first face is made from instead (``synth/portrait.py``)."""
    cut_out: bool = False
    """Whether the person of the portrait is cut out and put before ``background``; else his own stays behind him."""
    face_px: float | None = None
    """Height of the faces, hairline to chin; None is 0.4 of the frame's height, less where several share the width."""
    hr_bpm: float | tuple[float, float] = 72.0
    """Of the first face: one rate, or a straight ramp (at the start, at the end)."""
    other_hr_bpm: tuple[float, ...] = ()
    """Of the other faces; where it is too short, rates are drawn by the seed."""
    hrv: float = 0.03
    """Spread of the rate relative to itself (see simulate_pulse); 0 is a metronome."""
    resp_bpm: float = 15.0
    pulse_depth: float = 0.01
    """Peak to peak of the relative change of green linear light, averaged over the bare skin of the face. Real faces:
    0.003 to 0.02. 0 is no pulse at all, and then the truth knows no heart rate either."""
    head: HeadMotion = field(default_factory=HeadMotion)
    """How the heads move, talk and blink."""
    light: Illumination | None = None
    """Where the light comes from; None draws it by the seed."""
    exposure: float = 1.0
    """Brightness of the picture in linear light, relative to a well-set camera."""
    light_drift: float = 0.03
    """Standard deviation of slow changes of the light (below 0.1 Hz), relative; a third of it also drifts in colour."""
    flicker_hz: float = 0.0
    flicker_depth: float = 0.0
    """Peak to peak of a sine in the light, relative; the frequency may lie in the heart band."""
    flicker_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How much of the flicker each channel gets."""
    screen_depth: float = 0.0
    """Standard deviation of light that jumps in strength and colour every second or so, as from a screen."""
    room_light: float = 1.0
    """Share of all these changes that the background gets: a screen lights the face alone."""
    auto_exposure: float = 0.0
    """How much of slow changes the camera takes back, 0..1, in steps and half a second late."""
    gamma: float = DISPLAY_GAMMA
    """Of the camera's curve."""
    noise_sd: float = 1.0
    """Standard deviation of camera noise, of 255. One number for bright and dark: under a power law near 1/2,
    shot noise is equally large everywhere, and read noise only adds to it in the dark."""
    background: Background = "room"
    background_motion: float = 0.0
    """How much the background changes by itself, 0..1: passers-by, a television."""
    jitter_s: float = 0.0
    """Standard deviation of the time between the true moments of exposure and a steady clock; at most 0.4 frames."""
    drop_share: float = 0.0
    """Share of frames that the camera lost."""

    def __post_init__(self) -> None:
        for name, allowed in (("kind", get_args(SceneKind)), ("background", get_args(Background))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low <= value <= high):
                raise ValueError(f"{name}={value!r} is outside {low:g}..{high:g}.")
        if self.width % 2 or self.height % 2:
            raise ValueError(f"{self.width}x{self.height} is odd; video needs an even width and height.")
        if round(self.duration_s * self.fps) < 2:
            raise ValueError(f"duration_s={self.duration_s} at fps={self.fps} is less than two frames.")
        ramp = self.hr_bpm if isinstance(self.hr_bpm, tuple) else (self.hr_bpm,)
        if len(ramp) not in (1, 2):
            raise ValueError(f"hr_bpm={self.hr_bpm} must be one rate, or two: at the start and at the end.")
        for rate_bpm in (*ramp, *self.other_hr_bpm):
            if not 20 <= rate_bpm <= 300:
                raise ValueError(f"A heart rate of {rate_bpm} bpm is outside 20..300.")
        if len(self.flicker_rgb) != 3 or not all(0 <= share <= 1 for share in self.flicker_rgb):
            raise ValueError(f"flicker_rgb={self.flicker_rgb} must be three numbers in 0..1.")
        if self.flicker_depth and not self.flicker_hz:
            raise ValueError(f"flicker_depth={self.flicker_depth} needs a flicker_hz above 0.")
        if self.cut_out and self.portrait is None:
            raise ValueError("cut_out=True needs a portrait: a drawn face has no background to be cut from.")
        if self.kind == "photo" and self.pulse_depth:
            raise ValueError(f"A photograph has no pulse: set pulse_depth=0 (it is {self.pulse_depth}).")
        room_px = min(0.75 * self.height, self.width / self.n_faces)
        where = f"{self.n_faces} face(s) in {self.width}x{self.height}"
        if self.face_px is not None and not 16 <= self.face_px <= room_px:
            raise ValueError(f"face_px={self.face_px} does not fit: {where} may be 16 to {room_px:.0f} pixels high.")
        if self.kind != "wall" and self.height_of_faces < 16:
            raise ValueError(f"{where} would be too small: a face needs 16 pixels; make the frame larger.")

    @property
    def height_of_faces(self) -> float:
        """Pixels from hairline to chin."""
        if self.face_px is not None:
            return float(self.face_px)
        return min(0.40 * self.height, 0.55 * self.width / self.n_faces)


_LIMITS = (
    *(("seed", 0, 2**63 - 1), ("duration_s", 0.05, 3600), ("width", 32, 7680), ("height", 32, 4320), ("fps", 1, 1000)),
    *(("n_faces", 1, 8), ("hrv", 0, 0.3), ("resp_bpm", 2, 60), ("pulse_depth", 0, 0.2)),
    *(("exposure", 0.01, 4), ("light_drift", 0, 0.3), ("flicker_hz", 0, 200), ("flicker_depth", 0, 0.5)),
    *(("screen_depth", 0, 0.3), ("room_light", 0, 1), ("auto_exposure", 0, 1), ("gamma", 1, 3), ("noise_sd", 0, 30)),
    *(("background_motion", 0, 1),),
    *(("jitter_s", 0, 1), ("drop_share", 0, 0.9)),
)


@dataclass(frozen=True)
class SceneTruth:
    """What is known of one face of a scene. T is the number of frames.

    Without a pulse (a photograph, ``pulse_depth=0``, a wall) there are no beats, ``bvp`` is 0, ``hr_bpm`` NaN and
    ``mean_hr_bpm`` None.
    """

    t_s: Float
    """(T,) when each frame was taken; starts at 0."""
    bvp: Float
    """(T,) as simulate_pulse gives it: positive means more blood, so green is darker."""
    hr_bpm: Float
    """(T,) instantaneous rate."""
    mean_hr_bpm: float | None
    """Beats passed over the duration."""
    beats_s: Float
    """Times of the systolic peaks."""
    box_xywh: Float
    """(T, 4) the outline of the face in pixels: left, top, width, height; NaN without a face."""


def decoys(duration_s: float = 10.0, seed: int = 0) -> dict[str, SceneConfig]:
    """Scenes without a pulse, which no honest meter may call reliable. By name, so that tests can loop over them."""
    base = SceneConfig(duration_s=duration_s, seed=seed, pulse_depth=0.0)
    statue = HeadMotion(0, 0, 0, 0, 0)

    def photo(**changes: Any) -> SceneConfig:
        return dataclasses.replace(base, **{"kind": "photo", "head": statue, **changes})

    return {
        "still_photo": photo(light_drift=0.0),
        "moving_photo": photo(head=HeadMotion(sway=1.0)),
        "nodding_photo": photo(head=HeadMotion(sway=0.3, rhythm_hz=1.1, rhythm_amplitude=0.03)),
        "flickering_photo": photo(flicker_hz=1.2, flicker_depth=0.02),
        "still_face": dataclasses.replace(base, head=statue),
        "moving_face": dataclasses.replace(base, head=HeadMotion(sway=1.0, turn_deg=5.0)),
        "talking_face": dataclasses.replace(base, head=HeadMotion(sway=0.5, talk=1.0)),
        "flickering_face": dataclasses.replace(base, head=HeadMotion(sway=0.2), flicker_hz=1.3, flicker_depth=0.02),
        "wall": dataclasses.replace(base, kind="wall"),
    }


def truth(config: SceneConfig, face: int = 0) -> SceneTruth:
    """What is known of face number ``face`` of the scene, counted from the left; the face is drawn, no frame is."""
    times_s = _clock(config)
    if config.kind == "wall":
        return _no_pulse(times_s)
    if not 0 <= face < config.n_faces:
        raise ValueError(f"face={face} is outside 0..{config.n_faces - 1}: this scene has {config.n_faces} face(s).")
    return _live(config, times_s, face)[0].truth


def render(config: SceneConfig) -> Iterator[tuple[Frame, float]]:
    """The frames of a scene with their times, one after the other; only one is held in memory."""
    times_s = _clock(config)
    yield from _render(config, times_s, _cast(config, times_s))


def write_scene(
    config: SceneConfig,
    path: Path,
    *,
    codec: str = "libx264",
    crf: int = 18,
    pix_fmt: str = "yuv420p",
    preset: str = "veryfast",
    gop: int | None = None,
) -> SceneTruth:
    """Encode a scene into ``path`` and write ``<name>.truth.json`` beside it; returns the truth of the first face.

    ``gop`` is the number of frames from one key frame to the next (None: the encoder's choice): a picture that is drawn
    anew once a second flickers at 60 bpm, which cameras and phones do.

    A scene with jitter or lost frames is written with its true time stamps, any other at the steady ``fps``.

    Raises:
        VideoError: the encoder refused the codec, the container or the path.
    """
    path = Path(path)
    times_s = _clock(config)
    actors = _cast(config, times_s)
    truths = [actor.life.truth for actor in actors] or [_no_pulse(times_s)]
    skin: list[float] = []

    def shown() -> Iterator[Frame]:
        for frame, _ in _render(config, times_s, actors):
            if actors and not skin:
                skin.append(skin_luminance(frame, truths[0].box_xywh[0], config.gamma, config.exposure))
            yield frame

    frames = shown()
    if config.jitter_s or config.drop_share:
        write_video(path, frames, t_s=times_s, codec=codec, crf=crf, pix_fmt=pix_fmt, preset=preset, gop=gop)
    else:
        write_video(path, frames, fps=config.fps, codec=codec, crf=crf, pix_fmt=pix_fmt, preset=preset, gop=gop)
    record = {
        "schema": TRUTH_SCHEMA,
        "video": path.name,
        "config": dataclasses.asdict(config),
        "encoding": {"codec": codec, "crf": crf, "pix_fmt": pix_fmt, "preset": preset, "gop": gop},
        "skin_luminance": round(skin[0], 4) if skin and math.isfinite(skin[0]) else None,
        "t_s": _listed(times_s, 6),
        "faces": [
            {
                "mean_hr_bpm": one.mean_hr_bpm,
                "hr_bpm": _listed(one.hr_bpm, 3),
                "bvp": _listed(one.bvp, 5),
                "beats_s": _listed(one.beats_s, 5),
                "box_xywh": [_listed(row, 2) for row in one.box_xywh],
            }
            for one in truths
        ],
    }
    try:
        truth_path(path).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise VideoError(f"{str(truth_path(path))!r} cannot be written: {error.strerror or error}.") from error
    return truths[0]


def truth_path(video_path: Path) -> Path:
    """Where the truth of a video lies: ``clip.mp4`` has ``clip.truth.json``."""
    return Path(video_path).with_suffix(".truth.json")


def read_truth(path: Path) -> list[SceneTruth]:
    """The truths of all faces of a written scene, from its ``.truth.json`` or from the video beside it.

    Raises:
        BadRecording: no such file, or not one that ``write_scene`` made.
    """

    def truths(record: dict[str, Any]) -> list[SceneTruth]:
        t_s = _array(record["t_s"])
        return [
            SceneTruth(
                t_s=t_s,
                bvp=_array(one["bvp"]),
                hr_bpm=_array(one["hr_bpm"]),
                mean_hr_bpm=one["mean_hr_bpm"],
                beats_s=_array(one["beats_s"]),
                box_xywh=np.array([_array(row) for row in one["box_xywh"]]).reshape(len(t_s), 4),
            )
            for one in record["faces"]
        ]

    return _told(path, truths)


def read_strata(path: Path) -> dict[str, str]:
    """The groups that a written scene belongs to (``synth.strata``), from its video with the truth beside it.

    Raises:
        BadRecording: as ``read_truth``; or there is no video.
    """
    try:
        file_bytes = Path(path).stat().st_size
    except OSError as error:
        raise BadRecording(f"Cannot read {str(path)!r}: {error.strerror}.") from None

    def told(record: dict[str, Any]) -> dict[str, str]:
        scene, faces = record["config"], record["faces"]
        bits_per_pixel = 8 * file_bytes / (scene["width"] * scene["height"] * len(record["t_s"]))
        hr_bpm = faces[0]["mean_hr_bpm"] if faces else None
        # Recordings of before 22 November 2026 do not say how light the skin is.
        return strata(Facts(scene, record["encoding"], bits_per_pixel, hr_bpm, record.get("skin_luminance")))

    return _told(path, told)


def _told(path: Path, of: Callable[[dict[str, Any]], T]) -> T:
    """What ``of`` reads from the record beside a video, or in a file; whatever is wrong in it is a BadRecording."""
    path = Path(path)
    if path.suffix != ".json":
        path = truth_path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != TRUTH_SCHEMA:
            raise BadRecording(f"{path}: schema {record['schema']!r} is not {TRUTH_SCHEMA!r}; write the scene again.")
        return of(record)
    except FileNotFoundError:
        raise BadRecording(f"{path} does not exist; write_scene puts it beside the video.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadRecording(f"{path} is not the truth of a scene ({error!r}); write the scene again.") from None


def _listed(values: Float, digits: int) -> list[float | None]:
    """Numbers for strict JSON, which has no NaN."""
    return [round(float(v), digits) if math.isfinite(v) else None for v in values]


def _array(values: list[float | None]) -> Float:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# What happens: clock, pulse, motion, light


def _rng(config: SceneConfig, *purpose: int) -> np.random.Generator:
    """One generator for each purpose, so that a change of one thing does not move the others."""
    return np.random.default_rng([config.seed, *purpose])


_FOR_CLOCK, _FOR_IDENTITY, _FOR_PULSE, _FOR_MOTION, _FOR_LIGHT, _FOR_ROOM, _FOR_NOISE = range(7)


def _clock(config: SceneConfig) -> Float:
    """(T,) when the frames are taken, in seconds."""
    rng = _rng(config, _FOR_CLOCK)
    n_frames = round(config.duration_s * config.fps)
    late = np.clip(rng.normal(0, 1, n_frames) * config.jitter_s * config.fps, -0.4, 0.4)
    times_s = (np.arange(n_frames) + late) / config.fps
    kept = rng.uniform(size=n_frames) >= config.drop_share
    # A video needs two frames; the first one is time 0.
    kept[[0, -1]] = True
    return np.asarray((times_s - times_s[0])[kept])


BODY_SHARE = 0.6
"""How much of the head's sway the body joins in; the rest is the neck."""


def _body(config: SceneConfig, pose: HeadPose, number: int, centre_xy: tuple[float, float]) -> Float:
    """(T, 2, 3) from texture pixels to frame pixels: where the body stands, and its part of the head's movement."""
    share = 1.0 if config.kind == "photo" else BODY_SHARE
    size = config.height_of_faces
    # Heads are kept in the picture: a person who leaves it is another scene.
    edge = 0.5 * size
    middle_x, middle_y = config.width * (number + 0.5) / config.n_faces, config.height * 0.47
    x = np.clip(middle_x + size * share * pose.x, min(edge, middle_x), max(config.width - edge, middle_x))
    y = np.clip(middle_y + size * share * pose.y, min(edge, middle_y), max(config.height - edge, middle_y))
    scale, roll_rad = pose.scale**share, share * pose.roll_rad
    cos, sin = scale * np.cos(roll_rad), scale * np.sin(roll_rad)
    cx, cy = centre_xy
    rows = (
        np.stack([cos, -sin, x - cos * cx + sin * cy], axis=1),
        np.stack([sin, cos, y - sin * cx - cos * cy], axis=1),
    )
    return np.stack(rows, axis=1)


def _neck(pose: HeadPose) -> HeadPose:
    """What the head does beyond its body."""
    rest = 1 - BODY_SHARE
    return dataclasses.replace(
        pose, x=rest * pose.x, y=rest * pose.y, scale=pose.scale**rest, roll_rad=rest * pose.roll_rad
    )


def _lamps(config: SceneConfig, t_s: Float) -> tuple[Float, Float]:
    """(T, 3) light on the faces and on the background in red, green and blue, 1 on average."""
    rng = _rng(config, _FOR_LIGHT)
    drift = config.light_drift * wander(rng, t_s, 0.01, 0.1)
    hue = np.stack([wander(rng, t_s, 0.01, 0.06) for _ in range(3)], axis=1)
    sine = 0.5 * config.flicker_depth * np.sin(2 * np.pi * (config.flicker_hz * t_s + rng.uniform()))
    light = (1 + drift)[:, None] * (1 + config.light_drift / 3 * hue)
    light *= 1 + sine[:, None] * np.array(config.flicker_rgb)
    light *= 1 + config.screen_depth * _screen(t_s, _rng(config, _FOR_LIGHT, 2))
    light = np.clip(light, 0.05, None)
    room = 1 + config.room_light * (light - 1)
    gain = _gain(config, t_s, light.mean(axis=1))[:, None] * config.exposure
    return light * gain, room * gain


def _screen(t_s: Float, rng: np.random.Generator) -> Float:
    """(T, 3) of unit variance: steps of strength and colour, 0.3 to 3 s long, each a fade of a tenth of a second."""
    out = np.zeros((len(t_s), 3))
    level, now_s = rng.normal(0, 0.8, 1) + rng.normal(0, 0.6, 3), 0.0
    out += level
    while now_s < t_s[-1]:
        now_s += float(rng.uniform(0.3, 3.0))
        after = rng.normal(0, 0.8, 1) + rng.normal(0, 0.6, 3)
        out += np.clip((t_s - now_s) / 0.1, 0, 1)[:, None] * (after - level)
        level = after
    return out


def _gain(config: SceneConfig, t_s: Float, brightness: Float) -> Float:
    """(T,) what an automatic exposure makes of ``brightness``: it follows half a second late and in steps of 1 %."""
    if not config.auto_exposure:
        return np.ones(len(t_s))
    seen, late = np.empty(len(t_s)), float(brightness[0])
    for i, now in enumerate(brightness):
        step_s = t_s[i] - t_s[i - 1] if i else 0.0
        late += (float(now) - late) * (1 - math.exp(-step_s / 0.5))
        seen[i] = late
    steps = np.round(np.log(seen) * config.auto_exposure / 0.01) * 0.01
    # A step is spread over a few frames, as cameras do.
    smooth = np.convolve(np.pad(steps, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    return np.exp(-smooth)


def _no_pulse(t_s: Float, box_xywh: Float | None = None) -> SceneTruth:
    nowhere = np.full((len(t_s), 4), np.nan)
    return SceneTruth(
        t_s=t_s,
        bvp=np.zeros(len(t_s)),
        hr_bpm=np.full(len(t_s), np.nan),
        mean_hr_bpm=None,
        beats_s=np.zeros(0),
        box_xywh=nowhere if box_xywh is None else box_xywh,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The cast: each face as pictures that only need to be added and warped


@dataclass(frozen=True)
class _Actor:
    """One face, ready to be rendered. Pictures are display values 0..255, premultiplied by alpha."""

    still: Image
    """(H, W, 4) red, green, blue, alpha of the face at rest."""
    window: tuple[slice, slice]
    """The rows and columns of ``still`` that the pulse changes."""
    modes: Image
    """(2, h, w, 4) pictures that are added within ``window``, each by its weight: blood, and its delayed part."""
    weights: NDArray[np.float32]
    """(T, 2) those weights."""
    gloss: Image
    """(H, W) what a unit of mirrored light adds to the display."""
    rig: Rig | None
    """None: a rigid sheet."""
    lid_rgb: NDArray[np.float32]
    """(2, 3) colour of the upper lids."""
    border: int
    """What lies beyond the texture, as OpenCV names it."""
    gamma: float
    reach: tuple[float, float, float]
    """How far the texture goes from its centre, in its pixels: sideways, upwards, downwards (inf = to the edge)."""
    life: _Life


@dataclass(frozen=True)
class _Life:
    """What one face does during the scene; nothing of it is rendered yet."""

    texture: FaceTexture
    pose: HeadPose
    """Of the head on its body."""
    matrices: Float
    """(T, 2, 3) from pixels of the texture to pixels of the frame, of the body."""
    change: Float
    """(T,) relative loss of green by the pulse, peak to peak ``pulse_depth``."""
    slope: Float
    """(T,) of ``change``, per second."""
    truth: SceneTruth


def _cast(config: SceneConfig, t_s: Float) -> list[_Actor]:
    if config.kind == "wall":
        return []
    return [_actor(config, t_s, number) for number in range(config.n_faces)]


def _actor(config: SceneConfig, t_s: Float, number: int) -> _Actor:
    life, rig = _live(config, t_s, number)
    texture = life.texture
    if config.kind == "photo":
        still, window, modes = _printed(texture, config.gamma)
        weights = np.zeros((len(t_s), 0), np.float32)
        gloss, border, down = np.zeros(still.shape[:2], np.float32), cv2.BORDER_CONSTANT, still.shape[0]
    else:
        # Which colours blood takes away differs with skin and camera; green, which defines the depth, is held.
        ratio = np.array(CHANNEL_RATIO) / CHANNEL_RATIO[1] * _rng(config, _FOR_PULSE, number, 1).normal(1, 0.08, 3)
        ratio[1] = 1.0
        still, window, modes, gloss = _living(texture, ratio, config.gamma)
        weights = np.stack([-life.change, life.slope], axis=1).astype(np.float32)
        border, down = cv2.BORDER_REPLICATE, math.inf
    cx, cy = texture.centre_xy
    reach = (max(cx, still.shape[1] - cx), cy, down)
    if float(texture.alpha.min()) == 1.0:
        reach, border = (math.inf, math.inf, math.inf), cv2.BORDER_REFLECT_101
    return _Actor(
        still, window, modes, weights, gloss, rig, _lid_colours(still, texture), border, config.gamma, reach, life
    )


def _live(config: SceneConfig, t_s: Float, number: int) -> tuple[_Life, Rig | None]:
    texture = _texture(config, number)
    pose = move_head(config.head, t_s, _rng(config, _FOR_MOTION, number))
    matrices = _body(config, pose, number, texture.centre_xy)
    rig = None if config.kind == "photo" else make_rig(texture)
    pose = _neck(pose)
    boxes = np.empty((len(t_s), 4))
    for first in range(0, len(t_s), 256):
        part = slice(first, first + 256)
        points = texture.landmarks[None] if rig is None else pose_mesh(rig, pose, part)[:, :468, :2]
        at = points @ matrices[part, :, :2].transpose(0, 2, 1) + matrices[part, None, :, 2]
        low, high = at.min(axis=1), at.max(axis=1)
        boxes[part] = np.concatenate([low, high - low], axis=1)
    known, change, slope = _pulse(config, t_s, number, boxes)
    return _Life(texture, pose, matrices, change, slope, known), rig


@lru_cache(maxsize=4)
def _texture(config: SceneConfig, number: int) -> FaceTexture:
    """Remembered, because the truth of a scene and its frames both begin with it."""
    rng = _rng(config, _FOR_IDENTITY, number)
    if number == 0 and config.portrait is not None:
        return portrait_texture(_portrait(Path(config.portrait)), config.height_of_faces, rng, config.cut_out)
    drawn = random_identity(rng)
    identity = config.identity if number == 0 and config.identity is not None else drawn
    return draw_face(identity, config.height_of_faces, _illumination(config))


def _portrait(path: Path) -> Portrait:
    by_name = _portraits(path.parent)
    if path.stem not in by_name:
        raise BadRecording(f"There is no portrait {path.stem!r} with landmarks in {str(path.parent)!r}.")
    return by_name[path.stem]


@lru_cache(maxsize=2)
def _portraits(folder: Path) -> dict[str, Portrait]:
    return {portrait.name: portrait for portrait in load_portraits(folder)}


def _lid_colours(still: Image, texture: FaceTexture) -> NDArray[np.float32]:
    """(2, 3) of the skin between eye and brow, where it is seen when the eye is open."""
    height, width = still.shape[:2]
    colours = []
    for landmark in (27, 257):
        x, y = np.clip(np.rint(texture.landmarks[landmark]), 1, (width - 2, height - 2)).astype(int)
        colours.append(np.median(still[y - 1 : y + 2, x - 1 : x + 2, :3].reshape(-1, 3), axis=0))
    return np.array(colours, np.float32)


def _illumination(config: SceneConfig) -> Illumination:
    rng = _rng(config, _FOR_LIGHT, 1)
    drawn = Illumination(
        azimuth_deg=float(rng.uniform(-45, 45)),
        elevation_deg=float(rng.uniform(5, 50)),
        ambient=float(rng.uniform(0.4, 0.75)),
    )
    return config.light or drawn


def _pulse(config: SceneConfig, t_s: Float, number: int, box_xywh: Float) -> tuple[SceneTruth, Float, Float]:
    """The truth of one face, and (T,) the relative change of green with its slope per second."""
    if not config.pulse_depth:
        return _no_pulse(t_s, box_xywh), np.zeros(len(t_s)), np.zeros(len(t_s))
    rng = _rng(config, _FOR_PULSE, number)
    rate: float | tuple[float, float] = config.hr_bpm
    if number:
        drawn_bpm = float(rng.uniform(50, 110))
        rate = config.other_hr_bpm[number - 1] if number <= len(config.other_hr_bpm) else drawn_bpm
    duration_s = max(config.duration_s, float(t_s[-1]))
    start_bpm, end_bpm = rate if isinstance(rate, tuple) else (rate, rate)
    pulse = simulate_pulse(
        duration_s,
        PULSE_FS,
        np.linspace(start_bpm, end_bpm, round(duration_s * PULSE_FS)),
        seed=int(rng.integers(2**31)),
        hrv=config.hrv,
        resp_bpm=config.resp_bpm,
    )
    clock_s = np.arange(len(pulse.bvp)) / PULSE_FS
    depth = config.pulse_depth / max(float(np.ptp(pulse.bvp)), 1e-9)
    bvp = np.interp(t_s, clock_s, pulse.bvp)
    slope = np.interp(t_s, clock_s, np.gradient(pulse.bvp) * PULSE_FS)
    known = SceneTruth(
        t_s=t_s,
        bvp=bvp,
        hr_bpm=np.interp(t_s, clock_s, pulse.hr_bpm),
        mean_hr_bpm=pulse.mean_hr_bpm,
        beats_s=pulse.beats_s,
        box_xywh=box_xywh,
    )
    return known, depth * bvp, depth * slope


def _displayed(texture: FaceTexture, gamma: float) -> Image:
    """(H, W, 3) the texture as the camera shows it, 0..255."""
    linear = texture.diffuse + texture.specular[..., None]
    return np.asarray(255 * np.clip(linear, 0, 1) ** (1 / gamma), np.float32)


def _living(texture: FaceTexture, ratio: Float, gamma: float) -> tuple[Image, tuple[slice, slice], Image, Image]:
    """A face as still picture, modes (more blood, later blood) and gloss."""
    shown = _displayed(texture, gamma)
    alpha = texture.alpha
    still = np.dstack([shown * alpha[..., None], alpha]).astype(np.float32)

    # Only that part changes where blood is.
    x, y, w, h = cv2.boundingRect((texture.blood > 0).astype(np.uint8))
    window = (slice(y, y + h), slice(x, x + w))
    diffuse, specular = texture.diffuse[window], texture.specular[window][..., None]
    # A relative change of the diffuse light, as seen after the camera's power law.
    response = shown[window] * alpha[window][..., None] / np.float32(gamma)
    response *= diffuse / np.maximum(diffuse + specular, 1e-6)
    blood = response * texture.blood[window][..., None] * ratio.astype(np.float32)
    # pulse(t - delay) is pulse(t) - delay * slope(t): delays are a tenth of a beat's rise or less.
    later = blood * texture.delay_s[window][..., None]
    none = np.zeros((h, w), np.float32)
    modes = np.stack([np.dstack([mode, none]) for mode in (blood, later)])
    # The lamp's white light, as the green channel shows it: gloss is broad and weak here.
    green = np.maximum(shown[..., 1] / 255, 0.05)
    gloss = texture.shine * alpha * (255 / gamma) * green ** (1 - gamma)
    return still, window, np.ascontiguousarray(modes, np.float32), np.asarray(np.minimum(gloss, 255), np.float32)


def _printed(texture: FaceTexture, gamma: float) -> tuple[Image, tuple[slice, slice], Image]:
    """The same face as a photograph with a white rim, held before the camera."""
    shown = _displayed(texture, gamma)
    height, width = texture.alpha.shape
    sky = np.linspace(200, 140, height, dtype=np.float32)[:, None, None] * np.array((0.80, 0.90, 1.0), np.float32)
    picture = shown * texture.alpha[..., None] + sky * (1 - texture.alpha[..., None])
    still = np.zeros((height, width, 4), np.float32)
    (cx, cy), size, rim = texture.centre_xy, texture.face_px, round(0.04 * texture.face_px) + 1
    left, right = max(rim + 1, round(cx - 0.85 * size)), min(width - rim - 1, round(cx + 0.85 * size))
    top, bottom = max(rim + 1, round(cy - 0.95 * size)), min(height - rim - 1, round(cy + 1.05 * size))
    still[top - rim : bottom + rim, left - rim : right + rim] = (232, 232, 228, 1)
    still[top:bottom, left:right, :3] = 0.92 * picture[top:bottom, left:right] + 8
    return still, (slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0, 4), np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Frames


def _render(config: SceneConfig, t_s: Float, actors: list[_Actor]) -> Iterator[tuple[Frame, float]]:
    rng = _rng(config, _FOR_NOISE)
    # One plane per channel: OpenCV is fastest on single channels, and light is a number per channel.
    room = [np.ascontiguousarray(plane) for plane in _draw_room(config).transpose(2, 0, 1)]
    scenery, moves = _scenery(config, t_s)
    # Light is a factor of display values too, because the curve is a power.
    on_faces, on_room = (light ** (1 / config.gamma) for light in _lamps(config, t_s))
    height, width, shift = config.height, config.width, NOISE_SHIFT_PX
    bank = [rng.standard_normal((height + shift, width + shift), dtype=np.float32) for _ in range(NOISE_PLANES)]
    planes = [np.empty((height, width), np.float32) for _ in range(3)]
    figures = [actor.still.copy() for actor in actors]
    out = [np.empty((height, width), np.uint8) for _ in range(3)]

    for index, time_s in enumerate(t_s):
        for channel, (plane, wall) in enumerate(zip(planes, room, strict=True)):
            np.copyto(plane, wall)
            for picture, move in zip(scenery, moves[index], strict=True):
                cv2.scaleAdd(picture[channel], float(move), plane, dst=plane)
        for actor, figure in zip(actors, figures, strict=True):
            _lay_in(planes, actor, figure, index, on_faces[index] / on_room[index])
        for channel in range(3):
            noise = bank[int(rng.integers(NOISE_PLANES))]
            top, left = rng.integers(shift, size=2)
            sd = config.noise_sd * (1 if rng.integers(2) else -1)
            cv2.addWeighted(
                *(
                    planes[channel],
                    float(on_room[index, channel]),
                    noise[top : top + height, left : left + width],
                    sd,
                    0.0,
                ),
                dst=out[channel],
                dtype=cv2.CV_8U,
            )
        yield np.asarray(cv2.merge(out), np.uint8), float(time_s)


def _scenery(config: SceneConfig, t_s: Float) -> tuple[list[list[Image]], Float]:
    """What happens in the background: pictures as three planes each, and (T, K) how much of each is seen."""
    if not config.background_motion:
        return [], np.zeros((len(t_s), 0))
    rng = _rng(config, _FOR_ROOM, 1)
    pictures = []
    for _ in range(2):
        cells = rng.normal(0, 1, (4, 5, 1)) + rng.normal(0, 0.5, (4, 5, 3))
        soft = cv2.resize(cells.astype(np.float32), (config.width, config.height), interpolation=cv2.INTER_CUBIC)
        pictures.append([np.ascontiguousarray(soft[..., channel], np.float32) for channel in range(3)])
    moves = np.stack([wander(rng, t_s, 0.1, 2.5) for _ in pictures], axis=1)
    return pictures, 25 * config.background_motion * moves


MOUTH_RGB = np.array((62.0, 24.0, 24.0), np.float32)
"""Of an open mouth in shadow, display values."""


def _lay_in(planes: list[Image], actor: _Actor, figure: Image, index: int, light: Float) -> None:
    """Cover the three planes of the frame with one face as it is in frame ``index``, lit by ``light`` (3,)."""
    height, width = planes[0].shape
    # Mode by mode and not as one product of matrices: BLAS would start threads, which wait for each other on a busy
    # machine longer than the work takes (measured there: 14 ms a frame instead of 4).
    changed, base = figure[actor.window], actor.still[actor.window]
    for mode, weight in zip(actor.modes, actor.weights[index], strict=True):
        cv2.scaleAdd(mode, float(weight), base, dst=changed)
        base = changed

    matrix = actor.life.matrices[index]
    left, right, top, bottom = _covered(actor, matrix, width, height)
    if right <= left or bottom <= top:
        return
    moved = matrix.copy()
    moved[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    parts = [plane[top:bottom, left:right] for plane in planes]
    if actor.rig is None:
        sheet = cv2.warpAffine(figure, moved, size, flags=cv2.INTER_LINEAR, borderMode=actor.border)
        _cover(parts, np.asarray(sheet, np.float32), light, None, None)
        return
    points = pose_mesh(actor.rig, actor.life.pose, slice(index, index + 1))[0]
    seen = sampling(actor.rig, points, moved, size)
    map_x, map_y = full_size(seen.source_x, size), full_size(seen.source_y, size)
    warped = np.asarray(cv2.remap(figure, map_x, map_y, cv2.INTER_LINEAR, borderMode=actor.border), np.float32)
    shade = full_size(seen.light ** np.float32(1 / actor.gamma), size)
    gloss = cv2.remap(actor.gloss, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    _draw_lids_and_mouth(warped, actor, points, moved, index)
    _cover(parts, warped, light, shade, np.asarray(gloss * full_size(seen.gloss, size)))


def _covered(actor: _Actor, matrix: Float, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom of the part of the frame where the figure can be."""
    side, up, down = actor.reach
    if math.isinf(side):
        return 0, width, 0, height
    x, y = matrix[:, :2] @ actor.life.texture.centre_xy + matrix[:, 2]
    scale, lean = float(np.hypot(matrix[0, 0], matrix[1, 0])), abs(float(np.arctan2(matrix[1, 0], matrix[0, 0])))
    # A leaning body goes further sideways the lower it is seen; a head may leave its body by a fifth of its height.
    far = height - y if math.isinf(down) else max(up, down) * scale
    sine, loose = math.sin(min(lean, 1.5)), 0.2 * actor.life.texture.face_px + 2
    aside = side * scale + sine * max(far, up * scale) + loose
    left, right = max(0, int(x - aside)), min(width, int(x + aside) + 1)
    top = max(0, int(y - up * scale - side * scale * sine - loose))
    bottom = height if math.isinf(down) else min(height, int(y + down * scale + side * scale * sine + loose))
    return left, right, top, bottom


def _cover(planes: list[Image], warped: Image, light: Float, shade: Image | None, gloss: Image | None) -> None:
    """planes = planes * (1 - alpha) + light * (warped * shade + gloss)"""
    clear = 1 - warped[..., 3]
    for channel, plane in enumerate(planes):
        ink = cv2.extractChannel(warped, channel)
        if shade is not None:
            cv2.multiply(ink, shade, dst=ink)
        if gloss is not None:
            cv2.add(ink, gloss, dst=ink)
        np.multiply(plane, clear, out=plane)
        cv2.scaleAdd(ink, float(light[channel]), plane, dst=plane)


def _draw_lids_and_mouth(warped: Image, actor: _Actor, points: Float, matrix: Float, index: int) -> None:
    """What a warp cannot uncover: the lids of closing eyes, and the dark of a mouth that opens."""
    rig, closed = actor.rig, float(actor.life.pose.lids[index])
    if rig is None:
        return
    if closed > 0.05:
        for outline, rgb in zip(lid_outlines(points, closed), actor.lid_rgb, strict=True):
            _fill(warped, outline @ matrix[:, :2].T + matrix[:, 2], rgb, 1.0)
    outline, opened = mouth_opening(rig, points)
    at_rest = float(np.linalg.norm(rig.rest[14, :2] - rig.rest[13, :2])) / rig.texture.face_px
    if opened > 0.004 and at_rest < 0.03:
        _fill(warped, outline @ matrix[:, :2].T + matrix[:, 2], MOUTH_RGB, min(1.0, opened / 0.015))


def _fill(picture: Image, outline: Float, rgb: NDArray[np.float32], opacity: float) -> None:
    """Fill an outline (K, 2) in pixels of ``picture`` (H, W, 4) with a colour; edges are soft."""
    height, width = picture.shape[:2]
    low = np.floor(np.clip(outline.min(axis=0) - 2, 0, (width, height))).astype(int)
    high = np.ceil(np.clip(outline.max(axis=0) + 3, 0, (width, height))).astype(int)
    if (high - low).min() < 2:
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    share = (mask.astype(np.float32) * np.float32(opacity / 255))[..., None]
    part = picture[low[1] : high[1], low[0] : high[0]]
    part[..., :3] += share * (rgb * part[..., 3:] - part[..., :3])


def _draw_room(config: SceneConfig) -> Image:
    """(H, W, 3) the background as the camera shows it, 0..255."""
    rng = _rng(config, _FOR_ROOM)
    height, width = config.height, config.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width, y / height
    wall = rng.uniform(90, 190) * np.clip(rng.normal(1, 0.07, 3), 0.8, 1.2)
    slope = rng.uniform(-0.25, 0.25, 2)
    glow = 1 + slope[0] * (u - 0.5) + slope[1] * (v - 0.5)
    picture = (wall.astype(np.float32) * glow[..., None]).astype(np.float32)
    if config.background == "room":
        for _ in range(int(rng.integers(3, 7))):
            left, top = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.7) * height
            right, bottom = left + rng.uniform(0.08, 0.35) * width, top + rng.uniform(0.15, 0.7) * height
            colour = rng.uniform(40, 215) * np.clip(rng.normal(1, 0.18, 3), 0.5, 1.5)
            corner, opposite = (round(left), round(top)), (round(right), round(bottom))
            cv2.rectangle(picture, corner, opposite, [float(c) for c in colour], -1)
            if rng.uniform() < 0.5:
                inner = [float(c) for c in np.clip(colour * rng.uniform(0.6, 1.4), 0, 255)]
                for share in np.linspace(0.15, 0.85, int(rng.integers(2, 6))):
                    line_y = round(top + share * (bottom - top))
                    cv2.line(picture, (round(left), line_y), (round(right), line_y), inner, max(1, height // 160))
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), height * rng.uniform(0.004, 0.02)))
    elif config.background == "clutter":
        for octave in range(5):
            size = (3 * 2**octave, 4 * 2**octave)
            cells = rng.standard_normal((*size, 1)) + 0.35 * rng.standard_normal((*size, 3))
            cells = cells.astype(np.float32)
            picture += 34 * 0.62**octave * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(picture, 4, 250), np.float32)
