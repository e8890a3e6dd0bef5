import { readFile, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { deterministicUuid } from "@leveret/disk-image";
import { buildVerityTree, fileSource } from "@leveret/erofs-meta";
import type { Progress } from "@leveret/nix-gen";
import type { OsConfig } from "../config/schema.ts";
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

/**
 * Builds the hash tree over a /usr file system, or returns the one that was built before: a store path never changes.
 *
 * @param usr - The file system in the Nix store.
 * @param directory - Where the tree is kept.
 */
export async function buildUsrVerity(
  config: OsConfig,
  usr: string,
  directory: string,
  options: { readonly signal?: AbortSignal | undefined; readonly onProgress?: Progress | undefined },
): Promise<UsrVerity> {
  const salt = seededBytes(imageSeed(config), "usr-verity-salt", 32);
  const uuid = deterministicUuid(imageSeed(config), "usr-verity");
  const path = join(directory, `${basename(dirname(usr))}-${uuid.slice(0, 8)}.verity`);
  const known = await readFile(`${path}.json`, "utf8").catch(() => undefined);
  if (known !== undefined) {
    const verity = JSON.parse(known) as UsrVerity;
    const found = await stat(path).catch(() => undefined);
    if (found?.size === verity.treeSizeBytes) return { ...verity, path };
  }
  await using source = await fileSource(usr);
  const tree = await buildVerityTree(source, {
    output: path,
    salt,
    uuid,
    signal: options.signal,
    onProgress: ({ doneBytes, totalBytes }) =>
      options.onProgress?.({ step: "hashing /usr", doneBytes: Number(doneBytes), totalBytes: Number(totalBytes) }),
  });
  const { dataSizeBytes, treeSizeBytes } = tree;
  const rootHash = Buffer.from(tree.rootHash).toString("hex");
  const verity = { path, rootHash, dataSizeBytes, treeSizeBytes };
  await writeFile(`${path}.json`, `${JSON.stringify({ rootHash, dataSizeBytes, treeSizeBytes })}\n`);
  return verity;
}
