import { UkiSignError } from "../errors.ts";

/** Longest `pkcs11:` URI that is parsed, in characters. */
export const DEFAULT_MAX_PKCS11_URI_LENGTH = 4096;

/** Which object a `pkcs11:` URI names. */
export interface Pkcs11Uri {
  /** label of the token */
  readonly token?: string | undefined;
  /** manufacturer of the token */
  readonly manufacturer?: string | undefined;
  /** model of the token */
  readonly model?: string | undefined;
  /** serial number of the token */
  readonly serial?: string | undefined;
  /** label of the object */
  readonly object?: string | undefined;
  /** identifier of the object */
  readonly id?: Uint8Array | undefined;
  /** kind of the object */
  readonly type?: "private" | "cert" | undefined;
  /** file that the PIN is read from */
  readonly pinSource?: string | undefined;
  /** file of the PKCS#11 module, absolute */
  readonly modulePath?: string | undefined;
}

const PATH_ATTRIBUTES = ["token", "manufacturer", "model", "serial", "object", "id", "type"];
const QUERY_ATTRIBUTES = ["pin-source", "module-path"];

/**
 * Parses a `pkcs11:` URI that names a private key or a certificate.
 *
 * @param text - The URI. Attributes that are not in {@link Pkcs11Uri} are refused, as without them it would name more.
 * @returns What it names.
 * @throws {UkiSignError} `UKI_SIGN_PKCS11_URI` when it is none, has an attribute twice or one that is not used, or a PIN in
 *   itself (`pin-value`), where other users of the machine can read it.
 * @see RFC 7512 section 2.3
 * @example
 * const { token, object } = parsePkcs11Uri("pkcs11:token=hare;object=db;type=private?pin-source=/run/pin");
 */
export function parsePkcs11Uri(text: string): Pkcs11Uri {
  if (!text.startsWith("pkcs11:")) throw invalid("pkcs11: and attributes", "something else");
  if (text.length > DEFAULT_MAX_PKCS11_URI_LENGTH) {
    throw invalid(`at most ${DEFAULT_MAX_PKCS11_URI_LENGTH} characters`, String(text.length));
  }
  const [path = "", query = "", ...more] = text.slice("pkcs11:".length).split("?");
  if (more.length > 0) throw invalid("one question mark", "several");
  const values = new Map([
    ...readAttributes(path, ";", PATH_ATTRIBUTES),
    ...readAttributes(query, "&", QUERY_ATTRIBUTES),
  ]);
  const textOf = (name: string): string | undefined => {
    const bytes = values.get(name);
    if (bytes === undefined) return undefined;
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw invalid(`UTF-8 for ${name}`, "other bytes");
    }
  };
  const type = textOf("type");
  if (type !== undefined && type !== "private" && type !== "cert") {
    throw invalid("type private or cert", JSON.stringify(type));
  }
  const modulePath = textOf("module-path");
  if (modulePath?.startsWith("/") === false) throw invalid("an absolute module-path", JSON.stringify(modulePath));
  return {
    token: textOf("token"),
    manufacturer: textOf("manufacturer"),
    model: textOf("model"),
    serial: textOf("serial"),
    object: textOf("object"),
    id: values.get("id"),
    type,
    pinSource: readPinSource(textOf("pin-source")),
    modulePath,
  };
}

function readAttributes(part: string, separator: string, known: readonly string[]): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  for (const attribute of part === "" ? [] : part.split(separator)) {
    const equals = attribute.indexOf("=");
    const name = attribute.slice(0, Math.max(0, equals));
    if (name === "pin-value") {
      throw invalid("no PIN", "pin-value", "give it with pin-source=FILE, or let the terminal ask for it");
    }
    // Not the attribute itself, which may be a PIN with a wrong name.
    if (!known.includes(name)) throw invalid(`attributes ${known.join(", ")}`, JSON.stringify(name));
    if (values.has(name)) throw invalid(`${name} once`, "it twice");
    values.set(name, percentDecode(name, attribute.slice(equals + 1)));
  }
  return values;
}

function percentDecode(name: string, text: string): Uint8Array {
  const bytes = Buffer.from(text, "utf8");
  const decoded: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== 0x25) {
      decoded.push(bytes[at] ?? 0);
      continue;
    }
    const digits = bytes.toString("latin1", at + 1, at + 3);
    if (!/^[0-9a-f]{2}$/i.test(digits)) throw invalid(`two hexadecimal digits after % in ${name}`, "something else");
    decoded.push(Number.parseInt(digits, 16));
    at += 2;
  }
  return Uint8Array.from(decoded);
}

/** RFC 7512 2.4: a path, or a file: URI of one. A command to run (`|command`) is not for URIs to say. */
function readPinSource(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const path = text.startsWith("file:") ? text.slice("file:".length).replace(/^\/\/(?=\/)/, "") : text;
  if (path !== "" && !path.startsWith("|") && !path.includes("\0")) return path;
  throw invalid("a file for pin-source", "something else");
}

function invalid(expected: string, got: string, hint?: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_PKCS11_URI", `expected ${expected} in the PKCS#11 URI, got ${got}`, { hint });
}
