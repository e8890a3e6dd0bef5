import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const { generate, readCaptures } = (await import(new URL("../scripts/generate-qmp.mjs", import.meta.url).href)) as {
  generate: (captures: readonly object[]) => Record<string, string>;
  readCaptures: () => readonly { version: string }[];
};

test("what is checked in is what `npm run generate` makes of the captures", () => {
  const captures = readCaptures();
  expect(captures.map(({ version }) => version)).toEqual(["7.2", "10.0", "11.1"]);
  for (const [file, text] of Object.entries(generate(captures))) {
    const path = new URL(`../src/qmp/generated/${file}`, import.meta.url);
    expect(readFileSync(path, "utf8") === text, `${file} is what the generator makes; run npm run generate`).toBe(true);
  }
});

test("a command of one version, and what a version lacks, are there for all", () => {
  const [oldest] = readCaptures();
  const { "types.ts": types = "" } = generate(oldest === undefined ? [] : [oldest]);
  expect(types).toContain('"x-query-profile": {');
  expect(types).not.toMatch(/since|until/);
});
