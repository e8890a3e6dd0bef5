import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  authenticodeDigest,
  type Certificate,
  encodePem,
  examineSignatures,
  listSignatures,
  removeSignatures,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { testStub } from "../support/pe.ts";

const HASHES = ["sha256", "sha384", "sha512"] as const;
const BITS = [2048, 3072, 4096];
const COUNTS = [1, 2, 3];
const MATRIX = HASHES.flatMap((hash) => BITS.flatMap((bits) => COUNTS.map((count) => ({ hash, bits, count }))));
// sbsign, sbverify and pesign know SHA-256 only.
const SHA256 = MATRIX.filter(({ hash }) => hash === "sha256");

const certificates = new Map<number, Certificate>();
for (const bits of BITS) {
  const signer = testSigner(`matrix ${bits}`, bits);
  const options = { signer, publicKey: signer.publicKey, serialNumber: BigInt(bits), isCa: true };
  certificates.set(bits, await testCertificate(`${bits}`, options));
}
const certificateOf = (bits: number): Certificate => certificates.get(bits) ?? expect.fail();

/** Key sizes of `count` signatures, the first of `bits`. */
const signersOf = (bits: number, count: number): number[] =>
  Array.from({ length: count }, (_, index) => BITS[(BITS.indexOf(bits) + index) % BITS.length] ?? bits);

async function signed(hash: (typeof HASHES)[number], bits: number, count: number): Promise<Uint8Array> {
  let image = testStub();
  for (const size of signersOf(bits, count)) {
    image = await signPe(image, { signer: testSigner(`matrix ${size}`, size), certificate: certificateOf(size), hash });
  }
  return image;
}

function workspace(image: Uint8Array): string {
  const folder = scratch();
  writeFileSync(join(folder, "image.efi"), image);
  for (const bits of BITS) {
    writeFileSync(join(folder, `${bits}.key`), testPem(`matrix ${bits}`, bits));
    writeFileSync(join(folder, `${bits}.pem`), encodePem("CERTIFICATE", certificateOf(bits).der));
  }
  return folder;
}

const read = (folder: string, name: string): Uint8Array => new Uint8Array(readFileSync(join(folder, name)));

/** Whether every signature of an image is by whom it should be, and each alone would have it accepted. */
function expectAccepted(image: Uint8Array, hash: string, bits: number, count: number): void {
  const sizes = signersOf(bits, count);
  expect(examineSignatures(image).map(({ signer }) => [signer?.certificate.subject, signer?.hash])).toEqual(
    sizes.map((size) => [certificateOf(size).subject, hash]),
  );
  for (const [index, size] of sizes.entries()) {
    expect(verifyPe(image, { db: { certificates: [certificateOf(size)] } }).signature).toBe(index);
  }
}

describe("sbverify and sbsign", () => {
  describeWith("agree with us on", ["sbverify", "sbsign"], [], () => {
    test.each(SHA256)("$count signatures, the first with $bits bits", async ({ hash, bits, count }) => {
      const cwd = workspace(await signed(hash, bits, count));
      for (const size of signersOf(bits, count)) {
        expect(run("sbverify", ["--cert", `${size}.pem`, "image.efi"], cwd)).toMatch(/OK/);
      }
      writeFileSync(join(cwd, "image.efi"), testStub());
      for (const size of signersOf(bits, count)) {
        const argv = ["--key", `${size}.key`, "--cert", `${size}.pem`, "--output", "image.efi", "image.efi"];
        run("sbsign", argv, cwd);
      }
      expectAccepted(read(cwd, "image.efi"), hash, bits, count);
    });
  });
});

describe("osslsigncode", () => {
  describeWith("agrees with us on", ["osslsigncode"], [], () => {
    test.each(MATRIX)("$count signatures with $hash, the first with $bits bits", async ({ hash, bits, count }) => {
      // It takes a second entry of the certificate table for a corrupted one.
      const cwd = workspace(await signed(hash, bits, 1));
      const argv = ["verify", "-ignore-timestamp", "-ignore-cdp", "-CAfile", `${bits}.pem`, "-in", "image.efi"];
      expect(run("osslsigncode", argv, cwd)).toMatch(/Signature verification: ok/);
      const sign = ["sign", "-h", hash, "-key", `${bits}.key`, "-certs", `${bits}.pem`];
      writeFileSync(join(cwd, "plain.efi"), testStub());
      run("osslsigncode", [...sign, "-in", "plain.efi", "-out", "theirs.efi"], cwd);
      let image = read(cwd, "theirs.efi");
      for (const size of signersOf(bits, count).slice(1)) {
        const signer = testSigner(`matrix ${size}`, size);
        image = await signPe(image, { signer, certificate: certificateOf(size), hash });
      }
      expectAccepted(image, hash, bits, count);
    });
  });
});

describe("pesign", () => {
  describeWith("agrees with us on", ["pesign", "certutil", "pk12util", "openssl"], [], () => {
    /** Puts key and certificate into a new NSS database of the folder. */
    const database = (cwd: string): void => {
      run("certutil", ["-N", "-d", cwd, "--empty-password"]);
      for (const bits of BITS) {
        const files = ["-inkey", `${bits}.key`, "-in", `${bits}.pem`, "-out", `${bits}.p12`];
        run("openssl", ["pkcs12", "-export", ...files, "-name", String(bits), "-passout", "pass:"], cwd);
        run("pk12util", ["-i", `${bits}.p12`, "-d", cwd, "-W", ""], cwd);
      }
    };

    test.each(SHA256)("$count signatures, the first with $bits bits", async ({ hash, bits, count }) => {
      const ours = await signed(hash, bits, count);
      const cwd = workspace(ours);
      database(cwd);
      const shown = run("pesign", ["-S", "-i", "image.efi"], cwd);
      expect([...shown.matchAll(/common name is leveret (\d+)/g)].map(([, size]) => Number(size))).toEqual(
        signersOf(bits, count),
      );
      const digest = Buffer.from(authenticodeDigest(ours, "sha256")).toString("hex");
      expect(run("pesign", ["-h", "-i", "image.efi"], cwd)).toBe(`hash: ${digest}\n`);
      run("pesign", ["-r", "-u", String(count - 1), "-i", "image.efi", "-o", "fewer.efi"], cwd);
      expect(listSignatures(read(cwd, "fewer.efi"))).toEqual(listSignatures(removeSignatures(ours, count - 1)));

      writeFileSync(join(cwd, "signed0.efi"), testStub());
      for (const [index, size] of signersOf(bits, count).entries()) {
        const files = ["-i", `signed${index}.efi`, "-o", `signed${index + 1}.efi`];
        run("pesign", ["-s", "-n", cwd, "-c", String(size), ...files], cwd);
      }
      expectAccepted(read(cwd, `signed${count}.efi`), hash, bits, count);
    });
  });
});
