import type { CommandIo } from "./io.ts";
import { formatBytes, formatDuration } from "./text.ts";

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

/** Draws progress: one line that rewrites itself on a terminal, one line per finished step elsewhere. */
export interface Progress {
  readonly update: (event: ProgressEvent) => void;
  /** ends the current step and prints its duration */
  readonly finish: () => void;
}

const REDRAW_INTERVAL_MS = 80;
const TICK_INTERVAL_MS = 1000;

/** Starts drawing on `io.stderr`; call `finish` when done, also after a failure. */
export function startProgress(io: CommandIo): Progress {
  const terminal = io.stderr.isTTY === true;
  let current: ProgressEvent | undefined;
  let startedAt = 0;
  let drawnAt = 0;

  const draw = (): void => {
    if (current === undefined || !terminal) return;
    drawnAt = Date.now();
    const line = describe(current, drawnAt - startedAt);
    io.stderr.write(`\r\u001b[2K${line.slice(0, (io.stderr.columns ?? 100) - 1)}`);
  };
  // A step that says nothing for a while still shows that time passes.
  const ticker = terminal ? setInterval(draw, TICK_INTERVAL_MS) : undefined;
  ticker?.unref();

  const endStep = (): void => {
    if (current === undefined) return;
    const took = formatDuration(Date.now() - startedAt);
    const { step, total, totalBytes } = current;
    const amount = [total === undefined ? "" : `${total}`, totalBytes === undefined ? "" : formatBytes(totalBytes)];
    const detail = amount.filter((part) => part !== "").join(", ");
    io.stderr.write(`${terminal ? "\r\u001b[2K" : ""}  ${step}${detail === "" ? "" : ` (${detail})`}: ${took}\n`);
    current = undefined;
  };

  return {
    update(event) {
      if (current?.step !== event.step) {
        endStep();
        startedAt = Date.now();
        drawnAt = 0;
      }
      current = event;
      if (Date.now() - drawnAt >= REDRAW_INTERVAL_MS) draw();
    },
    finish() {
      clearInterval(ticker);
      endStep();
    },
  };
}

function describe(event: ProgressEvent, elapsedMs: number): string {
  const parts = [event.step];
  if (event.done !== undefined)
    parts.push(event.total === undefined ? `${event.done}` : `${event.done}/${event.total}`);
  if (event.doneBytes !== undefined) {
    const total = event.totalBytes === undefined ? "" : ` of ${formatBytes(event.totalBytes)}`;
    parts.push(`${formatBytes(event.doneBytes)}${total}`);
  }
  parts.push(formatDuration(elapsedMs));
  return `  ${parts.join(" · ")}${event.item === undefined ? "" : ` · ${event.item}`}`;
}
