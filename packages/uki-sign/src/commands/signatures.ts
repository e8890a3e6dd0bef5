import { type CommandIo, countText, formatBytes, table, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import {
  attachSignature,
  DEFAULT_MAX_SIGNATURE_TABLE_BYTES,
  listSignatures,
  removeSignatures,
} from "../authenticode/certificate-table.ts";
import { examineSignatures } from "../authenticode/verify.ts";
import { writePe } from "../authenticode/write.ts";
import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { decodePem } from "../keys/pem.ts";
import { decodeCertificate } from "../x509/certificate.ts";
import { parseInteger, printable } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";

interface RemoveFlags {
  readonly index?: number;
  readonly certificate?: string;
  readonly all?: boolean;
  readonly output: string;
  readonly json?: boolean;
}

/** `uki-sign signatures` */
export function addSignaturesCommand(program: Command, io: CommandIo): void {
  const group = program
    .command("signatures")
    .description("show, take out, attach and remove the signatures of an EFI program")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign signatures list linux.efi
  uki-sign signatures remove --certificate old.crt linux.efi -o linux.efi
  uki-sign signatures extract --index 0 linux.efi -o linux.p7s
  uki-sign signatures attach --signature linux.p7s unsigned.efi -o linux.efi`,
    );
  group
    .command("list")
    .description("show who signed; decides nothing, see verify")
    .argument("<image>", "PE image")
    .option("--json", "print one JSON document")
    .action(async (path: string, flags: { readonly json?: boolean }) => {
      await using files = new CommandFiles(io);
      const image = await files.open(path);
      const signatures = describeSignatures(image);
      if (flags.json) writeJson(io, { kind: "uki-signatures", version: 1, signatures });
      else io.stdout.write(signatures.length === 0 ? "unsigned\n" : `${table(signatures.map(renderRow))}\n`);
    });
  group
    .command("extract")
    .description("write one signature to a file of its own: PKCS#7 SignedData, DER")
    .argument("<image>", "PE image")
    .requiredOption("--index <number>", "which signature, counted from 0", parseInteger)
    .requiredOption("-o, --output <file>", "file to write")
    .action(async (path: string, flags: { readonly index: number; readonly output: string }) => {
      await using files = new CommandFiles(io);
      const image = await files.open(path);
      const signatures = listSignatures(image);
      const signature = signatures[flags.index];
      if (signature === undefined) {
        const message = `expected a signature with index ${flags.index}, got ${signatures.length} signatures`;
        throw new UkiSignError("UKI_SIGN_UNSIGNED", message, { path });
      }
      await files.write(flags.output, signature.data);
      io.stdout.write(`${flags.output}: ${formatBytes(signature.data.length)}\n`);
    });
  group
    .command("attach")
    .description(
      "append a signature that was made or taken out somewhere else; refuses one that is not about this image",
    )
    .argument("<image>", "PE image")
    .requiredOption("--signature <file>", "PKCS#7 SignedData, DER or PEM")
    .requiredOption("-o, --output <file>", "image to write; may be the same file")
    .option("--json", "print one JSON document")
    .action(async (path: string, flags: { signature: string; output: string; json?: boolean }) => {
      await using files = new CommandFiles(io);
      const image = await files.open(path);
      const file = await files.read(flags.signature, DEFAULT_MAX_SIGNATURE_TABLE_BYTES);
      const signed = attachSignature(image, decodePem(file)[0]?.bytes ?? file);
      const problem = examineSignatures(signed).at(-1)?.problem;
      if (problem !== undefined) throw problem;
      await writeImage(io, await files.output(flags.output, path), flags, signed);
    });
  group
    .command("remove")
    .description("remove signatures: one, those by a certificate, or all")
    .argument("<image>", "PE image")
    .option("--index <number>", "which signature, counted from 0", parseInteger)
    .option("--certificate <file>", "certificate of the signer, PEM or DER")
    .option("--all", "every signature")
    .requiredOption("-o, --output <file>", "image to write; may be the same file")
    .option("--json", "print one JSON document")
    .action(async (path: string, flags: RemoveFlags) => {
      const { index, certificate, all } = flags;
      if ([index, certificate, all].filter((flag) => flag !== undefined).length !== 1) {
        throw new UsageError("expected one of --index, --certificate and --all to say which signature");
      }
      await using files = new CommandFiles(io);
      const which = certificate === undefined ? index : decodeCertificate(await files.read(certificate));
      const image = await files.open(path);
      await writeImage(io, await files.output(flags.output, path), flags, removeSignatures(image, which));
    });
}

interface SignatureDescription {
  readonly index: number;
  readonly sizeBytes: number;
  readonly signer?: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly hash?: string | undefined;
  readonly signingTime?: string | undefined;
  readonly problem?: { readonly code: string; readonly message: string } | undefined;
}

function describeSignatures(image: Bytes): SignatureDescription[] {
  const entries = listSignatures(image);
  return examineSignatures(image).map(({ signer, problem }, index) => ({
    index,
    sizeBytes: entries[index]?.data.length ?? 0,
    signer: signer?.certificate.subject,
    fingerprint: signer?.certificate.fingerprint,
    hash: signer?.hash,
    signingTime: signer?.signingTime?.toISOString(),
    problem: problem && { code: problem.code, message: problem.message },
  }));
}

function renderRow({
  index,
  sizeBytes,
  signer,
  fingerprint,
  hash,
  signingTime,
  problem,
}: SignatureDescription): string[] {
  const size = formatBytes(sizeBytes);
  if (problem !== undefined) return [String(index), size, "broken", printable(`${problem.message} [${problem.code}]`)];
  return [
    String(index),
    size,
    hash ?? "",
    `${signer} (${fingerprint?.slice(0, 16)}…)${signingTime ? `, ${signingTime}` : ""}`,
  ];
}

async function writeImage(
  io: CommandIo,
  output: string,
  flags: { output: string; json?: boolean },
  image: Bytes,
): Promise<void> {
  const signatures = describeSignatures(image);
  await writePe(output, image, { signal: io.signal });
  if (flags.json) writeJson(io, { kind: "uki-signatures", version: 1, path: flags.output, signatures });
  else io.stdout.write(`${flags.output}: ${countText(signatures.length, "signature")}\n`);
}
