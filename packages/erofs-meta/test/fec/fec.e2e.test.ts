import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileSource } from "../../src/block-source.ts";
import { buildVerityFec } from "../../src/fec/build.ts";
import { buildVerityTree } from "../../src/verity/build.ts";
import { hex, needs, noise, run, scratch } from "../support.ts";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const SALT = noise(32, 7);

describe("parity", () => {
  const shapes = [
    ...[1, 250, 254, 600].flatMap((blocks) => [2, 24].map((roots) => ({ blockSize: 4096, blocks, roots }))),
    ...[1, 2, 253, 2000].flatMap((blocks) => [2, 5].map((roots) => ({ blockSize: 512, blocks, roots }))),
  ];
  test.for(shapes)("for %o is veritysetup's to the byte", async ({ blockSize, blocks, roots }, context) => {
    needs(context, "veritysetup");
    const folder = await scratch();
    const [data, theirs, theirFec, ours, ourFec] = ["data", "theirs", "their-fec", "ours", "our-fec"].map((name) =>
      join(folder, name),
    ) as [string, string, string, string, string];
    await writeFile(data, noise(blocks * blockSize, blocks));
    run(
      "veritysetup",
      "format",
      ...[`--data-block-size=${blockSize}`, `--hash-block-size=${blockSize}`],
      ...[`--salt=${hex(SALT)}`, `--uuid=${UUID}`, `--fec-device=${theirFec}`, `--fec-roots=${roots}`],
      ...[data, theirs],
    );
    await using source = await fileSource(data);
    await buildVerityTree(source, {
      output: ours,
      salt: SALT,
      uuid: UUID,
      dataBlockSize: blockSize,
      hashBlockSize: blockSize,
    });
    await using tree = await fileSource(ours);
    const built = await buildVerityFec(source, tree, { output: ourFec, roots });
    expect(built.roots).toBe(roots);
    const [mine, yours] = [await readFile(ourFec), await readFile(theirFec)];
    expect(mine.byteLength).toBe(yours.byteLength);
    expect(mine.equals(yours)).toBe(true);
  });
});
