// A result of the server: its report in a frame, its files to download, and a button that makes the server forget it.
const LABELS = {
  "report.html": "Page (HTML)",
  "measurement.json": "Measurement (JSON)",
  "session.json": "Session (JSON)",
  "readings.csv": "Readings (CSV)",
};

// ``again``, if given, is called by a button beside the links: what began the measurement may lie far below.
export function showResult(place, id, files, words, again) {
  const [card, box, title] = newCard(place, id);
  title.textContent = "Result";
  const links = downloads(id, files);
  links.append(...buttons(place, again));
  box.append(title, Object.assign(document.createElement("p"), { textContent: words }), links);
  if (files.includes("report.html")) card.append(reportFrame(id));
  title.focus();
}

// The answer of a scan: one number, or that there is none to rely on. All else is in a part to open.
export function showPlainResult(place, { id, files, summary, why }, words, again) {
  const [card, box, title] = newCard(place, id);
  const reliable = Boolean(summary?.reliable);
  box.classList.add("answer", reliable ? "good" : "bad");
  const line = document.createElement("p");
  line.className = "says";
  if (reliable) {
    title.className = "number";
    title.innerHTML = '<span class="rate"></span> <span class="of">beats per minute</span>';
    title.firstChild.textContent = summary.hr_bpm.toFixed(0);
    line.textContent = `✓ Reliable: the chance that it is within 5 beats of the true rate is ${Math.round(100 * summary.confidence)} %.`;
  } else {
    title.textContent = "No reliable rate this time";
    const reason = (summary?.why ?? why ?? "nothing could be measured").replace(/\.$/, "");
    line.textContent = `${reason[0].toUpperCase()}${reason.slice(1)}. Sit still, with even light on your face, and measure again.`;
  }
  const row = document.createElement("div");
  row.className = "buttons";
  row.append(...buttons(place, again));
  const details = document.createElement("details");
  const name = Object.assign(document.createElement("summary"), { textContent: "Details and downloads" });
  details.append(name, Object.assign(document.createElement("p"), { textContent: words }), downloads(id, files));
  if (files.includes("report.html")) details.append(reportFrame(id));
  box.append(title, line, row);
  card.append(details);
  title.focus();
}

function newCard(place, id) {
  clearResult(place);
  const card = document.createElement("section");
  card.className = "result";
  card.dataset.id = id;
  card.setAttribute("aria-label", "Result");
  const box = Object.assign(document.createElement("div"), { className: "card" });
  const title = Object.assign(document.createElement("h2"), { tabIndex: -1 });
  card.append(box);
  place.append(card);
  return [card, box, title];
}

function downloads(id, files) {
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
  return links;
}

function buttons(place, again) {
  const button = (textContent, act) => {
    const one = Object.assign(document.createElement("button"), { type: "button", textContent });
    one.addEventListener("click", act);
    return one;
  };
  const forget = button("Forget", () => clearResult(place));
  return again ? [button("Measure again", again), forget] : [forget];
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
