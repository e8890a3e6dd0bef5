import { describe, expect, test } from "vitest";
import { missingRust, testCore, titled } from "./support.ts";

const missing = missingRust();

describe.skipIf(missing !== "")(titled("the hypervisor's core", missing), () => {
  test("passes its own tests on the host", () => {
    // Unit tests; and those of arithmetic against the processor, the decoder against objdump, a hostile guest,
    // and a hostile driver.
    expect(testCore([]).match(/^test result: ok\. [1-9]\d* passed; 0 failed; 0 ignored/gm)).toHaveLength(5);
  });
});
