// Decoders of @leveret/disk-image, and small inputs to begin with.
import { crc32, deflateRawSync } from "node:zlib";
import {
  DiskImageError,
  encodeGpt,
  memorySource,
  openFat,
  PARTITION_TYPES,
  planFat,
  qcow2Source,
  readGpt,
  writeFat,
} from "../../packages/disk-image/dist/index.js";

const code = new URL("../../packages/disk-image/dist/", import.meta.url);
const isExpected = (error) => error instanceof DiskImageError;
const SECTOR = 512;

export const targets = [
  {
    name: "disk-image gpt",
    code,
    isExpected,
    seeds: async () => [gpt(512, 4), gpt(512, 128), gpt(4096, 32)],
    run: async (bytes) => void (await readGpt(memorySource(bytes))),
    repair: repairGpt,
    hot: [[SECTOR, 2 * SECTOR + 256]],
  },
  {
    name: "disk-image fat",
    code,
    isExpected,
    seeds: async () => [await fat(12), await fat(16)],
    run: (bytes) => readFat((offset, length) => bytes.subarray(offset, offset + length)),
    hot: [
      [0, 90],
      [SECTOR, SECTOR + 64],
    ],
  },
  {
    name: "disk-image fat32",
    code,
    isExpected,
    // Two allocation tables of 260 KiB are nearly empty: an input is the sectors in which there is anything.
    seeds: async () => [(await fat32()).sectors],
    run: async (bytes) => {
      const { places } = await fat32();
      await readFat((offset, length) => {
        const piece = new Uint8Array(length);
        for (let at = 0; at < length; at += SECTOR - ((offset + at) % SECTOR)) {
          const place = places.get(Math.floor((offset + at) / SECTOR));
          const from = place * SECTOR + ((offset + at) % SECTOR);
          const size = Math.min(length - at, SECTOR - ((offset + at) % SECTOR));
          if (place !== undefined) piece.set(bytes.subarray(from, from + size), at);
        }
        return piece;
      });
    },
    hot: [[0, 90]],
  },
  {
    name: "disk-image qcow2",
    code,
    isExpected,
    seeds: async () => [qcow2()],
    run: async (bytes) => {
      const disk = await qcow2Source(memorySource(bytes));
      for (let at = 0; at < Math.min(disk.sizeBytes, 256 * SECTOR); at += 64 * SECTOR) {
        await disk.read(at, Math.min(64 * SECTOR, disk.sizeBytes - at));
      }
    },
    hot: [
      [0, 112],
      [SECTOR, SECTOR + 16],
      [2 * SECTOR, 2 * SECTOR + 32],
      [4 * SECTOR, 4 * SECTOR + 16],
    ],
  },
];

function gpt(sectorSize, entryCount) {
  const entrySectors = BigInt(Math.ceil((entryCount * 128) / sectorSize));
  const sectors = 8n + 2n * entrySectors;
  const partition = (number, firstLba, label) => ({
    number,
    type: PARTITION_TYPES["usr-x86-64"],
    uuid: `aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa${number}`,
    firstLba,
    lastLba: firstLba,
    attributes: 0n,
    label,
  });
  const table = {
    sectorSize,
    diskGuid: "11111111-2222-4333-8444-555555555555",
    sectors,
    firstUsableLba: 2n + entrySectors,
    lastUsableLba: sectors - 2n - entrySectors,
    entryCount,
    partitions: [partition(1, 2n + entrySectors, "one"), partition(3, 3n + entrySectors, "two")],
  };
  const bytes = new Uint8Array(Number(sectors) * sectorSize);
  const { primary, backup } = encodeGpt(table);
  bytes.set(primary);
  bytes.set(backup, bytes.byteLength - backup.byteLength);
  return bytes;
}

/** Makes the checksums of both copies right, as far as they say where their entries are. */
function repairGpt(bytes) {
  const view = new DataView(bytes.buffer);
  for (const sectorSize of [512, 4096]) {
    for (const header of [sectorSize, Math.floor(bytes.byteLength / sectorSize) * sectorSize - sectorSize]) {
      if (header < 0 || header + 92 > bytes.byteLength) continue;
      const entries = Number(view.getBigUint64(header + 72, true)) * sectorSize;
      const length = view.getUint32(header + 80, true) * view.getUint32(header + 84, true);
      if (view.getUint32(header, true) !== 0x2049_4645) continue;
      if (entries + length <= bytes.byteLength) {
        view.setUint32(header + 88, crc32(bytes.subarray(entries, entries + length)), true);
      }
      const size = view.getUint32(header + 12, true);
      if (size < 92 || header + size > bytes.byteLength) continue;
      view.setUint32(header + 16, 0, true);
      view.setUint32(header + 16, crc32(bytes.subarray(header, header + size)), true);
    }
  }
  return bytes;
}

let sparse;

/** A FAT32 file system: its sectors that are not empty, one after the other, and which is where. */
function fat32() {
  sparse ??= fat(32).then((bytes) => {
    const places = new Map();
    for (let sector = 0; sector < bytes.byteLength / SECTOR; sector += 1) {
      const isUsed = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR).some((byte) => byte !== 0);
      if (isUsed) places.set(sector, places.size);
    }
    const sectors = [...places.keys()].map((sector) => bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR));
    return { sectors: Buffer.concat(sectors), places };
  });
  return sparse;
}

/** The start of a file system, as far as there is anything in it; what is cut reads as the end of the disk. */
async function fat(type) {
  const sizeBytes = { 12: 200, 16: 4200, 32: 33_800 }[type] * 1024;
  const files = {
    "A.TXT": new Uint8Array(700).fill(65),
    "sub/a long name.text": new Uint8Array(3).fill(66),
    "sub/deeper/ünï": new Uint8Array(0),
  };
  const plan = await planFat({
    sizeBytes,
    type,
    volumeId: 1,
    time: new Date("2026-01-01"),
    files,
    clusterSizeBytes: 512,
  });
  const bytes = new Uint8Array(sizeBytes);
  let end = 0;
  const write = async (offset, piece) => {
    bytes.set(piece, offset);
    if (piece.some((byte) => byte !== 0)) end = Math.max(end, offset + piece.byteLength);
  };
  await writeFat(plan, { write });
  return bytes.slice(0, Math.ceil(end / SECTOR) * SECTOR);
}

/** @param bytesAt - What there is of a range; the rest is zeros. */
async function readFat(bytesAt) {
  const source = {
    sizeBytes: 64 * 1024 * 1024,
    async read(offset, length) {
      const piece = new Uint8Array(length);
      piece.set(bytesAt(offset, length));
      return piece;
    },
    async close() {},
  };
  const volume = await openFat(source);
  await volume.label();
  for await (const { path, entry } of volume.walk({ maxEntries: 1000, maxDirectoryBytes: 1024 * 1024 })) {
    if (!entry.isDirectory) await volume.readFile(path, { maxBytes: 1024 * 1024 });
  }
}

/** Clusters of 512 bytes: header, L1 table, L2 table, data, a deflated cluster, and one that says that it is zeros. */
function qcow2() {
  const bytes = new Uint8Array(6 * SECTOR);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x5146_49fb);
  view.setUint32(4, 3);
  view.setUint32(20, 9);
  view.setBigUint64(24, BigInt(70 * SECTOR));
  view.setUint32(36, 2);
  view.setBigUint64(40, BigInt(SECTOR));
  view.setUint32(100, 112);
  view.setBigUint64(SECTOR, BigInt(2 * SECTOR));
  const deflated = deflateRawSync(new Uint8Array(SECTOR).fill(7));
  bytes.set(deflated, 4 * SECTOR);
  const entries = [BigInt(3 * SECTOR), (1n << 62n) | BigInt(4 * SECTOR), BigInt(5 * SECTOR) | 1n];
  for (const [index, entry] of entries.entries()) view.setBigUint64(2 * SECTOR + index * 8, entry);
  bytes.fill(0x33, 3 * SECTOR, 4 * SECTOR);
  return bytes;
}
