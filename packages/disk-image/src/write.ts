import { fillPartition } from "./filling.ts";
import { encodeGpt } from "./gpt/table.ts";
import { atomic } from "./internal/files.ts";
import { type Content, type DiskOptions, diskOptions, type PartitionContent, parseOptions } from "./options.ts";
import { type DiskPlan, prepareDisk } from "./plan.ts";
import { writeQcow2File, writeSparseFile } from "./sink.ts";

/**
 * Writes a disk image: partition table, backup, and what fills the partitions. The same options give the same bytes.
 * Zeros become holes, or clusters that qcow2 leaves out. The image is written beside its place and moved there when it is complete and on disk.
 *
 * @param path - Image to write; a file that is there is replaced only on success.
 * @param options - See {@link DiskOptions}.
 * @returns Where everything lies.
 * @throws {DiskImageError} What {@link planDisk} throws, before anything is written; `DISK_BAD_OPTIONS` when the image is
 *   a file that it is made from; `DISK_WRONG_TYPE` for an image that is a device or anything else but a regular file;
 *   `DISK_FULL` and `DISK_IO` from writing, after which nothing is left. An abort throws the signal's reason and leaves nothing.
 * @see UEFI Specification 2.10, section 5; UAPI.2 Discoverable Partitions Specification
 * @example
 * await writeDiskImage("os.raw", {
 *   seed: "particle 1.0",
 *   partitions: [
 *     { label: "esp", type: "esp", sizeBytes: 64 * 1024 * 1024, content: { fat: { volumeId: 1, time, files } } },
 *     { label: "usr", type: "usr-x86-64", attributes: ["read-only"], content: { file: "usr.erofs" } },
 *   ],
 * });
 */
export async function writeDiskImage(path: string, options: DiskOptions): Promise<DiskPlan> {
  const checked = parseOptions(diskOptions, options);
  const { signal, onProgress } = checked;
  signal?.throwIfAborted();
  await atomic.assertNoInput(path, checked.partitions.flatMap(contentFiles));
  const { plan, table, fillings } = await prepareDisk(checked);
  const totalBytes = fillings.reduce((sum, { contentBytes }) => sum + contentBytes, 0);
  let doneBytes = 0;
  const writeFile = checked.format === "qcow2" ? writeQcow2File : writeSparseFile;
  await writeFile(path, plan.sizeBytes, async (sink) => {
    const { primary, backup } = encodeGpt(table);
    await sink.write(0, primary);
    for (const filling of fillings) {
      signal?.throwIfAborted();
      await fillPartition(sink, filling, signal, (count) => {
        doneBytes += count;
        onProgress?.({ partition: filling.partition.label, doneBytes, totalBytes });
      });
    }
    await sink.write(plan.sizeBytes - backup.byteLength, backup);
    signal?.throwIfAborted();
  });
  return plan;
}

/** The files of this machine that fill a partition. */
function contentFiles({ content }: { readonly content?: PartitionContent | undefined }): string[] {
  if (content === undefined || content instanceof Uint8Array || "source" in content || "write" in content) return [];
  const contents: Content[] = "fat" in content ? Object.values(content.fat.files) : [content];
  return contents.flatMap((each) => (each instanceof Uint8Array || "source" in each ? [] : [each.file]));
}
