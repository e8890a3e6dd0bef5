import type { Duplex } from "node:stream";
import { TLS_ACCESS_DENIED } from "./format/tls.ts";
import { type NetworkReason, REASONS } from "./messages.ts";
import type { Opening } from "./opening.ts";

/** How long a refusal may take to be read, in `milliseconds`. */
const LAST_WORDS_TIMEOUT_MS = 5000;
/** Where the host, and no rule, is why. */
const UPSTREAM_REASONS: readonly NetworkReason[] = ["unresolved", "unreachable", "untrusted"];

/** What is refused, and why. */
export interface Refusal {
  readonly host: string;
  readonly port: number;
  readonly reason: NetworkReason;
  /** `GET /v1/x`, where that is why */
  readonly request?: string | undefined;
}

/** What a person could do about a refusal. */
export function hintOf({ reason, host, port, request }: Refusal): string {
  if (reason === "not-allowed") return `${REASONS[reason]}; on the host: leveret-sandbox net allow ${host}`;
  if (reason === "port-not-allowed")
    return `${REASONS[reason]}; on the host: leveret-sandbox net allow ${host}:${port}`;
  if (reason === "private-address") {
    return `${REASONS[reason]}; to allow just that: leveret-sandbox net allow ${host}:${port}=ADDRESS`;
  }
  if (reason === "request-not-allowed" && request !== undefined) {
    return `${REASONS[reason]}; on the host: leveret-sandbox net allow '${host}:${port} ${request}'`;
  }
  return REASONS[reason];
}

/** Says why in the terms of who has asked, if there are any, and ends the connection. */
export function answerRefusal(stream: Duplex, { kind }: Opening, refusal: Refusal): void {
  if (kind === "none" || stream.destroyed) {
    stream.destroy();
    return;
  }
  const timer = setTimeout(() => stream.destroy(), LAST_WORDS_TIMEOUT_MS).unref();
  stream.once("close", () => clearTimeout(timer));
  // Whatever else it sends is not read, but has to be taken for the answer to be seen.
  stream.resume();
  if (kind === "tls" || kind === "bad tls") {
    stream.end(TLS_ACCESS_DENIED);
    return;
  }
  const { host, port, reason } = refusal;
  const hint = hintOf(refusal);
  const body = `${JSON.stringify({ kind: "sandbox-network-refused", version: 1, host, port, reason, hint })}\n`;
  const status = UPSTREAM_REASONS.includes(reason) ? "502 Bad Gateway" : "403 Forbidden";
  const fields = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close`;
  stream.end(`HTTP/1.1 ${status}\r\n${fields}\r\n\r\n${body}`);
}

/** Whom a connection says that it is for. */
export function nameIn(opening: Opening): string | undefined {
  if (opening.kind === "tls") return opening.hello.serverName;
  return opening.kind === "http" ? opening.head.host : undefined;
}

/** What a connection that has begun so is noted as. */
export function protocolOf({ kind }: Opening): "http" | "tls" | "tcp" {
  if (kind === "none") return "tcp";
  return kind.endsWith("tls") ? "tls" : "http";
}

/** Why a connection that has begun so does not go where rules let it. */
export function whatIsWrong(opening: Opening, name: string, port: number): NetworkReason | undefined {
  const { kind } = opening;
  if (kind === "none") return "no-name";
  if (kind === "bad tls" || kind === "bad http") return "malformed";
  const said = nameIn(opening);
  if (said === undefined) return "no-name";
  if (said !== name || (kind === "http" && opening.head.port !== port)) return "other-name";
  return kind === "tls" && opening.hello.isEncrypted ? "encrypted-name" : undefined;
}
