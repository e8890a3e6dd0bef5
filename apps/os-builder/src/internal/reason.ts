import { inspect } from "node:util";

/** What a caught value says of itself; anything can be thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : inspect(error);
}

/** The first line of {@link reasonOf}, where there is room for one only. */
export function firstLine(error: unknown): string {
  return reasonOf(error).split("\n")[0] ?? "";
}
