import { type CommandIo, formatBytes, style, table } from "@leveret/command";
import type { ImageInspection, InspectedPartition, TrustLink, Verdict } from "./model.ts";

const MARKS = { verified: "✓", unchecked: "?", refused: "✗", missing: "–" } as const satisfies Record<Verdict, string>;
const COLOURS = { verified: "green", unchecked: "yellow", refused: "red", missing: "dim" } as const;
const BAR_WIDTH = 72;

/** The partition map and the trust chain for a terminal. */
export function renderText(inspection: ImageInspection, io: CommandIo): string {
  const { path, sizeBytes, diskGuid, partitions } = inspection;
  return [
    `${path}  ${formatBytes(sizeBytes)}  GPT ${diskGuid}`,
    "",
    ...renderBar(partitions, sizeBytes),
    "",
    table(partitions.map((partition) => partitionRow(partition))),
    "",
    "Trust, from the firmware down:",
    ...renderChain(inspection.chain, io),
    "",
  ].join("\n");
}

function partitionRow(partition: InspectedPartition): string[] {
  const { number, label, type, sizeBytes, content } = partition;
  return [`  ${number}`, label, type, formatBytes(sizeBytes), content];
}

// Small partitions still get a column, so the bar shows order and rough shares, not exact ones.
function renderBar(partitions: readonly InspectedPartition[], sizeBytes: number): string[] {
  const used = partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0);
  const parts = [
    ...partitions.map(({ number, sizeBytes: bytes }) => ({ name: `${number}`, bytes })),
    { name: "free", bytes: Math.max(0, sizeBytes - used) },
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

function renderChain(chain: readonly TrustLink[], io: CommandIo): string[] {
  return chain.flatMap(({ subject, role, by, verdict, detail }, index) => {
    const mark = style(io.stdout, io.env, COLOURS[verdict], MARKS[verdict]);
    const indent = `  ${"   ".repeat(index)}`;
    const arrow = index === 0 ? "" : "└─ ";
    const facts =
      detail === "" ? [] : [`${indent}${index === 0 ? "" : "   "}  ${style(io.stdout, io.env, "dim", detail)}`];
    return [
      `${indent}${arrow}${mark} ${role}: ${subject} · ${verdict === "verified" ? "by" : `${verdict},`} ${by}`,
      ...facts,
    ];
  });
}
