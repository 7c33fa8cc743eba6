/** The network at run time: crops in as they come, waves out, as `autohr.runtime`. */

import { type Row, interp } from "./signals/arrays";
import { bandpassRows } from "./signals/filters";
import type { FaceClip, Pulse } from "./types";
import { clockChange, denser } from "./video/pace";

export const PIECE_S = 4.0;
export const OVERLAP_S = 1.0;
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
  /** Number of frames, from the first one, of which the wave is known. */
  nKnown = 0;
  /** Longest time for which a crop waits for its piece. */
  readonly delayS: number;
  private readonly times: number;
  private readonly every: number;
  private readonly length: number;
  private readonly overlap: number;
  private crops: Uint8Array[] = [];
  private nNew = 0;
  private known: Row | null = null;
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

  /** Return the wave of nFrames from frame first. */
  wave(first: number, nFrames: number): Row {
    return (this.known as Row).slice(first - this.first, first - this.first + nFrames);
  }

  /** Let go of the wave before frame first. What the next piece overlaps stays. */
  forget(first: number): void {
    if (this.known === null) return;
    const nGone = Math.min(first, this.nKnown - this.overlap) - this.first;
    if (nGone > 0) {
      this.known = this.known.slice(nGone);
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
      const joined = new Float64Array(this.known.length + this.nNew), start = this.known.length - nShared;
      joined.set(this.known);
      for (let k = 0; k < piece.length; k++) {
        const rise = k < nShared ? Math.sin(((Math.PI / 2) * (k + 0.5)) / nShared) ** 2 : 1;
        joined[start + k] = joined[start + k] * (1 - rise) + fresh[k] * rise;
      }
      this.known = joined;
    }
    this.nKnown = this.first + this.known.length;
    this.nNew = 0;
    this.crops = this.crops.slice(-this.overlap);
  }

  /** Return the wave of one piece of crops. */
  private async read(crops: Uint8Array[]): Promise<Row> {
    if (this.times > 1) {
      const wave = await this.feed(denser(crops, this.times));
      return Float64Array.from(crops, (_, k) => wave[k * this.times]);
    }
    if (this.every === 1) return this.feed(crops);
    const shown = crops.flatMap((_, k) => (k % this.every === 0 ? [k] : []));
    const thin = await this.feed(shown.map((k) => crops[k]));
    return interp(crops.map((_, k) => k), shown, thin);
  }

  private async feed(crops: Uint8Array[]): Promise<Row> {
    const size = this.net.sizePx;
    const wave = await this.net.run(netInput(crops, size), [1, 3, crops.length, size, size]);
    // Weights can be finite and their waves not, or not when squared.
    return Float64Array.from(wave, (value) => (Math.abs(value) < MAX_OUTPUT ? value : NaN));
  }
}

/** Return crops as a net takes them, (3, T, size, size) in 0..1. */
function netInput(crops: Uint8Array[], size: number): Float32Array {
  const plane = size * size;
  const out = new Float32Array(3 * crops.length * plane);
  crops.forEach((crop, t) => {
    for (let i = 0; i < 3; i++) {
      let to = (i * crops.length + t) * plane;
      for (let from = i; from < 3 * plane; from += 3) out[to++] = crop[from] / 255;
    }
  });
  return out;
}

/** Return the pulse wave of a clip whose crops the net has read. */
export function netWave(clip: FaceClip): Pulse {
  const [bvp] = bandpassRows([clip.netWave as Row], clip.fps);
  return { bvp, fps: clip.fps, startS: clip.startS };
}
