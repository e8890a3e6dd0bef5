import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { scratch } from "./support/io.ts";
import { copyKeys, KEYS_TIMEOUT_MS, makeKeys, type TestKeys } from "./support/keys.ts";
import { needs, run } from "./support/oracles.ts";

const SCRIPT = fileURLToPath(new URL("support/fill-disk.ts", import.meta.url));

let keys: TestKeys;
beforeAll(async () => {
  keys = await makeKeys("tiny");
}, KEYS_TIMEOUT_MS);

describe.each([
  ["image", "images", "128k", "DISK_FULL"],
  ["image", "state", "4k", "EROFS_DISK_FULL"],
  ["replace", "full", "64k", "OS_DISK_FULL"],
  ["create", "full", "64k", "OS_DISK_FULL"],
])("%s", (what, name, size, code) => {
  test(`says that there is no room in ${name}, and leaves nothing there`, async (context) => {
    needs(context, "unshare");
    const directory = await scratch();
    await copyKeys(keys, join(directory, "keys"));
    for (const each of ["images", "state", "full"]) await mkdir(join(directory, each));
    const full = join(directory, name);
    const mounted = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"';
    const program = [process.execPath, "--import", import.meta.resolve("jiti/register"), SCRIPT, what, directory, full];
    const argv = ["--user", "--map-root-user", "--mount", "--", "sh", "-c", mounted, "sh", size, full, ...program];
    expect(JSON.parse(run("unshare", argv))).toEqual({ outcome: code, left: [] });
  });
});
