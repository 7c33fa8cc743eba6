"""Training clips: a stretch of a cached recording with its label, drawn by a seed, or window by window for validation.

    source = ClipSource(open_cached(root, config), n_frames=160, size_px=112, augment=AugmentConfig())
    clip = source.draw([seed, step, rank, i])      the same clip for the same numbers, in any process, at any time

The label is the reference wave, band-passed to ``LABEL_BAND_HZ`` over the whole segment (so that a clip has no filter
edges of its own), cut, and z-scored over the clip. A clip never reaches over a gap, because a segment holds none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.lab.datasets.augment import (
    AugmentConfig,
    Look,
    draw_look,
    erase_tubes,
    resample_tempo,
    show,
    tempo_factor,
    tempo_span,
)
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.repulse import lay_in, new_pulse, take_out
from autohr.signals.filters import HEART_BAND_HZ, bandpass, standardise
from autohr.types import Float, Frame
from autohr.video.pace import clock_change, denser

LABEL_BAND_HZ = HEART_BAND_HZ
"""Band of labels, 0.6 to 4 Hz: that which every method's wave passes before its rate is read. The author's labels hold
little but the fundamental (the one published row: second harmonic 62 dB down; 0.7 to 2.5 Hz would do that), but an
upper edge of 2.5 Hz weakens the fundamental itself above 120 bpm, and a lower one of 0.7 Hz that of the 45 bpm which
DA2 makes."""


@dataclass(frozen=True)
class Clip:
    """One training example."""

    frames: Frame
    """(T, H, W, 3) uint8 RGB."""
    bvp: Float
    """(T,) z-scored reference wave, positive where the skin holds more blood; NaN where the reference has none."""
    hr_bpm: float
    """Mean reference rate over the clip's frames."""
    fps: float
    recording_id: str


class _DenserFrames:
    """Frames of a recording with others put between them, made when they are read, so that they stay on the disk."""

    def __init__(self, frames: Frame, times: int) -> None:
        self._frames, self._times = frames, times
        self.shape = (times * (len(frames) - 1) + 1, *frames.shape[1:])

    def __getitem__(self, part: int | slice) -> Frame:
        if isinstance(part, slice):
            start, stop, step = part.indices(self.shape[0])
            first, last = start // self._times, -(-(stop - 1) // self._times)
            return denser(self._frames[first : last + 1], self._times)[start - first * self._times :][
                : stop - start : step
            ]
        one: Frame = self[part : part + 1][0]
        return one


def at_clock(recording: CachedRecording, least_fps: float, most_fps: float) -> CachedRecording:
    """Return a recording as a net for ``least_fps`` .. ``most_fps`` sees it (``video.pace``).

    Frames are put between, or left out; the reference alike, interpolated linearly.
    """
    times, every = clock_change(recording.fps, least_fps, most_fps)
    if times > 1:
        n_frames = times * (recording.n_frames - 1) + 1
        place = np.arange(n_frames) / times
        known = np.arange(recording.n_frames)
        return replace(
            recording,
            fps=recording.fps * times,
            frames=cast(Frame, _DenserFrames(recording.frames, times)),
            bvp=np.interp(place, known, recording.bvp),
            hr_bpm=np.interp(place, known, recording.hr_bpm),
            found=recording.found[np.rint(place).astype(int)],
            colours=None,
        )
    if every > 1:
        names = ("frames", "bvp", "hr_bpm", "found")
        fewer: dict[str, Any] = {name: getattr(recording, name)[::every] for name in names}
        return replace(recording, fps=recording.fps / every, colours=None, **fewer)
    return recording


class ClipSource:
    """Clips of one length and size from cached recordings.

    Every segment is as likely as any other, however long it is; so a few long recordings do not outweigh many.

    ``n_frames`` is a clip's length, whatever the frames per second, and ``size_px`` its side; segments that are shorter
    are listed in ``left_out``. ``draw`` augments as ``augment`` says, ``window`` never does. ``stride`` counts the
    frames from one validation window to the next, ``n_frames`` if None; the frames after the last whole window of a
    segment are in none. ``needs_bvp=False`` takes recordings without a wave, for nets that learn rates.

    Raises
    ------
    ValueError
        For n_frames, size_px or stride out of range, or a recording without a wave.
    SignalTooShort
        No segment is as long as a clip.
    """

    def __init__(
        self,
        recordings: Sequence[CachedRecording],
        n_frames: int,
        size_px: int,
        augment: AugmentConfig | None = None,
        *,
        stride: int | None = None,
        needs_bvp: bool = True,
    ) -> None:
        if n_frames < 2 or size_px < 2:
            raise ValueError(f"n_frames={n_frames} and size_px={size_px} must be 2 or more.")
        if stride is not None and stride < 1:
            raise ValueError(f"stride={stride} must be 1 or more frames.")
        mute = [one.recording_id for one in recordings if not one.has_bvp]
        if needs_bvp and mute:
            raise ValueError(
                f"{len(mute)} recording(s) have a rate but no pulse wave, first {mute[0]!r}. "
                "Leave them out, or train a net that learns rates (needs_bvp=False)."
            )
        self.recordings = [one for one in recordings if one.n_frames >= n_frames]
        self.left_out = {
            f"{one.recording_id} (segment {one.segment})": f"{one.n_frames} frames; a clip has {n_frames}"
            for one in recordings
            if one.n_frames < n_frames
        }
        if not self.recordings:
            longest = max((one.n_frames for one in recordings), default=0)
            raise SignalTooShort(
                f"None of {len(recordings)} segments holds a clip of {n_frames} frames; the longest has {longest}. "
                "Use shorter clips or longer recordings."
            )
        self.n_frames = n_frames
        self.size_px = size_px
        self.augment = augment
        self.stride = n_frames if stride is None else stride
        self._waves: dict[tuple[int, float], Float] = {}
        """Label waves by (recording, tempo factor)."""
        self._first_window = np.cumsum([0, *((one.n_frames - n_frames) // self.stride + 1 for one in self.recordings)])

    def __len__(self) -> int:
        """Return the number of segments that clips are drawn from."""
        return len(self.recordings)

    @property
    def n_windows(self) -> int:
        """Number of validation windows in all segments together."""
        return int(self._first_window[-1])

    def draw(self, seed: Sequence[int]) -> Clip:
        """Draw a random clip of a random segment, augmented; all of it decided by ``seed`` (no negative numbers)."""
        rng = np.random.default_rng(list(seed))
        number = int(rng.integers(len(self.recordings)))
        recording = self.recordings[number]
        start = int(rng.integers(recording.n_frames - self.n_frames + 1))
        if self.augment is None:
            return self._read(number, start, 1.0, Look())
        factor = 1.0
        # Drawn only where it is on, so that recipes without it draw the same clips as before it existed.
        renewed = self.augment.pulse and recording.has_bvp and bool(rng.uniform() < self.augment.pulse_p)
        if self.augment.tempo and rng.uniform() < self.augment.tempo_p:
            start, factor = self._tempo(recording, start, None if renewed else self.augment)
        example = recording.frames[start + self.n_frames // 4]
        look = draw_look(rng, self.augment, example)
        clip = self._read(number, start, factor, look, rng if renewed else None)
        if self.augment.erase and rng.uniform() < self.augment.erase_p:
            erase_tubes(clip.frames, rng, self.augment)
        if self.augment.reverse and rng.uniform() < self.augment.reverse_p:
            return replace(clip, frames=np.ascontiguousarray(clip.frames[::-1]), bvp=clip.bvp[::-1].copy())
        return clip

    def window(self, i: int) -> Clip:
        """Return validation window number ``i``, 0 .. n_windows - 1: not augmented, the same every time."""
        if not 0 <= i < self.n_windows:
            raise IndexError(f"Window {i} is outside 0..{self.n_windows - 1}.")
        number = int(np.searchsorted(self._first_window, i, side="right")) - 1
        return self._read(number, (i - int(self._first_window[number])) * self.stride, 1.0, Look())

    def windows(self) -> Iterator[Clip]:
        """Yield all validation windows, one after the other; only one is held in memory."""
        for i in range(self.n_windows):
            yield self.window(i)

    def _tempo(self, recording: CachedRecording, start: int, augment: AugmentConfig | None) -> tuple[int, float]:
        """Return start and factor of DA2 for a clip that would begin at ``start``.

        Without ``augment``, for one whose pulse is still to be chosen: movement and light at half the speed.
        """
        factor = 0.5
        if augment is not None:
            factor = tempo_factor(float(recording.hr_bpm[start : start + self.n_frames].mean()), augment)
        span = tempo_span(self.n_frames, factor)
        if factor == 1.0 or span > recording.n_frames:
            return start, 1.0
        first = min(start, recording.n_frames - span)
        if augment is None:
            return first, factor
        # The stretch that is really read must ask for the same: a rate that rises through 70 in it does not.
        if tempo_factor(float(recording.hr_bpm[first : first + span].mean()), augment) != factor:
            return start, 1.0
        return first, factor

    def _read(
        self, number: int, start: int, factor: float, look: Look, new_pulse_rng: np.random.Generator | None = None
    ) -> Clip:
        """Return the clip that begins at frame ``start``; with a generator given, with another pulse."""
        recording = self.recordings[number]
        part = slice(start, start + tempo_span(self.n_frames, factor))
        frames = self._shown(recording, part, factor, look)
        if new_pulse_rng is None:
            wave = resample_tempo(self._wave(number, factor)[part], self.n_frames, factor)
            bvp = standardise(wave) if np.isfinite(wave).all() else np.full(self.n_frames, np.nan)
            hr_bpm = factor * float(recording.hr_bpm[part].mean())
        else:
            take_out(frames, resample_tempo(recording.bvp[part].astype(np.float64), self.n_frames, factor))
            wave, bvp, hr_bpm = new_pulse(self.n_frames, recording.fps, LABEL_BAND_HZ, new_pulse_rng)
            lay_in(frames, wave, new_pulse_rng, (self.augment or AugmentConfig()).pulse_depth)
            np.clip(frames, 0, 255, out=frames)
        return Clip(np.rint(frames).astype(np.uint8), bvp, hr_bpm, recording.fps, recording.recording_id)

    def _shown(self, recording: CachedRecording, part: slice, factor: float, look: Look) -> NDArray[np.float32]:
        """Return the clip's frames (T, S, S, 3), 0..255, not yet rounded."""
        step = 2 if factor == 2.0 else 1
        shown = np.stack([show(frame, look, self.size_px) for frame in recording.frames[part][::step]])
        return resample_tempo(shown, self.n_frames, factor) if factor == 0.5 else shown

    def _wave(self, number: int, factor: float) -> Float:
        """Return the segment's label (T,), in the band that becomes ``LABEL_BAND_HZ`` when resampled by ``factor``."""
        if (number, factor) not in self._waves:
            recording = self.recordings[number]
            low_hz, high_hz = LABEL_BAND_HZ
            wave = recording.bvp
            if recording.has_bvp:
                wave = bandpass(wave, recording.fps, (low_hz / factor, high_hz / factor))
            self._waves[number, factor] = wave
        return self._waves[number, factor]
