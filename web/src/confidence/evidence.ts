/** Evidence for and against a heart rate, gathered from one clip, as `autohr.confidence.evidence`. */

import { pos } from "../classic/colour";
import { mvdr } from "../classic/mvdr";
import { BLOOD_SIGNATURE } from "../classic/projection";
import { SignalTooShort } from "../errors";
import { type Row, type Rows, dot, hann, isFinite, max, mean, median, solve, std } from "../signals/arrays";
import { analytic, bandpassRows, standardise } from "../signals/filters";
import { type HeartRate, estimateHeartRate, snrDb } from "../signals/rate";
import type { Evidence, EvidenceKind, FaceClip, Pulse } from "../types";
import { GRID, skinOfCells } from "../video/regions";
import { atKeyFrames, keyFrameComb, keyFrameSteps } from "./keyframes";
import { type Lines, besidePower, fourierSums, linesOf } from "./lines";

export { SIDE_LINES } from "./lines";

export const CELLS = 8;
export const MOTION_SCALE = 0.002;
export const LARGEST_DIFFERENCE_BPM = 60.0;
export const MIN_GREY_CELL = 6.0;
export const MIN_GREY_BACKGROUND = 4.0;
export const MIN_NOISE_SHARE = 0.2;
export const LEAST_LINE = 5.0;
export const STEP_PARTS = 4;

/** Colours and movement of one clip that MVDR and the evidence both need. */
export interface WindowColours {
  cells: Rows[] | null;
  skinShare: Row | null;
  grid: Rows[];
  lit: boolean[];
  /** (K, T) relative change of the background in the K lit colours. */
  background: Rows;
  /** (3, T) place of the face and its size, in shares of its mean size. */
  movement: Rows;
}

/** Return the colours and movement of a clip. */
export function windowColours(clip: FaceClip): WindowColours {
  const level = columnMeans(clip.backgroundRgb);
  const known = isFinite(level);
  const lit = Array.from(level, (value) => known && value > MIN_GREY_BACKGROUND);
  const background = [0, 1, 2]
    .filter((i) => lit[i])
    .map((i) => Float64Array.from(clip.backgroundRgb, (row) => row[i] / level[i] - 1));
  const size = Float64Array.from(clip.boxXywh, (box) => Math.sqrt(box[2] * box[3])), meanSize = mean(size);
  const movement = [
    Float64Array.from(clip.boxXywh, (box) => (box[0] + box[2] / 2) / meanSize),
    Float64Array.from(clip.boxXywh, (box) => (box[1] + box[3] / 2) / meanSize),
    size.map((value) => value / meanSize),
  ];
  return {
    cells: clip.cells,
    skinShare: clip.cells === null ? null : skinOfCells(clip.cells.map(columnMeans)),
    grid: clip.traces.slice(0, GRID * GRID).filter((region) => region.every(isFinite)),
    lit,
    background,
    movement,
  };
}

/** Return MVDR's pulse wave, of the cells of the crop or, without crops, of the parts of the face box. */
export function mvdrWave(clip: FaceClip, colours: WindowColours = windowColours(clip)): Pulse {
  const references = [...colours.background, ...colours.movement];
  const rgb = colours.cells ?? (colours.grid.length ? colours.grid : [clip.rgb]);
  return { bvp: mvdr(rgb, clip.fps, colours.skinShare, references), fps: clip.fps, startS: clip.startS };
}

/** Gather the evidence for and against a rate from its wave and from everything else that the clip shows. */
export function gatherEvidence(
  clip: FaceClip,
  colours: WindowColours,
  pulse: Pulse,
  witness: Pulse,
  rate: HeartRate,
  kind: EvidenceKind,
  leadS = 0,
): Evidence {
  const hrBpm = rate.hr_bpm;
  if (hrBpm === null || rate.snr_db === null) throw new RangeError("There is no evidence for a rate that is not there.");
  const fps = clip.fps;
  const regions = colours.grid.map((region) => pos(region, fps));
  let background = 0;
  if (colours.lit.some(Boolean)) {
    const level = columnMeans(clip.rgb);
    const skin = [0, 1, 2]
      .filter((i) => colours.lit[i])
      .map((i) => Float64Array.from(clip.rgb, (row) => row[i] / level[i] - 1));
    const scale = bandpassRows(skin, fps).map(std);
    background = Math.max(
      sharedWith(pulse.bvp, colours.background, fps, scale),
      sharedLine(skin, colours.background, fps, hrBpm),
    );
  }
  const onSkin =
    colours.cells !== null && colours.skinShare !== null
      ? skinOverLight(colours.cells, colours.skinShare, fps, hrBpm)
      : 0;
  const movement = withDoubledRates(bandpassRows(colours.movement, fps));
  return {
    snr_db: rate.snr_db,
    agreement: agreementOfRegions(regions, fps, hrBpm),
    background,
    motion: sharedWith(
      pulse.bvp,
      movement,
      fps,
      movement.map(() => MOTION_SCALE),
    ),
    halves_bpm: halvesDifferBpm(pulse.bvp, fps),
    witness_bpm: differenceBpm(estimateHeartRate(witness.bvp, fps).hr_bpm, hrBpm),
    witness_snr_db: snrDb(witness.bvp, fps, hrBpm),
    in_step: inStep(pulse.bvp, witness.bvp, fps, hrBpm, leadS),
    redrawn: Math.max(
      keyFrameSteps(clip.rgb, clip.whole, fps),
      keyFrameComb(clip.rgb, clip.whole, pulse.bvp, fps, hrBpm),
    ),
    at_key_frames: atKeyFrames(clip.whole, fps, hrBpm),
    runner_up: rate.runner_up,
    on_skin: onSkin,
    blood: bloodOverLight(clip.rgb, fps, hrBpm),
    kind,
  };
}

/** Return 0..1, how far the regions' waves beat in phase at hrBpm. */
export function agreementOfRegions(all: Rows, fs: number, hrBpm: number): number {
  const waves = all
    .filter(isFinite)
    .map((wave) => ({ wave, sd: std(wave) }))
    .filter(({ sd }) => sd > 0);
  if (waves.length < 3) return 0;
  const window = hann(waves[0].wave.length);
  const scaled = waves.map(({ wave, sd }) => wave.map((value, k) => (value / sd) * window[k]));
  let re = 0, im = 0, lengths = 0;
  for (const line of fourierSums(scaled, fs, [hrBpm / 60])) {
    re += line.re[0];
    im += line.im[0];
    lengths += Math.hypot(line.re[0], line.im[0]);
  }
  return Math.hypot(re, im) / Math.max(lengths, 1e-12);
}

/** Return 0..1, how much of the wave bvp is also in the waves others, whatever the delay. */
export function sharedWith(bvp: Row, others: Rows, fs: number, scale: ArrayLike<number>): number {
  const use = others.map(isFinite);
  const filtered = bandpassRows(
    others.filter((_, k) => use[k]),
    fs,
  );
  if (filtered.length === 0) return 0;
  const scales = Array.from(scale).filter((_, k) => use[k]);
  const wave = analytic(bvp);
  const waveSquare = dot(wave.re, wave.re) + dot(wave.im, wave.im);
  return max(
    filtered.map((other, k) => {
      const size = Math.min(1, std(other) / Math.max(scales[k], 1e-12));
      const rest = analytic(other);
      const norm = Math.sqrt(waveSquare * (dot(rest.re, rest.re) + dot(rest.im, rest.im)));
      const re = dot(rest.re, wave.re) + dot(rest.im, wave.im), im = dot(rest.im, wave.re) - dot(rest.re, wave.im);
      return norm > 0 ? (Math.hypot(re, im) / norm) * size : 0;
    }),
  );
}

/** Return 0..1, how large the spectral line of others at hrBpm is next to that of skin, row by row. */
export function sharedLine(skin: Rows, others: Rows, fs: number, hrBpm: number): number {
  const use = others.map((other, k) => isFinite(other) && isFinite(skin[k]));
  const theirs = linesOf(
    others.filter((_, k) => use[k]),
    fs,
    hrBpm,
  );
  const ours = linesOf(
    skin.filter((_, k) => use[k]),
    fs,
    hrBpm,
  );
  if (theirs.length === 0) return 0;
  return Math.min(
    1,
    max(
      theirs.map((line, k) => {
        const size = Math.hypot(line.re[0], line.im[0]), own = Math.hypot(ours[k].re[0], ours[k].im[0]);
        const clear = size ** 2 > (6 * median(besidePower(line))) / Math.LN2;
        return clear && own !== 0 ? size / own : 0;
      }),
    ),
  );
}

/** Return the log likelihood ratio of "only the skin beats at hrBpm" against "everything does". */
export function skinOverLight(cells: Rows[], skinShare: Row, fs: number, hrBpm: number): number {
  const change: Rows = [], shares: number[] = [];
  cells.forEach((cell, r) => {
    const level = columnMeans(cell);
    if (!(mean(level) > MIN_GREY_CELL)) return;
    shares.push(skinShare[r]);
    for (let i = 0; i < 3; i++) {
      const safe = Math.max(level[i], 1);
      change.push(Float64Array.from(cell, (colour) => colour[i] / safe - 1));
    }
  });
  if (shares.length === 0) return 0;
  const lines = linesOf(change, fs, hrBpm);
  const raw = lines.map((line) => mean(besidePower(line)));
  const extra = MIN_NOISE_SHARE * median(raw);
  const noise = raw.map((value) => value + extra);
  if (noise.some((value) => value === 0)) return 0;
  const explained = (of: ArrayLike<number>): number => {
    let total = 0;
    for (let i = 0; i < 3; i++) {
      let largest = 0, re = 0, im = 0;
      for (let r = 0; r < shares.length; r++) {
        const c = 3 * r + i;
        largest += of[r] ** 2 / noise[c];
        re += (of[r] * lines[c].re[0]) / noise[c];
        im += (of[r] * lines[c].im[0]) / noise[c];
      }
      if (largest > 0) total += (re * re + im * im) / largest;
    }
    return total;
  };
  return explained(shares) - explained(shares.map(() => 1));
}

/** Return -1..1, how much better blood explains the beat of the colour rgb at hrBpm than light does. */
export function bloodOverLight(rgb: Rows, fs: number, hrBpm: number): number {
  const level = columnMeans(rgb);
  if (!Array.from(level).every((value) => value > MIN_GREY_CELL)) return 0;
  const lines = linesOf(
    [0, 1, 2].map((i) => Float64Array.from(rgb, (row) => row[i] / level[i] - 1)),
    fs,
    hrBpm,
  );
  const n = lines[0].re.length - 1;
  const noise = lines.map((a) => Float64Array.from(lines, (b) => crossOfSides(a, b) / n));
  const loading = (1e-3 * (noise[0][0] + noise[1][1] + noise[2][2])) / 3 + 1e-18;
  for (let i = 0; i < 3; i++) noise[i][i] += loading;
  const solved = {
    re: solve(noise, lines.map((line) => line.re[0])),
    im: solve(noise, lines.map((line) => line.im[0])),
  };
  const explained = (colours: readonly number[]): number =>
    (dot(colours, solved.re) ** 2 + dot(colours, solved.im) ** 2) / dot(colours, solve(noise, colours));
  const whole = lines.reduce((total, line, i) => total + line.re[0] * solved.re[i] + line.im[0] * solved.im[i], 0);
  return (explained(BLOOD_SIGNATURE) - explained([1, 1, 1])) / (whole + LEAST_LINE);
}

/** Return the real part of the product of the lines beside the rate. */
function crossOfSides(a: Lines, b: Lines): number {
  let total = 0;
  for (let f = 1; f < a.re.length; f++) total += a.re[f] * b.re[f] + a.im[f] * b.im[f];
  return total;
}

/** Return -1..1, how far two waves beat at the same moments all through the window, bvp leadS seconds earlier. */
export function inStep(bvp: Row, witness: Row, fs: number, hrBpm: number, leadS: number): number {
  const n = Math.floor(bvp.length / STEP_PARTS), turn = ((2 * Math.PI * hrBpm) / 60) * leadS;
  const parts = (x: Row): Rows => Array.from({ length: STEP_PARTS }, (_, k) => x.slice(k * n, (k + 1) * n));
  const ours = fourierSums(parts(bvp), fs, [hrBpm / 60]), theirs = fourierSums(parts(witness), fs, [hrBpm / 60]);
  const cosines = ours.map((a, k) => {
    const b = theirs[k];
    const re = a.re[0] * b.re[0] + a.im[0] * b.im[0], im = a.re[0] * b.im[0] - a.im[0] * b.re[0];
    const length = Math.hypot(re, im);
    return length > 0 ? (re * Math.cos(turn) - im * Math.sin(turn)) / length : 0;
  });
  return mean(cosines);
}

/** Return the difference in bpm between the rates of the first and the last 60 % of bvp. */
export function halvesDifferBpm(bvp: Row, fs: number): number {
  const length = Math.floor(0.6 * bvp.length);
  try {
    const first = estimateHeartRate(bvp.slice(0, length), fs).hr_bpm;
    const last = estimateHeartRate(bvp.slice(bvp.length - length), fs).hr_bpm;
    return differenceBpm(first, last);
  } catch (error) {
    if (error instanceof SignalTooShort) return LARGEST_DIFFERENCE_BPM;
    throw error;
  }
}

/** Return movement and below it its squares, scaled to the size of the movement. */
export function withDoubledRates(movement: Rows): Rows {
  const squares = movement.map((row) => {
    const size = std(row);
    return standardise(row.map((value) => value ** 2)).map((value) => value * size);
  });
  return [...movement, ...squares];
}

function differenceBpm(first: number | null, second: number | null): number {
  if (first === null || second === null) return LARGEST_DIFFERENCE_BPM;
  return Math.min(LARGEST_DIFFERENCE_BPM, Math.abs(first - second));
}

function columnMeans(rows: Rows): Row {
  const total = new Float64Array(rows[0].length);
  for (const row of rows) for (let i = 0; i < total.length; i++) total[i] += row[i];
  return total.map((value) => value / rows.length);
}

