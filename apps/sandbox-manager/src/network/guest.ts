import type { TrustedAuthority } from "./authority.ts";
import { GATEWAY_ADDRESS, GUEST_ADDRESS, GUEST_MAC, NETWORK_MTU } from "./stack.ts";

export { GUEST_MAC };

/**
 * Gives a guest's card its address, once for all sandboxes: part of what a template is prepared with. It is the same in
 * all of them, because each has a network of its own.
 */
export const CONFIGURE_NETWORK = `
modprobe virtio_net
for card in $(ls /sys/class/net); do
  test "$(cat /sys/class/net/$card/address)" = ${GUEST_MAC} && break
done
echo 1 > /proc/sys/net/ipv6/conf/$card/disable_ipv6 || true
ip link set $card name net0
ip link set net0 mtu ${NETWORK_MTU} up
ip address add ${GUEST_ADDRESS}/30 dev net0
ip route add default via ${GATEWAY_ADDRESS}
rm -f /etc/resolv.conf
echo 'nameserver ${GATEWAY_ADDRESS}' > /etc/resolv.conf
`;

/** Where a guest has the certificate of the authority that it trusts, and all of those. */
const CERTIFICATE = "/etc/ssl/leveret-sandbox.pem";
const BUNDLE = "/etc/ssl/certs/ca-certificates.crt";

/**
 * A shell script that makes a guest trust an authority, in place of one that it may have trusted before.
 *
 * @see Debian, `update-ca-certificates(8)`, for what is where
 */
export function trustScript({ certificate, hash }: TrustedAuthority): string {
  return `set -e
mkdir -p ${CERTIFICATE.slice(0, CERTIFICATE.lastIndexOf("/"))} ${BUNDLE.slice(0, BUNDLE.lastIndexOf("/"))}
cat > ${CERTIFICATE} <<'END'
${certificate}END
ln -sf ${CERTIFICATE} /etc/ssl/certs/${hash}.0
touch ${BUNDLE}
{
  sed '/^# leveret-sandbox$/,/^# end of leveret-sandbox$/d' ${BUNDLE}
  echo '# leveret-sandbox'
  cat ${CERTIFICATE}
  echo '# end of leveret-sandbox'
} > ${BUNDLE}.new
mv ${BUNDLE}.new ${BUNDLE}
`;
}

/** Variables for programs that bring authorities of their own: Node, and what uses requests in Python. */
export function trustEnvironment(): Readonly<Record<string, string>> {
  return { NODE_EXTRA_CA_CERTS: CERTIFICATE, REQUESTS_CA_BUNDLE: BUNDLE };
}
