import { generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { encodeCertificate, subjectHash } from "./format/x509.ts";

/** Small letters: the hash of it is that of its canonical form. */
const AUTHORITY_NAME = "leveret sandbox";
const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3650;
const SERVER_DAYS = 30;
/** After so many, a server's certificate is made anew. */
const RENEWED_DAYS = 7;
const MAX_CONTEXTS = 256;
const SERIAL_NUMBER_BYTES = 16;

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** What a guest needs to trust an authority. */
export interface TrustedAuthority {
  /** PEM */
  readonly certificate: string;
  /** name of the file, without `.0`, under which OpenSSL looks for it */
  readonly hash: string;
}

/**
 * Makes certificates for hosts whose requests are looked at, which one guest trusts and nobody else does. Its keys are in the
 * memory of this process and nowhere else, and end with it.
 */
export class Authority implements TrustedAuthority {
  readonly certificate: string;
  readonly hash: string = subjectHash(AUTHORITY_NAME);
  readonly #keys = newKeys();
  readonly #serverKeys = newKeys();
  readonly #contexts = new Map<string, { readonly context: SecureContext; readonly until: number }>();

  constructor() {
    this.certificate = this.#certify(AUTHORITY_NAME, this.#keys.publicKey, AUTHORITY_DAYS);
  }

  /** What a server of a name answers with. */
  contextFor(serverName: string): SecureContext {
    const known = this.#contexts.get(serverName);
    if (known !== undefined && known.until > Date.now()) return known.context;
    if (this.#contexts.size >= MAX_CONTEXTS) this.#contexts.clear();
    const context = createSecureContext({ ...this.serverFor(serverName), minVersion: "TLSv1.2" });
    this.#contexts.set(serverName, { context, until: Date.now() + RENEWED_DAYS * DAY_MS });
    return context;
  }

  /** Makes the certificate of a server; the key is the same for all. @returns PEM, the chain first. */
  serverFor(serverName: string): { readonly cert: string; readonly key: string } {
    const { publicKey, privateKey } = this.#serverKeys;
    const own = this.#certify("leveret sandbox host", publicKey, SERVER_DAYS, serverName);
    const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    return { cert: `${own}${this.certificate}`, key };
  }

  #certify(commonName: string, publicKey: KeyObject, days: number, serverName?: string): string {
    const serialNumber = randomBytes(SERIAL_NUMBER_BYTES);
    serialNumber[0] = 1;
    return encodeCertificate({
      commonName,
      publicKey,
      serverName,
      issuer: { commonName: AUTHORITY_NAME, ...this.#keys },
      serialNumber,
      // Clocks differ.
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + days * DAY_MS),
    });
  }
}

function newKeys(): KeyPair {
  return generateKeyPairSync("ec", { namedCurve: "prime256v1" });
}
