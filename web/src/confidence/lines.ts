/** Fourier sums at single lines, which `autohr.confidence` takes by matrix products. */

import { type Row, type Rows, hann } from "../signals/arrays";
import { detrendRows } from "../signals/filters";

export interface Lines {
  re: Row;
  im: Row;
}

/** Return the Fourier sums of each row of x (K, N) at freqsHz: K lists of lines. */
export function fourierSums(x: Rows, fs: number, freqsHz: ArrayLike<number>): Lines[] {
  const n = x.length ? x[0].length : 0;
  const tables = Array.from(freqsHz, (hz) => {
    const cos = new Float64Array(n), sin = new Float64Array(n);
    for (let k = 0; k < n; k++) {
      const angle = -2 * Math.PI * hz * (k / fs);
      cos[k] = Math.cos(angle);
      sin[k] = Math.sin(angle);
    }
    return { cos, sin };
  });
  return x.map((row) => {
    const re = new Float64Array(tables.length), im = new Float64Array(tables.length);
    tables.forEach(({ cos, sin }, f) => {
      let r = 0, i = 0;
      for (let k = 0; k < n; k++) {
        r += row[k] * cos[k];
        i += row[k] * sin[k];
      }
      re[f] = r;
      im[f] = i;
    });
    return { re, im };
  });
}

/** Return |Fourier sum|^2 of the Hann-windowed x at freqsHz. */
export function powerAt(x: Row, fs: number, freqsHz: number[]): Row {
  const window = hann(x.length);
  const [{ re, im }] = fourierSums([x.map((value, k) => value * window[k])], fs, freqsHz);
  return re.map((r, f) => r * r + im[f] * im[f]);
}

export const SIDE_LINES: readonly number[] = [-7, -6, -5, -4, -3, 3, 4, 5, 6, 7];

/** Return the Fourier sums of x (K, N), detrended, at hrBpm (line 0) and at SIDE_LINES beside it (lines 1 to 10). */
export function linesOf(x: Rows, fs: number, hrBpm: number): Lines[] {
  if (x.length === 0) return [];
  const n = x[0].length, window = hann(n);
  const freqsHz = [hrBpm / 60, ...SIDE_LINES.map((off) => Math.abs(hrBpm / 60 + (off * fs) / n))];
  const windowed = detrendRows(x, fs).map((row) => row.map((value, k) => value * window[k]));
  return fourierSums(windowed, fs, freqsHz);
}

/** Return the powers of lines 1 to 10. */
export function besidePower({ re, im }: Lines): Row {
  return re.subarray(1).map((r, f) => r * r + im[f + 1] * im[f + 1]);
}
