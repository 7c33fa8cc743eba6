// A result of the server: its report in a frame, its files to download, and a button that makes the server forget it.
const LABELS = {
  "report.html": "Page (HTML)",
  "measurement.json": "Measurement (JSON)",
  "session.json": "Session (JSON)",
  "readings.csv": "Readings (CSV)",
};

// ``again``, if given, is called by a button beside the links: what began the measurement may lie far below.
export function showResult(place, id, files, words, again) {
  clearResult(place);
  const card = document.createElement("section");
  card.className = "result";
  card.dataset.id = id;
  card.setAttribute("aria-label", "Result");
  const box = document.createElement("div");
  box.className = "card";
  const title = document.createElement("h2");
  title.textContent = "Result";
  title.tabIndex = -1;
  const line = document.createElement("p");
  line.textContent = words;
  const links = document.createElement("div");
  links.className = "downloads";
  links.append("Download:");
  for (const name of Object.keys(LABELS).filter((name) => files.includes(name))) {
    const link = document.createElement("a");
    link.href = `/api/results/${id}/${name}?download=true`;
    link.textContent = LABELS[name];
    link.setAttribute("download", `autohr-${name}`);
    links.append(link);
  }
  if (files.includes("report.html")) {
    const open = document.createElement("a");
    open.href = `/api/results/${id}/report.html`;
    open.target = "_blank";
    open.rel = "noopener";
    open.textContent = "Open in a tab of its own";
    links.append(open);
  }
  const forget = document.createElement("button");
  forget.type = "button";
  forget.textContent = "Forget";
  forget.addEventListener("click", () => clearResult(place));
  links.append(forget);
  if (again) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Measure again" });
    button.addEventListener("click", again);
    links.append(button);
  }
  box.append(title, line, links);
  card.append(box);
  if (files.includes("report.html")) card.append(reportFrame(id));
  place.append(card);
  title.focus();
}

// Shows nothing any more, and has the server forget what was shown.
export function clearResult(place) {
  for (const card of place.children) fetch(`/api/results/${card.dataset.id}`, { method: "DELETE", keepalive: true });
  place.replaceChildren();
}

function reportFrame(id) {
  const frame = document.createElement("iframe");
  frame.title = "Report";
  frame.src = `/api/results/${id}/report.html`;
  frame.addEventListener("load", () => {
    const body = frame.contentDocument?.body;
    if (!body) return;
    const fit = () => (frame.style.height = `${body.scrollHeight + 4}px`);
    new ResizeObserver(fit).observe(body);
    fit();
  });
  return frame;
}

export function inWords(summary) {
  return [mainInWords(summary), ...(summary.others ?? []).map(otherInWords)].join(" ");
}

function otherInWords(other) {
  const rate = other.hr_bpm === null ? "no heart rate" : `${other.hr_bpm.toFixed(1)} beats per minute`;
  const doubt = other.hr_bpm === null || other.reliable ? "" : ", not reliable";
  return `Another face, from ${other.start_s.toFixed(0)} to ${other.end_s.toFixed(0)} s: ${rate}${doubt}.`;
}

function mainInWords(summary) {
  if (summary.hr_bpm === null) return `No heart rate: ${summary.why ?? "nothing could be measured"}.`;
  const rate = `${summary.hr_bpm.toFixed(1)} beats per minute, confidence ${Math.round(100 * summary.confidence)} %`;
  return summary.reliable ? `${rate}: reliable.` : `${rate}: not reliable (${summary.why}). Do not use this number.`;
}
