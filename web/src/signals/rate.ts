/** Heart rate of a pulse wave, as `autohr.signals.rate`. */

import { SignalTooShort } from "../errors";
import { type Row, argmax, clip, dot, hann, interp, max, mean, min, solve, sum } from "./arrays";
import { removeLine } from "./filters";
import { powerOfLines } from "./fourier";

export const BAND_BPM: readonly [number, number] = [40.0, 180.0];
export const GRID_BPM = 0.1;
export const LEAST_PERIODS = 2.5;
export const HALF_RATE_POWER = 0.35;
export const POOLED_NOISE = 0.3;
export const SNR_BAND_HZ: readonly [number, number] = [0.5, 4.0];
export const SNR_HALF_WIDTH_HZ: readonly [number, number] = [0.1, 0.2];

export interface HeartRate {
  hr_bpm: number | null;
  snr_db: number | null;
  peak_share: number;
  runner_up: number;
}

/** Return freqs_hz and power of the Hann periodogram of x on a grid of at most gridHz, from lowHz to highHz. */
export function powerSpectrum(
  x: Row,
  fs: number,
  lowHz: number,
  highHz: number,
  gridHz = GRID_BPM / 60,
): { freqs: Row; power: Row } {
  const n = x.length, window = hann(n), total = sum(window);
  const nFft = 2 ** Math.ceil(Math.log2(Math.max(fs / gridHz, n)));
  const hz = (line: number) => line / (nFft * (1 / fs)); // as np.fft.rfftfreq rounds it
  let first = Math.max(0, Math.floor((lowHz * nFft) / fs) - 1), last = Math.min(nFft / 2, Math.ceil((highHz * nFft) / fs) + 1);
  while (hz(first) < lowHz) first++;
  while (hz(last) > highHz) last--;
  const power = powerOfLines(
    removeLine(x).map((value, k) => value * window[k]),
    nFft,
    first,
    last,
  ).map((value) => value / total ** 2);
  return { freqs: power.map((_, k) => hz(first + k)), power };
}

/** Estimate the heart rate of a pulse wave bvp: the strongest peak, corrected for harmonics and refined. */
export function estimateHeartRate(bvp: Row, fs: number, bandBpm: readonly [number, number] = BAND_BPM): HeartRate {
  const [lowBpm, highBpm] = bandBpm;
  const none: HeartRate = { hr_bpm: null, snr_db: null, peak_share: 0, runner_up: 0 };
  if (highBpm / 60 >= fs / 2) {
    throw new RangeError(
      `${fs} samples per second cannot show ${highBpm} bpm; at least ${(highBpm / 30).toFixed(1)} are needed.`,
    );
  }
  const least = Math.ceil(((LEAST_PERIODS * 60) / lowBpm) * fs);
  if (bvp.length < least) {
    throw new SignalTooShort(
      `${(bvp.length / fs).toFixed(1)} s of pulse is too short for rates from ${lowBpm} bpm; ` +
        `give at least ${(least / fs).toFixed(1)} s.`,
    );
  }
  const level = mean(bvp);
  const scale = Math.max(max(bvp) - level, level - min(bvp));
  if (scale <= 1e-9 * Math.max(max(bvp), -min(bvp), 1e-300)) return none;
  const wave = bvp.map((value) => (value - level) / scale);

  const slackHz = 1.0 / 60;
  const { freqs, power } = powerSpectrum(wave, fs, lowBpm / 60 - slackHz, highBpm / 60 + slackHz);
  const peaks: number[] = [];
  for (let k = 1; k + 1 < power.length; k++) if (power[k] > power[k - 1] && power[k] >= power[k + 1]) peaks.push(k);
  if (peaks.length === 0) return none;
  const strongest = peaks[argmax(peaks.map((k) => power[k]))];
  const chosen = fundamental(freqs, power, peaks, strongest, fs / bvp.length);
  const hrBpm = clip(60 * refine(wave, fs, freqs[chosen]), lowBpm, highBpm);

  const width = fs / bvp.length / freqs[chosen];
  const others = peaks
    .filter((k) => [0.5, 1, 2, 3].every((multiple) => !(Math.abs(freqs[k] / freqs[chosen] - multiple) < 2 * width)))
    .map((k) => power[k]);
  return {
    hr_bpm: hrBpm,
    snr_db: snrDb(wave, fs, hrBpm),
    peak_share: power[chosen] / power[strongest],
    runner_up: others.length ? Math.min(1, max(others) / power[chosen]) : 0,
  };
}

/** Find the one rate on which several waves agree best; null where no wave has power in the band. */
export function pooledHeartRate(waves: Row[], fs: number[], weights: number[]): number | null {
  const [lowBpm, highBpm] = BAND_BPM;
  const n = Math.round((highBpm - lowBpm) / GRID_BPM) + 1;
  const gridBpm = Float64Array.from({ length: n }, (_, k) => lowBpm + ((highBpm - lowBpm) / (n - 1)) * k);
  const gridHz = gridBpm.map((bpm) => bpm / 60);
  const score = new Float64Array(n);
  waves.forEach((wave, i) => {
    const { freqs, power } = powerSpectrum(wave, fs[i], (lowBpm - 1) / 60, (highBpm + 1) / 60);
    const chance = interp(gridHz, freqs, power), total = sum(chance);
    if (total > 0) {
      for (let k = 0; k < n; k++) {
        score[k] += weights[i] * Math.log(((1 - POOLED_NOISE) * chance[k]) / total + POOLED_NOISE / n);
      }
    }
  });
  return max(score) - min(score) > 0 ? gridBpm[argmax(score)] : null;
}

function fundamental(freqs: Row, power: Row, peaks: number[], strongest: number, resolutionHz: number): number {
  const halfHz = freqs[strongest] / 2;
  const near = peaks.filter((k) => Math.abs(freqs[k] - halfHz) < 0.5 * resolutionHz);
  if (near.length) {
    const half = near[argmax(near.map((k) => power[k]))];
    if (power[half] >= HALF_RATE_POWER * power[strongest]) return half;
  }
  return strongest;
}

/** Return the frequency near nearHz at which a line plus a sine explains most of the Hann-weighted wave. */
function refine(wave: Row, fs: number, nearHz: number): number {
  const n = wave.length, root = hann(n).map(Math.sqrt);
  const t = Float64Array.from({ length: n }, (_, k) => (k - (n - 1) / 2) / fs);
  const target = wave.map((value, k) => value * root[k]);
  let stepHz = (0.25 * fs) / n, bestHz = nearHz;
  for (let round = 0; round < 3; round++) {
    const freqs = [-2, -1, 0, 1, 2].map((k) => bestHz + stepHz * k);
    const explained = freqs.map((freq) => {
      const basis = [
        root,
        t.map((at, k) => at * root[k]),
        t.map((at, k) => Math.cos(2 * Math.PI * freq * at) * root[k]),
        t.map((at, k) => Math.sin(2 * Math.PI * freq * at) * root[k]),
      ];
      const gram = basis.map((a) => Float64Array.from(basis, (b) => dot(a, b)));
      const moment = basis.map((a) => dot(a, target));
      return dot(moment, solve(gram, moment));
    });
    const best = clip(argmax(explained), 1, 3);
    const [left, middle, right] = explained.slice(best - 1, best + 2);
    const bend = left - 2 * middle + right;
    const shift = bend < 0 ? (0.5 * (left - right)) / bend : 0;
    bestHz = freqs[best] + stepHz * clip(shift, -1, 1);
    stepHz /= 8;
  }
  return bestHz;
}

/** Return the signal-to-noise ratio in dB of bvp at hrBpm, after de Haan & Jeanne 2013. */
export function snrDb(bvp: Row, fs: number, hrBpm: number): number {
  const { freqs, power } = powerSpectrum(bvp, fs, SNR_BAND_HZ[0], Math.min(SNR_BAND_HZ[1], fs / 2));
  const hrHz = hrBpm / 60;
  let inside = 0, outside = 0;
  for (let k = 0; k < power.length; k++) {
    const isSignal =
      Math.abs(freqs[k] - hrHz) <= SNR_HALF_WIDTH_HZ[0] || Math.abs(freqs[k] - 2 * hrHz) <= SNR_HALF_WIDTH_HZ[1];
    if (isSignal) inside += power[k];
    else outside += power[k];
  }
  const tiny = 1e-12 * (inside + outside) + 1e-300;
  return 10 * Math.log10((inside + tiny) / (outside + tiny));
}
