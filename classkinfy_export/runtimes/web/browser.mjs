// A page in headless Chromium that answers. What it needs is served on 127.0.0.1, and nothing else
// can be reached from it.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const KINDS = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};
const FLAGS = [
  ...["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  ...["--disable-component-update", "--disable-sync", "--no-proxy-server"],
  // Chromium itself would look for updates and the like.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
// A page without these rules could ask addresses, which no name stands for.
const POLICY = "default-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; img-src data:";
const START_MS = 120_000;

// folder: of npm packages; executable: Chromium's; ended: told why, when it ends by itself.
// Returns {answer, close}: answer is from a question to its answer, one at a time.
export async function start(library, folder, executable, ended) {
  let asked; // the page's request that waits for a question
  let answered; // takes the answer to the question before
  const ready = new Promise((resolve) => (answered = resolve));

  const secret = `/${randomUUID()}/`; // the port is open to every user of this machine
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://127.0.0.1");
    const path = pathname.startsWith(secret) ? pathname.slice(secret.length) : "";
    if (request.method === "POST" && path === "next") {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      asked = response;
      answered(Buffer.concat(chunks));
      return;
    }
    try {
      // Dots were taken from the path where it was parsed, and it is not decoded.
      const data = await readFile(join(path.startsWith("node_modules/") ? folder : HERE, path));
      // Not isolated, for a WebView's page never is: no threads.
      response.setHeader("Content-Security-Policy", POLICY);
      response.setHeader("Content-Type", KINDS[extname(path)] ?? "application/octet-stream");
      response.end(data);
    } catch (error) {
      console.error(`${request.method} ${path}: ${error.message}`);
      response.writeHead(404).end();
    }
  });
  server.requestTimeout = server.keepAliveTimeout = 0; // the next question may be long in coming
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

  const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");
  const browser = await chromium.launch({
    executablePath: executable,
    args: FLAGS,
    // What it keeps in a home goes with the folder that it was given for temporary files.
    env: { ...process.env, HOME: process.env.TMPDIR },
  });
  const closed = () => ended("Chromium ended");
  browser.on("disconnected", closed);
  const page = await browser.newPage();
  page.on("crash", () => ended("the page crashed"));
  page.on("pageerror", (error) => ended(`the page failed: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  const late = setTimeout(() => ended(`no page after ${START_MS / 1000} s`), START_MS);
  const url = `http://127.0.0.1:${server.address().port}${secret}page.html?library=${library}`;
  await page.goto(url, { waitUntil: "commit" });
  await ready;
  clearTimeout(late);

  const answer = (message) => {
    const given = new Promise((resolve) => (answered = resolve));
    asked.end(message);
    return given;
  };
  const close = async () => {
    browser.off("disconnected", closed);
    await browser.close();
  };
  return { answer, close };
}
