/** MVDR: the minimum variance distortionless response beamformer over the cells of a face, as `autohr.classic.mvdr`. */

import { type Row, type Rows, dot, isFinite, mean, std } from "../signals/arrays";
import { bandpassRows } from "../signals/filters";
import { BLOOD_SIGNATURE } from "./projection";

export const LOADING = 0.5;
export const LEAST_GAIN = 0.55;
export const MAX_DOUBLINGS = 40;
export const REFERENCE_GAIN = 10.0;
export const LEAST_NOISE = 1e-4;
export const LEAST_SKIN = 0.2;

/** Return the pulse wave bvp (T) of the colours of R cells (R, T, 3), of which skin (R) is the share of skin.
 *
 * references (K, T) are waves that hold no pulse; rows with NaN count as absent.
 */
export function mvdr(cells: Rows[], fs: number, skin: Row | null, references: Rows): Row {
  const nFrames = cells[0].length;
  let share = (skin ?? new Float64Array(cells.length).fill(1)).map((value) => (value >= LEAST_SKIN ? value : 0));
  if (share.every((value) => value === 0)) share = share.map(() => 1);

  const change: Rows = [];
  for (const cell of cells) {
    for (let i = 0; i < 3; i++) {
      const channel = Float64Array.from(cell, (colour) => Math.max(colour[i], 1e-3)), level = mean(channel);
      change.push(channel.map((value) => value / level - 1));
    }
  }
  const noise = Float64Array.from(change, (row) => {
    const steps = Float64Array.from({ length: nFrames - 1 }, (_, k) => row[k + 1] - row[k]);
    return std(steps) + LEAST_NOISE;
  });
  const channels = bandpassRows(change, fs).map((row, c) => row.map((value) => value / noise[c]));
  const nChannels = channels.length;
  const power = channels.reduce((total, row) => total + dot(row, row), 0) / (nChannels * nFrames);
  if (power === 0) return new Float64Array(nFrames);
  for (const other of bandpassRows(references.filter(isFinite), fs)) {
    const sd = std(other);
    if (sd > 0) channels.push(other.map((value) => (REFERENCE_GAIN * Math.sqrt(power) * value) / sd));
  }
  const signature = Float64Array.from({ length: nChannels }, (_, c) => {
    return (share[Math.floor(c / 3)] * BLOOD_SIGNATURE[c % 3]) / noise[c];
  });
  const covariance = channels.map((a, i) =>
    Float64Array.from({ length: i + 1 }, (_, j) => dot(a, channels[j]) / nFrames),
  );
  // Python takes the covariance apart once; solving it anew for each loading is less work here.
  let weights: Row = new Float64Array(channels.length);
  for (let doublings = 0; doublings < MAX_DOUBLINGS; doublings++) {
    weights = solveLoaded(covariance, LOADING * power * 2 ** doublings, signature);
    if (whiteNoiseGain(weights.subarray(0, nChannels), signature) >= LEAST_GAIN) break;
  }
  const pulse = new Float64Array(nFrames);
  channels.forEach((row, c) => {
    for (let k = 0; k < nFrames; k++) pulse[k] -= weights[c] * row[k];
  });
  const level = mean(pulse);
  return pulse.map((value) => value - level);
}

/** Solve (a + loading 1) x = b, b continued by zeros, by Cholesky; a (C rows, the lower triangle) is not changed. */
function solveLoaded(a: Rows, loading: number, b: Row): Row {
  const n = a.length;
  const lower = a.map((row) => row.slice());
  for (let j = 0; j < n; j++) {
    const row = lower[j];
    row[j] += loading;
    for (let k = 0; k < j; k++) {
      const other = lower[k];
      let value = row[k];
      for (let m = 0; m < k; m++) value -= row[m] * other[m];
      row[k] = value / other[k];
    }
    let square = row[j];
    for (let m = 0; m < j; m++) square -= row[m] * row[m];
    row[j] = Math.sqrt(square);
  }
  const x = new Float64Array(n);
  x.set(b);
  for (let i = 0; i < n; i++) {
    for (let m = 0; m < i; m++) x[i] -= lower[i][m] * x[m];
    x[i] /= lower[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    x[i] /= lower[i][i];
    for (let m = 0; m < i; m++) x[m] -= lower[i][m] * x[i];
  }
  return x;
}

function whiteNoiseGain(weights: Row, signature: Row): number {
  return dot(weights, signature) ** 2 / (dot(weights, weights) * dot(signature, signature));
}
