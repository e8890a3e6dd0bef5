import { lookup } from "node:dns/promises";
import { BlockList, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";

/** Finds the addresses of a name. */
export type Resolver = (name: string) => Promise<readonly string[]>;

/** Asks whoever the host asks. */
export const hostResolver: Resolver = async (name) =>
  (await lookup(name, { all: true, order: "ipv4first" })).map(({ address }) => address);

/** What leads to no public host. @see IANA, IPv4 Special-Purpose Address Registry; RFC 6890 */
const NOT_PUBLIC_IPV4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  // Not special to anybody but to the cloud that it is the metadata server of.
  "168.63.129.16/32",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
];
/** Of IPv6 only global unicast is public at all. @see IANA, IPv6 Special-Purpose Address Registry; RFC 4291 */
const PUBLIC_IPV6 = "2000::/3";
/** Of that again: protocols that carry another address inside, documentation. */
const NOT_PUBLIC_IPV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

const refused = blockList([...NOT_PUBLIC_IPV4, ...NOT_PUBLIC_IPV6]);
const publicIpv6 = blockList([PUBLIC_IPV6]);

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", prefix] = network.split("/");
    list.addSubnet(address, Number(prefix), isIPv4(address) ? "ipv4" : "ipv6");
  }
  return list;
}

/** Whether an address is neither private, nor special, nor one of this host or of the networks that it is in. */
export function isPublicAddress(address: string): boolean {
  const family = isIPv4(address) ? "ipv4" : "ipv6";
  if (refused.check(address, family)) return false;
  if (family === "ipv6" && !publicIpv6.check(address, family)) return false;
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const ours = new BlockList();
  for (const { address: each, family: kind, cidr } of own) {
    const type = kind === "IPv4" ? "ipv4" : "ipv6";
    ours.addAddress(each, type);
    const prefix = Number(cidr?.split("/")[1] ?? 0);
    if (prefix > 0) ours.addSubnet(each, prefix, type);
  }
  return !ours.check(address, family);
}
