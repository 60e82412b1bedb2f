// What the page tells of itself: self-test, latency, bundle.

import { judge } from "./golden.mjs";
import { total } from "./latency.mjs";
import { RUNTIMES } from "./runtimes.mjs";

const get = (id) => document.getElementById(id);

// Replay every golden case, one question each, so that a photo does not wait for them all.
// Gives the outcome, or null without golden vectors.
export async function selfTest(client, opened) {
  const { manifest, runtime, precision, cases } = opened;
  if (cases.length === 0) {
    get("selftest-verdict").textContent = "The bundle holds no golden vectors.";
    return null;
  }
  const seen = [];
  for (const name of cases) {
    get("selftest-verdict").textContent = `Running: ${seen.length} of ${cases.length}`;
    seen.push(await client.ask("golden", { name }));
  }
  const outcome = judge(manifest.parity, runtime, precision, seen);
  showSelfTest(outcome);
  return outcome;
}

function showSelfTest({ images, tensors, decisions, passed }) {
  const failed = tensors.filter((row) => !row.passed).map((row) => row.tensor);
  const of = `${images} images, ${decisions.flipped.length} with another decision than PyTorch's`;
  get("selftest-verdict").textContent = passed
    ? `✓ Passed: ${of}`
    : `✗ Failed: ${of}${failed.length > 0 ? `; out of tolerance: ${failed.join(", ")}` : ""}`;
  const rows = tensors.map(({ tensor, largest, tolerance, passed: holds }) => [
    tensor,
    largest === Infinity ? "not equal" : number(largest),
    tolerance === null ? "told only" : tolerance === 0 ? "equal" : number(tolerance),
    holds ? "✓ yes" : "✗ no",
  ]);
  table("selftest-table", rows, [1, 2]);
}

// timings: of one run; medians: of many, where they were taken.
export function showLatency(timings, medians = null) {
  get("latency-total").textContent =
    `${total(timings).toFixed(0)} ms for this photo` +
    (medians === null ? "" : `; median without decoding ${medians.total.toFixed(0)} ms`);
  const rows = Object.entries(timings).map(([stage, ms]) => [
    stage,
    ms.toFixed(1),
    medians?.stages[stage]?.toFixed(1) ?? "–",
  ]);
  rows.push(["all", total(timings).toFixed(1), medians?.total.toFixed(1) ?? "–"]);
  table("latency-table", rows, [1, 2]);
}

export function showAbout(opened, release) {
  const { manifest, sha256, signedBy, isTrusted, runtime } = opened;
  const signature =
    signedBy === null
      ? "Not signed"
      : isTrusted
        ? "Signed by a key that this page trusts"
        : "Signed, and the signature holds; this page does not know the signer";
  const facts = [
    ["Bundle", `${manifest.name}, made by Classkinfy Export ${manifest.provenance.toolkit}`],
    ["SHA-256 of its manifest", sha256],
    ["Signature", signature],
    ["Licence of the weights", manifest.weights_licence],
    ["Runtime", `${RUNTIMES[runtime].title} ${release.runtimes[RUNTIMES[runtime].folder]}`],
    ["Photos", "Decoded, analysed and forgotten in this tab. Nothing is uploaded."],
  ];
  get("facts").replaceChildren(
    ...facts.flatMap(([term, text]) => [
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: text }),
    ]),
  );
  get("licence").textContent = `Weights: ${manifest.weights_licence}.`;
  get("disclaimer").textContent = manifest.disclaimer;
}

// rows: of texts, whose first is a head; numbers: which columns hold some.
function table(id, rows, numbers) {
  const body = rows.map((texts) => {
    const row = document.createElement("tr");
    row.append(
      ...texts.map((text, column) => {
        const cell = document.createElement(column === 0 ? "th" : "td");
        if (column === 0) cell.scope = "row";
        if (numbers.includes(column)) cell.className = "number";
        cell.textContent = text;
        return cell;
      }),
    );
    return row;
  });
  get(id).tBodies[0].replaceChildren(...body);
  get(id).hidden = false;
}

function number(value) {
  return value === 0 ? "0" : value.toExponential(1);
}
