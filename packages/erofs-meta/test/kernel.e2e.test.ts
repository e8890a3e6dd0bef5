// Environment: LEVERET_TRIXIE_TREE is a directory with the unpacked Debian 13 package linux-image-cloud-amd64.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openDiskImage, writeDiskImage } from "../../disk-image/src/index.ts";
import { startMachine } from "../../qemu-harness/src/index.ts";
import {
  encodeComposefs,
  fileSource,
  openErofs,
  parseComposefsDump,
  type TreeEntry,
  type WriteErofsOptions,
  writeErofs,
} from "../src/index.ts";
import { findKernel, makeInitrd } from "./kernel-guest.ts";
import { verityGuest } from "./kernel-verity.ts";
import { needs, noise, scratch } from "./support.ts";

const TREE = process.env.LEVERET_TRIXIE_TREE ?? "$LEVERET_TRIXIE_TREE";
const TIME = 1_700_000_000n;

/** Images that the kernel mounts one after another, all of the same tree. */
const IMAGES: readonly (readonly [string, Partial<WriteErofsOptions>, "like an older one"?])[] = [
  ["plain", {}],
  ["blocks of 512 bytes without tails", { blockSize: 512, maxTailBytes: 0 }],
  ["one time, no holes", { fixedTime: true, sparse: false }],
  ["xattr prefixes", { xattrPrefixes: ["user.long.prefix.", "trusted.overlay."] }],
  ["lz4", { compression: { algorithm: "lz4" } }],
  ["lz4 in clusters of 64 KiB", { compression: { algorithm: "lz4", clusterSize: 65_536 } }],
  ["deflate", { compression: { algorithm: "deflate" } }],
  ["plain", {}, "like an older one"],
  ["lz4", { compression: { algorithm: "lz4" } }, "like an older one"],
];

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function tree(): TreeEntry[] {
  const sparse = new Uint8Array(300_000);
  sparse.set(noise(5000), 200_000);
  const words = text(Array.from({ length: 20_000 }, (_, index) => `line ${(index * 7919) % 1000}\n`).join(""));
  const label = { "security.selinux": text("system_u:object_r:bin_t:s0"), "user.long.prefix.shared": text("all") };
  const files: [string, Uint8Array][] = [
    ...[0, 1, 511, 512, 4095, 4096, 4097, 70_000].map((size): [string, Uint8Array] => [`/${size}`, noise(size, size)]),
    ["/words", words],
    ["/large", Buffer.concat(Array.from({ length: 13 }, () => words))],
    ["/sparse", sparse],
    ["/zeros", new Uint8Array(20_000)],
  ];
  return [
    { type: "directory", path: "/", mode: 0o751, xattrs: { "trusted.overlay.opaque": text("y") } },
    ...files.map(([path, content]): TreeEntry => ({ type: "file", path, content, xattrs: label })),
    { type: "link", path: "/dir/hard", target: "/words" },
    { type: "symlink", path: "/dir/link", target: "../words" },
    { type: "file", path: "/owned", content: text("x"), uid: 70_000, gid: 100_000, mode: 0o4755, mtime: 1n },
    { type: "file", path: "/own", content: text("y"), xattrs: { ...label, "user.long.prefix.own": noise(70) } },
    { type: "char", path: "/dev/null", device: { major: 1, minor: 3 } },
    { type: "fifo", path: "/dev/fifo" },
    ...Array.from({ length: 150 }, (_, index): TreeEntry => {
      return { type: "file", path: `/many/a name that is long ${index}`, content: text(`${index}`) };
    }),
  ];
}

/** The tree before its files grew, and some were removed and others added: what is like it has contents in pieces. */
function olderTree(): TreeEntry[] {
  return tree().flatMap((entry, index): TreeEntry[] => {
    if (entry.type !== "file" || !(entry.content instanceof Uint8Array)) return [entry];
    if (entry.path.startsWith("/many")) return index % 3 === 0 ? [] : [entry];
    const content = entry.content.subarray(0, Math.floor(entry.content.byteLength * 0.7));
    return [
      { ...entry, content },
      { ...entry, path: `/gone${entry.path}` },
    ];
  });
}

/** Writes an image, and first, if need be, one that it is to be like. */
async function writeImage(output: string, options: Partial<WriteErofsOptions>, isLike: boolean): Promise<void> {
  const settings = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: TIME, ...options };
  if (!isLike) {
    await writeErofs(tree(), { output, ...settings });
    return;
  }
  await writeErofs(olderTree(), { output: `${output}.old`, ...settings });
  await using like = await openErofs(await fileSource(`${output}.old`));
  await writeErofs(tree(), { output, like, ...settings });
}

/** What the guest prints of a tree: few programs, because starting one takes an emulated machine long. */
const LIST = `
list() {
  cd "$1"
  find . | sort | tr '\\n' '\\0' > /tmp/names
  xargs -0 stat -c '@stat %n|%f|%u|%g|%Y|%h' < /tmp/names
  find . -type f -print0 | xargs -0 sha256sum | sed 's/^/@hash /'
  find . -type l | while read -r name; do echo "@link $name|$(readlink "$name")"; done
  getfattr -R -h -d -m - -e hex . 2> /dev/null | awk '/^# file: /{ file = substr($0, 9) } /=0x/{ print "@xattr " file "|" $0 }'
  cd /
}
`;

/** What has to be printed, worked out from the entries alone. */
function expectedLines(entries: readonly TreeEntry[], fixedTime: boolean): string[] {
  const types = { file: 0o100000, directory: 0o040000, symlink: 0o120000, char: 0o020000, fifo: 0o010000 } as const;
  const modes = { file: 0o644, directory: 0o755, symlink: 0o777, char: 0o644, fifo: 0o644 } as const;
  const byPath = new Map<string, TreeEntry>(entries.map((entry) => [entry.path, entry]));
  for (const path of ["/dir", "/dev", "/many"]) byPath.set(path, { type: "directory", path });
  const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
  return [...byPath.keys()].flatMap((path) => {
    const named = byPath.get(path);
    const entry = named?.type === "link" ? byPath.get(named.target) : named;
    if (entry === undefined || entry.type === "link" || !(entry.type in types)) throw new Error(`no ${path}`);
    const type = entry.type as keyof typeof types;
    const below = [...byPath.values()].filter(
      (other) => other.type === "directory" && other.path !== "/" && (other.path.match(/^(.*)\//)?.[1] || "/") === path,
    );
    const names = entries.filter((other) => other.type === "link" && other.target === entry.path).length;
    const links = type === "directory" ? 2 + below.length : 1 + names;
    const mode = ((entry.mode ?? modes[type]) | types[type]).toString(16);
    const time = fixedTime ? TIME : (entry.mtime ?? TIME);
    const place = path === "/" ? "." : `.${path}`;
    return [
      `@stat ${place}|${[mode, entry.uid ?? 0, entry.gid ?? 0, time, links].join("|")}`,
      ...(entry.type === "file" ? [`@hash ${sha256(entry.content as Uint8Array)}  ${place}`] : []),
      ...(entry.type === "symlink" ? [`@link ${place}|${entry.target}`] : []),
      ...Object.entries(entry.xattrs ?? {}).map(
        ([name, value]) =>
          `@xattr ${path === "/" ? "." : path.slice(1)}|${name}=0x${Buffer.from(value).toString("hex")}`,
      ),
    ];
  });
}

/** A metadata-only image, and the objects it stands for. */
function composefs(): { image: Uint8Array; objects: Record<string, Uint8Array> } {
  const content = noise(50_000, 9);
  const dump = [
    "/ 0 40755 3 0 0 0 1700000000.0 - - -",
    "/sub 0 40755 2 0 0 0 1700000000.0 - - -",
    "/sub/far 50000 100644 1 5 6 0 1700000000.0 ab/object - -",
    "/sub/near 6 100600 1 0 0 0 1700000000.0 - hello\\n -",
    "",
  ].join("\n");
  return { image: encodeComposefs(parseComposefsDump(text(dump))), objects: { "objects/ab/object": content } };
}

test("Linux 6.12 mounts what is written, through hash trees too, and finds in it what was given", {
  timeout: 400_000,
}, async (context) => {
  needs(context, "qemu-system-x86_64", "busybox", "getfattr", "veritysetup", "cpio", "xz");
  const kernel = findKernel(TREE);
  if (kernel === undefined) {
    const reason = "LEVERET_TRIXIE_TREE has no kernel (node scripts/oracle-trees.mjs makes it)";
    if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
    context.skip(reason);
    return;
  }
  const folder = await scratch();
  const disks: { path: string; access: "read-only" }[] = [];
  const add = (name: string): string => {
    const path = join(folder, name);
    disks.push({ path, access: "read-only" });
    return path;
  };
  for (const [index, [, options, like]] of IMAGES.entries()) {
    await writeImage(add(`image${index}`), options, like !== undefined);
  }
  const { image, objects } = composefs();
  await writeFile(add("composefs"), image);
  const fatFiles = { "EFI/BOOT/BOOTX64.EFI": noise(100_000), "a file with a long name.txt": text("long\n") };
  const fat = { label: "ESP", volumeId: 1, time: new Date("2026-01-01"), files: fatFiles };
  const gpt = add("gpt");
  await writeDiskImage(gpt, {
    seed: "kernel",
    partitions: [
      { label: "esp", type: "esp", sizeBytes: 40 * 2 ** 20, content: { fat } },
      { label: "usr", type: "usr-x86-64", content: noise(5000) },
    ],
  });

  const letters = "abcdefghijklmnopqrst";
  const composefsDisk = `/dev/vd${letters[IMAGES.length]}`;
  const gptDisk = `vd${letters[IMAGES.length + 1]}`;
  const words = tree().find(({ path }) => path === "/words");
  if (words?.type !== "file" || !(words.content instanceof Uint8Array)) throw new Error("no words");
  const verity = await verityGuest(
    join(folder, "image0"),
    "/dev/vda",
    { file: "/words", digest: createHash("sha256").update(words.content).digest("hex") },
    (name) => ({ path: add(name), device: `/dev/vd${letters[disks.length - 1]}` }),
  );
  const script = [
    LIST,
    ...IMAGES.map(
      (_, index) =>
        `mount -t erofs -o ro /dev/vd${letters[index]} /mnt && echo "#image ${index}" && list /mnt; umount /mnt`,
    ),
    "mkdir -p /tmp/meta /tmp/merged",
    `mount -t erofs -o ro ${composefsDisk} /tmp/meta && echo "#composefs"`,
    "mount -t overlay overlay -o ro,metacopy=on,redirect_dir=on,lowerdir=/tmp/meta::/objects /tmp/merged && list /tmp/merged",
    'echo "#gpt"',
    `for part in /sys/block/${gptDisk}/${gptDisk}*; do`,
    '  echo "@$(grep -h PARTN= $part/uevent)|$(grep -h PARTNAME= $part/uevent)|$(cat $part/start)|$(cat $part/size)"',
    "done",
    `mount -t vfat -o ro /dev/${gptDisk}1 /mnt && echo "#fat" && list /mnt`,
    verity.script,
    'echo "#end"',
  ].join("\n");
  const initrdPath = makeInitrd(join(folder, "guest"), kernel, script, objects);
  await using machine = await startMachine({
    memoryMiB: 512,
    boot: {
      type: "kernel",
      kernelPath: kernel.path,
      initrdPath,
      commandLine: "console=ttyS0 quiet panic=-1 cryptomgr.notests",
    },
    disks,
  });
  await machine.serial.waitFor(/^#end/m, { timeoutMs: 300_000 });
  const printed = machine.serial.text.split("\n");
  const section = (name: string): string[] => {
    const start = printed.indexOf(`#${name}`);
    expect(start, `${name} was not mounted:\n${printed.slice(-20).join("\n")}`).toBeGreaterThan(-1);
    const behind = printed.slice(start + 1);
    const end = behind.findIndex((line) => line.startsWith("#"));
    return behind
      .slice(0, end === -1 ? undefined : end)
      .filter((line) => line.startsWith("@"))
      .sort();
  };
  for (const [index, [title, { fixedTime = false }, like = ""]] of IMAGES.entries()) {
    expect(section(`image ${index}`), `${title} ${like}`).toEqual(expectedLines(tree(), fixedTime).sort());
  }
  verity.check(section);
  const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  const merged = section("composefs");
  expect(merged).toContain("@stat ./sub/far|81a4|5|6|1700000000|1");
  expect(merged).toContain("@stat ./sub/near|8180|0|0|1700000000|1");
  expect(merged).toContain(`@hash ${sha256(objects["objects/ab/object"] ?? text(""))}  ./sub/far`);
  expect(merged).toContain(`@hash ${sha256(text("hello\n"))}  ./sub/near`);
  expect(merged.filter((line) => line.startsWith("@stat")).length).toBe(4);
  await using disk = await openDiskImage(gpt);
  expect(section("gpt")).toEqual(
    disk.partitions.map(
      ({ number, label, offsetBytes, sizeBytes }) =>
        `@PARTN=${number}|PARTNAME=${label}|${offsetBytes / 512}|${sizeBytes / 512}`,
    ),
  );
  const files = section("fat");
  for (const [path, bytes] of Object.entries(fatFiles)) expect(files).toContain(`@hash ${sha256(bytes)}  ./${path}`);
});
