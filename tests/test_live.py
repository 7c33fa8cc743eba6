"""The live session: equal to a file's measurement, bounded in memory, honest in words. Drawn patches, a detector that
knows where they are; see test_meter."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autohr.confidence.verdict import LEAST_S, TRUSTED_S
from autohr.errors import NoFace, SignalTooShort
from autohr.live import record as live_record
from autohr.live import session as live
from autohr.live.advice import Sight, advise
from autohr.live.record import Record
from autohr.live.session import LiveConfig, LiveSession
from autohr.measure import answer
from autohr.meter import Meter, MeterConfig, TooShort
from autohr.methods import METHODS
from autohr.types import Estimate, Evidence, FaceClip, Frame, Frames, Measurement, Pulse, Reading
from autohr.video.detector import Detection
from test_meter import BOX, LANDMARKS, Knows, video

SMALL = MeterConfig(window_s=5, stride_s=1)


def session(method: str = "green", **changes: Any) -> LiveSession:
    return LiveSession(method, LiveConfig(**changes), detector=Knows())


def measured(frames: list[tuple[Frame, float]], config: MeterConfig) -> Measurement:
    """Do what ``measure`` does with the frames of a file."""
    meter = Meter("green", config, detector=Knows())
    readings = [reading for frame, t_s in frames for reading in meter.push(frame, t_s)] + meter.finish()
    counts = Frames(read=len(frames), face=meter.n_face, repaired=meter.n_filled)
    return answer(meter, readings, path="camera", duration_s=frames[-1][1], frames=counts, notes=[])


@pytest.fixture(scope="module")
def clip() -> list[tuple[Frame, float]]:
    """A face of 75 bpm for 8.5 s at 15 fps, hidden for half a second."""
    return list(video(8.5, 15, hidden=(3.0, 3.5)))


@pytest.mark.parametrize("threaded", [False, True])
def test_a_session_gives_what_measure_gives_of_the_same_frames(clip: list[tuple[Frame, float]], threaded: bool) -> None:
    with session(meter=SMALL, max_queue=1000) as live_session:
        for frame, t_s in clip:
            if threaded:
                assert live_session.offer(frame, t_s)
            else:
                live_session.take(frame, t_s)
        mine = live_session.close()
    theirs = measured(clip, SMALL)
    assert len(mine.faces[0].windows) == 5
    assert mine.as_dict() == theirs.as_dict()


def test_early_readings_change_nothing_and_keep_the_rules(clip: list[tuple[Frame, float]]) -> None:
    told: list[Reading] = []
    meters = [Meter("green", detector=Knows()) for _ in range(2)]
    readings: list[list[Reading]] = [[], []]
    for frame, t_s in clip:
        for k, meter in enumerate(meters):
            readings[k] += meter.push(frame, t_s)
        if round(t_s * 15) % 10 == 0:
            told += meters[0].early()
    ends = [
        [(r.end_s, r.estimate.hr_bpm) for r in some + meter.finish()]
        for some, meter in zip(readings, meters, strict=True)
    ]
    assert ends[0] == ends[1] and len(ends[0]) == 1
    assert len(told) >= 5 and min(r.end_s - r.start_s for r in told) >= LEAST_S
    assert not any(r.estimate.reliable for r in told if r.end_s - r.start_s < TRUSTED_S - 0.1)
    assert meters[0].n_filled == meters[1].n_filled and meters[0].crops.keys() == meters[1].crops.keys()


def test_the_first_reliable_number_comes_soon_after_eight_seconds_and_is_renewed_each_second() -> None:
    with session("pos") as live_session:
        told: list[float] = []
        for frame, t_s in video(12.2, 15):
            live_session.take(frame, t_s)
            state = live_session.state()
            if state.reliable and state.end_s is not None and state.end_s not in told:
                told.append(state.end_s)
        state = live_session.state()
    assert state.hr_bpm == pytest.approx(75, abs=3) and state.advice == () and state.why is None
    assert state.first_reliable_s is not None and TRUSTED_S - 0.1 <= state.first_reliable_s <= TRUSTED_S + 1.1
    assert len(told) >= 4 and max(np.diff(told)) <= 1.1
    assert state.wave is not None and len(state.wave.bvp) == pytest.approx(8 * state.wave.fps, abs=1)
    assert np.std(state.wave.bvp) == pytest.approx(1)
    assert state.box is not None and state.box[2:] == pytest.approx((60, 70), rel=0.1)
    assert state.fps_in == state.fps_measured == pytest.approx(15, abs=0.1)
    json.dumps(state.as_dict(), allow_nan=False)


def test_a_face_that_went_away_has_no_rate_and_begins_anew() -> None:
    told = {}
    with session(meter=SMALL) as live_session:
        for frame, t_s in video(14, 15, hidden=(6.0, 8.2)):
            live_session.take(frame, t_s)
            told[t_s] = live_session.state()
        assert {window.start_s > 7 for window in live_session.close().faces[0].windows} == {False, True}
    has_rate = [t_s for t_s, state in told.items() if state.hr_bpm is not None]
    assert has_rate[0] == pytest.approx(4.0, abs=0.1)
    in_between = [t_s for t_s in told if 7.2 < t_s < 12.1]
    assert not set(has_rate) & set(in_between) and max(has_rate) > 13
    gone = told[in_between[3]]
    assert gone.box is None and gone.wave is None and not gone.reliable
    assert gone.why == "no face is seen" and "No face" in gone.advice[0]
    assert "Wait: 6" in told[in_between[-22]].advice[-1]


class Waits:
    """A detector that waits until it is let go; the first frame needs it."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def detect(self, frame: Frame, /) -> Any:
        assert self.go.wait(30)
        return Knows().detect(frame)


@pytest.mark.parametrize(("config", "queue_bytes"), [({"max_queue": 8}, 2**30), ({"max_queue": 900}, 8 * 57_600)])
def test_what_waits_is_bounded_and_stays_evenly_spaced(
    config: dict[str, int], queue_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUEUE_BYTES", queue_bytes)
    detector = Waits()
    frames = list(video(3, 30))
    with LiveSession("green", LiveConfig(**config), detector) as live_session:  # type: ignore[arg-type]
        assert live_session.offer(*frames[0])
        while live_session._queue:
            time.sleep(0.001)
        kept = [live_session.offer(frame, t_s) for frame, t_s in frames[1:]]
        waiting = [item.t_s for item in live_session._queue]
        counts = live_session.state().frames
        detector.go.set()
        with pytest.raises(SignalTooShort):
            live_session.close()
        assert len(waiting) == 8 and waiting[-1] == frames[-1][1]
        assert kept == [True] * 8 + [False] * (89 - 8)
        assert (counts.offered, counts.measured, counts.dropped) == (90, 0, 90 - 1 - 8)
        gaps_s = np.diff([0.0, *waiting])
        assert gaps_s.max() <= 3 * gaps_s.min(), "had the oldest been dropped, there would be one hole"
        counts = live_session.state().frames
        assert (counts.offered, counts.measured, counts.dropped) == (90, 9, 81)


def test_a_session_that_is_late_leaves_out_readings_and_no_frames() -> None:
    detector, frames = Waits(), list(video(14, 15))
    config = LiveConfig(meter=SMALL, max_queue=215)
    with LiveSession("green", config, detector) as live_session:
        for frame, t_s in frames:
            assert live_session.offer(frame, t_s)
        detector.go.set()
        late = live_session.close()
    assert late.frames.read == len(frames) and late.frames.dropped == 0
    ends_s = [window.end_s for window in late.faces[0].windows]
    in_time = measured(frames, SMALL)
    assert len(in_time.faces[0].windows) == 10 > len(ends_s)
    assert any(f"{10 - len(ends_s)} readings were left out" in note for note in late.notes)
    assert {round(end_s, 3) for end_s in ends_s} <= {round(one.end_s, 3) for one in in_time.faces[0].windows}


def test_times_that_cannot_be_are_refused_and_counted(clip: list[tuple[Frame, float]]) -> None:
    with session(meter=SMALL) as live_session:
        frame = clip[0][0]
        for bad_s in (float("nan"), float("inf"), float("-inf")):
            assert live_session.take(frame, bad_s) == []
        for frame, t_s in clip:
            live_session.take(frame, 1e6 + t_s)
            for bad_s in (1e6 + t_s, 1e6 + t_s - 5, 1e6 + t_s + 1e-6, float("nan")):
                assert live_session.take(frame, bad_s) == []
        counts = live_session.state().frames
        assert counts.measured == len(clip) and counts.refused == 4 * len(clip) + 3
        mine = live_session.close()
    assert mine.faces[0].hr_bpm == pytest.approx(float(measured(clip, SMALL).faces[0].hr_bpm or 0), abs=0.01)
    assert mine.faces[0].start_s == pytest.approx(0) and any("refused" in note for note in mine.notes)


@pytest.mark.parametrize("leap_s", [1.7e9, 47_721.9, 1e12, -3.0, -1e9])
def test_a_clock_that_leaps_is_carried_on_once_frames_confirm_it(
    clip: list[tuple[Frame, float]], leap_s: float
) -> None:
    with session(meter=SMALL) as live_session:
        for k, (frame, t_s) in enumerate(clip):
            live_session.take(frame, t_s + (leap_s if k >= 60 else 0.0))
        counts = live_session.state().frames
        mine = live_session.close(["The source said this."])
    assert (counts.measured, counts.refused) == (len(clip) - 3, 3)
    assert mine.duration_s == pytest.approx(clip[-1][1] - 3 / 15, abs=1e-3)
    assert mine.faces[0].end_s == pytest.approx(mine.duration_s, abs=0.1)
    assert mine.notes[0] == "The source said this."
    assert any("leapt 1 time(s)" in note for note in mine.notes)


@pytest.mark.parametrize("wild_s", [1e12, 1e300, -1e300, -1.5e9])
def test_wild_times_among_good_ones_are_refused_and_the_rest_is_measured(
    clip: list[tuple[Frame, float]], wild_s: float
) -> None:
    with session(meter=SMALL) as live_session:
        live_session.take(clip[0][0], wild_s)
        for k, (frame, t_s) in enumerate(clip):
            if k % 7 == 5:
                live_session.take(frame, wild_s + k)
            live_session.take(frame, t_s)
        mine = live_session.close()
    assert mine.duration_s == pytest.approx(clip[-1][1], abs=0.3)
    assert mine.frames.face >= len(clip) - 12
    assert any("refused" in note for note in mine.notes)


def test_a_pause_of_minutes_stays_a_pause(clip: list[tuple[Frame, float]]) -> None:
    with session(meter=SMALL) as live_session:
        for k, (frame, t_s) in enumerate(clip):
            live_session.take(frame, t_s + (100.0 if k >= 75 else 0.0))
        counts = live_session.state().frames
        mine = live_session.close()
    assert counts.refused == 0 and mine.duration_s == pytest.approx(clip[-1][1] + 100)


def test_a_refusal_says_what_the_source_noticed(clip: list[tuple[Frame, float]]) -> None:
    with session(meter=SMALL) as live_session:
        for frame, t_s in clip[:30]:
            live_session.take(frame, t_s)
        live_session.take(clip[30][0], float("nan"))
        with pytest.raises(SignalTooShort) as caught:
            live_session.close(["The file is truncated."])
    line = str(caught.value)
    assert "Noticed while reading: The file is truncated. 1 frames were refused" in line and "\n" not in line


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), None]
)
def test_what_is_no_frame_is_a_mistake_of_the_caller(frame: Any) -> None:
    with session() as live_session:
        for give in (live_session.offer, live_session.take):
            with pytest.raises(ValueError, match="frame"):
                give(frame, 0.0)
        assert live_session.state().frames.offered == 0


def test_the_end_of_a_session(clip: list[tuple[Frame, float]]) -> None:
    n_threads = threading.active_count()
    live_session = session(meter=SMALL, max_queue=1000)
    for frame, t_s in clip:
        live_session.offer(frame, t_s)
    first = live_session.close()
    assert threading.active_count() == n_threads
    assert live_session.close() is first
    assert not live_session.offer(clip[0][0], 99.0)
    live_session.stop()
    with pytest.raises(ValueError, match="ended"):
        live_session.take(clip[0][0], 99.0)

    windows = first.faces[0].windows
    told = json.loads(live_session.as_json())
    rows = list(csv.DictReader(io.StringIO(live_session.as_csv())))
    assert [row["hr_bpm"] for row in told["readings"]] == [round(w.hr_bpm or 0, 2) for w in windows]
    assert [float(row["time_s"]) for row in rows] == [round(w.end_s, 3) for w in windows]
    assert {row["reliable"] for row in rows} <= {"true", "false"} and all(row["why"] for row in rows)
    assert told["frames"]["measured"] == len(clip)


def test_nobody_waits_for_a_method_that_thinks(clip: list[tuple[Frame, float]]) -> None:
    thinks, may_answer = threading.Semaphore(0), threading.Semaphore(0)

    def slow(given: FaceClip) -> Pulse:
        thinks.release()
        assert may_answer.acquire(timeout=30)
        return METHODS["green"].wave(given)

    live_session = LiveSession(replace(METHODS["green"], wave=slow), LiveConfig(max_queue=100), Knows())
    for frame, t_s in clip[:70]:
        live_session.offer(frame, t_s)
    ending = threading.Thread(target=live_session.close)
    ending.start()
    for n_measured in (60, 70):  # within the early reading at 4 s, then within that of the end
        assert thinks.acquire(timeout=30)
        began_s = time.perf_counter()
        assert live_session.state().frames.measured == n_measured and live_session.rows() == []
        assert time.perf_counter() - began_s < 5
        may_answer.release()
    ending.join(30)
    assert not ending.is_alive() and len(live_session.rows()) == 1


def test_a_session_that_is_left_drops_what_waits_and_ends_its_thread() -> None:
    n_threads = threading.active_count()
    detector = Waits()
    with LiveSession("green", detector=detector) as live_session:
        for frame, t_s in video(0.5, 30):
            live_session.offer(frame, t_s)
        detector.go.set()
    counts = live_session.state().frames
    assert threading.active_count() == n_threads and counts.measured + counts.dropped == 15


def test_offers_and_takes_are_not_mixed() -> None:
    frames = list(video(0.2, 30))
    with session() as live_session:
        live_session.take(*frames[0])
        with pytest.raises(ValueError, match="take"):
            live_session.offer(*frames[1])
    with session() as live_session:
        live_session.offer(*frames[0])
        with pytest.raises(ValueError, match="offer"):
            live_session.take(*frames[1])


def test_nobody_there_is_refused_as_for_a_file() -> None:
    with session() as live_session, pytest.raises(NoFace, match="'camera'"):
        for frame, t_s in video(1, 10, hidden=(0, 99)):
            live_session.take(frame, t_s)
        live_session.close()


def test_without_a_frame_the_answer_says_so() -> None:
    with session() as live_session, pytest.raises(NoFace, match=r"^No picture came from 'camera'\.$"):
        live_session.close()


class Breaks:
    def detect(self, frame: Frame, /) -> Any:
        raise RuntimeError("no such luck")


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    with LiveSession("green", detector=Breaks()) as live_session:
        live_session.offer(next(iter(video(1, 10)))[0], 0.0)
        assert live_session._worker is not None
        live_session._worker.join(30)
        for ask in (
            live_session.state,
            live_session.close,
            lambda: live_session.offer(np.zeros((9, 9, 3), np.uint8), 1),
        ):
            with pytest.raises(RuntimeError, match="luck"):
                ask()


def made_reading(end_s: float) -> Reading:
    wave = np.random.default_rng(0).standard_normal(300)
    pulse = Pulse(wave, 30.0, end_s - 10)
    evidence = Evidence(5, 0.9, 0, 0, 1, 1, 5, 0.9, 0, False, 0.1, 20, 0.3, "net")
    estimate = Estimate(70.0, 0.9, True, 5.0, None, evidence, pulse, Pulse(wave + 1, 30.0, end_s - 10))
    return Reading(0, 0, end_s - 10, end_s, estimate, 1.0)


def test_hours_of_readings_are_kept_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_record, "MAX_READINGS", 3000)
    record, end_s = Record(), 10.0

    def grown_by(n_readings: int) -> int:
        nonlocal end_s
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(n_readings):
            record.keep(made_reading(end_s := end_s + 1))
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    of_waves = grown_by(600)
    assert record.n_waves == 600 and record.notes() == []
    of_rows, of_nothing = grown_by(2400), grown_by(1000)
    tracemalloc.stop()
    assert of_waves < 600 * 6000, "two waves of 300 numbers each"
    assert of_rows < 2400 * 1000, "of which 21,600 are the 20 MB that the module promises"
    assert of_nothing < 50_000
    assert len(record.readings) == 3000 and record.n_waves == 601
    record.keep(made_reading(1e12))
    notes = " ".join(record.notes())
    assert "10 minutes" in notes and "first 1001 readings" in notes
    assert record.n_waves == 1, "a leap of the clock leaves no wave to be joined over a thousand years"


def test_faces_that_come_and_go_leave_no_pictures_without_end() -> None:
    with session() as live_session:
        meter = live_session._meter
        for k in range(live.MAX_FACES_KEPT * 3):
            meter.crops[k] = np.zeros((1, 1, 3), np.uint8)
        meter.too_short += [TooShort(k, k, k + 1.0, "1 s") for k in range(3000)]
        live_session._forget()
        assert list(meter.crops)[-1] == live.MAX_FACES_KEPT * 3 - 1 and len(meter.crops) == live.MAX_FACES_KEPT
        assert len(meter.too_short) == live.MAX_STRETCHES and meter.too_short[-1].face_id == 2999
        assert any("2500" in note for note in live_session._notes())


SEEN = Sight(face_seen=True, face_px=200.0, skin_level=120.0, followed_s=20.0)


def weak_reading(reliable: bool = False, **evidence: Any) -> Reading:
    found = evidence.pop("found_share", 1.0)
    reading = made_reading(20.0)
    assert reading.estimate.evidence is not None
    why = None if reliable else "weak"
    changed = replace(
        reading.estimate, reliable=reliable, why_unreliable=why, evidence=replace(reading.estimate.evidence, **evidence)
    )
    return replace(reading, estimate=changed, found_share=found)


@pytest.mark.parametrize(
    ("sight", "words"),
    [
        (Sight(face_seen=False), ["No face."]),
        (replace(SEEN, followed_s=2.2), ["Wait: 6 more seconds for a reliable rate."]),
        (replace(SEEN, followed_s=7.5), ["Wait: 1 more second for a reliable rate."]),
        (replace(SEEN, face_px=50, followed_s=2), ["Come closer.", "Wait"]),
        (replace(SEEN, skin_level=30, reading=weak_reading()), ["More light."]),
        (replace(SEEN, skin_level=250, reading=weak_reading()), ["Less light"]),
        (replace(SEEN, moved=0.2, reading=weak_reading()), ["Hold still."]),
        (replace(SEEN, reading=weak_reading(motion=0.8, background=0.6)), ["Hold still."]),
        (replace(SEEN, reading=weak_reading(background=0.6)), ["flickers"]),
        (replace(SEEN, reading=weak_reading(on_skin=-30.0)), ["flickers"]),
        (replace(SEEN, reading=weak_reading(redrawn=0.9, on_skin=0.0)), ["compressed"]),
        (replace(SEEN, reading=replace(weak_reading(redrawn=0.9), start_s=14.0)), ["weak"]),
        (replace(SEEN, reading=weak_reading(found_share=0.5)), ["turned to the camera"]),
        (replace(SEEN, fps_in=8, fps_measured=8, reading=weak_reading()), ["camera is slow: 8"]),
        (replace(SEEN, fps_measured=8, reading=weak_reading()), ["computer is too slow: 8 of 30"]),
        (replace(SEEN, reading=weak_reading()), ["weak"]),
        (replace(SEEN, face_px=50, moved=9, skin_level=9, reading=weak_reading(reliable=True)), []),
    ],
)
def test_advice_names_the_reason_and_nothing_else(sight: Sight, words: list[str]) -> None:
    advice = advise(sight)
    assert len(advice) == len(words)
    for sentence, word in zip(advice, words, strict=True):
        assert word in sentence and sentence.endswith(".")


def test_a_reliable_rate_that_is_late_says_so() -> None:
    reliable = replace(SEEN, reading=weak_reading(reliable=True))
    assert advise(replace(reliable, delay_s=0.3)) == ()
    assert advise(replace(reliable, delay_s=6.2)) == ("The rate comes 6 s late: this computer is too slow.",)
    (words,) = advise(replace(reliable, fps_in=30.0, fps_measured=14.0))
    assert "Only 14 of 30 frames per second" in words


def test_a_silent_camera_is_said() -> None:
    with session() as live_session:
        assert "Waiting" in live_session.state().advice[0]
        live_session.offer(next(iter(video(1, 10)))[0], 0.0)
        live_session._offered_at_s -= live.SILENT_S + 1
        state = live_session.state()
        assert "No picture" in state.advice[0] and state.fps_in == 0 and not state.reliable


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_queue=0"):
        LiveConfig(max_queue=0)


class KnowsTwo:
    """A detector of two faces of like size, each at times the larger one."""

    def __init__(self) -> None:
        self.n_asked = 0

    def detect(self, frame: Frame, /) -> Any:
        self.n_asked += 1
        found = []
        for left, wider in ((0, self.n_asked % 2), (160, 1 - self.n_asked % 2)):
            skin = frame[60, left + 80].astype(int)
            if skin[0] > skin[2] + 30:
                box = BOX + np.array([left, 0, 4 * wider, 4 * wider])
                found.append(Detection(box, 0.995, LANDMARKS + np.array([left, 0])))
        return found


def two_people(duration_s: float, gone_s: float) -> Iterator[tuple[Frame, float]]:
    """A face of 75 bpm at the left, gone from ``gone_s`` on, and one of 100 bpm at the right."""
    left = video(duration_s, 15, hidden=(gone_s, duration_s))
    right = video(duration_s, 15, hr_bpm=100, seed=1)
    for (one, t_s), (other, _) in zip(left, right, strict=True):
        yield np.concatenate([one, other], axis=1), t_s


def test_one_of_two_faces_is_shown_until_it_is_lost() -> None:
    told: dict[float, live.LiveState] = {}
    with LiveSession("green", LiveConfig(meter=MeterConfig(window_s=5, max_faces=2)), KnowsTwo()) as live_session:
        for frame, t_s in two_people(12, gone_s=7):
            live_session.take(frame, t_s)
            told[t_s] = live_session.state()
        result = live_session.close()
    with_both = [state for t_s, state in told.items() if 1 < t_s < 7]
    assert len({state.face_id for state in with_both}) == 1 and {len(state.faces) for state in with_both} == {2}
    first, last = with_both[-1], told[max(told)]
    rates = {face.id: face.hr_bpm for face in first.faces}
    assert sorted(rate or 0 for rate in rates.values()) == pytest.approx([75, 100], abs=4)
    assert first.hr_bpm == rates[first.face_id or 0]
    assert [face.id for face in last.faces] == [last.face_id] and last.hr_bpm == pytest.approx(100, abs=4)
    assert len(result.faces) == 2 and last.others == 0


def test_a_face_is_chosen_and_one_that_is_not_there_changes_nothing() -> None:
    with LiveSession("green", LiveConfig(meter=MeterConfig(window_s=5, max_faces=2)), KnowsTwo()) as live_session:
        for frame, t_s in two_people(6.5, gone_s=99):
            live_session.take(frame, t_s)
            state = live_session.state()
            if t_s == 5:
                before = state.face_id
                live_session.show(77)
                (other,) = (face.id for face in state.faces if face.id != before)
            if t_s == 5.2:
                assert state.face_id == before
                live_session.show(other)
        assert state.face_id == other != before
        assert state.hr_bpm == next(face.hr_bpm for face in state.faces if face.id == other)
        json.dumps(state.as_dict(), allow_nan=False)


class KnowsTwoNear(KnowsTwo):
    """The same, which searches a face's surroundings alone if asked to, as the shipped one does."""

    def detect_near(self, frame: Frame, box_xywh: Any) -> Any:
        return [face for face in self.detect(frame) if abs(face.box_xywh[0] - box_xywh[0]) < 80]


@pytest.mark.parametrize(("gone_s", "n_others"), [(99.0, 1), (0.5, 0)])
def test_others_are_said_of_a_clip_of_five_seconds_too(gone_s: float, n_others: int) -> None:
    meter = Meter("green", SMALL, KnowsTwoNear())
    for frame, t_s in two_people(5, gone_s=99):
        if t_s > gone_s:
            frame[:, 160:] = frame[:, 160:].mean()  # the one at the right; the detector finds the left one first
        meter.push(frame, t_s)
    assert meter.n_others == n_others


def test_others_than_the_one_that_was_asked_for_are_said() -> None:
    with LiveSession("green", LiveConfig(meter=SMALL), KnowsTwo()) as live_session:
        for frame, t_s in two_people(6, gone_s=99):
            live_session.take(frame, t_s)
        state = live_session.state()
        assert state.others == 1 and len(state.faces) == 1
        (note,) = (note for note in live_session.close().notes if "followed at a time" in note)
    assert note == ("Besides the one face that can be followed at a time, another face was seen and not measured.")
    with LiveSession("green", LiveConfig(meter=SMALL), Knows()) as live_session:
        for frame, t_s in video(6, 15, hidden=(3.0, 3.6)):
            live_session.take(frame, t_s)
        assert live_session.state().others == 0
