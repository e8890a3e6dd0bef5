import { NixGenError, type NixGenErrorCode } from "../errors.ts";

/** Throws unless Nix can hold `text`: no NUL (ends a C string) and no lone surrogate (has no UTF-8 form). */
export function assertText(text: string, path?: string, code: NixGenErrorCode = "NIX_GEN_BAD_STRING"): void {
  const nul = text.indexOf("\0");
  if (nul !== -1) {
    throw new NixGenError(code, `expected text without NUL, got one at index ${nul}`, { path });
  }
  const lone = loneSurrogate(text);
  if (lone !== -1) {
    const unit = text.charCodeAt(lone).toString(16);
    throw new NixGenError(code, `expected well-formed Unicode, got the lone surrogate \\u${unit} at index ${lone}`, {
      path,
    });
  }
}

// Node 20 has String.prototype.isWellFormed, but it doesn't say where.
function loneSurrogate(text: string): number {
  return text.search(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/);
}

/** `text` as it may appear in an error: quoted, on one line, cut after 80 characters. */
export function quote(text: string): string {
  const cut = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return JSON.stringify(cut);
}

/** What `value` is, in a word or two, for an error. */
export function describe(value: unknown): string {
  if (value === null || value === undefined || typeof value === "boolean") return String(value);
  if (typeof value === "string") return quote(value);
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || prototype === Object.prototype) return "an object";
    const name: unknown = Object.getOwnPropertyDescriptor(prototype, "constructor")?.value?.name;
    return typeof name === "string" && name !== "" ? `an instance of ${name}` : "an object";
  }
  return `a ${typeof value}`;
}

/** `path` with one more property name or index: `a.b[2]["c d"]`. */
export function joinPath(path: string, key: string | number): string {
  if (typeof key === "number") return `${path}[${key}]`;
  if (!/^[A-Za-z_$][\w$]*$/.test(key)) return `${path}[${quote(key)}]`;
  return path === "" ? key : `${path}.${key}`;
}

/** Why something failed, shortly: `ENOENT`, or the message. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
}
