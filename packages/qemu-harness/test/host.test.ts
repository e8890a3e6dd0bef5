import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { probeDevice } from "../src/accelerator.ts";
import { findFirmware, findQemu, type MachineDescription, startMachine } from "../src/index.ts";
import { PROBE_EXIT_CODE } from "../src/internal/probe-guest.ts";
import { failure } from "./failure.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "qemu-harness-host-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A program that says which version it is, and runs `body` when asked for anything else. */
function fakeQemu(version: string, body = "", name = "qemu-system-x86_64"): string {
  const path = join(directory, name);
  writeFileSync(path, `#!/bin/sh\ncase "$1" in --version) echo "${version}"; exit;; esac\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("findQemu", () => {
  test("prefers the option to the variable to PATH", async () => {
    fakeQemu("QEMU emulator version 8.0.0");
    const variable = fakeQemu("QEMU emulator version 9.1.2 (Debian)", "", "from-env");
    const option = fakeQemu("QEMU emulator version 10.0.50", "", "from-option");
    const path = { PATH: `relative:${directory}` };
    expect((await findQemu({ env: path })).version).toEqual({ major: 8, minor: 0, micro: 0 });
    expect((await findQemu({ env: { ...path, LEVERET_QEMU: variable } })).version.major).toBe(9);
    expect((await findQemu({ env: { ...path, LEVERET_QEMU: variable }, path: option })).version.major).toBe(10);
  });

  test("says what it searched when there is none", async () => {
    const nothing = await failure(findQemu({ env: { PATH: directory } }));
    expect(nothing).toMatchObject({ code: "QEMU_NOT_FOUND", searched: [directory] });
    expect(nothing.hint).toContain("LEVERET_QEMU");
    expect((await failure(findQemu({ path: "/nowhere/qemu" }))).searched).toEqual(["/nowhere/qemu"]);
  });

  test("refuses a program that is not QEMU", async () => {
    expect((await failure(findQemu({ path: fakeQemu("GNU bash") }))).code).toBe("QEMU_NOT_FOUND");
  });

  test.for([
    ["6.2.0", "QEMU_TOO_OLD"],
    ["7.1.94", "QEMU_TOO_OLD"],
    ["7.2.0", undefined],
    ["11.1.0", undefined],
  ] as const)("with version %s gives %s", async ([version, code]) => {
    const found = findQemu({ path: fakeQemu(`QEMU emulator version ${version}`) });
    expect(code === undefined ? (await found).path : (await failure(found)).code).toBe(
      code ?? join(directory, "qemu-system-x86_64"),
    );
  });
});

describe("findFirmware", () => {
  test("takes the first complete pair of the directory in the variable", async () => {
    for (const name of ["OVMF_CODE_4M.secboot.fd", "OVMF_CODE.secboot.4m.fd", "OVMF_VARS.4m.fd"]) {
      writeFileSync(join(directory, name), "");
    }
    expect(await findFirmware({ secureBoot: true, env: { LEVERET_OVMF: directory } })).toEqual({
      codePath: join(directory, "OVMF_CODE.secboot.4m.fd"),
      variablesPath: join(directory, "OVMF_VARS.4m.fd"),
    });
  });

  test("prefers the option, and says what it searched", async () => {
    const error = await failure(findFirmware({ directory, env: { LEVERET_OVMF: "/elsewhere" } }));
    expect(error).toMatchObject({ code: "QEMU_FIRMWARE_NOT_FOUND", searched: [directory] });
  });
});

describe("starting a machine", () => {
  const boot = { type: "kernel", kernelPath: "/k" } as const;
  test.for<[string, MachineDescription, string]>([
    ["swtpm", { boot, tpm: {} }, "apt install swtpm"],
    ["mkfifo", { boot }, "coreutils"],
    ["setpriv", { boot, consoles: [{ name: "port", type: "port" }] }, "apt install util-linux"],
  ])("without %s in PATH says what to install", async ([program, description, hint]) => {
    fakeQemu("QEMU emulator version 8.0.0");
    const error = await failure(startMachine(description, { accelerator: "tcg", env: { PATH: directory } }));
    expect(error).toMatchObject({
      code: "QEMU_TOOL_NOT_FOUND",
      message: expect.stringContaining(program),
      hint: expect.stringContaining(hint),
    });
  });
});

// A device that everybody may open stands for /dev/kvm, and scripts for QEMU.
describe("the accelerator probe", () => {
  const device = "/dev/null";

  async function probe(
    body: string,
    options: { timeoutMs?: number; fresh?: boolean } = {},
  ): ReturnType<typeof probeDevice> {
    const path = join(directory, "qemu-system-x86_64");
    // Another file would be another QEMU, to be asked anew.
    if (!existsSync(path)) fakeQemu("QEMU emulator version 7.2.0", body);
    const qemu = await findQemu({ path });
    const env = { PATH: process.env.PATH, XDG_CACHE_HOME: join(directory, "cache") };
    return probeDevice(device, { qemu, env, ...options });
  }

  test("believes a guest that got to its end, and remembers it across processes", async () => {
    expect(await probe(`exit ${PROBE_EXIT_CODE}`)).toMatchObject({ kind: "kvm", cached: false });
    expect(await probe(`exit ${PROBE_EXIT_CODE}`)).toMatchObject({ kind: "kvm", cached: true });
    expect(readdirSync(join(directory, "cache/leveret"))).toEqual(["qemu-accelerator.json"]);
    expect(await probe(`exit ${PROBE_EXIT_CODE}`, { fresh: true })).toMatchObject({ kind: "kvm", cached: false });
  });

  test("does not wait for a guest that hangs beyond the deadline", async () => {
    // It never ends, so whoever waits for it gets no answer at all.
    const answer = await probe("trap '' TERM; exec sleep infinity", { timeoutMs: 300 });
    expect(answer).toMatchObject({ kind: "tcg", reason: expect.stringContaining("within 300 ms") });
  });

  test("says what QEMU said", async () => {
    const answer = await probe("echo 'failed to initialize kvm: Operation not permitted' >&2; exit 1");
    expect(answer).toMatchObject({ kind: "tcg", reason: expect.stringContaining("Operation not permitted") });
  });

  test("asks again when its cache is not readable as one", async () => {
    mkdirSync(join(directory, "cache/leveret"), { recursive: true });
    const path = join(directory, "cache/leveret/qemu-accelerator.json");
    writeFileSync(path, "{ damaged");
    expect(await probe(`exit ${PROBE_EXIT_CODE}`)).toMatchObject({ kind: "kvm", cached: false });
    expect(JSON.parse(readFileSync(path, "utf8")).kind).toBe("kvm");
  });

  test("does not try without a device", async () => {
    const qemu = await findQemu({ path: fakeQemu("QEMU emulator version 7.2.0") });
    expect(await probeDevice("/dev/none", { qemu })).toEqual({
      kind: "tcg",
      reason: "/dev/none does not exist",
      cached: false,
    });
  });
});
