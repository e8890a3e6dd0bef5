import { type Duplex, duplexPair } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createNetwork, type Network, QemuError } from "../src/index.ts";
import { FrameReader } from "../src/network/frame-reader.ts";
import type { Switch } from "../src/network/network.ts";

/** A machine that is only its plug: what it sends, and what it got so far. */
interface Plug {
  readonly stream: Duplex;
  readonly got: string[];
  readonly send: (to: string, text: string) => void;
}

const address = (machine: string): string => `5254000000${Buffer.from(machine).toString("hex")}`;
const EVERYBODY = "ffffffffffff";

function plug(network: Network, machine: string): Plug {
  const [ours, theirs] = duplexPair();
  (network as Switch).attach(machine, address(machine), theirs);
  const reader = new FrameReader();
  const got: string[] = [];
  ours.on("data", (chunk: Uint8Array) =>
    got.push(...(reader.push(chunk) ?? []).map((frame) => frame.toString("latin1", 14))),
  );
  return {
    stream: ours,
    got,
    send(to, text) {
      const frame = Buffer.from(`${to}${address(machine)}0800${Buffer.from(text).toString("hex")}`, "hex");
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      ours.write(Buffer.concat([length, frame]));
    },
  };
}

/** Everything that is on its way has arrived. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe("a network", () => {
  test("passes frames to everybody until it knows who is where", async () => {
    const network = createNetwork();
    const [a, b, c] = ["a", "b", "c"].map((name) => plug(network, name)) as [Plug, Plug, Plug];
    a.send(EVERYBODY, "who is b?");
    await settled();
    expect([a.got, b.got, c.got]).toEqual([[], ["who is b?"], ["who is b?"]]);
    b.send(address("a"), "me");
    a.send(address("b"), "for you");
    await settled();
    expect([a.got, b.got.slice(1), c.got.slice(1)]).toEqual([["me"], ["for you"], []]);
    expect(network.machines).toEqual(["a", "b", "c"]);
    b.stream.end();
    await settled();
    expect(network.machines).toEqual(["a", "c"]);
    a.send(address("b"), "gone");
    await settled();
    expect(c.got).toEqual(["who is b?", "gone"]);
  });

  test("can be cut in parts, and made whole", async () => {
    const network = createNetwork();
    const plugs = ["a", "b", "c", "d"].map((name) => plug(network, name));
    const heard = async (): Promise<string[]> => {
      for (const each of plugs) each.got.length = 0;
      plugs[0]?.send(EVERYBODY, "x");
      plugs[3]?.send(EVERYBODY, "y");
      await settled();
      return plugs.map(({ got }) => got.join(""));
    };
    expect(await heard()).toEqual(["y", "xy", "xy", "x"]);
    network.partition(["a", "b"], ["c"]);
    expect(await heard()).toEqual(["", "x", "", ""]);
    network.partition();
    expect(await heard()).toEqual(["y", "xy", "xy", "x"]);
    expect(network.counts).toEqual({ delivered: 13, lost: 5, overrun: 0 });
    expect(() => network.partition(["a"], ["b", "a"])).toThrow(QemuError);
  });

  test.each([{ loss: 0.3 }, { duplicate: 0.5 }, { loss: 0.2, duplicate: 0.2, jitterMs: 3 }])(
    "goes wrong the same way for the same seed: %j",
    async (impairment) => {
      const run = async (seed: number): Promise<string[]> => {
        const network = createNetwork({ seed });
        const [a, b] = [plug(network, "a"), plug(network, "b")];
        network.impair(impairment);
        for (let index = 0; index < 200; index += 1) a.send(address("b"), String(index));
        await settled();
        await new Promise((resolve) => setTimeout(resolve, 50));
        return b.got.sort();
      };
      const [first, again, other] = [await run(1), await run(1), await run(2)];
      expect(first).toEqual(again);
      expect(first).not.toEqual(other);
      expect(first.length).toBeGreaterThan(100);
    },
  );

  test("delays frames", async () => {
    const network = createNetwork();
    const [a, b] = [plug(network, "a"), plug(network, "b")];
    network.impair({ delayMs: 30 });
    a.send(address("b"), "late");
    await settled();
    expect(b.got).toEqual([]);
    await expect.poll(() => b.got).toEqual(["late"]);
    expect(() => network.impair({ loss: 2 })).toThrow(QemuError);
  });

  test("records what is sent", async () => {
    const network = createNetwork();
    const a = plug(network, "a");
    const capture = network.capture();
    a.send(EVERYBODY, "hello");
    await settled();
    const pcap = Buffer.from(capture.stop());
    a.send(EVERYBODY, "unheard");
    await settled();
    expect(pcap.readUInt32LE(0)).toBe(0xa1b2c3d4);
    expect([pcap.readUInt32LE(24 + 8), pcap.readUInt32LE(24 + 12), pcap.length]).toEqual([19, 19, 24 + 16 + 19]);
    expect(pcap.toString("latin1", 24 + 16 + 14)).toBe("hello");
  });

  test("unplugs what does not send frames", async () => {
    const network = createNetwork();
    const a = plug(network, "a");
    a.stream.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, 1, 2, 3]));
    await settled();
    expect(network.machines).toEqual([]);
  });

  test("has this process on it, which is told when to wait", async () => {
    const network = createNetwork();
    const a = plug(network, "a");
    const heard: string[] = [];
    let isReady = 0;
    const host = network.connect({
      name: "host",
      mac: "52:54:00:00:00:01",
      onFrame: (frame) => heard.push(Buffer.from(frame).toString("latin1", 14)),
      onReady: () => {
        isReady += 1;
      },
    });
    const frame = Buffer.concat([Buffer.from(`${address("a")}5254000000010800`, "hex"), Buffer.from("to a")]);
    expect(host.send(frame)).toBe(true);
    a.send("525400000001", "to the host");
    await settled();
    expect([a.got, heard, network.machines]).toEqual([["to a"], ["to the host"], ["a"]]);
    const large = Buffer.concat([frame, Buffer.alloc(60_000)]);
    let sent = 0;
    while (host.send(large)) sent += 1;
    expect(sent).toBeLessThan(10);
    await settled();
    expect([isReady, network.counts.overrun]).toEqual([1, 0]);
    network.partition(["host"]);
    host.send(frame);
    expect(network.counts.lost).toBe(1);
    const twin = { name: "twin", mac: "52:54:00:00:00:01", onFrame: () => {} };
    expect(() => network.connect(twin)).toThrow(QemuError);
    host.close();
    expect(network.connect(twin)).toBeDefined();
    expect(() => network.connect({ ...twin, mac: "none" })).toThrow(QemuError);
  });

  test("loses frames that a machine does not take, and keeps its memory", async () => {
    const network = createNetwork();
    const a = plug(network, "a");
    const [, theirs] = duplexPair();
    (network as Switch).attach("b", address("b"), theirs);
    for (let index = 0; index < 2000; index += 1) a.send(EVERYBODY, "x".repeat(1400));
    await settled();
    await expect.poll(() => network.counts.overrun).toBeGreaterThan(500);
    expect(theirs.writableLength).toBeLessThan(1.1 * 1024 * 1024);
  });
});

test("frames are found wherever the stream is cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.array(fc.nat({ max: 60 })), (frames, cuts) => {
      const stream = Buffer.concat(frames.flatMap((frame) => [Uint8Array.of(0, 0, 0, frame.length), frame]));
      const reader = new FrameReader();
      const found: Buffer[] = [];
      let at = 0;
      for (const cut of [...cuts, stream.length]) {
        found.push(...(reader.push(stream.subarray(at, at + cut)) ?? []));
        at += cut;
      }
      expect(found.map((frame) => [...frame])).toEqual(frames.map((frame) => [...frame]));
    }),
  );
});
