"""The one engine behind files, cameras and the web page: frames with their times in, readings out.

    meter = Meter("pos")
    for frame, t_s in frames:
        for reading in meter.push(frame, t_s):
            print(reading.end_s, reading.estimate.hr_bpm)
    last = meter.finish()

A meter follows faces, reads their colours, and every ``stride_s`` puts the last ``window_s`` on a uniform clock and
asks the method. It holds one window of colours for each followed face and nothing else, so its memory does not grow
with the video, and the same frames give the same numbers whether they come from a file or live.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from autohr.confidence.verdict import LEAST_FPS, LEAST_S
from autohr.errors import AutoHRError, BadWeights
from autohr.methods import Method, load_method
from autohr.signals.clock import FaceRows, nearest, on_clock
from autohr.types import FaceClip, Float, Frame, Reading
from autohr.video.faces import Detects, FaceTracker, TrackedFace
from autohr.video.rois import UNSEEN, Colours, SkinReader, background_colour, face_patch, grown

BRIDGE_S = 1.0
"""Longest time for which a lost face, or missing frames, are filled by interpolation (DESIGN 2, rule 6)."""

PACE_S, PACE_FPS = 3.0, 1.5 * LEAST_FPS
"""A face whose first window had too few frames per second is tried again once they come this fast for so long, and none
of them alone: clearly faster than the least, so that a camera at the limit is not tried again and again."""

FIRST_BOX_MARGIN = 0.25
"""How much ``box="first"`` enlarges the detector's box on each side: to 1.5 of its width and height. The paper says
"enlarged" and no more; 1.5 is what other code of its field uses (rPPG-Toolbox), so this is a reconstruction."""

CROP_PX = 192
"""Side of the picture of each face that is kept for reports."""


@dataclass(frozen=True)
class MeterConfig:
    """How a meter measures."""

    window_s: float = 10.0
    """Length of one reading. Under 8 s no reading is called reliable; above 30 s the rate changes inside it."""
    stride_s: float = 1.0
    """Time from one reading to the next."""
    max_faces: int = 1
    """Faces followed at the same time; the largest first."""
    box: Literal["tracked", "first"] | None = None
    """``first``: the paper's box of the first frame, enlarged and never moved. Measured against the tracked one in
    docs/LOG.md. None: the one that the method's net was trained with; tracked for the others."""

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


@dataclass
class _Row:
    """One face in one frame."""

    t_s: float
    colours: Colours
    background_rgb: Float
    box_xywh: Float
    found: bool
    whole: bool
    crop: Frame | None


@dataclass
class _Segment:
    """A stretch of one face without a gap over the bridge. Window k of it covers frames k * hop .. k * hop + length."""

    number: int
    rows: list[_Row] = field(default_factory=list)
    origin_s: float = 0.0
    """Time of frame 0 of the uniform clock: the first row."""
    fps: float = 0.0
    """Of the uniform clock; settled when the first window is full, then kept so that windows share one clock."""
    next_frame: int = 0
    """First frame of the next window."""
    covered: int = 0
    """Frames up to which windows have been read."""


class Meter:
    """Turns frames into readings. One meter for one video; not to be shared between threads.

    Args:
        method: a name of ``METHODS``, a ``Method``, or None for the default (see ``load_method``).
        config: windows, faces and box.
        detector: finds faces; the shipped MTCNN if None.

    Raises:
        BadWeights: the config asks for another box than the method's net was trained with.
        AutoHRError: it asks for another box than a formula reads crops from.
    """

    def __init__(
        self,
        method: str | Method | None = None,
        config: MeterConfig | None = None,
        detector: Detects | None = None,
    ) -> None:
        self.method = load_method(method) if method is None or isinstance(method, str) else method
        self.config = config or MeterConfig()
        self.box = _choose_box(self.config, self.method)
        self.too_short: list[TooShort] = []
        self.crops: dict[int, Frame] = {}
        """One picture of each face, (CROP_PX, CROP_PX, 3)."""
        self.faces: list[TrackedFace] = []
        """The faces of the last frame, for drawing."""
        self.n_frames = 0
        self.n_face = 0
        self.n_filled = 0
        """Rows in which a face was not seen and its colours were interpolated."""
        self._tracker = FaceTracker(max_faces=self.config.max_faces, box=self.box, bridge_s=BRIDGE_S, detector=detector)
        self._readers: dict[int, SkinReader] = {}
        self._measured: set[int] = set()
        self._open: dict[int, _Segment] = {}
        self._segments_of: dict[int, int] = {}
        self._last_t_s = -math.inf

    def push(self, frame: Frame, t_s: float, *, whole: bool = True) -> list[Reading]:
        """Take one frame (H, W, 3), RGB, seen at ``t_s`` seconds. Readings whose window it completes, often none.

        ``whole`` is False for a frame that its file codes as a change of others (``VideoFrame.whole``).

        Raises:
            ValueError: a time that is no finite number or does not increase.
        """
        if not math.isfinite(t_s) or t_s <= self._last_t_s:
            raise ValueError(f"t_s={t_s} must be a finite time in seconds, after the last frame's {self._last_t_s:g}.")
        self.faces = self._tracker.update(frame, t_s)
        if self.box == "first":
            margin = FIRST_BOX_MARGIN if self.method.crop is None else self.method.crop.margin
            self.faces = [replace(face, box_xywh=grown(face.box_xywh, margin, frame)) for face in self.faces]
        self._last_t_s = t_s
        self.n_frames += 1
        self.n_face += any(face.seen for face in self.faces)
        readings = self._close_stale(t_s)
        if not self.faces:
            return readings
        background = background_colour(frame, [face.box_xywh for face in self.faces])
        for face in self.faces:
            segment = self._open.get(face.id)
            if segment is None:
                if not face.seen:
                    continue
                segment = self._start_segment(face.id, t_s)
            segment.rows.append(self._read(frame, t_s, face, background, whole))
            if face.seen:
                readings += self._read_full_windows(face.id, segment)
        return readings

    def early(self) -> list[Reading]:
        """What can be said already of faces whose first window is not full: one reading of all there is of each.

        For who watches and would wait ``window_s`` for a first number. The same rules hold (``LEAST_S`` for a number,
        ``TRUSTED_S`` for a reliable one), nothing in the meter changes, and ``push`` and ``finish`` give what they
        would have given. Costs about as much as a reading.
        """
        readings = []
        for face in self.faces:
            segment = self._open.get(face.id)
            if segment is None or segment.fps != 0.0 or not segment.rows[-1].found or len(segment.rows) < 2:
                continue
            fps = _mean_fps(segment.rows)
            n_frames = round((segment.rows[-1].t_s - segment.origin_s) * fps) + 1
            if fps >= LEAST_FPS and n_frames / fps >= LEAST_S:
                readings.append(self._ask(face.id, segment, fps, 0, n_frames))
        return readings

    def followed_s(self, face_id: int) -> float:
        """For how many seconds this face has been followed without a gap over the bridge; 0 if it is not."""
        segment = self._open.get(face_id)
        return 0.0 if segment is None else segment.rows[-1].t_s - segment.origin_s

    def skin_rgb(self, face_id: int) -> Float | None:
        """Mean colour (3,) of this face's skin, 0..255, in the last frame that showed it; None if it is not followed.

        ``followed_s`` and this are for advice to who watches.
        """
        segment = self._open.get(face_id)
        if segment is None:
            return None
        return next((row.colours.rgb for row in reversed(segment.rows) if row.found), None)

    def finish(self) -> list[Reading]:
        """The readings of what is left when no more frames will come. The meter is spent afterwards."""
        readings: list[Reading] = []
        for face_id in list(self._open):
            readings += self._close(face_id)
        return readings

    def _start_segment(self, face_id: int, t_s: float) -> _Segment:
        number = self._segments_of.get(face_id, -1) + 1
        self._segments_of[face_id] = number
        # A new reader too: the skin mask of before the gap belongs to another light and another pose.
        self._readers[face_id] = SkinReader()
        self._open[face_id] = segment = _Segment(number=number, origin_s=t_s)
        return segment

    def _read(self, frame: Frame, t_s: float, face: TrackedFace, background: Float, whole: bool) -> _Row:
        crop = None
        # A box that never moves shows something in every frame; a followed one is a guess where no face is seen.
        if self.method.crop is not None and (face.seen or self.box == "first"):
            crop = self.method.crop.cut(frame, face.box_xywh)
        if not face.seen:
            return _Row(t_s, UNSEEN, background, face.box_xywh, False, whole, crop)
        colours = self._readers[face.id].read(frame, face.box_xywh, face.landmarks, t_s)
        if face.id not in self.crops:
            self.crops[face.id] = np.rint(face_patch(frame, face.box_xywh, CROP_PX, margin=0.25)).astype(np.uint8)
        return _Row(t_s, colours, background, face.box_xywh, True, whole, crop)

    def _read_full_windows(self, face_id: int, segment: _Segment) -> list[Reading]:
        last_s = segment.rows[-1].t_s
        if segment.fps == 0.0:
            if last_s - segment.origin_s < self.config.window_s * (1 - 0.5 / len(segment.rows)):
                return []
            segment.fps = _mean_fps(segment.rows)
        if segment.fps < LEAST_FPS:
            self._wait_for_pace(face_id, segment)
            return []
        readings = []
        length, hop = round(self.config.window_s * segment.fps), max(1, round(self.config.stride_s * segment.fps))
        # Half a frame of slack: with 29.97 frames per second the 300th frame is 3 ms early.
        while last_s >= segment.origin_s + (segment.next_frame + length - 1.5) / segment.fps:
            readings.append(self._read_window(face_id, segment, segment.next_frame, length))
            segment.covered = segment.next_frame + length
            segment.next_frame += hop
            # The last window may reach back to the frame after this one's first.
            keep_s = segment.origin_s + (segment.next_frame - hop - 1) / segment.fps
            while len(segment.rows) > 2 and segment.rows[1].t_s <= keep_s:
                self.n_filled += not segment.rows[0].found
                del segment.rows[0]
        return readings

    def _wait_for_pace(self, face_id: int, segment: _Segment) -> None:
        """Of a segment with too few frames per second nothing can be read, until they come faster: a camera that got
        more light, a computer that has time again. It then begins anew with the last ``PACE_S``."""
        rows = segment.rows
        while len(rows) > 2 and rows[1].t_s <= rows[-1].t_s - PACE_S:
            del rows[0]
        widest_s = max((after.t_s - row.t_s for row, after in pairwise(rows)), default=PACE_S)
        if rows[-1].t_s - rows[0].t_s >= PACE_S and _mean_fps(rows) >= PACE_FPS and widest_s <= 1 / LEAST_FPS:
            self.too_short.append(TooShort(face_id, segment.origin_s, rows[0].t_s, _too_slow(segment.fps)))
            segment.origin_s, segment.fps = rows[0].t_s, 0.0

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
        del self._readers[face_id]
        readings = self._read_rest(face_id, segment)
        if face_id not in self._measured:
            # A film shows thousands of faces for a second each: no picture is kept of what was not measured.
            self.crops.pop(face_id, None)
        return readings

    def _read_rest(self, face_id: int, segment: _Segment) -> list[Reading]:
        """What the last full window left over, or all of a segment that never filled one, or why not."""
        while not segment.rows[-1].found:
            segment.rows.pop()
        self.n_filled += sum(not row.found for row in segment.rows)
        first_s, last_s = segment.origin_s, segment.rows[-1].t_s
        if segment.fps == 0.0:
            if len(segment.rows) < 2:
                self.too_short.append(TooShort(face_id, first_s, last_s, "seen in one frame only"))
                return []
            segment.fps = _mean_fps(segment.rows)
        if segment.fps < LEAST_FPS:
            self.too_short.append(TooShort(face_id, first_s, last_s, _too_slow(segment.fps)))
            return []
        n_frames = round((last_s - first_s) * segment.fps) + 1
        if segment.covered == 0:
            if n_frames / segment.fps < LEAST_S:
                why = f"{n_frames / segment.fps:.1f} s of face; at least {LEAST_S:g} s are needed"
                self.too_short.append(TooShort(face_id, first_s, last_s, why))
                return []
            return [self._read_window(face_id, segment, 0, n_frames)]
        # A tenth of a second more than the last window saw is not worth a reading of its own.
        if n_frames - segment.covered < max(2, 0.1 * segment.fps):
            return []
        length = round(self.config.window_s * segment.fps)
        return [self._read_window(face_id, segment, n_frames - length, length)]

    def _read_window(self, face_id: int, segment: _Segment, first: int, length: int) -> Reading:
        self._measured.add(face_id)
        return self._ask(face_id, segment, segment.fps, first, length)

    def _ask(self, face_id: int, segment: _Segment, fps: float, first: int, length: int) -> Reading:
        clip = _on_clock(segment.rows, fps, segment.origin_s + first / fps, length)
        return Reading(
            face_id=face_id,
            segment=segment.number,
            start_s=clip.start_s,
            end_s=clip.start_s + length / fps,
            estimate=self.method(clip),
            found_share=float(clip.found.mean()),
        )


def _choose_box(config: MeterConfig, method: Method) -> Literal["tracked", "first"]:
    if method.crop is None:
        return config.box or "tracked"
    if config.box not in (None, method.crop.box):
        if not method.is_net:
            raise AutoHRError(f"{method.name} reads box={method.crop.box!r}, not {config.box!r}. Leave the box out.")
        raise BadWeights(
            f"box={config.box!r} does not fit {method.name}: its weights were trained with box={method.crop.box!r}. "
            "Leave the box out, or use other weights."
        )
    return method.crop.box


def _too_slow(fps: float) -> str:
    return f"{fps:.1f} frames per second; at least {LEAST_FPS:.1f} are needed"


def _mean_fps(rows: list[_Row]) -> float:
    return (len(rows) - 1) / (rows[-1].t_s - rows[0].t_s)


def _on_clock(rows: list[_Row], fps: float, start_s: float, length: int) -> FaceClip:
    """The rows on a clock of ``fps`` from ``start_s``, with the crops if the method wants any."""
    read = FaceRows(
        t_s=np.array([row.t_s for row in rows]),
        rgb=np.stack([row.colours.rgb for row in rows]),
        traces=np.stack([row.colours.traces for row in rows]),
        background_rgb=np.stack([row.background_rgb for row in rows]),
        box_xywh=np.stack([row.box_xywh for row in rows]),
        found=np.array([row.found for row in rows]),
        whole=np.array([row.whole for row in rows]),
    )
    clip = on_clock(read, fps, start_s, length)
    crops = [(row.t_s, row.crop) for row in rows if row.crop is not None]
    if not crops:
        return clip
    # Pictures are not blended: each moment of the clock shows the nearest crop, as in training's cache.
    shown = nearest(np.array([t_s for t_s, _ in crops]), start_s + np.arange(length) / fps)
    return replace(clip, clip=np.stack([crops[k][1] for k in shown]))
