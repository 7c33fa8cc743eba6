/** Data types that pass between rooms; field names are those of the measurement's JSON (`autohr.types`). */

import type { Row, Rows } from "./signals/arrays";

/** One picture: RGB, 0..255, row by row. */
export interface Frame {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** One face over one window of time, on a uniform clock of fps frames per second. */
export interface FaceClip {
  fps: number;
  startS: number;
  /** (T, 3) mean colour of the skin. */
  rgb: Rows;
  /** (R, T, 3) mean colours of the regions; a region that was seldom seen is NaN. */
  traces: Rows[];
  /** (T, 3), NaN where the frame holds nothing but the face. */
  backgroundRgb: Rows;
  /** (T, 4) */
  boxXywh: Rows;
  found: boolean[];
  whole: boolean[];
  /** (R, T, 3) mean colours of the raster over the crops; null without crops. */
  cells: Rows[] | null;
  /** (T,) wave of the net; null without a net. */
  netWave: Row | null;
}

export interface Pulse {
  bvp: Row;
  fps: number;
  startS: number;
}

export type EvidenceKind = "net" | "cells" | "colours";

export interface Evidence {
  snr_db: number;
  agreement: number;
  background: number;
  motion: number;
  halves_bpm: number;
  witness_bpm: number;
  witness_snr_db: number;
  in_step: number;
  redrawn: number;
  at_key_frames: boolean;
  runner_up: number;
  on_skin: number;
  blood: number;
  kind: EvidenceKind;
}

export interface Rate {
  hr_bpm: number | null;
  confidence: number;
  reliable: boolean;
  snr_db: number | null;
  why_unreliable: string | null;
}

export interface Estimate extends Rate {
  evidence: Evidence | null;
  pulse: Pulse | null;
  witness: Pulse | null;
}

export interface Reading {
  face_id: number;
  segment: number;
  start_s: number;
  end_s: number;
  estimate: Estimate;
  found_share: number;
}

export interface Window extends Rate {
  start_s: number;
  end_s: number;
}

export interface FaceMeasurement extends Rate {
  id: number;
  start_s: number;
  end_s: number;
  windows: Window[];
  bvp: Pulse | null;
}

export interface Measurement {
  method: string;
  duration_s: number;
  fps_mean: number;
  frames: { read: number; face: number; repaired: number; dropped: number };
  faces: FaceMeasurement[];
  notes: string[];
}
