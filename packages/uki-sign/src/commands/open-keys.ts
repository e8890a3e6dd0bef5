import { type CommandIo, UsageError } from "@leveret/command";
import { UkiSignError } from "../errors.ts";
import { readDescriptor, readInput } from "../internal/files.ts";
import type { PassphraseSource } from "../keys/load.ts";
import { isEncryptedKey, type PemSigner, pemSigner } from "../keys/signer.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";

/** What `--passphrase-file` says about itself, with whose passphrase it is. */
export const PASSPHRASE_FILE =
  "file with the passphrase, /dev/fd/N for an open descriptor; without it the terminal is asked";

/** The private keys that a command signs with, and the passphrase it read or asked for, once, when a key first needed it. */
export class OpenKeys {
  readonly #io: CommandIo;
  readonly #passphraseFile: string | undefined;
  #passphrase: Promise<string | undefined> | undefined;

  constructor(io: CommandIo, passphraseFile: string | undefined) {
    this.#io = io;
    this.#passphraseFile = passphraseFile;
  }

  /** Gives the passphrase of all keys of the command. */
  readonly passphrase: PassphraseSource = (of) => {
    this.#passphrase ??= readPassphrase(this.#io, this.#passphraseFile, `Passphrase of ${of}: `);
    return this.#passphrase;
  };

  /** The private key that a flag names. */
  async signer(value: string): Promise<PemSigner> {
    const pem = await readInput(this.#io.cwd, value);
    return pemSigner(pem, { passphrase: isEncryptedKey(pem) ? await this.passphrase(value) : undefined });
  }

  /** The certificate that a flag names. */
  async certificate(value: string): Promise<Certificate> {
    return decodeCertificate(await readInput(this.#io.cwd, value));
  }
}

/** A passphrase for new keys: from a file, asked for twice, or none. */
export async function newPassphrase(
  io: CommandIo,
  flags: { readonly passphraseFile?: string; readonly askPassphrase?: boolean },
): Promise<string | undefined> {
  const { passphraseFile, askPassphrase } = flags;
  if (!askPassphrase) return passphraseFile === undefined ? undefined : await readPassphrase(io, passphraseFile, "");
  if (passphraseFile !== undefined) {
    throw new UsageError("expected --ask-passphrase or --passphrase-file, got both");
  }
  const first = await io.askSecret?.("New passphrase: ");
  if (first === undefined) {
    throw new UkiSignError("UKI_SIGN_PASSPHRASE", "expected a passphrase from the terminal, got none", {
      hint: "without a terminal, give it with --passphrase-file",
    });
  }
  if (first === (await io.askSecret?.("Once more: "))) return first;
  throw new UkiSignError("UKI_SIGN_PASSPHRASE", "expected the same passphrase twice, got two different ones");
}

/** Reads a passphrase from a file, an open descriptor or the terminal; the newline at its end is no part of it. */
async function readPassphrase(io: CommandIo, path: string | undefined, question: string): Promise<string | undefined> {
  if (path === undefined) return await io.askSecret?.(question);
  const [, descriptor] = /^\/dev\/fd\/(\d{1,9})$/.exec(path) ?? [];
  const bytes = descriptor === undefined ? await readInput(io.cwd, path) : await readDescriptor(Number(descriptor));
  return Buffer.from(bytes)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}
