import { describe, expect, test } from "vitest";
import {
  decodeCertificate,
  decodeSignatureLists,
  exportKeys,
  rotateKeys,
  type SignedUpdate,
  signPe,
  verifyVariable,
} from "../../src/index.ts";
import { rejectionOf } from "../support/errors.ts";
import { testKeySet } from "../support/key-set.ts";
import { testPe } from "../support/pe.ts";

const previous = await testKeySet("previous");
const next = await testKeySet("next");
const timestamp = new Date("2027-01-01T00:00:00Z");

/** What an update does, in words; it is verified with the key it names. */
function summary({ name, append, auth, signedBy, value }: SignedUpdate): string {
  const verified = verifyVariable(auth, { name, append, trusted: [signedBy] });
  expect(verified.data).toEqual(value);
  const entries = decodeSignatureLists(value).flatMap(({ signatures }) => signatures);
  const subjects = entries.map(({ data }) => decodeCertificate(data).subject.replace("CN=leveret ", ""));
  const by = signedBy.subject.replace("CN=leveret ", "");
  return `${name} ${append ? "+=" : "="} ${subjects.join(", ")} by ${by} at ${verified.timestamp.toISOString()}`;
}

describe("rotateKeys", () => {
  test("has machines trust both hierarchies first, and then only the next one", async () => {
    const { introduce, retire } = await rotateKeys(previous, next, { timestamp });
    expect(introduce.map(summary)).toEqual([
      "KEK += next KEK by previous PK at 2027-01-01T00:00:00.000Z",
      "db += next db by previous KEK at 2027-01-01T00:00:00.000Z",
    ]);
    expect(retire.map(summary)).toEqual([
      "db = next db by next KEK at 2027-01-01T00:00:01.000Z",
      "KEK = next KEK by previous PK at 2027-01-01T00:00:01.000Z",
      "PK = next PK by previous PK at 2027-01-01T00:00:01.000Z",
    ]);
  });

  test("forbids the previous db key when told to, unless something in use needs it", async () => {
    const sign = (keys: typeof next) =>
      signPe(testPe(), { signer: keys.signers.db, certificate: keys.certificates.db });
    const rotate = async (keys: typeof next) => {
      const revoke = { images: [{ name: "linux.efi", image: await sign(keys) }] };
      return await rotateKeys(previous, next, { timestamp, revoke });
    };
    expect((await rotate(next)).retire.map(summary)[1]).toBe(
      "dbx += previous db by next KEK at 2027-01-01T00:00:01.000Z",
    );
    const error = await rejectionOf(rotate(previous));
    expect([error.code, error.message]).toEqual(["UKI_SIGN_DBX_IN_USE", expect.stringContaining("linux.efi")]);
  });

  test("refuses hierarchies that share a key", async () => {
    const error = await rejectionOf(rotateKeys(previous, previous, { timestamp }));
    expect([error.code, error.field]).toEqual(["UKI_SIGN_BAD_OPTIONS", "PK"]);
  });
});

describe("exportKeys", () => {
  test("signs the variables of a machine that has none, the same each time", async () => {
    const updates = await exportKeys(previous);
    expect(updates.map(summary)).toEqual([
      "PK = previous PK by previous PK at 2026-01-01T00:00:00.000Z",
      "KEK = previous KEK by previous PK at 2026-01-01T00:00:00.000Z",
      "db = previous db by previous KEK at 2026-01-01T00:00:00.000Z",
    ]);
    expect(await exportKeys(previous)).toEqual(updates);
  });

  test("takes what else is trusted and forbidden", async () => {
    const { db } = next.certificates;
    const updates = await exportKeys(previous, { db: [db], dbx: [previous.certificates.verity], timestamp });
    expect(updates.map(summary).slice(2)).toEqual([
      "db = previous db, next db by previous KEK at 2027-01-01T00:00:00.000Z",
      "dbx = previous verity by previous KEK at 2027-01-01T00:00:00.000Z",
    ]);
  });
});
