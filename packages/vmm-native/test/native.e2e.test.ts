import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { missingRust, NATIVE, titled } from "./support.ts";

const missing = missingRust();

describe.skipIf(missing !== "")(titled("the hypervisor's core", missing), () => {
  test("passes its own tests on the host", () => {
    const args = ["test", "--quiet", "--locked", "-p", "vmm-core"];
    const { status, stdout, stderr } = spawnSync("cargo", args, { cwd: NATIVE, encoding: "utf8" });
    expect(status, stdout + stderr).toBe(0);
    // Unit tests, the hostile guest, and the hostile driver.
    expect(stdout.match(/^test result: ok\. [1-9]\d* passed; 0 failed; 0 ignored/gm)).toHaveLength(3);
  });
});
