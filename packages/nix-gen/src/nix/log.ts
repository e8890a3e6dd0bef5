/** One message of Nix's `--log-format internal-json`, as far as it is of use here. */
export type NixLogEvent =
  | { readonly kind: "start"; readonly id: number; readonly activity: NixActivity; readonly subject: string }
  | { readonly kind: "stop"; readonly id: number }
  | { readonly kind: "line"; readonly id: number; readonly text: string }
  | { readonly kind: "progress"; readonly id: number; readonly done: number; readonly expected: number }
  | { readonly kind: "message"; readonly level: number; readonly text: string };

/** What an activity is; `other` for those that only structure Nix's own display. */
export type NixActivity = "build" | "transfer" | "other";

// Numbers of Nix 2.8 `src/libutil/logging.hh`, ActivityType and ResultType; the same in 2.26.
const ACTIVITIES = new Map<unknown, NixActivity>([
  [101, "transfer"],
  [105, "build"],
]);
const RESULT_BUILD_LOG_LINE = 101;
const RESULT_PROGRESS = 105;

const PREFIX = "@nix ";

/**
 * Decodes one line of Nix's standard error; lines that are no log message are messages of level 0, so that nothing an
 * error says is lost.
 *
 * @param line - One line without its end.
 * @returns The event, or undefined for messages that are of no use here.
 */
export function decodeNixLogLine(line: string): NixLogEvent | undefined {
  if (!line.startsWith(PREFIX)) return line === "" ? undefined : { kind: "message", level: 0, text: stripAnsi(line) };
  let value: unknown;
  try {
    value = JSON.parse(line.slice(PREFIX.length));
  } catch {
    return { kind: "message", level: 0, text: stripAnsi(line) };
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { action, id, type, level, msg, fields, text } = value as Record<string, unknown>;
  if (action === "msg") return { kind: "message", level: Number(level), text: stripAnsi(String(msg)) };
  if (typeof id !== "number") return undefined;
  const values = Array.isArray(fields) ? fields : [];
  if (action === "start") {
    return { kind: "start", id, activity: ACTIVITIES.get(type) ?? "other", subject: String(values[0] ?? text ?? "") };
  }
  if (action === "stop") return { kind: "stop", id };
  if (action !== "result") return undefined;
  if (type === RESULT_BUILD_LOG_LINE) return { kind: "line", id, text: stripAnsi(String(values[0] ?? "")) };
  if (type === RESULT_PROGRESS) {
    return { kind: "progress", id, done: Number(values[0] ?? 0), expected: Number(values[1] ?? 0) };
  }
  return undefined;
}

function stripAnsi(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
  return text.replace(/\u001b\[[0-9;]*[A-Za-z]/g, "");
}
