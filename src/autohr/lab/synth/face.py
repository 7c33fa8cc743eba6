"""Drawn faces: head and shoulders of one person, with a map of where the blood is.

    Identity, face_px, Illumination -> draw_face -> FaceTexture

Nothing here moves or beats; ``video.py`` does that. The head's form is the 468-point mesh of ``face_mesh_468.npz``
(topology of the mediapipe face mesh), made neutral and symmetric, then deformed for each identity; its normals give the
shading. Eyes, brows, hair and clothes are painted over it.

Lengths are in *face heights*: hairline (landmark 10) to chin (landmark 152) is 1, x grows to the right of the picture,
y down, z away from the camera, and the origin is the middle of the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from autohr.lab.synth.limits import check_choice, check_numbers
from autohr.types import Float

Image = NDArray[np.float32]
"""Picture (H, W) or (H, W, C) of float32, in linear light unless stated otherwise."""
Rgb = tuple[float, float, float]
"""Colour as a screen shows it, 0..1, with a gamma of ``DISPLAY_GAMMA``."""
Path2d = Float | Sequence[tuple[float, float]]

HairStyle = Literal["bald", "buzz", "short", "side", "bob", "long", "curly", "scarf"]
Beard = Literal["none", "stubble", "moustache", "full"]
Glasses = Literal["none", "thin", "thick"]
Collar = Literal["crew", "vee", "shirt"]

DISPLAY_GAMMA = 2.2
"""Exponent that turns a colour as a screen shows it into linear light."""

# Landmark numbers of the mediapipe face mesh.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
    *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
"""Outer corner, upper lid, inner corner, lower lid of each eye; first the eye at the left of the picture."""
BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
LIP_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LIP_UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LIP_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
LIP_LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_MIRROR_PAIRS = (
    *((33, 263), (133, 362), (61, 291), (234, 454), (54, 284), (172, 397), (70, 300), (107, 336), (129, 358)),
    *((50, 280), (205, 425), (58, 288), (149, 378)),
)

_LEFT, _TOP, _RIGHT, _BOTTOM = -1.6, -1.02, 1.6, 1.7
"""Extent of a texture in face heights. Only its lowest row touches the figure, so a picture may repeat that row
downwards for a body that is cut off lower."""

_SHARES = dict.fromkeys(("melanin", "redness", "freckles", "age"), (0.0, 1.0))
_RATIOS = dict.fromkeys(
    (
        *("face_width", "jaw_width", "chin_length", "eye_size", "eye_spacing", "eye_opening", "nose_width"),
        *("nose_length", "mouth_width", "lip_thickness", "brow_thickness"),
    ),
    (0.5, 2.0),
)


@dataclass(frozen=True)
class Identity:
    """One person, as numbers. Ratios (widths, lengths, sizes) are relative to the average of the drawing."""

    seed: int = 0
    """Seed of what is drawn at random: freckles, strands of hair, mottling."""
    melanin: float = 0.35
    """Skin tone: 0 is very fair, 1 very dark."""
    redness: float = 0.5
    """Redness of cheeks and nose, 0..1."""
    face_width: float = 1.0
    jaw_width: float = 1.0
    chin_length: float = 1.0
    eye_size: float = 1.0
    eye_spacing: float = 1.0
    eye_opening: float = 1.0
    nose_width: float = 1.0
    nose_length: float = 1.0
    mouth_width: float = 1.0
    lip_thickness: float = 1.0
    smile: float = 0.0
    """Height of the corners of the mouth, -1..1."""
    iris_rgb: Rgb = (0.30, 0.20, 0.12)
    hair_style: HairStyle = "short"
    hair_rgb: Rgb = (0.16, 0.11, 0.08)
    brow_thickness: float = 1.0
    beard: Beard = "none"
    glasses: Glasses = "none"
    freckles: float = 0.0
    """Strength of freckles, 0..1."""
    age: float = 0.3
    """Depth of folds and of shadows under the eyes, 0..1."""
    collar: Collar = "crew"
    clothes_rgb: Rgb = (0.25, 0.32, 0.45)
    scarf_rgb: Rgb = (0.45, 0.20, 0.25)

    def __post_init__(self) -> None:
        check_numbers(self, _SHARES)
        check_numbers(self, _RATIOS, " (1 = average)")
        check_numbers(self, {"smile": (-1, 1)})
        for name, literal in (("hair_style", HairStyle), ("beard", Beard), ("glasses", Glasses), ("collar", Collar)):
            check_choice(name, getattr(self, name), literal)


@dataclass(frozen=True)
class Illumination:
    """Direction and softness of the light on a face. Its strength over time is set by the scene (``video.py``)."""

    azimuth_deg: float = 25.0
    """Azimuth of the key light: 0 is the camera's side, positive the right of the picture."""
    elevation_deg: float = 35.0
    """Elevation of the key light: positive is above."""
    ambient: float = 0.5
    """Share of the light that comes from everywhere, 0..1; a small share gives hard shadows."""

    def __post_init__(self) -> None:
        check_numbers(self, {"ambient": (0, 1)})
        if not (abs(self.azimuth_deg) <= 90 and abs(self.elevation_deg) <= 90):
            raise ValueError("azimuth_deg and elevation_deg must lie in -90..90: the light is never behind the face.")


@dataclass(frozen=True)
class FaceTexture:
    """One face in linear light, where 1 is a white sheet that faces the key light. Not premultiplied by alpha."""

    face_px: float
    """Height of the face, hairline to chin, in pixels."""
    diffuse: Image
    """(H, W, 3) light that went through skin, cloth or hair; the pulse modulates it."""
    specular: Image
    """(H, W) light mirrored at the surface, of the lamp's colour; the pulse does not reach it."""
    shine: Image
    """(H, W) glossiness, 0..1: the value of ``specular`` at the mirror image of the key light."""
    alpha: Image
    """(H, W) opacity: 1 where the figure covers the background."""
    blood: Image
    """(H, W) strength of the pulse; 0 on hair, eyes, brows, beard, glasses and clothes. Its mean over ``skin``,
    weighted with the green light that the camera gets, is 1."""
    delay_s: Image
    """(H, W) delay of the pulse against the mean over ``skin``, in seconds."""
    skin: NDArray[np.bool_]
    """(H, W) bare skin of the face, without neck and ears."""
    mesh_xyz: Float
    """(468, 3) landmarks of the mediapipe face mesh: x, y in pixels of this texture, z on the same scale, smaller is
    nearer to the camera."""
    centre_xy: tuple[float, float]
    """Middle of the face in pixels of this texture."""
    light: Illumination

    @property
    def landmarks(self) -> Float:
        """(468, 2) x, y in pixels of this texture."""
        return self.mesh_xyz[:, :2]

    @property
    def box_xywh(self) -> tuple[float, float, float, float]:
        """Left, top, width, height of the face's outline, in pixels of this texture."""
        low, high = self.landmarks.min(axis=0), self.landmarks.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def random_identity(rng: np.random.Generator) -> Identity:
    """Draw a person at random. Skin tones are uniform over the whole range, so that no tone is rare.

    Examples
    --------
    >>> import numpy as np
    >>> random_identity(np.random.default_rng(0)).hair_style
    'curly'
    """

    def about(low: float, high: float) -> float:
        return float(rng.triangular(low, (low + high) / 2, high))

    def one_of(shares: dict[str, float]) -> Any:
        share = np.array(list(shares.values()))
        return str(rng.choice(list(shares), p=share / share.sum()))

    def clothes_colour() -> Rgb:
        grey = rng.uniform(0.12, 0.8)
        red, green, blue = np.clip(grey + rng.normal(0, 0.12, 3), 0.08, 0.92)
        return float(red), float(green), float(blue)

    melanin = float(rng.uniform())
    feminine = bool(rng.uniform() < 0.5)
    age = float(rng.uniform())
    natural = ((0.07, 0.055, 0.05), (0.16, 0.10, 0.07), (0.30, 0.19, 0.11), (0.52, 0.36, 0.20), (0.46, 0.22, 0.10))
    n_natural = 5 if melanin < 0.4 else 3 if melanin < 0.65 else 2
    hair = np.array(natural[int(rng.integers(n_natural))])
    if age > 0.65 and rng.uniform() < 0.6:
        hair = hair * 0.3 + 0.7 * np.array((0.62, 0.61, 0.60))
    irises = ((0.22, 0.13, 0.08), (0.36, 0.24, 0.12), (0.33, 0.38, 0.22), (0.35, 0.47, 0.58), (0.42, 0.46, 0.48))
    hair_style = one_of(
        {"bob": 0.25, "long": 0.4, "curly": 0.2, "scarf": 0.1, "short": 0.05}
        if feminine
        else {"short": 0.4, "side": 0.3, "buzz": 0.14, "curly": 0.08, "bald": 0.08}
    )
    beard: Any = "none" if feminine else one_of({"none": 0.55, "stubble": 0.2, "moustache": 0.07, "full": 0.18})
    # The order of the arguments is the order of the random draws.
    return Identity(
        seed=int(rng.integers(2**31)),
        melanin=melanin,
        redness=about(0.0, 1.0),
        face_width=about(0.88, 1.1) * (0.98 if feminine else 1.01),
        jaw_width=about(0.86, 1.14) * (0.96 if feminine else 1.04),
        chin_length=about(0.85, 1.2),
        eye_size=about(0.9, 1.15) * (1.05 if feminine else 0.98),
        eye_spacing=about(0.94, 1.06),
        eye_opening=about(0.75, 1.25),
        nose_width=about(0.82, 1.15) * (1 + 0.15 * melanin),
        nose_length=about(0.9, 1.12),
        mouth_width=about(0.88, 1.15),
        lip_thickness=about(0.75, 1.25) * (1 + 0.2 * melanin) * (1.06 if feminine else 0.95),
        smile=about(-0.4, 1.0),
        iris_rgb=irises[int(rng.integers(5 if melanin < 0.4 else 2))],
        hair_style=hair_style,
        hair_rgb=tuple(float(v) for v in np.clip(hair * rng.uniform(0.8, 1.2), 0, 1)),  # type: ignore[arg-type]
        brow_thickness=about(0.75, 1.25) * (0.85 if feminine else 1.15),
        beard=beard,
        glasses=one_of({"none": 0.8, "thin": 0.12, "thick": 0.08}),
        freckles=float(rng.uniform(0.3, 1)) if melanin < 0.45 and rng.uniform() < 0.3 else 0.0,
        age=age,
        collar=one_of({"crew": 0.5, "vee": 0.25, "shirt": 0.25}),
        clothes_rgb=clothes_colour(),
        scarf_rgb=clothes_colour(),
    )


def draw_face(identity: Identity, face_px: float, light: Illumination | None = None) -> FaceTexture:
    """Draw head and shoulders of a person, the face ``face_px`` pixels high from hairline to chin.

    Drawn larger and reduced by area, so that edges are as soft as a camera's. Takes a few tenths of a second.

    Raises
    ------
    ValueError
        ``face_px`` is outside 16..1200.
    """
    if not 16 <= face_px <= 1200:
        raise ValueError(f"face_px={face_px} is outside 16..1200 pixels.")
    sheet = _Sheet(float(np.clip(1.5 * face_px, 200, max(400, face_px))), identity.seed)
    points = _landmarks(identity)
    _paint_hair_behind(sheet, identity)
    _paint_body(sheet, identity)
    _paint_head(sheet, identity, points)
    _paint_eyes(sheet, identity, points)
    _paint_mouth_and_nose(sheet, identity, points)
    _paint_brows_and_beard(sheet, identity, points)
    _paint_hair(sheet, identity)
    if identity.glasses != "none":
        _paint_glasses(sheet, identity, points)
    return _shade(sheet, points, face_px, light or Illumination())


# ---------------------------------------------------------------------------------------------------------------------
# Form


@lru_cache(maxsize=1)
def neutral_mesh() -> tuple[Float, NDArray[np.int64]]:
    """Return the shipped mesh as a neutral face: points (468, 3) in face heights, triangles (854, 3).

    It was measured on one smiling person near the camera, with the head a little rolled and turned: it is rotated
    upright, averaged with its mirror image, freed of perspective, and its mouth closed and relaxed.
    """
    with files("autohr.lab.synth").joinpath("face_mesh_468.npz").open("rb") as file, np.load(file) as arrays:
        points, triangles = arrays["L"].astype(np.float64), arrays["T"].astype(np.int64)
    points = points - points[[234, 454, 10, 152]].mean(axis=0)
    left, right = np.array(_MIRROR_PAIRS).T
    for _ in range(4):
        across = points[right] - points[left]
        x_axis = (across / np.linalg.norm(across, axis=1, keepdims=True)).mean(axis=0)
        x_axis /= np.linalg.norm(x_axis)
        y_axis = points[152] - points[10]
        y_axis -= x_axis * (x_axis @ y_axis)
        y_axis /= np.linalg.norm(y_axis)
        points = points @ np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)], axis=1)
        points[:, 0] -= (points[left, 0] + points[right, 0]).mean() / 2
    mirrored = points * (-1, 1, 1)
    distance = np.linalg.norm(points[:, None] - mirrored[None], axis=2)
    points = (points + mirrored[linear_sum_assignment(distance**2)[1]]) / 2

    # The camera stood about three face heights away: with this distance the eyes get the usual share of the width.
    points[:, :2] *= 1 + points[:, 2:] / 330
    gap = points[14, 1] - points[13, 1]
    lip_y = points[13, 1]
    below = np.clip((points[:, 1] - lip_y - 0.2 * gap) / (0.8 * gap), 0, 1)
    near = np.exp(-((points[:, 0] / 38) ** 4))
    points[:, 1] -= gap * below * near
    points -= (points[10] + points[152]) / 2 * (0, 1, 1)
    points /= points[152, 1] - points[10, 1]
    points = _stretched(points, points[[13, 14]].mean(axis=0), (0.17, 0.12), (0.78, 1.0))
    # The jaw came out broad, by eye; 17 % narrower at the chin looks like most people.
    jaw = np.clip((points[:, 1] - 0.02) / 0.45, 0, 1)
    points[:, 0] *= 1 - 0.17 * jaw * jaw * (3 - 2 * jaw)
    return points, triangles


def bump(x: Any, y: Any, rx: float, ry: float) -> Any:
    """Return a Gaussian of height 1 about the origin, with standard deviations ``rx`` and ``ry``."""
    return np.exp(-0.5 * ((x / rx) ** 2 + (y / ry) ** 2))


def forehead_and_cheeks(x: Float, y: Float) -> tuple[Float, Float]:
    """Return how much of forehead and of cheeks is at points of the neutral face, 0..1."""
    return bump(x, y + 0.36, 0.27, 0.12), bump(np.abs(x) - 0.22, y - 0.10, 0.10, 0.12)


def _stretched(points: Float, centre: Float, reach: tuple[float, float], factor: tuple[float, float]) -> Float:
    """Return points (K, 3) with x and y stretched by ``factor`` around ``centre``, fading over ``reach``."""
    offset = points[:, :2] - centre[:2]
    moved = points.copy()
    moved[:, :2] += bump(offset[:, 0], offset[:, 1], *reach)[:, None] * (np.asarray(factor) - 1) * offset
    return moved


def _landmarks(identity: Identity) -> Float:
    """Return the (468, 3) landmarks of a person in face heights."""
    rng = np.random.default_rng([identity.seed, 1])
    points = neutral_mesh()[0].copy()
    for ring in EYES:
        centre = points[list(ring)].mean(axis=0)
        size = identity.eye_size * 1.04
        points = _stretched(points, centre, (0.10, 0.055), (size, size * (0.72 + 0.36 * identity.eye_opening)))
        near = bump(points[:, 0] - centre[0], points[:, 1] - centre[1], 0.10, 0.12)
        points[:, 0] += np.sign(centre[0]) * 0.16 * (identity.eye_spacing - 1) * near
    nose = points[[1, 2]].mean(axis=0)
    points = _stretched(points, nose, (0.075, 0.08), (0.92 * identity.nose_width, 1.0))
    near = bump(points[:, 0] - nose[0], points[:, 1] - nose[1], 0.09, 0.09)
    points[:, 1] += (identity.nose_length - 1) * 0.25 * near
    mouth = points[[13, 14]].mean(axis=0)
    points = _stretched(points, mouth, (0.17, 0.05), (identity.mouth_width, 0.25 + 0.75 * identity.lip_thickness))
    corners = np.exp(-0.5 * (((np.abs(points[:, 0]) - points[291, 0]) / 0.05) ** 2)) * np.exp(
        -0.5 * ((points[:, 1] - mouth[1]) / 0.06) ** 2
    )
    points[:, 1] -= 0.022 * identity.smile * corners
    low = np.clip(points[:, 1] / 0.5, 0, 1.2)
    points[:, 0] *= 0.9 * identity.face_width * (1 + (identity.jaw_width - 1) * low)
    points[:, 1] += (identity.chin_length - 1) * 0.2 * np.clip((points[:, 1] - 0.25) / 0.25, 0, 1.2)
    # No face is symmetric: a smooth random field of about half a percent of the face.
    for _ in range(6):
        x, y = rng.uniform((-0.4, -0.5), (0.4, 0.5))
        points[:, :2] += bump(points[:, 0] - x, points[:, 1] - y, 0.2, 0.2)[:, None] * rng.normal(0, 0.005, 2)
    points[:, 1] -= (points[10, 1] + points[152, 1]) / 2
    return np.asarray(points / (points[152, 1] - points[10, 1]))


def landmark_normals(points: Float) -> Float:
    """Return (468, 3) unit normals that look towards the camera (z < 0)."""
    triangles = neutral_mesh()[1]
    a, b, c = (points[triangles[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    flat *= -np.sign(flat[:, 2:])
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], flat)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))


def fixed_point(pixels: Float) -> NDArray[np.int32]:
    """Return pixels as sixteenths of a pixel, as OpenCV draws them with shift 4."""
    return np.round(pixels * 16).astype(np.int32)


def triangle_map(pixels: Float, depth: Float, triangles: NDArray[np.int64], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return (H, W) which triangle of a mesh a pixel shows, -1 for none, and the triangles in the order of that map.

    Far triangles are drawn first, so that near ones cover them. ``pixels`` (468, 2), ``depth`` (468,).
    """
    triangles = triangles[np.argsort(-depth[triangles].mean(axis=1))]
    index = np.full(shape, -1, np.int32)
    for number, triangle in enumerate(fixed_point(pixels[triangles])):
        cv2.fillConvexPoly(index, triangle, number, cv2.LINE_8, 4)
    return index, triangles


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], grain_px: float, aspect: float = 1.0) -> Image:
    """Return smooth noise (H, W) of unit standard deviation, its grains ``aspect`` times as high as wide."""
    height, width = shape
    grain_px = max(1.0, grain_px)
    rows, columns = max(2, round(height / max(1.0, grain_px * aspect))), max(2, round(width / grain_px))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / max(float(field.std()), 1e-6))


# ---------------------------------------------------------------------------------------------------------------------
# The sheet that is painted on


class _Sheet:
    """A picture while it is painted: colour, alpha, blood, shine and surface normals, all (H, W).

    It has ``px`` pixels per face height. Colours are display values here; ``_shade`` turns them into light.
    """

    def __init__(self, px: float, seed: int) -> None:
        self.px = px
        self.rng = np.random.default_rng([seed, 2])
        self.shape = height, width = round((_BOTTOM - _TOP) * px), round((_RIGHT - _LEFT) * px)
        self.x, self.y = np.meshgrid(
            (_LEFT + (np.arange(width, dtype=np.float32) + 0.5) / px).astype(np.float32),
            (_TOP + (np.arange(height, dtype=np.float32) + 0.5) / px).astype(np.float32),
        )
        self.alpha, self.blood, self.shine, self.face = (np.zeros(self.shape, np.float32) for _ in range(4))
        self.rgb, self.normal = (np.zeros((*self.shape, 3), np.float32) for _ in range(2))
        self.normal[..., 2] = -1

    def over(self, mask: Image, rgb: Image | Rgb, *, blood: Image | float = 0.0, shine: Image | float = 0.0) -> None:
        """Cover with a colour, (H, W, 3) or one for all; what lies below loses its blood and shine."""
        at = _extent(mask)
        part = mask[at]
        keep = 1 - part
        painted = np.asarray(rgb, np.float32)
        self.rgb[at] *= keep[..., None]
        self.rgb[at] += part[..., None] * (painted[at] if painted.ndim == 3 else painted)
        for layer, value in ((self.blood, blood), (self.shine, shine)):
            layer[at] *= keep
            layer[at] += part * (value[at] if isinstance(value, np.ndarray) else np.float32(value))
        np.maximum(self.alpha[at], part, out=self.alpha[at])
        self.face[at] *= keep

    def tint(self, mask: Image, factor: Rgb | Float | float) -> None:
        """Multiply the colour by ``factor`` where the mask is 1; blood and shine stay."""
        at = _extent(mask)
        self.rgb[at] *= 1 + mask[at][..., None] * (np.asarray(factor, np.float32) - 1)

    def set_normals(self, mask: Image, nx: Image, ny: Image, nz: Image) -> None:
        """Set the surface normals where the mask is over 0.5."""
        normal = np.stack([nx, ny, nz], axis=2).astype(np.float32)
        self.normal[...] = np.where((mask > 0.5)[..., None], normal, self.normal)

    def polygon(self, points: Path2d, *, blur: float = 0.0) -> Image:
        """Return the mask (H, W) of a smooth closed outline through points (K, 2), softened by ``blur``."""
        path = _smooth(np.asarray(points, np.float64)[:, :2], closed=True)
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [self._fixed(path)], 255, cv2.LINE_AA, 4)
        return self._softened(mask, path, blur, 1.0, blur)

    def line(self, points: Path2d, width: float, *, blur: float = 0.0) -> Image:
        """Return the mask (H, W) of a smooth open line through points (K, 2), ``width`` thick."""
        path = _smooth(np.asarray(points, np.float64)[:, :2], closed=False)
        mask = np.zeros(self.shape, np.uint8)
        cv2.polylines(mask, [self._fixed(path)], False, 255, max(1, round(width * self.px)), cv2.LINE_AA, 4)
        return self._softened(mask, path, blur + width / 3, min(1.0, width * self.px), blur)

    def disc(self, x: float, y: float, rx: float, ry: float, soft: float) -> Image:
        """Return the mask (H, W) of an ellipse with an edge ``soft`` wide, relative to its radius."""
        mask: Image = np.zeros(self.shape, np.float32)
        at = self._window((x - rx * (1 + soft), y - ry * (1 + soft)), (x + rx * (1 + soft), y + ry * (1 + soft)))
        radius = np.sqrt(((self.x[at] - x) / rx) ** 2 + ((self.y[at] - y) / ry) ** 2)
        mask[at] = np.clip((1 - radius) / soft + 0.5, 0, 1)
        return mask

    def spot(self, x: float, y: float, rx: float, ry: float) -> Image:
        """Return a Gaussian spot (H, W) of height 1."""
        mask: Image = np.zeros(self.shape, np.float32)
        at = self._window((x - 3.5 * rx, y - 3.5 * ry), (x + 3.5 * rx, y + 3.5 * ry))
        mask[at] = bump(self.x[at] - x, self.y[at] - y, rx, ry)
        return mask

    def blurred(self, image: Image, sigma: float) -> Image:
        """Return an image blurred by a Gaussian of ``sigma`` face heights."""
        if sigma * self.px < 0.3:
            return image
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * self.px))

    def noise(self, size: float, aspect: float = 1.0) -> Image:
        """Return smooth noise (H, W), unit standard deviation, with grains ``size`` wide."""
        return smooth_noise(self.rng, self.shape, size * self.px, aspect)

    def _window(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice]:
        """Return the rows and columns between two corners (x, y), a little larger than asked."""
        height, width = self.shape
        left, top = (max(0, int((v - v0) * self.px) - 2) for v, v0 in zip(low, (_LEFT, _TOP), strict=True))
        right, bottom = (max(0, int((v - v0) * self.px) + 3) for v, v0 in zip(high, (_LEFT, _TOP), strict=True))
        return slice(min(top, height), min(bottom, height)), slice(min(left, width), min(right, width))

    def _softened(self, mask: NDArray[np.uint8], path: Float, reach: float, height: float, sigma: float) -> Image:
        """Return a drawn mask of 0..255 as 0..``height``, blurred near ``path`` only, to save time."""
        out: Image = np.zeros(self.shape, np.float32)
        margin = 3 * reach + 0.02
        at = self._window(path.min(axis=0) - margin, path.max(axis=0) + margin)
        out[at] = self.blurred(mask[at].astype(np.float32) * np.float32(height / 255), sigma)
        return out

    def _fixed(self, points: Float) -> NDArray[np.int32]:
        return fixed_point((points - (_LEFT, _TOP)) * self.px - 0.5)[:, None, :]


def _extent(mask: Image) -> tuple[slice, slice]:
    """Return the rows and columns that hold all of a mask that is not 0."""
    left, top, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _smooth(points: Float, closed: bool) -> Float:
    """Return a Catmull-Rom curve through points (K, 2), with 8 steps between each two."""
    before, after = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([before, points, after])[:, None]
    p0, p1, p2, p3 = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    u = (np.arange(8) / 8)[None, :, None]
    curve = p1 + 0.5 * u * (p2 - p0 + u * (2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _rasterise(points: Float, sheet: _Sheet, values: Float) -> tuple[Image, NDArray[np.bool_]]:
    """Return values (468, C) at the landmarks interpolated over the mesh, (H, W, C), and where the mesh is, (H, W)."""
    pixels = (points[:, :2] - (_LEFT, _TOP)) * sheet.px - 0.5
    index, triangles = triangle_map(pixels, points[:, 2], neutral_mesh()[1], sheet.shape)
    rows, columns = np.nonzero(index >= 0)
    corners = np.concatenate([pixels[triangles], np.ones((len(triangles), 3, 1))], axis=2)
    thin = np.abs(np.linalg.det(corners)) < 1e-6
    corners[thin] = np.eye(3)
    plane = np.linalg.solve(corners, values[triangles])
    plane[thin] = 0
    plane[thin, 2] = values[triangles[thin]].mean(axis=1)
    where = plane[index[rows, columns]]
    out = np.zeros((*sheet.shape, values.shape[1]), np.float32)
    out[rows, columns] = columns[:, None] * where[:, 0] + rows[:, None] * where[:, 1] + where[:, 2]
    return out, index >= 0


# ---------------------------------------------------------------------------------------------------------------------
# Paint


def _skin_rgb(identity: Identity) -> NDArray[np.float32]:
    """Return the skin colour. The tones were picked by eye to span the ten of the Monk scale."""
    tones = (
        *((0.95, 0.80, 0.72), (0.89, 0.70, 0.58), (0.80, 0.59, 0.45)),
        *((0.65, 0.45, 0.33), (0.47, 0.31, 0.22), (0.31, 0.20, 0.15)),
    )
    at = identity.melanin * (len(tones) - 1)
    tone = [np.interp(at, range(len(tones)), [t[k] for t in tones]) for k in range(3)]
    return np.asarray(np.array(tone) * (1 + np.array((0.03, -0.03, -0.02)) * (identity.redness - 0.5)), np.float32)


def _paint_body(sheet: _Sheet, identity: Identity) -> None:
    """Paint neck, shoulders and clothes."""
    x, y = sheet.x, sheet.y
    half = 0.262 * identity.face_width * (0.85 + 0.15 * identity.jaw_width)
    flare = 0.9 * np.clip(y - 0.52, 0, 1) ** 1.7
    neck = np.clip((half + flare - np.abs(x)) * sheet.px + 0.5, 0, 1) * (y > 0) * (y < 1.25)
    _set_cylinder(sheet, neck, x / (half + flare + 0.02))
    under_chin = np.clip(1 - (y - 0.42) / 0.38, 0, 1)
    shadow = (1 - 0.45 * under_chin**1.3)[..., None]
    colour = _skin_rgb(identity) * 0.97 * shadow * (1 + 0.012 * sheet.noise(0.05))[..., None]
    sheet.over(neck.astype(np.float32), colour, blood=0.35 * (1 - 0.5 * under_chin), shine=0.1)

    top = 0.70 + 0.27 * np.clip((np.abs(x) - 0.22) / 0.8, 0, 1.2) ** 0.9
    top = top + 0.9 * np.clip((np.abs(x) - 1.0) / 0.35, 0, 2) ** 2.2
    if identity.collar == "crew":
        dip = 0.15 * np.sqrt(np.clip(1 - (x / 0.36) ** 2, 0, 1))
    elif identity.collar == "vee":
        dip = 0.40 * np.clip(1 - np.abs(x) / 0.38, 0, 1) ** 0.9
    else:
        dip = 0.22 * np.clip(1 - np.abs(x) / 0.34, 0, 1) ** 0.8
    cloth = np.clip((y - top - dip) * sheet.px * 0.8, 0, 1)
    # The lowest row may be repeated downwards: fine grain there would become stripes.
    grain = 0.02 * np.clip((_BOTTOM - 0.06 - y) / 0.3, 0, 1)
    weave = grain * sheet.noise(0.012) + 0.04 * sheet.noise(0.25, 1.6)
    folds = 0.10 * np.sin(7 * x + 3 * sheet.noise(0.6, 1.5)) * np.clip((y - 0.95) / 0.5, 0, 1)
    colour = np.asarray(identity.clothes_rgb, np.float32) * (1 + weave + folds)[..., None]
    shade = sheet.blurred((cloth > 0.5).astype(np.float32), 0.03)
    _set_cylinder(sheet, cloth, np.clip(x / 1.45, -0.99, 0.99))
    sheet.over(cloth.astype(np.float32), colour * (0.55 + 0.45 * shade)[..., None])
    if identity.collar == "crew":
        rim = np.clip(1 - np.abs(y - top - dip - 0.022) / 0.022, 0, 1) * (np.abs(x) < 0.42)
        sheet.tint(rim.astype(np.float32), 0.85)
    elif identity.collar == "shirt":
        for side in (-1, 1):
            flap = [(side * 0.36, 0.70), (side * 0.50, 0.86), (side * 0.24, 1.16), (side * 0.02, 1.02)]
            mask = sheet.polygon(flap, blur=0.003) * cloth
            sheet.tint(sheet.polygon([(u, v + 0.02) for u, v in flap], blur=0.015) * cloth, 0.75)
            sheet.over(mask, np.clip(colour * 1.12, 0, 1))
        sheet.tint(sheet.line([(0.0, 1.05), (0.01, 1.7)], 0.008, blur=0.003), 0.6)


def _set_cylinder(sheet: _Sheet, mask: Image, across: Image) -> None:
    """Set the normals of an upright cylinder whose sides are at ``across`` = -1 and 1."""
    nx = np.clip(across, -0.96, 0.96)
    sheet.set_normals(mask, nx, np.full_like(nx, -0.1), -np.sqrt(1 - nx**2))


def _skull(identity: Identity) -> tuple[float, float, float]:
    """Return the middle (y) and the radii of the ellipse of the skull."""
    return -0.22, 0.45 * identity.face_width, 0.53


def _skull_radius(x: Image, y: Image, rx: float, ry: float) -> Image:
    """Return 1 on the skull's outline, 0 in its middle: a little squarer than an ellipse, as heads are."""
    return np.asarray((np.abs(x / rx) ** 2.4 + np.abs(y / ry) ** 2.4) ** (1 / 2.4))


def _paint_head(sheet: _Sheet, identity: Identity, points: Float) -> None:
    """Paint ears, skull and face: form, skin colour, blood."""
    skin = _skin_rgb(identity)
    x, y = sheet.x, sheet.y
    middle_y, rx, ry = _skull(identity)
    ears_covered = identity.hair_style in ("bob", "long", "curly", "scarf")
    for side, cheek in () if ears_covered else ((-1, points[234]), (1, points[454])):
        ex, ey = cheek[0] + side * 0.012, cheek[1] - 0.02
        outer = ((-0.03, -0.13), (0.035, -0.155), (0.062, -0.10), (0.048, 0.02), (0.022, 0.115), (-0.025, 0.10))
        ear = sheet.polygon([(ex + side * u, ey + v) for u, v in outer])
        sheet.over(ear, skin * np.array((0.97, 0.88, 0.86), np.float32), blood=0.5, shine=0.08)
        shell = ((0.012, -0.10), (0.036, -0.06), (0.016, 0.05))
        inner = sheet.line([(ex + side * u, ey + v) for u, v in shell], 0.014, blur=0.008)
        sheet.tint(inner, (0.72, 0.62, 0.60))

    oval = points[list(OVAL)]
    skull_edge = 1 - _skull_radius(x, y - middle_y, rx, ry)
    top_of_head = np.clip(skull_edge * sheet.px * 0.45 + 0.5, 0, 1) * (y < 0.05)
    # The temples fill the notch between skull and cheek bones.
    left, right = (points[234, 0], points[234, 1]), (points[454, 0], points[454, 1])
    temples = sheet.polygon([(-rx * 0.97, -0.25), (0, -0.5), (rx * 0.97, -0.25), right, (0, 0.3), left])
    outline = np.maximum.reduce([sheet.polygon(oval), top_of_head, temples])

    below = np.clip((points[:, 1] - 0.02) / 0.2, 0, 1)
    forehead, cheeks = forehead_and_cheeks(points[:, 0], points[:, 1])
    nose = bump(points[:, 0], points[:, 1] - 0.06, 0.06, 0.10)
    blood_at = 0.55 + 0.55 * forehead + 0.6 * cheeks + 0.15 * nose - 0.1 * below
    values = np.column_stack([landmark_normals(points), blood_at, 0.2 + 0.8 * cheeks + 0.6 * nose])
    maps, inside = _rasterise(points, sheet, values)
    # The mesh ends at the hairline; the skull's ellipsoid takes over softly, or a seam would show.
    nx = np.clip(x / (rx * 1.06), -0.95, 0.95)
    ny = np.clip((y - middle_y - 0.12) / (ry * 1.25), -0.95, 0.95)
    skull = np.stack([nx, ny, -np.sqrt(np.clip(1 - nx**2 - ny**2, 0.05, 1))], axis=2)
    depth = np.asarray(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)) / sheet.px
    trust = np.clip(depth / 0.10, 0, 1)
    trust = (trust * trust * (3 - 2 * trust))[..., None].astype(np.float32)
    normal = maps[..., :3] * trust + skull * (1 - trust)
    where = outline > 0.5
    sheet.normal[where] = sheet.blurred(normal.astype(np.float32), 0.010)[where]

    blood = sheet.blurred(maps[..., 3] * trust[..., 0] + 0.6 * (1 - trust[..., 0]), 0.02)
    blood = blood * (1 + 0.12 * np.clip(sheet.noise(0.25), -2, 2))
    flush = sheet.blurred(maps[..., 4] * trust[..., 0], 0.04)
    mottle = 0.5 * sheet.noise(0.12) + 0.35 * sheet.noise(0.05) + 0.25 * sheet.noise(0.02)
    pores = sheet.noise(0.006)
    red = 0.5 * identity.redness * flush * (1 - 0.6 * identity.melanin)
    grain = 1 + 0.018 * mottle + 0.018 * pores
    shades = [1 + 0.012 * mottle + 0.016 * pores + 0.03 * red, grain - 0.20 * red, grain - 0.17 * red]
    colour = skin[None, None] * np.stack(shades, axis=2).astype(np.float32)
    sheet.over(outline, colour, blood=blood.astype(np.float32), shine=(0.16 * (1 + 0.12 * pores)).astype(np.float32))
    sheet.face = sheet.polygon(oval)
    # Skin turns away from the camera at the rim and gathers less light there.
    rim = 1 - sheet.blurred(outline, 0.03)
    rim = np.clip(2 * rim, 0, 1) * outline * np.clip(1 + (y + 0.45) / 0.3, 0, 1)
    sheet.tint(rim, (0.80, 0.72, 0.70))

    if identity.freckles > 0:
        spots = sheet.noise(0.011) + 0.4 * sheet.noise(0.004)
        strength = np.clip(spots - 1.2, 0, 1.0) * np.clip(flush * 1.4, 0, 1) * identity.freckles
        sheet.tint(strength.astype(np.float32), (0.80, 0.66, 0.58))
    for _ in range(int(sheet.rng.integers(0, 3))):
        mole_x, mole_y = sheet.rng.uniform((-0.3, -0.4), (0.3, 0.4))
        size = sheet.rng.uniform(0.003, 0.006)
        sheet.tint(sheet.disc(mole_x, mole_y, size, size, 0.8) * sheet.face, (0.66, 0.54, 0.50))

    for eye, wing, corner in zip(EYES, points[[129, 358]], points[[61, 291]], strict=True):
        ring = points[list(eye)]
        cx, cy = ring[:, :2].mean(axis=0)
        sheet.tint(sheet.spot(cx, cy - 0.012, 0.075, 0.045) * outline, (0.90, 0.84, 0.84))
        inner_x, inner_y = float(ring[8, 0]), float(ring[8, 1])
        sheet.tint(sheet.spot(inner_x * 0.92, inner_y - 0.02, 0.03, 0.05) * outline, (0.86, 0.80, 0.79))
        bag = sheet.line([(p[0], p[1] + 0.028) for p in ring[[9, 11, 12, 14]]], 0.016, blur=0.012)
        sheet.tint(bag, 1 - np.array((0.10, 0.14, 0.13)) * (0.4 + 1.6 * identity.age))
        between = (wing[1] * 2 + corner[1]) / 3
        fold = [(wing[0] * 1.12, wing[1]), (wing[0] * 1.3, between), (corner[0] * 1.14, corner[1] - 0.03)]
        depth_of_fold = 0.06 + 0.18 * identity.age + 0.06 * max(0.0, identity.smile)
        sheet.tint(sheet.line(fold, 0.014, blur=0.012), 1 - depth_of_fold)
    for k in range(3) if identity.age > 0.5 else ():
        wrinkle_y = -0.40 + 0.055 * k
        path = [(u, wrinkle_y + v) for u, v in ((-0.2, 0.01), (-0.07, -0.006), (0.08, 0.004), (0.2, 0.012))]
        sheet.tint(sheet.line(path, 0.008, blur=0.006), 1 - 0.22 * (identity.age - 0.4))


def _paint_eyes(sheet: _Sheet, identity: Identity, points: Float) -> None:
    iris = np.asarray(identity.iris_rgb, np.float32)
    lash: Rgb = (0.07, 0.05, 0.05) if identity.melanin > 0.3 else (0.16, 0.10, 0.08)
    gaze = sheet.rng.uniform(-0.006, 0.006)
    for eye in EYES:
        ring = points[list(eye)][:, :2]
        upper, lower = ring[:9], np.concatenate([ring[8:], ring[:1]])
        opening = sheet.polygon(ring)
        cx, cy = (ring[0, 0] + ring[8, 0]) / 2 + gaze, (ring[4, 1] + ring[12, 1]) / 2 - 0.002
        radius = 0.033 * (0.6 + 0.4 * identity.eye_size)
        ball = 1 - 0.28 * np.clip(((sheet.x - cx) / 0.085) ** 2, 0, 1)
        white = np.array((0.80, 0.78, 0.765), np.float32) * ball[..., None].astype(np.float32)
        sheet.over(opening, white, shine=0.05)
        pink = sheet.spot(float(ring[8, 0]), float(ring[8, 1]), 0.014, 0.012) * opening
        sheet.tint(pink, (0.95, 0.68, 0.66))
        distance = np.hypot(sheet.x - cx, sheet.y - cy) / radius
        spokes = 1 + 0.12 * np.sin(np.arctan2(sheet.y - cy, sheet.x - cx) * 23) * (distance > 0.45)
        shades = iris * (np.clip(1.25 - 0.75 * distance**3, 0.3, 1.3) * spokes)[..., None]
        sheet.over(sheet.disc(cx, cy, radius, radius, 0.12) * opening, np.clip(shades, 0, 1).astype(np.float32))
        sheet.over(sheet.disc(cx, cy, radius * 0.42, radius * 0.42, 0.25) * opening, (0.02, 0.02, 0.02))
        sheet.tint(sheet.line(upper + np.array((0, 0.008)), 0.022, blur=0.006) * opening, 0.42)
        glint = sheet.disc(cx + radius * 0.35, cy - radius * 0.4, radius * 0.22, radius * 0.22, 0.6) * opening
        sheet.over(glint, (0.97, 0.97, 0.97))
        sheet.over(sheet.line(upper + np.array((0, -0.002)), 0.011, blur=0.002) * 0.9, lash)
        crease = upper[1:8] + np.array((0, -0.026 * (0.7 + 0.3 * identity.eye_opening)))
        sheet.tint(sheet.line(crease, 0.010, blur=0.006), (0.72, 0.66, 0.66))
        sheet.tint(sheet.line(lower + np.array((0, 0.003)), 0.007, blur=0.003), (0.72, 0.62, 0.60))


def _paint_mouth_and_nose(sheet: _Sheet, identity: Identity, points: Float) -> None:
    upper = np.concatenate([points[list(LIP_UPPER)], points[list(LIP_UPPER_INNER)][::-1]])
    lower = np.concatenate([points[list(LIP_LOWER)], points[list(LIP_LOWER_INNER)][::-1]])
    seam = (points[list(LIP_UPPER_INNER)] + points[list(LIP_LOWER_INNER)]) / 2
    lip = _skin_rgb(identity) * np.array((0.90, 0.66, 0.68), np.float32) * (1 - 0.1 * identity.melanin)
    streaks = (1 + 0.05 * sheet.noise(0.008, 4))[..., None].astype(np.float32)
    both = np.maximum(sheet.polygon(upper, blur=0.006), sheet.polygon(lower, blur=0.006))
    sheet.tint(sheet.spot(0, float(points[17, 1]) + 0.035, 0.09, 0.016), 0.84)
    face = sheet.face.copy()
    sheet.over(both, lip * streaks, blood=0.4, shine=0.22)
    sheet.face = face
    sheet.tint(sheet.polygon(upper, blur=0.004), 0.86)
    sheet.tint(sheet.line(seam, 0.010, blur=0.004), (0.36, 0.26, 0.27))
    for corner in (points[61], points[291]):
        sheet.tint(sheet.spot(float(corner[0]), float(corner[1]), 0.014, 0.012), 0.68)
    philtrum = [(0.0, float(points[2, 1]) + 0.012), (0.0, float(points[0, 1]) - 0.008)]
    sheet.tint(sheet.line(philtrum, 0.02, blur=0.01), 0.93)

    tip, base = points[1], points[2]
    under = sheet.spot(float(base[0]), float(base[1]) + 0.014, 0.075 * identity.nose_width, 0.020)
    sheet.tint(under, (0.74, 0.68, 0.67))
    for wing, hole in ((points[129], points[98]), (points[358], points[327])):
        hx, hy = 0.52 * hole[0] + 0.48 * base[0], 0.5 * hole[1] + 0.5 * base[1] - 0.006
        sheet.tint(sheet.disc(hx, hy, 0.022 * identity.nose_width, 0.0105, 0.9), (0.24, 0.15, 0.14))
        outer = [(wing[0] * 0.98, wing[1] - 0.028), (wing[0] * 1.06, wing[1]), (wing[0] * 0.92, wing[1] + 0.022)]
        sheet.tint(sheet.line(outer, 0.010, blur=0.007), (0.66, 0.58, 0.57))
        bridge = [(wing[0] * 0.62, -0.16), (wing[0] * 0.52, -0.05), (wing[0] * 0.72, wing[1] - 0.05)]
        sheet.tint(sheet.line(bridge, 0.03, blur=0.022), 0.88)
    sheet.shine += 0.16 * sheet.spot(float(tip[0]), float(tip[1]) - 0.01, 0.03, 0.03)
    sheet.shine += 0.08 * sheet.spot(0, -0.08, 0.016, 0.09)


def _paint_brows_and_beard(sheet: _Sheet, identity: Identity, points: Float) -> None:
    hair = np.asarray(identity.hair_rgb if identity.hair_style != "scarf" else (0.12, 0.08, 0.06), np.float32)
    dark = np.minimum(hair * 0.8, 0.42)
    strands = (1 + 0.18 * sheet.noise(0.005, 2.5))[..., None].astype(np.float32)
    for ring in BROWS:
        outline = points[list(ring)][:, :2].copy()
        spine = (outline[:5] + outline[:4:-1]) / 2
        profile = np.array([0.35, 0.7, 0.9, 1.0, 0.85])[:, None] * 0.020 * identity.brow_thickness
        spine[:, 1] += 0.004
        lower = spine + profile * (0, 0.8)
        mask = sheet.polygon(np.concatenate([spine - profile * (0, 1), lower[::-1]]), blur=0.006)
        ragged = np.clip(mask * (1.0 + 0.18 * sheet.noise(0.004, 2.0)) - 0.05, 0, 1)
        sheet.over((ragged * 0.82).astype(np.float32), dark * strands)

    if identity.beard == "none":
        return
    x, y = points[:, 0], points[:, 1]
    lip_y, over_lip = float(points[13, 1]), y - (points[2, 1] + points[0, 1]) / 2 - 0.01
    if identity.beard == "moustache":
        density = np.exp(-0.5 * ((x / 0.09) ** 4 + (over_lip / 0.026) ** 4))
    else:
        jaw = np.clip((y - (lip_y - 0.10 + 0.55 * np.clip(0.36 - np.abs(x), 0, 1) ** 1.0)) / 0.10, 0, 1)
        side = np.clip((np.abs(x) - 0.33) / 0.05, 0, 1) * np.clip((y + 0.02) / 0.12, 0, 1)
        chin = np.clip(1 - np.abs(x) / 0.22, 0, 1) * np.clip((y - lip_y - 0.05) / 0.06, 0, 1) * 2
        moustache = np.exp(-0.5 * ((x / 0.10) ** 4 + (over_lip / 0.028) ** 4))
        density = np.clip(np.maximum.reduce([jaw, side, chin, moustache]), 0, 1)
    mask = sheet.blurred(_rasterise(points, sheet, density[:, None])[0][..., 0], 0.012)
    lips = np.concatenate([points[list(LIP_UPPER)], points[list(LIP_LOWER)][::-1]])
    mask = mask * (1 - sheet.polygon(lips, blur=0.006)) * (sheet.alpha > 0.5)
    if identity.beard == "stubble":
        dots = np.clip(0.30 + 0.20 * sheet.noise(0.004), 0, 0.7)
        sheet.over((mask * dots).astype(np.float32), dark * 1.1)
        return
    ragged = np.clip(mask * (1.25 + 0.35 * sheet.noise(0.008, 2.5)) - 0.12, 0, 1)
    curls = 1 + 0.22 * sheet.noise(0.008, 3) + 0.10 * sheet.noise(0.03, 2)
    sheet.over((ragged * 0.95).astype(np.float32), (hair * curls[..., None]).astype(np.float32), shine=0.03)


class _HairCut(NamedTuple):
    """Measures of a hair style, in face heights."""

    thick: float
    """Distance of the hair's surface from the skull."""
    top: float
    """Hairline over the middle of the forehead (y)."""
    half: float
    """Half the width of the window through which the face looks out."""
    ends: float
    """Lower end at the sides (y)."""
    rough: float
    """Raggedness of the hairline."""
    ripple: float
    """Raggedness of the outline, relative to the head."""


_CUTS = {
    "buzz": _HairCut(thick=0.012, top=-0.56, half=0.405, ends=-0.06, rough=0.005, ripple=0.002),
    "short": _HairCut(thick=0.05, top=-0.55, half=0.41, ends=-0.03, rough=0.010, ripple=0.006),
    "side": _HairCut(thick=0.07, top=-0.54, half=0.405, ends=0.0, rough=0.007, ripple=0.005),
    "bob": _HairCut(thick=0.075, top=-0.40, half=0.375, ends=0.50, rough=0.010, ripple=0.004),
    "long": _HairCut(thick=0.07, top=-0.56, half=0.385, ends=1.25, rough=0.005, ripple=0.005),
    "curly": _HairCut(thick=0.16, top=-0.50, half=0.39, ends=0.25, rough=0.016, ripple=0.02),
    "scarf": _HairCut(thick=0.06, top=-0.50, half=0.39, ends=0.75, rough=0.001, ripple=0.001),
}


def _hair_colour(sheet: _Sheet, identity: Identity) -> tuple[Image, Image]:
    """Return colour (H, W, 3) and relative brightness (H, W) of the strands or the cloth."""
    style = identity.hair_style
    base = np.asarray(identity.scarf_rgb if style == "scarf" else identity.hair_rgb, np.float32)
    if style == "scarf":
        waves = 1 + 0.05 * np.sin(9 * np.hypot(sheet.x, sheet.y + 0.2) + sheet.noise(0.5)) + 0.012 * sheet.noise(0.01)
    elif style == "curly":
        waves = 1 + 0.16 * sheet.noise(0.025) + 0.12 * sheet.noise(0.010)
    elif style == "buzz":
        waves = 1 + 0.12 * sheet.noise(0.006)
    else:
        waves = 1 + 0.09 * sheet.noise(0.008, 14) + 0.08 * sheet.noise(0.03, 9) + 0.06 * sheet.noise(0.12, 3)
    waves = np.clip(waves, 0.3, 1.7).astype(np.float32)
    return np.clip(base * waves[..., None], 0, 1), waves


def _paint_hair_behind(sheet: _Sheet, identity: Identity) -> None:
    """Paint the hair or cloth that hangs behind the neck."""
    if identity.hair_style not in ("bob", "long", "curly", "scarf"):
        return
    cut = _CUTS[identity.hair_style]
    middle_y, rx, _ = _skull(identity)
    width = rx + cut.thick - 0.01
    mask = np.clip((width + cut.ripple * sheet.noise(0.06, 2) - np.abs(sheet.x)) * sheet.px * 0.4, 0, 1)
    mask = mask * (sheet.y > middle_y) * np.clip((cut.ends + 0.02 * sheet.noise(0.014, 5) - sheet.y) / 0.04, 0, 1)
    _set_cylinder(sheet, mask, np.clip(sheet.x / (width + 0.05), -0.95, 0.95))
    sheet.over(mask.astype(np.float32), _hair_colour(sheet, identity)[0] * np.float32(0.55))


def _paint_hair(sheet: _Sheet, identity: Identity) -> None:
    style = identity.hair_style
    if style == "bald":
        return
    cut = _CUTS[style]
    x, y = sheet.x, sheet.y
    middle_y, rx, ry = _skull(identity)
    wobble, fringe = sheet.noise(0.06, 2.0), sheet.noise(0.016, 5.0)
    parted = 1.0 if sheet.rng.uniform() < 0.5 else -1.0
    top = cut.top + float(sheet.rng.uniform(-0.03, 0.03))
    half = cut.half * identity.face_width

    # The face looks out of a window, round above and straight below.
    hairline = top + cut.rough * fringe
    if style == "side":
        hairline = hairline + 0.06 * parted * x / half
    if style == "long":
        hairline = hairline + 0.10 * np.abs(x / half)
    rise = np.clip((0.05 - y) / np.maximum(0.05 - hairline, 0.1), 0, None)
    power = 2.3 if style in ("long", "scarf", "curly") else 3.0
    inside = 1 - (np.abs(x + 0.3 * cut.rough * fringe) / half) ** power - rise**power
    window = np.clip(inside * sheet.px * 0.12 + 0.5, 0, 1)

    crown = _skull_radius(x, y - middle_y, rx + cut.thick, ry + cut.thick)
    cap = np.clip((1 + cut.ripple * wobble - crown) * sheet.px * 0.45 + 0.5, 0, 1)
    if style in ("buzz", "short", "side"):
        mask = cap * np.clip((cut.ends - y) / 0.12 + 0.15 * fringe, 0, 1) * (1 - window)
    else:
        curtain = np.clip((rx + cut.thick + cut.ripple * wobble - np.abs(x)) * sheet.px * 0.4, 0, 1)
        inner = half * (1 - 0.12 * np.clip(y - 0.05, 0, 1)) + cut.ripple * 0.5 * wobble
        curtain = curtain * np.clip((np.abs(x) - inner) * sheet.px * 0.3 + 0.5, 0, 1) * (y > middle_y)
        curtain = curtain * np.clip((cut.ends + 0.02 * fringe - y) / 0.05, 0, 1)
        mask = np.maximum(cap * (1 - window) * (y < 0.1), curtain * (1 - window))
        if style == "scarf":
            chin = np.sqrt((x / half) ** 2 + (np.clip(y - 0.05, 0, None) / 0.44) ** 2)
            wrap = np.clip((chin - 1) * sheet.px * 0.2 + 0.5, 0, 1) * (y > 0.05)
            wrap = wrap * np.clip((rx + cut.thick + 0.35 * np.clip(y - 0.5, 0, 1) - np.abs(x)) * sheet.px * 0.4, 0, 1)
            mask = np.maximum(mask, wrap * np.clip((1.0 + 0.08 * np.cos(3 * x) - y) * sheet.px * 0.4, 0, 1))
    mask = mask.astype(np.float32)

    colour, waves = _hair_colour(sheet, identity)
    if style == "side":
        path = [(-parted * 0.16, top + 0.02), (-parted * 0.14, -0.66), (-parted * 0.10, -0.76)]
        colour = colour * (1 - 0.45 * sheet.line(path, 0.006, blur=0.004)[..., None])
    shadow = sheet.blurred(mask, 0.025) * (1 - mask) * sheet.alpha
    sheet.tint(np.clip(shadow * 1.1, 0, 1).astype(np.float32), (0.66, 0.58, 0.56))
    body = np.clip(1.2 * sheet.blurred(mask, 0.04), 0, 1)
    nx = np.clip(x / (rx + cut.thick + 0.06), -0.94, 0.94)
    ny = np.clip((y - middle_y) / (ry + cut.thick + 0.06), -0.94, 0.3)
    sheet.set_normals(mask, nx, ny, -np.sqrt(np.clip(1 - nx**2 - ny**2, 0.06, 1)))
    shine = 0.0 if style == "scarf" else 0.05 * waves
    sheet.over(mask * np.float32(0.85 if style == "buzz" else 1.0), colour * (0.5 + 0.5 * body)[..., None], shine=shine)


def _paint_glasses(sheet: _Sheet, identity: Identity, points: Float) -> None:
    frame = 0.010 if identity.glasses == "thin" else 0.024
    colour: Rgb = (0.25, 0.24, 0.24) if identity.glasses == "thin" else (0.09, 0.07, 0.06)
    squareness = float(sheet.rng.uniform(2.0, 4.5))
    inner = []
    for eye, end, sign in ((EYES[0], points[234], -1), (EYES[1], points[454], 1)):
        ring = points[list(eye)][:, :2]
        cx, cy = float(ring[:, 0].mean()) * 1.02, float(ring[:, 1].mean()) + 0.012
        u, v = np.abs(sheet.x - cx) / 0.128, np.abs(sheet.y - cy) / 0.095
        radius = (u**squareness + v**squareness) ** (1 / squareness)
        rim = np.clip((frame / 2 - np.abs(radius - 1) * 0.11) * sheet.px + 0.5, 0, 1).astype(np.float32)
        glare = (radius < 1) * np.clip(1 - np.abs((sheet.x - cx) + 0.8 * (sheet.y - cy) - 0.03) / 0.03, 0, 1)
        sheet.shine += (0.10 * sheet.blurred(glare.astype(np.float32), 0.01)).astype(np.float32)
        sheet.tint(sheet.blurred(rim, 0.012) * (1 - rim), 0.85)
        sheet.over(rim, colour, shine=0.3)
        outer, tip = cx + sign * 0.128, float(end[0])
        temple = sheet.line([(outer, cy - 0.03), ((outer + tip) / 2, cy - 0.034), (tip, cy - 0.03)], frame * 0.9)
        sheet.over(temple, colour, shine=0.1)
        inner.append(cx - sign * 0.128)
    y = float(points[list(EYES[0])][:, 1].mean()) - 0.012
    bridge = sheet.line([(inner[0], y), ((inner[0] + inner[1]) / 2, y - 0.018), (inner[1], y)], frame)
    sheet.over(bridge, colour, shine=0.3)


# ---------------------------------------------------------------------------------------------------------------------
# Light


def _key_direction(light: Illumination) -> NDArray[np.float32]:
    """Return the (3,) unit vector towards the key light."""
    azimuth, elevation = np.radians([light.azimuth_deg, light.elevation_deg])
    return np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)], np.float32
    )


def shading(normals: Image, light: Illumination) -> Image:
    """Return (...) the light that a matt surface of unit normals (..., 3) gathers; 1 where it faces the key light.

    Skin lets light in and out again beside where it came in, so the edge of its shadow is soft: a wrapped Lambert.
    """
    wrap = np.float32(0.3)
    wrapped = np.clip((normals @ _key_direction(light) + wrap) / (1 + wrap), 0, None)
    sky = 0.75 - 0.25 * normals[..., 1]
    return np.asarray(light.ambient * sky + (1 - light.ambient) * wrapped, np.float32)


def gleam(normals: Image, light: Illumination) -> Image:
    """Return (...) the key light that a glossy surface of unit normals (..., 3) mirrors to the camera."""
    half_way = _key_direction(light) + np.array((0, 0, -1), np.float32)
    half_way /= np.linalg.norm(half_way)
    facing = np.clip(normals @ half_way, 0, 1)
    return np.asarray((facing**18 * 0.8 + facing**60 * 0.7) * (1 - 0.5 * light.ambient), np.float32)


def _shade(sheet: _Sheet, points: Float, face_px: float, light: Illumination) -> FaceTexture:
    """Light the painted sheet and reduce it to ``face_px``."""
    size = (round((_RIGHT - _LEFT) * face_px), round((_BOTTOM - _TOP) * face_px))

    def reduced(image: Image) -> Image:
        return np.asarray(cv2.resize(np.ascontiguousarray(image, np.float32), size, interpolation=cv2.INTER_AREA))

    normal = sheet.normal / np.maximum(np.linalg.norm(sheet.normal, axis=2, keepdims=True), 1e-6)
    lit = np.clip(sheet.rgb, 0, 1) ** DISPLAY_GAMMA * shading(normal, light)[..., None]
    # Average light, not colours: what a sensor pixel does. Divide by alpha, because background is laid in later.
    alpha = reduced(sheet.alpha)
    cover = np.maximum(alpha, 1e-3)
    diffuse = reduced(lit * sheet.alpha[..., None]) / cover[..., None]
    specular = reduced(sheet.shine * gleam(normal, light) * sheet.alpha) / cover
    green = lit[..., 1] * sheet.alpha
    blood = reduced(np.clip(sheet.blood, 0, None) * green) / np.maximum(diffuse[..., 1] * cover, 1e-5)
    blood[alpha < 0.02] = 0
    skin = (reduced(sheet.face) > 0.9) & (blood > 0.25)
    received = diffuse[..., 1] + specular
    weight = float((diffuse[..., 1] * blood)[skin].sum() / received[skin].sum())
    x, y = reduced(sheet.x), reduced(sheet.y)
    delay_s = (0.012 * y / 0.5 + 0.006 * x / 0.4 + 0.004 * reduced(sheet.noise(0.3))).astype(np.float32)
    delay_s -= np.float32(delay_s[skin].mean())
    return FaceTexture(
        face_px=float(face_px),
        diffuse=diffuse.astype(np.float32),
        specular=specular.astype(np.float32),
        shine=(reduced(sheet.shine * sheet.alpha) / cover).astype(np.float32),
        alpha=alpha,
        blood=(blood / np.float32(weight)).astype(np.float32),
        delay_s=np.clip(delay_s, -0.02, 0.02),
        skin=skin,
        mesh_xyz=np.asarray((points - (_LEFT, _TOP, 0)) * face_px - (0.5, 0.5, 0)),
        centre_xy=(-_LEFT * face_px, -_TOP * face_px),
        light=light,
    )
