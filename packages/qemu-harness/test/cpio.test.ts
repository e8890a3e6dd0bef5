import { describe, expect, test } from "vitest";
import { encodeCpio } from "../src/index.ts";

const FILES = [
  { path: "usr/lib/b", data: new TextEncoder().encode("hello") },
  { path: "init", data: new Uint8Array() },
];

describe("encodeCpio", () => {
  test("writes directories first, then files by name, and ends at 512 bytes", () => {
    const archive = Buffer.from(encodeCpio(FILES, 0x6956_7890));
    expect(archive.length).toBe(1024);
    // Each entry: header of 110 bytes, name and data padded to 4; the fields are named in encodeEntry.
    expect(dump(archive)).toMatchInlineSnapshot(`
      [
        "0: 1 41ed 0 0 2 69567890 0 0 0 0 0 4 0 usr",
        "116: 2 41ed 0 0 2 69567890 0 0 0 0 0 8 0 usr/lib",
        "236: 3 81a4 0 0 1 69567890 0 0 0 0 0 5 0 init",
        "352: 4 81a4 0 0 1 69567890 5 0 0 0 0 a 0 usr/lib/b",
        "480: 0 0 0 0 1 0 0 0 0 0 0 b 0 TRAILER!!!",
      ]
    `);
  });

  test("does not depend on the order of the files", () => {
    expect(encodeCpio([...FILES].reverse(), 1)).toEqual(encodeCpio(FILES, 1));
  });

  test("is only an end when there are no files", () => {
    expect(Buffer.from(encodeCpio([], 1)).toString("latin1").replaceAll("\0", "")).toMatch(
      /^070701[0-9a-f]{104}TRAILER!!!$/,
    );
  });
});

function dump(archive: Buffer): string[] {
  const lines: string[] = [];
  const text = archive.toString("latin1");
  for (const { index } of text.matchAll(/070701/g)) {
    const size = Number.parseInt(text.slice(index + 94, index + 102), 16);
    const fields = text
      .slice(index + 6, index + 110)
      .match(/.{8}/g)
      ?.map((field) => field.replace(/^0+(?=.)/, ""));
    lines.push(`${index}: ${fields?.join(" ")} ${text.slice(index + 110, index + 109 + size)}`);
  }
  return lines;
}
