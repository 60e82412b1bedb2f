// Exact bilinear resampling: the twin of classkinfy_export/resampling.py, byte for byte.
// Weights are integers that sum to 65536, so no order of summation can change a byte.

const WEIGHT_SCALE = 65536;

// Of each output position: the first source index, and its weights.
export function taps(inSize, outSize) {
  if (inSize < 1 || outSize < 1)
    throw new RangeError(`sizes must be positive, got ${inSize} -> ${outSize}`);
  // Positions in units of 1 / (2 * outSize) source pixels are integers.
  const support = 2 * Math.max(inSize, outSize);
  return Array.from({ length: outSize }, (_, i) => {
    const center = (2 * i + 1) * inSize;
    const first = Math.max(Math.floor((center - support + outSize) / (2 * outSize)), 0);
    const end = Math.min(Math.floor((center + support + outSize) / (2 * outSize)), inSize);
    const triangle = [];
    for (let at = first; at < end; at++)
      triangle.push(Math.max(support - Math.abs((2 * at + 1) * outSize - center), 0));
    return { first, weights: fixed(triangle) };
  });
}

// Weights in 65536ths. Of those that are cut off most, the first of equal ones, some get a step
// more: then they sum to 65536.
function fixed(triangle) {
  const sum = triangle.reduce((total, weight) => total + weight, 0);
  // Below 2 ** 53, up to sources of 2 ** 36 pixels: exact in doubles.
  const weights = triangle.map((weight) => Math.floor((weight * WEIGHT_SCALE) / sum));
  const remainder = triangle.map((weight, i) => weight * WEIGHT_SCALE - weights[i] * sum);
  const missing = WEIGHT_SCALE - weights.reduce((total, weight) => total + weight, 0);
  const order = [...remainder.keys()].sort((a, b) => remainder[b] - remainder[a] || a - b);
  for (const i of order.slice(0, missing)) weights[i] += 1;
  return Int32Array.from(weights);
}

// Rows of RGB from one width to another, into `out` from row `row` on.
export function resizeRows(rows, width, outWidth, table, out, row) {
  const count = rows.length / (3 * width);
  if (width === outWidth) {
    out.set(rows, 3 * outWidth * row);
    return;
  }
  for (let y = 0; y < count; y++) {
    const source = 3 * width * y;
    let to = 3 * outWidth * (row + y);
    for (let x = 0; x < outWidth; x++) {
      const { first, weights } = table[x];
      let [red, green, blue] = [0, 0, 0];
      for (let t = 0, at = source + 3 * first; t < weights.length; t++, at += 3) {
        const weight = weights[t];
        red += weight * rows[at];
        green += weight * rows[at + 1];
        blue += weight * rows[at + 2];
      }
      out[to++] = (red + WEIGHT_SCALE / 2) >> 16;
      out[to++] = (green + WEIGHT_SCALE / 2) >> 16;
      out[to++] = (blue + WEIGHT_SCALE / 2) >> 16;
    }
  }
}

// Columns: from one number of rows, of so many bytes each, to another.
export function resizeColumns(image, height, stride, outHeight) {
  if (height === outHeight) return image;
  const out = new Uint8Array(outHeight * stride);
  const table = taps(height, outHeight);
  const total = new Int32Array(stride);
  for (let y = 0; y < outHeight; y++) {
    const { first, weights } = table[y];
    total.fill(WEIGHT_SCALE / 2);
    for (let t = 0; t < weights.length; t++) {
      const weight = weights[t];
      const from = (first + t) * stride;
      for (let i = 0; i < stride; i++) total[i] += weight * image[from + i];
    }
    const to = y * stride;
    for (let i = 0; i < stride; i++) out[to + i] = total[i] >> 16;
  }
  return out;
}
