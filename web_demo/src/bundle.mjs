// A bundle, read over a function that gives bytes: its manifest, seal and signature first, and no
// file before its hash was checked. Runs in a page, in a worker and in Node.

import { BundleError } from "./errors.mjs";
import { signer } from "./signature.mjs";

const SCHEMA_VERSION = 2;
const MOST_MANIFEST_BYTES = 16 * 2 ** 20;
const MOST_SIGNATURE_BYTES = 16 * 1024;
const SEAL_BYTES = 64;
const AGAIN = "Get the bundle again, or export it again.";

export class Bundle {
  // read: (path, most bytes) => Uint8Array, null where there is no such file.
  // trusted: public keys, base64 of their SubjectPublicKeyInfo; one of them must have signed it.
  static async open(read, trusted = []) {
    const data = await read("manifest.json", MOST_MANIFEST_BYTES);
    if (data === null) throw new BundleError("There is no manifest.json, so there is no bundle.");
    const sha256 = await digest(data);
    const seal = await read("manifest.json.sha256", 1024);
    if (seal === null || new TextDecoder().decode(seal.subarray(0, SEAL_BYTES)) !== sha256)
      throw new BundleError(
        `manifest.json was changed: its SHA-256 is not that in manifest.json.sha256. ${AGAIN}`,
      );
    const signature = await read("manifest.json.sig", MOST_SIGNATURE_BYTES);
    const signedBy = signature === null ? null : await signer(data, signature);
    if (trusted.length > 0 && !trusted.includes(signedBy))
      throw new BundleError(
        `The bundle is ${signedBy === null ? "not signed" : "signed by another key"}, and this ` +
          "page trusts the keys that it was made with alone. Get it from who holds one of them.",
      );
    return new Bundle(read, parsed(data), sha256, signedBy, trusted.length > 0);
  }

  constructor(read, manifest, sha256, signedBy, isTrusted) {
    this.manifest = manifest;
    this.sha256 = sha256; // of the manifest: the bundle's id
    this.signedBy = signedBy; // a public key, null of a bundle without signature
    this.isTrusted = isTrusted; // whether that key was asked for
    this.fetchBytes = read;
  }

  // A pinned file's bytes: the very ones that were hashed.
  async read(path) {
    const entry = this.manifest.files[path];
    if (entry === undefined) throw new BundleError(`The manifest pins no file ${path}.`);
    const data = await this.fetchBytes(path, entry.size_bytes);
    if (data === null) throw new BundleError(`${path} is missing. ${AGAIN}`);
    if (data.length !== entry.size_bytes)
      throw new BundleError(
        `${path} has ${data.length} bytes, and the manifest says ${entry.size_bytes}. ${AGAIN}`,
      );
    if ((await digest(data)) !== entry.sha256)
      throw new BundleError(`${path} was changed: its SHA-256 is not the manifest's. ${AGAIN}`);
    return data;
  }

  // The stages that run on every photo, in order.
  get unrouted() {
    return this.manifest.stages.filter((stage) => stage.kind !== "grade");
  }

  // The stage that grades a diagnosis, undefined of one that is not graded.
  grader(diagnosis) {
    return this.manifest.stages.find((stage) => stage.diagnosis === diagnosis);
  }

  // The file that holds a stage, and its entry point there.
  model(stage, format, precision) {
    const model = this.manifest.models.find(
      (file) => file.format === format && file.precision === precision && stage in file.entries,
    );
    if (model === undefined)
      throw new BundleError(`The bundle has no stage ${stage} in ${format} ${precision}.`);
    return { path: model.path, entry: model.entries[stage] };
  }

  // The files of the staged form in a format and precision.
  modelPaths(format, precision) {
    const paths = this.manifest.stages.map(({ name }) => this.model(name, format, precision).path);
    return [...new Set(paths)];
  }

  // The precisions in which a format has every stage.
  precisions(format) {
    const listed = this.manifest.models.filter((model) => model.format === format);
    return [...new Set(listed.map((model) => model.precision))].filter((precision) =>
      this.manifest.stages.every(({ name }) =>
        listed.some((model) => model.precision === precision && name in model.entries),
      ),
    );
  }
}

// Reads a bundle that lies below an address. told: (path, bytes so far), as they come.
export function reader(base, told = () => {}) {
  return async (path, most) => {
    const url = new URL(path.split("/").map(encodeURIComponent).join("/"), base);
    let response;
    try {
      response = await fetch(url);
    } catch {
      throw new BundleError(
        `${path} cannot be fetched. Without a network, only what was used before is there.`,
      );
    }
    if (response.status === 404) return null;
    if (!response.ok)
      throw new BundleError(`${path} cannot be fetched: the server says ${response.status}.`);
    const parts = [];
    let size = 0;
    for (const stream = response.body.getReader(); ; ) {
      const { done, value } = await stream.read();
      if (done) break;
      size += value.length;
      if (size > most) {
        await stream.cancel();
        throw new BundleError(`${path} has more than ${most} bytes. ${AGAIN}`);
      }
      parts.push(value);
      told(path, size);
    }
    const data = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      data.set(part, at);
      at += part.length;
    }
    return data;
  };
}

export async function digest(data) {
  if (globalThis.crypto?.subtle === undefined)
    throw new BundleError("Nothing can be checked here: open the page over https, or on localhost.");
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parsed(data) {
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch (error) {
    throw new BundleError(`manifest.json is not JSON: ${error.message}`);
  }
  const version = manifest?.schema_version;
  if (version !== SCHEMA_VERSION)
    throw new BundleError(
      `manifest.json has schema version ${version}, and this page reads ${SCHEMA_VERSION}. ` +
        "Export the bundle again, and the page with it.",
    );
  const wrong = problem(manifest);
  if (wrong) throw new BundleError(`manifest.json: ${wrong}. ${AGAIN}`);
  return manifest;
}

// The first thing that is wrong with a manifest. What follows relies on all of this.
function problem(manifest) {
  const { taxonomy, capture, stages, models, files, quality_rules: rules } = manifest;
  for (const name of ["taxonomy", "capture", "files", "parity"])
    if (typeof manifest[name] !== "object" || manifest[name] === null) return `it has no ${name}`;
  for (const name of ["stages", "models", "quality_rules", "quality_measures"])
    if (!Array.isArray(manifest[name])) return `it has no ${name}`;
  for (const name of ["disclaimer", "severity_notice", "weights_licence"])
    if (typeof manifest[name] !== "string") return `it has no ${name}`;
  if (!taxonomy.classes?.length || !taxonomy.severities?.length) return "it names no classes";
  if (!(capture.height > 0 && capture.width > 0)) return "its capture has no size";
  for (const kind of ["prepare", "classify"])
    if (!stages.some((stage) => stage.kind === kind)) return `no stage is of kind ${kind}`;
  for (const { measure, above, below } of rules) {
    if (!manifest.quality_measures.includes(measure)) return `rule on unknown measure ${measure}`;
    if (Number.isFinite(above) === Number.isFinite(below)) return `rule on ${measure} is no rule`;
  }
  for (const { path, entries, format, precision } of models) {
    if (!(path in files)) return `model ${path} has no hash under 'files'`;
    if (!entries || !format || !precision) return `model ${path} is not described`;
  }
  for (const [path, entry] of Object.entries(files)) {
    const steps = path.split("/");
    if (/[\\:]/.test(path) || steps.some((step) => ["", ".", ".."].includes(step)))
      return `file ${path} is not a plain relative path`;
    if (!/^[0-9a-f]{64}$/.test(entry?.sha256) || !(entry.size_bytes >= 0))
      return `file ${path} has no hash and size`;
  }
  return "";
}
