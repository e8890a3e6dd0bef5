// Programs of a newer Debian that tests compare with: systemd's own tools for unified kernel images, and a second Nix.
// They are unpacked beside each other in the Nix store and run there by their own dynamic loader; nothing is installed.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const SUITE = "trixie";
const PACKAGES = ["erofs-utils", "nix-bin", "python3-pefile", "systemd", "systemd-boot-efi", "systemd-ukify"];
const SYSTEM = "x86_64-linux";

/** Builds the tree unless it is there; returns the environment in which tests find what is in it. */
export async function ensureOracleTree() {
  const { processIo, runCommand, startProgress } = await import("@leveret/command");
  const { Command } = await import("commander");
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "leveret", `oracles-${SUITE}`);
  const stamp = join(cache, "tree.json");
  // Errors are reported as those of every command here.
  const command = new Command("oracle-tree").action(async () => {
    const { openNix } = await import("@leveret/nix-gen");
    const nix = await openNix({ env: process.env });
    const wanted = JSON.stringify({ packages: PACKAGES, store: nix.store });
    if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted && existsSync(join(cache, "tree", "usr"))) return;
    rmSync(stamp, { force: true });
    const progress = startProgress(processIo());
    await buildTree(nix, cache, progress.update).finally(progress.finish);
    replaceFile(stamp, wanted);
  });
  const exitCode = await runCommand(command, [], processIo());
  if (exitCode !== 0) process.exit(exitCode);
  return {
    LEVERET_TRIXIE_TREE: join(cache, "tree"),
    LEVERET_NIX_INSTANTIATE_2: join(cache, "bin", "nix-instantiate"),
  };
}

async function buildTree(nix, cache, onProgress) {
  const nixGen = await import("@leveret/nix-gen");
  const mirror = await nixGen.findDebianMirror({ env: process.env });
  const sets = {
    bootstrap: { packages: [nixGen.BOOTSTRAP_PACKAGE] },
    tree: { essential: true, packages: PACKAGES },
  };
  const stateDirectory = join(cache, "state");
  mkdirSync(stateDirectory, { recursive: true });
  const lock = await nixGen.resolveDebian({ suite: SUITE, sets }, { mirror, stateDirectory, onProgress });
  const directory = join(cache, "flake");
  await nixGen.stageDebianBuilders({ nix, lock, mirror, directory, stateDirectory, onProgress });
  const packages = nixGen.debianPackages(lock, mirror);
  const debian = nixGen.debianBuilders({ architecture: lock.architecture });
  const tree = debian.tree({ name: "oracles", packages: packages.set("tree") });
  const text = nixGen.renderFlake(
    nixGen.flake({
      description: "programs that tests compare with",
      bindings: [...packages.bindings, ...debian.bindings],
      outputs: { packages: { [SYSTEM]: { tree } } },
    }),
  );
  replaceFile(join(directory, "flake.nix"), text);
  const built = await nixGen.buildFlake(nix, {
    directory,
    attribute: "tree",
    downloads: nixGen.debianDownloads(lock),
    readablePaths: nixGen.mirrorDirectories(mirror),
    outLink: join(cache, "kept"),
    onProgress,
  });
  rmSync(join(cache, "tree"), { force: true });
  symlinkSync(nix.realPath(built), join(cache, "tree"));
  writeNix(cache);
}

// Nix is one program whose name decides what it does.
function writeNix(cache) {
  const tree = join(cache, "tree");
  const libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib"].map((path) => `${tree}/${path}`).join(":");
  mkdirSync(join(cache, "bin"), { recursive: true });
  for (const name of ["nix", "nix-instantiate"]) {
    const script = [
      "#!/bin/sh",
      `exec '${tree}/usr/lib64/ld-linux-x86-64.so.2' --argv0 ${name} --library-path '${libraries}' '${tree}/usr/bin/nix' "$@"`,
      "",
    ];
    replaceFile(join(cache, "bin", name), script.join("\n"), 0o755);
  }
}

function replaceFile(path, text, mode = 0o644) {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}
