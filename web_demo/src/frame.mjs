// Decoded pixels to the contract's image: crop or pad, exact resize, layout. The twin of
// classkinfy_export/frame.py; decode.mjs gives the pixels.

import { ImageError } from "./errors.mjs";
import { encode } from "./layouts.mjs";
import { resizeColumns, resizeRows, taps } from "./resampling.mjs";

export const MAX_PIXELS = 100_000_000;
const STRIP_ROWS = 64; // at a time, so that a phone's 50 megapixels are never whole in memory

// picture: {width, height, read}, where read is (left, top, width, height) => RGBA bytes.
// Gives the image as the stages take it, {data, shape}, and its RGB bytes.
export function frame(picture, capture, fit) {
  const rgb = resized(picture, viewed(picture, capture, fit), capture);
  return { ...encode(rgb, capture), rgb };
}

// The part of the picture that is looked at, which may reach over its edges.
export function viewed({ width, height }, capture, fit) {
  let [wide, high] = [0, 0];
  if (fit === "crop") {
    wide = Math.min(width, Math.max(1, Math.floor((height * capture.width) / capture.height)));
    high = Math.min(height, Math.max(1, Math.floor((width * capture.height) / capture.width)));
    return {
      left: Math.floor((width - wide) / 2),
      top: Math.floor((height - high) / 2),
      width: wide,
      height: high,
    };
  }
  wide = Math.max(width, Math.ceil((height * capture.width) / capture.height));
  high = Math.max(height, Math.ceil((width * capture.height) / capture.width));
  if (wide * high > 4 * MAX_PIXELS)
    throw new ImageError(`A photo of ${width} x ${height} pixels is too narrow. Crop it first.`);
  return {
    left: -Math.floor((wide - width) / 2),
    top: -Math.floor((high - height) / 2),
    width: wide,
    height: high,
  };
}

function resized(picture, view, capture) {
  const narrow = new Uint8Array(view.height * capture.width * 3);
  const table = taps(view.width, capture.width);
  // Of the picture, what is in view; the rest is black.
  const left = Math.max(view.left, 0);
  const right = Math.min(view.left + view.width, picture.width);
  for (let y = 0; y < view.height; y += STRIP_ROWS) {
    const rows = Math.min(STRIP_ROWS, view.height - y);
    const strip = new Uint8Array(rows * view.width * 3);
    const top = Math.max(view.top + y, 0);
    const bottom = Math.min(view.top + y + rows, picture.height);
    if (bottom > top) {
      const rgba = picture.read(left, top, right - left, bottom - top);
      const at = { x: left - view.left, y: top - view.top - y };
      copy(rgba, right - left, strip, view.width, at);
    }
    resizeRows(strip, view.width, capture.width, table, narrow, y);
  }
  return resizeColumns(narrow, view.height, capture.width * 3, capture.height);
}

// RGBA into RGB. What lies under a transparent pixel was lost where it was drawn.
function copy(rgba, width, strip, stripWidth, at) {
  for (let from = 0, y = at.y; from < rgba.length; y++) {
    let to = 3 * (y * stripWidth + at.x);
    for (let x = 0; x < width; x++, from += 4) {
      if (rgba[from + 3] !== 255)
        throw new ImageError("The photo is transparent in places. Save it without transparency.");
      strip[to++] = rgba[from];
      strip[to++] = rgba[from + 1];
      strip[to++] = rgba[from + 2];
    }
  }
}
