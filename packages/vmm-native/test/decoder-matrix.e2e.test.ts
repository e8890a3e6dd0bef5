// The instruction decoder against objdump, with encodings that native.e2e.test.ts has not tried.
// VMM_NATIVE_FULL_MATRIX=1 tries a million of them, which takes minutes.
import { describe, expect, test } from "vitest";
import { missingRust, testCore, titled } from "./support.ts";

const ENCODINGS = process.env.VMM_NATIVE_FULL_MATRIX === "1" ? 1_000_000 : 10_000;

const missing = missingRust();

describe.skipIf(missing !== "")(titled("the decoder", missing), () => {
  test(`agrees with objdump about ${ENCODINGS} encodings`, { timeout: 3_600_000 }, () => {
    const env = { ...process.env, LEVERET_SEED: process.env.LEVERET_SEED ?? "5", LEVERET_ENCODINGS: `${ENCODINGS}` };
    const said = testCore(["--test", "disassembler", "--", "--nocapture"], env);
    expect(said).toContain(`${ENCODINGS} encodings, GNU objdump`);
  });
});
