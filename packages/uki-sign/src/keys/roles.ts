import type { Certificate } from "../x509/certificate.ts";
import type { PemSigner } from "./signer.ts";

/**
 * What each key of a hierarchy signs: `PK` changes of KEK, `KEK` changes of db and dbx, `db` what firmware boots,
 * `verity` root hashes, `pcr` the TPM policies that unlock with a measured image.
 */
export const KEY_ROLES = ["PK", "KEK", "db", "verity", "pcr"] as const;
/** One of {@link KEY_ROLES}. */
export type KeyRole = (typeof KEY_ROLES)[number];

/** A key hierarchy in a directory, with the private keys of the roles `R`. */
export interface KeySet<R extends KeyRole = KeyRole> {
  /** absolute path */
  readonly directory: string;
  /** GUID that signature lists name as owner, lower case */
  readonly owner: string;
  /** certificates of all roles */
  readonly certificates: Readonly<Record<KeyRole, Certificate>>;
  /** private keys that were asked for */
  readonly signers: Readonly<Record<R, PemSigner>>;
  /** private key files that others on this machine may read or write: their mode is not 0600 */
  readonly exposedPaths: readonly string[];
}

/** Name of the file with the owner's GUID. */
export const OWNER_FILE = "owner.guid";

/** Name of the file with a role's private key, PKCS#8 in PEM. */
export const keyFile = (role: KeyRole): string => `${role}.key`;

/** Name of the file with a role's certificate, PEM. */
export const certificateFile = (role: KeyRole): string => `${role}.crt`;

/** Name of the file with the public key of PCR policies, PEM, for `.pcrpkey` sections and systemd-cryptenroll. */
export const PCR_PUBLIC_KEY_FILE = "pcr.pub";
