/** The video track of an MP4 or MOV file: its codec, and place, time and kind of each of its pictures. */

import { VideoError } from "../errors";

export interface Sample {
  offset: number;
  size: number;
  /** Time at which it is shown, in seconds. */
  tS: number;
  isKey: boolean;
}

export interface Track {
  codec: string;
  description: Uint8Array | undefined;
  width: number;
  height: number;
  /** Turn clockwise that brings pictures upright: 0, 90, 180 or 270 degrees. */
  turnDeg: number;
  /** In the order of decoding. */
  samples: Sample[];
}

interface Box {
  type: string;
  /** Place of its content and of its end. */
  start: number;
  end: number;
}

const OTHER = "Measure it with: autohr measure FILE";
const MAX_INDEX_BYTES = 100e6, MAX_SAMPLES = 5e6;

/** Read the index of a file. Raises VideoError for what is no MP4 with a video in one of the codecs of browsers. */
export async function readTrack(file: Blob): Promise<Track> {
  for (let at = 0; at + 8 <= file.size; ) {
    const head = new DataView(await file.slice(at, at + 16).arrayBuffer());
    const type = typeAt(head, 4);
    let size = head.getUint32(0), header = 8;
    if (size === 1 && head.byteLength === 16) [size, header] = [Number(head.getBigUint64(8)), 16];
    if (size === 0) size = file.size - at;
    if (size < header || !/^[\x20-\x7e\xa9]{4}$/.test(type)) break;
    if (type === "moov") {
      if (size > MAX_INDEX_BYTES) throw new VideoError(`The file's index has ${size} bytes. ${OTHER}`);
      return trackOf(new DataView(await file.slice(at + header, at + size).arrayBuffer()));
    }
    at += size;
  }
  throw new VideoError(`This is no MP4 or MOV file, the kinds that this page reads. ${OTHER}`);
}

function typeAt(data: DataView, at: number): string {
  return String.fromCharCode(...[0, 1, 2, 3].map((k) => data.getUint8(at + k)));
}

function boxesIn(data: DataView, start: number, end: number): Box[] {
  const boxes: Box[] = [];
  for (let at = start; at + 8 <= end; ) {
    let size = data.getUint32(at), header = 8;
    if (size === 1 && at + 16 <= end) [size, header] = [Number(data.getBigUint64(at + 8)), 16];
    if (size === 0) size = end - at;
    if (size < header || at + size > end) break;
    boxes.push({ type: typeAt(data, at + 4), start: at + header, end: at + size });
    at += size;
  }
  return boxes;
}

function trackOf(data: DataView): Track {
  try {
    const found = boxesIn(data, 0, data.byteLength)
      .filter((box) => box.type === "trak")
      .map((box) => readTrak(data, box))
      .find((track) => track !== null);
    if (found) return found;
  } catch (error) {
    if (error instanceof RangeError) throw new VideoError(`The file's index is damaged. ${OTHER}`);
    throw error;
  }
  throw new VideoError(`The file holds no video. ${OTHER}`);
}

function readTrak(data: DataView, trak: Box): Track | null {
  const inside = (box: Box, ...path: string[]): Box | undefined =>
    path.reduce<Box | undefined>(
      (at, type) => at && boxesIn(data, at.start, at.end).find((child) => child.type === type),
      box,
    );
  const hdlr = inside(trak, "mdia", "hdlr");
  if (hdlr === undefined || typeAt(data, hdlr.start + 8) !== "vide") return null;
  const mdhd = inside(trak, "mdia", "mdhd"), stbl = inside(trak, "mdia", "minf", "stbl"), tkhd = inside(trak, "tkhd");
  const entry = stbl && inside(stbl, "stsd");
  if (!mdhd || !stbl || !entry || !tkhd) throw new VideoError(`The file's index is damaged. ${OTHER}`);
  const timescale = data.getUint32(mdhd.start + (data.getUint8(mdhd.start) === 1 ? 20 : 12));
  const [format] = boxesIn(data, entry.start + 8, entry.end);
  const matrix = tkhd.start + (data.getUint8(tkhd.start) === 1 ? 52 : 40);
  const angle = Math.atan2(data.getInt32(matrix + 4), data.getInt32(matrix));
  const table = (type: string) => inside(stbl, type);
  return {
    ...codecOf(data, format),
    width: data.getUint16(format.start + 24),
    height: data.getUint16(format.start + 26),
    turnDeg: ((Math.round((angle * 2) / Math.PI) + 4) % 4) * 90,
    samples: samplesOf(data, table, timescale),
  };
}

function codecOf(data: DataView, format: Box): { codec: string; description: Uint8Array | undefined } {
  const boxes = boxesIn(data, format.start + 78, format.end);
  const settings = (type: string): Uint8Array => {
    const box = boxes.find((one) => one.type === type);
    if (box === undefined) throw new VideoError(`The file's ${format.type} has no settings. ${OTHER}`);
    return new Uint8Array(data.buffer.slice(data.byteOffset + box.start, data.byteOffset + box.end));
  };
  const hex = (value: number) => value.toString(16).padStart(2, "0");
  const two = (value: number) => String(value).padStart(2, "0");
  switch (format.type) {
    case "avc1":
    case "avc3": {
      const avcC = settings("avcC");
      return { codec: `avc1.${hex(avcC[1])}${hex(avcC[2])}${hex(avcC[3])}`, description: avcC };
    }
    case "hvc1":
    case "hev1": {
      const hvcC = settings("hvcC"), view = new DataView(hvcC.buffer);
      let flags = view.getUint32(2), reversed = 0;
      for (let k = 0; k < 32; k++, flags >>>= 1) reversed = (reversed << 1) | (flags & 1);
      const rest = [...hvcC.subarray(6, 12)];
      while (rest.length && rest[rest.length - 1] === 0) rest.pop();
      const profile = ["", "A", "B", "C"][hvcC[1] >> 6] + (hvcC[1] & 31);
      const parts = [profile, (reversed >>> 0).toString(16), (hvcC[1] & 32 ? "H" : "L") + hvcC[12]];
      return { codec: [format.type, ...parts, ...rest.map((value) => value.toString(16))].join("."), description: hvcC };
    }
    case "vp09": {
      const vpcC = settings("vpcC");
      return { codec: `vp09.${two(vpcC[4])}.${two(vpcC[5])}.${two(vpcC[6] >> 4)}`, description: undefined };
    }
    case "av01": {
      const av1C = settings("av1C"), depth = av1C[2] & 64 ? 10 : 8;
      return {
        codec: `av01.${av1C[1] >> 5}.${two(av1C[1] & 31)}${av1C[2] & 128 ? "H" : "M"}.${two(depth)}`,
        description: undefined,
      };
    }
    default:
      throw new VideoError(`The video is coded as ${format.type}, which this page does not read. ${OTHER}`);
  }
}

function samplesOf(data: DataView, table: (type: string) => Box | undefined, timescale: number): Sample[] {
  const [stts, stsz, stsc] = ["stts", "stsz", "stsc"].map(table), ctts = table("ctts"), stss = table("stss");
  const stco = table("stco"), co64 = table("co64"), chunks = stco ?? co64;
  if (!stts || !stsz || !stsc || !chunks || !(timescale > 0)) {
    throw new VideoError(`The file's index is damaged. ${OTHER}`);
  }
  const n = data.getUint32(stsz.start + 8), fixed = data.getUint32(stsz.start + 4);
  if (n === 0) throw new VideoError(`The file is cut into fragments, which this page does not read. ${OTHER}`);
  if (n > MAX_SAMPLES) throw new VideoError(`The video has ${n} pictures, at most ${MAX_SAMPLES} are read. ${OTHER}`);
  const samples = Array.from({ length: n }, (_, k): Sample => {
    const size = fixed || data.getUint32(stsz.start + 12 + 4 * k);
    return { offset: 0, size, tS: 0, isKey: stss === undefined };
  });
  if (stss) {
    for (let k = 0; k < data.getUint32(stss.start + 4); k++) {
      const number = data.getUint32(stss.start + 8 + 4 * k);
      if (number >= 1 && number <= n) samples[number - 1].isKey = true;
    }
  }
  runs(data, stts, n, (k, step, before) => {
    samples[k].tS = before;
    return before + step;
  });
  if (ctts) {
    runs(data, ctts, n, (k, shift) => {
      samples[k].tS += shift | 0; // signed in version 1, and small in version 0
      return 0;
    });
  }
  for (const sample of samples) sample.tS /= timescale;
  const nChunks = data.getUint32(chunks.start + 4), nRuns = data.getUint32(stsc.start + 4);
  for (let run = 0, k = 0; run < nRuns; run++) {
    const entry = stsc.start + 8 + 12 * run;
    const last = run + 1 < nRuns ? data.getUint32(entry + 12) - 1 : nChunks;
    for (let chunk = data.getUint32(entry); chunk <= last && k < n; chunk++) {
      const at = chunks.start + 8 + (chunks === stco ? 4 : 8) * (chunk - 1);
      let offset = chunks === stco ? data.getUint32(at) : Number(data.getBigUint64(at));
      for (let i = data.getUint32(entry + 4); i > 0 && k < n; i--, k++) {
        samples[k].offset = offset;
        offset += samples[k].size;
      }
    }
  }
  return samples;
}

/** Call `use` for each of n samples with its value in a table of runs, and with what it returned before. */
function runs(data: DataView, box: Box, n: number, use: (k: number, value: number, before: number) => number): void {
  let k = 0, before = 0;
  for (let run = 0; run < data.getUint32(box.start + 4); run++) {
    const count = data.getUint32(box.start + 8 + 8 * run), value = data.getUint32(box.start + 12 + 8 * run);
    for (let i = 0; i < count && k < n; i++, k++) before = use(k, value, before);
  }
}
