// Reading and writing images of a tree like /usr. Everything is in the page cache on both sides, and both may use all
// cores. Read: the library in a program that runs, against the whole of fsck.erofs, which starts in a millisecond; how
// long a Node of its own takes, start and compilation with it, is said beside. Both look at every inode and, with contents,
// read and decode every byte and forget it. Written: a Node of its own against mkfs.erofs, both until the image is on disk,
// Node's start not counted.
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSource, openErofs } from "../packages/erofs-meta/dist/index.js";
import { interleave, median, row, run, timed } from "./measure.mjs";

const LIBRARY = new URL("../packages/erofs-meta/dist/index.js", import.meta.url).href;
const ROUNDS = 3;
const DIRECTORIES = 500;
const FILES_IN_EACH = 98;
const POOL_BYTES = 300_000_000;
const POOL_FOLDERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/bin"];
const MIN_POOL_FILE = 100_000;

const READ = `
const { fileSource, openErofs } = await import(process.argv[1]);
const [, , path, contents] = process.argv;
${readAll}
await readAll({ fileSource, openErofs }, path, contents === "true");
`;

export async function erofsRead({ temporary, signal, progress, rounds = ROUNDS }) {
  const directory = await temporary("erofs-read");
  progress({ step: "erofs-read", item: "making a tree of 50,000 entries" });
  const tree = await makeTree(join(directory, "tree"), signal);
  const rows = [];
  for (const [name, options] of [
    ["plain", []],
    ["lz4", ["-zlz4"]],
  ]) {
    const image = join(directory, `${name}.erofs`);
    progress({ step: "erofs-read", item: `mkfs.erofs, ${name}` });
    await run("mkfs.erofs", ["-T0", ...options, image, tree], { signal });
    const compare = async (what, contents) => {
      const step = (item) => progress({ step: "erofs-read", item: `${item}, ${what}` });
      // What is read for the first time is compiled, too.
      await readAll({ fileSource, openErofs }, image, contents);
      const { ours, theirs, command } = await interleave(rounds, {
        ours: async () => {
          step("erofs-meta");
          return timed(() => readAll({ fileSource, openErofs }, image, contents));
        },
        theirs: async () => {
          step("fsck.erofs");
          return (await run("fsck.erofs", [...(contents ? ["--extract"] : []), image], { signal })).ms;
        },
        command: async () => {
          step("a Node of its own");
          const args = ["--input-type=module", "--eval", READ, LIBRARY, image, String(contents)];
          return (await run(process.execPath, args, { signal })).ms;
        },
      });
      const note = `${(median(command) / 1000).toFixed(2)} s with Node's start`;
      rows.push(row(what, { unit: "ms", ours, theirs, target: 1.5, note }));
    };
    if (name === "plain") await compare("walk and stat 50,000 entries", false);
    await compare(`read every file, ${name}`, true);
  }
  await rm(directory, { recursive: true });
  return rows;
}

async function readAll({ fileSource, openErofs }, path, contents) {
  const image = await openErofs(await fileSource(path));
  try {
    for await (const { inode } of image.walk()) {
      if (!contents || inode.type !== "file") continue;
      for await (const _ of image.content(inode, { reuse: true })) {
        // Read, and let go.
      }
    }
  } finally {
    await image.close();
  }
}

/** A tree of some 600 MB in 50,000 entries; its files are parts of this machine's programs and libraries. */
export async function makeTree(root, signal) {
  const pool = await readPool();
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return seed / 2 ** 32;
  };
  const sizeOf = (kind) => random() * (kind < 0.8 ? 4000 : kind < 0.97 ? 40_000 : 540_000);
  let at = 0;
  for (let index = 0; index < DIRECTORIES; index += 1) {
    signal?.throwIfAborted();
    const directory = join(root, `directory-${index % 50}`, `below-${index}`);
    await mkdir(directory, { recursive: true });
    for (let number = 0; number < FILES_IN_EACH; number += 1) {
      const path = join(directory, `file-number-${number}.so`);
      const kind = random();
      if (kind < 0.05) {
        await symlink("../../directory-1/below-1/file-number-1.so", path);
        continue;
      }
      const size = Math.floor(sizeOf(kind));
      if (at + size > pool.byteLength) at = Math.floor(random() * 1000);
      await writeFile(path, pool.subarray(at, at + size));
      at += size;
    }
  }
  return root;
}

async function readPool() {
  const pieces = [];
  let total = 0;
  for (const folder of POOL_FOLDERS) {
    for (const name of (await readdir(folder)).sort()) {
      const path = join(folder, name);
      const found = await stat(path).catch(() => undefined);
      if (found?.isFile() !== true || found.size < MIN_POOL_FILE || total > POOL_BYTES) continue;
      pieces.push(await readFile(path));
      total += found.size;
    }
  }
  return Buffer.concat(pieces);
}

const BUILD = `
const { readFileSync } = await import("node:fs");
const { readDirectory, writeErofs } = await import(process.argv[1]);
const [, , tree, output, compression] = process.argv;
const started = performance.now();
await writeErofs(readDirectory(tree), {
  output,
  uuid: "00112233-4455-4677-8899-aabbccddeeff",
  buildTime: 0n,
  fixedTime: true,
  compression: JSON.parse(compression) ?? undefined,
});
const ms = performance.now() - started;
// All threads are in it. What a process inherits counts in its resource usage, but not here.
const [, kibibytes] = /VmHWM:\\s*(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"));
process.stdout.write(JSON.stringify({ ms, bytes: kibibytes * 1024 }));
`;
const MIB = 1024 * 1024;

/** Builds images of the same tree, each until it is on disk, in a Node of its own because of the memory. */
export async function erofsWrite({ temporary, signal, progress, rounds = ROUNDS }) {
  const directory = await temporary("erofs-write");
  progress({ step: "erofs-write", item: "making a tree of 50,000 entries" });
  const tree = await makeTree(join(directory, "tree"), signal);
  const rows = [];
  for (const [name, compression, options, target] of [
    ["plain", null, [], 1.5],
    ["lz4", { algorithm: "lz4" }, ["-zlz4"], 2],
  ]) {
    const memory = [];
    const { ours, theirs } = await interleave(rounds, {
      ours: async () => {
        progress({ step: "erofs-write", item: `erofs-meta, ${name}` });
        const output = join(directory, "ours.erofs");
        const args = ["--input-type=module", "--eval", BUILD, LIBRARY, tree, output, JSON.stringify(compression)];
        const { ms, bytes } = JSON.parse((await run(process.execPath, args, { signal })).stdout);
        memory.push(bytes);
        return ms;
      },
      theirs: async () => {
        progress({ step: "erofs-write", item: `mkfs.erofs, ${name}` });
        const output = join(directory, "theirs.erofs");
        const { ms } = await run("mkfs.erofs", ["-T0", ...options, output, tree], { signal });
        return ms + (await run("sync", [output], { signal })).ms;
      },
    });
    rows.push(row(`write 50,000 entries, ${name}`, { unit: "ms", ours, theirs, target }));
    rows.push(row(`  peak memory, ${name}`, { unit: "bytes", ours: memory, target: 300 * MIB }));
  }
  await rm(directory, { recursive: true });
  return rows;
}
