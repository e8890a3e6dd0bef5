import { type CommandIo, formatBytes, style, table } from "@leveret/command";
import {
  describeVerdict,
  type ImageInspection,
  type InspectedPartition,
  type TrustLink,
  type Verdict,
} from "./model.ts";
import { printable } from "./printable.ts";

const MARKS = { verified: "✓", unchecked: "?", refused: "✗", missing: "–" } as const satisfies Record<Verdict, string>;
const COLOURS = { verified: "green", unchecked: "yellow", refused: "red", missing: "dim" } as const;
const BAR_WIDTH = 72;
/** A bar of more parts than this has no room for their sizes. */
const MAX_BAR_PARTS = 16;

/** The partition map and the trust chain for a terminal. */
export function renderText(inspection: ImageInspection, io: CommandIo): string {
  const { path, sizeBytes, diskGuid, partitions, warnings, chain } = inspection;
  return [
    `${printable(path)}  ${formatBytes(sizeBytes)}  GPT ${diskGuid}`,
    ...warnings.map((warning) => style(io.stdout, io.env, "yellow", `warning: ${printable(warning)}`)),
    "",
    ...(partitions.length > MAX_BAR_PARTS ? [] : [...renderBar(partitions, sizeBytes), ""]),
    table(partitions.map((partition) => partitionRow(partition))),
    "",
    "Trust, from the firmware down:",
    ...chain.flatMap((link, depth) => renderLink(link, depth, io)),
    "",
  ].join("\n");
}

function partitionRow(partition: InspectedPartition): string[] {
  const { number, label, type, sizeBytes, content } = partition;
  return [`  ${number}`, printable(label), type, formatBytes(sizeBytes), printable(content)];
}

// Small partitions still get a column, so the bar shows order and rough shares, not exact ones.
function renderBar(partitions: readonly InspectedPartition[], sizeBytes: number): string[] {
  const used = partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0);
  const parts = [
    ...partitions.map(({ number, sizeBytes: bytes }) => ({ name: `${number}`, bytes })),
    { name: "free", bytes: sizeBytes - used },
  ];
  const widths = parts.map(({ name, bytes }) => Math.max(name.length + 2, Math.round((bytes / sizeBytes) * BAR_WIDTH)));
  const line = (left: string, middle: string, right: string): string =>
    `  ${left}${widths.map((width) => "─".repeat(width)).join(middle)}${right}`;
  const names = parts.map(({ name }, index) => centre(name, widths[index] ?? 0));
  return [line("┌", "┬", "┐"), `  │${names.join("│")}│`, line("└", "┴", "┘")];
}

function centre(text: string, width: number): string {
  const left = Math.floor((width - text.length) / 2);
  return `${" ".repeat(left)}${text}${" ".repeat(Math.max(0, width - text.length - left))}`;
}

function renderLink(link: TrustLink, depth: number, io: CommandIo): string[] {
  const { subject, role, verdict, detail } = link;
  const mark = style(io.stdout, io.env, COLOURS[verdict], MARKS[verdict]);
  const branch = depth === 0 ? "  " : `  ${"   ".repeat(depth - 1)}└─ `;
  return [
    `${branch}${mark} ${role}: ${printable(subject)} · ${printable(describeVerdict(link))}`,
    `${" ".repeat(branch.length + 2)}${style(io.stdout, io.env, "dim", printable(detail))}`,
  ];
}
