import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Kernel modules that the guest needs beyond what they need themselves. */
const MODULES = [
  ...["virtio_blk", "erofs", "overlay", "vfat", "nls_cp437", "nls_ascii"],
  ...["dm_verity", "sha1_generic", "sha256_generic", "sha512_generic"],
];
/** Programs of this machine that the guest has. */
const PROGRAMS = ["/usr/bin/getfattr", "/usr/sbin/veritysetup"];
const EXTENSION = ".ko.xz";

/** A kernel of Debian's, and its modules. */
export interface DebianKernel {
  readonly path: string;
  readonly modules: string;
}

/** Finds the kernel in an unpacked Debian release. */
export function findKernel(tree: string): DebianKernel | undefined {
  const boot = join(tree, "boot");
  const name = existsSync(boot) ? readdirSync(boot).find((file) => file.startsWith("vmlinuz-")) : undefined;
  if (name === undefined) return undefined;
  const modules = join(tree, "usr/lib/modules", name.slice("vmlinuz-".length));
  return existsSync(modules) ? { path: join(boot, name), modules } : undefined;
}

/**
 * Makes an initial file system with busybox, getfattr, veritysetup and modules.
 *
 * @param folder - Empty folder for it.
 * @param script - What the guest does once the modules are loaded; it powers off afterwards.
 * @param files - More files, by path.
 * @returns Path of the archive.
 */
export function makeInitrd(
  folder: string,
  kernel: DebianKernel,
  script: string,
  files: Readonly<Record<string, Uint8Array>>,
): string {
  const root = join(folder, "root");
  for (const path of ["bin", "proc", "sys", "dev", "mnt", "tmp"]) mkdirSync(join(root, path), { recursive: true });
  cpSync("/usr/bin/busybox", join(root, "bin/busybox"), { dereference: true });
  for (const path of PROGRAMS.flatMap((program) => [program, ...librariesOf(program)])) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(path, join(root, path), { dereference: true });
  }
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), bytes);
  }
  const loads = copyModules(kernel.modules, join(root, "modules"));
  const lines = [
    "#!/bin/busybox sh",
    "/bin/busybox --install -s /bin",
    "export PATH=/bin:/usr/bin:/usr/sbin",
    "mount -t proc proc /proc",
    "mount -t sysfs sysfs /sys",
    "mount -t devtmpfs dev /dev",
    ...loads.map((name) => `insmod /modules/${name}.ko`),
    script,
    "poweroff -f",
  ];
  writeFileSync(join(root, "init"), `${lines.join("\n")}\n`, { mode: 0o755 });
  const names = spawnSync("find", ["."], { cwd: root, encoding: "utf8" }).stdout;
  const made = spawnSync("cpio", ["--quiet", "-o", "-H", "newc"], { cwd: root, input: names, maxBuffer: 2 ** 28 });
  if (made.status !== 0) throw new Error(`cpio: ${made.stderr}`);
  const path = join(folder, "initrd");
  writeFileSync(path, made.stdout);
  return path;
}

function librariesOf(program: string): string[] {
  const { stdout } = spawnSync("ldd", [program], { encoding: "utf8" });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path);
}

/** Unpacks modules with what they need; the names in the order in which they can be loaded. */
function copyModules(from: string, to: string): string[] {
  const places = new Map<string, string>();
  for (const file of readdirSync(from, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(EXTENSION)) continue;
    places.set(file.slice(file.lastIndexOf("/") + 1, -EXTENSION.length).replaceAll("-", "_"), join(from, file));
  }
  mkdirSync(to, { recursive: true });
  const order = new Set<string>();
  const load = (name: string): void => {
    const place = places.get(name);
    // What has no file is built into the kernel.
    if (place === undefined || order.has(name)) return;
    const { stdout } = spawnSync("xz", ["-dc", place], { maxBuffer: 2 ** 26 });
    const [, needed = ""] = /\0depends=([^\0]*)\0/.exec(stdout.toString("latin1")) ?? [];
    for (const one of needed.split(",").filter(Boolean)) load(one.replaceAll("-", "_"));
    order.add(name);
    writeFileSync(join(to, `${name}.ko`), stdout);
  };
  for (const name of MODULES) load(name);
  return [...order];
}
