import { parentPort, workerData } from "node:worker_threads";
import { batchCompressor } from "./compress-segment.js";

/** @type {import("./compress-segment.js").CompressJob} */
const job = workerData;
const compress = batchCompressor(job);

parentPort?.on(
  "message",
  (
    /** @type {{ input: Uint8Array<ArrayBuffer>, segments: readonly import("./compress-segment.js").Segment[] }} */ message,
  ) => {
    const { input, segments } = message;
    const result = compress(input, segments);
    // The buffer goes back with the answer and is used again.
    parentPort?.postMessage({ ...result, input }, [result.data.buffer, input.buffer]);
  },
);
