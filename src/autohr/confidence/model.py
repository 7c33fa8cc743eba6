"""Confidence: a logistic regression on the evidence, with its fitted weights."""

from __future__ import annotations

import numpy as np

from autohr.types import Evidence, Float

RELIABLE_CONFIDENCE = 0.85
"""Confidence from which a rate is called reliable. Of the fit's readings above it 97 % of 430 were right (formulas) and
all of 180 (AutoHR, before ``at_key_frames``); of the right ones that nothing vetoes 68 and 96 % were above."""

MOST_CONFIDENCE = 0.97
"""No more than the fit can know: of its readings above 0.95 one of 293 was wrong (formulas) and none of 174 (AutoHR),
all of clips made like those that it was fitted on; neighbours share most of their seconds."""

# Weights of the logistic regression in the order of `features`, then its constant, made by
# benchmarks/confidence.py --fit --clips 120 --portraits DIR with the shipped weights of AutoHR: 288 clips, of whose
# readings nothing vetoes 1395 of five formulas and 301 of the net (before `at_key_frames` was asked). Agreement of a
# net's quarters and of POS in the parts of a grid are two things, and so are their witnesses: nets and formulas have
# their own. Motion weighs nothing below its veto. Of the formulas MVDR alone reads crops, and so alone has evidence of
# the skin.
WEIGHTS = np.array([0.501, 1.579, 2.594, 0.000, 0.464, 0.215, 1.360, 0.898, 0.472])
NET_WEIGHTS = np.array([2.134, 1.670, 0.095, 0.000, 0.738, 2.211, 0.000, 0.899, 1.587])


def features(evidence: Evidence) -> Float:
    """The numbers (F,) that ``confidence`` weighs, each bent so that its ends saturate and grows with trust."""
    return np.array(
        [
            np.clip(evidence.snr_db, -10, 10) / 5,
            -np.log(1.03 - evidence.agreement),  # 0.75 and 0.85 differ little, 0.9 and 0.99 much
            -3 * evidence.background,
            -3 * evidence.motion,
            -np.log1p(evidence.halves_bpm / 3),
            -np.log1p(evidence.witness_bpm / 3),
            -2 * evidence.runner_up,
            np.clip(np.arcsinh(evidence.on_skin / 5), -2, 4),  # 5 is about what chance makes; 200 is no surer than 100
        ]
    )


def confidence(evidence: Evidence) -> float:
    """0..1: chance that the rate lies within 5 bpm of the truth, calibrated on synthetic clips (see the module)."""
    weights = NET_WEIGHTS if evidence.own_parts else WEIGHTS
    score = float(features(evidence) @ weights[:-1] + weights[-1])
    return min(MOST_CONFIDENCE, float(1 / (1 + np.exp(-np.clip(score, -30, 30)))))
