import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { decodeSuperblock, ErofsError, memorySource, openErofs } from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { tinyImage } from "./tiny-image.ts";

test("EROFS_BAD_CHECKSUM is for every flipped byte that only the checksum shows", async () => {
  const image = tinyImage({ checksum: true });
  expect(decodeSuperblock(image).volumeName).toBe("tiny");
  const [checksum, uuid, name] = [1024 + 4, 1024 + 48, 1024 + 64];
  for (const at of [checksum, uuid, name]) {
    const flipped = image.slice();
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    const error = await openErofs(memorySource(flipped)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ErofsError);
    expect(error).toMatchObject({ code: "EROFS_BAD_CHECKSUM", offset: checksum });
  }
});

test("EROFS_VERITY_DAMAGED is what the command says of a flipped byte, with the report", async () => {
  const folder = await scratch();
  const data = noise(4096 * 4);
  await writeFile(join(folder, "data"), data);
  const build = capture(folder);
  expect(await main(["verity", "build", "data", "tree", "--salt", "00", "--json"], build.io)).toBe(0);
  const { rootHash } = JSON.parse(build.out()) as { rootHash: string };
  data[4096 * 2] = (data[4096 * 2] ?? 0) ^ 1;
  await writeFile(join(folder, "data"), data);
  const verify = capture(folder);
  expect(await main(["verity", "verify", "data", "tree", rootHash, "--json"], verify.io)).toBe(1);
  expect(JSON.parse(verify.out())).toMatchObject({
    kind: "error",
    code: "EROFS_VERITY_DAMAGED",
    report: { ok: false, damagedDataBlocks: [{ first: 2, count: 1 }] },
  });
});
