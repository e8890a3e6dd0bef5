import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EMPTY_FLAKE_LOCK, type FlakeLock, NixGenError, parseFlakeLock, renderFlakeLock } from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const narHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const LOCK: FlakeLock = {
  root: "root",
  nodes: {
    root: { inputs: { z: "z", a: ["z", "a"] } },
    z: {
      original: { type: "github", owner: "o", repo: "r" },
      locked: { type: "github", owner: "o", repo: "r", rev: "0", narHash, lastModified: 1_700_000_000 },
      flake: false,
    },
  },
};

test("the lock of a flake without inputs is what Nix writes", () => {
  expect(renderFlakeLock(EMPTY_FLAKE_LOCK)).toBe(
    '{\n  "nodes": {\n    "root": {}\n  },\n  "root": "root",\n  "version": 7\n}\n',
  );
});

test("keys come out sorted, and a second pass changes nothing", () => {
  const text = renderFlakeLock(LOCK);
  expect(text).toMatch(/"root": \{\n {6}"inputs": \{\n {8}"a": \[\n {10}"z",\n {10}"a"\n {8}\],\n {8}"z": "z"/);
  expect(parseFlakeLock(text)).toEqual(LOCK);
  expect(renderFlakeLock(parseFlakeLock(text))).toBe(text);
});

describe("bad locks", () => {
  const good = JSON.parse(renderFlakeLock(LOCK));
  test.each<[string, unknown, string | undefined]>([
    ["another version", { ...good, version: 6 }, "version"],
    ["no version", { nodes: {}, root: "root" }, "version"],
    ["no object", 5, "version"],
    ["an unknown key", { ...good, extra: 1 }, undefined],
    ["a node that zod would drop", { ...good, nodes: JSON.parse('{"root": {}, "__proto__": {}}') }, "nodes"],
    ["a root that isn't there", { ...good, root: "r" }, "root"],
    ["an input that isn't there", { ...good, nodes: { root: { inputs: { "a b": "x" } } } }, 'nodes.root.inputs["a b"]'],
    ["a node of the wrong shape", { ...good, nodes: { root: [] } }, "nodes.root"],
    [
      "a fetched node without narHash",
      { ...good, nodes: { root: {}, a: { locked: { type: "git" } } } },
      "nodes.a.locked",
    ],
  ])("refuses %s", (_what, value, path) => {
    refusal(() => parseFlakeLock(JSON.stringify(value)), "NIX_GEN_BAD_LOCK", path);
  });

  test("refuses every truncation, and lets nothing but its own error escape from any changed byte", () => {
    const text = renderFlakeLock(LOCK);
    for (let length = 0; length < text.trimEnd().length; length++) {
      refusal(() => parseFlakeLock(text.slice(0, length)), "NIX_GEN_BAD_LOCK");
    }
    for (let index = 0; index < text.length; index++) {
      const changed = `${text.slice(0, index)}${String.fromCharCode(text.charCodeAt(index) ^ 4)}${text.slice(index + 1)}`;
      expectOwnError(() => parseFlakeLock(changed));
    }
  });

  test("lets nothing but its own error escape from any JSON", () => {
    fc.assert(fc.property(fc.json(), (text) => expectOwnError(() => parseFlakeLock(text))));
  });
});

function expectOwnError(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(NixGenError);
  }
}
