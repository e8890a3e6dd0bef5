import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkDescription } from "../../src/config/schema.ts";
import { debian, defineOs } from "../../src/index.ts";
import { TINY } from "../support/system.ts";

const MINIMAL = { id: "os", version: "1", source: { kind: "debian", suite: "trixie" } } as const;

function issuesOf(description: unknown): string[] {
  const checked = checkDescription(description);
  return "issues" in checked ? checked.issues.map(({ path, message }) => `${path}: ${message}`) : [];
}

describe("a description", () => {
  test("gets every default", () => {
    expect(checkDescription(MINIMAL)).toMatchSnapshot();
  });

  test("comes through defineOs and debian as it is", () => {
    const description = defineOs({ id: "os", version: "1", source: debian({ suite: "trixie", components: ["main"] }) });
    expect(description).toEqual({ ...MINIMAL, source: { ...MINIMAL.source, components: ["main"] } });
    expect(issuesOf(description)).toEqual([]);
  });

  test("with several mistakes is told all of them, with their paths", () => {
    const description = {
      id: "Übung",
      packages: ["less", "Bad Name", 7],
      colour: "red",
      kernel: { arguments: ["quiet", "two words"], flavour: "cloud" },
      disk: { espMiB: 1.5 },
      source: { kind: "debian" },
    };
    expect(issuesOf(description)).toMatchSnapshot();
  });

  test.each<[string, string, unknown]>([
    ["id", "id", "1st"],
    ["id", "id", ""],
    ["id", "id", "a".repeat(33)],
    ["version", "version", "1_0"],
    ["version", "version", "1.0+b1"],
    ["version", "version", "-1"],
    ["name", "name", ""],
    ["name", "name", "two\nlines"],
    ["name", "name", "an \u001b escape"],
    ["name", "name", 'a "quote"'],
    ["name", "name", "$(command)"],
    ["source", "source", undefined],
    ["source", "source.kind", { kind: "fedora", suite: "trixie" }],
    ["source", "source.suite", { kind: "debian", suite: "../etc" }],
    ["source", "source.components", { kind: "debian", suite: "sid", components: [] }],
    ["source", "source.mirror", { kind: "debian", suite: "sid", mirror: "x" }],
    ["packages", "packages", "less"],
    ["packages", "packages[0]", ["--option"]],
    ["exclude", "exclude[0]", ["/"]],
    ["exclude", "exclude[0]", ["/*"]],
    ["exclude", "exclude[0]", ["usr/share/doc"]],
    ["exclude", "exclude[0]", ["/usr/../etc"]],
    ["exclude", "exclude[0]", ["/usr/share/do c"]],
    ["tree", "tree", "/etc"],
    ["tree", "tree", ".."],
    ["tree", "tree", "a/../../b"],
    ["tree", "tree", "."],
    ["tree", "tree", "a\0b"],
    ["keys", "keys", ""],
    ["keys", "keys", "../keys"],
    ["kernel", "kernel.package", { package: "Linux" }],
    ["kernel", "kernel.arguments[0]", { arguments: ['a="b"'] }],
    ["kernel", "kernel.arguments[0]", { arguments: ["usrhash=00"] }],
    ["kernel", "kernel.arguments[0]", { arguments: ["dm-verity.require-signatures=0"] }],
    ["initrd", "initrd.modules[0]", { modules: ["../evil"] }],
    ["units", "units.enable[0]", { enable: ["sshd"] }],
    ["units", "units.mask[0]", { mask: ["--now.service"] }],
    ["units", "units.start", { start: [] }],
    ["disk", "disk.espMiB", { espMiB: 32 }],
    ["disk", "disk.usrMiB", { usrMiB: 0 }],
    ["disk", "disk.usrMiB", { usrMiB: Number.NaN }],
    ["disk", "disk.rootMiB", { rootMiB: "512" }],
    ["colour", "colour", "red"],
  ])("with a wrong %s is told where: %s (%j)", (key, path, value) => {
    const checked = checkDescription({ ...MINIMAL, [key]: value });
    expect("issues" in checked && checked.issues.map((issue) => issue.path)).toEqual([path]);
  });

  test("may not have a name that is too long for a partition", () => {
    expect(issuesOf({ ...MINIMAL, id: "a".repeat(20), version: "1".repeat(16) })).toEqual([
      "version: expected id_version of at most 36 characters, got 37",
    ]);
  });

  test.each([
    ["keys", "keys"],
    ["files", "files/keys"],
    ["secret/files/", "./secret"],
  ])("may not have its keys in its tree: %s and %s", (tree, keys) => {
    expect(issuesOf({ ...MINIMAL, tree, keys })).toEqual([
      expect.stringMatching(/^tree: expected keys \(.*\) and tree \(.*\) to lie apart$/),
    ]);
  });

  test.each([
    ["tree", ".leveret/flake"],
    ["keys", ".leveret/bootstrap/k"],
    ["keys", "images"],
    ["keys", "images/keys"],
  ])("may not have its %s in %s, which is the builder's", (field, path) => {
    expect(issuesOf({ ...MINIMAL, [field]: path })).toEqual([
      expect.stringMatching(new RegExp(`^${field}: expected a directory outside of`)),
    ]);
  });

  test("may have keys and a tree whose names begin alike", () => {
    expect(issuesOf({ ...MINIMAL, tree: "keys-of-piano", keys: "keys" })).toEqual([]);
  });

  test("may not want a unit enabled and disabled", () => {
    const units = { enable: ["a.service", "b.timer"], disable: ["b.timer"], mask: ["a.service"] };
    expect(issuesOf({ ...MINIMAL, units })).toEqual([
      "units.enable[0]: a.service is also to be disabled or masked",
      "units.enable[1]: b.timer is also to be disabled or masked",
    ]);
  });

  test("that throws when it is looked at is a mistake like any other", () => {
    const hostile = new Proxy({}, { get: () => raise(), ownKeys: () => raise() });
    expect(issuesOf(hostile)).toEqual([": expected plain values, got: no"]);
    expect(issuesOf({ ...MINIMAL, packages: Object.defineProperty([], 0, { get: raise }) })).toHaveLength(1);
  });

  test("never makes the check throw", () => {
    const anything = fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true, withMap: true });
    const keys = ["id", "version", "name", "source", "packages", "exclude", "tree", "kernel", "units", "disk", "keys"];
    const broken = fc
      .tuple(fc.constantFrom(...keys), anything)
      .map(([key, value]): unknown => ({ ...TINY, [key]: value }));
    fc.assert(
      fc.property(fc.oneof(anything, broken), (description) => {
        const checked = checkDescription(description);
        expect("config" in checked || checked.issues.length > 0).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

function raise(): never {
  throw new Error("no");
}
