"""Data types that pass between packages, from the face crop to the answer.

``FaceClip`` goes from the meter to a method, ``Pulse`` from a method to the estimator, ``Estimate`` from a method to
the meter, ``Reading`` from the meter to its caller, ``Measurement`` to the user. Their field names are the keys of the
measurement's JSON.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autohr.errors import AutoHRError, escape_controls

if TYPE_CHECKING:
    import pandas as pd

Float = NDArray[np.float64]
"""Arrays of float64: all signal work is done in double precision."""

Frame = NDArray[np.uint8]
"""One picture (H, W, 3), RGB, 0..255."""

MEASUREMENT_SCHEMA = "autohr.measurement/1"
"""Name and version of the layout of ``Measurement.as_dict``."""


@dataclass(frozen=True, eq=False)
class FaceClip:
    """One face over one window of time, on a uniform clock of ``fps`` frames per second.

    Colours are means of 8-bit values, 0..255. What was not seen (a face lost, a frame missing) was filled by linear
    interpolation, at most over the meter's bridge, and is marked in ``found``.
    """

    fps: float
    start_s: float
    """Time of the first frame, in seconds of the video."""
    rgb: Float
    """(T, 3) mean colour of the skin."""
    traces: Float
    """(T, R, 3) mean colour of R regions of the face."""
    background_rgb: Float
    """(T, 3) mean colour outside the face; NaN where the frame holds nothing but the face."""
    box_xywh: Float
    """(T, 4) left, top, width, height of the smoothed face box, in pixels."""
    found: NDArray[np.bool_]
    """(T,) True where the face was seen in this frame, False where it was filled in."""
    whole: NDArray[np.bool_] | None = None
    """(T,) True for frames that the file codes by themselves (key frames); None where all are."""
    clip: Frame | None = None
    """(T, H, W, 3) the face crops, RGB; None when the method reads colours only, or has read them as they came."""
    cells: Float | None = None
    """(R, T, 3) mean colours of a square raster over the crops (``confidence.evidence.CELLS``); None without crops, or
    where they must be read from ``clip``."""
    net_wave: Float | None = None
    """(T,) wave that a net has read of the crops as they came (``runtime.NetStream``); None if it has not."""

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return int(self.rgb.shape[0])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_frames / self.fps

    def as_net_input(self) -> NDArray[np.float32]:
        """Return the crops as a net takes them: (1, 3, T, H, W) float32 in [0, 1], RGB.

        Raises
        ------
        ValueError
            The clip holds colours only.
        """
        if self.clip is None:
            raise ValueError("This FaceClip holds colours only; ask the meter for crops (Method.crop).")
        return as_net_input(self.clip)


def as_net_input(crops: Frame) -> NDArray[np.float32]:
    """Return crops (T, H, W, 3) as a net takes them: (1, 3, T, H, W) float32 in [0, 1], RGB.

    This is the one place where axes change from (T, H, W, C) to (B, C, T, H, W).
    """
    return np.ascontiguousarray(crops.transpose(3, 0, 1, 2)[None], dtype=np.float32) / np.float32(255.0)


class _ByValue:
    """Equality and hash of a dataclass with arrays: equal where all fields are, NaN being equal to NaN."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_is_same(value, getattr(other, name)) for name, value in self.__dict__.items())

    def __hash__(self) -> int:
        return hash(tuple(_hashed(value) for value in self.__dict__.values()))


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return both and np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _hashed(value: Any) -> Any:
    """Return what stands for a value in a hash: equal for equal values, of arrays the shape alone."""
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, tuple):
        return tuple(map(_hashed, value))
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True, eq=False)
class Pulse(_ByValue):
    """A pulse wave on a uniform clock. Positive means more blood in the skin, so green is darker at a peak."""

    bvp: Float
    """(N,) unitless, zero mean."""
    fps: float
    start_s: float = 0.0


EvidenceKind = Literal["net", "cells", "colours"]
"""A net, a formula that reads cells of the crop (MVDR), or one that reads mean colours."""


@dataclass(frozen=True)
class Evidence:
    """Evidence for and against the rate of one window, none of which needs the true rate."""

    snr_db: float
    agreement: float
    """0..1: how far POS in the parts of a grid over the face beats in phase at the rate (1 = all together)."""
    background: float
    """0..1: how much of the wave is also in the background."""
    motion: float
    """0..1: how much of the wave follows the head's movement."""
    halves_bpm: float
    """Difference of the rates of the window's two halves."""
    witness_bpm: float
    """Difference to the rate that MVDR reads in the same clip; for MVDR itself, to that of POS."""
    witness_snr_db: float
    """Signal-to-noise ratio of that other wave at the rate, in decibel."""
    in_step: float
    """-1..1: how far that other wave beats at the same moments, all through the window (``confidence.evidence``)."""
    redrawn: float
    """0..1: how far the colour follows the file's key frames: by steps in them, or at their rate."""
    at_key_frames: bool
    """True where the rate is that of the file's key frames, or two to four times that."""
    runner_up: float
    """0..1: the next unrelated peak of the spectrum over the chosen one."""
    on_skin: float
    """Log likelihood ratio of "only the skin beats at the rate" against "everything in the crop does"
    (``confidence.evidence.skin_over_light``); 0 where no crop is known."""
    blood: float
    """-1..1: how much better the colours of blood explain the beat of the mean skin colour than those of light do
    (``confidence.evidence.blood_over_light``)."""
    kind: EvidenceKind = "colours"
    """Way in which the method reads the face, by which the evidence is weighed."""


@dataclass(frozen=True, eq=False)
class Rate(_ByValue):
    """Heart rate with the verdict on it, of a window or of a whole video."""

    hr_bpm: float | None
    """None, never a guess, where nothing could be estimated."""
    confidence: float
    """0..1: the calibrated chance that ``hr_bpm`` is within 5 bpm of the truth (see ``confidence``)."""
    reliable: bool
    """False where there is no rate, or one that must not be trusted."""
    snr_db: float | None
    """Power at the rate and its double over the rest of the band (de Haan 2013), in decibel."""
    why_unreliable: str | None = None

    def rate_fields(self) -> dict[str, Any]:
        """Return the fields of the rate alone, without those of a subclass."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Rate)}


@dataclass(frozen=True, eq=False)
class Estimate(Rate):
    """One method's estimate for one window."""

    evidence: Evidence | None = None
    """Evidence that the confidence was computed from."""
    pulse: Pulse | None = None
    """None for nets that regress the rate directly."""
    witness: Pulse | None = None
    """MVDR's wave of the same window where the method is a net."""
    second: Pulse | None = None
    """Another method's wave of the same window, by which the timing of beats is checked: MVDR, or POS where the method
    is MVDR. None where the rate is not reliable."""


@dataclass(frozen=True)
class Reading:
    """One window of one face, as the meter reports it."""

    face_id: int
    segment: int
    """Counts from 0; a new segment starts where a face came back after longer than the bridge."""
    start_s: float
    end_s: float
    estimate: Estimate
    found_share: float
    """Share of the window's frames in which the face was seen and not filled in."""


@dataclass(frozen=True)
class Frames:
    """Counts of the frames of a file, by what became of them."""

    read: int = 0
    """Decoded and looked at."""
    face: int = 0
    """Read frames in which at least one followed face was seen."""
    repaired: int = 0
    """Frames whose time stamp or face had to be filled in."""
    dropped: int = 0
    """Decoded but not used: damaged, or with a time stamp that was already taken."""


@dataclass(frozen=True, eq=False)
class Window(Rate):
    """The rate over one window."""

    _: KW_ONLY
    start_s: float
    end_s: float


@dataclass(frozen=True)
class HRV:
    """Heart-rate variability, as the Task Force of 1996 defines it (Circulation 93:1043).

    Each figure comes with its error, and is None where the beats could not be timed well enough for it
    (``signals.hrv.heart_rate_variability``).
    """

    duration_s: float
    """Sum of the accepted intervals between beats: seconds in which the pulse was followed, without pauses."""
    n_beats: int
    mean_hr_bpm: float
    sdnn_ms: float | None
    sdnn_error_ms: float | None
    rmssd_ms: float | None
    rmssd_error_ms: float | None
    pnn50_pct: float | None
    pnn50_error_pct: float | None
    lf_ms2: float | None
    """None under two minutes too: five periods of its lower edge (0.04 Hz) are the least that shows it."""
    lf_error_ms2: float | None
    hf_ms2: float | None
    hf_error_ms2: float | None
    lf_hf: float | None
    lf_hf_error: float | None
    withheld: str | None = None
    """The figures that are too uncertain to be given, with what was found: "RMSSD 24 ± 15 ms"."""


@dataclass(frozen=True, eq=False)
class FaceMeasurement(Rate):
    """Result for one face."""

    _: KW_ONLY
    id: int
    start_s: float
    end_s: float
    windows: tuple[Window, ...] = field(default=(), repr=False)
    bvp: Pulse | None = field(default=None, repr=False)
    """The whole wave, windows overlapped and added; NaN over gaps that were too long to bridge."""
    beats_s: tuple[float, ...] = field(default=(), repr=False)
    """Times of the beats in reliable windows that a second reading of the same seconds confirms; none where their
    timing is not good enough."""
    beat_error_ms: float | None = None
    """Standard deviation between the two readings of ``beats_s``; the error of the beats is seldom larger. None where
    no beats are given."""
    why_no_beats: str | None = None
    hrv: HRV | None = None
    why_no_hrv: str | None = None
    resp_bpm: float | None = None
    crop: Frame | None = field(default=None, repr=False)
    """(H, W, 3) one picture of the face, for reports; never in the JSON."""

    @property
    def measured_s(self) -> float:
        """Seconds that lie in at least one window; pauses do not count."""
        total_s, covered_to_s = 0.0, -math.inf
        for window in sorted(self.windows, key=lambda window: window.start_s):
            total_s += max(0.0, window.end_s - max(window.start_s, covered_to_s))
            covered_to_s = max(covered_to_s, window.end_s)
        return total_s


@dataclass(frozen=True, eq=False)
class Measurement(_ByValue):
    """Result for one file, camera, address or series of frames.

    Two of the same video by the same method are equal. In a notebook it shows as a table.
    """

    path: str
    method: str
    weights: str | None
    duration_s: float
    fps_mean: float
    frames: Frames
    faces: tuple[FaceMeasurement, ...]
    notes: tuple[str, ...] = field(default=())
    """One sentence for each thing that was repaired, left out or refused."""
    method_title: str | None = None
    """Spelling of the method's name in papers."""

    def __repr__(self) -> str:
        if not self.faces:
            return f"Measurement({self.path!r}, no face)"
        rate, faces = self.face, "" if len(self.faces) == 1 else f", {len(self.faces)} faces"
        trust = "reliable" if rate.reliable else "not reliable"
        return f"Measurement({self.path!r}, {_in_bpm(rate.hr_bpm)}, {trust}{faces})"

    def _repr_html_(self) -> str:
        """Return a small table, one row for each face, for notebooks."""
        head = ("face", "heart rate", "confidence", "trust", "time")
        rows = [
            (
                str(face.id),
                _in_bpm(face.hr_bpm),
                f"{100 * face.confidence:.0f} %",
                "reliable" if face.reliable else f"not reliable: {face.why_unreliable or 'no reason'}",
                f"{face.start_s:.1f} to {face.end_s:.1f} s",
            )
            for face in self.faces
        ]
        title = f"{self.path}: {self.duration_s:.1f} s, {self.method_title or self.method}"
        lines = [f"<caption>{_as_html(title)}</caption>", _html_row("th", head)]
        return f"<table>{''.join([*lines, *(_html_row('td', row) for row in rows)])}</table>"

    @property
    def face(self) -> FaceMeasurement:
        """The face to take when only one is wanted: a reliable one before others, then the one measured longest.

        ``faces[0]`` is the face that appeared first, which may be a passer-by. ValueError where no face was measured;
        ``measure`` raises before that.
        """
        if not self.faces:
            raise ValueError(f"No face was measured in {self.path!r}.")
        return max(self.faces, key=lambda face: (face.hr_bpm is not None, face.reliable, face.measured_s))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of schema autohr.measurement/1: plain numbers, lists and None. NaN becomes None."""
        faces = []
        for face in self.faces:
            hrv = dataclasses.asdict(face.hrv) if face.hrv is not None else None
            bvp = None
            if face.bvp is not None:
                bvp = {
                    "fps": face.bvp.fps,
                    "start_s": face.bvp.start_s,
                    "values": [round(float(v), 5) for v in face.bvp.bvp],
                }
            faces.append(
                {
                    "id": face.id,
                    **face.rate_fields(),
                    "start_s": face.start_s,
                    "end_s": face.end_s,
                    "windows": [
                        {"start_s": window.start_s, "end_s": window.end_s, **window.rate_fields()}
                        for window in face.windows
                    ],
                    "bvp": bvp,
                    "beats_s": list(face.beats_s),
                    "beat_error_ms": face.beat_error_ms,
                    "why_no_beats": face.why_no_beats,
                    "hrv": hrv,
                    "why_no_hrv": face.why_no_hrv,
                    "resp_bpm": face.resp_bpm,
                }
            )
        whole: dict[str, Any] = {
            "schema": MEASUREMENT_SCHEMA,
            "path": self.path,
            "method": self.method,
            "method_title": self.method_title,
            "weights": self.weights,
            "duration_s": self.duration_s,
            "fps_mean": self.fps_mean,
            "frames": dataclasses.asdict(self.frames),
            "faces": faces,
            "main_face_id": self.face.id if self.faces else None,
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = _plain(whole)
        return plain

    def to_json(self, indent: int | None = None) -> str:
        """Return ``as_dict`` as JSON text, in ASCII; ``autohr schema`` prints its schema.

        Examples
        --------
        >>> json.loads(Measurement("a.mp4", "pos", None, 0.0, 0.0, Frames(), ()).to_json())["method"]
        'pos'
        """
        return json.dumps(self.as_dict(), indent=indent, allow_nan=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame with one row for each window of each face.

        Raises
        ------
        AutoHRError
            pandas is not installed.

        Examples
        --------
        >>> list(Measurement("a.mp4", "pos", None, 0.0, 0.0, Frames(), ()).to_dataframe())[:4]
        ['path', 'face_id', 'start_s', 'end_s']
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise AutoHRError("A DataFrame needs pandas: pip install pandas, or use as_dict() or to_json().") from None
        names = [one.name for one in dataclasses.fields(Rate)]
        rows = [
            [self.path, face.id, window.start_s, window.end_s, *(getattr(window, name) for name in names), self.method]
            for face in self.faces
            for window in face.windows
        ]
        table = pd.DataFrame(rows, columns=["path", "face_id", "start_s", "end_s", *names, "method"])
        # A column of None alone would be of objects.
        return table.astype({"hr_bpm": float, "snr_db": float, "confidence": float, "reliable": bool})


def _in_bpm(hr_bpm: float | None) -> str:
    return "no rate" if hr_bpm is None else f"{hr_bpm:.1f} bpm"


def _as_html(text: str) -> str:
    return html.escape(escape_controls(text))


def _html_row(tag: str, cells: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_as_html(cell)}</{tag}>' for cell in cells)}</tr>"


@dataclass(frozen=True)
class Refusal:
    """A file that was not measured, and the reason, so that every file of a folder appears in the results."""

    path: str
    reason: str


def _plain(value: Any) -> Any:
    """Convert to what strict JSON can hold: tuples to lists, numpy numbers to Python's, NaN and infinities to None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
