// Messages as worker.py writes and reads them, for Node and for the page: a line of JSON, then the
// bytes of the arrays that it lists. An array is {data: TypedArray, shape: [number]}.

// All that the contract has, and all that LiteRT.js has.
const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

function refused(name, dtype) {
  const known = Object.keys(TYPES).join(", ");
  return new TypeError(`${name} is ${dtype}, and a page is only given and asked for ${known}`);
}

// From the line that ends at `end`: the head, and its arrays with their sizes in bytes.
function parsed(bytes, end) {
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const arrays = head.arrays.map((array) => {
    const length = array.shape.reduce((product, side) => product * side, 1);
    // Also of a dtype that is refused: its name ends in bits, bool's does not.
    const bits = Number(array.dtype.match(/\d+$/)?.[0] ?? 8);
    return { ...array, length, size: (length * bits) / 8 };
  });
  return { head, arrays };
}

// How many bytes a message has, from its beginning; undefined while its line is not whole.
export function sizeOf(bytes) {
  const end = bytes.indexOf(10);
  if (end < 0) return undefined;
  return parsed(bytes, end).arrays.reduce((sum, array) => sum + array.size, end + 1);
}

// From a whole message to {head, arrays: {name: array}}.
export function decode(bytes) {
  let at = bytes.indexOf(10) + 1;
  const { head, arrays } = parsed(bytes, at - 1);
  const named = {};
  for (const { name, dtype, shape, length, size } of arrays) {
    if (!(dtype in TYPES)) throw refused(name, dtype);
    // A copy: where an array begins is no multiple of its elements' size.
    const copy = bytes.slice(at, at + size);
    named[name] = { data: new TYPES[dtype](copy.buffer, copy.byteOffset, length), shape };
    at += size;
  }
  return { head, arrays: named };
}

export function encode(head, arrays) {
  const listed = Object.entries(arrays).map(([name, { data, shape }]) => {
    const dtype = Object.keys(TYPES).find((known) => data instanceof TYPES[known]);
    if (dtype === undefined) throw refused(name, data.constructor.name);
    return { name, dtype, shape };
  });
  const line = new TextEncoder().encode(`${JSON.stringify({ ...head, arrays: listed })}\n`);
  const parts = [line];
  for (const { data } of Object.values(arrays))
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const message = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    message.set(part, at);
    at += part.length;
  }
  return message;
}
