import { createReadStream } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { diffErofs, memorySource, openErofs, readDirectory, readTar } from "../src/index.ts";
import { imageOf, oddTree } from "./odd-names.ts";
import { needs, run, scratch } from "./support.ts";

test("names that are not UTF-8 are those that fsck.erofs extracts, and that mkfs.erofs wrote", async (context) => {
  needs(context, "mkfs.erofs", "fsck.erofs", "tar");
  const folder = await oddTree();
  const work = await scratch();
  run("mkfs.erofs", "-T0", join(work, "theirs"), folder);
  await using theirs = await openErofs(memorySource(await readFile(join(work, "theirs"))));
  await writeFile(join(work, "ours"), await imageOf(readDirectory(folder)));
  await using ours = await openErofs(memorySource(await readFile(join(work, "ours"))));
  const { added, removed, changed } = await diffErofs(theirs, ours, { times: false });
  expect([added, removed, changed]).toEqual([[], [], []]);
  for (const format of ["gnu", "pax"]) {
    run("tar", `--format=${format}`, "-cf", join(work, "tar"), "-C", folder, ".");
    await using archived = await openErofs(memorySource(await imageOf(readTar(createReadStream(join(work, "tar"))))));
    const differences = await diffErofs(ours, archived, { times: false });
    expect([differences.added, differences.removed, differences.changed]).toEqual([[], [], []]);
  }
  run("fsck.erofs", `--extract=${join(work, "out")}`, join(work, "ours"));
  const list = async (path: string) => (await readdir(path, { encoding: "latin1" as BufferEncoding })).sort();
  expect(await list(join(work, "out"))).toEqual(await list(folder));
});
