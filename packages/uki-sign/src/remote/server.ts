import { createHash, timingSafeEqual } from "node:crypto";
import { rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { parseOptions } from "../internal/options.ts";
import type { PemSigner } from "../keys/signer.ts";
import { isLoopback } from "./address.ts";
import { Connections } from "./connections.ts";
import { readBody } from "./http.ts";
import { listen } from "./listen.ts";
import {
  DEFAULT_MAX_REMOTE_MESSAGE_BYTES,
  decisionSchema,
  decodeMessage,
  requestSchema,
  type SigningRequest,
  WAIT_MS,
} from "./protocol.ts";
import { type SigningEvent, SigningRequests, unknownRequest } from "./requests.ts";

/** How long a remote signer keeps a request, in milliseconds. */
export const DEFAULT_SIGNING_REQUEST_EXPIRY_MS = 10 * 60_000;

/** Shortest token, in characters: nobody guesses 128 random bits. */
const MIN_TOKEN_LENGTH = 32;

/** How long a client may take to say what it wants, in milliseconds; how often the time is looked at. */
const PATIENCE = {
  headersTimeout: 5000,
  requestTimeout: 10_000,
  connectionsCheckingInterval: 1000,
  maxHeaderSize: 8192,
} as const;

/** How long TLS may take to be agreed on, in milliseconds. */
const HANDSHAKE_MS = 5000;

const namesSchema = z.record(
  z.string().regex(/^[\w.@-]{1,64}$/, "expected a name of letters, digits and .@_-"),
  z
    .string()
    .regex(/^[\x21-\x7e]+$/)
    .min(MIN_TOKEN_LENGTH, `expected a token of at least ${MIN_TOKEN_LENGTH} characters`),
);

const optionsSchema = z.strictObject({
  signer: z.custom<PemSigner>((value) => typeof value === "object" && value !== null && "publicKey" in value),
  clients: namesSchema,
  approvers: namesSchema.default({}),
  approvals: z.int().min(0).max(64).default(0),
  expireMs: z
    .int()
    .min(100)
    .max(24 * 3600_000)
    .default(DEFAULT_SIGNING_REQUEST_EXPIRY_MS),
  anyDigest: z.boolean().default(false),
  host: z.string().default("127.0.0.1"),
  port: z.int().min(0).max(65_535).default(0),
  socketPath: z.string().optional(),
  tls: z.strictObject({ certificate: z.string(), key: z.string() }).optional(),
  onEvent: z
    .custom<(event: SigningEvent) => void>((value) => typeof value === "function", "expected a function")
    .default(() => () => {}),
});

/** Options of {@link startSigningServer}. */
export interface SigningServerOptions {
  /** the key that signs */
  readonly signer: PemSigner;
  /** tokens of those who may ask for signatures, by name, of at least 32 characters */
  readonly clients: Readonly<Record<string, string>>;
  /** tokens of those who may approve, by name */
  readonly approvers?: Readonly<Record<string, string>> | undefined;
  /** how many of the approvers have to approve each request; 0 by default: every client gets what it asks for */
  readonly approvals?: number | undefined;
  /** how long a request waits in `milliseconds`, {@link DEFAULT_SIGNING_REQUEST_EXPIRY_MS} by default */
  readonly expireMs?: number | undefined;
  /** signs digests without a description too, about which nothing can be checked; false by default */
  readonly anyDigest?: boolean | undefined;
  /** address to listen at, `127.0.0.1` by default; one that is not of this machine alone needs `tls` */
  readonly host?: string | undefined;
  /** port to listen at, a free one by default */
  readonly port?: number | undefined;
  /** path of a UNIX socket to listen at, instead of host and port; for its owner only */
  readonly socketPath?: string | undefined;
  /** certificate chain and private key of the server, PEM */
  readonly tls?: { readonly certificate: string; readonly key: string } | undefined;
  /** is told what happens */
  readonly onEvent?: ((event: SigningEvent) => void) | undefined;
}

/** A remote signer that runs. */
export interface SigningServer extends AsyncDisposable {
  /** where it listens, as `remoteSigner` takes it */
  readonly address: string;
  /** Stops; requests that wait are forgotten. Calling it again does nothing. */
  close(): Promise<void>;
}

/**
 * Starts a remote signer: it signs digests for clients, once enough approvers have looked at each request.
 *
 * @param options - The key, who may do what, and where to listen.
 * @returns The server.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for options that do not fit: fewer approvers than approvals, a token that two
 *   have, an address on a network without TLS. `UKI_SIGN_REMOTE` when it cannot listen there.
 * @see docs/remote-signer.md for the protocol and what it protects from
 * @example
 * const server = await startSigningServer({ signer, clients: { builder: token }, approvers: { ann, bob }, approvals: 2 });
 */
export async function startSigningServer(options: SigningServerOptions): Promise<SigningServer> {
  const parsed = parseOptions(optionsSchema, options);
  const people = readPeople(parsed.clients, parsed.approvers);
  const { approvers, approvals, tls, host, port, socketPath } = parsed;
  if (Object.keys(approvers).length < approvals) {
    const message = `expected at least ${approvals} approvers, got ${Object.keys(approvers).length}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "approvers" });
  }
  if (socketPath === undefined && tls === undefined && !isLoopback(host)) {
    const message = `expected tls with an address on a network, got none with ${host}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "tls" });
  }
  const requests = new SigningRequests(parsed);
  const closing = new AbortController();
  const listener: RequestListener = (request, response) => {
    void answer({ requests, people, connections, signer: parsed.signer, closing: closing.signal }, request, response);
  };
  const server = makeServer(tls, listener);
  const connections = new Connections(server);
  await listen(server, socketPath === undefined ? { host, port } : { path: socketPath });
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= stop(server, requests, closing, socketPath);
    return closed;
  };
  const address = addressOf(server, tls !== undefined, host, socketPath);
  return { address, close, [Symbol.asyncDispose]: close };
}

function makeServer(tls: { certificate: string; key: string } | undefined, listener: RequestListener): Server {
  if (tls === undefined) return createServer(PATIENCE, listener);
  try {
    const options = {
      cert: tls.certificate,
      key: tls.key,
      minVersion: "TLSv1.2",
      handshakeTimeout: HANDSHAKE_MS,
    } as const;
    return createTlsServer({ ...PATIENCE, ...options }, listener);
  } catch (error) {
    // OpenSSL's own error is not kept as the cause: nothing that touched the key leaves here.
    const reason = error instanceof Error && "code" in error ? String(error.code) : "something else";
    const message = `expected a certificate and its private key in PEM for TLS, got ${reason}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "tls" });
  }
}

function addressOf(server: Server, tls: boolean, host: string, socketPath: string | undefined): string {
  if (socketPath !== undefined) return `unix:${socketPath}`;
  const { port } = server.address() as AddressInfo;
  return `${tls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function stop(
  server: Server,
  requests: SigningRequests,
  closing: AbortController,
  socketPath: string | undefined,
): Promise<void> {
  closing.abort();
  requests.close();
  const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
  if (socketPath !== undefined) await rm(socketPath, { force: true });
}

interface Person {
  readonly role: "client" | "approver";
  readonly name: string;
  /** SHA-256 of the token */
  readonly hash: Uint8Array;
}

function readPeople(clients: Record<string, string>, approvers: Record<string, string>): Person[] {
  const of = (role: Person["role"], tokens: Record<string, string>): Person[] =>
    Object.entries(tokens).map(([name, token]) => ({ role, name, hash: sha256(token) }));
  const people = [...of("client", clients), ...of("approver", approvers)];
  for (const [index, { hash, name }] of people.entries()) {
    const other = people.slice(0, index).find((candidate) => timingSafeEqual(candidate.hash, hash));
    if (other === undefined) continue;
    const message = `expected a token for each, got one that both ${other.name} and ${name} have`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "approvers" });
  }
  return people;
}

interface Context {
  readonly requests: SigningRequests;
  readonly people: readonly Person[];
  readonly connections: Connections;
  readonly signer: PemSigner;
  readonly closing: AbortSignal;
}

const STATUS: Readonly<Record<string, number>> = {
  UKI_SIGN_REMOTE: 400,
  UKI_SIGN_REMOTE_UNAUTHORIZED: 401,
  UKI_SIGN_REMOTE_BUSY: 429,
};

async function answer(context: Context, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    send(response, 200, await route(context, request, response));
  } catch (error) {
    const known = error instanceof UkiSignError;
    const code = known ? error.code : "UKI_SIGN_REMOTE";
    // What went wrong with the key is for who runs the signer, not for who asks it.
    const told = known && STATUS[code] !== undefined;
    const message = told ? error.message : "expected a key that signs, got a failure";
    send(response, told ? (STATUS[code] ?? 500) : 500, {
      kind: "error",
      version: 1,
      code: told ? code : "UKI_SIGN_REMOTE",
      message,
    });
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed) return;
  const bytes = Buffer.from(JSON.stringify(body));
  const headers = { "content-type": "application/json", "content-length": bytes.length, "cache-control": "no-store" };
  // A body that was not read to its end is in the way of the next request.
  response.writeHead(status, { ...headers, connection: "close" }).end(bytes);
}

async function route(context: Context, request: IncomingMessage, response: ServerResponse): Promise<object> {
  const { requests, signer } = context;
  const person = identify(context.people, request.headers.authorization);
  context.connections.keep(request.socket);
  const { url = "/" } = request;
  if (!URL.canParse(url, "http://signer")) throw unknownPath();
  const { pathname, searchParams } = new URL(url, "http://signer");
  const [, version, resource, id, action, ...more] = pathname.split("/");
  const target = version === "v1" && more.length === 0 ? `${request.method} ${resource}` : "";
  if (target === "GET key" && id === undefined) {
    const publicKey = Buffer.from(signer.publicKey).toString("base64");
    return { kind: "uki-signing-key", version: 1, keyType: signer.keyType, keyBits: signer.keyBits, publicKey };
  }
  if (target === "POST requests" && id === undefined) {
    const client = roleOf(person, "client");
    const { version: _, ...ask } = decodeMessage(requestSchema, await body(request), "a request");
    return await requests.ask(client, ask);
  }
  if (target === "GET requests" && id === undefined) {
    roleOf(person, "approver");
    return { kind: "uki-signing-requests", version: 1, requests: requests.pending().map(withoutSignature) };
  }
  if (target === "GET requests" && id !== undefined && action === undefined) {
    const known = requests.get(id);
    if (person.role === "client" && known.client !== person.name) throw unknownRequest();
    const wait = searchParams.has("wait") ? AbortSignal.timeout(WAIT_MS) : AbortSignal.abort();
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const state = await requests.decided(id, AbortSignal.any([wait, gone.signal, context.closing]));
    return person.role === "client" ? state : withoutSignature(state);
  }
  if (target === "POST requests" && id !== undefined && (action === "approve" || action === "refuse")) {
    const approver = roleOf(person, "approver");
    const { digest, more } = decodeMessage(decisionSchema, await body(request), "a decision");
    return withoutSignature(await requests.decide(approver, id, [digest, ...more], action));
  }
  throw unknownPath();
}

function unknownPath(): UkiSignError {
  return new UkiSignError("UKI_SIGN_REMOTE", "expected a path of the protocol, got another one");
}

const body = (request: IncomingMessage): Promise<Uint8Array> => readBody(request, DEFAULT_MAX_REMOTE_MESSAGE_BYTES);

function withoutSignature({ signature: _, moreSignatures: __, ...request }: SigningRequest): SigningRequest {
  return request;
}

function identify(people: readonly Person[], authorization: string | undefined): Person {
  const [, token] = /^Bearer ([\x21-\x7e]{1,512})$/.exec(authorization ?? "") ?? [];
  const hash = sha256(token ?? "");
  // Everybody is compared with, so that the time says nothing about who it was.
  const [person] = people.filter((candidate) => timingSafeEqual(candidate.hash, hash));
  if (token !== undefined && person !== undefined) return person;
  throw new UkiSignError("UKI_SIGN_REMOTE_UNAUTHORIZED", "expected a token that is known, got another one");
}

function roleOf({ role, name }: Person, wanted: Person["role"]): string {
  if (role === wanted) return name;
  const message = `expected the token of ${wanted === "client" ? "a client" : "an approver"}, got another one`;
  throw new UkiSignError("UKI_SIGN_REMOTE_UNAUTHORIZED", message);
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
