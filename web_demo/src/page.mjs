// The page: what happens when, from loading to an answer.

import "../release.js"; // self.RELEASE

import { Camera } from "./camera.mjs";
import { Client } from "./client.mjs";
import { decide } from "./decision.mjs";
import { control, keep } from "./offline.mjs";
import { coverage, draw, outline } from "./picture.mjs";
import * as reports from "./reports.mjs";
import * as result from "./result.mjs";
import { RUNTIMES } from "./runtimes.mjs";
import * as settings from "./settings.mjs";

const RELEASE = self.RELEASE;
const SCREEN_SCALE = 8; // pixels of the working size along a cell of the lesion mask
const REPEATS = 10;
const BUNDLE = new URL("../bundle/", import.meta.url).href;

const get = (id) => document.getElementById(id);
const say = (text) => (get("status").textContent = text);

let client = null;
let opened = null; // what the worker told of the bundle
let shown = null; // {rgb, mask} of the photo that is looked at
let timings = null;
let unsound = ""; // why answers are not to be relied on

const camera = new Camera(get("video"), async (bitmap) => {
  const quality = await client.ask("quality", { photo: bitmap }, undefined, [bitmap]);
  const { quality_measures: measures, quality_rules: rules } = opened.manifest;
  const decision = decide(quality, [0], measures, rules);
  if (camera.isOn) get("hint").textContent = result.hint(opened.manifest, decision);
});

function alarm(message) {
  get("alarm").textContent = message;
  get("alarm").hidden = !message;
}

function enable(able) {
  for (const id of ["camera", "choose", "selftest-run"]) get(id).disabled = !able;
  get("latency-run").disabled = !able || timings === null;
}

// Open the bundle in the runtime that was chosen, in a worker of its own.
async function open() {
  client?.close();
  opened = null;
  enable(false);
  alarm((unsound = ""));
  get("selftest-verdict").textContent = "";
  get("selftest-table").hidden = true;
  delete document.body.dataset.offline;
  const asked = (client = new Client());
  const progress = new Map();
  try {
    const given = await asked.ask(
      "open",
      {
        base: BUNDLE,
        trusted: RELEASE.trusted,
        released: RELEASE.files["bundle/manifest.json"].sha256,
        ...settings.chosen(),
      },
      ({ path, bytes }) => {
        progress.set(path, bytes);
        const loaded = [...progress.values()].reduce((sum, size) => sum + size, 0);
        say(`Loading and checking the bundle: ${(loaded / 1e6).toFixed(1)} MB`);
      },
    );
    if (asked !== client) return;
    opened = given;
    settings.offer(opened);
    reports.showAbout(opened, RELEASE);
    enable(true);
    say(`Ready after ${(opened.ms / 1000).toFixed(1)} s: every file in use matches its hash.`);
    document.body.dataset.state = "ready";
  } catch (error) {
    if (asked !== client) return;
    say("Nothing can be analysed.");
    alarm(error.message);
    document.body.dataset.state = "failed";
  }
}

// photo: a Blob or an ImageBitmap.
async function analyse(photo) {
  if (opened === null) return;
  const asked = client;
  alarm(unsound);
  result.clear(true);
  say("Analysing …");
  enable(false);
  get("photo-card").scrollIntoView(); // on a phone, with the answer's beginning below it
  try {
    const given = await asked.ask("analyse", { photo }, show);
    timings = given.timings;
    result.announce(opened.manifest, given);
    reports.showLatency(timings);
    say("Done.");
    document.body.dataset.answer = JSON.stringify(plainAnswer(given));
  } catch (error) {
    if (asked !== client) return;
    result.clear(false);
    say("No answer.");
    alarm(error.message);
  } finally {
    get("result").setAttribute("aria-busy", "false");
    enable(opened !== null);
  }
}

// A part of the answer, as it comes.
function show(part) {
  const { manifest } = opened;
  const { decision } = part;
  if (part.part === "frame") {
    shown = { rgb: part.rgb, mask: null };
    paint();
  } else if (part.part === "preliminary") {
    shown.mask = part.lesion_mask;
    result.showPreliminary(manifest, part.preliminary.data);
    paint();
  } else if (part.part === "diagnosis") {
    result.showDiagnosis(manifest, part.probabilities.data, decision);
    result.showQuality(manifest, decision);
  } else if (part.part === "severity") {
    result.showSeverity(manifest, part.severity.data, decision);
  }
}

function paint() {
  const { capture, working_size: size } = opened.manifest;
  const canvas = get("photo");
  const { rgb, mask } = shown;
  draw(canvas, rgb, capture);
  if (mask !== null && get("outline").checked) outline(canvas, mask, size, SCREEN_SCALE);
  get("outline-choice").hidden = mask === null;
  const share = mask === null ? "" : (100 * coverage(mask)).toFixed(0);
  const lesion = mask === null ? "" : `, of which ${share} % were taken for the lesion`;
  canvas.setAttribute("aria-label", `Your photo${lesion}`);
  canvas.hidden = false;
  get("empty").hidden = true;
}

// Full numbers, for who wants to compare them.
function plainAnswer({ decision, probabilities, severity, preliminary, quality, timings: ms }) {
  const list = (tensor) => (tensor ? Array.from(tensor.data) : null);
  return {
    ...decision,
    ...{ probabilities: list(probabilities), severity: list(severity) },
    ...{ preliminary: list(preliminary), quality: list(quality), timings: ms },
  };
}

async function selfTest() {
  const asked = client;
  get("selftest-run").disabled = true;
  try {
    const outcome = await reports.selfTest(asked, opened);
    if (asked !== client) return;
    if (outcome !== null && !outcome.passed)
      unsound =
        "The self-test failed: this browser does not compute what PyTorch does. " +
        "Do not rely on it; choose another runtime below.";
    alarm(unsound);
  } catch (error) {
    if (asked === client) alarm((unsound = `The self-test failed: ${error.message}`));
  } finally {
    get("selftest-run").disabled = opened === null;
  }
}

async function bench() {
  enable(false);
  try {
    const told = ({ done }) => say(`Timing: ${done} of ${REPEATS} runs`);
    reports.showLatency(timings, await client.ask("bench", { repeats: REPEATS }, told));
    say("Done.");
  } catch (error) {
    alarm(error.message);
  } finally {
    enable(opened !== null);
  }
}

async function useCamera() {
  if (camera.isOn) {
    closeCamera();
    return;
  }
  alarm(unsound);
  get("camera").disabled = true; // a second start would leave the first one's light on
  try {
    await camera.start();
    get("empty").hidden = get("photo").hidden = get("outline-choice").hidden = true;
    get("shutter").hidden = false;
    get("camera").textContent = "Close camera";
    get("camera").classList.remove("primary");
    get("shutter").focus();
  } catch (error) {
    alarm(error.message);
  } finally {
    get("camera").disabled = false;
  }
}

function closeCamera() {
  camera.stop();
  get("hint").textContent = "";
  get("shutter").hidden = true;
  get("camera").textContent = "Use camera";
  get("camera").classList.add("primary");
  get("photo").hidden = shown === null;
  get("outline-choice").hidden = !shown?.mask;
  get("empty").hidden = shown !== null;
  get("camera").focus();
}

async function shoot() {
  const bitmap = await camera.picture();
  if (bitmap === null) return;
  closeCamera();
  await analyse(bitmap);
}

function listen() {
  get("camera").addEventListener("click", useCamera);
  get("shutter").addEventListener("click", shoot);
  get("choose").addEventListener("click", () => get("file").click());
  get("file").addEventListener("change", () => {
    const [photo] = get("file").files;
    if (photo === undefined) return;
    if (camera.isOn) closeCamera();
    analyse(photo);
    get("file").value = ""; // the same photo may be chosen again
  });
  get("outline").addEventListener("change", paint);
  get("selftest-run").addEventListener("click", selfTest);
  get("latency-run").addEventListener("click", bench);
  const drop = get("drop");
  for (const event of ["dragover", "dragleave", "drop"])
    window.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      drop.classList.toggle("over", event === "dragover");
      const photo = event === "drop" ? dragged.dataTransfer.files[0] : undefined;
      if (photo === undefined || get("choose").disabled) return;
      if (camera.isOn) closeCamera();
      analyse(photo);
    });
  settings.listen(start);
}

// Open what was chosen, test it, and keep it.
async function start() {
  await open();
  if (opened === null) return;
  await selfTest();
  if (opened === null) return; // another was chosen meanwhile
  if (uncontrolled) say(`${get("status").textContent} It needs a network: ${uncontrolled}.`);
  else await keepForOffline().catch((error) => say(`It needs a network: ${error.message}.`));
}

// What was not needed yet: graders that were not routed to, golden images.
async function keepForOffline() {
  const rest = opened.paths.map((path) => `bundle/${path}`);
  const { folder } = RUNTIMES[opened.runtime];
  rest.push(`runtimes/${folder}/LICENSE.txt`);
  await keep(rest);
  say(`${get("status").textContent} It works without a network now.`);
  document.body.dataset.offline = "ready";
}

listen();
say("Preparing for use without a network …");
const uncontrolled = await control((update) => {
  get("update").addEventListener("click", update);
  get("newer").hidden = false;
});
await start();
