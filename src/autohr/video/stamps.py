"""Turn container time stamps into seconds that only go forward: strays repaired, leaps checked, crawling mended.

``StampClock`` takes the stamp of each frame in the order of decoding and gives its time. A stamp that follows the last
one at a usual distance is answered at once. Any other is held until the next frames show what it was, ``MAX_HELD``
frames at most, so memory and delay do not depend on the stamps:

* a single wrong stamp, or a few in a row: the frames around it go on as before, and it is filled in from them;
* a clock that restarted (stamps fall back and go on from there): it is carried on where it was;
* a pause (stamps leap forward and go on from there): it stays a pause, up to ``MAX_LEAPS_S`` for the whole video;
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
"""Distance back from which a stamp is a restarted clock (a joined file, a stream that came back), not a frame out of
order; a step further forward than this counts as a leap."""
MAX_LEAPS_S = 3600.0
"""Sum of all leaps forward beyond which the clock goes on where it was. Chosen by us: a recorder that was paused for
longer is rarer than a clock that went wrong, and a pulse wave over the whole time takes 3 MB an hour."""
HELD_STEP_S = 0.25
"""Step from which, if it is also over ``HELD_STEPS`` usual ones, a frame is held until the next ones confirm it."""
HELD_STEPS = 4
CONFIRMING = 4
"""Frames in a row, the leaping one among them, whose increasing stamps confirm a leap or a restart. Three wrong stamps
in a row are therefore still repaired."""
MAX_HELD = 8
"""Largest number of frames held; then they are given at the usual distance. A quarter of a second of a usual camera."""
CRAWLING = 8
"""Steps in a row below a tenth of the usual distance, and below ``CRAWL_S``, that are crawling stamps. A network that
delivers frames in bursts has fewer of them in a row."""
CRAWL_S = 0.002
"""Step at 500 frames per second. Steps of a real high-speed video may be shorter, but then so is its usual one."""
MIN_STEP_S = 1e-4
"""Distance below which frames have the same time: ``open_video`` allows 10000 frames per second at most."""
MIN_ROOM = 0.7
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
    """True where the stamp was missing or impossible, and ``t_s`` was filled in."""


@dataclass
class _Held(Generic[Item]):
    item: Item
    stamp_s: float | None
    dts_s: float | None
    step_s: float | None


class StampClock(Generic[Item]):
    """Clock that turns container stamps into seconds since the first frame, strictly increasing.

    Parameters
    ----------
    zero_s
        Stamp of time 0, for a reader that begins in the middle; None takes that of the first frame.
    nominal_step_s
        Distance of frames by the header, in seconds; None if it has none.
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

        Parameters
        ----------
        item
            The frame.
        stamp_s
            Presentation stamp on the container's clock, None if missing.
        dts_s
            Decoding stamp, on a clock that may lie apart from the former: only its differences are used.
        step_s
            Time for which the frame is shown, None if unknown.

        Raises
        ------
        NoClock
            The stamp is missing and nothing says how far apart frames are, or all stamps crawl.
        """
        stamp_s, dts_s = _finite(stamp_s), _finite(dts_s)
        step_s = step_s if step_s is not None and MIN_STEP_S <= step_s <= CLOCK_RESTART_S else None
        frame = _Held(item, stamp_s, dts_s, step_s)
        if self.last_t_s is None:
            self._begin(frame)
        elif stamp_s is None and not self._held:
            self._fill(frame)
        else:
            if self._zero_s is None and not self._held:
                assert stamp_s is not None
                self._zero_s = stamp_s - self.last_t_s - self._spacing_s()
            self._held.append(frame)
            self._settle()
        return self._take_ready()

    def flush(self) -> list[Timed[Item]]:
        """Settle what is still held, after the last frame."""
        if self._held:
            self._settle_end()
        return self._take_ready()

    def _take_ready(self) -> list[Timed[Item]]:
        ready, self._ready = self._ready, []
        return ready

    def _take_held(self) -> list[_Held[Item]]:
        held, self._held = self._held, []
        return held

    @property
    def _last(self) -> float:
        assert self.last_t_s is not None
        return self.last_t_s

    # -- single frames

    def _begin(self, frame: _Held[Item]) -> None:
        if frame.stamp_s is None:
            if self._sought:
                self._drop([frame])
            else:
                self._give(frame, 0.0, repaired=True)
            return
        if self._zero_s is None:
            self._zero_s = frame.stamp_s
        self._give(frame, frame.stamp_s - self._zero_s)

    def _fill(self, frame: _Held[Item]) -> None:
        """Give a frame without a stamp: by the decoding stamps, or at the usual distance."""
        step_s = None
        if frame.dts_s is not None and self._last_dts_s is not None:
            step_s = frame.dts_s - self._last_dts_s
        if step_s is None or not MIN_STEP_S < step_s <= CLOCK_RESTART_S:
            step_s = self._spacing_s()
        self._give(frame, self._last + step_s, repaired=True)

    def _give(self, frame: _Held[Item], t_s: float, *, repaired: bool = False) -> None:
        last = self.last_t_s
        if last is not None:
            step_s = t_s - last
            if step_s > CLOCK_RESTART_S:
                if self._leaps_s + step_s > MAX_LEAPS_S:
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

    def _drop(self, frames: Sequence[_Held[Item]]) -> None:
        self._ready += [Timed(frame.item, None, False) for frame in frames]

    def _give_later(self, frames: Sequence[_Held[Item]]) -> None:
        """Give the frames whose stamps lie behind the last time, and drop the others."""
        for frame in frames:
            t_s = self._stamped_s(frame)  # anew for each: a leap that is not believed moves the clock
            if t_s - self._last >= MIN_STEP_S:
                self._give(frame, t_s)
            else:
                self._drop([frame])

    def _give_evenly(self, frames: Sequence[_Held[Item]], within_s: float = math.inf) -> None:
        """Give frames at the usual distance from the last one, and carry the clock on from there."""
        if not frames:
            return
        spacing_s = min(self._spacing_s(), CLOCK_RESTART_S, within_s / (len(frames) + 1))
        for frame in frames:
            self._give(frame, self._last + spacing_s, repaired=True)
        if within_s == math.inf:
            stamped = next((frame for frame in reversed(frames) if frame.stamp_s is not None), None)
            if stamped is not None:
                self._carry_on(stamped, self._last)

    # -- frames that are held

    def _time_s(self, frame: _Held[Item]) -> float | None:
        return None if frame.stamp_s is None or self._zero_s is None else frame.stamp_s - self._zero_s

    def _stamped_s(self, frame: _Held[Item]) -> float:
        t_s = self._time_s(frame)
        assert t_s is not None
        return t_s

    def _settle(self) -> None:
        """Settle the held frames as far as the newest one allows."""
        held, last = self._held, self._last
        newest_s = self._time_s(held[-1])
        if len(held) == 1 and newest_s is not None:
            if self._settle_crawl(held[0]):
                return
            if MIN_STEP_S <= newest_s - last <= self._longest_step_s() and not self._is_tiny(newest_s - last):
                self._give(held.pop(), newest_s)
            return
        if all(self._is_tiny_after(k) for k in range(len(held))):
            if len(held) >= CRAWLING:
                self._mend_crawl()
            return
        if newest_s is not None and all(self._is_tiny_after(k) for k in range(len(held) - 1)):
            # A burst: frames that came together, not a clock that crawls.
            newest = held.pop()
            self._give_later(self._take_held())
            self._held = [newest]
            self._settle()
            return
        if newest_s is not None and MIN_STEP_S <= newest_s - last <= self._longest_step_s(len(held)):
            earlier = [self._time_s(frame) for frame in held[:-1]]
            if any(t_s is None or t_s <= last + MIN_STEP_S or t_s >= newest_s for t_s in earlier):
                newest = held.pop()
                self._repair_between(self._take_held(), newest_s)
                self._give(newest, newest_s)
                return
        run = self._run()
        if run >= CONFIRMING:
            self._believe(run)
        elif len(held) >= MAX_HELD:
            self._held = []
            if all(self._is_behind(frame) for frame in held):
                self._drop(held)
            else:
                self._give_evenly(held)

    def _settle_end(self) -> None:
        all_tiny = all(self._is_tiny_after(k) for k in range(len(self._held)))
        if not all_tiny and (run := self._run()) >= 2:
            self._believe(run)
            return
        held = self._take_held()
        t_s = self._time_s(held[0])
        if all_tiny or (len(held) == 1 and t_s is not None and abs(t_s - self._last) <= CLOCK_RESTART_S):
            self._give_later(held)
        else:
            self._give_evenly(held)

    def _is_behind(self, frame: _Held[Item]) -> bool:
        """Return True for a stamp at or behind the last time, but not so far that the clock restarted."""
        t_s, last = self._time_s(frame), self.last_t_s
        if t_s is None or last is None:
            return False
        # Behind the very first frame lies nothing: then it is that frame's stamp that was wrong.
        earliest_s = last - MIN_STEP_S if self._before_s is None else last - CLOCK_RESTART_S
        return earliest_s <= t_s < last + MIN_STEP_S

    def _run(self) -> int:
        """Return the length of the increasing run at the end of the held frames."""
        n, after = 0, math.inf
        for frame in reversed(self._held):
            t_s = self._time_s(frame)
            if t_s is None or after - t_s < MIN_STEP_S:
                break
            n, after = n + 1, t_s
        return n

    def _believe(self, run: int) -> None:
        """Take the stamps of the last ``run`` held frames as true: a leap, a restart, or frames behind the last one."""
        last = self._last
        strays, kept = self._held[:-run], self._held[-run:]
        self._held = []
        times = [self._stamped_s(frame) for frame in kept]
        self._run_step_s = statistics.median(after - t_s for t_s, after in pairwise(times))
        if self._is_behind(kept[0]):
            # Frames are dropped until the stamps have passed the last time.
            self._drop(strays)
            self._give_later(kept)
            return
        if times[0] < last:
            self._give_evenly(strays)
            t_s = self._last + self._spacing_s()
            self._carry_on(kept[0], t_s)
            self.n_restarts += 1
            self._give(kept.pop(0), t_s, repaired=True)
        else:
            room_s = times[0] - last
            if room_s >= MIN_ROOM * (len(strays) + 1) * self._spacing_s():
                self._give_evenly(strays, within_s=room_s)
            else:
                self._drop(strays)
        for frame in kept:
            self._give(frame, self._stamped_s(frame))

    def _repair_between(self, held: Sequence[_Held[Item]], next_s: float) -> None:
        """Put frames between the last time and the next, or drop them where there is no room for them."""
        last, before = self._last, self._before_s
        n_steps = len(held) + 1
        try:
            has_room = next_s - last >= MIN_ROOM * n_steps * self._spacing_s()
        except NoClock:
            has_room = False
        times = [self._time_s(frame) for frame in held]
        # A stamp between the last two frames given is right: its frame came too late, and has no place here.
        is_late = before is not None and any(t_s is not None and before < t_s < last for t_s in times)
        if not has_room or is_late:
            self._drop(held)
            return
        for k, frame in enumerate(held, start=1):
            self._give(frame, last + (next_s - last) * k / n_steps, repaired=True)

    # -- stamps that crawl

    def _settle_crawl(self, frame: _Held[Item]) -> bool:
        """Give the frame at the usual distance while stamps crawl; return False if they do not."""
        if not self._crawls:
            return False
        assert self._last_stamp_s is not None and frame.stamp_s is not None
        self._crawls = self._is_tiny(frame.stamp_s - self._last_stamp_s)
        if self._crawls:
            self._give_crawling(self._take_held())
        return self._crawls

    def _mend_crawl(self) -> None:
        if self._usual_step_s() is None:
            raise NoClock(f"its time stamps are less than {MIN_STEP_S * 1e6:.0f} microseconds apart")
        self._crawls = True
        self._give_crawling(self._take_held())

    def _give_crawling(self, frames: Sequence[_Held[Item]]) -> None:
        for frame in frames:
            t_s = self._last + self._spacing_s()
            self.n_crawling += 1
            self._give(frame, t_s, repaired=True)
            self._carry_on(frame, t_s)

    def _is_tiny_after(self, k: int) -> bool:
        """Return True if held frame k follows the frame before it at a crawling distance."""
        t_s = self._time_s(self._held[k])
        before_s = self.last_t_s if k == 0 else self._time_s(self._held[k - 1])
        return t_s is not None and before_s is not None and self._is_tiny(t_s - before_s)

    def _is_tiny(self, step_s: float) -> bool:
        usual_s = self._usual_step_s()
        # Rounding of large stamps makes equal ones differ by less than this.
        return 1e-6 < step_s < (MIN_STEP_S if usual_s is None else min(usual_s / 10, CRAWL_S))

    # -- distances

    def _usual_step_s(self) -> float | None:
        """Return the distance of frames from the last steps, or from the header; None where neither says."""
        if len(self._steps_s) >= USUAL_STEPS:
            return statistics.median(self._steps_s)
        nominal_s = self._nominal_step_s
        return nominal_s if nominal_s is not None and 0.001 <= nominal_s <= CLOCK_RESTART_S else None

    def _longest_step_s(self, n_steps: int = 1) -> float:
        """Return the longest time over ``n_steps`` that needs no confirmation."""
        usual_s = self._usual_step_s() or (statistics.median(self._steps_s) if self._steps_s else 0.0)
        return max(HELD_STEP_S, HELD_STEPS * usual_s) + (n_steps - 1) * usual_s

    def _spacing_s(self) -> float:
        """Return the likeliest distance from the last frame to the next."""
        usual_s = self._usual_step_s()
        if self._last_step_s is not None and (usual_s is None or 0.1 < self._last_step_s / usual_s < 10):
            return self._last_step_s
        if self._steps_s:
            return statistics.median(self._steps_s)
        guess_s = self._nominal_step_s if self._nominal_step_s is not None else self._run_step_s
        if guess_s is None:
            raise NoClock("its time stamps are missing or contradict each other")
        return min(guess_s, CLOCK_RESTART_S)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
