"""Container time stamps turned into seconds that only go forward: strays repaired, leaps checked, crawling mended.

``StampClock`` takes the stamp of each frame in the order of decoding and gives its time. A stamp that follows the last
one at a usual distance is answered at once. Any other is held until the next frames show what it was, ``MOST_HELD``
frames at most, so memory and delay do not depend on the stamps:

* a single wrong stamp, or a few in a row: the frames around it go on as before, and it is filled in from them;
* a clock that restarted (stamps fall back and go on from there): it is carried on where it was;
* a pause (stamps leap forward and go on from there): it stays a pause, up to ``MOST_LEAPS_S`` for the whole video;
* crawling stamps (many frames in a row at a fraction of the usual distance, as a muxer writes them whose counter
  overflowed): the usual distance is put in their place.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

CLOCK_RESTART_S = 1.0
"""A stamp further back than this is a restarted clock (a joined file, a stream that came back), not a frame out of
order; a step further forward than this counts as a leap."""
MOST_LEAPS_S = 3600.0
"""All leaps forward together, in seconds: an hour. Ours: a recorder that was paused for longer is rarer than a clock
that went wrong, and a pulse wave over the whole time takes 3 MB an hour. Beyond it, the clock goes on where it was."""
HELD_STEP_S = 0.25
"""A step longer than this, and than ``HELD_STEPS`` usual ones, is held until the next frames confirm it."""
HELD_STEPS = 4
CONFIRMING = 4
"""Frames in a row, the leaping one among them, whose stamps increase: then the leap or the restart is believed. Three
wrong stamps in a row are therefore still repaired."""
MOST_HELD = 8
"""Frames held at most; then they are given at the usual distance. A quarter of a second of a usual camera."""
CRAWLING = 8
"""So many steps in a row at less than a tenth of the usual distance, and less than ``CRAWL_S``, are crawling stamps. A
network that delivers frames in bursts has fewer of them in a row."""
CRAWL_S = 0.002
"""500 frames per second. Steps of a real high-speed video may be shorter than this, but then so is its usual one."""
LEAST_STEP_S = 1e-4
"""Frames closer than this have the same time: ``open_video`` allows 10000 frames per second at most."""
ROOM = 0.7
"""Share of the usual distance that must be there for a frame to be put between its neighbours; with less, it is a frame
too many, and is dropped."""
USUAL_STEPS = 5
"""Steps that must be known before the usual distance is taken from them and not from the header."""


class NoClock(Exception):
    """Neither stamps nor anything to fill them from; the message says why."""


Item = TypeVar("Item")


@dataclass(frozen=True)
class Timed(Generic[Item]):
    """A frame and its time."""

    item: Item
    t_s: float | None
    """Seconds since the first frame; None where the time was already taken and the frame must be dropped."""
    repaired: bool
    """Whether the stamp was missing or impossible, and ``t_s`` was filled in."""


@dataclass
class _Held(Generic[Item]):
    item: Item
    stamp_s: float | None
    dts_s: float | None
    step_s: float | None


class StampClock(Generic[Item]):
    """Container stamps to seconds since the first frame, strictly increasing.

    Args:
        zero_s: the stamp of time 0, for a reader that begins in the middle; None takes that of the first frame.
        nominal_step_s: distance of frames by the header, in seconds; None if it says none.
    """

    def __init__(self, *, zero_s: float | None = None, nominal_step_s: float | None = None) -> None:
        self.last_t_s: float | None = None
        self.n_restarts = 0
        """Times the clock fell back and was carried on."""
        self.n_taken_out = 0
        """Leaps forward that were not believed."""
        self.taken_out_s = 0.0
        """Seconds of those leaps."""
        self.n_crawling = 0
        """Frames whose stamps crawled, and were given the usual distance."""
        self._zero_s = zero_s
        self._sought = zero_s is not None
        self._nominal_step_s = nominal_step_s
        self._before_s: float | None = None
        self._leaps_s = 0.0
        self._crawls = False
        self._run_step_s: float | None = None
        self._last_dts_s: float | None = None
        self._last_step_s: float | None = None
        self._last_stamp_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=15)
        self._held: list[_Held[Item]] = []
        self._ready: list[Timed[Item]] = []

    def push(
        self, item: Item, stamp_s: float | None, dts_s: float | None = None, step_s: float | None = None
    ) -> list[Timed[Item]]:
        """Take the next frame; return the frames whose time is settled, in order, often this one alone.

        Args:
            item: the frame.
            stamp_s: presentation stamp on the container's clock, None if missing.
            dts_s: decoding stamp, on a clock that may lie apart from the former: only its differences are used.
            step_s: how long the frame is shown, None if unknown.

        Raises:
            NoClock: the stamp is missing and nothing says how far apart frames are, or all stamps crawl.
        """
        stamp_s, dts_s = _finite(stamp_s), _finite(dts_s)
        step_s = step_s if step_s is not None and LEAST_STEP_S <= step_s <= CLOCK_RESTART_S else None
        frame = _Held(item, stamp_s, dts_s, step_s)
        if self.last_t_s is None:
            self._begin(frame)
        elif self._held:
            self._held.append(frame)
            self._settle()
        elif stamp_s is None:
            self._fill(frame)
        else:
            if self._zero_s is None:
                self._zero_s = stamp_s - self.last_t_s - self._spacing_s()
            self._held.append(frame)
            self._settle()
        return self._taken()

    def flush(self) -> list[Timed[Item]]:
        """Settle what is still held, after the last frame."""
        if self._held:
            self._settle_end()
        return self._taken()

    def _taken(self) -> list[Timed[Item]]:
        ready, self._ready = self._ready, []
        return ready

    # -- single frames

    def _begin(self, frame: _Held[Item]) -> None:
        if frame.stamp_s is None:
            if self._sought:
                self._ready.append(Timed(frame.item, None, False))
            else:
                self._give(frame, 0.0, repaired=True)
            return
        if self._zero_s is None:
            self._zero_s = frame.stamp_s
        self._give(frame, frame.stamp_s - self._zero_s)

    def _fill(self, frame: _Held[Item]) -> None:
        """Give a frame without a stamp: by the decoding stamps, or at the usual distance."""
        assert self.last_t_s is not None
        by_dts_s = None
        if frame.dts_s is not None and self._last_dts_s is not None:
            by_dts_s = frame.dts_s - self._last_dts_s
        if by_dts_s is not None and LEAST_STEP_S < by_dts_s <= CLOCK_RESTART_S:
            self._give(frame, self.last_t_s + by_dts_s, repaired=True)
        else:
            self._give(frame, self.last_t_s + self._spacing_s(), repaired=True)

    def _give(self, frame: _Held[Item], t_s: float, *, repaired: bool = False) -> None:
        last = self.last_t_s
        if last is not None:
            step_s = t_s - last
            if step_s > CLOCK_RESTART_S:
                if self._leaps_s + step_s > MOST_LEAPS_S:
                    spacing_s = min(self._spacing_s(), CLOCK_RESTART_S)
                    self.n_taken_out += 1
                    self.taken_out_s += step_s - spacing_s
                    t_s, repaired = last + spacing_s, True
                    self._carry_on(frame, t_s)
                else:
                    self._leaps_s += step_s
            if not repaired:
                self._steps_s.append(t_s - last)
        self._before_s, self.last_t_s = last, t_s
        self._last_dts_s, self._last_step_s = frame.dts_s, frame.step_s
        if frame.stamp_s is not None:
            self._last_stamp_s = frame.stamp_s
        self._ready.append(Timed(frame.item, t_s, repaired))

    def _carry_on(self, frame: _Held[Item], t_s: float) -> None:
        """Shift the clock so that the frame's stamp is at ``t_s``."""
        if frame.stamp_s is not None:
            self._zero_s = frame.stamp_s - t_s

    def _drop(self, frame: _Held[Item]) -> None:
        self._ready.append(Timed(frame.item, None, False))

    # -- frames that are held

    def _time_s(self, frame: _Held[Item]) -> float | None:
        if frame.stamp_s is None or self._zero_s is None:
            return None
        return frame.stamp_s - self._zero_s

    def _settle(self) -> None:
        """Settle the held frames as far as the newest one allows."""
        assert self.last_t_s is not None
        held, last = self._held, self.last_t_s
        newest_s = self._time_s(held[-1])
        if len(held) == 1 and newest_s is not None:
            if self._settle_crawl(held[0]):
                return
            if LEAST_STEP_S <= newest_s - last <= self._longest_step_s() and not self._is_tiny(newest_s - last):
                self._give(held.pop(), newest_s)
            return
        if all(self._is_tiny_after(k) for k in range(len(held))):
            if len(held) >= CRAWLING:
                self._mend_crawl()
            return
        if newest_s is not None and all(self._is_tiny_after(k) for k in range(len(held) - 1)):
            # A burst: frames that came together, not a clock that crawls.
            newest = held.pop()
            self._give_burst()
            self._held = [newest]
            self._settle()
            return
        earlier = [self._time_s(frame) for frame in held[:-1]]
        if newest_s is not None and LEAST_STEP_S <= newest_s - last <= self._longest_step_s(len(held)):
            if any(t_s is None or t_s <= last + LEAST_STEP_S or t_s >= newest_s for t_s in earlier):
                newest = held.pop()
                self._repair_between(newest_s)
                self._held = []
                self._give(newest, newest_s)
                return
        run = self._run()
        if run >= CONFIRMING:
            self._believe(run)
        elif len(held) >= MOST_HELD:
            self._held = []
            if all(self._is_behind(frame) for frame in held):
                for frame in held:
                    self._drop(frame)
            else:
                self._give_evenly(held)

    def _settle_end(self) -> None:
        assert self.last_t_s is not None
        held, last = self._held, self.last_t_s
        if all(self._is_tiny_after(k) for k in range(len(held))):
            self._give_burst()
        elif (run := self._run()) >= 2:
            self._believe(run)
        else:
            t_s = self._time_s(held[0])
            if len(held) == 1 and t_s is not None and abs(t_s - last) <= CLOCK_RESTART_S:
                if t_s - last >= LEAST_STEP_S:
                    self._give(held[0], t_s)
                else:
                    self._drop(held[0])
            else:
                self._give_evenly(held)
        self._held = []

    def _is_behind(self, frame: _Held[Item]) -> bool:
        """Return whether the stamp lies at or behind the last time, but not so far that the clock restarted."""
        t_s = self._time_s(frame)
        last = self.last_t_s
        if t_s is None or last is None:
            return False
        # Behind the very first frame lies nothing: then it is that frame's stamp that was wrong.
        earliest_s = last - LEAST_STEP_S if self._before_s is None else last - CLOCK_RESTART_S
        return earliest_s <= t_s < last + LEAST_STEP_S

    def _run(self) -> int:
        """Length of the increasing run at the end of the held frames."""
        times = [self._time_s(frame) for frame in self._held]
        n = 0
        after = math.inf
        for t_s in reversed(times):
            if t_s is None or after - t_s < LEAST_STEP_S:
                break
            n, after = n + 1, t_s
        return n

    def _believe(self, run: int) -> None:
        """Take the last ``run`` held frames at their word: a leap forward, a restart, or frames behind the last one."""
        assert self.last_t_s is not None
        last = self.last_t_s
        strays, kept = self._held[:-run], self._held[-run:]
        self._held = []
        times = [t_s for frame in kept if (t_s := self._time_s(frame)) is not None]
        first_s = times[0]
        self._run_step_s = statistics.median(after - t_s for t_s, after in pairwise(times))
        if self._is_behind(kept[0]):
            # Frames are dropped until the stamps have passed the last time.
            for frame in strays:
                self._drop(frame)
            for frame in kept:
                # Anew for each: a leap that is not believed moves the clock.
                t_s = self._time_s(frame)
                assert t_s is not None
                if t_s - self.last_t_s >= LEAST_STEP_S:
                    self._give(frame, t_s)
                else:
                    self._drop(frame)
            return
        if first_s < last:
            self._give_evenly(strays)
            t_s = self.last_t_s + self._spacing_s()
            self._carry_on(kept[0], t_s)
            self.n_restarts += 1
            self._give(kept.pop(0), t_s, repaired=True)
        else:
            room_s = first_s - last
            if room_s >= ROOM * (len(strays) + 1) * self._spacing_s():
                self._give_evenly(strays, within_s=room_s)
            else:
                for frame in strays:
                    self._drop(frame)
        for frame in kept:
            t_s = self._time_s(frame)
            assert t_s is not None
            self._give(frame, t_s)

    def _repair_between(self, next_s: float) -> None:
        """Put the held frames between the last time and the next, or drop them where there is no room for them."""
        assert self.last_t_s is not None
        last, before = self.last_t_s, self._before_s
        held = self._held
        n_steps = len(held) + 1
        try:
            has_room = next_s - last >= ROOM * n_steps * self._spacing_s()
        except NoClock:
            has_room = False
        times = [self._time_s(frame) for frame in held]
        # A stamp between the last two frames given is right: its frame came too late, and has no place here.
        is_late = before is not None and any(t_s is not None and before < t_s < last for t_s in times)
        if not has_room or is_late:
            for frame in held:
                self._drop(frame)
            return
        for k, frame in enumerate(held, start=1):
            self._give(frame, last + (next_s - last) * k / n_steps, repaired=True)

    def _give_evenly(self, frames: Sequence[_Held[Item]], within_s: float = math.inf) -> None:
        """Give frames at the usual distance from the last one, and carry the clock on from there."""
        if not frames:
            return
        spacing_s = min(self._spacing_s(), CLOCK_RESTART_S, within_s / (len(frames) + 1))
        for frame in frames:
            assert self.last_t_s is not None
            self._give(frame, self.last_t_s + spacing_s, repaired=True)
        if within_s == math.inf:
            stamped = next((frame for frame in reversed(frames) if frame.stamp_s is not None), None)
            if stamped is not None:
                assert self.last_t_s is not None
                self._carry_on(stamped, self.last_t_s)

    # -- stamps that crawl

    def _settle_crawl(self, frame: _Held[Item]) -> bool:
        """While stamps crawl: give the frame at the usual distance. Return whether they still do."""
        if not self._crawls:
            return False
        assert self.last_t_s is not None and self._last_stamp_s is not None and frame.stamp_s is not None
        if not self._is_tiny(frame.stamp_s - self._last_stamp_s):
            self._crawls = False
            return False
        self._held = []
        self._give_crawling(frame)
        return True

    def _mend_crawl(self) -> None:
        if self._usual_step_s() is None:
            raise NoClock(f"its time stamps are less than {LEAST_STEP_S * 1e6:.0f} microseconds apart")
        self._crawls = True
        held, self._held = self._held, []
        for frame in held:
            self._give_crawling(frame)

    def _give_crawling(self, frame: _Held[Item]) -> None:
        assert self.last_t_s is not None
        t_s = self.last_t_s + self._spacing_s()
        self.n_crawling += 1
        self._give(frame, t_s, repaired=True)
        self._carry_on(frame, t_s)

    def _give_burst(self) -> None:
        held, self._held = self._held, []
        for frame in held:
            t_s = self._time_s(frame)
            assert t_s is not None and self.last_t_s is not None
            if t_s - self.last_t_s >= LEAST_STEP_S:
                self._give(frame, t_s)
            else:
                self._drop(frame)

    def _is_tiny_after(self, k: int) -> bool:
        """Whether held frame k follows the frame before it at a crawling distance."""
        t_s = self._time_s(self._held[k])
        before_s = self.last_t_s if k == 0 else self._time_s(self._held[k - 1])
        return t_s is not None and before_s is not None and self._is_tiny(t_s - before_s)

    def _is_tiny(self, step_s: float) -> bool:
        usual_s = self._usual_step_s()
        # Rounding of large stamps makes equal ones differ by less than this.
        return 1e-6 < step_s < (LEAST_STEP_S if usual_s is None else min(usual_s / 10, CRAWL_S))

    # -- distances

    def _usual_step_s(self) -> float | None:
        """Distance of frames from the last steps, or from the header; None where neither says."""
        if len(self._steps_s) >= USUAL_STEPS:
            return statistics.median(self._steps_s)
        nominal_s = self._nominal_step_s
        return nominal_s if nominal_s is not None and 0.001 <= nominal_s <= CLOCK_RESTART_S else None

    def _longest_step_s(self, n_steps: int = 1) -> float:
        """Longest time over ``n_steps`` that needs no confirmation."""
        usual_s = self._usual_step_s() or (statistics.median(self._steps_s) if self._steps_s else 0.0)
        return max(HELD_STEP_S, HELD_STEPS * usual_s) + (n_steps - 1) * usual_s

    def _spacing_s(self) -> float:
        """The likeliest distance from the last frame to the next."""
        usual_s = self._usual_step_s()
        if self._last_step_s is not None and (usual_s is None or 0.1 < self._last_step_s / usual_s < 10):
            return self._last_step_s
        if self._steps_s:
            return statistics.median(self._steps_s)
        if self._nominal_step_s is not None:
            return min(self._nominal_step_s, CLOCK_RESTART_S)
        if self._run_step_s is not None:
            return min(self._run_step_s, CLOCK_RESTART_S)
        raise NoClock("its time stamps are missing or contradict each other")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
