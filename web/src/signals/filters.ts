/** Filters for pulse signals, as `autohr.signals.filters`; `fs` is in samples per second.
 *
 * Python solves them by Fourier transforms, which numpy does fast; here the same equations are solved directly.
 */

import { SignalTooShort } from "../errors";
import { type Row, type Rows, interp, max, mean, min, std } from "./arrays";
import { fft } from "./fourier";

export const HEART_BAND_HZ: readonly [number, number] = [0.6, 4.0];

/** Remove the slow trend from x by smoothness priors (Tarvainen et al. 2002). */
export function detrend(x: Row, fs: number, cutoffHz = 0.4): Row {
  return detrendRows([x], fs, cutoffHz)[0];
}

export function detrendRows(rows: Rows, fs: number, cutoffHz = 0.4): Rows {
  if (rows.length === 0) return [];
  const n = rows[0].length;
  if (n < 3) throw new SignalTooShort(`${n} samples cannot be detrended; give at least 3.`);
  const lambdaSquared = (1 + Math.SQRT2) / (2 * Math.sin((Math.PI * cutoffHz) / fs)) ** 4;
  // I + lambda^2 D'D has five diagonals; L L' of it (L with ones on its diagonal times d).
  const main = new Float64Array(n).fill(1), one = new Float64Array(n), two = new Float64Array(n);
  for (let k = 0; k + 2 < n; k++) {
    main[k] += lambdaSquared;
    main[k + 1] += 4 * lambdaSquared;
    main[k + 2] += lambdaSquared;
    one[k] -= 2 * lambdaSquared;
    one[k + 1] -= 2 * lambdaSquared;
    two[k] += lambdaSquared;
  }
  const d = new Float64Array(n), l1 = new Float64Array(n), l2 = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    d[k] = main[k];
    if (k >= 1) d[k] -= l1[k - 1] ** 2 * d[k - 1];
    if (k >= 2) d[k] -= l2[k - 2] ** 2 * d[k - 2];
    l1[k] = (one[k] - (k >= 1 ? l1[k - 1] * d[k - 1] * l2[k - 1] : 0)) / d[k];
    l2[k] = two[k] / d[k];
  }
  return rows.map((row) => {
    const flat = removeLine(row);
    const y = flat.slice();
    for (let k = 0; k < n; k++) {
      if (k >= 1) y[k] -= l1[k - 1] * y[k - 1];
      if (k >= 2) y[k] -= l2[k - 2] * y[k - 2];
    }
    for (let k = 0; k < n; k++) y[k] /= d[k];
    for (let k = n - 1; k >= 0; k--) {
      if (k + 1 < n) y[k] -= l1[k] * y[k + 1];
      if (k + 2 < n) y[k] -= l2[k] * y[k + 2];
    }
    return flat.map((value, k) => value - y[k]);
  });
}

/** Filter x by a Butterworth band-pass with zero phase. */
export function bandpass(x: Row, fs: number, bandHz: readonly [number, number] = HEART_BAND_HZ, order = 2): Row {
  return bandpassRows([x], fs, bandHz, order)[0];
}

export function bandpassRows(
  rows: Rows,
  fs: number,
  bandHz: readonly [number, number] = HEART_BAND_HZ,
  order = 2,
): Rows {
  const lowHz = bandHz[0], highHz = Math.min(bandHz[1], 0.475 * fs);
  if (!(lowHz > 0 && lowHz < highHz)) throw new RangeError(`band_hz=${bandHz.join(", ")} does not fit fs=${fs}.`);
  if (rows.length === 0) return [];
  const n = rows[0].length, least = Math.ceil(fs / lowHz);
  if (n < least) {
    throw new SignalTooShort(
      `${(n / fs).toFixed(1)} s of signal holds less than one period of ${lowHz} Hz; ` +
        `give at least ${(least / fs).toFixed(1)} s.`,
    );
  }
  const { gain, sections } = bandpassSections(order, lowHz, highHz, fs);
  const nPad = Math.min(n - 1, least);
  const padded = new Float64Array(n + 2 * nPad);
  return rows.map((row) => {
    for (let k = 0; k < nPad; k++) {
      padded[k] = row[nPad - k];
      padded[nPad + n + k] = row[n - 2 - k];
    }
    padded.set(row, nPad);
    runSections(padded, gain, sections);
    padded.reverse();
    runSections(padded, gain, sections);
    padded.reverse();
    return padded.slice(nPad, nPad + n);
  });
}

/** Run x through the band-pass in place, as if it had had the value of its first sample for ever before. */
function runSections(x: Float64Array, gain: number, sections: [number, number][]): void {
  const first = x[0];
  for (let k = 0; k < x.length; k++) x[k] = (x[k] - first) * gain;
  for (const [a1, a2] of sections) {
    let x1 = 0, x2 = 0, y1 = 0, y2 = 0;
    for (let k = 0; k < x.length; k++) {
      const y = x[k] - x2 - a1 * y1 - a2 * y2;
      x2 = x1;
      x1 = x[k];
      y2 = y1;
      y1 = y;
      x[k] = y;
    }
  }
}

/** Design a digital Butterworth band-pass of even order: its gain, and a1, a2 of sections with numerator 1 - z^-2. */
export function bandpassSections(
  order: number,
  lowHz: number,
  highHz: number,
  fs: number,
): { gain: number; sections: [number, number][] } {
  if (order % 2) throw new RangeError(`order=${order} must be even.`);
  const edges = [lowHz, highHz].map((hz) => 2 * fs * Math.tan((Math.PI * hz) / fs));
  const width = edges[1] - edges[0], centreSquared = edges[0] * edges[1];
  const sections: [number, number][] = [];
  let gain = (2 * fs * width) ** order;
  for (let k = 0; k < order / 2; k++) {
    const angle = 0.5 * Math.PI * (1 + (2 * k + 1) / order);
    const half = [(Math.cos(angle) * width) / 2, (Math.sin(angle) * width) / 2];
    const root = complexRoot(half[0] ** 2 - half[1] ** 2 - centreSquared, 2 * half[0] * half[1]);
    for (const sign of [1, -1]) {
      const re = half[0] + sign * root[0], im = half[1] + sign * root[1];
      // (c + p) / (c - p) of the pole p and its conjugate, c = 2 fs: their sum and product.
      const c = 2 * fs, below = (c - re) ** 2 + im ** 2;
      const zRe = ((c + re) * (c - re) - im * im) / below, zIm = (im * (c - re) + (c + re) * im) / below;
      sections.push([-2 * zRe, zRe * zRe + zIm * zIm]);
      gain /= below;
    }
  }
  return { gain, sections };
}

function complexRoot(re: number, im: number): [number, number] {
  const size = Math.hypot(re, im);
  const a = Math.sqrt((size + Math.abs(re)) / 2), b = size === 0 ? 0 : Math.abs(im) / (2 * a);
  const sign = im < 0 ? -1 : 1;
  return re >= 0 ? [a, sign * b] : [b, sign * a];
}

/** Return the analytic signal of x: its real and imaginary part. */
export function analytic(x: Row): { re: Row; im: Row } {
  const n = x.length;
  const re = x.slice(), im = new Float64Array(n);
  fft(re, im);
  for (let k = 1; k < n; k++) {
    const factor = k < (n + 1) >> 1 ? 2 : k <= n >> 1 ? 1 : 0;
    re[k] *= factor;
    im[k] *= factor;
  }
  // The inverse transform is the forward one of the conjugate.
  for (let k = 0; k < n; k++) im[k] = -im[k];
  fft(re, im);
  return { re: re.map((value) => value / n), im: im.map((value) => -value / n) };
}

/** Subtract from x the straight line that fits it best. */
export function removeLine(x: Row): Row {
  const n = x.length, centre = (n - 1) / 2, level = mean(x);
  let up = 0, square = 0;
  for (let k = 0; k < n; k++) {
    up += x[k] * (k - centre);
    square += (k - centre) ** 2;
  }
  const slope = up / Math.max(square, 1e-300);
  return x.map((value, k) => value - level - slope * (k - centre));
}

/** Interpolate each column of x (N rows of K), given at the times tS (N), linearly at atS (M): M rows of K. */
export function resample(tS: Row, x: Rows, atS: Row): Rows {
  const nColumns = x[0].length;
  const out = Array.from(atS, () => new Float64Array(nColumns));
  for (let c = 0; c < nColumns; c++) {
    const known: number[] = [];
    for (let k = 0; k < x.length; k++) if (Number.isFinite(x[k][c])) known.push(k);
    if (known.length < 2) {
      throw new SignalTooShort(
        `Only ${known.length} of ${tS.length} samples are known; at least 2 are needed to resample.`,
      );
    }
    const column = interp(
      atS,
      known.map((k) => tS[k]),
      known.map((k) => x[k][c]),
    );
    for (let k = 0; k < atS.length; k++) out[k][c] = column[k];
  }
  return out;
}

/** Scale x to zero mean and unit standard deviation; a constant becomes zeros. */
export function standardise(x: Row): Row {
  const level = mean(x), scale = std(x);
  const floor = 1e-9 * Math.max(max(x), -min(x), 1e-300);
  return x.map((value) => (scale > floor ? (value - level) / scale : 0));
}

