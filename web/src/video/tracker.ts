/** Follow the largest face through a video: detection now and then, optical flow in between.
 *
 * As `autohr.video.tracker` with its default settings: one face, the tracked box. All times are seconds of the video.
 */

import { type Row, argmax, median, rint } from "../signals/arrays";
import type { Frame } from "../types";
import type { Detection, Detects } from "./detector";
import {
  type Grey,
  type Picture,
  type Pyramid,
  bestMatch,
  buildPyramid,
  ellipseMask,
  floatPicture,
  gaussianBlur,
  goodFeaturesToTrack,
  opticalFlow,
  resizeArea,
  resizeLinear,
  scaleAbs,
  toGrey,
  warpAffine,
} from "./opencv";
import { FacePicture, PATCH_PX, type Place, type Thinned, nHalvings, placeAround, thinned } from "./regions";

export const RETRY_EVERY_S = 0.2;
export const MAX_PATIENCE = 4;
export const STEADY_AFTER = 4;
export const STILL: readonly number[] = [0.08, 0.08, 0.03, 0.03, 0.06];
export const STILL_CORRELATION = 0.9;
export const AGREEMENT = 0.06;
export const MEMORY_S = 30.0;
export const START_SCORE = 0.99;
export const CONFIRM_SCORE = 0.9;
export const REPLACE_RATIO = 1.5;
export const FACE_PX = 80;
export const MARGIN = 0.35;
export const SLOW_PX = 1.5;
export const MIN_CORRELATION = 0.6;
export const MIN_GAIN: readonly number[] = [...Array<number>(4).fill(0.1), ...Array<number>(10).fill(0.25)];
export const SLIP_LIMIT: readonly number[] = [...Array<number>(4).fill(0.2), ...Array<number>(10).fill(0.1)];
export const PULL_TIME_S = 0.7;
export const REST_HZ: readonly number[] = [1.5, 1.5, 0.5, 0.5, 1.0];
export const PER_SPEED = 10.0;
export const SCENE_PX: readonly [number, number] = [48, 36];
export const CUT_CORRELATION = 0.5;
export const MIN_USUAL_CORRELATION = 0.7;
export const MIN_SCENE_CONTRAST = 0.03;
const DETECT_EVERY_S = 1.0, BRIDGE_S = 1.0;

/** One followed face in one frame, in pixels of the frame. */
export interface TrackedFace {
  id: number;
  /** (4) left, top, width, height, smooth in time. */
  boxXywh: Row;
  /** (10) as in Detection, smooth in time. */
  landmarks: Row;
  /** False for a face that was lost just now; the box is where it was last seen. */
  seen: boolean;
  picture: FacePicture | null;
}

/** State of one face. A pose (5) is x, y of the centre, log width, log height, roll in radians. */
class Track {
  view: View | null = null;
  appearance: Float32Array | null = null;
  pose!: Row;
  pull!: Row;
  pullSpeed!: Row;
  pullGoal!: Row;
  raw!: Row;
  smooth!: Row;
  speed!: Row;
  tSeen!: number;
  seen!: boolean;
  suspicious!: boolean;
  nConfirmed!: number;
  detectedPose!: Row;
  leastAlike!: number;
  agreed!: boolean;
  missedSinceS!: number | null;

  constructor(
    readonly id: number,
    face: Detection,
    tS: number,
  ) {
    this.place(face, tS);
  }

  /** Put the track on a detection, with no memory of where it was; its id stays. */
  place(face: Detection, tS: number): void {
    this.pose = boxPose(face.boxXywh);
    this.pull = new Float64Array(14);
    this.pull.set(landmarkShape(face, 0), 4);
    this.pullSpeed = new Float64Array(14);
    this.pullGoal = this.pull.slice();
    this.raw = this.pose.slice();
    this.smooth = this.pose.slice();
    this.speed = new Float64Array(5);
    this.tSeen = tS;
    this.seen = true;
    this.suspicious = false;
    this.nConfirmed = 1;
    this.detectedPose = this.pose.slice();
    this.leastAlike = 1;
    this.agreed = false;
    this.missedSinceS = null;
  }

  get size(): number {
    return poseSize(this.smooth);
  }

  get boxXywh(): Row {
    const width = Math.exp(this.smooth[2]), height = Math.exp(this.smooth[3]);
    return Float64Array.of(this.smooth[0] - width / 2, this.smooth[1] - height / 2, width, height);
  }

  get landmarks(): Row {
    return rolled(this.pull.subarray(4), this.smooth[4]).map((value, k) => this.smooth[k % 2] + this.size * value);
  }

  get isStill(): boolean {
    if (this.leastAlike < STILL_CORRELATION) return false;
    return this.pose.every((value, k) => {
      const moved = Math.abs(value - this.detectedPose[k]);
      return (k < 2 ? moved / this.size : moved) <= STILL[k];
    });
  }

  /** Return the pose by flow and detections together, before the low-pass. */
  rawPose(): Row {
    const pose = this.pose.slice(), size = poseSize(pose);
    pose[0] += this.pull[0] * size;
    pose[1] += this.pull[1] * size;
    pose[2] += this.pull[2];
    pose[3] += this.pull[3];
    return pose;
  }

  /** Return centre, sides and roll of the face in pixels of its view. */
  poseInView(view: View): { centre: number[]; sides: number[]; roll: number } {
    const pose = this.rawPose();
    return {
      centre: [(pose[0] - view.place.left) * view.scale, (pose[1] - view.place.top) * view.scale],
      sides: [Math.exp(pose[2]) * view.scale, Math.exp(pose[3]) * view.scale],
      roll: pose[4],
    };
  }
}

/** The reduced grey surroundings of a face in the last frame, and the points followed in it. */
interface View {
  place: Place;
  /** Pixels of the view per pixel of the frame. */
  scale: number;
  size: number;
  centre: [number, number];
  picture: FacePicture;
  grey: Grey;
  /** Of grey, as far as it was made. */
  pyramid: Pyramid | null;
  /** x, y, x, y, ... */
  points: Float32Array;
  nSeeded: number;
  isSlow: boolean;
}

export class FaceTracker {
  nCuts = 0;
  /** Largest number of faces that one search found besides the followed one, of those found twice. */
  nOthers = 0;
  thin: Thinned | null = null;
  private othersBefore = 0;
  private tracks: Track[] = [];
  private lost: Track[] = [];
  private candidates: { tS: number; face: Detection }[] = [];
  private nextId = 0;
  private tS: number | null = null;
  private tDetected: number | null = null;
  private tSearched: number | null = null;
  private patience = 1;
  private frameSize: string | null = null;
  private scene: Float32Array | null = null;
  private usualCorrelation: number | null = null;

  constructor(private readonly detector: Detects) {}

  /** Return the followed face in frame, taken at tS seconds. */
  async update(frame: Frame, tS: number): Promise<TrackedFace[]> {
    const dtS = this.tS === null ? 0 : tS - this.tS;
    this.tS = tS;
    if (this.isCut(frame)) {
      this.nCuts++;
      this.tracks = [];
      this.lost = [];
      this.candidates = [];
      this.tDetected = null;
    }
    for (const track of this.tracks) track.seen = track.seen && dtS <= BRIDGE_S && this.follow(track, frame);
    this.dropLost(tS);
    if (this.isDetectionDue(tS)) {
      this.tDetected = tS;
      await this.detect(frame, tS);
      this.dropLost(tS);
    }
    for (const track of this.tracks) {
      if (track.seen) {
        track.tSeen = tS;
        smoothPose(track, dtS);
      }
    }
    this.lost = this.lost.filter((track) => tS - track.tSeen <= MEMORY_S);
    return this.tracks.map((track) => ({
      id: track.id,
      boxXywh: track.boxXywh,
      landmarks: track.landmarks,
      seen: track.seen,
      picture: track.seen && track.view !== null ? track.view.picture : null,
    }));
  }

  private isCut(frame: Frame): boolean {
    this.thin = thinned(frame);
    const size = `${frame.width}x${frame.height}`, scene = sceneSketch(this.thin.pixels);
    const isSame = this.frameSize === null || this.frameSize === size;
    this.frameSize = size;
    if (!isSame) {
      this.scene = scene;
      return true;
    }
    if (scene === null) return false;
    const last = this.scene;
    this.scene = scene;
    if (last === null) return false;
    const alike = sceneCorrelation(last, scene), usual = this.usualCorrelation;
    if (usual !== null && alike < CUT_CORRELATION && usual > MIN_USUAL_CORRELATION) return true;
    this.usualCorrelation = usual === null ? alike : usual + 0.1 * (alike - usual);
    return false;
  }

  private isCalm(): boolean {
    return (
      this.tracks.length > 0 &&
      this.candidates.length === 0 &&
      this.tracks.every((track) => track.seen && track.missedSinceS === null && !track.suspicious)
    );
  }

  private isDetectionDue(tS: number): boolean {
    if (this.tDetected === null) return true;
    let waitS: number;
    if (!this.isCalm()) {
      this.patience = 1;
      waitS = Math.min(RETRY_EVERY_S, DETECT_EVERY_S);
    } else {
      if (this.patience > 1 && !this.tracks[0].isStill) this.patience = 1;
      waitS = this.patience * DETECT_EVERY_S;
    }
    return tS - this.tDetected >= waitS - 1e-6;
  }

  private dropLost(tS: number): void {
    this.tracks = this.tracks.filter((track) => {
      const missed = track.missedSinceS !== null && tS - track.missedSinceS > BRIDGE_S + 1e-6;
      if (!missed && (track.seen || tS - track.tSeen <= BRIDGE_S + 1e-6)) return true;
      this.lose(track);
      return false;
    });
  }

  private lose(track: Track): void {
    track.seen = false;
    track.view = null;
    this.lost.push(track);
  }

  /** Move a track's pose by optical flow from the last frame to this one; return false if the face was lost. */
  private follow(track: Track, frame: Frame): boolean {
    const view = track.view;
    if (view === null || view.points.length === 0) return false;
    view.picture = new FacePicture(frame, view.place);
    const grey = greyPicture(view.picture, view.scale);
    const moved = followPoints(view, grey);
    if (moved === null) return false;
    const { turn, shift } = moved;
    view.isSlow = moved.isSlow;
    view.grey = grey;
    view.pyramid = moved.pyramid;
    view.points = moved.points;

    const x = (track.pose[0] - view.place.left) * view.scale, y = (track.pose[1] - view.place.top) * view.scale;
    track.pose[0] = (turn[0] * x - turn[1] * y + shift[0]) / view.scale + view.place.left;
    track.pose[1] = (turn[1] * x + turn[0] * y + shift[1]) / view.scale + view.place.top;
    const growth = Math.log(Math.hypot(turn[0], turn[1]));
    track.pose[2] += growth;
    track.pose[3] += growth;
    track.pose[4] += Math.atan2(turn[1], turn[0]);

    const pose = track.rawPose();
    if (!(pose[0] >= 0 && pose[0] < frame.width && pose[1] >= 0 && pose[1] < frame.height)) return false;
    const far = Math.max(Math.abs(pose[0] - view.centre[0]), Math.abs(pose[1] - view.centre[1]));
    const ratio = poseSize(pose) / view.size;
    if (far > 0.12 * view.size || !(ratio > 0.88 && ratio < 1.14)) makeView(track, frame, true);
    if (track.view === null) return false;
    if (track.view.points.length / 2 < Math.floor(track.view.nSeeded / 2)) seedPoints(track, track.view);
    if (track.appearance !== null) {
      const alike = correlation(track.appearance, appearance(track, track.view));
      track.leastAlike = Math.min(track.leastAlike, alike);
      track.suspicious = alike < MIN_CORRELATION;
    }
    // Missed by the detector and no longer like itself: this is something else in the face's place.
    return !(track.suspicious && track.missedSinceS !== null);
  }

  private async detect(frame: Frame, tS: number): Promise<void> {
    const { found, pairs } = await this.search(frame, tS);
    const wasStill = this.tracks.every((track) => track.isStill);
    for (const track of this.tracks) {
      const index = pairs.get(track.id);
      if (index !== undefined) this.confirm(track, found[index], frame, tS);
      else track.missedSinceS ??= tS;
    }
    const paired = this.tracks.filter((track) => pairs.has(track.id));
    const taken = new Set(pairs.values());
    const waiting = this.candidates;
    this.candidates = [];
    found.forEach((face, i) => {
      if (taken.has(i) || paired.some((track) => overlap(face.boxXywh, track.boxXywh) > 0.3)) return;
      const again =
        face.score >= CONFIRM_SCORE &&
        waiting.some((then) => tS - then.tS <= 3 * RETRY_EVERY_S && distance(face.boxXywh, then.face.boxXywh) < 0.7);
      if ((again || face.score >= START_SCORE) && this.hasPlace(face, again)) this.start(face, frame, tS);
      else this.candidates.push({ tS, face });
    });
    // A face that is missed where it was, and found elsewhere, is no other one.
    const isWhole = this.tSearched === tS && this.tracks.every((track) => track.missedSinceS === null);
    if (isWhole && this.tracks.length >= 1) {
      const nOthers = this.candidates.filter(({ face }) => face.score >= START_SCORE).length;
      this.nOthers = Math.max(this.nOthers, Math.min(nOthers, this.othersBefore));
      this.othersBefore = nOthers;
    }
    if (this.tracks.length >= 1 && !this.candidates.some(({ face }) => this.isLarger(face))) this.candidates = [];
    const steady = paired.some((track) => track.nConfirmed >= STEADY_AFTER && track.agreed && wasStill);
    this.patience = steady ? Math.min(2 * this.patience, MAX_PATIENCE) : 1;
  }

  /** Return the faces found, and which of them is which track's. A face followed well is searched around it first. */
  private async search(frame: Frame, tS: number): Promise<{ found: Detection[]; pairs: Map<number, number> }> {
    const sinceS = this.tSearched === null ? Infinity : tS - this.tSearched;
    const isRecent = sinceS < MAX_PATIENCE * DETECT_EVERY_S - 1e-6;
    if (isRecent && this.isCalm() && this.detector.detectNear !== undefined) {
      const found = await this.detector.detectNear(frame, this.tracks[0].boxXywh);
      const pairs = match(this.tracks, found, tS);
      if (pairs.size > 0) return { found, pairs };
    }
    this.tSearched = tS;
    const found = await this.detector.detect(frame);
    return { found, pairs: match(this.tracks, found, tS) };
  }

  private isLarger(face: Detection): boolean {
    return face.boxXywh[2] > REPLACE_RATIO * Math.min(...this.tracks.map((track) => track.boxXywh[2]));
  }

  private hasPlace(face: Detection, again: boolean): boolean {
    if (this.tracks.length < 1) return true;
    if (!(again && this.isLarger(face))) return false;
    this.lose(this.tracks.splice(0, 1)[0]);
    return true;
  }

  /** Follow a face: an old one if one was lost near here, else a new one. */
  private start(face: Detection, frame: Frame, tS: number): void {
    const near = this.lost
      .filter((track) => distance(face.boxXywh, track.boxXywh) < 1.5 && sizeRatio(face.boxXywh, track.boxXywh) < 1.6)
      .sort((a, b) => distance(face.boxXywh, a.boxXywh) - distance(face.boxXywh, b.boxXywh));
    let track: Track;
    if (near.length > 0) {
      track = near[0];
      this.lost = this.lost.filter((other) => other !== track);
      track.place(face, tS);
    } else {
      track = new Track(this.nextId++, face, tS);
    }
    this.tracks.push(track);
    makeView(track, frame);
  }

  /** Pull the box towards a detection of a followed face; put it there only if the face had been lost. */
  private confirm(track: Track, face: Detection, frame: Frame, tS: number): void {
    if (!track.seen) {
      track.place(face, tS);
      makeView(track, frame);
      return;
    }
    track.nConfirmed++;
    track.missedSinceS = null;
    track.suspicious = false;
    const pose = track.pose, at = boxPose(face.boxXywh), size = poseSize(pose);
    const goal = Float64Array.of(
      (at[0] - pose[0]) / size,
      (at[1] - pose[1]) / size,
      at[2] - pose[2],
      at[3] - pose[3],
      ...landmarkShape(face, pose[4]),
    );
    const error = goal.map((value, k) => value - track.pullGoal[k]);
    track.agreed = error.every((value) => Math.abs(value) <= AGREEMENT);
    const gain = MIN_GAIN.map((least) => Math.max(1 / track.nConfirmed, least));
    for (const [first, end] of [[0, 4], [4, 14]]) {
      if (error.subarray(first, end).some((value, k) => Math.abs(value) > SLIP_LIMIT[first + k])) {
        for (let k = first; k < end; k++) gain[k] = Math.max(gain[k], 0.7); // still no step, as the pull takes its time
      }
    }
    track.pullGoal = track.pullGoal.map((value, k) => value + gain[k] * error[k]);
    track.detectedPose = track.pose.slice();
    track.leastAlike = 1;
    refreshView(track, frame);
  }
}

/** Advance the pull towards its goal and the low-pass of the box by dtS seconds. */
function smoothPose(track: Track, dtS: number): void {
  const rate = 1 / PULL_TIME_S, fade = Math.exp(-rate * dtS);
  for (let k = 0; k < 14; k++) {
    const off = track.pull[k] - track.pullGoal[k], drive = track.pullSpeed[k] + rate * off;
    track.pull[k] = track.pullGoal[k] + (off + drive * dtS) * fade;
    track.pullSpeed[k] = (track.pullSpeed[k] - rate * drive * dtS) * fade;
  }
  const raw = track.rawPose();
  if (dtS > 0) {
    const size = track.size, share = 1 - Math.exp(-2 * Math.PI * 3 * dtS), v = track.speed;
    for (let k = 0; k < 5; k++) v[k] += share * ((raw[k] - track.raw[k]) / (k < 2 ? size : 1) / dtS - v[k]);
    const place = Math.hypot(v[0], v[1]), sides = Math.hypot(v[2], v[3]);
    const moving = [place, place, sides, sides, Math.abs(v[4])];
    for (let k = 0; k < 5; k++) {
      track.smooth[k] += (1 - Math.exp(-2 * Math.PI * (REST_HZ[k] + PER_SPEED * moving[k]) * dtS)) * (raw[k] - track.smooth[k]);
    }
  }
  track.raw = raw;
}

// -- geometry

function boxPose(box: Row): Row {
  const [x, y, width, height] = box;
  return Float64Array.of(x + width / 2, y + height / 2, Math.log(Math.max(width, 1)), Math.log(Math.max(height, 1)), 0);
}

function poseSize(pose: Row): number {
  return Math.exp((pose[2] + pose[3]) / 2);
}

/** Turn points (x, y, x, y, ...) around the origin. */
function rolled(points: Row, roll: number): Row {
  const cos = Math.cos(roll), sin = Math.sin(roll);
  return points.map((value, k) => (k % 2 ? points[k - 1] * sin + value * cos : value * cos - points[k + 1] * sin));
}

/** Return the landmarks (10) around the centre of the box in face sizes, with a known roll taken out. */
function landmarkShape(face: Detection, roll: number): Row {
  const pose = boxPose(face.boxXywh), size = poseSize(pose);
  return rolled(
    face.landmarks.map((value, k) => (value - pose[k % 2]) / size),
    -roll,
  );
}

function overlap(a: Row, b: Row): number {
  const across = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const down = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(across, 0) * Math.max(down, 0);
  return shared / Math.max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9);
}

/** Return the distance between the centres of two boxes, in sizes of the larger box. */
function distance(a: Row, b: Row): number {
  const apart = Math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2);
  return apart / Math.max(Math.sqrt(Math.max(a[2] * a[3], b[2] * b[3])), 1);
}

function sizeRatio(a: Row, b: Row): number {
  const ratio = Math.sqrt((a[2] * a[3]) / Math.max(b[2] * b[3], 1e-9));
  return Math.max(ratio, 1 / Math.max(ratio, 1e-9));
}

/** Assign detections to tracks (track id -> index). With one track it is the nearest that can be it. */
function match(tracks: Track[], found: Detection[], tS: number): Map<number, number> {
  const pairs = new Map<number, number>();
  for (const track of tracks) {
    const reach = track.seen ? 0.7 : Math.min(0.8 + (tS - track.tSeen), 1.5);
    const cost = found.map((face) => {
      const away = distance(track.boxXywh, face.boxXywh), ratio = sizeRatio(track.boxXywh, face.boxXywh);
      return away < reach && ratio < 1.8 ? away + Math.log(ratio) : Infinity;
    });
    const best = argmax(cost.map((value) => -value));
    if (found.length > 0 && cost[best] < Infinity) pairs.set(track.id, best);
  }
  return pairs;
}

// -- pictures

/** Return a picture of a face in grey, enlarged to scale pixels for one of the frame if it is smaller. */
function greyPicture(from: FacePicture, scale: number): Grey {
  const grey = toGrey(from.pixels);
  if (scale <= 1) return grey;
  return resizeLinear(grey, rint(grey.width * scale), rint(grey.height * scale), 1 / scale);
}

/** Lay the track's view around the face as it is in frame; new points and appearance unless keepPoints. */
function makeView(track: Track, frame: Frame, keepPoints = false): void {
  const pose = track.rawPose(), size = poseSize(pose), sides = [Math.exp(pose[2]), Math.exp(pose[3])];
  const box = Float64Array.of(pose[0] - sides[0] / 2, pose[1] - sides[1] / 2, sides[0], sides[1]);
  const halvings = nHalvings(box, PATCH_PX, track.view === null ? null : track.view.place.halvings);
  const place = placeAround(frame, box, [MARGIN * size, MARGIN * size], halvings);
  const scale = size >= FACE_PX / 1.5 ? 0.5 ** place.halvings : FACE_PX / size;
  if (Math.min(place.right - place.left, place.bottom - place.top) * scale < 16) {
    track.view = null;
    return;
  }
  const made = new FacePicture(frame, place);
  const view: View = {
    place,
    scale,
    size,
    centre: [pose[0], pose[1]],
    picture: made,
    grey: greyPicture(made, scale),
    pyramid: null,
    points: new Float32Array(0),
    nSeeded: 0,
    isSlow: false,
  };
  const old = track.view;
  track.view = view;
  if (keepPoints && old !== null) {
    const points: number[] = [];
    for (let k = 0; k < old.points.length; k += 2) {
      const x = (old.points[k] / old.scale + old.place.left - place.left) * scale;
      const y = (old.points[k + 1] / old.scale + old.place.top - place.top) * scale;
      if (isInside(x, y, view.grey)) points.push(x, y);
    }
    view.points = Float32Array.from(points);
    view.nSeeded = old.nSeeded;
  } else {
    seedPoints(track, view);
    track.appearance = appearance(track, view);
  }
}

function isInside(x: number, y: number, grey: Grey): boolean {
  return x >= 0 && y >= 0 && x <= grey.width - 1 && y <= grey.height - 1;
}

/** Take the face's present appearance at a detection, and drop the points that left it; seed anew if few are left. */
function refreshView(track: Track, frame: Frame): void {
  const view = track.view;
  if (view === null) {
    makeView(track, frame);
    return;
  }
  const { centre, sides } = track.poseInView(view);
  const points: number[] = [];
  for (let k = 0; k < view.points.length; k += 2) {
    const x = view.points[k], y = view.points[k + 1];
    if (((x - centre[0]) / (sides[0] / 2)) ** 2 + ((y - centre[1]) / (sides[1] / 2)) ** 2 <= 1) points.push(x, y);
  }
  view.points = Float32Array.from(points);
  if (points.length / 2 < 0.6 * view.nSeeded) seedPoints(track, view);
  track.appearance = appearance(track, view);
}

/** Choose new points to follow: corners of the picture inside the face's ellipse, or a grid if there are few. */
function seedPoints(track: Track, view: View): void {
  const { centre, sides } = track.poseInView(view), axes = sides.map((side) => side * 0.45), { grey } = view;
  const mask = ellipseMask(
    grey.width,
    grey.height,
    [rint(centre[0]), rint(centre[1])],
    [Math.max(2, Math.trunc(axes[0])), Math.max(2, Math.trunc(axes[1]))],
  );
  const points = goodFeaturesToTrack(grey, 60, 0.01, 5, mask);
  if (points.length / 2 < 15) {
    for (let row = 0; row < 5; row++) {
      for (let column = 0; column < 5; column++) {
        const x = Math.fround(centre[0] + (-0.7 + 0.35 * column) * axes[0]);
        const y = Math.fround(centre[1] + (-0.7 + 0.35 * row) * axes[1]);
        if (isInside(x, y, grey)) points.push(x, y);
      }
    }
  }
  view.points = Float32Array.from(points);
  view.nSeeded = points.length / 2;
}

interface Motion {
  turn: [number, number];
  shift: [number, number];
  points: Float32Array;
  isSlow: boolean;
}

/** Return the motion of a view's points to the next grey picture as z -> turn * z + shift, z = x + iy.
 *
 * Null if too few points agree, or if a head cannot move so between two frames.
 */
function followPoints(view: View, after: Grey): (Motion & { pyramid: Pyramid | null }) | null {
  const before = view.grey, meanBefore = meanOf(before), meanAfter = meanOf(after);
  if (meanAfter < 1) return null;
  // Lucas-Kanade takes brightness as constant; without this, a lamp switched on is read as motion.
  const isDimmed = Math.abs(meanAfter - meanBefore) > 0.02 * meanBefore;
  const target = isDimmed ? scaleAbs(after, meanBefore / meanAfter) : after;
  let from = view.pyramid, to: Pyramid | null = null;
  const pyramids = (level: number): [Pyramid, Pyramid] => {
    if (from === null || (level > 0 && from.length === 1)) from = buildPyramid(before, level);
    if (to === null || (level > 0 && to.length === 1)) to = buildPyramid(target, level);
    return [from, to];
  };
  const kept = (motion: Motion | null) => motion && { ...motion, pyramid: isDimmed ? null : to };
  if (view.isSlow) {
    const found = flow(...pyramids(0), view.points, 0);
    if (found !== null && found.stepPx < SLOW_PX && found.source.length > 0.7 * view.points.length) {
      return kept(commonMotion(found));
    }
  }
  const found = flow(...pyramids(3), view.points, 3);
  return found === null ? null : kept(commonMotion(found));
}

function meanOf(grey: Grey): number {
  let total = 0;
  for (let k = 0; k < grey.data.length; k++) total += grey.data[k];
  return total / grey.data.length;
}

interface Flow {
  source: Float32Array;
  goal: Float32Array;
  stepPx: number;
}

/** Return points before and after that flow forth and back, and their median motion; null if too few. */
function flow(before: Pyramid, after: Pyramid, points: Float32Array, maxLevel: number): Flow | null {
  const n = points.length / 2;
  const forth = opticalFlow(before, after, points, null, maxLevel);
  const step = [0, 1].map((i) => {
    const steps = Float32Array.from({ length: n }, (_, k) => forth.points[2 * k + i] - points[2 * k + i]).sort();
    return steps[Math.floor(n / 2)];
  });
  // Back from where the others came, for a fine level suffices there: a point that strayed does not return.
  const guess = forth.points.map((value, k) => value - step[k % 2]);
  const back = opticalFlow(after, before, forth.points, guess, Math.floor(maxLevel / 2));
  const source: number[] = [], goal: number[] = [];
  for (let k = 0; k < n; k++) {
    const missed = Math.max(Math.abs(back.points[2 * k] - points[2 * k]), Math.abs(back.points[2 * k + 1] - points[2 * k + 1]));
    if (forth.found[k] && back.found[k] && missed < 0.7) {
      source.push(points[2 * k], points[2 * k + 1]);
      goal.push(forth.points[2 * k], forth.points[2 * k + 1]);
    }
  }
  if (source.length / 2 < Math.max(6, 0.4 * n)) return null;
  return { source: Float32Array.from(source), goal: Float32Array.from(goal), stepPx: Math.hypot(step[0], step[1]) };
}

/** Return the motion of most of the points. */
function commonMotion({ source, goal, stepPx }: Flow): Motion | null {
  const n = source.length / 2;
  const steps = [0, 1].map((i) => Float64Array.from({ length: n }, (_, k) => goal[2 * k + i] - source[2 * k + i]));
  let turn: [number, number] = [1, 0], shift: [number, number] = [median(steps[0]), median(steps[1])];
  let inlier = new Array<boolean>(n).fill(false);
  for (let round = 0; round < 3; round++) {
    const off = Float64Array.from({ length: n }, (_, k) => {
      const x = source[2 * k], y = source[2 * k + 1];
      return Math.hypot(
        goal[2 * k] - turn[0] * x + turn[1] * y - shift[0],
        goal[2 * k + 1] - turn[1] * x - turn[0] * y - shift[1],
      );
    });
    const last = inlier, limit = Math.max(3 * median(off), 0.3);
    inlier = Array.from(off, (value) => value <= limit);
    if (inlier.every((is, k) => is === last[k])) break;
    const means = [0, 0, 0, 0];
    let count = 0;
    for (let k = 0; k < n; k++) {
      if (!inlier[k]) continue;
      count++;
      means[0] += source[2 * k];
      means[1] += source[2 * k + 1];
      means[2] += goal[2 * k];
      means[3] += goal[2 * k + 1];
    }
    const [ax, ay, bx, by] = means.map((value) => value / count);
    let re = 0, im = 0, square = 0;
    for (let k = 0; k < n; k++) {
      if (!inlier[k]) continue;
      const x = source[2 * k] - ax, y = source[2 * k + 1] - ay, u = goal[2 * k] - bx, v = goal[2 * k + 1] - by;
      re += x * u + y * v;
      im += x * v - y * u;
      square += x * x + y * y;
    }
    square = Math.max(square, 1e-9);
    turn = [re / square, im / square];
    shift = [bx - turn[0] * ax + turn[1] * ay, by - turn[1] * ax - turn[0] * ay];
  }
  const kept = inlier.filter(Boolean).length;
  if (kept < Math.max(6, 0.5 * n)) return null;
  const size = Math.hypot(turn[0], turn[1]);
  if (!(size > 0.8 && size < 1.25 && Math.abs(Math.atan2(turn[1], turn[0])) < 0.35)) return null;
  const points = new Float32Array(2 * kept);
  for (let k = 0, to = 0; k < n; k++) {
    if (!inlier[k]) continue;
    points[to++] = goal[2 * k];
    points[to++] = goal[2 * k + 1];
  }
  return { turn, shift, points, isSlow: stepPx < SLOW_PX };
}

/** Return the face in its view, upright, as 24 x 24 standardised values. */
function appearance(track: Track, view: View): Float32Array {
  const { centre, sides, roll } = track.poseInView(view), width = sides[0] / 24, height = sides[1] / 24;
  const xx = Math.cos(roll) * width, xy = -Math.sin(roll) * height;
  const yx = Math.sin(roll) * width, yy = Math.cos(roll) * height;
  const toView = [xx, xy, centre[0] - 11.5 * (xx + xy), yx, yy, centre[1] - 11.5 * (yx + yy)];
  return standardised(new Float32Array(warpAffine(view.grey, toView, 24, false).data));
}

/** Return values less their mean and divided by their length, zeros if they do not vary. */
function standardised(values: Float32Array): Float32Array {
  let total = 0;
  for (const value of values) total += value;
  const off = values.map((value) => value - total / values.length);
  let square = 0;
  for (const value of off) square += value * value;
  const length = Math.sqrt(square);
  return length > 1e-3 * Math.sqrt(off.length) ? off.map((value) => value / length) : off.fill(0);
}

/** Return the correlation of two standardised rows of values; 1 if one of them does not vary. */
function correlation(a: Float32Array, b: Float32Array): number {
  let product = 0;
  for (let k = 0; k < a.length; k++) product += a[k] * b[k];
  return product !== 0 || (a.some(Boolean) && b.some(Boolean)) ? product : 1;
}

// +16: sensor noise in the dark must not weigh as much as structure in the light.
const LOG = Float32Array.from({ length: 256 }, (_, k) => Math.log(k + 16));

/** Return a tiny picture of the local contrasts of a thinned frame, which light hardly changes; null if blank. */
function sceneSketch(thin: Picture): Float32Array | null {
  const small = resizeArea(toGrey(thin), SCENE_PX[0], SCENE_PX[1]);
  const log = floatPicture(small.width, small.height, 1);
  for (let k = 0; k < log.data.length; k++) log.data[k] = LOG[small.data[k]];
  const blurred = gaussianBlur(log, 3);
  const sketch = log.data.map((value, k) => value - blurred.data[k]);
  let square = 0;
  for (const value of sketch) square += value * value;
  return Math.sqrt(square / sketch.length) < MIN_SCENE_CONTRAST ? null : standardised(sketch);
}

/** Return the best correlation of two sketches, the middle of one shifted over the other by up to a fifth. */
function sceneCorrelation(before: Float32Array, after: Float32Array): number {
  const straight = correlation(before, after);
  if (straight > 0.9) return straight;
  const [width, height] = SCENE_PX, x = Math.floor(width / 5), y = Math.floor(height / 5);
  const middle = floatPicture(width - 2 * x, height - 2 * y, 1);
  for (let row = 0; row < middle.height; row++) {
    const from = (row + y) * width + x;
    middle.data.set(before.subarray(from, from + middle.width), row * middle.width);
  }
  return bestMatch({ data: after, width, height, channels: 1 }, middle);
}

