import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  diffErofs,
  extractErofs,
  formatComposefsDump,
  memorySource,
  openErofs,
  parseComposefsDump,
  readDirectory,
  type TreeEntry,
} from "../src/index.ts";
import { isNameText, nameBytes, nameText } from "../src/internal/names.js";
import { imageOf, latin1, NAMES, oddTree } from "./odd-names.ts";
import { scratch } from "./support.ts";

describe("names", () => {
  test("of any bytes are text that has the same bytes, and is no other's", () => {
    const bytes = fc.uint8Array({ maxLength: 12 });
    const hostile = fc.array(fc.constantFrom(0x41, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xed, 0xa0, 0xbf, 0xff));
    fc.assert(
      fc.property(
        fc.oneof(
          bytes,
          hostile.map((list) => Uint8Array.from(list)),
        ),
        (one) => {
          const text = nameText(one);
          expect(isNameText(text)).toBe(true);
          expect(Buffer.compare(nameBytes(text), one)).toBe(0);
          expect(JSON.parse(JSON.stringify(text))).toBe(text);
        },
      ),
    );
  });

  test("that are text are themselves", () => {
    for (const text of ["", "häre", "🐇", "a\u0000b", "\ufffd", "\ufeffx"]) {
      expect(nameText(Buffer.from(text))).toBe(text);
      expect(Buffer.compare(nameBytes(text), Buffer.from(text))).toBe(0);
    }
  });

  test.each(["\ud800", "\udc7f", "\udd00", "\udcc3\udca9"])("are not %j", async (name) => {
    expect(isNameText(name)).toBe(false);
    for (const entry of [
      { type: "file", path: `/${name}`, content: new Uint8Array() },
      { type: "symlink", path: "/link", target: name },
    ] as const) {
      await expect(imageOf([entry])).rejects.toMatchObject({ code: "EROFS_NOT_REPRESENTABLE" });
    }
  });
});

describe("names that are not UTF-8", () => {
  test("come out of an image as they went in, each with its own content", async () => {
    const folder = await oddTree();
    await using image = await openErofs(memorySource(await imageOf(readDirectory(folder))));
    for (const name of NAMES) {
      const content = await image.readFile(await image.lookup(`/${nameText(latin1(name))}`));
      expect(Buffer.from(content).toString("latin1")).toBe(`content of ${name}`);
    }
    expect((await image.lookup("/link\udcff")).sizeBytes).toBe(2_000_000n);
    const out = join(await scratch(), "out");
    expect(await extractErofs(image, out)).toMatchObject({ files: NAMES.length + 1, hardLinks: 1, symlinks: 1 });
    const list = async (path: string) => (await readdir(path, { encoding: "latin1" as BufferEncoding })).sort();
    expect(await list(out)).toEqual(await list(folder));
    expect((await readFile(Buffer.concat([Buffer.from(`${out}/`), latin1("x\xff")]))).toString("latin1")).toBe(
      "content of x\xff",
    );
    const target = await readlink(Buffer.concat([Buffer.from(`${out}/`), latin1("link\xff")]), { encoding: "buffer" });
    expect(target.toString("latin1")).toBe("d\xfe/large\xff");
  });

  test("are compared by their bytes", async () => {
    const file = (name: string, content: string): TreeEntry => ({
      type: "file",
      path: `/${nameText(latin1(name))}`,
      content: Buffer.from(content),
    });
    await using before = await openErofs(memorySource(await imageOf([file("x\xfe", "1"), file("x\xff", "2")])));
    await using after = await openErofs(memorySource(await imageOf([file("x\xfd", "1"), file("x\xff", "3")])));
    const { added, removed, changed } = await diffErofs(before, after);
    expect([added, removed, changed.map(({ path }) => path)]).toEqual([["/x\udcfd"], ["/x\udcfe"], ["/x\udcff"]]);
  });

  test("are kept from a dump of composefs to the next", () => {
    const dump = "/ 0 40755 2 0 0 0 1.0 - - -\n/a\\xff 0 120777 1 0 0 0 1.0 b\\xfe - -\n";
    expect(formatComposefsDump(parseComposefsDump(Buffer.from(dump)))).toBe(dump);
  });
});
