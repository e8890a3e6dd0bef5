import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startServer } from "../../block-source/test/server.ts";
import { main } from "../src/cli.ts";
import { httpSource, openErofs, writeErofs } from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { imageSink } from "./trees.ts";

async function image(): Promise<Uint8Array> {
  const output = imageSink();
  const content = noise(300_000);
  const entries = [{ type: "file", path: "/etc/data", content }] as const;
  await writeErofs(entries, { output, uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 9n });
  return output.bytes();
}

test("an image on a web server is read where it is", async () => {
  const { url } = await startServer(await image());
  await using opened = await openErofs(await httpSource(url));
  const found = await opened.readFile(await opened.lookup("/etc/data"));
  expect(Buffer.compare(found, noise(300_000))).toBe(0);
});

test("commands take its address where they take a path", async () => {
  const { url, asked } = await startServer(await image());
  const { io, out, err } = capture();
  expect(await main(["ls", "-l", url, "/etc"], io), err()).toBe(0);
  expect(out()).toMatch(/^-rw-r--r-- .* 300000 .* data\n$/);
  expect(asked.length).toBeLessThan(4);
  const check = capture();
  expect(await main(["verify", url], check.io), check.err()).toBe(0);
});

test("commands say what is wrong with a server, and do not repeat what may be secret", async () => {
  const bytes = await image();
  const { url } = await startServer(bytes, (_, response) => {
    response.writeHead(200).end(bytes);
    return "handled";
  });
  const { io, err } = capture();
  expect(await main(["ls", url], io)).toBe(1);
  expect(err()).toMatch(
    /^error: expected a part of http:.*, got status 200 .*\[EROFS_HTTP\]\n {2}the server does not answer/,
  );
  expect(err()).not.toContain("secret");
});

test("commands send the headers of a file, and never say what is in it", async () => {
  const bytes = await image();
  const { url } = await startServer(bytes, ({ headers }, response) => {
    if (headers.authorization === "Bearer hush" && headers["x-more"] === "1") return "honest";
    response.writeHead(401).end();
    return "handled";
  });
  const folder = await scratch();
  await writeFile(join(folder, "headers"), "Authorization: Bearer hush\r\nX-More:1\n");
  const allowed = capture(folder);
  expect(await main(["ls", url, "/etc", "--header-file", "headers"], allowed.io), allowed.err()).toBe(0);
  const asked = capture(folder);
  expect(await main(["ls", url], asked.io)).toBe(1);
  expect(asked.err()).toContain("--header-file");
  for (const line of ["Authorization Bearer hush", "Range: hush", "a: hush\u0001", "a b: hush"]) {
    await writeFile(join(folder, "headers"), `X: y\n${line}\n`);
    const { io, err } = capture(folder);
    expect(await main(["ls", url, "--header-file", "headers"], io)).toBe(1);
    expect(err()).toContain("in line 2");
    expect(err()).not.toContain("hush");
  }
});

test("commands name the schemes they know", async () => {
  const { io, err } = capture();
  expect(await main(["ls", "ftp://127.0.0.1/image"], io)).toBe(1);
  expect(err()).toContain("starts with http:// or https://, got one that starts with ftp://");
});

test.each([
  { timeoutMs: 0 },
  { maxCacheBytes: -1 },
  { headers: { range: "bytes=0-1" } },
  { headers: { "a b": "c" } },
  { headers: { a: "b\r\nc: d" } },
  { nothing: 1 },
])("httpSource refuses the options %j", async (options) => {
  await expect(httpSource("http://127.0.0.1:1/", options as object)).rejects.toMatchObject({
    code: "EROFS_BAD_OPTIONS",
  });
});

test("httpSource says when nobody answers", async () => {
  await expect(httpSource("http://127.0.0.1:1/")).rejects.toMatchObject({ code: "EROFS_IO" });
});
