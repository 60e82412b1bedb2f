// Answers the page's questions, one after another. client.mjs asks them.

import { BundleError } from "./errors.mjs";
import { Bundle, reader } from "./bundle.mjs";
import { decode } from "./decode.mjs";
import { Engine } from "./engine.mjs";
import { frame } from "./frame.mjs";
import { cases, replay } from "./golden.mjs";
import { medians } from "./latency.mjs";
import { Pipeline } from "./pipeline.mjs";
import { opener, RUNTIMES } from "./runtimes.mjs";

let pipeline = null;
let last = null; // the image that was answered last, to be timed
let before = Promise.resolve();

// question: {id, ask, ...}. Posts {id, told} as parts come, then {id, given} or {id, error}.
export function answer({ id, ask, ...given }) {
  before = before.then(async () => {
    try {
      const told = (part) => postMessage({ id, told: part });
      postMessage({ id, given: await QUESTIONS[ask](given, told) });
    } catch (error) {
      // What WebAssembly throws need not be an Error.
      const message = error instanceof Error ? error.message : `${error}`;
      postMessage({ id, error: { name: error?.name ?? "Error", message } });
    }
  });
  return before;
}

const QUESTIONS = {
  // Open the bundle that lies below `base` in a runtime.
  async open({ base, trusted, released, runtime, precision, threads }, told) {
    const start = performance.now();
    const read = reader(base, (path, bytes) => told({ path, bytes }));
    const bundle = await Bundle.open(read, trusted);
    const { manifest, sha256, signedBy, isTrusted } = bundle;
    if (sha256 !== released)
      throw new BundleError("This is another bundle than the page was made with. Make the page again.");
    const offered = Object.fromEntries(
      Object.entries(RUNTIMES).map(([name, { format }]) => [name, bundle.precisions(format)]),
    );
    const chosen = choose(offered, runtime, precision);
    const open = await opener(chosen.runtime, threads);
    const { format } = RUNTIMES[chosen.runtime];
    const engine = new Engine(bundle, open, format, chosen.precision);
    await engine.warm();
    pipeline = new Pipeline(engine);
    const golden = await cases(bundle);
    const goldenPaths = Object.keys(manifest.files).filter((path) => path.startsWith("golden/"));
    return {
      ...{ manifest, sha256, signedBy, isTrusted, offered, ...chosen, threads },
      cases: golden.map(({ name }) => name),
      paths: [...bundle.modelPaths(format, chosen.precision), ...goldenPaths],
      ms: performance.now() - start,
    };
  },

  // photo: a Blob or an ImageBitmap. Tells quality, preliminary and diagnosis before it is done.
  async analyse({ photo }, told) {
    const { image, timings } = await look(photo);
    told({ part: "frame", rgb: image.rgb });
    last = { data: image.data, shape: image.shape };
    const result = await pipeline.run(last, {
      told: (part, tensors) => told({ part, ...plain(tensors) }),
    });
    const all = { ...timings, ...result.timings };
    return { ...plain(result.tensors), decision: result.decision, timings: all };
  },

  // What is wrong with a camera's picture, before it is taken.
  async quality({ photo }) {
    const { image } = await look(photo);
    return pipeline.quality({ data: image.data, shape: image.shape });
  },

  // The last image again, so many times after one to warm up.
  async bench({ repeats }, told) {
    const runs = [];
    for (let run = -1; run < repeats; run++) {
      const { timings } = await pipeline.run(last);
      if (run >= 0) runs.push(timings);
      told({ done: run + 1 });
    }
    return medians(runs);
  },

  // One golden case.
  async golden({ name }) {
    const golden = (await cases(pipeline.engine.bundle)).find((found) => found.name === name);
    return replay(pipeline, golden, async (png) => (await look(new Blob([png]))).image);
  },
};

// The runtime and precision that were asked for, where the bundle has them; else the first it has.
function choose(offered, runtime, precision) {
  const runtimes = Object.keys(offered).filter((name) => offered[name].length > 0);
  if (runtimes.length === 0)
    throw new Error("The bundle has its stages neither in ONNX nor in LiteRT. Export it again.");
  const name = runtimes.includes(runtime) ? runtime : runtimes[0];
  const precisions = offered[name];
  return { runtime: name, precision: precisions.includes(precision) ? precision : precisions[0] };
}

async function look(photo) {
  const { capture, fit } = pipeline.manifest;
  const start = performance.now();
  const picture = await decode(photo);
  try {
    const decoded = performance.now();
    const image = frame(picture, capture, fit);
    const framed = performance.now();
    return { image, timings: { decode: decoded - start, frame: framed - decoded } };
  } finally {
    picture.close();
  }
}

// What the page shows, copied out of the runtime's memory.
function plain(tensors) {
  const shown = ["quality", "preliminary", "lesion_mask", "probabilities", "severity"];
  const copies = shown
    .filter((name) => name in tensors)
    .map((name) => [name, { data: tensors[name].data.slice(), shape: [...tensors[name].shape] }]);
  return { ...Object.fromEntries(copies), decision: tensors.decision };
}
