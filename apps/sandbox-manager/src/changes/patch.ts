import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { structuredPatch } from "diff";
import type { Difference, Version } from "./compare.ts";

/** How far git looks for a NUL byte, with which a file counts as binary. */
const BINARY_PROBE = 8000;
/** What takes longer to compare line by line, in `milliseconds`, is replaced as a whole. */
const LINES_TIMEOUT_MS = 2000;
const SHORT_ID = 7;
const NO_OBJECT = "0".repeat(40);

/**
 * Writes differences as a patch that `git apply` takes, binary files included.
 *
 * @see git, `Documentation/diff-generate-patch`
 */
export function formatPatch(differences: readonly Difference[]): string {
  return [...patchPieces(differences)].join("");
}

/** The same in pieces, a file at a time. */
export function* patchPieces(differences: readonly Difference[]): Generator<string> {
  for (const difference of differences) yield formatDifference(difference);
}

function formatDifference({ path, before, after }: Difference): string {
  // A file does not become a link: one goes, the other comes.
  if (before !== undefined && after !== undefined && kindOf(before) !== kindOf(after)) {
    return section(path, before, undefined) + section(path, undefined, after);
  }
  return section(path, before, after);
}

function section(path: string, before: Version | undefined, after: Version | undefined): string {
  const [old, now] = [quoted(`a/${path}`), quoted(`b/${path}`)];
  const lines = [`diff --git ${old} ${now}`];
  if (before === undefined && after !== undefined) lines.push(`new file mode ${after.mode}`);
  else if (after === undefined && before !== undefined) lines.push(`deleted file mode ${before.mode}`);
  else if (before !== undefined && after !== undefined && before.mode !== after.mode) {
    lines.push(`old mode ${before.mode}`, `new mode ${after.mode}`);
  }
  const [one, other] = [contentOf(before), contentOf(after)];
  if (Buffer.compare(one, other) !== 0) {
    const mode = before !== undefined && before.mode === after?.mode ? ` ${before.mode}` : "";
    const isText = !isBinary(one) && !isBinary(other);
    const ids = [before && objectId(one), after && objectId(other)];
    const [from, to] = ids.map((id = NO_OBJECT) => id.slice(0, isText ? SHORT_ID : undefined));
    lines.push(`index ${from}..${to}${mode}`);
    if (!isText) return `${[...lines, "GIT binary patch", ...literal(other), ...literal(one)].join("\n")}\n`;
    lines.push(`--- ${before === undefined ? "/dev/null" : old}`, `+++ ${after === undefined ? "/dev/null" : now}`);
    return `${[...lines, ...hunks(one.toString("utf8"), other.toString("utf8"))].join("\n")}\n`;
  }
  return `${lines.join("\n")}\n`;
}

function hunks(before: string, after: string): string[] {
  const options = { context: 3, timeout: LINES_TIMEOUT_MS };
  const patch = structuredPatch("", "", before, after, undefined, undefined, options);
  if (patch === undefined) return replacement(before, after);
  return patch.hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines }) => [
    `@@ -${range(oldStart, oldLines)} +${range(newStart, newLines)} @@`,
    ...lines,
  ]);
}

/** Everything goes, and everything comes. */
function replacement(before: string, after: string): string[] {
  const [old, now] = [linesOf(before), linesOf(after)];
  const head = `@@ -${range(1, old.length)} +${range(1, now.length)} @@`;
  return [head, ...signed("-", before, old), ...signed("+", after, now)];
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

function signed(sign: string, text: string, lines: readonly string[]): string[] {
  const end = text === "" || text.endsWith("\n") ? [] : ["\\ No newline at end of file"];
  return [...lines.map((line) => sign + line), ...end];
}

/** Lines of a hunk; one that has none begins behind the line before. */
function range(start: number, count: number): string {
  if (count === 0) return `${Math.max(start - 1, 0)},0`;
  return count === 1 ? `${start}` : `${start},${count}`;
}

function kindOf({ mode }: Version): "link" | "file" {
  return mode === "120000" ? "link" : "file";
}

function contentOf(version: Version | undefined): Buffer {
  const { buffer, byteOffset, byteLength } = version?.read() ?? new Uint8Array();
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Whether a text of lines would not say all of it: git's own test, and what is no UTF-8. */
function isBinary(content: Buffer): boolean {
  if (content.subarray(0, BINARY_PROBE).includes(0)) return true;
  return !Buffer.from(content.toString("utf8")).equals(content);
}

/** Name of an object as git gives it. */
function objectId(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.byteLength}\0`).update(content).digest("hex");
}

const BASE85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
const BYTES_PER_LINE = 52;

/** A content as a whole: its length, then zlib's deflate in base 85, 52 bytes a line behind a letter for their number. */
function literal(content: Buffer): string[] {
  const packed = deflateSync(content);
  const lines = [`literal ${content.byteLength}`];
  for (let at = 0; at < packed.byteLength; at += BYTES_PER_LINE) {
    const piece = packed.subarray(at, at + BYTES_PER_LINE);
    const length = piece.byteLength;
    const letter = String.fromCharCode(length <= 26 ? 64 + length : 70 + length);
    lines.push(letter + base85(piece));
  }
  return [...lines, ""];
}

function base85(bytes: Buffer): string {
  let text = "";
  for (let at = 0; at < bytes.byteLength; at += 4) {
    const group = Buffer.alloc(4);
    bytes.copy(group, 0, at);
    let value = group.readUInt32BE(0);
    const digits = new Array<string>(5);
    for (let index = 4; index >= 0; index -= 1) {
      digits[index] = BASE85.charAt(value % 85);
      value = Math.floor(value / 85);
    }
    text += digits.join("");
  }
  return text;
}

/** A path as git writes it: in quotes, with bytes in octal digits, where it has anything but plain characters. */
function quoted(path: string): string {
  const bytes = Buffer.from(path);
  if (bytes.every((byte) => byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c)) return path;
  const escaped = [...bytes].map((byte) => {
    if (byte === 0x22 || byte === 0x5c) return `\\${String.fromCharCode(byte)}`;
    if (byte >= 0x20 && byte < 0x7f) return String.fromCharCode(byte);
    return `\\${byte.toString(8).padStart(3, "0")}`;
  });
  return `"${escaped.join("")}"`;
}
