// Environment: P11_KIT_SERVER_ADDRESS is the socket of a running `p11-kit server`; without it `p11-kit remote` is started.
import { type CommandIo, UsageError } from "@leveret/command";
import { UkiSignError } from "../errors.ts";
import type { PassphraseSource } from "../keys/load.ts";
import { isEncryptedKey, type PemSigner, pemSigner } from "../keys/signer.ts";
import type { Pkcs11Options, Pkcs11Signer } from "../pkcs11/signer.ts";
import { isSignerAddress } from "../remote/address.ts";
import type { SigningRequest } from "../remote/protocol.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import { printable } from "./arguments.ts";
import type { CommandFiles } from "./command-files.ts";

/** What `--passphrase-file` says about itself, with whose passphrase it is. */
export const PASSPHRASE_FILE =
  "file with the passphrase, PIN or token, /dev/fd/N for an open descriptor; without it the terminal is asked";

/** What `--key` takes. */
export const KEY_VALUE = "private key: a PEM file, a pkcs11: URI, or the https: address of a remote signer";

/** The private keys that a command signs with, and the secrets it read or asked for, once, when a key first needed one. */
export class OpenKeys implements AsyncDisposable {
  readonly #io: CommandIo;
  readonly #files: CommandFiles;
  readonly #passphraseFile: string | undefined;
  readonly #secrets = new Map<string, Promise<string | undefined>>();
  readonly #tokens: Pkcs11Signer[] = [];

  constructor(io: CommandIo, files: CommandFiles, passphraseFile: string | undefined) {
    this.#io = io;
    this.#files = files;
    this.#passphraseFile = passphraseFile;
  }

  /** Gives the passphrase of all keys of the command that are files. */
  readonly passphrase: PassphraseSource = (of) => this.#secret("passphrase", `Passphrase of ${of}: `);

  /** The private key that a flag names. */
  async signer(value: string): Promise<PemSigner> {
    // Loaded when they are needed: a key in a file needs no network.
    if (value.startsWith("pkcs11:")) {
      const { pkcs11Signer } = await import("../pkcs11/signer.ts");
      const token = await pkcs11Signer(value, {
        ...this.#pkcs11(),
        pin: (of) => this.#secret(of, `PIN of ${printable(of)}: `),
      });
      this.#tokens.push(token);
      return token;
    }
    if (isSignerAddress(value)) {
      const { remoteSigner } = await import("../remote/signer.ts");
      const token = await this.#secret(value, `Token for ${value}: `);
      return await remoteSigner(value, {
        token: requireToken(value, token),
        signal: this.#io.signal,
        onPending: (request) => this.#io.stderr.write(`${describeWait(request)}\n`),
      });
    }
    const pem = await this.#files.read(value);
    return pemSigner(pem, { passphrase: isEncryptedKey(pem) ? await this.passphrase(value) : undefined });
  }

  /** The certificate that a flag names. */
  async certificate(value: string): Promise<Certificate> {
    if (value.startsWith("pkcs11:")) {
      const { pkcs11Certificate } = await import("../pkcs11/signer.ts");
      return await pkcs11Certificate(value, this.#pkcs11());
    }
    return decodeCertificate(await this.#files.read(value));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#tokens.map((token) => token.close()));
  }

  #secret(name: string, question: string): Promise<string | undefined> {
    const key = this.#passphraseFile === undefined ? name : "file";
    const known = this.#secrets.get(key) ?? readPassphrase(this.#io, this.#files, this.#passphraseFile, question);
    this.#secrets.set(key, known);
    return known;
  }

  #pkcs11(): Pkcs11Options {
    return { signal: this.#io.signal, connect: serverSocket(this.#io.env.P11_KIT_SERVER_ADDRESS) };
  }
}

/** A token that was read or asked for. */
export function requireToken(address: string, token: string | undefined): string {
  if (token !== undefined) return token;
  throw new UkiSignError("UKI_SIGN_REMOTE_UNAUTHORIZED", `expected a token for ${address}, got none`, {
    hint: "give it with --passphrase-file",
  });
}

function describeWait({ id, approvals, approvalsNeeded, expiresAt }: SigningRequest): string {
  return `request ${id} waits for ${approvalsNeeded - approvals.length} approvals, until ${expiresAt}`;
}

/** The socket of p11-kit's address of a server, `unix:path=/run/…` with other keys that p11-kit may add. */
function serverSocket(address: string | undefined): string | undefined {
  if (address === undefined || address === "") return undefined;
  const [, path] = /^unix:(?:[^;]*;)?path=([^;]+)/.exec(address) ?? [];
  try {
    if (path !== undefined) return decodeURIComponent(path);
  } catch {
    // Said below.
  }
  throw new UsageError(`expected P11_KIT_SERVER_ADDRESS to be unix:path=SOCKET, got ${JSON.stringify(address)}`);
}

/** A passphrase for new keys: from a file, asked for twice, or none. */
export async function newPassphrase(
  io: CommandIo,
  files: CommandFiles,
  flags: { readonly passphraseFile?: string; readonly askPassphrase?: boolean },
): Promise<string | undefined> {
  const { passphraseFile, askPassphrase } = flags;
  if (!askPassphrase)
    return passphraseFile === undefined ? undefined : await readPassphrase(io, files, passphraseFile, "");
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
export async function readPassphrase(
  io: CommandIo,
  files: CommandFiles,
  path: string | undefined,
  question: string,
): Promise<string | undefined> {
  return path === undefined ? await io.askSecret?.(question) : await files.secret(path);
}
