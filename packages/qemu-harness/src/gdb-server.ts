import * as z from "zod";
import { parseOptions } from "./description.ts";
import { QemuError } from "./errors.ts";
import { ignoreClosed } from "./internal/ignore-closed.ts";
import type { QmpClient } from "./qmp.ts";

const optionsSchema = z.strictObject({
  /** port of 127.0.0.1 to listen on, default a free one */
  port: z.number().int().min(1).max(65535).optional(),
});

/** Where debuggers are listened for. */
export type GdbOptions = z.input<typeof optionsSchema>;

/** A port of the host where gdb can take hold of a machine, until it is closed or the machine ends. */
export interface GdbServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Closes it, and lets the machine go on where a debugger has left it standing still. Idempotent. */
  readonly close: () => Promise<void>;
}

const HOST = "127.0.0.1";
const CHARDEV = "gdb";
/** How QEMU shows the address of a socket that listens: `disconnected:tcp:127.0.0.1:42429,server=on` */
const LISTENING = /\btcp:127\.0\.0\.1:(\d+)/;

/** What a debugger makes of a machine, which nobody else does in the meantime. */
const STOPPED: ReadonlySet<string> = new Set(["paused", "debug"]);

/** Opens and closes the gdb server of one machine. */
export class GdbServers {
  readonly #qmp: QmpClient;
  #isOpen = false;

  constructor(qmp: QmpClient) {
    this.#qmp = qmp;
  }

  async open(options: GdbOptions): Promise<GdbServer> {
    const { port } = parseOptions("gdb server", optionsSchema, options);
    if (this.#isOpen) {
      const message = "expected a machine without a gdb server, got one that is open";
      throw new QemuError("QEMU_BAD_OPTIONS", message, {
        hint: "debuggers come one after the other to the same server",
      });
    }
    // QEMU 7.2 aborts when it is given the same socket twice, so from here on there is one.
    this.#isOpen = true;
    try {
      const found = await this.#listen(port);
      let closing: Promise<void> | undefined;
      const close = async (): Promise<void> => {
        closing ??= this.#close().catch(ignoreClosed);
        await closing;
      };
      return { host: HOST, port: found, close, [Symbol.asyncDispose]: close };
    } catch (error) {
      this.#isOpen = false;
      throw error;
    }
  }

  async #listen(port: number | undefined): Promise<number> {
    const addr = { type: "inet", data: { host: HOST, port: `${port ?? 0}` } } as const;
    const backend = { type: "socket", data: { addr, server: true, wait: false } } as const;
    await this.#qmp.execute("chardev-add", { id: CHARDEV, backend }).catch((cause: unknown) => {
      if (!(cause instanceof QemuError) || cause.code !== "QEMU_QMP_COMMAND_FAILED") throw cause;
      throw new QemuError("QEMU_FORWARD_FAILED", `expected to listen for gdb, got: ${cause.message}`, {
        cause,
        hint: "another program listens on this port of the host; leave port out to get a free one",
      });
    });
    const devices = await this.#qmp.execute("query-chardev");
    const { filename = "" } = devices.find(({ label }) => label === CHARDEV) ?? {};
    const found = LISTENING.exec(filename)?.[1];
    if (found === undefined) throw new Error(`bug: a socket that listens at ${filename}`);
    await this.#monitor(`gdbserver chardev:${CHARDEV}`);
    return Number(found);
  }

  async #close(): Promise<void> {
    // The socket goes with it.
    await this.#monitor("gdbserver none");
    const { status } = await this.#qmp.execute("query-status");
    if (STOPPED.has(status)) await this.#qmp.execute("cont");
    this.#isOpen = false;
  }

  // QEMU has this only for people.
  async #monitor(line: string): Promise<void> {
    await this.#qmp.execute("human-monitor-command", { "command-line": line });
  }
}
