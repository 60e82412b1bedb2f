// How far a tensor is from the golden one. The twin of classkinfy_export/parity/compare.py and of
// what parity/verify.py and parity/decide.py ask beside PyTorch.

import { largest } from "./decision.mjs";

const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const TOLERATED = ["preliminary", "features", "probabilities", "confidence", "severity", "embedding"];
// What is made of a quantised network's answer is told beside PyTorch, not held to a tolerance.
const ANSWERED = ["embedding", "probabilities", "confidence", "severity"];

// expected: an entry of golden.json; actual: {data, shape}. Of a tensor of which only the hash is
// known: nothing, or infinity.
export async function difference(expected, actual, digest) {
  if (actual === undefined || !(actual.data instanceof TYPES[expected.dtype])) return Infinity;
  if (`${actual.shape}` !== `${expected.shape}`) return Infinity;
  if ("sha256" in expected) {
    // A copy: what threads share cannot be hashed.
    const { buffer } = actual.data.slice();
    return (await digest(new Uint8Array(buffer))) === expected.sha256 ? 0 : Infinity;
  }
  if (expected.values.length !== actual.data.length) return Infinity;
  let most = 0;
  for (const [i, value] of expected.values.entries()) {
    const given = actual.data[i];
    if (value === null && Number.isNaN(given)) continue; // as PyTorch has it
    const apart = value === null ? Infinity : Math.abs(value - given);
    most = Math.max(most, Number.isNaN(apart) ? Infinity : apart);
  }
  return most;
}

// The largest difference of a tensor that passes; null of one that is told, and must be finite.
export function tolerance(parity, runtime, precision, tensor) {
  if (precision !== "fp32" && ANSWERED.some((name) => tensor.startsWith(name))) return null;
  const name = tensor.startsWith("severity_") ? "severity" : tensor;
  return TOLERATED.includes(name) ? parity[name] * asked(parity, runtime).looser : 0;
}

// What is asked of decisions: how many images may flip, and by how much probabilities may move.
export function allowance(parity, runtime, precision, images) {
  if (precision === "fp32") {
    const { flips } = asked(parity, runtime);
    return { flips: flips === "any" ? images : flips, meanShift: Infinity };
  }
  const [share, meanShift] = precision.startsWith("static_")
    ? [parity.quantised.drift, parity.quantised.mean_shift]
    : precision === "fp16"
      ? [parity.quantised.fp16_drift, parity.quantised.fp16_mean_shift]
      : [parity.quantised.weight_only_drift, parity.quantised.weight_only_mean_shift];
  return { flips: Math.floor(share * images), meanShift };
}

// What one image's tensors decide; values by name.
export function answer(values) {
  const severity = [...values.severity];
  const graded = severity.every((p) => p !== null && !Number.isNaN(p));
  return {
    label: largest(values.probabilities),
    diagnosis: values.diagnosis[0],
    accepted: values.accepted[0],
    reasons: values.reasons[0],
    severity: graded ? largest(severity) : null,
  };
}

function asked(parity, runtime) {
  return parity.runtimes?.[runtime] ?? { looser: 1, flips: 0 };
}
