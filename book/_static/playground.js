// The playground: draw a digit, watch spikes go through the network, turn every knob.
//
// The page's HTML comes from bookext/playground.py; the network runs in playground-worker.js. The
// address keeps the settings (#net=digits-cnn&neuron=if&…), so that a link shows what you see.

const root = document.getElementById("snn-playground");
const byName = name => root.querySelector(`[data-part="${name}"]`);
const knobs = [...root.querySelectorAll("[data-knob]")];
const base = new URL("networks/", import.meta.url);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const CONFIDENT = 0.9, PICOJOULE = {mac: 4.6, ac: 0.9};

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

// The picture: drawn or picked, then made as the network's training images were made.

const pad = byName("pad"), ink = pad.getContext("2d", {willReadFrequently: true});
let samples = [], network = null, image = null, state = null, playing = false, turn = 0;

function clear() {
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, pad.width, pad.height);
}

function draw(from, to) {
  ink.strokeStyle = "#fff";
  ink.lineWidth = pad.width / 11;
  ink.lineCap = ink.lineJoin = "round";
  ink.beginPath();
  ink.moveTo(...from);
  ink.lineTo(...to);
  ink.stroke();
}

/** 8 × 8 numbers 0…16 → 28 × 28 in 0…255, bilinear in whole numbers, as snnlib.data does. */
export function enlarged(small) {
  const weights = Array.from({length: 28}, (_, i) => {
    const row = new Array(8).fill(0), left = Math.floor((4 * i - 5) / 14), rest = 4 * i - 5 - 14 * left;
    row[Math.max(left, 0)] += 14 - rest;
    row[Math.min(left + 1, 7)] += rest;
    return row;
  });
  return Float64Array.from({length: 784}, (_, p) => {
    const [y, x] = [weights[Math.floor(p / 28)], weights[p % 28]];
    let sum = 0;
    for (let i = 0; i < 64; i++) sum += y[i >> 3] * x[i & 7] * small[i];
    return Math.floor((255 * sum + 8 * 196) / (16 * 196));
  });
}

/** Show a stored digit on the pad. */
function show(small) {
  const pixels = new OffscreenCanvas(28, 28), context = pixels.getContext("2d");
  const data = context.createImageData(28, 28);
  enlarged(small).forEach((value, i) => data.data.set([value, value, value, 255], 4 * i));
  context.putImageData(data, 0, 0);
  clear();
  ink.imageSmoothingEnabled = true;
  const margin = pad.width * 0.08;
  ink.drawImage(pixels, margin, margin, pad.width - 2 * margin, pad.height - 2 * margin);
}

/** The rectangle that holds all ink, or null. */
function box() {
  const {width, height} = pad, {data} = ink.getImageData(0, 0, width, height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    if (data[4 * (y * width + x)] > 40) {
      left = Math.min(left, x); right = Math.max(right, x);
      top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
  return right < 0 ? null : {left, top, width: right - left + 1, height: bottom - top + 1};
}

/** The ink scaled to `inner` of `side` pixels, centered by its box, as numbers 0…1. */
function scaled(found, side, inner, shift = [0, 0]) {
  const small = new OffscreenCanvas(side, side), context = small.getContext("2d");
  const scale = inner / Math.max(found.width, found.height);
  const [w, h] = [found.width * scale, found.height * scale];
  context.imageSmoothingQuality = "high";
  context.drawImage(pad, found.left, found.top, found.width, found.height,
    (side - w) / 2 + shift[0], (side - h) / 2 + shift[1], w, h);
  const {data} = context.getImageData(0, 0, side, side);
  return Float64Array.from({length: side * side}, (_, i) => data[4 * i] / 255);
}

function prepared() {
  const found = box(), [channels, side] = network.input, {digit} = root.dataset;
  if (!found) return null;
  let pixels;
  if (network.about === "digits-cnn") {  // the UCI digits: 32 × 32, ink in blocks of 4 × 4
    const fine = scaled(found, 32, 32);
    const small = digit ? samples[digit] : Array.from({length: 64}, (_, i) => {
      let sum = 0;
      for (let k = 0; k < 16; k++)
        sum += fine[(4 * (i >> 3) + (k >> 2)) * 32 + 4 * (i & 7) + (k & 3)] > 0.5;
      return sum;
    });
    pixels = enlarged(small).map(value => Math.fround(value / 255));
  } else {  // MNIST: 20 of 28 pixels, then the center of mass into the middle
    const inner = Math.round(side * 20 / 28), first = scaled(found, side, inner);
    let [mass, x, y] = [0, 0, 0];
    first.forEach((v, i) => { mass += v; x += v * (i % side); y += v * Math.floor(i / side); });
    const middle = (side - 1) / 2;
    pixels = scaled(found, side, inner, [middle - x / mass, middle - y / mass]);
  }
  return Float64Array.from({length: channels * pixels.length}, (_, i) => pixels[i % pixels.length]);
}

// Knobs and the address.

const value = name => {
  const knob = knobs.find(k => k.dataset.knob === name);
  return knob.type === "range" || knob.type === "number" ? Number(knob.value) : knob.value;
};

function neuron() {
  const kind = value("neuron"), v0 = value("v0");
  if (kind === "if") return {kind, v0};
  if (kind === "ternary") return {kind, v0, negative: value("negative")};
  return {kind, v0, negative: value("negative"), levels: value("levels")};
}

function dress() {
  root.dataset.neuron = value("neuron");
  for (const knob of knobs) {
    const shown = root.querySelector(`[data-value="${knob.dataset.knob}"]`);
    if (shown) shown.textContent = knob.value;
  }
  byName("negative").hidden = value("neuron") === "if";
  byName("levels").hidden = value("neuron") !== "augmented";
}

function keep() {
  const settings = new URLSearchParams(knobs.map(k => [k.dataset.knob, k.value]));
  if (root.dataset.digit) settings.set("digit", root.dataset.digit);
  history.replaceState(history.state, "", `#${settings}`);
}

function take(settings) {
  for (const knob of knobs) if (settings.has(knob.dataset.knob)) {
    const asked = settings.get(knob.dataset.knob);
    if (knob.tagName !== "SELECT" || [...knob.options].some(o => o.value === asked)) knob.value = asked;
  }
  dress();
}

// What is seen.

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function tiles(shape) {
  const [channels, rows, columns] = shape.length === 3 ? shape : [1, 1, shape[0]];
  if (shape.length === 3) {
    const across = Math.ceil(Math.sqrt(channels * rows / columns * 2.2));
    return {channels, rows, columns, across: Math.min(across, channels)};
  }
  const wide = Math.ceil(Math.sqrt(columns * 4));
  return {channels: columns, rows: 1, columns: 1, across: wide};
}

function layout() {
  const list = byName("layers");
  list.replaceChildren(...network.layers.map(({name, shape}) => {
    const {channels, rows, columns, across} = tiles(shape), canvas = document.createElement("canvas");
    const gap = rows > 1 ? 1 : 0;
    canvas.width = across * (columns + gap) - gap;
    canvas.height = Math.ceil(channels / across) * (rows + gap) - gap;
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.innerHTML = `<code></code> <span></span>`;
    caption.firstChild.textContent = name;
    figure.append(canvas, caption);
    return figure;
  }));
  byName("scores").replaceChildren(...Array.from({length: network.classes}, (_, digit) => {
    const row = document.createElement("div");
    row.innerHTML = `<b>${digit}</b><span class="track"><i></i><u></u></span><em></em>`;
    return row;
  }));
}

const rgb = text => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};

/** Gray: the rate so far. In color: what was sent in this step, up or back. */
function paint(layers) {
  const up = rgb(style("--snn-if")), down = rgb(style("--snn-aug"));
  const bright = rgb(style("--pst-color-text-base")), dark = rgb(style("--pst-color-surface"));
  layers.forEach(({sent, rate, events}, l) => {
    const figure = byName("layers").children[l], canvas = figure.firstChild, {shape} = network.layers[l];
    const {rows, columns, across} = tiles(shape), gap = rows > 1 ? 1 : 0, size = rows * columns;
    const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
    const largest = rate.reduce((a, b) => Math.max(a, b), 1e-9);
    for (let i = 0; i < rate.length; i++) {
      const channel = Math.floor(i / size), y = Math.floor((i % size) / columns), x = i % columns;
      const at = (Math.floor(channel / across) * (rows + gap) + y) * canvas.width
        + (channel % across) * (columns + gap) + (size > 1 ? x : 0);
      const share = 0.75 * rate[i] / largest, strength = Math.min(1, 0.45 + 0.18 * Math.abs(sent[i]));
      for (let k = 0; k < 3; k++) {
        const gray = dark[k] + (bright[k] - dark[k]) * share;
        const lit = sent[i] > 0 ? up[k] : down[k];
        picture.data[4 * at + k] = sent[i] ? gray + (lit - gray) * strength : gray;
      }
      picture.data[4 * at + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    figure.lastChild.lastChild.textContent = `${whole(events)} events`;
  });
}

const whole = n => Math.round(n).toLocaleString("en-US");
const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const best = scores => scores.indexOf(Math.max(...scores));

function softmax(scores) {
  const top = Math.max(...scores), e = scores.map(s => Math.exp(s - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map(v => v / sum);
}

function race(logits) {
  const all = [...state.ann, ...(logits ?? [])], low = Math.min(0, ...all), high = Math.max(1e-9, ...all);
  const place = v => `${100 * (v - low) / (high - low)}%`;
  [...byName("scores").children].forEach((row, digit) => {
    const [, track, number] = row.children, [bar, mark] = track.children;
    bar.style.width = logits ? place(logits[digit]) : "0";
    mark.style.left = place(state.ann[digit]);
    number.textContent = logits ? logits[digit].toFixed(1) : "";
    row.classList.toggle("leads", Boolean(logits) && digit === best(logits));
  });
}

function bill({synops, multiplications, layers}) {
  const {macs, first} = network, events = layers.reduce((sum, layer) => sum + layer.events, 0);
  const cells = {events: whole(events), synops: whole(synops)};
  if (macs) {
    const additions = synops - multiplications, full = macs * PICOJOULE.mac;
    cells.ours = percent((additions * PICOJOULE.ac + (multiplications + first) * PICOJOULE.mac) / full);
    cells.theirs = percent(synops * PICOJOULE.ac / full);
    cells.macs = whole(macs);
  }
  for (const [name, text] of Object.entries(cells)) byName(name).textContent = text;
}

function tell({t, logits}) {
  const said = state.ann && best(state.ann), parts = [`Step ${t}.`];
  if (!logits) parts.push(`No answer before step ${value("start")}.`);
  else {
    const answer = best(logits), sure = Math.max(...softmax(logits));
    if (state.confident === null && sure >= CONFIDENT) state.confident = {t, answer};
    parts.push(`Answer: ${answer} (${percent(sure)} sure).`);
    parts.push(answer === said ? "The ANN says so too." : `The ANN says ${said}.`);
  }
  if (state.confident)
    parts.push(`First confident answer: ${state.confident.answer}, at step ${state.confident.t}.`);
  byName("status").textContent = parts.join(" ");
}

// Running.

async function restart() {
  const own = ++turn;
  pause();
  dress();
  if (!network) return;
  image = prepared();
  if (!image) {
    byName("status").textContent = "Draw a digit, or pick one.";
    return;
  }
  const {ann} = await ask("start", {image, neuron: neuron(), balance: value("balance"), start: value("start")});
  if (own !== turn) return;
  state = {ann: Array.from(ann), t: 0, confident: null};
  race(null);
  keep();
}

async function step() {
  if (!state || state.t >= value("steps")) return false;
  const own = turn, found = await ask("step");
  if (own !== turn) return false;
  state.t = found.t;
  const logits = found.logits && Array.from(found.logits);
  paint(found.layers);
  race(logits);
  bill(found);
  tell({t: found.t, logits});
  root.dataset.step = found.t;
  return true;
}

async function play() {
  if (playing) return pause();
  if (state && state.t >= value("steps")) await restart();
  playing = true;
  byName("play").textContent = "Pause";
  while (playing) {
    const began = performance.now();
    if (!await step()) break;
    const pace = still.matches ? 900 : 220;
    await new Promise(done => setTimeout(done, Math.max(0, pace - (performance.now() - began))));
  }
  pause();
}

function pause() {
  playing = false;
  byName("play").textContent = "Play";
}

async function open(buffer, title) {
  const found = await ask("open", {buffer});
  if (found.input.length !== 3) throw new Error("The playground shows networks that take images.");
  network = found;
  const menu = knobs.find(k => k.dataset.knob === "balance"), before = menu.value;
  const titles = network.balances.filter(Boolean);
  const offered = titles.length ? titles : [""];
  menu.replaceChildren(...offered.map(q => new Option(q ? `${q} %` : "as saved", q)));
  menu.value = offered.includes(before) ? before : offered[Math.floor(offered.length / 2)];
  byName("about").textContent = title;
  layout();
}

async function choose() {
  const name = value("net");
  const found = await fetch(new URL(`${name}.safetensors`, base));
  if (!found.ok) throw new Error(`${name} could not be loaded (${found.status}).`);
  await open(await found.arrayBuffer(), name);
}

function pick(digit) {
  root.dataset.digit = digit;
  for (const button of byName("samples").children)
    button.setAttribute("aria-pressed", String(button.dataset.digit === String(digit)));
  show(samples[digit]);
}

const guarded = work => async (...given) => {
  try {
    await work(...given);
  } catch (error) {
    byName("status").textContent = error.message;
  }
};

function listen() {
  let last = null;
  const at = event => {
    const {left, top, width} = pad.getBoundingClientRect(), scale = pad.width / width;
    return [(event.clientX - left) * scale, (event.clientY - top) * scale];
  };
  pad.addEventListener("pointerdown", event => {
    pad.setPointerCapture(event.pointerId);
    if (root.dataset.digit) { clear(); delete root.dataset.digit; }
    draw(last = at(event), last);
  });
  pad.addEventListener("pointermove", event => { if (last) draw(last, last = at(event)); });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, guarded(async () => {
    if (!last) return;
    last = null;
    await restart();
    await play();
  }));
  for (const knob of knobs) {
    knob.addEventListener("input", dress);
    knob.addEventListener("change", guarded(async () => {
      if (knob.dataset.knob === "net") await choose();
      await restart();
      await play();
    }));
  }
  const press = (name, work) => byName(name).addEventListener("click", guarded(work));
  press("play", play);
  press("step", async () => { pause(); await step(); });
  press("restart", restart);
  press("clear", async () => { clear(); delete root.dataset.digit; state = null; await restart(); });
  byName("file").addEventListener("change", guarded(async event => {
    const [file] = event.target.files;
    if (file) { await open(await file.arrayBuffer(), file.name); await restart(); }
  }));
  for (const button of root.querySelectorAll("[data-preset]"))
    button.addEventListener("click", guarded(async () => {
      const settings = new URLSearchParams(button.dataset.preset), before = value("net");
      take(settings);
      if (value("net") !== before) await choose();
      if (settings.has("digit")) pick(settings.get("digit"));
      await restart();
      await play();
    }));
}

const begin = guarded(async () => {
  clear();
  samples = await (await fetch(new URL("digits.json", base))).json();
  byName("samples").replaceChildren(...samples.map((_, digit) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.dataset.digit = digit;
    button.addEventListener("click", guarded(async () => { pick(digit); await restart(); await play(); }));
    return button;
  }));
  const settings = new URLSearchParams(location.hash.slice(1));
  take(settings);
  await choose();
  take(settings);  // the thresholds are known only now
  listen();
  pick(samples[settings.get("digit")] ? settings.get("digit") : 3);
  await restart();
  root.classList.add("ready");
});
begin();
