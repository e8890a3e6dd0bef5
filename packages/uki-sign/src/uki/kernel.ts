import * as zlib from "node:zlib";
import { type Bytes, partOf, readBytes, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import * as uki from "../format/uki.ts";
import { viewOf } from "../internal/bytes.ts";

/** Largest kernel that is unpacked, in bytes. */
export const DEFAULT_MAX_KERNEL_BYTES = 512 * 1024 * 1024;

/** Kinds of compression by their first bytes. */
const COMPRESSIONS = [
  { name: "gzip", magic: [0x1f, 0x8b] },
  { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: "lz4", magic: [0x02, 0x21, 0x4c, 0x18] },
  { name: "lz4", magic: [0x04, 0x22, 0x4d, 0x18] },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a] },
  { name: "lzo", magic: [0x89, 0x4c, 0x5a, 0x4f] },
  { name: "bzip2", magic: [0x42, 0x5a, 0x68] },
  { name: "lzma", magic: [0x5d, 0x00, 0x00] },
] as const;
const MAX_MAGIC_BYTES = 5;

/** How much of a kernel is searched at a time, and how much of it again with what follows, in bytes. */
const SEARCH_BYTES = 1024 * 1024;
const OVERLAP_BYTES = 256;

/**
 * Unpacks a kernel that is compressed as a whole, which firmware could not load; Arm distributions ship such files.
 *
 * @param kernel - The kernel's file; not modified.
 * @returns The kernel: `kernel` itself when it is not compressed.
 * @throws {UkiSignError} `UKI_SIGN_KERNEL_COMPRESSED` when it is compressed with something other than gzip, or zstd on Node
 *   22.15 and newer, or is damaged; `UKI_SIGN_TOO_LARGE` beyond {@link DEFAULT_MAX_KERNEL_BYTES}.
 * @example
 * const linux = unpackKernel(await readFile("vmlinuz"));
 */
export function unpackKernel(kernel: Uint8Array): Uint8Array;
export function unpackKernel(kernel: Bytes): Bytes;
export function unpackKernel(kernel: Bytes): Bytes {
  const start = readBytes(kernel, 0, Math.min(sizeOf(kernel), MAX_MAGIC_BYTES));
  const compression = COMPRESSIONS.find(({ magic }) => magic.every((octet, index) => start[index] === octet));
  if (compression === undefined) return kernel;
  if (sizeOf(kernel) <= DEFAULT_MAX_KERNEL_BYTES) return unpack(compression.name, readBytes(kernel));
  const message = `expected a packed kernel of at most ${DEFAULT_MAX_KERNEL_BYTES} bytes, got ${sizeOf(kernel)}`;
  throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
}

function unpack(name: string, data: Uint8Array): Uint8Array {
  const decompress = name === "gzip" ? zlib.gunzipSync : name === "zstd" ? zstd() : undefined;
  if (decompress === undefined) {
    throw new UkiSignError(
      "UKI_SIGN_KERNEL_COMPRESSED",
      `expected a kernel as it is or packed with gzip, got ${name}`,
      {
        hint: `unpack it first: firmware cannot load it, and ${name} is not known here`,
      },
    );
  }
  try {
    return new Uint8Array(decompress(data, { maxOutputLength: DEFAULT_MAX_KERNEL_BYTES }));
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ERR_BUFFER_TOO_LARGE") {
      const message = `expected a kernel of at most ${DEFAULT_MAX_KERNEL_BYTES} bytes, got more in ${name}`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
    }
    throw new UkiSignError("UKI_SIGN_KERNEL_COMPRESSED", `expected an intact ${name} file, got a damaged one`, {
      cause,
    });
  }
}

/** Node 22.15 and newer have it. */
function zstd(): typeof zlib.gunzipSync | undefined {
  return (zlib as { readonly zstdDecompressSync?: typeof zlib.gunzipSync }).zstdDecompressSync;
}

/**
 * The release that a kernel names, as `uname -r` prints it: from the header of an x86 bzImage, else from the text that
 * every kernel carries, also inside an EFI zboot image.
 *
 * @param kernel - The kernel's file, not compressed as a whole; not modified.
 * @returns `6.12.41+deb13-cloud-amd64`, or `undefined` for a file that does not say.
 * @see Linux v6.12 `Documentation/arch/x86/boot.rst`, field `kernel_version`; `drivers/firmware/efi/libstub/zboot-header.S`
 */
export function readKernelRelease(kernel: Bytes): string | undefined {
  return bzImageRelease(kernel) ?? bannerRelease(zbootPayload(kernel) ?? kernel);
}

function bzImageRelease(kernel: Bytes): string | undefined {
  if (sizeOf(kernel) < uki.BZIMAGE_KERNEL_VERSION + 2) return undefined;
  const view = viewOf(readBytes(kernel, 0, uki.BZIMAGE_KERNEL_VERSION + 2));
  if (view.getUint32(uki.BZIMAGE_MAGIC_OFFSET, true) !== uki.BZIMAGE_MAGIC) return undefined;
  const pointer = view.getUint16(uki.BZIMAGE_KERNEL_VERSION, true);
  if (pointer === 0) return undefined;
  const start = pointer + uki.BZIMAGE_KERNEL_VERSION_BASE;
  if (start >= sizeOf(kernel)) return undefined;
  const size = Math.min(uki.BZIMAGE_MAX_VERSION_SIZE, sizeOf(kernel) - start);
  const text = String.fromCharCode(...readBytes(kernel, start, size));
  // The text goes on with the builder and the date.
  return /^[\x21-\x7e]+(?=[ \0])/.exec(text)?.[0];
}

/** The first `Linux version 6.12… (` of the file. */
function bannerRelease(kernel: Bytes): string | undefined {
  for (let offset = 0; offset < sizeOf(kernel); offset += SEARCH_BYTES) {
    const found = findBanner(
      readBytes(kernel, offset, Math.min(SEARCH_BYTES + OVERLAP_BYTES, sizeOf(kernel) - offset)),
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

function findBanner(bytes: Uint8Array): string | undefined {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = file.indexOf(uki.LINUX_BANNER); at >= 0; at = file.indexOf(uki.LINUX_BANNER, at + 1)) {
    const text = file.toString("latin1", at + uki.LINUX_BANNER.length, at + uki.BZIMAGE_MAX_VERSION_SIZE);
    const [, release] = /^(\d\.[\x21-\x7e]+) \(/.exec(text) ?? [];
    if (release !== undefined) return release;
  }
  return undefined;
}

/** What an EFI zboot image unpacks; undefined when it is none, or in a format that is not known here. */
function zbootPayload(kernel: Bytes): Bytes | undefined {
  if (sizeOf(kernel) < uki.ZBOOT_HEADER_BYTES) return undefined;
  const view = viewOf(readBytes(kernel, 0, uki.ZBOOT_HEADER_BYTES));
  if (view.getUint32(uki.ZBOOT_MAGIC_OFFSET, true) !== uki.ZBOOT_MAGIC) return undefined;
  const start = view.getUint32(uki.ZBOOT_PAYLOAD_OFFSET, true);
  const size = view.getUint32(uki.ZBOOT_PAYLOAD_SIZE, true);
  if (start + size > sizeOf(kernel)) return undefined;
  try {
    return unpackKernel(partOf(kernel, start, size));
  } catch (error) {
    // The release is a convenience: an image that boots is not refused for want of it.
    if (error instanceof UkiSignError) return undefined;
    throw error;
  }
}
