// The stages of a bundle in a runtime. A model file is read, hashed and opened when a stage of it
// first runs.

export class Engine {
  // open: of an engines/*.mjs.
  constructor(bundle, open, format, precision) {
    this.bundle = bundle;
    this.format = format;
    this.precision = precision;
    this.open = open;
    this.opened = new Map();
  }

  // stage: of the manifest; tensors: at least its inputs. Gives its outputs by name.
  async run(stage, tensors) {
    const { path, entry } = this.bundle.model(stage.name, this.format, this.precision);
    const run = await this.file(path);
    const inputs = Object.fromEntries(stage.inputs.map(({ name }) => [name, tensors[name]]));
    return run(entry, inputs, stage.outputs.map(({ name }) => name));
  }

  // Open what runs on every photo, so that the first does not wait for it.
  async warm() {
    for (const { name } of this.bundle.unrouted)
      await this.file(this.bundle.model(name, this.format, this.precision).path);
  }

  async file(path) {
    if (!this.opened.has(path)) this.opened.set(path, await this.open(await this.bundle.read(path)));
    return this.opened.get(path);
  }
}
