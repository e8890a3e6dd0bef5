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
