import { readFileSync } from "node:fs";
import type { AcceleratorKind } from "./accelerator.ts";
import { VIRTUAL_TSC_KHZ } from "./clock.ts";
import type { ResolvedMachine } from "./description.ts";

/** What most hosts are near to; used when this one does not say. */
const USUAL_TSC_KHZ = 2_000_000;
const BASE_FREQUENCY = "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency";

/** Work at boot that no test needs: self-tests of ciphers, guards against what is no secret here, messages. */
const FAST = [
  "quiet",
  "cryptomgr.notests",
  "mitigations=off",
  "nokaslr",
  "init_on_alloc=0",
  "audit=0",
  "random.trust_cpu=on",
];

/**
 * What a Linux guest has to be told, in front of its command line.
 *
 * @param tscKhz - Frequency of the host's time stamp counter in `kHz`, which is that of an emulated one too.
 * @see Linux v6.12 `Documentation/admin-guide/kernel-parameters.txt`
 */
export function linuxParameters(
  { machine, boot, clock }: Pick<ResolvedMachine, "machine" | "boot" | "clock">,
  accelerator: AcceleratorKind,
  tscKhz = clock.type === "virtual" ? VIRTUAL_TSC_KHZ : hostTscKhz(),
): readonly string[] {
  if (boot.type !== "linux") return [];
  const fast = boot.fast ? FAST : [];
  if (accelerator === "kvm") return fast;
  return [
    // An emulated timer ticks late on a busy host: Linux would find that it does not tick, and panic.
    "no_timer_check",
    // For the same reason it would measure a wrong frequency, or on a microvm none, and hang.
    `tsc_early_khz=${tscKhz}`,
    // A microvm has no better clock to hold the counter against, and the one it has loses ticks.
    ...(machine === "microvm" ? ["tsc=reliable"] : []),
    ...fast,
  ];
}

/** Frequency of this host's time stamp counter in `kHz`, as near as Linux tells it to everybody. */
function hostTscKhz(): number {
  // In a virtual machine the frequency that is shown is the counter's; on real hardware it changes, and the base is.
  const cpu = read("/proc/cpuinfo");
  const isVirtual = /^flags\s*:.*\bhypervisor\b/m.test(cpu);
  const shown = Number(/^cpu MHz\s*:\s*([\d.]+)/m.exec(cpu)?.[1]) * 1000;
  const base = Number(read(BASE_FREQUENCY).trim() || Number.NaN);
  const found = [isVirtual ? shown : base, shown].find((khz) => Number.isFinite(khz) && khz > 0);
  return Math.round(found ?? USUAL_TSC_KHZ);
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
