import type { Timeline, TimelineGap, TimelinePhase, TimelinePhaseName } from "./timeline.ts";

const WIDTH = 960;
const LEFT = 112;
const RIGHT = 76;
const PLOT = WIDTH - LEFT - RIGHT;
const ROW = 30;
const BAR = 18;
const TOP = 78;
/** Most events that get a row. */
const MAX_EVENTS = 8;
/** Characters of a quoted line that fit beside each other twice. */
const QUOTE_CHARS = 56;

const COLOURS: Readonly<Record<TimelinePhaseName, string>> = {
  qemu: "#9aa0a6",
  firmware: "#4c78a8",
  "boot loader": "#2a9d8f",
  kernel: "#f28e2b",
  initrd: "#d4a72c",
  userspace: "#59a14f",
  continued: "#59a14f",
};

const STYLE = `
  text { font: 12px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-size: 17px; font-weight: 600 }
  .dim { fill: #6e7781 }
  .name { text-anchor: end }
  .tick { text-anchor: middle; fill: #6e7781; font-size: 11px }
  .number { text-anchor: middle; font-size: 11px; font-weight: 600; fill: #b42318 }
  .line { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 11px }
  .grid { stroke: #eaeef2 }
  .mark { stroke: #57606a; stroke-opacity: 0.45 }
  .gap { fill: #fdebe9; stroke: #f5b5ae }
`;

/**
 * Draws a timeline: a bar per phase, a stroke per line of the consoles, and the longest silences with what came before
 * and after them.
 *
 * @param timeline - From {@link Machine.timeline}.
 * @returns An SVG document.
 * @example
 * await writeFile("boot.svg", renderTimelineSvg(machine.timeline()));
 */
export function renderTimelineSvg(timeline: Timeline): string {
  const scale = axis(timeline.totalMs);
  const parts: string[] = [];
  let y = TOP;
  for (const phase of timeline.phases) {
    parts.push(phaseRow(phase, y, scale));
    y += ROW;
  }
  parts.push(consoleRow(timeline, y, scale));
  y += ROW + 4;
  for (const row of eventRows(timeline, scale)) {
    parts.push(row(y));
    y += ROW - 6;
  }
  const grid = scale.ticks.map((at) => {
    const x = scale.x(at);
    return `<line class="grid" x1="${x}" x2="${x}" y1="${TOP - 8}" y2="${y}"/><text class="tick" x="${x}" y="${TOP - 14}">${seconds(at)}</text>`;
  });
  y += 22;
  parts.push(`<text x="24" y="${y}" font-weight="600">Longest silences</text>`);
  for (const [index, gap] of timeline.gaps.entries()) {
    y += 22;
    parts.push(gapRow(gap, index, y));
  }
  if (timeline.gaps.length === 0) parts.push(`<text class="dim" x="${LEFT + 40}" y="${y}">none</text>`);
  y += 30;
  const { notes, height } = footer(timeline, y);
  parts.push(notes);
  const title = `${timeline.machine}: ${seconds(timeline.totalMs)} until ${quote(timeline.marks.at(-1)?.text ?? "nothing", 70)}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>${xml(title)}</title>
<style>${STYLE}</style>
<rect width="${WIDTH}" height="${height}" rx="8" fill="#ffffff"/>
<text class="title" x="24" y="34">${xml(title)}</text>
${[...grid, ...parts].join("\n")}
</svg>
`;
}

interface Scale {
  readonly x: (atMs: number) => number;
  readonly ticks: readonly number[];
}

/** An axis from zero to the end with five to ten round steps. */
function axis(totalMs: number): Scale {
  const span = Math.max(totalMs, 1);
  const rough = span / 8;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough) ?? rough;
  const ticks = Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
  return { x: (atMs) => round(LEFT + (Math.min(atMs, span) / span) * PLOT), ticks };
}

function phaseRow(phase: TimelinePhase, y: number, { x }: Scale): string {
  const from = x(phase.fromMs);
  const to = Math.max(x(phase.toMs), from + 1.5);
  const duration = seconds(phase.toMs - phase.fromMs);
  const about = phase.basis === "kernel-clock" ? "its beginning by the kernel's clock" : "its beginning by arrival";
  const title = `${phase.name}: ${duration}, ${about}: ${phase.evidence}`;
  return `<g><title>${xml(title)}</title><text class="name" x="${LEFT - 12}" y="${y + 13}">${phase.name}</text><rect x="${from}" y="${y}" width="${round(to - from)}" height="${BAR}" rx="3" fill="${COLOURS[phase.name]}"/><text x="${round(to + 6)}" y="${y + 13}">${duration}</text></g>`;
}

function consoleRow({ marks, gaps }: Timeline, y: number, { x }: Scale): string {
  const boxes = gaps.map(({ fromMs, toMs }, index) => {
    const from = x(fromMs);
    const width = round(Math.max(x(toMs) - from, 1));
    const number =
      width >= 12 ? `<text class="number" x="${round(from + width / 2)}" y="${y + 13}">${index + 1}</text>` : "";
    return `<rect class="gap" x="${from}" y="${y}" width="${width}" height="${BAR}"/>${number}`;
  });
  // Lines that arrive together are one stroke.
  const places = new Set(
    marks.filter(({ source }) => source === "console").map(({ atMs }) => Math.round(x(atMs) * 2) / 2),
  );
  const strokes = [...places].map((at) => `M${at} ${y}v${BAR}`).join("");
  return `<text class="name" x="${LEFT - 12}" y="${y + 13}">console</text>${boxes.join("")}<path class="mark" d="${strokes}"/>`;
}

function eventRows({ marks }: Timeline, { x }: Scale): ((y: number) => string)[] {
  const events = marks.filter(({ source }) => source === "event" || source === "agent");
  const firsts = events.filter((mark, index) => events.findIndex(({ text }) => text === mark.text) === index);
  return firsts.slice(0, MAX_EVENTS).map(({ atMs, text }) => (y) => {
    const at = x(atMs);
    const label = `${xml(text)} at ${seconds(atMs)}`;
    // To the left where there is no room to the right.
    const anchor = at > WIDTH / 2 ? `x="${round(at - 10)}" text-anchor="end"` : `x="${round(at + 10)}"`;
    return `<path d="M${at} ${y + 3}l6 6l-6 6l-6 -6z" fill="#8250df"/><text ${anchor} y="${y + 13}">${label}</text>`;
  });
}

function gapRow({ fromMs, toMs, before, after }: TimelineGap, index: number, y: number): string {
  const lines = `after <tspan class="line">${xml(quote(before.text, QUOTE_CHARS))}</tspan> until <tspan class="line">${xml(quote(after.text, QUOTE_CHARS))}</tspan>`;
  return `<text class="number" x="34" y="${y}">${index + 1}</text><text x="50" y="${y}" font-weight="600">${seconds(toMs - fromMs)}</text><text class="dim" x="${LEFT - 4}" y="${y}">${lines}</text>`;
}

function footer({ phases, omitted }: Timeline, y: number): { readonly notes: string; readonly height: number } {
  const notes = ["Times of arrival on the host since QEMU was started; a busy host makes them late."];
  if (phases.some(({ basis }) => basis === "kernel-clock")) {
    notes.push(
      "The kernel begins where its own clock was zero: at the arrival of its first lines less what it said then.",
    );
  }
  if (omitted > 0) notes.push(`${omitted} later lines are not shown.`);
  const lines = notes.map((note, index) => `<text class="dim" x="24" y="${y + 18 * index}">${xml(note)}</text>`);
  return { notes: lines.join(""), height: y + 18 * notes.length + 4 };
}

function seconds(milliseconds: number): string {
  if (milliseconds === 0) return "0 s";
  return milliseconds < 995
    ? `${Math.round(milliseconds)} ms`
    : `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 2 : 1)} s`;
}

function quote(text: string, chars: number): string {
  const line = text.trim();
  return line.length > chars ? `${line.slice(0, chars - 1)}…` : line;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Text that a guest wrote, as XML: no markup, and nothing that no XML document may have. */
function xml(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cs}\ufffe\uffff]/gu, "\ufffd")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
