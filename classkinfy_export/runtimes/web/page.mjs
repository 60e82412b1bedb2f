// Runs models in the page, which asks browser.mjs for questions and posts it the answers.

import { answering } from "./answers.mjs";

const library = new URLSearchParams(location.search).get("library");
const { PACKAGE, opener } = await import(`./${library}.mjs`);
const answer = answering(opener(await import(PACKAGE)));
let given = null;
for (;;) {
  const response = await fetch("next", { method: "POST", body: given });
  given = await answer(new Uint8Array(await response.arrayBuffer()));
}
