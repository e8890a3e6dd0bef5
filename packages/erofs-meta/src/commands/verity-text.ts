import { ErofsError } from "../errors.ts";
import type { BlockRange, VerityReport } from "../verity/verify.ts";

/** The error that says what is damaged. */
export function damaged(report: VerityReport, path: string): ErofsError {
  return new ErofsError("EROFS_VERITY_DAMAGED", `expected data that matches its root hash, got damage in ${path}`, {
    path,
    hint: damageText(report),
    report,
  });
}

function damageText(report: VerityReport): string {
  const lines: string[] = [];
  if (!report.rootHashMatches) lines.push("the tree does not lead to this root hash");
  for (const { level, index, offset } of report.damagedHashBlocks) {
    lines.push(`damaged hash block ${index} of level ${level}, at byte ${offset} of the tree`);
  }
  const size = report.superblock.dataBlockSize;
  for (const range of report.damagedDataBlocks) lines.push(`damaged ${rangeText(range, size)}`);
  for (const range of report.unverifiableDataBlocks) lines.push(`cannot be verified: ${rangeText(range, size)}`);
  if (report.isIncomplete) lines.push("and more");
  return lines.join("\n");
}

/** A run of blocks for people. */
export function rangeText({ first, count }: BlockRange, size: number): string {
  const blocks = count === 1 ? `data block ${first}` : `data blocks ${first}..${first + count - 1}`;
  return `${blocks}, from byte ${first * size}`;
}
