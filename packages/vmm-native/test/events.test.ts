import { expect, test } from "vitest";
import { VmmError } from "../src/index.ts";
import { parseEvent } from "../src/internal/events.ts";

const STOPPED =
  '{"event":"stopped","guest":0,"reason":"halted","message":"it halted","resets":0,"rips":["0x100022"],"exits":{"IOIO":19,"HLT":1}}\n';

test("a line of the hypervisor's log is an event", () => {
  expect(parseEvent(STOPPED)).toMatchObject({ event: "stopped", reason: "halted", exits: { IOIO: 19, HLT: 1 } });
  expect(parseEvent('{"event":"panic","message":"a \\"quoted\\" \\u001b"}')).toEqual({
    event: "panic",
    message: 'a "quoted" \u001b',
  });
});

test("every part of a line is none", () => {
  for (let length = 0; length < STOPPED.trimEnd().length; length++) {
    expect(() => parseEvent(STOPPED.slice(0, length))).toThrow(VmmError);
  }
});

test.each(["null", "[]", '{"event":"other"}', '{"event":"stopped"}', STOPPED.replace("halted", "bored")])(
  "%s is no event",
  (line) => {
    expect(() => parseEvent(line)).toThrow(expect.objectContaining({ code: "VMM_PROTOCOL" }));
  },
);
