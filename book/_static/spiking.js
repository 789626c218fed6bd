// A converted network in the reader's browser: the neurons and the arithmetic of snnlib, in float64.
//
//   const network = read(await (await fetch("digits.safetensors")).arrayBuffer());
//   const run = new Simulation(network, image, {kind: "ternary", negative: 0, v0: 0.5});
//   run.step();          // one time step; then run.t, run.logits(), run.layers, run.synops
//   network.ann(image);  // logits of the ANN
//
// `image` holds C·H·W numbers in the units the network was trained on. Values of one image lie as
// H × W × C (positions, then channels), because an event reaches all channels of its neighbors.
// Nothing here touches the page: it runs in a window, in a worker and in Node.

const TYPES = {F64: Float64Array, F32: Float32Array, I32: Int32Array, I16: Int16Array, U8: Uint8Array};
const OPERATIONS = {conv, linear, affine, add, avg_pool, adaptive_avg_pool, mean, reshape};

/** Read a file that `net.to_web` (or `net.save`) wrote; throws an Error that says what is wrong. */
export function read(buffer) {
  if (buffer.byteLength < 8) throw new Error("This is no network file: it is shorter than its header.");
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw new Error("This is no network file. Write one with: snnlib export NETWORK --web FILE");
  }
  const {__metadata__: about = {}, ...entries} = header;
  if (about.format !== "snnlib-network")
    throw new Error("This is no spiking network of snnlib. Write one with: snnlib export NETWORK --web FILE");
  const tensors = {};
  for (const [name, {dtype, shape, data_offsets: [from, to]}] of Object.entries(entries))
    tensors[name] = {shape, data: numbers(buffer.slice(8 + length + from, 8 + length + to), dtype)};
  return new Network(JSON.parse(about.network), JSON.parse(about.web ?? "{}"), tensors);
}

function numbers(bytes, dtype) {
  if (dtype === "F16") return Float64Array.from(new Uint16Array(bytes), half);
  if (!TYPES[dtype]) throw new Error(`The file holds numbers of type ${dtype}, which a page cannot read.`);
  return Float64Array.from(new TYPES[dtype](bytes));
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
}

/** Layers, weights and thresholds; it never changes. */
export class Network {
  constructor(record, web, tensors) {
    this.web = web;
    this.neuron = record.neuron;
    this.output = record.output;
    this.start = record.readout?.first ?? 1;  // first step that the answer counts
    this.shape = Object.fromEntries(record.nodes.map(node => [node.name, node.shape]));
    this.nodes = record.nodes.map(node => prepared(node, tensors, this.shape[node.inputs[0]]));
    this.balanced = {"": named(record.balanced, tensors, this.shape)};
    for (const [title, keys] of Object.entries(web.balanced ?? {}))
      this.balanced[title] = named(keys, tensors, this.shape);
    this.fanOut = named(web.fan_outs ?? {}, tensors, this.shape);
    const moving = new Set();  // what changes from step to step under a constant input
    for (const node of this.nodes) {
      node.moves = node.op === "relu" || node.inputs.some(name => moving.has(name));
      if (node.moves) moving.add(node.name);
    }
    this.spiking = this.nodes.filter(node => node.op === "relu").map(node => node.name);
  }

  /** Logits of the ANN; `visit(name, value)` sees every layer. */
  ann(image, visit = () => {}) {
    const values = {};
    for (const node of this.nodes) {
      const [first] = node.inputs.map(name => values[name]);
      if (node.op === "input") values[node.name] = positionsFirst(image, node.shape);
      else if (node.op === "relu") values[node.name] = first.map(z => rectified(z, node.attrs));
      else if (node.op === "max_pool") values[node.name] = maxPool(node, first);
      else values[node.name] = OPERATIONS[node.op](node, ...node.inputs.map(name => values[name]));
      visit(node.name, values[node.name]);
    }
    return values[this.output];
  }
}

/** The ReLU of a layer: clipped at its bound, rounded to its steps (without offset: half to even). */
function rectified(z, {bound, step, offset}) {
  if (step == null) return clip(z, bound);
  const ratio = z / step, low = Math.floor(ratio);
  const even = ratio - low === 0.5 ? low + (low % 2 ? 1 : 0) : Math.round(ratio);
  return clip(step * (offset == null ? even : Math.floor(ratio + offset)), bound);
}

function prepared(node, tensors, from) {
  if (!["input", "relu", "max_pool"].includes(node.op) && !OPERATIONS[node.op])
    throw new Error(`Layer ${node.name} is ${node.op}, which a page cannot compute.`);
  const held = {...node, from, size: node.shape.reduce((a, b) => a * b, 1), tensors: {}, spread: {}};
  for (const [role, key] of Object.entries(node.tensors)) {
    held.tensors[role] = tensors[key];
    if (node.op === "affine") held.spread[role] = broadcast(tensors[key], node.shape);
  }
  const weight = held.tensors.weight;
  if (node.op === "conv") held.kernel = outputsLast(weight);
  if (node.op === "linear") held.kernel = transposed(weight);
  if (node.op.endsWith("_pool")) held.windows = windows(held);
  return held;
}

/** Per layer one number a neuron, from a tensor that broadcasts to the layer's shape. */
function named(keys, tensors, shapes) {
  const spread = ([name, key]) => [name, broadcast(tensors[key], shapes[name])];
  return Object.fromEntries(Object.entries(keys).map(spread));
}

function broadcast({shape, data}, whole) {
  const padded = [...Array(whole.length - shape.length).fill(1), ...shape];
  const size = whole.reduce((a, b) => a * b, 1), out = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    let rest = i, from = 0, stride = 1;
    for (let d = whole.length - 1; d >= 0; d--) {
      const at = rest % whole[d];
      rest = (rest - at) / whole[d];
      if (padded[d] > 1) { from += at * stride; stride *= padded[d]; }
    }
    out[i] = data[from];
  }
  return positionsFirst(out, whole);
}

/** (C, H, W) → H × W × C; anything else stays as it is. */
function positionsFirst(values, shape) {
  if (shape.length !== 3) return Float64Array.from(values);
  const [channels, height, width] = shape, area = height * width, out = new Float64Array(values.length);
  for (let c = 0; c < channels; c++)
    for (let p = 0; p < area; p++) out[p * channels + c] = values[c * area + p];
  return out;
}

/** H × W × C → (C, H, W), for whoever draws a layer or flattens it. */
export function channelsFirst(values, shape) {
  if (shape.length !== 3) return values;
  const [channels, height, width] = shape, area = height * width, out = new Float64Array(values.length);
  for (let p = 0; p < area; p++)
    for (let c = 0; c < channels; c++) out[c * area + p] = values[p * channels + c];
  return out;
}

/** (outputs, inputs, KH, KW) → KH × KW × inputs × outputs. */
function outputsLast({shape: [outputs, inputs, rows, columns], data}) {
  const out = new Float64Array(data.length);
  for (let o = 0, i = 0; o < outputs; o++)
    for (let c = 0; c < inputs; c++)
      for (let k = 0; k < rows * columns; k++) out[(k * inputs + c) * outputs + o] = data[i++];
  return out;
}

function transposed({shape: [outputs, inputs], data}) {
  const out = new Float64Array(data.length);
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++) out[i * outputs + o] = data[o * inputs + i];
  return out;
}

// Operations: (node, values of its inputs) → value. Only what is not zero is worked on.

function bias(node) {
  const out = new Float64Array(node.size), b = node.tensors.bias?.data;
  if (b) for (let i = 0; i < out.length; i += b.length) out.set(b, i);
  return out;
}

function conv(node, x) {
  const [channels, height, width] = node.shape, {shape: [, inputs, rows, columns]} = node.tensors.weight;
  const {stride: [down, right], padding: [top, left], dilation: [far, wide], groups} = node.attrs;
  const [, H, W] = node.from, all = inputs * groups, each = channels / groups;
  const out = bias(node), kernel = node.kernel;
  for (let y = 0, at = 0; y < H; y++) for (let z = 0; z < W; z++) for (let c = 0; c < all; c++, at++) {
    const value = x[at];
    if (!value) continue;
    const group = Math.floor(c / inputs), start = group * each, own = c - group * inputs;
    for (let k = 0; k < rows; k++) {
      const row = (y + top - k * far) / down;
      if (row < 0 || row >= height || row % 1) continue;
      for (let l = 0; l < columns; l++) {
        const column = (z + left - l * wide) / right;
        if (column < 0 || column >= width || column % 1) continue;
        const to = (row * width + column) * channels + start;
        const w = ((k * columns + l) * inputs + own) * channels + start;
        for (let o = 0; o < each; o++) out[to + o] += value * kernel[w + o];
      }
    }
  }
  return out;
}

function linear(node, x) {
  const out = bias(node), outputs = out.length;
  for (let i = 0; i < x.length; i++) {
    const value = x[i], w = i * outputs;
    if (value) for (let o = 0; o < outputs; o++) out[o] += value * node.kernel[w + o];
  }
  return out;
}

function affine(node, x) {
  const {scale, shift} = node.spread;
  return x.map((value, i) => (scale ? value * scale[i] : value) + (shift ? shift[i] : 0));
}

function add(node, x, y) {
  const {alpha = 1} = node.attrs;
  return x.map((value, i) => value + alpha * y[i]);
}

/** For every output position the range of input rows and columns that a pooling reads. */
function windows(node) {
  const [, height, width] = node.shape, [, H, W] = node.from, {attrs} = node;
  const range = (i, n, size, d) => {
    if (attrs.output_size) return [Math.floor(i * size / n), Math.ceil((i + 1) * size / n)];
    const start = i * attrs.stride[d] - attrs.padding[d];
    return [Math.max(0, start), Math.min(size, start + attrs.kernel_size[d])];
  };
  const list = [];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    list.push([...range(y, height, H, 0), ...range(x, width, W, 1)]);
  return list;
}

function pooled(node, x, start, join, finish) {
  const channels = node.shape[0], W = node.from[2], out = new Float64Array(node.size).fill(start);
  node.windows.forEach(([top, bottom, left, right], p) => {
    for (let y = top; y < bottom; y++) for (let z = left; z < right; z++)
      for (let c = 0; c < channels; c++) {
        const to = p * channels + c;
        out[to] = join(out[to], x[(y * W + z) * channels + c]);
      }
    if (finish) {
      const share = finish(top, bottom, left, right);
      for (let c = 0; c < channels; c++) out[p * channels + c] /= share;
    }
  });
  return out;
}

const total = (a, b) => a + b;
const area = (top, bottom, left, right) => (bottom - top) * (right - left);

function avg_pool(node, x) {
  const {kernel_size: [rows, columns], count_include_pad: padded, divisor_override: divisor} = node.attrs;
  return pooled(node, x, 0, total, padded || divisor ? () => divisor ?? rows * columns : area);
}

function adaptive_avg_pool(node, x) { return pooled(node, x, 0, total, area); }

function maxPool(node, x) { return pooled(node, x, -Infinity, Math.max); }

/** Mean over all positions. */
function mean(node, x) {
  const channels = node.from[0], out = new Float64Array(channels);
  for (let i = 0; i < x.length; i++) out[i % channels] += x[i];
  return out.map(sum => sum * channels / x.length);
}

function reshape(node, x) { return positionsFirst(channelsFirst(x, node.from), node.shape); }

const clip = (z, bound) => Math.min(Math.max(z, 0), bound ?? Infinity);

/** Spike coefficient for V/θ = `ratio` and net count `count`; snnlib.neurons has the equations. */
export function decide(neuron, ratio, count) {
  if (neuron.kind === "if") return ratio >= 1 ? 1 : 0;
  const {negative = 1} = neuron, cap = neuron.kind === "ternary" ? 1 : neuron.cap ?? Infinity;
  let c = 0;
  if (negative === 0 || ratio >= 1) c = Math.floor(ratio);
  else if (ratio <= -negative) c = -(Math.floor(-ratio - negative) + 1);
  return Math.max(Math.min(Math.max(c, -cap), cap), -count);
}

/** One image on its way through time, under a constant input. */
export class Simulation {
  /**
   * @param network from `read`
   * @param image C·H·W numbers
   * @param neuron {kind: "if"|"ternary"|"augmented", v0, negative, levels, cap, reset}
   * @param balance which thresholds of the file: "" (the network's own), "99.9", …
   */
  constructor(network, image, neuron = network.neuron, balance = "") {
    this.network = network;
    this.neuron = {v0: 0.5, reset: "subtract", levels: 1, ...neuron};
    this.t = 0;
    this.synops = 0;  // events × fan-out
    this.multiplications = 0;  // the part of them with |c| ≠ 1
    this.total = new Float64Array(network.shape[network.output].reduce((a, b) => a * b, 1));
    this.start = network.start;
    this.before = this.total.slice();  // the total when the answer begins
    this.layers = {};
    this.values = {};
    const levels = this.neuron.kind === "augmented" ? this.neuron.levels : 1;
    for (const node of network.nodes) {
      if (node.op === "relu") {
        const theta = network.balanced[balance][node.name].map(lambda => lambda / levels);
        this.layers[node.name] = {
          theta, potential: theta.map(value => value * this.neuron.v0),
          count: new Float64Array(node.size), sent: new Float64Array(node.size), events: 0, spikes: 0,
        };
      } else if (node.op === "max_pool") {
        const size = network.shape[node.inputs[0]].reduce((a, b) => a * b, 1);
        this.layers[node.name] = {
          summed: new Float64Array(size), largest: new Float64Array(node.size), events: 0, spikes: 0,
        };
      }
      if (!node.moves) this.values[node.name] = node.op === "input"
        ? positionsFirst(image, node.shape)
        : OPERATIONS[node.op](node, ...node.inputs.map(name => this.values[name]));
    }
  }

  /** One time step. */
  step() {
    this.t += 1;
    for (const node of this.network.nodes) {
      if (!node.moves) continue;
      const inputs = node.inputs.map(name => this.values[name]);
      if (node.op === "relu") this.values[node.name] = this.fire(node, inputs[0]);
      else if (node.op === "max_pool") this.values[node.name] = this.pool(node, inputs[0]);
      else this.values[node.name] = OPERATIONS[node.op](node, ...inputs);
    }
    const output = this.values[this.network.output];
    if (this.t === this.start) this.before.set(this.total);
    for (let i = 0; i < output.length; i++) this.total[i] += output[i];
    return this;
  }

  /** Mean input of the output over steps start … t: the answer so far; null before. */
  logits() {
    const steps = this.t - this.start + 1;
    return steps > 0 ? this.total.map((sum, i) => (sum - this.before[i]) / steps) : null;
  }

  fire(node, current) {
    const layer = this.layers[node.name], {neuron, t} = this, fan = this.network.fanOut[node.name];
    const {theta, potential, count, sent} = layer, message = new Float64Array(current.length);
    for (let i = 0; i < current.length; i++) {
      const V = potential[i] + current[i], bound = node.attrs.bound;
      let c = decide(neuron, neuron.kind === "if" ? Number(V >= theta[i]) : V / theta[i], count[i]);
      if (bound != null) c = Math.min(c, Math.floor(bound * t / theta[i] + neuron.v0) - count[i]);
      potential[i] = neuron.reset === "zero" && c ? 0 : V - c * theta[i];
      count[i] += c;
      sent[i] = c;
      message[i] = c * theta[i];
      if (c) this.tally(layer, c, fan?.[i]);
    }
    return message;
  }

  /** Send max(S_t) − max(S_{t−1}), S_t the summed messages; behind a spiking layer S is exact. */
  pool(node, message) {
    const layer = this.layers[node.name], source = this.layers[node.inputs[0]];
    const fan = this.network.fanOut[node.name], {summed, largest} = layer;
    for (let i = 0; i < summed.length; i++)
      summed[i] = source?.count ? source.count[i] : summed[i] + message[i];
    const now = maxPool(node, summed), change = now.map((value, i) => value - largest[i]);
    for (let i = 0; i < change.length; i++) if (change[i]) this.tally(layer, change[i], fan?.[i]);
    largest.set(now);
    return source?.count ? change.map((c, i) => c * source.theta[i % node.shape[0]]) : change;
  }

  tally(layer, c, fan = 0) {
    layer.events += 1;
    layer.spikes += Math.abs(c);
    this.synops += fan;
    if (Math.abs(c) !== 1) this.multiplications += fan;
  }
}
