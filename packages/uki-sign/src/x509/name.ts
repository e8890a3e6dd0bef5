import { OID } from "../format/oids.ts";
import { toHex } from "../internal/bytes.ts";
import {
  type DerElement,
  der,
  derOid,
  derPrintable,
  derSequence,
  derUtf8,
  into,
  readOid,
  TAG,
} from "../internal/der.ts";

/** Parts of a name that generated certificates may have; written in this order. */
export interface NameParts {
  readonly country?: string | undefined;
  readonly organization?: string | undefined;
  readonly organizationalUnit?: string | undefined;
  readonly commonName: string;
}

/** A Name of RFC 5280 section 4.1.2.4. */
export interface DecodedName {
  readonly der: Uint8Array;
  /** RFC 4514 text, most specific part first */
  readonly text: string;
}

const SHORT_NAMES: Readonly<Record<string, string>> = {
  [OID.commonName]: "CN",
  [OID.countryName]: "C",
  [OID.localityName]: "L",
  [OID.stateOrProvinceName]: "ST",
  [OID.organizationName]: "O",
  [OID.organizationalUnitName]: "OU",
};

/** Decodes a Name; values that are no text are shown as `#` and the hex of their encoding (RFC 4514 section 2.4). */
export function decodeName(element: DerElement): DecodedName {
  const relative: string[] = [];
  const names = into(element);
  while (!names.done) {
    const set = names.enter("relative distinguished name", TAG.set);
    const attributes: string[] = [];
    while (!set.done) {
      const pair = set.enter("attribute");
      const oid = readOid(pair.next("attribute type", TAG.oid));
      const value = pair.next("attribute value");
      pair.end("attribute");
      attributes.push(`${SHORT_NAMES[oid] ?? oid}=${renderValue(value)}`);
    }
    relative.unshift(attributes.join("+"));
  }
  return { der: element.bytes, text: relative.join(",") };
}

function renderValue({ tag, contents, bytes }: DerElement): string {
  const buffer = Buffer.from(contents.buffer, contents.byteOffset, contents.length);
  if (tag === TAG.utf8String) return escapeValue(buffer.toString("utf8"));
  if (tag === TAG.printableString || tag === TAG.ia5String || tag === TAG.t61String) {
    return escapeValue(buffer.toString("latin1"));
  }
  return `#${toHex(bytes)}`;
}

// RFC 4514 2.4, and control, format and other characters without a shape as hex pairs, so that a name can neither forge
// lines of output nor reorder one.
function escapeValue(text: string): string {
  return text
    .replaceAll(/["+,;<>\\]|^[ #]| $/g, "\\$&")
    .replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
      [...Buffer.from(character)].map((octet) => `\\${octet.toString(16).padStart(2, "0").toUpperCase()}`).join(""),
    );
}

/** Encodes a Name with one attribute per relative name. */
export function encodeName(parts: NameParts): Uint8Array {
  const attribute = (oid: string, value: Uint8Array | undefined): Uint8Array[] =>
    value === undefined ? [] : [der(TAG.set, derSequence(derOid(oid), value))];
  const utf8 = (text: string | undefined): Uint8Array | undefined => (text === undefined ? undefined : derUtf8(text));
  return derSequence(
    // X.520 wants the country as PrintableString.
    ...attribute(OID.countryName, parts.country === undefined ? undefined : derPrintable(parts.country)),
    ...attribute(OID.organizationName, utf8(parts.organization)),
    ...attribute(OID.organizationalUnitName, utf8(parts.organizationalUnit)),
    ...attribute(OID.commonName, utf8(parts.commonName)),
  );
}
