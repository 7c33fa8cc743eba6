/** The network at run time: crops in as they come, waves out, as `autohr.runtime`. */

import { type Rows, interp } from "./signals/arrays";
import { bandpassRows } from "./signals/filters";
import type { FaceClip, Pulse } from "./types";
import { clockChange, denser } from "./video/pace";

export const PIECE_S = 4.0;
export const OVERLAP_S = 1.0;
export const MIN_PART_PX = 16;
export const MAX_OUTPUT = 1e100;

/** A network that gives waves (B, T) of clips (B, 3, T, H, W) in 0..1. */
export interface Net {
  /** Smallest and largest number of frames per second in its training. */
  fpsFrom: number;
  fpsTo: number;
  sizePx: number;
  run(clips: Float32Array, dims: number[]): Promise<Float32Array>;
}

/** The network's answers to the crops of one face, made once. */
export class NetStream {
  /** Number of frames, from the first one, of which the waves are known. */
  nKnown = 0;
  /** Longest time for which a crop waits for its piece. */
  readonly delayS: number;
  private readonly times: number;
  private readonly every: number;
  private readonly length: number;
  private readonly overlap: number;
  private crops: Uint8Array[] = [];
  private nNew = 0;
  private known: Rows | null = null;
  private first = 0;

  constructor(
    private readonly net: Net,
    fps: number,
  ) {
    [this.times, this.every] = clockChange(fps, net.fpsFrom, net.fpsTo);
    this.length = Math.ceil(PIECE_S * fps);
    this.overlap = Math.ceil(OVERLAP_S * fps);
    this.delayS = (this.length - this.overlap) / fps;
  }

  /** Take the next crop; every few of them the network runs. */
  async push(crop: Uint8Array): Promise<void> {
    this.crops.push(crop);
    this.nNew++;
    if (this.nNew === this.length - (this.known === null ? 0 : this.overlap)) await this.run();
  }

  /** Run the network on what is left over: no more crops will come. */
  async end(): Promise<void> {
    if (this.known === null || this.nNew > 0) await this.run();
  }

  /** Return the waves of nFrames from frame first: of the whole face and then of its quarters. */
  waves(first: number, nFrames: number): Rows {
    return (this.known as Rows).map((wave) => wave.slice(first - this.first, first - this.first + nFrames));
  }

  /** Let go of the waves before frame first. Those that the next piece overlaps stay. */
  forget(first: number): void {
    if (this.known === null) return;
    const nGone = Math.min(first, this.nKnown - this.overlap) - this.first;
    if (nGone > 0) {
      this.known = this.known.map((wave) => wave.slice(nGone));
      this.first += nGone;
    }
  }

  private async run(): Promise<void> {
    const piece = this.crops.slice(-this.length);
    const fresh = await this.read(piece);
    if (this.known === null) {
      this.known = fresh;
    } else {
      const nShared = piece.length - this.nNew;
      this.known = this.known.map((wave, r) => {
        const joined = new Float64Array(wave.length + this.nNew), start = wave.length - nShared;
        joined.set(wave);
        for (let k = 0; k < piece.length; k++) {
          const rise = k < nShared ? Math.sin(((Math.PI / 2) * (k + 0.5)) / nShared) ** 2 : 1;
          joined[start + k] = joined[start + k] * (1 - rise) + fresh[r][k] * rise;
        }
        return joined;
      });
    }
    this.nKnown = this.first + this.known[0].length;
    this.nNew = 0;
    this.crops = this.crops.slice(-this.overlap);
  }

  /** Return the waves of one piece of crops. */
  private async read(crops: Uint8Array[]): Promise<Rows> {
    if (this.times > 1) {
      const waves = await this.feed(denser(crops, this.times));
      return waves.map((wave) => Float64Array.from(crops, (_, k) => wave[k * this.times]));
    }
    if (this.every === 1) return this.feed(crops);
    const shown = crops.flatMap((_, k) => (k % this.every === 0 ? [k] : []));
    const thin = await this.feed(shown.map((k) => crops[k]));
    return thin.map((wave) => interp(crops.map((_, k) => k), shown, wave));
  }

  private async feed(crops: Uint8Array[]): Promise<Rows> {
    const size = this.net.sizePx, half = Math.floor(size / 2), n = crops.length;
    const rows = [await this.net.run(netInput(crops, size, [0], size), [1, 3, n, size, size])];
    if (half >= MIN_PART_PX) {
      const corners = [0, size - half].flatMap((top) => [0, size - half].map((left) => top * size + left));
      const waves = await this.net.run(netInput(crops, size, corners, half), [4, 3, n, half, half]);
      for (let r = 0; r < 4; r++) rows.push(waves.subarray(r * n, r * n + n));
    }
    // Weights can be finite and their waves not, or not when squared.
    return rows.map((row) => Float64Array.from(row, (value) => (Math.abs(value) < MAX_OUTPUT ? value : NaN)));
  }
}

/** Return parts of crops as a net takes them, (parts, 3, T, side, side) in 0..1; corners are their first pixels. */
function netInput(crops: Uint8Array[], size: number, corners: number[], side: number): Float32Array {
  const n = crops.length, plane = side * side;
  const out = new Float32Array(corners.length * 3 * n * plane);
  corners.forEach((corner, part) => {
    for (let t = 0; t < n; t++) {
      const crop = crops[t];
      for (let i = 0; i < 3; i++) {
        let to = ((part * 3 + i) * n + t) * plane;
        for (let y = 0; y < side; y++) {
          let from = 3 * (corner + y * size) + i;
          for (let x = 0; x < side; x++, from += 3) out[to++] = crop[from] / 255;
        }
      }
    }
  });
  return out;
}

/** Return the pulse wave of a clip whose crops the net has read. */
export function netWave(clip: FaceClip): Pulse {
  const waves = bandpassRows(clip.netWaves as Rows, clip.fps);
  return { bvp: waves[0], fps: clip.fps, startS: clip.startS, parts: waves.length > 1 ? waves.slice(1) : null };
}
