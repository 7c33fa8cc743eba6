"""Fitted model of confidence: a logistic regression on the evidence.

The weights were fitted by ``benchmarks/confidence.py --fit --clips 477 --more ROWS --portraits DIR`` on synthetic clips
with and without a pulse, with the shipped weights of AutoHR; ROWS are those of ``--clips 70 --seed 4200000``. Nets,
formulas that read cells of the crop and formulas that read mean colours have weights of their own: their witnesses are
different things. Movement is no part of it: fitted, its weight is 0. So was that of the agreement of a net's own
readings of four quarters of the face, which cost as much as the reading of the whole; that of POS in a grid tells a
lamp on the face alone.

What was fitted or chosen on clips stands in ``fitted.json``, which the page in the tab (``web/``) reads too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autohr.types import Evidence, EvidenceKind, Float

FITTED: Mapping[str, Any] = json.loads(Path(__file__).with_name("fitted.json").read_text(encoding="utf-8"))
"""The numbers of the confidence and the verdict; each is explained at the constant that it becomes."""

RELIABLE_CONFIDENCE: Mapping[EvidenceKind, float] = FITTED["reliable_confidence"]
"""Confidence from which a rate is called reliable. Of the fit's readings above it 3 of 443, 0 of 414 and 2 of 737 were
wrong, each judged by weights fitted without its clip, and lamps on the face alone left out (of them 11 of 62, 13 of 69
and 2 of 280 are above it). Of the right ones that are not refused for sure 75, 62 and 59 % are above."""

MAX_CONFIDENCE: float = FITTED["max_confidence"]
"""Highest confidence that is stated, which is what the fit can support: of its readings above 0.95 one of 335, none of
324 and none of 614 was wrong, judged in the same way; neighbours share most of their seconds."""

WEIGHTS: Mapping[EvidenceKind, Float] = {kind: np.array(row) for kind, row in FITTED["weights"].items()}
"""Weights in the order of ``features``, and the constant."""


def features(evidence: Evidence) -> Float:
    """Return the numbers (F,) that ``confidence`` weighs, saturating at both ends and growing with trust."""
    return np.array(
        [
            np.clip(evidence.snr_db, -10, 10) / 5,
            -np.log(1.03 - evidence.agreement),  # 0.75 and 0.85 differ little, 0.9 and 0.99 much
            -3 * evidence.background,
            -np.log1p(evidence.halves_bpm / 3),
            -2 * evidence.runner_up,
            -np.log1p(evidence.witness_bpm / 3),
            np.clip(evidence.witness_snr_db, -12, 10) / 5,
            -np.log(1.2 - evidence.in_step),
            -evidence.redrawn if evidence.at_key_frames else 0.0,
            np.clip(2.5 * evidence.blood, 0, 2),
            # The clearer a beat, the surer its colours are not those of blood.
            -np.clip(evidence.witness_snr_db + 3, 0, 10) / 2.5 * np.clip(0.3 - evidence.blood, 0, 0.6),
            -np.log1p(max(0.0, -evidence.on_skin) / 5),  # chance makes about 5
        ]
    )


def confidence(evidence: Evidence) -> float:
    """Return the chance, 0..1, that the rate lies within 5 bpm of the truth, calibrated on synthetic clips.

    Examples
    --------
    >>> from dataclasses import replace
    >>> clean = Evidence(
    ...     snr_db=9, agreement=0.97, background=0, motion=0, halves_bpm=0.5, witness_bpm=0.5, witness_snr_db=6,
    ...     in_step=0.9, redrawn=0, at_key_frames=False, runner_up=0.1, on_skin=80, blood=0.5,
    ... )
    >>> confidence(clean), is_trusted(clean)
    (0.97, True)
    >>> is_trusted(replace(clean, in_step=0.1, witness_snr_db=-4, blood=-0.2))
    False
    """
    weights = WEIGHTS[evidence.kind]
    score = float(features(evidence) @ weights[:-1] + weights[-1])
    return min(MAX_CONFIDENCE, float(1 / (1 + np.exp(-np.clip(score, -30, 30)))))


def is_trusted(evidence: Evidence) -> bool:
    """Return True if the confidence is high enough to call the rate reliable."""
    return confidence(evidence) >= RELIABLE_CONFIDENCE[evidence.kind]
