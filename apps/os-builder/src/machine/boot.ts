import { mkdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { findFirmware, type MachineDescription, startMachine } from "@leveret/qemu-harness";
import { enrollVariableStore, type KeySet } from "@leveret/uki-sign";
import type { Project } from "../config/load.ts";
import { OsBuilderError } from "../errors.ts";
import type { BuiltImage } from "../image/image.ts";
import { replaceFile } from "../internal/files.ts";
import { loadProjectKeys } from "../keys.ts";
import {
  type BootCheck,
  type BootReport,
  checkReport,
  parseReport,
  REPORT_CONSOLE,
  REPORT_END,
  reportCredentials,
} from "./report.ts";

/** How long a boot may take until it reports, in `milliseconds`: emulated, on a busy machine. */
export const DEFAULT_BOOT_TIMEOUT_MS = 900_000;

/** More processors than this don't make a boot faster. */
const MAX_CPUS = 2;

/** How {@link bootImage} works. */
export interface BootImageOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** directory of the project's state, absolute */
  readonly stateDirectory: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** receives everything that the serial console shows, as it comes */
  readonly onSerial?: ((chunk: Uint8Array) => void) | undefined;
}

/** A boot that came to its report. */
export interface BootResult {
  readonly report: BootReport;
  readonly checks: readonly BootCheck[];
  /** from power-on to the report, in `milliseconds` */
  readonly bootMs: number;
  /** how QEMU ran it: `tcg` or `kvm` */
  readonly accelerator: string;
  readonly commandLine: string;
  readonly serial: string;
}

/** A layer of the trust chain, and what it says when it refuses. */
export type RefusingLayer = keyof typeof REFUSALS;

// In the order in which a boot reaches them. Firmware is asked by itself and by the boot loader, and wraps its lines.
const REFUSALS = {
  firmware:
    /(?:BdsDxe: failed to (?:load|start)|Error loading \\EFI\\)[\s\S]{1,300}?(?:Security [Vv]iolation|Access [Dd]enied)/,
  "root hash signature": /verity: Root hash verification failed/,
  verity: /verity: \S+: (data|metadata) block \d+ is corrupted|dm-verity device.* corrupted/i,
  initrd: /Restart, because this version can't be started/,
} as const;

/**
 * A machine that trusts exactly the project's keys: Secure Boot enforces from the first instruction on, and a TPM
 * measures. The image itself is not changed by what runs in it.
 */
export async function describeMachine(
  project: Project,
  image: { readonly disk: string },
  options: Pick<BootImageOptions, "env" | "stateDirectory">,
): Promise<MachineDescription> {
  const keys = await loadProjectKeys(join(project.directory, project.config.keys), []);
  const variables = await writeVariables(keys, options);
  return {
    name: project.config.id,
    memoryMiB: 1024,
    // Starting units is the longest part, and goes on side by side.
    cpus: Math.min(MAX_CPUS, availableParallelism()),
    boot: { type: "uefi", secureBoot: true, variables: { path: variables } },
    disks: [{ path: image.disk }],
    tpm: {},
    consoles: [{ name: "serial" }, { name: REPORT_CONSOLE, type: "port" }],
    credentials: await reportCredentials(),
  };
}

/**
 * Boots an image, reads what it verified inside of the machine, and powers it off.
 *
 * @throws {OsBuilderError} `OS_BOOT_REFUSED` naming the layer that refused, `OS_BOOT_FAILED` when the machine ended
 *   without a report. {QemuError} when QEMU, its firmware or swtpm are missing, or time is up.
 */
export async function bootImage(project: Project, image: BuiltImage, options: BootImageOptions): Promise<BootResult> {
  const { signal, timeoutMs = DEFAULT_BOOT_TIMEOUT_MS } = options;
  const description = await describeMachine(project, image, options);
  const startedAt = Date.now();
  await using machine = await startMachine(description, {
    signal,
    env: options.env,
    onConsole: (name, chunk) => name === "serial" && options.onSerial?.(chunk),
  });
  const reported = machine.console(REPORT_CONSOLE).waitFor(REPORT_END, { timeoutMs, signal });
  const refused = machine.serial.waitForAny(REFUSALS, { timeoutMs, signal });
  const first = await Promise.race([reported.then(() => undefined), refused]).catch((cause) => {
    throw failedBoot(machine.serial.text, cause);
  });
  // Whichever did not win ends with the machine; its rejection has been answered for.
  reported.catch(() => {});
  refused.catch(() => {});
  if (first !== undefined) throw refusedBoot(first.which, first.match.text);
  const bootMs = Date.now() - startedAt;
  const report = parseReport(machine.console(REPORT_CONSOLE).text);
  await machine.powerdown({ timeoutMs: 60_000, signal });
  return {
    report,
    checks: checkReport(image.record, report),
    bootMs,
    accelerator: machine.accelerator.kind,
    commandLine: machine.commandLine,
    serial: machine.serial.text,
  };
}

async function writeVariables(
  keys: KeySet<never>,
  options: Pick<BootImageOptions, "env" | "stateDirectory">,
): Promise<string> {
  const firmware = await findFirmware({ secureBoot: true, env: options.env });
  const { PK, KEK, db, verity } = keys.certificates;
  const store = enrollVariableStore(await readFile(firmware.variablesPath), {
    pk: PK,
    kek: [KEK],
    // The kernel takes the keys that it checks root hash signatures with from db.
    db: [db, verity],
    owner: keys.owner,
    timestamp: db.notBefore,
  });
  await mkdir(options.stateDirectory, { recursive: true });
  const path = join(options.stateDirectory, "OVMF_VARS.fd");
  await replaceFile(path, store);
  return path;
}

function refusedBoot(layer: RefusingLayer, said: string): OsBuilderError {
  return new OsBuilderError("OS_BOOT_REFUSED", `the ${layer} refused to boot: ${said.replace(/\s+/g, " ")}`, { layer });
}

function failedBoot(serial: string, cause: unknown): OsBuilderError {
  if (!(cause instanceof Error) || !("code" in cause) || cause.code !== "QEMU_EXITED") throw cause;
  const tail = serial.split("\n").slice(-12).join("\n");
  return new OsBuilderError("OS_BOOT_FAILED", `expected a report from the machine, it ended first:\n${tail}`, {
    cause,
  });
}
