import * as z from "zod";
import { encodeSignatureDatabase, type SignatureDatabase } from "../efi/signature-list.ts";
import { keyOf, type SignedUpdate, signUpdate } from "../efi/signed-update.ts";
import { parseOptions } from "../internal/options.ts";
import type { KeySet } from "./roles.ts";

const databaseSchema = z
  .custom<SignatureDatabase>(Array.isArray, "expected certificates and signature lists")
  .default([]);
const optionsSchema = z.strictObject({
  kek: databaseSchema,
  db: databaseSchema,
  dbx: databaseSchema,
  timestamp: z.date().optional(),
});

/** Options of {@link exportKeys}. */
export interface ExportKeysOptions {
  /** what KEK holds besides the hierarchy's own key */
  readonly kek?: SignatureDatabase | undefined;
  /** what db holds besides the hierarchy's own key: certificates of option ROMs and other systems */
  readonly db?: SignatureDatabase | undefined;
  /** what dbx holds; no variable by default */
  readonly dbx?: SignatureDatabase | undefined;
  /** time of the values, to the second; start of PK's validity by default, so that the same keys give the same files */
  readonly timestamp?: Date | undefined;
}

/**
 * The Secure Boot variables of a key hierarchy, for a machine that has none: for systemd-boot, which enrols
 * `loader/keys/NAME/*.auth`, and for the set-up menus of firmware.
 *
 * @param keys - The hierarchy, with the private keys of PK and KEK.
 * @param options - What else is trusted.
 * @returns PK, KEK, db and, where there is one, dbx. PK signs itself and KEK, KEK signs db and dbx.
 * @throws {UkiSignError} What `signVariable` and `encodeSignatureDatabase` throw.
 * @see systemd 257 systemd-boot(7), "loader/keys/NAME/"; UEFI 2.10 section 32.3
 * @example
 * for (const { name, auth } of await exportKeys(await loadKeys("keys", { roles: ["PK", "KEK"] }))) {
 *   await writeFile(`esp/loader/keys/auto/${name}.auth`, auth);
 * }
 */
export async function exportKeys(keys: KeySet<"PK" | "KEK">, options: ExportKeysOptions = {}): Promise<SignedUpdate[]> {
  const { kek, db, dbx, timestamp = keys.certificates.PK.notBefore } = parseOptions(optionsSchema, options);
  const { owner, certificates } = keys;
  const [pk, kekKey] = [keyOf(keys, "PK"), keyOf(keys, "KEK")];
  const forbidden = encodeSignatureDatabase(dbx, owner).length > 0;
  return await Promise.all([
    signUpdate({ name: "PK", database: [certificates.PK], owner, timestamp, by: pk }),
    signUpdate({ name: "KEK", database: [certificates.KEK, ...kek], owner, timestamp, by: pk }),
    signUpdate({ name: "db", database: [certificates.db, ...db], owner, timestamp, by: kekKey }),
    ...(forbidden ? [signUpdate({ name: "dbx", database: dbx, owner, timestamp, by: kekKey })] : []),
  ]);
}
