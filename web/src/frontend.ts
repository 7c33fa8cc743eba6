/** Reader of faces in video frames: tracks, crops and reads colours, as `autohr.frontend`. */

import type { ClockRow } from "./signals/clock";
import type { Row } from "./signals/arrays";
import { rint } from "./signals/arrays";
import type { Frame } from "./types";
import type { Detects } from "./video/detector";
import type { Picture } from "./video/opencv";
import { PATCH_PX, SkinReader, backgroundColour, facePicture, nHalvings, scaled, unseen } from "./video/regions";
import { FaceTracker, type TrackedFace } from "./video/tracker";

export const BRIDGE_S = 1.0;
export const READ_MARGIN = 0.1;

/** Settings of the face crops that a net was trained with; the box is the tracked one. */
export interface Crop {
  stored_px: number;
  size_px: number;
  margin: number;
}

/** Side of the crops that MVDR reads. */
export const FORMULA_PX = 64;

/** Return a stored crop as a method is given it. */
export function shrink(stored: Picture, sizePx: number): Picture {
  return bytesOf(scaled(stored, sizePx));
}

function bytesOf(exact: Picture<Float32Array>): Picture {
  const data = new Uint8Array(exact.data.length);
  for (let k = 0; k < data.length; k++) data[k] = rint(exact.data[k]);
  return { ...exact, data };
}

/** One followed face in one frame. */
export interface FaceRow extends ClockRow {
  faceId: number;
  crop: Picture | null;
}

interface State {
  skin: SkinReader;
  seenS: number;
  halvings: number | null;
  cropHalvings: number | null;
}

export class FaceReader {
  /** The faces of the last frame. */
  faces: TrackedFace[] = [];
  private readonly tracker: FaceTracker;
  private readonly states = new Map<number, State>();
  /** A crop about as fine as the patch that colours are read from is cut from the same reduced picture. */
  private readonly shares: boolean;
  private readonly densityPx: number;

  constructor(
    private readonly crop: Crop,
    detector: Detects,
  ) {
    this.tracker = new FaceTracker(detector);
    this.densityPx = crop.stored_px / (1 + 2 * crop.margin);
    this.shares = this.densityPx <= 1.1 * PATCH_PX && crop.margin <= READ_MARGIN;
  }

  get nCuts(): number {
    return this.tracker.nCuts;
  }

  get nOthers(): number {
    return this.tracker.nOthers;
  }

  /** Return a row for the face in frame, or lost less than BRIDGE_S ago. */
  async push(frame: Frame, tS: number, whole: boolean): Promise<FaceRow[]> {
    this.faces = await this.tracker.update(frame, tS);
    for (const [id, state] of this.states) if (tS - state.seenS > BRIDGE_S) this.states.delete(id);
    if (this.faces.length === 0 || this.tracker.thin === null) return [];
    const backgroundRgb = backgroundColour(
      this.tracker.thin,
      this.faces.map((face) => face.boxXywh),
    );
    return this.faces.flatMap((face) => {
      let state = this.states.get(face.id);
      if (state === undefined) {
        if (!face.seen) return [];
        state = { skin: new SkinReader(), seenS: -Infinity, halvings: null, cropHalvings: null };
        this.states.set(face.id, state);
      }
      return [this.read(frame, face, state, tS, whole, backgroundRgb)];
    });
  }

  private read(frame: Frame, face: TrackedFace, state: State, tS: number, whole: boolean, backgroundRgb: Row): FaceRow {
    let colours = unseen(), crop: Picture | null = null;
    if (face.seen) {
      state.seenS = tS;
      const halvings = nHalvings(face.boxXywh, PATCH_PX, state.halvings);
      let picture = facePicture(frame, face.boxXywh, halvings, READ_MARGIN, face.picture);
      state.halvings = picture.place.halvings;
      colours = state.skin.read(picture.patch(face.boxXywh), face.boxXywh, face.landmarks, tS);
      if (!this.shares) {
        state.cropHalvings = nHalvings(face.boxXywh, this.densityPx, state.cropHalvings);
        picture = facePicture(frame, face.boxXywh, state.cropHalvings, this.crop.margin);
      }
      crop = bytesOf(picture.patch(face.boxXywh, this.crop.stored_px, this.crop.margin));
    }
    const { boxXywh, seen } = face;
    return { faceId: face.id, tS, ...colours, backgroundRgb, boxXywh, found: seen, whole, crop };
  }
}
