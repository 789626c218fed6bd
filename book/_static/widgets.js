// Twins of live cells that need no kernel: <div class="snn-widget" data-widget="neuron"></div>, and
// "staircase". The neurons are those of spiking.js; elsewhere than on the site the box stays empty.
import {decide} from "./spiking.js";

const WIDE = 580, HIGH = 270, LEFT = 66, RIGHT = 14, TOP = 26, BOTTOM = 48;
const near = x => x.toFixed(1).replace("-", "−");

/** One neuron under a constant current: potentials after each step, and spikes. */
export function simulate({z, theta = 1, v0 = 0, steps, kind = "if", reset = "subtract", leak = 1}) {
  const V = [v0 * theta], c = [];
  let count = 0;
  for (let t = 0; t < steps; t++) {
    const u = leak * V[t] + z, ratio = kind === "if" ? Number(u >= theta) : u / theta;
    c.push(decide({kind, negative: 0}, ratio, count));
    count += c[t];
    V.push(reset === "zero" && c[t] ? 0 : u - theta * c[t]);
  }
  return {V, c, count};
}

const kinds = {
  neuron: {
    knobs: [
      ["z", "Current", 0.55, -0.2, 1.5, 0.01], ["theta", "Threshold θ", 1, 0.2, 2, 0.05],
      ["leak", "Kept per step β", 1, 0.5, 1, 0.01], ["reset", "Reset", ["subtract", "zero"]],
    ],
    axes: ["time step", "membrane potential"],
    draw({z, theta, leak, reset}) {
      const steps = 40, {V, c, count} = simulate({z, theta, leak, reset, steps});
      const low = Math.min(-0.05, ...V), high = Math.max(theta, ...V) * 1.2;
      const {x, y, frame} = plane([0, steps], [low, high], [0, 10, 20, 30, 40], [0, theta]);
      const line = V.map((v, t) => (t ? `H${x(t)}V${y(v)}` : `M${x(0)}${y(v)}`)).join("");
      const spikes = c.map((k, t) => (k ? `M${x(t + 1)}${TOP - 16}v12` : "")).join("");
      const said = `Charge in ${near(z * steps)}, sent ${near(theta * count)}: ${count} spikes in ${steps} steps.`;
      return [frame + `<path class="ann" d="M${x(0)}${y(theta)}H${x(steps)}"/><path class="if" d="${line}"/>`
        + `<path class="spikes" d="${spikes}"/>`, said];
    },
  },
  staircase: {
    knobs: [
      ["steps", "Steps T", 4, 1, 64, 1], ["theta", "Threshold θ", 1, 0.3, 1.5, 0.05],
      ["v0", "Initial potential", 0.5, 0, 0.95, 0.05], ["kind", "Neuron", ["IF", "AugMapping"]],
    ],
    axes: ["input current", "mean output"],
    draw({steps, theta, v0, kind: name}) {
      const kind = name === "IF" ? "if" : "augmented", from = -0.5, to = 1.6, n = 420;
      const {x, y, frame} = plane([from, to], [-0.06, 1.6], [-0.5, 0, 0.5, 1, 1.5], [0, 0.5, 1, 1.5]);
      let path = "", off = 0;
      for (let i = 0; i <= n; i++) {
        const z = from + (to - from) * i / n, {count} = simulate({z, theta, v0, steps, kind});
        const a = theta * count / steps;
        off += Math.abs(a - Math.max(0, z)) / (n + 1);
        path += (i ? `H${x(z)}V` : `M${x(z)}`) + y(a);
      }
      const said = `Stairs of θ/T = ${(theta / steps).toFixed(3)}; `
        + (kind === "if" ? `ceiling at θ = ${theta}; ` : "no ceiling; ") + `mean distance to the ReLU ${off.toFixed(3)}.`;
      return [frame + `<path class="ann" d="M${x(from)}${y(0)}H${x(0)}L${x(to)} ${y(to)}"/>`
        + `<path class="${kind === "if" ? "if" : "aug"}" d="${path}"/>`, said];
    },
  },
};

/** Scales, and a frame with ticks. */
function plane([x0, x1], [y0, y1], xs, ys) {
  const x = v => `${(LEFT + (WIDE - LEFT - RIGHT) * (v - x0) / (x1 - x0)).toFixed(1)} `;
  const y = v => (HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (v - y0) / (y1 - y0)).toFixed(1);
  const text = v => String(v).replace("-", "−");
  const grid = xs.map(v => `M${x(v)}${TOP}V${HIGH - BOTTOM}`).join("") + ys.map(v => `M${LEFT} ${y(v)}H${WIDE - RIGHT}`).join("");
  const labels = xs.map(v => `<text x="${x(v)}" y="${HIGH - BOTTOM + 18}" text-anchor="middle">${text(v)}</text>`)
    .concat(ys.map(v => `<text x="${LEFT - 7}" y="${Number(y(v)) + 5}" text-anchor="end">${text(v)}</text>`)).join("");
  return {x, y, frame: `<path class="grid" d="${grid}"/>${labels}`};
}

function build(box) {
  const {knobs, axes: [across, up], draw} = kinds[box.dataset.widget];
  box.innerHTML = `<svg viewBox="0 0 ${WIDE} ${HIGH}" role="img"></svg><p class="said" role="status"></p><div class="knobs"></div>`;
  const [picture, said, panel] = box.children;
  const inputs = knobs.map(([name, title, first, low, high, step]) => {
    const label = document.createElement("label"), choice = Array.isArray(first);
    label.innerHTML = `<span>${title} <output></output></span>`
      + (choice ? `<select>${first.map(o => `<option>${o}</option>`).join("")}</select>`
        : `<input type="range" min="${low}" max="${high}" step="${step}" value="${first}">`);
    panel.append(label);
    return [name, label.lastChild, label.querySelector("output"), choice];
  });
  const update = () => {
    const values = Object.fromEntries(inputs.map(([name, input, , choice]) => [name, choice ? input.value : Number(input.value)]));
    for (const [, input, output, choice] of inputs) output.textContent = choice ? "" : input.value.replace("-", "−");
    const [drawing, text] = draw(values);
    picture.innerHTML = drawing
      + `<text x="${(LEFT + WIDE) / 2}" y="${HIGH - 6}" text-anchor="middle">${across}</text>`
      + `<text transform="translate(16 ${(TOP + HIGH - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">${up}</text>`;
    picture.setAttribute("aria-label", `${up} over ${across}. ${text}`);
    said.textContent = text;
  };
  for (const [, input, , choice] of inputs) input.addEventListener(choice ? "change" : "input", update);
  update();
}

if (globalThis.document)
  for (const box of document.querySelectorAll(".snn-widget")) if (kinds[box.dataset.widget]) build(box);
