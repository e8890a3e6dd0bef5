// JavaScript, not TypeScript: the scanning thread starts from it, see scan-directory.js.
import { isUtf8 } from "node:buffer";

/** Where the halves of characters begin that stand for single bytes. */
const BYTE_BASE = 0xdc00;
const ESCAPED = /[\udc80-\udcff]/;

/**
 * The text of a name or a link's target, of which no byte is lost: each that is no part of UTF-8 becomes half a character,
 * U+DC80 to U+DCFF, which UTF-8 has not (PEP 383, `surrogateescape`). Different bytes are different texts.
 *
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function nameText(bytes) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString("utf8");
  let text = "";
  for (let at = 0; at < buffer.byteLength; ) {
    const lead = buffer[at] ?? 0;
    const character = buffer.subarray(at, at + (lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4));
    const isWhole = isUtf8(character);
    text += isWhole ? character.toString("utf8") : String.fromCharCode(BYTE_BASE + lead);
    at += isWhole ? character.byteLength : 1;
  }
  return text;
}

/**
 * The bytes of a name or a link's target: what {@link nameText} was given.
 *
 * @param {string} text
 * @returns {Uint8Array}
 */
export function nameBytes(text) {
  if (!ESCAPED.test(text)) return Buffer.from(text);
  return Buffer.concat(
    Array.from(text, (character) => {
      const code = character.codePointAt(0) ?? 0;
      return isByte(code) ? Buffer.of(code - BYTE_BASE) : Buffer.from(character);
    }),
  );
}

/**
 * Whether there are bytes that have this text: halves of characters stand alone for bytes, and not for what is UTF-8.
 *
 * @param {string} text
 */
export function isNameText(text) {
  return !/[\ud800-\udfff]/.test(text) || nameText(nameBytes(text)) === text;
}

/**
 * A path as this machine's file system is given it.
 *
 * @param {string} path
 * @returns {string | Buffer}
 */
export function systemPath(path) {
  return ESCAPED.test(path) ? Buffer.from(nameBytes(path)) : path;
}

/** @param {number} code */
function isByte(code) {
  return code >= BYTE_BASE + 0x80 && code <= BYTE_BASE + 0xff;
}
