// From a question to its answer, both messages, wherever the models run.

import { decode, encode } from "./messages.mjs";

// open: from a model's bytes to (entry, inputs, names of outputs) => outputs, arrays by name.
export function answering(open) {
  const models = new Map();
  return async (message) => {
    try {
      const { head, arrays } = decode(message);
      if ("open" in head) {
        models.set(head.open, await open(arrays.model.data));
        return encode({}, {});
      }
      return encode({}, await models.get(head.run)(head.entry, arrays, head.outputs));
    } catch (error) {
      // Said where it was asked. What WebAssembly throws need not be an Error.
      return encode({ error: error instanceof Error ? `${error}` : `it threw ${error}` }, {});
    }
  };
}
