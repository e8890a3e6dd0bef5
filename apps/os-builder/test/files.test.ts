import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createFile, replaceFile, writing } from "../src/internal/files.ts";
import { scratch } from "./support/io.ts";

describe("replaceFile", () => {
  test("replaces what was there", async () => {
    const path = join(await scratch(), "file");
    await replaceFile(path, "one");
    await replaceFile(path, new TextEncoder().encode("two"));
    expect(await readFile(path, "utf8")).toBe("two");
  });

  test("leaves nothing when it fails", async () => {
    const directory = await scratch();
    await mkdir(join(directory, "taken", "full"), { recursive: true });
    await expect(replaceFile(join(directory, "taken"), "x")).rejects.toMatchObject({ code: "EISDIR" });
    expect(await readdir(directory)).toEqual(["taken"]);
  });

  test("of two at once lets one win", async () => {
    const directory = await scratch();
    const texts = Array.from({ length: 8 }, (_, index) => `${index}`.repeat(1000));
    await Promise.all(texts.map((text) => replaceFile(join(directory, "file"), text)));
    expect(texts).toContain(await readFile(join(directory, "file"), "utf8"));
    expect(await readdir(directory)).toEqual(["file"]);
  });
});

describe("writing", () => {
  test.each([
    ["EACCES", "OS_NOT_WRITABLE"],
    ["EROFS", "OS_NOT_WRITABLE"],
    ["ENOSPC", "OS_DISK_FULL"],
    ["EDQUOT", "OS_DISK_FULL"],
  ])("says for %s %s, also when a library wrapped it", async (code, expected) => {
    const error = Object.assign(new Error("no"), { code });
    for (const thrown of [error, new Error("wrapped", { cause: error })]) {
      const rejected = writing("/here", () => Promise.reject(thrown));
      await expect(rejected).rejects.toMatchObject({ code: expected, path: "/here", hint: expect.any(String) });
    }
  });

  test("lets everything else pass", async () => {
    await expect(writing("/here", () => Promise.reject(new Error("other")))).rejects.toThrow(/^other$/);
  });
});

describe("createFile", () => {
  test("writes a file once", async () => {
    const directory = await scratch();
    expect(await createFile(join(directory, "file"), "one")).toBe(true);
    expect(await createFile(join(directory, "file"), "two")).toBe(false);
    expect(await readFile(join(directory, "file"), "utf8")).toBe("one");
    expect(await readdir(directory)).toEqual(["file"]);
  });

  test("never overwrites, not even an empty file", async () => {
    const path = join(await scratch(), "file");
    await writeFile(path, "");
    expect(await createFile(path, "two")).toBe(false);
    expect(await readFile(path, "utf8")).toBe("");
  });
});
