import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  buildNestedTables,
  checkVmcb,
  countExits,
  decodeExit,
  decodeInstruction,
  decodeVmcb,
  encodeVmcb,
  FAMILY_19H,
  planLinux,
  VMCB_SIZE,
  type Vmcb,
  VmmError,
  walkNestedTables,
} from "../src/index.ts";
import { callNative, loadBinding, NATIVE_FUNCTIONS } from "../src/internal/binding.ts";
import { NATIVE_FILE } from "../src/native-file.ts";
import { titled } from "./support.ts";

const built = existsSync(NATIVE_FILE);
const missing = built ? "" : "no native code in dist: this checkout was built without Rust";

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof VmmError) return error.code;
    throw error;
  }
  throw new Error("expected a failure");
}

/** A block in real mode that VMRUN takes. */
function legalBlock(): Vmcb {
  const empty = decodeVmcb(new Uint8Array(VMCB_SIZE));
  const intercepts = empty.intercepts.map((word, index) => (index === 4 ? 1 : word));
  return { ...empty, intercepts, fields: { ...empty.fields, guestAsid: 1, efer: 1n << 12n, cr0: 0x10n } };
}

function blockWith(fields: Partial<Vmcb["fields"]>): Uint8Array {
  const legal = legalBlock();
  return encodeVmcb({ ...legal, fields: { ...legal.fields, ...fields } });
}

test("native code that is not there is said to be missing, with its package", () => {
  const names = ["@leveret/vmm-native-none-none", "/nonexistent/vmm-native.node"];
  expect(() => loadBinding(names)).toThrow(names.join(" or "));
  expect(codeOf(() => loadBinding(names))).toBe("VMM_NO_BINDING");
});

describe.skipIf(missing !== "")(titled("native code", missing), () => {
  test("has the functions that are used, and the version of the packages", () => {
    const binding = loadBinding();
    expect(Object.keys(binding).sort()).toEqual([...NATIVE_FUNCTIONS].sort());
    const version = (path: string): string =>
      (JSON.parse(readFileSync(fileURLToPath(new URL(path, import.meta.url)), "utf8")) as { version: string }).version;
    expect([version("../package.json"), version("../npm/linux-x64-gnu/package.json")]).toEqual([
      binding.version(),
      binding.version(),
    ]);
  });

  test("control blocks are decoded as they were encoded", () => {
    const fields = { ...legalBlock().fields, rip: 0xffff_ffff_8000_0000n, cpl: 3, eventInjection: 0x8000_0b0dn };
    const cs = { selector: 0x10, attributes: 0xa9b, limit: 0xffff_ffff, base: 0x1234_5678_9abcn };
    const vmcb = { ...legalBlock(), fields, segments: { ...legalBlock().segments, cs } };
    const block = encodeVmcb(vmcb);
    expect(block).toHaveLength(VMCB_SIZE);
    expect([...block.subarray(0x578, 0x580)]).toEqual([0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff]);
    expect(decodeVmcb(block)).toEqual(vmcb);
    expect(encodeVmcb(decodeVmcb(block))).toEqual(block);
  });

  test("control blocks of another size, and fields that do not fit, are refused", () => {
    for (const size of [0, 1, 4095, 4097]) {
      expect(codeOf(() => decodeVmcb(new Uint8Array(size)))).toBe("VMM_TRUNCATED");
    }
    for (const cpl of [256, -1, 0.5, Number.NaN, 1n << 64n, "3", undefined]) {
      expect(codeOf(() => blockWith({ cpl: cpl as number }))).toBe("VMM_BAD_ARGUMENT");
    }
    expect(codeOf(() => encodeVmcb({} as Vmcb))).toBe("VMM_BAD_ARGUMENT");
  });

  test("the rules that a block breaks are named", () => {
    expect(checkVmcb(blockWith({}))).toEqual([]);
    expect(checkVmcb(blockWith({ guestAsid: 0 }))).toEqual([
      { rule: "asid-zero", section: "15.5.1", expected: "the address space identifier is not zero" },
    ]);
    const rules = checkVmcb(blockWith({ cr0: 1n << 29n, dr7: 1n << 32n })).map(({ rule }) => rule);
    expect(rules).toEqual(["cr0-cd-nw", "dr7-high"]);
    const small = { ...FAMILY_19H, physicalAddressBits: 40 };
    expect(checkVmcb(blockWith({ msrpmBase: 1n << 40n }), small).map(({ rule }) => rule)).toEqual(["msrpm-address"]);
    expect(codeOf(() => checkVmcb(blockWith({}), { ...FAMILY_19H, physicalAddressBits: 64 }))).toBe("VMM_BAD_ARGUMENT");
  });

  test("exits are described and counted", () => {
    const io = blockWith({ exitCode: 0x7bn, exitInfo1: 0x3f8_0010n });
    expect(decodeExit(io)).toEqual({ reason: "IOIO", text: "IOIO (OUT of 1 bytes at port 0x3f8)" });
    const counts = countExits([blockWith({ exitCode: 0x72n }), io, io, blockWith({ exitCode: 2n ** 64n - 1n })]);
    expect(Object.entries(counts)).toEqual([
      ["IOIO", 2],
      ["CPUID", 1],
      ["INVALID", 1],
    ]);
  });

  test("instructions are decoded", () => {
    expect(decodeInstruction(Uint8Array.of(0x65, 0x48, 0x0f, 0xb7, 0x4c, 0x98, 0xfe), 64)).toEqual({
      operation: "load",
      to: { register: 1, highByte: false },
      resultSize: 8,
      signed: false,
      length: 7,
      size: 2,
      address: { segment: "gs", base: 0, index: { register: 3, scale: 4 }, displacement: 2n ** 64n - 2n, size: 8 },
    });
    expect(decodeInstruction(Uint8Array.of(0xf3, 0x6e), 16)).toMatchObject({
      operation: "string",
      what: "output",
      repeated: true,
    });
    expect(codeOf(() => decodeInstruction(Uint8Array.of(0x8b), 64))).toBe("VMM_BAD_INSTRUCTION");
    expect(codeOf(() => decodeInstruction(Uint8Array.of(0xcc), 64))).toBe("VMM_BAD_INSTRUCTION");
    expect(codeOf(() => decodeInstruction(Uint8Array.of(0x8b, 0x07), 8 as 16))).toBe("VMM_BAD_ARGUMENT");
  });

  test("nested page tables lead where they were built to", () => {
    const base = 0x10_0000n;
    const { root, bytes } = buildNestedTables({
      base,
      maxTables: 8,
      ranges: [
        { guest: 0n, host: 0x4000_0000n, sizeBytes: 4n << 20n, access: "full" },
        { guest: 0xfee0_0000n, host: 0x5000n, sizeBytes: 4096n, access: "no-execute" },
      ],
    });
    expect([root, bytes.length]).toEqual([base, 5 * 4096]);
    const walk = (guest: bigint) => walkNestedTables(bytes, base, root, guest);
    const untouched = { accessed: false, dirty: false };
    expect(walk(0x20_1234n)).toEqual({ host: 0x4020_1234n, pageSizeBytes: 2 << 20, access: "full", ...untouched });
    expect(walk(0xfee0_0fffn)).toEqual({ host: 0x5fffn, pageSizeBytes: 4096, access: "no-execute", ...untouched });
    expect(walk(4n << 20n)).toBeUndefined();
    expect(codeOf(() => walkNestedTables(bytes.subarray(0, 4096), base, root, 0n))).toBe("VMM_BAD_TABLES");
    expect(codeOf(() => walkNestedTables(bytes, 1n << 63n, root, 0n))).toBe("VMM_BAD_TABLES");
  });

  test("what cannot be mapped is refused", () => {
    const range = { guest: 0n, host: 0n, sizeBytes: 4096n, access: "full" } as const;
    const build = (ranges: readonly (typeof range)[], maxTables = 8): string =>
      codeOf(() => buildNestedTables({ base: 0n, maxTables, ranges }));
    expect(build([range, range])).toBe("VMM_BAD_MAPPING");
    expect(build([range], 1)).toBe("VMM_BAD_MAPPING");
    expect(build([{ ...range, access: "none" as "full" }])).toBe("VMM_BAD_ARGUMENT");
    expect(build([], 0)).toBe("VMM_BAD_ARGUMENT");
  });

  test("a kernel is planned as the hypervisor would load it", () => {
    const header = new Uint8Array(656);
    const view = new DataView(header.buffer);
    // Debian's 6.12 cloud kernel, as far as it matters.
    header.set([39], 0x1f1);
    header.set(Buffer.from("HdrS"), 0x202);
    view.setUint16(0x206, 0x20f, true);
    view.setUint32(0x22c, 0x7fff_ffff, true);
    view.setUint16(0x236, 0x7f, true);
    view.setUint32(0x238, 2047, true);
    view.setBigUint64(0x258, 16n << 20n, true);
    view.setUint32(0x260, 0x2b4_6000, true);
    const sizes = { kernelBytes: 10 << 20, initrdBytes: 5000, memoryBytes: 128 << 20 };
    expect(planLinux(header, sizes)).toEqual({
      kernel: { offset: 20480n, lengthBytes: (10n << 20n) - 20480n, address: 16n << 20n },
      initrd: { offset: 0n, lengthBytes: 5000n, address: (128n << 20n) - 8192n },
      entry: (16n << 20n) + 0x200n,
      bootParams: 0x7000n,
      maxCommandLineBytes: 2047,
    });
    expect(planLinux(header, { ...sizes, initrdBytes: 0 }).initrd).toBeUndefined();
    expect(codeOf(() => planLinux(header, { ...sizes, memoryBytes: 16 << 20 }))).toBe("VMM_BAD_KERNEL");
    expect(codeOf(() => planLinux(new Uint8Array(656), sizes))).toBe("VMM_BAD_KERNEL");
    expect(codeOf(() => planLinux(header.subarray(0, 655), sizes))).toBe("VMM_TRUNCATED");
  });

  test("whatever is passed, the process goes on", () => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    const odd = [undefined, null, true, -1, 1e300, -(2n ** 70n), "", [], {}, circle, new Uint16Array(4), Symbol("s")];
    for (const name of NATIVE_FUNCTIONS) {
      if (name === "version") continue;
      for (const one of odd) {
        for (const other of [...odd, new Uint8Array(VMCB_SIZE)]) {
          expect(["VMM_BAD_ARGUMENT", "VMM_TRUNCATED"]).toContain(codeOf(() => callNative(name, one, other)));
        }
      }
    }
  });
});
