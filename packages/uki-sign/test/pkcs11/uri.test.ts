import { describe, expect, test } from "vitest";
import { parsePkcs11Uri } from "../../src/index.ts";
import { errorOf } from "../support/errors.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe("parsePkcs11Uri", () => {
  test.each([
    ["pkcs11:", {}],
    ["pkcs11:token=hare", { token: "hare" }],
    // RFC 7512 section 3.
    ["pkcs11:object=my-pubkey;type=private", { object: "my-pubkey", type: "private" }],
    [
      "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
      {
        token: "The Software PKCS#11 Softtoken",
        manufacturer: "Snake Oil, Inc.",
        model: "1.0",
        object: "my-certificate",
        type: "cert",
        id: bytes(0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91),
        serial: "",
        pinSource: "/etc/token_pin",
      },
    ],
    [
      "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=x",
      { token: "A name with a substring %;", object: "x" },
    ],
    ["pkcs11:object=%c3%a4", { object: "ä" }],
    ["pkcs11:?pin-source=file:///run/pin", { pinSource: "/run/pin" }],
    ["pkcs11:?pin-source=pin&module-path=/usr/lib/a%26b.so", { pinSource: "pin", modulePath: "/usr/lib/a&b.so" }],
  ])("reads %s", (text, expected) => {
    const defined = Object.entries(parsePkcs11Uri(text)).filter(([, value]) => value !== undefined);
    expect(Object.fromEntries(defined)).toEqual(expected);
  });

  test.each([
    ["file:/db.key", "something else"],
    ["PKCS11:token=a", "something else"],
    ["pkcs11:token", '""'],
    ["pkcs11:tokens=a", '"tokens"'],
    ["pkcs11:slot-id=1", '"slot-id"'],
    ["pkcs11:token=a;token=a", "it twice"],
    ["pkcs11:token=a;", '""'],
    ["pkcs11:token=%4", "something else"],
    ["pkcs11:token=%", "something else"],
    ["pkcs11:token=%ff", "other bytes"],
    ["pkcs11:type=public", '"public"'],
    ["pkcs11:token=a?pin-value=secret", "pin-value"],
    ["pkcs11:pin-value=secret", "pin-value"],
    ["pkcs11:?pin-source=|cat", "something else"],
    ["pkcs11:?pin-source=", "something else"],
    ["pkcs11:?module-path=evil.so", '"evil.so"'],
    ["pkcs11:a?b?c", "several"],
    [`pkcs11:token=${"a".repeat(4096)}`, "4109"],
  ])("refuses %s", (text, got) => {
    const error = errorOf(() => parsePkcs11Uri(text));
    expect(error.code).toBe("UKI_SIGN_PKCS11_URI");
    expect(error.message).toMatch(/^expected .* in the PKCS#11 URI, got /);
    expect(error.message).toContain(`got ${got}`);
    expect(error.message).not.toContain("secret");
  });
});
