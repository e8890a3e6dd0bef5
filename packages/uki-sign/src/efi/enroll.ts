import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { VARIABLE_ATTRIBUTE } from "../format/efi.ts";
import { EDK2_GUID } from "../format/variable-store.ts";
import { parseOptions } from "../internal/options.ts";
import type { Certificate } from "../x509/certificate.ts";
import {
  SECURE_BOOT_VARIABLE_ATTRIBUTES,
  SECURE_BOOT_VARIABLES,
  type SecureBootVariable,
  secureBootVariableGuid,
} from "./authenticated-variable.ts";
import { isGuid } from "./guid.ts";
import { encodeSignatureDatabase, type SignatureDatabase, type SignatureList } from "./signature-list.ts";
import { decodeVariableStore, encodeVariableStore, type StoredVariable } from "./variable-store.ts";

/** Options of {@link enrollVariableStore}. */
export interface EnrollVariableStoreOptions {
  /** certificate of the platform key */
  readonly pk: Certificate;
  /** keys that may change db and dbx */
  readonly kek: SignatureDatabase;
  /** what may boot */
  readonly db: SignatureDatabase;
  /** what may not, whatever db says; no variable by default */
  readonly dbx?: SignatureDatabase | undefined;
  /** GUID of whoever enrols */
  readonly owner: string;
  /** time of the values, to the second: signed updates have to be later */
  readonly timestamp: Date;
}

const databaseSchema = z.array(
  z.custom<Certificate | SignatureList>(
    (value) => typeof value === "object" && value !== null && ("der" in value || "signatures" in value),
    "expected a certificate or a signature list",
  ),
);

const optionsSchema = z.strictObject({
  pk: z.custom<Certificate>(
    (value) => typeof value === "object" && value !== null && "der" in value,
    "expected a certificate",
  ),
  kek: databaseSchema.min(1),
  db: databaseSchema.min(1),
  dbx: databaseSchema.min(1).optional(),
  owner: z.string().refine(isGuid, "expected a GUID"),
  timestamp: z.date(),
});

/**
 * Enrols Secure Boot keys in an empty variable store, so that the first boot with it already enforces.
 *
 * Firmware derives the rest from what is written here: PK puts it in user mode, and SecureBootEnable is looked at only then.
 * CustomMode and VendorKeysNv get the values that enrolment from inside the firmware leaves behind.
 *
 * @param template - A variable store without keys, such as `OVMF_VARS_4M.fd`; its layout and other variables are kept.
 * @param options - The keys, their owner, the time.
 * @returns A new image of the same size; the same options give the same bytes.
 * @throws {UkiSignError} `UKI_SIGN_VARIABLE_STORE_ENROLLED` when the store has one of PK, KEK, db and dbx already,
 *   `UKI_SIGN_VARIABLE_STORE_FULL` when there is no room, `UKI_SIGN_BAD_OPTIONS` for options that do not fit, and what
 *   {@link decodeVariableStore} and {@link encodeSignatureLists} throw.
 * @see UEFI 2.10 section 32.3; EDK II `SecurityPkg/Library/AuthVariableLib/AuthVariableLib.c`
 * @example
 * const vars = enrollVariableStore(await readFile("OVMF_VARS_4M.fd"), { pk, kek: [kek], db: [db], owner, timestamp });
 */
export function enrollVariableStore(template: Uint8Array, options: EnrollVariableStoreOptions): Uint8Array {
  const { pk, kek, db, dbx, owner, timestamp } = parseOptions(optionsSchema, options);
  const { variables } = decodeVariableStore(template);
  const enrolled = variables.find((variable) => isSecureBootVariable(variable));
  if (enrolled !== undefined) {
    const message = `expected a variable store without keys, got one with ${enrolled.name}`;
    throw new UkiSignError("UKI_SIGN_VARIABLE_STORE_ENROLLED", message, {
      hint: "use an empty store, such as OVMF_VARS_4M.fd; firmware changes keys it has by signed updates",
    });
  }
  const databases: Readonly<Record<SecureBootVariable, SignatureDatabase>> = { PK: [pk], KEK: kek, db, dbx: dbx ?? [] };
  const keys = SECURE_BOOT_VARIABLES.filter((name) => databases[name].length > 0).map((name): StoredVariable => {
    const data = encodeSignatureDatabase(databases[name], owner);
    return { name, guid: secureBootVariableGuid(name), attributes: SECURE_BOOT_VARIABLE_ATTRIBUTES, timestamp, data };
  });
  const own = [...secureBootState(), ...keys];
  const kept = variables.filter((old) => !own.some(({ name, guid }) => name === old.name && guid === old.guid));
  return encodeVariableStore(template, [...kept, ...own]);
}

function isSecureBootVariable({ name, guid }: StoredVariable): boolean {
  return secureBootVariableGuid(name) === guid;
}

function secureBootState(): StoredVariable[] {
  const attributes = VARIABLE_ATTRIBUTE.nonVolatile | VARIABLE_ATTRIBUTE.bootserviceAccess;
  const authenticated = attributes | VARIABLE_ATTRIBUTE.timeBasedAuthenticatedWriteAccess;
  return [
    { name: "SecureBootEnable", guid: EDK2_GUID.secureBootEnable, attributes, data: Uint8Array.of(1) },
    // Standard mode: changes to the keys have to be signed. Firmware resets it to this at every start.
    { name: "CustomMode", guid: EDK2_GUID.customMode, attributes, data: Uint8Array.of(0) },
    // The keys are not those the vendor shipped.
    { name: "VendorKeysNv", guid: EDK2_GUID.vendorKeysNv, attributes: authenticated, data: Uint8Array.of(0) },
  ];
}
