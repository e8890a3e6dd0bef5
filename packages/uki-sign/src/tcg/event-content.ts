import { createHash } from "node:crypto";
import { decodeGuid } from "../efi/guid.ts";
import * as tcg from "../format/tcg.ts";
import { copyBytes, viewOf } from "../internal/bytes.ts";
import { PCR_BANKS } from "../pcr/register.ts";
import { renderDevicePath } from "./device-path.ts";
import type { TcgEvent } from "./event-log.ts";

/** What an event says about itself, by the form of its data. */
export type EventContent =
  /** UEFI_VARIABLE_DATA: a variable, or the entry of `db` that an image was accepted by */
  | { readonly kind: "variable"; readonly name: string; readonly guid: string; readonly data: Uint8Array }
  /** UEFI_IMAGE_LOAD_EVENT: a program, and where it was loaded from */
  | { readonly kind: "image"; readonly path: string; readonly sizeBytes: bigint }
  /** four bytes between what firmware does and what it starts; anything but 0 and 0xffffffff stands for an error */
  | { readonly kind: "separator"; readonly value: number }
  /** TCG_PCClientTaggedEvent */
  | { readonly kind: "tagged"; readonly tag: number; readonly data: Uint8Array }
  /** part of the firmware: UEFI_PLATFORM_FIRMWARE_BLOB */
  | { readonly kind: "blob"; readonly description: string; readonly address: bigint; readonly sizeBytes: bigint }
  /** UEFI_GPT_DATA: the disk that was booted from */
  | { readonly kind: "gpt"; readonly diskGuid: string; readonly partitions: bigint }
  /** anything that reads as text */
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "bytes" };

/** Types whose digest is that of their data, as the profile has it. */
const DIGEST_OF_DATA: ReadonlySet<number> = new Set([
  tcg.EV_SEPARATOR,
  tcg.EV_ACTION,
  tcg.EV_EFI_ACTION,
  tcg.EV_S_CRTM_VERSION,
  tcg.EV_EFI_GPT_EVENT,
  tcg.EV_EFI_VARIABLE_DRIVER_CONFIG,
  tcg.EV_EFI_VARIABLE_AUTHORITY,
  tcg.EV_EFI_VARIABLE_BOOT2,
]);
const VARIABLE_TYPES: ReadonlySet<number> = new Set([
  tcg.EV_EFI_VARIABLE_DRIVER_CONFIG,
  tcg.EV_EFI_VARIABLE_BOOT,
  tcg.EV_EFI_VARIABLE_BOOT2,
  tcg.EV_EFI_VARIABLE_AUTHORITY,
]);
const IMAGE_TYPES: ReadonlySet<number> = new Set([
  tcg.EV_EFI_BOOT_SERVICES_APPLICATION,
  tcg.EV_EFI_BOOT_SERVICES_DRIVER,
  tcg.EV_EFI_RUNTIME_SERVICES_DRIVER,
]);

/**
 * Decodes what an event says about itself.
 *
 * @param event - An event of a log.
 * @returns The content by kind; `bytes` when the data has not the form of the event's type, because firmware is free to
 *   write what it likes. Byte arrays are copies.
 * @see TCG PC Client Platform Firmware Profile 1.06 section 10.4
 * @example
 * for (const event of log.events) {
 *   const content = decodeEventContent(event);
 *   if (content.kind === "image") console.log(event.pcr, content.path);
 * }
 */
export function decodeEventContent(event: TcgEvent): EventContent {
  const { type, data } = event;
  if (VARIABLE_TYPES.has(type)) return decodeVariable(data) ?? { kind: "bytes" };
  if (IMAGE_TYPES.has(type)) return decodeImage(data) ?? { kind: "bytes" };
  switch (type) {
    case tcg.EV_SEPARATOR:
      return data.length === 4 ? { kind: "separator", value: viewOf(data).getUint32(0, true) } : { kind: "bytes" };
    case tcg.EV_EVENT_TAG:
      return decodeTagged(data) ?? { kind: "bytes" };
    case tcg.EV_EFI_GPT_EVENT:
    case tcg.EV_EFI_GPT_EVENT2:
      return decodeGpt(data) ?? { kind: "bytes" };
    case tcg.EV_POST_CODE:
    case tcg.EV_EFI_PLATFORM_FIRMWARE_BLOB:
      return decodeBlob(data) ?? decodeText(data);
    case tcg.EV_POST_CODE2:
    case tcg.EV_EFI_PLATFORM_FIRMWARE_BLOB2:
      return decodeBlob2(data) ?? decodeText(data);
    default:
      return decodeText(data);
  }
}

/**
 * Whether an event's data is what its digests were made of, so that it can be believed when the replayed register is.
 *
 * @param event - An event of a log.
 * @returns True when every known digest is that of the data; false when it is not although the event's type says so;
 *   undefined for types that measure something else than they say, such as images and kernel sections.
 * @example
 * const lies = log.events.filter((event) => isContentMeasured(event) === false);
 */
export function isContentMeasured(event: TcgEvent): boolean | undefined {
  if (event.type === tcg.EV_NO_ACTION) return undefined;
  if (hasDigestOf(event, event.data)) return true;
  if (event.type === tcg.EV_EFI_VARIABLE_BOOT) {
    // Older firmware measures the value alone.
    const variable = decodeVariable(event.data);
    return variable !== undefined && hasDigestOf(event, variable.data);
  }
  return DIGEST_OF_DATA.has(event.type) ? false : undefined;
}

/**
 * One line about an event, for people.
 *
 * @param event - An event of a log.
 * @returns Text from the log among it, with whatever characters firmware wrote: escape it before it goes to a terminal.
 * @example
 * console.log(describeEvent(event)); // \EFI\BOOT\BOOTX64.EFI
 */
export function describeEvent(event: TcgEvent): string {
  const content = decodeEventContent(event);
  switch (content.kind) {
    case "variable":
      return `${content.name === "" ? content.guid : content.name}, ${content.data.length} bytes`;
    case "image":
      return content.path === "" ? `image of ${content.sizeBytes} bytes` : content.path;
    case "separator":
      return content.value === 0 || content.value === 0xffff_ffff ? "separator" : "separator after an error";
    case "tagged": {
      const text = decodeText(content.data);
      const tag = `tag 0x${content.tag.toString(16)}`;
      return text.kind === "text" ? `${tag}: ${text.text}` : `${tag}, ${content.data.length} bytes`;
    }
    case "blob":
      return `${content.description || "firmware"}, ${content.sizeBytes} bytes at 0x${content.address.toString(16)}`;
    case "gpt":
      return `disk ${content.diskGuid}, ${content.partitions} partitions`;
    case "text":
      return content.text;
    case "bytes":
      return `${event.data.length} bytes`;
  }
}

function hasDigestOf({ digests }: TcgEvent, data: Uint8Array): boolean {
  const known = PCR_BANKS.filter((bank) => digests[bank] !== undefined);
  return (
    known.length > 0 &&
    known.every((bank) =>
      createHash(bank)
        .update(data)
        .digest()
        .equals(digests[bank] ?? data),
    )
  );
}

function decodeVariable(data: Uint8Array): Extract<EventContent, { kind: "variable" }> | undefined {
  if (data.length < tcg.VARIABLE_EVENT_HEADER_BYTES) return undefined;
  const view = viewOf(data);
  const characters = view.getBigUint64(16, true);
  const size = view.getBigUint64(24, true);
  const rest = BigInt(data.length - tcg.VARIABLE_EVENT_HEADER_BYTES);
  if (characters > rest || characters * 2n + size !== rest) return undefined;
  const end = tcg.VARIABLE_EVENT_HEADER_BYTES + Number(characters) * 2;
  const name = Buffer.from(data.subarray(tcg.VARIABLE_EVENT_HEADER_BYTES, end)).toString("utf16le");
  return { kind: "variable", name, guid: decodeGuid(data), data: copyBytes(data, end) };
}

function decodeImage(data: Uint8Array): EventContent | undefined {
  if (data.length < tcg.IMAGE_LOAD_EVENT_HEADER_BYTES) return undefined;
  const view = viewOf(data);
  const pathSize = view.getBigUint64(24, true);
  if (pathSize > BigInt(data.length - tcg.IMAGE_LOAD_EVENT_HEADER_BYTES)) return undefined;
  const start = tcg.IMAGE_LOAD_EVENT_HEADER_BYTES;
  const path = renderDevicePath(data.subarray(start, start + Number(pathSize)));
  return { kind: "image", path, sizeBytes: view.getBigUint64(8, true) };
}

function decodeTagged(data: Uint8Array): EventContent | undefined {
  if (data.length < tcg.TAGGED_EVENT_HEADER_BYTES) return undefined;
  const view = viewOf(data);
  if (view.getUint32(4, true) !== data.length - tcg.TAGGED_EVENT_HEADER_BYTES) return undefined;
  return { kind: "tagged", tag: view.getUint32(0, true), data: copyBytes(data, tcg.TAGGED_EVENT_HEADER_BYTES) };
}

function decodeBlob(data: Uint8Array): EventContent | undefined {
  if (data.length !== 16) return undefined;
  const view = viewOf(data);
  return { kind: "blob", description: "", address: view.getBigUint64(0, true), sizeBytes: view.getBigUint64(8, true) };
}

function decodeBlob2(data: Uint8Array): EventContent | undefined {
  const nameSize = data[0] ?? 0;
  if (data.length !== 1 + nameSize + 16) return undefined;
  const view = viewOf(data);
  const description = Buffer.from(data.subarray(1, 1 + nameSize))
    .toString("latin1")
    .replace(/\0+$/, "");
  const at = 1 + nameSize;
  return {
    kind: "blob",
    description,
    address: view.getBigUint64(at, true),
    sizeBytes: view.getBigUint64(at + 8, true),
  };
}

/** EFI_PARTITION_TABLE_HEADER with DiskGUID at 56, then NumberOfPartitions (u64). */
function decodeGpt(data: Uint8Array): EventContent | undefined {
  if (data.length < 100) return undefined;
  return { kind: "gpt", diskGuid: decodeGuid(data.subarray(56)), partitions: viewOf(data).getBigUint64(92, true) };
}

function decodeText(data: Uint8Array): EventContent {
  const text = decodeUtf16(data) ?? decodeUtf8(data);
  return text === undefined || text === "" ? { kind: "bytes" } : { kind: "text", text };
}

/** UTF-16 text of characters below 256, as stubs and loaders write names and command lines. */
function decodeUtf16(data: Uint8Array): string | undefined {
  if (data.length < 4 || data.length % 2 !== 0) return undefined;
  if (data.some((octet, index) => index % 2 === 1 && octet !== 0)) return undefined;
  return readable(Buffer.from(data).toString("utf16le"));
}

function decodeUtf8(data: Uint8Array): string | undefined {
  try {
    return readable(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    return undefined;
  }
}

function readable(text: string): string | undefined {
  const body = text.replace(/\0+$/, "");
  return /[^\P{C}\n\t]/u.test(body) ? undefined : body;
}
