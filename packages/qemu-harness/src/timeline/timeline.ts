/** Something that a machine said, or that happened to it. */
export interface TimelineMark {
  /** when this process got to know, in `milliseconds` since it started QEMU; of a line, its first character */
  readonly atMs: number;
  /** `qemu` is a step of the start, `event` one of QMP */
  readonly source: "qemu" | "console" | "event" | "agent";
  /** name of the console or the event */
  readonly name: string;
  /** the line, without escape sequences, at most 200 characters */
  readonly text: string;
}

/** Parts of a boot, in their order. */
export type TimelinePhaseName = "qemu" | "firmware" | "boot loader" | "kernel" | "initrd" | "userspace" | "continued";

/** A part of a boot. */
export interface TimelinePhase {
  readonly name: TimelinePhaseName;
  readonly fromMs: number;
  /** where the next phase begins; of the last one, the last mark */
  readonly toMs: number;
  /**
   * how its beginning was found: when a line `arrived` that says so, or by the `kernel-clock`, which tells how long the
   * kernel had been running when it opened its console
   */
  readonly basis: "arrival" | "kernel-clock";
  /** what says that it began */
  readonly evidence: string;
}

/** A time in which nothing came from a machine. */
export interface TimelineGap {
  readonly fromMs: number;
  readonly toMs: number;
  /** what came before it, and after it */
  readonly before: TimelineMark;
  readonly after: TimelineMark;
}

/** Where the time of a boot went, as seen from this process. */
export interface Timeline {
  /** name of the machine */
  readonly machine: string;
  /** time of the last mark */
  readonly totalMs: number;
  readonly phases: readonly TimelinePhase[];
  /** the longest silences, the longest first */
  readonly gaps: readonly TimelineGap[];
  /** the earliest first */
  readonly marks: readonly TimelineMark[];
  /** how many later marks were not remembered */
  readonly omitted: number;
}

/** What {@link buildTimeline} has to know beside the marks. */
export interface TimelineContext {
  readonly machine: string;
  /** how the guest begins: from firmware, with a kernel that QEMU loads, or where a template ended */
  readonly start: "firmware" | "kernel" | "template";
  /** whether a second of the guest is one of the host */
  readonly realTime: boolean;
  readonly omitted: number;
}

/** How many gaps are told. */
const MAX_GAPS = 5;
/** Shorter silences are none, in `milliseconds`. */
const MIN_GAP_MS = 50;
/** How long after its first line a kernel's clock is read: later it may have gone wrong by something. */
const CLOCK_WINDOW_MS = 1000;

const KERNEL_TIME = /^\[ *(\d+)\.(\d{6})\]/;

/** What lines begin a phase; the later ones win. */
const BEGINNINGS: readonly (readonly [TimelinePhaseName, RegExp])[] = [
  ["boot loader", /^BdsDxe: starting Boot|^Booting from (?!ROM)|\bGRUB\b|\bsystemd-boot\b/],
  ["kernel", /^EFI stub: |\bLinux version \d|^\[ *\d+\.\d{6}\]/],
  ["initrd", /\bRun \/(init|leveret\/\S+) as init process|\bRunning in initrd\b/],
  ["userspace", /\bRun \/(?!init as|leveret)\S+ as init process|\bSwitching root\b|\bSwitch Root\b/],
];

const KERNEL = BEGINNINGS.findIndex(([name]) => name === "kernel");

/**
 * Finds the phases and the silences of a boot. Pure.
 *
 * @param marks - The earliest first.
 * @param context - What of it the marks do not say.
 */
export function buildTimeline(marks: readonly TimelineMark[], context: TimelineContext): Timeline {
  const { machine, omitted } = context;
  const totalMs = marks.at(-1)?.atMs ?? 0;
  return { machine, totalMs, phases: findPhases(marks, context, totalMs), gaps: findGaps(marks), marks, omitted };
}

type Beginning = Omit<TimelinePhase, "toMs">;

function findPhases(marks: readonly TimelineMark[], context: TimelineContext, totalMs: number): TimelinePhase[] {
  const found: Beginning[] = [{ name: "qemu", fromMs: 0, basis: "arrival", evidence: "QEMU was started" }];
  const running = marks.find(({ source }) => source === "qemu");
  if (running !== undefined) found.push({ ...firstPhase(marks, context), fromMs: running.atMs, basis: "arrival" });
  let rank = -1;
  for (const mark of context.start === "template" ? [] : marks) {
    if (mark.source !== "console") continue;
    const next = phaseOf(mark.text);
    if (next <= rank) continue;
    rank = next;
    const [name] = BEGINNINGS[next] as (typeof BEGINNINGS)[number];
    if (name === found.at(-1)?.name) continue;
    const clock = name === "kernel" && context.realTime ? kernelStart(marks, mark.atMs) : undefined;
    const earliest = found.at(-1)?.fromMs ?? 0;
    const fromMs = Math.min(mark.atMs, Math.max(earliest, clock ?? mark.atMs));
    found.push({ name, fromMs, basis: clock === undefined ? "arrival" : "kernel-clock", evidence: mark.text });
  }
  return found.map((phase, index) => ({ ...phase, toMs: found[index + 1]?.fromMs ?? Math.max(totalMs, phase.fromMs) }));
}

/** What a guest begins with; also a kernel that QEMU loads is started by firmware, which can be told if it speaks. */
function firstPhase(marks: readonly TimelineMark[], { start }: TimelineContext): Pick<Beginning, "name" | "evidence"> {
  if (start === "template") return { name: "continued", evidence: "the template was continued" };
  const isSilent = !marks.some(({ source, text }) => source === "console" && phaseOf(text) === KERNEL);
  if (start === "kernel" && isSilent) return { name: "kernel", evidence: "QEMU has loaded the kernel" };
  return { name: "firmware", evidence: "the machine runs" };
}

/** Place in {@link BEGINNINGS} of the phase that a line begins, or -1. */
function phaseOf(line: string): number {
  return BEGINNINGS.findLastIndex(([, pattern]) => pattern.test(line));
}

/** When a kernel's clock was zero: lines arrive late, never early. */
function kernelStart(marks: readonly TimelineMark[], firstMs: number): number | undefined {
  const starts = marks.flatMap(({ atMs, text }) => {
    const time = KERNEL_TIME.exec(text);
    if (time === null || atMs < firstMs || atMs > firstMs + CLOCK_WINDOW_MS) return [];
    return [atMs - (Number(time[1]) * 1000 + Number(time[2]) / 1000)];
  });
  return starts.length === 0 ? undefined : Math.min(...starts);
}

function findGaps(marks: readonly TimelineMark[]): TimelineGap[] {
  // QEMU has events for what devices do while the software says nothing.
  const said = marks.filter(({ source }) => source !== "event");
  const gaps = said.slice(1).map((after, index) => {
    const before = said[index] ?? after;
    return { fromMs: before.atMs, toMs: after.atMs, before, after };
  });
  return gaps
    .filter(({ fromMs, toMs }) => toMs - fromMs >= MIN_GAP_MS)
    .sort((a, b) => b.toMs - b.fromMs - (a.toMs - a.fromMs))
    .slice(0, MAX_GAPS);
}
