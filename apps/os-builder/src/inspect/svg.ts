import { formatBytes } from "@leveret/command";
import type { ImageInspection, InspectedPartition, TrustLink, Verdict } from "./model.ts";

const WIDTH = 960;
const MARGIN = 32;
const BAR_TOP = 84;
const BAR_HEIGHT = 56;
const ROW_HEIGHT = 24;
const LINK_HEIGHT = 58;
const LINK_STEP = 28;
const MIN_PART_WIDTH = 26;

const FILLS: readonly (readonly [RegExp, string])[] = [
  [/^esp$/, "#c9b3f5"],
  [/^usr.*-verity-sig$/, "#f6c177"],
  [/^usr.*-verity$/, "#9ccfd8"],
  [/^usr/, "#8fbcf0"],
];
const FREE_FILL = "#eceff4";
const VERDICTS: Record<Verdict, { readonly mark: string; readonly colour: string }> = {
  verified: { mark: "✓", colour: "#2e7d32" },
  unchecked: { mark: "?", colour: "#b26a00" },
  refused: { mark: "✗", colour: "#c62828" },
  missing: { mark: "–", colour: "#6b7280" },
};

/** The partition map and the trust chain as a drawing that stands alone. */
export function renderSvg(inspection: ImageInspection): string {
  const { partitions, chain } = inspection;
  const listTop = BAR_TOP + BAR_HEIGHT + 40;
  const chainTop = listTop + partitions.length * ROW_HEIGHT + 56;
  const height = chainTop + chain.length * LINK_HEIGHT + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="14" fill="#1f2933">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN, 44, fileName(inspection.path), { size: 22, weight: 600 }),
    text(MARGIN, 66, `${formatBytes(inspection.sizeBytes)} · GPT ${inspection.diskGuid}`, { colour: "#6b7280" }),
    ...renderBar(inspection),
    ...partitions.flatMap((partition, index) => renderRow(partition, listTop + index * ROW_HEIGHT)),
    text(MARGIN, chainTop - 22, "Trust, from the firmware down", { size: 17, weight: 600 }),
    ...chain.flatMap((link, index) => renderLink(link, index, chainTop + index * LINK_HEIGHT)),
    "</svg>",
    "",
  ].join("\n");
}

function renderBar({ partitions, sizeBytes }: ImageInspection): string[] {
  const used = partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0);
  const parts = [
    ...partitions.map((partition) => ({
      name: `${partition.number}`,
      bytes: partition.sizeBytes,
      fill: fillOf(partition),
    })),
    { name: "free", bytes: Math.max(0, sizeBytes - used), fill: FREE_FILL },
  ];
  // Every part gets room for its number; what is left is shared by size.
  const shared = WIDTH - 2 * MARGIN - parts.length * MIN_PART_WIDTH;
  let x = MARGIN;
  return parts.flatMap(({ name, bytes, fill }) => {
    const width = MIN_PART_WIDTH + (bytes / sizeBytes) * shared;
    const left = x;
    x += width;
    const centre = left + width / 2;
    const box = `<rect x="${round(left)}" y="${BAR_TOP}" width="${round(width - 2)}" height="${BAR_HEIGHT}" rx="4" fill="${fill}"/>`;
    return [box, text(centre, BAR_TOP + BAR_HEIGHT / 2 + 5, name, { anchor: "middle", weight: 600 })];
  });
}

function renderRow(partition: InspectedPartition, y: number): string[] {
  const columns: readonly (readonly [number, string])[] = [
    [MARGIN + 22, `${partition.number}`],
    [MARGIN + 48, partition.label],
    [MARGIN + 230, partition.type],
    [MARGIN + 440, formatBytes(partition.sizeBytes)],
    [MARGIN + 530, partition.content],
  ];
  const swatch = `<rect x="${MARGIN}" y="${y - 11}" width="14" height="14" rx="3" fill="${fillOf(partition)}"/>`;
  return [swatch, ...columns.map(([x, value]) => text(x, y, value, {}))];
}

function renderLink(link: TrustLink, index: number, y: number): string[] {
  const { mark, colour } = VERDICTS[link.verdict];
  const x = MARGIN + index * LINK_STEP;
  const elbow = `<path d="M ${x - LINK_STEP + 10} ${y - LINK_HEIGHT + 28} V ${y + 10} H ${x - 4}" fill="none" stroke="#b8c2cc" stroke-width="2"/>`;
  const by = link.verdict === "verified" ? `by ${link.by}` : `${link.verdict}, ${link.by}`;
  return [
    ...(index === 0 ? [] : [elbow]),
    `<circle cx="${x + 10}" cy="${y + 10}" r="11" fill="${colour}"/>`,
    text(x + 10, y + 15, mark, { anchor: "middle", weight: 700, colour: "#ffffff" }),
    text(x + 30, y + 8, `${link.role}: ${link.subject}`, { weight: 600 }),
    text(x + 30, y + 27, link.detail === "" ? by : `${by} · ${link.detail}`, { colour: "#6b7280", size: 12 }),
  ];
}

interface TextStyle {
  readonly size?: number;
  readonly weight?: number;
  readonly colour?: string;
  readonly anchor?: "middle";
}

function text(x: number, y: number, value: string, { size, weight, colour, anchor }: TextStyle): string {
  const attributes = [
    `x="${round(x)}" y="${round(y)}"`,
    size === undefined ? "" : ` font-size="${size}"`,
    weight === undefined ? "" : ` font-weight="${weight}"`,
    colour === undefined ? "" : ` fill="${colour}"`,
    anchor === undefined ? "" : ` text-anchor="${anchor}"`,
  ];
  return `<text ${attributes.join("")}>${escapeXml(value)}</text>`;
}

function fillOf({ type, label }: InspectedPartition): string {
  if (label === "_empty") return FREE_FILL;
  return FILLS.find(([pattern]) => pattern.test(type))?.[1] ?? "#d8dee9";
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

// Names in an image are an attacker's: nothing of them may become markup, and control characters are no XML at all.
function escapeXml(value: string): string {
  const visible = value.replace(/\p{Cc}/gu, "\ufffd");
  return visible.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
