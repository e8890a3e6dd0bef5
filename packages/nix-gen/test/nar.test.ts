import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeNar, type NarTree, narHash, readNarHash } from "../src/index.ts";
import { refusal } from "./helpers/expect.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "nix-gen-nar-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const TREE: NarTree = {
  type: "directory",
  entries: {
    z: { type: "regular", contents: "" },
    "é😀": { type: "regular", contents: Uint8Array.of(0, 255, 10) },
    Z: { type: "regular", contents: "#!/bin/sh\n", executable: true },
    link: { type: "symlink", target: "../nowhere" },
    empty: { type: "directory", entries: {} },
  },
};

test("encodes a file as the thesis describes it", () => {
  const text = (value: string): string => {
    const padded = Buffer.alloc(8 + Math.ceil(value.length / 8) * 8);
    padded.writeBigUInt64LE(BigInt(value.length));
    padded.write(value, 8);
    return padded.toString("hex");
  };
  const expected = ["nix-archive-1", "(", "type", "regular", "contents", "hello\n", ")"].map(text).join("");
  expect(Buffer.from(encodeNar({ type: "regular", contents: "hello\n" })).toString("hex")).toBe(expected);
});

test("gives a tree in memory and the same tree on disk the same hash", async () => {
  const root = join(directory, "tree");
  await mkdir(join(root, "empty"), { recursive: true });
  await writeFile(join(root, "z"), "");
  await writeFile(join(root, "é😀"), Uint8Array.of(0, 255, 10));
  await writeFile(join(root, "Z"), "#!/bin/sh\n");
  await chmod(join(root, "Z"), 0o755);
  await symlink("../nowhere", join(root, "link"));
  const inMemory = narHash(TREE);
  expect(inMemory).toBe(`sha256-${createHash("sha256").update(encodeNar(TREE)).digest("base64")}`);
  expect(await readNarHash(root)).toBe(inMemory);
});

test("sorts names by their bytes", () => {
  const file: NarTree = { type: "regular", contents: "" };
  // U+FF5E comes before U+1F600 in UTF-8, and after it in UTF-16.
  const tree = (names: string[]): NarTree => ({
    type: "directory",
    entries: Object.fromEntries(names.map((name) => [name, file])),
  });
  const archive = Buffer.from(encodeNar(tree(["😀", "～", "name-a", "name-B"])));
  const order = ["name-B", "name-a", "～", "😀"].map((name) => archive.indexOf(name));
  expect(order).toEqual(order.toSorted((x, y) => x - y));
});

test.each(["", ".", "..", "a/b", "a\0", "\ud800"])("refuses the name %j", (name) => {
  const tree: NarTree = { type: "directory", entries: { sub: { type: "directory", entries: { [name]: TREE } } } };
  expect(() => narHash(tree)).toThrow(expect.objectContaining({ code: "NIX_GEN_BAD_TREE" }));
});

test("refuses what is no tree", () => {
  refusal(() => narHash({ type: "socket" } as never), "NIX_GEN_BAD_TREE");
  refusal(() => narHash({ type: "symlink", target: "a\0" }), "NIX_GEN_BAD_TREE");
  let deep: NarTree = TREE;
  for (let level = 0; level < 1000; level++) deep = { type: "directory", entries: { d: deep } };
  refusal(() => narHash(deep), "NIX_GEN_TOO_DEEP");
});

test("says what can't be read", async () => {
  await expect(readNarHash(join(directory, "missing"))).rejects.toMatchObject({ code: "NIX_GEN_IO" });
  const socket = join(directory, "socket");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  await expect(readNarHash(socket)).rejects.toMatchObject({ code: "NIX_GEN_BAD_TREE", path: socket });
  await new Promise((resolve) => server.close(resolve));
});

test("ends early when asked to", async () => {
  await expect(readNarHash(directory, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
});
