import { resolve } from "node:path";
import { type CommandIo, writeJson } from "@leveret/command";
import { Command } from "commander";
import { readNarHash } from "../nar.ts";

const HELP = `
The hash is the one of lock files and of \`nix hash path\`; Nix itself is not needed.

Examples:
  $ nix-gen nar-hash .
  sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=  .`;

/** `nix-gen nar-hash PATH...`: hashes of trees as Nix computes them. */
export function narHashCommand(io: CommandIo): Command {
  return new Command("nar-hash")
    .description("print the hash that Nix gives a file or directory")
    .argument("<path...>", "files, links or directories")
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action(async (paths: readonly string[], options: { json?: true }) => {
      const hashes: { path: string; narHash: string }[] = [];
      for (const path of paths) {
        const narHash = await readNarHash(resolve(io.cwd, path), { signal: io.signal });
        hashes.push({ path, narHash });
        if (options.json !== true) io.stdout.write(`${narHash}  ${path}\n`);
      }
      if (options.json === true) writeJson(io, { kind: "nix-gen.nar-hash", version: 1, hashes });
    });
}
