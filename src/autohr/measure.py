"""Measurement of a video of any kind, or of frames in memory: frames through a ``Meter``, one answer out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from autohr.confidence.verdict import LEAST_S
from autohr.errors import NoFace, SignalTooShort, with_notes
from autohr.meter import Look, Meter, MeterConfig, TooShort
from autohr.methods import Method, load_method
from autohr.signals.filters import standardise
from autohr.signals.hrv import (
    NOISE_SHARE_FORMULA,
    NOISE_SHARE_NET,
    detect_beats,
    heart_rate_variability,
    timed_beats,
)
from autohr.signals.rate import pooled_heart_rate
from autohr.types import FaceMeasurement, Float, Frame, Frames, Measurement, Pulse, Reading, Window
from autohr.video.decode import VideoReader, open_video, read_ahead
from autohr.video.memory import FrameReader, as_file

CAMERA_S = 30.0
"""Seconds for which a camera is watched when no end is given."""

WITNESS_WEIGHT = 1.5
"""Weight of MVDR's wave beside a net's in a rate that is not reliable. Chosen on 314 synthetic recordings, 48 real
videos with a pulse laid in and 28 talking heads: 1 and 2 gave nearly the same (docs/log)."""

MIN_RELIABLE_SHARE = 0.5
"""Share of a face's windows that must be reliable for its rate over the whole time to be called so. Of pulse-free
windows at most a few in a hundred pass by chance, but neighbours share most of their frames and pass together: with a
third, one lucky second made a photograph of 12 s reliable."""

SAME_BPM, MIN_MEAN_CONFIDENCE = 4.0, 0.7
"""Where fewer are, the rate is still reliable if windows within SAME_BPM of their median, at least one of which is
reliable, have this mean confidence, all others counted as 0. On the 645 clips of the fit, judged by weights fitted
without them, it called 3 in 100 more of AutoHR's and of MVDR's right rates reliable and one wrong one of AutoHR's."""

MIN_FACE_SHARE = 0.9
"""A face seen in fewer of the frames than this is worth a note."""

MAX_JOINED_S = 12 * 3600.0
"""Longest time over which waves are joined: 10 MB at 30 frames per second. Ours: no video that was tried was half as
long, and beyond it, it is the clock that went wrong."""

AHEAD_LOOKS = 128
"""Frames whose faces are read before they are asked for: the net works on 120 at once, at each 90th frame of 30 per
second, and the reader of faces must not wait for it. 3 MB, as a look holds no frame."""

Source = str | PathLike[str] | int | BinaryIO | Frame | Iterable[Any]
"""Videos that ``measure`` takes; see there."""

Progress = Callable[[float, float | None], None]
"""Called with the seconds done and the seconds there are, None if unknown."""


def measure(
    source: Source,
    method: str | Method | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    window_s: float = MeterConfig.window_s,
    stride_s: float = MeterConfig.stride_s,
    max_faces: int = MeterConfig.max_faces,
    box: str | None = MeterConfig.box,
    start_s: float = 0.0,
    end_s: float | None = None,
    fps: float | None = None,
    t_s: ArrayLike | Iterable[float] | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Measure the heart rate of the largest face, or the ``max_faces`` largest, in a video.

    Parameters
    ----------
    source
        A video file, a folder of images (then give ``fps``), a camera index, or an address; a file object, opened in
        binary mode, which is copied into a temporary file unless it is one on the disk; or frames, RGB and uint8: an
        array (T, H, W, 3) or an iterable of arrays (H, W, 3), of which one at a time is taken, in another thread.
    method
        A name of ``METHODS``, or what ``load_method`` gave (quicker for many videos). None: AutoHR, or POS in an
        installation without weights of AutoHR; the answer says which.
    weights, device
        For a net, see ``load_method``.
    window_s, stride_s, max_faces, box
        See ``MeterConfig``.
    start_s, end_s
        The part to measure, in seconds from the first frame. A camera stops after 30 s by default.
    fps, t_s
        The clock of frames, of which one must be given: their number per second, or the time of each in seconds, which
        need not be even but must increase. For a file, ``fps`` is in place of its own clock.

    Raises
    ------
    VideoError
        The source gives no usable frames.
    NoFace
        No face in any frame.
    SignalTooShort
        No face for as long as a reading needs.
    UnknownName
        No such method, or no shipped weights of that name.
    BadWeights
        Weights that are missing, damaged, or do not fit the method or the box.
    AutoHRError
        The machine has no such device.
    ValueError
        An argument out of its range, weights for a method that is loaded already, or frames that are not as above.

    Examples
    --------
    >>> frames = np.full((150, 64, 64, 3), 128, dtype=np.uint8)
    >>> measure(frames, "pos", fps=30)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    autohr.errors.NoFace: No face in any of the 150 frames of 'frames'. ...

    >>> measurement = measure("face.mp4", method="pos")  # doctest: +SKIP
    >>> measurement.face.hr_bpm, measurement.face.reliable  # doctest: +SKIP
    (72.4, True)
    """
    if t_s is not None and not _are_frames(source):
        raise ValueError("t_s is for frames; a file or camera has times of its own. Leave it out, or give fps.")
    if method is None or isinstance(method, str):
        method = load_method(method, weights, device)
    elif weights is not None:
        raise ValueError(f"weights={str(weights)!r} must be given to load_method, which made this {method.name}.")
    config = MeterConfig(window_s=window_s, stride_s=stride_s, max_faces=max_faces, box=box)  # type: ignore[arg-type]
    meter = Meter(method, config)
    notes: list[str] = []
    if isinstance(source, int) and end_s is None:
        end_s = start_s + CAMERA_S
        notes.append(f"The camera was watched for {CAMERA_S:g} s; give an end to change that.")

    readings: list[Reading] = []
    first_s = last_s = 0.0
    with ExitStack() as stack:
        name, video = _open(stack, source, fps=fps, t_s=t_s, start_s=start_s, end_s=end_s)
        total_s = video.duration_s if end_s is None else end_s
        # Three threads: one decodes, one reads faces, this one runs the net. What comes out does not depend on them.
        for look in read_ahead(_look_ahead(meter, video), AHEAD_LOOKS):
            if meter.n_frames == 0:
                first_s = look.t_s
            readings += meter.read(look)
            last_s = look.t_s
            if progress is not None:
                progress(look.t_s - start_s, None if total_s is None else total_s - start_s)
        readings += meter.finish()
    return answer(
        meter,
        readings,
        path=name,
        duration_s=last_s - first_s,
        frames=Frames(
            read=video.n_read,
            face=meter.n_face,
            repaired=video.n_repaired + meter.n_filled,
            dropped=video.n_dropped,
        ),
        notes=[*notes, *video.notes],
    )


def _are_frames(source: Source) -> bool:
    return not isinstance(source, (str, PathLike, int)) and not hasattr(source, "read")


def _open(
    stack: ExitStack,
    source: Source,
    *,
    fps: float | None,
    t_s: ArrayLike | Iterable[float] | None,
    start_s: float,
    end_s: float | None,
) -> tuple[str, VideoReader | FrameReader]:
    """Open a source until ``stack`` ends; return its name in results, and the reader of its frames."""
    part: dict[str, Any] = {"fps": fps, "start_s": start_s, "end_s": end_s}
    if _are_frames(source):
        if isinstance(source, (bytes, bytearray, memoryview)) or not isinstance(source, Iterable):
            raise ValueError(
                f"source={source!r:.60} is {type(source).__name__}; it must be a path, an address, a camera index, a "
                "file object (io.BytesIO for bytes) or frames."
            )
        frames = stack.enter_context(FrameReader(source, t_s=t_s, **part))
        return frames.path, frames
    if isinstance(source, (str, PathLike, int)):
        video = stack.enter_context(open_video(Path(source) if isinstance(source, PathLike) else source, **part))
        return str(video.path), video
    path, name = stack.enter_context(as_file(source))  # type: ignore[arg-type]
    return name, stack.enter_context(open_video(path, **part))


def _look_ahead(meter: Meter, video: VideoReader | FrameReader) -> Generator[Look, None, None]:
    with closing(read_ahead(video)) as frames:
        for frame in frames:
            yield meter.look(frame.rgb, frame.t_s, whole=frame.whole)


def answer(
    meter: Meter, readings: list[Reading], *, path: str, duration_s: float, frames: Frames, notes: list[str]
) -> Measurement:
    """Return all readings of a meter that has finished as one ``Measurement``: of a file and of a live session alike.

    Raises NoFace where no frame showed one, SignalTooShort where none was followed for as long as a reading needs.
    """
    if meter.n_face == 0:
        reason = (
            f"No face in any of the {meter.n_frames} frames of {path!r}. "
            "A face must look towards the camera, upright, at least 40 pixels high and lit."
        )
        raise NoFace(with_notes(reason, notes))
    faces = sorted({reading.face_id for reading in readings})
    if not faces:
        raise SignalTooShort(with_notes(_nothing_long_enough(path, meter.too_short), notes))
    result = Measurement(
        path=path,
        method=meter.method.name,
        method_title=meter.method.title,
        weights=meter.method.weights,
        duration_s=duration_s,
        fps_mean=(meter.n_frames - 1) / duration_s if duration_s > 0 else 0.0,
        frames=frames,
        faces=tuple(
            summarise([reading for reading in readings if reading.face_id == face_id], meter.crops.get(face_id))
            for face_id in faces
        ),
        notes=(*notes, *_notes_on_faces(meter, duration_s)),
    )
    if len(faces) == 1:
        return result
    main = result.face
    trust = "is reliable" if main.reliable else "none is reliable"
    several = (
        f"{len(faces)} faces were measured. Face {main.id} is the one to take when only one is wanted: "
        f"it was measured for {main.measured_s:.1f} s and {trust}."
    )
    return replace(result, notes=(several, *result.notes))


def summarise(readings: list[Reading], crop: Frame | None = None) -> FaceMeasurement:
    """Return one face's readings as one answer.

    The rate over the whole time is the mean, weighted by confidence, of those of the reliable windows that agree, or of
    all windows that do (``MIN_MEAN_CONFIDENCE``). Where they are too few it is not reliable, and is the rate on which
    the waves of all windows agree best, those of a net and of MVDR in the same windows (``pooled_heart_rate``). Beats
    and HRV come from the waves of the reliable windows, overlapped and added, and only where a second reading confirms
    their timing (``signals.hrv.timed_beats``).
    """
    windows = tuple(
        Window(**reading.estimate.rate_fields(), start_s=reading.start_s, end_s=reading.end_s)
        for reading in sorted(readings, key=lambda reading: reading.start_s)
    )
    used = _trusted(windows)
    reliable = bool(used)
    if not reliable:
        used = [w for w in windows if w.hr_bpm is not None]
    hr_bpm, confidence, snr_db = None, 0.0, None
    if used:
        rates = np.array([w.hr_bpm for w in used], dtype=np.float64)
        confidences = np.array([w.confidence for w in used])
        weights = confidences + 1e-6
        hr_bpm = float(np.average(rates, weights=weights)) if reliable else _pooled(readings, rates, weights)
        confidence = float(confidences.mean())
        known_db = [w.snr_db for w in used if w.snr_db is not None]
        snr_db = float(np.median(known_db)) if known_db else None

    pulse = join_waves(readings)
    return FaceMeasurement(
        id=readings[0].face_id,
        hr_bpm=hr_bpm,
        confidence=confidence,
        reliable=reliable,
        snr_db=snr_db,
        why_unreliable=None if reliable else _chief_reason(windows),
        start_s=windows[0].start_s,
        end_s=max(w.end_s for w in windows),
        windows=windows,
        bvp=pulse,
        **_beats_and_hrv(readings, pulse, hr_bpm if reliable else None),
        crop=crop,
    )


def _trusted(windows: tuple[Window, ...]) -> list[Window]:
    """Return the windows that make the rate over the whole time reliable; none where it is not."""
    reliable = [w for w in windows if w.reliable]
    if not reliable:
        return []
    if len(reliable) >= MIN_RELIABLE_SHARE * len(windows):
        return _agreeing(reliable)
    agreeing = _agreeing([w for w in windows if w.hr_bpm is not None])
    is_sure = sum(w.confidence for w in agreeing) >= MIN_MEAN_CONFIDENCE * len(windows)
    return agreeing if is_sure and any(w.reliable for w in agreeing) else []


def _agreeing(windows: list[Window]) -> list[Window]:
    """Return those of some windows with rates that are within ``SAME_BPM`` of their median."""
    rates = np.array([w.hr_bpm for w in windows], dtype=np.float64)
    centre = _weighted_median(rates, np.array([w.confidence for w in windows]) + 1e-6)
    return [w for w, bpm in zip(windows, rates, strict=True) if abs(bpm - centre) <= SAME_BPM]


def _beats_and_hrv(readings: list[Reading], pulse: Pulse | None, hr_bpm: float | None) -> dict[str, Any]:
    """Return the fields of a ``FaceMeasurement`` about beats and HRV; ``hr_bpm`` is None where it is not reliable."""
    try:
        if pulse is None:
            raise SignalTooShort("the method gives no pulse wave")
        if hr_bpm is None:
            raise SignalTooShort("the rate itself is not reliable")
        is_net = any(reading.estimate.witness is not None for reading in readings)
        noise_share = NOISE_SHARE_NET if is_net else NOISE_SHARE_FORMULA
        first, second, beat_error_ms = timed_beats(*beats_twice(readings, hr_bpm), noise_share)
    except SignalTooShort as error:
        return {"why_no_beats": str(error), "why_no_hrv": str(error)}
    beats: dict[str, Any] = {"beats_s": tuple(float(beat_s) for beat_s in first), "beat_error_ms": beat_error_ms}
    try:
        hrv = heart_rate_variability(first, second, noise_share)
    except SignalTooShort as error:
        return beats | {"why_no_hrv": str(error)}
    if hrv.sdnn_ms is None and hrv.rmssd_ms is None:
        return beats | {"why_no_hrv": f"the beats are not timed well enough for it ({hrv.withheld})"}
    return beats | {"hrv": hrv}


def beats_twice(readings: list[Reading], hr_bpm: float) -> tuple[Float, Float]:
    """Return the beats of the reliable windows (N,) as the method reads them and (M,) as the second reading does.

    Raises SignalTooShort where there is no second reading.
    """
    checked = [reading for reading in readings if reading.estimate.reliable and reading.estimate.second is not None]
    waves = [
        join_waves(checked),
        join_waves([replace(one, estimate=replace(one.estimate, pulse=one.estimate.second)) for one in checked]),
    ]
    beats = [wave.start_s + detect_beats(wave.bvp, wave.fps, hr_bpm) for wave in waves if wave is not None]
    if len(beats) < 2:
        raise SignalTooShort("there is no second reading of the same seconds to check how well the beats are timed")
    return beats[0], beats[1]


def _pooled(readings: list[Reading], rates: Float, weights: Float) -> float | None:
    """Return the rate on which all windows' waves agree best; of methods without waves the weighted median."""
    estimates = [reading.estimate for reading in readings if reading.estimate.hr_bpm is not None]
    waves = [(one.pulse, 1.0) for one in estimates if one.pulse is not None]
    waves += [(one.witness, WITNESS_WEIGHT) for one in estimates if one.witness is not None]
    if not waves:
        return _weighted_median(rates, weights)
    pulses, shares = zip(*waves, strict=True)
    return pooled_heart_rate([one.bvp for one in pulses], [one.fps for one in pulses], list(shares))


def _weighted_median(values: Float, weights: Float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][int(np.searchsorted(share, 0.5))])


def _chief_reason(windows: tuple[Window, ...]) -> str:
    reasons = Counter(w.why_unreliable for w in windows if w.why_unreliable is not None)
    reason, count = reasons.most_common(1)[0]
    if len(windows) == 1:
        return reason
    unreliable = sum(not w.reliable for w in windows)
    return f"{unreliable} of {len(windows)} windows are not reliable, most often because {reason} ({count})"


def join_waves(readings: list[Reading]) -> Pulse | None:
    """Join the windows' waves: each standardised, Hann-weighted, added on the clock of its segment; NaN in between.

    Segments keep their own rate in frames per second, which differs where a phone changes it; the first one's clock is
    used for all. Where the waves lie further apart than ``MAX_JOINED_S``, the stretch of that length with the most of
    them is joined and the others are left out, so that memory does not depend on the clock.
    """
    pulses = [reading.estimate.pulse for reading in readings if reading.estimate.pulse is not None]
    if not pulses:
        return None
    starts_s = np.sort([pulse.start_s for pulse in pulses])
    if starts_s[-1] - starts_s[0] > MAX_JOINED_S:
        n_within = np.searchsorted(starts_s, starts_s + MAX_JOINED_S, side="right") - np.arange(len(starts_s))
        first_s = starts_s[np.argmax(n_within)]
        pulses = [pulse for pulse in pulses if first_s <= pulse.start_s <= first_s + MAX_JOINED_S]
    fps = pulses[0].fps
    start_s = min(pulse.start_s for pulse in pulses)
    end_s = max(pulse.start_s + len(pulse.bvp) / pulse.fps for pulse in pulses)
    n_samples = round((end_s - start_s) * fps)
    total, weight = np.zeros(n_samples), np.zeros(n_samples)
    for pulse in pulses:
        wave = standardise(pulse.bvp)
        if pulse.fps != fps:
            t_s = np.arange(len(wave)) / pulse.fps
            wave = np.interp(np.arange(0, t_s[-1], 1 / fps), t_s, wave)
        first = round((pulse.start_s - start_s) * fps)
        wave = wave[: n_samples - first]
        # Not zero at the ends: the first and last moments of a face are covered by one window only.
        hann = np.hanning(len(wave) + 2)[1:-1] + 1e-3
        total[first : first + len(wave)] += hann * wave
        weight[first : first + len(wave)] += hann
    joined = np.full(n_samples, np.nan)
    joined[weight > 0] = total[weight > 0] / weight[weight > 0]
    return Pulse(bvp=joined, fps=fps, start_s=start_s)


def _nothing_long_enough(name: str, too_short: list[TooShort]) -> str:
    stretches = "; ".join(f"face {s.face_id} from {s.start_s:.1f} to {s.end_s:.1f} s: {s.why}" for s in too_short[:5])
    more = f"; and {len(too_short) - 5} more" if len(too_short) > 5 else ""
    return f"No face in {name!r} was followed for the {LEAST_S:g} s that a reading needs ({stretches}{more})."


def _notes_on_faces(meter: Meter, duration_s: float) -> list[str]:
    notes = [others] if (others := meter.about_others()) else []
    if meter.n_face < MIN_FACE_SHARE * meter.n_frames:
        notes.append(
            f"A face was seen in {meter.n_face} of {meter.n_frames} frames "
            f"({100 * meter.n_face / meter.n_frames:.0f} %); the rest of the {duration_s:.1f} s was left out."
        )
    if meter.n_filled:
        notes.append(f"In {meter.n_filled} frames the face was lost for less than a second and its colour filled in.")
    for stretch in meter.too_short[:10]:
        notes.append(
            f"Face {stretch.face_id} from {stretch.start_s:.1f} to {stretch.end_s:.1f} s was left out: {stretch.why}."
        )
    if len(meter.too_short) > 10:
        notes.append(f"{len(meter.too_short) - 10} more stretches were left out as too short.")
    return notes
