import { closeSync, fstatSync, readSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { withoutPages } from "../src/internal/migration-stream.ts";
import { openUnnamedFile } from "../src/internal/unnamed-file.ts";

const [ZERO, BLOCKS, PAGE, END, CONTINUED] = [0x02, 0x04, 0x08, 0x10, 0x20];

const u32 = (value: number): Buffer => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value]);
const u64 = (value: number): Buffer => Buffer.concat([u32(Math.floor(value / 2 ** 32)), u32(value >>> 0)]);
const name = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
const page = (address: number, block: string | undefined, fill: number): Buffer =>
  Buffer.concat([
    u64(address + PAGE + (block === undefined ? CONTINUED : 0)),
    ...(block === undefined ? [] : [name(block)]),
    Buffer.alloc(4096, fill),
  ]);
const zero = (address: number, block?: string): Buffer =>
  Buffer.concat([
    u64(address + ZERO + (block === undefined ? CONTINUED : 0)),
    ...(block === undefined ? [] : [name(block)]),
    Buffer.from([0]),
  ]);
const block = (text: string, size: number): Buffer => Buffer.concat([name(text), u64(size), u64(0)]);
const section = (kind: number, ...records: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([kind]), u32(2), ...records, u64(END), Buffer.from([0x7e]), u32(2)]);

const HEAD = Buffer.from("QEVM\0\0\0\x03\x07\0\0\0\x07microvm", "latin1");
const RAM = Buffer.from("\x03ram\0\0\0\0\0\0\0\x04", "latin1");
const BLOCK_LIST = Buffer.concat([
  u64(0x2_4000_0000 + BLOCKS),
  block("memory", 0x2_3000_0000),
  block("bios", 0x1000_0000),
]);
const DEVICES = Buffer.concat([Buffer.from([0x04]), u32(9), Buffer.alloc(70_000, 0xdd)]);
/** What QEMU 10 says between two sections. */
const COMMAND = Buffer.from([0x08, 0x00, 0x0b, 0x00, 0x02, 0xee, 0xee]);
const setup = section(0x01, RAM, BLOCK_LIST);

/** What a fork says of itself, with pages of its memory in all sections, or without. */
function stream(isLean: boolean): Buffer {
  const ifWhole = (...records: readonly Buffer[]): readonly Buffer[] => (isLean ? [] : records);
  const many = Array.from({ length: 600 }, (_, index) => page((index + 3) * 4096, undefined, 2));
  return Buffer.concat([
    HEAD,
    setup,
    section(0x02, ...ifWhole(page(0x2_0000_0000, "memory", 1), zero(4096))),
    // Goes on with the block of the section before.
    section(0x02, ...ifWhole(page(8192, undefined, 2), ...many), page(0, "bios", 3), zero(4096)),
    COMMAND,
    COMMAND,
    section(0x03, zero(8192), ...ifWhole(zero(0, "memory"), page(4096, undefined, 4))),
    DEVICES,
  ]);
}

async function lean(bytes: Uint8Array): Promise<Buffer | undefined> {
  const source = openUnnamedFile(bytes);
  const target = await withoutPages(source, "memory", undefined);
  closeSync(source);
  if (target === undefined) return undefined;
  const read = Buffer.alloc(fstatSync(target).size);
  readSync(target, read, 0, read.length, 0);
  closeSync(target);
  return read;
}

describe("the state of a machine", () => {
  test("loses the pages of one block, and nothing else", async () => {
    const found = await lean(stream(false));
    expect(found?.equals(stream(true))).toBe(true);
    expect((await lean(stream(true)))?.equals(stream(true))).toBe(true);
  });

  test("is left as it is when it is not understood", async () => {
    expect(await lean(new Uint8Array())).toBeUndefined();
    expect(await lean(Buffer.alloc(100_000, 0x51))).toBeUndefined();
    const other = Buffer.concat([Buffer.from([0x01]), u32(3), name("dirty-bitmap")]);
    expect(await lean(Buffer.concat([HEAD, setup, other, DEVICES]))).toBeUndefined();
    const compressed = Buffer.concat([u64(0x100), name("memory")]);
    expect(await lean(Buffer.concat([HEAD, setup, section(0x02, compressed), DEVICES]))).toBeUndefined();
    const tooMany = Buffer.concat([u64(4096 + BLOCKS), block("memory", 8192)]);
    expect(await lean(Buffer.concat([HEAD, section(0x01, RAM, tooMany), section(0x03), DEVICES]))).toBeUndefined();
  });

  test("is not understood when it ends within its memory", async () => {
    const short = Buffer.concat([
      HEAD,
      setup,
      section(0x02, page(0, "memory", 1), page(0, "bios", 1)),
      COMMAND,
      section(0x03, zero(4096, "memory")),
    ]);
    for (let length = 0; length < short.length; length += 13)
      expect(await lean(short.subarray(0, length))).toBeUndefined();
    expect(await lean(short)).toBeDefined();
  });
});
