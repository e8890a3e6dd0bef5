import { describe, expect, test } from "vitest";
import { parseDuration } from "../src/clock.ts";
import { type MachineDescription, planMachine, QemuError, resolveMachine } from "../src/index.ts";
import { failure } from "./failure.ts";

const machine: MachineDescription = {
  boot: { type: "linux", kernelPath: "/k" },
  clock: { type: "virtual", seed: 1 },
};

describe("a virtual clock", () => {
  test("begins in 2030 unless it is told otherwise, and needs a seed", () => {
    expect(resolveMachine(machine).clock).toEqual({
      type: "virtual",
      seed: 1,
      instructionNs: 16,
      base: "2030-01-01T00:00:00Z",
    });
    for (const clock of [{ type: "virtual" }, { type: "virtual", seed: -1 }, { type: "virtual", seed: 1, base: "x" }]) {
      expect(() => resolveMachine({ ...machine, clock } as MachineDescription)).toThrow(QemuError);
    }
  });

  test.for<[string, Partial<MachineDescription>]>([
    ["cpus", { cpus: 2 }],
    ["disks", { disks: [{ path: "/d" }] }],
    ["cds", { cds: [{ path: "/d" }] }],
    ["networks", { networks: [{ type: "user" }] }],
    ["tpm", { tpm: {} }],
    ["forkable", { forkable: true }],
  ])("is refused together with %s", async ([path, changes]) => {
    const error = await failure((async () => resolveMachine({ ...machine, ...changes }))());
    expect(error.issues).toEqual([{ path, message: expect.stringMatching(/^expected .* with a virtual clock/) }]);
  });

  test("is refused with KVM, which counts no instructions", async () => {
    const qemu = { path: "/qemu", version: { major: 10, minor: 0, micro: 0 }, versionText: "" };
    expect(await failure(planMachine(machine, { qemu, accelerator: "kvm" }))).toMatchObject({
      code: "QEMU_BAD_OPTIONS",
      issues: [{ path: "accelerator" }],
    });
    const { accelerator, argv } = await planMachine(machine, { qemu });
    expect(accelerator.kind).toBe("tcg");
    expect(argv.join(" ")).toContain("no_timer_check tsc_early_khz=1000000");
  });
});

describe("a duration", () => {
  test.for([
    ["90s", 90],
    ["15m", 900],
    ["24h", 86_400],
    ["366d", 31_622_400],
  ] as const)("of %s is %i seconds", ([text, seconds]) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  test.for(["", "0s", "1", "-1s", "1.5h", "1h ", "367d", "1w"])("is not %j", (text) => {
    expect(() => parseDuration(text)).toThrow(QemuError);
  });
});
