import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const BIN = fileURLToPath(new URL("../bin/leveret-os.js", import.meta.url));
const EXAMPLE = fileURLToPath(new URL("../../../examples/particle/", import.meta.url));

interface Run {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let project = "";

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), "leveret-os-"));
  for (const name of ["os.config.ts", "tree"]) await cp(join(EXAMPLE, name), join(project, name), { recursive: true });
});
afterAll(() => rm(project, { recursive: true, force: true }));

/** Runs the built command; it gets a SIGINT after so many milliseconds. */
async function leveretOs(argv: readonly string[], interruptAfterMs?: number): Promise<Run> {
  const child = spawn(process.execPath, [BIN, ...argv], { cwd: project, stdio: ["ignore", "pipe", "pipe"] });
  const timer = interruptAfterMs && setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  const [stdout, stderr] = await output;
  return { exitCode, stdout, stderr };
}

async function json(...argv: string[]): Promise<Record<string, unknown>> {
  const { exitCode, stdout, stderr } = await leveretOs([...argv, "--json"]);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function leftovers(): Promise<string[]> {
  const names = await readdir(project, { recursive: true });
  return names.filter((name) => /\.(new|partial|tmp)$/.test(name));
}

// In this order: each needs what the ones before it made.
describe("leveret-os", () => {
  test("makes keys", async () => {
    expect(await json("init")).toMatchObject({ kind: "os-init", version: 1, directory: project });
  });

  test("locks packages", async () => {
    const document = await json("lock");
    expect(document).toMatchObject({ kind: "os-lock", version: 1, file: join(project, "os.lock.json") });
    expect(document.sets).toEqual(
      expect.arrayContaining([expect.objectContaining({ set: "system", packages: expect.any(Number) })]),
    );
  });

  test("builds artefacts", async () => {
    const document = await json("build");
    expect(document).toMatchObject({ kind: "os-artefacts", version: 1 });
    expect((await stat(join(String(document.usr), "usr.erofs"))).isFile()).toBe(true);
  });

  test.each([500, 1000, 1500, 2000])("interrupted after %d ms leaves an image, or nothing of it", async (afterMs) => {
    const images = join(project, "images");
    await rm(images, { recursive: true, force: true });
    await rm(join(project, ".leveret", "usr.verity"), { force: true });
    const { exitCode, stdout, stderr } = await leveretOs(["image"], afterMs);
    const left = await readdir(images).catch(() => []);
    if (exitCode === 0) expect(left).toHaveLength(3);
    else {
      // Before it listens to signals there is nothing that it could leave: the kernel ends it.
      expect([130, null], stderr).toContain(exitCode);
      expect(stdout).toBe("");
      expect(left.filter((name) => name.endsWith(".json"))).toEqual([]);
    }
    expect(await leftovers()).toEqual([]);
  });

  test("twice at the same time makes one image and refuses the other", async () => {
    const runs = await Promise.all([leveretOs(["image", "--json"]), leveretOs(["image", "--json"])]);
    const documents = runs.map(({ stdout }) => JSON.parse(stdout) as Record<string, unknown>);
    expect(runs.map(({ exitCode }) => exitCode).sort()).toEqual([0, 1]);
    expect(documents.map(({ kind }) => kind).sort()).toEqual(["error", "os-image"]);
    expect(documents.find(({ kind }) => kind === "error")).toMatchObject({ code: "OS_BUSY" });
    expect(await leftovers()).toEqual([]);
  });

  test("makes the same image no second time", async () => {
    expect(await json("image")).toMatchObject({ kind: "os-image", version: 1, upToDate: true });
    expect((await leveretOs(["image"])).stdout).toMatch(/^image +images\/particle_0\.1\.0\.raw +.*, up to date$/m);
  });

  test("inspects the image", async () => {
    const document = await json("inspect", "images/particle_0.1.0.raw", "--keys", "keys");
    expect(document).toMatchObject({ kind: "os-inspection", version: 1, path: "images/particle_0.1.0.raw" });
    expect(document.chain).toHaveLength(4);
    for (const link of document.chain as unknown[]) expect(link).toMatchObject({ verdict: "verified" });
    const record = JSON.parse(await readFile(join(project, "images", "particle_0.1.0.json"), "utf8"));
    expect(JSON.stringify(document.chain)).toContain(record.rootHash.slice(0, 16));
  });

  test("boots the image", async () => {
    const document = await json("boot");
    expect(document).toMatchObject({ kind: "os-boot", version: 1, ok: true, report: { state: "running" } });
    expect(await leftovers()).toEqual([]);
  }, 900_000);

  test("finds nothing missing on a machine that could do all this", async () => {
    expect(await json("doctor")).toMatchObject({ kind: "os-doctor", version: 1, ok: true });
  });
});
