"""Real faces on video as material: where the face is in each frame, how its points move, how its skin changes colour.

``read_performance`` reads a video once: five points of the face in each frame (the only use of the project's detector),
a mean face of 468 points laid on them, and dense optical flow between each frame and one reference frame, both turned
and scaled alike first, so that errors do not add up over time. ``benchmarks/second_world.py`` plays such a performance
as it is, or lets a photograph move by it.

The person on the video has a pulse of his own, of unknown rate. ``other_pulse`` replaces the part of the skin's colour
that any pulse must be in by noise of the same strength with a smooth spectrum; what movement and light do stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.types import Float, Frame
from autohr.video.detector import FaceDetector

Image = NDArray[np.float32]

PULSE_RGB = np.array([0.33, 0.77, 0.53])
"""Relative strength of a pulse in red, green and blue under white light (de Haan and van Leest 2014, section 2.2)."""

LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
OVAL = tuple(
    int(index)
    for index in (
        "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 "
        "152 148 176 149 150 136 172 58 132 93 234 127 162 21 54 103 67 109"
    ).split()
)
NOSE, LEFT_MOUTH, RIGHT_MOUTH = 1, 61, 291
"""Indices of the 468 points in ``landmarks.npz``, left and right as seen in the picture."""

PATCH_PX, PX_PER_EYES = 160, 40.0
PATCH_ORIGIN = np.array([2.0, 1.5])
"""The face patch: a square of 4 by 4 units around the face. The unit is the distance of the eyes' centres, the origin
the point between them; x grows to the right in the picture, y downwards."""

REGIONS = np.array(
    [
        [0, -0.5, 0.55, 0.22],
        [-0.62, 0.6, 0.25, 0.3],
        [0.62, 0.6, 0.25, 0.3],
        [0, 0.45, 0.16, 0.3],
        [0, 1.1, 0.35, 0.2],
        [0, 1.5, 0.35, 0.2],
    ]
)
"""Forehead, cheeks, nose, mouth, chin: centre x, y and half widths x, y in units of the eyes' distance. Ours."""

MIN_S = 5.0
"""Shortest stretch with a face, in seconds, that is played: a shorter one would repeat too often in 12 s."""


@dataclass(frozen=True, eq=False)
class Performance:
    """A stretch of T frames of a real face."""

    path: Path
    first: int
    """Index of the first frame of the stretch in the file."""
    fps: float
    pose: Float
    """(T, 4) scale and turn (a, b) and place (x, y): a point u of the face patch lies at [[a, -b], [b, a]] u + (x, y)
    in pixels of the file."""
    shift: Float
    """(T, 468, 2) movement of the points beyond the pose, in units of the eyes' distance."""
    log_rgb: Float
    """(T, R, 3) logarithm of the mean skin colour of each of ``REGIONS``."""

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return len(self.pose)


def read_frames(path: Path) -> Iterator[tuple[Frame, float]]:
    """Yield the frames of a video (H, W, 3) RGB, each with its time in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), float(frame.time or 0.0)


def eyes_and_mouth(mesh: Float) -> Float:
    """Return the detector's five points (5, 2) of a mesh (468, 2)."""
    eyes = [mesh[list(eye)].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE)]
    return np.array([*eyes, mesh[NOSE], mesh[LEFT_MOUTH], mesh[RIGHT_MOUTH]])


def in_eye_units(mesh: Float) -> Float:
    """Return a mesh (N, 2) with the eyes' centres at (-0.5, 0) and (0.5, 0)."""
    left, right = eyes_and_mouth(mesh)[:2]
    a, b = right - left
    turn = np.array([[a, b], [-b, a]]) / (a * a + b * b)
    return np.asarray((mesh - (left + right) / 2) @ turn.T)


def mean_face(meshes: list[Float]) -> Float:
    """Return the mean (468, 2), in units of the eyes' distance, of those meshes that look at the camera."""
    faces = np.array([in_eye_units(mesh) for mesh in meshes])
    return np.asarray(faces[np.abs(faces[:, NOSE, 0]) < 0.15].mean(axis=0))


def fit_pose(points: Float, onto: Float) -> Float:
    """Return the pose (4,) that brings points (N, 2) nearest to ``onto`` (N, 2)."""
    rows = np.zeros((2 * len(points), 4))
    rows[0::2] = np.column_stack([points[:, 0], -points[:, 1], np.ones(len(points)), np.zeros(len(points))])
    rows[1::2] = np.column_stack([points[:, 1], points[:, 0], np.zeros(len(points)), np.ones(len(points))])
    return np.asarray(np.linalg.lstsq(rows, onto.reshape(-1), rcond=None)[0])


def place(pose: Float, points: Float) -> Float:
    """Return points (..., 2) of the face patch in pixels; ``pose`` (..., 4) goes with their leading axes."""
    a, b, x, y = (pose[..., k, None] for k in range(4))
    placed: Float = np.stack(
        [a * points[..., 0] - b * points[..., 1] + x, b * points[..., 0] + a * points[..., 1] + y], -1
    )
    return placed


def patch_matrix(pose: Float) -> Float:
    """Return the matrix (2, 3) from pixels of the face patch to pixels of the frame."""
    a, b, x, y = pose
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn / PX_PER_EYES, np.array([x, y]) + turn @ (0.5 / PX_PER_EYES - PATCH_ORIGIN)])


def on_patch(points: Float) -> Float:
    """Return points (N, 2) in units of the eyes' distance as pixels of the face patch."""
    return np.asarray((points + PATCH_ORIGIN) * PX_PER_EYES - 0.5)


def face_coordinates(pose: Float, shape: tuple[int, int]) -> tuple[Float, Float]:
    """Return x and y (h, w) of the pixels of a picture in units of the eyes' distance, for a face in ``pose``."""
    matrix = cv2.invertAffineTransform(patch_matrix(pose))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    u, v = ((matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] + 0.5) / PX_PER_EYES - PATCH_ORIGIN[i] for i in (0, 1))
    return u, v


def patch_grid() -> tuple[Float, Float]:
    """Return x and y of the face patch's pixels, in units of the eyes' distance."""
    at = (np.arange(PATCH_PX) + 0.5) / PX_PER_EYES
    x, y = np.meshgrid(at - PATCH_ORIGIN[0], at - PATCH_ORIGIN[1])
    return x, y


def region_weights() -> Image:
    """Return the weights (R, PATCH_PX, PATCH_PX) of ``REGIONS`` on the face patch, each 1 at its centre."""
    x, y = patch_grid()
    weights = [np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2) for cx, cy, sx, sy in REGIONS]
    return np.array(weights, dtype=np.float32)


def polygon(points: Float, shape: tuple[int, int]) -> Image:
    """Return the inside of an outline (N, 2) in pixels as 1 in a picture of ``shape``, else 0."""
    drawn = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(drawn, [cv2.convexHull(np.rint(points * 16).astype(np.int32))], 1, shift=4)
    return drawn.astype(np.float32)


def skin_tone(rgb: NDArray[Any], where: NDArray[np.bool_]) -> Float:
    """Return what ``skin_likelihood`` compares with: medians and spreads (3, 2) of the pixels in ``where`` (H, W)."""
    features = _tone_features(rgb[where].reshape(1, -1, 3))[0]
    middle = np.median(features, axis=0)
    # Of a bright and a shaded half of a face the median is one of both, so the spread is that of all their pixels.
    spread = 1.48 * np.median(np.abs(features - middle), axis=0)
    return np.column_stack([middle, np.clip(spread, [0.05, 0.05, 0.2], [0.12, 0.12, 0.45])])


def skin_likelihood(rgb: NDArray[Any], tone: Float) -> Image:
    """Return 0..1 (H, W): how far the pixels have a face's skin colour; hair, glasses and wall come out near 0."""
    distance = (_tone_features(rgb) - tone[:, 0].astype(np.float32)) / tone[:, 1].astype(np.float32)
    # Skin may well be brighter than most of a face, but what is darker is soon hair.
    distance[..., 2] *= np.where(distance[..., 2] > 0, np.float32(0.5), np.float32(1))
    likelihood: Image = np.exp(-0.5 * np.maximum(0, (distance**2).sum(axis=-1) - 4) / 3).astype(np.float32)
    return likelihood


def _tone_features(rgb: NDArray[Any]) -> Image:
    """Logarithms of red over green, of blue over green, and of the brightness (H, W, 3)."""
    log = np.log(rgb.astype(np.float32) + 6)
    return np.stack([log[..., 0] - log[..., 1], log[..., 2] - log[..., 1], log.mean(axis=-1)], axis=-1)


def bare_skin(mesh: Float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return True (H, W) on cheeks, nose and lower forehead of a mesh (468, 2) in pixels: skin in nearly every face."""
    u, v = face_coordinates(fit_pose(in_eye_units(mesh), mesh), shape)
    inside = np.zeros(shape, dtype=bool)
    for cx, cy, sx, sy in ((-0.5, 0.6, 0.2, 0.2), (0.5, 0.6, 0.2, 0.2), (0, 0.45, 0.12, 0.2), (0, -0.4, 0.3, 0.1)):
        inside |= ((u - cx) / sx) ** 2 + ((v - cy) / sy) ** 2 < 1
    return inside & (polygon(mesh[list(OVAL)], shape) > 0)


# ---------------------------------------------------------------------------------------------------------------------
# Reading a performance


def read_performance(path: Path, face: Float, cache: Path | None = None) -> Performance | None:
    """Read the longest stretch of a video that shows a face in every frame; None if it is under ``MIN_S``.

    Parameters
    ----------
    face
        (468, 2) the mean face, ``mean_face``.
    cache
        Folder that keeps what was read, by the file's content.
    """
    name = hashlib.sha256(path.read_bytes() + face.tobytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    kept = None if cache is None else cache / f"{name}.npz"
    if kept is None or not kept.exists():
        record = _read(path, face)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(kept, **record)
    else:
        with np.load(kept) as stored:
            record = dict(stored)
    if len(record["pose"]) < MIN_S * record["fps"]:
        return None
    arrays = {key: record[key].astype(np.float64) for key in ("pose", "shift", "log_rgb")}
    return Performance(path, int(record["first"]), float(record["fps"]), **arrays)


def _read(path: Path, face: Float) -> dict[str, Any]:
    detector = FaceDetector()
    five = eyes_and_mouth(face)
    found: list[Float | None] = []
    times_s: list[float] = []
    for frame, t_s in read_frames(path):
        faces = detector.detect(frame)
        found.append(faces[0].landmarks if faces else None)
        times_s.append(t_s)
    first, end = _longest_run([points is not None for points in found])
    fps = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    if end - first < 2:
        return {"first": first, "fps": fps, "pose": np.zeros((0, 4)), "shift": np.zeros(0), "log_rgb": np.zeros(0)}
    points = np.array([found[k] for k in range(first, end)])
    pose = smoothed(np.array([fit_pose(five, one) for one in points]), 1.5)
    # The reference is the frame whose five points fit the mean face best: a face that looks at the camera, mouth shut.
    misfit = np.linalg.norm(place(pose, five) - points, axis=-1).mean(axis=1) / np.hypot(pose[:, 0], pose[:, 1])
    middle = np.linalg.norm(pose - np.median(pose, axis=0), axis=1) / np.hypot(pose[:, 0], pose[:, 1])
    reference = int(np.argmin(misfit + 0.1 * middle))
    patches = np.zeros((end - first, PATCH_PX, PATCH_PX, 3), dtype=np.uint8)
    for k, (frame, _) in enumerate(read_frames(path)):
        if first <= k < end:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            patches[k - first] = cv2.warpAffine(
                frame, patch_matrix(pose[k - first]), (PATCH_PX, PATCH_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE
            )
    shift, log_rgb = _follow(patches, reference, face)
    return {
        "first": first,
        "fps": fps,
        "pose": pose,
        "shift": smoothed(shift, 0.8).astype(np.float32),
        "log_rgb": log_rgb,
    }


def _follow(patches: Frame, reference: int, face: Float) -> tuple[Float, Float]:
    """Return how the points move (T, 468, 2) and the regions' log colours (T, R, 3), from patches that hold still."""
    grey = [cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY) for patch in patches]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    points = on_patch(face).astype(np.float32)
    y, x = np.mgrid[:PATCH_PX, :PATCH_PX].astype(np.float32)
    tone = skin_tone(patches[reference], bare_skin(on_patch(face), (PATCH_PX, PATCH_PX)))
    weights = region_weights() * skin_likelihood(patches[reference], tone)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    shift, log_rgb = np.zeros((len(patches), 468, 2)), np.zeros((len(patches), len(REGIONS), 3))
    for walk in (range(reference, len(patches)), range(reference, -1, -1)):
        flow = np.zeros((PATCH_PX, PATCH_PX, 2), dtype=np.float32)
        for k in walk:
            start = np.asarray(cv2.GaussianBlur(flow, (0, 0), 2), dtype=np.float32)
            flow = np.asarray(dis.calc(grey[reference], grey[k], start), dtype=np.float32)
            smooth = cv2.GaussianBlur(flow, (0, 0), 3)
            at_points = np.asarray(cv2.remap(smooth, points[:, :1], points[:, 1:], cv2.INTER_LINEAR))
            shift[k] = at_points[:, 0] / PX_PER_EYES
            still = cv2.remap(patches[k], x + smooth[..., 0], y + smooth[..., 1], cv2.INTER_LINEAR)
            log_rgb[k] = np.log(np.einsum("rhw,hwc->rc", weights, still.astype(np.float32)) + 1)
    return shift, log_rgb


def _longest_run(found: list[bool]) -> tuple[int, int]:
    """Return first and end of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.array(found, dtype=np.int8), [0]])))
    starts, ends = edges[0::2], edges[1::2]
    if len(starts) == 0:
        return 0, 0
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best])


def smoothed(values: Float, sigma: float) -> Float:
    """Return values (T, ...) smoothed over time by a Gaussian of ``sigma`` frames; the ends are mirrored."""
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    flat = np.pad(
        values.reshape(len(values), -1), ((reach, reach), (0, 0)), mode="reflect" if len(values) > reach else "edge"
    )
    out = sum(weight * flat[k : k + len(values)] for k, weight in enumerate(kernel / kernel.sum()))
    return np.asarray(out).reshape(values.shape)


# ---------------------------------------------------------------------------------------------------------------------
# The pulse that the person on the video has


@dataclass(frozen=True, eq=False)
class OwnPulse:
    """The part of a face's colour changes, 0.55 to 6 Hz, in which its own pulse must be, and noise of that strength."""

    signature: Float
    """(3,) its colours."""
    wave: Float
    """(T, R) its share in the log colour of each region: log colour minus ``wave * signature`` has no pulse."""
    freqs_hz: Float
    """(F,)"""
    level: Float
    """(F, R) spectrum of ``wave`` without lines: root of the power per hertz."""

    def noise(self, n: int, fs: float, rng: np.random.Generator) -> Float:
        """Return noise (n, R) at ``fs`` with the spectrum ``level``, correlated between regions as ``wave`` is."""
        spread = np.cov(self.wave.T) + 1e-18 * np.eye(self.wave.shape[1])
        sd = np.sqrt(np.diag(spread))
        mixing = np.linalg.cholesky(spread / np.outer(sd, sd) + 1e-6 * np.eye(len(sd)))
        white = np.fft.rfft(rng.standard_normal((n, len(sd))) @ mixing.T, axis=0)
        at = np.fft.rfftfreq(n, 1 / fs)
        level = np.array([np.interp(at, self.freqs_hz, one, right=0) for one in self.level.T]).T
        # White noise of variance 1 has a power per hertz of 2 / fs.
        return np.fft.irfft(white * level * np.sqrt(fs / 2), n, axis=0)


def find_own_pulse(log_rgb: Float, fps: float) -> OwnPulse:
    """Find the part of a face's own pulse in the log colours (T, R, 3) of its regions.

    The changes of colour are written as a sum of three: a pulse, a change of light (all channels alike), and what is
    at right angles to both. The first part holds, besides the pulse, noise and gloss that changes with movement. The
    shading that movement causes is in the other two and stays in step with the movement.

    The colours of a pulse are ``PULSE_RGB``, and then those that the strongest line of this part has in this video, if
    they are no more than 25 degrees away.
    """
    mirrored = np.concatenate([log_rgb, log_rgb[::-1]])
    n = len(mirrored)
    spectrum = np.fft.rfft(mirrored - mirrored.mean(axis=0), axis=0)
    freqs_hz = np.fft.rfftfreq(n, 1 / fps)
    band = np.clip((freqs_hz - 0.45) / 0.2, 0, 1) * (freqs_hz < 6)
    signature = PULSE_RGB / np.linalg.norm(PULSE_RGB)
    own = _part_of(signature, spectrum) * band[:, None]
    heart = (freqs_hz > 0.65) & (freqs_hz < 3.2)
    peak_hz = freqs_hz[heart][np.argmax((np.abs(own[heart]) ** 2).sum(axis=1))]
    line = np.abs(freqs_hz - peak_hz) < 0.2
    seen = np.real(np.einsum("frc,fr->c", spectrum[line], own[line].conj()))
    seen /= np.linalg.norm(seen)
    if seen @ signature > np.cos(np.radians(25)):
        signature = seen
        own = _part_of(signature, spectrum) * band[:, None]
    reach = max(2, round(0.7 / freqs_hz[1]))
    padded = np.pad(np.abs(own), ((reach, reach), (0, 0)), mode="reflect")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0), axis=-1)
    # The length of a complex number with normal parts has a median of the root of ln 2 times its root mean square.
    level = np.asarray(median / np.sqrt(np.log(2)) * np.sqrt(2 / (n * fps)), dtype=np.float64)
    # Noise is no flat floor: without the strongest line it shall be as strong as it was.
    rest = ~line & (freqs_hz > 0)
    power = (np.abs(own[rest]) ** 2).sum(axis=0) * 2 / (n * fps)
    level = level * np.sqrt(power / ((level[rest] ** 2).sum(axis=0) + 1e-30))
    wave = np.fft.irfft(own, n, axis=0)[: len(log_rgb)]
    return OwnPulse(signature, wave, np.asarray(freqs_hz, dtype=np.float64), np.asarray(level, dtype=np.float64))


def _part_of(signature: Float, spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return the share (F, R) of a pulse of the colours ``signature`` in the spectrum (F, R, 3) of log colours."""
    basis = np.column_stack([signature, np.ones(3), np.cross(signature, np.ones(3))])
    return np.asarray(np.einsum("c,frc->fr", np.linalg.inv(basis)[0], spectrum))
