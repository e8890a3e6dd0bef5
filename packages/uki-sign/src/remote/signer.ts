import { createPublicKey } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { authenticodeDigest } from "../authenticode/digest.ts";
import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";
import { type PemSigner, requireRsa } from "../keys/signer.ts";
import { decodePe } from "../pe/image.ts";
import { type HashName, type RsaPadding, schemeOf } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { describeSection } from "../uki/inspect.ts";
import { parseSignerAddress } from "./address.ts";
import { type Caller, exchange } from "./http.ts";
import {
  DEFAULT_MAX_REMOTE_DIGESTS,
  decodeMessage,
  descriptionSchema,
  keySchema,
  listSchema,
  MAX_LIST_BYTES,
  type SigningDescription,
  type SigningRequest,
  stateSchema,
  WAIT_MS,
} from "./protocol.ts";

/** Between two questions about the same request, in milliseconds. */
const PAUSE_MS = 200;

const optionsSchema = z.strictObject({
  token: z.string().min(1),
  ca: z.string().optional(),
  signal: z.instanceof(AbortSignal).optional(),
  onPending: z
    .custom<(request: SigningRequest) => void>((value) => typeof value === "function", "expected a function")
    .optional(),
});

/** Options of {@link remoteSigner}, and of what approvers call. */
export interface RemoteSignerOptions {
  /** token that says who asks */
  readonly token: string;
  /** certificates of authorities that may vouch for the signer, PEM; the system's by default */
  readonly ca?: string | undefined;
  /** gives up waiting; the request stays with the signer until it expires */
  readonly signal?: AbortSignal | undefined;
  /** is told about a request that waits for approvals */
  readonly onPending?: ((request: SigningRequest) => void) | undefined;
}

/** A signer whose key another machine has. */
export interface RemoteSigner extends PemSigner {
  /** Signs several digests that nothing is known about with the approvals of one request. */
  signDigests: NonNullable<PemSigner["signDigests"]>;
  /** The same signer, saying with each request what is to be signed; see `describePe`. */
  describing(description: SigningDescription): RemoteSigner;
}

/**
 * A signer behind the remote signer's protocol (docs/remote-signer.md), where people may have to approve each signature.
 *
 * @param address - `https://HOST:PORT`, `http://127.0.0.1:PORT` or `unix:/PATH`.
 * @param options - Who asks.
 * @returns The signer. Signing waits for approvals until the request expires; what comes back is verified.
 * @throws {UkiSignError} `UKI_SIGN_REMOTE` when the address is another one, or what is there does not speak the protocol;
 *   `UKI_SIGN_REMOTE_UNAUTHORIZED` for a token it does not know. Signing throws `UKI_SIGN_REMOTE_REFUSED` and
 *   `UKI_SIGN_REMOTE_EXPIRED` when that happened.
 * @example
 * const signer = await remoteSigner("https://signer.example:8443", { token });
 * const signed = await signPe(image, { signer: signer.describing(describePe(image, { name: "linux.efi" })), certificate });
 */
export async function remoteSigner(address: string, options: RemoteSignerOptions): Promise<RemoteSigner> {
  const { onPending, ...caller } = readCaller(address, options);
  const { publicKey } = decodeMessage(
    keySchema,
    await exchange(caller, "GET", "/v1/key"),
    "a key of the remote signer",
  );
  const spki = new Uint8Array(Buffer.from(publicKey, "base64"));
  const key = decodeKey(spki);
  const keyBits = requireRsa(key);
  const make = (description: SigningDescription | undefined): RemoteSigner => ({
    keyType: "rsa",
    keyBits,
    publicKey: spki,
    describing: (more) => make(parseOptions(descriptionSchema, more)),
    async signDigest(hash, digest, padding = "pkcs1") {
      const message = { version: 1, hash, padding, digest: toHex(digest), description };
      const [signature] = await obtain(caller, message, onPending);
      return verified({ hash, digest }, padding, signature);
    },
    async signDigests(digests, padding = "pkcs1") {
      const signatures: Uint8Array[] = [];
      for (let index = 0; index < digests.length; index += DEFAULT_MAX_REMOTE_DIGESTS) {
        const batch = digests.slice(index, index + DEFAULT_MAX_REMOTE_DIGESTS);
        const [first, ...more] = batch.map(({ hash, digest }) => ({ hash, digest: toHex(digest) }));
        if (first === undefined) break;
        const message = { version: 1, padding, ...first, ...(more.length === 0 ? {} : { more }) };
        const made = await obtain(caller, message, onPending);
        signatures.push(...batch.map((wanted, at) => verified(wanted, padding, made[at])));
      }
      return signatures;
    },
  });
  const verified = (
    { hash, digest }: { readonly hash: HashName; readonly digest: Uint8Array },
    padding: RsaPadding,
    signature: Uint8Array | undefined,
  ): Uint8Array => {
    if (signature !== undefined && verifyDigest(key, schemeOf(hash, padding), digest, signature)) return signature;
    throw new UkiSignError("UKI_SIGN_REMOTE", "expected a signature of the remote signer's key, got something else");
  };
  return make(undefined);
}

/** Options of {@link describePe}. */
export interface DescribePeOptions {
  /** name of the file */
  readonly name: string;
  /** hash of image and signature, SHA-256 by default */
  readonly hash?: HashName | undefined;
  /** time that the signature will state; none by default */
  readonly signingTime?: Date | undefined;
}

/**
 * Describes an image that is to be signed, for those who approve it.
 *
 * @param image - The image as it is before signing; read twice.
 * @param options - Its name, and how it will be signed: the same as for `signPe`.
 * @returns The description.
 * @throws {UkiSignError} What `authenticodeDigest` throws.
 * @example
 * const description = describePe(image, { name: "linux.efi" });
 */
export function describePe(image: Bytes, options: DescribePeOptions): SigningDescription {
  const { fileSize, sections: headers } = decodePe(image);
  const sections = headers.map((section) => describeSection(image, section));
  const textOf = (name: string): string | undefined =>
    sections.find((section) => section.name === name)?.text?.slice(0, 4096);
  return parseOptions(descriptionSchema, {
    kind: "pe",
    digest: toHex(authenticodeDigest(image, options.hash ?? "sha256")),
    signingTime: options.signingTime?.toISOString(),
    name: options.name.slice(-255),
    sizeBytes: fileSize,
    osRelease: textOf(".osrel"),
    cmdline: textOf(".cmdline"),
    sections: sections.map((section) => ({
      name: section.name,
      sizeBytes: section.sizeBytes,
      sha256: section.sha256,
    })),
  });
}

/**
 * The requests that wait for approvals.
 *
 * @param address - As for {@link remoteSigner}.
 * @param options - The token of an approver.
 * @returns The requests, oldest first.
 * @throws {UkiSignError} As {@link remoteSigner}.
 * @example
 * for (const { id, client, description } of await listSigningRequests(address, { token })) console.log(id, client);
 */
export async function listSigningRequests(address: string, options: RemoteSignerOptions): Promise<SigningRequest[]> {
  const answer = await exchange(readCaller(address, options), "GET", "/v1/requests", undefined, MAX_LIST_BYTES);
  return decodeMessage(listSchema, answer, "the requests of the remote signer").requests;
}

/**
 * Approves or refuses a request.
 *
 * @param address - As for {@link remoteSigner}.
 * @param request - What was looked at: its identifier, and the digests that the decision is about.
 * @param decision - One refusal is enough to refuse.
 * @param options - The token of an approver.
 * @returns The request afterwards.
 * @throws {UkiSignError} As {@link remoteSigner}; `UKI_SIGN_REMOTE` when there is no such request with this digest.
 * @example
 * await decideSigningRequest(address, request, "approve", { token });
 */
export async function decideSigningRequest(
  address: string,
  request: Pick<SigningRequest, "id" | "digest" | "more">,
  decision: "approve" | "refuse",
  options: RemoteSignerOptions,
): Promise<SigningRequest> {
  const path = `/v1/requests/${encodeURIComponent(request.id)}/${decision}`;
  const { digest, more } = request;
  const about = { digest, ...(more === undefined ? {} : { more: more.map((each) => each.digest) }) };
  const answer = await exchange(readCaller(address, options), "POST", path, { version: 1, ...about });
  return decodeMessage(stateSchema, answer, "a request of the remote signer");
}

function readCaller(address: string, options: RemoteSignerOptions): Caller & Pick<RemoteSignerOptions, "onPending"> {
  const { token, ca, signal, onPending } = parseOptions(optionsSchema, options);
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UkiSignError(
      "UKI_SIGN_REMOTE_UNAUTHORIZED",
      "expected a token of visible characters, got something else",
    );
  }
  return { address: parseSignerAddress(address), token, ca, signal, onPending };
}

async function obtain(
  caller: Caller,
  message: { readonly hash: HashName; readonly padding: RsaPadding; readonly digest: string },
  onPending: ((request: SigningRequest) => void) | undefined,
): Promise<Uint8Array[]> {
  const read = (bytes: Uint8Array): SigningRequest =>
    decodeMessage(stateSchema, bytes, "a request of the remote signer");
  let request = read(await exchange(caller, "POST", "/v1/requests", message));
  if (request.state === "pending") onPending?.(request);
  const path = `/v1/requests/${request.id}?wait=${WAIT_MS}`;
  while (request.state === "pending") {
    // A signer that does not wait is not asked without a pause.
    await sleep(PAUSE_MS, undefined, { signal: caller.signal });
    request = read(await exchange(caller, "GET", path));
  }
  const { state, signature, moreSignatures = [], refusedBy } = request;
  if (state === "signed" && signature !== undefined) {
    return [signature, ...moreSignatures].map((text) => new Uint8Array(Buffer.from(text, "base64")));
  }
  if (state === "refused") {
    throw new UkiSignError(
      "UKI_SIGN_REMOTE_REFUSED",
      `expected approvals, got a refusal by ${refusedBy ?? "somebody"}`,
    );
  }
  if (state === "expired") {
    const message = `expected ${request.approvalsNeeded} approvals in time, got ${request.approvals.length}`;
    throw new UkiSignError("UKI_SIGN_REMOTE_EXPIRED", message);
  }
  throw new UkiSignError("UKI_SIGN_REMOTE", "expected a signature, got a failure of the remote signer's key");
}

function decodeKey(spki: Uint8Array): ReturnType<typeof createPublicKey> {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_REMOTE", "expected a public key of the remote signer, got something else", {
      cause,
    });
  }
}
