import { resolve } from "node:path";
import { type CommandIo, formatBytes, table, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { examineSignatures } from "../authenticode/verify.ts";
import { fileSource } from "../bytes/byte-source.ts";
import { inspectUki } from "../uki/inspect.ts";
import { printable } from "./arguments.ts";
import { describePcrSignatures } from "./pcr-signatures.ts";

/** `uki-sign inspect` */
export function addInspectCommand(program: Command, io: CommandIo): void {
  program
    .command("inspect")
    .description(
      "show the sections of a unified kernel image, profile or addon and who signed it; decides nothing, see verify",
    )
    .argument("<image>", "unified kernel image")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign inspect linux.efi")
    .action(async (path: string, flags: { readonly json?: boolean }) => {
      await using image = await fileSource(resolve(io.cwd, path));
      const { sections, kind: contains, ...rest } = inspectUki(image);
      const signatures = examineSignatures(image).map(({ signer, problem }) => ({
        signer: signer?.certificate.subject,
        fingerprint: signer?.certificate.fingerprint,
        hash: signer?.hash,
        signingTime: signer?.signingTime?.toISOString(),
        problem: problem && { code: problem.code, message: problem.message },
      }));
      if (flags.json) {
        writeJson(io, { kind: "uki-inspect", version: 1, contains, ...rest, signatures, sections });
        return;
      }
      io.stdout.write(`${path}: ${formatBytes(rest.sizeBytes)}, machine 0x${rest.machine.toString(16)}\n\n`);
      const several = rest.profiles.length > 1;
      const rows = sections.map(({ name, sizeBytes, sha256, profile }) => [
        printable(name),
        formatBytes(sizeBytes),
        ...(several ? [profile === undefined ? "all" : String(profile)] : []),
        sha256,
      ]);
      io.stdout.write(`${table([["section", "size", ...(several ? ["profile"] : []), "sha256"], ...rows])}\n`);
      for (const { name, text, profile } of sections) {
        if (text === undefined || name === ".sdmagic") continue;
        const shown =
          name === ".pcrsig" ? table(describePcrSignatures(text, image, profile ?? 0)) : text.replace(/\n+$/, "");
        const lines = printable(shown).replaceAll("\n", "\n  ");
        const owner = several && profile !== undefined ? ` of profile ${profile}` : "";
        io.stdout.write(`\n${printable(name)}${owner}\n  ${lines}\n`);
      }
      io.stdout.write(signatures.length === 0 ? "\nunsigned\n" : "\n");
      for (const { signer, fingerprint, signingTime, problem } of signatures) {
        const time = signingTime === undefined ? "" : `, ${signingTime}`;
        const line =
          problem === undefined
            ? `signed by ${signer} (${fingerprint?.slice(0, 16)}…${time}), trust not checked`
            : `broken signature: ${problem.message} [${problem.code}]`;
        io.stdout.write(`${printable(line)}\n`);
      }
    });
}
