/** POS: from the mean skin colour to a pulse wave, as `autohr.classic.colour`. */

import { SignalTooShort } from "../errors";
import { type Row, type Rows, mean } from "../signals/arrays";
import { bandpass } from "../signals/filters";

export const WINDOW_S = 1.6;

/** Return POS's wave (Wang et al. 2017) of rgb (T rows of 3). */
export function pos(rgb: Rows, fs: number): Row {
  const n = rgb.length;
  let length = Math.ceil(WINDOW_S * fs);
  length += length % 2;
  if (n < length) {
    throw new SignalTooShort(
      `${(n / fs).toFixed(1)} s of colour is shorter than one window; give at least ${(length / fs).toFixed(1)} s.`,
    );
  }
  const c = [0, 1, 2].map((i) => {
    const channel = Float64Array.from(rgb, (row) => Math.max(row[i], 1e-3)), level = mean(channel);
    return channel.map((value) => value / level - 1);
  });
  const nWindows = n - length + 1;
  const means = c.map((channel) => runningSum(channel, length).map((total) => 1 + total / length));
  const cov = (i: number, j: number): Row =>
    runningSum(
      c[i].map((value, k) => value * c[j][k]),
      length,
    ).map((total, k) => total / length - (means[i][k] - 1) * (means[j][k] - 1));
  const covariance = [0, 1, 2].map((i) => [0, 1, 2].map((j) => (j < i ? null : cov(i, j))));
  const sd = (weights: readonly number[]): Row =>
    Float64Array.from({ length: nWindows }, (_, k) => {
      let variance = 0;
      for (let i = 0; i < 3; i++) {
        for (let j = i; j < 3; j++) {
          const pair = ((i === j ? 1 : 2) * weights[i] * weights[j]) / means[i][k] / means[j][k];
          variance += pair * (covariance[i][j] as Row)[k];
        }
      }
      return Math.sqrt(Math.max(variance, 0));
    });
  const s1 = [0, 1, -1], s2 = [-2, 1, 1];
  const sd1 = sd(s1), sd2 = sd(s2);
  const alpha = sd1.map((value, k) => (sd2[k] > 1e-9 ? value / sd2[k] : 0));
  const pulse = new Float64Array(n);
  for (let i = 0; i < 3; i++) {
    const share = alpha.map((value, k) => (s1[i] + value * s2[i]) / means[i][k]);
    const all = spread(share, length, n);
    const taken = spread(
      share.map((value, k) => value * (means[i][k] - 1)),
      length,
      n,
    );
    for (let k = 0; k < n; k++) pulse[k] += c[i][k] * all[k] - taken[k];
  }
  const count = spread(new Float64Array(nWindows).fill(1), length, n);
  return bandpass(
    pulse.map((value, k) => value / count[k]),
    fs,
  ).map((value) => -value);
}

function runningSum(x: Row, length: number): Row {
  const total = new Float64Array(x.length + 1);
  for (let k = 0; k < x.length; k++) total[k + 1] = total[k] + x[k];
  return Float64Array.from({ length: x.length - length + 1 }, (_, k) => total[k + length] - total[k]);
}

/** Sum, for each frame, the windows' x over the windows that hold it. */
function spread(x: Row, length: number, nFrames: number): Row {
  const padded = new Float64Array(x.length + 2 * (length - 1));
  padded.set(x, length - 1);
  return runningSum(padded, length).slice(0, nFrames);
}
