/** Evidence of the codec: rates that come from the key frames of a file, as `autohr.confidence.keyframes`. */

import { type Row, type Rows, clip, isFinite, max, mean, median, min, rint, std, sum } from "../signals/arrays";
import { bandpassRows, detrendRows } from "../signals/filters";
import { powerAt } from "./lines";

/** Return 0..1, how large the steps of the colour rgb (T, 3) in the key frames are, next to its wave. */
export function keyFrameSteps(allRgb: Rows, allWhole: boolean[], fs: number): number {
  const known = allRgb.map(isFinite);
  const rgb = allRgb.filter((_, k) => known[k]), whole = allWhole.filter((_, k) => known[k]);
  const n = rgb.length;
  const at = whole.slice(2, -1), nWhole = at.filter(Boolean).length;
  if (n < fs || nWhole < 3 || share(whole) >= 0.5 || !levels(rgb).every((level) => level !== 0)) return 0;
  const waves = contrasts(rgb);
  const sd = bandpassRows(waves, fs).map(std);
  // Next to a step lie two half steps of the other sign; they are neither a step nor quiet.
  const beside = at.map((_, k) => at[k] || at[k - 1] || at[k + 1] || false);
  if (beside.every(Boolean)) return 0;
  const relative = waves.map((wave, i) => {
    const change = Float64Array.from({ length: n - 1 }, (_, k) => wave[k + 1] - wave[k]);
    const step = at.map((_, k) => change[k + 1] - 0.5 * (change[k] + change[k + 2]));
    const there = step.filter((_, k) => at[k]);
    const quiet = mean(step.filter((_, k) => !beside[k]).map((value) => value ** 2));
    const oneWay = Math.abs(mean(there)) - 2 * Math.sqrt(quiet / nWhole);
    const larger = mean(there.map((value) => value ** 2)) - (1 + 2 * Math.sqrt(2 / nWhole)) * quiet;
    return sd[i] > 0 ? Math.max(oneWay, Math.sqrt(Math.max(larger, 0))) / (2 * sd[i]) : 0;
  });
  return clip(max(relative), 0, 1);
}

/** Return 0..1, how far the rate of bvp is explained by the pace of the key frames, seen in rgb (T, 3). */
export function keyFrameComb(rgb: Rows, whole: boolean[], bvp: Row, fs: number, hrBpm: number): number {
  const gaps = gapsOf(whole);
  if (gaps.length < 2 || share(whole) >= 0.5) return 0;
  const gap = mean(gaps);
  if (max(gaps) - min(gaps) > 0.1 * gap + 1 || !levels(rgb).every((level) => level !== 0)) return 0;
  const keyHz = fs / gap, hrHz = hrBpm / 60;
  const number = rint(hrHz / keyHz);
  if (!(number >= 1 && number <= 4)) return 0;
  const level = mean(bvp);
  const [own, comb] = powerAt(
    bvp.map((value) => value - level),
    fs,
    [hrHz, number * keyHz],
  );
  const exactness = own > 0 ? Math.min(1, comb / own) : 0;
  const numbers: number[] = [];
  for (let k = Math.ceil(3.3 / keyHz); k <= Math.floor((0.45 * fs) / keyHz) && numbers.length < 8; k++) numbers.push(k);
  if (exactness < 0.1 || numbers.length === 0) return 0;
  const resolutionHz = fs / bvp.length;
  const aside = numbers.flatMap((k) => [-4, -3, 3, 4].map((off) => k * keyHz + off * resolutionHz));
  const sizes = detrendRows(contrasts(rgb), fs).map((wave) => {
    const teeth = mean(
      powerAt(
        wave,
        fs,
        numbers.map((k) => k * keyHz),
      ),
    );
    const floor = median(powerAt(wave, fs, aside)) / Math.LN2;
    const clear = teeth > floor * (1 + 3 / Math.sqrt(numbers.length));
    const predicted = (Math.sqrt(Math.max(teeth - floor, 0)) * mean(numbers)) / number;
    const found = Math.sqrt(powerAt(wave, fs, [hrHz])[0]);
    return clear && found > 0 ? predicted / found : 0;
  });
  return exactness * Math.min(1, max(sizes));
}

/** Return true if hrBpm is, within the resolution of the frames, 1 to 4 times the pace of the key frames. */
export function atKeyFrames(whole: boolean[], fs: number, hrBpm: number): boolean {
  const gaps = gapsOf(whole);
  if (gaps.length < 1 || share(whole) >= 0.5) return false;
  const keyBpm = (60 * fs) / median(gaps);
  const number = Math.min(Math.max(1, rint(hrBpm / keyBpm)), 4);
  return Math.abs(hrBpm - number * keyBpm) < (60 * fs) / whole.length;
}

function share(whole: boolean[]): number {
  return whole.filter(Boolean).length / whole.length;
}

function gapsOf(whole: boolean[]): number[] {
  const at = whole.flatMap((is, k) => (is ? [k] : []));
  return at.slice(1).map((k, i) => k - at[i]);
}

function levels(rgb: Rows): number[] {
  return [0, 1, 2].map((i) => sum(rgb.map((row) => row[i])) / rgb.length);
}

/** Return green and the two colour differences of POS, each relative to its mean. */
function contrasts(rgb: Rows): Rows {
  const level = levels(rgb);
  const [red, green, blue] = [0, 1, 2].map((i) => rgb.map((row) => row[i] / level[i]));
  return [
    Float64Array.from(green),
    Float64Array.from(green, (value, k) => value - blue[k]),
    Float64Array.from(green, (value, k) => value + blue[k] - 2 * red[k]),
  ];
}
