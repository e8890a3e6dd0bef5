import { execFileSync, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeRoot, type Run, runCommand } from "../command.ts";

/** Names of the server that speaks TLS. */
const SECURE = ["secure.test", "api.inside.example", "git.inside.example"];
/** What no guest ever sees. */
const SECRET = `value-${randomBytes(16).toString("hex")}`;
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
const seenOverTls: string[] = [];

beforeAll(async () => {
  ({ root, env } = await makeRoot());
  await mkdir(join(root, "project"));
  await writeFile(join(root, "project", "request.pl"), REQUEST);
  await writeFile(join(root, "project", "query.pl"), QUERY);
  const names = ["-keyout", "key.pem", "-out", "ca.pem", "-subj", "/CN=secure.test"];
  const options = ["-days", "2", "-addext", `subjectAltName=${SECURE.map((name) => `DNS:${name}`)}`, ...names];
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
  // What the host trusts besides.
  env = { ...env, NODE_EXTRA_CA_CERTS: join(root, "project", "ca.pem"), API_TOKEN: SECRET };
  secure = createSecureServer({ key, cert }, ({ method, url, headers }, response) => {
    seenOverTls.push(`${method} ${headers.host}${url} ${headers.authorization}`);
    response.setHeader("X-Echo", headers.authorization ?? "none");
    response.end(url === "/" ? "hello over TLS" : JSON.stringify(headers));
  });
  secure.on("upgrade", (_, socket: Socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.once("data", (data) => socket.end(`${data}`.toUpperCase()));
  });
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
const childrenOf = (pid: number): number[] =>
  spawnSync("pgrep", ["-P", `${pid}`], { encoding: "utf8" })
    .stdout.split("\n")
    .filter(Boolean)
    .map(Number);
const portOf = (server: Server): number => (server.address() as AddressInfo).port;
/** A shell command that sends a request. */
const request = (to: string, host: string, path = "/"): string =>
  `perl request.pl ${to} 'GET ${path} HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n'`;
/** A shell command that sends a request over TLS, with one field more, and takes only certificates that are right. */
const https = (name: string, line: string, field = "X: none", options = ""): string => {
  const host = field.startsWith("Host") ? "" : `\\r\\nHost: ${name}`;
  const client = `openssl s_client -quiet -verify_return_error -verify_hostname ${name} -servername ${name} ${options}`;
  return `printf "${line} HTTP/1.1${host}\\r\\n${field}\\r\\n\\r\\n" | ${client} -connect ${name}:443 2>&1`;
};
/** Reasons of refusals in what was printed, in their order. */
const reasons = (output: string): string[] =>
  [...output.matchAll(/"reason":"([^"]+)"/g)].map(([, reason]) => reason ?? "");

// In this order: all of it in one machine, and copies of that.
describe("the network of a sandbox", () => {
  test("leads to what is allowed, and carries what there is to carry", async () => {
    const started = await sandbox(
      ...["start", "--isolated", "--image", join(root, "guest"), "--memory", "512"],
      ...["--allow", `web.test=127.0.0.1:${portOf(web)}`, "--allow", `*.test:443=127.0.0.1:${portOf(secure)}`],
      ...["--allow", `localhost:${portOf(web)}`, "--allow", `api.inside.example:443=127.0.0.1:${portOf(secure)}`],
      ...["--allow", `git.inside.example:443=127.0.0.1:${portOf(secure)} GET /owner/repository.git/*`],
      ...["--secret", "API_TOKEN=env:API_TOKEN@api.inside.example,git.inside.example/owner/repository.git/*"],
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

  test("has secrets put into requests by the host, and the guest never has them", async () => {
    const placeholder = (await inside("printenv API_TOKEN")).trim();
    expect(placeholder).toHaveLength(SECRET.length);
    const output = await inside(
      [
        https("api.inside.example", "GET /bearer", "Authorization: Bearer $API_TOKEN"),
        https("api.inside.example", "GET /basic", "Authorization: Basic $(printf 'me:%s' $API_TOKEN | base64 -w 0)"),
        https("git.inside.example", "GET /owner/repository.git/info/refs", "Authorization: Bearer $API_TOKEN"),
        https("secure.test", "GET /other", "Authorization: Bearer $API_TOKEN", "-CAfile ca.pem"),
      ].join("; "),
    );
    const basic = (text: string): string => `Basic ${Buffer.from(`me:${text}`).toString("base64")}`;
    expect(seenOverTls.filter((line) => !line.includes(" secure.test/ "))).toEqual([
      `GET api.inside.example/bearer Bearer ${SECRET}`,
      `GET api.inside.example/basic ${basic(SECRET)}`,
      `GET git.inside.example/owner/repository.git/info/refs Bearer ${SECRET}`,
      `GET secure.test/other Bearer ${placeholder}`,
    ]);
    // What the server sends back, in the head and in the body.
    expect(output.split(`Bearer ${placeholder}`)).toHaveLength(7);
    expect(output.split(basic(placeholder))).toHaveLength(3);
    expect(output).not.toContain(SECRET);
    expect(output).not.toContain(basic(SECRET));
  });

  test("lets through only requests that rules are about, and looks into no other TLS", async () => {
    const output = await inside(
      [
        https("git.inside.example", "POST /owner/repository.git/git-receive-pack"),
        https("git.inside.example", "GET /owner/other.git/info/refs"),
        https("git.inside.example", "GET /owner/repository.git/../other.git/info/refs"),
        https("api.inside.example", "GET /x", "Host: secure.test"),
      ].join("; "),
    );
    expect(reasons(output)).toEqual([
      "request-not-allowed",
      "request-not-allowed",
      "request-not-allowed",
      "other-name",
    ]);
    expect(output).toContain("net allow 'git.inside.example:443 GET /owner/other.git/info/refs'");
    const issuer = (name: string): string =>
      `openssl s_client -connect ${name}:443 -servername ${name} </dev/null 2>&1`;
    expect(await inside(issuer("api.inside.example"))).toContain("issuer=CN=leveret sandbox");
    expect(await inside(issuer("secure.test"))).toContain("issuer=CN=secure.test");
    expect(await inside(`${issuer("api.inside.example")} -alpn h2,http/1.1`)).toContain("ALPN protocol: http/1.1");
    const why = await sandbox("net", "why", "git.inside.example", "POST", "/owner/repository.git/git-receive-pack");
    expect(why).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("refused: request-not-allowed") });
    expect((await sandbox("net", "why", "git.inside.example")).stdout).toContain("put into requests: API_TOKEN");
    expect((await sandbox("net", "log")).stdout).toContain("request-not-allowed: GET /owner/other.git/info/refs");
    // What the guest trusts is nothing to the host.
    await sandbox("net", "allow", `wrong.inside.example:443=127.0.0.1:${portOf(secure)} GET`);
    expect(reasons(await inside(https("wrong.inside.example", "GET /")))).toEqual(["untrusted"]);
  });

  test("passes WebSocket through, when the host agrees to it", async () => {
    const upgrade = "Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\nquiet words";
    expect(await inside(https("api.inside.example", "GET /socket", upgrade))).toContain("QUIET WORDS");
    const refused = "Connection: Upgrade\\r\\nUpgrade: h2c\\r\\n\\r\\nGET /second HTTP/1.1\\r\\nHost: other.test";
    expect(await inside(https("api.inside.example", "GET /plain", refused))).toContain("HTTP/1.1 200 OK");
    expect(seenOverTls.filter((line) => line.includes("/second"))).toEqual([]);
  });

  test("is proven to have no other way out, and has one with a rule that is too wide", async () => {
    const right = await sandbox("prove");
    expect(right).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^✓ +dns-tunnel [\s\S]*✓ +mount-swap /) });
    expect(right.stdout).not.toContain("✗");
    await sandbox("net", "allow", "*.invalid");
    const { exitCode, stdout } = await sandbox("prove", "--json");
    const { cases } = JSON.parse(stdout) as { cases: { name: string; passed: boolean; found?: string }[] };
    const failed = cases.filter(({ passed }) => !passed).map(({ name, found }) => `${name}: ${found}`);
    expect([exitCode, ...failed]).toEqual([
      1,
      "dns-tunnel: it was refused only because it is unresolved",
      "redirects: it was refused only because it is unresolved",
    ]);
    expect(readdirSync(join(root, "project")).filter((name) => name.startsWith(".leveret"))).toEqual([]);
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
    // Its secrets are given to it, or it has none.
    const token = https("api.inside.example", "GET /copy", "Authorization: Bearer $API_TOKEN");
    expect(reasons(await inside(token, "vm-2"))).toEqual(["secret-missing"]);
    await sandbox("net", "secret", "API_TOKEN=env:API_TOKEN@api.inside.example", "-n", "vm-2");
    expect(await inside(token, "vm-2")).toContain("HTTP/1.1 200 OK");
    expect(seenOverTls.at(-1)).toBe(`GET api.inside.example/copy Bearer ${SECRET}`);
    await sandbox("net", "deny", "web.test", "-n", "vm-2");
    const asked = request("web.test:80", "web.test");
    expect(reasons(await inside(asked, "vm-2"))).toEqual(["denied"]);
    expect(await inside(asked)).toContain("hello");
    // What is open ends where it is denied.
    await sandbox("net", "deny", "web.test", "-n", "vm-1");
    await expect.poll(() => inside("cat /tmp/waiting")).toContain("waits");
  });

  test("leaves no secret anywhere: not in memory, on a disk, in an environment, an argument or a log", async () => {
    const placeholder = (await inside("printenv API_TOKEN")).trim();
    await sandbox("checkpoint");
    const { sandboxes } = JSON.parse((await sandbox("ls", "--json")).stdout) as { sandboxes: { pid: number }[] };
    const processes = sandboxes.flatMap(({ pid }) => [pid, ...childrenOf(pid)]);
    expect(processes.length).toBeGreaterThan(sandboxes.length);
    const files = processes.flatMap((pid) => [`/proc/${pid}/environ`, `/proc/${pid}/cmdline`]);
    const found = (text: string): string =>
      spawnSync("grep", ["-rlFa", text, join(root, "state"), ...files], { encoding: "utf8" }).stdout;
    // The memory of the guest is among what is looked through.
    expect(found(placeholder)).toContain("checkpoints");
    expect(found(SECRET)).toBe("");
    const said = await Promise.all([sandbox("logs"), sandbox("net", "log", "--json"), sandbox("net", "rules")]);
    expect(said.map(({ stdout }) => stdout).join()).not.toContain(SECRET);
  });
});
