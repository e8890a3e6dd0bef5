import { NixGenError } from "./errors.ts";
import { quote } from "./internal/text.ts";

const SHA256_BYTES = 32;
const SRI = /^sha256-[A-Za-z0-9+/]{43}=$/;
const HEX = /^[0-9a-f]{64}$/i;

/**
 * A SHA-256 in the form that Nix prints: `sha256-` and base64.
 *
 * @param hash - 64 hexadecimal digits, that form already, or 32 bytes.
 * @returns For example `sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=`.
 * @throws {NixGenError} `NIX_GEN_BAD_HASH` for anything else.
 * @see W3C Subresource Integrity, section 3.5
 */
export function toSri(hash: string | Uint8Array): string {
  if (typeof hash !== "string") {
    if (hash.length === SHA256_BYTES) return `sha256-${Buffer.from(hash).toString("base64")}`;
    throw new NixGenError("NIX_GEN_BAD_HASH", `expected ${SHA256_BYTES} bytes of a SHA-256, got ${hash.length}`);
  }
  if (HEX.test(hash)) return `sha256-${Buffer.from(hash, "hex").toString("base64")}`;
  // The last character of the base64 carries 2 bits that have to be 0; another form of the same hash is a mistake.
  const bytes = SRI.test(hash) ? Buffer.from(hash.slice("sha256-".length), "base64") : undefined;
  if (bytes !== undefined && `sha256-${bytes.toString("base64")}` === hash) return hash;
  const hint = "MD5, SHA-1 and SHA-512 are not taken";
  const message = `expected a SHA-256 as 64 hexadecimal digits or sha256-…, got ${quote(hash)}`;
  throw new NixGenError("NIX_GEN_BAD_HASH", message, { hint });
}
