import { type CommandIo, type InputFlags, withInputOptions } from "@leveret/command";
import { type Command, InvalidArgumentError } from "commander";
import { type BlockSource, windowSource } from "../block-source.ts";
import { type ErofsImage, openErofs } from "../read/image.ts";
import { openInput } from "./input.ts";

/** Most text of a dump, of a tree or of xattrs, in `bytes`: enough for a million names. */
export const MAX_DUMP_BYTES = 256 * 1024 * 1024;

/** Options of every command that opens an image. */
export interface ImageOptions extends InputFlags {
  readonly offset: number;
  readonly device?: readonly string[];
  readonly json?: boolean;
}

/** Adds `--offset`, `--device`, `--header-file` and `--json`. */
export function withImageOptions(command: Command): Command {
  return withPlaceOptions(command).option("--json", "print one JSON document");
}

/** Adds `--offset`, `--device` and `--header-file`. */
export function withPlaceOptions(command: Command): Command {
  return withInputOptions(command)
    .option("--offset <bytes>", "where the image starts in the file, for a partition of a disk", parseCount, 0)
    .option(
      "--device <file>",
      "extra device with contents of the image; again for each",
      (file, files: string[] = []) => [...files, file],
    );
}

/** Opens the image a person named, and closes it whatever `use` does. */
export async function withImage<T>(
  io: CommandIo,
  path: string,
  options: ImageOptions,
  use: (image: ErofsImage) => Promise<T>,
): Promise<T> {
  return await withSource(io, path, options, async (source, devices) => use(await openErofs(source, { devices })));
}

/** Opens the files of the image a person named, and closes them whatever `use` does. */
export async function withSource<T>(
  io: CommandIo,
  path: string,
  options: ImageOptions,
  use: (source: BlockSource, devices: readonly BlockSource[]) => Promise<T>,
): Promise<T> {
  await using source = await openInput(io, path, options);
  const devices: BlockSource[] = [];
  try {
    for (const file of options.device ?? []) devices.push(await openInput(io, file, options));
    // Awaited here, so that the files are closed after they were used.
    return await use(windowSource(source, Math.min(options.offset, source.sizeBytes)), devices);
  } finally {
    for (const device of devices) await device.close();
  }
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
