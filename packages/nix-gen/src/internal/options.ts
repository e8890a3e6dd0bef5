import { z } from "zod";
import { NixGenError } from "../errors.ts";
import { isNixExpr, type NixExpr } from "./node.ts";

/** An expression in a schema. */
export const zExpr: z.ZodType<NixExpr, NixExpr> = z.custom<NixExpr>(isNixExpr, "expected an expression");

/** Text or an expression that evaluates to text, in a schema. */
export const zText: z.ZodType<string | NixExpr, string | NixExpr> = z.union([z.string(), zExpr], {
  error: "expected a string or an expression",
});

/** Values by name, in a schema. zod leaves `__proto__` out without a word; here it is refused. */
export function zRecord<T extends z.ZodType>(
  value: T,
  key: z.ZodType<string, string> = z.string(),
): z.ZodType<Record<string, z.output<T>>, Record<string, z.input<T>>> {
  const isSafe = (record: unknown): boolean =>
    typeof record !== "object" || record === null || !Object.hasOwn(record, "__proto__");
  return z
    .custom<Record<string, z.input<T>>>(isSafe, "expected keys other than __proto__")
    .pipe(z.record(key, value) as unknown as z.ZodType<Record<string, z.output<T>>, Record<string, z.input<T>>>);
}

/** `value` as the schema's output; all mistakes in one error. */
export function checkOptions<T extends z.ZodType>(schema: T, value: unknown, what: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const first = result.error.issues[0];
  throw new NixGenError(
    "NIX_GEN_BAD_OPTIONS",
    `expected the options of ${what}, got:\n${z.prettifyError(result.error)}`,
    {
      path: first?.path.join("."),
      cause: result.error,
    },
  );
}
