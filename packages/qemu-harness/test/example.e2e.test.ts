import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { encodeCpio } from "../src/index.ts";
import { missingAgent } from "./agent-built.ts";
import { busybox, debianKernel, kernelModules, missingKernel, NETWORK_MODULES } from "./kernel.ts";
import { missingOracles, titled } from "./oracles.ts";
import { runVitest } from "./run-vitest.ts";

const missing = missingOracles() || missingAgent() || missingKernel();
const EXAMPLES = fileURLToPath(new URL("../examples", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-example-"));
afterAll(() => rmSync(directory, { recursive: true }));

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
for driver in /drivers/*; do insmod $driver; done
echo ready >/dev/console
exec sleep 1000000
`;

describe.skipIf(missing !== "")(titled("the example", missing), () => {
  test("of a server and its client runs", () => {
    const modules = kernelModules([...NETWORK_MODULES, "drivers/block/virtio_blk"]);
    const init = { path: "init", data: Buffer.from(INIT), executable: true };
    const [initrd, disk, picture] = [join(directory, "initrd"), join(directory, "disk"), join(directory, "client.png")];
    writeFileSync(initrd, encodeCpio([busybox(), init, ...modules], 0));
    const descriptor = openSync(disk, "w");
    ftruncateSync(descriptor, 1024 * 1024);
    closeSync(descriptor);
    const { output, result } = runVitest({
      root: EXAMPLES,
      directory,
      env: {
        KERNEL: debianKernel() ?? "",
        INITRD: initrd,
        DISK: disk,
        PICTURE: picture,
        LEVERET_TEST_RESULTS: join(directory, "results"),
      },
    });
    expect(result("a server keeps what its client says"), output).toMatchObject({ state: "passed" });
    expect(readFileSync(picture).toString("latin1", 1, 4)).toBe("PNG");
  });
});
