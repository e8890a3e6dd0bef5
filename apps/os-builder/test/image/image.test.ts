import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openDiskImage, openFat } from "@leveret/disk-image";
import { inspectUki, verifyPe } from "@leveret/uki-sign";
import { beforeAll, describe, expect, test } from "vitest";
import { type BuiltImage, buildImage } from "../../src/image/image.ts";
import { kernelCommandLine } from "../../src/image/uki.ts";
import { rejectionOf, scratch } from "../support/io.ts";
import { copyKeys, KEYS_TIMEOUT_MS, makeKeys, type TestKeys } from "../support/keys.ts";
import { configOf, projectIn, TINY, TINY_LOCK, tinyErofs, writeArtefacts } from "../support/system.ts";

let keys: TestKeys;
let otherKeys: TestKeys;
beforeAll(async () => {
  [keys, otherKeys] = await Promise.all([makeKeys("tiny"), makeKeys("other")]);
}, KEYS_TIMEOUT_MS);

interface Workspace {
  readonly directory: string;
  readonly build: (changes?: {
    readonly description?: Parameters<typeof projectIn>[1];
    readonly usr?: string;
    readonly signal?: AbortSignal;
    readonly onProgress?: (step: string) => void;
  }) => Promise<BuiltImage>;
}

async function workspace(): Promise<Workspace> {
  const directory = await scratch();
  await copyKeys(keys, join(directory, "keys"));
  const artefacts = await writeArtefacts(directory);
  return {
    directory,
    build: ({ description = TINY, usr = artefacts.usr, signal, onProgress } = {}) =>
      buildImage(projectIn(directory, description), {
        artefacts: { ...artefacts, usr },
        lock: TINY_LOCK,
        stateDirectory: directory,
        outputDirectory: join(directory, "images"),
        signal,
        onProgress: onProgress && (({ step }) => onProgress(step)),
      }),
  };
}

/** Name, content and time of every file in the images' directory. */
async function listing(directory: string): Promise<string[]> {
  const names = (await readdir(join(directory, "images"))).sort();
  return Promise.all(names.map(async (name) => `${name} ${(await stat(join(directory, "images", name))).mtimeMs}`));
}

describe("buildImage", () => {
  test("makes a disk, a kernel image and a record of them", async () => {
    const { directory, build } = await workspace();
    const built = await build();
    expect(built.upToDate).toBe(false);
    expect(await readdir(join(directory, "images"))).toEqual(["tiny_1.0.efi", "tiny_1.0.json", "tiny_1.0.raw"]);
    const { record } = built;
    expect({
      ...record,
      inputs: "",
      usedBytes: 0,
      commandLine: "",
      pcr11: Object.keys(record.pcr11),
      certificates: {},
    }).toMatchSnapshot();
    expect(JSON.parse(await readFile(built.recordPath, "utf8"))).toEqual(record);
    expect((await stat(built.disk)).size).toBe(record.sizeBytes);
    expect(record.certificates).toEqual({
      db: keys.set.certificates.db.fingerprint,
      verity: keys.set.certificates.verity.fingerprint,
    });

    await using disk = await openDiskImage(built.disk);
    expect(
      disk.partitions.map(({ label, typeName, sizeBytes, uuid }) => ({ label, typeName, sizeBytes, uuid })),
    ).toMatchSnapshot();
    const esp = await openFat(disk.open("esp"));
    const uki = await esp.readFile("EFI/Linux/tiny_1.0.efi");
    expect(uki).toEqual(new Uint8Array(await readFile(built.uki)));
    expect(verifyPe(uki, { db: { certificates: [keys.set.certificates.db] } }).signature).toBe(0);
    const sections = inspectUki(uki).sections.map(({ name, text }) => [name, text]);
    expect(Object.fromEntries(sections)).toMatchObject({
      ".cmdline": record.commandLine,
      ".osrel": 'ID=debian\nPRETTY_NAME="Debian"\nIMAGE_ID="tiny"\nIMAGE_VERSION="1.0"\n',
    });
    expect(record.commandLine).toBe(kernelCommandLine(configOf(TINY), record.rootHash));
  });

  test("writes nothing when nothing changed", async () => {
    const { directory, build } = await workspace();
    const first = await build();
    const before = await listing(directory);
    const steps: string[] = [];
    const second = await build({ onProgress: (step) => steps.push(step) });
    expect(second).toEqual({ ...first, upToDate: true });
    expect(await listing(directory)).toEqual(before);
    expect(steps).toEqual([]);
  });

  test("makes the same image again", async () => {
    const { build, directory } = await workspace();
    const first = await build();
    const disk = await readFile(first.disk);
    await rm(join(directory, "images"), { recursive: true });
    await rm(join(directory, "usr.verity"));
    const second = await build();
    expect(second.record.rootHash).toBe(first.record.rootHash);
    expect(disk.equals(await readFile(second.disk))).toBe(true);
  });

  test.each<[string, (built: BuiltImage) => Promise<unknown>]>([
    ["disk was deleted", ({ disk }) => rm(disk)],
    ["disk was truncated", ({ disk }) => truncate(disk, 1_000_000)],
    ["disk was written to", ({ disk }) => utimes(disk, new Date(), new Date(Date.now() + 60_000))],
    ["kernel image was deleted", ({ uki }) => rm(uki)],
    ["record was deleted", ({ recordPath }) => rm(recordPath)],
    ["record was cut short", ({ recordPath }) => truncate(recordPath, 100)],
    ["record says nothing", ({ recordPath }) => writeFile(recordPath, "null")],
  ])("makes the image anew when its %s", async (_, change) => {
    const { build } = await workspace();
    await change(await build());
    expect((await build()).upToDate).toBe(false);
    expect((await build()).upToDate).toBe(true);
  });

  test.each([
    ["kernel arguments", { ...TINY, kernel: { arguments: ["quiet"] } }],
    ["name", { ...TINY, name: "Tiny" }],
    ["size", { ...TINY, disk: { ...TINY.disk, rootMiB: 65 } }],
  ])("makes the image anew when its %s changed", async (_, description) => {
    const { build } = await workspace();
    const before = await build();
    const after = await build({ description });
    expect(after).toMatchObject({ upToDate: false, disk: before.disk });
    expect(after.record.rootHash).toBe(before.record.rootHash);
  });

  test("hashes another /usr, and the first one again when it is back", async () => {
    const { build, directory } = await workspace();
    const first = await build();
    const { usr } = await writeArtefacts(directory, { hash: "other", usr: tinyErofs(41) });
    const other = await build({ usr });
    expect(other.upToDate).toBe(false);
    expect(other.record.rootHash).not.toBe(first.record.rootHash);
    const again = await build();
    expect(again.record).toEqual(first.record);
    expect((await readdir(directory)).filter((name) => name.endsWith(".verity"))).toEqual(["usr.verity"]);
  });

  test.each([
    ["cut short", (path: string) => truncate(path, 4096)],
    ["gone", (path: string) => rm(path)],
    ["without a record", (path: string) => rm(`${path}.json`)],
    ["beside a broken record", (path: string) => writeFile(`${path}.json`, '{"of":')],
  ])("builds a hash tree anew that is %s", async (_, change) => {
    const { build, directory } = await workspace();
    const first = await build();
    await change(join(directory, "usr.verity"));
    await rm(first.recordPath);
    expect((await build()).record).toEqual(first.record);
  });

  test("makes the image anew when its keys changed", async () => {
    const { build, directory } = await workspace();
    const before = await build();
    await rm(join(directory, "keys"), { recursive: true });
    await copyKeys(otherKeys, join(directory, "keys"));
    const after = await build();
    expect(after.upToDate).toBe(false);
    expect(after.record.rootHash).toBe(before.record.rootHash);
    expect(after.record.certificates.db).toBe(otherKeys.set.certificates.db.fingerprint);
  });
});

describe("an image that could not be finished", () => {
  test("leaves the one before as it was", async () => {
    const { directory, build } = await workspace();
    await build();
    const before = await listing(directory);
    const controller = new AbortController();
    const onProgress = (step: string): void => {
      if (step === "writing the disk image") controller.abort();
    };
    const rebuilt = build({ description: { ...TINY, name: "Tiny" }, signal: controller.signal, onProgress });
    await expect(rebuilt).rejects.toThrow();
    expect(await listing(directory)).toEqual(before);
  });

  test("has no record when only some of its files could be replaced", async () => {
    const { directory, build } = await workspace();
    const { uki } = await build();
    await rm(uki);
    await mkdir(join(uki, "in the way"), { recursive: true });
    await expect(build({ description: { ...TINY, name: "Tiny" } })).rejects.toMatchObject({ code: "EISDIR" });
    expect((await readdir(join(directory, "images"))).sort()).toEqual(["tiny_1.0.efi", "tiny_1.0.raw"]);
  });

  test("is swept away when its process was killed", async () => {
    const { directory, build } = await workspace();
    await mkdir(join(directory, "images", ".tiny_1.0.partial"), { recursive: true });
    await writeFile(join(directory, "images", ".tiny_1.0.partial", "tiny_1.0.raw"), "half");
    await build();
    expect(await readdir(join(directory, "images"))).toEqual(["tiny_1.0.efi", "tiny_1.0.json", "tiny_1.0.raw"]);
  });
});

describe("buildImage refuses", () => {
  test("a /usr larger than its slot before anything is written", async () => {
    const { build, directory } = await workspace();
    const large = await writeArtefacts(directory, { hash: "large", usr: tinyErofs(257) });
    const error = await rejectionOf(build({ usr: large.usr }));
    expect(error).toMatchObject({ code: "OS_SLOT_TOO_SMALL", hint: expect.stringContaining("disk.usrMiB to 2") });
    expect(await readdir(directory)).not.toContain("images");
  });

  test("missing keys, and says what makes them", async () => {
    const { build, directory } = await workspace();
    await rm(join(directory, "keys"), { recursive: true });
    const error = await rejectionOf(build());
    expect(error).toMatchObject({ code: "OS_BAD_KEYS", path: join(directory, "keys", "owner.guid") });
    expect(error.message).toContain(`${join(directory, "keys", "db.key")}: expected a readable file, got no such file`);
    expect(error.hint).toContain("leveret-os init");
  });

  test.each([
    ["a missing key", "db.key", undefined],
    ["a missing certificate", "KEK.crt", undefined],
    ["a key that is no key", "verity.key", "hello"],
    ["an empty certificate", "db.crt", ""],
    ["no GUID", "owner.guid", "me"],
  ])("%s by its name, and leaves the image as it was", async (_, name, content) => {
    const { build, directory } = await workspace();
    await build();
    const before = await listing(directory);
    if (content === undefined) await rm(join(directory, "keys", name));
    else await writeFile(join(directory, "keys", name), content);
    const error = await rejectionOf(build());
    expect(error).toMatchObject({ code: "OS_BAD_KEYS", path: join(directory, "keys", name) });
    expect(error.message).toContain(join(directory, "keys", name));
    expect(await listing(directory)).toEqual(before);
  });

  test("a key of another certificate", async () => {
    const { build, directory } = await workspace();
    await writeFile(join(directory, "keys", "db.key"), await readFile(join(otherKeys.directory, "db.key")));
    const error = await rejectionOf(build());
    expect(error.message).toContain("expected the private key of CN=tiny db, got another one");
  });

  test("a boot loader that is none", async () => {
    const { build, directory } = await workspace();
    await writeFile(join(directory, "hash-tiny-boot-files", "systemd-bootx64.efi"), "nothing");
    await expect(build()).rejects.toMatchObject({ code: expect.stringMatching(/^UKI_SIGN_PE/) });
    expect(await readdir(directory)).not.toContain("images");
  });
});

describe("buildImage interrupted", () => {
  test.each(["hashing /usr", "signing", "writing the disk image"])("while %s leaves what was there", async (step) => {
    const { build, directory } = await workspace();
    await build();
    const before = await listing(directory);
    await rm(join(directory, "usr.verity"));
    const controller = new AbortController();
    const onProgress = (reached: string): void => {
      if (reached === step) controller.abort(new Error("Ctrl-C"));
    };
    const description = { ...TINY, name: "Changed" };
    await expect(build({ description, signal: controller.signal, onProgress })).rejects.toThrow("Ctrl-C");
    expect(await listing(directory)).toEqual(before);
    expect((await readdir(directory)).filter((name) => name.includes("partial"))).toEqual([]);
    expect((await build({ description })).upToDate).toBe(false);
  });
});
