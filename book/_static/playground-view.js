// What is seen in the playground: feature maps, the race of the outputs, the bill.

const PICOJOULE = {mac: 4.6, ac: 0.9};  // arithmetic at 45 nm, as in snnlib.simulation.costs
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const whole = n => Math.round(n).toLocaleString("en-US");
export const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
export const best = scores => scores.indexOf(Math.max(...scores));

export function softmax(scores) {
  const top = Math.max(...scores), e = scores.map(s => Math.exp(s - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map(v => v / sum);
}

const rgb = text => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};

/** One layer: its channels as tiles, a vector as a row of squares. A press shows it larger. */
class Maps {
  constructor({name, shape}) {
    this.name = name;
    this.shape = shape;
    this.figure = document.createElement("figure");
    this.figure.innerHTML = "<button type=button aria-expanded=false><canvas></canvas></button>"
      + "<figcaption><code></code> <span></span></figcaption>";
    [this.button, this.caption] = this.figure.children;
    this.canvas = this.button.firstChild;
    this.caption.firstChild.textContent = name;
    this.button.setAttribute("aria-label", `Layer ${name}: larger or smaller`);
    this.raster = new OffscreenCanvas(1, 1);
    this.button.addEventListener("click", () => {
      const large = this.figure.classList.toggle("large");
      this.button.setAttribute("aria-expanded", String(large));
      this.fit();
    });
  }

  /** How many tiles stand in a row: as large as they get, with few left over in the last row. */
  tiles() {
    const {shape, button} = this, large = this.figure.classList.contains("large");
    const [channels, rows, columns] = shape.length === 3 ? shape : [shape[0], 1, 1];
    const room = (button.clientWidth || 240) * (devicePixelRatio || 1);
    const height = room * (!large ? 0.5 : innerWidth < 640 ? 1.7 : 0.62);
    let across = 1, most = -1;
    for (let n = 1; n <= channels; n++) {
      const lines = Math.ceil(channels / n), left = (lines * n - channels) / channels;
      const scale = Math.min(room / (n * (columns + 1) - 1), height / (lines * (rows + 1) - 1));
      const score = (scale < 1 ? scale : Math.floor(scale)) - 0.1 * left + 1e-6 * n;
      if (score > most) [across, most] = [n, score];
    }
    return {channels, rows, columns, across, gap: 1};
  }

  /** Gray: the rate so far. In color: what was sent in this step, up or back. */
  paint({sent, rate, events} = this.seen ?? {}) {
    const {channels, rows, columns, across, gap} = this.tiles(), size = rows * columns, {raster} = this;
    raster.width = across * (columns + gap) - gap;
    raster.height = Math.ceil(channels / across) * (rows + gap) - gap;
    const [bright, dark] = [rgb(style("--pst-color-text-base")), rgb(style("--pst-color-surface"))];
    const context = raster.getContext("2d"), picture = context.createImageData(raster.width, raster.height);
    const largest = rate ? rate.reduce((a, b) => Math.max(a, b), 1e-9) : 1;
    this.spikes = [];
    for (let i = 0; i < channels * size; i++) {
      const channel = Math.floor(i / size), y = Math.floor((i % size) / columns), x = i % columns;
      const right = (channel % across) * (columns + gap) + x;
      const down = Math.floor(channel / across) * (rows + gap) + y, at = 4 * (down * raster.width + right);
      const share = rate ? 0.75 * rate[i] / largest : 0;
      for (let k = 0; k < 3; k++) picture.data[at + k] = dark[k] + (bright[k] - dark[k]) * share;
      picture.data[at + 3] = 255;
      if (sent?.[i]) this.spikes.push([right, down, sent[i]]);
    }
    context.putImageData(picture, 0, 0);
    if (sent) this.seen = {sent, rate, events};
    this.caption.lastChild.textContent = sent ? `${whole(events)} events` : "";
    this.copy();
  }

  /** A whole number of the screen's pixels for each neuron, so that maps are crisp. */
  fit() {
    this.paint();
    const {canvas, raster} = this, dense = devicePixelRatio || 1;
    const scale = Math.max(1, Math.floor(this.button.clientWidth * dense / raster.width));
    canvas.width = raster.width * scale;
    canvas.height = raster.height * scale;
    canvas.style.width = `${canvas.width / dense}px`;
    this.copy();
  }

  /** Gray pixels, and a square for each spike: the larger it is, the larger, or the stronger where
   *  a neuron has few pixels of the screen. */
  copy() {
    const {canvas, raster} = this, context = canvas.getContext("2d"), scale = canvas.width / raster.width;
    context.imageSmoothingEnabled = false;
    context.globalAlpha = 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(raster, 0, 0, canvas.width, canvas.height);
    const colors = [style("--snn-if"), style("--snn-aug")];
    for (const [x, y, c] of this.spikes ?? []) {
      const part = Math.min(1, 0.55 + Math.log2(Math.abs(c)) / 6), side = scale < 4 ? scale : scale * part;
      const margin = (scale - side) / 2;
      context.fillStyle = colors[Number(c < 0)];
      context.globalAlpha = scale < 4 ? part : 1;
      context.fillRect(x * scale + margin, y * scale + margin, side, side);
    }
  }
}

export class View {
  constructor(root) {
    this.root = root;
    this.maps = [];
    this.part = name => root.querySelector(`[data-part="${name}"]`);
    new MutationObserver(() => this.maps.forEach(m => m.paint()))
      .observe(document.documentElement, {attributeFilter: ["data-theme"]});
    new ResizeObserver(() => this.maps.forEach(m => m.fit())).observe(this.part("layers"));
  }

  layout(network) {
    this.network = network;
    this.maps = network.layers.map(layer => new Maps(layer));
    this.part("layers").replaceChildren(...this.maps.map(m => m.figure));
    this.maps.forEach(m => m.fit());
    this.part("scores").replaceChildren(...Array.from({length: network.classes}, (_, digit) => {
      const row = document.createElement("div");
      row.innerHTML = `<b>${digit}</b><span class="track"><s></s><i></i><u></u></span><em></em>`;
      return row;
    }));
    this.part("macs").textContent = network.macs ? whole(network.macs) : "";
  }

  /** Mean input of each output, and the ANN's beside it. */
  race(ann, logits) {
    const all = [...ann, ...(logits ?? [])], low = Math.min(0, ...all), high = Math.max(1e-9, ...all);
    const place = v => 100 * (v - low) / (high - low), zero = place(0);
    [...this.part("scores").children].forEach((row, digit) => {
      const [, track, number] = row.children, [axis, bar, mark] = track.children;
      const end = place(logits?.[digit] ?? 0);
      axis.style.left = `${zero}%`;
      bar.style.left = `${Math.min(zero, end)}%`;
      bar.style.width = `${Math.abs(end - zero)}%`;
      mark.style.left = `${place(ann[digit])}%`;
      number.textContent = logits ? logits[digit].toFixed(1).replace("-", "−") : "";
      row.classList.toggle("leads", Boolean(logits) && digit === best(logits));
    });
    this.part("answer").textContent = logits ? best(logits) : "–";
    this.part("ann").textContent = best(ann);
  }

  /** What a step brought. */
  show({layers, synops, multiplications}) {
    layers.forEach((layer, l) => this.maps[l].paint(layer));
    const {macs, first} = this.network, events = layers.reduce((sum, layer) => sum + layer.events, 0);
    const cells = {events: whole(events), synops: whole(synops), ours: "", theirs: ""};
    if (macs) {
      const additions = synops - multiplications, full = macs * PICOJOULE.mac;
      const paid = additions * PICOJOULE.ac + (multiplications + first) * PICOJOULE.mac;
      cells.ours = percent(paid / full);
      cells.theirs = percent(synops * PICOJOULE.ac / full);
    }
    for (const [name, text] of Object.entries(cells)) this.part(name).textContent = text;
  }
}
