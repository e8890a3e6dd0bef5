import { expect, test } from "vitest";
import { encodeFrame, type Frame, FrameReader, MAX_PAYLOAD_BYTES } from "../src/control/frames.ts";
import { noise } from "./support.ts";

const FRAMES: readonly Frame[] = [
  { kind: 6, guest: 1, tag: 1, payload: new Uint8Array() },
  { kind: 0xc0, guest: 2, tag: 0xfffe, payload: Uint8Array.of(1, 2, 3) },
  { kind: 0x80, guest: 0, tag: 3, payload: noise(MAX_PAYLOAD_BYTES, 1) },
  { kind: 0xc2, guest: 3, tag: 4, payload: Uint8Array.of(9) },
];
const STREAM = Buffer.concat(FRAMES.map((frame) => encodeFrame(frame, frame.payload)));

test("a frame is what the hypervisor reads", () => {
  const frame = encodeFrame({ kind: 5, guest: 2, tag: 0x0102 }, Uint8Array.of(7), Uint8Array.of(8, 9));
  expect([...frame]).toEqual([3, 0, 0, 0, 5, 2, 2, 1, 7, 8, 9]);
  expect(() => encodeFrame({ kind: 5, guest: 0, tag: 0 }, new Uint8Array(MAX_PAYLOAD_BYTES + 1))).toThrow("bug:");
});

test.each([1, 7, 8, 9, 4096, STREAM.length])("frames come out whole, in pieces of %i bytes", (size) => {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  for (let at = 0; at < STREAM.length; at += size) frames.push(...reader.push(STREAM.subarray(at, at + size)));
  expect(frames).toEqual(FRAMES);
});

test("a part of a frame is none", () => {
  const [frame] = FRAMES.slice(1).map((it) => encodeFrame(it, it.payload));
  for (let length = 0; length < (frame?.length ?? 0); length++)
    expect(new FrameReader().push(Buffer.from(frame ?? []).subarray(0, length))).toEqual([]);
});

test("a length beyond the limit is refused before its payload comes", () => {
  for (const length of [MAX_PAYLOAD_BYTES + 1, 0xffff_ffff]) {
    const header = Buffer.alloc(8);
    header.writeUInt32LE(length);
    expect(() => new FrameReader().push(header)).toThrow(expect.objectContaining({ code: "VMM_PROTOCOL" }));
  }
});
