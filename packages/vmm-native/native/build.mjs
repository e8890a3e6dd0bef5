// Builds the hypervisor and puts it beside the package's own code, which looks for it there. Published packages have it;
// a checkout on a machine without Rust does without, and says so when a guest is started.
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";

const directory = import.meta.dirname;
const cargo = spawnSync("cargo", ["build", "--release", "--locked", "--quiet"], { cwd: directory, stdio: "inherit" });
if (cargo.error?.code === "ENOENT") {
  process.stderr.write("warning: the hypervisor is not built: no Rust toolchain (cargo) in PATH; see rustup.rs\n");
  process.exit(0);
}
if (cargo.error !== undefined) throw cargo.error;
if (cargo.status !== 0) process.exit(cargo.status ?? 1);
const built = join(directory, "target", "release");
copyFileSync(join(built, "leveret-hypervisor"), join(directory, "..", "dist", "leveret-hypervisor"));
