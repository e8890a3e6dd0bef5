// The protocol of remote signers, docs/remote-signer.md: what is sent, and how long it may be.
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { HASH_NAMES, RSA_PADDINGS } from "../rsa/scheme.ts";

/** Longest message of the remote signer's protocol that is read, in bytes. */
export const DEFAULT_MAX_REMOTE_MESSAGE_BYTES = 128 * 1024;

/** Most requests that wait at a remote signer, of all clients. */
export const DEFAULT_MAX_REMOTE_REQUESTS = 128;

/** Most requests that wait at a remote signer, of one client: what it asks does not keep others from asking. */
export const DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT = 32;

/** Most decided requests that a remote signer remembers; beyond them it forgets the oldest of the client that has most. */
export const DEFAULT_MAX_REMOTE_OUTCOMES = 256;

/** Most digests that are signed with the approvals of one request. */
export const DEFAULT_MAX_REMOTE_DIGESTS = 64;

/** Longest list of the requests that wait, in bytes: each is no longer than a message. */
export const MAX_LIST_BYTES = DEFAULT_MAX_REMOTE_REQUESTS * DEFAULT_MAX_REMOTE_MESSAGE_BYTES;

/** How long an answer may wait for a decision, in milliseconds; who asks asks again. */
export const WAIT_MS = 20_000;

/** Most sections in a description: no image that is signed has more. */
const MAX_SECTIONS = 96;

/** Longest text of a section in a description, in characters: kernels take no longer command line. */
export const MAX_DESCRIBED_TEXT = 4096;

const hex = (bytes: readonly number[]): z.ZodString =>
  z
    .string()
    .regex(
      new RegExp(`^(${bytes.map((size) => `[0-9a-f]{${2 * size}}`).join("|")})$`),
      "expected a digest in hexadecimal",
    );
const digestSchema = hex([32, 48, 64]);
const timeSchema = z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/, "expected a time in UTC");
const sizeSchema = z.int().min(0);
const idSchema = z.string().regex(/^[0-9a-f]{32}$/, "expected an identifier");

const textSchema = z.string().max(MAX_DESCRIBED_TEXT);

/** Schema of {@link SigningDescription}. */
export const descriptionSchema = z.strictObject({
  kind: z.literal("pe"),
  digest: digestSchema,
  signingTime: timeSchema.optional(),
  name: z.string().min(1).max(255),
  sizeBytes: sizeSchema,
  osRelease: textSchema.optional(),
  cmdline: textSchema.optional(),
  profiles: z
    .array(z.strictObject({ profile: textSchema, osRelease: textSchema.optional(), cmdline: textSchema.optional() }))
    .max(MAX_SECTIONS)
    .optional(),
  sections: z
    .array(z.strictObject({ name: z.string().max(64), sizeBytes: sizeSchema, sha256: hex([32]) }))
    .max(MAX_SECTIONS),
});

/**
 * What a client says it wants to have signed. The signer checks `digest` and `signingTime`: nothing else than a signature
 * about an image with this digest can be made from the request. All the rest is what the client claims.
 */
export interface SigningDescription {
  /** a PE image, signed as Authenticode wants it */
  readonly kind: "pe";
  /** Authenticode digest of the image, hexadecimal */
  readonly digest: string;
  /** time that the signature states, ISO 8601; none by default */
  readonly signingTime?: string | undefined;
  /** name of the file */
  readonly name: string;
  /** size of the unsigned image, in `bytes` */
  readonly sizeBytes: number;
  /** text of its `.osrel` section, for profiles that have none of their own */
  readonly osRelease?: string | undefined;
  /** text of its `.cmdline` section, for profiles that have none of their own */
  readonly cmdline?: string | undefined;
  /** its profiles in order, each with the text of its `.profile` section and its own `.osrel` and `.cmdline` */
  readonly profiles?:
    | readonly {
        readonly profile: string;
        readonly osRelease?: string | undefined;
        readonly cmdline?: string | undefined;
      }[]
    | undefined;
  /** its sections, with the digests of their contents */
  readonly sections: readonly { readonly name: string; readonly sizeBytes: number; readonly sha256: string }[];
}

const moreSchema = z
  .array(z.strictObject({ hash: z.enum(HASH_NAMES), digest: digestSchema }))
  .min(1)
  .max(DEFAULT_MAX_REMOTE_DIGESTS - 1)
  .readonly();

/** Schema of what a client sends to have something signed. */
export const requestSchema = z.strictObject({
  version: z.literal(1),
  hash: z.enum(HASH_NAMES),
  padding: z.enum(RSA_PADDINGS),
  digest: digestSchema,
  description: descriptionSchema.optional(),
  more: moreSchema.optional(),
});

/** Schema of an approver's decision. */
export const decisionSchema = z.strictObject({
  version: z.literal(1),
  digest: digestSchema,
  more: z
    .array(digestSchema)
    .max(DEFAULT_MAX_REMOTE_DIGESTS - 1)
    .default([]),
});

/** Schema of {@link SigningRequest}. */
export const stateSchema = z.object({
  kind: z.literal("uki-signing-request"),
  version: z.literal(1),
  id: idSchema,
  client: z.string().max(64),
  state: z.enum(["pending", "signed", "refused", "expired", "failed"]),
  hash: z.enum(HASH_NAMES),
  padding: z.enum(RSA_PADDINGS),
  digest: digestSchema,
  description: descriptionSchema.optional(),
  more: moreSchema.optional(),
  approvals: z.array(z.string().max(64)).max(64),
  approvalsNeeded: z.int().min(0).max(64),
  refusedBy: z.string().max(64).optional(),
  expiresAt: timeSchema,
  signature: z.base64().max(2048).optional(),
  moreSignatures: z
    .array(z.base64().max(2048))
    .max(DEFAULT_MAX_REMOTE_DIGESTS - 1)
    .readonly()
    .optional(),
});

/** A digest that is signed together with others. */
export interface DigestToSign {
  readonly hash: (typeof HASH_NAMES)[number];
  /** hexadecimal */
  readonly digest: string;
}

/** A request as the remote signer tells about it. */
export interface SigningRequest {
  readonly kind: "uki-signing-request";
  readonly version: 1;
  /** 32 hexadecimal digits that nobody can guess */
  readonly id: string;
  /** name of the client that asks */
  readonly client: string;
  /** `failed` when the signer's key did not sign */
  readonly state: "pending" | "signed" | "refused" | "expired" | "failed";
  readonly hash: (typeof HASH_NAMES)[number];
  readonly padding: (typeof RSA_PADDINGS)[number];
  /** what the key signs, hexadecimal */
  readonly digest: string;
  /** what the client says about it; its digest and time have been checked */
  readonly description?: SigningDescription | undefined;
  /** what the same approvals sign besides, with the same padding; never with a description */
  readonly more?: readonly DigestToSign[] | undefined;
  /** names of those who approved */
  readonly approvals: readonly string[];
  /** how many have to */
  readonly approvalsNeeded: number;
  /** who refused */
  readonly refusedBy?: string | undefined;
  /** when the request is forgotten, ISO 8601, by the signer's clock */
  readonly expiresAt: string;
  /** base64, once it is signed; to the client only */
  readonly signature?: string | undefined;
  /** base64, those of {@link SigningRequest.more} in its order; to the client only */
  readonly moreSignatures?: readonly string[] | undefined;
}

/** Schema of the answer with all requests that wait. */
export const listSchema = z.object({
  kind: z.literal("uki-signing-requests"),
  version: z.literal(1),
  requests: z.array(stateSchema).max(DEFAULT_MAX_REMOTE_REQUESTS),
});

/** Schema of the answer about the key. */
export const keySchema = z.object({
  kind: z.literal("uki-signing-key"),
  version: z.literal(1),
  keyType: z.literal("rsa"),
  keyBits: z.int().min(0).max(16_384),
  publicKey: z.base64().max(8192),
});

/** Schema of an answer about something that did not work. */
export const errorSchema = z.object({
  kind: z.literal("error"),
  version: z.literal(1),
  code: z.string().max(64),
  message: z.string().max(4096),
});

/**
 * Decodes a message of the protocol.
 *
 * @throws {UkiSignError} `UKI_SIGN_REMOTE` when it is not what the schema says.
 */
export function decodeMessage<T extends z.ZodType>(schema: T, bytes: Uint8Array, what: string): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_REMOTE", `expected ${what} in JSON, got something else`, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
  throw new UkiSignError("UKI_SIGN_REMOTE", `expected ${what}, got something else${where}`, {
    field: where === "" ? undefined : where.slice(" at ".length),
    cause: result.error,
  });
}
