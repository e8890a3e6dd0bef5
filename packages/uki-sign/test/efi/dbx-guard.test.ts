import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  assertDbxSpares,
  authenticodeDigest,
  decodeEventLog,
  encodeGuid,
  encodeSignatureDatabase,
  type InUse,
  type PeSignatureDatabase,
  secureBootVariableGuid,
  signPe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf } from "../support/errors.ts";
import { agileLog, imageLoadData, variableData } from "../support/event-log.ts";
import { testSigner } from "../support/keys.ts";
import { testPe } from "../support/pe.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const APPLICATION = 0x8000_0003;
const AUTHORITY = 0x8000_00e0;
const root = await testCertificate("root", { isCa: true });
const leaf = await testCertificate("leaf", { signer: testSigner("root"), issuer: root, serialNumber: 2n });
const stranger = await testCertificate("stranger");
const image = await signPe(testPe(), { signer: testSigner("leaf"), certificate: leaf });
const digest = authenticodeDigest(image, "sha256");
// What is measured for a program is its Authenticode digest, so a log with that digest is made by hand.
const measured = Buffer.from("the image");
const measuredDigest = new Uint8Array(createHash("sha256").update(measured).digest());
const entry = Buffer.concat([encodeGuid(OWNER), root.der]);
const log = decodeEventLog(
  agileLog([
    { pcr: 7, type: AUTHORITY, data: variableData("db", secureBootVariableGuid("db"), entry) },
    { pcr: 4, type: APPLICATION, data: imageLoadData("\\EFI\\Linux\\linux.efi"), measured },
  ]),
);
const hashOf = ({ tbs }: typeof root) => new Uint8Array(createHash("sha384").update(tbs).digest());
const IMAGES: InUse = { images: [{ name: "linux.efi", image }] };

describe("assertDbxSpares", () => {
  test.each<[string, PeSignatureDatabase | Uint8Array, InUse]>([
    ["an image", { digests: [digest] }, IMAGES],
    ["the certificate of its signer", { certificates: [leaf] }, IMAGES],
    ["a certificate above that", { certificates: [root] }, IMAGES],
    ["a variable's value that names it", encodeSignatureDatabase([stranger, leaf], OWNER), IMAGES],
    ["an image that a log measured", { digests: [measuredDigest] }, { log }],
    ["the certificate that let one start", { certificates: [root] }, { log }],
    ["that certificate by its hash", { certificateHashes: [hashOf(root)] }, { log }],
  ])("refuses to forbid %s", (_name, dbx, inUse) => {
    const error = errorOf(() => assertDbxSpares(dbx, inUse));
    expect([error.code, error.hint]).toEqual(["UKI_SIGN_DBX_IN_USE", expect.any(String)]);
  });

  test("lets anything else be forbidden, also when what is in use is unsigned or nothing", () => {
    const dbx = { certificates: [stranger], digests: [new Uint8Array(32)], certificateHashes: [hashOf(stranger)] };
    const images = [...(IMAGES.images ?? []), { name: "unsigned.efi", image: testPe() }];
    for (const inUse of [{ images, log }, {}]) expect(assertDbxSpares(dbx, inUse)).toBeUndefined();
  });

  test("refuses what is no image instead of taking it for spared", () => {
    const images = [{ name: "x", image: new Uint8Array(3) }];
    expect(errorOf(() => assertDbxSpares({}, { images })).code).toBe("UKI_SIGN_PE_BAD_MAGIC");
  });
});
