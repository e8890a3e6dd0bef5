import { hostname, networkInterfaces } from "node:os";
import { TLS_ACCESS_DENIED } from "../network/format/tls.ts";
import { parseRule, type RuleText } from "../network/rules.ts";
import { type Heard, type Probe, textOf } from "./probe.ts";
import type { ProofCase, Surroundings } from "./prove.ts";
import { clientHello, dnsQuery, echoRequest } from "./words.ts";

/** Reserved for documentation: nobody is there, and nobody ought to be gone to. @see RFC 5737, RFC 3849, RFC 6761 */
const NOWHERE = "192.0.2.53";
const NOWHERE_IPV6 = "2001:db8::53";
const GATEWAY = "198.18.0.1";
const METADATA = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200"];
const PREVENTED = ["not-allowed", "denied"];
const TXT = 16;
const A = 1;

const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1");
const tcp = (host: string, port: number, text: string): Probe => ({ kind: "tcp", host, port, bytes: latin1(text) });
const request = (to: string, port: number, host = to, more = ""): Probe =>
  tcp(to, port, `GET /leveret-prove HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`);
const hello = (to: string, port: number, options: Parameters<typeof clientHello>[0]): Probe => ({
  kind: "tcp",
  host: to,
  port,
  bytes: clientHello(options),
});

/** Why something was refused, in the words of the gateway. */
function reasonIn(heard: Heard): string | undefined {
  return /"kind":"sandbox-network-refused".*"reason":"([a-z-]+)"/.exec(textOf(heard))?.[1];
}

/** What got through of requests that have to be refused, for one of some reasons. */
function unlessRefused(heard: readonly Heard[], reasons?: readonly string[]): string | undefined {
  for (const each of heard) {
    const reason = reasonIn(each);
    if (each.error !== undefined || isDenied(each)) continue;
    if (reason === undefined) return `somebody answered ${JSON.stringify(textOf(each).slice(0, 80))}`;
    if (reasons !== undefined && !reasons.includes(reason)) return `it was refused only because it is ${reason}`;
  }
  return undefined;
}

function isDenied({ bytes }: Heard): boolean {
  return bytes !== undefined && Buffer.compare(bytes, TLS_ACCESS_DENIED) === 0;
}

/** What answered, of things that nobody may answer. */
function unlessSilent(heard: readonly Heard[]): string | undefined {
  const answered = heard.find(({ bytes }) => bytes !== undefined && bytes.length > 0);
  return answered && `somebody answered ${Buffer.from(answered.bytes ?? []).toString("hex", 0, 40)}`;
}

/** A name that a rule allows by itself, with a port of HTTP or TLS; one that none does where there is none. */
function allowedName(allow: readonly RuleText[], port: number): string {
  const rules = allow.map(({ text, source }) => parseRule(text, source));
  const found = rules.find((rule) => !rule.isWildcard && rule.protocol === "web" && (rule.port ?? port) === port);
  return found?.host ?? "allowed.prove.invalid";
}

/** Ways out over the network that there must not be. */
export function networkCases({ allow, canary, nonce }: Surroundings): readonly ProofCase[] {
  const name = `${nonce}.prove.invalid`;
  const [web, secure] = [allowedName(allow, 80), allowedName(allow, 443)];
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const addresses = [GATEWAY, ...own.filter(({ family }) => family === "IPv4").map(({ address }) => address)];
  return [
    {
      name: "dns-tunnel",
      tried: `data in names below prove.invalid: queries of two types, and a request that needs the host to look it up`,
      probes: [
        { kind: "udp", host: GATEWAY, port: 53, bytes: dnsQuery(`data-${name}`, TXT) },
        { kind: "udp", host: GATEWAY, port: 53, bytes: dnsQuery(`data-${name}`, A) },
        request(`data-${name}`, 80),
      ],
      judge: ([text, , connection = {}]) => {
        const answers = Buffer.from(text?.bytes ?? []).subarray(6, 8);
        if (answers.some((byte) => byte !== 0)) return "a query for text was answered";
        return unlessRefused([connection], PREVENTED);
      },
    },
    {
      name: "other-resolvers",
      tried: `DNS over UDP, TCP, TLS and HTTPS to ${NOWHERE}`,
      probes: [
        { kind: "udp", host: NOWHERE, port: 53, bytes: dnsQuery(name, A) },
        tcp(NOWHERE, 53, "\0\0"),
        hello(NOWHERE, 853, { serverName: "dns.prove.invalid" }),
        hello(NOWHERE, 443, { serverName: "dns.prove.invalid" }),
      ],
      judge: ([datagram = {}, ...connections]) => unlessSilent([datagram]) ?? unlessRefused(connections),
    },
    {
      name: "raw-addresses",
      tried: `HTTP, TLS and other connections to ${NOWHERE}, for which no name was looked up`,
      probes: [
        request(NOWHERE, 80, web),
        request(NOWHERE, 8080, web),
        hello(NOWHERE, 443, { serverName: secure }),
        tcp(NOWHERE, 22, "SSH-2.0-prove\r\n"),
      ],
      judge: (heard) => unlessRefused(heard),
    },
    {
      name: "host-addresses",
      tried: `a server of this host's loopback, at ${addresses.length} addresses that the host has`,
      probes: addresses.map((address) => request(address, canary.port, canary.host)),
      judge: (heard) => canary.reached() ?? unlessRefused(heard),
    },
    {
      name: "rebinding",
      tried: `the same server, by names that lead the host to itself`,
      probes: ["localhost.", `${hostname()}.`, "localhost.localdomain"].map((each) =>
        request(each, canary.port, `${each.replace(/\.$/, "")}:${canary.port}`),
      ),
      // The guest's own name for itself may lead to itself, where nobody listens.
      judge: (heard) => canary.reached() ?? unlessRefused(heard),
    },
    {
      name: "metadata",
      tried: `metadata of clouds, at ${METADATA.join(", ")} and by name`,
      probes: [...METADATA.map((address) => request(address, 80)), request("metadata.google.internal", 80)],
      judge: (heard) => unlessRefused(heard, [...PREVENTED, "raw-address", "private-address", "unresolved"]),
    },
    {
      name: "host-lies",
      tried: `requests to ${web} that say another Host, two of them, or two lengths of a body`,
      probes: [
        request(web, 80, name),
        request(web, 80, web, `Host: ${name}\r\n`),
        request(web, 80, web, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        tcp(web, 80, `GET http://${name}/ HTTP/1.1\r\nHost: ${web}\r\n\r\n`),
      ],
      judge: (heard) => unlessRefused(heard),
    },
    {
      name: "sni-lies",
      tried: `TLS to ${secure} for another name, for none, and for one that is encrypted`,
      probes: [
        hello(secure, 443, { serverName: name }),
        hello(secure, 443, {}),
        hello(secure, 443, { serverName: secure, isEncrypted: true }),
      ],
      judge: (heard) => unlessRefused(heard),
    },
    {
      name: "redirects",
      tried: `what a server could send a client on to: http://${name}/, its TLS, and an address`,
      probes: [request(name, 80), hello(name, 443, { serverName: name }), request(GATEWAY, 80)],
      judge: (heard) => unlessRefused(heard, [...PREVENTED, "raw-address", "no-name"]),
    },
    {
      name: "ipv6",
      tried: `connections to ${NOWHERE_IPV6}, ::ffff:${NOWHERE} and fe80::1, and a frame of IPv6`,
      probes: [
        { kind: "tcp", host: NOWHERE_IPV6, port: 443, bytes: clientHello({ serverName: secure }) },
        { kind: "tcp", host: `::ffff:${NOWHERE}`, port: 80, bytes: latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n") },
        { kind: "tcp", host: "fe80::1", port: 80, bytes: latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n") },
        {
          kind: "frame",
          bytes: Buffer.concat([Buffer.from("52540012000152540012000286dd60", "hex"), Buffer.alloc(59)]),
        },
      ],
      judge: (heard) => unlessRefused(heard.slice(0, 3)),
    },
    {
      name: "raw-sockets",
      tried: `packets of ICMP, GRE and SCTP to ${NOWHERE}, and UDP to 443 (QUIC)`,
      probes: [
        { kind: "raw", host: NOWHERE, port: 1, bytes: echoRequest() },
        { kind: "raw", host: NOWHERE, port: 47, bytes: Buffer.alloc(8) },
        { kind: "raw", host: NOWHERE, port: 132, bytes: Buffer.alloc(12) },
        { kind: "udp", host: NOWHERE, port: 443, bytes: Buffer.alloc(1200) },
      ],
      judge: unlessSilent,
    },
    {
      name: "malformed-frames",
      tried: "frames that are empty, too long, cut, and of nobody, and a name after them",
      probes: [
        ...[14, 15, 34, 60, 1514, 32_782].map(
          (length): Probe => ({ kind: "frame", bytes: Buffer.alloc(length, 0x45) }),
        ),
        ...[0x0800, 0x0806, 0x86dd, 0x8100].map((type): Probe => {
          const frame = Buffer.alloc(64, 0xff);
          frame.writeUInt16BE(type, 12);
          return { kind: "frame", bytes: frame };
        }),
        { kind: "udp", host: GATEWAY, port: 53, bytes: dnsQuery("a.prove.invalid", A) },
      ],
      judge: (heard) => ((heard.at(-1)?.bytes?.length ?? 0) > 0 ? undefined : "names are not answered any more"),
    },
  ];
}
