import { QemuError } from "../errors.ts";
import type { QmpClient } from "../qmp.ts";
import type { WaitOptions } from "./wait.ts";

/** Memory that stands in a file is left there; and migrations say when they end. */
const CAPABILITIES = {
  capabilities: [
    { capability: "x-ignore-shared", state: true },
    { capability: "events", state: true },
  ],
} as const;

/** In `bytes` a second: nobody else wants the way to a file, which QEMU holds back for a network's sake otherwise. */
const BANDWIDTH = 2 ** 40;

/**
 * Writes the state of a stopped machine's devices to a file.
 *
 * @param descriptor - File of this process, which the shell that QEMU runs opens by its number.
 * @throws {QemuError} `QEMU_TEMPLATE_FAILED` with QEMU's reason, for example a device that cannot be saved.
 * @see QEMU, docs/devel/migration/main, "Transports"
 */
export async function saveState(qmp: QmpClient, descriptor: number, options: WaitOptions): Promise<void> {
  const uri = `exec:cat > /proc/${process.pid}/fd/${descriptor}`;
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": BANDWIDTH }, options);
  try {
    const status = await migrate(qmp, "migrate", uri, options);
    await untilReleased(qmp, options);
    if (status === "completed") return;
  } catch (error) {
    if (!(error instanceof QemuError) || error.code !== "QEMU_QMP_COMMAND_FAILED") throw error;
    throw failed(error.message, error);
  }
  const { "error-desc": reason = "no reason" } = await qmp.execute("query-migrate", {}, options);
  throw failed(reason);
}

/**
 * Gives a machine that waits for it the state of a template, and lets it run.
 *
 * @param descriptor - File that QEMU has inherited under this number.
 * @throws {QemuError} `QEMU_QMP_CLOSED` when QEMU does not take the state: it ends then, and says why.
 */
export async function restoreState(qmp: QmpClient, descriptor: number, options: WaitOptions): Promise<void> {
  const { major, minor } = qmp.greeting.version;
  // `file` came with 8.2, and `fd` of a file went with 11.
  const hasFiles = major > 8 || (major === 8 && minor >= 2);
  const uri = hasFiles ? `file:/dev/fd/${descriptor}` : `fd:${descriptor}`;
  const status = await migrate(qmp, "migrate-incoming", uri, options);
  if (status !== "completed") throw failed("a state that QEMU did not take");
  await qmp.execute("cont", {}, options);
}

/**
 * Waits until QEMU has closed what the state went to, which is a moment after it says that it has ended: not all of it need
 * be there before, nor can the machine go on. No event says so, but what it could be made to drop is gone then.
 *
 * @see QEMU, docs/interop/qemu-qmp-ref, "query-yank"
 */
async function untilReleased(qmp: QmpClient, options: WaitOptions): Promise<void> {
  for (;;) {
    const instances = await qmp.execute("query-yank", {}, options);
    if (!instances.some(({ type }) => type === "migration")) return;
  }
}

/** Runs a migration to its end, and returns how it ended. */
async function migrate(
  qmp: QmpClient,
  command: "migrate" | "migrate-incoming",
  uri: string,
  { timeoutMs, signal }: WaitOptions,
): Promise<unknown> {
  await qmp.execute("migrate-set-capabilities", CAPABILITIES, { timeoutMs, signal });
  const refused = new AbortController();
  const ended = qmp.once("MIGRATION", {
    timeoutMs,
    signal: AbortSignal.any([refused.signal, ...(signal === undefined ? [] : [signal])]),
    where: ({ data }) => data.status === "completed" || data.status === "failed",
  });
  try {
    await qmp.execute(command, { uri }, { timeoutMs, signal });
  } catch (error) {
    refused.abort();
    throw error;
  }
  return (await ended).data.status;
}

function failed(reason: string, cause?: unknown): QemuError {
  return new QemuError("QEMU_TEMPLATE_FAILED", `expected a machine whose state can be saved, got: ${reason}`, {
    cause,
  });
}
