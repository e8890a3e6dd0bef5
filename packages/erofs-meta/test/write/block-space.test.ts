import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockSpace, Course } from "../../src/write/block-space.ts";
import { FreeRanges } from "../../src/write/free-ranges.ts";

describe("FreeRanges", () => {
  test("gives every unit out once, where the caller can use it", () => {
    const ranges = fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 40 })), { maxLength: 20 });
    const wishes = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.constantFrom(1, 4)), { maxLength: 60 });
    fc.assert(
      fc.property(ranges, wishes, (gaps, sizes) => {
        const free = new FreeRanges();
        const left = new Set<number>();
        let at = 0;
        for (const [skipped, length] of gaps) {
          at += skipped + 1;
          free.add(at, at + length);
          for (let unit = at; unit < at + length; unit += 1) left.add(unit);
          at += length;
        }
        for (const [size, alignment] of sizes) {
          const start = free.take(size, (from) => Math.ceil(from / alignment) * alignment);
          if (start === undefined) continue;
          expect(start % alignment).toBe(0);
          for (let unit = start; unit < start + size; unit += 1) expect(left.delete(unit)).toBe(true);
        }
      }),
    );
  });

  test("takes a range of about the size before it breaks a larger one", () => {
    const free = new FreeRanges();
    free.add(0, 5);
    free.add(10, 100);
    expect(free.take(4)).toBe(0);
    expect(free.take(4)).toBe(10);
  });
});

describe("BlockSpace", () => {
  test("puts what fits into holes, and everything else behind all others", () => {
    const space = new BlockSpace(100);
    space.give({ block: 7, count: 3 });
    expect(space.course(4).take(4, 1)).toEqual({ block: 100, count: 4 });
    expect(space.course(3).take(3, 1)).toEqual({ block: 7, count: 3 });
    expect(space.course(undefined).take(1, 1)).toEqual({ block: 104, count: 1 });
    expect(space.end).toBe(105);
  });

  test("gives what a content did not take to the next one", () => {
    const space = new BlockSpace(100);
    space.give({ block: 7, count: 5 });
    const course = space.course(5);
    course.take(2, 1);
    course.end();
    expect(space.course(3).take(3, 1)).toEqual({ block: 9, count: 3 });
  });
});

describe("a Course", () => {
  test("goes through its runs, and goes on behind all others", () => {
    const space = new BlockSpace(100);
    const course = new Course(space, [
      { block: 10, count: 5 },
      { block: 40, count: 3 },
    ]);
    expect([course.first, course.isOneRun(5), course.isOneRun(6)]).toEqual([undefined, true, false]);
    expect(course.take(2, 1)).toEqual({ block: 10, count: 2 });
    expect(course.take(9, 1)).toEqual({ block: 12, count: 3 });
    expect(course.isOneRun()).toBe(true);
    expect(course.isOneRun(1)).toBe(false);
    expect(course.take(2, 2)).toEqual({ block: 40, count: 2 });
    expect(course.isOneRun()).toBe(false);
    // The block that is left is too short for a unit of two.
    expect(course.take(2, 2)).toEqual({ block: 100, count: 2 });
    expect([course.first, space.end]).toEqual([10, 102]);
    expect(space.course(1).take(1, 1)).toEqual({ block: 42, count: 1 });
  });

  test("takes whole units only, but for the last", () => {
    const course = new Course(new BlockSpace(100), [{ block: 10, count: 7 }]);
    expect(course.take(9, 4)).toEqual({ block: 10, count: 4 });
    expect(course.take(3, 4)).toEqual({ block: 14, count: 3 });
  });
});
