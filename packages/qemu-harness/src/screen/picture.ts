import { setImmediate } from "node:timers/promises";
import { QemuError } from "../errors.ts";

/** Grey levels, one byte for each pixel, row by row from the top. */
export interface GreyPicture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** Largest side of a display that is looked at, in pixels; QEMU's devices end below. */
const MAX_SIDE = 16_384;

/**
 * Reads a picture as QEMU writes it, without its colours.
 *
 * @see Netpbm format specification, PPM: `P6`, width, height and 255 as text, then three bytes for each pixel.
 * @throws {QemuError} `QEMU_QMP_PROTOCOL` for anything else.
 */
export function decodePpm(bytes: Uint8Array): GreyPicture {
  const header = /^P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s/.exec(Buffer.from(bytes.subarray(0, 64)).toString("latin1"));
  const [width, height] = [Number(header?.[1]), Number(header?.[2])];
  const start = header?.[0].length ?? 0;
  if (!(width <= MAX_SIDE && height <= MAX_SIDE) || bytes.length !== start + width * height * 3) {
    throw new QemuError("QEMU_QMP_PROTOCOL", "expected a picture of the screen (PPM), got something else");
  }
  const pixels = new Uint8Array(width * height);
  for (let index = 0, at = start; index < pixels.length; index += 1, at += 3) {
    // ITU-R BT.601: how bright the three colours look.
    pixels[index] = (299 * (bytes[at] ?? 0) + 587 * (bytes[at + 1] ?? 0) + 114 * (bytes[at + 2] ?? 0)) / 1000;
  }
  return { width, height, pixels };
}

/** How much larger a picture is made to be read: tesseract was best at, and quickest with, letters of this size. */
const SCALE = 2;
/** After how many rows others get a turn: a guest whose console nobody reads for a second gives up on it. */
const ROWS_AT_ONCE = 32;

/**
 * A picture as programs that read text want it: dark on light, larger, and with soft edges.
 *
 * @returns A PGM file (`P5`).
 */
export async function forReading(picture: GreyPicture): Promise<Uint8Array> {
  const width = picture.width * SCALE;
  const height = picture.height * SCALE;
  const isDark = picture.pixels.reduce((total, level) => total + level, 0) < 128 * picture.pixels.length;
  const invert = isDark ? 255 : 0;
  const header = Buffer.from(`P5\n${width} ${height}\n255\n`, "latin1");
  const file = new Uint8Array(header.length + width * height);
  file.set(header);
  const columns = neighbours(picture.width);
  let at = header.length;
  for (const [row, [above, below, down]] of neighbours(picture.height).entries()) {
    if (row % ROWS_AT_ONCE === 0) await setImmediate();
    const top = above * picture.width;
    const bottom = below * picture.width;
    for (const [left, right, across] of columns) {
      const { pixels } = picture;
      const upper = (pixels[top + left] ?? 0) * (1 - across) + (pixels[top + right] ?? 0) * across;
      const lower = (pixels[bottom + left] ?? 0) * (1 - across) + (pixels[bottom + right] ?? 0) * across;
      file[at] = Math.round(upper * (1 - down) + lower * down) ^ invert;
      at += 1;
    }
  }
  return file;
}

/** For each place of the enlarged side: the two pixels that it lies between, and how near it is to the second. */
function neighbours(size: number): readonly (readonly [number, number, number])[] {
  return Array.from({ length: size * SCALE }, (_, index) => {
    const place = Math.min(size - 1, Math.max(0, (index + 0.5) / SCALE - 0.5));
    const first = Math.floor(place);
    return [first, Math.min(size - 1, first + 1), place - first] as const;
  });
}
