import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { exclusively } from "../src/exclusive.ts";
import { rejectionOf, scratch } from "./support/io.ts";

describe("exclusively", () => {
  test("refuses a second at the same time and says so at once", async () => {
    const directory = join(await scratch(), "state");
    const result = await exclusively(directory, async () => {
      expect(await rejectionOf(exclusively(directory, async () => 2))).toMatchObject({
        code: "OS_BUSY",
        path: join(directory, "lock"),
      });
      return 1;
    });
    expect(result).toBe(1);
  });

  test("lets the next one in afterwards, also after a failure", async () => {
    const directory = await scratch();
    await expect(exclusively(directory, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(await exclusively(directory, async () => 2)).toBe(2);
  });

  test("keeps projects apart", async () => {
    const [one, two] = [await scratch(), await scratch()];
    expect(await exclusively(one, () => exclusively(two, async () => 3))).toBe(3);
  });

  test("holds nothing when flock was ended by a signal", async () => {
    const directory = await scratch();
    const programs = await scratch();
    await writeFile(join(programs, "flock"), "#!/bin/sh\nkill -INT $$\n", { mode: 0o755 });
    vi.stubEnv("PATH", `${programs}:${process.env.PATH}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(await rejectionOf(exclusively(directory, async () => 1))).toMatchObject({ code: "OS_BUSY" });
    const aborted = exclusively(directory, async () => 1, AbortSignal.abort(new Error("Ctrl-C")));
    await expect(aborted).rejects.toThrow("Ctrl-C");
  });

  test("does not outlive a process that was killed", async () => {
    const directory = await scratch();
    const script = "echo held; read -r _";
    const holder = spawn("flock", ["--no-fork", join(directory, "lock"), "sh", "-c", script], { stdio: "pipe" });
    await once(holder.stdout, "data");
    expect((await rejectionOf(exclusively(directory, async () => 1))).code).toBe("OS_BUSY");
    holder.kill("SIGKILL");
    await once(holder, "close");
    expect(await exclusively(directory, async () => 2)).toBe(2);
  });
});
