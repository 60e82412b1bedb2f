// A photo's bytes, or what a camera shows, to pixels that can be read in parts.

import { ImageError } from "./errors.mjs";
import { MAX_PIXELS } from "./frame.mjs";

// Upright, and otherwise as stored: no colour profile is applied, as Python applies none.
const AS_STORED = {
  imageOrientation: "from-image",
  colorSpaceConversion: "none",
  premultiplyAlpha: "none",
};

// photo: a Blob, or an ImageBitmap. Gives {width, height, read, close}.
export async function decode(photo) {
  if (photo instanceof ImageBitmap) return readable(photo);
  try {
    return readable(await createImageBitmap(photo, AS_STORED));
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError(
      "This is not a photo that this browser reads, or it is damaged. Give a JPEG or PNG.",
    );
  }
}

function readable(bitmap) {
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    bitmap.close();
    throw new ImageError(
      `The photo has ${width} x ${height} pixels, more than ${MAX_PIXELS / 1e6} million. ` +
        "Scale it down first.",
    );
  }
  let canvas = null;
  const read = (left, top, wide, high) => {
    if (canvas === null || canvas.width !== wide || canvas.height !== high)
      canvas = new OffscreenCanvas(wide, high);
    // In memory, not on a graphics card, whose rounding is its own.
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.globalCompositeOperation = "copy";
    context.drawImage(bitmap, left, top, wide, high, 0, 0, wide, high);
    return context.getImageData(0, 0, wide, high).data;
  };
  return { width, height, read, close: () => bitmap.close() };
}
