import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SandboxError } from "../../src/index.ts";
import { Authority } from "../../src/network/authority.ts";
import { decodeRequestHead, encodeLastRequestHead } from "../../src/network/format/http.ts";
import { Scrubber, scrubbed } from "../../src/network/scrubber.ts";
import { readSecrets } from "../../src/network/secret-sources.ts";
import { Secrets } from "../../src/network/secrets.ts";

const VALUE = 'ghp_R34l"Value/of$&a+secret';

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "secrets-"));
});
afterAll(async () => rm(directory, { recursive: true }));

const granted = (...targets: string[]): { secrets: Secrets; placeholder: string } => {
  const secrets = new Secrets();
  secrets.grant({ name: "TOKEN", targets, value: VALUE });
  return { secrets, placeholder: secrets.environment.TOKEN ?? "" };
};
const headOf = (target: string, ...fields: string[]) => {
  const head = decodeRequestHead(
    Buffer.from([`GET ${target} HTTP/1.1`, "Host: api.test", ...fields, "", ""].join("\r\n"), "latin1"),
    "https",
  );
  if (head === undefined) throw new Error("expected a head");
  return head;
};
const basic = (text: string): string => `Authorization: Basic ${Buffer.from(text, "latin1").toString("base64")}`;
const encoded = (head: ReturnType<typeof headOf>): string =>
  Buffer.from(encodeLastRequestHead(head)).toString("latin1");

describe("a secret", () => {
  test("is put into fields of requests to its hosts, also into what Basic encodes, and nowhere else", () => {
    const { secrets, placeholder } = granted("api.test", "*.wild.test:8443", "git.test/owner/repository.git/*");
    expect(placeholder).toHaveLength(VALUE.length);
    const put = (target: string, host = "api.test", port = 443): string =>
      encoded(
        secrets.complete(
          headOf(target, `Authorization: Bearer ${placeholder}`, basic(`user:${placeholder}`), `X: ${placeholder}`),
          host,
          port,
        ).head,
      );
    const whole = [`Authorization: Bearer ${VALUE}`, basic(`user:${VALUE}`), `X: ${VALUE}`];
    for (const line of whole) expect(put("/")).toContain(`${line}\r\n`);
    expect(put("/", "a.wild.test", 8443)).toContain(VALUE);
    expect(put("/owner/repository.git/info/refs?service=git-upload-pack", "git.test")).toContain(VALUE);
    for (const [target, host, port] of [
      ["/", "other.test", 443],
      ["/", "api.test", 8443],
      ["/", "wild.test", 8443],
      ["/owner/other.git/info/refs", "git.test", 443],
      ["/owner/repository.git/../other.git/info/refs", "git.test", 443],
      ["/owner/repository.git/%2e%2e/other.git/info/refs", "git.test", 443],
    ] as const) {
      expect(put(target, host, port)).not.toContain(VALUE.slice(4, 8));
    }
    // A path or a body is no place for it.
    expect(put(`/?token=${placeholder}`)).toContain(`GET /?token=${placeholder} `);
  });

  test("asks for answers that can be looked at", () => {
    const { secrets } = granted("api.test");
    const head = headOf("/", "Accept-Encoding: gzip", "Range: bytes=1-2");
    const text = encoded(secrets.complete(head, "api.test", 443).head);
    expect(text).toContain("Accept-Encoding: identity\r\n");
    expect(text).not.toMatch(/gzip|range/i);
  });

  test("has no value in a copy until somebody gives it, and the same placeholder then", () => {
    const { secrets, placeholder } = granted("api.test");
    expect(JSON.stringify(secrets.references)).not.toContain("R34l");
    const copy = new Secrets(secrets.references);
    const head = headOf("/", `X: ${placeholder}`);
    expect(() => copy.complete(head, "api.test", 443)).toThrow(expect.objectContaining({ reason: "secret-missing" }));
    expect(() => copy.complete(headOf("/"), "api.test", 443)).not.toThrow();
    copy.grant({ name: "TOKEN", targets: ["api.test"], value: "another value" });
    expect(encoded(copy.complete(head, "api.test", 443).head)).toContain("X: another value\r\n");
  });

  test("that comes back is a placeholder again, however it is cut and written", async () => {
    const { secrets, placeholder } = granted("api.test");
    const { head, scrubbed: patterns } = secrets.complete(headOf("/", basic(`user:${placeholder}`)), "api.test", 443);
    const token = /Basic (\S+)/.exec(encoded(head))?.[1] ?? "";
    const bodies = [
      VALUE,
      JSON.stringify({ a: VALUE }),
      encodeURIComponent(VALUE),
      token,
      `${VALUE}${VALUE}`,
      "ghp_R34",
    ];
    for (const body of bodies) {
      for (const size of [1, 2, 3, 1000]) {
        const bytes = Buffer.from(`before ${body} after`, "latin1");
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
          bytes.subarray(index * size, (index + 1) * size),
        );
        const text = (await buffer(Readable.from(chunks).pipe(new Scrubber(patterns)))).toString("latin1");
        expect(text).toHaveLength(bytes.length);
        expect(text).toMatch(/^before .* after$/);
        if (body === "ghp_R34") expect(text).toBe(`before ${body} after`);
        else expect(text).not.toMatch(/R34l|YS\+/);
        expect(text.includes(Buffer.from(VALUE).toString("base64").slice(0, 12))).toBe(false);
      }
    }
  });
});

test("a scrubber changes nothing else", async () => {
  const bytes = randomBytes(100_000);
  const through = Readable.from([bytes.subarray(0, 50_001), bytes.subarray(50_001)]).pipe(
    new Scrubber([scrubbed("what is not there", "mask")]),
  );
  expect((await buffer(through)).equals(bytes)).toBe(true);
});

describe("the source of a secret", () => {
  test("is a variable or a file", async () => {
    await writeFile(join(directory, "token"), `${VALUE}\n`);
    const texts = ["A=env:MY_VARIABLE@api.test,*.wild.test:8443", "B=file:token@git.test/owner/*"];
    const sources = { env: { MY_VARIABLE: "eight and more" }, directory };
    expect(await readSecrets(texts, sources)).toEqual([
      { name: "A", targets: ["api.test", "*.wild.test:8443"], value: "eight and more" },
      { name: "B", targets: ["git.test/owner/*"], value: VALUE },
    ]);
  });

  test.each([
    `TOKEN=${VALUE}@api.test`,
    `TOKEN=${VALUE}`,
    VALUE,
    `${VALUE}@api.test`,
    "TOKEN=env:SHORT@api.test",
    "TOKEN=env:LINES@api.test",
    "TOKEN=env:NONE@api.test",
    "TOKEN=file:none@api.test",
    "TOKEN=file:/dev/zero@api.test",
    "TOKEN=env:GOOD@*",
    "TOKEN=env:GOOD@",
    "TOKEN=env:GOOD@tcp://api.test:22",
    "TOKEN=env:GOOD@api.test=127.0.0.1",
    "1A=env:GOOD@api.test",
  ])("that is none is refused, and no value is said: %s", async (text) => {
    const env = { SHORT: "R34l", LINES: `${VALUE}\r\nX: y`, GOOD: VALUE };
    const error: unknown = await readSecrets([text], { env, directory }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(SandboxError);
    expect(JSON.stringify([error, (error as Error).message, String((error as Error).stack)])).not.toContain("R34l");
  });
});

test("certificates are those that OpenSSL takes", async () => {
  const authority = new Authority();
  const file = join(directory, "ca.pem");
  await writeFile(file, authority.certificate);
  const openssl = (...argv: string[]): string =>
    execFileSync("openssl", argv, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  expect(openssl("x509", "-in", file, "-noout", "-hash").trim()).toBe(authority.hash);
  await writeFile(join(directory, "server.pem"), authority.serverFor("api.test").cert);
  const strict = ["-x509_strict", "-purpose", "sslserver", "-CAfile", file];
  expect(openssl("verify", ...strict, "-verify_hostname", "api.test", "server.pem")).toContain("OK");
  expect(() => openssl("verify", ...strict, "-verify_hostname", "other.test", "server.pem")).toThrow();
  await writeFile(file, new Authority().certificate);
  expect(() => openssl("verify", ...strict, "server.pem")).toThrow();
});
