"""Drawn people and photographs of them, for the tests of synthetic faces: the truth about them is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from autohr.lab.synth.face import DISPLAY_GAMMA, FaceTexture, Identity, draw_face
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.portrait import LANDMARKS_FILE
from autohr.types import Float, Frame

STATUE = HeadMotion(0, 0, 0, 0, 0)
PERSON = Identity(seed=3, melanin=0.4, hair_style="short", clothes_rgb=(0.2, 0.2, 0.6))
WALL = (0.25, 0.42, 0.30)
"""Linear light of the wall behind the person of a photograph."""


def photograph(identity: Identity = PERSON, face_px: float = 150, light: float = 0.75) -> tuple[Frame, FaceTexture]:
    """Return a drawn face before a wall as a camera gives it, and the texture with the truth."""
    drawn = draw_face(identity, face_px)
    seen = drawn.alpha[..., None] * (drawn.diffuse + drawn.specular[..., None])
    seen = light * (seen + (1 - drawn.alpha[..., None]) * np.array(WALL))
    grey = 255 * np.clip(seen, 0, 1) ** (1 / DISPLAY_GAMMA) + np.random.default_rng(1).normal(0, 1.0, seen.shape)
    return np.clip(np.round(grey), 0, 255).astype(np.uint8), drawn


def save_portraits(folder: Path, pictures: dict[str, Frame], mesh_xyz: Float) -> None:
    """Write pictures of one face with its landmarks, as ``load_portraits`` reads them."""
    for name, rgb in pictures.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), rgb[..., ::-1])
    np.savez(folder / LANDMARKS_FILE, **dict.fromkeys(pictures, mesh_xyz))  # type: ignore[arg-type]
