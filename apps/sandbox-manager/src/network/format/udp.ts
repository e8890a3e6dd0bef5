// User Datagram Protocol, RFC 768.
import { PROTOCOL } from "./ipv4.ts";
import { checksum, malformed, pseudoHeaderSum, viewOf } from "./packet.ts";

const HEADER_BYTES = 8;

/** A UDP datagram. */
export interface UdpDatagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** aliases the datagram */
  readonly payload: Uint8Array;
}

/** Decodes a datagram of a packet between two addresses. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`. */
export function decodeUdp(bytes: Uint8Array, source: number, destination: number): UdpDatagram {
  const view = viewOf(bytes, "a UDP datagram", HEADER_BYTES);
  const length = view.getUint16(4);
  if (length < HEADER_BYTES || length > bytes.length) throw malformed("a UDP length that fits its packet", length);
  const datagram = bytes.subarray(0, length);
  // Zero says that there is none.
  const isSummed = view.getUint16(6) !== 0;
  if (isSummed && checksum(datagram, pseudoHeaderSum(source, destination, PROTOCOL.udp, length)) !== 0) {
    throw malformed("a right checksum of UDP", "a wrong one");
  }
  return {
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    payload: datagram.subarray(HEADER_BYTES),
  };
}

/** Encodes a datagram for a packet between two addresses. */
export function encodeUdp(
  { sourcePort, destinationPort, payload }: UdpDatagram,
  source: number,
  destination: number,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint16(4, bytes.length);
  bytes.set(payload, HEADER_BYTES);
  const sum = checksum(bytes, pseudoHeaderSum(source, destination, PROTOCOL.udp, bytes.length));
  view.setUint16(6, sum === 0 ? 0xffff : sum);
  return bytes;
}
