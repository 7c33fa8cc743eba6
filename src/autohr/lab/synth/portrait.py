"""Portraits: a photograph of a person as a ``FaceTexture``, with the place of skin and blood and the person's outline.

A drawn face has the features we thought of; a photograph has those of a real face. It needs the 468 landmarks of the
mediapipe face mesh (any detector of that mesh will do; none is shipped) and nothing else. What a photograph cannot
tell, its light without the gloss and the strength of the pulse at each place, is estimated here or drawn at random;
every such number was chosen by us, and its comment says how.

Skin is looked for in each picture by itself: the colour of patches of cheeks, forehead and nose, without brightness,
and the brightness that its surroundings lead one to expect. No tone is assumed, so light and dark skin and coloured
light are treated alike. The numbers were chosen by looking at the maps of 79 portraits of many skin tones.

Lengths are in *face heights*, as in ``face.py``: hairline (landmark 10) to chin (landmark 152) is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording
from autohr.lab.synth import face
from autohr.lab.synth.face import DISPLAY_GAMMA, FaceTexture, Illumination, Image, bump, fixed_point, smooth_noise
from autohr.types import Float, Frame

Mask = NDArray[np.bool_]

LANDMARKS_FILE = "landmarks.npz"
"""Landmarks beside the pictures: for each ``NAME.jpg`` an array ``NAME`` (468, 3) of x, y, z in its pixels, where a
smaller z is nearer to the camera. Arrays of other names than the pictures' are ignored."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
LEAST_SKIN = 0.12
"""Least share of the face that must be bare skin: a camera or a hat brim before the face leaves less, a full beard with
glasses 0.3 or more."""

_WORK_PX = 160.0
"""Face height, in pixels, at which a picture is analysed: skin and hair tell apart, and it takes under a second."""
_CUT_PX = 300
"""Longer side at which the person is cut out: grabCut takes 0.6 s there, 1.7 s at 500 pixels, with the same outline."""
_MAX_FAINT = 0.135
"""Largest share of a cut-out's outline without contrast."""
_MAX_BITTEN, _MAX_SPILLED = 0.04, 0.03
"""Largest share of the top of the head that a cut-out may lack, and of it that may lie far beside the head."""
_LIP_BLOOD, _NECK_BLOOD, _EAR_BLOOD, _BEARD_BLOOD = 0.4, 0.45, 0.5, 0.15
"""Strength of the pulse relative to bare skin of the face, as ``face.py`` draws them."""
_SKIN_AT = 0.5
"""Probability of skin from which a pixel counts as skin."""
_SEEDS = (50, 280, 205, 425, 101, 330, 36, 266, 151, 9, 108, 337, 69, 299, 5, 195)
"""Landmarks in the middle of cheeks, forehead and nose, which are skin on most people."""
_NOSTRILS = (60, 20, 242, 94, 462, 250, 290)


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photograph of one person, with the landmarks of the face."""

    name: str
    rgb: Frame
    """(H, W, 3) uint8."""
    mesh_xyz: Float
    """(468, 3) x, y, z in pixels, mediapipe face mesh numbering; z smaller = nearer to the camera."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb is {self.rgb.dtype} of shape {self.rgb.shape}; a picture is uint8 (H, W, 3), RGB.")
        if self.mesh_xyz.shape != (468, 3):
            raise ValueError(f"mesh_xyz has shape {self.mesh_xyz.shape}; the face mesh has (468, 3).")

    @property
    def face_px(self) -> float:
        """Height of the face, hairline to chin, in pixels of the photograph."""
        return float(np.linalg.norm(self.mesh_xyz[152, :2] - self.mesh_xyz[10, :2]))

    @property
    def cut_out(self) -> bool:
        """True where the person is separable from the background, so that ``portrait_texture`` may cut him out."""
        return self._analysis.cut_out

    @property
    def skin_share(self) -> float:
        """Share of the face that is bare skin, 0..1. ``portrait_texture`` refuses less than ``LEAST_SKIN``."""
        return self._analysis.skin_share

    @cached_property
    def _analysis(self) -> _Analysis:
        return _analyse(self)


def load_portraits(folder: Path) -> tuple[Portrait, ...]:
    """Read the portraits of a folder, sorted by name; pictures without landmarks are left out.

    Raises
    ------
    BadRecording
        There is no folder, no ``landmarks.npz``, no picture with landmarks, or one of them is damaged.
    """
    folder = Path(folder)
    marks = _read_landmarks(folder)
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not pictures:
        raise BadRecording(f"{folder} holds no picture ({', '.join(PICTURES)}).")
    found = []
    for path in pictures:
        if path.stem not in marks:
            continue
        mesh = np.asarray(marks[path.stem])
        if mesh.shape != (468, 3) or mesh.dtype.kind != "f" or not np.isfinite(mesh).all():
            raise BadRecording(
                f"{folder / LANDMARKS_FILE}: {path.stem!r} is {mesh.dtype} of shape {mesh.shape} or not finite; "
                "landmarks are finite floats (468, 3): x, y, z in pixels. Measure this picture again."
            )
        bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
        if bgr is None:
            raise BadRecording(f"{path} cannot be read as a picture. Replace it, or take it out of the folder.")
        portrait = Portrait(path.stem, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), mesh.astype(float))
        height, width = portrait.rgb.shape[:2]
        x, y = portrait.mesh_xyz[:, :2].mean(axis=0)
        if not (0 <= x < width and 0 <= y < height and portrait.face_px >= 16):
            raise BadRecording(
                f"{folder / LANDMARKS_FILE}: the face of {path.stem!r} is {portrait.face_px:.0f} pixels high, "
                f"around ({x:.0f}, {y:.0f}), the picture {width}x{height}; a face lies in its picture and is 16 "
                "pixels high or more. Measure the landmarks in pixels of this very picture."
            )
        found.append(portrait)
    if not found:
        raise BadRecording(
            f"{folder}: {len(pictures)} pictures, none with landmarks in {LANDMARKS_FILE}. Each NAME{PICTURES[0]} "
            "needs an array NAME there."
        )
    return tuple(found)


def _read_landmarks(folder: Path) -> dict[str, NDArray[np.generic]]:
    if not folder.is_dir():
        raise BadRecording(f"{folder} is not a folder. Name the folder that holds the pictures and {LANDMARKS_FILE}.")
    file = folder / LANDMARKS_FILE
    if not file.is_file():
        raise BadRecording(
            f"{folder} has no {LANDMARKS_FILE}. It holds, for each picture NAME, an array NAME (468, 3) of x, y, z in "
            "pixels: the mediapipe face mesh."
        )
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # those of numpy on a damaged archive have no common base
        raise BadRecording(f"{file} is damaged or no npz archive ({error}). Make it again.") from error


def portrait_texture(
    portrait: Portrait, face_px: float, rng: np.random.Generator, cut_out: bool = False
) -> FaceTexture:
    """Scale a portrait to a face height of ``face_px``, and draw gloss, strength and delay of the pulse by ``rng``.

    The picture itself is not changed. The first call for a portrait analyses it (half a second, four at worst); later
    ones take 30 ms at a ``face_px`` of 150.

    Parameters
    ----------
    cut_out
        False shows the person before his own background (``alpha`` is 1); True cuts him out.

    Raises
    ------
    ValueError
        ``face_px`` is outside 16..1200, or ``cut_out`` is True where ``portrait.cut_out`` is False.
    BadRecording
        The portrait shows too little bare skin for a pulse.
    """
    if not 16 <= face_px <= 1200:
        raise ValueError(f"face_px={face_px} is outside 16..1200 pixels.")
    analysis = portrait._analysis
    if analysis.skin_share < LEAST_SKIN:
        raise BadRecording(
            f"Portrait {portrait.name!r}: {100 * analysis.skin_share:.0f} % of the face is bare skin; at least "
            f"{100 * LEAST_SKIN:.0f} % is needed for a pulse. Leave this picture out."
        )
    if cut_out and not analysis.cut_out:
        raise ValueError(
            f"Portrait {portrait.name!r} could not be told from its background (portrait.cut_out is False): "
            "use cut_out=False."
        )
    height, width = portrait.rgb.shape[:2]
    scale = face_px / portrait.face_px
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    light = _resized(_LIGHT_OF_GREY[portrait.rgb], size)
    maps = np.dstack([_resized(analysis.maps[..., k : k + 4], size) for k in range(0, analysis.maps.shape[2], 4)])
    strength, beard, forehead, cheeks, nose, low, bare, gloss, matte = (
        np.ascontiguousarray(maps[..., k]) for k in range(len(_MAPS))
    )

    across, down = _head_axes(portrait.mesh_xyz, portrait.rgb.shape[:2], size)
    by_forehead, by_cheeks, by_nose, by_low = 0.45 * rng.uniform(0.6, 1.4, 4) * (1, 1.1, 0.3, 0.8)
    tilt = rng.uniform(-0.12, 0.12)
    field = 0.62 + by_forehead * forehead + by_cheeks * cheeks + by_nose * nose - by_low * low
    field = field * (1 + tilt * across) * (1 + 0.13 * np.clip(smooth_noise(rng, size[::-1], 0.25 * face_px), -2, 2))
    hair = rng.uniform(0.6, 1.6)
    blood = strength * np.clip(field, 0.4, 1.3) + hair * _BEARD_BLOOD * beard

    specular = np.minimum(gloss * light.min(axis=2), light.min(axis=2))
    diffuse = light - specular[..., None]
    alpha = np.ones_like(matte)
    if cut_out:
        alpha = np.clip(matte, 0, 1)
        diffuse = _without_backdrop(diffuse, alpha)
        blood = blood * (alpha > 0.02)

    skin = bare > 0.7
    if not skin.any():
        skin = bare >= float(bare.max())
    received = float(light[..., 1][skin].sum())
    weight = float((diffuse[..., 1] * blood)[skin].sum()) / max(received, 1e-6)
    blood = blood / max(weight, 1e-6)

    oily = 0.045 + rng.uniform(0.5, 1.3) * (0.07 * forehead + 0.09 * nose + 0.06 * cheeks)
    oily = oily * (1 + 0.2 * np.clip(smooth_noise(rng, size[::-1], 0.12 * face_px), -2, 2))
    shine = np.clip(oily, 0.02, 0.25) * np.clip(strength, 0, 1)

    # A few milliseconds from the heart outwards, as ``synth/face.py`` draws it.
    delay_s = 0.024 * down + 0.015 * across + 0.004 * smooth_noise(rng, size[::-1], 0.3 * face_px)
    delay_s = delay_s - delay_s[skin].mean()
    mesh = _moved(portrait.mesh_xyz, portrait.rgb.shape[:2], size)
    middle = (mesh[10, :2] + mesh[152, :2]) / 2
    return FaceTexture(
        face_px=float(face_px),
        diffuse=diffuse.astype(np.float32),
        specular=specular.astype(np.float32),
        shine=shine.astype(np.float32),
        alpha=alpha.astype(np.float32),
        blood=blood.astype(np.float32),
        delay_s=np.clip(delay_s, -0.02, 0.02).astype(np.float32),
        skin=skin,
        mesh_xyz=mesh,
        centre_xy=(float(middle[0]), float(middle[1])),
        light=analysis.light,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Analysis of one photograph

_MAPS = ("strength", "beard", "forehead", "cheeks", "nose", "low", "bare", "gloss", "matte")


@dataclass(frozen=True)
class _Analysis:
    """Properties of a portrait that do not depend on size and chance."""

    maps: Image
    """(h, w, 9) at about ``_WORK_PX``, the channels of ``_MAPS``: strength of the pulse by kind of tissue (1 is bare
    skin of the face), beard, forehead, cheek, nose, lower face, bare skin of the face, mirrored share of the darkest
    channel, matte of the person."""
    cut_out: bool
    skin_share: float
    light: Illumination


def _analyse(portrait: Portrait) -> _Analysis:
    height, width = portrait.rgb.shape[:2]
    scale = min(1.0, _WORK_PX / portrait.face_px)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    rgb = np.asarray(cv2.resize(portrait.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    mesh = _moved(portrait.mesh_xyz, (height, width), size)
    px = float(np.linalg.norm(mesh[152, :2] - mesh[10, :2]))
    light = _LIGHT_OF_GREY[rgb]

    shell = _on_mesh(mesh, rgb.shape[:2])
    hull = shell[..., 0] > 0.5
    forehead, cheeks, nose, low, beard_zone = (_blurred(shell[..., k], 0.03 * px) for k in range(1, 6))
    across, down = _head_axes(portrait.mesh_xyz, (height, width), size)
    eyes, brows, lips, mouth, nostrils = _features(mesh, rgb.shape[:2], px)
    matte, cut_out = _matte(rgb, hull, across, down)

    candidates = hull & (np.maximum.reduce([eyes, brows, lips, mouth]) < 0.3)
    by_colour = _skin_colour(light, mesh, px, candidates)
    darkness = _darkness(light, by_colour, candidates, beard_zone, shell[..., 6:], px)
    by_light = _step(0.85 - 0.15 * beard_zone - darkness, 0.12) * _step(2.5 + darkness, 0.15)
    chance = by_colour * by_light
    keep = (1 - eyes) * (1 - 0.85 * brows) * (1 - mouth) * (1 - nostrils)

    on_face = hull.astype(np.float32)
    in_face = on_face * _cleaned(chance, hull & (keep * (1 - lips) > 0.5), px)
    lip_part = lips * on_face * _step(1.4 - darkness, 0.2)
    around = _around(chance, hull, matte, cut_out, across, down, px)
    strength = in_face * keep * (1 - lips) + _LIP_BLOOD * lip_part * (1 - mouth) + around
    hairy = _step(darkness - 0.3, 0.1) * (1 - in_face) * beard_zone * on_face * keep * (1 - lips)

    def soft(image: Image) -> Image:
        return _blurred(np.asarray(image, np.float32), 0.015 * px)

    bare = in_face * keep * (1 - lips)
    inside = np.asarray(cv2.erode(on_face, _disc(0.012 * px)))
    strength = np.asarray(soft(strength) * _step(0.45 - np.maximum(eyes, mouth), 0.05), np.float32)
    gloss = _gloss(light, bare > _SKIN_AT, px) * soft(bare)
    layers = (strength, soft(hairy), forehead, cheeks, nose, low, soft(bare) * inside, gloss, matte)
    maps: Image = np.dstack(layers).astype(np.float32)
    skin = maps[..., _MAPS.index("bare")] > 0.7
    skin_share = float(skin.sum()) / max(float(hull.sum()), 1.0)
    return _Analysis(maps, cut_out, skin_share, _key_light(light, shell[..., 6:], skin))


def _skin_colour(light: Image, mesh: Float, px: float, candidates: Mask) -> Image:
    """Return the probability (H, W) of skin by colour alone, without brightness."""
    smooth = cv2.GaussianBlur(light, (0, 0), 0.009 * px) + 0.0012
    colour = np.log(smooth[..., [0, 2]] / smooth[..., 1:2])
    height, width = candidates.shape
    patches = []
    for x, y in mesh[list(_SEEDS), :2]:
        near = np.zeros((height, width), np.uint8)
        cv2.circle(near, (round(x), round(y)), max(2, round(0.03 * px)), 1, -1)
        inside = (near > 0) & candidates
        if inside.sum() >= 4:
            patches.append(np.median(colour[inside], axis=0))
    if not patches:
        return np.zeros((height, width), np.float32)
    # The median of patches: hair, glasses or a hand may lie over some of them, but seldom over half.
    centre = np.median(patches, axis=0)
    covariance = np.eye(2) * 0.15**2
    pixels = colour[candidates].reshape(-1, 2)
    for _ in range(4):
        offset = pixels - centre
        distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset)
        kept = pixels[distance < 2.5**2]
        if len(kept) < 30:
            break
        centre = np.median(kept, axis=0)
        values, axes = np.linalg.eigh(np.cov(kept.T))
        # No narrower than the noise of a compressed picture, no wider than skin under one light.
        covariance = (axes * np.clip(1.3 * values, 0.07**2, 0.26**2)) @ axes.T
    offset = colour - centre
    # A glossy spot is brighter than skin and of the lamp's colour, so it lies between skin and white.
    paler = -centre / max(float(np.linalg.norm(centre)), 1e-6)
    usual = float(np.median(smooth[candidates][:, 1]))
    bright = _step(np.log(smooth[..., 1] / usual) - 0.35, 0.1)
    along = np.clip(offset @ paler, 0, 0.9 * float(np.linalg.norm(centre)))
    offset = offset - (bright * along)[..., None] * paler
    distance = np.sqrt(np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset))
    # Eight bits leave little colour in the dark: there a pixel must be further off to be refused.
    distance = distance / (1 + 0.004 / smooth[..., 1])
    return np.asarray(_step(3.2 - distance, 0.35), np.float32)


def _darkness(light: Image, by_colour: Image, face_mask: Mask, beard_zone: Image, normals: Image, px: float) -> Image:
    """Return by how much each pixel (H, W) is darker than skin would be there, as a natural logarithm of light.

    Skin is modelled as a quadratic of the normal (one broad lamp) plus what the skin near by has beyond it (shadows).
    """
    brightness = np.log(cv2.GaussianBlur(light.mean(axis=2), (0, 0), 0.006 * px) + 0.001)
    weight = by_colour * face_mask * (1 - 0.85 * beard_zone)
    if weight.sum() < 10:
        return np.zeros_like(brightness)
    x, y = normals[..., 0], normals[..., 1]
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=2).astype(np.float64)
    darkness: Image = np.zeros_like(brightness)
    trust: Image = weight
    for _ in range(5):
        weighted = terms * trust[..., None]
        pull = np.diag([0.0, *[0.02] * 5]) * float(trust.sum())
        square = np.tensordot(weighted, terms, ((0, 1), (0, 1))) + pull
        slope = np.linalg.solve(square, np.tensordot(weighted, brightness, ((0, 1), (0, 1))))
        shade = (terms @ slope).astype(np.float32)
        both = np.dstack([trust, trust * (brightness - shade)]).astype(np.float32)
        near = cv2.GaussianBlur(both, (0, 0), 0.10 * px)
        darkness = np.asarray(shade + near[..., 1] / (near[..., 0] + 0.05) - brightness, np.float32)
        # Brows, frames and beard are darker than skin; little on a face is brighter. So dark ones lose their
        # weight, but not all that is in the shade, or the brightest spot would end up as the only skin.
        trust = np.asarray(weight * (0.08 + 0.92 * _step(0.65 - darkness, 0.12)), np.float32)
    return darkness


def _cleaned(chance: Image, where: Mask, px: float) -> Image:
    """Return the skin (H, W) without specks and pinholes: strands of hair stay out, pores and moles stay in."""
    skin = ((chance > _SKIN_AT) & where).astype(np.uint8)
    closed = cv2.morphologyEx(skin, cv2.MORPH_CLOSE, _disc(0.012 * px))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(0.016 * px))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] > 0.006 * px * px]
    return np.isin(labels, large).astype(np.float32)


def _around(chance: Image, hull: Mask, matte: Image, cut_out: bool, across: Image, down: Image, px: float) -> Image:
    """Return the strength (H, W) of the pulse on skin beyond the mesh: neck, ears, and the rest of the forehead."""
    grown = hull.astype(np.uint8)
    near_face = np.asarray(cv2.dilate(grown, _disc(0.16 * px))) > 0
    neck = (down > 0.3) & (down < 0.9) & (np.abs(across) < 0.32)
    # Where the person cannot be told from the background, a wall of the skin's colour must not beat.
    allowed = (near_face | neck) if cut_out else np.asarray(cv2.dilate(grown, _disc(0.06 * px))) > 0
    allowed = allowed & (matte > 0.7)
    found = _cleaned(chance, allowed | hull, px)
    _, labels = cv2.connectedComponents((found > 0).astype(np.uint8), connectivity=4)
    touching = np.unique(labels[hull & (found > 0)])
    connected = np.isin(labels, touching[touching > 0]) & ~hull
    top = _step(-0.30 - down, 0.06)
    strength = top * 0.9 + (1 - top) * np.where(down > 0.3, _NECK_BLOOD, _EAR_BLOOD)
    return np.asarray(connected * strength, np.float32)


def _gloss(light: Image, skin: Mask, px: float) -> Image:
    """Return the share (H, W) of the darkest channel that is mirrored light of the lamp's colour, 0..0.6.

    Light = body colour x brightness + white x gloss, so what a bright pixel has of its least channel beyond what the
    skin around it has, for the same strongest channel, is gloss. Grey pictures have none that can be found.
    """
    # A little blur, because compression leaves blocks of colour.
    smooth = cv2.GaussianBlur(light, (0, 0), 0.008 * px)
    most, least = smooth.max(axis=2), smooth.min(axis=2)
    if not skin.any():
        return np.zeros_like(least)
    ratio = float(np.median((least / np.maximum(most, 1e-4))[skin]))
    if ratio > 0.8:
        return np.zeros_like(least)
    mirrored = np.clip((least - ratio * most) / (1 - ratio), 0, None)
    bright = _step(np.log((most + 0.001) / (np.median(most[skin]) + 0.001)) - 0.1, 0.1)
    return np.asarray(np.clip(mirrored * bright / np.maximum(least, 1e-4), 0, 0.6), np.float32)


def _key_light(light: Image, normals: Image, skin: Mask) -> Illumination:
    """Estimate the light of the photograph: one lamp and an even rest, fitted to the brightness of the skin.

    Brightness = a + b . normal by least squares; in ``face.shading`` b = (1 - ambient) / 1.3 and, for a face that
    looks at the camera, a = 0.75 ambient + 0.3 / 1.3 (1 - ambient). An estimate: skin is not equally pale all over.
    """
    if skin.sum() < 50:
        return Illumination()
    bright = light.mean(axis=2)[skin].astype(np.float64)
    terms = np.column_stack([np.ones(len(bright)), normals[skin]])
    ridge = np.diag([0.0, 0.02, 0.02, 0.02]) * len(bright)
    level, *slope = np.linalg.solve(terms.T @ terms + ridge, terms.T @ bright)
    x, y, z = (float(v) for v in slope)
    # A face shows little of the third axis, and dark edges of the face pass for light from behind; portraits are lit
    # from the front, so the lamp is taken to be within 60 degrees of the camera.
    z = min(z, -0.58 * float(np.hypot(x, y)))
    strength = float(np.linalg.norm((x, y, z)))
    if not (strength > 1e-6 and level > 1e-6):
        return Illumination(0.0, 30.0, 0.9)
    ratio = min(strength / float(level), 3.0)
    ambient = (0.769 - 0.231 * ratio) / (0.769 + 0.519 * ratio)
    azimuth = np.degrees(np.arctan2(x, -z))
    elevation = np.degrees(np.arcsin(np.clip(-y / strength, -1, 1)))
    return Illumination(float(azimuth), float(elevation), float(np.clip(ambient, 0.1, 0.9)))


# ---------------------------------------------------------------------------------------------------------------------
# The person and the background


def _matte(rgb: Frame, hull: Mask, across: Image, down: Image) -> tuple[Image, bool]:
    """Return where the person is, (H, W) in 0..1, and True where that is plausible."""
    height, width = hull.shape
    shrink = min(1.0, _CUT_PX / max(height, width))
    size = (max(8, round(width * shrink)), max(8, round(height * shrink)))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y, inside = (
        np.asarray(cv2.resize(np.ascontiguousarray(m, np.float32), size, interpolation=cv2.INTER_AREA))
        for m in (across, down, hull)
    )
    skull = (x / 0.52) ** 2 + ((y + 0.12) / 0.72) ** 2 < 1
    hair = (x / 0.80) ** 2 + ((y + 0.10) / 1.0) ** 2 < 1
    shoulders = (y > 0.55) & (np.abs(x) < 0.45 + 1.3 * (y - 0.55))
    core = ((y > 0.3) & (y < 0.75) & (np.abs(x) < 0.16)) | ((y > 0.95) & (np.abs(x) < 0.3))
    # Beyond any head and beside it is background; hats and much hair reach up to a face height above the middle.
    far = (y < -1.35) | ((np.abs(x) > 1.5) & (y < 0.2))
    plan = np.full(size[::-1], cv2.GC_PR_BGD, np.uint8)
    plan[hair | shoulders] = cv2.GC_PR_FGD
    plan[~skull & ~shoulders & (np.abs(x) > 0.62) & (y < 0.3)] = cv2.GC_PR_BGD
    plan[far] = cv2.GC_BGD
    plan[core | (inside > 0.9)] = cv2.GC_FGD
    # Its colour models start from clusters drawn by chance; the same picture must give the same person.
    cv2.setRNGSeed(0)
    cv2.grabCut(small, plan, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    person = np.isin(plan, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    whole, plausible = _one_person(person, inside > 0.5)
    # Where the skull must be, whoever it is, and where no hair or hat of a person reaches.
    crown = ((x / 0.40) ** 2 + ((y + 0.15) / 0.58) ** 2 < 1) & (y < -0.25)
    beside = (y < 0.1) & (np.abs(x) > 0.9)
    bitten = 1 - float(whole[crown].mean()) if crown.any() else 0.0
    spilled = float((whole > 0)[beside].sum()) / float(whole.sum())
    # Nor does anybody fill the upper edge of the picture beside his head.
    columns = np.flatnonzero((inside > 0.5).any(axis=0))
    if columns.size:
        off = np.abs(np.arange(size[0]) - columns.mean()) > 0.85 * columns.size
        spilled = max(spilled, float(((whole[0] > 0) & off).mean()))
    plausible = (
        plausible and _faint_share(small, whole) < _MAX_FAINT and bitten < _MAX_BITTEN and spilled < _MAX_SPILLED
    )
    soft = cv2.resize(whole.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    edge = _guided(np.asarray(soft), rgb.mean(axis=2).astype(np.float32) / 255, radius=3)
    matte = np.clip((edge - 0.15) / 0.7, 0, 1)
    matte[hull] = 1
    return np.asarray(cv2.GaussianBlur(matte, (0, 0), 0.6), np.float32), plausible


def _one_person(person: Mask | NDArray[np.uint8], face_mask: Mask) -> tuple[NDArray[np.uint8], bool]:
    """Return the piece of a cut-out (H, W) that holds the face, its holes filled, and True if it is like a person."""
    mask = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, _disc(1.5))
    _, labels = cv2.connectedComponents(mask, connectivity=4)
    own = labels[face_mask & (mask > 0)]
    if not own.size:
        return person.astype(np.uint8), False
    whole = (labels == np.bincount(own).argmax()).astype(np.uint8)
    backdrop = cv2.copyMakeBorder(1 - whole, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    count, holes, stats, _ = cv2.connectedComponentsWithStats(backdrop, connectivity=4)
    for k in range(1, count):
        # An arm akimbo leaves a true hole; small ones are light or dark spots of the clothes.
        if stats[k, cv2.CC_STAT_AREA] < 0.01 * whole.size:
            whole[(holes == k)[1:-1, 1:-1]] = 1
    share = float(whole.mean())
    ring = cv2.dilate(face_mask.astype(np.uint8), _disc(0.03 * max(whole.shape))) - face_mask.astype(np.uint8)
    held = float(whole[ring > 0].mean()) if ring.any() else 1.0
    scattered = 1 - float((mask * whole).sum()) / max(float(mask.sum()), 1.0)
    contours, _ = cv2.findContours(whole, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(contour, True) for contour in contours)
    ragged = length / np.sqrt(max(float(whole.sum()), 1.0))
    plausible = 0.15 <= share <= 0.85 and held > 0.6 and scattered < 0.15 and ragged < 9.5
    return whole, bool(plausible)


def _faint_share(rgb: Frame, whole: NDArray[np.uint8]) -> float:
    """Return the share of the outline with like colours on both sides, where the cut was a guess."""
    inside = whole.astype(np.float32)
    values = np.sqrt(rgb.astype(np.float32) / 255)
    width = (9, 9)
    inner = cv2.blur(values * inside[..., None], width) / np.maximum(cv2.blur(inside, width), 1e-3)[..., None]
    outer = cv2.blur(values * (1 - inside)[..., None], width) / np.maximum(cv2.blur(1 - inside, width), 1e-3)[..., None]
    edge = (cv2.dilate(whole, _disc(1)) > 0) & (whole == 0)
    if not edge.any():
        return 1.0
    contrast = np.linalg.norm(inner - outer, axis=2)
    return float((contrast[edge] < 0.10).mean())


def _guided(mask: Image, guide: Image, radius: int) -> Image:
    """Return ``mask`` (H, W) with the edges of ``guide``: the guided filter of He et al. 2010, for a guide in 0..1."""

    def mean(image: Image) -> Image:
        return np.asarray(cv2.blur(image, (2 * radius + 1, 2 * radius + 1)))

    average, level = mean(guide), mean(mask)
    slope = (mean(guide * mask) - average * level) / (mean(guide * guide) - average**2 + 1e-3)
    return np.asarray(mean(slope) * guide + mean(level - slope * average))


def _without_backdrop(diffuse: Image, alpha: Image) -> Image:
    """Return (H, W, 3) with the colour of the person's inside carried out over his soft edge, free of background."""
    inner = (alpha > 0.95).astype(np.float32)
    spread = cv2.GaussianBlur(diffuse * inner[..., None], (0, 0), 1.5)
    weight = cv2.GaussianBlur(inner, (0, 0), 1.5)[..., None]
    carried = np.where(weight > 1e-3, spread / np.maximum(weight, 1e-3), diffuse)
    return np.where(inner[..., None] > 0, diffuse, carried).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# The face mesh on the photograph


@lru_cache(maxsize=1)
def _anatomy() -> Float:
    """Return (468, 5) at the landmarks, 0..1: forehead, cheek, nose without its bridge, low in the face, beard zone."""
    x, y, _ = face.neutral_mesh()[0].T
    forehead, cheeks = face.forehead_and_cheeks(x, y)
    nose = bump(x, y - 0.03, 0.06, 0.07)
    low = np.clip((y - 0.02) / 0.2, 0, 1)
    side = 0.12 - 0.35 * np.clip(np.abs(x) - 0.30, 0, None) / 0.2
    beard = np.clip((y - side) / 0.05, 0, 1)
    return np.stack([forehead, cheeks, nose, low, beard], axis=1)


def _on_mesh(mesh: Float, shape: tuple[int, ...]) -> Image:
    """Return (H, W, 9): where the mesh is seen, the values of ``_anatomy``, the normal; flat in each triangle."""
    neutral, triangles = face.neutral_mesh()
    # A triangle that is turned over looks away: the far cheek of a profile.
    triangles = triangles[_orientation(neutral, triangles) == _orientation(mesh, triangles)]
    index, triangles = face.triangle_map(mesh[:, :2], mesh[:, 2], triangles, shape)
    normals = face.landmark_normals(mesh)[triangles].mean(axis=1)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    values = np.column_stack([np.ones(len(triangles)), _anatomy()[triangles].mean(axis=1), normals])
    out = np.zeros((*shape, values.shape[1]), np.float32)
    out[index >= 0] = values[index[index >= 0]]
    return out


def _orientation(points: Float, triangles: NDArray[np.int64]) -> Float:
    """Return 1 for triangles whose corners go round clockwise in the picture, -1 for others, 0 for flat ones."""
    corners = np.concatenate([points[:, :2], np.ones((len(points), 1))], axis=1)
    return np.asarray(np.sign(np.linalg.det(corners[triangles])))


def _features(mesh: Float, shape: tuple[int, int], px: float) -> tuple[Image, Image, Image, Image, Image]:
    """Return soft masks (H, W) of eyes, brows, lips with what is between, the opening of the mouth, nostrils."""
    xy = mesh[:, :2]

    def filled(*outlines: Float, grow: float) -> Image:
        mask = np.zeros(shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [fixed_point(outline)], 255, cv2.LINE_AA, 4)
        if grow * px >= 0.5:
            mask = np.asarray(cv2.dilate(mask, _disc(grow * px)))
        return _blurred(mask.astype(np.float32) / 255, 0.008 * px)

    eyes = filled(*(xy[list(ring)] for ring in face.EYES), grow=0.022)
    brows = filled(*(xy[list(ring)] for ring in face.BROWS), grow=0.012)
    lips = filled(xy[[*face.LIP_UPPER, *face.LIP_LOWER[::-1]]], grow=0.006)
    mouth = filled(xy[[*face.LIP_UPPER_INNER, *face.LIP_LOWER_INNER[::-1]]], grow=0.0)
    nostrils = np.zeros(shape, np.uint8)
    thick = max(1, round(0.03 * px))
    cv2.polylines(nostrils, [fixed_point(xy[list(_NOSTRILS)])], False, 255, thick, cv2.LINE_AA, 4)
    return eyes, brows, lips, mouth, _blurred(nostrils.astype(np.float32) / 255, 0.006 * px)


def _head_axes(mesh: Float, shape: tuple[int, ...], size: tuple[int, int]) -> tuple[Image, Image]:
    """Return the distances (H, W) to the right of and below the face's middle, along the head's own axes.

    In face heights, for a picture of ``size`` (width, height).
    """
    moved = _moved(mesh, shape, size)[:, :2]
    middle, axis = (moved[10] + moved[152]) / 2, moved[152] - moved[10]
    axis = axis / float(axis @ axis)
    x = np.arange(size[0], dtype=np.float32)[None, :] - np.float32(middle[0])
    y = np.arange(size[1], dtype=np.float32)[:, None] - np.float32(middle[1])
    across = x * np.float32(axis[1]) - y * np.float32(axis[0])
    down = x * np.float32(axis[0]) + y * np.float32(axis[1])
    return across.astype(np.float32), down.astype(np.float32)


def _moved(mesh: Float, shape: tuple[int, ...], size: tuple[int, int]) -> Float:
    """Return landmarks (468, 3) of a picture (H, W) in one of ``size`` (width, height).

    Pixel centres are whole numbers.
    """
    sx, sy = size[0] / shape[1], size[1] / shape[0]
    moved = mesh.copy()
    moved[:, 0] = (mesh[:, 0] + 0.5) * sx - 0.5
    moved[:, 1] = (mesh[:, 1] + 0.5) * sy - 0.5
    moved[:, 2] = mesh[:, 2] * (sx + sy) / 2
    return moved


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


_LIGHT_OF_GREY: Image = ((np.arange(256) / 255) ** DISPLAY_GAMMA).astype(np.float32)
"""Linear light of each grey level."""


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """Return an image of another size: reduced by area, as a sensor averages light, or enlarged linearly."""
    reduce = size[0] < image.shape[1]
    image = np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if reduce else cv2.INTER_LINEAR))


def _blurred(image: NDArray[Any], sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _step(value: NDArray[Any], width: float) -> Image:
    """Return a smooth step from 0 to 1 at zero, ``width`` wide."""
    return np.asarray(1 / (1 + np.exp(-np.clip(value / width, -30, 30))), np.float32)


def _disc(radius: float) -> NDArray[np.uint8]:
    """Return a round structuring element."""
    n = max(1, round(radius))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * n + 1, 2 * n + 1)), np.uint8)
