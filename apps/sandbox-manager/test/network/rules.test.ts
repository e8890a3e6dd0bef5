import { networkInterfaces } from "node:os";
import { describe, expect, test, vi } from "vitest";
import { readPresets, SandboxError } from "../../src/index.ts";
import { NetworkLog } from "../../src/network/log.ts";
import { networkReportSchema } from "../../src/network/messages.ts";
import { isHostName, NameTable } from "../../src/network/names.ts";
import { networkSetup } from "../../src/network/options.ts";
import { isPublicAddress } from "../../src/network/resolve.ts";
import { parseRule, RuleSet } from "../../src/network/rules.ts";
import { Stack } from "../../src/network/stack.ts";
import { RefusalError, Upstream } from "../../src/network/upstream.ts";

const rule = (text: string): ReturnType<typeof parseRule> => parseRule(text, "a test");

describe("a rule", () => {
  test.each([
    ["registry.example", { host: "registry.example", isWildcard: false, port: undefined, protocol: "web" }],
    ["*.Example.ORG.:8443", { host: "example.org", isWildcard: true, port: 8443 }],
    ["*", { host: "", isWildcard: true }],
    ["tcp://git.example:22", { host: "git.example", port: 22, protocol: "tcp" }],
    ["api.test=127.0.0.1:3000", { host: "api.test", target: { address: "127.0.0.1", port: 3000 } }],
    ["db.test:5432=[::1]", { host: "db.test", port: 5432, target: { address: "::1", port: undefined } }],
    ["bücher.example", { host: "xn--bcher-kva.example" }],
  ])("is understood: %s", (text, expected) => {
    expect(rule(text)).toMatchObject(expected);
  });

  test.each([
    ...["", "http://a.example", "a.example/path", "a.example:0", "a.example:65536", "a*.example", "*.*.example"],
    ...["tcp://a.example", "10.0.0.1", "a.0x7f", "a.example=", "a.example=host", "a.example=::1", "-a.example", "a..b"],
    ...["a.example=1.2.3", "a b", "a@b.example", "*."],
  ])("that is none is refused: %j", (text) => {
    expect(() => rule(text)).toThrow(SandboxError);
  });
});

test("what is denied is refused whatever allows it, and the narrowest rule decides", () => {
  const of = (texts: readonly string[]) => texts.map((text) => ({ text, source: "a test" }));
  const rules = new RuleSet({
    allow: of(["*.example.org", "a.example.org:8080", "*.example.org:8080=10.0.0.1", "tcp://a.example.org:22"]),
    deny: of(["bad.example.org", "*.internal.example.org:443"]),
  });
  const verdict = (name: string, port: number): string => {
    const found = rules.verdict(name, port);
    return found.allowed ? found.rule.text : found.reason;
  };
  expect(verdict("a.example.org", 443)).toBe("*.example.org");
  expect(verdict("a.example.org", 8080)).toBe("a.example.org:8080");
  expect(verdict("b.example.org", 8080)).toBe("*.example.org:8080=10.0.0.1");
  expect(verdict("a.example.org", 22)).toBe("tcp://a.example.org:22");
  expect(verdict("b.example.org", 22)).toBe("port-not-allowed");
  expect(verdict("example.org", 443)).toBe("not-allowed");
  expect(verdict("xexample.org", 443)).toBe("not-allowed");
  expect(verdict("bad.example.org", 443)).toBe("denied");
  expect(verdict("x.internal.example.org", 443)).toBe("denied");
  expect(verdict("x.internal.example.org", 80)).toBe("*.example.org");
  expect([rules.knows("x.internal.example.org"), rules.knows("bad.example.org"), rules.knows("z")]).toEqual([
    true,
    false,
    false,
  ]);
  rules.deny("*.example.org", "later");
  expect(verdict("a.example.org", 443)).toBe("denied");
  rules.allow("*.example.org", "later");
  expect(verdict("a.example.org", 443)).toBe("*.example.org");
});

test("names stand for addresses that stay, and there are not any number of them", () => {
  const table = new NameTable(["a.example"]);
  const address = table.addressOf("b.example") ?? 0;
  expect([table.nameOf(address), table.nameOf(address - 1), table.nameOf(address + 1)]).toEqual([
    "b.example",
    "a.example",
    undefined,
  ]);
  expect(table.addressOf("b.example")).toBe(address);
  for (let index = 0; index < 5000; index += 1) table.addressOf(`${index}.example`);
  expect(table.addressOf("one-more.example")).toBeUndefined();
  // Who fills it does not do so for good; what is used stays.
  vi.useFakeTimers({ now: Date.now() + 3_600_000, toFake: ["Date"] });
  expect(table.nameOf(address)).toBe("b.example");
  const next = table.addressOf("one-more.example") ?? 0;
  expect([table.nameOf(next), table.addressOf("b.example")]).toEqual(["one-more.example", address]);
  expect(new Set(table.names).size).toBe(4096);
  vi.useRealTimers();
  expect(["127.0.0.1", "1.0x7f", "a.1", "a_b.c", "a b", "", "x".repeat(64), "é"].filter(isHostName)).toEqual(["a_b.c"]);
});

test("only public addresses of a name are gone to", async () => {
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const refused = [
    ...["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "198.18.1.0"],
    ...[
      "224.0.0.1",
      "255.255.255.255",
      "::1",
      "::",
      "fe80::1",
      "fd00::1",
      "ff02::1",
      "::ffff:127.0.0.1",
      "64:ff9b::a00:1",
    ],
    ...["2002:7f00:1::", "2001:db8::1", "::ffff:8.8.8.8", ...own.map(({ address }) => address)],
  ];
  expect(refused.filter(isPublicAddress)).toEqual([]);
  expect(["8.8.8.8", "172.32.0.1", "2606:4700::1111"].filter(isPublicAddress)).toHaveLength(3);

  let answers = ["10.0.0.1", "93.184.216.34", "127.0.0.1"];
  let asked = 0;
  const upstream = new Upstream(async () => {
    asked += 1;
    return answers;
  });
  const pinned = await upstream.locate("a.example", 443, rule("a.example"));
  expect(pinned).toEqual({ addresses: ["93.184.216.34"], port: 443 });
  // A name that leads elsewhere a moment later still leads to where it was looked at.
  answers = ["127.0.0.1"];
  expect(await upstream.locate("a.example", 443, rule("a.example"))).toEqual(pinned);
  expect(asked).toBe(1);
  const rebound = upstream.locate("b.example", 443, rule("b.example"));
  await expect(rebound).rejects.toThrow(RefusalError);
  await expect(rebound).rejects.toMatchObject({ reason: "private-address" });
  expect(await upstream.locate("b.example", 80, rule("b.example=127.0.0.1:1"))).toEqual({
    addresses: ["127.0.0.1"],
    port: 1,
  });
  const missing = new Upstream(async () => Promise.reject(new Error("ENOTFOUND")));
  await expect(missing.locate("c.example", 443, rule("c.example"))).rejects.toMatchObject({ reason: "unresolved" });
});

test("what was let through is not pushed out of the log by what was refused", () => {
  const log = new NetworkLog();
  const tls = { port: 443, protocol: "tls" } as const;
  log.note({ ...tls, host: "a.example", verdict: "allowed" });
  for (let index = 0; index < 3000; index += 1) {
    log.note({ host: `${index}.example`, protocol: "dns", verdict: "refused", reason: "not-allowed" });
  }
  log.note({ host: "198.18.0.9", port: 0, protocol: "udp", verdict: "refused", reason: "udp" });
  const report = { rules: { allow: [], deny: [] }, secrets: [], log: log.entries };
  expect(networkReportSchema.parse(report).log).toHaveLength(1000);
  expect(log.entries[0]).toMatchObject({ host: "a.example", verdict: "allowed" });
});

test("a packet larger than the network's is no end of anything", () => {
  const stack = new Stack({
    send: () => true,
    answer: () => new Uint8Array(),
    accepts: () => false,
    onConnection: () => {},
    onDatagram: () => {},
  });
  stack.receive(new Uint8Array(60_000));
  expect(stack.counts).toMatchObject({ frames: 1, malformed: 1 });
});

test("presets are rules, and what is not there is said", async () => {
  const presets = await readPresets();
  const names = Object.keys(presets);
  vi.stubEnv("npm_config_registry", "https://packages.example:8443/npm/");
  const {
    rules: { allow },
  } = await networkSetup({ presets: names, allow: ["a.example"] }, "/").finally(() => vi.unstubAllEnvs());
  expect(allow[0]).toEqual({ text: "a.example", source: "an option" });
  expect(allow).toContainEqual({ text: "packages.example:8443", source: "preset npm" });
  expect(allow).toHaveLength(2 + Object.values(presets).flatMap((preset) => preset.allow).length);
  await expect(networkSetup({ presets: ["toString"] }, "/")).rejects.toMatchObject({ code: "SANDBOX_NETWORK_RULE" });
  await expect(networkSetup({ files: ["none.json"] }, "/")).rejects.toMatchObject({ path: "/none.json" });
  await expect(networkSetup({ allow: ["a b"] }, "/")).rejects.toMatchObject({ code: "SANDBOX_NETWORK_RULE" });
});

describe("rules about requests", () => {
  const of = (texts: readonly string[]) => texts.map((text) => ({ text, source: "a test" }));
  const rules = new RuleSet({
    allow: of([
      "api.test GET,HEAD /v1/*",
      "api.test POST /v1/*/comments",
      "api.test * /open/*",
      "git.test",
      "tcp://db.test:5432",
    ]),
    deny: of(["git.test DELETE", "git.test * /admin/*"]),
  });
  const verdict = (host: string, line: string, ...fields: string[]): string => {
    const [method = "", target = ""] = line.split(" ");
    const found = rules.verdict(host, 443, { method, target, fields });
    return found.allowed ? found.rule.text : found.reason;
  };

  test.each([
    ["GET /v1/users", "api.test GET,HEAD /v1/*"],
    ["HEAD /v1/users/7?a=/../b", "api.test GET,HEAD /v1/*"],
    ["GET /v1/", "api.test GET,HEAD /v1/*"],
    ["GET /%76%31/users", "api.test GET,HEAD /v1/*"],
    ["POST /v1/7/comments", "api.test POST /v1/*/comments"],
    ["PUT /open/x", "api.test * /open/*"],
    ...[
      ...["GET /v1", "GET /v10/users", "POST /v1/users", "POST /v1/7/8/comments", "POST /v1//comments", "get /v1/x"],
      ...["GET /v1/../admin", "GET /v1/%2e%2e/admin", "GET /v1/..;/admin", "GET /v1/%2E./admin", "GET /v1\\..\\admin"],
      ...[
        "GET /v1/..%2fadmin",
        "GET /v1/..%5cadmin",
        "GET /v1/%252e%252e/admin",
        "GET //v1/x",
        "GET /v1/x%00",
        "OPTIONS *",
      ],
      ...["GET /V1/x", "PUT /openx", "GET /"],
    ].map((line) => [line, "request-not-allowed"]),
  ])("look at the method and the path as a server would: %s", (line, expected) => {
    expect(verdict("api.test", line)).toBe(expected);
  });

  test("refuse what could be another request to a server", () => {
    expect(verdict("api.test", "GET /v1/users", "x-http-method-override")).toBe("request-not-allowed");
    expect(verdict("git.test", "GET /x", "x-original-url")).toBe("denied");
  });

  test("deny what is allowed otherwise, also when it is hidden", () => {
    expect(verdict("git.test", "GET /x")).toBe("git.test");
    for (const line of ["DELETE /x", "GET /admin/x", "GET /%61dmin/x", "GET //admin/x", "GET /x/../admin/y"]) {
      expect(verdict("git.test", line)).toBe("denied");
    }
  });

  test("are those for which TLS has to be looked into, and leave connections alone", () => {
    expect(rules.limits("api.test", 443).allow).toHaveLength(3);
    expect(rules.limits("git.test", 443)).toMatchObject({ allow: [], deny: [{}, {}] });
    expect(rules.limits("api.test", 8443)).toEqual({ allow: [], deny: [] });
    expect([rules.verdict("api.test", 443).allowed, rules.verdict("git.test", 443).allowed]).toEqual([true, true]);
    expect(rules.knows("git.test")).toBe(true);
  });

  test.each([
    "a.test get /x",
    "a.test GET x",
    "a.test GET /../x",
    "a.test GET /a*b/c",
    "a.test GET /x?y",
    "tcp://a.test:22 GET",
  ])("that are none are refused: %s", (text) => {
    expect(() => rule(text)).toThrow(SandboxError);
  });
});
