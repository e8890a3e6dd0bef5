import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { description as describedDisk } from "../src/commands/description.ts";
import * as api from "../src/index.ts";

const SRC = new URL("../src/", import.meta.url);
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const errors = readFileSync(new URL("errors.ts", SRC), "utf8");
const codesIn = (text: string): string[] => [...new Set(text.match(/\bDISK_[A-Z_]+\b/g))].sort();

describe("the README", () => {
  test("says what every key of a description is", () => {
    const named = [...readme.matchAll(/^\| `((?:partitions\[\]\.)?[a-zA-Z.]+)` \|/gm)].map(([, key = ""]) => key);
    const partition = describedDisk.shape.partitions.element.shape;
    const fat = partition.fat.unwrap().shape;
    const keys = [
      ...Object.keys(describedDisk.shape).filter((key) => key !== "partitions"),
      ...Object.keys(partition)
        .filter((key) => key !== "fat")
        .map((key) => `partitions[].${key}`),
      ...Object.keys(fat).map((key) => `partitions[].fat.${key}`),
    ];
    expect(named).toEqual(expect.arrayContaining(keys));
    expect(named.filter((key) => key.startsWith("partitions[]")).sort()).toEqual(
      keys.filter((key) => key.startsWith("partitions[]")).sort(),
    );
    for (const attribute of partition.attributes.unwrap().element.options) expect(readme).toContain(`\`${attribute}\``);
  });

  test("lists every function, class and constant", () => {
    expect(Object.keys(api).filter((name) => !readme.includes(name))).toEqual([]);
  });

  test("lists every error code, and no other", () => {
    expect(codesIn(readme)).toEqual(codesIn(errors));
  });
});

test("every error code is one that the package gives", () => {
  const names = readdirSync(SRC, { recursive: true, encoding: "utf8" });
  const sources = names.filter((name) => name.endsWith(".ts") && name !== "errors.ts");
  const given = sources.map((name) => readFileSync(new URL(name, SRC), "utf8")).join("\n");
  expect(codesIn(errors).filter((code) => !given.includes(`"${code}"`))).toEqual([]);
});
