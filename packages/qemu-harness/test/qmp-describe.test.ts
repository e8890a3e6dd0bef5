import { describe, expect, test } from "vitest";
import { describeUses, renderShape } from "../src/qmp/describe.ts";
import { knownSchema } from "../src/qmp/schema.ts";

const schema = await knownSchema();

function takes(command: string, ...path: string[]): string[] {
  return renderShape(describeUses(schema, schema.commands.get(command)?.arguments ?? [], path), "");
}

describe("what a command takes", () => {
  test("is shown with what is optional and which versions have it", () => {
    expect(takes("balloon")).toEqual(["value: integer"]);
    expect(takes("query-status")).toEqual(["nothing"]);
    expect(takes("query-dirty-rate")).toEqual(["calc-time-unit? (QEMU 10.0 or newer): second | millisecond"]);
    expect(takes("set-action")).toContain("watchdog?: reset | shutdown | poweroff | pause | debug | none | inject-nmi");
  });

  test("grows by what belongs to the value of a tag", () => {
    expect(takes("blockdev-add").join("\n")).toMatch(/^driver \(decides what else there is\): blkdebug \| /);
    expect(takes("blockdev-add")).not.toContain("lazy-refcounts?: true or false");
    const qcow2 = takes("blockdev-add", "qcow2");
    expect(qcow2).toContain("lazy-refcounts?: true or false");
    expect(qcow2).toContain("backing?: object as above, or string, or null");
  });
});

test("every command and event can be shown, in lines of bounded length", () => {
  const uses = [
    ...[...schema.commands.values()].flatMap((command) => [command.arguments, command.returns]),
    ...[...schema.events.values()].map(({ data }) => data),
  ];
  const lines = uses.flatMap((use) => renderShape(describeUses(schema, use), ""));
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThan(160);
  expect(lines.filter((line) => /\[object/.test(line))).toEqual([]);
});
