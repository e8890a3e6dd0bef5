import * as z from "zod";
import { encodeGuid } from "../efi/guid.ts";
import type { EfiSignature } from "../efi/signature-list.ts";
import { EFI_GUID } from "../format/efi.ts";
import { concat, toHex } from "../internal/bytes.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import { measurementOf, type PcrMeasurement, type PcrPrediction, predict } from "./prediction.ts";
import { PCR_BANKS, type PcrBank } from "./register.ts";

const optionsSchema = z.strictObject({
  secureBoot: z.boolean().default(true),
  variables: z.strictObject({
    PK: bytesSchema.default(new Uint8Array()),
    KEK: bytesSchema.default(new Uint8Array()),
    db: bytesSchema.default(new Uint8Array()),
    dbx: bytesSchema.default(new Uint8Array()),
    dbt: bytesSchema.optional(),
    dbr: bytesSchema.optional(),
  }),
  authorities: z
    .array(z.strictObject({ owner: z.string(), data: bytesSchema }))
    .readonly()
    .default([]),
  bank: z.enum(PCR_BANKS).default("sha256"),
});

/** Values of the variables that decide what firmware starts, as GetVariable returns them; empty when not set. */
export interface SecureBootVariableValues {
  readonly PK?: Uint8Array | undefined;
  readonly KEK?: Uint8Array | undefined;
  readonly db?: Uint8Array | undefined;
  readonly dbx?: Uint8Array | undefined;
  /** time stamping authorities; measured only when the machine has the variable */
  readonly dbt?: Uint8Array | undefined;
  /** recovery authorities; measured only when the machine has the variable */
  readonly dbr?: Uint8Array | undefined;
}

/** Options of {@link predictPcr7}. */
export interface PredictPcr7Options {
  /** whether Secure Boot is enforced; true by default */
  readonly secureBoot?: boolean | undefined;
  readonly variables: SecureBootVariableValues;
  /** entries of `db` by which programs are accepted, in the order of loading; each is measured once. See `findAuthority` */
  readonly authorities?: readonly EfiSignature[] | undefined;
  /** bank; `sha256` when absent */
  readonly bank?: PcrBank | undefined;
}

/**
 * Predicts PCR 7, into which firmware measures what it trusts, and which part of it was needed.
 *
 * @param options - The variables, and the entries of `db` that were used.
 * @returns The value, and the measurements it is made of, for `explainPcr`.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options of the wrong type and an owner that is no GUID.
 * @see TCG PC Client Platform Firmware Profile 1.06 section 3.3.4.8
 * @example
 * const authorities = programs.map((image) => findAuthority(image, { db, dbx }));
 * const { value } = predictPcr7({ variables: { PK, KEK, db, dbx }, authorities });
 */
export function predictPcr7(options: PredictPcr7Options): PcrPrediction {
  const { secureBoot, variables, authorities, bank } = parseOptions(optionsSchema, options);
  const { PK, KEK, db, dbx, dbt, dbr } = variables;
  const config = (name: string, guid: string, data: Uint8Array): PcrMeasurement => {
    const source = `variable ${name}, ${data.length} bytes`;
    return measurementOf("EV_EFI_VARIABLE_DRIVER_CONFIG", bank, encodeVariableData(name, guid, data), source);
  };
  const { globalVariable, imageSecurityDatabase } = EFI_GUID;
  const used = new Map<string, PcrMeasurement>();
  for (const { owner, data } of authorities) {
    const entry = concat(encodeGuid(owner), data);
    const event = encodeVariableData("db", imageSecurityDatabase, entry);
    const source = `entry of db, ${entry.length} bytes, owner ${owner.toLowerCase()}`;
    const measurement = measurementOf("EV_EFI_VARIABLE_AUTHORITY", bank, event, source);
    const key = toHex(measurement.digest);
    if (!used.has(key)) used.set(key, measurement);
  }
  return predict(7, bank, [
    config("SecureBoot", globalVariable, new Uint8Array([secureBoot ? 1 : 0])),
    config("PK", globalVariable, PK),
    config("KEK", globalVariable, KEK),
    config("db", imageSecurityDatabase, db),
    config("dbx", imageSecurityDatabase, dbx),
    ...(dbt === undefined ? [] : [config("dbt", imageSecurityDatabase, dbt)]),
    ...(dbr === undefined ? [] : [config("dbr", imageSecurityDatabase, dbr)]),
    measurementOf("EV_SEPARATOR", bank, new Uint8Array(4), "separator"),
    ...used.values(),
  ]);
}

/** UEFI_VARIABLE_DATA, which is measured whole. */
function encodeVariableData(name: string, guid: string, data: Uint8Array): Uint8Array {
  const sizes = new DataView(new ArrayBuffer(16));
  sizes.setBigUint64(0, BigInt(name.length), true);
  sizes.setBigUint64(8, BigInt(data.length), true);
  return concat(encodeGuid(guid), new Uint8Array(sizes.buffer), new Uint8Array(Buffer.from(name, "utf16le")), data);
}
