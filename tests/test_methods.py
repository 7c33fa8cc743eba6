"""Methods: nets with fresh weights, which measure nothing but must be fed, found and refused as trained ones are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autohr import methods
from autohr.classic import CLASSIC
from autohr.confidence import verdict
from autohr.confidence.evidence import gather_evidence
from autohr.confidence.verdict import estimate, estimate_from_rate
from autohr.errors import AutoHRError, BadWeights, UnknownName
from autohr.frontend import CropConfig
from autohr.lab.datasets.augment import Look, show
from autohr.lab.datasets.cache import open_cached, prepare
from autohr.lab.datasets.recording import Recording, Reference
from autohr.lab.nets import NETS as TABLE
from autohr.lab.nets import make_net
from autohr.lab.nets._checkpoint import load_net, save_weights
from autohr.measure import measure
from autohr.meter import Meter, MeterConfig
from autohr.methods import METHODS, Method, default_method, load_method, ready_methods
from autohr.runtime import Net, NetStream, wave_function
from autohr.signals.filters import bandpass
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import FaceClip, Float, Frame, Pulse
from autohr.video.decode import open_video
from autohr.video.detector import Detection
from autohr.video.encode import write_video
from autohr.video.regions import REGIONS
from test_meter import Knows
from test_meter import video as scene

NETS = [name for name, method in METHODS.items() if method.is_net]
SMALL: dict[str, dict[str, Any]] = {
    "autohr": {"preset": "tiny"},
    "hrcnn": {"channels": [1, 1, 1, 1], "estimator_channels": 4},
    "rhythmnet": {"hidden": 8},
}
WAVES = [name for name in NETS if TABLE[name].kind == "wave"]
RATES = [name for name in NETS if TABLE[name].kind == "rate"]
INPUT = {"size_px": 32, "crop_size_px": 40, "n_frames": 160, "box": "tracked", "margin": 0.1}


def save(path: Path, net: str = "autohr", **header: Any) -> Path:
    """Fresh weights of a small net."""
    torch.manual_seed(0)
    fresh = make_net(net, SMALL.get(net, {}))
    save_weights(path, fresh, name=net, header={"input": INPUT, "training_data": {"fps_to": 30.0}, **header})
    return path


def clip(duration_s: float = 10.0, fps: float = 15.0, size_px: int = 32) -> FaceClip:
    """A face that blushes: noise on a patch whose green follows a pulse."""
    truth = simulate_pulse(duration_s, fps, 75, seed=1)
    n_frames = len(truth.bvp)
    colour = np.array([180.0, 130, 110]) * (1 - 0.02 * truth.bvp[:, None] * np.array([0.3, 1, 0.6]))
    noise = np.random.default_rng(0).normal(0, 3, (n_frames, size_px, size_px, 3))
    return FaceClip(
        fps=fps,
        start_s=3.0,
        rgb=colour,
        traces=np.repeat(colour[:, None], len(REGIONS), axis=1),
        background_rgb=np.full((n_frames, 3), np.nan),
        box_xywh=np.tile([10.0, 10, 100, 120], (n_frames, 1)),
        found=np.ones(n_frames, dtype=bool),
        clip=np.clip(np.rint(colour[:, None, None] + noise), 0, 255).astype(np.uint8),
    )


def wave_of(path: Path, fed: FaceClip) -> Float:
    """The net's own wave, with no help from methods."""
    net, _ = load_net(path)
    with torch.inference_mode():
        bvp: Float = net(torch.from_numpy(fed.as_net_input()))[0].double().numpy()
    return bvp


def alike(a: Float, b: Float) -> None:
    np.testing.assert_allclose(a, b, atol=2e-3 * float(np.std(b)))


@pytest.mark.parametrize("name", RATES)
def test_a_net_that_gives_rates_is_believed_as_far_as_mvdr_supports_it(tmp_path: Path, name: str) -> None:
    path, given = save(tmp_path / "w.safetensors", name), clip(4.0, 12.0)
    method = load_method(name, path)
    net, _ = load_net(path)
    with torch.inference_mode():
        hr_bpm = float(net(torch.from_numpy(given.as_net_input()), torch.tensor([12.0])))
    assert method.rate is not None and method.rate(given) == pytest.approx(hr_bpm, abs=0.1)
    said = method(given)
    assert said.hr_bpm == pytest.approx(min(max(hr_bpm, 40.0), 180.0), abs=0.1)
    assert (said.pulse, said.evidence, said.snr_db) == (None, None, None)
    assert not said.reliable and said.confidence == 0 and "no wave to check" in str(said.why_unreliable)
    with pytest.raises(ValueError, match="a rate and no wave"):
        method.wave(given)


def test_support_of_a_rate_is_a_reliable_mvdr_that_says_the_same() -> None:
    given = clip(12.0, 20.0)
    witness = METHODS["mvdr"](given)
    assert witness.reliable and witness.hr_bpm == pytest.approx(75, abs=2)
    agreed = estimate_from_rate(given, 76.0)
    assert (agreed.hr_bpm, agreed.reliable, agreed.confidence) == (76.0, True, witness.confidence)
    other = estimate_from_rate(given, 90.0)
    assert (other.hr_bpm, other.reliable, other.confidence) == (90.0, False, 0.0)
    assert "MVDR reads 7" in str(other.why_unreliable)
    assert estimate_from_rate(given, float("nan")).hr_bpm is None
    assert estimate_from_rate(given, 300.0).hr_bpm == 180.0
    assert given.clip is not None
    still = replace(given, rgb=np.full_like(given.rgb, 120.0), clip=np.full_like(given.clip, 120))
    assert not estimate_from_rate(still, 75.0).reliable


@pytest.mark.parametrize(("said_bpm", "reliable"), [(75.0, True), (120.0, False), (43.0, False)])
def test_other_weights_need_a_witness_whatever_their_wave_looks_like(said_bpm: float, reliable: bool) -> None:
    given = clip(12.0, 20.0)
    # Clean and steady, as the wave of a net that learned nothing may be.
    wave = np.sin(2 * np.pi * said_bpm / 60 * np.arange(given.n_frames) / given.fps)
    pulse = Pulse(wave, given.fps, given.start_s)
    own = estimate(given, pulse, is_net=True, trusted=False)
    assert own.hr_bpm == pytest.approx(said_bpm, abs=1) and own.reliable == reliable
    assert own.witness is not None
    assert estimate_heart_rate(own.witness.bvp, given.fps).hr_bpm == pytest.approx(75, abs=2)
    if not reliable:
        assert own.confidence <= 0.5 and "MVDR reads another rate" in str(own.why_unreliable)


@pytest.mark.parametrize(
    ("change", "reliable"),
    [({"halves_bpm": 20.0}, True), ({"runner_up": 0.6}, True), ({"halves_bpm": 20.0, "runner_up": 0.6}, False)],
)
def test_a_rate_that_its_halves_deny_and_another_peak_rivals_is_not_reliable(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reliable: bool
) -> None:
    gathered = gather_evidence
    monkeypatch.setattr(verdict, "gather_evidence", lambda *given: replace(gathered(*given), **change))
    given = clip(12.0, 20.0)
    said = estimate(given, Pulse(simulate_pulse(12.0, 20.0, 75, seed=1).bvp, given.fps, given.start_s), is_net=True)
    assert said.reliable == reliable and (reliable or "two halves" in str(said.why_unreliable))


@pytest.mark.parametrize(("lamp", "vetoed"), [(0.0, False), (0.01, True)])
def test_a_beat_that_the_hair_shows_too_is_the_light(lamp: float, vetoed: bool) -> None:
    given = clip(12.0, 20.0, 64)
    assert given.clip is not None and np.isnan(given.background_rgb).all(), "no background to see it on"
    beat = simulate_pulse(12.0, 20.0, 75, seed=1).bvp
    frames = given.clip.copy()
    hair = np.array([60.0, 70, 90]) * (1 - lamp * beat[:, None])
    noise = np.random.default_rng(1).normal(0, 3, (given.n_frames, 64, 16, 3))
    frames[:, :, :16] = np.clip(np.rint(hair[:, None, None] + noise), 0, 255)
    wave = Pulse(beat, given.fps, given.start_s)
    said = estimate(replace(given, clip=frames), wave)
    assert said.hr_bpm == pytest.approx(75, abs=2)
    assert said.reliable != vetoed and ("the light, not the pulse" in str(said.why_unreliable)) == vetoed


def test_only_the_weights_that_the_confidence_was_fitted_on_are_trusted(tmp_path: Path, shelf: Path) -> None:
    save(shelf / "autohr.safetensors")
    assert load_method("autohr").trusted and load_method("autohr", shelf / "autohr.safetensors").trusted
    assert not load_method("autohr", save(tmp_path / "own.safetensors")).trusted
    save(shelf / "physnet.safetensors", "physnet")
    assert not load_method("physnet").trusted


def test_mvdr_reads_the_cells_of_the_crop_or_the_colours_where_there_is_none() -> None:
    given = clip(12.0, 20.0)
    for fed in (given, replace(given, clip=None), replace(given, clip=None, traces=np.full_like(given.traces, np.nan))):
        said = METHODS["mvdr"](fed)
        assert said.hr_bpm == pytest.approx(75, abs=2)
    with pytest.raises(AutoHRError, match="mvdr reads box='tracked'"):
        Meter("mvdr", MeterConfig(box="first"))


@pytest.mark.parametrize("name", WAVES)
def test_every_net_of_the_table_gives_its_wave_on_the_clips_clock(tmp_path: Path, name: str) -> None:
    path, given = save(tmp_path / "w.safetensors", name), clip()
    method = load_method(name, path)
    pulse = method.wave(given)
    assert (pulse.fps, pulse.start_s, len(pulse.bvp)) == (given.fps, given.start_s, given.n_frames)
    alike(pulse.bvp, bandpass(wave_of(path, given), given.fps))
    assert (method.name, method.weights) == (name, str(path))
    assert load_method(weights=path).name == name, "without a method the header's net is it"
    assert method(given).pulse is not None


def test_a_net_without_weights_says_how_to_get_some() -> None:
    with pytest.raises(ValueError, match="load_method"):
        METHODS["autohr"].wave(clip())


def test_a_video_faster_than_the_training_is_thinned(tmp_path: Path) -> None:
    path, given = save(tmp_path / "w.safetensors"), clip(8, 60.0)
    assert given.clip is not None
    pulse = load_method("autohr", path).wave(given)
    thin = wave_of(path, replace(given, clip=given.clip[::2]))
    alike(pulse.bvp, bandpass(np.interp(np.arange(480) / 2, np.arange(240), thin), 60.0))
    slow = save(tmp_path / "slow.safetensors", training_data={"fps_to": 60.0})
    alike(load_method("autohr", slow).wave(given).bvp, bandpass(wave_of(path, given), 60.0))


def test_a_video_slower_than_the_training_gets_frames_in_between(tmp_path: Path) -> None:
    path, given = save(tmp_path / "w.safetensors", training_data={"fps_from": 14.0, "fps_to": 30.0}), clip(10, 12.0)
    assert given.clip is not None
    between = np.rint((given.clip[:-1].astype(float) + given.clip[1:]) / 2).astype(np.uint8)
    dense = np.empty((2 * given.n_frames - 1, *given.clip.shape[1:]), np.uint8)
    dense[::2], dense[1::2] = given.clip, between
    pulse = load_method("autohr", path).wave(given)
    assert len(pulse.bvp) == given.n_frames
    alike(pulse.bvp, bandpass(wave_of(path, replace(given, clip=dense))[::2], 12.0))
    usual = clip(10, 14.0)
    alike(load_method("autohr", path).wave(usual).bvp, bandpass(wave_of(path, usual), 14.0))


class Brightness:
    """A net whose wave is the mean of each frame; it keeps how many frames it was fed at once."""

    def __init__(self, **data: float) -> None:
        self.fed: list[int] = []
        self.net = Net({"input": {}, "fps": 15.0, "training_data": data}, "wave", self.run)

    def run(self, fed: NDArray[np.float32], _fps: float) -> Float:
        self.fed.append(fed.shape[2])
        mean: Float = fed.mean(axis=(1, 3, 4), dtype=np.float64)
        return mean


@pytest.mark.parametrize("n_frames", [4, 44, 45, 46, 60, 75, 76, 400])
def test_crops_go_through_a_net_in_pieces_that_join(n_frames: int) -> None:
    given, seen = clip(n_frames / 15.0, 15.0), Brightness()
    assert given.clip is not None
    whole = given.as_net_input().mean(axis=(1, 3, 4), dtype=np.float64)[0]
    stream = NetStream(seen.net, 15.0, piece_s=3.0, overlap_s=1.0)
    known = []
    for place, crop in enumerate(given.clip):
        stream.push(crop)
        if stream.n_known:
            known.append((place + 1, stream.wave(0, stream.n_known)))
    stream.end()
    assert all(place - len(wave) < 30 for place, wave in known), "a reading waits for two seconds at most"
    joined = stream.wave(0, n_frames)
    assert joined.shape == (n_frames,) and stream.n_known == n_frames
    np.testing.assert_allclose(joined, whole, rtol=1e-9)
    assert max(seen.fed) <= 45 and sum(seen.fed) <= 2 * n_frames


def test_a_stream_that_forgets_joins_the_same_wave() -> None:
    given, streams = clip(20, 15.0), [NetStream(Brightness().net, 15.0) for _ in range(2)]
    assert given.clip is not None
    for place, crop in enumerate(given.clip):
        for stream in streams:
            stream.push(crop)
        streams[0].forget(place - 60)
    forgetful, keeps_all = (stream.wave(240, stream.n_known - 240) for stream in streams)
    np.testing.assert_array_equal(forgetful, keeps_all)


def test_the_rate_of_a_net_without_a_wave_is_the_mean_of_its_pieces() -> None:
    def run(fed: NDArray[np.float32], fps: float) -> Float:
        assert fps == 15.0 and fed.shape[2] <= 30
        return np.array([fed[0, 0, :, 0, 0].mean()])

    net = Net({"input": {"n_frames": 30}, "fps": 15.0, "training_data": {}}, "rate", run)
    stream = NetStream(net, 15.0)
    for place in range(90):
        stream.push(np.full((16, 16, 3), place, np.uint8))
    stream.end()
    assert stream.wave(0, 90).shape == (90,)
    assert stream.wave(0, 90).mean() * 255 == pytest.approx(44.5)
    assert stream.wave(60, 30).mean() * 255 == pytest.approx(74.5, abs=4)


@pytest.mark.parametrize("n_frames", [20, 30, 31, 44, 45, 46, 61])
def test_every_piece_of_a_net_of_rates_is_as_long_as_in_training(n_frames: int) -> None:
    """The last one reaches back; only a face that is shown for less than that has a shorter one."""
    fed: list[tuple[int, int]] = []

    def run(clips: NDArray[np.float32], fps: float) -> Float:
        fed.append((round(255 * float(clips[0, 0, 0, 0, 0])), clips.shape[2]))
        return np.array([60.0])

    net = Net({"input": {"n_frames": 30}, "fps": 15.0, "training_data": {}}, "rate", run)
    stream = NetStream(net, 15.0)
    for place in range(n_frames):
        stream.push(np.full((16, 16, 3), place, np.uint8))
        stream.forget(place - 50)
    stream.end()
    assert stream.n_known == n_frames and (stream.wave(n_frames - 10, 10) == 60).all()
    assert {length for _, length in fed} == {min(30, n_frames)}
    assert fed[-1][0] + fed[-1][1] == n_frames and len(fed) == max(1, -(-(n_frames - 15) // 15))


# -- the same crops as in training


class Finds:
    """A detector that sees the drawn patch: the box of what is redder than blue."""

    def detect(self, frame: Frame, /) -> Sequence[Detection]:
        rows, columns = np.nonzero(frame[..., 0].astype(int) > frame[..., 2] + 20)
        if len(rows) < 100:
            return []
        box = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1], dtype=np.float64)
        marks = box[:2] + np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.58], [0.36, 0.76], [0.64, 0.76]]) * box[2:]
        return [Detection(box, 0.99, marks)]


def moving_patch(n_frames: int) -> list[Frame]:
    """A textured oval that sways over a grey wall, hidden for half a second."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(0.5, 1.2, (200, 200)).astype(np.float32), (0, 0), 2)[..., None]
    frames = []
    for k in range(n_frames):
        at = (80 + 8 * np.sin(k / 9), 60 + 3 * np.cos(k / 7))
        skin = np.zeros((120, 160), np.float32)
        if not 60 <= k < 72:
            cv2.ellipse(skin, (int(at[0] * 16), int(at[1] * 16)), (30 * 16, 38 * 16), 0, 0, 360, 1.0, -1, shift=4)
        shift = np.array([[1, 0, at[0] - 80 - 20], [0, 1, at[1] - 60 - 20]], dtype=np.float64)
        moved = cv2.warpAffine(texture, shift, (160, 120), borderMode=cv2.BORDER_REFLECT)[..., None]
        scene = skin[..., None] * moved * [190, 140, 100] + (1 - skin[..., None]) * [90, 90, 90]
        frames.append(np.clip(scene + rng.normal(0, 1, scene.shape), 0, 255).astype(np.uint8))
    return frames


@pytest.mark.slow
@pytest.mark.parametrize(("box", "margin"), [("tracked", 0.1), ("tracked", 0.0), ("first", 0.25)])
def test_a_meter_cuts_the_crops_of_the_training_cache(tmp_path: Path, box: Any, margin: float) -> None:
    fps, n_frames = 24.0, 240
    frames, video = moving_patch(n_frames), tmp_path / "v.mkv"
    write_video(video, frames, fps=fps, codec="ffv1", pix_fmt="bgr0")
    t_s = np.arange(n_frames) / fps
    recording = Recording("made", "a", "1", video, Reference(t_s, np.sin(7.5 * t_s), None))
    crop = CropConfig(size_px=40, box=box, margin=margin)
    manifest = prepare([recording], tmp_path / "cache", crop, workers=1, detector=Finds())
    assert manifest.kept, manifest.excluded
    (cached,) = open_cached(tmp_path / "cache", crop)
    trained_on = np.stack([np.rint(show(frame, Look(), 32)) for frame in cached.frames]).astype(int)

    path = save(tmp_path / "w.safetensors", input={**INPUT, "box": box, "margin": margin})
    clips: list[FaceClip] = []

    def keep(given: FaceClip) -> Pulse:
        clips.append(given)
        return Pulse(np.sin(7.5 * np.arange(given.n_frames) / given.fps), given.fps, given.start_s)

    meter = Meter(
        replace(load_method("autohr", path), wave=keep, stream=None), MeterConfig(window_s=9.9), detector=Finds()
    )
    with open_video(video) as opened:
        for one in opened:
            meter.push(one.rgb, one.t_s)
    meter.finish()
    assert clips and clips[0].clip is not None and not clips[0].found.all()
    seen = clips[0].clip.astype(int)
    assert seen.shape == (238, 32, 32, 3)
    assert np.abs(seen - trained_on[:238]).max() <= 1
    assert np.abs(np.diff(trained_on.astype(int), axis=0)).max() > 20, "a still picture would prove nothing"


def test_the_box_is_the_trainings(tmp_path: Path) -> None:
    first = load_method("autohr", save(tmp_path / "w.safetensors", input={**INPUT, "box": "first"}))
    assert Meter(first).box == Meter(first, MeterConfig(box="first")).box == "first"
    assert Meter("pos").box == "tracked" and Meter("pos", MeterConfig(box="first")).box == "first"
    with pytest.raises(BadWeights, match="trained with box='first'"):
        Meter(first, MeterConfig(box="tracked"))


# -- which weights


def test_the_default_is_autohr_where_its_weights_are_and_pos_elsewhere(shelf: Path) -> None:
    assert default_method() == load_method().name == "pos"
    assert ready_methods() == list(CLASSIC)
    save(shelf / "other.safetensors")
    assert default_method() == "pos"
    save(shelf / "autohr.safetensors")
    assert default_method() == "autohr" and "autohr" in ready_methods() and "physnet" not in ready_methods()
    method = load_method()
    assert (method.name, method.weights) == ("autohr", "autohr")
    assert load_method(weights="other").weights == "other"
    assert load_method("pos").weights is None


BAD: dict[str, tuple[dict[str, Any], type[AutoHRError], str]] = {
    "no weights of it": ({"name": "physnet"}, BadWeights, "no weights of physnet .it has: autohr.*safetensors"),
    "unknown name": ({"weights": "autohrr"}, UnknownName, "Known: autohr.*Did you mean 'autohr'"),
    "no such file": ({"weights": "gone/x.safetensors"}, BadWeights, "no weights file 'gone/x.safetensors'"),
    "path that is not there": ({"weights": Path("gone")}, BadWeights, "no weights file 'gone'"),
    "another net's": ({"name": "physnet", "weights": "autohr"}, BadWeights, "of autohr, not of physnet"),
    "a formula": ({"name": "pos", "weights": "autohr"}, BadWeights, "takes no weights"),
    "unknown method": ({"name": "autohrs"}, UnknownName, "Did you mean 'autohr'"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_do_not_fit_are_refused_in_one_line(shelf: Path, case: str) -> None:
    save(shelf / "autohr.safetensors")
    arguments, kind, says = BAD[case]
    with pytest.raises(kind, match=says) as caught:
        load_method(**arguments)
    assert "\n" not in str(caught.value)


def test_no_weights_at_all_is_said(shelf: Path) -> None:
    with pytest.raises(BadWeights, match="no weights of autohr .it has: none"):
        load_method("autohr")
    with pytest.raises(BadWeights, match="this installation has none"):
        load_method(weights="autohr")


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {**INPUT, "size_px": 64},
        {**INPUT, "crop_size_px": "40"},
        {**INPUT, "box": "moving"},
        {**INPUT, "margin": -1},
        {key: value for key, value in INPUT.items() if key != "margin"},
    ],
)
def test_weights_must_say_how_faces_were_cropped(tmp_path: Path, said: Any) -> None:
    with pytest.raises(BadWeights, match="how its faces were cropped"):
        load_method("autohr", save(tmp_path / "w.safetensors", input=said))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for device, is_there in there.items():
        if is_there:
            load_method("autohr", path, device).wave(clip())
        else:
            with pytest.raises(AutoHRError, match=f"'{device}' is not there.*cpu"):
                load_method("autohr", path, device)
    with pytest.raises(ValueError, match="device='abacus' is not one of cpu"):
        load_method("autohr", path, "abacus")


def test_weights_for_a_loaded_method_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="load_method"):
        measure("x.mp4", load_method("pos"), weights="autohr")


def test_a_formula_does_not_wait_for_torch() -> None:
    code = "import sys; from autohr.methods import load_method; load_method('pos'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_shipped_weights_are_whole_and_called_as_they_should() -> None:
    """Whatever this checkout ships. Weights called like a net must be that net's."""
    for name, path in methods.shipped_weights().items():
        method: Method = load_method(weights=name)
        assert method.crop is not None and method.weights == name
        assert name not in NETS or method.name == name
        assert path.stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("net", ["autohr", "rhythmnet"])
def test_weights_of_huge_finite_values_give_no_rate_and_the_reason(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autohr.video.tracker.FaceDetector", Knows)
    torch.manual_seed(0)
    fresh = make_net(net, SMALL.get(net, {}))
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.mul_(1e37).clamp_(-3e38, 3e38)
    path = tmp_path / "huge.safetensors"
    save_weights(path, fresh, name=net, header={"input": INPUT, "training_data": {"fps_to": 30.0}})
    frames = np.stack([frame for frame, _ in scene(6)])
    face = measure(frames, load_method(None, path), fps=30).face
    assert face.hr_bpm is None and not face.reliable and face.bvp is None
    assert face.why_unreliable in ("the method gives no finite wave", "the net's rate is no number")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_wave_with_one_value_that_is_no_number_gives_no_rate(value: float) -> None:
    def run(clips: NDArray[np.float32], fps: float) -> Float:
        out = np.sin(np.arange(clips.shape[2]) / 4) * np.ones((len(clips), 1))
        out[0, 7] = value
        return out

    method = replace(
        METHODS["autohr"], wave=wave_function(Net({"fps": 30.0, "training_data": {}, "input": {}}, "wave", run))
    )
    for size in (16, 64):
        rng = np.random.default_rng(0)
        clip = FaceClip(
            fps=30.0,
            start_s=0.0,
            rgb=rng.uniform(100, 120, (150, 3)),
            traces=rng.uniform(100, 120, (150, len(REGIONS), 3)),
            background_rgb=rng.uniform(90, 95, (150, 3)),
            box_xywh=np.tile([10.0, 10.0, 60.0, 60.0], (150, 1)),
            found=np.ones(150, dtype=bool),
            clip=rng.integers(90, 130, (150, size, size, 3), dtype=np.uint8),
        )
        estimated = method(clip)
        assert estimated.hr_bpm is None and estimated.pulse is None and "finite" in str(estimated.why_unreliable)
