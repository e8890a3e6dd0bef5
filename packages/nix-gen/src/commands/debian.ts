import { homedir } from "node:os";
import { join, relative, resolve } from "node:path";
import { type CommandIo, formatBytes, withProgress, writeJson } from "@leveret/command";
import { Command, Option } from "commander";
import type { DebianArchitecture } from "../debian/architecture.ts";
import { type DebianLock, writeDebianLock } from "../debian/lock.ts";
import { findDebianMirror } from "../debian/mirror.ts";
import { resolveDebian } from "../debian/resolve.ts";
import { makeDebianTree } from "../debian/tree.ts";
import { openNix } from "../nix/open.ts";

const LOCK_HELP = `
Debian's own resolver works on a private state, with the archive's signature checked; nothing of this machine's apt is
read or changed but its mirror's address, unless LEVERET_DEBIAN_MIRROR names one.

Examples:
  $ nix-gen debian lock --suite trixie erofs-utils zstd
  $ nix-gen debian lock --suite trixie --essential -o base.lock.json systemd`;

const TREE_HELP = `
The programs start through the tree's own dynamic loader and libraries, whatever release this machine runs. A second
call with the same packages changes nothing; remove debian.lock.json to get newer versions.

Examples:
  $ nix-gen debian tree --suite trixie -o tools erofs-utils systemd-ukify
  $ tools/bin/mkfs.erofs --version

Environment:
  LEVERET_DEBIAN_MIRROR, LEVERET_DEBIAN_SECURITY_MIRROR, LEVERET_NIX, LEVERET_NIX_STORE`;

interface DebianFlags {
  readonly suite: string;
  readonly architecture: DebianArchitecture;
  readonly component: readonly string[];
  readonly essential?: true;
  readonly mirror?: string;
  readonly keyring?: string;
  readonly output: string;
  readonly json?: true;
}

/** `nix-gen debian lock|tree`: Debian packages by name. */
export function debianCommand(io: CommandIo): Command {
  const debian = new Command("debian").description("lock Debian packages, or make a directory of their programs");
  debian.addCommand(
    packagesCommand("lock", "resolve packages to versions, paths and hashes, and write them down")
      .option("-o, --output <file>", "the lock file", "debian.lock.json")
      .addHelpText("after", LOCK_HELP)
      .action((packages: readonly string[], flags: DebianFlags) => lock(packages, flags, io)),
  );
  debian.addCommand(
    packagesCommand("tree", "make a directory of a release's programs that run on this machine")
      .requiredOption("-o, --output <directory>", "where debian.lock.json, tree and bin go")
      .addHelpText("after", TREE_HELP)
      .action((packages: readonly string[], flags: DebianFlags) => tree(packages, flags, io)),
  );
  return debian;
}

function packagesCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument("<package...>", "names of Debian packages; what they depend on comes along")
    .requiredOption("--suite <name>", "Debian release, such as trixie")
    .addOption(
      new Option("--architecture <name>", "the packages' architecture").choices(["amd64", "arm64"]).default("amd64"),
    )
    .option("--component <name...>", "components of the archive", ["main"])
    .option("--essential", "take Debian's essential packages too: a shell, coreutils, dpkg")
    .option(
      "--mirror <url>",
      "the archive: holds dists/ and pool/ (default: LEVERET_DEBIAN_MIRROR, then apt's sources)",
    )
    .option("--keyring <file>", "the archive's public keys (default: Debian's)")
    .option("--json", "print one JSON document");
}

async function lock(packages: readonly string[], flags: DebianFlags, io: CommandIo): Promise<void> {
  const { suite, architecture, component, essential = false } = flags;
  const locked = await withProgress(io, async (onProgress) =>
    resolveDebian(
      { suite, architecture, components: [...component], sets: { packages: { packages: [...packages], essential } } },
      { ...(await source(flags, io)), stateDirectory: join(cacheDirectory(io), `apt-${suite}`), onProgress },
    ),
  );
  const file = resolve(io.cwd, flags.output);
  await writeDebianLock(file, locked);
  if (flags.json === true) writeJson(io, { kind: "nix-gen.debian-lock", version: 1, file, lock: locked });
  else io.stdout.write(`${flags.output}: ${summary(locked)}\n`);
}

async function tree(packages: readonly string[], flags: DebianFlags, io: CommandIo): Promise<void> {
  const { suite, architecture, component, essential = false } = flags;
  const made = await withProgress(io, async (onProgress) =>
    makeDebianTree(
      { suite, architecture, components: [...component], packages, essential },
      {
        ...(await source(flags, io)),
        nix: await openNix({ env: io.env }),
        directory: resolve(io.cwd, flags.output),
        stateDirectory: cacheDirectory(io),
        onProgress,
      },
    ),
  );
  const { directory, bin, lockFile } = made;
  if (flags.json === true) writeJson(io, { kind: "nix-gen.debian-tree", version: 1, directory, bin, lockFile });
  else io.stdout.write(`${summary(made.lock)}\nprograms: ${relative(io.cwd, bin)}\n`);
}

async function source(flags: DebianFlags, io: CommandIo) {
  return {
    mirror: await findDebianMirror({ mirror: flags.mirror, env: io.env }),
    keyring: flags.keyring === undefined ? undefined : resolve(io.cwd, flags.keyring),
    env: io.env,
    signal: io.signal,
  };
}

function cacheDirectory(io: CommandIo): string {
  return resolve(io.env.XDG_CACHE_HOME || join(io.env.HOME || homedir(), ".cache"), "leveret", "nix-gen");
}

function summary({ packages, suite }: DebianLock): string {
  const all = Object.values(packages);
  const bytes = all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return `${all.length} packages of Debian ${suite}, ${formatBytes(bytes)}`;
}
