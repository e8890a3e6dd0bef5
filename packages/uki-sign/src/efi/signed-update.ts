import type { KeySet } from "../keys/roles.ts";
import type { Signer } from "../keys/signer.ts";
import type { Certificate } from "../x509/certificate.ts";
import { type SecureBootVariable, signVariable } from "./authenticated-variable.ts";
import { encodeSignatureDatabase, type SignatureDatabase } from "./signature-list.ts";

/** A change of a Secure Boot variable that firmware makes when it is handed over with SetVariable. */
export interface SignedUpdate {
  readonly name: SecureBootVariable;
  /** whether it adds to what is there (APPEND_WRITE) instead of replacing it */
  readonly append: boolean;
  /** certificate of the key that signed it */
  readonly signedBy: Certificate;
  /** what SetVariable takes: EFI_VARIABLE_AUTHENTICATION_2 and the value */
  readonly auth: Uint8Array;
  /** the value alone: signature lists */
  readonly value: Uint8Array;
}

/** A key that signs an update. */
export interface UpdateSigner {
  readonly signer: Signer;
  readonly certificate: Certificate;
}

/** The key of a role, with its certificate. */
export function keyOf<R extends "PK" | "KEK">(keys: KeySet<R>, role: R): UpdateSigner {
  return { signer: keys.signers[role], certificate: keys.certificates[role] };
}

/** Signs one update. */
export async function signUpdate(options: {
  readonly name: SecureBootVariable;
  readonly append?: boolean;
  readonly database: SignatureDatabase;
  readonly owner: string;
  readonly timestamp: Date;
  readonly by: UpdateSigner;
}): Promise<SignedUpdate> {
  const { name, append = false, database, owner, timestamp, by } = options;
  const value = encodeSignatureDatabase(database, owner);
  const auth = await signVariable({ name, append, data: value, timestamp, ...by });
  return { name, append, signedBy: by.certificate, auth, value };
}
