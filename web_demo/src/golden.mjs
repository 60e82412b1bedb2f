// The self-test: golden images with PyTorch's outputs of every stage, replayed in this browser.

import { digest } from "./bundle.mjs";
import { allowance, answer, difference, tolerance } from "./compare.mjs";
import { BundleError } from "./errors.mjs";

const INDEX = "golden/golden.json";
const DECIDED = ["diagnosis", "severity"]; // they have no distance where the decision is another
const NEEDED = ["quality", "accepted", "reasons", "probabilities", "diagnosis"];
export const DECODING = "decoding";
// Of this browser: a golden PNG, decoded and framed, beside the bytes that were recorded.

// The cases of a bundle; none of one without golden vectors.
export async function cases(bundle) {
  if (!(INDEX in bundle.manifest.files)) return [];
  return JSON.parse(new TextDecoder().decode(await bundle.read(INDEX))).cases;
}

// Replay one case. look: from a PNG's bytes to the image as the stages take it, where there is a
// browser to decode it. Gives the difference of every tensor, and both answers.
export async function replay(pipeline, golden, look = null) {
  const { bundle } = pipeline.engine;
  const packed = await bundle.read(`golden/${golden.image}`);
  const data = await unpacked(packed);
  if ((await digest(data)) !== golden.sha256)
    throw new BundleError(`The image of golden case ${golden.name} is not the one recorded.`);
  const image = { data, shape: golden.shape };
  const { tensors } = await pipeline.run(image, {
    alsoGrade: bundle.manifest.stages.map((stage) => stage.diagnosis).filter(Boolean),
  });
  const differences = {};
  for (const name of NEEDED)
    if (!(name in golden.tensors)) throw new BundleError(`Golden case ${golden.name} lacks ${name}.`);
  for (const [name, expected] of Object.entries(golden.tensors))
    differences[name] = await difference(expected, tensors[name], digest);
  if (look !== null) {
    const seen = await look(await bundle.read(`golden/${golden.picture}`));
    differences[DECODING] = (await digest(seen.data)) === golden.sha256 ? 0 : Infinity;
  }
  const wanted = values(golden.tensors, (entry) => entry.values);
  const given = values(tensors, (entry) => entry.data);
  return {
    name: golden.name,
    differences,
    shift: Math.max(...wanted.probabilities.map((p, i) => Math.abs(p - given.probabilities[i]))),
    expected: answer(wanted),
    actual: answer(given),
  };
}

// Hold what was seen of all cases to the bundle's tolerances.
export function judge(parity, runtime, precision, seen) {
  const flipped = seen.filter(
    ({ expected, actual }) => JSON.stringify(expected) !== JSON.stringify(actual),
  );
  const found = new Map();
  for (const result of seen)
    for (const [tensor, apart] of Object.entries(result.differences)) {
      if (precision !== "fp32" && DECIDED.includes(tensor) && flipped.includes(result)) continue;
      const worst = found.get(tensor);
      if (worst === undefined || apart > worst.largest)
        found.set(tensor, { tensor, largest: apart, image: result.name });
    }
  const tensors = [...found.values()].map((row) => {
    const allowed = tolerance(parity, runtime, precision, row.tensor);
    const passed = allowed === null ? row.largest < Infinity : row.largest <= allowed;
    return { ...row, tolerance: allowed, passed };
  });
  const allowed = allowance(parity, runtime, precision, seen.length);
  const meanShift = seen.reduce((sum, { shift }) => sum + shift, 0) / seen.length;
  const decisions = {
    flipped: flipped.map(({ name }) => name),
    allowed: allowed.flips,
    meanShift,
    passed: flipped.length <= allowed.flips && meanShift <= allowed.meanShift,
  };
  const passed = seen.length > 0 && decisions.passed && tensors.every((row) => row.passed);
  return { images: seen.length, tensors, decisions, passed };
}

function values(entries, of) {
  const names = ["probabilities", "diagnosis", "accepted", "reasons", "severity"];
  return Object.fromEntries(names.map((name) => [name, Array.from(of(entries[name]))]));
}

async function unpacked(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new BundleError("A golden image cannot be unpacked. Export the bundle again.");
  }
}
