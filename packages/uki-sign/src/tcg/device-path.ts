import { decodeGuid } from "../efi/guid.ts";
import * as tcg from "../format/tcg.ts";
import { viewOf } from "../internal/bytes.ts";

/**
 * What an EFI device path says about where a file is, in the text form of UEFI where this package knows a node:
 * `HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI`. Nodes of hardware before the last disk or volume are left out; other unknown ones
 * become `Path(type,subtype)`. Damaged paths end where the damage starts.
 */
export function renderDevicePath(path: Uint8Array): string {
  const view = viewOf(path);
  const nodes: string[] = [];
  for (let at = 0; at + tcg.DEVICE_PATH_HEADER_BYTES <= path.length; ) {
    const [type = 0, subtype = 0] = path.subarray(at, at + 2);
    const size = view.getUint16(at + 2, true);
    if (type === tcg.DEVICE_PATH_END || size < tcg.DEVICE_PATH_HEADER_BYTES || at + size > path.length) break;
    const text = renderNode(type, subtype, path.subarray(at, at + size));
    if (startsStorage(type, subtype)) nodes.length = 0;
    nodes.push(text);
    at += size;
  }
  return nodes.join("/");
}

function startsStorage(type: number, subtype: number): boolean {
  return type === tcg.DEVICE_PATH_MEDIA && (subtype === tcg.MEDIA_HARD_DRIVE || subtype === tcg.MEDIA_FIRMWARE_VOLUME);
}

function renderNode(type: number, subtype: number, node: Uint8Array): string {
  const data = node.subarray(tcg.DEVICE_PATH_HEADER_BYTES);
  if (type === tcg.DEVICE_PATH_MEDIA) {
    if (subtype === tcg.MEDIA_FILE_PATH) {
      return Buffer.from(data.subarray(0, data.length & ~1))
        .toString("utf16le")
        .replace(/\0.*$/s, "");
    }
    if (subtype === tcg.MEDIA_HARD_DRIVE && node.length === tcg.HARD_DRIVE_NODE_BYTES && node[41] === 2) {
      return `HD(${viewOf(node).getUint32(4, true)},GPT,${decodeGuid(node.subarray(24))})`;
    }
    if (subtype === tcg.MEDIA_FIRMWARE_FILE && data.length === 16) return `FvFile(${decodeGuid(data)})`;
    if (subtype === tcg.MEDIA_FIRMWARE_VOLUME && data.length === 16) return `Fv(${decodeGuid(data)})`;
  }
  return `Path(${type},${subtype})`;
}
