import { type Transferable, Worker } from "node:worker_threads";

/** A worker thread that answers messages one by one. */
export interface JobThread<Answer> {
  /** messages it has; endless until it has started */
  waiting(): number;
  run(message: unknown, transfer: readonly Transferable[]): Promise<Answer>;
  end(): Promise<unknown>;
}

/** Starts a worker thread that posts one answer for each message, in order. */
export function startThread<Answer>(url: URL, workerData: unknown): JobThread<Answer> {
  const worker = new Worker(url, { workerData, execArgv: [] });
  const waiting: { resolve(answer: Answer): void; reject(error: unknown): void }[] = [];
  let isOnline = false;
  let failure: unknown;
  const fail = (error: unknown): void => {
    failure ??= error;
    for (const one of waiting.splice(0)) one.reject(failure);
  };
  worker.on("online", () => {
    isOnline = true;
  });
  worker.on("message", (answer: Answer) => waiting.shift()?.resolve(answer));
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`bug: a worker thread ended early with code ${code}`)));
  return {
    waiting: () => (isOnline ? waiting.length : Number.POSITIVE_INFINITY),
    run(message, transfer) {
      return new Promise((resolve, reject) => {
        if (failure !== undefined) return reject(failure);
        waiting.push({ resolve, reject });
        worker.postMessage(message, transfer);
      });
    },
    end: () => worker.terminate(),
  };
}

/** The thread with the shortest queue that has room in it. */
export function leastBusy<Answer>(threads: readonly JobThread<Answer>[], room: number): JobThread<Answer> | undefined {
  let best: JobThread<Answer> | undefined;
  for (const thread of threads) {
    if (thread.waiting() < (best?.waiting() ?? room)) best = thread;
  }
  return best;
}
