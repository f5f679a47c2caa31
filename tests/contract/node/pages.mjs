// Writes a page for docs/openapi.json (Redoc) and one for docs/asyncapi.yaml (AsyncAPI's React component).
//
// In: the folder of the descriptions, the folder of the pages. Out: api.html and events.html, each with all that it needs in
// itself: its Content-Security-Policy lets nothing be loaded from elsewhere.
import { mkdir, readFile, writeFile } from "node:fs/promises";

const [docs, to] = process.argv.slice(2);
const modules = new URL("./node_modules/", import.meta.url);
const library = async (path) => readFile(new URL(path, modules), "utf8");
// What ends a script would end it within a text, too.
const inScript = (text) => text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
const policy =
  "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; font-src data:; worker-src blob:";
const page = (title, style, scripts) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>body { margin: 0 } ${style}</style>
<div id="page"></div>
${scripts.map((script) => `<script>${inScript(script)}</script>`).join("\n")}
</html>
`;

await mkdir(to, { recursive: true });
const openapi = await readFile(`${docs}/openapi.json`, "utf8");
await writeFile(
  `${to}/api.html`,
  page("Orderflow: the API", "", [
    await library("redoc/bundles/redoc.standalone.js"),
    `Redoc.init(${openapi}, { disableSearch: true, hideDownloadButton: true }, document.getElementById("page"));`,
  ]),
);
const asyncapi = await readFile(`${docs}/asyncapi.yaml`, "utf8");
await writeFile(
  `${to}/events.html`,
  page("Orderflow: the events", await library("@asyncapi/react-component/styles/default.min.css"), [
    await library("@asyncapi/react-component/browser/standalone/index.js"),
    `AsyncApiStandalone.render({ schema: ${JSON.stringify(asyncapi)}, config: { show: { sidebar: true } } }, document.getElementById("page"));`,
  ]),
);
console.log(`${to}/api.html, ${to}/events.html`);
