import type { FatVolume } from "@leveret/disk-image";

/** The programs on an EFI system partition that a machine starts. */
export interface BootPrograms {
  /** what firmware starts when nothing tells it otherwise */
  readonly loader: string | undefined;
  /** the unified kernel image that the boot loader starts: of several, the newest */
  readonly kernel: string | undefined;
}

/** Paths of all files of a FAT file system. */
export async function listFiles(volume: FatVolume): Promise<string[]> {
  const files: string[] = [];
  for await (const { path, entry } of volume.walk()) if (!entry.isDirectory) files.push(path);
  return files;
}

/** Finds what boots in the files of an EFI system partition. */
export function findBootPrograms(files: readonly string[]): BootPrograms {
  const byVersion = new Intl.Collator("en", { numeric: true });
  return {
    loader: files.find((file) => file.toLowerCase() === "efi/boot/bootx64.efi"),
    kernel: files
      .filter((file) => /^efi\/linux\/[^/]+\.efi$/i.test(file))
      .sort(byVersion.compare)
      .at(-1),
  };
}
