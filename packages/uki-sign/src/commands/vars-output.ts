import { type CommandIo, table } from "@leveret/command";
import { decodeCms } from "../cms/decode.ts";
import { decodeAuthenticatedVariable, secureBootVariableGuid } from "../efi/authenticated-variable.ts";
import { decodeSignatureLists, type SignatureList } from "../efi/signature-list.ts";
import { decodeVariableStore, type StoredVariable } from "../efi/variable-store.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { decodeCertificate } from "../x509/certificate.ts";
import { printable } from "./arguments.ts";
import { databaseFileOf, signatureListsOf } from "./database-file.ts";

/** One entry of a signature database, for people. */
export interface DescribedEntry {
  readonly type: string;
  readonly owner: string;
  /** subject of a certificate, hex of anything else */
  readonly name: string;
}

/** A variable, for people. */
export interface DescribedVariable {
  readonly name: string;
  readonly guid: string;
  readonly attributes: number;
  readonly sizeBytes: number;
  readonly timestamp: string | undefined;
  /** undefined for variables that are no signature database */
  readonly entries: readonly DescribedEntry[] | undefined;
}

/** What a file shown by `uki-sign vars show` turned out to be. */
export type DetectedVariables =
  | {
      readonly kind: "uki-variable-store";
      readonly sizeBytes: number;
      readonly freeBytes: number;
      readonly variables: readonly DescribedVariable[];
    }
  | {
      readonly kind: "uki-authenticated-variable";
      readonly timestamp: string;
      readonly signers: readonly string[];
      readonly entries: readonly DescribedEntry[];
    }
  | { readonly kind: "uki-signature-list"; readonly entries: readonly DescribedEntry[] };

/** Decodes a file by what it looks like; anything that is neither of the other two is read as a signature list. */
export function detectVariables(bytes: Uint8Array): DetectedVariables {
  const file = databaseFileOf(bytes);
  if (file === "variable store") {
    const { variables, sizeBytes, freeBytes } = decodeVariableStore(bytes);
    return { kind: "uki-variable-store", sizeBytes, freeBytes, variables: variables.map(describeVariable) };
  }
  if (file === "authenticated variable") {
    const { timestamp, signature, data } = decodeAuthenticatedVariable(bytes);
    const signers = decodeCms(signature).signers.map(({ identifier }) =>
      identifier.kind === "issuerAndSerialNumber"
        ? `by a certificate of ${printable(identifier.issuer)}`
        : `by key ${toHex(identifier.subjectKeyIdentifier)}`,
    );
    const entries = describeDatabase(data);
    return { kind: "uki-authenticated-variable", timestamp: timestamp.toISOString(), signers, entries };
  }
  return { kind: "uki-signature-list", entries: describeLists(signatureListsOf(bytes)) };
}

/** A stored variable, for people. */
export function describeVariable({ name, guid, attributes, timestamp, data }: StoredVariable): DescribedVariable {
  const entries = secureBootVariableGuid(name) === guid ? describeDatabase(data) : undefined;
  return { name, guid, attributes, sizeBytes: data.length, timestamp: timestamp?.toISOString(), entries };
}

/** The entries of a signature database, for people. */
export function describeDatabase(data: Uint8Array): DescribedEntry[] {
  return describeLists(decodeSignatureLists(data));
}

function describeLists(lists: readonly SignatureList[]): DescribedEntry[] {
  return lists.flatMap(({ type, signatures }) =>
    signatures.map(({ owner, data: value }) => ({
      type,
      owner,
      name: type === "x509" ? subjectOf(value) : hexOf(value),
    })),
  );
}

/** Prints variables as a table, and the entries of signature databases below them. */
export function printVariables(io: CommandIo, variables: readonly DescribedVariable[]): void {
  const rows = variables.flatMap(({ name, sizeBytes, timestamp, entries = [] }) => [
    [printable(name), `${sizeBytes} B`, timestamp ?? ""],
    ...entries.map((entry) => [`  ${entry.type}`, "", printable(entry.name)]),
  ]);
  if (rows.length > 0) io.stdout.write(`${table(rows)}\n`);
}

function subjectOf(der: Uint8Array): string {
  try {
    return decodeCertificate(der).subject;
  } catch (error) {
    // Firmware ignores a certificate it cannot read, so a store that holds one is still worth showing.
    if (error instanceof UkiSignError) return `unreadable certificate: ${error.message}`;
    throw error;
  }
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}
