"""Fitted model of confidence: a logistic regression on the evidence.

The weights were fitted by ``benchmarks/confidence.py --fit --clips 120 --portraits DIR`` on synthetic clips with and
without a pulse, with the shipped weights of AutoHR: 288 clips, with 1395 readings of five formulas and 301 of the net
that no veto refuses (before ``at_key_frames`` was asked). Nets and formulas have weights of their own, because the
agreement of a net's quarters and that of POS in the parts of a grid are different things, and so are their witnesses.
Motion weighs nothing below its veto. Of the formulas only MVDR reads crops, and so only it has evidence of the skin.
"""

from __future__ import annotations

import numpy as np

from autohr.types import Evidence, Float

RELIABLE_CONFIDENCE = 0.85
"""Confidence from which a rate is called reliable. Of the fit's readings above it 97 % of 430 were right (formulas) and
all of 180 (AutoHR, before ``at_key_frames``); of the right ones that no veto refuses 68 and 96 % were above."""

MAX_CONFIDENCE = 0.97
"""Highest confidence that is stated, which is what the fit can support: of its readings above 0.95 one of 293 was wrong
(formulas) and none of 174 (AutoHR), all of clips made like those of the fit; neighbours share most of their seconds."""

WEIGHTS = np.array([0.501, 1.579, 2.594, 0.000, 0.464, 0.215, 1.360, 0.898, 0.472])
"""Weights for formulas, in the order of ``features``, and the constant."""

NET_WEIGHTS = np.array([2.134, 1.670, 0.095, 0.000, 0.738, 2.211, 0.000, 0.899, 1.587])
"""Weights for nets that read parts of the face themselves, in the same order."""


def features(evidence: Evidence) -> Float:
    """Return the numbers (F,) that ``confidence`` weighs, saturating at both ends and growing with trust."""
    return np.array(
        [
            np.clip(evidence.snr_db, -10, 10) / 5,
            -np.log(1.03 - evidence.agreement),  # 0.75 and 0.85 differ little, 0.9 and 0.99 much
            -3 * evidence.background,
            -3 * evidence.motion,
            -np.log1p(evidence.halves_bpm / 3),
            -np.log1p(evidence.witness_bpm / 3),
            -2 * evidence.runner_up,
            np.clip(np.arcsinh(evidence.on_skin / 5), -2, 4),  # chance makes about 5; 200 is no surer than 100
        ]
    )


def confidence(evidence: Evidence) -> float:
    """Return the chance, 0..1, that the rate lies within 5 bpm of the truth, calibrated on synthetic clips.

    Examples
    --------
    >>> from dataclasses import replace
    >>> clean = Evidence(
    ...     snr_db=9, agreement=0.97, background=0, motion=0, halves_bpm=0.5, witness_bpm=0.5, redrawn=0,
    ...     at_key_frames=False, runner_up=0.1, on_skin=80,
    ... )
    >>> confidence(clean)
    0.97
    >>> confidence(replace(clean, agreement=0.4, snr_db=-4, on_skin=0)) < RELIABLE_CONFIDENCE
    True
    """
    weights = NET_WEIGHTS if evidence.own_parts else WEIGHTS
    score = float(features(evidence) @ weights[:-1] + weights[-1])
    return min(MAX_CONFIDENCE, float(1 / (1 + np.exp(-np.clip(score, -30, 30)))))
