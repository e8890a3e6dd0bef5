import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { openDiskImage, openFat } from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";

const DESCRIPTION = {
  seed: "test",
  partitions: [
    {
      label: "esp",
      type: "esp",
      size: "34M",
      fat: { volumeId: 1, label: "ESP", time: "2026-01-01T00:00:00Z", files: { "EFI/BOOT/BOOTX64.EFI": "os.efi" } },
    },
    { label: "usr", type: "usr-x86-64", file: "usr.erofs", attributes: ["read-only"] },
    { label: "swap", type: "swap", size: 1048576 },
  ],
};

async function workspace(description: unknown = DESCRIPTION): Promise<string> {
  const folder = await scratch();
  await writeFile(join(folder, "os.json"), JSON.stringify(description));
  await writeFile(join(folder, "os.efi"), noise(50_000));
  await writeFile(join(folder, "usr.erofs"), noise(20_480, 2));
  return folder;
}

async function create(): Promise<string> {
  const folder = await workspace();
  expect(await main(["create", "os.json", "os.raw"], capture(folder).io)).toBe(0);
  return folder;
}

describe("disk-image", () => {
  test("creates a disk and shows it", async () => {
    const folder = await create();
    const { io, out } = capture(folder);
    expect(await main(["inspect", "os.raw", "--files"], io)).toBe(0);
    expect(out()).toMatchSnapshot();
  });

  test("makes the serial number of a file system of the seed, and gives it the earliest time, where neither is given", async () => {
    const fat = { files: { "os.efi": "os.efi" } };
    const disk = { partitions: [{ label: "esp", type: "esp", size: "34M", fat }] };
    const folder = await workspace({ seed: "test", ...disk });
    for (const name of ["a.raw", "b.raw"]) {
      expect(await main(["create", "os.json", name], capture(folder).io)).toBe(0);
    }
    expect((await readFile(join(folder, "a.raw"))).equals(await readFile(join(folder, "b.raw")))).toBe(true);
    await using image = await openDiskImage(join(folder, "a.raw"));
    const [file] = await (await openFat(image.open("esp"))).list("/");
    expect(file?.modified?.toISOString()).toBe("1980-01-01T00:00:00.000Z");
    const seedless = await workspace({ diskGuid: "00112233-4455-6677-8899-aabbccddeeff", ...disk });
    const { io, err } = capture(seedless);
    expect(await main(["create", "os.json", "a.raw"], io)).toBe(1);
    expect(err()).toMatch(/expected a volumeId, or a seed .*\[DISK_BAD_OPTIONS\]/);
  });

  test("refuses a description that does not end, or that is none", async () => {
    const folder = await workspace();
    const endless = capture(folder);
    expect(await main(["create", "/dev/zero", "os.raw"], endless.io)).toBe(1);
    expect(endless.err()).toContain("[DISK_LIMIT]");
    await writeFile(join(folder, "half.json"), "{");
    const half = capture(folder);
    expect(await main(["create", "half.json", "os.raw"], half.io)).toBe(1);
    expect(half.err()).toMatch(/expected JSON in .*half\.json, got something else \[DISK_BAD_OPTIONS\]\n {2}Expected/);
    expect(await readdir(folder)).not.toContain("os.raw");
  });

  test("shows a plan without writing", async () => {
    const folder = await workspace();
    const { io, out } = capture(folder);
    expect(await main(["create", "os.json", "os.raw", "--plan", "--json"], io)).toBe(0);
    expect(JSON.parse(out())).toMatchObject({ kind: "disk-plan", version: 1, isWritten: false });
    expect(await readdir(folder)).not.toContain("os.raw");
  });

  test("extracts a partition and a file", async () => {
    const folder = await create();
    expect(await main(["extract", "os.raw", "usr", "usr.out"], capture(folder).io)).toBe(0);
    expect((await readFile(join(folder, "usr.out"))).equals(noise(20_480, 2))).toBe(true);
    const { io, out } = capture(folder);
    const argv = ["extract", "os.raw", "1", "efi.out", "--path", "efi/boot/bootx64.efi", "--json"];
    expect(await main(argv, io)).toBe(0);
    expect(JSON.parse(out())).toMatchObject({ kind: "extracted", sizeBytes: 50_000 });
    expect((await readFile(join(folder, "efi.out"))).equals(noise(50_000))).toBe(true);
  });

  test("prints JSON of a disk", async () => {
    const { io, out } = capture(await create());
    expect(await main(["inspect", "os.raw", "--json", "--files"], io)).toBe(0);
    expect(JSON.parse(out())).toMatchObject({
      kind: "disk",
      version: 1,
      primary: "valid",
      backup: "valid",
      partitions: [{ label: "esp" }, { label: "usr", attributeNames: ["read-only"] }, { label: "swap" }],
      fileSystems: [{ partition: 1, system: "FAT32", label: "ESP" }],
    });
  });

  test("shows what is hidden in names, in a listing and in an error", async () => {
    const label = "a\u001b[2J\u202eb";
    const partitions = [{ label, type: "var", size: "1M" }];
    const folder = await workspace({ seed: "s", partitions });
    expect(await main(["create", "os.json", "os.raw"], capture(folder).io)).toBe(0);
    const listing = capture(folder);
    expect(await main(["inspect", "os.raw"], listing.io)).toBe(0);
    expect(listing.out()).toContain("a\\x1b[2J\\u{202e}b");
    const failing = capture(folder);
    expect(await main(["extract", "os.raw", "nosuch", "out"], failing.io)).toBe(1);
    expect(failing.err()).toContain("a\\x1b[2J\\u{202e}b");
    for (const text of [listing.out(), failing.err()]) expect(text).not.toMatch(/[^\P{C}\n]/u);
  });

  test("replaces a partition and its label", async () => {
    const folder = await create();
    const { io, out } = capture(folder);
    const argv = ["replace", "os.raw", "3", "os.efi", "--label", "new\u001b", "--type", "var", "--attributes", ""];
    expect(await main(argv, io)).toBe(0);
    expect(out()).toMatch(/^3 .* 1\.0 MiB +var +new\\x1b/m);
    const shown = capture(folder);
    expect(await main(["inspect", "os.raw", "--json"], shown.io)).toBe(0);
    expect(JSON.parse(shown.out())).toMatchObject({
      primary: "valid",
      partitions: [{}, { label: "usr" }, { label: "new\u001b", typeName: "var", attributeNames: [] }],
    });
    expect(await main(["extract", "os.raw", "3", "out"], capture(folder).io)).toBe(0);
    expect((await readFile(join(folder, "out"))).subarray(0, 50_000).equals(noise(50_000))).toBe(true);
  });

  test.each([
    [["replace", "os.raw", "3"], 1, "DISK_BAD_OPTIONS"],
    [["replace", "os.raw", "3", "nowhere"], 1, "DISK_NOT_FOUND"],
    [["replace", "os.raw", "7", "os.efi"], 1, "DISK_NOT_FOUND"],
    [["replace", "os.raw", "3", "--attributes", "shiny"], 2, "expected some of required"],
    [["repair", "os.efi"], 1, "DISK_BAD_MAGIC"],
    [["repair", "os.raw", "--from", "nowhere"], 2, "Allowed choices are primary, backup"],
  ])("refuses %j", async (argv, status, message) => {
    const folder = await create();
    const before = await readFile(join(folder, "os.raw"));
    const { io, err } = capture(folder);
    expect(await main(argv, io)).toBe(status);
    expect(err()).toContain(message);
    expect((await readFile(join(folder, "os.raw"))).equals(before)).toBe(true);
  });

  test("repairs a table, and says so", async () => {
    const folder = await create();
    const before = await readFile(join(folder, "os.raw"));
    const spoiled = Buffer.from(before);
    spoiled[512 + 20] = 1;
    await writeFile(join(folder, "os.raw"), spoiled);
    const run = async (...argv: string[]): Promise<string> => {
      const { io, out } = capture(folder);
      expect(await main(["repair", "os.raw", ...argv], io)).toBe(0);
      return out();
    };
    expect(await run("--dry-run")).toMatch(/^damaged primary: expected a checksum of .*\n$/);
    expect(JSON.parse(await run("--dry-run", "--json"))).toMatchObject({
      kind: "disk-repair",
      version: 1,
      isRepaired: false,
      damages: [{ part: "primary" }],
    });
    expect(await run()).toMatch(/^repaired primary: /);
    expect((await readFile(join(folder, "os.raw"))).equals(before)).toBe(true);
    expect(await run()).toBe("nothing to repair\n");
  });

  test("writes qcow2, which every reading command takes", async () => {
    const folder = await workspace();
    expect(await main(["create", "os.json", "os.qcow2", "--format", "qcow2"], capture(folder).io)).toBe(0);
    const { io, out } = capture(folder);
    expect(await main(["inspect", "os.qcow2"], io)).toBe(0);
    expect(out()).toMatch(/^os\.qcow2 {2}qcow2, GPT disk of 38 MiB/);
    expect(await main(["extract", "os.qcow2", "usr", "out"], capture(folder).io)).toBe(0);
    expect((await readFile(join(folder, "out"))).equals(noise(20_480, 2))).toBe(true);
    const refused = capture(folder);
    expect(await main(["repair", "os.qcow2"], refused.io)).toBe(1);
    expect(refused.err()).toContain("DISK_UNSUPPORTED");
  });

  test("warns of a damaged table and still shows the disk", async () => {
    const folder = await create();
    const bytes = await readFile(join(folder, "os.raw"));
    bytes[512 + 60] = 1;
    await writeFile(join(folder, "os.raw"), bytes);
    const { io, out } = capture(folder);
    expect(await main(["inspect", "os.raw"], io)).toBe(0);
    expect(out()).toContain("warning: the table at the start is damaged");
    expect(out()).toContain("usr-x86-64");
  });

  test.each<[string, unknown, string]>([
    ["an unknown key", { ...DESCRIPTION, colour: "red" }, "DISK_BAD_OPTIONS"],
    ["a bad size", { seed: "s", partitions: [{ label: "a", type: "var", size: "12 parsecs" }] }, "such as 512M"],
    ["two contents", { seed: "s", partitions: [{ ...DESCRIPTION.partitions[0], file: "x" }] }, "DISK_BAD_OPTIONS"],
    ["a missing file", { seed: "s", partitions: [{ label: "a", type: "var", file: "nope" }] }, "DISK_NOT_FOUND"],
  ])("refuses a description with %s and writes nothing", async (_, description, said) => {
    const folder = await workspace(description);
    const { io, err } = capture(folder);
    expect(await main(["create", "os.json", "os.raw"], io)).toBe(1);
    expect(err()).toContain(said);
    expect(await readdir(folder)).not.toContain("os.raw");
  });

  test("refuses text that is no JSON", async () => {
    const folder = await workspace();
    await writeFile(join(folder, "os.json"), "{ nope");
    const { io, err } = capture(folder);
    expect(await main(["create", "os.json", "os.raw"], io)).toBe(1);
    expect(err()).toContain("DISK_BAD_OPTIONS");
  });
});
