import * as z from "zod";

const ruleText = z.strictObject({ text: z.string(), source: z.string() });
const port = z.number().int().min(1).max(0xffff);

/** Shorter ones are found where nobody has written them. */
export const MIN_SECRET_LENGTH = 8;
export const MAX_SECRET_LENGTH = 4096;

const secretSchema = z.strictObject({
  /** variable of the guest's environment */
  name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/),
  /** hosts that it is for, as they were written */
  targets: z.array(z.string()).min(1).max(1000),
});

/** A secret and its value: never written anywhere, and never part of an answer. */
export const secretGrantSchema = z.strictObject({
  ...secretSchema.shape,
  value: z.string().min(MIN_SECRET_LENGTH).max(MAX_SECRET_LENGTH),
});

export type SecretGrant = z.output<typeof secretGrantSchema>;

/** A secret without its value. */
const secretReferenceSchema = z.strictObject({
  ...secretSchema.shape,
  /** what the guest has in its place */
  placeholder: z.string(),
});

export type SecretReference = z.output<typeof secretReferenceSchema>;

/** Rules that a sandbox begins with. */
export const networkRulesSchema = z.strictObject({
  allow: z.array(ruleText).max(10_000).default([]),
  deny: z.array(ruleText).max(10_000).default([]),
});

export type NetworkRules = z.output<typeof networkRulesSchema>;

/** What a copy of a sandbox has to know of its network. */
export const networkStateSchema = z.strictObject({
  ...networkRulesSchema.shape,
  /** names that have addresses, in their order */
  names: z.array(z.string()).default([]),
  /** secrets, whose values a copy does not have */
  secrets: z.array(secretReferenceSchema).default([]),
  /** connections that the guest has open, whose other ends a copy does not have */
  connections: z.array(z.strictObject({ guestPort: z.number(), address: z.number(), port: z.number() })).default([]),
});

export type NetworkState = z.output<typeof networkStateSchema>;

/** Why something was refused, or failed. */
export const REASONS = {
  "not-allowed": "no rule allows this name",
  "port-not-allowed": "rules allow this name on other ports only",
  "request-not-allowed": "rules allow other methods or paths of this host only",
  denied: "a rule denies it",
  "raw-address": "connections go to names that were looked up, not to addresses",
  "no-name": "a connection has to say a name: Host in HTTP, the server name in TLS",
  "other-name": "the name in Host or in TLS is not the one that was looked up",
  "encrypted-name": "the server name is encrypted (ECH), so nobody can tell whether it is allowed",
  malformed: "what was sent is neither HTTP nor TLS, or not as it has to be",
  "private-address": "the name leads to an address that is private, special, or this host's",
  unresolved: "the host does not find this name",
  unreachable: "the host did not get a connection",
  untrusted: "the certificate of the server is not one that the host trusts for this name",
  "secret-missing":
    "nobody has given this copy of a sandbox the value of the secret; on the host: leveret-sandbox net secret",
  udp: "there is no UDP but for names",
} as const;

export type NetworkReason = keyof typeof REASONS;
const reason = z.enum(Object.keys(REASONS) as [NetworkReason, ...NetworkReason[]]);

const entrySchema = z.strictObject({
  /** name that was asked for; an address where there was none */
  host: z.string(),
  /** absent for a look-up */
  port: z.number().int().min(0).max(0xffff).optional(),
  protocol: z.enum(["dns", "http", "tls", "tcp", "udp"]),
  verdict: z.enum(["allowed", "refused"]),
  reason: reason.optional(),
  /** the rule that has decided */
  rule: z.string().optional(),
  /** method and path, of a request that was refused for these */
  request: z.string().optional(),
  times: z.number(),
  /** in `milliseconds` since 1970 */
  firstAt: z.number(),
  lastAt: z.number(),
  /** bytes from the guest, and to it */
  sentBytes: z.number(),
  receivedBytes: z.number(),
});

/** What a sandbox did over its network, everything of one kind together. */
export type NetworkLogEntry = z.output<typeof entrySchema>;

/** What would become of a connection, and why. */
export const explanationSchema = z.strictObject({
  host: z.string(),
  port,
  allowed: z.boolean(),
  reason: reason.optional(),
  /** the rule that has decided, and who has said so */
  rule: ruleText.optional(),
  /** where it would lead */
  addresses: z.array(z.string()).optional(),
  /** rules that allow or deny some requests to the host, as they were written */
  limits: z.strictObject({ allow: z.array(z.string()), deny: z.array(z.string()) }).optional(),
  /** names of secrets that are put into requests to it */
  secrets: z.array(z.string()).optional(),
  hint: z.string().optional(),
});

export type NetworkExplanation = z.output<typeof explanationSchema>;

const requestSchema = z.strictObject({ method: z.string(), target: z.string() });

/** What can be asked of a sandbox about its network. */
export const networkQuestionSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("log") }),
  z.strictObject({ kind: z.literal("why"), host: z.string(), port, request: requestSchema.optional() }),
  z.strictObject({ kind: z.literal("secrets"), secrets: z.array(secretGrantSchema) }),
  z.strictObject({ kind: z.literal("reveals"), text: z.string() }),
  z.strictObject({ kind: z.literal("allow"), rules: z.array(ruleText) }),
  z.strictObject({ kind: z.literal("deny"), rules: z.array(ruleText) }),
]);

export type NetworkQuestion = z.output<typeof networkQuestionSchema>;

/** What is in force, and what was done. */
export const networkReportSchema = z.strictObject({
  rules: networkRulesSchema,
  secrets: z.array(secretReferenceSchema),
  log: z.array(entrySchema),
});

export type NetworkReport = z.output<typeof networkReportSchema>;
