// ONNX Runtime's WebAssembly, the same in Node and in a page.

export const PACKAGE = "onnxruntime-web";

// ort: the package. A model has one entry.
export function opener(ort) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return async (model) => {
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
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
