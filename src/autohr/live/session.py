"""A live session: the one ``Meter`` behind a stream of frames that come as they come.

    with LiveSession("pos") as session:
        for frame, t_s in camera:
            session.offer(frame, t_s)          # never blocks
            print(session.state().hr_bpm)
        print(session.close().face.hr_bpm)

``offer`` leaves the frame in a bounded place; a thread of the session's own measures it. ``take`` measures in the call
itself and drops nothing: what it gives is equal to ``autohr.measure`` on the same frames and times. The session adds
words and counts to what the meter says, never numbers of its own.

What a session may hold, however long it runs: the frames that wait (``LiveConfig.max_queue``, ``QUEUE_BYTES``), one
window of rows in the meter (``MOST_FPS`` frames a second at most), the waves of ``WAVES_S``, and ``KEPT_READINGS``
rows of a few numbers each (about 20 MB when full, after six hours at one a second).
"""

from __future__ import annotations

import csv
import io
import json
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from autohr.confidence.verdict import LEAST_FOUND, LEAST_FPS, LEAST_S, TRUSTED_S, is_codec, is_light, is_movement
from autohr.measure import answer, join_waves
from autohr.meter import Meter, MeterConfig
from autohr.methods import Method
from autohr.signals.filters import standardise
from autohr.types import Frame, Frames, Measurement, Pulse, Reading
from autohr.video.detector import Detects, FaceDetector, check_frame
from autohr.video.regions import PATCH_PX
from autohr.video.stamps import CLOCK_RESTART_S, CONFIRMING, MAX_LEAPS_S
from autohr.video.tracker import TrackedFace

SESSION_SCHEMA = "autohr.session/1"

QUEUE_BYTES = 64 * 2**20
"""Most that waiting frames may take: 72 frames of 640x480, 10 of 1920x1080. At least one frame may always wait."""

MOST_FPS = 240.0
"""Frames that come faster are refused: a meter's window would hold any number of them. Phones film at 240 at most."""

WAVES_S = 600.0
"""Waves of readings older than this are let go of: the rate of the whole session is then of all readings, the pulse
wave, beats and variability are of the last ten minutes. Short-term variability is defined on five (Task Force 1996)."""
KEPT_WAVES = 1200
"""Waves kept at most, where readings come more often than usual: 6 MB at 30 frames per second."""
KEPT_READINGS = 21_600
"""Readings kept at most: six hours at one a second."""
KEPT_FACES = 20
"""Pictures of faces kept at most, of 110 kB each, and ids of faces with a newest reading."""
KEPT_STRETCHES = 500
"""Stretches that were too short to measure and are still named; the older ones are only counted."""

WAVE_S = 8.0
"""Seconds of pulse wave that ``LiveState`` shows."""
RECENT_S = 3.0
"""Over which frames per second are counted."""
EARLY_S = 1.0
"""Time between early readings (``Meter.early``) at most."""
HOLD_S = 2.0
"""A reading is shown for one stride and this much longer after its end; then it is too old to be called the rate."""
SILENT_S = 2.0
"""Without a frame for so long, the camera is said to be silent."""

NEAR_PX = 1.25 * PATCH_PX
"""Face sides below this are said to be too far: the canonical patch then magnifies the face, and averages nothing."""
DARK_LEVEL = 60.0
"""Skin whose lightest channel has a mean below this is said to be too dark. A pulse is about half a percent of the
skin's colour: at 60 of 255 that is a third of one step of an 8-bit picture."""
BRIGHT_LEVEL = 240.0
"""Above this skin is burnt out, and the skin mask leaves it out (``video/regions.py``)."""
MOVING = 0.08
"""Way of the face's centre within a second, in face sizes, from which the head is said to move. Of drawn faces at rest
0.02 in the median and 0.04 at most; of talking ones 0.03 and 0.08; of heads that sway six times as far 0.10 and 0.28.
"""
SLOW_FPS = 2 * LEAST_FPS
"""Frames per second below which slowness is said to be the reason: twice the least with which anything is read."""


@dataclass(frozen=True)
class LiveConfig:
    """How a session measures."""

    meter: MeterConfig = field(default_factory=MeterConfig)
    max_queue: int = 45
    """Frames that may wait, 1.5 s of a usual camera: a net thinks for some tenths of a second once a second, and the
    frames of that time must not be lost. See ``QUEUE_BYTES`` too."""
    source: str = "camera"
    """What results call the place the frames come from."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_queue <= 1000:
            raise ValueError(f"max_queue={self.max_queue} must lie between 1 and 1000 frames.")


@dataclass(frozen=True)
class LiveFrames:
    """What became of the frames of a session. ``offered`` is the sum of the others and of those that wait."""

    offered: int = 0
    measured: int = 0
    dropped: int = 0
    """Let go of because the meter could not follow."""
    refused: int = 0
    """With a time that is no number, did not increase, lay over an hour ahead, or came faster than ``MOST_FPS``."""


@dataclass(frozen=True)
class LiveState:
    """What can be said now, of the largest face that is followed. Times are in seconds since the first frame."""

    hr_bpm: float | None
    """None where there is no recent reading. Only ``reliable`` tells whether it may be believed."""
    confidence: float
    reliable: bool
    why: str | None
    """Why there is no rate, or no reliable one."""
    snr_db: float | None
    wave: Pulse | None
    """The last ``WAVE_S`` seconds of pulse wave, of unit standard deviation; None without a recent reading."""
    box: tuple[float, float, float, float] | None
    """Left, top, width, height of the face in pixels of the offered frame; may reach over its border."""
    advice: tuple[str, ...]
    """What would help, in short sentences, the most important first. Empty while the rate is reliable."""
    frames: LiveFrames
    fps_in: float
    """Frames per second that come, and those that are measured, over the last ``RECENT_S`` of the frames' own times."""
    fps_measured: float
    delay_s: float
    """From the offer of the newest measured frame to when its result was ready: waiting and work."""
    readings: int
    """Full windows read so far, early readings not counted."""
    end_s: float | None
    """End of the window that ``hr_bpm`` is of."""
    since_s: float
    """Time of the newest measured frame: for how long this session has been measuring."""
    first_reliable_s: float | None
    """Time of the frame with which the first reliable reading came."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and None, for JSON."""
        wave = None
        if self.wave is not None:
            wave = {
                "fps": self.wave.fps,
                "start_s": self.wave.start_s,
                "values": [round(float(v), 3) if math.isfinite(v) else None for v in self.wave.bvp],
            }
        plain = {name: value for name, value in self.__dict__.items() if name not in ("wave", "frames")}
        return {**plain, "wave": wave, "frames": asdict(self.frames), "advice": list(self.advice)}


@dataclass(frozen=True)
class Sight:
    """What advice is made of: one look at a session."""

    face_seen: bool
    face_px: float = 0.0
    """The shorter side of the face's box, in pixels of the frame."""
    skin_level: float | None = None
    """Mean of the skin's lightest channel, 0..255."""
    moved: float = 0.0
    """Way of the face's centre within the last second, in face sizes."""
    followed_s: float = 0.0
    fps_in: float = 30.0
    fps_measured: float = 30.0
    reading: Reading | None = None
    """The newest one of the face, if it is recent."""


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    t_s: float
    whole: bool
    came_s: float


@dataclass
class _Shown:
    """What the worker last said of the face it shows."""

    reading: Reading | None = None
    wave: Pulse | None = None
    face: TrackedFace | None = None
    sight: Sight = Sight(face_seen=False)
    t_s: float = 0.0
    delay_s: float = 0.0


class LiveSession:
    """Measures frames as they come. Safe to be asked from several threads; frames must come from one at a time.

    Args:
        method: a name of ``METHODS``, what ``load_method`` gave (one for all sessions), or None for the default.
        config: meter, waiting frames, and what results call the source.
        detector: finds faces; the shipped MTCNN if None.

    Raises:
        UnknownName, BadWeights: see ``load_method`` and ``Meter``.
    """

    def __init__(
        self,
        method: str | Method | None = None,
        config: LiveConfig | None = None,
        detector: Detects | None = None,
    ) -> None:
        self.config = config or LiveConfig()
        # Made now and not at the first frame, which would wait for it.
        self._meter = Meter(method, self.config.meter, FaceDetector() if detector is None else detector)
        self.started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._ready = threading.Condition()
        self._ending = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._worker: threading.Thread | None = None
        self._stopping = self._closed = False
        self._failed: BaseException | None = None
        self._n_offered = self._n_measured = self._n_dropped = self._n_refused = 0
        self._zero_s: float | None = None
        self._last_s = self._odd_s = -math.inf
        self._n_odd = self._n_clocks = 0
        self._taken_s = -1.0
        self._came_s = -math.inf
        self._times_in: deque[float] = deque(maxlen=int(RECENT_S * MOST_FPS))
        self._times_measured: deque[float] = deque(maxlen=int(RECENT_S * MOST_FPS))
        self._shown = _Shown()
        self._readings: deque[Reading] = deque()
        self._n_readings = 0
        self._n_waves = 0
        self._n_stretches_gone = 0
        self._newest: dict[int, Reading] = {}
        self._track: deque[tuple[float, int, float, float, float]] = deque(maxlen=int(MOST_FPS))
        self._n_early: dict[int, int] = {}
        self._first_reliable_s: float | None = None
        self._answer: Measurement | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def method(self) -> Method:
        return self._meter.method

    @property
    def n_waiting(self) -> int:
        """Frames that wait to be measured."""
        return len(self._queue)

    # -- frames in

    def offer(self, frame: Frame, t_s: float, *, whole: bool = True) -> bool:
        """Leave a frame (H, W, 3), RGB, taken at ``t_s`` seconds of any clock, to be measured; never blocks.

        Where too many wait, one of them is let go of and counted: that which is missed least, so that those that stay
        are evenly spaced in time. The newest always stays. The session keeps the array: do not write to it afterwards.

        Returns:
            False where frames were dropped for this one, or where this one is refused (see ``LiveFrames``) or comes
            after the end; True otherwise.

        Raises:
            ValueError: no uint8 array of that shape; or ``take`` was used before.
            Exception: the one with which the measuring thread ended.
        """
        check_frame(frame)
        with self._ready:
            self._check_alive()
            if self._n_measured and self._worker is None:
                raise ValueError("This session takes its frames with take(); do not mix that with offer().")
            if self._stopping:
                return False
            at_s = self._admit(t_s)
            if at_s is None:
                return False
            n_dropped = self._n_dropped
            while self._queue and (
                len(self._queue) >= self.config.max_queue
                or sum(waiting.frame.nbytes for waiting in self._queue) + frame.nbytes > QUEUE_BYTES
            ):
                self._drop_one(at_s)
            self._queue.append(_Waiting(frame, at_s, whole, time.monotonic()))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="autohr-live", daemon=True)
                self._worker.start()
            self._ready.notify_all()
            return self._n_dropped == n_dropped

    def take(self, frame: Frame, t_s: float, *, whole: bool = True) -> list[Reading]:
        """Measure a frame now, in this thread, and drop nothing: for files, where time can wait.

        The readings, and what ``close`` gives, are equal to those of ``autohr.measure`` on the same frames and times.

        Raises:
            ValueError: no uint8 array (H, W, 3); or ``offer`` was used before; or the session has ended.
        """
        check_frame(frame)
        if self._worker is not None or self._stopping:
            raise ValueError("This session has ended, or takes its frames with offer(); begin another one.")
        with self._ready:
            at_s = self._admit(t_s)
        return [] if at_s is None else self._measure(_Waiting(frame, at_s, whole, time.monotonic()))

    def _drop_one(self, newest_s: float) -> None:
        """Let go of the waiting frame whose neighbours are closest to each other, the oldest of several."""
        times_s = np.array([self._taken_s, *(waiting.t_s for waiting in self._queue), newest_s])
        # To the millisecond, or rounding would choose among the frames of a steady camera.
        del self._queue[int(np.argmin(np.round(times_s[2:] - times_s[:-2], 3)))]
        self._n_dropped += 1

    def _admit(self, t_s: float) -> float | None:
        """Return the time since the first frame; None, and count, where it cannot be one.

        A time that lies over ``MAX_LEAPS_S`` ahead, or more than ``CLOCK_RESTART_S`` behind, is refused until
        ``CONFIRMING`` frames in a row show that the clock was set anew; then it is carried on where it was.
        """
        self._n_offered += 1
        if self._zero_s is None and math.isfinite(t_s):
            self._zero_s = t_s
        elif not self._is_next(t_s):
            self._n_refused += 1
            return None
        assert self._zero_s is not None
        self._last_s, self._n_odd = t_s, 0
        self._came_s = time.monotonic()
        self._times_in.append(t_s - self._zero_s)
        return t_s - self._zero_s

    def _is_next(self, t_s: float) -> bool:
        """Return whether a frame of this time may follow the last one; move the clock where a leap is confirmed."""
        least_s = 1 / MOST_FPS - 1e-6
        step_s = t_s - self._last_s
        if not math.isfinite(step_s):
            return False
        if -CLOCK_RESTART_S <= step_s <= MAX_LEAPS_S:
            return step_s >= least_s
        odd_step_s = t_s - self._odd_s
        self._n_odd = self._n_odd + 1 if least_s <= odd_step_s <= CLOCK_RESTART_S else 1
        self._odd_s = t_s
        if self._n_odd < CONFIRMING:
            return False
        assert self._zero_s is not None
        self._zero_s = t_s - (self._last_s - self._zero_s + odd_step_s)
        self._n_clocks += 1
        return True

    # -- the worker

    def _work(self) -> None:
        try:
            while True:
                with self._ready:
                    while not self._queue and not self._stopping:
                        self._ready.wait()
                    if not self._queue:
                        return
                    waiting = self._queue.popleft()
                    self._taken_s = waiting.t_s
                self._measure(waiting)
        except BaseException as error:
            with self._ready:
                self._failed = error
                self._queue.clear()

    def _measure(self, waiting: _Waiting) -> list[Reading]:
        meter, t_s = self._meter, waiting.t_s
        readings = meter.push(waiting.frame, t_s, whole=waiting.whole)
        face = max(meter.faces, key=lambda face: (face.seen, float(np.prod(face.box_xywh[2:]))), default=None)
        early: list[Reading] = []
        if face is not None and face.seen and not readings and self._is_early_due(face.id):
            early = meter.early()
        sight = self._look(face, t_s)
        with self._ready:
            for reading in readings:
                self._keep(reading)
        for reading in [*early, *readings]:
            self._newest[reading.face_id] = reading
            if reading.estimate.reliable and self._first_reliable_s is None:
                self._first_reliable_s = t_s
        while len(self._newest) > KEPT_FACES:
            self._newest.pop(next(iter(self._newest)))
        self._forget()
        newest = None if face is None else self._newest.get(face.id)
        hold_s = self.config.meter.stride_s + HOLD_S
        # Of a face that came back, what was read before is no longer its rate.
        oldest_s = max(t_s - hold_s, t_s - sight.followed_s)
        recent = newest if newest is not None and newest.end_s >= oldest_s else None
        wave = self._shown.wave
        if recent is not self._shown.reading:
            wave = None if recent is None else self._recent_wave(recent)
        with self._ready:
            self._n_measured += 1
            self._times_measured.append(t_s)
            self._shown = _Shown(
                reading=recent,
                wave=wave,
                face=face,
                sight=replace(sight, reading=recent),
                t_s=t_s,
                delay_s=time.monotonic() - waiting.came_s,
            )
        return readings

    def _is_early_due(self, face_id: int) -> bool:
        """Whether this face has been followed for another ``EARLY_S`` of its first window."""
        followed_s = self._meter.followed_s(face_id)
        step_s = min(EARLY_S, self.config.meter.stride_s)
        n_early = math.floor((followed_s - LEAST_S) / step_s + 1e-6) + 1
        if n_early == self._n_early.get(face_id, 0):
            return False
        self._n_early = {face_id: n_early}
        return 0 < n_early and followed_s <= self.config.meter.window_s

    def _look(self, face: TrackedFace | None, t_s: float) -> Sight:
        if face is None or not face.seen:
            followed_s = 0.0 if face is None else self._meter.followed_s(face.id)
            return Sight(face_seen=followed_s > 0, face_px=math.inf, followed_s=followed_s)
        skin = self._meter.skin_rgb(face.id)
        x, y, w, h = (float(v) for v in face.box_xywh)
        self._track.append((t_s, face.id, x + w / 2, y + h / 2, math.sqrt(w * h)))
        while self._track[0][0] < t_s - 1.0 or self._track[0][1] != face.id:
            self._track.popleft()
        way = np.array([(x, y) for _, _, x, y, _ in self._track])
        return Sight(
            face_seen=True,
            face_px=min(w, h),
            skin_level=None if skin is None else float(skin.max()),
            moved=float(np.ptp(way, axis=0).max()) / self._track[-1][4],
            followed_s=self._meter.followed_s(face.id),
        )

    def _recent_wave(self, newest: Reading) -> Pulse | None:
        """The last ``WAVE_S`` of the wave that the newest readings of a face tell together."""
        near = [newest]
        for reading in reversed(self._readings):
            if reading.end_s < newest.end_s - WAVE_S or len(near) > WAVE_S / 0.5:
                break
            if (reading.face_id, reading.segment) == (newest.face_id, newest.segment) and reading.end_s < newest.end_s:
                near.append(reading)
        whole = join_waves(near)
        if whole is None:
            return None
        n_left_out = max(0, len(whole.bvp) - round(WAVE_S * whole.fps))
        bvp = whole.bvp[n_left_out:]
        # Neighbours of a segment overlap, so nothing in it is missing unless strides are longer than windows.
        bvp = standardise(bvp) if np.isfinite(bvp).all() else bvp
        return Pulse(bvp=bvp, fps=whole.fps, start_s=whole.start_s + n_left_out / whole.fps)

    # -- what is kept

    def _keep(self, reading: Reading) -> None:
        """Put a reading into the record, without what only the moment needs; thin what is older."""
        says = reading.estimate
        says = replace(says, evidence=None, pulse=_bare(says.pulse), witness=_bare(says.witness))
        self._readings.append(replace(reading, estimate=says))
        self._n_readings += 1
        self._n_waves += 1
        while self._n_waves > KEPT_WAVES or (
            self._n_waves > 0 and self._readings[-self._n_waves].end_s < reading.end_s - WAVES_S
        ):
            old = self._readings[-self._n_waves]
            bare = replace(old, estimate=replace(old.estimate, pulse=None, witness=None))
            self._readings[-self._n_waves] = bare
            self._n_waves -= 1
        if len(self._readings) > KEPT_READINGS:
            self._readings.popleft()

    def _forget(self) -> None:
        """Hold down what a meter collects over hours of people who come and go."""
        meter = self._meter
        while len(meter.crops) > KEPT_FACES:
            meter.crops.pop(next(iter(meter.crops)))
        if len(meter.too_short) > 2 * KEPT_STRETCHES:
            self._n_stretches_gone += len(meter.too_short) - KEPT_STRETCHES
            del meter.too_short[:-KEPT_STRETCHES]

    # -- answers

    def state(self) -> LiveState:
        """What can be said now. Cheap: nothing is computed here.

        Raises:
            Exception: the one with which the measuring thread ended.
        """
        with self._ready:
            self._check_alive()
            shown, reading = self._shown, self._shown.reading
            silent = self._worker is not None and not self._closed and time.monotonic() - self._came_s > SILENT_S
            sight = replace(
                shown.sight, fps_in=0.0 if silent else _fps(self._times_in), fps_measured=_fps(self._times_measured)
            )
            says = None if reading is None else reading.estimate
            advice = ("No picture comes from the camera.",) if silent else advise(sight)
            if self._n_measured == 0 and not silent:
                advice = ("Waiting for the camera.",)
            face = shown.face
            return LiveState(
                hr_bpm=None if says is None else says.hr_bpm,
                confidence=0.0 if says is None else says.confidence,
                reliable=says is not None and says.reliable and not silent,
                why=_why_no_rate(sight) if says is None else says.why_unreliable,
                snr_db=None if says is None else says.snr_db,
                wave=shown.wave,
                box=None if face is None else _corners(face),
                advice=advice,
                frames=self._frames(),
                fps_in=sight.fps_in,
                fps_measured=sight.fps_measured,
                delay_s=shown.delay_s,
                readings=self._n_readings,
                end_s=None if reading is None else reading.end_s,
                since_s=shown.t_s,
                first_reliable_s=self._first_reliable_s,
            )

    def rows(self) -> list[dict[str, Any]]:
        """The record: one row for each full window so far, the oldest first; times since the first frame."""
        with self._ready:
            readings = list(self._readings)
        return [
            {
                "time_s": round(reading.end_s, 3),
                "start_s": round(reading.start_s, 3),
                "face_id": reading.face_id,
                "hr_bpm": None if reading.estimate.hr_bpm is None else round(reading.estimate.hr_bpm, 2),
                "confidence": round(reading.estimate.confidence, 3),
                "reliable": reading.estimate.reliable,
                "why": reading.estimate.why_unreliable,
            }
            for reading in readings
        ]

    def as_json(self) -> str:
        """The record as JSON: what was measured, with which method, and what became of the frames. No picture."""
        rows = self.rows()
        with self._ready:
            whole = {
                "schema": SESSION_SCHEMA,
                "source": self.config.source,
                "started_at": self.started_at,
                "method": self.method.name,
                "weights": self.method.weights,
                "duration_s": round(self._shown.t_s, 3),
                "frames": asdict(self._frames()),
                "readings": rows,
            }
        return json.dumps(whole, indent=1, allow_nan=False)

    def as_csv(self) -> str:
        """The record as CSV, with a line of names."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(ROW_COLUMNS)
        for row in self.rows():
            row["reliable"] = str(row["reliable"]).lower()
            table.writerow(["" if row[name] is None else row[name] for name in ROW_COLUMNS])
        return text.getvalue()

    def close(self, notes: Sequence[str] = ()) -> Measurement:
        """Measure what waits, end, and give the whole session as one answer, as ``measure`` does of a file.

        Called again it gives the same.

        Args:
            notes: what the source of the frames noticed, in whole sentences; put before the session's own notes, and
                into the message where there is no answer.

        Raises:
            NoFace: no face in any frame.
            SignalTooShort: no face for as long as a reading needs.
            Exception: the one with which the measuring thread ended.
        """
        self._end(discard=False)
        with self._ending:
            self._check_alive()
            if self._answer is None:
                self._answer = answer(
                    self._meter,
                    list(self._readings),
                    path=self.config.source,
                    duration_s=self._shown.t_s,
                    frames=Frames(
                        read=self._n_measured,
                        face=self._meter.n_face,
                        repaired=self._meter.n_filled,
                        dropped=self._n_dropped + self._n_refused,
                    ),
                    notes=[*notes, *self._notes()],
                )
            return self._answer

    def stop(self) -> None:
        """End without an answer: what waits is dropped. Harmless when called twice or after ``close``."""
        self._end(discard=True)

    def _end(self, *, discard: bool) -> None:
        with self._ready:
            self._stopping = True
            if discard:
                self._n_dropped += len(self._queue)
                self._queue.clear()
            self._ready.notify_all()
        # A lock of its own: who asks for the state meanwhile does not wait for the last readings.
        with self._ending:
            if self._worker is not None:
                self._worker.join()
            if self._closed:
                return
            last = self._meter.finish() if self._failed is None else []
            with self._ready:
                for reading in last:
                    self._keep(reading)
                self._closed = True

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _frames(self) -> LiveFrames:
        return LiveFrames(self._n_offered, self._n_measured, self._n_dropped, self._n_refused)

    def _notes(self) -> list[str]:
        notes = []
        if self._n_dropped:
            notes.append(
                f"{self._n_dropped} of {self._n_offered} frames were dropped: they came faster than they were measured."
            )
        if self._n_refused:
            notes.append(
                f"{self._n_refused} frames were refused: their time did not increase, leapt by over an hour, "
                "or was no number."
            )
        if self._n_clocks:
            notes.append(f"The clock of the frames leapt {self._n_clocks} time(s); it was carried on where it was.")
        if self._n_waves < len(self._readings):
            notes.append(
                f"Wave, beats and variability are of the last {WAVES_S / 60:.0f} minutes at most; "
                "the rate is of the whole time."
            )
        if self._n_readings > len(self._readings):
            notes.append(f"The first {self._n_readings - len(self._readings)} readings of this long session are gone.")
        if self._n_stretches_gone:
            notes.append(f"{self._n_stretches_gone} stretches that were too short to measure are not named.")
        return notes


ROW_COLUMNS = ("time_s", "start_s", "face_id", "hr_bpm", "confidence", "reliable", "why")


def advise(sight: Sight) -> tuple[str, ...]:
    """What a person in front of the camera can do, the most important first; nothing while the rate is reliable.

    Every sentence has a cause that was measured; see the constants of this module for the thresholds.
    """
    says = None if sight.reading is None else sight.reading.estimate
    if says is not None and says.reliable:
        return ()
    if not sight.face_seen:
        return ("No face. Look at the camera.",)
    advice = []
    if sight.face_px < NEAR_PX:
        advice.append("Come closer.")
    if sight.skin_level is not None and sight.skin_level < DARK_LEVEL:
        advice.append("More light.")
    if sight.skin_level is not None and sight.skin_level > BRIGHT_LEVEL:
        advice.append("Less light: the skin is burnt out.")
    # Of a shorter window the evidence is as weak as the rate.
    is_long = sight.reading is not None and sight.reading.end_s - sight.reading.start_s > TRUSTED_S - 0.1
    evidence = says.evidence if says is not None and is_long else None
    if sight.moved > MOVING or (evidence is not None and is_movement(evidence)):
        advice.append("Hold still.")
    elif evidence is not None and is_light(evidence):
        # Not beside the former: a head that moves uncovers and shades its background in step.
        advice.append("The light flickers: try daylight or another lamp.")
    if evidence is not None and is_codec(evidence):
        advice.append("The picture is compressed too much: use a better connection or camera.")
    if sight.reading is not None and sight.reading.found_share < LEAST_FOUND:
        advice.append("Keep your face turned to the camera.")
    if 0 < sight.fps_in < SLOW_FPS:
        advice.append(
            f"The camera is slow: {sight.fps_in:.0f} frames per second. More light makes most cameras faster."
        )
    elif 0 < sight.fps_measured < SLOW_FPS:
        advice.append(
            f"This computer is too slow: {sight.fps_measured:.0f} of {sight.fps_in:.0f} frames per second are measured."
        )
    if sight.followed_s < TRUSTED_S:
        left_s = max(1, math.ceil(TRUSTED_S - sight.followed_s))
        advice.append(f"Wait: {left_s} more second{'s' * (left_s > 1)}.")
    elif not advice and says is not None:
        advice.append("The pulse is weak: more light on the face, and hold still.")
    return tuple(advice)


def _why_no_rate(sight: Sight) -> str:
    if not sight.face_seen:
        return "no face is seen"
    if sight.followed_s < LEAST_S:
        return f"only {math.floor(sight.followed_s)} s of face: a number needs {LEAST_S:g} s"
    if 0 < sight.fps_measured < LEAST_FPS:
        return f"{sight.fps_measured:.1f} frames per second; at least {LEAST_FPS:.1f} are needed"
    return "the newest reading is too old"


def _corners(face: TrackedFace) -> tuple[float, float, float, float]:
    x, y, w, h = (round(float(v), 2) for v in face.box_xywh)
    return x, y, w, h


def _fps(times_s: deque[float]) -> float:
    """Frames per second over the last ``RECENT_S`` before the newest of them."""
    if len(times_s) < 2:
        return 0.0
    recent = [t_s for t_s in times_s if t_s >= times_s[-1] - RECENT_S]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


def _bare(pulse: Pulse | None) -> Pulse | None:
    """The wave alone, in memory of its own: a net's is a slice of the array that holds its parts too."""
    return None if pulse is None else replace(pulse, bvp=pulse.bvp.copy(), parts=None)
