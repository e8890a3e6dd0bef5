import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startMachine } from "../src/index.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles() || missingReader();
const graphical = { boot: { type: "uefi" }, graphics: { width: 800, height: 600 }, memoryMiB: 256 } as const;

function missingReader(): string {
  if (spawnSync("tesseract", ["--version"]).status === 0) return "";
  if (process.env.REQUIRE_ORACLES === "1") throw new Error("not installed: tesseract");
  return "not installed: tesseract";
}

describe.skipIf(missing !== "")(titled("a screen", missing), () => {
  test("is read, typed at and photographed", async () => {
    await using machine = await startMachine(graphical, { accelerator: "tcg" });
    const { screen, serial } = machine;
    await screen.waitForText(/UEFI Interactive Shell/, { timeoutMs: 120_000 });
    await screen.press("esc");
    await serial.waitFor("Shell> ");
    await screen.type('echo "Typed on a US keyboard: ~!@$*_+{}[]:;,./`-=()"\n');
    await serial.waitFor("\nTyped on a US keyboard: ~!@$*_+{}[]:;,./`-=()\n", { timeoutMs: 60_000 });
    expect(await screen.waitForText(/^Typed on a US keyboard/m)).toContain("UEFI Interactive Shell");
    const png = Buffer.from(await screen.screenshot());
    expect(png.subarray(1, 4).toString("latin1")).toBe("PNG");
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([800, 600]);
  });

  test("has a limit to waiting, and tells what it shows instead", async () => {
    await using machine = await startMachine(graphical, { accelerator: "tcg" });
    await machine.screen.waitForText(/Interactive Shell/, { timeoutMs: 120_000 });
    await expect(machine.screen.waitForText("Windows 95", { timeoutMs: 10_000 })).rejects.toMatchObject({
      code: "QEMU_SCREEN_TIMEOUT",
      message: expect.stringContaining("Interactive Shell"),
    });
    const abort = new AbortController();
    const waiting = machine.screen.waitForText("never", { signal: abort.signal });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "QEMU_ABORTED" });
    await expect(machine.screen.click(800, 0)).rejects.toMatchObject({ code: "QEMU_BAD_OPTIONS" });
    await machine.screen.click(799, 599);
  });

  test("says so when there is no reader, or no screen", async () => {
    const boot = { type: "bios" } as const;
    const programs = mkdtempSync(join(tmpdir(), "qemu-harness-no-reader-"));
    for (const name of ["qemu-system-x86_64", "setpriv", "mkfifo"]) symlinkSync(which(name), join(programs, name));
    const options = { accelerator: "tcg", env: { ...process.env, PATH: programs } } as const;
    await using machine = await startMachine({ boot, graphics: {}, memoryMiB: 64 }, options);
    await expect(machine.screen.text()).rejects.toMatchObject({ code: "QEMU_TOOL_NOT_FOUND" });
    rmSync(programs, { recursive: true });
    await using blind = await startMachine({ boot, memoryMiB: 64 }, { accelerator: "tcg" });
    expect(() => blind.screen).toThrow(TypeError);
  });
});

function which(program: string): string {
  return spawnSync("which", [program], { encoding: "utf8" }).stdout.trim();
}
