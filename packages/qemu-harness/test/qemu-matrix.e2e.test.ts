// The tests with real machines once more with the newer QEMUs. QEMU_HARNESS_FULL_MATRIX=1 runs all of them, which takes
// minutes for each QEMU; otherwise those of the kinds of PC.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { missingOracles } from "./oracles.ts";
import { testQemus } from "./qemus.ts";
import { runVitest } from "./run-vitest.ts";

const TESTS = fileURLToPath(new URL(".", import.meta.url));
/** They look for all QEMUs by themselves, or run tests themselves. */
const WITH_OWN_QEMU = ["faults", "qmp", "vitest", "example", basename(import.meta.filename).split(".")[0]];

const missing = missingOracles();
const isFull = process.env.QEMU_HARNESS_FULL_MATRIX === "1";
const names = readdirSync(TESTS)
  .filter((name) => name.endsWith(".e2e.test.ts"))
  .filter((name) => (isFull ? !WITH_OWN_QEMU.includes(name.split(".")[0]) : name.startsWith("kinds.")));
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-matrix-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe.skipIf(missing !== "").each(testQemus().slice(1))("with $name", (qemu) => {
  test.skipIf(qemu.missing !== "").each(names)(
    "everything is as with the installed one: %s",
    (name) => {
      const env = { LEVERET_QEMU: qemu.path };
      const { output, results } = runVitest({ root: TESTS, directory, env, args: [name] });
      expect(
        results.filter(({ state }) => state !== "passed"),
        output,
      ).toEqual([]);
      expect(results.length, output).toBeGreaterThan(0);
    },
    1_800_000,
  );
});
