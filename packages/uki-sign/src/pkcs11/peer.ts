import { spawn } from "node:child_process";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { connect } from "node:net";
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { UkiSignError } from "../errors.ts";
import type { Peer } from "./connection.ts";

/** How much of what p11-kit prints is kept, in characters. */
const MAX_COMPLAINT = 4096;

/** How long p11-kit may take to end, in `milliseconds`. */
const EXIT_MS = 2000;

/** Connects to the socket of a `p11-kit server`. */
export async function connectServer(path: string): Promise<Peer> {
  const stream = connect(path);
  try {
    await once(stream, "connect");
  } catch (cause) {
    throw unreachable(`a p11-kit server at ${path}`, cause);
  }
  return { stream };
}

/** Starts `p11-kit remote`, which ends with the stream. All its tokens are there, or those of one module. */
export async function startRemote(modulePath: string | undefined): Promise<Peer> {
  if (modulePath !== undefined) await requireModule(modulePath);
  const argv = ["remote", modulePath ?? "pkcs11:"];
  const child = spawn("p11-kit", argv, { stdio: ["pipe", "pipe", "pipe"] });
  const exited = once(child, "close").catch(() => {});
  try {
    await once(child, "spawn");
  } catch (cause) {
    throw unreachable("the program p11-kit", cause);
  }
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-MAX_COMPLAINT);
  });
  return {
    stream: Duplex.from({ readable: child.stdout, writable: child.stdin }),
    async complaint() {
      await within(EXIT_MS, exited);
      if (complaint.trim() !== "" || modulePath === undefined) return complaint.trim();
      return `the end of the connection: ${modulePath} may be no PKCS#11 module that it can load`;
    },
    async close() {
      if (!(await within(EXIT_MS, exited))) child.kill("SIGKILL");
    },
  };
}

/** Refuses what p11-kit would fail to load without a word. */
async function requireModule(path: string): Promise<void> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => error);
  if (!(found instanceof Error) && found.isFile()) return;
  const got = !(found instanceof Error) ? "something else" : found.code === "ENOENT" ? "none" : found.message;
  throw new UkiSignError("UKI_SIGN_PKCS11", `expected a PKCS#11 module at ${path}, got ${got}`, {
    path,
    hint: "module-path in the URI names a shared library; without it the modules of p11-kit list-modules are used",
  });
}

/** Whether something happens in time. */
async function within(timeoutMs: number, event: Promise<unknown>): Promise<boolean> {
  const late = new AbortController();
  const timeout = sleep(timeoutMs, false, { signal: late.signal }).catch(() => false);
  const happened = await Promise.race([event.then(() => true), timeout]);
  late.abort();
  return happened;
}

function unreachable(what: string, cause: unknown): UkiSignError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new UkiSignError("UKI_SIGN_PKCS11", `expected ${what}, got ${reason}`, {
    cause,
    hint: "keys on tokens are used through p11-kit: install the package p11-kit, and the token's PKCS#11 module",
  });
}
