import { UkiSignError } from "../../src/index.ts";

/** The package error that `action` throws; anything else it throws or does fails the test. */
export function errorOf(action: () => unknown): UkiSignError {
  try {
    action();
  } catch (error) {
    if (error instanceof UkiSignError) return error;
    throw error;
  }
  throw new Error("expected an error, got none");
}

/** The package error with which `promise` rejects. */
export async function rejectionOf(promise: Promise<unknown>): Promise<UkiSignError> {
  const outcome = await promise.then(
    () => new Error("expected an error, got none"),
    (error: unknown) => error,
  );
  if (outcome instanceof UkiSignError) return outcome;
  throw outcome;
}

/**
 * Feeds every truncation of `valid` and every byte of it flipped to `decode`: only the package's error may escape.
 * `step` thins the flips of longer inputs.
 */
export function torture(valid: Uint8Array, decode: (bytes: Uint8Array) => unknown, step = 1): void {
  const attempt = (bytes: Uint8Array, what: string): void => {
    try {
      decode(bytes);
    } catch (error) {
      if (!(error instanceof UkiSignError)) throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
  };
  for (let length = 0; length < valid.length; length += step) attempt(valid.slice(0, length), `cut to ${length}`);
  for (let at = 0; at < valid.length; at += step) {
    for (const mask of [0xff, 0x01, 0x80]) {
      const flipped = valid.slice();
      flipped[at] = (flipped[at] ?? 0) ^ mask;
      attempt(flipped, `byte ${at} xor ${mask}`);
    }
  }
}
