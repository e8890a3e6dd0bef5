// What @leveret/sandbox-manager reads that a guest sends: frames of its network card, names, the beginnings of TLS and HTTP.
import {
  BodyReader,
  decodeArpRequest,
  decodeClientHello,
  decodeDnsQuery,
  decodeEthernet,
  decodeIpv4,
  decodeRequestHead,
  decodeSecondClientHello,
  decodeTcp,
  decodeUdp,
  ETHER_TYPE,
  encodeArpReply,
  encodeDnsAnswer,
  encodeEchoReply,
  encodeEthernet,
  encodeIpv4,
  encodeLastRequestHead,
  encodeProhibited,
  encodeTcp,
  encodeUdp,
  isHelloRetryRequest,
  isSwitched,
  matchesRequest,
  PROTOCOL,
  SandboxError,
  Scrubber,
  scrubbed,
} from "../../apps/sandbox-manager/dist/decoders.js";

const code = new URL("../../apps/sandbox-manager/dist/", import.meta.url);
const isExpected = (error) => error instanceof SandboxError;
const latin1 = (text) => Uint8Array.from(Buffer.from(text, "latin1"));
const same = (one, other) => Buffer.compare(one, other) === 0;

const [GUEST, GATEWAY] = [0xc612_0002, 0xc612_0001];
const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0, 1);
const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;

export const targets = [
  { name: "sandbox-manager frame", code, isExpected, seeds: frames, run: receive, repair: withChecksums },
  { name: "sandbox-manager dns", code, isExpected, seeds: queries, run: answer },
  { name: "sandbox-manager tls", code, isExpected, seeds: hellos, run: readHello },
  { name: "sandbox-manager http", code, isExpected, seeds: requests, run: readRequest },
  { name: "sandbox-manager scrubber", code, isExpected, seeds: echoes, run: scrub },
];

const query = () =>
  Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 7, ...latin1("example"), 0, 0, 1, 0, 1);

async function frames() {
  const tcp = { sourcePort: 40_000, destinationPort: 443, sequence: 1, acknowledgment: 2, window: 1000 };
  const syn = { ...tcp, flags: 2, maxSegmentBytes: 1460, windowShift: 7, payload: new Uint8Array() };
  const data = { ...tcp, flags: 0x18, payload: latin1("hello") };
  const udp = { sourcePort: 5353, destinationPort: 53, payload: query() };
  const packet = (protocol, payload) => [
    ETHER_TYPE.ipv4,
    encodeIpv4({ source: GUEST, destination: GATEWAY, protocol, payload }),
  ];
  const arp = Uint8Array.of(0, 1, 8, 0, 6, 4, 0, 1, ...MAC, 198, 18, 0, 2, 0, 0, 0, 0, 0, 0, 198, 18, 0, 1);
  return [
    [ETHER_TYPE.arp, arp],
    packet(PROTOCOL.tcp, encodeTcp(syn, GUEST, GATEWAY)),
    packet(PROTOCOL.tcp, encodeTcp(data, GUEST, GATEWAY)),
    packet(PROTOCOL.udp, encodeUdp(udp, GUEST, GATEWAY)),
    packet(PROTOCOL.icmp, Uint8Array.of(8, 0, 0xf7, 0xfe, 0, 0, 0, 1)),
  ].map(([type, payload]) => encodeEthernet({ destination: MAC, source: MAC, type, payload }));
}

/** Makes the checksums of a packet and of what is in it right. */
function withChecksums(input) {
  const bytes = Uint8Array.from(input);
  const packet = bytes.subarray(ETHERNET_BYTES);
  if (packet.length < IPV4_BYTES) return bytes;
  const headerBytes = (packet[0] & 15) * 4;
  put(packet.subarray(0, headerBytes), 10, 0);
  const payload = packet.subarray(headerBytes, (packet[2] << 8) | packet[3]);
  const protocol = packet[9];
  const at = { [PROTOCOL.tcp]: 16, [PROTOCOL.udp]: 6, [PROTOCOL.icmp]: 2 }[protocol];
  const words = protocol === PROTOCOL.icmp ? 0 : sumOf(packet.subarray(12, 20)) + protocol + payload.length;
  if (at !== undefined) put(payload, at, words);
  return bytes;
}

function put(bytes, at, more) {
  if (bytes.length < at + 2) return;
  bytes.fill(0, at, at + 2);
  let sum = sumOf(bytes) + more;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes[at] = (~sum >>> 8) & 0xff;
  bytes[at + 1] = ~sum & 0xff;
}

function sumOf(bytes) {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 1) sum += at % 2 === 0 ? bytes[at] << 8 : bytes[at];
  return sum;
}

function receive(bytes) {
  const { type, payload } = decodeEthernet(bytes);
  if (type === ETHER_TYPE.arp) {
    encodeArpReply(decodeArpRequest(payload), MAC);
    return;
  }
  const packet = decodeIpv4(payload);
  encodeProhibited(payload);
  if (!same(decodeIpv4(encodeIpv4(packet)).payload, packet.payload)) throw new Error("expected the same packet again");
  const { source, destination } = packet;
  if (packet.protocol === PROTOCOL.icmp) encodeEchoReply(packet.payload);
  if (packet.protocol === PROTOCOL.udp) {
    const datagram = decodeUdp(packet.payload, source, destination);
    encodeUdp(datagram, source, destination);
    answer(datagram.payload);
  }
  if (packet.protocol === PROTOCOL.tcp) {
    const segment = decodeTcp(packet.payload, source, destination);
    const again = decodeTcp(encodeTcp(segment, source, destination), source, destination);
    if (!same(again.payload, segment.payload) || again.sequence !== segment.sequence || again.flags !== segment.flags) {
      throw new Error("expected the same segment again");
    }
  }
}

async function queries() {
  return [query()];
}

function answer(bytes) {
  const asked = decodeDnsQuery(bytes);
  const reply = encodeDnsAnswer(asked, { code: 0, address: GATEWAY, ttl: 60 });
  if (reply[0] !== bytes[0] || reply[1] !== bytes[1] || reply.length > bytes.length + 16) {
    throw new Error("expected an answer to the question, and not a larger one");
  }
}

const vector = (lengthBytes, content) => [
  ...Array.from({ length: lengthBytes }, (_, at) => (content.length >>> (8 * (lengthBytes - 1 - at))) & 0xff),
  ...content,
];

function hello(name, recordBytes) {
  const sni = [0, 0, ...vector(2, vector(2, [0, ...vector(2, [...Buffer.from(name)])]))];
  const extensions = [...sni, 0, 0x2b, ...vector(2, [2, 3, 4])];
  const body = [3, 3, ...new Array(32).fill(7), 0, ...vector(2, [0x13, 1]), 1, 0, ...vector(2, extensions)];
  const message = [1, ...vector(3, body)];
  const records = [];
  for (let at = 0; at < message.length; at += recordBytes) {
    records.push(22, 3, 1, ...vector(2, message.slice(at, at + recordBytes)));
  }
  return Uint8Array.from(records);
}

async function hellos() {
  const retry = Buffer.from("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c", "hex");
  const message = [2, ...vector(3, [3, 3, ...retry, 0, 0x13, 1, 0, 0, 0])];
  return [
    hello("secure.test", 1 << 14),
    hello("secure.test", 20),
    Uint8Array.of(20, 3, 3, 0, 1, 1, ...hello("secure.test", 1 << 14)),
    Uint8Array.of(22, 3, 3, ...vector(2, message)),
  ];
}

function readHello(bytes) {
  isHelloRetryRequest(bytes);
  try {
    decodeSecondClientHello(bytes);
  } catch (error) {
    if (!isExpected(error)) throw error;
  }
  const first = decodeClientHello(bytes);
  if (first === undefined) return;
  const again = decodeClientHello(bytes.subarray(0, first.length));
  if (again?.serverName !== first.serverName || decodeClientHello(bytes.subarray(0, first.length - 1)) !== undefined) {
    throw new Error("expected a ClientHello to be as long as it says");
  }
}

async function requests() {
  return [
    "GET /v1/users?a=b HTTP/1.1\r\nHost: web.test:8080\r\nConnection: upgrade, x-hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\n\r\n",
    "POST https://web.test/v1/..;/x%2f HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n",
    "PUT /v1/%2e%2e/x HTTP/1.0\r\nHost: web.test\r\nContent-Length: 3\r\n\r\nabcd",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  ].map(latin1);
}

function readRequest(bytes) {
  isSwitched(bytes);
  const head = decodeRequestHead(bytes, "https");
  if (head === undefined) return;
  const again = decodeRequestHead(encodeLastRequestHead(head), "https");
  for (const key of ["method", "target", "host", "port", "isUpgrade"]) {
    if (again?.[key] !== head[key]) throw new Error(`expected the same ${key} again`);
  }
  const facts = { ...head, fields: head.fields.map(([name]) => name.toLowerCase()) };
  if (matchesRequest({ path: "/v1/*" }, facts, false)) {
    const { pathname } = new URL(head.target, "https://web.test");
    const path = pathname.replace(/%(..)/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
    if (!path.startsWith("/v1/")) throw new Error("expected a path that is allowed");
  }
  const rest = bytes.subarray(head.length);
  const whole = new BodyReader(head.body).take(rest);
  // The same in pieces of one byte.
  const reader = new BodyReader(head.body);
  let length = 0;
  for (let at = 0; at < rest.length && !reader.isDone; at += 1) length += reader.take(rest.subarray(at, at + 1));
  if (length !== whole) throw new Error("expected the end of a body to be where it is");
}

const VALUE = "value-value-x";

async function echoes() {
  return [latin1(`before ${VALUE} after value-value-val`), latin1(`${VALUE}${VALUE}`)];
}

/** The first byte says how long pieces are. */
function scrub([size = 1, ...rest]) {
  const bytes = Buffer.from(rest);
  const scrubber = new Scrubber([scrubbed(VALUE, "placeholder"), scrubbed("value-valuf", "other")]);
  const pieces = [];
  const take = (_, piece) => piece !== undefined && pieces.push(piece);
  for (let at = 0; at < bytes.length; at += (size % 16) + 1) {
    scrubber._transform(bytes.subarray(at, at + (size % 16) + 1), "buffer", take);
  }
  scrubber._flush(take);
  const text = Buffer.concat(pieces).toString("latin1");
  if (text.length !== bytes.length || text.includes(VALUE)) throw new Error("expected as much, without the value");
  return text === bytes.toString("latin1") ? "nothing to hide" : "hidden";
}
