import { UsageError } from "@leveret/command";
import type { EnrollVariableStoreOptions } from "../efi/enroll.ts";
import { DEFAULT_MAX_SIGNATURE_DATABASE_BYTES, type SignatureDatabase } from "../efi/signature-list.ts";
import type { KeyRole } from "../keys/roles.ts";
import type { Signer } from "../keys/signer.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import type { CommandFiles } from "./command-files.ts";
import { signatureListsOf } from "./database-file.ts";
import type { InUseFlags } from "./in-use.ts";
import type { OpenKeys } from "./open-keys.ts";
import { loadSigning, parseTime, type SigningFlags } from "./signing.ts";

/** Flags of `uki-sign vars enroll`. */
export interface EnrollFlags {
  readonly keys?: string;
  readonly pk?: string;
  readonly kek?: readonly string[];
  readonly db?: readonly string[];
  readonly dbx?: readonly string[];
  readonly owner?: string;
  readonly timestamp?: string;
  readonly output: string;
  readonly json?: boolean;
}

/** Flags of `uki-sign vars sign`. */
export interface SignFlags extends Omit<SigningFlags, "signingTime">, InUseFlags {
  readonly keys?: string;
  readonly add?: readonly string[];
  readonly append?: boolean;
  readonly delete?: boolean;
  readonly owner?: string;
  readonly guid?: string;
  readonly timestamp?: string;
  readonly output: string;
  readonly json?: boolean;
}

/** Which role of a hierarchy signs a variable, and which roles are its value. */
const SIGNED_BY: Readonly<Record<string, { signer: KeyRole; value: readonly KeyRole[] }>> = {
  PK: { signer: "PK", value: ["PK"] },
  KEK: { signer: "PK", value: ["KEK"] },
  db: { signer: "KEK", value: ["db"] },
  dbx: { signer: "KEK", value: [] },
};

/** A certificate (PEM, DER) or signature lists (.esl, .auth, efivarfs) from a file. */
export async function readDatabase(files: CommandFiles, path: string): Promise<SignatureDatabase> {
  const bytes = await files.read(path, DEFAULT_MAX_SIGNATURE_DATABASE_BYTES);
  // A certificate begins with a SEQUENCE, or is text; a signature list begins with the GUID of its type.
  const isCertificate = bytes[0] === 0x30 || Buffer.from(bytes).includes("-----BEGIN ");
  return isCertificate ? [decodeCertificate(bytes)] : signatureListsOf(bytes);
}

/** The keys to enrol, from a hierarchy, from files, or from both. */
export async function readEnrolment(files: CommandFiles, flags: EnrollFlags): Promise<EnrollVariableStoreOptions> {
  const { keys, pk, kek = [], db = [], dbx = [], owner, timestamp } = flags;
  if ((keys === undefined) === (pk === undefined)) throw new UsageError("expected --keys or --pk, and not both");
  const set = keys === undefined ? undefined : await files.keys(keys, { roles: [] });
  const all = async (paths: readonly string[]): Promise<SignatureDatabase> =>
    (await Promise.all(paths.map((path) => readDatabase(files, path)))).flat();
  const platformKey = set?.certificates.PK ?? decodeCertificate(await files.read(pk ?? ""));
  const enrolment = {
    pk: platformKey,
    kek: [...(set === undefined ? [] : [set.certificates.KEK]), ...(await all(kek))],
    db: [...(set === undefined ? [] : [set.certificates.db]), ...(await all(db))],
    dbx: dbx.length === 0 ? undefined : await all(dbx),
    timestamp: timestamp === undefined ? platformKey.notBefore : parseTime(timestamp),
  };
  const named = owner ?? set?.owner;
  if (named === undefined || enrolment.kek.length === 0 || enrolment.db.length === 0) {
    throw new UsageError("expected --kek, --db and --owner with --pk, got one of them less");
  }
  return { ...enrolment, owner: named };
}

/** Who signs a variable, and what it holds when nothing else is said. */
export async function chooseSigner(
  files: CommandFiles,
  name: string,
  flags: SignFlags,
  open: OpenKeys,
): Promise<{ signer: Signer; certificate: Certificate; owner: string; own: SignatureDatabase }> {
  const { keys, owner } = flags;
  if (keys === undefined) {
    const signing = await loadSigning(files, flags, open);
    if (signing === undefined) throw new UsageError("expected --keys, or --key and --certificate");
    if (owner === undefined && !flags.delete) throw new UsageError("expected --owner with --key, got none");
    return { signer: signing.signer, certificate: signing.certificate, owner: owner ?? "", own: [] };
  }
  if (flags.key !== undefined) throw new UsageError("expected --keys or --key, got both");
  const roles = SIGNED_BY[name];
  if (roles === undefined) throw new UsageError(`expected PK, KEK, db or dbx with --keys, got ${name}`);
  const set = await files.keys(keys, { roles: [roles.signer], passphrase: open.passphrase });
  return {
    signer: set.signers[roles.signer],
    certificate: set.certificates[roles.signer],
    owner: owner ?? set.owner,
    own: roles.value.map((role) => set.certificates[role]),
  };
}
