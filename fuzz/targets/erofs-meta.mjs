// Decoders of @leveret/erofs-meta, and small inputs to begin with.
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import {
  checkErofs,
  decodeVeritySuperblock,
  ErofsError,
  encodeVeritySuperblock,
  memorySource,
  openErofs,
  parseXattrDump,
  readTar,
  writeErofs,
} from "../../packages/erofs-meta/dist/index.js";

const code = new URL("../../packages/erofs-meta/dist/", import.meta.url);
const isExpected = (error) => error instanceof ErofsError;
const UUID = "00112233-4455-4677-8899-aabbccddeeff";
const SUPERBLOCK = 1024;
const MAX_FILE_BYTES = 1024 * 1024;
/** Their extents are nearly whole files, so that there is one way to read them only. */
const small = { halves: false, last: "/mixed" };

export const targets = [
  image("plain", async () => [await built({}), await built({ blockSize: 512 })], [[512, 512 + 2048]]),
  image("lz4", async () => [await built(lz4(4096)), await built(lz4(16_384))]),
  image("deflate", async () => [await built({ compression: { algorithm: "deflate", clusterSize: 8192 } })]),
  image("lzma", async () => [await seed("lzma"), await seed("lzma-tails")], [], small),
  image("zstd", async () => [await seed("zstd"), await seed("zstd-fast")], [], small),
  image("48-bit", async () => [await fixture("48bit-lz4")], [], { last: "/small" }),
  image("boxed", async () => [await fixture("metabox-lz4-tails")], [], { last: "/small" }),
  {
    name: "erofs-meta check",
    code,
    isExpected,
    seeds: async () => [await built({ blockSize: 512 }), await built(lz4(4096))],
    // It reports what it finds; here every image with a problem is an outcome of its own.
    run: async (bytes) => {
      const limits = { maxEntries: 300, maxContentBytes: 16 * MAX_FILE_BYTES };
      const { problems } = await checkErofs(memorySource(bytes), limits);
      if (problems.length > 0) throw new ErofsError("EROFS_DAMAGED", problems[0].message);
    },
    repair: withoutChecksum,
    hot: [[SUPERBLOCK, SUPERBLOCK + 128]],
  },
  {
    name: "erofs-meta like",
    code,
    isExpected,
    seeds: async () => [await built({ blockSize: 512 }), await built(lz4(4096))],
    // Whatever the older image says, the new one is whole.
    run: async (bytes) => {
      const like = await openErofs(memorySource(bytes));
      const { blockSize } = like.superblock;
      const image = await built({ blockSize, like, maxEntries: 300 });
      const { problems } = await checkErofs(memorySource(image));
      if (problems.length > 0) throw new Error(problems[0].message);
    },
    repair: withoutChecksum,
    hot: [[SUPERBLOCK, SUPERBLOCK + 128]],
  },
  {
    name: "erofs-meta xattr dump",
    code,
    isExpected,
    seeds: async () => [Buffer.from('# file: a\\040b\nuser.x="y\\012"\nuser.z=0sAAH/\n\n# file: c\nuser.x=0x00ff\n')],
    run: async (bytes) => void parseXattrDump(bytes),
  },
  {
    name: "erofs-meta verity superblock",
    code,
    isExpected,
    seeds: async () => [encodeVeritySuperblock({ ...verity(), salt: new Uint8Array(32).fill(7) })],
    run: async (bytes) => void decodeVeritySuperblock(bytes),
    hot: [[0, 128]],
  },
  {
    name: "erofs-meta tar",
    code,
    isExpected,
    seeds: async () => [tar()],
    run: async (bytes) => {
      for await (const { content } of readTar([bytes])) {
        if (content === undefined || content instanceof Uint8Array) continue;
        for await (const _ of content.read()) {
          // Read, and let go.
        }
      }
    },
    repair: repairTar,
    hot: [
      [100, 160],
      [512 + 1024, 512 + 1024 + 160],
    ],
  },
];

function image(name, seeds, hot = [], { halves = true, last = "/links/relative" } = {}) {
  return {
    name: `erofs-meta ${name} image`,
    code,
    isExpected,
    seeds,
    run: (bytes) => readImage(bytes, halves, last),
    repair: withoutChecksum,
    hot: [[SUPERBLOCK, SUPERBLOCK + 128], ...hot],
  };
}

async function readImage(bytes, halves, last) {
  const opened = await openErofs(memorySource(bytes));
  for await (const { inode } of opened.walk({ maxEntries: 300, maxDepth: 20 })) {
    await tolerate(() => opened.xattrs(inode));
    if (inode.type === "symlink") await tolerate(() => opened.readLink(inode));
    if (inode.type !== "file" || inode.sizeBytes > MAX_FILE_BYTES) continue;
    await tolerate(() => opened.readFile(inode));
    if (!halves) continue;
    // The second half by itself: another way through the indexes.
    await tolerate(async () => {
      for await (const _ of opened.content(inode, { start: Number(inode.sizeBytes) >> 1 })) {
        // Read, and let go.
      }
    });
  }
  await opened.lookup(last);
}

/** One damaged file is no reason not to look at the next. */
async function tolerate(action) {
  try {
    await action();
  } catch (error) {
    if (!isExpected(error)) throw error;
  }
}

/** Nothing behind a superblock with a wrong checksum would be reached. */
function withoutChecksum(bytes) {
  if (bytes.byteLength > SUPERBLOCK + 8) bytes[SUPERBLOCK + 8] &= ~1;
  return bytes;
}

const text = new TextEncoder().encode("some words that come again and again\n".repeat(150));
const sparse = new Uint8Array(16_000).fill(1, 7000, 8000);
const noise = Uint8Array.from({ length: 5000 }, (_, index) => Math.imul(index * index + 7, 2654435761) >>> 24);

const lz4 = (clusterSize) => ({ compression: { algorithm: "lz4", clusterSize } });

async function built(options) {
  let bytes = new Uint8Array(32 * 1024);
  let end = 0;
  const write = async (offset, piece) => {
    end = Math.max(end, offset + piece.byteLength);
    if (end > bytes.byteLength) {
      const longer = new Uint8Array(2 * end);
      longer.set(bytes);
      bytes = longer;
    }
    bytes.set(piece, offset);
  };
  const entries = [
    { type: "file", path: "/text", content: text, xattrs: { "user.one": text.subarray(0, 30) } },
    { type: "file", path: "/small", content: text.subarray(0, 90), xattrs: { "user.one": text.subarray(0, 30) } },
    { type: "file", path: "/noise", content: noise },
    { type: "file", path: "/mixed", content: Buffer.concat([noise, text, noise, sparse]), mtime: 5n },
    { type: "file", path: "/sparse", content: sparse },
    { type: "symlink", path: "/links/relative", target: "../text" },
    { type: "symlink", path: "/links/round", target: "round" },
    { type: "char", path: "/dev/null", device: { major: 1, minor: 3 } },
    ...Array.from({ length: 24 }, (_, index) => ({ type: "fifo", path: `/many/a name of some length ${index}` })),
  ];
  await writeErofs(entries, { output: { write }, uuid: UUID, buildTime: 0n, workers: 0, ...options });
  return bytes.slice(0, end);
}

const seed = (name) => unpacked(`../seeds/${name}.erofs.gz`);
const fixture = (name) => unpacked(`../../packages/erofs-meta/test/fixtures/${name}.erofs.gz`);

async function unpacked(path) {
  return new Uint8Array(gunzipSync(await readFile(new URL(path, import.meta.url))));
}

function verity() {
  const blocks = { dataBlockSize: 4096, hashBlockSize: 4096, dataBlocks: 100n };
  return { version: 1, hashType: 1, uuid: UUID, algorithm: "sha256", ...blocks };
}

/** A pax header with an xattr, its file, a long name of GNU's with its link, and the end. */
function tar() {
  const record = (key, value) => {
    let length = key.length + value.length + 3;
    while (`${length + `${length}`.length}`.length !== `${length}`.length) length += 1;
    return `${length + `${length}`.length} ${key}=${value}\n`;
  };
  const pax = record("SCHILY.xattr.user.note", "seen") + record("mtime", "1700000000.5");
  const blocks = [
    header("pax", "x", pax.length),
    padded(pax),
    header("file", "0", 600),
    padded("x".repeat(600)),
    header("././@LongLink", "L", 150),
    padded("n".repeat(150)),
    header("link", "2", 0, "file"),
    header("null", "3", 0),
    new Uint8Array(1024),
  ];
  return new Uint8Array(Buffer.concat(blocks));
}

function padded(text) {
  const bytes = new Uint8Array(Math.ceil(text.length / 512) * 512);
  bytes.set(Buffer.from(text));
  return bytes;
}

function header(name, type, size, target = "") {
  const bytes = Buffer.alloc(512);
  bytes.write(name, 0);
  bytes.write("0000644\x000000000\x000000000\0", 100);
  bytes.write(`${size.toString(8).padStart(11, "0")}\0${"0".repeat(11)}\0`, 124);
  bytes.write(type, 156);
  bytes.write(target, 157);
  bytes.write("ustar\x0000", 257);
  return repairTar(bytes);
}

/** Makes the checksums of whatever could be a header right. */
function repairTar(bytes) {
  for (let at = 0; at + 512 <= bytes.byteLength; at += 512) {
    if (String.fromCharCode(...bytes.subarray(at + 257, at + 262)) !== "ustar") continue;
    bytes.fill(0x20, at + 148, at + 156);
    const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    bytes.set(Buffer.from(`${sum.toString(8).padStart(6, "0")}\0 `), at + 148);
  }
  return bytes;
}
