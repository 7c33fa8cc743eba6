/** Find faces in a picture with MTCNN, as `autohr.video.detector`. */

import { type Row, clip, rint } from "../signals/arrays";
import type { Frame } from "../types";
import { type Picture, cropped, halve, picture, resizeArea } from "./opencv";

export const PYRAMID_FACTOR = 0.709;
export const CELL_PX = 12;
export const STRIDE_PX = 2;
export const MIN_SCORES: readonly [number, number, number] = [0.6, 0.7, 0.8];
export const MAX_PROPOSALS = 400;
export const NEAR_REACH = 1.0;
export const NEAR_SIZES: readonly [number, number] = [0.4, 2.0];

/** One face in one picture, in pixels of that picture. */
export interface Detection {
  /** (4) left, top, width, height; may reach over the border. */
  boxXywh: Row;
  score: number;
  /** (10) x, y of left eye, right eye, nose, left and right mouth corner. */
  landmarks: Row;
}

/** An array that a network gives. */
export interface Output {
  data: Float32Array;
  dims: readonly number[];
}

/** The three networks: pictures (N, height, width, 3) in, scores, box shifts and, of O-Net, landmarks out. */
export interface Networks {
  run(name: "pnet" | "rnet" | "onet", images: Uint8Array, dims: number[]): Promise<Output[]>;
}

export interface Detects {
  detect(frame: Frame): Promise<Detection[]>;
  detectNear?(frame: Frame, boxXywh: Row): Promise<Detection[]>;
}

/** A window with the score and the shifts that a network gave it. */
interface Candidate {
  /** left, top, right, bottom */
  box: number[];
  score: number;
  shift: ArrayLike<number>;
}

export class FaceDetector implements Detects {
  constructor(
    private readonly networks: Networks,
    private readonly minFacePx = 40,
    private readonly maxSidePx = 640,
  ) {}

  /** Return the faces of frame, sorted by width times score, largest first. */
  detect(frame: Frame): Promise<Detection[]> {
    return this.search(frame, null);
  }

  /** Return the faces of frame in the surroundings of a box (4), of about its size. */
  detectNear(frame: Frame, boxXywh: Row): Promise<Detection[]> {
    return this.search(frame, boxXywh);
  }

  private async search(frame: Frame, nearXywh: Row | null): Promise<Detection[]> {
    const { width, height } = frame;
    if (Math.min(height, width) < CELL_PX) return [];
    const reduce = Math.min(1, this.maxSidePx / Math.max(height, width));
    let image: Picture = { data: frame.data as Uint8Array, width, height, channels: 3 };
    if (reduce < 1) {
      const bytes = { ...image, data: new Uint8Array(frame.data.buffer, frame.data.byteOffset, frame.data.length) };
      image = resizeArea(bytes, Math.max(CELL_PX, rint(width * reduce)), Math.max(CELL_PX, rint(height * reduce)));
    }
    const backX = width / image.width, backY = height / image.height;
    const near = nearXywh && [
      nearXywh[0] / backX,
      nearXywh[1] / backY,
      (nearXywh[0] + nearXywh[2]) / backX,
      (nearXywh[1] + nearXywh[3]) / backY,
    ];
    const found = (await this.cascade(image, near)).map(({ box, score, shift }) => ({
      boxXywh: Float64Array.of(box[0] * backX, box[1] * backY, (box[2] - box[0]) * backX, (box[3] - box[1]) * backY),
      score,
      landmarks: Float64Array.from(shift, (value, k) => value * (k % 2 ? backY : backX)),
    }));
    return found.sort((a, b) => b.boxXywh[2] * b.score - a.boxXywh[2] * a.score);
  }

  /** Return faces in pixels of image; their shift holds the landmarks (10). */
  private async cascade(image: Picture, near: number[] | null): Promise<Candidate[]> {
    const pictures = halved(image);
    const levels: Candidate[] = [];
    for (const scale of pyramidScales(image.height, image.width, this.minFacePx)) {
      const size: [number, number] = [Math.ceil(image.width * scale), Math.ceil(image.height * scale)];
      const [left, top, right, bottom] = near === null ? [0, 0, ...size] : surroundings(near, scale, size);
      if (Math.min(right - left, bottom - top) < CELL_PX) continue;
      const nearest = pictures[Math.floor(clip(-Math.log2(scale), 0, pictures.length - 1))];
      const part = cropped(resizeArea(nearest, ...size), left, top, right, bottom);
      const [scores, shifts] = await this.networks.run("pnet", part.data, [1, part.height, part.width, 3]);
      const columns = scores.dims[2];
      const windows: Candidate[] = [];
      for (let k = 0; k < scores.data.length; k++) {
        const score = scores.data[k];
        if (!(score >= MIN_SCORES[0])) continue;
        const x = (k % columns) * STRIDE_PX + left, y = Math.floor(k / columns) * STRIDE_PX + top;
        const box = [x, y, x + CELL_PX, y + CELL_PX].map((side) => side / scale);
        windows.push({ box, score, shift: shifts.data.slice(4 * k, 4 * k + 4) });
      }
      levels.push(...suppress(windows, 0.5));
    }
    let boxes = suppress(levels, 0.7).slice(0, MAX_PROPOSALS).map(shifted).map(squared);
    if (boxes.length === 0) return [];
    let faces = await this.look("rnet", pictures, boxes, 24, MIN_SCORES[1]);
    boxes = suppress(faces, 0.7).map(shifted).map(squared);
    if (boxes.length === 0) return [];
    faces = await this.look("onet", pictures, boxes, 48, MIN_SCORES[2]);
    return suppress(
      faces.map((face) => {
        const [left, top, right, bottom] = face.box;
        const points = Float64Array.from(face.points, (value, k) =>
          k % 2 ? top + value * (bottom - top) : left + value * (right - left),
        );
        return { box: shifted(face), score: face.score, shift: points };
      }),
      0.7,
      true,
    );
  }

  /** Return what a network says of boxes, as far as their score is at least minScore. */
  private async look(
    name: "rnet" | "onet",
    pictures: Picture[],
    boxes: number[][],
    sidePx: number,
    minScore: number,
  ): Promise<(Candidate & { points: Float32Array })[]> {
    const { patches, cut } = cutOut(pictures, boxes, sidePx);
    const [scores, shifts, points] = await this.networks.run(name, patches, [boxes.length, sidePx, sidePx, 3]);
    return cut.flatMap((box, k) => {
      const score = scores.data[k], shift = shifts.data.slice(4 * k, 4 * k + 4);
      const landmarks = points === undefined ? new Float32Array(0) : points.data.slice(10 * k, 10 * k + 10);
      return score >= minScore ? [{ box, score, shift, points: landmarks }] : [];
    });
  }
}

/** Return the scales at which faces from minFacePx up to the whole picture fill P-Net's window. */
export function pyramidScales(height: number, width: number, minFacePx: number): number[] {
  const scales: number[] = [];
  for (let scale = CELL_PX / minFacePx; Math.min(height, width) * scale >= CELL_PX; scale *= PYRAMID_FACTOR) {
    scales.push(scale);
  }
  return scales;
}

/** Return the part (left, top, right, bottom) of a pyramid level in which to search a face near a box. */
export function surroundings(near: ArrayLike<number>, scale: number, size: readonly [number, number]): number[] {
  const facePx = Math.sqrt((near[2] - near[0]) * (near[3] - near[1]));
  if (!(NEAR_SIZES[0] * facePx < CELL_PX / scale && CELL_PX / scale < NEAR_SIZES[1] * facePx)) return [0, 0, 0, 0];
  const low = [0, 1].map((i) => (near[i] - NEAR_REACH * facePx) * scale);
  const high = [2, 3].map((i) => (near[i] + NEAR_REACH * facePx) * scale);
  const [left, top] = low.map((at) => Math.floor(Math.trunc(Math.max(0, at)) / STRIDE_PX) * STRIDE_PX);
  const [right, bottom] = high.map((at, i) => Math.trunc(Math.min(at, size[i])));
  return [left, top, right, bottom];
}

/** Return the candidates to keep, best first (non-maximum suppression). */
function suppress<T extends Candidate>(candidates: T[], maxOverlap: number, overSmaller = false): T[] {
  const order = candidates.slice().sort((a, b) => b.score - a.score); // stable, as in Python
  const area = ({ box }: T) => (box[2] - box[0]) * (box[3] - box[1]);
  const keep: T[] = [];
  for (const one of order) {
    const isNew = keep.every((best) => {
      const across = Math.min(one.box[2], best.box[2]) - Math.max(one.box[0], best.box[0]);
      const down = Math.min(one.box[3], best.box[3]) - Math.max(one.box[1], best.box[1]);
      const shared = Math.max(across, 0) * Math.max(down, 0);
      const whole = overSmaller ? Math.min(area(one), area(best)) : area(one) + area(best) - shared;
      return shared <= maxOverlap * whole;
    });
    if (isNew) keep.push(one);
  }
  return keep;
}

/** Move the sides of a box by its shifts, in shares of its width and height. */
function shifted({ box, shift }: Candidate): number[] {
  const size = [box[2] - box[0], box[3] - box[1]];
  return box.map((side, k) => side + shift[k] * size[k % 2]);
}

/** Return the smallest square around a box with the same centre. */
function squared(box: number[]): number[] {
  const x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2, half = Math.max(box[2] - box[0], box[3] - box[1]) / 2;
  return [x - half, y - half, x + half, y + half];
}

/** Return the picture and its halves, quarters, ... down to P-Net's window. */
function halved(image: Picture): Picture[] {
  const pictures = [image];
  for (let last = image; Math.min(last.width, last.height) >= 2 * CELL_PX; pictures.push(last)) last = halve(last);
  return pictures;
}

/** Cut boxes out of a halved picture, black beyond its border; return also the boxes really cut, on whole pixels. */
function cutOut(pictures: Picture[], boxes: number[][], sidePx: number): { patches: Uint8Array; cut: number[][] } {
  const patches = new Uint8Array(boxes.length * sidePx * sidePx * 3);
  const cut = boxes.map((box, n) => {
    const deepest = Math.trunc(Math.log2(Math.max(box[2] - box[0], 1) / (2 * sidePx)));
    const level = clip(deepest, 0, pictures.length - 1), image = pictures[level];
    const [left, top, farRight, farBottom] = box.map((side) => rint(side / 2 ** level));
    const right = Math.max(farRight, left + 1), bottom = Math.max(farBottom, top + 1);
    const x0 = Math.max(left, 0), y0 = Math.max(top, 0), x1 = Math.min(right, image.width), y1 = Math.min(bottom, image.height);
    if (x1 > x0 && y1 > y0) {
      let piece = cropped(image, x0, y0, x1, y1);
      if (x0 !== left || y0 !== top || x1 !== right || y1 !== bottom) {
        const framed = picture(right - left, bottom - top, 3);
        for (let y = y0; y < y1; y++) {
          const from = (y - y0) * piece.width * 3;
          framed.data.set(piece.data.subarray(from, from + piece.width * 3), ((y - top) * framed.width + x0 - left) * 3);
        }
        piece = framed;
      }
      patches.set(resizeArea(piece, sidePx, sidePx).data, n * sidePx * sidePx * 3);
    }
    return [left, top, right, bottom].map((side) => side * 2 ** level);
  });
  return { patches, cut };
}
