import { decode, encode } from "fast-png";
import { QemuError } from "../errors.ts";

/** A picture of three bytes for each pixel, row by row from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** Bytes of a pixel that are its colour; a fourth is its transparency. */
const COLOURS = 3;

/**
 * Decodes a PNG file of 8-bit RGB, as QEMU and {@link encodePng} write it; transparency is left out.
 *
 * @param path - Where it is from, for errors.
 * @throws {QemuError} `QEMU_FILE` for anything else.
 */
export function decodePng(bytes: Uint8Array, path: string): Picture {
  const refuse = (got: string, cause?: unknown): QemuError =>
    new QemuError("QEMU_FILE", `expected a PNG picture of 8-bit RGB, got ${got}`, { path, cause });
  let picture: ReturnType<typeof decode>;
  try {
    picture = decode(bytes, { checkCrc: true });
  } catch (cause) {
    throw refuse(cause instanceof Error ? cause.message : String(cause), cause);
  }
  const { width, height, depth, channels, data, palette } = picture;
  if (depth !== 8 || channels < COLOURS || palette !== undefined) throw refuse(`depth ${depth}, ${channels} channels`);
  if (channels === COLOURS) return { width, height, pixels: Uint8Array.from(data) };
  const pixels = new Uint8Array(width * height * COLOURS);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    pixels.set(data.subarray(pixel * channels, pixel * channels + COLOURS), pixel * COLOURS);
  }
  return { width, height, pixels };
}

/** Encodes a picture, the same picture always as the same file. */
export function encodePng({ width, height, pixels }: Picture): Uint8Array {
  return encode({ width, height, data: pixels, depth: 8, channels: COLOURS });
}
