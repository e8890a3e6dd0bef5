import { stat } from "node:fs/promises";
import { type BlockSource, fileSource, memorySource } from "./block-source.ts";
import { DiskImageError } from "./errors.ts";
import { ioError } from "./internal/files.ts";
import type { Content } from "./options.ts";

/** Finds out how long content is, without reading it. */
export async function contentSize(content: Content): Promise<number> {
  if (content instanceof Uint8Array) return content.byteLength;
  if ("source" in content) return content.source.sizeBytes;
  const found = await stat(content.file).catch((error: unknown) => {
    throw ioError(error, "open", content.file);
  });
  if (!found.isFile()) {
    throw new DiskImageError("DISK_WRONG_TYPE", `expected a regular file at ${content.file}, got something else`, {
      path: content.file,
    });
  }
  return found.size;
}

/** Opens content, and closes what was opened for it whatever `use` does. */
export async function withContent<T>(content: Content, use: (source: BlockSource) => Promise<T>): Promise<T> {
  if (content instanceof Uint8Array) return use(memorySource(content));
  if ("source" in content) return use(content.source);
  await using source = await fileSource(content.file);
  return await use(source);
}
