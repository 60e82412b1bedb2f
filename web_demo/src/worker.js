// Where models run, so that the page stays responsive. It is no module, for LiteRT.js loads its
// script in a way that only such a worker has; all the rest are modules.

const loaded = import("./worker.mjs");
self.onmessage = async ({ data }) => (await loaded).answer(data);
