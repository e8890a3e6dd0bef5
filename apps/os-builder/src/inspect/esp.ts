import { type DiskImage, type FatVolume, openFat } from "@leveret/disk-image";

/** The programs on an EFI system partition that a machine starts. */
export interface BootPrograms {
  /** what firmware starts when nothing tells it otherwise */
  readonly loader: string | undefined;
  /** the unified kernel image that the boot loader starts: of several, the newest */
  readonly kernel: string | undefined;
}

/** An EFI system partition and what was found on it. */
export interface EspContent {
  readonly volume: FatVolume;
  /** how many files it has */
  readonly fileCount: number;
  readonly programs: BootPrograms;
}

/** Looks into EFI system partitions, given by number, each only once however often it is asked about. */
export type EspReader = (partition: number) => Promise<EspContent>;

/** Makes a reader of the EFI system partitions of `disk`; an abort throws the signal's reason. */
export function espReader(disk: DiskImage, signal: AbortSignal | undefined): EspReader {
  const found = new Map<number, Promise<EspContent>>();
  return (partition) => {
    const content = found.get(partition) ?? readEsp(disk, partition, signal);
    found.set(partition, content);
    return content;
  };
}

// Only counts and the programs are kept: an attacker's file system may have a million names.
async function readEsp(disk: DiskImage, partition: number, signal: AbortSignal | undefined): Promise<EspContent> {
  const volume = await openFat(disk.open(partition));
  const byVersion = new Intl.Collator("en", { numeric: true });
  let fileCount = 0;
  let loader: string | undefined;
  let kernel: string | undefined;
  for await (const { path, entry } of volume.walk({ signal })) {
    if (entry.isDirectory) continue;
    fileCount += 1;
    if (path.toLowerCase() === "efi/boot/bootx64.efi") loader ??= path;
    else if (/^efi\/linux\/[^/]+\.efi$/i.test(path)) {
      if (kernel === undefined || byVersion.compare(path, kernel) >= 0) kernel = path;
    }
  }
  return { volume, fileCount, programs: { loader, kernel } };
}
