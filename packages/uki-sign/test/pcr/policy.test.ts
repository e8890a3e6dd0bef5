import { describe, expect, test } from "vitest";
import {
  attachPcrSignatures,
  BOOT_PHASE_PATHS,
  encodePem,
  parsePcrSignatures,
  pcrPolicyDigest,
  predictPcrPolicies,
  renderPcrSignatures,
  signPcrPolicies,
  verifyPcrSignature,
} from "../../src/index.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { bytes, fill } from "../support/pe.ts";

const hex = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString("hex");
const sections = [
  { name: ".linux", data: bytes("abc\n") },
  { name: ".osrel", data: bytes("ID=x\n") },
];
const signer = testSigner("pcr");
const policies = predictPcrPolicies({ sections, banks: ["sha256"] });
const signed = await signPcrPolicies(policies, signer, signer.publicKey);

describe("predictPcrPolicies", () => {
  test("agrees with systemd-measure 257.13-1~deb13u1 about the same two files", () => {
    expect(policies.map(({ bank, phasePath, policy }) => [bank, phasePath, hex(policy)])).toEqual([
      ["sha256", BOOT_PHASE_PATHS[0], "254e3299cfe7902f92daa72d7f0f8cf1cdcbe91e65c5012ec42b2ef4f09bc239"],
      ["sha256", BOOT_PHASE_PATHS[1], "8bae77caf5485697508c8af8d67f4539d815ffd7bda342c4de6238332acd410f"],
      ["sha256", BOOT_PHASE_PATHS[2], "6b52c4497fab3ce5a196b49145af83c50b5aec2585914e00cecfc251596e967f"],
      ["sha256", BOOT_PHASE_PATHS[3], "fd1da28103694a2d4371dd857dada9a1253bb7eb5d2ea7b0b16e937ab8fc4fff"],
    ]);
  });

  test("has the stub alone for the empty path, and sorts paths", () => {
    const phasePaths = ["enter-initrd", ":", "enter-initrd"];
    const found = predictPcrPolicies({ sections, banks: ["sha256"], phasePaths });
    expect(found.map(({ phasePath, policy }) => `${phasePath} ${hex(policy).slice(0, 8)}`)).toEqual([
      " 93aea29b",
      "enter-initrd 254e3299",
    ]);
  });

  test.each<[string, object]>([
    ["no path", { sections, phasePaths: [] }],
    ["an unknown bank", { sections, banks: ["md5"] }],
    ["SHA-1, with which nobody should sign", { sections, banks: ["sha1"] }],
    ["a section that is not measured", { sections: [{ name: ".pcrsig", data: bytes("{}") }] }],
  ])("refuses %s", (_name, options) => {
    const error = errorOf(() => predictPcrPolicies(options as Parameters<typeof predictPcrPolicies>[0]));
    expect(error.code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("pcrPolicyDigest", () => {
  test("does not depend on the order of registers", () => {
    const [a, b] = [
      { pcr: 7, value: fill(32, 7) },
      { pcr: 11, value: fill(32, 11) },
    ];
    expect(pcrPolicyDigest("sha256", [a, b])).toEqual(pcrPolicyDigest("sha256", [b, a]));
  });

  test.each<[string, { pcr: number; value: Uint8Array }[]]>([
    ["no register", []],
    ["a register twice", [1, 2].map((octet) => ({ pcr: 7, value: fill(32, octet) }))],
    ["a value of another bank", [{ pcr: 7, value: fill(20, 1) }]],
    ["a register that does not exist", [{ pcr: 24, value: fill(32, 1) }]],
  ])("refuses %s", (_name, registers) => {
    expect(errorOf(() => pcrPolicyDigest("sha256", registers)).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("PCR signatures", () => {
  test("come back from their text, and verify with the key in PEM or DER", () => {
    const text = renderPcrSignatures(signed);
    expect(text).toMatch(/^\{"sha256":\[\{"pcrs":\[11\],"pkfp":"[0-9a-f]{64}","pol":"254e3299/);
    const parsed = parsePcrSignatures(bytes(`${text}\0\0`));
    expect(parsed).toEqual(signed);
    for (const signature of parsed) {
      verifyPcrSignature(signature, signer.publicKey);
      verifyPcrSignature(signature, bytes(encodePem("PUBLIC KEY", signer.publicKey)));
    }
  });

  test("can be made offline: digests out, signatures in", async () => {
    const signatures = await Promise.all(policies.map(({ digest }) => signer.signDigest("sha256", digest)));
    expect(attachPcrSignatures(policies, signatures, signer.publicKey)).toEqual(signed);
    expect(errorOf(() => attachPcrSignatures(policies, signatures.toReversed(), signer.publicKey)).code).toBe(
      "UKI_SIGN_SIGNATURE_MISMATCH",
    );
    expect(errorOf(() => attachPcrSignatures(policies, [], signer.publicKey)).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("are refused under another key", async () => {
    const other = testSigner("other");
    expect((await rejectionOf(signPcrPolicies(policies, signer, other.publicKey))).code).toBe(
      "UKI_SIGN_SIGNATURE_MISMATCH",
    );
    const [first] = signed;
    if (first === undefined) throw new Error("expected a signature");
    expect(errorOf(() => verifyPcrSignature(first, other.publicKey)).code).toBe("UKI_SIGN_UNTRUSTED");
    const forged = { ...first, policy: fill(32, 1) };
    expect(errorOf(() => verifyPcrSignature(forged, signer.publicKey)).code).toBe("UKI_SIGN_SIGNATURE_MISMATCH");
    const weak = { ...first, bank: "sha1" } as const;
    expect(errorOf(() => verifyPcrSignature(weak, signer.publicKey)).code).toBe("UKI_SIGN_PCR_SIGNATURES_INVALID");
    expect(errorOf(() => verifyPcrSignature(first, "no key")).code).toBe("UKI_SIGN_KEY_INVALID");
  });

  test.each([
    ["text", "sha256"],
    ["a list", "[]"],
    ["an unknown bank", '{"md5":[]}'],
    ["a policy of another length", '{"sha256":[{"pcrs":[11],"pkfp":"00","pol":"00","sig":""}]}'],
    ["a register that does not exist", renderPcrSignatures(signed).replace("[11]", "[99]")],
    ["what is no base64", renderPcrSignatures(signed).replace(/"sig":"..../, '"sig":"!!!!')],
  ])("are refused as %s", (_name, text) => {
    expect(errorOf(() => parsePcrSignatures(text)).code).toBe("UKI_SIGN_PCR_SIGNATURES_INVALID");
  });

  test("are refused beyond the limit", () => {
    expect(errorOf(() => parsePcrSignatures(" ".repeat(1024 * 1024 + 1))).code).toBe("UKI_SIGN_TOO_LARGE");
  });

  test("let only the package's error escape from damaged text", () => {
    torture(bytes(renderPcrSignatures(signed.slice(0, 1))), (text) => parsePcrSignatures(text));
  });
});
