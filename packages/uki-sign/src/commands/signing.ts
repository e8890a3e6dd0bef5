import { resolve } from "node:path";
import type { CommandIo } from "@leveret/command";
import { UsageError } from "@leveret/command";
import type { Command } from "commander";
import type { SignPeOptions } from "../authenticode/sign.ts";
import { readDescriptor, readInput } from "../internal/files.ts";
import { loadKeys } from "../keys/load.ts";
import { pemSigner } from "../keys/signer.ts";
import { HASH_NAMES, type HashName } from "../rsa/scheme.ts";
import { decodeCertificate } from "../x509/certificate.ts";

/** Flags of {@link addSigningOptions}. */
export interface SigningFlags {
  readonly keys?: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly passphraseFile?: string;
  readonly signingTime?: string;
  readonly hash?: HashName;
}

/** Adds the flags that say who signs. */
export function addSigningOptions(command: Command): Command {
  return command
    .option("--keys <directory>", "key hierarchy of which to use db, see uki-sign keys")
    .option("--key <file>", "private key, PEM; in place of --keys, with --certificate")
    .option("--certificate <file>", "certificate of the key, PEM or DER")
    .option("--passphrase-file <file>", "file with the key's passphrase, /dev/fd/N for an open descriptor")
    .option(
      "--hash <name>",
      `${HASH_NAMES.join(", ")}; sha256 by default, the only one that all firmware knows`,
      parseHash,
    )
    .option("--signing-time <time>", "time to state in the signature, ISO 8601; none by default");
}

/** Reads key and certificate; undefined when no flag says where they are. */
export async function loadSigning(
  io: CommandIo,
  flags: SigningFlags,
  passphrase: string | undefined,
): Promise<SignPeOptions | undefined> {
  const { keys, key, certificate } = flags;
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
    (flags.passphraseFile ?? flags.signingTime ?? flags.hash) !== undefined
  ) {
    throw new UsageError("expected --keys or --key with --passphrase-file, --signing-time or --hash, got neither");
  }
  if (keys !== undefined) {
    const { signers, certificates } = await loadKeys(resolve(io.cwd, keys), { roles: ["db"], passphrase });
    return { signer: signers.db, certificate: certificates.db, signingTime, hash: flags.hash };
  }
  if (key === undefined || certificate === undefined) return undefined;
  return {
    signer: pemSigner(await readInput(io.cwd, key), { passphrase }),
    certificate: decodeCertificate(await readInput(io.cwd, certificate)),
    signingTime,
    hash: flags.hash,
  };
}

/** The passphrase of a flag. A descriptor gives it once, so a command asks once for all its keys. */
export async function passphraseOf(io: CommandIo, path: string | undefined): Promise<string | undefined> {
  return path === undefined ? undefined : await readPassphrase(io, path);
}

/** Reads a passphrase from a file or an open descriptor; the newline at its end is no part of it. */
export async function readPassphrase(io: CommandIo, path: string): Promise<string> {
  const [, descriptor] = /^\/dev\/fd\/(\d{1,9})$/.exec(path) ?? [];
  const bytes = descriptor === undefined ? await readInput(io.cwd, path) : await readDescriptor(Number(descriptor));
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
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
