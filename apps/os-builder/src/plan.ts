import { createHash } from "node:crypto";
import { type DebianLock, type DebianRequest, lockEpochSeconds } from "@leveret/nix-gen";
import type { OsConfig } from "./config/schema.ts";

/** What every image needs to boot from signed, verified partitions; a description adds to it. */
const CORE_PACKAGES = [
  "dbus",
  "e2fsprogs",
  "kmod",
  "libtss2-esys-3.0.2-0t64",
  "libtss2-rc0t64",
  "libtss2-tcti-device0t64",
  "login",
  "mount",
  "passwd",
  "systemd",
  "systemd-boot-efi",
  "systemd-cryptsetup",
  "systemd-repart",
  "systemd-sysv",
  "udev",
  "util-linux",
];

/** What the builders run; none of it ends up in an image. */
const BUILD_TOOLS = ["cpio", "erofs-utils", "fakeroot", "kmod", "systemd", "xz-utils", "zstd"];

/** Kernel modules on the way to /usr, /etc and the credentials, whatever the disk. */
const CORE_MODULES = ["autofs4", "dm_mod", "dm_verity", "efivarfs", "erofs", "ext4", "loop", "overlay", "vfat"];

/** The kernel's package wants something that makes initrds; here that is the builder. */
const PROVIDED_PACKAGES = ["linux-initramfs-tool"];

/** Names of the sets in the lock. */
export const SETS = { bootstrap: "bootstrap", tools: "tools", essential: "essential", system: "system" } as const;

/** The packages to lock for a description. */
export function debianRequest(config: OsConfig): DebianRequest {
  const { suite, components } = config.source;
  const packages = [...new Set([...CORE_PACKAGES, config.kernel.package, ...config.packages])].sort();
  return {
    suite,
    components,
    architecture: "amd64",
    sets: {
      [SETS.bootstrap]: { packages: ["busybox-static"] },
      [SETS.tools]: { essential: true, packages: BUILD_TOOLS },
      [SETS.essential]: { essential: true, packages: [] },
      [SETS.system]: { essential: true, packages, provided: PROVIDED_PACKAGES },
    },
  };
}

/** Virtual packages that dpkg is told are there. */
export function providedPackages(): readonly string[] {
  return PROVIDED_PACKAGES;
}

/** Kernel modules of the initrd, sorted. */
export function initrdModules(config: OsConfig): string[] {
  return [...new Set([...CORE_MODULES, ...config.initrd.modules])].sort();
}

/** Lines of os-release in which the image says what it is; systemd-boot sorts versions by them and shows the name. */
export function releaseLines(config: OsConfig): string {
  const name = config.name === undefined ? "" : `PRETTY_NAME="${config.name} ${config.version}"\n`;
  return `${name}IMAGE_ID="${config.id}"\nIMAGE_VERSION="${config.version}"\n`;
}

/** The definition from which systemd-repart makes the root file system at the first boot. */
export function rootDefinition(config: OsConfig): string {
  return [
    "# The root file system is made at the first boot and takes the rest of the disk.",
    "[Partition]",
    "Type=root",
    "Label=root",
    "Format=ext4",
    `SizeMinBytes=${Math.min(config.disk.rootMiB, 64)}M`,
    "MakeDirectories=/.etc/upper /.etc/work /etc /root /var",
    "FactoryReset=yes",
    "",
  ].join("\n");
}

/**
 * Bytes that depend on nothing but their name and the image.
 *
 * @param seed - What the image is: id and version.
 * @param name - What the bytes are for.
 * @param length - At most 32.
 */
export function seededBytes(seed: string, name: string, length: number): Uint8Array {
  return new Uint8Array(createHash("sha256").update(`leveret\0${seed}\0${name}`).digest().subarray(0, length));
}

/** Seed of everything that has to be unique to an image, and the same in every build of it. */
export function imageSeed(config: OsConfig): string {
  return `${config.id}\0${config.version}`;
}

/** Name of an image's artefacts: `particle_0.1.0`. */
export function imageName(config: OsConfig): string {
  return `${config.id}_${config.version}`;
}

/** Time stamp of everything in an image, in seconds since 1970. */
export function imageEpochSeconds(lock: DebianLock): number {
  return lockEpochSeconds(lock);
}
