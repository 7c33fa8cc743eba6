/** The pictures of a video file in the order in which they are shown, by the browser's own decoder. */

import { VideoError } from "../errors";
import type { Frame } from "../types";
import { type Track, readTrack } from "./mp4";

export interface VideoFrames {
  durationS: number;
  frames: AsyncGenerator<{ frame: Frame; tS: number; whole: boolean }>;
}

const MAX_WAITING = 8;
const MAX_SIDE_PX = 1280;

/** Open a file. Raises VideoError where this browser cannot decode it. */
export async function openVideo(file: Blob): Promise<VideoFrames> {
  const track = await readTrack(file);
  if (typeof VideoDecoder === "undefined") {
    throw new VideoError("This browser cannot decode single pictures (WebCodecs). Use a current one.");
  }
  const config = { codec: track.codec, description: track.description, codedWidth: track.width, codedHeight: track.height };
  if (!(await VideoDecoder.isConfigSupported(config).catch(() => ({ supported: false }))).supported) {
    throw new VideoError(`This browser does not decode ${track.codec}. Measure it with: autohr measure FILE`);
  }
  const times = track.samples.map((sample) => sample.tS).sort((a, b) => a - b);
  return { durationS: times[times.length - 1] - times[0], frames: decode(file, track, config, times[0]) };
}

async function* decode(file: Blob, track: Track, config: VideoDecoderConfig, firstS: number): VideoFrames["frames"] {
  const ready: VideoFrame[] = [];
  let failed: Error | null = null, wake = () => {};
  const decoder = new VideoDecoder({
    output: (frame) => {
      ready.push(frame);
      wake();
    },
    error: (error) => {
      failed = error;
      wake();
    },
  });
  const keys = new Set(track.samples.filter((sample) => sample.isKey).map((sample) => Math.round(sample.tS * 1e6)));
  const draw = painter(track);
  let lastS = -Infinity;
  const taken = function* () {
    for (let frame = ready.shift(); frame !== undefined; frame = ready.shift()) {
      const tS = frame.timestamp / 1e6 - firstS;
      const picture = tS > lastS ? draw(frame) : null;
      const whole = keys.has(frame.timestamp);
      frame.close();
      if (picture !== null) {
        lastS = tS;
        yield { frame: picture, tS, whole };
      }
    }
  };
  try {
    decoder.configure(config);
    const wait = () => new Promise<void>((done) => (wake = done));
    for (const sample of track.samples) {
      const data = await file.slice(sample.offset, sample.offset + sample.size).arrayBuffer();
      if (failed !== null) break;
      const timestamp = Math.round(sample.tS * 1e6);
      decoder.decode(new EncodedVideoChunk({ type: sample.isKey ? "key" : "delta", timestamp, data }));
      while (failed === null && decoder.decodeQueueSize > MAX_WAITING && ready.length === 0) await wait();
      yield* taken();
    }
    if (failed === null) await decoder.flush();
    yield* taken();
  } catch (error) {
    failed ??= error as Error;
  } finally {
    for (const frame of ready) frame.close();
    if (decoder.state !== "closed") decoder.close();
  }
  if (failed !== null) {
    throw new VideoError(`The video is damaged or cannot be decoded here (${(failed as Error).message}).`);
  }
}

/** Return a function that draws a decoded picture upright and reads its pixels. */
function painter(track: Track): (frame: VideoFrame) => Frame {
  let canvas: OffscreenCanvas | null = null;
  return (frame) => {
    const isTurned = track.turnDeg % 180 !== 0, { displayWidth: w, displayHeight: h } = frame;
    const reduce = Math.min(1, MAX_SIDE_PX / Math.max(w, h));
    const size = [w, h].map((side) => Math.round(side * reduce));
    const [width, height] = isTurned ? [size[1], size[0]] : size;
    if (canvas === null || canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
    const pen = canvas.getContext("2d", { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
    pen.setTransform(1, 0, 0, 1, width / 2, height / 2);
    pen.rotate((track.turnDeg * Math.PI) / 180);
    pen.drawImage(frame, -size[0] / 2, -size[1] / 2, size[0], size[1]);
    return { data: withoutAlpha(pen.getImageData(0, 0, width, height).data), width, height };
  };
}

/** Return RGB of RGBA. */
export function withoutAlpha(rgba: Uint8Array | Uint8ClampedArray): Uint8Array {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}
