/** What the page and its worker say to each other. */

import type { Rate, Measurement } from "../types";

export type ToWorker =
  | { type: "begin"; name: string }
  /** One picture; rgba of the camera, or rgb. */
  | { type: "frame"; pixels: ArrayBuffer; channels: 3 | 4; width: number; height: number; tS: number; late: boolean }
  | { type: "file"; file: File }
  | { type: "finish" }
  | { type: "forget" };

export interface Wave {
  values: (number | null)[];
  fps: number;
  start_s: number;
}

export interface State {
  type: "state";
  rate: Rate | null;
  readings: number;
  /** Why there is no rate yet. */
  why: string;
  /** (4) the face in shares of the picture, left, top, width, height; null where none is seen. */
  box: number[] | null;
  measuredS: number;
  nFrames: number;
  wave: Wave | null;
  advice: string[];
}

export type FromWorker =
  | { type: "ready" }
  | { type: "failed"; why: string }
  | { type: "taken" }
  | { type: "progress"; doneS: number; totalS: number }
  | State
  | { type: "result"; measurement: Measurement; wave: Wave | null }
  | { type: "refused"; why: string };
