// A file to the server, its progress, its result.
import { clearResult, inWords, showResult } from "./result.js";

const ASK_MS = 400;
const at = (id) => document.getElementById(id);

export function setUpUpload(about) {
  const input = at("file"), drop = at("drop"), place = at("upload-result");
  let running = null; // { request, id } of the upload on its way

  input.addEventListener("change", () => {
    if (input.files.length) measure(input.files[0]);
    input.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) measure(event.dataTransfer.files[0]);
    });
  }
  at("upload-cancel").addEventListener("click", () => {
    if (!running) return;
    running.request.abort();
    if (running.id) fetch(`/api/uploads/${running.id}`, { method: "DELETE" });
    end();
  });

  function end(problem = "") {
    running = null;
    at("progress-box").hidden = true;
    drop.hidden = false;
    at("upload-problem").hidden = !problem;
    at("upload-problem").textContent = problem;
  }

  function tell(words, share) {
    if (at("progress-words").textContent !== words) at("progress-words").textContent = words;
    if (share === null) at("progress").removeAttribute("value");
    else at("progress").value = 100 * share;
  }

  async function measure(file) {
    if (running) return;
    clearResult(place);
    end();
    const size = `${(file.size / 1e6).toFixed(1)} MB`;
    if (file.size > about.max_upload_bytes) {
      const most = Math.round(about.max_upload_bytes / 1e6);
      end(`${file.name} is too large: at most ${most} MB are taken, and it has ${size}. Cut it, or measure it with: autohr measure FILE`);
      return;
    }
    const mine = (running = { request: new XMLHttpRequest(), id: null });
    drop.hidden = true;
    at("progress-box").hidden = false;
    tell(`Sending ${file.name} (${size}) …`, 0);
    try {
      mine.id = (await send(mine.request, file)).id;
      tell(`Measuring ${file.name} …`, null);
      for (;;) {
        const response = await fetch(`/api/uploads/${mine.id}`);
        const told = await response.json();
        if (running !== mine) return;
        if (!response.ok) throw new Error(told.error);
        if (told.state === "refused") throw new Error(told.reason);
        if (told.state === "measured") {
          end();
          showResult(place, told.result, told.files, `${told.name}: ${inWords(told.summary)}`);
          return;
        }
        if (told.total_s) tell(`Measuring ${file.name} …`, Math.min(1, told.done_s / told.total_s));
        await new Promise((done) => setTimeout(done, ASK_MS));
      }
    } catch (error) {
      if (running === mine) end(error.message);
    }
  }

  // XMLHttpRequest and not fetch: it alone tells how much has been sent.
  function send(request, file) {
    return new Promise((done, failed) => {
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) at("progress").value = (100 * event.loaded) / event.total;
      });
      request.addEventListener("load", () => {
        let told = {};
        try {
          told = JSON.parse(request.responseText);
        } catch {
          told = { error: request.responseText };
        }
        if (request.status === 202) done(told);
        else failed(new Error(told.error || `The server answered ${request.status}.`));
      });
      request.addEventListener("error", () => failed(new Error("The connection to the server broke. Is it still running?")));
      request.addEventListener("abort", () => failed(new Error("Stopped.")));
      request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.send(file);
    });
  }
}
