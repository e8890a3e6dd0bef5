// The verity tree over random data: ours in this process, veritysetup in its own.
import { randomFillSync } from "node:crypto";
import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { buildVerityTree, fileSource } from "../packages/erofs-meta/dist/index.js";
import { interleave, row, run, timed } from "./measure.mjs";

const MIB = 1024 * 1024;
const SIZE_MIB = 1024;
const ROUNDS = 3;
const SALT = Buffer.alloc(32, 7);
const UUID = "00112233-4455-4677-8899-aabbccddeeff";

export async function verity({ temporary, signal, progress, rounds = ROUNDS }) {
  const directory = await temporary("verity");
  const data = join(directory, "data");
  progress({ step: "verity", item: `${SIZE_MIB} MiB of random data` });
  await writeRandom(data, SIZE_MIB);

  const rootHashes = new Set();
  const build = (workers) => async () => {
    progress({ step: "verity", item: `erofs-meta, ${workers} workers` });
    const output = join(directory, "ours");
    return timed(async () => {
      const source = await fileSource(data);
      try {
        const { rootHash } = await buildVerityTree(source, { output, salt: SALT, uuid: UUID, workers, signal });
        rootHashes.add(Buffer.from(rootHash).toString("hex"));
      } finally {
        await source.close();
      }
    });
  };
  const veritysetup = async () => {
    progress({ step: "verity", item: "veritysetup" });
    const options = [`--salt=${SALT.toString("hex")}`, `--uuid=${UUID}`];
    const { stdout, ms } = await run("veritysetup", ["format", ...options, data, join(directory, "theirs")], {
      signal,
    });
    rootHashes.add(/^Root hash:\s*([0-9a-f]+)/m.exec(stdout)?.[1] ?? stdout);
    return ms;
  };

  const cores = availableParallelism();
  const sides = { single: build(0), ...(cores > 1 ? { workers: build(cores - 1) } : {}), veritysetup };
  const values = await interleave(rounds, sides);
  if (rootHashes.size !== 1) throw new Error(`expected one root hash, got ${[...rootHashes].join(", ")}`);
  return [
    row(`verity tree over ${SIZE_MIB} MiB, one core`, {
      unit: "ms",
      ours: values.single,
      theirs: values.veritysetup,
      target: 1.5,
    }),
    // One core has nothing to share the work with.
    ...(values.workers === undefined
      ? []
      : [
          row(`verity tree over ${SIZE_MIB} MiB, ${cores} cores`, {
            unit: "ms",
            ours: values.workers,
            theirs: values.veritysetup,
            target: 1,
            below: true,
          }),
        ]),
  ];
}

async function writeRandom(path, sizeMiB) {
  const chunk = Buffer.alloc(MIB);
  const file = await open(path, "w");
  try {
    for (let index = 0; index < sizeMiB; index += 1) await file.write(randomFillSync(chunk));
    await file.sync();
  } finally {
    await file.close();
  }
}
