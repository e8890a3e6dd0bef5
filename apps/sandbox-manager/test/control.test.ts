import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { decodeJson, encodeFrame, encodeJson, type Frame, framesOf, KIND } from "../src/control/frames.ts";

async function framesIn(bytes: Uint8Array, size: number): Promise<Frame[]> {
  const stream = new PassThrough();
  for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size));
  stream.end();
  const frames: Frame[] = [];
  for await (const frame of framesOf(stream)) frames.push(frame);
  return frames;
}

describe("frames of a sandbox's socket", () => {
  const bytes = Buffer.concat([
    encodeJson({ kind: "status" }),
    encodeFrame(KIND.data, Buffer.alloc(70_000, 7)),
    encodeFrame(KIND.end),
  ]);

  test.each([1, 3, 5, 64, 4096, bytes.length])("come whole however they are cut (%i bytes at a time)", async (size) => {
    const frames = await framesIn(bytes, size);
    expect(frames.map(({ kind, payload }) => [kind, payload.length])).toEqual([
      [KIND.json, 17],
      [KIND.data, 70_000],
      [KIND.end, 0],
    ]);
    expect(frames[0] && decodeJson(frames[0])).toEqual({ kind: "status" });
  });

  test("refuses a length that nobody would send, before there is memory for it", async () => {
    await expect(framesIn(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]), 5)).rejects.toMatchObject({
      code: "SANDBOX_PROTOCOL",
      message: "expected frames of at most 1048576 bytes, got 4294967295",
    });
  });

  test("refuses a part of a frame at the end", async () => {
    for (const length of [1, 4, 6, bytes.length - 1]) {
      await expect(framesIn(bytes.subarray(0, length), 1 << 20)).rejects.toMatchObject({ code: "SANDBOX_PROTOCOL" });
    }
  });

  test("refuses what is no JSON", () => {
    expect(() => decodeJson({ kind: KIND.json, payload: Buffer.from("{") })).toThrow(/expected JSON/);
  });
});
