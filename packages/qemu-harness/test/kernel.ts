import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CpioFile } from "../src/cpio.ts";

/** Debian's kernel for virtual machines, out of the tree of oracles; undefined where there is none. */
export function debianKernel(): string | undefined {
  const tree = process.env.LEVERET_TRIXIE_TREE;
  if (tree === undefined) return undefined;
  const directory = join(tree, "boot");
  const name = readdirSync(directory).find((entry) => entry.startsWith("vmlinuz-"));
  return name === undefined ? undefined : join(directory, name);
}

/** Why tests with that kernel cannot run, or an empty string; with REQUIRE_ORACLES=1 it is a failure. */
export function missingKernel(): string {
  if (debianKernel() !== undefined) return "";
  if (process.env.REQUIRE_ORACLES === "1") throw new Error("no kernel in the tree of oracles");
  return "no kernel in the tree of oracles";
}

/** This machine's busybox, as a file of an initrd. */
export function busybox(): CpioFile {
  const path = execFileSync("which", ["busybox"], { encoding: "utf8" }).trim();
  return { path: "bin/busybox", data: readFileSync(path), executable: true };
}

/** Modules of that kernel, as files of an initrd in the order in which they have to be loaded. */
export function kernelModules(names: readonly string[]): CpioFile[] {
  const modules = join(process.env.LEVERET_TRIXIE_TREE ?? "", "usr/lib/modules");
  const [release = ""] = readdirSync(modules);
  return names.map((name, index) => ({
    path: `drivers/${index}.ko`,
    data: execFileSync("xz", ["-dc", join(modules, release, "kernel", `${name}.ko.xz`)], { maxBuffer: 1 << 26 }),
  }));
}

/** What the network card needs. */
export const NETWORK_MODULES = ["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"];
