import { QemuError } from "../errors.ts";

/** Longest delay of a Node timer, 24 days; a longer limit is none. */
const MAX_TIMER_MS = 0x7fff_ffff;

/** How long to wait, and what calls the wait off. */
export interface WaitOptions {
  /** limit in `milliseconds` */
  readonly timeoutMs?: number | undefined;
  /** calls the wait off */
  readonly signal?: AbortSignal | undefined;
}

/** One promise that ends by its owner, a timer or an abort signal, whichever is first, and leaves nothing behind. */
export interface Wait<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Starts a wait.
 *
 * @param options - Limit and signal; without a limit it lasts until it is settled.
 * @param onTimeout - Makes the error for a limit that has passed.
 * @param onEnd - Runs once, however the wait ends.
 */
export function startWait<T>(options: WaitOptions, onTimeout: () => Error, onEnd: () => void = () => {}): Wait<T> {
  const { timeoutMs, signal } = options;
  let settle!: { resolve: (value: T) => void; reject: (error: Error) => void };
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  // A wait is often started before something else is awaited; its failure is reported when it is awaited itself.
  promise.catch(() => {});
  let open = true;
  const end = (): boolean => {
    if (!open) return false;
    open = false;
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    onEnd();
    return true;
  };
  const reject = (error: Error): void => {
    if (end()) settle.reject(error);
  };
  const abort = (): void => reject(abortError(signal));
  const timer =
    timeoutMs === undefined || timeoutMs > MAX_TIMER_MS ? undefined : setTimeout(() => reject(onTimeout()), timeoutMs);
  signal?.addEventListener("abort", abort, { once: true });
  // Later, so that the caller has the wait in hand when it ends.
  if (signal?.aborted === true) queueMicrotask(abort);
  return {
    promise,
    reject,
    resolve(value) {
      if (end()) settle.resolve(value);
    },
  };
}

/** Whether `promise` settles within `timeoutMs` and before `signal`; never rejects. */
export async function endsWithin(promise: Promise<unknown>, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  const wait = startWait<void>({ timeoutMs, signal }, () => new Error("late"));
  promise.then(
    () => wait.resolve(),
    () => wait.resolve(),
  );
  return wait.promise.then(
    () => true,
    () => false,
  );
}

/** The error of a wait that was called off. */
function abortError(signal: AbortSignal | undefined): QemuError {
  return new QemuError("QEMU_ABORTED", "called off by its abort signal", { cause: signal?.reason });
}

/** Throws when `signal` has already been given. */
export function assertNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}
