/** The one engine behind files and cameras: frames with their times in, readings out, as `autohr.meter`.
 *
 * It follows one face and measures it with the shipped net.
 */

import { CELLS } from "./confidence/evidence";
import { LEAST_FPS, LEAST_S, estimate } from "./confidence/verdict";
import { BRIDGE_S, type Crop, FORMULA_PX, FaceReader, type FaceRow, shrink } from "./frontend";
import { type Net, NetStream, netWave } from "./runtime";
import { type Row, type Rows, rint } from "./signals/arrays";
import { onClock } from "./signals/clock";
import type { Frame, Reading } from "./types";
import type { Detects } from "./video/detector";
import type { Picture } from "./video/opencv";
import { cellsOf } from "./video/regions";
import type { TrackedFace } from "./video/tracker";

export const CLOCK_S = LEAST_S;
export const LATE_STRIDE_S = 4.0;
export const RESTART_S = 3.0;
export const RESTART_FPS = 1.5 * LEAST_FPS;

const WINDOW_S = 10.0, STRIDE_S = 1.0;

/** A stretch in which a face was followed, but not for long enough to measure. */
export interface TooShort {
  face_id: number;
  start_s: number;
  end_s: number;
  why: string;
}

/** A stretch of one face without a gap over the bridge. */
class Segment {
  rows: FaceRow[] = [];
  fps = 0;
  nextFrame = 0;
  covered = 0;
  waiting: { tS: number; crop: Picture }[] = [];
  nShown = 0;
  firstKept = 0;
  /** CELLS * CELLS colours for each frame of the clock. */
  cells: Row[][] = [];
  stream: NetStream | null = null;
  nEarly = 0;

  constructor(
    readonly number: number,
    public originS: number,
  ) {}

  get lastRow(): FaceRow {
    return this.rows[this.rows.length - 1];
  }

  /** Frames of the clock up to the last row. */
  get nFrames(): number {
    // Half a frame of slack: with 29.97 frames per second the 300th frame is 3 ms early.
    return Math.floor((this.lastRow.tS - this.originS) * this.fps + 1.5);
  }

  /** Frames of the clock that can be in a reading. */
  get nReady(): number {
    return this.stream === null ? this.nFrames : Math.min(this.nFrames, this.stream.nKnown);
  }

  forget(first: number): void {
    const nGone = Math.max(0, first - this.firstKept);
    this.cells.splice(0, nGone);
    this.firstKept += nGone;
    this.stream?.forget(first);
  }
}

export class Meter {
  tooShort: TooShort[] = [];
  nFrames = 0;
  /** Frames in which the face was seen. */
  nFace = 0;
  nSkipped = 0;
  nFilled = 0;
  /** The faces of the last frame, for drawing. */
  faces: TrackedFace[] = [];
  private readonly reader: FaceReader;
  private readonly open = new Map<number, Segment>();
  private readonly nSegments = new Map<number, number>();
  private lastTS = -Infinity;

  constructor(
    private readonly net: Net,
    private readonly crop: Crop,
    detector: Detects,
  ) {
    this.reader = new FaceReader(crop, detector);
  }

  /** Return the sentence on faces that were seen and not measured; "" without any. */
  aboutOthers(): string {
    const n = this.reader.nOthers;
    if (n === 0) return "";
    const others = n === 1 ? "another face was" : `${n} other faces were`;
    return `Besides the one face that can be followed at a time, ${others} seen and not measured.`;
  }

  /** Take one frame, RGB, seen at tS seconds, and return the readings that it completes, if any. */
  async push(frame: Frame, tS: number, whole = true, late = false): Promise<Reading[]> {
    if (!Number.isFinite(tS) || tS <= this.lastTS) {
      throw new RangeError(`t_s=${tS} must be a finite time in seconds, after the last frame's ${this.lastTS}.`);
    }
    const rows = await this.reader.push(frame, tS, whole);
    this.lastTS = tS;
    this.nFrames++;
    if (rows.some((row) => row.found)) this.nFace++;
    this.faces = this.reader.faces;
    const readings = await this.closeStale(tS);
    for (const row of rows) {
      let segment = this.open.get(row.faceId);
      if (segment === undefined) {
        const number = this.nSegments.get(row.faceId) ?? 0;
        this.nSegments.set(row.faceId, number + 1);
        this.open.set(row.faceId, (segment = new Segment(number, tS)));
      }
      if (row.crop !== null) segment.waiting.push({ tS, crop: row.crop });
      segment.rows.push({ ...row, crop: null });
      if (row.found && this.setClock(row.faceId, segment)) {
        await this.showCrops(segment);
        readings.push(...this.readFullWindows(row.faceId, segment, late));
      }
    }
    return readings;
  }

  /** Return one reading of all there is of a face whose first window is not full yet. */
  early(): Reading[] {
    return this.faces.flatMap((face) => {
      const segment = this.open.get(face.id);
      if (segment === undefined || segment.covered || segment.fps < LEAST_FPS || !segment.lastRow.found) return [];
      const nFrames = segment.nReady;
      if (nFrames / segment.fps < LEAST_S || nFrames <= segment.nEarly) return [];
      segment.nEarly = nFrames;
      return [this.ask(face.id, segment, 0, nFrames)];
    });
  }

  /** Longest time for which a reading waits after its last frame. */
  get delayS(): number {
    return Math.max(0, ...Array.from(this.open.values(), (one) => one.stream?.delayS ?? 0));
  }

  /** Return for how many seconds a face has been followed without a gap over the bridge; 0 if it is not. */
  followedS(faceId: number): number {
    const segment = this.open.get(faceId);
    return segment === undefined ? 0 : segment.lastRow.tS - segment.originS;
  }

  /** Return the readings of what is left when no more frames will come. */
  async finish(): Promise<Reading[]> {
    const readings: Reading[] = [];
    for (const faceId of [...this.open.keys()]) readings.push(...(await this.close(faceId)));
    return readings;
  }

  private setClock(faceId: number, segment: Segment): boolean {
    const { rows } = segment;
    if (segment.fps === 0) {
      if (segment.lastRow.tS - segment.originS < CLOCK_S * (1 - 0.5 / rows.length)) return false;
      this.startClock(segment);
    }
    if (segment.fps < LEAST_FPS) this.restartWhenFaster(faceId, segment);
    return segment.fps >= LEAST_FPS;
  }

  private startClock(segment: Segment): void {
    segment.fps = meanFps(segment.rows);
    if (segment.fps >= LEAST_FPS) segment.stream = new NetStream(this.net, segment.fps);
  }

  /** Give each frame of the clock up to the last row the nearest crop. */
  private async showCrops(segment: Segment): Promise<void> {
    const { waiting } = segment;
    while (waiting.length > 0 && segment.nShown < segment.nFrames) {
      const atS = segment.originS + segment.nShown / segment.fps;
      while (waiting.length > 1 && waiting[1].tS - atS < atS - waiting[0].tS) waiting.shift();
      const stored = waiting[0].crop;
      const seen = shrink(stored, FORMULA_PX);
      segment.cells.push(cellsOf(seen, CELLS));
      segment.nShown++;
      const crop = this.crop.size_px === FORMULA_PX ? seen : shrink(stored, this.crop.size_px);
      await segment.stream?.push(crop.data);
    }
  }

  private readFullWindows(faceId: number, segment: Segment, late = false): Reading[] {
    const readings: Reading[] = [];
    const length = rint(WINDOW_S * segment.fps), hop = Math.max(1, rint(STRIDE_S * segment.fps));
    while (segment.nextFrame + length <= segment.nReady) {
      const end = segment.nextFrame + length;
      if (late && segment.covered && end < segment.covered + LATE_STRIDE_S * segment.fps) {
        this.nSkipped++;
      } else {
        readings.push(this.ask(faceId, segment, segment.nextFrame, length));
        segment.covered = end;
      }
      segment.nextFrame += hop;
      // The last window may reach back to the frame after this one's first.
      const keep = segment.nextFrame - hop - 1;
      while (segment.rows.length > 2 && segment.rows[1].tS <= segment.originS + keep / segment.fps) {
        if (!segment.rows[0].found) this.nFilled++;
        segment.rows.shift();
      }
      segment.forget(keep);
    }
    return readings;
  }

  /** Begin a segment with too few frames per second anew, with its last RESTART_S, once they come faster. */
  private restartWhenFaster(faceId: number, segment: Segment): void {
    const { rows } = segment;
    while (rows.length > 2 && rows[1].tS <= segment.lastRow.tS - RESTART_S) rows.shift();
    let widestS = rows.length > 1 ? 0 : RESTART_S;
    for (let k = 1; k < rows.length; k++) widestS = Math.max(widestS, rows[k].tS - rows[k - 1].tS);
    const spanS = segment.lastRow.tS - rows[0].tS;
    if (spanS >= RESTART_S && meanFps(rows) >= RESTART_FPS && widestS <= 1 / LEAST_FPS) {
      const why = tooSlow(segment.fps);
      this.tooShort.push({ face_id: faceId, start_s: segment.originS, end_s: rows[0].tS, why });
      segment.originS = rows[0].tS;
      segment.fps = 0;
    }
    while (segment.waiting.length > 0 && segment.waiting[0].tS < rows[0].tS) segment.waiting.shift();
  }

  /** End the segments of faces that have not been seen for longer than the bridge. */
  private async closeStale(nowS: number): Promise<Reading[]> {
    const readings: Reading[] = [];
    for (const [faceId, segment] of [...this.open]) {
      const lastSeen = segment.rows.findLast((row) => row.found) as FaceRow;
      if (nowS - lastSeen.tS > BRIDGE_S) readings.push(...(await this.close(faceId)));
    }
    return readings;
  }

  private async close(faceId: number): Promise<Reading[]> {
    const segment = this.open.get(faceId) as Segment;
    this.open.delete(faceId);
    const readings = await this.readRest(faceId, segment);
    this.nFilled += segment.rows.filter((row) => !row.found).length;
    return readings;
  }

  /** Read the frames after the last full window, or note why they cannot be read. */
  private async readRest(faceId: number, segment: Segment): Promise<Reading[]> {
    while (!segment.lastRow.found) segment.rows.pop();
    const firstS = segment.originS, lastS = segment.lastRow.tS;
    const tooShort = (why: string): Reading[] => {
      this.tooShort.push({ face_id: faceId, start_s: firstS, end_s: lastS, why });
      return [];
    };
    if (segment.fps === 0) {
      if (segment.rows.length < 2) return tooShort("seen in one frame only");
      this.startClock(segment);
    }
    if (segment.fps < LEAST_FPS) return tooShort(tooSlow(segment.fps));
    const { nFrames } = segment;
    if (segment.covered === 0 && nFrames / segment.fps < LEAST_S) {
      return tooShort(`${(nFrames / segment.fps).toFixed(1)} s of face; at least ${LEAST_S} s are needed`);
    }
    await this.showCrops(segment);
    await segment.stream?.end();
    const readings = this.readFullWindows(faceId, segment);
    if (segment.covered === 0) return [this.ask(faceId, segment, 0, nFrames)];
    // A tenth of a second more than the last window saw is not worth a reading of its own.
    if (nFrames - segment.covered >= Math.max(2, 0.1 * segment.fps)) {
      const length = rint(WINDOW_S * segment.fps);
      readings.push(this.ask(faceId, segment, nFrames - length, length));
    }
    return readings;
  }

  private ask(faceId: number, segment: Segment, first: number, length: number): Reading {
    const clip = onClock(segment.rows, segment.fps, segment.originS + first / segment.fps, length);
    const from = first - segment.firstKept, frames = segment.cells.slice(from, from + length);
    clip.cells = Array.from({ length: CELLS * CELLS }, (_, r): Rows => frames.map((frame) => frame[r]));
    clip.netWave = (segment.stream as NetStream).wave(first, length);
    return {
      face_id: faceId,
      segment: segment.number,
      start_s: clip.startS,
      end_s: clip.startS + length / clip.fps,
      estimate: estimate(clip, netWave(clip)),
      found_share: clip.found.filter(Boolean).length / length,
    };
  }
}

function tooSlow(fps: number): string {
  return `${fps.toFixed(1)} frames per second; at least ${LEAST_FPS.toFixed(1)} are needed`;
}

function meanFps(rows: FaceRow[]): number {
  return (rows.length - 1) / (rows[rows.length - 1].tS - rows[0].tS);
}

