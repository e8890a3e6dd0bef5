// The image that mkosi makes of the same packages, as what ours is measured against. mkosi and its tools come out of
// Debian 13 into a tree in the Nix store, and run in a mount namespace of their own: this machine is neither changed
// nor asked for anything but its kernel.
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findDebianMirror, makeDebianTree, openNix, parseDebianLock } from "../packages/nix-gen/dist/index.js";
import { generateKeys } from "../packages/uki-sign/dist/index.js";
import { NotRunnable, run } from "./measure.mjs";

const SUITE = "trixie";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const TOOLS = [
  ..."mkosi apt systemd systemd-boot systemd-boot-efi systemd-repart systemd-ukify sbsigntool".split(" "),
  ..."cryptsetup-bin dosfstools e2fsprogs erofs-utils mtools openssl util-linux passwd".split(" "),
  ..."cpio kmod xz-utils zstd ca-certificates debian-archive-keyring".split(" "),
];
/** Kept between runs, like the store: programs and downloads. */
const STATE = fileURLToPath(new URL("../.leveret/bench/", import.meta.url));

// Arguments: the tree, this image's directory, the directory of downloads, and the command. The overlay takes what
// would be written into the tree; pivot_root and not chroot, because mkosi makes namespaces, which a chroot may not.
const INSIDE = `
tree=$1 area=$2 downloads=$3
shift 3
root=$area/root
mount -t overlay -o "lowerdir=$tree,upperdir=$area/upper,workdir=$area/overlay" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount --bind "$area/build" "$root/build"
mount --bind "$downloads" "$root/downloads"
if [ -d /etc/ssl/certs ]; then mount --rbind /etc/ssl/certs "$root/etc/ssl/certs"; fi
cd "$root"
pivot_root . mnt
cd /
umount -l /mnt
exec "$@"
`;

/** An image of the packages that a lock names, to be built as often as one likes. */
export class MkosiImage {
  constructor(directory, { signal, progress }) {
    this.directory = directory;
    this.signal = signal;
    this.progress = progress;
    this.disk = join(directory, "build", "out", "image.raw");
    this.keys = join("build", "keys");
    this.uki = join(directory, "build", "out", "image.efi");
  }

  /** @param lockFile - The lock of the project that it is compared with. */
  static async create(context, lockFile) {
    if (process.getuid() !== 0) throw new NotRunnable("mkosi's image is built as root here, and this is another user");
    const { signal, progress } = context;
    const env = process.env;
    const mirror = await findDebianMirror({ env });
    const image = new MkosiImage(await context.temporary("mkosi"), context);
    const request = { suite: SUITE, packages: TOOLS, essential: true };
    const directory = join(STATE, "mkosi");
    const options = { nix: await openNix({ env }), mirror, directory, signal, onProgress: progress };
    const { directory: tree, lock } = await makeDebianTree(request, options);
    image.tree = tree;
    image.version = lock.packages.mkosi.version;
    image.downloads = join(STATE, "downloads");
    const { sets } = parseDebianLock(await readFile(lockFile, "utf8"));
    await image.prepare(mirror, sets.system);
    // Fills the cache of downloads; what is measured later finds everything there.
    progress({ step: "mkosi's image", item: `mkosi ${image.version}, downloads and a first build` });
    await image.mkosi();
    return image;
  }

  /** Builds the image anew from the downloads that are there. @returns How long it took in `milliseconds`. */
  async build() {
    this.progress({ step: "mkosi's image", item: `mkosi ${this.version}` });
    const { ms } = await this.mkosi("--cache-only=always");
    return ms;
  }

  async mkosi(...args) {
    const { tree, directory, downloads } = this;
    // Whatever happens to the first process of the namespace happens to all others in it.
    const namespace = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"];
    const inside = ["sh", "-euc", INSIDE, "sh", tree, directory, downloads];
    const command = ["mkosi", "--directory", "/build/config", "--force", ...args, "build"];
    return run("setpriv", ["--pdeathsig", "TERM", "unshare", ...namespace, ...inside, ...command], {
      signal: this.signal,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", TERM: "dumb", ...proxies() },
    });
  }

  async prepare(mirror, packages) {
    await mkdir(this.downloads, { recursive: true });
    for (const name of ["root", "overlay", "build/out", "build/workspace", "build/config"]) {
      await mkdir(join(this.directory, name), { recursive: true });
    }
    const upper = join(this.directory, "upper");
    for (const name of ["build", "downloads", "mnt", "run", "etc/ssl/certs", "tmp"]) {
      await mkdir(join(upper, name), { recursive: true });
    }
    await chmod(join(upper, "tmp"), 0o1777);
    await writeFile(join(upper, "etc", "passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    await writeFile(join(upper, "etc", "group"), "root:x:0:\n");
    for (const name of ["resolv.conf", "hosts"]) {
      await copyFile(join("/etc", name), join(upper, "etc", name)).catch(() => {});
    }
    await generateKeys(join(this.directory, this.keys), { name: "mkosi" });
    for (const [name, text] of Object.entries({ ...configuration(packages), ...aptSources(mirror) })) {
      const path = join(this.directory, "build", "config", name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
  }

  async remove() {
    await rm(this.directory, { recursive: true, force: true });
  }
}

// The same packages and kernel arguments, the same compression of /usr, no documentation or translations either, and as
// much room on the root file system.
function configuration(packages) {
  return {
    "mkosi.conf": ini({
      Distribution: { Distribution: "debian", Release: SUITE, Architecture: "x86-64", Repositories: "main" },
      Output: { Format: "disk", Output: "image", OutputDirectory: "/build/out", SplitArtifacts: "uki" },
      Build: {
        WorkspaceDirectory: "/build/workspace",
        PackageCacheDirectory: "/downloads",
        SandboxTrees: "/build/config/apt",
      },
      Content: {
        Packages: packages.join(","),
        WithRecommends: "no",
        WithDocs: "no",
        RemoveFiles: "/usr/share/locale/*,/usr/share/lintian/*",
        Bootable: "yes",
        Bootloader: "systemd-boot",
        UnifiedKernelImages: "yes",
        KernelCommandLine: "console=ttyS0 quiet systemd.firstboot=no",
        Locale: "C.UTF-8",
        Hostname: "particle",
      },
      Validation: {
        SecureBoot: "yes",
        SecureBootAutoEnroll: "no",
        SecureBootKey: "/build/keys/db.key",
        SecureBootCertificate: "/build/keys/db.crt",
        Verity: "yes",
        VerityKey: "/build/keys/verity.key",
        VerityCertificate: "/build/keys/verity.crt",
        SignExpectedPcr: "no",
      },
    }),
    "mkosi.repart/00-esp.conf": partition({
      Type: "esp",
      Format: "vfat",
      CopyFiles: ["/efi:/", "/boot:/"],
      // With less, repart's FAT32 has fewer clusters than firmware wants of one.
      SizeMinBytes: "512M",
      SizeMaxBytes: "512M",
    }),
    "mkosi.repart/10-usr-verity-sig.conf": partition({
      Type: "usr-verity-sig",
      Verity: "signature",
      VerityMatchKey: "usr",
    }),
    "mkosi.repart/11-usr-verity.conf": partition({
      Type: "usr-verity",
      Verity: "hash",
      VerityMatchKey: "usr",
      Minimize: "best",
    }),
    "mkosi.repart/12-usr.conf": partition({
      Type: "usr",
      Format: "erofs",
      Compression: "lz4hc",
      CompressionLevel: "9",
      CopyFiles: "/usr:/",
      Verity: "data",
      VerityMatchKey: "usr",
      Minimize: "best",
    }),
    "mkosi.repart/20-root.conf": partition({
      Type: "root",
      Format: "ext4",
      CopyFiles: "/",
      ExcludeFiles: ["/boot/", "/efi/", "/usr/"],
      SizeMinBytes: "512M",
    }),
  };
}

function partition(settings) {
  return ini({ Partition: settings });
}

function ini(sections) {
  return Object.entries(sections)
    .map(([section, settings]) => {
      const lines = Object.entries(settings).flatMap(([name, value]) =>
        [value].flat().map((one) => `${name}=${one}\n`),
      );
      return `[${section}]\n${lines.join("")}`;
    })
    .join("\n");
}

// The archives that ours come from; mkosi would ask others.
function aptSources({ main, security }) {
  const stanza = (uri, suites) =>
    `Types: deb\nURIs: ${uri}\nSuites: ${suites}\nComponents: main\nSigned-By: ${KEYRING}\n`;
  const stanzas = [stanza(main, `${SUITE} ${SUITE}-updates`)];
  if (security !== undefined) stanzas.push(stanza(security, `${SUITE}-security`));
  return { "apt/etc/apt/sources.list.d/mkosi.sources": stanzas.join("\n") };
}

function proxies() {
  const names = ["http_proxy", "https_proxy", "no_proxy"];
  return Object.fromEntries(names.flatMap((name) => (name in process.env ? [[name, process.env[name]]] : [])));
}
