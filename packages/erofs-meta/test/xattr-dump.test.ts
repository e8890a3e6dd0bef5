import { describe, expect, test } from "vitest";
import { addXattrs, ErofsError, parseXattrDump, type TreeEntry } from "../src/index.ts";

const DUMP = String.raw`# file: .
trusted.root="r"

# file: ü
user.bin=0sAAH/
user.hex=0x0001FF
user.empty=""
user.none
user.eq\075ual na="v"
user.plain="he said \"hi\" \\ back\012"

# file: sub/we ird\134name
user.x="1"
`;

function codeOf(text: string): string | undefined {
  try {
    parseXattrDump(Buffer.from(text, "latin1"));
    return undefined;
  } catch (error) {
    if (error instanceof ErofsError) return error.code;
    throw error;
  }
}

function hexOf(xattrs: Readonly<Record<string, Uint8Array>> | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(xattrs ?? {}).map(([name, value]) => [name, Buffer.from(value).toString("latin1")]),
  );
}

describe("parseXattrDump", () => {
  test("reads every way getfattr has to write values and names", () => {
    const dump = parseXattrDump(Buffer.from(DUMP));
    expect([...dump.keys()]).toEqual([".", "ü", "sub/we ird\\name"]);
    expect(hexOf(dump.get("ü"))).toEqual({
      "user.bin": "\0\x01\xff",
      "user.hex": "\0\x01\xff",
      "user.empty": "",
      "user.none": "",
      "user.eq=ual na": "v",
      "user.plain": 'he said "hi" \\ back\n',
    });
  });

  test.each([
    ["an attribute of no file", 'user.a="b"', "EROFS_BAD_DUMP"],
    ["a value without quotes", "# file: a\nuser.a=b", "EROFS_BAD_DUMP"],
    ["half a hexadecimal digit", "# file: a\nuser.a=0x1", "EROFS_BAD_DUMP"],
    ["base64 that is none", "# file: a\nuser.a=0sA", "EROFS_BAD_DUMP"],
    ["an escape of nothing", '# file: a\nuser.a="\\x"', "EROFS_BAD_DUMP"],
    ["a backslash at the end", '# file: a\nuser.a="b\\"', "EROFS_BAD_DUMP"],
    ["an attribute that is no UTF-8", "# file: a\nuser.\xff=0x00", "EROFS_NOT_REPRESENTABLE"],
  ])("refuses %s", (_, text, code) => {
    expect(codeOf(text)).toBe(code);
  });

  test("takes every truncation or refuses it", () => {
    const bytes = Buffer.from(DUMP, "latin1").toString("latin1");
    for (let length = 0; length < bytes.length; length += 1) {
      expect([undefined, "EROFS_BAD_DUMP", "EROFS_NOT_REPRESENTABLE"]).toContain(codeOf(bytes.slice(0, length)));
    }
  });
});

describe("addXattrs", () => {
  const entries: TreeEntry[] = [
    { type: "directory", path: "/" },
    { type: "file", path: "./a", content: new Uint8Array(0), xattrs: { "user.b": Buffer.from("own") } },
    { type: "link", path: "/b", target: "/a" },
  ];

  test("adds them by path, whatever it starts with, and not to further names of a node", async () => {
    const text = '# file: .\nuser.root="1"\n# file: a\nuser.a="1"\nuser.b="2"\n# file: /b\nuser.a="1"\n';
    const found: unknown[] = [];
    for await (const entry of addXattrs(entries, parseXattrDump(Buffer.from(text)))) {
      found.push("xattrs" in entry ? hexOf(entry.xattrs) : entry.type);
    }
    expect(found).toEqual([{ "user.root": "1" }, { "user.a": "1", "user.b": "own" }, "link"]);
  });

  test("refuses attributes of what is not there", async () => {
    const dump = parseXattrDump(Buffer.from('# file: root/a\nuser.a="1"\n'));
    const read = async (): Promise<void> => {
      for await (const _ of addXattrs(entries, dump));
    };
    await expect(read()).rejects.toMatchObject({ code: "EROFS_BAD_TREE", path: "/root/a" });
  });
});
