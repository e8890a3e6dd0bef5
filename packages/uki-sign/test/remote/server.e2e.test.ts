import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { buildUki, encodePem } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { testPem } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { testKernel, testStub } from "../support/pe.ts";

const BIN = fileURLToPath(new URL("../../bin/uki-sign.js", import.meta.url));
const NAMES = ["builder", "ann", "bob", "carol"] as const;
const token = (name: string): string => createHash("sha256").update(name).digest("hex");

interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory with a key, an image, tokens and files of tokens. */
async function workspace(): Promise<string> {
  const folder = scratch();
  const write = (name: string, content: string | Uint8Array): void => writeFileSync(join(folder, name), content);
  write("db.key", testPem());
  write("db.crt", encodePem("CERTIFICATE", (await testCertificate()).der));
  write(
    "linux.efi",
    buildUki({ stub: testStub(), linux: testKernel(), osRelease: 'ID=hare\nNAME="Hare \u001b[31m"\n' }),
  );
  write("other.efi", buildUki({ stub: testStub(), linux: testKernel(), osRelease: "ID=rabbit\n" }));
  for (const name of NAMES) write(`${name}.token`, `${token(name)}\n`);
  write("clients", `# who builds\nbuilder ${token("builder")}\n`);
  write("approvers", ["ann", "bob", "carol"].map((name) => `${name} ${token(name)}\n`).join(""));
  return folder;
}

function start(cwd: string, argv: readonly string[], env = {}): ChildProcessWithoutNullStreams {
  const child = spawn(process.execPath, [BIN, ...argv], {
    cwd,
    env: { ...process.env, NO_COLOR: "1", ...env },
    detached: true,
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

async function ended(child: ChildProcessWithoutNullStreams): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const [exitCode] = (await once(child, "close")) as [number | null];
  return { exitCode, stdout, stderr };
}

/** A running signer: where it is, everything it printed, and how it is ended. */
async function serve(
  cwd: string,
  ...argv: string[]
): Promise<{ address: string; log: () => string; stop: () => Promise<number | null> }> {
  const child = start(cwd, [
    "signer",
    "serve",
    "--key",
    "db.key",
    "--clients",
    "clients",
    "--listen",
    "127.0.0.1:0",
    ...argv,
  ]);
  let log = "";
  child.stdout.on("data", (chunk) => (log += chunk));
  child.stderr.on("data", (chunk) => (log += chunk));
  const closed = once(child, "close");
  await expect.poll(() => log, { timeout: 20_000 }).toContain(": signs for");
  return {
    address: log.slice(0, log.indexOf(": signs for")),
    log: () => log,
    async stop() {
      child.kill("SIGINT");
      return ((await closed) as [number | null])[0];
    },
  };
}

const SIGN = ["--certificate", "db.crt", "--passphrase-file", "builder.token", "linux.efi", "-o", "signed.efi"];

describeWith("uki-sign signer serve", ["sbverify", "openssl"], [], () => {
  test("shows what is signed, and signs it once two have approved an image of their own", async () => {
    const cwd = await workspace();
    const { address, log, stop } = await serve(cwd, "--approvers", "approvers", "--approvals", "2");
    const client = ended(start(cwd, ["sign", "--key", address, ...SIGN]));
    await expect.poll(log, { timeout: 20_000 }).toContain(" asked ");
    expect(log()).toMatch(
      /checked {2}Authenticode signature about the image with digest [0-9a-f]{64}, stating no time\n/,
    );
    expect(log()).toMatch(/claimed {2}file of [^:]+: linux\.efi/);
    expect(log()).toMatch(/claimed {2}os-release:\s+ID=hare\n/);
    expect(log()).not.toContain("\u001b");
    const [, id = ""] = / asked ([0-9a-f]{32}) by builder/.exec(log()) ?? [];
    const approve = (who: string, ...more: string[]): Promise<Outcome> =>
      ended(start(cwd, ["signer", "approve", address, id, "--token-file", `${who}.token`, ...more]));

    const shown = await ended(start(cwd, ["signer", "requests", address, "--token-file", "ann.token"]));
    expect(shown.stdout).toContain(id);
    expect(await approve("ann", "--image", "other.efi")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("[UKI_SIGN_DIGEST_MISMATCH]"),
    });
    expect(await approve("builder", "--image", "linux.efi")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("[UKI_SIGN_REMOTE_UNAUTHORIZED]"),
    });
    expect((await approve("ann", "--image", "linux.efi")).stdout).toBe(`${id}: pending, 1 of 2 approvals\n`);
    expect((await approve("ann", "--image", "linux.efi")).stdout).toBe(`${id}: pending, 1 of 2 approvals\n`);
    expect((await approve("carol", "--image", "linux.efi")).stdout).toBe(`${id}: signed, 2 of 2 approvals\n`);
    expect(await client).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining(`request ${id} waits for 2 approvals`),
    });
    expect(run("sbverify", ["--cert", "db.crt", "signed.efi"], cwd)).toContain("Signature verification OK");
    const after = await ended(start(cwd, ["signer", "requests", address, "--token-file", "ann.token"]));
    expect(after.stdout).toBe("nothing waits\n");

    expect(await stop()).toBe(0);
    for (const name of NAMES) expect(log()).not.toContain(token(name));
    expect(log()).not.toContain("PRIVATE");
  });

  test("leaves nothing behind when a request is refused or expires, or the client gives up", async () => {
    const cwd = await workspace();
    const { address, log, stop } = await serve(cwd, "--approvers", "approvers", "--approvals", "1", "--expire", "4");
    const refused = ended(start(cwd, ["sign", "--key", address, ...SIGN]));
    await expect.poll(log, { timeout: 20_000 }).toContain(" asked ");
    const [, id = ""] = / asked ([0-9a-f]{32})/.exec(log()) ?? [];
    await ended(start(cwd, ["signer", "refuse", address, id, "--token-file", "bob.token"]));
    expect((await refused).stderr).toContain("got a refusal by bob [UKI_SIGN_REMOTE_REFUSED]");

    const expired = await ended(start(cwd, ["sign", "--key", address, ...SIGN]));
    expect(expired).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("[UKI_SIGN_REMOTE_EXPIRED]") });

    const patient = start(cwd, ["sign", "--key", address, ...SIGN]);
    const outcome = ended(patient);
    await expect.poll(() => log().split(" asked ").length, { timeout: 20_000 }).toBe(4);
    patient.kill("SIGINT");
    expect(await outcome).toMatchObject({ exitCode: 130, stdout: "" });
    expect(await stop()).toBe(0);
    expect(existsSync(join(cwd, "signed.efi"))).toBe(false);
    expect(readdirSync(cwd).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("speaks TLS, and is believed only with a certificate that is trusted", async () => {
    const cwd = await workspace();
    const request = "req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 30 -subj /CN=signer";
    run("openssl", [...request.split(" "), "-addext", "subjectAltName=IP:127.0.0.1"], cwd);
    const { address, stop } = await serve(
      cwd,
      "--approvals",
      "0",
      "--tls-certificate",
      "tls.crt",
      "--tls-key",
      "tls.key",
    );
    expect(address).toMatch(/^https:/);
    expect((await ended(start(cwd, ["sign", "--key", address, ...SIGN]))).stderr).toContain("[UKI_SIGN_REMOTE]");
    const trusting = { NODE_EXTRA_CA_CERTS: join(cwd, "tls.crt") };
    expect(await ended(start(cwd, ["sign", "--key", address, ...SIGN], trusting))).toMatchObject({
      exitCode: 0,
      stderr: "",
    });
    expect(run("sbverify", ["--cert", "db.crt", "signed.efi"], cwd)).toContain("Signature verification OK");
    expect(await stop()).toBe(0);
  });

  test.each([
    ["a short token", "builder short\n", "line 1"],
    ["a name twice", `a ${token("a")}\na ${token("b")}\n`, "expected a once"],
    ["something else", Buffer.from([0, 1, 2, 255]), "line 1"],
  ])("does not start with clients that have %s", async (_what, content, message) => {
    const cwd = await workspace();
    writeFileSync(join(cwd, "clients"), content);
    const { exitCode, stderr } = await ended(
      start(cwd, ["signer", "serve", "--key", "db.key", "--clients", "clients", "--approvals", "0"]),
    );
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("[UKI_SIGN_BAD_OPTIONS]")]);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain(token("a"));
  });

  test("is asked with a token that is read from a file, and not with none", async () => {
    const cwd = await workspace();
    const { address, stop } = await serve(cwd, "--approvals", "0");
    const sign = ["sign", "--key", address, "--certificate", "db.crt", "linux.efi", "-o", "signed.efi"];
    expect((await ended(start(cwd, sign))).stderr).toContain("[UKI_SIGN_REMOTE_UNAUTHORIZED]");
    expect((await ended(start(cwd, [...sign, "--passphrase-file", "ann.token"]))).stderr).toContain(
      "[UKI_SIGN_REMOTE_UNAUTHORIZED]",
    );
    expect(await ended(start(cwd, [...sign, "--passphrase-file", "builder.token"]))).toMatchObject({ exitCode: 0 });
    expect(
      await ended(start(cwd, ["sign", "--key", "db.key", "--certificate", "db.crt", "linux.efi", "-o", "here.efi"])),
    ).toMatchObject({ exitCode: 0 });
    expect(readFileSync(join(cwd, "here.efi"))).toEqual(readFileSync(join(cwd, "signed.efi")));
    expect(await stop()).toBe(0);
  });
});
