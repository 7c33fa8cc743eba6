/** The worker: pictures in, readings out. All arithmetic and the net run here; nothing leaves it but numbers. */

import { TRUSTED_S } from "../confidence/verdict";
import { AutoHRError } from "../errors";
import { answer, joinWaves, mainFace } from "../measure";
import { Meter } from "../meter";
import { type Ort, loadNetworks } from "../networks";
import type { Pulse, Reading } from "../types";
import { FaceDetector } from "../video/detector";
import { openVideo, withoutAlpha } from "./file";
import type { FromWorker, ToWorker, Wave } from "./messages";

const STATE_EVERY_MS = 200, WAVE_S = 8, KEPT = 12, EARLY_EVERY_S = 1;
const say = (message: FromWorker) => postMessage(message);

async function load() {
  const ort = (await import(new URL("./ort/ort.js", import.meta.url).href)) as unknown as Ort;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {
    mjs: new URL("./ort/ort-wasm.js", import.meta.url).href,
    wasm: new URL("./ort/ort-wasm.wasm", import.meta.url).href,
  };
  return loadNetworks(ort, async (name) => {
    const response = await fetch(new URL(`./model/${name}`, import.meta.url));
    if (!response.ok) throw new Error(`${name} cannot be read (${response.status})`);
    return new Uint8Array(await response.arrayBuffer());
  });
}

let loaded: ReturnType<typeof load>;

/** One measurement, of a camera or of a file. */
class Session {
  isEnded = false;
  private readings: Reading[] = [];
  private early: Reading | null = null;
  private earlyS = 0;
  private firstS: number | null = null;
  private lastS = 0;
  private saidMs = -Infinity;

  private constructor(
    private readonly name: string,
    private readonly meter: Meter,
    private readonly isLive: boolean,
  ) {}

  static async open(name: string, isLive: boolean): Promise<Session> {
    const { networks, net, crop } = await loaded;
    return new Session(name, new Meter(net, crop, new FaceDetector(networks)), isLive);
  }

  async push(data: Uint8Array, width: number, height: number, tS: number, whole: boolean, late: boolean): Promise<void> {
    this.firstS ??= tS;
    this.lastS = tS;
    this.readings.push(...(await this.meter.push({ data, width, height }, tS, whole, late)));
    if (this.isLive && this.readings.length === 0 && tS - this.earlyS >= EARLY_EVERY_S) {
      this.earlyS = tS;
      this.early = this.meter.early()[0] ?? this.early;
    }
    if (performance.now() - this.saidMs >= STATE_EVERY_MS) {
      this.saidMs = performance.now();
      this.tell(width, height);
    }
  }

  private tell(width: number, height: number): void {
    const face = this.meter.faces.find((one) => one.seen);
    const followedS = face ? this.meter.followedS(face.id) : 0;
    const last = this.readings.findLast((one) => one.face_id === face?.id) ?? (face ? this.early : null);
    const rate = last === null || last === undefined ? null : last.estimate;
    const recent = this.readings.filter((one) => one.face_id === face?.id).slice(-KEPT);
    const pulse = recent.length > 0 ? joinWaves(recent) : this.early && joinWaves([this.early]);
    const advice = face ? [] : ["Bring your face into the picture, upright, with light on it."];
    if (face && followedS < TRUSTED_S) advice.push("Hold still: a rate needs some seconds.");
    say({
      type: "state",
      rate: rate && {
        hr_bpm: rate.hr_bpm,
        confidence: rate.confidence,
        reliable: rate.reliable,
        snr_db: rate.snr_db,
        why_unreliable: rate.why_unreliable,
      },
      readings: this.readings.length,
      why: face ? `the face is followed since ${followedS.toFixed(0)} s` : "no face is seen",
      box: face
        ? [face.boxXywh[0] / width, face.boxXywh[1] / height, face.boxXywh[2] / width, face.boxXywh[3] / height]
        : null,
      measuredS: this.lastS - (this.firstS ?? 0),
      nFrames: this.meter.nFrames,
      wave: face && pulse ? lastOf(pulse, WAVE_S) : null,
      advice,
    });
  }

  async finish(): Promise<void> {
    this.readings.push(...(await this.meter.finish()));
    const durationS = this.lastS - (this.firstS ?? 0);
    const measurement = answer(this.meter, this.readings, this.name, durationS, { repaired: 0, dropped: 0 }, []);
    const pulse = mainFace(measurement.faces).bvp;
    say({ type: "result", measurement, wave: pulse && lastOf(pulse, 20) });
  }
}

function lastOf(pulse: Pulse, seconds: number): Wave {
  const first = Math.max(0, pulse.bvp.length - Math.round(seconds * pulse.fps));
  const values = Array.from(pulse.bvp.subarray(first), (value) => (Number.isFinite(value) ? value : null));
  return { values, fps: pulse.fps, start_s: pulse.startS + first / pulse.fps };
}

let session: Session | null = null;

async function hear(message: ToWorker): Promise<void> {
  if (message.type === "begin") {
    session = await Session.open(message.name, true);
  } else if (message.type === "frame") {
    try {
      const pixels = new Uint8Array(message.pixels);
      const rgb = message.channels === 4 ? withoutAlpha(pixels) : pixels;
      await session?.push(rgb, message.width, message.height, message.tS, true, message.late);
    } finally {
      say({ type: "taken" });
    }
  } else if (message.type === "finish") {
    const mine = session;
    session = null;
    await mine?.finish();
  } else if (message.type === "file") {
    const mine = (session = await Session.open(message.file.name, false));
    const video = await openVideo(message.file);
    for await (const { frame, tS, whole } of video.frames) {
      if (mine.isEnded) return;
      await mine.push(frame.data as Uint8Array, frame.width, frame.height, tS, whole, false);
      say({ type: "progress", doneS: tS, totalS: video.durationS });
    }
    session = null;
    await mine.finish();
  }
}

let queue: Promise<void> = Promise.resolve();

/** Load the networks and answer the page's messages. */
export function serve(): void {
  loaded = load();
  loaded.then(
    () => say({ type: "ready" }),
    (error: Error) => say({ type: "failed", why: `The page's own files cannot be read: ${error.message}.` }),
  );
  addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
    if (data.type === "forget") {
      if (session !== null) session.isEnded = true;
      session = null;
      return;
    }
    queue = queue
      .then(() => hear(data))
      .catch((error: Error) => {
        session = null;
        const isOurs = error instanceof AutoHRError;
        say({ type: "refused", why: isOurs ? error.message : `The measurement failed: ${error.message}` });
      });
  });
}
