import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeRoot, type Run, runCommand } from "../command.ts";

const LARGE = randomBytes(50_000_000);
const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Sends a request over a connection of its own, and prints what comes, whatever it is. */
const REQUEST = String.raw`use IO::Socket::INET;
my ($to, $request) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => $to, Timeout => 20) or do { print "no connection: $!\n"; exit };
$request =~ s/\\r\\n/\r\n/g;
print $socket $request; $socket->flush;
my $begun = time; my $got = "";
while (1) { my $n = sysread($socket, $got, 65536, length $got); last if !$n; }
print $got; print "error: $!\n" if $! && $got eq ""; print "late\n" if time - $begun > 15;
`;
/** Sends a DNS query by UDP, and prints the code of the answer, or the error. */
const QUERY = String.raw`use IO::Socket::INET;
my ($to, $name, $type) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => $to, Proto => "udp") or die $!;
my $query = pack("n6", 1, 0x0100, 1, 0, 0, 0) . join("", map { pack("C/a", $_) } split(/\./, $name)) . pack("Cnn", 0, $type, 1);
print $socket $query; $socket->flush;
my $n = sysread($socket, my $answer, 512);
print defined $n ? "code " . (unpack("n2", $answer))[1] % 16 . ", " . (unpack("n4", $answer))[3] . " answers\n" : "error: $!\n";
`;

let root = "";
let env: NodeJS.ProcessEnv;
let web: Server;
let secure: Server;
const seen: string[] = [];

beforeAll(async () => {
  ({ root, env } = await makeRoot());
  await mkdir(join(root, "project"));
  await writeFile(join(root, "project", "request.pl"), REQUEST);
  await writeFile(join(root, "project", "query.pl"), QUERY);
  const names = ["-keyout", "key.pem", "-out", "ca.pem", "-subj", "/CN=secure.test"];
  const options = ["-days", "2", "-addext", "subjectAltName=DNS:secure.test", ...names];
  const argv = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", ...options];
  execFileSync("openssl", argv, { cwd: join(root, "project"), stdio: "ignore" });
  const [key, cert] = await Promise.all(["key.pem", "ca.pem"].map((name) => readFile(join(root, "project", name))));
  web = createServer((request, response) => {
    seen.push(`${request.method} ${request.headers.host}${request.url} ${request.headers.connection}`);
    if (request.url === "/large") response.end(LARGE);
    else if (request.url === "/wait") response.write("waits");
    else if (request.method === "POST") void text(request).then((body) => response.end(`got ${body}`));
    else response.end("hello");
  });
  secure = createSecureServer({ key, cert }, (_, response) => response.end("hello over TLS"));
  for (const server of [web, secure]) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  }
});
afterAll(async () => {
  for (const server of [web, secure]) {
    server.closeAllConnections();
    server.close();
  }
  const { sandboxes } = JSON.parse((await sandbox("ls", "--json")).stdout) as { sandboxes: { name: string }[] };
  for (const { name } of sandboxes) await sandbox("stop", "--discard", name);
  await rm(root, { recursive: true, force: true });
});

/** Runs the built command in the project. */
async function sandbox(...argv: string[]): Promise<Run> {
  return runCommand(argv, { cwd: join(root, "project"), env }).end;
}

const inside = async (script: string, name = "vm-1"): Promise<string> =>
  (await sandbox("exec", "-n", name, "--", "sh", "-c", script)).stdout;
const portOf = (server: Server): number => (server.address() as AddressInfo).port;
/** A shell command that sends a request. */
const request = (to: string, host: string, path = "/"): string =>
  `perl request.pl ${to} 'GET ${path} HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n'`;
/** Reasons of refusals in what was printed, in their order. */
const reasons = (output: string): string[] =>
  [...output.matchAll(/"reason":"([^"]+)"/g)].map(([, reason]) => reason ?? "");

// In this order: all of it in one machine, and copies of that.
describe("the network of a sandbox", () => {
  test("leads to what is allowed, and carries what there is to carry", async () => {
    const started = await sandbox(
      ...["start", "--isolated", "--image", join(root, "guest"), "--memory", "512"],
      ...["--allow", `web.test=127.0.0.1:${portOf(web)}`, "--allow", `*.test:443=127.0.0.1:${portOf(secure)}`],
      ...["--allow", `localhost:${portOf(web)}`],
    );
    expect(started).toMatchObject({ exitCode: 0, stdout: "vm-1 127.0.1.1\n" });
    const output = await inside(
      [
        request("web.test:80", "web.test"),
        "perl request.pl web.test:80 'POST / HTTP/1.1\\r\\nHost: web.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\nabc\\r\\n0\\r\\n\\r\\nGET /second HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n'",
      ].join("; "),
    );
    expect(output).toContain("\r\n\r\nhello");
    expect(output).toContain("\r\n\r\ngot abc");
    // One request for each connection: what follows could be for anybody.
    expect(seen).toEqual(["GET web.test/ close", "POST web.test/ close"]);
    const body = `perl -e 'while (<STDIN>) { last if $_ eq "\\r\\n" } while (read(STDIN, $_, 65536)) { print }'`;
    expect(await inside(`${request("web.test:80", "web.test", "/large")} | ${body} | sha256sum`)).toContain(
      digest(LARGE),
    );
    const client = "openssl s_client -quiet -ign_eof -verify_return_error -CAfile ca.pem -connect secure.test:443";
    const get = "printf 'GET / HTTP/1.1\\r\\nHost: secure.test\\r\\nConnection: close\\r\\n\\r\\n'";
    const tls = await inside(
      `${get} | ${client} -verify_hostname secure.test -servername secure.test 2>&1; ${get} | ${client} -servername other.test 2>&1; ${get} | ${client} -noservername 2>&1`,
    );
    expect(tls.match(/hello over TLS/g)).toHaveLength(1);
    expect(tls.match(/alert access denied/g)).toHaveLength(2);
  });

  test("refuses all else at once, and says why", async () => {
    const [port] = [portOf(web)];
    const output = await inside(
      [
        request("refused.example:80", "refused.example"),
        request("192.0.2.1:80", "web.test"),
        request("web.test:80", "other.test"),
        request("web.test:8080", "web.test:8080"),
        // The guest's own name for itself has no dot at the end; what the host has for it is its loopback.
        request(`localhost.:${port}`, `localhost:${port}`),
      ].join("; "),
    );
    expect(reasons(output)).toEqual([
      "not-allowed",
      "raw-address",
      "other-name",
      "port-not-allowed",
      "private-address",
    ]);
    expect(output).toContain(
      '"hint":"no rule allows this name; on the host: leveret-sandbox net allow refused.example"',
    );
    const closed = await inside(
      [
        request("192.0.2.1:22", "web.test"),
        "perl request.pl web.test:80 'SSH-2.0-x\\r\\n'",
        "perl query.pl 192.0.2.53:53 web.test 1",
        "perl query.pl 198.18.0.1:53 c2VjcmV0.tunnel.example 16",
        "perl query.pl 198.18.0.1:53 web.test 28",
        "perl query.pl 198.18.0.1:53 web.test 1",
        "ls /proc/sys/net/ipv6/conf/net0 >/dev/null && cat /proc/sys/net/ipv6/conf/net0/disable_ipv6",
      ].join("; "),
    );
    expect(closed.split("\n")).toEqual([
      "no connection: Connection refused",
      "error: Connection reset by peer",
      "error: No route to host",
      "code 3, 0 answers",
      "code 0, 0 answers",
      "code 0, 1 answers",
      "1",
      "",
    ]);
    expect(seen.filter((line) => line.includes("other") || line.includes("localhost"))).toEqual([]);
    const log = (await sandbox("net", "log")).stdout;
    expect(log).toMatch(/1 +refused +dns +c2vjcmv0\.tunnel\.example +not-allowed/);
    expect(log).toMatch(/1 +refused +udp +192\.0\.2\.53:53 +udp/);
    expect(log).toMatch(/allowed +http +web\.test:80 +\d+ bytes out, 500\d{5} in/);
  });

  test("changes while the machine runs, and says what it would do", async () => {
    const why = async (where: string): Promise<[number | null, string]> => {
      const { exitCode, stdout } = await sandbox("net", "why", where);
      return [exitCode, stdout];
    };
    const rule = `late.example=127.0.0.1:${portOf(web)}`;
    expect(await why("late.example:80")).toEqual([1, expect.stringContaining("refused: not-allowed")]);
    expect(await why(`localhost:${portOf(web)}`)).toEqual([1, expect.stringContaining("refused: private-address")]);
    expect((await sandbox("net", "allow", rule)).stdout).toContain(rule);
    expect(await why("late.example:80")).toEqual([0, expect.stringContaining("leads to 127.0.0.1")]);
    const output = await inside(request("late.example:80", "late.example"));
    expect(output).toContain("hello");
    expect((await sandbox("net", "rules", "--used")).stdout).toContain(`"late.example:80=127.0.0.1:${portOf(web)}"`);
    await sandbox("net", "deny", "late.example");
    expect(reasons(await inside(request("late.example:80", "late.example")))).toEqual(["denied"]);
    const wrong = await sandbox("net", "allow", "http://late.example/path");
    expect(wrong).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("SANDBOX_NETWORK_RULE") });
    expect((await sandbox("start", "--new", "--allow-preset", "none")).stderr).toContain(
      "expected one of the presets npm",
    );
  });

  test("is a copy's own: rules go along, connections are reset, what is denied there is denied there", async () => {
    const waiting = `nohup ${request("web.test:80", "web.test", "/wait")} > /tmp/waiting 2>&1 < /dev/null &`;
    await inside(`perl -MIO::Socket::INET -e '1'; ${waiting}`);
    await expect.poll(() => seen.filter((line) => line.includes("/wait")).length).toBe(1);
    expect((await sandbox("fork", "vm-1")).stdout).toBe("vm-2 127.0.1.2\n");
    // What the program prints when its connection ends: what it had got, and in the copy that it ended.
    await expect.poll(() => inside("cat /tmp/waiting", "vm-2")).toContain("waits");
    expect(await inside("cat /tmp/waiting")).toBe("");
    expect(await inside(request("web.test:80", "web.test"), "vm-2")).toContain("hello");
    await sandbox("net", "deny", "web.test", "-n", "vm-2");
    const asked = request("web.test:80", "web.test");
    expect(reasons(await inside(asked, "vm-2"))).toEqual(["denied"]);
    expect(await inside(asked)).toContain("hello");
    // What is open ends where it is denied.
    await sandbox("net", "deny", "web.test", "-n", "vm-1");
    await expect.poll(() => inside("cat /tmp/waiting")).toContain("waits");
  });
});
