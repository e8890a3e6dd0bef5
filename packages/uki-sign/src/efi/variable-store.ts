import { UkiSignError } from "../errors.ts";
import {
  AUTHENTICATED_VARIABLE_GUID,
  FLASH_BLOCK_BYTES,
  FTW_HEADER_BYTES,
  FTW_WORKING_BLOCK_GUID,
  FV_GUID_OFFSET,
  FV_HEADER_BYTES,
  FV_HEADER_LENGTH_OFFSET,
  FV_LENGTH_OFFSET,
  FV_SIGNATURE,
  FV_SIGNATURE_OFFSET,
  PLAIN_VARIABLE_GUID,
  STORE_FORMATTED,
  STORE_HEADER_BYTES,
  STORE_HEALTHY,
  SYSTEM_NV_DATA_FV_GUID,
  VARIABLE_ALIGNMENT_BYTES,
  VARIABLE_HEADER_BYTES,
  VARIABLE_START_ID,
  VARIABLE_STATE_ADDED,
  VARIABLE_STATE_BEING_REPLACED,
} from "../format/variable-store.ts";
import { copyBytes, viewOf } from "../internal/bytes.ts";
import { decodeGuid, encodeGuid } from "./guid.ts";
import { decodeEfiTime, encodeEfiTime } from "./time.ts";

/** Largest variable store that is decoded, in bytes. */
export const DEFAULT_MAX_VARIABLE_STORE_BYTES = 16 * 1024 * 1024;

/** Most variables of a store that are decoded, deleted ones included. */
export const DEFAULT_MAX_STORED_VARIABLES = 16384;

/** A variable in a store. */
export interface StoredVariable {
  readonly name: string;
  /** vendor GUID, lower case */
  readonly guid: string;
  /** attribute bits, UEFI 2.10 section 8.2.1 */
  readonly attributes: number;
  /** time of the value, for time-authenticated variables; undefined for others */
  readonly timestamp?: Date | undefined;
  /** a copy, in what {@link decodeVariableStore} returns */
  readonly data: Uint8Array;
}

/** A decoded variable store. */
export interface VariableStore {
  /** the valid variables, in the order they are stored in */
  readonly variables: readonly StoredVariable[];
  /** offset of the first variable's header in the image, in `bytes` */
  readonly offset: number;
  /** room for variables, in `bytes` */
  readonly sizeBytes: number;
  /** room that no variable takes, not counting what deleted ones take, in `bytes` */
  readonly freeBytes: number;
}

/**
 * Decodes the variable store of OVMF or another EDK II firmware, in either of OVMF's layouts (128 KiB, 528 KiB) or any other.
 *
 * @param image - The content of the flash device, or of a file like `OVMF_VARS_4M.fd`.
 * @returns The variables that firmware would see.
 * @throws {UkiSignError} `UKI_SIGN_VARIABLE_STORE_INVALID` when the image is no store with authenticated variables or contradicts
 *   itself, `UKI_SIGN_TOO_LARGE` when it is beyond {@link DEFAULT_MAX_VARIABLE_STORE_BYTES} or
 *   {@link DEFAULT_MAX_STORED_VARIABLES}.
 * @see UEFI PI 1.8 volume 3 section 3.2.1; EDK II `MdeModulePkg/Include/Guid/VariableFormat.h`
 * @example
 * const { variables } = decodeVariableStore(await readFile("OVMF_VARS_4M.fd"));
 */
export function decodeVariableStore(image: Uint8Array): VariableStore {
  const { offset, end } = locateStore(image);
  const found: RawVariable[] = [];
  let at = offset;
  for (let raw = readVariable(image, at, end); raw !== undefined; raw = readVariable(image, at, end)) {
    if (found.length >= DEFAULT_MAX_STORED_VARIABLES) {
      const message = `expected at most ${DEFAULT_MAX_STORED_VARIABLES} variables, got more (at byte ${at})`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { offset: at });
    }
    found.push(raw);
    at = raw.next;
  }
  const added = new Set(found.filter(({ state }) => state === VARIABLE_STATE_ADDED).map(({ key }) => key));
  const valid = found.filter(
    ({ state, key }) => state === VARIABLE_STATE_ADDED || (state === VARIABLE_STATE_BEING_REPLACED && !added.has(key)),
  );
  const usedBytes = valid.reduce((sum, { start, next }) => sum + next - start, 0);
  const variables = valid.map((raw) => decodeVariable(image, raw));
  return { variables, offset, sizeBytes: end - offset, freeBytes: Math.max(0, end - offset - usedBytes) };
}

/**
 * Writes variables into a store: all that were there are replaced by `variables`.
 *
 * @param template - A variable store, whose layout is kept; not modified.
 * @param variables - What the store is to hold, in this order. Names are unique for their GUID.
 * @returns A new image of the same size. Pending writes that firmware would finish at its next start are dropped.
 * @throws {UkiSignError} `UKI_SIGN_VARIABLE_STORE_FULL` when there is no room, `UKI_SIGN_BAD_OPTIONS` when two variables are the
 *   same, and what {@link decodeVariableStore} throws for the template.
 * @see EDK II `MdeModulePkg/Include/Guid/VariableFormat.h`
 * @example
 * const image = encodeVariableStore(template, [...decodeVariableStore(template).variables, variable]);
 */
export function encodeVariableStore(template: Uint8Array, variables: readonly StoredVariable[]): Uint8Array {
  const { offset, end } = locateStore(template);
  const image = copyBytes(template);
  image.fill(0xff, offset, end);
  const seen = new Set<string>();
  let at = offset;
  for (const variable of variables) {
    const key = `${variable.guid.toLowerCase()} ${variable.name}`;
    if (seen.has(key)) {
      const message = `expected each variable once, got ${variable.name} twice`;
      throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "variables" });
    }
    seen.add(key);
    const encoded = encodeVariable(variable);
    if (at + encoded.length > end) {
      const message = `expected variables of at most ${end - offset} bytes, got no room for ${variable.name} (${encoded.length} bytes)`;
      throw new UkiSignError("UKI_SIGN_VARIABLE_STORE_FULL", message);
    }
    image.set(encoded, at);
    at = alignUp(at + encoded.length);
  }
  eraseWriteQueue(image, end);
  return image;
}

function locateStore(image: Uint8Array): { offset: number; end: number } {
  if (image.length > DEFAULT_MAX_VARIABLE_STORE_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_VARIABLE_STORE_BYTES} bytes of variable store, got ${image.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  if (image.length < FV_HEADER_BYTES) throw badStore("expected a firmware volume header, got the end", image.length);
  const view = viewOf(image);
  const guid = decodeGuid(image.subarray(FV_GUID_OFFSET));
  if (view.getUint32(FV_SIGNATURE_OFFSET, true) !== FV_SIGNATURE || guid !== SYSTEM_NV_DATA_FV_GUID) {
    throw badStore(`expected a firmware volume of variables (${SYSTEM_NV_DATA_FV_GUID}), got ${guid}`, FV_GUID_OFFSET);
  }
  const volumeLength = view.getBigUint64(FV_LENGTH_OFFSET, true);
  if (volumeLength > BigInt(image.length)) {
    throw badStore(`expected a volume of ${volumeLength} bytes, got ${image.length}`, FV_LENGTH_OFFSET);
  }
  const start = view.getUint16(FV_HEADER_LENGTH_OFFSET, true);
  if (start < FV_HEADER_BYTES || start % 2 !== 0 || start + STORE_HEADER_BYTES > Number(volumeLength)) {
    throw badStore(`expected the volume's header to end inside of it, got ${start}`, FV_HEADER_LENGTH_OFFSET);
  }
  // PI volume 3, 3.2.1: the 16-bit words of the header add up to zero.
  let sum = 0;
  for (let at = 0; at < start; at += 2) sum = (sum + view.getUint16(at, true)) & 0xffff;
  if (sum !== 0) throw badStore("expected a volume header with the right checksum, got another one", 0);
  const type = decodeGuid(image.subarray(start));
  if (type !== AUTHENTICATED_VARIABLE_GUID) {
    const found = type === PLAIN_VARIABLE_GUID ? "one without authenticated variables" : type;
    throw badStore(`expected a store of authenticated variables (${AUTHENTICATED_VARIABLE_GUID}), got ${found}`, start);
  }
  const storeSize = view.getUint32(start + 16, true);
  if (storeSize < STORE_HEADER_BYTES || start + storeSize > Number(volumeLength)) {
    throw badStore(`expected the store to end inside the volume, got ${storeSize} bytes`, start + 16);
  }
  if (image[start + 20] !== STORE_FORMATTED || image[start + 21] !== STORE_HEALTHY) {
    throw badStore("expected a formatted and healthy store, got another state", start + 20);
  }
  return { offset: alignUp(start + STORE_HEADER_BYTES), end: start + storeSize };
}

interface RawVariable {
  /** offset of the header */
  readonly start: number;
  readonly state: number;
  readonly nameSize: number;
  readonly dataSize: number;
  /** GUID and name, to tell variables apart */
  readonly key: string;
  /** offset of the next header */
  readonly next: number;
}

function readVariable(image: Uint8Array, start: number, end: number): RawVariable | undefined {
  if (start + VARIABLE_HEADER_BYTES > end) return undefined;
  const view = viewOf(image);
  // Anything but the start mark ends the list; in a healthy store that is erased flash.
  if (view.getUint16(start, true) !== VARIABLE_START_ID) return undefined;
  const state = view.getUint8(start + 2);
  const [nameSize, dataSize] = [view.getUint32(start + 36, true), view.getUint32(start + 40, true)].map((size) =>
    // A header whose write was cut short has erased sizes, and takes no more than itself.
    size === 0xffffffff ? 0 : size,
  ) as [number, number];
  const next = alignUp(start + VARIABLE_HEADER_BYTES + nameSize + dataSize);
  if (start + VARIABLE_HEADER_BYTES + nameSize + dataSize > end) {
    throw badStore(`expected a variable inside the store, got name ${nameSize} and data ${dataSize} bytes`, start);
  }
  const nameStart = start + VARIABLE_HEADER_BYTES;
  const key = Buffer.from(image.subarray(start + 44, nameStart + nameSize)).toString("latin1");
  return { start, state, nameSize, dataSize, key, next };
}

function decodeVariable(image: Uint8Array, { start, nameSize, dataSize }: RawVariable): StoredVariable {
  const view = viewOf(image);
  const nameStart = start + VARIABLE_HEADER_BYTES;
  const units = Buffer.from(image.subarray(nameStart, nameStart + nameSize)).toString("utf16le");
  const name = units.slice(0, -1);
  if (nameSize < 4 || nameSize % 2 !== 0 || units.at(-1) !== "\0" || name.includes("\0")) {
    throw badStore("expected a variable name in UTF-16 with one NUL at its end", nameStart);
  }
  const timestamp = decodeEfiTime(image.subarray(start + 16));
  if (timestamp === "invalid") throw badStore(`expected a time in UTC for ${name}, got something else`, start + 16);
  return {
    name,
    guid: decodeGuid(image.subarray(start + 44)),
    attributes: view.getUint32(start + 4, true),
    ...(timestamp === undefined ? {} : { timestamp }),
    data: copyBytes(image, nameStart + nameSize, nameStart + nameSize + dataSize),
  };
}

function encodeVariable({ name, guid, attributes, timestamp, data }: StoredVariable): Uint8Array {
  if (name === "" || /[\p{Surrogate}\0]/u.test(name)) {
    const message = `expected a variable name without NUL, got ${JSON.stringify(name)}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "name" });
  }
  const nameBytes = Buffer.from(`${name}\0`, "utf16le");
  const encoded = new Uint8Array(VARIABLE_HEADER_BYTES + nameBytes.length + data.length);
  const view = viewOf(encoded);
  view.setUint16(0, VARIABLE_START_ID, true);
  encoded[2] = VARIABLE_STATE_ADDED;
  view.setUint32(4, attributes, true);
  encoded.set(encodeEfiTime(timestamp), 16);
  view.setUint32(36, nameBytes.length, true);
  view.setUint32(40, data.length, true);
  encoded.set(encodeGuid(guid), 44);
  encoded.set(nameBytes, VARIABLE_HEADER_BYTES);
  encoded.set(data, VARIABLE_HEADER_BYTES + nameBytes.length);
  return encoded;
}

/** Erases the queue of fault-tolerant writes behind the store: finishing one would bring the old variables back. */
function eraseWriteQueue(image: Uint8Array, storeEnd: number): void {
  const view = viewOf(image);
  for (
    let at = Math.ceil(storeEnd / FLASH_BLOCK_BYTES) * FLASH_BLOCK_BYTES;
    at + FTW_HEADER_BYTES <= image.length;
    at += FLASH_BLOCK_BYTES
  ) {
    if (decodeGuid(image.subarray(at)) !== FTW_WORKING_BLOCK_GUID) continue;
    const queueStart = at + FTW_HEADER_BYTES;
    const queueSize = Number(view.getBigUint64(at + 24, true));
    image.fill(0xff, queueStart, Math.min(queueStart + queueSize, image.length));
    return;
  }
}

function alignUp(offset: number): number {
  return Math.ceil(offset / VARIABLE_ALIGNMENT_BYTES) * VARIABLE_ALIGNMENT_BYTES;
}

function badStore(message: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_VARIABLE_STORE_INVALID", `${message} (at byte ${offset})`, { offset });
}
