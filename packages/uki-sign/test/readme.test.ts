import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as api from "../src/index.ts";
import { cliWorkspace } from "./support/cli.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

const SRC = new URL("../src/", import.meta.url);
const codes = readFileSync(new URL("errors.ts", SRC), "utf8").match(/(?<=\| ")UKI_SIGN_\w+(?=")/g) ?? [];

test("the README lists every error code, and no other", () => {
  expect(codes.length).toBeGreaterThan(20);
  const listed = [...readme.matchAll(/^\| `(UKI_SIGN_\w+)` /gm)].map(([, code]) => code);
  expect(listed.sort()).toEqual(codes.toSorted());
});

test("every error code is one that the package gives", () => {
  const names = readdirSync(SRC, { recursive: true, encoding: "utf8" });
  const sources = names.filter((name) => name.endsWith(".ts") && name !== "errors.ts");
  const given = sources.map((name) => readFileSync(new URL(name, SRC), "utf8")).join("\n");
  expect(codes.filter((code) => !given.includes(`"${code}"`))).toEqual([]);
});

test("the README names everything that is exported, and every limit with its value", () => {
  const values = new Map<string, unknown>(Object.entries(api));
  const names = [...values.keys()];
  expect(names.filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
  expect(readme.match(/^\| `DEFAULT_MAX_/gm)).toHaveLength(
    names.filter((name) => name.startsWith("DEFAULT_MAX_")).length,
  );
  const units: Record<string, number> = { MiB: 2 ** 20, KiB: 2 ** 10 };
  for (const [, name = "", count, unit = ""] of readme.matchAll(
    /^\| `(DEFAULT_MAX_\w+)`.* \| (\d+)(?: (\w+))? *\|$/gm,
  )) {
    expect([name, Number(count) * (units[unit] ?? 1)]).toEqual([name, values.get(name)]);
  }
});

test("the README's commands have only flags that there are", async () => {
  const [, block = ""] = /```sh\n(uki-sign keys generate .*?)```/s.exec(readme) ?? [];
  const lines = block
    .replaceAll(/\\\n\s*/g, "")
    .trim()
    .split("\n");
  expect(lines.length).toBeGreaterThan(14);
  const { run } = cliWorkspace({});
  for (const line of lines) {
    const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
    expect(words.shift()).toBe("uki-sign");
    // Most fail, for want of files, but none for being called wrongly.
    expect({ line, isUsage: (await run(...words)).exitCode === 2 }).toEqual({ line, isUsage: false });
  }
});
