// LiteRT.js on the CPU: in a page, or in a worker that is no module, for it loads a script.

export const FORMAT = "litert";

// litert: the package; wasm: the folder of its scripts and .wasm.
// Gives (a model's bytes) => (entry, inputs, outputs' names) => outputs, arrays by name.
// An array is {data: TypedArray, shape: [number]}.
export function opener(litert, { threads = 1, wasm }) {
  let loaded;
  return async (model) => {
    await (loaded ??= load(litert, threads, wasm));
    // Throws where the model has an operator or an element type that LiteRT.js lacks.
    const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
    const compiled = await litert.loadAndCompile(model, options);
    return async (entry, inputs, outputs) => {
      const signature = compiled.signatures[entry];
      if (signature === undefined) {
        const held = Object.keys(compiled.signatures).join(", ");
        throw new Error(`LiteRT.js finds no signature ${entry}, only ${held}`);
      }
      // Tensors lie in WebAssembly's memory, which is not collected.
      const tensors = {};
      let given = {};
      try {
        for (const [name, { data, shape }] of Object.entries(inputs))
          tensors[name] = new litert.Tensor(data, shape);
        given = await signature.run(tensors);
        const arrays = {};
        for (const name of outputs) {
          if (!(name in given)) throw new Error(`signature ${entry} gives no ${name}`);
          arrays[name] = { data: await given[name].data(), shape: given[name].type.layout.dimensions };
        }
        return arrays;
      } finally {
        for (const tensor of [...Object.values(tensors), ...Object.values(given)]) tensor.delete();
      }
    };
  };
}

function load(litert, threads, wasm) {
  // In a worker its script cannot tell where it came from.
  if (typeof document === "undefined")
    self.Module = {
      locateFile: (name) => wasm + name,
      mainScriptUrlOrBlob: `${wasm}litert_wasm_threaded_internal.js`,
    };
  return litert.loadLiteRt(wasm, { threads: threads > 1 });
}
