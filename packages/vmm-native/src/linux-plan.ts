import { callNative } from "./internal/binding.ts";

/** A part of a file, and where in a guest's memory it goes. */
export interface Placement {
  /** where it begins in the file, in `bytes` */
  readonly offset: bigint;
  /** size in `bytes` */
  readonly lengthBytes: bigint;
  /** guest physical address */
  readonly address: bigint;
}

/** How a Linux kernel is loaded. */
export interface LinuxPlan {
  /** the kernel without its real-mode part */
  readonly kernel: Placement;
  /** all of the initrd, if there is one */
  readonly initrd: Placement | undefined;
  /** where the kernel is entered, in 64-bit mode with RSI = `bootParams` */
  readonly entry: bigint;
  /** where the boot parameters go */
  readonly bootParams: bigint;
  /** longest command line that the kernel takes, in `bytes` */
  readonly maxCommandLineBytes: number;
}

/** Sizes of what a guest is made of, in `bytes`. */
export interface LinuxSizes {
  readonly kernelBytes: number;
  /** 0 when there is none */
  readonly initrdBytes: number;
  readonly memoryBytes: number;
}

/**
 * Settles where a Linux kernel and its initrd go in a guest's memory.
 *
 * @param header - The first 656 bytes of the bzImage, or more of it.
 * @param sizes - Sizes of files and memory.
 * @returns The plan that the hypervisor would follow.
 * @throws {VmmError} `VMM_TRUNCATED` when there are fewer bytes, `VMM_BAD_KERNEL` when it is no kernel that can be loaded or
 *   does not fit, `VMM_BAD_ARGUMENT`, `VMM_NO_BINDING`.
 * @see Linux, Documentation/arch/x86/boot.rst
 * @example
 * const kernel = await readFile("vmlinuz");
 * planLinux(kernel, { kernelBytes: kernel.length, initrdBytes: 0, memoryBytes: 256 << 20 }).entry;
 */
export function planLinux(header: Uint8Array, sizes: LinuxSizes): LinuxPlan {
  // Native code copies what it gets.
  return callNative("planLinux", header.subarray(0, 4096), sizes) as LinuxPlan;
}
