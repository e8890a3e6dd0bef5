import { SandboxError } from "../errors.ts";
import {
  decodeArpRequest,
  decodeEthernet,
  ETHER_TYPE,
  ETHERNET_HEADER_BYTES,
  encodeArpReply,
  encodeEthernet,
} from "./format/ethernet.ts";
import {
  decodeIpv4,
  encodeEchoReply,
  encodeIpv4,
  encodeProhibited,
  IPV4_HEADER_BYTES,
  type Ipv4Packet,
  PROTOCOL,
} from "./format/ipv4.ts";
import { ipv4Number, malformed } from "./format/packet.ts";
import { decodeTcp, encodeTcp, TCP_FLAG, TCP_HEADER_BYTES, type TcpSegment } from "./format/tcp.ts";
import { decodeUdp, encodeUdp } from "./format/udp.ts";
import { type TcpLink, type TcpReply, TcpStream } from "./tcp-stream.ts";

/** The only two who are on a sandbox's network. @see RFC 2544, appendix C.2.2, for what 198.18.0.0/15 is set apart for */
export const GATEWAY_ADDRESS = "198.18.0.1";
export const GUEST_ADDRESS = "198.18.0.2";
export const GATEWAY_MAC = "52:54:00:12:00:01";
export const GUEST_MAC = "52:54:00:12:00:02";
/** Largest packet on it, in `bytes`: each costs an emulated guest much, whatever its size. */
export const NETWORK_MTU = 32_768;

/** Most connections of a guest at a time. */
const MAX_CONNECTIONS = 256;
/** Most of them that the guest has begun and not yet confirmed. */
const MAX_HALF_OPEN = 64;
const DNS_PORT = 53;

const GATEWAY = ipv4Number(GATEWAY_ADDRESS);
const GUEST = ipv4Number(GUEST_ADDRESS);
const [SOURCE_MAC, DESTINATION_MAC] = [GATEWAY_MAC, GUEST_MAC].map((mac) =>
  Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16)),
) as [Uint8Array, Uint8Array];

/** What a stack asks, and who it tells. */
export interface StackHandlers {
  /** Passes a frame on. @returns Whether more may follow; {@link Stack.proceed} is called when it may. */
  readonly send: (frame: Uint8Array) => boolean;
  /** Answers a DNS query. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`. */
  readonly answer: (query: Uint8Array) => Uint8Array;
  /** Whether a connection may begin; it is reset at once otherwise. */
  readonly accepts: (address: number, port: number) => boolean;
  /** Takes a connection that has begun. */
  readonly onConnection: (stream: TcpStream, address: number, port: number) => void;
  /** Told of UDP that goes nowhere. */
  readonly onDatagram: (address: number, port: number) => void;
}

/** What a stack has seen. */
export interface StackCounts {
  /** frames that came */
  readonly frames: number;
  /** those that were no right frame, packet or segment, or had no right sender */
  readonly malformed: number;
  /** those of protocols that there are none of here, IPv6 among them */
  readonly unknown: number;
}

/** One end of a guest's connection, as the guest names it. */
export interface GuestConnection {
  /** of the guest */
  readonly guestPort: number;
  readonly address: number;
  readonly port: number;
}

/**
 * The other side of a guest's network card: whatever address the guest sends to, it talks to this. Answers ARP, DNS and
 * ICMP echo for the gateway, ends TCP for every address, and refuses all else. What it is sent is not trusted.
 */
export class Stack {
  readonly #handlers: StackHandlers;
  readonly #connections = new Map<string, TcpStream>();
  #isReady = true;
  #frames = 0;
  #malformed = 0;
  #unknown = 0;
  /** whether a mistake was said, which a guest could repeat as often as it likes */
  #hasFailed = false;

  constructor(handlers: StackHandlers) {
    this.#handlers = handlers;
  }

  get counts(): StackCounts {
    return { frames: this.#frames, malformed: this.#malformed, unknown: this.#unknown };
  }

  /** The connections that there are. */
  get connections(): readonly GuestConnection[] {
    return [...this.#connections.keys()].map((key) => {
      const [guestPort = 0, address = 0, port = 0] = key.split(" ").map(Number);
      return { guestPort, address, port };
    });
  }

  /** Takes a frame from the guest, which is not kept. */
  receive(frame: Uint8Array): void {
    this.#frames += 1;
    try {
      this.#receive(frame);
    } catch (error) {
      this.#malformed += 1;
      if (error instanceof SandboxError || this.#hasFailed) return;
      // A mistake of ours is no reason to end the machine.
      this.#hasFailed = true;
      process.stderr.write(`network: ${error instanceof Error ? error.stack : error}\n`);
    }
  }

  /** Goes on when frames are taken again. */
  proceed(): void {
    this.#isReady = true;
    for (const stream of this.#connections.values()) stream.proceed();
  }

  /**
   * Makes a guest find out that connections are gone, which it had when it was copied: whoever is sent a segment that fits
   * nowhere says where it is, and is told that there is nobody.
   *
   * @see RFC 9293, section 3.10.7.4, "First, check sequence number"
   */
  disown(connections: readonly GuestConnection[]): void {
    for (const { guestPort, address, port } of connections) {
      const segment = { sourcePort: port, destinationPort: guestPort, sequence: 0, acknowledgment: 0 };
      this.#sendTcp(address, { ...segment, flags: TCP_FLAG.ack, window: 0, payload: new Uint8Array() });
    }
  }

  /** Ends all connections. */
  close(): void {
    for (const stream of this.#connections.values()) stream.destroy();
  }

  #receive(frame: Uint8Array): void {
    const longest = NETWORK_MTU + ETHERNET_HEADER_BYTES;
    if (frame.length > longest) throw malformed(`a frame of at most ${longest} bytes`, frame.length);
    const { type, payload } = decodeEthernet(frame);
    if (type === ETHER_TYPE.arp) {
      const request = decodeArpRequest(payload);
      if (request.targetAddress !== GATEWAY) return;
      this.#sendFrame(type, encodeArpReply(request, SOURCE_MAC));
    } else if (type === ETHER_TYPE.ipv4) {
      const packet = decodeIpv4(payload);
      if (packet.source !== GUEST) {
        this.#malformed += 1;
        return;
      }
      this.#receivePacket(packet, payload);
    } else this.#unknown += 1;
  }

  #receivePacket(packet: Ipv4Packet, bytes: Uint8Array): void {
    const { destination, protocol, payload } = packet;
    if (protocol === PROTOCOL.tcp) {
      this.#receiveTcp(destination, decodeTcp(payload, GUEST, destination));
    } else if (protocol === PROTOCOL.udp) {
      const { sourcePort, destinationPort, payload: query } = decodeUdp(payload, GUEST, destination);
      if (destination === GATEWAY && destinationPort === DNS_PORT) {
        const reply = { sourcePort: DNS_PORT, destinationPort: sourcePort, payload: this.#handlers.answer(query) };
        this.#sendPacket(GATEWAY, PROTOCOL.udp, encodeUdp(reply, GATEWAY, GUEST));
        return;
      }
      this.#handlers.onDatagram(destination, destinationPort);
      // Nobody answers what was sent to many.
      if (destination >>> 28 < 0xe) this.#sendPacket(GATEWAY, PROTOCOL.icmp, encodeProhibited(bytes));
    } else if (protocol === PROTOCOL.icmp && destination === GATEWAY) {
      this.#sendPacket(GATEWAY, PROTOCOL.icmp, encodeEchoReply(payload));
    } else this.#unknown += 1;
  }

  #receiveTcp(address: number, segment: TcpSegment): void {
    const { sourcePort, destinationPort, flags } = segment;
    const key = `${sourcePort} ${address} ${destinationPort}`;
    const known = this.#connections.get(key);
    if (known !== undefined) {
      known.receive(segment);
      return;
    }
    if ((flags & TCP_FLAG.rst) !== 0) return;
    const isNew = (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
    if (!isNew || !this.#hasRoom() || !this.#handlers.accepts(address, destinationPort)) {
      this.#refuse(address, segment);
      return;
    }
    const link: TcpLink = {
      maxSegmentBytes: NETWORK_MTU - IPV4_HEADER_BYTES - TCP_HEADER_BYTES,
      send: (reply) => this.#reply(address, segment, reply),
      isReady: () => this.#isReady,
    };
    const stream = new TcpStream(link, segment);
    this.#connections.set(key, stream);
    // Who reads or writes it sees what happened to it, too.
    stream.on("error", () => {});
    stream.once("close", () => this.#connections.delete(key));
    stream.once("connect", () => this.#handlers.onConnection(stream, address, destinationPort));
  }

  #hasRoom(): boolean {
    const { size } = this.#connections;
    if (size >= MAX_CONNECTIONS) return false;
    if (size < MAX_HALF_OPEN) return true;
    return [...this.#connections.values()].filter(({ isConnected }) => !isConnected).length < MAX_HALF_OPEN;
  }

  /** @see RFC 9293, section 3.10.7.1 */
  #refuse(address: number, segment: TcpSegment): void {
    const { flags, sequence, acknowledgment, payload } = segment;
    const empty = { window: 0, payload: new Uint8Array() };
    if ((flags & TCP_FLAG.ack) !== 0) {
      this.#reply(address, segment, { ...empty, sequence: acknowledgment, acknowledgment: 0, flags: TCP_FLAG.rst });
      return;
    }
    const controls = [TCP_FLAG.syn, TCP_FLAG.fin].filter((flag) => (flags & flag) !== 0).length;
    const next = (sequence + payload.length + controls) >>> 0;
    this.#reply(address, segment, {
      ...empty,
      sequence: 0,
      acknowledgment: next,
      flags: TCP_FLAG.rst | TCP_FLAG.ack,
    });
  }

  #reply(address: number, { sourcePort, destinationPort }: TcpSegment, reply: TcpReply): void {
    this.#sendTcp(address, { ...reply, sourcePort: destinationPort, destinationPort: sourcePort });
  }

  #sendTcp(address: number, segment: TcpSegment): void {
    this.#sendPacket(address, PROTOCOL.tcp, encodeTcp(segment, address, GUEST));
  }

  #sendPacket(source: number, protocol: number, payload: Uint8Array): void {
    this.#sendFrame(ETHER_TYPE.ipv4, encodeIpv4({ source, destination: GUEST, protocol, payload }));
  }

  #sendFrame(type: number, payload: Uint8Array): void {
    const frame = encodeEthernet({ destination: DESTINATION_MAC, source: SOURCE_MAC, type, payload });
    if (frame.length > NETWORK_MTU + ETHERNET_HEADER_BYTES) throw new Error("bug: a frame larger than the network's");
    this.#isReady = this.#handlers.send(frame) && this.#isReady;
  }
}
