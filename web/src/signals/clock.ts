/** Uniform clock: colours read at uneven times, brought to evenly spaced ones, as `autohr.signals.clock`. */

import type { FaceClip } from "../types";
import { type Row, type Rows, isFinite, rint, searchsorted } from "./arrays";
import { resample } from "./filters";

export const REGION_KNOWN = 0.5;

/** One followed face in one frame; NaN where it was not seen. */
export interface ClockRow {
  tS: number;
  rgb: Row;
  /** (R * 3) region after region. */
  traces: Row;
  backgroundRgb: Row;
  boxXywh: Row;
  found: boolean;
  whole: boolean;
}

/** Return, for each of atS, the index of the nearest of the increasing tS. */
export function nearest(tS: Row, atS: Row): number[] {
  return Array.from(atS, (at) => {
    if (tS.length === 1) return 0;
    const right = Math.min(Math.max(searchsorted(tS, at), 1), tS.length - 1);
    return right - (at - tS[right - 1] <= tS[right] - at ? 1 : 0);
  });
}

/** Put rows on a clock of fps from startS. */
export function onClock(all: ClockRow[], fps: number, startS: number, nFrames: number): FaceClip {
  const atS = Float64Array.from({ length: nFrames }, (_, k) => startS + k / fps);
  const allS = all.map((row) => row.tS);
  const first = searchsorted(allS, atS[0]), last = searchsorted(allS, atS[nFrames - 1]);
  const rows = all.slice(Math.max(0, first - 1), last + 2);
  const tS = Float64Array.from(rows, (row) => row.tS);

  const shown = nearest(tS, atS);
  const found = shown.map((k, i) => rows[k].found && Math.abs(tS[k] - atS[i]) <= 1 / fps);
  const whole = new Array<boolean>(nFrames).fill(false);
  for (const row of rows) {
    const mark = rint((row.tS - startS) * fps);
    if (row.whole && mark >= 0 && mark < nFrames) whole[mark] = true;
  }
  const nRegions = rows[0].traces.length / 3;
  const traces: Rows[] = [];
  for (let r = 0; r < nRegions; r++) {
    const colours = rows.map((row) => row.traces.subarray(3 * r, 3 * r + 3));
    const known = colours.filter(isFinite).length / rows.length;
    traces.push(known >= REGION_KNOWN ? resample(tS, colours, atS) : unknown(nFrames));
  }
  const lit = rows.filter((row) => isFinite(row.backgroundRgb)).length / rows.length >= REGION_KNOWN;
  return {
    fps,
    startS,
    rgb: resample(tS, rows.map((row) => row.rgb), atS),
    traces,
    backgroundRgb: lit ? resample(tS, rows.map((row) => row.backgroundRgb), atS) : unknown(nFrames),
    boxXywh: resample(tS, rows.map((row) => row.boxXywh), atS),
    found,
    whole,
    cells: null,
    netWave: null,
  };
}

function unknown(nFrames: number): Rows {
  return Array.from({ length: nFrames }, () => new Float64Array(3).fill(NaN));
}
