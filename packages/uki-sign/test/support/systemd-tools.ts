// Environment: LEVERET_TRIXIE_TREE is a directory with the unpacked Debian 13 packages systemd, systemd-boot-efi,
// systemd-repart, systemd-ukify, libcryptsetup12, python3-pefile and what they need. Nothing in it has to be installed or
// run as root. LEVERET_BOOKWORM_TREE is the same with systemd-boot-efi of Debian 12.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const TREE = process.env.LEVERET_TRIXIE_TREE ?? "$LEVERET_TRIXIE_TREE";
const LOADER = join(TREE, "usr/lib64/ld-linux-x86-64.so.2");
const LIBRARIES = join(TREE, "usr/lib/x86_64-linux-gnu");

/** What has to be in the tree. */
export const TREE_FILES: readonly string[] = [
  "usr/bin/ukify",
  "usr/lib/systemd/systemd-measure",
  "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
  "usr/lib/systemd/boot/efi/addonx64.efi.stub",
].map((path) => join(TREE, path));

/** The program systemd-repart. */
export const REPART = join(TREE, "usr/bin/systemd-repart");

/** systemd's stub program. */
export function systemdStub(): Uint8Array {
  return new Uint8Array(readFileSync(join(TREE, "usr/lib/systemd/boot/efi/linuxx64.efi.stub")));
}

const BOOKWORM = join(process.env.LEVERET_BOOKWORM_TREE ?? "$LEVERET_BOOKWORM_TREE", "usr/lib/systemd/boot/efi");

/** systemd's stub of Debian 12: version 252, with its symbols. */
export const BOOKWORM_STUB = join(BOOKWORM, "linuxx64.efi.stub");

/** The boot loader of Debian 12, with its symbols. */
export const BOOKWORM_BOOT = join(BOOKWORM, "systemd-bootx64.efi");

/** The boot loader. */
export const SYSTEMD_BOOT = join(TREE, "usr/lib/systemd/boot/efi/systemd-bootx64.efi");

/** systemd's stub for addons, which does nothing. */
export function systemdAddonStub(): Uint8Array {
  return new Uint8Array(readFileSync(join(TREE, "usr/lib/systemd/boot/efi/addonx64.efi.stub")));
}

/** Runs ukify and returns its standard output. */
export function ukify(argv: readonly string[]): string {
  const environment = {
    PYTHONHOME: join(TREE, "usr"),
    PYTHONPATH: join(TREE, "usr/lib/python3/dist-packages"),
    PYTHONDONTWRITEBYTECODE: "1",
  };
  return runInTree([join(TREE, "usr/bin/python3"), join(TREE, "usr/bin/ukify"), ...argv], environment);
}

/** Runs systemd-measure and returns its standard output. */
export function systemdMeasure(argv: readonly string[]): string {
  return runInTree([join(TREE, "usr/lib/systemd/systemd-measure"), ...argv], {});
}

/** A shell script that is systemd-measure, for ukify to start. */
export function measureScript(): string {
  const libraries = [LIBRARIES, join(LIBRARIES, "systemd")].join(":");
  return `#!/bin/sh\nexec ${LOADER} --library-path ${libraries} ${join(TREE, "usr/lib/systemd/systemd-measure")} "$@"\n`;
}

/** Runs systemd-repart in a directory, without the loop devices that only root may use, and returns its standard output. */
export function systemdRepart(argv: readonly string[], cwd: string): string {
  return runInTree([REPART, "--offline=yes", ...argv], {}, cwd);
}

/** Starts a program of the tree with the tree's own loader and libraries. */
function runInTree(command: readonly string[], env: Record<string, string>, cwd?: string): string {
  const libraries = [LIBRARIES, join(LIBRARIES, "systemd")].join(":");
  return execFileSync(LOADER, ["--library-path", libraries, ...command], {
    encoding: "utf8",
    cwd,
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** The program systemd-pcrlock. */
export const PCRLOCK = join(TREE, "usr/lib/systemd/systemd-pcrlock");

/** Runs systemd-pcrlock, as far as it needs no TPM, and returns the records it prints. */
export function systemdPcrlock(argv: readonly string[]): PcrlockRecord[] {
  return JSON.parse(runInTree([PCRLOCK, ...argv, "--pcrlock=-"], {})).records;
}

/** What systemd-pcrlock expects to be measured. */
export interface PcrlockRecord {
  readonly pcr: number;
  readonly digests: readonly { readonly hashAlg: string; readonly digest: string }[];
}
