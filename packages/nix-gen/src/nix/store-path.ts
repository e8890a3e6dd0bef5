import { createHash } from "node:crypto";
import { toSri } from "../hash.ts";
import { assertStoreName } from "../store-name.ts";

const STORE_DIRECTORY = "/nix/store";
// Without e, o, u and t, so that no hash contains a swear word.
const BASE32 = "0123456789abcdfghijklmnpqrsvwxyz";
const PATH_HASH_BYTES = 20;

/**
 * Store path of a file that is known by its SHA-256, as {@link fixedOutput} makes it. Nix is not needed.
 *
 * @param name - Its name in the store.
 * @param hash - SHA-256 of the file's bytes: 64 hexadecimal digits or `sha256-…`.
 * @throws {NixGenError} `NIX_GEN_BAD_STORE_NAME`, `NIX_GEN_BAD_HASH`.
 * @see Nix manual, "Complete Store Path Calculation"
 * @example
 * fixedOutputStorePath("hello.deb", sha256) // "/nix/store/…-hello.deb"
 */
export function fixedOutputStorePath(name: string, hash: string): string {
  assertStoreName(name);
  const digits = Buffer.from(toSri(hash).slice("sha256-".length), "base64").toString("hex");
  const content = sha256(`fixed:out:sha256:${digits}:`).toString("hex");
  const digest = sha256(`output:out:sha256:${content}:${STORE_DIRECTORY}:${name}`);
  return `${STORE_DIRECTORY}/${base32(fold(digest))}-${name}`;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function fold(digest: Buffer): Uint8Array {
  const folded = new Uint8Array(PATH_HASH_BYTES);
  for (const [index, byte] of digest.entries()) {
    const at = index % PATH_HASH_BYTES;
    folded[at] = (folded[at] ?? 0) ^ byte;
  }
  return folded;
}

// Five bits a digit, the least significant last: as a little-endian number, written with its high digits first.
function base32(bytes: Uint8Array): string {
  let number = 0n;
  for (const byte of [...bytes].reverse()) number = number * 256n + BigInt(byte);
  let text = "";
  for (let digit = 0; digit < Math.ceil((bytes.length * 8) / 5); digit++) {
    text = `${BASE32[Number(number & 31n)]}${text}`;
    number >>= 5n;
  }
  return text;
}
