import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { DEFAULT_MAX_DEB_ARCHIVE_BYTES, NixGenError, readDebFile } from "../../src/index.ts";
import { makeAr, makeDeb, tarHeader } from "../helpers/archive.ts";
import { asyncRefusal } from "../helpers/refusal.ts";

const deb = await makeDeb({ name: "toy", entries: [{ name: "./usr/bin/toy", content: "the program\n", mode: 0o755 }] });
const read = async (bytes: Uint8Array, path: string | string[] = "usr/bin/toy"): Promise<string> =>
  Buffer.from(await readDebFile(bytes, path)).toString();

test("takes a file out of a package, by the first of its names that is there", async () => {
  expect(await read(deb)).toBe("the program\n");
  expect(await read(deb, ["bin/toy", "usr/bin/toy"])).toBe("the program\n");
});

test("says that there is no such file", async () => {
  const error = await asyncRefusal(readDebFile(deb, ["bin/toy", "usr/bin"]));
  expect([error.code, error.message]).toEqual([
    "NIX_GEN_BAD_DEB",
    "expected bin/toy or usr/bin in the package, found no such file",
  ]);
});

test("refuses every truncation", async () => {
  // The last byte may only even out the length.
  for (let length = 0; length < deb.length - 1; length++) {
    expect((await asyncRefusal(readDebFile(deb.subarray(0, length), "usr/bin/toy"))).code).toBe("NIX_GEN_BAD_DEB");
  }
});

test("gives the file or its own error for every changed byte", async () => {
  for (let index = 0; index < deb.length; index++) {
    const changed = deb.map((byte, at) => (at === index ? byte ^ 0xff : byte));
    const result = await read(changed).catch((error: unknown) => error);
    if (typeof result !== "string") expect(result).toBeInstanceOf(NixGenError);
  }
});

test("refuses a package that unpacks to more than its limit, and keeps none of it in memory", async () => {
  const zeros = gzipSync(new Uint8Array(32 << 20));
  const bomb = makeAr({
    "debian-binary": Buffer.from("2.0\n"),
    "data.tar.gz": Buffer.concat([
      gzipSync(await tarHeader("./usr/share/zeros", 2 ** 30)),
      ...Array<Buffer>(9).fill(zeros),
    ]),
  });
  expect(bomb.length).toBeLessThan(1 << 20);
  const error = await asyncRefusal(readDebFile(bomb, "usr/bin/toy"));
  expect([error.code, error.message]).toEqual([
    "NIX_GEN_BAD_DEB",
    `expected an archive of at most ${DEFAULT_MAX_DEB_ARCHIVE_BYTES} bytes in the package, got more`,
  ]);
});
