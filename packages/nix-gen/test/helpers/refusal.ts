import { NixGenError } from "../../src/index.ts";

/** The package error that a promise must end with. */
export async function asyncRefusal(promise: Promise<unknown>): Promise<NixGenError> {
  const error = await promise.then(
    () => new Error("expected an error, got none"),
    (cause: unknown) => cause,
  );
  if (!(error instanceof NixGenError)) throw error;
  return error;
}
