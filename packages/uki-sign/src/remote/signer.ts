import { createPublicKey } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { authenticodeDigest } from "../authenticode/digest.ts";
import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";
import { type PemSigner, requireRsa } from "../keys/signer.ts";
import { decodePe, type PeSection } from "../pe/image.ts";
import { type HashName, type RsaPadding, schemeOf } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { describeSection } from "../uki/inspect.ts";
import { splitProfiles } from "../uki/profiles.ts";
import { parseSignerAddress } from "./address.ts";
import { type Caller, exchange } from "./http.ts";
import {
  DEFAULT_MAX_REMOTE_DIGESTS,
  decodeMessage,
  descriptionSchema,
  keySchema,
  listSchema,
  MAX_DESCRIBED_TEXT,
  MAX_LIST_BYTES,
  type SigningDescription,
  type SigningRequest,
  stateSchema,
  WAIT_MS,
} from "./protocol.ts";

/** Between two questions about the same request, in milliseconds. */
const PAUSE_MS = 200;

/** How long a remote signer is asked again at which too many requests wait, in milliseconds. */
export const DEFAULT_REMOTE_BUSY_TIMEOUT_MS = 30_000;

/** Between two such questions, in milliseconds. */
const BUSY_PAUSE_MS = 1000;

const optionsSchema = z.strictObject({
  token: z.string().min(1),
  ca: z.string().optional(),
  signal: z.instanceof(AbortSignal).optional(),
  busyTimeoutMs: z.int().min(0).default(DEFAULT_REMOTE_BUSY_TIMEOUT_MS),
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
  /** how long a signer is asked again at which too many requests wait, {@link DEFAULT_REMOTE_BUSY_TIMEOUT_MS} by default */
  readonly busyTimeoutMs?: number | undefined;
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
 *   `UKI_SIGN_REMOTE_EXPIRED` when that happened, `UKI_SIGN_REMOTE_BUSY` when too many requests wait for too long.
 * @example
 * const signer = await remoteSigner("https://signer.example:8443", { token });
 * const signed = await signPe(image, { signer: signer.describing(describePe(image, { name: "linux.efi" })), certificate });
 */
export async function remoteSigner(address: string, options: RemoteSignerOptions): Promise<RemoteSigner> {
  const caller = readCaller(address, options);
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
      const [signature] = await obtain(caller, message);
      return verified({ hash, digest }, padding, signature);
    },
    async signDigests(digests, padding = "pkcs1") {
      const signatures: Uint8Array[] = [];
      for (let index = 0; index < digests.length; index += DEFAULT_MAX_REMOTE_DIGESTS) {
        const batch = digests.slice(index, index + DEFAULT_MAX_REMOTE_DIGESTS);
        const [first, ...more] = batch.map(({ hash, digest }) => ({ hash, digest: toHex(digest) }));
        if (first === undefined) break;
        const message = { version: 1, padding, ...first, ...(more.length === 0 ? {} : { more }) };
        const made = await obtain(caller, message);
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
  const decoded = decodePe(image);
  const { base, profiles } = splitProfiles(decoded);
  return parseOptions(descriptionSchema, {
    kind: "pe",
    digest: toHex(authenticodeDigest(image, options.hash ?? "sha256")),
    signingTime: options.signingTime?.toISOString(),
    name: options.name.slice(-255),
    sizeBytes: decoded.fileSize,
    ...textsOf(image, base),
    profiles:
      profiles.length === 0
        ? undefined
        : profiles.map((own) => ({ profile: textOf(image, own, ".profile") ?? "", ...textsOf(image, own) })),
    sections: decoded.sections
      .map((section) => describeSection(image, section))
      .map(({ name, sizeBytes, sha256 }) => ({ name, sizeBytes, sha256 })),
  });
}

function textsOf(image: Bytes, sections: readonly PeSection[]): Pick<SigningDescription, "osRelease" | "cmdline"> {
  return { osRelease: textOf(image, sections, ".osrel"), cmdline: textOf(image, sections, ".cmdline") };
}

/** What a section says, for people: when that is more than a description holds, or no text, they are told so. */
function textOf(image: Bytes, sections: readonly PeSection[], name: string): string | undefined {
  const section = sections.find((candidate) => candidate.name === name);
  if (section === undefined) return undefined;
  const { text } = describeSection(image, section);
  if (text === undefined) return "(no text in UTF-8, or too long)";
  return text.length > MAX_DESCRIBED_TEXT ? `${text.slice(0, MAX_DESCRIBED_TEXT - 1)}…` : text;
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

interface Asker extends Caller {
  readonly busyTimeoutMs: number;
  readonly onPending: ((request: SigningRequest) => void) | undefined;
}

function readCaller(address: string, options: RemoteSignerOptions): Asker {
  const { token, ca, signal, busyTimeoutMs, onPending } = parseOptions(optionsSchema, options);
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UkiSignError(
      "UKI_SIGN_REMOTE_UNAUTHORIZED",
      "expected a token of visible characters, got something else",
    );
  }
  return { address: parseSignerAddress(address), token, ca, signal, busyTimeoutMs, onPending };
}

/** Asks for signatures, again when too many requests wait: others are decided meanwhile. */
async function ask(caller: Asker, message: object): Promise<Uint8Array> {
  const end = Date.now() + caller.busyTimeoutMs;
  for (;;) {
    try {
      return await exchange(caller, "POST", "/v1/requests", message);
    } catch (error) {
      const left = end - Date.now();
      if (!(error instanceof UkiSignError) || error.code !== "UKI_SIGN_REMOTE_BUSY" || left <= 0) throw error;
      await sleep(Math.min(BUSY_PAUSE_MS, left), undefined, { signal: caller.signal });
    }
  }
}

async function obtain(
  caller: Asker,
  message: { readonly hash: HashName; readonly padding: RsaPadding; readonly digest: string },
): Promise<Uint8Array[]> {
  const read = (bytes: Uint8Array): SigningRequest =>
    decodeMessage(stateSchema, bytes, "a request of the remote signer");
  let request = read(await ask(caller, message));
  if (request.state === "pending") caller.onPending?.(request);
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
