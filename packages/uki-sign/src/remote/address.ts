import { UkiSignError } from "../errors.ts";

/** Where a remote signer listens. */
export interface SignerAddress {
  /** as it was given, for people */
  readonly text: string;
  readonly tls: boolean;
  readonly host?: string;
  readonly port?: number;
  /** path of a UNIX socket, instead of host and port */
  readonly socketPath?: string;
}

/** Whether text names a remote signer rather than a file. */
export function isSignerAddress(text: string): boolean {
  return /^(https?|unix):/.test(text);
}

/**
 * Parses the address of a remote signer: `https://HOST[:PORT]`, `http://` with a host on this machine, `unix:PATH`. A token
 * is never sent over a network in the clear.
 */
export function parseSignerAddress(text: string): SignerAddress {
  if (text.startsWith("unix:/")) return { text, tls: false, socketPath: text.slice("unix:".length) };
  if (!URL.canParse(text)) throw invalid("https://HOST:PORT, http://127.0.0.1:PORT or unix:/PATH", "something else");
  const { protocol, hostname, port, pathname, search, hash, username, password } = new URL(text);
  if (username !== "" || password !== "") throw invalid("an address without a name or password", "one with");
  if (pathname !== "/" || search !== "" || hash !== "")
    throw invalid("an address without a path", JSON.stringify(text));
  const host = hostname.replace(/^\[|\]$/g, "");
  if (protocol === "https:") return { text, tls: true, host, port: port === "" ? 443 : Number(port) };
  if (protocol !== "http:") throw invalid("https:, http: or unix:", protocol);
  if (!isLoopback(host)) throw invalid("https: for a host that is not this one", JSON.stringify(text));
  return { text, tls: false, host, port: port === "" ? 80 : Number(port) };
}

/** Whether an address is one of this machine, which nobody else can listen to. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

function invalid(expected: string, got: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_REMOTE", `expected ${expected} of a remote signer, got ${got}`);
}
