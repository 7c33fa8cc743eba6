"""A live session: the one ``Meter`` behind a stream of frames that come as they come.

    with LiveSession("pos") as session:
        for frame, t_s in camera:
            session.offer(frame, t_s)          # never blocks
            print(session.state().hr_bpm)
        print(session.close().face.hr_bpm)

``offer`` leaves the frame in a bounded place; a thread of the session's own measures it. ``take`` measures in the call
itself and drops nothing: what it gives is equal to ``autohr.measure`` on the same frames and times. The session adds
words (``advice.py``) and counts to what the meter says, never numbers of its own.

A session's memory is bounded, however long it runs: the frames that wait (``LiveConfig.max_queue``, ``QUEUE_BYTES``),
one window of rows in the meter (``MAX_FPS`` frames a second at most), and the readings and waves of ``record.py``
(about 20 MB when full, after six hours at one a second).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from autohr.confidence.verdict import LEAST_S
from autohr.errors import NoFace, with_notes
from autohr.live.advice import Sight, advise, why_no_rate
from autohr.live.record import Record, as_csv, as_rows
from autohr.measure import answer
from autohr.meter import LATE_STRIDE_S, Meter, MeterConfig
from autohr.methods import Method
from autohr.types import Frame, Frames, Measurement, Pulse, Reading
from autohr.video.detector import Detects, FaceDetector, check_frame
from autohr.video.stamps import CLOCK_RESTART_S, CONFIRMING, MAX_LEAPS_S
from autohr.video.tracker import TrackedFace

FirstReadings = Callable[[int], Iterable[Reading]]
"""Function that gives the first readings of a session back, as many as it is asked for, from where they were written
(``on_readings``): the session itself has the newest ``record.MAX_READINGS`` alone."""

SESSION_SCHEMA = "autohr.session/1"

QUEUE_BYTES = 64 * 2**20
"""Memory for waiting frames: 72 of 640x480, 10 of 1920x1080. At least one frame may always wait."""
MAX_FPS = 240.0
"""Frames that come faster are refused: a meter's window would hold any number of them. Phones film at 240 at most."""
MAX_FACES_KEPT = 20
"""Pictures of faces kept at most, of 110 kB each, and ids of faces with a newest reading."""
MAX_STRETCHES = 500
"""Stretches that were too short to measure and are still named; the older ones are only counted."""

RECENT_S = 3.0
"""Time over which frames per second are counted."""
EARLY_S = 1.0
"""Shortest time between early readings (``Meter.early``)."""
HOLD_S = 2.0
"""A reading is shown for this much longer than the time after which the next one must come; then it is too old to be
called the rate."""
LATE_SHARE = 0.5
"""Share of the places for waiting frames from which on readings are left out (``Meter.push``) before frames are."""
SILENT_S = 2.0
"""Time without a frame after which the camera is called silent."""


@dataclass(frozen=True)
class LiveConfig:
    """Settings of a session."""

    meter: MeterConfig = field(default_factory=MeterConfig)
    max_queue: int = 45
    """Frames that may wait, 1.5 s of a usual camera: every three seconds a net thinks for some tenths of one, and the
    frames of that time must not be lost. See ``QUEUE_BYTES`` too."""
    source: str = "camera"
    """Name that results give to the place the frames come from."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_queue <= 1000:
            raise ValueError(f"max_queue={self.max_queue} must lie between 1 and 1000 frames.")


@dataclass
class LiveFrames:
    """The frames of a session, counted. ``offered`` is the sum of the others and of those that wait."""

    offered: int = 0
    measured: int = 0
    dropped: int = 0
    """Let go of because the meter could not follow."""
    refused: int = 0
    """With a time that is no number, did not increase, lay over an hour ahead, or came faster than ``MAX_FPS``."""


@dataclass(frozen=True)
class LiveFace:
    """The newest of one followed face, in the words of ``LiveState``."""

    id: int
    hr_bpm: float | None = None
    confidence: float = 0.0
    reliable: bool = False
    why: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class LiveState:
    """The state of a session, of one face: the chosen one (``LiveSession.show``) or the largest, until it is lost.

    Times are in seconds since the first frame.
    """

    hr_bpm: float | None = None
    """None where there is no recent reading. Only ``reliable`` tells whether it may be believed."""
    confidence: float = 0.0
    reliable: bool = False
    why: str | None = None
    """Why there is no rate, or no reliable one."""
    snr_db: float | None = None
    wave: Pulse | None = None
    """The last 8 seconds of pulse wave, of unit standard deviation; None without a recent reading."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, width, height of the face in pixels of the offered frame; may reach over its border."""
    advice: tuple[str, ...] = ()
    """Short sentences on what would help, the most important first. Empty while the rate is reliable and up to
    date."""
    frames: LiveFrames = field(default_factory=LiveFrames)
    fps_in: float = 0.0
    """Frames per second that come, and those that are measured, over the last ``RECENT_S`` of the frames' own times."""
    fps_measured: float = 0.0
    delay_s: float = 0.0
    """Time from the offer of the newest measured frame to its result: waiting and work."""
    readings: int = 0
    """Full windows read so far, early readings not counted."""
    end_s: float | None = None
    """End of the window that ``hr_bpm`` is of."""
    since_s: float = 0.0
    """Time of the newest measured frame: for how long this session has been measuring."""
    first_reliable_s: float | None = None
    """Time of the frame with which the first reliable reading came."""
    face_id: int | None = None
    """The face that all of this is of; None where none is followed."""
    faces: tuple[LiveFace, ...] = ()
    """All faces that are followed, in order of their ids."""
    others: int = 0
    """Largest number of faces that were seen at a time besides those."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and None, for JSON."""
        wave = None
        if self.wave is not None:
            wave = {
                "fps": self.wave.fps,
                "start_s": self.wave.start_s,
                "values": [round(float(v), 3) if math.isfinite(v) else None for v in self.wave.bvp],
            }
        changed = {"wave": wave, "frames": asdict(self.frames), "advice": list(self.advice)}
        return {**self.__dict__, **changed, "faces": [asdict(face) for face in self.faces]}


class _Clock:
    """The clock of a session: times of frames in, seconds since the first one out."""

    def __init__(self) -> None:
        self.n_leaps = 0
        self._zero_s: float | None = None
        self._last_s = self._odd_s = -math.inf
        self._n_odd = 0

    def admit(self, t_s: float) -> float | None:
        """Return the time since the first frame; None where it cannot be one.

        A time that lies over ``MAX_LEAPS_S`` ahead, or more than ``CLOCK_RESTART_S`` behind, is refused until
        ``CONFIRMING`` frames in a row show that the clock was set anew; then it is carried on where it was.
        """
        if self._zero_s is None and math.isfinite(t_s):
            self._zero_s = t_s
        elif self._zero_s is None or not self._is_next(t_s, self._zero_s):
            return None
        self._last_s, self._n_odd = t_s, 0
        return t_s - self._zero_s

    def _is_next(self, t_s: float, zero_s: float) -> bool:
        """Return whether a frame of this time may follow the last one; move the clock where a leap is confirmed."""
        min_step_s = 1 / MAX_FPS - 1e-6
        step_s = t_s - self._last_s
        if not math.isfinite(step_s):
            return False
        if -CLOCK_RESTART_S <= step_s <= MAX_LEAPS_S:
            return step_s >= min_step_s
        odd_step_s = t_s - self._odd_s
        self._n_odd = self._n_odd + 1 if min_step_s <= odd_step_s <= CLOCK_RESTART_S else 1
        self._odd_s = t_s
        if self._n_odd < CONFIRMING:
            return False
        self._zero_s = t_s - (self._last_s - zero_s + odd_step_s)
        self.n_leaps += 1
        return True


@dataclass(frozen=True)
class _Waiting:
    """A frame that waits to be measured."""

    frame: Frame
    t_s: float
    whole: bool
    offered_at_s: float


class LiveSession:
    """Measures frames as they come. Safe to be asked from several threads; frames must come from one at a time.

    ``method`` and ``detector`` are as for ``Meter``, which raises what it refuses of them. ``on_readings`` is called
    with the readings of full windows as they come, by the thread that measures, before the state shows them.
    """

    def __init__(
        self,
        method: str | Method | None = None,
        config: LiveConfig | None = None,
        detector: Detects | None = None,
        on_readings: Callable[[Sequence[Reading]], None] | None = None,
    ) -> None:
        self.config = config or LiveConfig()
        self._on_readings = on_readings
        # Made now and not at the first frame, which would wait for it.
        self._meter = Meter(method, self.config.meter, FaceDetector() if detector is None else detector)
        self.started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._ready = threading.Condition()
        self._ending = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._worker: threading.Thread | None = None
        self._stopping = self._closed = False
        self._failed: BaseException | None = None
        self._frames = LiveFrames()
        self._clock = _Clock()
        self._taken_s = -1.0
        self._offered_at_s = -math.inf
        self._times_in: deque[float] = deque(maxlen=int(RECENT_S * MAX_FPS))
        self._times_measured: deque[float] = deque(maxlen=int(RECENT_S * MAX_FPS))
        self._face_id: int | None = None
        """The face that is shown, until it is lost."""
        self._shown = LiveState()
        """The newest results; counts, advice and frames per second are put in when it is asked for."""
        self._sight = Sight()
        self._record = Record()
        self._n_stretches_gone = 0
        self._newest: dict[int, Reading] = {}
        self._centres: deque[tuple[float, int, float, float]] = deque(maxlen=int(MAX_FPS))
        self._n_early: dict[int, int] = {}
        self._first_reliable_s: float | None = None
        self._answer: Measurement | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def method(self) -> Method:
        """The method that measures."""
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

        Returns False where frames were dropped for this one, or where this one is refused (see ``LiveFrames``) or comes
        after the end. Raises ValueError for no uint8 array of that shape or after ``take``, and the error with which
        the measuring thread ended.
        """
        check_frame(frame)
        with self._ready:
            self._check_alive()
            if self._frames.measured and self._worker is None:
                raise ValueError("This session takes its frames with take(); do not mix that with offer().")
            if self._stopping:
                return False
            waiting = self._admit(frame, t_s, whole)
            if waiting is None:
                return False
            n_dropped = self._frames.dropped
            while self._queue and (
                len(self._queue) >= self.config.max_queue
                or sum(one.frame.nbytes for one in self._queue) + frame.nbytes > QUEUE_BYTES
            ):
                self._drop_one(waiting.t_s)
            self._queue.append(waiting)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="autohr-live", daemon=True)
                self._worker.start()
            self._ready.notify_all()
            return self._frames.dropped == n_dropped

    def take(self, frame: Frame, t_s: float, *, whole: bool = True) -> list[Reading]:
        """Measure a frame now, in this thread, and drop nothing: for files, where time can wait.

        The readings, and what ``close`` gives, are equal to those of ``autohr.measure`` on the same frames and times.
        Raises ValueError for no uint8 array (H, W, 3), after ``offer``, and after the end.
        """
        check_frame(frame)
        if self._worker is not None or self._stopping:
            raise ValueError("This session has ended, or takes its frames with offer(); begin another one.")
        with self._ready:
            waiting = self._admit(frame, t_s, whole)
        return [] if waiting is None else self._measure(waiting)

    def _admit(self, frame: Frame, t_s: float, whole: bool) -> _Waiting | None:
        self._frames.offered += 1
        at_s = self._clock.admit(t_s)
        if at_s is None:
            self._frames.refused += 1
            return None
        self._offered_at_s = time.monotonic()
        self._times_in.append(at_s)
        return _Waiting(frame, at_s, whole, self._offered_at_s)

    def _drop_one(self, newest_s: float) -> None:
        """Let go of the waiting frame whose neighbours are closest to each other, the oldest of several."""
        times_s = np.array([self._taken_s, *(waiting.t_s for waiting in self._queue), newest_s])
        # To the millisecond, or rounding would choose among the frames of a steady camera.
        del self._queue[int(np.argmin(np.round(times_s[2:] - times_s[:-2], 3)))]
        self._frames.dropped += 1

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
        places = min(self.config.max_queue, QUEUE_BYTES // waiting.frame.nbytes)
        late = self.n_waiting > LATE_SHARE * places
        readings = meter.push(waiting.frame, t_s, whole=waiting.whole, late=late)
        face = self._choose_face()
        early: list[Reading] = []
        if face is not None and face.seen and not readings and self._is_early_due(face.id):
            early = meter.early()
        sight = self._look(face, t_s)
        self._keep(readings)
        for reading in [*early, *readings]:
            self._newest[reading.face_id] = reading
            if reading.estimate.reliable and self._first_reliable_s is None:
                self._first_reliable_s = t_s
        self._forget()
        stride_s = max(self.config.meter.stride_s, LATE_STRIDE_S) if late else self.config.meter.stride_s
        max_age_s = stride_s + meter.delay_s + HOLD_S
        recent = None if face is None else self._recent_reading(face.id, t_s, max_age_s)
        state = LiveState(
            since_s=t_s,
            first_reliable_s=self._first_reliable_s,
            faces=tuple(_live_face(one, self._recent_reading(one.id, t_s, max_age_s)) for one in meter.faces),
            others=meter.n_others,
        )
        if face is not None:
            state = replace(state, face_id=face.id, box=_box_of(face))
        if recent is not None:
            estimate = recent.estimate
            state = replace(
                state,
                hr_bpm=estimate.hr_bpm,
                confidence=estimate.confidence,
                reliable=estimate.reliable,
                why=estimate.why_unreliable,
                snr_db=estimate.snr_db,
                wave=self._shown.wave if recent is self._sight.reading else self._record.recent_wave(recent),
                end_s=recent.end_s,
            )
        with self._ready:
            self._frames.measured += 1
            self._times_measured.append(t_s)
            self._sight = replace(sight, reading=recent)
            self._shown = replace(state, delay_s=time.monotonic() - waiting.offered_at_s)
        return readings

    def show(self, face_id: int) -> None:
        """Show this face from the next frame on, until it is lost. One that is not followed changes nothing."""
        with self._ready:
            if any(face.id == face_id for face in self._shown.faces):
                self._face_id = face_id

    def _choose_face(self) -> TrackedFace | None:
        """Return the face that is shown: the same one until it is lost, then the largest."""
        faces = self._meter.faces
        with self._ready:
            face = next((one for one in faces if one.id == self._face_id), None)
            if face is None:
                face = max(faces, key=lambda one: (one.seen, float(np.prod(one.box_xywh[2:]))), default=None)
                self._face_id = None if face is None else face.id
        return face

    def _recent_reading(self, face_id: int, t_s: float, max_age_s: float) -> Reading | None:
        """Return the newest reading of a face, None where it is too old, or of before the face came back."""
        newest = self._newest.get(face_id)
        oldest_s = t_s - min(max_age_s, self._meter.followed_s(face_id))
        return newest if newest is not None and newest.end_s >= oldest_s else None

    def _keep(self, readings: Sequence[Reading]) -> None:
        with self._ready:
            for reading in readings:
                self._record.keep(reading)
        if readings and self._on_readings is not None:
            self._on_readings(readings)

    def _is_early_due(self, face_id: int) -> bool:
        """Return whether this face has been followed for another ``EARLY_S`` of its first window."""
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
        self._centres.append((t_s, face.id, x + w / 2, y + h / 2))
        while self._centres[0][0] < t_s - 1.0 or self._centres[0][1] != face.id:
            self._centres.popleft()
        way = np.array([(x, y) for _, _, x, y in self._centres])
        return Sight(
            face_seen=True,
            face_px=min(w, h),
            skin_level=None if skin is None else float(skin.max()),
            moved=float(np.ptp(way, axis=0).max()) / math.sqrt(w * h),
            followed_s=self._meter.followed_s(face.id),
        )

    def _forget(self) -> None:
        """Hold down what is collected over hours of people who come and go."""
        meter = self._meter
        for faces in (self._newest, meter.crops):
            while len(faces) > MAX_FACES_KEPT:
                faces.pop(next(iter(faces)))
        if len(meter.too_short) > 2 * MAX_STRETCHES:
            self._n_stretches_gone += len(meter.too_short) - MAX_STRETCHES
            del meter.too_short[:-MAX_STRETCHES]

    # -- answers

    def state(self) -> LiveState:
        """Return the state of this moment, or raise the error with which the measuring thread ended. Cheap."""
        with self._ready:
            self._check_alive()
            silent = self._worker is not None and not self._closed and time.monotonic() - self._offered_at_s > SILENT_S
            fps_in, fps_measured = 0.0 if silent else _fps(self._times_in), _fps(self._times_measured)
            sight = replace(self._sight, fps_in=fps_in, fps_measured=fps_measured, delay_s=self._shown.delay_s)
            if silent:
                advice: tuple[str, ...] = ("No picture comes from the camera.",)
            else:
                advice = advise(sight) if self._frames.measured else ("Waiting for the camera.",)
            return replace(
                self._shown,
                reliable=self._shown.reliable and not silent,
                why=why_no_rate(sight) if sight.reading is None else self._shown.why,
                advice=advice,
                frames=replace(self._frames),
                fps_in=fps_in,
                fps_measured=fps_measured,
                readings=self._record.n_readings,
            )

    def rows(self, first: FirstReadings | None = None) -> list[dict[str, Any]]:
        """Return one row for each full window so far, the oldest first; times since the first frame.

        Without ``first``, those that this session no longer has are missing.
        """
        return as_rows(self._readings(first))

    def _readings(self, first: FirstReadings | None) -> list[Reading]:
        with self._ready:
            n_gone, newest = self._record.n_gone, list(self._record.readings)
        return [*(() if first is None else first(n_gone)), *newest]

    def as_json(self, first: FirstReadings | None = None) -> str:
        """Return the record as JSON: what was measured, with which method, and what became of the frames.

        ``first`` as in ``rows``.
        """
        rows = self.rows(first)
        with self._ready:
            content = {
                "schema": SESSION_SCHEMA,
                "source": self.config.source,
                "started_at": self.started_at,
                "method": self.method.name,
                "weights": self.method.weights,
                "duration_s": round(self._shown.since_s, 3),
                "frames": asdict(self._frames),
                "readings": rows,
            }
        return json.dumps(content, indent=1, allow_nan=False)

    def as_csv(self, first: FirstReadings | None = None) -> str:
        """Return the record as CSV, with a line of names; ``first`` as in ``rows``."""
        return as_csv(self.rows(first))

    def close(self, notes: Sequence[str] = (), *, first: FirstReadings | None = None) -> Measurement:
        """Measure what waits, end, and return the whole session as one answer, as ``measure`` does of a file.

        Called again it gives the same. ``notes`` is what the source of the frames noticed, in whole sentences; they
        come before the session's own, and into the message where there is no answer. ``first`` has the readings that
        this session no longer has.

        Raises
        ------
        NoFace, SignalTooShort
            As ``measure``; or the error with which the measuring thread ended.
        """
        self._end(discard=False)
        with self._ending:
            self._check_alive()
            if self._answer is None:
                frames = self._frames
                if not frames.measured:
                    raise NoFace(with_notes(f"No picture came from {self.config.source!r}.", [*notes, *self._notes()]))
                self._answer = answer(
                    self._meter,
                    self._readings(first),
                    path=self.config.source,
                    duration_s=self._shown.since_s,
                    frames=Frames(
                        read=frames.measured,
                        face=self._meter.n_face,
                        repaired=self._meter.n_filled,
                        dropped=frames.dropped + frames.refused,
                    ),
                    notes=[*notes, *self._notes(has_first=first is not None)],
                )
            return self._answer

    def about_others(self) -> str:
        """Return the sentence on faces that were seen and not measured; "" without any."""
        return self._meter.about_others()

    def stop(self) -> None:
        """End without an answer: what waits is dropped. Harmless when called twice or after ``close``."""
        self._end(discard=True)

    def _end(self, *, discard: bool) -> None:
        with self._ready:
            self._stopping = True
            if discard:
                self._frames.dropped += len(self._queue)
                self._queue.clear()
            self._ready.notify_all()
        # A lock of its own: who asks for the state meanwhile does not wait for the last readings.
        with self._ending:
            if self._worker is not None:
                self._worker.join()
            if self._closed:
                return
            self._keep(self._meter.finish() if self._failed is None else [])
            with self._ready:
                self._closed = True

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _notes(self, *, has_first: bool = False) -> list[str]:
        frames = self._frames
        causes = [
            (
                frames.dropped,
                f"{frames.dropped} of {frames.offered} frames were dropped: they came faster than they were measured.",
            ),
            (
                self._meter.n_skipped,
                f"{self._meter.n_skipped} readings were left out, because frames came faster than they were measured.",
            ),
            (
                frames.refused,
                f"{frames.refused} frames were refused: their time did not increase, leapt by over an hour, "
                "or was no number.",
            ),
            (
                self._clock.n_leaps,
                f"The clock of the frames leapt {self._clock.n_leaps} time(s); it was carried on where it was.",
            ),
        ]
        notes = [sentence for count, sentence in causes if count] + self._record.notes(has_first=has_first)
        if self._n_stretches_gone:
            notes.append(f"{self._n_stretches_gone} stretches that were too short to measure are not named.")
        return notes


def _box_of(face: TrackedFace) -> tuple[float, float, float, float]:
    x, y, w, h = (round(float(v), 2) for v in face.box_xywh)
    return x, y, w, h


def _live_face(face: TrackedFace, recent: Reading | None) -> LiveFace:
    if recent is None:
        return LiveFace(face.id, box=_box_of(face))
    told = recent.estimate
    return LiveFace(face.id, told.hr_bpm, told.confidence, bool(told.reliable), told.why_unreliable, _box_of(face))


def _fps(times_s: deque[float]) -> float:
    """Return the frames per second over the last ``RECENT_S`` before the newest of these times."""
    if len(times_s) < 2:
        return 0.0
    recent = [t_s for t_s in times_s if t_s >= times_s[-1] - RECENT_S]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0
