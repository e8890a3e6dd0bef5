import { createHash } from "node:crypto";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FatOptions, fileSource, openFat, planFat, writeFat } from "../src/index.ts";
import { writeSparseFile } from "../src/sink.ts";
import { needs, noise, run, scratch, tryRun } from "./support.ts";

const MIB = 1024 * 1024;
const TIME = new Date("2026-01-02T03:04:06Z");

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Names of every kind: short, long, with letters that FAT folds, outside of the first plane, as long as they may be. */
const name = fc
  .oneof(
    fc.constantFrom(
      "A",
      "README",
      "readme.txt",
      "Mixed.Case",
      "a.b.c",
      "ünï cödé ☃",
      "𝄞 clef",
      "x".repeat(255),
      "+,;=[]",
    ),
    fc.string({ unit: fc.constantFrom(..."abcXYZ019-_~ .é"), minLength: 1, maxLength: 40 }),
  )
  .filter((text) => !/^[. ]|[. ]$/.test(text));

const files = fc
  .uniqueArray(
    fc.record({ path: fc.array(name, { minLength: 1, maxLength: 4 }), length: fc.nat(40_000), seed: fc.nat(1000) }),
    { maxLength: 25, selector: ({ path }) => path.join("/").toLowerCase() },
  )
  // A file cannot be a directory of another one too, whatever the letters' case.
  .map((all) => {
    const paths = all.map(({ path }) => path.join("/").toUpperCase());
    return all.filter(({ path }) => !paths.some((other) => other.startsWith(`${path.join("/").toUpperCase()}/`)));
  });

describe("a generated FAT file system", () => {
  const shapes = [
    { sizeBytes: 3 * MIB, type: 12, sectorSize: 512 },
    { sizeBytes: 20 * MIB, type: 16, sectorSize: 512 },
    { sizeBytes: 70 * MIB, type: 16, sectorSize: 4096 },
    { sizeBytes: 40 * MIB, type: 32, sectorSize: 512 },
    { sizeBytes: 300 * MIB, type: 32, sectorSize: 4096 },
    { sizeBytes: 300 * MIB, type: 32, sectorSize: 512, clusterSizeBytes: 2048 },
  ] as const satisfies readonly Partial<FatOptions>[];
  test.for(shapes)("of %o satisfies fsck.fat and is read as it was written", async (shape, context) => {
    needs(context, "fsck.fat");
    const path = join(await scratch(), "fat");
    await fc.assert(
      fc.asyncProperty(files, async (wanted) => {
        const contents = Object.fromEntries(
          wanted.map(({ path: names, length, seed }) => [names.join("/"), noise(length, seed)]),
        );
        const plan = await planFat({ ...shape, volumeId: 7, time: TIME, files: contents });
        await writeSparseFile(path, shape.sizeBytes, (sink) => writeFat(plan, sink));
        const checked = tryRun("fsck.fat", "-nv", path);
        expect(checked.stdout + checked.stderr).not.toMatch(
          /differences|[Ww]rong|error|[Ww]arning|Auto|mismatch|[Bb]ad /,
        );
        expect(checked.status).toBe(0);
        await using source = await fileSource(path);
        const volume = await openFat(source);
        const found: Record<string, string> = {};
        for await (const { path: inside, entry } of volume.walk()) {
          if (!entry.isDirectory) found[inside] = digest(await volume.readFile(inside));
        }
        expect(found).toEqual(Object.fromEntries(Object.entries(contents).map(([key, bytes]) => [key, digest(bytes)])));
      }),
      { numRuns: 12, seed: 20_261_122 },
    );
  });
});

describe("a file system of mkfs.fat", () => {
  const product = (...lists: readonly (readonly string[][])[]): string[][] =>
    lists.reduce<string[][]>((all, list) => all.flatMap((left) => list.map((right) => [...left, ...right])), [[]]);
  const matrix = [
    ...product(
      [["-F", "12"]],
      [
        ["-s", "1"],
        ["-s", "8"],
      ],
      [
        ["-f", "1"],
        ["-f", "2"],
      ],
      [[], ["-r", "224"]],
    ).map((options) => [2 * MIB, options] as const),
    ...product(
      [["-F", "16"]],
      [[], ["-s", "4"]],
      [[], ["-R", "8"]],
      [
        ["-S", "512"],
        ["-S", "1024"],
      ],
      [[], ["-a"]],
    ).map((options) => [40 * MIB, options] as const),
    ...product(
      [["-F", "32"]],
      [
        ["-s", "1"],
        ["-s", "2"],
      ],
      [
        ["-f", "1"],
        ["-f", "4"],
      ],
      [
        ["-S", "512"],
        ["-S", "2048"],
      ],
    ).map((options) => [290 * MIB, options] as const),
  ];
  test.for(matrix)("of %i bytes with %j is read", async ([sizeBytes, options], context) => {
    needs(context, "mkfs.fat", "mcopy", "mmd");
    const folder = await scratch();
    const path = join(folder, "fat");
    await writeFile(path, "");
    await truncate(path, sizeBytes);
    run("mkfs.fat", ...options, "-i", "cafe1234", path);
    await writeFile(join(folder, "a long name.text"), noise(70_000));
    run("mmd", "-i", path, "::sub");
    run("mcopy", "-i", path, join(folder, "a long name.text"), "::sub");
    await using source = await fileSource(path);
    const volume = await openFat(source);
    expect(volume.boot.volumeId).toBe(0xcafe_1234);
    expect(digest(await volume.readFile("sub/a long name.text"))).toBe(digest(noise(70_000)));
  });
});
