/** Sums over arrays: what plain numpy is to the Python side. A matrix is a list of its rows. */

export type Row = Float64Array;
export type Rows = Float64Array[];

export function sum(x: ArrayLike<number>): number {
  let total = 0;
  for (let k = 0; k < x.length; k++) total += x[k];
  return total;
}

export function mean(x: ArrayLike<number>): number {
  return sum(x) / x.length;
}

/** Return the standard deviation (population), as numpy's. */
export function std(x: ArrayLike<number>): number {
  const middle = mean(x);
  let total = 0;
  for (let k = 0; k < x.length; k++) total += (x[k] - middle) ** 2;
  return Math.sqrt(total / x.length);
}

export function median(x: ArrayLike<number>): number {
  const ordered = Float64Array.from(x).sort();
  const n = ordered.length;
  return 0.5 * (ordered[(n - 1) >> 1] + ordered[n >> 1]);
}

export function max(x: ArrayLike<number>): number {
  let best = -Infinity;
  for (let k = 0; k < x.length; k++) if (x[k] > best) best = x[k];
  return best;
}

export function min(x: ArrayLike<number>): number {
  let least = Infinity;
  for (let k = 0; k < x.length; k++) if (x[k] < least) least = x[k];
  return least;
}

/** Return the index of the first largest value. */
export function argmax(x: ArrayLike<number>): number {
  let best = 0;
  for (let k = 1; k < x.length; k++) if (x[k] > x[best]) best = k;
  return best;
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let k = 0; k < a.length; k++) total += a[k] * b[k];
  return total;
}

export function isFinite(x: ArrayLike<number>): boolean {
  for (let k = 0; k < x.length; k++) if (!Number.isFinite(x[k])) return false;
  return true;
}

export function clip(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/** Round half to even, as Python's round and numpy's rint. */
export function rint(x: number): number {
  const low = Math.floor(x), part = x - low;
  if (part !== 0.5) return part < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** Return the Hann window of n samples without its zeros: np.hanning(n + 2)[1:-1]. */
export function hann(n: number): Row {
  return Float64Array.from({ length: n }, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (k + 1)) / (n + 1)));
}

/** Interpolate linearly as np.interp: constant beyond the ends. xs must increase. */
export function interp(at: ArrayLike<number>, xs: ArrayLike<number>, ys: ArrayLike<number>): Row {
  const out = new Float64Array(at.length);
  const n = xs.length;
  for (let k = 0, i = 0; k < at.length; k++) {
    const x = at[k];
    if (x <= xs[0]) out[k] = ys[0];
    else if (x >= xs[n - 1]) out[k] = ys[n - 1];
    else {
      while (i > 0 && xs[i] > x) i--;
      while (xs[i + 1] <= x) i++;
      out[k] = ys[i] + ((x - xs[i]) * (ys[i + 1] - ys[i])) / (xs[i + 1] - xs[i]);
    }
  }
  return out;
}

/** Return the number of values of the increasing xs that are below x: np.searchsorted. */
export function searchsorted(xs: ArrayLike<number>, x: number): number {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Solve the square system a x = b by elimination with pivots; a and b are not changed. */
export function solve(a: Rows, b: ArrayLike<number>): Row {
  const n = b.length;
  const m = a.map((row, i) => Float64Array.from([...row, b[i]]));
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(m[i][k]) > Math.abs(m[pivot][k])) pivot = i;
    [m[k], m[pivot]] = [m[pivot], m[k]];
    for (let i = k + 1; i < n; i++) {
      const share = m[i][k] / m[k][k];
      for (let j = k; j <= n; j++) m[i][j] -= share * m[k][j];
    }
  }
  const x = new Float64Array(n);
  for (let i = n - 1; i >= 0; i--) {
    let rest = m[i][n];
    for (let j = i + 1; j < n; j++) rest -= m[i][j] * x[j];
    x[i] = rest / m[i][i];
  }
  return x;
}
