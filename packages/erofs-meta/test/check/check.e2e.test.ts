import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkErofs, memorySource, type WriteErofsOptions, writeErofs } from "../../src/index.ts";
import { needs, scratch, tryRun } from "../support.ts";
import { compressibleTree, imageSink, sampleTree } from "../trees.ts";

const DAMAGES = 250;

describe("damage that fsck.erofs finds", () => {
  test.for([
    ["an uncompressed image", sampleTree(), {}],
    ["an image with lz4", compressibleTree(), { compression: { algorithm: "lz4" } }],
  ] as const)("in %s is found by checkErofs as well", { timeout: 240_000 }, async ([, tree, options], context) => {
    needs(context, "fsck.erofs");
    const folder = await scratch();
    const path = join(folder, "image");
    const output = imageSink();
    const settings: Partial<WriteErofsOptions> = options;
    // Nothing large, so that most damage is in metadata.
    const small = tree.filter((entry) => entry.type !== "file" || (entry.content as Uint8Array).byteLength < 2 ** 16);
    await writeErofs(small, { output, uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 9n, ...settings });
    const bytes = output.bytes();
    let state = 20_261_122;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let found = 0;
    for (let number = 0; number < DAMAGES; number += 1) {
      const damaged = bytes.slice();
      const at = random(2) === 0 ? random(bytes.byteLength) : bytes.byteLength - 1 - random(bytes.byteLength / 4);
      damaged[at] = (damaged[at] ?? 0) ^ (1 << random(8));
      await writeFile(path, damaged);
      // A crash is a finding as well.
      const theirs = tryRun("fsck.erofs", "--extract", path).status;
      if (theirs === 0) continue;
      found += 1;
      const { ok } = await checkErofs(memorySource(damaged));
      expect(ok, `bit flipped in byte ${at} (seed 20261122)`).toBe(false);
    }
    expect(found).toBeGreaterThan(3);
  });
});
