import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { Duplex } from "node:stream";
import { QmpClient, type QmpOptions } from "../src/index.ts";

/** A QEMU to test with; `missing` says why there is none. */
export interface TestQemu {
  readonly name: string;
  readonly path: string;
  readonly missing: string;
}

/**
 * The installed QEMU, and those of later Debian releases that `npm test` unpacks, in LEVERET_QEMU_10 and LEVERET_QEMU_11.
 * One that is missing skips its tests with that reason in their title; with REQUIRE_ORACLES=1 it is a failure, but for
 * QEMU 11, which Debian has in its backports only.
 */
export function testQemus(): TestQemu[] {
  const paths = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "qemu-system-x86_64"));
  const { LEVERET_QEMU_10 = "", LEVERET_QEMU_11 = "" } = process.env;
  const qemus = [
    { name: "the installed QEMU", path: paths.find(isExecutable) ?? "", variable: "PATH" },
    { name: "QEMU 10", path: LEVERET_QEMU_10, variable: "LEVERET_QEMU_10" },
    { name: "QEMU 11", path: LEVERET_QEMU_11, variable: "LEVERET_QEMU_11" },
  ];
  return qemus.map(({ name, path, variable }) => {
    const missing = isExecutable(path) ? "" : `no such program in ${variable}`;
    if (missing !== "" && name !== "QEMU 11" && process.env.REQUIRE_ORACLES === "1")
      throw new Error(`${name}: ${missing}`);
    return { name: missing === "" ? name : `${name} (skipped, ${missing})`, path, missing };
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return path !== "";
  } catch {
    return false;
  }
}

/** A QEMU without a machine, and its control connection, which nobody has used yet. */
export interface EmptyQemu extends AsyncDisposable {
  readonly stream: Duplex;
}

/** Starts a QEMU without a machine. */
export function startEmptyQemu(path: string): EmptyQemu {
  const monitor = ["-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"];
  const args = ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", ...monitor];
  const child = spawn(path, args, { stdio: ["ignore", "ignore", "ignore", "pipe"] });
  const ended = once(child, "close");
  const stream = child.stdio[3] as Duplex;
  stream.on("error", () => {});
  return {
    stream,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Starts a QEMU without a machine and connects to it. */
export async function connectEmptyQemu(
  path: string,
  options: QmpOptions = {},
): Promise<{ qmp: QmpClient } & AsyncDisposable> {
  const qemu = startEmptyQemu(path);
  try {
    const qmp = await QmpClient.connect(qemu.stream, options);
    return { qmp, [Symbol.asyncDispose]: () => qemu[Symbol.asyncDispose]() };
  } catch (error) {
    await qemu[Symbol.asyncDispose]();
    throw error;
  }
}
