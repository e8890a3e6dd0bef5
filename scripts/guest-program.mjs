// Builds the program that a package runs in guests (`guest/`, whose name is the argument) and puts it beside the package's
// own code, which looks for it there. Published packages have it; a checkout on a machine without Rust does without, and
// says so when such a program is wanted. Started by the package's own build.
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";

const [name] = process.argv.slice(2);
const cargo = spawnSync("cargo", ["build", "--release", "--locked", "--quiet"], { cwd: "guest", stdio: "inherit" });
if (cargo.error?.code === "ENOENT") {
  process.stderr.write(`warning: ${name} is not built: no Rust toolchain (cargo) in PATH; see rustup.rs\n`);
  process.exit(0);
}
if (cargo.error !== undefined) throw cargo.error;
if (cargo.status !== 0) process.exit(cargo.status ?? 1);
copyFileSync(join("guest", "target", "release", name), join("dist", name));
