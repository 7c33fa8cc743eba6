"""Verdict on a heart rate: reliable or not, and the reason in words."""

from __future__ import annotations

import math

import numpy as np

from autohr.classic.colour import pos
from autohr.confidence.evidence import gather_evidence, mvdr_wave
from autohr.confidence.model import FITTED, confidence, is_trusted
from autohr.errors import SignalTooShort
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS, estimate_heart_rate
from autohr.types import Estimate, Evidence, EvidenceKind, FaceClip, Pulse

LEAST_S: float = FITTED["least_s"]
"""Shortest window, in seconds, that gets a rate at all. The estimator needs 3.75 s."""
assert LEAST_S >= LEAST_PERIODS * 60 / BAND_BPM[0]

TRUSTED_S: float = FITTED["trusted_s"]
"""Shortest window, in seconds, that can be reliable: in a shorter one two rates 8 bpm apart cannot be separated."""

LEAST_FPS = 2.2 * BAND_BPM[1] / 60
"""Frames per second (6.6) below which 180 bpm cannot be told from its mirror image."""

LEAST_FOUND: float = FITTED["least_found"]
"""Share of a window's frames in which the face must have been seen for its rate to be reliable."""

VETOED_CONFIDENCE: float = FITTED["vetoed_confidence"]
"""Highest confidence of a rate that a veto refuses, so that the number and the word agree. Of the vetoed readings of
the fit about one in five was right."""

NET_LEAD_S: float = FITTED["net_lead_s"]
"""Time in seconds by which the wave of the shipped AutoHR is before MVDR's: 0.025 to 0.037 in the median of the right
readings of the fit, whatever the rate."""

SAME_BPM: float = FITTED["same_bpm"]
"""Largest difference, in bpm, at which two methods are taken to agree. Ours: more than half of the 5 bpm within which a
rate counts as right, so that a sure witness speaks for nearly the same rate."""

IMPOSTOR: float = FITTED["impostor"]
LIGHT_IMPOSTOR: float = FITTED["light_impostor"]
"""Evidence of movement or key frames above the first, or of light above the second, is named as the reason of a rate
that is not trusted. A coloured flicker shows at a third of its strength on a background of another colour."""

LIT: float = FITTED["lit"]
SKIN_ALONE: float = FITTED["skin_alone"]
"""Log likelihood ratios of the skin. Below -LIT a beat that is not trusted is a lamp's. Above SKIN_ALONE it is not that
of key frames, which jump on hair as on skin, unless it is at their rate. Chance makes about 5."""

LIGHT_FOR_SURE: float = FITTED["light_for_sure"]
NO_BLOOD: float = FITTED["no_blood"]
"""Evidence from which a beat is light whatever else speaks for it: log likelihood ratio of everything in the crop
against the skin, and ``Evidence.blood`` below -NO_BLOOD. Of the fit's readings by AutoHR 4 % of the right ones are
beyond one of them, of photographs under a flicker 85 %, of lamps on the face alone 41 %."""

HALVES_BPM: float = FITTED["halves_bpm"]
RIVAL: float = FITTED["rival"]
"""A rate is not reliable where the halves of the window differ by more than the first, another peak has more than the
second of its power and the skin does not beat alone. The clips of the fit hardly have such readings. Of 12 that the
confidence called reliable 3 were wrong: 0 of 5 of synthetic people, 3 of 7 of the second world
(benchmarks/second_world.py), on a look at both of which the rule rests."""


def estimate(clip: FaceClip, pulse: Pulse, is_net: bool = False, trusted: bool = True) -> Estimate:
    """Estimate the rate of a pulse wave read from ``clip``, with its confidence and whether it is reliable.

    Parameters
    ----------
    clip
        One window of one face.
    pulse
        The wave that a method read from it.
    is_net
        True for a network's wave.
    trusted
        False for a net whose weights are not those that the confidence was fitted on. Its wave may be clean and steady
        and have nothing to do with the face (a PhysNet of two training steps gave one wave whatever it saw). Its rate
        is reliable only where MVDR in the same clip agrees within ``SAME_BPM``.

    Raises
    ------
    SignalTooShort
        A clip under ``LEAST_S``, or of fewer than ``LEAST_FPS`` frames per second.
    """
    if clip.duration_s < LEAST_S - 0.5 / clip.fps:
        raise SignalTooShort(f"{clip.duration_s:.1f} s of face; at least {LEAST_S:g} s are needed.")
    if not np.isfinite(pulse.bvp).all():
        return Estimate(None, 0.0, False, None, "the method gives no finite wave")
    rate = estimate_heart_rate(pulse.bvp, pulse.fps)
    if rate.hr_bpm is None or rate.snr_db is None:
        return Estimate(None, 0.0, False, None, "the skin's colour does not change at all", pulse=pulse)
    # The one formula that reads crops is MVDR.
    reads_cells = clip.cells is not None or clip.clip is not None
    kind: EvidenceKind = "net" if is_net else "cells" if reads_cells else "colours"
    is_mvdr = reads_cells and not is_net
    witness = Pulse(pos(clip.rgb, clip.fps), clip.fps, clip.start_s) if is_mvdr else mvdr_wave(clip)
    lead_s = 0.0 if not is_net else NET_LEAD_S if trusted else None
    evidence = gather_evidence(clip, pulse, witness, rate, kind, lead_s)
    chance = confidence(evidence)
    why = _veto(clip, evidence)
    if why is None and not trusted and evidence.witness_bpm > SAME_BPM:
        why = "nothing is known of these weights, and MVDR reads another rate"
    if why is not None:
        chance = min(chance, VETOED_CONFIDENCE)
    elif not is_trusted(evidence):
        why = why_unreliable(evidence)
    return Estimate(
        hr_bpm=rate.hr_bpm,
        confidence=chance,
        reliable=why is None,
        snr_db=rate.snr_db,
        why_unreliable=why,
        evidence=evidence,
        pulse=pulse,
        witness=witness if is_net else None,
        second=witness if why is None else None,
    )


def estimate_from_rate(clip: FaceClip, hr_bpm: float) -> Estimate:
    """Judge the rate of a net that gives no wave, by MVDR in the same clip.

    Such nets give a rate for a wall as readily as for a face, and there is no wave to look at. The rate is reliable
    only where MVDR, judged like any formula, is reliable and agrees within ``SAME_BPM``; it then has MVDR's confidence,
    and 0 everywhere else. A rate outside the band in which all methods look is moved to the band's edge. ``snr_db``,
    ``evidence`` and ``pulse`` are None, because they would be another method's.

    Raises
    ------
    SignalTooShort
        As in ``estimate``.
    """
    witness = estimate(clip, mvdr_wave(clip))
    if not math.isfinite(hr_bpm):
        return Estimate(None, 0.0, False, None, "the net's rate is no number")
    hr_bpm = min(max(hr_bpm, BAND_BPM[0]), BAND_BPM[1])
    why = None
    if witness.hr_bpm is None or not witness.reliable:
        why = f"the net gives no wave to check, and MVDR cannot support it: {witness.why_unreliable}"
    elif abs(witness.hr_bpm - hr_bpm) > SAME_BPM:
        why = f"the net gives no wave to check, and MVDR reads {witness.hr_bpm:.0f} bpm"
    return Estimate(hr_bpm, witness.confidence if why is None else 0.0, why is None, None, why)


def is_light(evidence: Evidence) -> bool:
    """Return True if the rate may be that of a lamp or a screen."""
    return evidence.background > LIGHT_IMPOSTOR or evidence.on_skin < -LIT or evidence.blood < -NO_BLOOD


def is_refused(evidence: Evidence) -> bool:
    """Return True if no other evidence can make the rate reliable.

    It is then that of a lamp or a screen for sure or, of a formula that reads mean colours and cannot tell skin from
    hair, that of the file's key frames.
    """
    if evidence.on_skin < -LIGHT_FOR_SURE or evidence.blood < -NO_BLOOD:
        return True
    return evidence.kind == "colours" and evidence.at_key_frames and is_codec(evidence)


def is_codec(evidence: Evidence) -> bool:
    """Return True if the rate may be that of the file's key frames."""
    return evidence.redrawn > IMPOSTOR and (evidence.at_key_frames or evidence.on_skin < SKIN_ALONE)


def is_movement(evidence: Evidence) -> bool:
    """Return True if the rate may be that of the head's movement."""
    return evidence.motion > IMPOSTOR


def impostor(evidence: Evidence) -> str | None:
    """Name, in words for a person, what the rate may be instead of a pulse; None if nothing points to it."""
    if is_light(evidence):
        if evidence.background > LIGHT_IMPOSTOR:
            where = "the background beats at the same rate"
        elif evidence.on_skin < -LIT:
            where = "hair, clothes or wall beat at the same rate"
        else:
            where = "red, green and blue beat alike"
        return f"{where}: this is the light, not the pulse"
    if is_codec(evidence):
        return "the colour jumps in the key frames of the file: the video is compressed too much"
    if is_movement(evidence):
        return "the head moves at the same rate: this may be the movement, not the pulse"
    return None


def why_unreliable(evidence: Evidence) -> str:
    """Name, in words for a person, the chief reason for a low confidence."""
    known = impostor(evidence)
    if known is not None:
        return known
    if evidence.agreement < 0.5:
        return "the parts of the face do not beat together"
    if evidence.halves_bpm > HALVES_BPM:
        return "the rate differs between the two halves of the window"
    if evidence.witness_bpm > 8:
        return "another way to read the same seconds tells another rate"
    return "the pulse is too weak against the noise"


def _veto(clip: FaceClip, evidence: Evidence) -> str | None:
    """Return why the rate cannot be reliable whatever its confidence, or None."""
    if clip.duration_s < TRUSTED_S - 0.5 / clip.fps:
        return f"only {clip.duration_s:.1f} s of face: a rate needs {TRUSTED_S:g} s to be trusted"
    found_share = float(clip.found.mean())
    if found_share < LEAST_FOUND:
        return f"the face was seen in only {100 * found_share:.0f} % of the frames"
    if is_refused(evidence):
        return impostor(evidence)
    is_torn = evidence.halves_bpm > HALVES_BPM and evidence.runner_up > RIVAL and evidence.on_skin < SKIN_ALONE
    return why_unreliable(evidence) if is_torn else None
