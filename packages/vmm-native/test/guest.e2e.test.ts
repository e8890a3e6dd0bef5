import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { startGuest, VmmError } from "../src/index.ts";
import { buildGuests, missingRust, testQemus, titled } from "./support.ts";

const missing = missingRust();
let guestFile: (name: string) => string;
beforeAll(() => {
  if (missing === "") guestFile = buildGuests();
});

async function failure(promise: Promise<unknown>): Promise<VmmError> {
  const error = await promise.then(
    () => new Error("expected a failure"),
    (reason: unknown) => reason,
  );
  if (error instanceof VmmError) return error;
  throw error;
}

for (const qemu of testQemus()) {
  const absent = missing || qemu.missing;
  describe.skipIf(absent !== "")(titled(`a guest in ${qemu.name}`, missing), () => {
    test("writes to its serial port, halts, and is said to have halted", async () => {
      const options = { qemu: await qemu.find() };
      await using guest = await startGuest({ kernelPath: guestFile("hello"), memoryMiB: 16 }, options);
      await guest.console.waitFor(/^hello from a guest\n/);
      const stop = await guest.waitForStop();
      expect(stop).toMatchObject({ reason: "halted", exits: { IOIO: "hello from a guest\n".length, HLT: 1 } });
      expect(await guest.waitForStop()).toBe(stop);
    });
  });
}

describe.skipIf(missing !== "")(titled("a guest that does not start", missing), () => {
  test("names the kernel that cannot be read", async () => {
    const error = await failure(startGuest({ kernelPath: "/nonexistent" }));
    expect(error).toMatchObject({ code: "VMM_UNREADABLE", path: "/nonexistent" });
  });

  test("names each field that is wrong", async () => {
    const error = await failure(startGuest({ kernelPath: "", memoryMiB: 1 }));
    expect(error.code).toBe("VMM_BAD_OPTIONS");
    expect(error.issues?.map(({ path }) => path)).toEqual(["kernelPath", "memoryMiB"]);
  });

  test("does not fit into its memory", async () => {
    const kernelPath = join(tmpdir(), "leveret-too-large");
    writeFileSync(kernelPath, Buffer.alloc(17 << 20));
    const error = await failure(startGuest({ kernelPath, memoryMiB: 16 }));
    expect(error).toMatchObject({ code: "VMM_START_FAILED", message: expect.stringContaining("17825792") });
  });
});
