import { execFile } from "node:child_process";
import { lstatSync, mkdirSync, writeFileSync } from "node:fs";
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { applyDifferences, conflictsAmong } from "../../src/changes/apply.ts";
import { type Comparison, compareChanges, type Difference, type Version } from "../../src/changes/compare.ts";
import { heldBack } from "../../src/changes/guarded.ts";
import { formatPatch } from "../../src/changes/patch.ts";
import { recoverTransaction, runTransaction, stateOf } from "../../src/changes/transaction.ts";
import { type Change, type ChangedDirectory, readChanges } from "../../src/changes/tree.ts";
import { DEFAULT_HIDDEN, hiddenNames } from "../../src/workspace/hidden.ts";

const run = promisify(execFile);
const scratches: string[] = [];
afterEach(async () => {
  for (const each of scratches.splice(0)) await rm(each, { recursive: true });
});

/** A directory with files: text, a program (`!` before it), or a link (`->` before it). */
async function project(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "sandbox-changes-"));
  scratches.push(directory);
  for (const [path, content] of Object.entries(files)) {
    const place = join(directory, path);
    await mkdir(dirname(place), { recursive: true });
    if (typeof content === "string" && content.startsWith("->")) await symlink(content.slice(2), place);
    else if (typeof content === "string" && content.startsWith("!")) {
      await writeFile(place, content.slice(1));
      await chmod(place, 0o755);
    } else await writeFile(place, content);
  }
  return directory;
}

/** What is in a directory, as {@link project} takes it. */
async function contents(directory: string, below = ""): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const name of await readdir(join(directory, below))) {
    const path = join(below, name);
    const stats = await lstat(join(directory, path));
    if (name === ".git") continue;
    if (stats.isDirectory()) Object.assign(all, await contents(directory, path));
    else if (stats.isSymbolicLink()) all[path] = `->${await readlink(join(directory, path))}`;
    else all[path] = `${stats.mode & 0o100 ? "!" : ""}${await readFile(join(directory, path), "latin1")}`;
  }
  return all;
}

type Layer = { readonly [name: string]: Change | string | Uint8Array };

/** An upper layer: text for a file, `!` and `->` as above. */
function layer(entries: Layer, opaque = false): ChangedDirectory {
  const changes = Object.entries(entries).map(([name, entry]): [string, Change] => {
    if (entry instanceof Uint8Array) return [name, { kind: "file", executable: false, content: entry }];
    if (typeof entry !== "string") return [name, entry];
    if (entry.startsWith("->")) return [name, { kind: "symlink", target: entry.slice(2) }];
    const executable = entry.startsWith("!");
    return [name, { kind: "file", executable, content: Buffer.from(executable ? entry.slice(1) : entry) }];
  });
  return { kind: "directory", opaque, entries: new Map(changes) };
}

function versionOf(mode: Version["mode"], text: string): Version {
  const content = Buffer.from(text);
  return { mode, sizeBytes: content.length, read: () => content };
}

const REMOVED: Change = { kind: "removed" };

function compare(changes: ChangedDirectory, directory: string): Comparison {
  return compareChanges(changes, directory, hiddenNames(DEFAULT_HIDDEN));
}

/** Brings differences back, with nothing left of how it is done. */
async function apply(directory: string, differences: readonly Difference[]): Promise<Map<string, number | undefined>> {
  const journals = await mkdtemp(join(tmpdir(), "sandbox-journals-"));
  scratches.push(journals);
  try {
    return applyDifferences(directory, differences, join(journals, "journal"));
  } finally {
    expect(await readdir(journals)).toEqual([]);
    expect((await readdir(directory)).filter((name) => name.startsWith(".leveret"))).toEqual([]);
  }
}

/** Both ways of bringing changes back, which have to come to the same. */
async function applied(
  files: Readonly<Record<string, string | Uint8Array>>,
  changes: ChangedDirectory,
): Promise<unknown> {
  const [ours, gits] = [await project(files), await project(files)];
  const { differences } = compare(changes, ours);
  await writeFile(join(gits, "../", `${gits.split("/").at(-1)}.patch`), formatPatch(differences));
  const patch = join(gits, "../", `${gits.split("/").at(-1)}.patch`);
  if (differences.length > 0) await run("git", ["apply", patch], { cwd: gits });
  await rm(patch);
  await apply(ours, differences);
  const result = await contents(ours);
  expect(await contents(gits)).toEqual(result);
  expect(compare(changes, ours).differences).toEqual([]);
  return result;
}

describe("changes", () => {
  test("are files, programs, links and what is gone, and git makes the same of them", async () => {
    const before = {
      "a.txt": "one\ntwo\n",
      "b/run": "echo",
      "b/old": "x",
      "b/deep/x": "1",
      link: "->a.txt",
      keep: "k",
    };
    const b = layer({ run: "!echo", old: REMOVED, deep: REMOVED, 'a name with "quotes" and ü': "new" });
    const changes = layer({
      "a.txt": "one\n2\n",
      b,
      link: "->b/run",
      fresh: layer({ bin: "!#!/bin/sh\n", empty: "" }),
    });
    expect(await applied(before, changes)).toEqual({
      "a.txt": "one\n2\n",
      "b/run": "!echo",
      'b/a name with "quotes" and ü': "new",
      link: "->b/run",
      "fresh/bin": "!#!/bin/sh\n",
      "fresh/empty": "",
      keep: "k",
    });
  });

  test("of one kind into another", async () => {
    const before = { file: "f", link: "->file", "dir/a": "1", "dir/b": "2", other: "->dir" };
    const changes = layer({
      file: "->link",
      link: "now a file",
      dir: "no directory",
      other: layer({ below: "b" }, true),
    });
    expect(await applied(before, changes)).toEqual({
      file: "->link",
      link: "now a file",
      dir: "no directory",
      "other/below": "b",
    });
  });

  test("of bytes, long lines, ends without a line feed, and ends with carriage returns", async () => {
    const binary = Uint8Array.from({ length: 5000 }, (_, index) => (index * index) % 251);
    const before = { blob: binary, gone: binary, text: "a\r\nb\r\nc", empty: "" };
    const changes = layer({ blob: binary.slice(7), gone: REMOVED, text: "a\r\nB\r\nc\n", empty: "x", more: binary });
    expect(Object.keys((await applied(before, changes)) as object)).toEqual(
      expect.arrayContaining(["blob", "text", "empty", "more"]),
    );
  });

  test("of many lines, wherever they are", async () => {
    const lines = Array.from({ length: 3000 }, (_, index) => `line ${index}`);
    const after = lines.flatMap((line, index) => (index % 97 === 0 ? [] : index % 89 === 0 ? [line, "more"] : [line]));
    await applied({ text: lines.join("\n") }, layer({ text: after.join("\n") }));
  });

  test("leave out what no project has, and what sandboxes do not see", async () => {
    const directory = await project({ ".env": "SECRET=1", "dir/.env": "SECRET=2", "dir/a": "a" });
    const changes = layer({ pipe: { kind: "other" }, ".env": "mine", ".ENV": "mine", dir: REMOVED });
    const { differences, leftOut } = compare(changes, directory);
    expect(leftOut).toEqual([".ENV", ".env", "pipe"]);
    await apply(directory, differences);
    expect(await contents(directory)).toEqual({ ".env": "SECRET=1", "dir/.env": "SECRET=2" });
  });

  test("of a directory that hides the one below are all that was in that", async () => {
    const changes = layer({ dir: layer({ b: "2", c: "3" }, true) });
    expect(await applied({ "dir/a": "1", "dir/b": "b", "dir/d/e": "5" }, changes)).toEqual({
      "dir/b": "2",
      "dir/c": "3",
    });
  });

  test("of a directory below one that hides all are all that was in that, too", async () => {
    const changes = layer({ src: layer({ foo: layer({ a: "a" }) }, true) });
    expect(await applied({ "src/foo/b": "b", "src/c": "c", keep: "k" }, changes)).toEqual({
      "src/foo/a": "a",
      keep: "k",
    });
  });

  test("leave heavy directories of the project alone, wherever they are", async () => {
    const directory = await project({ "pkg/node_modules/x": "x", "pkg/a": "a" });
    const { differences, leftOut } = compareChanges(
      layer({ pkg: REMOVED }),
      directory,
      () => false,
      (name) => name === "node_modules",
    );
    expect([differences.map(({ path }) => path), leftOut]).toEqual([["pkg/a"], ["pkg/node_modules"]]);
  });

  test("leave a heavy directory of the project alone that is something else inside", async () => {
    const directory = await project({ "node_modules/x": "x" });
    const changes = layer({ node_modules: "->/tmp/elsewhere" });
    const comparison = compareChanges(
      changes,
      directory,
      () => false,
      (name) => name === "node_modules",
    );
    expect(comparison).toEqual({ differences: [], leftOut: ["node_modules"] });
  });

  test("never lead through a link of the project", async () => {
    const outside = await project({ secret: "s" });
    const directory = await project({ link: `->${outside}` });
    const { differences } = compare(layer({ link: layer({ secret: "changed", more: "m" }) }), directory);
    await apply(directory, differences);
    expect(await contents(outside)).toEqual({ secret: "s" });
    expect(await contents(directory)).toEqual({ "link/secret": "changed", "link/more": "m" });
    // Somebody puts a link there between looking and doing.
    const { differences: late } = compare(layer({ d: layer({ secret: "changed" }) }), directory);
    await symlink(outside, join(directory, "d"));
    await expect(apply(directory, late)).rejects.toMatchObject({ code: "SANDBOX_PROJECT_FILE", path: "d" });
    expect(await contents(outside)).toEqual({ secret: "s" });
  });

  test("keep who may read a file", async () => {
    const directory = await project({ secret: "1" });
    await chmod(join(directory, "secret"), 0o600);
    await apply(directory, compare(layer({ secret: "2" }), directory).differences);
    expect((await lstat(join(directory, "secret"))).mode & 0o777).toBe(0o600);
    await apply(directory, compare(layer({ secret: "!2" }), directory).differences);
    expect((await lstat(join(directory, "secret"))).mode & 0o777).toBe(0o700);
  });

  test("that the project has made too are conflicts, until they were brought back", async () => {
    const directory = await project({ a: "1", b: "1" });
    const changes = layer({ a: "2", b: "2", c: "2" });
    const since = Math.max(...compare(changes, directory).differences.map(({ changedAt = 0 }) => changedAt));
    // The file system's clock ticks only a few hundred times a second.
    const edit = async (): Promise<number> => {
      await writeFile(join(directory, "a"), "theirs");
      return (await lstat(join(directory, "a"))).ctimeMs;
    };
    await expect.poll(edit, { interval: 5 }).toBeGreaterThan(since);
    const { differences } = compare(changes, directory);
    expect(conflictsAmong(differences, since, {})).toEqual(["a"]);
    const times: Record<string, number> = {};
    for (const [path, changedAt] of await apply(directory, differences)) times[path] = changedAt ?? 0;
    const next = compare(layer({ a: "3", b: "3", c: "3" }), directory).differences;
    expect(conflictsAmong(next, since, {})).toEqual(["a", "b", "c"]);
    expect(conflictsAmong(next, since, times)).toEqual([]);
  });
});

/** More bytes than a name may have. */
const LONG = "é".repeat(128);

describe("all changes are made, or none, when", () => {
  const before = { "a/one": "1", "a/two": "2", b: "!b", "c/d/e": "e", link: "->b" };
  const changes = (): ChangedDirectory =>
    layer({
      a: layer({ one: "changed", two: REMOVED, three: "3" }),
      b: "->a",
      new: layer({ deep: layer({ x: "x" }) }),
    });

  test.each<[string, Layer, (directory: string) => Promise<unknown>, string]>([
    [
      "a file is where a directory would be",
      { late: layer({ x: "1" }) },
      (at) => writeFile(join(at, "late"), ""),
      "late",
    ],
    ["a directory keeps something", { c: "file" }, (at) => writeFile(join(at, "c", ".env"), "S=1"), "c"],
    ["a name is too long", { fresh: layer({ [LONG]: "1" }) }, async () => {}, `fresh/${LONG}`],
    ["a file has gone that was to go", { link: REMOVED }, (at) => rm(join(at, "link")), "link"],
  ])("%s", async (_, more, hinder, path) => {
    const directory = await project(before);
    const all = changes();
    for (const [name, change] of layer(more).entries) all.entries.set(name, change);
    const { differences } = compare(all, directory);
    await hinder(directory);
    const state = await contents(directory);
    await expect(apply(directory, differences)).rejects.toMatchObject({ code: "SANDBOX_PROJECT_FILE", path });
    expect(await contents(directory)).toEqual(state);
  });

  test("one of them fails although nothing was in the way", async () => {
    const directory = await project(before);
    const journal = join(await project({}), "journal");
    const steps = ["a/two", "c/d/e", "a/one", "b", "z/x"].map((path, index) => ({
      path,
      put: index > 1,
      seen: stateOf(lstatSync(join(directory, path), { throwIfNoEntry: false })),
    }));
    const stage = ({ path }: { path: string }, place: string): void => {
      writeFileSync(place, "new");
      if (path === "z/x") mkdirSync(join(directory, "z/x/y"), { recursive: true });
      if (path === "z/x") writeFileSync(join(directory, "z/x/y/theirs"), "theirs");
    };
    expect(() => runTransaction(directory, journal, { made: [], steps, stage })).toThrow(
      expect.objectContaining({ code: "SANDBOX_PROJECT_FILE", path: "z/x/y" }),
    );
    expect(await contents(directory)).toEqual({ ...before, "z/x/y/theirs": "theirs" });
    expect(await readdir(dirname(journal))).toEqual([]);
  });

  const steps = [
    { path: "c/d/e", put: false },
    { path: "b", put: false },
    { path: "a/one", put: true },
    { path: "fresh/dir/x", put: true },
    { path: "b/x", put: true },
  ];

  /** What is there when the process is killed after so many steps. */
  async function cutOff(count: number): Promise<{ readonly directory: string; readonly journal: string }> {
    const directory = await project(before);
    const journal = join(await project({}), "journal");
    const staging = ".leveret-apply-0123456789ab";
    const { dev, ino } = await lstat(directory);
    await mkdir(join(directory, staging));
    const staged = [];
    for (const [index, step] of steps.entries()) {
      const place = join(directory, staging, `new-${index}`);
      if (step.put) await writeFile(place, "new");
      staged.push(step.put ? { ...step, staged: stateOf(lstatSync(place)) } : step);
    }
    for (const [index, { path, put }] of steps.slice(0, count).entries()) {
      const place = join(directory, path);
      await mkdir(dirname(place), { recursive: true });
      await rename(place, join(directory, staging, `old-${index}`)).catch(() => {});
      if (put) await rename(join(directory, staging, `new-${index}`), place);
    }
    const made = ["fresh", "fresh/dir", "b"];
    const entry = { kind: "sandbox-apply", version: 1, directory, dev, ino, staging, done: false, made, steps: staged };
    await writeFile(journal, JSON.stringify(entry));
    return { directory, journal };
  }

  test.each([0, 1, 2, 3, 4, 5])("they are cut off after %s of them", async (count) => {
    const { directory, journal } = await cutOff(count);
    expect(recoverTransaction(directory, journal)).toEqual([expect.stringContaining("taken back")]);
    expect(await contents(directory)).toEqual(before);
    expect(await readdir(directory)).toEqual(["a", "b", "c", "link"]);
    expect(recoverTransaction(directory, journal)).toEqual([]);
  });

  test("taking them back is cut off, too", async () => {
    const { directory, journal } = await cutOff(3);
    // Whoever was at it had taken back the last one, and half of the one before.
    const staging = join(directory, ".leveret-apply-0123456789ab");
    await rename(join(directory, "a/one"), join(staging, "new-2"));
    expect(recoverTransaction(directory, journal)).toHaveLength(1);
    expect(await contents(directory)).toEqual(before);
  });

  test("they are cut off when all is done", async () => {
    const { directory, journal } = await cutOff(5);
    const entry = JSON.parse(await readFile(journal, "utf8")) as object;
    const state = await contents(directory);
    await writeFile(journal, JSON.stringify({ ...entry, done: true, made: [], steps: [] }));
    expect(recoverTransaction(directory, journal)).toEqual([expect.stringContaining("when all was done")]);
    const staging = Object.keys(state).filter((path) => path.startsWith(".leveret"));
    for (const path of staging) delete state[path];
    expect(await contents(directory)).toEqual(state);
  });

  test("somebody has gone on with what was cut off, whose work stays", async () => {
    const { directory, journal } = await cutOff(5);
    await writeFile(join(directory, "a/one"), "mended");
    await rm(join(directory, "fresh"), { recursive: true });
    const notes = recoverTransaction(directory, journal);
    expect(notes).toEqual([expect.any(String), expect.stringMatching(/^a\/one was changed since then and stays/)]);
    const { "a/one": one, ...rest } = await contents(directory);
    const beside = Object.keys(rest).filter((path) => path.startsWith("a/one.before-apply-"));
    expect([one, beside.map((path) => rest[path])]).toEqual(["mended", ["1"]]);
  });

  test("another directory is there by now, which is left alone", async () => {
    const { directory, journal } = await cutOff(3);
    await rename(directory, `${directory}-moved`);
    scratches.push(`${directory}-moved`);
    await mkdir(directory);
    await writeFile(join(directory, "b"), "another");
    expect(recoverTransaction(directory, journal)).toEqual([expect.stringContaining("another directory")]);
    expect(await contents(directory)).toEqual({ b: "another" });
    expect(await readdir(dirname(journal))).toHaveLength(1);
  });

  test("the project changes while they are made", async () => {
    const directory = await project(before);
    const { differences } = compare(changes(), directory);
    await writeFile(join(directory, "b"), "theirs, meanwhile");
    await expect(apply(directory, differences)).rejects.toMatchObject({ code: "SANDBOX_CONFLICT", path: "b" });
    expect(await contents(directory)).toEqual({ ...before, b: "!theirs, meanwhile" });
  });
});

describe("what is held back", () => {
  const held = (path: string, named: string[] = [], before?: string, after = "x"): string | undefined => {
    const version = (text: string | undefined) => (text === undefined ? undefined : versionOf("100644", text));
    return heldBack({ path, before: version(before), after: version(after) }, named)?.reason;
  };

  test.each([
    ".git/hooks/pre-commit",
    ".git/config",
    "sub/.git/config",
    ".GIT/hooks/x",
    ".git/HEAD",
    ".gitmodules",
    ".envrc",
    "sub/.envrc",
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    ".vscode/tasks.json",
    ".husky/pre-push",
    ".mcp.json",
    ".claude/settings.json",
    ".npmrc",
    ".cargo/config.toml",
    "package.json",
    "a\nb/.git/hooks/pre-commit",
    "a\u2028b/package.json",
    "bare/HEAD",
    ".g\u200cit/config",
    "git~1/config",
    ".git./config",
    "flake.nix",
    "sub/AGENTS.md",
    ".yarn/releases/yarn.cjs",
    ".github/copilot-instructions.md",
  ])("%s, until it is named", (path) => {
    const after = path.endsWith("package.json") ? '{"scripts":{"postinstall":"evil"}}' : "x";
    expect(held(path, [], undefined, after)).toBeDefined();
    expect(held(path, [path], undefined, after)).toBeUndefined();
    expect(held(path, ["src"], undefined, after)).toBeDefined();
  });

  test.each(["src/index.ts", ".gitignore", "docs/.github.md", "environment", "github/README.md", "src/head.ts"])(
    "not %s",
    (path) => {
      expect(held(path)).toBeUndefined();
    },
  );

  test("is a package only when its scripts have changed", () => {
    expect(held("package.json", [], '{"scripts":{"a":"b"}}', '{"scripts":{"a":"b"},"version":"2"}')).toBeUndefined();
    expect(held("package.json", [], '{"scripts":{"a":"b"}}', '{"scripts":{"a":"c"}}')).toBeDefined();
    expect(held("package.json", [], "{}", "not JSON")).toBeDefined();
    expect(held("package.json", [], "{}", '{"packageManager":"pnpm@https://evil"}')).toBeDefined();
    expect(held("package.json", [], "{}", '{"dependencies":{"a":"1"}}')).toBeUndefined();
  });

  test("is not let go by naming a directory around it that people name for other reasons", () => {
    expect(held(".git/hooks/pre-commit", [".git"])).toBeDefined();
    expect(held(".git/hooks/pre-commit", [".git/hooks"])).toBeUndefined();
    expect(held(".git/objects/ab", [".git"])).toBeUndefined();
    expect(held(".github/workflows/ci.yml", [".github"])).toBeUndefined();
    expect(held("sub/.git/config", ["sub"])).toBeDefined();
  });
});

describe("a link", () => {
  test.each([
    ["/etc/passwd", true],
    ["../../x", true],
    ["../x", false],
    ["x/../../../y", true],
    ["x/../y", true],
    ["x", false],
  ])("to %s is held back: %s", (target, isHeld) => {
    const after = versionOf("120000", target);
    expect(heldBack({ path: "dir/link", after }, []) !== undefined).toBe(isHeld);
  });
});

describe("a patch", () => {
  test("of megabytes, and of hundreds of thousands of lines, is written", async () => {
    const bytes = Uint8Array.from({ length: 9_000_000 }, (_, index) => (index * 2_654_435_761) >>> 13);
    const lines = Array.from({ length: 300_000 }, (_, index) => `${index}`).join("\n");
    await applied({ gone: bytes }, layer({ gone: REMOVED, lines }));
  });
});

describe("an archive of changes", () => {
  async function* archive(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  const tar = async (directory: string, ...names: string[]): Promise<Buffer> => {
    const options = { encoding: "buffer", cwd: directory } as const;
    return (await run("tar", ["--create", "--format=pax", "-P", ...names], options)).stdout;
  };

  test("has files, links, names with several directories, and two names of one file", async () => {
    const directory = await project({ "a/b/c": "!run", link: "->a", one: "1" });
    await run("ln", ["one", "two"], { cwd: directory });
    const root = await readChanges(archive(await tar(directory, ".")));
    const a = root.entries.get("a") as ChangedDirectory;
    const b = a.entries.get("b") as ChangedDirectory;
    expect(b.entries.get("c")).toEqual({
      kind: "file",
      executable: true,
      content: Uint8Array.from(Buffer.from("run")),
    });
    expect(root.entries.get("link")).toEqual({ kind: "symlink", target: "a" });
    expect(root.entries.get("two")).toEqual(root.entries.get("one"));
  });

  test("that leads elsewhere, is cut, or is none, is refused", async () => {
    const directory = await project({ "in/file": "1" });
    const good = await tar(directory, "in/file");
    for (const bytes of [
      await tar(join(directory, "in"), "../in/file"),
      good.subarray(0, 600),
      Buffer.from("garbage"),
      Buffer.alloc(0),
    ]) {
      await expect(readChanges(archive(bytes))).rejects.toMatchObject({ code: "SANDBOX_CHANGES_INVALID" });
    }
    for (let at = 0; at < 512; at += 1) {
      const damaged = Uint8Array.from(good);
      damaged[at] = (damaged[at] ?? 0) ^ 0x40;
      await readChanges(archive(damaged)).catch((error) =>
        expect(error).toMatchObject({ code: "SANDBOX_CHANGES_INVALID" }),
      );
    }
  });
});
