import { createHash } from "node:crypto";
import { DiskImageError } from "./errors.ts";
import { PARTITION_TYPES } from "./format/partition-types.ts";
import { copyOf, toHex } from "./internal/bytes.ts";

/** Name of a partition type this package knows, such as `esp` or `usr-x86-64-verity`. */
export type PartitionTypeName = keyof typeof PARTITION_TYPES;

const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const NAME_BY_GUID: ReadonlyMap<string, string> = new Map(
  Object.entries(PARTITION_TYPES).map(([name, guid]) => [guid, name]),
);

/** Tells whether `text` is a GUID in the usual form with hyphens. */
export function isGuid(text: string): boolean {
  return GUID.test(text);
}

/**
 * Encodes a GUID as EFI stores it: the first three groups little endian, the others as written.
 *
 * @param text - GUID with hyphens, any case.
 * @returns 16 bytes.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS` when `text` is no GUID.
 * @see UEFI Specification 2.10, appendix A
 * @example
 * encodeGuid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")[0]; // 0x28
 */
export function encodeGuid(text: string): Uint8Array {
  if (!isGuid(text)) throw new DiskImageError("DISK_BAD_OPTIONS", `expected a GUID, got ${JSON.stringify(text)}`);
  return swapGroups(new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex")));
}

/**
 * Decodes a GUID from the form EFI stores.
 *
 * @param bytes - 16 bytes; more are ignored.
 * @returns The GUID in lower case with hyphens.
 * @throws {DiskImageError} `DISK_TRUNCATED` for fewer bytes.
 * @example
 * decodeGuid(entry.subarray(0, 16));
 */
export function decodeGuid(bytes: Uint8Array): string {
  if (bytes.byteLength < 16)
    throw new DiskImageError("DISK_TRUNCATED", `expected 16 bytes of GUID, got ${bytes.byteLength}`);
  return formatUuid(swapGroups(copyOf(bytes.subarray(0, 16))));
}

/**
 * Derives a UUID from a seed, so that the same description always makes the same disk.
 *
 * @param seed - What all UUIDs of one disk have in common.
 * @param name - What this one is for, such as `disk` or `partition 1 esp`.
 * @returns A version 8 UUID: the first bytes of SHA-256 over both, with the version and variant bits set.
 * @see RFC 9562, section 5.8
 * @example
 * deterministicUuid("particle 1.0", "disk");
 */
export function deterministicUuid(seed: string, name: string): string {
  // The length keeps ("ab", "c") and ("a", "bc") apart.
  const digest = createHash("sha256")
    .update(`${Buffer.byteLength(seed)}:${seed}${name}`)
    .digest();
  const bytes = new Uint8Array(digest.subarray(0, 16));
  bytes[6] = 0x80 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  return formatUuid(bytes);
}

/**
 * Gives the UUIDs by which systemd finds the data and verity partitions that belong to a root hash: its first and its
 * last 128 bits.
 *
 * @param rootHash - Root hash of the verity tree, at least 32 bytes.
 * @returns UUIDs for the data and the verity partition.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS` for a shorter hash, whose halves would overlap.
 * @see UAPI.2 Discoverable Partitions Specification, "Verity"
 * @example
 * const { data, verity } = uuidsOfRootHash(rootHash);
 */
export function uuidsOfRootHash(rootHash: Uint8Array): { readonly data: string; readonly verity: string } {
  if (rootHash.byteLength < 32) {
    throw new DiskImageError(
      "DISK_BAD_OPTIONS",
      `expected a root hash of 32 bytes or more, got ${rootHash.byteLength}`,
    );
  }
  return { data: formatUuid(rootHash.subarray(0, 16)), verity: formatUuid(rootHash.subarray(-16)) };
}

/**
 * Gives the GUID of a partition type.
 *
 * @param type - Name, or a GUID of any case.
 * @returns GUID in lower case.
 * @throws {DiskImageError} `DISK_BAD_OPTIONS` for anything else.
 * @example
 * partitionTypeGuid("usr-x86-64");
 */
export function partitionTypeGuid(type: string): string {
  if (isGuid(type)) return type.toLowerCase();
  if (isTypeName(type)) return PARTITION_TYPES[type];
  throw new DiskImageError(
    "DISK_BAD_OPTIONS",
    `expected a GUID or the name of a partition type, got ${JSON.stringify(type)}`,
    {
      hint: `known names: ${Object.keys(PARTITION_TYPES).join(", ")}`,
    },
  );
}

/**
 * Names a partition type.
 *
 * @param guid - GUID of any case.
 * @returns The name, or undefined when this package has none for it.
 * @example
 * partitionTypeName("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"); // "esp"
 */
export function partitionTypeName(guid: string): string | undefined {
  return NAME_BY_GUID.get(guid.toLowerCase());
}

function isTypeName(type: string): type is PartitionTypeName {
  return Object.hasOwn(PARTITION_TYPES, type);
}

function formatUuid(bytes: Uint8Array): string {
  const hex = toHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The two forms are each other's mirror in the first three groups. */
function swapGroups(bytes: Uint8Array): Uint8Array {
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}
