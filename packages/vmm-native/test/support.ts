import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeCpio, findQemu, type Qemu } from "@leveret/qemu-harness";

/** The Rust workspace. */
const NATIVE = fileURLToPath(new URL("../native/", import.meta.url));

/** The one thing that may be missing in CI: a checkout can be used without Rust, and then has no hypervisor. */
export function missingRust(): string {
  return spawnSync("cargo", ["--version"]).status === 0 ? "" : "no Rust toolchain (cargo) in PATH";
}

/** Title of a suite that is skipped when `missing` is not empty. */
export function titled(title: string, missing: string): string {
  return missing === "" ? title : `${title} (skipped, ${missing})`;
}

/** Runs tests of the hypervisor's core on the host; throws what they say when one fails. */
export function testCore(args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const command = ["test", "--quiet", "--locked", "-p", "vmm-core", ...args];
  const { status, stdout, stderr } = spawnSync("cargo", command, { cwd: NATIVE, encoding: "utf8", env });
  if (status !== 0) throw new Error(stdout + stderr);
  return stdout;
}

/** Builds the flat binaries that tests run, and returns where one of them is. */
export function buildGuests(): (name: string) => string {
  execFileSync("cargo", ["build", "--release", "--locked", "--quiet", "-p", "guests"], { cwd: NATIVE });
  return (name) => join(NATIVE, "target", "release", `guest-${name}`);
}

/** A QEMU to test with; `missing` says why there is none. */
interface TestQemu {
  readonly name: string;
  readonly missing: string;
  readonly find: () => Promise<Qemu>;
}

/** The installed QEMU, and those of later Debian releases that `npm test` unpacks. */
export function testQemus(): TestQemu[] {
  const { LEVERET_QEMU_10 = "", LEVERET_QEMU_11 = "" } = process.env;
  const others = [
    { name: "QEMU 10", path: LEVERET_QEMU_10, variable: "LEVERET_QEMU_10" },
    { name: "QEMU 11", path: LEVERET_QEMU_11, variable: "LEVERET_QEMU_11" },
  ].map(({ name, path, variable }) => {
    const missing = path !== "" && existsSync(path) ? "" : `no such program in ${variable}`;
    // Debian has QEMU 11 in its backports only.
    if (missing !== "" && name !== "QEMU 11" && process.env.REQUIRE_ORACLES === "1")
      throw new Error(`${name}: ${missing}`);
    return { name: titled(name, missing), missing, find: () => findQemu({ path }) };
  });
  return [{ name: "the installed QEMU", missing: "", find: () => findQemu() }, ...others];
}

/** Debian's kernel for virtual machines, out of the tree of oracles; undefined where there is none. */
export function debianKernel(): string | undefined {
  const tree = process.env.LEVERET_TRIXIE_TREE;
  if (tree === undefined) {
    if (process.env.REQUIRE_ORACLES === "1") throw new Error("no tree of oracles in LEVERET_TRIXIE_TREE");
    return undefined;
  }
  return kernelIn(join(tree, "boot"));
}

/** A kernel of Debian to test with; `missing` says why there is none. */
interface TestKernel {
  readonly name: string;
  readonly missing: string;
  readonly path: string;
}

/** Debian's kernels: the oldest, which other tests do not boot, and the others as well if `all`. */
export function debianKernels(all: boolean): TestKernel[] {
  const trees = [
    { name: "6.1", variable: "LEVERET_BOOKWORM_TREE" },
    ...(all
      ? [
          { name: "6.12", variable: "LEVERET_TRIXIE_TREE" },
          { name: "7", variable: "LEVERET_BACKPORTS_TREE" },
        ]
      : []),
  ];
  return trees.map(({ name, variable }) => {
    const tree = process.env[variable];
    // Backports may be missing for a while.
    if (tree === undefined && name !== "7" && process.env.REQUIRE_ORACLES === "1")
      throw new Error(`no tree of oracles in ${variable}`);
    const path = tree === undefined ? undefined : (kernelIn(join(tree, "boot")) ?? kernelOfModules(tree));
    return { name, path: path ?? "", missing: path === undefined ? `no kernel in a tree of ${variable}` : "" };
  });
}

function kernelIn(directory: string): string | undefined {
  const name = existsSync(directory) && readdirSync(directory).find((entry) => entry.startsWith("vmlinuz"));
  return name ? join(directory, name) : undefined;
}

/** Debian's newer packages have the kernel beside its modules. */
function kernelOfModules(tree: string): string | undefined {
  const modules = join(tree, "usr/lib/modules");
  const [release] = existsSync(modules) ? readdirSync(modules) : [];
  return release === undefined ? undefined : kernelIn(join(modules, release));
}

/** An initrd of busybox with a shell script as its first process, and modules of that kernel as `/drivers/NAME.ko`. */
export function busyboxInitrd(script: string, drivers: readonly string[] = []): Uint8Array {
  const busybox = readFileSync(execFileSync("which", ["busybox"], { encoding: "utf8" }).trim());
  const init = Buffer.from(`#!/bin/busybox sh\n${script}`);
  const modules = join(process.env.LEVERET_TRIXIE_TREE ?? "", "usr/lib/modules");
  const [release = ""] = drivers.length === 0 ? [] : readdirSync(modules);
  const files = [
    { path: "bin/busybox", data: busybox, executable: true },
    { path: "init", data: init, executable: true },
    ...drivers.map((driver) => ({
      path: `drivers/${basename(driver)}.ko`,
      data: execFileSync("xz", ["-dc", join(modules, release, "kernel", `${driver}.ko.xz`)]),
    })),
  ];
  return encodeCpio(files, 0);
}

/** Bytes without a pattern that a mistake could hide behind, the same every time. */
export function noise(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(bytes / 4);
  let state = seed;
  for (let index = 0; index < words.length; index++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + index;
    words[index] = state;
  }
  return new Uint8Array(words.buffer);
}

/** SHA-256 in hexadecimal digits, as sha256sum writes it. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
