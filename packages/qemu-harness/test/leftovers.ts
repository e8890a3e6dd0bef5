import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";

/** Watches what the code under test leaves behind: processes, descriptors and files. */
export interface LeftoverWatch {
  /** directory that stands for the system's temporary one */
  readonly directory: string;
  /** everything that was not there at the beginning, after giving the kernel at most two seconds to clean up */
  readonly leftovers: () => Promise<readonly string[]>;
  readonly close: () => void;
}

/** Begins to watch; TMPDIR points into a directory of its own until `close`. */
export function watchLeftovers(): LeftoverWatch {
  const directory = mkdtempSync(join(tmpdir(), "leftovers-"));
  const previous = process.env.TMPDIR;
  process.env.TMPDIR = directory;
  const before = new Set(descriptors());
  const look = (): string[] => [
    ...descendants(process.pid).map((pid) => `process ${pid}: ${command(pid)}`),
    ...descriptors()
      .filter((item) => !before.has(item))
      .map((item) => `descriptor ${item}`),
    ...readdirSync(directory).map((name) => `file ${name}`),
  ];
  return {
    directory,
    async leftovers() {
      for (let attempt = 0; attempt < 40 && look().length > 0; attempt += 1) await sleep(50);
      return look();
    },
    close() {
      if (previous === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = previous;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Has every test of a suite checked for what it leaves behind. */
export function leaveNothing(): void {
  let watch: LeftoverWatch;
  beforeEach(() => {
    watch = watchLeftovers();
  });
  afterEach(async () => {
    const leftovers = await watch.leftovers();
    watch.close();
    expect(leftovers).toEqual([]);
  });
}

/** Whether a process exists and is not merely waiting to be reaped. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

/** All living processes below `pid` whose command line mentions QEMU or swtpm. */
export function descendants(pid: number): readonly number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = parentOf(Number(name));
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: number[] = [];
  const queue = [pid];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const below = children.get(next) ?? [];
    queue.push(...below);
    found.push(...below.filter((child) => isAlive(child) && /qemu-system|swtpm/.test(command(child))));
  }
  return found;
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(stat.slice(stat.lastIndexOf(")") + 4).split(" ")[0]);
  } catch {
    return undefined;
  }
}

function command(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
  } catch {
    return "";
  }
}

/** Sockets and files this process has open; not the event loop's own descriptors, which come and go. */
function descriptors(): string[] {
  const found: string[] = [];
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${name}`);
      if (target.startsWith("socket:") || target.includes(".qemu-harness-")) found.push(target);
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return found;
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
