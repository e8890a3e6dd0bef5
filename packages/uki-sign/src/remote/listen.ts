import { randomBytes } from "node:crypto";
import { chmod, lstat, rename, rm } from "node:fs/promises";
import { createConnection, type Server } from "node:net";
import { UkiSignError } from "../errors.ts";

/** Where a server listens: on a network, or at a UNIX socket. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

/** Starts to listen; a UNIX socket is for its owner only, and takes the place of one that a killed server left. */
export async function listen(server: Server, place: Place): Promise<void> {
  try {
    try {
      await bind(server, place);
    } catch (error) {
      if (!("path" in place) || !(await removeStale(place.path))) throw error;
      await bind(server, place);
    }
    // Until here a token was all that it took.
    if ("path" in place) await chmod(place.path, 0o600);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UkiSignError("UKI_SIGN_REMOTE", `expected an address to listen at, got ${reason}`, { cause });
  }
}

function bind(server: Server, place: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(place, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Removes a socket that nobody listens at; whether there was one. */
async function removeStale(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket() || (await isAlive(path))) return false;
  // Looked at once more under a name that nobody else can have taken over in between.
  const aside = `${path}.${randomBytes(4).toString("hex")}`;
  await rename(path, aside);
  if (await isAlive(aside)) {
    await rename(aside, path);
    return false;
  }
  await rm(aside);
  return true;
}

function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const end = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", () => end(true));
    // Anything but this means that somebody may be there: too busy, or not for us.
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code !== "ECONNREFUSED"));
  });
}
