// What goes wrong on purpose: each message says what, and what to do about it.

// A bundle that cannot be trusted, or cannot answer.
export class BundleError extends Error {
  name = "BundleError";
}

// A photo that cannot be looked at.
export class ImageError extends Error {
  name = "ImageError";
}
