import { readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { deterministicUuid } from "@leveret/disk-image";
import { buildVerityTree, fileSource } from "@leveret/erofs-meta";
import type { Progress } from "@leveret/nix-gen";
import type { OsConfig } from "../config/schema.ts";
import { replaceFile } from "../internal/files.ts";
import { imageSeed, seededBytes } from "../plan.ts";

/** The hash tree over a /usr file system. */
export interface UsrVerity {
  /** file with the tree, superblock included */
  readonly path: string;
  /** lower-case hexadecimal digits */
  readonly rootHash: string;
  readonly dataSizeBytes: number;
  readonly treeSizeBytes: number;
}

/** What is kept beside a tree; `of` says which file system it is over, and with which salt and UUID. */
interface TreeRecord extends Omit<UsrVerity, "path"> {
  readonly of: string;
}

/**
 * Builds the hash tree over a /usr file system, or returns the one that was built last: a store path never changes.
 *
 * @param usr - The file system in the Nix store.
 * @param directory - Where the tree is kept, in place of the one before.
 */
export async function buildUsrVerity(
  config: OsConfig,
  usr: string,
  directory: string,
  options: { readonly signal?: AbortSignal | undefined; readonly onProgress?: Progress | undefined },
): Promise<UsrVerity> {
  const path = join(directory, "usr.verity");
  const of = `${basename(dirname(usr))} ${config.id} ${config.version}`;
  const known = await readTreeRecord(path);
  if (known?.of === of) return { ...known, path };
  // A record never stands beside another tree than its own, not even when this process ends in between.
  await rm(`${path}.json`, { force: true });
  await using source = await fileSource(usr);
  const { rootHash, dataSizeBytes, treeSizeBytes } = await buildVerityTree(source, {
    output: path,
    salt: seededBytes(imageSeed(config), "usr-verity-salt", 32),
    uuid: deterministicUuid(imageSeed(config), "usr-verity"),
    signal: options.signal,
    onProgress: ({ doneBytes, totalBytes }) => options.onProgress?.({ step: "hashing /usr", doneBytes, totalBytes }),
  });
  const verity = { rootHash: Buffer.from(rootHash).toString("hex"), dataSizeBytes, treeSizeBytes };
  await replaceFile(`${path}.json`, `${JSON.stringify({ of, ...verity } satisfies TreeRecord)}\n`);
  return { ...verity, path };
}

/** The record of the tree that is there; undefined when it, or its tree, is missing or was cut short. */
async function readTreeRecord(path: string): Promise<TreeRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(`${path}.json`, "utf8")) as TreeRecord;
    return (await stat(path)).size === record.treeSizeBytes ? record : undefined;
  } catch {
    return undefined;
  }
}
