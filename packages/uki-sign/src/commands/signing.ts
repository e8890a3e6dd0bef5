import { basename } from "node:path";
import { UsageError } from "@leveret/command";
import type { Command } from "commander";
import type { SignPeOptions } from "../authenticode/sign.ts";
import type { Bytes } from "../bytes/byte-source.ts";
import type { Signer } from "../keys/signer.ts";
import type { RemoteSigner } from "../remote/signer.ts";
import { HASH_NAMES, type HashName } from "../rsa/scheme.ts";
import { collect } from "./arguments.ts";
import type { CommandFiles } from "./command-files.ts";
import { KEY_VALUE, type OpenKeys, PASSPHRASE_FILE } from "./open-keys.ts";

/** Flags of {@link addSigningOptions}. */
export interface SigningFlags {
  readonly keys?: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly addCertificate?: readonly string[];
  readonly passphraseFile?: string;
  readonly signingTime?: string;
  readonly hash?: HashName;
}

/** Adds the flags that say who signs. */
export function addSigningOptions(command: Command): Command {
  return command
    .option("--keys <directory>", "key hierarchy of which to use db, see uki-sign keys")
    .option("--key <key>", `${KEY_VALUE}; in place of --keys, with --certificate`)
    .option("--certificate <file>", "certificate of the key: a PEM or DER file, or a pkcs11: URI")
    .option("--add-certificate <file>", "certificate between that one and one in db; several allowed", collect)
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .option(
      "--hash <name>",
      `${HASH_NAMES.join(", ")}; sha256 by default, the only one that all firmware knows`,
      parseHash,
    )
    .option("--signing-time <time>", "time to state in the signature, ISO 8601; none by default");
}

/** Reads key and certificate; undefined when no flag says where they are. */
export async function loadSigning(
  files: CommandFiles,
  flags: SigningFlags,
  open: OpenKeys,
): Promise<SignPeOptions | undefined> {
  const { keys, key, certificate } = flags;
  const intermediates =
    flags.addCertificate && (await Promise.all(flags.addCertificate.map((path) => open.certificate(path))));
  const signingTime = flags.signingTime === undefined ? undefined : parseTime(flags.signingTime);
  if (keys !== undefined && (key !== undefined || certificate !== undefined)) {
    throw new UsageError("expected either --keys or --key with --certificate, got both");
  }
  if ((key === undefined) !== (certificate === undefined)) {
    throw new UsageError("expected --key and --certificate together, got one of them");
  }
  if (
    keys === undefined &&
    key === undefined &&
    (flags.addCertificate ?? flags.passphraseFile ?? flags.signingTime ?? flags.hash) !== undefined
  ) {
    const others = "--add-certificate, --passphrase-file, --signing-time or --hash";
    throw new UsageError(`expected --keys or --key with ${others}, got neither`);
  }
  if (keys !== undefined) {
    const { signers, certificates } = await files.keys(keys, {
      roles: ["db"],
      passphrase: open.passphrase,
    });
    return { signer: signers.db, certificate: certificates.db, intermediates, signingTime, hash: flags.hash };
  }
  if (key === undefined || certificate === undefined) return undefined;
  return {
    signer: await open.signer(key),
    certificate: await open.certificate(certificate),
    intermediates,
    signingTime,
    hash: flags.hash,
  };
}

/** The same, telling a remote signer what the image is. */
export async function describing(signing: SignPeOptions, image: Bytes, path: string): Promise<SignPeOptions> {
  const { signer, hash, signingTime } = signing;
  if (!isRemote(signer)) return signing;
  const { describePe } = await import("../remote/signer.ts");
  return { ...signing, signer: signer.describing(describePe(image, { name: basename(path), hash, signingTime })) };
}

function isRemote(signer: Signer): signer is RemoteSigner {
  return "describing" in signer;
}

function parseHash(name: string): HashName {
  const hash = HASH_NAMES.find((candidate) => candidate === name);
  if (hash !== undefined) return hash;
  throw new UsageError(`expected a hash of ${HASH_NAMES.join(", ")}, got ${JSON.stringify(name)}`);
}

/** A time without its fraction of a second, which EFI and X.509 do not have. */
export function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

/** A time from a flag. */
export function parseTime(text: string): Date {
  const time = new Date(text);
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new UsageError(`expected a time like 2026-06-01T12:00:00Z, got ${JSON.stringify(text)}`);
}
