// The page's side of worker.mjs.

export class Client {
  constructor() {
    this.waiting = new Map();
    this.next = 0;
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.onmessage = ({ data }) => this.take(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.fail(`The worker failed: ${event.message || "it cannot be loaded. Reload the page."}`);
    };
  }

  // told: called with parts of the answer as they come.
  ask(question, given = {}, told = () => {}, transfer = []) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, told });
      this.worker.postMessage({ id, ask: question, ...given }, transfer);
    });
  }

  take({ id, told, given, error }) {
    const asked = this.waiting.get(id);
    if (asked === undefined) return;
    if (told !== undefined) {
      asked.told(told);
      return;
    }
    this.waiting.delete(id);
    if (error === undefined) asked.resolve(given);
    else asked.reject(Object.assign(new Error(error.message), { name: error.name }));
  }

  fail(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }

  // Its memory goes with it: a runtime is never unloaded otherwise.
  close() {
    this.worker.terminate();
    this.fail("The runtime was changed meanwhile.");
  }
}
