// Programs of a newer Debian than this machine's, which tests compare with: unpacked into a tree by Nix, never installed.
// Made once; a second time costs a second. By itself it prints the environment that tests read.
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fail, ROOT } from "./setup.mjs";

const SUITE = "trixie";
const PACKAGES = [
  // erofs-meta: every codec
  "erofs-utils",
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
  const directory = resolve(ROOT, ".leveret", "oracles", SUITE);
  const progress = startProgress({ stderr: process.stderr, env });
  try {
    const {
      directory: tree,
      bin,
      lockFile,
    } = await makeDebianTree(
      {
        suite: SUITE,
        packages: PACKAGES,
        essential: true,
        sets: { essential: { essential: true, packages: ["attr", "libcap2-bin", "passwd"] } },
      },
      { nix: await openNix({ env }), mirror: await findDebianMirror({ env }), directory, onProgress: progress.update },
    );
    return {
      LEVERET_TRIXIE_TREE: tree,
      LEVERET_TRIXIE_LOCK: lockFile,
      LEVERET_NIX_INSTANTIATE_2: resolve(bin, "nix-instantiate"),
    };
  } catch (error) {
    if (error.code === undefined) throw error;
    return fail(`Oracles of Debian ${SUITE}: ${error.message}\n${error.hint ?? ""}`);
  } finally {
    progress.finish();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, value] of Object.entries(await makeOracleTrees())) {
    process.stdout.write(`export ${name}='${value.replaceAll("'", "'\\''")}'\n`);
  }
}
