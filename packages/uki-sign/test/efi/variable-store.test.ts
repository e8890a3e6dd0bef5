import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  certificateLists,
  decodeSignatureLists,
  decodeVariableStore,
  type EnrollVariableStoreOptions,
  encodeVariableStore,
  enrollVariableStore,
  type StoredVariable,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { errorOf, torture } from "../support/errors.ts";
import { emptyStore } from "../support/variable-store.ts";

const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const small = emptyStore({ sizeBytes: 0x3000, storeBytes: 0x400 });
const variable = (name: string, size = 1): StoredVariable => ({
  name,
  guid: GLOBAL,
  attributes: 7,
  data: new Uint8Array(size).fill(0x5a),
});

describe("a variable store", () => {
  test("has the first header right behind its own, at a multiple of four", () => {
    const image = encodeVariableStore(small, [variable("Boot"), variable("Next", 4)]);
    expect(image).toHaveLength(small.length);
    expect(Buffer.from(image.subarray(0x64, 0x6c)).toString("hex")).toBe("aa553f0007000000");
    // 60 header bytes, 10 of name, 1 of data and 1 of padding
    expect(Buffer.from(image.subarray(0x64 + 72, 0x64 + 76)).toString("hex")).toBe("aa553f00");
    expect(decodeVariableStore(image)).toMatchObject({
      offset: 0x64,
      sizeBytes: 0x400 - 28,
      freeBytes: 0x400 - 28 - 72 - 76,
    });
  });

  test("takes a Buffer, and leaves it as it was", () => {
    const image = Buffer.from(encodeVariableStore(small, [variable("A")]));
    const before = Buffer.from(image);
    expect(decodeVariableStore(image).variables).toEqual([variable("A")]);
    encodeVariableStore(image, [variable("B")]);
    expect(image.equals(before)).toBe(true);
  });

  test("gives back what was written", () => {
    const stored = fc.record({
      name: fc.string({ minLength: 1, maxLength: 8, unit: "grapheme" }).filter((name) => !name.includes("\0")),
      guid: fc.uuid(),
      attributes: fc.nat({ max: 0xff }),
      data: fc.uint8Array({ maxLength: 20 }),
    });
    const dated = fc.tuple(
      stored,
      fc.option(fc.date({ min: new Date("1990-01-01"), max: new Date("2200-01-01"), noInvalidDate: true })),
    );
    const variables = fc
      .uniqueArray(dated, { maxLength: 4, selector: ([{ guid, name }]) => `${guid} ${name}` })
      .map((list) =>
        list.map(([fields, time]): StoredVariable => {
          time?.setUTCMilliseconds(0);
          return time === null ? fields : { ...fields, timestamp: time };
        }),
      );
    fc.assert(
      fc.property(variables, (list) => {
        const image = encodeVariableStore(small, list);
        expect(decodeVariableStore(image).variables).toEqual(list);
        expect(Buffer.compare(encodeVariableStore(image, list), image)).toBe(0);
      }),
    );
  });

  test("leaves out what is deleted, and keeps what is being replaced until its successor is there", () => {
    const image = encodeVariableStore(small, [variable("A"), variable("B", 2)]);
    const names = (bytes: Uint8Array) =>
      decodeVariableStore(bytes).variables.map(({ name, data }) => `${name}${data.length}`);
    const withState = (bytes: Uint8Array, state: number): Uint8Array => {
      const changed = bytes.slice();
      changed[0x66] = state;
      return changed;
    };
    expect(names(withState(image, 0x3d))).toEqual(["B2"]);
    expect(names(withState(image, 0x7f))).toEqual(["B2"]);
    expect(names(withState(image, 0x3e))).toEqual(["A1", "B2"]);
    const sameName = encodeVariableStore(small, [variable("A"), variable("B", 2)]);
    // Renames the second variable to A, so that it is the first one's successor.
    sameName[0x64 + 68 + 60] = "A".charCodeAt(0);
    expect(names(withState(sameName, 0x3e))).toEqual(["A2"]);
  });

  test("drops the write that firmware would finish at its next start", () => {
    const pending = small.slice();
    pending[0x1000 + 32] = 0xfe;
    expect(Buffer.compare(encodeVariableStore(pending, []), encodeVariableStore(small, []))).toBe(0);
  });

  test.each<[string, readonly StoredVariable[], string]>([
    ["more than fits", [variable("Large", 0x400)], "UKI_SIGN_VARIABLE_STORE_FULL"],
    ["the same variable twice", [variable("A"), variable("A")], "UKI_SIGN_BAD_OPTIONS"],
    ["a variable without a name", [variable("")], "UKI_SIGN_BAD_OPTIONS"],
    ["a vendor that is no GUID", [{ ...variable("A"), guid: "x" }], "UKI_SIGN_BAD_OPTIONS"],
  ])("refuses %s", (_name, variables, code) => {
    expect(errorOf(() => encodeVariableStore(small, variables)).code).toBe(code);
  });

  test.each<[string, number, number]>([
    ["another firmware volume", 16, 0],
    ["no firmware volume", 40, 0],
    ["a wrong checksum", 50, 0],
    ["a volume longer than the image", 34, 9],
    ["a store without authentication", 0x48, 0],
    ["a store longer than its volume", 0x48 + 18, 9],
    ["an unhealthy store", 0x48 + 21, 0],
  ])("is not read from %s", (_name, at, value) => {
    const image = small.slice();
    image[at] = value;
    const error = errorOf(() => decodeVariableStore(image));
    expect(error.code).toBe("UKI_SIGN_VARIABLE_STORE_INVALID");
    expect(error.message).toMatch(/^expected .+, got .+ \(at byte \d+\)$/);
  });

  test("throws only UkiSignError when cut or damaged", () => {
    const image = encodeVariableStore(small, [variable("A"), variable("B", 2)]);
    torture(image.subarray(0, 0x200), decodeVariableStore);
    torture(image, decodeVariableStore, 7);
  });
});

describe("enrollVariableStore", async () => {
  const [pk, kek, db] = [await testCertificate("pk"), await testCertificate("kek"), await testCertificate("db")];
  const timestamp = new Date("2026-11-21T00:00:00Z");
  const template = emptyStore({ sizeBytes: 0x20000, storeBytes: 0xdfb8 });
  const options: EnrollVariableStoreOptions = { pk, kek: [kek], db: [db], owner: OWNER, timestamp };

  test("writes the keys and the state that makes firmware use them", () => {
    const kept = variable("BootOrder");
    const image = enrollVariableStore(encodeVariableStore(template, [kept]), options);
    const { variables } = decodeVariableStore(image);
    expect(
      variables.map(({ name, attributes, data }) => [name, attributes, data.length === 1 ? data[0] : undefined]),
    ).toEqual([
      ["BootOrder", 7, 0x5a],
      ["SecureBootEnable", 3, 1],
      ["CustomMode", 3, 0],
      ["VendorKeysNv", 0x23, 0],
      ["PK", 0x27, undefined],
      ["KEK", 0x27, undefined],
      ["db", 0x27, undefined],
    ]);
    const stored = variables.find(({ name }) => name === "db");
    expect(stored).toMatchObject({ guid: "d719b2cb-3d3a-4596-a3bc-dad00e67656f", timestamp });
    expect(decodeSignatureLists(stored?.data ?? new Uint8Array())).toEqual(certificateLists([db], OWNER));
    expect(Buffer.compare(enrollVariableStore(encodeVariableStore(template, [kept]), options), image)).toBe(0);
  });

  test("takes hashes as well, and a dbx", () => {
    const forbidden = { type: "sha256", signatures: [{ owner: OWNER, data: new Uint8Array(32) }] };
    const image = enrollVariableStore(template, { ...options, db: [db, forbidden], dbx: [forbidden] });
    const { variables } = decodeVariableStore(image);
    const lists = (wanted: string) =>
      decodeSignatureLists(variables.find(({ name }) => name === wanted)?.data ?? new Uint8Array());
    expect(lists("db")).toHaveLength(2);
    expect(lists("dbx")).toEqual([forbidden]);
  });

  test("refuses a store that has keys, has no room, or options that do not fit", () => {
    const enrolled = enrollVariableStore(template, options);
    expect(errorOf(() => enrollVariableStore(enrolled, options)).code).toBe("UKI_SIGN_VARIABLE_STORE_ENROLLED");
    expect(errorOf(() => enrollVariableStore(small, options)).code).toBe("UKI_SIGN_VARIABLE_STORE_FULL");
    expect(errorOf(() => enrollVariableStore(template, { ...options, owner: "me" })).code).toBe("UKI_SIGN_BAD_OPTIONS");
    expect(errorOf(() => enrollVariableStore(template, { ...options, db: [] })).code).toBe("UKI_SIGN_BAD_OPTIONS");
  });
});
