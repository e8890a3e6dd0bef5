// One decoder in a thread of its own: whoever started it sees when an input takes too long, and ends it.

import { getHeapStatistics } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { Coverage } from "./coverage.mjs";
import { mutate, Random } from "./mutate.mjs";

/** Inputs between two looks at the coverage, which costs some milliseconds. */
const BATCH = 200;
/** The first of so many inputs are tried with coverage counted, which is slow; the others live on what these found. */
const GUIDED = 4000;
const ROUND = 40_000;
/** Inputs kept because they reached something new. */
const MAX_CORPUS = 400;

const { file, name, runs, seed, input, startedAt, current } = workerData;
const { targets } = await import(file);
const target = targets.find((each) => each.name === name);
const { isExpected, hot = [] } = target;
const clock = new Float64Array(startedAt);
const shared = new Uint8Array(current);

await (input === undefined ? fuzz() : once(input));

async function once(bytes) {
  const outcome = await attempt(bytes);
  parentPort.postMessage({ kind: "done", runs: 1, outcomes: { [outcome]: 1 }, corpus: 1, places: 0 });
}

async function fuzz() {
  const random = new Random(seed);
  const corpus = await target.seeds();
  const coverage = new Coverage(target.code);
  const seen = new Set();
  const outcomes = {};
  let slowestMs = 0;
  let peakBytes = 0;
  for (let done = 0; done < runs; ) {
    const isGuided = done % ROUND < GUIDED;
    if (done % ROUND === 0) {
      await coverage.start();
      for (const bytes of corpus) await attempt(bytes);
      for (const place of await coverage.take()) seen.add(place);
    }
    const batch = [];
    for (; batch.length < BATCH && done < runs; done += 1) {
      const mutated = mutate(random, random.pick(corpus), random.pick(corpus), hot);
      // What a checksum protects is only reached by inputs whose checksum is right.
      const bytes = target.repair !== undefined && random.below(4) > 0 ? target.repair(mutated) : mutated;
      batch.push(bytes);
      const start = performance.now();
      const outcome = await attempt(bytes);
      slowestMs = Math.max(slowestMs, performance.now() - start);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    const { used_heap_size, external_memory } = getHeapStatistics();
    peakBytes = Math.max(peakBytes, used_heap_size + external_memory);
    if (isGuided) {
      const fresh = new Set((await coverage.take()).filter((place) => !seen.has(place)));
      for (const place of fresh) seen.add(place);
      if (fresh.size > 0) await keep(batch, fresh, coverage, corpus, random);
      if (done % ROUND >= GUIDED || done >= runs) await coverage.stop();
    }
    parentPort.postMessage({ kind: "progress", runs: done });
  }
  parentPort.postMessage({
    kind: "done",
    runs,
    outcomes,
    slowestMs,
    peakBytes,
    corpus: corpus.length,
    places: seen.size,
  });
}

/** Finds out which inputs of a batch reach places that no other did, and keeps these. */
async function keep(batch, fresh, coverage, corpus, random) {
  for (const bytes of batch) {
    if (fresh.size === 0) return;
    await attempt(bytes);
    const reached = (await coverage.take()).filter((place) => fresh.delete(place));
    if (reached.length === 0) continue;
    if (corpus.length < MAX_CORPUS) corpus.push(bytes);
    else corpus[random.below(MAX_CORPUS)] = bytes;
  }
}

/** Gives an input to the decoder. @returns `ok`, or the code of a typed error. */
async function attempt(bytes) {
  const length = Math.min(bytes.byteLength, shared.byteLength);
  shared.set(bytes.subarray(0, length));
  clock[1] = length;
  clock[0] = Date.now();
  try {
    await target.run(bytes);
    return "ok";
  } catch (error) {
    if (isExpected(error)) return error.code ?? error.name;
    const thrown = error instanceof Error ? error.stack : String(error);
    parentPort.postMessage({ kind: "failed", reason: `threw what is no error of this package: ${thrown}`, bytes });
    throw error;
  } finally {
    clock[0] = 0;
  }
}
