import { crc32, deflateSync, inflateSync } from "node:zlib";
import { QemuError } from "../errors.ts";

/** A picture of three bytes for each pixel, row by row from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

const SIGNATURE = Buffer.from("89504e470d0a1a0a", "hex");
/** Most pixels of a picture: a display of 8K has half of it. */
const MAX_PIXELS = 2 ** 26;
/** Bytes of a pixel, by colour type: RGB and RGB with transparency. */
const PIXEL_SIZES: Readonly<Record<number, number>> = { 2: 3, 6: 4 };

/**
 * Decodes a PNG file of 8-bit RGB, as QEMU and {@link encodePng} write it; transparency is left out.
 *
 * @param path - Where it is from, for errors.
 * @throws {QemuError} `QEMU_FILE` for anything else.
 * @see PNG (Third Edition), W3C Recommendation, sections 5, 7.3, 9 and 11.2.1
 */
export function decodePng(bytes: Uint8Array, path: string): Picture {
  const refuse = (got: string, cause?: unknown): QemuError =>
    new QemuError("QEMU_FILE", `expected a PNG picture of 8-bit RGB, got ${got}`, { path, cause });
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!file.subarray(0, SIGNATURE.length).equals(SIGNATURE)) throw refuse("another kind of file");
  let header: Buffer | undefined;
  const data: Buffer[] = [];
  for (let at = SIGNATURE.length; at + 12 <= file.length; ) {
    const length = file.readUInt32BE(at);
    const body = file.subarray(at + 8, at + 8 + length);
    const kind = file.toString("latin1", at + 4, at + 8);
    if (body.length < length) throw refuse(`a file that ends in ${kind}`);
    if (kind === "IHDR" && length === 13) header = body;
    if (kind === "IDAT") data.push(body);
    at += length + 12;
  }
  if (header === undefined) throw refuse("a file without a header");
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [depth = 0, type = 0, , , interlaced = 0] = header.subarray(8);
  const size = PIXEL_SIZES[type];
  if (size === undefined || depth !== 8 || interlaced !== 0) throw refuse(`depth ${depth} and colour type ${type}`);
  if (width < 1 || height < 1 || width * height > MAX_PIXELS) throw refuse(`${width} by ${height} pixels`);
  const stride = width * size;
  let rows: Buffer;
  try {
    rows = inflateSync(Buffer.concat(data), { maxOutputLength: (stride + 1) * height });
  } catch (cause) {
    throw refuse("damaged data", cause);
  }
  if (rows.length !== (stride + 1) * height) throw refuse("fewer rows than it says");
  const pixels = new Uint8Array(width * height * 3);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const filter = rows[start] ?? 0;
    if (filter > 4) throw refuse(`filter ${filter} in row ${y}`);
    const row = unfilter(filter, rows.subarray(start + 1, start + 1 + stride), above, size);
    for (let x = 0; x < width; x += 1) pixels.set(row.subarray(x * size, x * size + 3), (y * width + x) * 3);
    above = row;
  }
  return { width, height, pixels };
}

/** Encodes a picture, the same picture always as the same file. */
export function encodePng({ width, height, pixels }: Picture): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y += 1) {
    rows.set(pixels.subarray(y * width * 3, (y + 1) * width * 3), y * (width * 3 + 1) + 1);
  }
  const chunks = [chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))];
  return Uint8Array.from(Buffer.concat([SIGNATURE, ...chunks]));
}

function chunk(kind: string, body: Buffer): Buffer {
  const out = Buffer.alloc(body.length + 12);
  out.writeUInt32BE(body.length, 0);
  out.write(kind, 4, "latin1");
  body.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, body.length + 8)), body.length + 8);
  return out;
}

/** Undoes what was done to a row to compress it better: each byte is told by its neighbours to the left and above. */
function unfilter(filter: number, coded: Uint8Array, above: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const row = new Uint8Array(coded.length);
  for (let index = 0; index < row.length; index += 1) {
    const left = index < size ? 0 : (row[index - size] ?? 0);
    const up = above[index] ?? 0;
    const corner = index < size ? 0 : (above[index - size] ?? 0);
    const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter] ?? 0;
    row[index] = (coded[index] ?? 0) + guess;
  }
  return row;
}

/** The neighbour that is nearest to what the three of them promise. */
function paeth(left: number, up: number, corner: number): number {
  const promise = left + up - corner;
  const [toLeft, toUp, toCorner] = [Math.abs(promise - left), Math.abs(promise - up), Math.abs(promise - corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}
