// Builds the hypervisor and Node's binding to its core, and puts them beside the package's own code, which looks for them
// there. Published packages have them; a checkout on a machine without Rust does without, and says so when one is needed.
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";

const directory = import.meta.dirname;

/** Builds some of the workspace; ends this program when that does not work. */
function build(...args) {
  const cargo = spawnSync("cargo", ["build", "--locked", "--quiet", ...args], { cwd: directory, stdio: "inherit" });
  if (cargo.error?.code === "ENOENT") {
    process.stderr.write("warning: the hypervisor is not built: no Rust toolchain (cargo) in PATH; see rustup.rs\n");
    process.exit(0);
  }
  if (cargo.error !== undefined) throw cargo.error;
  if (cargo.status !== 0) process.exit(cargo.status ?? 1);
}

function copy(built, name) {
  copyFileSync(join(directory, "target", built), join(directory, "..", "dist", name));
}

build("--release");
copy("release/leveret-hypervisor", "leveret-hypervisor");
if (process.platform === "linux" && process.arch === "x64") {
  build("--profile", "binding", "-p", "vmm-binding");
  copy("binding/libvmm_binding.so", "vmm-native.node");
}
