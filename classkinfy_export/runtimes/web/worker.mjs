// Runs models for another process, in the messages of worker.py: a program of its own.
//
//     node worker.mjs LIBRARY FOLDER [CHROMIUM]
//
// LIBRARY is a module beside this one, FOLDER has the npm packages, CHROMIUM is a browser to run
// in, else they run here. Questions come on the standard input, with which it ends. Answers go to
// file descriptor 3: what libraries print is not an answer.

import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { answering } from "./answers.mjs";
import { start } from "./browser.mjs";
import { sizeOf } from "./messages.mjs";

const ANSWERS = 3;
const [library, folder, chromium] = process.argv.slice(2);

function end(reason) {
  console.error(reason);
  process.exit(1);
}

async function startHere() {
  const { PACKAGE, opener } = await import(`./${library}.mjs`);
  const found = createRequire(join(folder, "package.json"))(PACKAGE);
  return { answer: answering(opener(found)), close: async () => {} };
}

async function* questions(stream) {
  let chunks = [];
  let size = 0;
  let wanted;
  for await (const chunk of stream) {
    // No chunk is of two questions: the next one waits for the answer.
    chunks.push(chunk);
    size += chunk.length;
    wanted ??= sizeOf(Buffer.concat(chunks));
    if (wanted === undefined || size < wanted) continue;
    yield new Uint8Array(Buffer.concat(chunks));
    [chunks, size, wanted] = [[], 0, undefined];
  }
}

try {
  const { answer, close } = await (chromium ? start(library, folder, chromium, end) : startHere());
  for await (const question of questions(process.stdin)) {
    const given = await answer(question);
    for (let at = 0; at < given.length; ) at += writeSync(ANSWERS, given, at);
  }
  await close();
  process.exit(0);
} catch (error) {
  end(error.message);
}
