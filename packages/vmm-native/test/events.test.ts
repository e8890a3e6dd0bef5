import { expect, test } from "vitest";
import { VmmError } from "../src/index.ts";
import { parseEvent, parseExits, parseStop } from "../src/internal/events.ts";

const CHECKED = '{"event":"checked","rule":"asid-zero","broken":1,"refused":true,"exit":"INVALID"}\n';
const STOPPED = '{"reason":"halted","message":"it halted","rips":["0x100022"],"exits":{"IOIO":19,"HLT":1}}';

test("a line of the hypervisor's log is an event", () => {
  expect(parseEvent(CHECKED)).toMatchObject({ event: "checked", rule: "asid-zero", refused: true });
  expect(parseEvent('{"event":"panic","message":"a \\"quoted\\" \\u001b"}')).toEqual({
    event: "panic",
    message: 'a "quoted" \u001b',
  });
});

test("how a guest stopped has its addresses and counts", () => {
  const exits = { IOIO: 19, HLT: 1 };
  const stop = { reason: "halted", message: "it halted", resets: 2, rips: [0x10_0022n], exits };
  expect(parseStop(STOPPED, 2)).toEqual(stop);
  expect(parseExits(JSON.stringify(exits))).toEqual(exits);
});

test("every part of what it says is nothing", () => {
  for (let length = 0; length < CHECKED.trimEnd().length; length++)
    expect(() => parseEvent(CHECKED.slice(0, length))).toThrow(VmmError);
  for (let length = 0; length < STOPPED.length; length++)
    expect(() => parseStop(STOPPED.slice(0, length), 0)).toThrow(VmmError);
});

test.each(["null", "[]", '{"event":"other"}', '{"event":"checked"}'])("%s is no event", (line) => {
  expect(() => parseEvent(line)).toThrow(expect.objectContaining({ code: "VMM_PROTOCOL" }));
});

test.each(["null", "{}", STOPPED.replace("halted", "bored")])("%s is no stop", (text) => {
  expect(() => parseStop(text, 0)).toThrow(expect.objectContaining({ code: "VMM_PROTOCOL" }));
});
