/** Fourier transforms: what `numpy.fft` is to the Python side. */

interface Plan {
  cos: Float64Array;
  sin: Float64Array;
  swap: Uint32Array;
}

const plans = new Map<number, Plan>();

function planFor(n: number): Plan {
  let plan = plans.get(n);
  if (plan === undefined) {
    const half = n >> 1;
    plan = { cos: new Float64Array(half), sin: new Float64Array(half), swap: new Uint32Array(n) };
    for (let k = 0; k < half; k++) {
      plan.cos[k] = Math.cos((2 * Math.PI * k) / n);
      plan.sin[k] = -Math.sin((2 * Math.PI * k) / n);
    }
    for (let i = 0, bits = Math.log2(n); i < n; i++) {
      let reversed = 0;
      for (let b = 0; b < bits; b++) reversed = (reversed << 1) | ((i >> b) & 1);
      plan.swap[i] = reversed;
    }
    plans.set(n, plan);
  }
  return plan;
}

/** Transform re + i im in place, forwards, for a length that is a power of two. */
function fftPowerOfTwo(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  if (n === 1) return;
  const { cos, sin, swap } = planFor(n);
  for (let i = 0; i < n; i++) {
    const j = swap[i];
    if (j > i) {
      const r = re[i], m = im[i];
      re[i] = re[j];
      im[i] = im[j];
      re[j] = r;
      im[j] = m;
    }
  }
  for (let size = 2; size <= n; size <<= 1) {
    const half = size >> 1, step = n / size;
    for (let start = 0; start < n; start += size) {
      for (let k = 0, at = 0; k < half; k++, at += step) {
        const a = start + k, b = a + half;
        const r = re[b] * cos[at] - im[b] * sin[at], m = re[b] * sin[at] + im[b] * cos[at];
        re[b] = re[a] - r;
        im[b] = im[a] - m;
        re[a] += r;
        im[a] += m;
      }
    }
  }
}

/** Transform re + i im in place, forwards, for any length; other lengths than powers of two by Bluestein's chirp. */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  if ((n & (n - 1)) === 0) return fftPowerOfTwo(re, im);
  let m = 1;
  while (m < 2 * n - 1) m <<= 1;
  const cos = new Float64Array(n), sin = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    const angle = (Math.PI * ((k * k) % (2 * n))) / n;
    cos[k] = Math.cos(angle);
    sin[k] = Math.sin(angle);
  }
  const aRe = new Float64Array(m), aIm = new Float64Array(m), bRe = new Float64Array(m), bIm = new Float64Array(m);
  for (let k = 0; k < n; k++) {
    aRe[k] = re[k] * cos[k] + im[k] * sin[k];
    aIm[k] = im[k] * cos[k] - re[k] * sin[k];
    bRe[k] = cos[k];
    bIm[k] = sin[k];
    if (k > 0) {
      bRe[m - k] = cos[k];
      bIm[m - k] = sin[k];
    }
  }
  fftPowerOfTwo(aRe, aIm);
  fftPowerOfTwo(bRe, bIm);
  for (let k = 0; k < m; k++) {
    // Conjugated, so that the next forward transform is the inverse one.
    const r = aRe[k] * bRe[k] - aIm[k] * bIm[k], i = aRe[k] * bIm[k] + aIm[k] * bRe[k];
    aRe[k] = r;
    aIm[k] = -i;
  }
  fftPowerOfTwo(aRe, aIm);
  for (let k = 0; k < n; k++) {
    const r = aRe[k] / m, i = -aIm[k] / m;
    re[k] = r * cos[k] + i * sin[k];
    im[k] = i * cos[k] - r * sin[k];
  }
}

/** Return |spectrum|^2 of x, padded with zeros to nFft (a power of two), at lines first..last, both included. */
export function powerOfLines(x: Float64Array, nFft: number, first: number, last: number): Float64Array {
  // Even and odd samples as one complex signal of half the length.
  const half = nFft >> 1;
  const re = new Float64Array(half), im = new Float64Array(half);
  for (let k = 0; k < x.length; k++) (k & 1 ? im : re)[k >> 1] = x[k];
  fftPowerOfTwo(re, im);
  const power = new Float64Array(last - first + 1);
  for (let k = first; k <= last; k++) {
    const a = k % half, b = (half - a) % half;
    const evenRe = (re[a] + re[b]) / 2, evenIm = (im[a] - im[b]) / 2;
    const oddRe = (im[a] + im[b]) / 2, oddIm = (re[b] - re[a]) / 2;
    const c = Math.cos((2 * Math.PI * k) / nFft), s = -Math.sin((2 * Math.PI * k) / nFft);
    const r = evenRe + oddRe * c - oddIm * s, i = evenIm + oddRe * s + oddIm * c;
    power[k - first] = r * r + i * i;
  }
  return power;
}
