import * as z from "zod";
import { signCms } from "../cms/sign.ts";
import { type VerifiedSigner, verifyCms } from "../cms/verify.ts";
import { UkiSignError } from "../errors.ts";
import {
  EFI_GUID,
  EFI_TIME_BYTES,
  VARIABLE_ATTRIBUTE,
  WIN_CERTIFICATE_GUID_HEADER_BYTES,
  WIN_CERTIFICATE_REVISION,
  WIN_CERTIFICATE_TYPE_EFI_GUID,
} from "../format/efi.ts";
import { concat, copyBytes, viewOf } from "../internal/bytes.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import type { Signer } from "../keys/signer.ts";
import type { HashName } from "../rsa/scheme.ts";
import type { Certificate } from "../x509/certificate.ts";
import { decodeGuid, encodeGuid, isGuid } from "./guid.ts";
import { decodeEfiTime, encodeEfiTime } from "./time.ts";

/** Longest authenticated variable that is decoded, in bytes. */
export const DEFAULT_MAX_AUTHENTICATED_VARIABLE_BYTES = 8 * 1024 * 1024;

/** Attributes of the Secure Boot variables: non-volatile, boot services, runtime, time-based authenticated write. */
export const SECURE_BOOT_VARIABLE_ATTRIBUTES: number =
  VARIABLE_ATTRIBUTE.nonVolatile |
  VARIABLE_ATTRIBUTE.bootserviceAccess |
  VARIABLE_ATTRIBUTE.runtimeAccess |
  VARIABLE_ATTRIBUTE.timeBasedAuthenticatedWriteAccess;

/** Names of the variables that decide what firmware trusts. */
export const SECURE_BOOT_VARIABLES = ["PK", "KEK", "db", "dbx"] as const;
/** One of {@link SECURE_BOOT_VARIABLES}. */
export type SecureBootVariable = (typeof SECURE_BOOT_VARIABLES)[number];

/** Which variable, and how it is written: all of this is signed with the value. */
export interface VariableIdentity {
  readonly name: string;
  /** vendor GUID; known for PK, KEK, db and dbx, required for any other name */
  readonly guid?: string | undefined;
  /** attribute bits of the SetVariable call, {@link SECURE_BOOT_VARIABLE_ATTRIBUTES} by default */
  readonly attributes?: number | undefined;
  /** adds APPEND_WRITE: the value is added to what is there; false by default */
  readonly append?: boolean | undefined;
}

/** Options of {@link signVariable}. */
export interface SignVariableOptions extends VariableIdentity {
  /** the new value: signature lists, or nothing to delete the variable */
  readonly data: Uint8Array;
  /** to the second; firmware takes no time before that of the value it has */
  readonly timestamp: Date;
  readonly signer: Signer;
  /** the signer's certificate: PK for PK and KEK, a KEK for db and dbx */
  readonly certificate: Certificate;
  /** SHA-256 by default, the only one that firmware before 2023 takes */
  readonly hash?: HashName | undefined;
}

/** A decoded EFI_VARIABLE_AUTHENTICATION_2 and the value behind it; byte arrays are copies. */
export interface AuthenticatedVariable {
  readonly timestamp: Date;
  /** SignedData, DER */
  readonly signature: Uint8Array;
  /** the new value */
  readonly data: Uint8Array;
}

const identityFields = {
  name: z
    .string()
    .min(1)
    .max(256)
    // Lone surrogates and NUL have no place in a UTF-16 name that ends at a NUL.
    .refine((name) => !/[\p{Surrogate}\0]/u.test(name), "expected a name without NUL"),
  guid: z.string().refine(isGuid, "expected a GUID").optional(),
  attributes: z
    .int()
    .min(0)
    .max(0xffffffff)
    .refine(
      (bits) => (bits & VARIABLE_ATTRIBUTE.timeBasedAuthenticatedWriteAccess) !== 0,
      "expected bit 0x20 to be set",
    )
    .default(SECURE_BOOT_VARIABLE_ATTRIBUTES),
  append: z.boolean().default(false),
};

const signSchema = z.strictObject({
  ...identityFields,
  data: bytesSchema,
  timestamp: z.date(),
  signer: z.custom<Signer>((value) => typeof value === "object" && value !== null && "signDigest" in value),
  certificate: z.custom<Certificate>((value) => typeof value === "object" && value !== null && "der" in value),
  hash: z.enum(["sha256", "sha384", "sha512"]).default("sha256"),
});

const verifySchema = z.strictObject({
  ...identityFields,
  trusted: z.array(z.custom<Certificate>((value) => typeof value === "object" && value !== null && "der" in value)),
});

/**
 * Makes the data of a SetVariable call for a time-authenticated variable: the content of an `.auth` file.
 *
 * @param options - Variable, value, time, key. The same options give the same bytes.
 * @returns EFI_VARIABLE_AUTHENTICATION_2, then the value.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that do not fit, and what {@link signCms} throws.
 * @see UEFI 2.10 section 8.2.2
 * @example
 * const data = encodeSignatureLists(certificateLists([db], owner));
 * const auth = await signVariable({ name: "db", data, timestamp, signer: kekSigner, certificate: kek });
 */
export async function signVariable(options: SignVariableOptions): Promise<Uint8Array> {
  const { data, timestamp, signer, certificate, hash, ...identity } = parseOptions(signSchema, options);
  const signature = await signCms({
    // 8.2.2 steps 2 to 4: the serialisation is hashed and signed, without attributes, as detached SignedData.
    content: serialise(identity, timestamp, data),
    detached: true,
    attributes: "none",
    contentInfo: false,
    signer,
    certificate,
    hash,
  });
  const header = new Uint8Array(WIN_CERTIFICATE_GUID_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, WIN_CERTIFICATE_GUID_HEADER_BYTES + signature.length, true);
  view.setUint16(4, WIN_CERTIFICATE_REVISION, true);
  view.setUint16(6, WIN_CERTIFICATE_TYPE_EFI_GUID, true);
  header.set(encodeGuid(EFI_GUID.certTypePkcs7), 8);
  return concat(encodeEfiTime(timestamp), header, signature, data);
}

/**
 * Decodes the data of a SetVariable call for a time-authenticated variable. Nothing is verified: see {@link verifyVariable}.
 *
 * @param input - EFI_VARIABLE_AUTHENTICATION_2, then the value; copied.
 * @returns Time, signature and value.
 * @throws {UkiSignError} `UKI_SIGN_VARIABLE_INVALID` when the structure is wrong, `UKI_SIGN_TOO_LARGE` when it is longer than
 *   {@link DEFAULT_MAX_AUTHENTICATED_VARIABLE_BYTES}.
 * @see UEFI 2.10 section 8.2.2
 * @example
 * const lists = decodeSignatureLists(decodeAuthenticatedVariable(await readFile("db.auth")).data);
 */
export function decodeAuthenticatedVariable(input: Uint8Array): AuthenticatedVariable {
  if (input.length > DEFAULT_MAX_AUTHENTICATED_VARIABLE_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_AUTHENTICATED_VARIABLE_BYTES} bytes of variable, got ${input.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const headers = EFI_TIME_BYTES + WIN_CERTIFICATE_GUID_HEADER_BYTES;
  if (input.length < headers) throw badVariable(`expected headers of ${headers} bytes, got ${input.length}`, 0);
  const timestamp = decodeEfiTime(input);
  if (timestamp === undefined || timestamp === "invalid") {
    throw badVariable("expected a time in UTC to the second with all other fields zero", 0);
  }
  const view = viewOf(input);
  const length = view.getUint32(EFI_TIME_BYTES, true);
  const revision = view.getUint16(EFI_TIME_BYTES + 4, true);
  const type = view.getUint16(EFI_TIME_BYTES + 6, true);
  const guid = decodeGuid(input.subarray(EFI_TIME_BYTES + 8));
  if (
    revision !== WIN_CERTIFICATE_REVISION ||
    type !== WIN_CERTIFICATE_TYPE_EFI_GUID ||
    guid !== EFI_GUID.certTypePkcs7
  ) {
    const found = `revision 0x${revision.toString(16)}, type 0x${type.toString(16)}, ${guid}`;
    throw badVariable(`expected a PKCS#7 certificate (${EFI_GUID.certTypePkcs7}), got ${found}`, EFI_TIME_BYTES);
  }
  const end = EFI_TIME_BYTES + length;
  if (length < WIN_CERTIFICATE_GUID_HEADER_BYTES || end > input.length) {
    const message = `expected dwLength of ${WIN_CERTIFICATE_GUID_HEADER_BYTES} to ${input.length - EFI_TIME_BYTES}, got ${length}`;
    throw badVariable(message, EFI_TIME_BYTES);
  }
  return { timestamp, signature: copyBytes(input, headers, end), data: copyBytes(input, end) };
}

/**
 * Verifies a time-authenticated variable as firmware would.
 *
 * @param input - EFI_VARIABLE_AUTHENTICATION_2, then the value.
 * @param options - Which variable it is for, and the certificates that may write it.
 * @returns The decoded variable and who signed it.
 * @throws {UkiSignError} What {@link decodeAuthenticatedVariable} and {@link verifyCms} throw.
 * @see UEFI 2.10 section 8.2.2
 * @example
 * verifyVariable(await readFile("db.auth"), { name: "db", trusted: [kek] });
 */
export function verifyVariable(
  input: Uint8Array,
  options: VariableIdentity & { readonly trusted: readonly Certificate[] },
): AuthenticatedVariable & { readonly signers: readonly VerifiedSigner[] } {
  const { trusted, ...identity } = parseOptions(verifySchema, options);
  const variable = decodeAuthenticatedVariable(input);
  const content = serialise(identity, variable.timestamp, variable.data);
  return { ...variable, signers: verifyCms(variable.signature, { content, trusted }).signers };
}

/**
 * The vendor GUID of a Secure Boot variable.
 *
 * @param name - Name of the variable.
 * @returns The GUID; undefined for any name but PK, KEK, db and dbx.
 */
export function secureBootVariableGuid(name: SecureBootVariable): string;
export function secureBootVariableGuid(name: string): string | undefined;
export function secureBootVariableGuid(name: string): string | undefined {
  if (name === "PK" || name === "KEK") return EFI_GUID.globalVariable;
  return name === "db" || name === "dbx" ? EFI_GUID.imageSecurityDatabase : undefined;
}

type Identity = Pick<z.output<typeof signSchema>, "name" | "guid" | "attributes" | "append">;

/** 8.2.2 step 2: name without its NUL, vendor GUID, attributes, time, value. */
function serialise({ name, guid, attributes, append }: Identity, timestamp: Date, data: Uint8Array): Uint8Array {
  const vendor = guid ?? secureBootVariableGuid(name);
  if (vendor === undefined) {
    const message = `expected the vendor GUID of the variable ${name}, got none`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "guid" });
  }
  const bits = new DataView(new ArrayBuffer(4));
  bits.setUint32(0, append ? attributes | VARIABLE_ATTRIBUTE.appendWrite : attributes, true);
  return concat(
    new Uint8Array(Buffer.from(name, "utf16le")),
    encodeGuid(vendor),
    new Uint8Array(bits.buffer),
    encodeEfiTime(timestamp),
    data,
  );
}

function badVariable(message: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_VARIABLE_INVALID", `${message} (at byte ${offset})`, { offset });
}
