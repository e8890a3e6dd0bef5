import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  authenticodeDigest,
  buildUki,
  type EfiSignature,
  encodeGuid,
  encodeSignatureDatabase,
  measuredSections,
  type PcrBank,
  type PcrPrediction,
  predictPcr4,
  predictPcr7,
  predictPcr11,
  predictPcr11Measurements,
  secureBootVariableGuid,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf } from "../support/errors.ts";
import { variableData } from "../support/event-log.ts";
import { bytes, fill, testKernel, testPe, testStub } from "../support/pe.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const image = testPe();
const certificate = await testCertificate("owner");
const db = encodeSignatureDatabase([certificate], OWNER);
const authority: EfiSignature = { owner: OWNER, data: certificate.der };
const hex = (value: Uint8Array) => Buffer.from(value).toString("hex");

/** What a register holds after these measurements, computed without the code under test. */
function extendAll(bank: PcrBank, digests: readonly Uint8Array[]): string {
  return hex(
    digests.reduce<Uint8Array>(
      (value, digest) => createHash(bank).update(value).update(digest).digest(),
      Buffer.alloc(createHash(bank).digest().length),
    ),
  );
}

const hash = (bank: PcrBank, data: Uint8Array): Uint8Array => createHash(bank).update(data).digest();
const sources = ({ measurements }: PcrPrediction) => measurements.map(({ source }) => source);

describe("predictPcr4", () => {
  const CALLING = bytes("Calling EFI Application from Boot Option");
  const RETURNING = bytes("Returning from EFI Application from Boot Option");

  test("measures the call, a separator and each program's Authenticode digest", () => {
    const prediction = predictPcr4({ programs: [{ name: "boot.efi", image }] });
    const unpadded = authenticodeDigest(image, "sha256", { padding: "none" });
    expect(hex(prediction.value)).toBe(
      extendAll("sha256", [hash("sha256", CALLING), hash("sha256", fill(4, 0)), unpadded]),
    );
    expect(sources(prediction)).toEqual([`"${Buffer.from(CALLING)}"`, "separator", "boot.efi"]);
  });

  test("takes digests in place of images, in any bank", () => {
    const digest = fill(20, 7);
    const { value } = predictPcr4({ programs: [{ name: "x", digest }], bank: "sha1" });
    expect(hex(value)).toBe(extendAll("sha1", [hash("sha1", CALLING), hash("sha1", fill(4, 0)), digest]));
  });

  test("measures boot options that gave up before", () => {
    const digest = fill(32, 7);
    const { value } = predictPcr4({ programs: [{ name: "x", digest }], earlierAttempts: [[]] });
    const actions = [CALLING, fill(4, 0), RETURNING, CALLING].map((data) => hash("sha256", data));
    expect(hex(value)).toBe(extendAll("sha256", [...actions, digest]));
  });

  test.each<[string, object]>([
    ["a program without image and digest", { name: "x" }],
    ["a program with both", { name: "x", image, digest: fill(32, 1) }],
    ["a digest of another bank", { name: "x", digest: fill(20, 1) }],
    ["a program without name", { name: "", image }],
  ])("refuses %s", (_name, program) => {
    const error = errorOf(() => predictPcr4({ programs: [program as { name: string }] }));
    expect(error.code).toBe("UKI_SIGN_BAD_OPTIONS");
  });

  test("refuses what is no image", () => {
    expect(errorOf(() => predictPcr4({ programs: [{ name: "x", image: fill(9, 1) }] })).code).toBe(
      "UKI_SIGN_PE_BAD_MAGIC",
    );
  });
});

describe("predictPcr7", () => {
  const global = secureBootVariableGuid("PK");
  const database = secureBootVariableGuid("db");

  test("measures the variables, a separator, and each authority once", () => {
    const prediction = predictPcr7({ variables: { PK: fill(3, 1), db }, authorities: [authority, authority] });
    const entry = new Uint8Array(Buffer.concat([encodeGuid(OWNER), certificate.der]));
    const events = [
      variableData("SecureBoot", global, fill(1, 1)),
      variableData("PK", global, fill(3, 1)),
      variableData("KEK", global, fill(0, 0)),
      variableData("db", database, db),
      variableData("dbx", database, fill(0, 0)),
      fill(4, 0),
      variableData("db", database, entry),
    ];
    expect(hex(prediction.value)).toBe(
      extendAll(
        "sha256",
        events.map((data) => hash("sha256", data)),
      ),
    );
    expect(sources(prediction).at(-1)).toBe(`entry of db, ${entry.length} bytes, owner ${OWNER}`);
  });

  test("measures dbt and dbr on machines that have them, and that Secure Boot is off", () => {
    const prediction = predictPcr7({ variables: { dbt: fill(1, 1), dbr: fill(0, 0) }, secureBoot: false });
    expect(sources(prediction)).toEqual([
      "variable SecureBoot, 1 bytes",
      ...["PK", "KEK", "db", "dbx"].map((name) => `variable ${name}, 0 bytes`),
      "variable dbt, 1 bytes",
      "variable dbr, 0 bytes",
      "separator",
    ]);
    expect(hex(prediction.value)).not.toBe(hex(predictPcr7({ variables: { dbt: fill(1, 1), dbr: fill(0, 0) } }).value));
  });

  test("refuses an owner that is no GUID", () => {
    const options = { variables: {}, authorities: [{ owner: "me", data: fill(1, 1) }] };
    expect(errorOf(() => predictPcr7(options)).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});

describe("predictPcr11Measurements", () => {
  test.each(["sha1", "sha256", "sha384", "sha512"] as const)("leads to the value of predictPcr11 in %s", (bank) => {
    const uki = buildUki({ stub: testStub(), linux: testKernel(), cmdline: "quiet" });
    const options = { sections: measuredSections(uki), bank };
    const prediction = predictPcr11Measurements(options);
    expect(prediction).toMatchObject({ pcr: 11, bank });
    expect(hex(prediction.value)).toBe(hex(predictPcr11(options)));
    expect(sources(prediction)).toContain("section .cmdline, 5 bytes");
  });
});
