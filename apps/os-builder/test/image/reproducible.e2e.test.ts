import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { openDiskImage } from "@leveret/disk-image";
import { openErofs } from "@leveret/erofs-meta";
import { openNix } from "@leveret/nix-gen";
import { generateKeys } from "@leveret/uki-sign";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { loadProject } from "../../src/config/load.ts";
import type { BuiltImage } from "../../src/image/image.ts";
import { lockProject, readLock } from "../../src/lock.ts";
import { buildProject, buildProjectImage, stateDirectory } from "../../src/pipeline.ts";
import { imageEpochSeconds } from "../../src/plan.ts";

const run = promisify(execFile);
const EXAMPLE = new URL("../../../../examples/particle/", import.meta.url).pathname;
const DAY_MS = 24 * 60 * 60 * 1000;
const BUILD_MS = 1_800_000;

let directory = "";

interface Built {
  readonly artefacts: Readonly<Record<string, string>>;
  readonly image: BuiltImage;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "leveret-reproducible-"));
});

afterAll(async () => {
  // What a Nix store holds is read-only, directories included.
  await run("chmod", ["-R", "u+w", directory]);
  await rm(directory, { recursive: true, force: true });
});

test(
  "two builds from one lock, on different days, in different directories and Nix stores, give the same artefacts and image",
  async () => {
    const first = join(directory, "first");
    const second = join(directory, "somewhere", "else");
    await cp(join(EXAMPLE, "os.config.ts"), join(first, "os.config.ts"));
    await cp(join(EXAMPLE, "tree"), join(first, "tree"), { recursive: true });
    await generateKeys(join(first, "keys"), { name: "reproducible" });
    const project = await loadProject(first);
    const lock = await lockProject(project, { env: process.env, stateDirectory: stateDirectory(project) });
    const one = await buildAll(first, process.env);

    for (const name of ["os.config.ts", "os.lock.json", "tree", "keys"]) {
      await cp(join(first, name), join(second, name), { recursive: true, preserveTimestamps: false });
    }
    await chmod(join(second, "keys"), 0o700);
    const env = { ...process.env, LEVERET_NIX_STORE: `local?root=${join(directory, "store")}` };
    await copyDownloads(first, env.LEVERET_NIX_STORE);
    // Another day for all that isn't built by Nix. In there it is the kernel's day, and what names days is looked at.
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 40 * DAY_MS });
    onTestFinished(() => void vi.useRealTimers());
    const other = await buildAll(second, env);

    expect(other.artefacts).toEqual(one.artefacts);
    expect(await digest(other.image.uki)).toBe(await digest(one.image.uki));
    expect(await digest(other.image.disk)).toBe(await digest(one.image.disk));
    expect(await passwordDays(one.image.disk)).toEqual([Math.floor((imageEpochSeconds(lock) * 1000) / DAY_MS)]);
  },
  BUILD_MS,
);

async function buildAll(path: string, env: NodeJS.ProcessEnv): Promise<Built> {
  const { usr, initrd, bootFiles } = await buildProject(await loadProject(path), { env });
  const { image } = await buildProjectImage(path, { env });
  const artefacts: Record<string, string> = {};
  for (const artefact of [usr, initrd, bootFiles]) {
    for (const name of await readdir(artefact)) {
      artefacts[`${basename(artefact)}/${name}`] = await digest(join(artefact, name));
    }
  }
  return { artefacts, image };
}

/** Downloads are fixed by their hashes; what is built from them is what has to be shown to be the same. */
async function copyDownloads(path: string, store: string): Promise<void> {
  const lock = await readLock(await loadProject(path));
  const nix = await openNix({ env: process.env });
  const locked = Object.values(lock.packages).map(({ version }) => version);
  const entries = await readdir(nix.realPath("/nix/store"));
  const debs = entries.filter(
    (name) => name.endsWith(".deb") && locked.some((version) => name.includes(storeText(version))),
  );
  await run(nix.program, ["copy", "--no-check-sigs", "--to", store, ...debs.map((name) => `/nix/store/${name}`)], {
    env: { ...nix.env },
    maxBuffer: 64 * 1024 * 1024,
  });
}

function storeText(version: string): string {
  return version.replaceAll(/[^A-Za-z0-9+\-._?=]/g, "-");
}

/** The days on which shadow(5) says that passwords changed: what creates users asks the clock for them. */
async function passwordDays(path: string): Promise<number[]> {
  await using disk = await openDiskImage(path);
  const usr = disk.partitions.find(({ typeName, label }) => typeName === "usr-x86-64" && label !== "_empty");
  const volume = await openErofs(disk.open(usr?.number ?? 0));
  const shadow = new TextDecoder().decode(await volume.readFile(await volume.lookup("share/factory/etc/shadow")));
  const days = shadow
    .trim()
    .split("\n")
    .map((line) => Number(line.split(":")[2]));
  return [...new Set(days)];
}

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
