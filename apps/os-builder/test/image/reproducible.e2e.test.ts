import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { openNix } from "@leveret/nix-gen";
import { generateKeys } from "@leveret/uki-sign";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadProject } from "../../src/config/load.ts";
import type { BuiltImage } from "../../src/image/image.ts";
import { lockProject, readLock } from "../../src/lock.ts";
import { buildProject, buildProjectImage, stateDirectory } from "../../src/pipeline.ts";

const run = promisify(execFile);
const EXAMPLE = new URL("../../../../examples/particle/", import.meta.url).pathname;
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
  "two builds from one lock, in different directories and Nix stores, give the same artefacts and the same image",
  async () => {
    const first = join(directory, "first");
    const second = join(directory, "somewhere", "else");
    await cp(join(EXAMPLE, "os.config.ts"), join(first, "os.config.ts"));
    await cp(join(EXAMPLE, "tree"), join(first, "tree"), { recursive: true });
    await generateKeys(join(first, "keys"), { name: "reproducible" });
    const project = await loadProject(first);
    await lockProject(project, { env: process.env, stateDirectory: stateDirectory(project) });
    const one = await buildAll(first, process.env);

    for (const name of ["os.config.ts", "os.lock.json", "tree", "keys"]) {
      await cp(join(first, name), join(second, name), { recursive: true, preserveTimestamps: false });
    }
    await chmod(join(second, "keys"), 0o700);
    const env = { ...process.env, LEVERET_NIX_STORE: `local?root=${join(directory, "store")}` };
    await copyDownloads(first, env.LEVERET_NIX_STORE);
    const other = await buildAll(second, env);

    expect(other.artefacts).toEqual(one.artefacts);
    expect(await digest(other.image.uki)).toBe(await digest(one.image.uki));
    expect(await digest(other.image.disk)).toBe(await digest(one.image.disk));
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

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
