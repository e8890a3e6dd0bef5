import * as fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { checkArguments, checkEvent, checkReturn, type SchemaVersion, versionOf } from "../src/qmp/check.ts";
import { memberPath } from "../src/qmp/json.ts";
import { knownSchema, type QmpSchema } from "../src/qmp/schema.ts";
import { placesOf, replaced, valueFor } from "./qmp-schema.ts";

const seed = Number(process.env.LEVERET_SEED ?? Date.now() % 2 ** 31);
const options = { seed, numRuns: 8 };
let schema: QmpSchema;
beforeAll(async () => {
  schema = await knownSchema();
});

function version(name: string): SchemaVersion {
  const found = versionOf(schema, name);
  if (found === undefined) throw new Error(`no version ${name}`);
  return found;
}

const versions = ["7.2", "10.0", "11.1"];

describe.for(versions)(`QEMU %s (seed ${seed})`, (name) => {
  test("accepts what its schema allows, of every command and event", () => {
    const at = version(name);
    for (const [command, known] of schema.commands) {
      if ((known.versions & at.bit) === 0) continue;
      const holds = fc.property(valueFor(at, known.arguments), valueFor(at, known.returns), (args, returned) => {
        expect(checkArguments(at, command, args), command).toEqual([]);
        expect(checkReturn(at, command, returned), command).toEqual([]);
      });
      fc.assert(holds, options);
    }
    for (const [event, known] of schema.events) {
      if ((known.versions & at.bit) === 0) continue;
      const holds = fc.property(valueFor(at, known.data), (data) => {
        expect(checkEvent(at, event, data), event).toEqual([]);
      });
      fc.assert(holds, options);
    }
  });

  test("names the one member that is unknown, missing or of a wrong type, and where it stands", () => {
    const at = version(name);
    const commands = [...schema.commands].filter(
      ([
        ,
        {
          versions: set,
          isOpen,
          arguments: [first],
        },
      ]) => (set & at.bit) !== 0 && !isOpen && typeof first?.type === "number",
    );
    for (const [command, known] of commands) {
      const holds = fc.property(valueFor(at, known.arguments), fc.nat(), (args, pick) => {
        const places = placesOf(args).filter(({ value }) => typeof value === "object" && !Array.isArray(value));
        const place = places[pick % places.length];
        if (place === undefined || place.value === null) return;
        const wrong = replaced(args, place.path, { ...(place.value as object), "no such": 1 });
        const path = [...place.path, "no such"].reduce<string>(
          (sum, part) => (typeof part === "number" ? `${sum}[${part}]` : memberPath(sum, part)),
          "",
        );
        expect(checkArguments(at, command, wrong), command).toEqual([
          { path, message: expect.stringContaining("expected no member of that name, got 1") },
        ]);
      });
      fc.assert(holds, options);
    }
  });
});

describe("what is said", () => {
  test.for<[string, string, object, string, string]>([
    ["7.2", "balloon", {}, "value", "expected an integer, got none"],
    ["7.2", "balloon", { value: "1" }, "value", 'expected an integer, got "1"'],
    ["7.2", "balloon", { value: 0.5 }, "value", "expected an integer, got 0.5"],
    ["7.2", "balloon", { value: 1, unit: 2 }, "unit", "expected no member of that name, got 2; there are value"],
    ["7.2", "query-status", { a: 1 }, "a", "expected no member of that name, got 1; there are none"],
    [
      "7.2",
      "query-dirty-rate",
      { "calc-time-unit": "second" },
      "calc-time-unit",
      "needs QEMU 10.0 or newer, this is 7.2",
    ],
    ["7.2", "query-accelerators", {}, "", "query-accelerators needs QEMU 11.1 or newer, this is 7.2"],
    ["10.0", "x-query-rdma", {}, "", "x-query-rdma needs QEMU 7.2 or older, this is 10.0"],
    [
      "7.2",
      "set-action",
      { panic: "dance" },
      "panic",
      'expected "pause", "shutdown", "exit-failure" or "none", got "dance"',
    ],
    ["7.2", "blockdev-add", { driver: "file" }, "filename", "expected a string, got none"],
    [
      "7.2",
      "blockdev-add",
      { driver: "io_uring", filename: "a" },
      "driver",
      '"io_uring" needs QEMU 10.0 or newer, this is 7.2',
    ],
    [
      "7.2",
      "blockdev-add",
      { driver: "qcow2", file: { driver: "file", filename: 1 } },
      "file.filename",
      "expected a string, got 1",
    ],
    ["7.2", "blockdev-add", { driver: "qcow2", file: [] }, "file", "expected an object or a string, got an array"],
    [
      "7.2",
      "migrate-set-capabilities",
      { capabilities: [{ capability: "mapped-ram", state: true }] },
      "capabilities[0].capability",
      '"mapped-ram" needs QEMU 10.0 or newer, this is 7.2',
    ],
    ["7.2", "no-such-command", {}, "", "expected a command of QEMU 7.2, got no-such-command"],
  ])("%s %s %j", ([name, command, args, path, message]) => {
    expect(checkArguments(version(name), command, args)).toContainEqual({ path, message });
  });

  test("is of bounded length", () => {
    const capabilities = Array.from({ length: 1000 }, () => ({ capability: "x".repeat(1000), state: 1 }));
    const issues = checkArguments(version("7.2"), "migrate-set-capabilities", { capabilities });
    expect(issues).toHaveLength(20);
    expect(Math.max(...issues.map(({ message }) => message.length))).toBeLessThan(1000);
  });

  test("ends with a value that nests without end", () => {
    let node: object = { driver: "file", filename: "a" };
    for (let depth = 0; depth < 5000; depth += 1) node = { driver: "raw", file: node };
    const messages = checkArguments(version("7.2"), "blockdev-add", node).map(({ message }) => message);
    expect(new Set(messages)).toEqual(new Set(["expected at most 1024 levels, got more"]));
  });
});
