import { parentPort, workerData } from "node:worker_threads";
import { hashBlocks } from "./hash-blocks.js";

/** @type {import("./hash-blocks.js").HashJob} */
const job = workerData;

parentPort?.on("message", (/** @type {Uint8Array<ArrayBuffer>} */ buffer) => {
  const digests = hashBlocks(job, buffer);
  // The buffer goes back with the answer, so that a run allocates a handful of them and no more.
  parentPort?.postMessage({ digests, buffer }, [digests.buffer, buffer.buffer]);
});
