"""The face tracker. It sees moving patches of noise; a fake detector knows where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from autohr.types import Float, Frame
from autohr.video.detector import Detection
from autohr.video.tracker import FaceTracker, TrackedFace, assign, median, rolled

LANDMARKS = np.array([[-0.2, -0.15], [0.2, -0.15], [0.0, 0.05], [-0.15, 0.25], [0.15, 0.25]])
SIZE = (80.0, 100.0)
MIDDLE = {1: (160.0, 120.0)}
"""One face, in the middle of a picture of 320x240."""


def texture(seed: int, width: int, height: int, blur: float = 3.0) -> Frame:
    """Smooth noise with full contrast: something for optical flow to hold on to."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), blur), dtype=np.float32)
    return np.asarray(np.clip(128 + 50 * smooth / smooth.std(), 0, 255), dtype=np.uint8)


class World:
    """Patches of noise ("faces") that move over a background, and the detector that knows where they are."""

    def __init__(
        self, at: dict[int, tuple[float, float]] | None = None, seed: int = 0, width: int = 320, height: int = 240
    ) -> None:
        self.background = texture(1000 + seed, width, height, blur=6.0)
        self.at = at or {}
        self.roll: dict[int, float] = {}
        self.size: dict[int, tuple[float, float]] = {}
        self.score = 0.999
        self.blind = False
        self.scatter_px = 0.0
        self.n_calls = 0
        self.rng = np.random.default_rng(seed)

    def frame(self) -> Frame:
        picture = self.background.copy()
        for seed, (x, y) in self.at.items():
            width, height = self.size.get(seed, SIZE)
            cos, sin = np.cos(self.roll.get(seed, 0.0)), np.sin(self.roll.get(seed, 0.0))
            turn = np.array([[cos, -sin], [sin, cos]])
            to_frame = np.column_stack([turn, np.array([x, y]) - turn @ [width / 2, height / 2]])
            patch = texture(seed, int(width), int(height))
            shape = (picture.shape[1], picture.shape[0])
            moved = cv2.warpAffine(patch, to_frame, shape, flags=cv2.INTER_LINEAR)
            inside = cv2.warpAffine(np.ones(patch.shape, np.uint8), to_frame, shape, flags=cv2.INTER_NEAREST)
            picture = np.where(inside > 0, moved, picture).astype(np.uint8)
        return picture

    def face(self, seed: int) -> Detection:
        width, height = self.size.get(seed, SIZE)
        x, y = np.array(self.at[seed]) + self.scatter_px * self.rng.normal(size=2)
        turned = rolled(LANDMARKS, self.roll.get(seed, 0.0))
        return Detection(
            box_xywh=np.array([x - width / 2, y - height / 2, width, height]),
            score=self.score,
            landmarks=np.array([x, y]) + np.sqrt(width * height) * turned,
        )

    def detect(self, frame: Frame) -> list[Detection]:
        self.n_calls += 1
        if self.blind:
            return []
        found = [self.face(seed) for seed in self.at]
        return sorted(found, key=lambda face: -float(face.box_xywh[2]))


def play(
    tracker: FaceTracker, world: World, times: NDArray[np.float64], move: Callable[[float], None] | None = None
) -> Iterator[tuple[float, list[TrackedFace]]]:
    for t_s in times:
        if move is not None:
            move(float(t_s))
        yield float(t_s), tracker.update(world.frame(), float(t_s))


def clock(until_s: float, fps: float, start_s: float = 0.0) -> NDArray[np.float64]:
    return start_s + np.arange(round((until_s - start_s) * fps) + 1) / fps


def centre(face: TrackedFace) -> Float:
    return face.box_xywh[:2] + face.box_xywh[2:] / 2


# -- following


@pytest.mark.parametrize("fps", [12.5, 30.0])
def test_a_moving_face_is_followed_between_detections(fps: float) -> None:
    world = World()

    def move(t_s: float) -> None:
        world.at = {1: (160 + 40 * np.sin(2 * np.pi * 0.4 * t_s), 120 + 15 * np.sin(2 * np.pi * 0.3 * t_s))}

    tracker = FaceTracker(detector=world, detect_every_s=10.0)
    for _, found in play(tracker, world, clock(4.0, fps), move):
        (face,) = found
        assert face.id == 0 and face.seen
        assert np.abs(centre(face) - world.at[1]).max() < 4
        assert np.abs(face.landmarks - world.face(1).landmarks).max() < 5
    assert world.n_calls == 1


def test_uneven_time_stamps_make_no_difference_to_the_place() -> None:
    world = World()

    def move(t_s: float) -> None:
        world.at = {1: (100 + 30 * t_s, 120.0)}

    times = np.cumsum(np.random.default_rng(3).uniform(0.01, 0.08, size=80))
    for _, found in play(FaceTracker(detector=world), world, times, move):
        (face,) = found
        assert face.seen and np.abs(centre(face) - world.at[1]).max() < 4


def test_landmarks_roll_with_the_head() -> None:
    world = World(MIDDLE)

    def move(t_s: float) -> None:
        world.roll = {1: 0.3 * np.sin(2 * np.pi * 0.25 * t_s)}

    for _, found in play(FaceTracker(detector=world, detect_every_s=10.0), world, clock(3.0, 30.0), move):
        assert np.abs(found[0].landmarks - world.face(1).landmarks).max() < 3


def test_size_is_followed_when_a_face_comes_nearer() -> None:
    world = World({1: (200.0, 150.0)}, width=400, height=300)
    pictures = texture(1, 80, 100)
    tracker = FaceTracker(detector=world, detect_every_s=10.0)
    for t_s in clock(3.0, 30.0):
        grow = 1 + 0.2 * t_s
        frame = world.background.copy()
        big = np.asarray(cv2.resize(pictures, None, fx=grow, fy=grow), dtype=np.uint8)
        top, left = 150 - big.shape[0] // 2, 200 - big.shape[1] // 2
        frame[top : top + big.shape[0], left : left + big.shape[1]] = big
        (face,) = tracker.update(frame, float(t_s))
        assert face.seen
    assert face.box_xywh[2] == pytest.approx(80 * 1.6, rel=0.06)


# -- quiet boxes


def test_detections_do_not_show_in_the_box_of_a_still_face() -> None:
    """The detector scatters by 2.5 %; a step at each detection would be a 60 bpm signal."""
    world = World(MIDDLE)
    world.scatter_px = 2.0
    tracker = FaceTracker(detector=world, max_faces=2)  # detects every second, however still the face
    boxes, detected, n_calls = [], [], 0
    for _, (face,) in play(tracker, world, clock(12.0, 30.0)):
        boxes.append(face.box_xywh)
        detected.append(world.n_calls > n_calls)
        n_calls = world.n_calls
    steps = np.abs(np.diff(boxes, axis=0)).max(axis=1)
    kinks = np.abs(np.diff(boxes, n=2, axis=0)).max(axis=1)
    at = np.array(detected)
    assert at.sum() == 13
    assert steps.max() < 0.08
    # A detection may change where the box is going, never where it is: no instant stands out.
    assert steps[at[1:]].mean() < 1.5 * steps[~at[1:]].mean()
    assert kinks.max() < 0.02


# -- the pace of detections


class NearWorld(World):
    """A world whose detector finds a face again in its surroundings."""

    def __init__(self) -> None:
        super().__init__(width=480)
        self.n_near = 0
        self.unseen_near = 0

    def detect_near(self, frame: Frame, box_xywh: Float) -> list[Detection]:
        self.n_near += 1
        near = {seed for seed, at in self.at.items() if np.abs(box_xywh[:2] + box_xywh[2:] / 2 - at).max() < 120}
        return [self.face(seed) for seed in near - {self.unseen_near}]


def searches(
    world: World, tracker: FaceTracker, times: NDArray[np.float64], move: Callable[[float], None] | None = None
) -> list[float]:
    """Return the times at which the tracker asked the detector."""
    asked, n_calls = [], 0
    for t_s, _ in play(tracker, world, times, move):
        now = world.n_calls + getattr(world, "n_near", 0)
        if now > n_calls:
            asked.append(round(t_s, 3))
        n_calls = now
    return asked


def test_a_face_that_keeps_still_is_detected_more_rarely() -> None:
    world = World(MIDDLE)
    assert searches(world, FaceTracker(detector=world), clock(14.0, 10.0)) == [0, 1, 2, 3, 5, 9, 13]
    assert searches(world, FaceTracker(detector=world, max_faces=2), clock(6.0, 10.0)) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("change", ["place", "size", "roll", "detections"])
def test_a_face_that_moves_is_detected_as_often_as_before(change: str) -> None:
    world = World(MIDDLE)

    def move(t_s: float) -> None:
        late = np.clip(t_s - 10.0, 0.0, 1.0)
        if change == "place":
            world.at = {1: (160.0 + 15 * late, 120.0)}
        elif change == "size":
            world.size = {1: (80.0 + round(6 * late), 100.0 + round(8 * late))}
        elif change == "roll":
            world.roll = {1: 0.2 * late}
        else:
            world.scatter_px = 20.0

    asked = searches(world, FaceTracker(detector=world), clock(13.0, 10.0), move)
    if change == "detections":
        assert np.diff(asked).max() == pytest.approx(1.0)
    else:
        assert asked[:6] == [0, 1, 2, 3, 5, 9]
        assert 10.0 < asked[6] < 11.01 and np.diff(asked[6:]).max() < 2.01


def test_a_single_face_is_searched_in_its_surroundings_and_the_whole_frame_now_and_then() -> None:
    world = NearWorld()

    def move(t_s: float) -> None:
        world.at = {1: (200 + 40 * np.sin(2 * np.pi * 0.2 * t_s), 120.0)}

    found = [found[0] for _, found in play(FaceTracker(detector=world), world, clock(12.0, 10.0), move)]
    assert all(face.seen and face.id == 0 for face in found)
    assert world.n_calls == 4 and world.n_near == 9  # the whole frame at 0, 4, 8 and 12 s


def test_a_face_that_is_not_found_in_its_surroundings_is_searched_in_the_whole_frame_at_once() -> None:
    world = NearWorld()
    world.at, world.unseen_near = {1: (100.0, 120.0)}, 1
    assert searches(world, FaceTracker(detector=world), clock(3.0, 10.0)) == [0, 1, 2, 3]
    assert (world.n_calls, world.n_near) == (4, 3)


@pytest.mark.parametrize("max_faces", [1, 2])
def test_somebody_who_walks_in_is_found_in_time(max_faces: int) -> None:
    """A second face within a second where two are followed; where one is, a much larger one within four."""
    world = NearWorld()
    world.size = {2: (124.0, 150.0)}

    def move(t_s: float) -> None:
        world.at = {1: (100.0, 120.0)} | ({2: (380.0, 120.0)} if t_s > 9.2 else {})

    tracker = FaceTracker(detector=world, max_faces=max_faces)
    seen = [t_s for t_s, found in play(tracker, world, clock(14.0, 10.0), move) for face in found if face.id == 1]
    assert min(seen) <= 9.3 + (4.3 if max_faces == 1 else 1.0)


def test_the_box_does_not_depend_on_the_frame_rate() -> None:
    tracks = []
    for fps in (15.0, 60.0):
        world = World()
        world.scatter_px = 2.0

        def move(t_s: float, world: World = world) -> None:
            world.at = {1: (140 + 12 * t_s, 120.0)}

        tracks.append(
            [found[0].box_xywh for _, found in play(FaceTracker(detector=world), world, clock(4.0, fps), move)]
        )
    assert np.abs(np.array(tracks[0]) - np.array(tracks[1])[::4]).max() < 1.0


def test_a_wrong_first_box_is_corrected() -> None:
    world = World(MIDDLE)
    tracker = FaceTracker(detector=world)
    frame = world.frame()
    world.at = {1: (168.0, 114.0)}
    tracker.update(frame, 0.0)
    world.at = MIDDLE
    for t_s in clock(8.0, 15.0)[1:]:
        (face,) = tracker.update(frame, float(t_s))
    assert np.abs(centre(face) - [160, 120]).max() < 2.0


def test_first_box_is_kept_to_the_last_digit() -> None:
    world = World()

    def move(t_s: float) -> None:
        world.at = {1: (130 + 10 * t_s, 120.0)}

    boxes = [
        found[0].box_xywh for _, found in play(FaceTracker(detector=world, box="first"), world, clock(4.0, 15.0), move)
    ]
    assert (np.array(boxes) == np.array([90.0, 70.0, 80.0, 100.0])).all()


# -- losing and finding


@pytest.mark.parametrize("fps", [12.5, 30.0])
@pytest.mark.parametrize("bridge_s", [0.4, 1.0])
def test_a_face_that_leaves_is_held_for_the_bridge(fps: float, bridge_s: float) -> None:
    world = World(MIDDLE)

    def move(t_s: float) -> None:
        if t_s > 2.0:
            world.at = {}

    seen: list[float] = []
    held: list[float] = []
    for t_s, found in play(FaceTracker(detector=world, bridge_s=bridge_s), world, clock(5.0, fps), move):
        for face in found:
            (seen if face.seen else held).append(t_s)
            assert np.abs(centre(face) - [160, 120]).max() < 1
    times = clock(5.0, fps)
    assert seen == list(times[times <= 2.0])
    assert held == list(times[(times > 2.0) & (times <= seen[-1] + bridge_s + 1e-9)])


@pytest.mark.parametrize("fps", [12.5, 30.0])
def test_what_the_detector_no_longer_finds_is_dropped_though_the_flow_holds(fps: float) -> None:
    world = World(MIDDLE)
    first_miss, last = None, 0.0

    def move(t_s: float) -> None:
        world.blind = t_s > 2.5

    for t_s, found in play(FaceTracker(detector=world), world, clock(6.0, fps), move):
        last = t_s if found else last
        if world.blind and first_miss is None and t_s >= 3.0 - 1e-9:
            first_miss = t_s
    assert first_miss is not None
    assert last == pytest.approx(first_miss + 1.0, abs=1.01 / fps)


def test_an_unsure_moment_of_the_detector_is_no_loss() -> None:
    world = World(MIDDLE)

    def move(t_s: float) -> None:
        world.blind = 1.9 < t_s < 2.5

    found = [found[0] for _, found in play(FaceTracker(detector=world), world, clock(5.0, 30.0), move)]
    assert len(found) == 151 and all(face.seen and face.id == 0 for face in found)


def test_something_else_in_the_faces_place_is_not_the_face() -> None:
    world = World(MIDDLE)

    def move(t_s: float) -> None:
        if t_s > 1.5:
            world.blind, world.at = True, {77: (160.0, 120.0)}

    for t_s, found in play(FaceTracker(detector=world), world, clock(3.5, 30.0), move):
        assert t_s <= 1.5 or not any(face.seen for face in found)


def test_a_face_that_turns_into_something_else_is_not_followed_on() -> None:
    """Slowly enough for the flow, which holds on to whatever comes; only the looks tell."""
    world, wall = World(MIDDLE), World({77: (160.0, 120.0)})
    face, other = world.frame().astype(float), wall.frame().astype(float)
    tracker = FaceTracker(detector=world, bridge_s=2.0)
    for t_s in clock(4.0, 30.0):
        share = float(np.clip((t_s - 1.2) / 0.8, 0, 1))
        world.blind = share > 0.3
        found = tracker.update(np.asarray((1 - share) * face + share * other, dtype=np.uint8), float(t_s))
        if t_s < 1.4:
            assert found[0].seen
        if t_s > 2.1:
            assert not any(one.seen for one in found)


@pytest.mark.parametrize(
    ("gap_s", "back_at", "expected"),
    [(5.0, (185.0, 110.0), 0), (5.0, (310.0, 300.0), 1), (31.5, (160.0, 120.0), 1)],
)
def test_the_old_id_comes_back_near_the_old_place_and_soon(
    gap_s: float, back_at: tuple[float, float], expected: int
) -> None:
    world = World(width=400, height=400)

    def move(t_s: float) -> None:
        world.at = MIDDLE if t_s <= 1 else ({} if t_s < 1 + gap_s else {1: back_at})

    ids = [
        face.id
        for t_s, found in play(FaceTracker(detector=world), world, clock(gap_s + 2, 12.5), move)
        for face in found
        if t_s > 1 + gap_s
    ]
    assert ids and set(ids) == {expected}


def test_a_pause_in_time_is_a_loss_and_the_face_is_found_again_at_once() -> None:
    world = World(MIDDLE)
    tracker = FaceTracker(detector=world)
    tracker.update(world.frame(), 0.0)
    world.at = {}
    assert tracker.update(world.frame(), 8.0) == []
    world.at = {1: (170.0, 120.0)}
    (face,) = tracker.update(world.frame(), 16.0)
    assert face.id == 0 and face.seen and centre(face) == pytest.approx([170, 120])


def test_a_lost_face_is_looked_for_more_often() -> None:
    world = World()
    for _ in play(FaceTracker(detector=world), world, clock(2.0, 30.0)):
        pass
    assert 9 <= world.n_calls <= 11


def test_a_hand_before_the_face_is_a_gap_and_not_a_new_face() -> None:
    world = World()
    states = []

    def move(t_s: float) -> None:
        world.blind = 1.5 < t_s < 2.1
        world.at = MIDDLE | ({77: (165.0, 120.0)} if world.blind else {})

    for t_s, found in play(FaceTracker(detector=world), world, clock(4.0, 30.0), move):
        states.append((t_s, [(face.id, face.seen) for face in found]))
    assert all(state == [(0, not 1.5 < t_s < 2.1)] or 1.5 < t_s < 2.31 for t_s, state in states)
    assert all(state != [(0, True)] for t_s, state in states if 1.5 < t_s < 2.1)


def test_a_jerk_too_fast_for_the_flow_keeps_the_id() -> None:
    world = World(width=480)
    tracker = FaceTracker(detector=world)

    def move(t_s: float) -> None:
        world.at = {1: (100.0, 120.0) if t_s < 2.3 else (200.0, 120.0)}

    for t_s, found in play(tracker, world, clock(4.0, 12.5), move):
        assert [face.id for face in found] == [0]
        if t_s < 2.3 or t_s > 2.9:
            assert found[0].seen and np.abs(centre(found[0]) - world.at[1]).max() < 3


# -- several people


def test_two_people_who_cross_keep_their_ids() -> None:
    world = World(width=480, height=320)

    def move(t_s: float) -> None:
        world.at = {1: (100 + 70 * t_s, 95.0), 2: (380 - 70 * t_s, 215.0)}

    for t_s, found in play(FaceTracker(detector=world, max_faces=2), world, clock(4.0, 25.0), move):
        assert [face.id for face in found] == [0, 1] and all(face.seen for face in found), t_s
        # Equal in width, the first in the list is the first in the world.
        assert np.abs(centre(found[0]) - world.at[1]).max() < 5
        assert np.abs(centre(found[1]) - world.at[2]).max() < 5


def test_the_largest_faces_win_and_are_kept() -> None:
    world = World({1: (80.0, 160.0), 2: (220.0, 160.0), 3: (390.0, 160.0)}, width=480, height=320)
    world.size = {1: (60.0, 75.0), 2: (100.0, 125.0), 3: (90.0, 112.0)}
    tracker = FaceTracker(detector=world, max_faces=2)
    for t_s, found in play(tracker, world, clock(2.5, 12.5)):
        world.size = {1: (60.0, 75.0), 2: (100.0, 125.0), 3: (90.0, 112.0)}
        assert sorted(round(float(centre(face)[0])) for face in found) == [220, 390], t_s


def test_a_much_larger_newcomer_takes_the_place() -> None:
    world = World({1: (80.0, 160.0)}, width=480, height=320)
    world.size = {1: (60.0, 75.0), 2: (110.0, 137.0), 3: (64.0, 80.0)}

    def move(t_s: float) -> None:
        world.at = (
            {1: (80.0, 160.0)} | ({3: (200.0, 160.0)} if t_s > 0.5 else {}) | ({2: (360.0, 160.0)} if t_s > 3 else {})
        )

    seen_at = {
        t_s: round(float(centre(found[0])[0]))
        for t_s, found in play(FaceTracker(detector=world), world, clock(6.0, 12.5), move)
    }
    assert all(x == 80 for t_s, x in seen_at.items() if t_s < 3)
    assert seen_at[6.0] == 360


def test_a_doubtful_face_is_followed_only_when_found_twice() -> None:
    world = World(MIDDLE)
    world.score = 0.95
    starts = [t_s for t_s, found in play(FaceTracker(detector=world), world, clock(1.0, 30.0)) if found]
    assert starts[0] == pytest.approx(0.2, abs=0.04)
    world = World()
    world.score = 0.95

    def move(t_s: float) -> None:
        world.at = MIDDLE if t_s < 0.1 else {}

    assert not any(found for _, found in play(FaceTracker(detector=world), world, clock(1.0, 30.0), move))


# -- scenes


def test_a_cut_ends_every_id_for_good() -> None:
    world, other = World(MIDDLE, seed=0), World(MIDDLE, seed=1)
    tracker = FaceTracker(detector=world)
    ids = []
    for t_s in clock(4.5, 12.5):
        scene = world if t_s < 1.5 or t_s >= 3.0 else other
        ids.append(tracker.update(scene.frame(), float(t_s))[0].id)
    assert tracker.n_cuts == 2
    assert sorted(set(ids)) == [0, 1, 2] and ids == sorted(ids)


def test_a_cut_over_black_is_a_cut_and_a_moment_of_black_is_none() -> None:
    world, other = World(MIDDLE, seed=0), World(MIDDLE, seed=1)
    black = np.zeros_like(world.frame())
    for after, n_cuts in ((world, 0), (other, 1)):
        tracker = FaceTracker(detector=world)
        for t_s in (0.0, 0.04, 0.08):
            tracker.update(world.frame(), t_s)
        tracker.update(black, 0.12)
        (face,) = tracker.update(after.frame(), 0.4)
        assert (tracker.n_cuts, face.id) == (n_cuts, n_cuts)


def test_noise_in_the_dark_is_no_cut() -> None:
    world, rng = World(), np.random.default_rng(0)
    tracker = FaceTracker(detector=world)
    for i in range(40):
        dark = 0.03 * world.background + rng.normal(0, 8, world.background.shape)
        tracker.update(np.clip(dark, 0, 255).astype(np.uint8), i / 25)
    assert tracker.n_cuts == 0


def test_a_face_far_from_the_camera_of_a_blank_room_is_no_cut_when_it_moves() -> None:
    world = World()
    world.background[:] = 120
    world.size = {1: (40.0, 50.0)}

    def move(t_s: float) -> None:
        world.at = {1: (160 + 40 * np.sin(2 * np.pi * 0.5 * t_s), 120.0)}

    tracker = FaceTracker(detector=world)
    for _, found in play(tracker, world, clock(4.0, 12.5), move):
        assert [face.id for face in found] == [0] and found[0].seen
    assert tracker.n_cuts == 0


@pytest.mark.parametrize("light", ["dim", "bright", "lamp"])
def test_a_lamp_makes_no_cut_and_loses_no_face(light: str) -> None:
    world = World(MIDDLE)
    tracker = FaceTracker(detector=world)
    gain = {"dim": 0.4, "bright": 1.4, "lamp": np.linspace(0.5, 1.4, 320)[None, :, None]}[light]
    for t_s in clock(2.0, 25.0):
        frame = world.frame() * (np.asarray(gain) if t_s > 1.5 else 1.0)
        (face,) = tracker.update(np.clip(frame, 0, 255).astype(np.uint8), float(t_s))
        assert face.seen and face.id == 0
        assert np.abs(centre(face) - [160, 120]).max() < 2
    assert tracker.n_cuts == 0


def test_a_fast_pan_is_no_cut() -> None:
    wide = World(width=900, height=240).background
    tracker = FaceTracker(detector=World())
    for i in range(14):
        tracker.update(wide[:, 40 * i : 40 * i + 320], i / 25)
    assert tracker.n_cuts == 0


def test_a_new_frame_size_is_a_cut() -> None:
    world = World(MIDDLE)
    tracker = FaceTracker(detector=world)
    tracker.update(world.frame(), 0.0)
    (face,) = tracker.update(world.frame()[:200], 0.04)
    assert tracker.n_cuts == 1 and face.id == 1


# -- odd input


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (240, 12, 3)])
def test_tiny_and_black_frames_are_survived(shape: tuple[int, ...]) -> None:
    world = World({1: (2.0, 2.0)})
    for value in (0, 255):
        tracker = FaceTracker(detector=world)
        for i in range(10):
            for face in tracker.update(np.full(shape, value, np.uint8), i / 10):
                assert np.isfinite(face.box_xywh).all() and np.isfinite(face.landmarks).all()


def test_frames_need_not_be_contiguous() -> None:
    world = World()
    runs = []
    for wrap in (
        lambda f: f,
        lambda f: np.asfortranarray(f),
        lambda f: np.repeat(f, 2, axis=1)[:, ::2],
        lambda f: f[:, :, ::-1].copy()[:, :, ::-1],
    ):
        tracker = FaceTracker(detector=world)
        for t_s in clock(1.0, 15.0):
            world.at = {1: (140 + 20 * float(t_s), 120.0)}
            found = tracker.update(wrap(world.frame()), float(t_s))
        runs.append(found[0].box_xywh)
    assert all((run == runs[0]).all() for run in runs)


def test_wrong_arguments_are_refused_with_their_value() -> None:
    world = World()
    tracker = FaceTracker(detector=world)
    tracker.update(world.frame(), 1.0)
    with pytest.raises(ValueError, match=r"0\.5 s is before .* 1 s"):
        tracker.update(world.frame(), 0.5)
    with pytest.raises(ValueError, match="nan"):
        tracker.update(world.frame(), float("nan"))
    with pytest.raises(ValueError, match="float64"):
        tracker.update(world.frame().astype(float), 1.1)
    for wrong in ({"max_faces": 0}, {"box": "last"}, {"detect_every_s": 0.0}, {"bridge_s": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FaceTracker(detector=world, **wrong)


def test_a_median_is_numpys() -> None:
    for n in (1, 2, 7, 44):
        x = np.random.default_rng(n).standard_normal(n)
        assert median(x) == pytest.approx(float(np.median(x)), abs=1e-15)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 3), (5, 2), (7, 8)])
def test_faces_are_assigned_at_least_cost(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(30):
        cost = rng.uniform(size=shape)
        cost[cost > 0.7] = 1e6  # too far apart
        pairs, (rows, columns) = assign(cost), linear_sum_assignment(cost)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(shape)
        assert sum(cost[pair] for pair in pairs) == pytest.approx(cost[rows, columns].sum())
