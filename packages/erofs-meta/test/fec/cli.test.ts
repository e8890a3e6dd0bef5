import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { main } from "../../src/cli.ts";
import { capture, noise, scratch } from "../support.ts";

const BLOCK = 4096;

async function run(folder: string, ...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const { io, out, err } = capture(folder);
  const status = await main(argv, io);
  return { status, out: out(), err: err() };
}

async function made(): Promise<{ folder: string; rootHash: string; good: Uint8Array }> {
  const folder = await scratch();
  const good = noise(100 * BLOCK);
  await writeFile(join(folder, "data"), good);
  const { status, out } = await run(folder, ..."verity build data tree --salt 00ff --fec parity --json".split(" "));
  expect(status).toBe(0);
  const document = JSON.parse(out);
  expect(document).toMatchObject({
    kind: "verity-tree",
    fec: { roots: 2, sizeBytes: 2 * BLOCK, protectedBlocks: 101 },
  });
  return { folder, rootHash: document.rootHash, good };
}

test("parity is built with the tree, and repairs it in place", async () => {
  const { folder, rootHash, good } = await made();
  const spoiled = Uint8Array.from(good).fill(0, 3 * BLOCK, 4 * BLOCK + 1);
  await writeFile(join(folder, "data"), spoiled);
  const repaired = await run(folder, "verity", "repair", "data", "tree", "parity", rootHash);
  expect(repaired).toEqual({
    status: 0,
    out: "repaired data blocks 3..4, from byte 12288\nall 100 blocks match the root hash\n",
    err: "",
  });
  expect((await readFile(join(folder, "data"))).equals(good)).toBe(true);
  const { mtimeMs } = await stat(join(folder, "data"));
  expect((await run(folder, "verity", "repair", "data", "tree", "parity", rootHash)).out).toBe(
    "all 100 blocks match the root hash\n",
  );
  expect((await stat(join(folder, "data"))).mtimeMs).toBe(mtimeMs);
});

test("what cannot be repaired is named, and the rest is repaired", async () => {
  const { folder, rootHash, good } = await made();
  const spoiled = Uint8Array.from(good).fill(0, 3 * BLOCK, 6 * BLOCK);
  await writeFile(join(folder, "data"), spoiled);
  const { status, err } = await run(folder, "verity", "repair", "data", "tree", "parity", rootHash);
  expect(status).toBe(1);
  expect(err).toContain("EROFS_VERITY_DAMAGED");
  expect(err).toContain("damaged data blocks 3..5");
});

test("parity is described to people", async () => {
  const { folder } = await made();
  const argv =
    "verity build data tree --salt 00ff --uuid 00112233-4455-6677-8899-aabbccddeeff --fec parity --fec-roots 24";
  const { out } = await run(folder, ...argv.split(" "));
  expect(out).toMatch(/^parity +96 KiB in parity, 24 bytes for every 255$/m);
});
