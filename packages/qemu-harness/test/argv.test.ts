import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ArgvContext, buildArgv, commandLine, type MachineDescription, resolveMachine } from "../src/index.ts";

const firmware = { codePath: "/fw/CODE.fd", variablesPath: "/fw/VARS.fd" };
const context: ArgvContext = {
  accelerator: "tcg",
  qemuVersion: { major: 7, minor: 2, micro: 22 },
  firmware,
  fds: { qmp: 3, pipes: 4, credentials: [] },
};

const everything: MachineDescription = {
  name: "everything",
  memoryMiB: 1024,
  cpus: 2,
  boot: { type: "uefi", secureBoot: true, variables: { path: "/my/vars,1.fd", writable: true } },
  disks: [
    { path: "/img/os.raw", serial: "os" },
    { path: "/img/data,1.qcow2", format: "qcow2", access: "writable" },
    { path: "nbd:ro.raw", access: "read-only" },
  ],
  tpm: { statePath: "/state/tpm" },
  networks: [
    {
      type: "user",
      isolated: true,
      forwards: [
        { hostPort: 2222, guestPort: 22 },
        { protocol: "udp", hostAddress: "0.0.0.0", hostPort: 5353, guestPort: 53 },
      ],
    },
  ],
  consoles: [{ name: "serial0" }, { name: "hvc", type: "virtio" }, { name: "report", type: "port" }],
  fwCfg: [
    { name: "opt/a", value: "x,y" },
    { name: "opt/b", path: "/cfg,b" },
  ],
  smbiosStrings: ["io.systemd.stub.kernel-cmdline-extra=a,b"],
  credentials: { token: "secret" },
  extraArgs: ["-device", "pvpanic"],
};

describe("buildArgv", () => {
  const cases: readonly (readonly [string, MachineDescription, Partial<ArgvContext>])[] = [
    ["minimal-uefi", { boot: { type: "uefi" } }, {}],
    [
      "kernel",
      { boot: { type: "kernel", kernelPath: "/k", initrdPath: "/i", commandLine: "a=b,c d" }, rng: false },
      {},
    ],
    [
      "everything",
      everything,
      { fds: { qmp: 3, pipes: 4, ports: [undefined, undefined, 5], tpm: 6, credentials: [7] } },
    ],
    ["kvm", { boot: { type: "uefi" } }, { accelerator: "kvm" }],
    [
      "agent",
      { boot: { type: "kernel", kernelPath: "/k", initrdPath: "/i", commandLine: "quiet" }, agent: true },
      { fds: { ...context.fds, agent: 5, initrd: 6 } },
    ],
    [
      "forkable",
      { boot: { type: "uefi" }, disks: [{ path: "os.raw" }, { path: "/img/d", access: "read-only" }], forkable: true },
      { fds: { ...context.fds, files: { memory: 5, overlays: [[6], []] } } },
    ],
    [
      "fork",
      { boot: { type: "uefi" }, disks: [{ path: "os.raw" }, { path: "/img/d", access: "read-only" }] },
      { fds: { ...context.fds, files: { memory: 5, overlays: [[6, 7], []], state: 8 } } },
    ],
    [
      "microvm",
      {
        machine: "microvm",
        boot: { type: "linux", kernelPath: "/k", initrdPath: "/i", commandLine: "console=ttyS0" },
        disks: [{ path: "/img/os.raw" }],
        networks: [{ type: "user" }, { type: "private", name: "lan", mac: "52:54:00:00:00:01" }],
      },
      { parameters: ["no_timer_check", "tsc_early_khz=2000000"], fds: { ...context.fds, networks: [undefined, 9] } },
    ],
    [
      "bios",
      {
        machine: "pc",
        boot: { type: "bios" },
        disks: [{ path: "/img/os.raw" }],
        cds: [{ path: "/a,b.iso" }, { path: "c" }],
      },
      {},
    ],
    ["pc-uefi", { machine: "pc", boot: { type: "uefi" } }, {}],
    [
      "virtual-clock",
      { boot: { type: "uefi" }, clock: { type: "virtual", seed: 7, base: "2038-01-19T03:00:00Z" } },
      {},
    ],
    ["qemu-10", { boot: { type: "uefi" } }, { qemuVersion: { major: 10, minor: 0, micro: 2 } }],
  ];

  test.for(cases)("gives %s its golden arguments", async ([name, description, changes]) => {
    const argv = buildArgv(resolveMachine(description), { ...context, ...changes });
    await expect(lines(argv)).toMatchFileSnapshot(`golden/${name}.argv`);
  });

  test("doubles every comma of a value, so that no value can add an option", () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        fc.pre(!value.includes("\0") && value !== "");
        const argv = buildArgv(resolveMachine({ boot: { type: "uefi" }, smbiosStrings: [value] }), context);
        const option = argv.find((word) => word.startsWith("type=11,value=")) ?? "";
        const rest = option.slice("type=11,value=".length);
        expect(rest.replaceAll(",,", "")).not.toContain(",");
        expect(rest.replaceAll(",,", ",")).toBe(value);
      }),
    );
  });

  test("never puts a credential into an argument", () => {
    const argv = buildArgv(resolveMachine({ boot: { type: "uefi" }, credentials: { a: "swordfish" } }), {
      ...context,
      fds: { ...context.fds, credentials: [9] },
    });
    expect(argv.join(" ")).not.toMatch(/swordfish/);
    expect(argv).toContain("type=11,path=/dev/fd/9");
  });
});

describe("commandLine", () => {
  test("is read back by a shell as the same words", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "binary" }), { maxLength: 8 }), (words) => {
        const sound = words.map((word) => word.replaceAll("\0", ""));
        const output = execFileSync("sh", ["-c", commandLine("printf", ["%s\\0", ...sound])]);
        // printf prints its format once even without words.
        expect(output.toString("utf8")).toBe(sound.length === 0 ? "\0" : sound.map((word) => `${word}\0`).join(""));
      }),
      { numRuns: 50 },
    );
  });
});

/** One option and its value per line. */
function lines(argv: readonly string[]): string {
  return `${argv.map((word, index) => (index === 0 ? word : `${word.startsWith("-") ? "\n" : " "}${word}`)).join("")}\n`;
}
