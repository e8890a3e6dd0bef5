import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type BlockSource,
  type ByteSink,
  buildVerityTree,
  decodeVeritySuperblock,
  ErofsError,
  encodeVeritySuperblock,
  memorySource,
  type VerityAlgorithm,
  verifyVerityTree,
  verityGeometry,
} from "../src/index.ts";
import { hex, noise, scratch } from "./support.ts";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const SALT = noise(32, 7);

/** The tree as the specification words it, all in memory: an independent account to compare with. */
function plainTree(
  data: Uint8Array,
  block: number,
  salt: Uint8Array,
  algorithm: string,
): { root: string; levels: Buffer } {
  const digest = (bytes: Uint8Array): Buffer => createHash(algorithm).update(salt).update(bytes).digest();
  const stride = 2 ** Math.ceil(Math.log2(digest(salt).byteLength));
  let level = Buffer.from(data);
  let levels = Buffer.alloc(0);
  while (level.byteLength > block) {
    const digests: Buffer[] = [];
    for (let at = 0; at < level.byteLength; at += block) {
      const padded = Buffer.alloc(stride);
      digest(level.subarray(at, at + block)).copy(padded);
      digests.push(padded);
    }
    const joined = Buffer.concat(digests);
    level = Buffer.alloc(Math.ceil(joined.byteLength / block) * block);
    joined.copy(level);
    levels = Buffer.concat([level, levels]);
  }
  return { root: digest(level).toString("hex"), levels };
}

function memorySink(): ByteSink & { bytes: () => Buffer } {
  let held = Buffer.alloc(0);
  return {
    bytes: () => held,
    async write(offset, bytes) {
      if (held.byteLength < offset + bytes.byteLength) {
        held = Buffer.concat([held, Buffer.alloc(offset + bytes.byteLength - held.byteLength)]);
      }
      held.set(bytes, offset);
    },
  };
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
}

describe("buildVerityTree", () => {
  test.each<[number, number, VerityAlgorithm, number]>([
    [1, 4096, "sha256", 32],
    [2, 4096, "sha256", 0],
    [128, 4096, "sha256", 32],
    [129, 4096, "sha256", 256],
    [300, 512, "sha256", 32],
    [17, 512, "sha512", 1],
    [40, 512, "sha1", 8],
    [40, 1024, "sha384", 16],
  ])("of %i blocks of %i bytes with %s and a salt of %i", async (blocks, blockSize, algorithm, saltSize) => {
    const data = noise(blocks * blockSize);
    const salt = noise(saltSize, 3);
    const output = memorySink();
    const built = await buildVerityTree(memorySource(data), {
      output,
      salt,
      uuid: UUID,
      algorithm,
      dataBlockSize: blockSize,
      hashBlockSize: blockSize,
    });
    const { root, levels } = plainTree(data, blockSize, salt, algorithm);
    expect(hex(built.rootHash)).toBe(root);
    expect(output.bytes().subarray(blockSize).equals(levels)).toBe(true);
    expect(built.treeSizeBytes).toBe(blockSize + levels.byteLength);
  });

  test.each([1, 2, 3])(
    "gives the same tree with %i workers, from a slow source without readInto too",
    async (workers) => {
      const data = noise(16 * 1024 * 1024);
      // Slow enough for the workers to have started before the last pieces.
      const source: BlockSource = {
        sizeBytes: data.byteLength,
        async read(offset, length) {
          await sleep(40);
          return data.subarray(offset, offset + length);
        },
        close: async () => {},
      };
      const alone = memorySink();
      const together = memorySink();
      await buildVerityTree(memorySource(data), { output: alone, salt: SALT, uuid: UUID, workers: 0 });
      await buildVerityTree(source, { output: together, salt: SALT, uuid: UUID, workers });
      expect(together.bytes().equals(alone.bytes())).toBe(true);
    },
  );

  test.each([0, 2])("an abort with %i workers throws the reason and leaves no file", async (workers) => {
    const folder = await scratch();
    const controller = new AbortController();
    const reason = new Error("enough");
    const result = await failure(
      buildVerityTree(memorySource(noise(16 * 1024 * 1024)), {
        output: join(folder, "tree"),
        salt: SALT,
        uuid: UUID,
        workers,
        signal: controller.signal,
        onProgress: () => controller.abort(reason),
      }),
    );
    expect(result).toBe(reason);
    expect(await readdir(folder)).toEqual([]);
  });

  test("a source that fails leaves the file that was there untouched", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "tree"), "old");
    const broken: BlockSource = {
      sizeBytes: 8 * 1024 * 1024,
      read: async (offset, length) => {
        if (offset > 0) throw new Error("cable pulled");
        return new Uint8Array(length);
      },
      close: async () => {},
    };
    const options = { output: join(folder, "tree"), salt: SALT, uuid: UUID, workers: 2 };
    expect(await failure(buildVerityTree(broken, options))).toMatchObject({ message: "cable pulled" });
    expect(await readdir(folder)).toEqual(["tree"]);
    expect(await readFile(join(folder, "tree"), "utf8")).toBe("old");
  });

  test.each([
    ["an unknown key", { salty: true }],
    ["a salt over 256 bytes", { salt: new Uint8Array(257) }],
    ["a block size of 1000", { dataBlockSize: 1000 }],
    ["a bad UUID", { uuid: "nope" }],
    ["an unknown algorithm", { algorithm: "md5" }],
  ])("refuses %s", async (_, wrong) => {
    const options = { output: memorySink(), salt: SALT, uuid: UUID, ...wrong } as never;
    expect(await failure(buildVerityTree(memorySource(noise(4096)), options))).toMatchObject({
      code: "EROFS_BAD_OPTIONS",
    });
  });

  test.each([0, 1, 4095, 4097])("refuses data of %i bytes", async (size) => {
    const built = buildVerityTree(memorySource(noise(size)), { output: memorySink(), salt: SALT, uuid: UUID });
    expect(await failure(built)).toMatchObject({ code: "EROFS_BAD_OPTIONS" });
  });
});

describe("verifyVerityTree", () => {
  const block = 512;
  const data = noise(40 * block);

  async function tree(): Promise<{ rootHash: Uint8Array; bytes: Uint8Array }> {
    const output = memorySink();
    const sizes = { dataBlockSize: block, hashBlockSize: block };
    const { rootHash } = await buildVerityTree(memorySource(data), { output, salt: SALT, uuid: UUID, ...sizes });
    return { rootHash, bytes: new Uint8Array(output.bytes()) };
  }

  test("accepts what was built, also with more data behind it", async () => {
    const { rootHash, bytes } = await tree();
    const longer = new Uint8Array(data.byteLength + block);
    longer.set(data);
    expect(await verifyVerityTree(memorySource(longer), memorySource(bytes), { rootHash })).toMatchObject({ ok: true });
  });

  test("locates damaged data blocks as ranges", async () => {
    const { rootHash, bytes } = await tree();
    const damaged = data.slice();
    for (const at of [3, 4, 5, 20]) damaged[at * block + at] = (damaged[at * block + at] ?? 0) ^ 1;
    const report = await verifyVerityTree(memorySource(damaged), memorySource(bytes), { rootHash });
    expect(report).toMatchObject({
      ok: false,
      rootHashMatches: true,
      damagedHashBlocks: [],
      damagedDataBlocks: [
        { first: 3, count: 3 },
        { first: 20, count: 1 },
      ],
      unverifiableDataBlocks: [],
    });
  });

  test("locates a damaged hash block and says what it leaves unverifiable", async () => {
    const { rootHash, bytes } = await tree();
    // 40 digests of 32 bytes: blocks 1 (root), 2, 3 and 4; the third of the lowest level covers data blocks 32..39.
    bytes[4 * block] = (bytes[4 * block] ?? 0) ^ 1;
    const report = await verifyVerityTree(memorySource(data), memorySource(bytes), { rootHash });
    expect(report).toMatchObject({
      ok: false,
      rootHashMatches: true,
      damagedHashBlocks: [{ level: 0, index: 2, offset: 4 * block }],
      damagedDataBlocks: [],
      unverifiableDataBlocks: [{ first: 32, count: 8 }],
    });
  });

  test("judges nothing under a wrong root hash", async () => {
    const { bytes } = await tree();
    const report = await verifyVerityTree(memorySource(data), memorySource(bytes), { rootHash: new Uint8Array(32) });
    expect(report).toMatchObject({
      ok: false,
      rootHashMatches: false,
      unverifiableDataBlocks: [{ first: 0, count: 40 }],
    });
  });

  test("limits its lists and says so", async () => {
    const { rootHash, bytes } = await tree();
    const damaged = data.slice();
    for (let at = 0; at < 40; at += 2) damaged[at * block] = (damaged[at * block] ?? 0) ^ 1;
    const report = await verifyVerityTree(memorySource(damaged), memorySource(bytes), { rootHash, maxDamage: 5 });
    expect(report.damagedDataBlocks).toHaveLength(5);
    expect(report.isIncomplete).toBe(true);
  });

  test("every truncation and flip of a tree is a typed error or a bad report", async () => {
    const { rootHash, bytes } = await tree();
    const verify = async (candidate: Uint8Array): Promise<boolean> => {
      try {
        return (await verifyVerityTree(memorySource(data), memorySource(candidate), { rootHash })).ok;
      } catch (error) {
        if (error instanceof ErofsError) return false;
        throw error;
      }
    };
    for (let length = 0; length < bytes.byteLength; length += 1) {
      expect(await verify(bytes.subarray(0, length)), `${length} bytes`).toBe(false);
    }
    for (let at = 0; at < bytes.byteLength; at += 1) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      // The UUID is the only thing the root hash does not vouch for.
      const isUuid = at >= 16 && at < 32;
      expect(await verify(flipped), `byte ${at}`).toBe(isUuid);
    }
  });
});

describe("the verity superblock", () => {
  const superblock = fc.record({
    uuid: fc.uuid(),
    algorithm: fc.constantFrom<VerityAlgorithm>("sha1", "sha224", "sha256", "sha384", "sha512"),
    dataBlockSize: fc.integer({ min: 9, max: 19 }).map((bits) => 2 ** bits),
    hashBlockSize: fc.integer({ min: 9, max: 19 }).map((bits) => 2 ** bits),
    dataBlocks: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
    salt: fc.uint8Array({ maxLength: 256 }),
  });

  test("survives encoding and decoding", () => {
    fc.assert(
      fc.property(superblock, (value) => {
        const bytes = encodeVeritySuperblock(value);
        const decoded = decodeVeritySuperblock(bytes);
        expect({ ...decoded, salt: hex(decoded.salt) }).toEqual({ ...value, salt: hex(value.salt) });
        expect(encodeVeritySuperblock(decoded)).toEqual(bytes);
      }),
    );
  });

  test("keeps nothing of a Buffer it was decoded from, nor of a salt it is built with", async () => {
    const salt = Buffer.from(SALT);
    const { superblock } = await buildVerityTree(memorySource(noise(8192)), { output: memorySink(), salt, uuid: UUID });
    const bytes = Buffer.from(encodeVeritySuperblock(superblock));
    const decoded = decodeVeritySuperblock(bytes);
    salt.fill(0);
    bytes.fill(0);
    expect(superblock.salt).toEqual(SALT);
    expect(decoded.salt).toEqual(SALT);
  });

  test("has a geometry or a typed error", () => {
    fc.assert(
      fc.property(superblock, (value) => {
        try {
          expect(verityGeometry(value).treeSizeBytes).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(ErofsError);
        }
      }),
    );
  });
});
