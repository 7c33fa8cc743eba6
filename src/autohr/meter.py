"""The one engine behind files, cameras and the web page: frames with their times in, readings out.

    meter = Meter("pos")
    for frame, t_s in frames:
        for reading in meter.push(frame, t_s):
            print(reading.end_s, reading.estimate.hr_bpm)
    last = meter.finish()

A meter follows faces, reads their colours, and every ``stride_s`` puts the last ``window_s`` on a uniform clock and
asks the method. A net reads each crop as it comes, in pieces, and windows read the wave that these make; a reading
waits for its last piece (``runtime.PIECE_S``). The meter holds one window of colours for each followed face and nothing
else, so its memory does not grow with the video, and the same frames give the same numbers whether they come from a
file or live.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import numpy as np

from autohr.confidence.evidence import CELLS
from autohr.confidence.verdict import LEAST_FPS, LEAST_S
from autohr.errors import AutoHRError, BadWeights
from autohr.frontend import BRIDGE_S, FORMULA_CROP, PAPER_CROP, Box, CropConfig, FaceReader, FaceRow, shrink
from autohr.methods import Method, Stream, load_method
from autohr.signals.clock import FaceRows, on_clock
from autohr.types import FaceClip, Float, Frame, Reading
from autohr.video.detector import Detects
from autohr.video.regions import cells_of
from autohr.video.tracker import TrackedFace

CLOCK_S = LEAST_S
"""Time for which a face is followed before its uniform clock is set to their mean frames per second: as soon as there
could be a reading."""

LATE_STRIDE_S = 4.0
"""Time from one reading to the next for a caller that is late. Ours: a little more than from one piece of the net to
the next, and still a number that is no older than one can hold still."""

RESTART_S, RESTART_FPS = 3.0, 1.5 * LEAST_FPS
"""A face whose first window had too few frames per second is tried again once they come this fast for so long, with no
long step between two of them: clearly faster than the least, so that a camera at the limit is not tried again and
again."""

PORTRAIT = CropConfig(size_px=192, margin=0.25)
"""Crop of the picture of each face that is kept for reports."""


@dataclass(frozen=True)
class MeterConfig:
    """Settings of a meter."""

    window_s: float = 10.0
    """Length of one reading. Under 8 s no reading is called reliable; above 30 s the rate changes inside it."""
    stride_s: float = 1.0
    """Time from one reading to the next."""
    max_faces: int = 1
    """Faces followed at the same time; the largest first."""
    box: Box | None = None
    """``first``: the paper's box of the first frame, enlarged and never moved. Measured against the tracked one in
    docs/log/2026-11.md. None: the one that the method's net was trained with; tracked for the others."""

    def __post_init__(self) -> None:
        if not LEAST_S <= self.window_s <= 120:
            raise ValueError(f"window_s={self.window_s:g} must lie between {LEAST_S:g} and 120 seconds.")
        if not 0.1 <= self.stride_s <= self.window_s:
            raise ValueError(f"stride_s={self.stride_s:g} must lie between 0.1 and window_s={self.window_s:g} seconds.")
        if not 1 <= self.max_faces <= 20:
            raise ValueError(f"max_faces={self.max_faces} must lie between 1 and 20.")
        if self.box not in ("tracked", "first", None):
            raise ValueError(f"box={self.box!r} must be 'tracked', 'first' or None.")


@dataclass(frozen=True)
class TooShort:
    """A stretch in which a face was followed, but not for long enough to measure."""

    face_id: int
    start_s: float
    end_s: float
    why: str


@dataclass(frozen=True)
class Look:
    """One frame after the faces in it were read (``Meter.look``), not yet in any reading (``Meter.read``)."""

    t_s: float
    faces: list[TrackedFace]
    rows: list[FaceRow]
    """Crops as the method is given them."""
    portraits: dict[int, Frame]
    """Pictures of the faces that were not seen just before, by id."""


@dataclass
class _Segment:
    """A stretch of one face without a gap over the bridge. Window k of it covers frames k * hop .. k * hop + length."""

    number: int
    origin_s: float
    """Time of frame 0 of the uniform clock: the first row."""
    rows: list[FaceRow] = field(default_factory=list)
    """Without crops."""
    fps: float = 0.0
    """Frames per second of the uniform clock: set after ``CLOCK_S``, then kept, so that windows share one clock."""
    next_frame: int = 0
    """First frame of the next window."""
    covered: int = 0
    """Frames up to which windows have been read."""
    waiting: deque[tuple[float, Frame]] = field(default_factory=deque)
    """Times and crops that the clock has not passed, and the last one that it has."""
    n_shown: int = 0
    """Frames of the clock that a crop was shown in."""
    first_kept: int = 0
    """The frame that ``cells`` and ``crops`` begin with."""
    cells: list[Float] = field(default_factory=list)
    """(CELLS * CELLS, 3) for each frame of the clock, where the method reads crops."""
    crops: list[Frame] = field(default_factory=list)
    """One for each frame of the clock, where the method reads whole windows of them."""
    stream: Stream | None = None
    n_early: int = 0
    """Frames of the last early reading."""

    @property
    def n_frames(self) -> int:
        """Frames of the clock up to the last row."""
        # Half a frame of slack: with 29.97 frames per second the 300th frame is 3 ms early.
        return math.floor((self.rows[-1].t_s - self.origin_s) * self.fps + 1.5)

    @property
    def n_ready(self) -> int:
        """Frames of the clock that can be in a reading."""
        return self.n_frames if self.stream is None else min(self.n_frames, self.stream.n_known)

    def forget(self, first: int) -> None:
        """Let go of what no window from frame ``first`` on needs, but for the rows."""
        n_gone = max(0, first - self.first_kept)
        del self.cells[:n_gone], self.crops[:n_gone]
        self.first_kept += n_gone
        if self.stream is not None:
            self.stream.forget(first)


class Meter:
    """A measurement in progress: frames in, readings out. One for one video; not to be shared between threads.

    ``method`` is a name of ``METHODS``, a ``Method``, or None for the default (see ``load_method``); ``detector`` finds
    faces, the shipped one if None. Raises BadWeights where the config asks for another box than the method's net was
    trained with, AutoHRError where for another than a formula reads crops from.
    """

    def __init__(
        self,
        method: str | Method | None = None,
        config: MeterConfig | None = None,
        detector: Detects | None = None,
    ) -> None:
        self.method = load_method(method) if method is None or isinstance(method, str) else method
        self.config = config or MeterConfig()
        self.too_short: list[TooShort] = []
        self.crops: dict[int, Frame] = {}
        """One picture of each face, as ``PORTRAIT`` cuts it."""
        self.n_frames = 0
        self.n_face = 0
        """Frames in which at least one face was seen."""
        self.n_skipped = 0
        """Readings that were left out because the caller was late."""
        self.n_filled = 0
        """Rows in which a face was not seen and its colours were interpolated."""
        self._reader = FaceReader(
            _choose_crop(self.config, self.method),
            with_crops=self.method.crop is not None,
            max_faces=self.config.max_faces,
            detector=detector,
        )
        self.faces: list[TrackedFace] = []
        """The faces of the last frame, for drawing."""
        self._looked_s: dict[int, float] = {}
        """Time at which each face was last found by ``look``."""
        self._measured: set[int] = set()
        self._open: dict[int, _Segment] = {}
        self._n_segments: dict[int, int] = {}
        self._last_t_s = -math.inf

    @property
    def box(self) -> Box:
        """The box that is read: ``tracked`` or ``first``."""
        return self._reader.crop.box

    @property
    def n_others(self) -> int:
        """Largest number of faces seen at a time besides the ``max_faces`` that are followed."""
        return self._reader.n_others

    def about_others(self) -> str:
        """Return the sentence on faces that were seen and not measured; "" without any."""
        if not self.n_others:
            return ""
        others = "another face was" if self.n_others == 1 else f"{self.n_others} other faces were"
        followed = "one face" if self.config.max_faces == 1 else f"{self.config.max_faces} faces"
        return f"Besides the {followed} that can be followed at a time, {others} seen and not measured."

    def push(self, frame: Frame, t_s: float, *, whole: bool = True, late: bool = False) -> list[Reading]:
        """Take one frame (H, W, 3), RGB, seen at ``t_s`` seconds, and return the readings that it completes, if any.

        ``whole`` is False for a frame that its file codes as a change of others (``VideoFrame.whole``). ``late`` is
        True where frames come faster than they are worked on: readings that end less than ``LATE_STRIDE_S`` after the
        last one are then left out and counted.

        Raises ValueError for a time that is no finite number or does not increase.
        """
        return self.read(self.look(frame, t_s, whole=whole), late=late)

    def look(self, frame: Frame, t_s: float, *, whole: bool = True) -> Look:
        """Read the faces in a frame: the first half of ``push``, which may run in a thread of its own.

        Each look goes to ``read`` once, in order.
        """
        if not math.isfinite(t_s) or t_s <= self._last_t_s:
            raise ValueError(f"t_s={t_s} must be a finite time in seconds, after the last frame's {self._last_t_s:g}.")
        rows = self._reader.push(frame, t_s, whole=whole)
        self._last_t_s = t_s
        portraits = {}
        self._looked_s = {face_id: seen_s for face_id, seen_s in self._looked_s.items() if t_s - seen_s <= BRIDGE_S}
        for row in rows:
            if row.found:
                if row.face_id not in self._looked_s:
                    portraits[row.face_id] = PORTRAIT.cut(frame, row.box_xywh)
                self._looked_s[row.face_id] = t_s
        # Looks wait in a queue: pictures of faces are not kept in it.
        faces = [replace(face, picture=None) for face in self._reader.faces]
        return Look(t_s, faces, rows, portraits)

    def read(self, look: Look, *, late: bool = False) -> list[Reading]:
        """Return the readings that a look completes, if any: the second half of ``push``."""
        self.n_frames += 1
        self.n_face += any(row.found for row in look.rows)
        self.faces = look.faces
        readings = self._close_stale(look.t_s)
        self.crops = look.portraits | self.crops
        for row in look.rows:
            segment = self._open.get(row.face_id)
            if segment is None:
                number = self._n_segments.get(row.face_id, 0)
                self._n_segments[row.face_id] = number + 1
                self._open[row.face_id] = segment = _Segment(number, look.t_s)
            if row.crop is not None:
                segment.waiting.append((row.t_s, row.crop))
                row = replace(row, crop=None)
            segment.rows.append(row)
            if row.found and self._set_clock(row.face_id, segment):
                self._show_crops(segment)
                readings += self._read_full_windows(row.face_id, segment, late)
        return readings

    def early(self) -> list[Reading]:
        """Return one reading of all there is of each face whose first window is not full yet.

        For who watches and would wait ``window_s`` for a first number. The same rules hold (``LEAST_S`` for a number,
        ``TRUSTED_S`` for a reliable one), nothing in the meter changes, and ``push`` and ``finish`` give what they
        would have given.
        """
        readings = []
        for face in self.faces:
            segment = self._open.get(face.id)
            if segment is None or segment.covered or segment.fps < LEAST_FPS or not segment.rows[-1].found:
                continue
            n_frames = segment.n_ready
            if n_frames / segment.fps >= LEAST_S and n_frames > segment.n_early:
                segment.n_early = n_frames
                readings.append(self._ask(face.id, segment, 0, n_frames))
        return readings

    @property
    def delay_s(self) -> float:
        """Longest time for which a reading waits after its last frame."""
        return max((one.stream.delay_s for one in self._open.values() if one.stream is not None), default=0.0)

    def followed_s(self, face_id: int) -> float:
        """Return for how many seconds a face has been followed without a gap over the bridge; 0 if it is not."""
        segment = self._open.get(face_id)
        return 0.0 if segment is None else segment.rows[-1].t_s - segment.origin_s

    def skin_rgb(self, face_id: int) -> Float | None:
        """Return the mean skin colour (3,), 0..255, of the last frame that showed a face; None if it is not followed.

        ``followed_s`` and this are for advice to who watches.
        """
        segment = self._open.get(face_id)
        return None if segment is None else next((row.rgb for row in reversed(segment.rows) if row.found), None)

    def finish(self) -> list[Reading]:
        """Return the readings of what is left when no more frames will come. The meter is spent afterwards."""
        return [reading for face_id in list(self._open) for reading in self._close(face_id)]

    def _set_clock(self, face_id: int, segment: _Segment) -> bool:
        """Set a segment's clock as soon as it can be; return whether it runs and is fast enough to measure."""
        rows = segment.rows
        if segment.fps == 0.0:
            if rows[-1].t_s - segment.origin_s < CLOCK_S * (1 - 0.5 / len(rows)):
                return False
            self._start_clock(segment)
        if segment.fps < LEAST_FPS:
            self._restart_when_faster(face_id, segment)
        return segment.fps >= LEAST_FPS

    def _start_clock(self, segment: _Segment) -> None:
        segment.fps = _mean_fps(segment.rows)
        if segment.fps >= LEAST_FPS and self.method.stream is not None:
            segment.stream = self.method.stream(segment.fps)

    def _show_crops(self, segment: _Segment) -> None:
        """Give each frame of the clock up to the last row the nearest crop.

        Pictures are not blended, as in training's cache.
        """
        if self.method.crop is None:
            return
        waiting, size_px = segment.waiting, self.method.crop.size_px
        while waiting and segment.n_shown < segment.n_frames:
            at_s = segment.origin_s + segment.n_shown / segment.fps
            while len(waiting) > 1 and waiting[1][0] - at_s < at_s - waiting[0][0]:
                waiting.popleft()
            stored = waiting[0][1]
            # MVDR is the witness of every net, and sees the same whatever size the net wants.
            seen = shrink(stored, FORMULA_CROP.size_px)
            segment.cells.append(cells_of(seen[None], CELLS)[:, 0])
            crop = seen if size_px == FORMULA_CROP.size_px else shrink(stored, size_px)
            segment.n_shown += 1
            if segment.stream is None:
                segment.crops.append(crop)
            else:
                segment.stream.push(crop)

    def _read_full_windows(self, face_id: int, segment: _Segment, late: bool = False) -> list[Reading]:
        readings = []
        length, hop = round(self.config.window_s * segment.fps), max(1, round(self.config.stride_s * segment.fps))
        while segment.next_frame + length <= segment.n_ready:
            end = segment.next_frame + length
            if late and segment.covered and end < segment.covered + LATE_STRIDE_S * segment.fps:
                self.n_skipped += 1
            else:
                readings.append(self._read_window(face_id, segment, segment.next_frame, length))
                segment.covered = end
            segment.next_frame += hop
            # The last window may reach back to the frame after this one's first.
            keep = segment.next_frame - hop - 1
            while len(segment.rows) > 2 and segment.rows[1].t_s <= segment.origin_s + keep / segment.fps:
                self.n_filled += not segment.rows[0].found
                del segment.rows[0]
            segment.forget(keep)
        return readings

    def _restart_when_faster(self, face_id: int, segment: _Segment) -> None:
        """Begin a segment with too few frames per second anew, with its last ``RESTART_S``, once they come faster.

        A camera may get more light, a computer may have time again.
        """
        rows = segment.rows
        while len(rows) > 2 and rows[1].t_s <= rows[-1].t_s - RESTART_S:
            del rows[0]
        widest_s = max((after.t_s - row.t_s for row, after in pairwise(rows)), default=RESTART_S)
        if rows[-1].t_s - rows[0].t_s >= RESTART_S and _mean_fps(rows) >= RESTART_FPS and widest_s <= 1 / LEAST_FPS:
            self.too_short.append(TooShort(face_id, segment.origin_s, rows[0].t_s, _too_slow(segment.fps)))
            segment.origin_s, segment.fps = rows[0].t_s, 0.0
        while segment.waiting and segment.waiting[0][0] < rows[0].t_s:
            segment.waiting.popleft()

    def _close_stale(self, now_s: float) -> list[Reading]:
        """End the segments of faces that have not been seen for longer than the bridge."""
        readings: list[Reading] = []
        for face_id, segment in list(self._open.items()):
            last_seen_s = next(row.t_s for row in reversed(segment.rows) if row.found)
            if now_s - last_seen_s > BRIDGE_S:
                readings += self._close(face_id)
        return readings

    def _close(self, face_id: int) -> list[Reading]:
        """Forget a segment, after reading what its last stride left over."""
        segment = self._open.pop(face_id)
        readings = self._read_rest(face_id, segment)
        self.n_filled += sum(not row.found for row in segment.rows)
        if face_id not in self._measured:
            # A film shows thousands of faces for a second each: no picture is kept of what was not measured.
            self.crops.pop(face_id, None)
        return readings

    def _read_rest(self, face_id: int, segment: _Segment) -> list[Reading]:
        """Read the frames after the last full window, or note why they cannot be read."""
        while not segment.rows[-1].found:
            segment.rows.pop()
        first_s, last_s = segment.origin_s, segment.rows[-1].t_s

        def too_short(why: str) -> list[Reading]:
            self.too_short.append(TooShort(face_id, first_s, last_s, why))
            return []

        if segment.fps == 0.0:
            if len(segment.rows) < 2:
                return too_short("seen in one frame only")
            self._start_clock(segment)
        if segment.fps < LEAST_FPS:
            return too_short(_too_slow(segment.fps))
        n_frames = segment.n_frames
        if segment.covered == 0 and n_frames / segment.fps < LEAST_S:
            return too_short(f"{n_frames / segment.fps:.1f} s of face; at least {LEAST_S:g} s are needed")
        self._show_crops(segment)
        if segment.stream is not None:
            segment.stream.end()
        readings = self._read_full_windows(face_id, segment)
        if segment.covered == 0:
            return [self._read_window(face_id, segment, 0, n_frames)]
        # A tenth of a second more than the last window saw is not worth a reading of its own.
        if n_frames - segment.covered >= max(2, 0.1 * segment.fps):
            length = round(self.config.window_s * segment.fps)
            readings.append(self._read_window(face_id, segment, n_frames - length, length))
        return readings

    def _read_window(self, face_id: int, segment: _Segment, first: int, length: int) -> Reading:
        self._measured.add(face_id)
        return self._ask(face_id, segment, first, length)

    def _ask(self, face_id: int, segment: _Segment, first: int, length: int) -> Reading:
        clip = _face_clip(segment, first, length)
        return Reading(
            face_id=face_id,
            segment=segment.number,
            start_s=clip.start_s,
            end_s=clip.start_s + length / clip.fps,
            estimate=self.method(clip),
            found_share=float(clip.found.mean()),
        )


def _choose_crop(config: MeterConfig, method: Method) -> CropConfig:
    """Return the crop that a method reads; for one that reads colours only, the box that the config asks for."""
    if method.crop is None:
        return PAPER_CROP if config.box == "first" else CropConfig()
    if config.box not in (None, method.crop.box):
        if not method.is_net:
            raise AutoHRError(f"{method.name} reads box={method.crop.box!r}, not {config.box!r}. Leave the box out.")
        raise BadWeights(
            f"box={config.box!r} does not fit {method.name}: its weights were trained with box={method.crop.box!r}. "
            "Leave the box out, or use other weights."
        )
    return method.crop.stored


def _too_slow(fps: float) -> str:
    return f"{fps:.1f} frames per second; at least {LEAST_FPS:.1f} are needed"


def _mean_fps(rows: list[FaceRow]) -> float:
    return (len(rows) - 1) / (rows[-1].t_s - rows[0].t_s)


def _face_clip(segment: _Segment, first: int, length: int) -> FaceClip:
    """Return ``length`` frames of a segment's clock from frame ``first``."""
    columns = {one.name: np.stack([getattr(row, one.name) for row in segment.rows]) for one in fields(FaceRows)}
    clip = on_clock(FaceRows(**columns), segment.fps, segment.origin_s + first / segment.fps, length)
    kept = slice(first - segment.first_kept, first - segment.first_kept + length)
    return replace(
        clip,
        cells=np.stack(segment.cells[kept], axis=1) if segment.cells else None,
        clip=np.stack(segment.crops[kept]) if segment.crops else None,
        net_wave=None if segment.stream is None else segment.stream.wave(first, length),
    )
