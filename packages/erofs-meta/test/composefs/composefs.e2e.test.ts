import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileSource } from "../../src/block-source.ts";
import { parseComposefsDump } from "../../src/composefs/dump.ts";
import { fsVerityDigest } from "../../src/composefs/fs-verity.ts";
import { encodeComposefs } from "../../src/composefs/write.ts";
import { hex, needs, noise, run, scratch } from "../support.ts";
import { DUMPS } from "./trees.ts";

describe("an fs-verity digest", () => {
  test.for([0, 1, 4095, 4096, 4097, 8192, 128 * 4096, 128 * 4096 + 1, 129 * 4096, 3_000_000, 128 * 128 * 4096 + 5])(
    "of %i bytes is fsverity's",
    async (length, context) => {
      needs(context, "fsverity");
      const path = join(await scratch(), "file");
      await writeFile(path, noise(length));
      await using source = await fileSource(path);
      expect(hex(await fsVerityDigest(source))).toBe(run("fsverity", "digest", "--compact", path).trim());
    },
  );
});

describe("a metadata-only image", () => {
  test.for(Object.entries(DUMPS))("of %s satisfies fsck.erofs", async ([, dump], context) => {
    needs(context, "fsck.erofs");
    const path = join(await scratch(), "image");
    await writeFile(path, encodeComposefs(parseComposefsDump(Buffer.from(dump))));
    run("fsck.erofs", path);
  });
});
