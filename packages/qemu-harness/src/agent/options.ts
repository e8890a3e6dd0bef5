import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import * as z from "zod";
import type { WaitOptions } from "../internal/wait.ts";
import { numbers, texts } from "./frames.ts";
import type { GuestEnd } from "./guest-stream.ts";

/** How long {@link GuestAgent.ready} waits unless told otherwise, in `milliseconds`. */
export const DEFAULT_READY_TIMEOUT_MS = 120_000;
/** Most output that {@link GuestAgent.exec} and {@link GuestAgent.readFile} collect, in `bytes`. */
export const DEFAULT_MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** What the agent has room for. */
const MAX_ARGUMENTS = 1024;
const MAX_VARIABLES = 1000;
const KEEP = 0xffff_ffff;
const FLAG_TERMINAL = 1;
const DEFAULT_ENVIRONMENT = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
};

/** Text that the agent can be told. */
export const text = z.string().refine((value) => !value.includes("\0"), "expected text without NUL bytes");
const id = z
  .number()
  .int()
  .min(0)
  .max(KEEP - 1);
/** What is asked of a program. */
export const spawnSchema = z.strictObject({
  argv: z.array(text).min(1, "expected a program").max(MAX_ARGUMENTS),
  /** directory to start in, default `/` */
  cwd: text.default("/"),
  /** variables beside `PATH`, `HOME` and `LANG`; `undefined` removes one of those */
  env: z
    .record(
      text.refine((name) => !name.includes("="), "expected a name without ="),
      text.optional(),
    )
    .refine((env) => Object.keys(env).length <= MAX_VARIABLES, `expected at most ${MAX_VARIABLES} variables`)
    .default({}),
  /** who runs it, default whoever the agent runs as, which is root */
  user: z.strictObject({ uid: id, gid: id }).optional(),
  /** a terminal instead of pipes; standard error is then part of standard output */
  terminal: z
    .strictObject({ rows: z.number().int().min(1).max(0xffff), columns: z.number().int().min(1).max(0xffff) })
    .optional(),
});

/** How a program is started in the guest. */
export interface SpawnOptions extends Omit<z.input<typeof spawnSchema>, "argv"> {
  /** kills the program */
  readonly signal?: AbortSignal | undefined;
}

/** How a program is run to its end. */
export interface ExecOptions extends Omit<SpawnOptions, "terminal">, WaitOptions {
  /** what it reads from standard input, default nothing */
  readonly input?: string | Uint8Array | undefined;
  /** most bytes of output, default {@link DEFAULT_MAX_OUTPUT_BYTES} */
  readonly maxOutputBytes?: number | undefined;
}

/** How a program in the guest ended. */
export interface GuestExit {
  /** exit code, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** name of the signal that ended it */
  readonly signal?: NodeJS.Signals | undefined;
}

/** A program that has run to its end. */
export interface ExecResult extends GuestExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that runs in the guest. */
export interface GuestProcess extends AsyncDisposable {
  /** its id in the guest */
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** nothing comes here from a program that has a terminal */
  readonly stderr: Readable;
  /** how it ended; rejects when the machine ends first */
  readonly exit: Promise<GuestExit>;
  /** Sends a signal to the program and what it has started, default `SIGTERM`. */
  readonly kill: (signal?: NodeJS.Signals) => void;
  /** Sets the size of its terminal. */
  readonly resize: (rows: number, columns: number) => void;
}

/** How much of a file is read, and for how long. */
export interface ReadFileOptions extends WaitOptions {
  /** most bytes, default {@link DEFAULT_MAX_OUTPUT_BYTES} */
  readonly maxBytes?: number | undefined;
}

/** How a file is written. */
export interface WriteFileOptions extends WaitOptions {
  /** permissions of a file that is new, default `0o644` */
  readonly mode?: number | undefined;
}

/** What is asked of a connection. */
export const connectSchema = z.strictObject({
  port: z.number().int().min(1).max(65535),
  /** 4: `127.0.0.1`, 6: `::1` */
  family: z.union([z.literal(4), z.literal(6)]).default(4),
});

/** Which of the guest's loopback addresses a connection goes to. */
export type ConnectOptions = Omit<z.input<typeof connectSchema>, "port">;

const LOOPBACK = { 4: [127, 0, 0, 1], 6: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] } as const;

/** Encodes a request to connect. */
export function encodeConnect({ port, family }: z.output<typeof connectSchema>): Buffer {
  return Buffer.from([port & 0xff, port >> 8, ...LOOPBACK[family]]);
}

/** Encodes a request to start a program; guest/src/process.rs describes it. */
export function encodeStart(request: z.output<typeof spawnSchema>): Buffer {
  const { argv, cwd, env, user, terminal } = request;
  const environment = { ...DEFAULT_ENVIRONMENT, ...(terminal === undefined ? {} : { TERM: "xterm-256color" }), ...env };
  const variables = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  const size = Buffer.alloc(4);
  size.writeUInt16LE(terminal?.rows ?? 0, 0);
  size.writeUInt16LE(terminal?.columns ?? 0, 2);
  return Buffer.concat([
    numbers(terminal === undefined ? 0 : FLAG_TERMINAL, user?.uid ?? KEEP, user?.gid ?? KEEP),
    size,
    numbers(argv.length, variables.length),
    texts(cwd, ...argv, ...variables),
  ]);
}

/** Names the signal that ended a program. */
export function exitOf({ exitCode, signal }: GuestEnd): GuestExit {
  if (signal === undefined) return { exitCode };
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return { signal: (name ?? `SIG${signal}`) as NodeJS.Signals };
}

export const clockSchema = z.strictObject({
  /** milliseconds since 1970 */
  milliseconds: z.number().int().min(1).max(8.64e15),
});

/** Encodes a time for the agent's greeting. */
export function encodeClock(milliseconds: number): Buffer {
  const nanoseconds = Buffer.alloc(8);
  nanoseconds.writeBigUInt64LE(BigInt(milliseconds) * 1_000_000n);
  return nanoseconds;
}
