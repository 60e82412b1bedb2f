// A photo to an answer: stages run in order, then only the routed grader. The twin of
// classkinfy_export/runtimes/session.py, staged form.

import { decide, largest, UNDECIDED } from "./decision.mjs";
import { BundleError } from "./errors.mjs";

export class Pipeline {
  constructor(engine) {
    this.engine = engine;
    this.manifest = engine.bundle.manifest;
  }

  // image: {data, shape}. told: (part, tensors) as they come: quality, preliminary, diagnosis,
  // severity. Gives every tensor by name, `decision` beside them, and the stages' milliseconds.
  async run(image, { told = () => {}, alsoGrade = [] } = {}) {
    const tensors = { image };
    const timings = {};
    for (const stage of this.engine.bundle.unrouted) {
      Object.assign(tensors, await this.timed(stage, tensors, timings));
      if (stage.kind === "prepare") told("quality", tensors);
      if (stage.kind === "screen") told("preliminary", tensors);
    }
    this.checkFinite(tensors);
    const { taxonomy, quality_measures: measures, quality_rules: rules } = this.manifest;
    const decision = decide(tensors.quality.data, tensors.probabilities.data, measures, rules);
    told("diagnosis", { ...tensors, decision });
    const routed = decision.diagnosis === UNDECIDED ? null : taxonomy.classes[decision.diagnosis];
    let severity = new Float32Array(taxonomy.severities.length).fill(NaN);
    for (const dx of new Set([routed, ...alsoGrade])) {
      const stage = dx === null ? undefined : this.engine.bundle.grader(dx);
      if (stage === undefined) continue;
      const given = (await this.timed(stage, tensors, timings)).severity;
      this.checkGrade(stage, given.data);
      tensors[`severity_${dx}`] = given;
      if (dx === routed) severity = given.data;
    }
    tensors.severity = { data: severity, shape: [1, severity.length] };
    told("severity", { ...tensors, decision });
    delete tensors.image;
    return { tensors: { ...tensors, ...asTensors(decision) }, decision, timings };
  }

  // What is known of a preview frame: its measures alone.
  async quality(image) {
    const stage = this.engine.bundle.unrouted.find(({ kind }) => kind === "prepare");
    return (await this.timed(stage, { image }, {})).quality.data;
  }

  async timed(stage, tensors, timings) {
    const start = performance.now();
    const outputs = await this.engine.run(stage, tensors);
    timings[stage.name] = performance.now() - start;
    return outputs;
  }

  // No answer without probabilities. The first tensor that is to blame is named.
  checkFinite(tensors) {
    const decided = [tensors.probabilities, tensors.quality]; // what is decided by
    if (decided.every(({ data }) => data.every(Number.isFinite))) return;
    for (const stage of this.manifest.stages)
      for (const { name } of stage.outputs)
        if (tensors[name] && !tensors[name].data.every(Number.isFinite))
          throw this.notFinite(stage, name, tensors[name].data);
  }

  checkGrade(stage, severity) {
    if (!severity.every(Number.isFinite)) throw this.notFinite(stage, "severity", severity);
  }

  notFinite(stage, tensor, values) {
    const lost = values.filter((value) => !Number.isFinite(value)).length;
    return new BundleError(
      `Stage ${stage.name} gives ${lost} of ${values.length} values of ${tensor} as NaN or ` +
        `infinity in ${this.engine.format} ${this.engine.precision}, so there is no answer. ` +
        "Try another runtime or precision.",
    );
  }
}

// Give names to what `run` returned.
export function interpret(manifest, { tensors, decision }) {
  const { classes, severities } = manifest.taxonomy;
  const severity = tensors.severity.data;
  const graded = severity.every(Number.isFinite);
  return {
    accepted: decision.accepted,
    reasons: brokenRules(manifest, decision.reasons).map(({ reason }) => reason),
    quality: named(manifest.quality_measures, tensors.quality.data),
    diagnosis: decision.diagnosis === UNDECIDED ? null : classes[decision.diagnosis],
    confidence: decision.confidence,
    probabilities: named(classes, tensors.probabilities.data),
    preliminary: tensors.preliminary ? named(classes, tensors.preliminary.data) : null,
    severity: graded ? severities[largest(severity)] : null,
    severity_probabilities: graded ? named(severities, severity) : null,
  };
}

export function brokenRules(manifest, reasons) {
  return manifest.quality_rules.filter((_, bit) => (reasons >> bit) & 1);
}

export function named(names, values) {
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

function asTensors({ accepted, reasons, diagnosis, confidence }) {
  const one = (data) => ({ data, shape: [1] });
  return {
    accepted: one(Int32Array.of(accepted)),
    reasons: one(Int32Array.of(reasons)),
    diagnosis: one(Int32Array.of(diagnosis)),
    confidence: one(Float32Array.of(confidence)),
  };
}
