// Internet Protocol, RFC 791, section 3.1; ICMP, RFC 792.
import { checksum, malformed, viewOf } from "./packet.ts";

/** What is in a packet. */
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17 } as const;

/** Bytes of a header without options. */
export const IPV4_HEADER_BYTES = 20;
const VERSION_AND_LENGTH = 0x45;
const DONT_FRAGMENT = 0x4000;
/** more fragments, and where this one belongs */
const FRAGMENT = 0x3fff;
const TIME_TO_LIVE = 64;

/** An IPv4 packet that is whole; its options are passed over. */
export interface Ipv4Packet {
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  /** aliases the packet */
  readonly payload: Uint8Array;
}

/**
 * Decodes a packet, behind which a frame may have padding.
 *
 * @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`, also for a fragment: nothing here puts them together.
 */
export function decodeIpv4(bytes: Uint8Array): Ipv4Packet {
  const view = viewOf(bytes, "an IPv4 packet", IPV4_HEADER_BYTES);
  const version = view.getUint8(0) >>> 4;
  if (version !== 4) throw malformed("IP version 4", version);
  const headerBytes = (view.getUint8(0) & 0xf) * 4;
  const length = view.getUint16(2);
  if (headerBytes < IPV4_HEADER_BYTES || headerBytes > length || length > bytes.length) {
    throw malformed("an IPv4 header and length that fit its packet", `${headerBytes} and ${length}`);
  }
  if (checksum(bytes.subarray(0, headerBytes)) !== 0) throw malformed("a right checksum of IPv4", "a wrong one");
  if ((view.getUint16(6) & FRAGMENT) !== 0) throw malformed("a whole IPv4 packet", "a fragment");
  return {
    source: view.getUint32(12),
    destination: view.getUint32(16),
    protocol: view.getUint8(9),
    payload: bytes.subarray(headerBytes, length),
  };
}

/** Encodes a packet. */
export function encodeIpv4({ source, destination, protocol, payload }: Ipv4Packet): Uint8Array {
  const bytes = new Uint8Array(IPV4_HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VERSION_AND_LENGTH);
  view.setUint16(2, bytes.length);
  view.setUint16(6, DONT_FRAGMENT);
  view.setUint8(8, TIME_TO_LIVE);
  view.setUint8(9, protocol);
  view.setUint32(12, source);
  view.setUint32(16, destination);
  view.setUint16(10, checksum(bytes.subarray(0, IPV4_HEADER_BYTES)));
  bytes.set(payload, IPV4_HEADER_BYTES);
  return bytes;
}

const ICMP_HEADER_BYTES = 8;
const ECHO_REPLY = 0;
const UNREACHABLE = 3;
const ECHO = 8;
/** @see RFC 1812, section 5.2.7.1 */
const ADMINISTRATIVELY_PROHIBITED = 13;
/** What is quoted of a packet that is refused: its header, and what names the ports. */
const QUOTED_BYTES = 8;

/** Encodes the answer to an ICMP echo. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED` for what is none. */
export function encodeEchoReply(request: Uint8Array): Uint8Array {
  const view = viewOf(request, "an ICMP message", ICMP_HEADER_BYTES);
  if (view.getUint8(0) !== ECHO || checksum(request) !== 0) throw malformed("an ICMP echo", view.getUint8(0));
  const reply = request.slice();
  return sealed(reply, ECHO_REPLY, 0);
}

/** Encodes that a packet is refused, so that who has sent it need not wait. */
export function encodeProhibited(packet: Uint8Array): Uint8Array {
  const quoted = packet.subarray(0, IPV4_HEADER_BYTES + QUOTED_BYTES);
  const bytes = new Uint8Array(ICMP_HEADER_BYTES + quoted.length);
  bytes.set(quoted, ICMP_HEADER_BYTES);
  return sealed(bytes, UNREACHABLE, ADMINISTRATIVELY_PROHIBITED);
}

function sealed(bytes: Uint8Array, type: number, code: number): Uint8Array {
  const view = new DataView(bytes.buffer);
  view.setUint8(0, type);
  view.setUint8(1, code);
  view.setUint16(2, 0);
  view.setUint16(2, checksum(bytes));
  return bytes;
}
