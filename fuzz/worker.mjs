// One decoder in a thread of its own: whoever started it sees when an input takes too long, and ends it.
import { existsSync, readFileSync } from "node:fs";
import { register } from "node:module";
import { setImmediate } from "node:timers/promises";
import { getHeapStatistics } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { coverage } from "./coverage.mjs";
import { mutate, Random } from "./mutate.mjs";

/** Inputs between two looks at the memory. */
const BATCH = 200;
/** Inputs kept because they reached something new. */
const MAX_CORPUS = 400;
/** So often an input that was slow is tried again: a machine that has other work stops threads for a while. */
const SLOW_TRIES = 3;
/** Linux: nanoseconds that this thread had a processor. */
const THREAD_TIME = "/proc/thread-self/schedstat";

const { file, name, runs, seed, input, maxInputMs, instrumented, startedAt, current } = workerData;
if (instrumented !== undefined) register("./load.mjs", import.meta.url, { data: instrumented });
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
  const outcomes = {};
  // Most inputs end in an error, and to tell where it was made takes longer than to make it; trying one input tells.
  Error.stackTraceLimit = 0;
  let slowestMs = 0;
  let peakBytes = 0;
  for (const bytes of corpus) await attempt(bytes);
  for (let done = 0; done < runs; ) {
    for (const end = Math.min(done + BATCH, runs); done < end; done += 1) {
      const mutated = mutate(random, random.pick(corpus), random.pick(corpus), hot);
      // What a checksum protects is only reached by inputs whose checksum is right.
      const bytes = target.repair !== undefined && random.below(4) > 0 ? target.repair(mutated) : mutated;
      const { reached } = coverage;
      const { outcome, ms } = await timed(bytes);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      slowestMs = Math.max(slowestMs, ms);
      if (coverage.reached === reached) continue;
      if (corpus.length < MAX_CORPUS) corpus.push(bytes);
      else corpus[random.below(MAX_CORPUS)] = bytes;
    }
    const { used_heap_size, external_memory } = getHeapStatistics();
    peakBytes = Math.max(peakBytes, used_heap_size + external_memory);
    parentPort.postMessage({ kind: "progress", runs: done });
    // What a decoder left to be done later is done.
    await setImmediate();
  }
  const { reached: places } = coverage;
  const found = { corpus: corpus.length, places, outcomes };
  parentPort.postMessage({ kind: "done", runs, ...found, slowestMs, peakBytes, cpuSeconds: cpuSeconds() });
}

/** @returns `undefined` where the system does not tell. */
function cpuSeconds() {
  return existsSync(THREAD_TIME) ? Number.parseInt(readFileSync(THREAD_TIME, "latin1"), 10) / 1e9 : undefined;
}

/** Gives an input to the decoder; of one that was slow, the fastest of some tries counts. */
async function timed(bytes) {
  let ms = Number.POSITIVE_INFINITY;
  let outcome;
  for (let tries = 0; tries < SLOW_TRIES && ms > maxInputMs; tries += 1) {
    const start = performance.now();
    outcome = await attempt(bytes);
    ms = Math.min(ms, performance.now() - start);
  }
  return { outcome, ms };
}

/** Gives an input to the decoder. @returns What the target calls what came of it, else `ok`, or the code of a typed error. */
async function attempt(bytes) {
  const length = Math.min(bytes.byteLength, shared.byteLength);
  shared.set(bytes.subarray(0, length));
  clock[1] = length;
  clock[0] = Date.now();
  try {
    const outcome = await target.run(bytes);
    return typeof outcome === "string" ? outcome : "ok";
  } catch (error) {
    if (isExpected(error)) return error.code ?? error.name;
    const thrown = error instanceof Error ? error.stack : String(error);
    parentPort.postMessage({ kind: "failed", reason: `threw what is no error of this package: ${thrown}`, bytes });
    throw error;
  } finally {
    clock[0] = 0;
  }
}
