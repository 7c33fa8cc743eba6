// The tabs, and the words that depend on the server.
import { setUpCamera } from "./camera.js";
import { setUpUpload } from "./upload.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab, focus = true) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    document.getElementById(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", tab.id === "tab-upload" ? "#upload" : "#camera");
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(tabs[(to + tabs.length) % tabs.length]);
  });
}
if (location.hash === "#upload") choose(tabs[1], false);

function minutes(seconds) {
  return seconds < 60 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 6) / 10} minutes`;
}

const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
document.getElementById("where").textContent = local ? "on this computer" : `on ${location.hostname}`;

const answer = await fetch("/api/about");
const about = await answer.json();
if (answer.ok) {
  document.getElementById("keep").textContent = minutes(about.keep_s);
  document.getElementById("upload-limits").textContent =
    `Up to ${Math.round(about.max_upload_bytes / 1e6)} MB and ${minutes(about.max_video_s)}.`;
  document.getElementById("about").textContent =
    `autohr ${about.version} · method ${about.method_title ?? about.method}` +
    (about.weights ? ` · weights ${about.weights}` : "");
}
setUpCamera(about);
setUpUpload(about);
document.body.dataset.ready = "true";
