import { QemuError } from "../src/index.ts";

/** The error that something has to fail with; anything else it does fails the test. */
export async function failure(promise: Promise<unknown>): Promise<QemuError> {
  const error = await promise.then(
    () => new Error("expected a failure"),
    (reason: unknown) => reason,
  );
  if (error instanceof QemuError) return error;
  throw error;
}
