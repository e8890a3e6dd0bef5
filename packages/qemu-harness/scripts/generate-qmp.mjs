// npm run generate: `src/qmp/generated` from `qmp-schema`. With QEMU programs as arguments, these are asked for their
// schemas first: npm run generate -- /usr/bin/qemu-system-x86_64
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { capture } from "./qmp/capture.mjs";
import { mergeSchemas } from "./qmp/merge.mjs";
import { nameTypes } from "./qmp/names.mjs";
import { renderSchema } from "./qmp/render-schema.mjs";
import { renderTypes } from "./qmp/render-types.mjs";

const CAPTURES = new URL("../qmp-schema/", import.meta.url);
const GENERATED = new URL("../src/qmp/generated/", import.meta.url);

/** The generated files of captures: name to text. */
export function generate(captures) {
  const schema = mergeSchemas(captures);
  const names = nameTypes(schema);
  return { "types.ts": renderTypes(schema, names), "schema.ts": renderSchema(schema, names) };
}

/** The checked-in captures, oldest version first. */
export function readCaptures() {
  return readdirSync(CAPTURES)
    .filter((file) => /^qemu-[\d.]+\.json$/.test(file))
    .map((file) => JSON.parse(readFileSync(new URL(file, CAPTURES), "utf8")))
    .sort((a, b) => a.version.localeCompare(b.version, "en", { numeric: true }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const program of process.argv.slice(2)) {
    const { file, text } = await capture(program);
    writeFileSync(new URL(file, CAPTURES), text);
  }
  for (const [file, text] of Object.entries(generate(readCaptures()))) writeFileSync(new URL(file, GENERATED), text);
}
