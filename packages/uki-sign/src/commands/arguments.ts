import { UsageError } from "@leveret/command";
import { PCR_BANKS, type PcrBank } from "../pcr/register.ts";
import type { CommandFiles } from "./command-files.ts";

/** Collects a flag that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** A whole number from a flag. */
export function parseInteger(value: string): number {
  if (/^(0|[1-9]\d{0,9})$/.test(value)) return Number(value);
  throw new UsageError(`expected a whole number, got ${JSON.stringify(value)}`);
}

/** Text given as it is, or as `@FILE`. */
export async function readText(files: CommandFiles, value: string): Promise<string> {
  if (!value.startsWith("@")) return value;
  return Buffer.from(await files.read(value.slice(1))).toString("utf8");
}

/** Text given as it is, or the bytes of `@FILE`. */
export async function readTextOrBytes(files: CommandFiles, value: string): Promise<string | Uint8Array> {
  return value.startsWith("@") ? await files.read(value.slice(1)) : value;
}

/** A digest from a flag, hexadecimal. */
export function parseDigest(value: string): Uint8Array {
  if (/^([0-9a-f]{2})+$/i.test(value)) return new Uint8Array(Buffer.from(value, "hex"));
  throw new UsageError(`expected a hexadecimal digest, got ${JSON.stringify(value)}`);
}

/** Text from a file, safe to print: control characters other than newline and tab are escaped. */
export function printable(text: string): string {
  return text.replaceAll(/[^\P{C}\n\t]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

/** A bank from a flag. */
export function parseBank(name: string): PcrBank {
  const bank = PCR_BANKS.find((candidate) => candidate === name);
  if (bank !== undefined) return bank;
  throw new UsageError(`expected a bank of ${PCR_BANKS.join(", ")}, got ${JSON.stringify(name)}`);
}

/** Longest text in a table's cell, in characters. */
const MAX_CELL = 100;

/** Text from a file as one line that is safe to print. */
export function shortLine(text: string): string {
  const line = printable(text).replaceAll(/[\n\t]+/g, " ");
  return line.length > MAX_CELL ? `${line.slice(0, MAX_CELL - 1)}…` : line;
}
