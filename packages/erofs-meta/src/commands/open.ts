import { resolve } from "node:path";
import type { CommandIo } from "@leveret/command";
import { type Command, InvalidArgumentError } from "commander";
import { fileSource, windowSource } from "../block-source.ts";
import { type ErofsImage, openErofs } from "../read/image.ts";

/** Options of every command that opens an image. */
export interface ImageOptions {
  readonly offset: number;
  readonly json?: boolean;
}

/** Adds `--offset` and `--json`. */
export function withImageOptions(command: Command): Command {
  return command
    .option("--offset <bytes>", "where the image starts in the file, for a partition of a disk", parseCount, 0)
    .option("--json", "print one JSON document");
}

/** Opens the image a person named, and closes it whatever `use` does. */
export async function withImage<T>(
  io: CommandIo,
  path: string,
  options: ImageOptions,
  use: (image: ErofsImage) => Promise<T>,
): Promise<T> {
  await using source = await fileSource(resolve(io.cwd, path));
  // Awaited here, so that the file is closed after it was used.
  return await use(await openErofs(windowSource(source, Math.min(options.offset, source.sizeBytes))));
}

/** Parses a whole number of an option. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError("expected a whole number");
  return value;
}

/** Parses hexadecimal bytes of an option or argument. */
export function parseHex(text: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new InvalidArgumentError("expected an even number of hexadecimal digits");
  return new Uint8Array(Buffer.from(text, "hex"));
}
