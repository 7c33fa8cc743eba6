"""The groups of synthetic recordings: each is found, and in the right part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from autohr.errors import BadRecording
from autohr.lab.synth.face import random_identity
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.strata import STRATA, Facts, skin_luminance, strata
from autohr.lab.synth.video import SceneConfig, read_strata, truth_path, write_scene

PERSON = random_identity(np.random.default_rng(0))
STILL = SceneConfig(duration_s=2.0, width=96, height=96, fps=15.0, hr_bpm=(60.0, 60.0), pulse_depth=0.03, face_px=60.0)
STILL = dataclasses.replace(STILL, head=HeadMotion(sway=0.1), identity=PERSON)


def groups_of(scene: SceneConfig, codec: str = "libx264", crf: int = 5, skin: float | None = None) -> dict[str, str]:
    return strata(Facts(dataclasses.asdict(scene), {"codec": codec, "crf": crf}, 0.1, 60.0, skin))


@pytest.mark.parametrize(
    ("change", "group", "value"),
    [
        ({}, "motion", "1 still"),
        ({"head": HeadMotion(sway=1.0)}, "motion", "3 strong"),
        ({"head": HeadMotion(sway=0.1, talk=0.5)}, "speech", "talking"),
        ({"head": HeadMotion(rhythm="nod", rhythm_hz=1.2, rhythm_amplitude=0.02)}, "rhythmic movement", "nod"),
        ({"flicker_hz": 1.0, "flicker_depth": 0.02}, "light", "flicker"),
        ({"light_drift": 0.0, "screen_depth": 0.0}, "light", "1 steady"),
        ({"fps": 60.0}, "frames per second", "3 above 33"),
        ({"pulse_depth": 0.005}, "depth of pulse", "1 weak, under 1.13 %"),
        ({}, "person", "drawn"),
        ({}, "face", "1 under 110 px"),
        ({"identity": dataclasses.replace(PERSON, glasses="thick")}, "glasses", "thick"),
        ({"identity": dataclasses.replace(PERSON, beard="full")}, "beard", "full"),
        ({"identity": dataclasses.replace(PERSON, age=0.9)}, "age", "3 old"),
    ],
)
def test_a_scene_lies_in_its_group(change: dict[str, object], group: str, value: str) -> None:
    assert groups_of(dataclasses.replace(STILL, **change))[group] == value  # type: ignore[arg-type]


def test_encoders_and_skin() -> None:
    assert groups_of(STILL, crf=20)["compression"].startswith("3")
    assert groups_of(STILL, codec="mjpeg")["compression"] == "mjpeg"
    photograph = dataclasses.replace(STILL, portrait="somebody.jpg")
    tones = [groups_of(photograph, skin=skin)["skin tone"][2:] for skin in (0.1, 0.3, 0.6)]
    assert tones == ["portrait, dark", "portrait, medium", "portrait, light"]
    assert not {"skin tone", "glasses", "beard", "age"} & set(groups_of(photograph)), "nothing is known of these"


@pytest.mark.parametrize(
    ("hr_bpm", "value"), [(54.9, "under 55 bpm"), (55.0, "to 70"), (139, "to 140"), (170, "above 140")]
)
def test_a_part_begins_with_its_lower_limit(hr_bpm: float, value: str) -> None:
    facts = Facts(dataclasses.asdict(STILL), {"codec": "mjpeg", "crf": None}, 0.1, hr_bpm, None)
    assert strata(facts)["rate"][2:] == value


def test_light_skin_is_lighter_whatever_the_exposure() -> None:
    box = np.array([0.0, 0.0, 20.0, 20.0])
    frame = np.full((20, 20, 3), 128, np.uint8)
    lit = np.full((20, 20, 3), round(255 * (1.5 * (128 / 255) ** 2.2) ** (1 / 2.2)), np.uint8)
    assert skin_luminance(lit, box, 2.2, 1.5) == pytest.approx(skin_luminance(frame, box, 2.2, 1.0), rel=0.02)
    assert np.isnan(skin_luminance(frame, np.array([40.0, 40.0, 20.0, 20.0]), 2.2, 1.0))


def test_the_groups_of_a_written_file_are_read(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_scene(STILL, video)
    assert set(read_strata(video)) == set(STRATA)
    truth_path(video).write_text("{}")
    with pytest.raises(BadRecording, match="lacks schema"):
        read_strata(video)
    with pytest.raises(BadRecording, match="Cannot read"):
        read_strata(tmp_path / "nobody.mp4")
