import { type CommandIo, type ExitCodes, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";
import { addBuildCommand } from "./commands/build.ts";
import { addComposefsCommands } from "./commands/composefs.ts";
import { addDiffCommand } from "./commands/diff.ts";
import { addExtractCommand } from "./commands/extract.ts";
import { addImageCommands } from "./commands/image.ts";
import { addVerifyCommand } from "./commands/verify.ts";
import { addVerityCommands } from "./commands/verity.ts";

export { processIo } from "@leveret/command";

/**
 * The `erofs-meta` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and interruption.
 * @returns 0 done, 1 failed (of `diff`: something differs), 2 wrong usage (of `diff`: or failed), 128 and its number for a signal.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("erofs-meta")
    .description("Read and write EROFS images, and build and verify dm-verity hash trees")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .addHelpText(
      "after",
      `
Examples:
  erofs-meta tree usr.erofs
  erofs-meta cat usr.erofs /lib/os-release
  erofs-meta ls -l https://example.org/usr.erofs /lib
  erofs-meta ls --offset 1048576 disk.raw /bin
  erofs-meta extract usr.erofs out /lib
  erofs-meta build usr.erofs build/usr --owner 0:0 --fixed-time
  erofs-meta build usr.erofs usr.tar --compress lz4 --cluster-size 65536
  erofs-meta diff old.erofs new.erofs
  erofs-meta verify usr.erofs
  erofs-meta verity build usr.erofs usr.verity
  erofs-meta verity verify usr.erofs usr.verity ROOTHASH
  erofs-meta composefs build os.dump os.composefs`,
    );
  const codes: ExitCodes = { done: 0, failed: 1 };
  addImageCommands(program, io);
  addExtractCommand(program, io);
  addBuildCommand(program, io);
  addDiffCommand(program, io, codes);
  addVerifyCommand(program, io);
  addVerityCommands(program, io);
  addComposefsCommands(program, io);
  return runCommand(program, argv, io, codes);
}
