import { callNative } from "./internal/binding.ts";

/** What a guest may do with its memory: everything; read and fetch; read and write. */
export type NestedAccess = "full" | "read-only" | "no-execute";

/** Guest physical addresses that lead to host physical ones. */
export interface NestedRange {
  /** first guest physical address, a multiple of 4096 */
  readonly guest: bigint;
  /** host physical address that it leads to, a multiple of 4096 */
  readonly host: bigint;
  /** size in `bytes`, a multiple of 4096 */
  readonly sizeBytes: bigint;
  /** what the guest may do there */
  readonly access: NestedAccess;
}

/** What nested page tables are made of. */
export interface NestedTablesDescription {
  /** host physical address of the first table, a multiple of 4096 */
  readonly base: bigint;
  /** most tables that are made, 1 to 65536 */
  readonly maxTables: number;
  /** what is mapped, with the largest pages that fit */
  readonly ranges: readonly NestedRange[];
}

/** Nested page tables. */
export interface NestedTables {
  /** what goes into nCR3 */
  readonly root: bigint;
  /** the tables, 4096 bytes each, from the base on */
  readonly bytes: Uint8Array;
}

/** Where a guest physical address leads to. */
export interface NestedTranslation {
  /** host physical address */
  readonly host: bigint;
  /** size of the page in `bytes` */
  readonly pageSizeBytes: number;
  /** what the guest may do there */
  readonly access: NestedAccess;
  /** whether the guest has touched the page */
  readonly accessed: boolean;
  /** whether the guest has written to the page */
  readonly dirty: boolean;
}

/**
 * Builds nested page tables.
 *
 * @param description - What is mapped, and where the tables will be.
 * @returns The tables that were needed.
 * @throws {VmmError} `VMM_BAD_MAPPING` when ranges overlap, are not aligned, end behind 2^48 or need more tables,
 *   `VMM_BAD_ARGUMENT`, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, 15.25
 * @example
 * const { root, bytes } = buildNestedTables({
 *   base: 0x100000n,
 *   maxTables: 16,
 *   ranges: [{ guest: 0n, host: 0x40000000n, sizeBytes: 64n << 20n, access: "full" }],
 * });
 */
export function buildNestedTables(description: NestedTablesDescription): NestedTables {
  return callNative("buildNestedTables", description) as NestedTables;
}

/**
 * Walks nested page tables, whoever has made them.
 *
 * @param bytes - Host memory that the tables are in.
 * @param base - Host physical address of its first byte.
 * @param root - nCR3.
 * @param guest - Guest physical address.
 * @returns Where it leads to; undefined where nothing is mapped.
 * @throws {VmmError} `VMM_BAD_TABLES` when an entry is not in `bytes`, `VMM_BAD_ARGUMENT`, `VMM_NO_BINDING`.
 * @see AMD64 Architecture Programmer's Manual, volume 2, 15.25.5
 * @example
 * walkNestedTables(bytes, 0x100000n, root, 0x1234n)?.host; // 0x40001234n
 */
export function walkNestedTables(
  bytes: Uint8Array,
  base: bigint,
  root: bigint,
  guest: bigint,
): NestedTranslation | undefined {
  return callNative("walkNestedTables", bytes, base, root, guest) as NestedTranslation | undefined;
}
