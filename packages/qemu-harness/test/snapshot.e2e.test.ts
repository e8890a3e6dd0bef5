import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  findQemu,
  type MachineDescription,
  openSnapshot,
  readSnapshot,
  type StartOptions,
  startMachine,
} from "../src/index.ts";
import { ask, reachShell } from "./firmware-shell.ts";
import { leaveNothing } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-snapshot-"));
const kernelPath = join(directory, "toy");
writeFileSync(kernelPath, toyKernel());
afterAll(() => rmSync(directory, { recursive: true }));

const toy: MachineDescription = { memoryMiB: 32, boot: { type: "kernel", kernelPath }, forkable: true };
const tcg: StartOptions = { accelerator: "tcg" };
const saved = join(directory, "saved");

async function save(description: MachineDescription, path: string): Promise<void> {
  const machine = await startMachine(description, { ...tcg, cwd: directory });
  await machine.serial.waitFor("READY");
  await using template = await machine.template();
  await template.save(path);
}

/** Continues a snapshot with the built package, as another program uses it. @returns What that program says. */
function continueElsewhere(path: string): [stdout: string, stderr: string] {
  const script = `
    import { openSnapshot } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
    const template = await openSnapshot(${JSON.stringify(path)});
    const fork = await template.fork();
    await fork.serial.write("from elsewhere.");
    console.log((await fork.serial.waitFor("from elsewhere.")).text, fork.serial.text.includes("READY"));
    await fork.close();
    await template.close();`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    encoding: "utf8",
  });
  return [stdout, stderr];
}

describe.skipIf(missing !== "")(titled("a snapshot", missing), () => {
  leaveNothing();
  beforeAll(() => save(toy, saved));

  test("continues in another process, as often as it is opened", async () => {
    expect(continueElsewhere(saved)).toEqual(["from elsewhere. false\n", ""]);
    await using template = await openSnapshot(saved, { description: toy });
    const forks = await Promise.all([template.fork(), template.fork()]);
    for (const fork of forks) {
      await fork.serial.write("here too");
      await fork.serial.waitFor("here too");
      await fork.close();
    }
  });

  test("is shared with other processes for as long as it is open, also one of a fork", async () => {
    const [shared, later] = [join(directory, "shared"), join(directory, "later")];
    await using template = await openSnapshot(saved);
    await using fork = await template.fork();
    await using copy = await fork.checkpoint();
    await copy.share(shared);
    expect(readdirSync(shared)).toEqual(["snapshot.json"]);
    expect((await readSnapshot(shared)).sizeBytes).toBe(0);
    expect(continueElsewhere(shared)).toEqual(["from elsewhere. false\n", ""]);
    await expect(copy.share(shared)).rejects.toMatchObject({ code: "QEMU_FILE" });
    // What QEMU keeps of memory to itself stands in the memory, and is no part of the state.
    await template.save(later);
    const stateOf = async (path: string): Promise<number> => {
      const { state } = JSON.parse(readFileSync(join(path, "snapshot.json"), "utf8").split("\n")[1] ?? "");
      return state.sizeBytes;
    };
    expect(Math.abs((await stateOf(shared)) - (await stateOf(later)))).toBeLessThan(16 * 1024);
    await copy.close();
    await expect(openSnapshot(shared)).rejects.toMatchObject({ code: "QEMU_SNAPSHOT_CORRUPT" });
    rmSync(shared, { recursive: true });
    rmSync(later, { recursive: true });
  });

  test("says what it is of, and takes no more than the guest has used", async () => {
    const { sizeBytes, description, ingredients, createdAt } = await readSnapshot(saved);
    expect(description.boot).toMatchObject({ kernelPath });
    expect(ingredients["machine.memoryMiB"]).toBe("32");
    expect(Date.now() - createdAt.getTime()).toBeLessThan(600_000);
    expect(sizeBytes).toBeLessThan(4 * 1024 * 1024);
    expect(statSync(join(saved, "memory")).blocks * 512).toBeLessThan(8 * 1024 * 1024);
    expect(statSync(saved).mode & 0o077).toBe(0);
  });

  test("may be removed while it is open", async () => {
    const copy = join(directory, "copy");
    cpSync(saved, copy, { recursive: true });
    await using template = await openSnapshot(copy);
    rmSync(copy, { recursive: true });
    await using fork = await template.fork();
    await fork.serial.write("still here");
    await fork.serial.waitFor("still here");
  });

  test("is not continued by anything that differs, and says what does", async () => {
    const other = join(directory, "other");
    writeFileSync(other, Buffer.concat([toyKernel(), Buffer.from([0])]));
    const differs = (description: MachineDescription, options: Partial<Parameters<typeof openSnapshot>[1]> = {}) =>
      openSnapshot(saved, { description, ...options }).then(
        () => [],
        (error: { code: string; differences: { name: string }[] }) => {
          expect(error.code, String(error)).toBe("QEMU_SNAPSHOT_MISMATCH");
          return error.differences.map(({ name }) => name);
        },
      );
    expect(await differs({ ...toy, memoryMiB: 33, name: "other" })).toEqual(["machine.memoryMiB", "machine.name"]);
    expect(await differs({ ...toy, boot: { type: "kernel", kernelPath: other } })).toEqual(["kernel.content"]);
    expect(await differs({ ...toy, extraArgs: ["-S"] })).toEqual(["machine.extraArgs[0]"]);
    expect(await differs({ ...toy, rng: false })).toEqual(["machine.rng"]);
    const moved = join(directory, "moved");
    copyFileSync(kernelPath, moved);
    expect(await differs({ ...toy, boot: { type: "kernel", kernelPath: moved } })).toEqual([]);
    const qemu = join(directory, "qemu-system-x86_64");
    writeFileSync(qemu, `#!/bin/sh\nexec '${(await findQemu()).path}' "$@"\n`, { mode: 0o755 });
    expect(await differs(toy, { qemu: await findQemu({ path: qemu }) })).toEqual(["qemu.content"]);
  });

  test.each<[string, string, (path: string) => void]>([
    ["one byte of memory", "memory", flip],
    ["one byte of the state", "state", flip],
    ["memory that was cut", "memory", (path) => truncateSync(path, 1024 * 1024)],
    ["a state that was cut", "state", (path) => truncateSync(path, 10)],
    ["a state that has grown", "state", (path) => appendFileSync(path, "x")],
    ["a missing file", "memory", (path) => rmSync(path)],
    ["a manifest that was cut", "snapshot.json", (path) => truncateSync(path, 500)],
    ["an empty manifest", "snapshot.json", (path) => truncateSync(path, 0)],
    ["one byte of the manifest", "snapshot.json", flip],
  ])("with %s is not opened", async (_, name, spoil) => {
    const copy = join(directory, "spoiled");
    cpSync(saved, copy, { recursive: true });
    spoil(join(copy, name));
    await expect(openSnapshot(copy)).rejects.toMatchObject({ code: "QEMU_SNAPSHOT_CORRUPT", path: copy });
    rmSync(copy, { recursive: true });
  });

  test("is not made where something is, nor of a machine that was given secrets", async () => {
    await expect(openSnapshot(join(directory, "nowhere"))).rejects.toMatchObject({ code: "QEMU_SNAPSHOT_NOT_FOUND" });
    const secret = "correct horse battery staple";
    const machine = await startMachine({ ...toy, credentials: { passphrase: secret } }, tcg);
    await using template = await machine.template();
    const path = join(directory, "secret");
    const error = await template.save(path).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "QEMU_SNAPSHOT_SECRET" });
    expect(JSON.stringify(error) + String(error)).not.toContain(secret);
    expect(existsSync(path)).toBe(false);
    await using plain = await openSnapshot(saved);
    await expect(plain.save(saved)).rejects.toMatchObject({ code: "QEMU_FILE", path: saved });
  });

  test("that was called off, or found no room, leaves nothing", async () => {
    const place = join(directory, "place");
    mkdirSync(place);
    await using template = await openSnapshot(saved);
    const abandoned = join(place, "it.4194304.0a1b2c3d.partial");
    mkdirSync(abandoned);
    await expect(template.save(join(place, "it"), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "QEMU_ABORTED",
    });
    await expect(template.save("/proc/it")).rejects.toMatchObject({ code: "QEMU_FILE" });
    await template.save(join(place, "it"));
    expect(readdirSync(place)).toEqual(["it"]);
    expect(readFileSync(join(place, "it", "state"))).toEqual(readFileSync(join(saved, "state")));
  });

  test("has the disks and the TPM of its machine", async () => {
    writeFileSync(join(directory, "disk"), new Uint8Array(1024 * 1024));
    const description: MachineDescription = {
      memoryMiB: 256,
      boot: { type: "uefi" },
      tpm: {},
      disks: [{ path: "disk" }, { path: "disk", access: "read-only" }],
      forkable: true,
    };
    const path = join(directory, "firmware");
    await using machine = await startMachine(description, { ...tcg, cwd: directory });
    await reachShell(machine);
    await ask(machine, "set -v leveret hare", [/>/]);
    const template = await machine.template();
    await template.save(path);
    await template.close();
    {
      await using again = await openSnapshot(path);
      await using fork = await again.fork();
      await ask(fork, "set leveret", [/leveret[^\n]*hare/]);
      await ask(fork, "mm FED40030 -w 4 -MMIO -n", [/: 0x[0-9A-F]{7}1\b/]);
    }
    const descriptor = openSync(join(directory, "disk"), "r+");
    writeSync(descriptor, "x");
    closeSync(descriptor);
    await expect(openSnapshot(path)).rejects.toMatchObject({
      differences: [{ name: "disks[0].content" }, { name: "disks[1].content" }],
    });
  });
});

/** Changes one byte where the file has content. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  const at = bytes.findIndex((byte) => byte !== 0);
  const descriptor = openSync(path, "r+");
  writeSync(descriptor, Uint8Array.of((bytes[at] ?? 0) ^ 1), 0, 1, at);
  closeSync(descriptor);
}
