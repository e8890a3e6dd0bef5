import { escapeName, formatBytes, table } from "@leveret/command";
import { attributeNames } from "../gpt/table.ts";
import { partitionTypeName } from "../guid.ts";
import type { PlannedPartition } from "../plan.ts";

/** Partitions for people, a line each. */
export function partitionTable(partitions: readonly PlannedPartition[]): string {
  const rows = partitions.map(({ number, offsetBytes, sizeBytes, type, label, uuid, attributes }) => [
    `${number}`,
    formatBytes(offsetBytes),
    formatBytes(sizeBytes),
    partitionTypeName(type) ?? type,
    escapeName(label),
    uuid,
    attributeNames(attributes).join(","),
  ]);
  return table([["#", "start", "size", "type", "label", "uuid", "attributes"], ...rows]);
}

/** How a person names a partition: digits alone are its number. */
export function parsePartition(which: string): number | string {
  return /^\d+$/.test(which) ? Number(which) : which;
}
