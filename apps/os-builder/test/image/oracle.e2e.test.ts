import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openDiskImage } from "@leveret/disk-image";
import { expect, type TestContext, test } from "vitest";
import { type BuiltImage, buildImage } from "../../src/image/image.ts";
import { inspectImage, renderSvg } from "../../src/index.ts";
import { scratch } from "../support/io.ts";
import { copyKeys, makeKeys, type TestKeys } from "../support/keys.ts";
import { needs, run } from "../support/oracles.ts";
import { projectIn, TINY_LOCK, writeArtefacts } from "../support/system.ts";

/** An image whose /usr mkfs.erofs made. */
async function realImage(context: TestContext): Promise<{ directory: string; keys: TestKeys; built: BuiltImage }> {
  needs(context, "mkfs.erofs");
  const directory = await scratch();
  await mkdir(join(directory, "tree", "bin"), { recursive: true });
  await writeFile(join(directory, "tree", "bin", "true"), "#!/bin/sh\n".repeat(2000));
  const usr = join(directory, "usr.erofs");
  run("mkfs.erofs", ["-T0", "-U00000000-0000-0000-0000-000000000001", usr, join(directory, "tree")]);
  const keys = await makeKeys("tiny");
  await copyKeys(keys, join(directory, "keys"));
  const built = await buildImage(projectIn(directory), {
    artefacts: await writeArtefacts(directory, { usr: await readFile(usr) }),
    lock: TINY_LOCK,
    stateDirectory: directory,
    outputDirectory: join(directory, "images"),
  });
  return { directory, keys, built };
}

test("gdisk finds no fault with an image's partition table", async (context) => {
  needs(context, "sgdisk");
  const { built } = await realImage(context);
  expect(run("sgdisk", ["--verify", built.disk])).toContain("No problems found");
});

test("sbsigntool accepts an image's kernel", async (context) => {
  needs(context, "sbverify");
  const { built, keys } = await realImage(context);
  expect(run("sbverify", ["--cert", join(keys.directory, "db.crt"), built.uki])).toContain("Signature verification OK");
});

test("veritysetup verifies an image's /usr with the root hash on the kernel command line", async (context) => {
  needs(context, "veritysetup");
  const { built, directory } = await realImage(context);
  await using disk = await openDiskImage(built.disk);
  const paths: string[] = [];
  for (const type of ["usr-x86-64", "usr-x86-64-verity"]) {
    const found = disk.partitions.find(({ typeName, label }) => typeName === type && label === "tiny_1.0");
    const source = disk.open(found?.number ?? 0);
    paths.push(join(directory, type));
    await writeFile(join(directory, type), await source.read(0, source.sizeBytes));
  }
  const rootHash = /usrhash=(\w+)/.exec(built.record.commandLine)?.[1] ?? "";
  run("veritysetup", ["verify", ...paths, rootHash]);
});

test("a real /usr is inspected, and its drawing is well-formed", async (context) => {
  needs(context, "xmllint");
  const { built, directory, keys } = await realImage(context);
  const { db, verity } = keys.set.certificates;
  const inspection = await inspectImage(built.disk, { trusted: { db: [db], verity: [verity] } });
  expect(inspection.partitions[1]?.content).toBe("EROFS, 3 inodes");
  expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(Array(4).fill("verified"));
  await writeFile(join(directory, "image.svg"), renderSvg(inspection));
  run("xmllint", ["--noout", join(directory, "image.svg")]);
});
