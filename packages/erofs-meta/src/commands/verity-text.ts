import { escapeName } from "@leveret/command";
import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { openErofs } from "../read/image.ts";
import type { BlockRange } from "../verity/block-ranges.ts";
import { locateDamage } from "../verity/locate.ts";
import type { VerityReport } from "../verity/verify.ts";

/** Files that are named at most. */
const MAX_FILES = 20;

/** The error that says what is damaged, and which files that are, where the data is an image. */
export async function damaged(report: VerityReport, path: string, data: BlockSource): Promise<ErofsError> {
  const hint = [damageText(report), ...(await damagedFiles(report, data))].join("\n");
  const message = `expected data that matches its root hash, got damage in ${path}`;
  return new ErofsError("EROFS_VERITY_DAMAGED", message, { path, hint, report });
}

async function damagedFiles({ damagedDataBlocks, superblock }: VerityReport, data: BlockSource): Promise<string[]> {
  const size = superblock.dataBlockSize;
  const ranges = damagedDataBlocks.map(({ first, count }) => ({ offset: first * size, length: count * size }));
  try {
    const { files, unreadable } = await locateDamage(await openErofs(data), ranges);
    const lines = files.slice(0, MAX_FILES).map(({ path, isMetadata, content }) => {
      const parts = content.map(({ offset, length }) => `content from byte ${offset} to ${offset + length}`);
      return `in ${escapeName(path)}: ${[...(isMetadata ? ["metadata"] : []), ...parts].join(", ")}`;
    });
    if (files.length > MAX_FILES) lines.push(`and in ${files.length - MAX_FILES} more files`);
    return [...lines, ...unreadable.slice(0, MAX_FILES).map((path) => `nothing can be told of ${escapeName(path)}`)];
  } catch (error) {
    // Other data than EROFS can be verified as well, and an image may be too damaged to be opened.
    if (error instanceof ErofsError) return [];
    throw error;
  }
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

/** What is said when nothing is damaged. */
export function allMatchText({ superblock: { dataBlocks } }: VerityReport): string {
  return `${dataBlocks === 1n ? "the only block matches" : `all ${dataBlocks} blocks match`} the root hash`;
}
