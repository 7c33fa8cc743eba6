// <autohr-meter>: heart rate from the camera, for any page whose origin the server allows (autohr serve --allow-origin).
//
//     <script type="module" src="http://localhost:8000/autohr-meter.js"></script>
//     <autohr-meter seconds="30"></autohr-meter>
//
// Attributes: service (address of the server; default: where this module comes from), token, seconds (stop by itself).
// Methods: start(), stop(), cancel(). Events: reading, result, error. All are described in docs/service.md. autohr's own
// page takes its camera and its pictures from here too.
const HEAD_BYTES = 20, JPEG = 1; // see frames.py
const LARGEST_SIDE = 640;
const QUALITY = 0.95; // a pulse is half a percent of the skin's colour; at 0.8 the blocks of JPEG begin to swallow it

export async function openCamera(id = "") {
  if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
  const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
  return navigator.mediaDevices.getUserMedia({
    audio: false,
    video: id ? { ...wanted, deviceId: { exact: id } } : { ...wanted, facingMode: "user" },
  });
}

export function cameraWords(error) {
  const words = {
    NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's address bar, and start again.",
    NotFoundError: "There is no camera. Plug one in, and start again.",
    NotReadableError: "The camera is used by another program. Close that, and start again.",
    SecurityError: "Browsers give a camera only to pages from this computer (http://localhost) or over https.",
  };
  return words[error.name] ?? `The camera could not be opened: ${error.message || error.name}`;
}

export function newSession() {
  return { in_flight: 0, most: 2, number: 0, skipped: 0, ended: false };
}

// Sends every picture of the camera once, with the time at which it was taken, unless too many are on their way. The
// session has the socket; its in_flight sinks with each "taken" or "refused" of the server.
export function sendPictures(session, video) {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { alpha: false });
  let last_ms = -Infinity, clock = null;

  function take(now_ms, about) {
    if (session.ended) return;
    wait();
    // One clock for the whole session: capture time where the browser tells it, else the time of the stream.
    clock ??= about?.captureTime !== undefined ? "captureTime" : about ? "mediaTime" : "shown";
    const t_ms = clock === "captureTime" ? about.captureTime : clock === "mediaTime" ? 1000 * about.mediaTime : now_ms;
    if (!(t_ms > last_ms) || !video.videoWidth) return;
    last_ms = t_ms;
    if (session.in_flight >= session.most) {
      session.skipped++;
      return;
    }
    const scale = Math.min(1, LARGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const width = Math.round(video.videoWidth * scale), height = Math.round(video.videoHeight * scale);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    [session.width, session.height] = [width, height];
    pen.drawImage(video, 0, 0, width, height);
    session.in_flight++;
    canvas.toBlob(
      async (blob) => {
        const picture = await blob.arrayBuffer();
        if (session.ended || session.socket.readyState !== WebSocket.OPEN) return;
        const message = new Uint8Array(HEAD_BYTES + picture.byteLength);
        const head = new DataView(message.buffer);
        head.setFloat64(0, t_ms, true);
        head.setUint32(8, session.number++, true);
        head.setUint16(12, width, true);
        head.setUint16(14, height, true);
        head.setUint8(16, JPEG);
        message.set(new Uint8Array(picture), HEAD_BYTES);
        session.socket.send(message);
      },
      "image/jpeg",
      QUALITY,
    );
  }

  function wait() {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(take);
    else requestAnimationFrame((now_ms) => take(now_ms, null));
  }
  wait();
}

// The colours of app.css. They follow the color-scheme of the page around, as its background does.
const LOOK = `
:host { display: block; max-width: 26rem; font: 16px/1.5 system-ui, sans-serif; color: light-dark(#1a1f26, #e8ebef);
  background: light-dark(#ffffff, #191e24); border: 1px solid light-dark(#d9dee4, #353d47); border-radius: 12px;
  padding: 1rem; box-sizing: border-box; }
:host([hidden]), [hidden] { display: none !important; }
.stage { position: relative; aspect-ratio: 4 / 3; border-radius: 8px; overflow: hidden; background: light-dark(#e9ecf0, #262d35); }
video { position: absolute; inset: 0; width: 100%; height: 100%; transform: scaleX(-1); }
.note { position: absolute; inset: auto 0 0; margin: 0; padding: .5rem .8rem; text-align: center; }
.on .note { color: #fff; background: #000a; }
.note:empty { display: none; }
.number { font-size: 2.8rem; font-weight: 700; line-height: 1.2; margin: .5rem 0; font-variant-numeric: tabular-nums; }
.number small { font-size: 1.1rem; font-weight: 600; color: light-dark(#59636f, #a3adb8); }
.says { margin: 0; padding: .5rem .8rem; border-radius: 8px; overflow-wrap: anywhere; }
.none { background: light-dark(#eceff3, #2a313a); }
.good { background: light-dark(#e2f3ef, #13332d); }
.bad { background: light-dark(#fdf0e1, #3a2813); }
.good b { color: light-dark(#0b7461, #4fd1b5); }
.bad b { color: light-dark(#a34a00, #ffb162); }
.hint { margin: .5rem 0; min-height: 1.5em; }
button { font: inherit; min-height: 44px; width: 100%; cursor: pointer; border-radius: 8px; font-weight: 600;
  border: 1px solid light-dark(#1d5fb4, #86b7ff); background: light-dark(#1d5fb4, #86b7ff); color: light-dark(#ffffff, #191e24); }
button:focus-visible { outline: 3px solid light-dark(#1d5fb4, #86b7ff); outline-offset: 2px; }
.small { margin: .6rem 0 0; font-size: .85rem; color: light-dark(#59636f, #a3adb8); }
`;
const PARTS = `
<div class="stage"><video playsinline muted aria-label="Preview of the camera"></video><p class="note">The camera is off.</p></div>
<p class="number"><span class="rate">–</span> <small>beats per minute</small></p>
<p class="says none" role="status"><b class="verdict">Not measuring</b><span class="why"></span></p>
<p class="hint">Sit still, face the camera, with even light on your face.</p>
<button type="button">Start</button>
<p class="small">Not a medical device.</p>
`;

class AutohrMeter extends HTMLElement {
  #now = null; // the session that runs
  #kept = null; // address of the last result on the server

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const look = new CSSStyleSheet(); // not <style>, which the policy of the page around may forbid
    look.replaceSync(LOOK);
    root.adoptedStyleSheets = [look];
    root.innerHTML = PARTS;
    this.#part("button").addEventListener("click", () => (this.#now ? this.stop() : this.start()));
  }

  disconnectedCallback() {
    this.cancel();
    this.#forget();
  }

  // Opens the camera and measures until stop(), or for as many seconds as the attribute says.
  async start() {
    if (this.#now) return;
    this.#forget();
    const session = (this.#now = newSession());
    this.#tell("none", "–", "Waiting", " for the camera …", "");
    this.#part("button").textContent = "Stop";
    const video = this.#part("video");
    try {
      session.stream = await openCamera();
    } catch (error) {
      this.#fail(session, cameraWords(error));
      return;
    }
    if (this.#now !== session) {
      session.stream.getTracks().forEach((track) => track.stop());
      return;
    }
    video.srcObject = session.stream;
    session.stream.getVideoTracks()[0].addEventListener("ended", () => this.#fail(session, "The camera was switched off."));
    await video.play().catch(() => {});
    if (this.#now !== session) return;
    this.#part(".stage").classList.add("on");
    this.#part(".note").textContent = "";
    const where = this.#address("/api/camera");
    where.protocol = where.protocol === "https:" ? "wss:" : "ws:";
    if (this.#token) where.searchParams.set("token", this.#token);
    session.socket = new WebSocket(where);
    session.socket.addEventListener("message", (event) => this.#hear(session, JSON.parse(event.data)));
    session.socket.addEventListener("close", () => {
      const why = session.greeted
        ? "The connection to the server broke."
        : `${where.host} gives no connection. Is autohr serve running there, with --allow-origin ${location.origin}?`;
      this.#fail(session, why);
    });
  }

  // Ends the measurement; the result comes as an event.
  stop() {
    const session = this.#now;
    if (!session || session.ended) return;
    if (session.socket?.readyState !== WebSocket.OPEN) {
      this.cancel();
      return;
    }
    session.ended = true; // no more pictures
    this.#part(".note").textContent = "Making the result …";
    session.socket.send(JSON.stringify({ type: "stop" }));
  }

  // Ends the measurement without a result.
  cancel() {
    if (this.#now) this.#end(this.#now);
  }

  #hear(session, told) {
    if (this.#now !== session) return;
    if (told.type === "hello") {
      session.greeted = true;
      session.most = told.in_flight;
      sendPictures(session, this.#part("video"));
    } else if (told.type === "taken" || told.type === "refused") {
      session.in_flight = Math.max(0, session.in_flight - 1);
    } else if (told.type === "state" && !session.ended) {
      this.#show(session, told);
    } else if (told.type === "result") {
      const { type, ...result } = told;
      this.#end(session);
      this.#kept = this.#address(`/api/results/${result.id}`);
      const answer = result.summary ?? { hr_bpm: null, reliable: false, why: result.why };
      this.#rate(answer, "No heart rate", "");
      this.#fire("result", result);
    } else if (told.type === "end") {
      this.#fail(session, told.why);
    }
  }

  #show(session, state) {
    const hint = state.advice[0] ?? (state.reliable ? "Stay as you are: this is a good view." : "Keep still a little longer.");
    this.#rate(state, "No rate yet", hint);
    const left_s = this.#seconds - state.since_s;
    this.#part(".note").textContent = Number.isFinite(left_s) ? `Hold still: ${Math.max(0, Math.ceil(left_s))} s` : "";
    if (state.hr_bpm !== null && state.end_s !== session.read_s) {
      session.read_s = state.end_s;
      const { type, ...reading } = state;
      this.#fire("reading", reading);
    }
    if (left_s <= 0) this.stop();
  }

  #rate({ hr_bpm, reliable, why }, none, hint) {
    const because = why ? `: ${why.replace(/\.$/, "")}.` : "";
    if (hr_bpm === null) this.#tell("none", "–", none, because, hint);
    else if (reliable) this.#tell("good", hr_bpm.toFixed(0), "✓ Reliable", "", hint);
    else this.#tell("bad", hr_bpm.toFixed(0), "! Not reliable", because, hint);
  }

  #tell(kind, rate, verdict, why, hint) {
    const words = { ".rate": rate, ".verdict": verdict, ".why": why, ".hint": hint };
    for (const [name, text] of Object.entries(words)) {
      // Only what changes is written: a live region that is written again is read out again.
      if (this.#part(name).textContent !== text) this.#part(name).textContent = text;
    }
    this.#part(".says").className = `says ${kind}`;
  }

  #fail(session, message) {
    if (this.#now !== session) return;
    this.#end(session);
    this.#tell("bad", "–", "! ", message, "");
    this.#fire("error", { message });
  }

  #end(session) {
    this.#now = null;
    session.ended = true;
    session.stream?.getTracks().forEach((track) => track.stop());
    session.socket?.close();
    this.#part("video").srcObject = null;
    this.#part(".stage").classList.remove("on");
    this.#part(".note").textContent = "The camera is off.";
    this.#part("button").textContent = "Start again";
    this.#tell("none", "–", "Not measuring", "", "");
  }

  #forget() {
    const headers = this.#token ? { authorization: `Bearer ${this.#token}` } : {};
    if (this.#kept) fetch(this.#kept, { method: "DELETE", headers }).catch(() => {});
    this.#kept = null;
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #part(selector) {
    return this.shadowRoot.querySelector(selector);
  }

  #address(path) {
    return new URL(path, this.getAttribute("service") || import.meta.url);
  }

  get #token() {
    return this.getAttribute("token") || new URL(import.meta.url).searchParams.get("token");
  }

  get #seconds() {
    return Number(this.getAttribute("seconds")) || Infinity;
  }
}

if (!customElements.get("autohr-meter")) customElements.define("autohr-meter", AutohrMeter);
