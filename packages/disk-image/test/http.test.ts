import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../../block-source/test/server.ts";
import { main } from "../src/cli.ts";
import { writeDiskImage } from "../src/index.ts";
import { capture, scratch } from "./support.ts";

test("a disk on a web server is inspected and extracted from where it is", async () => {
  const folder = await scratch();
  const content = new Uint8Array(2 ** 20).map((_, at) => at % 251);
  const path = join(folder, "disk.raw");
  await writeDiskImage(path, {
    seed: "9c5d0d1f-34a9-4b66-a5a1-3a1d6c6dd8a2",
    partitions: [{ type: "linux-generic", label: "data", content }],
  });
  const bytes = await readFile(path);
  const { url, asked } = await startServer(bytes);
  const inspected = capture(folder);
  expect(await main(["inspect", url, "--json"], inspected.io), inspected.err()).toBe(0);
  expect(JSON.parse(inspected.out())).toMatchObject({
    primary: "valid",
    backup: "valid",
    partitions: [{ label: "data" }],
  });
  expect(asked.length).toBeLessThan(8);
  const extracted = capture(folder);
  expect(await main(["extract", url, "data", "part"], extracted.io), extracted.err()).toBe(0);
  const part = await readFile(join(folder, "part"));
  expect(Buffer.compare(part.subarray(0, content.byteLength), content)).toBe(0);
});

test("a server that answers no ranges is refused", async () => {
  const { url } = await startServer(new Uint8Array(10), (_, response) => {
    response.writeHead(200).end("whole");
    return "handled";
  });
  const { io, err } = capture("/");
  expect(await main(["inspect", url], io)).toBe(1);
  expect(err()).toContain("[DISK_HTTP]");
});
