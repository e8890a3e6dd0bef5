import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import * as api from "../src/index.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");

describe("the README", () => {
  test("lists every function, class and constant", () => {
    expect(Object.keys(api).filter((name) => !readme.includes(name))).toEqual([]);
  });

  test("lists every error code, and no other", () => {
    const codes = (text: string): string[] => [...new Set(text.match(/\bEROFS_[A-Z_]+\b/g))].sort();
    const source = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
    expect(codes(readme)).toEqual(codes(source));
  });
});
