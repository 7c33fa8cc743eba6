/** All readings of a meter as one answer, as `autohr.measure`; beats and variability are left to Python. */

import { LEAST_S } from "./confidence/verdict";
import { NoFace, SignalTooShort } from "./errors";
import type { Meter, TooShort } from "./meter";
import { type Row, argmax, hann, interp, max, mean, median, min, rint, searchsorted, sum } from "./signals/arrays";
import { standardise } from "./signals/filters";
import { pooledHeartRate } from "./signals/rate";
import type { FaceMeasurement, Measurement, Pulse, Rate, Reading, Window } from "./types";

export const WITNESS_WEIGHT = 1.5;
export const MIN_RELIABLE_SHARE = 0.5;
export const SAME_BPM = 4.0;
export const MIN_MEAN_CONFIDENCE = 0.7;
export const MIN_FACE_SHARE = 0.9;
export const MAX_JOINED_S = 12 * 3600.0;

/** Return all readings of a meter that has finished as one measurement. */
export function answer(
  meter: Meter,
  readings: Reading[],
  path: string,
  durationS: number,
  frames: { repaired: number; dropped: number },
  notes: string[],
): Measurement {
  if (meter.nFace === 0) {
    throw new NoFace(
      withNotes(
        `No face in any of the ${meter.nFrames} frames of '${path}'. ` +
          "A face must look towards the camera, upright, at least 40 pixels high and lit.",
        notes,
      ),
    );
  }
  const ids = [...new Set(readings.map((reading) => reading.face_id))].sort((a, b) => a - b);
  if (ids.length === 0) throw new SignalTooShort(withNotes(nothingLongEnough(path, meter.tooShort), notes));
  const faces = ids.map((id) => summarise(readings.filter((reading) => reading.face_id === id)));
  const all = [...notes, ...notesOnFaces(meter, durationS)];
  if (faces.length > 1) {
    const main = mainFace(faces);
    all.unshift(
      `${faces.length} faces were measured. Face ${main.id} is the one to take when only one is wanted: it was ` +
        `measured for ${measuredS(main).toFixed(1)} s and ${main.reliable ? "is reliable" : "none is reliable"}.`,
    );
  }
  return {
    method: "autohr",
    duration_s: durationS,
    fps_mean: durationS > 0 ? (meter.nFrames - 1) / durationS : 0,
    frames: {
      read: meter.nFrames,
      face: meter.nFace,
      repaired: frames.repaired + meter.nFilled,
      dropped: frames.dropped,
    },
    faces,
    notes: all,
  };
}

function withNotes(reason: string, notes: string[]): string {
  return notes.length > 0 ? `${reason} Noticed while reading: ${notes.join(" ")}` : reason;
}

/** Return the face to take when only one is wanted: a reliable one before others, then the one measured longest. */
export function mainFace(faces: FaceMeasurement[]): FaceMeasurement {
  const rank = (face: FaceMeasurement) => [Number(face.hr_bpm !== null), Number(face.reliable), measuredS(face)];
  return faces.reduce((best, face) => {
    const a = rank(best), b = rank(face), k = a.findIndex((value, i) => value !== b[i]);
    return k >= 0 && b[k] > a[k] ? face : best;
  });
}

/** Return the seconds that lie in at least one window. */
function measuredS(face: FaceMeasurement): number {
  let totalS = 0, coveredS = -Infinity;
  for (const window of face.windows) {
    totalS += Math.max(0, window.end_s - Math.max(window.start_s, coveredS));
    coveredS = Math.max(coveredS, window.end_s);
  }
  return totalS;
}

/** Return one face's readings as one answer. */
export function summarise(readings: Reading[]): FaceMeasurement {
  const windows = readings
    .slice()
    .sort((a, b) => a.start_s - b.start_s)
    .map((reading): Window => ({ ...rateFields(reading.estimate), start_s: reading.start_s, end_s: reading.end_s }));
  let used = trusted(windows);
  const reliable = used.length > 0;
  if (!reliable) used = windows.filter((window) => window.hr_bpm !== null);
  let hrBpm: number | null = null, confidence = 0, snrDb: number | null = null;
  if (used.length > 0) {
    const rates = used.map((window) => window.hr_bpm as number);
    const weights = used.map((window) => window.confidence + 1e-6);
    const average = sum(rates.map((rate, k) => rate * weights[k])) / sum(weights);
    hrBpm = reliable ? average : pooled(readings, rates, weights);
    confidence = mean(used.map((window) => window.confidence));
    const known = used.flatMap((window) => (window.snr_db === null ? [] : [window.snr_db]));
    snrDb = known.length > 0 ? median(known) : null;
  }
  return {
    id: readings[0].face_id,
    hr_bpm: hrBpm,
    confidence,
    reliable,
    snr_db: snrDb,
    why_unreliable: reliable ? null : chiefReason(windows),
    start_s: windows[0].start_s,
    end_s: max(windows.map((window) => window.end_s)),
    windows,
    bvp: joinWaves(readings),
  };
}

function rateFields({ hr_bpm, confidence, reliable, snr_db, why_unreliable }: Rate): Rate {
  return { hr_bpm, confidence, reliable, snr_db, why_unreliable };
}

/** Return the windows that make the rate over the whole time reliable; none where it is not. */
function trusted(windows: Window[]): Window[] {
  const reliable = windows.filter((window) => window.reliable);
  if (reliable.length === 0) return [];
  if (reliable.length >= MIN_RELIABLE_SHARE * windows.length) return agreeing(reliable);
  const alike = agreeing(windows.filter((window) => window.hr_bpm !== null));
  const isSure = sum(alike.map((window) => window.confidence)) >= MIN_MEAN_CONFIDENCE * windows.length;
  return isSure && alike.some((window) => window.reliable) ? alike : [];
}

/** Return those of some windows with rates that are within SAME_BPM of their median. */
function agreeing(windows: Window[]): Window[] {
  const rates = windows.map((window) => window.hr_bpm as number);
  const centre = weightedMedian(rates, windows.map((window) => window.confidence + 1e-6));
  return windows.filter((_, k) => Math.abs(rates[k] - centre) <= SAME_BPM);
}

/** Return the rate on which all windows' waves agree best. */
function pooled(readings: Reading[], rates: number[], weights: number[]): number | null {
  const estimates = readings.map((reading) => reading.estimate).filter((one) => one.hr_bpm !== null);
  const waves = [
    ...estimates.flatMap((one) => (one.pulse ? [{ wave: one.pulse, weight: 1 }] : [])),
    ...estimates.flatMap((one) => (one.witness ? [{ wave: one.witness, weight: WITNESS_WEIGHT }] : [])),
  ];
  if (waves.length === 0) return weightedMedian(rates, weights);
  return pooledHeartRate(
    waves.map(({ wave }) => wave.bvp),
    waves.map(({ wave }) => wave.fps),
    waves.map(({ weight }) => weight),
  );
}

function weightedMedian(values: number[], weights: number[]): number {
  const order = values.map((_, k) => k).sort((a, b) => values[a] - values[b]), total = sum(weights);
  let share = 0;
  const cumulated = order.map((k) => (share += weights[k]) / total);
  return values[order[searchsorted(cumulated, 0.5)]];
}

function chiefReason(windows: Window[]): string {
  const counts = new Map<string, number>();
  for (const { why_unreliable: why } of windows) if (why !== null) counts.set(why, (counts.get(why) ?? 0) + 1);
  const [reason, count] = [...counts].reduce((best, one) => (one[1] > best[1] ? one : best));
  if (windows.length === 1) return reason;
  const unreliable = windows.filter((window) => !window.reliable).length;
  return `${unreliable} of ${windows.length} windows are not reliable, most often because ${reason} (${count})`;
}

/** Join the windows' waves: each standardised, Hann-weighted, added on the clock of its segment; NaN in between. */
export function joinWaves(readings: Reading[]): Pulse | null {
  let pulses = readings.flatMap((reading) => (reading.estimate.pulse ? [reading.estimate.pulse] : []));
  if (pulses.length === 0) return null;
  const starts = Float64Array.from(pulses, (pulse) => pulse.startS).sort();
  if (starts[starts.length - 1] - starts[0] > MAX_JOINED_S) {
    const nWithin = Array.from(starts, (start, k) => starts.filter((s) => s <= start + MAX_JOINED_S).length - k);
    const firstS = starts[argmax(nWithin)];
    pulses = pulses.filter((pulse) => pulse.startS >= firstS && pulse.startS <= firstS + MAX_JOINED_S);
  }
  const { fps } = pulses[0];
  const startS = min(pulses.map((pulse) => pulse.startS));
  const endS = max(pulses.map((pulse) => pulse.startS + pulse.bvp.length / pulse.fps));
  const n = rint((endS - startS) * fps), total = new Float64Array(n), weight = new Float64Array(n);
  for (const pulse of pulses) {
    let wave: Row = standardise(pulse.bvp);
    if (pulse.fps !== fps) {
      const tS = wave.map((_, k) => k / pulse.fps), nNew = Math.ceil(tS[tS.length - 1] * fps);
      wave = interp(Float64Array.from({ length: nNew }, (_, k) => k / fps), tS, wave);
    }
    const first = rint((pulse.startS - startS) * fps);
    wave = wave.slice(0, n - first);
    // Not zero at the ends: the first and last moments of a face are covered by one window only.
    const window = hann(wave.length);
    wave.forEach((value, k) => {
      total[first + k] += (window[k] + 1e-3) * value;
      weight[first + k] += window[k] + 1e-3;
    });
  }
  return { bvp: total.map((value, k) => (weight[k] > 0 ? value / weight[k] : NaN)), fps, startS };
}

function nothingLongEnough(name: string, tooShort: TooShort[]): string {
  const stretches = tooShort
    .slice(0, 5)
    .map((s) => `face ${s.face_id} from ${s.start_s.toFixed(1)} to ${s.end_s.toFixed(1)} s: ${s.why}`)
    .join("; ");
  const more = tooShort.length > 5 ? `; and ${tooShort.length - 5} more` : "";
  return `No face in '${name}' was followed for the ${LEAST_S} s that a reading needs (${stretches}${more}).`;
}

function notesOnFaces(meter: Meter, durationS: number): string[] {
  const notes: string[] = [], others = meter.aboutOthers();
  if (others) notes.push(others);
  if (meter.nFace < MIN_FACE_SHARE * meter.nFrames) {
    notes.push(
      `A face was seen in ${meter.nFace} of ${meter.nFrames} frames ` +
        `(${((100 * meter.nFace) / meter.nFrames).toFixed(0)} %); the rest of the ${durationS.toFixed(1)} s was left out.`,
    );
  }
  if (meter.nFilled) {
    notes.push(`In ${meter.nFilled} frames the face was lost for less than a second and its colour filled in.`);
  }
  for (const s of meter.tooShort.slice(0, 10)) {
    notes.push(`Face ${s.face_id} from ${s.start_s.toFixed(1)} to ${s.end_s.toFixed(1)} s was left out: ${s.why}.`);
  }
  if (meter.tooShort.length > 10) notes.push(`${meter.tooShort.length - 10} more stretches were left out as too short.`);
  return notes;
}
