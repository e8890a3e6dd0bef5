import { spawn } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** OVMF with Secure Boot and SMM, and the empty variable store that goes with it, as Debian installs them. */
export const OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
export const OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/** Stores in which firmware itself enrolled keys when Debian built its package. */
export const OVMF_ENROLLED = ["/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"];

/** Emulator of the machines. */
export const QEMU = "qemu-system-x86_64";

/** How long a machine may take to print what is waited for; it takes 5 s on an idle host. */
const DEADLINE_MS = 120_000;

/** What a boot left behind. */
export interface Boot {
  /** serial console */
  readonly console: string;
  /** the variable store as firmware left it */
  readonly vars: Uint8Array;
}

/**
 * Boots a disk under emulation with Secure Boot hardware and a variable store, until the console matches `pattern`.
 *
 * @throws {Error} With the console's end when it does not, within {@link DEADLINE_MS}.
 */
export async function bootUntil(pattern: RegExp, folder: string, disk: string, vars: Uint8Array): Promise<Boot> {
  const [code, store] = [join(folder, "code.fd"), join(folder, "vars.fd")];
  copyFileSync(OVMF_CODE, code);
  writeFileSync(store, vars);
  const argv = [
    ["-nodefaults", "-no-user-config"],
    ["-machine", "q35,smm=on,accel=tcg"],
    ["-cpu", "max,-cx16"],
    ["-m", "256"],
    ["-global", "driver=cfi.pflash01,property=secure,value=on"],
    ["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
    ["-drive", `if=pflash,unit=1,format=raw,file=${store}`],
    ["-drive", `if=virtio,format=raw,file=${disk}`],
    ["-display", "none", "-serial", "stdio", "-net", "none"],
  ].flat();
  const machine = spawn(QEMU, argv, { stdio: ["ignore", "pipe", "pipe"] });
  try {
    const console = await new Promise<string>((resolve, reject) => {
      let seen = "";
      const fail = (reason: string) => reject(new Error(`waiting for ${pattern}: ${reason}\n${seen.slice(-4096)}`));
      const timer = setTimeout(() => fail(`nothing after ${DEADLINE_MS} ms`), DEADLINE_MS);
      const collect = (chunk: Buffer) => {
        seen += chunk.toString("latin1");
        if (pattern.test(seen)) resolve(seen);
      };
      machine.stdout.on("data", collect);
      machine.stderr.on("data", collect);
      machine.on("error", (error) => fail(error.message));
      machine.on("exit", (exitCode) => {
        clearTimeout(timer);
        fail(`QEMU ended with ${exitCode}`);
      });
    });
    return { console, vars: new Uint8Array(readFileSync(store)) };
  } finally {
    const ended = new Promise((resolve) => machine.once("exit", resolve));
    if (machine.exitCode === null && machine.kill("SIGKILL")) await ended;
  }
}
