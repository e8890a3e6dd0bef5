import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { type BlockSource, type ByteSink, memorySource } from "../../src/block-source.ts";
import { buildVerityFec } from "../../src/fec/build.ts";
import { repairVerityTree } from "../../src/fec/repair.ts";
import { buildVerityTree } from "../../src/verity/build.ts";
import { noise } from "../support.ts";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const BLOCK = 512;
/** Two levels of hash blocks, and three rounds of codewords with two roots. */
const BLOCKS = 700;

function sink(bytes: Uint8Array): ByteSink {
  return {
    async write(offset, piece) {
      bytes.set(piece, offset);
    },
  };
}

/** A sink for what has no size yet. */
function growing(): ByteSink & { bytes: Uint8Array } {
  const made = {
    bytes: new Uint8Array(0),
    async write(offset: number, piece: Uint8Array) {
      const longer = new Uint8Array(Math.max(made.bytes.byteLength, offset + piece.byteLength));
      longer.set(made.bytes);
      longer.set(piece, offset);
      made.bytes = longer;
    },
  };
  return made;
}

interface Protected {
  readonly data: Uint8Array;
  readonly tree: Uint8Array;
  readonly fec: Uint8Array;
  readonly rootHash: Uint8Array;
}

async function make(blocks: number, roots: number): Promise<Protected> {
  const data = noise(blocks * BLOCK, blocks);
  const tree = growing();
  const sizes = { dataBlockSize: BLOCK, hashBlockSize: BLOCK };
  const { rootHash } = await buildVerityTree(memorySource(data), {
    ...sizes,
    output: tree,
    salt: noise(8),
    uuid: UUID,
  });
  const fec = growing();
  await buildVerityFec(memorySource(data), memorySource(tree.bytes), { output: fec, roots });
  return { data, tree: tree.bytes, fec: fec.bytes, rootHash };
}

/** Repairs copies that `spoil` has changed. */
async function repair(good: Protected, roots: number, spoil: (copy: Protected) => void) {
  const copy = {
    ...good,
    data: Uint8Array.from(good.data),
    tree: Uint8Array.from(good.tree),
    fec: Uint8Array.from(good.fec),
  };
  spoil(copy);
  const source = (bytes: Uint8Array): BlockSource => memorySource(Uint8Array.from(bytes));
  const repaired = await repairVerityTree(source(copy.data), source(copy.tree), source(copy.fec), {
    rootHash: good.rootHash,
    roots,
    dataOutput: sink(copy.data),
    treeOutput: sink(copy.tree),
  });
  const isWhole = Buffer.compare(copy.data, good.data) === 0 && Buffer.compare(copy.tree, good.tree) === 0;
  return { ...repaired, isWhole, copy };
}

describe("data and tree with two roots", () => {
  let good: Protected;
  beforeAll(async () => {
    good = await make(BLOCKS, 2);
  });

  test("that are right are left alone", async () => {
    const { report, repairedDataBlocks, repairedHashBlocks } = await repair(good, 2, () => {});
    expect({ ok: report.ok, repairedDataBlocks, repairedHashBlocks }).toEqual({
      ok: true,
      repairedDataBlocks: [],
      repairedHashBlocks: [],
    });
  });

  test("get a lost run of blocks back", async () => {
    const { report, repairedDataBlocks, isWhole } = await repair(good, 2, ({ data }) =>
      data.fill(0, 5 * BLOCK, 8 * BLOCK),
    );
    expect(report.ok).toBe(true);
    expect(repairedDataBlocks).toEqual([{ first: 5, count: 3 }]);
    expect(isWhole).toBe(true);
  });

  test("get every hash block back, from the top on, and then the data below them", async () => {
    const { report, repairedDataBlocks, repairedHashBlocks, isWhole } = await repair(good, 2, ({ data, tree }) => {
      tree.fill(0xff, BLOCK, 2 * BLOCK);
      tree.fill(0, 6 * BLOCK, 6 * BLOCK + 9);
      data[17 * BLOCK] = (data[17 * BLOCK] ?? 0) ^ 1;
    });
    expect(report.ok).toBe(true);
    expect(repairedHashBlocks.map(({ level }) => level)).toEqual([2, 0]);
    expect(repairedDataBlocks).toEqual([{ first: 17, count: 1 }]);
    expect(isWhole).toBe(true);
  });

  test("are repaired of damage that parity shares", async () => {
    const { report, isWhole } = await repair(good, 2, ({ data, fec }) => {
      data[3 * BLOCK + 7] = (data[3 * BLOCK + 7] ?? 0) ^ 1;
      // The parity of another codeword of the same blocks.
      fec[8 * 2] = (fec[8 * 2] ?? 0) ^ 0x55;
    });
    expect({ ok: report.ok, isWhole }).toEqual({ ok: true, isWhole: true });
  });

  test("that are lost beyond repair are reported and not written to", async () => {
    const rounds = Math.ceil((BLOCKS + good.tree.byteLength / BLOCK - 1) / 253);
    const wrong = [2, 2 + rounds, 2 + 2 * rounds];
    const { report, repairedDataBlocks, copy } = await repair(good, 2, ({ data }) => {
      for (const block of [...wrong, 6]) data.fill(0, block * BLOCK, (block + 1) * BLOCK);
    });
    expect(report.ok).toBe(false);
    expect(report.damagedDataBlocks).toEqual(wrong.toSorted((a, b) => a - b).map((first) => ({ first, count: 1 })));
    expect(repairedDataBlocks).toEqual([{ first: 6, count: 1 }]);
    for (const block of wrong)
      expect(copy.data.subarray(block * BLOCK, (block + 1) * BLOCK).every((byte) => byte === 0)).toBe(true);
  });

  test("whose blocks are wrong in different places only are repaired, however many these are", async () => {
    const rounds = Math.ceil((BLOCKS + good.tree.byteLength / BLOCK - 1) / 253);
    const { report, isWhole } = await repair(good, 2, ({ data }) => {
      for (let block = 0; block < 20; block += 1) {
        const at = block * rounds * BLOCK + block * 11;
        data[at] = (data[at] ?? 0) ^ 0x40;
      }
    });
    expect({ ok: report.ok, isWhole }).toEqual({ ok: true, isWhole: true });
  });

  test("are not believed when the parity was made for others", async () => {
    const others = await make(BLOCKS + 1, 2);
    const { report, copy } = await repair(good, 2, (spoiled) => {
      spoiled.fec.set(others.fec.subarray(0, spoiled.fec.byteLength));
      spoiled.data.fill(0, 0, BLOCK);
    });
    expect(report.damagedDataBlocks).toEqual([{ first: 0, count: 1 }]);
    expect(copy.data.subarray(0, BLOCK).every((byte) => byte === 0)).toBe(true);
  });

  test("refuse parity that is too short, roots that nobody has, and block sizes that differ", async () => {
    const sources = [memorySource(Uint8Array.from(good.data).fill(0, 0, 1)), memorySource(good.tree)] as const;
    const outputs = { rootHash: good.rootHash, dataOutput: sink(good.data), treeOutput: sink(good.tree) };
    const short = memorySource(good.fec.subarray(1));
    await expect(repairVerityTree(...sources, short, outputs)).rejects.toMatchObject({ code: "EROFS_TRUNCATED" });
    for (const roots of [1, 25]) {
      const built = buildVerityFec(...sources, { output: growing(), roots });
      await expect(built).rejects.toMatchObject({ code: "EROFS_BAD_OPTIONS" });
    }
    const tree = growing();
    const sizes = { dataBlockSize: 512, hashBlockSize: 1024, salt: noise(8), uuid: UUID };
    await buildVerityTree(sources[0], { ...sizes, output: tree });
    const built = buildVerityFec(sources[0], memorySource(tree.bytes), { output: growing() });
    await expect(built).rejects.toMatchObject({ code: "EROFS_UNSUPPORTED" });
  });
});

test("a single block, which has no tree, is repaired", async () => {
  const good = await make(1, 2);
  const { report, isWhole } = await repair(good, 2, ({ data }) => data.fill(1));
  expect({ ok: report.ok, isWhole }).toEqual({ ok: true, isWhole: true });
});

test("with 24 roots, 24 blocks of a codeword can be lost", async () => {
  const good = await make(200, 24);
  const { report, isWhole } = await repair(good, 24, ({ data }) => data.fill(0, 50 * BLOCK, 74 * BLOCK));
  expect({ ok: report.ok, isWhole }).toEqual({ ok: true, isWhole: true });
});

test("whatever is damaged, nothing is ever written that the root hash does not vouch for", async () => {
  const good = await make(60, 2);
  const place = fc.record({
    what: fc.constantFrom("data", "tree", "fec"),
    at: fc.nat(60 * BLOCK),
    length: fc.nat(900),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(place, { minLength: 1, maxLength: 4 }), async (places) => {
      const spoiledAt = (what: string, bytes: Uint8Array): Uint8Array => {
        for (const { what: which, at, length } of places) {
          // The superblock is no part of what is protected.
          const start = which === "tree" ? BLOCK + (at % (bytes.byteLength - BLOCK)) : at % bytes.byteLength;
          if (which === what) bytes.fill(0xee, start, start + length);
        }
        return bytes;
      };
      const { copy, report, isWhole } = await repair(good, 2, (spoiled) => {
        for (const what of ["data", "tree", "fec"] as const) spoiledAt(what, spoiled[what]);
      });
      if (report.ok) expect(isWhole).toBe(true);
      const wrong = spoiledAt("data", Uint8Array.from(good.data));
      for (let at = 0; at < good.data.byteLength; at += BLOCK) {
        const piece = copy.data.subarray(at, at + BLOCK);
        const isOne = [good.data, wrong].some((bytes) => Buffer.compare(piece, bytes.subarray(at, at + BLOCK)) === 0);
        expect(isOne).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});
