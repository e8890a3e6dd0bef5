import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  DiskImageError,
  decodeGuid,
  deterministicUuid,
  encodeGuid,
  PARTITION_TYPES,
  partitionTypeGuid,
  partitionTypeName,
  uuidsOfRootHash,
} from "../src/index.ts";
import { hex } from "./support.ts";

describe("GUIDs", () => {
  test("are stored with their first three groups turned round", () => {
    expect(hex(encodeGuid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"))).toBe("28732ac11ff8d211ba4b00a0c93ec93b");
  });

  test("survive encoding and decoding", () => {
    fc.assert(fc.property(fc.uuid(), (uuid) => decodeGuid(encodeGuid(uuid)) === uuid));
  });

  test.each(["", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93g", "{c12a7328-f81f-11d2-ba4b-00a0c93ec93b}"])(
    "refuses %j",
    (text) => {
      expect(() => encodeGuid(text)).toThrow(DiskImageError);
    },
  );

  test("derived from a seed are the same each time, differ by seed and name, and are version 8", () => {
    const uuid = deterministicUuid("seed", "disk");
    expect(uuid).toBe(deterministicUuid("seed", "disk"));
    expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const others = [
      deterministicUuid("seed", "esp"),
      deterministicUuid("other", "disk"),
      deterministicUuid("seedd", "isk"),
    ];
    expect(new Set([uuid, ...others]).size).toBe(4);
  });

  test("derived from a seed keep their value from release to release", () => {
    expect(deterministicUuid("particle 1.0", "disk")).toMatchInlineSnapshot(`"e8355542-8588-8ac7-9974-311fad29d886"`);
  });

  test("of a root hash are its two ends", () => {
    const rootHash = new Uint8Array(32).map((_, index) => index);
    expect(uuidsOfRootHash(rootHash)).toEqual({
      data: "00010203-0405-0607-0809-0a0b0c0d0e0f",
      verity: "10111213-1415-1617-1819-1a1b1c1d1e1f",
    });
    expect(() => uuidsOfRootHash(rootHash.subarray(1))).toThrow(/32 bytes/);
  });
});

describe("partition types", () => {
  test.each(Object.entries(PARTITION_TYPES))("%s has a name and a GUID that find each other", (name, guid) => {
    expect(partitionTypeGuid(name)).toBe(guid);
    expect(partitionTypeName(guid.toUpperCase())).toBe(name);
  });

  test("are all different", () => {
    const guids = Object.values(PARTITION_TYPES);
    expect(new Set(guids).size).toBe(guids.length);
  });

  test("may be any GUID, and nothing else", () => {
    expect(partitionTypeGuid("0FC63DAF-8483-4772-8E79-3D69D8477DE5")).toBe("0fc63daf-8483-4772-8e79-3d69d8477de5");
    for (const wrong of ["", "ESP", "toString", "root"]) expect(() => partitionTypeGuid(wrong)).toThrow(DiskImageError);
  });
});
