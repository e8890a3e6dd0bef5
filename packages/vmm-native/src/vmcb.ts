import { callNative } from "./internal/binding.ts";

/** Size of a control block in `bytes`. */
export const VMCB_SIZE = 4096;

/** A segment register or descriptor table, with what the processor remembers of its descriptor. */
export interface VmcbSegment {
  /** what the register itself holds */
  readonly selector: number;
  /** bits 55:52 and 47:40 of the descriptor, put together */
  readonly attributes: number;
  /** last byte, in `bytes` */
  readonly limit: number;
  /** linear address of the first byte */
  readonly base: bigint;
}

/** Fields of a control block by their names in the manual; 64 bits are a bigint, fewer a number. */
export interface VmcbFields {
  readonly iopmBase: bigint;
  readonly msrpmBase: bigint;
  readonly tscOffset: bigint;
  readonly guestAsid: number;
  readonly tlbControl: number;
  readonly virtualInterrupt: bigint;
  readonly interruptShadow: bigint;
  readonly exitCode: bigint;
  readonly exitInfo1: bigint;
  readonly exitInfo2: bigint;
  readonly exitIntInfo: bigint;
  readonly nestedPaging: bigint;
  readonly eventInjection: bigint;
  readonly nestedCr3: bigint;
  readonly cleanBits: number;
  readonly nextRip: bigint;
  readonly cpl: number;
  readonly efer: bigint;
  readonly cr4: bigint;
  readonly cr3: bigint;
  readonly cr0: bigint;
  readonly dr7: bigint;
  readonly dr6: bigint;
  readonly rflags: bigint;
  readonly rip: bigint;
  readonly rsp: bigint;
  readonly sCet: bigint;
  readonly rax: bigint;
  readonly cr2: bigint;
  readonly guestPat: bigint;
}

/** Names of the segments of a control block. */
export type VmcbSegmentName = "es" | "cs" | "ss" | "ds" | "fs" | "gs" | "gdtr" | "ldtr" | "idtr" | "tr";

/** A virtual machine control block, decoded. */
export interface Vmcb {
  readonly fields: VmcbFields;
  readonly segments: Readonly<Record<VmcbSegmentName, VmcbSegment>>;
  /** six words of 32 bits that say what is intercepted, from byte 0 of the block on */
  readonly intercepts: readonly number[];
}

/**
 * Decodes a virtual machine control block.
 *
 * @param block - The 4096 bytes; not retained, not modified.
 * @returns Its fields; bytes that are no field of {@link Vmcb} are not in it.
 * @throws {VmmError} `VMM_TRUNCATED` when there are not 4096 bytes, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, appendix B
 * @example
 * const { fields } = decodeVmcb(await readFile("vmcb.bin"));
 * console.log(fields.rip.toString(16));
 */
export function decodeVmcb(block: Uint8Array): Vmcb {
  return callNative("decodeVmcb", block) as Vmcb;
}

/**
 * Encodes a virtual machine control block.
 *
 * @param vmcb - All of its fields.
 * @returns 4096 bytes; those that are no field are zero.
 * @throws {VmmError} `VMM_BAD_ARGUMENT` when a field is missing or does not fit, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, appendix B
 * @example
 * const vmcb = decodeVmcb(block);
 * const changed = encodeVmcb({ ...vmcb, fields: { ...vmcb.fields, rip: 0x100000n } });
 */
export function encodeVmcb(vmcb: Vmcb): Uint8Array {
  return callNative("encodeVmcb", vmcb) as Uint8Array;
}

/** What the rules of VMRUN depend on beside the block. */
export interface ProcessorCapabilities {
  /** bits of physical addresses, 32 to 52 */
  readonly physicalAddressBits: number;
  /** whether there is long mode */
  readonly longMode: boolean;
  /** bits of CR4 that may be set */
  readonly cr4: bigint;
  /** bits of EFER that may be set */
  readonly efer: bigint;
  /** whether there are shadow stacks */
  readonly shadowStacks: boolean;
  /** whether non-maskable interrupts can be virtual */
  readonly virtualNmi: boolean;
  /** whether the host has paging on */
  readonly hostPaging: boolean;
}

/** A processor of AMD's family 19h, as far as VMRUN cares: 48 bits of addresses, shadow stacks, UMIP, SMEP, SMAP, PKE. */
export const FAMILY_19H: ProcessorCapabilities = {
  physicalAddressBits: 48,
  longMode: true,
  cr4: 0xf7_0fffn,
  efer: 0x36_dd01n,
  shadowStacks: true,
  virtualNmi: false,
  hostPaging: true,
};

/** A rule that a control block breaks. */
export interface RuleViolation {
  /** name of the rule, such as `asid-zero` */
  readonly rule: string;
  /** section of the manual's volume 2 */
  readonly section: string;
  /** what the rule wants */
  readonly expected: string;
}

/**
 * Says which rules make VMRUN refuse a control block.
 *
 * @param block - The 4096 bytes.
 * @param processor - What the processor can do; {@link FAMILY_19H} when it is left out.
 * @returns The rules that the block breaks; none when VMRUN takes it.
 * @throws {VmmError} `VMM_TRUNCATED`, `VMM_BAD_ARGUMENT`, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, 15.5.1, 15.20, 15.21.10, 15.25.4
 * @example
 * for (const { section, expected } of checkVmcb(block)) console.log(`${section}: expected that ${expected}`);
 */
export function checkVmcb(block: Uint8Array, processor: ProcessorCapabilities = FAMILY_19H): RuleViolation[] {
  return callNative("checkVmcb", block, processor) as RuleViolation[];
}

/** Why a guest stopped. */
export interface VmcbExit {
  /** the manual's name without `VMEXIT_` */
  readonly reason: string;
  /** the name with its particulars, for people */
  readonly text: string;
}

/**
 * Says why the guest of a control block stopped.
 *
 * @param block - The 4096 bytes, as an exit has left them.
 * @returns The reason.
 * @throws {VmmError} `VMM_TRUNCATED`, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, appendix C
 * @example
 * decodeExit(block).text; // IOIO (OUT of 1 bytes at port 0x3f8)
 */
export function decodeExit(block: Uint8Array): VmcbExit {
  return callNative("decodeExit", block) as VmcbExit;
}

/**
 * Counts why guests stopped.
 *
 * @param blocks - Control blocks as exits have left them.
 * @returns How often, by reason, the most frequent first.
 * @throws {VmmError} `VMM_TRUNCATED`, `VMM_NO_BINDING`.
 * @example
 * countExits(blocks); // { IOIO: 3091, CPUID: 730 }
 */
export function countExits(blocks: Iterable<Uint8Array>): Record<string, number> {
  const counts = new Map<string, number>();
  for (const block of blocks) {
    const { reason } = decodeExit(block);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return Object.fromEntries([...counts].sort(([, one], [, other]) => other - one));
}
