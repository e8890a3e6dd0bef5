import { createHash } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  DEFAULT_MAX_REMOTE_OUTCOMES,
  DEFAULT_MAX_REMOTE_REQUESTS,
  DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT,
  decideSigningRequest,
  listSigningRequests,
  remoteSigner,
  type SigningServerOptions,
  startSigningServer,
} from "../../src/index.ts";
import { SigningRequests } from "../../src/remote/requests.ts";
import { rejectionOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const token = (name: string): string => createHash("sha256").update(name).digest("hex");
const CLIENTS = ["one", "two", "three", "four", "five"] as const;
const digestOf = (index: number): Uint8Array =>
  Uint8Array.from(Buffer.from(index.toString(16).padStart(64, "0"), "hex"));

async function serve(options: Partial<SigningServerOptions> = {}): Promise<string> {
  const server = await startSigningServer({
    signer: testSigner(),
    clients: Object.fromEntries(CLIENTS.map((name) => [name, token(name)])),
    approvers: { ann: token("ann") },
    approvals: 1,
    anyDigest: true,
    ...options,
  });
  onTestFinished(() => server.close());
  return server.address;
}

/** Sends a request as a client does, and returns the answer. */
async function post(address: string, client: string, index: number): Promise<Response> {
  const digest = Buffer.from(digestOf(index)).toString("hex");
  return await fetch(`${address}/v1/requests`, {
    method: "POST",
    headers: { authorization: `Bearer ${token(client)}` },
    body: JSON.stringify({ version: 1, hash: "sha256", padding: "pkcs1", digest }),
  });
}

/** What a signer keeps, without connections and with a key that signs in no time. */
function store(approvals: number): {
  requests: SigningRequests;
  ask: (client: string, index: number) => Promise<string>;
} {
  const requests = new SigningRequests({
    signer: { ...testSigner(), signDigest: () => Promise.resolve(new Uint8Array(256)) },
    approvals,
    expireMs: 60_000,
    anyDigest: true,
    onEvent: () => {},
  });
  onTestFinished(() => requests.close());
  const ask = async (client: string, index: number): Promise<string> => {
    const digest = Buffer.from(digestOf(index)).toString("hex");
    return (await requests.ask(client, { hash: "sha256", padding: "pkcs1", digest })).id;
  };
  return { requests, ask };
}

describe("a remote signer with many requests", () => {
  test("goes on signing, for whoever asks, however much it has signed", async () => {
    const { requests, ask } = store(0);
    const other = await ask("two", 0);
    const oldest = await ask("one", 0);
    let last = oldest;
    for (let index = 1; index <= DEFAULT_MAX_REMOTE_OUTCOMES; index++) last = await ask("one", index);
    await ask("two", 1);
    // The client that asked so much has lost its own outcomes, and nobody else has.
    expect(() => requests.get(oldest)).toThrow("expected a request that is known, got none");
    expect([requests.get(other).state, requests.get(last).state]).toEqual(["signed", "signed"]);
  });

  test("lets those of one client wait up to a number, and takes those of others, and known ones", async () => {
    const address = await serve();
    for (let index = 0; index < DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT; index++) {
      expect((await post(address, "one", index)).status).toBe(200);
    }
    const refused = await post(address, "one", 1000);
    expect([refused.status, await refused.json()]).toEqual([
      429,
      {
        kind: "error",
        version: 1,
        code: "UKI_SIGN_REMOTE_BUSY",
        message: "expected at most 32 requests of one to wait, got one more",
      },
    ]);
    expect((await post(address, "one", 0)).status).toBe(200);
    expect((await post(address, "two", 1000)).status).toBe(200);
  });

  test("lets no more wait in all than it says", async () => {
    const { requests, ask } = store(1);
    for (let index = 0; index < DEFAULT_MAX_REMOTE_REQUESTS; index++) {
      await ask(CLIENTS[Math.floor(index / DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT)] ?? "", index);
    }
    const refused = await rejectionOf(ask("five", 0));
    expect([refused.code, refused.message]).toEqual([
      "UKI_SIGN_REMOTE_BUSY",
      "expected at most 128 requests of all clients to wait, got one more",
    ]);
    expect(requests.pending()).toHaveLength(DEFAULT_MAX_REMOTE_REQUESTS);
  });

  test("is asked again by its client until there is room, and else the client says what to do", async () => {
    const address = await serve();
    for (let index = 0; index < DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT; index++) await post(address, "one", index);
    const hurried = await remoteSigner(address, { token: token("one"), busyTimeoutMs: 0 });
    const error = await rejectionOf(hurried.signDigest("sha256", digestOf(1000)));
    expect([error.code, error.hint]).toEqual([
      "UKI_SIGN_REMOTE_BUSY",
      "approve or refuse what waits (uki-sign signer requests), or ask again when it has expired",
    ]);
    const approver = { token: token("ann") };
    const patient = await remoteSigner(address, {
      token: token("one"),
      onPending: (request) => void decideSigningRequest(address, request, "approve", approver),
    });
    const signed = patient.signDigest("sha256", digestOf(1000));
    const [oldest] = await listSigningRequests(address, approver);
    if (oldest !== undefined) await decideSigningRequest(address, oldest, "refuse", approver);
    expect(await signed).toEqual(await testSigner().signDigest("sha256", digestOf(1000)));
  });
});
