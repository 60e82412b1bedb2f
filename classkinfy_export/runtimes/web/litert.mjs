// LiteRT.js on the CPU, which needs a document: in a page only.

export const PACKAGE = "@litertjs/core";
const WASM = "node_modules/@litertjs/core/wasm/";

// litert: the package. An entry is a signature of the model's.
export function opener(litert) {
  let loaded;
  return async (model) => {
    await (loaded ??= litert.loadLiteRt(WASM)); // on one thread
    // Throws where the model has an operator or an element type that LiteRT.js lacks.
    const compiled = await litert.loadAndCompile(model, { accelerator: "wasm" });
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
