import { describe, expect, test } from "vitest";
import { renderTimelineSvg, type TimelineMark } from "../src/index.ts";
import { MAX_TIMELINE_MARKS, TimelineRecorder } from "../src/timeline/recorder.ts";
import { buildTimeline, type TimelineContext } from "../src/timeline/timeline.ts";

const context: TimelineContext = { machine: "m", start: "firmware", realTime: true, omitted: 0 };
const qemu: TimelineMark = { atMs: 100, source: "qemu", name: "qemu", text: "QEMU answers" };

function line(atMs: number, text: string): TimelineMark {
  return { atMs, source: "console", name: "serial0", text };
}

function phases(marks: readonly TimelineMark[], changes: Partial<TimelineContext> = {}): unknown[] {
  const { phases: found } = buildTimeline([qemu, ...marks], { ...context, ...changes });
  return found.map(({ name, fromMs, toMs, basis }) => [name, fromMs, toMs, basis]);
}

const BOOT = [
  line(3000, "BdsDxe: loading Boot0001"),
  line(3100, "BdsDxe: starting Boot0001"),
  line(3300, "systemd-boot 257"),
  line(5000, "[    0.000000] Linux version 6.12"),
  line(5001, "[    0.600000] printk: legacy console [ttyS0] enabled"),
  line(7000, "[    2.500000] Run /init as init process"),
  line(7200, "[    2.700000] systemd[1]: Running in initrd."),
  line(9000, "[    4.500000] systemd[1]: Switching root."),
  line(9500, "[    5.000000] systemd[1]: systemd 257 running in system mode"),
  line(12_000, "debian login: "),
];

describe("the phases of a boot", () => {
  test("are told by the console, and the kernel's beginning by its clock", () => {
    expect(phases(BOOT)).toEqual([
      ["qemu", 0, 100, "arrival"],
      ["firmware", 100, 3100, "arrival"],
      ["boot loader", 3100, 4401, "arrival"],
      ["kernel", 4401, 7000, "kernel-clock"],
      ["initrd", 7000, 9000, "arrival"],
      ["userspace", 9000, 12_000, "arrival"],
    ]);
  });

  test("are those of arrival alone where the guest's time is not the host's", () => {
    expect(phases(BOOT, { realTime: false })).toContainEqual(["kernel", 5000, 7000, "arrival"]);
  });

  test("never overlap, whatever a guest says that its clock was", () => {
    const hostile = [line(200, "[99999.000000] x"), line(300, "[    0.000000] Switching root"), line(400, "GRUB")];
    const { phases: found } = buildTimeline([qemu, ...hostile], context);
    expect(found.map(({ name }) => name)).toEqual(["qemu", "firmware", "kernel", "userspace"]);
    for (const [index, { fromMs, toMs }] of found.entries()) {
      expect(fromMs).toBeLessThanOrEqual(toMs);
      expect(toMs).toBe(found[index + 1]?.fromMs ?? 400);
    }
  });

  test("of a kernel that QEMU loads and that says nothing begin with it", () => {
    expect(phases([line(900, "login:")], { start: "kernel" })).toEqual([
      ["qemu", 0, 100, "arrival"],
      ["kernel", 100, 900, "arrival"],
    ]);
    expect(phases(BOOT.slice(3), { start: "kernel" })[1]).toEqual(["firmware", 100, 4401, "arrival"]);
  });

  test("of a fork are one", () => {
    expect(phases(BOOT, { start: "template" }).slice(1)).toEqual([["continued", 100, 12_000, "arrival"]]);
  });
});

test("the longest silences come first, and events of devices do not end them", () => {
  const event: TimelineMark = { atMs: 1000, source: "event", name: "RTC_CHANGE", text: "RTC_CHANGE" };
  const { gaps } = buildTimeline([qemu, event, ...BOOT], context);
  expect(gaps.map(({ fromMs, toMs, after }) => [toMs - fromMs, after.text.slice(0, 20)])).toEqual([
    [2900, "BdsDxe: loading Boot"],
    [2500, "debian login: "],
    [1999, "[    2.500000] Run /"],
    [1800, "[    4.500000] syste"],
    [1700, "[    0.000000] Linux"],
  ]);
});

describe("what is recorded", () => {
  test("are lines, in pieces or many at once, and the one that has no end yet", () => {
    const recorder = new TimelineRecorder();
    for (const text of ["fi", "rst\nsecond\n\n  \nthird\nlog", "in: "]) recorder.text("serial0", text);
    recorder.text("other", "else");
    recorder.mark("event", "RESET", "RESET");
    const { marks, omitted } = recorder.read();
    expect(new Set(marks.map(({ name, text }) => `${name}: ${text}`))).toEqual(
      new Set([
        "serial0: first",
        "serial0: second",
        "serial0: third",
        "serial0: login: ",
        "other: else",
        "RESET: RESET",
      ]),
    );
    expect(omitted).toBe(0);
  });

  test("is the beginning of lines, and of floods", () => {
    const recorder = new TimelineRecorder();
    for (let index = 0; index < 100; index += 1) recorder.text("serial0", "x".repeat(50));
    recorder.text("serial0", "\n");
    for (let index = 0; index < MAX_TIMELINE_MARKS + 4; index += 1) recorder.text("serial0", "y\n");
    const { marks, omitted } = recorder.read();
    expect(marks[0]?.text).toBe("x".repeat(200));
    expect(marks).toHaveLength(MAX_TIMELINE_MARKS);
    expect(omitted).toBe(5);
  });
});

describe("the drawing", () => {
  test("is the one that was looked at", async () => {
    const marks = [qemu, ...BOOT, { atMs: 12_000, source: "agent", name: "agent", text: "the agent answers" } as const];
    await expect(renderTimelineSvg(buildTimeline(marks, context))).toMatchFileSnapshot("../examples/timeline.svg");
  });

  test("is XML whatever a guest says, and of nothing too", () => {
    const text = `</text><script>alert("&")</script>\u0000\u001b[31m\ud800\ufffe`;
    const drawn = renderTimelineSvg(buildTimeline([qemu, line(300, text), line(900, text)], context));
    expect(drawn).not.toContain("<script");
    expect(drawn).not.toMatch(/[\p{Cs}\ufffe]/u);
    expect(drawn).toContain('&lt;/text&gt;&lt;script&gt;alert("&amp;")&lt;/script&gt;\ufffd\ufffd[31m\ufffd\ufffd');
    expect(renderTimelineSvg(buildTimeline([], context))).toMatch(/^<svg .*<\/svg>\n$/s);
  });
});
