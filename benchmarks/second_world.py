"""Clips of a second world, to judge measurements in: a known pulse laid into real video, and the same clips without it.

    python benchmarks/real.py --make OUT --clips 200 --talkers DIR --videos DIR --portraits DIR --workers 2

Nothing here is taken from ``autohr.lab.synth``, from ``autohr.lab.datasets.repulse`` or from the product's front end.

- Two kinds of clips. "video": a stretch of a real face, cropped, played there and back where it is too short. Its own
  pulse is replaced by noise (``benchmarks/performances.py``), and it is played at a speed that rises or falls all the
  time, so that what is left has no one rate. "portrait": a photograph of a real person that moves as the
  tracked face of one of these videos does, and whose skin is shaded as its was.
- Pulse: one to four harmonics, beats with respiratory and random variability, strength and baseline that breathe;
  colours around the vector of de Haan and van Leest (2014), different for every person and lamp, less red on the lips;
  strong on forehead and cheeks, weak on the bridge of the nose and the chin, patchy, none on eyes, hair and glasses;
  later on cheeks and chin than on the forehead by 10 to 40 ms. It multiplies linear light; the picture has a gamma.
- Each beat nods the head by 0.02 to 0.5 px, some time after the pulse leaves the heart. The clip without a pulse nods
  all the same: movement alone is no reason to call a rate reliable either.
- Light that drifts, flickers or comes from a screen at one side; exposure and white balance that follow the skin with
  a lag; shot and read noise, denoised or not.
- h264 and hevc at the rates of phones, h264, vp9 and mjpeg as on the web; 15 to 60 frames per second, time stamps that
  jitter, phones that change their rate.

A clip with a pulse is ``readable`` if an oracle reads it: one that knows the skin in every frame, the pulse's colours
and the true rate. It takes the mean colour of the skin from the decoded file, combines the channels as best holds down
what is not at that rate, and needs a signal-to-noise ratio of ``READABLE_DB`` or more and the strongest peak within
``READABLE_BPM`` of the truth, both in the median of windows of 10 s. The threshold was set before any method was run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.files import write_bytes
from autohr.types import Float, Frame
from performances import (
    PULSE_RGB,
    Image,
    OwnPulse,
    Performance,
    find_own_pulse,
    in_eye_units,
    mean_face,
    read_frames,
    read_performance,
    smoothed,
)
from shots import Shot, Take, film_portrait, film_video

READABLE_DB, READABLE_BPM = 0.0, 3.0
"""Least ratio, in decibel, of the oracle's power within 6 bpm of the true rate and its double to the rest of 40 to
240 bpm, and largest error of its peak, for a clip to be called readable. At 0 dB the true line holds half of the
power of the heart band, which is 12 times as dense there as anywhere else."""

DARK_GLASSES = frozenset("004 032 038 048 053 099".split())
GLASSES = frozenset("016 023 034 062 067 082 092".split())
BEARDS = frozenset("006 016 022 033 037 061 066 067 071 077 084 086 087 097 099".split())
"""Portraits by number, as seen on the pictures."""
LEFT_OUT = frozenset({"002", "003", "019", "026"})
"""Portraits that are not used: black and white, a camera or a hat before the face, painted."""
MAX_TURN = 0.4
"""Largest distance of the nose's tip from the middle, in units of the eyes' distance, of a portrait that is used: the
motion is that of faces that look at the camera."""

SPEEDS = (0.75, 1.3)
"""Speeds at the ends of a clip at which a performance is played: what is left of its own pulse sweeps over half of its
rate and is no line in any window."""
VIDEO_SHARE = 0.35
"""Share of clips that are real video."""


# ---------------------------------------------------------------------------------------------------------------------
# Heart, breath, light and camera: series over time


@dataclass(frozen=True, eq=False)
class Heart:
    """Beats of a heart and what they do."""

    beats_s: Float
    """(N,) from well before the clip to well after it."""
    amplitudes: Float
    """(K,) strength of the harmonics."""
    phases: Float
    """(K,)"""
    resp_hz: float
    resp_depth: float
    """Share by which breathing changes the strength of the pulse."""

    def beat_phase(self, t_s: Float) -> Float:
        """Return the number of beats (T,) up to each time, with fractions."""
        return np.interp(t_s, self.beats_s, np.arange(len(self.beats_s), dtype=np.float64))

    def wave(self, t_s: Float) -> Float:
        """Return the pulse wave (T,), about 1 from foot to peak, positive where there is more blood."""
        turn = 2 * np.pi * self.beat_phase(t_s)
        order = np.arange(1, len(self.amplitudes) + 1)
        shape = (self.amplitudes * np.cos(order * turn[:, None] + self.phases)).sum(axis=1)
        one_beat = np.linspace(0, 2 * np.pi, 200)
        height = np.ptp((self.amplitudes * np.cos(order * one_beat[:, None] + self.phases)).sum(axis=1))
        breath = 2 * np.pi * self.resp_hz * t_s
        beat = shape / height * (1 + self.resp_depth * np.sin(breath))
        return np.asarray(beat + 0.5 * self.resp_depth * np.sin(breath - 1))

    def nod(self, t_s: Float, delay_s: float) -> Float:
        """Return the head's movement (T,) by the beats, 1 from end to end: a swing at 5 Hz that dies within a beat."""
        since = t_s[:, None] - self.beats_s - delay_s
        swing = np.where(since > 0, np.exp(-np.maximum(since, 0) / 0.12) * np.sin(2 * np.pi * 5 * since), 0).sum(axis=1)
        return np.asarray(swing / 1.15)

    def rate_bpm(self, start_s: float, end_s: float) -> float:
        """Return the mean rate between two times."""
        first, last = self.beat_phase(np.array([start_s, end_s]))
        return float(60 * (last - first) / (end_s - start_s))


def random_heart(rng: np.random.Generator, hr_bpm: float, duration_s: float) -> Heart:
    """Return a heart of about the given mean rate: breathing, slow waves and chance move the intervals."""
    resp_hz = rng.uniform(0.16, 0.4)
    calm = min(1.0, 60 / hr_bpm)
    rsa, slow, chance = (
        calm * rng.uniform(0.005, 0.05),
        calm * rng.uniform(0.005, 0.025),
        calm * rng.uniform(0.003, 0.015),
    )
    drift = rng.uniform(-0.03, 0.03)
    phases = rng.uniform(0, 2 * np.pi, 2)
    beats, last = [-4.0 + rng.uniform(0, 1)], 0.0
    while beats[-1] < duration_s + 4:
        t_s = beats[-1]
        last = 0.6 * last + chance * rng.standard_normal()
        stretch = rsa * np.sin(2 * np.pi * resp_hz * t_s + phases[0]) + slow * np.sin(2 * np.pi * 0.1 * t_s + phases[1])
        beats.append(t_s + 60 / hr_bpm * (1 + stretch + last + drift * (t_s / duration_s - 0.5)))
    # A fast heart has no time for a dicrotic notch: its wave is nearly a sine.
    upper = calm ** np.array([0, 0.5, 1, 1.5])
    amplitudes = np.array([1, rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.25), rng.uniform(0, 0.1)]) * upper
    return Heart(
        np.array(beats),
        amplitudes,
        rng.uniform(-0.6, 0.6, 4) + np.array([0, 1.2, 2.4, 3.0]),
        resp_hz,
        rng.uniform(0.03, 0.2),
    )


def light_series(rng: np.random.Generator, kind: str, t_s: Float) -> tuple[Float, Float]:
    """Return the logarithm of the light everywhere (T, 3) and of that from one side (T, 3)."""
    n = len(t_s)
    fps = (n - 1) / (t_s[-1] - t_s[0])
    everywhere, side = np.zeros((n, 3)), np.zeros((n, 3))
    walk = smoothed(np.cumsum(rng.standard_normal(n)) / np.sqrt(fps), fps * 0.7)
    everywhere += rng.uniform(0.001, 0.004) * (walk - walk.mean())[:, None]
    if kind == "drift":
        everywhere += (
            rng.uniform(0.02, 0.08) * np.sin(2 * np.pi * rng.uniform(0.03, 0.12) * t_s + rng.uniform(0, 6))[:, None]
        )
    if kind == "screen":
        cuts = np.cumsum(rng.exponential(1.6, 40))
        colours = rng.uniform(-1, 1, (41, 1)) + 0.4 * rng.standard_normal((41, 3))
        shown = smoothed(colours[np.searchsorted(cuts, t_s)], 0.05 * fps + 0.3)
        side += rng.uniform(0.01, 0.05) * shown
        everywhere += 0.3 * side
    if kind == "flicker":
        hz = rng.uniform(0.6, min(5.0, fps / 2))
        everywhere += rng.uniform(0.0008, 0.004) * np.sin(2 * np.pi * hz * t_s + rng.uniform(0, 6))[:, None]
    return everywhere, side


@dataclass(frozen=True)
class Camera:
    """Answer of a camera to the light, and the noise that it adds."""

    gamma: float
    exposure_lag_s: float
    exposure_strength: float
    """Share of a change of brightness that the exposure takes back in the end."""
    exposure_step: float
    """Smallest step of the exposure, as a share; 0 for one that glides."""
    balance_lag_s: float
    balance_strength: float
    noise: float
    """Standard deviation of the noise of bright parts, in levels of 8 bits."""
    denoised: bool

    def answer(self, skin: Float, t_s: Float) -> Float:
        """Return the logarithm of the gains (T, 3) that follow the skin's log brightness (T, 3)."""
        gains = np.zeros_like(skin)
        level, balance = skin[0].mean(), skin[0] - skin[0].mean()
        first, exposure = level, 0.0
        first_balance = balance.copy()
        for k in range(1, len(skin)):
            gap_s = t_s[k] - t_s[k - 1]
            level += (skin[k].mean() - level) * (1 - math.exp(-gap_s / self.exposure_lag_s))
            balance += (skin[k] - skin[k].mean() - balance) * (1 - math.exp(-gap_s / self.balance_lag_s))
            wanted = -self.exposure_strength * (level - first)
            if abs(wanted - exposure) >= self.exposure_step:
                exposure = wanted
            gains[k] = exposure - self.balance_strength * (balance - first_balance)
        return gains


def random_camera(rng: np.random.Generator) -> Camera:
    return Camera(
        gamma=rng.uniform(1.9, 2.4),
        exposure_lag_s=rng.uniform(0.3, 1.5),
        exposure_strength=rng.choice([0.0, 0.5, 0.9]),
        exposure_step=rng.choice([0.0, 0.0, 0.004]),
        balance_lag_s=rng.uniform(1.5, 5),
        balance_strength=rng.choice([0.0, 0.4, 0.8]),
        noise=math.exp(rng.uniform(math.log(0.4), math.log(2.5))),
        denoised=bool(rng.uniform() < 0.5),
    )


class Noise:
    """Sensor noise for frames of one size. A few fields of noise are made once and shown at random places."""

    def __init__(self, camera: Camera, height: int, width: int, rng: np.random.Generator) -> None:
        self._rng, self._size = rng, (height, width)
        fields = rng.standard_normal((4, height + 48, width + 48, 3), dtype=np.float32)
        if camera.denoised:
            fields = np.array([_grainy(field) for field in fields])
        self._fields = fields
        # Shot noise grows with the root of the light, and gamma takes nearly all of this back; read noise is left in
        # the dark parts.
        dark = 1 - np.arange(256) / 255
        self._sd = (camera.noise * (1 + 1.5 * dark**3)).astype(np.float32)

    def of(self, base: Frame) -> Image:
        """Return the noise of a frame (H, W, 3)."""
        height, width = self._size
        y, x = self._rng.integers(0, 48, 2)
        field = self._fields[self._rng.integers(len(self._fields)), y : y + height, x : x + width]
        turned = field[:, :: self._rng.choice([-1, 1])]
        return np.asarray(cv2.multiply(turned, cv2.LUT(base, self._sd)), dtype=np.float32)


def _grainy(field: Image) -> Image:
    """Return noise with the coarse grain that a phone's denoising leaves."""
    smooth = cv2.GaussianBlur(field, (0, 0), 1.1)
    return np.asarray(smooth / smooth.std() * 0.7, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@dataclass(frozen=True)
class Coding:
    """Encoder of a clip."""

    name: str
    """phone h264, phone hevc, web h264, web vp9 or web mjpeg."""
    codec: str
    suffix: str
    pix_fmt: str
    gop: int
    options: dict[str, str]
    bit_rate: int | None = None
    quantiser: int | None = None


def random_coding(rng: np.random.Generator, size: tuple[int, int], fps: float) -> Coding:
    """Return an encoder as phones and web pages use it for pictures of a size and rate."""
    pixels = size[0] * size[1]
    chances = np.array([0.3, 0.15, 0.3, 0.15, 0.1 if pixels <= 640 * 480 and fps <= 30 else 0.0])
    kind = rng.choice(5, p=chances / chances.sum())
    per_pixel = math.exp(rng.uniform(math.log(0.1), math.log(0.4)))
    one_second = round(fps)
    if kind == 0:
        options = {"preset": "veryfast", "bf": "0"}
        return Coding("phone h264", "libx264", ".mp4", "yuv420p", one_second, options, round(per_pixel * pixels * fps))
    if kind == 1:
        options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
        bit_rate = round(0.8 * per_pixel * pixels * fps)
        return Coding("phone hevc", "libx265", ".mp4", "yuv420p", one_second, options, bit_rate)
    if kind == 2:
        crf, gop = str(rng.integers(22, 32)), int(rng.choice([2 * one_second, 250]))
        return Coding("web h264", "libx264", ".mp4", "yuv420p", gop, {"preset": "veryfast", "crf": crf})
    if kind == 3:
        options = {"crf": str(rng.integers(24, 40)), "deadline": "realtime", "cpu-used": "8"}
        return Coding("web vp9", "libvpx-vp9", ".webm", "yuv420p", 128, options, 0)
    return Coding("web mjpeg", "mjpeg", ".mkv", "yuvj420p", 1, {}, quantiser=int(rng.integers(4, 12)))


class Recorder:
    """Writer of one video file; a context manager."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float, coding: Coding) -> None:
        self._container = av.open(str(path), "w")
        stream: Any = self._container.add_stream(coding.codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = *size, coding.pix_fmt
        stream.options = coding.options
        context = stream.codec_context
        self._time_base = Fraction(1, 1000 if coding.suffix != ".mp4" else 90_000)
        context.time_base = self._time_base
        context.gop_size, context.thread_count = coding.gop, 1
        if coding.bit_rate is not None:
            context.bit_rate = coding.bit_rate
        if coding.quantiser is not None:
            context.qscale, context.global_quality = True, coding.quantiser * 118
            context.qmin = context.qmax = coding.quantiser
        # What the decoder takes untagged files for.
        self._matrix = "ITU709" if size[1] >= 720 and coding.codec != "mjpeg" else "ITU601"
        self._stream, self._pix_fmt = stream, coding.pix_fmt

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def write(self, rgb: Frame, t_s: float) -> None:
        """Append a frame (H, W, 3)."""
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = frame.reformat(format=self._pix_fmt, dst_colorspace=self._matrix)
        frame.pts, frame.time_base = round(t_s / self._time_base), self._time_base
        self._container.mux(self._stream.encode(frame))


def frame_times(rng: np.random.Generator, timing: str, fps: float, duration_s: float) -> Float:
    """Return the time (T,) of each frame from 0: "steady", "jitter" (and lost frames), "phone" (the rate changes)."""
    if timing == "phone":
        # In poor light a phone exposes longer: the rate falls for some seconds.
        slow, low_s = fps * rng.uniform(0.55, 0.85), np.sort(rng.uniform(0, duration_s, 2))
        times = [0.0]
        while times[-1] < duration_s:
            now = slow if low_s[0] < times[-1] < low_s[1] else fps
            times.append(times[-1] + 1 / now)
        return np.array(times[:-1])
    times_s = np.arange(0, duration_s, 1 / fps)
    if timing == "jitter":
        times_s = times_s + rng.uniform(0.03, 0.25) / fps * np.clip(rng.standard_normal(len(times_s)), -2, 2)
        kept = rng.uniform(size=len(times_s)) > rng.uniform(0, 0.04)
        times_s = np.sort(times_s[kept])
        times_s = times_s[np.concatenate([[True], np.diff(times_s) > 0.003])]
        times_s -= times_s[0]
    return times_s


# ---------------------------------------------------------------------------------------------------------------------
# What an oracle reads


def oracle(
    colours: Float, t_s: Float, signature: Float, hr_bpm: list[float], window_s: float = 10.0
) -> tuple[float, float]:
    """Return the signal-to-noise ratio in decibel at the true rate, and the error of the strongest peak in bpm.

    Both are medians over windows of ``window_s``, one a second.

    Parameters
    ----------
    colours
        (T, 3) mean colour of the skin at the times ``t_s`` (T,).
    signature
        (3,) relative strength of the pulse in the three channels, as displayed.
    hr_bpm
        True mean rate of each window: ``oracle_windows`` says which.
    """
    fs = 30.0
    clock = np.arange(t_s[0], t_s[-1], 1 / fs)
    log = np.log(np.array([np.interp(clock, t_s, one) for one in colours.T]).T + 1e-3)
    found = []
    for (start_s, end_s), true_bpm in zip(oracle_windows(t_s, window_s), hr_bpm, strict=True):
        window = log[(clock >= start_s) & (clock < end_s)]
        changes = (window - smoothed(window, 0.6 * fs)) * np.hanning(len(window))[:, None]
        spectrum = np.fft.rfft(changes, 16384, axis=0)
        bpm = np.fft.rfftfreq(16384, 1 / fs) * 60
        band = (bpm >= 40) & (bpm <= 240)
        own = band & ((np.abs(bpm - true_bpm) <= 6) | (np.abs(bpm - 2 * true_bpm) <= 6))
        # PBV (de Haan and van Leest 2014, equation 6), but that the noise is known: with the pulse in the covariance a
        # small error of the signature makes the weights cancel a strong pulse.
        other = spectrum[band & ~own]
        noise = np.real(other.T @ other.conj())
        weights = np.linalg.solve(noise + 1e-6 * np.trace(noise) * np.eye(3), signature)
        power = np.abs(spectrum @ weights) ** 2
        snr_db = 10 * np.log10((power[own].sum() + 1e-30) / (power[band & ~own].sum() + 1e-30))
        searched = (bpm >= 40) & (bpm <= 180)
        found.append((snr_db, abs(bpm[searched][np.argmax(power[searched])] - true_bpm)))
    snr, error = np.median(np.array(found), axis=0)
    return float(snr), float(error)


def oracle_windows(t_s: Float, window_s: float = 10.0) -> list[tuple[float, float]]:
    """Return start and end of the oracle's windows."""
    last_s = max(t_s[0], t_s[-1] - window_s)
    return [(start_s, start_s + window_s) for start_s in np.arange(t_s[0], last_s + 0.01, 1.0)]


def skin_colours(video: Path, masks: Sequence[NDArray[np.bool_]]) -> Float:
    """Return the mean colour (T, 3) of the skin in each frame of a file; ``masks`` (h, w) are of smaller pictures."""
    colours = []
    height, width = masks[0].shape
    for (frame, _), mask in zip(read_frames(video), masks, strict=True):
        small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        colours.append(cv2.mean(small, mask.astype(np.uint8))[:3])
    return np.array(colours)


# ---------------------------------------------------------------------------------------------------------------------
# Clips


SCHEMA = "autohr.second_world/1"


@dataclass(frozen=True)
class Clip:
    """One clip, as it was made: the truth that lies beside its file."""

    seed: int
    video: str
    pulse: bool
    hr_bpm: float | None
    """Mean true rate; None without a pulse."""
    nod_bpm: float
    """Mean rate of the movement by the beats, which is there without a pulse too."""
    beats_s: tuple[float, ...]
    """Beats of the pulse, or of the movement alone, in seconds of the file."""
    kind: str
    """video or portrait."""
    source: str
    """File of the face."""
    motion: str
    """File of the face whose movement it is."""
    wearing: str
    """dark glasses, glasses, beard, both of the last, or nothing, of portraits; "unknown" of videos."""
    tone: str
    """light, medium or dark: the skin in the picture, in its light (individual typology angle)."""
    lightness: float
    """L* of the skin."""
    pulse_pct: float
    """Pulse of green's linear light from foot to peak where it is strongest, in percent; what it would be, without."""
    skin_pulse_pct: float
    """The same as the mean over the oracle's skin."""
    signature: tuple[float, float, float]
    """Pulse in red, green and blue, as displayed; green is 1."""
    nod_px: float
    light: str
    noise: float
    gamma: float
    timing: str
    fps: float
    width: int
    height: int
    duration_s: float
    coding: str
    bits_per_pixel: float
    face_px: float
    movement: float
    oracle_snr_db: float
    oracle_error_bpm: float
    readable: bool
    """Always False without a pulse."""

    def write(self, folder: Path) -> None:
        """Write the truth beside the video."""
        record = {"schema": SCHEMA, **dataclasses.asdict(self)}
        write_bytes(truth_path(folder / self.video), (json.dumps(record, allow_nan=False, indent=1) + "\n").encode())

    def rate_bpm(self, start_s: float, end_s: float) -> float:
        """Return the mean rate of the beats between two times."""
        numbers = np.interp([start_s, end_s], self.beats_s, np.arange(len(self.beats_s)))
        return float(60 * np.diff(numbers)[0] / (end_s - start_s))


def truth_path(video: Path) -> Path:
    """Return the path of the truth of a clip."""
    return video.with_suffix(".json")


def read_clips(folder: Path) -> list[Clip]:
    """Return the clips of a folder whose video is there, sorted by name."""
    clips = []
    for path in sorted(folder.glob("*_with*.json")):
        record = json.loads(path.read_text())
        if record.pop("schema") != SCHEMA:
            raise SystemExit(f"{path} is not of schema {SCHEMA}; make the clips anew.")
        record |= {name: tuple(record[name]) for name in ("beats_s", "signature")}
        clips.append(Clip(**record))
    return [clip for clip in clips if (folder / clip.video).exists()]


@dataclass(frozen=True, eq=False)
class Material:
    """Material that clips are made of."""

    portraits: dict[str, tuple[Path, Float]]
    """Photograph and its points (468, 2) by number."""
    face: Float
    performances: tuple[Performance, ...]
    own: tuple[OwnPulse, ...]


def load_material(portraits: Path, videos: Sequence[Path], cache: Path) -> Material:
    """Read portraits and videos; what was read of a video is kept in ``cache``."""
    with np.load(portraits / "landmarks.npz") as stored:
        meshes = {name: stored[name][:, :2].astype(np.float64) for name in stored.files if name.isdigit()}
    face = mean_face(list(meshes.values()))
    usable = {
        name: (portraits / f"{name}.jpg", mesh)
        for name, mesh in sorted(meshes.items())
        if name not in LEFT_OUT and abs(in_eye_units(mesh)[1, 0]) <= MAX_TURN and (portraits / f"{name}.jpg").exists()
    }
    read = [read_performance(path, face, cache) for path in videos]
    performances = tuple(one for one in read if one is not None)
    if not usable or not performances:
        raise SystemExit(f"{len(usable)} portraits and {len(performances)} videos with 5 s of a face: both are needed.")
    return Material(usable, face, performances, tuple(find_own_pulse(one.log_rgb, one.fps) for one in performances))


def video_files(folders: Sequence[Path]) -> list[Path]:
    """Return the video files of folders, sorted by folder and name."""
    suffixes = {".mp4", ".mov", ".mkv", ".webm", ".avi"}
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]


SIZES = ((320, 240), (640, 480), (480, 640), (640, 360), (960, 540), (1280, 720))
SIZE_CHANCES = (0.17, 0.42, 0.1, 0.17, 0.07, 0.07)


def make_pair(material: Material, seed: int, out: Path) -> list[Clip]:
    """Make the clip of a seed with its pulse and without; return the truth of both. What is there is not made again."""
    rng = np.random.default_rng([seed, 20])
    is_video = bool(rng.uniform() < VIDEO_SHARE)
    which = int(rng.integers(len(material.performances)))
    performance, own = material.performances[which], material.own[which]
    names = sorted(material.portraits)
    portrait = names[int(rng.integers(len(names)))]
    size = SIZES[int(rng.choice(len(SIZES), p=SIZE_CHANCES))]
    fps = float(rng.choice([15, 24, 25, 30, 60], p=[0.12, 0.13, 0.2, 0.48, 0.07]))
    if size[0] * size[1] > 640 * 360:
        fps = min(fps, 30.0)
    speeds = SPEEDS if rng.uniform() < 0.5 else SPEEDS[::-1]
    if is_video:
        size = _size_for(performance, size, rng)
        fps = min(fps, 30.0 if performance.fps > 28 else 25.0)
    timing = str(rng.choice(["steady", "jitter", "phone"], p=[0.6, 0.2, 0.2]))
    duration_s = float(rng.uniform(10.5, 13.0))
    t_s = frame_times(rng, timing, fps, duration_s)
    hr_bpm = float(rng.uniform(*[(50, 100), (100, 170), (40, 50)][int(rng.choice(3, p=[0.6, 0.28, 0.12]))]))
    heart = random_heart(rng, hr_bpm, duration_s)
    nod_px = float(math.exp(rng.uniform(math.log(0.02), math.log(0.5))))
    nod = nod_px * heart.nod(t_s, float(rng.uniform(0.05, 0.2)))
    take = Take(performance, own, material.face, size, t_s, speeds, nod)
    shot = film_video(take, rng) if is_video else film_portrait(take, *material.portraits[portrait], rng)
    camera = random_camera(rng)
    light = str(rng.choice(["steady", "drift", "screen", "flicker"], p=[0.45, 0.2, 0.2, 0.15]))
    everywhere, side = light_series(rng, light, t_s)
    depth = math.exp(rng.uniform(math.log(0.008), math.log(0.045)))
    depth *= float(0.5 + 0.5 * np.clip((shot.tone_lab[0] - 25) / 40, 0, 1))
    signature = PULSE_RGB / PULSE_RGB[1] * np.exp(0.12 * rng.standard_normal(3))
    signature /= signature[1]
    beat = pulse_weights(heart, t_s, depth, signature, camera.gamma)
    coding = random_coding(rng, size, fps)
    names_out = {pulse: f"{seed:04d}_{'with' if pulse else 'without'}{coding.suffix}" for pulse in (True, False)}
    beats = {True: beat, False: np.zeros_like(beat)}
    masks = record(shot, beats, names_out, out, t_s, fps, (everywhere, side), camera, coding, rng)

    rates = [heart.rate_bpm(*window) for window in oracle_windows(t_s)]
    strength = float(shot.skin.pulse[shot.skin.beats].mean())
    inside = (heart.beats_s > -1.5) & (heart.beats_s < t_s[-1] + 1.5)
    clips = []
    for pulse, name in names_out.items():
        snr_db, error_bpm = oracle(skin_colours(out / name, masks), t_s, signature, rates)
        clip = Clip(
            seed=seed,
            video=name,
            pulse=pulse,
            hr_bpm=heart.rate_bpm(t_s[0], t_s[-1]) if pulse else None,
            nod_bpm=heart.rate_bpm(t_s[0], t_s[-1]),
            beats_s=tuple(round(float(beat_s), 4) for beat_s in heart.beats_s[inside]),
            kind="video" if is_video else "portrait",
            source=performance.path.name if is_video else material.portraits[portrait][0].name,
            motion=performance.path.name,
            wearing="unknown" if is_video else _wearing(portrait),
            tone=_tone(shot.tone_lab),
            lightness=round(float(shot.tone_lab[0]), 1),
            pulse_pct=round(100 * depth, 3),
            skin_pulse_pct=round(100 * depth * strength, 3),
            signature=(float(signature[0]), float(signature[1]), float(signature[2])),
            nod_px=round(nod_px, 3),
            light=light,
            noise=round(camera.noise, 2),
            gamma=round(camera.gamma, 2),
            timing=timing,
            fps=fps,
            width=size[0],
            height=size[1],
            duration_s=round(float(t_s[-1] - t_s[0]), 3),
            coding=coding.name,
            bits_per_pixel=8 * (out / name).stat().st_size / (size[0] * size[1] * len(t_s)),
            face_px=round(shot.face_px, 1),
            movement=round(shot.movement, 4),
            oracle_snr_db=round(snr_db, 2),
            oracle_error_bpm=round(error_bpm, 2),
            readable=pulse and snr_db >= READABLE_DB and error_bpm <= READABLE_BPM,
        )
        clip.write(out)
        clips.append(clip)
    return clips


def pulse_weights(heart: Heart, t_s: Float, depth: float, signature: Float, gamma: float) -> Float:
    """Return for each frame the weights (T, 3, 3) of pulse, late and lips in red, green and blue (``Skin.change``).

    They are changes of a picture with ``gamma``; ``depth`` is green's, in linear light, from foot to peak. A wave that
    comes later by a map of delays is the wave less the delay times its slope.
    """
    wave = heart.wave(t_s)
    slope = (heart.wave(t_s + 0.005) - heart.wave(t_s - 0.005)) / 0.01
    colours = depth / gamma * signature
    # Lips have so much blood that red light meets little else: they change less in red.
    lips = colours * [0.5, 1.0, 0.9]
    return np.stack([-wave[:, None] * colours, slope[:, None] * colours, -wave[:, None] * lips], axis=1)


def record(
    shot: Shot,
    beats: dict[bool, Float],
    names: dict[bool, str],
    out: Path,
    t_s: Float,
    fps: float,
    light: tuple[Float, Float],
    camera: Camera,
    coding: Coding,
    rng: np.random.Generator,
) -> list[NDArray[np.bool_]]:
    """Write a file for each pulse; all else in them is the same. Return the skin (h, w) of each frame."""
    everywhere, side = light
    height, width = shot.field
    noise = Noise(camera, shot.height, shot.width, rng)
    # Light from one side reaches half of the picture.
    across = np.linspace(-3, 3, width) * rng.choice([-1, 1])
    one_side = np.broadcast_to((1 / (1 + np.exp(-across)))[None, :, None], (height, width, 1)).astype(np.float32)
    strongest, mean_pulse = float(shot.skin.pulse.max()), float(shot.skin.pulse[shot.skin.beats].mean())
    lit = everywhere + side / 2 + camera.gamma * shot.shading.mean(axis=1)
    gains = {pulse: camera.answer(lit + camera.gamma * mean_pulse * beat[:, 0], t_s) for pulse, beat in beats.items()}
    masks = []
    size = (shot.width, shot.height)
    with contextlib.ExitStack() as stack:
        recorders = {p: stack.enter_context(Recorder(out / name, size, fps, coding)) for p, name in names.items()}
        for k, (picture, lay) in enumerate(shot.frames()):
            masks.append(lay(shot.skin.pulse)[..., 0] > 0.5 * strongest)
            grain = noise.of(picture.astype(np.uint8))
            for pulse, beat in beats.items():
                change = lay(shot.skin.change(beat[k], shot.shading[k]))
                change += one_side * (side[k] / camera.gamma).astype(np.float32)
                change += ((everywhere[k] + gains[pulse][k]) / camera.gamma).astype(np.float32)
                factor = cv2.resize(cv2.exp(change), size, interpolation=cv2.INTER_LINEAR)
                shown = cv2.add(cv2.multiply(picture, factor, dtype=cv2.CV_32F), grain, dtype=cv2.CV_8U)
                recorders[pulse].write(np.asarray(shown, dtype=np.uint8), float(t_s[k]))
    return masks


def _size_for(performance: Performance, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Return a size to which the frames need not be enlarged more than 1.7 times: the given one, or another."""
    frame, _ = next(read_frames(performance.path))
    height, width = frame.shape[:2]
    fitting = [one for one in SIZES if one[0] / min(width, height * one[0] / one[1]) <= 1.7]
    return size if size in fitting else fitting[int(rng.integers(len(fitting)))]


def _wearing(portrait: str) -> str:
    if portrait in DARK_GLASSES:
        return "dark glasses"
    worn = [name for name, those in (("glasses", GLASSES), ("beard", BEARDS)) if portrait in those]
    return " and ".join(worn) or "nothing"


def _tone(lab: Float) -> str:
    """Return the skin's tone by its typology angle (Chardon 1991), 41 and 10 degrees being the bounds."""
    angle = math.degrees(math.atan2(lab[0] - 50, lab[2]))
    return "light" if angle > 41 else "medium" if angle > 10 else "dark"
