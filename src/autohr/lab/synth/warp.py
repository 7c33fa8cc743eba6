"""Movement of a face in a picture: where each pixel goes, and how its light changes.

    rig = make_rig(texture)
    moved = pose_mesh(rig, pose)                     (T, N, 3) points in each frame
    sampling(rig, moved[i], ...)                     maps for cv2.remap, light and gloss, on a coarse grid

2.5D: the 468 points of the face turn in space as a rigid body, with jaw, lips, brows and cheeks displaced before; rings
of points around the face carry hair and ears along and let the rest of the picture stay; the picture moves with the
triangles between the points. A warp cannot cover or uncover anything, so the head may turn by 15 degrees or so, no
more. Shading follows from the moved mesh's normals: a head that turns, nods or talks changes its colours as real ones
do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import Delaunay

from autohr.lab.synth.face import (
    EYES,
    LIP_LOWER_INNER,
    LIP_UPPER_INNER,
    OVAL,
    FaceTexture,
    Image,
    bump,
    gleam,
    neutral_mesh,
    shading,
)
from autohr.lab.synth.life import HeadPose
from autohr.types import Float

GRID_PX = 4
"""Spacing of the grid at which displacements are solved, in pixels; the triangles of the mesh are larger."""
CAMERA_DISTANCE = 5.0
"""Distance of the camera in face heights, about 1 m: the perspective of a face before a laptop."""
PIVOT = (0.0, 0.35, 0.45)
"""Point about which a head turns, in face heights from the middle of the face: the top of the spine."""
HAIR_RING, STILL_RING = 1.32, 2.1
"""Rings around the face, as multiples of its outline: within the first the picture moves with the head, beyond the
second it stays."""
INVERSE_STEPS = 5
"""Newton steps from where a pixel goes to where it comes from. At the utmost turn (18 degrees) five leave 0.06 pixels
at the 95th percentile of a face of 200 pixels, in 2 ms. Fixed-point steps are a little faster, but do not converge
where the picture is stretched to more than double, as beside the near cheek: 9 pixels there, a ragged edge."""
_INNER_LIPS = [*LIP_UPPER_INNER, *LIP_LOWER_INNER]


@dataclass(frozen=True)
class Rig:
    """A face ready to be moved. Its N points are the 468 of the mesh, then the rings and the border of the picture."""

    texture: FaceTexture
    rest: Float
    """(N, 3) points at rest, in texture pixels."""
    local: Float
    """(N, 3) the same in face heights about the middle of the face, eyes level, chin down."""
    basis: Float
    """(3, 3) axes of the face in the picture, as rows."""
    jaw: Float
    """(N,) share of the jaw's movement that each point follows."""
    follow: Float
    """(N - 468,) share of the head's movement that rings and border follow."""
    corners: NDArray[np.int64]
    """(G, 3) points of the triangle around each point of the grid."""
    weights: NDArray[np.float32]
    """(G, 3) weights of those three points."""
    grid_shape: tuple[int, int]
    shade: NDArray[np.float32]
    """(468,) light at rest."""
    glow: NDArray[np.float32]
    """(468,) gloss at rest, for a shine of 1."""
    summing: sparse.csr_matrix
    """(468, 854) matrix that sums the triangles' normals at each landmark."""
    facing: Float
    """(854,) sign of a triangle's normal, -1 where its corners go round clockwise at rest. It stays the same when a
    triangle turns away: a sign by its present side would make the light jump in that frame."""

    @property
    def centre(self) -> Float:
        """(3,) middle of the face in texture pixels."""
        return np.array((*self.texture.centre_xy, float(self.texture.mesh_xyz[:, 2].mean())))


def make_rig(texture: FaceTexture) -> Rig:
    """Compute all that does not change from frame to frame; takes some 20 ms."""
    mesh, size = texture.mesh_xyz, texture.face_px
    # The face's x to the right of the picture, y towards the chin, z away from the camera; turned within the picture
    # only, so that a head that looks aside in a photograph turns on from there.
    down = mesh[152, :2] - mesh[10, :2]
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    basis = np.array([[down[1], -down[0], 0.0], [down[0], down[1], 0.0], [0.0, 0.0, 1.0]])
    centre = np.array((*texture.centre_xy, float(mesh[:, 2].mean())))
    oval = ((mesh - centre) @ basis.T / size)[list(OVAL)[::2]]
    rings, follow = [], []
    for factor, share in ((1.15, 1.0), (HAIR_RING, 1.0), (1.65, 0.5), (STILL_RING, 0.0)):
        ring = oval * (factor, factor, 0)
        # Hair and ears lie behind the outline of the face.
        ring[:, 2] = oval[:, 2] + 0.35 * (min(factor, HAIR_RING) - 1)
        rings.append(ring)
        follow += [share] * len(ring)
    height, width = texture.alpha.shape
    border = [(x, y, centre[2]) for x in np.linspace(0, width - 1, 7) for y in (-1.0, height)]
    border += [(x, y, centre[2]) for y in np.linspace(0, height - 1, 7) for x in (-1.0, width)]
    follow += [0.0] * len(border)
    # A face near the picture's edge has rings beyond it; they stay where they are, the grid ends at the edge.
    rest = np.concatenate([mesh, np.concatenate(rings) * size @ basis + centre, np.array(border)])
    local = (rest - centre) @ basis.T / size

    rows, columns = -(-height // GRID_PX) + 1, -(-width // GRID_PX) + 1
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * float(GRID_PX)
    # Points on one line make slivers: a little noise moves them off it.
    net = Delaunay(rest[:, :2] + 1e-3 * np.random.default_rng(0).standard_normal((len(rest), 2)))
    inside = np.clip(grid, (-0.5, -0.5), (width - 0.5, height - 0.5))
    found = net.find_simplex(inside)
    transform = net.transform[found]
    two = np.einsum("gij,gj->gi", transform[:, :2], inside - transform[:, 2])
    weights = np.column_stack([two, 1 - two.sum(axis=1)])
    # A sliver's transform is NaN: its nearest corner will do.
    weights[~np.isfinite(weights).all(axis=1) | (found < 0)] = (1.0, 0.0, 0.0)

    triangles = neutral_mesh()[1]
    numbers = np.tile(np.arange(len(triangles)), 3)
    places = (triangles.T.reshape(-1), numbers)
    summing = sparse.csr_matrix((np.ones(len(numbers)), places), shape=(len(mesh), len(triangles)))
    facing = np.where(_flat_normals(mesh)[:, 2] > 0, -1.0, 1.0)
    normals = _normals(mesh, summing, facing)
    return Rig(
        texture=texture,
        rest=rest,
        local=local,
        basis=basis,
        jaw=_jaw_share(local),
        follow=np.array(follow),
        corners=net.simplices[found].astype(np.int64),
        weights=weights.astype(np.float32),
        grid_shape=(rows, columns),
        shade=shading(normals, texture.light),
        glow=gleam(normals, texture.light),
        summing=summing,
        facing=facing,
    )


def pose_mesh(rig: Rig, pose: HeadPose, part: slice = slice(None)) -> Float:
    """Return the points (T, N, 3) in texture pixels, for the frames ``part`` of a pose."""
    at = {name: getattr(pose, name)[part][:, None] for name in pose.__dataclass_fields__}
    face = rig.local[None, :468] + _expression(rig, at)
    others = np.broadcast_to(rig.local[468:], (len(at["x"]), len(rig.local) - 468, 3))
    # What hangs below the chin follows it half way.
    hanging = others + 0.5 * at["jaw"][..., None] * rig.jaw[468:, None] * (0.0, 1.0, 0.0)
    points = np.concatenate([face, hanging], axis=1)

    turned = points - PIVOT
    cos, sin = np.cos(at["yaw_rad"]), np.sin(at["yaw_rad"])
    # Nearer points (z < 0) go to the right when the head turns right.
    x, z = cos * turned[..., 0] - sin * turned[..., 2], sin * turned[..., 0] + cos * turned[..., 2]
    cos, sin = np.cos(at["pitch_rad"]), np.sin(at["pitch_rad"])
    y, z = cos * turned[..., 1] - sin * z, sin * turned[..., 1] + cos * z
    cos, sin = np.cos(at["roll_rad"]), np.sin(at["roll_rad"])
    x, y = cos * x - sin * y, sin * x + cos * y
    x, y, z = x + PIVOT[0], y + PIVOT[1], z + PIVOT[2]
    zoom = at["scale"] * (CAMERA_DISTANCE + points[..., 2]) / (CAMERA_DISTANCE + z)
    moved = np.stack([x * zoom + at["x"], y * zoom + at["y"], z], axis=2)
    moved[:, 468:] = others + rig.follow[None, :, None] * (moved[:, 468:] - others)
    return np.asarray(moved * rig.texture.face_px @ rig.basis + rig.centre)


class Sampling(NamedTuple):
    """One frame of a moved face, on the grid of the *moved* picture: (rows, columns) each."""

    source_x: Image
    """Texture pixel that is seen there."""
    source_y: Image
    light: Image
    """Factor of the diffuse light."""
    gloss: Image
    """Change of the mirrored light, for a shine of 1."""


def sampling(rig: Rig, points: Float, matrix: Float, size: tuple[int, int]) -> Sampling:
    """Find where the pixels of a frame come from, on its coarse grid.

    Parameters
    ----------
    points
        (N, 3) from ``pose_mesh``.
    matrix
        (2, 3) from texture pixels to frame pixels, applied after the pose.
    size
        Width and height of the frame.
    """
    normals = _normals(points[:468], rig.summing, rig.facing)
    light = np.ones(len(points), np.float32)
    light[:468] = np.clip(shading(normals, rig.texture.light) / np.maximum(rig.shade, 0.05), 0.5, 1.8)
    gloss = np.zeros(len(points), np.float32)
    gloss[:468] = gleam(normals, rig.texture.light) - rig.glow
    # Between the lips triangles are slivers whose normals mean nothing.
    light[_INNER_LIPS], gloss[_INNER_LIPS] = 1.0, 0.0
    fields = np.column_stack([(points - rig.rest)[:, :2], light, gloss]).astype(np.float32)
    on_grid = np.einsum("gk,gkc->gc", rig.weights, fields[rig.corners]).reshape(*rig.grid_shape, 4)

    columns, rows = (-(-pixels // GRID_PX) + 1 for pixels in size)
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
    frame_x, frame_y = np.meshgrid(np.arange(columns) * float(GRID_PX), np.arange(rows) * float(GRID_PX))
    x, y = goal_x, goal_y = [
        (inverse[k, 0] * frame_x + inverse[k, 1] * frame_y + inverse[k, 2]).astype(np.float32) for k in (0, 1)
    ]
    field, back = np.ascontiguousarray(on_grid[..., :2]), _inverse_slope(on_grid[..., :2])
    longest = 0.06 * rig.texture.face_px
    for step in range(INVERSE_STEPS):
        here = _read_grid(field, x, y)
        miss_x, miss_y = goal_x - x - here[..., 0], goal_y - y - here[..., 1]
        if step:
            xx, xy, yx, yy = np.moveaxis(_read_grid(back, x, y), -1, 0)
            miss_x, miss_y = xx * miss_x + xy * miss_y, yx * miss_x + yy * miss_y
            # Where the warp folds, Newton's step is anything.
            shorten = np.minimum(longest / np.maximum(np.hypot(miss_x, miss_y), np.float32(1e-6)), np.float32(1))
            miss_x, miss_y = miss_x * shorten, miss_y * shorten
        x, y = x + miss_x, y + miss_y
    there = _read_grid(on_grid[..., 2:], x, y)
    return Sampling(x, y, there[..., 0], there[..., 1])


def full_size(field: Image, size: tuple[int, int]) -> Image:
    """Return a field (rows, columns) on the grid of a frame at every pixel (H, W) of it."""
    # Grid point k lies at pixel k * GRID_PX exactly, which cv2.resize would not keep.
    matrix = np.array([[1 / GRID_PX, 0, 0], [0, 1 / GRID_PX, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(field, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def mouth_opening(rig: Rig, points: Float) -> tuple[Float, float]:
    """Return the outline (K, 2) of the gap between the lips, in texture pixels, and its widening in face heights.

    The widening is relative to rest: a mouth that is open in the picture shows its own teeth.
    """
    upper, lower = list(LIP_UPPER_INNER), list(LIP_LOWER_INNER)
    outline = np.concatenate([points[upper, :2], points[lower[::-1], :2]])
    gap = float(np.linalg.norm(points[14, :2] - points[13, :2]) - np.linalg.norm(rig.rest[14, :2] - rig.rest[13, :2]))
    return outline, gap / rig.texture.face_px


def lid_outlines(points: Float, closed: float) -> list[Float]:
    """Return the outlines (K, 2) of the two upper lids, in texture pixels, when eyes are ``closed`` by 0..1."""
    outlines = []
    for ring in EYES:
        upper, lower = points[list(ring[:9]), :2], points[[ring[0], *ring[:8:-1], ring[8]], :2]
        at, known = np.linspace(0, 1, 9), np.linspace(0, 1, len(lower))
        lower = np.stack([np.interp(at, known, lower[:, k]) for k in (0, 1)], 1)
        outlines.append(np.concatenate([upper, (upper + closed * (lower - upper))[::-1]]))
    return outlines


def _flat_normals(points: Float) -> Float:
    """Return the (854, 3) normals of the triangles, as long as twice their areas."""
    a, b, c = (points[neutral_mesh()[1][:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def _normals(points: Float, summing: sparse.csr_matrix, facing: Float) -> NDArray[np.float32]:
    """Return (468, 3) unit normals that look towards the camera (z < 0) at rest."""
    normals = np.asarray(summing @ (_flat_normals(points) * facing[:, None]))
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9), np.float32)


def _jaw_share(local: Float) -> Float:
    """Return how far each point follows the jaw, (N,): the lower lip and chin wholly, cheeks in part."""
    lip_y = (local[13, 1] + local[14, 1]) / 2
    aside = np.abs(local[:, 0] - local[[13, 14], 0].mean())
    softness = 0.012 + 0.35 * np.clip(aside - 0.08, 0, None)
    share = np.clip(0.5 + (local[:, 1] - lip_y) / (2 * softness), 0, 1)
    share[list(LIP_LOWER_INNER[1:-1])] = 1.0
    share[list(LIP_UPPER_INNER[1:-1])] = 0.0
    return np.asarray(share * np.exp(-0.5 * (aside / 0.30) ** 4))


def _expression(rig: Rig, at: dict[str, Float]) -> Float:
    """Return the displacement (T, 468, 3) by talking, smiling and raising the brows, in face heights."""
    local, jaw = rig.local[:468], rig.jaw[:468]
    mouth_x, mouth_y = local[[13, 14], :2].mean(axis=0)
    x, y = local[:, 0] - mouth_x, local[:, 1]
    corners = bump(np.abs(x) - 0.17, y - mouth_y, 0.07, 0.07)
    cheeks = bump(np.abs(local[:, 0]) - 0.22, y - mouth_y + 0.18, 0.10, 0.09)
    brow_y = local[[70, 105, 107, 336, 334, 300], 1].mean()
    brows = np.exp(-0.5 * ((y - brow_y + 0.03) / 0.06) ** 2) * (y < brow_y + 0.05)
    moved = np.zeros((len(at["x"]), len(local), 3))
    moved[..., 1] += at["jaw"] * jaw
    moved[..., 2] += 0.35 * at["jaw"] * jaw
    moved[..., 0] += at["lips"] * bump(x, y - mouth_y, 0.17, 0.09) * x
    moved[..., 0] += 0.022 * at["smile"] * corners * np.sign(x)
    moved[..., 1] -= at["smile"] * (0.030 * corners + 0.022 * cheeks)
    moved[..., 2] -= 0.025 * at["smile"] * cheeks
    moved[..., 1] -= 0.030 * at["brows"] * brows
    return moved


def _inverse_slope(field: Image) -> Image:
    """Return the inverse (rows, columns, 4) of the 2x2 derivative of a point's new place by its old one.

    From displacements (rows, columns, 2) on the texture's grid.
    """
    by_y, by_x = (np.gradient(field, axis=axis) / GRID_PX for axis in (0, 1))
    xx, xy, yx, yy = 1 + by_x[..., 0], by_y[..., 0], by_x[..., 1], 1 + by_y[..., 1]
    # Below 0.3 the far cheek is all but hidden, and a longer step would leave its triangle.
    area = np.maximum(xx * yy - xy * yx, 0.3)
    return np.asarray(np.stack([yy / area, -xy / area, -yx / area, xx / area], axis=-1), np.float32)


def _read_grid(field: Image, x: Image, y: Image) -> Image:
    """Return a field (rows, columns, C) on the texture's grid at the texture pixels x, y."""
    return np.asarray(cv2.remap(field, x / GRID_PX, y / GRID_PX, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
