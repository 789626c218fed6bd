// Runs the network beside the page, so that the page never freezes: one message in, one answer out.
import {read, Simulation, channelsFirst} from "./spiking.js";

let network, run;

const tasks = {
  open({buffer}) {
    network = read(buffer);
    const shapes = network.spiking.map(name => ({name, shape: network.shape[name]}));
    const {about = "", macs = null, macs_first_layer: first = null} = network.web;
    return {
      input: network.nodes[0].shape, layers: shapes, about, macs, first, neuron: network.neuron,
      start: network.start, balances: Object.keys(network.balanced).sort((a, b) => a - b), classes: network.shape[network.output][0],
    };
  },

  start({image, neuron, balance, start}) {
    run = new Simulation(network, image, neuron, balance);
    run.start = start;
    return {ann: network.ann(image)};
  },

  step() {
    run.step();
    const layers = network.spiking.map(name => {
      const {sent, count, theta, events, spikes} = run.layers[name], shape = network.shape[name];
      const rate = count.map((n, i) => n * theta[i] / run.t);
      return {
        sent: Float32Array.from(channelsFirst(sent, shape)),
        rate: Float32Array.from(channelsFirst(rate, shape)), events, spikes,
      };
    });
    const {t, synops, multiplications} = run;
    return {t, logits: run.logits(), synops, multiplications, layers};
  },
};

onmessage = ({data}) => {
  try {
    postMessage({id: data.id, ...tasks[data.task](data)});
  } catch (error) {
    postMessage({id: data.id, error: error.message});
  }
};
