// X.509 version 3 certificates with ECDSA keys: RFC 5280, section 4.1; RFC 5480; RFC 5758, section 3.2. DER: ITU-T X.690.
import { createHash, type KeyObject, sign } from "node:crypto";

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  sequence: 0x30,
  set: 0x31,
  version: 0xa0,
  extensions: 0xa3,
  keyIdentifier: 0x80,
  dnsName: 0x82,
} as const;

/** Contents of object identifiers. */
const OID = {
  commonName: "550403",
  subjectKeyIdentifier: "551d0e",
  keyUsage: "551d0f",
  subjectAltName: "551d11",
  basicConstraints: "551d13",
  authorityKeyIdentifier: "551d23",
  extendedKeyUsage: "551d25",
  serverAuth: "2b06010505070301",
  ecdsaWithSha256: "2a8648ce3d040302",
} as const;

const VERSION_3 = 2;
const KEY_IDENTIFIER_BYTES = 20;
/** Named bits, of which the first is the highest: `digitalSignature`; `keyCertSign` and `cRLSign`. */
const DIGITAL_SIGNATURE = Uint8Array.of(7, 0x80);
const CERTIFICATE_SIGN = Uint8Array.of(1, 0x06);

/** Who a certificate is made for, and by whom. */
export interface CertificateRequest {
  readonly commonName: string;
  readonly publicKey: KeyObject;
  readonly issuer: { readonly commonName: string; readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  /** a server's name; without it, the certificate is an authority's */
  readonly serverName?: string | undefined;
  /** at most 20 bytes, of which the first is 1 to 127 */
  readonly serialNumber: Uint8Array;
  /** to the second */
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Encodes a certificate. The keys are on P-256. @returns PEM. */
export function encodeCertificate(request: CertificateRequest): string {
  const { commonName, publicKey, issuer, serialNumber, notBefore, notAfter } = request;
  const algorithm = der(TAG.sequence, oid(OID.ecdsaWithSha256));
  const toSign = der(
    TAG.sequence,
    der(TAG.version, der(TAG.integer, Uint8Array.of(VERSION_3))),
    der(TAG.integer, serialNumber),
    algorithm,
    der(TAG.sequence, encodeName(issuer.commonName)),
    der(TAG.sequence, time(notBefore), time(notAfter)),
    der(TAG.sequence, encodeName(commonName)),
    publicKey.export({ type: "spki", format: "der" }),
    der(TAG.extensions, der(TAG.sequence, ...extensions(request))),
  );
  const signature = sign("sha256", toSign, issuer.privateKey);
  const certificate = der(TAG.sequence, toSign, algorithm, der(TAG.bitString, Uint8Array.of(0), signature));
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}

/**
 * Under which name OpenSSL looks for the certificate of an authority in a directory: `HASH.0`.
 *
 * @param commonName - Small letters, without blanks beside each other: its canonical form.
 * @see OpenSSL, `X509_NAME_hash_ex(3)`
 */
export function subjectHash(commonName: string): string {
  const digest = createHash("sha1").update(encodeName(commonName)).digest();
  return digest.readUInt32LE().toString(16).padStart(8, "0");
}

function extensions({ publicKey, issuer, serverName }: CertificateRequest): Buffer[] {
  const isAuthority = serverName === undefined;
  const constraints = isAuthority ? [der(TAG.boolean, Uint8Array.of(0xff)), der(TAG.integer, Uint8Array.of(0))] : [];
  return [
    extension(OID.basicConstraints, true, der(TAG.sequence, ...constraints)),
    extension(OID.keyUsage, true, der(TAG.bitString, isAuthority ? CERTIFICATE_SIGN : DIGITAL_SIGNATURE)),
    extension(OID.subjectKeyIdentifier, false, der(TAG.octetString, keyIdentifier(publicKey))),
    extension(
      OID.authorityKeyIdentifier,
      false,
      der(TAG.sequence, der(TAG.keyIdentifier, keyIdentifier(issuer.publicKey))),
    ),
    ...(isAuthority
      ? []
      : [
          extension(OID.extendedKeyUsage, false, der(TAG.sequence, oid(OID.serverAuth))),
          extension(OID.subjectAltName, false, der(TAG.sequence, der(TAG.dnsName, Buffer.from(serverName, "latin1")))),
        ]),
  ];
}

function extension(id: string, isCritical: boolean, value: Uint8Array): Buffer {
  const critical = isCritical ? [der(TAG.boolean, Uint8Array.of(0xff))] : [];
  return der(TAG.sequence, oid(id), ...critical, der(TAG.octetString, value));
}

/** The parts of a name, without what is around them. */
function encodeName(commonName: string): Buffer {
  const attribute = der(TAG.sequence, oid(OID.commonName), der(TAG.utf8String, Buffer.from(commonName)));
  return der(TAG.set, attribute);
}

/** @see RFC 7093, section 2, method 1 */
function keyIdentifier(key: KeyObject): Uint8Array {
  const digest = createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest();
  return digest.subarray(0, KEY_IDENTIFIER_BYTES);
}

function time(date: Date): Buffer {
  const text = date.toISOString();
  const digits = text.slice(0, text.indexOf(".")).replace(/[-:T]/g, "");
  // Until 2049 two digits of a year are asked for. @see RFC 5280, section 4.1.2.5
  return der(TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`));
}

function oid(hex: string): Buffer {
  return der(TAG.oid, Buffer.from(hex, "hex"));
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const contents = Buffer.concat(parts);
  const { length } = contents;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...size), contents]);
}
