import { type CommandIo, style, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { signatureDatabase } from "../authenticode/database.ts";
import { type PeSignatureDatabase, verifyPe } from "../authenticode/verify.ts";
import { OID } from "../format/oids.ts";
import { toHex } from "../internal/bytes.ts";
import { decodeCertificate } from "../x509/certificate.ts";
import { collect, parseDigest, printable } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { MAX_DATABASE_FILE_BYTES, signatureListsOf } from "./database-file.ts";
import { parseTime } from "./signing.ts";

interface VerifyFlags {
  readonly certificate?: readonly string[];
  readonly digest?: readonly string[];
  readonly db?: readonly string[];
  readonly dbx?: readonly string[];
  readonly forbidCertificate?: readonly string[];
  readonly forbidDigest?: readonly string[];
  readonly purpose?: string;
  readonly at?: Date;
  readonly json?: boolean;
}

/** `uki-sign verify` */
export function addVerifyCommand(program: Command, io: CommandIo): void {
  program
    .command("verify")
    .description("decide about an EFI program as firmware does under Secure Boot; exit code 1 means refused")
    .argument("<image>", "PE image")
    .option("--certificate <file>", "certificate in db, PEM or DER; several allowed", collect)
    .option("--digest <hex>", "image digest in db; several allowed", collect)
    .option(
      "--db <file>",
      "db: signature list (.esl), .auth, variable store (.fd) or file of efivarfs; several allowed",
      collect,
    )
    .option("--forbid-certificate <file>", "certificate in dbx; several allowed", collect)
    .option("--forbid-digest <hex>", "image digest in dbx; several allowed", collect)
    .option("--dbx <file>", "dbx, in a file of the same kinds; several allowed", collect)
    .option(
      "--purpose <name>",
      "extended key usage the signer must have: codeSigning, or an identifier; firmware does not ask",
      parsePurpose,
    )
    .option("--at <time>", "time at which certificates must be valid, ISO 8601; firmware does not look", parseTime)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign verify --certificate db.pem --dbx dbx.esl linux.efi
  uki-sign verify --certificate ca.pem --purpose codeSigning --at 2026-06-01 linux.efi`,
    )
    .action(async (path: string, flags: VerifyFlags) => {
      const { certificate = [], digest = [], forbidCertificate = [], forbidDigest = [] } = flags;
      if (certificate.length + digest.length + (flags.db?.length ?? 0) === 0) {
        throw new UsageError("expected --certificate, --digest or --db to say what is trusted, got none of them");
      }
      await using files = new CommandFiles(io);
      const db = await readDatabase(files, "db", { certificate, digest, lists: flags.db });
      const forbidden = { certificate: forbidCertificate, digest: forbidDigest, lists: flags.dbx };
      const dbx = await readDatabase(files, "dbx", forbidden);
      const image = await files.open(path);
      const verified = verifyPe(image, {
        db,
        dbx,
        extendedKeyUsage: flags.purpose,
        at: flags.at,
      });
      const { signer, signature } = verified;
      if (flags.json) {
        writeJson(io, {
          kind: "uki-verify",
          version: 1,
          accepted: true,
          digest: verified.digest,
          signature,
          signer: signer?.certificate.subject,
          chain: signer?.chain.map(({ subject }) => subject),
          hash: signer?.hash,
          signingTime: signer?.signingTime?.toISOString(),
        });
        return;
      }
      const reason =
        signer === undefined
          ? `db names its digest ${toHex(verified.digest)}`
          : `signature ${signature} by ${printable(signer.chain.map(({ subject }) => subject).join(" ← "))}`;
      io.stdout.write(`${style(io.stdout, io.env, "green", "accepted")}: ${path}, ${reason}\n`);
    });
}

function parsePurpose(text: string): string {
  if (text === "codeSigning") return OID.codeSigning;
  if (/^[0-2](\.(0|[1-9]\d{0,14})){1,30}$/.test(text)) return text;
  throw new UsageError(`expected codeSigning or a dotted object identifier, got ${JSON.stringify(text)}`);
}

interface DatabaseFlags {
  readonly certificate: readonly string[];
  readonly digest: readonly string[];
  readonly lists: readonly string[] | undefined;
}

async function readDatabase(
  files: CommandFiles,
  name: "db" | "dbx",
  flags: DatabaseFlags,
): Promise<PeSignatureDatabase> {
  const lists = (flags.lists ?? []).map((path) => files.read(path, MAX_DATABASE_FILE_BYTES));
  const listed = signatureDatabase((await Promise.all(lists)).flatMap((list) => signatureListsOf(list, name)));
  const named = flags.certificate.map(async (path) => decodeCertificate(await files.read(path)));
  return {
    certificates: [...(await Promise.all(named)), ...listed.certificates],
    digests: [...flags.digest.map(parseDigest), ...listed.digests],
    certificateHashes: listed.certificateHashes,
  };
}
