import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import type { NodeDisk } from "../src/block/node-disk.ts";
import { type BlockDeviceOptions, createBlockDevice, QemuError } from "../src/index.ts";
import { content, FLUSH, FUA, letters, NbdClient, READ, TRIM, WRITE, WRITE_ZEROES } from "./nbd-client.ts";

const SECTORS = 4096;

async function open(options: BlockDeviceOptions = { sizeBytes: SECTORS * 512 }): Promise<[NodeDisk, NbdClient]> {
  const disk = (await createBlockDevice(options)) as NodeDisk;
  const client = new NbdClient(disk);
  await client.connect();
  return [disk, client];
}

/** Time passes until what was sent has been worked on. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe("a disk in this process", () => {
  test("holds what any sequence of requests leaves on an image that stays as it is", async () => {
    const request = fc.record({
      type: fc.constantFrom(WRITE, WRITE, WRITE, TRIM, WRITE_ZEROES, FLUSH),
      sector: fc.nat({ max: 600 }),
      sectors: fc.integer({ min: 1, max: 300 }),
      letter: fc.constantFrom(..."abcdefgh"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 25 }), async (requests) => {
        const image = new Uint8Array(1000 * 512 - 100).fill(0x7a);
        const expected = Buffer.concat([image, Buffer.alloc(100)]);
        const before = Uint8Array.from(image);
        const source = {
          sizeBytes: image.length,
          read: async (offset: number, length: number) => image.subarray(offset, offset + length),
          close: async () => {},
        };
        const [disk, client] = await open({ source });
        await using _disk = disk;
        for (const { type, sector, sectors, letter } of requests) {
          const data = type === WRITE ? Buffer.alloc(sectors * 512, letter) : undefined;
          const at = type === FLUSH ? {} : { sector, sectors };
          expect(await client.request(type, { ...at, ...(data && { data }) })).toMatchObject({ error: 0 });
          if (type !== FLUSH) expected.fill(data ?? 0, sector * 512, (sector + sectors) * 512);
        }
        const { data } = await client.request(READ, { sector: 0, sectors: 1000 });
        expect(data.equals(expected)).toBe(true);
        expect(Buffer.from(await disk.read(700, 9001)).equals(expected.subarray(700, 9701))).toBe(true);
        expect(Buffer.compare(image, before)).toBe(0);
        const kinds = ["read", "write", "", "flush", "trim", "", "write-zeroes"];
        expect(disk.requests.map(({ type }) => type)).toEqual(requests.map(({ type }) => kinds[type]));
      }),
      { numRuns: 20 },
    );
  });

  test("is a sparse disk of any size", async () => {
    const sizeBytes = 200 * 1024 ** 3;
    const [disk, client] = await open({ sizeBytes });
    await using _disk = disk;
    const last = sizeBytes / 512 - 1;
    await client.write(last, "z");
    expect((await client.request(TRIM, { sector: 1, sectors: 0xffff_fe00 / 512 })).error).toBe(0);
    expect(await letters(disk, last - 1, 2)).toBe(".z");
    expect((await client.request(READ, { sector: last, sectors: 2 })).error).toBe(22);
    expect((await client.request(WRITE_ZEROES, { sector: last, sectors: 2 })).error).toBe(28);
  });

  test("says that it is full when it has been told more than it keeps", async () => {
    const [disk, client] = await open({ sizeBytes: SECTORS * 512, maxWrittenBytes: 16 * 4096 });
    await using _disk = disk;
    for (let index = 0; index < 16; index += 1) expect((await client.write(index, "a")).error).toBe(0);
    expect((await client.write(16, "a")).error).toBe(28);
    expect((await client.request(FLUSH)).error).toBe(28);
    expect(disk.isFull).toBe(true);
    expect((await client.request(READ, { sector: 3, sectors: 1 })).data).toEqual(content("a"));
  });

  test("belongs to one machine at a time", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    expect(() => disk.assertFree("data")).toThrow(QemuError);
    client.stream.end();
    await settled();
    disk.assertFree("data");
  });

  test.each([
    [{}, "expected exactly one"],
    [{ sizeBytes: 100 }, "sizeBytes"],
    [{ sizeBytes: 512, path: "/x" }, "expected exactly one"],
    [{ sizeBytes: 2 ** 40 }, "sizeBytes"],
  ])("refuses %j", async (options, message) => {
    await expect(createBlockDevice(options)).rejects.toMatchObject({
      code: "QEMU_BAD_OPTIONS",
      message: expect.stringContaining(message),
    });
  });

  test("refuses an image that is not there", async () => {
    await expect(createBlockDevice({ path: "/nowhere/at all" })).rejects.toMatchObject({ code: "QEMU_START_FAILED" });
  });
});

describe("a power cut", () => {
  test.each([
    ["kept", "abCd"],
    ["lost", "ab.."],
  ] as const)("with a write cache that is %s", async (writeCache, expected) => {
    const [disk, client] = await open();
    await using _disk = disk;
    await client.write(0, "a");
    await client.request(FLUSH);
    await client.write(1, "b", FUA);
    await client.write(2, "C");
    await client.write(3, "d");
    disk.losePower({ writeCache });
    expect(await letters(disk, 0, 4)).toBe(expected);
    expect(disk.requests).toEqual([]);
    expect(disk.lastPowerCut?.damaged.map(({ request }) => request.number)).toEqual(
      writeCache === "kept" ? [] : [3, 4],
    );
  });

  test("at a write that is to come ends the machine before the write is answered", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    await client.write(0, "a");
    disk.cutPower({ atWrite: 2, writeCache: "kept" });
    await client.write(1, "b");
    let answered = false;
    void client.write(2, "c").then(() => {
      answered = true;
    });
    void client.write(3, "d");
    await settled();
    expect(client.cuts).toEqual([{ writeCache: "kept", sectorBytes: 512 }]);
    expect(answered).toBe(false);
    expect(await letters(disk, 0, 5)).toBe("abc..");
    expect(disk.lastPowerCut?.afterWrite).toBe(3);
    const again = new NbdClient(disk);
    await again.connect();
    expect((await again.request(READ, { sectors: 3 })).data).toEqual(content("abc"));
  });

  test("tears the last write at the sectors of the drive, and only that one", async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 40; seed += 1) {
      const [disk, client] = await open({ sizeBytes: SECTORS * 512, seed });
      await using _disk = disk;
      await client.write(4, "AAAAAAAAAAAAAAAA");
      await client.write(4, "bbbbbbbbbbbbbbbb");
      disk.losePower({ writeCache: "torn", sectorBytes: 4096 });
      seen.add(await letters(disk, 0, 24));
    }
    // The write touches three units of eight sectors: four sectors, eight and four.
    expect([...seen].sort()).toEqual(
      ["AAAAAAAAbbbb", "AAAAbbbbAAAA", "AAAAbbbbbbbb", "bbbbAAAAAAAA", "bbbbAAAAbbbb", "bbbbbbbbAAAA"]
        .map((units) => `....${units.slice(0, 4)}${units.slice(4, 8).repeat(2)}${units.slice(8)}....`)
        .sort(),
    );
  });

  test("leaves any of the writes since the last flush, the same for the same seed", async () => {
    const run = async (seed: number): Promise<string> => {
      const [disk, client] = await open({ sizeBytes: SECTORS * 512, seed });
      await using _disk = disk;
      await client.write(0, "aaaa");
      await client.request(FLUSH);
      for (const [index, letter] of [..."bcdefg"].entries()) await client.write(index, letter.repeat(3));
      disk.losePower({ writeCache: "reordered" });
      return letters(disk, 0, 9);
    };
    const results = await Promise.all(Array.from({ length: 30 }, (_, seed) => run(seed)));
    expect(new Set(results).size).toBeGreaterThan(15);
    expect(await run(3)).toBe(results[3]);
    for (const result of results) expect(result).toMatch(/^[abcdefg]{4}[.b-g]{5}$/);
  });

  test("loses a write that a flush was sent together with, and keeps one that was answered before", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    await client.write(0, "a");
    const replies = [client.expect()];
    const write = client.encode(WRITE, { sector: 1, data: content("b") });
    replies.push(client.expect());
    client.stream.write(Buffer.concat([write, client.encode(FLUSH)]));
    await Promise.all(replies);
    disk.losePower({ writeCache: "lost" });
    expect(await letters(disk, 0, 2)).toBe("a.");
  });

  test("loses what was flushed too late: the flush was not answered yet", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    disk.impair({ delayMs: 50 });
    const answered: string[] = [];
    const send = async (name: string, request: Promise<unknown>): Promise<void> => {
      void request.then(() => answered.push(name));
      await settled();
    };
    const pass = async (): Promise<void> => {
      vi.advanceTimersByTime(50);
      await settled();
    };
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    try {
      await send("write a", client.write(0, "a"));
      await pass();
      await send("flush a", client.request(FLUSH));
      await pass();
      await send("write b", client.write(1, "b"));
      await pass();
      await send("flush b", client.request(FLUSH));
      disk.losePower({});
      await pass();
    } finally {
      vi.useRealTimers();
    }
    expect(answered).toEqual(["write a", "flush a", "write b"]);
    expect(await letters(disk, 0, 2)).toBe("a.");
  });
});

describe("a bad disk", () => {
  test("fails at sectors, at the nth request, and with what it is told to say", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    await client.write(0, "abcdefgh");
    disk.impair({
      errors: [
        { on: "read", sectors: { first: 4, count: 2 } },
        { on: "write", nth: 2, error: "ENOSPC" },
        { on: "flush" },
      ],
    });
    const errors: number[] = [];
    for (const [sector, sectors] of [
      [0, 4],
      [3, 2],
      [5, 1],
      [6, 1],
    ] as const) {
      errors.push((await client.request(READ, { sector, sectors })).error);
    }
    expect(errors).toEqual([0, 5, 5, 0]);
    const writes = [await client.write(0, "1"), await client.write(1, "2"), await client.write(2, "3")];
    expect(writes.map(({ error }) => error)).toEqual([0, 28, 0]);
    expect((await client.request(FLUSH)).error).toBe(5);
    expect(disk.counts).toEqual({ reads: 2, writes: 3, flushes: 0, trims: 0, failed: 4 });
    disk.impair();
    expect((await client.request(FLUSH)).error).toBe(0);
    expect(await letters(disk, 0, 4)).toBe("1b3d");
    expect(() => disk.impair({ errors: [{ on: "read", ratio: 2 }] })).toThrow(QemuError);
  });

  test("fails as often as it should, at the same requests for the same seed, and takes its time", async () => {
    const run = async (seed: number): Promise<string> => {
      const [disk, client] = await open({ sizeBytes: SECTORS * 512, seed });
      await using _disk = disk;
      disk.impair({ errors: [{ on: "write", ratio: 0.3 }], delayMs: 1, jitterMs: 2 });
      const replies = await Promise.all(Array.from({ length: 200 }, (_, index) => client.write(index, "x")));
      return replies.map(({ error }) => error).join("");
    };
    const [first, again, other] = [await run(1), await run(1), await run(2)];
    expect(again).toBe(first);
    expect(other).not.toBe(first);
    expect(first.replaceAll("0", "").length).toBeGreaterThan(30);
    expect(first.replaceAll("0", "").length).toBeLessThan(90);
  });
});

describe("the protocol", () => {
  const wire = async (): Promise<[NodeDisk, NbdClient]> => {
    const disk = (await createBlockDevice({ sizeBytes: SECTORS * 512 })) as NodeDisk;
    return [disk, new NbdClient(disk)];
  };

  test("answers every option, and goes on after those it has not", async () => {
    const [disk, client] = await wire();
    await using _disk = disk;
    expect((await client.take(18)).toString("latin1", 0, 16)).toBe("NBDMAGICIHAVEOPT");
    client.stream.write(Buffer.from("00000001", "hex"));
    client.option(8);
    expect(await client.optionReply()).toMatchObject({ type: 0x8000_0001 });
    client.option(3);
    expect(await client.optionReply()).toMatchObject({ type: 2, data: Buffer.alloc(4) });
    expect(await client.optionReply()).toMatchObject({ type: 1 });
    client.option(3, Buffer.alloc(1));
    expect(await client.optionReply()).toMatchObject({ type: 0x8000_0003 });
    for (const wrong of ["", "000000010000", "00000000ffff", "0000000000010000ff"]) {
      client.option(7, Buffer.from(wrong, "hex"));
      expect(await client.optionReply(), wrong).toMatchObject({ type: 0x8000_0003 });
    }
    client.option(6, Buffer.from("000000016100010003", "hex"));
    expect((await client.optionReply()).data.toString("hex")).toBe("00000000000000200000006d");
    expect((await client.optionReply()).data.toString("hex")).toBe("0003000002000000100000400000");
    expect(await client.optionReply()).toMatchObject({ type: 1 });
    client.option(1, Buffer.from("any"));
    expect((await client.take(10 + 124)).toString("hex", 0, 10)).toBe("0000000000200000006d");
  });

  test("ends when the client says goodbye", async () => {
    const [disk, client] = await wire();
    await using _disk = disk;
    await client.take(18);
    client.stream.write(Buffer.from("00000003", "hex"));
    client.option(2);
    expect(await client.optionReply()).toMatchObject({ type: 1 });
    await settled();
    expect(client.stream.readableEnded || client.stream.destroyed).toBe(true);
  });

  test.each([
    ["unknown flags", "80000000"],
    ["no option", "00000003deadbeefdeadbeef0000000700000000"],
    ["an option without end", "0000000349484156454f505400000007ffffffff"],
  ])("ends with %s", async (_, hex) => {
    const [disk, client] = await wire();
    await using _disk = disk;
    client.stream.write(Buffer.from(hex, "hex"));
    await settled();
    disk.assertFree("data");
  });

  test("ends with a request that is none, or a write without end", async () => {
    for (const hex of ["ff".repeat(28), `25609513${"00".repeat(3)}01${"00".repeat(16)}00400001`]) {
      const [disk, client] = await open();
      await using _disk = disk;
      client.stream.write(Buffer.from(hex, "hex"));
      await settled();
      disk.assertFree("data");
    }
  });

  test("refuses ranges that are not the disk's, and commands it has not", async () => {
    const [disk, client] = await open();
    await using _disk = disk;
    const errors = [
      await client.request(READ, { sector: 0, sectors: 0 }),
      await client.request(READ, { sector: SECTORS, sectors: 1 }),
      await client.request(WRITE, { sector: SECTORS - 1, data: content("ab") }),
      await client.request(WRITE, { sector: 0, data: Buffer.alloc(100) }),
      await client.request(TRIM, { sector: 2 ** 40, sectors: 1 }),
      await client.request(7, { sector: 0, sectors: 1 }),
    ];
    expect(errors.map(({ error }) => error)).toEqual([22, 22, 28, 22, 28, 22]);
    expect(await letters(disk, SECTORS - 1, 1)).toBe(".");
  });

  test("is the same wherever the stream is cut", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1 }), async (cuts) => {
        const [disk, client] = await open();
        await using _disk = disk;
        const replies = [client.expect()];
        const pieces = [client.encode(WRITE, { sector: 2, data: content("abc") })];
        replies.push(client.expect(5 * 512));
        pieces.push(client.encode(READ, { sector: 1, sectors: 5 }));
        const stream = Buffer.concat(pieces);
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          const count = cuts[turn % cuts.length] ?? 1;
          client.stream.write(stream.subarray(at, at + count));
          at += count;
          if (turn % 3 === 0) await settled();
        }
        expect((await replies[0])?.error).toBe(0);
        expect(
          (await replies[1])?.data.equals(Buffer.concat([Buffer.alloc(512), content("abc"), Buffer.alloc(512)])),
        ).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test("does not fill the memory for a client that asks and never reads", async () => {
    const [disk, client] = await open({ sizeBytes: 64 * 1024 * 1024 });
    await using _disk = disk;
    client.stream.pause();
    const all = Array.from({ length: 2000 }, () => client.encode(READ, { sectors: 8192 }));
    const before = process.memoryUsage().arrayBuffers;
    client.stream.write(Buffer.concat(all));
    await settled();
    expect(disk.counts.reads).toBeLessThan(10);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
  });

  test("takes any garbage", async () => {
    const [good, client] = await open();
    const valid = Buffer.concat([
      Buffer.from("00000003", "hex"),
      Buffer.from("49484156454f50540000000700000006000000000000", "hex"),
      client.encode(WRITE, { sector: 2, data: content("a") }),
      client.encode(READ, { sector: 1, sectors: 2 }),
      client.encode(FLUSH),
      client.encode(TRIM, { sector: 1, sectors: 2 }),
    ]);
    await good.close();
    for (let at = 0; at < valid.length; at += at >= 60 && at < 550 ? 37 : 1) {
      for (const bytes of [valid.subarray(0, at), Buffer.from(valid)]) {
        if (bytes.length === valid.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
        const [disk, hostile] = await wire();
        hostile.stream.write(bytes);
        hostile.stream.end();
        await new Promise((resolve) => setImmediate(resolve));
        await disk.close();
      }
    }
  });
});
