"""Real videos and real traces that lie beside the project and are never part of it. Skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autohr.classic import CLASSIC
from autohr.errors import NoFace, SignalTooShort
from autohr.measure import measure
from autohr.meter import Meter, MeterConfig
from autohr.signals.filters import bandpass, detrend, resample
from autohr.signals.rate import estimate_heart_rate
from autohr.video.decode import open_video

DATA = Path(__file__).parents[1].parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real material is not beside this checkout"),
]


@pytest.mark.parametrize("method", CLASSIC)
def test_the_real_face_has_its_53_beats(method: str) -> None:
    answer = measure(DATA / "videos" / "evm_face_53bpm.mp4", method)
    (face,) = answer.faces
    assert face.hr_bpm == pytest.approx(53, abs=2)
    assert face.reliable, face
    assert answer.frames.read == answer.frames.face == 301


def test_no_face_is_refused() -> None:
    with pytest.raises(NoFace, match="95 frames"):
        measure(DATA / "videos" / "no_face.mp4")


@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov", "small_face_full_range.mkv"])
def test_too_short_a_face_is_refused_with_the_least_length(name: str) -> None:
    with pytest.raises(SignalTooShort, match="at least 4 s"):
        measure(DATA / "videos" / name)


def test_nothing_is_measured_where_the_face_has_left() -> None:
    meter = Meter("pos", MeterConfig(window_s=4))
    with open_video(DATA / "videos" / "face_noface.mov") as video:
        readings = [reading for frame in video for reading in meter.push(frame.rgb, frame.t_s)] + meter.finish()
    assert readings == []
    assert meter.n_face < 80
    assert meter.too_short and meter.too_short[0].end_s < 2.5


def test_two_people_keep_their_ids() -> None:
    meter = Meter("pos", MeterConfig(max_faces=2))
    ids = []
    with open_video(DATA / "videos" / "two_faces.gif") as video:
        for frame in video:
            meter.push(frame.rgb, frame.t_s)
            ids.append([face.id for face in meter.faces if face.seen])
    assert all(pair == [0, 1] for pair in ids[3:])
    answer = measure(DATA / "videos" / "two_faces.gif", max_faces=2)
    assert [face.id for face in answer.faces] == [0, 1]
    assert not any(face.reliable for face in answer.faces)


def test_finger_traces_show_the_straps_rate_in_17_of_21() -> None:
    """Uneven camera traces (1 to 613 ms) against the mean of a chest strap's intervals: median of 10 s windows."""
    right = 0
    recordings = sorted((DATA / "traces" / "welltory" / "data").iterdir())
    for folder in recordings:
        time_ms, red = np.genfromtxt(folder / "PPG.csv", delimiter=",", skip_header=1, usecols=(0, 1)).T
        true_bpm = 60_000 / np.array((folder / "RR.txt").read_text().split(), dtype=float).mean()
        fresh = np.concatenate([[True], np.diff(time_ms) > 0])
        t_s, fs = time_ms[fresh] / 1000, 30.0
        wave = bandpass(detrend(resample(t_s, red[fresh], np.arange(t_s[0], t_s[-1], 1 / fs)), fs), fs)
        rates = [estimate_heart_rate(wave[k : k + 300], fs).hr_bpm for k in range(0, len(wave) - 299, 30)]
        known = [rate for rate in rates if rate is not None]
        right += abs(float(np.median(known)) - true_bpm) <= 3
    assert len(recordings) == 21
    assert right >= 17
