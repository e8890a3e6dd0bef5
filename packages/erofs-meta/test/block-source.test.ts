import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ErofsError, fileSource } from "../src/index.ts";
import { scratch } from "./support.ts";

test("a FIFO is refused at once instead of waited for", async () => {
  const path = join(await scratch(), "fifo");
  execFileSync("mkfifo", [path]);
  const error = await fileSource(path).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ErofsError);
  expect(error).toMatchObject({ code: "EROFS_WRONG_TYPE", path, message: expect.stringContaining("got a FIFO") });
});

test.each([
  ["a directory", "/"],
  ["a character device", "/dev/null"],
])("%s is refused", async (kind, path) => {
  await expect(fileSource(path)).rejects.toMatchObject({
    code: "EROFS_WRONG_TYPE",
    message: `expected a regular file or a block device at ${path}, got ${kind}`,
  });
});
