// Reading and writing images of a tree like /usr: ours in this process or a Node of its own, erofs-utils in theirs.
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSource, openErofs } from "../packages/erofs-meta/dist/index.js";
import { interleave, row, run, timed } from "./measure.mjs";

const ROUNDS = 3;
const DIRECTORIES = 500;
const FILES_IN_EACH = 98;
const POOL_BYTES = 300_000_000;
const POOL_FOLDERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/bin"];
const MIN_POOL_FILE = 100_000;

/** Walks and stats everything; all times in milliseconds, Node's own start (some 40) not among them. */
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
    const read = (contents) => () => {
      progress({ step: "erofs-read", item: `erofs-meta, ${name}` });
      return timed(() => readAll(image, contents));
    };
    const fsck = (options) => async () => {
      progress({ step: "erofs-read", item: `fsck.erofs, ${name}` });
      return (await run("fsck.erofs", [...options, image], { signal })).ms;
    };
    if (name === "plain") {
      const { ours, theirs } = await interleave(rounds, { ours: read(false), theirs: fsck([]) });
      rows.push(row("walk and stat 50,000 entries", { unit: "ms", ours, theirs, target: 1.5 }));
    }
    const { ours, theirs } = await interleave(rounds, { ours: read(true), theirs: fsck(["--extract"]) });
    rows.push(row(`read every file, ${name}`, { unit: "ms", ours, theirs, target: 1.5 }));
  }
  await rm(directory, { recursive: true });
  return rows;
}

async function readAll(path, contents) {
  const image = await openErofs(await fileSource(path));
  try {
    for await (const { inode } of image.walk()) {
      if (!contents || inode.type !== "file") continue;
      for await (const _ of image.content(inode)) {
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
const { maxRSS } = process.resourceUsage();
process.stdout.write(JSON.stringify({ ms: performance.now() - started, bytes: maxRSS * 1024 }));
`;
const MIB = 1024 * 1024;

/** Builds images of the same tree, each until it is on disk, in a Node of its own because of the memory. */
export async function erofsWrite({ temporary, signal, progress, rounds = ROUNDS }) {
  const directory = await temporary("erofs-write");
  progress({ step: "erofs-write", item: "making a tree of 50,000 entries" });
  const tree = await makeTree(join(directory, "tree"), signal);
  const library = new URL("../packages/erofs-meta/dist/index.js", import.meta.url).href;
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
        const args = ["--input-type=module", "--eval", BUILD, library, tree, output, JSON.stringify(compression)];
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
