import { spawn } from "node:child_process";
import { once } from "node:events";
import { lstat, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import type { SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";

type Spawn = (argv: readonly string[]) => Promise<SandboxProcess>;

/** What is copied, and what calls it off. */
export interface SandboxCopyRequest {
  readonly from: string;
  /** where it goes; below that, if it is a directory that is there */
  readonly to: string;
  readonly signal?: AbortSignal | undefined;
}

/** Unpacks beside the place and moves it there; $1 is the place, $2 the name in the archive. */
const TAKE = `
set -e
trap 'exit 1' HUP INT TERM
to=$1
test ! -d "$to" || to=$to/$2
mkdir -p -- "$(dirname -- "$to")"
new=$(mktemp -d -- "$(dirname -- "$to")/.copy-XXXXXXXX")
trap 'rm -rf -- "$new"' EXIT
tar -x --no-same-owner -C "$new" -f -
mv -T -- "$new/$2" "$to"
`;
/** Packs what is at $1. */
const GIVE = 'exec tar -c -C "$(dirname -- "$1")" -f - -- "$(basename -- "$1")"';

/**
 * Copies a file or a directory of the host into a sandbox: all of it, or nothing. It belongs to root there.
 *
 * @throws {SandboxError} `SANDBOX_FILE`, `SANDBOX_MISSING_TOOLS`, `SANDBOX_ENDED`; the signal's reason.
 */
export async function copyIn(spawnInside: Spawn, { from, to, signal }: SandboxCopyRequest): Promise<void> {
  const source = resolve(from);
  await lstat(source).catch((cause: NodeJS.ErrnoException) => {
    throw fileError(`expected a file or a directory, got ${cause.code}`, source, cause);
  });
  const name = basename(source);
  const program = await spawnInside(["/bin/sh", "-c", TAKE, "sh", to, name]);
  const tar = hostTar(["-c", "-C", dirname(source), "-f", "-", "--", name], signal);
  try {
    const [, said] = await Promise.all([
      // Whoever ends early says why.
      pipeline(tar.child.stdout, program.stdin).catch(() => {}),
      text(program.stderr),
      program.stdout.resume(),
      tar.end,
    ]);
    expectEnd(await program.exit, said, to);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    tar.child.kill("SIGKILL");
    program.close();
  }
}

/**
 * Copies a file or a directory of a sandbox to the host: all of it, or nothing. Only files, directories and links come
 * over, without owners and special permissions.
 *
 * @throws As {@link copyIn}.
 */
export async function copyOut(spawnInside: Spawn, { from, to, signal }: SandboxCopyRequest): Promise<void> {
  const name = basename(from);
  if (name === "" || name === "." || name === "..") throw fileError("expected the path of something with a name", from);
  const given = resolve(to);
  const isDirectory = await lstat(given).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const target = isDirectory ? join(given, name) : given;
  await mkdir(dirname(target), { recursive: true });
  const beside = await mkdtemp(join(dirname(target), ".copy-"));
  const program = await spawnInside(["/bin/sh", "-c", GIVE, "sh", from]);
  const options = ["--no-same-owner", "--no-same-permissions", "--delay-directory-restore"];
  const tar = hostTar(["-x", ...options, "-C", beside, "-f", "-"], signal);
  try {
    program.stdin.end();
    const [, said, unpacked] = await Promise.all([
      pipeline(program.stdout, tar.child.stdin).catch(() => {}),
      text(program.stderr),
      tar.end.catch((error: unknown) => error),
    ]);
    expectEnd(await program.exit, said, from);
    if (unpacked !== undefined) throw unpacked;
    await expectHarmless(join(beside, name));
    await rename(join(beside, name), target).catch((cause: NodeJS.ErrnoException) => {
      throw fileError(`expected to replace what is there, got ${cause.code}`, target, cause);
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    tar.child.kill("SIGKILL");
    program.close();
    await rm(beside, { recursive: true, force: true });
  }
}

/** The host's own tar(1), which puts no link in the way of what it unpacks later. */
function hostTar(argv: readonly string[], signal: AbortSignal | undefined) {
  const child = spawn("tar", argv, { stdio: ["pipe", "pipe", "pipe"], signal });
  child.stdin.on("error", () => {});
  const end = (async () => {
    const said = text(child.stderr);
    const [exitCode] = (await once(child, "close").catch((cause: NodeJS.ErrnoException) => {
      signal?.throwIfAborted();
      throw new SandboxError("SANDBOX_MISSING_TOOLS", `expected tar, got ${cause.code}`, { cause });
    })) as [number | null];
    if (exitCode !== 0) throw new SandboxError("SANDBOX_FILE", `expected tar to end well, got: ${(await said).trim()}`);
  })();
  end.catch(() => {});
  return { child, end };
}

function expectEnd({ exitCode }: { readonly exitCode?: number | undefined }, said: string, path: string): void {
  if (exitCode === 0) return;
  throw fileError(`expected to get at a file of the sandbox, got: ${said.trim().split("\n").at(-1)}`, path);
}

/** What a guest has packed may be anything; what is a device or a pipe on the host is no copy of it. */
async function expectHarmless(path: string): Promise<void> {
  const found = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    throw fileError("expected what was asked for, got something else", path, cause);
  });
  if (found.isFile() || found.isSymbolicLink()) return;
  if (!found.isDirectory()) throw fileError("expected files, directories and links, got something else", path);
  for (const name of await readdir(path)) await expectHarmless(join(path, name));
}

function fileError(message: string, path: string, cause?: unknown): SandboxError {
  return new SandboxError("SANDBOX_FILE", `${message}: ${path}`, { path, cause });
}
