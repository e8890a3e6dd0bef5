import { createHash } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  buildUki,
  buildUkiProfile,
  decideSigningRequest,
  describePe,
  listSigningRequests,
  measuredSections,
  predictPcrPolicies,
  type RemoteSigner,
  remoteSigner,
  type SigningRequest,
  type SigningServerOptions,
  signPcrPolicies,
  signPe,
  startSigningServer,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { cliWorkspace } from "../support/cli.ts";
import { rejectionOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { testKernel, testStub } from "../support/pe.ts";

const [BUILDER, ANN] = ["builder", "ann"].map((name) => createHash("sha256").update(name).digest("hex")) as [
  string,
  string,
];
const parts = { stub: testStub(), linux: testKernel(), osRelease: "ID=hare\n" };
const debug = buildUkiProfile({ stub: testStub(), profile: "ID=debug\n", cmdline: "debug" });
const image = buildUki({ ...parts, profile: "ID=main\n", joinProfiles: [debug] });
const policies = predictPcrPolicies({ sections: measuredSections(image, { profile: 1 }) });

async function serve(options: Partial<SigningServerOptions> = {}): Promise<string> {
  const server = await startSigningServer({
    ...{ signer: testSigner(), clients: { builder: BUILDER }, approvers: { ann: ANN } },
    ...{ approvals: 1, anyDigest: true },
    ...options,
  });
  onTestFinished(() => server.close());
  return server.address;
}

/** Asks for all policies; the promise is settled once that is decided. */
async function ask(
  address: string,
): Promise<{ remote: RemoteSigner; pending: SigningRequest; signed: Promise<object> }> {
  let tell: (request: SigningRequest) => void = () => {};
  const seen = new Promise<SigningRequest>((resolve) => {
    tell = resolve;
  });
  const remote = await remoteSigner(address, { token: BUILDER, onPending: tell });
  const signed = signPcrPolicies(policies, remote, remote.publicKey);
  signed.catch(() => {});
  return { remote, pending: await seen, signed };
}

describe("a request about many digests", () => {
  test("takes one approval, and gives every signature as the key itself would", async () => {
    const address = await serve();
    const { pending, signed } = await ask(address);
    expect(policies).toHaveLength(12);
    expect(pending.more).toHaveLength(11);
    const decided = await decideSigningRequest(address, pending, "approve", { token: ANN });
    expect([decided.state, decided.signature, decided.moreSignatures]).toEqual(["signed", undefined, undefined]);
    expect(await signed).toEqual(await signPcrPolicies(policies, testSigner(), testSigner().publicKey));
  });

  test("needs a decision that names all of them", async () => {
    const address = await serve();
    const { pending } = await ask(address);
    const { id, digest, more = [] } = pending;
    for (const others of [
      undefined,
      more.slice(1),
      [...more].reverse(),
      [...more, { hash: "sha256", digest } as const],
    ]) {
      const decision = decideSigningRequest(address, { id, digest, more: others }, "approve", { token: ANN });
      expect((await rejectionOf(decision)).code).toBe("UKI_SIGN_REMOTE");
    }
    expect(await listSigningRequests(address, { token: ANN })).toEqual([pending]);
  });

  test("is several when there are too many, and refused by a signer that signs only what it can check", async () => {
    const remote = await remoteSigner(await serve({ approvals: 0 }), { token: BUILDER });
    const digests = Array.from({ length: 130 }, (_, index) => ({
      hash: "sha256" as const,
      digest: new Uint8Array(32).fill(index),
    }));
    const signatures = await remote.signDigests(digests);
    expect(signatures).toHaveLength(130);
    expect(signatures.at(-1)).toEqual(await testSigner().signDigest("sha256", new Uint8Array(32).fill(129)));
    expect(await remote.signDigests([])).toEqual([]);
    const careful = await remoteSigner(await serve({ approvals: 0, anyDigest: false }), { token: BUILDER });
    expect((await rejectionOf(careful.signDigests(digests))).code).toBe("UKI_SIGN_REMOTE");
  });

  test("is approved on the command line by who has the same image, and by nobody else", async () => {
    const address = await serve();
    const other = buildUki({ ...parts, cmdline: "other" });
    const { run } = cliWorkspace({ "linux.efi": image, "other.efi": other, token: ANN });
    const { pending, signed } = await ask(address);
    const approve = (...flags: string[]) =>
      run("signer", "approve", address, pending.id, "--token-file", "token", ...flags);
    expect((await run("signer", "requests", address, "--token-file", "token")).stdout.match(/ signs /g)).toHaveLength(
      12,
    );
    expect(await approve("--image", "other.efi")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("expected a request about policies for other.efi, got one about "),
    });
    expect(await approve("--digest", pending.digest)).toMatchObject({ exitCode: 1 });
    expect((await approve("--image", "linux.efi")).stdout).toBe(`${pending.id}: signed, 1 of 1 approvals\n`);
    expect(await signed).toHaveLength(12);
  });
});

test("a list of long requests can be read", async () => {
  const address = await serve({ approvals: 1 });
  const remote = await remoteSigner(address, { token: BUILDER });
  const certificate = await testCertificate();
  for (let index = 0; index < 24; index++) {
    const long = buildUki({ ...parts, cmdline: `${index} ${"x".repeat(9000)}`, osRelease: "y".repeat(9000) });
    const signer = remote.describing(describePe(long, { name: "linux.efi" }));
    signPe(long, { signer, certificate }).catch(() => {});
  }
  await expect.poll(async () => (await listSigningRequests(address, { token: ANN })).length).toBe(24);
});
