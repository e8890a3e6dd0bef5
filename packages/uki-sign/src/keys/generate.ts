import { generateKeyPair, type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { promisify } from "node:util";
import * as z from "zod";
import { isGuid } from "../efi/guid.ts";
import { OID } from "../format/oids.ts";
import { type NewFile, writeNewDirectory } from "../internal/new-directory.ts";
import { parseOptions } from "../internal/options.ts";
import type { Certificate } from "../x509/certificate.ts";
import { createCertificate } from "../x509/create.ts";
import { encodePem } from "./pem.ts";
import {
  certificateFile,
  KEY_ROLES,
  type KeyRole,
  type KeySet,
  keyFile,
  OWNER_FILE,
  PCR_PUBLIC_KEY_FILE,
} from "./roles.ts";
import { MAX_RSA_BITS, MIN_RSA_BITS, type PemSigner, pemSigner } from "./signer.ts";

/** Modulus length of generated keys, in bits: every firmware and TPM takes it, and many take no other. */
export const DEFAULT_KEY_BITS = 2048;

/** Years that generated certificates are valid for: neither firmware nor kernel looks, and no image should expire. */
export const DEFAULT_VALIDITY_YEARS = 20;

const bitsSchema = z.int().min(MIN_RSA_BITS).max(MAX_RSA_BITS).multipleOf(256);

const optionsSchema = z.strictObject({
  name: z.string().min(1).max(48).default("leveret"),
  organization: z.string().min(1).max(64).optional(),
  owner: z
    .string()
    .refine(isGuid, "expected a GUID")
    .default(() => randomUUID()),
  keyBits: z
    .union([bitsSchema, z.strictObject(Object.fromEntries(KEY_ROLES.map((role) => [role, bitsSchema.optional()])))])
    .default(DEFAULT_KEY_BITS),
  notBefore: z.date().default(() => new Date()),
  notAfter: z.date().optional(),
  passphrase: z.string().min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
});

/** Options of {@link generateKeys}. */
export interface GenerateKeysOptions {
  /** what certificates are named by: `leveret` gives `CN=leveret db` */
  readonly name?: string | undefined;
  /** organization in the certificates' names; none by default */
  readonly organization?: string | undefined;
  /** GUID that signature lists name as owner; a random one by default */
  readonly owner?: string | undefined;
  /** modulus length in `bits`, of all keys or by role; {@link DEFAULT_KEY_BITS} by default */
  readonly keyBits?: number | Partial<Record<KeyRole, number>> | undefined;
  /** start of the certificates' validity, now by default */
  readonly notBefore?: Date | undefined;
  /** end of the certificates' validity, {@link DEFAULT_VALIDITY_YEARS} years later by default */
  readonly notAfter?: Date | undefined;
  /** encrypts the private keys (PKCS#8, AES-256-CBC); they are in the clear by default */
  readonly passphrase?: string | undefined;
  /** ends the work early, leaving nothing behind */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Generates a key hierarchy in a new directory: for each role a private key (mode 0600) and a self-signed certificate,
 * the owner's GUID, and the public key of PCR policies. The directory (mode 0700) appears whole or not at all.
 *
 * @param directory - Where; must not exist, or be empty.
 * @param options - Names, sizes, validity, passphrase.
 * @returns The keys.
 * @throws {UkiSignError} `UKI_SIGN_KEYS_EXIST` when there is something at `directory`, `UKI_SIGN_FILE` when it cannot be written,
 *   `UKI_SIGN_BAD_OPTIONS` for options that do not fit.
 * @example
 * const { owner, certificates } = await generateKeys("keys", { name: "particle" });
 */
export async function generateKeys(directory: string, options: GenerateKeysOptions = {}): Promise<KeySet> {
  const parsed = parseOptions(optionsSchema, options);
  const target = resolve(directory);
  const owner = parsed.owner.toLowerCase();
  const keys: GeneratedKey[] = [];
  await writeNewDirectory(target, parsed.signal, async () => {
    keys.push(...(await Promise.all(KEY_ROLES.map((role) => generateKey(role, parsed)))));
    return [...keys.flatMap(filesOf), { name: OWNER_FILE, content: `${owner}\n`, mode: 0o644 }];
  });
  const byRole = <T>(pick: (key: GeneratedKey) => T): Record<KeyRole, T> =>
    Object.fromEntries(keys.map((key) => [key.role, pick(key)])) as Record<KeyRole, T>;
  return {
    directory: target,
    owner,
    certificates: byRole(({ certificate }) => certificate),
    signers: byRole(({ signer }) => signer),
    exposedPaths: [],
  };
}

interface GeneratedKey {
  readonly role: KeyRole;
  readonly pem: string;
  readonly signer: PemSigner;
  readonly certificate: Certificate;
}

function filesOf({ role, pem, signer, certificate }: GeneratedKey): NewFile[] {
  const files = [
    { name: keyFile(role), content: pem, mode: 0o600 },
    { name: certificateFile(role), content: encodePem("CERTIFICATE", certificate.der), mode: 0o644 },
  ];
  if (role !== "pcr") return files;
  return [...files, { name: PCR_PUBLIC_KEY_FILE, content: encodePem("PUBLIC KEY", signer.publicKey), mode: 0o644 }];
}

async function generateKey(role: KeyRole, options: z.output<typeof optionsSchema>): Promise<GeneratedKey> {
  const { name, organization, keyBits, notBefore, passphrase } = options;
  const modulusLength = (typeof keyBits === "number" ? keyBits : keyBits[role]) ?? DEFAULT_KEY_BITS;
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength, publicExponent: 0x10001 });
  const signer = pemSigner(exportKey(privateKey, undefined));
  const certificate = await createCertificate({
    subject: { commonName: `${name} ${role}`, organization },
    publicKey: signer.publicKey,
    signer,
    // The top bit of a random 128-bit number is cleared, and the next one set, so that it is positive and never short.
    serialNumber: (BigInt(`0x${randomBytes(16).toString("hex")}`) & ((1n << 126n) - 1n)) | (1n << 126n),
    notBefore: wholeSecond(notBefore),
    notAfter: wholeSecond(options.notAfter ?? yearsLater(notBefore, DEFAULT_VALIDITY_YEARS)),
    ...(role === "db" ? { extendedKeyUsage: [OID.codeSigning] } : {}),
  });
  return { role, pem: exportKey(privateKey, passphrase), signer, certificate };
}

function exportKey(key: KeyObject, passphrase: string | undefined): string {
  const encryption = passphrase === undefined ? {} : { cipher: "aes-256-cbc", passphrase };
  return key.export({ type: "pkcs8", format: "pem", ...encryption }).toString();
}

function wholeSecond(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

function yearsLater(time: Date, years: number): Date {
  const later = new Date(time);
  later.setUTCFullYear(later.getUTCFullYear() + years);
  return later;
}
