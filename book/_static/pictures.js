// Pictures as the book's networks were trained on: pure functions, for the page and for tests.

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

/** 32 × 32 values 0…1 → inked pixels of each block of 4 × 4, 0…16: how the UCI digits were made. */
export function counted(fine) {
  return Array.from({length: 64}, (_, i) => {
    let sum = 0;
    for (let k = 0; k < 16; k++)
      sum += fine[(4 * (i >> 3) + (k >> 2)) * 32 + 4 * (i & 7) + (k & 3)] > 0.5;
    return sum;
  });
}

/** How far the center of mass of side × side values lies from the middle: [x, y]. */
export function offCenter(values, side) {
  let [mass, x, y] = [0, 0, 0];
  values.forEach((v, i) => { mass += v; x += v * (i % side); y += v * Math.floor(i / side); });
  const middle = (side - 1) / 2;
  return mass ? [x / mass - middle, y / mass - middle] : [0, 0];
}
