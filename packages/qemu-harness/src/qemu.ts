// Environment read: LEVERET_QEMU, PATH.
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { QemuError } from "./errors.ts";
import { factOf } from "./snapshot/digest.ts";

/** Version of a QEMU program. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** A QEMU program that was found and asked for its version. */
export interface Qemu {
  /** absolute path */
  readonly path: string;
  readonly version: QemuVersion;
  /** first line of `--version`, with the distributor's own version */
  readonly versionText: string;
}

/** Where {@link findQemu} looks. */
export interface FindQemuOptions {
  /** program to use; nothing else is then looked at */
  readonly path?: string | undefined;
  /** environment, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** Oldest QEMU this package works with. */
export const MINIMUM_QEMU_VERSION: QemuVersion = { major: 7, minor: 2, micro: 0 };

const PROGRAM = "qemu-system-x86_64";
const VERSION = /^QEMU emulator version (\d+)\.(\d+)\.(\d+)/;
const VERSION_TIMEOUT_MS = 20_000;

/**
 * Finds QEMU: the `path` option, else the variable `LEVERET_QEMU`, else `qemu-system-x86_64` in `PATH`.
 *
 * @param options - Where to look.
 * @returns The program and its version, which is remembered in the user's cache for as long as the file is the same.
 * @throws {QemuError} `QEMU_NOT_FOUND` when there is none or it does not answer as QEMU does, `QEMU_TOO_OLD` below 7.2.
 * @example
 * const { path, versionText } = await findQemu();
 */
export async function findQemu(options: FindQemuOptions = {}): Promise<Qemu> {
  const env = options.env ?? process.env;
  const chosen = options.path ?? nonEmpty(env.LEVERET_QEMU);
  const path = chosen === undefined ? await findProgram(PROGRAM, env) : resolve(chosen);
  if (path === undefined || !(await isExecutable(path))) {
    throw new QemuError("QEMU_NOT_FOUND", `expected a QEMU program, got none at ${path ?? `${PROGRAM} in PATH`}`, {
      hint: "install it (Debian: apt install qemu-system-x86) or name it with LEVERET_QEMU",
      path,
      searched: chosen === undefined ? searchPath(env) : [chosen],
    });
  }
  return versionOf(path, env);
}

async function versionOf(path: string, env: Readonly<Record<string, string | undefined>>): Promise<Qemu> {
  // It takes longer to say than a machine to be forked.
  const versionText = await factOf(await stat(path, { bigint: true }), "version", () => askVersion(path), { env });
  const match = VERSION.exec(versionText) ?? [];
  const version = { major: Number(match[1]), minor: Number(match[2]), micro: Number(match[3]) };
  const minimum = MINIMUM_QEMU_VERSION;
  if (version.major < minimum.major || (version.major === minimum.major && version.minor < minimum.minor)) {
    throw new QemuError(
      "QEMU_TOO_OLD",
      `expected QEMU ${renderVersion(minimum)} or newer, got ${renderVersion(version)} at ${path}`,
      {
        hint: "install a newer QEMU or name one with LEVERET_QEMU",
        path,
      },
    );
  }
  return { path, version, versionText };
}

async function askVersion(path: string): Promise<string> {
  const answer = await runVersion(path);
  const versionText = answer.stdout.split("\n", 1)[0] ?? "";
  if (VERSION.test(versionText)) return versionText;
  throw new QemuError(
    "QEMU_NOT_FOUND",
    `expected "QEMU emulator version …" from ${path} --version, got "${versionText}"`,
    {
      path,
      stderrTail: answer.stderr.slice(-4096),
      exitCode: answer.exitCode,
    },
  );
}

async function runVersion(path: string): Promise<{ stdout: string; stderr: string; exitCode: number | undefined }> {
  return new Promise((done) => {
    execFile(path, ["--version"], { timeout: VERSION_TIMEOUT_MS }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      done({ stdout, stderr, exitCode: typeof code === "number" ? code : undefined });
    });
  });
}

/** `7.2.22`. */
function renderVersion({ major, minor, micro }: QemuVersion): string {
  return `${major}.${minor}.${micro}`;
}

/** First executable file called `program` in the PATH of `env`, absolute. */
export async function findProgram(
  program: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  for (const directory of searchPath(env)) {
    const candidate = join(directory, program);
    if (await isExecutable(candidate)) return candidate;
  }
  return undefined;
}

function searchPath(env: Readonly<Record<string, string | undefined>>): string[] {
  return (env.PATH ?? "").split(delimiter).filter((directory) => isAbsolute(directory));
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}
