import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { buildUki, decodeCertificate, type Pkcs11Options, pkcs11Certificate, pkcs11Signer } from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { rejectionOf } from "../support/errors.ts";
import { testKey } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { testKernel, testStub } from "../support/pe.ts";

const BIN = fileURLToPath(new URL("../../bin/uki-sign.js", import.meta.url));
const MODULE = "/usr/lib/softhsm/libsofthsm2.so";
const PIN = "314159";

/** A software token `hare` with the test key and its certificate as `db`, and its files in a directory. */
async function token(): Promise<{ folder: string; env: NodeJS.ProcessEnv; tool: (...argv: string[]) => string }> {
  const folder = scratch();
  mkdirSync(join(folder, "tokens"));
  writeFileSync(join(folder, "softhsm2.conf"), `directories.tokendir = ${join(folder, "tokens")}\nlog.level = ERROR\n`);
  const env = { ...process.env, SOFTHSM2_CONF: join(folder, "softhsm2.conf"), NO_COLOR: "1" };
  const program = (name: string, argv: readonly string[]): string =>
    execFileSync(name, argv, { encoding: "utf8", cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  const tool = (...argv: string[]): string =>
    program("pkcs11-tool", ["--module", MODULE, "--token-label", "hare", "--login", "--pin", PIN, ...argv]);
  program("softhsm2-util", ["--init-token", "--free", "--label", "hare", "--pin", PIN, "--so-pin", PIN]);
  writeFileSync(join(folder, "key.der"), testKey().privateKey.export({ type: "pkcs1", format: "der" }));
  const certificate = await testCertificate();
  writeFileSync(join(folder, "cert.der"), certificate.der);
  const { label, keyId } = { label: "db", keyId: "01" };
  tool("--write-object", "key.der", "--type", "privkey", "--label", label, "--id", keyId, "--usage-sign");
  tool("--write-object", "cert.der", "--type", "cert", "--label", label, "--id", keyId);
  run("openssl", ["x509", "-inform", "DER", "-in", "cert.der", "-out", "cert.pem"], folder);
  writeFileSync(join(folder, "pin"), `${PIN}\n`);
  writeFileSync(join(folder, "linux.efi"), buildUki({ stub: testStub(), linux: testKernel() }));
  return { folder, env, tool };
}

/** How this process reaches the token of a test, whose configuration is in the environment of another process. */
function remote(env: NodeJS.ProcessEnv): Pkcs11Options {
  return {
    pin: PIN,
    connect: async () => {
      const { Duplex } = await import("node:stream");
      const child = spawn("p11-kit", ["remote", MODULE], { env, stdio: ["pipe", "pipe", "ignore"] });
      return Duplex.from({ readable: child.stdout, writable: child.stdin });
    },
  };
}

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the built command. */
function ukiSign(cwd: string, env: NodeJS.ProcessEnv, ...argv: string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [BIN, ...argv], {
      cwd,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ exitCode: code ?? -1, stdout, stderr }));
  });
}

describeWith(
  "SoftHSM through p11-kit",
  ["softhsm2-util", "p11-kit", "pkcs11-tool", "openssl", "sbverify", "osslsigncode"],
  [MODULE],
  () => {
    test("signs images that sbverify and osslsigncode take, with PINs from a file and from the URI", async () => {
      const { folder, env } = await token();
      const uri = "pkcs11:token=hare;object=db";
      const sign = (key: string, output: string, ...more: string[]): Promise<Outcome> =>
        ukiSign(
          folder,
          env,
          "sign",
          "--key",
          key,
          "--certificate",
          `${uri};type=cert`,
          "linux.efi",
          "-o",
          output,
          ...more,
        );
      const first = await sign(`${uri};type=private`, "first.efi", "--passphrase-file", "pin");
      expect(first).toMatchObject({ exitCode: 0, stderr: "" });
      const second = await sign("pkcs11:token=hare;id=%01?pin-source=file:pin", "second.efi");
      expect(second).toMatchObject({ exitCode: 0, stderr: "" });
      expect(readFileSync(join(folder, "second.efi"))).toEqual(readFileSync(join(folder, "first.efi")));
      expect(run("sbverify", ["--cert", "cert.pem", "first.efi"], folder)).toContain("Signature verification OK");
      expect(run("osslsigncode", ["verify", "-in", "first.efi", "-CAfile", "cert.pem"], folder)).toContain(
        "Signature verification: ok",
      );
      // The key makes the same signature wherever it is.
      writeFileSync(join(folder, "key.pem"), testKey().privateKey.export({ type: "pkcs8", format: "pem" }));
      expect(
        await ukiSign(folder, env, ..."sign --key key.pem --certificate cert.pem linux.efi -o file.efi".split(" ")),
      ).toMatchObject({ exitCode: 0 });
      expect(readFileSync(join(folder, "file.efi"))).toEqual(readFileSync(join(folder, "first.efi")));
    });

    test.each(["sha256", "sha384", "sha512"] as const)(
      "and pkcs11-tool make signatures with %s that openssl takes",
      async (hash) => {
        const { folder, env, tool } = await token();
        await using signer = await pkcs11Signer("pkcs11:token=hare;object=db", remote(env));
        expect([signer.token, signer.keyBits]).toEqual(["hare", 2048]);
        const digest = createHash(hash).update("hare").digest();
        writeFileSync(join(folder, "digest"), digest);
        run("openssl", ["x509", "-in", "cert.pem", "-noout", "-pubkey", "-out", "pub.pem"], folder);
        const verify = [
          "pkeyutl",
          "-verify",
          "-pubin",
          "-inkey",
          "pub.pem",
          "-in",
          "digest",
          "-pkeyopt",
          `digest:${hash}`,
        ];
        for (const [padding, options] of [
          ["pkcs1", []],
          ["pss", ["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"]],
        ] as const) {
          writeFileSync(join(folder, "ours"), await signer.signDigest(hash, digest, padding));
          expect(run("openssl", [...verify, ...options, "-sigfile", "ours"], folder)).toContain("Signature Verified");
        }
        writeFileSync(join(folder, "content"), "hare");
        tool("--sign", "--id", "01", "-m", `${hash.toUpperCase()}-RSA-PKCS`, "-i", "content", "-o", "theirs");
        expect(await signer.signDigest(hash, digest)).toEqual(new Uint8Array(readFileSync(join(folder, "theirs"))));
      },
    );

    test("keeps its place among signatures that are wanted at once", async () => {
      const { env } = await token();
      await using signer = await pkcs11Signer("pkcs11:token=hare", remote(env));
      const digests = [1, 2, 3, 4].map((value) => new Uint8Array(32).fill(value));
      const together = await Promise.all(digests.map((digest) => signer.signDigest("sha256", digest)));
      for (const [index, digest] of digests.entries()) {
        expect(await signer.signDigest("sha256", digest)).toEqual(together[index]);
      }
    });

    test("reads certificates without a PIN", async () => {
      const { folder, env } = await token();
      const { connect } = remote(env);
      const certificate = await pkcs11Certificate("pkcs11:token=hare", { connect });
      expect(certificate.der).toEqual(decodeCertificate(readFileSync(join(folder, "cert.der"))).der);
    });

    test("says which tokens and keys there are when the URI names none or several", async () => {
      const { env, tool } = await token();
      const open = (uri: string): Promise<unknown> => pkcs11Signer(uri, remote(env));
      const token2 = await rejectionOf(open("pkcs11:token=rabbit"));
      expect([token2.code, token2.message]).toEqual(["UKI_SIGN_TOKEN", expect.stringContaining('"hare" (')]);
      expect((await rejectionOf(open("pkcs11:token=hare;object=none"))).code).toBe("UKI_SIGN_OBJECT_MISSING");
      tool("--write-object", "key.der", "--type", "privkey", "--label", "next", "--id", "02", "--usage-sign");
      const several = await rejectionOf(open("pkcs11:token=hare"));
      expect(several.code).toBe("UKI_SIGN_OBJECT_AMBIGUOUS");
      expect(several.message).toContain('object="next" id=02');
      tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "curve", "--id", "03", "--usage-sign");
      expect((await rejectionOf(open("pkcs11:token=hare;object=curve"))).code).toBe("UKI_SIGN_KEY_UNSUPPORTED");
      tool("--keypairgen", "--key-type", "rsa:1024", "--label", "short", "--id", "04", "--usage-sign");
      expect((await rejectionOf(open("pkcs11:token=hare;object=short"))).code).toBe("UKI_SIGN_KEY_UNSUPPORTED");
    });

    test("tries a wrong PIN once, and prints no PIN", async () => {
      const { folder, env } = await token();
      writeFileSync(join(folder, "wrong"), "271828\n");
      const uri = "pkcs11:token=hare;object=db";
      const sign = ["sign", "--key", uri, "--certificate", "cert.pem", "linux.efi", "-o", "out.efi"];
      const wrong = await ukiSign(folder, env, ...sign, "--passphrase-file", "wrong");
      expect(wrong).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringContaining("[UKI_SIGN_PIN]") });
      expect(wrong.stderr).not.toContain("271828");
      const none = await ukiSign(folder, env, ...sign);
      expect(none).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("got none [UKI_SIGN_PIN]") });
      const argument = await ukiSign(folder, env, ...sign.with(2, `${uri}?pin-value=${PIN}`));
      expect(argument).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("[UKI_SIGN_PKCS11_URI]") });
      expect(argument.stderr).not.toContain(PIN);
      expect(existsSync(join(folder, "out.efi"))).toBe(false);
    });

    test("reaches a running p11-kit server, and says when there is none", async () => {
      const { folder, env } = await token();
      const socket = join(folder, "p11");
      const server = spawn("p11-kit", ["server", "--foreground", "--name", socket, "--provider", MODULE, "pkcs11:"], {
        env,
        stdio: ["ignore", "ignore", "inherit"],
      });
      try {
        await expect.poll(() => existsSync(socket), { timeout: 10_000 }).toBe(true);
        const there = { ...env, P11_KIT_SERVER_ADDRESS: `unix:path=${socket}`, SOFTHSM2_CONF: "/nowhere" };
        const sign =
          "sign --key pkcs11:token=hare --certificate pkcs11:token=hare --passphrase-file pin linux.efi -o out.efi";
        expect(await ukiSign(folder, there, ...sign.split(" "))).toMatchObject({ exitCode: 0, stderr: "" });
        expect(run("sbverify", ["--cert", "cert.pem", "out.efi"], folder)).toContain("Signature verification OK");
        const gone = { ...env, P11_KIT_SERVER_ADDRESS: "unix:path=/nowhere" };
        expect((await ukiSign(folder, gone, ...sign.split(" "))).stderr).toContain("[UKI_SIGN_PKCS11]");
      } finally {
        server.kill();
      }
    });
  },
);
