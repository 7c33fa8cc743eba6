/** The page: camera or file to the worker, what it says of them onto the page. */

// The wave is drawn as on the page of `autohr serve`.
import { Wave as WavePicture } from "../../../src/autohr/service/page/wave.js";
import { mainFace } from "../measure";
import type { Measurement } from "../types";
import type { FromWorker, State, ToWorker, Wave } from "./messages";

const SCAN_S = 30, MAX_IN_FLIGHT = 60, LATE_IN_FLIGHT = 30, MAX_SIDE_PX = 640;
const HELP = "Sit still, face the camera, with even light on your face.";
const at = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;

const worker = new Worker(new URL("./autohr.js", import.meta.url), { type: "module" });
const say = (message: ToWorker, transfer: Transferable[] = []) => worker.postMessage(message, transfer);
const wave = new WavePicture(at<HTMLCanvasElement>("wave"));
const video = at<HTMLVideoElement>("preview");

/** The measurement that runs. */
interface Session {
  kind: "camera" | "file";
  scanS: number | null;
  stream: MediaStream | null;
  beganS: number | null;
  inFlight: number;
  skipped: number;
  isEnded: boolean;
}

let now: Session | null = null;
let isReady = false;
let whenReady: () => void = () => {};
const ready = new Promise<void>((done) => (whenReady = done));

worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
  if (data.type === "ready") {
    isReady = true;
    whenReady();
    document.body.dataset.ready = "true";
  } else if (data.type === "failed") {
    problem("camera", data.why);
    problem("file", data.why);
  } else if (now === null) {
    return;
  } else if (data.type === "taken") {
    now.inFlight--;
  } else if (data.type === "progress") {
    tellProgress(`Measuring: ${data.doneS.toFixed(0)} of ${data.totalS.toFixed(0)} s`, data.doneS / (data.totalS || 1));
  } else if (data.type === "state") {
    if (now.kind === "camera") show(now, data);
  } else if (data.type === "result") {
    const { kind, scanS } = now;
    end();
    showResult(kind, data.measurement, data.wave, kind === "camera" ? () => void startCamera(scanS) : null);
  } else if (data.type === "refused") {
    const { kind } = now;
    end();
    problem(kind, data.why);
  }
});

// -- the camera

async function startCamera(scanS: number | null): Promise<void> {
  if (now !== null) return;
  at("camera-result").replaceChildren();
  problem("camera", "");
  const mine: Session = { kind: "camera", scanS, stream: null, beganS: null, inFlight: 0, skipped: 0, isEnded: false };
  now = mine;
  at<HTMLButtonElement>("scan").disabled = at<HTMLButtonElement>("start").disabled = true;
  at("stage-note").textContent = isReady ? "Waiting for the camera …" : "Loading the measurement …";
  await ready;
  if (now !== mine) return;
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
    const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    mine.stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: size });
  } catch (error) {
    if (now === mine) end();
    problem("camera", cameraWords(error as DOMException));
    return;
  }
  if (now !== mine) {
    mine.stream.getTracks().forEach((track) => track.stop());
    return;
  }
  video.srcObject = mine.stream;
  mine.stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (now !== mine) return;
    end();
    problem("camera", "The camera was switched off.");
  });
  await video.play().catch(() => {});
  at("stage").classList.add("on");
  at("stage-note").textContent = "";
  at("scan").hidden = at("start").hidden = true;
  at("stop").hidden = scanS !== null;
  at("cancel").hidden = false;
  at(scanS === null ? "stop" : "cancel").focus();
  judge("none", "–", "Waiting", ": for the first pictures.");
  say({ type: "begin", name: "the camera" });
  sendPictures(mine);
}

function cameraWords(error: DOMException): string {
  const words: Record<string, string> = {
    NotAllowedError: "The camera was not allowed. Allow it in the browser's address bar, then press the button again.",
    NotFoundError: "No camera was found. Connect one and press the button again, or measure a file.",
    NotReadableError: "The camera is in use by another program. Close that, then press the button again.",
    SecurityError: "The browser gives the camera only to pages at localhost or at an https address. Or measure a file.",
  };
  return words[error.name] ?? `The camera cannot be used (${error.message || error.name}).`;
}

/** Send each new picture to the worker with its time, as long as it keeps up. */
function sendPictures(mine: Session): void {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
  let lastS = -Infinity;
  const take = (tS: number) => {
    if (now !== mine || mine.isEnded) return;
    next();
    if (tS <= lastS || !video.videoWidth) return;
    if (mine.inFlight >= MAX_IN_FLIGHT) {
      mine.skipped++;
      return;
    }
    lastS = tS;
    const reduce = Math.min(1, MAX_SIDE_PX / Math.max(video.videoWidth, video.videoHeight));
    const width = Math.round(video.videoWidth * reduce), height = Math.round(video.videoHeight * reduce);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    pen.drawImage(video, 0, 0, width, height);
    const pixels = pen.getImageData(0, 0, width, height).data.buffer;
    mine.inFlight++;
    say({ type: "frame", pixels, channels: 4, width, height, tS, late: mine.inFlight > LATE_IN_FLIGHT }, [pixels]);
  };
  const next = () => {
    if ("requestVideoFrameCallback" in video) {
      video.requestVideoFrameCallback((ms, { captureTime }) => take((captureTime ?? ms) / 1000));
    } else {
      requestAnimationFrame((ms) => take(ms / 1000));
    }
  };
  next();
}

function show(mine: Session, state: State): void {
  at("stage").style.aspectRatio = `${video.videoWidth || 4} / ${video.videoHeight || 3}`;
  const { rate } = state, bpm = rate?.hr_bpm ?? null;
  at("rate").textContent = bpm === null ? "–" : bpm.toFixed(0);
  if (rate === null || bpm === null) judge("none", "–", "No rate yet", `: ${state.why}.`);
  else if (rate.reliable) judge("good", "✓", "Reliable", ": the pulse is clear.");
  else judge("bad", "!", "Not reliable", `: ${rate.why_unreliable ?? "the pulse is not clear enough"}.`);
  trust(rate === null || bpm === null ? null : rate.confidence);
  const advice = mine.skipped > 0.1 * (mine.skipped + state.nFrames) ? ["This computer is too slow: close other programs."] : [];
  advice.push(...state.advice);
  advise(advice.length ? advice : [rate?.reliable ? "Stay as you are: this is a good view." : "Keep still a little longer."]);
  wave.show(state.wave, bpm === null ? "Pulse wave: nothing measured yet" : `Pulse wave of ${bpm.toFixed(0)} beats per minute`);
  const box = at("face-box");
  box.hidden = state.box === null;
  if (state.box !== null) {
    const [x, y, w, h] = state.box;
    Object.assign(box.style, { left: `${100 * (1 - x - w)}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * h}%` });
    box.className = at("answer").classList[2];
  }
  at("since").textContent = `${state.measuredS.toFixed(0)} s`;
  at("readings").textContent = String(state.readings);
  at("snr").textContent = rate?.snr_db == null ? "–" : `${rate.snr_db.toFixed(1)} dB`;
  at("dropped").textContent = `${mine.skipped} of ${state.nFrames + mine.skipped + mine.inFlight}`;
  if (mine.scanS !== null && !mine.isEnded) countDown(mine, mine.scanS, state);
}

/** Show the seconds that are left of a scan. They begin with a face; without one it ends after as many. */
function countDown(mine: Session, scanS: number, state: State): void {
  if (state.box !== null) mine.beganS ??= state.measuredS;
  const leftS = Math.max(0, scanS - state.measuredS + (mine.beganS ?? 0));
  at("countdown").hidden = false;
  at("countdown-words").textContent = mine.beganS === null ? "Look into the camera" : "Hold still";
  at("countdown-s").textContent = mine.beganS === null ? "" : `${Math.ceil(leftS)} s`;
  if (leftS === 0) stop();
}

function stop(): void {
  if (now === null) return;
  now.isEnded = true;
  at<HTMLButtonElement>("stop").disabled = true;
  at("countdown").hidden = true;
  at("stage-note").textContent = "Making the result …";
  say({ type: "finish" });
}

function end(): void {
  if (now === null) return;
  now.isEnded = true;
  now.stream?.getTracks().forEach((track) => track.stop());
  now = null;
  video.srcObject = null;
  at("stage").classList.remove("on");
  at("stage").style.removeProperty("aspect-ratio");
  at("face-box").hidden = true;
  at("stage-note").textContent = "The camera is off.";
  at("countdown").hidden = at("stop").hidden = at("cancel").hidden = true;
  for (const id of ["scan", "start", "stop"]) at<HTMLButtonElement>(id).disabled = false;
  at("scan").hidden = at("start").hidden = false;
  judge("none", "–", "Not measuring", "");
  at("rate").textContent = "–";
  trust(null);
  advise([HELP]);
  wave.show(null, "Pulse wave: nothing is measured now");
  at("progress-box").hidden = true;
  at("drop").hidden = false;
}

function cancel(): void {
  say({ type: "forget" });
  end();
}

function judge(kind: string, mark: string, word: string, why: string): void {
  at("answer").className = `card answer ${kind}`;
  at("mark").textContent = mark;
  at("verdict").textContent = word;
  at("verdict-why").textContent = why;
}

function trust(share: number | null): void {
  at("confidence").textContent = share === null ? "–" : `${Math.round(100 * share)} %`;
  at("confidence-bar").style.width = share === null ? "0" : `${100 * share}%`;
}

/** Write only what changes: a live region that is written again is read out again. */
function advise(sentences: string[]): void {
  const list = at("advice");
  if (Array.from(list.children, (item) => item.textContent).join("\n") === sentences.join("\n")) return;
  list.replaceChildren(...sentences.map((textContent) => Object.assign(document.createElement("li"), { textContent })));
}

function problem(kind: Session["kind"], words: string): void {
  at(`${kind}-problem`).hidden = !words;
  at(`${kind}-problem`).textContent = words;
}

// -- a file

async function measureFile(file: File): Promise<void> {
  if (now !== null) return;
  at("file-result").replaceChildren();
  problem("file", "");
  const mine: Session = { kind: "file", scanS: null, stream: null, beganS: null, inFlight: 0, skipped: 0, isEnded: false };
  now = mine;
  at("drop").hidden = true;
  at("progress-box").hidden = false;
  tellProgress(isReady ? `Opening ${file.name} …` : "Loading the measurement …", null);
  await ready;
  if (now === mine) say({ type: "file", file });
}

function tellProgress(words: string, share: number | null): void {
  if (at("progress-words").textContent !== words) at("progress-words").textContent = words;
  if (share === null) at("progress").removeAttribute("value");
  else at<HTMLProgressElement>("progress").value = 100 * share;
}

// -- the result

function showResult(kind: Session["kind"], measurement: Measurement, picture: Wave | null, again: (() => void) | null): void {
  const face = mainFace(measurement.faces), reliable = face.reliable && face.hr_bpm !== null;
  const place = at(`${kind}-result`);
  const add = <K extends keyof HTMLElementTagNameMap>(tag: K, words: string, more: Partial<HTMLElementTagNameMap[K]> = {}) =>
    Object.assign(document.createElement(tag), { textContent: words, ...more });
  const card = add("section", "", { className: "result" });
  card.setAttribute("aria-label", "Result");
  const box = add("div", "", { className: `card answer ${reliable ? "good" : "bad"}` });
  const title = add("h2", "", { tabIndex: -1 });
  const line = add("p", "", { className: "says" });
  if (reliable && face.hr_bpm !== null) {
    title.className = "number";
    title.append(add("span", face.hr_bpm.toFixed(0), { className: "rate" }), " ", add("span", "beats per minute", { className: "of" }));
    line.textContent = `✓ Reliable: the chance that it is within 5 beats of the true rate is ${Math.round(100 * face.confidence)}\u00a0%.`;
  } else {
    title.textContent = "No reliable rate this time";
    const why = face.why_unreliable ?? "nothing could be measured";
    line.textContent = `${why[0].toUpperCase()}${why.slice(1)}. Sit still, with even light on your face, and measure again.`;
  }
  const details = add("details", "");
  const rate = face.hr_bpm === null ? "no rate" : `${face.hr_bpm.toFixed(1)} bpm${face.reliable ? "" : ", not reliable"}`;
  const seconds = `${measurement.duration_s.toFixed(1)} s, ${measurement.frames.read} pictures, a face in ${measurement.frames.face}`;
  details.append(add("summary", "Details"), add("p", `${rate}; ${face.windows.length} windows in ${seconds}.`));
  for (const note of measurement.notes) details.append(add("p", note));
  const canvas = add("canvas", "", { className: "wave" });
  canvas.setAttribute("role", "img");
  if (picture !== null) details.append(canvas);
  const buttons = add("div", "", { className: "buttons" });
  if (again !== null) {
    const button = add("button", "Measure again", { type: "button" });
    button.addEventListener("click", again);
    buttons.append(button);
  }
  const save = add("a", "Download the numbers (JSON)", { download: "autohr-measurement.json" });
  save.href = URL.createObjectURL(new Blob([asJson(measurement)], { type: "application/json" }));
  buttons.append(save);
  box.append(title, line, buttons);
  card.append(box, details);
  place.replaceChildren(card);
  if (picture !== null) new WavePicture(canvas).show(picture, "Pulse wave of the last seconds");
  title.focus();
  scrollTo(0, 0);
}

/** Return the numbers as JSON: arrays as lists, what is no number as null. */
function asJson(measurement: Measurement): string {
  return JSON.stringify(measurement, (_, value: unknown) =>
    ArrayBuffer.isView(value) ? Array.from(value as Float64Array) : typeof value === "number" && !Number.isFinite(value) ? null : value,
  );
}

// -- tabs and buttons

const tabs = Array.from(document.querySelectorAll<HTMLElement>('[role="tab"]'));

function choose(tab: HTMLElement, focus = true): void {
  for (const one of tabs) {
    one.setAttribute("aria-selected", String(one === tab));
    one.tabIndex = one === tab ? 0 : -1;
    at(one.getAttribute("aria-controls") as string).hidden = one !== tab;
  }
  if (focus) tab.focus();
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const from = tabs.indexOf(tab);
    const places: Record<string, number> = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: tabs.length - 1 };
    const to = places[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(tabs[(to + tabs.length) % tabs.length]);
  });
}
at("scan").addEventListener("click", () => void startCamera(SCAN_S));
at("start").addEventListener("click", () => void startCamera(null));
at("stop").addEventListener("click", stop);
at("cancel").addEventListener("click", cancel);
at("file-cancel").addEventListener("click", cancel);
at<HTMLInputElement>("file").addEventListener("change", ({ target }) => {
  const input = target as HTMLInputElement, file = input.files?.[0];
  if (file) void measureFile(file);
  input.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"] as const) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    const file = kind === "drop" ? event.dataTransfer?.files[0] : undefined;
    if (file) void measureFile(file);
  });
}
addEventListener("pagehide", () => now && cancel());
