import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { Command, CommanderError } from "commander";
import { type CommandIo, Interruption } from "./io.ts";
import { escapeText, style } from "./text.ts";

/** Wrong usage that only shows after parsing (two options that exclude each other): exit code 2. */
export class UsageError extends Error {
  readonly code = "USAGE";
  static {
    this.prototype.name = "UsageError";
  }
}

/** What `--json` prints: one document whose shape `kind` and `version` name. */
export interface JsonEnvelope {
  readonly kind: string;
  readonly version: number;
}

/**
 * Prints one JSON document; bigints as decimal strings, byte arrays as hex. Characters that could drive a terminal are
 * written as JSON escapes, which mean the same to a program.
 */
export function writeJson<T extends JsonEnvelope>(io: CommandIo, document: T): void {
  io.stdout.write(`${renderJson(document)}\n`);
}

/** The same on one line, for commands that print several. */
export function writeJsonLine<T extends JsonEnvelope>(io: CommandIo, document: T): void {
  io.stdout.write(`${renderJson(document, 0)}\n`);
}

/**
 * A part of such a document, for one that is written piece by piece.
 *
 * @param indent - Blanks at each level; everything is on one line with 0.
 */
export function renderJson(value: unknown, indent = 2): string {
  return JSON.stringify(value, jsonValue, indent).replace(/[^\P{C}\n]/gu, jsonEscape);
}

/** What a program returns, for commands to change that say more with it, as one that compares does. */
export interface ExitCodes {
  /** when the command did its work */
  done: number;
  /** when it could not */
  failed: number;
}

/**
 * The version in the package.json above a module.
 *
 * @param moduleUrl - `import.meta.url` of a module right below the package, in `src` or `dist`.
 */
export function packageVersion(moduleUrl: string): string {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", moduleUrl), "utf8"));
  return String(version);
}

/**
 * Parses `argv`, runs the chosen subcommand and maps what happened to an exit code. With `--json` every failure is one
 * document on stdout, `{ kind: "error", version: 1, code, message, … }`.
 *
 * @param codes - What is returned instead of 0 and 1, read when the command has ended.
 * @param write - How failures are printed with `--json`: as other documents of the program are.
 * @returns 0 done, 1 failed (a coded error is printed with its hint; anything else is a bug and is printed with its
 *   stack), 2 wrong usage, 128 and the signal's number when interrupted (130 for Ctrl-C), 141 when nobody reads the output.
 */
export async function runCommand(
  program: Command,
  argv: readonly string[],
  io: CommandIo,
  codes: Readonly<ExitCodes> = { done: 0, failed: 1 },
  write: typeof writeJson = writeJson,
): Promise<number> {
  configure(program, io);
  const json = argv.includes("--json") ? write : undefined;
  const failure = await program.parseAsync(argv, { from: "user" }).then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  // A stream says in the next tick that it failed.
  await setImmediate();
  const interruption = io.signal.aborted ? interruptionOf(io.signal.reason) : undefined;
  if (interruption !== undefined && (interruption.origin !== "signal" || failure !== undefined)) {
    return reportInterruption(interruption, io, json);
  }
  return failure === undefined ? codes.done : reportFailure(failure.error, io, json, codes);
}

/** A program that calls `main` with a signal of its own may abort it with any reason. */
function interruptionOf(reason: unknown): Interruption {
  return reason instanceof Interruption ? reason : Interruption.bySignal("SIGINT");
}

/** How failures are printed with `--json`; undefined without. */
type ErrorWriter = typeof writeJson | undefined;

function reportInterruption({ origin, message, exitCode }: Interruption, io: CommandIo, json: ErrorWriter): number {
  if (origin === "signal" && json) json(io, errorDocument({ code: "INTERRUPTED", message }));
  else if (origin !== "reader") io.stderr.write(`${message}\n`);
  return exitCode;
}

function reportFailure(error: unknown, io: CommandIo, json: ErrorWriter, codes: Readonly<ExitCodes>): number {
  if (!isCommanderError(error)) {
    reportError(error, io, json);
    return error instanceof UsageError ? 2 : codes.failed;
  }
  if (error.exitCode === 0) return 0;
  // Commander itself has told the person.
  if (json) json(io, errorDocument({ code: "USAGE", message: error.message.replace(/^error: /, "") }));
  return 2;
}

function configure(command: Command, io: CommandIo): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => void io.stdout.write(text),
    writeErr: (text) => void io.stderr.write(text),
    getOutHelpWidth: () => io.stdout.columns ?? 100,
    getErrHelpWidth: () => io.stderr.columns ?? 100,
  });
  command.showSuggestionAfterError(true);
  for (const child of command.commands) configure(child, io);
}

function reportError(error: unknown, io: CommandIo, json: ErrorWriter): void {
  if (!isCodedError(error)) {
    if (json) json(io, errorDocument({ code: "BUG", message: error instanceof Error ? error.message : String(error) }));
    io.stderr.write(`${escapeText((error instanceof Error ? error.stack : undefined) ?? String(error))}\n`);
    io.stderr.write("This is a bug in leveret; please report it with the lines above.\n");
    return;
  }
  const { code, message, hint } = error;
  if (json) json(io, errorDocument({ ...error, code, message, hint }));
  else {
    // Names in images and lock files, and what builders print, end up in messages: none of it is trusted.
    const [first = "", ...rest] = escapeText(message.trimEnd()).split("\n");
    const hints = hint === undefined ? [] : escapeText(hint).split("\n");
    const label = style(io.stderr, io.env, "red", "error");
    io.stderr.write(`${label}: ${first} ${style(io.stderr, io.env, "dim", `[${escapeText(code)}]`)}\n`);
    for (const line of [...rest, ...hints]) io.stderr.write(`${indented(line)}\n`);
  }
}

function errorDocument(facts: { code: string; message: string; hint?: string | undefined }): JsonEnvelope {
  return { kind: "error", version: 1, ...facts };
}

/** Lists in messages bring their own indentation; everything else gets two blanks. */
function indented(line: string): string {
  return line === "" || line.startsWith("  ") ? line : `  ${line}`;
}

// By code and not by class: each package that is installed may bring its own copy of commander.
function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && "code" in error && String(error.code).startsWith("commander.");
}

interface CodedError extends Error {
  readonly code: string;
  readonly hint?: string;
}

// Node's own ERR_ codes mean a wrong call, which is a bug here; those of the system (ENOENT, …) are facts.
function isCodedError(error: unknown): error is CodedError {
  if (!(error instanceof Error && "code" in error && typeof error.code === "string")) return false;
  return !error.code.startsWith("ERR_");
}

/** One escape for each UTF-16 unit, as JSON has it. */
function jsonEscape(character: string): string {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex");
  if (value instanceof Error) return { message: value.message };
  return value;
}
