import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findQemu, probeAccelerator } from "../src/index.ts";
import { DEBUG_EXIT_PORT, PROBE_EXIT_CODE, probeRom } from "../src/internal/probe-guest.ts";
import { withUnnamedFile } from "../src/internal/unnamed-file.ts";
import { type LeftoverWatch, watchLeftovers } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";

const missing = missingOracles();

describe.skipIf(missing !== "")(titled("the accelerator probe", missing), () => {
  let watch: LeftoverWatch;
  beforeEach(() => {
    watch = watchLeftovers();
  });
  afterEach(() => watch.close());

  test("has a guest that gets to its end where guests can run", async () => {
    const { path } = await findQemu();
    const device = `isa-debug-exit,iobase=${DEBUG_EXIT_PORT},iosize=4`;
    const argv = [
      "-nodefaults",
      "-display",
      "none",
      "-machine",
      "q35",
      "-accel",
      "tcg",
      "-m",
      "16M",
      "-device",
      device,
    ];
    const { status } = await withUnnamedFile(probeRom(), async (rom) =>
      spawnSync(path, [...argv, "-bios", "/dev/fd/3"], {
        stdio: ["ignore", "ignore", "inherit", rom],
        timeout: 20_000,
      }),
    );
    expect(status).toBe(PROBE_EXIT_CODE);
    expect(await watch.leftovers()).toEqual([]);
  });

  test("answers before its deadline and remembers the answer", async () => {
    const env = { ...process.env, XDG_CACHE_HOME: watch.directory };
    const startedAt = performance.now();
    const first = await probeAccelerator({ env, fresh: true });
    expect(performance.now() - startedAt).toBeLessThan(12_000);
    expect(await probeAccelerator({ env })).toMatchObject({ kind: first.kind, reason: first.reason });
  });
});
