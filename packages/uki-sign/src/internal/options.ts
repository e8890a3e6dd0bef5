import * as z from "zod";
import { UkiSignError } from "../errors.ts";

/**
 * Validates the options of a public function.
 *
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` naming every problem; the zod error is its `cause`.
 */
export function parseOptions<T extends z.ZodType>(schema: T, options: unknown): z.output<T> {
  const result = schema.safeParse(options);
  if (result.success) return result.data;
  const field = result.error.issues[0]?.path.map(String).join(".");
  throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected valid options, got: ${z.prettifyError(result.error)}`, {
    field: field === "" ? undefined : field,
    cause: result.error,
  });
}

/** Schema of a byte array; the bytes are passed on, never copied. */
export const bytesSchema: z.ZodType<Uint8Array, Uint8Array> = z.custom<Uint8Array>(
  (value) => value instanceof Uint8Array,
  "expected a Uint8Array",
);
