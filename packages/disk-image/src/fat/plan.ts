import type { z } from "zod";
import { contentSize } from "../content.ts";
import { DiskImageError } from "../errors.ts";
import { DIRENT_SIZE, FIRST_CLUSTER, MAX_DIRECTORY_ENTRIES, MAX_FILE_SIZE } from "../format/fat.ts";
import { type Content, type FatOptions, fatOptions, parseOptions } from "../options.ts";
import { chooseGeometry, type FatGeometry } from "./geometry.ts";
import { chooseShortNames, encodeVolumeLabel, foldName, type StoredName, splitPath } from "./names.ts";

/** A file to be written, with its place. */
export interface PlannedFile {
  readonly kind: "file";
  readonly name: string;
  readonly path: string;
  readonly content: Content;
  /** length in `bytes` */
  readonly sizeBytes: number;
  /** first cluster; 0 for an empty file */
  readonly cluster: number;
  readonly clusters: number;
}

/** A directory to be written, with its place. */
export interface PlannedDirectory {
  readonly kind: "directory";
  readonly name: string;
  readonly path: string;
  readonly children: readonly (PlannedFile | PlannedDirectory)[];
  /** what the directory stores for each child */
  readonly storedNames: readonly StoredName[];
  /** first cluster; 0 for the root of FAT12 and FAT16 */
  readonly cluster: number;
  readonly clusters: number;
}

/** A whole file system, decided before a byte is written. */
export interface FatPlan {
  readonly geometry: FatGeometry;
  readonly root: PlannedDirectory;
  /** clusters in use, all at the start */
  readonly usedClusters: number;
  readonly label: string;
  readonly volumeId: number;
  readonly time: Date;
  readonly hiddenSectors: number;
}

interface Draft {
  readonly name: string;
  readonly path: string;
  readonly content?: Content;
  sizeBytes: number;
  /** children by folded name; absent for a file */
  readonly children?: Map<string, Draft>;
  storedNames: StoredName[];
}

/**
 * Plans a FAT file system: checks names, sizes and room, and decides where everything goes.
 *
 * @param options - See {@link FatOptions}; the sizes of files are looked up, their content is not read.
 * @returns The plan, for {@link writeFat}.
 * @throws {DiskImageError} `DISK_TOO_SMALL` with the arithmetic when the content does not fit, `DISK_BAD_NAME`,
 *   `DISK_BAD_OPTIONS`, `DISK_LIMIT` for a file over 4 GiB - 1 or a directory over 65,536 entries, `DISK_NOT_FOUND`.
 * @example
 * const plan = await planFat({ sizeBytes: 64 * 1024 * 1024, volumeId: 0x1234, time, files: { "EFI/BOOT/BOOTX64.EFI": { file: "os.efi" } } });
 */
export async function planFat(options: FatOptions): Promise<FatPlan> {
  const checked = parseOptions(fatOptions, options);
  encodeVolumeLabel(checked.label);
  assertTime(checked.time);
  const root = await draftTree(checked);
  nameEntries(root);
  const geometry = chooseGeometry({ ...checked, rootEntries: entryCount(root, true, checked.label) });
  return place(root, geometry, checked);
}

async function draftTree(options: z.output<typeof fatOptions>): Promise<Draft> {
  const root = directoryDraft("", "");
  for (const path of options.directories) makeDirectory(root, splitPath(path), path);
  for (const [path, content] of Object.entries(options.files)) {
    const names = splitPath(path);
    const name = names.pop() ?? "";
    const parent = makeDirectory(root, names, path);
    const folded = foldName(name);
    const other = parent.children?.get(folded);
    if (other !== undefined) throw collision(path, other);
    const sizeBytes = await contentSize(content);
    if (sizeBytes > MAX_FILE_SIZE) {
      const message = `expected files of at most ${MAX_FILE_SIZE} bytes, got ${sizeBytes} for ${path}`;
      throw new DiskImageError("DISK_LIMIT", message, { path, neededBytes: sizeBytes, availableBytes: MAX_FILE_SIZE });
    }
    const full = [parent.path, name].filter((part) => part !== "").join("/");
    parent.children?.set(folded, { name, path: full, content, sizeBytes, storedNames: [] });
  }
  return root;
}

function makeDirectory(root: Draft, names: readonly string[], path: string): Draft {
  let here = root;
  for (const name of names) {
    const folded = foldName(name);
    const found = here.children?.get(folded);
    if (found !== undefined && (found.children === undefined || found.name !== name)) throw collision(path, found);
    const next = found ?? directoryDraft(name, here.path === "" ? name : `${here.path}/${name}`);
    here.children?.set(folded, next);
    here = next;
  }
  return here;
}

function directoryDraft(name: string, path: string): Draft {
  return { name, path, sizeBytes: 0, children: new Map(), storedNames: [] };
}

function collision(path: string, other: Draft): DiskImageError {
  const message = `expected names that differ in more than case, got ${JSON.stringify(path)} beside ${JSON.stringify(other.path)}`;
  return new DiskImageError("DISK_BAD_NAME", message, { path });
}

function childrenOf(draft: Draft): Draft[] {
  // Sorted by code unit, so that the order in the description does not matter.
  return [...(draft.children?.values() ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function nameEntries(root: Draft): void {
  for (const draft of everyDirectory(root)) {
    draft.storedNames = chooseShortNames(childrenOf(draft).map(({ name }) => name));
    if (entryCount(draft, draft === root, "") > MAX_DIRECTORY_ENTRIES) {
      const message = `expected directories of at most ${MAX_DIRECTORY_ENTRIES} entries, got more in /${draft.path}`;
      throw new DiskImageError("DISK_LIMIT", message, { path: draft.path });
    }
  }
}

function* everyDirectory(draft: Draft): Generator<Draft> {
  yield draft;
  for (const child of childrenOf(draft)) if (child.children !== undefined) yield* everyDirectory(child);
}

/** Entries of a directory: one per name and its long parts, `.` and `..`, and the volume label in the root. */
function entryCount(draft: Draft, isRoot: boolean, label: string): number {
  const fixed = isRoot ? (hasLabelEntry(label) ? 1 : 0) : 2;
  return draft.storedNames.reduce((sum, { longEntries }) => sum + 1 + longEntries, fixed);
}

/** `NO NAME` is what the boot sector says when there is no label. */
export function hasLabelEntry(label: string): boolean {
  return label !== "NO NAME" && label !== "";
}

function place(root: Draft, geometry: FatGeometry, options: z.output<typeof fatOptions>): FatPlan {
  const { clusterSize } = geometry;
  let next = FIRST_CLUSTER;
  const take = (clusters: number): number => {
    if (clusters === 0) return 0;
    next += clusters;
    return next - clusters;
  };
  // Directories come first and stay together: looking a path up then touches few places.
  const directories = new Map<Draft, { cluster: number; clusters: number }>();
  for (const draft of everyDirectory(root)) {
    const isRoot = draft === root;
    const bytes = entryCount(draft, isRoot, options.label) * DIRENT_SIZE;
    const clusters = isRoot && geometry.type !== 32 ? 0 : Math.max(1, Math.ceil(bytes / clusterSize));
    directories.set(draft, { cluster: take(clusters), clusters });
  }
  const finish = (draft: Draft): PlannedFile | PlannedDirectory => {
    const { name, path, content, sizeBytes } = draft;
    if (content !== undefined) {
      const clusters = Math.ceil(sizeBytes / clusterSize);
      return { kind: "file", name, path, content, sizeBytes, cluster: take(clusters), clusters };
    }
    return finishDirectory(draft);
  };
  const finishDirectory = (draft: Draft): PlannedDirectory => ({
    kind: "directory",
    name: draft.name,
    path: draft.path,
    children: childrenOf(draft).map(finish),
    storedNames: draft.storedNames,
    cluster: directories.get(draft)?.cluster ?? 0,
    clusters: directories.get(draft)?.clusters ?? 0,
  });
  const planned = finishDirectory(root);
  const usedClusters = next - FIRST_CLUSTER;
  if (usedClusters > geometry.clusters) throw tooSmall(planned, usedClusters, geometry, options.sizeBytes);
  const { label, volumeId, time, hiddenSectors } = options;
  return { geometry, root: planned, usedClusters, label, volumeId, time, hiddenSectors };
}

const LISTED_FILES = 10;

function tooSmall(root: PlannedDirectory, used: number, geometry: FatGeometry, sizeBytes: number): DiskImageError {
  const { clusterSize, clusters, dataOffset } = geometry;
  const files = [...filesOf(root)].sort((a, b) => b.clusters - a.clusters);
  const fileClusters = files.reduce((sum, file) => sum + file.clusters, 0);
  const needed = used * clusterSize;
  const available = clusters * clusterSize;
  const lines = files
    .slice(0, LISTED_FILES)
    .map((file) => `${file.clusters * clusterSize} bytes for ${file.path} (${file.sizeBytes})`);
  if (files.length > LISTED_FILES) lines.push(`and ${files.length - LISTED_FILES} more files`);
  lines.push(`${(used - fileClusters) * clusterSize} bytes for directories`);
  lines.push(`= ${needed} bytes, in clusters of ${clusterSize}`);
  lines.push(`${sizeBytes} bytes of file system - ${sizeBytes - available} bytes of tables = ${available} bytes`);
  lines.push(
    `make the file system at least ${needed - available} bytes larger (its tables, ${dataOffset} bytes now, grow a little too)`,
  );
  return new DiskImageError("DISK_TOO_SMALL", `expected content of at most ${available} bytes, got ${needed}`, {
    neededBytes: needed,
    availableBytes: available,
    hint: lines.join("\n"),
  });
}

/** Every file of a plan, in the order of their clusters. */
export function* filesOf(directory: PlannedDirectory): Generator<PlannedFile> {
  for (const child of directory.children) {
    if (child.kind === "file") yield child;
    else yield* filesOf(child);
  }
}

/** Every directory of a plan with the one above it. */
export function* directoriesOf(
  directory: PlannedDirectory,
  parent: PlannedDirectory | undefined = undefined,
): Generator<{ readonly directory: PlannedDirectory; readonly parent: PlannedDirectory | undefined }> {
  yield { directory, parent };
  for (const child of directory.children) if (child.kind === "directory") yield* directoriesOf(child, directory);
}

function assertTime(time: Date): void {
  const year = time.getUTCFullYear();
  if (!(year >= 1980 && year <= 2107)) {
    throw new DiskImageError("DISK_BAD_OPTIONS", `expected a time from 1980 to 2107, got ${String(time)}`);
  }
}
