// Ethernet II, IEEE 802.3-2022, clause 3.2.6 (type/length); ARP, RFC 826.
import { malformed, viewOf } from "./packet.ts";

/** What is in a frame. */
export const ETHER_TYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;

/** Bytes before what is in a frame. */
export const ETHERNET_HEADER_BYTES = 14;
const MAC_BYTES = 6;

/** An Ethernet frame. */
export interface EthernetFrame {
  /** six bytes */
  readonly destination: Uint8Array;
  /** six bytes */
  readonly source: Uint8Array;
  readonly type: number;
  /** aliases the frame */
  readonly payload: Uint8Array;
}

/** Decodes a frame without its check sum. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`. */
export function decodeEthernet(bytes: Uint8Array): EthernetFrame {
  const view = viewOf(bytes, "an Ethernet frame", ETHERNET_HEADER_BYTES);
  return {
    destination: bytes.subarray(0, MAC_BYTES),
    source: bytes.subarray(MAC_BYTES, 2 * MAC_BYTES),
    type: view.getUint16(2 * MAC_BYTES),
    payload: bytes.subarray(ETHERNET_HEADER_BYTES),
  };
}

/** Encodes a frame. */
export function encodeEthernet({ destination, source, type, payload }: EthernetFrame): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER_BYTES + payload.length);
  frame.set(destination);
  frame.set(source, MAC_BYTES);
  new DataView(frame.buffer).setUint16(2 * MAC_BYTES, type);
  frame.set(payload, ETHERNET_HEADER_BYTES);
  return frame;
}

const ARP_BYTES = 28;
/** Ethernet, IPv4, and the sizes of their addresses. */
const ARP_HEAD = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST = 1;
const ARP_REPLY = 2;

/** Somebody asks who has an address. */
export interface ArpRequest {
  readonly senderMac: Uint8Array;
  readonly senderAddress: number;
  readonly targetAddress: number;
}

/** Decodes a question. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED` for all else, answers included. */
export function decodeArpRequest(bytes: Uint8Array): ArpRequest {
  const view = viewOf(bytes, "an ARP message", ARP_BYTES);
  if (ARP_HEAD.some((byte, at) => bytes[at] !== byte)) throw malformed("ARP of IPv4 over Ethernet", "another");
  const operation = view.getUint16(6);
  if (operation !== ARP_REQUEST) throw malformed("an ARP request", operation);
  return { senderMac: bytes.slice(8, 14), senderAddress: view.getUint32(14), targetAddress: view.getUint32(24) };
}

/** Encodes the answer to a question: the address is at `mac`. */
export function encodeArpReply({ senderMac, senderAddress, targetAddress }: ArpRequest, mac: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(ARP_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(ARP_HEAD);
  view.setUint16(6, ARP_REPLY);
  bytes.set(mac, 8);
  view.setUint32(14, targetAddress);
  bytes.set(senderMac, 18);
  view.setUint32(24, senderAddress);
  return bytes;
}
