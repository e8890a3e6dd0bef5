// A decoder and the thread that feeds it: ends it when an input takes too long or too much memory.
import { Worker } from "node:worker_threads";
import { instrumented } from "./instrument.mjs";

/** No input may take longer, in `milliseconds`. */
export const MAX_INPUT_MS = 1000;
/** A machine that has other work may stop a thread for a while; an input that hangs does so for longer. */
const HANG_MS = 10 * MAX_INPUT_MS;
/** Heap of a decoder's thread, in `MiB`. */
const MAX_HEAP_MIB = 512;
/** Largest input that is remembered while it is tried, in `bytes`. */
const MAX_INPUT_BYTES = 16 * 1024 * 1024;
const WATCH_INTERVAL_MS = 250;

/**
 * Feeds a decoder with changed inputs.
 *
 * @param target - As the modules in `targets/` export it, with the `file` it is in: `name`; `code`, the URL of the
 *   decoder's built code, a module or a folder of modules; `seeds()`, small valid inputs; `run(bytes)`; `isExpected(error)`; and maybe
 *   `repair(bytes)`, which makes checksums right, and `hot`, ranges `[start, end]` in which most changes are made.
 * @param options - `runs`, `seed`, `onProgress(runs)`, and `input` to try just that.
 * @returns What came of it; `failure` with a reason and the input's bytes when something did.
 */
export async function campaign(target, { runs, seed, input, onProgress }) {
  const startedAt = new SharedArrayBuffer(16);
  const current = new SharedArrayBuffer(MAX_INPUT_BYTES);
  const clock = new Float64Array(startedAt);
  const { file, name } = target;
  // One input has nothing to guide; the trace of what it throws says where the code is.
  const code = input === undefined ? await instrumented(target.code) : undefined;
  const data = { file, name, runs, seed, input, maxInputMs: MAX_INPUT_MS, instrumented: code, startedAt, current };
  const worker = new Worker(new URL("./worker.mjs", import.meta.url), {
    workerData: data,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  const latest = () => new Uint8Array(current).slice(0, clock[1]);
  const begun = performance.now();
  let result = {};
  let failure;
  const watch = setInterval(() => {
    // Read once: the thread goes on meanwhile.
    const since = clock[0];
    if (since === 0 || Date.now() - since < HANG_MS) return;
    failure ??= { reason: `took longer than ${HANG_MS / 1000} s`, bytes: latest() };
    worker.terminate();
  }, WATCH_INTERVAL_MS);
  await new Promise((resolve) => {
    worker.on("message", (message) => {
      if (message.kind === "progress") onProgress?.(message.runs);
      else if (message.kind === "failed") failure ??= message;
      else {
        result = message;
        // A decoder that listens somewhere would go on.
        worker.terminate();
      }
    });
    worker.on("error", (error) => {
      failure ??= {
        reason: error.code === "ERR_WORKER_OUT_OF_MEMORY" ? "took too much memory" : error.stack,
        bytes: latest(),
      };
    });
    worker.on("exit", resolve);
  });
  clearInterval(watch);
  if (result.kind !== "done") failure ??= { reason: "ended before its time", bytes: latest() };
  return { ...result, failure, seconds: (performance.now() - begun) / 1000 };
}
