// The playground: draw a digit, watch spikes go through the network, turn every knob.
//
// The page's HTML comes from bookext/playground.py; the network runs in playground-worker.js. The
// address keeps the settings (#net=digits-cnn&neuron=if&…), so that a link shows what you see.
import {Pad} from "./playground-pad.js";
import {View, best, percent, softmax} from "./playground-view.js";

const root = document.getElementById("snn-playground");
const part = name => root.querySelector(`[data-part="${name}"]`);
const knobs = [...root.querySelectorAll("[data-knob]")];
const stories = [...root.querySelectorAll("[data-preset]")];
const base = new URL("networks/", import.meta.url);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const CONFIDENT = 0.9, PACE = 220, SLOW = 900;  // milliseconds a step; slow where less motion is asked for
const pad = new Pad(part("pad")), view = new View(root);
let samples = [], network = null, state = null, playing = false, turn = 0;

// The worker, as functions that return promises.

const worker = new Worker(new URL("playground-worker.js", import.meta.url), {type: "module"});
const waiting = new Map();
let calls = 0;
worker.onmessage = ({data}) => {
  const {resolve, reject} = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error)); else resolve(data);
};
const ask = (task, more = {}) => new Promise((resolve, reject) => {
  waiting.set(++calls, {resolve, reject});
  worker.postMessage({id: calls, task, ...more});
});

// Knobs and the address.

const knob = name => knobs.find(k => k.dataset.knob === name);
const value = name => knob(name).type === "range" ? Number(knob(name).value) : knob(name).value;

function neuron() {
  const kind = value("neuron"), v0 = value("v0");
  if (kind === "if") return {kind, v0};
  if (kind === "ternary") return {kind, v0, negative: value("negative")};
  return {kind, v0, negative: value("negative"), levels: value("levels")};
}

function dress() {
  root.dataset.neuron = value("neuron");
  knob("negative").disabled = value("neuron") === "if";
  knob("levels").disabled = value("neuron") !== "augmented";
  for (const {dataset: {knob: name}, value: set, disabled} of knobs) {
    const shown = root.querySelector(`[data-value="${name}"]`);
    if (shown) shown.textContent = disabled ? "–" : set;
  }
}

function keep() {
  const settings = new URLSearchParams(knobs.map(k => [k.dataset.knob, k.value]));
  if (root.dataset.digit) settings.set("digit", root.dataset.digit);
  history.replaceState(history.state, "", `#${settings}`);
}

function take(settings) {
  for (const k of knobs) if (settings.has(k.dataset.knob)) {
    const asked = settings.get(k.dataset.knob);
    if (k.tagName !== "SELECT" || [...k.options].some(o => o.value === asked)) k.value = asked;
  }
  dress();
}

/** All that an address or a story asks for. */
async function apply(settings) {
  const before = value("net");
  take(settings);
  if (!network || value("net") !== before || network.own) {
    await choose();
    take(settings);  // the thresholds are known only now
  }
  if (samples[settings.get("digit")]) pick(settings.get("digit"));
  await restart();
}

function pick(digit) {
  mark(digit);
  pad.show(samples[digit]);
}

function mark(digit = null) {
  if (digit === null) delete root.dataset.digit; else root.dataset.digit = digit;
  for (const button of part("samples").children)
    button.setAttribute("aria-pressed", String(button.dataset.digit === String(digit)));
}

function tell(story) {
  for (const button of stories) button.setAttribute("aria-pressed", String(button === story));
}

// Networks.

async function open(buffer, title, own = false) {
  const found = await ask("open", {buffer});
  if (found.input.length !== 3) throw new Error("The playground shows networks that take images.");
  network = {...found, own};
  const menu = knob("balance"), before = menu.value, titles = found.balances.filter(Boolean);
  const offered = titles.length ? titles : [""];
  menu.replaceChildren(...offered.map(q => new Option(q ? `percentile ${q}` : "as saved", q)));
  menu.value = offered.includes(before) ? before : offered.includes("99.9") ? "99.9" : offered[0];
  part("about").textContent = title;
  view.layout(network);
}

async function choose() {
  const name = value("net"), found = await fetch(new URL(`${name}.safetensors`, base));
  if (!found.ok) throw new Error(`${name} could not be loaded (${found.status}).`);
  await open(await found.arrayBuffer(), name);
}

// Running.

async function restart() {
  const own = ++turn, image = network && pad.image(network);
  pause();
  dress();
  keep();
  if (!image) {
    state = null;
    part("status").textContent = "Draw a digit, or pick one.";
    return;
  }
  const {ann} = await ask("start", {image, neuron: neuron(), balance: value("balance"), start: value("start")});
  if (own !== turn) return;
  state = {ann: Array.from(ann), t: 0, confident: null};
  view.race(state.ann, null);
}

async function step() {
  if (!state || state.t >= value("steps")) return false;
  const own = turn, found = await ask("step");
  if (own !== turn) return false;
  state.t = found.t;
  const logits = found.logits && Array.from(found.logits);
  view.show(found);
  view.race(state.ann, logits);
  part("status").textContent = sentence(found.t, logits);
  root.dataset.step = found.t;
  return true;
}

function sentence(t, logits) {
  const where = `Step ${t} of ${value("steps")}`;
  if (!logits) return `${where}. The answer counts from step ${value("start")} on.`;
  const answer = best(logits), sure = Math.max(...softmax(logits)), said = best(state.ann);
  if (state.confident === null && sure >= CONFIDENT) state.confident = {t, answer};
  const parts = [`${where}: ${answer}, softmax ${percent(sure)}.`];
  parts.push(answer === said ? `The ANN says ${said} too.` : `The ANN says ${said}.`);
  if (state.confident)
    parts.push(`Softmax first passed 90 % at step ${state.confident.t}, for ${state.confident.answer}.`);
  return parts.join(" ");
}

async function play() {
  if (playing) return pause();
  if (state && state.t >= value("steps")) await restart();
  playing = true;
  part("play").textContent = "Pause";
  part("status").setAttribute("aria-busy", "true");  // screen readers hear the last step only
  const own = turn;
  while (playing && own === turn) {
    const began = performance.now();
    if (!await step()) break;
    const pace = still.matches ? SLOW : PACE;
    await new Promise(done => setTimeout(done, Math.max(0, pace - (performance.now() - began))));
  }
  if (own === turn) pause();
}

function pause() {
  playing = false;
  part("play").textContent = "Play";
  part("status").setAttribute("aria-busy", "false");
}

const guarded = work => async (...given) => {
  try {
    await work(...given);
  } catch (error) {
    part("status").textContent = error.message;
  }
};
const again = guarded(async () => { await restart(); await play(); });

function listen() {
  pad.listen(() => { pause(); turn++; mark(); tell(); }, again);
  for (const k of knobs) {
    k.addEventListener("input", dress);
    k.addEventListener("change", guarded(async () => {
      tell();
      if (k.dataset.knob === "net") await choose();
      await again();
    }));
  }
  const press = (name, work) => part(name).addEventListener("click", guarded(work));
  press("play", play);
  press("step", async () => {
    pause();
    if (state && state.t >= value("steps")) await restart();
    await step();
  });
  press("restart", async () => { await restart(); await step(); });
  press("clear", async () => { pad.clear(); mark(); tell(); await restart(); });
  press("copy", async () => {
    keep();
    await navigator.clipboard.writeText(location.href);
    part("copy").textContent = "Copied";
    setTimeout(() => { part("copy").textContent = "Copy link"; }, 1500);
  });
  part("file").addEventListener("change", guarded(async ({target}) => {
    const [file] = target.files;
    if (!file) return;
    await open(await file.arrayBuffer(), file.name, true);
    tell();
    await again();
  }));
  for (const button of stories)
    button.addEventListener("click", guarded(async () => {
      tell(button);
      await apply(new URLSearchParams(button.dataset.preset));
      await play();
    }));
  addEventListener("hashchange", guarded(() => apply(new URLSearchParams(location.hash.slice(1)))));
}

guarded(async () => {
  samples = await (await fetch(new URL("digits.json", base))).json();
  part("samples").replaceChildren(...samples.map((_, digit) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.dataset.digit = digit;
    button.addEventListener("click", () => { tell(); pick(digit); again(); });
    return button;
  }));
  pick(3);
  await apply(new URLSearchParams(location.hash.slice(1)));
  listen();
  await step();
  root.dataset.answered = performance.now();  // milliseconds from the beginning of the page
  root.classList.add("ready");
})();
