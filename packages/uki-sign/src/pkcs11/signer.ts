import { createPublicKey, type KeyObject } from "node:crypto";
import { resolve } from "node:path";
import type { Duplex } from "node:stream";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { CALLS } from "../format/p11-kit.ts";
import {
  ATTRIBUTE,
  CERTIFICATE_X509,
  HASH_MECHANISM,
  KEY_RSA,
  MASK_GENERATION,
  MECHANISM,
  OBJECT_CLASS,
  USER_CONTEXT_SPECIFIC,
} from "../format/pkcs11.ts";
import { readSecret } from "../internal/files.ts";
import { parseOptions } from "../internal/options.ts";
import type { PassphraseSource } from "../keys/load.ts";
import { type PemSigner, requireRsa } from "../keys/signer.ts";
import { encodeDigestInfo } from "../rsa/pkcs1.ts";
import { type HashName, type RsaPadding, schemeOf } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { type Certificate, decodeCertificate } from "../x509/certificate.ts";
import { Connection, type Peer } from "./connection.ts";
import { CallRefused, type RequestWriter } from "./message.ts";
import { connectServer, startRemote } from "./peer.ts";
import { quote, Session, told } from "./session.ts";
import { type Pkcs11Uri, parsePkcs11Uri } from "./uri.ts";

/** How long a token may take for one answer, in milliseconds: somebody may have to enter a PIN or touch a key meanwhile. */
export const DEFAULT_PKCS11_TIMEOUT_MS = 60_000;

const optionsSchema = z.strictObject({
  pin: z
    .union([
      z.string(),
      z.custom<PassphraseSource>((value) => typeof value === "function", "expected a string or a function"),
    ])
    .optional(),
  connect: z
    .union([
      z.string(),
      z.custom<() => Promise<Duplex>>((value) => typeof value === "function", "expected a path or a function"),
    ])
    .optional(),
  timeoutMs: z.int().min(1).max(2_147_483_647).default(DEFAULT_PKCS11_TIMEOUT_MS),
  signal: z.instanceof(AbortSignal).optional(),
});

/** Options of {@link pkcs11Signer} and {@link pkcs11Certificate}. */
export interface Pkcs11Options {
  /** PIN of the token, or a function that is asked for it when the token wants one; that of `pin-source` by default */
  readonly pin?: string | PassphraseSource | undefined;
  /** socket of a running `p11-kit server`, or what opens a stream to one; `p11-kit remote` is started by default */
  readonly connect?: string | (() => Promise<Duplex>) | undefined;
  /** time for each answer in `milliseconds`, {@link DEFAULT_PKCS11_TIMEOUT_MS} by default */
  readonly timeoutMs?: number | undefined;
  /** gives up waiting */
  readonly signal?: AbortSignal | undefined;
}

/** A signer whose key never leaves its token. */
export interface Pkcs11Signer extends PemSigner, AsyncDisposable {
  /** label of the token */
  readonly token: string;
  /** Ends the session; calling it again does nothing. */
  close(): Promise<void>;
}

/**
 * A signer with an RSA key on a PKCS#11 token: a smart card, an HSM, a software token. The token's module, which is native
 * code, runs in a process of its own, that of p11-kit, which this package starts and talks to.
 *
 * @param uri - Which key: `pkcs11:token=hare;object=db`. `module-path` names a module that p11-kit has not been told about.
 * @param options - Where the PIN comes from, and how p11-kit is reached.
 * @returns The signer, logged in until `close`. What the token returns as a signature is verified.
 * @throws {UkiSignError} `UKI_SIGN_PKCS11_URI` for another URI, `UKI_SIGN_TOKEN` when no token, or more than one, is meant,
 *   `UKI_SIGN_PIN` when the PIN is missing or wrong (there is one attempt, and never the last one before the token locks
 *   itself), `UKI_SIGN_OBJECT_MISSING` and `UKI_SIGN_OBJECT_AMBIGUOUS` when no key, or more than one, is meant,
 *   `UKI_SIGN_KEY_UNSUPPORTED` when it is no RSA key of 2048 to 8192 bits, `UKI_SIGN_PKCS11` when p11-kit is not there or
 *   the token fails. Signing throws `UKI_SIGN_MECHANISM` when the key does not sign in that way.
 * @see PKCS #11 v2.40; RFC 7512
 * @example
 * await using signer = await pkcs11Signer("pkcs11:token=hare;object=db?pin-source=/run/pin");
 * const signed = await signPe(image, { signer, certificate });
 */
export async function pkcs11Signer(uri: string, options: Pkcs11Options = {}): Promise<Pkcs11Signer> {
  const parsed = parsePkcs11Uri(uri);
  const { pin, session } = await openSession(parsed, "private", options);
  try {
    await session.login(pin);
    const object = await session.findOne(parsed, "private key", []);
    const key = await readKey(session, object);
    const publicKey = new Uint8Array(key.publicKey.export({ format: "der", type: "spki" }));
    const operation = new SignOperation(session, object, key, pin);
    let closing: Promise<void> | undefined;
    const close = (): Promise<void> => {
      closing ??= session.connection[Symbol.asyncDispose]();
      return closing;
    };
    return {
      keyType: "rsa",
      keyBits: requireRsa(key.publicKey),
      publicKey,
      token: session.token.label,
      signDigest: (hash, digest, padding = "pkcs1") => operation.sign(hash, digest, padding),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await session.connection[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Reads a certificate from a PKCS#11 token. Certificates are public objects, so no PIN is needed.
 *
 * @param uri - Which certificate: `pkcs11:token=hare;object=db`.
 * @param options - How p11-kit is reached; `pin` is not asked for.
 * @returns The certificate.
 * @throws {UkiSignError} As {@link pkcs11Signer}; `UKI_SIGN_CERTIFICATE_INVALID` for one that is not acceptable.
 * @see PKCS #11 v2.40 section 4.6.3; RFC 7512
 * @example
 * const certificate = await pkcs11Certificate("pkcs11:token=hare;object=db");
 */
export async function pkcs11Certificate(uri: string, options: Pkcs11Options = {}): Promise<Certificate> {
  const parsed = parsePkcs11Uri(uri);
  const { session } = await openSession(parsed, "cert", options);
  await using _ = session.connection;
  const object = await session.findOne(parsed, "certificate", [[ATTRIBUTE.certificateType, CERTIFICATE_X509]]);
  const [value] = await session.attributes(object, [{ type: ATTRIBUTE.value, kind: "bytes" }]);
  return decodeCertificate(value ?? new Uint8Array());
}

async function openSession(
  uri: Pkcs11Uri,
  type: "private" | "cert",
  options: Pkcs11Options,
): Promise<{ pin: PassphraseSource; session: Session }> {
  const { pin, connect, timeoutMs, signal } = parseOptions(optionsSchema, options);
  if (uri.type !== undefined && uri.type !== type) {
    const message = `expected type=${type} in the PKCS#11 URI, got type=${uri.type}`;
    throw new UkiSignError("UKI_SIGN_PKCS11_URI", message);
  }
  if (uri.modulePath !== undefined && connect !== undefined) {
    const message = "expected no module-path in the PKCS#11 URI with a server that has its own modules, got one";
    throw new UkiSignError("UKI_SIGN_PKCS11_URI", message);
  }
  const connection = await Connection.open(await openPeer(uri, connect), { timeoutMs, signal });
  try {
    return { pin: pinSource(uri, pin, signal), session: await Session.open(connection, uri) };
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
}

async function openPeer(uri: Pkcs11Uri, connect: string | (() => Promise<Duplex>) | undefined): Promise<Peer> {
  if (typeof connect === "string") return await connectServer(connect);
  if (connect !== undefined) return { stream: await connect() };
  return await startRemote(uri.modulePath);
}

function pinSource(
  { pinSource: path }: Pkcs11Uri,
  pin: string | PassphraseSource | undefined,
  signal: AbortSignal | undefined,
): PassphraseSource {
  if (typeof pin === "string") return async () => pin;
  return async (of) => (path === undefined ? await pin?.(of) : await readSecret(resolve(path), signal));
}

interface TokenKey {
  readonly publicKey: KeyObject;
  /** whether the PIN is wanted for each signature */
  readonly alwaysAuthenticate: boolean;
}

async function readKey(session: Session, object: bigint): Promise<TokenKey> {
  const [type, modulus, exponent, always, id] = await session.attributes(object, [
    { type: ATTRIBUTE.keyType, kind: "ulong" },
    { type: ATTRIBUTE.modulus, kind: "bytes" },
    { type: ATTRIBUTE.publicExponent, kind: "bytes" },
    { type: ATTRIBUTE.alwaysAuthenticate, kind: "byte" },
    { type: ATTRIBUTE.id, kind: "bytes" },
  ]);
  if (type === undefined || !type.every((octet) => BigInt(octet) === KEY_RSA)) {
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", "expected an RSA key on the token, got another one");
  }
  const e = exponent ?? (await readExponent(session, id));
  if (modulus === undefined || e === undefined) {
    const message = "expected a modulus and a public exponent with the key on the token, got less";
    throw new UkiSignError("UKI_SIGN_OBJECT_MISSING", message, { hint: "store the public key on the token too" });
  }
  const [n, exp] = [modulus, e].map((bytes) => Buffer.from(bytes).toString("base64url"));
  return { publicKey: createRsaKey(n ?? "", exp ?? ""), alwaysAuthenticate: always?.[0] === 1 };
}

function createRsaKey(n: string, e: string): KeyObject {
  try {
    const key = createPublicKey({ key: { kty: "RSA", n, e }, format: "jwk" });
    requireRsa(key);
    return key;
  } catch (cause) {
    if (cause instanceof UkiSignError) throw cause;
    throw new UkiSignError("UKI_SIGN_KEY_UNSUPPORTED", "expected an RSA key on the token, got other numbers", {
      cause,
    });
  }
}

/** Some tokens keep the public exponent with the public key only. */
async function readExponent(session: Session, id: Uint8Array | undefined): Promise<Uint8Array | undefined> {
  if (id === undefined || id.length === 0) return undefined;
  const [object] = await session.find([
    [ATTRIBUTE.class, OBJECT_CLASS.publicKey],
    [ATTRIBUTE.id, id],
  ]);
  if (object === undefined) return undefined;
  return (await session.attributes(object, [{ type: ATTRIBUTE.publicExponent, kind: "bytes" }]))[0];
}

/** Signing with a key: to begin, to log in again where the key wants that, and to get the signature belong together. */
class SignOperation {
  readonly #session: Session;
  readonly #object: bigint;
  readonly #key: TokenKey;
  readonly #pin: PassphraseSource;
  #last: Promise<unknown> = Promise.resolve();
  /** whether p11-kit writes mechanisms as 0.25.5 and older did, which it does not say itself */
  #olderForm: boolean | undefined;

  constructor(session: Session, object: bigint, key: TokenKey, pin: PassphraseSource) {
    this.#session = session;
    this.#object = object;
    this.#key = key;
    this.#pin = pin;
  }

  sign(hash: HashName, digest: Uint8Array, padding: RsaPadding): Promise<Uint8Array> {
    const signature = this.#last.then(() => this.#sign(hash, digest, padding));
    this.#last = signature.catch(() => {});
    return signature;
  }

  async #sign(hash: HashName, digest: Uint8Array, padding: RsaPadding): Promise<Uint8Array> {
    const { connection, handle, token } = this.#session;
    const what = `a signature with ${padding === "pss" ? "RSASSA-PSS" : "RSASSA-PKCS1-v1_5"} by token ${quote(token.label)}`;
    await told(this.#begin(hash, padding), what, "UKI_SIGN_MECHANISM");
    if (this.#key.alwaysAuthenticate) await this.#session.login(this.#pin, USER_CONTEXT_SPECIFIC);
    const data = padding === "pss" ? digest : encodeDigestInfo(hash, digest);
    const size = Math.ceil(requireRsa(this.#key.publicKey) / 8);
    const answer = await told(
      connection.call(CALLS.sign, (request) => request.ulong(handle).byteArray(data).u32(size)),
      what,
    );
    const signature = answer.byteArray("the signature");
    answer.end();
    if (verifyDigest(this.#key.publicKey, schemeOf(hash, padding), digest, signature)) return signature;
    throw new UkiSignError("UKI_SIGN_PKCS11", `expected ${what}, got something else`);
  }

  /**
   * A server that reads the other form than the one that was written sees another key, or no parameters, and refuses. The
   * older form goes first, because older servers end when they run out of bytes.
   */
  async #begin(hash: HashName, padding: RsaPadding): Promise<void> {
    const { connection, handle } = this.#session;
    let refusal: CallRefused | undefined;
    for (const older of this.#olderForm === undefined ? [true, false] : [this.#olderForm]) {
      try {
        await connection.call(CALLS.signInit, (request) =>
          writeMechanism(request.ulong(handle), hash, padding, older).ulong(this.#object),
        );
        this.#olderForm = older;
        return;
      } catch (error) {
        if (!(error instanceof CallRefused)) throw refusal ?? error;
        refusal = error;
      }
    }
    throw refusal;
  }
}

function writeMechanism(request: RequestWriter, hash: HashName, padding: RsaPadding, older: boolean): RequestWriter {
  if (padding === "pkcs1") {
    request.u32(MECHANISM.rsaPkcs);
    return older ? request.noArray() : request;
  }
  request.u32(MECHANISM.rsaPkcsPss);
  if (!older) request.byte(1);
  const { saltBytes } = schemeOf(hash, padding);
  return request.ulong(HASH_MECHANISM[hash]).ulong(MASK_GENERATION[hash]).ulong(BigInt(saltBytes));
}
