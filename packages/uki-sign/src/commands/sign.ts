import { type CommandIo, countText, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { listSignatures } from "../authenticode/certificate-table.ts";
import { authenticodeDigest } from "../authenticode/digest.ts";
import { writePe } from "../authenticode/write.ts";
import { CommandFiles } from "./command-files.ts";
import { OpenKeys } from "./open-keys.ts";
import { addSigningOptions, describing, loadSigning, type SigningFlags } from "./signing.ts";

interface SignFlags extends SigningFlags {
  readonly output: string;
  readonly json?: boolean;
}

/** `uki-sign sign` */
export function addSignCommand(program: Command, io: CommandIo): void {
  const command = program
    .command("sign")
    .description("sign an EFI program for Secure Boot; earlier signatures stay")
    .argument("<image>", "PE image")
    .requiredOption("-o, --output <file>", "signed image to write; may be the same file");
  addSigningOptions(command)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign sign --keys keys linux.efi -o linux.efi
  uki-sign sign --key db.key --certificate db.crt --passphrase-file /dev/fd/3 linux.efi -o linux.efi 3< passphrase
  uki-sign sign --key 'pkcs11:token=hare;object=db' --certificate 'pkcs11:token=hare;object=db' \\
    linux.efi -o linux.efi
  uki-sign sign --key https://signer:8443 --certificate db.crt --passphrase-file token linux.efi -o linux.efi`,
    )
    .action(async (path: string, flags: SignFlags) => {
      await using files = new CommandFiles(io);
      await using keys = new OpenKeys(io, files, flags.passphraseFile);
      const signing = await loadSigning(files, flags, keys);
      if (signing === undefined) throw new UsageError("expected --keys, or --key and --certificate, got neither");
      const image = await files.open(path);
      const output = await files.output(flags.output, path);
      await writePe(output, image, { sign: await describing(signing, image, path), signal: io.signal });
      const signed = await files.open(flags.output);
      const signatures = listSignatures(signed).length;
      const { subject } = signing.certificate;
      if (flags.json) {
        const digest = authenticodeDigest(signed, "sha256");
        writeJson(io, { kind: "uki-sign", version: 1, path: flags.output, signer: subject, signatures, digest });
      } else {
        io.stdout.write(`${flags.output}: signed by ${subject}, ${countText(signatures, "signature")} in all\n`);
      }
    });
}
