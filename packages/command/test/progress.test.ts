import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Progress, startProgress, withProgress } from "../src/index.ts";
import { capture } from "./capture.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** What a terminal shows after `text`: rewritten lines are gone, colours too. */
function shown(text: string): string[] {
  return text.split("\n").map((line) =>
    (line.split("\r").at(-1) ?? "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
      .replace(/\u001b\[[0-9;]*[mK]/g, ""),
  );
}

describe("elsewhere than on a terminal", () => {
  const script = (play: (progress: Progress) => void): string => {
    const { io, err } = capture();
    const progress = startProgress(io);
    play(progress);
    progress.finish();
    return err();
  };

  test("each step is one line when it is over, with its amounts and how long it took", () => {
    const text = script(({ update }) => {
      for (let done = 0; done <= 7; done++) {
        update({ step: "downloading", done, total: 7, doneBytes: done * 2048, totalBytes: 14336, item: `p${done}` });
        vi.advanceTimersByTime(1500);
      }
      update({ step: "signing" });
      vi.advanceTimersByTime(75_000);
    });
    expect(text).toBe("     12.0 s  downloading · 7 · 14 KiB\n 1 min 15 s  signing\n");
  });

  test("a step that did not come to its end says how far it came", () => {
    const text = script(({ update }) => {
      update({ step: "hashing", doneBytes: 1 << 20, totalBytes: 4 << 20 });
      vi.advanceTimersByTime(200);
    });
    expect(text).toBe("      0.2 s  hashing · 1.0 MiB of 4.0 MiB\n");
  });

  test("what drives a terminal is not in it, wherever it came from", () => {
    const text = script(({ update }) =>
      update({ step: "\u001bPq\u001b\\building \u009b2J\u202ex", item: "\u001b[2J" }),
    );
    expect(text).toBe("      0.0 s  building x\n");
  });

  test("steps that overlap are not ended by each other", () => {
    const text = script(({ update }) => {
      for (let done = 1; done <= 3; done++) {
        update({ step: "downloading", done, total: 3 });
        vi.advanceTimersByTime(500);
        update({ step: "building tools" });
        vi.advanceTimersByTime(500);
      }
      vi.advanceTimersByTime(4000);
      update({ step: "building tools", item: "line" });
      vi.advanceTimersByTime(1000);
    });
    expect(text).toBe("      2.5 s  downloading · 3\n      7.5 s  building tools\n");
  });

  test("a complete step is not printed again when it is reported between others", () => {
    const text = script(({ update }) => {
      const complete = { step: "downloading", done: 3, total: 3 };
      for (const event of [complete, { step: "building a" }, complete, { step: "building b" }]) {
        update(event);
        vi.advanceTimersByTime(2000);
        update(event);
        vi.advanceTimersByTime(1000);
      }
    });
    expect(text).toBe("      3.0 s  downloading · 3\n      6.0 s  building a\n      3.0 s  building b\n");
  });

  test("nothing is printed without steps, after the end, or twice", () => {
    const { io, err } = capture();
    const progress = startProgress(io);
    progress.finish();
    progress.update({ step: "late" });
    progress.finish();
    expect(err()).toBe("");
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("on a terminal", () => {
  test("the line in hand is rewritten, and passes time by itself", () => {
    const { io, err } = capture({ terminal: { columns: 100 }, env: { NO_COLOR: "1" } });
    const progress = startProgress(io);
    progress.update({ step: "downloading", done: 1, total: 4, doneBytes: 1024, item: "libc6" });
    expect(shown(err())).toEqual(["      0.0 s  downloading ━━━━──────────── · 1 of 4 · 1.0 KiB · libc6"]);
    vi.advanceTimersByTime(3000);
    expect(shown(err())).toEqual(["      3.0 s  downloading ━━━━──────────── · 1 of 4 · 1.0 KiB · libc6"]);
    progress.update({ step: "building" });
    expect(shown(err())).toEqual(["      0.0 s  building"]);
    progress.finish();
    expect(shown(err())).toEqual(["      3.0 s  downloading · 1 of 4 · 1.0 KiB", "      0.0 s  building", ""]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("a flood of events is drawn some times a second", () => {
    const { io, err } = capture({ terminal: { columns: 80 } });
    const progress = startProgress(io);
    for (let done = 0; done < 10_000; done++) {
      progress.update({ step: "hashing", done });
      if (done % 100 === 0) vi.advanceTimersByTime(10);
    }
    expect(err().split("\r").length).toBeLessThan(20);
    progress.finish();
  });

  test.each([10, 20, 40, 59, 60, 80, 0, undefined])("no line is wider than a terminal of %s columns", (columns) => {
    const { io, err } = capture({ terminal: { columns }, env: { NO_COLOR: "1" } });
    const progress = startProgress(io);
    const item = "gcc -o a\tvery\r\nlong \u001b[31mline\u001b[0m of a build ".repeat(9);
    progress.update({ step: "building particle", done: 3, total: 10, item });
    const lines = shown(err());
    expect(lines).toHaveLength(1);
    expect(lines[0]?.length).toBe((columns || 80) - 1);
    expect(lines[0]).toMatch(/…$/);
    progress.finish();
  });
});

describe("around something long", () => {
  test("drawing ends also when it fails", async () => {
    const { io, err } = capture({ terminal: { columns: 80 } });
    const failed = withProgress(io, async (onProgress) => {
      onProgress({ step: "hashing" });
      throw new Error("disk full");
    });
    await expect(failed).rejects.toThrow("disk full");
    expect(shown(err())).toEqual(["      0.0 s  hashing", ""]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("what is for terminals only is drawn nowhere else", async () => {
    const drawn = async (options?: { terminal: { columns: number } }): Promise<string> => {
      const { io, err } = capture(options);
      const result = await withProgress(
        io,
        async (onProgress) => {
          onProgress({ step: "hashing" });
          return 1;
        },
        { terminalOnly: true },
      );
      expect(result).toBe(1);
      return err();
    };
    expect(await drawn()).toBe("");
    expect(await drawn({ terminal: { columns: 80 } })).toContain("hashing");
  });
});
