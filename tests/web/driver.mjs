// Drives Chromium for a Python process: a line of JSON asks, a line of JSON answers.
//
//     node driver.mjs FOLDER CHROMIUM
//
// FOLDER has playwright-core. A question is {run: body of an async function, given: {...}}; in the
// body `page`, `context`, `browser`, `given` and `seen` are at hand. `seen` lists the requests and
// the errors so far; {context: {...}} instead begins anew with these options.

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [folder, executablePath] = process.argv.slice(2);
const { chromium, devices } = createRequire(join(folder, "package.json"))("playwright-core");
const browser = await chromium.launch({
  executablePath,
  args: [
    ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
    ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ...["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
    ...["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
  ],
  env: { ...process.env, HOME: process.env.TMPDIR },
});
const AsyncFunction = (async () => {}).constructor;
let context, page, seen;

async function begin(options) {
  await context?.close();
  context = await browser.newContext({ ...devices["Pixel 7"], ...options });
  page = await context.newPage();
  seen = { requests: [], errors: [] };
  context.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.errors.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.setDefaultTimeout(60_000);
  return null;
}

async function run(body, given) {
  const names = ["page", "context", "browser", "given", "seen"];
  return new AsyncFunction(...names, body)(page, context, browser, given, seen);
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    const given = question.context ? await begin(question.context) : await run(question.run, question.given);
    answer = { given: given ?? null };
  } catch (error) {
    answer = { error: `${error.stack ?? error}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
process.exit(0);
