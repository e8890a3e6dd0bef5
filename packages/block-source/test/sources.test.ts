import { execFileSync } from "node:child_process";
import {
  link,
  lstat,
  mkdir,
  mkdtemp,
  open as openFile,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { atomicFiles, type FileErrorKind, ioErrors, sources, syncDirectory, wholeFiles } from "../src/index.ts";

class ToyError extends Error {
  readonly kind: FileErrorKind;

  constructor(kind: FileErrorKind, message: string, facts: { path?: string; offset?: number; cause?: unknown }) {
    super(message, { cause: facts.cause });
    this.kind = kind;
  }
}

const report = (...args: ConstructorParameters<typeof ToyError>): ToyError => new ToyError(...args);
const { memory, file, window } = sources(report);
const files = atomicFiles(report);
const LETTER = new Uint8Array([65]);
let directory = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "block-source-"));
});
afterAll(() => rm(directory, { recursive: true }));

test("a window reads its part of a file, and nothing outside of it", async () => {
  const path = join(directory, "digits");
  await writeFile(path, "0123456789");
  await using source = await file(path);
  const part = window(source, 3, 4);
  expect(Buffer.from(await part.read(0, 4)).toString()).toBe("3456");
  const target = new Uint8Array(2);
  await part.readInto?.(target, 2);
  expect(Buffer.from(target).toString()).toBe("56");
  part.readIntoSync?.(target, 1);
  expect(Buffer.from(target).toString()).toBe("45");
  expect(() => part.readIntoSync?.(target, 3)).toThrow(ToyError);
  for (const [offset, length] of [
    [0, 5],
    [4, 1],
    [-1, 2],
    [0, -1],
    [0.5, 1],
  ] as const) {
    await expect(part.read(offset, length)).rejects.toMatchObject({ kind: "truncated" });
  }
  expect(() => window(source, 8, 3)).toThrow(ToyError);
});

test.runIf(process.platform === "linux")("a file is copied into an open one, which keeps its mode", async () => {
  const [path, target] = [join(directory, "original"), join(directory, "copied")];
  await writeFile(path, "0123456789");
  await writeFile(target, "longer than the original", { mode: 0o600 });
  await using source = await file(path);
  await using open = await openFile(target, "r+");
  // What is open is copied, whatever has its name by now.
  await rm(path);
  await writeFile(path, "another");
  expect(await source.copyTo?.(open)).toBe(true);
  expect(await readFile(target, "utf8")).toBe("0123456789");
  expect((await lstat(target)).mode & 0o777).toBe(0o600);
  expect(memory(LETTER).copyTo).toBeUndefined();
});

test("a file that became shorter ends the read with an error", async () => {
  const path = join(directory, "shrinks");
  await writeFile(path, "0123456789");
  await using source = await file(path);
  await writeFile(path, "01");
  await expect(source.read(0, 10)).rejects.toMatchObject({ kind: "truncated" });
  expect(() => source.readIntoSync?.(new Uint8Array(10), 0)).toThrow("got an end of file");
});

test("what is no file is refused with the kind of error it is", async () => {
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  await expect(file(fifo)).rejects.toMatchObject({ kind: "wrong-type", message: expect.stringContaining("a FIFO") });
  await expect(file(directory)).rejects.toMatchObject({ kind: "wrong-type" });
  await expect(file(join(directory, "none"))).rejects.toMatchObject({ kind: "not-found" });
});

test("memory is aliased", async () => {
  const bytes = new Uint8Array([1, 2, 3]);
  const read = await memory(bytes).read(1, 2);
  bytes[1] = 9;
  expect([...read]).toEqual([9, 3]);
  const target = new Uint8Array(2);
  memory(bytes).readIntoSync?.(target, 0);
  expect([...target]).toEqual([1, 9]);
});

test("a file appears when it is complete, and a failure leaves what was there", async () => {
  const path = join(directory, "atomic");
  await files.write(path, async (sink) => {
    await sink.write(1, new Uint8Array([65]));
    expect(await readdir(directory)).not.toContain("atomic");
  });
  expect([...(await readFile(path))]).toEqual([0, 65]);
  const reason = new Error("no more");
  const failing = files.write(path, async (sink) => {
    await sink.write(0, new Uint8Array([66]));
    throw reason;
  });
  await expect(failing).rejects.toBe(reason);
  expect([...(await readFile(path))]).toEqual([0, 65]);
  expect((await readdir(directory)).filter((name) => name.endsWith(".partial"))).toEqual([]);
});

test("an output is written where its links lead, and keeps the mode that was there", async () => {
  const folder = await mkdtemp(join(directory, "links-"));
  const put = (name: string): Promise<void> => files.write(join(folder, name), (sink) => sink.write(0, LETTER));
  await writeFile(join(folder, "real"), "old", { mode: 0o600 });
  await symlink("real", join(folder, "link"));
  await put("link");
  expect((await lstat(join(folder, "link"))).isSymbolicLink()).toBe(true);
  expect(await readFile(join(folder, "real"), "utf8")).toBe("A");
  expect((await lstat(join(folder, "real"))).mode & 0o777).toBe(0o600);
  await mkdir(join(folder, "inner"));
  await symlink("inner/../later", join(folder, "dangling"));
  await put("dangling");
  expect(await readFile(join(folder, "later"), "utf8")).toBe("A");
  await symlink("round", join(folder, "round"));
  await expect(put("round")).rejects.toMatchObject({ kind: "io" });
  await put("n".repeat(255));
  expect((await readdir(folder)).sort()).toEqual([
    "dangling",
    "inner",
    "later",
    "link",
    "n".repeat(255),
    "real",
    "round",
  ]);
});

test.each([
  ["/dev/full", "wrong-type", "a character device"],
  ["fifo-output", "wrong-type", "a FIFO"],
  [".", "wrong-type", "a directory"],
  ["nowhere/file", "not-found", "expected a directory for"],
  ["blocked/file", "io", "not a directory"],
])("%s is no place for an output", async (name, kind, message) => {
  const path = name.startsWith("/") ? name : join(directory, name);
  if (name === "fifo-output") execFileSync("mkfifo", [path]);
  if (name === "blocked/file") await writeFile(join(directory, "blocked"), "");
  const before = await readdir(directory);
  const writing = files.write(path, (sink) => sink.write(0, LETTER));
  await expect(writing).rejects.toMatchObject({ kind, message: expect.stringContaining(message) });
  expect(await readdir(directory)).toEqual(before);
});

test("an input is no output, by whatever name", async () => {
  const [data, same, other] = ["data", "same", "other"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(data, "x");
  await link(data, same);
  await writeFile(other, "x");
  await expect(files.assertNoInput(same, [other, data])).rejects.toMatchObject({ kind: "same-file" });
  await files.assertNoInput(other, [data, join(directory, "none")]);
  await files.assertNoInput(join(directory, "none"), [data]);
});

describe("reading whole", () => {
  const readWhole = wholeFiles(report);

  test("takes a file up to the limit, and nothing that goes on for ever", async () => {
    const path = join(directory, "whole");
    await writeFile(path, "12345");
    expect(Buffer.from(await readWhole(path, { maxBytes: 5 })).toString()).toBe("12345");
    await expect(readWhole(path, { maxBytes: 4 })).rejects.toMatchObject({ kind: "too-large" });
    await expect(readWhole("/dev/zero", { maxBytes: 1 << 20 })).rejects.toMatchObject({ kind: "too-large" });
    expect(await readWhole("/dev/null", { maxBytes: 0 })).toHaveLength(0);
    await expect(readWhole(directory, { maxBytes: 1 })).rejects.toMatchObject({ kind: "wrong-type" });
    await expect(readWhole(join(directory, "none"), { maxBytes: 1 })).rejects.toMatchObject({ kind: "not-found" });
  });

  test("waits for who writes to a FIFO, until it is aborted", async () => {
    const path = join(directory, "slow");
    execFileSync("mkfifo", [path]);
    const controller = new AbortController();
    const aborted = readWhole(path, { maxBytes: 9, signal: controller.signal });
    const reason = new Error("enough");
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    const reading = readWhole(path, { maxBytes: 9 });
    execFileSync("sh", ["-c", 'printf abc > "$1"', "sh", path]);
    expect(Buffer.from(await reading).toString()).toBe("abc");
  });
});

test("failures of the system are translated, and others pass", () => {
  const ioError = ioErrors(report);
  const full = Object.assign(new Error("no space"), { syscall: "write", code: "ENOSPC" });
  expect(ioError(full, "write", "x")).toMatchObject({ kind: "full", cause: full });
  const denied = Object.assign(new Error("denied"), { syscall: "open", code: "EACCES" });
  expect(ioError(denied, "open", "x")).toMatchObject({ kind: "io", message: "cannot open x: denied" });
  const other = new Error("abort");
  expect(ioError(other, "open", "x")).toBe(other);
});

test("a directory that cannot be flushed, or is not there, is no failure: the name in it is made already", async () => {
  await syncDirectory(directory);
  // proc(5) answers EINVAL, as some network file systems do.
  await syncDirectory("/proc");
  await syncDirectory(join(directory, "missing"));
});
