import { spawnSync } from "node:child_process";
import { PassThrough, Writable } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { drained } from "../src/control/drained.ts";
import { Excerpt, excerptOf } from "../src/excerpt.ts";
import { shellLine } from "../src/guest/shell-command.ts";

describe("a line for a shell", () => {
  test("has words that the shell takes as they are", () => {
    const word = fc
      .string({ unit: "binary" })
      .filter((text) => !text.includes("\0") && Buffer.from(text).toString() === text);
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), word, (words, last) => {
        const line = shellLine(["printf '%s\\0' ", " ", " 12 ", ""], [words, last, 7]);
        const { stdout } = spawnSync("/bin/sh", ["-c", line], { encoding: "utf8" });
        expect(stdout.split("\0").slice(0, -1)).toEqual([...words, last, "12", "7"]);
      }),
      { numRuns: 40 },
    );
  });

  test("has no words that no shell can have", () => {
    for (const word of ["a\0b", undefined, {}, null]) {
      expect(() => shellLine(["echo ", ""], [word as string])).toThrow(
        expect.objectContaining({ code: "SANDBOX_BAD_OPTIONS" }),
      );
    }
  });
});

describe("an excerpt", () => {
  test("is everything, or its beginning and its end", () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 20 }), fc.integer({ min: 2, max: 60 }), (pieces, limit) => {
        const excerpt = new Excerpt(limit);
        for (const piece of pieces) excerpt.add(piece);
        const all = pieces.join("");
        const half = Math.floor(limit / 2);
        const missing = all.length - 2 * half;
        expect(`${excerpt}`).toBe(
          missing <= 0
            ? all
            : `${all.slice(0, half)}\n[… ${missing} characters left out …]\n${all.slice(all.length - half)}`,
        );
        expect(excerptOf(all, limit)).toBe(`${excerpt}`);
      }),
    );
  });
});

describe("a stream that is full", () => {
  test("is waited for until it takes more or is closed, and keeps nothing of that", async () => {
    const stream = new PassThrough({ highWaterMark: 1 });
    for (let round = 0; round < 20; round += 1) {
      stream.write("ab");
      const waited = drained(stream);
      stream.read();
      await waited;
    }
    expect(stream.listenerCount("close")).toBe(0);
    const stuck = new Writable({ highWaterMark: 1, write: () => {} });
    stuck.write("ab");
    const waited = drained(stuck);
    stuck.destroy();
    await waited;
    await drained(stuck);
  });
});
