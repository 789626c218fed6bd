// The pad of the playground: a picture that is drawn or picked, made as training images were made.
import {counted, enlarged, offCenter} from "./pictures.js";

export class Pad {
  constructor(canvas) {
    this.canvas = canvas;
    this.ink = canvas.getContext("2d", {willReadFrequently: true});
    this.sample = null;  // the 8 × 8 numbers that were picked, or null if it is drawn
    this.clear();
  }

  clear() {
    this.sample = null;
    this.ink.fillStyle = "#000";
    this.ink.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Show a stored digit. */
  show(small) {
    const pixels = new OffscreenCanvas(28, 28), context = pixels.getContext("2d");
    const data = context.createImageData(28, 28), {ink, canvas: {width}} = this, margin = width * 0.08;
    enlarged(small).forEach((value, i) => data.data.set([value, value, value, 255], 4 * i));
    context.putImageData(data, 0, 0);
    this.clear();
    ink.drawImage(pixels, margin, margin, width - 2 * margin, width - 2 * margin);
    this.sample = small;
  }

  /** Draw with mouse, pen or finger: `begin` and `end` of each stroke. */
  listen(begin, end) {
    const {canvas, ink} = this;
    let last = null;
    const at = event => {
      const {left, top, width} = canvas.getBoundingClientRect(), scale = canvas.width / width;
      return [(event.clientX - left) * scale, (event.clientY - top) * scale];
    };
    const line = (from, to) => {
      Object.assign(ink, {strokeStyle: "#fff", lineWidth: canvas.width / 11, lineCap: "round", lineJoin: "round"});
      ink.beginPath();
      ink.moveTo(...from);
      ink.lineTo(...to);
      ink.stroke();
    };
    canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();  // no text is selected, no picture dragged
      if (this.sample) this.clear();
      begin();
      line(last = at(event), last);
    });
    canvas.addEventListener("pointermove", event => { if (last) line(last, last = at(event)); });
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, () => { if (last) { last = null; end(); } });
  }

  /** C·H·W numbers for a network, or null where nothing is drawn. */
  image({about, input: [channels, side]}) {
    const found = this.box();
    if (!found) return null;
    let pixels;
    if (about === "digits-cnn") {
      const small = this.sample ?? counted(this.scaled(found, 32, 32));
      pixels = enlarged(small).map(value => Math.fround(value / 255));
    } else {  // MNIST: 20 of 28 pixels, then the center of mass into the middle
      const inner = Math.round(side * 20 / 28), [x, y] = offCenter(this.scaled(found, side, inner), side);
      pixels = this.scaled(found, side, inner, [-x, -y]);
    }
    return Float64Array.from({length: channels * pixels.length}, (_, i) => pixels[i % pixels.length]);
  }

  /** The rectangle that holds all ink, or null. */
  box() {
    const {width, height} = this.canvas, {data} = this.ink.getImageData(0, 0, width, height);
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
      if (data[4 * (y * width + x)] > 40) {
        left = Math.min(left, x); right = Math.max(right, x);
        top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
    return right < 0 ? null : {left, top, width: right - left + 1, height: bottom - top + 1};
  }

  /** The ink scaled to `inner` of `side` pixels, centered by its box, as numbers 0…1. */
  scaled({left, top, width, height}, side, inner, [dx, dy] = [0, 0]) {
    const context = new OffscreenCanvas(side, side).getContext("2d"), scale = inner / Math.max(width, height);
    const [w, h] = [width * scale, height * scale];
    context.imageSmoothingQuality = "high";
    context.drawImage(this.canvas, left, top, width, height, (side - w) / 2 + dx, (side - h) / 2 + dy, w, h);
    const {data} = context.getImageData(0, 0, side, side);
    return Float64Array.from({length: side * side}, (_, i) => data[4 * i] / 255);
  }
}
