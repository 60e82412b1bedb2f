// The runtimes that a page has, the fastest first (benchmarks/web_page.md). A name is the one that
// the bundle's tolerances know it by.

const ROOT = new URL("../runtimes/", import.meta.url);

export const RUNTIMES = {
  "web-litert": {
    title: "LiteRT.js",
    format: "litert",
    folder: "litert",
    library: new URL("litert/index.js", ROOT).href,
    engine: new URL("engines/litert.mjs", import.meta.url).href,
  },
  "web-onnxruntime": {
    title: "ONNX Runtime Web",
    format: "onnx",
    folder: "onnxruntime-web",
    library: new URL("onnxruntime-web/ort.wasm.min.mjs", ROOT).href,
    engine: new URL("engines/onnxruntime.mjs", import.meta.url).href,
  },
};

// How a model's bytes are opened in a runtime. Its library is loaded now.
export async function opener(name, threads) {
  const { library, engine, folder } = RUNTIMES[name];
  const [lib, { opener: open }] = await Promise.all([import(library), import(engine)]);
  return open(lib.default ?? lib, { threads, wasm: new URL(`${folder}/`, ROOT).href });
}
