/** Change the frame rate of a video for nets that know only some rates, as `autohr.video.pace`. */

import { rint } from "../signals/arrays";

/** Return [times, every], which bring a video of fps into or near minFps .. maxFps; one of the two is always 1. */
export function clockChange(fps: number, minFps: number, maxFps: number): [number, number] {
  if (fps < minFps) return [Math.ceil(minFps / fps), 1];
  return [1, Math.max(1, rint(fps / maxFps))];
}

/** Put times - 1 cross-faded frames between each two. */
export function denser(frames: Uint8Array[], times: number): Uint8Array[] {
  return frames.flatMap((frame, k) => {
    if (k + 1 === frames.length) return [frame];
    const next = frames[k + 1];
    const between = Array.from({ length: times - 1 }, (_, step) => {
      const share = Math.fround((step + 1) / times), rest = Math.fround(1 - share);
      return frame.map((value, i) => rint(Math.fround(Math.fround(value * rest) + Math.fround(next[i] * share))));
    });
    return [frame, ...between];
  });
}
