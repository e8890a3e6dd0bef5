import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  assembleUki,
  authenticodeDigest,
  type ByteSource,
  buildUki,
  decodePe,
  examineSignatures,
  type FileSource,
  fileSource,
  inspectUki,
  measuredSections,
  predictPcr4,
  predictPcr11,
  predictPcrPolicies,
  readBytes,
  removeSignatures,
  signPe,
  verifyPe,
  writePe,
} from "../../src/index.ts";
import { testCertificate } from "../support/certificates.ts";
import { rejectionOf, torture } from "../support/errors.ts";
import { testSigner } from "../support/keys.ts";
import { scratch } from "../support/oracles.ts";
import { fill, TEST_PE, testKernel, testPe, testStub, withU32 } from "../support/pe.ts";

const owner = await testCertificate("owner");
const sign = { signer: testSigner("owner"), certificate: owner, signingTime: new Date("2026-06-01T00:00:00Z") };
const db = { certificates: [owner] };

/** A source over bytes that knows nothing of memory. */
const sourceOf = (bytes: Uint8Array): ByteSource => ({
  sizeBytes: bytes.length,
  readIntoSync: (target, offset) => target.set(bytes.subarray(offset, offset + target.length)),
});

/** Runs `action` with the bytes in a file. */
async function withFile<T>(bytes: Uint8Array, action: (file: FileSource, folder: string) => Promise<T>): Promise<T> {
  const folder = scratch();
  writeFileSync(join(folder, "image.efi"), bytes);
  const file = await fileSource(join(folder, "image.efi"));
  try {
    return await action(file, folder);
  } finally {
    await file.close();
  }
}

const signed = await signPe(testPe(), sign);
const uki = buildUki({ stub: testStub(), linux: testKernel("6.12"), initrd: fill(3 << 20, 7), cmdline: "quiet" });
const IMAGES: [string, Uint8Array][] = [
  ["a small image", testPe()],
  ["an image of a size that is no multiple of 8", Uint8Array.of(...testPe(), 1, 2, 3)],
  ["a signed image", signed],
  ["an image with a checksum", withU32(testPe(), TEST_PE.optional + 64, 0x1234)],
  ["an image without data", testPe({ sections: [] })],
  ["a unified kernel image of 3 MiB", uki],
];

describe("writePe", () => {
  test.each(IMAGES)("signs %s on the way to a file as signPe does in memory", async (_name, image) => {
    await withFile(image, async (file, folder) => {
      await writePe(join(folder, "signed.efi"), file, { sign });
      expect(Buffer.compare(readFileSync(join(folder, "signed.efi")), await signPe(image, sign))).toBe(0);
      await writePe(join(folder, "copy.efi"), image);
      expect(Buffer.compare(readFileSync(join(folder, "copy.efi")), image)).toBe(0);
    });
  });

  test("replaces the file that it reads from, whose mode stays, and makes a new one with the mode it is told", async () => {
    await withFile(uki, async (file, folder) => {
      await writePe(join(folder, "image.efi"), file, { sign, mode: 0o600 });
      expect(verifyPe(readFileSync(join(folder, "image.efi")), { db }).signature).toBe(0);
      expect(statSync(join(folder, "image.efi")).mode & 0o777).toBe(0o644);
      await writePe(join(folder, "new.efi"), file, { mode: 0o600 });
      expect(statSync(join(folder, "new.efi")).mode & 0o777).toBe(0o600);
    });
  });

  test("is the same where the kernel cannot copy, whatever it has left", async () => {
    await withFile(uki, async (file, folder) => {
      const copyTo = async (output: FileHandle): Promise<boolean> => {
        await output.writeFile(fill(5 << 20, 9));
        return false;
      };
      await writePe(join(folder, "signed.efi"), { ...file, copyTo }, { sign });
      expect(Buffer.compare(readFileSync(join(folder, "signed.efi")), await signPe(uki, sign))).toBe(0);
      const full = {
        ...file,
        copyTo: async () =>
          Promise.reject(Object.assign(new Error("no room"), { code: "ENOSPC", errno: -28, syscall: "copyfile" })),
      };
      expect(await rejectionOf(writePe(join(folder, "x.efi"), full, { sign }))).toMatchObject({
        code: "UKI_SIGN_FILE",
      });
      expect(readdirSync(folder).sort()).toEqual(["image.efi", "signed.efi"]);
    });
  });

  test("leaves nothing behind when it cannot write, is called off, or the key is wrong", async () => {
    await withFile(uki, async (file, folder) => {
      const nowhere = join(folder, "no/such/folder/x.efi");
      expect(await rejectionOf(writePe(nowhere, file))).toMatchObject({ code: "UKI_SIGN_FILE", path: nowhere });
      const signal = AbortSignal.abort(new Error("called off"));
      await expect(writePe(join(folder, "x.efi"), file, { signal })).rejects.toThrow("called off");
      await expect(writePe(join(folder, "x.efi"), file, { sign, signal })).rejects.toThrow("called off");
      const stranger = { ...sign, signer: testSigner("stranger") };
      expect((await rejectionOf(writePe(join(folder, "x.efi"), file, { sign: stranger }))).code).toBe(
        "UKI_SIGN_KEY_MISMATCH",
      );
      expect(readdirSync(folder)).toEqual(["image.efi"]);
    });
  });
});

describe("images in files", () => {
  test.each(IMAGES)("are what they are in memory: %s", async (_name, image) => {
    await withFile(await signPe(image, sign), async (file) => {
      const bytes = readBytes(file);
      expect(decodePe(file)).toEqual(decodePe(bytes));
      expect(authenticodeDigest(file, "sha384")).toEqual(authenticodeDigest(bytes, "sha384"));
      expect(examineSignatures(file)).toEqual(examineSignatures(bytes));
      expect(verifyPe(file, { db })).toEqual(verifyPe(bytes, { db }));
      const programs = (program: Uint8Array | ByteSource) => [{ name: "x", image: program }];
      expect(predictPcr4({ programs: programs(file) })).toEqual(predictPcr4({ programs: programs(bytes) }));
      expect(Buffer.compare(readBytes(removeSignatures(file, 0)), removeSignatures(bytes, 0))).toBe(0);
    });
  });

  test("are inspected and measured as in memory", async () => {
    await withFile(uki, async (file) => {
      expect(inspectUki(file)).toEqual(inspectUki(uki));
      const [ours, theirs] = [measuredSections(file), measuredSections(uki)];
      expect(predictPcr11({ sections: ours })).toEqual(predictPcr11({ sections: theirs }));
      expect(predictPcrPolicies({ sections: ours })).toEqual(predictPcrPolicies({ sections: theirs }));
    });
  });

  test("let only the package's error escape when damaged", () => {
    torture(
      signed,
      (damaged) => {
        const source = sourceOf(damaged);
        verifyPe(source, { db });
        readBytes(removeSignatures(source));
      },
      7,
    );
  });
});

describe("assembleUki", () => {
  test("gives what buildUki gives, from files", async () => {
    const parts = { stub: testStub(), linux: testKernel("6.12"), initrd: fill(3 << 20, 7), cmdline: "quiet" };
    const { stub, linux, initrd } = parts;
    const lazy = { stub: sourceOf(stub), linux: sourceOf(linux), initrd: [sourceOf(initrd), fill(5, 1)] };
    const image = assembleUki({ ...parts, ...lazy });
    const eager = buildUki({ ...parts, initrd: [initrd, fill(5, 1)] });
    expect(Buffer.compare(readBytes(image), eager)).toBe(0);
    const both = await signPe(image, sign);
    expect(both).not.toBeInstanceOf(Uint8Array);
    expect(Buffer.compare(readBytes(both), await signPe(eager, sign))).toBe(0);
  });
});

test("fileSource refuses what is no file, and reads what is there", async () => {
  const folder = scratch();
  expect((await rejectionOf(fileSource(folder))).code).toBe("UKI_SIGN_FILE");
  expect((await rejectionOf(fileSource(join(folder, "nothing")))).code).toBe("UKI_SIGN_FILE");
});
