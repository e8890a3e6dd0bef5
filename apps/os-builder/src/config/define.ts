import type { OsDescription } from "./schema.ts";

/**
 * A description of an operating system, for `os.config.ts`. It is returned as it is; it is checked when it is used, so
 * that every mistake in it can be reported at once, with its path.
 *
 * @param description - What the image is made of.
 * @example
 * export default defineOs({ id: "particle", version: "0.1.0", source: debian({ suite: "trixie" }), packages: ["less"] });
 */
export function defineOs(description: OsDescription): OsDescription {
  return description;
}

/**
 * Debian as the source of packages.
 *
 * @param options - `suite`, the release, and optionally `components`, `["main"]` when not given.
 */
export function debian(options: Omit<OsDescription["source"], "kind">): OsDescription["source"] {
  return { kind: "debian", ...options };
}
