import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  bind,
  buildFlake,
  type DebianLock,
  debianBuilders,
  debianPackages,
  findDebianMirror,
  flake,
  type Nix,
  openNix,
  readDebianLock,
  ref,
  renderFlake,
  resolveDebian,
  stageDebianBuilders,
} from "../../src/index.ts";
import { ARCHIVE_TOOLS, makeArchive, serve, type ToyArchive, type ToyPackage } from "../helpers/archive.ts";
import { readTar, type TarEntry } from "../helpers/system-tar.ts";
import { describeWith, nixIn } from "../helpers/tools.ts";

// Environment: LEVERET_TRIXIE_LOCK is a lock with the sets bootstrap, tree (with dpkg, fakeroot and tar) and essential
// (with attr, libcap2-bin and passwd), as scripts/oracle-trees.mjs writes it.
const LOCK = process.env.LEVERET_TRIXIE_LOCK ?? "$LEVERET_TRIXIE_LOCK";
const EPOCH = 1_700_000_000;
const LONG = `${"long/".repeat(40)}name`;

const PACKAGES: ToyPackage[] = [
  {
    name: "toy-users",
    entries: [
      { name: "./usr/lib/toy/setuid", mode: 0o4755, content: "u" },
      { name: "./usr/lib/toy/setgid", mode: 0o2755, content: "g" },
      { name: "./usr/lib/toy/both", mode: 0o6711, content: "ug" },
      { name: "./usr/lib/toy/private", mode: 0o600, content: "p" },
      { name: "./usr/lib/toy/owned", mode: 0o640, uid: 0, gid: 42, content: "o" },
      { name: "./var/spool/toy/", type: "directory", mode: 0o1777 },
      { name: "./var/lib/toy/", type: "directory", mode: 0o2770 },
    ],
    scripts: {
      postinst: `#!/bin/sh
set -e
groupadd --system --gid 901 toy
useradd --system --uid 900 --gid 901 --home-dir /var/lib/toy --no-create-home toy
chown toy:toy /var/lib/toy
touch /var/lib/toy/made
chown 900:0 /var/lib/toy/made
chmod 4510 /var/lib/toy/made
mknod /usr/lib/toy/null c 1 3
mkfifo -m 620 /usr/lib/toy/fifo
chown -h 12:34 /usr/lib/toy/link 2>/dev/null || true
`,
    },
  },
  {
    name: "toy-attributes",
    fields: ["Depends: toy-users"],
    entries: [
      { name: "./usr/bin/toy-ping", mode: 0o755, content: "ping" },
      { name: "./usr/bin/toy-raw", mode: 0o755, content: "raw" },
      { name: "./usr/share/toy/attributes", content: "a" },
    ],
    scripts: {
      postinst: `#!/bin/sh
set -e
setcap cap_net_raw+ep /usr/bin/toy-ping
setcap cap_sys_admin,cap_bpf+eip /usr/bin/toy-raw
setfattr -n user.toy -v 0x00ff80 /usr/share/toy/attributes
setfattr -n user.second -v two /usr/share/toy/attributes
setfattr -n trusted.toy -v 0xdeadbeef /usr/share/toy/attributes
setfattr -n user.directory -v yes /usr/share/toy
# What was set once goes with the file, wherever it goes.
mv /usr/bin/toy-raw /usr/bin/toy-moved
id toy
`,
    },
  },
  {
    name: "toy-names",
    entries: [
      { name: "./usr/share/names/with space", content: "1" },
      { name: "./usr/share/names/$HOME `id` \"quoted\" 'single' \\back", content: "2" },
      { name: "./usr/share/names/-rf", content: "4" },
      { name: "./usr/share/names/first", mode: 0o640, content: "same" },
      { name: "./usr/share/names/second", type: "link", mode: 0o640, linkname: "./usr/share/names/first" },
      { name: "./usr/share/names/relative", type: "symlink", linkname: "../names/first" },
      { name: "./usr/share/names/absolute", type: "symlink", linkname: "/nowhere/at all" },
      { name: "./usr/share/doc/toy-names/changelog", content: "left out" },
      { name: "./usr/share/doc/toy-names/copyright", content: "kept" },
      { name: "./usr/share/whole/file", content: "left out" },
    ],
    scripts: {
      preinst: "#!/bin/sh\nexit 0\n",
      postinst: `#!/bin/sh
set -e
# dpkg takes neither of these from an archive made elsewhere than by dpkg-deb.
printf 3 > '/usr/share/names/ä ✓ 😀'
mkdir -p '/usr/share/names/${LONG.slice(0, -5)}'
printf 5 > '/usr/share/names/${LONG}'
touch "$(printf '/usr/share/names/new\\nline')" "$(printf '/usr/share/names/\\377\\376')"
update-alternatives --install /usr/bin/toy toy /usr/share/names/first 10
`,
    },
  },
];

interface Toy {
  readonly directory: string;
  readonly attribute: string;
}

let directory = "";
let archive: ToyArchive;
let close = (): void => {};
let nix: Nix;
let toy: Toy;
let tar: Uint8Array;
let entries: Map<string, TarEntry>;

async function stage(name: string, base: DebianLock, lock: DebianLock, url: string, at: Nix): Promise<Toy> {
  const [mirror, target] = [await findDebianMirror({ env: process.env }), join(directory, name)];
  await stageDebianBuilders({
    nix: at,
    lock: base,
    mirror,
    directory: target,
    stateDirectory: join(directory, "state"),
  });
  const real = debianPackages(base, mirror);
  const toys = debianPackages(lock, { main: url }, { binding: "toys" });
  const builders = debianBuilders();
  const system = builders.system({
    name: "toy-system",
    tools: ref("tools"),
    essential: real.set("essential"),
    packages: toys.set("all"),
    exclude: ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/whole"],
    epochSeconds: EPOCH,
  });
  const bindings = [
    ...real.bindings,
    ...toys.bindings,
    ...builders.bindings,
    bind("tools", builders.tree({ name: "toy-tools", packages: real.set("tree") })),
    bind("system", system),
  ];
  const outputs = { packages: { "x86_64-linux": { system: ref("system"), tools: ref("tools") } } };
  writeFileSync(join(target, "flake.nix"), renderFlake(flake({ bindings, outputs })));
  return { directory: target, attribute: "system" };
}

const entry = (name: string): TarEntry | undefined => entries.get(`./${name}`);

describeWith("a system of toy packages, installed by Debian's own programs", ["nix", LOCK, ...ARCHIVE_TOOLS], () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "nix-gen-system-"));
    archive = await makeArchive(PACKAGES);
    const server = await serve(archive.directory);
    close = server.close;
    nix = await openNix({ env: process.env });
    const packages = PACKAGES.map(({ name }) => name);
    const lock = await resolveDebian(
      { suite: "sid", sets: { all: { packages } } },
      { mirror: { main: server.url }, keyring: archive.keyring, stateDirectory: join(directory, "apt") },
    );
    toy = await stage("flake", await readDebianLock(LOCK), lock, server.url, nix);
    const built = await buildFlake(nix, { ...toy, outLink: join(directory, "system") });
    tar = readFileSync(join(nix.realPath(built), "system.tar"));
    entries = readTar(tar);
  });
  afterAll(() => {
    close();
    archive.close();
    spawnSync("chmod", ["-R", "u+w", directory]);
    rmSync(directory, { recursive: true, force: true });
  });

  test.each([
    ["usr/lib/toy/setuid", { type: "file", mode: "4755", owner: "0:0" }],
    ["usr/lib/toy/setgid", { type: "file", mode: "2755", owner: "0:0" }],
    ["usr/lib/toy/both", { type: "file", mode: "6711", owner: "0:0" }],
    ["usr/lib/toy/private", { type: "file", mode: "600", owner: "0:0" }],
    ["usr/lib/toy/owned", { type: "file", mode: "640", owner: "0:42" }],
    ["var/spool/toy", { type: "directory", mode: "1777", owner: "0:0" }],
    ["var/lib/toy", { type: "directory", mode: "2770", owner: "900:901" }],
    ["var/lib/toy/made", { type: "file", mode: "4510", owner: "900:0" }],
    ["usr/lib/toy/null", { type: "character device", mode: "644", owner: "0:0", device: "1:3" }],
    ["usr/lib/toy/fifo", { type: "fifo", mode: "620", owner: "0:0" }],
    ["tmp", { type: "directory", mode: "1777", owner: "0:0" }],
    ["etc/shadow", { type: "file", mode: "640", owner: "0:42" }],
  ])("keeps owner and mode of %s", (name, facts) => {
    expect(entry(name)).toMatchObject(facts);
  });

  test.each([
    // struct vfs_ns_cap_data of revision 2 with the effective bit: permitted and inheritable, low and high words
    ["usr/bin/toy-ping", { "security.capability": "0100000200200000000000000000000000000000" }],
    ["usr/bin/toy-moved", { "security.capability": "0100000200002000000020008000000080000000" }],
    ["usr/share/toy/attributes", { "user.toy": "00ff80", "user.second": "74776f", "trusted.toy": "deadbeef" }],
    ["usr/share/toy", { "user.directory": "796573" }],
    ["usr/share/names/first", {}],
  ])("keeps capabilities and extended attributes of %s", (name, xattrs) => {
    expect(entry(name)?.xattrs).toEqual(xattrs);
  });

  test("keeps names, links and contents as they are", () => {
    const utf8 = (text: string): string => Buffer.from(text).toString("latin1");
    const content = (name: string): string =>
      Buffer.from(entries.get(`./usr/share/names/${name}`)?.content ?? []).toString();
    expect(content("with space")).toBe("1");
    expect(content("$HOME `id` \"quoted\" 'single' \\back")).toBe("2");
    expect(content(utf8("ä ✓ 😀"))).toBe("3");
    expect(content("-rf")).toBe("4");
    expect(content(LONG)).toBe("5");
    expect(entries.has("./usr/share/names/new\nline")).toBe(true);
    expect(entries.has("./usr/share/names/\xff\xfe")).toBe(true);
    expect(entry("usr/share/names/relative")).toMatchObject({ type: "link", link: "../names/first" });
    expect(entry("usr/share/names/absolute")).toMatchObject({ type: "link", link: "/nowhere/at all" });
    expect(entry("usr/share/names/first")).toMatchObject({ type: "file", mode: "640" });
    expect(entry("usr/share/names/second")).toMatchObject({ type: "hard link", link: "./usr/share/names/first" });
    expect(entry("etc/alternatives/toy")).toMatchObject({ type: "link", link: "/usr/share/names/first" });
  });

  test("leaves out what is excluded, licences excepted, and traces of the build", () => {
    const names = [...entries.keys()];
    expect(names).toContain("./usr/share/doc/toy-names/copyright");
    expect(names.filter((name) => /share\/(whole|locale\/.|doc\/.*changelog)/.test(name))).toEqual([]);
    expect(
      names.filter((name) => /(policy-rc\.d|dpkg\.cfg\.d\/.|libfakeroot|\.pwd\.lock|ld\.so\.cache~)/.test(name)),
    ).toEqual([]);
    const temporary = names.filter((name) => /^\.\/(dev|proc|nix|build|run|tmp|var\/log)\/./.test(name));
    expect(temporary.filter((name) => entries.get(name)?.type !== "directory")).toEqual([]);
    const late = names.filter((name) => (entries.get(name)?.mtime ?? 0) > EPOCH);
    expect(late).toEqual([]);
  });

  test("has every package configured, in dpkg's own words", () => {
    const status = Buffer.from(entry("var/lib/dpkg/status")?.content ?? []).toString();
    const states = status.split("\n").filter((line) => line.startsWith("Status: "));
    expect(new Set(states)).toEqual(new Set(["Status: install ok installed"]));
    expect(Buffer.from(entry("etc/passwd")?.content ?? []).toString()).toContain("\ntoy:x:900:901::/var/lib/toy:");
  });

  test("comes out the same when it is built again, and in another store", async () => {
    await buildFlake(nix, { ...toy, rebuild: true });

    const other = await nixIn(mkdtempSync(join(directory, "other-")));
    const tools = await buildFlake(nix, { ...toy, attribute: "tools" });
    const drv = await execa(nix.program, ["path-info", "--derivation", "path:.#system"], {
      cwd: toy.directory,
      env: nix.env,
    });
    const { stdout } = await execa("nix-store", ["--query", "--references", drv.stdout], { env: nix.env });
    const drvs = stdout.split("\n").filter((path) => path.endsWith(".deb.drv"));
    const debs = await execa("nix-store", ["--query", "--outputs", ...drvs], { env: nix.env });
    const paths = [tools, ...debs.stdout.split("\n")];
    await execa(nix.program, ["copy", "--no-check-sigs", "--to", other.store, ...paths], { env: nix.env });
    const built = await buildFlake(other, toy);
    const again = readFileSync(join(other.realPath(built), "system.tar"));
    expect(createHash("sha256").update(again).digest("hex")).toBe(createHash("sha256").update(tar).digest("hex"));
  });
});
