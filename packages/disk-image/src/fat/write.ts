import type { ByteSink } from "../block-source.ts";
import { withContent } from "../content.ts";
import { DiskImageError } from "../errors.ts";
import {
  ATTRIBUTE_ARCHIVE,
  ATTRIBUTE_DIRECTORY,
  ATTRIBUTE_VOLUME_LABEL,
  BACKUP_SECTOR,
  BPB,
  DIRENT,
  DIRENT_SIZE,
  DRIVE_FIXED,
  EBPB16,
  EBPB32,
  EXTENDED_BOOT_SIGNATURE,
  FAT_SIGNATURE,
  FAT_SIGNATURE_OFFSET,
  FIRST_CLUSTER,
  INFO,
  INFO_LEAD_SIGNATURE,
  INFO_SECTOR,
  INFO_STRUCT_SIGNATURE,
  INFO_TRAIL_SIGNATURE,
  LAST_CLUSTER,
  MEDIA_FIXED,
} from "../format/fat.ts";
import { viewOf } from "../internal/bytes.ts";
import { copyTo, windowSink } from "../sink.ts";
import { encodeLongName, encodeVolumeLabel } from "./names.ts";
import {
  directoriesOf,
  type FatPlan,
  filesOf,
  hasLabelEntry,
  type PlannedDirectory,
  type PlannedFile,
} from "./plan.ts";

const OEM_NAME = "LEVERET ";
/** int 0x18 (no boot device, try the next), then halt for ever */
const BOOT_CODE = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];
const HEADS = 64;
const SECTORS_PER_TRACK = 32;

/**
 * Writes a planned file system.
 *
 * @param plan - From {@link planFat}.
 * @param sink - Where to; everything not written has to read as zeros.
 * @param options - `signal` to abort between pieces, `onBytes` called with the count of content bytes written.
 * @throws {DiskImageError} `DISK_CORRUPT` when a file changed its size since it was planned, and what reading and
 *   writing throw.
 * @see Microsoft FAT Specification
 * @example
 * await writeFat(await planFat(options), sink);
 */
export async function writeFat(
  plan: FatPlan,
  sink: ByteSink,
  options: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (count: number) => void } = {},
): Promise<void> {
  const { geometry } = plan;
  const boot = encodeBootSector(plan);
  await sink.write(0, boot);
  if (geometry.type === 32) {
    const info = encodeInfoSector(plan);
    await sink.write(INFO_SECTOR * geometry.sectorSize, info);
    await sink.write(BACKUP_SECTOR * geometry.sectorSize, boot);
    await sink.write((BACKUP_SECTOR + INFO_SECTOR) * geometry.sectorSize, info);
  }
  const table = encodeTable(plan);
  for (const copy of [0, 1]) {
    await sink.write((geometry.reservedSectors + copy * geometry.fatSectors) * geometry.sectorSize, table);
  }
  for (const { directory, parent } of directoriesOf(plan.root)) {
    const offset = directory.cluster === 0 ? geometry.rootOffset : clusterOffset(plan, directory.cluster);
    await sink.write(offset, encodeDirectory(plan, directory, parent));
  }
  for (const file of filesOf(plan.root)) {
    options.signal?.throwIfAborted();
    await writeFile(plan, file, sink, options);
  }
}

async function writeFile(
  plan: FatPlan,
  file: PlannedFile,
  sink: ByteSink,
  options: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (count: number) => void },
): Promise<void> {
  await withContent(file.content, async (source) => {
    if (source.sizeBytes !== file.sizeBytes) {
      const message = `expected ${file.sizeBytes} bytes for ${file.path} as planned, got ${source.sizeBytes}`;
      throw new DiskImageError("DISK_CORRUPT", message, { path: file.path });
    }
    if (file.sizeBytes === 0) return;
    const place = windowSink(
      sink,
      clusterOffset(plan, file.cluster),
      file.clusters * plan.geometry.clusterSize,
      file.path,
    );
    await copyTo(place, source, 0, options);
  });
}

function clusterOffset({ geometry }: FatPlan, cluster: number): number {
  return geometry.dataOffset + (cluster - FIRST_CLUSTER) * geometry.clusterSize;
}

function encodeBootSector(plan: FatPlan): Uint8Array {
  const { geometry, hiddenSectors, volumeId } = plan;
  const { sectorSize, totalSectors } = geometry;
  const is32 = geometry.type === 32;
  const bytes = new Uint8Array(sectorSize);
  const view = viewOf(bytes);
  const extended = is32 ? EBPB32 : EBPB16;
  bytes.set([0xeb, extended.code - 2, 0x90], BPB.jump);
  bytes.set(new TextEncoder().encode(OEM_NAME), BPB.oemName);
  view.setUint16(BPB.bytesPerSector, sectorSize, true);
  view.setUint8(BPB.sectorsPerCluster, geometry.clusterSize / sectorSize);
  view.setUint16(BPB.reservedSectors, geometry.reservedSectors, true);
  view.setUint8(BPB.fatCount, 2);
  view.setUint16(BPB.rootEntries, geometry.rootEntries, true);
  if (!is32 && totalSectors < 0x1_0000) view.setUint16(BPB.totalSectors16, totalSectors, true);
  else view.setUint32(BPB.totalSectors32, totalSectors, true);
  view.setUint8(BPB.media, MEDIA_FIXED);
  view.setUint16(BPB.sectorsPerTrack, sectorsPerTrack(totalSectors), true);
  view.setUint16(BPB.heads, HEADS, true);
  view.setUint32(BPB.hiddenSectors, hiddenSectors, true);
  if (is32) {
    view.setUint32(EBPB32.fatSectors, geometry.fatSectors, true);
    view.setUint32(EBPB32.rootCluster, plan.root.cluster, true);
    view.setUint16(EBPB32.infoSector, INFO_SECTOR, true);
    view.setUint16(EBPB32.backupSector, BACKUP_SECTOR, true);
  } else view.setUint16(BPB.fatSectors16, geometry.fatSectors, true);
  view.setUint8(extended.drive, DRIVE_FIXED);
  view.setUint8(extended.bootSignature, EXTENDED_BOOT_SIGNATURE);
  view.setUint32(extended.volumeId, volumeId, true);
  bytes.set(encodeVolumeLabel(plan.label), extended.label);
  bytes.set(new TextEncoder().encode(`FAT${geometry.type}`.padEnd(8)), extended.type);
  bytes.set(BOOT_CODE, extended.code);
  view.setUint16(FAT_SIGNATURE_OFFSET, FAT_SIGNATURE, true);
  return bytes;
}

/** Some readers refuse a size that is no whole number of tracks, so tracks shrink where they have to. */
function sectorsPerTrack(totalSectors: number): number {
  let track = SECTORS_PER_TRACK;
  while (totalSectors % track !== 0) track /= 2;
  return track;
}

function encodeInfoSector({ geometry, usedClusters }: FatPlan): Uint8Array {
  const bytes = new Uint8Array(geometry.sectorSize);
  const view = viewOf(bytes);
  view.setUint32(INFO.lead, INFO_LEAD_SIGNATURE, true);
  view.setUint32(INFO.struct, INFO_STRUCT_SIGNATURE, true);
  view.setUint32(INFO.freeClusters, geometry.clusters - usedClusters, true);
  view.setUint32(INFO.nextFree, FIRST_CLUSTER + Math.min(usedClusters, geometry.clusters - 1), true);
  view.setUint32(INFO.trail, INFO_TRAIL_SIGNATURE, true);
  return bytes;
}

/** Encodes the FAT up to the last cluster in use; the rest is free, which is zero. */
function encodeTable(plan: FatPlan): Uint8Array {
  const { geometry, usedClusters } = plan;
  const { type } = geometry;
  const entries = new Uint32Array(FIRST_CLUSTER + usedClusters);
  // Entry 0 repeats the media byte; entry 1 says that the file system was unmounted and has no bad sectors.
  entries[0] = (LAST_CLUSTER[type] & ~0xff) | MEDIA_FIXED;
  entries[1] = LAST_CLUSTER[type];
  const chain = (first: number, count: number): void => {
    for (let index = 0; index < count; index += 1) {
      entries[first + index] = index === count - 1 ? LAST_CLUSTER[type] : first + index + 1;
    }
  };
  for (const { directory } of directoriesOf(plan.root)) chain(directory.cluster, directory.clusters);
  for (const file of filesOf(plan.root)) chain(file.cluster, file.clusters);
  if (type === 12) return pack12(entries);
  const bytes = new Uint8Array(entries.length * (type / 8));
  const view = viewOf(bytes);
  for (const [index, entry] of entries.entries()) {
    if (type === 16) view.setUint16(index * 2, entry, true);
    else view.setUint32(index * 4, entry, true);
  }
  return bytes;
}

/** Two entries of 12 bits share three bytes. */
function pack12(entries: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((entries.length * 3) / 2));
  for (const [index, entry] of entries.entries()) {
    const at = Math.floor((index * 3) / 2);
    const low = index % 2 === 0 ? entry & 0xff : ((bytes[at] ?? 0) & 0x0f) | ((entry & 0x0f) << 4);
    const high = index % 2 === 0 ? entry >> 8 : entry >> 4;
    bytes[at] = low;
    bytes[at + 1] = high;
  }
  return bytes;
}

function encodeDirectory(plan: FatPlan, directory: PlannedDirectory, parent: PlannedDirectory | undefined): Uint8Array {
  const pieces: Uint8Array[] = [];
  if (parent !== undefined) {
    pieces.push(encodeEntry(plan, dotName("."), ATTRIBUTE_DIRECTORY, directory.cluster, 0));
    // The root is cluster 0 here whatever its real number.
    const above = parent === plan.root ? 0 : parent.cluster;
    pieces.push(encodeEntry(plan, dotName(".."), ATTRIBUTE_DIRECTORY, above, 0));
  } else if (hasLabelEntry(plan.label)) {
    pieces.push(encodeEntry(plan, encodeVolumeLabel(plan.label), ATTRIBUTE_VOLUME_LABEL, 0, 0));
  }
  for (const [index, child] of directory.children.entries()) {
    const stored = directory.storedNames[index];
    if (stored === undefined) throw new Error("bug: a planned name has no short name");
    if (stored.longEntries > 0) pieces.push(encodeLongName(child.name, stored.short));
    const attributes = child.kind === "directory" ? ATTRIBUTE_DIRECTORY : ATTRIBUTE_ARCHIVE;
    pieces.push(
      encodeEntry(plan, stored.short, attributes, child.cluster, child.kind === "file" ? child.sizeBytes : 0),
    );
  }
  return new Uint8Array(Buffer.concat(pieces));
}

function dotName(name: string): Uint8Array {
  return new TextEncoder().encode(name.padEnd(11));
}

function encodeEntry(
  plan: FatPlan,
  name: Uint8Array,
  attributes: number,
  cluster: number,
  sizeBytes: number,
): Uint8Array {
  const bytes = new Uint8Array(DIRENT_SIZE);
  const view = viewOf(bytes);
  const { date, time } = encodeTime(plan.time);
  bytes.set(name, DIRENT.name);
  view.setUint8(DIRENT.attributes, attributes);
  if (attributes !== ATTRIBUTE_VOLUME_LABEL) {
    view.setUint16(DIRENT.createdTime, time, true);
    view.setUint16(DIRENT.createdDate, date, true);
    view.setUint16(DIRENT.accessedDate, date, true);
  }
  view.setUint16(DIRENT.writtenTime, time, true);
  view.setUint16(DIRENT.writtenDate, date, true);
  view.setUint16(DIRENT.clusterHigh, cluster >>> 16, true);
  view.setUint16(DIRENT.clusterLow, cluster & 0xffff, true);
  view.setUint32(DIRENT.size, sizeBytes, true);
  return bytes;
}

function encodeTime(time: Date): { date: number; time: number } {
  const year = time.getUTCFullYear() - 1980;
  return {
    date: (year << 9) | ((time.getUTCMonth() + 1) << 5) | time.getUTCDate(),
    time: (time.getUTCHours() << 11) | (time.getUTCMinutes() << 5) | (time.getUTCSeconds() >> 1),
  };
}
