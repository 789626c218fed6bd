// Runs networks as the page does, for tests. In Node:  node simulate.mjs SPIKING.JS CASES.JSON
// CASES.JSON: [{network, out, images, steps, neuron?, balance?}, …]; counts go to the file `out`.

/** Counts of every spiking layer, image by image and step by step, and what each step said. */
export function simulate({read, Simulation, channelsFirst}, buffer, {images, steps, neuron, balance}) {
  const network = read(buffer), counts = [], found = {logits: [], synops: [], multiplications: [], events: []};
  for (const image of images) {
    const run = new Simulation(network, Float64Array.from(image), neuron ?? undefined, balance ?? "");
    const rows = Object.fromEntries(Object.keys(found).map(name => [name, []]));
    for (let t = 0; t < steps; t++) {
      run.step();
      for (const name of network.spiking)
        counts.push(Int32Array.from(channelsFirst(run.layers[name].count, network.shape[name])));
      const logits = run.logits();
      rows.logits.push(logits && Array.from(logits));
      rows.synops.push(run.synops);
      rows.multiplications.push(run.multiplications);
      rows.events.push(network.spiking.reduce((sum, name) => sum + run.layers[name].events, 0));
    }
    for (const [name, row] of Object.entries(rows)) found[name].push(row);
  }
  const all = new Int32Array(counts.reduce((sum, part) => sum + part.length, 0));
  counts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  const ann = images.map(image => Array.from(network.ann(Float64Array.from(image))));
  return {...found, ann, layers: network.spiking, counts: all};
}

if (globalThis.process?.argv?.[2]) {
  const fs = await import("node:fs"), {pathToFileURL} = await import("node:url");
  const [, , script, cases] = process.argv, api = await import(pathToFileURL(script));
  const answers = JSON.parse(fs.readFileSync(cases)).map(({network, out, ...given}) => {
    const bytes = fs.readFileSync(network);
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    const {counts, ...found} = simulate(api, buffer, given);
    fs.writeFileSync(out, counts);
    return found;
  });
  console.log(JSON.stringify(answers));
}
