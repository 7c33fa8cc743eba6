/** Read colours from a frame and a face box: mean skin, regions, background and crop, as `autohr.video.regions`. */

import { type Row, median, rint } from "../signals/arrays";
import type { Frame } from "../types";
import { type Picture, cropped, halve, picture, resizeArea, warpAffine } from "./opencv";

export const PATCH_PX = 64;
export const MIN_STEP = 0.95;
export const KEPT_STEPS: readonly [number, number] = [0.85, 2.1];
export const GRID = 4;
export const SKIN_MEMORY_S = 2.0;
export const SKIN_SPREAD = 2.5;
export const MIN_THIN_PX: readonly [number, number] = [144, 108];
export const CELL_SPREAD = 0.2;
export const MIN_SKIN_SHARE = 0.25;
const N_SPOTS = 5;
const N_REGIONS = GRID * GRID + N_SPOTS;

/** Mean colours of one face in one frame: the skin (3) and the regions (R * 3), NaN where a region holds no skin. */
export interface Colours {
  rgb: Row;
  traces: Row;
}

/** Return the colours of a face in a frame that does not show it. */
export function unseen(): Colours {
  return { rgb: new Float64Array(3).fill(NaN), traces: new Float64Array(3 * N_REGIONS).fill(NaN) };
}

/** Reader of one face's colours, frame after frame. State: the slowly following skin mask. */
export class SkinReader {
  private mask: Float32Array | null = null;
  private gridWeights: Row = new Float64Array(GRID * GRID);
  private measuredS = -Infinity;

  /** Read the face in a box (4) of which the patch is given; landmarks (10: x, y, ...) in pixels. */
  read(patch: Picture<Float32Array>, boxXywh: Row, landmarks: Row, tS: number): Colours {
    this.follow(patch, tS);
    const mask = this.mask as Float32Array, cell = PATCH_PX / GRID;
    const sums = new Float64Array(3 * N_REGIONS), weights = new Float64Array(N_REGIONS);
    for (let y = 0, k = 0; y < PATCH_PX; y++) {
      for (let x = 0; x < PATCH_PX; x++, k++) {
        const r = 3 * (Math.floor(y / cell) * GRID + Math.floor(x / cell)), share = mask[k];
        sums[r] += patch.data[3 * k] * share;
        sums[r + 1] += patch.data[3 * k + 1] * share;
        sums[r + 2] += patch.data[3 * k + 2] * share;
      }
    }
    weights.set(this.gridWeights);
    const rgb = new Float64Array(3);
    let total = 0;
    for (let r = 0; r < GRID * GRID; r++) {
      total += weights[r];
      for (let i = 0; i < 3; i++) rgb[i] += sums[3 * r + i];
    }
    landmarkSums(patch, mask, boxXywh, landmarks, sums, weights);
    const traces = sums.map((value, k) => {
      const r = Math.floor(k / 3);
      return weights[r] >= MIN_SKIN_SHARE * REGION_SIZE[r] ? value / weights[r] : NaN;
    });
    return { rgb: rgb.map((value) => value / total), traces };
  }

  private follow(patch: Picture<Float32Array>, tS: number): void {
    if (this.mask !== null && tS - this.measuredS >= 0 && tS - this.measuredS < 0.1) return;
    const mask = skinLikelihood(patch);
    for (let k = 0; k < mask.length; k++) mask[k] *= OVAL[k];
    if (this.mask !== null) {
      const gain = 1 - Math.exp(-Math.max(tS - this.measuredS, 0) / SKIN_MEMORY_S);
      for (let k = 0; k < mask.length; k++) mask[k] = this.mask[k] + gain * (mask[k] - this.mask[k]);
    }
    this.mask = mask;
    this.measuredS = tS;
    this.gridWeights = new Float64Array(GRID * GRID);
    const cell = PATCH_PX / GRID;
    for (let y = 0, k = 0; y < PATCH_PX; y++) {
      for (let x = 0; x < PATCH_PX; x++, k++) this.gridWeights[Math.floor(y / cell) * GRID + Math.floor(x / cell)] += mask[k];
    }
  }
}

/** Return how often a picture is halved before its box (4) is read with sizePx pixels across. */
export function nHalvings(boxXywh: Row, sizePx: number, last: number | null = null): number {
  const step = Math.sqrt(Math.max(boxXywh[2] * boxXywh[3], 1)) / sizePx;
  if (last !== null && KEPT_STEPS[0] <= step / 2 ** last && step / 2 ** last <= KEPT_STEPS[1]) return last;
  return Math.max(0, Math.floor(Math.log2(step / MIN_STEP)));
}

/** A part of a frame, in whole pixels, and how often it is halved. */
export interface Place {
  left: number;
  top: number;
  right: number;
  bottom: number;
  halvings: number;
}

function holds(outer: Place, inner: Place): boolean {
  return outer.left <= inner.left && outer.top <= inner.top && outer.right >= inner.right && outer.bottom >= inner.bottom;
}

/** Return the place of a box (4) in frame, grown by reach pixels across and down, in whole blocks. */
export function placeAround(frame: Frame, boxXywh: Row, reach: readonly [number, number], asked: number): Place {
  const { width, height } = frame;
  const halvings = Math.min(asked, Math.max(0, Math.floor(Math.log2(Math.min(height, width) / 2))));
  const block = 2 ** halvings, [x, y, w, h] = boxXywh;
  const across = reach[0] + block, down = reach[1] + block;
  const [left, right] = blocks(x - across, x + w + across, width, block);
  const [top, bottom] = blocks(y - down, y + h + down, height, block);
  return { left, top, right, bottom, halvings };
}

function blocks(low: number, high: number, whole: number, block: number): [number, number] {
  const n = Math.floor(whole / block);
  const first = Math.max(0, Math.min(Math.floor(low / block), n - 2));
  return [first * block, Math.min(Math.max(Math.ceil(high / block), first + 2), n) * block];
}

/** The surroundings of a face, reduced once for all that is read of them. */
export class FacePicture {
  readonly pixels: Picture;
  private exact: Picture<Float32Array> | null = null;

  constructor(
    frame: Frame,
    readonly place: Place,
  ) {
    let part = cropped({ ...frame, channels: 3 }, place.left, place.top, place.right, place.bottom);
    for (let k = 0; k < place.halvings; k++) part = halve(part);
    this.pixels = part;
  }

  /** Cut out a box (4), grown by margin of its sides on each of them, as sizePx x sizePx floats, 0..255. */
  patch(boxXywh: Row, sizePx: number = PATCH_PX, margin = 0): Picture<Float32Array> {
    const [x, y, w, h] = boxXywh, block = 2 ** this.place.halvings;
    const stepX = (w * (1 + 2 * margin)) / sizePx / block, stepY = (h * (1 + 2 * margin)) / sizePx / block;
    const toPicture = [
      stepX, 0, (x - margin * w - this.place.left) / block + 0.5 * stepX - 0.5,
      0, stepY, (y - margin * h - this.place.top) / block + 0.5 * stepY - 0.5,
    ];
    this.exact ??= { ...this.pixels, data: new Float32Array(this.pixels.data) };
    return warpAffine(this.exact, toPicture, sizePx, true);
  }
}

/** Return the picture of a box (4), grown by margin of its sides: made if that shows it, or a new one. */
export function facePicture(
  frame: Frame,
  boxXywh: Row,
  halvings: number,
  margin: number,
  made: FacePicture | null = null,
): FacePicture {
  const reach: [number, number] = [margin * boxXywh[2], margin * boxXywh[3]];
  if (made !== null && holds(made.place, placeAround(frame, boxXywh, reach, made.place.halvings))) return made;
  return new FacePicture(frame, placeAround(frame, boxXywh, reach, halvings));
}

/** Scale a square picture to sizePx, as nets are given it: area average where it shrinks. */
export function scaled(from: Picture, sizePx: number): Picture<Float32Array> {
  return resizeArea({ ...from, data: new Float32Array(from.data) }, sizePx, sizePx);
}

/** Every few pixels of a frame: enough for means of large parts of it. */
export interface Thinned {
  pixels: Picture;
  step: number;
}

export function thinned(frame: Frame): Thinned {
  const step = Math.min(
    Math.max(Math.min(Math.floor(frame.width / MIN_THIN_PX[0]), Math.floor(frame.height / MIN_THIN_PX[1])), 1),
    4,
  );
  const out = picture(Math.floor(frame.width / step), Math.floor(frame.height / step), 3);
  for (let y = 0, to = 0; y < out.height; y++) {
    let at = y * step * frame.width * 3;
    for (let x = 0; x < out.width; x++, at += 3 * step) {
      out.data[to++] = frame.data[at];
      out.data[to++] = frame.data[at + 1];
      out.data[to++] = frame.data[at + 2];
    }
  }
  return { pixels: out, step };
}

/** Return the mean colour (3) of a thinned frame outside the heads and the bodies under them; NaN where little is left. */
export function backgroundColour(thin: Thinned, boxes: Row[]): Row {
  const { width, height, data } = thin.pixels;
  const outside = new Uint8Array(width * height).fill(1);
  const clear = (top: number, bottom: number, left: number, right: number) => {
    for (let row = top; row < Math.min(bottom, height); row++) {
      outside.fill(0, row * width + Math.min(left, width), row * width + Math.max(Math.min(left, width), Math.min(right, width)));
    }
  };
  const whole = (value: number) => Math.floor(Math.max(0, value));
  for (const box of boxes) {
    const [x, y, w, h] = box.map((value) => value / thin.step);
    clear(whole(y - 0.6 * h), whole(y + 1.2 * h), whole(x - 0.5 * w), whole(x + 1.5 * w));
    clear(whole(y + h), height, whole(x - 1.2 * w), whole(x + 2.2 * w));
  }
  const total = new Float64Array(3);
  let count = 0;
  for (let k = 0; k < outside.length; k++) {
    if (outside[k] === 0) continue;
    count++;
    for (let i = 0; i < 3; i++) total[i] += data[3 * k + i];
  }
  if (count < Math.max(1, 0.03 * outside.length)) return total.fill(NaN);
  return total.map((value) => value / count);
}

/** Return the mean colours of a raster of one picture: nCells * nCells colours, row by row. */
export function cellsOf(one: Picture, nCells: number): Row[] {
  const means = resizeArea({ ...one, data: new Float32Array(one.data) }, nCells, nCells);
  return Array.from({ length: nCells * nCells }, (_, k) => Float64Array.from(means.data.subarray(3 * k, 3 * k + 3)));
}

/** Return the share of skin, 0..1, of each cell of a square raster around a face with mean colours rgb (R, 3). */
export function skinOfCells(rgb: Row[]): Row {
  const side = Math.round(Math.sqrt(rgb.length));
  const safe = rgb.map((colour) => colour.map((value) => Math.max(value, 1)));
  const ratios = safe.map(([r, g, b]) => [Math.log(r) - Math.log(g), Math.log(g) - Math.log(b)]);
  const total = safe.map(([r, g, b]) => r + g + b);
  const aside = Array.from({ length: side }, (_, k) => Math.abs(k - (side - 1) / 2) < 0.3 * side);
  const middle = rgb.flatMap((_, k) => (aside[Math.floor(k / side)] && aside[k % side] ? [k] : []));
  const centre = [0, 1].map((i) => median(middle.map((k) => ratios[k][i])));
  const level = median(middle.map((k) => total[k]));
  return Float64Array.from(rgb, (_, k) => {
    const far = (ratios[k][0] - centre[0]) ** 2 + (ratios[k][1] - centre[1]) ** 2;
    return Math.exp(-far / CELL_SPREAD ** 2) * Math.min(total[k] / level, 1);
  });
}

/** Return the likeness, 0..1, of each pixel's colour to the centre of this face, whoever it is. */
function skinLikelihood(patch: Picture<Float32Array>): Float32Array {
  const side = patch.width, n = side * side;
  const features = [new Float32Array(n), new Float32Array(n), new Float32Array(n)];
  for (let k = 0; k < n; k++) {
    const r = Math.log(Math.max(patch.data[3 * k], 1)), g = Math.log(Math.max(patch.data[3 * k + 1], 1));
    const b = Math.log(Math.max(patch.data[3 * k + 2], 1));
    features[0][k] = r - g;
    features[1][k] = g - b;
    features[2][k] = (r + g + b) / 6;
  }
  const top = Math.floor(0.4 * side), bottom = Math.floor(0.75 * side);
  const left = Math.floor(0.2 * side), right = Math.floor(0.8 * side);
  const distance = new Float64Array(n);
  for (const feature of features) {
    const centre = new Float32Array((bottom - top) * (right - left));
    for (let y = top, k = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, k++) centre[k] = feature[y * side + x];
    }
    const middle = medianFloat(centre);
    const spread = Math.max(1.4826 * medianFloat(centre.map((value) => Math.abs(value - middle))), 0.04);
    for (let k = 0; k < n; k++) distance[k] += ((feature[k] - middle) / spread) ** 2;
  }
  const likelihood = new Float32Array(n);
  for (let k = 0; k < n; k++) {
    const alike = 0.5 - 0.5 * Math.tanh(2 * (Math.sqrt(distance[k] / 3) - SKIN_SPREAD));
    const lightest = Math.max(patch.data[3 * k], patch.data[3 * k + 1], patch.data[3 * k + 2]);
    const usable = Math.min(Math.max((250 - lightest) / 10, 0), 1) * Math.min(Math.max((lightest - 15) / 15, 0), 1);
    likelihood[k] = Math.max(alike * usable, 1e-3);
  }
  return likelihood;
}

function medianFloat(values: Float32Array): number {
  const ordered = values.slice().sort(), n = ordered.length;
  return Math.fround((ordered[(n - 1) >> 1] + ordered[n >> 1]) / 2);
}

/** A soft oval inside the detector's box, the corners of which are hair, ears and background. */
const OVAL = Float32Array.from({ length: PATCH_PX * PATCH_PX }, (_, k) => {
  const x = ((k % PATCH_PX) + 0.5) / PATCH_PX, y = (Math.floor(k / PATCH_PX) + 0.5) / PATCH_PX;
  const reach = Math.sqrt(((x - 0.5) / 0.46) ** 2 + ((y - 0.5) / 0.52) ** 2);
  return Math.min(Math.max((1 - reach) / 0.08 + 0.5, 0), 1);
});

const SPOTS = [[0, -0.75], [-0.55, 0.6], [0.55, 0.6], [0, 0.45], [0, 1.55]];
const SPOT_RADIUS = 0.25;
const REGION_SIZE = Float64Array.from({ length: N_REGIONS }, (_, r) =>
  r < GRID * GRID ? (PATCH_PX / GRID) ** 2 : Math.PI * (SPOT_RADIUS * 0.4 * PATCH_PX) ** 2,
);

/** Add the sums of a patch over round regions, weighted by the mask, and the sums of the weights. */
function landmarkSums(
  patch: Picture<Float32Array>,
  mask: Float32Array,
  boxXywh: Row,
  landmarks: Row,
  sums: Row,
  weights: Row,
): void {
  const [x, y, w, h] = boxXywh;
  const px = (k: number) => ((landmarks[2 * k] - x) * PATCH_PX) / w, py = (k: number) => ((landmarks[2 * k + 1] - y) * PATCH_PX) / h;
  const eyes = [(px(0) + px(1)) / 2, (py(0) + py(1)) / 2], mouth = [(px(3) + px(4)) / 2, (py(3) + py(4)) / 2];
  const along = [px(1) - px(0), py(1) - py(0)], down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  const radius = SPOT_RADIUS * Math.max(Math.hypot(along[0], along[1]), 0.1 * PATCH_PX);
  const side = Math.min(2 * Math.ceil(Math.min(radius, PATCH_PX) + 0.5) + 1, PATCH_PX);
  SPOTS.forEach(([right, under], s) => {
    const centre = [0, 1].map((i) => eyes[i] + right * along[i] + under * down[i] - 0.5);
    const start = centre.map((at) => Math.min(Math.max(rint(at - Math.floor(side / 2)), 0), PATCH_PX - side));
    const r = GRID * GRID + s;
    for (let v = start[1]; v < start[1] + side; v++) {
      for (let u = start[0]; u < start[0] + side; u++) {
        const away = Math.hypot(u - centre[0], v - centre[1]), k = v * PATCH_PX + u;
        const share = Math.min(Math.max(radius + 0.5 - away, 0), 1) * mask[k];
        weights[r] += share;
        for (let i = 0; i < 3; i++) sums[3 * r + i] += share * patch.data[3 * k + i];
      }
    }
  });
}

