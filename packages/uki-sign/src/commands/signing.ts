import type { CommandIo } from "@leveret/command";
import { UsageError } from "@leveret/command";
import type { Command } from "commander";
import type { SignPeOptions } from "../authenticode/sign.ts";
import { decodeCertificate } from "../certificate.ts";
import { readInput } from "../internal/files.ts";
import { pemSigner } from "../signer.ts";

/** Flags of {@link addSigningOptions}. */
export interface SigningFlags {
  readonly key?: string;
  readonly certificate?: string;
  readonly passphraseFile?: string;
  readonly signingTime?: string;
}

/** Adds the flags that say who signs. */
export function addSigningOptions(command: Command): Command {
  return command
    .option("--key <file>", "private key, PEM")
    .option("--certificate <file>", "certificate of the key, PEM or DER")
    .option("--passphrase-file <file>", "file with the key's passphrase, /dev/fd/N for an open descriptor")
    .option("--signing-time <time>", "time to state in the signature, ISO 8601; none by default");
}

/** Reads key and certificate; undefined when neither flag is given. */
export async function loadSigning(io: CommandIo, flags: SigningFlags): Promise<SignPeOptions | undefined> {
  const { key, certificate, passphraseFile, signingTime } = flags;
  if (key === undefined && certificate === undefined) {
    if (passphraseFile === undefined && signingTime === undefined) return undefined;
    throw new UsageError("expected --key and --certificate with --passphrase-file or --signing-time, got neither");
  }
  if (key === undefined || certificate === undefined) {
    throw new UsageError("expected --key and --certificate together, got one of them");
  }
  const passphrase = passphraseFile === undefined ? undefined : await readPassphrase(io, passphraseFile);
  return {
    signer: pemSigner(await readInput(io.cwd, key), { passphrase }),
    certificate: decodeCertificate(await readInput(io.cwd, certificate)),
    signingTime: signingTime === undefined ? undefined : parseTime(signingTime),
  };
}

/** Reads a passphrase from a file or an open descriptor; the newline at its end is no part of it. */
export async function readPassphrase(io: CommandIo, path: string): Promise<string> {
  const bytes = await readInput(io.cwd, path);
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

/** A time from a flag. */
export function parseTime(text: string): Date {
  const time = new Date(text);
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new UsageError(`expected a time like 2026-06-01T12:00:00Z, got ${JSON.stringify(text)}`);
}
