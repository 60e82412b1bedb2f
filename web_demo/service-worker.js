// Keeps the page for when there is no network, and gives every answer the headers that isolate it.
//
// release.js lists the page's files with their SHA-256. A file is kept under its hash, so a new
// release fetches only what changed, and nothing is kept that is not what was released.

importScripts("release.js"); // self.RELEASE

const { files, shell, headers: isolating } = self.RELEASE;
const SCOPE = new URL("./", self.location).href;
const CACHE = "classkinfy";
const BUNDLE = "bundle/";

self.addEventListener("install", (event) => event.waitUntil(Promise.all(shell.map(kept))));

self.addEventListener("activate", (event) =>
  event.waitUntil(Promise.all([self.clients.claim(), forget()])),
);

self.addEventListener("message", ({ data }) => {
  if (data === "update") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { url, method } = event.request;
  if (method !== "GET" || !url.startsWith(SCOPE)) return;
  const address = new URL(url);
  const path = decodeURIComponent((address.origin + address.pathname).slice(SCOPE.length)) || "index.html";
  if (path in files) event.respondWith(answer(path));
  // It cannot list its own hash; the page gets the one that is in use here.
  else if (path === "release.js") event.respondWith(isolated(release()));
  // What is not listed is not of the bundle, with a network or without.
  else if (path.startsWith(BUNDLE)) event.respondWith(new Response("", { status: 404 }));
});

async function answer(path) {
  try {
    return isolated(await kept(path));
  } catch (error) {
    return new Response(error.message, { status: 503, statusText: "Not here" });
  }
}

// A file: kept, or fetched and kept. Where it is another than was released, it is not kept; and
// only a file of the bundle is handed on, for the page checks these itself and says what is wrong.
async function kept(path) {
  const cache = await caches.open(CACHE);
  const { sha256 } = files[path];
  const key = `${SCOPE}sha256/${sha256}`;
  const found = await cache.match(key);
  if (found !== undefined) return found;
  const url = SCOPE + path.split("/").map(encodeURIComponent).join("/");
  const response = await fetch(url, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${path} is not to be had: ${response.status}`);
  const data = await response.arrayBuffer();
  const kind = { "Content-Type": response.headers.get("Content-Type") ?? "application/octet-stream" };
  if ((await digest(data)) === sha256)
    // Where there is no room for it, it is fetched again.
    await cache.put(key, new Response(data, { headers: kind })).catch(() => {});
  else if (!path.startsWith(BUNDLE)) throw new Error(`${path} is not the file that was released`);
  return new Response(data, { headers: kind });
}

function release() {
  const headers = { "Content-Type": "text/javascript" };
  return new Response(`self.RELEASE = ${JSON.stringify(self.RELEASE)};`, { headers });
}

function isolated(response) {
  const all = new Headers(response.headers);
  for (const [name, value] of Object.entries(isolating)) all.set(name, value);
  return new Response(response.body, { status: response.status, headers: all });
}

// Remove what no file of this release is.
async function forget() {
  const cache = await caches.open(CACHE);
  const wanted = new Set(Object.values(files).map(({ sha256 }) => sha256));
  for (const request of await cache.keys())
    // Another page of this origin keeps its files in the same cache.
    if (request.url.startsWith(SCOPE) && !wanted.has(request.url.split("/").at(-1)))
      await cache.delete(request);
}

async function digest(data) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
