import { parentPort, workerData } from "node:worker_threads";
import { ScanError, scanBatch } from "./scan-directory.js";

/** @type {import("./scan-directory.js").ScanJob} */
const job = workerData;

parentPort?.on("message", (/** @type {ArrayBuffer} */ content) => {
  try {
    const batch = scanBatch(job, content);
    parentPort?.postMessage(batch, [batch.numbers.buffer, content]);
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    // Errors lose what is special about them on their way from thread to thread.
    const { kind, path, message } = error;
    const cause = error.cause instanceof Error ? { ...error.cause, message: error.cause.message } : error.cause;
    parentPort?.postMessage({ failure: { kind, path, message, cause } });
  }
});
