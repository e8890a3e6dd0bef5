import { type ClientRequest, type IncomingMessage, type RequestOptions, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { UkiSignError, type UkiSignErrorCode } from "../errors.ts";
import { concat } from "../internal/bytes.ts";
import type { SignerAddress } from "./address.ts";
import { DEFAULT_MAX_REMOTE_MESSAGE_BYTES, decodeMessage, errorSchema, WAIT_MS } from "./protocol.ts";

/** How long an answer may take beyond what it waits for, in milliseconds. */
const ANSWER_MS = 30_000;

/** Codes that a remote signer says itself. */
const REMOTE_CODES: readonly UkiSignErrorCode[] = [
  "UKI_SIGN_REMOTE",
  "UKI_SIGN_REMOTE_UNAUTHORIZED",
  "UKI_SIGN_REMOTE_REFUSED",
  "UKI_SIGN_REMOTE_EXPIRED",
  "UKI_SIGN_REMOTE_BUSY",
];

/** Who asks a remote signer, and where it is. */
export interface Caller {
  readonly address: SignerAddress;
  readonly token: string;
  /** certificates of authorities that may vouch for it, PEM, instead of the system's */
  readonly ca: string | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Sends one message and returns the answer's bytes; an answer about a failure is thrown. */
export async function exchange(
  { address, token, ca, signal }: Caller,
  method: "GET" | "POST",
  path: string,
  message?: object,
  maxBytes = DEFAULT_MAX_REMOTE_MESSAGE_BYTES,
): Promise<Uint8Array> {
  const body = message === undefined ? undefined : new TextEncoder().encode(JSON.stringify(message));
  const timeout = AbortSignal.timeout(WAIT_MS + ANSWER_MS);
  const { tls, host, port, socketPath } = address;
  const options: RequestOptions = {
    method,
    path,
    agent: false,
    signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json", "content-length": body.length }),
    },
    ...(socketPath === undefined ? { host, port } : { socketPath }),
  };
  try {
    const request = tls ? requestHttps({ ...options, ...(ca === undefined ? {} : { ca }) }) : requestHttp(options);
    const response = await answerTo(request, body);
    const bytes = await readBody(response, maxBytes);
    if (response.statusCode !== undefined && response.statusCode < 300) return bytes;
    throw refusal(address, bytes);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof UkiSignError) throw error;
    const reason = timeout.aborted ? "no answer in time" : error instanceof Error ? error.message : String(error);
    throw new UkiSignError("UKI_SIGN_REMOTE", `expected an answer of ${address.text}, got ${reason}`, { cause: error });
  }
}

function answerTo(request: ClientRequest, body: Uint8Array | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on("response", resolve).on("error", reject).end(body);
  });
}

/** Reads a body to its end, unless it is too long. */
export async function readBody(message: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new UkiSignError("UKI_SIGN_REMOTE", `expected a message of at most ${maxBytes} bytes, got more`);
    }
    chunks.push(chunk);
  }
  return concat(...chunks);
}

function refusal(address: SignerAddress, bytes: Uint8Array): UkiSignError {
  const { code, message } = decodeMessage(errorSchema, bytes, `an answer of ${address.text}`);
  const known = REMOTE_CODES.find((candidate) => candidate === code) ?? "UKI_SIGN_REMOTE";
  const hint =
    known === "UKI_SIGN_REMOTE_BUSY"
      ? "approve or refuse what waits (uki-sign signer requests), or ask again when it has expired"
      : undefined;
  return new UkiSignError(known, `${message}, says ${address.text}`, { hint });
}
