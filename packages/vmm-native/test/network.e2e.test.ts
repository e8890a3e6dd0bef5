import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNetwork } from "@leveret/qemu-harness";
import { afterAll, describe, expect, test } from "vitest";
import { startGuest } from "../src/index.ts";
import { busyboxInitrd, debianKernel, missingRust, noise, sha256, testQemus, titled } from "./support.ts";

const kernelPath = debianKernel() ?? "";
const missing = missingRust() || (kernelPath === "" ? "no kernel in the tree of oracles" : "");
const directory = mkdtempSync(join(tmpdir(), "vmm-native-network-"));
afterAll(() => rmSync(directory, { recursive: true }));

const DRIVERS = ["net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"];
const MIB = 1 << 20;
/** How long a guest may take: minutes on a machine that has much else to do. */
const WAIT = { timeoutMs: 900_000 };

/** Linux calls it a bug when it has not run for a while, which on a machine that has much else to do is none of its own. */
const COMMAND_LINE = "console=ttyS0 quiet nowatchdog";

/** Fetches a file from the address that the command line names, says what it got, and serves that. */
const SCRIPT = `
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /www
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for driver in /drivers/*.ko; do insmod $driver; done
for word in $(cat /proc/cmdline); do
  case $word in
    eth*=*) ip addr add \${word#*=}/24 dev \${word%%=*}; ip link set \${word%%=*} up ;;
    fetch=*) from=\${word#fetch=} ;;
  esac
done
for card in /sys/class/net/eth*; do
  echo "card $(basename $card) $(basename $(readlink $card/device/driver)) $(cat $card/address)"
done
wget -q -O /www/file $from
echo fetched $(sha256sum < /www/file)
httpd -p 80 -h /www
echo serving
read line
echo errors $(cat /sys/class/net/eth*/statistics/*errors | sort -u)
poweroff -f
`;

/** A server of this process on its loopback, with one file. */
async function serve(bytes: Uint8Array) {
  const server = createServer((_, response) => response.end(bytes));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())) };
}

describe.skipIf(missing !== "")(titled("Linux with a network", missing), { timeout: WAIT.timeoutMs }, () => {
  test("fetches from the host, serves the host, and serves another guest", async () => {
    const bytes = noise(2 * MIB, 3);
    const fetched = `fetched ${sha256(bytes)} -`;
    await using host = await serve(bytes);
    const networks = { lan: createNetwork() };
    const initrdPath = join(directory, "initrd");
    writeFileSync(initrdPath, busyboxInitrd(SCRIPT, DRIVERS));
    const common = { kernelPath, initrdPath };

    await using server = await startGuest(
      {
        ...common,
        name: "server",
        commandLine: `${COMMAND_LINE} eth0=10.0.2.15 eth1=10.9.0.1 fetch=http://10.0.2.2:${host.port}/file`,
        networks: [
          { type: "user", mac: "52:54:00:00:00:01" },
          { type: "private", name: "lan", mac: "52:54:00:00:00:02" },
        ],
      },
      { ...WAIT, networks },
    );
    await server.console.waitFor("serving", WAIT);
    expect(server.console.text).toContain(fetched);
    expect(server.console.text.match(/^card .*\b/gm)).toEqual([
      "card eth0 virtio_net 52:54:00:00:00:01",
      "card eth1 virtio_net 52:54:00:00:00:02",
    ]);
    const { hostPort } = await server.forward({ guestPort: 80 });
    const response = await fetch(`http://127.0.0.1:${hostPort}/file`);
    expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(sha256(bytes));

    // In the newest QEMU that there is.
    const qemu = await testQemus()
      .filter((each) => each.missing === "")
      .at(-1)
      ?.find();
    await using client = await startGuest(
      {
        ...common,
        name: "client",
        commandLine: `${COMMAND_LINE} eth0=10.9.0.2 fetch=http://10.9.0.1/file`,
        networks: [{ type: "private", name: "lan" }],
      },
      { ...WAIT, networks, qemu },
    );
    await client.console.waitFor("serving", WAIT);
    expect(client.console.text).toContain(fetched);
    for (const guest of [client, server]) {
      await guest.console.sendLine("");
      expect((await guest.waitForStop(WAIT)).reason).toBe("power-off");
      expect(guest.console.text).toMatch(/^errors 0\b/m);
      expect(guest.console.text).not.toMatch(/BUG|WARNING|Firmware Bug|NETDEV WATCHDOG/);
    }
  });
});
