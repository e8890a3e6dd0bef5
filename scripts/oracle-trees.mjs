// Programs of another Debian than this machine's, which tests compare with: unpacked into a tree by Nix, never installed.
// Made once; a second time costs a second. By itself it prints the environment that tests read.
import { chmodSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fail, ROOT } from "./setup.mjs";

const SUITE = "trixie";
const DIRECTORY = resolve(ROOT, ".leveret", "oracles");
const PACKAGES = [
  // erofs-meta: every codec, and a kernel that mounts what is written
  "erofs-utils",
  "linux-image-cloud-amd64",
  // uki-sign: images, measurements and verity signatures
  "libcryptsetup12",
  "python3-pefile",
  "systemd",
  "systemd-boot-efi",
  "systemd-repart",
  "systemd-ukify",
  // nix-gen: a second Nix
  "nix-bin",
  // nix-gen: what configures packages
  "attr",
  "fakeroot",
  "libcap2-bin",
];

/** Makes the trees and returns the variables that name them. */
export async function makeOracleTrees() {
  const { findDebianMirror, makeDebianTree, openNix } = await import("../packages/nix-gen/dist/index.js");
  const { startProgress } = await import("../packages/command/dist/index.js");
  const { env } = process;
  const progress = startProgress({ stderr: process.stderr, env });
  let making = SUITE;
  const makeTree = async (name, request) => {
    making = request.suite;
    return makeDebianTree(request, {
      nix: await openNix({ env }),
      mirror: await findDebianMirror({ env }),
      directory: join(DIRECTORY, name),
      stateDirectory: join(DIRECTORY, "state"),
      onProgress: progress.update,
    });
  };
  try {
    const {
      directory: tree,
      bin,
      lockFile,
    } = await makeTree(SUITE, {
      suite: SUITE,
      packages: PACKAGES,
      essential: true,
      sets: { essential: { essential: true, packages: ["attr", "libcap2-bin", "passwd"] } },
    });
    // uki-sign: a stub that came with its symbols; vmm-native: an older kernel
    const packages = ["systemd-boot-efi", "linux-image-cloud-amd64"];
    const { directory: bookworm } = await makeTree("bookworm", { suite: "bookworm", packages });
    const makeQemu = async (suite) => {
      const made = await makeTree(`${suite}-qemu`, { suite, packages: ["qemu-system-x86"] });
      return writeQemu(made, join(DIRECTORY, `${suite}-qemu`));
    };
    const qemu10 = await makeQemu(SUITE);
    // Backports are valid for a week, and a mirror may be late: what needs them is then skipped, and says so.
    const backports = `${SUITE}-backports`;
    const without = (what) => (error) => {
      if (error.code === undefined) throw error;
      process.stderr.write(`Without ${what}, of Debian ${making}: ${error.message}\n`);
    };
    const qemu11 = await makeQemu(backports).catch(without("QEMU 11"));
    // vmm-native: a newer kernel, for npm run matrix
    const newer =
      process.env.VMM_NATIVE_FULL_MATRIX === "1" &&
      (await makeTree(backports, { suite: backports, packages: ["linux-image-cloud-amd64"] }).catch(
        without("a newer kernel"),
      ));
    return {
      LEVERET_BOOKWORM_TREE: bookworm,
      LEVERET_TRIXIE_TREE: tree,
      LEVERET_TRIXIE_LOCK: lockFile,
      LEVERET_NIX_INSTANTIATE_2: resolve(bin, "nix-instantiate"),
      LEVERET_QEMU_10: qemu10,
      ...(qemu11 === undefined ? {} : { LEVERET_QEMU_11: qemu11 }),
      ...(newer ? { LEVERET_BACKPORTS_TREE: newer.directory } : {}),
    };
  } catch (error) {
    if (error.code === undefined) throw error;
    return fail(`Oracles of Debian ${making}: ${error.message}\n${error.hint ?? ""}`);
  } finally {
    progress.finish();
  }
}

// A QEMU names the places of its firmware and modules absolutely, which means this machine's: firmware of its own tree
// comes first, and a module that its tree lacks stays lacking, as one of another version ends QEMU.
function writeQemu({ directory: tree, bin }, directory) {
  const own = join(tree, "usr/lib/x86_64-linux-gnu/qemu");
  const modules = join(directory, "modules");
  rmSync(modules, { recursive: true, force: true });
  mkdirSync(modules, { recursive: true });
  const present = readdirSync(own);
  for (const name of present) symlinkSync(join(own, name), join(modules, name));
  for (const name of readModules()) if (!present.includes(name)) writeFileSync(join(modules, name), "");
  const places = ["qemu", "seabios"].map((name) => join(tree, "usr/share", name));
  const firmware = [...places, join(tree, "usr/lib/ipxe/qemu")].map((place) => `-L ${quoted(place)}`).join(" ");
  const program = join(directory, "qemu-system-x86_64");
  const start = `exec ${quoted(join(bin, "qemu-system-x86_64"))} ${firmware} "$@"`;
  writeFileSync(program, `#!/bin/sh\nexport QEMU_MODULE_DIR=${quoted(modules)}\n${start}\n`);
  chmodSync(program, 0o755);
  return program;
}

function readModules() {
  try {
    return readdirSync("/usr/lib/x86_64-linux-gnu/qemu").filter((name) => name.endsWith(".so"));
  } catch {
    return [];
  }
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, value] of Object.entries(await makeOracleTrees())) {
    process.stdout.write(`export ${name}=${quoted(value)}\n`);
  }
}
