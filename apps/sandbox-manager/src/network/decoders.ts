// What reads bytes of guests and of hosts, for `fuzz/`: built beside the rest, and no part of the package's interface.
export { SandboxError } from "../errors.ts";
export { decodeDnsQuery, encodeDnsAnswer } from "./format/dns.ts";
export {
  decodeArpRequest,
  decodeEthernet,
  ETHER_TYPE,
  encodeArpReply,
  encodeEthernet,
} from "./format/ethernet.ts";
export { BodyReader, decodeRequestHead, encodeLastRequestHead, isSwitched } from "./format/http.ts";
export { decodeIpv4, encodeEchoReply, encodeIpv4, encodeProhibited, PROTOCOL } from "./format/ipv4.ts";
export { decodeTcp, encodeTcp } from "./format/tcp.ts";
export { decodeClientHello, decodeSecondClientHello, isHelloRetryRequest } from "./format/tls.ts";
export { decodeUdp, encodeUdp } from "./format/udp.ts";
export { matchesRequest } from "./request-pattern.ts";
export { Scrubber, scrubbed } from "./scrubber.ts";
