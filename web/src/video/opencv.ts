/** The few functions of OpenCV that reading a face needs, written from its definitions: same results, to rounding.
 *
 * Pictures are row by row, channel after channel in a pixel. OpenCV computes in float32 or in fixed point, and so do
 * these where it decides a rounding.
 */

import { rint } from "../signals/arrays";

export interface Picture<T extends Uint8Array | Uint8ClampedArray | Float32Array = Uint8Array> {
  data: T;
  width: number;
  height: number;
  channels: number;
}

export type Grey = Picture;

const fround = Math.fround;

export function picture(width: number, height: number, channels: number): Picture {
  return { data: new Uint8Array(width * height * channels), width, height, channels };
}

export function floatPicture(width: number, height: number, channels: number): Picture<Float32Array> {
  return { data: new Float32Array(width * height * channels), width, height, channels };
}

/** Cut a part out of a picture. */
export function cropped(
  from: Picture<Uint8Array | Uint8ClampedArray>,
  left: number,
  top: number,
  right: number,
  bottom: number,
): Picture {
  const c = from.channels, out = picture(right - left, bottom - top, c);
  for (let y = top; y < bottom; y++) {
    const start = (y * from.width + left) * c;
    out.data.set(from.data.subarray(start, start + out.width * c), (y - top) * out.width * c);
  }
  return out;
}

/** Return means of 2 x 2 pixels; an odd last row or column is left out. */
export function halve(from: Picture): Picture {
  const c = from.channels, out = picture(from.width >> 1, from.height >> 1, c), stride = from.width * c;
  const a = from.data, b = out.data;
  for (let y = 0, to = 0; y < out.height; y++) {
    let at = 2 * y * stride;
    for (let x = 0; x < out.width; x++, at += 2 * c) {
      for (let i = 0; i < c; i++, to++) {
        const k = at + i;
        b[to] = (a[k] + a[k + c] + a[k + stride] + a[k + stride + c] + 2) >> 2;
      }
    }
  }
  return out;
}

interface Weight {
  from: number;
  to: number;
  share: number;
}

function areaWeights(size: number, newSize: number): Weight[] {
  const scale = size / newSize, out: Weight[] = [];
  for (let to = 0; to < newSize; to++) {
    const first = to * scale, last = first + scale, width = Math.min(scale, size - first);
    let start = Math.ceil(first), end = Math.floor(last);
    end = Math.min(end, size - 1);
    start = Math.min(start, end);
    if (start - first > 1e-3) out.push({ from: start - 1, to, share: fround((start - first) / width) });
    for (let k = start; k < end; k++) out.push({ from: k, to, share: fround(1 / width) });
    if (last - end > 1e-3) {
      out.push({ from: end, to, share: fround(Math.min(Math.min(last - end, 1), width) / width) });
    }
  }
  return out;
}

/** Return a picture reduced by area means (INTER_AREA); where it grows, linear between pixels. */
export function resizeArea<T extends Uint8Array | Float32Array>(
  from: Picture<T>,
  width: number,
  height: number,
): Picture<T> {
  const c = from.channels, isBytes = from.data instanceof Uint8Array;
  if (width === from.width && height === from.height) return { ...from, data: from.data.slice() as T };
  if (width > from.width || height > from.height) {
    return resizeLinear(from as unknown as Picture, width, height, undefined, true) as unknown as Picture<T>;
  }
  const out = (isBytes ? picture(width, height, c) : floatPicture(width, height, c)) as Picture<T>;
  const scaleX = from.width / width, scaleY = from.height / height;
  if (isBytes && scaleX === 2 && scaleY === 2) return halve(from as unknown as Picture) as unknown as Picture<T>;
  if (Number.isInteger(scaleX) && Number.isInteger(scaleY)) {
    const share = fround(1 / (scaleX * scaleY));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let i = 0; i < c; i++) {
          let total = 0;
          for (let v = 0; v < scaleY; v++) {
            let at = ((y * scaleY + v) * from.width + x * scaleX) * c + i;
            for (let u = 0; u < scaleX; u++, at += c) total += from.data[at];
          }
          const value = total * share;
          out.data[(y * width + x) * c + i] = isBytes ? Math.min(255, rint(fround(value))) : value;
        }
      }
    }
    return out;
  }
  const across = areaWeights(from.width, width), down = areaWeights(from.height, height);
  const n = width * c, row = new Float32Array(n), total = new Float32Array(n);
  const write = (y: number) => {
    for (let k = 0; k < n; k++) out.data[y * n + k] = isBytes ? Math.min(255, rint(total[k])) : total[k];
    total.fill(0);
  };
  let at = down[0].to;
  for (const { from: y, to, share } of down) {
    row.fill(0);
    const start = y * from.width * c;
    for (const weight of across) {
      const a = start + weight.from * c, b = weight.to * c;
      for (let i = 0; i < c; i++) row[b + i] += from.data[a + i] * weight.share;
    }
    if (to !== at) {
      write(at);
      at = to;
    }
    for (let k = 0; k < n; k++) total[k] += row[k] * share;
  }
  write(at);
  return out;
}

/** Return a picture of bytes scaled linearly between pixels, in OpenCV's fixed point of 11 bits.
 *
 * scale is the number of its pixels per new one, if not the ratio of the sizes; isArea places pixels as INTER_AREA does
 * where a picture grows.
 */
export function resizeLinear(from: Picture, width: number, height: number, scale?: number, isArea = false): Picture {
  const c = from.channels, out = picture(width, height, c);
  const taps = (size: number, newSize: number, reverse: number) => {
    const at = new Int32Array(newSize), share = new Int32Array(newSize);
    for (let k = 0; k < newSize; k++) {
      let low: number, part: number;
      if (isArea) {
        low = Math.floor(k * reverse);
        part = fround(k + 1 - (low + 1) / reverse);
        part = part <= 0 ? 0 : part - Math.floor(part);
      } else {
        part = fround((k + 0.5) * reverse - 0.5);
        low = Math.floor(part);
        part = fround(part - low);
      }
      if (low < 0) [low, part] = [0, 0];
      if (low >= size - 1) [low, part] = [size - 1, 0];
      at[k] = low;
      share[k] = rint(part * 2048);
    }
    return { at, share };
  };
  const xs = taps(from.width, width, scale ?? from.width / width);
  const ys = taps(from.height, height, scale ?? from.height / height);
  const n = width * c, upper = new Int32Array(n), lower = new Int32Array(n);
  const fill = (row: Int32Array, y: number) => {
    const start = y * from.width * c;
    for (let x = 0; x < width; x++) {
      const a = start + xs.at[x] * c, step = xs.at[x] + 1 < from.width ? c : 0, share = xs.share[x];
      for (let i = 0; i < c; i++) {
        row[x * c + i] = from.data[a + i] * (2048 - share) + from.data[a + step + i] * share;
      }
    }
  };
  for (let y = 0; y < height; y++) {
    fill(upper, ys.at[y]);
    fill(lower, Math.min(ys.at[y] + 1, from.height - 1));
    const b1 = ys.share[y], b0 = 2048 - b1;
    for (let k = 0; k < n; k++) {
      out.data[y * n + k] = (((b0 * (upper[k] >> 4)) >> 16) + ((b1 * (lower[k] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return out;
}

/** Return a picture in grey (RGB2GRAY). */
export function toGrey(from: Picture): Grey {
  const out = picture(from.width, from.height, 1), a = from.data;
  for (let k = 0, at = 0; k < out.data.length; k++, at += 3) {
    out.data[k] = (a[at] * 9798 + a[at + 1] * 19235 + a[at + 2] * 3735 + 16384) >> 15;
  }
  return out;
}

/** Return a picture of size x size at m (2 x 3, to the places in from), linear between pixels (warpAffine, inverse).
 *
 * Beyond the picture its edge is repeated (replicate), or all is 0.
 */
export function warpAffine<T extends Uint8Array | Float32Array>(
  from: Picture<T>,
  m: readonly number[],
  size: number,
  replicate: boolean,
): Picture<T> {
  const c = from.channels, { width, height, data } = from;
  const isBytes = data instanceof Uint8Array;
  const out = (isBytes ? picture(size, size, c) : floatPicture(size, size, c)) as Picture<T>;
  const f = m.map(fround);
  for (let y = 0, to = 0; y < size; y++) {
    const rowX = fround(fround(f[1] * y) + f[2]), rowY = fround(fround(f[4] * y) + f[5]);
    for (let x = 0; x < size; x++) {
      const sx = fround(fround(f[0] * x) + rowX), sy = fround(fround(f[3] * x) + rowY);
      const ix = Math.floor(sx), iy = Math.floor(sy), a = fround(sx - ix), b = fround(sy - iy);
      const inX0 = ix >= 0 && ix < width, inX1 = ix + 1 >= 0 && ix + 1 < width;
      const inY0 = iy >= 0 && iy < height, inY1 = iy + 1 >= 0 && iy + 1 < height;
      const x0 = ix < 0 ? 0 : ix >= width ? width - 1 : ix, x1 = ix + 1 < 0 ? 0 : ix + 1 >= width ? width - 1 : ix + 1;
      const y0 = iy < 0 ? 0 : iy >= height ? height - 1 : iy;
      const y1 = iy + 1 < 0 ? 0 : iy + 1 >= height ? height - 1 : iy + 1;
      const k00 = (y0 * width + x0) * c, k01 = (y0 * width + x1) * c;
      const k10 = (y1 * width + x0) * c, k11 = (y1 * width + x1) * c;
      for (let i = 0; i < c; i++, to++) {
        const p00 = replicate || (inY0 && inX0) ? data[k00 + i] : 0, p01 = replicate || (inY0 && inX1) ? data[k01 + i] : 0;
        const p10 = replicate || (inY1 && inX0) ? data[k10 + i] : 0, p11 = replicate || (inY1 && inX1) ? data[k11 + i] : 0;
        const v0 = fround(p00 + a * (p01 - p00)), v1 = fround(p10 + a * (p11 - p10));
        const value = fround(v0 + b * (v1 - v0));
        out.data[to] = isBytes ? rint(value) : value;
      }
    }
  }
  return out;
}

/** Return |alpha * x|, rounded and at most 255 (convertScaleAbs). */
export function scaleAbs(from: Grey, alpha: number): Grey {
  const table = Uint8Array.from({ length: 256 }, (_, k) => Math.min(255, rint(Math.abs(fround(k * fround(alpha))))));
  return { ...from, data: from.data.map((value) => table[value]) };
}

/** Return the index mirrored at the first and the last pixel (BORDER_REFLECT_101). */
function mirrored(k: number, n: number): number {
  if (n === 1) return 0;
  while (k < 0 || k >= n) k = k < 0 ? -k : 2 * n - 2 - k;
  return k;
}

/** Return a picture of floats blurred by a Gaussian (GaussianBlur of float32, size chosen by sigma). */
export function gaussianBlur(from: Picture<Float32Array>, sigma: number): Picture<Float32Array> {
  const size = rint(sigma * 4 * 2 + 1) | 1, half = size >> 1;
  const raw = Array.from({ length: size }, (_, k) => Math.exp(-((k - half) ** 2) / (2 * sigma * sigma)));
  const total = raw.reduce((a, b) => a + b, 0);
  const kernel = Float32Array.from(raw, (value) => value / total);
  const { width, height } = from;
  const across = floatPicture(width, height, 1), out = floatPicture(width, height, 1);
  const line = new Float32Array(width + 2 * half), sums = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < line.length; x++) line[x] = from.data[y * width + mirrored(x - half, width)];
    for (let x = 0; x < width; x++) {
      let value = 0;
      for (let k = 0; k < size; k++) value += kernel[k] * line[x + k];
      across.data[y * width + x] = value;
    }
  }
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let k = 0; k < size; k++) {
      const at = mirrored(y + k - half, height) * width, share = kernel[k];
      for (let x = 0; x < width; x++) sums[x] += share * across.data[at + x];
    }
    out.data.set(sums, y * width);
  }
  return out;
}

/** Return the largest normalised correlation of a template at all places in a picture (TM_CCOEFF_NORMED). */
export function bestMatch(from: Picture<Float32Array>, template: Picture<Float32Array>): number {
  const { width: w, height: h } = template, n = w * h;
  let level = 0;
  for (const value of template.data) level += value / n;
  const centred = Float64Array.from(template.data, (value) => value - level);
  let norm = 0;
  for (const value of centred) norm += value * value;
  let best = -Infinity;
  for (let top = 0; top + h <= from.height; top++) {
    for (let left = 0; left + w <= from.width; left++) {
      let total = 0, square = 0, shared = 0;
      for (let y = 0, k = 0; y < h; y++) {
        let at = (top + y) * from.width + left;
        for (let x = 0; x < w; x++, k++, at++) {
          const value = from.data[at];
          total += value;
          square += value * value;
          shared += value * centred[k];
        }
      }
      const varies = Math.max(0, square - (total * total) / n);
      const root = Math.sqrt(varies * norm);
      // As OpenCV: rounding just above the norm is 1, without a norm 0.
      const value = Math.abs(shared) < root ? shared / root : Math.abs(shared) < root * 1.125 ? Math.sign(shared) : 0;
      if (value > best) best = value;
    }
  }
  return best;
}

/** Return a mask of 255 in an upright ellipse, as cv2.ellipse fills it. */
export function ellipseMask(width: number, height: number, at: [number, number], radii: [number, number]): Uint8Array {
  const mask = new Uint8Array(width * height);
  // OpenCV draws a polygon of steps of so many degrees.
  const largest = Math.max(...radii), step = largest < 3 ? 90 : largest < 10 ? 30 : largest < 15 ? 18 : 5;
  const points: [number, number][] = [];
  for (let degree = 0; degree <= 360; degree += step) {
    const angle = (degree * Math.PI) / 180;
    points.push([at[0] + radii[0] * Math.cos(angle), at[1] + radii[1] * Math.sin(angle)]);
  }
  // Its outline is lines one pixel wide, and all between them is filled.
  const low = new Float64Array(height).fill(Infinity), high = new Float64Array(height).fill(-Infinity);
  const mark = (x: number, y: number) => {
    if (y < 0 || y >= height) return;
    low[y] = Math.min(low[y], x);
    high[y] = Math.max(high[y], x);
  };
  for (let k = 0; k + 1 < points.length; k++) {
    const [x0, y0] = points[k], [x1, y1] = points[k + 1];
    const isFlat = Math.abs(x1 - x0) > Math.abs(y1 - y0);
    const [from, to] = isFlat ? [x0, x1] : [y0, y1], [start, end] = isFlat ? [y0, y1] : [x0, x1];
    for (let v = Math.floor(Math.min(from, to) + 0.5); v <= Math.floor(Math.max(from, to) + 0.5); v++) {
      const across = Math.floor((to === from ? start : start + ((end - start) * (v - from)) / (to - from)) + 0.5);
      if (isFlat) mark(v, across);
      else mark(across, v);
    }
    // What lies between is filled from whole rows: an edge runs from the row of one end to that of the other.
    const top = Math.floor(y0 + 0.5), bottom = Math.floor(y1 + 0.5), n = Math.abs(bottom - top);
    for (let v = 0; v < n; v++) {
      const share = bottom > top ? v / n : 1 - v / n;
      mark(Math.floor(x0 + (x1 - x0) * share + 0.5), Math.min(top, bottom) + v);
    }
  }
  for (let y = 0; y < height; y++) {
    for (let x = Math.max(0, low[y]); x <= Math.min(width - 1, high[y]); x++) mask[y * width + x] = 255;
  }
  return mask;
}

/** Return the corners of a picture (x, y, x, y, ...), the best first, at least minDistance apart (goodFeaturesToTrack). */
export function goodFeaturesToTrack(
  grey: Grey,
  maxCorners: number,
  quality: number,
  minDistance: number,
  mask: Uint8Array,
): number[] {
  const { width, height, data } = grey;
  const scale = 1 / (4 * 3 * 255), n = width * height;
  const xx = new Float32Array(n), xy = new Float32Array(n), yy = new Float32Array(n);
  for (let y = 0; y < height; y++) {
    const up = mirrored(y - 1, height) * width, here = y * width, down = mirrored(y + 1, height) * width;
    for (let x = 0; x < width; x++) {
      const l = mirrored(x - 1, width), r = mirrored(x + 1, width);
      const dx = fround(
        (data[up + r] - data[up + l] + 2 * (data[here + r] - data[here + l]) + data[down + r] - data[down + l]) * scale,
      );
      const dy = fround(
        (data[down + l] - data[up + l] + 2 * (data[down + x] - data[up + x]) + data[down + r] - data[up + r]) * scale,
      );
      xx[here + x] = dx * dx;
      xy[here + x] = dx * dy;
      yy[here + x] = dy * dy;
    }
  }
  const [a, b, c] = [xx, xy, yy].map((plane) => boxSum(plane, width, height));
  const quality0 = new Float32Array(n);
  let best = 0;
  for (let k = 0; k < n; k++) {
    const half = fround(a[k] * 0.5), other = fround(c[k] * 0.5), off = fround(half - other);
    const root = fround(Math.sqrt(fround(fround(off * off) + fround(b[k] * b[k]))));
    quality0[k] = fround(half + other) - root;
    if (mask[k] && quality0[k] > best) best = quality0[k];
  }
  const least = fround(best * quality);
  for (let k = 0; k < n; k++) if (!(quality0[k] > least)) quality0[k] = 0;
  const found: number[] = [];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const k = y * width + x, value = quality0[k];
      if (value === 0 || !mask[k]) continue;
      let isPeak = true;
      for (let v = -width; v <= width && isPeak; v += width) {
        for (let u = -1; u <= 1; u++) if (quality0[k + v + u] > value) isPeak = false;
      }
      if (isPeak) found.push(k);
    }
  }
  found.sort((i, j) => quality0[j] - quality0[i] || j - i);
  const corners: number[] = [];
  for (const k of found) {
    const x = k % width, y = (k - x) / width;
    let isFar = true;
    for (let i = 0; i < corners.length && isFar; i += 2) {
      isFar = (corners[i] - x) ** 2 + (corners[i + 1] - y) ** 2 >= minDistance ** 2;
    }
    if (isFar) corners.push(x, y);
    if (corners.length === 2 * maxCorners) break;
  }
  return corners;
}

/** Return the sums over 3 x 3 pixels. */
function boxSum(plane: Float32Array, width: number, height: number): Float32Array {
  const across = new Float64Array(plane.length), out = new Float32Array(plane.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width;
      across[at + x] = plane[at + mirrored(x - 1, width)] + plane[at + x] + plane[at + mirrored(x + 1, width)];
    }
  }
  for (let y = 0; y < height; y++) {
    const up = mirrored(y - 1, height) * width, here = y * width, down = mirrored(y + 1, height) * width;
    for (let x = 0; x < width; x++) out[here + x] = across[up + x] + across[here + x] + across[down + x];
  }
  return out;
}

// -- optical flow by Lucas and Kanade

const WINDOW = 13, HALF = (WINDOW - 1) / 2, BITS = 14;
const MAX_STEPS = 30, LEAST_STEP_SQUARED = 0.01 * 0.01, LEAST_EIGENVALUE = 1e-4;

/** A level of a pyramid: the picture and its slopes, read beyond their borders as OpenCV pads them. */
interface Level {
  width: number;
  height: number;
  /** Padded by WINDOW pixels on each side, mirrored. */
  pixels: Uint8Array;
  /** Slopes across and down in turn, padded with zeros; made where they are needed. */
  slopes: Int16Array | null;
}

export type Pyramid = Level[];

/** Return the pyramid of a picture with at most maxLevel levels above it. */
export function buildPyramid(grey: Grey, maxLevel: number): Pyramid {
  const levels: Pyramid = [padLevel(grey)];
  let last = grey;
  for (let level = 1; level <= maxLevel; level++) {
    const width = (last.width + 1) >> 1, height = (last.height + 1) >> 1;
    if (width <= WINDOW || height <= WINDOW) break;
    last = pyramidDown(last, width, height);
    levels.push(padLevel(last));
  }
  return levels;
}

function padLevel({ width, height, data }: Grey): Level {
  const stride = width + 2 * WINDOW, pixels = new Uint8Array(stride * (height + 2 * WINDOW));
  for (let y = -WINDOW; y < height + WINDOW; y++) {
    const from = mirrored(y, height) * width, to = (y + WINDOW) * stride + WINDOW;
    pixels.set(data.subarray(from, from + width), to);
    for (let x = 1; x <= WINDOW; x++) {
      pixels[to - x] = data[from + mirrored(-x, width)];
      pixels[to + width - 1 + x] = data[from + mirrored(width - 1 + x, width)];
    }
  }
  return { width, height, pixels, slopes: null };
}

/** Return half the picture, smoothed by 1 4 6 4 1 (pyrDown). */
function pyramidDown({ width, height, data }: Grey, newWidth: number, newHeight: number): Grey {
  const out = picture(newWidth, newHeight, 1), across = new Int32Array(newWidth * height);
  for (let y = 0; y < height; y++) {
    const at = y * width;
    for (let x = 0; x < newWidth; x++) {
      const m = 2 * x;
      across[y * newWidth + x] =
        data[at + mirrored(m - 2, width)] + data[at + mirrored(m + 2, width)] + 6 * data[at + mirrored(m, width)] +
        4 * (data[at + mirrored(m - 1, width)] + data[at + mirrored(m + 1, width)]);
    }
  }
  for (let y = 0; y < newHeight; y++) {
    const rows = [-2, -1, 0, 1, 2].map((k) => mirrored(2 * y + k, height) * newWidth);
    for (let x = 0; x < newWidth; x++) {
      const total =
        across[rows[0] + x] + across[rows[4] + x] + 6 * across[rows[2] + x] + 4 * (across[rows[1] + x] + across[rows[3] + x]);
      out.data[y * newWidth + x] = (total + 128) >> 8;
    }
  }
  return out;
}

/** Return the slopes of a level by Scharr's 3 10 3. */
function slopesOf(level: Level): Int16Array {
  if (level.slopes !== null) return level.slopes;
  const { width, height, pixels } = level, stride = width + 2 * WINDOW;
  const slopes = new Int16Array(2 * stride * (height + 2 * WINDOW));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const k = (y + WINDOW) * stride + x + WINDOW, up = k - stride, down = k + stride;
      slopes[2 * k] =
        3 * (pixels[up + 1] - pixels[up - 1] + pixels[down + 1] - pixels[down - 1]) + 10 * (pixels[k + 1] - pixels[k - 1]);
      slopes[2 * k + 1] =
        3 * (pixels[down - 1] - pixels[up - 1] + pixels[down + 1] - pixels[up + 1]) + 10 * (pixels[down] - pixels[up]);
    }
  }
  level.slopes = slopes;
  return slopes;
}

/** Return where points (x, y, x, y, ...) of one picture are in the next, and which were found (calcOpticalFlowPyrLK).
 *
 * guess is where they may be; levels is how many levels above the pictures themselves are used.
 */
export function opticalFlow(
  before: Pyramid,
  after: Pyramid,
  points: Float32Array,
  guess: Float32Array | null,
  maxLevel: number,
): { points: Float32Array; found: Uint8Array } {
  const nPoints = points.length / 2, next = new Float32Array(points.length), found = new Uint8Array(nPoints).fill(1);
  const top = Math.min(maxLevel, before.length - 1, after.length - 1);
  const area = WINDOW * WINDOW, patch = new Int32Array(area), slope = new Int32Array(2 * area), scale = 1 / (1 << 20);
  for (let l = top; l >= 0; l--) {
    const a = before[l], b = after[l], slopes = slopesOf(a);
    const stride = a.width + 2 * WINDOW, strideB = b.width + 2 * WINDOW, shrink = 1 / (1 << l);
    for (let p = 0; p < nPoints; p++) {
      const x = fround(points[2 * p] * shrink), y = fround(points[2 * p + 1] * shrink);
      let nx: number, ny: number;
      if (l === top) {
        nx = guess === null ? x : fround(guess[2 * p] * shrink);
        ny = guess === null ? y : fround(guess[2 * p + 1] * shrink);
      } else {
        nx = fround(next[2 * p] * 2);
        ny = fround(next[2 * p + 1] * 2);
      }
      next[2 * p] = nx;
      next[2 * p + 1] = ny;
      const px = fround(x - HALF), py = fround(y - HALF), ix = Math.floor(px), iy = Math.floor(py);
      if (ix < -WINDOW || ix >= a.width || iy < -WINDOW || iy >= a.height) {
        if (l === 0) found[p] = 0;
        continue;
      }
      let fx = fround(px - ix), fy = fround(py - iy);
      let w00 = rint(fround(fround((1 - fx) * fround(1 - fy)) * (1 << BITS)));
      let w01 = rint(fround(fround(fx * fround(1 - fy)) * (1 << BITS)));
      let w10 = rint(fround(fround((1 - fx) * fy) * (1 << BITS)));
      let w11 = (1 << BITS) - w00 - w01 - w10;
      let a11 = 0, a12 = 0, a22 = 0;
      for (let v = 0, k = 0; v < WINDOW; v++) {
        let at = (iy + v + WINDOW) * stride + ix + WINDOW;
        for (let u = 0; u < WINDOW; u++, at++, k++) {
          patch[k] =
            (a.pixels[at] * w00 + a.pixels[at + 1] * w01 + a.pixels[at + stride] * w10 + a.pixels[at + stride + 1] * w11 +
              (1 << (BITS - 6))) >> (BITS - 5);
          const s = 2 * at, t = 2 * (at + stride), half = 1 << (BITS - 1);
          const sx = (slopes[s] * w00 + slopes[s + 2] * w01 + slopes[t] * w10 + slopes[t + 2] * w11 + half) >> BITS;
          const sy = (slopes[s + 1] * w00 + slopes[s + 3] * w01 + slopes[t + 1] * w10 + slopes[t + 3] * w11 + half) >> BITS;
          slope[2 * k] = sx;
          slope[2 * k + 1] = sy;
          a11 += sx * sx;
          a12 += sx * sy;
          a22 += sy * sy;
        }
      }
      a11 = fround(a11 * scale);
      a12 = fround(a12 * scale);
      a22 = fround(a22 * scale);
      const d = fround(fround(a11 * a22) - fround(a12 * a12));
      const least = (a22 + a11 - Math.sqrt((a11 - a22) ** 2 + 4 * a12 * a12)) / (2 * area);
      if (least < LEAST_EIGENVALUE || d < 1.1920929e-7) {
        if (l === 0) found[p] = 0;
        continue;
      }
      const inverse = fround(1 / d);
      nx = fround(nx - HALF);
      ny = fround(ny - HALF);
      let lastX = 0, lastY = 0;
      for (let step = 0; step < MAX_STEPS; step++) {
        const jx = Math.floor(nx), jy = Math.floor(ny);
        if (jx < -WINDOW || jx >= b.width || jy < -WINDOW || jy >= b.height) {
          if (l === 0) found[p] = 0;
          break;
        }
        fx = fround(nx - jx);
        fy = fround(ny - jy);
        w00 = rint(fround(fround((1 - fx) * fround(1 - fy)) * (1 << BITS)));
        w01 = rint(fround(fround(fx * fround(1 - fy)) * (1 << BITS)));
        w10 = rint(fround(fround((1 - fx) * fy) * (1 << BITS)));
        w11 = (1 << BITS) - w00 - w01 - w10;
        let b1 = 0, b2 = 0;
        for (let v = 0, k = 0; v < WINDOW; v++) {
          let at = (jy + v + WINDOW) * strideB + jx + WINDOW;
          for (let u = 0; u < WINDOW; u++, at++, k++) {
            const difference =
              ((b.pixels[at] * w00 + b.pixels[at + 1] * w01 + b.pixels[at + strideB] * w10 + b.pixels[at + strideB + 1] * w11 +
                (1 << (BITS - 6))) >> (BITS - 5)) - patch[k];
            b1 += difference * slope[2 * k];
            b2 += difference * slope[2 * k + 1];
          }
        }
        b1 = fround(b1 * scale);
        b2 = fround(b2 * scale);
        const dx = fround((a12 * b2 - a22 * b1) * inverse), dy = fround((a12 * b1 - a11 * b2) * inverse);
        nx = fround(nx + dx);
        ny = fround(ny + dy);
        next[2 * p] = fround(nx + HALF);
        next[2 * p + 1] = fround(ny + HALF);
        if (dx * dx + dy * dy <= LEAST_STEP_SQUARED) break;
        if (step > 0 && Math.abs(dx + lastX) < 0.01 && Math.abs(dy + lastY) < 0.01) {
          next[2 * p] = fround(next[2 * p] - dx * 0.5);
          next[2 * p + 1] = fround(next[2 * p + 1] - dy * 0.5);
          break;
        }
        lastX = dx;
        lastY = dy;
      }
      const ex = Math.floor(next[2 * p] - HALF), ey = Math.floor(next[2 * p + 1] - HALF);
      if (l === 0 && (ex < -WINDOW || ex >= b.width || ey < -WINDOW || ey >= b.height)) found[p] = 0;
    }
  }
  return { points: next, found };
}

/** Follow points from one picture to another, as one call of OpenCV; for the tests. */
export function flowForTest(before: Grey, after: Grey, points: Float32Array, maxLevel: number) {
  return opticalFlow(buildPyramid(before, maxLevel), buildPyramid(after, maxLevel), points, null, maxLevel);
}
