import { createHash } from "node:crypto";
import * as z from "zod";
import { decodeGuid, encodeGuid, isGuid } from "../efi/guid.ts";
import { UkiSignError } from "../errors.ts";
import * as hwids from "../format/hwids.ts";
import { concat, viewOf } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";

/** Most characters of one description of a machine. */
export const DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES = 1 << 20;

/** A field of a machine's SMBIOS tables that hardware identifiers are made of. */
export type HardwareField = (typeof hwids.HARDWARE_IDS)[number][number];

const FIELDS: readonly HardwareField[] = [...new Set(hwids.HARDWARE_IDS.flat())];
const fieldsSchema = z.strictObject(Object.fromEntries(FIELDS.map((field) => [field, z.string().optional()])));

/** A hardware identifier of a machine. */
export interface HardwareId {
  /** which one: 0 to 14 of Microsoft's list, the lower the more specific */
  readonly index: number;
  /** the identifier (CHID), lower case */
  readonly chid: string;
  /** what it is made of */
  readonly fields: readonly HardwareField[];
}

/**
 * Computes the hardware identifiers (CHIDs) of a machine, as Windows, fwupd and systemd-stub do.
 *
 * @param fields - SMBIOS texts as `dmidecode` shows them; `biosMajor` and `biosMinor` are two hexadecimal digits,
 *   `enclosureKind` is one number in hexadecimal.
 * @returns Those identifiers whose fields are all there, most specific first.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for a field that does not exist.
 * @see Microsoft "Specifying Hardware IDs for a Computer"
 * @example
 * const [best] = hardwareIds({ manufacturer: "LENOVO", family: "ThinkPad T440s", productName: "20ARS19C0C" });
 */
export function hardwareIds(fields: Readonly<Partial<Record<HardwareField, string>>>): HardwareId[] {
  const known: Readonly<Record<string, string | undefined>> = parseOptions(fieldsSchema, fields);
  return hwids.HARDWARE_IDS.flatMap((names, index) => {
    const values = names.map((name) => known[name]);
    return values.includes(undefined) ? [] : [{ index, chid: chidOf(values.join("&")), fields: names }];
  });
}

/** RFC 9562 section 5.5. */
function chidOf(text: string): string {
  const namespace = Buffer.from(hwids.CHID_NAMESPACE.replaceAll("-", ""), "hex");
  const digest = createHash("sha1").update(namespace).update(Buffer.from(text, "utf16le")).digest().subarray(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  return digest.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const textSchema = z
  .string()
  .min(1)
  .refine((value) => !value.includes("\0"), "expected text without NUL");
const chidSchema = z.string().refine(isGuid, "expected a GUID");
const deviceSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("devicetree"),
    name: textSchema,
    compatible: textSchema,
    hwids: z.array(chidSchema).min(1),
  }),
  z.object({ type: z.literal("uefi-fw"), name: textSchema, fwid: textSchema, hwids: z.array(chidSchema).min(1) }),
]);

/** A machine, and what fits it: a device tree by its first `compatible`, or a firmware by its identifier. */
export type HardwareDescription =
  | {
      readonly type: "devicetree";
      readonly name: string;
      readonly compatible: string;
      readonly hwids: readonly string[];
    }
  | { readonly type: "uefi-fw"; readonly name: string; readonly fwid: string; readonly hwids: readonly string[] };

/**
 * Parses a description of a machine as `ukify` takes it: JSON with `name`, `compatible` (or `fwid`) and `hwids`.
 *
 * @param text - JSON; `type` is `devicetree` when absent, other keys are ignored.
 * @returns The description, with identifiers in lower case.
 * @throws {UkiSignError} `UKI_SIGN_HWIDS_INVALID` naming what is wrong, `UKI_SIGN_TOO_LARGE` beyond
 *   {@link DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES}.
 * @see systemd 257 ukify(1), `--hwids=`
 * @example
 * const hwids = [parseHardwareDescription(await readFile("t14s.json", "utf8"))];
 */
export function parseHardwareDescription(text: string): HardwareDescription {
  if (text.length > DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES} characters, got ${text.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_HWIDS_INVALID", "expected a description of a machine in JSON, got other text", {
      cause,
    });
  }
  const typed = typeof document === "object" && document !== null ? { type: "devicetree", ...document } : document;
  const parsed = deviceSchema.safeParse(typed);
  if (parsed.success) return { ...parsed.data, hwids: parsed.data.hwids.map((chid) => chid.toLowerCase()) };
  const message = `expected a description of a machine, got: ${z.prettifyError(parsed.error)}`;
  throw new UkiSignError("UKI_SIGN_HWIDS_INVALID", message, { cause: parsed.error });
}

/**
 * Encodes the `.hwids` section, by which systemd-stub finds the device tree or firmware that fits the machine.
 *
 * @param descriptions - Machines in any order; those of the same name and match are merged.
 * @returns The section's content, as `ukify` packs it.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for descriptions that do not fit.
 * @see systemd 257 `src/boot/chid.h`
 * @example
 * const section = encodeHardwareIds([{ type: "devicetree", name: "T14s", compatible: "lenovo,t14s", hwids: [chid] }]);
 */
export function encodeHardwareIds(descriptions: readonly HardwareDescription[]): Uint8Array {
  const devices = new Map<string, { device: HardwareDescription; chids: Set<string> }>();
  for (const device of parseOptions(z.array(deviceSchema).min(1), descriptions)) {
    const key = JSON.stringify([device.type, device.name, matchOf(device)]);
    const entry = devices.get(key) ?? { device, chids: new Set() };
    for (const chid of device.hwids) entry.chids.add(chid.toLowerCase());
    devices.set(key, entry);
  }
  const entries = [...devices.values()].flatMap(({ device, chids }) =>
    [...chids].sort().map((chid) => ({ device, chid })),
  );
  // A device of zeros ends the list, and the texts follow it.
  const listBytes = (entries.length + 1) * hwids.DEVICE_BYTES;
  const texts = [...new Set(entries.flatMap(({ device }) => [device.name, matchOf(device)]))].sort(byCodePoint);
  const offsets = new Map<string, number>();
  const blobs: Uint8Array[] = [];
  let end = listBytes;
  for (const text of texts) {
    const blob = new TextEncoder().encode(`${text}\0`);
    offsets.set(text, end);
    blobs.push(blob);
    end += blob.length;
  }
  const list = new Uint8Array(listBytes);
  const view = viewOf(list);
  for (const [index, { device, chid }] of entries.entries()) {
    const at = index * hwids.DEVICE_BYTES;
    const type = hwids.DEVICE_TYPES[device.type];
    view.setUint32(at, ((type << hwids.DEVICE_TYPE_SHIFT) | hwids.DEVICE_BYTES) >>> 0, true);
    list.set(encodeGuid(chid), at + hwids.DEVICE_CHID);
    view.setUint32(at + hwids.DEVICE_NAME, offsets.get(device.name) ?? 0, true);
    view.setUint32(at + hwids.DEVICE_MATCH, offsets.get(matchOf(device)) ?? 0, true);
  }
  return concat(list, ...blobs);
}

/**
 * Decodes a `.hwids` section.
 *
 * @param section - The section's content; not modified.
 * @returns Machines in order, one identifier after the other gathered under their name and match.
 * @throws {UkiSignError} `UKI_SIGN_HWIDS_INVALID` with the offset when the list does not end, a text lies outside or is not
 *   UTF-8, or a device is of an unknown type.
 */
export function decodeHardwareIds(section: Uint8Array): HardwareDescription[] {
  const view = viewOf(section);
  const devices = new Map<string, HardwareDescription>();
  for (let at = 0; ; at += hwids.DEVICE_BYTES) {
    if (at + 4 > section.length) throw invalid("a device of zeros at the end of the list, got the end", at);
    const descriptor = view.getUint32(at, true);
    if (descriptor === 0) return [...devices.values()];
    const type = descriptor >>> hwids.DEVICE_TYPE_SHIFT;
    const size = descriptor & ((1 << hwids.DEVICE_TYPE_SHIFT) - 1);
    if (size !== hwids.DEVICE_BYTES || (type !== 1 && type !== 2)) {
      throw invalid(`a device of ${hwids.DEVICE_BYTES} bytes and type 1 or 2, got ${size} bytes and type ${type}`, at);
    }
    if (at + size > section.length) throw invalid(`a device of ${size} bytes, got ${section.length - at}`, at);
    const chid = decodeGuid(section.subarray(at + hwids.DEVICE_CHID, at + hwids.DEVICE_CHID + 16));
    const name = readText(section, view.getUint32(at + hwids.DEVICE_NAME, true));
    const match = readText(section, view.getUint32(at + hwids.DEVICE_MATCH, true));
    const key = JSON.stringify([type, name, match]);
    const chids = [...(devices.get(key)?.hwids ?? []), chid];
    devices.set(
      key,
      type === 1
        ? { type: "devicetree", name, compatible: match, hwids: chids }
        : { type: "uefi-fw", name, fwid: match, hwids: chids },
    );
  }
}

function readText(section: Uint8Array, offset: number): string {
  const end = section.indexOf(0, offset);
  if (offset >= section.length || end < 0) throw invalid("a text that ends with a NUL", offset);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(section.subarray(offset, end));
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_HWIDS_INVALID", `expected UTF-8 text (at byte ${offset})`, { offset, cause });
  }
}

function matchOf(device: HardwareDescription): string {
  return device.type === "devicetree" ? device.compatible : device.fwid;
}

function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function invalid(expectation: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_HWIDS_INVALID", `expected ${expectation} (at byte ${offset})`, { offset });
}
