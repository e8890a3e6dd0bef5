import { formatBytes } from "@leveret/command";
import {
  describeVerdict,
  type ImageInspection,
  type InspectedPartition,
  type TrustLink,
  type Verdict,
} from "./model.ts";
import { printable } from "./printable.ts";
import { fitText } from "./text-width.ts";

const WIDTH = 960;
const MARGIN = 32;
const RIGHT = WIDTH - MARGIN;
const LINE_HEIGHT = 20;
const BAR_HEIGHT = 56;
const ROW_HEIGHT = 24;
const LINK_HEIGHT = 58;
const LINK_STEP = 28;
const FREE_FILL = "#eceff4";
const OTHER_FILL = "#d8dee9";
/** How strong the colour of a slot is that has nothing in it. */
const EMPTY_OPACITY = 0.35;

/** Room for a partition's number, while there is room for all of them. */
const MIN_PART_WIDTH = 26;
/** Space between two parts of the bar. */
const GAP = 2;

const INK = "#1f2933";
const FAINT = "#6b7280";
const AMBER = "#b26a00";
const FILLS: readonly (readonly [RegExp, string])[] = [
  [/^esp$/, "#c9b3f5"],
  [/^usr.*-verity-sig$/, "#f6c177"],
  [/^usr.*-verity$/, "#9ccfd8"],
  [/^usr/, "#8fbcf0"],
];

// Marks are drawn and not written: not every font has them.
const VERDICTS: Record<Verdict, { readonly mark: string; readonly colour: string }> = {
  verified: { mark: "M -5 0 L -1.5 4 L 5 -4", colour: "#2e7d32" },
  unchecked: { mark: "M -3 -2.5 A 3 3 0 1 1 0 1 V 2 M 0 5 V 5.1", colour: AMBER },
  refused: { mark: "M -4 -4 L 4 4 M 4 -4 L -4 4", colour: "#c62828" },
  missing: { mark: "M -5 0 H 5", colour: FAINT },
};

/**
 * Draws the partition map and the trust chain.
 *
 * @param inspection - What `inspectImage` found; names in it become neither markup nor control characters.
 * @returns An SVG document that stands alone.
 * @example
 * await writeFile("particle.svg", renderSvg(await inspectImage("images/particle_0.1.0.raw")));
 */
export function renderSvg(inspection: ImageInspection): string {
  const { path, sizeBytes, diskGuid, partitions, chain, warnings } = inspection;
  const name = path.slice(path.lastIndexOf("/") + 1);
  const barTop = 84 + warnings.length * LINE_HEIGHT;
  const listTop = barTop + BAR_HEIGHT + 40;
  const chainTop = listTop + partitions.length * ROW_HEIGHT + 56;
  const height = chainTop + chain.length * LINK_HEIGHT + MARGIN - 16;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" font-family="system-ui, sans-serif" font-size="14" fill="${INK}">`,
    `<title>${escapeXml(`Partitions and trust chain of ${name}`)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN, 44, name, { size: 22, weight: 600 }),
    text(MARGIN, 66, `${formatBytes(sizeBytes)} · GPT ${diskGuid}`, { colour: FAINT }),
    ...warnings.map((warning, index) =>
      text(MARGIN, 88 + index * LINE_HEIGHT, `warning: ${warning}`, { colour: AMBER }),
    ),
    ...renderBar(inspection, barTop),
    ...partitions.flatMap((partition, index) => renderRow(partition, listTop + index * ROW_HEIGHT)),
    text(MARGIN, chainTop - 22, "Trust, from the firmware down", { size: 17, weight: 600 }),
    ...chain.flatMap((link, index) => renderLink(link, index, chainTop + index * LINK_HEIGHT)),
    "</svg>",
    "",
  ].join("\n");
}

function renderBar({ partitions, sizeBytes }: ImageInspection, top: number): string[] {
  const used = partitions.reduce((sum, partition) => sum + partition.sizeBytes, 0);
  const parts = [
    ...partitions.map((partition) => ({
      name: `${partition.number}`,
      bytes: partition.sizeBytes,
      paint: paintOf(partition),
    })),
    { name: "free", bytes: sizeBytes - used, paint: `fill="${FREE_FILL}"` },
  ];
  // Every part gets room for its number; what is left is shared by size.
  const least = Math.min(MIN_PART_WIDTH, (RIGHT - MARGIN) / parts.length);
  const shared = RIGHT - MARGIN - parts.length * least;
  let x = MARGIN;
  return parts.flatMap(({ name, bytes, paint }) => {
    const width = least + (bytes / sizeBytes) * shared;
    const left = x;
    x += width;
    const box = `<rect x="${round(left)}" y="${top}" width="${round(Math.max(1, width - GAP))}" height="${BAR_HEIGHT}" rx="4" ${paint}/>`;
    if (fitText(name, width - GAP, 14) !== name) return [box];
    const middle = left + (width - GAP) / 2;
    return [box, text(middle, top + BAR_HEIGHT / 2 + 5, name, { anchor: "middle", weight: 600 })];
  });
}

function renderRow(partition: InspectedPartition, y: number): string[] {
  const { number, label, type, sizeBytes, content } = partition;
  return [
    `<rect x="${MARGIN}" y="${y - 11}" width="14" height="14" rx="3" ${paintOf(partition)}/>`,
    text(MARGIN + 22, y, `${number}`, {}),
    text(MARGIN + 50, y, label, { width: 200 }),
    text(MARGIN + 262, y, type, { width: 312 }),
    text(MARGIN + 640, y, formatBytes(sizeBytes), { anchor: "end" }),
    ...(content === "" ? [] : [text(MARGIN + 664, y, content, {})]),
  ];
}

function renderLink(link: TrustLink, index: number, y: number): string[] {
  const { mark, colour } = VERDICTS[link.verdict];
  const x = MARGIN + index * LINK_STEP;
  const elbow = `<path d="M ${x - LINK_STEP + 10} ${y - LINK_HEIGHT + 28} V ${y + 10} H ${x - 4}" fill="none" stroke="#b8c2cc" stroke-width="2"/>`;
  return [
    ...(index === 0 ? [] : [elbow]),
    `<circle cx="${x + 10}" cy="${y + 10}" r="11" fill="${colour}"/>`,
    `<path d="${mark}" transform="translate(${x + 10} ${y + 10})" fill="none" stroke="#ffffff" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>`,
    text(x + 30, y + 8, `${link.role}: ${link.subject}`, { weight: 600 }),
    text(x + 30, y + 27, `${describeVerdict(link)} · ${link.detail}`, { colour: FAINT, size: 12 }),
  ];
}

interface TextStyle {
  readonly size?: number;
  readonly weight?: number;
  readonly colour?: string;
  readonly anchor?: "middle" | "end";
  /** room for it in `pixels`; up to the margin when not given */
  readonly width?: number;
}

// What is too long is cut, and shown in full where the mouse rests on it.
function text(x: number, y: number, value: string, textStyle: TextStyle): string {
  const { size = 14, weight, colour, anchor, width = RIGHT - x } = textStyle;
  const shown = anchor === undefined ? fitText(printable(value), width, size) : value;
  const attributes = [
    `x="${round(x)}" y="${round(y)}"`,
    size === 14 ? "" : ` font-size="${size}"`,
    weight === undefined ? "" : ` font-weight="${weight}"`,
    colour === undefined ? "" : ` fill="${colour}"`,
    anchor === undefined ? "" : ` text-anchor="${anchor}"`,
  ];
  const full = shown === printable(value) ? "" : `<title>${escapeXml(value)}</title>`;
  return `<text ${attributes.join("")}>${full}${escapeXml(shown)}</text>`;
}

function paintOf({ type, label }: InspectedPartition): string {
  const fill = FILLS.find(([pattern]) => pattern.test(type))?.[1] ?? OTHER_FILL;
  return `fill="${fill}"${label === "_empty" ? ` fill-opacity="${EMPTY_OPACITY}"` : ""}`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escapeXml(value: string): string {
  return printable(value)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
