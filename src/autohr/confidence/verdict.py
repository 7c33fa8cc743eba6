"""Verdict on a rate: reliable or not, and the reason in words."""

from __future__ import annotations

import math

from autohr.classic.colour import pos
from autohr.confidence.evidence import gather_evidence, mvdr_wave
from autohr.confidence.model import RELIABLE_CONFIDENCE, confidence
from autohr.errors import SignalTooShort
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS, estimate_heart_rate
from autohr.types import Estimate, Evidence, FaceClip, Pulse

LEAST_S = 4.0
"""Shortest window that gets a number at all; under ``TRUSTED_S`` it is never called reliable. The estimator needs
3.75 s."""
assert LEAST_S >= LEAST_PERIODS * 60 / BAND_BPM[0]

LEAST_FPS = 2.2 * BAND_BPM[1] / 60
"""Frames per second below which 180 bpm cannot be told from its mirror image: 6.6."""

LEAST_FOUND = 0.75
"""Share of a window's frames in which the face must really have been seen for its rate to be called reliable."""

VETOED_CONFIDENCE = 0.5
"""Highest confidence of a rate that is not reliable whatever its evidence: the number and the word must agree. Of the
vetoed readings of the fit about one in five was right."""

SAME_BPM = 3.0
"""Two methods say the same rate up to this difference. Ours: over half of the 5 bpm within which a rate counts as
right, so that what the witness is sure of is nearly what the net says."""

TRUSTED_S = 8.0
"""A shorter window is never called reliable: two rates 8 bpm apart cannot be told apart in it."""

IMPOSTOR = 0.5
LIGHT_IMPOSTOR = 0.3
"""Evidence of movement or key frames above the first, of light above the second, makes a rate unreliable whatever else
speaks for it: each of the three can be as regular as a pulse and be seen on the whole face. A coloured flicker shows by
a third only on a background of another colour; on the fit's clips 0.3 took one false alarm of the net away and no right
rate, 0.25 took right ones too."""

LIT, SKIN_ALONE = 10.0, 10.0
"""Likelihoods (logarithms) from which the skin's evidence settles a matter: below -LIT the beat is a lamp's. Above
SKIN_ALONE a beat at another rate than the key frames' is not theirs, for they jump on hair as on skin: of the fit's
readings that jump in step with key frames 44 of AutoHR's 50 above it were right, 27 of 112 below. Chance makes 5. At
the key frames' own rate it settles nothing: the codec made a photograph that sways beat on the skin alone."""


def estimate(clip: FaceClip, pulse: Pulse, trusted: bool = True) -> Estimate:
    """Rate, quality and confidence of a pulse wave that was read from ``clip``.

    ``trusted`` is False for a net on whose weights the confidence was not fitted. Its wave may be clean, steady and the
    same in all parts of the face and have nothing to do with it: a PhysNet of two training steps gave one wave whatever
    it saw. So its rate is reliable only where the witness, MVDR in the same clip, says the same within ``SAME_BPM``.

    Raises:
        SignalTooShort: a clip under ``LEAST_S``, or of fewer than ``LEAST_FPS`` frames per second.
    """
    if clip.duration_s < LEAST_S - 0.5 / clip.fps:
        raise SignalTooShort(f"{clip.duration_s:.1f} s of face; at least {LEAST_S:g} s are needed.")
    rate = estimate_heart_rate(pulse.bvp, pulse.fps)
    if rate.hr_bpm is None or rate.snr_db is None:
        return Estimate(None, 0.0, False, None, "the skin's colour does not change at all", pulse=pulse)
    # Only nets read parts of the face themselves; a formula is no better witness than itself.
    of_net = pulse.parts is not None or not trusted
    witness = mvdr_wave(clip) if of_net else Pulse(pos(clip.rgb, clip.fps), clip.fps, clip.start_s)
    evidence = gather_evidence(clip, pulse, witness, rate.hr_bpm, rate.snr_db, rate.runner_up)
    sure = confidence(evidence)
    why = None
    if clip.duration_s < TRUSTED_S - 0.5 / clip.fps:
        why = f"only {clip.duration_s:.1f} s of face: a rate needs {TRUSTED_S:g} s to be trusted"
    elif float(clip.found.mean()) < LEAST_FOUND:
        why = f"the face was seen in only {100 * float(clip.found.mean()):.0f} % of the frames"
    else:
        why = impostor(evidence)
    if why is None and not trusted and evidence.witness_bpm > SAME_BPM:
        why = "nothing is known of these weights, and MVDR reads another rate"
    if why is not None:
        sure = min(sure, VETOED_CONFIDENCE)
    elif sure < RELIABLE_CONFIDENCE:
        why = why_unreliable(evidence)
    second = None
    if why is None:
        # POS and MVDR of the mean colour alone share most of their noise, so a formula is checked by MVDR of the parts
        # of the face; the one formula that reads crops is MVDR itself.
        second = witness if of_net or clip.clip is not None else mvdr_wave(clip)
    return Estimate(
        rate.hr_bpm,
        sure,
        why is None,
        rate.snr_db,
        why,
        evidence,
        pulse,
        witness=witness if of_net else None,
        second=second,
    )


def estimate_from_rate(clip: FaceClip, hr_bpm: float) -> Estimate:
    """What to think of the rate that a net gives without a wave: as much as MVDR in the same clip supports it.

    There is no wave to look at, and such nets say a rate of a wall as readily as of a face. So the rate is reliable
    only where MVDR, judged like any formula, is reliable and says the same within ``SAME_BPM``; it is then as sure as
    MVDR. Anywhere else nothing is known for it, and the confidence is 0. A rate outside the band in which all methods
    look is taken as the band's edge. ``snr_db``, ``evidence`` and ``pulse`` are None: they would be of another method.

    Raises:
        SignalTooShort: see ``estimate``.
    """
    witness = estimate(clip, mvdr_wave(clip))
    if not math.isfinite(hr_bpm):
        return Estimate(None, 0.0, False, None, "the net's rate is no number")
    hr_bpm = min(max(hr_bpm, BAND_BPM[0]), BAND_BPM[1])
    if witness.hr_bpm is None or not witness.reliable:
        why = f"the net gives no wave to check, and MVDR cannot support it: {witness.why_unreliable}"
        return Estimate(hr_bpm, 0.0, False, None, why)
    if abs(witness.hr_bpm - hr_bpm) > SAME_BPM:
        why = f"the net gives no wave to check, and MVDR reads {witness.hr_bpm:.0f} bpm"
        return Estimate(hr_bpm, 0.0, False, None, why)
    return Estimate(hr_bpm, witness.confidence, True, None)


def is_light(evidence: Evidence) -> bool:
    """Whether the rate may be that of a lamp or a screen."""
    return evidence.background > LIGHT_IMPOSTOR or evidence.on_skin < -LIT


def is_codec(evidence: Evidence) -> bool:
    """Whether it may be that of the file's key frames."""
    return evidence.redrawn > IMPOSTOR and (evidence.at_key_frames or evidence.on_skin < SKIN_ALONE)


def is_movement(evidence: Evidence) -> bool:
    """Whether it may be that of the head."""
    return evidence.motion > IMPOSTOR


def impostor(evidence: Evidence) -> str | None:
    """Which impostor the rate may be, in words for a person; None if there is no sign of one."""
    if is_light(evidence):
        where = "the background beats" if evidence.background > LIGHT_IMPOSTOR else "hair, clothes or wall beat"
        return f"{where} at the same rate: this is the light, not the pulse"
    if is_codec(evidence):
        return "the colour jumps in the key frames of the file: the video is compressed too much"
    if is_movement(evidence):
        return "the head moves at the same rate: this may be the movement, not the pulse"
    return None


def why_unreliable(evidence: Evidence) -> str:
    """The chief reason against a rate of low confidence, in words for a person."""
    if evidence.agreement < 0.5:
        return "the parts of the face do not beat together"
    if evidence.halves_bpm > 8:
        return "the rate differs between the two halves of the window"
    if evidence.witness_bpm > 8:
        return "another way to read the same seconds tells another rate"
    return "the pulse is too weak against the noise"
