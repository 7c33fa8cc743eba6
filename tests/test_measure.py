"""From readings to one answer: what is averaged, what is refused, what happens in gaps. No video: readings are made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import autohr
from autohr.confidence.verdict import LEAST_S, estimate
from autohr.errors import NoFace, SignalTooShort, VideoError
from autohr.measure import join_waves, summarise
from autohr.methods import load_method
from autohr.signals.simulate import simulate_pulse, simulate_rgb
from autohr.types import Estimate, FaceClip, FaceMeasurement, Frames, Measurement, Pulse, Reading
from autohr.video.encode import write_video
from autohr.video.regions import REGIONS
from made import run


def readings(
    n_windows: int,
    reliable: int | None = None,
    hr_bpm: float = 70.0,
    wrong_bpm: float | None = 150.0,
    fps: float = 30.0,
    start_s: float = 0.0,
    segment: int = 0,
) -> list[Reading]:
    """Windows of 10 s with a stride of 1 s over one simulated wave; the first ``reliable`` of them are so."""
    reliable = n_windows if reliable is None else reliable
    wave = simulate_pulse(n_windows + 9, fps, hr_bpm, seed=1, hrv=0.03).bvp
    made = []
    for k in range(n_windows):
        first = round(k * fps)
        pulse = Pulse(wave[first : first + round(10 * fps)], fps, start_s + first / fps)
        good = k < reliable
        made_estimate = (
            Estimate(hr_bpm, 0.9, True, 6.0, None, pulse=pulse, second=pulse)
            if good
            else Estimate(wrong_bpm, 0.2, False, -3.0, "the pulse is too weak", pulse=pulse)
        )
        made.append(Reading(0, segment, pulse.start_s, pulse.start_s + 10, made_estimate, 1.0))
    return made


def test_the_rate_is_that_of_the_reliable_windows() -> None:
    face = summarise(readings(9, reliable=5))
    assert face.reliable and face.hr_bpm == pytest.approx(70) and face.confidence == pytest.approx(0.9)
    assert face.why_unreliable is None and len(face.windows) == 9


def test_too_few_reliable_windows_make_the_whole_unreliable() -> None:
    n_good = 4
    face = summarise(readings(9, reliable=n_good))
    assert not face.reliable and face.confidence < 0.75
    assert "too weak" in str(face.why_unreliable) and f"{9 - n_good} of 9" in str(face.why_unreliable)
    assert face.hr_bpm is not None and face.why_no_hrv == "the rate itself is not reliable"


def test_an_unreliable_rate_is_that_on_which_the_windows_agree() -> None:
    t_s = np.arange(300) / 30
    rng = np.random.default_rng(0)

    def window(spurious_bpm: float, witness: Pulse | None) -> Reading:
        wave = np.sin(2 * np.pi * spurious_bpm / 60 * t_s) + 0.8 * np.sin(2 * np.pi * 95 / 60 * t_s + rng.uniform())
        says = Estimate(spurious_bpm, 0.3, False, -3.0, "weak", pulse=Pulse(wave, 30.0), witness=witness)
        return Reading(0, 0, 0.0, 10.0, says, 1.0)

    face = summarise([window(bpm, None) for bpm in (55.0, 70.0, 120.0)])
    assert not face.reliable and face.hr_bpm == pytest.approx(95, abs=0.5)
    # One window alone follows its strongest line, unless the colour of the skin speaks for the other.
    lone = summarise([window(55.0, None)])
    assert lone.hr_bpm == pytest.approx(55, abs=1)
    colour = Pulse(np.sin(2 * np.pi * 95 / 60 * t_s), 30.0)
    supported = summarise([window(55.0, colour)])
    assert supported.hr_bpm == pytest.approx(95, abs=1)


def test_no_rate_at_all_is_none_and_not_a_guess() -> None:
    face = summarise(readings(3, reliable=0, wrong_bpm=None))
    assert face.hr_bpm is None and not face.reliable and face.confidence == 0


def test_a_minute_of_pulse_has_beats_and_variability() -> None:
    face = summarise(readings(80))
    assert face.hrv is not None and face.hrv.mean_hr_bpm == pytest.approx(70, abs=1.5)
    assert face.hrv.sdnn_ms == pytest.approx(25, abs=10)
    assert len(face.beats_s) == pytest.approx(70 * 89 / 60, abs=4)
    short = summarise(readings(20))
    assert short.hrv is None and "60 s" in str(short.why_no_hrv) and short.beats_s


def test_beats_come_from_reliable_windows_alone() -> None:
    """One of them may be wrong and the file reliable: what is made of its beats would be wrong too."""
    face = summarise(readings(80, reliable=60))
    assert face.reliable and face.beats_s and max(face.beats_s) < 69
    assert face.hrv is not None and face.hrv.duration_s < 69


def test_beats_whose_timing_nothing_confirms_are_withheld() -> None:
    """A reliable rate is not reliable timing: a second reading decides."""
    rng = np.random.default_rng(0)

    def with_second(reading: Reading, noise: float | None) -> Reading:
        pulse = reading.estimate.pulse
        assert pulse is not None
        second = None if noise is None else replace(pulse, bvp=pulse.bvp + noise * rng.standard_normal(len(pulse.bvp)))
        return replace(reading, estimate=replace(reading.estimate, second=second))

    made = readings(80)
    for noise in (3.0, None):
        face = summarise([with_second(reading, noise) for reading in made])
        assert face.reliable and face.beats_s == () and face.hrv is None and face.beat_error_ms is None
        assert face.why_no_beats and face.why_no_hrv == face.why_no_beats
    good = summarise([with_second(reading, 0.02) for reading in made])
    assert good.beats_s and good.beat_error_ms is not None and 0 < good.beat_error_ms < 30


def test_a_gap_stays_a_gap() -> None:
    both = readings(5) + readings(5, start_s=40.0, fps=25.0, segment=1)
    face = summarise(both)
    assert face.bvp is not None and face.bvp.fps == 30.0
    t_s = np.arange(len(face.bvp.bvp)) / face.bvp.fps
    assert np.isnan(face.bvp.bvp[(t_s > 14.2) & (t_s < 39.8)]).all()
    assert np.isfinite(face.bvp.bvp[(t_s < 13.9) | (t_s > 40.1) & (t_s < 53.5)]).all()
    assert not any(14.2 < beat_s < 39.8 for beat_s in face.beats_s)
    assert face.start_s == 0 and face.end_s == pytest.approx(54, abs=0.1)


def test_the_face_to_take_is_the_reliable_one_measured_longest() -> None:
    """Whoever came first may be a passer-by; a longer face that is not reliable may be a poster."""
    passer_by = summarise([replace(one, face_id=0) for one in readings(2, hr_bpm=105.0)])
    person = summarise([replace(one, face_id=1) for one in readings(9, start_s=20.0)])
    poster = summarise([replace(one, face_id=2) for one in readings(30, reliable=0)])
    nothing = summarise([replace(one, face_id=3) for one in readings(40, reliable=0, wrong_bpm=None)])

    def taken(*faces: FaceMeasurement) -> int:
        answer = Measurement("a.mp4", "pos", None, 54.0, 30.0, Frames(), faces)
        assert answer.as_dict()["main_face_id"] == answer.face.id
        return answer.face.id

    assert taken(passer_by, person) == 1 and taken(passer_by, person, poster, nothing) == 1
    assert taken(passer_by, poster) == 0 and taken(poster, nothing) == 2 and taken(nothing) == 3
    assert person.measured_s == pytest.approx(18)
    parted = summarise(readings(5) + readings(5, start_s=40.0, segment=1))
    assert parted.measured_s == pytest.approx(28) and parted.end_s == pytest.approx(54, abs=0.1)
    with pytest.raises(ValueError, match="No face"):
        taken()


@pytest.mark.parametrize("apart_s", [1.7e9, 1e15])
def test_waves_too_far_apart_are_not_joined(apart_s: float) -> None:
    some, more = readings(3), readings(5, start_s=apart_s, segment=1)
    alone = join_waves(more)
    for joined in (join_waves(some + more), join_waves(more + some)):
        assert joined is not None and joined.start_s == apart_s and len(joined.bvp) == 14 * 30
        assert alone is not None and np.array_equal(alone.bvp, joined.bvp)
    face = summarise(some + more)
    assert len(face.windows) == 8 and face.end_s == apart_s + 14


def test_waves_hours_apart_are_joined() -> None:
    joined = join_waves(readings(2) + readings(2, start_s=5 * 3600.0, segment=1))
    assert joined is not None and len(joined.bvp) == (5 * 3600 + 11) * 30
    assert np.isfinite(joined.bvp).sum() == 2 * 11 * 30


def test_the_json_is_strict_whatever_is_in_it() -> None:
    face = summarise(readings(5) + readings(5, start_s=40.0, segment=1))
    answer = Measurement("a.mp4", "pos", None, 54.0, float("nan"), Frames(), (face,), ("a note",))
    text = json.dumps(answer.as_dict(), allow_nan=False)
    back = json.loads(text)
    assert back["fps_mean"] is None and None in back["faces"][0]["bvp"]["values"]


@pytest.fixture(scope="module")
def cut_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video without a face, of which the second half is missing."""
    path = tmp_path_factory.mktemp("cut") / "cut.mkv"
    noise = [np.random.default_rng(k).integers(0, 256, (64, 96, 3), dtype=np.uint8) for k in range(40)]
    write_video(path, noise, fps=20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_refusals_say_what_the_reader_noticed(cut_video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoFace, match="Noticed while reading: .*truncated"):
        autohr.measure(cut_video, "green")
    with pytest.raises(VideoError, match="no usable frame .* Noticed while reading: .*truncated"):
        autohr.measure(cut_video, "green", start_s=30.0)
    for command in (["measure"], ["live", "--fast", "--camera"]):
        code, _, err = run(capsys, *command, str(cut_video), "--method", "green")
        last = err.strip().splitlines()[-1]
        assert code == 1 and "No face" in last and "Noticed while reading:" in last and "truncated" in last


def clip(duration_s: float, fps: float = 30.0, found: float = 1.0, depth: float = 0.005) -> FaceClip:
    truth = simulate_pulse(duration_s, fps, 75, seed=2, hrv=0.01)
    n_frames = len(truth.bvp)
    traces = [simulate_rgb(truth.bvp, fps, seed=k, depth=depth, noise=0.002) for k in range(len(REGIONS))]
    seen = np.ones(n_frames, dtype=bool)
    seen[: round((1 - found) * n_frames)] = False
    return FaceClip(
        fps=fps,
        start_s=0.0,
        rgb=np.mean(traces, axis=0),
        traces=np.stack(traces, axis=1),
        background_rgb=np.full((n_frames, 3), np.nan),
        box_xywh=np.tile([10.0, 10, 100, 120], (n_frames, 1)),
        found=seen,
    )


def test_an_estimate_says_why_it_must_not_be_trusted() -> None:
    pos = load_method("pos")
    assert pos(clip(10)).reliable
    assert "8 s" in str(pos(clip(6)).why_unreliable)
    half = pos(clip(10, found=0.5))
    assert not half.reliable and "50 %" in str(half.why_unreliable) and half.confidence <= 0.5
    noise = pos(clip(10, depth=0.0))
    assert not noise.reliable and noise.why_unreliable and noise.confidence < 0.5


def test_a_clip_too_short_to_measure_is_refused() -> None:
    short = clip(LEAST_S - 0.5)
    with pytest.raises(SignalTooShort, match="at least"):
        estimate(short, Pulse(np.sin(np.arange(short.n_frames)), short.fps))


def test_a_wave_that_does_not_change_has_no_rate() -> None:
    flat = clip(10)
    says = estimate(flat, Pulse(np.zeros(flat.n_frames), flat.fps))
    assert says.hr_bpm is None and not says.reliable and says.confidence == 0


def test_crops_go_to_a_net_in_one_form() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    with_crops = FaceClip(**{**clip(10).__dict__, "clip": frames})
    fed = with_crops.as_net_input()
    assert fed.shape == (1, 3, 7, 5, 6) and fed.dtype == np.float32
    assert fed[0, 2, 3, 1, 4] == pytest.approx(frames[3, 1, 4, 2] / 255)
    with pytest.raises(ValueError, match="crop"):
        clip(10).as_net_input()
