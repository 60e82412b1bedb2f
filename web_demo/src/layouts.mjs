// RGB pixels in the layouts that cameras deliver: the twin of classkinfy_export/layouts.py.

const LUMA = [19595, 38470, 7471];
const BLUE = [-11059, -21709, 32768];
const RED = [32768, -27439, -5329];
// BT.601, full range, in 65536ths: ITU-T T.871.

// The shape in which the stages take a capture.
export function shapeOf({ height, width, layout }) {
  if (layout === "nv21") return [1, (height * 3) / 2, width];
  return [1, height, width, layout === "rgba" ? 4 : 3];
}

// rgb: height * width * 3 bytes. Gives {data, shape}.
export function encode(rgb, capture) {
  const encoders = { rgb: () => rgb, rgba: () => rgba(rgb), nv21: () => nv21(rgb, capture) };
  const encoder = encoders[capture.layout];
  if (encoder === undefined) throw new TypeError(`no layout is called ${capture.layout}`);
  return { data: encoder(), shape: shapeOf(capture) };
}

function rgba(rgb) {
  const out = new Uint8Array((rgb.length / 3) * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    out[to] = rgb[from];
    out[to + 1] = rgb[from + 1];
    out[to + 2] = rgb[from + 2];
  }
  return out;
}

function nv21(rgb, { height, width }) {
  const out = new Uint8Array((height * width * 3) / 2);
  for (let i = 0; i < height * width; i++)
    out[i] = (rgb[3 * i] * LUMA[0] + rgb[3 * i + 1] * LUMA[1] + rgb[3 * i + 2] * LUMA[2] + 32768) >> 16;
  let to = height * width;
  for (let y = 0; y < height; y += 2)
    for (let x = 0; x < width; x += 2)
      for (const weights of [RED, BLUE]) {
        let sum = 0;
        for (const pixel of [y * width + x, y * width + x + 1])
          for (const at of [3 * pixel, 3 * (pixel + width)])
            for (let c = 0; c < 3; c++) sum += weights[c] * rgb[at + c];
        // Four pixels a block, and 128 stands for no colour.
        out[to++] = Math.min(Math.max((sum + (128 << 18) + (1 << 17)) >> 18, 0), 255);
      }
  return out;
}
