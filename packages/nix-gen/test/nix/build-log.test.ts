import { expect, test } from "vitest";
import type { ProgressEvent } from "../../src/index.ts";
import { buildError } from "../../src/nix/build-error.ts";
import { type BuildFailure, BuildLog } from "../../src/nix/build-log.ts";
import type { Nix } from "../../src/nix/open.ts";

const HASH = "0".repeat(32);
const drv = (name: string): string => `/nix/store/${HASH}-${name}.drv`;
const start = (id: number, name: string) => ({ kind: "start", id, activity: "build", subject: drv(name) }) as const;

function follow(events: readonly Parameters<BuildLog["see"]>[0][], downloads: Record<string, number> = {}) {
  const seen: ProgressEvent[] = [];
  const expected = Object.entries(downloads).map(([name, sizeBytes]) => ({
    storePath: `/nix/store/${HASH}-${name}`,
    sizeBytes,
  }));
  const log = new BuildLog(expected, (event) => seen.push(event));
  for (const event of events) log.see(event);
  return { seen, log };
}

test("counts downloads and their bytes while they run, and never more than there are", () => {
  const { seen } = follow(
    [
      start(1, "a.deb"),
      { kind: "start", id: 2, activity: "transfer", subject: "http://m/a.deb" },
      { kind: "progress", id: 2, done: 30, expected: 100 },
      // Another try begins at its beginning.
      { kind: "progress", id: 2, done: 10, expected: 100 },
      { kind: "progress", id: 2, done: 120, expected: 100 },
      { kind: "stop", id: 2 },
      { kind: "stop", id: 1 },
    ],
    { "a.deb": 100, "b.deb": 50 },
  );
  expect(seen.map(({ done, doneBytes }) => [done, doneBytes])).toEqual([
    [0, 0],
    [0, 0],
    [0, 30],
    [0, 120],
    [0, 120],
    [1, 120],
  ]);
  expect(seen[0]).toEqual({
    step: "downloading packages",
    item: "a.deb",
    done: 0,
    total: 2,
    doneBytes: 0,
    totalBytes: 150,
  });
});

test("shows the build that began first until it ends, whatever runs beside it", () => {
  const { seen } = follow([
    start(1, "one"),
    start(2, "two"),
    { kind: "line", id: 2, text: "beside" },
    { kind: "line", id: 1, text: "first" },
    { kind: "stop", id: 1 },
    { kind: "stop", id: 2 },
  ]);
  expect(seen.map(({ step, item }) => `${step}: ${item ?? ""}`)).toEqual([
    "building one: ",
    "building one: ",
    "building one: ",
    "building one: first",
    "building two: beside",
  ]);
});

test("keeps the last lines of the build that failed, apart from those of others", () => {
  const { log } = follow([
    start(1, "good"),
    start(2, "bad"),
    ...Array.from({ length: 100 }, (_, index) => ({ kind: "line", id: 2, text: `bad ${index}` }) as const),
    { kind: "line", id: 1, text: "good" },
    { kind: "message", level: 0, text: `error: builder for '${drv("bad")}' failed with exit code 1` },
    { kind: "message", level: 3, text: "chatter" },
    { kind: "stop", id: 2 },
    { kind: "stop", id: 1 },
  ]);
  const failure = log.failure();
  expect(failure.derivation).toBe(drv("bad"));
  expect([failure.log.length, failure.log.at(-1)]).toEqual([40, "bad 99"]);
  expect(failure.messages).toEqual([`error: builder for '${drv("bad")}' failed with exit code 1`]);
});

const nix: Nix = { program: "nix", version: "2.8.0", store: "local?root=/it's", env: {}, realPath: (path) => path };
const failed = (log: string[], messages: string[] = []): BuildFailure => ({ derivation: drv("x"), log, messages });

test.each([
  ["error: hash mismatch in fixed-output derivation '/nix/store/x.drv':", "NIX_GEN_HASH_MISMATCH"],
  ["error: unable to download 'http://m/a': HTTP error 404 ('Not Found')", "NIX_GEN_NOT_ON_MIRROR"],
  ["error: unable to download 'http://m/a': HTTP error 503", "NIX_GEN_MIRROR_UNREACHABLE"],
  ["error: unable to download 'http://m/a': Couldn't resolve host name (6)", "NIX_GEN_MIRROR_UNREACHABLE"],
  ["error: writing to file: No space left on device", "NIX_GEN_DISK_FULL"],
  ["error: executing SQLite statement: database or disk is full", "NIX_GEN_DISK_FULL"],
  ["error: cloning builder process: Operation not permitted", "NIX_GEN_NO_SANDBOX"],
  ["unshare: unshare(0x10020000): Operation not permitted", "NIX_GEN_NO_SANDBOX"],
  ["unshare: unshare(0x10020000): No space left on device", "NIX_GEN_NO_SANDBOX"],
  ["error: cloning builder process: No space left on device", "NIX_GEN_NO_SANDBOX"],
  ["error: this system does not support the kernel namespaces that are required for sandboxing", "NIX_GEN_NO_SANDBOX"],
  ["error: derivation '/nix/store/x.drv' may not be deterministic: output differs", "NIX_GEN_NOT_REPRODUCIBLE"],
  ["error: attribute 'it' missing", "NIX_GEN_BUILD_FAILED"],
])("%s is %s", (line, code) => {
  for (const failure of [failed([line]), failed([], [line])]) {
    const error = buildError(nix, failure, 1);
    expect(error.code).toBe(code);
    expect(error.message).toContain(line);
  }
});

test("names every setting that may keep the kernel from making namespaces", () => {
  const { hint } = buildError(nix, failed(["unshare: unshare(0x10020000): No space left on device"]), 1);
  expect(hint).toMatch(/user\.max_user_namespaces=.*kernel\.unprivileged_userns_clone=1/);
});

test("says how to see the whole log, in a form that a shell takes", () => {
  expect(buildError(nix, failed(["end"]), 1).hint).toBe(
    `the whole log: NIX_REMOTE='local?root=/it'\\''s' nix --offline --extra-experimental-features nix-command log ${drv("x")}`,
  );
});
