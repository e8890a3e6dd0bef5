import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createConnection } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  buildUki,
  decideSigningRequest,
  describePe,
  listSigningRequests,
  type RemoteSigner,
  remoteSigner,
  type SigningRequest,
  type SigningServerOptions,
  signPe,
  signRootHash,
  startSigningServer,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { rejectionOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { scratch } from "../support/oracles.ts";
import { testKernel, testStub } from "../support/pe.ts";

const token = (name: string): string => createHash("sha256").update(name).digest("hex");
const [BUILDER, OTHER, ANN, BOB, CAROL] = ["builder", "other", "ann", "bob", "carol"].map(token) as [
  string,
  string,
  string,
  string,
  string,
];
const certificate = await testCertificate();
const image = buildUki({ stub: testStub(), linux: testKernel(), osRelease: "ID=hare\n", cmdline: "quiet" });
const DIGEST = new Uint8Array(32).fill(7);

/** A remote signer with two clients and three approvers. */
async function serve(options: Partial<SigningServerOptions> = {}): Promise<{ address: string; events: string[] }> {
  const events: string[] = [];
  const server = await startSigningServer({
    signer: testSigner(),
    clients: { builder: BUILDER, other: OTHER },
    approvers: { ann: ANN, bob: BOB, carol: CAROL },
    approvals: 2,
    onEvent: ({ event, by }) => events.push(by === undefined ? event : `${event} by ${by}`),
    ...options,
  });
  onTestFinished(() => server.close());
  return { address: server.address, events };
}

/** Asks for a signature about the image; the promise is settled once it is decided. */
async function ask(address: string): Promise<{ pending: SigningRequest; signed: Promise<Uint8Array> }> {
  let onPending: (request: SigningRequest) => void = () => {};
  const seen = new Promise<SigningRequest>((resolve) => {
    onPending = resolve;
  });
  const remote = await remoteSigner(address, { token: BUILDER, onPending });
  const signed = signPe(image, { signer: remote.describing(describePe(image, { name: "linux.efi" })), certificate });
  // Waited for, and its failure looked at, by the test.
  signed.catch(() => {});
  return {
    pending: await Promise.race([seen, signed.then(() => Promise.reject(new Error("signed at once")))]),
    signed,
  };
}

/** Sends bytes to the server as they are, and returns what comes back. */
async function raw(address: string, lines: readonly string[], body = ""): Promise<string> {
  const { port } = new URL(address);
  const socket = createConnection(Number(port), "127.0.0.1");
  socket.on("error", () => {});
  socket.write(
    `${[...lines, "Host: signer", `Content-Length: ${Buffer.byteLength(body)}`].join("\r\n")}\r\n\r\n${body}`,
  );
  return await text(socket);
}

describe("a remote signer", () => {
  test("signs once two approvers have agreed, and the same as the key itself", async () => {
    const { address, events } = await serve();
    const { pending, signed } = await ask(address);
    const [listed] = await listSigningRequests(address, { token: ANN });
    expect(listed).toEqual(pending);
    expect(listed?.description).toMatchObject({ name: "linux.efi", osRelease: "ID=hare\n", cmdline: "quiet" });
    // Approving twice is approving once.
    for (const again of [1, 2]) {
      const state = await decideSigningRequest(address, pending, "approve", { token: ANN });
      expect([again, state.state, state.approvals]).toEqual([again, "pending", ["ann"]]);
    }
    const last = await decideSigningRequest(address, pending, "approve", { token: BOB });
    expect([last.state, last.approvals, last.signature]).toEqual(["signed", ["ann", "bob"], undefined]);
    expect(await signed).toEqual(await signPe(image, { signer: testSigner(), certificate }));
    expect(verifyPe(await signed, { db: { certificates: [certificate] } }).signature).toBe(0);
    expect(events).toEqual(["asked by builder", "approved by ann", "approved by bob", "signed by bob"]);
    expect(await listSigningRequests(address, { token: ANN })).toEqual([]);
  });

  test("does not sign when one approver refuses, whoever approved", async () => {
    const { address } = await serve();
    const { pending, signed } = await ask(address);
    await decideSigningRequest(address, pending, "approve", { token: ANN });
    const { state } = await decideSigningRequest(address, pending, "refuse", { token: BOB });
    expect(state).toBe("refused");
    const error = await rejectionOf(signed);
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_REMOTE_REFUSED",
      "expected approvals, got a refusal by bob",
    ]);
    const late = await rejectionOf(decideSigningRequest(address, pending, "approve", { token: CAROL }));
    expect(late.message).toContain("got one that is refused");
  });

  test("forgets a request that too few approved in time", async () => {
    const { address, events } = await serve({ expireMs: 300 });
    const { pending, signed } = await ask(address);
    await decideSigningRequest(address, pending, "approve", { token: ANN });
    const error = await rejectionOf(signed);
    expect([error.code, error.message]).toEqual(["UKI_SIGN_REMOTE_EXPIRED", "expected 2 approvals in time, got 1"]);
    expect(events.at(-1)).toBe("expired");
    const late = await rejectionOf(decideSigningRequest(address, pending, "approve", { token: BOB }));
    expect(late.code).toBe("UKI_SIGN_REMOTE");
    await expect
      .poll(async () => (await rejectionOf(decideSigningRequest(address, pending, "approve", { token: BOB }))).message)
      .toContain("a request that is known, got none");
  });

  test("knows who may do what", async () => {
    const { address } = await serve();
    const { pending } = await ask(address);
    const unauthorized = async (action: Promise<unknown>): Promise<void> =>
      expect((await rejectionOf(action)).code).toBe("UKI_SIGN_REMOTE_UNAUTHORIZED");
    await unauthorized(remoteSigner(address, { token: token("nobody") }));
    await unauthorized(remoteSigner(address, { token: "two words" }));
    await unauthorized(listSigningRequests(address, { token: BUILDER }));
    await unauthorized(decideSigningRequest(address, pending, "approve", { token: BUILDER }));
    const approver = await remoteSigner(address, { token: ANN });
    await unauthorized(signPe(image, { signer: approver.describing(describePe(image, { name: "x" })), certificate }));
    expect(await raw(address, ["GET /v1/key HTTP/1.1"])).toMatch(/^HTTP\/1.1 401 /);
    expect(await raw(address, [`GET /v1/requests/${pending.id} HTTP/1.1`, `Authorization: Bearer ${OTHER}`])).toContain(
      "a request that is known, got none",
    );
    expect(await raw(address, [`GET /v1/requests/${pending.id} HTTP/1.1`, `Authorization: Bearer ${ANN}`])).toContain(
      '"pending"',
    );
  });

  test("binds a decision to the digest it is about", async () => {
    const { address } = await serve();
    const { pending } = await ask(address);
    const other = { ...pending, digest: "00".repeat(32) };
    const error = await rejectionOf(decideSigningRequest(address, other, "approve", { token: ANN }));
    expect(error.message).toContain("expected a decision about the digest of the request");
    expect((await listSigningRequests(address, { token: ANN }))[0]?.approvals).toEqual([]);
  });

  test("takes the same request again for the one there is", async () => {
    const { address, events } = await serve();
    const first = await ask(address);
    const second = await ask(address);
    expect(second.pending.id).toBe(first.pending.id);
    await decideSigningRequest(address, first.pending, "approve", { token: ANN });
    await decideSigningRequest(address, first.pending, "approve", { token: BOB });
    expect(await first.signed).toEqual(await second.signed);
    expect(events.filter((event) => event.startsWith("asked"))).toHaveLength(1);
  });

  test("signs what it can check only, unless it is told otherwise", async () => {
    const strict = await serve({ approvals: 0 });
    const remote = await remoteSigner(strict.address, { token: BUILDER });
    const bare = await rejectionOf(remote.signDigest("sha256", DIGEST));
    expect(bare.message).toContain("expected a description of what is signed, got a digest alone");
    const lies = remote.describing(describePe(image, { name: "linux.efi" }));
    expect((await rejectionOf(lies.signDigest("sha256", DIGEST))).message).toContain("follows from the description");
    expect((await rejectionOf(lies.signDigest("sha384", new Uint8Array(48)))).message).toContain("follows from");
    for (const size of [48, 64]) {
      // Firmware compares the end of such a digest, and not what approvers would be shown.
      const long = { ...describePe(image, { name: "x" }), digest: "ab".repeat(size) };
      const refused = await rejectionOf(remote.describing(long).signDigest("sha256", DIGEST));
      expect(refused.message).toContain("follows from the description");
    }
    const time = new Date("2026-06-01T00:00:00Z");
    for (const hash of ["sha256", "sha384", "sha512"] as const) {
      const signer = remote.describing(describePe(image, { name: "linux.efi", hash, signingTime: time }));
      const signed = await signPe(image, { signer, certificate, hash, signingTime: time });
      expect(signed).toEqual(await signPe(image, { signer: testSigner(), certificate, hash, signingTime: time }));
    }
    const open = await remoteSigner((await serve({ approvals: 0, anyDigest: true })).address, { token: BUILDER });
    expect(await open.signDigest("sha256", DIGEST, "pss")).toHaveLength(256);
    expect(await signRootHash("ab".repeat(32), { signer: open, certificate })).toEqual(
      await signRootHash("ab".repeat(32), { signer: testSigner(), certificate }),
    );
  });

  test("says to the client only that the key failed", async () => {
    const failing = { ...testSigner(), signDigest: () => Promise.reject(new Error("the PIN is 1234")) };
    const { address, events } = await serve({ approvals: 0, anyDigest: true, signer: failing });
    const remote = await remoteSigner(address, { token: BUILDER });
    const error = await rejectionOf(remote.signDigest("sha256", DIGEST));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_REMOTE",
      "expected a signature, got a failure of the remote signer's key",
    ]);
    expect(events).toEqual(["asked by builder", "failed"]);
  });

  test.each([
    ["no JSON", "{"],
    ["no object", "[]"],
    ["bytes that are no text", "\u00ff\u00fe"],
    ["another version", '{"version":2}'],
    ["a hash that is none", '{"version":1,"hash":"md5","padding":"pkcs1","digest":"00"}'],
    ["a digest that is none", `{"version":1,"hash":"sha256","padding":"pkcs1","digest":"${"0".repeat(63)}g"}`],
    ["an unknown field", `{"version":1,"hash":"sha256","padding":"pkcs1","digest":"${"00".repeat(32)}","key":"db"}`],
    [
      "a description of another kind",
      `{"version":1,"hash":"sha256","padding":"pkcs1","digest":"${"00".repeat(32)}","description":{"kind":"iso"}}`,
    ],
    ["deep nesting", "[".repeat(100_000)],
  ])("refuses %s", async (_what, body) => {
    const { address } = await serve();
    const answer = await raw(address, ["POST /v1/requests HTTP/1.1", `Authorization: Bearer ${BUILDER}`], body);
    expect(answer).toMatch(/^HTTP\/1.1 400 .*"code":"UKI_SIGN_REMOTE"/s);
    expect(answer).not.toContain(BUILDER);
  });

  test("refuses what is too long, paths that it does not have, and what is no HTTP, and goes on", async () => {
    const { address } = await serve();
    const authorization = `Authorization: Bearer ${BUILDER}`;
    expect(await raw(address, ["POST /v1/requests HTTP/1.1", authorization], " ".repeat(200_000))).not.toContain(
      "200 OK",
    );
    for (const path of [
      "/",
      "//",
      "/v2/key",
      "/v1/requests/%2e%2e/approve",
      "/v1/key/more",
      "//v1/key",
      "/v1/__proto__",
    ]) {
      expect(await raw(address, [`GET ${path} HTTP/1.1`, authorization]), path).toMatch(/^HTTP\/1.1 40[01] /);
    }
    expect(await raw(address, ["\u0016\u0003\u0001 garbage"])).not.toContain("200 OK");
    expect(await raw(address, [`GET http://evil/v1/key HTTP/1.1`, authorization])).toMatch(/^HTTP\/1.1 (200|40\d) /);
    expect((await remoteSigner(address, { token: BUILDER })).keyBits).toBe(2048);
  });

  test("is reached through a socket of its owner, which it takes away", async () => {
    const socketPath = join(scratch(), "signer");
    const server = await startSigningServer({ signer: testSigner(), clients: { builder: BUILDER }, socketPath });
    expect(server.address).toBe(`unix:${socketPath}`);
    const remote = await remoteSigner(server.address, { token: BUILDER });
    const signer = remote.describing(describePe(image, { name: "linux.efi" }));
    expect(await signPe(image, { signer, certificate })).toEqual(
      await signPe(image, { signer: testSigner(), certificate }),
    );
    const taken = await rejectionOf(startSigningServer({ signer: testSigner(), clients: {}, socketPath }));
    expect(taken.code).toBe("UKI_SIGN_REMOTE");
    await server.close();
    await server.close();
    expect(existsSync(socketPath)).toBe(false);
    expect((await rejectionOf(remoteSigner(server.address, { token: BUILDER }))).code).toBe("UKI_SIGN_REMOTE");
  });

  test("ends while clients wait", async () => {
    const server = await startSigningServer({
      signer: testSigner(),
      clients: { builder: BUILDER },
      approvers: { ann: ANN },
      approvals: 1,
    });
    const { signed } = await ask(server.address);
    await server.close();
    expect((await rejectionOf(signed)).code).toBe("UKI_SIGN_REMOTE");
  });

  test("lets its client give up", async () => {
    const { address } = await serve();
    const controller = new AbortController();
    const remote = await remoteSigner(address, {
      token: BUILDER,
      signal: controller.signal,
      onPending: () => controller.abort(new Error("Ctrl-C")),
    });
    const signer = remote.describing(describePe(image, { name: "linux.efi" }));
    await expect(signPe(image, { signer, certificate })).rejects.toThrow(/Ctrl-C|abort/);
  });

  test.each([
    ["fewer approvers than approvals", { approvals: 4 }, "expected at least 4 approvers, got 3"],
    ["one token for two", { approvers: { ann: BUILDER }, approvals: 1 }, "both builder and ann have"],
    ["a short token", { clients: { builder: "hare" } }, "at least 32 characters"],
    ["an address on a network without TLS", { host: "0.0.0.0" }, "expected tls"],
    ["TLS without a certificate", { tls: { certificate: "junk", key: "junk" } }, "expected a certificate"],
    ["an address that is not of this machine", { host: "127.0.0.1.example" }, "expected tls"],
  ])("does not start with %s", async (_what, options, message) => {
    const error = await rejectionOf(serve(options));
    expect([error.code, error.message]).toEqual(["UKI_SIGN_BAD_OPTIONS", expect.stringContaining(message)]);
  });
});

describe("a client of a remote signer", () => {
  test.each([
    "http://signer.example:8765",
    "http://127.0.0.1.example",
    "https://ann:secret@signer.example",
    "https://signer.example/path",
    "ftp://signer.example",
    "unix:relative",
    "nonsense",
  ])("does not send a token to %s", async (address) => {
    const error = await rejectionOf(remoteSigner(address, { token: BUILDER }));
    expect(error.code).toBe("UKI_SIGN_REMOTE");
    expect(error.message).not.toContain("secret");
  });

  const key = {
    kind: "uki-signing-key",
    version: 1,
    keyType: "rsa",
    keyBits: 2048,
    publicKey: Buffer.from(testSigner().publicKey).toString("base64"),
  };
  const state = {
    kind: "uki-signing-request",
    version: 1,
    id: "0".repeat(32),
    client: "builder",
    state: "signed",
    hash: "sha256",
    padding: "pkcs1",
    digest: "07".repeat(32),
    approvals: [],
    approvalsNeeded: 0,
    expiresAt: "2026-06-01T00:00:00Z",
    signature: Buffer.alloc(256, 1).toString("base64"),
  };

  /** A client of a server that answers with these two bodies. */
  async function against(first: unknown, second: unknown): Promise<RemoteSigner> {
    const bodies = [first, second].map((body) => (typeof body === "string" ? body : JSON.stringify(body)));
    const server = createServer((_request, response) => response.end(bodies.shift() ?? "{}")).listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    return await remoteSigner(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { token: BUILDER });
  }

  test.each([
    ["nothing", ""],
    ["no JSON", "<html>"],
    ["another document", { kind: "uki-keys", version: 1 }],
    ["a key that is none", { ...key, publicKey: "AAAA" }],
    ["too much", `"${"x".repeat(200_000)}"`],
  ])("refuses a server that answers with %s", async (_what, body) => {
    expect((await rejectionOf(against(body, ""))).code).toBe("UKI_SIGN_REMOTE");
  });

  test.each([
    ["a signature that is none", state],
    ["no signature", { ...state, signature: undefined }],
    ["an identifier that leads elsewhere", { ...state, id: "../../etc" }],
    ["a state that is none", { ...state, state: "done" }],
  ])("refuses a server that signs with %s", async (_what, body) => {
    const remote = await against(key, body);
    expect((await rejectionOf(remote.signDigest("sha256", DIGEST))).code).toBe("UKI_SIGN_REMOTE");
  });
});
