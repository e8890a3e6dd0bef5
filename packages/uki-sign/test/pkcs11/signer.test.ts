import { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import { pkcs11Certificate, pkcs11Signer, UkiSignError } from "../../src/index.ts";
import { rejectionOf } from "../support/errors.ts";
import { playing, recordedAnswers } from "../support/p11-kit.ts";

const URI = "pkcs11:token=hare;object=db";
const DIGEST = new Uint8Array(32).fill(7);
const answers = recordedAnswers();

/** Signs with a server that gives these answers. */
async function sign(bytes: Uint8Array, step?: number): Promise<{ publicKey: Uint8Array; signature: Uint8Array }> {
  const signer = await pkcs11Signer(URI, { pin: "1234", connect: async () => playing(bytes, step) });
  try {
    return { publicKey: signer.publicKey, signature: await signer.signDigest("sha256", DIGEST) };
  } finally {
    await signer.close();
  }
}

/** Where the answer with this number of the recording begins, and how long it is. */
function answerAt(number: number): { start: number; end: number } {
  const view = new DataView(answers.buffer);
  let start = 1;
  for (let index = 1; index < number; index++) start += 12 + view.getUint32(start + 4) + view.getUint32(start + 8);
  return { start, end: start + 12 + view.getUint32(start + 8) };
}

/** The recording up to an answer, and in its place a refusal. */
function refusing(number: number, result: number): Uint8Array {
  const { start } = answerAt(number);
  const refusal = new Uint8Array(12 + 17);
  const view = new DataView(refusal.buffer);
  view.setUint32(0, number);
  view.setUint32(8, 17);
  view.setUint32(12 + 4, 1);
  refusal[12 + 8] = "u".charCodeAt(0);
  view.setUint32(12 + 13, result);
  return new Uint8Array([...answers.subarray(0, start), ...refusal]);
}

describe("a signer on a token", () => {
  test("signs as the recorded token did, however its answers arrive", async () => {
    const whole = await sign(answers);
    expect(whole.signature).toHaveLength(256);
    expect(await sign(answers, 1)).toEqual(whole);
  });

  test("refuses every answer that is cut short", { timeout: 60_000 }, async () => {
    for (let length = 0; length < answers.length; length += length < 200 ? 1 : 7) {
      expect((await rejectionOf(sign(answers.subarray(0, length)))).code, `cut to ${length}`).toBe("UKI_SIGN_PKCS11");
    }
  });

  test("takes no byte that is changed for anything but an answer or an error of this package", {
    timeout: 60_000,
  }, async () => {
    for (let at = 0; at < answers.length; at += 3) {
      const flipped = Uint8Array.from(answers);
      flipped[at] = (flipped[at] ?? 0) ^ (at % 6 === 0 ? 0xff : 0x01);
      const outcome = await sign(flipped).catch((error: unknown) => error);
      if (outcome instanceof Error && !(outcome instanceof UkiSignError)) throw outcome;
    }
  });

  // The calls: C_Initialize, C_GetSlotList, C_GetTokenInfo twice, C_OpenSession, C_GetTokenInfo, C_Login, three to find the
  // key, C_GetAttributeValue, C_SignInit, C_Sign.
  const [login, signInit] = [7, 12];
  test.each([
    ["a wrong PIN", login, 0xa0, "UKI_SIGN_PIN", "a wrong one"],
    ["a locked token", login, 0xa4, "UKI_SIGN_PIN", "has locked itself"],
    ["a token without a PIN", login, 0x102, "UKI_SIGN_PIN", "has none yet"],
    ["a login that fails otherwise", login, 0x30, "UKI_SIGN_PKCS11", "CKR_DEVICE_ERROR"],
    ["no tokens at all", 2, 0x54, "UKI_SIGN_PKCS11", "CKR_FUNCTION_NOT_SUPPORTED"],
    ["a mechanism that is missing", signInit, 0x70, "UKI_SIGN_MECHANISM", "CKR_MECHANISM_INVALID"],
    ["a key that may not sign", signInit, 0x68, "UKI_SIGN_MECHANISM", "CKR_KEY_FUNCTION_NOT_PERMITTED"],
    ["a reason that is not known", 5, 0x8000_0001, "UKI_SIGN_PKCS11", "CKR 0x80000001"],
  ])("tells %s", async (_what, number, result, code, text) => {
    const error = await rejectionOf(sign(refusing(number, result)));
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
    expect(`${error.message}${error.hint ?? ""}`).not.toContain("1234");
  });

  test("never takes the last attempt before a token locks itself", async () => {
    const { start } = answerAt(6);
    // Frame, number, length and four letters of fields and more, four texts: then the flags.
    const flags = start + 12 + 4 + 4 + 18 + 4 * 4 + 32 + 32 + 16 + 16;
    const last = Uint8Array.from(answers);
    last[flags + 5] = (last[flags + 5] ?? 0) | 0x02;
    expect((await rejectionOf(sign(last))).message).toContain("one wrong PIN locks");
    const locked = Uint8Array.from(answers);
    locked[flags + 5] = (locked[flags + 5] ?? 0) | 0x04;
    expect((await rejectionOf(sign(locked))).message).toContain("which is locked");
  });

  test("needs a PIN, and asks for it once", async () => {
    const questions: string[] = [];
    const ask = async (of: string): Promise<undefined> => void questions.push(of);
    const error = await rejectionOf(pkcs11Signer(URI, { pin: ask, connect: async () => playing(answers) }));
    expect([error.code, questions]).toEqual(["UKI_SIGN_PIN", ['token "hare"']]);
  });

  test("refuses an answer that is too long before it is read", async () => {
    const long = Uint8Array.from(answers);
    new DataView(long.buffer).setUint32(1 + 8, 0x7fff_ffff);
    expect((await rejectionOf(sign(long))).message).toContain("expected an answer of at most 262144 bytes");
  });

  test("does not wait for ever, and not longer than its caller", async () => {
    const silent = (): Duplex => new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const slow = await rejectionOf(pkcs11Signer(URI, { timeoutMs: 20, connect: async () => silent() }));
    expect([slow.code, slow.message]).toEqual([
      "UKI_SIGN_PKCS11",
      "expected an answer from p11-kit, got none in 20 ms",
    ]);
    const signal = AbortSignal.abort(new Error("Ctrl-C"));
    await expect(pkcs11Signer(URI, { signal, connect: async () => silent() })).rejects.toThrow("Ctrl-C");
  });

  test.each([
    ["pkcs11:token=hare;type=cert", "type=private"],
    ["pkcs11:token=hare?module-path=/lib/module.so", "module-path"],
  ])("refuses %s", async (uri, text) => {
    const error = await rejectionOf(pkcs11Signer(uri, { connect: async () => playing(answers) }));
    expect([error.code, error.message]).toEqual(["UKI_SIGN_PKCS11_URI", expect.stringContaining(text)]);
  });

  test("refuses a certificate's URI that names a key", async () => {
    const error = await rejectionOf(
      pkcs11Certificate("pkcs11:type=private", { connect: async () => playing(answers) }),
    );
    expect(error.code).toBe("UKI_SIGN_PKCS11_URI");
  });

  test.each([
    ["/none/module.so", "none"],
    ["/tmp", "something else"],
  ])("names a module that is not there: %s", async (path, got) => {
    const error = await rejectionOf(pkcs11Signer(`pkcs11:object=db?module-path=${path}`, { pin: "1234" }));
    expect([error.code, error.message]).toEqual([
      "UKI_SIGN_PKCS11",
      `expected a PKCS#11 module at ${path}, got ${got}`,
    ]);
  });
});
