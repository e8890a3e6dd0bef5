import { execFile } from "node:child_process";
import { copyFile, cp, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openDiskImage } from "@leveret/disk-image";
import { openErofs } from "@leveret/erofs-meta";
import {
  decodeEventLog,
  decodePe,
  decodeUserspaceLog,
  findPeSection,
  generateKeys,
  type KeySet,
  removeSignatures,
  replayEventLog,
  replayUserspaceLog,
  signPe,
} from "@leveret/uki-sign";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadProject, type Project } from "../../src/config/load.ts";
import type { BuiltImage } from "../../src/image/image.ts";
import { lockProject } from "../../src/lock.ts";
import { bootImage } from "../../src/machine/boot.ts";
import { buildProjectImage, stateDirectory } from "../../src/pipeline.ts";
import { processesNaming } from "../support/processes.ts";

const run = promisify(execFile);
const EXAMPLE = new URL("../../../../examples/particle/", import.meta.url).pathname;
const ESP_OFFSET = 1024 * 1024;

// Every boot is an emulated one, from power-on with Secure Boot and a TPM: minutes on a busy machine.
const BOOT_MS = 600_000;
const options = { env: process.env, timeoutMs: BOOT_MS };

let directory = "";
let project: Project;
let image: BuiltImage;
/** Keys that the machine does not trust. */
let strangers: KeySet;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "leveret-boot-"));
  await cp(join(EXAMPLE, "os.config.ts"), join(directory, "os.config.ts"));
  await cp(join(EXAMPLE, "tree"), join(directory, "tree"), { recursive: true });
  await generateKeys(join(directory, "keys"), { name: "test" });
  strangers = await generateKeys(join(directory, "strangers"), { name: "stranger" });
  project = await loadProject(directory);
  await lockProject(project, { env: process.env, stateDirectory: stateDirectory(project) });
  ({ image } = await buildProjectImage(directory, { env: process.env }));
}, 1_800_000);

afterAll(() => rm(directory, { recursive: true, force: true }));

/** A copy of the image that `change` may do anything to; the project's keys are still those that the machine trusts. */
async function tampered(name: string, change: (disk: string) => Promise<void>): Promise<BuiltImage> {
  const disk = join(directory, `${name}.raw`);
  // A copy that keeps the holes: the disk is mostly one.
  await run("cp", ["--sparse=always", image.disk, disk]);
  await change(disk);
  return { ...image, disk };
}

/** Puts a file onto the ESP of a disk, with a foreign tool. */
async function replaceOnEsp(disk: string, path: string, content: Uint8Array): Promise<void> {
  const file = join(directory, "replacement");
  await writeFile(file, content);
  await run("mcopy", ["-o", "-i", `${disk}@@${ESP_OFFSET}`, file, `::/${path}`]);
}

function boot(candidate: BuiltImage): ReturnType<typeof bootImage> {
  return bootImage(project, candidate, { ...options, stateDirectory: stateDirectory(project) });
}

describe("the example system", () => {
  test(
    "boots under Secure Boot with a TPM, and everything is verified as read inside of it",
    async () => {
      const { checks, report } = await boot(image);
      expect(checks.filter(({ ok }) => !ok)).toEqual([]);
      expect(report.get("secure-boot")).toBe("1");
      expect(report.get("setup-mode")).toBe("0");
      // What firmware, boot loader, stub and systemd say they measured leads to what the TPM holds.
      const firmware = decodeEventLog(Buffer.from(report.get("event-log") ?? "", "base64"));
      const later = decodeUserspaceLog(Buffer.from(report.get("userspace-log") ?? "", "base64"));
      const registers = replayUserspaceLog(later, replayEventLog(firmware)).filter(({ bank }) => bank === "sha256");
      const replayed = (pcr: number): string =>
        Buffer.from(registers.find((register) => register.pcr === pcr)?.value ?? new Uint8Array(32)).toString("hex");
      const numbers = [0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 15];
      expect(numbers.map(replayed)).toEqual(numbers.map((pcr) => report.get(`pcr-${pcr}`)));
      expect(later.map(({ text }) => text)).toEqual(expect.arrayContaining(["enter-initrd", "leave-initrd", "ready"]));
      expect(report.get("state")).toBe("running");
      expect(report.get("failed-units")).toBe("");
      expect(report.get("tpm-version")).toBe("2");
      // The kernel was given this root hash, and the description of a signature that it checked.
      expect(report.get("usr-table")).toContain(` ${image.record.rootHash} `);
      expect(report.get("usr-table")).toContain("root_hash_sig_key_desc");
      expect(report.get("usr-status")).toMatch(/ V$/);
      expect(report.get("pcr-11")).toBe(image.record.pcr11["enter-initrd:leave-initrd:sysinit:ready"]);
    },
    BOOT_MS,
  );

  test(
    "whose machine ends before it reports is a failure that shows the console's end",
    async () => {
      const end = async (): Promise<unknown> => process.kill(await machineOf(image.disk), "SIGKILL");
      const ended = bootImage(project, image, {
        ...options,
        stateDirectory: stateDirectory(project),
        onSerial: once(end),
      });
      await expect(ended).rejects.toMatchObject({
        code: "OS_BOOT_FAILED",
        message: expect.stringContaining("it ended first"),
      });
    },
    BOOT_MS,
  );

  test(
    "is refused by the firmware when another key signed its kernel image",
    async () => {
      const resigned = await signPe(removeSignatures(await readFile(image.uki)), {
        signer: strangers.signers.db,
        certificate: strangers.certificates.db,
      });
      const candidate = await tampered("stranger", (disk) =>
        replaceOnEsp(disk, `EFI/Linux/${image.record.uki}`, resigned),
      );
      await expect(boot(candidate)).rejects.toMatchObject({ code: "OS_BOOT_REFUSED", layer: "firmware" });
    },
    BOOT_MS,
  );

  test(
    "is refused by the firmware when one byte of the kernel changed",
    async () => {
      const bytes = new Uint8Array(await readFile(image.uki));
      const kernel = findPeSection(decodePe(bytes), ".linux");
      const position = (kernel?.rawOffset ?? 0) + 0x10000;
      bytes[position] = (bytes[position] ?? 0) ^ 0xff;
      const candidate = await tampered("kernel", (disk) => replaceOnEsp(disk, `EFI/Linux/${image.record.uki}`, bytes));
      await expect(boot(candidate)).rejects.toMatchObject({ code: "OS_BOOT_REFUSED", layer: "firmware" });
    },
    BOOT_MS,
  );

  test(
    "is stopped by dm-verity when one bit of /usr changed that the boot reads",
    async () => {
      const candidate = await tampered("usr", async (disk) => {
        const { offset, position } = await inodePosition(disk, "lib/systemd/systemd");
        const file = await open(disk, "r+");
        try {
          const byte = new Uint8Array(1);
          await file.read(byte, 0, 1, offset + position);
          await file.write(Uint8Array.of((byte[0] ?? 0) ^ 1), 0, 1, offset + position);
        } finally {
          await file.close();
        }
      });
      await expect(boot(candidate)).rejects.toMatchObject({ code: "OS_BOOT_REFUSED", layer: "verity" });
    },
    BOOT_MS,
  );

  test(
    "is refused by the kernel when an unknown key signed the root hash",
    async () => {
      const other = join(directory, "other");
      await cp(join(directory, "os.config.ts"), join(other, "os.config.ts"));
      await cp(join(directory, "os.lock.json"), join(other, "os.lock.json"));
      await cp(join(directory, "tree"), join(other, "tree"), { recursive: true });
      // The same keys, but for one: the firmware lets this image start, and only the kernel can refuse it.
      await cp(join(directory, "keys"), join(other, "keys"), { recursive: true });
      for (const file of ["verity.key", "verity.crt"]) {
        await copyFile(join(strangers.directory, file), join(other, "keys", file));
      }
      const { image: candidate } = await buildProjectImage(other, { env: process.env });
      await expect(boot(candidate)).rejects.toMatchObject({ code: "OS_BOOT_REFUSED", layer: "root hash signature" });
    },
    BOOT_MS,
  );
});

/** Where a file's inode is: a block of /usr that nothing can run that file without reading. */
async function inodePosition(disk: string, path: string): Promise<{ offset: number; position: number }> {
  await using opened = await openDiskImage(disk);
  const usr = opened.partitions.find(({ typeName, label }) => typeName === "usr-x86-64" && label !== "_empty");
  if (usr === undefined) throw new Error("the image has no /usr");
  const volume = await openErofs(opened.open(usr.number));
  const inode = await volume.lookup(path);
  return { offset: usr.offsetBytes, position: inode.offset };
}

/** Id of the process that has a disk open. */
async function machineOf(disk: string): Promise<number> {
  const [id] = await processesNaming(`file=${disk}`);
  if (id === undefined) throw new Error(`nothing runs ${disk}`);
  return id;
}

/** Does something at the first call only. */
function once(action: () => Promise<unknown>): () => void {
  let done = false;
  return () => {
    if (!done) void action();
    done = true;
  };
}
