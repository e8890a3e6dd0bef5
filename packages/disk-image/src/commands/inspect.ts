import {
  type CommandIo,
  escapeName,
  formatBytes,
  type InputFlags,
  style,
  table,
  withInputOptions,
  writeJson,
} from "@leveret/command";
import type { Command } from "commander";
import { DiskImageError } from "../errors.ts";
import { type FatVolume, openFat } from "../fat/read.ts";
import type { DiskImage, DiskPartition } from "../open.ts";
import { openInput } from "./input.ts";
import { partitionTable } from "./text.ts";

interface InspectOptions extends InputFlags {
  readonly files?: boolean;
  readonly json?: boolean;
}

interface FoundFiles {
  readonly partition: DiskPartition;
  readonly system: string;
  readonly label: string;
  readonly files: readonly { readonly path: string; readonly sizeBytes: number; readonly isDirectory: boolean }[];
}

const MAP_WIDTH = 76;

/** Adds `inspect`. */
export function addInspectCommand(program: Command, io: CommandIo): void {
  withInputOptions(program.command("inspect"))
    .description("show a disk's partitions and check both copies of its table")
    .argument("<image>")
    .option("--files", "also list the files of FAT partitions")
    .option("--json", "print one JSON document")
    .action((image: string, options: InspectOptions) => inspect(io, image, options));
}

async function inspect(io: CommandIo, path: string, options: InspectOptions): Promise<void> {
  await using disk = await openInput(io, path, options);
  const { gpt, partitions, sizeBytes } = disk;
  const systems = options.files === true ? await findFiles(disk, io.signal) : [];
  if (options.json === true) {
    const { sectorSize, diskGuid } = gpt.table;
    const state = (copy: "valid" | DiskImageError): string =>
      copy === "valid" ? copy : `${copy.code}: ${copy.message}`;
    writeJson(io, {
      kind: "disk",
      version: 1,
      format: disk.format,
      sizeBytes,
      sectorSize,
      diskGuid,
      primary: state(gpt.primary),
      backup: state(gpt.backup),
      isBackupAtEnd: gpt.isBackupAtEnd,
      hasProtectiveMbr: gpt.hasProtectiveMbr,
      partitions,
      ...(options.files === true && {
        fileSystems: systems.map(({ partition, ...rest }) => ({ partition: partition.number, ...rest })),
      }),
    });
    return;
  }
  const paint = (name: "bold" | "dim" | "yellow", text: string): string => style(io.stdout, io.env, name, text);
  const lines = [
    `${paint("bold", path)}  ${disk.format === "qcow2" ? "qcow2, " : ""}GPT disk of ${formatBytes(sizeBytes)}, sectors of ${gpt.table.sectorSize} bytes, ${gpt.table.diskGuid}`,
    ...warnings(disk).map((warning) => paint("yellow", `warning: ${warning}`)),
    "",
    drawMap(partitions, sizeBytes),
    "",
    partitionTable(partitions),
  ];
  for (const { partition, system, label, files } of systems) {
    lines.push(
      "",
      paint("bold", `${partition.number} ${escapeName(partition.label)}`) +
        paint("dim", `  ${system} ${escapeName(label)}`),
    );
    lines.push(
      table(
        files.map((file) => [
          file.isDirectory ? "" : formatBytes(file.sizeBytes),
          escapeName(file.path) + (file.isDirectory ? "/" : ""),
        ]),
      ),
    );
  }
  io.stdout.write(`${lines.join("\n")}\n`);
}

function warnings({ gpt }: DiskImage): string[] {
  const found: string[] = [];
  if (gpt.primary !== "valid") found.push(`the table at the start is damaged: ${gpt.primary.message}`);
  if (gpt.backup !== "valid") found.push(`the backup table is damaged: ${gpt.backup.message}`);
  if (gpt.backup === "valid" && !gpt.isBackupAtEnd) found.push("the backup table is not at the disk's end");
  if (!gpt.hasProtectiveMbr) found.push("there is no protective MBR");
  if (found.length > 0) found.push("`disk-image repair` mends the table");
  return found;
}

/** Draws the disk to scale, every partition at least wide enough for its number. */
function drawMap(partitions: readonly DiskPartition[], sizeBytes: number): string {
  const cells = partitions
    .toSorted((a, b) => a.offsetBytes - b.offsetBytes)
    .map((partition) => {
      const width = Math.max(
        1 + `${partition.number}`.length,
        Math.round((partition.sizeBytes / sizeBytes) * MAP_WIDTH),
      );
      const text = `${partition.number} ${escapeName(partition.label)}`;
      // A number alone is better than one cut letter of a name.
      const fits = text.length <= width || width <= `${partition.number}`.length + 2;
      return (fits ? text.slice(0, width) : `${text.slice(0, width - 1)}…`).padEnd(width, " ");
    });
  const end = partitions.reduce((most, { offsetBytes, sizeBytes: size }) => Math.max(most, offsetBytes + size), 0);
  const rest = Math.round(((sizeBytes - end) / sizeBytes) * MAP_WIDTH);
  const free = rest > 2 ? `${"·".repeat(rest)}│` : "";
  return `│${cells.map((cell) => `${cell}│`).join("")}${free}`;
}

/** Lists what is FAT; whatever else fills a partition is none of this command's business. */
async function findFiles(disk: DiskImage, signal: AbortSignal): Promise<FoundFiles[]> {
  const found: FoundFiles[] = [];
  for (const partition of disk.partitions) {
    const volume = await tryOpenFat(disk, partition);
    if (volume === undefined) continue;
    const files = [];
    for await (const { path, entry } of volume.walk({ signal })) {
      files.push({ path, sizeBytes: entry.sizeBytes, isDirectory: entry.isDirectory });
    }
    const system = `FAT${volume.boot.geometry.type}`;
    found.push({ partition, system, label: await volume.label(), files });
  }
  return found;
}

async function tryOpenFat(disk: DiskImage, partition: DiskPartition): Promise<FatVolume | undefined> {
  try {
    return await openFat(disk.open(partition.number));
  } catch (error) {
    if (error instanceof DiskImageError) return undefined;
    throw error;
  }
}
