import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { VMCB_SIZE } from "@leveret/vmm-native";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  buildGuests,
  busyboxInitrd,
  debianKernel,
  missingRust,
  titled,
} from "../../../packages/vmm-native/test/support.ts";
import { leveretHv } from "./support.ts";

const missing = missingRust();
const directory = mkdtempSync(join(tmpdir(), "hypervisor-runner-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Writes a file that is gone when the tests are over. */
function scratch(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

/** The command as people start it; `typed` is, once it has said `question`. */
async function start(argv: readonly string[], question = "", typed = "") {
  const command = fileURLToPath(new URL("../bin/leveret-hv.js", import.meta.url));
  const child = spawn(process.execPath, [command, ...argv]);
  const said = { out: "", err: "" };
  const waits = (): boolean => question !== "" && said.out.includes(question);
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const waited = waits();
    said.out += text;
    if (!waited && waits()) child.stdin.end(typed);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said.err += text;
  });
  const [exitCode] = await once(child, "close");
  return { exitCode, ...said };
}

const events = (out: string) =>
  out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe.skipIf(missing !== "")(titled("leveret-hv", missing), () => {
  let guestFile: (name: string) => string;
  beforeAll(() => {
    guestFile = buildGuests();
  });

  test("shows what a guest says, and how it ended", async () => {
    const { exitCode, out, err } = await start(["run", "--kernel", guestFile("hello"), "--memory", "16M"]);
    expect({ exitCode, out, err }).toEqual({
      exitCode: 1,
      out: "hello from a guest\n",
      err: "the guest stopped: it halted with interrupts disabled\n",
    });
  });

  test("prints one object a line", async () => {
    const { exitCode, out } = await leveretHv("run", "--kernel", guestFile("hello"), "--memory", "16M", "--json");
    expect(exitCode).toBe(1);
    const said = events(out);
    expect(said.every(({ kind, version }) => kind === "leveret-hv.event" && version === 1)).toBe(true);
    const text = said.filter(({ event }) => event === "console").map((line) => line.text);
    expect(text.join("")).toBe("hello from a guest\n");
    expect(said.at(-1)).toMatchObject({ event: "stopped", reason: "halted", exits: { HLT: 1 } });
  });

  test("refuses what cannot run before anything starts", async () => {
    const kernel = guestFile("hello");
    const file = scratch("file", Buffer.alloc(512));
    for (const [code, message, ...argv] of [
      ["VMM_BAD_OPTIONS", "cpus", "--kernel", kernel, "--cpus", "9"],
      ["VMM_BAD_OPTIONS", "memoryMiB", "--kernel", kernel, "--memory", "8"],
      ["VMM_UNREADABLE", "kernel", "--kernel", "/nonexistent"],
      ["VMM_UNREADABLE", "initrd", "--kernel", kernel, "--initrd", "/nonexistent"],
      ["VMM_UNREADABLE", "disk", "--kernel", kernel, "--disk", file, "--disk", "/nonexistent"],
      ["VMM_BAD_KERNEL", "ELF", "--kernel", process.execPath],
    ] as const) {
      const { exitCode, out } = await leveretHv("run", "--json", ...argv);
      expect(exitCode).toBe(1);
      expect(events(out)).toEqual([
        expect.objectContaining({ kind: "error", code, message: expect.stringContaining(message) }),
      ]);
    }
  });

  test("says which rules of VMRUN the processor enforces", async () => {
    const { exitCode, out } = await leveretHv("selftest");
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^asid-zero +refused$/m);
    expect(out).toMatch(/^\d+ of \d+ rules are enforced; guests run\n$/m);
  });

  test("takes control blocks apart, and says why VMRUN refuses one", async () => {
    const zeros = scratch("zeros", new Uint8Array(VMCB_SIZE));
    const refused = await leveretHv("inspect", zeros);
    expect(refused).toMatchObject({ exitCode: 1, err: "" });
    expect(refused.out).toContain("asid-zero: expected that the address space identifier is not zero (15.5.1)\n");
    expect(refused.out).toMatch(/VMRUN refuses it\n$/);
    const { exitCode, out } = await leveretHv("inspect", zeros, "--json");
    expect(exitCode).toBe(1);
    expect(events(out)).toEqual([
      expect.objectContaining({ kind: "leveret-hv.inspect", exit: { reason: "OTHER", text: "OTHER (0x0)" } }),
    ]);
  });

  test.each([VMCB_SIZE - 1, VMCB_SIZE + 1])("takes no file of %i bytes for a control block", async (size) => {
    const { exitCode, out } = await leveretHv("inspect", scratch(`size-${size}`, new Uint8Array(size)), "--json");
    expect(exitCode).toBe(1);
    expect(events(out)).toMatchObject([{ kind: "error", code: "VMM_TRUNCATED" }]);
  });
});

const kernelPath = debianKernel() ?? "";
const noLinux = missing || (kernelPath === "" ? "no kernel in the tree of oracles" : "");

test.skipIf(noLinux !== "")(titled("Linux runs, and takes what is typed", noLinux), async () => {
  const script = [
    "export PATH=/bin",
    "busybox mkdir /proc && busybox mount -t proc proc /proc",
    "echo $(busybox nproc) processors",
    "read line; echo read: $line",
    "busybox poweroff -f",
  ].join("\n");
  const initrd = scratch("initrd", busyboxInitrd(script));
  const disk = scratch("disk", Buffer.alloc(1 << 20));
  const argv = ["run", "--kernel", kernelPath, "--initrd", initrd, "--cpus", "4", "--memory", "512M", "--disk", disk];
  const network = ["--net", "user", "--cmdline", "console=ttyS0 quiet"];
  const { exitCode, out, err } = await start([...argv, ...network], "4 processors", "typed\r");
  expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" });
  expect(out).toContain("read: typed");
});
