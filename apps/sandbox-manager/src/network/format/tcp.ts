// Transmission Control Protocol, RFC 9293, section 3.1; window scale, RFC 7323, section 2.2.
import { PROTOCOL } from "./ipv4.ts";
import { checksum, malformed, pseudoHeaderSum, viewOf } from "./packet.ts";

/** Bits of the control field. */
export const TCP_FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

/** Bytes of a header without options. */
export const TCP_HEADER_BYTES = 20;
const OPTION = { end: 0, none: 1, maxSegment: 2, windowScale: 3 } as const;
/** Largest shift of a window that counts. @see RFC 7323, section 2.3 */
const MAX_WINDOW_SHIFT = 14;

/** A TCP segment. */
export interface TcpSegment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** sequence number */
  readonly sequence: number;
  /** acknowledgment number; means something with {@link TCP_FLAG}`.ack` only */
  readonly acknowledgment: number;
  readonly flags: number;
  /** as it is in the header, not shifted */
  readonly window: number;
  /** largest segment that the sender takes, in `bytes`; only with a SYN */
  readonly maxSegmentBytes?: number | undefined;
  /** how far the sender's windows are to be shifted; only with a SYN */
  readonly windowShift?: number | undefined;
  /** aliases the packet */
  readonly payload: Uint8Array;
}

/** Decodes a segment of a packet between two addresses. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`. */
export function decodeTcp(bytes: Uint8Array, source: number, destination: number): TcpSegment {
  const view = viewOf(bytes, "a TCP segment", TCP_HEADER_BYTES);
  const headerBytes = (view.getUint8(12) >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > bytes.length) {
    throw malformed("a TCP header that fits its packet", headerBytes);
  }
  if (checksum(bytes, pseudoHeaderSum(source, destination, PROTOCOL.tcp, bytes.length)) !== 0) {
    throw malformed("a right checksum of TCP", "a wrong one");
  }
  const flags = view.getUint8(13) & 0x3f;
  const isSyn = (flags & TCP_FLAG.syn) !== 0;
  return {
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    sequence: view.getUint32(4),
    acknowledgment: view.getUint32(8),
    flags,
    window: view.getUint16(14),
    ...(isSyn ? decodeOptions(bytes.subarray(TCP_HEADER_BYTES, headerBytes)) : {}),
    payload: bytes.subarray(headerBytes),
  };
}

/** The two options that are used here; others are passed over by their length. */
function decodeOptions(bytes: Uint8Array): Pick<TcpSegment, "maxSegmentBytes" | "windowShift"> {
  let maxSegmentBytes: number | undefined;
  let windowShift: number | undefined;
  for (let at = 0; at < bytes.length; ) {
    const kind = bytes[at];
    if (kind === OPTION.end) break;
    if (kind === OPTION.none) {
      at += 1;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > bytes.length) throw malformed("a TCP option that fits its header", length);
    if (kind === OPTION.maxSegment && length === 4) {
      maxSegmentBytes = ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
    } else if (kind === OPTION.windowScale && length === 3) {
      windowShift = Math.min(bytes[at + 2] ?? 0, MAX_WINDOW_SHIFT);
    }
    at += length;
  }
  return { maxSegmentBytes, windowShift };
}

/** Encodes a segment for a packet between two addresses. */
export function encodeTcp(segment: TcpSegment, source: number, destination: number): Uint8Array {
  const options = encodeOptions(segment);
  const headerBytes = TCP_HEADER_BYTES + options.length;
  const bytes = new Uint8Array(headerBytes + segment.payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, segment.sourcePort);
  view.setUint16(2, segment.destinationPort);
  view.setUint32(4, segment.sequence);
  view.setUint32(8, segment.acknowledgment);
  view.setUint8(12, (headerBytes / 4) << 4);
  view.setUint8(13, segment.flags);
  view.setUint16(14, segment.window);
  bytes.set(options, TCP_HEADER_BYTES);
  bytes.set(segment.payload, headerBytes);
  view.setUint16(16, checksum(bytes, pseudoHeaderSum(source, destination, PROTOCOL.tcp, bytes.length)));
  return bytes;
}

function encodeOptions({ maxSegmentBytes, windowShift }: TcpSegment): number[] {
  const options: number[] = [];
  if (maxSegmentBytes !== undefined) options.push(OPTION.maxSegment, 4, maxSegmentBytes >>> 8, maxSegmentBytes & 0xff);
  if (windowShift !== undefined) options.push(OPTION.none, OPTION.windowScale, 3, windowShift);
  return options;
}
