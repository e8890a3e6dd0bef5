import * as uki from "../format/uki.ts";

/**
 * The release that an x86 bzImage names, as `uname -r` prints it.
 *
 * @param kernel - The kernel's file; not modified.
 * @returns `6.12.41+deb13-cloud-amd64`, or `undefined` for a file that is no bzImage or does not say.
 * @see Linux v6.12 `Documentation/arch/x86/boot.rst`, field `kernel_version`
 */
export function readKernelRelease(kernel: Uint8Array): string | undefined {
  if (kernel.length < uki.BZIMAGE_KERNEL_VERSION + 2) return undefined;
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  if (view.getUint32(uki.BZIMAGE_MAGIC_OFFSET, true) !== uki.BZIMAGE_MAGIC) return undefined;
  const pointer = view.getUint16(uki.BZIMAGE_KERNEL_VERSION, true);
  if (pointer === 0) return undefined;
  const start = pointer + uki.BZIMAGE_KERNEL_VERSION_BASE;
  const text = String.fromCharCode(...kernel.subarray(start, start + uki.BZIMAGE_MAX_VERSION_SIZE));
  // The text goes on with the builder and the date.
  return /^[\x21-\x7e]+(?=[ \0])/.exec(text)?.[0];
}
