import { mkdir, readdir, readFile, rm, watch, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeRoot, runCommand } from "./command.ts";

/** How many kills; `npm run matrix` makes more of them. */
const KILLS = Number(process.env.LEVERET_KILLS ?? 6);
const SEED = Number(process.env.LEVERET_SEED ?? Date.now() % 2 ** 31);
/** Files that the guest writes all at once, and that have to come back so; with each version another directory comes. */
const FILES = Array.from({ length: 12 }, (_, index) => `dir-${index % 3}/file-${index}`);

let root = "";
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  ({ root, env } = await makeRoot());
  for (const path of FILES) {
    await mkdir(join(root, "project", path, ".."), { recursive: true });
    await writeFile(join(root, "project", path), "0\n");
  }
});
afterAll(async () => {
  for (const { name } of await list()) await sandbox("stop", "--discard", name).end;
  await rm(root, { recursive: true, force: true });
});

/** Numbers from 0 to 1 that a seed decides. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function sandbox(...argv: string[]): ReturnType<typeof runCommand> {
  return runCommand(argv, { cwd: join(root, "project"), env });
}

async function list(): Promise<{ name: string; pid: number }[]> {
  const { exitCode, stdout, stderr } = await sandbox("ls", "--json").end;
  expect(exitCode, stderr).toBe(0);
  return (JSON.parse(stdout) as { sandboxes: { name: string; pid: number }[] }).sandboxes;
}

/** Processes that were started for these sandboxes, and the ones that started them. */
async function processes(): Promise<Map<number, { readonly parent: number; readonly name: string }>> {
  const found = new Map<number, { parent: number; name: string }>();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const [environ = "", stat = ""] = await Promise.all(
      ["environ", "stat"].map((file) => readFile(`/proc/${pid}/${file}`, "latin1").catch(() => "")),
    );
    const [, name = "", state, parent] = /^\d+ \((.*)\) (\S) (\d+)/s.exec(stat) ?? [];
    if (state === "Z" || !environ.includes(`XDG_STATE_HOME=${root}/state`)) continue;
    found.set(Number(pid), { parent: Number(parent), name });
  }
  return found;
}

/** Those that no sandbox needs which runs. */
async function orphans(): Promise<string[]> {
  const supervisors = new Set((await list()).map(({ pid }) => pid));
  const all = await processes();
  const belongs = (pid: number): boolean => {
    const { parent } = all.get(pid) ?? {};
    return supervisors.has(pid) || (parent !== undefined && parent > 1 && belongs(parent));
  };
  return [...all].filter(([pid]) => !belongs(pid)).map(([pid, { name }]) => `${pid} ${name}`);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** All files below a directory. */
async function filesIn(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true }).catch(() => [])).sort();
}

test(`leaves nothing, and loses nothing, when it is killed ${KILLS} times (LEVERET_SEED=${SEED})`, async () => {
  const random = mulberry32(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const durations = new Map<string, number>();
  const start = ["start", "--isolated", "--image", join(root, "guest"), "--memory", "512"];
  let version = 0;
  let cutOff = 0;

  const write = (): string[] => {
    version += 1;
    const others = `rm -rf of-*; mkdir -p of-${version}/deep; echo ${version} > of-${version}/deep/x`;
    return ["exec", "--", "sh", "-c", `for file in ${FILES.join(" ")}; do echo ${version} > $file; done; ${others}`];
  };
  const operations: readonly (() => string[])[] = [
    () => start,
    write,
    () => ["checkpoint"],
    () => ["rewind", "1"],
    () => ["fork", "-n", "2"],
    () => ["diff"],
    () => ["apply", "--force"],
    () => ["apply", "--force"],
    () => ["stop", "--discard"],
  ];

  for (let count = 1; count <= KILLS; count += 1) {
    await sandbox(...start).end;
    if (random() < 0.7) await sandbox(...write()).end;
    const argv = pick(operations)();
    const [verb = ""] = argv;
    const before = await list();
    const began = Date.now();
    const command = sandbox(...argv);
    const victim = pick(["command", "command", "supervisor", "machine"] as const);
    const patience = random() * (durations.get(verb) ?? 2000);
    if (verb === "apply" && random() < 0.7) {
      // Most of it is reading; what matters most begins when it is written down.
      const signal = AbortSignal.timeout(60_000);
      const journal = watch(join(root, "state/leveret/sandbox-applies"), { signal })[Symbol.asyncIterator]();
      await Promise.race([journal.next().catch(() => {}), command.end]);
      await sleep(random() * 15);
    } else await sleep(patience);
    const running = await processes();
    const supervisor = pick(before).pid;
    const machine = [...running].find(([, { parent, name }]) => parent === supervisor && name.startsWith("qemu"))?.[0];
    const pid = { command: command.pid, supervisor, machine }[victim];
    const story = `kill ${count}: the ${victim} during ${verb}, after ${Date.now() - began} ms`;
    if (pid !== undefined && (running.has(pid) || victim === "command")) kill(pid);
    const { exitCode, stderr } = await command.end;
    if (exitCode === 0) durations.set(verb, Date.now() - began);
    // What was killed is not 2, wrong usage, nor an error that nobody has thought of.
    else if (exitCode !== null) expect([exitCode, stderr], story).toEqual([1, expect.stringMatching(/\[[A-Z_]+\]/)]);

    await expect.poll(orphans, { message: story }).toEqual([]);
    for (const { name } of await list()) {
      const answer = await sandbox("exec", "-n", name, "--", "true").end;
      if (answer.exitCode !== 0) expect(answer.stderr, story).toContain("SANDBOX_");
    }
    // What was cut off is taken back by whoever is next, who may be killed at that, too.
    const next = sandbox(...start);
    if ((await filesIn(join(root, "state/leveret/sandbox-applies"))).length > 0) {
      cutOff += 1;
      await sleep(random() * 400);
      kill(next.pid);
    }
    await next.end;
    expect((await sandbox(...start).end).stderr, story).toBe("");
    const contents = await Promise.all(FILES.map((path) => readFile(join(root, "project", path), "utf8")));
    expect(new Set(contents).size, `${story}: ${contents}`).toBe(1);
    const applied = contents[0]?.trim();
    const others = applied === "0" ? [] : [`of-${applied}`, `of-${applied}/deep`, `of-${applied}/deep/x`];
    const all = await filesIn(join(root, "project"));
    expect(
      all.filter((path) => !path.startsWith("dir-")),
      story,
    ).toEqual(others);
    for (const { name } of (await list()).slice(1)) await sandbox("stop", "--discard", name).end;
  }

  for (const { name } of await list()) await sandbox("stop", "--discard", name).end;
  await expect.poll(async () => [...(await processes()).values()]).toEqual([]);
  expect(await filesIn(join(root, "tmp"))).toEqual([]);
  const kept = (await filesIn(join(root, "state"))).map((path) => path.replace(/\d+/, "N"));
  expect([...new Set(kept)]).toEqual([
    "leveret",
    "leveret/sandbox",
    "leveret/sandbox-applies",
    "leveret/sandbox/vm-N",
    ...["console", "lease", "log"].map((file) => `leveret/sandbox/vm-N/${file}`),
  ]);
  if (cutOff > 0) process.stderr.write(`${cutOff} of ${KILLS} kills cut an apply off\n`);
  expect((await filesIn(join(root, "run"))).filter((path) => /vm-/.test(path))).toEqual([]);
}, 6_000_000);
