import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { TCP_FLAG, type TcpSegment } from "../../src/network/format/tcp.ts";
import { RECEIVE_BYTES, SEND_BYTES, type TcpReply, TcpStream } from "../../src/network/tcp-stream.ts";

/** Numbers that look random, the same for the same seed. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Way {
  readonly loss: number;
  readonly duplicate: number;
  /** how much longer a segment may take than another, in `milliseconds` */
  readonly jitterMs: number;
}

/** Two ends of a connection, and a way between them that may be bad. */
function pair({ loss, duplicate, jitterMs }: Way, seed: number, maxSegmentBytes = 1460) {
  const random = numbers(seed);
  const sent: TcpReply[] = [];
  let accepted: (stream: TcpStream) => void;
  const server = new Promise<TcpStream>((resolve) => {
    accepted = resolve;
  });
  let other: TcpStream | undefined;
  const carry =
    (from: () => TcpStream | undefined, to: () => TcpStream | undefined, create?: (segment: TcpSegment) => void) =>
    (reply: TcpReply) => {
      sent.push(reply);
      const payload = Uint8Array.from(reply.payload);
      for (let copy = random() < duplicate ? 2 : 1; copy > 0; copy -= 1) {
        if (random() < loss) continue;
        const segment = { ...reply, payload, sourcePort: 1, destinationPort: 2 };
        const arrive = (): void => {
          const receiver = to();
          if (receiver === undefined) create?.(segment);
          else if (!receiver.destroyed) receiver.receive(segment);
          // Nobody is there any more, which is what a stack says then.
          else from()?.receive({ ...segment, sequence: segment.acknowledgment, flags: TCP_FLAG.rst });
        };
        setTimeout(arrive, 1 + random() * jitterMs);
      }
    };
  const isReady = (): boolean => true;
  const client: TcpStream = new TcpStream({
    maxSegmentBytes,
    isReady,
    send: carry(
      () => client,
      () => other,
      (syn) => {
        if (other !== undefined || (syn.flags & TCP_FLAG.syn) === 0) return;
        other = new TcpStream(
          {
            maxSegmentBytes,
            isReady,
            send: carry(
              () => other,
              () => client,
            ),
          },
          syn,
        );
        other.on("error", () => {});
        accepted(other);
      },
    ),
  });
  client.on("error", () => {});
  return { client, server, sent };
}

/** Lets time pass until something has happened; the streams' own steps take none. */
async function until<T>(what: Promise<T>): Promise<T> {
  let isDone = false;
  const done = what.finally(() => {
    isDone = true;
  });
  done.catch(() => {});
  for (let step = 0; step < 20_000 && !isDone; step += 1) await vi.advanceTimersByTimeAsync(5);
  expect(isDone).toBe(true);
  return done;
}

/** What a stream has to say until it is closed, which reading it does not do. */
async function everything(stream: TcpStream): Promise<Buffer> {
  const pieces: Buffer[] = [];
  stream.on("data", (piece: Buffer) => pieces.push(piece));
  await new Promise((resolve) => stream.once("close", resolve));
  return Buffer.concat(pieces);
}

function bytesOf(length: number, seed: number): Buffer {
  const random = numbers(seed);
  return Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a connection of two ends", () => {
  test.each([
    ["good", { loss: 0, duplicate: 0, jitterMs: 0 }, 300_000],
    ["lossy", { loss: 0.05, duplicate: 0, jitterMs: 0 }, 60_000],
    ["slow and full of overtaking", { loss: 0, duplicate: 0.1, jitterMs: 20 }, 40_000],
    ["bad in every way", { loss: 0.05, duplicate: 0.05, jitterMs: 10 }, 30_000],
  ])("carries everything in both directions over a way that is %s", async (_, way, length) => {
    for (const seed of [1, 2, 3]) {
      const { client, server } = pair(way, seed);
      const up = bytesOf(length, seed);
      const down = bytesOf(length, seed + 100);
      client.end(up);
      const opposite = await until(server);
      opposite.end(down);
      const [got, answered] = await until(Promise.all([everything(opposite), everything(client)]));
      expect([digest(got), digest(answered)], `seed ${seed}`).toEqual([digest(up), digest(down)]);
      expect([opposite.errored, client.errored]).toEqual([null, null]);
    }
  });

  test("keeps who writes from writing more than the other end reads", async () => {
    const { client, server, sent } = pair({ loss: 0, duplicate: 0, jitterMs: 0 }, 1);
    const opposite = await until(server);
    let written = 0;
    while (client.write(Buffer.alloc(10_000)) && written < 1e6) written += 10_000;
    const piece = Buffer.alloc(10_000);
    let blocked = false;
    for (let rounds = 0; rounds < 200 && !blocked; rounds += 1) {
      const isWritten = new Promise<boolean>((resolve) => client.write(piece, () => resolve(true)));
      await vi.advanceTimersByTimeAsync(100);
      blocked = !(await Promise.race([isWritten, Promise.resolve(false)]));
      written += piece.length;
    }
    expect(blocked).toBe(true);
    expect(opposite.readableLength).toBeLessThanOrEqual(RECEIVE_BYTES);
    expect(written).toBeLessThan(RECEIVE_BYTES + SEND_BYTES + 5 * piece.length);
    // A minute later it is still there, and goes on where it was.
    await vi.advanceTimersByTimeAsync(60_000);
    const before = sent.length;
    opposite.resume();
    client.end();
    await until(new Promise((resolve) => client.once("finish", resolve)));
    expect(sent.length).toBeGreaterThan(before);
  });

  test("keeps no piece of what is written byte by byte", async () => {
    vi.useRealTimers();
    const { client, server } = pair({ loss: 0, duplicate: 0, jitterMs: 0 }, 1);
    const opposite = await server;
    const wanted = bytesOf(SEND_BYTES / 2, 7);
    const piece = Buffer.alloc(1);
    for (const byte of wanted) {
      piece[0] = byte;
      // Whoever kept the piece would have the same byte everywhere.
      client.write(piece);
    }
    client.end(bytesOf(40_000, 8));
    opposite.end();
    client.resume();
    const got = await everything(opposite);
    expect(digest(got)).toBe(digest(Buffer.concat([wanted, bytesOf(40_000, 8)])));
  });

  test("is reset by who destroys it, and left by who gets no answer", async () => {
    const { client, server } = pair({ loss: 0, duplicate: 0, jitterMs: 0 }, 1);
    const opposite = await until(server);
    const failed = new Promise((resolve) => client.once("error", resolve));
    opposite.destroy();
    expect(await until(failed)).toMatchObject({ code: "SANDBOX_NETWORK_CLOSED" });

    const alone = pair({ loss: 1, duplicate: 0, jitterMs: 0 }, 1);
    const left = new Promise((resolve) => alone.client.once("error", resolve));
    expect(await until(left)).toMatchObject({ message: expect.stringContaining("left by the guest") });
  });

  test("is not ended by who does not know where it is", async () => {
    const { client, server, sent } = pair({ loss: 0, duplicate: 0, jitterMs: 0 }, 1);
    const opposite = await until(server);
    await vi.advanceTimersByTimeAsync(100);
    const { sequence, acknowledgment } = sent.findLast(({ flags }) => (flags & TCP_FLAG.ack) !== 0) as TcpReply;
    const forged = { sourcePort: 1, destinationPort: 2, acknowledgment, window: 0, payload: new Uint8Array() };
    const count = sent.length;
    opposite.receive({ ...forged, sequence: (sequence + 100) >>> 0, flags: TCP_FLAG.rst });
    opposite.receive({ ...forged, sequence: (sequence + 100) >>> 0, flags: TCP_FLAG.syn });
    opposite.receive({ ...forged, sequence, acknowledgment: (acknowledgment + 5000) >>> 0, flags: TCP_FLAG.ack });
    opposite.receive({ ...forged, sequence: (sequence + 2 ** 31) >>> 0, flags: TCP_FLAG.ack });
    expect([opposite.destroyed, client.destroyed, sent.length - count]).toEqual([false, false, 4]);
    opposite.receive({ ...forged, sequence, flags: TCP_FLAG.rst });
    expect(opposite.destroyed).toBe(true);
  });

  test("survives whatever segments come", async () => {
    const random = numbers(7);
    for (let round = 0; round < 100; round += 1) {
      const { client, server } = pair({ loss: 0, duplicate: 0, jitterMs: 0 }, round);
      const opposite = await until(server);
      opposite.resume();
      client.write("abc");
      for (let count = 0; count < 40; count += 1) {
        const near = (): number => Math.floor(random() * 10) - 5;
        opposite.receive({
          sourcePort: 1,
          destinationPort: 2,
          sequence: random() < 0.2 ? Math.floor(random() * 2 ** 32) : (0x1000 + near()) >>> 0,
          acknowledgment: Math.floor(random() * 2 ** 32),
          flags: Math.floor(random() * 64),
          window: Math.floor(random() * 65_536),
          windowShift: Math.floor(random() * 15),
          payload: new Uint8Array(Math.floor(random() * 100)),
        });
      }
      expect(opposite.readableLength).toBeLessThanOrEqual(RECEIVE_BYTES);
      opposite.destroy();
      client.destroy();
    }
  });
});
