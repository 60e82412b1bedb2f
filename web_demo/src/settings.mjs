// Which runtime, which precision, how many threads: remembered in this browser.

import { RUNTIMES } from "./runtimes.mjs";

const KEY = "classkinfy-choice";
const PRECISIONS = {
  fp32: "32-bit floats",
  fp16: "16-bit weights",
  weight_only_wi8_afp32: "8-bit weights",
  static_wi8_ai8: "8-bit weights and activations",
  static_wi8_ai8_se_fp32: "8-bit, excitation in floats",
};
const get = (id) => document.getElementById(id);

// What was chosen before: {runtime, precision, threads}.
export function chosen() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // What cannot be read counts as not chosen.
  }
  const threads = crossOriginIsolated ? Number(kept.threads) || 1 : 1;
  return { runtime: kept.runtime, precision: kept.precision, threads };
}

// Offer what the bundle has.
export function offer({ offered, runtime, precision, threads }) {
  const runtimes = Object.keys(offered).filter((name) => offered[name].length > 0);
  options("runtime", runtimes.map((name) => [name, RUNTIMES[name].title]), runtime);
  const precisions = offered[runtime].map((name) => [name, PRECISIONS[name] ?? name]);
  options("precision", precisions, precision);
  const most = crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  const counts = [...new Set([1, 2, 4, most])].filter((count) => count <= most);
  options("threads", counts.map((count) => [count, count]), threads);
  get("threads").disabled = !crossOriginIsolated;
  const name = `${RUNTIMES[runtime].title}, ${PRECISIONS[precision] ?? precision}`;
  get("running").textContent = `${name}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  const canReload = !crossOriginIsolated && navigator.serviceWorker?.controller != null;
  get("reload").hidden = !canReload;
  const needed = canReload
    ? ""
    : " It needs the headers COOP and COEP, which its service worker or its server adds.";
  get("isolation").textContent = crossOriginIsolated
    ? "The page is isolated, so it may use threads."
    : `The page is not isolated, so it computes on one thread.${needed}`;
}

// changed: called with nothing, when another is chosen.
export function listen(changed) {
  get("choices").addEventListener("change", () => {
    const choice = {
      runtime: get("runtime").value,
      precision: get("precision").value,
      threads: Number(get("threads").value),
    };
    localStorage.setItem(KEY, JSON.stringify(choice));
    changed();
  });
  get("choices").addEventListener("submit", (event) => event.preventDefault());
  get("reload").addEventListener("click", () => location.reload());
}

function options(id, pairs, value) {
  get(id).replaceChildren(...pairs.map(([name, title]) => new Option(title, name)));
  get(id).value = value;
}
