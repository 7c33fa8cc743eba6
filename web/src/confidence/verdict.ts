/** Verdict on a heart rate: reliable or not, and the reason in words, as `autohr.confidence.verdict`. */

import { SignalTooShort } from "../errors";
import { isFinite } from "../signals/arrays";
import { BAND_BPM, estimateHeartRate } from "../signals/rate";
import type { Estimate, Evidence, FaceClip, Pulse } from "../types";
import fitted from "../../../src/autohr/confidence/fitted.json";
import { gatherEvidence, mvdrWave, windowColours } from "./evidence";
import { confidence, isTrusted } from "./model";

export const LEAST_S: number = fitted.least_s;
export const TRUSTED_S: number = fitted.trusted_s;
export const LEAST_FPS = (2.2 * BAND_BPM[1]) / 60;
export const LEAST_FOUND: number = fitted.least_found;
export const VETOED_CONFIDENCE: number = fitted.vetoed_confidence;
export const NET_LEAD_S: number = fitted.net_lead_s;
export const SAME_BPM: number = fitted.same_bpm;
export const IMPOSTOR: number = fitted.impostor;
export const LIGHT_IMPOSTOR: number = fitted.light_impostor;
export const LIT: number = fitted.lit;
export const SKIN_ALONE: number = fitted.skin_alone;
export const LIGHT_FOR_SURE: number = fitted.light_for_sure;
export const NO_BLOOD: number = fitted.no_blood;
export const HALVES_BPM: number = fitted.halves_bpm;
export const RIVAL: number = fitted.rival;

/** Estimate the rate of the wave of the shipped net, with its confidence and whether it is reliable. */
export function estimate(clip: FaceClip, pulse: Pulse): Estimate {
  const durationS = clip.rgb.length / clip.fps;
  if (durationS < LEAST_S - 0.5 / clip.fps) {
    throw new SignalTooShort(`${durationS.toFixed(1)} s of face; at least ${LEAST_S} s are needed.`);
  }
  const none = { hr_bpm: null, confidence: 0, reliable: false, snr_db: null, evidence: null, witness: null };
  if (!isFinite(pulse.bvp)) {
    return { ...none, why_unreliable: "the method gives no finite wave", pulse: null };
  }
  const rate = estimateHeartRate(pulse.bvp, pulse.fps);
  if (rate.hr_bpm === null || rate.snr_db === null) {
    return { ...none, why_unreliable: "the skin's colour does not change at all", pulse };
  }
  const colours = windowColours(clip);
  const witness = mvdrWave(clip, colours);
  const evidence = gatherEvidence(clip, colours, pulse, witness, rate, "net", NET_LEAD_S);
  let chance = confidence(evidence);
  let why = veto(clip, evidence);
  if (why !== null) chance = Math.min(chance, VETOED_CONFIDENCE);
  else if (!isTrusted(evidence)) why = whyUnreliable(evidence);
  return {
    hr_bpm: rate.hr_bpm,
    confidence: chance,
    reliable: why === null,
    snr_db: rate.snr_db,
    why_unreliable: why,
    evidence,
    pulse,
    witness,
  };
}

export function isLight(evidence: Evidence): boolean {
  return evidence.background > LIGHT_IMPOSTOR || evidence.on_skin < -LIT || evidence.blood < -NO_BLOOD;
}

/** Return true if no other evidence can make the rate reliable. */
export function isRefused(evidence: Evidence): boolean {
  if (evidence.on_skin < -LIGHT_FOR_SURE || evidence.blood < -NO_BLOOD) return true;
  return evidence.kind === "colours" && evidence.at_key_frames && isCodec(evidence);
}

export function isCodec(evidence: Evidence): boolean {
  return evidence.redrawn > IMPOSTOR && (evidence.at_key_frames || evidence.on_skin < SKIN_ALONE);
}

export function isMovement(evidence: Evidence): boolean {
  return evidence.motion > IMPOSTOR;
}

/** Name, in words for a person, what the rate may be instead of a pulse; null if nothing points to it. */
export function impostor(evidence: Evidence): string | null {
  if (isLight(evidence)) {
    const where =
      evidence.background > LIGHT_IMPOSTOR
        ? "the background beats at the same rate"
        : evidence.on_skin < -LIT
          ? "hair, clothes or wall beat at the same rate"
          : "red, green and blue beat alike";
    return `${where}: this is the light, not the pulse`;
  }
  if (isCodec(evidence)) return "the colour jumps in the key frames of the file: the video is compressed too much";
  if (isMovement(evidence)) return "the head moves at the same rate: this may be the movement, not the pulse";
  return null;
}

/** Name, in words for a person, the chief reason for a low confidence. */
export function whyUnreliable(evidence: Evidence): string {
  const known = impostor(evidence);
  if (known !== null) return known;
  if (evidence.agreement < 0.5) return "the parts of the face do not beat together";
  if (evidence.halves_bpm > HALVES_BPM) return "the rate differs between the two halves of the window";
  if (evidence.witness_bpm > 8) return "another way to read the same seconds tells another rate";
  return "the pulse is too weak against the noise";
}

/** Return why the rate cannot be reliable whatever its confidence, or null. */
function veto(clip: FaceClip, evidence: Evidence): string | null {
  const durationS = clip.rgb.length / clip.fps;
  if (durationS < TRUSTED_S - 0.5 / clip.fps) {
    return `only ${durationS.toFixed(1)} s of face: a rate needs ${TRUSTED_S} s to be trusted`;
  }
  const foundShare = clip.found.filter(Boolean).length / clip.found.length;
  if (foundShare < LEAST_FOUND) return `the face was seen in only ${(100 * foundShare).toFixed(0)} % of the frames`;
  if (isRefused(evidence)) return impostor(evidence);
  const isTorn = evidence.halves_bpm > HALVES_BPM && evidence.runner_up > RIVAL && evidence.on_skin < SKIN_ALONE;
  return isTorn ? whyUnreliable(evidence) : null;
}
