/** Fitted model of confidence: a logistic regression on the evidence, as `autohr.confidence.model`. */

import type { Evidence, EvidenceKind } from "../types";
import { clip } from "../signals/arrays";
import fitted from "../../../src/autohr/confidence/fitted.json";

export const RELIABLE_CONFIDENCE: Record<EvidenceKind, number> = fitted.reliable_confidence;
export const MAX_CONFIDENCE: number = fitted.max_confidence;
export const WEIGHTS: Record<EvidenceKind, number[]> = fitted.weights;

/** Return the numbers that confidence weighs. */
export function features(evidence: Evidence): number[] {
  return [
    clip(evidence.snr_db, -10, 10) / 5,
    -Math.log(1.03 - evidence.agreement),
    -3 * evidence.background,
    -Math.log1p(evidence.halves_bpm / 3),
    -2 * evidence.runner_up,
    -Math.log1p(evidence.witness_bpm / 3),
    clip(evidence.witness_snr_db, -12, 10) / 5,
    -Math.log(1.2 - evidence.in_step),
    evidence.at_key_frames ? -evidence.redrawn : 0,
    clip(2.5 * evidence.blood, 0, 2),
    (-clip(evidence.witness_snr_db + 3, 0, 10) / 2.5) * clip(0.3 - evidence.blood, 0, 0.6),
    -Math.log1p(Math.max(0, -evidence.on_skin) / 5),
  ];
}

/** Return the chance, 0..1, that the rate lies within 5 bpm of the truth. */
export function confidence(evidence: Evidence): number {
  const weights = WEIGHTS[evidence.kind];
  const score = features(evidence).reduce((total, value, k) => total + value * weights[k], weights[weights.length - 1]);
  return Math.min(MAX_CONFIDENCE, 1 / (1 + Math.exp(-clip(score, -30, 30))));
}

/** Return true if the confidence is high enough to call the rate reliable. */
export function isTrusted(evidence: Evidence): boolean {
  return confidence(evidence) >= RELIABLE_CONFIDENCE[evidence.kind];
}
