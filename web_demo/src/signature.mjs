// Who signed a manifest: ECDSA over P-256 and SHA-256, checked by WebCrypto.

import { BundleError } from "./errors.mjs";

const ALGORITHM = "ECDSA-P256-SHA256";
const SIGNATURE_BYTES = 64; // r, then s
const AGAIN = "Get the bundle again from who made it.";

// The public key that signed these bytes, base64 of its SubjectPublicKeyInfo.
export async function signer(manifest, data) {
  let given, der, both;
  try {
    given = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
    der = fromBase64(given.public_key);
    both = fromBase64(given.signature);
  } catch {
    throw new BundleError(`The bundle's signature cannot be read. ${AGAIN}`);
  }
  if (given.algorithm !== ALGORITHM)
    throw new BundleError(`The bundle is signed with ${given.algorithm}, not ${ALGORITHM}. ${AGAIN}`);
  if (both.length !== SIGNATURE_BYTES)
    throw new BundleError(
      `The bundle's signature has ${both.length} bytes, not ${SIGNATURE_BYTES}. ${AGAIN}`,
    );
  const curve = { name: "ECDSA", namedCurve: "P-256" };
  let key;
  try {
    key = await crypto.subtle.importKey("spki", der, curve, false, ["verify"]);
  } catch {
    throw new BundleError(`The bundle is not signed with a key on P-256. ${AGAIN}`);
  }
  const hashed = { name: "ECDSA", hash: "SHA-256" };
  if (!(await crypto.subtle.verify(hashed, key, both, manifest)))
    throw new BundleError(
      `The bundle's signature is not of this manifest: one of them was changed. ${AGAIN}`,
    );
  return given.public_key;
}

function fromBase64(text) {
  if (typeof text !== "string") throw new TypeError("no text");
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
