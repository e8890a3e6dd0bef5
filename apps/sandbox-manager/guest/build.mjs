// Builds the program that runs in guests and puts it beside the package's own code, which looks for it there. Published
// packages have it; a checkout on a machine without Rust does without, and says so when a machine with an agent starts.
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";

const directory = import.meta.dirname;
const cargo = spawnSync("cargo", ["build", "--release", "--locked", "--quiet"], { cwd: directory, stdio: "inherit" });
if (cargo.error?.code === "ENOENT") {
  process.stderr.write(
    "warning: the workspace program for guests is not built: no Rust toolchain (cargo) in PATH; see rustup.rs\n",
  );
  process.exit(0);
}
if (cargo.error !== undefined) throw cargo.error;
if (cargo.status !== 0) process.exit(cargo.status ?? 1);
copyFileSync(
  join(directory, "target", "release", "leveret-workspace"),
  join(directory, "..", "dist", "leveret-workspace"),
);
