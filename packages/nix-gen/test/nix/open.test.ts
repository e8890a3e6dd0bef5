import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openNix } from "../../src/index.ts";
import { isOlderNix } from "../../src/nix/open.ts";
import { asyncRefusal } from "../helpers/refusal.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "nix-gen-open-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A program that says it is some Nix. */
function says(line: string, status = 0): string {
  const program = join(mkdtempSync(join(directory, "p-")), "nix");
  writeFileSync(program, `#!/bin/sh\necho '${line}'\nexit ${status}\n`, { mode: 0o755 });
  return program;
}

const env = { PATH: "/usr/bin:/bin", HOME: "/home/some body" };

test.each([
  ["nix (Nix) 2.8.0", "2.8.0"],
  ["nix (Nix) 2.26.3", "2.26.3"],
  ["nix (Nix) 2.35.0pre20260101_abcdef", "2.35.0pre20260101_abcdef"],
  ["nix (Another Nix 3.6.2) 2.29.0", "2.29.0"],
])("takes the version of %j", async (line, version) => {
  expect((await openNix({ env, program: says(line) })).version).toBe(version);
});

test.each(["nix (Nix) 2.7.1", "nix (Nix) 1.11", "something else", ""])("refuses %j as too old", async (line) => {
  const error = await asyncRefusal(openNix({ env: { ...env, LEVERET_NIX: says(line) } }));
  expect(error.code).toBe("NIX_GEN_NIX_TOO_OLD");
  expect(error.hint).toContain("LEVERET_NIX");
});

test("says that the program is missing, or fails", async () => {
  const missing = await asyncRefusal(openNix({ env, program: join(directory, "none") }));
  expect([missing.code, missing.hint]).toEqual([
    "NIX_GEN_NO_NIX",
    expect.stringMatching(/apt-get install nix-bin.*LEVERET_NIX/),
  ]);
  expect((await asyncRefusal(openNix({ env, program: says("", 3) }))).code).toBe("NIX_GEN_NO_NIX");
});

test("names the program by a path that means the same in every directory", async () => {
  const program = says("nix (Nix) 2.8.0");
  const found = async (more: object): Promise<string> => (await openNix({ env: { ...env, ...more } })).program;
  expect(await found({ LEVERET_NIX: relative(process.cwd(), program) })).toBe(program);
  const empty = mkdtempSync(join(directory, "empty-"));
  mkdirSync(join(empty, "nix"));
  expect(await found({ PATH: `${empty}:${relative(process.cwd(), dirname(program))}:/usr/bin:/bin` })).toBe(program);
});

test("chooses the store: option, LEVERET_NIX_STORE, the user's cache", async () => {
  const program = says("nix (Nix) 2.8.0");
  const chosen = async (more: object, store?: string): Promise<string> =>
    (await openNix({ env: { ...env, ...more }, program, store })).store;
  expect(await chosen({ LEVERET_NIX_STORE: "local?root=/b" }, "local?root=/a")).toBe("local?root=/a");
  expect(await chosen({ LEVERET_NIX_STORE: "local?root=/b" })).toBe("local?root=/b");
  // The two that Nix itself takes for paths, which would mean another place in another directory.
  expect(await chosen({ LEVERET_NIX_STORE: "/a b?trusted=1" })).toBe("local?root=/a%20b&trusted=1");
  expect(await chosen({}, relative(process.cwd(), "/a/b"))).toBe("local?root=/a/b");
  const own = [await chosen({}), await chosen({ XDG_CACHE_HOME: "/c" })];
  // A machine with a daemon uses that.
  if (own[0] !== "daemon")
    expect(own).toEqual(["local?root=/home/some%20body/.cache/leveret/nix", "local?root=/c/leveret/nix"]);
});

test("finds the bytes of a store path under a private store's root", async () => {
  const program = says("nix (Nix) 2.8.0");
  const at = async (store: string): Promise<string> =>
    (await openNix({ env, program, store })).realPath("/nix/store/x");
  expect(await at("local?root=/a%20b")).toBe("/a b/nix/store/x");
  expect(await at("local?read-only=true&root=/c")).toBe("/c/nix/store/x");
  expect(await at("local://?root=/c")).toBe("/c/nix/store/x");
  expect(await at("/a b")).toBe("/a b/nix/store/x");
  expect(await at("daemon")).toBe("/nix/store/x");
  expect((await asyncRefusal(at("local?root=/%zz"))).code).toBe("NIX_GEN_BAD_OPTIONS");
});

test("gives each version the settings that it needs, and a daemon none of them", async () => {
  const settings = async (version: string, store = "local?root=/a"): Promise<string[]> =>
    ((await openNix({ env, program: says(`nix (Nix) ${version}`), store })).env.NIX_CONFIG ?? "").split("\n");
  expect(await settings("2.8.0")).not.toContain("build-hook =");
  expect(await settings("2.26.3")).toContain("build-hook =");
  for (const line of ["substituters =", "build-users-group =", "sandbox = true", "sandbox-paths ="]) {
    expect(await settings("2.8.0")).toContain(line);
  }
  expect(await settings("2.26.3", "daemon")).toEqual(["experimental-features = nix-command flakes"]);
});

test.each([
  ["2.8.0", "2.8", false],
  ["2.7.9", "2.8", true],
  ["2.26.3", "2.8", false],
  ["3.0", "2.26", false],
  ["1.99", "2.8", true],
])("%s is older than %s: %s", (version, than, older) => {
  expect(isOlderNix(version, than)).toBe(older);
});
