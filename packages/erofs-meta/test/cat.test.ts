import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { capture, scratch } from "./support.ts";
import { BLOCK, NIDS, tinyImage } from "./tiny-image.ts";

const META_BLOCK = 3;
const SIZE_FIELD = 8;

test("cat --json refuses content that is too long for one document", async () => {
  const folder = await scratch();
  const image = tinyImage();
  const sizeBytes = 300 * 1024 * 1024;
  new DataView(image.buffer).setUint32(META_BLOCK * BLOCK + NIDS.plain * 32 + SIZE_FIELD, sizeBytes, true);
  await writeFile(join(folder, "tiny.erofs"), image);
  const { io, out } = capture(folder);
  expect(await main(["cat", "tiny.erofs", "/plain", "--json"], io)).toBe(1);
  expect(JSON.parse(out())).toMatchObject({
    kind: "error",
    code: "EROFS_LIMIT",
    message: expect.stringContaining(`got ${sizeBytes}`),
    hint: expect.stringContaining("leave out --json"),
    path: "/plain",
  });
});

test.each([
  ["/sub", "directory"],
  ["/dev", "char"],
])("cat refuses %s, a %s", async (path, type) => {
  const folder = await scratch();
  await writeFile(join(folder, "tiny.erofs"), tinyImage());
  for (const more of [[], ["--json"]]) {
    const { io, out, err } = capture(folder);
    expect(await main(["cat", "tiny.erofs", path, ...more], io)).toBe(1);
    expect(out() + err()).toContain("EROFS_WRONG_TYPE");
    expect(out() + err()).toContain(`expected a file at ${path}, got a ${type}`);
  }
});
