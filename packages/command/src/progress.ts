import type { CommandIo } from "./io.ts";
import { cutToWidth, formatBytes, formatDuration, plainLine, style } from "./text.ts";

/** One observation of a long step; libraries report these, only command lines draw them. */
export interface ProgressEvent {
  /** what is being done, as a person would say it: `downloading packages` */
  readonly step: string;
  /** the one thing in hand: a package, a derivation, a file */
  readonly item?: string | undefined;
  /** items finished */
  readonly done?: number | undefined;
  /** items in all */
  readonly total?: number | undefined;
  /** bytes finished */
  readonly doneBytes?: number | undefined;
  /** bytes in all */
  readonly totalBytes?: number | undefined;
}

/** Draws progress: one line that rewrites itself on a terminal, and everywhere one line per finished step. */
export interface Progress {
  readonly update: (event: ProgressEvent) => void;
  /** ends every step and prints how long it took; whatever is reported later is ignored */
  readonly finish: () => void;
}

const REDRAW_INTERVAL_MS = 80;
const TICK_INTERVAL_MS = 1000;
/** How long a step that another one has taken over from may still go on, in `milliseconds`: two of them can overlap. */
const LINGER_MS = 2000;
const TIME_WIDTH = 11;
const BAR_WIDTH = 16;
/** Width of a terminal that does not say how wide it is, in `characters`. */
const DEFAULT_COLUMNS = 80;
/** Terminals narrower than this get no bar, in `characters`. */
const MIN_BAR_COLUMNS = 60;
const CLEAR_LINE = "\r\u001b[2K";

interface Step {
  event: ProgressEvent;
  readonly startedAt: number;
  /** when another step reported; undefined while this one is in hand */
  pausedAt: number | undefined;
}

/** Starts drawing on `io.stderr`; call `finish` when done, also after a failure. */
export function startProgress(io: CommandIo): Progress {
  const terminal = io.stderr.isTTY === true;
  const steps = new Map<string, Step>();
  const ended = new Set<string>();
  let current: Step | undefined;
  let drawnAt = 0;
  let finished = false;

  const draw = (): void => {
    if (current === undefined || !terminal) return;
    drawnAt = Date.now();
    const columns = io.stderr.columns || DEFAULT_COLUMNS;
    const line = liveLine(current.event, drawnAt - current.startedAt, columns);
    io.stderr.write(`${CLEAR_LINE}${cutToWidth(line, columns - 1)}`);
  };
  // A step that says nothing for a while still shows that time passes.
  const ticker = terminal ? setInterval(draw, TICK_INTERVAL_MS) : undefined;
  ticker?.unref();

  const end = ({ event, startedAt, pausedAt = Date.now() }: Step): void => {
    steps.delete(event.step);
    ended.add(event.step);
    const time = style(io.stderr, io.env, "dim", formatDuration(pausedAt - startedAt).padStart(TIME_WIDTH));
    io.stderr.write(
      `${terminal ? CLEAR_LINE : ""}${time}  ${[plainLine(event.step), ...amounts(event)].join(" · ")}\n`,
    );
  };

  return {
    update(event) {
      // What is complete and has been printed may be reported once more, when nothing else is in hand.
      if (finished || (ended.has(event.step) && fraction(event) === 1)) return;
      const now = Date.now();
      const step = steps.get(event.step) ?? { event, startedAt: now, pausedAt: undefined };
      const taken = current !== step;
      step.event = event;
      step.pausedAt = undefined;
      steps.set(event.step, step);
      current = step;
      for (const other of [...steps.values()]) {
        if (other === step) continue;
        other.pausedAt ??= now;
        if (now - other.pausedAt >= LINGER_MS) end(other);
      }
      if (taken || now - drawnAt >= REDRAW_INTERVAL_MS) draw();
    },
    finish() {
      if (finished) return;
      finished = true;
      clearInterval(ticker);
      for (const step of [...steps.values()]) end(step);
    },
  };
}

/**
 * Runs something long while its progress is drawn, and ends the drawing whatever happens.
 *
 * @param run - Gets the function that its progress is reported to.
 * @param options - `terminalOnly`: for steps so short that a log has no use for them, draw nothing elsewhere.
 */
export async function withProgress<T>(
  io: CommandIo,
  run: (onProgress: Progress["update"]) => Promise<T>,
  options: { readonly terminalOnly?: boolean } = {},
): Promise<T> {
  if (options.terminalOnly === true && io.stderr.isTTY !== true) return run(() => {});
  const progress = startProgress(io);
  try {
    return await run(progress.update);
  } finally {
    progress.finish();
  }
}

function liveLine(event: ProgressEvent, elapsedMs: number, columns: number): string {
  const share = fraction(event);
  const bar = share === undefined || columns < MIN_BAR_COLUMNS ? "" : ` ${drawBar(share)}`;
  const item = event.item === undefined ? [] : [plainLine(event.item)];
  const parts = [`${plainLine(event.step)}${bar}`, ...amounts(event), ...item];
  return `${formatDuration(elapsedMs).padStart(TIME_WIDTH)}  ${parts.join(" · ")}`;
}

function amounts({ done, total, doneBytes, totalBytes }: ProgressEvent): string[] {
  return [of(done, total, String), of(doneBytes, totalBytes, formatBytes)].filter((text) => text !== "");
}

/** `3 of 7`; `7` when that is all there are. */
function of(done: number | undefined, total: number | undefined, format: (value: number) => string): string {
  if (done === undefined) return "";
  const [part, whole] = [format(done), format(total ?? done)];
  return part === whole ? part : `${part} of ${whole}`;
}

function fraction({ done, total, doneBytes, totalBytes }: ProgressEvent): number | undefined {
  const [part, whole] = totalBytes === undefined ? [done, total] : [doneBytes, totalBytes];
  return part === undefined || whole === undefined || whole <= 0 ? undefined : Math.min(1, Math.max(0, part / whole));
}

function drawBar(share: number): string {
  const filled = Math.round(share * BAR_WIDTH);
  return "━".repeat(filled) + "─".repeat(BAR_WIDTH - filled);
}
