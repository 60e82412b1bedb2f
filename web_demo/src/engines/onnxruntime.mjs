// ONNX Runtime's WebAssembly, in a page, in a worker and in Node.

export const FORMAT = "onnx";

// ort: the package; wasm: the folder of its .wasm, undefined where it finds it by itself.
// Gives (a model's bytes) => (entry, inputs, outputs' names) => outputs, arrays by name.
// An array is {data: TypedArray, shape: [number]}.
export function opener(ort, { threads = 1, wasm } = {}) {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  if (wasm !== undefined) ort.env.wasm.wasmPaths = wasm;
  return async (model) => {
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    // A model has one entry.
    return async (entry, inputs, outputs) => {
      const feeds = {};
      for (const [name, { data, shape }] of Object.entries(inputs))
        feeds[name] = new ort.Tensor(data, shape);
      const given = await session.run(feeds, outputs);
      const arrays = {};
      for (const name of outputs) arrays[name] = { data: given[name].data, shape: given[name].dims };
      return arrays;
    };
  };
}
