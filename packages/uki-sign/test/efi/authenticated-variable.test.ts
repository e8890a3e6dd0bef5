import { describe, expect, test } from "vitest";
import {
  decodeAuthenticatedVariable,
  decodeCms,
  type SignVariableOptions,
  signVariable,
  verifyVariable,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";

const certificate = await testCertificate();
const other = await testCertificate("other");
const timestamp = new Date("2026-11-21T01:02:03Z");
const data = new TextEncoder().encode("value");
const GUID = "01020304-0506-0708-090a-0b0c0d0e0f10";

const sign = (options: Partial<SignVariableOptions> = {}): Promise<Uint8Array> =>
  signVariable({ name: "db", data, timestamp, signer: testSigner(), certificate, ...options });
const bytes = await sign();

describe("signVariable", () => {
  test("makes the same bytes each time: time, header, SignedData, value", async () => {
    expect(await sign()).toEqual(bytes);
    expect(Buffer.from(bytes.subarray(0, 16)).toString("hex")).toBe("ea070b15010203000000000000000000");
    const length = new DataView(bytes.buffer).getUint32(16, true);
    expect(Buffer.from(bytes.subarray(20, 40)).toString("hex")).toBe("0002f10e" + "9dd2af4adf68ee498aa9347d375665a7");
    // EDK II looks for the OID of SHA-256 at byte 13 of a SignedData with two length octets.
    expect(Buffer.from(bytes.subarray(40 + 13, 40 + 22)).toString("hex")).toBe("608648016503040201");
    expect(bytes.subarray(16 + length)).toEqual(data);
    expect(decodeCms(decodeAuthenticatedVariable(bytes).signature).certificates).toEqual([certificate]);
  });

  test.each<[string, Partial<SignVariableOptions>]>([
    ["a name without known vendor GUID", { name: "MyVariable" }],
    ["a vendor GUID that is none", { guid: "db" }],
    ["attributes without the authenticated-write bit", { attributes: 7 }],
    ["an empty name", { name: "" }],
    ["a name with NUL", { name: "a\0b", guid: GUID }],
    ["a time that EFI cannot write", { timestamp: new Date("1601-01-01") }],
    ["no time", { timestamp: new Date(Number.NaN) }],
  ])("refuses %s", async (_name, options) => {
    expect((await rejectionOf(sign(options))).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("verifyVariable", () => {
  test("tells who signed which value when", () => {
    const verified = verifyVariable(bytes, { name: "db", trusted: [certificate] });
    expect(verified).toMatchObject({ timestamp, data, signers: [{ certificate }] });
  });

  test("knows variables of any name, deletions and appends", async () => {
    const identity = { name: "Häschen", guid: GUID, attributes: 0x23, append: true };
    const signed = await sign({ ...identity, data: new Uint8Array() });
    expect(verifyVariable(signed, { ...identity, trusted: [certificate] }).data).toHaveLength(0);
    const error = errorOf(() => verifyVariable(signed, { ...identity, append: false, trusted: [certificate] }));
    expect(error.code).toBe("UKI_SIGN_SIGNATURE_MISMATCH");
  });

  test.each([
    ["another variable", { name: "dbx", trusted: [certificate] }, "UKI_SIGN_SIGNATURE_MISMATCH"],
    ["another attribute", { name: "db", attributes: 0x23, trusted: [certificate] }, "UKI_SIGN_SIGNATURE_MISMATCH"],
    ["another key", { name: "db", trusted: [other] }, "UKI_SIGN_UNTRUSTED"],
  ])("refuses %s", (_name, options, code) => {
    expect(errorOf(() => verifyVariable(bytes, options)).code).toBe(code);
  });

  test("refuses any change of time or value", () => {
    for (const at of [6, bytes.length - 1]) {
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      const error = errorOf(() => verifyVariable(changed, { name: "db", trusted: [certificate] }));
      expect(error.code).toBe("UKI_SIGN_SIGNATURE_MISMATCH");
    }
  });

  test.each<[string, (bytes: Uint8Array, view: DataView) => void]>([
    ["a certificate length beyond the file", (_bytes, view) => view.setUint32(16, bytes.length, true)],
    ["another revision", (_bytes, view) => view.setUint16(20, 0x100, true)],
    ["another certificate type", (_bytes, view) => view.setUint16(22, 2, true)],
    ["another kind of signature", (changed) => changed.fill(0, 24, 40)],
  ])("refuses %s, which firmware would not look at", (_name, change) => {
    const changed = bytes.slice();
    change(changed, new DataView(changed.buffer));
    expect(errorOf(() => decodeAuthenticatedVariable(changed)).code).toBe("UKI_SIGN_VARIABLE_INVALID");
  });

  test("throws only UkiSignError on cut or damaged input", () => {
    torture(bytes, decodeAuthenticatedVariable);
    torture(bytes, (input) => verifyVariable(input, { name: "db", trusted: [certificate] }), 5);
  });
});
