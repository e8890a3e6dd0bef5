import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import * as z from "zod";
import { isGuid } from "../efi/guid.ts";
import { UkiSignError } from "../errors.ts";
import { readWhole } from "../internal/files.ts";
import { parseOptions } from "../internal/options.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import { certificateFile, KEY_ROLES, type KeyRole, type KeySet, keyFile, OWNER_FILE } from "./roles.ts";
import { isEncryptedKey, type PemSigner, pemSigner } from "./signer.ts";

/** Longest file of a key hierarchy that is read, in bytes. */
const MAX_KEY_FILE_BYTES = 64 * 1024;

const optionsSchema = z.strictObject({
  roles: z.array(z.enum(KEY_ROLES)).default([...KEY_ROLES]),
  passphrase: z
    .union([
      z.string(),
      z.custom<PassphraseSource>((value) => typeof value === "function", "expected a string or a function"),
    ])
    .optional(),
});

/**
 * Finds out a passphrase when a key turns out to need one.
 *
 * @param of - What the passphrase is of, for a person to read: the path of a key.
 * @returns The passphrase; undefined when there is none.
 */
export type PassphraseSource = (of: string) => Promise<string | undefined>;

/** Options of {@link loadKeys}. */
export interface LoadKeysOptions<R extends KeyRole = KeyRole> {
  /** roles whose private keys are needed, all by default; the others may be kept elsewhere */
  readonly roles?: readonly R[] | undefined;
  /** passphrase of encrypted private keys, or a function that is asked for it, for each of them */
  readonly passphrase?: string | PassphraseSource | undefined;
}

/**
 * Loads a key hierarchy that {@link generateKeys} wrote, or that has the same files, and checks all of it.
 *
 * @param directory - Where the hierarchy is.
 * @param options - Which private keys are needed, and their passphrase.
 * @returns The keys. Each private key belongs to its certificate.
 * @throws {UkiSignError} `UKI_SIGN_KEYS_INVALID` with one line for each file that is missing or wrong; `path` is the first of
 *   them, and `cause` its error. `UKI_SIGN_PASSPHRASE` when nothing is wrong but the passphrase, or there is none. No message
 *   holds a byte of a private key.
 * @example
 * const { signers, certificates } = await loadKeys("keys", { roles: ["db", "verity"] });
 */
export async function loadKeys<R extends KeyRole = KeyRole>(
  directory: string,
  options: LoadKeysOptions<R> = {},
): Promise<KeySet<R>> {
  const { roles, passphrase } = parseOptions(optionsSchema, options);
  const folder = resolve(directory);
  const problems: UkiSignError[] = [];
  const attempt = async <T>(name: string, read: (file: KeyFile) => T | Promise<T>): Promise<T | undefined> => {
    const path = join(folder, name);
    try {
      return await read(await readKeyFile(path));
    } catch (error) {
      if (!(error instanceof UkiSignError)) throw error;
      problems.push(new UkiSignError(error.code, error.message, { path, hint: error.hint, cause: error.cause }));
      return undefined;
    }
  };

  const owner = await attempt(OWNER_FILE, ({ bytes }) => readOwner(bytes));
  const certificates: Partial<Record<KeyRole, Certificate>> = {};
  const signers: Partial<Record<KeyRole, PemSigner>> = {};
  const exposedPaths: string[] = [];
  for (const role of KEY_ROLES) {
    const certificate = await attempt(certificateFile(role), ({ bytes }) => decodeCertificate(bytes));
    if (certificate !== undefined) certificates[role] = certificate;
    if (!roles.includes(role)) continue;
    const signer = await attempt(keyFile(role), async ({ bytes, mode, path }) => {
      if ((mode & 0o077) !== 0) exposedPaths.push(path);
      const ask = typeof passphrase === "function" && isEncryptedKey(bytes);
      const known = typeof passphrase === "function" ? undefined : passphrase;
      return checkMatch(pemSigner(bytes, { passphrase: ask ? await passphrase(path) : known }), certificate);
    });
    if (signer !== undefined) signers[role] = signer;
  }
  if (problems.length > 0 || owner === undefined) throw loadError(folder, problems);
  return {
    directory: folder,
    owner,
    certificates: certificates as Record<KeyRole, Certificate>,
    signers: signers as Record<R, PemSigner>,
    exposedPaths,
  };
}

interface KeyFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** permission bits */
  readonly mode: number;
}

async function readKeyFile(path: string): Promise<KeyFile> {
  try {
    const { mode } = await stat(path);
    return { path, bytes: await readWhole(path, { maxBytes: MAX_KEY_FILE_BYTES }), mode };
  } catch (cause) {
    if (cause instanceof UkiSignError && cause.code === "UKI_SIGN_TOO_LARGE") {
      const message = `expected a file of at most ${MAX_KEY_FILE_BYTES} bytes, got a longer one`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { cause });
    }
    const system = cause instanceof UkiSignError ? cause.cause : cause;
    const code = system instanceof Error && "code" in system ? String(system.code) : String(cause);
    const found = code === "ENOENT" ? "no such file" : code;
    throw new UkiSignError("UKI_SIGN_FILE", `expected a readable file, got ${found}`, { cause });
  }
}

function readOwner(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("latin1").trim().toLowerCase();
  if (isGuid(text)) return text;
  throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", "expected a GUID in text form, got something else");
}

function checkMatch(signer: PemSigner, certificate: Certificate | undefined): PemSigner {
  if (certificate === undefined || Buffer.compare(signer.publicKey, certificate.publicKey) === 0) return signer;
  throw new UkiSignError(
    "UKI_SIGN_KEY_MISMATCH",
    `expected the private key of ${certificate.subject}, got another one`,
  );
}

function loadError(folder: string, problems: readonly UkiSignError[]): UkiSignError {
  // One passphrase is for all of them: where only that is wrong, nothing is wrong with the hierarchy.
  const [first, ...others] = problems;
  if (first?.code === "UKI_SIGN_PASSPHRASE" && others.every(({ code }) => code === first.code)) {
    const keys = problems.map(({ path = "" }) => basename(path)).join(", ");
    return new UkiSignError(first.code, `${first.message} (${keys} in ${folder})`, {
      path: first.path,
      hint: first.hint,
      cause: first,
    });
  }
  const lines = problems.map(({ path, message, code }) => `\n  ${path}: ${message} [${code}]`);
  return new UkiSignError("UKI_SIGN_KEYS_INVALID", `expected a key hierarchy in ${folder}, got:${lines.join("")}`, {
    path: first?.path,
    cause: first,
    hint: first?.hint ?? "uki-sign keys generate DIR makes one",
  });
}
