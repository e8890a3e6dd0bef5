import { parentPort, workerData } from "node:worker_threads";
import { batchCompressor } from "./compress-segment.js";

/**
 * @typedef {object} Message
 * @property {Uint8Array<ArrayBuffer>} input
 * @property {number} filled bytes of the input
 * @property {readonly import("./compress-segment.js").Segment[]} segments
 * @property {Uint8Array<ArrayBuffer>} output
 */

/** @type {import("./compress-segment.js").CompressJob} */
const job = workerData;
const compress = batchCompressor(job);

parentPort?.on("message", (/** @type {Message} */ { input, filled, segments, output }) => {
  const compressed = compress(input.subarray(0, filled), segments, output);
  parentPort?.postMessage({ segments: compressed, input, output }, [input.buffer, output.buffer]);
});
