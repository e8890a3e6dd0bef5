import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { decodeDnsQuery } from "../src/network/format/dns.ts";
import { decodeClientHello, TLS_ACCESS_DENIED } from "../src/network/format/tls.ts";
import { networkCases } from "../src/prove/network-cases.ts";
import { decodeHeard, encodeProbe, type Heard, PROBE_PROGRAM, type Probe, textOf } from "../src/prove/probe.ts";
import type { ProofCase, Surroundings } from "../src/prove/prove.ts";
import { clientHello, dnsQuery } from "../src/prove/words.ts";
import { workspaceCases } from "../src/prove/workspace-cases.ts";

const TOKEN = "what is in a file of the host";
const surroundings = (reached?: string): Surroundings => ({
  allow: [{ text: "web.test", source: "a test" }],
  canary: { host: "canary.test", port: 1, reached: () => reached },
  directory: "/home/me/project",
  place: ".leveret-prove-x",
  outside: "/home/me/outside",
  token: TOKEN,
  nonce: "x",
});
const casesOf = (where: Surroundings): ProofCase[] => [...networkCases(where), ...workspaceCases(where)];
const answer = (text: string): Heard => ({ bytes: Buffer.from(text, "latin1") });
const refusal = (reason: string): Heard =>
  answer(
    `HTTP/1.1 403 Forbidden\r\n\r\n{"kind":"sandbox-network-refused","version":1,"host":"a","port":80,"reason":"${reason}"}`,
  );
const found = (each: ProofCase, heard: Heard): string | undefined => each.judge(each.probes.map(() => heard));

const portOf = async (server: Server): Promise<number> => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
};

test("every case fails when somebody answers, and none when nobody does", () => {
  for (const each of casesOf(surroundings("a server was reached"))) {
    const worst = each.name === "malformed-frames" ? {} : answer(`HTTP/1.1 200 OK\r\n\r\n${TOKEN}`);
    expect(found(each, worst), each.name).toBeDefined();
  }
  for (const each of casesOf(surroundings())) {
    const right = each.name === "malformed-frames" ? answer("an answer") : { error: "Connection refused" };
    expect(found(each, right), each.name).toBeUndefined();
  }
});

test("a name that the host has looked up has got through, whatever came of it", () => {
  const [tunnel] = casesOf(surroundings()).filter(({ name }) => name === "dns-tunnel");
  const judge = (reason: string): string | undefined => tunnel?.judge([{}, {}, refusal(reason)]);
  expect(["not-allowed", "denied"].map(judge)).toEqual([undefined, undefined]);
  expect(["unresolved", "private-address", "unreachable"].map(judge)).toEqual(Array(3).fill(expect.any(String)));
  const lies = casesOf(surroundings()).find(({ name }) => name === "sni-lies");
  expect(lies && found(lies, { bytes: TLS_ACCESS_DENIED })).toBeUndefined();
});

test("files outside are found where nothing keeps anybody from them: on the host itself", async () => {
  const root = await mkdtemp(join(tmpdir(), "prove-"));
  const directory = join(root, "project");
  const where = { ...surroundings(), directory, outside: join(root, "away", "outside") };
  for (const each of workspaceCases(where)) {
    await rm(root, { recursive: true });
    await mkdir(join(directory, where.place), { recursive: true });
    await mkdir(join(root, "away"));
    await writeFile(where.outside, TOKEN);
    await writeFile(join(directory, where.place, ".env"), TOKEN);
    await symlink(where.outside, join(directory, where.place, "of-host"));
    const scripts = each.probes.map((probe) => (probe.kind === "shell" ? probe.script : ""));
    const heard = scripts.map((script) => {
      const own = script.replaceAll("/workspace", directory).replaceAll("/tmp/prove-copy", join(root, "copy"));
      return answer(spawnSync("sh", ["-c", own], { encoding: "latin1" }).stdout);
    });
    expect(each.judge(heard), each.name).toBeDefined();
  }
  await rm(root, { recursive: true });
});

test("what is said is what it has to be for the gateway to read it", () => {
  expect(decodeDnsQuery(dnsQuery("data.prove.invalid", 16))).toMatchObject({ name: "data.prove.invalid", type: 16 });
  const hello = clientHello({ serverName: "a.test", isEncrypted: true });
  expect(decodeClientHello(hello)).toEqual({ serverName: "a.test", isEncrypted: true, length: hello.length });
  expect(decodeClientHello(clientHello({}))).toMatchObject({ serverName: undefined, isEncrypted: false });
});

test("probes say what they hear, or why they do not", async () => {
  const server = createServer((socket) => socket.once("data", (data) => socket.end(`got ${data}`)));
  const port = await portOf(server);
  const closed = createServer();
  const unused = await portOf(closed);
  closed.close();
  await once(closed, "close");
  const bytes = Buffer.from("hello");
  const probes: Probe[] = [
    { kind: "tcp", host: "127.0.0.1", port, bytes },
    { kind: "tcp", host: "127.0.0.1", port: unused, bytes },
    { kind: "udp", host: "127.0.0.1", port: unused, bytes },
    { kind: "shell", script: `echo "it's"; cat nothing-here\nprintf end` },
  ];
  const child = spawn("perl", ["-e", PROBE_PROGRAM], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(probes.map((probe) => `${encodeProbe(probe)}\n`).join(""));
  const heard = (await text(child.stdout)).trimEnd().split("\n").map(decodeHeard);
  server.close();
  expect(heard.slice(0, 3)).toEqual([
    { bytes: Buffer.from("got hello") },
    { error: "Connection refused" },
    { error: "Connection refused" },
  ]);
  expect(heard[3] && textOf(heard[3])).toMatch(/^it's\ncat: .*nothing-here.*\nend$/);
});
