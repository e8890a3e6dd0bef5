import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { OPTIONAL_CHECKSUM } from "../../src/format/pe.ts";
import {
  authenticodeDigest,
  buildUki,
  buildUkiAddon,
  type Certificate,
  encodePem,
  examineSignatures,
  listSignatures,
  signPe,
  verifyPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { efiProgram } from "../support/efi-program.ts";
import { testPem, testSigner } from "../support/keys.ts";
import { describeWith, run, scratch } from "../support/oracles.ts";
import { fill, TEST_PE, testKernel, testPe, testStub, withSymbols, withU32 } from "../support/pe.ts";
import {
  BOOKWORM_BOOT,
  BOOKWORM_STUB,
  SYSTEMD_BOOT,
  systemdAddonStub,
  systemdStub,
  TREE_FILES,
} from "../support/systemd-tools.ts";

const MACHINE_ARM64 = 0xaa64;
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(path));
const withChecksum = (image: Uint8Array): Uint8Array => withU32(image, TEST_PE.optional + OPTIONAL_CHECKSUM, 0x1234);

/** Every kind of file that somebody signs for firmware. */
const KINDS: Record<string, () => Uint8Array> = {
  "an EFI program": efiProgram,
  "a unified kernel image": () => buildUki({ stub: systemdStub(), linux: testKernel(), initrd: fill(5001, 1) }),
  "an addon": () => buildUkiAddon({ stub: systemdAddonStub(), cmdline: "debug" }),
  "a kernel": testKernel,
  "systemd-boot 257": () => read(SYSTEMD_BOOT),
  "systemd-boot 252, with symbols and a checksum": () => read(BOOKWORM_BOOT),
  "a unified kernel image with the stub of 252": () => buildUki({ stub: read(BOOKWORM_STUB), linux: testKernel() }),
  "an image for 64-bit Arm": () => testPe({ machine: MACHINE_ARM64 }),
  "an image with as few directories as can be": () => testPe({ directories: 5 }),
  "an image with a checksum": () => withChecksum(testStub()),
  "an image of an odd size, with symbols": () => withSymbols(testStub(), 5, 13),
  "an image of 5 MiB": () => testPe({ sections: [{ name: ".text", data: fill(5 << 20, 0x90) }] }),
};

// Environment: UKI_SIGN_FULL_MATRIX=1 tests every combination; otherwise each kind of file once with each tool.
const FULL = process.env.UKI_SIGN_FULL_MATRIX === "1";
const HASHES = ["sha256", "sha384", "sha512"] as const;
const BITS = [2048, 3072, 4096];
const COUNTS = [1, 2];
const COMBINATIONS = HASHES.flatMap((hash) => BITS.flatMap((bits) => COUNTS.map((count) => ({ hash, bits, count }))));
const MATRIX = Object.entries(KINDS).flatMap(([kind, make], index) =>
  COMBINATIONS.filter((_, other) => FULL || other === (index * 7) % COMBINATIONS.length).map((combination) => ({
    kind,
    make,
    ...combination,
  })),
);
// sbsign, sbverify and pesign know SHA-256 only.
const SHA256 = MATRIX.filter((cell) => !FULL || cell.hash === "sha256").map((cell) => ({ ...cell, hash: HASHES[0] }));

const certificates = new Map<number, Certificate>();
for (const bits of BITS) {
  const signer = testSigner(`matrix ${bits}`, bits);
  const options = { signer, publicKey: signer.publicKey, serialNumber: BigInt(bits), isCa: true };
  certificates.set(bits, await testCertificate(`${bits}`, options));
}
const certificateOf = (bits: number): Certificate => certificates.get(bits) ?? expect.fail();
const bitsOf = (bits: number, index: number): number => BITS[(BITS.indexOf(bits) + index) % BITS.length] ?? bits;

interface Cell {
  readonly make: () => Uint8Array;
  readonly hash: (typeof HASHES)[number];
  readonly bits: number;
  readonly count: number;
}

async function signed({ make, hash, bits, count }: Cell): Promise<Uint8Array> {
  let image = make();
  for (let index = 0; index < count; index++) {
    const size = bitsOf(bits, index);
    image = await signPe(image, { signer: testSigner(`matrix ${size}`, size), certificate: certificateOf(size), hash });
  }
  return image;
}

/** A directory with keys, certificates, the image and what we make of it. */
async function workspace(cell: Cell): Promise<{ cwd: string; ours: Uint8Array }> {
  const cwd = scratch();
  const ours = await signed(cell);
  writeFileSync(join(cwd, "plain.efi"), cell.make());
  writeFileSync(join(cwd, "ours.efi"), ours);
  for (const bits of BITS) {
    writeFileSync(join(cwd, `${bits}.key`), testPem(`matrix ${bits}`, bits));
    writeFileSync(join(cwd, `${bits}.pem`), encodePem("CERTIFICATE", certificateOf(bits).der));
  }
  return { cwd, ours };
}

/** Whether every signature of an image is the one it should be, and firmware would take each alone. */
function expectAccepted(image: Uint8Array, { hash, bits, count }: Cell): void {
  const sizes = Array.from({ length: count }, (_, index) => bitsOf(bits, index));
  expect(examineSignatures(image).map(({ signer }) => [signer?.certificate.subject, signer?.hash])).toEqual(
    sizes.map((size) => [certificateOf(size).subject, hash]),
  );
  for (const [index, size] of sizes.entries()) {
    expect(verifyPe(image, { db: { certificates: [certificateOf(size)] } }).signature).toBe(index);
  }
}

const FILES = [...TREE_FILES, BOOKWORM_BOOT, BOOKWORM_STUB];

describe("sbverify and sbsign", () => {
  describeWith("agree with us on", ["sbverify", "sbsign"], FILES, () => {
    test.each(SHA256)("$kind, with $count signatures, the first with $bits bits", async (cell) => {
      const { cwd } = await workspace(cell);
      writeFileSync(join(cwd, "theirs.efi"), cell.make());
      for (let index = 0; index < cell.count; index++) {
        const size = bitsOf(cell.bits, index);
        expect(run("sbverify", ["--cert", `${size}.pem`, "ours.efi"], cwd)).toMatch(/OK/);
        const key = ["--key", `${size}.key`, "--cert", `${size}.pem`];
        run("sbsign", [...key, "--output", "theirs.efi", "theirs.efi"], cwd);
      }
      expectAccepted(read(join(cwd, "theirs.efi")), cell);
    });
  });
});

describe("osslsigncode", () => {
  describeWith("agrees with us on", ["osslsigncode"], FILES, () => {
    // It takes a second entry of the certificate table for a corrupted one.
    const cells = MATRIX.filter(({ count }) => !FULL || count === 1).map((cell) => ({ ...cell, count: 1 }));
    test.each(cells)("$kind, with $hash and $bits bits", async (cell) => {
      const { cwd } = await workspace(cell);
      const verify = ["verify", "-ignore-timestamp", "-ignore-cdp", "-CAfile", `${cell.bits}.pem`, "-in", "ours.efi"];
      expect(run("osslsigncode", verify, cwd)).toMatch(/Signature verification: ok/);
      const sign = ["sign", "-h", cell.hash, "-key", `${cell.bits}.key`, "-certs", `${cell.bits}.pem`];
      run("osslsigncode", [...sign, "-in", "plain.efi", "-out", "theirs.efi"], cwd);
      expectAccepted(read(join(cwd, "theirs.efi")), cell);
    });
  });
});

describe("pesign", () => {
  describeWith("agrees with us on", ["pesign", "certutil", "pk12util", "openssl"], FILES, () => {
    test.each(SHA256)("$kind, with $count signatures, the first with $bits bits", async (cell) => {
      const { cwd, ours } = await workspace(cell);
      const digest = Buffer.from(authenticodeDigest(ours, "sha256")).toString("hex");
      expect(run("pesign", ["-h", "-i", "ours.efi"], cwd)).toBe(`hash: ${digest}\n`);
      expect(run("pesign", ["-S", "-i", "ours.efi"], cwd).match(/common name is leveret \d+/g)).toHaveLength(
        cell.count,
      );
      run("certutil", ["-N", "-d", cwd, "--empty-password"]);
      writeFileSync(join(cwd, "signed0.efi"), cell.make());
      for (let index = 0; index < cell.count; index++) {
        const size = bitsOf(cell.bits, index);
        const files = ["-inkey", `${size}.key`, "-in", `${size}.pem`, "-out", `${size}.p12`];
        run("openssl", ["pkcs12", "-export", ...files, "-name", String(size), "-passout", "pass:"], cwd);
        run("pk12util", ["-i", `${size}.p12`, "-d", cwd, "-W", ""], cwd);
        const signing = ["-i", `signed${index}.efi`, "-o", `signed${index + 1}.efi`];
        run("pesign", ["-s", "-n", cwd, "-c", String(size), ...signing], cwd);
      }
      const theirs = read(join(cwd, `signed${cell.count}.efi`));
      expectAccepted(theirs, cell);
      expect(listSignatures(theirs)).toHaveLength(cell.count);
    });
  });
});
