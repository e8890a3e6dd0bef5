import { describe, expect, test } from "vitest";
import { resolveMachine } from "../src/index.ts";
import { linuxParameters } from "../src/linux.ts";

const linux = resolveMachine({ boot: { type: "linux", kernelPath: "/k" } });
const microvm = resolveMachine({ machine: "microvm", boot: { type: "linux", kernelPath: "/k" } });

describe("what Linux is told", () => {
  test("when it is emulated: a clock it need not measure", () => {
    expect(linuxParameters(linux, "tcg", 2_599_998)).toEqual(["no_timer_check", "tsc_early_khz=2599998"]);
    expect(linuxParameters(microvm, "tcg", 2_000_000)).toContain("tsc=reliable");
  });

  test("of this host, a frequency that a processor can have", () => {
    const [, frequency = ""] = linuxParameters(linux, "tcg");
    const khz = Number(frequency.replace("tsc_early_khz=", ""));
    expect(khz).toBeGreaterThan(500_000);
    expect(khz).toBeLessThan(10_000_000);
  });

  test("is nothing with KVM, and nothing to a kernel that may be another", () => {
    expect(linuxParameters(linux, "kvm")).toEqual([]);
    expect(linuxParameters(resolveMachine({ boot: { type: "kernel", kernelPath: "/k" } }), "tcg")).toEqual([]);
  });

  test("leaves out what takes long, when it is to be fast", () => {
    const fast = resolveMachine({ boot: { type: "linux", kernelPath: "/k", fast: true } });
    expect(linuxParameters(fast, "kvm")).toContain("cryptomgr.notests");
    expect(linuxParameters(fast, "tcg", 1)).toEqual(expect.arrayContaining(["quiet", "tsc_early_khz=1"]));
  });
});
