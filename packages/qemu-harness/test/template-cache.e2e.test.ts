import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { type Machine, openTemplateCache, type TemplateCache, type TemplateRequest } from "../src/index.ts";
import { leaveNothing } from "./leftovers.ts";
import { missingOracles, titled } from "./oracles.ts";
import { toyKernel } from "./toy-kernel.ts";

const missing = missingOracles();
const directory = mkdtempSync(join(tmpdir(), "qemu-harness-cache-"));
const kernelPath = join(directory, "toy");
writeFileSync(kernelPath, toyKernel());
afterAll(() => rmSync(directory, { recursive: true }));

const BUILT = new URL("../dist/index.js", import.meta.url).href;
let caches = 0;

function newCache(options: { maxBytes?: number } = {}): TemplateCache {
  caches += 1;
  return openTemplateCache({ directory: join(directory, `cache-${caches}`), ...options });
}

/** A template whose making is counted. */
function toy(name: string, key?: string): { request: TemplateRequest; made: () => number } {
  let made = 0;
  const prepare = async (machine: Machine): Promise<void> => {
    made += 1;
    await machine.serial.waitFor("READY");
  };
  const description = { name, memoryMiB: 16, boot: { type: "kernel", kernelPath } } as const;
  return { request: { description, key, accelerator: "tcg", prepare }, made: () => made };
}

async function use(cache: TemplateCache, request: TemplateRequest): Promise<boolean> {
  await using template = await cache.template(request);
  await using fork = await template.fork();
  await fork.serial.write("here");
  await fork.serial.waitFor("here");
  return template.cached;
}

describe.skipIf(missing !== "")(titled("a cache of templates", missing), () => {
  leaveNothing();

  test("makes each template once, and again when its key is another", async () => {
    const cache = newCache();
    const { request, made } = toy("once");
    expect(await use(cache, request)).toBe(false);
    expect(await use(cache, request)).toBe(true);
    expect(await use(cache, { ...request, key: "another" })).toBe(false);
    expect(await use(cache, { ...request, description: { ...request.description, memoryMiB: 17 } })).toBe(false);
    expect(made()).toBe(3);
    expect(await cache.list()).toHaveLength(3);
    expect(readdirSync(cache.directory).every((name) => /^[0-9a-f]{32}$/.test(name))).toBe(true);
  });

  test("finds what was damaged, and makes it again", async () => {
    const cache = newCache();
    const { request, made } = toy("damaged");
    await use(cache, request);
    const [entry] = await cache.list();
    appendFileSync(join(entry?.path ?? "", "state"), "x");
    expect(await use(cache, request)).toBe(false);
    rmSync(join(entry?.path ?? "", "snapshot.json"));
    expect(await use(cache, request)).toBe(false);
    expect(await use(cache, request)).toBe(true);
    expect(made()).toBe(3);
  });

  test("forgets what was used longest ago, also while it is in use", async () => {
    const names = ["a", "b", "c"];
    const measured = newCache();
    await use(measured, toy("a").request);
    const one = (await measured.list())[0]?.sizeBytes ?? 0;
    const cache = newCache({ maxBytes: Math.floor(2.5 * one) });
    await use(cache, toy("a").request);
    await using open = await cache.template(toy("b").request);
    await use(cache, toy("a").request);
    await use(cache, toy("c").request);
    expect((await cache.list()).map(({ description }) => description.name)).toEqual([names[2], names[0]]);
    await using fork = await open.fork();
    await fork.serial.write("still");
    await fork.serial.waitFor("still");
    const tiny = newCache({ maxBytes: 1 });
    expect(await use(tiny, toy("a").request)).toBe(false);
    expect(await tiny.list()).toEqual([]);
  });

  test("is shared by processes: one makes a template, the others wait for it", async () => {
    const cache = newCache();
    const script = `
      import { appendFileSync } from "node:fs";
      import { openTemplateCache } from ${JSON.stringify(BUILT)};
      const template = await openTemplateCache({ directory: process.argv[1] }).template({
        description: { memoryMiB: 16, boot: { type: "kernel", kernelPath: process.argv[2] } },
        accelerator: "tcg",
        prepare: async (machine) => {
          appendFileSync(process.argv[3], "made\\n");
          await machine.serial.waitFor("READY");
          if (process.argv[4] === "hang") await new Promise((resolve) => setTimeout(resolve, 600_000));
        },
      });
      const fork = await template.fork();
      console.log(template.cached);
      await fork.close();
      await template.close();`;
    const log = join(directory, "made");
    const start = (how: string) => {
      const args = ["--input-type=module", "--eval", script, cache.directory, kernelPath, log, how];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      let output = "";
      child.stdout.on("data", (chunk) => {
        output += chunk;
      });
      return { child, ended: once(child, "close").then(() => output.trim()) };
    };
    // One that is killed while it makes the template keeps nobody waiting.
    const killed = start("hang");
    while (!existsSync(log)) await sleep(20);
    const others = [start(""), start("")];
    await sleep(200);
    killed.child.kill("SIGKILL");
    expect((await Promise.all(others.map(({ ended }) => ended))).sort()).toEqual(["false", "true"]);
    await killed.ended;
    expect(readFileSync(log, "utf8")).toBe("made\nmade\n");
    expect(readdirSync(cache.directory)).toHaveLength(1);
  });

  test("keeps nothing of a machine that did not get there, or that was called off", async () => {
    const cache = newCache();
    const { request } = toy("fails");
    const prepare = () => Promise.reject(new Error("not today"));
    await expect(cache.template({ ...request, prepare })).rejects.toThrow("not today");
    const signal = AbortSignal.timeout(1);
    await sleep(5);
    await expect(cache.template({ ...request, signal })).rejects.toMatchObject({ code: "QEMU_ABORTED" });
    const credentials = { secret: "x" };
    await expect(
      cache.template({ ...request, description: { ...request.description, credentials } }),
    ).rejects.toMatchObject({ code: "QEMU_SNAPSHOT_SECRET" });
    expect(readdirSync(cache.directory)).toEqual([]);
  });

  test("removes a template by its name, and nothing else", async () => {
    const cache = newCache();
    await using template = await cache.template(toy("removed").request);
    expect(await cache.remove("../cache-1")).toBe(false);
    expect(await cache.remove(template.id)).toBe(true);
    expect(await cache.remove(template.id)).toBe(false);
    expect(() => openTemplateCache({ env: {} })).toThrow("XDG_CACHE_HOME");
    expect(() => openTemplateCache({ maxBytes: 0 })).toThrow("maxBytes");
  });
});
