import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { remoteSigner, type SigningServerOptions, startSigningServer } from "../../src/index.ts";
import { rejectionOf } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { scratch } from "../support/oracles.ts";

const BUILDER = "b".repeat(32);
const DIGEST = new Uint8Array(32).fill(7);

async function serve(options: Partial<SigningServerOptions> = {}): Promise<string> {
  const server = await startSigningServer({
    signer: testSigner(),
    clients: { builder: BUILDER },
    anyDigest: true,
    ...options,
  });
  onTestFinished(() => server.close());
  return server.address;
}

/** Opens connections that begin a request and never end it; whoever is thrown out comes back. */
async function crowd(address: string, count: number): Promise<() => number> {
  const { port } = new URL(address);
  const open = new Set<Socket>();
  let [ended, thrownOut] = [false, 0];
  const enter = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = createConnection(Number(port), "127.0.0.1", () => {
        socket.write("GET /v1/key HTTP/1.1\r\nHost: signer\r\nAuthoriz");
        resolve();
      });
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        thrownOut++;
        resolve();
        // Not at once: this process is also the server and the client.
        if (!ended) setTimeout(() => ended || void enter(), 50);
      });
    });
  onTestFinished(() => {
    ended = true;
    for (const socket of open) socket.destroy();
  });
  await Promise.all(Array.from({ length: count }, enter));
  return () => thrownOut;
}

describe("a remote signer", () => {
  test.each([300, 700])("signs without delay while %d others keep connections half open", async (count) => {
    const address = await serve();
    const thrownOut = await crowd(address, count);
    const started = performance.now();
    const remote = await remoteSigner(address, { token: BUILDER });
    await remote.signDigest("sha256", DIGEST);
    expect(performance.now() - started).toBeLessThan(5000);
    if (count > 512) expect(thrownOut()).toBeGreaterThan(100);
  });

  test("ends connections that do not say what they want", async () => {
    const { port } = new URL(await serve());
    const socket = createConnection(Number(port), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => {}).resume();
    const started = performance.now();
    socket.write("GET /v1/key HTTP/1.1\r\n");
    await new Promise((resolve) => socket.once("close", resolve));
    expect(performance.now() - started).toBeLessThan(12_000);
  });

  test("keeps those who wait with a known token, however many come after them", async () => {
    const address = await serve({ approvers: { ann: "a".repeat(32) }, approvals: 1, expireMs: 4000 });
    const remote = await remoteSigner(address, { token: BUILDER });
    const waiting = rejectionOf(remote.signDigest("sha256", DIGEST));
    await crowd(address, 700);
    // Thrown out, it would have been told so rather than that its time is over.
    expect((await waiting).code).toBe("UKI_SIGN_REMOTE_EXPIRED");
  });
});

describe("a UNIX socket of a remote signer", () => {
  test("that a killed one left is taken over", async () => {
    const socketPath = join(scratch(), "signer");
    const script = "net.createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
    spawnSync(process.execPath, ["-e", script, socketPath]);
    expect(existsSync(socketPath)).toBe(true);
    const remote = await remoteSigner(await serve({ socketPath }), { token: BUILDER });
    expect(await remote.signDigest("sha256", DIGEST)).toHaveLength(256);
  });

  test("that is listened at is not, nor is anything that is no socket", async () => {
    const socketPath = join(scratch(), "signer");
    const address = await serve({ socketPath });
    expect((await rejectionOf(serve({ socketPath }))).code).toBe("UKI_SIGN_REMOTE");
    const remote = await remoteSigner(address, { token: BUILDER });
    expect(await remote.signDigest("sha256", DIGEST)).toHaveLength(256);
    const file = join(scratch(), "file");
    writeFileSync(file, "kept");
    expect((await rejectionOf(serve({ socketPath: file }))).code).toBe("UKI_SIGN_REMOTE");
    expect(existsSync(file)).toBe(true);
  });
});
