// The camera: pictures to the server with their times, what it says of them onto the page.
import { cameraWords, newSession, openCamera, sendPictures } from "./autohr-meter.js";
import { clearResult, inWords, showPlainResult, showResult } from "./result.js";
import { Wave } from "./wave.js";

const SAY_EVERY_MS = 10_000; // how often a screen reader is told the rate
const LOOKS = 15; // states, of which five come each second
const SCAN_S = 30; // seconds of a face: twenty windows, of which a few may fail
const LATE_S = 5; // see live/advice.py
const TOO_SLOW = "This computer is too slow: close other programs.";
const at = (id) => document.getElementById(id);

export function setUpCamera() {
  const wave = new Wave(at("wave"));
  const video = at("preview"), stage = at("stage"), place = at("camera-result");
  let now = null; // the session that runs: { socket, stream, ... }
  let spoken_ms = -Infinity;

  at("scan").addEventListener("click", () => start(SCAN_S));
  at("start").addEventListener("click", () => start());
  at("stop").addEventListener("click", () => stop());
  at("cancel").addEventListener("click", () => end(now));
  at("camera-list").addEventListener("change", () => {
    const scan_s = now?.scan_s;
    end(now);
    start(scan_s);
  });
  document.addEventListener("visibilitychange", () => {
    if (now) at("stage-note").textContent = document.hidden ? "Paused: this tab is hidden." : "";
  });
  addEventListener("pagehide", () => end(now));

  // Measures until the button, or, as a scan, for some seconds of a face.
  async function start(scan_s) {
    if (now) return;
    clearResult(place);
    problem("");
    const session = (now = { ...newSession(), scan_s });
    at("scan").disabled = at("start").disabled = at("people").disabled = true;
    at("stage-note").textContent = "Waiting for the camera …";
    try {
      session.stream = await openCamera(at("camera-list").value);
    } catch (error) {
      const other = ["NotFoundError", "SecurityError"].includes(error.name) ? " Or measure a file under Upload." : "";
      end(session, cameraWords(error) + other);
      return;
    }
    if (now !== session) {
      session.stream.getTracks().forEach((track) => track.stop());
      return;
    }
    video.srcObject = session.stream;
    session.stream.getVideoTracks()[0].addEventListener("ended", () => {
      if (now === session) end(session, "The camera was switched off.");
    });
    await video.play().catch(() => {});
    listCameras(session.stream);
    stage.classList.add("on");
    at("stage-note").textContent = "";
    at("scan").hidden = at("start").hidden = true;
    at("stop").hidden = Boolean(scan_s);
    at("cancel").hidden = at("stop").disabled = false;
    at(scan_s ? "cancel" : "stop").focus();
    judge("none", "–", "Waiting", ": for the first pictures.");

    const scheme = location.protocol === "https:" ? "wss" : "ws";
    session.socket = new WebSocket(`${scheme}://${location.host}/api/camera?faces=${at("people").value}`);
    session.socket.binaryType = "arraybuffer";
    session.socket.addEventListener("message", (event) => hear(session, JSON.parse(event.data)));
    session.socket.addEventListener("close", () => {
      if (now === session) end(session, "The connection to the server broke; nothing was kept. Is it still running?");
    });
  }

  function hear(session, told) {
    if (now !== session) return;
    if (told.type === "hello") {
      session.most = told.in_flight;
      sendPictures(session, video);
    } else if (told.type === "taken" || told.type === "refused") {
      session.in_flight = Math.max(0, session.in_flight - 1);
    } else if (told.type === "state") {
      show(session, told);
    } else if (told.type === "result") {
      end(session);
      const again = () => start(session.scan_s);
      const words = [told.summary ? inWords(told.summary) : "No heart rate.", told.why ?? ""].join(" ").trim();
      if (session.scan_s) showPlainResult(place, told, words, again);
      else showResult(place, told.id, told.files, words, again);
      scrollTo(0, 0);
    } else if (told.type === "end") {
      end(session, told.why);
    }
  }

  function stop() {
    if (!now?.socket || now.socket.readyState !== WebSocket.OPEN) {
      end(now);
      return;
    }
    now.ended = true; // no more pictures
    at("stop").disabled = true;
    at("countdown").hidden = true;
    at("stage-note").textContent = "Making the result …";
    now.socket.send(JSON.stringify({ type: "stop" }));
  }

  function end(session, why = "") {
    if (!session || now !== session) return;
    now = null;
    session.ended = true;
    session.stream?.getTracks().forEach((track) => track.stop());
    session.socket?.close();
    video.srcObject = null;
    stage.classList.remove("on");
    stage.style.removeProperty("aspect-ratio");
    at("face-box").hidden = true;
    at("stage-note").textContent = "The camera is off.";
    at("countdown").hidden = true;
    for (const id of ["scan", "start", "people"]) at(id).hidden = at(id).disabled = false;
    at("stop").hidden = at("cancel").hidden = true;
    judge("none", "–", "Not measuring", "");
    at("rate").textContent = "–";
    trust(null);
    advise(["Sit still, face the camera, with even light on your face."]);
    at("faces").hidden = true;
    wave.show(null, "Pulse wave: nothing is measured now");
    for (const id of ["since", "readings", "snr", "fps", "dropped", "delay"]) at(id).textContent = "–";
    problem(why);
  }

  function show(session, state) {
    stage.style.aspectRatio = `${video.videoWidth || 4} / ${video.videoHeight || 3}`;
    const rate = state.hr_bpm;
    at("rate").textContent = rate === null ? "–" : rate.toFixed(0);
    const left_out = state.frames.dropped + state.frames.refused + session.skipped;
    const late = lateness(session, state);
    if (rate === null) judge("none", "–", "No rate yet", state.why ? `: ${state.why}.` : "");
    else if (state.reliable) judge("good", "✓", "Reliable", late ? `, but ${late}.` : ": the pulse is clear.");
    else judge("bad", "!", "Not reliable", `: ${state.why ?? "the pulse is not clear enough"}.`);
    trust(rate === null ? null : state.confidence);
    const behind = isBehind(session, state);
    const advice = state.advice.map((one) => (behind && one.startsWith("The camera is slow") ? TOO_SLOW : one));
    if (state.others) advice.push("Another face is or was in view: to measure several people, stop and choose how many.");
    if (!advice.length && late) advice.push(TOO_SLOW);
    advise(advice.length ? advice : [state.reliable ? "Stay as you are: this is a good view." : "Keep still a little longer."]);
    offer(session, state);
    wave.show(state.wave, rate === null ? "Pulse wave: nothing measured yet" : `Pulse wave of ${rate.toFixed(0)} beats per minute`);
    const box = at("face-box");
    box.hidden = !state.box || !session.width;
    if (!box.hidden) {
      const [x, y, w, h] = state.box;
      box.style.left = `${100 * (1 - (x + w) / session.width)}%`;
      box.style.top = `${(100 * y) / session.height}%`;
      box.style.width = `${(100 * w) / session.width}%`;
      box.style.height = `${(100 * h) / session.height}%`;
      box.className = at("answer").classList[2];
    }
    at("since").textContent = `${state.since_s.toFixed(0)} s`;
    at("readings").textContent = state.readings;
    at("snr").textContent = state.snr_db === null ? "–" : `${state.snr_db.toFixed(1)} dB`;
    at("fps").textContent = `${state.fps_in.toFixed(0)} sent, ${state.fps_measured.toFixed(0)} measured`;
    at("dropped").textContent = `${left_out} of ${state.frames.offered + session.skipped}`;
    at("delay").textContent = `${state.delay_s.toFixed(2)} s`;
    if (session.scan_s && !session.ended) countDown(session, state);
    if (performance.now() - spoken_ms > SAY_EVERY_MS && rate !== null) {
      spoken_ms = performance.now();
      at("spoken").textContent = `${rate.toFixed(0)} beats per minute, ${state.reliable ? "reliable" : "not reliable"}.`;
    }
  }

  // The seconds that are left of a scan. They begin with a face; without one it ends after as many.
  function countDown(session, state) {
    if (state.face_id !== null && session.began_s === undefined) {
      session.began_s = state.since_s;
      at("spoken").textContent = `Hold still for ${session.scan_s} seconds.`;
    }
    const left_s = Math.max(0, session.scan_s - state.since_s + (session.began_s ?? 0));
    at("countdown").hidden = false;
    at("countdown-words").textContent = session.began_s === undefined ? "Look into the camera" : "Hold still";
    at("countdown-s").textContent = session.began_s === undefined ? "" : `${Math.ceil(left_s)} s`;
    if (left_s === 0) stop();
  }

  // What is to be known of a reliable rate that lags behind or is read of few of the pictures.
  function lateness(session, state) {
    const [skipped, frames] = session.looks?.[0] ?? [0, { offered: 0, measured: 0 }];
    const came = state.frames.offered - frames.offered + session.skipped - skipped;
    const measured = state.frames.measured - frames.measured;
    const words = [];
    if (state.delay_s >= LATE_S) words.push(`it comes ${state.delay_s.toFixed(0)} s late`);
    if (session.looks?.length === LOOKS && measured < 0.5 * came) words.push("half of the pictures or more are left out");
    return words.join(" and ");
  }

  // A button for each face where several are followed.
  function offer(session, state) {
    const place = at("faces");
    place.hidden = state.faces.length < 2;
    const ids = state.faces.map((face) => face.id).join();
    if (place.dataset.ids !== ids) {
      place.dataset.ids = ids;
      place.replaceChildren(
        ...state.faces.map((face) => {
          const button = Object.assign(document.createElement("button"), { type: "button" });
          button.addEventListener("click", () => {
            if (now === session) session.socket.send(JSON.stringify({ type: "show", face_id: face.id }));
          });
          return button;
        }),
      );
    }
    state.faces.forEach((face, k) => {
      const button = place.children[k];
      const rate = face.hr_bpm === null ? "–" : `${face.hr_bpm.toFixed(0)} bpm${face.reliable ? "" : ", not reliable"}`;
      button.textContent = `Face ${face.id + 1}: ${rate}`;
      button.setAttribute("aria-pressed", String(face.id === state.face_id));
    });
  }

  // Whether this page left pictures out of late: then it is not the camera that is slow, as it must seem to the server.
  function isBehind(session, state) {
    session.looks = [...(session.looks ?? []), [session.skipped, state.frames]].slice(-LOOKS);
    const [skipped, frames] = session.looks[0];
    const [left_out, sent] = [session.skipped - skipped, state.frames.offered - frames.offered];
    return left_out > 0.1 * (left_out + sent);
  }

  function judge(kind, mark, word, why) {
    at("answer").className = `card answer ${kind}`;
    at("mark").textContent = mark;
    at("verdict").textContent = word;
    at("verdict-why").textContent = why;
  }

  function trust(share) {
    at("confidence").textContent = share === null ? "–" : `${Math.round(100 * share)} %`;
    at("confidence-bar").style.width = share === null ? "0" : `${100 * share}%`;
  }

  // Only what changes is written: a live region that is written again is read out again.
  function advise(sentences) {
    const list = at("advice");
    if ([...list.children].map((item) => item.textContent).join("\n") === sentences.join("\n")) return;
    list.replaceChildren(
      ...sentences.map((sentence) => Object.assign(document.createElement("li"), { textContent: sentence })),
    );
  }

  function problem(words) {
    at("camera-problem").hidden = !words;
    at("camera-problem").textContent = words;
  }
}

async function listCameras(stream) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const used = stream.getVideoTracks()[0]?.getSettings().deviceId;
  at("camera-list").replaceChildren(
    ...cameras.map((one, k) => new Option(one.label || `Camera ${k + 1}`, one.deviceId, false, one.deviceId === used)),
  );
  at("camera-choice").hidden = cameras.length < 2;
}
