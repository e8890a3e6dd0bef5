import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { processesNaming } from "./support/processes.ts";

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

/** Runs the built command. */
async function leveretOs(argv: readonly string[]): Promise<Run> {
  const child = spawn(process.execPath, [BIN, ...argv], { cwd: project, stdio: ["ignore", "pipe", "pipe"] });
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  const [exitCode] = (await once(child, "close")) as [number | null];
  const [stdout, stderr] = await output;
  return { exitCode, stdout, stderr };
}

/** Runs the built command on a terminal, where Ctrl-C is typed as soon as it shows something. */
async function typeCtrlC(argv: readonly string[], at: RegExp): Promise<Pick<Run, "exitCode"> & { shown: string }> {
  const command = [process.execPath, BIN, ...argv].map((word) => `'${word}'`).join(" ");
  const terminal = ["--quiet", "--return", "--command", command, "/dev/null"];
  const child = spawn("script", terminal, { cwd: project, stdio: ["pipe", "pipe", "inherit"] });
  const closed = once(child, "close");
  let shown = "";
  for await (const chunk of child.stdout) {
    const before = at.test(shown);
    shown += chunk;
    if (!before && at.test(shown)) child.stdin.write("\u0003");
  }
  const [exitCode] = (await closed) as [number | null];
  return { exitCode, shown };
}

/** Everything in the project and when it was written, but for what may be made again at any time. */
async function listing(): Promise<string[]> {
  const names = (await readdir(project, { recursive: true })).filter((name) => !name.startsWith(".leveret")).sort();
  return Promise.all(
    names.map(async (name) => {
      const { mtimeMs, size } = await stat(join(project, name));
      return `${name} ${size} ${mtimeMs}`;
    }),
  );
}

async function json(...argv: string[]): Promise<Record<string, unknown>> {
  const { exitCode, stdout, stderr } = await leveretOs([...argv, "--json"]);
  expect(exitCode, `${stderr}${stdout}`).toBe(0);
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

  test.each([
    ["lock", /resolving packages/, async () => {}],
    ["build", /building particle_0\.1\.0-usr/, () => writeFile(join(project, "tree", "new"), `${Date.now()}`)],
    ["image", /hashing/, () => rm(join(project, ".leveret", "usr.verity"), { force: true })],
  ])("%s, and Ctrl-C at %s, ends with 130 and leaves everything as it was", async (command, at, prepare) => {
    await prepare();
    const before = await listing();
    const { exitCode, shown } = await typeCtrlC([command], at);
    expect(exitCode, shown).toBe(130);
    expect(shown).toContain("interrupted");
    expect(await listing()).toEqual(before);
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

  test("boot, and Ctrl-C while it starts, leaves no machine", async () => {
    const { exitCode, shown } = await typeCtrlC(["boot", "--serial"], /BdsDxe: starting/);
    expect(exitCode, shown).toBe(130);
    expect(await processesNaming(project)).toEqual([]);
  });

  test("finds nothing missing on a machine that could do all this", async () => {
    expect(await json("doctor")).toMatchObject({ kind: "os-doctor", version: 1, ok: true });
  });
});
