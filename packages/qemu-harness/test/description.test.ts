import { describe, expect, expectTypeOf, test } from "vitest";
import { DEFAULT_MAX_SMBIOS_BYTES, type MachineDescription, QemuError, resolveMachine } from "../src/index.ts";

type Boot = MachineDescription["boot"];

function problems(description: unknown): QemuError {
  try {
    resolveMachine(description as MachineDescription);
  } catch (error) {
    if (error instanceof QemuError) return error;
    throw error;
  }
  throw new Error("expected the description to be refused");
}

describe("a machine description", () => {
  test("needs nothing but what it boots", () => {
    expect(resolveMachine({ boot: { type: "uefi" } })).toMatchObject({
      name: "machine",
      memoryMiB: 512,
      cpus: 1,
      boot: { type: "uefi", secureBoot: false },
      consoles: [{ name: "serial0", type: "serial" }],
      rng: true,
    });
  });

  test("has no Secure Boot with a direct kernel boot, for the compiler and at run time", () => {
    expectTypeOf<{ type: "kernel"; kernelPath: string }>().toExtend<Boot>();
    expectTypeOf<{ type: "kernel"; kernelPath: string; secureBoot: true }>().not.toExtend<Boot>();
    const error = problems({ boot: { type: "kernel", kernelPath: "/k", secureBoot: true } });
    expect(error.code).toBe("QEMU_BAD_OPTIONS");
    expect(error.issues).toEqual([
      { path: "boot.secureBoot", message: expect.stringContaining("-kernel goes around Secure Boot") },
    ]);
  });

  test("has no Secure Boot without enrolled keys, for the compiler and at run time", () => {
    expectTypeOf<{ type: "uefi"; secureBoot: true }>().not.toExtend<Boot>();
    expectTypeOf<{ type: "uefi"; secureBoot: true; variables: { path: string } }>().toExtend<Boot>();
    expect(problems({ boot: { type: "uefi", secureBoot: true } }).issues?.[0]?.path).toBe("boot.variables");
  });

  test.each([
    [{ machine: "microvm", boot: { type: "uefi" } }, "boot.type"],
    [{ machine: "microvm", boot: { type: "bios" } }, "boot.type"],
    [{ machine: "microvm", boot: { type: "linux", kernelPath: "/k" }, tpm: {} }, "tpm"],
    [{ machine: "microvm", boot: { type: "linux", kernelPath: "/k" }, cds: [{ path: "/i" }] }, "cds"],
    [{ machine: "pc", boot: { type: "uefi", secureBoot: true, variables: { path: "/v" } } }, "machine"],
    [{ boot: { type: "linux", kernelPath: "/k", secureBoot: true } }, "boot.secureBoot"],
    [{ boot: { type: "bios" }, cds: [{ path: "/a" }, { path: "/b" }, { path: "/c" }] }, "cds"],
  ])("has nothing that its kind of PC has not: %j", (description, path) => {
    expect(problems(description).issues?.map((issue) => issue.path)).toEqual([path]);
  });

  test("is refused with every mistake at once", () => {
    const error = problems({
      boot: { type: "uefi" },
      memory: 5,
      cpus: 0,
      disks: [{ path: "" }, { path: "/d", access: "rw" }],
      networks: [{ type: "user", forwards: [{ hostPort: 70_000, guestPort: 22 }] }],
    });
    expect(error.issues?.map((issue) => issue.path).sort()).toEqual([
      "",
      "cpus",
      "disks[0].path",
      "disks[1].access",
      "networks[0].forwards[0].hostPort",
    ]);
    expect(error.message).toContain("cpus");
  });

  const refused: readonly (readonly [string, object, string])[] = [
    ["a console name twice", { consoles: [{ name: "a" }, { name: "a" }] }, "consoles[1].name"],
    ["a console name with a comma", { consoles: [{ name: "a,b" }] }, "consoles[0].name"],
    ["five serial ports", { consoles: ["a", "b", "c", "d", "e"].map((name) => ({ name })) }, "consoles"],
    ["no console", { consoles: [] }, "consoles"],
    ["forks that write one disk", { forkable: true, disks: [{ path: "/d", access: "writable" }] }, "disks[0].access"],
    ["forks that write one TPM", { forkable: true, tpm: { statePath: "/t" } }, "tpm.statePath"],
    [
      "forks that write one variable store",
      { forkable: true, boot: { type: "uefi", variables: { path: "/v", writable: true } } },
      "boot.variables.writable",
    ],
    ["a NUL in an argument", { extraArgs: ["a\0b"] }, "extraArgs[0]"],
    ["a machine name with a comma", { name: "a,b" }, "name"],
    ["a disk serial number that is too long", { disks: [{ path: "/d", serial: "x".repeat(21) }] }, "disks[0].serial"],
    ["a fw_cfg item with value and path", { fwCfg: [{ name: "opt/a", value: "", path: "/p" }] }, "fwCfg[0]"],
    [
      "a host name to listen on",
      { networks: [{ type: "user", forwards: [{ hostAddress: "x", hostPort: 1, guestPort: 1 }] }] },
      "networks[0].forwards[0].hostAddress",
    ],
    ["more SMBIOS text than fits", { smbiosStrings: ["x".repeat(DEFAULT_MAX_SMBIOS_BYTES)] }, "smbiosStrings"],
    [
      "a bigger credential than fits",
      { credentials: { a: new Uint8Array(DEFAULT_MAX_SMBIOS_BYTES) } },
      "smbiosStrings",
    ],
  ];
  test.for(refused)("is refused with %s", ([, part, path]) => {
    expect(problems({ boot: { type: "uefi" }, ...part }).issues?.map((issue) => issue.path)).toEqual([path]);
  });

  test.for([undefined, null, 1, "x", [], {}, { boot: "uefi" }, { boot: { type: "grub" } }])(
    "is refused when it is %j",
    (input) => {
      expect(problems(input).code).toBe("QEMU_BAD_OPTIONS");
    },
  );
});
