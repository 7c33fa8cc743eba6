"""Moving pictures of real faces without a known pulse yet, and maps of where on the skin a pulse shows.

``film_video`` cuts a stretch of a real face to size; ``film_portrait`` lets a photograph move as such a face does. Both
give a ``Shot``: frames, and for each frame a way to lay maps of the skin on it. ``benchmarks/second_world.py`` lays the
pulse in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.types import Float, Frame
from performances import (
    INNER_LIPS,
    LEFT_EYE,
    LIPS,
    OVAL,
    PATCH_PX,
    RIGHT_EYE,
    Image,
    OwnPulse,
    Performance,
    bare_skin,
    face_coordinates,
    fit_pose,
    in_eye_units,
    on_patch,
    patch_grid,
    patch_matrix,
    place,
    polygon,
    read_frames,
    skin_likelihood,
    skin_tone,
)

FIELD_PX = 320
"""Width in pixels of the maps in which changes of brightness are computed before they are enlarged to the frame."""
GRID = (36, 48)
"""Rows and columns of the grid on which a portrait's movement is computed."""

CENTRE = np.array([0.0, 0.4])
"""Middle of the head, about which it turns, in units of the eyes' distance."""

LayMap = Callable[[Image], Image]
"""Function that lays maps over the still face (h0, w0, C) on a frame: (h, w, C)."""


# ---------------------------------------------------------------------------------------------------------------------
# The skin of a face


@dataclass(frozen=True, eq=False)
class Skin:
    """Maps over a picture (h, w) of a face."""

    pulse: Image
    """Strength of the pulse, 1 where it is strongest."""
    late: Image
    """``pulse`` times the delay in seconds."""
    lips: Image
    regions: Image
    """(R, h, w) shares of the regions of the face, which add up to 1 on the skin."""

    def change(self, beat: Float, shading: Float) -> Image:
        """Return the change of the picture's logarithm (h, w, 3) in one frame.

        Parameters
        ----------
        beat
            (3, 3) weights of ``pulse``, ``late`` and ``lips`` in red, green and blue.
        shading
            (R, 3) change of the log colour of each region.
        """
        maps = np.concatenate([np.stack([self.pulse, self.late, self.lips]), self.regions])
        weights = np.concatenate([beat, shading])
        return np.asarray(np.tensordot(maps, weights.astype(np.float32), axes=(0, 0)), dtype=np.float32)

    @property
    def beats(self) -> NDArray[np.bool_]:
        """(h, w) True where the pulse is at least half as strong as at the strongest place."""
        return np.asarray(self.pulse > 0.5 * self.pulse.max())


def skin_of(points: Float, shape: tuple[int, int], likelihood: Image, rng: np.random.Generator) -> Skin:
    """Return the skin of a face.

    Parameters
    ----------
    points
        (468, 2) in pixels of a picture of ``shape`` (h, w).
    likelihood
        (h, w) of skin, 0..1.
    """
    u, v = face_coordinates(fit_pose(in_eye_units(points), points), shape)

    def spot(cx: float, cy: float, sx: float, sy: float) -> Float:
        return np.asarray(np.exp(-(((u - cx) / sx) ** 2 + ((v - cy) / sy) ** 2) / 2))

    # Strength by place, after maps of the perfusion of faces: forehead and cheeks first; all numbers are ours.
    strength = np.full(shape, 0.5)
    for level, spots in (
        (1.0, [(0, -0.5, 0.5, 0.25), (-0.6, 0.55, 0.3, 0.3), (0.6, 0.55, 0.3, 0.3)]),
        (0.75, [(0, 0.62, 0.12, 0.12)]),
        (0.35, [(0, 0.12, 0.13, 0.25)]),
        (0.4, [(0, 1.5, 0.35, 0.22), (0, 0.85, 0.3, 0.08)]),
    ):
        for cx, cy, sx, sy in spots:
            near = spot(cx, cy, sx, sy) * rng.uniform(0.8, 1.0)
            strength = strength * (1 - near) + level * near
    rough = cv2.resize(rng.standard_normal((9, 9)), (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_CUBIC)
    at = on_patch(np.stack([u, v], axis=-1)).astype(np.float32)
    patchy = cv2.remap(rough, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    strength = strength * np.exp(rng.uniform(0.1, 0.3) * patchy)

    pose = fit_pose(in_eye_units(points), points)
    px = float(np.hypot(pose[0], pose[1]))
    face = _soft(polygon(_grown(points[list(OVAL)], 1.08), shape), 0.05 * px)
    neck = spot(0, 2.2, 0.6, 0.3) * (v > 1.5)
    reach = np.maximum(face, 0.35 * neck)
    # The person's own changes of colour are on all skin near the face.
    around = (
        np.maximum(_soft(polygon(_grown(points[list(OVAL)], 1.3), shape), 0.1 * px), spot(0, 2.1, 0.8, 0.5))
        * likelihood
    )
    eyes = polygon(_grown(points[list(LEFT_EYE)], 1.35), shape) + polygon(_grown(points[list(RIGHT_EYE)], 1.35), shape)
    mouth, inside = polygon(points[list(LIPS)], shape), polygon(points[list(INNER_LIPS)], shape)
    open_skin = reach * np.clip(1 - _soft(eyes, 0.03 * px), 0, 1) * likelihood
    pulse = strength * open_skin * np.clip(1 - _soft(mouth, 0.03 * px), 0, 1)
    lips = 0.6 * np.clip(_soft(mouth - inside, 0.03 * px), 0, 1) * reach
    delay_s = rng.uniform(0.010, 0.040) * np.clip((v + 0.5) / 1.6, 0, 1) + 0.004 * patchy
    shares = np.array([spot(*region) for region in _REGION_SPOTS]) + 1e-6
    shares = shares / shares.sum(axis=0) * around
    return Skin(*(np.asarray(each, dtype=np.float32) for each in (pulse, pulse * delay_s, lips, shares)))


def _soft(picture: Image, sigma_px: float) -> Image:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.5, sigma_px)), dtype=np.float32)


# Where the changes of ``performances.REGIONS`` are laid: as wide as is needed to cover the face.
_REGION_SPOTS = [
    (0.0, -0.5, 0.6, 0.35),
    (-0.62, 0.6, 0.35, 0.4),
    (0.62, 0.6, 0.35, 0.4),
    (0.0, 0.45, 0.2, 0.35),
    (0.0, 1.1, 0.4, 0.25),
    (0.0, 1.6, 0.5, 0.3),
]


def _grown(points: Float, factor: float) -> Float:
    middle = points.mean(axis=0)
    return np.asarray(middle + factor * (points - middle))


# ---------------------------------------------------------------------------------------------------------------------
# Two kinds of moving pictures


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames of a clip before pulse, light and camera, and how brightness maps are laid on each."""

    height: int
    width: int
    n_frames: int
    field: tuple[int, int]
    """(h, w) of the maps."""
    skin: Skin
    shading: Float
    """(T, R, 3) changes of the log colour of the regions."""
    tone_lab: Float
    """(3,) the skin's colour in L*a*b*."""
    face_px: float
    """Mean width of the face in pixels of the clip."""
    movement: float
    """Root mean square speed of the face, in widths of the face per second."""
    frames: Callable[[], Iterator[tuple[NDArray[Any], LayMap]]]
    """Function that returns an iterator of frames (H, W, 3), 0..255, each with the way to lay maps on it."""


@dataclass(frozen=True, eq=False)
class Take:
    """One playing of a performance."""

    performance: Performance
    own: OwnPulse
    face: Float
    """(468, 2) the mean face."""
    size: tuple[int, int]
    """Width and height of the clip."""
    t_s: Float
    """(T,) time of each frame, from 0."""
    speeds: tuple[float, float]
    """Speed of the performance at the beginning and at the end, 1 being as it was."""
    nod_px: Float
    """(T,) movement of the head by its beats, downwards, in pixels of the clip."""

    @property
    def field(self) -> tuple[int, int]:
        """(h, w) of the maps of brightness."""
        return round(self.size[1] * FIELD_PX / self.size[0]), FIELD_PX

    def places(self, rng: np.random.Generator) -> Float:
        """Return where (T,) in the performance each frame is, in its frames: there, back, and there again.

        The performance is played faster and faster, or slower and slower, so that nothing in it has one rate.
        """
        last = self.performance.n_frames - 1
        first_speed, last_speed = self.speeds
        growth = math.log(last_speed / first_speed)
        share = self.t_s / self.t_s[-1]
        played_s = self.t_s[-1] * first_speed * (np.expm1(growth * share) / growth if growth else share)
        spare_s = max(0.0, last / self.performance.fps - played_s[-1])
        at = np.mod((rng.uniform(0, spare_s) + played_s) * self.performance.fps, 2 * last)
        return np.asarray(np.minimum(at, 2 * last - at))


def skin_changes(take: Take, at: Float, rng: np.random.Generator) -> tuple[Float, Float]:
    """Return what to add to the real frames at places ``at`` (T,) to replace their own pulse, and all changes without.

    Both are log colours of the regions (T, R, 3).
    """
    noise_fps = 60.0
    noise = take.own.noise(round((take.t_s[-1] + 1) * noise_fps), noise_fps, rng)
    other = _sampled(noise, take.t_s * noise_fps)
    correction = (other - _sampled(take.own.wave, at))[..., None] * take.own.signature
    log_rgb = take.performance.log_rgb
    return correction, _sampled(log_rgb - log_rgb.mean(axis=0), at) + correction


def _sampled(values: Float, at: Float) -> Float:
    """Return values (N, ...) between their places: (T, ...) at ``at`` (T,)."""
    low = np.clip(np.floor(at).astype(int), 0, len(values) - 2)
    share = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values[low] * (1 - share) + values[low + 1] * share)


def _movement(centre: Float, t_s: Float, face_px: float) -> float:
    """Return the root mean square speed of a centre (T, 2) in pixels, in widths of the face per second."""
    speed_px = np.linalg.norm(np.diff(centre, axis=0), axis=1) / np.diff(t_s)
    return float(np.sqrt((speed_px**2).mean()) / face_px)


def film_video(take: Take, rng: np.random.Generator) -> Shot:
    """Return a stretch of a real face, cropped and scaled, its own pulse replaced by noise."""
    width, height = take.size
    rows, columns = take.field
    performance = take.performance
    index = np.rint(take.places(rng)).astype(int)
    correction, _ = skin_changes(take, index.astype(np.float64), rng)
    used = np.unique(index)
    corner, side = _crop_of(performance, used, take.size, rng)
    scale = width / side[0]
    poses = performance.pose.copy()
    poses[:, 2:] -= corner
    poses *= scale
    pictures, small = _cut_frames(performance, used, corner, side, take)
    bare = bare_skin(place(poses[used[0]], take.face) * columns / width, take.field)
    tone = skin_tone(small[used[0]], bare)
    # The mean over time, in place on the face: a map that goes by each frame's own colours would follow the pulse, and
    # the mean colour of the skin would then hardly change.
    likelihoods = [
        cv2.warpAffine(
            _soft(skin_likelihood(small[k], tone), 1.0),
            patch_matrix(poses[k] * columns / width),
            (PATCH_PX, PATCH_PX),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        for k in used[:: max(1, len(used) // 40)]
    ]
    likelihood = np.asarray(np.mean(likelihoods, axis=0), dtype=np.float32)
    skin = skin_of(on_patch(take.face), (PATCH_PX, PATCH_PX), likelihood, rng)
    x, y = patch_grid()
    head = np.exp(-(np.maximum(0, np.hypot(x / 1.5, (y - 0.4) / 1.9) - 1) ** 2) / 0.08).astype(np.float32)

    def frames() -> Iterator[tuple[NDArray[Any], LayMap]]:
        for j, k in enumerate(index):
            matrix = patch_matrix(poses[k] * columns / width)

            def lay(maps: Image, matrix: Float = matrix) -> Image:
                laid = cv2.warpAffine(maps, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
                return np.asarray(laid, dtype=np.float32).reshape(rows, columns, -1)

            picture: NDArray[Any] = pictures[k]
            if abs(take.nod_px[j]) > 1e-3:
                # A picture that moves by less than a pixel changes by its slope.
                moved = cv2.warpAffine(head, patch_matrix(poses[k]), (width, height), flags=cv2.INTER_LINEAR)
                slope = cv2.Sobel(picture, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
                picture = picture - slope * (np.float32(take.nod_px[j]) * np.asarray(moved))[..., None]
            yield picture, lay

    face_px = float(np.hypot(poses[used, 0], poses[used, 1]).mean() * np.ptp(take.face[:, 0]))
    centre = place(poses[index], CENTRE[None])[:, 0]
    return Shot(
        height=height,
        width=width,
        n_frames=len(index),
        field=take.field,
        skin=skin,
        shading=correction,
        tone_lab=_lab(small[used[0]][bare]),
        face_px=face_px,
        movement=_movement(centre, take.t_s, face_px),
        frames=frames,
    )


def _cut_frames(
    performance: Performance, used: NDArray[np.intp], corner: Float, side: Float, take: Take
) -> tuple[dict[int, Frame], dict[int, Frame]]:
    """Return the used frames of a performance, cropped and scaled: by their number, large and small as the maps."""
    left, top, right, bottom = (int(value) for value in (*corner, *(corner + side)))
    flags = cv2.INTER_AREA if take.size[0] < right - left else cv2.INTER_CUBIC
    pictures, small = {}, {}
    wanted = set(used.tolist())
    for number, (frame, _) in enumerate(read_frames(performance.path), -performance.first):
        if number in wanted:
            cut = cv2.resize(frame[top:bottom, left:right], take.size, interpolation=flags)
            pictures[number] = np.asarray(cut, dtype=np.uint8)
            less = cv2.resize(cut, take.field[::-1], interpolation=cv2.INTER_AREA)
            small[number] = np.asarray(less, dtype=np.uint8)
        if number >= used[-1]:
            break
    return pictures, small


def _crop_of(
    performance: Performance, used: NDArray[np.intp], size: tuple[int, int], rng: np.random.Generator
) -> tuple[Float, Float]:
    """Return corner and size, in whole pixels of the file, of a crop of the clip's shape around the face."""
    frame, _ = next(read_frames(performance.path))
    limits = np.array([frame.shape[1], frame.shape[0]], dtype=np.float64)
    reach = np.array([[-1.5, -1.4], [1.5, -1.4], [-1.5, 2.3], [1.5, 2.3]])
    corners = place(performance.pose[used], reach[None])
    low, high = np.maximum(corners.min(axis=(0, 1)), 0), np.minimum(corners.max(axis=(0, 1)), limits)
    shape = np.array(size, dtype=np.float64) / size[0]
    least = max((high - low)[0], (high - low)[1] / shape[1])
    most = min(limits[0], limits[1] / shape[1])
    side = shape * (most if least >= most else rng.uniform(max(least, 0.6 * most), most))
    middle = (low + high) / 2
    corner = np.clip(middle - side * [0.5, 0.47], 0, limits - side)
    return np.floor(corner), np.floor(side)


def film_portrait(take: Take, path: Path, mesh: Float, rng: np.random.Generator) -> Shot:
    """Return a photograph that moves and is shaded as the face of a performance; ``mesh`` (468, 2) in its pixels."""
    width, height = take.size
    rows, columns = take.field
    still = cv2.imread(str(path))
    assert still is not None, path
    canvas, points = _on_canvas(np.asarray(still[..., ::-1], dtype=np.uint8), mesh, take.size, rng)
    small = np.asarray(cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    bare = bare_skin(points * columns / width, take.field)
    likelihood = _soft(skin_likelihood(small, skin_tone(small, bare)), 0.8)
    skin = skin_of(points * columns / width, take.field, likelihood, rng)

    at = take.places(rng)
    _, changes = skin_changes(take, at, rng)
    # From a person who sits still to one who talks like the one on the video; who moves less is shaded less.
    strength = math.exp(rng.uniform(math.log(0.05), math.log(0.9)))
    shading = changes * strength * rng.uniform(0.5, 1.2)
    moved, centre = _mapped_motion(take, points, at, strength)
    steering, spread = _spreading(points, take.size)
    moved = moved[:, steering]
    moved[..., 1] += take.nod_px[:, None]

    def frames() -> Iterator[tuple[NDArray[Any], LayMap]]:
        y, x = np.mgrid[: GRID[0], : GRID[1]].astype(np.float32)
        cell = np.array([width / GRID[1], height / GRID[0]], dtype=np.float32)
        nodes = (np.stack([x, y], axis=-1) + 0.5) * cell - 0.5
        for one in moved:
            shift = (spread @ one).reshape(*GRID, 2).astype(np.float32)
            # A pixel comes from where the movement there brings it here; the movement is smooth, so one step will do.
            x_from, y_from = x - shift[..., 0] / cell[0], y - shift[..., 1] / cell[1]
            shift = np.asarray(cv2.remap(shift, x_from, y_from, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
            source = np.asarray(cv2.resize(nodes - shift, take.size, interpolation=cv2.INTER_LINEAR))
            _continue(source, cell)
            x_from, y_from = cv2.split(source)
            picture = cv2.remap(canvas, x_from, y_from, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
            coarse = np.asarray(cv2.resize(source, (columns, rows), interpolation=cv2.INTER_AREA))
            coarse = (coarse + 0.5) * np.float32(columns / width) - 0.5

            def lay(maps: Image, coarse: Image = coarse) -> Image:
                laid = np.asarray(cv2.remap(maps, coarse[..., 0], coarse[..., 1], cv2.INTER_LINEAR), dtype=np.float32)
                return laid.reshape(rows, columns, -1)

            yield np.asarray(picture), lay

    face_px = float(np.ptp(points[list(OVAL), 0]))
    return Shot(
        height=height,
        width=width,
        n_frames=len(moved),
        field=take.field,
        skin=skin,
        shading=shading,
        tone_lab=_lab(small[bare]),
        face_px=face_px,
        movement=_movement(centre, take.t_s, face_px),
        frames=frames,
    )


def _continue(source: Image, cell: Image) -> None:
    """Continue a map (H, W, 2) over its border of half a cell, which an enlarged grid leaves constant, in place."""
    height, width = source.shape[:2]
    x, y = math.ceil(cell[0] / 2), math.ceil(cell[1] / 2)
    source[:, :x, 0] = source[:, x : x + 1, 0] + np.arange(-x, 0, dtype=np.float32)
    source[:, width - x :, 0] = source[:, width - x - 1 : width - x, 0] + np.arange(1, x + 1, dtype=np.float32)
    source[:y, :, 1] = source[y : y + 1, :, 1] + np.arange(-y, 0, dtype=np.float32)[:, None]
    source[height - y :, :, 1] = (
        source[height - y - 1 : height - y, :, 1] + np.arange(1, y + 1, dtype=np.float32)[:, None]
    )


def _on_canvas(still: Frame, mesh: Float, size: tuple[int, int], rng: np.random.Generator) -> tuple[Frame, Float]:
    """Lay a photograph on a picture of ``size``; where it does not reach, its blurred mirror image is put."""
    width, height = size
    scale = float(np.clip(height / still.shape[0] * rng.uniform(0.9, 1.4), 0.3, 1.8))
    side = (round(still.shape[1] * scale), round(still.shape[0] * scale))
    resized = cv2.resize(still, side, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    points = (mesh + 0.5) * scale - 0.5
    middle = points.mean(axis=0)
    wanted = np.array([width * rng.uniform(0.42, 0.58), height * rng.uniform(0.4, 0.5)])
    # No more shift than leaves the photograph's edge outside, where it is large enough.
    offset = [
        float(np.clip(w - m, min(0, full - s), max(0, full - s)))
        for w, m, full, s in zip(wanted, middle, size, side, strict=True)
    ]
    left, top = (round(value) for value in offset)
    pad = (max(0, top), max(0, height - top - side[1]), max(0, left), max(0, width - left - side[0]))
    wide = np.asarray(cv2.copyMakeBorder(resized, *pad, borderType=cv2.BORDER_REFLECT_101), dtype=np.uint8)
    y, x = max(0, -top), max(0, -left)
    canvas = wide[y : y + height, x : x + width]
    if any(pad):
        inside = np.zeros((height, width), dtype=np.float32)
        inside[pad[0] : height - pad[1], pad[2] : width - pad[3]] = 1
        inside = _soft(inside, 4)[..., None]
        blurred = cv2.GaussianBlur(canvas, (0, 0), 0.08 * height)
        canvas = np.rint(canvas * inside + blurred * (1 - inside)).astype(np.uint8)
    return np.ascontiguousarray(canvas), points + np.array([left, top])


def _mapped_motion(take: Take, points: Float, at: Float, strength: float) -> tuple[Float, Float]:
    """Return the movement (T, 468, 2) in pixels of a portrait's points, and the place (T, 2) of its face's centre.

    The pose of the performance, relative to its mean, and the points' own movement are laid on the portrait's pose.
    Large changes of place, size and turn are held within what a photograph can follow.
    """
    pose, shift = _sampled(take.performance.pose, at), _sampled(take.performance.shift, at)
    size, turn = np.log(np.hypot(pose[:, 0], pose[:, 1])), np.arctan2(pose[:, 1], pose[:, 0])
    middle = place(pose, CENTRE[None])[:, 0] / np.exp(size.mean())

    def within(values: Float, limit: float) -> Float:
        return np.asarray(limit * np.tanh(strength * (values - np.median(values, axis=0)) / limit))

    size, turn, middle, shift = within(size, 0.07), within(turn, 0.12), within(middle, 0.35), within(shift, 0.3)
    change = np.column_stack([np.exp(size) * np.cos(turn), np.exp(size) * np.sin(turn), middle])
    base, own_face = fit_pose(in_eye_units(points), points), in_eye_units(points)
    moved = place(base, place(change, own_face - CENTRE + shift) + CENTRE)
    return moved - place(base, own_face), place(base, CENTRE + middle)


def _spreading(points: Float, size: tuple[int, int]) -> tuple[NDArray[np.intp], Float]:
    """Return the points (K,) that steer, and the matrix (nodes, K) from their movement to that of the grid's nodes.

    Hair and ears go with the nearest part of the face's outline; the picture's border and what is far from the face
    stay where they are. Between them lies the interpolation that bends least (radial basis functions r).
    """
    width, height = size
    base = fit_pose(in_eye_units(points), points)
    controls = np.unique(np.concatenate([OVAL, LIPS, LEFT_EYE, RIGHT_EYE, np.arange(0, 468, 5)]))
    outline = in_eye_units(points)[list(OVAL)]
    hair = CENTRE + (outline - CENTRE) * np.where(outline[:, 1:] < 0.3, 1.5, 1.2)
    far = CENTRE + (outline - CENTRE) * 2.8
    edge = np.linspace(0, 1, 9)
    across, down = np.column_stack([edge, 0 * edge]), np.column_stack([0 * edge, edge])
    border = np.concatenate([across, across + np.array([0, 1]), down, down + np.array([1, 0])]) * [width, height]
    fixed = place(base, far)
    inside = ((fixed > 0) & (fixed < [width, height])).all(axis=1)
    anchors = np.unique(np.concatenate([border, fixed[inside]]), axis=0)
    hair_px = place(base, hair)
    sites = np.concatenate([points[controls], hair_px, anchors])
    n = len(sites)
    distance = np.linalg.norm(sites[:, None] - sites[None], axis=-1)
    affine = np.column_stack([np.ones(n), sites / width])
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = distance / width - 0.02 * np.eye(n)
    system[:n, n:], system[n:, :n] = affine, affine.T
    rows, columns = GRID
    y, x = np.mgrid[:rows, :columns]
    nodes = np.column_stack([(x.ravel() + 0.5) * width / columns, (y.ravel() + 0.5) * height / rows])
    to_nodes = np.linalg.norm(nodes[:, None] - sites[None], axis=-1) / width
    matrix = np.column_stack([to_nodes, np.ones(len(nodes)), nodes / width]) @ np.linalg.inv(system)[:, :n]
    spread = matrix[:, : len(controls)].copy()
    place_of = {index: k for k, index in enumerate(controls)}
    for k, index in enumerate(OVAL):
        spread[:, place_of[index]] += matrix[:, len(controls) + k]
    return controls, spread


def _lab(rgb: NDArray[np.uint8]) -> Float:
    """Return the median colour of pixels (N, 3) in L*a*b*."""
    middle = np.median(rgb.reshape(-1, 3), axis=0).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(middle[None, None], cv2.COLOR_RGB2Lab)[0, 0], dtype=np.float64)
