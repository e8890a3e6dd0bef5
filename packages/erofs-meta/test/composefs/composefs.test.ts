import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { memorySource } from "../../src/block-source.ts";
import { main } from "../../src/cli.ts";
import { formatComposefsDump, parseComposefsDump } from "../../src/composefs/dump.ts";
import { fsVerityDigest } from "../../src/composefs/fs-verity.ts";
import { readComposefs } from "../../src/composefs/read.ts";
import { encodeComposefs } from "../../src/composefs/write.ts";
import { ErofsError } from "../../src/errors.ts";
import { openErofs } from "../../src/read/image.ts";
import { capture, hex, noise, scratch } from "../support.ts";
import { DUMPS } from "./trees.ts";

/** What `mkcomposefs --from-file --print-digest` of composefs 1.0.8 (Debian testing, 1.0.8-3) prints for the same dump. */
const DIGESTS: Readonly<Record<string, string>> = {
  "nothing but a root": "0c155cd268bf5ac6482d6d001212c77958d2518f7329295245ebd11568ab5e0d",
  "every type": "08b18723aaad9248dcef5c31270992b5fff26e673bc7c6d3064c95379b846214",
  "names on all sides of . and ..": "5eba407dde797b9d4155dba5773b5f46f0ab02c2a587373eb55529b83b53cd8d",
  "whiteouts and overlayfs's own attributes": "248c2152f8f9bdb1aa47c10499e39b7a3d08f9caceafde5ca62c87c29f05bdcb",
  "attributes that are shared, and many": "563ec22fc8b4772be1088d7f08cce6b62872abbf31d7ad657aa1a8d40e4a3f1b",
  "tails at every place of a block": "93895baf84c17d24d3a8c6ea001d382b5581d380331908271ce58a3ddfb3f74f",
  "directories of many sizes": "fc5c323aa60ed1cf39dcee4accc80c70cffe0661d6cc4a8fc92d4d25521936e6",
};
const cases = Object.entries(DUMPS);

function image(dump: string): Uint8Array {
  return encodeComposefs(parseComposefsDump(Buffer.from(dump)));
}

async function codeOf(action: () => unknown): Promise<string | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    if (error instanceof ErofsError) return error.code;
    throw error;
  }
}

const ROOT = "/ 0 40755 2 0 0 0 1.0 - - -";

describe("a metadata-only image", () => {
  test.each(cases)("of %s is mkcomposefs's to the byte", async (name, dump) => {
    expect(hex(await fsVerityDigest(memorySource(image(dump))))).toBe(DIGESTS[name]);
  });

  test.each(cases)("of %s is read back to what it was made of", async (_, dump) => {
    const made = image(dump);
    const entries = await readComposefs(await openErofs(memorySource(made)));
    expect(Buffer.compare(encodeComposefs(entries), made)).toBe(0);
    const text = formatComposefsDump(entries);
    expect(formatComposefsDump(parseComposefsDump(Buffer.from(text)))).toBe(text);
  });

  test("is read by whoever reads EROFS", async () => {
    const erofs = await openErofs(memorySource(image(DUMPS["every type"] ?? "")));
    expect(Buffer.from(await erofs.readFile(await erofs.lookup("/inline"))).toString()).toBe("hello\n");
    const file = await erofs.lookup("/file");
    expect(file).toMatchObject({ type: "file", sizeBytes: 12_345n, links: 1 });
    expect((await erofs.xattrs(file)).map(({ name }) => name)).toEqual([
      "trusted.overlay.metacopy",
      "trusted.overlay.redirect",
    ]);
  });

  test.each([
    ["no root", "/a 0 100644 1 0 0 0 1.0 - - -", "EROFS_BAD_TREE"],
    ["nothing", "", "EROFS_BAD_TREE"],
    ["a file as root", "/ 0 100644 1 0 0 0 1.0 - - -", "EROFS_BAD_TREE"],
    ["the same path twice", `${ROOT}\n/a 0 100644 1 0 0 0 1.0 - - -\n/a 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["a directory that is missing", `${ROOT}\n/a/b 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["a file in a file", `${ROOT}\n/a 0 100644 1 0 0 0 1.0 - - -\n/a/b 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["the name ..", `${ROOT}\n/.. 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["an empty name", `${ROOT}\n// 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["a relative path", `${ROOT}\na 0 100644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["a link to nothing", `${ROOT}\n/a 0 @100644 1 0 0 0 1.0 /b - -`, "EROFS_BAD_TREE"],
    ["a link to a directory", `${ROOT}\n/a 0 @100644 1 0 0 0 1.0 / - -`, "EROFS_BAD_TREE"],
    ["a link to itself", `${ROOT}\n/a 0 @100644 1 0 0 0 1.0 /a - -`, "EROFS_BAD_TREE"],
    ["an unknown type", `${ROOT}\n/a 0 30644 1 0 0 0 1.0 - - -`, "EROFS_BAD_TREE"],
    ["a name of 256 bytes", `${ROOT}\n/${"a".repeat(256)} 0 100644 1 0 0 0 1.0 - - -`, "EROFS_NOT_REPRESENTABLE"],
    ["a target of nothing", `${ROOT}\n/a 0 120777 1 0 0 0 1.0 - - -`, "EROFS_NOT_REPRESENTABLE"],
    ["a target of 4096", `${ROOT}\n/a 0 120777 1 0 0 0 1.0 ${"a".repeat(4096)} - -`, "EROFS_NOT_REPRESENTABLE"],
    ["content of 5001", `${ROOT}\n/a 5001 100644 1 0 0 0 1.0 - ${"a".repeat(5001)} -`, "EROFS_NOT_REPRESENTABLE"],
    ["attributes of 32 KiB", `${ROOT} user.a=${"a".repeat(32_768)}`, "EROFS_NOT_REPRESENTABLE"],
    ["an attribute of no kind", `${ROOT} odd=1`, "EROFS_NOT_REPRESENTABLE"],
    ["an attribute that is no UTF-8", `${ROOT} user.\\xff=1`, "EROFS_NOT_REPRESENTABLE"],
  ])("is not made of %s", async (_, dump, code) => {
    expect(await codeOf(() => image(dump))).toBe(code);
  });
});

describe("a dump", () => {
  test("is written as composefs-info does", async () => {
    const dump = [
      "/ 4096 40755 2 0 0 0 1.2 - - - user.a\\x3db=c\\x3dd\\n\\x00",
      "/a\\x20b 1 100644 2 1 2 0 3.0 - - -",
      "/c 1 @100644 2 1 2 0 3.0 /a\\x20b - -",
      "/d 1 100644 1 0 0 0 3.0 - - - user.e=",
      "/e 1 100644 1 0 0 0 3.0 \\x2d \\x2d -",
      "",
    ].join("\n");
    expect(formatComposefsDump(parseComposefsDump(Buffer.from(dump)))).toBe(dump);
  });

  test.each([
    ["too few fields", "/ 0 40755 2 0 0 0 1.0 - -"],
    ["a size that is none", "/ x 40755 2 0 0 0 1.0 - - -"],
    ["a size beyond all counting", "/ 99999999999999999999 40755 2 0 0 0 1.0 - - -"],
    ["a mode that is not octal", "/ 0 9 2 0 0 0 1.0 - - -"],
    ["a mode without a type", "/ 0 755 2 0 0 0 1.0 - - -"],
    ["an owner over 32 bits", "/ 0 40755 2 4294967296 0 0 1.0 - - -"],
    ["a time without a fraction", "/ 0 40755 2 0 0 0 1 - - -"],
    ["a digest that is too short", "/ 0 40755 2 0 0 0 1.0 - - abcd"],
    ["a half escape", "/\\x4 0 40755 2 0 0 0 1.0 - - -"],
    ["an unknown escape", "/\\q 0 40755 2 0 0 0 1.0 - - -"],
    ["an attribute without a value", `${ROOT} user.a`],
    ["an attribute without a name", `${ROOT} =a`],
    ["content of another size", "/ 3 40755 2 0 0 0 1.0 - ab -"],
    ["a link without a target", "/a 0 @100644 1 0 0 0 1.0 - - -"],
    ["a NUL byte", "/\0 0 40755 2 0 0 0 1.0 - - -"],
    ["a time beyond 64 bits", `/ 0 40755 2 0 0 0 ${2n ** 64n}.0 - - -`],
    ["a time of a million digits", `/ 0 40755 2 0 0 0 ${"9".repeat(1_000_000)}.0 - - -`],
    ["a field of a megabyte", `/ 0 ${"x".repeat(1_000_000)} 2 0 0 0 1.0 - - -`],
    ["an empty line", `${ROOT}\n\n`],
  ])("with %s is a typed error with its line", async (_, dump) => {
    expect(await codeOf(() => parseComposefsDump(Buffer.from(dump)))).toBe("EROFS_BAD_DUMP");
    expect(() => parseComposefsDump(Buffer.from(dump))).toThrow(/^.{1,200}\(line [12]\)$/);
  });

  test("with the latest time that an inode can hold is read", () => {
    const [root] = parseComposefsDump(Buffer.from(`/ 0 40755 2 0 0 0 ${2n ** 64n - 1n}.0 - - -\n`));
    expect(root).toMatchObject({ mtime: 2n ** 64n - 1n });
  });

  test("never makes anything but a typed error, wherever it is cut or flipped", { timeout: 60_000 }, async () => {
    const whole = Buffer.from(DUMPS["every type"] ?? "");
    for (let at = 0; at < whole.byteLength; at += 1) {
      await codeOf(() => encodeComposefs(parseComposefsDump(whole.subarray(0, at))));
      for (const bit of [1, 0x20, 0x80]) {
        const flipped = Uint8Array.from(whole);
        flipped[at] = (flipped[at] ?? 0) ^ bit;
        await codeOf(() => encodeComposefs(parseComposefsDump(flipped)));
      }
    }
  });
});

describe("the command", () => {
  test("builds an image, prints its digest, and prints it as a dump again", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "os.dump"), DUMPS["every type"] ?? "");
    const build = capture(folder);
    expect(await main(["composefs", "build", "os.dump", "os.cfs"], build.io)).toBe(0);
    expect(build.out()).toBe(`os.cfs: 32 KiB, fs-verity digest ${DIGESTS["every type"]}\n`);
    const digest = capture(folder);
    expect(await main(["composefs", "digest", "os.cfs"], digest.io)).toBe(0);
    expect(digest.out()).toBe(`${DIGESTS["every type"]}\n`);
    const dump = capture(folder);
    expect(await main(["composefs", "dump", "os.cfs"], dump.io)).toBe(0);
    expect(Buffer.compare(image(dump.out()), await readFile(join(folder, "os.cfs")))).toBe(0);
  });

  test("leaves nothing of a bad dump", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "os.dump"), "nonsense");
    const { io, err } = capture(folder);
    expect(await main(["composefs", "build", "os.dump", "os.cfs"], io)).toBe(1);
    expect(err()).toContain("EROFS_BAD_DUMP");
    await expect(readFile(join(folder, "os.cfs"))).rejects.toMatchObject({ code: "ENOENT" });
  });
});

test("a source is read in pieces", async () => {
  const bytes = noise(3_000_000);
  const reads: number[] = [];
  const source = {
    sizeBytes: bytes.byteLength,
    async read(at: number, length: number) {
      reads.push(length);
      return bytes.subarray(at, at + length);
    },
    async close() {},
  };
  await fsVerityDigest(source);
  expect(Math.max(...reads)).toBeLessThan(2 ** 21);
});
