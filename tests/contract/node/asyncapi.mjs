// Checks docs/asyncapi.yaml with AsyncAPI's own parser.
//
// In: the file's path. Out: 0, or 1 and what is wrong with it.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], "utf8"));
const wrong = diagnostics.filter((one) => one.severity <= 1 && one.code !== "asyncapi-latest-version");
for (const one of wrong) console.error(`${one.path.join(".")}: ${one.message}`);
if (!document || wrong.length > 0) process.exit(1);
console.log(`${document.allMessages().length} messages, ${document.allOperations().length} operations: valid AsyncAPI`);
