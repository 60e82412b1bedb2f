// Writes answers into the page: each part as it comes.

import { largest } from "./decision.mjs";
import { brokenRules } from "./pipeline.mjs";

const HINTS = {
  hair: ["Much hair covers the skin", "part it, or move to a barer spot"],
  blurred: ["The photo is blurred", "hold still, and tap to focus"],
  underexposed: ["The photo is dark", "find more light"],
  overexposed: ["Parts of the photo are washed out", "avoid glare and direct light"],
};
const PARTS = ["preliminary", "diagnosis", "severity", "quality"];

const get = (id) => document.getElementById(id);

export function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

export function clear(busy) {
  for (const part of PARTS) get(part).hidden = true;
  get("nothing").hidden = busy;
  get("announcement").textContent = "";
  get("result").setAttribute("aria-busy", busy);
}

// values: Float32Array, one for each class.
export function showPreliminary(manifest, values) {
  const { classes, names } = manifest.taxonomy;
  const place = largest(values);
  get("preliminary-name").textContent = names[classes[place]] ?? classes[place];
  get("preliminary-share").textContent = percent(values[place]);
  get("preliminary").hidden = false;
}

export function showDiagnosis(manifest, values, decision) {
  const { classes, names, malignant } = manifest.taxonomy;
  const place = largest(values);
  const title = names[classes[place]] ?? classes[place];
  get("diagnosis-name").textContent = decision.accepted ? title : "Refused";
  get("diagnosis-share").textContent = decision.accepted ? percent(values[place]) : "";
  get("diagnosis-side").textContent = decision.accepted
    ? malignant.includes(classes[place]) ? "On the malignant side." : "On the benign side."
    : "The photo breaks a rule that refuses it. What the network gave is below all the same.";
  const order = [...values.keys()].sort((a, b) => values[b] - values[a]);
  const rows = order.map((i) => ({
    name: names[classes[i]] ?? classes[i],
    note: malignant.includes(classes[i]) ? "malignant side" : "",
    share: values[i],
    first: i === place,
  }));
  bars(get("probabilities"), rows);
  get("diagnosis").hidden = false;
}

export function showSeverity(manifest, values, decision) {
  const { severities, classes } = manifest.taxonomy;
  const graded = values.every(Number.isFinite);
  const place = largest(values);
  get("severity-name").textContent = graded ? severities[place] : "Not graded";
  const rows = severities.map((name, i) => ({ name, note: "", share: values[i], first: i === place }));
  bars(get("severities"), graded ? rows : []);
  const why = decision.accepted
    ? `This class (${classes[decision.diagnosis]}) has no grader. `
    : "A refused photo is not graded. ";
  get("severity-notice").textContent = (graded ? "" : why) + manifest.severity_notice;
  get("severity").hidden = false;
}

export function showQuality(manifest, decision) {
  const broken = brokenRules(manifest, decision.reasons);
  const refused = ({ effect }) => (effect === "refuse" ? " It is refused for that." : "");
  const rows = broken.map((rule) => remark(rule) + refused(rule));
  fill(get("reasons"), rows.length > 0 ? rows : ["No remarks: sharp enough, well lit, little hair."]);
  get("reasons").classList.toggle("remarks", rows.length > 0);
  get("quality").hidden = false;
}

// What is wrong with a preview, in a few words.
export function hint(manifest, decision) {
  const broken = brokenRules(manifest, decision.reasons);
  return broken.length > 0 ? broken.map(remark).join(" ") : "Looks good: hold still and take it.";
}

export function announce(manifest, given) {
  const { classes, names, severities } = manifest.taxonomy;
  const { accepted, diagnosis } = given.decision;
  const severity = given.severity.data;
  const grade = severity.every(Number.isFinite)
    ? ` Severity, a proxy grade: ${severities[largest(severity)]}.`
    : "";
  const title = accepted ? (names[classes[diagnosis]] ?? classes[diagnosis]) : "";
  const share = accepted ? percent(given.probabilities.data[diagnosis]) : "";
  get("announcement").textContent = accepted
    ? `Most likely class: ${title}, ${share}.${grade} ${manifest.disclaimer}`
    : `The photo is refused: ${hint(manifest, given.decision)}`;
}

export function fill(list, texts) {
  list.replaceChildren(
    ...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
}

// rows: {name, note, share, first}.
function bars(list, rows) {
  list.replaceChildren(
    ...rows.map(({ name, note, share, first }) => {
      const row = document.createElement("li");
      row.classList.toggle("first", first);
      const label = document.createElement("span");
      label.className = "name";
      label.textContent = name;
      if (note) {
        const small = document.createElement("span");
        small.className = "note";
        small.textContent = note;
        label.append(" ", small);
      }
      const number = Object.assign(document.createElement("span"), {
        className: "number",
        textContent: percent(share),
      });
      const bar = document.createElement("span");
      bar.className = "bar";
      bar.style.setProperty("--share", share);
      row.append(label, number, bar);
      return row;
    }),
  );
}

function remark({ reason }) {
  const [what, advice] = HINTS[reason] ?? [`Quality: ${reason}`, "take it again"];
  return `${what}: ${advice}.`;
}
