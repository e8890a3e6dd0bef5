import { bootHypervisor } from "./hypervisor.ts";
import type { HostOptions } from "./options.ts";

const MEMORY_MIB = 32;

/** What a processor does with a control block that breaks one rule. */
export interface RuleCheck {
  /** name of the rule, as in {@link RuleViolation}; `none` for a block that keeps them all */
  readonly rule: string;
  /** whether VMRUN refused the block */
  readonly refused: boolean;
  /** what the guest exited for: `INVALID` when it was refused */
  readonly exit: string;
}

/**
 * Starts QEMU and the hypervisor in it, which gives VMRUN one control block for each rule of the manual, breaking it alone.
 *
 * @param options - QEMU, limit and signal.
 * @returns What the processor did, rule by rule; the first entry is a block that breaks none. Rules about what the processor
 *   does not have are left out.
 * @throws {VmmError} `VMM_NOT_BUILT` in a checkout without Rust, `VMM_START_FAILED` when guests cannot run there.
 * @throws {QemuError} Whatever QEMU itself goes wrong with.
 * @see AMD64 Architecture Programmer's Manual, volume 2, 15.5.1
 * @example
 * const checks = await selfTest();
 * console.log(checks.filter(({ refused }) => !refused).map(({ rule }) => rule));
 */
export async function selfTest(options: HostOptions = {}): Promise<RuleCheck[]> {
  await using hypervisor = await bootHypervisor({ memoryMiB: MEMORY_MIB }, options);
  const checks: RuleCheck[] = [];
  await hypervisor.selfTest((event) => {
    if (event.event !== "checked") throw new Error(`bug: waited for a check, got ${event.event}`);
    const { rule, refused, exit } = event;
    checks.push({ rule, refused, exit });
  });
  return checks;
}
