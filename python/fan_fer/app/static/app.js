// The page: start -> working -> result. What a clip holds is in docs/prediction.md.
import { record } from "./camera.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const STAGES = { upload: "Upload", faces: "Read faces", pictures: "Cut out faces", files: "Write files" };
const COUNTED = { faces: "read", pictures: "cut out", compare: "read by the other networks" };

let about = null;
let job = null; // the clip in work or on show: {id, name, upload, timer}
let result = null;
let network = 0;
let current = -1;
let player = null;
let timeline = null;

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function show(view) {
  for (const id of ["start", "camera", "working", "result"]) $(id).hidden = id !== view;
}

function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

function clear() {
  $("error").hidden = true;
  $("error").textContent = "";
}

// Back to the start; everything of the clip is deleted.
function restart() {
  if (job) {
    clearTimeout(job.timer);
    job.upload?.abort();
    if (job.id) fetch(`/v1/clips/${job.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  }
  player?.close();
  job = result = player = null;
  document.title = "fan-fer";
  show("start");
}

async function give(file, name) {
  clear();
  if (!file.size) return fail(`${name}: the file is empty; an mp4, mov, webm or avi file is wanted`);
  if (file.size > about.max_megabytes * 1e6)
    return fail(`${name}: is larger than ${about.max_megabytes} MB; a shorter or smaller file is wanted`);
  const mine = begin(name);
  progress("upload", 0, file.size);
  const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
  mine.upload = request;
  request.upload.onprogress = (event) => mine === job && progress("upload", event.loaded, event.total);
  request.onload = () => mine === job && admitted(mine, request.status, request.responseText);
  request.onerror = () => mine === job && stop("The server does not answer. Is fan-fer app still running?");
  request.open("POST", `/v1/clips?pictures=true&name=${encodeURIComponent(name)}`);
  request.send(file);
}

async function tryExample() {
  clear();
  const mine = begin("Example");
  progress("upload", 0, null);
  try {
    const answer = await fetch("/v1/example", { method: "POST" });
    const text = await answer.text();
    if (mine === job) admitted(mine, answer.status, text);
  } catch {
    if (mine === job) stop("The server does not answer. Is fan-fer app still running?");
  }
}

function begin(name) {
  restart();
  job = { id: null, name, upload: null, timer: 0 };
  $("working-title").textContent = name;
  $("cancel").focus();
  show("working");
  $("cancel").focus();
  return job;
}

function admitted(mine, status, text) {
  let answer = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // not one of the server's own answers
  }
  if (status !== 201) return stop(answer.error ?? `The upload failed (${status}).`);
  mine.upload = null;
  mine.id = answer.id;
  poll(mine);
}

function stop(message) {
  restart();
  fail(message);
  $("choose").focus();
}

// Asks how far the clip is; afterwards goes on at a slower pace, which tells the server that the page is still open.
async function poll(mine) {
  let wait = 300;
  try {
    const answer = await fetch(`/v1/clips/${mine.id}`);
    if (mine !== job) return;
    const state = await answer.json().catch(() => ({}));
    if (mine !== job) return;
    if (!answer.ok) return stop("This clip is no longer here: it was deleted because the page showed no sign of life.");
    if (state.state === "failed") return stop(state.error);
    if (state.state === "waiting") waiting(state.ahead);
    else if (state.state === "reading") progress(state.stage || "faces", state.done, state.total);
    else {
      if (!result) await present(mine);
      wait = 20000;
    }
    mine.lost = 0;
  } catch {
    mine.lost = (mine.lost ?? 0) + 1;
    if (mine === job && !result && mine.lost > 10) return stop("The server does not answer. Is fan-fer app still running?");
    wait = 1000;
  }
  if (mine === job) mine.timer = setTimeout(poll, wait, mine);
}

function waiting(ahead) {
  const text = ahead === 1 ? "Another clip is being read; yours is next." : `${ahead} clips are read before yours.`;
  drawStages("upload", true);
  $("bar").removeAttribute("value");
  $("count").textContent = ahead ? text : "Yours is next.";
  say($("count").textContent);
}

function progress(stage, done, total) {
  drawStages(stage, false);
  const bar = $("bar");
  if (total) {
    bar.max = total;
    bar.value = Math.min(done, total);
  } else bar.removeAttribute("value");
  if (stage === "upload") $("count").textContent = total ? `${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB` : "";
  else if (stage === "files") $("count").textContent = "";
  else $("count").textContent = `${done}${total ? ` of ${total}` : ""} frames ${COUNTED[stage]}`;
  const tenth = total ? Math.floor((4 * done) / total) * 25 : 0; // not every frame: a reader would never end
  say(`${STAGES[stage] ?? "Compare"}: ${tenth} %`);
}

function drawStages(stage, finished) {
  const names = { ...STAGES };
  if (about.networks.length > 1) {
    delete names.files;
    Object.assign(names, { compare: "Compare networks", files: STAGES.files });
  }
  const keys = Object.keys(names);
  const at = keys.indexOf(stage) + (finished ? 0.5 : 0);
  $("stages").replaceChildren(
    ...keys.map((key, place) =>
      element("li", { className: place < at ? "past" : place === at ? "now" : "", textContent: names[key] }),
    ),
  );
}

async function present(mine) {
  const base = `/v1/clips/${mine.id}`;
  const get = async (path) => (await fetch(`${base}/${path}`)).json();
  const loaded = await get("view");
  const predictions = await Promise.all(loaded.networks.map((_, index) => get(`files/${index}/json`)));
  loaded.networks.forEach((read, index) => (read.prediction = predictions[index]));
  if (mine !== job) return;
  result = loaded;
  network = 0;
  current = -1;
  show("result");
  $("network").replaceChildren(
    ...result.networks.map(({ name }, index) => element("option", { value: String(index), textContent: name })),
  );
  $("network-field").hidden = result.networks.length < 2;
  $("unplayable").hidden = true;
  player = new Player($("video"), $("overlay"), base, result, (index) => select(index, false));
  timeline ??= new Timeline($("timeline"), { weights: $("weights"), strip: $("strip"), readings: $("readings"), playhead: $("playhead") }, (index) => select(index, true));
  drawNetwork();
  $("clip").focus({ preventScroll: true });
  window.scrollTo(0, 0);
  const { prediction } = result.networks[0];
  say(`Done. The clip shows ${prediction.label}, ${percent(prediction.probabilities[prediction.label])}.`);
}

function drawNetwork() {
  const { prediction, variants } = result.networks[network];
  const base = `/v1/clips/${job.id}`;
  $("clip").textContent = prediction.video;
  document.title = `${prediction.label} · ${prediction.video}`;
  $("label").textContent = `${prediction.label} ${percent(prediction.probabilities[prediction.label])}`;
  drawBars($("probabilities"), prediction.probabilities);
  $("faces").textContent = `${prediction.frames_with_face} of ${prediction.frames_total} frames show a face · network ${result.networks[network].name} (${prediction.model.variant})`;
  $("warnings").replaceChildren(...prediction.warnings.map((line) => element("li", { textContent: line })));
  $("warnings").hidden = !prediction.warnings.length;
  for (const kind of ["json", "csv", "png"]) $(kind).href = `${base}/files/${network}/${kind}`;

  const related = prediction.frames.some((frame) => frame.beta !== null);
  $("alpha-key").hidden = !related;
  const heaviest = prediction.frames.filter((frame) => frame.weight !== null).sort((a, b) => b.weight - a.weight);
  timeline.load(prediction, about.colors, (index) => `${base}/faces/${index}`);
  $("classes").replaceChildren(
    ...Object.keys(prediction.probabilities).map((name) => {
      const key = element("i");
      key.style.background = about.colors[name];
      return element("span", {}, key, name);
    }),
  );
  const equal = heaviest[0].weight <= 1.001 * heaviest.at(-1).weight;
  $("heaviest").replaceChildren(
    equal ? "All frames weigh the same." : "Heaviest:",
    ...apart(heaviest, equal ? 0 : 3).map((frame) => {
      const button = element("button", { type: "button", textContent: `${frame.time.toFixed(2)} s` });
      button.addEventListener("click", () => select(frame.index, true));
      button.setAttribute("aria-label", `Heaviest frame at ${frame.time.toFixed(2)} seconds`);
      return button;
    }),
  );
  drawSegments(prediction);
  drawVariants(variants);
  player.load(prediction);
  select(current >= 0 ? current : heaviest[0].index, true);
}

// Where the reading changes: a band above the timeline, and the same as buttons for the keyboard.
function drawSegments({ segments = [], frames }) {
  const several = segments.length > 1;
  $("segments").hidden = $("parts").hidden = !several;
  if (!several) return;
  const begin = frames[0].index;
  const name = ({ label, confidence }) => `${label ?? "Not sure"} ${percent(confidence)}`;
  const color = ({ label }) => about.colors[label] ?? "#eceef0";
  $("segments").replaceChildren(
    ...segments.map((part) => {
      const span = element("span", { textContent: name(part), title: `${name(part)}, ${times(part)}` });
      span.style.left = `${(100 * (part.first - begin)) / frames.length}%`;
      span.style.width = `${(100 * (part.last + 1 - part.first)) / frames.length}%`;
      span.style.background = color(part);
      span.style.color = dark(color(part)) ? "#fff" : "#22262b";
      span.addEventListener("click", () => select(part.first - begin, true));
      return span;
    }),
  );
  $("parts").replaceChildren(
    "The reading changes:",
    ...segments.map((part) => {
      const key = element("i");
      key.style.background = color(part);
      const button = element("button", { type: "button" }, key, `${name(part)}, ${times(part)}`);
      button.addEventListener("click", () => select(part.first - begin, true));
      return button;
    }),
  );
}

const times = ({ start, end }) => `${start.toFixed(1)} to ${end.toFixed(1)} s`;

// Whether white can be read on "#rrggbb".
function dark(color) {
  const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
  const linear = parts.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.22;
}

// The heaviest frames that are not neighbours of each other: the peaks.
function apart(frames, count) {
  const gap = result.networks[network].prediction.frames_total / 12;
  const chosen = [];
  for (const frame of frames) {
    if (chosen.length === count) break;
    if (chosen.every((other) => Math.abs(other.index - frame.index) >= gap)) chosen.push(frame);
  }
  return chosen;
}

function drawBars(list, probabilities) {
  const best = Object.entries(probabilities).reduce((a, b) => (b[1] > a[1] ? b : a))[0];
  list.replaceChildren(
    ...Object.entries(probabilities).flatMap(([name, value]) => {
      const fill = element("i");
      fill.style.width = percent(value, 2).replace(" ", "");
      const track = element("dd", { className: "track" }, fill);
      track.setAttribute("aria-hidden", "true");
      return [
        element("dt", { textContent: name, className: name === best ? "best" : "" }),
        track,
        element("dd", { className: "share", textContent: percent(value) }),
      ];
    }),
  );
}

function drawVariants(variants) {
  $("variants").replaceChildren(
    ...variants.concat(others()).map(({ name, how, probabilities }) => {
      const [label, value] = Object.entries(probabilities).reduce((a, b) => (b[1] > a[1] ? b : a));
      const pile = element("div", { className: "pile" });
      pile.setAttribute("aria-hidden", "true");
      for (const [emotion, share] of Object.entries(probabilities)) {
        const part = element("i", { title: `${emotion} ${percent(share)}` });
        part.style.width = `${100 * share}%`;
        part.style.background = about.colors[emotion];
        pile.append(part);
      }
      return element(
        "div",
        { className: "variant" },
        element("div", { className: "row" }, element("span", { textContent: name }), element("span", { textContent: `${label} ${percent(value)}` })),
        pile,
        element("p", { className: "quiet", textContent: how }),
      );
    }),
  );
}

// The other networks, for the comparison.
function others() {
  return result.networks
    .filter((_, index) => index !== network)
    .map(({ name, prediction }) => ({
      name: `Network ${name}`,
      how: `the same faces, variant ${prediction.model.variant}`,
      probabilities: prediction.probabilities,
    }));
}

// A frame comes on show: chosen by the user (then the video goes there) or because the video plays.
function select(index, chosen) {
  const { prediction } = result.networks[network];
  index = Math.max(0, Math.min(prediction.frames.length - 1, index));
  if (chosen) player.seek(index);
  if (index !== current || chosen) {
    current = index;
    timeline.select(index);
    drawFrame(prediction.frames[index], prediction);
  }
}

let latest = 0; // when a face was last changed while playing
function drawFrame(frame, prediction) {
  $("frame-title").textContent = `Frame ${frame.index} of ${prediction.frames_total}`;
  const seen = frame.weight !== null;
  $("face").hidden = !seen;
  $("no-face").hidden = seen;
  if (seen && (player.paused || performance.now() - latest > 150)) {
    latest = performance.now();
    $("face").src = `/v1/clips/${job.id}/faces/${frame.index}`;
    $("face").alt = `Face of frame ${frame.index}: ${frame.emotion}`;
  }
  $("emotion").textContent = seen ? `${frame.emotion} ${percent(frame.probabilities[frame.emotion])}` : "No face";
  const share = seen ? `${percent(frame.weight, 2)} (${(frame.weight * prediction.frames_with_face).toFixed(2)} × mean)` : "–";
  const rows = [["time", `${frame.time.toFixed(3)} s`]];
  if (frame.alpha !== null) rows.push(["α", frame.alpha.toFixed(4)]);
  if (frame.beta !== null) rows.push(["β", frame.beta.toFixed(4)]);
  rows.push(["weight", share]);
  $("numbers").replaceChildren(
    ...rows.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]),
  );
  $("own").hidden = !seen;
  if (seen) drawBars($("own"), frame.probabilities);
}

function listen() {
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) give(file, file.name);
    $("file").value = "";
  });
  $("example").addEventListener("click", tryExample);
  $("cancel").addEventListener("click", () => {
    restart();
    say("Cancelled.");
    $("choose").focus();
  });
  $("again").addEventListener("click", () => {
    restart();
    $("choose").focus();
  });
  $("network").addEventListener("change", () => {
    network = Number($("network").value);
    drawNetwork();
  });
  $("video").addEventListener("unplayable", () => ($("unplayable").hidden = false));
  $("boxed").addEventListener("change", () => player?.setShown($("boxed").checked));
  $("record").addEventListener("click", async () => {
    clear();
    show("camera");
    try {
      const file = await record({ preview: $("preview"), shoot: $("shoot"), leave: $("leave"), clock: $("clock") }, 60 * about.max_minutes);
      show("start");
      if (file) give(file, "camera");
      else $("record").focus();
    } catch (error) {
      show("start");
      fail(`The camera cannot be used: ${error.message}`);
      $("record").focus();
    }
  });
  // A file may be dropped anywhere; without this the browser would leave the page to open it.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && $("camera").hidden) give(file, file.name);
  });
  addEventListener("pagehide", () => {
    if (job?.id) navigator.sendBeacon(`/v1/clips/${job.id}/discard`);
    job?.upload?.abort();
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

about = await (await fetch("/v1/about")).json();
$("limits").textContent = `mp4, mov, webm or avi · up to ${about.longest} and ${about.max_megabytes} MB`;
$("example").hidden = !about.example;
$("record").hidden = !navigator.mediaDevices?.getUserMedia || !window.MediaRecorder;
listen();
document.documentElement.dataset.ready = "true";
