import * as z from "zod";
import { assertDbxSpares, type InUse } from "../efi/dbx-guard.ts";
import { certificateLists } from "../efi/signature-list.ts";
import { keyOf, type SignedUpdate, signUpdate } from "../efi/signed-update.ts";
import { UkiSignError } from "../errors.ts";
import { parseOptions } from "../internal/options.ts";
import type { KeySet } from "./roles.ts";

const optionsSchema = z.strictObject({
  timestamp: z.date(),
  revoke: z.custom<InUse>((value) => typeof value === "object" && value !== null, "expected what is in use").optional(),
});

/** Options of {@link rotateKeys}. */
export interface RotateKeysOptions {
  /** time of the updates, to the second, later than that of the values the machines have */
  readonly timestamp: Date;
  /**
   * forbids the previous db key in the end, unless something that is in use is signed with it; without this it is only no
   * longer trusted
   */
  readonly revoke?: InUse | undefined;
}

/** The updates that take machines from one key hierarchy to another, in the order in which they have to be made. */
export interface KeyRotation {
  /** makes machines trust both: `KEK` and `db` get the next keys beside the previous ones */
  readonly introduce: readonly SignedUpdate[];
  /** leaves only the next keys; for when everything in use is signed with them */
  readonly retire: readonly SignedUpdate[];
}

/**
 * Plans the change from one key hierarchy to another. Between the two steps machines trust both, for as long as it takes
 * to sign everything again; only then is the previous hierarchy retired.
 *
 * @param previous - The hierarchy that machines have, with the private keys of PK and KEK.
 * @param next - The hierarchy they are to get, with the private key of KEK.
 * @param options - Time of the updates, and whether the previous db key is forbidden.
 * @returns Signed updates. Those of `retire` replace whole variables: entries of others have to be added again.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when both hierarchies share a key, `UKI_SIGN_DBX_IN_USE` when what is in use
 *   would be forbidden; what `signVariable` throws.
 * @see UEFI 2.10 sections 8.2.2 and 32.3
 * @example
 * const previous = await loadKeys("keys", { roles: ["PK", "KEK"] });
 * const next = await generateKeys("keys-2027", { name: "hare 2027" });
 * const { introduce, retire } = await rotateKeys(previous, next, { timestamp: new Date("2027-01-01") });
 */
export async function rotateKeys(
  previous: KeySet<"PK" | "KEK">,
  next: KeySet<"KEK">,
  options: RotateKeysOptions,
): Promise<KeyRotation> {
  const { timestamp, revoke } = parseOptions(optionsSchema, options);
  for (const role of ["PK", "KEK", "db"] as const) {
    if (Buffer.compare(previous.certificates[role].publicKey, next.certificates[role].publicKey) !== 0) continue;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected another key for ${role}, got the same one twice`, {
      field: role,
    });
  }
  const { owner } = next;
  const old = previous.certificates;
  const { PK, KEK, db } = next.certificates;
  const [oldPk, oldKek, newKek] = [keyOf(previous, "PK"), keyOf(previous, "KEK"), keyOf(next, "KEK")];
  if (revoke !== undefined) assertDbxSpares({ certificates: [old.db] }, revoke);
  // An update that replaces a variable has to be later than what it replaces, also than what was appended.
  const later = new Date(timestamp.getTime() + 1000);
  const introduce = [
    await signUpdate({ name: "KEK", append: true, database: [KEK], owner, timestamp, by: oldPk }),
    await signUpdate({ name: "db", append: true, database: [db], owner, timestamp, by: oldKek }),
  ];
  const forbidden = certificateLists([old.db], owner);
  const retire = [
    // From here on only the next KEK is needed; PK goes last, because it signs all but db.
    await signUpdate({ name: "db", database: [db], owner, timestamp: later, by: newKek }),
    ...(revoke === undefined
      ? []
      : [await signUpdate({ name: "dbx", append: true, database: forbidden, owner, timestamp: later, by: newKek })]),
    await signUpdate({ name: "KEK", database: [KEK], owner, timestamp: later, by: oldPk }),
    await signUpdate({ name: "PK", database: [PK], owner, timestamp: later, by: oldPk }),
  ];
  return { introduce, retire };
}
