"""Follow faces through a video: detection now and then, optical flow in between.

    frame (H, W, 3) uint8 RGB, t_s  ->  FaceTracker.update  ->  one TrackedFace for each followed face

The boxes are steady enough to average skin colour in. A pulse changes the colour of skin by less than one part in a
hundred, so a box that steps at each detection, once a second, writes a false 60 bpm into the trace. Hence the box moves
with the face by optical flow, detections only pull it slowly and without a step, and the result is low-passed in
time. All times are seconds of the video, never frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.types import Float, Frame
from autohr.video.detector import Detection, Detects, DetectsNear, FaceDetector, check_frame
from autohr.video.regions import PATCH_PX, FacePicture, Place, Thinned, n_halvings, place_around, thinned

Grey = NDArray[np.uint8]

RETRY_EVERY_S = 0.2
"""Time between detections while a face is missing or doubted; chosen by us to cost a tenth of a core."""
MAX_PATIENCE = 4
"""Largest time between two detections of a face that keeps still, and between two searches of the whole frame while one
face is followed well, as a multiple of ``detect_every_s``. A larger face that walks in is found within it."""
STEADY_AFTER = 4
"""Detections after which the mean box is good enough for fewer of them: half the scatter of one."""
STILL = np.array([0.08, 0.08, 0.03, 0.03, 0.06])
"""Largest motion since the last detection of a face that keeps still: place in face sizes, log width, log height, roll
in radians. A seated person who watches moves by 0.01 to 0.05 in a second, one who talks by 0.1 to 0.5."""
STILL_CORRELATION = 0.9
"""Lowest correlation of that face with its appearance at the last detection. On faces that keep still it stays above
0.93, on talking and turning heads it falls to 0.5 to 0.9."""
AGREEMENT = 0.06
"""Largest disagreement of a detection with the followed box and landmarks, in face sizes, that is scatter: 19 of 20
detections of faces that keep still."""
MEMORY_S = 30.0
"""Time for which a lost face is remembered: one that returns within it, near its last place, gets its old id."""
START_SCORE = 0.99
"""Detection score with which a new face is followed at once. On the 80 portraits most true faces score above it."""
CONFIRM_SCORE = 0.9
"""Detection score with which a new face is followed when found a second time. The two people in a dim video score 0.9
to 1, false boxes on the portraits 0.84 to 0.94."""
REPLACE_RATIO = 1.5
"""With all places taken, ratio of widths from which a new face takes the place of the smallest followed one. With less,
two people of like size would take turns."""

FACE_PX = 80
"""Size of a face in the grey picture in which it is followed, if it is smaller than two thirds of that in the frame.
Larger ones are 53 to 134 pixels there (``n_halvings``)."""
MARGIN = 0.35
"""Surroundings kept in that picture, in face sizes on each side: how far a face may move between two frames."""
SLOW_PX = 1.5
"""Motion from frame to frame, in pixels of that picture, below which the flow needs no pyramid: half a face a second at
30 frames per second."""
MIN_CORRELATION = 0.6
"""Lowest correlation of a followed face with its appearance at the last detection; below it the detector runs at once.
Speaking and turning to half profile stay above, a hand or a wall in the face's place does not."""

MIN_GAIN = np.array([0.1] * 4 + [0.25] * 10)
"""Share of a detection's disagreement that moves the box (4) and the landmarks (10). MTCNN boxes on one still face
scatter by 1 to 2 % of its size, so the mean of about ten is steady. Landmarks must also follow a turning head."""
SLIP_LIMIT = np.array([0.2] * 4 + [0.1] * 10)
"""Disagreement in face sizes beyond the detector's scatter: the flow has slipped, or the head has turned."""
PULL_TIME_S = 0.7
"""Time constant of the pull towards a detection, critically damped: neither place nor speed of the box ever steps."""
REST_HZ, PER_SPEED = np.array([1.5, 1.5, 0.5, 0.5, 1.0]), 10.0
"""One Euro filter (Casiez, Roussel, Vogel, CHI 2012): cutoffs of x, y, width, height and roll at rest in Hz, and their
increase per face size (or radian) per second. In steady motion the lag is at most 1 / (2 pi PER_SPEED) face sizes."""

SCENE_PX = (48, 36)
CUT_CORRELATION = 0.5
"""Correlation of two successive pictures (``scene_correlation``) below which they are two scenes. Of 3160 pairs of
portraits 99 % are below 0.46. The same picture under other light is above 0.79, a pan by 15 % of the width above 0.76,
real videos four frames apart above 0.56."""
MIN_USUAL_CORRELATION = 0.7
"""No cut is called while successive pictures usually correlate less than this: they show noise, as in the dark. Videos
in light are usually above 0.95, one dimmed to 12 % under noise of 8 levels at 0.75 to 0.9."""
MIN_SCENE_CONTRAST = 0.03
"""Contrast (about 3 % of brightness) below which a picture shows nothing to compare: darkness, a covered lens."""


@dataclass(frozen=True)
class TrackedFace:
    """One followed face in one frame, in pixels of the frame."""

    id: int
    box_xywh: Float
    """(4,) left, top, width, height, smooth in time; may reach over the border of the frame."""
    landmarks: Float
    """(5, 2) as in Detection, smooth in time."""
    seen: bool
    """False for a face that was lost just now; the box is where it was last seen."""
    picture: FacePicture | None = None
    """Its surroundings in the frame, as they were followed, if they were."""


class _Track:
    """State of one face. A pose (5,) is x, y of the centre, log width, log height, roll in radians; y points down."""

    def __init__(self, face_id: int, face: Detection, t_s: float) -> None:
        self.id = face_id
        self.first_box = np.array(face.box_xywh, dtype=np.float64)
        self.view: _View | None = None
        self.appearance: NDArray[np.float32] | None = None
        self.place(face, t_s)

    def place(self, face: Detection, t_s: float) -> None:
        """Put the track on a detection, with no memory of where it was; its id and first box stay."""
        self.pose = box_pose(face.box_xywh)
        """(5,) moved by optical flow alone since the last detection that placed it."""
        self.pull = np.concatenate([np.zeros(4), landmark_shape(face, 0.0)])
        """(14,) correction by detections: dx, dy in face sizes, log width, log height, then the landmarks (5, 2) in
        face sizes around the centre, unrolled."""
        self.pull_speed = np.zeros(14)
        self.pull_goal = self.pull.copy()
        self.raw, self.smooth = self.pose.copy(), self.pose.copy()
        """(5,) pose plus pull, before and after the low-pass."""
        self.speed = np.zeros(5)
        self.t_seen = t_s
        self.seen, self.suspicious, self.n_confirmed = True, False, 1
        self.detected_pose = self.pose.copy()
        """(5,) ``pose`` at the last detection."""
        self.least_alike = 1.0
        """Least correlation with its appearance at the last detection since then."""
        self.agreed = False
        """True if the last detection disagreed by no more than scatter."""
        self.missed_since_s: float | None = None
        """Time of the first detection that did not find it again."""

    @property
    def size(self) -> float:
        """Root of the box's area, in pixels."""
        return pose_size(self.smooth)

    @property
    def box_xywh(self) -> Float:
        """Smooth box (4,)."""
        width, height = np.exp(self.smooth[2:4])
        return np.array([self.smooth[0] - width / 2, self.smooth[1] - height / 2, width, height])

    @property
    def landmarks(self) -> Float:
        """Smooth landmarks (5, 2)."""
        return self.smooth[:2] + self.size * rolled(self.pull[4:].reshape(5, 2), self.smooth[4])

    @property
    def is_still(self) -> bool:
        """True if the face has hardly moved or changed since the last detection."""
        moved = np.abs(self.pose - self.detected_pose)
        moved[:2] /= self.size
        return self.least_alike >= STILL_CORRELATION and bool((moved <= STILL).all())

    def raw_pose(self) -> Float:
        """Return the pose (5,) by flow and detections together, before the low-pass."""
        pose = self.pose.copy()
        pose[:2] += self.pull[:2] * pose_size(pose)
        pose[2:4] += self.pull[2:4]
        return pose

    def pose_in_view(self, view: _View) -> tuple[Float, Float, float]:
        """Return centre (2,), sides (2,) and roll of the face in pixels of its view."""
        pose = self.raw_pose()
        return (pose[:2] - view.corner) * view.scale, np.exp(pose[2:4]) * view.scale, float(pose[4])


@dataclass
class _View:
    """The reduced grey surroundings of a face in the last frame, and the points followed in it."""

    place: Place
    scale: float
    """Pixels of the view per pixel of the frame."""
    size: float
    """Size of the face when the view was made, in pixels of the frame."""
    centre: Float
    picture: FacePicture
    """The view in the last frame, and below in grey."""
    grey: Grey
    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 1, 2), np.float32))
    n_seeded: int = 0
    is_slow: bool = False
    """True if the points moved by less than ``SLOW_PX`` to the last frame."""

    @property
    def corner(self) -> Float:
        """Left and top (2,) in the frame."""
        return np.array([self.place.left, self.place.top], dtype=np.float64)


class FaceTracker:
    """Follow faces through a video, frame by frame.

    - Faces are detected every ``detect_every_s`` (of video time) and followed by optical flow in between; detections
      pull the box back to the face slowly, without a step.
    - With ``max_faces`` 1, a face that keeps still is detected more rarely, and one that is followed well is searched
      in its surroundings; the whole frame is searched every ``MAX_PATIENCE`` times ``detect_every_s``, and at once
      where the face is not found. With more, a newcomer is found within ``detect_every_s``.
    - A face that is lost is reported with ``seen=False`` at its last place for ``bridge_s``, then no more. A face that
      the flow still follows but the detector no longer finds is reported as seen for at most ``bridge_s`` after the
      first detection that missed it, and only while it looks as it did; then it is dropped at once.
    - A face that returns within 30 s near its last place keeps its id. After a scene cut every id is new.
    - At most ``max_faces`` are followed, the largest first. A place once taken is kept, unless a new face is wider by
      half: ids must not alternate between people of like size.

    Limits: a dissolve between two scenes is not seen as a cut, and a second person who sits down in the same place
    within 30 s inherits the id.

    Parameters
    ----------
    max_faces
        Largest number of faces followed at a time.
    box
        "tracked", or "first": the box of the face's first detection in all its frames, as in the AutoHR paper.
    detect_every_s
        Time between detections while every face is followed well.
    bridge_s
        Time for which a lost face is held.
    detector
        An object with ``detect(frame)``; None makes a FaceDetector at the first frame.
    """

    def __init__(
        self,
        *,
        max_faces: int = 1,
        box: Literal["tracked", "first"] = "tracked",
        detect_every_s: float = 1.0,
        bridge_s: float = 1.0,
        detector: Detects | None = None,
    ) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces={max_faces} must be at least 1.")
        if box not in ("tracked", "first"):
            raise ValueError(f"box={box!r} must be 'tracked' or 'first'.")
        if not detect_every_s > 0:
            raise ValueError(f"detect_every_s={detect_every_s:g} must be above 0 seconds.")
        if not bridge_s >= 0:
            raise ValueError(f"bridge_s={bridge_s:g} must be 0 seconds or more.")
        self.max_faces = max_faces
        self.box = box
        self.detect_every_s = detect_every_s
        self.bridge_s = bridge_s
        self.n_cuts = 0
        self.n_others = 0
        """Largest number of faces that one search found besides the followed ones, with all places taken; a number that
        was found twice, since a single box may be no face."""
        self._others_before = 0
        self._detector = detector
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._candidates: list[tuple[float, Detection]] = []
        self._next_id = 0
        self._t_s: float | None = None
        self._t_detected: float | None = None
        self._t_searched: float | None = None
        """Time of the last search of the whole frame."""
        self._patience = 1
        """Time between detections now, in ``detect_every_s``."""
        self.thin: Thinned | None = None
        """Every few pixels of the last frame, by which scenes are compared."""
        self._frame_shape: tuple[int, ...] | None = None
        self._scene: NDArray[np.float32] | None = None
        self._usual_correlation: float | None = None

    def update(self, frame: Frame, t_s: float) -> list[TrackedFace]:
        """Return the followed faces in frame (H, W, 3) uint8 RGB, taken at t_s seconds, in order of their ids.

        Raises
        ------
        ValueError
            The frame is of another kind, or t_s is not finite or before the last one.
        """
        check_frame(frame)
        frame = np.ascontiguousarray(frame)
        if not math.isfinite(t_s):
            raise ValueError(f"t_s={t_s} must be a finite time in seconds.")
        if self._t_s is not None and t_s < self._t_s:
            raise ValueError(f"t_s={t_s:g} s is before the last frame's {self._t_s:g} s; give frames in order of time.")
        dt_s = 0.0 if self._t_s is None else t_s - self._t_s
        self._t_s = t_s

        if self._is_cut(frame):
            self.n_cuts += 1
            self._tracks, self._lost, self._candidates = [], [], []
            self._t_detected = None

        for track in self._tracks:
            track.seen = track.seen and dt_s <= self.bridge_s and self._follow(track, frame)
        self._drop_lost(t_s)
        if self._is_detection_due(t_s):
            self._t_detected = t_s
            self._detect(frame, t_s)
            self._drop_lost(t_s)
        for track in self._tracks:
            if track.seen:
                track.t_seen = t_s
                smooth_pose(track, dt_s)
        self._lost = [track for track in self._lost if t_s - track.t_seen <= MEMORY_S]
        return [
            TrackedFace(
                id=track.id,
                box_xywh=(track.first_box if self.box == "first" else track.box_xywh).copy(),
                landmarks=track.landmarks,
                seen=track.seen,
                picture=track.view.picture if track.seen and track.view is not None else None,
            )
            for track in sorted(self._tracks, key=lambda track: track.id)
        ]

    def _is_cut(self, frame: Frame) -> bool:
        self.thin = thinned(frame)
        shape, scene = frame.shape, scene_sketch(self.thin.pixels)
        same_shape = self._frame_shape in (None, shape)
        self._frame_shape = shape
        if not same_shape:
            self._scene = scene
            return True
        if scene is None:
            return False
        last, self._scene = self._scene, scene
        if last is None:
            return False
        alike = scene_correlation(last, scene)
        usual = self._usual_correlation
        if usual is not None and alike < CUT_CORRELATION and usual > MIN_USUAL_CORRELATION:
            return True
        self._usual_correlation = alike if usual is None else usual + 0.1 * (alike - usual)
        return False

    def _is_calm(self) -> bool:
        """Return True while faces are followed and none is missed or doubted, nor a new one waiting to be confirmed."""
        return (
            bool(self._tracks)
            and not self._candidates
            and all(track.seen and track.missed_since_s is None and not track.suspicious for track in self._tracks)
        )

    def _is_detection_due(self, t_s: float) -> bool:
        if self._t_detected is None:
            return True
        if not self._is_calm():
            self._patience = 1
            wait_s = min(RETRY_EVERY_S, self.detect_every_s)
        else:
            if self._patience > 1 and not self._tracks[0].is_still:
                self._patience = 1
            wait_s = self._patience * self.detect_every_s
        return t_s - self._t_detected >= wait_s - 1e-6

    def _drop_lost(self, t_s: float) -> None:
        """Stop following the faces that were lost, or missed by the detector, for longer than the bridge."""
        kept = []
        for track in self._tracks:
            missed = track.missed_since_s is not None and t_s - track.missed_since_s > self.bridge_s + 1e-6
            if missed or (not track.seen and t_s - track.t_seen > self.bridge_s + 1e-6):
                self._lose(track)
            else:
                kept.append(track)
        self._tracks = kept

    def _lose(self, track: _Track) -> None:
        track.seen, track.view = False, None
        self._lost.append(track)

    def _follow(self, track: _Track, frame: Frame) -> bool:
        """Move a track's pose by optical flow from the last frame to this one; return False if the face was lost."""
        view = track.view
        if view is None or len(view.points) == 0:
            return False
        view.picture = FacePicture(frame, view.place)
        grey = grey_picture(view.picture, view.scale)
        moved = follow_points(view.grey, grey, view.points, is_slow=view.is_slow)
        if moved is None:
            return False
        turn, shift, points, view.is_slow = moved
        view.grey, view.points = grey, points

        centre = turn * complex(*((track.pose[:2] - view.corner) * view.scale)) + shift
        track.pose[:2] = np.array([centre.real, centre.imag]) / view.scale + view.corner
        track.pose[2:4] += math.log(abs(turn))
        track.pose[4] += math.atan2(turn.imag, turn.real)

        pose = track.raw_pose()
        if not (0 <= pose[0] < frame.shape[1] and 0 <= pose[1] < frame.shape[0]):
            return False
        moved_far = max(abs(pose[0] - view.centre[0]), abs(pose[1] - view.centre[1])) > 0.12 * view.size
        if moved_far or not 0.88 < pose_size(pose) / view.size < 1.14:
            make_view(track, frame, keep_points=True)
        assert track.view is not None
        if len(track.view.points) < track.view.n_seeded // 2:
            seed_points(track, track.view)
        if track.appearance is not None:
            alike = correlation(track.appearance, appearance(track, track.view))
            track.least_alike = min(track.least_alike, alike)
            track.suspicious = alike < MIN_CORRELATION
        # Missed by the detector and no longer like itself: this is something else in the face's place.
        return not (track.suspicious and track.missed_since_s is not None)

    def _detect(self, frame: Frame, t_s: float) -> None:
        found, pairs = self._search(frame, t_s)
        was_still = all(track.is_still for track in self._tracks)
        for track in self._tracks:
            if track.id in pairs:
                self._confirm(track, found[pairs[track.id]], frame, t_s)
            elif track.missed_since_s is None:
                track.missed_since_s = t_s
        paired = [track for track in self._tracks if track.id in pairs]
        for track in self._tracks:
            # Two tracks on one face: the one that the detector did not give it has slid over from another face.
            if track.id not in pairs and any(overlap(track.box_xywh, other.box_xywh) > 0.5 for other in paired):
                track.seen = False

        waiting, self._candidates = self._candidates, []
        for i, face in enumerate(found):
            if i in pairs.values() or any(overlap(face.box_xywh, track.box_xywh) > 0.3 for track in paired):
                continue
            again = face.score >= CONFIRM_SCORE and any(
                t_s - t_then <= 3 * RETRY_EVERY_S and distance(face.box_xywh, then.box_xywh) < 0.7
                for t_then, then in waiting
            )
            if (again or face.score >= START_SCORE) and self._has_place(face, again):
                self._start(face, frame, t_s)
            else:
                self._candidates.append((t_s, face))
        # A face that is missed where it was, and found elsewhere, is no other one.
        is_whole = self._t_searched == t_s and all(track.missed_since_s is None for track in self._tracks)
        if is_whole and len(self._tracks) >= self.max_faces:
            n_others = sum(face.score >= START_SCORE for _, face in self._candidates)
            self.n_others = max(self.n_others, min(n_others, self._others_before))
            self._others_before = n_others
        if len(self._tracks) >= self.max_faces and not any(self._is_larger(face) for _, face in self._candidates):
            self._candidates = []

        if self.max_faces == 1:
            steady = [track.n_confirmed >= STEADY_AFTER and track.agreed and was_still for track in paired]
            self._patience = min(2 * self._patience, MAX_PATIENCE) if any(steady) else 1

    def _search(self, frame: Frame, t_s: float) -> tuple[list[Detection], dict[int, int]]:
        """Return the faces found, and which of them is which track's (``match``).

        A single face that is followed well is first searched in its surroundings.
        """
        if self._detector is None:
            self._detector = FaceDetector()
        since_s = math.inf if self._t_searched is None else t_s - self._t_searched
        # Faces that one search found besides are looked for again at once, so that a short clip too tells of them.
        is_recent = since_s < MAX_PATIENCE * self.detect_every_s - 1e-6 and self._others_before <= self.n_others
        if self.max_faces == 1 and is_recent and self._is_calm() and isinstance(self._detector, DetectsNear):
            found = list(self._detector.detect_near(frame, self._tracks[0].box_xywh))
            pairs = match(self._tracks, found, t_s)
            if pairs:
                return found, pairs
        self._t_searched = t_s
        found = list(self._detector.detect(frame))
        return found, match(self._tracks, found, t_s)

    def _is_larger(self, face: Detection) -> bool:
        """Return True for a face so much wider than the smallest followed one that it takes its place."""
        return float(face.box_xywh[2]) > REPLACE_RATIO * min(float(track.box_xywh[2]) for track in self._tracks)

    def _has_place(self, face: Detection, again: bool) -> bool:
        if len(self._tracks) < self.max_faces:
            return True
        if not (again and self._is_larger(face)):
            return False
        smallest = min(self._tracks, key=lambda track: float(track.box_xywh[2]))
        self._tracks.remove(smallest)
        self._lose(smallest)
        return True

    def _start(self, face: Detection, frame: Frame, t_s: float) -> None:
        """Follow a face: an old one if one was lost near here, else a new one."""
        near = [
            track
            for track in self._lost
            if distance(face.box_xywh, track.box_xywh) < 1.5 and size_ratio(face.box_xywh, track.box_xywh) < 1.6
        ]
        if near:
            track = min(near, key=lambda track: distance(face.box_xywh, track.box_xywh))
            self._lost.remove(track)
            track.place(face, t_s)
        else:
            track = _Track(self._next_id, face, t_s)
            self._next_id += 1
        self._tracks.append(track)
        make_view(track, frame)

    def _confirm(self, track: _Track, face: Detection, frame: Frame, t_s: float) -> None:
        """Pull the box towards a detection of a followed face; put it there only if the face had been lost."""
        if not track.seen:
            track.place(face, t_s)
            make_view(track, frame)
            return
        track.n_confirmed += 1
        track.missed_since_s, track.suspicious = None, False
        pose, at = track.pose, box_pose(face.box_xywh)
        goal = np.concatenate(
            [(at[:2] - pose[:2]) / pose_size(pose), at[2:4] - pose[2:4], landmark_shape(face, pose[4])]
        )
        error = goal - track.pull_goal
        track.agreed = bool((np.abs(error) <= AGREEMENT).all())
        gain = np.maximum(1 / track.n_confirmed, MIN_GAIN)
        for part in (slice(0, 4), slice(4, 14)):
            if (np.abs(error[part]) > SLIP_LIMIT[part]).any():
                gain[part] = np.maximum(gain[part], 0.7)  # still no step, as the pull takes its time
        track.pull_goal = track.pull_goal + gain * error
        track.detected_pose, track.least_alike = track.pose.copy(), 1.0
        refresh_view(track, frame)


def smooth_pose(track: _Track, dt_s: float) -> None:
    """Advance the pull towards its goal and the low-pass of the box by dt_s seconds."""
    # Exact step of a critically damped spring, so the result does not depend on the frame rate.
    rate = 1 / PULL_TIME_S
    off = track.pull - track.pull_goal
    drive = track.pull_speed + rate * off
    fade = math.exp(-rate * dt_s)
    track.pull = track.pull_goal + (off + drive * dt_s) * fade
    track.pull_speed = (track.pull_speed - rate * drive * dt_s) * fade

    raw = track.raw_pose()
    if dt_s > 0:
        unit = np.array([track.size, track.size, 1.0, 1.0, 1.0])
        track.speed += (1 - math.exp(-2 * math.pi * 3.0 * dt_s)) * ((raw - track.raw) / unit / dt_s - track.speed)
        v = track.speed
        moving = np.array([math.hypot(v[0], v[1])] * 2 + [math.hypot(v[2], v[3])] * 2 + [abs(v[4])])
        share = 1 - np.exp(-2 * math.pi * (REST_HZ + PER_SPEED * moving) * dt_s)
        track.smooth = track.smooth + share * (raw - track.smooth)
    track.raw = raw


# -- geometry


def box_pose(box_xywh: Float) -> Float:
    """Return the pose (5,) of a box: centre, log width, log height, no roll."""
    x, y, width, height = (float(v) for v in box_xywh)
    return np.array([x + width / 2, y + height / 2, math.log(max(width, 1.0)), math.log(max(height, 1.0)), 0.0])


def pose_size(pose: Float) -> float:
    """Return the root of the area of a pose's box, in pixels."""
    return math.exp((pose[2] + pose[3]) / 2)


def rolled(points: Float, roll_rad: float) -> Float:
    """Turn points (N, 2) around the origin."""
    cos, sin = math.cos(roll_rad), math.sin(roll_rad)
    turned: Float = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def landmark_shape(face: Detection, roll_rad: float) -> Float:
    """Return the landmarks (10,) around the centre of the box in face sizes, with a known roll taken out."""
    pose = box_pose(face.box_xywh)
    return rolled((np.asarray(face.landmarks, dtype=np.float64) - pose[:2]) / pose_size(pose), -roll_rad).reshape(-1)


def overlap(a_xywh: Float, b_xywh: Float) -> float:
    """Return the shared area of two boxes over the area of both together, 0..1."""
    inner = np.minimum(a_xywh[:2] + a_xywh[2:], b_xywh[:2] + b_xywh[2:]) - np.maximum(a_xywh[:2], b_xywh[:2])
    shared = float(np.prod(np.maximum(inner, 0.0)))
    return shared / max(float(np.prod(a_xywh[2:]) + np.prod(b_xywh[2:])) - shared, 1e-9)


def distance(a_xywh: Float, b_xywh: Float) -> float:
    """Return the distance between the centres of two boxes, in sizes of the larger box."""
    apart = a_xywh[:2] + a_xywh[2:] / 2 - b_xywh[:2] - b_xywh[2:] / 2
    return float(np.hypot(*apart)) / max(math.sqrt(float(max(np.prod(a_xywh[2:]), np.prod(b_xywh[2:])))), 1.0)


def size_ratio(a_xywh: Float, b_xywh: Float) -> float:
    """Return the larger size of two boxes over the smaller, 1 or more."""
    ratio = math.sqrt(float(np.prod(a_xywh[2:])) / max(float(np.prod(b_xywh[2:])), 1e-9))
    return max(ratio, 1 / max(ratio, 1e-9))


def match(tracks: Sequence[_Track], found: Sequence[Detection], t_s: float) -> dict[int, int]:
    """Assign detections to tracks (track id -> index) with the least sum of distances, by the Hungarian method.

    A followed face is looked for within 0.7 sizes, a lost one farther the longer it is lost, up to 1.5 sizes: people
    who sit side by side are farther apart.
    """
    if not tracks or not found:
        return {}
    never = 1e6
    cost = np.full((len(tracks), len(found)), never)
    for i, track in enumerate(tracks):
        reach = 0.7 if track.seen else min(0.8 + (t_s - track.t_seen), 1.5)
        for j, face in enumerate(found):
            away = distance(track.box_xywh, face.box_xywh)
            ratio = size_ratio(track.box_xywh, face.box_xywh)
            if away < reach and ratio < 1.8:
                cost[i, j] = away + math.log(ratio)
    return {tracks[i].id: j for i, j in assign(cost) if cost[i, j] < never}


def assign(cost: Float) -> list[tuple[int, int]]:
    """Choose from cost (N, M) min(N, M) pairs (row, column) of least total cost, no row or column twice.

    The Hungarian method with potentials (Kuhn 1955, Munkres 1957): rows are added one by one, each along the shortest
    augmenting path.
    """
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    n_rows, n_columns = cost.shape
    row_price, column_price = np.zeros(n_rows + 1), np.zeros(n_columns + 1)
    # Row of each column, -1 for none; the last column is where a new row starts.
    row_of, came_from = np.full(n_columns + 1, -1), np.zeros(n_columns, dtype=int)
    for row in range(n_rows):
        row_of[-1], column = row, n_columns
        shortest, is_done = np.full(n_columns, np.inf), np.zeros(n_columns + 1, dtype=bool)
        while row_of[column] >= 0:
            is_done[column] = True
            here = row_of[column]
            reduced = cost[here] - row_price[here] - column_price[:-1]
            is_shorter = ~is_done[:-1] & (reduced < shortest)
            shortest[is_shorter], came_from[is_shorter] = reduced[is_shorter], column
            following = int(np.argmin(np.where(is_done[:-1], np.inf, shortest)))
            step = shortest[following]
            row_price[row_of[is_done]] += step
            column_price[is_done] -= step
            shortest[~is_done[:-1]] -= step
            column = following
        while column != n_columns:
            row_of[column], column = row_of[came_from[column]], int(came_from[column])
    return sorted((int(row_of[column]), column) for column in range(n_columns) if row_of[column] >= 0)


# -- pictures


def grey_picture(picture: FacePicture, scale: float) -> Grey:
    """Return a picture of a face in grey, enlarged to ``scale`` pixels for one of the frame if it is smaller."""
    grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
    if scale > 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.asarray(grey, dtype=np.uint8)


def make_view(track: _Track, frame: Frame, *, keep_points: bool = False) -> None:
    """Lay the track's view around the face as it is in frame; new points and appearance unless keep_points."""
    pose = track.raw_pose()
    size = pose_size(pose)
    sides = np.exp(pose[2:4])
    box = np.concatenate([pose[:2] - sides / 2, sides])
    halvings = n_halvings(box, PATCH_PX, None if track.view is None else track.view.place.halvings)
    place = place_around(frame, box, (MARGIN * size, MARGIN * size), halvings)
    scale = 0.5**place.halvings if size >= FACE_PX / 1.5 else FACE_PX / size
    if min(place.right - place.left, place.bottom - place.top) * scale < 16:
        track.view = None
        return
    picture = FacePicture(frame, place)
    view = _View(place, scale, size, pose[:2].copy(), picture, grey_picture(picture, scale))
    old, track.view = track.view, view
    if keep_points and old is not None:
        points = (old.points / old.scale + old.corner - view.corner) * view.scale
        inside = inside_picture(points, view.grey).ravel()
        view.points, view.n_seeded = points[inside].astype(np.float32), old.n_seeded
    else:
        seed_points(track, view)
        track.appearance = appearance(track, view)


def inside_picture(points: NDArray[np.floating], grey: Grey) -> NDArray[np.bool_]:
    """Return True for each of points (..., 2) that lies on the picture."""
    limit = np.array(grey.shape[::-1], dtype=np.float64) - 1
    inside: NDArray[np.bool_] = np.all((points >= 0) & (points <= limit), axis=-1)
    return inside


def refresh_view(track: _Track, frame: Frame) -> None:
    """Take the face's present appearance at a detection, and drop the points that left it; seed anew if few are left.

    Points are not replaced at every detection: each set has its own small drift, so that would write the times of the
    detections into the motion of the box.
    """
    view = track.view
    if view is None:
        make_view(track, frame)
        return
    centre, sides, _ = track.pose_in_view(view)
    inside = np.sum(((view.points[:, 0] - centre) / (sides / 2)) ** 2, axis=1) <= 1
    view.points = view.points[inside]
    if len(view.points) < 0.6 * view.n_seeded:
        seed_points(track, view)
    track.appearance = appearance(track, view)


def seed_points(track: _Track, view: _View) -> None:
    """Choose new points to follow: corners of the picture inside the face's ellipse, or a grid if there are few."""
    centre, sides, _ = track.pose_in_view(view)
    axes = sides * 0.45  # a little inside the box: its rim shows hair and background
    mask = np.zeros(view.grey.shape, np.uint8)
    at, radii = (round(float(centre[0])), round(float(centre[1]))), (max(2, int(axes[0])), max(2, int(axes[1])))
    cv2.ellipse(mask, at, radii, 0.0, 0.0, 360.0, 255, -1)
    corners = cv2.goodFeaturesToTrack(view.grey, 60, 0.01, 5.0, mask=mask)
    points = np.zeros((0, 1, 2), np.float32) if corners is None else np.asarray(corners, np.float32).reshape(-1, 1, 2)
    if len(points) < 15:
        grid = np.stack(np.meshgrid(np.linspace(-0.7, 0.7, 5), np.linspace(-0.7, 0.7, 5)), axis=-1).reshape(-1, 2)
        spread = (centre + grid * axes).astype(np.float32)
        points = np.concatenate([points, spread[inside_picture(spread, view.grey)][:, None, :]])
    view.points, view.n_seeded = points, len(points)


def follow_points(
    before: Grey, after: Grey, points: NDArray[np.float32], *, is_slow: bool
) -> tuple[complex, complex, NDArray[np.float32], bool] | None:
    """Return the motion of points (N, 1, 2) between two grey pictures as z -> turn * z + shift, z = x + iy.

    Lucas-Kanade forth and back; points that do not return to their start, or that move unlike the rest (eyelids,
    lips), are left out. After the motion, the points that are kept and True if they moved by less than ``SLOW_PX``:
    what ``is_slow`` is for the next frame. None if too few points agree, or if a head cannot move so between two
    frames.
    """
    mean_before, mean_after = cv2.mean(before)[0], cv2.mean(after)[0]
    if mean_after < 1:
        return None
    target = after
    if abs(mean_after - mean_before) > 0.02 * mean_before:
        # Lucas-Kanade takes brightness as constant; without this, a lamp switched on is read as motion.
        target = np.asarray(cv2.convertScaleAbs(after, alpha=mean_before / mean_after), dtype=np.uint8)
    if is_slow:
        flow = _flow(before, target, points, max_level=0)
        if flow is not None and flow[2] < SLOW_PX and len(flow[0]) > 0.7 * len(points):
            return _common_motion(*flow)
    flow = _flow(before, target, points, max_level=3)
    return None if flow is None else _common_motion(*flow)


def _flow(
    before: Grey, after: Grey, points: NDArray[np.float32], max_level: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], float] | None:
    """Return points (M, 2) before and after that flow forth and back, and their median motion; None if too few."""
    forth, ok_forth, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, np.zeros_like(points), winSize=(13, 13), maxLevel=max_level
    )
    steps = np.asarray(forth, dtype=np.float32)[:, 0] - points[:, 0]
    step = np.partition(steps, len(steps) // 2, axis=0)[len(steps) // 2]
    # Back from where the others came, for a fine level suffices there: a point that strayed does not return.
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(
        after,
        before,
        forth,
        forth - step,
        winSize=(13, 13),
        maxLevel=max_level // 2,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    missed = np.abs(np.asarray(back, dtype=np.float32) - points)
    good = (
        np.asarray(ok_forth == 1)[:, 0]
        & np.asarray(ok_back == 1)[:, 0]
        & (np.maximum(missed[:, 0, 0], missed[:, 0, 1]) < 0.7)
    )
    if np.count_nonzero(good) < max(6, 0.4 * len(points)):
        return None
    return points[good, 0], forth[good, 0], math.hypot(*step)


def _common_motion(
    source_xy: NDArray[np.float32], goal_xy: NDArray[np.float32], step_px: float
) -> tuple[complex, complex, NDArray[np.float32], bool] | None:
    """Return the motion of most of the points (M, 2) as ``follow_points`` does."""
    source, goal = (xy.astype(np.float64).view(np.complex128).ravel() for xy in (source_xy, goal_xy))
    step = goal - source
    turn, shift = 1 + 0j, complex(median(step.real), median(step.imag))
    inlier = np.zeros(len(source), dtype=bool)
    for _ in range(3):
        off = np.abs(goal - turn * source - shift)
        last, inlier = inlier, off <= max(3.0 * median(off), 0.3)
        if np.array_equal(last, inlier):
            break
        a, b = source[inlier], goal[inlier]
        mean_a, mean_b = complex(a.sum()) / len(a), complex(b.sum()) / len(b)
        spread = a - mean_a
        turn = complex(np.vdot(spread, b - mean_b) / max(float(np.vdot(spread, spread).real), 1e-9))
        shift = mean_b - turn * mean_a
    if np.count_nonzero(inlier) < max(6, 0.5 * len(source)):
        return None
    if not (0.8 < abs(turn) < 1.25 and abs(math.atan2(turn.imag, turn.real)) < 0.35):
        return None
    return turn, shift, goal_xy[inlier][:, None], step_px < SLOW_PX


def median(x: Float) -> float:
    """Return the median of x (N,), N >= 1; numpy's own takes ten times as long for so few."""
    ordered = np.sort(x)
    return 0.5 * float(ordered[(len(x) - 1) // 2] + ordered[len(x) // 2])


def appearance(track: _Track, view: _View) -> NDArray[np.float32]:
    """Return the face in its view, upright, as 24 x 24 ``standardised`` values (576,)."""
    centre, sides, roll = track.pose_in_view(view)
    (x, y), (width, height) = centre, sides / 24
    xx, xy, yx, yy = math.cos(roll) * width, -math.sin(roll) * height, math.sin(roll) * width, math.cos(roll) * height
    to_view = np.array([[xx, xy, x - 11.5 * (xx + xy)], [yx, yy, y - 11.5 * (yx + yy)]])
    upright = cv2.warpAffine(view.grey, to_view, (24, 24), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return standardised(np.asarray(upright, dtype=np.float32).ravel())


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values (N,) less their mean and divided by their length, zeros if they do not vary."""
    off = values - values.sum() / np.float32(values.size)
    length = math.sqrt(float(off @ off))
    return off / np.float32(length) if length > 1e-3 * math.sqrt(off.size) else np.zeros_like(off)


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the correlation of two ``standardised`` rows of values (N,); 1 if one of them does not vary."""
    product = float(a @ b)
    return product if product != 0.0 or (a.any() and b.any()) else 1.0


# +16: sensor noise in the dark must not weigh as much as structure in the light.
_LOG = np.log(np.arange(256, dtype=np.float32) + 16)


def scene_sketch(thin: Frame) -> NDArray[np.float32] | None:
    """Return a tiny picture of the local contrasts of a thinned frame, which light hardly changes; None if blank.

    It is ``SCENE_PX``, row by row (1728,), ``standardised``.
    """
    grey = cv2.cvtColor(thin, cv2.COLOR_RGB2GRAY)
    log = cv2.LUT(cv2.resize(grey, SCENE_PX, interpolation=cv2.INTER_AREA), _LOG)
    sketch = np.asarray(log - cv2.GaussianBlur(log, (0, 0), 3.0), dtype=np.float32).ravel()
    # The blur takes the mean away: what is left of it is too small to matter for the contrast.
    is_blank = math.sqrt(float(sketch @ sketch) / sketch.size) < MIN_SCENE_CONTRAST
    return None if is_blank else standardised(sketch)


def scene_correlation(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the best correlation of two sketches, the middle of one shifted over the other by up to a fifth.

    It compares structure, not brightness, so a lamp does not make a new scene; the shifts allow for a moving camera.
    """
    straight = correlation(before, after)
    if straight > 0.9:
        return straight
    width, height = SCENE_PX
    middle = before.reshape(height, width)[height // 5 : height - height // 5, width // 5 : width - width // 5]
    return float(cv2.matchTemplate(after.reshape(height, width), middle, cv2.TM_CCOEFF_NORMED).max())
