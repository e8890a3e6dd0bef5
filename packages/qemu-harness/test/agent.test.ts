import { type Duplex, duplexPair } from "node:stream";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { GuestAgent } from "../src/agent/agent.ts";
import {
  encodeFrame,
  type Frame,
  FrameReader,
  MAX_PAYLOAD,
  numbers,
  REPLY,
  REQUEST,
  WINDOW,
} from "../src/agent/frames.ts";
import { failure } from "./failure.ts";

let guest: Duplex;
let agent: GuestAgent;
/** What the host has asked for. */
let asked: Frame[];

// The guest is the attacker here: what it answers is made up by the tests.
beforeEach(() => {
  const [ours, theirs] = duplexPair();
  guest = theirs;
  agent = new GuestAgent(ours, { commandLine: "qemu -x", firstStream: 0 });
  asked = [];
  const reader = new FrameReader();
  guest.on("data", (chunk: Uint8Array) => asked.push(...reader.push(chunk)));
});

async function until(kind: number): Promise<Frame> {
  for (;;) {
    const found = asked.find((frame) => frame.kind === kind);
    if (found !== undefined) return found;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("messages", () => {
  test("are read however they are cut", () => {
    const message = fc.record({
      stream: fc.nat(0xffff_ffff),
      kind: fc.nat(255),
      payload: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.nat(1500), { maxLength: 8 }), (messages, cuts) => {
        const bytes = Buffer.concat(messages.map(({ stream, kind, payload }) => encodeFrame(stream, kind, payload)));
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
        const reader = new FrameReader();
        const found = places.flatMap((place, index) => [...reader.push(bytes.subarray(place, places[index + 1]))]);
        expect(found.map((frame) => ({ ...frame, payload: new Uint8Array(frame.payload) }))).toEqual(
          messages.map((one) => ({ ...one, payload: new Uint8Array(one.payload) })),
        );
      }),
    );
  });

  test("that are longer than any may be are refused before they are kept", () => {
    const header = numbers(MAX_PAYLOAD + 1, 1, REPLY.output);
    expect(() => [...new FrameReader().push(header)]).toThrow(
      expect.objectContaining({ code: "QEMU_AGENT_PROTOCOL", message: expect.stringContaining("got 65537") }),
    );
  });
});

describe("a hostile guest", () => {
  test("can only end the connection, whatever it sends", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const [ours, theirs] = duplexPair();
        const victim = new GuestAgent(ours, { commandLine: "qemu -x", firstStream: 0 });
        const running = victim.exec(["a"], { timeoutMs: 20 });
        theirs.resume();
        theirs.write(bytes);
        expect(["QEMU_AGENT_PROTOCOL", "QEMU_AGENT_TIMEOUT", "QEMU_AGENT_REFUSED"]).toContain(
          (await failure(running)).code,
        );
      }),
      { numRuns: 50 },
    );
  });

  test("of another version is not talked to", async () => {
    const ready = agent.ready();
    const { stream } = await until(REQUEST.hello);
    guest.write(encodeFrame(stream, REPLY.hello, numbers(2, 32, WINDOW)));
    guest.write(encodeFrame(0, 255, numbers(1)));
    const later = await failure(agent.ready());
    expect(later).toMatchObject({ code: "QEMU_AGENT_PROTOCOL", message: "expected an agent of version 1, got 2" });
    expect((await failure(ready)).code).toBe("QEMU_AGENT_PROTOCOL");
  });

  test("that sends more than it was allowed to is stopped", async () => {
    const process = agent.spawn(["a"]);
    const { stream } = await until(REQUEST.start);
    guest.write(encodeFrame(stream, REPLY.started, numbers(7)));
    const { exit, stdout } = await process;
    stdout.pause();
    for (let sent = 0; sent <= 2 * WINDOW; sent += 32_768) {
      guest.write(encodeFrame(stream, REPLY.output, Buffer.alloc(32_768)));
    }
    expect(await failure(exit)).toMatchObject({
      code: "QEMU_AGENT_PROTOCOL",
      message: expect.stringContaining("65536"),
    });
    expect(await until(REQUEST.close)).toMatchObject({ stream });
  });

  test("that speaks to streams that ended, or never were, is ignored", async () => {
    const running = agent.exec(["a"]);
    const { stream } = await until(REQUEST.start);
    guest.write(encodeFrame(99, REPLY.ended, numbers(0, 0)));
    guest.write(encodeFrame(stream, 77, numbers(0, 0)));
    guest.write(encodeFrame(stream, REPLY.taken, numbers(0xffff_ffff)));
    guest.write(encodeFrame(stream, REPLY.started, numbers(7)));
    guest.write(encodeFrame(stream, REPLY.output, Buffer.from("out")));
    guest.write(encodeFrame(stream, REPLY.ended, numbers(1, 0)));
    guest.write(encodeFrame(stream, REPLY.ended, numbers(2, 0)));
    guest.write(encodeFrame(stream, REPLY.output, Buffer.from("late")));
    expect(await running).toEqual({ exitCode: 1, stdout: "out", stderr: "" });
  });

  test("that says nothing is waited for no longer than wanted", async () => {
    expect(await failure(agent.ready({ timeoutMs: 10 }))).toMatchObject({ code: "QEMU_AGENT_TIMEOUT", timeoutMs: 10 });
    expect((await failure(agent.exec(["a"], { timeoutMs: 10 }))).code).toBe("QEMU_AGENT_TIMEOUT");
    expect((await failure(agent.readFile("/a", { signal: AbortSignal.abort() }))).code).toBe("QEMU_ABORTED");
  });

  test("is sent no more than it takes", async () => {
    const process = agent.spawn(["a"]);
    const { stream } = await until(REQUEST.start);
    guest.write(encodeFrame(stream, REPLY.started, numbers(7)));
    const { stdin } = await process;
    stdin.write(Buffer.alloc(3 * WINDOW));
    const sent = () =>
      asked.filter(({ kind }) => kind === REQUEST.data).reduce((sum, { payload }) => sum + payload.length, 0);
    await until(REQUEST.data);
    expect(sent()).toBe(WINDOW);
    guest.write(encodeFrame(stream, REPLY.taken, numbers(1000)));
    while (sent() === WINDOW) await new Promise((resolve) => setImmediate(resolve));
    expect(sent()).toBe(WINDOW + 1000);
  });
});
